//! Which nodes dom0 gets, with their registers and interrupts, and which are hidden from it.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::address::{
    address_cells, bus_registers, is_memory_mapped, merge, size_cells, subtract, to_physical, windows,
};
use super::error::PlatformError;
use super::interrupt::{Interrupt, Resolver};
use super::memory::{is_memory, is_reusable};
use super::tree::{Node, NodeId, Tree};
use crate::addr::PaRange;

/// Most warnings kept; a broken tree repeats itself.
const MAX_WARNINGS: usize = 32;

/// A device that dom0 drives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Passthrough {
    /// Path of its node.
    pub path: String,
    /// Physical register ranges, as the tree has them (not rounded to pages); a PCI host bridge's windows too.
    pub regions: Vec<PaRange>,
    /// Its SPIs.
    pub interrupts: Vec<Interrupt>,
}

/// What the walk over all nodes found.
pub(crate) struct Devices {
    pub(crate) passthrough: Vec<Passthrough>,
    /// Every address range that any node uses, handed out or not, available or not.
    pub(crate) occupied: Vec<PaRange>,
}

/// A PCI host bridge: the node whose children have PCI's three-cell addresses, and that is on a normal bus itself.
pub(crate) fn is_pci_host(node: Node<'_, '_>) -> bool {
    node.has("ranges")
        && node.cell("#address-cells") == Ok(Some(3))
        && (node.string("device_type") == Some("pci") || node.base_name().starts_with("pci"))
}

/// Whether the node describes the CPUs' own performance counters: unlike a device of that name, they have no registers.
fn is_cpu_pmu(node: Node<'_, '_>) -> bool {
    !node.has("reg")
        && node.has("compatible")
        && node.strings("compatible").any(|name| name.ends_with("-pmu") || name.contains("pmuv3"))
}

fn is_smmu(node: Node<'_, '_>) -> bool {
    node.strings("compatible").any(|name| {
        matches!(
            name,
            "arm,smmu-v1" | "arm,smmu-v2" | "arm,smmu-v3" | "arm,mmu-400" | "arm,mmu-401" | "arm,mmu-500"
        )
    })
}

/// Nodes that dom0 does not get, each with its whole subtree: what the hypervisor drives or rebuilds itself.
pub(crate) fn hidden(tree: &Tree<'_>, own: &[NodeId]) -> BTreeSet<NodeId> {
    let mut hidden = BTreeSet::new();
    for node in own {
        hidden.insert(*node);
    }
    for node in tree.nodes().skip(1) {
        let hide = is_memory(node)
            || is_cpu_pmu(node)
            || is_smmu(node)
            || node.is_compatible_any(&[
                "arm,armv7-timer-mem",
                "arm,armv7-timer",
                "arm,armv8-timer",
                "arm,gic-v3-its",
            ])
            || node.is_compatible("xen,xen")
            || (is_reusable(node)
                && node.has("reg")
                && node.parent().is_some_and(|parent| parent.name() == "reserved-memory"))
            || super::psci::is_psci(node)
            || node.has("xen,passthrough");
        let top = node.parent().is_some_and(|parent| parent.parent().is_none());
        if hide || (top && matches!(node.name(), "cpus" | "psci" | "hypervisor")) {
            hidden.insert(node.id());
        }
    }
    hidden
}

