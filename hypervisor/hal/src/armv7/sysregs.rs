//! Reading and writing system registers by name.
//!
//! Those of the generic timer go by their AArch64 names, as [`crate::timer`] has them for both widths.

/// What stands between `mrc` or `mcr` and the end of the instruction, for a 32-bit register (ARMv7 ARM, B3.17).
macro_rules! encoding {
    ("sctlr") => {
        "p15, 0, {0}, c1, c0, 0"
    };
    ("cpacr") => {
        "p15, 0, {0}, c1, c0, 2"
    };
    ("ttbcr") => {
        "p15, 0, {0}, c2, c0, 2"
    };
    ("dacr") => {
        "p15, 0, {0}, c3, c0, 0"
    };
    ("dfsr") => {
        "p15, 0, {0}, c5, c0, 0"
    };
    ("ifsr") => {
        "p15, 0, {0}, c5, c0, 1"
    };
    ("adfsr") => {
        "p15, 0, {0}, c5, c1, 0"
    };
    ("aifsr") => {
        "p15, 0, {0}, c5, c1, 1"
    };
    ("dfar") => {
        "p15, 0, {0}, c6, c0, 0"
    };
    ("ifar") => {
        "p15, 0, {0}, c6, c0, 2"
    };
    ("mair0") => {
        "p15, 0, {0}, c10, c2, 0"
    };
    ("mair1") => {
        "p15, 0, {0}, c10, c2, 1"
    };
    ("amair0") => {
        "p15, 0, {0}, c10, c3, 0"
    };
    ("amair1") => {
        "p15, 0, {0}, c10, c3, 1"
    };
    ("vbar") => {
        "p15, 0, {0}, c12, c0, 0"
    };
    ("contextidr") => {
        "p15, 0, {0}, c13, c0, 1"
    };
    ("tpidrurw") => {
        "p15, 0, {0}, c13, c0, 2"
    };
    ("tpidruro") => {
        "p15, 0, {0}, c13, c0, 3"
    };
    ("tpidrprw") => {
        "p15, 0, {0}, c13, c0, 4"
    };
    ("teecr") => {
        "p14, 6, {0}, c0, c0, 0"
    };
    ("teehbr") => {
        "p14, 6, {0}, c1, c0, 0"
    };
    ("csselr") => {
        "p15, 2, {0}, c0, c0, 0"
    };

    ("midr") => {
        "p15, 0, {0}, c0, c0, 0"
    };
    ("ctr") => {
        "p15, 0, {0}, c0, c0, 1"
    };
    ("mpidr") => {
        "p15, 0, {0}, c0, c0, 5"
    };
    ("id_pfr0") => {
        "p15, 0, {0}, c0, c1, 0"
    };
    ("id_pfr1") => {
        "p15, 0, {0}, c0, c1, 1"
    };
    ("id_dfr0") => {
        "p15, 0, {0}, c0, c1, 2"
    };
    ("id_afr0") => {
        "p15, 0, {0}, c0, c1, 3"
    };
    ("id_mmfr0") => {
        "p15, 0, {0}, c0, c1, 4"
    };
    ("id_mmfr1") => {
        "p15, 0, {0}, c0, c1, 5"
    };
    ("id_mmfr2") => {
        "p15, 0, {0}, c0, c1, 6"
    };
    ("id_mmfr3") => {
        "p15, 0, {0}, c0, c1, 7"
    };
    ("id_isar0") => {
        "p15, 0, {0}, c0, c2, 0"
    };
    ("id_isar1") => {
        "p15, 0, {0}, c0, c2, 1"
    };
    ("id_isar2") => {
        "p15, 0, {0}, c0, c2, 2"
    };
    ("id_isar3") => {
        "p15, 0, {0}, c0, c2, 3"
    };
    ("id_isar4") => {
        "p15, 0, {0}, c0, c2, 4"
    };
    ("id_isar5") => {
        "p15, 0, {0}, c0, c2, 5"
    };

    ("vpidr") => {
        "p15, 4, {0}, c0, c0, 0"
    };
    ("vmpidr") => {
        "p15, 4, {0}, c0, c0, 5"
    };
    ("hcr") => {
        "p15, 4, {0}, c1, c1, 0"
    };
    ("hdcr") => {
        "p15, 4, {0}, c1, c1, 1"
    };
    ("hcptr") => {
        "p15, 4, {0}, c1, c1, 2"
    };
    ("hstr") => {
        "p15, 4, {0}, c1, c1, 3"
    };
    ("vtcr") => {
        "p15, 4, {0}, c2, c1, 2"
    };
    ("hsr") => {
        "p15, 4, {0}, c5, c2, 0"
    };
    ("hdfar") => {
        "p15, 4, {0}, c6, c0, 0"
    };
    ("hifar") => {
        "p15, 4, {0}, c6, c0, 2"
    };
    ("hpfar") => {
        "p15, 4, {0}, c6, c0, 4"
    };
    ("hvbar") => {
        "p15, 4, {0}, c12, c0, 0"
    };
    ("htpidr") => {
        "p15, 4, {0}, c13, c0, 2"
    };

    ("cntfrq_el0") => {
        "p15, 0, {0}, c14, c0, 0"
    };
    ("cntkctl_el1") => {
        "p15, 0, {0}, c14, c1, 0"
    };
    ("cntp_ctl_el0") => {
        "p15, 0, {0}, c14, c2, 1"
    };
    ("cntv_ctl_el0") => {
        "p15, 0, {0}, c14, c3, 1"
    };
    ("cnthctl_el2") => {
        "p15, 4, {0}, c14, c1, 0"
    };
    ("cnthp_ctl_el2") => {
        "p15, 4, {0}, c14, c2, 1"
    };
}

