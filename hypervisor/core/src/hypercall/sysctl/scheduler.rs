//! The scheduler (`XEN_SYSCTL_sched_id`, `XEN_SYSCTL_scheduler_op`): its parameters are credit2's.

use vambrace_abi::domctl::XEN_SCHEDULER_CREDIT2;
use vambrace_abi::errno::{Errno, HypercallResult};
use vambrace_abi::sysctl::*;
use zerocopy::{FromBytes, IntoBytes};

use super::Call;
use crate::machine::Machine;

pub(super) fn id<M: Machine>(call: &Call<'_, '_, M>) -> HypercallResult {
    call.answer(&XenSysctlSchedId { sched_id: XEN_SCHEDULER_CREDIT2 })
}

/// Sets or gets a pool's shortest turn. A set is answered by what is now.
pub(super) fn op<M: Machine>(call: &Call<'_, '_, M>) -> HypercallResult {
    let request: XenSysctlSchedulerOp = call.body()?;
    let scheduler = &call.caller.hv.scheduler;
    if !matches!(request.cmd, XEN_SYSCTL_SCHEDOP_PUTINFO | XEN_SYSCTL_SCHEDOP_GETINFO) {
        return Err(Errno::EINVAL);
    }
    let pool = || scheduler.pool(request.cpupool_id).filter(|pool| pool.id == request.cpupool_id);
    pool().ok_or(Errno::ESRCH)?;
    if request.sched_id != XEN_SCHEDULER_CREDIT2 {
        return Err(Errno::EINVAL);
    }
    if request.cmd == XEN_SYSCTL_SCHEDOP_PUTINFO {
        let (wanted, _) =
            XenSysctlCredit2Schedule::read_from_prefix(request.u.as_bytes()).map_err(|_| Errno::EINVAL)?;
        scheduler.set_ratelimit(request.cpupool_id, wanted.ratelimit_us)?;
    }
    let mut answer = request;
    XenSysctlCredit2Schedule { ratelimit_us: pool().ok_or(Errno::ESRCH)?.ratelimit_us }
        .write_to_prefix(answer.u.as_mut_bytes())
        .map_err(|_| Errno::EINVAL)?;
    call.answer(&answer)
}
