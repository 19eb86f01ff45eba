//! The generic timer's interrupts.

use super::super::finding::{Finding, Fix, Level};
use super::super::survey::Survey;
use vambrace_core::platform::Timer;
use vambrace_core::platform::tree::Node;

/// INTIDs of the secure, physical, virtual and hypervisor timer on nearly every SoC (Arm's Base System Architecture).
const USUAL: [u32; 4] = [29, 30, 27, 26];
/// The same on SoCs of vendors that went their own way, by the prefix of the root's `compatible`.
const OTHERS: [(&str, [u32; 4]); 2] = [("apm,xgene-", [16, 29, 30, 31]), ("qcom,", [17, 18, 19, 16])];
const NAMES: [&str; 2] = ["arm,armv8-timer", "arm,armv7-timer"];

pub(super) fn check(survey: &Survey<'_>, found: &mut Vec<Finding>) {
    let node = survey.tree.nodes().find(|node| node.is_available() && node.is_compatible_any(&NAMES));
    let Some(node) = node else {
        missing(survey, found);
        return;
    };
    let cells = node.property("interrupts").map_or(0, <[u8]>::len) / 4;
    match survey.seen() {
        Some(platform) => {
            odd(survey, node, &platform.timer, found);
            frequency(node, &platform.timer, found);
        }
        // Three cells of the GIC to an interrupt; with more cells, fewer interrupts.
        None if cells < 12 && !node.has("interrupts-extended") => few(survey, node, cells / 3, found),
        None if refused(survey, node) => few(survey, node, cells / 3, found),
        None => {}
    }
    if node.has("arm,cpu-registers-not-fw-configured") {
        found.push(
            Finding::new(
                Level::Warning,
                "timer-firmware",
                node.path(),
                "`arm,cpu-registers-not-fw-configured`: the firmware does not set the timer's registers up",
                "CNTFRQ and CNTVOFF can only be set in the secure state. Where they hold chance values, dom0's clock is wrong.",
            )
            .fix(Fix::words("use firmware that sets CNTFRQ on every CPU and starts the hypervisor in HYP mode, such as a newer U-Boot")),
        );
    }
}

/// Whether the hypervisor stops at this node.
fn refused(survey: &Survey<'_>, node: Node<'_, '_>) -> bool {
    matches!(&survey.platform, Err(error) if error.path == node.path() && error.property == "interrupts")
}

fn source(survey: &Survey<'_>, node: Node<'_, '_>) -> Fix {
    let cells = survey.gic().and_then(|gic| gic.cell("#interrupt-cells").ok().flatten()).unwrap_or(3);
    let flags = survey.ppi_flags(8);
    let rest = " 0".repeat((cells as usize).saturating_sub(3).min(4));
    let all = [13, 14, 11, 10].map(|ppi| format!("<1 {ppi} {flags:#x}{rest}>"));
    Fix::amend(
        "these are the usual four, for secure, physical, virtual and hypervisor timer; compare them with the SoC's manual",
        &node.path(),
        &[format!("interrupts = {};", all.join(", "))],
    )
}

fn missing(survey: &Survey<'_>, found: &mut Vec<Finding>) {
    let off = survey.tree.nodes().find(|node| node.is_compatible_any(&NAMES));
    if let Some(node) = off {
        found.push(
            Finding::new(
                Level::Error,
                "timer-missing",
                node.path(),
                "the generic timer is switched off in the tree",
                "The hypervisor schedules by it, and guests have no other clock. Linux can do with a timer of the SoC's own.",
            )
            .fix(Fix::amend(
                "switch it on; where it was off for a fault of the SoC, or for firmware that does not start it, that comes first",
                &node.path(),
                &["status = \"okay\";".to_owned()],
            )),
        );
        return;
    }
    let flags = survey.ppi_flags(8);
    found.push(
        Finding::new(
            Level::Error,
            "timer-missing",
            "/timer",
            "no generic timer is described",
            "The hypervisor schedules by it, and guests have no other clock.",
        )
        .fix(Fix::amend(
            "where the CPUs have one (Cortex-A7, A15, A17 and every 64-bit core do), with the usual interrupts",
            "/",
            &[
                "timer {".to_owned(),
                "    compatible = \"arm,armv8-timer\", \"arm,armv7-timer\";".to_owned(),
                format!("    interrupts = <1 13 {flags:#x}>, <1 14 {flags:#x}>, <1 11 {flags:#x}>, <1 10 {flags:#x}>;"),
                "};".to_owned(),
            ],
        )),
    );
}

fn few(survey: &Survey<'_>, node: Node<'_, '_>, count: usize, found: &mut Vec<Finding>) {
    found.push(
        Finding::new(
            Level::Error,
            "timer-interrupts",
            node.path(),
            format!("{count} of the four interrupts of the timer can be used"),
            "The hypervisor wakes up by the fourth, its own, and guests by the second and third. It refuses a timer without them.",
        )
        .fix(source(survey, node)),
    );
}

fn odd(survey: &Survey<'_>, node: Node<'_, '_>, timer: &Timer, found: &mut Vec<Finding>) {
    let have = [timer.secure, Some(timer.physical), Some(timer.virtual_), Some(timer.hypervisor)];
    let own = OTHERS.iter().find(|(prefix, _)| survey.is_of(prefix)).map(|(_, numbers)| *numbers);
    let is = |expected: [u32; 4]| {
        have.iter().zip(expected).all(|(have, expected)| have.is_none_or(|have| have == expected))
    };
    if is(USUAL) || own.is_some_and(is) {
        return;
    }
    let list = |numbers: &[Option<u32>]| {
        numbers
            .iter()
            .map(|number| number.map_or("-".to_owned(), |number| number.to_string()))
            .collect::<Vec<_>>()
            .join("/")
    };
    let expected = own.unwrap_or(USUAL).map(Some);
    found.push(
        Finding::new(
            Level::Warning,
            "timer-odd",
            node.path(),
            format!("the timers' INTIDs are {}, where {} were expected", list(&have), list(&expected)),
            "The hypervisor takes what the tree says. If that is wrong, time stands still: the boot hangs when the first CPU waits.",
        )
        .fix(source(survey, node)),
    );
}

fn frequency(node: Node<'_, '_>, timer: &Timer, found: &mut Vec<Finding>) {
    if let Some(frequency) = timer.frequency {
        found.push(Finding::new(
            Level::Note,
            "timer-frequency",
            node.path(),
            format!("`clock-frequency` says {frequency} Hz, in place of what CNTFRQ holds"),
            "Trees do that where firmware leaves CNTFRQ unset. The hypervisor goes by the tree; a guest that reads CNTFRQ itself is misled.",
        ));
    }
}
