//! `sysctl`: what a toolstack asks of the whole machine (`sysctl.h`). One file for each noun.
//!
//! Xen 4.17 and 4.20 have one interface version, and the same layouts of every command here.

mod console;
mod cpus;
mod domains;
mod memory;
mod physinfo;
mod pools;
mod scheduler;

#[cfg(test)]
mod tests;

use vambrace_abi::errno::Errno;
use vambrace_abi::handle::XenHandle;
use vambrace_abi::sysctl::*;
use zerocopy::{Immutable, IntoBytes};

use super::{Outcome, toolstack};
use crate::machine::Machine;

/// A call of a version that is known, by a domain that may make it.
pub(super) type Call<'c, 'a, M> = toolstack::Call<'c, 'a, M, XenSysctl>;

impl<M: Machine> Call<'_, '_, M> {
    /// Writes element `index` of a list in the caller's memory.
    fn put<T: IntoBytes + Immutable>(&self, list: XenHandle<T>, index: u64, value: &T) -> Result<(), Errno> {
        self.caller.memory().write(list.element(index).ok_or(Errno::EFAULT)?, value)
    }
}

/// Carries out a sysctl.
pub(super) fn perform<M: Machine>(call: &Call<'_, '_, M>) -> Outcome {
    let result = match call.head.cmd {
        XEN_SYSCTL_READCONSOLE => console::read(call),
        XEN_SYSCTL_DEBUG_KEYS => return console::keys(call),
        XEN_SYSCTL_PHYSINFO => physinfo::get(call),
        XEN_SYSCTL_GETCPUINFO => cpus::idle_times(call),
        XEN_SYSCTL_CPUTOPOINFO => cpus::topology(call),
        XEN_SYSCTL_NUMAINFO => memory::nodes(call),
        XEN_SYSCTL_AVAILHEAP => memory::available(call),
        XEN_SYSCTL_PCITOPOINFO => physinfo::pci_nodes(call),
        XEN_SYSCTL_GETDOMAININFOLIST => domains::list(call),
        XEN_SYSCTL_SCHED_ID => scheduler::id(call),
        XEN_SYSCTL_SCHEDULER_OP => scheduler::op(call),
        XEN_SYSCTL_CPUPOOL_OP => pools::op(call),
        // As Xen built without them: coverage, and overlays of the device tree.
        XEN_SYSCTL_COVERAGE_OP | XEN_SYSCTL_DT_OVERLAY => Err(Errno::EOPNOTSUPP),
        // As Xen built without them: trace buffers, performance counters, lock profile, live patches; and what no ARM
        // build has: CPU hot-plug, power management, x86's.
        _ => Err(Errno::ENOSYS),
    };
    Outcome::Done(result)
}
