//! Devices for a guest, by a partial device tree (Xen, docs/misc/arm/passthrough.txt): `/passthrough` and `/aliases` go
//! into the guest's tree; `xen,reg` says what of the host's is mapped where, `xen,path` whose interrupts go with it.

use alloc::vec::Vec;

use vambrace_abi::arch_arm::GUEST_VPL011_SPI;

use super::error::GuestError;
use super::layout::{self, Bank};
use crate::addr::{Ipa, PAGE_SIZE, Pa, PaRange};
use crate::domain::Domain;
use crate::hypervisor::Hypervisor;
use crate::machine::{FIRST_SPI, Intid, Machine};
use crate::p2m::Kind;
use crate::platform::tree::{Node, Tree};
use crate::platform::{
    Platform, PlatformError, Problem, StaticGuest, address_cells, node_interrupts, size_cells,
};
use crate::vgic::Effects;

/// Properties that speak to the hypervisor.
pub(super) const OWN_PROPERTIES: [&str; 3] = ["xen,reg", "xen,path", "xen,force-assign-without-iommu"];
/// Most registers and interrupts of a guest's devices.
const MAX_RESOURCES: usize = 256;

/// What of the host a guest gets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Devices {
    /// Registers: where they are in the guest's address space, and physically.
    regions: Vec<(Bank, PaRange)>,
    /// SPIs.
    pub(super) interrupts: Vec<Intid>,
    /// Paths of devices that no IOMMU confines.
    pub(super) unconfined: usize,
}

fn refuse(what: &'static str, range: PaRange, why: &'static str) -> GuestError {
    GuestError::Place { what, range, why }
}

impl Devices {
    /// Reads a guest's partial tree. `host` is the host's; `given` is what guests before it got.
    pub(super) fn find(
        partial: &Tree<'_>,
        host: &Tree<'_>,
        platform: &Platform,
        guest: &StaticGuest,
        given: &[Devices],
    ) -> Result<Self, GuestError> {
        let mut devices = Self::default();
        let Some(top) = partial.root().child("passthrough") else { return Ok(devices) };
        for node in top.descendants() {
            devices.add(node, host, platform, guest, given)?;
            if devices.regions.len() + devices.interrupts.len() > MAX_RESOURCES {
                let limit = MAX_RESOURCES as u64;
                return Err(node
                    .error("", Problem::TooLarge { what: "registers and interrupts", limit })
                    .into());
            }
        }
        Ok(devices)
    }

    fn add(
        &mut self,
        node: Node<'_, '_>,
        host: &Tree<'_>,
        platform: &Platform,
        guest: &StaticGuest,
        given: &[Devices],
    ) -> Result<(), GuestError> {
        if !node.has("xen,reg") && !node.has("xen,path") {
            return Ok(());
        }
        for (bank, range) in registers(node)? {
            check_region(bank, range, platform)?;
            let others = given.iter().flat_map(|devices| &devices.regions);
            if others.chain(&self.regions).any(|(_, other)| other.overlaps(range)) {
                return Err(refuse("a device", range, "is a guest's already"));
            }
            self.regions.push((bank, range));
        }
        let forced = node.has("xen,force-assign-without-iommu");
        let Some(path) = node.string("xen,path") else {
            // Registers that belong to no device of the host's tree, if that is said to be meant.
            return if forced { Ok(()) } else { Err(node.error("xen,path", Problem::Missing).into()) };
        };
        let device = host.by_path(path);
        let device =
            device.ok_or_else(|| node.error("xen,path", Problem::Value("a node of the host's tree")))?;
        let hidden = platform.hidden.contains(&device.id()) && device.has("xen,passthrough");
        if !hidden {
            let problem = Problem::Missing;
            return Err(device.error("xen,passthrough", problem).into());
        }
        if !forced && device.has("iommus") {
            let why =
                "no IOMMU is driven here: xen,force-assign-without-iommu gives the device away all the same";
            return Err(node.error("xen,path", Problem::Unsupported(why)).into());
        }
        self.unconfined += 1;
        for interrupt in node_interrupts(host, platform, device)? {
            let intid = interrupt.intid;
            let wrong = |why| Err(GuestError::Interrupt { intid, why });
            if guest.uart && intid == GUEST_VPL011_SPI {
                return wrong("is that of the guest's virtual UART");
            }
            if guest.spis.is_some_and(|count| intid >= FIRST_SPI + count) {
                return wrong("is beyond the guest's nr_spis");
            }
            if platform.dom0_interrupts().iter().any(|theirs| theirs.intid == intid) {
                return wrong("is dom0's too");
            }
            let ours = platform.console.as_ref().and_then(|uart| uart.interrupt);
            if ours.is_some_and(|ours| ours.intid == intid) {
                return wrong("is the hypervisor's");
            }
            if given.iter().chain([&*self]).any(|devices| devices.interrupts.contains(&intid)) {
                return wrong("is a guest's already");
            }
            self.interrupts.push(intid);
        }
        Ok(())
    }

