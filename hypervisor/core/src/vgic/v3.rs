//! What only a GICv3 has (IHI 0069): affinity routing, a redistributor per vCPU, SGIs by system register.
//!
//! The guest sees one security state (GICD_CTLR.DS), affinity routing always on (ARE), and no LPIs.

use super::registers::{CTLR, IIDR, IMPLEMENTATION, Shared, TYPER, identification, lanes};
use super::{BANK, NONE, Vgic, VgicHost, place, valid};
use crate::machine::Intid;

/// GICD_CTLR: one security state, affinity routing.
const CTLR_DS_ARE: u32 = 1 << 6 | 1 << 4;
/// GICD_TYPER: 10 bits of INTID, no 1-of-N SPIs.
const TYPER_FIXED: u32 = 9 << 19 | 1 << 25;
const TYPER_A3V: u32 = 1 << 24;
const TYPER_RSS: u32 = 1 << 26;
/// GICD_IROUTER of INTID 0; the first that exists is that of 32.
const IROUTER: u32 = 0x6000;
const IROUTER_FIRST: u32 = 0x6100;
const IROUTER_END: u32 = 0x7fe0;
/// CoreSight identification registers, in every frame.
const IDREGS: u32 = 0xffd0;
const FRAME_SIZE: u32 = 0x1_0000;
/// Part numbers of GIC-500's distributor and redistributor.
const PART_DISTRIBUTOR: u8 = 0x92;
const PART_REDISTRIBUTOR: u8 = 0x93;

const GICR_IIDR: u32 = 0x004;
const GICR_TYPER: u32 = 0x008;
const GICR_TYPER_HIGH: u32 = 0x00c;
const GICR_TYPER_LAST: u32 = 1 << 4;
const GICR_WAKER: u32 = 0x014;
const WAKER_PROCESSOR_SLEEP: u32 = 1 << 1;
const WAKER_CHILDREN_ASLEEP: u32 = 1 << 2;

/// Which of the SGI registers was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SgiRegister {
    /// ICC_SGI1R_EL1.
    Sgi1,
    /// ICC_ASGI1R_EL1.
    AliasSgi1,
    /// ICC_SGI0R_EL1.
    Sgi0,
}

impl Vgic {
    pub(super) fn v3_read(&self, offset: u32, size: u8) -> u64 {
        if let IROUTER_FIRST..IROUTER_END = offset {
            let route = self.spis.get(Self::routed(offset) as usize - 32).map_or(0, |spi| spi.route);
            let route = u64::from(route & 0xff_ffff) | u64::from(route >> 24) << 32;
            return match size {
                8 if offset.is_multiple_of(8) => route,
                4 if offset.is_multiple_of(8) => route & 0xffff_ffff,
                4 if offset.is_multiple_of(4) => route >> 32,
                _ => 0,
            };
        }
        if let Some(register) = Shared::decode(offset) {
            // The private interrupts are in the redistributors.
            return if register.bank() == 0 { 0 } else { self.shared_read(0, register, offset, size).into() };
        }
        if lanes(offset, size, false).is_none() {
            return 0;
        }
        u64::from(match offset {
            CTLR => self.gate_bits() | CTLR_DS_ARE,
            TYPER => self.v3_typer(),
            IIDR => IMPLEMENTATION,
            IDREGS..FRAME_SIZE => identification(offset - IDREGS, PART_DISTRIBUTOR, 3),
            _ => 0,
        })
    }

    pub(super) fn v3_write(&mut self, offset: u32, size: u8, value: u64, host: &mut impl VgicHost) {
        if let IROUTER_FIRST..IROUTER_END = offset {
            return self.v3_route(offset, size, value, host);
        }
        if let Some(register) = Shared::decode(offset) {
            if register.bank() != 0 {
                self.shared_write(0, register, (offset, size), value as u32, host);
            }
        } else if offset == CTLR && size == 4 {
            self.set_gates(value as u32, host);
        }
    }

    /// Reads a vCPU's redistributor: `frame` is the vCPU whose it is (the caller's own or another's), `offset` is in
    /// bytes from its start, up to [`crate::platform::REDISTRIBUTOR_BYTES`], `size` is 1, 2, 4 or 8 bytes. Registers that do not
    /// exist, and accesses that a register does not support, read as zero.
    pub fn redist_read(&self, frame: usize, offset: u64, size: u8) -> u64 {
        let Some(cpu) = self.cpus.get(frame) else { return 0 };
        let Ok(offset) = u32::try_from(offset) else { return 0 };
        if let Some(offset) = offset.checked_sub(FRAME_SIZE) {
            return match Shared::decode(offset) {
                Some(register) if register.bank() == 0 => {
                    self.shared_read(frame, register, offset, size).into()
                }
                _ if size == 4 && (IDREGS..FRAME_SIZE).contains(&offset) => {
                    identification(offset - IDREGS, PART_REDISTRIBUTOR, 3).into()
                }
                _ => 0,
            };
        }
        let low = (frame as u32) << 8 | if frame + 1 == self.cpus.len() { GICR_TYPER_LAST } else { 0 };
        match (offset, size) {
            (GICR_TYPER, 8) => u64::from(cpu.affinity) << 32 | u64::from(low),
            (GICR_TYPER, 4) => low.into(),
            (GICR_TYPER_HIGH, 4) => cpu.affinity.into(),
            (GICR_IIDR, 4) => IMPLEMENTATION.into(),
            (GICR_WAKER, 4) if cpu.asleep => (WAKER_PROCESSOR_SLEEP | WAKER_CHILDREN_ASLEEP).into(),
            (IDREGS..FRAME_SIZE, 4) => identification(offset - IDREGS, PART_REDISTRIBUTOR, 3).into(),
            _ => 0,
        }
    }

