//! Device trees: reading what a board's tree says of its memory, and writing it anew with the boot modules in it.
//!
//! The format is that of the Devicetree Specification 0.4; the modules follow Xen's docs/misc/arm/device-tree/booting.txt.

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};
use vm_fdt::{FdtReserveEntry, FdtWriter};

use crate::error::{Error, Result};

/// Device trees larger than this are refused: U-Boot and Linux end at 2 MiB.
const MAX_SIZE: usize = 2 << 20;
/// Longest command line that Linux on ARM takes, with its NUL.
const MAX_ARGUMENTS: usize = 2048;

/// What a device tree says that matters to placing things in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The board's name.
    pub model: Option<String>,
    /// The board's kinds, the most exact first.
    pub compatible: Vec<String>,
    /// Physical memory: address and size in bytes, sorted. Empty where firmware fills it in.
    pub memory: Vec<(u64, u64)>,
    /// Memory that must be left alone: from the reservation block and `/reserved-memory`, sorted.
    pub reserved: Vec<(u64, u64)>,
    /// `/chosen/bootargs`.
    pub bootargs: Option<String>,
    /// `/chosen/stdout-path`.
    pub stdout: Option<String>,
    /// Size of the tree in bytes.
    pub size: u64,
}

/// Reads the device tree `blob`; what follows the tree in it is ignored.
///
/// # Errors
/// When it is no device tree, truncated, damaged, or a `reg` of memory does not fit its cells.
pub fn summary(blob: &[u8]) -> Result<Summary> {
    let damaged = |error: &dyn std::fmt::Display| Error::new(format!("the device tree is damaged: {error}"));
    if blob.get(..4) != Some(&[0xd0, 0x0d, 0xfe, 0xed]) {
        return Err(Error::new("this is not a device tree blob"));
    }
    let size = blob.get(4..8).and_then(|field| field.try_into().ok()).map_or(0, u32::from_be_bytes) as usize;
    if size > MAX_SIZE {
        return Err(Error::new(format!(
            "the device tree claims {size} bytes; the largest that boots has {MAX_SIZE}"
        )));
    }
    let tree = blob.get(..size).ok_or_else(|| {
        Error::new(format!("the device tree is truncated: {} bytes of {size} are there", blob.len()))
    })?;
    let fdt = Fdt::new(tree).map_err(|error| damaged(&error))?;
    let root = fdt.root();
    let mut summary = Summary {
        model: string(&root, "model"),
        compatible: strings(&root, "compatible"),
        size: size as u64,
        ..Summary::default()
    };
    for node in root.children() {
        if string(&node, "device_type").as_deref() == Some("memory") {
            summary.memory.extend(ranges(&node)?);
        }
    }
    summary.reserved = fdt.memory_reservations().map(|entry| (entry.address(), entry.size())).collect();
    if let Some(reserved) = fdt.find_node("/reserved-memory") {
        for node in reserved.children() {
            summary.reserved.extend(ranges(&node)?);
        }
    }
    if let Some(chosen) = fdt.find_node("/chosen") {
        summary.bootargs = string(&chosen, "bootargs");
        summary.stdout = string(&chosen, "stdout-path");
    }
    summary.memory.retain(|range| range.1 != 0);
    summary.memory.sort_unstable();
    summary.reserved.sort_unstable();
    Ok(summary)
}

fn ranges(node: &FdtNode<'_>) -> Result<Vec<(u64, u64)>> {
    let bad = |why: String| Error::new(format!("`reg` of {} in the device tree {why}", node.name()));
    let Some(regs) = node.reg().map_err(|error| bad(format!("is damaged: {error}")))? else {
        return Ok(Vec::new());
    };
    let mut ranges = Vec::new();
    for reg in regs {
        let address: u64 =
            reg.address().map_err(|error| bad(format!("has an address that is too large: {error}")))?;
        let size: u64 = reg.size().map_err(|error| bad(format!("has a size that is too large: {error}")))?;
        if address.checked_add(size).is_none() {
            return Err(bad(format!("wraps around: {size:#x} bytes at {address:#x}")));
        }
        ranges.push((address, size));
    }
    Ok(ranges)
}

fn string(node: &FdtNode<'_>, name: &str) -> Option<String> {
    strings(node, name).into_iter().next()
}

fn strings(node: &FdtNode<'_>, name: &str) -> Vec<String> {
    let Some(property) = node.property(name) else { return Vec::new() };
    let Some(value) = property.value().strip_suffix(&[0]) else { return Vec::new() };
    value.split(|&byte| byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

/// What a boot module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleKind {
    /// dom0's kernel.
    Kernel,
    /// dom0's initial RAM disk.
    Ramdisk,
}

/// One thing that the loader has put into memory for the hypervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// What it is.
    pub kind: ModuleKind,
    /// Physical address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
}

