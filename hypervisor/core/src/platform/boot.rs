//! What the loader left for the hypervisor: modules and command lines in `/chosen` (multiboot device-tree protocol).

use alloc::string::String;
use alloc::vec::Vec;

use super::address::{address_cells, entries, size_cells};
use super::error::{PlatformError, Problem};
use super::static_guest::{self, StaticGuests};
use super::tree::{Node, Tree};
use crate::addr::{Pa, PaRange};

/// Most modules accepted.
const MAX_MODULES: usize = 32;

/// What a module is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ModuleKind {
    /// Dom0's kernel.
    Kernel,
    /// Dom0's initial RAM disk.
    Ramdisk,
    /// Something else, by its `compatible`; the hypervisor leaves it alone.
    Other(String),
}

/// A file that the loader put into memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Module {
    /// What it is for.
    pub kind: ModuleKind,
    /// Path of its node.
    pub path: String,
    /// Physical range.
    pub range: PaRange,
    /// `bootargs` on the module.
    pub args: Option<String>,
}

/// Modules and command lines.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Boot {
    /// All modules, in the order of the tree.
    pub modules: Vec<Module>,
    /// The hypervisor's command line.
    pub hypervisor_args: String,
    /// Dom0's command line.
    pub dom0_args: String,
    /// Guests that are started with dom0.
    pub domains: StaticGuests,
}

impl Boot {
    /// Dom0's kernel.
    pub fn kernel(&self) -> Option<&Module> {
        self.modules.iter().find(|module| module.kind == ModuleKind::Kernel)
    }
    /// Dom0's initial RAM disk.
    pub fn ramdisk(&self) -> Option<&Module> {
        self.modules.iter().find(|module| module.kind == ModuleKind::Ramdisk)
    }
}

/// Whether a child of `/chosen` is a module.
pub(crate) fn is_module(node: Node<'_, '_>) -> bool {
    node.is_compatible_any(&["multiboot,module", "xen,multiboot-module"])
}

/// Reads `/chosen`.
pub(crate) fn find(tree: &Tree<'_>, warnings: &mut Vec<String>) -> Result<Boot, PlatformError> {
    let Some(chosen) = tree.root().child("chosen") else { return Ok(Boot::default()) };
    let mut modules: Vec<Module> = Vec::new();
    for node in chosen.children() {
        if !is_module(node) {
            continue;
        }
        if modules.len() >= MAX_MODULES {
            return Err(chosen.error("", Problem::TooLarge { what: "modules", limit: MAX_MODULES as u64 }));
        }
        let range = module_range(chosen, node)?;
        let args = node.string("bootargs").map(String::from);
        modules.push(Module { kind: kind_of(node, &modules)?, path: node.path(), range, args });
    }
    if !modules.iter().any(|module| module.kind == ModuleKind::Ramdisk)
        && let Some(range) = linux_initrd(chosen)?
    {
        let path = chosen.path();
        modules.push(Module { kind: ModuleKind::Ramdisk, path, range, args: None });
    }
    let domains = static_guest::find(chosen, warnings);
    let mut boot = Boot { modules, domains, ..Boot::default() };
    let (bootargs, ours, dom0) =
        (chosen.string("bootargs"), chosen.string("xen,xen-bootargs"), chosen.string("xen,dom0-bootargs"));
    let dom0_args = boot.kernel().and_then(|kernel| kernel.args.as_deref()).or(dom0);
    // The plain `bootargs` belongs to whoever has no other: to the hypervisor once dom0's are found elsewhere, else
    // to dom0.
    let (hypervisor_args, dom0_args) = match (ours, dom0_args) {
        (Some(ours), dom0) => (Some(ours), dom0.or(bootargs)),
        (None, Some(dom0)) => (bootargs, Some(dom0)),
        (None, None) => (None, bootargs),
    };
    let dom0_args = String::from(dom0_args.unwrap_or(""));
    boot.hypervisor_args = String::from(hypervisor_args.unwrap_or(""));
    boot.dom0_args = dom0_args;
    Ok(boot)
}

fn kind_of(node: Node<'_, '_>, before: &[Module]) -> Result<ModuleKind, PlatformError> {
    let have = |kind: ModuleKind| before.iter().any(|module| module.kind == kind);
    let kind = if node.is_compatible_any(&["multiboot,kernel", "xen,linux-zimage"]) {
        ModuleKind::Kernel
    } else if node.is_compatible_any(&["multiboot,ramdisk", "xen,linux-initrd"]) {
        ModuleKind::Ramdisk
    } else {
        let other =
            node.strings("compatible").find(|name| !name.ends_with("-module") && *name != "multiboot,module");
        match other {
            Some(other) => return Ok(ModuleKind::Other(String::from(other))),
            // The protocol lets a loader leave the kinds out: the first is the kernel, the second its RAM disk.
            None if !have(ModuleKind::Kernel) => ModuleKind::Kernel,
            None if !have(ModuleKind::Ramdisk) => ModuleKind::Ramdisk,
            None => return Ok(ModuleKind::Other(String::new())),
        }
    };
    if have(kind.clone()) {
        return Err(node.error("compatible", Problem::Unsupported("a second module of this kind")));
    }
    Ok(kind)
}

/// The place of a module. Loaders' scripts often forget the cell counts on `/chosen`, which by the specification
/// means 2 and 1; they then mean the root's.
pub(crate) fn module_range(chosen: Node<'_, '_>, node: Node<'_, '_>) -> Result<PaRange, PlatformError> {
    let length = node.property("reg").ok_or_else(|| node.error("reg", Problem::Missing))?.len() as u64;
    let mut cells = [address_cells(chosen)?, size_cells(chosen)?];
    let bytes = |cells: [u32; 2]| u64::from(cells[0] + cells[1]) * 4;
    if bytes(cells) != length
        && !chosen.has("#address-cells")
        && !chosen.has("#size-cells")
        && let Some(root) = chosen.parent()
    {
        cells = [address_cells(root)?, size_cells(root)?];
    }
    if let Some(odd) = cells.into_iter().find(|count| !(1..=2).contains(count)) {
        return Err(chosen.error("#address-cells", Problem::Cells(odd)));
    }
    if bytes(cells) != length {
        return Err(node.error("reg", Problem::Length { have: length, entry: bytes(cells) }));
    }
    let place = entries(node, "reg", cells)?;
    let [start, size] = *place.first().ok_or_else(|| node.error("reg", Problem::Missing))?;
    if size == 0 {
        return Err(node.error("reg", Problem::Unsupported("the module is empty")));
    }
    // At most two cells each: the numbers fit.
    PaRange::new(Pa(start as u64), size as u64).ok_or_else(|| node.error("reg", Problem::Overflow))
}

/// The RAM disk as loaders announce it to a bare Linux.
fn linux_initrd(chosen: Node<'_, '_>) -> Result<Option<PaRange>, PlatformError> {
    let (Some(start), Some(end)) = (chosen.number("linux,initrd-start")?, chosen.number("linux,initrd-end")?)
    else {
        return Ok(None);
    };
    match end.checked_sub(start) {
        None => Err(chosen.error("linux,initrd-end", Problem::Value("an address after linux,initrd-start"))),
        Some(0) => Ok(None),
        Some(_) => Ok(Some(PaRange { start: Pa(start), end: Pa(end) })),
    }
}
