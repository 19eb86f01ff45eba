//! What a boot that was followed shows: which stage it did not reach, why, and what to do about it.

use crate::decision::Decision;
use crate::error::Error;
use crate::hypervisor::HypervisorKind;
use crate::qemu::{CpuSeen, FollowReport, Looked, Speaker, Starts, quoted};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What begins each line of the self-test.
pub(crate) const SELFTEST: &str = "vambrace-selftest: ";
/// Lines that are shown of a console or a log.
const LAST: usize = 24;
/// What begins a line of the hypervisor's.
const OURS: &str = "(VMB) ";
/// What the hypervisor says when it ends of itself, behind why.
const STOPPED: [&str; 2] = ["(VMB) Halted", "(VMB) Resetting the machine in "];
/// What begins a line of its about a vCPU of dom0's, and what it says in one of where nothing is to be run.
const OF_DOM0: &str = "(VMB) d0v";
const NO_CODE: &str = "instruction fetch from ";
/// What it says first where that is a defect of its own.
const PANIC: &str = "PANIC on CPU ";
/// What Linux says last before it calls for power-off.
const GIVEN_UP: &str = "reboot: Power down";
/// Lines that are taken of what it says then.
const LAST_WORDS: usize = 6;
/// CPUs of which it is told where they are.
const SHOWN_CPUS: usize = 8;
/// Bytes of a table of exception vectors (Arm DDI 0487, D1.3.1.5), which lies at 0 where nobody has put it elsewhere.
const VECTORS: u64 = 0x800;
/// So many of the last lines of the hypervisor's log that the console lacks are no accident.
const UNHEARD: usize = 3;

/// One verdict of dom0's self-test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTest {
    /// What was tested.
    pub name: String,
    /// Whether it is well.
    pub well: bool,
    /// What was seen.
    pub seen: String,
}

/// Why a boot is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The stage that was not reached; `None` where all were, and dom0 found something wrong.
    pub stage: Option<String>,
    /// What happened, in a sentence.
    pub what: String,
    /// What it may come from, and what to do.
    pub advice: Vec<String>,
}

/// Where what fails is not the boot: there was none.
pub(crate) const UNMADE: [&str; 3] = ["plan", "image", "machine"];

impl Fault {
    /// Whether there was no boot that could fail: nothing to boot, or nothing to boot it on.
    pub fn is_unmade(&self) -> bool {
        self.stage.as_deref().is_some_and(|stage| UNMADE.contains(&stage))
    }

    /// The fault as an error, with the last lines of the console and of the hypervisor's log.
    pub(crate) fn into_error(self, report: &FollowReport, log: &Path) -> Error {
        let mut text = match report.lines.is_empty() {
            true => "  the console was silent".to_owned(),
            false => quoted(&report.lines, LAST),
        };
        if let Some(log) = &report.log {
            text.push_str("\n  the hypervisor's log, found in the machine's memory:\n");
            text.push_str(&quoted(log, LAST));
        }
        let told = Error::new(self.what).snippet(text);
        let told = self.advice.into_iter().fold(told, Error::help);
        told.help(format!("the whole console is in {}", log.display()))
    }
}

/// The fault of a boot, if it has one, and the self-test's verdicts.
pub fn diagnose(decision: &Decision, report: &FollowReport) -> (Option<Fault>, Vec<SelfTest>) {
    let verdicts = verdicts(&report.lines);
    if let Some(missed) = &report.missed {
        let seen = Seen::of(decision, report);
        let what = match (report.reason.as_deref().unwrap_or("the console ended"), &seen.end) {
            (late, _) if seen.late => late.replacen("it", &format!("the stage `{missed}`"), 1),
            (reason, Some(end)) if STOPPED.iter().any(|stopped| reason.contains(stopped)) => {
                format!("the stage `{missed}` was not reached: the hypervisor stopped: {end}")
            }
            (reason, _) => format!("the stage `{missed}` was not reached: {reason}"),
        };
        return (Some(Fault { stage: Some(missed.clone()), what, advice: advice(&seen) }), verdicts);
    }
    let bad: Vec<String> = verdicts
        .iter()
        .filter(|verdict| !verdict.well)
        .map(|verdict| format!("{}: {}", verdict.name, verdict.seen))
        .collect();
    let what = match (bad.is_empty(), verdicts.is_empty()) {
        (false, _) => format!("dom0's self-test found: {}", bad.join("; ")),
        (true, true) => "dom0's self-test ended without a verdict".to_owned(),
        (true, false) => return (None, verdicts),
    };
    (Some(Fault { stage: None, what, advice: Vec::new() }), verdicts)
}

