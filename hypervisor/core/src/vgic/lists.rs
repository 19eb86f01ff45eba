//! List registers: filled before a vCPU runs, folded back after it ran.

use super::bank::{BANK, Bits};
use super::{Cpu, DIRTY, HELD, SYNCED, Version, Vgic, VgicHost, place};
use crate::machine::{Intid, ListRegister, LrState, VirtualCpuInterface};

/// Most list registers that are used (the architecture's maximum for GICv3, and what GICv2 has at most in practice).
pub(super) const MAX: usize = 16;

impl LrState {
    const fn is_pending(self) -> bool {
        matches!(self, Self::Pending | Self::PendingAndActive)
    }
    const fn is_active(self) -> bool {
        matches!(self, Self::Active | Self::PendingAndActive)
    }
}

/// The interrupts chosen for the list registers, the most important first.
struct Chosen {
    entries: [(u16, u16); MAX],
    len: usize,
    room: usize,
    /// More wanted in than there is room.
    overflow: bool,
}

impl Chosen {
    fn offer(&mut self, key: u16, intid: Intid) {
        let entry = (key, intid as u16);
        if self.len == self.room {
            self.overflow = true;
            match self.entries[..self.len].last_mut() {
                Some(last) if entry < *last => *last = entry,
                _ => return,
            }
        } else {
            self.entries[self.len] = entry;
            self.len += 1;
        }
        let mut at = self.len - 1;
        while at > 0 && self.entries[at] < self.entries[at - 1] {
            self.entries.swap(at, at - 1);
            at -= 1;
        }
    }

    fn intids(&self) -> impl Iterator<Item = Intid> + '_ {
        self.entries[..self.len].iter().map(|&(_, intid)| Intid::from(intid))
    }
}

impl Cpu {
    /// The list register that holds `intid`.
    fn slot_of(&self, intid: Intid) -> Option<usize> {
        Bits(self.used).map(|slot| slot as usize & (MAX - 1)).find(|&slot| self.lists[slot].intid == intid)
    }
}

impl Vgic {
    /// Folds the list registers of `vcpu` back, which must be the one loaded on this CPU: after this the registers of
    /// the virtual GIC tell the truth about it, and the maintenance interrupt is no longer raised. Reads only the list
    /// registers in use; free when there are none, or when called again before the next entry.
    #[inline]
    pub fn sync(&mut self, vcpu: usize, interface: &impl VirtualCpuInterface, host: &mut impl VgicHost) {
        if self.is_resident(vcpu) {
            self.fold_all(vcpu, interface, host);
        }
    }

    #[inline(never)]
    fn fold_all(&mut self, vcpu: usize, interface: &impl VirtualCpuInterface, host: &mut impl VgicHost) {
        let Some(cpu) = self.cpus.get_mut(vcpu) else { return };
        cpu.flags |= SYNCED;
        for slot in Bits(cpu.used) {
            let slot = slot as usize & (MAX - 1);
            let state = interface.lr_read(slot).state;
            // The hardware changes nothing else; and where it changed nothing, the banks are right as they are.
            if self.cpus.get(vcpu).is_some_and(|cpu| cpu.lists[slot].state != state) {
                self.fold(vcpu, slot, state, interface, host);
            }
        }
    }

    /// Prepares the list registers for entry into `vcpu`, which must be the one loaded on this CPU. Folds them back
    /// first where that is needed. Returns whether the vCPU may be entered now: false while it is held.
    #[must_use = "a held vCPU must not be entered"]
    #[inline]
    pub fn flush(
        &mut self,
        vcpu: usize,
        interface: &impl VirtualCpuInterface,
        host: &mut impl VgicHost,
    ) -> bool {
        !self.wants_flush(vcpu) || self.flush_changes(vcpu, interface, host)
    }

    #[inline(never)]
    fn flush_changes(
        &mut self,
        vcpu: usize,
        interface: &impl VirtualCpuInterface,
        host: &mut impl VgicHost,
    ) -> bool {
        let flags = self.cpus.get(vcpu).map_or(0, |cpu| cpu.flags);
        if flags & (DIRTY | HELD) != 0 {
            self.sync(vcpu, interface, host);
            if flags & HELD != 0 {
                return false;
            }
            self.refill(vcpu, interface, host);
        }
        if let Some(cpu) = self.cpus.get_mut(vcpu) {
            cpu.flags = 0;
        }
        true
    }

