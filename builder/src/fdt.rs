//! Device trees: reading what a board's tree says of its memory, and writing it anew with the boot modules in it.
//!
//! The format is that of the Devicetree Specification 0.4; the modules follow Xen's docs/misc/arm/device-tree/booting.txt.
//! Trees are read by the hypervisor's own reader: what it refuses here could not boot either.

use crate::error::{Error, Result};
use crate::guest::nodes as guest;
use std::collections::BTreeMap;
use vambrace_bsp::Amendment;
use vambrace_core::platform::tree::{Node, NodeId, Tree, total_size};
use writer::Writer;

mod writer;

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
    /// Where CPUs other than the first wait to be released, by the method `spin-table`: the addresses that their
    /// nodes name, each once, sorted.
    pub spin_tables: Vec<u64>,
    /// Size of the tree in bytes.
    pub size: u64,
}

fn parse(blob: &[u8]) -> Result<Tree<'_>> {
    if total_size(blob).is_none() {
        return Err(Error::new("this is not a device tree blob"));
    }
    Tree::parse(blob).map_err(|error| Error::new(format!("the device tree is damaged: {error}")))
}

/// Reads the device tree `blob`; what follows the tree in it is ignored.
///
/// # Errors
/// When it is no device tree, truncated, damaged, or a `reg` of memory does not fit its cells.
pub fn summary(blob: &[u8]) -> Result<Summary> {
    let tree = parse(blob)?;
    let root = tree.root();
    let text =
        |node: Option<Node<'_, '_>>, name: &str| node.and_then(|node| node.string(name)).map(str::to_owned);
    let mut summary = Summary {
        model: text(Some(root), "model"),
        compatible: root.strings("compatible").map(str::to_owned).collect(),
        size: total_size(blob).map_or(0, u64::from),
        bootargs: text(root.child("chosen"), "bootargs"),
        stdout: text(root.child("chosen"), "stdout-path"),
        ..Summary::default()
    };
    for node in root.children().filter(is_memory) {
        summary.memory.extend(ranges(&node)?);
    }
    summary.reserved = tree.reservations().iter().map(|range| (range.start.0, range.size())).collect();
    for node in root.child("reserved-memory").into_iter().flat_map(|node| node.children()) {
        summary.reserved.extend(ranges(&node)?);
    }
    for node in root.child("cpus").into_iter().flat_map(|node| node.children()) {
        if node.string("enable-method") == Some("spin-table")
            && let Ok(Some(address)) = node.number("cpu-release-addr")
        {
            summary.spin_tables.push(address);
        }
    }
    summary.spin_tables.sort_unstable();
    summary.spin_tables.dedup();
    summary.memory.retain(|range| range.1 != 0);
    summary.memory.sort_unstable();
    summary.reserved.sort_unstable();
    Ok(summary)
}

/// A tree with nothing in it, in place of one that is not there yet.
pub(crate) fn empty() -> Result<Vec<u8>> {
    let mut writer = Writer::default();
    writer.begin("");
    writer.cell("#address-cells", 2)?;
    writer.cell("#size-cells", 2)?;
    writer.end();
    writer.finish(&[], 0)
}

fn is_memory(node: &Node<'_, '_>) -> bool {
    node.string("device_type") == Some("memory")
}

/// The ranges in `reg` of a node whose parent's addresses are the CPU's.
fn ranges(node: &Node<'_, '_>) -> Result<Vec<(u64, u64)>> {
    let bad = |why: &str| Error::new(format!("`reg` of {} in the device tree {why}", node.name()));
    let Some(reg) = node.property("reg") else { return Ok(Vec::new()) };
    let cells = CellCounts::of(node.parent().as_ref(), CellCounts { address: 2, size: 1 });
    let entry = (cells.address as usize).saturating_add(cells.size as usize).saturating_mul(4);
    if entry == 0 || !reg.len().is_multiple_of(entry) {
        return Err(bad("does not fit its cells"));
    }
    let number = |bytes: &[u8]| {
        let (high, low) = bytes.split_at(bytes.len().saturating_sub(8));
        high.iter()
            .all(|byte| *byte == 0)
            .then(|| low.iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte)))
    };
    let mut ranges = Vec::new();
    for entry in reg.chunks_exact(entry) {
        let (address, size) = entry.split_at(cells.address as usize * 4);
        let (Some(address), Some(size)) = (number(address), number(size)) else {
            return Err(bad("has a number that is too large"));
        };
        if address.checked_add(size).is_none() {
            return Err(bad(&format!("wraps around: {size:#x} bytes at {address:#x}")));
        }
        ranges.push((address, size));
    }
    Ok(ranges)
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

