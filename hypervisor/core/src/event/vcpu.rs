//! Per-vCPU part of event delivery: where its `vcpu_info` lies, its virtual interrupts, its FIFO queues.

use vambrace_abi::errno::Errno;
use vambrace_abi::event_channel::EVTCHN_FIFO_MAX_QUEUES;
use vambrace_abi::shared_info::{
    SHARED_INFO_VCPU_INFO, VCPU_INFO_PENDING_SEL, VCPU_INFO_SIZE, VCPU_INFO_UPCALL_PENDING,
    XEN_LEGACY_MAX_VCPUS,
};
use vambrace_abi::virq::NR_VIRQS;

use super::Port;
use crate::addr::{PAGE_SIZE, Pa};
use crate::machine::Memory;
use crate::word;

/// `evtchn_upcall_pending` is the lowest byte of the first word of `vcpu_info`.
const UPCALL_PENDING_BYTE: u32 = 0xff;
const UPCALL_PENDING: u32 = 1;

/// What the hypervisor keeps of a vCPU for events.
#[derive(Clone, Debug)]
pub(super) struct VcpuEvents {
    /// Physical address of its `vcpu_info`. From vCPU 1 on there is none until the guest registers one.
    pub(super) info: Option<Pa>,
    /// The guest registered it, so it stays.
    registered: bool,
    /// Port bound to each virtual interrupt, or 0. Global ones are in vCPU 0's.
    pub(super) virqs: [Port; NR_VIRQS as usize],
    /// FIFO: physical address of the control block.
    pub(super) control: Option<Pa>,
    /// FIFO: for each priority the port last put into the queue, or 0.
    pub(super) tails: [Port; EVTCHN_FIFO_MAX_QUEUES as usize],
}

impl VcpuEvents {
    pub(super) fn new(index: usize, shared_info: Pa) -> Self {
        let legacy = (SHARED_INFO_VCPU_INFO + index * VCPU_INFO_SIZE) as u64;
        Self {
            info: (index < XEN_LEGACY_MAX_VCPUS).then(|| shared_info.offset(legacy)),
            registered: false,
            virqs: [0; NR_VIRQS as usize],
            control: None,
            tails: [0; EVTCHN_FIFO_MAX_QUEUES as usize],
        }
    }

    /// Notes in `vcpu_info` that there are events; whether the guest must be interrupted for it, because it had taken
    /// note of all before.
    #[inline]
    pub(super) fn mark<M: Memory>(&self, memory: &M) -> bool {
        // Without a `vcpu_info` nothing is lost: registering one marks everything.
        let Some(info) = self.info else { return false };
        let at = info.offset(VCPU_INFO_UPCALL_PENDING as u64);
        let seen = |word: u32| word & UPCALL_PENDING_BYTE == 0;
        word::update(memory, at, |word| seen(word).then_some(word | UPCALL_PENDING)).is_some_and(seen)
    }

    /// Address of the 2-level selector, if there is a `vcpu_info`.
    #[inline]
    pub(super) fn selector(&self) -> Option<Pa> {
        Some(self.info?.offset(VCPU_INFO_PENDING_SEL as u64))
    }

    /// Moves `vcpu_info` to `offset` bytes into the guest's page at physical address `page`.
    pub(super) fn register<M: Memory>(&mut self, memory: &M, page: Pa, offset: u32) -> Result<(), Errno> {
        if u64::from(offset) > PAGE_SIZE - VCPU_INFO_SIZE as u64 || !offset.is_multiple_of(8) {
            return Err(Errno::ENXIO);
        }
        if self.registered {
            return Err(Errno::EINVAL);
        }
        let new = page.page().offset(u64::from(offset));
        let mut bytes = [0; VCPU_INFO_SIZE];
        if let Some(old) = self.info {
            memory.read(old, &mut bytes).map_err(|_| Errno::EINVAL)?;
        }
        memory.write(new, &bytes).map_err(|_| Errno::EINVAL)?;
        // What was set in the old place while it was copied, and what could not be set without a place, is made good by
        // having the guest look everywhere once.
        let selector = new.offset(VCPU_INFO_PENDING_SEL as u64);
        for at in [selector, selector.offset(4)] {
            word::update(memory, at, |_| Some(u32::MAX));
        }
        let upcall = new.offset(VCPU_INFO_UPCALL_PENDING as u64);
        word::update(memory, upcall, |word| Some(word & !UPCALL_PENDING_BYTE | UPCALL_PENDING));
        self.info = Some(new);
        self.registered = true;
        Ok(())
    }

    /// Forgets where its `vcpu_info` is; the page, if the guest gave it.
    pub(super) fn take_registered(&mut self) -> Option<Pa> {
        let info = self.info.take()?;
        core::mem::take(&mut self.registered).then(|| info.page())
    }
}