    /// Takes everything of `vcpu`, the one loaded on this CPU, out of the list registers, before another is loaded.
    pub fn unload(&mut self, vcpu: usize, interface: &impl VirtualCpuInterface, host: &mut impl VgicHost) {
        self.sync(vcpu, interface, host);
        let Some(cpu) = self.cpus.get_mut(vcpu) else { return };
        let used = cpu.used;
        if cpu.underflow {
            cpu.underflow = false;
            interface.set_underflow(false);
        }
        for slot in Bits(used) {
            interface.lr_write(slot as usize, ListRegister::default());
        }
        cpu.flags &= !SYNCED;
        for slot in Bits(used) {
            self.free(vcpu, slot as usize & (MAX - 1), host);
        }
    }

    /// Takes over what the guest did to the interrupt in a list register.
    fn fold(
        &mut self,
        vcpu: usize,
        slot: usize,
        now: LrState,
        interface: &impl VirtualCpuInterface,
        host: &mut impl VgicHost,
    ) {
        let v2 = self.version == Version::V2;
        let Some(cpu) = self.cpus.get_mut(vcpu) else { return };
        let lr = &mut cpu.lists[slot];
        let was = core::mem::replace(&mut lr.state, now);
        let ListRegister { intid, source, eoi_maintenance, .. } = *lr;
        let (bank, mask) = place(intid);
        let taken = was.is_pending() && !now.is_pending();
        let mut latched = false;
        if v2
            && taken
            && let Some(sgi) = cpu.sgis.get_mut(intid as usize)
        {
            sgi.sources &= !(1 << source);
            sgi.active_source = source;
            latched = sgi.sources != 0;
        }
        let Some(state) = self.bank_mut(vcpu, bank) else { return };
        if taken && !latched {
            state.latch &= !mask;
        }
        state.active = if now.is_active() { state.active | mask } else { state.active & !mask };
        let Some(cpu) = self.cpus.get_mut(vcpu) else { return };
        if now == LrState::Invalid {
            // What raises the maintenance interrupt goes at once, so that it can be deactivated after a sync.
            if eoi_maintenance {
                interface.lr_write(slot, ListRegister::default());
            }
            if cpu.underflow {
                cpu.underflow = false;
                interface.set_underflow(false);
                cpu.flags |= DIRTY;
            }
            self.free(vcpu, slot, host);
        }
    }

    /// Forgets that a list register holds its interrupt, which goes where it belongs now.
    fn free(&mut self, vcpu: usize, slot: usize, host: &mut impl VgicHost) {
        if let Some((bank, mask)) = self.unlist(vcpu, slot) {
            self.settle(vcpu, bank, mask, &mut |v| host.kick(v));
        }
    }

    /// The part of [`Vgic::free`] that concerns only the interrupt, whose bank and bit it returns.
    fn unlist(&mut self, vcpu: usize, slot: usize) -> Option<(usize, u32)> {
        let cpu = self.cpus.get_mut(vcpu)?;
        cpu.used &= !(1 << slot);
        let intid = cpu.lists[slot].intid;
        let (bank, mask) = place(intid);
        self.merge(vcpu, intid);
        self.bank_mut(vcpu, bank)?.listed &= !mask;
        Some((bank, mask))
    }

    /// Merges what was raised while the interrupt was in a list register. Its state must have been folded back.
    fn merge(&mut self, vcpu: usize, intid: Intid) {
        let (bank, mask) = place(intid);
        if let Some(sgi) = self.cpus.get_mut(vcpu).and_then(|cpu| cpu.sgis.get_mut(intid as usize)) {
            sgi.sources |= core::mem::take(&mut sgi.again);
        }
        if let Some(state) = self.bank_mut(vcpu, bank) {
            state.latch |= state.again & mask;
            state.again &= !mask;
        }
    }

