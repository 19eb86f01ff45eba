//! The virtual UART's surroundings: its interrupt, its bytes to and from the hypervisor's console, and the ring page by
//! which a back end in another domain serves it.

use spin::Mutex;
use vambrace_abi::domid::DomId;
use vambrace_abi::errno::Errno;

use crate::console_page::ConsolePage;
use crate::domain::{Domain, MmioDevice};
use crate::event::{Port, Receiver, pair};
use crate::hypervisor::Hypervisor;
use crate::machine::Machine;
use crate::vpl011::{Effect, Vpl011};

impl<M: Machine> Hypervisor<M> {
    /// Gives a domain a virtual UART that domain `remote` serves through the ring page at guest frame `gfn`
    /// (XEN_DOMCTL_vuart_op). Returns the port of the domain's to which `remote` connects. EINVAL for a domain that has
    /// no place or no interrupt for it, or has one already, and for a frame that is not RAM of its own; ENOSPC, ENOMEM.
    pub fn open_uart(&self, domain: &Domain<M>, gfn: u64, remote: DomId) -> Result<Port, Errno> {
        let has_place = domain.mmio.iter().any(|region| region.device == MmioDevice::Uart);
        if !has_place || domain.interrupts.uart.is_none() || domain.uart.get().is_some() {
            return Err(Errno::EINVAL);
        }
        let page = ConsolePage::new(self.page(domain, gfn)?.keep());
        let give_back = || self.frames.lock().put(page.page());
        let allocated = domain.events.lock().alloc_internal(&self.machine, remote);
        let port = allocated.inspect_err(|_| give_back())?;
        let uart = domain.uart.call_once(|| Mutex::new(Vpl011::on_page(page, port)));
        if uart.lock().page() != Some((page, port)) {
            // Another call was faster.
            give_back();
            self.close_device_port(domain, port);
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
