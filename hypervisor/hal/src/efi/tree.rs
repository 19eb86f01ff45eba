//! The device tree for the hypervisor, made of the firmware's and of what was loaded (multiboot device-tree protocol,
//! xen, docs/misc/arm/device-tree/booting.txt).

use alloc::format;
use alloc::vec::Vec;

use vambrace_core::addr::PaRange;
use vambrace_core::dom0_tree::{MAX_BYTES, TreeError, Writer, registers};
use vambrace_core::platform::tree::{Node, Tree};

/// What a loaded file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModuleKind {
    /// Dom0's kernel.
    Kernel,
    /// Dom0's initial RAM disk.
    Ramdisk,
}

/// A file that was loaded for the hypervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Module<'a> {
    /// What it is.
    pub kind: ModuleKind,
    /// Where it lies (physical), exactly.
    pub range: PaRange,
    /// Its command line.
    pub args: &'a str,
}

/// What goes into the tree.
#[derive(Clone, Copy, Debug)]
pub struct Additions<'a> {
    /// Loaded files.
    pub modules: &'a [Module<'a>],
    /// The hypervisor's command line.
    pub options: &'a str,
    /// RAM by the firmware's memory map (physical); used where the tree describes none.
    pub memory: &'a [PaRange],
    /// Whether that is used in place of what the tree describes: it is a file's, which nobody has filled in.
    pub memory_counts: bool,
    /// What the firmware keeps after it has ended (physical).
    pub reserved: &'a [PaRange],
}

/// Properties of `/chosen` that belong to the former loader, or that are set here.
const REPLACED: &[&str] = &[
    "#address-cells",
    "#size-cells",
    "bootargs",
    "linux,initrd-end",
    "linux,initrd-start",
    "ranges",
    "xen,dom0-bootargs",
    "xen,xen-bootargs",
];
const MODULE_NAMES: &[&str] = &["multiboot,module", "xen,multiboot-module"];

/// Makes the tree: a copy of the blob `dtb` with `additions`. It is read as the hypervisor reads its own, so what is
/// refused is refused while the firmware can still say why.
pub fn build(dtb: &[u8], additions: &Additions<'_>) -> Result<Vec<u8>, TreeError> {
    let tree = Tree::parse(dtb)?;
    let mut out = Writer::new(MAX_BYTES);
    let root = tree.root();
    out.begin("")?;
    out.properties(root, &[])?;
    let (mut has_chosen, mut has_memory) = (false, false);
    for child in root.children() {
        if child.base_name() == "chosen" && !has_chosen {
            has_chosen = true;
            chosen(&mut out, Some(child), additions)?;
        } else if !is_memory(child) || !additions.memory_counts {
            has_memory |= is_memory(child);
            out.copy(child, &[])?;
        }
    }
    if !has_chosen {
        chosen(&mut out, None, additions)?;
    }
    if !has_memory {
        memory(&mut out, root, additions.memory)?;
    }
    out.end()?;
    let kept = tree.reservations().iter();
    merge(kept.chain(additions.reserved).copied()).into_iter().for_each(|range| out.reserve(range));
    out.finish()
}

/// Sorted ranges that do not touch, with the same bytes.
fn merge(ranges: impl Iterator<Item = PaRange>) -> Vec<PaRange> {
    let mut merged: Vec<PaRange> = Vec::new();
    for mut range in ranges.filter(|range| !range.is_empty()) {
        merged.retain(|other| {
            let apart = other.end < range.start || range.end < other.start;
            if !apart {
                range = PaRange { start: range.start.min(other.start), end: range.end.max(other.end) };
            }
            apart
        });
        let place = merged.iter().position(|other| range < *other).unwrap_or(merged.len());
        merged.insert(place, range);
    }
    merged
}

fn is_memory(node: Node<'_, '_>) -> bool {
    let is_named = node.string("device_type") == Some("memory") || node.base_name() == "memory";
    is_named && node.property("reg").is_some_and(|value| value.iter().any(|byte| *byte != 0))
}

