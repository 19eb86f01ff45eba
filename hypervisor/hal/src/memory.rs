//! Guests' memory, as the hypervisor reaches it: identity-mapped RAM that no Rust object lies in, and where virtual space
//! is short windows to the rest.
//!
//! Every access goes through assembly, so the compiler assumes nothing about bytes that a guest may change at any
//! moment, and through [`Reach::pointer`], which lets only RAM through that is not the hypervisor's own.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use alloc::vec::Vec;
use vambrace_core::addr::{PAGE_SIZE, Pa, PaRange};
use vambrace_core::machine::BadAddress;
use vambrace_core::platform::subtract;

use crate::cpu::{bytes, window};
use crate::mmu;
use crate::private::private_ranges;

/// The physical memory that may be reached: RAM that is mapped, less what is private to the hypervisor.
pub(crate) struct Reach {
    ranges: Vec<PaRange>,
}

impl Reach {
    /// What may be reached of `ram`, which the hypervisor has mapped. To be made anew when private ranges are added;
    /// until then those stay out of use because nobody else was told of them.
    pub(crate) fn new(ram: &[PaRange]) -> Self {
        let private: Vec<PaRange> = private_ranges().collect();
        Self { ranges: subtract(ram, &private) }
    }

    /// A pointer to `len` bytes at `pa`, all of which may be reached. To be followed only through [`Reach::part`]: memory
    /// beyond [`mmu::LIMIT`] has no address.
    #[inline]
    fn pointer(&self, pa: Pa, len: u64) -> Result<*mut u8, BadAddress> {
        for range in &self.ranges {
            if pa.0 >= range.start.0 && pa.0 <= range.end.0 && len <= range.end.0 - pa.0 {
                return Ok(pa.0 as usize as *mut u8);
            }
        }
        Err(BadAddress(pa))
    }

    /// As [`Reach::pointer`], of the first bytes that lie together, through window `number` where they have no virtual
    /// address of their own; and how many bytes that are. The pointer holds until the window is used again.
    #[inline]
    fn part(&self, number: usize, pa: Pa, len: u64) -> Result<(*mut u8, u64), BadAddress> {
        let pointer = self.pointer(pa, len)?;
        if window::WINDOWS == 0 || pa.0 + len <= mmu::LIMIT {
            return Ok((pointer, len));
        }
        if pa.0 < mmu::LIMIT {
            return Ok((pointer, mmu::LIMIT - pa.0));
        }
        // SAFETY: the page holds bytes that may be reached, and what is private to the hypervisor comes in whole pages.
        let page = unsafe { window::show(number, pa.page()) }.ok_or(BadAddress(pa))?;
        let offset = pa.0 - pa.page().0;
        Ok((page.wrapping_add(offset as usize), len.min(PAGE_SIZE - offset)))
    }

    pub(crate) fn read(&self, pa: Pa, mut into: &mut [u8]) -> Result<(), BadAddress> {
        let mut at = pa;
        while !into.is_empty() {
            let (from, len) = self.part(0, at, into.len() as u64)?;
            let (now, rest) = into.split_at_mut_checked(len as usize).ok_or(BadAddress(at))?;
            // SAFETY: `from` is mapped RAM with `len` bytes outside of every Rust object; `now` is ours to write. The
            // copy is assembly, so concurrent writes by guests are no data race in Rust's sense.
            unsafe { bytes::copy(now.as_mut_ptr(), from, now.len()) };
            (into, at) = (rest, at.offset(len));
        }
        Ok(())
    }

    pub(crate) fn write(&self, pa: Pa, mut from: &[u8]) -> Result<(), BadAddress> {
        let mut at = pa;
        while !from.is_empty() {
            let (to, len) = self.part(0, at, from.len() as u64)?;
            let (now, rest) = from.split_at_checked(len as usize).ok_or(BadAddress(at))?;
            // SAFETY: as in `read`, the other way round.
            unsafe { bytes::copy(to, now.as_ptr(), now.len()) };
            (from, at) = (rest, at.offset(len));
        }
        Ok(())
    }

    pub(crate) fn copy(&self, mut to: Pa, mut from: Pa, mut len: u64) -> Result<(), BadAddress> {
        // Nothing is written unless all may be; `part` looks at all that is left.
        self.pointer(to, len)?;
        while len != 0 {
            let (source, together) = self.part(0, from, len)?;
            let (target, now) = self.part(1, to, together)?;
            // SAFETY: both are mapped RAM outside of every Rust object. Should they overlap against the contract, the
            // bytes are wrong, and memory is safe all the same.
            unsafe { bytes::copy(target, source, now as usize) };
            (to, from, len) = (to.offset(now), from.offset(now), len - now);
        }
        Ok(())
    }

    pub(crate) fn zero(&self, pa: Pa, len: u64) -> Result<(), BadAddress> {
        let (mut at, mut left) = (pa, len);
        while left != 0 {
            let (to, now) = self.part(0, at, left)?;
            // SAFETY: `to` is mapped RAM of `now` bytes outside of every Rust object.
            unsafe { bytes::zero(to, now as usize) };
            (at, left) = (at.offset(now), left - now);
        }
        Ok(())
    }

    /// A pointer to a word of `SIZE` bytes, aligned to its size.
    fn word<const SIZE: u64>(&self, pa: Pa) -> Result<*mut u8, BadAddress> {
        if !pa.0.is_multiple_of(SIZE) {
            return Err(BadAddress(pa));
        }
        Ok(self.part(0, pa, SIZE)?.0)
    }

    pub(crate) fn read_u64(&self, pa: Pa) -> Result<u64, BadAddress> {
        let at = self.word::<8>(pa)?;
        // SAFETY: an aligned word of mapped RAM that is always accessed atomically or through assembly.
        Ok(unsafe { AtomicU64::from_ptr(at.cast()) }.load(Ordering::Relaxed))
    }

    pub(crate) fn write_u64(&self, pa: Pa, value: u64) -> Result<(), BadAddress> {
        let at = self.word::<8>(pa)?;
        // SAFETY: as in `read_u64`.
        unsafe { AtomicU64::from_ptr(at.cast()) }.store(value, Ordering::Release);
        // SAFETY: a barrier: table walks of all CPUs see the store.
        unsafe { asm!("dsb ishst", options(nostack, preserves_flags)) };
        Ok(())
    }

    pub(crate) fn update_u32(
        &self,
        pa: Pa,
        mut f: impl FnMut(u32) -> Option<u32>,
    ) -> Result<u32, BadAddress> {
        let at = self.word::<4>(pa)?;
        // SAFETY: as in `read_u64`; guests access such words atomically too. What `f` does uses no window.
        let word = unsafe { AtomicU32::from_ptr(at.cast()) };
        match word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, &mut f) {
            Ok(old) | Err(old) => Ok(old),
        }
    }

    pub(crate) fn clean_dcache(&self, pa: Pa, len: u64) -> Result<(), BadAddress> {
        let (mut at, mut left) = (pa, len);
        while left != 0 {
            let (start, now) = self.part(0, at, left)?;
            clean(start as usize, now as usize);
            (at, left) = (at.offset(now), left - now);
        }
        Ok(())
    }
}

/// Cleans and invalidates the data cache's lines of `len` bytes at a mapped address, to the point of coherency, and waits
/// until it is done.
pub(crate) fn clean(at: usize, len: usize) {
    let line = bytes::line_size();
    let first = at & !(line - 1);
    // By their number: the last may end where addresses do.
    bytes::clean_lines(first, (at - first + len).div_ceil(line), line);
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}