/// What the tree that the hypervisor is given says beyond the board's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootModules {
    /// The hypervisor's command line.
    pub hypervisor_args: String,
    /// dom0's command line.
    pub dom0_args: String,
    /// The modules, for `/chosen`.
    pub modules: Vec<Module>,
    /// The guests that the hypervisor starts, for `/chosen`.
    pub guests: Vec<guest::Node>,
    /// The devices that are marked as guests', by their paths in the tree.
    pub devices: Vec<String>,
    /// RAM, first address and size in bytes, that is described where the tree's memory nodes do not cover it; `None`
    /// where firmware fills that in.
    pub memory: Option<(u64, u64)>,
}

/// Numbers of 32-bit cells of an address and of a size.
#[derive(Clone, Copy)]
pub(crate) struct CellCounts {
    pub(crate) address: u32,
    pub(crate) size: u32,
}

impl CellCounts {
    /// What `node` says of its children, or `otherwise`. More cells than any address has end at a number that no
    /// `reg` fits.
    pub(crate) fn of(node: Option<&Node<'_, '_>>, otherwise: Self) -> Self {
        let count = |name, otherwise| {
            node.and_then(|node| node.cell(name).ok().flatten()).map_or(otherwise, |count| count.min(1 << 16))
        };
        Self {
            address: count("#address-cells", otherwise.address),
            size: count("#size-cells", otherwise.size),
        }
    }

    /// `address` and `size` as a `reg` of these cells.
    fn reg(self, address: u64, size: u64) -> Vec<u8> {
        let mut reg = Vec::new();
        for (value, cells) in [(address, self.address), (size, self.size)] {
            // Of eight bytes, the last four make one cell.
            reg.extend(value.to_be_bytes().iter().skip(if cells == 2 { 0 } else { 4 }));
        }
        reg
    }

    /// Whether both can be written in these cells.
    fn hold(self, address: u64, size: u64) -> bool {
        let fits = |value: u64, cells: u32| cells == 2 || u32::try_from(value).is_ok();
        fits(address, self.address) && fits(size, self.size)
    }

    /// Refuses numbers of cells that cannot be written.
    pub(crate) fn checked(self, what: &str) -> Result<Self> {
        if (1..=2).contains(&self.address) && (1..=2).contains(&self.size) {
            return Ok(self);
        }
        Err(Error::new(format!(
            "{what} of the device tree has addresses of {} cells and sizes of {}; 1 and 2 are possible",
            self.address, self.size
        )))
    }
}

impl BootModules {
    /// Writes the device tree `base` anew with these modules and command lines in `/chosen`, in place of any that
    /// were there. `/chosen` keeps its numbers of cells: what else is in it depends on them. Symbols for overlays are
    /// left out: nothing behind this applies one.
    ///
    /// # Errors
    /// When `base` is no sound device tree, a command line is too long or has a control character, a module is empty,
    /// does not fit the cells of `/chosen`, wraps around, or overlaps another; when a guest's device is not in the tree.
    pub fn insert(&self, base: &[u8]) -> Result<Vec<u8>> {
        let known = summary(base)?;
        let tree = parse(base)?;
        let root = tree.root();
        let chosen = root.child("chosen");
        let cells =
            CellCounts::of(chosen.as_ref(), CellCounts { address: 2, size: 2 }).checked("`/chosen`")?;
        let modules = self.checked(cells)?;
        let covered = |(start, size): (u64, u64)| covers(&known.memory, start, start.saturating_add(size));
        let memory = self.memory.filter(|memory| !covered(*memory));
        let missing = |path: &String| {
            Error::new(format!("the device tree has no `{path}`, which a guest's partial device tree names"))
        };
        let device = |path: &String| tree.by_path(path).map(|node| node.id()).ok_or_else(|| missing(path));
        let marked = |id| (id, vec![("xen,passthrough", Vec::new())]);
        let devices: Changes<'_> =
            self.devices.iter().map(|path| device(path).map(marked)).collect::<Result<_>>()?;
        let mut writer = Writer::default();
        writer.begin("");
        for property in root.properties() {
            writer.property(property.name, property.value)?;
        }
        for child in root.children().filter(|child| !child.name().starts_with("__")) {
            if child.name() == "chosen" || memory.is_some() && is_memory(&child) {
                continue;
            }
            copy(&mut writer, &child, &devices)?;
        }
        if let Some((start, size)) = memory {
            let cells =
                CellCounts::of(Some(&root), CellCounts { address: 2, size: 1 }).checked("the root")?;
            if !cells.hold(start, size) {
                return Err(Error::new(format!(
                    "{size:#x} bytes of memory at {start:#x} do not fit the cells of the device tree's root"
                )));
            }
            writer.begin(&format!("memory@{start:x}"));
            writer.strings("device_type", &["memory"])?;
            writer.property("reg", &cells.reg(start, size))?;
            writer.end();
        }
        self.write_chosen(&mut writer, chosen.as_ref(), &modules, cells)?;
        writer.end();
        finish(writer, &tree, base)
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
            if !cells.hold(module.address, module.size) {
                return Err(cannot("does not fit the cells of `/chosen`"));
            }
            if module.address < free {
                return Err(cannot("lies over the one before it"));
            }
            free = module.address.checked_add(module.size).ok_or_else(|| cannot("wraps around"))?;
        }
        Ok(modules)
    }

    fn write_chosen(
        &self,
        writer: &mut Writer,
        there: Option<&Node<'_, '_>>,
        modules: &[Module],
        cells: CellCounts,
    ) -> Result<()> {
        const OURS: [&str; 4] = ["#address-cells", "#size-cells", "xen,xen-bootargs", "xen,dom0-bootargs"];
        writer.begin("chosen");
        for property in there.into_iter().flat_map(|node| node.properties()) {
            if !OURS.contains(&property.name) {
                writer.property(property.name, property.value)?;
            }
        }
        writer.cell("#address-cells", cells.address)?;
        writer.cell("#size-cells", cells.size)?;
        writer.strings("xen,xen-bootargs", &[&self.hypervisor_args])?;
        writer.strings("xen,dom0-bootargs", &[&self.dom0_args])?;
        for child in there.into_iter().flat_map(|node| node.children()) {
            if !child.is_compatible("multiboot,module") {
                copy(writer, &child, &Changes::new())?;
            }
        }
        for module in modules {
            let kind = match module.kind {
                ModuleKind::Kernel => "multiboot,kernel",
                ModuleKind::Ramdisk => "multiboot,ramdisk",
            };
            writer.begin(&format!("module@{:x}", module.address));
            writer.strings("compatible", &[kind, "multiboot,module"])?;
            writer.property("reg", &cells.reg(module.address, module.size))?;
            writer.end();
        }
        self.guests.iter().try_for_each(|guest| write_guest(writer, guest))?;
        writer.end();
        Ok(())
    }
}

