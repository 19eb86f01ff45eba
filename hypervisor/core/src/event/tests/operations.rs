//! Each operation: what it changes, and how it refuses.

use vambrace_abi::shared_info::*;
use vambrace_abi::virq::*;

use super::consumer::{LINKED, MASKED, PENDING};
use super::*;

fn status(events: &EventChannels, port: Port) -> EvtchnStatus {
    let mut query = EvtchnStatus { port, ..Default::default() };
    events.status(&mut query).unwrap();
    query
}

fn find(domains: &[Arc<TestDomain>]) -> impl Fn(DomId) -> Option<Arc<TestDomain>> + '_ {
    |id| domains.iter().find(|d| d.id == id).cloned()
}

/// Closes all ports.
fn reset(machine: &FakeMachine, domain: &TestDomain, domains: &[Arc<TestDomain>]) {
    while pair::reset(machine, domain, find(domains)).unwrap().is_none() {}
}

#[test]
fn connect_send_close() {
    let machine = machine();
    let domains = [two_level_domain(1), two_level_domain(2)];
    let [a, b] = [&*domains[0], &*domains[1]];
    let far = b.events.lock().alloc_unbound(&machine, 1).unwrap();
    assert_eq!(status(&b.events.lock(), far).status, EVTCHNSTAT_UNBOUND);
    assert_eq!(status(&b.events.lock(), far).info, 1);
    // Nobody is connected yet: nothing happens, and that is no error.
    assert_eq!(b.events.lock().send(&machine, far), Ok(Sent::Here(None)));

    let (near, notify) = pair::bind_interdomain(&machine, a, b, far).unwrap();
    assert_eq!((near, notify), (1, Some(0)));
    let query = status(&a.events.lock(), near);
    assert_eq!((query.status, query.info, query.remote_port), (EVTCHNSTAT_INTERDOMAIN, 2, far));
    assert_eq!(a.events.lock().is_pending(&machine, near), Ok(true));
    // Somebody is connected already.
    assert_eq!(pair::bind_interdomain(&machine, a, b, far), Err(Errno::EINVAL));
    assert_eq!(pair::bind_interdomain(&machine, a, b, 2), Err(Errno::EINVAL));
    assert_eq!(pair::bind_interdomain(&machine, a, b, 9999), Err(Errno::EINVAL));
    assert_eq!(a.events.lock().state(2), Ok(State::Free));

    let mut notified = Vec::new();
    for _ in 0..2 {
        pair::send(&machine, a, near, find(&domains), |d, who| notified.push((d.id, who))).unwrap();
    }
    // The second send found the event pending already.
    assert_eq!(notified, [(2, Receiver::Vcpu(0))]);
    assert_eq!(b.events.lock().is_pending(&machine, far), Ok(true));

    pair::close(&machine, b, far, find(&domains)).unwrap();
    assert_eq!(a.events.lock().state(near), Ok(State::Unbound { remote: 2 }));
    assert_eq!(b.events.lock().is_pending(&machine, far), Ok(false));
    assert_eq!(pair::close(&machine, b, far, find(&domains)), Err(Errno::EINVAL));
    assert_eq!(pair::send(&machine, b, far, find(&domains), |_, _| panic!()), Err(Errno::EINVAL));
    let (again, _) = pair::bind_interdomain(&machine, b, a, near).unwrap();
    assert_eq!(a.events.lock().state(near), Ok(State::Interdomain(Peer { domain: 2, port: again })));
}

#[test]
fn a_message_to_a_port_that_changed_hands_is_dropped() {
    let machine = machine();
    let domains = [two_level_domain(1), two_level_domain(2)];
    let [a, b] = [&*domains[0], &*domains[1]];
    let far = b.events.lock().alloc_unbound(&machine, 1).unwrap();
    let (near, _) = pair::bind_interdomain(&machine, a, b, far).unwrap();
    let Ok(Sent::There(message)) = a.events.lock().send(&machine, near) else { panic!() };
    pair::close(&machine, b, far, find(&domains)).unwrap();
    assert_eq!(b.events.lock().bind_ipi(&machine, 0), Ok(far));
    assert_eq!(b.events.lock().receive(&machine, message), None);
    assert_eq!(b.events.lock().is_pending(&machine, far), Ok(false));
}

