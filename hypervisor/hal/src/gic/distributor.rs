//! The distributor (IHI 0048B 4.3, IHI 0069 12.9), as far as it is the same in every version, and the registers of single
//! interrupts, which lie at the same offsets wherever they are: in the distributor, and for what is a CPU's own on
//! GICv3 in the SGI frame of its redistributor.

use spin::Mutex;
use vambrace_core::machine::Intid;

use super::{GicError, KICK_SGI};
use crate::mmio::{Mmio, wait_for};

/// The first INTID that is no interrupt but a special answer (IHI 0069, 2.2.1).
pub(super) const SPECIAL: u32 = 1020;
/// The first SPI; what lies below is each CPU's own.
pub(super) const SPI: u32 = 32;
/// Priority of every physical interrupt, in the middle of the non-secure range, in each byte of a word.
const PRIORITIES: u32 = 0xa0a0_a0a0;

pub(super) const CTLR: usize = 0x000;
pub(super) const TYPER: usize = 0x004;
const IGROUPR: usize = 0x080;
pub(super) const ISENABLER: usize = 0x100;
pub(super) const ICENABLER: usize = 0x180;
pub(super) const ISPENDR: usize = 0x200;
pub(super) const ICPENDR: usize = 0x280;
pub(super) const ISACTIVER: usize = 0x300;
pub(super) const ICACTIVER: usize = 0x380;
const IPRIORITYR: usize = 0x400;
pub(super) const ICFGR: usize = 0xc00;

/// A distributor.
#[derive(Debug)]
pub(super) struct Distributor {
    registers: Mmio,
    limit: u32,
    /// The bit of GICD_CTLR that says that a write is on its way; 0 where writes take effect at once.
    busy: u32,
    /// Held over read-modify-write of a register that interrupts share.
    shared: Mutex<()>,
}

impl Distributor {
    /// The distributor with these registers, at least 4 KiB, and this bit for a write on its way in GICD_CTLR.
    pub(super) fn new(registers: Mmio, busy: u32) -> Self {
        let limit = limit(registers.read32(TYPER));
        Self { registers, limit, busy, shared: Mutex::new(()) }
    }

    /// All its registers.
    pub(super) fn registers(&self) -> Mmio {
        self.registers
    }

    /// Number of INTIDs: a multiple of 32, or 1020.
    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// Waits for writes to take effect; false where that never happens.
    pub(super) fn settle(&self) -> bool {
        self.busy == 0 || wait_for(|| self.registers.read32(CTLR) & self.busy == 0)
    }

    fn settled(&self) -> Result<(), GicError> {
        if self.settle() { Ok(()) } else { Err(GicError::Timeout("GICD_CTLR.RWP")) }
    }

    /// Writes `value` to the registers of `bank` that hold the SPIs, `per_word` to a 32-bit word.
    pub(super) fn fill_spis(&self, bank: usize, per_word: u32, value: u32) {
        for intid in (SPI..self.limit).step_by(per_word as usize) {
            self.registers.write32(bank + 4 * (intid / per_word) as usize, value);
        }
    }

    /// Turns the distributor off and resets every SPI, in the groups of which `groups` is 32 bits.
    pub(super) fn reset(&self, groups: u32) -> Result<(), GicError> {
        self.registers.write32(CTLR, 0);
        self.settled()?;
        self.fill_spis(ICENABLER, 32, !0);
        self.settled()?;
        self.fill_spis(ICPENDR, 32, !0);
        self.fill_spis(ICACTIVER, 32, !0);
        self.fill_spis(IGROUPR, 32, groups);
        self.fill_spis(IPRIORITYR, 4, PRIORITIES);
        self.fill_spis(ICFGR, 16, 0);
        Ok(())
    }

    /// Turns the distributor on, by this GICD_CTLR.
    pub(super) fn turn_on(&self, control: u32) -> Result<(), GicError> {
        self.registers.write32(CTLR, control);
        self.settled()
    }

    /// Sets edge or level sensitivity of an interrupt in `registers`, which need not be the distributor's.
    pub(super) fn set_edge(&self, registers: Mmio, intid: Intid, edge: bool) {
        let offset = ICFGR + 4 * (intid as usize / 16);
        let bit = 2 << (2 * (intid % 16));
        let _guard = self.shared.lock();
        let old = registers.read32(offset);
        registers.write32(offset, if edge { old | bit } else { old & !bit });
    }
}

/// Resets the SGIs and PPIs of a CPU in `registers`, and lets the kick through. `settled` waits until the writes before
/// it have taken effect.
pub(super) fn reset_own(
    registers: Mmio,
    groups: u32,
    settled: impl FnOnce() -> Result<(), GicError>,
) -> Result<(), GicError> {
    registers.write32(ICENABLER, !0);
    settled()?;
    registers.write32(ICPENDR, !0);
    registers.write32(ICACTIVER, !0);
    registers.write32(IGROUPR, groups);
    for i in 0..8 {
        registers.write32(IPRIORITYR + 4 * i, PRIORITIES);
    }
    registers.write32(ISENABLER, 1 << KICK_SGI);
    Ok(())
}

/// Writes the bit of an interrupt in a bank of one-bit registers.
pub(super) fn write_bit(registers: Mmio, bank: usize, intid: Intid) {
    registers.write32(bank + 4 * (intid as usize / 32), 1 << (intid % 32));
}

/// The limit of INTIDs that a TYPER's ITLinesNumber (bits 4:0) announces.
const fn limit(typer: u32) -> u32 {
    let lines = 32 * ((typer & 0x1f) + 1);
    if lines > SPECIAL { SPECIAL } else { lines }
}
