//! Pauses, polls, shutdowns, and vCPUs that come and go, as a guest and its toolstack see them.

use alloc::sync::Arc;

use vambrace_abi::errno::Errno;
use vambrace_abi::event_channel::*;
use vambrace_abi::handle::XenHandle;
use vambrace_abi::hypercall::*;
use vambrace_abi::sched::*;
use vambrace_abi::vcpu::*;

use crate::machine::CpuId;
use crate::sched::{Status, VcpuKey};
use crate::testing::*;
use crate::trap::{GuestRegs, Trap};

const XEN: Trap = Trap::Hypercall { immediate: 0xea1 };
const WAIT: Trap = Trap::Wait { event: false, instruction_length: 4 };
const CPU_OFF: u64 = 0x8400_0002;
const CPU_ON: u64 = 0xc400_0003;
const SYSTEM_OFF: u64 = 0x8400_0008;

fn status(world: &World, vcpu: usize) -> Status {
    world.hv.scheduler.account(world.domain.vcpus[vcpu].key).unwrap().status
}

fn hypercall(regs: &mut GuestRegs, op: u32, command: u32, argument: u64) -> Trap {
    regs.x[16] = op.into();
    regs.x[0] = command.into();
    regs.x[1] = argument;
    XEN
}

/// A port of domain 0's that it raises for its vCPU 0, which nobody is interrupted for.
fn masked_port(world: &World) -> u32 {
    let (result, bind) = world.with(HYPERVISOR_EVENT_CHANNEL_OP, EVTCHNOP_BIND_IPI, EvtchnBindIpi::default());
    assert_eq!(result, 0);
    let mask = world.domain.shared_info.offset(vambrace_abi::shared_info::SHARED_INFO_EVTCHN_MASK as u64);
    world.machine().set_word(mask, u32::MAX);
    bind.port
}

/// Has vCPU 0 poll `port` until `timeout`, on CPU 0.
fn poll(world: &World, port: u32, timeout: u64) {
    world.put(0x100, port);
    let ports = XenHandle::new(BUFFER + 0x100);
    let at = world.put(0, SchedPoll { ports, nr_ports: 1, timeout, ..Default::default() });
    world.machine().push_step(move |_, regs, _| hypercall(regs, HYPERVISOR_SCHED_OP, SCHEDOP_POLL, at));
    world.hv.round(0);
    assert_eq!(status(world, 0), Status::Blocked);
}

/// Lets vCPU 0 run on CPU 0 to its next wait; its answer register.
fn go_on(world: &World) -> u64 {
    world.machine().push_trap(WAIT);
    world.hv.round(0);
    assert_eq!(world.machine().steps_left(), 0);
    world.regs(0).x[0]
}

#[test]
fn a_poll_sleeps_until_its_port_is_pending() {
    let world = World::small();
    let port = masked_port(&world);
    let (_, other) = world.with(HYPERVISOR_EVENT_CHANNEL_OP, EVTCHNOP_BIND_IPI, EvtchnBindIpi::default());
    poll(&world, port, 0);
    let send = |port| world.with(HYPERVISOR_EVENT_CHANNEL_OP, EVTCHNOP_SEND, EvtchnSend { port }).0;
    assert_eq!(send(other.port), 0);
    assert_eq!(status(&world, 0), Status::Blocked, "not the one that it waits for");
    assert_eq!(send(port), 0);
    assert_eq!(status(&world, 0), Status::Runnable, "though the port is masked");
    assert_eq!(go_on(&world), 0);
    assert_eq!(world.domain.polls.load(core::sync::atomic::Ordering::SeqCst), 0);
    assert_eq!(status(&world, 0), Status::Blocked, "the next sleep is not over");
    assert_eq!(send(port), 0);
    assert_eq!(status(&world, 0), Status::Blocked, "nobody polls");
}

