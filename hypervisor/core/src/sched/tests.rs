use super::*;
use alloc::vec::Vec;

fn key(vcpu: u16) -> VcpuKey {
    VcpuKey { domain: 0, vcpu }
}

fn of(domain: u16) -> VcpuKey {
    VcpuKey { domain, vcpu: 0 }
}

/// `cpus` CPUs whose counter counts microseconds, and `vcpus` vCPUs of domain 0, runnable.
fn scheduler(cpus: usize, vcpus: u16) -> Scheduler<()> {
    let s = Scheduler::new(cpus, 1_000_000);
    (0..cpus).for_each(|c| s.cpu_online(c));
    for v in 0..vcpus {
        s.add(key(v), Arc::new(()), CpuMask::MAX, DEFAULT_WEIGHT);
        s.bring_online(key(v), 0);
    }
    s
}

/// As [`scheduler`], with domains of one vCPU each, from 1 on.
fn domains(cpus: usize, domains: u16) -> Scheduler<()> {
    let s = scheduler(cpus, 0);
    for domain in 1..=domains {
        s.add(of(domain), Arc::new(()), CpuMask::MAX, DEFAULT_WEIGHT);
        s.bring_online(of(domain), 0);
    }
    s
}

fn pick(s: &Scheduler<()>, cpu: CpuId, now: u64) -> Option<VcpuKey> {
    s.pick(cpu, now).0.map(|turn| turn.key)
}

fn leave(s: &Scheduler<()>, cpu: CpuId, how: Leave, now: u64) -> CpuMask {
    s.leave(cpu, how, now).1
}

fn ran(s: &Scheduler<()>, key: VcpuKey, now: u64) -> u64 {
    s.account(key).unwrap().run_time_at(now)
}

/// Runs CPUs whose vCPUs never block until the counter says `end`, as the run loop does: timers fire when they are due.
fn run_hogs(s: &Scheduler<()>, cpus: usize, from: u64, end: u64) {
    let mut now = from;
    let mut busy: Vec<bool> = alloc::vec![false; cpus];
    while now < end {
        for (cpu, busy) in busy.iter_mut().enumerate() {
            if *busy && s.should_leave(cpu) {
                leave(s, cpu, Leave::Preempted, now);
                *busy = false;
            }
            if !*busy {
                *busy = pick(s, cpu, now).is_some();
            }
        }
        let next = (0..cpus).filter_map(|cpu| s.slice_end(cpu)).min().unwrap_or(end).clamp(now + 1, end);
        now = next;
        for cpu in 0..cpus {
            if s.slice_end(cpu).is_some_and(|at| at <= now) {
                s.slice_over(cpu, now);
            }
        }
    }
    for (cpu, busy) in busy.into_iter().enumerate() {
        if busy {
            leave(s, cpu, Leave::Preempted, now);
        }
    }
}

fn near(value: u64, wanted: u64, percent: u64) -> bool {
    value.abs_diff(wanted) * 100 <= wanted * percent
}

#[test]
fn three_vcpus_share_two_cpus_fairly() {
    let s = scheduler(2, 3);
    run_hogs(&s, 2, 0, 3_000_000);
    for v in 0..3 {
        assert!(near(ran(&s, key(v), 0), 2_000_000, 2), "vCPU {v}: {}", ran(&s, key(v), 0));
    }
}

#[test]
fn a_sleeper_earns_a_slice_of_credit_and_no_more() {
    let s = scheduler(1, 2);
    let first = pick(&s, 0, 0).unwrap();
    leave(&s, 0, Leave::Blocked, 1);
    run_hogs(&s, 1, 1, 1_000_001);
    s.wake(first, 1_000_001);
    let before = ran(&s, first, 0);
    run_hogs(&s, 1, 1_000_001, 1_200_001);
    let got = ran(&s, first, 0) - before;
    assert!((100_000..=110_000).contains(&got), "{got} of 200 ms");
}

