//! The tests' words on the console, one line each:
//!
//! - `TEST <name> ok`
//! - `TEST <name> FAIL <what>: got <n>, want <n>`
//! - `TEST <name> differs (<how the reference hypervisor is known to be wrong>)`
//! - `TEST <name> skipped <why>`
//! - `BENCH <name> <instructions>`
//! - `STAMP <name> <virtual nanoseconds>`
//! - `TESTS done <n> ok <n> failed`

use core::fmt::{self, Write};

/// What a test found wrong.
#[derive(Clone, Copy, Debug)]
pub struct Fail {
    what: &'static str,
    got: u64,
    want: u64,
}

/// How a test ends.
pub type Outcome = Result<(), Fail>;

/// `got` must be `want`.
pub fn same(what: &'static str, got: u64, want: u64) -> Outcome {
    if got == want { Ok(()) } else { Err(Fail { what, got, want }) }
}

/// A hypercall's result must be `want`: 0, a value, or a negative errno.
pub fn result(what: &'static str, got: i64, want: i64) -> Outcome {
    same(what, got as u64, want as u64)
}

/// `condition` must hold; `got` says more when it does not.
pub fn holds(what: &'static str, condition: bool, got: u64) -> Outcome {
    if condition { Ok(()) } else { Err(Fail { what, got, want: 1 }) }
}

/// Counts of what has been reported.
#[derive(Debug)]
pub struct Report {
    ok: u32,
    failed: u32,
    /// The hypervisor is the reference, whose known faults are no news.
    pub reference: bool,
}

impl Report {
    /// Nothing reported yet.
    pub const fn new(reference: bool) -> Self {
        Self { ok: 0, failed: 0, reference }
    }

    /// Runs and reports a test.
    pub fn test(&mut self, name: &str, test: impl FnOnce() -> Outcome) {
        match test() {
            Ok(()) => {
                self.ok += 1;
                line!("TEST {name} ok");
            }
            Err(fail) => {
                self.failed += 1;
                line!("TEST {name} FAIL {}: got {}, want {}", fail.what, Number(fail.got), Number(fail.want));
            }
        }
    }

    /// Like [`Report::test`] for one that stock Xen 4.20 is known to fail, as `how` says.
    pub fn test_beyond_reference(&mut self, name: &str, how: &str, test: impl FnOnce() -> Outcome) {
        if !self.reference {
            self.test(name, test);
        } else if test().is_ok() {
            self.ok += 1;
            line!("TEST {name} ok (though it was thought that: {how})");
        } else {
            line!("TEST {name} differs ({how})");
        }
    }

    /// Says that a test cannot run here.
    pub fn skip(&mut self, name: &str, why: &str) {
        line!("TEST {name} skipped {why}");
    }

    /// The last line.
    pub fn done(&self) {
        line!("TESTS done {} ok {} failed", self.ok, self.failed);
    }
}

/// Small numbers and errnos in decimal, others in hexadecimal.
struct Number(u64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 as i64 {
            small @ -4096..4096 => write!(f, "{small}"),
            _ => write!(f, "{:#x}", self.0),
        }
    }
}

/// A line of console output, put out in one piece.
pub struct Line {
    text: [u8; 256],
    used: usize,
}

impl Line {
    /// Formats and writes a line; what is longer than 255 bytes is cut.
    pub fn put(arguments: fmt::Arguments<'_>) {
        let mut line = Line { text: [0; 256], used: 0 };
        // Cutting is no error here, and nothing else can fail.
        let _ = line.write_fmt(arguments);
        line.text[line.used.min(255)] = b'\n';
        crate::console_write(&line.text[..line.used.min(255) + 1]);
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.used < 255 {
                self.text[self.used] = byte;
                self.used += 1;
            }
        }
        Ok(())
    }
}

macro_rules! line {
    ($($argument:tt)*) => { $crate::report::Line::put(format_args!($($argument)*)) };
}
pub(crate) use line;
