//! Building dom0: its memory, its kernel in place, its device tree, its devices, its vCPUs.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};

use spin::{Mutex, Once};
use vambrace_abi::event_channel::EVTCHN_FIFO_NR_CHANNELS;
use vambrace_abi::hvm::HVM_NR_PARAMS;
use vambrace_abi::vcpu::RUNSTATE_OFFLINE;

use crate::addr::{Ipa, PAGE_SIZE, Pa, PaRange};
use crate::boot::{BootError, Plan};
use crate::bootmap::Placement;
use crate::dom0_tree::{self, Dom0Spec, GUEST_TIMERS};
use crate::domain::{
    DOM0, Domain, GuestInterrupts, MmioDevice, MmioRegion, NOWHERE, PhysicalTimer, Vcpu, VcpuRun,
    mpidr_of_vcpu,
};
use crate::event::EventChannels;
use crate::grant::{DEFAULT_MAX_FRAMES, GrantTable};
use crate::hypervisor::Hypervisor;
use crate::image::Packing;
use crate::machine::{ContextSpec, Intid, Machine};
use crate::p2m::{Kind, P2m};
use crate::platform::tree::Tree;
use crate::platform::{GicFrames, Platform, REDISTRIBUTOR_BYTES};
use crate::runstate::Runstate;
use crate::sched::{CpuMask, DEFAULT_WEIGHT, VcpuKey};
use crate::trap::GuestRegs;
use crate::vgic::{Version, Vgic, VgicConfig};
use crate::virtual_gic::Effects;
use crate::vpl011::{self, Vpl011};

/// PPI of dom0's event channels: the one that no timer of dom0's has.
const EVENT_INTERRUPT: Intid = 31;
/// The Xen ABI's version, as in the `/hypervisor` node.
const ABI_VERSION: (u16, u16) = (4, 20);
/// Address space for dom0's grant table: 64 frames and as many status frames, in whole blocks.
const GRANT_WINDOW: u64 = 2 << 20;
/// Priority bits that every virtual CPU interface has.
const PRIORITY_BITS: u8 = 5;
/// Highest event-channel port that dom0 may have: all that FIFO has.
const MAX_PORT: u32 = EVTCHN_FIFO_NR_CHANNELS - 1;
/// Pages that one table of the last level maps.
const PAGES_A_TABLE: u64 = 512;
/// Stage-2 tables that dom0 may have besides those that its RAM can need.
const SPARE_TABLES: u64 = 512;
/// VMID of a domain: 0 is for none.
const fn vmid(domain: u16) -> u16 {
    domain + 1
}

/// Builds dom0 and brings its first vCPU online.
pub fn build<M: Machine>(
    hv: &Hypervisor<M>,
    tree: &Tree<'_>,
    platform: &Platform,
    plan: &Plan,
    cpus: usize,
) -> Result<Arc<Domain<M>>, BootError> {
    let vcpus = vcpu_count(platform, plan, cpus);
    let domain = Arc::new(new_domain(hv, platform, plan, vcpus)?);
    map_memory(hv, platform, plan, &domain)?;
    place_kernel(hv, plan)?;
    if let Some(ramdisk) = &plan.map.ramdisk {
        place(hv, ramdisk)?;
    }
    place_tree(hv, tree, platform, plan, vcpus)?;
    hand_over_interrupts(hv, platform, &domain)?;
    hv.add_domain(domain.clone(), CpuMask::MAX, DEFAULT_WEIGHT);
    if let Some(first) = domain.vcpus.first() {
        let (entry, tree) = (plan.map.kernel.target.0, plan.map.tree.start.0);
        // What each kernel wants in its first registers: arm64/booting.rst, and arm/booting.rst with no machine number.
        let registers = if domain.aarch32 { [0, u32::MAX.into(), tree] } else { [tree, 0, 0] };
        first.run.lock().start(&hv.machine, &domain, 0, entry, registers);
        hv.bring_online(first);
    }
    Ok(domain)
}

/// As many vCPUs as asked for, else as CPUs; at most what the GIC can serve.
fn vcpu_count(platform: &Platform, plan: &Plan, cpus: usize) -> u32 {
    let limit = platform.gic.vcpu_limit().min(match platform.gic.frames {
        GicFrames::V2 { .. } => crate::vgic::V2_MAX_VCPUS as u64,
        GicFrames::V3 { .. } => crate::vgic::V3_MAX_VCPUS as u64,
    });
    u64::from(plan.options.dom0_max_vcpus.unwrap_or(cpus as u32)).clamp(1, limit.max(1)) as u32
}

