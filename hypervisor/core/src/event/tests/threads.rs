//! Real threads: several senders, one lock, consumers that run all the time.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use super::consumer::Consumer;
use super::*;

const SENDS: u32 = if cfg!(miri) { 25 } else { 4000 };
const SENDERS: usize = 3;
const PORTS: usize = 6;

fn stress(fifo: bool) {
    let machine = machine();
    let receiver = if fifo { fifo_domain(&machine, 1) } else { two_level_domain(1) };
    if !fifo {
        register(&machine, &receiver);
    }
    let sender = two_level_domain(2);
    let mut ports = Vec::new();
    for n in 0..PORTS {
        let port = receiver.events.lock().alloc_unbound(&machine, 2).unwrap();
        let (from, _) = pair::bind_interdomain(&machine, &*sender, &*receiver, port).unwrap();
        receiver.events.lock().bind_vcpu(port, n as u32 % 3).unwrap();
        if fifo {
            receiver.events.lock().set_priority(port, n as u32 % 2).unwrap();
        }
        ports.push((from, port));
    }
    let raised: Vec<AtomicU32> = (0..=PORTS).map(|_| AtomicU32::new(0)).collect();
    let seen: Vec<AtomicU32> = (0..=PORTS).map(|_| AtomicU32::new(0)).collect();
    let interrupts = [const { AtomicBool::new(false) }; 3];
    let done = AtomicBool::new(false);
    let find = |id| [&receiver, &sender].into_iter().find(|d| d.id == id).cloned();
    thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|n| {
                let (machine, sender, ports) = (&machine, &sender, &ports);
                let (raised, interrupts, find) = (&raised, &interrupts, &find);
                scope.spawn(move || {
                    let mut random = Random(n as u64 + 77);
                    for _ in 0..SENDS {
                        let (from, to) = ports[random.below(PORTS as u64) as usize];
                        raised[to as usize].fetch_add(1, Ordering::SeqCst);
                        let interrupt = |owner: &TestDomain, receiver: Receiver| {
                            assert_eq!(owner.id, 1);
                            let Receiver::Vcpu(vcpu) = receiver else { panic!("no device is here") };
                            interrupts[vcpu as usize].store(true, Ordering::SeqCst);
                        };
                        pair::send(machine, &**sender, from, find, interrupt).unwrap();
                    }
                })
            })
            .collect();
        for vcpu in 0..3 {
            let (machine, raised, seen) = (&machine, &raised, &seen);
            let (interrupts, done) = (&interrupts, &done);
            scope.spawn(move || {
                let mut consumer = Consumer::new(1, vcpu, fifo);
                loop {
                    // Read before the interrupt: after `done` no new one comes.
                    let last = done.load(Ordering::SeqCst);
                    consumer.interrupt |= interrupts[vcpu as usize].swap(false, Ordering::SeqCst);
                    if let Some(port) = consumer.step(machine) {
                        let now = raised[port as usize].load(Ordering::SeqCst);
                        seen[port as usize].store(now, Ordering::SeqCst);
                    }
                    if consumer.is_idle() {
                        if last {
                            break;
                        }
                        thread::yield_now();
                    }
                }
            });
        }
        for sender in senders {
            sender.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
    });
    let counts = |of: &[AtomicU32]| of.iter().map(|n| n.load(Ordering::SeqCst)).collect::<Vec<_>>();
    assert_eq!(counts(&seen), counts(&raised));
    assert_eq!(counts(&raised).iter().sum::<u32>(), SENDS * SENDERS as u32);
}

#[test]
fn fifo_between_threads() {
    stress(true);
}

#[test]
fn two_level_between_threads() {
    stress(false);
}

/// Two domains connect and close towards each other as fast as they can: no deadlock, and no half of a channel is left.
#[test]
fn connect_and_close_from_both_sides() {
    let machine = machine();
    let domains = [two_level_domain(1), two_level_domain(2)];
    let find = |id: DomId| domains.iter().find(|d| d.id == id).cloned();
    thread::scope(|scope| {
        for n in 0..2 {
            let (machine, domains, find) = (&machine, &domains, &find);
            scope.spawn(move || {
                let (own, other) = (&domains[n], &domains[1 - n]);
                let mut random = Random(n as u64 + 5);
                for _ in 0..SENDS / 4 {
                    let port = random.below(6) as Port + 1;
                    match random.below(4) {
                        0 => drop(own.events.lock().alloc_unbound(machine, other.id)),
                        1 => drop(pair::bind_interdomain(machine, &**own, &**other, port)),
                        2 => drop(pair::close(machine, &**own, port, find)),
                        _ => drop(pair::send(machine, &**own, port, find, |_, _| {})),
                    }
                }
            });
        }
    });
    for (own, other) in [(&domains[0], &domains[1]), (&domains[1], &domains[0])] {
        let (own, other) = (own.events.lock(), other.events.lock());
        for port in 1..own.ports() {
            if let State::Interdomain(far) = own.state(port).unwrap() {
                let back = State::Interdomain(Peer { domain: own.domain(), port });
                assert_eq!(other.state(far.port), Ok(back));
            }
        }
    }
    for domain in &domains {
        while pair::reset(&machine, &**domain, find).unwrap().is_none() {}
        let events = domain.events.lock();
        assert!((1..events.ports()).all(|port| events.state(port) == Ok(State::Free)));
    }
}