#[test]
fn a_poll_ends_when_its_time_has_come() {
    let world = World::small();
    let port = masked_port(&world);
    // At one tick a microsecond.
    poll(&world, port, 3_000_500);
    world.hv.round(0);
    assert_eq!(world.machine().alarm(), Some(3001), "an idle CPU's timer");
    world.machine().set_now(3001);
    world.machine().raise(HYPERVISOR_TIMER);
    world.hv.round(0);
    assert_eq!(status(&world, 0), Status::Runnable);
    assert_eq!(go_on(&world), 0);
    // An interrupt ends it as well, and its deadline with it.
    poll(&world, port, 9_000_000);
    world.enable_interrupts();
    world.hv.raise_event(&world.domain, 0);
    world.machine().push_step(|machine, _, _| {
        machine.controller().list.fill_with(Default::default);
        WAIT
    });
    world.hv.round(0);
    world.hv.round(0);
    assert_eq!(world.machine().alarm(), None);
}

#[test]
fn a_paused_domain_stands_still_and_goes_on() {
    let world = World::small();
    let runstate = || world.domain.vcpus[0].runstate.lock().info;
    world.machine().set_now(10);
    // Another CPU pauses it while it runs.
    let (hv, domain) = (&world.hv, &world.domain);
    let key = domain.vcpus[0].key;
    world.machine().push_trap(WAIT);
    assert_eq!(hv.scheduler.pause(key, 10), None);
    hv.round(0);
    assert_eq!((world.machine().steps_left(), world.machine().idles()), (1, 1), "it does not run");
    world.machine().set_now(50);
    assert_eq!(hv.scheduler.unpause(key, 50), Some(0));
    world.machine().set_now(70);
    hv.round(0);
    let times = runstate();
    assert_eq!(times.state, RUNSTATE_BLOCKED);
    assert_eq!(times.time[RUNSTATE_OFFLINE as usize], 40_000, "paused while it would run");
    assert_eq!(times.time[RUNSTATE_RUNNABLE as usize], 30_000);
    // Blocked and paused is blocked.
    hv.pause(domain);
    world.machine().set_now(100);
    hv.unpause(domain);
    world.machine().set_now(110);
    hv.scheduler.wake(key, 110);
    go_on(&world);
    assert_eq!(runstate().time[RUNSTATE_BLOCKED as usize], 40_000);
    assert_eq!(runstate().time.iter().sum::<u64>(), runstate().state_entry_time);
}

#[test]
fn a_vcpu_that_is_paused_as_it_runs_leaves_at_its_next_trap() {
    let world = Arc::new(World::small());
    let key = world.domain.vcpus[0].key;
    let within = Arc::clone(&world);
    world.machine().push_step(move |_, regs, _| {
        regs.x[5] = 55;
        assert_eq!(within.hv.scheduler.pause(key, 0), Some(0));
        Trap::Interrupt
    });
    world.hv.round(0);
    assert_eq!((status(&world, 0), world.regs(0).x[5]), (Status::Runnable, 55));
    assert!(!world.hv.scheduler.is_running(key));
    assert_eq!(world.domain.vcpus[0].runstate.lock().info.state, RUNSTATE_OFFLINE);
    world.hv.scheduler.unpause(key, 0);
    assert_eq!(go_on(&world), 0);
    assert_eq!(world.regs(0).x[5], 55);
}

#[test]
fn a_guest_that_shuts_down_stops_and_can_be_resumed() {
    let world = World::small();
    let other = world.add_other();
    world.hv.bring_online(&other.vcpus[0]);
    // Dom0's vCPU sleeps; the guest switches its machine off.
    go_on(&world);
    world.machine().push_step(|_, regs, _| {
        regs.x[0] = SYSTEM_OFF;
        regs.x[7] = 77;
        Trap::Hypercall { immediate: 0 }
    });
    world.hv.round(0);
    assert_eq!(other.shutdown_reason(), Some(SHUTDOWN_POWEROFF));
    assert!(!world.machine().is_off());
    assert!(other.vcpus[0].is_online(), "it is paused, not off");
    world.hv.round(0);
    assert_eq!(world.machine().idles(), 1);
    world.hv.resume(&other).unwrap();
    assert_eq!(world.hv.resume(&other), Err(Errno::EINVAL));
    assert_eq!(other.shutdown_reason(), None);
    // It goes on behind the call, and may shut down for another reason.
    let at = world.put(0, SchedShutdown { reason: 0x100 | SHUTDOWN_CRASH });
    world.machine().push_step(move |_, regs, _| {
        assert_eq!(regs.x[7], 77);
        hypercall(regs, HYPERVISOR_SCHED_OP, SCHEDOP_SHUTDOWN, at)
    });
    world.hv.round(0);
    assert_eq!(other.shutdown_reason(), Some(SHUTDOWN_CRASH), "one byte counts");
}

