//! Pools of CPUs (`XEN_SYSCTL_cpupool_op`).

use vambrace_abi::domctl::XEN_SCHEDULER_CREDIT2;
use vambrace_abi::errno::{Errno, HypercallResult};
use vambrace_abi::sysctl::*;

use super::Call;
use crate::hypercall::bitmap;
use crate::machine::Machine;
use crate::sched::CpuMask;

pub(super) fn op<M: Machine>(call: &Call<'_, '_, M>) -> HypercallResult {
    let request: XenSysctlCpupoolOp = call.body()?;
    let hv = call.caller.hv;
    let (scheduler, now, pool) = (&hv.scheduler, hv.machine.now(), request.cpupool_id);
    let named = |value: u32| (value != XEN_SYSCTL_CPUPOOL_PAR_ANY).then_some(value);
    let cpu = named(request.cpu).map(|cpu| cpu as usize);
    let kick = |cpus: CpuMask| {
        hv.kick_all(cpus);
        call.answer(&request)
    };
    match request.op {
        XEN_SYSCTL_CPUPOOL_OP_CREATE => {
            if request.sched_id != XEN_SCHEDULER_CREDIT2 {
                return Err(Errno::ENOENT);
            }
            let cpupool_id = scheduler.create_pool(named(pool))?;
            call.answer(&XenSysctlCpupoolOp { cpupool_id, ..request })
        }
        XEN_SYSCTL_CPUPOOL_OP_DESTROY => {
            scheduler.destroy_pool(pool)?;
            call.answer(&request)
        }
        XEN_SYSCTL_CPUPOOL_OP_INFO => {
            let found = scheduler.pool(pool).ok_or(Errno::ENOENT)?;
            bitmap::write(call.caller, &request.cpumap, found.cpus)?;
            call.answer(&XenSysctlCpupoolOp {
                cpupool_id: found.id,
                sched_id: XEN_SCHEDULER_CREDIT2,
                n_dom: found.domains,
                ..request
            })
        }
        XEN_SYSCTL_CPUPOOL_OP_ADDCPU => kick(scheduler.add_pool_cpu(pool, cpu, now)?),
        XEN_SYSCTL_CPUPOOL_OP_RMCPU => {
            let removed = scheduler.remove_pool_cpu(pool, cpu, now).map_err(|errno| match errno {
                // `sysctl.h` has ENODEV for a CPU that is not in the pool.
                Errno::EADDRNOTAVAIL => Errno::ENODEV,
                errno => errno,
            });
            kick(removed?)
        }
        XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN => {
            let domain =
                u16::try_from(request.domid).ok().and_then(|id| hv.domain(id)).ok_or(Errno::ESRCH)?;
            if domain.id == call.caller.domain().id {
                return Err(Errno::EPERM);
            }
            kick(scheduler.move_domain(domain.id, pool, now)?)
        }
        XEN_SYSCTL_CPUPOOL_OP_FREEINFO => {
            bitmap::write(call.caller, &request.cpumap, scheduler.free_cpus())?;
            call.answer(&request)
        }
        _ => Err(Errno::ENOSYS),
    }
}
