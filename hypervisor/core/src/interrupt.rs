//! Physical interrupts: the hypervisor's own, and those that it passes on.

use crate::domain::Seat;
use crate::hypervisor::Hypervisor;
use crate::machine::{CpuId, FIRST_SPI, Intid, Machine};
use crate::vgic::Effects;

/// Highest SGI.
const LAST_SGI: Intid = 15;

impl<M: Machine> Hypervisor<M> {
    /// Takes every interrupt that waits on this CPU. `seat` is what is loaded here, if anything.
    ///
    /// An interrupt that goes on to a guest only has its priority dropped; the guest deactivates it through the list
    /// register that it is given, so it cannot come again before the guest is done with it.
    pub(crate) fn take_interrupts(&self, cpu: CpuId, seat: Option<&Seat<M>>) {
        let own = &self.settings.interrupts;
        while let Some(interrupt) = self.machine.acknowledge() {
            let intid = interrupt.intid;
            self.machine.end(interrupt);
            if intid == own.virtual_timer {
                if let Some(seat) = seat {
                    let vcpu = usize::from(seat.vcpu.key.vcpu);
                    let told = seat.domain.vgic.lock().raise(vcpu, seat.domain.interrupts.virtual_timer);
                    self.tell(&seat.domain, told);
                    continue;
                }
            } else if intid == own.hypervisor_timer {
                self.machine.set_alarm(None);
                self.run_due(cpu);
            } else if intid == own.maintenance {
                // The list registers have room again: look at the queue before going back.
                if let Some(seat) = seat {
                    self.maintain(seat);
                }
            } else if Some(intid) == own.uart {
                self.take_console_input();
            } else if intid >= FIRST_SPI {
                if let Some(domain) = self.spi_owner(intid) {
                    let told = domain.vgic.lock().raise(0, intid);
                    self.tell(&domain, told);
                    continue;
                }
                self.log(format_args!("Interrupt {intid} is nobody's: disabled"));
                self.machine.disable(intid);
            } else if intid > LAST_SGI {
                self.log(format_args!("Private interrupt {intid} on CPU {cpu} is nobody's: disabled"));
                self.machine.disable(intid);
            }
            self.machine.deactivate(interrupt);
        }
        self.announce_log();
    }

    fn maintain(&self, seat: &Seat<M>) {
        let index = usize::from(seat.vcpu.key.vcpu);
        let mut effects = Effects::new(self, &seat.domain, Some(index));
        seat.domain.vgic.lock().sync(index, &self.machine, &mut effects);
        effects.tell();
        seat.vcpu.attention.store(true, core::sync::atomic::Ordering::SeqCst);
    }
}
