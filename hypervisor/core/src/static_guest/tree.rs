//! A guest's device tree: what `arch-arm.h` lays out, as libxl's trees describe it, with the devices that it was given.

use alloc::format;
use alloc::vec::Vec;

use vambrace_abi::arch_arm::*;

use super::layout::Bank;
use super::passthrough::OWN_PROPERTIES;
use crate::addr::{Ipa, PaRange};
use crate::dom0_tree::{GUEST_TIMERS, TreeError, Writer, cpus, psci};
use crate::platform::tree::Tree;
use crate::platform::{REDISTRIBUTOR_BYTES, StaticGuest};
use crate::vgic::Version;

/// Largest tree, in bytes: more than that Linux does not take.
pub(super) const MAX_BYTES: usize = 2 << 20;
/// Phandle of the GIC where the partial tree does not say: the toolstack's (`xc_dom_arm`).
const GIC_PHANDLE: u32 = 65_000;
/// Level-sensitive, active low and high, in an interrupt specifier (Linux binding arm,gic).
const LEVEL_LOW: u32 = 8;
const LEVEL_HIGH: u32 = 4;

/// What a guest's tree is written from.
pub(super) struct TreeSpec<'a> {
    /// The guest.
    pub(super) guest: &'a StaticGuest,
    /// Its memory.
    pub(super) banks: &'a [Bank],
    /// Where it may map other domains' pages.
    pub(super) extended: &'a [Bank],
    /// Its RAM disk: address and length in bytes.
    pub(super) ramdisk: Option<(Ipa, u64)>,
    /// Its interrupt controller.
    pub(super) gic: Version,
    /// Its kernel is a 32-bit one.
    pub(super) aarch32: bool,
    /// Its partial tree.
    pub(super) partial: Option<&'a Tree<'a>>,
    /// Version of the Xen ABI, major and minor.
    pub(super) version: (u16, u16),
}

/// Writes a guest's tree.
pub(super) fn write(spec: &TreeSpec<'_>) -> Result<Vec<u8>, TreeError> {
    let partial = spec.partial.map(Tree::root);
    let named = partial.and_then(|root| root.child("gic")).and_then(|gic| gic.phandle().ok().flatten());
    let taken = |phandle| spec.partial.is_some_and(|tree| tree.by_phandle(phandle).is_some());
    let gic = named.or_else(|| (GIC_PHANDLE..).find(|phandle| !taken(*phandle))).unwrap_or(GIC_PHANDLE);
    let mut tree = GuestTree { spec, gic, out: Writer::new(MAX_BYTES) };
    tree.root()?;
    tree.out.finish()
}

struct GuestTree<'a> {
    spec: &'a TreeSpec<'a>,
    gic: u32,
    out: Writer,
}

/// `(address, size)` pairs in two cells each.
fn registers(ranges: &[(u64, u64)]) -> Vec<u8> {
    ranges.iter().flat_map(|(at, size)| [at.to_be_bytes(), size.to_be_bytes()].concat()).collect()
}

