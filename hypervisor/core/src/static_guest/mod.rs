//! Guests without a toolstack: built from what the loader brings, started with dom0.
//!
//! ```text
//!   device tree: /chosen, xen,domain --> platform::StaticGuest --accept--> Plan.guests
//!   build:    domain, memory, shared memory, kernel, RAM disk, devices, device tree     before dom0 takes its memory
//!   connect:  static event channels, with dom0 as well                                  before dom0 runs
//!   start:    the first vCPU of each
//! ```
//!
//! A guest that cannot be built is a line on the console; the others, and dom0, go on.

mod accept;
mod error;
pub mod layout;
mod memory;
mod passthrough;
mod shared;
#[cfg(test)]
mod tests;
mod tree;

use alloc::sync::Arc;
use alloc::vec::Vec;

use spin::Mutex;
use vambrace_abi::hvm::{HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN};

pub use self::accept::accept;
pub use self::error::GuestError;
use self::layout::Bank;
use self::memory::GuestRam;
use self::passthrough::Devices;
use self::shared::SharedMemories;
use self::tree::TreeSpec;
use crate::addr::{Ipa, PaRange};
use crate::domain::{DOM0, Domain};
use crate::domu::DomuConfig;
use crate::event::Port;
use crate::grant;
use crate::hypervisor::Hypervisor;
use crate::idregs::{has_aarch32, has_aarch64};
use crate::image::{KernelImage, Packing};
use crate::life::Progress;
use crate::machine::{FIRST_SPI, Machine};
use crate::platform::tree::Tree;
use crate::platform::{Enhanced, Platform, StaticGuest, StaticPort};
use crate::vpl011::Vpl011;

/// Highest event-channel port, where no static channel has a higher one; the toolstack's default too.
const MAX_PORT: Port = 1023;
/// The virtual UART is the first SPI, so a guest that has one has that many.
const UART_SPIS: u32 = 1;

/// A guest that waits to be started.
pub struct Built<M: Machine> {
    /// The domain, paused.
    pub domain: Arc<Domain<M>>,
    entry: Ipa,
    tree: Ipa,
}

/// Builds the guests. `tree` is the host's.
pub fn build<M: Machine>(
    hv: &Hypervisor<M>,
    tree: &Tree<'_>,
    platform: &Platform,
    guests: &[StaticGuest],
) -> Vec<Built<M>> {
    let mut built = Vec::new();
    let mut shares = SharedMemories::default();
    let mut given = Vec::new();
    for guest in guests {
        match build_one(hv, tree, platform, guests, guest, &mut shares, &mut given) {
            Ok(guest) => built.push(guest),
            Err(error) => hv.log(format_args!("{}: {error}; d{} is not started", guest.path, guest.id)),
        }
    }
    shares.release(hv);
    // A guest that failed may have owned some.
    hv.bury();
    built
}

fn build_one<M: Machine>(
    hv: &Hypervisor<M>,
    host: &Tree<'_>,
    platform: &Platform,
    guests: &[StaticGuest],
    guest: &StaticGuest,
    shares: &mut SharedMemories,
    given: &mut Vec<Devices>,
) -> Result<Built<M>, GuestError> {
    let kernel = inspect(hv, guest)?;
    let blob = read_tree(hv, guest)?;
    let partial = blob.as_deref().map(Tree::parse).transpose()?;
    let devices = match &partial {
        Some(partial) => Devices::find(partial, host, platform, guest, given)?,
        None => Devices::default(),
    };
    let domain = create(hv, platform, guest)?;
    let filled = fill(hv, &domain, guest, guests, &kernel, partial.as_ref(), &devices, shares);
    match filled {
        Ok((entry, tree)) => {
            if devices.unconfined > 0 {
                let id = guest.id;
                hv.log(format_args!("d{id}: no IOMMU confines its devices, which may reach all memory"));
            }
            given.push(devices);
            Ok(Built { domain, entry, tree })
        }
        Err(error) => {
            take_apart(hv, &domain);
            Err(error)
        }
    }
}

fn inspect<M: Machine>(hv: &Hypervisor<M>, guest: &StaticGuest) -> Result<KernelImage, GuestError> {
    let module = guest.modules.kernel;
    let kernel = KernelImage::inspect(module.size(), |offset, buffer| {
        hv.machine.read(module.start.offset(offset), buffer).is_ok()
    })?;
    let aarch32 = kernel.is_aarch32();
    let runs = if aarch32 { has_aarch32(&hv.machine) } else { has_aarch64(&hv.machine) };
    if runs { Ok(kernel) } else { Err(GuestError::WrongWidth { aarch32 }) }
}

