//! Guests that scribble over the words they share.

use super::consumer::{LINKED, MASKED, PENDING};
use super::*;
use crate::machine::BadAddress;

/// Memory in which every word changes under each update, for ever: a guest that never lets go.
struct Contended {
    machine: FakeMachine,
    tries: core::sync::atomic::AtomicU32,
}

impl Memory for Contended {
    fn update_u32(&self, pa: Pa, mut f: impl FnMut(u32) -> Option<u32>) -> Result<u32, BadAddress> {
        self.machine.word(pa);
        let mut word: u32 = LINKED;
        while f(word).is_some() {
            assert!(self.tries.fetch_add(1, core::sync::atomic::Ordering::Relaxed) < 100_000, "no end");
            word = word.wrapping_add(1) & !(MASKED | PENDING);
        }
        Ok(word)
    }
    fn read(&self, pa: Pa, into: &mut [u8]) -> Result<(), BadAddress> {
        self.machine.read(pa, into)
    }
    fn write(&self, pa: Pa, from: &[u8]) -> Result<(), BadAddress> {
        self.machine.write(pa, from)
    }
    fn copy(&self, to: Pa, from: Pa, len: u64) -> Result<(), BadAddress> {
        self.machine.copy(to, from, len)
    }
    fn zero(&self, pa: Pa, len: u64) -> Result<(), BadAddress> {
        self.machine.zero(pa, len)
    }
    fn read_u64(&self, pa: Pa) -> Result<u64, BadAddress> {
        self.machine.read_u64(pa)
    }
    fn write_u64(&self, pa: Pa, value: u64) -> Result<(), BadAddress> {
        self.machine.write_u64(pa, value)
    }
    fn clean_dcache(&self, pa: Pa, len: u64) -> Result<(), BadAddress> {
        self.machine.clean_dcache(pa, len)
    }
}

#[test]
fn a_guest_that_never_lets_go_delays_nobody() {
    let machine = machine();
    let domain = fifo_domain(&machine, 1);
    let mut events = domain.events.lock();
    let ports: Vec<Port> = (0..4).map(|_| events.alloc_unbound(&machine, 0).unwrap()).collect();
    for &port in &ports {
        events.raise(&machine, port);
    }
    let contended = Contended { machine, tries: 0.into() };
    for &port in &ports {
        assert_eq!(events.raise(&contended, port), None);
        assert_eq!(events.unmask(&contended, port), Ok(None));
    }
}

/// Random words everywhere in the shared pages, while the domain uses its channels. Every call ends, with an answer that
/// the ABI knows, and nothing outside of the domain's pages changes.
#[test]
fn scribbling_hurts_only_the_guest_itself() {
    for (seed, fifo) in [(3, true), (4, false)] {
        let machine = machine();
        let domain = if fifo { fifo_domain(&machine, 1) } else { two_level_domain(1) };
        let mut events = domain.events.lock();
        let mut random = Random(seed);
        for _ in 0..if cfg!(miri) { 200 } else { 5_000 } {
            let pages: &[u64] = if fifo { &[1, 2, 3, 16, 32] } else { &[0] };
            let at = page(1, pages[random.below(pages.len() as u64) as usize]).offset(random.below(160) * 4);
            let port = random.below(80) as Port;
            let value = random.below(u64::from(u32::MAX)) as u32;
            match random.below(12) {
                0..=3 => machine.set_word(at, value),
                4 => machine.set_word(at, PENDING | LINKED | port),
                5 => drop(events.alloc_unbound(&machine, 0)),
                6 => drop(events.bind_ipi(&machine, value % 4)),
                7 => drop(events.close(&machine, port, OtherEnd::Unknown)),
                8 => drop(events.unmask(&machine, port)),
                9 => drop(events.bind_vcpu(port, value % 4)),
                10 => drop(events.set_priority(port, value % 17)),
                _ => drop(events.raise(&machine, port)),
            }
        }
        for other in [0, 2] {
            let mut bytes = alloc::vec![1; DOMAIN_BYTES as usize];
            machine.read(page(other, 0), &mut bytes).unwrap();
            assert!(bytes == alloc::vec![0; DOMAIN_BYTES as usize]);
        }
    }
}

/// A word that the guest keeps linked keeps its port from being handed out again, and no other.
#[test]
fn a_port_that_is_still_queued_is_not_reused() {
    let machine = machine();
    let domain = fifo_domain(&machine, 1);
    let mut events = domain.events.lock();
    let port = events.alloc_unbound(&machine, 0).unwrap();
    let next = events.alloc_unbound(&machine, 0).unwrap();
    events.raise(&machine, port);
    assert_eq!(events.close(&machine, port, OtherEnd::Unknown), Ok(Closed::Done));
    assert_eq!(machine.word(event_word(1, port)), LINKED);
    assert_eq!(events.alloc_unbound(&machine, 0), Ok(next + 1));
    machine.set_word(event_word(1, port), 0);
    assert_eq!(events.alloc_unbound(&machine, 0), Ok(port));
    assert_eq!(events.alloc_unbound(&machine, 0), Ok(next + 2));
}

#[test]
fn all_words_linked_means_no_port() {
    let machine = machine();
    let domain = fifo_domain(&machine, 1);
    let mut events = EventChannels::new(1, page(1, 0), 1, 70);
    drop(domain);
    events.init_control(&machine, 0, Some(page(1, 1)), 0).unwrap();
    events.expand_array(&machine, Some(page(1, 32))).unwrap();
    for port in 0..100 {
        machine.set_word(event_word(1, port), LINKED);
    }
    assert_eq!(events.alloc_unbound(&machine, 0), Err(Errno::ENOSPC));
    machine.set_word(event_word(1, 70), 0);
    assert_eq!(events.alloc_unbound(&machine, 0), Ok(70));
    machine.set_word(event_word(1, 71), 0);
    assert_eq!(events.alloc_unbound(&machine, 0), Err(Errno::ENOSPC));
}
