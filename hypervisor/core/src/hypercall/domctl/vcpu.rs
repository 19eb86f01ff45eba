//! What is known of a vCPU (`XEN_DOMCTL_getvcpuinfo`).

use vambrace_abi::domctl::XenDomctlGetvcpuinfo;
use vambrace_abi::errno::{Errno, HypercallResult};

use super::Call;
use crate::domain::Domain;
use crate::machine::Machine;
use crate::sched::Status;

pub(super) fn info<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request: XenDomctlGetvcpuinfo = call.body()?;
    let vcpu = super::vcpu(domain, request.vcpu, Errno::EINVAL)?;
    let hv = call.caller.hv;
    // A domain that is being destroyed has no vCPUs for the scheduler any more.
    let account = hv.scheduler.account(vcpu.key).ok_or(Errno::ESRCH)?;
    call.answer(&XenDomctlGetvcpuinfo {
        vcpu: request.vcpu,
        online: vcpu.is_online().into(),
        blocked: (account.status == Status::Blocked).into(),
        running: matches!(account.status, Status::Running(_)).into(),
        cpu_time: hv.nanoseconds(account.run_time_at(hv.machine.now())),
        cpu: account.last_cpu as u32,
        ..Default::default()
    })
}
