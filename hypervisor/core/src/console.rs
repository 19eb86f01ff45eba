//! The console: one UART shared by the hypervisor and dom0, and the log that keeps what was said.
//!
//! ```text
//!   hypervisor's lines ---+--> log ring --> key 'l', a debugger (`VAMBRACE-LOG` marks it in memory)
//!   dom0's bytes ---------+--> UART
//!                                    UART input --> three times Ctrl-A switches --> keys, or dom0's input buffer
//! ```

use alloc::collections::VecDeque;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use spin::Mutex;
use vambrace_abi::virq::VIRQ_CONSOLE;

use crate::console_ring::{ConsoleRing, GuestLine};
use crate::domain::DOM0;
use crate::hypervisor::Hypervisor;
use crate::machine::{self, Machine};

/// Bytes of log kept.
const LOG_BYTES: usize = 32 << 10;
/// Bytes of input kept for dom0.
const INPUT_BYTES: usize = 4096;
/// How many times in a row the switch character has to come.
const SWITCH_COUNT: u8 = 3;
/// Most warnings about guests that are printed in a second; a guest must not fill the console.
const WARNINGS_A_SECOND: u32 = 10;

/// What a byte from the UART was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// For dom0, and put into its buffer.
    Guest(u8),
    /// A key for the hypervisor.
    Key(u8),
    /// The input now goes to the hypervisor (true) or to dom0.
    Switched(bool),
    /// For nobody: dom0's buffer is full, or it is a switch character on its way to the hypervisor.
    Lost,
}

/// The console's state.
pub struct Console {
    inner: Mutex<Inner>,
    /// Warnings in the second [`Console::warning_second`].
    warnings: AtomicU32,
    warning_second: AtomicU64,
}

struct Inner {
    log: ConsoleRing,
    /// The line that another domain than dom0 has begun.
    line: GuestLine,
    input: VecDeque<u8>,
    to_hypervisor: bool,
    switch: u8,
    switches: u8,
    /// The last byte on the UART ended a line.
    at_line_start: bool,
}

impl Default for Console {
    fn default() -> Self {
        Self::new(Some(b'a'), false)
    }
}

impl Console {
    /// A console. `switch` is the letter of the switch character (Ctrl with it), `None` for no switching; the input
    /// goes to the hypervisor from the start if `to_hypervisor`.
    pub fn new(switch: Option<u8>, to_hypervisor: bool) -> Self {
        let inner = Inner {
            log: ConsoleRing::new(LOG_BYTES),
            line: GuestLine::default(),
            input: VecDeque::new(),
            to_hypervisor,
            switch: switch.map_or(0, |letter| letter & 0x1f),
            switches: 0,
            at_line_start: true,
        };
        Self { inner: Mutex::new(inner), warnings: AtomicU32::new(0), warning_second: AtomicU64::new(0) }
    }

    /// Sets the switch character and where input goes first, as the command line says.
    pub fn configure(&self, switch: Option<u8>, to_hypervisor: bool) {
        let mut inner = self.inner.lock();
        inner.switch = switch.map_or(0, |letter| letter & 0x1f);
        inner.to_hypervisor = to_hypervisor;
    }

    /// Writes a line of the hypervisor's to log and UART, on a line of its own.
    pub fn log(&self, uart: &impl machine::Console, line: fmt::Arguments<'_>) {
        let mut inner = self.inner.lock();
        if !inner.at_line_start {
            uart.put(b"\n");
        }
        let mut sink = Sink { inner: &mut inner, uart };
        // The sink cannot fail.
        let _ = sink.write_str("(VMB) ");
        let _ = sink.write_fmt(line);
        let _ = sink.write_str("\n");
        inner.at_line_start = true;
    }

    /// As [`Console::log`], for what guests do wrong: so many lines a second, and how many were left out. `second` is
    /// the time in whole seconds.
    pub fn warn(&self, uart: &impl machine::Console, second: u64, line: fmt::Arguments<'_>) {
        if self.warning_second.swap(second, Ordering::Relaxed) != second {
            let before = self.warnings.swap(0, Ordering::Relaxed);
            if let Some(left_out @ 1..) = before.checked_sub(WARNINGS_A_SECOND) {
                self.log(uart, format_args!("{left_out} warnings about guests were left out"));
            }
        }
        if self.warnings.fetch_add(1, Ordering::Relaxed) < WARNINGS_A_SECOND {
            self.log(uart, line);
        }
    }

    /// Puts a guest's output on the UART: dom0's as it comes, another's line by line, and that into the log too.
    pub fn guest_output(&self, uart: &impl machine::Console, domain: u16, bytes: &[u8]) {
        let mut inner = self.inner.lock();
        if domain != DOM0 {
            let mut line = core::mem::take(&mut inner.line);
            line.push(domain, bytes, |text| {
                // The sink cannot fail.
                let _ = Sink { inner: &mut inner, uart }.write_fmt(text);
            });
            inner.line = line;
            return;
        }
        uart.put(bytes);
        if let Some(last) = bytes.last() {
            inner.at_line_start = *last == b'\n';
        }
    }

