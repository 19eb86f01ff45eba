//! A vCPU's registers (`XEN_DOMCTL_setvcpucontext`, `_getvcpucontext`; `arch-arm.h`).

use vambrace_abi::arch_arm::*;
use vambrace_abi::domctl::XenDomctlVcpucontext;
use vambrace_abi::errno::{Errno, HypercallResult};

use super::Call;
use crate::domain::Domain;
use crate::machine::{Machine, SystemState};
use crate::trap::GuestRegs;

const MODE: u64 = 0x1f;

/// Whether a kernel of the width may be in this processor state.
const fn is_state_of(pstate: u64, aarch32: bool) -> bool {
    let mode = pstate & MODE;
    if aarch32 {
        matches!(
            mode,
            PSR_MODE_USR
                | PSR_MODE_FIQ
                | PSR_MODE_IRQ
                | PSR_MODE_SVC
                | PSR_MODE_ABT
                | PSR_MODE_UND
                | PSR_MODE_SYS
        )
    } else {
        matches!(mode, PSR_MODE_EL1H | PSR_MODE_EL1T | PSR_MODE_EL0T)
    }
}

/// Refuses processor states, present and saved, that no kernel of the width may be in.
fn check(regs: &VcpuGuestCoreRegs, aarch32: bool) -> Result<(), Errno> {
    let saved = [regs.spsr_fiq, regs.spsr_irq, regs.spsr_und, regs.spsr_abt].map(u64::from);
    // A 64-bit kernel has no other than SPSR_EL1.
    let others = if aarch32 { &saved[..] } else { &[] };
    let fine = is_state_of(regs.cpsr, aarch32)
        && others.iter().chain([&regs.spsr_el1]).all(|&saved| saved == 0 || is_state_of(saved, aarch32));
    if fine { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Gives a vCPU its registers, or with no structure those of a reset, and switches it on or off.
pub(super) fn set<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request: XenDomctlVcpucontext = call.body()?;
    let hv = call.caller.hv;
    call.not_self(domain)?;
    let vcpu = super::vcpu(domain, request.vcpu, Errno::EINVAL)?;
    let given = if request.ctxt.is_null() {
        VcpuGuestContext { sctlr: SCTLR_GUEST_INIT, ..Default::default() }
    } else {
        let given = call.caller.memory().read(request.ctxt)?;
        check(&given.user_regs, domain.is_aarch32())?;
        given
    };
    if domain.is_dying() {
        return Err(Errno::ESRCH);
    }
    let core = &given.user_regs;
    let regs = GuestRegs { x: core.x, pc: core.pc64, pstate: core.cpsr };
    let state = SystemState {
        sctlr: given.sctlr,
        tcr: given.ttbcr,
        ttbr0: given.ttbr0,
        ttbr1: given.ttbr1,
        spsr: core.spsr_el1,
        sp_el0: core.sp_el0,
        sp_el1: core.sp_el1,
        elr: core.elr_el1,
        spsr_fiq: core.spsr_fiq,
        spsr_irq: core.spsr_irq,
        spsr_und: core.spsr_und,
        spsr_abt: core.spsr_abt,
    };
    hv.pause(domain);
    {
        let mut run = vcpu.run.lock();
        hv.machine.set_system_state(&mut run.context, &regs, &state);
        run.regs = regs;
    }
    if given.flags & VGCF_ONLINE != 0 {
        hv.bring_online(vcpu);
    } else {
        hv.take_offline(vcpu);
    }
    hv.unpause(domain);
    Ok(0)
}

/// Takes a vCPU's registers; ENODATA for one that never had any.
pub(super) fn get<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request: XenDomctlVcpucontext = call.body()?;
    let hv = call.caller.hv;
    call.not_self(domain)?;
    let vcpu = super::vcpu(domain, request.vcpu, Errno::EINVAL)?;
    hv.pause(domain);
    let (mut regs, state) = {
        let run = vcpu.run.lock();
        let mut regs = run.regs.clone();
        let state = hv.machine.system_state(&run.context, &mut regs);
        (regs, state)
    };
    hv.unpause(domain);
    // Every state that a vCPU can be in has bits set.
    if regs.pstate == 0 {
        return Err(Errno::ENODATA);
    }
    let online = vcpu.is_online();
    let context = VcpuGuestContext {
        flags: if online { VGCF_ONLINE } else { 0 },
        user_regs: VcpuGuestCoreRegs {
            x: core::mem::take(&mut regs.x),
            pc64: regs.pc,
            cpsr: regs.pstate,
            spsr_el1: state.spsr,
            spsr_fiq: state.spsr_fiq,
            spsr_irq: state.spsr_irq,
            spsr_und: state.spsr_und,
            spsr_abt: state.spsr_abt,
            sp_el0: state.sp_el0,
            sp_el1: state.sp_el1,
            elr_el1: state.elr,
        },
        sctlr: state.sctlr,
        ttbcr: state.tcr,
        ttbr0: state.ttbr0,
        ttbr1: state.ttbr1,
        ..Default::default()
    };
    call.caller.memory().write(request.ctxt, &context)?;
    Ok(0)
}
