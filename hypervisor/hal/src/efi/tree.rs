//! The device tree for the hypervisor, made of the firmware's and of what was loaded (multiboot device-tree protocol,
//! xen, docs/misc/arm/device-tree/booting.txt).

use alloc::format;
use alloc::vec::Vec;
use core::fmt;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};
use vambrace_core::addr::{Pa, PaRange};

use super::blob::Blob;

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
    /// What the firmware keeps after it has ended (physical).
    pub reserved: &'a [PaRange],
}

/// Why there is no tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TreeError {
    /// The firmware's cannot be read.
    Read,
    /// The new one cannot be written: a name, a depth or a size that the format does not allow.
    Write,
    /// The memory's addresses do not fit into the cells that the root node sets.
    Cells,
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "it is malformed",
            Self::Write => "it cannot be written again (an invalid name, or too large or too deep)",
            Self::Cells => "#address-cells or #size-cells of its root cannot express the memory",
        })
    }
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

/// Makes the tree: a copy of the blob `dtb` with `additions`.
pub fn build(dtb: &[u8], additions: &Additions<'_>) -> Result<Vec<u8>, TreeError> {
    let fdt = Fdt::new(dtb).map_err(|_| TreeError::Read)?;
    let mut blob = Blob::default();
    let root = fdt.root();
    blob.begin("")?;
    properties(&mut blob, &root, &[])?;
    let (mut has_chosen, mut has_memory) = (false, false);
    for child in root.children() {
        if child.name_without_address() == "chosen" && !has_chosen {
            has_chosen = true;
            chosen(&mut blob, Some(&child), additions)?;
        } else {
            has_memory |= is_memory(&child);
            copy(&mut blob, &child)?;
        }
    }
    if !has_chosen {
        chosen(&mut blob, None, additions)?;
    }
    if !has_memory {
        memory(&mut blob, &root, additions.memory)?;
    }
    blob.end();
    let kept = fdt.memory_reservations().filter_map(|entry| PaRange::new(Pa(entry.address()), entry.size()));
    let reserved = merge(kept.chain(additions.reserved.iter().copied()));
    blob.finish(&reserved, fdt.boot_cpuid_phys())
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

fn is_memory(node: &FdtNode<'_>) -> bool {
    let has_type = node.property("device_type").is_some_and(|property| property.value() == b"memory\0");
    (has_type || node.name_without_address() == "memory")
        && node.property("reg").is_some_and(|property| property.value().iter().any(|byte| *byte != 0))
}

fn is_module(node: &FdtNode<'_>) -> bool {
    node.property("compatible").is_some_and(|property| {
        property
            .value()
            .split(|byte| *byte == 0)
            .any(|name| MODULE_NAMES.iter().any(|known| known.as_bytes() == name))
    })
}

fn properties(blob: &mut Blob, node: &FdtNode<'_>, without: &[&str]) -> Result<(), TreeError> {
    for property in node.properties() {
        if !without.contains(&property.name()) {
            blob.property(property.name(), property.value())?;
        }
    }
    Ok(())
}

/// Copies a node with all below it. The writer refuses trees deeper than its limit, which bounds the recursion.
fn copy(blob: &mut Blob, node: &FdtNode<'_>) -> Result<(), TreeError> {
    blob.begin(node.name())?;
    properties(blob, node, &[])?;
    for child in node.children() {
        copy(blob, &child)?;
    }
    blob.end();
    Ok(())
}

fn chosen(blob: &mut Blob, old: Option<&FdtNode<'_>>, additions: &Additions<'_>) -> Result<(), TreeError> {
    blob.begin("chosen")?;
    if let Some(old) = old {
        properties(blob, old, REPLACED)?;
    }
    blob.property("#address-cells", &2u32.to_be_bytes())?;
    blob.property("#size-cells", &2u32.to_be_bytes())?;
    blob.property("ranges", &[])?;
    blob.text("xen,xen-bootargs", additions.options)?;
    for module in additions.modules {
        let (name, compatible) = match module.kind {
            ModuleKind::Kernel => ("kernel", &b"multiboot,kernel\0multiboot,module\0"[..]),
            ModuleKind::Ramdisk => ("ramdisk", &b"multiboot,ramdisk\0multiboot,module\0"[..]),
        };
        let (start, size) = (module.range.start.0, module.range.size());
        blob.begin(&format!("{name}@{start:x}"))?;
        blob.property("compatible", compatible)?;
        blob.property("reg", [start.to_be_bytes(), size.to_be_bytes()].as_flattened())?;
        if module.kind == ModuleKind::Kernel {
            blob.text("bootargs", module.args)?;
        }
        blob.end();
    }
    for child in old.into_iter().flat_map(|old| old.children()).filter(|child| !is_module(child)) {
        copy(blob, &child)?;
    }
    blob.end();
    Ok(())
}

fn memory(blob: &mut Blob, root: &FdtNode<'_>, ranges: &[PaRange]) -> Result<(), TreeError> {
    let cells = |name: &str, default: u32| match root.property(name) {
        None => Ok(default),
        Some(property) => property.value_as::<u32>().map_err(|_| TreeError::Read),
    };
    let cells = [cells("#address-cells", 2)?, cells("#size-cells", 1)?];
    for range in merge(ranges.iter().copied()) {
        let mut reg = Vec::new();
        for (value, cells) in [range.start.0, range.size()].into_iter().zip(cells) {
            match (cells, u32::try_from(value)) {
                (1, Ok(value)) => reg.extend_from_slice(&value.to_be_bytes()),
                (2, _) => reg.extend_from_slice(&value.to_be_bytes()),
                _ => return Err(TreeError::Cells),
            }
        }
        blob.begin(&format!("memory@{:x}", range.start.0))?;
        blob.text("device_type", "memory")?;
        blob.property("reg", &reg)?;
        blob.end();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
        Additions { modules, options: "dom0_mem=1G", memory, reserved }
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
                assert!(Fdt::new(&blob).is_ok());
            }
        }
    }
}
