//! A console's bytes as lines of text, without escape sequences, and the search for words in them.

use std::collections::BTreeMap;

/// Longest line that is kept: a guest that never ends one must not fill our memory.
const MAX_LINE: usize = 1 << 16;
/// Most lines that are kept, and most bytes in them; the oldest half goes when there are more.
const MAX_LINES: usize = 1 << 18;
const MAX_BYTES: usize = 32 << 20;

/// Who says a line of the console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speaker {
    /// Firmware, hypervisor or dom0.
    #[default]
    Machine,
    /// The domain of this number, whose lines the hypervisor marks: `(d1) `, or Xen's `(XEN) DOM1: `.
    Guest(u16),
}

impl Speaker {
    /// Who says `line`.
    pub(crate) fn of(line: &str) -> Self {
        let number = |start: &str, end: &str| line.strip_prefix(start)?.split_once(end)?.0.parse().ok();
        number("(d", ") ").or_else(|| number("(XEN) DOM", ": ")).map_or(Self::Machine, Self::Guest)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// After ESC.
    Begun,
    /// In `ESC [ ...`, up to its letter.
    Control,
    /// In `ESC ] ...`, up to BEL or `ESC \`.
    System,
}

/// What the console has said, and how far it has been searched.
#[derive(Debug, Default)]
pub(super) struct Console {
    lines: Vec<String>,
    /// Bytes of these.
    bytes: usize,
    /// The line that has not ended: a prompt, perhaps.
    open: Vec<u8>,
    escape: Escape,
    /// The first line of each speaker's not yet searched for stages, and the first byte of it.
    from: BTreeMap<Speaker, (usize, usize)>,
    /// The first line not yet searched for failures.
    failures_from: usize,
}

impl Console {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.escape = match (self.escape, byte) {
                (Escape::None, 0x1b) | (Escape::System, 0x1b) => Escape::Begun,
                (Escape::None, b'\n') => {
                    self.end_line();
                    Escape::None
                }
                (Escape::None, byte) => {
                    if byte == b'\t' || !byte.is_ascii_control() {
                        self.open.push(byte);
                        if self.open.len() >= MAX_LINE {
                            self.end_line();
                        }
                    }
                    Escape::None
                }
                (Escape::Begun, b'[') => Escape::Control,
                (Escape::Begun, b']') => Escape::System,
                (Escape::Begun, _) => Escape::None,
                (Escape::Control, 0x40..=0x7e) => Escape::None,
                (Escape::Control, 0x20..=0x3f) => Escape::Control,
                // No escape sequence has this inside: the line is damaged, not endless.
                (Escape::Control, _) | (Escape::System, b'\n' | 0x07) => Escape::None,
                (Escape::System, _) => Escape::System,
            };
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.open);
        let line = String::from_utf8_lossy(&line).into_owned();
        self.bytes += line.len();
        self.lines.push(line);
        if self.lines.len() > MAX_LINES || self.bytes > MAX_BYTES {
            let gone = self.lines.len() / 2;
            self.lines.drain(..gone);
            self.bytes = self.lines.iter().map(String::len).sum();
            for from in self.from.values_mut() {
                *from = if from.0 < gone { (0, 0) } else { (from.0 - gone, from.1) };
            }
            self.failures_from = self.failures_from.saturating_sub(gone);
        }
    }

    /// Looks for the first of `words` behind what was taken of the speaker's before; if it is there, everything up to its
    /// end is taken.
    pub(super) fn take(&mut self, speaker: Speaker, words: &[String]) -> bool {
        self.take_before(speaker, words, usize::MAX)
    }

    /// The same, in lines before the one of this number alone.
    pub(super) fn take_before(&mut self, speaker: Speaker, words: &[String], before: usize) -> bool {
        let open = String::from_utf8_lossy(&self.open).into_owned();
        let from = self.from.entry(speaker).or_default();
        while from.0 <= self.lines.len() && from.0 < before {
            let line = self.lines.get(from.0).unwrap_or(&open);
            let rest = line.get(from.1..).filter(|_| Speaker::of(line) == speaker).unwrap_or_default();
            let found =
                words.iter().filter_map(|word| rest.find(word.as_str()).map(|at| at + word.len())).min();
            if let Some(end) = found {
                from.1 += end;
                return true;
            }
            if from.0 == self.lines.len() {
                return false;
            }
            *from = (from.0 + 1, 0);
        }
        false
    }

    /// The first line not yet looked at, but for guests', that has one of `words`, with its number, and whether it has ended;
    /// the open line is looked at each time.
    pub(super) fn find(&mut self, words: &[String]) -> Option<(usize, String, bool)> {
        let has = |line: &str| {
            Speaker::of(line) == Speaker::Machine && words.iter().any(|word| line.contains(word.as_str()))
        };
        let new = self.lines.iter().enumerate().skip(self.failures_from);
        let found = new.map(|(number, line)| (number, line.clone())).find(|(_, line)| has(line));
        self.failures_from = self.lines.len();
        let open = || (self.lines.len(), String::from_utf8_lossy(&self.open).into_owned(), false);
        let found = found.map(|(number, line)| (number, line, true));
        found.or_else(|| Some(open()).filter(|(_, line, _)| has(line)))
    }

    pub(super) fn into_lines(mut self) -> Vec<String> {
        if !self.open.is_empty() {
            self.end_line();
        }
        self.lines
    }
}

