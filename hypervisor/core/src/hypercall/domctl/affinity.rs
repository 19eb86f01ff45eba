//! The CPUs on which a vCPU may run, and had better run (`XEN_DOMCTL_setvcpuaffinity`, `_getvcpuaffinity`).

use vambrace_abi::domctl::*;
use vambrace_abi::errno::{Errno, HypercallResult};

use super::Call;
use crate::domain::Domain;
use crate::hypercall::bitmap;
use crate::machine::Machine;

/// The request, if it names a set for each kind that it wants.
fn request<M: Machine>(call: &Call<'_, '_, M>) -> Result<XenDomctlVcpuaffinity, Errno> {
    let request: XenDomctlVcpuaffinity = call.body()?;
    let missing = |kind: u32, map: &XenctlBitmap| request.flags & kind != 0 && map.bitmap.is_null();
    if request.flags == 0
        || missing(XEN_VCPUAFFINITY_HARD, &request.cpumap_hard)
        || missing(XEN_VCPUAFFINITY_SOFT, &request.cpumap_soft)
    {
        return Err(Errno::EINVAL);
    }
    Ok(request)
}

pub(super) fn get<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request = request(call)?;
    let (caller, hv) = (call.caller, call.caller.hv);
    let vcpu = super::vcpu(domain, request.vcpu, Errno::EINVAL)?;
    let account = hv.scheduler.account(vcpu.key).ok_or(Errno::ESRCH)?;
    let all = hv.scheduler.online_cpus();
    if request.flags & XEN_VCPUAFFINITY_HARD != 0 {
        bitmap::write(caller, &request.cpumap_hard, account.affinity & all)?;
    }
    if request.flags & XEN_VCPUAFFINITY_SOFT != 0 {
        bitmap::write(caller, &request.cpumap_soft, account.soft_affinity & all)?;
    }
    Ok(0)
}

/// Sets them, and answers what is effective of them: the CPUs of the domain's pool.
pub(super) fn set<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request = request(call)?;
    let (caller, hv) = (call.caller, call.caller.hv);
    let key = super::vcpu(domain, request.vcpu, Errno::EINVAL)?.key;
    let wanted = |kind: u32, map: &XenctlBitmap| {
        (request.flags & kind != 0).then(|| bitmap::read(caller, map)).transpose()
    };
    let hard = wanted(XEN_VCPUAFFINITY_HARD, &request.cpumap_hard)?;
    let soft = wanted(XEN_VCPUAFFINITY_SOFT, &request.cpumap_soft)?;
    // Nothing was bound by SCHEDOP_pin_override, which XEN_VCPUAFFINITY_FORCE would end.
    if hard.is_some() || soft.is_some() {
        let kick = hv.scheduler.set_affinity(key, hard, soft, hv.machine.now())?;
        kick.into_iter().for_each(|cpu| hv.kick(cpu));
    }
    let account = hv.scheduler.account(key).ok_or(Errno::ESRCH)?;
    let pool = hv.scheduler.domain(domain.id).and_then(|account| hv.scheduler.pool(account.pool));
    let cpus = pool.ok_or(Errno::ESRCH)?.cpus;
    if hard.is_some() {
        bitmap::write(caller, &request.cpumap_hard, account.affinity & cpus)?;
    }
    if let Some(soft) = soft {
        bitmap::write(caller, &request.cpumap_soft, soft & account.affinity & cpus)?;
    }
    Ok(0)
}
