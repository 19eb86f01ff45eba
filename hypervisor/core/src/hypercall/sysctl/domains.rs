//! All domains (`XEN_SYSCTL_getdomaininfolist`).

use vambrace_abi::errno::HypercallResult;
use vambrace_abi::sysctl::XenSysctlGetdomaininfolist;

use super::Call;
use crate::hypercall::domctl::info;
use crate::machine::Machine;

pub(super) fn list<M: Machine>(call: &Call<'_, '_, M>) -> HypercallResult {
    let request: XenSysctlGetdomaininfolist = call.body()?;
    let hv = call.caller.hv;
    let (mut next, mut count) = (Some(request.first_domain), 0);
    while let Some(from) = next.filter(|_| count < request.max_domains) {
        // Locked for one at a time: what is written to may be one of them.
        let Some(domain) = hv.domain_from(from) else { break };
        call.put(request.buffer, count.into(), &info(hv, &domain))?;
        count += 1;
        next = domain.id.checked_add(1);
    }
    call.answer(&XenSysctlGetdomaininfolist { num_domains: count, ..request })
}