/// What of a boot tells why it came no further.
struct Seen<'a> {
    missed: &'a str,
    reached: Vec<&'a str>,
    /// Why the stage was missed.
    reason: &'a str,
    /// Whether the time was over; otherwise a line of the console or QEMU's end ended it.
    late: bool,
    lines: &'a [String],
    starts: Starts,
    looked: &'a Looked,
    log: Option<&'a [String]>,
    /// What of dom0 is not where the hypervisor says that it is.
    misplaced: &'a [String],
    cpus: &'a [CpuSeen],
    ours: bool,
    /// The place of the board's description that says where the console is.
    board: &'a str,
    /// Whether the builder stood in for firmware.
    direct: bool,
    /// Why the hypervisor ended of itself, if it did: its own words.
    end: Option<String>,
}

impl<'a> Seen<'a> {
    fn of(decision: &'a Decision, report: &'a FollowReport) -> Self {
        let reason = report.reason.as_deref().unwrap_or_default();
        let qemu = decision.board.qemu.as_ref();
        Self {
            missed: report.missed.as_deref().unwrap_or_default(),
            reached: report.reached.iter().map(|reached| reached.stage.as_str()).collect(),
            reason,
            // How the follower words it.
            late: reason.starts_with("it was not reached "),
            lines: &report.lines,
            starts: report.starts,
            looked: &report.looked,
            log: report.log.as_deref(),
            misplaced: &report.misplaced,
            cpus: &report.cpus,
            ours: decision.kind == HypervisorKind::Vambrace,
            board: &decision.board.id,
            direct: qemu.is_some_and(|qemu| qemu.loader == vambrace_bsp::Loader::Direct),
            end: last_words(&report.lines).or_else(|| last_words(report.log.as_deref()?)),
        }
    }

    /// The line with `words`, of the console or of the log.
    fn line(&self, words: &str) -> Option<&str> {
        let both = self.lines.iter().chain(self.log.into_iter().flatten());
        both.map(String::as_str).find(|line| is_own(line) && line.contains(words))
    }

    /// The end of a sentence about what the console said last.
    fn at_last(&self) -> String {
        let last = self.lines.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty());
        last.map_or_else(|| "the console has no line".to_owned(), |line| format!("its last line: `{line}`"))
    }

    /// Where the CPUs are: `CPU 0 at 0x200 in EL1`.
    fn places(&self) -> Option<String> {
        let of =
            |(number, cpu): (usize, &CpuSeen)| format!("CPU {number} at {:#x} in EL{}", cpu.pc, cpu.level);
        let places: Vec<String> = self.cpus.iter().enumerate().take(SHOWN_CPUS).map(of).collect();
        (!places.is_empty()).then(|| places.join(", "))
    }

    /// Whether a CPU is among the first vectors: what runs there had an exception and has not said where they are to lead.
    fn is_lost(&self) -> bool {
        self.cpus.iter().any(|cpu| cpu.level == 1 && cpu.pc < VECTORS)
    }

    /// The last line of the hypervisor's log, where the console has none of its last ones: it has fallen silent.
    fn unheard(&self) -> Option<&str> {
        let mut last = self.log?.iter().rev().map(|line| line.trim()).filter(|line| line.starts_with(OURS));
        let newest = last.clone().next()?;
        let heard = |line: &str| self.lines.iter().any(|there| there.contains(line));
        let enough = last.clone().nth(UNHEARD - 1).is_some();
        (enough && !last.by_ref().take(UNHEARD).any(heard)).then_some(newest)
    }
}

/// What the hypervisor said behind its last whole line before it stopped: why it did. A panic has several lines.
fn last_words(lines: &[String]) -> Option<String> {
    let stopped =
        lines.iter().position(|line| is_own(line) && STOPPED.iter().any(|stopped| line.contains(stopped)));
    let end = stopped.unwrap_or(lines.len());
    let is_last = |line: &String| match stopped {
        Some(_) => is_own(line) && line.contains(OURS),
        None => is_own(line) && line.contains(PANIC),
    };
    let begin = lines.get(..end)?.iter().rposition(is_last)?;
    let words: Vec<&str> = lines.get(begin..end)?.iter().take(LAST_WORDS).map(|line| line.trim()).collect();
    let words = words.join(" ");
    Some(words.split_once(OURS).map_or(words.as_str(), |(_, words)| words).trim().to_owned())
}

