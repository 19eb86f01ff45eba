//! The run loop: what each trap does to the guest that caused it, and who runs when.

use vambrace_abi::hypercall::*;
use vambrace_abi::sched::{SCHEDOP_BLOCK, SCHEDOP_YIELD};
use vambrace_abi::vcpu::{RUNSTATE_BLOCKED, RUNSTATE_RUNNABLE, RUNSTATE_RUNNING};

use crate::addr::{GuestVa, Ipa};
use crate::fake::Injected;
use crate::sched::Status;
use crate::testing::*;
use crate::trap::{MmioAccess, SysReg, Trap};

const PC: u64 = 0xffff_8000_0008_1234;
const WAIT: Trap = Trap::Wait { event: false, instruction_length: 4 };
const XEN: Trap = Trap::Hypercall { immediate: 0xea1 };

fn mmio(ipa: u64, write: bool, reg: u8) -> MmioAccess {
    MmioAccess {
        ipa: Ipa(ipa),
        va: GuestVa(0xffff_0000_0000_0000 + ipa),
        size: 4,
        write,
        reg,
        sign_extend: false,
        wide: false,
        instruction_length: 4,
    }
}

/// Stops vCPU 0 with `trap` at [`PC`] with x2 = `x2`; answers its program counter and x2 afterwards.
fn after(world: &World, trap: Trap, x2: u64) -> (u64, u64) {
    world.trap(
        move |regs| {
            regs.pc = PC;
            regs.x[2] = x2;
        },
        trap,
    );
    // The wait that ends the round left the program counter as it was.
    let regs = world.regs(0);
    (regs.pc, regs.x[2])
}

fn status(world: &World, vcpu: usize) -> Status {
    world.hv.scheduler.account(world.domain.vcpus[vcpu].key).unwrap().status
}

#[test]
fn a_hypercall_answers_in_x0_and_moves_nothing_else() {
    let world = World::small();
    world.trap(
        |regs| {
            regs.x = core::array::from_fn(|n| n as u64);
            regs.x[16] = HYPERVISOR_XEN_VERSION.into();
            regs.pc = PC;
        },
        XEN,
    );
    let regs = world.regs(0);
    assert_eq!((regs.pc, regs.x[0]), (PC, 0x0004_0014));
    assert!((1..31).filter(|&n| n != 16).all(|n| regs.x[n] == n as u64));
}

#[test]
fn unknown_hypercalls_are_not_implemented() {
    let world = World::small();
    for op in [HYPERVISOR_SET_TRAP_TABLE, HYPERVISOR_MMU_UPDATE, HYPERVISOR_IRET, HYPERVISOR_ARCH_0, 64, 9999]
    {
        assert_eq!(world.call(op, &[]), -38, "{op}");
    }
    world.trap(|regs| regs.x[16] = 1 << 32 | u64::from(HYPERVISOR_XEN_VERSION), XEN);
    assert_eq!(world.regs(0).x[0] as i64, -38, "the upper half counts");
}

#[test]
fn other_immediates_are_undefined_at_the_instruction() {
    let world = World::small();
    // The program counter is past `hvc`, at `smc` and at whatever the hypervisor keeps off.
    assert_eq!(after(&world, Trap::Hypercall { immediate: 0xea2 }, 0).0, PC - 4);
    assert_eq!(after(&world, Trap::SecureCall { immediate: 1 }, 0).0, PC);
    assert_eq!(after(&world, Trap::Disabled, 0).0, PC);
    assert_eq!(after(&world, Trap::Unknown { syndrome: 0x7e00_0000 }, 0).0, PC);
    assert_eq!(world.context(0).injected, [Injected::Undefined; 4]);
    assert!(world.console().contains("d0v0: unexpected trap, syndrome 0x7e000000"));
}

#[test]
fn a_guest_that_waits_without_an_interrupt_blocks() {
    let world = World::small();
    world.machine().push_step(|_, regs, context| {
        regs.pc = PC;
        assert!(context.loaded.is_some());
        WAIT
    });
    world.hv.round(0);
    assert_eq!(world.regs(0).pc, PC + 4);
    assert_eq!(status(&world, 0), Status::Blocked);
    assert!(world.context(0).loaded.is_none());
    world.hv.round(0);
    assert_eq!(world.machine().idles(), 1, "nothing to run");
    // An event wakes it, and is in a list register when it runs.
    world.enable_interrupts();
    world.hv.raise_event(&world.domain, 0);
    assert_eq!(status(&world, 0), Status::Runnable);
    world.machine().push_step(|machine, _, _| {
        assert!(machine.controller().list.iter().any(|lr| lr.intid == EVENT && lr.physical.is_none()));
        // Taken and ended by the guest.
        machine.controller().list.fill_with(Default::default);
        WAIT
    });
    world.hv.round(0);
    assert_eq!(status(&world, 0), Status::Blocked);
}