#[test]
fn what_sleeps_much_pushes_aside_what_runs_much() {
    let s = scheduler(1, 2);
    let (io, hog) = (key(0), key(1));
    assert_eq!(pick(&s, 0, 0), Some(io));
    leave(&s, 0, Leave::Blocked, 10);
    assert_eq!(pick(&s, 0, 10), Some(hog));
    // It ran for a while: who wakes comes on at once.
    assert_eq!(s.wake(io, 30_000), Some(0));
    assert!(s.should_leave(0));
    leave(&s, 0, Leave::Preempted, 30_001);
    assert_eq!(pick(&s, 0, 30_001), Some(io));
    leave(&s, 0, Leave::Blocked, 30_050);
    assert_eq!(pick(&s, 0, 30_050), Some(hog));
    // It has just begun: who wakes waits for the shortest turn, which the CPU's timer ends.
    assert_eq!(s.wake(io, 30_100), Some(0));
    assert!(!s.should_leave(0));
    assert_eq!(s.demand(0), Demand::Rearm);
    assert_eq!(s.demand(0), Demand::None, "once");
    assert_eq!(s.slice_end(0), Some(31_050));
    s.slice_over(0, 31_050);
    assert_eq!(s.demand(0), Demand::Leave);
    assert_eq!(s.demand(0), Demand::Leave, "until it picks");
}

#[test]
fn the_shortest_turn_can_be_set() {
    let s = scheduler(1, 2);
    pick(&s, 0, 0);
    leave(&s, 0, Leave::Blocked, 10);
    assert_eq!(pick(&s, 0, 10), Some(key(1)));
    for bad in [1, 99, 500_001, u32::MAX] {
        assert_eq!(s.set_ratelimit(0, bad), Err(Errno::EINVAL), "{bad}");
    }
    assert_eq!(s.set_ratelimit(1, 1000), Err(Errno::ESRCH));
    assert_eq!(s.set_ratelimit(0, 0), Ok(()));
    assert_eq!(s.pool(0).unwrap().ratelimit_us, 0);
    s.wake(key(0), 20_000);
    leave(&s, 0, Leave::Preempted, 20_000);
    assert_eq!(pick(&s, 0, 20_000), Some(key(0)));
    leave(&s, 0, Leave::Blocked, 20_001);
    pick(&s, 0, 20_001);
    assert_eq!(s.wake(key(0), 20_002), Some(0));
    assert!(s.should_leave(0), "at once");
}

#[test]
fn weights_divide_the_time() {
    let s = domains(1, 2);
    s.set_weight(1, 768, 0).unwrap();
    assert_eq!(s.set_weight(1, 0, 0), Err(Errno::EINVAL));
    assert_eq!(s.set_weight(9, 256, 0), Err(Errno::ESRCH));
    run_hogs(&s, 1, 0, 10_000_000);
    assert!(near(ran(&s, of(1), 0), 7_500_000, 3), "{}", ran(&s, of(1), 0));
    assert!(near(ran(&s, of(2), 0), 2_500_000, 3));
    // Changed, they divide what comes.
    s.set_weight(1, 256, 10_000_000).unwrap();
    let before = ran(&s, of(1), 0);
    run_hogs(&s, 1, 10_000_000, 14_000_000);
    assert!(near(ran(&s, of(1), 0) - before, 2_000_000, 5));
    assert_eq!(s.account(of(1)).unwrap().weight, 256);
}

#[test]
fn a_cap_limits_a_domain_on_an_idle_machine() {
    let s = domains(2, 1);
    s.add(VcpuKey { domain: 1, vcpu: 1 }, Arc::new(()), CpuMask::MAX, DEFAULT_WEIGHT);
    s.bring_online(VcpuKey { domain: 1, vcpu: 1 }, 0);
    let used = |now| ran(&s, of(1), now) + ran(&s, VcpuKey { domain: 1, vcpu: 1 }, now);
    s.set_cap(1, 30, 0).unwrap();
    assert_eq!(s.domain(1), Some(DomainAccount { weight: 256, cap: 30, pool: 0 }));
    run_hogs(&s, 2, 0, 2_000_000);
    assert!(near(used(0), 600_000, 3), "{}: 30 % of one CPU, both together", used(0));
    // More than one CPU's worth.
    s.set_cap(1, 150, 2_000_000).unwrap();
    let before = used(0);
    run_hogs(&s, 2, 2_000_000, 4_000_000);
    assert!(near(used(0) - before, 3_000_000, 3), "{}", used(0) - before);
    s.set_cap(1, 0, 4_000_000).unwrap();
    let before = used(0);
    run_hogs(&s, 2, 4_000_000, 5_000_000);
    assert_eq!(used(0) - before, 2_000_000);
    assert_eq!(s.set_cap(9, 0, 0), Err(Errno::ESRCH));
}