fn new_domain<M: Machine>(
    hv: &Hypervisor<M>,
    platform: &Platform,
    plan: &Plan,
    vcpus: u32,
) -> Result<Domain<M>, BootError> {
    let m = &hv.machine;
    let shared_info = hv.zeroed_frame().ok_or(BootError::OutOfMemory)?;
    let p2m = P2m::new(m, &mut hv.frames.lock(), hv.settings.shape, vmid(DOM0))?;
    let mpidrs: Vec<u64> = (0..vcpus as usize).map(mpidr_of_vcpu).collect();
    let version = match platform.gic.frames {
        GicFrames::V2 { .. } => Version::V2,
        GicFrames::V3 { .. } => Version::V3,
    };
    let spis = m.intid_limit().saturating_sub(32);
    let vgic = Vgic::new(VgicConfig { version, spis, priority_bits: PRIORITY_BITS, mpidrs: &mpidrs })?;
    let counter_offset = m.now();
    let aarch32 = plan.kernel.is_aarch32();
    let new_vcpu = |(index, &mpidr): (usize, &u64)| {
        Arc::new(Vcpu {
            key: VcpuKey { domain: DOM0, vcpu: index as u16 },
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
        })
    };
    let mut grants = GrantTable::new(DEFAULT_MAX_FRAMES);
    // A table has one frame from the start (`grant_table.h`).
    grants.frame(0, || hv.zeroed_frame()).map_err(|_| BootError::OutOfMemory)?;
    let pages: u64 = plan.map.dom0.iter().map(|bank| bank.size() / PAGE_SIZE).sum();
    let uart = virtual_uart(platform);
    Ok(Domain {
        id: DOM0,
        vcpus: mpidrs.iter().enumerate().map(new_vcpu).collect(),
        stage2: p2m.stage2(),
        p2m: Mutex::new(p2m),
        vgic: Mutex::new(vgic),
        events: Mutex::new(EventChannels::new(DOM0, shared_info, vcpus as usize, MAX_PORT)),
        grants: Mutex::new(grants),
        shared_info,
        shared_info_at: Mutex::new(None),
        params: Mutex::new([0; HVM_NR_PARAMS as usize]),
        mmio: mmio_regions(platform, uart.map(|(range, _)| range), vcpus),
        uart: uart.map(|_| Mutex::new(Vpl011::new())),
        interrupts: GuestInterrupts {
            event: EVENT_INTERRUPT,
            physical_timer: GUEST_TIMERS[1],
            virtual_timer: GUEST_TIMERS[2],
            uart: uart.and_then(|(_, interrupt)| interrupt),
        },
        counter_offset,
        aarch32,
        is_hardware: true,
        pages: AtomicU32::new(pages as u32),
        max_pages: plan.options.dom0_mem_max.map_or(pages, |max| (max / PAGE_SIZE).max(pages)),
        ram: plan.map.dom0.clone(),
        shutdown: Once::new(),
        assists: AtomicU64::new(0),
        watchdogs: Mutex::new([None; 2]),
    })
}

/// Where dom0 finds a UART that stands in for the hypervisor's: a kernel told to use that one early finds one. The
/// page must be free of other devices of dom0's.
fn virtual_uart(platform: &Platform) -> Option<(PaRange, Option<Intid>)> {
    let uart = platform.console.as_ref()?;
    let page = PaRange::new(uart.registers.start.page(), vpl011::SIZE)?;
    let shared = platform.dom0_regions().iter().any(|region| region.overlaps(page));
    (!shared).then(|| (page, uart.interrupt.map(|i| i.intid)))
}

fn mmio_regions(platform: &Platform, uart: Option<PaRange>, vcpus: u32) -> Vec<MmioRegion> {
    let region = |range: PaRange, device| MmioRegion { base: Ipa(range.start.0), size: range.size(), device };
    let mut regions = Vec::new();
    let mut first = 0;
    for frames in dom0_tree::guest_redistributors(&platform.gic, vcpus) {
        regions.push(region(frames, MmioDevice::Redistributors { first }));
        first += (frames.size() / REDISTRIBUTOR_BYTES) as u16;
    }
    regions.push(region(platform.gic.distributor(), MmioDevice::Distributor));
    regions.extend(uart.map(|range| region(range, MmioDevice::Uart)));
    regions
}

fn map_memory<M: Machine>(
    hv: &Hypervisor<M>,
    platform: &Platform,
    plan: &Plan,
    domain: &Domain<M>,
) -> Result<(), BootError> {
    let mut p2m = domain.p2m.lock();
    let mut frames = hv.frames.lock();
    let mut map =
        |at: Pa, to: Pa, size: u64, kind: Kind| p2m.map(&hv.machine, &mut frames, Ipa(at.0), to, size, kind);
    for bank in &plan.map.dom0 {
        map(bank.start, bank.start, bank.size(), Kind::Ram)?;
    }
    for reserved in platform.dom0_reserved(plan.image) {
        map(reserved.start, reserved.start, reserved.size(), Kind::Ram)?;
    }
    let limit = Pa(1 << hv.settings.shape.ipa_bits);
    for region in platform.dom0_regions() {
        if region.end > limit {
            hv.log(format_args!("Device memory at {}..{} is out of reach", region.start, region.end));
            continue;
        }
        map(region.start, region.start, region.size(), Kind::Device)?;
    }
    let pages: u64 = plan.map.dom0.iter().map(|bank| bank.size() / PAGE_SIZE).sum();
    if let GicFrames::V2 { gicc, gicv, .. } = &platform.gic.frames {
        // The guest's CPU interface is the virtual one, at the place of the real one.
        let size = gicc.page_outer().size().min(gicv.page_outer().size());
        map(gicc.start, gicv.start, size, Kind::Device)?;
    }
    // All of its RAM page by page, and as much again for what it maps elsewhere.
    let limit = p2m.table_frames() + 2 * pages.div_ceil(PAGES_A_TABLE) + SPARE_TABLES;
    p2m.limit_tables(limit);
    Ok(())
}