    /// Takes input for dom0 out of the buffer; answers how many bytes there were.
    pub fn take_input(&self, into: &mut [u8]) -> usize {
        let mut inner = self.inner.lock();
        let mut taken = 0;
        for slot in into {
            let Some(byte) = inner.input.pop_front() else { break };
            *slot = byte;
            taken += 1;
        }
        taken
    }

    /// Takes a byte from the UART.
    pub fn receive(&self, byte: u8) -> Input {
        let mut inner = self.inner.lock();
        if inner.switch != 0 && byte == inner.switch {
            inner.switches += 1;
            if inner.switches == SWITCH_COUNT {
                inner.switches = 0;
                inner.to_hypervisor = !inner.to_hypervisor;
                return Input::Switched(inner.to_hypervisor);
            }
            if inner.to_hypervisor {
                return Input::Lost;
            }
        } else {
            inner.switches = 0;
        }
        if inner.to_hypervisor {
            return Input::Key(byte);
        }
        if inner.input.len() >= INPUT_BYTES {
            return Input::Lost;
        }
        inner.input.push_back(byte);
        Input::Guest(byte)
    }

    /// Writes the log to the UART again.
    pub fn replay(&self, uart: &impl machine::Console) {
        let inner = self.inner.lock();
        let mut chunk = [0; 256];
        let mut from = None;
        loop {
            let (length, next) = inner.log.read(from, &mut chunk);
            if length == 0 {
                return;
            }
            uart.put(chunk.get(..length).unwrap_or_default());
            from = Some(next);
        }
    }
}

struct Sink<'a, U> {
    inner: &'a mut Inner,
    uart: &'a U,
}

impl<U: machine::Console> Write for Sink<'_, U> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.inner.log.write(text.as_bytes());
        self.uart.put(text.as_bytes());
        Ok(())
    }
}

impl<M: Machine> Hypervisor<M> {
    /// Takes what the UART has received.
    pub(crate) fn take_console_input(&self) {
        let mut for_guest = false;
        while let Some(byte) = self.machine.get() {
            match self.console.receive(byte) {
                Input::Guest(byte) => {
                    for_guest = true;
                    self.feed_uart(byte);
                }
                Input::Key(key) => self.key(key),
                Input::Switched(true) => {
                    self.log(format_args!(
                        "Input to the hypervisor (three times Ctrl-A to switch back, h for help)"
                    ));
                }
                Input::Switched(false) => {
                    self.log(format_args!("Input to dom0 (three times Ctrl-A to switch)"))
                }
                Input::Lost => {}
            }
        }
        if for_guest && let Some(dom0) = self.domain(DOM0) {
            self.send_virq(&dom0, VIRQ_CONSOLE);
        }
    }

    /// Gives dom0's virtual UART the byte too, if its driver there asked for input.
    fn feed_uart(&self, byte: u8) {
        if let Some(dom0) = self.domain(DOM0)
            && let Some(uart) = &dom0.uart
        {
            uart.lock().receive_if_wanted(byte);
            self.update_uart_line(&dom0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeMachine;

    #[test]
    fn three_switch_characters_switch() {
        let console = Console::default();
        assert_eq!(console.receive(1), Input::Guest(1));
        assert_eq!(console.receive(b'x'), Input::Guest(b'x'));
        assert_eq!(console.receive(1), Input::Guest(1));
        assert_eq!(console.receive(1), Input::Guest(1));
        assert_eq!(console.receive(1), Input::Switched(true));
        assert_eq!(console.receive(b'q'), Input::Key(b'q'));
        for _ in 0..2 {
            console.receive(1);
        }
        assert_eq!(console.receive(1), Input::Switched(false));
        let mut buffer = [0; 8];
        assert_eq!(console.take_input(&mut buffer), 4);
        assert_eq!(&buffer[..4], [1, b'x', 1, 1]);
    }

    #[test]
    fn a_full_buffer_loses_input_and_nothing_else() {
        let console = Console::default();
        for _ in 0..INPUT_BYTES {
            assert_eq!(console.receive(b'y'), Input::Guest(b'y'));
        }
        assert_eq!(console.receive(b'z'), Input::Lost);
    }

    #[test]
    fn the_log_keeps_the_end() {
        let machine = FakeMachine::with_ram(0x4000_0000, 0x10_0000);
        let console = Console::default();
        for n in 0..LOG_BYTES {
            console.log(&machine, format_args!("line {n}"));
        }
        machine.take_console();
        console.replay(&machine);
        let text = alloc::string::String::from_utf8(machine.take_console()).unwrap();
        assert!(text.ends_with(&alloc::format!("line {}\n", LOG_BYTES - 1)));
        assert_eq!(text.len(), LOG_BYTES);
    }
}