#[test]
fn the_end_of_a_cap_lets_waiting_vcpus_go_on() {
    let s = domains(1, 1);
    s.set_cap(1, 10, 0).unwrap();
    run_hogs(&s, 1, 0, 5_000);
    assert_eq!(pick(&s, 0, 5_000), None, "out of budget");
    assert_eq!(s.slice_end(0), Some(10_000), "an idle CPU's timer begins the next period");
    assert_eq!(s.set_cap(1, 0, 5_001), Ok(1), "called");
    assert_eq!(pick(&s, 0, 5_002), Some(of(1)));
    assert_eq!(s.slice_end(0), None);
}

#[test]
fn who_was_held_back_by_a_cap_holds_nobody_back_after_it() {
    let s = domains(2, 4);
    (1..=3).for_each(|d| assert!(s.set_affinity(of(d), Some(0b10), None, 0).is_ok()));
    s.set_cap(4, 10, 0).unwrap();
    run_hogs(&s, 2, 0, 20_000_000);
    // Domain 4 ran least by far, and alone has CPU 0 from now on.
    s.set_cap(4, 0, 20_000_000).unwrap();
    s.set_affinity(of(4), Some(0b01), None, 20_000_000).unwrap();
    let before: Vec<u64> = (1..=3).map(|d| ran(&s, of(d), 0)).collect();
    run_hogs(&s, 2, 20_000_000, 20_900_000);
    for (d, before) in (1..=3).zip(before) {
        let got = ran(&s, of(d), 0) - before;
        assert!((250_000..=350_000).contains(&got), "domain {d} got {got}");
    }
}

#[test]
fn affinity_holds_and_moves_at_once() {
    let s = scheduler(2, 0);
    s.add(key(0), Arc::new(()), 0b01, DEFAULT_WEIGHT);
    s.add(key(1), Arc::new(()), 0b01, DEFAULT_WEIGHT);
    assert_eq!(s.bring_online(key(0), 0), Some(0));
    s.bring_online(key(1), 0);
    assert_eq!(pick(&s, 1, 0), None);
    let running = pick(&s, 0, 0).unwrap();
    // The one that runs moves away, and the other CPU is called for it.
    assert_eq!(s.set_affinity(running, Some(0b10), None, 5), Ok(Some(0)));
    assert!(s.should_leave(0));
    assert_eq!(leave(&s, 0, Leave::Preempted, 6), 0b10);
    assert_eq!(pick(&s, 1, 7), Some(running));
    assert!(pick(&s, 0, 7).is_some_and(|other| other != running));
    // So does one that waits.
    let waits = if running == key(0) { key(1) } else { key(0) };
    leave(&s, 0, Leave::Blocked, 8);
    s.wake(waits, 9);
    assert_eq!(s.set_affinity(waits, Some(0b10), None, 9), Ok(Some(1)));
    assert_eq!(pick(&s, 0, 10), None);
    // No CPU of the pool at all.
    assert_eq!(s.set_affinity(waits, Some(0b100), None, 9), Err(Errno::EINVAL));
    assert_eq!(s.set_affinity(key(7), Some(1), None, 9), Err(Errno::ESRCH));
    assert_eq!(s.account(waits).unwrap().affinity, 0b10);
}

