//! GICv3 (IHI 0069): distributor, one redistributor per CPU, and the CPU interfaces, host's and virtual, in system
//! registers. The GICv2-compatible mode is never used; LPIs stay off.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use spin::Mutex;
use vambrace_core::machine::{Acknowledged, CpuId, Intid, ListRegister, LrState};

use super::{GicError, KICK_SGI, MAX_CPUS, PRIORITIES, SPECIAL, SPI, VcpuInterface, bit, limit};
use crate::mmio::{Mmio, barrier, wait_for};

const GICD_CTLR: usize = 0x0000;
const GICD_TYPER: usize = 0x0004;
const GICD_ICFGR: usize = 0x0c00;
const GICD_IROUTER: usize = 0x6000;

// The same offsets in the distributor and in a redistributor's SGI frame.
const IGROUPR: usize = 0x080;
const ISENABLER: usize = 0x100;
const ICENABLER: usize = 0x180;
const ISPENDR: usize = 0x200;
const ICPENDR: usize = 0x280;
const ISACTIVER: usize = 0x300;
const ICACTIVER: usize = 0x380;
const IPRIORITYR: usize = 0x400;

/// Bytes of a redistributor: an RD frame, an SGI frame, each 64 KiB.
const REDISTRIBUTOR: usize = 0x2_0000;
const SGI_FRAME: usize = 0x1_0000;
const GICR_CTLR: usize = 0x0000;
const GICR_TYPER: usize = 0x0008;
const GICR_WAKER: usize = 0x0014;

/// GICD_CTLR and GICR_CTLR bit 31 and 3: a write is on its way.
const GICD_RWP: u32 = 1 << 31;
const GICR_RWP: u32 = 1 << 3;
/// GICD_CTLR: affinity routing, and group 1 on. The bits are the same in the non-secure view (ARE_NS, EnableGrp1A) and
/// where there is one security state (ARE, EnableGrp1).
const GICD_ENABLE: u32 = 1 << 4 | 1 << 1;
const WAKER_SLEEP: u32 = 1 << 1;
const WAKER_ASLEEP: u32 = 1 << 2;

const HCR_ENABLE: u64 = 1;
const HCR_UNDERFLOW: u64 = 1 << 1;

/// Affinity of an MPIDR: Aff3 in bits 39:32, Aff2 to Aff0 in 23:0.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// A run of redistributors in the device tree.
pub type Regions = ArrayVec<Mmio, 16>;

/// A redistributor, found by its CPU.
#[derive(Debug)]
struct Redistributor {
    /// Address of its RD frame, 0 until its CPU's `init_cpu`.
    base: AtomicUsize,
    mpidr: AtomicU64,
}

