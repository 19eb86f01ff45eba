//! Dom0's device tree: the host's, without what the hypervisor keeps, and with what it emulates in place of the real
//! thing.
//!
//! Dom0's intermediate physical space is 1:1 with the physical one, so devices stay where they are and keep their
//! phandles. Rebuilt are `/memory`, `/cpus`, `/psci`, the timer, `/hypervisor` and `/chosen`; the GIC keeps the
//! addresses of the host's distributor and of its CPU interface or redistributors.

mod cpus;
mod rebuilt;
mod space;
#[cfg(test)]
mod tests;
mod writer;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

pub(crate) use self::cpus::{cpus, psci};
pub use self::space::{GuestSpace, free_address_space};
pub use self::writer::Writer;
use crate::addr::PaRange;
use crate::machine::Intid;
use crate::platform::tree::{Node, Property, Tree};
use crate::platform::{
    Gic, GicFrames, Platform, PlatformError, Problem, REDISTRIBUTOR_BYTES, address_cells, size_cells,
};

/// Largest tree written, in bytes; more than that Linux does not take (booting.rst).
pub const MAX_BYTES: usize = 2 << 20;
/// INTIDs of a guest's timers, in the order of the binding: secure, physical, virtual, hypervisor. They are the
/// guest's own numbers, whatever the host's are; these are the ones that Xen and most boards use.
pub const GUEST_TIMERS: [Intid; 4] = [29, 30, 27, 26];
/// What dom0 is to find. All addresses are intermediate physical, and physical too.
#[derive(Clone, Copy, Debug)]
pub struct Dom0Spec<'a> {
    /// RAM.
    pub memory: &'a [PaRange],
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Command line.
    pub bootargs: &'a str,
    /// RAM disk, to the byte.
    pub ramdisk: Option<PaRange>,
    /// Free space for the grant table, and for other domains' pages.
    pub space: &'a GuestSpace,
    /// PPI of the event channels.
    pub event_interrupt: Intid,
    /// Version of the Xen ABI, major and minor.
    pub version: (u16, u16),
}

/// Why a tree cannot be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TreeError {
    /// The host's tree is malformed, maybe in a part that only now is looked at.
    Host(PlatformError),
    /// The tree grows beyond this many bytes.
    TooLarge(usize),
    /// Dom0 is to have more vCPUs than the GIC can serve.
    TooManyVcpus {
        /// What it is to have.
        asked: u32,
        /// The most that it can have.
        limit: u64,
    },
    /// A range cannot be written in the cells of the root node.
    DoesNotFit(&'static str, PaRange),
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(error) => write!(f, "{error}"),
            Self::TooLarge(limit) => write!(f, "it would be larger than {limit} bytes"),
            Self::TooManyVcpus { asked, limit } => {
                write!(
                    f,
                    "dom0 is to have {asked} vCPUs, but the interrupt controller serves at most {limit}"
                )
            }
            Self::DoesNotFit(what, range) => write!(
                f,
                "{what} at {}..{} cannot be described in the device tree's root cells",
                range.start, range.end
            ),
        }
    }
}

impl core::error::Error for TreeError {}

impl From<PlatformError> for TreeError {
    fn from(error: PlatformError) -> Self {
        Self::Host(error)
    }
}

/// Where the redistributors of a guest with `vcpus` vCPUs lie: at the start of the host's regions, 128 KiB each, in the
/// order of the vCPUs. Empty for GICv2; shorter than needed where the host's regions are (see [`Gic::vcpu_limit`]).
pub fn guest_redistributors(gic: &Gic, vcpus: u32) -> Vec<PaRange> {
    let GicFrames::V3 { redistributors, .. } = &gic.frames else { return Vec::new() };
    let mut missing = u64::from(vcpus);
    let mut regions = Vec::new();
    for region in redistributors {
        let count = (region.size() / REDISTRIBUTOR_BYTES).min(missing);
        if count > 0 {
            regions.extend(PaRange::new(region.start, count * REDISTRIBUTOR_BYTES));
        }
        missing -= count;
    }
    regions
}

/// Writes dom0's tree. `platform` must have been read from `tree`.
pub fn build(tree: &Tree<'_>, platform: &Platform, spec: &Dom0Spec<'_>) -> Result<Vec<u8>, TreeError> {
    let limit = platform.gic.vcpu_limit();
    if spec.vcpus == 0 || u64::from(spec.vcpus) > limit {
        return Err(TreeError::TooManyVcpus { asked: spec.vcpus, limit });
    }
    let gic_phandle = match platform.gic.phandle {
        Some(phandle) => phandle,
        None => tree
            .max_phandle()
            .checked_add(1)
            .filter(|&phandle| phandle != u32::MAX)
            .ok_or_else(|| tree.root().error("phandle", Problem::Overflow))?,
    };
    let mut builder = Builder { tree, platform, spec, gic_phandle, out: Writer::new(MAX_BYTES) };
    builder.root()?;
    builder.out.finish()
}

