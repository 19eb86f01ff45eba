//! Booting an image in QEMU: its command line, the stages a boot goes through, and what dom0's self-test says.

use crate::config::ImageConfig;
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::guest::Module;
use crate::progress::Progress;
use crate::qemu::{FollowReport, FollowRequest, QemuCommand, Speaker, Stage, follow, quoted};
use std::path::{Path, PathBuf};
use std::time::Duration;
use vambrace_bsp::{Loader, Method};

/// Who has the board's console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleUser {
    /// A person at a terminal. Ctrl-] is QEMU's escape, so that Ctrl-A reaches the hypervisor.
    Person,
    /// A program that follows it.
    Program,
}

/// What becomes of what the machine writes onto its medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// It is gone when QEMU ends, and the image is what it was.
    Forgotten,
    /// It is in the image.
    Kept,
}

/// The command that boots `image`.
///
/// `firmware` gives the file of a firmware by its name, `loaded` the arguments that load the image's files where the
/// builder stands in for the firmware; `extra` is added at the end.
///
/// # Errors
///
/// A board without a description of QEMU's machine, and whatever `firmware` and `loaded` report.
pub fn qemu_command(
    decision: &Decision,
    image: &Path,
    firmware: impl Fn(&str) -> Result<PathBuf>,
    loaded: impl FnOnce() -> Result<Vec<String>>,
    user: ConsoleUser,
    writes: Writes,
    extra: &[String],
) -> Result<QemuCommand> {
    let qemu = decision.qemu()?;
    let mut machine = vec![qemu.machine.clone()];
    machine.extend(qemu.machine_options.iter().cloned());
    machine.extend(decision.variant.iter().flat_map(|(_, variant)| variant.machine_options.iter().cloned()));
    machine.extend(decision.starter().machine_options.iter().cloned());
    let mut args = vec!["-machine".to_owned(), machine.join(",")];
    if let Some(cpu) = &qemu.cpu {
        args.extend(["-cpu".to_owned(), cpu.clone()]);
    }
    args.extend(["-smp".to_owned(), decision.cpus.to_string()]);
    args.extend(["-m".to_owned(), format!("{}M", decision.memory.bytes() >> 20)]);
    match qemu.loader {
        Loader::Direct => args.extend(loaded()?),
        Loader::Firmware => {
            for name in &decision.starter().firmware {
                let Some(description) = decision.board.firmware.get(name) else { continue };
                if !description.qemu.is_empty() {
                    let file = firmware(name)?;
                    args.extend(description.qemu.iter().map(|arg| fill(arg, "{file}", &file)));
                }
            }
        }
    }
    let own = decision.variant.iter().map(|(_, variant)| &variant.disk).find(|disk| !disk.is_empty());
    args.extend(own.unwrap_or(&qemu.disk).iter().map(|arg| medium(arg, image, writes)));
    args.extend(qemu.args.iter().cloned());
    let console: &[&str] = match user {
        ConsoleUser::Person => &["-serial", "mon:stdio", "-echr", "0x1d"],
        ConsoleUser::Program => &["-serial", "stdio", "-monitor", "none"],
    };
    args.extend(["-display", "none", "-no-reboot"].iter().chain(console).map(|arg| (*arg).to_owned()));
    args.extend(extra.iter().cloned());
    Ok(QemuCommand { binary: qemu.binary.clone(), args, preload: None })
}

/// An argument that attaches `image`. Boards attach it with `snapshot=on`; of an option that is there twice, QEMU takes
/// the last.
fn medium(arg: &str, image: &Path, writes: Writes) -> String {
    let off = writes == Writes::Kept && arg.contains("={image}");
    fill(arg, "{image}", image) + if off { ",snapshot=off" } else { "" }
}

/// Puts `path` in the place of `placeholder`. Behind a `key=` it is part of a list that commas divide, and QEMU takes
/// a doubled comma for one that is meant.
fn fill(arg: &str, placeholder: &str, path: &Path) -> String {
    let path = path.display().to_string();
    let in_list = arg.contains(&format!("={placeholder}"));
    arg.replace(placeholder, &if in_list { path.replace(',', ",,") } else { path })
}

/// What dom0's init prints when a shell has the console.
const READY: &str = "vambrace-dom0: ready";
/// What begins each line of the self-test.
const SELFTEST: &str = "vambrace-selftest: ";