#[test]
fn a_device_has_an_end_that_its_guest_cannot_touch() {
    let machine = machine();
    let domains = [two_level_domain(1), two_level_domain(2)];
    let [guest, console] = [&*domains[0], &*domains[1]];
    let device = guest.events.lock().alloc_internal(&machine, 2).unwrap();
    // Nobody listens yet.
    pair::send_internal(&machine, guest, device, find(&domains), |_, _| panic!());
    let (far, _) = pair::bind_interdomain(&machine, console, guest, device).unwrap();
    let mut told = Vec::new();
    pair::send(&machine, console, far, find(&domains), |d, who| told.push((d.id, who))).unwrap();
    pair::send(&machine, console, far, find(&domains), |d, who| told.push((d.id, who))).unwrap();
    assert_eq!(told, [(1, Receiver::Device(device)); 2]);
    assert_eq!(guest.events.lock().is_pending(&machine, device), Ok(false));

    let mut events = guest.events.lock();
    assert_eq!(events.send(&machine, device), Err(Errno::EINVAL));
    assert_eq!(events.bind_vcpu(device, 0), Err(Errno::EINVAL));
    assert_eq!(events.unmask(&machine, device), Ok(None));
    drop(events);
    assert_eq!(pair::close(&machine, guest, device, find(&domains)), Err(Errno::EINVAL));
    reset(&machine, guest, &domains);
    assert!(matches!(guest.events.lock().state(device), Ok(State::Interdomain(_))));

    // The binding left an event pending at the other end.
    assert_eq!(two_level::clear_pending(&machine, page(2, 0), far), ());
    let mut told = Vec::new();
    pair::send_internal(&machine, guest, device, find(&domains), |d, who| told.push((d.id, who)));
    assert_eq!(console.events.lock().is_pending(&machine, far), Ok(true));
    guest.events.lock().disown(device);
    pair::close(&machine, guest, device, find(&domains)).unwrap();
    assert_eq!(guest.events.lock().alloc_unbound(&machine, 2), Ok(device));
    assert_eq!(guest.events.lock().send(&machine, device), Ok(Sent::Here(None)), "an ordinary port again");
}

#[test]
fn a_close_needs_the_other_side() {
    let machine = machine();
    let [mut a, mut b, mut c] = [1, 2, 3].map(|id| EventChannels::new(id, page(id, 0), 1, 100));
    let far = b.alloc_unbound(&machine, 1).unwrap();
    let (near, _) = a.bind_interdomain(&machine, Some(&mut b), far).unwrap();
    assert_eq!(a.close(&machine, near, OtherEnd::Unknown), Ok(Closed::Needs(2)));
    assert_eq!(a.close(&machine, near, OtherEnd::Locked(&mut c)), Ok(Closed::Needs(2)));
    assert_eq!(a.close(&machine, near, OtherEnd::Gone(3)), Ok(Closed::Needs(2)));
    assert_eq!(a.close(&machine, near, OtherEnd::Locked(&mut b)), Ok(Closed::Done));
    assert_eq!((a.state(near), b.state(far)), (Ok(State::Free), Ok(State::Unbound { remote: 1 })));
}

#[test]
fn loopback() {
    let machine = machine();
    let domains = [two_level_domain(1)];
    let own = &*domains[0];
    let far = own.events.lock().alloc_unbound(&machine, 1).unwrap();
    let (near, _) = pair::bind_interdomain(&machine, own, own, far).unwrap();
    let mut events = own.events.lock();
    machine.set_word(page(1, 0), 0);
    machine.set_word(page(1, 0).offset(VCPU_INFO_PENDING_SEL as u64), 0);
    assert_eq!(events.send(&machine, near), Ok(Sent::Here(Some(0))));
    assert_eq!(events.is_pending(&machine, far), Ok(true));
    drop(events);
    pair::close(&machine, own, near, find(&domains)).unwrap();
    assert_eq!(own.events.lock().state(far), Ok(State::Unbound { remote: 1 }));
}

