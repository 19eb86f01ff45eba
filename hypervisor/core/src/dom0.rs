//! Building dom0: its memory, its kernel in place, its device tree, its devices, its vCPUs.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use vambrace_abi::event_channel::EVTCHN_FIFO_NR_CHANNELS;

use crate::addr::{Ipa, PAGE_SIZE, Pa, PaRange};
use crate::boot::{BootError, Plan};
use crate::bootmap::Placement;
use crate::dom0_tree::{self, Dom0Spec, GUEST_TIMERS};
use crate::domain::{DOM0, Domain, GuestInterrupts, MmioDevice, MmioRegion, Permissions};
use crate::domain_spec::DomainSpec;
use crate::grant::{DEFAULT_MAX_FRAMES, DEFAULT_MAX_MAPTRACK_FRAMES};
use crate::hypervisor::Hypervisor;
use crate::image::Packing;
use crate::machine::{FIRST_SPI, Intid, Machine};
use crate::p2m::Kind;
use crate::platform::tree::Tree;
use crate::platform::{GicFrames, Platform, REDISTRIBUTOR_BYTES};
use crate::sched::{CpuMask, DEFAULT_WEIGHT};
use crate::static_guest;
use crate::vgic::{Effects, Version};
use crate::vpl011::{self, Vpl011};

/// PPI of dom0's event channels: the one that no timer of dom0's has.
const EVENT_INTERRUPT: Intid = 31;
/// Address space for dom0's grant table: 64 frames and as many status frames, in whole blocks.
const GRANT_WINDOW: u64 = 2 << 20;
/// Highest event-channel port that dom0 may have: all that FIFO has.
const MAX_PORT: u32 = EVTCHN_FIFO_NR_CHANNELS - 1;

/// Builds dom0 and brings its first vCPU online.
pub fn build<M: Machine>(
    hv: &Hypervisor<M>,
    tree: &Tree<'_>,
    platform: &Platform,
    plan: &Plan,
    cpus: usize,
) -> Result<Arc<Domain<M>>, BootError> {
    let vcpus = vcpu_count(hv, platform, plan, cpus);
    let domain = Arc::new(new_domain(hv, platform, plan, vcpus)?);
    map_memory(hv, platform, plan, &domain)?;
    place_kernel(hv, plan)?;
    if let Some(ramdisk) = &plan.map.ramdisk {
        place(hv, ramdisk)?;
    }
    place_tree(hv, tree, platform, plan, vcpus)?;
    hand_over_interrupts(hv, platform, &domain)?;
    hv.add_domain(domain.clone(), CpuMask::MAX, DEFAULT_WEIGHT);
    static_guest::connect(hv, platform);
    if let Some(first) = domain.vcpus.first() {
        let (entry, tree) = (plan.map.kernel.target.0, plan.map.tree.start.0);
        // What each kernel wants in its first registers: arm64/booting.rst, and arm/booting.rst with no machine number.
        let registers = if domain.is_aarch32() { [0, u32::MAX.into(), tree] } else { [tree, 0, 0] };
        first.run.lock().start(&hv.machine, &domain, 0, entry, registers);
        hv.bring_online(first);
    }
    Ok(domain)
}

/// As many vCPUs as asked for, else as CPUs; at most what the GIC can serve.
fn vcpu_count<M: Machine>(hv: &Hypervisor<M>, platform: &Platform, plan: &Plan, cpus: usize) -> u32 {
    let limit = platform.gic.vcpu_limit().min(hv.guest_vcpu_limit().into());
    u64::from(plan.options.dom0_max_vcpus.unwrap_or(cpus as u32)).clamp(1, limit.max(1)) as u32
}

fn new_domain<M: Machine>(
    hv: &Hypervisor<M>,
    platform: &Platform,
    plan: &Plan,
    vcpus: u32,
) -> Result<Domain<M>, BootError> {
    let uart = virtual_uart(platform);
    let pages: u64 = plan.map.dom0.iter().map(PaRange::pages).sum();
    for bank in &plan.map.dom0 {
        hv.frames.lock().adopt(*bank, DOM0)?;
    }
    let spec = DomainSpec {
        id: DOM0,
        vcpus,
        gic: match platform.gic.frames {
            GicFrames::V2 { .. } => Version::V2,
            GicFrames::V3 { .. } => Version::V3,
        },
        spis: hv.machine.intid_limit().saturating_sub(FIRST_SPI),
        interrupts: GuestInterrupts {
            event: EVENT_INTERRUPT,
            physical_timer: GUEST_TIMERS[1],
            virtual_timer: GUEST_TIMERS[2],
            uart: uart.and_then(|(_, interrupt)| interrupt),
        },
        mmio: mmio_regions(platform, uart.map(|(range, _)| range), vcpus),
        uart: uart.map(|_| Vpl011::new()),
        aarch32: plan.kernel.is_aarch32(),
        is_hardware: true,
        direct: Some(plan.map.dom0.clone()),
        max_pages: plan.options.dom0_mem_max.map_or(pages, |max| (max / PAGE_SIZE).max(pages)),
        max_port: MAX_PORT,
        max_grant_frames: DEFAULT_MAX_FRAMES,
        max_maptrack_frames: DEFAULT_MAX_MAPTRACK_FRAMES,
        handle: [0; 16],
    };
    Ok(Domain::new(hv, spec)?)
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
    *domain.permissions.lock() = permissions(platform, hv.machine.intid_limit());
    let pages: u64 = plan.map.dom0.iter().map(PaRange::pages).sum();
    if let GicFrames::V2 { gicc, gicv, .. } = &platform.gic.frames {
        // The guest's CPU interface is the virtual one, at the place of the real one.
        let size = gicc.page_outer().size().min(gicv.page_outer().size());
        map(gicc.start, gicv.start, size, Kind::Device)?;
    }
    p2m.allow_tables_for(pages);
    Ok(())
}

/// The hardware that dom0 has, and may give to guests: every device that the tree knows, those among them that are kept
/// for guests (`xen,passthrough`), without the interrupt controller and the console UART.
fn permissions(platform: &Platform, intid_limit: Intid) -> Permissions {
    let devices = platform.occupied.iter().map(|range| range.page_outer());
    let uart = platform.console.as_ref();
    let uart_interrupt = uart.and_then(|uart| uart.interrupt).map(|interrupt| interrupt.intid);
    let interrupts = (FIRST_SPI..intid_limit).filter(|intid| Some(*intid) != uart_interrupt);
    let mut permissions = Permissions::new(devices, interrupts);
    let own = platform.gic.all_frames().into_iter().chain(uart.map(|uart| uart.registers));
    for kept in own.chain(platform.ram.iter().copied()) {
        permissions.forbid_memory(kept.page_outer());
    }
    permissions
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
            version: hv.settings.xen_version,
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
        if domain.is_aarch32() { 32 } else { 64 },
        plan.map.dom0.len(),
        plan.map.kernel.target,
        plan.map.tree.start
    )
}
