//! `domctl` and `sysctl`: the toolstack's calls (`domctl.h`, `sysctl.h`), of two releases at once.
//!
//! Each call carries the version of its layouts. One that is not known is refused and said in words on the console. A
//! known one tells the release whose toolstack calls, and layouts that differ are told apart by that; what is done is the
//! same for both.

use core::mem::offset_of;

use vambrace_abi::domctl::{XEN_DOMCTL_INTERFACE_VERSION_4_17, XEN_DOMCTL_INTERFACE_VERSION_4_20, XenDomctl};
use vambrace_abi::errno::{Errno, HypercallResult};
use vambrace_abi::handle::XenHandle;
use vambrace_abi::sysctl::{XEN_SYSCTL_INTERFACE_VERSION_4_17, XEN_SYSCTL_INTERFACE_VERSION_4_20, XenSysctl};
use zerocopy::{FromBytes, Immutable, IntoBytes};

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

/// A call's argument as the ABI has it: a head, and the command's structure.
pub(super) trait Argument {
    /// Where the command's structure is in it, in bytes.
    const BODY: usize;

    /// The command's structure, with what follows it.
    fn body(&self) -> &[u8];
}

impl Argument for XenDomctl {
    const BODY: usize = offset_of!(XenDomctl, u);

    fn body(&self) -> &[u8] {
        self.u.as_bytes()
    }
}

impl Argument for XenSysctl {
    const BODY: usize = offset_of!(XenSysctl, u);

    fn body(&self) -> &[u8] {
        self.u.as_bytes()
    }
}

/// A call of a version that is known, by a domain that may make it.
pub(super) struct Call<'c, 'a, M: Machine, A> {
    pub(super) caller: &'c Caller<'a, M>,
    /// Whose layouts it has. A sysctl's are the same in all.
    pub(super) release: Release,
    /// Guest virtual address of the argument.
    pub(super) argument: u64,
    /// The argument as it was when it was read.
    pub(super) head: A,
}

impl<M: Machine, A: Argument> Call<'_, '_, M, A> {
    /// The command's structure.
    pub(super) fn body<T: FromBytes>(&self) -> Result<T, Errno> {
        T::read_from_prefix(self.head.body()).map(|(body, _)| body).map_err(|_| Errno::EINVAL)
    }

    /// Answers with the command's structure.
    pub(super) fn answer<T: IntoBytes + Immutable>(&self, body: &T) -> HypercallResult {
        self.write(A::BODY, body)?;
        Ok(0)
    }

    /// Writes a part of the argument, from the byte at `offset` on.
    pub(super) fn write<T: IntoBytes + Immutable>(&self, offset: usize, value: &T) -> Result<(), Errno> {
        let at = self.argument.checked_add(offset as u64).ok_or(Errno::EFAULT)?;
        self.caller.memory().write(XenHandle::new(at), value)
    }

    /// The call is to be made again, when others had their turn.
    pub(super) fn again(&self) -> Outcome {
        Outcome::Again([self.argument, 0, 0, 0, 0])
    }
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
        Ok(()) => domctl::perform(&Call { caller, release, argument, head: call }),
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
        Ok(()) => sysctl::perform(&Call { caller, release: Release::Xen420, argument, head: call }),
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
