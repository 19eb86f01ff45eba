//! What the scheduler knows of a domain (`XEN_DOMCTL_scheduler_op`), in credit2's terms.

use vambrace_abi::domctl::*;
use vambrace_abi::errno::{Errno, HypercallResult};
use zerocopy::{FromBytes, IntoBytes};

use super::Call;
use crate::domain::Domain;
use crate::machine::Machine;

pub(super) fn op<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request: XenDomctlSchedulerOp = call.body()?;
    let hv = call.caller.hv;
    if request.sched_id != XEN_SCHEDULER_CREDIT2 {
        return Err(Errno::EINVAL);
    }
    match request.cmd {
        XEN_DOMCTL_SCHEDOP_GETINFO => {
            let account = hv.scheduler.domain(domain.id).ok_or(Errno::ESRCH)?;
            let mut answer = XenDomctlSchedulerOp { u: [0; 2], ..request };
            XenDomctlSchedCredit2 { weight: account.weight, cap: account.cap }
                .write_to_prefix(answer.u.as_mut_bytes())
                .map_err(|_| Errno::EINVAL)?;
            call.answer(&answer)
        }
        XEN_DOMCTL_SCHEDOP_PUTINFO => {
            let (wanted, _) =
                XenDomctlSchedCredit2::read_from_prefix(request.u.as_bytes()).map_err(|_| Errno::EINVAL)?;
            let now = hv.machine.now();
            // A weight of 0 leaves it; a cap of 0 is none.
            if wanted.weight != 0 {
                hv.kick_all(hv.scheduler.set_weight(domain.id, wanted.weight, now)?);
            }
            hv.kick_all(hv.scheduler.set_cap(domain.id, wanted.cap, now)?);
            call.answer(&request)
        }
        // Credit2 has no parameters of single vCPUs.
        _ => Err(Errno::EINVAL),
    }
}
