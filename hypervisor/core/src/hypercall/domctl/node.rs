//! NUMA nodes of a domain. All of the machine is one node.

use vambrace_abi::domctl::XenDomctlNodeaffinity;
use vambrace_abi::errno::{Errno, HypercallResult};

use super::Call;
use crate::hypercall::bitmap;
use crate::machine::Machine;

/// The set of the one node.
const NODE: u128 = 1;

pub(super) fn set<M: Machine>(call: &Call<'_, '_, M>) -> HypercallResult {
    let request: XenDomctlNodeaffinity = call.body()?;
    if bitmap::read(call.caller, &request.nodemap)? & NODE == 0 {
        return Err(Errno::EINVAL);
    }
    Ok(0)
}

pub(super) fn get<M: Machine>(call: &Call<'_, '_, M>) -> HypercallResult {
    let request: XenDomctlNodeaffinity = call.body()?;
    bitmap::write(call.caller, &request.nodemap, NODE)?;
    Ok(0)
}
