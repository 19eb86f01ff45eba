//! A virtual GIC with CPU interfaces and a physical GIC around it that behave as the architecture says.

mod delivery;
mod random;
mod registers_v2;
mod registers_v3;
mod sharing;

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use super::{Version, Vgic, VgicConfig, VgicHost};
use crate::machine::{Intid, ListRegister, LrState, VirtualCpuInterface};

/// The list registers of a CPU, and the guest's view of them.
pub(super) struct Lists {
    lrs: RefCell<Vec<ListRegister>>,
    underflow: Cell<bool>,
    reads: Cell<usize>,
    writes: Cell<usize>,
    /// Physical interrupts deactivated by the guest through the HW bit.
    deactivated: RefCell<Vec<Intid>>,
}

impl Lists {
    fn new(count: usize) -> Self {
        Self {
            lrs: RefCell::new(vec![ListRegister::default(); count]),
            underflow: Cell::new(false),
            reads: Cell::new(0),
            writes: Cell::new(0),
            deactivated: RefCell::default(),
        }
    }

    /// ICC_IAR / GICC_IAR: takes the most urgent pending interrupt. Returns the whole list register as it was.
    pub(super) fn take(&self) -> Option<ListRegister> {
        let mut lrs = self.lrs.borrow_mut();
        let lr = lrs
            .iter_mut()
            .filter(|lr| lr.state == LrState::Pending)
            .min_by_key(|lr| (lr.priority, lr.intid))?;
        let taken = *lr;
        lr.state = LrState::Active;
        Some(taken)
    }

    /// The INTID taken.
    pub(super) fn take_intid(&self) -> Option<Intid> {
        self.take().map(|lr| lr.intid)
    }

    /// EOI with EOImode 0: deactivates. False where no list register has it active, and the EOI is lost.
    pub(super) fn end(&self, intid: Intid) -> bool {
        let mut lrs = self.lrs.borrow_mut();
        let Some(lr) = lrs
            .iter_mut()
            .find(|lr| lr.intid == intid && matches!(lr.state, LrState::Active | LrState::PendingAndActive))
        else {
            return false;
        };
        if let Some(physical) = lr.physical {
            self.deactivated.borrow_mut().push(physical);
        }
        lr.state = if lr.state == LrState::PendingAndActive { LrState::Pending } else { LrState::Invalid };
        true
    }

    /// Whether the maintenance interrupt is raised.
    pub(super) fn maintenance(&self) -> bool {
        let lrs = self.lrs.borrow();
        let used = lrs.iter().filter(|lr| lr.state != LrState::Invalid).count();
        (self.underflow.get() && used <= 1)
            || lrs.iter().any(|lr| lr.state == LrState::Invalid && lr.eoi_maintenance)
    }

    pub(super) fn find(&self, intid: Intid) -> Option<ListRegister> {
        self.lrs.borrow().iter().find(|lr| lr.state != LrState::Invalid && lr.intid == intid).copied()
    }

    pub(super) fn in_use(&self) -> Vec<ListRegister> {
        self.lrs.borrow().iter().filter(|lr| lr.state != LrState::Invalid).copied().collect()
    }
}

