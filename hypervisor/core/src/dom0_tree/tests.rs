use alloc::string::ToString;
use alloc::vec;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node as _, Property as _};

use super::*;
use crate::addr::Pa;
use crate::platform::fixture::{TestNode, board, node};
use crate::platform::tree::MAX_NODES;

fn range(start: u64, size: u64) -> PaRange {
    PaRange::new(Pa(start), size).unwrap()
}

fn write(host: &TestNode, change: impl FnOnce(&mut Dom0Spec<'_>)) -> Result<Vec<u8>, TreeError> {
    let blob = host.blob();
    let tree = Tree::parse(&blob)?;
    let platform = Platform::from_tree(&tree)?;
    let space = GuestSpace {
        grant_table: range(0x3800_0000, 0x20_0000),
        extended: vec![range(0x1_0000_0000, 0x1_0000_0000)],
    };
    let mut spec = Dom0Spec {
        memory: &[range(0x4000_0000, 0x1000_0000), range(0x6000_0000, 0x20_0000)],
        vcpus: 3,
        bootargs: "console=hvc0",
        ramdisk: Some(range(0x4800_0000, 0x123)),
        space: &space,
        event_interrupt: 31,
        version: (4, 20),
    };
    change(&mut spec);
    build(&tree, &platform, &spec)
}

/// The raw value of a property, read by the other crate.
fn value(blob: &[u8], path: &str, property: &str) -> Option<Vec<u8>> {
    let fdt = Fdt::new(blob).unwrap();
    let node: FdtNode<'_> = fdt.find_node(path)?;
    Some(node.property(property)?.value().to_vec())
}

fn words(blob: &[u8], path: &str, property: &str) -> Vec<u32> {
    let value = value(blob, path, property).unwrap_or_else(|| panic!("{path} has no {property}"));
    value.as_chunks::<4>().0.iter().map(|&word| u32::from_be_bytes(word)).collect()
}

fn text(blob: &[u8], path: &str, property: &str) -> String {
    String::from_utf8(value(blob, path, property).unwrap_or_default()).unwrap()
}

fn has(blob: &[u8], path: &str) -> bool {
    Fdt::new(blob).unwrap().find_node(path).is_some()
}

#[test]
fn what_is_rebuilt() {
    let blob = write(&board(), |_| {}).unwrap();
    assert_eq!(
        words(&blob, "/memory@40000000", "reg"),
        [0, 0x4000_0000, 0, 0x1000_0000, 0, 0x6000_0000, 0, 0x20_0000]
    );
    // Three vCPUs on a host of two; the phandles of the two stay.
    assert_eq!(words(&blob, "/cpus/cpu@2", "reg"), [2]);
    assert_eq!(text(&blob, "/cpus/cpu@2", "enable-method"), "psci\0");
    assert_eq!(text(&blob, "/cpus/cpu@2", "compatible"), "arm,cortex-a53\0");
    assert_eq!(words(&blob, "/cpus/cpu@1", "phandle"), [0x101]);
    assert_eq!(value(&blob, "/cpus/cpu@2", "phandle"), None);
    assert_eq!(text(&blob, "/psci", "method"), "hvc\0");
    assert_eq!(text(&blob, "/psci", "compatible"), "arm,psci-1.0\0arm,psci-0.2\0arm,psci\0");
    let timers = [1, 13, 0x708, 1, 14, 0x708, 1, 11, 0x708, 1, 10, 0x708];
    assert_eq!(words(&blob, "/timer", "interrupts"), timers);
    assert_eq!(words(&blob, "/hypervisor", "interrupts"), [1, 15, 0x708]);
    assert_eq!(text(&blob, "/hypervisor", "compatible"), "xen,xen-4.20\0xen,xen\0");
    assert_eq!(words(&blob, "/hypervisor", "reg"), [0, 0x3800_0000, 0, 0x20_0000, 1, 0, 1, 0]);
    assert_eq!(text(&blob, "/chosen", "bootargs"), "console=hvc0\0");
    assert_eq!(words(&blob, "/chosen", "linux,initrd-end"), [0, 0x4800_0123]);
    assert_eq!(value(&blob, "/chosen", "stdout-path"), None);
}

#[test]
fn the_gic_and_the_console() {
    let blob = write(&board(), |_| {}).unwrap();
    let gic = "/gic@2c001000";
    assert_eq!(words(&blob, gic, "reg"), [0, 0x2c00_1000, 0, 0x1000, 0, 0x2c00_2000, 0, 0x2000]);
    assert_eq!(value(&blob, gic, "interrupts"), None);
    assert_eq!(words(&blob, gic, "phandle"), [1]);
    assert_eq!(text(&blob, "/serial@9000000", "status"), "disabled\0");
    assert_eq!(value(&blob, "/aliases", "serial0"), None);
}

#[test]
fn a_gic_without_phandle_gets_one() {
    let gic = node("gic@2c001000")
        .strings("compatible", &["arm,gic-400"])
        .flag("interrupt-controller")
        .cells("#interrupt-cells", &[3])
        .cells(
            "reg",
            &[
                0,
                0x2c00_1000,
                0,
                0x1000,
                0,
                0x2c00_2000,
                0,
                0x2000,
                0,
                0x2c00_4000,
                0,
                0x2000,
                0,
                0x2c00_6000,
                0,
                0x2000,
            ],
        )
        // The timer finds its parent by nesting.
        .with(
            node("timer")
                .strings("compatible", &["arm,armv7-timer"])
                .cells("interrupts", &[1, 13, 8, 1, 14, 8, 1, 11, 8, 1, 10, 8]),
        );
    let mut host = node("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    let from = board();
    let blob = from.blob();
    let tree = Tree::parse(&blob).unwrap();
    assert_eq!(tree.max_phandle(), 0x101);
    host = host
        .with(
            node("memory")
                .strings("device_type", &["memory"])
                .cells("reg", &[0, 0x4000_0000, 0, 0x4000_0000]),
        )
        .with(
            node("cpus")
                .cells("#address-cells", &[1])
                .cells("#size-cells", &[0])
                .with(node("cpu@0").cells("reg", &[0]).cells("phandle", &[7])),
        )
        .with(gic);
    let blob = write(&host, |_| {}).unwrap();
    assert_eq!(words(&blob, "/gic@2c001000", "phandle"), [8]);
    assert_eq!(words(&blob, "/timer", "interrupt-parent"), [8]);
    assert!(!has(&blob, "/gic@2c001000/timer"));
}

#[test]
fn redistributors_for_the_vcpus_only() {
    let host = board().with(
        node("gic@2c001000")
            .strings("compatible", &["arm,gic-v3"])
            .flag("interrupt-controller")
            .cells("#interrupt-cells", &[4])
            .cells("#redistributor-regions", &[2])
            .cells("redistributor-stride", &[0, 0x4_0000])
            .cells("#address-cells", &[2])
            .cells("#size-cells", &[2])
            .flag("ranges")
            .cells(
                "reg",
                &[
                    0, 0x800_0000, 0, 0x1_0000, 0, 0x80a_0000, 0, 0x4_0000, 1, 0, 0, 0x40_0000, 0,
                    0x900_0000, 0, 0x2000,
                ],
            )
            .cells("interrupts", &[1, 9, 4, 0])
            .cells("phandle", &[1])
            .with(
                node("its@8080000")
                    .strings("compatible", &["arm,gic-v3-its"])
                    .flag("msi-controller")
                    .cells("reg", &[0, 0x808_0000, 0, 0x2_0000])
                    .cells("phandle", &[5]),
            ),
    );
    let timer = node("timer")
        .strings("compatible", &["arm,armv8-timer"])
        .cells("interrupts", &[1, 13, 8, 0, 1, 14, 8, 0, 1, 11, 8, 0, 1, 10, 8, 0]);
    let pcie = node("pcie@1")
        .cells("msi-map", &[0, 5, 0, 0x1_0000])
        .cells("msi-parent", &[5])
        .cells("reg", &[0, 1, 0, 1]);
    let host = host.with(timer).without("serial@9000000").without("aliases").with(node("chosen")).with(pcie);
    let blob = write(&host, |spec| spec.vcpus = 5).unwrap();
    let gic = "/gic@2c001000";
    assert_eq!(
        words(&blob, gic, "reg"),
        [0, 0x800_0000, 0, 0x1_0000, 0, 0x80a_0000, 0, 0x4_0000, 1, 0, 0, 0x6_0000]
    );
    assert_eq!(words(&blob, gic, "#redistributor-regions"), [2]);
    assert_eq!(value(&blob, gic, "redistributor-stride"), None);
    assert_eq!(words(&blob, "/timer", "interrupts")[..4], [1, 13, 8, 0]);
    assert!(!has(&blob, "/gic@2c001000/its@8080000"));
    assert_eq!(value(&blob, "/pcie@1", "msi-map"), None);
    assert_eq!(value(&blob, "/pcie@1", "msi-parent"), None);
    let blob = write(&host, |spec| spec.vcpus = 1).unwrap();
    assert_eq!(words(&blob, gic, "reg").len(), 8);
    assert_eq!(value(&blob, gic, "#redistributor-regions"), None);
}

#[test]
fn a_message_frame_stays_where_its_interrupts_are_known() {
    let gic = |frame: TestNode| {
        node("gic@2c001000")
            .strings("compatible", &["arm,gic-400"])
            .flag("interrupt-controller")
            .cells("#interrupt-cells", &[3])
            .cells("#address-cells", &[2])
            .cells("#size-cells", &[2])
            .flag("ranges")
            .cells(
                "reg",
                &[
                    0,
                    0x2c00_1000,
                    0,
                    0x1000,
                    0,
                    0x2c00_2000,
                    0,
                    0x2000,
                    0,
                    0x2c00_4000,
                    0,
                    0x2000,
                    0,
                    0x2c00_6000,
                    0,
                    0x2000,
                ],
            )
            .cells("phandle", &[1])
            .with(
                frame
                    .strings("compatible", &["arm,gic-v2m-frame"])
                    .cells("reg", &[0, 0x2c1c_0000, 0, 0x1000])
                    .cells("phandle", &[6]),
            )
    };
    let pcie = node("pcie@1").cells("msi-parent", &[6]).cells("reg", &[0, 1, 0, 1]);
    let unknown = board().with(gic(node("v2m@2c1c0000"))).with(pcie.clone());
    let blob = write(&unknown, |_| {}).unwrap();
    assert!(!has(&blob, "/gic@2c001000/v2m@2c1c0000"));
    assert_eq!(value(&blob, "/pcie@1", "msi-parent"), None);
    let known = node("v2m@2c1c0000").cells("arm,msi-base-spi", &[80]).cells("arm,msi-num-spis", &[4]);
    let known = board().with(gic(known)).with(pcie);
    let blob = write(&known, |_| {}).unwrap();
    assert!(has(&blob, "/gic@2c001000/v2m@2c1c0000"));
    assert_eq!(words(&blob, "/pcie@1", "msi-parent"), [6]);
    let platform = Platform::parse(&known.blob()).unwrap();
    let spis: Vec<u32> = platform.dom0_interrupts().iter().map(|interrupt| interrupt.intid).collect();
    assert_eq!(spis, [80, 81, 82, 83]);
    assert!(platform.dom0_regions().contains(&range(0x2c1c_0000, 0x1000)));
}

#[test]
fn what_is_hidden_and_what_stays() {
    let host = board()
        .with(node("pmu").strings("compatible", &["arm,armv8-pmuv3"]).cells("interrupts", &[1, 7, 4]))
        .with(
            node("iommu@1")
                .strings("compatible", &["arm,smmu-v3"])
                .cells("reg", &[0, 0x7_0000, 0, 0x100])
                .cells("phandle", &[9]),
        )
        .with(
            node("disk@2")
                .cells("reg", &[0, 0x8_0000, 0, 0x100])
                .cells("iommus", &[9, 1])
                .cells("phandle", &[10]),
        )
        .with(
            node("reserved-memory")
                .cells("#address-cells", &[2])
                .cells("#size-cells", &[2])
                .flag("ranges")
                .with(node("ipc@50000000").cells("reg", &[0, 0x5000_0000, 0, 0x1000]).flag("no-map")),
        )
        .with(node("hypervisor").strings("compatible", &["xen,xen"]))
        .with(node("aliases").strings("serial0", &["/serial@9000000"]).strings("disk0", &["/disk@2"]))
        .with(
            node("chosen")
                .strings("stdout-path", &["serial0"])
                .bytes("kaslr-seed", &[1; 8])
                .bytes("rng-seed", &[2; 32])
                .strings("xen,xen-bootargs", &["dom0_mem=1G"])
                .cells("linux,initrd-start", &[1])
                .cells("linux,initrd-end", &[2])
                .with(
                    node("module@48000000")
                        .strings("compatible", &["multiboot,kernel", "multiboot,module"])
                        .cells("reg", &[0, 0x4800_0000, 0x100]),
                ),
        );
    let blob = write(&host, |spec| spec.ramdisk = None).unwrap();
    assert!(!has(&blob, "/pmu") && !has(&blob, "/iommu@1") && !has(&blob, "/chosen/module@48000000"));
    assert!(has(&blob, "/reserved-memory/ipc@50000000"));
    assert_eq!(value(&blob, "/disk@2", "iommus"), None);
    assert_eq!(words(&blob, "/disk@2", "phandle"), [10]);
    assert_eq!(text(&blob, "/aliases", "disk0"), "/disk@2\0");
    assert_eq!(value(&blob, "/chosen", "kaslr-seed"), Some(vec![1; 8]));
    assert_eq!(value(&blob, "/chosen", "rng-seed"), Some(vec![2; 32]));
    for gone in ["xen,xen-bootargs", "linux,initrd-start", "linux,initrd-end"] {
        assert_eq!(value(&blob, "/chosen", gone), None, "{gone}");
    }
    // What was written can be read again, as the next boot stage would.
    assert_eq!(Platform::parse(&blob).unwrap_err().path, "/gic@2c001000");
    assert!(Tree::parse(&blob).unwrap().nodes().count() < MAX_NODES);
}

#[test]
fn what_cannot_be_written_is_said() {
    let said = |change: fn(&mut Dom0Spec<'_>)| write(&board(), change).unwrap_err().to_string();
    assert!(said(|spec| spec.vcpus = 9).contains("9 vCPUs"));
    assert!(said(|spec| spec.vcpus = 0).contains("0 vCPUs"));
    let narrow = node("").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
    let mut host = narrow
        .cells("interrupt-parent", &[1])
        .with(node("memory").strings("device_type", &["memory"]).cells("reg", &[0x4000_0000, 0x4000_0000]))
        .with(
            node("cpus")
                .cells("#address-cells", &[1])
                .cells("#size-cells", &[0])
                .with(node("cpu@0").cells("reg", &[0])),
        )
        .with(
            node("timer")
                .strings("compatible", &["arm,armv8-timer"])
                .cells("interrupts", &[1, 13, 8, 1, 14, 8, 1, 11, 8, 1, 10, 8]),
        );
    host = host.with(
        node("gic@2c001000")
            .strings("compatible", &["arm,gic-400"])
            .flag("interrupt-controller")
            .cells("#interrupt-cells", &[3])
            .cells(
                "reg",
                &[0x2c00_1000, 0x1000, 0x2c00_2000, 0x2000, 0x2c00_4000, 0x2000, 0x2c00_6000, 0x2000],
            )
            .cells("phandle", &[1]),
    );
    let error = write(&host, |_| {}).unwrap_err();
    assert!(error.to_string().contains("0x100000000..0x200000000"), "{error}");
    let long = "x".repeat(MAX_BYTES);
    let blob = board().blob();
    let tree = Tree::parse(&blob).unwrap();
    let platform = Platform::from_tree(&tree).unwrap();
    let space = free_address_space(&tree, &platform, 40, 1 << 20).unwrap().unwrap();
    let spec = Dom0Spec {
        memory: &[],
        vcpus: 1,
        bootargs: &long,
        ramdisk: None,
        space: &space,
        event_interrupt: 31,
        version: (4, 20),
    };
    assert_eq!(build(&tree, &platform, &spec), Err(TreeError::TooLarge(MAX_BYTES)));
}

#[test]
fn free_space_meets_nothing() {
    let blob = board().blob();
    let tree = Tree::parse(&blob).unwrap();
    let platform = Platform::from_tree(&tree).unwrap();
    let space = free_address_space(&tree, &platform, 36, 0x4_0001).unwrap().unwrap();
    assert_eq!(space.grant_table, range(0x20_0000, 0x20_0000));
    // Around the UART and the GIC, and above RAM.
    assert_eq!(
        space.extended,
        [
            range(0x0040_0000, 0x08c0_0000),
            range(0x0920_0000, 0x22e0_0000),
            range(0x2c20_0000, 0x13e0_0000),
            range(0x8000_0000, 0xf_8000_0000)
        ]
    );
    for hole in space.extended.iter().chain([&space.grant_table]) {
        assert!(platform.ram.iter().chain(&platform.occupied).all(|used| !used.overlaps(*hole)));
        assert!(hole.start.is_aligned(0x20_0000) && hole.end.is_aligned(0x20_0000));
    }
    let full = board()
        .with(node("memory@40000000").strings("device_type", &["memory"]).cells("reg", &[0, 0, 0x10, 0]))
        .blob();
    let tree = Tree::parse(&full).unwrap();
    let platform = Platform::from_tree(&tree).unwrap();
    assert_eq!(free_address_space(&tree, &platform, 36, 0x1000).unwrap(), None);
}
