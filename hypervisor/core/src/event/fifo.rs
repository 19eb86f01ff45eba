//! Delivery by the FIFO ABI: a queue for each vCPU and priority, linked through the event words (`event_channel.h`).
//!
//! ```text
//!   control block of a vCPU        event array (one word a port, 1024 a page)
//!   ready: bit p = queue p filled
//!   head[p] -----------------> word[5]: LINKED, link = 9 --> word[9]: LINKED, link = 0
//!                                                                ^
//!   the hypervisor's own memory: tails[p] = 9 -------------------+
//! ```
//!
//! The guest takes from the head: it clears LINKED and reads the link in one atomic step. The hypervisor adds at the tail:
//! it writes the link into the tail's word, in one atomic step, only while that is still LINKED; if it is not, the guest
//! has taken it, the queue is empty, and the head is written instead. The hypervisor follows no link, and trusts no word
//! but for the bits it looks at, so a guest that scribbles mixes up its own events only.

use alloc::vec::Vec;

use vambrace_abi::errno::Errno;
use vambrace_abi::event_channel::*;

use super::channel::Channel;
use super::vcpu::VcpuEvents;
use super::{Port, VcpuId};
use crate::addr::{PAGE_SIZE, Pa};
use crate::machine::Memory;
use crate::word;

const PENDING: u32 = 1 << EVTCHN_FIFO_PENDING;
const MASKED: u32 = 1 << EVTCHN_FIFO_MASKED;
const LINKED: u32 = 1 << EVTCHN_FIFO_LINKED;

const READY_OFFSET: u64 = core::mem::offset_of!(EvtchnFifoControlBlock, ready) as u64;
const HEAD_OFFSET: u64 = core::mem::offset_of!(EvtchnFifoControlBlock, head) as u64;

/// Checks where a guest wants a control block, `offset` bytes into a page; EINVAL as the ABI has it.
pub(super) fn check_control_offset(offset: u32) -> Result<(), Errno> {
    let last = PAGE_SIZE - size_of::<EvtchnFifoControlBlock>() as u64;
    if u64::from(offset) > last || !offset.is_multiple_of(8) { Err(Errno::EINVAL) } else { Ok(()) }
}

/// The pages of event words that the guest has given, by physical address.
#[derive(Debug, Default)]
pub(super) struct EventArray {
    pages: Vec<Pa>,
}

impl EventArray {
    /// The pages, when the array is done with.
    pub(super) fn into_pages(self) -> Vec<Pa> {
        self.pages
    }

    /// Adds a page; returns the ports whose words it holds.
    pub(super) fn add(&mut self, page: Pa) -> Result<core::ops::Range<Port>, Errno> {
        let slot = self.pages.len() as u32;
        if slot >= EVTCHN_FIFO_MAX_ARRAY_PAGES {
            return Err(Errno::ENOSPC);
        }
        self.pages.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.pages.push(page.page());
        let first = slot * EVTCHN_FIFO_WORDS_PER_PAGE;
        Ok(first..first + EVTCHN_FIFO_WORDS_PER_PAGE)
    }

    /// Physical address of a port's event word, once its page is there.
    #[inline]
    fn word(&self, port: Port) -> Option<Pa> {
        let page = *self.pages.get((port / EVTCHN_FIFO_WORDS_PER_PAGE) as usize)?;
        Some(page.offset(u64::from(port % EVTCHN_FIFO_WORDS_PER_PAGE) * 4))
    }

    fn bits<M: Memory>(&self, memory: &M, port: Port) -> u32 {
        self.word(port).and_then(|at| word::read(memory, at)).unwrap_or(0)
    }

    /// Whether `port` is pending.
    pub(super) fn is_pending<M: Memory>(&self, memory: &M, port: Port) -> bool {
        self.bits(memory, port) & PENDING != 0
    }

    /// Whether `port` is still in a queue of the guest's.
    pub(super) fn is_linked<M: Memory>(&self, memory: &M, port: Port) -> bool {
        self.bits(memory, port) & LINKED != 0
    }

