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

/// SoCs whose ROM has a monitor that can be asked for Hyp mode, as the root of their device tree names them.
const WITH_MONITOR: [&[u8]; 2] = [b"ti,omap5\0", b"ti,dra7\0"];
/// The first bytes of a device tree, in which the root's properties are.
const TREE_HEAD: usize = 4 << 10;

/// The loader started the image in another mode than Hyp, with a device tree at `tree`. Returns if the SoC's ROM can be
/// asked for that mode.
///
/// # Safety
/// `tree` is what the loader passed: null or an address of readable memory.
pub(super) unsafe extern "C" fn wrong_mode(mode: u32, tree: *const u8) {
    match mode {
        // SAFETY: the loader's contract, which is all there is before translation; nothing else runs.
        0x13 if unsafe { names_any(tree, &WITH_MONITOR) } => {}
        0x13 => fail(
            "started in Supervisor mode; the hypervisor needs Hyp mode (QEMU: -M virt,virtualization=on or -M \
             vexpress-a15,secure=off,virtualization=on; U-Boot: CONFIG_ARMV7_NONSEC and _VIRT)",
        ),
        0x16 => fail("started in Monitor mode; the hypervisor needs firmware that starts it in Hyp mode"),
        _ => fail("not started in Hyp mode"),
    }
}

/// Whether one of `names` is in the first bytes of the device tree blob at `tree`.
///
/// # Safety
/// `tree` is null or an address of readable memory.
unsafe fn names_any(tree: *const u8, names: &[&[u8]]) -> bool {
    if tree.is_null() {
        return false;
    }
    // SAFETY: the caller's promise; the blob's own size is no smaller than its header, which is read first, byte by byte,
    // as it may lie anywhere.
    let byte = |at: usize| unsafe { tree.add(at).read_volatile() };
    let word = |at: usize| u32::from_be_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)]);
    if word(0) != 0xd00d_feed {
        return false;
    }
    let length = TREE_HEAD.min(word(4) as usize);
    let is_at = |name: &[u8], start: usize| {
        name.iter().enumerate().all(|(at, &expected)| byte(start + at) == expected)
    };
    names.iter().any(|name| (0..length.saturating_sub(name.len())).any(|start| is_at(name, start)))
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
