//! Guest memory through guest handles.
//!
//! A handle is an allegation: a guest says that so many bytes lie at such a virtual address. Nothing is believed until
//! [`GuestMemory`] has translated each page the way the guest's own kernel would and copied the bytes. The copy is all
//! that the rest of the hypervisor sees, so what the guest changes afterwards changes nothing here.

use spin::Mutex;
use vambrace_abi::errno::Errno;
use vambrace_abi::handle::XenHandle;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::addr::{GuestVa, PAGE_SIZE, Pa};
use crate::machine::{Access, Memory, Processor};
use crate::p2m::P2m;

/// The memory of the vCPU that is loaded on this CPU.
pub struct GuestMemory<'a, M> {
    m: &'a M,
    /// Locked while a page is used, so that another vCPU cannot give it away meanwhile.
    p2m: Option<&'a Mutex<P2m>>,
}

impl<'a, M: Memory + Processor> GuestMemory<'a, M> {
    /// The memory of a domain whose stage-2 tables are `p2m`, which the caller has not locked.
    pub fn new(m: &'a M, p2m: &'a Mutex<P2m>) -> Self {
        Self { m, p2m: Some(p2m) }
    }

    /// The memory of a domain whose RAM is never anybody else's: the hardware domain's, which could reach everything by
    /// its devices anyway.
    pub fn of_hardware(m: &'a M) -> Self {
        Self { m, p2m: None }
    }

    /// Uses the page of `va`; EFAULT where the guest's kernel could not.
    #[inline]
    fn with<E>(&self, va: u64, access: Access, f: impl FnOnce(Pa) -> Result<(), E>) -> Result<(), Errno> {
        let _stays = self.p2m.map(Mutex::lock);
        let pa = self.m.translate(GuestVa(va), access).ok_or(Errno::EFAULT)?;
        f(pa).map_err(|_| Errno::EFAULT)
    }

    /// Copies `into.len()` bytes from the guest; EFAULT where its kernel could not read them.
    pub fn read_bytes(&self, va: u64, into: &mut [u8]) -> Result<(), Errno> {
        let mut done = 0;
        while done < into.len() {
            let at = va.checked_add(done as u64).ok_or(Errno::EFAULT)?;
            let chunk = chunk(at, into.len() - done);
            let part = into.get_mut(done..done + chunk).ok_or(Errno::EFAULT)?;
            self.with(at, Access::Read, |pa| self.m.read(pa, part))?;
            done += chunk;
        }
        Ok(())
    }

    /// Copies bytes to the guest; EFAULT where its kernel could not write them, and then a first part may be written.
    pub fn write_bytes(&self, va: u64, from: &[u8]) -> Result<(), Errno> {
        let mut done = 0;
        while done < from.len() {
            let at = va.checked_add(done as u64).ok_or(Errno::EFAULT)?;
            let chunk = chunk(at, from.len() - done);
            let part = from.get(done..done + chunk).ok_or(Errno::EFAULT)?;
            self.with(at, Access::Write, |pa| self.m.write(pa, part))?;
            done += chunk;
        }
        Ok(())
    }

    /// Copies one `T` from the guest.
    pub fn read<T: FromBytes + IntoBytes>(&self, handle: XenHandle<T>) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        self.read_bytes(handle.address(), value.as_mut_bytes())?;
        Ok(value)
    }

    /// Copies one `T` to the guest.
    pub fn write<T: IntoBytes + Immutable>(&self, handle: XenHandle<T>, value: &T) -> Result<(), Errno> {
        self.write_bytes(handle.address(), value.as_bytes())
    }
}

/// Bytes from `va` to the end of its page, at most `left`.
fn chunk(va: u64, left: usize) -> usize {
    left.min((PAGE_SIZE - GuestVa(va).page_offset()) as usize)
}
