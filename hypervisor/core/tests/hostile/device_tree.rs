//! Device trees that are sound in form and make no sense, or nearly do.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use vambrace_core::addr::{Pa, PaRange};
use vambrace_core::dom0_tree::{Dom0Spec, build, free_address_space};
use vambrace_core::platform::Platform;
use vambrace_core::platform::tree::Tree;
use vambrace_core::static_guest::accept;

use crate::few;

/// A node: its name, its properties, its children.
#[derive(Clone, Debug)]
struct Node {
    name: &'static str,
    properties: Vec<(&'static str, Vec<u8>)>,
    children: Vec<Node>,
}

const NAMES: &[&str] = &[
    "memory@0",
    "memory",
    "cpus",
    "cpu@0",
    "cpu@1",
    "psci",
    "intc@8000000",
    "its@8080000",
    "v2m@8020000",
    "timer",
    "soc",
    "serial@9000000",
    "chosen",
    "module@0",
    "module@1",
    "aliases",
    "reserved-memory",
    "buffer@40000000",
    "pcie@10000000",
    "hypervisor",
    "domU1",
    "evtchn@1",
    "a-name-that-is-much-longer-than-the-specification-allows",
];
const TEXTS: &[&str] = &[
    "memory",
    "cpu",
    "arm,cortex-a15-gic",
    "arm,gic-v3",
    "arm,gic-v2m-frame",
    "arm,gic-v3-its",
    "arm,armv8-timer",
    "arm,psci",
    "arm,psci-0.2",
    "arm,pl011",
    "smc",
    "hvc",
    "psci",
    "spin-table",
    "okay",
    "disabled",
    "multiboot,kernel",
    "multiboot,module",
    "/serial@9000000",
    "serial0:115200n8",
    "simple-bus",
    "pci",
    "arm,vexpress",
    "samsung,exynos5250",
    "allwinner,sun7i-a20",
    "calxeda,hb-sregs",
    "syscon-poweroff",
    "fixed-clock",
    "virt",
    "hyp-phys",
    "xen,domain",
    "xen,evtchn-v1",
    "xen,domain-shared-memory-v1",
    "multiboot,ramdisk",
    "multiboot,device-tree",
    "owner",
    "enabled",
];
const TEXT_PROPERTIES: &[&str] = &[
    "compatible",
    "device_type",
    "status",
    "method",
    "enable-method",
    "stdout-path",
    "bootargs",
    "serial0",
    "interrupt-names",
    "xen,dom0-bootargs",
    "model",
    "xen,enhanced",
    "xen,shm-id",
    "role",
];
const CELL_PROPERTIES: &[&str] = &[
    "reg",
    "ranges",
    "interrupts",
    "interrupts-extended",
    "interrupt-parent",
    "#address-cells",
    "#size-cells",
    "#interrupt-cells",
    "phandle",
    "interrupt-map",
    "interrupt-map-mask",
    "reg-shift",
    "reg-io-width",
    "clock-frequency",
    "clocks",
    "cpu-release-addr",
    "cpu_on",
    "redistributor-stride",
    "#redistributor-regions",
    "arm,msi-base-spi",
    "arm,msi-num-spis",
    "linux,initrd-start",
    "linux,initrd-end",
    "no-map",
    "interrupt-controller",
    "regmap",
    "offset",
    "value",
    "mask",
    "size",
    "memory",
    "cpus",
    "nr_spis",
    "vpl011",
    "direct-map",
    "xen,static-mem",
    "xen,shared-mem",
    "xen,evtchn",
    "xen,domain-p2m-mem-mb",
    "max_grant_frames",
];
/// Values that reach somewhere: counts of cells, interrupts, handles, addresses, the ends of ranges of numbers.
const CELLS: &[u32] = &[
    0,
    1,
    2,
    3,
    4,
    8,
    9,
    13,
    14,
    27,
    0x1000,
    0x2_0000,
    0x0900_0000,
    0x4000_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_f000,
    u32::MAX,
];

fn properties() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
    let text = (select(TEXT_PROPERTIES), vec(select(TEXTS), 0..3))
        .prop_map(|(name, texts)| (name, texts.iter().flat_map(|text| text.bytes().chain([0])).collect()));
    let cells = (select(CELL_PROPERTIES), vec(select(CELLS), 0..10))
        .prop_map(|(name, cells)| (name, cells.iter().flat_map(|cell| cell.to_be_bytes()).collect()));
    let noise = (select(CELL_PROPERTIES), vec(any::<u8>(), 0..9));
    vec(prop_oneof![4 => text, 8 => cells, 1 => noise], 0..9)
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = (select(NAMES), properties()).prop_map(|(name, properties)| Node {
        name,
        properties,
        children: vec![],
    });
    leaf.prop_recursive(3, 24, 6, |inner| {
        (select(NAMES), properties(), vec(inner, 0..6)).prop_map(|(name, properties, children)| Node {
            name,
            properties,
            children,
        })
    })
}

