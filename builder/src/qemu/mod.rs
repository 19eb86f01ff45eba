//! Starting QEMU: with its console on the user's terminal, or followed line by line through the stages of a boot.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vambrace_bsp::{Qemu, QemuVersion};

use crate::error::{Error, Result, ResultExt};
use crate::progress::Progress;

mod clock;
mod console;
pub mod direct;
mod memory;
pub mod model;

use clock::MachineClock;
use console::Console;
pub use console::Speaker;
pub(crate) use console::plain_lines;
pub use memory::CpuSeen;
use memory::{Inside, Monitor};

/// How often the clock is looked at while the console is silent.
const TICK: Duration = Duration::from_millis(50);
/// How long QEMU may take to end once its console is closed.
const LAST_BREATH: Duration = Duration::from_secs(10);
/// How long a line that says what is wrong may take to end.
const END_OF_LINE: Duration = Duration::from_secs(1);
/// Bytes of a console that its log has at most.
const MAX_LOG: usize = 32 << 20;
/// Bytes of QEMU's own messages, more than which end it.
const TOO_MANY_MESSAGES: u64 = 64 << 20;
/// Bytes of QEMU's own messages that are kept.
const MAX_MESSAGES: u64 = 1 << 16;

/// How long a lab may take until a board is turned on: another may have it, and its medium is to be written.
const PREPARATION: Duration = Duration::from_secs(4 * 3600);
/// How long a lab may take to turn the board off and to give it back.
const GIVING_BACK: Duration = Duration::from_secs(60);
/// What was not reached where a lab has turned no board on.
const LAB_STAGE: &str = "a board of the lab";
/// What a lab's program says before the machine's first byte.
pub(crate) const POWER_ON: &str = "vambrace-lab: power on";

/// What a command starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Starts {
    /// An emulator, which can be ended at any time.
    #[default]
    Emulator,
    /// A program that gets a board of a lab, and gives it back when its input ends. The machine begins behind the line
    /// with `POWER_ON`.
    Lab,
}

impl Starts {
    /// How messages call it.
    const fn name(self) -> &'static str {
        match self {
            Self::Emulator => "QEMU",
            Self::Lab => "labgrid",
        }
    }

    /// The signal that it gets when we are killed.
    const fn last_signal(self) -> &'static str {
        match self {
            Self::Emulator => "KILL",
            Self::Lab => "TERM",
        }
    }
}

/// A QEMU command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QemuCommand {
    /// The program, such as `qemu-system-aarch64`.
    pub binary: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// A shared object that is loaded into the program before its own libraries.
    pub preload: Option<PathBuf>,
    /// What it starts.
    pub starts: Starts,
}

impl QemuCommand {
    /// The command as one line that a POSIX shell takes.
    #[must_use]
    pub fn shell_line(&self) -> String {
        let preload = self.preload_setting().map(|(name, path)| format!("{name}={}", shell_word(&path)));
        preload
            .into_iter()
            .chain(std::iter::once(&self.binary).chain(&self.args).map(|word| shell_word(word)))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The environment variable by which the dynamic linker loads an object first (ld.so(8)).
    fn preload_setting(&self) -> Option<(&'static str, String)> {
        self.preload.as_ref().map(|path| ("LD_PRELOAD", path.display().to_string()))
    }

    /// Makes the command ready to start. QEMU is to end with the thread that starts it, even if that is killed: that
    /// takes a call between fork and exec, which `setpriv` makes for us without any unsafe code.
    pub(crate) fn command(&self) -> Result<Command> {
        let mut words = Vec::new();
        if let Some(setpriv) = find("setpriv") {
            words.extend([setpriv, "--pdeathsig".into(), self.starts.last_signal().into(), "--".into()]);
        }
        if let Some((name, path)) = self.preload_setting() {
            // By `env`, so that it is QEMU alone that gets the object.
            words.extend(["env".into(), format!("{name}={path}").into()]);
        }
        words.push(match self.starts {
            Starts::Emulator => emulator(&self.binary)?,
            Starts::Lab => PathBuf::from(&self.binary),
        });
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(&self.args);
        Ok(command)
    }
}

/// One point of a boot, known by what the console says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its name, for reports.
    pub name: String,
    /// Who has to say it.
    pub speaker: Speaker,
    /// Any of these in one line of the console reaches it; none at all waits for QEMU's own end.
    pub any_of: Vec<String>,
    /// What is typed, followed by a line end, when it is reached.
    pub send: Option<String>,
}

