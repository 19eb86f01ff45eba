//! Event channels: the asynchronous notifications between domains, and from the hypervisor (`event_channel.h`).
//!
//! ```text
//!   send(port) in domain A                                 vCPU of domain B
//!        |                                                      ^ virtual interrupt, raised by the caller
//!        v                                                      | of `receive`, where it returns a vCPU
//!   A's EventChannels: port -> (B, port') --- Message ---> B's EventChannels: port' -> vCPU
//!                                                               |
//!                                                               v  two_level.rs or fifo.rs
//!                                                       words in B's memory
//! ```
//!
//! Each domain has an [`EventChannels`], which its owner keeps behind a lock. What is pending, masked or queued stands in
//! words that the guest shares and may scribble over; the hypervisor's own books say only what a port is and where its
//! events go.
//!
//! Two ends of a channel lie in two domains. **Lock order:** the lower domain number first ([`pair::lock_both`]); nothing
//! else is locked while one is held. A send never needs both: it reads the one end, lets go, and hands a [`Message`] to
//! the other, which is dropped there if the ends have parted meanwhile. Connecting and closing change both ends and take
//! both locks; the functions in [`pair`] do that.

mod channel;
mod fifo;
pub mod pair;
mod poll;
mod two_level;
mod vcpu;

#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use vambrace_abi::domid::DomId;
use vambrace_abi::errno::Errno;
use vambrace_abi::event_channel::*;
use vambrace_abi::virq::{NR_VIRQS, VIRQ_DEBUG, VIRQ_TIMER, VIRQ_XENOPROF, VIRQ_XENPMU};

use self::channel::Channel;
pub use self::channel::{Peer, State};
use self::fifo::EventArray;
use self::poll::Pollers;
use self::vcpu::VcpuEvents;
use crate::addr::Pa;
use crate::domu::KEPT_HEAP;
use crate::machine::Memory;

/// A domain's number for one end of a channel.
pub type Port = EvtchnPort;
/// A vCPU of a domain, by its index.
pub type VcpuId = u32;

/// Ports by which the table grows. A port beyond the table is unknown (EINVAL), one within it may be closed.
const PORTS_AT_ONCE: u32 = 64;

/// An event on its way to a domain other than the sender's: for [`EventChannels::receive`] there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the event is lost unless the receiver gets it"]
pub struct Message {
    to: Peer,
    from: Peer,
}

impl Message {
    /// The receiver.
    pub fn domain(&self) -> DomId {
        self.to.domain
    }
}

/// What became of an event that was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the receiver has not been notified yet"]
pub enum Sent {
    /// It was for the sender's own domain, or nobody has connected yet. The vCPU, if any, needs its event-channel
    /// interrupt.
    Here(Option<VcpuId>),
    /// It is for another domain.
    There(Message),
}

/// Who is to be told of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the receiver has not been notified yet"]
pub enum Receiver {
    /// A vCPU, which needs its event-channel interrupt.
    Vcpu(VcpuId),
    /// The device that the hypervisor emulates behind this port ([`EventChannels::alloc_internal`]).
    Device(Port),
}

/// How far a close came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the port may still be open"]
pub enum Closed {
    /// The port is closed.
    Done,
    /// Nothing was done: the other end is in this domain, which must be locked too.
    Needs(DomId),
}

/// The domain at the other end, as far as the caller of [`EventChannels::close`] holds it.
#[derive(Debug)]
pub enum OtherEnd<'a> {
    /// Not known yet.
    Unknown,
    /// Locked.
    Locked(&'a mut EventChannels),
    /// This domain does not exist any more.
    Gone(DomId),
}

/// The event channels of a domain.
#[derive(Debug)]
pub struct EventChannels {
    domain: DomId,
    /// Physical address of the domain's shared page.
    shared_info: Pa,
    channels: Vec<Channel>,
    vcpus: Vec<VcpuEvents>,
    /// The domain may have ports below this.
    limit: u32,
    /// No port below this is free.
    first_free: Port,
    /// The event words, once the domain uses FIFO.
    fifo: Option<EventArray>,
    /// vCPUs in SCHEDOP_poll.
    pollers: Pollers,
}

/// Whether a virtual interrupt is bound for each vCPU apart (`xen.h`, the "V." ones).
pub(crate) fn is_per_vcpu(virq: u32) -> bool {
    matches!(virq, VIRQ_TIMER | VIRQ_DEBUG | VIRQ_XENOPROF | VIRQ_XENPMU)
}

