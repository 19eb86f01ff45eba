//! The small ones: `physdev_op`, `platform_op`, `vm_assist`.

use core::sync::atomic::Ordering;

use vambrace_abi::errno::{Errno, HypercallResult};
use vambrace_abi::handle::XenHandle;
use vambrace_abi::platform::*;
use vambrace_abi::vm_assist::{VMASST_CMD_DISABLE, VMASST_CMD_ENABLE, VMASST_TYPE_RUNSTATE_UPDATE_FLAG};

use super::Caller;
use crate::machine::Machine;

/// `physdev_op`: dom0 tells of PCI devices, which without pass-through of them nobody needs to know; Xen without
/// PCI support on ARM gives this answer, and Linux goes on.
pub(super) fn physdev<M: Machine>(_: &Caller<'_, M>, _: u64, _: u64) -> HypercallResult {
    Err(Errno::ENOSYS)
}

/// `platform_op`: dom0 sets the wall clock.
pub(super) fn platform<M: Machine>(caller: &Caller<'_, M>, argument: u64) -> HypercallResult {
    caller.privileged()?;
    let op = caller.memory().read(XenHandle::<XenPlatformOp>::new(argument))?;
    if op.interface_version != XENPF_INTERFACE_VERSION {
        return Err(Errno::EACCES);
    }
    match op.cmd {
        XENPF_SETTIME64 => {
            let [seconds, nanoseconds, system_time, ..] = op.u;
            // `mbz`, in the upper half of the nanoseconds' word.
            if nanoseconds >> 32 != 0 {
                return Err(Errno::EINVAL);
            }
            caller.hv.set_wall_clock(seconds, nanoseconds as u32, system_time);
            Ok(0)
        }
        XENPF_SETTIME32 => {
            let [both, system_time, ..] = op.u;
            let (seconds, nanoseconds) = (both & 0xffff_ffff, (both >> 32) as u32);
            caller.hv.set_wall_clock(seconds, nanoseconds, system_time);
            Ok(0)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// `vm_assist`: the one assist that ARM has.
pub(super) fn vm_assist<M: Machine>(caller: &Caller<'_, M>, command: u64, kind: u64) -> HypercallResult {
    if kind != u64::from(VMASST_TYPE_RUNSTATE_UPDATE_FLAG) {
        return Err(Errno::EINVAL);
    }
    let bit = 1 << VMASST_TYPE_RUNSTATE_UPDATE_FLAG;
    match u32::try_from(command) {
        Ok(VMASST_CMD_ENABLE) => caller.domain().assists.fetch_or(bit, Ordering::AcqRel),
        Ok(VMASST_CMD_DISABLE) => caller.domain().assists.fetch_and(!bit, Ordering::AcqRel),
        _ => return Err(Errno::ENOSYS),
    };
    Ok(0)
}
