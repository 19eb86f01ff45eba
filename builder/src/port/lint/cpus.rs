//! CPUs, and how the secondary ones are started.

use super::super::cpu::Core;
use super::super::finding::{Finding, Fix, Level};
use super::super::survey::Survey;
use vambrace_core::platform::tree::Node;
use vambrace_core::platform::{Conduit, EnableMethod, GICV2_CPUS, GicFrames, Platform, PsciVersion};

pub(super) fn check(survey: &Survey<'_>, found: &mut Vec<Finding>) {
    kinds(survey, found);
    let waiting: Vec<Node<'_, '_>> = survey
        .cpus
        .iter()
        .map(|(node, _)| *node)
        .filter(|node| node.string("enable-method") == Some("spin-table") && !node.has("cpu-release-addr"))
        .collect();
    if let Some(first) = waiting.first() {
        found.push(release_address(first, &waiting));
        return;
    }
    if let Some(platform) = survey.seen() {
        starting(survey, platform, found);
        served(platform, found);
    }
}

fn release_address(first: &Node<'_, '_>, all: &[Node<'_, '_>]) -> Finding {
    let line = "cpu-release-addr = <0x0 0x8000fff8>;".to_owned();
    let fixes = all.iter().map(|node| Fix::amend("", &node.path(), std::slice::from_ref(&line)).source);
    Finding::new(
        Level::Error,
        "spin-table-address",
        first.path(),
        format!("{} CPUs wait in a spin table, and no `cpu-release-addr` says where", all.len()),
        "The hypervisor lets such a CPU go by writing to that address; it refuses a tree that does not name it. Some \
         firmware fills it in when it starts a kernel.",
    )
    .fix(Fix {
        text: "where it does not, put in the address that it polls (0x8000fff8 stands for it here)".to_owned(),
        source: Some(fixes.flatten().collect()),
        overlay: true,
    })
}

fn name(node: &Node<'_, '_>) -> String {
    node.strings("compatible").next().unwrap_or("no name").to_owned()
}

/// Whether no hypervisor can run on the cores at all.
pub(super) fn incapable(survey: &Survey<'_>, found: &mut Vec<Finding>) -> bool {
    let Some((node, _)) = survey.cpus.iter().find(|(_, core)| *core == Core::WithoutVirtualization) else {
        return false;
    };
    found.push(
        Finding::new(
            Level::Error,
            "cpu-virtualization",
            node.path(),
            format!("{} has no virtualization extensions", name(node)),
            "A hypervisor needs HYP mode (ARMv7) or EL2 (ARMv8), and this core has neither.",
        )
        .fix(Fix::words("none: Cortex-A7, A12, A15, A17 and every 64-bit Cortex-A have them")),
    );
    true
}

/// Whether one hypervisor can run on all cores.
fn kinds(survey: &Survey<'_>, found: &mut Vec<Finding>) {
    let other = survey.cpus.iter().find(
        |(_, core)| matches!(core, Core::Capable(architecture) if Some(*architecture) != survey.architecture),
    );
    if let Some((node, _)) = other {
        found.push(
            Finding::new(
                Level::Error,
                "cpu-architectures",
                node.path(),
                format!("{} is of another architecture than the first CPU", name(node)),
                "One hypervisor runs on all CPUs, and it is compiled for one architecture.",
            )
            .fix(Fix::amend(
                "leave this CPU out",
                &node.path(),
                &["status = \"fail\";".to_owned()],
            )),
        );
    }
    if let Some((node, _)) = survey.cpus.iter().find(|(_, core)| *core == Core::Unknown) {
        found.push(Finding::new(
            Level::Note,
            "cpu-unknown",
            node.path(),
            format!("{} is no core that this check knows", name(node)),
            "It cannot say whether the core has the virtualization extensions, and of which architecture it is.",
        ));
    }
}