/// Walks all nodes. Odd devices are warnings: dom0 then lacks that device, and the rest works.
pub(crate) fn collect<'t, 'a>(
    resolver: Resolver<'t, 'a>,
    hidden: &BTreeSet<NodeId>,
    warnings: &mut Vec<String>,
) -> Devices {
    let mut devices = Devices { passthrough: Vec::new(), occupied: Vec::new() };
    let mut note = |error: PlatformError| {
        if warnings.len() < MAX_WARNINGS {
            warnings.push(format!("{error}"));
        }
    };
    // One past the subtree that is being skipped, for each reason to skip.
    let (mut unused_until, mut below_pci_until) = (None, None);
    for node in resolver.tree.nodes().skip(1) {
        let id = node.id();
        let top = node.parent().is_some_and(|parent| parent.parent().is_none());
        let is_gic = id == resolver.gic;
        if unused_until.is_none_or(|end| id >= end)
            && (!node.is_available()
                || hidden.contains(&id)
                || (top && matches!(node.name(), "chosen" | "aliases" | "reserved-memory" | "__symbols__")))
        {
            unused_until = Some(node.subtree().end);
        }
        let used = unused_until.is_none_or(|end| id >= end) && !is_gic;
        let below_pci = below_pci_until.is_some_and(|end| id < end);
        let pci_host = !below_pci && is_pci_host(node);
        let mut regions = Vec::new();
        // Below a host bridge registers lie in PCI's space, which the bridge's windows cover.
        if !below_pci && !is_memory(node) && node.parent().is_some_and(is_memory_mapped) {
            match regions_of(node, pci_host) {
                Ok(found) => regions = found,
                Err(error) if used => note(error),
                Err(_) => {}
            }
        }
        devices.occupied.extend(&regions);
        let module = if below_pci { Vec::new() } else { module_windows(node).unwrap_or_default() };
        if !module.is_empty() && !hidden.contains(&id) {
            devices.occupied.extend(&module);
            devices.passthrough.push(Passthrough {
                path: node.path(),
                regions: module,
                interrupts: Vec::new(),
            });
        }
        if pci_host {
            below_pci_until = Some(node.subtree().end);
        }
        if !used {
            continue;
        }
        let mut interrupts: Vec<Interrupt> = match resolver.of_node(node) {
            Ok(found) => found.into_iter().flatten().collect(),
            Err(error) => {
                note(error);
                Vec::new()
            }
        };
        if pci_host && node.has("interrupt-map") {
            match resolver.of_map(node) {
                Ok(found) => interrupts.extend(found),
                Err(error) => note(error),
            }
        }
        interrupts.retain(|interrupt| interrupt.is_spi());
        regions.retain(|region| !region.is_empty());
        if !regions.is_empty() || !interrupts.is_empty() {
            devices.passthrough.push(Passthrough { path: node.path(), regions, interrupts });
        }
    }
    devices.occupied = merge(core::mem::take(&mut devices.occupied));
    devices
}

/// Register ranges of a device, and a host bridge's windows into PCI's memory and I/O space.
fn regions_of(node: Node<'_, '_>, pci_host: bool) -> Result<Vec<PaRange>, PlatformError> {
    let mut regions = Vec::new();
    let Some(bus) = node.parent() else { return Ok(regions) };
    // A bus with no size cells numbers its children (CPUs, ports), it does not map them.
    if node.has("reg") && size_cells(bus)? > 0 && address_cells(bus)? > 0 {
        for [address, size] in bus_registers(node)? {
            regions.push(to_physical(node, "reg", bus, address, size)?);
        }
    }
    if pci_host {
        regions.extend(windows(node)?);
    }
    Ok(regions)
}

/// What a module of TI's interconnect answers to: its `ranges` (Linux binding bus/ti,sysc). Linux's platform code uses
/// modules that no node is below, and that are marked as disabled for that.
fn module_windows(node: Node<'_, '_>) -> Result<Vec<PaRange>, PlatformError> {
    let is_module = node.is_compatible("ti,sysc") && node.parent().is_some_and(is_memory_mapped);
    if is_module { windows(node) } else { Ok(Vec::new()) }
}

/// The page-rounded union of all regions, without `kept` (also rounded): what stage 2 maps for dom0.
pub(crate) fn mapped(passthrough: &[Passthrough], kept: &[PaRange]) -> Vec<PaRange> {
    let pages = |range: &PaRange| range.page_outer();
    let wanted: Vec<PaRange> = passthrough.iter().flat_map(|device| &device.regions).map(pages).collect();
    let kept: Vec<PaRange> = kept.iter().map(pages).collect();
    subtract(&wanted, &kept)
}
