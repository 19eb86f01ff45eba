//! Exceptions that a loaded vCPU with an AArch32 kernel takes, in the places where AArch64 keeps its banked registers
//! (Arm ARM D1.20.2 and G8.2).

use vambrace_core::addr::GuestVa;
use vambrace_core::trap::GuestRegs;

use super::sysregs::{read_sysreg, write_sysreg};
use crate::aarch32::{Exception, external_abort};

/// Places of LR_abt and LR_und among the AArch64 registers.
const LR_ABORT: usize = 20;
const LR_UNDEFINED: usize = 22;

/// Goes to the handler of `exception`, at the present instruction. The mode's LR lies in `x[link]`.
fn enter(regs: &mut GuestRegs, exception: Exception, link: usize) {
    let (sctlr, vbar) = (read_sysreg!("sctlr_el1") as u32, read_sysreg!("vbar_el1") as u32 & !0x1f);
    let entry = exception.enter(regs.pc as u32, regs.pstate as u32, sctlr, vbar);
    if let Some(lr) = regs.x.get_mut(link) {
        *lr = entry.lr.into();
    }
    regs.pstate = entry.cpsr.into();
    regs.pc = entry.pc.into();
}

/// The undefined-instruction exception.
pub(super) fn take_undefined(regs: &mut GuestRegs) {
    write_sysreg!("spsr_und", regs.pstate);
    enter(regs, Exception::Undefined, LR_UNDEFINED);
}

/// A synchronous external data abort, or prefetch abort, for the virtual address.
pub(super) fn take_abort(regs: &mut GuestRegs, va: GuestVa, instruction: bool) {
    let status = external_abort(read_sysreg!("tcr_el1") as u32).into();
    // FAR_EL1 holds DFAR below and IFAR above; ESR_EL1 is DFSR.
    let far = read_sysreg!("far_el1");
    write_sysreg!("spsr_abt", regs.pstate);
    if instruction {
        write_sysreg!("ifsr32_el2", status);
        write_sysreg!("far_el1", far & 0xffff_ffff | va.0 << 32);
        enter(regs, Exception::PrefetchAbort, LR_ABORT);
    } else {
        write_sysreg!("esr_el1", status);
        write_sysreg!("far_el1", far & !0xffff_ffff | va.0 & 0xffff_ffff);
        enter(regs, Exception::DataAbort, LR_ABORT);
    }
}
