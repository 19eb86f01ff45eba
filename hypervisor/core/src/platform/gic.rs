//! The interrupt controller of the host (Linux bindings arm,gic and arm,gic-v3).

use alloc::string::String;
use alloc::vec::Vec;

use super::address::registers;
use super::error::{PlatformError, Problem};
use super::interrupt::{Interrupt, Resolver, parent_of};
use super::tree::{Node, NodeId, Tree};
use crate::addr::{Pa, PaRange};
use crate::machine::Intid;

/// Distance between the redistributors of a GICv3 without virtual LPIs, in bytes (IHI 0069, 12.10).
pub const REDISTRIBUTOR_BYTES: u64 = 0x2_0000;
/// CPUs that a GICv2 can serve (IHI 0048B, 1.3).
pub const GICV2_CPUS: u64 = 8;

const V2: &[&str] =
    &["arm,gic-400", "arm,cortex-a15-gic", "arm,cortex-a7-gic", "arm,cortex-a9-gic", "brcm,brahma-b15-gic"];
const V3: &[&str] = &["arm,gic-v3"];
/// Where X-Gene's first firmware shows the GIC: the Secure state's view, in which a hypervisor cannot tell the groups of
/// interrupts apart. Newer firmware shows the other view 0x80000 further.
const XGENE_SECURE_VIEW: Pa = Pa(0x7801_0000);

/// Register frames, by architecture version. All are physical ranges as the tree gives them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GicFrames {
    /// GICv2 with virtualization extensions. A frame of 128 KiB where 8 KiB are expected repeats each 4 KiB page 16
    /// times (SBSA's 64 KiB-page arrangement); the driver must look at the hardware to know.
    V2 {
        /// Distributor.
        gicd: PaRange,
        /// CPU interface.
        gicc: PaRange,
        /// Virtual interface control.
        gich: PaRange,
        /// Virtual CPU interface, to be mapped for guests where they expect the CPU interface.
        gicv: PaRange,
    },
    /// GICv3.
    V3 {
        /// Distributor.
        gicd: PaRange,
        /// Regions that hold the redistributors.
        redistributors: Vec<PaRange>,
        /// Distance between redistributors in bytes, where the tree says one.
        stride: Option<u64>,
        /// Memory-mapped CPU interface, virtual interface control and virtual CPU interface, for GICv2 guests.
        legacy: Option<[PaRange; 3]>,
    },
}

/// A frame that turns writes by devices into SPIs (Linux binding arm,gic-v2m-frame).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MessageFrame {
    /// Its node.
    pub node: NodeId,
    /// Its registers.
    pub registers: PaRange,
    /// First SPI (as INTID) and count, where the tree says them; else the frame's MSI_TYPER register does.
    pub spis: Option<(Intid, u32)>,
}

/// The host's GIC.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gic {
    /// Its node.
    pub node: NodeId,
    /// Path of its node.
    pub path: String,
    /// Phandle of its node, if it has one.
    pub phandle: Option<u32>,
    /// Register frames.
    pub frames: GicFrames,
    /// The maintenance interrupt; some boards' trees do not name it (it is then PPI 9, INTID 25, by SBSA).
    pub maintenance: Option<Interrupt>,
    /// Nodes of interrupt translation services (ITS).
    pub its: Vec<NodeId>,
    /// GICv2m frames.
    pub message_frames: Vec<MessageFrame>,
}

impl Gic {
    /// vCPUs that a guest with the host's GIC layout can have, by the architecture and by the room for redistributors.
    pub fn vcpu_limit(&self) -> u64 {
        match &self.frames {
            GicFrames::V2 { .. } => GICV2_CPUS,
            GicFrames::V3 { redistributors, .. } => {
                redistributors.iter().map(|region| region.size() / REDISTRIBUTOR_BYTES).sum()
            }
        }
    }
    /// Distributor registers.
    pub fn distributor(&self) -> PaRange {
        match &self.frames {
            GicFrames::V2 { gicd, .. } | GicFrames::V3 { gicd, .. } => *gicd,
        }
    }
    /// Every register frame of the GIC proper, without message frames and ITS.
    pub fn all_frames(&self) -> Vec<PaRange> {
        match &self.frames {
            GicFrames::V2 { gicd, gicc, gich, gicv } => [*gicd, *gicc, *gich, *gicv].to_vec(),
            GicFrames::V3 { gicd, redistributors, legacy, .. } => {
                let mut all = redistributors.clone();
                all.push(*gicd);
                all.extend(legacy.iter().flatten());
                all
            }
        }
    }
}

