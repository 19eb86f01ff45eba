use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::*;
use crate::fake::FakeMachine;

fn machine() -> FakeMachine {
    FakeMachine::with_ram(0x4000_0000, 0x10_0000)
}

fn said(machine: &FakeMachine) -> String {
    String::from_utf8(machine.take_console()).unwrap()
}

/// What became of typed bytes.
fn typed(console: &Console, bytes: &[u8]) -> Vec<Input> {
    let mut inputs = Vec::new();
    bytes.iter().for_each(|byte| console.receive(*byte, |input| inputs.push(input)));
    inputs
}

const SWITCH: &[u8] = &[1, 1, 1];

#[test]
fn three_switch_characters_switch() {
    let console = Console::default();
    assert_eq!(typed(&console, b"\x01"), []);
    assert_eq!(typed(&console, b"x"), [Input::Guest(0, 1), Input::Guest(0, b'x')]);
    assert_eq!(typed(&console, b"\x01\x01y"), [1, 1, b'y'].map(|byte| Input::Guest(0, byte)));
    assert_eq!(typed(&console, SWITCH), [Input::Switched(Focus::Hypervisor)]);
    assert_eq!(typed(&console, b"q\x01r"), [Input::Key(b'q'), Input::Key(b'r')]);
    assert_eq!(typed(&console, SWITCH), [Input::Switched(Focus::Domain(0))]);
    let fixed = Console::new(None, false);
    assert_eq!(typed(&fixed, SWITCH), [Input::Guest(0, 1); 3]);
}

#[test]
fn input_goes_round_the_domains_that_hold_the_console() {
    let (console, machine) = (Console::default(), machine());
    console.add_holder(3);
    console.add_holder(1);
    for focus in [Focus::Domain(1), Focus::Domain(3), Focus::Hypervisor, Focus::Domain(0), Focus::Domain(1)] {
        assert_eq!(typed(&console, SWITCH), [Input::Switched(focus)]);
    }
    assert_eq!(typed(&console, b"a"), [Input::Guest(1, b'a')]);
    console.forget(&machine, 1);
    assert_eq!(typed(&console, b"a"), [Input::Guest(0, b'a')], "it ended: back to dom0");
    assert_eq!(typed(&console, SWITCH), [Input::Switched(Focus::Domain(3))]);
    assert!(console.is_holder(3) && !console.is_holder(1));
}

#[test]
fn a_full_buffer_loses_input_and_nothing_else() {
    let console = Console::default();
    for _ in 0..INPUT_BYTES + 10 {
        console.put_input(0, b'y');
    }
    console.put_input(5, b'z');
    let mut buffer = [0; INPUT_BYTES + 10];
    assert_eq!(console.take_input(0, &mut buffer), INPUT_BYTES);
    assert_eq!(console.take_input(0, &mut buffer), 0);
    assert_eq!(console.take_input(5, &mut buffer), 0, "it does not have the console");
}

#[test]
fn who_has_the_input_is_heard_at_once() {
    let (console, machine) = (Console::default(), machine());
    console.add_holder(1);
    console.guest_output(&machine, 0, 0, b"dom0 # ");
    console.guest_output(&machine, 1, 0, b"boot\nlogin: ");
    assert_eq!(said(&machine), "dom0 # \n(d1) boot\n");
    assert_eq!(typed(&console, SWITCH), [Input::Switched(Focus::Domain(1))]);
    console.show_unfinished(&machine);
    assert_eq!(said(&machine), "login: ");
    console.guest_output(&machine, 1, 0, b"r");
    console.guest_output(&machine, 1, 0, b"oot\n");
    assert_eq!(said(&machine), "root\n");
    console.guest_output(&machine, 1, 0, b"$ ");
    console.guest_output(&machine, 0, 0, b"dom0 speaks\n");
    assert_eq!(said(&machine), "$ \ndom0 speaks\n");
    console.log(&machine, format_args!("end"));
    let mut log = [0; 256];
    let (length, _) = console.read_log(None, &mut log);
    assert_eq!(core::str::from_utf8(&log[..length]).unwrap(), "(d1) boot\n(d1) login: root\n(VMB) end\n");
}