#[test]
fn virtual_interrupts() {
    let machine = machine();
    let mut events = EventChannels::new(0, page(0, 0), 2, 4095);
    assert_eq!(events.bind_virq(&machine, NR_VIRQS, 0), Err(Errno::EINVAL));
    assert_eq!(events.bind_virq(&machine, VIRQ_CONSOLE, 1), Err(Errno::EINVAL));
    assert_eq!(events.bind_virq(&machine, VIRQ_TIMER, 2), Err(Errno::ENOENT));
    let port = events.bind_virq(&machine, VIRQ_CONSOLE, 0).unwrap();
    assert_eq!(events.bind_virq(&machine, VIRQ_CONSOLE, 0), Err(Errno::EEXIST));
    let timer = events.bind_virq(&machine, VIRQ_TIMER, 1).unwrap();
    assert_eq!(events.send(&machine, port), Err(Errno::EINVAL));
    assert_eq!(status(&events, timer).vcpu, 1);
    assert_eq!((status(&events, port).status, status(&events, port).info), (EVTCHNSTAT_VIRQ, VIRQ_CONSOLE));

    assert_eq!(events.send_virq(&machine, 0, VIRQ_CONSOLE), Some(0));
    // vCPU 1 has no vcpu_info yet, so it cannot be told; it is when it registers one.
    assert_eq!(events.send_virq(&machine, 1, VIRQ_TIMER), None);
    assert_eq!(events.is_pending(&machine, timer), Ok(true));
    assert_eq!(events.send_virq(&machine, 0, VIRQ_TIMER), None);
    assert_eq!(events.send_virq(&machine, 0, VIRQ_DOM_EXC), None);
    assert_eq!(events.send_virq(&machine, 7, u32::MAX), None);

    // A global one may move, a vCPU's own may not.
    assert_eq!(events.bind_vcpu(port, 1), Ok(()));
    assert_eq!(events.bind_vcpu(timer, 0), Err(Errno::EINVAL));
    assert_eq!(events.bind_vcpu(port, 2), Err(Errno::ENOENT));
    assert_eq!(events.bind_vcpu(40, 0), Err(Errno::EINVAL));
    assert_eq!(events.close(&machine, port, OtherEnd::Unknown), Ok(Closed::Done));
    assert_eq!(events.bind_virq(&machine, VIRQ_CONSOLE, 0), Ok(port));
    assert_eq!(status(&events, port).vcpu, 0);
}

#[test]
fn interprocessor_and_physical() {
    let machine = machine();
    let mut events = EventChannels::new(0, page(0, 0), 2, 4095);
    assert_eq!(events.bind_ipi(&machine, 2), Err(Errno::ENOENT));
    let port = events.bind_ipi(&machine, 0).unwrap();
    assert_eq!(events.bind_vcpu(port, 1), Err(Errno::EINVAL));
    assert_eq!(events.send(&machine, port), Ok(Sent::Here(Some(0))));
    assert_eq!(events.bind_pirq(32), Err(Errno::EINVAL));
}

#[test]
fn port_0_is_nobodys() {
    let machine = machine();
    let mut events = EventChannels::new(0, page(0, 0), 1, 4095);
    assert_eq!(events.close(&machine, 0, OtherEnd::Unknown), Err(Errno::EINVAL));
    assert_eq!(events.send(&machine, 0), Err(Errno::EINVAL));
    assert_eq!(events.bind_vcpu(0, 0), Err(Errno::EINVAL));
    assert_eq!(status(&events, 0).status, EVTCHNSTAT_CLOSED);
    assert_eq!(events.status(&mut EvtchnStatus { port: 1, ..Default::default() }), Err(Errno::EINVAL));
    assert_eq!(events.unmask(&machine, 1), Err(Errno::EINVAL));
    assert_eq!(events.is_pending(&machine, u32::MAX), Err(Errno::EINVAL));
}