/// Whether secondary CPUs will start.
fn starting(survey: &Survey<'_>, platform: &Platform, found: &mut Vec<Finding>) {
    let total = platform.cpus.len();
    if total < 2 {
        return;
    }
    if platform.cpus.iter().any(|cpu| cpu.enable == EnableMethod::Unknown) {
        let (why, fix) = if survey.is_of("allwinner,") {
            (
                "U-Boot adds `/psci` to this SoC's tree when it starts a kernel, so hand the tree on through U-Boot; \
                 where that is not done, only the first CPU runs.",
                Fix::words(
                    "nothing where U-Boot loads the tree by `bootz` or `booti`; do not make up a `/psci` for firmware \
                     that has none",
                ),
            )
        } else {
            (
                "There is neither `/psci` nor an `enable-method`: the hypervisor will run on the first CPU alone.",
                Fix::amend(
                    "where the firmware has PSCI, say so (`method` is how it is called: `smc` for TF-A, U-Boot and QEMU)",
                    "/",
                    &[
                        "psci {".into(),
                        "    compatible = \"arm,psci-0.2\";".into(),
                        "    method = \"smc\";".into(),
                        "};".into(),
                    ],
                ),
            )
        };
        found.push(
            Finding::new(
                Level::Warning,
                "cpu-start",
                "/cpus",
                format!("nothing says how {} of the {total} CPUs are started", total - 1),
                why,
            )
            .fix(fix),
        );
    }
    let other = platform.cpus.iter().find_map(|cpu| match &cpu.enable {
        EnableMethod::Other(name) => Some(name),
        _ => None,
    });
    if let Some(name) = other {
        let named = survey.cpus.iter().find(|(node, _)| node.has("enable-method"));
        found.push(
            Finding::new(
                Level::Warning,
                "cpu-start",
                named.map_or_else(|| "/cpus".to_owned(), |(node, _)| node.path()),
                format!("`enable-method = \"{name}\"` is a way that the hypervisor does not know"),
                "It starts CPUs by PSCI, by spin table, and by the registers of a few boards; here only the first will run.",
            )
            .fix(Fix::words(
                "use firmware that has PSCI (newer U-Boot or TF-A), which puts `/psci` into the tree and changes the method",
            )),
        );
    }
    let Some(psci) =
        platform.psci.as_ref().filter(|_| platform.cpus.iter().any(|cpu| cpu.enable == EnableMethod::Psci))
    else {
        return;
    };
    if psci.conduit == Conduit::Hvc {
        found.push(
            Finding::new(
                Level::Warning,
                "psci-hvc",
                psci.path.clone(),
                "PSCI is called by `hvc`, which at EL2 calls the hypervisor itself",
                "Such a tree is for a kernel under another hypervisor. No secondary CPU will start, and power-off will not work.",
            )
            .fix(Fix::amend(
                "where firmware is at EL3, or in the monitor, it is called by `smc`",
                &psci.path,
                &["method = \"smc\";".to_owned()],
            )),
        );
    }
    if psci.version == PsciVersion::V0_1 && psci.cpu_on.is_none() {
        found.push(
            Finding::new(
                Level::Warning,
                "psci-cpu-on",
                psci.path.clone(),
                "PSCI 0.1 has no number of its own for CPU_ON, and the node has no `cpu_on`",
                "Without it no secondary CPU is started.",
            )
            .fix(Fix::words("give `cpu_on` and `cpu_off` as the firmware numbers them")),
        );
    }
}

/// Whether the interrupt controller serves all CPUs.
fn served(platform: &Platform, found: &mut Vec<Finding>) {
    let (cpus, limit) = (platform.cpus.len() as u64, platform.gic.vcpu_limit());
    if cpus <= limit {
        return;
    }
    match platform.gic.frames {
        GicFrames::V2 { .. } => found.push(Finding::new(
            Level::Warning,
            "gic-cpus",
            platform.gic.path.clone(),
            format!("a GICv2 serves {GICV2_CPUS} CPUs, and the tree has {cpus}"),
            "The others will not be started.",
        )),
        GicFrames::V3 { .. } => found.push(
            Finding::new(
                Level::Warning,
                "gic-cpus",
                platform.gic.path.clone(),
                format!("the redistributors' regions have room for {limit} CPUs, and the tree has {cpus}"),
                "A CPU without a redistributor gets no interrupts, and is not started.",
            )
            .fix(Fix::words("give every redistributor region in `reg`, 128 KiB for each CPU, and `#redistributor-regions`")),
        ),
    }
}