/// What goes below `/chosen` of the tree that the hypervisor is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootModules {
    /// The hypervisor's command line.
    pub hypervisor_args: String,
    /// dom0's command line.
    pub dom0_args: String,
    /// The modules.
    pub modules: Vec<Module>,
}

/// Numbers of 32-bit cells of an address and of a size.
#[derive(Clone, Copy)]
struct CellCounts {
    address: u32,
    size: u32,
}

impl BootModules {
    /// Writes the device tree `base` anew with these modules and command lines in `/chosen`, in place of any that
    /// were there. Symbols for overlays are left out: nothing behind this applies one.
    ///
    /// # Errors
    /// When `base` is no sound device tree, a command line is too long or has a control character, a module is empty,
    /// does not fit the cells of `/chosen`, wraps around, or overlaps another.
    pub fn insert(&self, base: &[u8]) -> Result<Vec<u8>> {
        let size = summary(base)?.size;
        let tree = usize::try_from(size).ok().and_then(|size| base.get(..size)).unwrap_or(base);
        let fdt =
            Fdt::new(tree).map_err(|error| Error::new(format!("the device tree is damaged: {error}")))?;
        let cells = match fdt.find_node("/chosen") {
            Some(chosen) => {
                let count = |name: &str| {
                    let value: Option<[u8; 4]> =
                        chosen.property(name).and_then(|count| count.value().try_into().ok());
                    value.map_or(2, u32::from_be_bytes)
                };
                CellCounts { address: count("#address-cells"), size: count("#size-cells") }
            }
            None => CellCounts { address: 2, size: 2 },
        };
        let modules = self.checked(cells)?;
        self.encode(fdt, &modules, cells)
            .map_err(|error| Error::new(format!("cannot write the device tree: {error}")))
    }

    /// The modules by address.
    fn checked(&self, cells: CellCounts) -> Result<Vec<Module>> {
        for (what, line) in [("the hypervisor's", &self.hypervisor_args), ("dom0's", &self.dom0_args)] {
            if line.len() >= MAX_ARGUMENTS {
                return Err(Error::new(format!(
                    "{what} command line has {} characters; {MAX_ARGUMENTS} are too many",
                    line.len()
                )));
            }
            if let Some(bad) = line.chars().find(|c| c.is_control()) {
                return Err(Error::new(format!("{what} command line has the character {bad:?}")));
            }
        }
        if !(1..=2).contains(&cells.address) || !(1..=2).contains(&cells.size) {
            return Err(Error::new(format!(
                "`/chosen` of the device tree has addresses of {} cells and sizes of {}; 1 and 2 are possible",
                cells.address, cells.size
            )));
        }
        let fits = |value: u64, cells: u32| cells == 2 || u32::try_from(value).is_ok();
        let mut modules = self.modules.clone();
        modules.sort_by_key(|module| module.address);
        let mut free = 0;
        for module in &modules {
            let cannot = |why: &str| {
                Error::new(format!(
                    "the boot module at {:#x} with {:#x} bytes {why}",
                    module.address, module.size
                ))
            };
            if module.size == 0 {
                return Err(cannot("is empty"));
            }
            if !fits(module.address, cells.address) || !fits(module.size, cells.size) {
                return Err(cannot("does not fit the cells of `/chosen`"));
            }
            if module.address < free {
                return Err(cannot("lies over the one before it"));
            }
            free = module.address.checked_add(module.size).ok_or_else(|| cannot("wraps around"))?;
        }
        Ok(modules)
    }

    fn encode(
        &self,
        fdt: Fdt<'_>,
        modules: &[Module],
        cells: CellCounts,
    ) -> std::result::Result<Vec<u8>, vm_fdt::Error> {
        let reserved = fdt
            .memory_reservations()
            .map(|entry| FdtReserveEntry::new(entry.address(), entry.size()))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let mut writer = FdtWriter::new_with_mem_reserv(&reserved)?;
        writer.set_boot_cpuid_phys(fdt.boot_cpuid_phys());
        let root = writer.begin_node("")?;
        let mut chosen_seen = false;
        let from = fdt.root();
        copy_properties(&mut writer, &from, &[])?;
        for child in from.children().filter(|child| !child.name().starts_with("__")) {
            if child.name() == "chosen" {
                chosen_seen = true;
                self.write_chosen(&mut writer, Some(&child), modules, cells)?;
            } else {
                copy(&mut writer, &child)?;
            }
        }
        if !chosen_seen {
            self.write_chosen(&mut writer, None, modules, cells)?;
        }
        writer.end_node(root)?;
        writer.finish()
    }

