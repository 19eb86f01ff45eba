//! The generic timer (Linux binding timer/arm,arch_timer).

use alloc::string::String;

use super::error::{PlatformError, Problem};
use super::interrupt::{Interrupt, Resolver};
use super::tree::NodeId;
use crate::machine::Intid;

const NAMES: &[&str] = &["arm,armv8-timer", "arm,armv7-timer"];

/// The per-CPU timers of the host. Interrupt numbers differ between boards and are never assumed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timer {
    /// Its node.
    pub node: NodeId,
    /// Path of its node.
    pub path: String,
    /// INTID of the secure physical timer, where the tree names it.
    pub secure: Option<Intid>,
    /// INTID of the non-secure EL1 physical timer.
    pub physical: Intid,
    /// INTID of the virtual timer.
    pub virtual_: Intid,
    /// INTID of the hypervisor's physical timer.
    pub hypervisor: Intid,
    /// Frequency in Hz, where the tree overrides CNTFRQ.
    pub frequency: Option<u32>,
}

/// Finds the timer node.
pub(crate) fn find(resolver: Resolver<'_, '_>) -> Result<Timer, PlatformError> {
    let node =
        resolver.tree.nodes().find(|node| node.is_available() && node.is_compatible_any(NAMES)).ok_or_else(
            || PlatformError {
                path: String::from("/timer"),
                property: String::new(),
                problem: Problem::Unsupported("no generic timer is described"),
            },
        )?;
    let interrupts = resolver.of_node(node)?;
    // Without names the order is fixed: secure, physical, virtual, hypervisor.
    let at = |name: &str, position: usize| -> Option<Interrupt> {
        let index = if node.has("interrupt-names") {
            node.strings("interrupt-names").position(|listed| listed == name)?
        } else {
            position
        };
        interrupts.get(index).copied().flatten().filter(|interrupt| !interrupt.is_spi())
    };
    let need = |interrupt: Option<Interrupt>, what| {
        interrupt
            .map(|interrupt| interrupt.intid)
            .ok_or_else(|| node.error("interrupts", Problem::Unsupported(what)))
    };
    Ok(Timer {
        node: node.id(),
        path: node.path(),
        secure: at("sec-phys", 0).map(|interrupt| interrupt.intid),
        physical: need(at("phys", 1), "the physical timer's interrupt is missing")?,
        virtual_: need(at("virt", 2), "the virtual timer's interrupt is missing")?,
        hypervisor: need(at("hyp-phys", 3), "the hypervisor timer's interrupt is missing")?,
        frequency: node.cell("clock-frequency")?.filter(|&frequency| frequency != 0),
    })
}
