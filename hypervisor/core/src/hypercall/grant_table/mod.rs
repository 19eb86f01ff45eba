//! `grant_table_op` (`grant_table.h`).
//!
//! Most operations take a list of requests, each with a status of its own. Lists are carried out some requests at a time;
//! for the rest the guest makes the call again, with the rest of the list.

mod copy;
mod map;
mod setup;

use vambrace_abi::errno::{Errno, HypercallResult};
use vambrace_abi::grant_table::*;
use vambrace_abi::handle::XenHandle;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Caller, Outcome};
use crate::addr::{Ipa, Pa};
use crate::domain::Domain;
use crate::grant::{CacheFlush, Pages, Search};
use crate::hypervisor::Hypervisor;
use crate::machine::Machine;
use crate::p2m::Kind;

/// Requests that are carried out in one go.
const AT_ONCE: u64 = 64;
/// The command is the low bits; above them, for [`GNTTABOP_CACHE_FLUSH`], the entry where a search goes on.
const COMMAND_MASK: u32 = 0xfff;
/// Entries that are searched in one go.
const ENTRIES_AT_ONCE: u32 = COMMAND_MASK + 1;

pub(super) fn op<M: Machine>(caller: &Caller<'_, M>, args: [u64; 5]) -> Outcome {
    // All three but the list are unsigned ints.
    let (command, count) = (args[0] as u32, args[2] as u32);
    let call = Call { args, list: args[1], count: count.into(), search: command & !COMMAND_MASK };
    let command = command & COMMAND_MASK;
    if count > i32::MAX as u32 || call.search != 0 && command != GNTTABOP_CACHE_FLUSH {
        return Outcome::Done(Err(Errno::EINVAL));
    }
    match command {
        GNTTABOP_MAP_GRANT_REF => call.each(caller, map::map),
        GNTTABOP_UNMAP_GRANT_REF => {
            let outcome = call.each(caller, map::unmap);
            // It may have been the last page of a dead domain's.
            caller.hv.bury();
            outcome
        }
        GNTTABOP_UNMAP_AND_REPLACE => {
            let outcome = call.each(caller, map::unmap_and_replace);
            caller.hv.bury();
            outcome
        }
        GNTTABOP_COPY => copy::copy(caller, &call),
        GNTTABOP_TRANSFER => call.each(caller, transfer),
        GNTTABOP_SWAP_GRANT_REF => call.each(caller, swap),
        GNTTABOP_CACHE_FLUSH => cache_flush(caller, &call),
        _ => setup::op(caller, command, &call).into(),
    }
}

/// A call with a list of requests.
struct Call {
    args: [u64; 5],
    list: u64,
    count: u64,
    search: u32,
}

impl Call {
    /// Request `index` of the list.
    fn request<T>(&self, index: u64) -> Result<XenHandle<T>, Errno> {
        XenHandle::new(self.list).element(index).ok_or(Errno::EFAULT)
    }

    /// The call that carries out what is left of the list from request `done` on.
    fn again<T>(&self, done: u64, search: u32) -> Outcome {
        match self.request::<T>(done) {
            Ok(handle) => {
                let command = u64::from(self.args[0] as u32 & COMMAND_MASK | search);
                let [.., a, b] = self.args;
                Outcome::Again([command, handle.address(), self.count - done, a, b])
            }
            Err(errno) => Outcome::Done(Err(errno)),
        }
    }

    /// Carries out requests that have a status, which is all that `perform` writes.
    #[inline]
    fn each<M: Machine, T: FromBytes + IntoBytes + Immutable>(
        &self,
        caller: &Caller<'_, M>,
        perform: impl Fn(&Caller<'_, M>, &mut T),
    ) -> Outcome {
        for index in 0..self.count {
            if index == AT_ONCE {
                return self.again::<T>(index, 0);
            }
            let done = self.request::<T>(index).and_then(|handle| {
                let mut request = caller.memory().read(handle)?;
                perform(caller, &mut request);
                caller.memory().write(handle, &request)
            });
            if let Err(errno) = done {
                return Outcome::Done(Err(errno));
            }
        }
        Outcome::Done(Ok(0))
    }

    /// Carries out an operation that has one request.
    fn one<M: Machine, T: FromBytes + IntoBytes + Immutable>(
        &self,
        caller: &Caller<'_, M>,
        perform: impl FnOnce(&Caller<'_, M>, &mut T) -> Result<(), Errno>,
    ) -> HypercallResult {
        let handle = XenHandle::<T>::new(self.list);
        let mut request = caller.memory().read(handle)?;
        perform(caller, &mut request)?;
        caller.memory().write(handle, &request)?;
        Ok(0)
    }
}

/// A granter's pages: its own RAM. Its stage-2 tables and the frames must not be locked when one is held, the frames not
/// when one is put.
struct Granter<'a, M: Machine> {
    hv: &'a Hypervisor<M>,
    domain: &'a Domain<M>,
}

impl<M: Machine> Pages for Granter<'_, M> {
    #[inline]
    fn hold(&mut self, frame: u64, _write: bool) -> Result<Pa, i16> {
        // RAM may always be written.
        Ok(self.hv.page(self.domain, frame).map_err(|_| GNTST_BAD_PAGE)?.keep())
    }

