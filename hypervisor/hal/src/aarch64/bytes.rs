//! Memory by bytes and by cache lines, in assembly: the compiler assumes nothing about what guests may change.

use core::arch::global_asm;

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

    // NAME(at, count, size): the operation on so many blocks of `size` bytes, the first at `at`, which is a multiple of it.
    .macro  for_each_block name, operation
    .section .text.\name, "ax"
    .global \name
\name:
1:      subs    x1, x1, #4
        b.lo    2f
        .rept   4
        dc      \operation, x0
        add     x0, x0, x2
        .endr
        b       1b
2:      adds    x1, x1, #4
        b.eq    4f
3:      dc      \operation, x0
        add     x0, x0, x2
        subs    x1, x1, #1
        b.ne    3b
4:      ret
    .endm
    for_each_block vambrace_zero, zva
    for_each_block vambrace_clean, civac
    "#
);

unsafe extern "C" {
    fn vambrace_copy(to: *mut u8, from: *const u8, bytes: u64);
    fn vambrace_zero(to: *mut u8, blocks: u64, size: u64);
    fn vambrace_clean(at: usize, lines: usize, size: usize);
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
        return unsafe { vambrace_zero(to, (len / block) as u64, block as u64) };
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

/// Cleans and invalidates `lines` lines of the data cache, of `size` bytes, the first at a mapped address, to the point of
/// coherency.
pub(crate) fn clean_lines(first: usize, lines: usize, size: usize) {
    // SAFETY: writes back what the cache holds; no value changes.
    unsafe { vambrace_clean(first, lines, size) }
}