/// What it may come from that the stage was not reached, and what to do: what is surest first.
fn advice(seen: &Seen<'_>) -> Vec<String> {
    let mut advice = Vec::new();
    let mut say = |text: String| advice.push(text);
    let board = seen.board;
    match &seen.end {
        Some(end) if end.starts_with(PANIC) => {
            say(format!(
                "the hypervisor found a defect in itself: `{end}`; the file and line there are of its sources, and what holds no more is said behind them"
            ));
            return advice;
        }
        Some(end) => {
            say(format!(
                "the hypervisor does not go on with what it was given: `{end}`; `vambrace explain {board}` shows what it is given, and where"
            ));
            return advice;
        }
        None => {}
    }
    if let Some(line) = seen.line("Kernel panic - not syncing") {
        say(format!("the kernel has ended: `{}`; what it says before that is why", line.trim()));
    }
    if seen.reason.starts_with("QEMU ended with status 0") {
        say(format!("the machine was reset or turned off before that; {}", seen.at_last()));
    } else if seen.reason.starts_with("QEMU ended with status ") {
        say(format!(
            "QEMU does not take its command line, or has ended by a defect of its own: `vambrace boot {board} --print` shows the command, and `[qemu]` of the board has what is particular to it"
        ));
    } else if seen.reason.starts_with("QEMU was ended by signal ") {
        say("something outside of the machine has ended QEMU: somebody, or Linux for want of memory, which `dmesg` says; fewer boots at once (--jobs) need less".into());
    }
    if let Some(line) = seen.line(OF_DOM0) {
        say(format!("the hypervisor says of dom0: `{}`", line.trim()));
    }
    let hypervisor = seen.reached.contains(&"hypervisor");
    if let Some(newest) = seen.unheard().filter(|_| seen.late && hypervisor) {
        say(format!(
            "the console has fallen silent, and the hypervisor runs on: its log in memory goes on to `{newest}`, which the console does not have. See `[console]` of the board {board}, driver, base, reg-shift, and the driver itself"
        ));
        return advice;
    }
    match (seen.missed, seen.log) {
        ("first stage" | "firmware", _) if seen.late && seen.starts == Starts::Lab => say(
            "the firmware is silent: is the place's serial line that of the board, at its speed, and does the board start from the medium that was written?".into(),
        ),
        ("first stage" | "firmware", _) if seen.late => say(
            "the firmware is silent: is its file the board's, and its serial port the console of QEMU's machine?".into(),
        ),
        ("hypervisor", Some(_)) => say(format!(
            "the hypervisor runs, as its log in memory shows, but its console is silent: see `[console]` of the board {board}: driver, base, reg-shift"
        )),
        ("hypervisor", None) if seen.late && *seen.looked != Looked::Yes => say(match seen.direct {
            true => "the hypervisor says nothing: is it compiled for this board, and loaded to where it may be?".into(),
            false => format!("the firmware ran, and the hypervisor says nothing: see above what the firmware says of the files that it loads, `vambrace explain` for where they belong in RAM, and `[console]` of the board {board}"),
        }),
        ("hypervisor", None) if seen.late => say(match seen.direct {
            true => "the hypervisor says nothing, and there is no log of it in memory: it was not started, or ended with its first instructions; is it compiled for this board, and loaded to where it may be?".into(),
            false => "the firmware ran, and of the hypervisor there is neither a word nor a log in memory: see above what the firmware says of the files that it loads, and `vambrace explain` for where they belong in RAM".into(),
        }),
        ("dom0 kernel", _) if seen.late => {
            match seen.misplaced {
                [] => say("dom0's kernel was started and says nothing: its load address, its device tree, or `console=` on its command line".into()),
                misplaced => say(format!(
                    "dom0's kernel was started and says nothing, and in memory {}; if no kernel has run there since, the hypervisor did not put it there as it should",
                    misplaced.join("; ")
                )),
            }
            if seen.is_lost() || seen.line(OF_DOM0).is_some_and(|line| line.contains(NO_CODE)) {
                say("it ran to where there is no code of its, before it could say a word: it was begun at a wrong place, or what is there is no kernel".into());
            }
            if let Some(line) = seen.line("Dom0: ") {
                say(format!("where the hypervisor put it: `{}`", line.trim()));
            }
        }
        ("dom0 user space", _) if seen.late => say(format!(
            "dom0's kernel hangs; {}. Where it waits for a timer or a device, their interrupts do not reach it; where it calls the hypervisor, the call does not end",
            seen.at_last()
        )),
        ("power-off", _) => match seen.line(GIVEN_UP) {
            Some(_) => say(format!(
                "dom0's kernel ended and called for power-off (`{GIVEN_UP}`), and the hypervisor did not turn the machine off{}",
                if seen.late { "" } else { ": the kernel came back from its call, which it cannot" }
            )),
            None if seen.late => say(format!(
                "dom0 was told to power off and its kernel has not come to that: a service or a guest keeps it from ending; {}",
                seen.at_last()
            )),
            None => {}
        },
        (missed, _) if seen.late && missed.starts_with("kernel of guest") => {
            say("the guest's kernel says nothing: is it given a console, and is it in the image?".into());
        }
        // The self-test, and what a scenario asks for.
        (missed, _) if seen.late && seen.reached.contains(&"dom0 user space") => say(format!(
            "dom0's shell was there, and `{missed}` does not come to its end; {}. What comes next waits for something that never comes: where that is time, or a device, their interrupts do not reach dom0",
            seen.at_last()
        )),
        _ => {}
    }
    if let Some(places) =
        seen.places().filter(|_| matches!(seen.missed, "hypervisor" | "dom0 kernel" | "dom0 user space"))
    {
        say(format!("where the machine stood when the time was over: {places} (EL2 is the hypervisor)"));
    }
    match seen.looked {
        Looked::Failed(why) => say(format!("the machine's memory could not be looked into: {why}")),
        Looked::Yes if seen.ours && hypervisor && seen.log.is_none() => {
            say("the hypervisor's log was not found in memory: something has written over it".into());
        }
        Looked::Yes | Looked::No => {}
    }
    advice
}

