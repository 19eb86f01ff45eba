//! `vm_assist`: how the guest would like things done (`xen.h`, `VMASST_*`).

use core::sync::atomic::Ordering;

use vambrace_abi::errno::{Errno, HypercallResult};
use vambrace_abi::vm_assist::{VMASST_CMD_DISABLE, VMASST_CMD_ENABLE, VMASST_TYPE_RUNSTATE_UPDATE_FLAG};

use super::Caller;
use crate::machine::Machine;

/// The one assist that ARM has: the update flag of runstate areas.
pub(super) fn op<M: Machine>(caller: &Caller<'_, M>, command: u64, kind: u64) -> HypercallResult {
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