struct Builder<'b, 'a> {
    tree: &'b Tree<'a>,
    platform: &'b Platform,
    spec: &'b Dom0Spec<'b>,
    gic_phandle: u32,
    out: Writer,
}

impl<'b, 'a> Builder<'b, 'a> {
    fn root(&mut self) -> Result<(), TreeError> {
        let root = self.tree.root();
        self.out.begin("")?;
        self.properties(root)?;
        self.memory()?;
        self.cpus()?;
        psci(&mut self.out)?;
        self.timer()?;
        self.hypervisor()?;
        self.chosen()?;
        for child in root.children() {
            match child.name() {
                // Rebuilt, or of no use without what they refer to.
                "chosen" | "cpus" | "psci" | "timer" | "hypervisor" | "__local_fixups__" | "__fixups__" => {}
                "aliases" => self.aliases(child)?,
                _ => self.node(child)?,
            }
        }
        self.out.end()
    }

    /// Copies a node and what is below it, as far as dom0 may have it. The recursion is as deep as the tree, which its
    /// parser bounds.
    fn node(&mut self, node: Node<'b, 'a>) -> Result<(), TreeError> {
        if node.id() == self.platform.gic.node {
            return self.gic(node);
        }
        if self.platform.console.as_ref().is_some_and(|uart| uart.node == node.id()) {
            return self.disabled(node);
        }
        if self.platform.hidden.contains(&node.id()) {
            return Ok(());
        }
        self.out.begin(node.name())?;
        self.properties(node)?;
        for child in node.children() {
            self.node(child)?;
        }
        self.out.end()
    }

    fn properties(&mut self, node: Node<'b, 'a>) -> Result<(), TreeError> {
        for property in node.properties() {
            if self.keeps(property) {
                self.out.property(property.name, property.value)?;
            }
        }
        Ok(())
    }

    /// Whether a property makes sense without the nodes that are hidden: a device waits for ever for an IOMMU or an MSI
    /// controller that never comes.
    fn keeps(&self, property: &Property<'_>) -> bool {
        // Position of the first phandle, in cells.
        let position = match property.name {
            "iommus" | "msi-parent" => 0,
            "iommu-map" | "msi-map" => 1,
            _ => return true,
        };
        let phandle = property.value.as_chunks::<4>().0.get(position).map(|&bytes| u32::from_be_bytes(bytes));
        match phandle.and_then(|phandle| self.tree.by_phandle(phandle)) {
            Some(target) => !self.is_hidden(target) && target.id() != self.platform.gic.node,
            None => true,
        }
    }

    fn is_hidden(&self, node: Node<'b, 'a>) -> bool {
        let mut at = Some(node);
        while let Some(node) = at {
            if self.platform.hidden.contains(&node.id()) {
                return true;
            }
            at = node.parent();
        }
        false
    }

    /// Keeps a node for those that refer to it, but not for use.
    fn disabled(&mut self, node: Node<'b, 'a>) -> Result<(), TreeError> {
        self.out.begin(node.name())?;
        self.out.properties(node, &["status", "iommus", "msi-parent"])?;
        self.out.string("status", "disabled")?;
        self.out.end()
    }

    fn aliases(&mut self, node: Node<'b, 'a>) -> Result<(), TreeError> {
        self.out.begin(node.name())?;
        for property in node.properties() {
            let target = node.string(property.name).and_then(|path| self.tree.by_path(path));
            if !target.is_some_and(|target| self.is_hidden(target)) {
                self.out.property(property.name, property.value)?;
            }
        }
        self.out.end()
    }
}

/// `ranges` as a `reg` value in the cells of the node `bus`, for the nodes right below it; `what` they are.
pub fn registers(bus: Node<'_, '_>, what: &'static str, ranges: &[PaRange]) -> Result<Vec<u8>, TreeError> {
    let (address, size) = (address_cells(bus)?, size_cells(bus)?);
    let mut bytes = Vec::new();
    for range in ranges {
        push_cells(&mut bytes, range.start.0, address)
            .and_then(|()| push_cells(&mut bytes, range.size(), size))
            .ok_or(TreeError::DoesNotFit(what, *range))?;
    }
    Ok(bytes)
}

/// `value` in `cells` cells; `None` where it does not fit.
fn push_cells(out: &mut Vec<u8>, value: u64, cells: u32) -> Option<()> {
    if cells < 2 && value >> (32 * cells) != 0 {
        return None;
    }
    for cell in (0..cells).rev() {
        let word = if cell < 2 { (value >> (32 * cell)) as u32 } else { 0 };
        out.extend_from_slice(&word.to_be_bytes());
    }
    Some(())
}

/// Name of a node with its unit address.
fn unit_name(name: &str, unit: u64) -> String {
    alloc::format!("{name}@{unit:x}")
}
