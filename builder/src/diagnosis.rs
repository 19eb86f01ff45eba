//! What a boot that was followed shows: which stage it did not reach, why, and what to do about it.

use crate::decision::Decision;
use crate::error::Error;
use crate::hypervisor::HypervisorKind;
use crate::qemu::{FollowReport, quoted};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What begins each line of the self-test.
const SELFTEST: &str = "vambrace-selftest: ";
/// Lines that are shown of a console or a log.
const LAST: usize = 24;

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

impl Fault {
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
        let what = match report.reason.as_deref().unwrap_or("the console ended") {
            // How the follower words a timeout.
            late if late.starts_with("it was not reached ") => {
                late.replacen("it", &format!("the stage `{missed}`"), 1)
            }
            reason => format!("the stage `{missed}` was not reached: {reason}"),
        };
        let advice = advice(&Seen::of(decision, report));
        return (Some(Fault { stage: Some(missed.clone()), what, advice }), verdicts);
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
    /// Whether the time was over; otherwise a line of the console or QEMU's end ended it.
    late: bool,
    lines: &'a [String],
    log: Option<&'a [String]>,
    ours: bool,
    /// The place of the board's description that says where the console is.
    board: &'a str,
    /// Whether the builder stood in for firmware.
    direct: bool,
}

impl<'a> Seen<'a> {
    fn of(decision: &'a Decision, report: &'a FollowReport) -> Self {
        let late = report.reason.as_deref().is_some_and(|reason| reason.starts_with("it was not reached "));
        let qemu = decision.board.qemu.as_ref();
        Self {
            missed: report.missed.as_deref().unwrap_or_default(),
            reached: report.reached.iter().map(|reached| reached.stage.as_str()).collect(),
            late,
            lines: &report.lines,
            log: report.log.as_deref(),
            ours: decision.kind == HypervisorKind::Vambrace,
            board: &decision.board.id,
            direct: qemu.is_some_and(|qemu| qemu.loader == vambrace_bsp::Loader::Direct),
        }
    }

    /// The line with `words`, of the console or of the log.
    fn line(&self, words: &str) -> Option<&str> {
        let both = self.lines.iter().chain(self.log.into_iter().flatten());
        both.map(String::as_str).find(|line| line.contains(words))
    }
}

/// What it may come from that the stage was not reached, and what to do: what is surest first.
fn advice(seen: &Seen<'_>) -> Vec<String> {
    let mut advice = Vec::new();
    let mut say = |text: String| advice.push(text);
    if let Some(line) = seen.line("PANIC on CPU") {
        say(format!(
            "the hypervisor found a defect in itself: `{}`; the file and line there are of its sources",
            line.trim()
        ));
        return advice;
    }
    if let Some(line) = seen.line("Kernel panic - not syncing") {
        say(format!("the kernel has ended: `{}`; what it says before that is why", line.trim()));
    }
    let hypervisor = seen.reached.contains(&"hypervisor");
    match (seen.missed, seen.log) {
        ("first stage" | "firmware", _) => say(
            "the firmware is silent: is its file the board's, and its serial port the console of QEMU's machine?".into(),
        ),
        ("hypervisor", Some(_)) => say(format!(
            "the hypervisor runs, as its log in memory shows, but its console is silent: see `[console]` of the board {}: driver, base, reg-shift",
            seen.board
        )),
        ("hypervisor", None) => say(match seen.direct {
            true => "the hypervisor says nothing, and there is no log of it in memory: it was not started, or ended with its first instructions; is it compiled for this board, and loaded to where it may be?".into(),
            false => "the firmware ran, and of the hypervisor there is neither a word nor a log in memory: see above what the firmware says of the files that it loads, and `vambrace explain` for where they belong in RAM".into(),
        }),
        ("dom0 kernel", _) if seen.late => {
            say("dom0's kernel was started and says nothing: its load address, its device tree, or `console=` on its command line".into());
            if let Some(line) = seen.line("Dom0: ") {
                say(format!("where the hypervisor put it: `{}`", line.trim()));
            }
        }
        ("dom0 user space", _) if seen.late => say(
            "dom0's kernel hangs: its last line says at what. Where it waits for a timer or a device, their interrupts do not reach it".into(),
        ),
        ("power-off", _) if seen.late => say(
            "dom0 was told to power off and the machine still runs: the hypervisor did not end it, or a guest keeps dom0 from ending".into(),
        ),
        (missed, _) if seen.late && missed.starts_with("kernel of guest") => {
            say("the guest's kernel says nothing: is it given a console, and is it in the image?".into());
        }
        _ => {}
    }
    if seen.late && seen.ours && hypervisor && seen.log.is_none() {
        say("the hypervisor's log is not in memory any more: something has written over it".into());
    }
    advice
}

/// The self-test's lines: `vambrace-selftest: <name> ok|fail <what was seen>`. Anything else of that form is a failure:
/// a garbled verdict is none.
fn verdicts(lines: &[String]) -> Vec<SelfTest> {
    lines
        .iter()
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
            log: None,
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
        silent.log = Some(vec!["(VMB) PANIC on CPU 1: at core/x.rs:3".into()]);
        let text = said(&silent);
        assert!(text.contains("a defect in itself: `(VMB) PANIC on CPU 1: at core/x.rs:3`"), "{text}");
    }

    #[test]
    fn each_stage_has_advice_of_its_own_when_the_time_is_over() {
        let mut all: Vec<String> = Vec::new();
        for stage in
            ["firmware", "hypervisor", "dom0 kernel", "dom0 user space", "power-off", "kernel of guest `a`"]
        {
            let (fault, _) = diagnose(&decision(), &report(&["x"], Some(stage), LATE));
            all.extend(fault.unwrap().advice);
        }
        assert_eq!(all.len(), 6, "{all:?}");
        all.dedup();
        assert_eq!(all.len(), 6, "{all:?}");
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
    }
}