fn is_gic(node: Node<'_, '_>) -> bool {
    node.is_available()
        && node.has("interrupt-controller")
        && (node.is_compatible_any(V2) || node.is_compatible_any(V3))
}

/// Finds the GIC that is the root of the interrupt tree.
pub(crate) fn find(tree: &Tree<'_>) -> Result<Gic, PlatformError> {
    let missing = || PlatformError {
        path: String::from("/"),
        property: String::new(),
        problem: Problem::Unsupported("no GICv2 or GICv3 is described"),
    };
    // A second GIC, where there is one, hangs off the first.
    let is_root = |node: &Node<'_, '_>| !matches!(parent_of(*node), Ok(Some(parent)) if parent != *node && is_gic(parent));
    let node = tree.nodes().filter(|node| is_gic(*node)).find(is_root).ok_or_else(missing)?;
    let frames = registers(node)?;
    let frame = |index: usize, what| {
        let found = frames.get(index).copied().filter(|frame| !frame.is_empty());
        found.ok_or_else(|| node.error("reg", Problem::Unsupported(what)))
    };
    let frames = if node.is_compatible_any(V3) {
        let regions = node.cell("#redistributor-regions")?.unwrap_or(1);
        if regions == 0 || regions as usize >= frames.len() {
            return Err(node.error("#redistributor-regions", Problem::Cells(regions)));
        }
        let count = regions as usize;
        let legacy = match frames.get(1 + count..) {
            Some(&[gicc, gich, gicv, ..]) => Some([gicc, gich, gicv]),
            _ => None,
        };
        GicFrames::V3 {
            gicd: frame(0, "the distributor is missing")?,
            redistributors: (1..=count)
                .map(|index| frame(index, "a redistributor region is missing"))
                .map(|region| match region {
                    Ok(region) if region.size() < REDISTRIBUTOR_BYTES => {
                        Err(node.error("reg", Problem::Unsupported("a redistributor region is too small")))
                    }
                    other => other,
                })
                .collect::<Result<_, _>>()?,
            stride: node.number("redistributor-stride")?.filter(|&stride| stride != 0),
            legacy,
        }
    } else {
        GicFrames::V2 {
            gicd: frame(0, "the distributor is missing")?,
            gicc: frame(1, "the CPU interface is missing")?,
            gich: frame(2, "the GIC has no virtual interface control: it cannot run guests")?,
            gicv: frame(3, "the GIC has no virtual CPU interface: it cannot run guests")?,
        }
    };
    if let GicFrames::V2 { gicd, .. } = &frames
        && gicd.start == XGENE_SECURE_VIEW
        && tree.root().is_compatible("apm,xgene-storm")
    {
        let what = "the tree shows the GIC's secure view: it needs that of newer firmware, at 0x78090000";
        return Err(node.error("reg", Problem::Unsupported(what)));
    }
    let resolver = Resolver { tree, gic: node.id() };
    let maintenance = resolver.of_node(node)?.into_iter().flatten().find(|interrupt| interrupt.intid < 32);
    let mut its = Vec::new();
    let mut message_frames = Vec::new();
    for child in node.descendants() {
        if child.is_compatible("arm,gic-v3-its") {
            its.push(child.id());
        } else if child.is_compatible("arm,gic-v2m-frame") {
            let spis = match (child.cell("arm,msi-base-spi")?, child.cell("arm,msi-num-spis")?) {
                (Some(base), Some(count)) => {
                    if base < 32 || base.checked_add(count).is_none_or(|end| end > 1020) {
                        return Err(child.error("arm,msi-base-spi", Problem::Value("INTIDs from 32 to 1019")));
                    }
                    Some((base, count))
                }
                _ => None,
            };
            if let Some(&registers) = registers(child)?.first() {
                message_frames.push(MessageFrame { node: child.id(), registers, spis });
            }
        }
    }
    Ok(Gic {
        node: node.id(),
        path: node.path(),
        phandle: node.phandle()?,
        frames,
        maintenance,
        its,
        message_frames,
    })
}