#[test]
fn soft_affinity_is_a_preference() {
    let s = scheduler(2, 2);
    s.set_affinity(key(0), None, Some(0b10), 0).unwrap();
    // CPU 1 is idle: CPU 0 leaves the vCPU to it.
    assert_eq!(pick(&s, 0, 0), Some(key(1)));
    assert_eq!(pick(&s, 1, 0), Some(key(0)));
    leave(&s, 1, Leave::Blocked, 1);
    leave(&s, 0, Leave::Blocked, 1);
    // With CPU 1 taken it runs on CPU 0 rather than not.
    s.wake(key(1), 2);
    assert_eq!((pick(&s, 1, 2), pick(&s, 0, 2)), (Some(key(1)), None));
    assert_eq!(s.wake(key(0), 3), Some(0));
    assert_eq!(pick(&s, 0, 3), Some(key(0)));
    // A preference for an idle CPU moves it at once.
    leave(&s, 1, Leave::Blocked, 4);
    assert_eq!(pick(&s, 1, 4), None);
    assert_eq!(s.set_affinity(key(0), None, Some(0b10), 5), Ok(Some(0)));
    assert_eq!(leave(&s, 0, Leave::Preempted, 5), 0b10);
    assert_eq!(pick(&s, 0, 5), None);
    assert_eq!(pick(&s, 1, 5), Some(key(0)));
}

#[test]
fn wake_names_the_cpu_to_kick() {
    let s = scheduler(2, 2);
    let a = pick(&s, 0, 0).unwrap();
    assert_eq!(s.wake(a, 0), Some(0), "running: its own CPU");
    let b = pick(&s, 1, 0).unwrap();
    leave(&s, 1, Leave::Blocked, 5);
    assert_eq!(s.wake(b, 5), Some(1), "idle again on its last CPU");
    assert_eq!(s.wake(b, 5), None, "already runnable");
    pick(&s, 1, 5).unwrap();
    leave(&s, 1, Leave::Offline, 6);
    assert_eq!(s.wake(b, 6), None, "offline stays off");
    assert_eq!(s.account(b).unwrap().status, Status::Offline);
    assert!(s.bring_online(b, 6).is_some());
}

#[test]
fn nobody_waits_means_no_slice() {
    let s = scheduler(1, 1);
    pick(&s, 0, 0).unwrap();
    assert_eq!(s.slice_end(0), None);
    assert_eq!(s.slice_over(0, 1 << 40), 0);
    assert!(!s.should_leave(0));
}

#[test]
fn a_pause_is_counted_and_remembers_wake_ups() {
    let s = scheduler(1, 1);
    let k = pick(&s, 0, 0).unwrap();
    assert_eq!(s.pause(k, 1), Some(0), "it runs there");
    assert!(s.is_running(k) && s.should_leave(0));
    assert_eq!(s.leave(0, Leave::Preempted, 2).0, Some(Idleness::Offline), "paused while it would run");
    assert_eq!(pick(&s, 0, 2), None);
    s.pause(k, 3);
    assert_eq!(s.unpause(k, 4), None);
    assert_eq!(pick(&s, 0, 4), None, "still paused once");
    assert_eq!(s.unpause(k, 5), Some(0));
    let turn = s.pick(0, 7).0.unwrap();
    assert_eq!(turn.waited, Waited { runnable: 2, offline: 3 });
    // Blocked, paused, woken, let go.
    assert_eq!(s.leave(0, Leave::Blocked, 8).0, Some(Idleness::Blocked));
    s.pause(k, 10);
    assert_eq!(s.wake(k, 20), None);
    assert_eq!((s.account(k).unwrap().status, s.account(k).unwrap().pauses), (Status::Runnable, 1));
    assert_eq!(s.unpause(k, 50), Some(0));
    assert_eq!(s.pick(0, 60).0.unwrap().waited, Waited { runnable: 10, offline: 30 }, "blocked for the rest");
    // A pause that is never asked for is not owed.
    leave(&s, 0, Leave::Blocked, 61);
    s.unpause(k, 62);
    s.wake(k, 63);
    assert!(pick(&s, 0, 64).is_some());
}

#[test]
fn a_paused_vcpu_that_blocks_or_goes_off_does_so() {
    let s = scheduler(1, 1);
    let k = pick(&s, 0, 0).unwrap();
    s.pause(k, 1);
    leave(&s, 0, Leave::Blocked, 2);
    assert_eq!(s.unpause(k, 3), None, "it waits for an interrupt");
    assert_eq!(pick(&s, 0, 3), None);
    s.wake(k, 4);
    pick(&s, 0, 4).unwrap();
    s.pause(k, 5);
    leave(&s, 0, Leave::Offline, 6);
    assert_eq!((s.unpause(k, 7), pick(&s, 0, 7)), (None, None));
    s.pause(k, 8);
    assert_eq!(s.bring_online(k, 9), None);
    assert_eq!(s.unpause(k, 10), Some(0));
}

