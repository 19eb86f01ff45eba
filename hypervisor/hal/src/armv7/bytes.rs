//! Memory by bytes and by cache lines, in assembly: the compiler assumes nothing about what guests may change.

use core::arch::{asm, global_asm};

use super::sysregs::read32;

global_asm!(
    r#"
    // vambrace_copy(to, from, bytes): forwards, places that do not overlap.
    .section .text.vambrace_copy, "ax"
    .arm
    .balign 4
    .global vambrace_copy
    .type   vambrace_copy, %function
vambrace_copy:
        orr     r3, r0, r1
        tst     r3, #3
        bne     4f
        push    {{r4-r11}}
        subs    r2, r2, #32
        blo     2f
1:      ldmia   r1!, {{r4-r11}}
        subs    r2, r2, #32
        stmia   r0!, {{r4-r11}}
        bhs     1b
2:      adds    r2, r2, #32
        pop     {{r4-r11}}
3:      subs    r2, r2, #4
        blo     5f
        ldr     r3, [r1], #4
        str     r3, [r0], #4
        b       3b
5:      add     r2, r2, #4
4:      subs    r2, r2, #1
        bxlo    lr
        ldrb    r3, [r1], #1
        strb    r3, [r0], #1
        b       4b

    // vambrace_zero(to, bytes)
    .section .text.vambrace_zero, "ax"
    .arm
    .balign 4
    .global vambrace_zero
    .type   vambrace_zero, %function
vambrace_zero:
        mov     r3, #0
        tst     r0, #7
        bne     2f
        push    {{r4-r10}}
        mov     r2, #0
        mov     r4, #0
        mov     r5, #0
        mov     r6, #0
        mov     r7, #0
        mov     r8, #0
        mov     r9, #0
        subs    r1, r1, #32
        blo     5f
1:      stmia   r0!, {{r2-r9}}
        subs    r1, r1, #32
        bhs     1b
5:      add     r1, r1, #32
        pop     {{r4-r10}}
2:      subs    r1, r1, #1
        bxlo    lr
        strb    r3, [r0], #1
        b       2b
    "#
);

unsafe extern "C" {
    fn vambrace_copy(to: *mut u8, from: *const u8, bytes: usize);
    fn vambrace_zero(to: *mut u8, bytes: usize);
}

/// Copies `len` bytes between places that do not overlap.
///
/// # Safety
/// Both places are mapped, and whoever else uses them expects the bytes to change.
pub(crate) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: by this function's contract.
    unsafe { vambrace_copy(to, from, len) }
}

/// Zeroes `len` bytes.
///
/// # Safety
/// The place is mapped, and whoever else uses it expects the bytes to change.
pub(crate) unsafe fn zero(to: *mut u8, len: usize) {
    // SAFETY: by this function's contract.
    unsafe { vambrace_zero(to, len) }
}

/// Bytes in the smallest line of all data caches (CTR.DminLine).
pub(crate) fn line_size() -> usize {
    4 << (read32!("ctr") >> 16 & 0xf)
}

/// Cleans and invalidates `lines` lines of the data cache, of `size` bytes, the first at a mapped address, to the point of
/// coherency (DCCIMVAC).
pub(crate) fn clean_lines(first: usize, lines: usize, size: usize) {
    for number in 0..lines {
        let at = first + number * size;
        // SAFETY: writes back what the cache holds; no value changes.
        unsafe { asm!("mcr p15, 0, {0}, c7, c14, 1", in(reg) at, options(nostack, preserves_flags)) };
    }
}
