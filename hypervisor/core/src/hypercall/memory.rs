//! `memory_op`: a domain's physical map and its size (`memory.h`).
//!
//! A call that takes long is made again from where it came to: the number of extents done stands above the command in
//! the first argument, as in Xen.

use core::sync::atomic::Ordering;

use vambrace_abi::errno::{Errno, HypercallResult};
use vambrace_abi::handle::XenHandle;
use vambrace_abi::memory::*;

use super::{Caller, Outcome};
use crate::addr::{Ipa, PAGE_SIZE, Pa, PaRange};
use crate::domain::Domain;
use crate::hypervisor::Hypervisor;
use crate::machine::Machine;
use crate::p2m::{Kind, P2mError};

/// The command is the low six bits; above it, where a continued call goes on.
const COMMAND_BITS: u32 = 6;
/// Pages that are filled or taken away in one go.
const PAGES_AT_ONCE: u64 = 512;
/// Pages that are mapped one by one in one go.
const MAPPINGS_AT_ONCE: u64 = 256;
/// Largest extent that a domain may ask for, as a power of two of pages (Xen's for a guest, and for the toolstack).
const MAX_EXTENT_ORDER: u32 = 9;
const MAX_TOOLSTACK_EXTENT_ORDER: u32 = 18;
/// Most frames of one request for a resource.
const MAX_RESOURCE_FRAMES: u32 = 1024;

impl From<P2mError> for Errno {
    fn from(error: P2mError) -> Self {
        match error {
            P2mError::OutOfMemory => Self::ENOMEM,
            P2mError::OutOfRange | P2mError::Closed => Self::EINVAL,
            P2mError::Unreachable(_) => Self::EFAULT,
        }
    }
}

pub(super) fn op<M: Machine>(caller: &Caller<'_, M>, args: [u64; 5]) -> Outcome {
    let [command, argument, ..] = args;
    let start = (command & 0xffff_ffff) >> COMMAND_BITS;
    let command = command & ((1 << COMMAND_BITS) - 1);
    // Where the call goes on that did `done` extents.
    let again =
        |done: u64| Outcome::Again([command | done << COMMAND_BITS, argument, args[2], args[3], args[4]]);
    let outcome: Outcome = match command as u32 {
        XENMEM_POPULATE_PHYSMAP => reservation(caller, argument, start, again, populate),
        XENMEM_DECREASE_RESERVATION => reservation(caller, argument, start, again, give_back),
        XENMEM_ADD_TO_PHYSMAP_BATCH => match add_batch(caller, argument, start) {
            Ok(None) => Outcome::Done(Ok(0)),
            Ok(Some(done)) => again(done),
            Err(errno) => Outcome::Done(Err(errno)),
        },
        command => short(caller, command, argument).into(),
    };
    // A page that was the last of a dead domain's may have been given back.
    caller.hv.bury();
    outcome
}

fn short<M: Machine>(caller: &Caller<'_, M>, command: u32, argument: u64) -> HypercallResult {
    match command {
        XENMEM_ADD_TO_PHYSMAP => {
            let request = caller.memory().read(XenHandle::<XenAddToPhysmap>::new(argument))?;
            let target = caller.target(request.domid)?;
            match request.space {
                XENMAPSPACE_SHARED_INFO | XENMAPSPACE_GRANT_TABLE => {
                    add_page(caller.hv, &target, request.space, request.idx, request.gpfn)?;
                    Ok(0)
                }
                // Another domain's frame needs the batch form, which names the domain.
                _ => Err(Errno::ENOSYS),
            }
        }
        XENMEM_REMOVE_FROM_PHYSMAP => {
            let request = caller.memory().read(XenHandle::<XenRemoveFromPhysmap>::new(argument))?;
            let target = caller.target(request.domid)?;
            let at = frame(request.gpfn)?;
            if target.p2m.lock().lookup(&caller.hv.machine, at).is_none() {
                return Err(Errno::ENOENT);
            }
            caller.hv.unmap(&target, at, PAGE_SIZE)?;
            Ok(0)
        }
        XENMEM_CURRENT_RESERVATION => query(caller, argument, Domain::pages),
        XENMEM_MAXIMUM_RESERVATION => query(caller, argument, |d| d.max_pages.load(Ordering::Acquire)),
        XENMEM_MAXIMUM_GPFN => query(caller, argument, |d| d.p2m.lock().last_gfn().unwrap_or(0)),
        XENMEM_MAXIMUM_RAM_PAGE => Ok(caller.hv.settings.ram_end.frame().saturating_sub(1)),
        // Pages are not shared between domains behind their backs.
        XENMEM_GET_SHARING_FREED_PAGES | XENMEM_GET_SHARING_SHARED_PAGES => Ok(0),
        XENMEM_GET_VNUMAINFO => Err(Errno::EOPNOTSUPP),
        XENMEM_ACQUIRE_RESOURCE => acquire_resource(caller, argument),
        _ => Err(Errno::ENOSYS),
    }
}

