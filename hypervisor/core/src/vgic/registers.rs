//! The registers that a GICv2 distributor, a GICv3 distributor and a GICv3 redistributor have in common (IHI 0048B
//! 4.3, IHI 0069 12.9 and 12.11): one bit, two bits or a byte per interrupt, at the same offsets in each.

use super::bank::{BANK, Bits};
use super::{Version, Vgic, VgicHost, valid};

/// Offset of the control register.
pub(super) const CTLR: u32 = 0x000;
/// Offset of the (distributor's) type register.
pub(super) const TYPER: u32 = 0x004;
/// Offset of the (distributor's) implementer register.
pub(super) const IIDR: u32 = 0x008;
/// Implementer Arm, whose architecture it is; the product is ours.
pub(super) const IMPLEMENTATION: u32 = 0x5600_043b;

/// A register file with one bit per interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bitmap {
    /// IGROUPR.
    Group,
    /// ISENABLER.
    SetEnable,
    /// ICENABLER.
    ClearEnable,
    /// ISPENDR.
    SetPending,
    /// ICPENDR.
    ClearPending,
    /// ISACTIVER.
    SetActive,
    /// ICACTIVER.
    ClearActive,
}

/// A register that this file knows, and the bank (for [`Shared::Priority`] and [`Shared::Config`] also the word in
/// it) that it is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shared {
    /// One bit per interrupt.
    Bitmap(Bitmap, usize),
    /// IPRIORITYR: the four interrupts from `4 * word`.
    Priority(usize, usize),
    /// ICFGR: the sixteen interrupts from `16 * word`.
    Config(usize, usize),
}

impl Shared {
    /// The register of which the byte at `offset` is a part.
    pub(super) const fn decode(offset: u32) -> Option<Self> {
        let word = (offset as usize & 0x7f) / 4;
        Some(match offset {
            0x080..0x100 => Self::Bitmap(Bitmap::Group, word),
            0x100..0x180 => Self::Bitmap(Bitmap::SetEnable, word),
            0x180..0x200 => Self::Bitmap(Bitmap::ClearEnable, word),
            0x200..0x280 => Self::Bitmap(Bitmap::SetPending, word),
            0x280..0x300 => Self::Bitmap(Bitmap::ClearPending, word),
            0x300..0x380 => Self::Bitmap(Bitmap::SetActive, word),
            0x380..0x400 => Self::Bitmap(Bitmap::ClearActive, word),
            0x400..0x7fc => Self::Priority((offset as usize - 0x400) / BANK, (offset as usize & 0x1f) / 4),
            0xc00..0xd00 => Self::Config((offset as usize - 0xc00) / 8, (offset as usize & 7) / 4),
            _ => return None,
        })
    }

    pub(super) const fn bank(self) -> usize {
        match self {
            Self::Bitmap(_, bank) | Self::Priority(bank, _) | Self::Config(bank, _) => bank,
        }
    }

    /// Whether the register tells of, or changes, what list registers may hold a newer version of.
    pub(super) const fn is_volatile(self) -> bool {
        matches!(
            self,
            Self::Bitmap(
                Bitmap::SetPending | Bitmap::ClearPending | Bitmap::SetActive | Bitmap::ClearActive,
                _
            )
        )
    }

    /// Whether single bytes may be accessed.
    const fn has_bytes(self) -> bool {
        matches!(self, Self::Priority(..))
    }
}

/// The bytes of its 32-bit word that an access of `size` bytes at `offset` concerns, as (shift, mask of the value).
/// `None` for accesses that the registers do not support, which read as zero and are ignored.
pub(super) const fn lanes(offset: u32, size: u8, bytes: bool) -> Option<(u32, u32)> {
    match size {
        4 if offset.is_multiple_of(4) => Some((0, !0)),
        1 if bytes => Some(((offset & 3) * 8, 0xff)),
        _ => None,
    }
}

/// CoreSight identification registers, the last 48 bytes of a frame, `offset` within these (IHI 0069 12.1.11): Arm's
/// JEP106 code, the part number of GIC-400 or GIC-500, and the architecture's revision.
pub(super) const fn identification(offset: u32, part: u8, revision: u8) -> u32 {
    match offset {
        // PIDR4: JEP106 continuation code.
        0x00 => 0x04,
        // PIDR0 to PIDR3.
        0x10 => part as u32,
        0x14 => 0xb4,
        0x18 => (revision as u32) << 4 | 0xb,
        // CIDR0 to CIDR3.
        0x20 => 0x0d,
        0x24 => 0xf0,
        0x28 => 0x05,
        0x2c => 0xb1,
        _ => 0,
    }
}

/// The sixteen low bits of `bits`, each moved to the odd one of a pair.
const fn spread(bits: u32) -> u32 {
    let mut x = bits & 0xffff;
    x = (x | x << 8) & 0x00ff_00ff;
    x = (x | x << 4) & 0x0f0f_0f0f;
    x = (x | x << 2) & 0x3333_3333;
    x = (x | x << 1) & 0x5555_5555;
    x << 1
}

/// The odd bits of `pairs`, moved together: what [`spread`] undoes.
const fn gather(pairs: u32) -> u32 {
    let mut x = pairs >> 1 & 0x5555_5555;
    x = (x | x >> 1) & 0x3333_3333;
    x = (x | x >> 2) & 0x0f0f_0f0f;
    x = (x | x >> 4) & 0x00ff_00ff;
    (x | x >> 8) & 0xffff
}

