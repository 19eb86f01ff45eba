//! The vCPUs of a domain that sleep in SCHEDOP_poll until one of some ports is pending, masked or not.

use alloc::vec::Vec;

use vambrace_abi::errno::Errno;

use super::{EventChannels, Port, VcpuId};
use crate::machine::Memory;

#[derive(Debug)]
struct Poller {
    vcpu: VcpuId,
    ports: Vec<Port>,
}

/// Who sleeps, and who is to be woken.
#[derive(Debug, Default)]
pub(super) struct Pollers {
    asleep: Vec<Poller>,
    over: Vec<VcpuId>,
}

impl Pollers {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.asleep.is_empty()
    }

    /// Ends the polls of `port`; one of the vCPUs, if there are any. It is told as of an event of its own, so that
    /// whoever sent the event comes by where pollers are woken.
    #[cold]
    pub(super) fn end_for(&mut self, port: Port) -> Option<VcpuId> {
        for poller in self.asleep.extract_if(.., |poller| poller.ports.contains(&port)) {
            self.over.push(poller.vcpu);
        }
        self.over.last().copied()
    }

    fn forget(&mut self, vcpu: VcpuId) {
        self.asleep.retain(|poller| poller.vcpu != vcpu);
        self.over.retain(|over| *over != vcpu);
    }
}

impl EventChannels {
    /// Has a vCPU wait for one of `ports`, until [`EventChannels::end_poll`]; unless one is pending already, which is
    /// answered. EINVAL for an unknown port, ENOMEM.
    pub fn begin_poll<M: Memory>(&mut self, memory: &M, vcpu: VcpuId, ports: &[Port]) -> Result<bool, Errno> {
        for port in ports {
            if self.is_pending(memory, *port)? {
                return Ok(true);
            }
        }
        self.pollers.forget(vcpu);
        self.pollers.over.try_reserve(self.vcpus.len()).map_err(|_| Errno::ENOMEM)?;
        self.pollers.asleep.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.pollers.asleep.push(Poller { vcpu, ports: ports.into() });
        Ok(false)
    }

    /// A vCPU waits no more.
    pub fn end_poll(&mut self, vcpu: VcpuId) {
        self.pollers.forget(vcpu);
    }

    /// The vCPUs whose poll has found a port pending since the last call.
    #[must_use = "these vCPUs are to be woken"]
    pub fn take_polled(&mut self) -> Vec<VcpuId> {
        core::mem::take(&mut self.pollers.over)
    }
}