/// A GICv3.
#[derive(Debug)]
pub struct GicV3 {
    distributor: Mmio,
    regions: Regions,
    stride: Option<usize>,
    limit: u32,
    lr_count: usize,
    /// Implemented registers of active priorities per group: 1, 2 or 4.
    priority_words: usize,
    /// VMCR after reset.
    vmcr: u32,
    redistributors: [Redistributor; MAX_CPUS],
    /// Held over read-modify-write of a register that interrupts share.
    shared: Mutex<()>,
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
        let bad = |region: &Mmio| region.size() < REDISTRIBUTOR || !region.base().is_multiple_of(8);
        if regions.is_empty() || regions.iter().any(bad) {
            return Err(GicError::Region("GICR"));
        }
        if stride.is_some_and(|stride| stride < REDISTRIBUTOR || !stride.is_multiple_of(0x1_0000)) {
            return Err(GicError::Region("GICR (redistributor-stride)"));
        }
        if !sysreg::enable() {
            return Err(GicError::NoSystemRegisters);
        }
        let vtr = sysreg::vtr();
        let preemption = (vtr >> 26 & 7) as u32 + 1;
        Ok(Self {
            limit: limit(distributor.read32(GICD_TYPER)),
            lr_count: (vtr as usize & 0x1f).min(15) + 1,
            priority_words: match preemption {
                7.. => 4,
                6 => 2,
                _ => 1,
            },
            vmcr: vmcr_at_reset(preemption),
            redistributors: [const { Redistributor { base: AtomicUsize::new(0), mpidr: AtomicU64::new(0) } };
                MAX_CPUS],
            shared: Mutex::new(()),
            distributor,
            regions,
            stride,
        })
    }

    fn fill_spis(&self, bank: usize, per_word: u32, value: u32) {
        for intid in (SPI..self.limit).step_by(per_word as usize) {
            self.distributor.write32(bank + 4 * (intid / per_word) as usize, value);
        }
    }

    fn wait_distributor(&self) -> Result<(), GicError> {
        if wait_for(|| self.distributor.read32(GICD_CTLR) & GICD_RWP == 0) {
            Ok(())
        } else {
            Err(GicError::Timeout("GICD_CTLR.RWP"))
        }
    }

    /// See [`super::Gic::init`].
    ///
    /// # Errors
    ///
    /// [`GicError::Timeout`] where the distributor never finishes a write.
    pub fn init(&self) -> Result<(), GicError> {
        self.distributor.write32(GICD_CTLR, 0);
        self.wait_distributor()?;
        self.fill_spis(ICENABLER, 32, !0);
        self.wait_distributor()?;
        self.fill_spis(ICPENDR, 32, !0);
        self.fill_spis(ICACTIVER, 32, !0);
        self.fill_spis(IGROUPR, 32, !0);
        self.fill_spis(IPRIORITYR, 4, PRIORITIES);
        self.fill_spis(GICD_ICFGR, 16, 0);
        self.distributor.write32(GICD_CTLR, GICD_ENABLE);
        self.wait_distributor()?;
        // Routes exist only once affinity routing is on; nothing is enabled yet.
        let here = sysreg::mpidr() & AFFINITY;
        for intid in SPI..self.limit {
            self.distributor.write64(GICD_IROUTER + 8 * intid as usize, here);
        }
        Ok(())
    }

    /// The address of the RD frame of the CPU with this affinity.
    fn find_redistributor(&self, mpidr: u64) -> Option<usize> {
        // GICR_TYPER packs the affinity into its upper half, Aff3 first.
        let wanted = mpidr >> 32 << 24 | mpidr & 0xff_ffff;
        for region in &self.regions {
            let mut offset = 0;
            while let Some(frame) = region.part(offset, REDISTRIBUTOR) {
                let typer = frame.read64(GICR_TYPER);
                if typer >> 32 == wanted {
                    return Some(frame.base());
                }
                if typer & 1 << 4 != 0 {
                    break;
                }
                // GICv4 redistributors (VLPIS) have two frames more.
                offset += self.stride.unwrap_or(REDISTRIBUTOR << (typer >> 1 & 1));
            }
        }
        None
    }

    /// See [`super::Gic::init_cpu`].
    ///
    /// # Errors
    ///
    /// [`GicError::TooManyCpus`], [`GicError::NoRedistributor`], [`GicError::Timeout`] where the redistributor does not
    /// wake, [`GicError::NoSystemRegisters`].
    pub fn init_cpu(&self, cpu: CpuId) -> Result<(), GicError> {
        let slot = self.redistributors.get(cpu).ok_or(GicError::TooManyCpus(cpu))?;
        if !sysreg::enable() {
            return Err(GicError::NoSystemRegisters);
        }
        let mpidr = sysreg::mpidr() & AFFINITY;
        let base = self.find_redistributor(mpidr).ok_or(GicError::NoRedistributor(mpidr))?;
        let frame = self.frame(base).ok_or(GicError::NoRedistributor(mpidr))?;

        let waker = frame.read32(GICR_WAKER);
        frame.write32(GICR_WAKER, waker & !WAKER_SLEEP);
        if !wait_for(|| frame.read32(GICR_WAKER) & WAKER_ASLEEP == 0) {
            return Err(GicError::Timeout("GICR_WAKER"));
        }
        frame.write32(SGI_FRAME + ICENABLER, !0);
        if !wait_for(|| frame.read32(GICR_CTLR) & GICR_RWP == 0) {
            return Err(GicError::Timeout("GICR_CTLR.RWP"));
        }
        frame.write32(SGI_FRAME + ICPENDR, !0);
        frame.write32(SGI_FRAME + ICACTIVER, !0);
        frame.write32(SGI_FRAME + IGROUPR, !0);
        for i in 0..8 {
            frame.write32(SGI_FRAME + IPRIORITYR + 4 * i, PRIORITIES);
        }
        frame.write32(SGI_FRAME + ISENABLER, 1 << KICK_SGI);

        slot.mpidr.store(mpidr, Ordering::Relaxed);
        slot.base.store(base, Ordering::Release);

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

    /// The frames at `base`, which [`Self::find_redistributor`] found.
    fn frame(&self, base: usize) -> Option<Mmio> {
        self.regions.iter().find_map(|region| {
            base.checked_sub(region.base()).and_then(|offset| region.part(offset, REDISTRIBUTOR))
        })
    }

    /// The redistributor of the CPU that executes this, once its `init_cpu` has run.
    fn own(&self) -> Option<Mmio> {
        let mpidr = sysreg::mpidr() & AFFINITY;
        let own = |slot: &&Redistributor| {
            slot.base.load(Ordering::Acquire) != 0 && slot.mpidr.load(Ordering::Relaxed) == mpidr
        };
        let slot = self.redistributors.iter().find(own)?;
        self.frame(slot.base.load(Ordering::Relaxed))
    }

    /// The affinity of a CPU of ours, once its `init_cpu` has run.
    fn affinity(&self, cpu: CpuId) -> Option<u64> {
        let slot = self.redistributors.get(cpu)?;
        (slot.base.load(Ordering::Acquire) != 0).then(|| slot.mpidr.load(Ordering::Relaxed))
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

    fn write_bit(&self, bank: usize, intid: Intid) {
        let (offset, bit) = bit(bank, intid);
        if intid < SPI {
            if let Some(own) = self.own() {
                own.write32(SGI_FRAME + offset, bit);
            }
        } else if intid < self.limit {
            self.distributor.write32(offset, bit);
        }
    }

    /// See [`super::Gic::enable`].
    pub fn enable(&self, intid: Intid) {
        self.write_bit(ISENABLER, intid);
    }

    /// See [`super::Gic::disable`]. When this returns the interrupt is not taken any more.
    pub fn disable(&self, intid: Intid) {
        self.write_bit(ICENABLER, intid);
        // A controller that never finishes has been told of at start; here there is nobody to tell.
        if intid >= SPI {
            wait_for(|| self.distributor.read32(GICD_CTLR) & GICD_RWP == 0);
        } else if let Some(own) = self.own() {
            wait_for(|| own.read32(GICR_CTLR) & GICR_RWP == 0);
        }
    }

    /// See [`super::Gic::set_edge`].
    pub fn set_edge(&self, intid: Intid, edge: bool) {
        let offset = GICD_ICFGR + 4 * (intid as usize / 16);
        let bit = 2 << (2 * (intid % 16));
        let registers = match intid {
            16..SPI => self.own().and_then(|own| own.part(SGI_FRAME, REDISTRIBUTOR - SGI_FRAME)),
            SPI.. if intid < self.limit => Some(self.distributor),
            _ => None,
        };
        if let Some(registers) = registers {
            let _guard = self.shared.lock();
            let old = registers.read32(offset);
            registers.write32(offset, if edge { old | bit } else { old & !bit });
        }
    }

    /// See [`super::Gic::route`].
    pub fn route(&self, intid: Intid, cpu: CpuId) {
        if let (SPI.., Some(affinity)) = (intid, self.affinity(cpu))
            && intid < self.limit
        {
            self.distributor.write64(GICD_IROUTER + 8 * intid as usize, affinity);
        }
    }

    /// See [`super::Gic::set_active`].
    pub fn set_active(&self, intid: Intid, active: bool) {
        self.write_bit(if active { ISACTIVER } else { ICACTIVER }, intid);
    }

    /// See [`super::Gic::set_pending`].
    pub fn set_pending(&self, intid: Intid, pending: bool) {
        if intid >= 16 {
            self.write_bit(if pending { ISPENDR } else { ICPENDR }, intid);
        }
    }

    /// See [`super::Gic::intid_limit`].
    pub fn intid_limit(&self) -> u32 {
        self.limit
    }

    /// See [`super::Gic::kick`].
    pub fn kick(&self, cpu: CpuId) {
        if let Some(affinity) = self.affinity(cpu) {
            barrier();
            sysreg::send_sgi(sgi(affinity, KICK_SGI));
        }
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

/// ICH_LR<n>_EL2 (IHI 0069, 12.4) of a list register.
const fn encode(lr: ListRegister) -> u64 {
    let state = match lr.state {
        LrState::Invalid => return 0,
        LrState::Pending => 1,
        LrState::Active => 2,
        LrState::PendingAndActive => 3,
    };
    let origin = match lr.physical {
        Some(physical) => 1 << 61 | (physical as u64 & 0x1fff) << 32,
        None => (lr.eoi_maintenance as u64) << 41,
    };
    state << 62 | origin | (lr.group1 as u64) << 60 | (lr.priority as u64) << 48 | lr.intid as u64
}

/// The list register that ICH_LR<n>_EL2 holds.
const fn decode(value: u64) -> ListRegister {
    let hardware = value & 1 << 61 != 0;
    ListRegister {
        intid: value as u32,
        state: match value >> 62 {
            0 => LrState::Invalid,
            1 => LrState::Pending,
            2 => LrState::Active,
            _ => LrState::PendingAndActive,
        },
        priority: (value >> 48) as u8,
        group1: value & 1 << 60 != 0,
        physical: if hardware { Some((value >> 32) as u32 & 0x1fff) } else { None },
        source: 0,
        eoi_maintenance: !hardware && value & 1 << 41 != 0,
    }
}

/// The system registers, by encoding: not every assembler knows their names without being told of the extension.
#[cfg(target_arch = "aarch64")]
mod sysreg {
    use core::arch::asm;

    macro_rules! read {
        ($register:literal) => {{
            let value: u64;
            // SAFETY: reads a GIC system register, which touches no memory of ours. That EL2 may is seen in `enable`
            // before any other is read.
            unsafe { asm!(concat!("mrs {value}, ", $register), value = out(reg) value, options(nostack)) }
            value
        }};
    }
    macro_rules! write {
        ($register:literal, $value:expr) => {{
            let value: u64 = $value;
            // SAFETY: writes a GIC system register, which touches no memory of ours: interrupts come or do not.
            unsafe { asm!(concat!("msr ", $register, ", {value}"), value = in(reg) value, options(nostack)) }
        }};
    }
    /// `read!` or `write!` of register `index` of a family, 0 or nothing beyond it.
    macro_rules! family {
        ($name:ident, $set:ident, $what:literal, $($index:literal => $register:literal),+) => {
            #[doc = concat!("Reads ", $what, ".")]
            pub(super) fn $name(index: usize) -> u64 {
                match index { $($index => read!($register),)+ _ => 0 }
            }
            #[doc = concat!("Writes ", $what, ".")]
            pub(super) fn $set(index: usize, value: u64) {
                match index { $($index => write!($register, value),)+ _ => {} }
            }
        };
    }

    fn isb() {
        // SAFETY: synchronises the instruction stream, no more.
        unsafe { asm!("isb", options(nostack, preserves_flags)) }
    }

    pub(super) fn mpidr() -> u64 {
        read!("mpidr_el1")
    }

    /// Turns the system-register interface on for EL2 and EL1. False where there is none, or firmware keeps it.
    pub(super) fn enable() -> bool {
        // ID_AA64PFR0_EL1.GIC: without it the registers below are undefined.
        if read!("id_aa64pfr0_el1") >> 24 & 15 == 0 {
            return false;
        }
        // ICC_SRE_EL2: SRE, DFB, DIB, Enable (EL1 may use its own SRE register).
        write!("S3_4_C12_C9_5", 0xf);
        isb();
        if read!("S3_4_C12_C9_5") & 1 == 0 {
            return false;
        }
        reset_guest_interface();
        true
    }

    /// ICC_SRE_EL1 with system registers on, no bypass.
    pub(super) fn reset_guest_interface() {
        write!("S3_0_C12_C12_5", 7);
        isb();
    }

    /// Sets up this CPU's interface: any priority passes, no preemption, EOI drops only the priority, group 1 on.
    pub(super) fn init_cpu_interface() {
        const CTLR_EOI_MODE: u64 = 1 << 1;
        write!("S3_0_C12_C12_7", 0); // ICC_IGRPEN1_EL1
        write!("S3_0_C4_C6_0", 0xff); // ICC_PMR_EL1
        write!("S3_0_C12_C12_3", 7); // ICC_BPR1_EL1
        write!("S3_0_C12_C12_4", CTLR_EOI_MODE); // ICC_CTLR_EL1
        // An interrupt that firmware took and never ended would keep others out for good: ICC_AP1R0_EL1.
        write!("S3_0_C12_C9_0", 0);
        isb();
        write!("S3_0_C12_C12_7", 1);
        isb();
    }

    pub(super) fn acknowledge() -> u32 {
        let intid = read!("S3_0_C12_C12_0") as u32 & 0xff_ffff; // ICC_IAR1_EL1
        // The acknowledgement must reach the distributor before the device is touched (IHI 0069, 4.1.1).
        crate::mmio::barrier();
        intid
    }

    pub(super) fn end(intid: u32) {
        write!("S3_0_C12_C12_1", u64::from(intid)); // ICC_EOIR1_EL1
        isb();
    }

    pub(super) fn deactivate(intid: u32) {
        write!("S3_0_C12_C11_1", u64::from(intid)); // ICC_DIR_EL1
        isb();
    }

    pub(super) fn send_sgi(value: u64) {
        write!("S3_0_C12_C11_5", value); // ICC_SGI1R_EL1
        isb();
    }

    pub(super) fn set_hcr(value: u64) {
        write!("S3_4_C12_C11_0", value); // ICH_HCR_EL2
    }

    pub(super) fn vtr() -> u64 {
        read!("S3_4_C12_C11_1") // ICH_VTR_EL2
    }

    pub(super) fn vmcr() -> u64 {
        read!("S3_4_C12_C11_7") // ICH_VMCR_EL2
    }

    pub(super) fn set_vmcr(value: u64) {
        write!("S3_4_C12_C11_7", value); // ICH_VMCR_EL2
    }

    family!(ap0r, set_ap0r, "ICH_AP0R<n>_EL2",
        0 => "S3_4_C12_C8_0", 1 => "S3_4_C12_C8_1", 2 => "S3_4_C12_C8_2", 3 => "S3_4_C12_C8_3");
    family!(ap1r, set_ap1r, "ICH_AP1R<n>_EL2",
        0 => "S3_4_C12_C9_0", 1 => "S3_4_C12_C9_1", 2 => "S3_4_C12_C9_2", 3 => "S3_4_C12_C9_3");
    family!(lr, set_lr, "ICH_LR<n>_EL2",
        0 => "S3_4_C12_C12_0", 1 => "S3_4_C12_C12_1", 2 => "S3_4_C12_C12_2", 3 => "S3_4_C12_C12_3",
        4 => "S3_4_C12_C12_4", 5 => "S3_4_C12_C12_5", 6 => "S3_4_C12_C12_6", 7 => "S3_4_C12_C12_7",
        8 => "S3_4_C12_C13_0", 9 => "S3_4_C12_C13_1", 10 => "S3_4_C12_C13_2", 11 => "S3_4_C12_C13_3",
        12 => "S3_4_C12_C13_4", 13 => "S3_4_C12_C13_5", 14 => "S3_4_C12_C13_6", 15 => "S3_4_C12_C13_7");
}

/// Elsewhere than on AArch64 there is no such interface: [`GicV3::new`] fails by `enable`, and nothing else is called.
#[cfg(not(target_arch = "aarch64"))]
mod sysreg {
    pub(super) fn enable() -> bool {
        false
    }

    macro_rules! none {
        ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)+) => {
            $(pub(super) fn $name($(_: $type),*) $(-> $result)? {
                unreachable!(concat!(stringify!($name), ": no GICv3 system registers on this CPU"))
            })+
        };
    }
    none! {
        mpidr() -> u64; reset_guest_interface(); init_cpu_interface(); acknowledge() -> u32; end(intid: u32);
        deactivate(intid: u32); send_sgi(value: u64); set_hcr(value: u64); vtr() -> u64; vmcr() -> u64;
        set_vmcr(value: u64); ap0r(index: usize) -> u64; set_ap0r(index: usize, value: u64);
        ap1r(index: usize) -> u64; set_ap1r(index: usize, value: u64); lr(index: usize) -> u64;
        set_lr(index: usize, value: u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::tests::range;

    const SAMPLE: ListRegister = ListRegister {
        intid: 27,
        state: LrState::Pending,
        priority: 0xa0,
        group1: true,
        physical: None,
        source: 0,
        eoi_maintenance: false,
    };

    #[test]
    fn fields_lie_where_the_manual_says() {
        assert_eq!(encode(SAMPLE), 0x50a0_0000_0000_001b);
        assert_eq!(encode(ListRegister { physical: Some(27), ..SAMPLE }), 0x70a0_001b_0000_001b);
        assert_eq!(encode(ListRegister { eoi_maintenance: true, ..SAMPLE }), 0x50a0_0200_0000_001b);
        assert_eq!(
            encode(ListRegister { state: LrState::PendingAndActive, group1: false, ..SAMPLE }) >> 60,
            0xc
        );
        assert_eq!(encode(ListRegister { state: LrState::Invalid, ..SAMPLE }), 0);
    }

    #[test]
    fn decode_inverts_encode() {
        for state in [LrState::Pending, LrState::Active, LrState::PendingAndActive] {
            for priority in [0, 0x80, 0xa0, 0xff] {
                for (physical, eoi_maintenance) in [(None, false), (None, true), (Some(1019), false)] {
                    let group1 = priority == 0x80;
                    let lr = ListRegister {
                        intid: 8192,
                        state,
                        priority,
                        group1,
                        physical,
                        source: 0,
                        eoi_maintenance,
                    };
                    assert_eq!(decode(encode(lr)), lr);
                }
            }
        }
    }

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
