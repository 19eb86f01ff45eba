//! The firmware that guests see (Arm DEN0022, DEN0028).

use vambrace_abi::sched::{SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT};

use crate::fake::FakeContext;
use crate::run::Next;
use crate::sched::{Status, VcpuKey};
use crate::testing::*;
use crate::trap::Trap;
use crate::vpsci;

const CPU_OFF: u32 = 0x8400_0002;
const CPU_ON_32: u32 = 0x8400_0003;
const CPU_ON: u32 = 0xc400_0003;
const AFFINITY_INFO: u32 = 0xc400_0004;
const SYSTEM_OFF: u32 = 0x8400_0008;
const SYSTEM_RESET: u32 = 0x8400_0009;
const FEATURES: u32 = 0x8400_000a;
const ARCH_FEATURES: u32 = 0x8000_0001;
const WORKAROUND_1: u32 = 0x8000_8000;

const NOT_SUPPORTED: i64 = -1;
const INVALID_PARAMETERS: i64 = -2;
const ALREADY_ON: i64 = -4;
const INVALID_ADDRESS: i64 = -9;

/// Calls the firmware from a vCPU of domain 0.
fn call_from(world: &World, vcpu: u16, function: u32, args: &[u64]) -> (i64, Next) {
    let seat = world.hv.seat(VcpuKey { domain: 0, vcpu }).unwrap();
    let mut run = seat.vcpu.run.lock();
    // The upper half of the function number is to be ignored.
    run.regs.x[0] = 0xffff_ffff_0000_0000 | u64::from(function);
    run.regs.x[1..=args.len()].copy_from_slice(args);
    let next = vpsci::call(&world.hv, &seat, &mut run);
    (run.regs.x[0] as i64, next)
}

fn call(world: &World, function: u32, args: &[u64]) -> i64 {
    let (result, next) = call_from(world, 0, function, args);
    assert_eq!(next, Next::Resume);
    result
}

fn status(world: &World, vcpu: usize) -> Status {
    world.hv.scheduler.account(world.domain.vcpus[vcpu].key).unwrap().status
}

#[test]
fn both_conduits_answer_and_go_on_behind_the_instruction() {
    let world = World::small();
    for (trap, moved) in [(Trap::Hypercall { immediate: 0 }, 0), (Trap::SecureCall { immediate: 0 }, 4)] {
        world.trap(
            |regs| {
                regs.pc = 0x1000;
                regs.x[0] = 0x8400_0000;
            },
            trap,
        );
        assert_eq!((world.regs(0).x[0], world.regs(0).pc), (0x1_0001, 0x1000 + moved));
    }
}

#[test]
fn a_cpu_is_switched_on_and_off_and_on() {
    let world = World::new(2, 1);
    assert_eq!(call(&world, AFFINITY_INFO, &[1, 0]), 1, "off");
    assert_eq!(call(&world, CPU_ON, &[1, RAM + 0x8_0000, 0x1234_5678_9abc_def0]), 0);
    assert_eq!(call(&world, AFFINITY_INFO, &[1, 0]), 0, "on");
    assert_eq!(call(&world, CPU_ON, &[1, RAM, 0]), ALREADY_ON);
    assert_eq!(call(&world, CPU_ON, &[0, RAM, 0]), ALREADY_ON, "the caller itself");
    let regs = world.regs(1);
    assert_eq!((regs.pc, regs.x[0]), (RAM + 0x8_0000, 0x1234_5678_9abc_def0));
    assert_eq!(regs.pstate, 0x1c5, "EL1h; SError, IRQ and FIQ masked (arch-arm.h, PSR_GUEST64_INIT)");
    assert!(regs.x[1..].iter().all(|x| *x == 0));
    let FakeContext { spec, .. } = world.context(1);
    assert_eq!((spec.mpidr, spec.aarch32), (0x8000_0001, false));
    assert_eq!(status(&world, 1), Status::Runnable);
    // vCPU 0 waits; vCPU 1 runs, and switches itself off.
    world.machine().push_trap(Trap::Wait { event: false, instruction_length: 4 });
    world.hv.round(0);
    world.machine().push_step(|_, regs, _| {
        regs.x[0] = CPU_OFF.into();
        Trap::SecureCall { immediate: 0 }
    });
    world.hv.round(0);
    assert_eq!(status(&world, 1), Status::Offline);
    assert_eq!(call(&world, AFFINITY_INFO, &[1, 0]), 1);
    // Nothing wakes it but CPU_ON, which starts afresh.
    world.enable_interrupts();
    world.hv.raise_event(&world.domain, 1);
    assert_eq!(status(&world, 1), Status::Offline);
    assert_eq!(call(&world, 2, &[1, RAM + 0x9_0000, 5]), 0, "CPU_ON of PSCI 0.1");
    assert_eq!((world.regs(1).pc, world.regs(1).x[0]), (RAM + 0x9_0000, 5));
    assert_eq!(status(&world, 1), Status::Runnable);
}