/// The address of a guest frame; EINVAL where the number is beyond any address.
fn frame(gfn: u64) -> Result<Ipa, Errno> {
    let ipa = Ipa::from_frame(gfn);
    if ipa.frame() == gfn { Ok(ipa) } else { Err(Errno::EINVAL) }
}

/// Maps a page that belongs to domain `owner` into `domain` at `at`, with a reference of its own.
fn map_held<M: Machine>(
    hv: &Hypervisor<M>,
    domain: &Domain<M>,
    at: Ipa,
    page: Pa,
    owner: u16,
) -> Result<(), Errno> {
    hv.frames.lock().hold(page, owner).map_err(|_| Errno::EINVAL)?;
    hv.map(domain, at, page, PAGE_SIZE, Kind::Data).map_err(|error| {
        hv.frames.lock().put(page);
        error.into()
    })
}

/// Maps one page of the hypervisor's at `gpfn`: shared_info, or a frame of the grant table.
fn add_page<M: Machine>(
    hv: &Hypervisor<M>,
    domain: &Domain<M>,
    space: u32,
    index: u64,
    gpfn: u64,
) -> Result<(), Errno> {
    let at = frame(gpfn)?;
    match space {
        XENMAPSPACE_SHARED_INFO if index == 0 => {
            // Once at a time: the toolstack is told one place.
            if domain.shared_info_at.lock().is_some() {
                return Err(Errno::EBUSY);
            }
            map_held(hv, domain, at, domain.shared_info, domain.id)?;
            *domain.shared_info_at.lock() = Some(at);
        }
        XENMAPSPACE_SHARED_INFO => return Err(Errno::EINVAL),
        _ => {
            let page = domain.grants.lock().frame(index, || hv.zeroed_frame(domain.id))?;
            map_held(hv, domain, at, page, domain.id)?;
            domain.grants.lock().set_mapped(index, at);
        }
    }
    Ok(())
}

/// Maps a frame of another domain's RAM, of which the caller has control.
fn add_foreign<M: Machine>(
    hv: &Hypervisor<M>,
    domain: &Domain<M>,
    foreign: &Domain<M>,
    gfn: u64,
    gpfn: u64,
) -> Result<(), Errno> {
    let at = frame(gpfn)?;
    let page = hv.page(foreign, gfn)?;
    hv.map(domain, at, page.pa, PAGE_SIZE, Kind::Data)?;
    page.keep();
    Ok(())
}

