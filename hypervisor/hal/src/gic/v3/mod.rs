//! GICv3 (IHI 0069): distributor, one redistributor per CPU, and the CPU interfaces, host's and virtual, in system
//! registers. The GICv2-compatible mode is never used; LPIs stay off.

mod list_register;
#[cfg(not(target_arch = "aarch64"))]
mod no_sysreg;
mod redistributor;
#[cfg(target_arch = "aarch64")]
mod sysreg;

use vambrace_core::machine::{Acknowledged, CpuId, Intid, ListRegister};

use self::list_register::{decode, encode};
#[cfg(not(target_arch = "aarch64"))]
use self::no_sysreg as sysreg;
use self::redistributor::Redistributors;
pub use self::redistributor::Regions;
use super::distributor::{Distributor, SPECIAL, SPI};
use super::{GicError, KICK_SGI, VcpuInterface};
use crate::mmio::{Mmio, barrier};

const GICD_IROUTER: usize = 0x6000;

/// GICD_CTLR: a write is on its way.
const GICD_RWP: u32 = 1 << 31;
/// GICD_CTLR: affinity routing, and group 1 on. The bits are the same in the non-secure view (ARE_NS, EnableGrp1A) and
/// where there is one security state (ARE, EnableGrp1).
const GICD_ENABLE: u32 = 1 << 4 | 1 << 1;
/// Every interrupt in group 1, 32 to a word.
const GROUPS: u32 = !0;

const HCR_ENABLE: u64 = 1;
const HCR_UNDERFLOW: u64 = 1 << 1;

/// Affinity of an MPIDR: Aff3 in bits 39:32, Aff2 to Aff0 in 23:0.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// A GICv3.
#[derive(Debug)]
pub struct GicV3 {
    distributor: Distributor,
    redistributors: Redistributors,
    lr_count: usize,
    /// Implemented registers of active priorities per group: 1, 2 or 4.
    priority_words: usize,
    /// VMCR after reset.
    vmcr: u32,
}

impl GicV3 {
    /// The controller with these registers: GICD, and the runs of redistributors (`arm,gic-v3.yaml`: `reg`,
    /// `redistributor-stride` in bytes). Reads the virtual interface's size from this CPU's ICH_VTR_EL2.
    ///
    /// # Errors
    ///
    /// [`GicError::Region`] where a region is too small, or [`GicError::NoSystemRegisters`] where EL2 may not use the
    /// system registers.
    pub fn new(distributor: Mmio, regions: Regions, stride: Option<usize>) -> Result<Self, GicError> {
        if distributor.size() < 0x1_0000 || !distributor.base().is_multiple_of(8) {
            return Err(GicError::Region("GICD"));
        }
        let redistributors = Redistributors::new(regions, stride)?;
        if !sysreg::enable() {
            return Err(GicError::NoSystemRegisters);
        }
        let vtr = sysreg::vtr();
        let preemption = (vtr >> 26 & 7) as u32 + 1;
        Ok(Self {
            distributor: Distributor::new(distributor, GICD_RWP),
            redistributors,
            lr_count: (vtr as usize & 0x1f).min(15) + 1,
            priority_words: match preemption {
                7.. => 4,
                6 => 2,
                _ => 1,
            },
            vmcr: vmcr_at_reset(preemption),
        })
    }

    /// See [`super::Gic::init`].
    ///
    /// # Errors
    ///
    /// [`GicError::Timeout`] where the distributor never finishes a write.
    pub fn init(&self) -> Result<(), GicError> {
        self.distributor.reset(GROUPS)?;
        self.distributor.turn_on(GICD_ENABLE)?;
        // Routes exist only once affinity routing is on; nothing is enabled yet.
        for intid in SPI..self.distributor.limit() {
            self.write_route(intid, own_affinity());
        }
        Ok(())
    }