#[test]
fn bad_targets_and_addresses_are_refused() {
    let world = World::new(2, 1);
    for target in [2, 16, 0x1_0000, 1 << 32, 1 << 24 | 1, 1 << 31 | 1, 1 << 40 | 1, u64::MAX] {
        assert_eq!(call(&world, CPU_ON, &[target, RAM, 0]), INVALID_PARAMETERS, "{target:#x}");
        assert_eq!(call(&world, AFFINITY_INFO, &[target, 0]), INVALID_PARAMETERS, "{target:#x}");
    }
    assert_eq!(call(&world, AFFINITY_INFO, &[1, 1]), INVALID_PARAMETERS, "a cluster");
    // Behind RAM, at a device, at an emulated device, misaligned, beyond the address space.
    for entry in [RAM + RAM_SIZE, DEVICE, DISTRIBUTOR, RAM + 2, 0, 1 << 40, u64::MAX - 3] {
        assert_eq!(call(&world, CPU_ON, &[1, entry, 0]), INVALID_ADDRESS, "{entry:#x}");
    }
    assert_eq!(status(&world, 1), Status::Offline);
    assert!(!world.domain.vcpus[1].is_online());
}

#[test]
fn a_32_bit_caller_has_32_bit_arguments() {
    let world = World::new(2, 1);
    world.domain.vcpus[0].run.lock().regs.pstate = 0x1d3;
    let high = 0xaaaa_0000_0000_0000;
    assert_eq!(call(&world, CPU_ON_32, &[high | 1, high | RAM, high | 7]), 0);
    assert_eq!((world.regs(1).pc, world.regs(1).x[0]), (RAM, 7));
}

#[test]
fn features_tells_what_there_is() {
    let world = World::small();
    for known in [0x8400_0000, 0x8400_0001, CPU_OFF, CPU_ON, CPU_ON_32, AFFINITY_INFO, SYSTEM_OFF, FEATURES] {
        assert_eq!(call(&world, FEATURES, &[known.into()]), 0, "{known:#x}");
    }
    assert_eq!(call(&world, FEATURES, &[0x8000_0000]), 0, "SMCCC_VERSION");
    // MIGRATE, CPU_FREEZE, SYSTEM_SUSPEND, SYSTEM_RESET2, MEM_PROTECT, and no number at all.
    for unknown in [0x8400_0005, 0x8400_000b, 0xc400_000e, 0xc400_0012, 0x8400_0013, 0] {
        assert_eq!(call(&world, FEATURES, &[unknown]), NOT_SUPPORTED, "{unknown:#x}");
        assert_eq!(call(&world, unknown as u32, &[1]), NOT_SUPPORTED, "{unknown:#x}");
    }
    assert_eq!(call(&world, 0x8400_0006, &[]), 2, "no trusted OS to migrate");
    assert_eq!(call(&world, 0x8000_0000, &[]), 0x1_0001);
}

#[test]
fn the_hypervisor_names_itself() {
    let world = World::small();
    assert_eq!(call(&world, 0x8600_ff00, &[]), 3);
    assert_eq!(call(&world, 0x8600_ff01, &[]) as u32, 0xdc12_18a7, "first byte lowest");
    let uid = world.regs(0).x;
    assert!(uid[..4].iter().all(|word| *word != 0 && *word <= u64::from(u32::MAX)));
}

#[test]
fn workarounds_are_the_firmwares() {
    let world = World::small();
    assert_eq!(call(&world, ARCH_FEATURES, &[WORKAROUND_1.into()]), NOT_SUPPORTED);
    world.machine().set_firmware(ARCH_FEATURES.into(), [0, 0, 0, 0]);
    assert_eq!(call(&world, ARCH_FEATURES, &[WORKAROUND_1.into()]), 0);
    assert_eq!(call(&world, WORKAROUND_1, &[]), 0);
    let calls = world.machine().firmware_calls();
    assert_eq!(calls[1], (ARCH_FEATURES.into(), [WORKAROUND_1.into(), 0, 0, 0, 0, 0, 0]));
    assert_eq!(calls[2].0, WORKAROUND_1.into());
    // What is no workaround never reaches the firmware.
    assert_eq!(call(&world, ARCH_FEATURES, &[0x8400_0008]), NOT_SUPPORTED);
    assert_eq!(world.machine().firmware_calls().len(), 3);
}

#[test]
fn suspend_waits() {
    let world = World::small();
    assert_eq!(call_from(&world, 0, 0xc400_0001, &[0, RAM, 0]), (0, Next::Block));
}

#[test]
fn the_hardware_domain_takes_the_machine_along() {
    let world = World::new(2, 1);
    world.hv.bring_online(&world.domain.vcpus[1]);
    assert_eq!(call_from(&world, 0, SYSTEM_OFF, &[]).1, Next::Resume);
    assert!(world.machine().is_off() && !world.machine().is_reset());
    assert_eq!(world.domain.shutdown_reason(), Some(SHUTDOWN_POWEROFF));
    // Where the machine cannot be turned off, no vCPU ever enters its guest again.
    world.hv.round(0);
    world.hv.round(0);
    world.hv.round(0);
    assert_eq!([status(&world, 0), status(&world, 1)], [Status::Runnable; 2]);
    assert!(world.console().contains("it stays halted"));

    let world = World::small();
    assert_eq!(call_from(&world, 0, SYSTEM_RESET, &[]).1, Next::Resume);
    assert!(world.machine().is_reset() && !world.machine().is_off());
    assert_eq!(world.domain.shutdown_reason(), Some(SHUTDOWN_REBOOT));

    let mut world = World::small();
    world.hv.settings.no_reboot = true;
    call_from(&world, 0, SYSTEM_RESET, &[]);
    assert!(!world.machine().is_reset());
}
