//! Memory for a domain's stage-2 tables (`XEN_DOMCTL_get_paging_mempool_size`, `_set_paging_mempool_size`).
//!
//! The tables of the first level are not counted: every domain has them.

use vambrace_abi::domctl::XenDomctlPagingMempool;
use vambrace_abi::errno::{Errno, HypercallResult};

use super::Call;
use crate::addr::PAGE_SIZE;
use crate::domain::Domain;
use crate::machine::Machine;

pub(super) fn get<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let p2m = domain.p2m.lock();
    let size = p2m.table_limit().saturating_sub(p2m.root_frames()).saturating_mul(PAGE_SIZE);
    drop(p2m);
    call.answer(&XenDomctlPagingMempool { size })
}

/// EINVAL for a size that is not whole pages; ENOMEM for more than there is, and for less than the tables take already.
pub(super) fn set<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request: XenDomctlPagingMempool = call.body()?;
    if !request.size.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let mut p2m = domain.p2m.lock();
    let frames = p2m.root_frames() + request.size / PAGE_SIZE;
    let used = p2m.table_frames();
    let more = frames.checked_sub(used).ok_or(Errno::ENOMEM)?;
    if more > call.caller.hv.frames.lock().free_frames() {
        return Err(Errno::ENOMEM);
    }
    p2m.limit_tables(frames);
    Ok(0)
}
