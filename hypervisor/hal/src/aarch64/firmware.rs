//! The instruction that calls the firmware.

/// Calls the firmware by SMCCC with seven arguments (x1 to x7); returns x0 to x3.
///
/// # Safety
/// What the function does must not break memory safety.
pub(crate) unsafe fn smc(function: u64, args: [u64; 7]) -> [u64; 4] {
    let [a1, a2, a3, a4, a5, a6, a7] = args;
    let (r0, r1, r2, r3);
    // SAFETY: by SMCCC the call changes x0 to x17 only; its effect is the caller's promise.
    unsafe {
        core::arch::asm!(
            "smc #0",
            inlateout("x0") function => r0,
            inlateout("x1") a1 => r1,
            inlateout("x2") a2 => r2,
            inlateout("x3") a3 => r3,
            inlateout("x4") a4 => _,
            inlateout("x5") a5 => _,
            inlateout("x6") a6 => _,
            inlateout("x7") a7 => _,
            lateout("x8") _, lateout("x9") _, lateout("x10") _, lateout("x11") _, lateout("x12") _,
            lateout("x13") _, lateout("x14") _, lateout("x15") _, lateout("x16") _, lateout("x17") _,
            options(nostack),
        );
    }
    [r0, r1, r2, r3]
}
