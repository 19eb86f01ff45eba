//! Reading and writing system registers by name.

/// Reads a system register of this CPU, in 64 bits.
macro_rules! read_sysreg {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reading a system register has no effect on memory; the name is checked by the assembler, and the
        // register exists at EL2 on every CPU that this code runs on or is guarded by its ID register at the caller.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }};
}

/// Writes a system register of this CPU that holds a guest's state or controls how guests run.
///
/// Such a register changes nothing for the hypervisor's own code: it is either an EL1 or EL0 register, or an EL2
/// control of traps, timers and stage 2, which take effect after the next `eret`. Registers that govern EL2's own
/// translation are written in `mmu` and `head` only.
macro_rules! write_sysreg {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: by this macro's contract the register does not govern the hypervisor's own execution.
        unsafe { core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nomem, nostack, preserves_flags)) };
    }};
}

/// Instruction synchronization barrier.
macro_rules! isb {
    () => {{
        // SAFETY: a barrier.
        unsafe { core::arch::asm!("isb", options(nostack, preserves_flags)) };
    }};
}

pub(crate) use {isb, read_sysreg, write_sysreg};
