//! Physical interrupts on their way to guests, timers, and the console's input.

use vambrace_abi::event_channel::{EVTCHNOP_BIND_VIRQ, EvtchnBindVirq};
use vambrace_abi::hypercall::*;
use vambrace_abi::sched::{SCHEDOP_WATCHDOG, SchedWatchdog};
use vambrace_abi::virq::VIRQ_CONSOLE;

use crate::machine::{Intid, ListRegister, LrState, TimerState};
use crate::sched::Status;
use crate::testing::*;
use crate::trap::{SysReg, Trap};

const WAIT: Trap = Trap::Wait { event: false, instruction_length: 4 };
/// ENABLE of a timer's control register.
const ENABLE: u64 = 1;

fn status(world: &World) -> Status {
    world.hv.scheduler.account(world.domain.vcpus[0].key).unwrap().status
}

fn listed(list: &[ListRegister], intid: Intid) -> Option<ListRegister> {
    list.iter().find(|lr| lr.intid == intid && lr.state != LrState::Invalid).copied()
}

/// Runs a guest that has interrupt `intid` raised, and waits once it took and ended what came of it; answers the list
/// register that it found.
fn deliver(world: &World, intid: Intid, expected: Intid) -> ListRegister {
    let seen = alloc::sync::Arc::new(spin::Mutex::new(None));
    let copy = seen.clone();
    world.machine().push_step(move |machine, _, _| {
        machine.raise(intid);
        Trap::Interrupt
    });
    world.machine().push_step(move |machine, _, _| {
        let mut controller = machine.controller();
        assert_eq!(controller.ended, [intid], "its priority is dropped");
        *copy.lock() = listed(&controller.list, expected);
        // The hardware deactivates with the guest.
        controller.active.remove(&intid);
        controller.list.fill_with(Default::default);
        drop(controller);
        WAIT
    });
    world.hv.round(0);
    assert_eq!(status(world), Status::Blocked);
    seen.lock().take().unwrap()
}

#[test]
fn the_virtual_timer_goes_to_the_guest_that_runs() {
    let world = World::small();
    world.enable_interrupts();
    world.machine().push_step(|machine, _, _| {
        machine.raise(VIRTUAL_TIMER);
        Trap::Interrupt
    });
    world.machine().push_step(|machine, _, _| {
        let controller = machine.controller();
        let lr = listed(&controller.list, VIRTUAL_TIMER).unwrap();
        assert_eq!((lr.state, lr.physical), (LrState::Pending, Some(VIRTUAL_TIMER)), "HW bit");
        assert_eq!(controller.ended, [VIRTUAL_TIMER], "priority drop");
        assert!(controller.active.contains(&VIRTUAL_TIMER), "but no deactivation");
        drop(controller);
        let mut controller = machine.controller();
        controller.list.fill_with(Default::default);
        controller.active.clear();
        drop(controller);
        WAIT
    });
    world.hv.round(0);
    assert_eq!(status(&world), Status::Blocked);
    assert!(world.machine().controller().active.is_empty());
}

#[test]
fn a_device_interrupt_is_passed_on() {
    let world = World::small();
    world.enable_interrupts();
    assert!(world.machine().controller().enabled.contains(&DEVICE_SPI));
    let lr = deliver(&world, DEVICE_SPI, DEVICE_SPI);
    assert_eq!((lr.state, lr.physical), (LrState::Pending, Some(DEVICE_SPI)));
}

#[test]
fn a_device_interrupt_wakes_a_guest_from_idle() {
    let world = World::small();
    world.enable_interrupts();
    world.machine().push_trap(WAIT);
    world.hv.round(0);
    world.machine().raise(DEVICE_SPI);
    world.hv.round(0);
    assert_eq!((world.machine().idles(), status(&world)), (1, Status::Runnable));
    assert!(world.machine().controller().active.contains(&DEVICE_SPI));
}

#[test]
fn interrupts_of_nobody_are_switched_off() {
    let world = World::small();
    for intid in [50, 20] {
        world.machine().controller().enabled.insert(intid);
        world.machine().raise(intid);
    }
    // A kick (SGI) and the maintenance interrupt are for nothing but their trap.
    world.machine().raise(1);
    world.machine().raise(MAINTENANCE);
    world.trap(|_| (), Trap::Interrupt);
    let controller = world.machine().controller();
    assert!(!controller.enabled.contains(&50) && !controller.enabled.contains(&20));
    assert!(controller.active.is_empty());
    assert_eq!(controller.ended, [50, 20, 1, MAINTENANCE]);
    drop(controller);
    assert_eq!(
        world.console(),
        "(VMB) Interrupt 50 is nobody's: disabled\n(VMB) Private interrupt 20 on CPU 0 is nobody's: disabled\n"
    );
}

#[test]
fn a_blocked_guest_is_woken_by_its_virtual_timer() {
    let world = World::small();
    world.machine().push_step(|_, _, context| {
        context.timer = TimerState { control: ENABLE, compare: 5000 };
        WAIT
    });
    world.hv.round(0);
    world.hv.round(0);
    assert_eq!((world.machine().alarm(), status(&world)), (Some(5000), Status::Blocked));
    world.machine().set_now(4999);
    world.machine().raise(HYPERVISOR_TIMER);
    world.hv.round(0);
    assert_eq!(status(&world), Status::Blocked, "too early");
    world.machine().set_now(5000);
    world.machine().raise(HYPERVISOR_TIMER);
    world.hv.round(0);
    assert_eq!(status(&world), Status::Runnable);
    // Running again, it has no deadline there any more; masked, it never gets one.
    world.machine().push_step(|machine, _, context| {
        assert_eq!(machine.alarm(), None);
        context.timer.control = 3;
        WAIT
    });
    world.hv.round(0);
    world.hv.round(0);
    assert_eq!(world.machine().alarm(), None);
}

