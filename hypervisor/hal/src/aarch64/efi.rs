//! From the firmware's world into ours: the EFI application's entry, and the way out of it.

use uefi_raw::table::system::SystemTable;
use uefi_raw::{Handle, Status};
use vambrace_core::addr::{Pa, PaRange};

use super::sysregs::read_sysreg;
use crate::boot::image;
use crate::efi::firmware::{Firmware, Loaded};

unsafe extern "C" {
    /// Goes to the entry that all loaders use (`head`), with the device tree's physical address.
    fn vambrace_leave_efi(dtb: u64) -> !;
}

/// Called from `head` with what the firmware passed, relocated, on the firmware's stack.
pub(super) extern "C" fn main(handle: Handle, table: *const SystemTable) -> Status {
    // SAFETY: `head` passes the firmware's arguments on.
    let firmware = unsafe { Firmware::new(handle, table) };
    if read_sysreg!("CurrentEL") >> 2 != 2 {
        firmware.print("vambrace: the firmware does not run at EL2 (QEMU: -M virt,virtualization=on)\n");
        return Status::UNSUPPORTED;
    }
    // SAFETY: the firmware has loaded the image anew, with its zeroed memory zeroed, and nothing has allocated.
    unsafe { crate::heap::init() };
    firmware.boot()
}

/// Leaves for the hypervisor's own start. Boot services have ended; what was loaded and the image itself are cleaned
/// out to memory, since the start runs with caches off.
pub(crate) fn leave(loaded: &Loaded) -> ! {
    for range in loaded.ranges.iter().chain([&image()]) {
        clean(*range);
    }
    // SAFETY: boot services have ended, so this CPU and all memory but what the firmware keeps are ours. The firmware
    // maps all memory virtual = physical (UEFI specification 2.10, 2.3.6).
    unsafe { vambrace_leave_efi(loaded.dtb.0) }
}

/// Cleans and invalidates the data cache over `range` to the point of coherency.
fn clean(range: PaRange) {
    // CTR_EL0.DminLine: log2 of the words in the smallest line.
    let line = 4 << (read_sysreg!("ctr_el0") >> 16 & 0xf);
    let mut at = Pa(range.start.0 & !(line - 1));
    while at < range.end {
        // SAFETY: writes back what the cache holds; no value changes.
        unsafe { core::arch::asm!("dc civac, {}", in(reg) at.0, options(nostack, preserves_flags)) };
        at = at.offset(line);
    }
    // SAFETY: a barrier.
    unsafe { core::arch::asm!("dsb sy", options(nostack, preserves_flags)) };
}
