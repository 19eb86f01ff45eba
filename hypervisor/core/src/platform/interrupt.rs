//! From a node's interrupt properties to INTIDs of the GIC (Devicetree Specification 0.4, section 2.4; Linux
//! binding arm,gic).

use alloc::vec::Vec;

use super::error::{PlatformError, Problem};
use super::tree::{Node, NodeId, Tree};
use crate::machine::Intid;

/// Most steps from a device to the GIC; real trees need three.
const MAX_STEPS: u32 = 8;
/// Most nodes walked upwards on the search for an interrupt parent.
const MAX_CLIMB: u32 = 64;
/// Most cells in an interrupt specifier or in the unit address of an interrupt map.
const MAX_SPECIFIER: u32 = 8;
/// Most interrupts of one node, or entries of one interrupt map.
const MAX_INTERRUPTS: usize = 4096;

/// How an interrupt is signalled.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Trigger {
    /// By an edge.
    Edge,
    /// By a level.
    Level,
}

/// An interrupt of the GIC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Interrupt {
    /// Which.
    pub intid: Intid,
    /// How it is signalled.
    pub trigger: Trigger,
}

impl Interrupt {
    /// Whether this is a shared peripheral interrupt, which can be given to one domain.
    pub const fn is_spi(self) -> bool {
        self.intid >= 32
    }
}

/// Resolves interrupts of a tree down to its GIC.
#[derive(Clone, Copy)]
pub(crate) struct Resolver<'t, 'a> {
    pub(crate) tree: &'t Tree<'a>,
    pub(crate) gic: NodeId,
}

fn interrupt_cells(controller: Node<'_, '_>) -> Result<usize, PlatformError> {
    let name = "#interrupt-cells";
    let count = controller.cell(name)?.ok_or_else(|| controller.error(name, Problem::Missing))?;
    if count > MAX_SPECIFIER {
        Err(controller.error(name, Problem::Cells(count)))
    } else {
        Ok(count as usize)
    }
}

/// Cells of a unit address on the interrupt tree: 0 where a controller says nothing, unlike on a bus.
fn unit_cells(controller: Node<'_, '_>) -> Result<usize, PlatformError> {
    let name = "#address-cells";
    let count = controller.cell(name)?.unwrap_or(0);
    if count > MAX_SPECIFIER {
        Err(controller.error(name, Problem::Cells(count)))
    } else {
        Ok(count as usize)
    }
}

/// The interrupt parent of a node: the nearest `interrupt-parent` upwards, or a node on the way that itself has
/// `#interrupt-cells`. `None` where there is none.
pub(crate) fn parent_of<'t, 'a>(node: Node<'t, 'a>) -> Result<Option<Node<'t, 'a>>, PlatformError> {
    let mut at = node;
    for _ in 0..MAX_CLIMB {
        let next = match at.cell("interrupt-parent")? {
            Some(phandle) => at
                .tree()
                .by_phandle(phandle)
                .ok_or_else(|| at.error("interrupt-parent", Problem::NoNode(phandle)))?,
            None => match at.parent() {
                Some(parent) => parent,
                None => return Ok(None),
            },
        };
        if next.has("#interrupt-cells") {
            return Ok(Some(next));
        }
        at = next;
    }
    Err(node.error("interrupt-parent", Problem::Loop))
}

/// One line of an interrupt map.
struct MapEntry<'t, 'a> {
    unit: Vec<u32>,
    specifier: Vec<u32>,
    parent: Node<'t, 'a>,
    parent_unit: Vec<u32>,
    parent_specifier: Vec<u32>,
}

fn interrupt_map<'t, 'a>(nexus: Node<'t, 'a>) -> Result<Vec<MapEntry<'t, 'a>>, PlatformError> {
    let name = "interrupt-map";
    let (unit, specifier) = (unit_cells(nexus)?, interrupt_cells(nexus)?);
    let words = nexus.cells(name)?;
    let mut rest = words.as_slice();
    let mut entries = Vec::new();
    let cut = || {
        nexus.error(
            name,
            Problem::Truncated { need: words.len() as u64 * 4 + 4, have: words.len() as u64 * 4 },
        )
    };
    let mut next = |count: usize| -> Result<Vec<u32>, PlatformError> {
        let (head, tail) = rest.split_at_checked(count).ok_or_else(cut)?;
        rest = tail;
        Ok(head.to_vec())
    };
    let mut used = 0;
    while used < words.len() {
        if entries.len() >= MAX_INTERRUPTS {
            return Err(
                nexus.error(name, Problem::TooLarge { what: "entries", limit: MAX_INTERRUPTS as u64 })
            );
        }
        let (unit, specifier) = (next(unit)?, next(specifier)?);
        let phandle = next(1)?.first().copied().unwrap_or(0);
        let parent =
            nexus.tree().by_phandle(phandle).ok_or_else(|| nexus.error(name, Problem::NoNode(phandle)))?;
        let (parent_unit, parent_specifier) = (next(unit_cells(parent)?)?, next(interrupt_cells(parent)?)?);
        used += unit.len() + specifier.len() + 1 + parent_unit.len() + parent_specifier.len();
        entries.push(MapEntry { unit, specifier, parent, parent_unit, parent_specifier });
    }
    Ok(entries)
}