#[test]
fn the_physical_timer_is_emulated() {
    let world = World::small();
    world.enable_interrupts();
    const fn timer(op2: u16) -> SysReg {
        SysReg::new(3, 3, 14, 2, op2)
    }
    let access = |op2, write, reg| Trap::SystemRegister { register: timer(op2), write, reg };
    world.machine().push_step(move |machine, regs, _| {
        machine.set_now(1000);
        // CNTP_TVAL: 500 ticks from now.
        regs.x[1] = 500;
        access(0, true, 1)
    });
    world.machine().push_step(move |_, regs, _| {
        regs.x[1] = ENABLE;
        access(1, true, 1)
    });
    world.machine().push_step(move |machine, _, _| {
        assert_eq!(machine.alarm(), Some(1500));
        access(2, false, 3)
    });
    world.machine().push_step(move |_, regs, _| {
        assert_eq!(regs.x[3], 1500);
        access(1, false, 3)
    });
    world.machine().push_step(move |machine, regs, _| {
        assert_eq!(regs.x[3], ENABLE, "not due");
        machine.set_now(1600);
        machine.raise(HYPERVISOR_TIMER);
        Trap::Interrupt
    });
    world.machine().push_step(move |machine, _, _| {
        let controller = machine.controller();
        assert!(listed(&controller.list, PHYSICAL_TIMER).unwrap().physical.is_none());
        access(1, false, 3)
    });
    world.machine().push_step(move |_, regs, _| {
        assert_eq!(regs.x[3], ENABLE | 4, "ISTATUS");
        access(0, false, 4)
    });
    world.machine().push_step(move |_, regs, _| {
        assert_eq!(regs.x[4], 0xffff_ff9c, "100 ticks ago, in 32 bits");
        // A negative distance is due at once.
        regs.x[1] = 0;
        access(1, true, 31)
    });
    world.machine().push_trap(WAIT);
    world.hv.round(0);
    assert_eq!(world.machine().steps_left(), 0);
    assert_eq!((status(&world), world.machine().alarm()), (Status::Blocked, None));
}

#[test]
fn a_watchdog_that_bites_resets_the_machine() {
    let world = World::small();
    let (id, _) = world.with(HYPERVISOR_SCHED_OP, SCHEDOP_WATCHDOG, SchedWatchdog { id: 0, timeout: 2 });
    assert_eq!((id, world.hv.timers(0).unwrap().lock().next()), (1, Some(2_000_000)));
    // Fed in time, it waits for the new deadline.
    world.machine().set_now(1_500_000);
    let feed = SchedWatchdog { id: 1, timeout: 2 };
    assert_eq!(world.with(HYPERVISOR_SCHED_OP, SCHEDOP_WATCHDOG, feed).0, 0);
    for (now, reset) in [(2_000_000, false), (3_500_000, true)] {
        world.machine().set_now(now);
        world.hv.run_due(0);
        assert_eq!(world.machine().is_reset(), reset);
    }
    assert!(world.console().contains("d0: watchdog\n"));
}

#[test]
fn console_input_goes_to_dom0_until_three_switch_characters() {
    let world = World::small();
    let bind = EvtchnBindVirq { virq: VIRQ_CONSOLE, ..Default::default() };
    let (result, bind) = world.with(HYPERVISOR_EVENT_CHANNEL_OP, EVTCHNOP_BIND_VIRQ, bind);
    assert_eq!(result, 0);
    let type_in = |bytes: &[u8]| {
        world.machine().type_in(bytes);
        world.machine().raise(HOST_UART);
        world.trap(|_| (), Trap::Interrupt);
    };
    type_in(b"ls\r");
    assert!(world.domain.events.lock().is_pending(world.machine(), bind.port).unwrap());
    assert!(world.machine().controller().active.is_empty());
    let mut input = [0; 16];
    assert_eq!(world.hv.console.take_input(0, &mut input), 3);
    assert_eq!(input[..3], *b"ls\r");
    world.console();
    type_in(b"\x01\x01\x01h");
    let text = world.console();
    assert!(text.starts_with("(VMB) Input to the hypervisor"), "{text}");
    assert!(text.contains("(VMB) h help"), "{text}");
    // Every key answers, and none of them changes anything.
    for key in b"q0drmegitl\rx\xff" {
        type_in(&[*key]);
    }
    let text = world.console();
    for part in ["d0: 1024 of 1024 pages, 1 vCPUs", "CPUs online: 0x1", "stage 2 at", "Virq", "no key 'x'"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(text.contains("no key '\\xff'"), "{text}");
    assert!(!world.machine().is_reset());
    type_in(b"R");
    assert!(world.machine().is_reset());
    world.console();
    type_in(b"\x01\x01\x01");
    assert!(world.console().ends_with("(VMB) Input to dom0 (three times Ctrl-A to switch)\n"));
    world.hv.console.take_input(0, &mut input);
    type_in(b"z");
    assert_eq!(world.hv.console.take_input(0, &mut input), 1);
}
