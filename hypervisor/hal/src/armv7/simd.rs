//! The guest's VFP and Advanced SIMD registers, where the CPU has them. The hypervisor is compiled without, so they stay
//! where they are until another vCPU is loaded.

use core::arch::asm;

use super::sysregs::read32;

/// HCPTR: accesses to coprocessors 10 and 11 trap; stay set where there is no VFP or the Secure state keeps it.
const TRAP_VFP: u32 = 3 << 10;
/// FPEXC: the registers may be accessed.
const ENABLE: u32 = 1 << 30;

/// VFP and SIMD registers.
#[derive(Clone)]
#[repr(C, align(8))]
pub(super) struct Simd {
    d: [u64; 32],
    fpscr: u32,
    fpexc: u32,
}

/// What of the floating-point unit there is, and may be used.
fn registers() -> usize {
    if read32!("hcptr") & TRAP_VFP != 0 {
        return 0;
    }
    // MVFR0.A_SIMD registers: 2 is 32 of them.
    if mvfr(0) & 0xf == 2 { 32 } else { 16 }
}

/// MVFR0 or MVFR1, 0 where there is no VFP.
pub(super) fn mvfr(number: u8) -> u32 {
    if read32!("hcptr") & TRAP_VFP != 0 {
        return 0;
    }
    let value: u32;
    // SAFETY: ID registers; `hcptr` says that there is a VFP which Hyp mode may use.
    unsafe {
        if number == 0 {
            asm!(".fpu neon", "vmrs {}, mvfr0", out(reg) value, options(nomem, nostack, preserves_flags));
        } else {
            asm!(".fpu neon", "vmrs {}, mvfr1", out(reg) value, options(nomem, nostack, preserves_flags));
        }
    }
    value
}

impl Simd {
    /// As after reset.
    pub(super) const fn new() -> Self {
        Self { d: [0; 32], fpscr: 0, fpexc: 0 }
    }

    pub(super) fn load(&self) {
        let count = registers();
        if count == 0 {
            return;
        }
        // SAFETY: reads the 256 bytes of `self.d`; the registers it fills are a guest's, the hypervisor is compiled
        // without VFP and keeps nothing in them. `count` says which exist.
        unsafe {
            asm!(
                ".fpu neon",
                "vmsr fpexc, {enable}",
                "vldmia {p}!, {{d0-d15}}",
                "cmp {count}, #32",
                "bne 2f",
                "vldmia {p}!, {{d16-d31}}",
                "2:",
                "vmsr fpscr, {fpscr}",
                "vmsr fpexc, {fpexc}",
                enable = in(reg) ENABLE,
                p = inout(reg) &raw const self.d => _,
                count = in(reg) count,
                fpscr = in(reg) self.fpscr,
                fpexc = in(reg) self.fpexc,
                options(nostack, readonly),
            );
        }
    }

    pub(super) fn save(&mut self) {
        let count = registers();
        if count == 0 {
            return;
        }
        // SAFETY: writes the 256 bytes of `self.d`, exclusively borrowed; see `load`.
        unsafe {
            asm!(
                ".fpu neon",
                "vmrs {fpexc}, fpexc",
                "vmsr fpexc, {enable}",
                "vstmia {p}!, {{d0-d15}}",
                "cmp {count}, #32",
                "bne 2f",
                "vstmia {p}!, {{d16-d31}}",
                "2:",
                "vmrs {fpscr}, fpscr",
                enable = in(reg) ENABLE,
                p = inout(reg) &raw mut self.d => _,
                count = in(reg) count,
                fpscr = out(reg) self.fpscr,
                fpexc = out(reg) self.fpexc,
                options(nostack),
            );
        }
    }
}
