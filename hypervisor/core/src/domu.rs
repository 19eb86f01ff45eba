//! Domains that a toolstack makes: the machine that `arch-arm.h` lays out for a guest, with no memory yet.

use alloc::sync::Arc;
use alloc::vec::Vec;

use vambrace_abi::arch_arm::*;
use vambrace_abi::errno::Errno;

use crate::addr::{Ipa, PAGE_SIZE};
use crate::domain::{Domain, GuestInterrupts, MmioDevice, MmioRegion};
use crate::domain_spec::DomainSpec;
use crate::event::Port;
use crate::grant;
use crate::hypervisor::{GuestGic, Hypervisor};
use crate::idregs::has_aarch64;
use crate::machine::Machine;
use crate::p2m::Kind;
use crate::platform::REDISTRIBUTOR_BYTES;
use crate::sched::{CpuMask, DEFAULT_WEIGHT};
use crate::vgic::Effects;

/// Frames that stage-2 tables may take until the toolstack says how many (XEN_DOMCTL_set_paging_mempool_size): enough
/// for the GIC's mapping.
const FIRST_TABLES: u64 = 16;

/// Heap that a domain and each of its vCPUs takes when it is made, and what is kept for what cannot wait, in bytes.
const DOMAIN_HEAP: u64 = 64 << 10;
const VCPU_HEAP: u64 = 8 << 10;
pub(crate) const KEPT_HEAP: u64 = 2 << 20;

/// What a toolstack says of a domain that it wants made (`domctl.h`, XEN_DOMCTL_createdomain).
#[derive(Clone, Copy, Debug)]
pub struct DomuConfig {
    /// Its identifier; a free one for `None`.
    pub id: Option<u16>,
    /// Its name for the toolstack (a UUID).
    pub handle: [u8; 16],
    /// Its vCPUs.
    pub vcpus: u32,
    /// SPIs of its interrupt controller.
    pub spis: u32,
    /// Highest event-channel port.
    pub max_port: Port,
    /// Frames of its grant table, at most.
    pub max_grant_frames: u32,
    /// Frames that its grant mappings may take, at most.
    pub max_maptrack_frames: u32,
    /// The newest layout that its grant table may have.
    pub grant_version: grant::Version,
    /// The pool of CPUs that it runs on.
    pub pool: u32,
    /// Its RAM will be mapped one to one, and stays as it is.
    pub direct: bool,
}

impl<M: Machine> Hypervisor<M> {
    /// Most vCPUs of a guest.
    pub fn guest_vcpu_limit(&self) -> u32 {
        self.settings.guest_gic.version().max_vcpus() as u32
    }

    /// Makes a domain as a toolstack wants it, paused, known to all. EEXIST, EINVAL, ENOMEM, EBUSY.
    pub fn create_domain(&self, config: &DomuConfig) -> Result<Arc<Domain<M>>, Errno> {
        if config.vcpus == 0 || config.vcpus > self.guest_vcpu_limit() {
            return Err(Errno::EINVAL);
        }
        let mut mmio = match self.settings.guest_gic {
            GuestGic::V2 { .. } => {
                Vec::from([region(GUEST_GICD_BASE, GUEST_GICD_SIZE, MmioDevice::Distributor)])
            }
            GuestGic::V3 => {
                let redistributors = u64::from(config.vcpus) * REDISTRIBUTOR_BYTES;
                let frames = MmioDevice::Redistributors { first: 0 };
                Vec::from([
                    region(GUEST_GICV3_GICR0_BASE, redistributors, frames),
                    region(GUEST_GICV3_GICD_BASE, GUEST_GICV3_GICD_SIZE, MmioDevice::Distributor),
                ])
            }
        };
        mmio.push(region(GUEST_PL011_BASE, GUEST_PL011_SIZE, MmioDevice::Uart));
        // One at a time: the number is free until the domain is known, and so is the heap until it is taken.
        let _creating = self.creation.lock();
        if self.machine.heap_room() < KEPT_HEAP + DOMAIN_HEAP + u64::from(config.vcpus) * VCPU_HEAP {
            return Err(Errno::ENOMEM);
        }
        let id = self.free_domid(config.id)?;
        let domain = Domain::new(
            self,
            DomainSpec {
                id,
                vcpus: config.vcpus,
                gic: self.settings.guest_gic.version(),
                spis: config.spis,
                interrupts: GuestInterrupts {
                    event: GUEST_EVTCHN_PPI,
                    virtual_timer: GUEST_TIMER_VIRT_PPI,
                    physical_timer: GUEST_TIMER_PHYS_NS_PPI,
                    uart: Some(GUEST_VPL011_SPI),
                },
                mmio,
                uart: None,
                // A 64-bit one, until the toolstack says otherwise.
                aarch32: !has_aarch64(&self.machine),
                is_hardware: false,
                direct: config.direct.then(Vec::new),
                max_pages: 0,
                max_port: config.max_port,
                max_grant_frames: config.max_grant_frames,
                max_maptrack_frames: config.max_maptrack_frames,
                handle: config.handle,
            },
        )?;
        let domain = Arc::new(domain);
        domain.grants.lock().limit_version(config.grant_version);
        let ready = self.set_up_guest(&domain).and_then(|()| self.scheduler.add_domain(id, config.pool));
        ready.inspect_err(|_| self.unmake(&domain))?;
        self.add_domain(domain.clone(), CpuMask::MAX, DEFAULT_WEIGHT);
        domain.life.lock().toolstack_pauses = 1;
        self.pause(&domain);
        self.show_wall_clock(&domain);
        Ok(domain)
    }

    /// Maps the virtual CPU interface, and backs the virtual timers by the host's.
    fn set_up_guest(&self, domain: &Domain<M>) -> Result<(), Errno> {
        {
            let mut p2m = domain.p2m.lock();
            let limit = p2m.table_frames() + FIRST_TABLES;
            p2m.limit_tables(limit);
            if let GuestGic::V2 { gicv } = self.settings.guest_gic {
                let mut frames = self.frames.lock();
                let size = GUEST_GICC_SIZE.min(gicv.size());
                // The second page may lie elsewhere than right behind the first, see `platform::gic`.
                p2m.map(&self.machine, &mut frames, Ipa(GUEST_GICC_BASE), gicv.start, size, Kind::Device)?;
            }
        }
        let timer = self.settings.interrupts.virtual_timer;
        let mut effects = Effects::new(self, domain, None);
        let mut vgic = domain.vgic.lock();
        for vcpu in 0..domain.vcpus.len() {
            let backed = vgic.set_hardware(vcpu, domain.interrupts.virtual_timer, Some(timer), &mut effects);
            backed.map_err(|_| Errno::EINVAL)?;
        }
        Ok(())
    }

    /// Gives back what a domain got that nobody knows yet.
    fn unmake(&self, domain: &Domain<M>) {
        {
            let mut grants = domain.grants.lock();
            let mut p2m = domain.p2m.lock();
            let mut frames = self.frames.lock();
            // It has but a page or two mapped. What cannot be reached stays out of use.
            let _ = p2m.clear(&self.machine, &mut frames, u64::MAX);
            p2m.release(&mut frames);
            grants.take_frames().for_each(|frame| frames.put(frame));
            frames.put(domain.shared_info);
        }
        self.vmids.lock().give_back(domain.stage2.vmid);
    }
}

fn region(base: u64, size: u64, device: MmioDevice) -> MmioRegion {
    MmioRegion { base: Ipa(base), size: size.next_multiple_of(PAGE_SIZE), device }
}
