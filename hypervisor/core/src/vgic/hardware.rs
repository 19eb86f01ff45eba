//! Virtual interrupts that physical ones back.

use super::bank::{BANK, Bits};
use super::{INTID_LIMIT, NO_PHYSICAL, NONE, Vgic, VgicError, VgicHost};
use crate::machine::Intid;

impl Vgic {
    /// Backs a virtual PPI or SPI by a physical one, or ends that (`None`). The physical SPI is routed, configured and
    /// enabled as the virtual one stands. `vcpu` matters for PPIs only.
    pub fn set_hardware(
        &mut self,
        vcpu: usize,
        intid: Intid,
        physical: Option<Intid>,
        host: &mut impl VgicHost,
    ) -> Result<(), VgicError> {
        let (bank, mask) = self.locate(vcpu, intid).ok_or(VgicError::Intid(intid))?;
        let fits = match (physical, intid) {
            (_, 0..16) => return Err(VgicError::Intid(intid)),
            (None, _) => NO_PHYSICAL,
            (Some(p @ 16..32), 16..32) | (Some(p @ 32..INTID_LIMIT), 32..) => p as u16,
            (Some(p), _) => return Err(VgicError::Physical(p)),
        };
        self.let_go(vcpu, bank, mask, host);
        if intid < 32 {
            let slot = self.cpus.get_mut(vcpu).and_then(|cpu| cpu.physical.get_mut(intid as usize - 16));
            if let Some(slot) = slot {
                *slot = fits;
            }
        } else if let Some(spi) = self.spis.get_mut(intid as usize - 32) {
            spi.physical = fits;
        }
        let Some(state) = self.bank_mut(vcpu, bank) else { return Ok(()) };
        state.hardware &= !mask;
        let (enabled, edge) = (state.enabled & mask != 0, state.edge & mask != 0);
        if let Some(p) = physical {
            state.hardware |= mask;
            // From now on only the physical interrupt speaks for the line.
            state.line &= !mask;
            let busy = (state.pending() | state.active) & mask != 0;
            if bank != 0 {
                let target = self.spis.get(intid as usize - 32).map_or(NONE, |spi| spi.target);
                if target != NONE {
                    host.physical_route(p, usize::from(target));
                }
                host.physical_set_edge(p, edge);
                if enabled {
                    host.physical_enable(p);
                }
            }
            if busy {
                host.physical_set_active(vcpu, p, true);
            }
        }
        self.settle(vcpu, bank, mask, &mut |v| host.kick(v));
        Ok(())
    }

    /// Gives every physical SPI back: disabled and not active. For the end of a domain.
    pub fn release_hardware(&mut self, host: &mut impl VgicHost) {
        for bank in 1..=self.banks.len() {
            let hardware = self.bank(0, bank).map_or(0, |state| state.hardware);
            for bit in Bits(hardware) {
                self.let_go(0, bank, 1 << bit, host);
                if let Some(spi) = self.spis.get_mut((bank - 1) * BANK + bit as usize) {
                    spi.physical = NO_PHYSICAL;
                }
            }
            if let Some(state) = self.bank_mut(0, bank) {
                state.hardware = 0;
            }
        }
    }

    /// Takes the physical interrupt from under a virtual one.
    fn let_go(&self, vcpu: usize, bank: usize, mask: u32, host: &mut impl VgicHost) {
        let Some(state) = self.bank(vcpu, bank) else { return };
        let Some(physical) = self.physical(vcpu, bank, mask.trailing_zeros()) else { return };
        if bank != 0 {
            host.physical_disable(physical);
        }
        if (state.pending() | state.active) & mask != 0 {
            host.physical_set_active(vcpu, physical, false);
        }
    }

    /// The physical PPIs (bit `n` for INTID `n`) that must be active while this vCPU is loaded, because it has their
    /// virtual counterparts pending or active. The vCPU must be synced (or unloaded).
    pub fn hardware_active(&self, vcpu: usize) -> u32 {
        let Some(cpu) = self.cpus.get(vcpu) else { return 0 };
        let state = &cpu.private;
        let busy = state.hardware & (state.pending() | state.active);
        Bits(busy).filter_map(|bit| self.physical(vcpu, 0, bit)).fold(0, |all, p| all | 1_u32 << (p & 31))
    }

    /// The physical interrupt behind interrupt `bit` of a bank.
    pub(super) fn physical(&self, vcpu: usize, bank: usize, bit: u32) -> Option<Intid> {
        let physical = match bank.checked_sub(1) {
            None => *self.cpus.get(vcpu)?.physical.get((bit as usize).checked_sub(16)?)?,
            Some(index) => self.spis.get(index * BANK + bit as usize)?.physical,
        };
        (physical != NO_PHYSICAL).then_some(Intid::from(physical))
    }
}