impl Vgic {
    /// Reads a shared register for (the private interrupts of) `vcpu`.
    pub(super) fn shared_read(&self, vcpu: usize, register: Shared, offset: u32, size: u8) -> u32 {
        let Some((shift, mask)) = lanes(offset, size, register.has_bytes()) else { return 0 };
        let Some(state) = self.bank(vcpu, register.bank()) else { return 0 };
        let word = match register {
            Shared::Bitmap(bitmap, bank) => {
                valid(bank)
                    & match bitmap {
                        Bitmap::Group => state.group1,
                        Bitmap::SetEnable | Bitmap::ClearEnable => state.enabled,
                        Bitmap::SetPending | Bitmap::ClearPending => state.pending(),
                        Bitmap::SetActive | Bitmap::ClearActive => state.active,
                    }
            }
            Shared::Priority(_, word) => match state.priority.get(word * 4..word * 4 + 4) {
                Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
                _ => 0,
            },
            Shared::Config(bank, word) => spread((state.edge & valid(bank)) >> (16 * word)),
        };
        word >> shift & mask
    }

    /// Writes a shared register for (the private interrupts of) `vcpu`.
    pub(super) fn shared_write(
        &mut self,
        vcpu: usize,
        register: Shared,
        (offset, size): (u32, u8),
        value: u32,
        host: &mut impl VgicHost,
    ) {
        let Some((shift, mask)) = lanes(offset, size, register.has_bytes()) else { return };
        match register {
            Shared::Bitmap(bitmap, bank) => self.bitmap_write(vcpu, bitmap, bank, value, host),
            Shared::Priority(bank, word) => {
                self.priority_write(vcpu, bank, word, mask << shift, value << shift, host);
            }
            Shared::Config(bank, word) => self.config_write(vcpu, bank, word, value, host),
        }
    }

    pub(super) fn bitmap_write(
        &mut self,
        vcpu: usize,
        bitmap: Bitmap,
        bank: usize,
        value: u32,
        host: &mut impl VgicHost,
    ) {
        let mut value = value & valid(bank);
        let v2 = self.version == Version::V2;
        if v2 && bank == 0 && matches!(bitmap, Bitmap::SetPending | Bitmap::ClearPending) {
            // GICv2: SGIs have pending registers of their own.
            value &= !0xffff;
        }
        let Some(state) = self.bank_mut(vcpu, bank) else { return };
        let busy = state.pending() | state.active;
        let changed = match bitmap {
            Bitmap::Group => {
                let changed = state.group1 ^ value;
                // The bits outside of `valid` never matter.
                state.group1 = value;
                changed
            }
            Bitmap::SetEnable => {
                let changed = value & !state.enabled;
                state.enabled |= value;
                changed
            }
            Bitmap::ClearEnable => {
                let changed = value & state.enabled;
                state.enabled &= !value;
                changed
            }
            Bitmap::SetPending => {
                let changed = value & !(state.latch | state.again);
                state.again |= changed & state.listed;
                state.latch |= changed & !state.listed;
                changed
            }
            Bitmap::ClearPending => {
                let changed = value & (state.latch | state.again);
                state.latch &= !value;
                state.again &= !value;
                changed
            }
            Bitmap::SetActive => {
                let changed = value & !state.active;
                state.active |= value;
                changed
            }
            Bitmap::ClearActive => {
                let changed = value & state.active;
                state.active &= !value;
                changed
            }
        };
        let hardware = state.hardware & changed;
        let now_busy = state.pending() | state.active;
        for bit in Bits(hardware) {
            let Some(physical) = self.physical(vcpu, bank, bit) else { continue };
            match bitmap {
                Bitmap::SetEnable if bank != 0 => host.physical_enable(physical),
                Bitmap::ClearEnable if bank != 0 => host.physical_disable(physical),
                _ if (busy ^ now_busy) & 1 << bit != 0 => {
                    host.physical_set_active(vcpu, physical, now_busy & 1 << bit != 0);
                }
                _ => {}
            }
        }
        self.settle(vcpu, bank, changed, &mut |v| host.kick(v));
    }

    fn priority_write(
        &mut self,
        vcpu: usize,
        bank: usize,
        word: usize,
        lanes: u32,
        value: u32,
        host: &mut impl VgicHost,
    ) {
        let implemented = self.priority_mask;
        let Some(state) = self.bank_mut(vcpu, bank) else { return };
        let Some(priorities) = state.priority.get_mut(word * 4..word * 4 + 4) else { return };
        let mut changed = 0;
        for (i, slot) in priorities.iter_mut().enumerate() {
            let new = value.to_le_bytes()[i] & implemented;
            if lanes.to_le_bytes()[i] != 0 && *slot != new {
                *slot = new;
                changed |= 1 << (word * 4 + i);
            }
        }
        self.settle(vcpu, bank, changed & valid(bank), &mut |v| host.kick(v));
    }

    fn config_write(&mut self, vcpu: usize, bank: usize, word: usize, value: u32, host: &mut impl VgicHost) {
        if bank == 0 && word == 0 {
            // SGIs are always edge-triggered.
            return;
        }
        let shift = 16 * word;
        let among = (0xffff << shift) & valid(bank);
        let Some(state) = self.bank_mut(vcpu, bank) else { return };
        let changed = (state.edge ^ gather(value) << shift) & among;
        state.edge ^= changed;
        let (edge, hardware) = (state.edge, state.hardware & changed);
        if bank != 0 {
            for bit in Bits(hardware) {
                if let Some(physical) = self.physical(vcpu, bank, bit) {
                    host.physical_set_edge(physical, edge & 1 << bit != 0);
                }
            }
        }
        self.settle(vcpu, bank, changed, &mut |v| host.kick(v));
    }
}
