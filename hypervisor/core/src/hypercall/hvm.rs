//! `hvm_op`: parameters of a domain (`hvm/hvm_op.h`, `hvm/params.h`).

use vambrace_abi::errno::{Errno, HypercallResult};
use vambrace_abi::handle::XenHandle;
use vambrace_abi::hvm::*;

use super::Caller;
use crate::machine::Machine;

pub(super) fn op<M: Machine>(caller: &Caller<'_, M>, command: u64, argument: u64) -> HypercallResult {
    match u32::try_from(command).map_err(|_| Errno::ENOSYS)? {
        HVMOP_SET_PARAM => {
            let param = caller.memory().read(XenHandle::<XenHvmParam>::new(argument))?;
            let index = checked(&param)?;
            // On ARM the toolstack sets them all, a guest none.
            if caller.is_self(param.domid) && !caller.domain().is_hardware {
                return Err(Errno::EPERM);
            }
            with_domain(caller, param.domid, |params| {
                *params.get_mut(index).ok_or(Errno::EINVAL)? = param.value;
                Ok(0)
            })
        }
        HVMOP_GET_PARAM => {
            let handle = XenHandle::<XenHvmParam>::new(argument);
            let mut param = caller.memory().read(handle)?;
            let index = checked(&param)?;
            param.value =
                with_domain(caller, param.domid, |params| params.get(index).copied().ok_or(Errno::EINVAL))?;
            caller.memory().write(handle, &param)?;
            Ok(0)
        }
        HVMOP_GUEST_REQUEST_VM_EVENT if argument == 0 => Ok(0),
        HVMOP_GUEST_REQUEST_VM_EVENT => Err(Errno::EINVAL),
        _ => Err(Errno::ENOSYS),
    }
}

fn checked(param: &XenHvmParam) -> Result<usize, Errno> {
    if param.index >= HVM_NR_PARAMS {
        return Err(Errno::EINVAL);
    }
    Ok(param.index as usize)
}

fn with_domain<M: Machine>(
    caller: &Caller<'_, M>,
    domid: u16,
    f: impl FnOnce(&mut [u64; HVM_NR_PARAMS as usize]) -> HypercallResult,
) -> HypercallResult {
    let target = caller.target(domid)?;
    let mut params = target.params.lock();
    f(&mut params)
}
