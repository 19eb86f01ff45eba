//! Reading a machine's memory from outside, by QEMU's monitor: what the hypervisor's log has when the console is silent.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vambrace_core::console_ring::log_in;

use crate::error::{Error, Result, ResultExt};

/// Bytes that QEMU writes to a file at once.
const PIECE: u64 = 128 << 20;
/// Bytes of a piece that are in the next one too: a log that lies across is found there.
const ACROSS: u64 = 1 << 20;
/// How long QEMU may take for an answer.
const ANSWER: Duration = Duration::from_secs(60);
/// Longest answer.
const MAX_ANSWER: u64 = 1 << 20;
/// Longest line of a log that is shown.
const MAX_LINE: usize = 1000;

/// Where QEMU's monitor is, in a folder that nobody else has.
#[derive(Debug)]
pub(super) struct Monitor {
    dir: tempfile::TempDir,
}

impl Monitor {
    /// A place for a monitor.
    pub(super) fn new() -> Result<Self> {
        let dir = tempfile::tempdir().context(|| "cannot make a folder for QEMU's monitor")?;
        Ok(Self { dir })
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("qmp")
    }

    /// The arguments with which QEMU has it.
    pub(super) fn args(&self) -> [String; 2] {
        // Commas divide a list, and a doubled one is meant.
        let path = self.socket().display().to_string().replace(',', ",,");
        ["-qmp".to_owned(), format!("unix:{path},server=on,wait=off")]
    }

    /// The lines of the hypervisor's log, if there is one in `memory`, physical addresses. The machine stands still from then
    /// on.
    pub(super) fn log(&self, memory: &Range<u64>) -> Result<Option<Vec<String>>> {
        let mut connection = Connection::open(&self.socket())?;
        connection.ask("qmp_capabilities", json!({}))?;
        connection.ask("stop", json!({}))?;
        let file = self.dir.path().join("memory");
        let mut at = memory.start;
        while at < memory.end {
            let size = PIECE.min(memory.end - at);
            connection.ask("pmemsave", json!({ "val": at, "size": size, "filename": file }))?;
            let mut bytes = Vec::new();
            let read = File::open(&file).and_then(|file| file.take(PIECE).read_to_end(&mut bytes));
            read.context_at(&file, || "cannot read the machine's memory")?;
            fs::remove_file(&file).context_at(&file, || "cannot remove the copy of the memory")?;
            if let Some(log) = log_in(&bytes) {
                return Ok(Some(lines(&log)));
            }
            at += if size == PIECE { PIECE - ACROSS } else { size };
        }
        Ok(None)
    }
}

/// The log as lines that can be printed; the first one may have lost its beginning.
fn lines(log: &[u8]) -> Vec<String> {
    let plain = |c: char| if c.is_control() && c != '\t' { ' ' } else { c };
    let line = |line: &str| line.chars().take(MAX_LINE).map(plain).collect::<String>().trim_end().to_owned();
    String::from_utf8_lossy(log).lines().map(line).filter(|line| !line.is_empty()).collect()
}

/// A connection to QEMU's monitor (QEMU, docs/interop/qmp-spec).
struct Connection {
    to: UnixStream,
    from: BufReader<UnixStream>,
}

impl Connection {
    fn open(socket: &Path) -> Result<Self> {
        let failed = || "cannot reach QEMU's monitor";
        let to = UnixStream::connect(socket).context(failed)?;
        to.set_read_timeout(Some(ANSWER)).context(failed)?;
        to.set_write_timeout(Some(ANSWER)).context(failed)?;
        let mut connection = Self { from: BufReader::new(to.try_clone().context(failed)?), to };
        // It greets.
        connection.next()?;
        Ok(connection)
    }

    /// Has QEMU do `command`, and waits for it to be done.
    fn ask(&mut self, command: &str, arguments: Value) -> Result<()> {
        let failed = || format!("QEMU's monitor does not do `{command}`");
        let text = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        self.to.write_all(text.as_bytes()).context(failed)?;
        let until = Instant::now() + ANSWER;
        // Events may come before the answer.
        while Instant::now() < until {
            let said = self.next()?;
            if said.get("return").is_some() {
                return Ok(());
            }
            if let Some(error) = said.get("error") {
                let why = error.get("desc").and_then(Value::as_str).unwrap_or("it does not say why");
                return Err(Error::new(failed()).because(Error::new(why)));
            }
        }
        Err(Error::new(failed()).because(Error::new("it does not answer")))
    }

    fn next(&mut self) -> Result<Value> {
        let failed = || "cannot read what QEMU's monitor says";
        let mut line = Vec::new();
        (&mut self.from).take(MAX_ANSWER).read_until(b'\n', &mut line).context(failed)?;
        serde_json::from_slice(&line).context(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_lines_that_a_terminal_takes() {
        let log = b"end of a line\n(VMB) one\r\n\n(d1) \x1b[2Jtwo\xff\n";
        assert_eq!(lines(log), ["end of a line", "(VMB) one", "(d1)  [2Jtwo\u{fffd}"]);
    }
}
