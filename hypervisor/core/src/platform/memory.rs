//! RAM, and what of it is reserved (Devicetree Specification 0.4, sections 3.4, 3.5 and 5.3).

use alloc::string::String;
use alloc::vec::Vec;

use super::address::{merge, registers};
use super::error::{PlatformError, Problem};
use super::tree::{Node, NodeId, Tree};
use crate::addr::PaRange;

/// RAM that firmware or the board keeps for something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reserved {
    /// Physical range.
    pub range: PaRange,
    /// The node under `/reserved-memory`; `None` for an entry of the memory reservation block.
    pub node: Option<NodeId>,
    /// The operating system must not even map it (`no-map`).
    pub no_map: bool,
}

/// Whether a node describes RAM.
pub(crate) fn is_memory(node: Node<'_, '_>) -> bool {
    node.string("device_type") == Some("memory")
        || (node.base_name() == "memory" && node.parent().is_some_and(|parent| parent.parent().is_none()))
}

/// All RAM, sorted and merged.
pub(crate) fn ram(tree: &Tree<'_>) -> Result<Vec<PaRange>, PlatformError> {
    let mut banks = Vec::new();
    for node in tree.root().children().filter(|node| is_memory(*node) && node.is_available()) {
        banks.extend(registers(node)?);
    }
    let banks = merge(banks);
    if banks.is_empty() {
        return Err(PlatformError {
            path: String::from("/memory"),
            property: String::new(),
            problem: Problem::Unsupported("no RAM is described"),
        });
    }
    Ok(banks)
}

/// Whether a child of `/reserved-memory` describes memory of the operating system's that a driver may have emptied for
/// itself. With a fixed place it is ordinary memory here: dom0's RAM lies elsewhere, and a kernel falls over what its tree
/// says of memory that it has not.
pub(crate) fn is_reusable(node: Node<'_, '_>) -> bool {
    node.has("reusable") && !node.has("no-map")
}

/// Reserved ranges: memory reservations, then the children of `/reserved-memory` that have a fixed place and are not
/// [reusable](is_reusable).
pub(crate) fn reserved(tree: &Tree<'_>) -> Result<Vec<Reserved>, PlatformError> {
    let mut found: Vec<Reserved> =
        tree.reservations().iter().map(|&range| Reserved { range, node: None, no_map: false }).collect();
    let Some(parent) = tree.root().child("reserved-memory") else { return Ok(found) };
    for node in parent.children().filter(|node| node.is_available() && !is_reusable(*node)) {
        for range in registers(node)? {
            if !range.is_empty() {
                found.push(Reserved { range, node: Some(node.id()), no_map: node.has("no-map") });
            }
        }
    }
    Ok(found)
}