/// A boot to follow.
#[derive(Debug)]
pub struct FollowRequest<'a> {
    /// The command; its console must be on standard input and output (`-serial stdio`).
    pub command: &'a QemuCommand,
    /// The stages, in their order.
    pub stages: Vec<Stage>,
    /// Any of these in a line ends it at once.
    pub failures: Vec<String>,
    /// The longest that all of it may take, of the time in which the machine could run: what its threads waited for a CPU
    /// of this computer does not count.
    pub timeout: Duration,
    /// Where the machine has memory, by physical addresses: it is looked into when the time is over.
    pub memory: Option<Range<u64>>,
    /// Gets every byte of the console.
    pub log: &'a Path,
    /// Whether the console is shown on standard output too.
    pub echo: bool,
}

/// A stage that was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Its name.
    pub stage: String,
    /// The time since QEMU's start.
    pub wall: Duration,
    /// The part of it in which the machine could run.
    pub machine: Duration,
}

/// Whether a machine's memory was looked into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Looked {
    /// There was no reason to, or no way.
    #[default]
    No,
    /// It was tried; why it failed.
    Failed(String),
    /// Yes.
    Yes,
}

/// How a boot went.
#[derive(Clone, Debug)]
pub struct FollowReport {
    /// The stages reached.
    pub reached: Vec<Reached>,
    /// The first stage that was not reached.
    pub missed: Option<String>,
    /// Why it was not: the time, QEMU's end, or the line that ended it.
    pub reason: Option<String>,
    /// All lines of the console, without escape sequences.
    pub lines: Vec<String>,
    /// What QEMU itself has said.
    pub messages: String,
    /// What was started.
    pub starts: Starts,
    /// Whether the machine's memory was looked into.
    pub looked: Looked,
    /// The lines of the hypervisor's log in it, where they were found.
    pub log: Option<Vec<String>>,
    /// What of dom0's kernel and device tree is not where the hypervisor says that it is, where the time was over: a sentence each.
    pub misplaced: Vec<String>,
    /// Where each CPU was when the time was over.
    pub cpus: Vec<CpuSeen>,
}

impl FollowReport {
    /// The last `count` lines of the console.
    #[must_use]
    pub fn tail(&self, count: usize) -> &[String] {
        last(&self.lines, count)
    }
}

/// The last `count` of `lines`.
fn last<T>(lines: &[T], count: usize) -> &[T] {
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default()
}

/// The last `count` of `lines`, as an error shows what another program has said.
pub(crate) fn quoted<T: Display>(lines: &[T], count: usize) -> String {
    last(lines, count).iter().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n")
}

/// Ends the process when it goes out of scope, by its own id; one that has something to give back is asked first.
pub(crate) struct Running(pub(crate) Child, pub(crate) Starts);