    /// Writes a vCPU's redistributor; see [`Vgic::redist_read`]. What cannot be written is ignored.
    ///
    /// GICR_WAKER reads back what was written, at once, but a sleeping redistributor still delivers: firmware that a
    /// virtual machine does not have is what normally wakes it for a simple guest.
    pub fn redist_write(
        &mut self,
        frame: usize,
        offset: u64,
        size: u8,
        value: u64,
        host: &mut impl VgicHost,
    ) {
        let Some(cpu) = self.cpus.get_mut(frame) else { return };
        let Ok(offset) = u32::try_from(offset) else { return };
        if let Some(offset) = offset.checked_sub(FRAME_SIZE) {
            if let Some(register) = Shared::decode(offset)
                && register.bank() == 0
            {
                self.shared_write(frame, register, (offset, size), value as u32, host);
            }
        } else if offset == GICR_WAKER && size == 4 {
            cpu.asleep = value as u32 & WAKER_PROCESSOR_SLEEP != 0;
        }
    }

    /// As [`Vgic::needs_sync`], for an access to the redistributor of vCPU `frame`.
    pub fn redist_needs_sync(&self, frame: usize, offset: u64) -> Option<usize> {
        let offset = u32::try_from(offset).ok()?.checked_sub(FRAME_SIZE)?;
        let register = Shared::decode(offset)?;
        (register.bank() == 0 && register.is_volatile()).then(|| self.bank_needs_sync(frame, 0))?
    }

    /// A write to one of the registers that generate SGIs, by `vcpu` (IHI 0069, 12.2.20 for the fields).
    ///
    /// The registers for group 0 reach only SGIs that their receiver has in group 0; with one security state,
    /// ICC_SGI1R_EL1 reaches both.
    pub fn sgi_write(&mut self, vcpu: usize, register: SgiRegister, value: u64, host: &mut impl VgicHost) {
        let field = |shift: u32, bits: u32| (value >> shift) as u32 & ((1 << bits) - 1);
        let intid: Intid = field(24, 4);
        let everyone_else = field(40, 1) == 1;
        // Aff3.Aff2.Aff1, and the sixteen values of Aff0 that the list is about.
        let cluster = field(48, 8) << 24 | field(32, 8) << 16 | field(16, 8) << 8 | field(44, 4) << 4;
        let list = field(0, 16);
        for target in 0..self.cpus.len() {
            let Some(cpu) = self.cpus.get(target) else { return };
            let meant = if everyone_else {
                target != vcpu
            } else {
                cpu.affinity & !0xf == cluster && list & 1 << (cpu.affinity & 0xf) != 0
            };
            let group1 = cpu.private.group1 & 1 << intid != 0;
            if meant
                && (!group1 || register == SgiRegister::Sgi1)
                && let Some(v) = self.raise(target, intid)
            {
                host.kick(v);
            }
        }
    }

    /// The vCPU with an affinity, or none.
    pub(super) fn v3_target(&self, route: u32) -> u8 {
        self.cpus.iter().position(|cpu| cpu.affinity == route).map_or(NONE, |vcpu| vcpu as u8)
    }

    fn v3_typer(&self) -> u32 {
        let (mut a3v, mut rss) = (0, 0);
        for bit in self.cpus.iter().map(|cpu| cpu.affinity) {
            if bit >> 24 != 0 {
                a3v = TYPER_A3V;
            }
            if bit & 0xf0 != 0 {
                rss = TYPER_RSS;
            }
        }
        self.banks.len() as u32 | TYPER_FIXED | a3v | rss
    }

    /// INTID whose IROUTER is at `offset`.
    const fn routed(offset: u32) -> Intid {
        (offset - IROUTER) / 8
    }

    /// GICD_IROUTER, whole or one half of it. Bit 31, any vCPU, is not offered (GICD_TYPER.No1N).
    fn v3_route(&mut self, offset: u32, size: u8, value: u64, host: &mut impl VgicHost) {
        let intid = Self::routed(offset);
        let (bank, mask) = place(intid);
        let Some(spi) = self.spis.get(intid as usize - BANK) else { return };
        if mask & valid(bank) == 0 {
            return;
        }
        let (low, high) = (value as u32 & 0xff_ffff, (value >> 32) as u32 & 0xff);
        let route = match size {
            8 if offset.is_multiple_of(8) => low | high << 24,
            4 if offset.is_multiple_of(8) => spi.route & 0xff00_0000 | low,
            4 if offset.is_multiple_of(4) => spi.route & 0xff_ffff | (value as u32 & 0xff) << 24,
            _ => return,
        };
        self.retarget(intid, route, self.v3_target(route), host);
    }
}
