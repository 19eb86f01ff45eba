//! Sends and guest code woven into each other at every memory access: no event may be lost, and none invented.

use alloc::vec;
use core::cell::RefCell;

use vambrace_abi::shared_info::SHARED_INFO_EVTCHN_MASK;

use super::consumer::{Consumer, MASKED};
use super::*;
use crate::machine::BadAddress;
use crate::word;

const ROUNDS: u64 = if cfg!(miri) { 60 } else { 3000 };
const WORLDS: u64 = if cfg!(miri) { 2 } else { 6 };
const PORTS: usize = 7;

/// The guest side: its vCPUs, and for each port how often it was raised, how many of these the guest knows of, and how
/// many events it took (fewer: several may come as one).
struct Guest {
    vcpus: Vec<Consumer>,
    raised: Vec<u32>,
    seen: Vec<u32>,
    taken: Vec<u32>,
    random: Random,
}

impl Guest {
    fn step(&mut self, machine: &FakeMachine) {
        let who = self.random.below(self.vcpus.len() as u64) as usize;
        if let Some(port) = self.vcpus[who].step(machine) {
            let port = port as usize;
            self.taken[port] += 1;
            assert!(self.taken[port] <= self.raised[port], "port {port}: an event that nobody raised");
            self.seen[port] = self.raised[port];
        }
    }
}

/// Memory in which the guest makes a few accesses before each one of the hypervisor's.
struct Woven {
    machine: FakeMachine,
    guest: RefCell<Guest>,
}

impl Woven {
    fn let_guest_run(&self, most: u64) {
        let mut guest = self.guest.borrow_mut();
        for _ in 0..guest.random.below(most + 1) {
            guest.step(&self.machine);
        }
    }

    fn interrupt(&self, vcpu: Option<VcpuId>) {
        if let Some(vcpu) = vcpu {
            self.guest.borrow_mut().vcpus[vcpu as usize].interrupt = true;
        }
    }
}

impl Memory for Woven {
    fn update_u32(&self, pa: Pa, f: impl FnMut(u32) -> Option<u32>) -> Result<u32, BadAddress> {
        self.let_guest_run(3);
        self.machine.update_u32(pa, f)
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

/// Raises ports at random, moves them between vCPUs and priorities, masks and unmasks them; then waits for the guest to
/// come to rest and looks whether it has seen everything.
fn world(fifo: bool, seed: u64) {
    let machine = machine();
    let domain = if fifo { fifo_domain(&machine, 1) } else { two_level_domain(1) };
    if !fifo {
        register(&machine, &domain);
    }
    let mut events = domain.events.lock();
    let ports: Vec<Port> = (0..PORTS).map(|_| events.alloc_unbound(&machine, 0).unwrap()).collect();
    let memory = Woven {
        guest: RefCell::new(Guest {
            vcpus: (0..3).map(|vcpu| Consumer::new(1, vcpu, fifo)).collect(),
            raised: vec![0; PORTS + 1],
            seen: vec![0; PORTS + 1],
            taken: vec![0; PORTS + 1],
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
        }),
        machine,
    };
    let mask = |port: Port| {
        let (at, bit) = if fifo {
            (event_word(1, port), MASKED)
        } else {
            word::bit(page(1, 0).offset(SHARED_INFO_EVTCHN_MASK as u64), port)
        };
        word::set(&memory.machine, at, bit);
    };
    for _ in 0..ROUNDS {
        let (what, port) = {
            let mut guest = memory.guest.borrow_mut();
            (guest.random.below(20), ports[guest.random.below(PORTS as u64) as usize])
        };
        let choice = memory.guest.borrow_mut().random.below(16) as u32;
        match what {
            0 => events.bind_vcpu(port, choice % 3).unwrap(),
            1 if fifo => events.set_priority(port, choice).unwrap(),
            2 => mask(port),
            3 | 4 => memory.interrupt(events.unmask(&memory, port).unwrap()),
            5 => memory.let_guest_run(40),
            _ => {
                memory.guest.borrow_mut().raised[port as usize] += 1;
                memory.interrupt(events.raise(&memory, port));
            }
        }
    }
    for &port in &ports {
        memory.interrupt(events.unmask(&memory, port).unwrap());
    }
    let mut guest = memory.guest.borrow_mut();
    let mut left = 100_000;
    while !guest.vcpus.iter().all(Consumer::is_idle) {
        guest.step(&memory.machine);
        left -= 1;
        assert!(left > 0, "seed {seed}: the guest finds no rest");
    }
    assert_eq!(guest.seen, guest.raised, "seed {seed}: events lost");
    assert!(guest.raised.iter().sum::<u32>() > ROUNDS as u32 / 2);
}

#[test]
fn fifo_loses_nothing() {
    for seed in 1..=WORLDS {
        world(true, seed);
    }
}

#[test]
fn two_level_loses_nothing() {
    for seed in 1..=WORLDS {
        // A port that moves between vCPUs while it is pending may stay at the old one's selector: that is the ABI's,
        // and the guest's selector bit is still there to be found.
        world(false, seed);
    }
}