impl Node {
    fn write(&self, name: &str, structure: &mut Vec<u8>, strings: &mut Vec<u8>) {
        let pad = |bytes: &mut Vec<u8>| bytes.resize(bytes.len().next_multiple_of(4), 0);
        structure.extend(1_u32.to_be_bytes());
        structure.extend(name.bytes().chain([0]));
        pad(structure);
        for (name, value) in &self.properties {
            for word in [3, value.len(), strings.len()] {
                structure.extend((word as u32).to_be_bytes());
            }
            strings.extend(name.bytes().chain([0]));
            structure.extend(value);
            pad(structure);
        }
        for child in &self.children {
            child.write(child.name, structure, strings);
        }
        structure.extend(2_u32.to_be_bytes());
    }

    /// The blob of a tree with this root.
    fn blob(&self) -> Vec<u8> {
        let (mut structure, mut strings) = (Vec::new(), Vec::new());
        self.write("", &mut structure, &mut strings);
        structure.extend(9_u32.to_be_bytes());
        let strings_at = 56 + structure.len();
        let fields = [
            0xd00d_feed,
            strings_at + strings.len(),
            56,
            strings_at,
            40,
            17,
            16,
            0,
            strings.len(),
            structure.len(),
        ];
        let mut blob: Vec<u8> = fields.iter().flat_map(|field| (*field as u32).to_be_bytes()).collect();
        blob.extend([0; 16]);
        blob.extend(structure);
        blob.extend(strings);
        blob
    }
}

/// What a boot does with a tree, as far as it gets. Answers how far that is.
fn boot(blob: &[u8]) -> usize {
    let Ok(tree) = Tree::parse(blob) else { return 0 };
    let Ok(platform) = Platform::from_tree(&tree) else { return 1 };
    for region in platform.dom0_regions() {
        assert!(!platform.ram.iter().chain(&platform.gic.all_frames()).any(|kept| kept.overlaps(region)));
    }
    platform.dom0_reserved(PaRange { start: Pa(0x4000_0000), end: Pa(0x4010_0000) });
    platform.dom0_interrupts();
    let Ok(Some(space)) = free_address_space(&tree, &platform, 40, 0x4_0000) else { return 2 };
    let spec = Dom0Spec {
        memory: &platform.ram,
        vcpus: 4,
        bootargs: &platform.boot.dom0_args,
        ramdisk: platform.boot.ramdisk().map(|module| module.range),
        space: &space,
        event_interrupt: 31,
        version: (4, 20),
    };
    let Ok(written) = build(&tree, &platform, &spec) else { return 3 };
    Tree::parse(&written).expect("what was written can be read");
    4
}