    /// Where the guest finds registers.
    pub(super) fn places(&self) -> impl Iterator<Item = Bank> + '_ {
        self.regions.iter().map(|(bank, _)| *bank)
    }

    /// Maps the registers and routes the interrupts.
    pub(super) fn give<M: Machine>(
        &self,
        hv: &Hypervisor<M>,
        domain: &Domain<M>,
        memory: &[Bank],
    ) -> Result<(), GuestError> {
        for (bank, range) in &self.regions {
            if memory.iter().any(|other| layout::overlap(*other, *bank)) {
                return Err(refuse("a device's place", bank.as_range(), "is memory of the guest's"));
            }
            let mut p2m = domain.p2m.lock();
            p2m.map(&hv.machine, &mut hv.frames.lock(), bank.at, range.start, range.size(), Kind::Device)?;
        }
        let mut effects = Effects::new(hv, domain, None);
        let mut vgic = domain.vgic.lock();
        for &intid in &self.interrupts {
            let backed = vgic.set_hardware(0, intid, Some(intid), &mut effects);
            if backed.is_err() || intid >= hv.machine.intid_limit() {
                return Err(GuestError::Interrupt { intid, why: "is beyond the interrupt controller's" });
            }
            hv.assign_spi(intid, domain.id);
        }
        drop(vgic);
        effects.tell();
        Ok(())
    }
}

/// The entries of `xen,reg`: physical address, size, the guest's address, in the cells of the node above.
fn registers(node: Node<'_, '_>) -> Result<Vec<(Bank, PaRange)>, PlatformError> {
    let name = "xen,reg";
    let Some(bus) = node.parent() else { return Ok(Vec::new()) };
    let (address, size) = (address_cells(bus)?, size_cells(bus)?);
    if !(1..=2).contains(&address) || !(1..=2).contains(&size) {
        return Err(bus.error("#address-cells", Problem::Cells(address.max(size))));
    }
    let cells = node.cells(name)?;
    let entry = (2 * address + size) as usize;
    if !cells.len().is_multiple_of(entry) {
        let (have, entry) = (cells.len() as u64 * 4, entry as u64 * 4);
        return Err(node.error(name, Problem::Length { have, entry }));
    }
    let number = |cells: &[u32]| cells.iter().fold(0u64, |value, cell| value << 32 | u64::from(*cell));
    let mut found = Vec::new();
    for entry in cells.chunks_exact(entry) {
        let (start, rest) = entry.split_at(address as usize);
        let (length, at) = rest.split_at(size as usize);
        let (start, length, at) = (number(start), number(length), number(at));
        if length == 0 || !(start | length | at).is_multiple_of(PAGE_SIZE) {
            return Err(node.error(name, Problem::Value("whole pages")));
        }
        let range = PaRange::new(Pa(start), length).ok_or_else(|| node.error(name, Problem::Overflow))?;
        PaRange::new(Pa(at), length).ok_or_else(|| node.error(name, Problem::Overflow))?;
        found.push((Bank { at: Ipa(at), size: length }, range));
    }
    Ok(found)
}

/// Refuses registers that are not a device's for a guest to have.
fn check_region(bank: Bank, range: PaRange, platform: &Platform) -> Result<(), GuestError> {
    layout::check_clear("a device's place", bank)?;
    let meets = |others: &[PaRange]| others.iter().any(|other| other.page_outer().overlaps(range));
    if meets(&platform.ram) {
        return Err(refuse("a device", range, "is memory"));
    }
    if meets(&platform.gic.all_frames()) {
        return Err(refuse("a device", range, "is the interrupt controller"));
    }
    if platform.console.as_ref().is_some_and(|uart| meets(&[uart.registers])) {
        return Err(refuse("a device", range, "is the hypervisor's console"));
    }
    if meets(&platform.dom0_regions()) {
        return Err(refuse("a device", range, "is dom0's too: its node needs xen,passthrough"));
    }
    Ok(())
}