    /// Makes `port` not pending. It stays in its queue: the guest takes it out and finds nothing pending.
    pub(super) fn clear_pending<M: Memory>(&self, memory: &M, port: Port) {
        if let Some(at) = self.word(port) {
            word::clear(memory, at, PENDING);
        }
    }

    /// Unmasks `port`, and queues it when it is pending. Returns the vCPU to interrupt.
    pub(super) fn unmask<M: Memory>(
        &self,
        memory: &M,
        vcpus: &mut [VcpuEvents],
        channel: &mut Channel,
        port: Port,
    ) -> Option<VcpuId> {
        self.change(memory, vcpus, channel, port, |word| word & !MASKED)
    }

    /// Makes `port` pending, and queues it unless it is masked or in a queue already. Returns the vCPU to interrupt.
    #[inline]
    pub(super) fn raise<M: Memory>(
        &self,
        memory: &M,
        vcpus: &mut [VcpuEvents],
        channel: &mut Channel,
        port: Port,
    ) -> Option<VcpuId> {
        channel.early |= self.word(port).is_none();
        self.change(memory, vcpus, channel, port, |word| word | PENDING)
    }

    /// Changes the event word by `change`, and queues the port if it is then pending, not masked, and in no queue.
    /// Returns the vCPU to interrupt.
    #[inline]
    fn change<M: Memory>(
        &self,
        memory: &M,
        vcpus: &mut [VcpuEvents],
        channel: &mut Channel,
        port: Port,
        change: impl Fn(u32) -> u32,
    ) -> Option<VcpuId> {
        let at = self.word(port)?;
        let control = vcpus.get(channel.vcpu as usize)?.control;
        // All in one step: LINKED comes with no successor, so that no guest follows a stale link, and a guest that
        // handles the event meanwhile does not find it pending again.
        let mut queue = false;
        word::update(memory, at, |word| {
            let mut new = change(word);
            queue = control.is_some() && new & (PENDING | MASKED | LINKED) == PENDING;
            if queue {
                new = new & !EVTCHN_FIFO_LINK_MASK | LINKED;
            }
            (new != word).then_some(new)
        })?;
        if !queue {
            return None;
        }
        self.append(memory, vcpus, channel, port, control?)
    }

    /// Puts `port`, whose word has just become LINKED, at the end of its queue.
    #[inline]
    fn append<M: Memory>(
        &self,
        memory: &M,
        vcpus: &mut [VcpuEvents],
        channel: &mut Channel,
        port: Port,
        control: Pa,
    ) -> Option<VcpuId> {
        // It was in no queue: if it is the tail of the one it was in last, that one is empty. Forget it there before it
        // becomes part of another, or the next event of the old queue would be linked into the new one.
        if let Some(tail) = tail(vcpus, channel.last_vcpu, channel.last_priority)
            && *tail == port
        {
            *tail = 0;
        }
        channel.last_vcpu = channel.vcpu;
        channel.last_priority = channel.priority;
        let tail = tail(vcpus, channel.vcpu, channel.priority)?;
        let previous = core::mem::replace(tail, port);
        if previous != 0 && self.link(memory, previous, port) {
            return None;
        }
        let head = control.offset(HEAD_OFFSET + u64::from(channel.priority) * 4);
        word::update(memory, head, |_| Some(port))?;
        if word::set(memory, control.offset(READY_OFFSET), 1 << channel.priority)? {
            return None;
        }
        vcpus.get(channel.vcpu as usize)?.mark(memory).then_some(channel.vcpu)
    }

    /// Has `tail` point to `port`, if it is still in its queue; whether it was.
    #[inline]
    fn link<M: Memory>(&self, memory: &M, tail: Port, port: Port) -> bool {
        let Some(at) = self.word(tail) else { return false };
        let relink = |word: u32| (word & LINKED != 0).then_some(word & !EVTCHN_FIFO_LINK_MASK | port);
        word::update(memory, at, relink).is_some_and(|before| before & LINKED != 0)
    }
}

#[inline]
fn tail(vcpus: &mut [VcpuEvents], vcpu: VcpuId, priority: u8) -> Option<&mut Port> {
    vcpus.get_mut(vcpu as usize)?.tails.get_mut(usize::from(priority))
}
