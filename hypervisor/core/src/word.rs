//! Atomic changes of 32-bit words that a guest changes too.
//!
//! The shared structures use 64-bit words for the 2-level bitmaps and 32-bit event words for FIFO. Both are little-endian
//! and aligned, so bit `n` of a bitmap is bit `n % 32` of the 32-bit word `n / 32`, and one width of atomic access does
//! for all, on ARMv7 too.

use crate::addr::Pa;
use crate::machine::Memory;

/// How often a change is tried while a guest keeps changing the word under us. An honest guest disturbs a handful of
/// times; one that never stops loses its event and delays nobody.
const TRIES: u32 = 1024;

/// Replaces the word at `pa` by `f(word)`, as [`Memory::update_u32`] does, but gives up on a guest that never lets go.
/// Returns the word before; `None` where there is no memory or it was given up.
#[inline]
pub(crate) fn update<M: Memory>(memory: &M, pa: Pa, mut f: impl FnMut(u32) -> Option<u32>) -> Option<u32> {
    let mut left = TRIES;
    let mut gave_up = false;
    let before = memory.update_u32(pa, |word| {
        let new = f(word)?;
        gave_up = left == 0;
        left = left.saturating_sub(1);
        (!gave_up).then_some(new)
    });
    if gave_up { None } else { before.ok() }
}

/// The word at `pa`.
#[inline]
pub(crate) fn read<M: Memory>(memory: &M, pa: Pa) -> Option<u32> {
    memory.update_u32(pa, |_| None).ok()
}

/// Sets `bits` in the word at `pa`; whether all of them were set before.
#[inline]
pub(crate) fn set<M: Memory>(memory: &M, pa: Pa, bits: u32) -> Option<bool> {
    let before = update(memory, pa, |word| (word & bits != bits).then_some(word | bits))?;
    Some(before & bits == bits)
}

/// Clears `bits` in the word at `pa`; whether any of them was set before.
#[inline]
pub(crate) fn clear<M: Memory>(memory: &M, pa: Pa, bits: u32) -> Option<bool> {
    let before = update(memory, pa, |word| (word & bits != 0).then_some(word & !bits))?;
    Some(before & bits != 0)
}

/// Address and mask of bit `n` of the bitmap at `base`.
#[inline]
pub(crate) fn bit(base: Pa, n: u32) -> (Pa, u32) {
    (base.offset(u64::from(n / 32) * 4), 1 << (n % 32))
}
