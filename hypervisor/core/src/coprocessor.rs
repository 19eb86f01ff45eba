//! Coprocessor registers of AArch32 code that trap: most are the AArch32 names of system registers, and answered as
//! those (Arm ARM, G7.2 and G7.3; DDI 0406C, B3.17).

use crate::domain::{Seat, VcpuRun};
use crate::emulate::{
    ACTLR, CNTP_CTL, CNTP_CVAL, CNTP_TVAL, ICC_ASGI1R, ICC_SGI0R, ICC_SGI1R, ICC_SRE, OSLSR, read_register,
    write_register,
};
use crate::hypervisor::Hypervisor;
use crate::machine::{CpuId, Machine};
use crate::run::Next;
use crate::trap::{CoprocessorAccess, SysReg};

/// What answers to a coprocessor register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    /// The system register of this AArch64 name.
    Register(SysReg),
    /// The physical counter, which is only read.
    Counter,
    /// Nothing: it reads as zero, and writes go nowhere.
    Inert,
}

/// Which register `access` names; `None` where there is none.
fn target(access: &CoprocessorAccess) -> Option<Target> {
    let CoprocessorAccess { coprocessor, opc1, crn, crm, opc2, reg2, .. } = *access;
    let id = |crm: u8, opc2: u8| Target::Register(SysReg::new(3, 0, 0, crm.into(), opc2.into()));
    Some(match (coprocessor, reg2) {
        (15, None) => match (opc1, crn, crm, opc2) {
            (0, 0, 0, 0) => id(0, 0),
            // Of CRm 3 AArch64 shows registers in the first four places that AArch32 reads by `vmrs`.
            (0, 0, 1 | 2, _) | (0, 0, 3, 4..) => id(crm, opc2),
            (0, 0, 3..=7, _) => Target::Inert,
            (0, 1, 0, 1) => Target::Register(ACTLR),
            (0, 12, 12, 5) => Target::Register(ICC_SRE),
            (0, 14, 2, 0) => Target::Register(CNTP_TVAL),
            (0, 14, 2, 1) => Target::Register(CNTP_CTL),
            // ACTLR2; performance monitors; L2CTLR and L2ECTLR, in which kernels for Cortex-A7 and A15 count CPUs.
            (0, 1, 0, 3) | (0, 9, 12..=14, _) | (0, 14, 8.., _) | (1, 9, 0, 2 | 3) => Target::Inert,
            _ => return None,
        },
        (15, Some(_)) => match (opc1, crm) {
            (0, 12) => Target::Register(ICC_SGI1R),
            (1, 12) => Target::Register(ICC_ASGI1R),
            (2, 12) => Target::Register(ICC_SGI0R),
            (0, 14) => Target::Counter,
            (2, 14) => Target::Register(CNTP_CVAL),
            // PMCCNTR.
            (0, 9) => Target::Inert,
            _ => return None,
        },
        // Debug registers: DBGDIDR, like the rest, reads as zero, which is no version of debug that software knows.
        (14, None) => match (opc1, crn, crm, opc2) {
            (0, 1, 1, 4) => Target::Register(OSLSR),
            (0, ..) => Target::Inert,
            _ => return None,
        },
        (14, Some(_)) if opc1 == 0 => Target::Inert,
        (10, None) => match crn {
            5..=7 => id(3, 7 - crn),
            _ => return None,
        },
        _ => return None,
    })
}

/// Carries out an access to a coprocessor register; one that does not exist is undefined to the guest.
#[cold]
pub(crate) fn access<M: Machine>(
    hv: &Hypervisor<M>,
    cpu: CpuId,
    seat: &Seat<M>,
    run: &mut VcpuRun<M>,
    access: CoprocessorAccess,
) -> Next {
    let target = target(&access);
    let done = if access.write {
        let low = run.regs.get(access.reg) & 0xffff_ffff;
        let high = access.reg2.map_or(0, |reg| run.regs.get(reg) & 0xffff_ffff);
        match target {
            Some(Target::Register(register)) => {
                write_register(hv, cpu, seat, run, register, high << 32 | low)
            }
            Some(Target::Inert) => true,
            Some(Target::Counter) | None => false,
        }
    } else {
        let value = match target {
            Some(Target::Register(register)) => read_register(hv, run, register),
            Some(Target::Counter) => Some(hv.machine.now()),
            Some(Target::Inert) => Some(0),
            None => None,
        };
        if let Some(value) = value {
            put(run, &access, value);
        }
        value.is_some()
    };
    if done {
        run.regs.skip(access.instruction_length);
    } else {
        let CoprocessorAccess { coprocessor, opc1, crn, crm, opc2, .. } = access;
        hv.guest_warning(
            seat,
            format_args!("access to p{coprocessor}, {opc1}, c{crn}, c{crm}, {opc2} (pc {:#x})", run.regs.pc),
        );
        hv.machine.inject_undefined(&mut run.regs, &mut run.context);
    }
    Next::Resume
}

/// Loads what was read.
fn put<M: Machine>(run: &mut VcpuRun<M>, access: &CoprocessorAccess, value: u64) {
    const FLAGS: u64 = 0xf << 28;
    if let Some(high) = access.reg2 {
        run.regs.set(high, value >> 32);
    }
    if access.reg == 15 {
        run.regs.pstate = run.regs.pstate & !FLAGS | value & FLAGS;
    } else {
        run.regs.set(access.reg, value & 0xffff_ffff);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn narrow(coprocessor: u8, opc1: u8, crn: u8, crm: u8, opc2: u8) -> Option<Target> {
        let reg2 = None;
        let (reg, write, instruction_length) = (0, false, 4);
        target(&CoprocessorAccess { coprocessor, opc1, crn, crm, opc2, reg, reg2, write, instruction_length })
    }

    fn wide(coprocessor: u8, opc1: u8, crm: u8) -> Option<Target> {
        target(&CoprocessorAccess {
            coprocessor,
            opc1,
            crn: 0,
            crm,
            opc2: 0,
            reg: 0,
            reg2: Some(1),
            write: false,
            instruction_length: 4,
        })
    }

    #[test]
    fn registers_have_their_other_names() {
        let id = |crm, op2| Some(Target::Register(SysReg::new(3, 0, 0, crm, op2)));
        assert_eq!(narrow(15, 0, 0, 1, 1), id(1, 1), "ID_PFR1");
        assert_eq!(narrow(15, 0, 0, 2, 5), id(2, 5), "ID_ISAR5");
        assert_eq!(narrow(15, 0, 0, 3, 0), Some(Target::Inert), "MVFR0 is no coprocessor 15 register");
        assert_eq!(narrow(15, 0, 0, 3, 4), id(3, 4), "ID_PFR2");
        assert_eq!(narrow(15, 0, 0, 4, 0), Some(Target::Inert), "ID_AA64PFR0 has no AArch32 name");
        assert_eq!(narrow(10, 7, 7, 0, 0), id(3, 0), "MVFR0");
        assert_eq!(narrow(10, 7, 5, 0, 0), id(3, 2), "MVFR2");
        assert_eq!(wide(15, 2, 14), Some(Target::Register(CNTP_CVAL)));
        assert_eq!(wide(15, 0, 12), Some(Target::Register(ICC_SGI1R)));
        assert_eq!(narrow(15, 0, 1, 0, 0), None, "SCTLR is not for the hypervisor to answer");
        assert_eq!(narrow(14, 1, 0, 0, 0), None, "trace");
        assert_eq!(narrow(14, 0, 0, 0, 0), Some(Target::Inert), "DBGDIDR");
    }
}
