//! GICv2 (IHI 0048B): distributor GICD, CPU interface GICC, virtual interface control GICH. Pure MMIO, so the same
//! for both widths of CPU.

use core::sync::atomic::{AtomicU8, AtomicU16, Ordering};

use vambrace_core::machine::{Acknowledged, CpuId, Intid, ListRegister, LrState};

use super::distributor::{Distributor, ICACTIVER, SPECIAL, SPI, reset_own, write_bit};
use super::{GicError, KICK_SGI, VcpuInterface};
use crate::mmio::{Mmio, barrier};

/// CPUs that a GICv2 serves.
const MAX_CPUS: usize = 8;

const GICD_ITARGETSR: usize = 0x800;
const GICD_SGIR: usize = 0xf00;

const GICC_CTLR: usize = 0x0000;
const GICC_PMR: usize = 0x0004;
const GICC_BPR: usize = 0x0008;
const GICC_IAR: usize = 0x000c;
const GICC_EOIR: usize = 0x0010;
const GICC_APR: usize = 0x00d0;
const GICC_NSAPR: usize = 0x00e0;
const GICC_IIDR: usize = 0x00fc;
const GICC_DIR: usize = 0x1000;

const GICH_HCR: usize = 0x000;
const GICH_VTR: usize = 0x004;
const GICH_VMCR: usize = 0x008;
const GICH_APR: usize = 0x0f0;
const GICH_LR: usize = 0x100;

/// GICC_CTLR: signal the interrupts we see (group 1 in the non-secure view, the only group where there is no view).
const CTLR_ENABLE: u32 = 1;
/// GICC_CTLR: EOIR only drops the priority. Bit 9 in the non-secure view and where there are no views (IHI 0048B
/// 4.4.1, EOImodeNS and EOImode).
const CTLR_EOI_MODE: u32 = 1 << 9;

/// GICD_SGIR, TargetListFilter (IHI 0048B 4.3.15): all CPUs but the writer.
const SGI_TO_OTHERS: u32 = 1 << 24;

/// The first interrupt that is no SGI.
const PPI: u32 = 16;
/// GICC_IIDR, ProductID: every controller that is made has one (IHI 0048B 4.4.14).
const PRODUCT_SHIFT: u32 = 20;

const HCR_ENABLE: u32 = 1;
const HCR_UNDERFLOW: u32 = 1 << 1;

/// Where the CPU interface's second page is on controllers that repeat each 4 KiB page through 64 KiB: the pages lie
/// side by side at the end of the first run.
const ALIASED_OFFSET: usize = 0xf000;

/// A GICv2 with its virtualization extensions.
#[derive(Debug)]
pub struct GicV2 {
    distributor: Distributor,
    cpu: Mmio,
    hypervisor: Mmio,
    cpu_offset: usize,
    lr_count: usize,
    /// Each CPU's bit in target registers, by our number of it; 0 until its `init_cpu`.
    masks: [AtomicU8; MAX_CPUS],
    /// Set on a controller that does not look again at an interrupt which a guest deactivates through the HW bit of a list
    /// register: QEMU's, where one that is pending by then stays unseen until something else happens, and where before
    /// 8.1 an SPI that another CPU acknowledged even stays active. There list registers are without the HW bit, and what
    /// a guest has ended is deactivated in the distributor, which looks at everything.
    deaf: bool,
    /// The physical interrupt behind each list register of each CPU, where the list register does not say so; 0 for none.
    behind: [[AtomicU16; 16]; MAX_CPUS],
}

impl GicV2 {
    /// The controller with these registers: GICD, GICC and GICH of the device tree (`arm,gic.yaml`, `reg` entries 0 to
    /// 2).
    ///
    /// # Errors
    ///
    /// [`GicError::Region`] where one is too small to hold what the driver uses.
    pub fn new(distributor: Mmio, cpu: Mmio, hypervisor: Mmio) -> Result<Self, GicError> {
        for (region, size, name) in
            [(distributor, 0x1000, "GICD"), (cpu, 0x1004, "GICC"), (hypervisor, 0x140, "GICH")]
        {
            if region.size() < size || !region.base().is_multiple_of(4) {
                return Err(GicError::Region(name));
            }
        }
        let aliased =
            cpu.size() >= 0x2_0000 && cpu.read32(GICC_IIDR) == cpu.read32(ALIASED_OFFSET + GICC_IIDR);
        Ok(Self {
            cpu_offset: if aliased { ALIASED_OFFSET } else { 0 },
            lr_count: (hypervisor.read32(GICH_VTR) as usize & 0x3f).min(15) + 1,
            masks: [const { AtomicU8::new(0) }; MAX_CPUS],
            deaf: cpu.read32(GICC_IIDR) >> PRODUCT_SHIFT == 0,
            behind: [const { [const { AtomicU16::new(0) }; 16] }; MAX_CPUS],
            distributor: Distributor::new(distributor, 0),
            cpu,
            hypervisor,
        })
    }