#[test]
fn a_removed_vcpu_is_gone_when_it_has_left() {
    let s = domains(1, 2);
    let running = pick(&s, 0, 0).unwrap();
    let waits = if running == of(1) { of(2) } else { of(1) };
    assert_eq!(s.remove(waits), None);
    assert!(s.account(waits).is_none() && s.domain(waits.domain).is_none());
    assert!(!s.anyone_waiting(0));
    assert_eq!(s.remove(running), Some(0));
    assert!(s.is_running(running) && s.should_leave(0));
    assert_eq!(s.leave(0, Leave::Preempted, 5).0, None);
    assert!(s.account(running).is_none() && s.domain(running.domain).is_none());
    assert_eq!(pick(&s, 0, 6), None);
    assert_eq!(s.pool(0).unwrap().domains, 0);
    assert_eq!((s.wake(running, 7), s.unpause(running, 7), s.remove(running)), (None, None, None));
}

#[test]
fn pools_follow_xens_rules() {
    let s = domains(3, 2);
    assert_eq!(s.create_pool(Some(0)), Err(Errno::EEXIST));
    assert_eq!((s.create_pool(None), s.create_pool(Some(7)), s.create_pool(None)), (Ok(1), Ok(7), Ok(8)));
    s.create_pool(Some(3)).unwrap();
    s.create_pool(Some(4)).unwrap();
    assert_eq!(s.create_pool(None), Err(Errno::ENOSPC), "twice as many as CPUs");
    assert_eq!(s.pool(2).map(|p| p.id), Some(3), "the next one from there on");
    assert_eq!(s.pool(9), None);
    assert_eq!(s.free_cpus(), 0);
    assert_eq!(s.add_pool_cpu(1, Some(2), 0), Err(Errno::ENODEV), "not free");
    assert_eq!(s.move_domain(1, 1, 0), Err(Errno::ENOENT), "no CPU");
    assert_eq!(s.add_domain(5, 1), Err(Errno::ENODEV));
    assert_eq!(s.add_domain(5, 2), Err(Errno::ESRCH));
    assert_eq!(s.remove_pool_cpu(0, Some(0), 0), Err(Errno::EINVAL), "the boot CPU");
    assert_eq!(s.remove_pool_cpu(0, Some(9), 0), Err(Errno::EINVAL));
    assert_eq!(s.remove_pool_cpu(9, Some(1), 0), Err(Errno::ENOENT));
    assert_eq!(s.remove_pool_cpu(1, Some(1), 0), Err(Errno::EADDRNOTAVAIL));
    assert_eq!(s.remove_pool_cpu(1, None, 0), Err(Errno::EINVAL));
    s.remove_pool_cpu(0, None, 0).unwrap();
    assert_eq!((s.free_cpus(), s.pool(0).unwrap().cpus), (0b100, 0b011), "the last one");
    assert_eq!(s.add_pool_cpu(9, None, 0), Err(Errno::ENOENT));
    assert_eq!(s.add_pool_cpu(1, Some(9), 0), Err(Errno::EINVAL));
    s.add_pool_cpu(1, None, 0).unwrap();
    assert_eq!(s.add_pool_cpu(1, None, 0), Err(Errno::ENODEV), "none is free");
    assert_eq!(s.cpu(2, 0).unwrap().pool, Some(1));
    s.move_domain(1, 1, 0).unwrap();
    assert_eq!((s.pool(0).unwrap().domains, s.pool(1).unwrap().domains), (1, 1));
    assert_eq!(s.destroy_pool(1), Err(Errno::EBUSY));
    assert_eq!(s.remove_pool_cpu(1, Some(2), 0), Err(Errno::EBUSY), "its last, with a domain");
    assert_eq!(s.move_domain(9, 1, 0), Err(Errno::ESRCH));
    s.move_domain(1, 0, 0).unwrap();
    assert_eq!(s.destroy_pool(1), Err(Errno::EBUSY), "it has a CPU");
    s.remove_pool_cpu(1, Some(2), 0).unwrap();
    assert_eq!((s.destroy_pool(1), s.destroy_pool(1)), (Ok(()), Err(Errno::ENOENT)));
    assert_eq!(s.add_domain(5, 0), Ok(()));
    assert_eq!(s.domain(5).map(|d| d.pool), Some(0));
}

