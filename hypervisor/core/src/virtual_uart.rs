//! The virtual UART's surroundings: its interrupt, its bytes to and from the hypervisor's console, and the ring page by
//! which a back end in another domain serves it.

use spin::Mutex;
use vambrace_abi::domid::DomId;
use vambrace_abi::errno::Errno;

use crate::console_page::ConsolePage;
use crate::domain::{Domain, MmioDevice};
use crate::event::{Port, Receiver, pair};
use crate::hypervisor::Hypervisor;
use crate::life::Stage;
use crate::machine::Machine;
use crate::vpl011::{Effect, Vpl011};

impl<M: Machine> Hypervisor<M> {
    /// Gives a domain a virtual UART that domain `remote` serves through the ring page at guest frame `gfn`
    /// (XEN_DOMCTL_vuart_op). Returns the port of the domain's to which `remote` connects. EINVAL for a domain that has
    /// no place or no interrupt for it, has one already, or is ending, and for a frame that is not RAM of its own;
    /// ENOSPC, ENOMEM.
    pub fn open_uart(&self, domain: &Domain<M>, gfn: u64, remote: DomId) -> Result<Port, Errno> {
        let has_place = domain.mmio.iter().any(|region| region.device == MmioDevice::Uart);
        if !has_place || domain.interrupts.uart.is_none() || domain.uart.get().is_some() {
            return Err(Errno::EINVAL);
        }
        let page = ConsolePage::new(self.page(domain, gfn)?.keep());
        let give_back = || {
            self.frames.lock().put(page.page());
            // It may have been the last that there was of a domain that ended meanwhile.
            self.bury();
        };
        let allocated = domain.events.lock().alloc_internal(&self.machine, remote);
        let port = allocated.inspect_err(|_| give_back())?;
        let mut opened = false;
        {
            // Its end takes page and port from the UART that it finds, and waits for this lock before.
            let life = domain.life.lock();
            if life.stage == Stage::Alive {
                domain.uart.call_once(|| {
                    opened = true;
                    Mutex::new(Vpl011::on_page(page, port))
                });
            }
        }
        if !opened {
            // It is ending, or another call was faster.
            self.close_device_port(domain, port);
            give_back();
            return Err(Errno::EINVAL);
        }
        Ok(port)
    }

    /// Takes the back end's page and port from a domain's virtual UART, when the domain ends. Its vCPUs must not run.
    pub fn close_uart(&self, domain: &Domain<M>) {
        let Some(uart) = domain.uart.get() else { return };
        let taken = uart.lock().take_page();
        if let Some((page, port)) = taken {
            self.frames.lock().put(page.page());
            self.close_device_port(domain, port);
        }
    }

    fn close_device_port(&self, domain: &Domain<M>, port: Port) {
        domain.events.lock().disown(port);
        // It is open, as nobody else could close it.
        let _ = pair::close(&self.machine, domain, port, |id| self.domain(id));
    }

    /// Tells the receiver of an event that [`pair::send`] delivered.
    #[inline]
    pub fn tell_receiver(&self, domain: &Domain<M>, receiver: Receiver) {
        match receiver {
            Receiver::Vcpu(vcpu) => self.raise_event(domain, vcpu as usize),
            Receiver::Device(port) => self.look_at_uart(domain, port),
        }
    }

    /// The back end behind the device's port has done something.
    fn look_at_uart(&self, domain: &Domain<M>, port: Port) {
        let Some(uart) = domain.uart.get() else { return };
        let mut uart = uart.lock();
        if uart.page().is_some_and(|(_, own)| own == port) {
            uart.look(&self.machine);
            drop(uart);
            self.update_uart_line(domain);
        }
    }

    /// A load by the guest from the virtual UART's registers; `None` where the domain has none.
    pub(crate) fn read_uart(&self, domain: &Domain<M>, offset: u64) -> Option<u64> {
        let (value, effect) = domain.uart.get()?.lock().read(&self.machine, offset);
        self.carry_out(domain, effect);
        Some(u64::from(value))
    }

    /// A store by the guest to the virtual UART's registers; `None` where the domain has none.
    pub(crate) fn write_uart(&self, domain: &Domain<M>, offset: u64, value: u64) -> Option<()> {
        let effect = domain.uart.get()?.lock().write(&self.machine, offset, value as u32);
        self.carry_out(domain, effect);
        Some(())
    }

    fn carry_out(&self, domain: &Domain<M>, effect: Effect) {
        if let Some(byte) = effect.send {
            self.guest_output(domain, &[byte]);
        }
        if let Some(port) = effect.notify {
            pair::send_internal(
                &self.machine,
                domain,
                port,
                |id| self.domain(id),
                |other, receiver| self.tell_receiver(other, receiver),
            );
        }
        self.update_uart_line(domain);
    }

