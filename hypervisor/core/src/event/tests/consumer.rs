//! A guest's vCPU that takes events as Linux does, in steps of one memory access each.

use vambrace_abi::shared_info::*;

use super::*;
use crate::word;

pub(super) const PENDING: u32 = 1 << EVTCHN_FIFO_PENDING;
pub(super) const MASKED: u32 = 1 << EVTCHN_FIFO_MASKED;
pub(super) const LINKED: u32 = 1 << EVTCHN_FIFO_LINKED;

/// Where a consumer stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Waits for its interrupt.
    Idle,
    /// About to clear `evtchn_upcall_pending`.
    ClearUpcall,
    /// About to take the ready bits (FIFO) or the selector (2-level).
    TakeReady,
    /// FIFO: about to read the head of queue `.0`.
    ReadHead(u32),
    /// FIFO: about to take event `.1` out of queue `.0`.
    Unlink(u32, Port),
    /// FIFO: about to look whether event `.0` is pending and not masked.
    Look(Port),
    /// About to clear the pending bit of `.0`, and handle it if it was set.
    Handle(Port),
    /// 2-level: about to read bitmap word `.0` (32 bits).
    ReadWord(u32),
    /// About to look whether there is more.
    Again,
}

/// One vCPU's event loop.
pub(super) struct Consumer {
    domain: DomId,
    vcpu: VcpuId,
    fifo: bool,
    phase: Phase,
    ready: u64,
    heads: [Port; 16],
    /// 2-level: pending bits of the word in work that have not been handled.
    bits: u32,
    word: u32,
    /// The interrupt is pending at the virtual CPU.
    pub(super) interrupt: bool,
}

impl Consumer {
    pub(super) fn new(domain: DomId, vcpu: VcpuId, fifo: bool) -> Self {
        let (heads, phase) = ([0; 16], Phase::Idle);
        Self { domain, vcpu, fifo, phase, ready: 0, heads, bits: 0, word: 0, interrupt: false }
    }

    /// Whether it would do nothing without a further interrupt.
    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle && !self.interrupt
    }

    /// Makes one memory access; returns the port whose event it has just taken.
    pub(super) fn step(&mut self, machine: &FakeMachine) -> Option<Port> {
        let info = vcpu_info(self.domain, self.vcpu);
        let swap = |at: Pa, value: u32| machine.update_u32(at, |_| Some(value)).unwrap();
        match self.phase {
            Phase::Idle => {
                if core::mem::take(&mut self.interrupt) {
                    self.phase = Phase::ClearUpcall;
                }
            }
            Phase::ClearUpcall => {
                machine.update_u32(info, |word| Some(word & !0xff)).unwrap();
                self.phase = Phase::TakeReady;
            }
            Phase::TakeReady => {
                if self.fifo {
                    self.ready |= u64::from(swap(control(self.domain, self.vcpu), 0));
                } else {
                    let selector = info.offset(VCPU_INFO_PENDING_SEL as u64);
                    self.ready |= u64::from(swap(selector, 0)) | u64::from(swap(selector.offset(4), 0)) << 32;
                }
                self.phase = self.next_queue();
            }
            Phase::ReadHead(queue) => {
                let head = control(self.domain, self.vcpu).offset(8 + u64::from(queue) * 4);
                self.phase = Phase::Unlink(queue, machine.word(head));
            }
            Phase::Unlink(queue, port) => {
                let unlink = |word: u32| Some(word & !(LINKED | EVTCHN_FIFO_LINK_MASK));
                let before = machine.update_u32(event_word(self.domain, port), unlink).unwrap();
                let next = before & EVTCHN_FIFO_LINK_MASK;
                if next == 0 {
                    self.ready &= !(1 << queue);
                }
                self.heads[queue as usize] = next;
                self.phase = Phase::Look(port);
            }
            Phase::Look(port) => {
                let word = machine.word(event_word(self.domain, port));
                let take = word & (PENDING | MASKED) == PENDING;
                self.phase = if take { Phase::Handle(port) } else { Phase::TakeReady };
            }
            Phase::Handle(port) => {
                let (at, bit) = if self.fifo {
                    (event_word(self.domain, port), PENDING)
                } else {
                    word::bit(page(self.domain, 0).offset(SHARED_INFO_EVTCHN_PENDING as u64), port)
                };
                let before = machine.update_u32(at, |word| Some(word & !bit)).unwrap();
                self.phase = if self.fifo { Phase::TakeReady } else { self.next_bit() };
                return (before & bit != 0).then_some(port);
            }
            Phase::ReadWord(word) => {
                let at = |base: usize| page(self.domain, 0).offset(base as u64 + u64::from(word) * 4);
                let pending = machine.word(at(SHARED_INFO_EVTCHN_PENDING));
                self.bits = pending & !machine.word(at(SHARED_INFO_EVTCHN_MASK));
                self.word = word;
                self.phase = self.next_bit();
            }
            Phase::Again => {
                let more = machine.word(info) & 0xff != 0;
                self.phase = if more { Phase::ClearUpcall } else { Phase::Idle };
            }
        }
        None
    }

    fn next_queue(&self) -> Phase {
        if self.ready == 0 {
            return Phase::Again;
        }
        let first = self.ready.trailing_zeros();
        match self.heads.get(first as usize) {
            _ if !self.fifo => Phase::ReadWord(first * 2),
            Some(&port) if port != 0 => Phase::Unlink(first, port),
            _ => Phase::ReadHead(first),
        }
    }

    fn next_bit(&mut self) -> Phase {
        if self.bits != 0 {
            let bit = self.bits.trailing_zeros();
            self.bits &= self.bits - 1;
            return Phase::Handle(self.word * 32 + bit);
        }
        if self.word.is_multiple_of(2) {
            return Phase::ReadWord(self.word + 1);
        }
        self.ready &= !(1 << (self.word / 2));
        if self.ready == 0 { Phase::Again } else { self.next_queue() }
    }
}
