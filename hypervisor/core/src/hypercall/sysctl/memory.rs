//! The host's memory (`XEN_SYSCTL_numainfo`, `XEN_SYSCTL_availheap`). It is one node.

use vambrace_abi::errno::HypercallResult;
use vambrace_abi::sysctl::*;

use super::Call;
use crate::addr::PAGE_SIZE;
use crate::machine::Machine;

/// A node's distance to itself (ACPI's SLIT).
const LOCAL: u32 = 10;

/// With no list, only how many nodes there are.
pub(super) fn nodes<M: Machine>(call: &Call<'_, '_, M>) -> HypercallResult {
    let request: XenSysctlNumainfo = call.body()?;
    let mut nodes = 1;
    if !request.meminfo.is_null() || !request.distance.is_null() {
        nodes = request.num_nodes.min(1);
        if nodes != 0 && !request.meminfo.is_null() {
            let (free, total) = {
                let frames = call.caller.hv.frames.lock();
                (frames.free_frames(), frames.total_frames())
            };
            let info = XenSysctlMeminfo { memsize: total * PAGE_SIZE, memfree: free * PAGE_SIZE };
            call.put(request.meminfo, 0, &info)?;
        }
        if nodes != 0 && !request.distance.is_null() {
            call.put(request.distance, 0, &LOCAL)?;
        }
    }
    call.answer(&XenSysctlNumainfo { num_nodes: nodes, ..request })
}

/// Free memory whose addresses have so many bits; a node that there is not has none.
pub(super) fn available<M: Machine>(call: &Call<'_, '_, M>) -> HypercallResult {
    let request: XenSysctlAvailheap = call.body()?;
    let most = if request.max_bitwidth == 0 { u32::MAX } else { request.max_bitwidth };
    let free = match request.node {
        -1 | 0 => call.caller.hv.frames.lock().free_frames_of_width(request.min_bitwidth, most),
        _ => 0,
    };
    call.answer(&XenSysctlAvailheap { avail_bytes: free * PAGE_SIZE, ..request })
}
