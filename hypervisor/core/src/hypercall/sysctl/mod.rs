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

use core::mem::offset_of;

use vambrace_abi::errno::{Errno, HypercallResult};
use vambrace_abi::handle::XenHandle;
use vambrace_abi::sysctl::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Caller, Outcome};
use crate::machine::Machine;

/// A call of a version that is known, by a domain that may make it.
pub(super) struct Call<'c, 'a, M: Machine> {
    pub(super) caller: &'c Caller<'a, M>,
    /// Guest virtual address of the argument.
    pub(super) argument: u64,
    /// The argument as it was when it was read.
    pub(super) head: XenSysctl,
}

impl<M: Machine> Call<'_, '_, M> {
    /// The command's structure.
    fn body<T: FromBytes>(&self) -> Result<T, Errno> {
        T::read_from_prefix(self.head.u.as_bytes()).map(|(body, _)| body).map_err(|_| Errno::EINVAL)
    }

    /// Answers with the command's structure.
    fn answer<T: IntoBytes + Immutable>(&self, body: &T) -> HypercallResult {
        let at = self.argument.checked_add(offset_of!(XenSysctl, u) as u64).ok_or(Errno::EFAULT)?;
        self.caller.memory().write(XenHandle::new(at), body)?;
        Ok(0)
    }

    /// Writes element `index` of a list in the caller's memory.
    fn put<T: IntoBytes + Immutable>(&self, list: XenHandle<T>, index: u64, value: &T) -> Result<(), Errno> {
        self.caller.memory().write(list.element(index).ok_or(Errno::EFAULT)?, value)
    }
}

/// Carries out a sysctl.
pub(super) fn perform<M: Machine>(call: &Call<'_, '_, M>) -> Outcome {
    let result = match call.head.cmd {
        XEN_SYSCTL_READCONSOLE => console::read(call),
        XEN_SYSCTL_DEBUG_KEYS => console::keys(call),
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
