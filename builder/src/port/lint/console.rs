//! The console: which UART, whether there is a driver for it, and whether it can be typed at.

use super::super::finding::{Finding, Fix, Level};
use super::super::survey::Survey;
use super::super::uart;
use vambrace_core::platform::tree::Node;

pub(super) fn check(survey: &Survey<'_>, found: &mut Vec<Finding>) {
    let taken = survey.seen().and_then(|platform| platform.console.as_ref());
    let node = match survey.stdout() {
        Some((_, Some(node))) => Some(node),
        Some((text, None)) => {
            nowhere(survey, text, found);
            taken.and_then(|uart| survey.tree.by_path(&uart.path))
        }
        None => {
            let node = taken.and_then(|uart| survey.tree.by_path(&uart.path)).or_else(|| candidate(survey));
            unnamed(survey, node, found);
            node
        }
    };
    let Some(node) = node else { return };
    if uart::driver(node.strings("compatible")).is_none() {
        no_driver(node, found);
    }
    if !node.is_available() {
        found.push(
            Finding::new(
                Level::Warning,
                "console-disabled",
                node.path(),
                format!("the console has status \"{}\"", node.string("status").unwrap_or("")),
                "Firmware that leaves a device off leaves its clock and its pins off too: the hypervisor would speak to nobody.",
            )
            .fix(Fix::amend("where firmware does set it up", &node.path(), &["status = \"okay\";".to_owned()])),
        );
    }
    if taken.is_some_and(|uart| uart.path == node.path() && uart.interrupt.is_none()) {
        found.push(
            Finding::new(
                Level::Warning,
                "console-interrupt",
                node.path(),
                "the console has no interrupt that reaches the GIC",
                "Output works. Input does not: nobody can log in on dom0, nor type at the hypervisor.",
            )
            .fix(Fix::words("give `interrupts = <0 N 4>;` with N the shared interrupt that the SoC's manual has for this UART")),
        );
    }
}

/// The first UART that is on and has a driver.
fn candidate<'t>(survey: &Survey<'t>) -> Option<Node<'t, 't>> {
    survey.tree.nodes().find(|node| {
        node.is_available() && node.has("reg") && uart::driver(node.strings("compatible")).is_some()
    })
}

/// A line with `stdout-path` for a node, in the shape that `/chosen` has or lacks.
fn stdout_path(survey: &Survey<'_>, text: &str, node: Node<'_, '_>) -> Fix {
    let line = format!("stdout-path = \"{}:115200n8\";", node.path());
    match survey.tree.root().child("chosen") {
        Some(_) => Fix::amend(text, "/chosen", &[line]),
        None => Fix::amend(text, "/", &["chosen {".to_owned(), format!("    {line}"), "};".to_owned()]),
    }
}

fn nowhere(survey: &Survey<'_>, text: &str, found: &mut Vec<Finding>) {
    let finding = Finding::new(
        Level::Warning,
        "console-path",
        "/chosen",
        format!("`stdout-path` is \"{text}\", and no node or alias is called that"),
        "The hypervisor goes on to the alias serial0 and the first UART of the tree, which may be another than is wired.",
    );
    found.push(match candidate(survey) {
        Some(node) => finding.fix(stdout_path(survey, "if this is the UART that is wired", node)),
        None => finding,
    });
}

fn unnamed(survey: &Survey<'_>, node: Option<Node<'_, '_>>, found: &mut Vec<Finding>) {
    let finding = match node {
        Some(node) => Finding::new(
            Level::Note,
            "console-path",
            "/chosen",
            format!("no `stdout-path`: the hypervisor takes {}", node.path()),
            "It takes the alias serial0, or else the first UART. `dtuart=PATH` on its command line names another.",
        )
        .fix(stdout_path(survey, "to name it", node)),
        None => Finding::new(
            Level::Warning,
            "console-path",
            "/chosen",
            "no `stdout-path`, and no UART that the hypervisor could take instead",
            "The hypervisor will be silent, and dom0 has no console.",
        )
        .fix(Fix::words(format!("name a UART that there is a driver for: {}", uart::list()))),
    };
    found.push(finding);
}

fn no_driver(node: Node<'_, '_>, found: &mut Vec<Finding>) {
    let names: Vec<&str> = node.strings("compatible").collect();
    let what = if names.is_empty() {
        "the console's node has no `compatible`".to_owned()
    } else {
        format!("there is no driver for the console, {}", names.join(", "))
    };
    found.push(
        Finding::new(
            Level::Warning,
            "console-driver",
            node.path(),
            what,
            "The hypervisor will be silent after its first lines, and dom0's console, which goes through it, too.",
        )
        .fix(Fix::words(format!(
            "name another UART in `stdout-path`, or add its name to the driver that fits, or write one; there are {}",
            uart::list()
        ))),
    );
}