/// The partial device tree, copied.
fn read_tree<M: Machine>(hv: &Hypervisor<M>, guest: &StaticGuest) -> Result<Option<Vec<u8>>, GuestError> {
    let Some(module) = guest.modules.tree else { return Ok(None) };
    let size = module.size().min(tree::MAX_BYTES as u64) as usize;
    let mut blob = Vec::new();
    blob.try_reserve_exact(size).map_err(|_| GuestError::OutOfMemory)?;
    blob.resize(size, 0);
    hv.machine.read(module.start, &mut blob).map_err(|_| GuestError::Unreachable(module))?;
    Ok(Some(blob))
}

/// Makes the domain, with no memory yet.
fn create<M: Machine>(
    hv: &Hypervisor<M>,
    platform: &Platform,
    guest: &StaticGuest,
) -> Result<Arc<Domain<M>>, GuestError> {
    let limit = hv.guest_vcpu_limit();
    if guest.vcpus > limit {
        return Err(GuestError::TooManyVcpus { asked: guest.vcpus, limit });
    }
    let channels = platform.boot.domains.channels.iter().flat_map(|(a, b)| [a, b]);
    let own = channels.filter(|end| end.domain == guest.id).map(|end| end.port);
    let host_spis = hv.machine.intid_limit().saturating_sub(FIRST_SPI);
    let spis = guest.spis.unwrap_or(host_spis).max(if guest.uart { UART_SPIS } else { 0 });
    let config = DomuConfig {
        id: Some(guest.id),
        handle: [0; 16],
        vcpus: guest.vcpus,
        spis,
        max_port: own.max().unwrap_or(0).max(MAX_PORT),
        max_grant_frames: guest.grant_frames.0.unwrap_or(grant::DEFAULT_MAX_FRAMES),
        max_maptrack_frames: guest.grant_frames.1.unwrap_or(grant::DEFAULT_MAX_MAPTRACK_FRAMES),
        grant_version: grant::Version::V2,
        pool: 0,
        direct: guest.direct,
    };
    hv.create_domain(&config).map_err(GuestError::Domain)
}

/// Gives a domain all that it starts with; answers where it is entered and where its tree is.
#[expect(
    clippy::too_many_arguments,
    reason = "one step of `build_one`, apart so that its failure is seen at one place"
)]
fn fill<M: Machine>(
    hv: &Hypervisor<M>,
    domain: &Domain<M>,
    guest: &StaticGuest,
    guests: &[StaticGuest],
    kernel: &KernelImage,
    partial: Option<&Tree<'_>>,
    devices: &Devices,
    shares: &mut SharedMemories,
) -> Result<(Ipa, Ipa), GuestError> {
    use core::sync::atomic::Ordering;
    domain.aarch32.store(kernel.is_aarch32(), Ordering::Release);
    let pages = layout::page_count(guest.memory);
    domain.max_pages.store(pages, Ordering::Release);
    {
        let mut p2m = domain.p2m.lock();
        match guest.tables {
            Some(size) => p2m.limit_tables(layout::page_count(size)),
            None => p2m.allow_tables_for(pages.saturating_add(shared::page_count(guest))),
        }
    }
    let ram = GuestRam::new(hv, domain, guest)?;
    shares.map(hv, domain, guest, guests, &ram.banks)?;
    devices.give(hv, domain, &ram.banks)?;
    if guest.uart {
        domain.uart.call_once(|| Mutex::new(Vpl011::new()));
    }
    hv.console.add_holder(domain.id);
    if guest.enhanced == Enhanced::Yes {
        offer_xenstore(hv, domain)?;
    }
    let bank = *ram.banks.first().ok_or(GuestError::OutOfMemory)?;
    let ramdisk = guest.modules.ramdisk;
    let mut taken = ram.banks.clone();
    taken.extend(guest.shared.iter().map(|shared| Bank { at: shared.at, size: shared.size }));
    taken.extend(devices.places());
    let extended = layout::extended_regions(&taken, hv.settings.shape.ipa_bits);
    // The tree's length does not depend on where the RAM disk is.
    let mut spec = TreeSpec {
        guest,
        banks: &ram.banks,
        extended: &extended,
        ramdisk: tree::ramdisk(guest, Ipa(0)),
        gic: hv.settings.guest_gic.version(),
        aarch32: kernel.is_aarch32(),
        partial,
        version: hv.settings.xen_version,
    };
    let length = tree::write(&spec)?.len() as u64;
    let places = layout::place(bank, kernel, ramdisk.map_or(0, PaRange::size), length)?;
    spec.ramdisk = tree::ramdisk(guest, places.ramdisk);
    let blob = tree::write(&spec)?;
    load_kernel(hv, &ram, guest.modules.kernel, kernel, places.kernel)?;
    if let Some(module) = ramdisk {
        ram.copy(places.ramdisk, module.start, module.size())?;
    }
    if !ram.write(places.tree, &blob) {
        return Err(GuestError::TooSmall("device tree", blob.len() as u64));
    }
    Ok((places.kernel, places.tree))
}