/// Whether the sorted `ranges` hold every byte from `start` to `end`.
fn covers(ranges: &[(u64, u64)], start: u64, end: u64) -> bool {
    let mut reached = start;
    for (from, size) in ranges {
        if *from <= reached {
            reached = reached.max(from.saturating_add(*size));
        }
    }
    reached >= end
}

/// Writes a guest's node with all below it.
fn write_guest(writer: &mut Writer, node: &guest::Node) -> Result<()> {
    writer.begin(&node.name);
    for (name, value) in &node.properties {
        match value {
            guest::Value::Flag => writer.property(name, &[])?,
            guest::Value::Cells(cells) => {
                let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
                writer.property(name, &bytes)?;
            }
            guest::Value::Strings(all) => {
                let all: Vec<&str> = all.iter().map(String::as_str).collect();
                writer.strings(name, &all)?;
            }
        }
    }
    node.children.iter().try_for_each(|child| write_guest(writer, child))?;
    writer.end();
    Ok(())
}

/// Properties that nodes of a tree get, in place of those of the same name.
type Changes<'a> = BTreeMap<NodeId, Vec<(&'a str, Vec<u8>)>>;

/// Writes the device tree `base` anew with these properties in it.
///
/// # Errors
/// When `base` is no sound device tree, or has not a node that is to be amended.
pub fn amend(base: &[u8], amendments: &[Amendment]) -> Result<Vec<u8>> {
    let tree = parse(base)?;
    let mut changes = Changes::new();
    for Amendment { node, property, cells, .. } in amendments {
        let found = tree.by_path(node).ok_or_else(|| {
            Error::new(format!("the device tree has no `{node}`, whose `{property}` is to be amended"))
        })?;
        let value = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        changes.entry(found.id()).or_default().push((property, value));
    }
    let mut writer = Writer::default();
    copy(&mut writer, &tree.root(), &changes)?;
    finish(writer, &tree, base)
}

/// The tree that was written in place of `base`, which it takes its reservations and its boot CPU from. What was written
/// has to be read again, by the hypervisor too.
fn finish(writer: Writer, tree: &Tree<'_>, base: &[u8]) -> Result<Vec<u8>> {
    let reservations: Vec<(u64, u64)> =
        tree.reservations().iter().map(|range| (range.start.0, range.size())).collect();
    let boot_cpu = base.get(28..32).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes);
    let made = writer.finish(&reservations, boot_cpu)?;
    summary(&made)?;
    Ok(made)
}

