//! RAM, and what of it is kept for firmware.

use super::super::finding::{Finding, Fix, Level};
use super::super::survey::{Survey, number_source};
use vambrace_bsp::Architecture;
use vambrace_core::platform::tree::Node;

const GIB4: u64 = 1 << 32;

pub(super) fn check(survey: &Survey<'_>, found: &mut Vec<Finding>) {
    if !survey.has_ram {
        missing(survey, found);
    } else if let Some(platform) = survey.seen() {
        let above = platform.ram.iter().any(|bank| bank.end.0 > GIB4);
        if above && survey.architecture == Some(Architecture::Armv7) {
            found.push(Finding::new(
                Level::Note,
                "memory-above-4g",
                "/memory",
                "there is RAM above 4 GiB on a 32-bit machine",
                "Hypervisor, kernel, ramdisk and tree have to be loaded below 4 GiB, and dom0's kernel reaches the rest only with \
                 LPAE (Debian's armmp-lpae, not armmp).",
            ));
        }
    }
    if let Some(node) = survey.tree.root().child("reserved-memory") {
        reserved(survey, node, found);
    }
}

fn missing(survey: &Survey<'_>, found: &mut Vec<Finding>) {
    let root = survey.tree.root();
    let described = root
        .children()
        .find(|node| node.string("device_type") == Some("memory") || node.base_name() == "memory");
    let why = if survey.is_of("allwinner,") {
        "U-Boot fills it in for every Allwinner board when it starts a kernel, so the tree has to pass through U-Boot."
    } else if survey.is_of("raspberrypi,") {
        "The Raspberry Pi's own firmware fills it in, so the tree has to come from it and not from a file that something else loads."
    } else {
        "U-Boot fills it in on nearly every ARM board when it starts a kernel (unless built without CONFIG_ARCH_FIXUP_FDT_MEMORY). \
         A boot wrapper, a model or `-kernel` of QEMU with a tree of one's own does not, and then the hypervisor stops."
    };
    let cells = |name: &'static str, otherwise| {
        root.cell(name).ok().flatten().filter(|cells| (1..=2).contains(cells)).unwrap_or(otherwise)
    };
    let example = format!(
        "reg = <{} {}>;",
        number_source(0x4000_0000, cells("#address-cells", 2)),
        number_source(0x4000_0000, cells("#size-cells", 1))
    );
    let text =
        "where no firmware does, say where RAM is and how much (1 GiB at 0x40000000 stands for it here)";
    let (path, what, fix) = match described {
        Some(node) => (
            node.path(),
            "the memory node describes no RAM: its size is 0",
            Fix::amend(text, &node.path(), &[example]),
        ),
        None => (
            "/".to_owned(),
            "no RAM is described: there is no memory node",
            Fix::amend(
                text,
                "/",
                &[
                    "memory@40000000 {".to_owned(),
                    "    device_type = \"memory\";".to_owned(),
                    format!("    {example}"),
                    "};".to_owned(),
                ],
            ),
        ),
    };
    found.push(Finding::new(Level::Warning, "memory-missing", path, what, why).fix(fix));
}

fn reserved(survey: &Survey<'_>, node: Node<'_, '_>, found: &mut Vec<Finding>) {
    if node.children().next().is_none() {
        return;
    }
    if !node.has("ranges") {
        found.push(
            Finding::new(
                Level::Error,
                "reserved-ranges",
                node.path(),
                "`ranges` is missing",
                "Without it the addresses below mean nothing outside, and the hypervisor refuses them rather than use the memory.",
            )
            .fix(Fix::amend("the addresses are the root's", &node.path(), &["ranges;".to_owned()])),
        );
    }
    let root = survey.tree.root();
    let differs = |name: &'static str, otherwise: u32| {
        let of = |node: Node<'_, '_>| node.cell(name).ok().flatten().unwrap_or(otherwise);
        of(node) != of(root)
    };
    if differs("#address-cells", 2) || differs("#size-cells", 1) {
        found.push(Finding::new(
            Level::Warning,
            "reserved-cells",
            node.path(),
            "`#address-cells` and `#size-cells` differ from the root's",
            "The Devicetree Specification (3.5.1) wants them equal, and U-Boot's and Linux's code rely on it: they read other \
             ranges than the hypervisor does.",
        )
        .fix(Fix::words("give it the root's counts, and its children's `reg` in those")));
    }
    // Memory of secure software: an access by a CPU that only guesses ahead ends in an abort.
    let secure = |node: &Node<'_, '_>| {
        const SECURE: [&str; 9] =
            ["optee", "op-tee", "tee", "atf", "bl31", "secmon", "secure", "trustzone", "tz"];
        let name = node.base_name().to_ascii_lowercase();
        name.split(['-', '_', ',', '.']).any(|word| SECURE.contains(&word))
    };
    for child in node.children().filter(Node::is_available).filter(secure) {
        if child.has("reg") && !child.has("no-map") {
            found.push(
                Finding::new(
                    Level::Warning,
                    "reserved-no-map",
                    child.path(),
                    "memory of secure software, by its name, without `no-map`",
                    "What is only reserved is still mapped, and a CPU may read ahead there; where the bus forbids that, the \
                     machine stops at some later time.",
                )
                .fix(Fix::amend("keep it unmapped", &child.path(), &["no-map;".to_owned()])),
            );
        }
    }
}