    /// See [`super::Gic::init_cpu`].
    ///
    /// # Errors
    ///
    /// [`GicError::TooManyCpus`], [`GicError::NoRedistributor`], [`GicError::Timeout`] where the redistributor does not
    /// wake, [`GicError::NoSystemRegisters`].
    pub fn init_cpu(&self, cpu: CpuId) -> Result<(), GicError> {
        if !sysreg::enable() {
            return Err(GicError::NoSystemRegisters);
        }
        self.redistributors.init_cpu(cpu, own_affinity())?;
        sysreg::init_cpu_interface();
        sysreg::set_hcr(0);
        for i in 0..self.priority_words {
            sysreg::set_ap0r(i, 0);
            sysreg::set_ap1r(i, 0);
        }
        for i in 0..self.lr_count {
            sysreg::set_lr(i, 0);
        }
        Ok(())
    }

    pub(super) fn distributor(&self) -> &Distributor {
        &self.distributor
    }

    pub(super) fn registers_of(&self, intid: Intid) -> Option<Mmio> {
        if intid < SPI {
            self.redistributors.own_registers(own_affinity())
        } else {
            (intid < self.distributor.limit()).then(|| self.distributor.registers())
        }
    }

    pub(super) fn settle(&self, intid: Intid) {
        if intid < SPI {
            self.redistributors.settle_own(own_affinity());
        } else {
            self.distributor.settle();
        }
    }

    /// See [`super::Gic::acknowledge`].
    #[inline]
    pub fn acknowledge(&self) -> Option<Acknowledged> {
        let intid = sysreg::acknowledge();
        (intid < SPECIAL).then_some(Acknowledged { intid, token: intid })
    }

    /// See [`super::Gic::end`].
    #[inline]
    pub fn end(&self, interrupt: Acknowledged) {
        sysreg::end(interrupt.intid);
    }

    /// See [`super::Gic::deactivate`].
    #[inline]
    pub fn deactivate(&self, interrupt: Acknowledged) {
        sysreg::deactivate(interrupt.intid);
    }

    /// See [`super::Gic::route`].
    pub fn route(&self, intid: Intid, cpu: CpuId) {
        if let (SPI.., Some(affinity)) = (intid, self.redistributors.affinity(cpu))
            && intid < self.distributor.limit()
        {
            self.write_route(intid, affinity);
        }
    }

    fn write_route(&self, intid: Intid, affinity: u64) {
        write64(self.distributor.registers(), GICD_IROUTER + 8 * intid as usize, affinity);
    }

    /// See [`super::Gic::kick`].
    pub fn kick(&self, cpu: CpuId) {
        if let Some(affinity) = self.redistributors.affinity(cpu) {
            barrier();
            sysreg::send_sgi(sgi(affinity, KICK_SGI));
        }
    }

    /// See [`super::Gic::call_others`].
    pub fn call_others(&self) {
        // IRM (IHI 0069, ICC_SGI1R_EL1).
        const ALL_BUT_SELF: u64 = 1 << 40;
        barrier();
        sysreg::send_sgi(ALL_BUT_SELF | u64::from(KICK_SGI) << 24);
    }

    /// See [`super::Gic::lr_count`].
    #[inline]
    pub fn lr_count(&self) -> usize {
        self.lr_count
    }

    /// See [`super::Gic::lr_read`].
    #[inline]
    pub fn lr_read(&self, index: usize) -> ListRegister {
        decode(sysreg::lr(index))
    }

    /// See [`super::Gic::lr_write`].
    #[inline]
    pub fn lr_write(&self, index: usize, value: ListRegister) {
        sysreg::set_lr(index, encode(value));
    }

    /// See [`super::Gic::set_underflow`].
    #[inline]
    pub fn set_underflow(&self, on: bool) {
        sysreg::set_hcr(HCR_ENABLE | if on { HCR_UNDERFLOW } else { 0 });
    }

    /// See [`super::Gic::new_vcpu`].
    pub fn new_vcpu(&self) -> VcpuInterface {
        VcpuInterface { vmcr: self.vmcr, ..VcpuInterface::default() }
    }

    /// See [`super::Gic::load_vcpu`].
    pub fn load_vcpu(&self, state: &VcpuInterface) {
        // First, for it decides what the other registers mean; another guest may have written it.
        sysreg::reset_guest_interface();
        sysreg::set_vmcr(u64::from(state.vmcr));
        for (i, (&apr0, &apr)) in state.apr0.iter().zip(&state.apr).take(self.priority_words).enumerate() {
            sysreg::set_ap0r(i, u64::from(apr0));
            sysreg::set_ap1r(i, u64::from(apr));
        }
        for i in 0..self.lr_count {
            sysreg::set_lr(i, 0);
        }
        sysreg::set_hcr(HCR_ENABLE);
    }

