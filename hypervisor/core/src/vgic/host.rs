//! The virtual GIC's surroundings: its effects on the machine and on other vCPUs, and access to state that another CPU
//! holds in its list registers.

use core::hint::spin_loop;
use core::sync::atomic::Ordering;

use super::{Vgic, VgicHost};
use crate::domain::{Domain, NOWHERE, Seat};
use crate::hypervisor::Hypervisor;
use crate::machine::{FIRST_SPI, Intid, Machine};

/// Carries out at once what a virtual GIC does to physical interrupts, and notes the vCPUs to be told when its lock is
/// free again.
pub(crate) struct Effects<'a, M: Machine> {
    hv: &'a Hypervisor<M>,
    domain: &'a Domain<M>,
    /// The vCPU that is loaded on this CPU, if it is of this domain.
    loaded: Option<usize>,
    told: u128,
}

impl<'a, M: Machine> Effects<'a, M> {
    pub(crate) fn new(hv: &'a Hypervisor<M>, domain: &'a Domain<M>, loaded: Option<usize>) -> Self {
        Self { hv, domain, loaded, told: 0 }
    }

    /// Tells the vCPUs. The virtual GIC's lock must be free.
    pub(crate) fn tell(self) {
        let mut told = self.told;
        while told != 0 {
            let vcpu = told.trailing_zeros() as usize;
            told &= told - 1;
            if let Some(vcpu) = self.domain.vcpus.get(vcpu) {
                self.hv.notify(vcpu);
            }
        }
    }
}

impl<M: Machine> VgicHost for Effects<'_, M> {
    fn kick(&mut self, vcpu: usize) {
        self.told |= 1u128.checked_shl(vcpu as u32).unwrap_or(0);
    }

    fn physical_enable(&mut self, physical: Intid) {
        self.hv.machine.enable(physical);
    }

    fn physical_disable(&mut self, physical: Intid) {
        self.hv.machine.disable(physical);
    }

    fn physical_set_edge(&mut self, physical: Intid, edge: bool) {
        self.hv.machine.set_edge(physical, edge);
    }

    fn physical_route(&mut self, physical: Intid, vcpu: usize) {
        let Some(vcpu) = self.domain.vcpus.get(vcpu) else { return };
        let cpu = match vcpu.running_on.load(Ordering::SeqCst) {
            NOWHERE => self.hv.scheduler.account(vcpu.key).map_or(0, |a| a.last_cpu),
            cpu => cpu,
        };
        self.hv.machine.route(physical, cpu);
    }

    fn physical_set_active(&mut self, vcpu: usize, physical: Intid, active: bool) {
        // A PPI is this CPU's; for a vCPU that is elsewhere, its CPU applies it before it enters the guest again.
        if physical >= FIRST_SPI || self.loaded == Some(vcpu) {
            self.hv.machine.set_active(physical, active);
        } else if let Some(other) = self.domain.vcpus.get(vcpu) {
            other.private_changed.store(true, Ordering::SeqCst);
            self.kick(vcpu);
        }
    }
}

/// Accesses the virtual GIC of the seat's domain from its vCPU, which is loaded here, after making sure that the state
/// concerned is not in another CPU's list registers. `needs` names a vCPU that has to be synced first.
///
/// The protocol is that of `vgic`'s documentation; two vCPUs that wait for each other both go on.
pub(crate) fn with_current<M: Machine, R>(
    hv: &Hypervisor<M>,
    seat: &Seat<M>,
    needs: impl Fn(&Vgic) -> Option<usize>,
    access: impl FnOnce(&mut Vgic, &mut Effects<'_, M>) -> R,
) -> R {
    let (domain, vcpu) = (&*seat.domain, &*seat.vcpu);
    let own = usize::from(vcpu.key.vcpu);
    let mut effects = Effects::new(hv, domain, Some(own));
    let mut held = 0u128;
    loop {
        let mut vgic = domain.vgic.lock();
        let Some(other) = needs(&vgic) else {
            let result = access(&mut vgic, &mut effects);
            while held != 0 {
                vgic.release(held.trailing_zeros() as usize);
                held &= held - 1;
            }
            drop(vgic);
            effects.tell();
            return result;
        };
        vgic.sync(own, &hv.machine, &mut effects);
        vcpu.attention.store(true, Ordering::SeqCst);
        let bit = 1u128.checked_shl(other as u32).unwrap_or(0);
        if other == own {
            continue;
        }
        if held & bit == 0 {
            vgic.hold(other);
            held |= bit;
        }
        drop(vgic);
        if let Some(target) = domain.vcpus.get(other) {
            hv.notify(target);
        }
        while domain.vgic.lock().is_resident(other) {
            spin_loop();
        }
    }
}