/// The lines of a console's log, without escape sequences and what else a terminal would obey.
pub(crate) fn plain_lines(log: &[u8]) -> Vec<String> {
    let mut console = Console::default();
    console.push(log);
    console.into_lines()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn escapes_go_however_they_are_cut() {
        let text =
            b"\x1b[2J\x1b[1;1Hplain\x1b]0;title\x07 text\x1b]0;t\x1b\\!\r\n\x08\x1b7\x1b[31mred\x1b[0m\xff\n";
        for cut in 0..text.len() {
            let mut console = Console::default();
            console.push(&text[..cut]);
            console.push(&text[cut..]);
            assert_eq!(console.into_lines(), ["plain text!", "red\u{fffd}"], "{cut}");
        }
    }

    #[test]
    fn words_are_taken_in_order_and_once() {
        let mut console = Console::default();
        console.push(b"one two\nthree\n~ #");
        assert!(console.take(Speaker::Machine, &words(&["two"])));
        assert!(!console.take(Speaker::Machine, &words(&["one"])), "what is behind is behind");
        let mut console = Console::default();
        console.push(b"one two\nthree\n~ #");
        assert!(
            console.take(Speaker::Machine, &words(&["one"]))
                && console.take(Speaker::Machine, &words(&["x", "two"]))
        );
        assert!(console.take(Speaker::Machine, &words(&["~ #"])), "a prompt has no line end");
        assert!(!console.take(Speaker::Machine, &words(&["~ #"])));
        console.push(b" echo ~ #\n~ # ");
        assert!(
            console.take(Speaker::Machine, &words(&["~ #"]))
                && console.take(Speaker::Machine, &words(&["~ #"]))
                && !console.take(Speaker::Machine, &words(&["~ #"]))
        );
    }

    #[test]
    fn failures_are_found_once_and_in_open_lines() {
        let mut console = Console::default();
        console.push(b"fine\nKernel pan");
        assert_eq!(console.find(&words(&["panic"])), None);
        console.push(b"ic - x");
        assert_eq!(console.find(&words(&["panic"])), Some((1, "Kernel panic - x".to_owned(), false)));
        assert!(console.take_before(Speaker::Machine, &words(&["fine"]), 1));
        assert!(
            !console.take_before(Speaker::Machine, &words(&["panic", "x"]), 1),
            "it is not before itself"
        );
        assert!(console.take(Speaker::Machine, &words(&["panic"])));
    }

    #[test]
    fn each_speaker_is_searched_apart() {
        let mut console = Console::default();
        console.push(b"(d1) Kernel panic\n(XEN) DOM12: up\n(dx) up?\n(d1) up\n(d1 up\n(d1) ");
        let up = words(&["up"]);
        assert_eq!(console.find(&words(&["panic"])), None);
        assert!(console.take(Speaker::Machine, &up) && console.take(Speaker::Machine, &up));
        assert!(!console.take(Speaker::Machine, &up));
        assert!(console.take(Speaker::Guest(12), &up) && !console.take(Speaker::Guest(12), &up));
        assert!(console.take(Speaker::Guest(1), &up) && !console.take(Speaker::Guest(1), &up));
        console.push(b"up");
        assert!(console.take(Speaker::Guest(1), &up) && !console.take(Speaker::Machine, &up));
    }

    #[test]
    fn a_guest_that_babbles_does_not_fill_memory() {
        let mut console = Console::default();
        console.push(&vec![b'x'; MAX_LINE * 3 + 1]);
        assert_eq!(console.lines.len(), 3);
        for _ in 0..MAX_LINES {
            console.push(b"\n");
        }
        assert!(console.lines.len() <= MAX_LINES);
        console.push(b"end\n");
        assert!(console.take(Speaker::Machine, &words(&["end"])));
    }

    #[test]
    fn long_lines_fill_no_more_memory_than_short_ones() {
        let mut console = Console::default();
        let line = [[b'x'; MAX_LINE - 2].as_slice(), b"\n"].concat();
        (0..2 * MAX_BYTES / MAX_LINE).for_each(|_| console.push(&line));
        let kept: usize = console.into_lines().iter().map(String::len).sum();
        assert!((MAX_BYTES / 2..=MAX_BYTES).contains(&kept), "{kept}");
    }
}