    /// See [`super::Gic::save_vcpu`].
    pub fn save_vcpu(&self, state: &mut VcpuInterface) {
        state.vmcr = sysreg::vmcr() as u32;
        for (i, (apr0, apr)) in
            state.apr0.iter_mut().zip(&mut state.apr).take(self.priority_words).enumerate()
        {
            *apr0 = sysreg::ap0r(i) as u32;
            *apr = sysreg::ap1r(i) as u32;
        }
        sysreg::set_hcr(0);
    }
}

/// Affinity of the CPU that executes this.
fn own_affinity() -> u64 {
    sysreg::mpidr() & AFFINITY
}

#[cfg(target_pointer_width = "64")]
fn read64(registers: Mmio, offset: usize) -> u64 {
    registers.read64(offset)
}

#[cfg(target_pointer_width = "64")]
fn write64(registers: Mmio, offset: usize, value: u64) {
    registers.write64(offset, value);
}

/// In halves, which the controller of a CPU without 64-bit accesses takes.
#[cfg(not(target_pointer_width = "64"))]
fn read64(registers: Mmio, offset: usize) -> u64 {
    u64::from(registers.read32(offset)) | u64::from(registers.read32(offset + 4)) << 32
}

/// In halves, which the controller of a CPU without 64-bit accesses takes.
#[cfg(not(target_pointer_width = "64"))]
fn write64(registers: Mmio, offset: usize, value: u64) {
    registers.write32(offset, value as u32);
    registers.write32(offset + 4, (value >> 32) as u32);
}

/// ICH_VMCR_EL2 after reset: everything off and masked, the binary points at the least that `preemption` bits allow.
const fn vmcr_at_reset(preemption: u32) -> u32 {
    let point0 = 7u32.saturating_sub(preemption);
    point0 << 21 | (point0 + 1) << 18
}

/// ICC_SGI1R_EL1 for `intid` to the one CPU with this affinity.
const fn sgi(affinity: u64, intid: Intid) -> u64 {
    let (aff3, aff2, aff1, aff0) =
        (affinity >> 32 & 0xff, affinity >> 16 & 0xff, affinity >> 8 & 0xff, affinity & 0xff);
    aff3 << 48 | (aff0 >> 4) << 44 | aff2 << 32 | (intid as u64 & 15) << 24 | aff1 << 16 | 1 << (aff0 & 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::tests::range;

    #[test]
    fn sgi_targets() {
        assert_eq!(sgi(0, 0), 1);
        assert_eq!(sgi(3, 1), 1 << 24 | 8);
        assert_eq!(sgi(0x102, 0), 1 << 16 | 4);
        assert_eq!(sgi(0x05_0004_0317, 2), 5 << 48 | 1 << 44 | 4 << 32 | 2 << 24 | 3 << 16 | 1 << 7);
    }

    #[test]
    fn binary_points_at_reset() {
        assert_eq!(vmcr_at_reset(5), 2 << 21 | 3 << 18);
        assert_eq!(vmcr_at_reset(7), 1 << 18);
    }

    #[test]
    fn small_regions_and_absent_system_registers_are_refused() {
        // SAFETY: refused before any access.
        let region = |size| unsafe { Mmio::new(range(0x10000, size)) };
        let new = |size, regions: &[usize], stride| {
            GicV3::new(region(size), regions.iter().map(|&size| region(size)).collect(), stride).map(|_| ())
        };
        assert_eq!(new(0x1000, &[0x20000], None), Err(GicError::Region("GICD")));
        assert_eq!(new(0x10000, &[], None), Err(GicError::Region("GICR")));
        assert_eq!(new(0x10000, &[0x20000, 0x10000], None), Err(GicError::Region("GICR")));
        assert_eq!(
            new(0x10000, &[0x20000], Some(0)),
            Err(GicError::Region("GICR (redistributor-stride)")),
            "no walk that never ends"
        );
        #[cfg(not(target_arch = "aarch64"))]
        assert_eq!(new(0x10000, &[0x20000], None), Err(GicError::NoSystemRegisters));
    }
}