impl VirtualCpuInterface for Lists {
    fn lr_count(&self) -> usize {
        self.lrs.borrow().len()
    }
    fn lr_read(&self, index: usize) -> ListRegister {
        self.reads.set(self.reads.get() + 1);
        self.lrs.borrow()[index]
    }
    fn lr_write(&self, index: usize, value: ListRegister) {
        assert!(value.physical.is_none() || !value.eoi_maintenance, "one field on GICv2: {value:?}");
        assert!(
            value.physical.is_none() || value.state != LrState::PendingAndActive,
            "not allowed: {value:?}"
        );
        self.writes.set(self.writes.get() + 1);
        self.lrs.borrow_mut()[index] = value;
    }
    fn set_underflow(&self, on: bool) {
        self.underflow.set(on);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Effect {
    Enable(Intid),
    Disable(Intid),
    Edge(Intid, bool),
    Route(Intid, usize),
    Active(usize, Intid, bool),
}

/// What the virtual GIC asked of its host.
#[derive(Default)]
pub(super) struct Host {
    kicked: BTreeSet<usize>,
    effects: Vec<Effect>,
}

impl Host {
    fn take(&mut self) -> Vec<Effect> {
        core::mem::take(&mut self.effects)
    }
}

impl VgicHost for Host {
    fn kick(&mut self, vcpu: usize) {
        self.kicked.insert(vcpu);
    }
    fn physical_enable(&mut self, physical: Intid) {
        self.effects.push(Effect::Enable(physical));
    }
    fn physical_disable(&mut self, physical: Intid) {
        self.effects.push(Effect::Disable(physical));
    }
    fn physical_set_edge(&mut self, physical: Intid, edge: bool) {
        self.effects.push(Effect::Edge(physical, edge));
    }
    fn physical_route(&mut self, physical: Intid, vcpu: usize) {
        self.effects.push(Effect::Route(physical, vcpu));
    }
    fn physical_set_active(&mut self, vcpu: usize, physical: Intid, active: bool) {
        self.effects.push(Effect::Active(vcpu, physical, active));
    }
}

/// A domain, each vCPU loaded on a CPU of its own.
pub(super) struct Domain {
    vgic: Vgic,
    host: Host,
    cpus: Vec<Lists>,
}

pub(super) const V2: Version = Version::V2;
pub(super) const V3: Version = Version::V3;

impl Domain {
    /// As after reset.
    pub(super) fn new(version: Version, vcpus: usize, lists: usize) -> Self {
        let mpidrs: Vec<u64> = (0..vcpus as u64).map(|n| 0x8000_0000 | (n >> 4) << 8 | (n & 15)).collect();
        let config = VgicConfig { version, spis: 64, priority_bits: 5, mpidrs: &mpidrs };
        let vgic = Vgic::new(config).unwrap();
        let cpus = (0..vcpus).map(|_| Lists::new(lists)).collect();
        Self { vgic, host: Host::default(), cpus }
    }

    /// With the distributor on and everything enabled, priority 0xa0, SPIs to vCPU 0, edge-triggered but for
    /// those from 64 on.
    pub(super) fn ready(version: Version, vcpus: usize, lists: usize) -> Self {
        let mut domain = Self::new(version, vcpus, lists);
        for vcpu in 0..vcpus {
            domain.write_private(vcpu, 0x100, !0);
            for offset in (0..32).step_by(4) {
                domain.write_private(vcpu, 0x400 + offset, 0xa0a0_a0a0);
            }
        }
        for bank in 1..3 {
            domain.write(0, 0x100 + bank * 4, !0);
            for offset in (0..32).step_by(4) {
                domain.write(0, 0x400 + bank * 32 + offset, 0xa0a0_a0a0);
                if version == V2 {
                    domain.write(0, 0x800 + bank * 32 + offset, 0x0101_0101);
                }
            }
        }
        domain.write(0, 0xc08, !0);
        domain.write(0, 0xc0c, !0);
        domain.write(0, 0, 3);
        domain.host = Host::default();
        domain
    }

    /// 32-bit distributor write.
    pub(super) fn write(&mut self, vcpu: usize, offset: u64, value: u32) {
        self.vgic.dist_write(vcpu, offset, 4, value.into(), &mut self.host);
    }

    /// 32-bit distributor read.
    pub(super) fn read(&self, vcpu: usize, offset: u64) -> u32 {
        self.vgic.dist_read(vcpu, offset, 4) as u32
    }

    /// Writes a register of private interrupts, where this version keeps it.
    pub(super) fn write_private(&mut self, vcpu: usize, offset: u64, value: u32) {
        match self.vgic.version() {
            V2 => self.write(vcpu, offset, value),
            V3 => self.vgic.redist_write(vcpu, 0x1_0000 + offset, 4, value.into(), &mut self.host),
        }
    }

    /// Reads a register of private interrupts.
    pub(super) fn read_private(&self, vcpu: usize, offset: u64) -> u32 {
        match self.vgic.version() {
            V2 => self.read(vcpu, offset),
            V3 => self.vgic.redist_read(vcpu, 0x1_0000 + offset, 4) as u32,
        }
    }

    /// Goes into the guest; false where it is held.
    pub(super) fn enter(&mut self, vcpu: usize) -> bool {
        self.vgic.flush(vcpu, &self.cpus[vcpu], &mut self.host)
    }

    /// Comes out of the guest.
    pub(super) fn sync(&mut self, vcpu: usize) {
        self.vgic.sync(vcpu, &self.cpus[vcpu], &mut self.host);
    }

    /// Out and in again, for as long as the maintenance interrupt asks for it.
    pub(super) fn maintain(&mut self, vcpu: usize) {
        for _ in 0..8 {
            if !self.cpus[vcpu].maintenance() {
                return;
            }
            self.sync(vcpu);
            assert!(!self.cpus[vcpu].maintenance(), "its handler could not end");
            assert!(self.enter(vcpu));
        }
        panic!("the maintenance interrupt does not go away");
    }

    pub(super) fn raise(&mut self, vcpu: usize, intid: Intid) -> Option<usize> {
        self.vgic.raise(vcpu, intid)
    }

    /// Everything the guest on `vcpu` gets if it just takes and ends interrupts.
    pub(super) fn drain(&mut self, vcpu: usize) -> Vec<Intid> {
        let mut got = Vec::new();
        loop {
            assert!(self.enter(vcpu));
            self.maintain(vcpu);
            let Some(intid) = self.cpus[vcpu].take_intid() else { return got };
            got.push(intid);
            assert!(self.cpus[vcpu].end(intid));
            assert!(got.len() < 10_000, "{got:?}");
        }
    }
}
