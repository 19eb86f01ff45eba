//! `memory_op`: a domain's physical map and its size (`memory.h`).

use core::sync::atomic::Ordering;

use vambrace_abi::errno::{Errno, HypercallResult};
use vambrace_abi::handle::XenHandle;
use vambrace_abi::memory::*;

use super::Caller;
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::domain::Domain;
use crate::machine::Machine;
use crate::p2m::{Kind, P2mError};

/// The command is the low six bits; above it, where a continued call goes on, which callers leave 0 (`memory.h`).
const COMMAND_MASK: u64 = 0x3f;
/// Most extents of one call that are carried out in one go; the answer says how many were.
const EXTENTS_AT_ONCE: u64 = 512;
/// Largest extent that a domain may ask for, as a power of two of pages.
const MAX_EXTENT_ORDER: u32 = 9;

impl From<P2mError> for Errno {
    fn from(error: P2mError) -> Self {
        match error {
            P2mError::OutOfMemory => Self::ENOMEM,
            P2mError::OutOfRange => Self::EINVAL,
            P2mError::Unreachable(_) => Self::EFAULT,
        }
    }
}

pub(super) fn op<M: Machine>(caller: &Caller<'_, M>, command: u64, argument: u64) -> HypercallResult {
    match (command & COMMAND_MASK) as u32 {
        XENMEM_ADD_TO_PHYSMAP => {
            let request = caller.memory().read(XenHandle::<XenAddToPhysmap>::new(argument))?;
            own_domain(caller, request.domid)?;
            match request.space {
                XENMAPSPACE_SHARED_INFO | XENMAPSPACE_GRANT_TABLE => {
                    add_page(caller, request.space, request.idx, request.gpfn)?;
                    Ok(0)
                }
                // Another domain's frame needs the batch form, which names the domain.
                _ => Err(Errno::ENOSYS),
            }
        }
        XENMEM_ADD_TO_PHYSMAP_BATCH => add_batch(caller, argument),
        XENMEM_REMOVE_FROM_PHYSMAP => {
            let request = caller.memory().read(XenHandle::<XenRemoveFromPhysmap>::new(argument))?;
            own_domain(caller, request.domid)?;
            let at = frame(request.gpfn)?;
            {
                let mut p2m = caller.domain().p2m.lock();
                if p2m.lookup(&caller.hv.machine, at).is_none() {
                    return Err(Errno::ENOENT);
                }
                p2m.unmap(&caller.hv.machine, &mut caller.hv.frames.lock(), at, PAGE_SIZE)?;
            }
            caller.domain().forget_shared_pages(at, PAGE_SIZE);
            Ok(0)
        }
        XENMEM_POPULATE_PHYSMAP => reservation(caller, argument, populate),
        XENMEM_DECREASE_RESERVATION => reservation(caller, argument, give_back),
        XENMEM_CURRENT_RESERVATION => query(caller, argument, |d| u64::from(d.pages.load(Ordering::Acquire))),
        XENMEM_MAXIMUM_RESERVATION => query(caller, argument, |d| d.max_pages),
        XENMEM_MAXIMUM_GPFN => {
            query(caller, argument, |d| d.ram.iter().map(|r| r.end.frame() - 1).max().unwrap_or(0))
        }
        XENMEM_MAXIMUM_RAM_PAGE => Ok(caller.hv.settings.ram_end.frame().saturating_sub(1)),
        XENMEM_ACQUIRE_RESOURCE => {
            let request = caller.memory().read(XenHandle::<XenMemAcquireResource>::new(argument))?;
            caller.hv.domain(request.domid).ok_or(Errno::ESRCH)?;
            caller.privileged()?;
            // Resources are of domains that a toolstack builds.
            Err(Errno::EOPNOTSUPP)
        }
        _ => Err(Errno::ENOSYS),
    }
}

fn own_domain<M: Machine>(caller: &Caller<'_, M>, domid: u16) -> Result<(), Errno> {
    if caller.is_self(domid) {
        return Ok(());
    }
    match caller.hv.domain(domid) {
        Some(_) => Err(Errno::EPERM),
        None => Err(Errno::ESRCH),
    }
}

/// The address of a guest frame; EINVAL where the number is beyond any address.
fn frame(gfn: u64) -> Result<Ipa, Errno> {
    let ipa = Ipa::from_frame(gfn);
    if ipa.frame() == gfn { Ok(ipa) } else { Err(Errno::EINVAL) }
}

/// Maps one page of the hypervisor's at `gpfn`: shared_info, or a frame of the grant table.
fn add_page<M: Machine>(caller: &Caller<'_, M>, space: u32, index: u64, gpfn: u64) -> Result<(), Errno> {
    let (hv, domain) = (caller.hv, caller.domain());
    let at = frame(gpfn)?;
    let map =
        |page| domain.p2m.lock().map(&hv.machine, &mut hv.frames.lock(), at, page, PAGE_SIZE, Kind::Data);
    match space {
        XENMAPSPACE_SHARED_INFO if index == 0 => {
            // Once at a time: what knows the page by its place must not be left behind.
            let mut mapped = domain.shared_info_at.lock();
            if mapped.is_some() {
                return Err(Errno::EBUSY);
            }
            map(domain.shared_info)?;
            *mapped = Some(at);
        }
        XENMAPSPACE_SHARED_INFO => return Err(Errno::EINVAL),
        _ => {
            let page = domain.grants.lock().frame(index, || hv.zeroed_frame())?;
            map(page)?;
            domain.forget_shared_pages(at, PAGE_SIZE);
            domain.grants.lock().set_mapped(index, at);
        }
    }
    Ok(())
}

