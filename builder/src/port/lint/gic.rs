//! The interrupt controller: what the hypervisor needs of it beyond what Linux needs.

use super::super::finding::{Finding, Fix, Level};
use super::super::survey::{Registers, Survey};
use vambrace_bsp::Architecture;
use vambrace_core::platform::tree::Node;
use vambrace_core::platform::{Gic, GicFrames};

/// The CPU interface is two pages: GICC_DIR, by which interrupts are deactivated, is the first register of the second.
const GICC_BYTES: u64 = 0x2000;
/// Where X-Gene's GIC lies in the secure view, and its regions in the non-secure one: GICD, GICC, GICH, GICV.
const XGENE_SECURE: u64 = 0x7801_0000;
const XGENE: [(u64, u64); 4] =
    [(0x7809_0000, 0x1_0000), (0x780a_0000, 0x2_0000), (0x780c_0000, 0x1_0000), (0x780e_0000, 0x2_0000)];

pub(super) fn check(survey: &Survey<'_>, found: &mut Vec<Finding>) {
    let Some(node) = survey.gic() else {
        none(survey, found);
        return;
    };
    let version3 = node.is_compatible("arm,gic-v3");
    if version3 && survey.architecture == Some(Architecture::Armv7) {
        found.push(
            Finding::new(
                Level::Error,
                "gic-architecture",
                node.path(),
                "the hypervisor drives a GICv3 on 64-bit machines only",
                "On ARMv7 it needs a GICv2.",
            )
            .fix(Fix::words("none in the tree")),
        );
    }
    let registers = Registers::of(node);
    let secure = secure_view(survey, node, registers.as_ref(), found);
    if !version3 && !secure && !regions(node, registers.as_ref(), found) {
        other_name(survey, node, found);
    }
    let Some(platform) = survey.seen() else { return };
    if !secure {
        interface(node, &platform.gic, registers.as_ref(), found);
    }
    maintenance(survey, node, &platform.gic, found);
    parent(survey, node, found);
}

/// No GIC, but perhaps something else.
fn none(survey: &Survey<'_>, found: &mut Vec<Finding>) {
    let controller = survey.tree.nodes().find(|node| {
        node.is_available()
            && node.has("interrupt-controller")
            && node.has("#interrupt-cells")
            && !node.has("gpio-controller")
    });
    let (path, what) = match controller {
        Some(node) => {
            let name = node.strings("compatible").next().unwrap_or("an unnamed controller");
            (node.path(), format!("the interrupt controller is {name}, not a GIC"))
        }
        None => ("/".to_owned(), "no interrupt controller is described".to_owned()),
    };
    found.push(
        Finding::new(
            Level::Error,
            "gic-missing",
            path,
            what,
            "Guests' interrupts go through a GICv2 with virtualization extensions or a GICv3; the hypervisor has no other way.",
        )
        .fix(Fix::words("none, unless the SoC has a GIC that the tree does not describe")),
    );
}

/// X-Gene's tree in Linux has the view that only secure software may use.
fn secure_view(
    survey: &Survey<'_>,
    node: Node<'_, '_>,
    registers: Option<&Registers>,
    found: &mut Vec<Finding>,
) -> bool {
    let at = registers.and_then(|registers| registers.entries.first()).map(|entry| entry.0);
    if at != Some(XGENE_SECURE) || !survey.is_of("apm,") {
        return false;
    }
    let fix = match registers {
        Some(registers) => Fix::amend(
            "give the non-secure view, as newer firmware does by itself",
            &node.path(),
            &[registers.source(&XGENE)],
        ),
        None => Fix::words("give the non-secure view: 0x78090000, 0x780a0000, 0x780c0000, 0x780e0000"),
    };
    found.push(
        Finding::new(
            Level::Error,
            "gic-secure-view",
            node.path(),
            "0x78010000 is X-Gene's GIC as secure software sees it",
            "The hypervisor is not secure: there it would see other registers than it means to, and no interrupt would come.",
        )
        .fix(fix),
    );
    true
}

/// A GICv2 that has everything, by a name that the hypervisor does not know.
fn other_name(survey: &Survey<'_>, node: Node<'_, '_>, found: &mut Vec<Finding>) {
    let unknown = matches!(&survey.platform, Err(error) if error.path == "/" && error.property.is_empty());
    if !unknown {
        return;
    }
    let names: Vec<&str> = node.strings("compatible").collect();
    let quoted: Vec<String> =
        names.iter().chain(["arm,gic-400"].iter()).map(|name| format!("\"{name}\"")).collect();
    found.push(
        Finding::new(
            Level::Error,
            "gic-name",
            node.path(),
            format!("the hypervisor does not know {} for a GIC", names.join(", ")),
            "It has the four regions of a GICv2 that can run guests, and may be one by another name.",
        )
        .fix(Fix::amend(
            "where the SoC's manual says so",
            &node.path(),
            &[format!("compatible = {};", quoted.join(", "))],
        )),
    );
}

