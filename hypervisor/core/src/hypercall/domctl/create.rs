//! `XEN_DOMCTL_createdomain`: the one command that both releases lay out differently.

use vambrace_abi::domctl::*;
use vambrace_abi::domid::DOMID_FIRST_RESERVED;
use vambrace_abi::errno::{Errno, HypercallResult};

use super::Call;
use super::info::gic_version;
use crate::domu::DomuConfig;
use crate::grant::{DEFAULT_MAX_FRAMES, DEFAULT_MAX_MAPTRACK_FRAMES, Version};
use crate::hypercall::toolstack::Release;
use crate::machine::Machine;

/// INTIDs of SPIs end before this one, and begin after the first 32 (IHI 0048B, 2.2.1).
const MAX_SPIS: u32 = 1020 - 32;
/// Flags that every guest on ARM has (`domctl.h`).
const REQUIRED: u32 = XEN_DOMCTL_CDF_HVM | XEN_DOMCTL_CDF_HAP;

/// The command in the layout of 4.20, which has all that 4.17's has.
fn of_417(from: XenDomctlCreatedomain417) -> XenDomctlCreatedomain420 {
    XenDomctlCreatedomain420 {
        ssidref: from.ssidref,
        handle: from.handle,
        flags: from.flags,
        iommu_opts: from.iommu_opts,
        max_vcpus: from.max_vcpus,
        max_evtchn_port: from.max_evtchn_port,
        max_grant_frames: from.max_grant_frames,
        max_maptrack_frames: from.max_maptrack_frames,
        grant_opts: from.grant_opts,
        altp2m_opts: 0,
        vmtrace_size: from.vmtrace_size,
        cpupool_id: from.cpupool_id,
        // Padding there.
        arch: XenArchDomainconfig { sve_vl: 0, ..from.arch },
    }
}

/// What the host can give.
pub(super) struct Host {
    /// Version of the guests' interrupt controller, as `XEN_DOMCTL_CONFIG_GIC_*`.
    pub(super) gic: u8,
    /// Most vCPUs.
    pub(super) vcpus: u32,
}

/// The configuration of the domain that is asked for; EINVAL for what cannot be had, ENODEV for the interrupt
/// controller that the host does not have.
pub(super) fn check(
    request: &XenDomctlCreatedomain420,
    id: Option<u16>,
    host: &Host,
) -> Result<DomuConfig, Errno> {
    // Without an IOMMU and a PMU for guests there is no choice left.
    let plain = request.flags == REQUIRED
        && request.iommu_opts == 0
        && request.altp2m_opts == 0
        && request.vmtrace_size == 0
        && request.grant_opts & !XEN_DOMCTL_GRANT_VERSION_MASK == 0
        && request.arch.sve_vl == 0
        && request.arch.tee_type == XEN_DOMCTL_CONFIG_TEE_NONE;
    if !plain || request.max_vcpus == 0 || request.arch.nr_spis > MAX_SPIS {
        return Err(Errno::EINVAL);
    }
    match request.arch.gic_version {
        XEN_DOMCTL_CONFIG_GIC_NATIVE => {}
        version if version == host.gic => {}
        XEN_DOMCTL_CONFIG_GIC_V2 | XEN_DOMCTL_CONFIG_GIC_V3 => return Err(Errno::ENODEV),
        _ => return Err(Errno::EINVAL),
    }
    if request.max_vcpus > host.vcpus {
        return Err(Errno::EINVAL);
    }
    let grant_version = match request.grant_opts & XEN_DOMCTL_GRANT_VERSION_MASK {
        1 => Version::V1,
        2 => Version::V2,
        _ => return Err(Errno::EINVAL),
    };
    let frames = limit(request.max_grant_frames, DEFAULT_MAX_FRAMES)?;
    if frames == 0 {
        // A table has one frame from the start.
        return Err(Errno::EINVAL);
    }
    Ok(DomuConfig {
        id,
        handle: request.handle,
        vcpus: request.max_vcpus,
        spis: request.arch.nr_spis,
        max_port: request.max_evtchn_port.min(i32::MAX as u32),
        max_grant_frames: frames,
        max_maptrack_frames: limit(request.max_maptrack_frames, DEFAULT_MAX_MAPTRACK_FRAMES)?,
        grant_version,
        pool: request.cpupool_id,
        direct: false,
    })
}

/// A number of frames: the hypervisor's own limit for a negative one, and never more than that.
fn limit(asked: i32, most: u32) -> Result<u32, Errno> {
    match u32::try_from(asked) {
        Ok(asked) if asked > most => Err(Errno::EINVAL),
        Ok(asked) => Ok(asked),
        Err(_) => Ok(most),
    }
}

pub(super) fn create<M: Machine>(call: &Call<'_, '_, M>) -> HypercallResult {
    let hv = call.caller.hv;
    let request = match call.release {
        Release::Xen417 => of_417(call.body()?),
        Release::Xen420 => call.body()?,
    };
    let gic = gic_version(hv);
    // Any number that no domain can have stands for a new one.
    let id = Some(call.head.domain).filter(|id| (1..DOMID_FIRST_RESERVED).contains(id));
    let config = check(&request, id, &Host { gic, vcpus: hv.guest_vcpu_limit() })?;
    let arch = XenArchDomainconfig {
        gic_version: gic,
        clock_frequency: hv.settings.clock_frequency,
        ..request.arch
    };
    let domain = hv.create_domain(&config)?;
    call.answer_domain(domain.id)?;
    match call.release {
        Release::Xen417 => call.answer(&XenDomctlCreatedomain417 { arch, ..call.body()? }),
        Release::Xen420 => call.answer(&XenDomctlCreatedomain420 { arch, ..call.body()? }),
    }
}
