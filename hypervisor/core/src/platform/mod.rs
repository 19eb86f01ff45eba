//! The host as its device tree describes it, in types.
//!
//! What is essential (RAM, CPUs, the GIC, the timer, boot modules) must be right, else [`Platform::parse`] says which
//! node and property is wrong. A device that only dom0 would drive and that makes no sense becomes a warning.

mod address;
mod boot;
mod console;
mod cpu;
mod error;
#[cfg(test)]
pub(crate) mod fixture;
mod gic;
mod interrupt;
mod memory;
mod passthrough;
mod power;
mod psci;
mod release;
mod sequence;
mod static_guest;
#[cfg(test)]
mod tests;
mod timer;
pub mod tree;

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

pub(crate) use self::address::sorted;
pub(crate) use self::address::{address_cells, size_cells};
pub use self::address::{merge, subtract};
pub use self::boot::{Boot, Module, ModuleKind};
pub use self::console::Uart;
pub use self::cpu::{Arrival, Cpu, EnableMethod, MPIDR_AFFINITY};
pub use self::error::{PlatformError, Problem};
pub use self::gic::{GICV2_CPUS, Gic, GicFrames, MessageFrame, REDISTRIBUTOR_BYTES};
pub use self::interrupt::{Interrupt, Trigger};
pub use self::memory::Reserved;
pub use self::passthrough::Passthrough;
pub use self::power::{Power, PowerMethod};
pub use self::psci::{Conduit, Psci, PsciVersion};
pub use self::sequence::Step;
pub use self::static_guest::{Enhanced, GuestModules, SharedMemory, StaticGuest, StaticGuests, StaticPort};
pub use self::timer::{RealtimeCounter, Timer};
use self::tree::{Node, NodeId, Tree};
use crate::addr::PaRange;
use crate::cmdline::Options;

/// A host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Platform {
    /// `model` of the root node.
    pub model: String,
    /// `compatible` of the root node, most specific first.
    pub compatible: Vec<String>,
    /// RAM, sorted and merged.
    pub ram: Vec<PaRange>,
    /// Ranges that firmware or the board reserves, in the order of the tree; they may overlap.
    pub reserved: Vec<Reserved>,
    /// CPUs, in the order of the tree. Which one booted, MPIDR says.
    pub cpus: Vec<Cpu>,
    /// The firmware's PSCI.
    pub psci: Option<Psci>,
    /// How the board ends.
    pub power: Power,
    /// Interrupt controller.
    pub gic: Gic,
    /// Generic timer.
    pub timer: Timer,
    /// Console UART.
    pub console: Option<Uart>,
    /// Modules and command lines.
    pub boot: Boot,
    /// Devices for dom0.
    pub passthrough: Vec<Passthrough>,
    /// Nodes that dom0 does not get, each with its subtree. The GIC's node is not among them: it is rewritten.
    pub hidden: BTreeSet<NodeId>,
    /// Every address range that some node uses, RAM aside; sorted and merged.
    pub occupied: Vec<PaRange>,
    /// What is odd and was left out, in words.
    pub warnings: Vec<String>,
}

/// The SPIs of a node of the host's tree, of which `platform` was read.
pub(crate) fn node_interrupts(
    tree: &Tree<'_>,
    platform: &Platform,
    node: Node<'_, '_>,
) -> Result<Vec<Interrupt>, PlatformError> {
    // The node again, with the lifetimes of the tree given here.
    let node = tree.node(node.id());
    let found = interrupt::Resolver { tree, gic: platform.gic.node }.of_node(node)?;
    Ok(found.into_iter().flatten().filter(|interrupt| interrupt.is_spi()).collect())
}

impl Platform {
    /// Reads a device tree blob.
    pub fn parse(blob: &[u8]) -> Result<Self, PlatformError> {
        Self::from_tree(&Tree::parse(blob)?)
    }

    /// Reads a device tree.
    pub fn from_tree(tree: &Tree<'_>) -> Result<Self, PlatformError> {
        let root = tree.root();
        let mut warnings = Vec::new();
        let ram = memory::ram(tree)?;
        let reserved = memory::reserved(tree)?;
        let cpus = cpu::find(tree)?;
        let psci = psci::find(tree)?;
        let power = power::find(tree, psci.as_ref());
        let gic = gic::find(tree)?;
        let resolver = interrupt::Resolver { tree, gic: gic.node };
        let timer = timer::find(resolver)?;
        let boot = boot::find(tree, &mut warnings)?;
        let options = Options::parse(&boot.hypervisor_args);
        let console = console::find(resolver, options.dtuart.as_deref(), &mut warnings);
        let mut own: Vec<NodeId> = console.iter().map(|uart| uart.node).collect();
        // A message frame can only be handed on when it is known which SPIs come with it.
        own.extend(gic.message_frames.iter().filter(|frame| frame.spis.is_none()).map(|frame| frame.node));
        let hidden = passthrough::hidden(tree, &own);
        let devices = passthrough::collect(resolver, &hidden, &mut warnings);
        let mut occupied = devices.occupied;
        occupied.extend(gic.all_frames());
        let mut passthrough = devices.passthrough;
        for frame in &gic.message_frames {
            let path = tree.node(frame.node).path();
            if let Some((base, count)) = frame.spis
                && let Some(device) = passthrough.iter_mut().find(|device| device.path == path)
            {
                let interrupt = |intid| Interrupt { intid, trigger: Trigger::Edge };
                device.interrupts.extend((base..base + count).map(interrupt));
            }
        }
        Ok(Self {
            model: String::from(root.string("model").unwrap_or("")),
            compatible: root.strings("compatible").map(String::from).collect(),
            ram,
            reserved,
            cpus,
            psci,
            power,
            gic,
            timer,
            console,
            boot,
            passthrough,
            hidden,
            occupied: merge(occupied),
            warnings,
        })
    }

    /// Physical ranges to map 1:1 as device memory for dom0: page-rounded, sorted, merged. RAM and the GIC's frames are
    /// never among them. The console UART's page is, where another device of dom0's shares it.
    pub fn dom0_regions(&self) -> Vec<PaRange> {
        let mut kept = self.ram.clone();
        kept.extend(self.gic.all_frames());
        passthrough::mapped(&self.passthrough, &kept)
    }

    /// Page-rounded ranges of `/reserved-memory` that dom0's tree names too, so that its drivers find them mapped:
    /// ordinary memory, 1:1, that no domain owns. Never the hypervisor's own range, given as `hypervisor`.
    pub fn dom0_reserved(&self, hypervisor: PaRange) -> Vec<PaRange> {
        let named = self.reserved.iter().filter(|reserved| reserved.node.is_some());
        let ranges: Vec<PaRange> = named.map(|reserved| reserved.range.page_outer()).collect();
        let mut kept = self.gic.all_frames();
        kept.push(hypervisor);
        let kept: Vec<PaRange> = kept.iter().map(|range| range.page_outer()).collect();
        subtract(&ranges, &kept)
    }

    /// SPIs that dom0 handles itself: sorted by INTID, each once, without the console UART's.
    pub fn dom0_interrupts(&self) -> Vec<Interrupt> {
        let ours = self.console.as_ref().and_then(|uart| uart.interrupt).map(|interrupt| interrupt.intid);
        let mut all: Vec<Interrupt> =
            self.passthrough.iter().flat_map(|device| device.interrupts.iter().copied()).collect();
        all.retain(|interrupt| Some(interrupt.intid) != ours);
        let mut all = address::sorted(all);
        all.dedup_by_key(|interrupt| interrupt.intid);
        all
    }
}