#[test]
fn domains_run_in_their_pool_only() {
    let s = domains(2, 2);
    let a = pick(&s, 0, 0).unwrap();
    let b = pick(&s, 1, 0).unwrap();
    s.create_pool(Some(1)).unwrap();
    // Its CPU goes: it has to share the other one.
    assert_eq!(s.remove_pool_cpu(0, Some(1), 10), Ok(0b10));
    assert!(s.should_leave(1));
    assert_eq!(leave(&s, 1, Leave::Preempted, 11), 0b01, "CPU 0's turn has an end now");
    assert_eq!(pick(&s, 1, 11), None);
    assert_eq!(s.add_pool_cpu(1, Some(1), 12), Ok(0b10));
    assert_eq!(pick(&s, 1, 12), None, "the pool has no domain");
    assert_eq!(s.move_domain(b.domain, 1, 13), Ok(0b10));
    assert_eq!(pick(&s, 1, 14), Some(b));
    // The one that runs moves as well.
    assert_eq!(s.move_domain(a.domain, 1, 20), Ok(0b01));
    leave(&s, 0, Leave::Preempted, 20);
    assert_eq!(pick(&s, 0, 21), None);
    assert!(s.anyone_waiting(1) && !s.anyone_waiting(0));
    assert_eq!(s.cpu(0, 121).unwrap().idle_time, 101);
    // Bound to a CPU that goes: bound no more.
    s.move_domain(a.domain, 0, 130).unwrap();
    s.move_domain(b.domain, 0, 130).unwrap();
    leave(&s, 1, Leave::Preempted, 130);
    s.remove_pool_cpu(1, None, 130).unwrap();
    s.add_pool_cpu(0, Some(1), 130).unwrap();
    s.set_affinity(a, Some(0b10), None, 130).unwrap();
    s.remove_pool_cpu(0, Some(1), 131).unwrap();
    assert_eq!(s.account(a).unwrap().affinity, CpuMask::MAX);
}

#[test]
fn a_cpu_that_was_called_and_took_another_finds_a_substitute() {
    let s = scheduler(3, 3);
    for v in 0..3 {
        pick(&s, v, 0).unwrap();
    }
    for v in 0..3 {
        leave(&s, v, Leave::Blocked, 1);
    }
    (0..3).for_each(|c| assert_eq!(pick(&s, c, 1), None));
    s.set_affinity(key(1), Some(0b011), None, 2).unwrap();
    assert_eq!(s.wake(key(0), 2), Some(0));
    assert_eq!(s.wake(key(1), 2), Some(1));
    // CPU 1 comes first and takes the one for which CPU 0 was called: that one is on its way and takes the other.
    assert_eq!(pick(&s, 1, 3), Some(key(0)));
    assert_eq!(pick(&s, 0, 3), Some(key(1)));
}

#[test]
fn times_are_accounted() {
    let s = scheduler(2, 1);
    assert_eq!(pick(&s, 1, 100), Some(key(0)));
    assert_eq!(pick(&s, 0, 100), None);
    let account = s.account(key(0)).unwrap();
    assert_eq!((account.last_cpu, account.status), (1, Status::Running(1)));
    assert_eq!((account.run_time, account.run_time_at(150)), (0, 50));
    leave(&s, 1, Leave::Blocked, 160);
    assert_eq!(ran(&s, key(0), 1000), 60);
    let idle = |cpu, now| s.cpu(cpu, now).map(|c| c.idle_time);
    assert_eq!((idle(0, 200), idle(1, 200), idle(2, 200)), (Some(100), Some(40), None));
}