impl EventChannels {
    /// The table of domain `domain` with `vcpus` vCPUs, whose shared page lies at physical address `shared_info`. Ports
    /// go up to `max_port` (`max_evtchn_port` of `XEN_DOMCTL_createdomain`) or what the delivery ABI has room for.
    pub fn new(domain: DomId, shared_info: Pa, vcpus: usize, max_port: Port) -> Self {
        let reserved = Channel { state: State::Reserved, ..Channel::default() };
        Self {
            domain,
            shared_info,
            channels: alloc::vec![reserved],
            vcpus: (0..vcpus).map(|index| VcpuEvents::new(index, shared_info)).collect(),
            limit: max_port.saturating_add(1),
            first_free: 1,
            fifo: None,
            pollers: Pollers::default(),
        }
    }

    /// The domain whose channels these are.
    pub fn domain(&self) -> DomId {
        self.domain
    }

    /// Whether the domain uses the FIFO ABI.
    pub fn is_fifo(&self) -> bool {
        self.fifo.is_some()
    }

    fn limit(&self) -> u32 {
        self.limit.min(if self.is_fifo() { EVTCHN_FIFO_NR_CHANNELS } else { EVTCHN_2L_NR_CHANNELS })
    }

    fn channel(&self, port: Port) -> Result<&Channel, Errno> {
        self.channels.get(port as usize).ok_or(Errno::EINVAL)
    }

    fn channel_mut(&mut self, port: Port) -> Result<&mut Channel, Errno> {
        self.channels.get_mut(port as usize).ok_or(Errno::EINVAL)
    }

    fn vcpu_exists(&self, vcpu: VcpuId) -> Result<(), Errno> {
        if (vcpu as usize) < self.vcpus.len() { Ok(()) } else { Err(Errno::ENOENT) }
    }

    fn virq_slot(&mut self, vcpu: VcpuId, virq: u32) -> Option<&mut Port> {
        self.vcpus.get_mut(vcpu as usize)?.virqs.get_mut(virq as usize)
    }

    /// Grows the table to hold `port`, which is below the limit. ENOMEM, also where the hypervisor's heap would have too
    /// little left for what cannot wait: how many ports it opens is up to the guest.
    fn make_room<M: Memory>(&mut self, memory: &M, port: Port) -> Result<(), Errno> {
        let len = self.channels.len();
        if port as usize >= len {
            let to = (port + 1).next_multiple_of(PORTS_AT_ONCE).min(self.limit()) as usize;
            // Twice, for the vector grows by doubling, and the old one is there until the new one is.
            let most = (2 * to * size_of::<Channel>()) as u64;
            if memory.heap_room() < KEPT_HEAP + most {
                return Err(Errno::ENOMEM);
            }
            self.channels.try_reserve(to - len).map_err(|_| Errno::ENOMEM)?;
            self.channels.resize(to, Channel::default());
        }
        Ok(())
    }

    /// The lowest free port that the guest has in no queue any more; ENOSPC, or ENOMEM for the table.
    fn free_port<M: Memory>(&mut self, memory: &M) -> Result<Port, Errno> {
        let mut all_used = true;
        for port in self.first_free..self.limit() {
            self.make_room(memory, port)?;
            if self.channel(port)?.state != State::Free {
                continue;
            }
            if self.fifo.as_ref().is_some_and(|fifo| fifo.is_linked(memory, port)) {
                all_used = false;
                continue;
            }
            if all_used {
                self.first_free = port + 1;
            }
            return Ok(port);
        }
        Err(Errno::ENOSPC)
    }

    /// Takes a free port for `state`, notifying `vcpu`.
    fn open<M: Memory>(&mut self, memory: &M, state: State, vcpu: VcpuId) -> Result<Port, Errno> {
        let port = self.free_port(memory)?;
        let channel = self.channel_mut(port)?;
        channel.state = state;
        channel.vcpu = vcpu;
        channel.priority = EVTCHN_FIFO_PRIORITY_DEFAULT as u8;
        Ok(port)
    }

    /// Gives a port back, with whatever was pending.
    fn release<M: Memory>(&mut self, memory: &M, port: Port) {
        if let Ok(channel) = self.channel_mut(port) {
            channel.state = State::Free;
            channel.vcpu = 0;
            channel.early = false;
            channel.internal = false;
            self.first_free = self.first_free.min(port);
            match &self.fifo {
                Some(fifo) => fifo.clear_pending(memory, port),
                None => two_level::clear_pending(memory, self.shared_info, port),
            }
        }
    }