    /// Has the virtual UART's interrupt follow its state.
    pub fn update_uart_line(&self, domain: &Domain<M>) {
        if let (Some(uart), Some(intid)) = (domain.uart.get(), domain.interrupts.uart) {
            // Locked until the line is set, or an older level could be set after a newer one.
            let uart = uart.lock();
            self.set_line(domain, 0, intid, uart.line());
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use vambrace_abi::arch_arm::GUEST_RAM0_BASE;
    use vambrace_abi::event_channel::{EVTCHNOP_SEND, EvtchnSend};
    use vambrace_abi::hypercall::HYPERVISOR_EVENT_CHANNEL_OP;
    use vambrace_abi::shared_info::SHARED_INFO_EVTCHN_PENDING;

    use super::*;
    use crate::addr::{Ipa, PAGE_SIZE, Pa};
    use crate::domu::DomuConfig;
    use crate::fake::FakeMachine;
    use crate::grant;
    use crate::life::Progress;
    use crate::machine::Memory;
    use crate::p2m::Kind;
    use crate::testing::World;

    const GFN: u64 = GUEST_RAM0_BASE / PAGE_SIZE;
    /// Offsets in the ring page (`io/console.h`).
    const OUTPUT: u64 = 1024;
    const IN_PROD: u64 = 3076;
    const PENDING: u64 = SHARED_INFO_EVTCHN_PENDING as u64;
    const DR: u64 = 0;
    const FR: u64 = 0x18;
    const IMSC: u64 = 0x38;

    /// A guest with one page of memory, where that lies, and the page's frames free before.
    fn guest(world: &World) -> (Arc<Domain<FakeMachine>>, Pa) {
        let config = DomuConfig {
            id: None,
            handle: [0; 16],
            vcpus: 1,
            spis: 32,
            max_port: 127,
            max_grant_frames: 4,
            max_maptrack_frames: 4,
            grant_version: grant::Version::V2,
            pool: 0,
            direct: false,
        };
        let domain = world.hv.create_domain(&config).unwrap();
        let page = world.hv.frames.lock().allocate_for(domain.id, 0).unwrap();
        world.machine().zero(page, PAGE_SIZE).unwrap();
        domain.p2m.lock().limit_tables(64);
        let mut frames = world.hv.frames.lock();
        let at = Ipa::from_frame(GFN);
        domain.p2m.lock().map(world.machine(), &mut frames, at, page, PAGE_SIZE, Kind::Ram).unwrap();
        drop(frames);
        (domain, page)
    }

    #[test]
    fn a_guest_speaks_with_a_back_end_in_dom0() {
        let world = World::small();
        let before = world.hv.frames.lock().free_frames();
        let (domain, page) = guest(&world);
        assert_eq!(world.hv.open_uart(&domain, GFN + 1, 0), Err(Errno::EINVAL));
        let port = world.hv.open_uart(&domain, GFN, 0).unwrap();
        assert_eq!(world.hv.open_uart(&domain, GFN, 0), Err(Errno::EINVAL), "it has one");
        assert_eq!(world.hv.frames.lock().references(page), 2);
        let (near, _) = pair::bind_interdomain(world.machine(), &*world.domain, &*domain, port).unwrap();
        let pending = || world.domain.events.lock().is_pending(world.machine(), near).unwrap();
        // What the binding left pending is taken.
        let clear = |port: u32| {
            let word = world.domain.shared_info.offset(PENDING + u64::from(port / 32) * 4);
            crate::word::clear(world.machine(), word, 1 << (port % 32))
        };
        assert_eq!((clear(near), pending()), (Some(true), false));
        assert_eq!(world.hv.write_uart(&domain, IMSC, 1 << 4), Some(()));
        for byte in *b"hi" {
            assert_eq!(world.hv.write_uart(&domain, DR, byte.into()), Some(()));
        }
        assert!(pending());
        let mut out = [0; 2];
        world.machine().read(page.offset(OUTPUT), &mut out).unwrap();
        assert_eq!(&out, b"hi");
        assert_eq!(world.console(), "", "nothing on the hypervisor's console");

        world.machine().write(page, b"k").unwrap();
        world.machine().set_word(page.offset(IN_PROD), 1);
        assert_eq!(world.hv.read_uart(&domain, FR).map(|flags| flags & 1 << 4), Some(0), "not empty");
        let send = EvtchnSend { port: near };
        assert_eq!(world.with(HYPERVISOR_EVENT_CHANNEL_OP, EVTCHNOP_SEND, send).0, 0);
        assert!(domain.uart.get().unwrap().lock().line());
        assert_eq!(world.hv.read_uart(&domain, DR), Some(b'k'.into()));
        assert!(!domain.uart.get().unwrap().lock().line());

        while let Ok(Progress::Again) = world.hv.destroy(&domain) {}
        assert!(world.hv.domain(domain.id).is_none());
        assert_eq!(world.hv.frames.lock().free_frames(), before);
        assert_eq!(world.with(HYPERVISOR_EVENT_CHANNEL_OP, EVTCHNOP_SEND, send).0, 0, "nobody is there");
    }
    /// Between two steps of its end, when its UART has been closed.
    #[test]
    fn a_domain_that_ends_gets_no_uart() {
        let world = World::small();
        let before = world.hv.frames.lock().free_frames();
        let (domain, page) = guest(&world);
        domain.life.lock().stage = Stage::Dying;
        assert_eq!(world.hv.open_uart(&domain, GFN, 0), Err(Errno::EINVAL));
        assert_eq!(world.hv.frames.lock().references(page), 1);
        assert!(domain.uart.get().is_none());
        while let Ok(Progress::Again) = world.hv.destroy(&domain) {}
        assert!(world.hv.domain(domain.id).is_none());
        assert_eq!(world.hv.frames.lock().free_frames(), before);
    }
}
