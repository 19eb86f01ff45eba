//! Guest memory through guest handles.
//!
//! A handle is an allegation: a guest says that so many bytes lie at such a virtual address. Nothing is believed until
//! [`GuestMemory`] has translated each page the way the guest's own kernel would and copied the bytes. The copy is all
//! that the rest of the hypervisor sees, so what the guest changes afterwards changes nothing here.

use vambrace_abi::errno::Errno;
use vambrace_abi::handle::XenHandle;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::addr::{GuestVa, PAGE_SIZE};
use crate::machine::{Access, Memory, Processor};

/// The memory of the vCPU that is loaded on this CPU.
pub struct GuestMemory<'a, M>(pub &'a M);

impl<M: Memory + Processor> GuestMemory<'_, M> {
    /// Copies `into.len()` bytes from the guest; EFAULT where its kernel could not read them.
    pub fn read_bytes(&self, va: u64, into: &mut [u8]) -> Result<(), Errno> {
        let mut done = 0;
        while done < into.len() {
            let at = va.checked_add(done as u64).ok_or(Errno::EFAULT)?;
            let chunk = chunk(at, into.len() - done);
            let pa = self.0.translate(GuestVa(at), Access::Read).ok_or(Errno::EFAULT)?;
            let part = into.get_mut(done..done + chunk).ok_or(Errno::EFAULT)?;
            self.0.read(pa, part).map_err(|_| Errno::EFAULT)?;
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
            let pa = self.0.translate(GuestVa(at), Access::Write).ok_or(Errno::EFAULT)?;
            let part = from.get(done..done + chunk).ok_or(Errno::EFAULT)?;
            self.0.write(pa, part).map_err(|_| Errno::EFAULT)?;
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
