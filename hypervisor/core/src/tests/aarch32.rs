//! 32-bit guests: their calls, their coprocessor registers, and instructions that are skipped.

use vambrace_abi::hypercall::HYPERVISOR_XEN_VERSION;

use crate::addr::{GuestVa, Ipa};
use crate::fake::Injected;
use crate::run::Next;
use crate::sched::VcpuKey;
use crate::testing::*;
use crate::trap::{CoprocessorAccess, GuestRegs, MmioAccess, SysReg, Trap};
use crate::vpsci;

const PC: u64 = 0x4008_0000;
const ARM: u64 = 0x1d3;
/// Thumb state in the second instruction of `ITT EQ`.
const THUMB_IN_BLOCK: u64 = 0x1f3 | 1 << 30 | (0b0000_1000 >> 2) << 10;
const CPU_ON: u32 = 0x8400_0003;
const CPU_ON_64: u32 = 0xc400_0003;
const FEATURES: u32 = 0x8400_000a;

fn after(world: &World, trap: Trap, setup: impl FnOnce(&mut GuestRegs) + Send + 'static) -> GuestRegs {
    world.trap(
        |regs| {
            (regs.pc, regs.pstate) = (PC, ARM);
            setup(regs);
        },
        trap,
    );
    world.regs(0)
}

fn access(coprocessor: u8, [opc1, crn, crm, opc2]: [u8; 4], reg2: Option<u8>, write: bool) -> Trap {
    let (reg, instruction_length) = (2, 4);
    Trap::Coprocessor(CoprocessorAccess {
        coprocessor,
        opc1,
        crn,
        crm,
        opc2,
        reg,
        reg2,
        write,
        instruction_length,
    })
}

#[test]
fn hypercalls_come_in_r12() {
    let world = World::aarch32(1, 1);
    let regs = after(&world, Trap::Hypercall { immediate: 0xea1 }, |regs| {
        // Upper halves are no part of a 32-bit guest's registers.
        regs.x[0] = 0xffff_ffff_0000_0000;
        regs.x[12] = 0xffff_ffff_0000_0000 | u64::from(HYPERVISOR_XEN_VERSION);
        regs.x[16] = u64::MAX;
    });
    assert_eq!((regs.x[0], regs.pc), (0x0004_0014, PC));
}

#[test]
fn coprocessor_registers_answer() {
    let world = World::aarch32(1, 1);
    world.machine().set_now(0x1_2345_6789);
    let read = |access: Trap| after(&world, access, |regs| (regs.x[2], regs.x[3]) = (u64::MAX, u64::MAX));
    let midr = read(access(15, [0, 0, 0, 0], None, false));
    assert_eq!((midr.x[2], midr.pc), (0x410f_d083, PC + 4));
    let counter = read(access(15, [0, 0, 14, 0], Some(3), false));
    assert_eq!((counter.x[2], counter.x[3]), (0x2345_6789, 1), "CNTPCT");
    assert_eq!(read(access(15, [0, 1, 0, 1], None, false)).x[2], 0, "ACTLR");
    assert_eq!(read(access(15, [0, 9, 12, 0], None, false)).x[2], 0, "PMCR");
    assert_eq!(read(access(14, [0, 1, 1, 4], None, false)).x[2], 8, "DBGOSLSR");
    assert!(world.context(0).injected.is_empty());
    // What is not there is undefined, at the instruction.
    let regs = read(access(15, [0, 15, 0, 0], None, false));
    assert_eq!((regs.x[2], regs.pc), (u64::MAX, PC));
    assert_eq!(world.context(0).injected, [Injected::Undefined]);
}

#[test]
fn the_physical_timer_is_programmed_through_coprocessor_15() {
    let world = World::aarch32(1, 1);
    after(&world, access(15, [2, 0, 14, 0], Some(3), true), |regs| {
        (regs.x[2], regs.x[3]) = (0xffff_ffff_0000_5000, 7);
    });
    after(&world, access(15, [0, 14, 2, 1], None, true), |regs| regs.x[2] = 0xffff_ffff_0000_0001);
    let read = after(&world, access(15, [2, 0, 14, 0], Some(3), false), |_| ());
    assert_eq!((read.x[2], read.x[3]), (0x5000, 7));
    assert_eq!(after(&world, access(15, [0, 14, 2, 1], None, false), |_| ()).x[2], 1);
    let timer = world.domain.vcpus[0].run.lock().physical_timer;
    assert_eq!((timer.control, timer.compare), (1, 7 << 32 | 0x5000));
    assert!(timer.armed.is_some());
}