impl<'t, 'a> Resolver<'t, 'a> {
    /// The interrupts of a device, in their order: `None` for one that ends at a controller other than the GIC (a
    /// GPIO block, say), which is then that controller's business.
    pub(crate) fn of_node(&self, node: Node<'t, 'a>) -> Result<Vec<Option<Interrupt>>, PlatformError> {
        let mut found = Vec::new();
        let limit = |found: &Vec<_>, name| {
            let problem = Problem::TooLarge { what: "interrupts", limit: MAX_INTERRUPTS as u64 };
            if found.len() >= MAX_INTERRUPTS { Err(node.error(name, problem)) } else { Ok(()) }
        };
        let name = "interrupts-extended";
        if node.has(name) {
            let words = node.cells(name)?;
            let mut rest = words.as_slice();
            while let Some((&phandle, tail)) = rest.split_first() {
                limit(&found, name)?;
                // A zero stands for an interrupt that is not connected.
                if phandle == 0 {
                    found.push(None);
                    rest = tail;
                    continue;
                }
                let controller = self
                    .tree
                    .by_phandle(phandle)
                    .ok_or_else(|| node.error(name, Problem::NoNode(phandle)))?;
                let (specifier, tail) =
                    tail.split_at_checked(interrupt_cells(controller)?).ok_or_else(|| {
                        let have = words.len() as u64 * 4;
                        node.error(name, Problem::Truncated { need: have + 4, have })
                    })?;
                found.push(self.resolve(node, controller, specifier, &unit_of(node)?, 0)?);
                rest = tail;
            }
            return Ok(found);
        }
        let name = "interrupts";
        let words = node.cells(name)?;
        if words.is_empty() {
            return Ok(found);
        }
        let controller = parent_of(node)?.ok_or_else(|| node.error("interrupt-parent", Problem::Missing))?;
        let cells = interrupt_cells(controller)?;
        if cells == 0 || !words.len().is_multiple_of(cells) {
            let (have, entry) = (words.len() as u64 * 4, cells as u64 * 4);
            return Err(node.error(name, Problem::Length { have, entry }));
        }
        let unit = unit_of(node)?;
        for specifier in words.chunks_exact(cells) {
            limit(&found, name)?;
            found.push(self.resolve(node, controller, specifier, &unit, 0)?);
        }
        Ok(found)
    }

    /// All interrupts that the map of a nexus (a PCI host bridge) leads to.
    pub(crate) fn of_map(&self, nexus: Node<'t, 'a>) -> Result<Vec<Interrupt>, PlatformError> {
        let mut found = Vec::new();
        for entry in interrupt_map(nexus)? {
            let interrupt =
                self.resolve(nexus, entry.parent, &entry.parent_specifier, &entry.parent_unit, 1)?;
            found.extend(interrupt);
        }
        let mut found = super::address::sorted(found);
        found.dedup();
        Ok(found)
    }

    fn resolve(
        &self,
        node: Node<'t, 'a>,
        controller: Node<'t, 'a>,
        specifier: &[u32],
        unit: &[u32],
        step: u32,
    ) -> Result<Option<Interrupt>, PlatformError> {
        if step >= MAX_STEPS {
            return Err(node.error("interrupt-parent", Problem::Loop));
        }
        if controller.id() == self.gic {
            return decode(node, specifier).map(Some);
        }
        if controller.has("interrupt-map") {
            let masks = controller.cells("interrupt-map-mask")?;
            let mask = |index: usize| masks.get(index).copied().unwrap_or(u32::MAX);
            for entry in interrupt_map(controller)? {
                let ours = (0..entry.unit.len()).map(|i| unit.get(i).copied().unwrap_or(0));
                let ours = ours.chain(specifier.iter().copied());
                let theirs = entry.unit.iter().chain(&entry.specifier).copied();
                if ours.zip(theirs).enumerate().all(|(i, (a, b))| a & mask(i) == b & mask(i)) {
                    return self.resolve(
                        node,
                        entry.parent,
                        &entry.parent_specifier,
                        &entry.parent_unit,
                        step + 1,
                    );
                }
            }
            return Ok(None);
        }
        // A controller between device and GIC that only wakes the board up uses the GIC's own specifiers and hands
        // them on. A GPIO block may have three cells too, with another meaning.
        let hands_on = controller.has("interrupt-controller")
            && specifier.len() == 3
            && !controller.has("gpio-controller");
        match parent_of(controller)? {
            Some(next) if hands_on && next != controller && next.cell("#interrupt-cells")? == Some(3) => {
                // Numbers that the GIC cannot have mean that the controller counts in its own way after all.
                Ok(self.resolve(node, next, specifier, unit, step + 1).unwrap_or(None))
            }
            _ => Ok(None),
        }
    }
}

/// The unit address of a device on its bus, for the lookup in an interrupt map.
fn unit_of(node: Node<'_, '_>) -> Result<Vec<u32>, PlatformError> {
    if !node.has("reg") {
        return Ok(Vec::new());
    }
    let mut cells = node.cells("reg")?;
    cells.truncate(MAX_SPECIFIER as usize);
    Ok(cells)
}

/// Decodes an interrupt specifier of the GIC: kind, number, flags.
fn decode(node: Node<'_, '_>, specifier: &[u32]) -> Result<Interrupt, PlatformError> {
    let &[kind, number, flags, ..] = specifier else {
        let have = specifier.len() as u64 * 4;
        return Err(node.error("interrupts", Problem::Length { have, entry: 12 }));
    };
    let intid = match kind {
        0 if number < 988 => number + 32,
        1 if number < 16 => number + 16,
        _ => {
            return Err(
                node.error("interrupts", Problem::Value("an SPI (0) below 988 or a PPI (1) below 16"))
            );
        }
    };
    let trigger = if flags & 3 != 0 { Trigger::Edge } else { Trigger::Level };
    Ok(Interrupt { intid, trigger })
}
