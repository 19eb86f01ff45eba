//! Single settings of a domain.

use core::sync::atomic::Ordering;

use vambrace_abi::domctl::*;
use vambrace_abi::errno::{Errno, HypercallResult};

use super::Call;
use crate::addr::PAGE_SIZE;
use crate::domain::Domain;
use crate::life::Stage;
use crate::machine::Machine;

/// It may have less than it has: then it gets nothing more until it has given that back.
pub(super) fn max_mem<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request: XenDomctlMaxMem = call.body()?;
    let pages = request.max_memkb / (PAGE_SIZE / 1024);
    domain.max_pages.store(pages.min(u64::from(u32::MAX) - 1), Ordering::Release);
    Ok(0)
}

pub(super) fn handle<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request: XenDomctlSetdomainhandle = call.body()?;
    *domain.handle.lock() = request.handle;
    Ok(0)
}

/// The mark that a debugger looks after the domain; there is nothing else to it on ARM.
pub(super) fn debugging<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request: XenDomctlSetdebugging = call.body()?;
    call.not_self(domain)?;
    domain.life.lock().debugged = request.enable != 0;
    Ok(0)
}

pub(super) fn time_offset<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request: XenDomctlSettimeoffset = call.body()?;
    domain.time_offset.store(request.time_offset_seconds, Ordering::Release);
    call.caller.hv.show_wall_clock(domain);
    Ok(0)
}

/// The port gets an event when the domain suspends, in the place of VIRQ_DOM_EXC.
pub(super) fn subscribe<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request: XenDomctlSubscribe = call.body()?;
    domain.life.lock().suspend_port = request.port;
    Ok(0)
}

pub(super) fn virq_handler<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request: XenDomctlSetVirqHandler = call.body()?;
    // Its end drops what it handles, and waits for this lock before.
    let life = domain.life.lock();
    if life.stage != Stage::Alive {
        return Err(Errno::EINVAL);
    }
    call.caller.hv.set_virq_handler(request.virq, domain.id)?;
    Ok(0)
}

/// A domain that acts for another, as device models do, which no guest on ARM has: refused rather than believed.
pub(super) fn target<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request: XenDomctlSetTarget = call.body()?;
    let other = call.caller.hv.domain(request.target).ok_or(Errno::ESRCH)?;
    if other.id == domain.id {
        return Err(Errno::EINVAL);
    }
    Err(Errno::EOPNOTSUPP)
}
