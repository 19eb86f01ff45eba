//! One end of an event channel, as the hypervisor sees it.

use vambrace_abi::domid::DomId;
use vambrace_abi::event_channel::EVTCHN_FIFO_PRIORITY_DEFAULT;

use super::{Port, VcpuId};

/// A port of a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Whose.
    pub domain: DomId,
    /// Which.
    pub port: Port,
}

/// What a port is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// Nothing.
    #[default]
    Free,
    /// Never handed out: port 0, which stands for "none" wherever a port is stored.
    Reserved,
    /// Waits for `remote` to connect.
    Unbound {
        /// The domain that may.
        remote: DomId,
    },
    /// Connected; the other end may be in the same domain.
    Interdomain(Peer),
    /// Raised by the hypervisor.
    Virq {
        /// Which virtual interrupt, one of `VIRQ_*`.
        virq: u32,
    },
    /// Raised by the domain itself.
    Ipi,
}

/// A port and where its events go. What is pending or masked stands in guest memory alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channel {
    pub(super) state: State,
    /// The vCPU that is notified.
    pub(super) vcpu: VcpuId,
    /// FIFO priority, 0 (most urgent) to 15.
    pub(super) priority: u8,
    /// FIFO queue that it was last put into. While its word is linked, that is the queue in which it is.
    pub(super) last_priority: u8,
    pub(super) last_vcpu: VcpuId,
    /// FIFO: raised when the guest had not given the page with its event word yet.
    pub(super) early: bool,
    /// The hypervisor's own end: a device that it emulates speaks through it, and the guest may not use it.
    pub(super) internal: bool,
}

impl Channel {
    /// Whether the port is in use.
    pub(super) fn is_usable(&self) -> bool {
        !matches!(self.state, State::Free | State::Reserved) && !self.internal
    }
}

impl Default for Channel {
    fn default() -> Self {
        Self {
            state: State::Free,
            vcpu: 0,
            priority: EVTCHN_FIFO_PRIORITY_DEFAULT as u8,
            last_priority: EVTCHN_FIFO_PRIORITY_DEFAULT as u8,
            last_vcpu: 0,
            early: false,
            internal: false,
        }
    }
}
