//! A static Linux program for the benchmark's initramfs: prints the virtual counter, in nanoseconds, and powers off.
//!
//! The shell runs it as its first command, so the number is the time from the counter's zero to a working shell.
#![no_std]
#![no_main]

#[cfg(all(target_arch = "aarch64", target_os = "none"))]
core::arch::global_asm!(
    r#"
    .section .text._start, "ax"
    .global _start
_start:
    isb
    mrs     x20, cntvct_el0
    mrs     x21, cntfrq_el0
    // ns = ticks * 10^9 / frequency; ticks stay below 2^34 in any run of minutes.
    mov     x0, #0xca00
    movk    x0, #0x3b9a, lsl #16
    mul     x1, x20, x0
    udiv    x20, x1, x21
    sub     sp, sp, #64
    add     x1, sp, #63
    mov     w0, #10
    strb    w0, [x1]
    mov     x2, #10
1:  udiv    x3, x20, x2
    msub    x4, x3, x2, x20
    add     w4, w4, #48
    strb    w4, [x1, #-1]!
    mov     x20, x3
    cbnz    x20, 1b
    // "STAMP shell "
    adr     x5, 3f
    mov     x6, #12
2:  sub     x6, x6, #1
    ldrb    w4, [x5, x6]
    strb    w4, [x1, #-1]!
    cbnz    x6, 2b
    mov     x0, #1
    add     x2, sp, #64
    sub     x2, x2, x1
    mov     x8, #64                 // write
    svc     #0
    mov     x0, #0xdead             // reboot(LINUX_REBOOT_CMD_POWER_OFF)
    movk    x0, #0xfee1, lsl #16
    mov     x1, #0x1969
    movk    x1, #0x2812, lsl #16
    mov     x2, #0xfedc
    movk    x2, #0x4321, lsl #16
    mov     x8, #142
    svc     #0
    mov     x0, #1
    mov     x8, #93                 // exit, when that was refused
    svc     #0
3:  .ascii  "STAMP shell "
"#
);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
