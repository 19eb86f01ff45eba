//! `xen_version`: who we are (`version.h`). All may know that; the command line and the build ID are the hardware domain's,
//! as by Xen's default policy.

use vambrace_abi::errno::{Errno, HypercallResult};
use vambrace_abi::handle::XenHandle;
use vambrace_abi::version::*;
use zerocopy::IntoBytes;

use super::Caller;
use crate::idregs::{has_aarch32, has_aarch64};
use crate::machine::Machine;

/// What follows the release in the version.
const EXTRA_VERSION: &str = concat!(".0-vambrace-", env!("CARGO_PKG_VERSION"));
/// What follows the release, in the sixteen bytes of the old form.
const EXTRA_VERSION_SHORT: &str = ".0-vambrace";
/// Guests that can run on a CPU with both widths, with one, with the other.
const CAPABILITIES: [&str; 3] = ["xen-3.0-aarch64 xen-3.0-armv7l ", "xen-3.0-aarch64 ", "xen-3.0-armv7l "];
const CHANGESET: &str = concat!("vambrace ", env!("CARGO_PKG_VERSION"));
/// In place of what is for the hardware domain alone: the word that Xen has for it.
const DENIED: &str = "<denied>";
const PAGE: u64 = 4096;

pub(super) fn op<M: Machine>(caller: &Caller<'_, M>, command: u64, argument: u64) -> HypercallResult {
    match u32::try_from(command).map_err(|_| Errno::ENOSYS)? {
        XENVER_VERSION => {
            let (major, minor) = caller.hv.settings.xen_version;
            Ok(u64::from(major) << 16 | u64::from(minor))
        }
        XENVER_EXTRAVERSION => fixed::<M, 16>(caller, argument, EXTRA_VERSION_SHORT),
        XENVER_COMPILE_INFO => {
            let info = XenCompileInfo {
                compiler: padded("rustc"),
                compile_by: padded("vambrace"),
                compile_domain: padded(""),
                compile_date: padded(""),
            };
            caller.memory().write(XenHandle::new(argument), &info)?;
            Ok(0)
        }
        XENVER_CAPABILITIES => fixed::<M, 1024>(caller, argument, capabilities(caller)),
        XENVER_CHANGESET => fixed::<M, 64>(caller, argument, CHANGESET),
        XENVER_PLATFORM_PARAMETERS => {
            // Guests' virtual space has no part for the hypervisor on ARM.
            caller.memory().write(XenHandle::new(argument), &XenPlatformParameters { virt_start: 0 })?;
            Ok(0)
        }
        XENVER_GET_FEATURES => features(caller, argument),
        XENVER_PAGESIZE if argument == 0 => Ok(PAGE),
        XENVER_PAGESIZE => Err(Errno::EINVAL),
        XENVER_GUEST_HANDLE => {
            let handle = *caller.domain().handle.lock();
            caller.memory().write_bytes(argument, &handle)?;
            Ok(0)
        }
        XENVER_COMMANDLINE => {
            // The old form cannot fail, so it says so.
            let line = caller.privileged().map_or(DENIED, |()| &caller.hv.settings.command_line);
            fixed::<M, 1024>(caller, argument, line)
        }
        // No build ID is linked in: the error that Xen gives then.
        XENVER_BUILD_ID => caller.privileged().and(Err(Errno::ENODATA)),
        XENVER_EXTRAVERSION2 => variable(caller, argument, EXTRA_VERSION),
        XENVER_CAPABILITIES2 => variable(caller, argument, capabilities(caller)),
        XENVER_CHANGESET2 => variable(caller, argument, CHANGESET),
        XENVER_COMMANDLINE2 => {
            caller.privileged()?;
            variable(caller, argument, &caller.hv.settings.command_line)
        }
        _ => Err(Errno::ENOSYS),
    }
}

fn capabilities<M: Machine>(caller: &Caller<'_, M>) -> &'static str {
    let m = &caller.hv.machine;
    let [both, wide, narrow] = CAPABILITIES;
    match (has_aarch64(m), has_aarch32(m)) {
        (true, true) => both,
        (true, false) => wide,
        (false, _) => narrow,
    }
}

fn features<M: Machine>(caller: &Caller<'_, M>, argument: u64) -> HypercallResult {
    let handle = XenHandle::<XenFeatureInfo>::new(argument);
    let mut info = caller.memory().read(handle)?;
    if info.submap_idx >= XENFEAT_NR_SUBMAPS {
        return Err(Errno::EINVAL);
    }
    let mut word = bits(&[
        XENFEAT_AUTO_TRANSLATED_PHYSMAP,
        XENFEAT_WRITABLE_PAGE_TABLES,
        XENFEAT_MEMORY_OP_VNODE_SUPPORTED,
        XENFEAT_ARM_SMCCC_SUPPORTED,
        XENFEAT_RUNSTATE_PHYS_AREA,
    ]);
    if caller.domain().is_hardware {
        word |= bits(&[XENFEAT_DOM0]);
    }
    let direct = caller.domain().direct.is_some();
    word |= bits(&[if direct { XENFEAT_DIRECT_MAPPED } else { XENFEAT_NOT_DIRECT_MAPPED }]);
    info.submap = word;
    caller.memory().write(handle, &info)?;
    Ok(0)
}

fn bits(features: &[u32]) -> u32 {
    features.iter().fold(0, |word, feature| word | 1 << feature)
}

/// `text` in a NUL-ended array, cut to fit.
fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(text.bytes()).take(N.saturating_sub(1)).for_each(|(to, from)| *to = from);
    bytes
}

fn fixed<M: Machine, const N: usize>(caller: &Caller<'_, M>, argument: u64, text: &str) -> HypercallResult {
    caller.memory().write_bytes(argument, &padded::<N>(text))?;
    Ok(0)
}

/// The form with a buffer of the caller's size: answers the length, and fills the buffer if there is one.
fn variable<M: Machine>(caller: &Caller<'_, M>, argument: u64, text: &str) -> HypercallResult {
    let length = text.len() as u64;
    if argument == 0 {
        return Ok(length);
    }
    let head = caller.memory().read(XenHandle::<XenVarbuf>::new(argument))?;
    if head.len == 0 {
        return Err(Errno::EINVAL);
    }
    if u64::from(head.len) < length {
        return Err(Errno::ENOBUFS);
    }
    let body = argument.checked_add(head.as_bytes().len() as u64).ok_or(Errno::EFAULT)?;
    caller.memory().write_bytes(body, text.as_bytes())?;
    Ok(length)
}
