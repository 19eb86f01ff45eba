//! `XEN_DOMCTL_createdomain`: the one command that both releases lay out differently.

use vambrace_abi::domctl::*;
use vambrace_abi::domid::DOMID_FIRST_RESERVED;
use vambrace_abi::errno::{Errno, HypercallResult};

use super::Call;
use crate::domu::DomuConfig;
use crate::grant::{DEFAULT_MAX_FRAMES, DEFAULT_MAX_MAPTRACK_FRAMES, Version};
use crate::hypercall::toolstack::Release;
use crate::hypervisor::GuestGic;
use crate::machine::Machine;

/// INTIDs of SPIs end before this one, and begin after the first 32 (IHI 0048B, 2.2.1).
const MAX_SPIS: u32 = 1020 - 32;
/// Flags that every guest on ARM has (`domctl.h`).
const REQUIRED: u32 = XEN_DOMCTL_CDF_HVM | XEN_DOMCTL_CDF_HAP;

/// The command, whichever release sent it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request {
    pub(super) handle: [u8; 16],
    pub(super) flags: u32,
    pub(super) iommu_opts: u32,
    pub(super) max_vcpus: u32,
    pub(super) max_evtchn_port: u32,
    pub(super) max_grant_frames: i32,
    pub(super) max_maptrack_frames: i32,
    pub(super) grant_opts: u32,
    pub(super) altp2m_opts: u32,
    pub(super) vmtrace_size: u32,
    pub(super) cpupool_id: u32,
    pub(super) arch: XenArchDomainconfig,
}

impl From<XenDomctlCreatedomain417> for Request {
    fn from(from: XenDomctlCreatedomain417) -> Self {
        Self {
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
}

impl From<XenDomctlCreatedomain420> for Request {
    fn from(from: XenDomctlCreatedomain420) -> Self {
        Self {
            handle: from.handle,
            flags: from.flags,
            iommu_opts: from.iommu_opts,
            max_vcpus: from.max_vcpus,
            max_evtchn_port: from.max_evtchn_port,
            max_grant_frames: from.max_grant_frames,
            max_maptrack_frames: from.max_maptrack_frames,
            grant_opts: from.grant_opts,
            altp2m_opts: from.altp2m_opts,
            vmtrace_size: from.vmtrace_size,
            cpupool_id: from.cpupool_id,
            arch: from.arch,
        }
    }
}

/// What the host can give.
pub(super) struct Host {
    /// Version of the guests' interrupt controller, as `XEN_DOMCTL_CONFIG_GIC_*`.
    pub(super) gic: u8,
    /// Most vCPUs.
    pub(super) vcpus: u32,
}

impl Request {
    /// The configuration of the domain that is asked for; EINVAL for what cannot be had, ENODEV for the interrupt
    /// controller that the host does not have.
    pub(super) fn check(&self, id: Option<u16>, host: &Host) -> Result<DomuConfig, Errno> {
        // Without an IOMMU and a PMU for guests there is no choice left.
        let plain = self.flags == REQUIRED
            && self.iommu_opts == 0
            && self.altp2m_opts == 0
            && self.vmtrace_size == 0
            && self.grant_opts & !XEN_DOMCTL_GRANT_VERSION_MASK == 0
            && self.arch.sve_vl == 0
            && self.arch.tee_type == XEN_DOMCTL_CONFIG_TEE_NONE;
        if !plain || self.max_vcpus == 0 || self.arch.nr_spis > MAX_SPIS {
            return Err(Errno::EINVAL);
        }
        match self.arch.gic_version {
            XEN_DOMCTL_CONFIG_GIC_NATIVE => {}
            version if version == host.gic => {}
            XEN_DOMCTL_CONFIG_GIC_V2 | XEN_DOMCTL_CONFIG_GIC_V3 => return Err(Errno::ENODEV),
            _ => return Err(Errno::EINVAL),
        }
        if self.max_vcpus > host.vcpus {
            return Err(Errno::EINVAL);
        }
        let grant_version = match self.grant_opts & XEN_DOMCTL_GRANT_VERSION_MASK {
            1 => Version::V1,
            2 => Version::V2,
            _ => return Err(Errno::EINVAL),
        };
        let frames = limit(self.max_grant_frames, DEFAULT_MAX_FRAMES)?;
        if frames == 0 {
            // A table has one frame from the start.
            return Err(Errno::EINVAL);
        }
        Ok(DomuConfig {
            id,
            handle: self.handle,
            vcpus: self.max_vcpus,
            spis: self.arch.nr_spis,
            max_port: self.max_evtchn_port.min(i32::MAX as u32),
            max_grant_frames: frames,
            max_maptrack_frames: limit(self.max_maptrack_frames, DEFAULT_MAX_MAPTRACK_FRAMES)?,
            grant_version,
            pool: self.cpupool_id,
        })
    }
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
    let request: Request = match call.release {
        Release::Xen417 => call.body::<XenDomctlCreatedomain417>()?.into(),
        Release::Xen420 => call.body::<XenDomctlCreatedomain420>()?.into(),
    };
    let gic = match hv.settings.guest_gic {
        GuestGic::V2 { .. } => XEN_DOMCTL_CONFIG_GIC_V2,
        GuestGic::V3 => XEN_DOMCTL_CONFIG_GIC_V3,
    };
    // Any number that no domain can have stands for a new one.
    let id = Some(call.head.domain).filter(|id| (1..DOMID_FIRST_RESERVED).contains(id));
    let config = request.check(id, &Host { gic, vcpus: hv.guest_vcpu_limit() })?;
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