/// Maps a list of pages, from number `start` on. `Some` is where it goes on.
fn add_batch<M: Machine>(caller: &Caller<'_, M>, argument: u64, start: u64) -> Result<Option<u64>, Errno> {
    let batch = caller.memory().read(XenHandle::<XenAddToPhysmapBatch>::new(argument))?;
    let target = caller.target(batch.domid)?;
    let space = u32::from(batch.space);
    let foreign = match space {
        XENMAPSPACE_SHARED_INFO | XENMAPSPACE_GRANT_TABLE => None,
        XENMAPSPACE_GMFN_FOREIGN => {
            // One's own frames are where they are; another's only the privileged may have.
            if caller.is_self(batch.foreign_domid) {
                return Err(Errno::EINVAL);
            }
            let foreign = caller.hv.domain(batch.foreign_domid).ok_or(Errno::ESRCH)?;
            caller.privileged()?;
            Some(foreign)
        }
        _ => return Err(Errno::ENOSYS),
    };
    let size = u64::from(batch.size);
    for i in start..size {
        if i - start == MAPPINGS_AT_ONCE {
            return Ok(Some(i));
        }
        let index = caller.memory().read(batch.idxs.element(i).ok_or(Errno::EFAULT)?)?;
        let gpfn = caller.memory().read(batch.gpfns.element(i).ok_or(Errno::EFAULT)?)?;
        let result = match &foreign {
            Some(foreign) => add_foreign(caller.hv, &target, foreign, index, gpfn),
            None => add_page(caller.hv, &target, space, index, gpfn),
        };
        let error = result.map_or_else(|e| e.to_int(), |()| 0);
        caller.memory().write(batch.errs.element(i).ok_or(Errno::EFAULT)?, &error)?;
    }
    Ok(None)
}

fn query<M: Machine>(
    caller: &Caller<'_, M>,
    argument: u64,
    answer: impl FnOnce(&Domain<M>) -> u64,
) -> HypercallResult {
    let request = caller.memory().read(XenHandle::<XenMemoryDomain>::new(argument))?;
    Ok(answer(&*caller.target(request.domid)?))
}

/// `XENMEM_acquire_resource`: maps frames of a resource of another domain's, or says how many there are at most.
fn acquire_resource<M: Machine>(caller: &Caller<'_, M>, argument: u64) -> HypercallResult {
    let handle = XenHandle::<XenMemAcquireResource>::new(argument);
    let mut request = caller.memory().read(handle)?;
    if request.pad != 0 {
        return Err(Errno::EINVAL);
    }
    let domain = caller.hv.domain(request.domid).ok_or(Errno::ESRCH)?;
    caller.privileged()?;
    if caller.is_self(request.domid) {
        return Err(Errno::EPERM);
    }
    if request.kind != XENMEM_RESOURCE_GRANT_TABLE {
        return Err(Errno::EOPNOTSUPP);
    }
    let limit = domain.grants.lock().resource_frames(request.id)?;
    if request.frame_list.is_null() {
        // A question for the size.
        if request.nr_frames != 0 {
            return Err(Errno::EINVAL);
        }
        request.nr_frames = limit;
        caller.memory().write(handle, &request)?;
        return Ok(0);
    }
    if request.nr_frames > MAX_RESOURCE_FRAMES {
        return Err(Errno::E2BIG);
    }
    let end = request.frame.checked_add(request.nr_frames.into()).ok_or(Errno::EINVAL)?;
    if end > u64::from(limit) || domain.is_dying() {
        return Err(Errno::EINVAL);
    }
    for i in 0..u64::from(request.nr_frames) {
        let gpfn = caller.memory().read(request.frame_list.element(i).ok_or(Errno::EFAULT)?)?;
        let page = domain
            .grants
            .lock()
            .resource_frame(request.id, request.frame + i, || caller.hv.zeroed_frame(domain.id))?;
        let at = frame(gpfn)?;
        map_held(caller.hv, caller.domain(), at, page, domain.id)?;
    }
    Ok(0)
}