    fn write_chosen(
        &self,
        writer: &mut FdtWriter,
        there: Option<&FdtNode<'_>>,
        modules: &[Module],
        cells: CellCounts,
    ) -> std::result::Result<(), vm_fdt::Error> {
        let chosen = writer.begin_node("chosen")?;
        if let Some(there) = there {
            copy_properties(
                writer,
                there,
                &["#address-cells", "#size-cells", "xen,xen-bootargs", "xen,dom0-bootargs"],
            )?;
        }
        writer.property_u32("#address-cells", cells.address)?;
        writer.property_u32("#size-cells", cells.size)?;
        writer.property_string("xen,xen-bootargs", &self.hypervisor_args)?;
        writer.property_string("xen,dom0-bootargs", &self.dom0_args)?;
        for child in there.into_iter().flat_map(|node| node.children()) {
            if !strings(&child, "compatible").iter().any(|kind| kind == "multiboot,module") {
                copy(writer, &child)?;
            }
        }
        for module in modules {
            let kind = match module.kind {
                ModuleKind::Kernel => "multiboot,kernel",
                ModuleKind::Ramdisk => "multiboot,ramdisk",
            };
            let node = writer.begin_node(&format!("module@{:x}", module.address))?;
            writer
                .property_string_list("compatible", vec![kind.to_owned(), "multiboot,module".to_owned()])?;
            let mut reg = Vec::new();
            for (value, cells) in [(module.address, cells.address), (module.size, cells.size)] {
                // Of eight bytes, the last four make one cell.
                reg.extend(value.to_be_bytes().iter().skip(if cells == 2 { 0 } else { 4 }));
            }
            writer.property("reg", &reg)?;
            writer.end_node(node)?;
        }
        writer.end_node(chosen)
    }
}

/// Copies a node with all below it. The writer refuses trees that are too deep before the stack runs out.
fn copy(writer: &mut FdtWriter, from: &FdtNode<'_>) -> std::result::Result<(), vm_fdt::Error> {
    let node = writer.begin_node(from.name())?;
    copy_properties(writer, from, &[])?;
    for child in from.children() {
        copy(writer, &child)?;
    }
    writer.end_node(node)
}

