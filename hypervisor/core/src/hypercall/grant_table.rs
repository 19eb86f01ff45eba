//! `grant_table_op` (`grant_table.h`): the operations by which a domain sets its own table up.

use vambrace_abi::errno::{Errno, HypercallResult};
use vambrace_abi::grant_table::*;
use vambrace_abi::handle::XenHandle;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Caller;
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::grant::CacheFlush;
use crate::machine::Machine;

/// Most requests of one call.
const MAX_REQUESTS: u64 = 1024;

pub(super) fn op<M: Machine>(caller: &Caller<'_, M>, command: u64, list: u64, count: u64) -> HypercallResult {
    // The count is an unsigned int; the upper bits say where a continued call goes on, which callers leave 0.
    let count = count & 0xffff_ffff;
    if count > i32::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    match u32::try_from(command).map_err(|_| Errno::ENOSYS)? {
        GNTTABOP_QUERY_SIZE => one(caller, list, count, query_size),
        GNTTABOP_SETUP_TABLE => one(caller, list, count, setup_table),
        GNTTABOP_SET_VERSION => set_version(caller, list, count),
        GNTTABOP_GET_VERSION => one(caller, list, count, get_version),
        GNTTABOP_GET_STATUS_FRAMES => one(caller, list, count, status_frames),
        GNTTABOP_MAP_GRANT_REF => each(caller, list, count, map_grant_ref),
        GNTTABOP_UNMAP_GRANT_REF => each(caller, list, count, |_, request: &mut GnttabUnmapGrantRef| {
            // No handle has been given out.
            request.status = GNTST_BAD_HANDLE;
        }),
        GNTTABOP_COPY => each(caller, list, count, |caller, request: &mut GnttabCopy| {
            request.status = copy(caller, request).err().unwrap_or(GNTST_OKAY);
        }),
        GNTTABOP_CACHE_FLUSH => cache_flush(caller, list, count),
        _ => Err(Errno::ENOSYS),
    }
}