#[test]
fn a_reason_given_beforehand_stays() {
    let world = World::small();
    let other = world.add_other();
    let set = |reason| {
        let at = world.put(0, SchedShutdown { reason });
        world.call_by(1, HYPERVISOR_SCHED_OP, [SCHEDOP_SHUTDOWN_CODE.into(), at, 0, 0, 0]).0
    };
    assert_eq!(set(SHUTDOWN_REBOOT), 0);
    assert_eq!(set(SHUTDOWN_CRASH), error(Errno::EBUSY));
    world.hv.shut_down(&other, SHUTDOWN_POWEROFF);
    assert_eq!(other.shutdown_reason(), Some(SHUTDOWN_REBOOT));
}

#[test]
fn vcpus_are_unplugged_and_plugged_in_again() {
    let world = World::new(2, 2);
    let on = |entry: u64| {
        world.machine().push_step(move |_, regs, _| {
            regs.x[..4].copy_from_slice(&[CPU_ON, 1, entry, 9]);
            Trap::SecureCall { immediate: 0 }
        });
        go_on(&world)
    };
    for turn in 0..3 {
        assert_eq!(on(RAM + 0x1000 * turn), 0);
        let second = VcpuKey { domain: 0, vcpu: 1 };
        assert_eq!(status(&world, 1), Status::Runnable);
        world.machine().set_this_cpu(1);
        world.machine().push_step(move |_, regs, _| {
            assert_eq!((regs.pc, regs.x[0]), (RAM + 0x1000 * turn, 9));
            regs.x[0] = CPU_OFF;
            Trap::SecureCall { immediate: 0 }
        });
        world.hv.round(1 as CpuId);
        assert_eq!(status(&world, 1), Status::Offline);
        assert!(!world.domain.vcpus[1].is_online());
        // Paused and resumed, it is off still.
        world.hv.scheduler.pause(second, 0);
        assert_eq!(world.hv.scheduler.unpause(second, 0), None);
        world.machine().set_this_cpu(0);
        world.hv.scheduler.wake(world.domain.vcpus[0].key, 0);
    }
}

#[test]
fn a_dead_domains_deadlines_are_gone() {
    let world = World::small();
    let other = world.add_other();
    world.hv.bring_online(&other.vcpus[0]);
    let set = SchedWatchdog { id: 0, timeout: 5 };
    let at = world.put(0, set);
    world.machine().push_step(move |_, regs, _| hypercall(regs, HYPERVISOR_SCHED_OP, SCHEDOP_WATCHDOG, at));
    world.machine().push_step(|_, _, context| {
        context.timer.control = 1;
        context.timer.compare = 1000;
        WAIT
    });
    world.hv.scheduler.pause(world.domain.vcpus[0].key, 0);
    world.hv.round(0);
    assert_eq!(world.machine().steps_left(), 0);
    world.hv.round(0);
    assert_eq!(world.machine().alarm(), Some(1000));
    while world.hv.destroy(&other).unwrap() == crate::life::Progress::Again {}
    world.hv.round(0);
    assert_eq!(world.machine().alarm(), None);
    world.machine().set_now(10_000_000);
    world.machine().raise(HYPERVISOR_TIMER);
    world.console();
    world.hv.round(0);
    assert_eq!((world.console(), world.machine().alarm()), (alloc::string::String::new(), None));
}