/// Runs `each` over the parts of a reservation's extents from number `start` on; the answer is how many succeeded (`memory.h`).
fn reservation<M: Machine>(
    caller: &Caller<'_, M>,
    argument: u64,
    start: u64,
    again: impl Fn(u64) -> Outcome,
    each: impl Fn(&Hypervisor<M>, &Domain<M>, Ipa, u32) -> Result<(), Errno>,
) -> Outcome {
    // The count of extents done is the answer even when the argument is bad.
    let finish = |done: u64| Outcome::Done(Ok(done));
    let Ok(request) = caller.memory().read(XenHandle::<XenMemoryReservation>::new(argument)) else {
        return finish(0);
    };
    let Ok(target) = caller.target(request.domid) else { return finish(0) };
    let limit = if caller.privileged().is_ok() { MAX_TOOLSTACK_EXTENT_ORDER } else { MAX_EXTENT_ORDER };
    if request.extent_order > limit {
        return finish(0);
    }
    // A large extent is so many parts, for nobody waits until a gigabyte is zeroed. `start` counts parts.
    let order = request.extent_order.min(MAX_EXTENT_ORDER);
    let parts = 1 << (request.extent_order - order);
    let total = request.nr_extents.checked_mul(parts).filter(|total| *total <= 1 << (32 - COMMAND_BITS));
    let Some(total) = total else { return finish(0) };
    let (mut done, mut pages) = (start, 0);
    while done < total {
        if pages >= PAGES_AT_ONCE {
            return again(done);
        }
        let Some(handle) = request.extent_start.element(done / parts) else { break };
        let Ok(gfn) = caller.memory().read(handle) else { break };
        let Ok(extent) = frame(gfn) else { break };
        let at = extent.offset((done % parts) * (PAGE_SIZE << order));
        let aligned = extent.is_aligned(PAGE_SIZE << request.extent_order);
        if !aligned || each(caller.hv, &target, at, order).is_err() {
            break;
        }
        pages += 1 << order;
        done += 1;
    }
    finish(done / parts)
}

/// Whether the extent lies in RAM that is mapped one to one and may go and come.
fn in_direct_ram<M: Machine>(domain: &Domain<M>, at: Ipa, size: u64) -> bool {
    PaRange::new(Pa(at.0), size)
        .is_some_and(|extent| domain.direct.iter().flatten().any(|ram| ram.contains_range(extent)))
}

/// Gives a domain an extent of RAM at `at`: zeroes, in memory and not in a cache.
///
/// A direct-mapped domain gets an extent back that it gave back: its frames stay its own while it does without them, for
/// only they can come back to their places.
fn populate<M: Machine>(hv: &Hypervisor<M>, domain: &Domain<M>, at: Ipa, order: u32) -> Result<(), Errno> {
    let (m, size) = (&hv.machine, PAGE_SIZE << order);
    if domain.direct.is_some() {
        if !in_direct_ram(domain, at, size) {
            return Err(Errno::EINVAL);
        }
        return Ok(hv.map(domain, at, Pa(at.0), size, Kind::Ram)?);
    }
    // Its shared page, and what its grant table is made of.
    let not_ram = 1 + domain.grants.lock().frame_count();
    let block = hv.frames.lock().allocate_for(domain.id, order as u8).ok_or(Errno::ENOMEM)?;
    let mapped = (|| {
        // Nobody must see what was there, not even with caches off.
        m.zero(block, size).map_err(|_| Errno::ENOMEM)?;
        m.clean_dcache(block, size).map_err(|_| Errno::ENOMEM)?;
        // What it has given back counts while somebody holds it, or it would have as much as it can grant.
        let has = hv.frames.lock().owned_by(domain.id).saturating_sub(not_ram);
        if has > domain.max_pages.load(Ordering::Acquire) {
            return Err(Errno::ENOMEM);
        }
        Ok(hv.map(domain, at, block, size, Kind::Ram)?)
    })();
    if mapped.is_err() {
        hv.frames.lock().put_range(block, 1 << order);
    }
    mapped
}

/// Takes an extent of RAM out of the domain's map. A direct-mapped domain's still counts as its own, see [`populate`].
fn give_back<M: Machine>(hv: &Hypervisor<M>, domain: &Domain<M>, at: Ipa, order: u32) -> Result<(), Errno> {
    let size = PAGE_SIZE << order;
    if domain.direct.is_some() && !in_direct_ram(domain, at, size) {
        return Err(Errno::EINVAL);
    }
    let mut p2m = domain.p2m.lock();
    // Whatever else stands in the place of RAM there, a shared page for one, goes the way it came.
    let is_ram = |page: Ipa| p2m.lookup(&hv.machine, page).is_some_and(|m| m.kind == Kind::Ram);
    if !(0..1 << order).all(|n| is_ram(at.offset(n * PAGE_SIZE))) {
        return Err(Errno::EINVAL);
    }
    p2m.unmap(&hv.machine, &mut hv.frames.lock(), at, size)?;
    Ok(())
}
