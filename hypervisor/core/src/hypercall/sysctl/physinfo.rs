//! Facts about the machine (`XEN_SYSCTL_physinfo`, `XEN_SYSCTL_pcitopoinfo`).

use vambrace_abi::errno::{Errno, HypercallResult};
use vambrace_abi::sysctl::*;

use super::Call;
use super::cpus::count;
use crate::machine::Machine;

/// PCI devices of one call.
const MAX_DEVICES: u32 = 4096;

pub(super) fn get<M: Machine>(call: &Call<'_, '_, M>) -> HypercallResult {
    let hv = call.caller.hv;
    let (free_pages, total_pages) = {
        let frames = hv.frames.lock();
        (frames.free_frames(), frames.total_frames())
    };
    let cpus = hv.scheduler.online_cpus().count_ones();
    call.answer(&XenSysctlPhysinfo {
        threads_per_core: 1,
        cores_per_socket: cpus,
        nr_cpus: cpus,
        max_cpu_id: count(hv).saturating_sub(1),
        nr_nodes: 1,
        max_node_id: 0,
        cpu_khz: u32::try_from(hv.machine.frequency() / 1000).unwrap_or(u32::MAX),
        capabilities: XEN_SYSCTL_PHYSCAP_HVM
            | XEN_SYSCTL_PHYSCAP_HAP
            | XEN_SYSCTL_PHYSCAP_GNTTAB_V1
            | XEN_SYSCTL_PHYSCAP_GNTTAB_V2,
        total_pages,
        free_pages,
        max_mfn: hv.settings.ram_end.frame().saturating_sub(1),
        ..Default::default()
    })
}

/// The hypervisor knows no PCI devices, and says so of each.
pub(super) fn pci_nodes<M: Machine>(call: &Call<'_, '_, M>) -> HypercallResult {
    let request: XenSysctlPcitopoinfo = call.body()?;
    if request.devs.is_null() || request.nodes.is_null() || request.num_devs > MAX_DEVICES {
        return Err(Errno::EINVAL);
    }
    for index in 0..u64::from(request.num_devs) {
        call.put(request.nodes, index, &XEN_INVALID_DEV)?;
    }
    Ok(0)
}