    /// Chooses what goes into the list registers, and writes those that change. The vCPU is synced.
    fn refill(&mut self, vcpu: usize, interface: &impl VirtualCpuInterface, host: &mut impl VgicHost) {
        let room = interface.lr_count().clamp(1, MAX);
        let Some(cpu) = self.cpus.get(vcpu) else { return };
        // List registers whose interrupt left, which they still show.
        let mut stale = 0_u32;

        // What no longer wants delivery, or not here, leaves first, so that the queue is right when it is looked at.
        for slot in Bits(cpu.used) {
            let slot = slot as usize & (MAX - 1);
            if !self.belongs(vcpu, slot) {
                stale |= 1 << slot;
                self.free(vcpu, slot, host);
            }
        }

        let chosen = self.choose(vcpu, room);
        if chosen.overflow {
            let Some(cpu) = self.cpus.get(vcpu) else { return };
            for slot in Bits(cpu.used) {
                let slot = slot as usize & (MAX - 1);
                let keep = self
                    .cpus
                    .get(vcpu)
                    .is_some_and(|cpu| chosen.intids().any(|intid| intid == cpu.lists[slot].intid));
                if !keep {
                    // It stays on this vCPU's queue.
                    self.unlist(vcpu, slot);
                    stale |= 1 << slot;
                }
            }
        }

        for intid in chosen.intids() {
            self.merge(vcpu, intid);
            let Some(wanted) = self.compose(vcpu, intid) else { continue };
            let (bank, mask) = place(intid);
            let Some(state) = self.bank_mut(vcpu, bank) else { continue };
            let listed = state.listed & mask != 0;
            state.listed |= mask;
            let Some(cpu) = self.cpus.get_mut(vcpu) else { return };
            let slot = if listed { cpu.slot_of(intid) } else { None };
            let slot = match slot {
                Some(slot) if cpu.lists[slot] == wanted => continue,
                Some(slot) => slot,
                None => {
                    // Those that must be overwritten anyway are the cheapest.
                    let free = if stale != 0 { stale } else { !cpu.used };
                    free.trailing_zeros() as usize & (MAX - 1)
                }
            };
            cpu.lists[slot] = wanted;
            cpu.used |= 1 << slot;
            stale &= !(1 << slot);
            interface.lr_write(slot, wanted);
        }

        let Some(cpu) = self.cpus.get_mut(vcpu) else { return };
        for slot in Bits(stale) {
            interface.lr_write(slot as usize, ListRegister::default());
        }
        if cpu.underflow != chosen.overflow {
            cpu.underflow = chosen.overflow;
            interface.set_underflow(chosen.overflow);
        }
    }

    /// Whether the interrupt in a list register is still to be there.
    fn belongs(&self, vcpu: usize, slot: usize) -> bool {
        let Some(cpu) = self.cpus.get(vcpu) else { return false };
        let intid = cpu.lists[slot].intid;
        let (bank, mask) = place(intid);
        let Some(state) = self.bank(vcpu, bank) else { return false };
        let here = bank == 0
            || state.active & mask != 0
            || self.spis.get(intid as usize - BANK).is_some_and(|spi| usize::from(spi.target) == vcpu);
        here && state.candidates(self.gates) & mask != 0
    }

    /// The most important interrupts of a vCPU, as many as there is room for.
    fn choose(&self, vcpu: usize, room: usize) -> Chosen {
        let mut chosen = Chosen { entries: [(0, 0); MAX], len: 0, room, overflow: false };
        let Some(cpu) = self.cpus.get(vcpu) else { return chosen };
        let private = core::iter::once((0, cpu.private.candidates(self.gates)));
        for (bank, word) in private.chain(cpu.queue.iter()) {
            let Some(state) = self.bank(vcpu, bank) else { continue };
            for bit in Bits(word) {
                // Active ones first: the guest's EOI of one without a list register would be lost.
                let waiting = if state.active & 1 << bit == 0 { 0x100 } else { 0 };
                chosen.offer(waiting | u16::from(state.priority(bit)), (bank * BANK) as Intid + bit);
            }
        }
        chosen
    }

    /// What the list register of an interrupt is to hold.
    fn compose(&self, vcpu: usize, intid: Intid) -> Option<ListRegister> {
        let (bank, mask) = place(intid);
        let bit = intid % 32;
        let state = self.bank(vcpu, bank)?;
        let forwarded = state.forwarded(self.gates) & mask != 0;
        let active = state.active & mask != 0;
        let mut lr = ListRegister {
            intid,
            state: match (active, forwarded) {
                (false, false) => LrState::Invalid,
                (false, true) => LrState::Pending,
                (true, false) => LrState::Active,
                (true, true) => LrState::PendingAndActive,
            },
            priority: state.priority(bit),
            group1: state.group1 & mask != 0,
            ..ListRegister::default()
        };
        if state.hardware & mask != 0 {
            if active && state.pending() & mask != 0 {
                // The hardware cannot hold both with the HW bit. The physical interrupt stays active for the pending
                // one when the guest deactivates this, so this goes without the HW bit.
                lr.state = LrState::Active;
                lr.eoi_maintenance = true;
            } else {
                lr.physical = self.physical(vcpu, bank, bit);
            }
        } else if intid < 16 && self.version == Version::V2 {
            let sgi = self.cpus.get(vcpu)?.sgis.get(intid as usize)?;
            lr.source = if active { sgi.active_source } else { sgi.sources.trailing_zeros() as u8 & 7 };
            // A list register names one source; others follow when this one is done.
            if sgi.sources & !(1 << lr.source) != 0 && forwarded {
                lr.eoi_maintenance = true;
            }
            if active && sgi.sources & 1 << lr.source == 0 {
                lr.state = LrState::Active;
            }
        } else if state.line & !state.edge & mask != 0 && forwarded {
            // Delivered again at the end if the line still is high then, which only then can be known.
            lr.eoi_maintenance = true;
            if active {
                lr.state = LrState::Active;
            }
        }
        Some(lr)
    }
}