/// Copies a node with all below it; the reader has bounded how deep that goes.
fn copy(writer: &mut Writer, from: &Node<'_, '_>, changes: &Changes<'_>) -> Result<()> {
    writer.begin(from.name());
    let own = changes.get(&from.id()).map_or(&[][..], Vec::as_slice);
    for property in
        from.properties().iter().filter(|property| own.iter().all(|(name, _)| *name != property.name))
    {
        writer.property(property.name, property.value)?;
    }
    for (name, value) in own {
        writer.property(name, value)?;
    }
    for child in from.children() {
        copy(writer, &child, changes)?;
    }
    writer.end();
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
            guests: Vec::new(),
            devices: Vec::new(),
            memory: None,
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
    fn an_amended_tree_differs_in_what_was_amended() {
        let dir = tempfile::tempdir().unwrap();
        let Some(base) = dtc(dir.path(), BOARD) else { return };
        let change = |node: &str, property: &str| Amendment {
            node: node.into(),
            property: property.into(),
            cells: vec![1, 0x8000_0000, 0, 0x4000_0000],
            why: "a test".into(),
        };
        let made =
            amend(&base, &[change("/memory@140000000", "reg"), change("/memory@140000000", "vmb,new")])
                .unwrap();
        let (before, after) = (summary(&base).unwrap(), summary(&made).unwrap());
        assert!(after.memory.contains(&(0x1_8000_0000, 0x4000_0000)), "{after:?}");
        assert!(!after.memory.contains(&(0x1_4000_0000, 0x8000_0000)));
        assert_eq!((before.model, before.reserved), (after.model, after.reserved));
        let tree = parse(&made).unwrap();
        let node = tree.by_path("/memory@140000000").unwrap();
        assert_eq!(
            (node.property("vmb,new").unwrap().len(), node.string("device_type")),
            (16, Some("memory"))
        );
        let error = amend(&base, &[change("/memory@0", "reg")]).unwrap_err();
        assert!(error.what().contains("no `/memory@0`"), "{error}");
    }

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
    fn guests_devices_are_marked() {
        let dir = tempfile::tempdir().unwrap();
        let Some(blob) = dtc(dir.path(), BOARD) else { return };
        let devices = vec!["/reserved-memory/fw@50000000".to_owned()];
        let made = BootModules { devices, ..modules() }.insert(&blob).unwrap();
        let tree = Tree::parse(&made).unwrap();
        let marked: Vec<String> =
            tree.nodes().filter(|node| node.has("xen,passthrough")).map(|node| node.path()).collect();
        assert_eq!(marked, ["/reserved-memory/fw@50000000"]);
        let none = BootModules { devices: vec!["/rtc".to_owned()], ..modules() }.insert(&blob);
        assert!(none.unwrap_err().what().contains("no `/rtc`"));
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
    fn memory_is_described_where_the_tree_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let Some(base) = dtc(dir.path(), BOARD) else { return };
        let with = |memory, base: &[u8]| {
            summary(&BootModules { memory: Some(memory), ..modules() }.insert(base).unwrap()).unwrap().memory
        };
        let there = summary(&base).unwrap().memory;
        // Two banks that touch are one to those who look at addresses.
        assert_eq!(with((0x4000_0000, 0x8000_0000), &base), there);
        assert_eq!(with((0x4000_0000, 0x8000_1000), &base), [(0x4000_0000, 0x8000_1000)]);
        let none = dtc(dir.path(), "/dts-v1/; / { #address-cells = <1>; #size-cells = <1>; };").unwrap();
        assert_eq!(with((0x4000_0000, 0x4000_0000), &none), [(0x4000_0000, 0x4000_0000)]);
        assert!(BootModules { memory: Some((1 << 32, 4096)), ..modules() }.insert(&none).is_err());
    }

    #[test]
    fn names_are_as_long_as_real_trees_have_them() {
        let dir = tempfile::tempdir().unwrap();
        let long = BOARD.replace(
            "chosen {",
            "a-node-with-a-name-of-more-than-31-characters { a-property-with-a-name-of-more-than-31-characters; }; chosen {",
        );
        let Some(base) = dtc(dir.path(), &long) else { return };
        let text = source(dir.path(), &modules().insert(&base).unwrap());
        assert!(text.contains("a-property-with-a-name-of-more-than-31-characters;"), "{text}");
    }

    #[test]
    fn waiting_cpus_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let source = "/dts-v1/; / { cpus { #address-cells = <1>; #size-cells = <0>;
            cpu@0 { reg = <0>; enable-method = \"spin-table\"; cpu-release-addr = <0 0x8000fff8>; };
            cpu@1 { reg = <1>; enable-method = \"spin-table\"; cpu-release-addr = <0 0x8000fff8>; };
            cpu@2 { reg = <2>; enable-method = \"psci\"; cpu-release-addr = <0 0x1000>; }; }; };";
        let Some(blob) = dtc(dir.path(), source) else { return };
        assert_eq!(summary(&blob).unwrap().spin_tables, [0x8000_fff8]);
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