#[test]
fn a_guest_with_an_interrupt_does_not_block() {
    let world = World::small();
    world.enable_interrupts();
    world.hv.raise_event(&world.domain, 0);
    // It never takes it: each wait ends at once.
    world.machine().push_trap(WAIT);
    world.machine().push_trap(WAIT);
    world.machine().push_step(|machine, _, _| {
        machine.controller().list.fill_with(Default::default);
        WAIT
    });
    world.hv.round(0);
    assert_eq!(world.machine().steps_left(), 0);
    assert_eq!(status(&world, 0), Status::Blocked);
}

#[test]
fn two_vcpus_share_a_cpu() {
    let world = World::new(2, 1);
    world.hv.bring_online(&world.domain.vcpus[1]);
    // Yields hand the CPU back and forth; a wait for an event (`wfe`) and SCHEDOP_yield are yields.
    let yielding: [fn(&mut crate::trap::GuestRegs) -> Trap; 2] = [
        |_| Trap::Wait { event: true, instruction_length: 4 },
        |regs| {
            regs.x[16] = HYPERVISOR_SCHED_OP.into();
            regs.x[0] = SCHEDOP_YIELD.into();
            XEN
        },
    ];
    let mut ran = [0; 2];
    for turn in 0..10 {
        let step = yielding[turn % 2];
        world.machine().push_step(move |machine, regs, context| {
            machine.set_now(1000 * (turn as u64 + 1));
            regs.x[20] += 1;
            assert_eq!(context.spec.mpidr & 0xff, regs.x[19]);
            step(regs)
        });
        if turn == 0 {
            for vcpu in 0..2 {
                world.domain.vcpus[vcpu].run.lock().regs.x[19] = vcpu as u64;
            }
        }
        world.hv.round(0);
        assert_eq!(world.machine().steps_left(), 0);
    }
    for (vcpu, ran) in ran.iter_mut().enumerate() {
        *ran = world.regs(vcpu).x[20];
        assert_eq!(status(&world, vcpu), Status::Runnable);
        let runstate = world.domain.vcpus[vcpu].runstate.lock();
        assert_eq!(runstate.info.time[RUNSTATE_RUNNING as usize], 5_000_000, "five turns of a millisecond");
        assert_eq!(runstate.info.state, RUNSTATE_RUNNABLE);
    }
    assert_eq!(ran, [5, 5]);
}

#[test]
fn a_lone_vcpu_that_yields_goes_on() {
    let world = World::small();
    world.machine().push_trap(Trap::Wait { event: true, instruction_length: 4 });
    world.machine().push_trap(WAIT);
    world.hv.round(0);
    assert_eq!(world.machine().steps_left(), 0);
    assert_eq!(world.regs(0).pc, RAM + 8);
}

#[test]
fn the_slice_ends_while_somebody_waits() {
    let world = World::new(2, 1);
    world.hv.bring_online(&world.domain.vcpus[1]);
    world.machine().push_step(|machine, _, _| {
        // Ten milliseconds at one tick a microsecond.
        assert_eq!(machine.alarm(), Some(10_000));
        machine.set_now(10_000);
        machine.raise(HYPERVISOR_TIMER);
        Trap::Interrupt
    });
    world.hv.round(0);
    assert_eq!(status(&world, 0), Status::Runnable);
    world.machine().push_trap(WAIT);
    world.hv.round(0);
    assert_eq!(status(&world, 1), Status::Blocked, "it was the other's turn");
    assert_eq!(world.machine().controller().ended, [HYPERVISOR_TIMER]);
    assert!(world.machine().controller().active.is_empty());
}

#[test]
fn blocking_by_hypercall_is_waiting() {
    let world = World::small();
    world.machine().push_step(|_, regs, _| {
        regs.x[16] = HYPERVISOR_SCHED_OP.into();
        regs.x[0] = SCHEDOP_BLOCK.into();
        XEN
    });
    world.hv.round(0);
    assert_eq!((status(&world, 0), world.regs(0).x[0]), (Status::Blocked, 0));
    assert_eq!(world.domain.vcpus[0].runstate.lock().info.state, RUNSTATE_BLOCKED);
}

#[test]
fn accesses_to_nowhere_are_aborts_and_do_not_fill_the_console() {
    let world = World::small();
    let at = 0x1234_5000;
    assert_eq!(after(&world, Trap::Mmio(mmio(at, false, 2)), 77), (PC, 77));
    let va = GuestVa(0xffff_0000_0000_0000 + at);
    assert_eq!(world.context(0).injected, [Injected::Abort { va, instruction: false }]);
    assert_eq!(world.console(), "(VMB) d0v0: read of 0x12345000, where nothing is (pc 0xffff800000081234)\n");
    for _ in 0..300 {
        world.machine().push_trap(Trap::Mmio(mmio(at, true, 2)));
    }
    let (va, ipa) = (GuestVa(1), Ipa(at));
    world.machine().push_trap(Trap::InstructionAbort { va, ipa });
    world.machine().push_trap(Trap::DataAbort { va, ipa, write: true, table_walk: true });
    world.trap(|_| (), Trap::SystemError { syndrome: 0xbe00_0011 });
    let injected = world.context(0).injected;
    assert_eq!(injected.len(), 304);
    assert_eq!(injected[301], Injected::Abort { va, instruction: true });
    assert_eq!(world.console().lines().count(), 9, "with the first, ten in this second");
    // A second later they are heard again, with the number of those that were not.
    world.machine().set_now(2_000_000);
    world.trap(|_| (), Trap::InstructionAbort { va, ipa });
    let text = world.console();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("(VMB) 294 warnings about guests were left out"));
    assert!(lines.next().is_some_and(|line| line.contains("instruction fetch")));
}

