//! `domctl` and `sysctl`: the toolstack's calls (`domctl.h`, `sysctl.h`), of two releases at once.
//!
//! Each call carries the version of its layouts. One that is not known is refused and said in words on the console. A
//! known one tells the release whose toolstack calls, and layouts that differ are told apart by that; what is done is the
//! same for both.

use vambrace_abi::domctl::{XEN_DOMCTL_INTERFACE_VERSION_4_17, XEN_DOMCTL_INTERFACE_VERSION_4_20, XenDomctl};
use vambrace_abi::errno::Errno;
use vambrace_abi::handle::XenHandle;
use vambrace_abi::sysctl::{XEN_SYSCTL_INTERFACE_VERSION_4_17, XEN_SYSCTL_INTERFACE_VERSION_4_20, XenSysctl};

use super::{Caller, Outcome, domctl, sysctl};
use crate::machine::Machine;

// One number stands for both releases' sysctls, whose layouts are the same (`vambrace_abi::sysctl`).
const _: () = assert!(XEN_SYSCTL_INTERFACE_VERSION_4_17 == XEN_SYSCTL_INTERFACE_VERSION_4_20);

/// A release of the toolstack, by its layouts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Release {
    /// Xen 4.17.
    Xen417,
    /// Xen 4.20.
    Xen420,
}

pub(super) fn domctl<M: Machine>(caller: &Caller<'_, M>, argument: u64) -> Outcome {
    let call = match caller.memory().read(XenHandle::<XenDomctl>::new(argument)) {
        Ok(call) => call,
        Err(errno) => return Outcome::Done(Err(errno)),
    };
    let release = match call.interface_version {
        XEN_DOMCTL_INTERFACE_VERSION_4_17 => Release::Xen417,
        XEN_DOMCTL_INTERFACE_VERSION_4_20 => Release::Xen420,
        version => return refuse(caller, "domctl", version),
    };
    match caller.privileged() {
        Ok(()) => domctl::perform(&domctl::Call { caller, release, argument, head: call }),
        Err(errno) => Outcome::Done(Err(errno)),
    }
}

pub(super) fn sysctl<M: Machine>(caller: &Caller<'_, M>, argument: u64) -> Outcome {
    let call = match caller.memory().read(XenHandle::<XenSysctl>::new(argument)) {
        Ok(call) => call,
        Err(errno) => return Outcome::Done(Err(errno)),
    };
    if call.interface_version != XEN_SYSCTL_INTERFACE_VERSION_4_20 {
        return refuse(caller, "sysctl", call.interface_version);
    }
    match caller.privileged() {
        Ok(()) => sysctl::perform(&sysctl::Call { caller, argument, head: call }),
        Err(errno) => Outcome::Done(Err(errno)),
    }
}

fn refuse<M: Machine>(caller: &Caller<'_, M>, what: &str, version: u32) -> Outcome {
    caller.hv.guest_warning(
        caller.seat,
        format_args!(
            "{what} of interface version {version:#x} is refused: the toolstacks served are those of Xen 4.17 \
             and 4.20 (domctl {XEN_DOMCTL_INTERFACE_VERSION_4_17:#x} and {XEN_DOMCTL_INTERFACE_VERSION_4_20:#x}, \
             sysctl {XEN_SYSCTL_INTERFACE_VERSION_4_20:#x})"
        ),
    );
    Outcome::Done(Err(Errno::EACCES))
}