/// A board that boots, into which the nodes and properties are mixed.
fn board() -> Node {
    let be = |cells: &[u32]| cells.iter().flat_map(|cell| cell.to_be_bytes()).collect::<Vec<u8>>();
    let leaf = |name, properties: &[(&'static str, Vec<u8>)]| Node {
        name,
        properties: properties.to_vec(),
        children: vec![],
    };
    let text = |text: &str| text.bytes().chain([0]).collect::<Vec<u8>>();
    let mut cpus = leaf("cpus", &[("#address-cells", be(&[1])), ("#size-cells", be(&[0]))]);
    cpus.children.push(leaf("cpu@0", &[("device_type", text("cpu")), ("reg", be(&[0]))]));
    let gic = [
        ("compatible", text("arm,cortex-a15-gic")),
        ("interrupt-controller", vec![]),
        ("#interrupt-cells", be(&[3])),
        ("phandle", be(&[1])),
        ("reg", be(&[0x0800_0000, 0x1000, 0x0801_0000, 0x2000, 0x0803_0000, 0x1000, 0x0804_0000, 0x2000])),
    ];
    let timer = [
        ("compatible", text("arm,armv8-timer")),
        ("interrupts", be(&[1, 13, 8, 1, 14, 8, 1, 11, 8, 1, 10, 8])),
    ];
    Node {
        name: "",
        properties: vec![
            ("#address-cells", be(&[1])),
            ("#size-cells", be(&[1])),
            ("interrupt-parent", be(&[1])),
        ],
        children: vec![
            leaf("memory", &[("device_type", text("memory")), ("reg", be(&[0x4000_0000, 0x1000_0000]))]),
            cpus,
            leaf("intc@8000000", &gic),
            leaf("timer", &timer),
        ],
    }
}

/// What a boot decides about the guests of a tree: how many it would start.
fn guests(blob: &[u8]) -> usize {
    let Ok(platform) = Platform::parse(blob) else { return 0 };
    let own = PaRange { start: Pa(0x4000_0000), end: Pa(0x4010_0000) };
    let (accepted, refused) = accept(&platform, &[own]);
    let found = &platform.boot.domains;
    assert_eq!(accepted.len() + refused.len(), found.guests.len());
    let in_ram = |range: PaRange| platform.ram.iter().any(|bank| bank.contains_range(range));
    for guest in &accepted {
        let ranges: Vec<PaRange> = guest.files().map(|(_, range)| range).chain(guest.reserved()).collect();
        assert!(ranges.iter().all(|range| in_ram(*range) && !range.overlaps(own)), "{guest:?}");
        assert!(guest.memory > 0 && guest.vcpus > 0 && guest.reserved().all(|range| !range.is_empty()));
    }
    for (near, far) in &found.channels {
        assert!(near < far, "each once, and with two ends");
    }
    accepted.len()
}

/// A board with a guest, into which the nodes and properties are mixed.
fn board_with_guest() -> Node {
    let be = |cells: &[u32]| cells.iter().flat_map(|cell| cell.to_be_bytes()).collect::<Vec<u8>>();
    let text = |text: &str| text.bytes().chain([0]).collect::<Vec<u8>>();
    let module = [
        ("compatible", [text("multiboot,kernel"), text("multiboot,module")].concat()),
        ("reg", be(&[0x4200_0000, 0x1000])),
    ];
    let guest = Node {
        name: "domU1",
        properties: vec![
            ("compatible", text("xen,domain")),
            ("#address-cells", be(&[1])),
            ("#size-cells", be(&[1])),
            ("memory", be(&[0, 1024])),
            ("cpus", be(&[1])),
        ],
        children: vec![Node { name: "module@0", properties: module.to_vec(), children: vec![] }],
    };
    let mut root = board();
    root.children.push(Node { name: "chosen", properties: vec![], children: vec![guest] });
    root
}

#[test]
fn the_board_that_others_are_made_from_boots() {
    assert_eq!(guests(&board_with_guest().blob()), 1);
    assert_eq!(boot(&board().blob()), 4);
}

proptest! {
    #![proptest_config(few(96))]

    #[test]
    fn device_trees(root in node()) {
        boot(&root.blob());
    }

    #[test]
    fn device_trees_that_are_nearly_right(
        nodes in vec(node(), 0..4),
        more in properties(),
        place in 0_usize..5,
        at_end in any::<bool>(),
    ) {
        let mut root = board();
        let at = if at_end { root.children.len() } else { 0 };
        root.children.splice(at..at, nodes);
        let count = root.children.len();
        let target = if place == 0 { &mut root } else { &mut root.children[place % count] };
        // The first property of a name counts, so these take the place of what was right.
        target.properties.splice(0..0, more);
        boot(&root.blob());
    }

    #[test]
    fn guests_that_are_nearly_right(nodes in vec(node(), 0..4), more in properties(), in_guest in any::<bool>()) {
        let mut root = board_with_guest();
        let chosen = root.children.last_mut().unwrap();
        let target = if in_guest { &mut chosen.children[0] } else { chosen };
        target.children.extend(nodes);
        target.properties.splice(0..0, more);
        guests(&root.blob());
    }
}
