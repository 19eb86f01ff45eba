//! Hypercalls: one file for each number, one function for each operation.
//!
//! A call arrives with its number in x16 and its arguments in x0 to x4 (`arch-arm.h`). Arguments are allegations of the
//! guest's; what they point to is copied in once, checked, and acted on. The answer goes to x0.

mod bitmap;
mod console_io;
mod domctl;
mod event_channel;
mod grant_table;
mod hvm;
mod memory;
mod multicall;
mod platform;
mod sched;
mod sysctl;
mod toolstack;
mod vcpu;
mod version;
mod vm_assist;
mod xsm;

use alloc::sync::Arc;
use core::ops::Deref;

use vambrace_abi::domid::DOMID_SELF;
use vambrace_abi::errno::{Errno, HypercallResult, to_register};
use vambrace_abi::hypercall as number;

use crate::domain::{Domain, Seat, VcpuRun};
use crate::hypervisor::Hypervisor;
use crate::machine::{CpuId, Machine};
use crate::run::Next;
use crate::umem::GuestMemory;

/// Length of the hypercall instruction, in every instruction set.
const HVC_BYTES: u64 = 4;

/// Who calls, and where.
pub(crate) struct Caller<'a, M: Machine> {
    pub(crate) hv: &'a Hypervisor<M>,
    pub(crate) cpu: CpuId,
    pub(crate) seat: &'a Seat<M>,
}

impl<'a, M: Machine> Caller<'a, M> {
    /// The caller's memory. Its stage-2 tables must not be locked while that is used.
    pub(crate) fn memory(&self) -> GuestMemory<'a, M> {
        let (m, domain) = (&self.hv.machine, self.domain());
        if domain.is_hardware { GuestMemory::of_hardware(m) } else { GuestMemory::new(m, &domain.p2m) }
    }

    pub(crate) fn domain(&self) -> &'a Domain<M> {
        &self.seat.domain
    }

    /// Whether `domid` names the caller's own domain.
    pub(crate) fn is_self(&self, domid: u16) -> bool {
        domid == DOMID_SELF || domid == self.domain().id
    }

    /// The domain that a call names: the caller's own, or another, which only the privileged may name. ESRCH, EPERM.
    pub(crate) fn target(&self, domid: u16) -> Result<Target<'a, M>, Errno> {
        if self.is_self(domid) {
            return Ok(Target::Own(self.domain()));
        }
        let domain = self.hv.domain(domid).ok_or(Errno::ESRCH)?;
        self.privileged()?;
        Ok(Target::Other(domain))
    }

    /// Refuses all but the hardware domain.
    pub(crate) fn privileged(&self) -> Result<(), Errno> {
        if self.domain().is_hardware { Ok(()) } else { Err(Errno::EPERM) }
    }
}

/// The domain that a call is about.
pub(crate) enum Target<'a, M: Machine> {
    /// The caller's.
    Own(&'a Domain<M>),
    /// Another.
    Other(Arc<Domain<M>>),
}

impl<M: Machine> Deref for Target<'_, M> {
    type Target = Domain<M>;

    fn deref(&self) -> &Domain<M> {
        match self {
            Self::Own(domain) => domain,
            Self::Other(domain) => domain,
        }
    }
}

/// How a call ended.
pub(crate) enum Outcome {
    /// With a number or an error for x0.
    Done(HypercallResult),
    /// With an answer, and something to do with the vCPU before it goes on.
    Then(HypercallResult, Next),
    /// Not yet: the vCPU makes the call again with these arguments, and others have their turn before.
    Again([u64; 5]),
}

impl From<HypercallResult> for Outcome {
    fn from(result: HypercallResult) -> Self {
        Self::Done(result)
    }
}

/// Carries out the hypercall that the vCPU just made.
#[inline]
pub(crate) fn dispatch<M: Machine>(
    hv: &Hypervisor<M>,
    cpu: CpuId,
    seat: &Seat<M>,
    run: &mut VcpuRun<M>,
) -> Next {
    let caller = Caller { hv, cpu, seat };
    let x = &run.regs.x;
    // An AArch32 guest calls with r12 and 32-bit arguments, which the register file holds zero-extended.
    let (op, args) = if run.regs.is_aarch32() {
        (x[12] & 0xffff_ffff, [x[0], x[1], x[2], x[3], x[4]].map(|a| a & 0xffff_ffff))
    } else {
        (x[16], [x[0], x[1], x[2], x[3], x[4]])
    };
    let (result, next) = match perform(&caller, op, args) {
        Outcome::Done(result) => (result, Next::Resume),
        Outcome::Then(result, next) => (result, next),
        Outcome::Again(args) => {
            run.regs.pc = run.regs.pc.wrapping_sub(HVC_BYTES);
            for (register, value) in run.regs.x.iter_mut().zip(args) {
                *register = value;
            }
            return Next::Resume;
        }
    };
    run.regs.x[0] = to_register(result);
    next
}

#[inline]
fn perform<M: Machine>(caller: &Caller<'_, M>, op: u64, args: [u64; 5]) -> Outcome {
    match u32::try_from(op).unwrap_or(u32::MAX) {
        number::HYPERVISOR_XEN_VERSION => version::op(caller, args[0], args[1]).into(),
        number::HYPERVISOR_EVENT_CHANNEL_OP => event_channel::op(caller, args),
        number::HYPERVISOR_SCHED_OP => sched::op(caller, args[0], args[1]),
        number::HYPERVISOR_CONSOLE_IO => console_io::op(caller, args),
        number::HYPERVISOR_MEMORY_OP => memory::op(caller, args),
        number::HYPERVISOR_GRANT_TABLE_OP => grant_table::op(caller, args),
        number::HYPERVISOR_VCPU_OP => vcpu::op(caller, args[0], args[1], args[2]).into(),
        number::HYPERVISOR_HVM_OP => hvm::op(caller, args[0], args[1]).into(),
        number::HYPERVISOR_MULTICALL => multicall::op(caller, args),
        number::HYPERVISOR_PLATFORM_OP => platform::op(caller, args[0]).into(),
        number::HYPERVISOR_VM_ASSIST => vm_assist::op(caller, args[0], args[1]).into(),
        number::HYPERVISOR_DOMCTL => toolstack::domctl(caller, args[0]),
        number::HYPERVISOR_SYSCTL => toolstack::sysctl(caller, args[0]),
        number::HYPERVISOR_XSM_OP => xsm::op().into(),
        // physdev_op among them: without PCI pass-through, Linux takes that for an answer and goes on.
        _ => Outcome::Done(Err(Errno::ENOSYS)),
    }
}