fn load_kernel<M: Machine>(
    hv: &Hypervisor<M>,
    ram: &GuestRam<'_, M>,
    module: PaRange,
    kernel: &KernelImage,
    at: Ipa,
) -> Result<(), GuestError> {
    match kernel.packing {
        Packing::Plain { offset } => ram.copy(at, module.start.offset(offset), kernel.file_size),
        Packing::Gzip { .. } => {
            let read =
                |offset, buffer: &mut [u8]| hv.machine.read(module.start.offset(offset), buffer).is_ok();
            let write = |offset, bytes: &[u8]| ram.write(at.offset(offset), bytes);
            kernel.unpack(kernel.memory_size, read, write)?;
            Ok(())
        }
    }
}

/// A port for xenstore, which dom0 connects; the page comes when it does (`init-dom0less`), and until then its number is
/// all ones.
fn offer_xenstore<M: Machine>(hv: &Hypervisor<M>, domain: &Domain<M>) -> Result<(), GuestError> {
    let port = domain.events.lock().alloc_unbound(&hv.machine, DOM0).map_err(GuestError::Port)?;
    let mut params = domain.params.lock();
    for (index, value) in [(HVM_PARAM_STORE_EVTCHN, u64::from(port)), (HVM_PARAM_STORE_PFN, u64::MAX)] {
        if let Some(param) = params.get_mut(index as usize) {
            *param = value;
        }
    }
    Ok(())
}

/// Takes a guest apart that could not be built.
fn take_apart<M: Machine>(hv: &Hypervisor<M>, domain: &Arc<Domain<M>>) {
    // Nobody else knows of it, so it is not busy, and each step leaves less to do.
    while let Ok(Progress::Again) = hv.destroy(domain) {}
}

/// Opens the static event channels between the domains that there are. Dom0 must not run yet.
pub fn connect<M: Machine>(hv: &Hypervisor<M>, platform: &Platform) {
    for (a, b) in &platform.boot.domains.channels {
        let (Some(near), Some(far)) = (hv.domain(a.domain), hv.domain(b.domain)) else {
            continue;
        };
        if let Err(errno) = crate::event::pair::connect_at(&hv.machine, &*near, a.port, &*far, b.port) {
            let [a, b] = [a, b].map(|StaticPort { domain, port }| (*domain, *port));
            hv.log(format_args!(
                "Static event channel d{}:{} to d{}:{} cannot be opened ({errno:?})",
                a.0, a.1, b.0, b.1
            ));
        }
    }
}

/// Starts the guests.
pub fn start<M: Machine>(hv: &Hypervisor<M>, built: Vec<Built<M>>) {
    for Built { domain, entry, tree } in built {
        let Some(first) = domain.vcpus.first() else { continue };
        let tree = tree.0;
        // What each kernel wants in its first registers: arm64/booting.rst, and arm/booting.rst with no machine number.
        let registers = if domain.is_aarch32() { [0, u32::MAX.into(), tree] } else { [tree, 0, 0] };
        first.run.lock().start(&hv.machine, &domain, 0, entry.0, registers);
        hv.log(format_args!(
            "d{}: {} vCPUs, {}-bit, {} MiB, kernel at {entry}, device tree at {tree:#x}",
            domain.id,
            domain.vcpus.len(),
            if domain.is_aarch32() { 32 } else { 64 },
            domain.pages() >> 8
        ));
        {
            let mut life = domain.life.lock();
            life.toolstack_pauses = 0;
            life.started = true;
        }
        hv.bring_online(first);
        hv.unpause(&domain);
    }
}
