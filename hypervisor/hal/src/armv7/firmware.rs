//! The instruction that calls the firmware.

use core::arch::global_asm;

global_asm!(
    r#"
    .arch_extension sec
    // vambrace_smc(words): `smc` with r0 to r7 from eight words, of which the first four get r0 to r3 back.
    .section .text.vambrace_smc, "ax"
    .arm
    .balign 4
    .global vambrace_smc
    .type   vambrace_smc, %function
vambrace_smc:
        push    {{r0, r4-r11, lr}}
        ldm     r0, {{r0-r7}}
        smc     #0
        ldr     r12, [sp]
        stm     r12, {{r0-r3}}
        pop     {{r0, r4-r11, pc}}
    "#
);

unsafe extern "C" {
    fn vambrace_smc(words: *mut [u32; 8]);
}

/// Calls the firmware by SMCCC with seven arguments (r1 to r7, of which 32 bits count); returns r0 to r3.
///
/// # Safety
/// What the function does must not break memory safety.
pub(crate) unsafe fn smc(function: u64, args: [u64; 7]) -> [u64; 4] {
    let mut words = [0; 8];
    for (word, value) in words.iter_mut().zip([function].into_iter().chain(args)) {
        *word = value as u32;
    }
    // SAFETY: the assembly reads and writes the eight words and keeps the C calling convention whatever the firmware
    // leaves in r4 to r11; the call's effect is the caller's promise.
    unsafe { vambrace_smc(&raw mut words) };
    let [r0, r1, r2, r3, ..] = words;
    [r0, r1, r2, r3].map(u64::from)
}
