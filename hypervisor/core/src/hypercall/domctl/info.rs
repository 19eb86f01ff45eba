//! What is known of a domain (`XEN_DOMCTL_getdomaininfo`).

use vambrace_abi::domctl::*;
use vambrace_abi::errno::HypercallResult;

use super::Call;
use crate::domain::Domain;
use crate::hypervisor::Hypervisor;
use crate::life::Stage;
use crate::machine::Machine;
use crate::sched::Status;
use crate::vgic::Version;
use core::sync::atomic::Ordering;

/// What stands for a shutdown's reason before there is one.
const NO_REASON: u32 = u32::MAX;

pub(super) fn get<M: Machine>(call: &Call<'_, '_, M>, domain: &Domain<M>) -> HypercallResult {
    call.answer_domain(domain.id)?;
    call.answer(&info(call.caller.hv, domain))
}

/// The guests' interrupt controller, as `XEN_DOMCTL_CONFIG_GIC_*`.
pub(super) fn gic_version<M: Machine>(hv: &Hypervisor<M>) -> u8 {
    match hv.settings.guest_gic.version() {
        Version::V2 => XEN_DOMCTL_CONFIG_GIC_V2,
        Version::V3 => XEN_DOMCTL_CONFIG_GIC_V3,
    }
}

/// A domain's state as the toolstack is told.
pub(in crate::hypercall) fn info<M: Machine>(
    hv: &Hypervisor<M>,
    domain: &Domain<M>,
) -> XenDomctlGetdomaininfo {
    let now = hv.machine.now();
    let (mut online, mut blocked, mut running, mut ticks) = (0, true, false, 0_u64);
    hv.scheduler.for_each_of(domain.id, |key, account| {
        ticks = ticks.saturating_add(account.run_time_at(now));
        if domain.vcpus.get(usize::from(key.vcpu)).is_some_and(|vcpu| vcpu.is_online()) {
            online += 1;
            blocked &= account.status == Status::Blocked;
            running |= matches!(account.status, Status::Running(_));
        }
    });
    let life = *domain.life.lock();
    let mut flags = XEN_DOMINF_HVM_GUEST | XEN_DOMINF_HAP;
    for (bit, is) in [
        (XEN_DOMINF_BLOCKED, online > 0 && blocked),
        (XEN_DOMINF_RUNNING, running),
        (XEN_DOMINF_DYING, life.stage == Stage::Dead),
        (XEN_DOMINF_SHUTDOWN, life.shutdown.is_some()),
        (XEN_DOMINF_PAUSED, life.toolstack_pauses > 0),
        (XEN_DOMINF_DEBUGGED, life.debugged),
    ] {
        flags |= if is { bit } else { 0 };
    }
    flags |= life.shutdown.unwrap_or(NO_REASON) << XEN_DOMINF_SHUTDOWNSHIFT;
    let gic_version = gic_version(hv);
    XenDomctlGetdomaininfo {
        domain: domain.id,
        flags,
        tot_pages: domain.pages(),
        max_pages: domain.max_pages.load(Ordering::Acquire),
        shared_info_frame: domain.shared_info_at.lock().map_or(u64::MAX, |at| at.frame()),
        cpu_time: hv.nanoseconds(ticks),
        nr_online_vcpus: online,
        max_vcpu_id: (domain.vcpus.len() as u32).checked_sub(1).unwrap_or(XEN_INVALID_MAX_VCPU_ID),
        handle: *domain.handle.lock(),
        cpupool: hv.scheduler.domain(domain.id).map_or(0, |account| account.pool),
        gpaddr_bits: hv.settings.shape.ipa_bits,
        arch_config: XenArchDomainconfig { gic_version, ..Default::default() },
        ..Default::default()
    }
}