/// Copies a module to its place, and makes the result visible to a reader with caches off.
fn place<M: Machine>(hv: &Hypervisor<M>, placement: &Placement) -> Result<(), BootError> {
    let (source, target) = (placement.source, placement.target);
    let bad = |_| BootError::Unwritable(source);
    if !placement.is_in_place() {
        hv.machine.copy(target, source.start, source.size()).map_err(bad)?;
    }
    hv.machine.clean_dcache(target, source.size()).map_err(bad)
}

fn place_kernel<M: Machine>(hv: &Hypervisor<M>, plan: &Plan) -> Result<(), BootError> {
    let Placement { source, target } = plan.map.kernel;
    if let Packing::Plain { .. } = plan.kernel.packing {
        return place(hv, &plan.map.kernel);
    }
    let read = |offset, buffer: &mut [u8]| hv.machine.read(source.start.offset(offset), buffer).is_ok();
    let write = |offset, bytes: &[u8]| hv.machine.write(target.offset(offset), bytes).is_ok();
    let size = plan.kernel.unpack(plan.kernel.memory_size, read, write)?;
    hv.machine.clean_dcache(target, size).map_err(|_| BootError::Unwritable(source))
}

fn place_tree<M: Machine>(
    hv: &Hypervisor<M>,
    tree: &Tree<'_>,
    platform: &Platform,
    plan: &Plan,
    vcpus: u32,
) -> Result<(), BootError> {
    let ipa_bits = u32::from(hv.settings.shape.ipa_bits);
    let space = dom0_tree::free_address_space(tree, platform, ipa_bits, GRANT_WINDOW)?
        .ok_or(BootError::NoAddressSpace)?;
    let ramdisk =
        plan.map.ramdisk.and_then(|placement| PaRange::new(placement.target, placement.source.size()));
    let blob = dom0_tree::build(
        tree,
        platform,
        &Dom0Spec {
            memory: &plan.map.dom0,
            vcpus,
            bootargs: &platform.boot.dom0_args,
            ramdisk,
            space: &space,
            event_interrupt: EVENT_INTERRUPT,
            version: ABI_VERSION,
        },
    )?;
    let room = plan.map.tree;
    if blob.len() as u64 > room.size() {
        return Err(BootError::Tree(dom0_tree::TreeError::TooLarge(room.size() as usize)));
    }
    hv.machine.write(room.start, &blob).map_err(|_| BootError::Unwritable(room))?;
    hv.machine.clean_dcache(room.start, blob.len() as u64).map_err(|_| BootError::Unwritable(room))
}

/// Backs dom0's timers and device interrupts by the physical ones.
fn hand_over_interrupts<M: Machine>(
    hv: &Hypervisor<M>,
    platform: &Platform,
    domain: &Domain<M>,
) -> Result<(), BootError> {
    let mut effects = Effects::new(hv, domain, None);
    let mut vgic = domain.vgic.lock();
    for vcpu in 0..domain.vcpus.len() {
        let timer = hv.settings.interrupts.virtual_timer;
        vgic.set_hardware(vcpu, domain.interrupts.virtual_timer, Some(timer), &mut effects)?;
    }
    let limit = hv.machine.intid_limit();
    for interrupt in platform.dom0_interrupts() {
        if interrupt.is_spi() && interrupt.intid < limit {
            hv.assign_spi(interrupt.intid, domain.id);
            vgic.set_hardware(0, interrupt.intid, Some(interrupt.intid), &mut effects)?;
        }
    }
    drop(vgic);
    effects.tell();
    Ok(())
}

/// One line on what dom0 got.
pub fn describe<M: Machine>(domain: &Domain<M>, plan: &Plan) -> String {
    let megabytes: u64 = plan.map.dom0.iter().map(|bank| bank.size() >> 20).sum();
    alloc::format!(
        "Dom0: {} vCPUs, {}-bit, {megabytes} MiB in {} bank(s), kernel at {}, device tree at {}",
        domain.vcpus.len(),
        if domain.aarch32 { 32 } else { 64 },
        plan.map.dom0.len(),
        plan.map.kernel.target,
        plan.map.tree.start
    )
}
