//! What a CPU knows of itself.

use super::sysregs::read_sysreg;

/// The CPU that executes this, in the hypervisor's numbering: 0 for the one that booted.
#[inline]
pub fn this_cpu() -> usize {
    read_sysreg!("tpidr_el2") as usize
}

/// Where a CPU that arrives at EL3 may begin: nowhere, firmware brings all to EL2.
pub(crate) fn secure_entry() -> Option<usize> {
    None
}
