//! Guests' memory, as the hypervisor reaches it: identity-mapped RAM that no Rust object lies in.
//!
//! Every access goes through assembly, so the compiler assumes nothing about bytes that a guest may change at any
//! moment, and through [`Reach::pointer`], which lets only RAM through that is not the hypervisor's own.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use alloc::vec::Vec;
use arrayvec::ArrayVec;
use vambrace_core::addr::{Pa, PaRange};
use vambrace_core::machine::BadAddress;
use vambrace_core::platform::subtract;

use crate::private::private_ranges;

global_asm!(
    r#"
    // vambrace_copy(to, from, bytes): forwards, places that do not overlap.
    .section .text.vambrace_copy, "ax"
    .global vambrace_copy
vambrace_copy:
        orr     x3, x0, x1
        tst     x3, #7
        b.ne    4f
        subs    x2, x2, #64
        b.lo    2f
1:      ldp     x4, x5, [x1]
        ldp     x6, x7, [x1, #16]
        ldp     x8, x9, [x1, #32]
        ldp     x10, x11, [x1, #48]
        add     x1, x1, #64
        stp     x4, x5, [x0]
        stp     x6, x7, [x0, #16]
        stp     x8, x9, [x0, #32]
        stp     x10, x11, [x0, #48]
        add     x0, x0, #64
        subs    x2, x2, #64
        b.hs    1b
2:      add     x2, x2, #64
3:      subs    x2, x2, #8
        b.lo    5f
        ldr     x4, [x1], #8
        str     x4, [x0], #8
        b       3b
5:      add     x2, x2, #8
4:      cbz     x2, 6f
        ldrb    w4, [x1], #1
        strb    w4, [x0], #1
        sub     x2, x2, #1
        b       4b
6:      ret

    // vambrace_zero(to, bytes): both multiples of the DC ZVA block, whose size is in x2.
    .section .text.vambrace_zero, "ax"
    .global vambrace_zero
vambrace_zero:
1:      dc      zva, x0
        add     x0, x0, x2
        subs    x1, x1, x2
        b.ne    1b
        ret
    "#
);

unsafe extern "C" {
    fn vambrace_copy(to: *mut u8, from: *const u8, bytes: u64);
    fn vambrace_zero(to: *mut u8, bytes: u64, block: u64);
}

const MAX_RANGES: usize = 64;

/// The physical memory that may be reached: RAM that is mapped, less what is private to the hypervisor.
pub(crate) struct Reach {
    ranges: ArrayVec<PaRange, MAX_RANGES>,
}

impl Reach {
    /// What may be reached of `ram`, which the hypervisor has mapped. To be made anew when private ranges are added;
    /// until then those stay out of use because nobody else was told of them.
    pub(crate) fn new(ram: &[PaRange]) -> Self {
        let mut ranges: ArrayVec<PaRange, MAX_RANGES> = ArrayVec::new();
        let private: Vec<PaRange> = private_ranges().collect();
        // More pieces than there is room for stay out of use.
        ranges.extend(subtract(ram, &private).into_iter().take(MAX_RANGES));
        Self { ranges }
    }

    /// A pointer to `len` bytes at `pa`, all of which may be reached.
    #[inline]
    fn pointer(&self, pa: Pa, len: u64) -> Result<*mut u8, BadAddress> {
        for range in &self.ranges {
            if pa.0 >= range.start.0 && pa.0 <= range.end.0 && len <= range.end.0 - pa.0 {
                return Ok(pa.0 as *mut u8);
            }
        }
        Err(BadAddress(pa))
    }

    pub(crate) fn read(&self, pa: Pa, into: &mut [u8]) -> Result<(), BadAddress> {
        let from = self.pointer(pa, into.len() as u64)?;
        // SAFETY: `from` is identity-mapped RAM with `into.len()` bytes outside of every Rust object; `into` is ours to
        // write. The copy is assembly, so concurrent writes by guests are no data race in Rust's sense.
        unsafe { vambrace_copy(into.as_mut_ptr(), from, into.len() as u64) };
        Ok(())
    }

    pub(crate) fn write(&self, pa: Pa, from: &[u8]) -> Result<(), BadAddress> {
        let to = self.pointer(pa, from.len() as u64)?;
        // SAFETY: as in `read`, the other way round.
        unsafe { vambrace_copy(to, from.as_ptr(), from.len() as u64) };
        Ok(())
    }

    pub(crate) fn copy(&self, to: Pa, from: Pa, len: u64) -> Result<(), BadAddress> {
        let (to, from) = (self.pointer(to, len)?, self.pointer(from, len)?);
        // SAFETY: both are identity-mapped RAM outside of every Rust object. Should they overlap against the contract,
        // the bytes are wrong, and memory is safe all the same.
        unsafe { vambrace_copy(to, from, len) };
        Ok(())
    }

    pub(crate) fn zero(&self, pa: Pa, len: u64) -> Result<(), BadAddress> {
        const ZEROES: [u8; 256] = [0; 256];
        let to = self.pointer(pa, len)?;
        let block = zva_block();
        if block != 0 && (pa.0 | len).is_multiple_of(block) && len != 0 {
            // SAFETY: `to` is identity-mapped RAM of `len` bytes outside of every Rust object; place and length are
            // multiples of the block that DC ZVA zeroes.
            unsafe { vambrace_zero(to, len, block) };
            return Ok(());
        }
        let mut done = 0;
        while done < len {
            let part = (len - done).min(ZEROES.len() as u64);
            self.write(pa.offset(done), ZEROES.get(..part as usize).unwrap_or(&ZEROES))?;
            done += part;
        }
        Ok(())
    }

    /// A pointer to a word of `SIZE` bytes, aligned to its size.
    fn word<const SIZE: u64>(&self, pa: Pa) -> Result<*mut u8, BadAddress> {
        if !pa.0.is_multiple_of(SIZE) {
            return Err(BadAddress(pa));
        }
        self.pointer(pa, SIZE)
    }

    pub(crate) fn read_u64(&self, pa: Pa) -> Result<u64, BadAddress> {
        let at = self.word::<8>(pa)?;
        // SAFETY: an aligned word of identity-mapped RAM that is always accessed atomically or through assembly.
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
        // SAFETY: as in `read_u64`; guests access such words atomically too.
        let word = unsafe { AtomicU32::from_ptr(at.cast()) };
        match word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, &mut f) {
            Ok(old) | Err(old) => Ok(old),
        }
    }

    pub(crate) fn clean_dcache(&self, pa: Pa, len: u64) -> Result<(), BadAddress> {
        self.pointer(pa, len)?;
        let line = 4u64 << (read_ctr() >> 16 & 0xf);
        let mut at = pa.0 & !(line - 1);
        let end = pa.0 + len;
        while at < end {
            // SAFETY: cleaning and invalidating a line of mapped memory changes no memory contents.
            unsafe { asm!("dc civac, {}", in(reg) at, options(nostack, preserves_flags)) };
            at += line;
        }
        // SAFETY: a barrier.
        unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
        Ok(())
    }
}

fn read_ctr() -> u64 {
    let value: u64;
    // SAFETY: reads the cache type register.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Bytes that one DC ZVA zeroes, or 0 where it may not be used (DCZID_EL0).
fn zva_block() -> u64 {
    let value: u64;
    // SAFETY: reads an ID register.
    unsafe { asm!("mrs {}, dczid_el0", out(reg) value, options(nomem, nostack, preserves_flags)) };
    if value & 1 << 4 != 0 { 0 } else { 4 << (value & 0xf) }
}
