//! Memory by bytes and by cache lines, in assembly: the compiler assumes nothing about what guests may change.

use core::arch::{asm, global_asm};

use super::sysregs::read_sysreg;

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

/// Copies `len` bytes between places that do not overlap.
///
/// # Safety
/// Both places are mapped, and whoever else uses them expects the bytes to change.
pub(crate) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: by this function's contract.
    unsafe { vambrace_copy(to, from, len as u64) }
}

/// Zeroes `len` bytes.
///
/// # Safety
/// The place is mapped, and whoever else uses it expects the bytes to change.
pub(crate) unsafe fn zero(to: *mut u8, len: usize) {
    const ZEROES: [u8; 256] = [0; 256];
    let block = zva_block();
    if block != 0 && len != 0 && (to as usize | len).is_multiple_of(block) {
        // SAFETY: by this function's contract; place and length are multiples of the block that DC ZVA zeroes.
        return unsafe { vambrace_zero(to, len as u64, block as u64) };
    }
    let mut done = 0;
    while done < len {
        let part = (len - done).min(ZEROES.len());
        // SAFETY: by this function's contract; the part lies within the place.
        unsafe { copy(to.wrapping_add(done), ZEROES.as_ptr(), part) };
        done += part;
    }
}

/// Bytes that one DC ZVA zeroes, or 0 where it may not be used (DCZID_EL0).
fn zva_block() -> usize {
    let value = read_sysreg!("dczid_el0");
    if value & 1 << 4 != 0 { 0 } else { 4 << (value & 0xf) }
}

/// Bytes in the smallest line of all data caches (CTR_EL0.DminLine).
pub(crate) fn line_size() -> usize {
    4 << (read_sysreg!("ctr_el0") >> 16 & 0xf)
}

/// Cleans and invalidates the data cache's line at a mapped address, to the point of coherency.
#[inline]
pub(crate) fn clean_line(at: usize) {
    // SAFETY: writes back what the cache holds; no value changes.
    unsafe { asm!("dc civac, {}", in(reg) at, options(nostack, preserves_flags)) };
}