/// Whether no guest says the line: what one says is nobody else's word.
fn is_own(line: &str) -> bool {
    Speaker::of(line) == Speaker::Machine
}

/// The self-test's lines: `vambrace-selftest: <name> ok|fail <what was seen>`. Anything else of that form is a failure:
/// a garbled verdict is none.
fn verdicts(lines: &[String]) -> Vec<SelfTest> {
    lines
        .iter()
        .filter(|line| is_own(line))
        .filter_map(|line| Some(line.split_once(SELFTEST)?.1.trim()))
        .filter(|rest| *rest != "done")
        .map(|rest| {
            let mut words = rest.splitn(3, ' ');
            let name = words.next().unwrap_or_default().to_owned();
            let (well, seen) = match words.next() {
                Some("ok") => (true, words.next().unwrap_or_default().to_owned()),
                Some("fail") => (false, words.next().unwrap_or_default().to_owned()),
                _ => (false, format!("no verdict in `{rest}`")),
            };
            SelfTest { name, well, seen }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Request;
    use crate::qemu::Reached;
    use crate::workspace::Workspace;
    use std::time::Duration;

    fn decision() -> Decision {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let workspace = Workspace::open(Some(root), None).unwrap();
        Decision::new(&workspace, &Request { board: "qemu-arm64".into(), ..Request::default() }).unwrap()
    }

    fn report(lines: &[&str], missed: Option<&str>, reason: &str) -> FollowReport {
        let (wall, machine) = (Duration::from_secs(1), Duration::from_secs(1));
        FollowReport {
            reached: vec![Reached { stage: "firmware".into(), wall, machine }],
            missed: missed.map(str::to_owned),
            reason: missed.map(|_| reason.to_owned()),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            messages: String::new(),
            starts: Starts::Emulator,
            looked: Looked::Yes,
            log: None,
            misplaced: Vec::new(),
            cpus: Vec::new(),
        }
    }

    const LATE: &str = "it was not reached within 300 seconds";

    #[test]
    fn a_missed_stage_is_named_with_the_last_lines() {
        let report = report(&["U-Boot 2025.01", "hang"], Some("hypervisor"), "nothing came");
        let (fault, _) = diagnose(&decision(), &report);
        let text = fault.unwrap().into_error(&report, Path::new("x.log")).report();
        assert!(text.starts_with("error: the stage `hypervisor` was not reached: nothing came\n"), "{text}");
        assert!(text.contains("  | hang\n") && text.ends_with("x.log"), "{text}");
    }

    #[test]
    fn a_silent_console_is_answered_with_the_log_in_memory() {
        let mut silent = report(&[], Some("hypervisor"), LATE);
        let said = |report: &FollowReport| {
            let (fault, _) = diagnose(&decision(), report);
            fault.unwrap().into_error(report, Path::new("x.log")).report()
        };
        let text = said(&silent);
        assert!(text.contains("neither a word nor a log in memory"), "{text}");
        assert!(text.contains("the stage `hypervisor` was not reached within 300 seconds"), "{text}");
        silent.log = Some(vec!["(VMB) Vambrace 0.1.0".into()]);
        let text = said(&silent);
        assert!(
            text.contains("  | (VMB) Vambrace 0.1.0") && text.contains("its console is silent"),
            "{text}"
        );
        silent.log = Some(
            ["(VMB) Vambrace 0.1.0", "(VMB) PANIC on CPU 1: at core/x.rs:3", "why"].map(String::from).into(),
        );
        let text = said(&silent);
        assert!(text.contains("a defect in itself: `PANIC on CPU 1: at core/x.rs:3 why`"), "{text}");
    }

    #[test]
    fn a_hypervisor_that_stopped_is_told_with_its_last_words() {
        let said = |lines: &[&str]| {
            let last = lines.last().copied().unwrap_or_default();
            let report = report(lines, Some("dom0 kernel"), &format!("the console says `{last}`"));
            let fault = diagnose(&decision(), &report).0.unwrap();
            (fault.what, fault.advice.join("\n"))
        };
        let panic =
            ["(VMB) Vambrace", "(VMB) PANIC on CPU 0: panicked at core/x.rs:3:5:", "left: 1", "(VMB) Halted"];
        let (what, advice) = said(&panic);
        assert!(what.ends_with("stopped: PANIC on CPU 0: panicked at core/x.rs:3:5: left: 1"), "{what}");
        assert!(advice.contains("a defect in itself"), "{advice}");
        let refusal =
            ["(VMB) Vambrace", "(VMB) Cannot boot: no kernel", "(VMB) Resetting the machine in 5 s"];
        let (what, advice) = said(&refusal);
        assert!(what.ends_with("the hypervisor stopped: Cannot boot: no kernel"), "{what}");
        assert!(advice.contains("vambrace explain qemu-arm64"), "{advice}");
        let (what, advice) = said(&["(VMB) Halted"]);
        assert!(what.ends_with("the console says `(VMB) Halted`") && advice.is_empty(), "{what} {advice}");
    }

    #[test]
    fn a_console_that_falls_silent_is_told_from_a_kernel_that_does() {
        let log = ["(VMB) one", "(VMB) two", "(d1) guest", "(VMB) three", "(VMB) four"];
        let said = |heard: &[&str]| {
            let mut report = report(heard, Some("dom0 kernel"), LATE);
            report.reached.push(Reached { stage: "hypervisor".into(), ..report.reached[0].clone() });
            report.log = Some(log.map(String::from).into());
            diagnose(&decision(), &report).0.unwrap().advice.join("\n")
        };
        let silent = said(&["(VMB) one"]);
        assert!(silent.contains("goes on to `(VMB) four`") && !silent.contains("load address"), "{silent}");
        let well = said(&log);
        assert!(!well.contains("silent") && well.contains("load address"), "{well}");
        assert!(said(&log[..4]).contains("load address"), "the last line may have come too late");
    }

    #[test]
    fn a_silent_kernel_is_told_with_what_is_in_the_machine() {
        let mut report = report(&["(VMB) one"], Some("dom0 kernel"), LATE);
        let advice = |report: &FollowReport| diagnose(&decision(), report).0.unwrap().advice.join("\n");
        assert!(!advice(&report).contains("in memory") && !advice(&report).contains("EL"));
        report.misplaced = vec!["there is no kernel at 0x8000".into()];
        report.cpus = vec![CpuSeen { pc: 0x200, level: 1 }, CpuSeen { pc: 0x4000_0000, level: 2 }];
        let text = advice(&report);
        assert!(text.contains("in memory there is no kernel at 0x8000;"), "{text}");
        assert!(text.contains("begun at a wrong place"), "{text}");
        assert!(text.contains("CPU 0 at 0x200 in EL1, CPU 1 at 0x40000000 in EL2"), "{text}");
        report.cpus[0].pc = 0x4280_0000;
        assert!(!advice(&report).contains("begun at a wrong place"));
        report.lines.push("(VMB) d0v0: instruction fetch from 0x200, where nothing is".into());
        let text = advice(&report);
        assert!(
            text.contains("begun at a wrong place") && text.contains("says of dom0: `(VMB) d0v0: "),
            "{text}"
        );
    }

    #[test]
    fn a_machine_that_stays_on_is_dom0_s_doing_or_the_hypervisor_s() {
        let advice = |lines: &[&str], reason: &str| {
            diagnose(&decision(), &report(lines, Some("power-off"), reason)).0.unwrap().advice.join("\n")
        };
        let waits = advice(&["stopping"], LATE);
        assert!(waits.contains("keeps it from ending; its last line: `stopping`"), "{waits}");
        let given_up = advice(&["[ 8.3] reboot: Power down"], LATE);
        assert!(given_up.ends_with("the hypervisor did not turn the machine off"), "{given_up}");
        let panic = "[ 9.3] Kernel panic - not syncing: Attempted to kill init! exitcode=0";
        let back = advice(&["[ 8.3] reboot: Power down", panic], &format!("the console says `{panic}`"));
        assert!(
            back.contains("came back from its call") && back.contains("Attempted to kill init"),
            "{back}"
        );
    }

    #[test]
    fn the_end_of_qemu_is_told_from_that_of_what_runs_in_it() {
        for (reason, advice) in [
            (
                "QEMU ended with status 0: it said nothing",
                "reset or turned off before that; its last line: `last`",
            ),
            ("QEMU ended with status 1: no such machine", "vambrace boot qemu-arm64 --print"),
            ("QEMU was ended by signal 9: it said nothing", "--jobs"),
        ] {
            let report = report(&["last", " "], Some("firmware"), reason);
            let all = diagnose(&decision(), &report).0.unwrap().advice;
            assert!(all.len() == 1 && all[0].contains(advice), "{all:?}");
        }
    }

    #[test]
    fn each_stage_has_advice_of_its_own_when_the_time_is_over() {
        let mut all: Vec<String> = Vec::new();
        for stage in [
            "firmware",
            "hypervisor",
            "dom0 kernel",
            "dom0 user space",
            "self-test",
            "power-off",
            "kernel of guest `a`",
        ] {
            let mut report = report(&["x"], Some(stage), LATE);
            if stage == "self-test" {
                report.reached.push(Reached { stage: "dom0 user space".into(), ..report.reached[0].clone() });
            }
            let (fault, _) = diagnose(&decision(), &report);
            all.extend(fault.unwrap().advice);
        }
        assert_eq!(all.len(), 7, "{all:?}");
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 7, "{all:?}");
    }

    #[test]
    fn one_bad_verdict_fails_the_boot() {
        let good = "vambrace-selftest: cpus ok 4 online";
        let judged = |lines: &[&str]| diagnose(&decision(), &report(lines, None, ""));
        let (fault, verdicts) = judged(&[good, "vambrace-selftest: done"]);
        assert_eq!((fault, verdicts.len()), (None, 1));
        for bad in ["[ 1.0] vambrace-selftest: memory fail 12 KiB", "vambrace-selftest: memory"] {
            let (fault, _) = judged(&[good, bad]);
            assert!(fault.unwrap().what.contains("memory: "));
        }
        assert!(judged(&["vambrace-selftest: done"]).0.is_some());
        // A guest's word is none of dom0's.
        let guest = "(d1) vambrace-selftest: memory fail";
        assert_eq!(judged(&[good, guest, "vambrace-selftest: done"]).0, None);
        assert!(judged(&["(d1) vambrace-selftest: cpus ok", "vambrace-selftest: done"]).0.is_some());
        let panic = report(&["(d1) (VMB) PANIC on CPU 0: x"], Some("power-off"), LATE);
        assert!(!diagnose(&decision(), &panic).0.unwrap().advice.concat().contains("defect in itself"));
    }
}