    /// Makes a port pending and says which vCPU needs its event-channel interrupt for it.
    #[inline]
    fn raise<M: Memory>(&mut self, memory: &M, port: Port) -> Option<VcpuId> {
        let channel = self.channels.get_mut(port as usize)?;
        let notify = match &self.fifo {
            Some(fifo) => fifo.raise(memory, &mut self.vcpus, channel, port),
            None => {
                let vcpu = self.vcpus.get(channel.vcpu as usize)?;
                two_level::raise(memory, self.shared_info, vcpu, port).then_some(channel.vcpu)
            }
        };
        if self.pollers.is_empty() { notify } else { notify.or(self.pollers.end_for(port)) }
    }

    /// `EVTCHNOP_alloc_unbound`: a port to which `remote` may connect. ENOSPC, ENOMEM.
    pub fn alloc_unbound<M: Memory>(&mut self, memory: &M, remote: DomId) -> Result<Port, Errno> {
        self.open(memory, State::Unbound { remote }, 0)
    }

    /// Connects port `port` to the end `far` of another domain's, whatever the ports below: a static event channel.
    /// EBUSY if it is in use; ENOSPC, ENOMEM.
    pub fn connect_at<M: Memory>(&mut self, memory: &M, port: Port, far: Peer) -> Result<(), Errno> {
        if port == 0 || port >= self.limit() {
            return Err(Errno::ENOSPC);
        }
        self.make_room(memory, port)?;
        let channel = self.channel_mut(port)?;
        if channel.state != State::Free {
            return Err(Errno::EBUSY);
        }
        channel.state = State::Interdomain(far);
        Ok(())
    }

    /// A port to which `remote` may connect, and behind which there is a device that the hypervisor emulates: the guest
    /// can neither send by it nor close it, and never sees it pending. ENOSPC, ENOMEM.
    pub fn alloc_internal<M: Memory>(&mut self, memory: &M, remote: DomId) -> Result<Port, Errno> {
        let port = self.alloc_unbound(memory, remote)?;
        self.channel_mut(port)?.internal = true;
        Ok(port)
    }

    /// Makes an internal port an ordinary one, which can be closed: the device behind it is gone.
    pub fn disown(&mut self, port: Port) {
        if let Ok(channel) = self.channel_mut(port) {
            channel.internal = false;
        }
    }

    /// `EVTCHNOP_bind_interdomain`: connects a new port to `remote_port` of `remote`, or of this domain itself for
    /// `None`. The new port is made pending, in case the other side has sent already. Returns the port and the vCPU that
    /// needs its event-channel interrupt. ENOSPC, ENOMEM; EINVAL where the remote port does not wait for this domain.
    pub fn bind_interdomain<M: Memory>(
        &mut self,
        memory: &M,
        remote: Option<&mut EventChannels>,
        remote_port: Port,
    ) -> Result<(Port, Option<VcpuId>), Errno> {
        let waiting = State::Unbound { remote: self.domain };
        let remote_state = remote.as_deref().unwrap_or(self).channel(remote_port).map(|c| c.state);
        let remote_domain = remote.as_deref().map_or(self.domain, |r| r.domain);
        let far = Peer { domain: remote_domain, port: remote_port };
        let port = self.open(memory, State::Interdomain(far), 0)?;
        if remote_state != Ok(waiting) {
            self.release(memory, port);
            return Err(Errno::EINVAL);
        }
        let near = Peer { domain: self.domain, port };
        remote.unwrap_or(self).channel_mut(remote_port)?.state = State::Interdomain(near);
        Ok((port, self.raise(memory, port)))
    }

    /// `EVTCHNOP_bind_virq`: a port for a virtual interrupt. EINVAL for an unknown one, or a global one on another vCPU
    /// than 0; ENOENT without such a vCPU; EEXIST when it is bound already; ENOSPC, ENOMEM.
    pub fn bind_virq<M: Memory>(&mut self, memory: &M, virq: u32, vcpu: VcpuId) -> Result<Port, Errno> {
        if virq >= NR_VIRQS || (!is_per_vcpu(virq) && vcpu != 0) {
            return Err(Errno::EINVAL);
        }
        if *self.virq_slot(vcpu, virq).ok_or(Errno::ENOENT)? != 0 {
            return Err(Errno::EEXIST);
        }
        let port = self.open(memory, State::Virq { virq }, vcpu)?;
        *self.virq_slot(vcpu, virq).ok_or(Errno::ENOENT)? = port;
        Ok(port)
    }