#[test]
fn the_uart_sends_and_receives() {
    let world = World::small();
    for (reg, byte) in [(2, b'H'), (2, b'i'), (31, 0)] {
        let at = after(&world, Trap::Mmio(mmio(UART, true, reg)), u64::from(byte) | 0x5555_0000_0000_0000).0;
        assert_eq!(at, PC + 4);
    }
    assert_eq!(world.console(), "Hi\0", "register 31 is zero");
    // IMSC: receive. Then a byte from the host's UART reaches the guest's as well as the Xen console.
    after(&world, Trap::Mmio(mmio(UART + 0x38, true, 2)), 1 << 4);
    world.machine().type_in(b"x");
    world.machine().raise(HOST_UART);
    assert_eq!(after(&world, Trap::Interrupt, 0).0, PC);
    let flags = after(&world, Trap::Mmio(mmio(UART + 0x18, false, 2)), u64::MAX).1;
    assert_eq!(flags & 0x10, 0, "not empty");
    assert_eq!(after(&world, Trap::Mmio(mmio(UART, false, 2)), u64::MAX).1, b'x'.into());
    let wide = MmioAccess { size: 1, sign_extend: true, wide: true, ..mmio(UART + 0xffc, false, 2) };
    assert_eq!(after(&world, Trap::Mmio(wide), 0).1, 0xffff_ffff_ffff_ffb1);
    let thumb = MmioAccess { instruction_length: 2, ..mmio(UART + 0x18, false, 2) };
    assert_eq!(after(&world, Trap::Mmio(thumb), 0).0, PC + 2);
    // With interrupts on, one comes for as long as the byte waits.
    world.enable_interrupts();
    let machine = world.machine();
    world.hv.scheduler.wake(world.domain.vcpus[0].key, 0);
    machine.push_step(|machine, _, _| {
        machine.type_in(b"y");
        machine.raise(HOST_UART);
        Trap::Interrupt
    });
    machine.push_step(|machine, _, _| {
        assert!(machine.controller().list.iter().any(|lr| lr.intid == HOST_UART));
        Trap::Mmio(mmio(UART, false, 2))
    });
    machine.push_trap(WAIT);
    world.hv.round(0);
    assert_eq!(world.regs(0).x[2], b'y'.into());
}

#[test]
fn the_distributor_answers() {
    let world = World::new(2, 1);
    // GICD_TYPER: 256 INTIDs, two vCPUs.
    assert_eq!(after(&world, Trap::Mmio(mmio(DISTRIBUTOR + 4, false, 2)), 0).1 & 0xff, 0x27);
    // The guest enables the device's interrupt, and so the physical one.
    let enable = DISTRIBUTOR + 0x100 + u64::from(DEVICE_SPI) / 32 * 4;
    assert!(!world.machine().controller().enabled.contains(&DEVICE_SPI));
    after(&world, Trap::Mmio(mmio(enable, true, 2)), 1 << (DEVICE_SPI % 32));
    assert!(world.machine().controller().enabled.contains(&DEVICE_SPI));
    after(&world, Trap::Mmio(mmio(enable + 0x80, true, 2)), 1 << (DEVICE_SPI % 32));
    assert!(!world.machine().controller().enabled.contains(&DEVICE_SPI));
}

fn register(register: SysReg, write: bool) -> Trap {
    Trap::SystemRegister { register, write, reg: 2 }
}

#[test]
fn id_registers_are_emulated() {
    let world = World::small();
    assert_eq!(after(&world, register(MIDR, false), 0), (PC + 4, 0x410f_d083));
    assert_eq!(after(&world, register(ID_AA64PFR0, false), 0), (PC + 4, 0x22), "neither EL2 nor SVE");
    let reserved = SysReg::new(3, 0, 0, 7, 7);
    assert_eq!(after(&world, register(reserved, false), 9), (PC + 4, 0));
    assert!(world.context(0).injected.is_empty());
    // Reads only, and only of what is known.
    assert_eq!(after(&world, register(ID_AA64PFR0, true), 9).0, PC);
    assert_eq!(after(&world, register(SysReg::new(3, 0, 11, 0, 0), false), 9), (PC, 9));
    assert_eq!(world.context(0).injected, [Injected::Undefined; 2]);
    // Debug registers hold nothing; the OS lock is open.
    let (mdscr, oslsr) = (SysReg::new(2, 0, 0, 2, 2), SysReg::new(2, 0, 1, 1, 4));
    assert_eq!(after(&world, register(mdscr, true), u64::MAX).0, PC + 4);
    assert_eq!(after(&world, register(mdscr, false), 9), (PC + 4, 0));
    assert_eq!(after(&world, register(oslsr, false), 9), (PC + 4, 8));
}
