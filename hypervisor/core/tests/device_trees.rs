//! Whole device trees of real machines: read, and turned into dom0's. And what happens when they are damaged.

use vambrace_core::addr::{Pa, PaRange};
use vambrace_core::dom0_tree::{Dom0Spec, build, free_address_space};
use vambrace_core::platform::tree::Tree;
use vambrace_core::platform::{Conduit, GicFrames, Platform, PsciVersion};

const GICV2: &[u8] = include_bytes!("fixtures/qemu-virt-gicv2.dtb");
const GICV3: &[u8] = include_bytes!("fixtures/qemu-virt-gicv3.dtb");

/// Everything the boot does with a tree; `None` where the tree is refused.
fn boot(blob: &[u8]) -> Option<(Platform, Vec<u8>)> {
    let tree = Tree::parse(blob).ok()?;
    let platform = Platform::from_tree(&tree).ok()?;
    let space = free_address_space(&tree, &platform, 40, 0x4_0000).ok()??;
    let spec = Dom0Spec {
        memory: &platform.ram,
        vcpus: 4,
        bootargs: &platform.boot.dom0_args,
        ramdisk: platform.boot.ramdisk().map(|module| module.range),
        space: &space,
        event_interrupt: 31,
        version: (4, 20),
    };
    let written = build(&tree, &platform, &spec).ok()?;
    // What is mapped never covers RAM or the interrupt controller, whatever the tree says.
    for region in platform.dom0_regions() {
        assert!(!platform.ram.iter().chain(&platform.gic.all_frames()).any(|kept| kept.overlaps(region)));
    }
    Some((platform, written))
}

fn range(start: u64, size: u64) -> PaRange {
    PaRange::new(Pa(start), size).unwrap()
}

#[test]
fn qemu_virt_with_gicv2() {
    let (platform, written) = boot(GICV2).unwrap();
    assert_eq!(platform.ram, [range(0x4000_0000, 0x8000_0000)]);
    assert_eq!(platform.cpus.len(), 4);
    let psci = platform.psci.as_ref().unwrap();
    assert_eq!((psci.version, psci.conduit), (PsciVersion::V1_0, Conduit::Smc));
    let expected = GicFrames::V2 {
        gicd: range(0x0800_0000, 0x1_0000),
        gicc: range(0x0801_0000, 0x1_0000),
        gich: range(0x0803_0000, 0x1_0000),
        gicv: range(0x0804_0000, 0x1_0000),
    };
    assert_eq!(platform.gic.frames, expected);
    let uart = platform.console.as_ref().unwrap();
    assert_eq!((uart.registers, uart.clock), (range(0x0900_0000, 0x1000), Some(24_000_000)));
    assert_eq!(uart.interrupt.unwrap().intid, 33);
    assert_eq!(platform.boot.kernel().unwrap().range, range(0x4800_0000, 0x23e_a200));
    assert_eq!(platform.boot.ramdisk().unwrap().range, range(0x4c00_0000, 0x1_2345));
    assert_eq!(platform.boot.dom0_args, "console=hvc0 rdinit=/init");
    assert_eq!(platform.warnings, Vec::<String>::new());
    // RTC, GPIO, four PCI lines and 32 virtio slots.
    let spis: Vec<u32> = platform.dom0_interrupts().iter().map(|interrupt| interrupt.intid).collect();
    assert_eq!(spis, (34..=39).chain(48..80).collect::<Vec<_>>());
    // The host bridge's windows, down to the one above 512 GiB.
    assert!(platform.dom0_regions().contains(&range(0x80_0000_0000, 0x80_0000_0000)));
    let dom0 = Tree::parse(&written).unwrap();
    let gic = dom0.by_path("/intc@8000000").unwrap();
    assert_eq!(gic.property("reg").unwrap().len(), 32);
    assert_eq!(dom0.by_path("/pcie@10000000").unwrap().property("msi-map"), None);
    assert_eq!(dom0.by_path("/pl011@9000000").unwrap().string("status"), Some("disabled"));
    assert_eq!(dom0.by_path("/chosen").unwrap().children().count(), 0);
    assert!(dom0.by_path("/pmu").is_none());
}

#[test]
fn qemu_virt_with_gicv3() {
    let (platform, written) = boot(GICV3).unwrap();
    let GicFrames::V3 { gicd, redistributors, .. } = &platform.gic.frames else { panic!() };
    assert_eq!(*gicd, range(0x0800_0000, 0x1_0000));
    assert_eq!(redistributors, &[range(0x080a_0000, 0xf6_0000)]);
    assert_eq!((platform.gic.vcpu_limit(), platform.gic.its.len()), (123, 1));
    let dom0 = Tree::parse(&written).unwrap();
    let gic = dom0.by_path("/intc@8000000").unwrap();
    let registers: Vec<u8> = [0, 0x0800_0000, 0, 0x1_0000, 0, 0x080a_0000, 0, 0x8_0000_u32]
        .iter()
        .flat_map(|cell| cell.to_be_bytes())
        .collect();
    assert_eq!(gic.property("reg").unwrap(), registers);
    assert_eq!(gic.children().count(), 0);
}

#[test]
fn what_was_written_can_be_read_by_another_reader() {
    for blob in [GICV2, GICV3] {
        let (_, written) = boot(blob).unwrap();
        let other = dtoolkit::fdt::Fdt::new(&written).unwrap();
        assert!(other.find_node("/hypervisor").is_some());
    }
}

/// Bytes between two places that are damaged; with VAMBRACE_EXHAUSTIVE set at build time every one is tried.
fn stride() -> usize {
    if cfg!(miri) { 997 } else { option_env!("VAMBRACE_EXHAUSTIVE").map_or(613, |_| 1) }
}

#[test]
fn damaged_bytes_are_survived() {
    for blob in [GICV2, GICV3] {
        let (mut read, mut refused) = (0, 0);
        for position in (0..blob.len()).step_by(stride()) {
            for change in
                [0x00, 0xff, blob[position] ^ 0x01, blob[position] ^ 0x80, blob[position].wrapping_add(3)]
            {
                let mut damaged = blob.to_vec();
                damaged[position] = change;
                match boot(&damaged) {
                    Some((_, written)) => {
                        read += 1;
                        assert!(Tree::parse(&written).is_ok(), "byte {position:#x} = {change:#x}");
                    }
                    None => refused += 1,
                }
            }
        }
        // The test would show nothing if all were refused, or none.
        assert!(read > 0 && refused > 0);
    }
}

#[test]
fn damaged_words_are_survived() {
    for blob in [GICV2, GICV3] {
        for position in (0..blob.len() - 3).step_by(4 * stride().div_ceil(4)) {
            for word in [0, 1, 2, 3, 4, 9, 0x7fff_ffff, 0xffff_fff0, 0xffff_ffff_u32] {
                let mut damaged = blob.to_vec();
                damaged[position..position + 4].copy_from_slice(&word.to_be_bytes());
                boot(&damaged);
            }
        }
    }
}

#[test]
fn cut_trees_are_refused() {
    for blob in [GICV2, GICV3] {
        for length in (0..blob.len()).step_by(stride()) {
            assert!(boot(&blob[..length]).is_none());
            // Also when the header agrees with the length.
            if length >= 8 {
                let mut shorter = blob[..length].to_vec();
                shorter[4..8].copy_from_slice(&(length as u32).to_be_bytes());
                assert!(boot(&shorter).is_none());
            }
        }
    }
}