    /// `EVTCHNOP_bind_ipi`: a port that the domain raises for its vCPU `vcpu`. ENOENT, ENOSPC, ENOMEM.
    pub fn bind_ipi<M: Memory>(&mut self, memory: &M, vcpu: VcpuId) -> Result<Port, Errno> {
        self.vcpu_exists(vcpu)?;
        self.open(memory, State::Ipi, vcpu)
    }

    /// `EVTCHNOP_bind_pirq`: on ARM a guest takes physical interrupts through its virtual GIC and has no PIRQ to bind,
    /// so every number is out of range: EINVAL.
    pub fn bind_pirq(&self, _pirq: u32) -> Result<Port, Errno> {
        Err(Errno::EINVAL)
    }

    /// `EVTCHNOP_close`: closes a port; the other end, if it is connected, waits for a connection again. EINVAL for a
    /// port that is not open. [`pair::close`] finds and locks `other`.
    pub fn close<M: Memory>(&mut self, memory: &M, port: Port, other: OtherEnd<'_>) -> Result<Closed, Errno> {
        let near = Peer { domain: self.domain, port };
        let channel = self.channel(port)?;
        match channel.state {
            State::Free | State::Reserved => return Err(Errno::EINVAL),
            _ if channel.internal => return Err(Errno::EINVAL),
            State::Unbound { .. } | State::Ipi => {}
            State::Virq { virq } => {
                for vcpu in &mut self.vcpus {
                    if let Some(bound) = vcpu.virqs.get_mut(virq as usize).filter(|bound| **bound == port) {
                        *bound = 0;
                    }
                }
            }
            State::Interdomain(far) if far.domain == self.domain => self.part(far.port, near),
            State::Interdomain(far) => match other {
                OtherEnd::Locked(other) if other.domain == far.domain => other.part(far.port, near),
                OtherEnd::Gone(domain) if domain == far.domain => {}
                _ => return Ok(Closed::Needs(far.domain)),
            },
        }
        self.release(memory, port);
        Ok(Closed::Done)
    }

    /// Has `port` wait again for the domain to which it was connected, at `far`.
    fn part(&mut self, port: Port, far: Peer) {
        if let Ok(channel) = self.channel_mut(port)
            && channel.state == State::Interdomain(far)
        {
            channel.state = State::Unbound { remote: far.domain };
        }
    }

    /// `EVTCHNOP_send`: raises the other end of `port`. Nothing happens while nobody is connected. EINVAL for a port that
    /// is not for sending.
    #[inline]
    pub fn send<M: Memory>(&mut self, memory: &M, port: Port) -> Result<Sent, Errno> {
        let channel = self.channel(port)?;
        match channel.state {
            _ if channel.internal => Err(Errno::EINVAL),
            State::Interdomain(to) if to.domain != self.domain => {
                Ok(Sent::There(Message { to, from: Peer { domain: self.domain, port } }))
            }
            State::Interdomain(to) => Ok(Sent::Here(self.raise(memory, to.port))),
            State::Ipi => Ok(Sent::Here(self.raise(memory, port))),
            State::Unbound { .. } => Ok(Sent::Here(None)),
            State::Free | State::Reserved | State::Virq { .. } => Err(Errno::EINVAL),
        }
    }

    /// An event from the device behind an internal port, for the domain that is connected to it, if one is.
    pub fn send_internal(&self, port: Port) -> Option<Message> {
        let channel = self.channel(port).ok().filter(|channel| channel.internal)?;
        match channel.state {
            State::Interdomain(to) if to.domain != self.domain => {
                Some(Message { to, from: Peer { domain: self.domain, port } })
            }
            _ => None,
        }
    }

    /// Takes an event from another domain; returns who is to be told of it.
    #[inline]
    pub fn receive<M: Memory>(&mut self, memory: &M, message: Message) -> Option<Receiver> {
        let connected = State::Interdomain(message.from);
        let port = message.to.port;
        let channel = self.channel(port).ok()?;
        if channel.state != connected || message.to.domain != self.domain {
            None
        } else if channel.internal {
            Some(Receiver::Device(port))
        } else {
            self.raise(memory, port).map(Receiver::Vcpu)
        }
    }

    /// Raises virtual interrupt `virq` of a vCPU (of vCPU 0 if it is a global one), if the guest has bound it. Returns the
    /// vCPU that needs its event-channel interrupt.
    pub fn send_virq<M: Memory>(&mut self, memory: &M, vcpu: VcpuId, virq: u32) -> Option<VcpuId> {
        let vcpu = if is_per_vcpu(virq) { vcpu } else { 0 };
        match *self.vcpus.get(vcpu as usize)?.virqs.get(virq as usize)? {
            0 => None,
            port => self.raise(memory, port),
        }
    }