/// Operations that take a list of requests, each with a status of its own.
fn each<M: Machine, T: FromBytes + IntoBytes + Immutable>(
    caller: &Caller<'_, M>,
    list: u64,
    count: u64,
    perform: impl Fn(&Caller<'_, M>, &mut T),
) -> HypercallResult {
    for index in 0..count.min(MAX_REQUESTS) {
        let handle = XenHandle::<T>::new(list).element(index).ok_or(Errno::EFAULT)?;
        let mut request = caller.memory().read(handle)?;
        perform(caller, &mut request);
        caller.memory().write(handle, &request)?;
    }
    if count > MAX_REQUESTS { Err(Errno::E2BIG) } else { Ok(0) }
}

/// Mapping is between domains, and there is none but dom0: whoever else is named does not exist.
fn map_grant_ref<M: Machine>(caller: &Caller<'_, M>, request: &mut GnttabMapGrantRef) {
    request.status = match caller.hv.domain(request.dom) {
        None => GNTST_BAD_DOMAIN,
        Some(_) => GNTST_GENERAL_ERROR,
    };
}

/// Copies within the caller's own pages, by frame number; the error is a status. Grants are others', see
/// [`map_grant_ref`].
fn copy<M: Machine>(caller: &Caller<'_, M>, request: &GnttabCopy) -> Result<(), i16> {
    let length = u64::from(request.len);
    let place = |end: &GnttabCopyPtr, by_grant: bool, write: bool| -> Result<Pa, i16> {
        if !caller.is_self(end.domid) && caller.hv.domain(end.domid).is_none() {
            return Err(GNTST_BAD_DOMAIN);
        }
        if !caller.is_self(end.domid) {
            return Err(GNTST_PERMISSION_DENIED);
        }
        if by_grant {
            return Err(GNTST_BAD_GNTREF);
        }
        if u64::from(end.offset) + length > PAGE_SIZE {
            return Err(GNTST_BAD_COPY_ARG);
        }
        let at = Ipa::from_frame(end.addr);
        let mapped = caller.domain().p2m.lock().lookup(&caller.hv.machine, at);
        match mapped {
            Some(m) if at.frame() == end.addr && !m.device && (m.writable || !write) => {
                Ok(m.pa.offset(u64::from(end.offset)))
            }
            _ => Err(GNTST_BAD_PAGE),
        }
    };
    let from = place(&request.source, request.flags & GNTCOPY_SOURCE_GREF != 0, false)?;
    let to = place(&request.dest, request.flags & GNTCOPY_DEST_GREF != 0, true)?;
    let mut page = [0; PAGE_SIZE as usize];
    let bytes = page.get_mut(..length as usize).ok_or(GNTST_BAD_COPY_ARG)?;
    // Through a buffer, for the two may overlap.
    caller.hv.machine.read(from, bytes).map_err(|_| GNTST_BAD_PAGE)?;
    caller.hv.machine.write(to, bytes).map_err(|_| GNTST_BAD_PAGE)
}

/// Operations that take exactly one request.
fn one<M: Machine, T: FromBytes + IntoBytes + Immutable>(
    caller: &Caller<'_, M>,
    list: u64,
    count: u64,
    each: impl FnOnce(&Caller<'_, M>, &mut T) -> Result<(), Errno>,
) -> HypercallResult {
    if count != 1 {
        return Err(Errno::EINVAL);
    }
    let handle = XenHandle::<T>::new(list);
    let mut request = caller.memory().read(handle)?;
    each(caller, &mut request)?;
    caller.memory().write(handle, &request)?;
    Ok(0)
}

/// The status for a request that names `dom`; only one's own table can be set up.
fn own<M: Machine>(caller: &Caller<'_, M>, dom: u16) -> i16 {
    if caller.is_self(dom) {
        GNTST_OKAY
    } else if caller.hv.domain(dom).is_some() {
        GNTST_PERMISSION_DENIED
    } else {
        GNTST_BAD_DOMAIN
    }
}

fn query_size<M: Machine>(caller: &Caller<'_, M>, request: &mut GnttabQuerySize) -> Result<(), Errno> {
    request.status = own(caller, request.dom);
    if request.status == GNTST_OKAY {
        (request.nr_frames, request.max_nr_frames) = caller.domain().grants.lock().size();
    }
    Ok(())
}

fn setup_table<M: Machine>(caller: &Caller<'_, M>, request: &mut GnttabSetupTable) -> Result<(), Errno> {
    request.status = own(caller, request.dom);
    if request.status != GNTST_OKAY {
        return Ok(());
    }
    let mut grants = caller.domain().grants.lock();
    match grants.setup(request.nr_frames, || caller.hv.zeroed_frame()) {
        Ok(frames) => request.status = write_list(caller, request.frame_list, frames),
        Err(status) => request.status = status,
    }
    Ok(())
}

fn status_frames<M: Machine>(
    caller: &Caller<'_, M>,
    request: &mut GnttabGetStatusFrames,
) -> Result<(), Errno> {
    request.status = own(caller, request.dom);
    if request.status != GNTST_OKAY {
        return Ok(());
    }
    let grants = caller.domain().grants.lock();
    match grants.status_frames(request.nr_frames) {
        Ok(frames) => request.status = write_list(caller, request.frame_list, frames),
        Err(status) => request.status = status,
    }
    Ok(())
}

/// Writes frame numbers to a guest's list; the answer is the request's status.
fn write_list<M: Machine>(
    caller: &Caller<'_, M>,
    list: XenHandle<u64>,
    frames: impl Iterator<Item = u64>,
) -> i16 {
    let written = (0..)
        .zip(frames)
        .try_for_each(|(index, gfn)| caller.memory().write(list.element(index).ok_or(Errno::EFAULT)?, &gfn));
    if written.is_ok() { GNTST_OKAY } else { GNTST_BAD_VIRT_ADDR }
}

fn get_version<M: Machine>(caller: &Caller<'_, M>, request: &mut GnttabGetVersion) -> Result<(), Errno> {
    match own(caller, request.dom) {
        GNTST_OKAY => {
            request.version = caller.domain().grants.lock().version().number();
            Ok(())
        }
        GNTST_BAD_DOMAIN => Err(Errno::ESRCH),
        _ => Err(Errno::EPERM),
    }
}

/// The version in use is written back whether it could be changed or not (`grant_table.h`).
fn set_version<M: Machine>(caller: &Caller<'_, M>, list: u64, count: u64) -> HypercallResult {
    if count != 1 {
        return Err(Errno::EINVAL);
    }
    let handle = XenHandle::<GnttabSetVersion>::new(list);
    let mut request = caller.memory().read(handle)?;
    let mut grants = caller.domain().grants.lock();
    let result = grants.set_version(&caller.hv.machine, request.version, || caller.hv.zeroed_frame());
    request.version = grants.version().number();
    drop(grants);
    caller.memory().write(handle, &request)?;
    result.map(|()| 0)
}

/// Cleans cache lines of the caller's own pages for devices that do not snoop.
fn cache_flush<M: Machine>(caller: &Caller<'_, M>, list: u64, count: u64) -> HypercallResult {
    for index in 0..count.min(MAX_REQUESTS) {
        let handle = XenHandle::<GnttabCacheFlush>::new(list).element(index).ok_or(Errno::EFAULT)?;
        let request = caller.memory().read(handle)?;
        let Some(flush) = CacheFlush::check(&request)? else { continue };
        if !is_own(caller, flush.at) {
            return Err(Errno::EPERM);
        }
        caller.hv.machine.clean_dcache(flush.at, flush.length).map_err(|_| Errno::EPERM)?;
    }
    if count > MAX_REQUESTS { Err(Errno::E2BIG) } else { Ok(0) }
}

/// Whether a physical address is RAM of the caller's that is mapped one to one; others' pages come by grant, and with
/// the operations that map those.
fn is_own<M: Machine>(caller: &Caller<'_, M>, at: Pa) -> bool {
    let mapped = caller.domain().p2m.lock().lookup(&caller.hv.machine, Ipa(at.0));
    mapped.is_some_and(|m| m.pa == at && !m.device)
        && caller.domain().ram.iter().any(|bank| bank.contains(at))
}
