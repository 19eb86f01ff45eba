//! Operations on a table as a whole, of the caller's own domain or one that it controls.

use vambrace_abi::errno::{Errno, HypercallResult};
use vambrace_abi::grant_table::*;
use vambrace_abi::handle::XenHandle;

use super::Call;
use crate::hypercall::{Caller, Target};
use crate::machine::Machine;

pub(super) fn op<M: Machine>(caller: &Caller<'_, M>, command: u32, call: &Call) -> HypercallResult {
    match command {
        // Their count is not looked at.
        GNTTABOP_SET_VERSION => set_version(caller, call),
        GNTTABOP_GET_VERSION => call.one(caller, get_version),
        GNTTABOP_QUERY_SIZE | GNTTABOP_SETUP_TABLE | GNTTABOP_GET_STATUS_FRAMES if call.count != 1 => {
            Err(Errno::EINVAL)
        }
        GNTTABOP_QUERY_SIZE => call.one(caller, query_size),
        GNTTABOP_SETUP_TABLE => call.one(caller, setup_table),
        GNTTABOP_GET_STATUS_FRAMES => call.one(caller, status_frames),
        _ => Err(Errno::ENOSYS),
    }
}

/// The domain that a request names, or the status for one that may not be named.
fn target<'a, M: Machine>(caller: &Caller<'a, M>, dom: u16) -> Result<Target<'a, M>, i16> {
    caller.target(dom).map_err(|errno| match errno {
        Errno::EPERM => GNTST_PERMISSION_DENIED,
        _ => GNTST_BAD_DOMAIN,
    })
}

fn query_size<M: Machine>(caller: &Caller<'_, M>, request: &mut GnttabQuerySize) -> Result<(), Errno> {
    request.status = match target(caller, request.dom) {
        Ok(domain) => {
            (request.nr_frames, request.max_nr_frames) = domain.grants.lock().size();
            GNTST_OKAY
        }
        Err(status) => status,
    };
    Ok(())
}

fn setup_table<M: Machine>(caller: &Caller<'_, M>, request: &mut GnttabSetupTable) -> Result<(), Errno> {
    request.status = match target(caller, request.dom) {
        Ok(domain) => {
            let mut grants = domain.grants.lock();
            let frames = grants.setup(request.nr_frames, || caller.hv.zeroed_frame(domain.id));
            match frames {
                Ok(frames) => write_list(caller, request.frame_list, frames),
                Err(status) => status,
            }
        }
        Err(status) => status,
    };
    Ok(())
}

fn status_frames<M: Machine>(
    caller: &Caller<'_, M>,
    request: &mut GnttabGetStatusFrames,
) -> Result<(), Errno> {
    request.status = match target(caller, request.dom) {
        Ok(domain) => {
            let grants = domain.grants.lock();
            match grants.status_frames(request.nr_frames) {
                Ok(frames) => write_list(caller, request.frame_list, frames),
                Err(status) => status,
            }
        }
        Err(status) => status,
    };
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
    request.version = caller.target(request.dom)?.grants.lock().version().number();
    Ok(())
}

/// The version in use is written back whether it could be changed or not (`grant_table.h`).
fn set_version<M: Machine>(caller: &Caller<'_, M>, call: &Call) -> HypercallResult {
    let handle = XenHandle::<GnttabSetVersion>::new(call.list);
    let mut request = caller.memory().read(handle)?;
    let (hv, domain) = (caller.hv, caller.domain());
    let mut grants = domain.grants.lock();
    let result = grants.set_version(&hv.machine, request.version, || hv.zeroed_frame(domain.id));
    request.version = grants.version().number();
    drop(grants);
    caller.memory().write(handle, &request)?;
    result.map(|()| 0)
}
