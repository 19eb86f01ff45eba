//! `GNTTABOP_copy`: the path of every packet that a network back end gives its guest.
//!
//! Requests in a row often have an end in common: the page that is filled packet by packet. So what an end leads to is
//! kept until a request names another.

use vambrace_abi::domid::DOMID_SELF;
use vambrace_abi::errno::Errno;
use vambrace_abi::grant_table::*;
use vambrace_abi::handle::XenHandle;

use super::{AT_ONCE, Call, Granter};
use crate::addr::PAGE_SIZE;
use crate::grant::{self, Granted, Pages, Want};
use crate::hypercall::{Caller, Outcome, Target};
use crate::machine::Machine;

/// What an end of a copy names.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    domain: u16,
    /// Frame number, or grant.
    address: u64,
    by_grant: bool,
}

impl Name {
    fn new(end: &GnttabCopyPtr, by_grant: bool) -> Self {
        let address = if by_grant { end.addr & u64::from(u32::MAX) } else { end.addr };
        Self { domain: end.domid, address, by_grant }
    }
}

/// An end of a copy that is held.
struct End<'a, M: Machine> {
    name: Name,
    domain: Target<'a, M>,
    granted: Granted,
}

/// Both ends, as they were last used. They have to be let go.
struct Ends<'a, 'b, M: Machine> {
    caller: &'b Caller<'a, M>,
    from: Option<End<'a, M>>,
    to: Option<End<'a, M>>,
}

/// Carries out a list of copies.
pub(super) fn copy<M: Machine>(caller: &Caller<'_, M>, call: &Call) -> Outcome {
    let mut ends = Ends { caller, from: None, to: None };
    let mut outcome = Outcome::Done(Ok(0));
    for index in 0..call.count {
        if index == AT_ONCE {
            outcome = call.again::<GnttabCopy>(index, 0);
            break;
        }
        if let Err(errno) = ends.perform(call, index) {
            outcome = Outcome::Done(Err(errno));
            break;
        }
    }
    ends.let_go();
    // The frames of a domain that ended meanwhile may have waited for that.
    caller.hv.bury();
    outcome
}

impl<'a, M: Machine> Ends<'a, '_, M> {
    fn perform(&mut self, call: &Call, index: u64) -> Result<(), Errno> {
        let handle = call.request::<GnttabCopy>(index)?;
        let request = self.caller.memory().read(handle)?;
        let status = self.copy(&request).err().unwrap_or(GNTST_OKAY);
        if status != GNTST_OKAY {
            self.let_go();
        }
        let at = handle.address().wrapping_add(core::mem::offset_of!(GnttabCopy, status) as u64);
        self.caller.memory().write(XenHandle::<i16>::new(at), &status)
    }

    fn copy(&mut self, request: &GnttabCopy) -> Result<(), i16> {
        if request.len == 0 {
            return Ok(());
        }
        let from = Name::new(&request.source, request.flags & GNTCOPY_SOURCE_GREF != 0);
        let to = Name::new(&request.dest, request.flags & GNTCOPY_DEST_GREF != 0);
        if self.from.as_ref().is_none_or(|end| end.name != from) {
            // The domains of both are looked at before either's page, and so are their errors.
            let domain = self.domain(from)?;
            if self.to.as_ref().is_none_or(|end| end.name != to) {
                self.domain(to)?;
            }
            self.release_from();
            self.from = Some(self.hold(from, domain, false)?);
        }
        if self.to.as_ref().is_none_or(|end| end.name != to) {
            let domain = self.domain(to)?;
            self.release_to();
            self.to = Some(self.hold(to, domain, true)?);
        }
        let (Some(from), Some(to)) = (&self.from, &self.to) else { return Err(GNTST_GENERAL_ERROR) };
        let m = &self.caller.hv.machine;
        grant::copy(m, from.granted, request.source.offset, to.granted, request.dest.offset, request.len)
    }

    fn domain(&self, name: Name) -> Result<Target<'a, M>, i16> {
        if name.domain == DOMID_SELF {
            return Ok(Target::Own(self.caller.domain()));
        }
        if !name.by_grant {
            return Err(GNTST_PERMISSION_DENIED);
        }
        self.caller.hv.domain(name.domain).map(Target::Other).ok_or(GNTST_BAD_DOMAIN)
    }

    fn hold(&self, name: Name, domain: Target<'a, M>, write: bool) -> Result<End<'a, M>, i16> {
        let hv = self.caller.hv;
        let mut pages = Granter { hv, domain: &domain };
        let granted = if name.by_grant {
            let want = Want { by: self.caller.domain().id, write, whole: false };
            domain.grants.lock().pin(&hv.machine, name.address as GrantRef, want, &mut pages)?
        } else {
            Granted { page: pages.hold(name.address, write)?, start: 0, length: PAGE_SIZE as u16 }
        };
        Ok(End { name, domain, granted })
    }

    fn release(&self, end: &End<'a, M>, write: bool) {
        let hv = self.caller.hv;
        let mut pages = Granter { hv, domain: &end.domain };
        if end.name.by_grant {
            let reference = end.name.address as GrantRef;
            end.domain.grants.lock().unpin(&hv.machine, reference, write, &mut pages);
        } else {
            pages.put(end.granted.page);
        }
    }

    fn release_from(&mut self) {
        if let Some(end) = self.from.take() {
            self.release(&end, false);
        }
    }

    fn release_to(&mut self) {
        if let Some(end) = self.to.take() {
            self.release(&end, true);
        }
    }

    fn let_go(&mut self) {
        self.release_from();
        self.release_to();
    }
}
