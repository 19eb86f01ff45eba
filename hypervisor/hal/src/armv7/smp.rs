//! What a CPU knows of itself.

use vambrace_core::platform::Arrival;

use super::sysregs::read32;

unsafe extern "C" {
    static vambrace_secondary_entry: u8;
    static vambrace_secure_entry: u8;
    static vambrace_monitor_entry: u8;
}

/// The CPU that executes this, in the hypervisor's numbering: 0 for the one that booted.
#[inline]
pub fn this_cpu() -> usize {
    read32!("htpidr") as usize
}

/// Where a CPU that arrives so may begin: it brings itself to Hyp mode first.
pub(crate) fn entry_from(arrival: Arrival) -> Option<usize> {
    Some(match arrival {
        Arrival::Hypervisor => &raw const vambrace_secondary_entry,
        Arrival::Secure => &raw const vambrace_secure_entry,
        Arrival::OmapMonitor => &raw const vambrace_monitor_entry,
    } as usize)
}