fn chosen(out: &mut Writer, old: Option<Node<'_, '_>>, additions: &Additions<'_>) -> Result<(), TreeError> {
    out.begin("chosen")?;
    if let Some(old) = old {
        out.properties(old, REPLACED)?;
    }
    out.cells("#address-cells", &[2])?;
    out.cells("#size-cells", &[2])?;
    out.property("ranges", &[])?;
    out.string("xen,xen-bootargs", additions.options)?;
    for module in additions.modules {
        let (name, compatible) = match module.kind {
            ModuleKind::Kernel => ("kernel", "multiboot,kernel"),
            ModuleKind::Ramdisk => ("ramdisk", "multiboot,ramdisk"),
        };
        let (start, size) = (module.range.start.0, module.range.size());
        out.begin(&format!("{name}@{start:x}"))?;
        out.strings("compatible", &[compatible, "multiboot,module"])?;
        out.property("reg", [start.to_be_bytes(), size.to_be_bytes()].as_flattened())?;
        if module.kind == ModuleKind::Kernel {
            out.string("bootargs", module.args)?;
        }
        out.end()?;
    }
    let others = old.into_iter().flat_map(|old| old.children());
    for child in others.filter(|child| !child.is_compatible_any(MODULE_NAMES)) {
        out.copy(child, &[])?;
    }
    out.end()
}

