//! What a domain is made from: the same for dom0, for a toolstack's domains and for those that the boot loader brings.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize};

use spin::{Mutex, Once};
use vambrace_abi::errno::Errno;
use vambrace_abi::hvm::HVM_NR_PARAMS;
use vambrace_abi::vcpu::RUNSTATE_OFFLINE;

use crate::addr::PaRange;
use crate::domain::{
    Domain, GuestInterrupts, MmioRegion, NOWHERE, Permissions, PhysicalTimer, Vcpu, VcpuRun, mpidr_of_vcpu,
};
use crate::event::{EventChannels, Port};
use crate::grant::GrantTable;
use crate::hypervisor::Hypervisor;
use crate::life::Life;
use crate::machine::{ContextSpec, Machine};
use crate::p2m::{P2m, P2mError};
use crate::poll::Poll;
use crate::runstate::Runstate;
use crate::sched::VcpuKey;
use crate::trap::GuestRegs;
use crate::vgic::{Version, Vgic, VgicConfig, VgicError};
use crate::vpl011::Vpl011;

/// Priority bits that every virtual CPU interface has.
const PRIORITY_BITS: u8 = 5;

/// What is decided about a domain before it is made. It has no memory yet, and its vCPUs are offline.
pub struct DomainSpec {
    /// Its identifier, which no other domain has.
    pub id: u16,
    /// Its vCPUs.
    pub vcpus: u32,
    /// Its interrupt controller.
    pub gic: Version,
    /// Shared interrupts of that, from INTID 32 on.
    pub spis: u32,
    /// Which of its interrupts stand for what.
    pub interrupts: GuestInterrupts,
    /// Emulated devices.
    pub mmio: Vec<MmioRegion>,
    /// Its virtual UART, if it has one from the start.
    pub uart: Option<Vpl011>,
    /// Its kernel is a 32-bit one.
    pub aarch32: bool,
    /// It holds the hardware.
    pub is_hardware: bool,
    /// Its RAM is mapped one to one. The ranges it has already, and may give back and take again.
    pub direct: Option<Vec<PaRange>>,
    /// Pages of memory that it may have.
    pub max_pages: u64,
    /// Highest event-channel port.
    pub max_port: Port,
    /// Frames of its grant table, at most.
    pub max_grant_frames: u32,
    /// Frames that its grant mappings may take, at most (`grant_table.h`, maptrack).
    pub max_maptrack_frames: u32,
    /// What its creator calls it.
    pub handle: [u8; 16],
}

/// Why a domain could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DomainError {
    /// No memory for its tables and pages.
    OutOfMemory,
    /// All VMIDs are in use.
    TooMany,
    /// The virtual GIC cannot be like this.
    Gic(VgicError),
}

impl fmt::Display for DomainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::TooMany => f.write_str("as many domains as there are VMIDs"),
            Self::Gic(e) => write!(f, "interrupt controller: {e}"),
        }
    }
}

impl From<P2mError> for DomainError {
    fn from(_: P2mError) -> Self {
        Self::OutOfMemory
    }
}

impl From<DomainError> for Errno {
    fn from(e: DomainError) -> Self {
        match e {
            DomainError::OutOfMemory => Self::ENOMEM,
            DomainError::TooMany => Self::EBUSY,
            DomainError::Gic(_) => Self::EINVAL,
        }
    }
}

impl<M: Machine> Domain<M> {
    /// Makes a domain, which nobody knows yet. Its shared page and the first frame of its grant table are there.
    pub fn new(hv: &Hypervisor<M>, spec: DomainSpec) -> Result<Self, DomainError> {
        let vmid = hv.vmids.lock().take().ok_or(DomainError::TooMany)?;
        Self::with_vmid(hv, spec, vmid).inspect_err(|_| hv.vmids.lock().give_back(vmid))
    }

    fn with_vmid(hv: &Hypervisor<M>, spec: DomainSpec, vmid: u16) -> Result<Self, DomainError> {
        let m = &hv.machine;
        let id = spec.id;
        let mpidrs: Vec<u64> = (0..spec.vcpus as usize).map(mpidr_of_vcpu).collect();
        let config =
            VgicConfig { version: spec.gic, spis: spec.spis, priority_bits: PRIORITY_BITS, mpidrs: &mpidrs };
        let vgic = Vgic::new(config).map_err(DomainError::Gic)?;
        let shared_info = hv.zeroed_frame(id).ok_or(DomainError::OutOfMemory)?;
        let mut grants = GrantTable::new(spec.max_grant_frames, spec.max_maptrack_frames);
        // A table has one frame from the start (`grant_table.h`).
        let first = grants.frame(0, || hv.zeroed_frame(id)).map_err(|_| DomainError::OutOfMemory);
        let p2m = first.and_then(|_| {
            let root = P2m::new(m, &mut hv.frames.lock(), hv.settings.shape, vmid);
            root.map_err(DomainError::from)
        });
        let mut p2m = p2m.inspect_err(|_| {
            let mut frames = hv.frames.lock();
            grants.take_frames().chain([shared_info]).for_each(|frame| frames.put(frame));
        })?;
        if let Some(ram) = spec.direct.as_ref().filter(|ram| !ram.is_empty()) {
            p2m.set_direct(ram.iter().map(PaRange::pages).sum());
        }
        let counter_offset = m.now();
        let aarch32 = spec.aarch32;
        let new_vcpu = |(index, &mpidr): (usize, &u64)| {
            Arc::new(Vcpu {
                key: VcpuKey { domain: id, vcpu: index as u16 },
                run: Mutex::new(VcpuRun {
                    regs: GuestRegs::default(),
                    context: m.new_context(&ContextSpec { mpidr, counter_offset, aarch32 }),
                    physical_timer: PhysicalTimer::default(),
                    wake_armed: None,
                }),
                running_on: AtomicUsize::new(NOWHERE),
                attention: AtomicBool::new(true),
                timer_due: AtomicBool::new(false),
                private_changed: AtomicBool::new(false),
                online: AtomicBool::new(false),
                runstate: Mutex::new(Runstate::new(RUNSTATE_OFFLINE, hv.system_time())),
                poll: Poll::default(),
            })
        };
        let uart = Once::new();
        if let Some(device) = spec.uart {
            uart.call_once(|| Mutex::new(device));
        }
        Ok(Self {
            id,
            vcpus: mpidrs.iter().enumerate().map(new_vcpu).collect(),
            stage2: p2m.stage2(),
            p2m: Mutex::new(p2m),
            vgic: Mutex::new(vgic),
            events: Mutex::new(EventChannels::new(id, shared_info, spec.vcpus as usize, spec.max_port)),
            polls: AtomicU32::new(0),
            grants: Mutex::new(grants),
            shared_info,
            shared_info_at: Mutex::new(None),
            params: Mutex::new([0; HVM_NR_PARAMS as usize]),
            mmio: spec.mmio,
            uart,
            interrupts: spec.interrupts,
            counter_offset,
            aarch32: AtomicBool::new(aarch32),
            is_hardware: spec.is_hardware,
            max_pages: AtomicU64::new(spec.max_pages),
            direct: spec.direct,
            life: Mutex::new(Life::default()),
            handle: Mutex::new(spec.handle),
            time_offset: AtomicI64::new(0),
            permissions: Mutex::new(Permissions::default()),
            assists: AtomicU64::new(0),
            watchdogs: Mutex::new([None; 2]),
        })
    }
}