/// The same for `mrrc` and `mcrr`, for a 64-bit register.
macro_rules! encoding64 {
    ("ttbr0") => {
        "p15, 0, {0}, {1}, c2"
    };
    ("ttbr1") => {
        "p15, 1, {0}, {1}, c2"
    };
    ("par") => {
        "p15, 0, {0}, {1}, c7"
    };
    ("vttbr") => {
        "p15, 6, {0}, {1}, c2"
    };
    ("cntpct_el0") => {
        "p15, 0, {0}, {1}, c14"
    };
    ("cntv_cval_el0") => {
        "p15, 3, {0}, {1}, c14"
    };
    ("cntvoff_el2") => {
        "p15, 4, {0}, {1}, c14"
    };
    ("cnthp_cval_el2") => {
        "p15, 6, {0}, {1}, c14"
    };
}

/// Reads a system register of this CPU, in 64 bits.
macro_rules! read_sysreg {
    ("cntpct_el0") => {
        crate::armv7::sysregs::read64!("cntpct_el0")
    };
    ("cntv_cval_el0") => {
        crate::armv7::sysregs::read64!("cntv_cval_el0")
    };
    ($name:tt) => {
        u64::from(crate::armv7::sysregs::read32!($name))
    };
}

/// Reads a 32-bit system register of this CPU.
macro_rules! read32 {
    ($name:tt) => {{
        let value: u32;
        // SAFETY: reading a system register has no effect on memory, and the register exists on every CPU that this
        // code runs on or is guarded by its ID register at the caller.
        unsafe {
            core::arch::asm!(concat!("mrc ", crate::armv7::sysregs::encoding!($name)), out(reg) value,
                options(nomem, nostack, preserves_flags))
        };
        value
    }};
}

/// Reads a 64-bit system register of this CPU.
macro_rules! read64 {
    ($name:tt) => {{
        let (low, high): (u32, u32);
        // SAFETY: as in `read32`.
        unsafe {
            core::arch::asm!(concat!("mrrc ", crate::armv7::sysregs::encoding64!($name)), out(reg) low,
                out(reg) high, options(nomem, nostack, preserves_flags))
        };
        u64::from(high) << 32 | u64::from(low)
    }};
}

/// Writes a system register of this CPU that holds a guest's state or controls how guests run.
///
/// Such a register changes nothing for the hypervisor's own code: it is either a PL1 or PL0 register, or a Hyp mode
/// control of traps, timers and stage 2, which take effect after the next `eret`. Registers that govern Hyp mode's own
/// translation are written in `head` only.
macro_rules! write_sysreg {
    ("cntv_cval_el0", $value:expr) => {
        crate::armv7::sysregs::write64!("cntv_cval_el0", $value)
    };
    ("cntvoff_el2", $value:expr) => {
        crate::armv7::sysregs::write64!("cntvoff_el2", $value)
    };
    ("cnthp_cval_el2", $value:expr) => {
        crate::armv7::sysregs::write64!("cnthp_cval_el2", $value)
    };
    ($name:tt, $value:expr) => {
        crate::armv7::sysregs::write32!($name, ($value) as u32)
    };
}

/// Writes a 32-bit system register; see `write_sysreg`.
macro_rules! write32 {
    ($name:tt, $value:expr) => {{
        let value: u32 = $value;
        // SAFETY: by the contract of `write_sysreg` the register does not govern the hypervisor's own execution.
        unsafe {
            core::arch::asm!(concat!("mcr ", crate::armv7::sysregs::encoding!($name)), in(reg) value,
                options(nomem, nostack, preserves_flags))
        };
    }};
}

/// Writes a 64-bit system register; see `write_sysreg`.
macro_rules! write64 {
    ($name:tt, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: as in `write32`.
        unsafe {
            core::arch::asm!(concat!("mcrr ", crate::armv7::sysregs::encoding64!($name)), in(reg) value as u32,
                in(reg) (value >> 32) as u32, options(nomem, nostack, preserves_flags))
        };
    }};
}

/// Instruction synchronization barrier.
macro_rules! isb {
    () => {{
        // SAFETY: a barrier.
        unsafe { core::arch::asm!("isb", options(nostack, preserves_flags)) };
    }};
}

pub(crate) use {encoding, encoding64, isb, read_sysreg, read32, read64, write_sysreg, write32, write64};
