//! Thirty-two interrupts as bit maps, the unit in which the distributor's registers come.

/// Number of interrupts in a [`Bank`].
pub(super) const BANK: usize = 32;

/// Which groups the distributor forwards, as masks to combine with [`Bank::group1`].
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Gates {
    /// All ones when group 0 is forwarded, else zero.
    pub(super) group0: u32,
    /// All ones when group 1 is forwarded, else zero.
    pub(super) group1: u32,
}

/// The state of 32 interrupts, bit `n` for INTID `32 * bank + n`.
///
/// Bit maps rather than 32 records: a register read is one load, and "is anything here worth delivering" three
/// operations.
#[derive(Clone, Debug)]
pub(super) struct Bank {
    /// Group 1 (IRQ) rather than group 0.
    pub(super) group1: u32,
    /// Enabled by the guest.
    pub(super) enabled: u32,
    /// Pending by an edge, a write to ISPENDR, an SGI or a physical interrupt, until taken or cleared. Stays set
    /// while the interrupt waits in a list register; cleared when that list register is seen to have been taken.
    pub(super) latch: u32,
    /// Latched once more while in a list register: whether it merges with what is there is only known at the fold.
    pub(super) again: u32,
    /// The input line of a level-sensitive source.
    pub(super) line: u32,
    /// Taken by the guest and not yet deactivated.
    pub(super) active: u32,
    /// Edge-triggered rather than level-sensitive.
    pub(super) edge: u32,
    /// Backed by a physical interrupt, which is active for as long as this one is pending or active.
    pub(super) hardware: u32,
    /// In a list register of some vCPU.
    pub(super) listed: u32,
    /// Priorities, lower is more urgent.
    pub(super) priority: [u8; BANK],
}

impl Bank {
    /// A bank as after reset, all in one group. `edge` are the edge-triggered ones.
    pub(super) const fn new(group1: bool, edge: u32, enabled: u32) -> Self {
        Self {
            group1: if group1 { !0 } else { 0 },
            enabled,
            latch: 0,
            again: 0,
            line: 0,
            active: 0,
            edge,
            hardware: 0,
            listed: 0,
            priority: [0; BANK],
        }
    }

    /// Pending, whether or not enabled (what ISPENDR reads).
    pub(super) const fn pending(&self) -> u32 {
        self.latch | self.again | (self.line & !self.edge)
    }

    /// Pending, enabled, and in a group that the distributor forwards.
    pub(super) const fn forwarded(&self, gates: Gates) -> u32 {
        self.pending() & self.enabled & ((self.group1 & gates.group1) | (!self.group1 & gates.group0))
    }

    /// What some vCPU must know of: forwarded or active.
    pub(super) const fn candidates(&self, gates: Gates) -> u32 {
        self.forwarded(gates) | self.active
    }

    /// Priority of interrupt `bit`.
    pub(super) fn priority(&self, bit: u32) -> u8 {
        self.priority.get(bit as usize).copied().unwrap_or(0)
    }
}

/// The numbers of the bits set in a word, lowest first.
#[derive(Clone, Copy)]
pub(super) struct Bits(pub(super) u32);

impl Iterator for Bits {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

/// A set of SPIs: those that one vCPU has to deliver. Index is the bank number, 1 to 31.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    summary: u32,
    words: [u32; BANK],
}

impl Queue {
    pub(super) fn insert(&mut self, bank: usize, mask: u32) {
        if let Some(word) = self.words.get_mut(bank) {
            *word |= mask;
            self.summary |= 1 << bank;
        }
    }

    pub(super) fn remove(&mut self, bank: usize, mask: u32) {
        if let Some(word) = self.words.get_mut(bank) {
            *word &= !mask;
            if *word == 0 {
                self.summary &= !(1 << bank);
            }
        }
    }

    /// The banks in which something is queued, with what.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        Bits(self.summary).filter_map(|bank| Some((bank as usize, *self.words.get(bank as usize)?)))
    }
}
