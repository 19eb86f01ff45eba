//! `domctl` and `sysctl`: the toolstack's calls (`domctl.h`, `sysctl.h`).
//!
//! Each call carries the version of its layouts, which has to be one that is known. No command is served yet: dom0
//! stands alone.

use vambrace_abi::domctl::{XEN_DOMCTL_INTERFACE_VERSION_4_17, XEN_DOMCTL_INTERFACE_VERSION_4_20, XenDomctl};
use vambrace_abi::errno::{Errno, HypercallResult};
use vambrace_abi::handle::XenHandle;
use vambrace_abi::sysctl::{XEN_SYSCTL_INTERFACE_VERSION_4_17, XEN_SYSCTL_INTERFACE_VERSION_4_20, XenSysctl};

use super::Caller;
use crate::machine::Machine;

pub(super) fn domctl<M: Machine>(caller: &Caller<'_, M>, argument: u64) -> HypercallResult {
    let call = caller.memory().read(XenHandle::<XenDomctl>::new(argument))?;
    let known = [XEN_DOMCTL_INTERFACE_VERSION_4_17, XEN_DOMCTL_INTERFACE_VERSION_4_20];
    check(caller, "domctl", call.interface_version, &known)
}

pub(super) fn sysctl<M: Machine>(caller: &Caller<'_, M>, argument: u64) -> HypercallResult {
    let call = caller.memory().read(XenHandle::<XenSysctl>::new(argument))?;
    let known = [XEN_SYSCTL_INTERFACE_VERSION_4_17, XEN_SYSCTL_INTERFACE_VERSION_4_20];
    check(caller, "sysctl", call.interface_version, &known)
}

fn check<M: Machine>(caller: &Caller<'_, M>, what: &str, version: u32, known: &[u32]) -> HypercallResult {
    if !known.contains(&version) {
        caller.hv.guest_warning(
            caller.seat,
            format_args!("{what} of interface version {version:#x}; known are those of Xen 4.17 and 4.20"),
        );
        return Err(Errno::EACCES);
    }
    caller.privileged()?;
    Err(Errno::ENOSYS)
}