impl Running {
    /// Waits for the process to end of itself.
    fn wait(&mut self, until: Instant) -> Option<ExitStatus> {
        loop {
            match self.0.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
                _ => return None,
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.1 == Starts::Lab && self.0.try_wait().is_ok_and(|status| status.is_none()) {
            let pid = rustix::process::Pid::from_child(&self.0);
            if rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_ok() {
                self.wait(Instant::now() + GIVING_BACK);
            }
        }
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs QEMU until the last stage is reached, a failure is seen, QEMU ends, or the time is over; then ends QEMU.
///
/// # Errors
/// When QEMU is not there or cannot be started, or the log cannot be written. A stage that is missed is no error
/// but part of the report.
pub fn follow(request: FollowRequest<'_>, progress: &Progress) -> Result<FollowReport> {
    let mut log = File::create(request.log).context_at(request.log, || "cannot make the console's log")?;
    let mut messages = tempfile::tempfile().context(|| "cannot make a file for QEMU's messages")?;
    let stderr = messages.try_clone().context(|| "cannot make a file for QEMU's messages")?;
    // A socket pair, not two pipes: one descriptor both ways, and reading it can time out.
    let (ours, theirs) = UnixStream::pair().context(|| "cannot make QEMU's console")?;
    let input: OwnedFd = theirs.try_clone().context(|| "cannot make QEMU's console")?.into();
    ours.set_read_timeout(Some(TICK)).context(|| "cannot set the console's time-out")?;
    ours.set_write_timeout(Some(LAST_BREATH)).context(|| "cannot set the console's time-out")?;
    let monitor = request.memory.as_ref().map(|_| Monitor::new()).transpose()?;
    let mut child = {
        let mut command = request.command.command()?;
        command.args(monitor.iter().flat_map(Monitor::args));
        command
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::from(stderr));
        // The block ends the command, which holds QEMU's end of the socket open: its closing is how we see QEMU end.
        Running(
            command.spawn().context(|| format!("cannot start {}", request.command.binary))?,
            request.command.starts,
        )
    };
    let mut clock = MachineClock::new(child.0.id());
    let mut console = Console::default();
    let mut reached: Vec<Reached> = Vec::new();
    let mut stages = request.stages.into_iter().peekable();
    let mut buffer = vec![0; 1 << 16];
    let mut step = None;
    let (mut reason, mut late, mut failing) = (None, false, None);
    let starts = request.command.starts;
    let mut logged = 0;
    let mut preparing = (starts == Starts::Lab).then(Instant::now);
    let power_on = [POWER_ON.to_owned()];
    while let Some(stage) = stages.peek() {
        // The board is not on yet: its time has not begun, and nothing that is said is its own.
        if let Some(since) = preparing {
            if console.take(Speaker::Machine, &power_on) {
                clock.restart();
                preparing = None;
            } else if since.elapsed() >= PREPARATION {
                reason =
                    Some(format!("the lab turned no board on within {} hours", PREPARATION.as_secs() / 3600));
                break;
            }
        }
        let waiting = step.get_or_insert_with(|| progress.step(format!("booting: {}", stage.name)));
        let typed = |stage: &Stage, mut to: &UnixStream| {
            if let Some(line) = &stage.send {
                // A guest that is gone shows in the next read.
                drop(to.write_all(format!("{line}\n").as_bytes()));
            }
        };
        // What is wrong is said in the rest of its line.
        if preparing.is_none()
            && let Some((number, line, ended)) = console.find(&request.failures)
            && (ended || *failing.get_or_insert_with(Instant::now) + END_OF_LINE < Instant::now())
        {
            reason = Some(format!("the console says `{line}`"));
            // What was said before that was reached, though all of it came at once.
            while let Some(stage) = stages.next_if(|stage| {
                !stage.any_of.is_empty() && console.take_before(stage.speaker, &stage.any_of, number)
            }) {
                reached.push(clock.reached(&stage));
            }
            break;
        }
        if preparing.is_none() && !stage.any_of.is_empty() && console.take(stage.speaker, &stage.any_of) {
            typed(stage, &ours);
            reached.push(clock.reached(stage));
            waiting.note("reached");
            step = None;
            stages.next();
            continue;
        }
        if messages.metadata().is_ok_and(|meta| meta.len() > TOO_MANY_MESSAGES) {
            let much = TOO_MANY_MESSAGES >> 20;
            reason = Some(format!("{} said more than {much} MiB: {}", starts.name(), said(&mut messages)));
            break;
        }
        if preparing.is_none() && clock.machine() >= request.timeout {
            late = true;
            reason = Some(format!("it was not reached within {} seconds", request.timeout.as_secs()));
            break;
        }
        let Some(bytes) = said_next(&ours, &mut buffer)? else { continue };
        if bytes.is_empty() {
            let left = request.timeout.saturating_sub(clock.machine());
            let status = child.wait(Instant::now() + left.max(LAST_BREATH));
            // What is off says nothing, but a lab that ends has lost the board.
            let fine = starts == Starts::Emulator && status.is_some_and(|status| status.success());
            if fine && stage.any_of.is_empty() {
                reached.push(clock.reached(stage));
                stages.next();
            }
            if stages.peek().is_some() {
                reason = Some(ended(starts, status, &mut messages));
            }
            break;
        }
        // A machine that says the same for ever must not fill the disk.
        let kept = bytes.get(..MAX_LOG.saturating_sub(logged)).unwrap_or(bytes);
        log.write_all(kept).context_at(request.log, || "cannot write the console's log")?;
        logged += kept.len();
        if request.echo {
            // A reader of our output that went away does not end the boot.
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(bytes).and_then(|()| out.flush());
        }
        console.push(bytes);
    }
    if let Some(step) = step {
        step.note(if reason.is_some() { "not reached" } else { "reached" });
    }
    let missed =
        stages.next().map(|stage| if preparing.is_some() { LAB_STAGE.to_owned() } else { stage.name });
    let lines = console.into_lines();
    let (looked, inside) = match (&monitor, &request.memory) {
        (Some(monitor), Some(memory)) if late => match looked_into(monitor, memory, &lines, &ours) {
            Ok(inside) => (Looked::Yes, inside),
            // That is no reason to say less of the rest.
            Err(error) => (Looked::Failed(error.in_a_line()), Inside::default()),
        },
        _ => (Looked::No, Inside::default()),
    };
    let Inside { log, misplaced, cpus } = inside;
    if starts == Starts::Lab {
        // The end of its input is what it gives the board back for.
        drop(ours);
        let status = child.wait(Instant::now() + GIVING_BACK);
        if reason.is_none() && !status.is_some_and(|status| status.success()) {
            return Err(Error::new("the lab's board was not given back").because(Error::new(ended(
                starts,
                status,
                &mut messages,
            ))));
        }
    }
    let messages = said(&mut messages);
    Ok(FollowReport { reached, missed, reason, lines, messages, starts, looked, log, misplaced, cpus })
}

/// The bytes that a console says next; none where it has ended, nothing where it is silent for a moment.
fn said_next<'a>(mut console: &UnixStream, buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>> {
    use ErrorKind::{ConnectionReset, Interrupted, TimedOut, WouldBlock};
    match console.read(buffer) {
        Ok(count) => Ok(Some(buffer.get(..count).unwrap_or_default())),
        // It ended with something typed that nobody has read.
        Err(error) if error.kind() == ConnectionReset => Ok(Some(&[])),
        Err(error) if matches!(error.kind(), WouldBlock | TimedOut | Interrupted) => Ok(None),
        Err(error) => Err(error).context(|| "cannot read QEMU's console"),
    }
}

/// What is seen in the machine. What its console says meanwhile is read and forgotten: while nobody takes it QEMU waits, with its
/// monitor.
fn looked_into(
    monitor: &Monitor,
    memory: &Range<u64>,
    lines: &[String],
    console: &UnixStream,
) -> Result<Inside> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut console, mut buffer) = (console, vec![0; 1 << 16]);
            while !done.load(Ordering::Relaxed) {
                match console.read(&mut buffer) {
                    Ok(0) => break,
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                    _ => {}
                }
            }
        });
        let seen = monitor.look(memory, lines);
        done.store(true, Ordering::Relaxed);
        seen
    })
}

