//! Device memory for a domain (`XEN_DOMCTL_iomem_permission`, `_memory_mapping`). What the caller may give away is what it
//! may have itself.

use vambrace_abi::domctl::{DPCI_ADD_MAPPING, XenDomctlIomemPermission, XenDomctlMemoryMapping};
use vambrace_abi::errno::{Errno, HypercallResult};

use super::Call;
use crate::addr::{Ipa, PAGE_SIZE, Pa, PaRange};
use crate::domain::Domain;
use crate::machine::Machine;
use crate::p2m::Kind;

/// Frames of one mapping call; the caller makes it in pieces when it is told that there are too many.
const FRAMES_AT_ONCE: u64 = 64;

/// The physical range of frames, at least one; EINVAL for one that ends behind all addresses.
fn range(first: u64, count: u64) -> Result<PaRange, Errno> {
    let last = first.checked_add(count).and_then(|end| end.checked_sub(1)).ok_or(Errno::EINVAL)?;
    let start = Pa::from_frame(first);
    if count == 0 || last < first || start.frame() != first {
        return Err(Errno::EINVAL);
    }
    let size = count.checked_mul(PAGE_SIZE).ok_or(Errno::EINVAL)?;
    PaRange::new(start, size).ok_or(Errno::EINVAL)
}

pub(super) fn permit<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request: XenDomctlIomemPermission = call.body()?;
    let range = range(request.first_mfn, request.nr_mfns)?;
    if !call.caller.domain().permissions.lock().has_memory(range) {
        return Err(Errno::EPERM);
    }
    let mut permissions = domain.permissions.lock();
    if request.allow_access != 0 {
        permissions.allow_memory(range)?;
    } else {
        permissions.forbid_memory(range);
    }
    Ok(0)
}

pub(super) fn map<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    let request: XenDomctlMemoryMapping = call.body()?;
    let hv = call.caller.hv;
    let range = range(request.first_mfn, request.nr_mfns)?;
    let at = Ipa::from_frame(request.first_gfn);
    if at.frame() != request.first_gfn || request.first_gfn.checked_add(request.nr_mfns).is_none() {
        return Err(Errno::EINVAL);
    }
    if request.nr_mfns > FRAMES_AT_ONCE {
        return Err(Errno::E2BIG);
    }
    let may = |domain: &Domain<M>| domain.permissions.lock().has_memory(range);
    if !may(call.caller.domain()) || !may(domain) {
        return Err(Errno::EPERM);
    }
    if domain.is_dying() {
        return Err(Errno::ESRCH);
    }
    if request.add_mapping == DPCI_ADD_MAPPING {
        hv.map(domain, at, range.start, range.size(), Kind::Device)?;
        return Ok(0);
    }
    let mut p2m = domain.p2m.lock();
    // Only what was mapped there, for RAM may have taken its place.
    for page in 0..request.nr_mfns {
        let (at, pa) = (at.offset(page * PAGE_SIZE), range.start.offset(page * PAGE_SIZE));
        match p2m.lookup(&hv.machine, at) {
            None => continue,
            Some(mapping) if mapping.kind == Kind::Device && mapping.pa == pa => {}
            Some(_) => return Err(Errno::EILSEQ),
        }
        p2m.unmap(&hv.machine, &mut hv.frames.lock(), at, PAGE_SIZE)?;
    }
    Ok(0)
}
