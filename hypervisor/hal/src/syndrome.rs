//! What a syndrome says: ESR_EL2 (Arm ARM D23.2.39) and ARMv7's HSR (ARMv7 ARM B3.13.6), whose classes and fields are
//! the former's as far as AArch32 guests have them.

use vambrace_core::addr::{GuestVa, Ipa};
#[cfg(target_arch = "aarch64")]
use vambrace_core::trap::SysReg;
use vambrace_core::trap::{CoprocessorAccess, MmioAccess, Trap, condition_passed};

use crate::aarch32::transfer_register;
use crate::cpu::world;

/// The instruction-specific part.
const ISS: u64 = 0x1ff_ffff;
/// Fault status of an asynchronous external abort, which ARMv7 reports as a data abort. AArch64 has a vector for it.
const ASYNCHRONOUS: u64 = 0b01_0001;

fn fault_va(instruction: bool) -> GuestVa {
    world::fault_va(instruction)
}

/// The intermediate physical address of a stage-2 fault.
///
/// HPFAR holds it for translation and access-flag faults and for faults on a stage-1 walk; for a permission fault
/// it is unknown (Arm ARM D23.2.60), and the address is translated again.
#[inline(always)]
fn fault_ipa(iss: u64, instruction: bool) -> Option<Ipa> {
    let (fault_class, table_walk) = (iss >> 2 & 0xf, iss & 1 << 7 != 0);
    let va = fault_va(instruction);
    let page = if fault_class == 0b0011 && !table_walk {
        world::walk_stage1(va)?
    } else {
        Ipa(world::fault_ipa() >> 4 << 12)
    };
    Some(Ipa(page.0 | va.page_offset()))
}

/// Decodes a syndrome of a guest in AArch64 state.
#[cfg(target_arch = "aarch64")]
#[inline]
pub(crate) fn decode(esr: u64) -> Trap {
    let (class, iss) = (esr >> 26 & 0x3f, esr & ISS);
    match class {
        0x16 => Trap::Hypercall { immediate: iss as u16 },
        0x17 => Trap::SecureCall { immediate: iss as u16 },
        0x18 => Trap::SystemRegister {
            register: SysReg::new(
                (iss >> 20 & 3) as u16,
                (iss >> 14 & 7) as u16,
                (iss >> 10 & 15) as u16,
                (iss >> 1 & 15) as u16,
                (iss >> 17 & 7) as u16,
            ),
            write: iss & 1 == 0,
            reg: (iss >> 5 & 31) as u8,
        },
        0x24 => decode_data_abort(esr, iss),
        0x20 => decode_instruction_abort(iss),
        0x01 => Trap::Wait { event: iss & 1 != 0, instruction_length: 4 },
        0x07 | 0x09 | 0x19 | 0x1a | 0x1c | 0x1d => Trap::Disabled,
        _ => Trap::Unknown { syndrome: esr },
    }
}

/// Decodes a syndrome of a guest in AArch32 state, whose CPSR was `cpsr`.
#[cfg_attr(target_arch = "aarch64", cold)]
#[inline(never)]
pub(crate) fn decode_aarch32(esr: u64, cpsr: u64) -> Trap {
    /// The bits of ITSTATE and the Thumb state.
    const IT_STATE: u64 = 3 << 25 | 0x3f << 10;
    const THUMB: u64 = 1 << 5;
    let (class, iss) = (esr >> 26 & 0x3f, esr & ISS);
    match class {
        0x12 => Trap::Hypercall { immediate: iss as u16 },
        // The immediate of an AArch32 `smc` is not in the syndrome.
        0x13 => conditional(esr, cpsr, |_| Trap::SecureCall { immediate: 0 }),
        0x24 if iss & 0x3f == ASYNCHRONOUS => Trap::SystemError { syndrome: esr },
        0x24 => match decode_data_abort(esr, iss) {
            Trap::Mmio(access) if cpsr & THUMB != 0 && cpsr & IT_STATE != 0 => Trap::MmioInBlock(access),
            other => other,
        },
        0x20 => decode_instruction_abort(iss),
        0x01 => conditional(esr, cpsr, |instruction_length| Trap::Wait {
            event: iss & 1 != 0,
            instruction_length,
        }),
        0x03 => decode_coprocessor(esr, iss, cpsr, 15),
        0x05 => decode_coprocessor(esr, iss, cpsr, 14),
        0x04 => decode_coprocessor_pair(esr, iss, cpsr, 15),
        0x0c => decode_coprocessor_pair(esr, iss, cpsr, 14),
        // `vmrs` of a floating-point ID register.
        0x08 => decode_coprocessor(esr, iss, cpsr, 10),
        0x06 | 0x07 | 0x0a => conditional(esr, cpsr, |_| Trap::Disabled),
        0x09 => Trap::Disabled,
        _ => Trap::Unknown { syndrome: esr },
    }
}