impl GuestTree<'_> {
    fn root(&mut self) -> Result<(), TreeError> {
        let (major, minor) = self.spec.version;
        self.out.begin("")?;
        self.out.cells("#address-cells", &[2])?;
        self.out.cells("#size-cells", &[2])?;
        self.out.string("model", &format!("XENVM-{major}.{minor}"))?;
        self.out.strings("compatible", &[&format!("xen,xenvm-{major}.{minor}"), "xen,xenvm"])?;
        self.out.cells("interrupt-parent", &[self.gic])?;
        self.chosen()?;
        let cpu = if self.spec.aarch32 { "arm,armv7" } else { "arm,armv8" };
        cpus(&mut self.out, self.spec.guest.vcpus, &[cpu], |_| Ok(None))?;
        psci(&mut self.out)?;
        self.memory()?;
        self.reserved()?;
        self.interrupt_controller()?;
        self.timer()?;
        if self.spec.guest.uart {
            self.uart()?;
        }
        if self.spec.guest.enhanced != crate::platform::Enhanced::No {
            self.hypervisor()?;
        }
        if let Some(partial) = self.spec.partial {
            for name in ["aliases", "passthrough"] {
                if let Some(node) = partial.root().child(name) {
                    self.out.copy(node, &OWN_PROPERTIES)?;
                }
            }
        }
        self.out.end()
    }

    fn chosen(&mut self) -> Result<(), TreeError> {
        self.out.begin("chosen")?;
        self.out.string("bootargs", &self.spec.guest.args)?;
        if let Some((at, size)) = self.spec.ramdisk {
            self.out.property("linux,initrd-start", &at.0.to_be_bytes())?;
            self.out.property("linux,initrd-end", &at.offset(size).0.to_be_bytes())?;
        }
        self.out.end()
    }

    /// What is shared is memory too, which `/reserved-memory` sets apart.
    fn memory(&mut self) -> Result<(), TreeError> {
        let mut ranges: Vec<(u64, u64)> = self.spec.banks.iter().map(|bank| (bank.at.0, bank.size)).collect();
        ranges.extend(self.spec.guest.shared.iter().map(|shared| (shared.at.0, shared.size)));
        let start = ranges.first().map_or(0, |(at, _)| *at);
        self.out.begin(&format!("memory@{start:x}"))?;
        self.out.string("device_type", "memory")?;
        self.out.property("reg", &registers(&ranges))?;
        self.out.end()
    }

    /// Shared memory, by the binding `xen,shared-memory-v1`.
    fn reserved(&mut self) -> Result<(), TreeError> {
        if self.spec.guest.shared.is_empty() {
            return Ok(());
        }
        self.out.begin("reserved-memory")?;
        self.out.cells("#address-cells", &[2])?;
        self.out.cells("#size-cells", &[2])?;
        self.out.property("ranges", &[])?;
        for shared in &self.spec.guest.shared {
            self.out.begin(&format!("xen-shmem@{:x}", shared.at.0))?;
            self.out.string("compatible", "xen,shared-memory-v1")?;
            self.out.property("reg", &registers(&[(shared.at.0, shared.size)]))?;
            self.out.string("xen,id", &shared.id)?;
            if !shared.is_owner {
                self.out.property("xen,offset", &[0; 8])?;
            }
            self.out.end()?;
        }
        self.out.end()
    }

    fn interrupt_controller(&mut self) -> Result<(), TreeError> {
        let (compatible, frames) = match self.spec.gic {
            Version::V2 => (
                &["arm,gic-400", "arm,cortex-a15-gic"][..],
                [(GUEST_GICD_BASE, GUEST_GICD_SIZE), (GUEST_GICC_BASE, GUEST_GICC_SIZE)],
            ),
            Version::V3 => {
                let redistributors = u64::from(self.spec.guest.vcpus) * REDISTRIBUTOR_BYTES;
                let frames = [
                    (GUEST_GICV3_GICD_BASE, GUEST_GICV3_GICD_SIZE),
                    (GUEST_GICV3_GICR0_BASE, redistributors),
                ];
                (&["arm,gic-v3"][..], frames)
            }
        };
        self.out.begin(&format!("interrupt-controller@{GUEST_GICD_BASE:x}"))?;
        self.out.strings("compatible", compatible)?;
        self.out.cells("#interrupt-cells", &[3])?;
        self.out.cells("#address-cells", &[0])?;
        self.out.property("interrupt-controller", &[])?;
        self.out.property("reg", &registers(&frames))?;
        self.out.cells("phandle", &[self.gic])?;
        self.out.end()
    }

    /// Interrupt specifiers of PPIs; with GICv2 they also name the CPUs they go to.
    fn ppis(&self, intids: &[u32]) -> Vec<u32> {
        let mask = match self.spec.gic {
            Version::V2 => ((1_u32 << self.spec.guest.vcpus.min(8)) - 1) << 8,
            Version::V3 => 0,
        };
        intids.iter().flat_map(|intid| [1, intid.saturating_sub(16), mask | LEVEL_LOW]).collect()
    }

    fn timer(&mut self) -> Result<(), TreeError> {
        self.out.begin("timer")?;
        let compatible = if self.spec.aarch32 { "arm,armv7-timer" } else { "arm,armv8-timer" };
        self.out.string("compatible", compatible)?;
        self.out.cells("interrupts", &self.ppis(&GUEST_TIMERS))?;
        self.out.end()
    }

    fn uart(&mut self) -> Result<(), TreeError> {
        self.out.begin(&format!("sbsa-uart@{GUEST_PL011_BASE:x}"))?;
        self.out.string("compatible", "arm,sbsa-uart")?;
        self.out.property("reg", &registers(&[(GUEST_PL011_BASE, GUEST_PL011_SIZE)]))?;
        self.out.cells("interrupts", &[0, GUEST_VPL011_SPI - 32, LEVEL_HIGH])?;
        // The binding wants a speed; a virtual UART has none.
        self.out.cells("current-speed", &[115_200])?;
        self.out.end()
    }

    fn hypervisor(&mut self) -> Result<(), TreeError> {
        let (major, minor) = self.spec.version;
        self.out.begin("hypervisor")?;
        self.out.strings("compatible", &[&format!("xen,xen-{major}.{minor}"), "xen,xen"])?;
        let mut windows = Vec::from([(GUEST_GNTTAB_BASE, GUEST_GNTTAB_SIZE)]);
        windows.extend(self.spec.extended.iter().map(|hole| (hole.at.0, hole.size)));
        self.out.property("reg", &registers(&windows))?;
        self.out.cells("interrupts", &self.ppis(&[GUEST_EVTCHN_PPI]))?;
        self.out.end()
    }
}

/// The guest's RAM disk as a range, for its tree.
pub(super) fn ramdisk(guest: &StaticGuest, at: Ipa) -> Option<(Ipa, u64)> {
    guest.modules.ramdisk.map(PaRange::size).map(|size| (at, size))
}