fn copy_properties(
    writer: &mut FdtWriter,
    from: &FdtNode<'_>,
    without: &[&str],
) -> std::result::Result<(), vm_fdt::Error> {
    for property in from.properties().filter(|property| !without.contains(&property.name())) {
        writer.property(property.name(), property.value())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    fn modules() -> BootModules {
        BootModules {
            hypervisor_args: "dom0_mem=1G".into(),
            dom0_args: "console=hvc0 x=\"it's $y; \\z\"".into(),
            modules: vec![
                Module { kind: ModuleKind::Ramdisk, address: 0x1_4800_0000, size: 0x1234 },
                Module { kind: ModuleKind::Kernel, address: 0x4200_0000, size: 0x23e_a800 },
            ],
        }
    }

    /// Compiles a tree; `None` where dtc is missing.
    fn dtc(folder: &Path, source: &str) -> Option<Vec<u8>> {
        let (from, to) = (folder.join("in.dts"), folder.join("out.dtb"));
        std::fs::write(&from, source).unwrap();
        let output = Command::new("dtc")
            .args(["-q", "-I", "dts", "-O", "dtb", "-o"])
            .args([&to, &from])
            .output()
            .ok()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(std::fs::read(to).unwrap())
    }

    const BOARD: &str = "/dts-v1/; /memreserve/ 0x40000000 0x1000; / { model = \"Board\"; compatible = \"maker,board\", \"maker,soc\";
        #address-cells = <2>; #size-cells = <2>;
        memory@140000000 { device_type = \"memory\"; reg = <1 0x40000000 0 0x80000000>; };
        memory@40000000 { device_type = \"memory\"; reg = <0 0x40000000 0 0x80000000>, <0 0xf0000000 0 0>; };
        reserved-memory { #address-cells = <2>; #size-cells = <1>; ranges; fw@50000000 { reg = <0 0x50000000 0x10000>; }; dyn { size = <4>; }; };
        chosen { bootargs = \"quiet\"; stdout-path = \"/uart\"; }; };";

    #[test]
    fn a_board_s_tree_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let Some(blob) = dtc(dir.path(), BOARD) else { return };
        let read = summary(&blob).unwrap();
        assert_eq!(read.model.as_deref(), Some("Board"));
        assert_eq!(read.compatible, ["maker,board", "maker,soc"]);
        assert_eq!(read.memory, [(0x4000_0000, 0x8000_0000), (0x1_4000_0000, 0x8000_0000)]);
        assert_eq!(read.reserved, [(0x4000_0000, 0x1000), (0x5000_0000, 0x10000)]);
        assert_eq!((read.bootargs.as_deref(), read.stdout.as_deref()), (Some("quiet"), Some("/uart")));
        let mut longer = blob.clone();
        longer.extend([0xff; 100]);
        assert_eq!(summary(&longer).unwrap(), read);
    }

    #[test]
    fn a_damaged_tree_is_an_error_never_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let Some(blob) = dtc(dir.path(), BOARD) else { return };
        for cut in 0..blob.len() {
            assert!(summary(&blob[..cut]).is_err(), "{cut}");
            assert!(modules().insert(&blob[..cut]).is_err(), "{cut}");
        }
        for at in 0..blob.len() {
            for value in [0, 1, 0x7f, 0xff, blob[at] ^ 0x80] {
                let mut other = blob.clone();
                other[at] = value;
                // Many a byte may change and leave a tree; it must only come back.
                let _ = summary(&other);
                if value == 0xff {
                    let _ = modules().insert(&other);
                }
            }
        }
    }

    #[test]
    fn memory_that_wraps_around_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let source = "/dts-v1/; / { #address-cells = <2>; #size-cells = <2>;
            memory@0 { device_type = \"memory\"; reg = <0xffffffff 0xffff0000 0 0x20000>; }; };";
        let Some(blob) = dtc(dir.path(), source) else { return };
        assert!(summary(&blob).unwrap_err().to_string().contains("wraps around"));
        let three =
            source.replace("#address-cells = <2>", "#address-cells = <3>").replace("<0xff", "<1 0xff");
        let blob = dtc(dir.path(), &three).unwrap();
        assert!(summary(&blob).unwrap_err().to_string().contains("too large"));
    }

    /// What dtc makes of a blob, sorted.
    fn source(folder: &Path, blob: &[u8]) -> String {
        let path = folder.join("read.dtb");
        std::fs::write(&path, blob).unwrap();
        let output =
            Command::new("dtc").args(["-q", "-s", "-I", "dtb", "-O", "dts"]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn modules_come_into_a_tree_and_nothing_else_changes() {
        let dir = tempfile::tempdir().unwrap();
        let Some(base) = dtc(dir.path(), BOARD) else { return };
        let made = modules().insert(&base).unwrap();
        let text = source(dir.path(), &made);
        for line in [
            "/memreserve/\t0x0000000040000000 0x0000000000001000;",
            "reg = <0x01 0x48000000 0x00 0x1234>;",
            "reg = <0x00 0x42000000 0x00 0x23ea800>;",
            "compatible = \"multiboot,ramdisk\\0multiboot,module\";",
            "xen,dom0-bootargs = \"console=hvc0 x=\\\"it's $y; \\\\z\\\"\";",
            "bootargs = \"quiet\";",
        ] {
            assert!(text.contains(line) || text.contains(&line.replace("\\0", "\", \"")), "{line} in {text}");
        }
        // Once more: what was put in is replaced, not put in twice.
        assert_eq!(source(dir.path(), &modules().insert(&made).unwrap()), text);
        // Without modules and command lines, dtc sees the same tree but for `/chosen`.
        let outside = |text: &str| text.split("\tchosen {").next().unwrap_or_default().to_owned();
        assert_eq!(outside(&text), outside(&source(dir.path(), &base)));
        assert_eq!(summary(&made).unwrap().memory, summary(&base).unwrap().memory);
    }

    #[test]
    fn the_cells_of_the_board_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let narrow = BOARD.replace("chosen {", "chosen { #address-cells = <1>; #size-cells = <1>;");
        let Some(base) = dtc(dir.path(), &narrow) else { return };
        let mut few = modules();
        assert!(few.insert(&base).unwrap_err().to_string().contains("does not fit the cells"));
        few.modules.remove(0);
        assert!(source(dir.path(), &few.insert(&base).unwrap()).contains("reg = <0x42000000 0x23ea800>;"));
        let none = dtc(dir.path(), &narrow.replace("#address-cells = <1>", "#address-cells = <3>")).unwrap();
        assert!(few.insert(&none).is_err());
    }

    #[test]
    fn modules_that_cannot_be_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let Some(base) = dtc(dir.path(), BOARD) else { return };
        let with = |change: fn(&mut BootModules)| {
            let mut other = modules();
            change(&mut other);
            other.insert(&base)
        };
        assert!(with(|o| o.dom0_args = "a\nb".into()).is_err());
        assert!(with(|o| o.hypervisor_args = "x".repeat(2048)).is_err());
        assert!(with(|o| o.modules[0].size = 0).is_err());
        assert!(with(|o| o.modules[0].size = u64::MAX).is_err());
        assert!(with(|o| o.modules[0].address = 0x4200_1000).is_err());
        assert_eq!(with(|o| o.modules.reverse()).unwrap(), modules().insert(&base).unwrap());
    }
}