    /// `EVTCHNOP_status`: fills in the answer for `query.port`. EINVAL for an unknown port.
    pub fn status(&self, query: &mut EvtchnStatus) -> Result<(), Errno> {
        let channel = self.channel(query.port)?;
        (query.status, query.info, query.remote_port) = match channel.state {
            State::Free | State::Reserved => (EVTCHNSTAT_CLOSED, 0, 0),
            State::Unbound { remote } => (EVTCHNSTAT_UNBOUND, remote.into(), 0),
            State::Interdomain(far) => (EVTCHNSTAT_INTERDOMAIN, far.domain.into(), far.port),
            State::Virq { virq } => (EVTCHNSTAT_VIRQ, virq, 0),
            State::Ipi => (EVTCHNSTAT_IPI, 0, 0),
        };
        query.vcpu = channel.vcpu;
        Ok(())
    }

    /// What a port is used for; EINVAL for an unknown one.
    pub fn state(&self, port: Port) -> Result<State, Errno> {
        self.channel(port).map(|channel| channel.state)
    }

    /// Ports of the table, open or not: all open ones are below this.
    pub fn ports(&self) -> Port {
        self.channels.len() as Port
    }

    /// The first port, from `from` on, that the guest can close.
    pub fn next_open(&self, from: Port) -> Option<Port> {
        let open = |c: &Channel| !matches!(c.state, State::Free | State::Reserved) && !c.internal;
        let rest = self.channels.get(from as usize..)?;
        rest.iter().position(open).map(|at| from + at as Port)
    }

    /// `EVTCHNOP_bind_vcpu`: has a port notify another vCPU from its next event on. ENOENT without such a vCPU; EINVAL for
    /// a port that is closed or belongs to its vCPU.
    pub fn bind_vcpu(&mut self, port: Port, vcpu: VcpuId) -> Result<(), Errno> {
        self.vcpu_exists(vcpu)?;
        let channel = self.channel_mut(port)?;
        match channel.state {
            _ if channel.internal => return Err(Errno::EINVAL),
            State::Unbound { .. } | State::Interdomain(_) => {}
            State::Virq { virq } if !is_per_vcpu(virq) => {}
            _ => return Err(Errno::EINVAL),
        }
        channel.vcpu = vcpu;
        Ok(())
    }

    /// `EVTCHNOP_unmask`: unmasks a port, and delivers what is pending. Returns the vCPU that needs its event-channel
    /// interrupt. EINVAL for an unknown port.
    pub fn unmask<M: Memory>(&mut self, memory: &M, port: Port) -> Result<Option<VcpuId>, Errno> {
        let channel = self.channels.get_mut(port as usize).ok_or(Errno::EINVAL)?;
        if !channel.is_usable() {
            return Ok(None);
        }
        Ok(match &self.fifo {
            Some(fifo) => fifo.unmask(memory, &mut self.vcpus, channel, port),
            None => {
                let vcpu = self.vcpus.get(channel.vcpu as usize).ok_or(Errno::EINVAL)?;
                two_level::unmask(memory, self.shared_info, vcpu, port).then_some(channel.vcpu)
            }
        })
    }

    /// Whether a port is pending, as SCHEDOP_poll asks; EINVAL for an unknown one.
    pub fn is_pending<M: Memory>(&self, memory: &M, port: Port) -> Result<bool, Errno> {
        let channel = self.channel(port)?;
        Ok(match &self.fifo {
            _ if !channel.is_usable() => false,
            Some(fifo) => channel.early || fifo.is_pending(memory, port),
            None => two_level::is_pending(memory, self.shared_info, port),
        })
    }

    /// `EVTCHNOP_set_priority`: the FIFO priority of a port from its next event on, 0 (most urgent) to 15. EINVAL for an
    /// unknown port or priority, ENOSYS under the 2-level ABI, EACCES for a closed port.
    pub fn set_priority(&mut self, port: Port, priority: u32) -> Result<(), Errno> {
        let fifo = self.is_fifo();
        let channel = self.channel_mut(port)?;
        if !fifo {
            return Err(Errno::ENOSYS);
        }
        if !channel.is_usable() {
            return Err(Errno::EACCES);
        }
        if priority > EVTCHN_FIFO_PRIORITY_MIN {
            return Err(Errno::EINVAL);
        }
        channel.priority = priority as u8;
        Ok(())
    }