    fn gicc_read(&self, register: usize) -> u32 {
        self.cpu.read32(self.cpu_offset + register)
    }

    fn gicc_write(&self, register: usize, value: u32) {
        self.cpu.write32(self.cpu_offset + register, value);
    }

    /// See [`super::Gic::init`].
    ///
    /// # Errors
    ///
    /// None, on this version.
    pub fn init(&self) -> Result<(), GicError> {
        // Groups are ignored in the non-secure view; without views, one group is signalled and it is group 0.
        self.distributor.reset(0)?;
        self.distributor.fill_spis(GICD_ITARGETSR, 4, u32::from(self.own_mask()) * 0x0101_0101);
        self.distributor.turn_on(1)
    }

    /// This CPU's bit in target registers. The first eight of them are read-only and answer with the reader's bit; a
    /// controller of a single CPU answers 0.
    fn own_mask(&self) -> u8 {
        let registers = self.distributor.registers();
        let word = (0..8).map(|i| registers.read32(GICD_ITARGETSR + 4 * i)).fold(0, |a, b| a | b);
        let mask = (word | word >> 16) as u16;
        match (mask | mask >> 8) as u8 {
            0 => 1,
            mask => mask,
        }
    }

    /// See [`super::Gic::init_cpu`].
    ///
    /// # Errors
    ///
    /// [`GicError::TooManyCpus`] for a `cpu` of 8 or more.
    pub fn init_cpu(&self, cpu: CpuId) -> Result<(), GicError> {
        let mask = self.masks.get(cpu).ok_or(GicError::TooManyCpus(cpu))?;
        self.gicc_write(GICC_CTLR, 0);
        reset_own(self.distributor.registers(), 0, || Ok(()))?;
        mask.store(self.own_mask(), Ordering::Release);

        // Firmware may have been in the middle of an interrupt.
        for i in 0..4 {
            self.gicc_write(GICC_APR + 4 * i, 0);
            self.gicc_write(GICC_NSAPR + 4 * i, 0);
        }
        self.gicc_write(GICC_PMR, 0xff);
        self.gicc_write(GICC_BPR, 0);
        self.gicc_write(GICC_CTLR, CTLR_ENABLE | CTLR_EOI_MODE);

        self.hypervisor.write32(GICH_HCR, 0);
        self.hypervisor.write32(GICH_APR, 0);
        for i in 0..self.lr_count {
            self.hypervisor.write32(GICH_LR + 4 * i, 0);
        }
        Ok(())
    }

    /// See [`super::Gic::acknowledge`].
    #[inline]
    pub fn acknowledge(&self) -> Option<Acknowledged> {
        let token = self.gicc_read(GICC_IAR);
        let intid = token & 0x3ff;
        (intid < SPECIAL).then_some(Acknowledged { intid, token })
    }

    /// See [`super::Gic::end`].
    #[inline]
    pub fn end(&self, interrupt: Acknowledged) {
        self.gicc_write(GICC_EOIR, interrupt.token);
    }

    /// See [`super::Gic::deactivate`].
    #[inline]
    pub fn deactivate(&self, interrupt: Acknowledged) {
        if self.deaf {
            write_bit(self.distributor.registers(), ICACTIVER, interrupt.intid);
        } else {
            self.gicc_write(GICC_DIR, interrupt.token);
        }
    }

    pub(super) fn distributor(&self) -> &Distributor {
        &self.distributor
    }

    pub(super) fn registers_of(&self, intid: Intid) -> Option<Mmio> {
        (intid < self.distributor.limit()).then(|| self.distributor.registers())
    }

    pub(super) fn settle(&self, _: Intid) {}

    /// See [`super::Gic::route`].
    pub fn route(&self, intid: Intid, cpu: CpuId) {
        let mask = self.masks.get(cpu).map_or(0, |mask| mask.load(Ordering::Acquire));
        if (SPI..self.distributor.limit()).contains(&intid) && mask != 0 {
            self.distributor.registers().write8(GICD_ITARGETSR + intid as usize, mask);
        }
    }