#[test]
fn ports_end_somewhere() {
    let machine = machine();
    let mut few = EventChannels::new(0, page(0, 0), 1, 100);
    assert!((1..=100).all(|port| few.alloc_unbound(&machine, 0) == Ok(port)));
    assert_eq!(few.alloc_unbound(&machine, 0), Err(Errno::ENOSPC));
    assert_eq!(few.close(&machine, 33, OtherEnd::Unknown), Ok(Closed::Done));
    assert_eq!(few.bind_ipi(&machine, 0), Ok(33));
    if cfg!(miri) {
        return;
    }
    let mut many = EventChannels::new(0, page(0, 0), 1, Port::MAX);
    assert_eq!((1..9999).take_while(|_| many.alloc_unbound(&machine, 0).is_ok()).count(), 4095);
    many.init_control(&machine, 0, Some(page(0, 1)), 0).unwrap();
    assert_eq!((1..200_000).take_while(|_| many.alloc_unbound(&machine, 0).is_ok()).count(), 131_072 - 4096);
}

#[test]
fn two_level_bits() {
    let machine = machine();
    let mut events = EventChannels::new(1, page(1, 0), 1, 4095);
    let info = page(1, 0);
    while events.alloc_unbound(&machine, 0).unwrap() < 103 {}
    assert_eq!(events.raise(&machine, 103), Some(0));
    // Port 103: bit 39 of 64-bit word 1, selector bit 1.
    assert_eq!(machine.read_u64(info.offset(SHARED_INFO_EVTCHN_PENDING as u64 + 8)), Ok(1 << 39));
    assert_eq!(machine.read_u64(info.offset(VCPU_INFO_PENDING_SEL as u64)), Ok(1 << 1));
    assert_eq!(machine.word(info), 1);
    // A masked one is pending without notice, until it is unmasked.
    machine.write_u64(info.offset(SHARED_INFO_EVTCHN_MASK as u64), 1 << 5).unwrap();
    machine.set_word(info, 0);
    assert_eq!(events.raise(&machine, 5), None);
    assert_eq!(machine.read_u64(info.offset(VCPU_INFO_PENDING_SEL as u64)), Ok(1 << 1));
    assert_eq!(events.unmask(&machine, 5), Ok(Some(0)));
    assert_eq!(events.unmask(&machine, 5), Ok(None));
    assert_eq!(machine.read_u64(info.offset(VCPU_INFO_PENDING_SEL as u64)), Ok(0b11));
    assert_eq!(events.set_priority(5, 0), Err(Errno::ENOSYS));
    assert_eq!(events.expand_array(&machine, Some(page(1, 32))), Err(Errno::EOPNOTSUPP));
}

#[test]
fn moving_vcpu_info_loses_nothing() {
    let machine = machine();
    let mut events = EventChannels::new(1, page(1, 0), 2, 4095);
    let port = events.bind_ipi(&machine, 1).unwrap();
    assert_eq!(events.send(&machine, port), Ok(Sent::Here(None)));
    machine.write(page(1, 0).offset(16), &[7; 32]).unwrap();
    let register = |events: &mut EventChannels, vcpu, offset| {
        events.register_vcpu_info(&machine, vcpu, page(1, 9), offset)
    };
    assert_eq!(register(&mut events, 2, 0), Err(Errno::ENOENT));
    assert_eq!(register(&mut events, 0, 4096 - 40), Err(Errno::ENXIO));
    assert_eq!(register(&mut events, 0, u32::MAX), Err(Errno::ENXIO));
    assert_eq!(register(&mut events, 0, 4), Err(Errno::ENXIO));
    assert_eq!(register(&mut events, 0, 4096 - 48), Ok(true));
    assert_eq!(register(&mut events, 0, 64), Err(Errno::EINVAL));
    assert_eq!(register(&mut events, 1, 64), Ok(true));
    for at in [page(1, 9).offset(4096 - 48), page(1, 9).offset(64)] {
        assert_eq!(machine.word(at), 1);
        assert_eq!(machine.read_u64(at.offset(8)), Ok(u64::MAX));
    }
    // The rest came along.
    assert_eq!(machine.word(page(1, 10).offset(0).offset(u64::MAX - 3)), 0x0707_0707);
}