/// GICH and GICV of a GICv2. Gives whether they are missing.
fn regions(node: Node<'_, '_>, registers: Option<&Registers>, found: &mut Vec<Finding>) -> bool {
    let Some(registers) = registers else { return false };
    let filled = registers.entries.iter().filter(|entry| entry.1 != 0).count();
    if filled >= 4 {
        return false;
    }
    // Where the CPU interface follows 4 KiB behind the distributor, the block is that of Arm's own GIC-400, Cortex-A7
    // and Cortex-A15, whose other two regions follow at 16 and 24 KiB from the block's start.
    let fix = match registers.entries.as_slice() {
        [(gicd, _), (gicc, _), ..] if gicd.checked_add(0x1000) == Some(*gicc) && gicd & 0x7fff == 0x1000 => {
            let base = gicd - 0x1000;
            let all =
                [(*gicd, 0x1000), (*gicc, GICC_BYTES), (base + 0x4000, 0x2000), (base + 0x6000, 0x2000)];
            Fix::amend(
                "where the SoC's manual shows a GIC-400 or the GIC of Cortex-A7 or A15 there, these are its four regions",
                &node.path(),
                &[registers.source(&all)],
            )
        }
        _ => Fix::words(
            "take the addresses of GICH and GICV from the SoC's manual, and add them to `reg` in this order: GICD, GICC, GICH, GICV",
        ),
    };
    found.push(
        Finding::new(
            Level::Error,
            "gic-regions",
            node.path(),
            format!("`reg` has {filled} of the four regions of a GICv2 that can run guests: GICH or GICV are missing"),
            "The hypervisor hands guests their interrupts through GICH, and GICV is what they see in place of GICC.",
        )
        .fix(fix),
    );
    true
}

/// The size of the CPU interface.
fn interface(node: Node<'_, '_>, gic: &Gic, registers: Option<&Registers>, found: &mut Vec<Finding>) {
    let GicFrames::V2 { gicd, gicc, gicv, .. } = &gic.frames else { return };
    if gicc.page_outer().size() >= GICC_BYTES && gicv.page_outer().size() >= GICC_BYTES {
        return;
    }
    let fix = match registers {
        Some(registers) if registers.entries.len() >= 4 && gicd.start.0.abs_diff(gicc.start.0) >= 0x1000 => {
            let widened: Vec<(u64, u64)> = registers
                .entries
                .iter()
                .enumerate()
                .map(|(index, (address, size))| {
                    (*address, if matches!(index, 1 | 3) { (*size).max(GICC_BYTES) } else { *size })
                })
                .collect();
            Fix::amend("give GICC and GICV 8 KiB", &node.path(), &[registers.source(&widened)])
        }
        _ => Fix::words("give GICC and GICV 8 KiB each in `reg`"),
    };
    found.push(
        Finding::new(
            Level::Error,
            "gic-interface-size",
            node.path(),
            format!("GICC is {:#x} bytes long and GICV {:#x}; both are 0x2000", gicc.size(), gicv.size()),
            "The second page has the register by which interrupts are deactivated. Linux does without it, a hypervisor and its guests do not.",
        )
        .fix(fix),
    );
}

/// The interrupt that tells the hypervisor that list registers ran empty.
fn maintenance(survey: &Survey<'_>, node: Node<'_, '_>, gic: &Gic, found: &mut Vec<Finding>) {
    if gic.maintenance.is_some() {
        return;
    }
    let cells = node.cell("#interrupt-cells").ok().flatten().unwrap_or(3);
    let flags = if matches!(gic.frames, GicFrames::V3 { .. }) { 4 } else { survey.ppi_flags(4) };
    let mut lines = vec![format!(
        "interrupts = <1 9 {flags:#x}{}>;",
        " 0".repeat((cells as usize).saturating_sub(3).min(4))
    )];
    // Its own interrupt must not go through a wake-up generator in front of it.
    if !node.has("interrupt-parent") {
        lines.insert(0, format!("interrupt-parent = <&{{{}}}>;", node.path()));
    }
    let what = if node.has("interrupts") || node.has("interrupts-extended") {
        "the interrupt of the GIC's node is not a PPI, so it is not the maintenance interrupt"
    } else {
        "the GIC's node has no maintenance interrupt"
    };
    found.push(
        Finding::new(
            Level::Warning,
            "gic-maintenance",
            node.path(),
            what,
            "The hypervisor then takes INTID 25 (PPI 9), which Arm's server rules ask for and nearly every SoC has. Where it is \
             another, guests that have many interrupts at once stall.",
        )
        .fix(Fix::amend("name it", &node.path(), &lines)),
    );
}

/// Whether interrupts go through another controller on their way to the GIC.
fn parent(survey: &Survey<'_>, node: Node<'_, '_>, found: &mut Vec<Finding>) {
    let root = survey.tree.root();
    let Some(parent) =
        root.cell("interrupt-parent").ok().flatten().and_then(|handle| survey.tree.by_phandle(handle))
    else {
        return;
    };
    if parent == node {
        return;
    }
    found.push(
        Finding::new(
            Level::Note,
            "interrupt-parent",
            parent.path(),
            format!(
                "the root's interrupt-parent is {}, not the GIC",
                parent.strings("compatible").next().unwrap_or("a node without a name")
            ),
            "It is a controller in front of the GIC, for waking up. The hypervisor follows interrupts through it to the GIC, and \
             dom0 sees them as the GIC's. Nothing has to change unless devices' interrupts do not come.",
        )
        .fix(Fix::amend(
            "to go round it",
            "/",
            &[format!("interrupt-parent = <&{{{}}}>;", node.path())],
        )),
    );
}