    /// `EVTCHNOP_init_control`: puts a vCPU's FIFO control block `offset` bytes into the guest's page at physical address
    /// `page` (`None` if the frame number was bad), and switches the domain to FIFO at the first call. Returns the number
    /// of link bits. ENOENT without such a vCPU; EINVAL for a bad place or a second call.
    ///
    /// The page, as those of the event array, must stay the domain's until [`EventChannels::finish_reset`].
    pub fn init_control<M: Memory>(
        &mut self,
        memory: &M,
        vcpu: VcpuId,
        page: Option<Pa>,
        offset: u32,
    ) -> Result<u8, Errno> {
        self.vcpu_exists(vcpu)?;
        fifo::check_control_offset(offset)?;
        let page = page.ok_or(Errno::EINVAL)?.page();
        let target = self.vcpus.get_mut(vcpu as usize).ok_or(Errno::ENOENT)?;
        if target.control.is_some() {
            return Err(Errno::EINVAL);
        }
        target.control = Some(page.offset(offset.into()));
        if self.fifo.is_none() {
            // Events that are pending in the bitmap wait for their event words.
            for (port, channel) in (0..).zip(&mut self.channels) {
                channel.early = channel.is_usable() && two_level::is_pending(memory, self.shared_info, port);
                channel.priority = EVTCHN_FIFO_PRIORITY_DEFAULT as u8;
            }
            self.fifo = Some(EventArray::default());
        }
        Ok(EVTCHN_FIFO_LINK_BITS as u8)
    }

    /// `EVTCHNOP_expand_array`: adds the guest's page at physical address `page` (`None` if the frame number was bad) to
    /// the event array, and delivers the events that waited for it. Returns the vCPUs that need their event-channel
    /// interrupt. EOPNOTSUPP before [`EventChannels::init_control`], EINVAL for a bad page, ENOSPC, ENOMEM.
    pub fn expand_array<M: Memory>(&mut self, memory: &M, page: Option<Pa>) -> Result<Vec<VcpuId>, Errno> {
        let fifo = self.fifo.as_mut().ok_or(Errno::EOPNOTSUPP)?;
        let ports = fifo.add(page.ok_or(Errno::EINVAL)?)?;
        let mut notify = Vec::new();
        for port in ports.start..ports.end.min(self.ports()) {
            let channel = self.channel_mut(port)?;
            if core::mem::take(&mut channel.early)
                && let Some(vcpu) = self.raise(memory, port)
                && !notify.contains(&vcpu)
            {
                notify.push(vcpu);
            }
        }
        Ok(notify)
    }

    /// The end of `EVTCHNOP_reset`, when all ports are closed ([`pair::reset`] does both): forgets the pages of the FIFO
    /// ABI and goes back to the 2-level one. Returns those pages, each as often as it was given; `None` where the guest has
    /// opened another port meanwhile.
    pub fn finish_reset(&mut self) -> Option<Vec<Pa>> {
        if self.next_open(1).is_some() {
            return None;
        }
        let Some(fifo) = self.fifo.take() else { return Some(Vec::new()) };
        let mut pages = fifo.into_pages();
        for vcpu in &mut self.vcpus {
            pages.extend(vcpu.control.take().map(Pa::page));
            vcpu.tails = Default::default();
        }
        Some(pages)
    }

    /// The end of the domain, after a reset: no port is ever opened again. Returns the pages that hold a `vcpu_info`.
    pub fn end(&mut self) -> Vec<Pa> {
        self.limit = 0;
        self.vcpus.iter_mut().filter_map(VcpuEvents::take_registered).collect()
    }

    /// `VCPUOP_register_vcpu_info`: moves a vCPU's `vcpu_info`, with its contents, to `offset` bytes into the guest's page
    /// at physical address `page`, and has the guest look at all events once. Whether the vCPU needs its event-channel
    /// interrupt now. ENOENT without such a vCPU, ENXIO for a place that leaves the page or is not aligned to 8, EINVAL
    /// when it was moved before.
    pub fn register_vcpu_info<M: Memory>(
        &mut self,
        memory: &M,
        vcpu: VcpuId,
        page: Pa,
        offset: u32,
    ) -> Result<bool, Errno> {
        let target = self.vcpus.get_mut(vcpu as usize).ok_or(Errno::ENOENT)?;
        target.register(memory, page, offset)?;
        Ok(true)
    }
}
