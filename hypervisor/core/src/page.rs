//! A page of a domain's that somebody uses: it stays the domain's for as long.

use vambrace_abi::errno::Errno;

use crate::addr::{Ipa, Pa};
use crate::domain::Domain;
use crate::hypervisor::Hypervisor;
use crate::machine::Machine;
use crate::p2m::Kind;

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
