//! What a start in Hyp mode has of its own; the rest is [`crate::boot`].

use super::sysregs::{isb, read32, write32};
use super::vectors;
use crate::boot::{fail, image};
use crate::early_uart::EarlyConsole;

/// Affinity fields of MPIDR.
pub(crate) const MPIDR_AFFINITY: u64 = 0xff_ffff;

/// The loader's faults, in the words of the ARM boot protocol.
pub(crate) const NO_TREE: &str = "the loader passed no device tree (r2 = 0)";
pub(crate) const BAD_TREE: &str = "r2 holds no address of a device tree";
pub(crate) const WRONG_MAGIC: &str = "no device tree at the address in r2 (wrong magic number)";

/// Affinity fields of this CPU's MPIDR.
pub(crate) fn mpidr() -> u64 {
    u64::from(read32!("mpidr")) & MPIDR_AFFINITY
}

/// Stops this CPU for good.
pub(crate) fn park() -> ! {
    loop {
        // SAFETY: masks interrupts and waits; touches no memory.
        unsafe { core::arch::asm!("cpsid aif", "wfe", options(nomem, nostack)) };
    }
}

/// Points this CPU to the exception vectors.
pub(crate) fn install_vectors() {
    // The table is complete: it handles every exception on a stack of its own or ends.
    write32!("hvbar", vectors::table());
    isb!();
}

/// The loader started the image in another mode than Hyp.
pub(super) extern "C" fn wrong_mode(mode: u32) -> ! {
    match mode {
        0x13 => fail(
            "started in Supervisor mode; the hypervisor needs Hyp mode (QEMU: -M virt,virtualization=on or -M \
             vexpress-a15,secure=off,virtualization=on; U-Boot: CONFIG_ARMV7_NONSEC and _VIRT)",
        ),
        0x16 => fail("started in Monitor mode; the hypervisor needs firmware that starts it in Hyp mode"),
        _ => fail("not started in Hyp mode"),
    }
}

/// An exception before the real vectors are in place.
pub(super) extern "C" fn early_exception(syndrome: u32, at: u32, address: u32) -> ! {
    EarlyConsole.put("vambrace: exception while booting: HSR ");
    EarlyConsole.put_hex(syndrome.into());
    EarlyConsole.put(" ELR_hyp ");
    EarlyConsole.put_hex(at.into());
    EarlyConsole.put(" HDFAR ");
    EarlyConsole.put_hex(address.into());
    EarlyConsole.put(" image at ");
    EarlyConsole.put_hex(image().start.0);
    EarlyConsole.put("\n");
    park()
}