fn memory(out: &mut Writer, root: Node<'_, '_>, ranges: &[PaRange]) -> Result<(), TreeError> {
    for range in merge(ranges.iter().copied()) {
        out.begin(&format!("memory@{:x}", range.start.0))?;
        out.string("device_type", "memory")?;
        out.property("reg", &registers(root, "memory", &[range])?)?;
        out.end()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use dtoolkit::fdt::{Fdt, FdtNode};
    use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
    use dtoolkit::{Node as _, Property as _};
    use vambrace_core::addr::Pa;
    use vm_fdt::{FdtReserveEntry, FdtWriter};

    use super::*;

    fn range(start: u64, size: u64) -> PaRange {
        PaRange::new(Pa(start), size).unwrap()
    }

    fn firmware_tree(with_memory: bool) -> Vec<u8> {
        let mut writer =
            FdtWriter::new_with_mem_reserv(&[FdtReserveEntry::new(0x1000, 0x1000).unwrap()]).unwrap();
        let root = writer.begin_node("").unwrap();
        writer.property_u32("#address-cells", 2).unwrap();
        writer.property_u32("#size-cells", 2).unwrap();
        let chosen = writer.begin_node("chosen").unwrap();
        writer.property_string("bootargs", "old").unwrap();
        writer.property_string("stdout-path", "/uart").unwrap();
        let stale = writer.begin_node("module@0").unwrap();
        writer.property_string("compatible", "multiboot,module").unwrap();
        writer.end_node(stale).unwrap();
        writer.end_node(chosen).unwrap();
        if with_memory {
            let memory = writer.begin_node("memory@40000000").unwrap();
            writer.property_string("device_type", "memory").unwrap();
            writer.property_array_u64("reg", &[0x4000_0000, 0x4000_0000]).unwrap();
            writer.end_node(memory).unwrap();
        }
        writer.end_node(root).unwrap();
        writer.finish().unwrap()
    }

    fn additions<'a>(
        modules: &'a [Module<'a>],
        memory: &'a [PaRange],
        reserved: &'a [PaRange],
    ) -> Additions<'a> {
        Additions { modules, options: "dom0_mem=1G", memory, memory_counts: false, reserved }
    }

    #[test]
    fn adds_modules_and_drops_stale_ones() {
        let modules = [
            Module { kind: ModuleKind::Kernel, range: range(0x1_8000_0000, 0x123), args: "console=hvc0" },
            Module { kind: ModuleKind::Ramdisk, range: range(0x5000_0000, 7), args: "" },
        ];
        let memory = [range(0, 1)];
        let blob =
            build(&firmware_tree(true), &additions(&modules, &memory, &[range(0x1800, 0x1000)])).unwrap();
        let fdt = Fdt::new(&blob).unwrap();
        let chosen = fdt.find_node("/chosen").unwrap();
        let text = |node: &FdtNode<'_>, name: &str| node.property(name).map(|p| Vec::from(p.value()));
        assert_eq!(text(&chosen, "xen,xen-bootargs"), Some(b"dom0_mem=1G\0".to_vec()));
        assert_eq!(text(&chosen, "stdout-path"), Some(b"/uart\0".to_vec()));
        assert_eq!((text(&chosen, "bootargs"), fdt.find_node("/chosen/module@0").is_none()), (None, true));
        let kernel = fdt.find_node("/chosen/kernel@180000000").unwrap();
        assert_eq!(text(&kernel, "compatible"), Some(b"multiboot,kernel\0multiboot,module\0".to_vec()));
        assert_eq!(
            text(&kernel, "reg"),
            Some([0x1_8000_0000u64.to_be_bytes(), 0x123u64.to_be_bytes()].concat())
        );
        assert_eq!(text(&kernel, "bootargs"), Some(b"console=hvc0\0".to_vec()));
        assert!(fdt.find_node("/chosen/ramdisk@50000000").is_some());
        assert!(fdt.find_node("/memory@40000000").is_some() && fdt.find_node("/memory@0").is_none());
        let reserved: Vec<_> = fdt.memory_reservations().map(|r| (r.address(), r.size())).collect();
        assert_eq!(reserved, [(0x1000, 0x1800)]);
    }

    #[test]
    fn adds_memory_where_there_is_none() {
        let memory = [range(0x8000_0000, 0x1000), range(0x4000_0000, 0x1000), range(0x4000_1000, 0x1000)];
        let blob = build(&firmware_tree(false), &additions(&[], &memory, &[])).unwrap();
        let fdt = Fdt::new(&blob).unwrap();
        let node = fdt.find_node("/memory@40000000").unwrap();
        let reg = node.property("reg").map(|p| Vec::from(p.value()));
        assert_eq!(reg, Some([0x4000_0000u64.to_be_bytes(), 0x2000u64.to_be_bytes()].concat()));
        assert!(fdt.find_node("/memory@80000000").is_some());
    }

    #[test]
    fn a_file_s_tree_does_not_say_what_memory_there_is() {
        let memory = [range(0x40_0000_0000, 0x1000)];
        let own = Additions { memory_counts: true, ..additions(&[], &memory, &[]) };
        let blob = build(&firmware_tree(true), &own).unwrap();
        let fdt = Fdt::new(&blob).unwrap();
        assert!(fdt.find_node("/memory@4000000000").is_some() && fdt.find_node("/memory@40000000").is_none());
    }

    /// More than half of all real arm64 trees have such names, and firmware leaves room behind its tree.
    #[test]
    fn takes_names_and_files_longer_than_the_specification_has_them() {
        let node_name = "usb-host-controller-with-phy-and-hub@fe800000";
        let property_name = "snps,parkmode-disable-super-speed-quirk-";
        assert_eq!((node_name.split('@').next().unwrap().len(), property_name.len()), (36, 40));
        let mut host = DeviceTree::new();
        let long = DeviceTreeProperty::new_unchecked(property_name, 7_u32);
        let mut node = DeviceTreeNode::new_unchecked(node_name);
        node.add_property(long);
        host.root.add_child(node);
        let mut blob = host.to_dtb();
        blob.resize(blob.len() + 4096, 0xff);
        assert!(Fdt::new(&blob).is_err(), "the strict reader does not take it");
        let written = build(&blob, &additions(&[], &[], &[range(0x1000, 0x1000)])).unwrap();
        let tree = Tree::parse(&written).unwrap();
        let copied = tree.by_path(&format!("/{node_name}")).unwrap();
        assert_eq!(copied.property(property_name), Some(&[0, 0, 0, 7][..]));
        assert_eq!(tree.reservations(), [range(0x1000, 0x1000)]);
    }

    #[test]
    fn says_what_is_wrong() {
        let none = additions(&[], &[], &[]);
        let error = |dtb: &[u8], additions: &Additions<'_>| build(dtb, additions).unwrap_err();
        assert!(matches!(error(b"no tree", &none), TreeError::Host(_)));
        let options = "x".repeat(MAX_BYTES);
        let large = Additions { options: &options, ..none };
        assert_eq!(error(&firmware_tree(true), &large), TreeError::TooLarge(MAX_BYTES));
        // The root's cells, where it sets none: two for addresses, one for sizes.
        let blob = DeviceTree::new().to_dtb();
        let memory = [range(0x4000_0000, 0x1_0000_0000)];
        let error = error(&blob, &additions(&[], &memory, &[]));
        assert_eq!(error, TreeError::DoesNotFit("memory", memory[0]));
    }

    #[test]
    fn refuses_what_is_no_tree() {
        let none = additions(&[], &[], &[]);
        let tree = firmware_tree(true);
        for length in 0..tree.len() {
            assert!(build(&tree[..length], &none).is_err(), "a tree cut to {length} bytes");
        }
        // A flipped bit anywhere gives an error or a tree, never a panic.
        for place in 0..tree.len() {
            let mut bad = tree.clone();
            bad[place] ^= 1 << (place % 8);
            if let Ok(blob) = build(&bad, &none) {
                assert!(Tree::parse(&blob).is_ok());
            }
        }
    }
}