    /// See [`super::Gic::kick`].
    pub fn kick(&self, cpu: CpuId) {
        let mask = self.masks.get(cpu).map_or(0, |mask| mask.load(Ordering::Acquire));
        barrier();
        self.distributor.registers().write32(GICD_SGIR, u32::from(mask) << 16 | KICK_SGI);
    }

    /// See [`super::Gic::call_others`].
    pub fn call_others(&self) {
        barrier();
        self.distributor.registers().write32(GICD_SGIR, SGI_TO_OTHERS | KICK_SGI);
    }

    /// See [`super::Gic::lr_count`].
    #[inline]
    pub fn lr_count(&self) -> usize {
        self.lr_count
    }

    /// See [`super::Gic::lr_read`].
    #[inline]
    pub fn lr_read(&self, index: usize) -> ListRegister {
        let value = decode(self.hypervisor.read32(GICH_LR + 4 * (index & 15)));
        if self.deaf { self.with_physical(index, value) } else { value }
    }

    /// What a list register holds, with the physical interrupt behind it; that is deactivated if the guest has ended it.
    fn with_physical(&self, index: usize, value: ListRegister) -> ListRegister {
        let Some(behind) = self.behind(index) else { return value };
        let physical = match behind.load(Ordering::Relaxed) {
            0 => return value,
            physical => Intid::from(physical),
        };
        if value.state == LrState::Invalid {
            behind.store(0, Ordering::Relaxed);
            // Its wish for the maintenance interrupt is fulfilled by this.
            self.hypervisor.write32(GICH_LR + 4 * (index & 15), 0);
            write_bit(self.distributor.registers(), ICACTIVER, physical);
        }
        ListRegister { physical: Some(physical), eoi_maintenance: false, ..value }
    }

    /// What goes into a list register in place of `value`, whose physical interrupt is remembered.
    fn without_physical(&self, index: usize, value: ListRegister) -> ListRegister {
        let Some(behind) = self.behind(index) else { return value };
        let physical = value.physical.filter(|physical| (PPI..SPECIAL).contains(physical));
        let physical = physical.filter(|_| value.state != LrState::Invalid);
        behind.store(physical.map_or(0, |physical| physical as u16), Ordering::Relaxed);
        match physical {
            Some(_) => ListRegister { physical: None, source: 0, eoi_maintenance: true, ..value },
            None => value,
        }
    }

    fn behind(&self, index: usize) -> Option<&AtomicU16> {
        self.behind.get(here())?.get(index & 15)
    }

    /// See [`super::Gic::lr_write`].
    #[inline]
    pub fn lr_write(&self, index: usize, value: ListRegister) {
        let value = if self.deaf { self.without_physical(index, value) } else { value };
        self.hypervisor.write32(GICH_LR + 4 * (index & 15), encode(value));
    }

    /// See [`super::Gic::set_underflow`].
    #[inline]
    pub fn set_underflow(&self, on: bool) {
        self.hypervisor.write32(GICH_HCR, HCR_ENABLE | if on { HCR_UNDERFLOW } else { 0 });
    }

    /// See [`super::Gic::new_vcpu`].
    pub fn new_vcpu(&self) -> VcpuInterface {
        // Everything off and masked; the binary points at the least that five bits of priority allow (4.4.3).
        VcpuInterface { vmcr: 2 << 21 | 3 << 18, ..VcpuInterface::default() }
    }

    /// See [`super::Gic::load_vcpu`].
    pub fn load_vcpu(&self, state: &VcpuInterface) {
        self.hypervisor.write32(GICH_VMCR, state.vmcr);
        self.hypervisor.write32(GICH_APR, state.apr[0]);
        for i in 0..self.lr_count {
            self.lr_write(i, ListRegister::default());
        }
        self.hypervisor.write32(GICH_HCR, HCR_ENABLE);
    }

    /// See [`super::Gic::save_vcpu`].
    pub fn save_vcpu(&self, state: &mut VcpuInterface) {
        state.vmcr = self.hypervisor.read32(GICH_VMCR);
        state.apr[0] = self.hypervisor.read32(GICH_APR);
        self.hypervisor.write32(GICH_HCR, 0);
    }
}