/// The stages of a boot, by what each prints first. When user space is there the self-test is typed into its shell,
/// which shows that the console works in both directions; with `vambrace.selftest` on its command line dom0 runs it
/// by itself.
fn stages(decision: &Decision) -> Vec<Stage> {
    let by_itself = decision.dom0_args.split_whitespace().any(|word| word == "vambrace.selftest");
    let root = if decision.layout.root().is_some() { " root=ext4" } else { "" };
    let command = format!(
        "/usr/lib/vambrace/selftest cpus={} mem={}{root} poweroff",
        decision.expected_dom0_cpus(),
        decision.dom0_mem.bytes() >> 10
    );
    let stage = |name: &str, marks: &[&str]| Stage {
        name: name.to_owned(),
        speaker: Speaker::Machine,
        any_of: marks.iter().map(|mark| (*mark).to_owned()).collect(),
        send: (marks == [READY] && !by_itself).then(|| command.clone()),
    };
    let mut stages = Vec::new();
    let qemu = decision.board.qemu.as_ref();
    if qemu.is_none_or(|qemu| qemu.loader == Loader::Firmware) {
        let of_medium = |name: &String| {
            decision.board.firmware.get(name).is_some_and(vambrace_bsp::Firmware::is_on_medium)
        };
        if decision.starter == Method::Uboot && decision.starter().firmware.iter().any(of_medium) {
            stages.push(stage("first stage", &["U-Boot SPL 2"]));
        }
        match decision.starter {
            Method::Uboot => stages.push(stage("firmware", &["U-Boot 2"])),
            Method::Uefi => stages.push(stage("firmware", &["UEFI firmware", "BdsDxe:"])),
            Method::Direct => {}
        }
    }
    let hypervisor = decision.kind.traits();
    stages.push(stage("hypervisor", hypervisor.greetings));
    stages.push(stage("dom0 kernel", &["Linux version ", "Booting Linux on physical CPU"]));
    if decision.layout.root().is_some() {
        stages.push(stage("root on the medium", &["vambrace: root file system on"]));
    }
    stages.extend(guests(&decision.guests.config));
    stages.push(stage("dom0 user space", &[READY]));
    stages.push(stage("self-test", &["vambrace-selftest: done"]));
    // QEMU ends, or cannot and is told to when the hypervisor says so.
    let off: &[&str] = if qemu.is_none_or(|qemu| qemu.power_off) { &[] } else { hypervisor.powered_off };
    stages.push(stage("power-off", off));
    stages
}

/// A stage for each guest of which the hypervisor shows that its kernel has begun: a static one with Debian's kernel on
/// the virtual UART. The hypervisor numbers static guests in their order, after dom0.
fn guests(config: &ImageConfig) -> impl Iterator<Item = Stage> {
    (1..).zip(config.static_guests()).filter_map(|(domain, (_, guest))| {
        let shown = guest.vuart && guest.kernel == Module::Debian && guest.args.contains("ttyAMA0");
        shown.then(|| Stage {
            name: format!("kernel of guest `{}`", guest.name),
            speaker: Speaker::Guest(domain),
            any_of: vec!["Linux version ".to_owned()],
            send: None,
        })
    })
}

/// Console lines after which no further stage can come, whatever the hypervisor.
const FAILURES: [&str; 4] = [
    "Kernel panic - not syncing",
    "vambrace: cannot ",
    "make the image anew",
    "vambrace: U-Boot could not start",
];

/// What a followed boot has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The stages that were reached, and when.
    pub reached: Vec<(String, Duration)>,
    /// The self-test's verdicts: name, whether it is well, and what was seen.
    pub verdicts: Vec<(String, bool, String)>,
}

/// Follows a boot to its end.
///
/// # Errors
///
/// The stage that was not reached with the last lines of the console, and what the self-test found wrong.
pub fn check(
    decision: &Decision,
    command: &QemuCommand,
    timeout: Duration,
    log: &Path,
    echo: bool,
    progress: &Progress,
) -> Result<Checked> {
    let failures = FAILURES.iter().chain(decision.kind.traits().failures);
    let failures = failures.map(|failure| (*failure).to_owned()).collect();
    let request = FollowRequest { command, stages: stages(decision), failures, timeout, log, echo };
    let report = follow(request, progress)?;
    judge(&report, log)
}