#[test]
fn fifo_queues() {
    let machine = machine();
    let domain = fifo_domain(&machine, 1);
    let mut events = domain.events.lock();
    let ports: Vec<Port> = (0..4).map(|_| events.alloc_unbound(&machine, 0).unwrap()).collect();
    let [a, b, c, d] = ports[..] else { panic!() };
    let word = |port| machine.word(event_word(1, port));
    let head = |priority: u64| machine.word(control(1, 0).offset(8 + priority * 4));
    assert_eq!(events.raise(&machine, a), Some(0));
    assert_eq!(events.raise(&machine, b), None);
    assert_eq!(events.raise(&machine, a), None);
    assert_eq!((head(7), machine.word(control(1, 0))), (a, 1 << 7));
    assert_eq!((word(a), word(b)), (PENDING | LINKED | b, PENDING | LINKED));
    // Another priority is another queue; the upcall is pending already.
    events.set_priority(c, 0).unwrap();
    assert_eq!(events.raise(&machine, c), None);
    assert_eq!((head(0), machine.word(control(1, 0))), (c, 1 << 7 | 1));
    // Another vCPU has its own.
    events.bind_vcpu(d, 2).unwrap();
    assert_eq!(events.raise(&machine, d), Some(2));
    assert_eq!(machine.word(control(1, 2).offset(8 + 7 * 4)), d);

    // The guest took `b`, the tail; it goes to another queue, and `a`'s queue must not drag it along.
    machine.set_word(event_word(1, a), 0);
    // (It left a link behind, which must not come back.)
    machine.set_word(event_word(1, b), 55);
    events.set_priority(b, 3).unwrap();
    events.raise(&machine, b);
    events.raise(&machine, a);
    assert_eq!((word(b), head(3), head(7)), (PENDING | LINKED, b, a));
}

#[test]
fn fifo_masked_events_wait() {
    let machine = machine();
    let domain = fifo_domain(&machine, 1);
    let mut events = domain.events.lock();
    let port = events.alloc_unbound(&machine, 0).unwrap();
    machine.set_word(event_word(1, port), MASKED);
    assert_eq!(events.raise(&machine, port), None);
    assert_eq!(machine.word(event_word(1, port)), MASKED | PENDING);
    assert_eq!(events.unmask(&machine, port), Ok(Some(0)));
    assert_eq!(machine.word(event_word(1, port)), PENDING | LINKED);
    assert_eq!(events.set_priority(port, 16), Err(Errno::EINVAL));
    assert_eq!(events.set_priority(60, 1), Err(Errno::EACCES));
    assert_eq!(events.set_priority(64, 1), Err(Errno::EINVAL));
}

#[test]
fn fifo_set_up() {
    let machine = machine();
    let mut events = EventChannels::new(1, page(1, 0), 2, Port::MAX);
    let early = events.alloc_unbound(&machine, 0).unwrap();
    assert_eq!(events.raise(&machine, early), Some(0));
    machine.set_word(page(1, 0), 0);
    let good = Some(page(1, 1));
    assert_eq!(events.init_control(&machine, 2, good, 0), Err(Errno::ENOENT));
    assert_eq!(events.init_control(&machine, 0, good, 4), Err(Errno::EINVAL));
    assert_eq!(events.init_control(&machine, 0, good, 4096 - 64), Err(Errno::EINVAL));
    assert_eq!(events.init_control(&machine, 0, None, 0), Err(Errno::EINVAL));
    assert!(!events.is_fifo());
    assert_eq!(events.init_control(&machine, 0, good, 4096 - 72), Ok(17));
    assert_eq!(events.init_control(&machine, 0, good, 0), Err(Errno::EINVAL));
    assert!(events.is_fifo());
    // What was pending before, and what comes before there is a word for it, is delivered with the word.
    let later = events.bind_ipi(&machine, 0).unwrap();
    assert_eq!(events.send(&machine, later), Ok(Sent::Here(None)));
    assert_eq!(events.is_pending(&machine, early), Ok(true));
    assert_eq!(events.expand_array(&machine, None), Err(Errno::EINVAL));
    assert_eq!(events.expand_array(&machine, Some(page(1, 32))).as_deref(), Ok(&[0][..]));
    assert_eq!(machine.word(event_word(1, early)), PENDING | LINKED | later);
    assert_eq!(machine.word(event_word(1, later)), PENDING | LINKED);
    for _ in 1..128 {
        assert_eq!(events.expand_array(&machine, Some(page(1, 40))), Ok(Vec::new()));
    }
    assert_eq!(events.expand_array(&machine, Some(page(1, 40))), Err(Errno::ENOSPC));
    // No control block on vCPU 1: the event is noted, and nothing else happens.
    let ipi = events.bind_ipi(&machine, 1).unwrap();
    assert_eq!(events.send(&machine, ipi), Ok(Sent::Here(None)));
    assert_eq!(machine.word(event_word(1, ipi)), PENDING);
}

