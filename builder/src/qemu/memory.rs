//! Looking into a machine from outside, by QEMU's monitor: what the hypervisor's log has in memory when the console is silent,
//! whether what it says that it put there for dom0 is there, and where the CPUs are.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vambrace_core::console_ring::log_in;

use crate::error::{Error, Result, ResultExt};
use crate::fdt;

/// Most bytes of the path of a socket.
const MOST_PATH: usize = 107;
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

/// Bytes of a flattened device tree's header, and the most that Linux takes of one (booting.rst).
const TREE_HEADER: u64 = 40;
const MAX_TREE: u64 = 2 << 20;
/// Where an arm64 Image's magic is, and what it is (Linux, Documentation/arch/arm64/booting.rst).
const IMAGE_MAGIC: (u64, &[u8]) = (56, b"ARM\x64");
/// How often it is looked where the CPUs are, until one is in what the hypervisor runs.
const LOOKS: usize = 16;

/// What is seen in a machine whose time is over.
#[derive(Debug, Default)]
pub(super) struct Inside {
    /// The lines of the hypervisor's log in memory, where it was found.
    pub(super) log: Option<Vec<String>>,
    /// What of dom0's kernel and device tree is not where the hypervisor says that it is, a sentence each.
    pub(super) misplaced: Vec<String>,
    /// Where each CPU is.
    pub(super) cpus: Vec<CpuSeen>,
}

/// Where a CPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuSeen {
    /// The program counter: virtual, unless the translation is off.
    pub pc: u64,
    /// The exception level, of a CPU in AArch64 state.
    pub level: u8,
}

/// Where QEMU's monitor is, in a folder that nobody else has.
#[derive(Debug)]
pub(super) struct Monitor {
    dir: tempfile::TempDir,
}