fn add_batch<M: Machine>(caller: &Caller<'_, M>, argument: u64) -> HypercallResult {
    let batch = caller.memory().read(XenHandle::<XenAddToPhysmapBatch>::new(argument))?;
    own_domain(caller, batch.domid)?;
    for i in 0..u64::from(batch.size) {
        let index = caller.memory().read(batch.idxs.element(i).ok_or(Errno::EFAULT)?)?;
        let gpfn = caller.memory().read(batch.gpfns.element(i).ok_or(Errno::EFAULT)?)?;
        let result = match u32::from(batch.space) {
            space @ (XENMAPSPACE_SHARED_INFO | XENMAPSPACE_GRANT_TABLE) => {
                add_page(caller, space, index, gpfn)
            }
            _ => return Err(Errno::ENOSYS),
        };
        let error = result.map_or_else(|e| e.to_int(), |()| 0);
        caller.memory().write(batch.errs.element(i).ok_or(Errno::EFAULT)?, &error)?;
    }
    Ok(0)
}

fn query<M: Machine>(
    caller: &Caller<'_, M>,
    argument: u64,
    answer: impl FnOnce(&Domain<M>) -> u64,
) -> HypercallResult {
    let request = caller.memory().read(XenHandle::<XenMemoryDomain>::new(argument))?;
    if caller.is_self(request.domid) {
        return Ok(answer(caller.domain()));
    }
    let domain = caller.hv.domain(request.domid).ok_or(Errno::ESRCH)?;
    caller.privileged()?;
    Ok(answer(&domain))
}

/// Runs `each` over the extents of a reservation; answers how many succeeded (`memory.h`).
fn reservation<M: Machine>(
    caller: &Caller<'_, M>,
    argument: u64,
    each: impl Fn(&Caller<'_, M>, Ipa, u64) -> Result<(), Errno>,
) -> HypercallResult {
    // The count of extents done is the answer even when the argument is bad: none.
    let Ok(request) = caller.memory().read(XenHandle::<XenMemoryReservation>::new(argument)) else {
        return Ok(0);
    };
    if !caller.is_self(request.domid) || request.extent_order > MAX_EXTENT_ORDER {
        return Ok(0);
    }
    let size = PAGE_SIZE << request.extent_order;
    let mut done = 0;
    while done < request.nr_extents.min(EXTENTS_AT_ONCE) {
        let Some(handle) = request.extent_start.element(done) else { break };
        let Ok(gfn) = caller.memory().read(handle) else { break };
        let Ok(at) = frame(gfn) else { break };
        if !at.is_aligned(size) || each(caller, at, size).is_err() {
            break;
        }
        done += 1;
    }
    Ok(done)
}

/// Whether the extent lies in the domain's RAM, where it is mapped one to one.
fn in_direct_ram<M: Machine>(domain: &Domain<M>, at: Ipa, size: u64) -> bool {
    domain.ram.iter().any(|r| r.start.0 <= at.0 && at.0 - r.start.0 <= r.size().saturating_sub(size))
}

/// Maps an extent again that the domain gave back. A direct-mapped domain's frames stay its own while it does without
/// them, for only they can come back to their places.
fn populate<M: Machine>(caller: &Caller<'_, M>, at: Ipa, size: u64) -> Result<(), Errno> {
    let domain = caller.domain();
    if size > PAGE_SIZE << MAX_EXTENT_ORDER || !in_direct_ram(domain, at, size) {
        return Err(Errno::EINVAL);
    }
    let m = &caller.hv.machine;
    domain.p2m.lock().map(m, &mut caller.hv.frames.lock(), at, Pa(at.0), size, Kind::Ram)?;
    domain.forget_shared_pages(at, size);
    Ok(())
}

/// Takes an extent of RAM out of the domain's map. It still counts as the domain's, see [`populate`].
fn give_back<M: Machine>(caller: &Caller<'_, M>, at: Ipa, size: u64) -> Result<(), Errno> {
    let domain = caller.domain();
    if !in_direct_ram(domain, at, size) {
        return Err(Errno::EINVAL);
    }
    let mut p2m = domain.p2m.lock();
    // Whatever else stands in the place of RAM there, a shared page for one, goes the way it came.
    let is_ram = |page: Ipa| p2m.lookup(&caller.hv.machine, page).is_some_and(|m| m.pa == Pa(page.0));
    if !(0..size / PAGE_SIZE).all(|n| is_ram(at.offset(n * PAGE_SIZE))) {
        return Err(Errno::EINVAL);
    }
    p2m.unmap(&caller.hv.machine, &mut caller.hv.frames.lock(), at, size)?;
    Ok(())
}
