//! Caches: cleaning a domain's memory (`XEN_DOMCTL_cacheflush`), and colours of the last level.

use alloc::sync::Arc;

use vambrace_abi::domctl::{XenDomctlCacheflush, XenDomctlSetLlcColors};
use vambrace_abi::errno::{Errno, HypercallResult};

use super::Call;
use crate::addr::{Ipa, PAGE_SIZE};
use crate::domain::Domain;
use crate::frames::MAX_ORDER;
use crate::hypercall::Outcome;
use crate::machine::Machine;
use crate::p2m::Kind;

/// Pages cleaned in one go: interrupts wait meanwhile.
const PAGES_AT_ONCE: u64 = 256;

/// Cleans the RAM among the domain's frames to the point of coherency. A long range is cut: what is left of it stands in
/// the caller's structure when the call is made again.
pub(super) fn flush<M: Machine>(call: &Call<'_, '_, M>, domain: &Arc<Domain<M>>) -> Outcome {
    match flush_some(call, domain) {
        Ok(None) => Outcome::Done(Ok(0)),
        Ok(Some(rest)) => match call.answer(&rest) {
            Ok(_) => call.again(),
            Err(errno) => Outcome::Done(Err(errno)),
        },
        Err(errno) => Outcome::Done(Err(errno)),
    }
}

fn flush_some<M: Machine>(
    call: &Call<'_, '_, M>,
    domain: &Domain<M>,
) -> Result<Option<XenDomctlCacheflush>, Errno> {
    let XenDomctlCacheflush { start_pfn, nr_pfns } = call.body()?;
    let end = start_pfn.checked_add(nr_pfns).ok_or(Errno::EINVAL)?;
    if nr_pfns > 1 << MAX_ORDER {
        return Err(Errno::EINVAL);
    }
    let hv = call.caller.hv;
    // Nothing is mapped behind it.
    let last = domain.p2m.lock().last_gfn().map_or(0, |last| last + 1);
    let (end, mut gfn) = (end.min(last), start_pfn);
    let stop = gfn.saturating_add(PAGES_AT_ONCE).min(end);
    while gfn < stop {
        let found = domain.p2m.lock().lookup(&hv.machine, Ipa::from_frame(gfn));
        if let Some(mapping) = found.filter(|mapping| mapping.kind == Kind::Ram) {
            // A frame that is given away meanwhile is RAM all the same.
            hv.machine.clean_dcache(mapping.pa, PAGE_SIZE).map_err(|_| Errno::EFAULT)?;
        }
        gfn += 1;
    }
    Ok((gfn < end).then(|| XenDomctlCacheflush { start_pfn: gfn, nr_pfns: end - gfn }))
}

/// As Xen answers where colouring is off.
pub(super) fn colors<M: Machine>(call: &Call<'_, '_, M>) -> HypercallResult {
    let request: XenDomctlSetLlcColors = call.body()?;
    Err(if request.pad != 0 { Errno::EINVAL } else { Errno::EOPNOTSUPP })
}
