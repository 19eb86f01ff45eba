//! `domctl`: what a toolstack does to one domain (`domctl.h`). One file for each noun.
//!
//! A command's structure is read from the call once, whichever release's layout it has; the answer goes back in the same
//! layout. Errors are those that Xen gives, for the tools' messages depend on them.

mod affinity;
mod caches;
mod context;
mod create;
mod devices;
mod info;
mod interrupts;
mod life;
mod node;
mod scheduler;
mod settings;
mod tables;
mod uart;
mod vcpu;
mod width;

#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use core::mem::offset_of;

use vambrace_abi::domctl::*;
use vambrace_abi::domid::DOMID_INVALID;
use vambrace_abi::errno::Errno;

pub(super) use self::info::info;
use super::Outcome;
use super::toolstack::{self, Release};
use crate::domain::{Domain, Vcpu};
use crate::machine::Machine;

/// A call of a release that is known, by a domain that may make it.
pub(super) type Call<'c, 'a, M> = toolstack::Call<'c, 'a, M, XenDomctl>;

impl<M: Machine> Call<'_, '_, M> {
    /// Answers with a domain's number.
    fn answer_domain(&self, id: u16) -> Result<(), Errno> {
        self.write(offset_of!(XenDomctl, domain), &id)
    }

    /// EINVAL for the caller's own domain: it would wait for itself.
    fn not_self(&self, domain: &Domain<M>) -> Result<(), Errno> {
        if domain.id == self.caller.domain().id { Err(Errno::EINVAL) } else { Ok(()) }
    }
}

/// The vCPU with the number; the error without one is the command's.
fn vcpu<M: Machine>(domain: &Domain<M>, index: u32, errno: Errno) -> Result<&Arc<Vcpu<M>>, Errno> {
    domain.vcpus.get(index as usize).ok_or(errno)
}

/// Carries out a domctl.
pub(super) fn perform<M: Machine>(call: &Call<'_, '_, M>) -> Outcome {
    match (call.head.cmd, call.head.domain) {
        (XEN_DOMCTL_CREATEDOMAIN, _) => return create::create(call).into(),
        // Asked of no domain: whether a device is assigned to any.
        (XEN_DOMCTL_TEST_ASSIGN_DEVICE | XEN_DOMCTL_VM_EVENT_OP, DOMID_INVALID) => {
            return Outcome::Done(Err(Errno::EOPNOTSUPP));
        }
        _ => {}
    }
    let hv = call.caller.hv;
    let domain = match (call.head.cmd, call.release) {
        // There it is also the way from one domain to the next, which xenconsoled goes: for a number that nobody has,
        // the next domain answers. Xen 4.18 ended that.
        (XEN_DOMCTL_GETDOMAININFO, Release::Xen417) => hv.domain_from(call.head.domain),
        _ => hv.domain(call.head.domain),
    };
    match domain {
        Some(domain) => on_domain(call, &domain),
        None => Outcome::Done(Err(Errno::ESRCH)),
    }
}

fn on_domain<M: Machine>(call: &Call<'_, '_, M>, domain: &Arc<Domain<M>>) -> Outcome {
    let recent = call.release == Release::Xen420;
    let result = match call.head.cmd {
        XEN_DOMCTL_DESTROYDOMAIN => return life::destroy(call, domain),
        XEN_DOMCTL_CACHEFLUSH => return caches::flush(call, domain),
        XEN_DOMCTL_PAUSEDOMAIN => life::pause(call, domain),
        XEN_DOMCTL_UNPAUSEDOMAIN => life::unpause(call, domain),
        XEN_DOMCTL_RESUMEDOMAIN => life::resume(call, domain),
        XEN_DOMCTL_SOFT_RESET => life::soft_reset(call, domain),
        XEN_DOMCTL_MAX_VCPUS => life::max_vcpus(call, domain),
        XEN_DOMCTL_GETDOMAININFO => info::get(call, domain),
        XEN_DOMCTL_SETVCPUAFFINITY => affinity::set(call, domain),
        XEN_DOMCTL_GETVCPUAFFINITY => affinity::get(call, domain),
        XEN_DOMCTL_SETNODEAFFINITY => node::set(call),
        XEN_DOMCTL_GETNODEAFFINITY => node::get(call),
        XEN_DOMCTL_SETVCPUCONTEXT => context::set(call, domain),
        XEN_DOMCTL_GETVCPUCONTEXT => context::get(call, domain),
        XEN_DOMCTL_GETVCPUINFO => vcpu::info(call, domain),
        XEN_DOMCTL_SCHEDULER_OP => scheduler::op(call, domain),
        XEN_DOMCTL_MAX_MEM => settings::max_mem(call, domain),
        XEN_DOMCTL_SETDOMAINHANDLE => settings::handle(call, domain),
        XEN_DOMCTL_SETDEBUGGING => settings::debugging(call, domain),
        XEN_DOMCTL_SETTIMEOFFSET => settings::time_offset(call, domain),
        XEN_DOMCTL_SUBSCRIBE => settings::subscribe(call, domain),
        XEN_DOMCTL_SET_VIRQ_HANDLER => settings::virq_handler(call, domain),
        XEN_DOMCTL_SET_TARGET => settings::target(call, domain),
        XEN_DOMCTL_SET_ADDRESS_SIZE => width::set(call, domain),
        XEN_DOMCTL_GET_ADDRESS_SIZE => width::get(call, domain),
        XEN_DOMCTL_IRQ_PERMISSION => interrupts::permit(call, domain),
        XEN_DOMCTL_BIND_PT_IRQ => interrupts::bind(call, domain),
        XEN_DOMCTL_UNBIND_PT_IRQ => interrupts::unbind(call, domain),
        XEN_DOMCTL_IOMEM_PERMISSION => devices::permit(call, domain),
        XEN_DOMCTL_MEMORY_MAPPING => devices::map(call, domain),
        XEN_DOMCTL_VUART_OP => uart::op(call, domain),
        XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE => tables::get(call, domain),
        XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE => tables::set(call, domain),
        XEN_DOMCTL_SET_LLC_COLORS if recent => caches::colors(call),
        // As Xen without an IOMMU, introspection, or overlays of the device tree.
        XEN_DOMCTL_ASSIGN_DEVICE
        | XEN_DOMCTL_TEST_ASSIGN_DEVICE
        | XEN_DOMCTL_DEASSIGN_DEVICE
        | XEN_DOMCTL_GET_DEVICE_GROUP
        | XEN_DOMCTL_VM_EVENT_OP
        | XEN_DOMCTL_MONITOR_OP => Err(Errno::EOPNOTSUPP),
        XEN_DOMCTL_DT_OVERLAY if recent => Err(Errno::EOPNOTSUPP),
        // What no ARM build of Xen has: shadow_op, sendtrigger, and x86's.
        _ => Err(Errno::ENOSYS),
    };
    Outcome::Done(result)
}