impl Monitor {
    /// A place for a monitor.
    pub(super) fn new() -> Result<Self> {
        let dir = tempfile::tempdir().context(|| "cannot make a folder for QEMU's monitor")?;
        let monitor = Self { dir };
        // unix(7): a socket's path has 107 bytes at most.
        match monitor.socket().as_os_str().len() {
            0..=MOST_PATH => Ok(monitor),
            _ => Err(Error::new("the path of QEMU's monitor is too long for a socket")
                .at(monitor.socket())
                .help("set TMPDIR to a shorter one")),
        }
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

    /// What can be seen of the machine with `memory`, physical addresses, whose console has said `lines`. It stands still from
    /// then on.
    pub(super) fn look(&self, memory: &Range<u64>, lines: &[String]) -> Result<Inside> {
        let mut connection = Connection::open(&self.socket())?;
        connection.ask("qmp_capabilities", json!({}))?;
        let mut inside = Inside { cpus: connection.cpus()?, ..Inside::default() };
        inside.log = self.log(&mut connection, memory)?;
        // The log keeps the newest lines, the console all, if it works.
        let line = lines.iter().chain(inside.log.iter().flatten()).find_map(|line| placed(line));
        if let Some((kernel, tree)) = line {
            let within = |at: u64, size: u64| memory.contains(&at) && at.saturating_add(size) <= memory.end;
            let mut read = |at: u64, size: u64| match within(at, size) {
                true => self.read(&mut connection, at, size),
                false => Ok(Vec::new()),
            };
            let (offset, magic) = IMAGE_MAGIC;
            if read(kernel.saturating_add(offset), magic.len() as u64)? != magic {
                inside.misplaced.push(format!("there is no kernel at {kernel:#x}, where it was to be"));
            }
            let header = read(tree, TREE_HEADER)?;
            // Its second field is its size.
            let size = header.get(4..8).and_then(|size| size.try_into().ok()).map_or(0, u32::from_be_bytes);
            let blob = match u64::from(size) {
                size @ TREE_HEADER..=MAX_TREE => read(tree, size)?,
                _ => header,
            };
            if let Err(error) = fdt::summary(&blob) {
                inside
                    .misplaced
                    .push(format!("what is at {tree:#x} is no whole device tree: {}", error.in_a_line()));
            }
        }
        Ok(inside)
    }

    /// The lines of the hypervisor's log, if there is one in `memory`.
    fn log(&self, connection: &mut Connection, memory: &Range<u64>) -> Result<Option<Vec<String>>> {
        let mut at = memory.start;
        while at < memory.end {
            let size = PIECE.min(memory.end - at);
            if let Some(log) = log_in(&self.read(connection, at, size)?) {
                return Ok(Some(lines(&log)));
            }
            at += if size == PIECE { PIECE - ACROSS } else { size };
        }
        Ok(None)
    }

    /// `size` bytes of the machine's memory from the physical address `at` on.
    fn read(&self, connection: &mut Connection, at: u64, size: u64) -> Result<Vec<u8>> {
        let file = self.dir.path().join("memory");
        connection.ask("pmemsave", json!({ "val": at, "size": size, "filename": file.to_string_lossy() }))?;
        let mut bytes = Vec::new();
        let read = File::open(&file).and_then(|file| file.take(size).read_to_end(&mut bytes));
        read.context_at(&file, || "cannot read the machine's memory")?;
        fs::remove_file(&file).context_at(&file, || "cannot remove the copy of the memory")?;
        Ok(bytes)
    }
}

/// Where a line of the hypervisor's says that a 64-bit dom0's kernel and its device tree are.
fn placed(line: &str) -> Option<(u64, u64)> {
    let rest = line.split_once("Dom0: ").filter(|(_, rest)| rest.contains("64-bit"))?.1;
    let after = |words: &str| {
        let digits = rest.split_once(words)?.1;
        let digits = digits.split(|c: char| !c.is_ascii_hexdigit()).next()?;
        u64::from_str_radix(digits, 16).ok()
    };
    Some((after("kernel at 0x")?, after("device tree at 0x")?))
}

/// Where the CPUs are, by what the monitor's `info registers` says of those in AArch64 state.
fn cpus(registers: &str) -> Vec<CpuSeen> {
    let mut cpus = Vec::new();
    let mut counter = None;
    for word in registers.split_whitespace() {
        if let Some(digits) = word.strip_prefix("PC=") {
            counter = u64::from_str_radix(digits, 16).ok();
        } else if let (Some(pc), Some(rest)) = (counter, word.strip_prefix("EL"))
            && let Some(level) = rest.chars().next().and_then(|c| c.to_digit(4))
        {
            cpus.push(CpuSeen { pc, level: level as u8 });
            counter = None;
        }
    }
    cpus
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

    /// Stops the machine, and says where its CPUs are: in what the hypervisor runs, if one of them is seen there, since a guest
    /// that traps over and over is mostly seen in the hypervisor.
    fn cpus(&mut self) -> Result<Vec<CpuSeen>> {
        let mut seen = Vec::new();
        for look in 1..=LOOKS {
            self.ask("stop", json!({}))?;
            let said = self.ask("human-monitor-command", json!({ "command-line": "info registers -a" }))?;
            seen = cpus(said.as_str().unwrap_or_default());
            if look == LOOKS || seen.iter().any(|cpu| cpu.level < 2) {
                break;
            }
            self.ask("cont", json!({}))?;
        }
        Ok(seen)
    }

    /// Has QEMU do `command`, and waits for what it answers.
    fn ask(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let failed = || format!("QEMU's monitor does not do `{command}`");
        let text = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        self.to.write_all(text.as_bytes()).context(failed)?;
        let until = Instant::now() + ANSWER;
        // Events may come before the answer.
        while Instant::now() < until {
            let mut said = self.next()?;
            if let Some(answer) = said.get_mut("return") {
                return Ok(answer.take());
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
    #[test]
    fn the_places_of_dom0_are_read_from_the_log() {
        let line = "(VMB) Dom0: 1 vCPUs, 64-bit, 256 MiB in 1 bank(s), kernel at 0x42e00000, device tree at 0x452f0000";
        assert_eq!(placed(line), Some((0x42e0_0000, 0x452f_0000)));
        for other in [
            &line.replace("64-bit", "32-bit"),
            &line.replace("0x452f0000", "0x"),
            &line.replace("0x42e00000", "0x11112222333344445"),
            "(VMB) Dom0 starts, 5 us after the hypervisor did",
        ] {
            assert_eq!(placed(other), None, "{other}");
        }
    }

    #[test]
    fn cpus_are_found_in_what_the_monitor_says() {
        let said = "\r\nCPU#0\r\n PC=0000000000000200 X00=0000000000000001 X01=0\r\n\
                    PSTATE=600003c5 -ZC- EL1h  BTYPE=0     FPU disabled\r\n\r\nCPU#1\r\n     PC=ffff800080012345 X00=0\r\n\
                    PSTATE=000003c9 ---- NS EL2h SVCR=00000000 --\r\n";
        let seen = |pc, level| CpuSeen { pc, level };
        assert_eq!(cpus(said), [seen(0x200, 1), seen(0xffff_8000_8001_2345, 2)]);
        assert_eq!(cpus("R15=40008000 PSR=600001da -ZC- A S hyp32 EL9 PC=xyz ELx"), []);
    }
}