fn judge(report: &FollowReport, log: &Path) -> Result<Checked> {
    let told = |error: Error| {
        const LAST: usize = 24;
        let silent = report.lines.is_empty();
        let text = if silent { "  the console was silent".to_owned() } else { quoted(&report.lines, LAST) };
        error.snippet(text).help(format!("the whole console is in {}", log.display()))
    };
    if let Some(missed) = &report.missed {
        let what = match report.reason.as_deref().unwrap_or("the console ended") {
            // How the follower words a timeout.
            late if late.starts_with("it was not reached ") => {
                late.replacen("it", &format!("the stage `{missed}`"), 1)
            }
            reason => format!("the stage `{missed}` was not reached: {reason}"),
        };
        return Err(told(Error::new(what)));
    }
    let verdicts = verdicts(&report.lines);
    let bad: Vec<String> = verdicts
        .iter()
        .filter(|(_, well, _)| !well)
        .map(|(name, _, seen)| format!("{name}: {seen}"))
        .collect();
    if !bad.is_empty() {
        return Err(told(Error::new(format!("dom0's self-test found: {}", bad.join("; ")))));
    }
    if verdicts.is_empty() {
        return Err(told(Error::new("dom0's self-test ended without a verdict")));
    }
    Ok(Checked { reached: report.reached.clone(), verdicts })
}

/// The self-test's lines: `vambrace-selftest: <name> ok|fail <what was seen>`. Anything else of that form is a failure:
/// a garbled verdict is none.
fn verdicts(lines: &[String]) -> Vec<(String, bool, String)> {
    lines
        .iter()
        .filter_map(|line| Some(line.split_once(SELFTEST)?.1.trim()))
        .filter(|rest| *rest != "done")
        .map(|rest| {
            let mut words = rest.splitn(3, ' ');
            let name = words.next().unwrap_or_default().to_owned();
            match words.next() {
                Some("ok") => (name, true, words.next().unwrap_or_default().to_owned()),
                Some("fail") => (name, false, words.next().unwrap_or_default().to_owned()),
                _ => (name, false, format!("no verdict in `{rest}`")),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str], missed: Option<&str>) -> FollowReport {
        FollowReport {
            reached: vec![("firmware".into(), Duration::from_secs(1))],
            missed: missed.map(str::to_owned),
            reason: missed.map(|_| "nothing for 5 s".to_owned()),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        }
    }

    #[test]
    fn a_missed_stage_is_named_with_the_last_lines() {
        let error =
            judge(&report(&["U-Boot 2025.01", "hang"], Some("hypervisor")), Path::new("x.log")).unwrap_err();
        let text = error.report();
        assert!(
            text.starts_with("error: the stage `hypervisor` was not reached: nothing for 5 s\n"),
            "{text}"
        );
        assert!(text.contains("  | hang\n") && text.ends_with("x.log"), "{text}");
    }

    #[test]
    fn one_bad_verdict_fails_the_boot() {
        let good = "vambrace-selftest: cpus ok 4 online";
        assert_eq!(
            judge(&report(&[good, "vambrace-selftest: done"], None), Path::new("l")).unwrap().verdicts.len(),
            1
        );
        for bad in ["[ 1.0] vambrace-selftest: memory fail 12 KiB", "vambrace-selftest: memory"] {
            let error = judge(&report(&[good, bad], None), Path::new("l")).unwrap_err();
            assert!(error.what().contains("memory: "), "{error}");
        }
        assert!(judge(&report(&["vambrace-selftest: done"], None), Path::new("l")).is_err());
    }

    #[test]
    fn only_the_medium_s_drive_is_told_to_keep_what_is_written() {
        let drive = "if=none,id=disk,format=raw,snapshot=on,file={image}";
        let kept = "if=none,id=disk,format=raw,snapshot=on,file=/x.img,snapshot=off";
        assert_eq!(medium(drive, Path::new("/x.img"), Writes::Kept), kept);
        assert_eq!(medium(drive, Path::new("/x.img"), Writes::Forgotten), drive.replace("{image}", "/x.img"));
        assert_eq!(medium("-drive", Path::new("/x.img"), Writes::Kept), "-drive");
    }

    #[test]
    fn commas_are_doubled_only_in_lists() {
        assert_eq!(fill("if=none,file={file}", "{file}", Path::new("/a,b")), "if=none,file=/a,,b");
        assert_eq!(fill("{file}", "{file}", Path::new("/a,b")), "/a,b");
    }
}