#[test]
fn many_ports_are_closed_in_several_goes() {
    let machine = machine();
    let domains = [fifo_domain(&machine, 1)];
    let domain = &*domains[0];
    for _ in 0..600 {
        domain.events.lock().alloc_unbound(&machine, 1).unwrap();
    }
    let mut goes = 1;
    while pair::reset(&machine, domain, find(&domains)).unwrap().is_none() {
        goes += 1;
    }
    assert_eq!(goes, 3);
    assert_eq!(domain.events.lock().next_open(1), None);
}

#[test]
fn a_port_that_is_opened_meanwhile_keeps_the_fifo() {
    let machine = machine();
    let domains = [fifo_domain(&machine, 1)];
    let mut events = domains[0].events.lock();
    let port = events.bind_ipi(&machine, 0).unwrap();
    assert_eq!(events.finish_reset(), None);
    assert!(events.is_fifo());
    assert_eq!(events.close(&machine, port, OtherEnd::Unknown), Ok(Closed::Done));
    assert!(events.finish_reset().is_some_and(|pages| !pages.is_empty()));
    assert!(!events.is_fifo());
}

#[test]
fn ports_that_the_bitmaps_do_not_hold_touch_no_memory() {
    let machine = machine();
    let vcpu = VcpuEvents::new(0, page(1, 0));
    for port in [EVTCHN_2L_NR_CHANNELS, 5000, EVTCHN_FIFO_NR_CHANNELS, u32::MAX] {
        let before: Vec<u32> = (0..8192).map(|word| machine.word(page(1, 0).offset(word * 4))).collect();
        assert!(!two_level::raise(&machine, page(1, 0), &vcpu, port));
        assert!(!two_level::unmask(&machine, page(1, 0), &vcpu, port));
        assert!(!two_level::is_pending(&machine, page(1, 0), port));
        two_level::clear_pending(&machine, page(1, 0), port);
        let after: Vec<u32> = (0..8192).map(|word| machine.word(page(1, 0).offset(word * 4))).collect();
        assert!(before == after, "{port}");
    }
}

#[test]
fn reset_goes_back_to_two_levels() {
    let machine = machine();
    let domains = [fifo_domain(&machine, 1), two_level_domain(2)];
    let [a, b] = [&*domains[0], &*domains[1]];
    let far = b.events.lock().alloc_unbound(&machine, 1).unwrap();
    let (near, _) = pair::bind_interdomain(&machine, a, b, far).unwrap();
    a.events.lock().bind_virq(&machine, VIRQ_TIMER, 2).unwrap();
    reset(&machine, a, &domains);
    let mut events = a.events.lock();
    assert!(!events.is_fifo());
    assert_eq!(events.state(near), Ok(State::Free));
    assert_eq!(b.events.lock().state(far), Ok(State::Unbound { remote: 1 }));
    assert!(events.bind_virq(&machine, VIRQ_TIMER, 2).is_ok());
    // The control blocks are free to be given anew.
    assert_eq!(events.init_control(&machine, 0, Some(page(1, 1)), 8), Ok(17));
}