/// Runs QEMU with its console on the user's terminal, whose settings are put back afterwards.
///
/// # Errors
/// When QEMU is not there or cannot be started.
pub fn run_interactive(command: &QemuCommand) -> Result<ExitStatus> {
    let stdin = std::io::stdin();
    // QEMU puts the terminal back itself, unless it crashes or is killed.
    let before = rustix::termios::tcgetattr(&stdin).ok();
    let status = command.command()?.status().context(|| format!("cannot run {}", command.binary));
    if let Some(before) = before {
        let _ = rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Drain, &before);
    }
    status
}

/// What QEMU has said, as far as it can be read.
fn said(messages: &mut File) -> String {
    let mut bytes = Vec::new();
    let read =
        messages.seek(SeekFrom::Start(0)).and_then(|_| messages.take(MAX_MESSAGES).read_to_end(&mut bytes));
    read.map(|_| String::from_utf8_lossy(&bytes).trim().to_owned()).unwrap_or_default()
}

fn ended(starts: Starts, status: Option<ExitStatus>, messages: &mut File) -> String {
    let mut text = said(messages);
    if text.is_empty() {
        text = "it said nothing".into();
    }
    let how = match status {
        Some(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with status {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended".into(),
        },
        None => "closed its console".into(),
    };
    format!("{} {how}: {}", starts.name(), text.trim())
}

/// Where the QEMU `program` is.
fn emulator(program: &str) -> Result<PathBuf> {
    find(program).ok_or_else(|| {
        Error::new(format!("cannot find {program}"))
            .help("install it: Debian has it in qemu-system-arm; `vambrace doctor --install` does it")
    })
}

/// Looks whether this computer's QEMU is of a version that has the board's machine.
///
/// # Errors
/// It is not there, or is of another.
pub fn check_version(qemu: &Qemu) -> Result<()> {
    match missing_machine(qemu)? {
        None => Ok(()),
        Some(why) => Err(Error::new(why)
            .help("its image can be built; `vambrace boards` lists those that every QEMU boots")),
    }
}

/// Why this computer's QEMU does not have the board's machine, if it is of a version that does not.
///
/// # Errors
/// It is not there, or does not say its version.
pub fn missing_machine(qemu: &Qemu) -> Result<Option<String>> {
    let Some(before) = qemu.before else { return Ok(None) };
    let program = emulator(&qemu.binary)?;
    let failed = || format!("cannot ask {} for its version", qemu.binary);
    let output = Command::new(program).arg("--version").output().context(failed)?;
    let said = String::from_utf8_lossy(&output.stdout);
    match QemuVersion::said(&said) {
        Some(version) if version < before => Ok(None),
        Some(version) => Ok(Some(format!(
            "this board's machine is only in QEMU before {before}, and {} is {version}",
            qemu.binary
        ))),
        None => Err(Error::new(failed()).because(Error::new(format!("it says `{}`", said.escape_default())))),
    }
}

/// The program's path: as it is if it has a slash, else along `PATH`.
fn find(program: &str) -> Option<PathBuf> {
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|meta| {
            use std::os::unix::fs::PermissionsExt;
            meta.is_file() && meta.permissions().mode() & 0o111 != 0
        })
    };
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| is_program(path));
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsStr::new("/usr/bin:/bin").to_owned());
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| is_program(path))
}

fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
