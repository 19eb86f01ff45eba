//! Traps in the form of the tree rather than in what it says.

use super::super::finding::{Finding, Fix, Level};
use super::super::survey::Survey;

/// The longest name of a node or a property that the Devicetree Specification (2.2.1, 2.2.4) allows.
const NAME_LIMIT: usize = 31;
/// Names shown before the rest is only counted.
const SHOWN: usize = 3;

pub(super) fn check(survey: &Survey<'_>, found: &mut Vec<Finding>) {
    identity(survey, found);
    chosen(survey, found);
    names(survey, found);
}

fn identity(survey: &Survey<'_>, found: &mut Vec<Finding>) {
    if survey.tree.root().strings("compatible").next().is_none() {
        found.push(
            Finding::new(
                Level::Warning,
                "root-compatible",
                "/",
                "the root has no `compatible`",
                "Linux finds the machine by it, and the hypervisor those boards whose CPUs it starts by registers.",
            )
            .fix(Fix::amend("name maker and board", "/", &["compatible = \"maker,board\", \"maker,soc\";".to_owned()])),
        );
    }
}

/// Modules are described in `/chosen`, by cells that it says itself.
fn chosen(survey: &Survey<'_>, found: &mut Vec<Finding>) {
    let root = survey.tree.root();
    let Some(chosen) = root.child("chosen") else { return };
    let of = |name: &'static str| chosen.cell(name).ok().flatten();
    let cells = [of("#address-cells"), of("#size-cells")];
    if cells.iter().flatten().any(|count| !(1..=2).contains(count)) {
        found.push(
            Finding::new(
                Level::Error,
                "chosen-cells",
                chosen.path(),
                format!(
                    "addresses of {} cells and sizes of {}",
                    cells[0].unwrap_or(2),
                    cells[1].unwrap_or(1)
                ),
                "The boot modules stand in `/chosen`, in these cells; 1 and 2 are possible.",
            )
            .fix(Fix::amend("two of each hold any address", "/chosen", &lines(2, 2))),
        );
        return;
    }
    let above = survey.has_ram
        && survey.seen().is_some_and(|platform| platform.ram.iter().any(|bank| bank.end.0 > 1 << 32));
    match cells {
        [Some(1), _] if above => found.push(Finding::new(
            Level::Note,
            "chosen-cells",
            chosen.path(),
            "addresses in `/chosen` have one cell, and there is RAM above 4 GiB",
            "Kernel and ramdisk can only be named below 4 GiB, so they have to be loaded there.",
        )),
        [Some(_), None] | [None, Some(_)] => found.push(
            Finding::new(
                Level::Note,
                "chosen-cells",
                chosen.path(),
                "`/chosen` says one of `#address-cells` and `#size-cells`",
                "The one that it does not say is 2 or 1 by the specification, not the root's count. A boot script that describes modules has to \
                 set both first; images of `vambrace build` do.",
            )
            .fix(Fix::amend("say them", "/chosen", &lines(2, 2))),
        ),
        _ => {}
    }
}

fn lines(address: u32, size: u32) -> [String; 2] {
    [format!("#address-cells = <{address}>;"), format!("#size-cells = <{size}>;")]
}

fn names(survey: &Survey<'_>, found: &mut Vec<Finding>) {
    let mut count = 0;
    let mut first = None;
    let mut shown: Vec<&str> = Vec::new();
    for node in survey.tree.nodes() {
        // Labels are longer, and no part of the hardware's description.
        if node.name().starts_with("__")
            || node.parent().is_some_and(|parent| parent.name().starts_with("__"))
        {
            continue;
        }
        let names =
            std::iter::once(node.base_name()).chain(node.properties().iter().map(|property| property.name));
        for name in names.filter(|name| name.len() > NAME_LIMIT) {
            count += 1;
            first.get_or_insert(node);
            if shown.len() < SHOWN && !shown.contains(&name) {
                shown.push(name);
            }
        }
    }
    if let Some(node) = first {
        found.push(Finding::new(
            Level::Note,
            "long-names",
            node.path(),
            format!(
                "names longer than {NAME_LIMIT} characters: {count}, such as {}",
                shown.join(", ")
            ),
            "The hypervisor, dtc, U-Boot and Linux take them; other tools that keep to the specification refuse the tree.",
        ));
    }
}
