//! Mapping and unmapping, and what is left of both when a domain ends.

use alloc::sync::Arc;

use vambrace_abi::grant_table::*;

use super::Granter;
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::domain::Domain;
use crate::grant::{Mapping, Swept, Want};
use crate::hypercall::Caller;
use crate::hypervisor::Hypervisor;
use crate::life::Progress;
use crate::machine::Machine;
use crate::p2m::Kind;

/// Flags that have no meaning where stage 2 translates for the guest.
const REFUSED: u32 = GNTMAP_DEVICE_MAP | GNTMAP_APPLICATION_MAP | GNTMAP_CONTAINS_PTE;
/// Handles that one step of a domain's end looks at.
const HANDLES_AT_ONCE: u32 = 512;

/// `GNTTABOP_map_grant_ref`.
pub(super) fn map<M: Machine>(caller: &Caller<'_, M>, request: &mut GnttabMapGrantRef) {
    match try_map(caller, request) {
        Ok((handle, page)) => {
            (request.status, request.handle) = (GNTST_OKAY, handle);
            // Devices see memory as it is: a hardware domain without IOMMU gives them this (`grant_table.h`).
            request.dev_bus_addr = page.0;
        }
        Err(status) => request.status = status,
    }
}

fn try_map<M: Machine>(
    caller: &Caller<'_, M>,
    request: &GnttabMapGrantRef,
) -> Result<(GrantHandle, Pa), i16> {
    let (hv, m, own) = (caller.hv, &caller.hv.machine, caller.domain());
    if request.flags & (GNTMAP_HOST_MAP | GNTMAP_DEVICE_MAP) == 0 {
        return Err(GNTST_BAD_GNTREF);
    }
    if request.flags & REFUSED != 0 {
        return Err(GNTST_GENERAL_ERROR);
    }
    let granter = hv.domain(request.dom).ok_or(GNTST_BAD_DOMAIN)?;
    let reserved = own.grants.lock().maptrack.reserve(m, || hv.zeroed_frame(own.id));
    let handle = reserved.map_err(|_| GNTST_NO_SPACE)?;
    let write = request.flags & GNTMAP_READONLY == 0;
    let want = Want { by: own.id, write, whole: true };
    let pinned = granter.grants.lock().pin(m, request.gref, want, &mut Granter { hv, domain: &granter });
    let mapped = pinned.and_then(|granted| {
        let at = Ipa(request.host_addr).page();
        let mapping =
            Mapping { granter: granter.id, reference: request.gref, page: granted.page, at, writable: write };
        // Xen takes no flags but these two.
        let known = request.flags & !GNTMAP_READONLY == GNTMAP_HOST_MAP;
        if known && map_page(hv, own, at, granted.page, write) {
            return Ok(mapping);
        }
        granter.grants.lock().unpin(m, request.gref, write, &mut Granter { hv, domain: &granter });
        Err(GNTST_GENERAL_ERROR)
    });
    let mut grants = own.grants.lock();
    match mapped {
        Ok(mapping) => {
            grants.maptrack.commit(m, handle, mapping);
            Ok((handle, mapping.page))
        }
        Err(status) => {
            grants.maptrack.release(m, handle);
            Err(status)
        }
    }
}

/// Maps a granted page into a domain; whether that was possible.
fn map_page<M: Machine>(hv: &Hypervisor<M>, domain: &Domain<M>, at: Ipa, page: Pa, write: bool) -> bool {
    let kind = if write { Kind::Grant } else { Kind::GrantReadOnly };
    hv.map(domain, at, page, PAGE_SIZE, kind).is_ok()
}

/// `GNTTABOP_unmap_grant_ref`.
pub(super) fn unmap<M: Machine>(caller: &Caller<'_, M>, request: &mut GnttabUnmapGrantRef) {
    request.status = try_unmap(caller, request.handle, request.host_addr, 0);
}

/// `GNTTABOP_unmap_and_replace`, of which ARM does no more than the former.
pub(super) fn unmap_and_replace<M: Machine>(caller: &Caller<'_, M>, request: &mut GnttabUnmapAndReplace) {
    request.status = try_unmap(caller, request.handle, request.host_addr, request.new_addr);
}

fn try_unmap<M: Machine>(caller: &Caller<'_, M>, handle: GrantHandle, at: u64, replacement: u64) -> i16 {
    let (hv, m, own) = (caller.hv, &caller.hv.machine, caller.domain());
    let Some(mapping) = own.grants.lock().maptrack.claim(m, handle) else { return GNTST_BAD_HANDLE };
    let status = match at {
        // Nothing is asked for but mappings for devices, of which there are none.
        0 => GNTST_OKAY,
        _ if replacement != 0 || Ipa(at).page() != mapping.at => GNTST_GENERAL_ERROR,
        _ if !unmap_page(hv, own, mapping) => GNTST_GENERAL_ERROR,
        _ => {
            unpin(hv, mapping);
            own.grants.lock().maptrack.release(m, handle);
            return GNTST_OKAY;
        }
    };
    own.grants.lock().maptrack.restore(m, handle, mapping);
    status
}

/// Unmaps a granted page, on all CPUs; whether it still was where it was mapped.
fn unmap_page<M: Machine>(hv: &Hypervisor<M>, domain: &Domain<M>, mapping: Mapping) -> bool {
    let kind = if mapping.writable { Kind::Grant } else { Kind::GrantReadOnly };
    let mut p2m = domain.p2m.lock();
    let there = p2m.lookup(&hv.machine, mapping.at);
    there.is_some_and(|there| there.pa == mapping.page && there.kind == kind)
        && p2m.unmap(&hv.machine, &mut hv.frames.lock(), mapping.at, PAGE_SIZE).is_ok()
}

/// Ends the use of an entry, which nothing maps any more.
fn unpin<M: Machine>(hv: &Hypervisor<M>, mapping: Mapping) {
    // A granter is there as long as it has an entry in use, for the page is its own.
    if let Some(granter) = hv.domain(mapping.granter) {
        let mut pages = Granter { hv, domain: &granter };
        granter.grants.lock().unpin(&hv.machine, mapping.reference, mapping.writable, &mut pages);
    }
}

impl<M: Machine> Hypervisor<M> {
    /// Ends a domain's use of what others grant it, some way each time. Its vCPUs never run again, no CPU has TLB entries
    /// of its stage 2, and its stage-2 tables are taken apart next: what they map of this stays there until then.
    pub(crate) fn release_grants(&self, domain: &Arc<Domain<M>>) -> Progress {
        let mut left = HANDLES_AT_ONCE;
        while left > 0 {
            let swept = domain.grants.lock().maptrack.sweep(&self.machine, HANDLES_AT_ONCE);
            match swept {
                None => return Progress::Done,
                Some(Swept::Nothing) => return Progress::Again,
                Some(Swept::Handle(handle, mapping)) => {
                    unpin(self, mapping);
                    domain.grants.lock().maptrack.release(&self.machine, handle);
                }
            }
            left -= 1;
        }
        Progress::Again
    }
}
