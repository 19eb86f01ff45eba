//! The host's CPUs (`XEN_SYSCTL_getcpuinfo`, `XEN_SYSCTL_cputopoinfo`).

use vambrace_abi::errno::HypercallResult;
use vambrace_abi::sysctl::*;

use super::Call;
use crate::hypervisor::Hypervisor;
use crate::machine::Machine;
use crate::sched::CpuMask;

/// One more than the highest number of a CPU that is online.
pub(super) fn count<M: Machine>(hv: &Hypervisor<M>) -> u32 {
    CpuMask::BITS - hv.scheduler.online_cpus().leading_zeros()
}

pub(super) fn idle_times<M: Machine>(call: &Call<'_, '_, M>) -> HypercallResult {
    let request: XenSysctlGetcpuinfo = call.body()?;
    let hv = call.caller.hv;
    let cpus = request.max_cpus.min(count(hv));
    for cpu in 0..cpus {
        let idle = hv.scheduler.cpu(cpu as usize, hv.machine.now()).map_or(0, |account| account.idle_time);
        call.put(request.info, cpu.into(), &XenSysctlCpuinfo { idletime: hv.nanoseconds(idle) })?;
    }
    call.answer(&XenSysctlGetcpuinfo { nr_cpus: cpus, ..request })
}

/// Every CPU is a core of its own, of one socket and one node. With no list, only how many there are.
pub(super) fn topology<M: Machine>(call: &Call<'_, '_, M>) -> HypercallResult {
    let request: XenSysctlCputopoinfo = call.body()?;
    let hv = call.caller.hv;
    let mut cpus = count(hv);
    if !request.cputopo.is_null() {
        cpus = cpus.min(request.num_cpus);
        let online = hv.scheduler.online_cpus();
        for cpu in 0..cpus {
            let topology = if online & 1 << cpu != 0 {
                XenSysctlCputopo { core: cpu, socket: 0, node: 0 }
            } else {
                XenSysctlCputopo {
                    core: XEN_INVALID_CORE_ID,
                    socket: XEN_INVALID_SOCKET_ID,
                    node: XEN_INVALID_NODE_ID,
                }
            };
            call.put(request.cputopo, cpu.into(), &topology)?;
        }
    }
    call.answer(&XenSysctlCputopoinfo { num_cpus: cpus, ..request })
}