fn decode_instruction_abort(iss: u64) -> Trap {
    match fault_ipa(iss, true) {
        Some(ipa) => Trap::InstructionAbort { va: fault_va(true), ipa },
        // The guest changed its tables meanwhile: run the instruction again.
        None => Trap::Interrupt,
    }
}

fn instruction_length(esr: u64) -> u8 {
    if esr & 1 << 25 != 0 { 4 } else { 2 }
}

/// What an instruction of a class whose syndromes carry AArch32's condition (CV and COND) means; it is skipped where
/// the condition does not hold.
fn conditional(esr: u64, cpsr: u64, meaning: impl FnOnce(u8) -> Trap) -> Trap {
    let instruction_length = instruction_length(esr);
    let condition = (esr & 1 << 24 != 0).then_some((esr >> 20 & 0xf) as u8);
    if condition_passed(condition, cpsr) {
        meaning(instruction_length)
    } else {
        Trap::Skipped { instruction_length }
    }
}

// On the path of every emulated access; it has two callers, of which one is hot.
#[inline(always)]
fn decode_data_abort(esr: u64, iss: u64) -> Trap {
    let Some(ipa) = fault_ipa(iss, false) else { return Trap::Interrupt };
    let (valid, write, table_walk) = (iss & 1 << 24 != 0, iss & 1 << 6 != 0, iss & 1 << 7 != 0);
    let cache_maintenance = iss & 1 << 8 != 0;
    if !valid || table_walk || cache_maintenance {
        return Trap::DataAbort { va: fault_va(false), ipa, write, table_walk };
    }
    Trap::Mmio(MmioAccess {
        ipa,
        va: fault_va(false),
        size: 1 << (iss >> 22 & 3),
        write,
        reg: (iss >> 16 & 31) as u8,
        sign_extend: iss & 1 << 21 != 0,
        wide: iss & 1 << 15 != 0,
        instruction_length: instruction_length(esr),
    })
}

fn decode_coprocessor(esr: u64, iss: u64, cpsr: u64, coprocessor: u8) -> Trap {
    conditional(esr, cpsr, |instruction_length| {
        Trap::Coprocessor(CoprocessorAccess {
            coprocessor,
            opc1: (iss >> 14 & 7) as u8,
            crn: (iss >> 10 & 15) as u8,
            crm: (iss >> 1 & 15) as u8,
            opc2: (iss >> 17 & 7) as u8,
            reg: transfer_register(iss),
            reg2: None,
            write: iss & 1 == 0,
            instruction_length,
        })
    })
}

fn decode_coprocessor_pair(esr: u64, iss: u64, cpsr: u64, coprocessor: u8) -> Trap {
    conditional(esr, cpsr, |instruction_length| {
        Trap::Coprocessor(CoprocessorAccess {
            coprocessor,
            opc1: (iss >> 16 & 15) as u8,
            crn: 0,
            crm: (iss >> 1 & 15) as u8,
            opc2: 0,
            reg: (iss >> 5 & 31) as u8,
            reg2: Some((iss >> 10 & 31) as u8),
            write: iss & 1 == 0,
            instruction_length,
        })
    })
}
