//! What a CPU knows of itself.

use super::sysregs::read32;

unsafe extern "C" {
    static vambrace_secure_entry: u8;
}

/// The CPU that executes this, in the hypervisor's numbering: 0 for the one that booted.
#[inline]
pub fn this_cpu() -> usize {
    read32!("htpidr") as usize
}

/// Where a CPU that arrives in the Secure state may begin: it brings itself to Hyp mode first.
pub(crate) fn secure_entry() -> Option<usize> {
    Some(&raw const vambrace_secure_entry as usize)
}
