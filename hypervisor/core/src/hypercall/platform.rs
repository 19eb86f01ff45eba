//! `platform_op`: what dom0 tells of the machine (`platform.h`).

use vambrace_abi::errno::{Errno, HypercallResult};
use vambrace_abi::handle::XenHandle;
use vambrace_abi::platform::*;

use super::Caller;
use crate::machine::Machine;

/// `platform_op`: dom0 sets the wall clock.
pub(super) fn op<M: Machine>(caller: &Caller<'_, M>, argument: u64) -> HypercallResult {
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
