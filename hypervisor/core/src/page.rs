//! The pages of a domain that runs: what is mapped where, and a page that somebody uses, which stays the domain's for as
//! long.

use vambrace_abi::errno::Errno;

use crate::addr::{Ipa, Pa};
use crate::domain::Domain;
use crate::frames::Frames;
use crate::hypervisor::Hypervisor;
use crate::machine::Machine;
use crate::p2m::{Kind, P2m, P2mError};

/// A frame of RAM that a domain has, with a reference that goes back when this is dropped. The frames must not be locked
/// then.
pub struct Page<'a, M: Machine> {
    hv: &'a Hypervisor<M>,
    /// Physical address of its first byte.
    pub pa: Pa,
}

impl<M: Machine> Page<'_, M> {
    /// The frame, with the reference, which the caller has to put.
    pub fn keep(self) -> Pa {
        let pa = self.pa;
        core::mem::forget(self);
        pa
    }
}

impl<M: Machine> Drop for Page<'_, M> {
    fn drop(&mut self) {
        self.hv.frames.lock().put(self.pa);
    }
}

impl<M: Machine> Hypervisor<M> {
    /// [`P2m::map`] in a domain that exists already. Neither its p2m, its grant table nor the frames
    /// may be locked.
    pub(crate) fn map(
        &self,
        domain: &Domain<M>,
        at: Ipa,
        to: Pa,
        size: u64,
        kind: Kind,
    ) -> Result<(), P2mError> {
        self.change(domain, at, size, |p2m, frames| p2m.map(&self.machine, frames, at, to, size, kind))
    }

    /// [`P2m::unmap`], as [`Hypervisor::map`].
    pub(crate) fn unmap(&self, domain: &Domain<M>, at: Ipa, size: u64) -> Result<(), P2mError> {
        self.change(domain, at, size, |p2m, frames| p2m.unmap(&self.machine, frames, at, size))
    }

    /// Changes what is mapped at the `size` bytes from `at`, and forgets the pages of the hypervisor's that were there. Who
    /// takes away only RAM, devices or grants, and looks at what is there under the same lock, needs none of this.
    fn change(
        &self,
        domain: &Domain<M>,
        at: Ipa,
        size: u64,
        change: impl FnOnce(&mut P2m, &mut Frames) -> Result<(), P2mError>,
    ) -> Result<(), P2mError> {
        let (result, some_gone) = {
            let mut p2m = domain.p2m.lock();
            let result = change(&mut p2m, &mut self.frames.lock());
            (result, p2m.take_counted_gone())
        };
        if some_gone {
            domain.forget_shared_pages(at, size);
        }
        result
    }

    /// The domain's own RAM at frame number `gfn`. EINVAL where there is none, or it is another's, mapped there.
    pub fn page(&self, domain: &Domain<M>, gfn: u64) -> Result<Page<'_, M>, Errno> {
        let at = Ipa::from_frame(gfn);
        if at.frame() != gfn {
            return Err(Errno::EINVAL);
        }
        let p2m = domain.p2m.lock();
        let mapping = p2m.lookup(&self.machine, at).filter(|m| m.kind == Kind::Ram).ok_or(Errno::EINVAL)?;
        self.frames.lock().hold(mapping.pa, domain.id).map_err(|_| Errno::EINVAL)?;
        Ok(Page { hv: self, pa: mapping.pa })
    }
}