#[test]
fn the_flags_are_a_register_too() {
    let world = World::aarch32(1, 1);
    let flags = Trap::Coprocessor(CoprocessorAccess {
        coprocessor: 14,
        opc1: 0,
        crn: 0,
        crm: 1,
        opc2: 0,
        reg: 15,
        reg2: None,
        write: false,
        instruction_length: 4,
    });
    let regs = after(&world, flags, |regs| {
        regs.pstate |= 0xf << 28;
        regs.x[15] = 77;
    });
    assert_eq!((regs.pstate, regs.x[15]), (ARM, 77));
}

#[test]
fn it_blocks_go_on() {
    let world = World::aarch32(1, 1);
    let skipped = Trap::Skipped { instruction_length: 2 };
    let regs = after(&world, skipped, |regs| regs.pstate = THUMB_IN_BLOCK);
    // The block's last instruction is over, and with the `wfi` after it nothing else moves.
    assert_eq!((regs.pc, regs.pstate), (PC + 2, 0x1f3 | 1 << 30));
    let load = MmioAccess {
        ipa: Ipa(UART + 0x18),
        va: GuestVa(UART + 0x18),
        size: 4,
        write: false,
        reg: 2,
        sign_extend: false,
        wide: false,
        instruction_length: 2,
    };
    let regs = after(&world, Trap::MmioInBlock(load), |regs| regs.pstate = THUMB_IN_BLOCK);
    assert_eq!((regs.pc, regs.pstate), (PC + 2, 0x1f3 | 1 << 30));
    // An access that leads nowhere is an exception, which hal enters with the block's state saved.
    let lost = MmioAccess { ipa: Ipa(0x1000), ..load };
    after(&world, Trap::MmioInBlock(lost), |regs| regs.pstate = ARM);
    assert!(matches!(world.context(0).injected[..], [Injected::Abort { instruction: false, .. }]));
}

fn firmware(world: &World, function: u32, args: [u64; 3]) -> (u32, Next) {
    let seat = world.hv.seat(VcpuKey { domain: 0, vcpu: 0 }).unwrap();
    let mut run = seat.vcpu.run.lock();
    run.regs.pstate = ARM;
    run.regs.x[0] = 0xffff_ffff_0000_0000 | u64::from(function);
    run.regs.x[1..4].copy_from_slice(&args.map(|arg| 0xffff_ffff_0000_0000 | arg));
    let next = vpsci::call(&world.hv, &seat, &mut run);
    (run.regs.x[0] as u32, next)
}

#[test]
fn cpus_start_in_supervisor_mode() {
    let world = World::aarch32(3, 1);
    assert_eq!(firmware(&world, CPU_ON, [1, RAM + 0x8000, 0x9abc_def0]), (0, Next::Resume));
    let regs = world.regs(1);
    assert_eq!((regs.pc, regs.pstate & 0x1ff, regs.x[0]), (RAM + 0x8000, 0x1d3, 0x9abc_def0));
    assert!(world.context(1).spec.aarch32);
    // Bit 0 says Thumb; bit 1 alone says nothing that makes sense.
    assert_eq!(firmware(&world, CPU_ON, [2, RAM + 0x8002, 0]).0 as i32, -9);
    assert_eq!(firmware(&world, CPU_ON, [2, RAM + 0x8003, 0]).0, 0);
    assert_eq!((world.regs(2).pc, world.regs(2).pstate & 0x1ff), (RAM + 0x8002, 0x1f3));
}

#[test]
fn the_64_bit_convention_is_not_for_32_bit_guests() {
    let world = World::aarch32(2, 1);
    assert_eq!(firmware(&world, CPU_ON_64, [1, RAM, 0]).0 as i32, -1);
    assert_eq!(firmware(&world, FEATURES, [u64::from(CPU_ON_64), 0, 0]).0 as i32, -1);
    assert_eq!(firmware(&world, FEATURES, [u64::from(CPU_ON), 0, 0]).0, 0);
}

#[test]
fn floating_point_id_registers_are_read_by_vmrs() {
    let machine_id = SysReg::new(3, 0, 0, 3, 0);
    let world = World::aarch32(1, 1);
    assert_eq!(world.hv.id_registers.read(machine_id), Some(0));
    let regs = after(&world, access(10, [7, 7, 0, 0], None, false), |regs| regs.x[2] = 9);
    assert_eq!((regs.x[2], regs.pc), (0, PC + 4));
    after(&world, access(10, [7, 8, 0, 0], None, false), |_| ());
    assert_eq!(world.context(0).injected, [Injected::Undefined]);
}