    #[inline]
    fn put(&mut self, page: Pa) {
        self.hv.frames.lock().put(page);
    }
}

/// Pages cannot be given away on ARM.
fn transfer<M: Machine>(caller: &Caller<'_, M>, request: &mut GnttabTransfer) {
    let at = Ipa::from_frame(request.mfn);
    let mapped = caller.domain().p2m.lock().lookup(&caller.hv.machine, at);
    let is_page = mapped.is_some_and(|mapping| at.frame() == request.mfn && mapping.kind != Kind::Device);
    request.status = if is_page { GNTST_GENERAL_ERROR } else { GNTST_BAD_PAGE };
}

fn swap<M: Machine>(caller: &Caller<'_, M>, request: &mut GnttabSwapGrantRef) {
    let grants = caller.domain().grants.lock();
    let swapped = grants.swap(&caller.hv.machine, request.ref_a, request.ref_b);
    request.status = swapped.err().unwrap_or(GNTST_OKAY);
}

/// Cleans cache lines of pages of the caller's own, and of those that others grant it, for devices that do not snoop.
fn cache_flush<M: Machine>(caller: &Caller<'_, M>, call: &Call) -> Outcome {
    let mut search = call.search;
    for index in 0..call.count {
        if index == AT_ONCE {
            return call.again::<GnttabCacheFlush>(index, 0);
        }
        let flushed = call.request(index).and_then(|handle| caller.memory().read(handle));
        match flushed.and_then(|request| flush(caller, &request, search)) {
            Ok(Flushed::Own) => {}
            Ok(Flushed::Granted) if index + 1 < call.count => {
                return call.again::<GnttabCacheFlush>(index + 1, 0);
            }
            Ok(Flushed::Granted) => {}
            Ok(Flushed::Further(entry)) => return call.again::<GnttabCacheFlush>(index, entry),
            Err(errno) => return Outcome::Done(Err(errno)),
        }
        search = 0;
    }
    Outcome::Done(Ok(0))
}

/// How a cache request went.
enum Flushed {
    /// There was nothing to do, or to a page of the caller's own.
    Own,
    /// The page is another's, whose entries were searched: enough for one go.
    Granted,
    /// The search goes on from this entry of the owner's.
    Further(u32),
}

/// Carries out a cache request.
fn flush<M: Machine>(
    caller: &Caller<'_, M>,
    request: &GnttabCacheFlush,
    search: u32,
) -> Result<Flushed, Errno> {
    let Some(flush) = CacheFlush::check(request)? else { return Ok(Flushed::Own) };
    let (hv, id) = (caller.hv, caller.domain().id);
    // Memory that the hypervisor does not reach is no page.
    hv.machine.read(flush.at, &mut [0]).map_err(|_| Errno::EINVAL)?;
    let owner = hv.frames.lock().owner(flush.at).ok_or(Errno::EPERM)?;
    if owner != id {
        let granter = hv.domain(owner).ok_or(Errno::EPERM)?;
        let found = granter.grants.lock().search(&hv.machine, flush.at.page(), id, search, ENTRIES_AT_ONCE);
        match found {
            Search::Found => {}
            Search::Further(entry) => return Ok(Flushed::Further(entry)),
            Search::No => return Err(Errno::EINVAL),
        }
    }
    hv.machine.clean_dcache(flush.at, flush.length).map_err(|_| Errno::EINVAL)?;
    Ok(if owner == id { Flushed::Own } else { Flushed::Granted })
}
