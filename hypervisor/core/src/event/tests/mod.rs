//! A small world for event tests: domains with shared pages on a fake machine, and guests that take events the way
//! Linux does, one memory access at a time.

extern crate std;

mod consumer;
mod hostile;
mod operations;
mod threads;
mod weave;

use alloc::sync::Arc;
use alloc::vec::Vec;

use spin::Mutex;

use super::*;
use crate::fake::FakeMachine;

pub(super) const RAM: u64 = 0x4000_0000;
/// Physical memory of one domain: shared page, control blocks from page 1, event array from page 32.
pub(super) const DOMAIN_BYTES: u64 = 1 << 20;

/// A domain as far as event channels go.
pub(super) struct TestDomain {
    pub(super) id: DomId,
    pub(super) events: Mutex<EventChannels>,
}

impl pair::Owner for TestDomain {
    fn id(&self) -> DomId {
        self.id
    }
    fn events(&self) -> &Mutex<EventChannels> {
        &self.events
    }
}

/// Page `n` of domain `id`.
pub(super) fn page(id: DomId, n: u64) -> Pa {
    Pa(RAM + u64::from(id) * DOMAIN_BYTES + n * crate::addr::PAGE_SIZE)
}

pub(super) fn machine() -> FakeMachine {
    FakeMachine::with_ram(RAM, 16 * DOMAIN_BYTES)
}

/// Domain `id` with three vCPUs and 2-level events.
pub(super) fn two_level_domain(id: DomId) -> Arc<TestDomain> {
    Arc::new(TestDomain { id, events: Mutex::new(EventChannels::new(id, page(id, 0), 3, Port::MAX)) })
}

/// Physical address of a vCPU's registered `vcpu_info`.
pub(super) fn vcpu_info(id: DomId, vcpu: VcpuId) -> Pa {
    page(id, 16).offset(u64::from(vcpu) * 64)
}

/// Registers all `vcpu_info`s, and takes note of everything that this marks.
pub(super) fn register(machine: &FakeMachine, domain: &TestDomain) {
    for vcpu in 0..3 {
        let offset = vcpu_info(0, vcpu).page_offset() as u32;
        let page = vcpu_info(domain.id, vcpu).page();
        assert_eq!(domain.events.lock().register_vcpu_info(machine, vcpu, page, offset), Ok(true));
        for word in [0, 8, 12] {
            machine.set_word(vcpu_info(domain.id, vcpu).offset(word), 0);
        }
    }
}

/// Domain `id` with three vCPUs, FIFO events, registered `vcpu_info`s, and one page of event words.
pub(super) fn fifo_domain(machine: &FakeMachine, id: DomId) -> Arc<TestDomain> {
    let domain = two_level_domain(id);
    register(machine, &domain);
    for vcpu in 0..3 {
        let link_bits =
            domain.events.lock().init_control(machine, vcpu, Some(page(id, 1 + u64::from(vcpu))), 8);
        assert_eq!(link_bits, Ok(17));
    }
    assert_eq!(domain.events.lock().expand_array(machine, Some(page(id, 32))), Ok(Vec::new()));
    domain
}

/// Physical address of a vCPU's control block in a [`fifo_domain`].
pub(super) fn control(id: DomId, vcpu: VcpuId) -> Pa {
    page(id, 1 + u64::from(vcpu)).offset(8)
}

/// Physical address of an event word in a [`fifo_domain`].
pub(super) fn event_word(id: DomId, port: Port) -> Pa {
    page(id, 32).offset(u64::from(port) * 4)
}

/// Small numbers that look random and are the same in each run (xorshift64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
