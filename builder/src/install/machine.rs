//! The machine in which packages are configured: QEMU's `virt`, with Debian's kernel, a ramdisk of ours and one disk.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::error::{Error, Result, ResultExt};
use crate::progress::Step;
use crate::qemu::{QemuCommand, Running, Starts};

/// How long the machine may say nothing: a package's script that takes longer even in emulation on a busy computer is stuck.
const QUIET: Duration = Duration::from_secs(900);
/// What the machine's first process says at its end, before the result.
const RESULT: &str = "vambrace-configure: ";
/// Lines of the console that an error shows.
const SHOWN: usize = 30;
/// Longest line that is kept.
const MAX_LINE: u64 = 1 << 16;
/// What the kernel leaves out. With its addresses shuffled it takes its own page tables away from programs, and at each system
/// call QEMU forgets all translations of addresses; that, and the guards against speculation, made up half of the time. The
/// machine has no secrets, runs nothing but what the archive has signed, and is gone afterwards.
const UNGUARDED: &str = "nokaslr mitigations=off";

/// The machine and what it is given.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    /// Debian's name of its architecture.
    pub(crate) arch: &'a str,
    /// The kernel.
    pub(crate) kernel: &'a Path,
    /// The ramdisk with the first process.
    pub(crate) ramdisk: &'a Path,
    /// The disk: an ext4 file system with the unpacked packages.
    pub(crate) disk: &'a Path,
    /// The time that it has, in seconds since 1970.
    pub(crate) epoch: u64,
}

impl Machine<'_> {
    fn command(&self) -> Result<QemuCommand> {
        let (binary, cpu) = match self.arch {
            "arm64" => ("qemu-system-aarch64", "cortex-a57"),
            "armhf" => ("qemu-system-arm", "cortex-a15"),
            other => return Err(Error::new(format!("packages of {other} cannot be configured here"))),
        };
        let name = |path: &Path| {
            let text = path.to_str().ok_or_else(|| Error::new("the path is not UTF-8").at(path));
            text.map(str::to_owned)
        };
        // Without the RAM above 4 GiB a 32-bit machine has its devices where every kernel finds them.
        let machine = if self.arch == "armhf" { "virt,highmem=off" } else { "virt" };
        // One CPU, because dpkg does one thing after the other: a second one would have to be waited for at each flush.
        let fixed = ["-M", machine, "-cpu", cpu, "-smp", "1", "-m", "1G", "-no-reboot", "-nodefaults"];
        let quiet = ["-display", "none", "-monitor", "none", "-serial", "stdio", "-nic", "none"];
        let mut args: Vec<String> = fixed.into_iter().chain(quiet).map(str::to_owned).collect();
        args.extend(["-kernel".to_owned(), name(self.kernel)?, "-initrd".to_owned(), name(self.ramdisk)?]);
        let epoch = self.epoch;
        args.extend([
            "-append".into(),
            format!("console=ttyAMA0 quiet panic=-1 {UNGUARDED} vambrace.epoch={epoch}"),
        ]);
        // In an option's value QEMU takes two commas for one.
        let disk = name(self.disk)?.replace(',', ",,");
        args.extend(["-drive".into(), format!("if=none,id=disk,format=raw,cache=unsafe,file={disk}")]);
        args.extend(["-device".into(), "virtio-blk-device,drive=disk".into()]);
        Ok(QemuCommand { binary: binary.to_owned(), args, preload: None, starts: Starts::Emulator })
    }

    /// Runs the machine, which configures this many packages, until it turns itself off.
    ///
    /// # Errors
    /// QEMU that is not there or fails, a package that cannot be configured, and a machine that says nothing for a quarter
    /// of an hour; the console's last lines are shown.
    pub(crate) fn run(&self, packages: u64, step: &Step) -> Result<()> {
        let qemu = self.command()?;
        let mut command = qemu.command()?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut running = Running(child.context(|| format!("cannot run {}", qemu.binary))?, qemu.starts);
        let (send, lines) = channel();
        if let Some(console) = running.0.stdout.take() {
            let send = send.clone();
            std::thread::spawn(move || read_lines(console, |line| send.send(line).is_ok()));
        }
        if let Some(errors) = running.0.stderr.take() {
            std::thread::spawn(move || read_lines(errors, |line| send.send(line).is_ok()));
        }
        let (mut last, mut result, mut configured) = (Vec::new(), None, 0_u64);
        loop {
            match lines.recv_timeout(QUIET) {
                Ok(line) => {
                    if let Some((_, told)) = line.split_once(RESULT) {
                        result = Some(told.trim().to_owned());
                    } else if line.starts_with("Setting up ") {
                        configured += 1;
                        step.set(configured.min(packages), packages);
                    }
                    last.push(line);
                    if last.len() > SHOWN {
                        last.remove(0);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(failed("it has said nothing for a quarter of an hour", &last));
                }
            }
        }
        match result.as_deref() {
            Some("done") => Ok(()),
            Some(told) => Err(failed(told, &last)),
            None => Err(failed("it ended early", &last)),
        }
    }
}

fn failed(why: &str, last: &[String]) -> Error {
    Error::new(format!("cannot configure the packages: {why}"))
        .because(Error::new(format!("the machine's console ends with\n{}", last.join("\n"))))
}

/// Gives each line to `take`, until that has had enough or there are no more. A line without end comes in pieces.
fn read_lines(from: impl Read, mut take: impl FnMut(String) -> bool) {
    let mut from = BufReader::new(from);
    loop {
        let mut line = Vec::new();
        match from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                let text: String = text.chars().filter(|c| !c.is_control() || *c == '\t').collect();
                if !take(text) {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine<'a>(arch: &'a str, disk: &'a Path) -> Machine<'a> {
        let none = Path::new("/nonexistent");
        Machine { arch, kernel: none, ramdisk: none, disk, epoch: 7 }
    }

    #[test]
    fn a_path_with_commas_stays_one_path() {
        let command = machine("arm64", Path::new("/a,b/disk")).command().unwrap();
        assert!(command.args.iter().any(|arg| arg.ends_with("file=/a,,b/disk")), "{command:?}");
        assert!(machine("amd64", Path::new("/disk")).command().is_err());
    }

    #[test]
    fn lines_without_end_and_control_characters_do_no_harm() {
        let mut text = vec![b'x'; 100_000];
        text.extend(b"\n\x1b[1mone\r\ntwo");
        let mut lines = Vec::new();
        read_lines(text.as_slice(), |line| {
            lines.push(line);
            true
        });
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [65_536, 34_464, 6, 3]);
        assert_eq!(lines[3], "two");
    }
}