/// Our number of this CPU.
#[cfg(target_os = "none")]
fn here() -> CpuId {
    crate::smp::this_cpu()
}

/// The host's tests have one.
#[cfg(not(target_os = "none"))]
const fn here() -> CpuId {
    0
}

/// GICH_LR<n> (IHI 0048B 5.3.12) of a list register.
const fn encode(lr: ListRegister) -> u32 {
    if matches!(lr.state, LrState::Invalid) {
        return 0;
    }
    let origin = match lr.physical {
        Some(physical) => 1 << 31 | (physical & 0x3ff) << 10,
        None => (lr.source as u32 & 7) << 10 | (lr.eoi_maintenance as u32) << 19,
    };
    origin
        | (lr.group1 as u32) << 30
        | (lr.state as u32) << 28
        | (lr.priority as u32 >> 3) << 23
        | lr.intid & 0x3ff
}

/// The list register that GICH_LR<n> holds.
const fn decode(value: u32) -> ListRegister {
    let hardware = value & 1 << 31 != 0;
    ListRegister {
        intid: value & 0x3ff,
        state: LrState::from_bits((value >> 28) as u8),
        priority: (value >> 23 << 3) as u8,
        group1: value & 1 << 30 != 0,
        physical: if hardware { Some(value >> 10 & 0x3ff) } else { None },
        source: if hardware { 0 } else { (value >> 10 & 7) as u8 },
        eoi_maintenance: !hardware && value & 1 << 19 != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Gic;
    use super::super::distributor::{ICFGR, TYPER};
    use super::*;
    use crate::mmio::tests::range;

    const SAMPLE: ListRegister = ListRegister {
        intid: 27,
        state: LrState::Pending,
        priority: 0xa0,
        group1: false,
        physical: None,
        source: 0,
        eoi_maintenance: false,
    };

    #[test]
    fn fields_lie_where_the_manual_says() {
        assert_eq!(encode(SAMPLE), 0x1a00_001b);
        assert_eq!(encode(ListRegister { physical: Some(27), ..SAMPLE }), 0x9a00_6c1b);
        let sgi = ListRegister { intid: 3, source: 5, state: LrState::Active, ..SAMPLE };
        assert_eq!(encode(sgi), 0x2a00_1403);
        assert_eq!(encode(ListRegister { eoi_maintenance: true, group1: true, ..SAMPLE }), 0x5a08_001b);
        assert_eq!(encode(ListRegister { state: LrState::Invalid, ..SAMPLE }), 0);
    }

    #[test]
    fn decode_inverts_encode() {
        for state in [LrState::Pending, LrState::Active, LrState::PendingAndActive] {
            for priority in (0..=255).step_by(8) {
                for (physical, source, eoi_maintenance) in
                    [(None, 7, false), (None, 0, true), (Some(1019), 0, false), (Some(16), 0, false)]
                {
                    let lr = ListRegister {
                        intid: 1019,
                        state,
                        priority,
                        group1: priority & 8 != 0,
                        physical,
                        source,
                        eoi_maintenance,
                    };
                    assert_eq!(decode(encode(lr)), lr);
                }
            }
        }
    }

    #[test]
    fn hardware_interrupts_carry_no_source_and_no_maintenance() {
        let lr = ListRegister { physical: Some(40), source: 7, eoi_maintenance: true, ..SAMPLE };
        assert_eq!(decode(encode(lr)), ListRegister { physical: Some(40), ..SAMPLE });
    }

    #[test]
    fn init_resets_what_firmware_left_and_later_calls_stay_in_range() {
        let mut gicd = [0u32; 0x400];
        let (mut gicc, mut gich) = ([0u32; 0x800], [0u32; 0x50]);
        gicd[TYPER / 4] = 0x1f;
        gicd[GICD_ITARGETSR / 4] = 0x0404_0404;
        gicd[(ICFGR + 8) / 4] = !0;
        gich[GICH_VTR / 4] = 3;
        // SAFETY: the regions are the arrays, which outlive them.
        let region =
            |words: &mut [u32]| unsafe { Mmio::new(range(words.as_mut_ptr() as usize, words.len() * 4)) };
        let (distributor, cpu) = (region(&mut gicd), region(&mut gicc));
        let gic = Gic::V2(GicV2::new(distributor, cpu, region(&mut gich)).unwrap());
        assert_eq!((gic.intid_limit(), gic.lr_count()), (1020, 4));
        gic.init().unwrap();
        gic.init_cpu(1).unwrap();
        assert_eq!(gic.init_cpu(8), Err(GicError::TooManyCpus(8)));
        assert_eq!(distributor.read32(ICFGR + 8), 0);
        assert_eq!(distributor.read8(GICD_ITARGETSR + 1019), 4);
        assert_eq!(cpu.read32(GICC_CTLR), 0x201);
        gic.route(33, 0);
        assert_eq!(distributor.read8(GICD_ITARGETSR + 33), 4, "CPU 0 is not up: left alone");
        gic.kick(1);
        assert_eq!(distributor.read32(GICD_SGIR), 4 << 16);
        for intid in [0, 15, 16, 31, 32, 1019, 1020, 1023, u32::MAX] {
            gic.enable(intid);
            gic.disable(intid);
            gic.set_edge(intid, true);
            gic.set_active(intid, true);
            gic.set_pending(intid, false);
            gic.route(intid, usize::MAX);
        }
        assert_eq!(distributor.read32(ICFGR + 0xfc) >> 22, 2, "INTID 1019 and nothing beyond");
    }

    #[test]
    fn a_deaf_controller_is_told_of_the_end_of_an_interrupt() {
        for deaf in [true, false] {
            let mut gicd = [0u32; 0x400];
            let (mut gicc, mut gich) = ([0u32; 0x800], [0u32; 0x50]);
            gicd[TYPER / 4] = 1;
            // QEMU's, and a GIC-400's.
            gicc[GICC_IIDR / 4] = if deaf { 0x0002_043b } else { 0x0202_143b };
            // SAFETY: the regions are the arrays, which outlive them.
            let region =
                |words: &mut [u32]| unsafe { Mmio::new(range(words.as_mut_ptr() as usize, words.len() * 4)) };
            let (distributor, cpu, interface) = (region(&mut gicd), region(&mut gicc), region(&mut gich));
            let gic = GicV2::new(distributor, cpu, interface).unwrap();
            gic.init().unwrap();
            gic.init_cpu(0).unwrap();
            let reset = || [0, 4].map(|word| distributor.write32(ICACTIVER + word, 0));
            let cleared = || [0, 4].map(|word| distributor.read32(ICACTIVER + word));
            let physical = |intid| ListRegister { physical: Some(intid), ..SAMPLE };
            for (intid, ended) in [(27, [1 << 27, 0]), (40, [0, 1 << 8])] {
                reset();
                gic.lr_write(1, physical(intid));
                let register = GICH_LR + 4;
                assert_eq!(interface.read32(register) & 1 << 31 == 0, deaf, "no HW bit");
                assert_eq!(gic.lr_read(1), physical(intid));
                assert_eq!(cleared(), [0, 0], "it has not ended");
                // The guest ends it.
                interface.write32(register, interface.read32(register) & !(3 << 28));
                assert_eq!(gic.lr_read(1).state, LrState::Invalid);
                assert_eq!(cleared(), if deaf { ended } else { [0, 0] });
                assert_eq!(interface.read32(register) == 0, deaf, "no more maintenance interrupts for it");
                // Once: it may be active again by now.
                reset();
                assert_eq!((gic.lr_read(1).state, cleared()), (LrState::Invalid, [0, 0]));
                // One that is taken out before it has ended stays active.
                gic.lr_write(1, physical(intid));
                gic.lr_write(1, ListRegister::default());
                assert_eq!((gic.lr_read(1).physical, cleared()), (None, [0, 0]));
                // The hypervisor ends one itself.
                cpu.write32(GICC_DIR, 0x3ff);
                gic.deactivate(Acknowledged { intid, token: intid });
                assert_eq!(
                    (cleared(), cpu.read32(GICC_DIR)),
                    if deaf { (ended, 0x3ff) } else { ([0, 0], intid) }
                );
            }
        }
    }

    #[test]
    fn small_regions_are_refused() {
        // SAFETY: refused before any access.
        let region = |size| unsafe { Mmio::new(range(0x1000, size)) };
        let new = |d, c, h| GicV2::new(region(d), region(c), region(h)).map(|_| ());
        assert_eq!(new(0x800, 0x2000, 0x1000), Err(GicError::Region("GICD")));
        assert_eq!(new(0x1000, 0x1000, 0x1000), Err(GicError::Region("GICC")));
        assert_eq!(new(0x1000, 0x2000, 0), Err(GicError::Region("GICH")));
    }
}
