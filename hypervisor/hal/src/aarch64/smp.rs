//! What a CPU knows of itself.

use vambrace_core::platform::Arrival;

use super::sysregs::read_sysreg;

/// The CPU that executes this, in the hypervisor's numbering: 0 for the one that booted.
#[inline]
pub fn this_cpu() -> usize {
    read_sysreg!("tpidr_el2") as usize
}

/// Where a CPU that arrives in another state than EL2 may begin: nowhere, firmware brings all there.
pub(crate) fn entry_from(_: Arrival) -> Option<usize> {
    None
}