#[test]
fn a_guest_cannot_flood_the_console() {
    let (console, machine) = (Console::default(), machine());
    console.add_holder(2);
    for n in 0..1000 {
        console.guest_output(&machine, 1, 7, format!("{n}\n").as_bytes());
        console.guest_output(&machine, 2, 7, format!("{n}\n").as_bytes());
    }
    let text = said(&machine);
    let mut own = text.lines().filter(|line| line.starts_with("(d1) "));
    let (mut lines, mut bytes) = (0, 0);
    for (n, line) in own.by_ref().enumerate() {
        assert_eq!(line, format!("(d1) {n}"));
        (lines, bytes) = (n + 1, bytes + line.len() + 1);
    }
    let limit = BYTES_A_SECOND as usize;
    assert!((limit..limit + 10).contains(&bytes), "{bytes} bytes");
    assert_eq!(text.matches("(d2) ").count(), 1000, "the console is its own");
    console.guest_output(&machine, 3, 7, b"one more\n");
    assert_eq!(said(&machine), "", "two guests say no more than one");
    console.guest_output(&machine, 1, 8, b"again\n");
    let expected = format!("(VMB) d1: {} lines were left out\n(d1) again\n", 1000 - lines);
    assert_eq!(said(&machine), expected);
    console.guest_output(&machine, 1, 8, b"last words");
    console.forget(&machine, 1);
    assert_eq!(said(&machine), "(d1) last words\n");
}

/// Long lines are no way around that, nor the lines that say how much was left out.
#[test]
fn a_guest_cannot_hold_the_console() {
    let (console, machine) = (Console::default(), machine());
    let long = ["x".repeat(150), String::from("\n")].concat();
    for _ in 0..1000 {
        console.guest_output(&machine, 1, 7, long.as_bytes());
    }
    let first = said(&machine).len();
    assert!(first < BYTES_A_SECOND as usize + 200, "{first} bytes");
    for domain in 1..100 {
        console.guest_output(&machine, domain, 8, &long.as_bytes().repeat(100));
    }
    let second = said(&machine).len();
    assert!(second < BYTES_A_SECOND as usize + 200, "{second} bytes");
}

#[test]
fn the_log_is_read_cleared_and_announced() {
    let (console, machine) = (Console::default(), machine());
    assert!(!console.take_log_written());
    console.log(&machine, format_args!("one"));
    assert!(console.take_log_written() && !console.take_log_written());
    let mut buffer = [0; 64];
    let (length, next) = console.read_log(None, &mut buffer);
    assert_eq!(buffer[..length], *b"(VMB) one\n");
    console.clear_log(next);
    console.log(&machine, format_args!("two"));
    assert_eq!(console.read_log(None, &mut buffer).0, 10);
    assert_eq!(console.read_log(Some(next), &mut buffer), (10, next + 10));
    console.guest_output(&machine, 0, 0, b"dom0's is not in the log\n");
    assert_eq!(console.read_log(Some(next + 10), &mut buffer), (0, next + 10));
}

#[test]
fn others_get_a_line_in_while_the_log_is_shown() {
    let (console, machine) = (Console::default(), machine());
    for n in 0..100 {
        console.log(&machine, format_args!("line {n}"));
    }
    machine.take_console();
    let (mut from, mut lines, mut chunks) = (None, String::new(), 0);
    while let Some((length, next)) = console.replay_lines(&machine, from, LOG_BYTES) {
        let text = said(&machine);
        // What dom0 has begun is left on a line of its own.
        let text = text.strip_prefix('\n').unwrap_or(&text);
        assert!(text.len() == length && length <= REPLAY_BYTES && text.ends_with('\n'), "{text}");
        lines.push_str(text);
        console.guest_output(&machine, 0, 0, b"dom0's line, and half a ");
        assert_eq!(said(&machine), "dom0's line, and half a ");
        (from, chunks) = (Some(next), chunks + 1);
    }
    let expected: String = (0..100).map(|n| format!("(VMB) line {n}\n")).collect();
    assert_eq!(lines, expected);
    assert!(chunks > 1);
}

#[test]
fn the_log_keeps_the_end() {
    let (console, machine) = (Console::default(), machine());
    for n in 0..LOG_BYTES {
        console.log(&machine, format_args!("line {n}"));
    }
    machine.take_console();
    console.replay(&machine);
    let text = said(&machine);
    assert!(text.ends_with(&format!("line {}\n", LOG_BYTES - 1)));
    assert_eq!(text.len(), LOG_BYTES);
}
