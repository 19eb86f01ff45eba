//! What a start at EL2 has of its own; the rest is [`crate::boot`].

use super::sysregs::{isb, read_sysreg};
use super::vectors;
use crate::boot::{fail, image};
use crate::early_uart::EarlyConsole;

/// Affinity fields of MPIDR_EL1.
pub(crate) const MPIDR_AFFINITY: u64 = 0xff_00ff_ffff;

/// The loader's faults, in the words of the arm64 boot protocol.
pub(crate) const NO_TREE: &str = "the loader passed no device tree (x0 = 0)";
pub(crate) const BAD_TREE: &str = "x0 holds no address of a device tree";
pub(crate) const WRONG_MAGIC: &str = "no device tree at the address in x0 (wrong magic number)";

/// Affinity fields of this CPU's MPIDR_EL1.
pub(crate) fn mpidr() -> u64 {
    read_sysreg!("mpidr_el1") & MPIDR_AFFINITY
}

/// Stops this CPU for good.
pub(crate) fn park() -> ! {
    loop {
        // SAFETY: masks interrupts and waits; touches no memory.
        unsafe { core::arch::asm!("msr daifset, #0xf", "wfe", options(nomem, nostack)) };
    }
}

/// Points this CPU to the exception vectors.
pub(crate) fn install_vectors() {
    // SAFETY: `vectors::table` is a complete vector table, which handles every exception on a stack of its own or ends.
    unsafe {
        core::arch::asm!("msr vbar_el2, {}", in(reg) vectors::table(), options(nomem, nostack, preserves_flags))
    };
    isb!();
}

/// The loader started the image at another exception level.
pub(super) extern "C" fn wrong_level(level: u64) -> ! {
    match level {
        1 => fail("started at EL1; the hypervisor needs EL2 (QEMU: -M virt,virtualization=on)"),
        3 => fail("started at EL3; the hypervisor needs firmware that starts it at EL2"),
        _ => fail("not started at EL2"),
    }
}

/// An exception before the real vectors are in place.
pub(super) extern "C" fn early_exception(syndrome: u64, at: u64, address: u64) -> ! {
    EarlyConsole.put("vambrace: exception while booting: ESR_EL2 ");
    EarlyConsole.put_hex(syndrome);
    EarlyConsole.put(" ELR_EL2 ");
    EarlyConsole.put_hex(at);
    EarlyConsole.put(" FAR_EL2 ");
    EarlyConsole.put_hex(address);
    EarlyConsole.put(" image at ");
    EarlyConsole.put_hex(image().start.0);
    EarlyConsole.put("\n");
    park()
}
