//! The plan of an image: every decision, address and size, before anything is touched.
//!
//! ```text
//! Request + descriptions -> Decision -+
//!                                     +-> Plan -> image
//! artifacts' sizes and headers -------+
//! ```

mod boot;
pub mod disk;
pub mod memory;
pub mod script;

use crate::decision::{Decision, HypervisorSource};
use crate::error::{Error, Result};
use crate::guest::{GuestArtifacts, Medium, Start};
use crate::hypervisor::HypervisorKind;
use crate::kernel::{Format, KernelImage};
use crate::layout::{Content, Filesystem, Partition, SlotFile};
use crate::slot::{self, Listed, Listing, STATE_SIZE, SlotName};
use boot::Booting;
use disk::{Blob, DiskMap, PlannedFile};
use memory::Region;
use script::Load;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use vambrace_bsp::{DiskSize, Loader, Method, Size};

const MIB: u64 = 1 << 20;
/// Room for the copy of the device tree: what QEMU hands on is 1 MiB, most of it empty, and the modules are added.
const TREE_ROOM: u64 = 2 * MIB;
/// What the hypervisor takes for itself beside dom0: its heap, page tables, dom0's stage-2 tables.
const HYPERVISOR_HEAP: u64 = 32 * MIB;

/// A part of the image as the plan sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Where it comes from, in words.
    pub from: String,
    /// The size of the file in bytes.
    pub size: u64,
    /// The SHA-256 of the file, in hexadecimal; `None` while it has not been made.
    pub sha256: Option<String>,
    /// What its header says, if it is a boot executable.
    pub header: Option<Header>,
}

/// A device tree that the image carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tree {
    /// The file as it came.
    #[serde(flatten)]
    pub artifact: Artifact,
    /// Its bytes.
    #[serde(skip)]
    pub data: Arc<[u8]>,
}

/// What the header of a boot executable says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// What it is.
    pub format: Format,
    /// The offset from a 2 MiB boundary at which the image wants to be.
    pub text_offset: u64,
    /// The memory the starting image takes from its first byte on.
    pub image_size: u64,
    /// Whether the image may be anywhere in RAM.
    pub loads_anywhere: bool,
    /// Whether it is compressed with gzip.
    pub gzip: bool,
}

impl From<&KernelImage> for Header {
    fn from(image: &KernelImage) -> Self {
        Self {
            format: image.format,
            text_offset: image.text_offset,
            image_size: image.image_size,
            loads_anywhere: image.loads_anywhere(),
            gzip: image.compression == crate::kernel::Compression::Gzip,
        }
    }
}

/// dom0's root file system on the medium, as the plan sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootArtifact {
    /// The archive with its files.
    #[serde(flatten)]
    pub artifact: Artifact,
    /// What they take in a file system.
    pub tree: crate::disk::TreeSize,
    /// The file system's UUID; empty while it is not known.
    pub uuid: String,
}

/// The parts of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Artifacts {
    /// The hypervisor.
    pub hypervisor: Artifact,
    /// dom0's kernel.
    pub kernel: Artifact,
    /// dom0's ramdisk.
    pub ramdisk: Artifact,
    /// The board's device tree, where the image carries it.
    pub device_tree: Option<Tree>,
    /// dom0's root file system, where it is on the medium.
    pub root: Option<RootArtifact>,
    /// The firmware of the boot method, by its name in the board's description.
    pub firmware: BTreeMap<String, Artifact>,
    /// The guests.
    pub guests: Vec<GuestArtifacts>,
}

impl Artifacts {
    /// Whether every part has been made, so that no size is a guess.
    pub fn exact(&self) -> bool {
        [&self.hypervisor, &self.kernel, &self.ramdisk]
            .into_iter()
            .chain(self.firmware.values())
            .chain(self.root.as_ref().map(|root| &root.artifact))
            .chain(self.device_tree.as_ref().map(|tree| &tree.artifact))
            .chain(self.guests.iter().flat_map(GuestArtifacts::all))
            .all(|artifact| artifact.sha256.is_some())
    }
}

/// Everything that is decided about an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The board.
    pub board: String,
    /// The CPU's architecture.
    pub architecture: String,
    /// The variant of QEMU's machine.
    pub variant: Option<String>,
    /// The boot method.
    pub method: String,
    /// The disk layout.
    pub layout: String,
    /// The root file system.
    pub profile: String,
    /// The machine's memory in bytes.
    pub memory: u64,
    /// The machine's CPUs.
    pub cpus: u32,
    /// dom0's memory in bytes.
    pub dom0_mem: u64,
    /// dom0's virtual CPUs; `None` for as many as the machine has.
    pub dom0_cpus: Option<u32>,
    /// The kind of hypervisor.
    pub kind: HypervisorKind,
    /// Where the hypervisor comes from.
    pub hypervisor: PlannedHypervisor,
    /// The hypervisor's command line.
    pub hypervisor_args: String,
    /// dom0's command line.
    pub dom0_args: String,
    /// Whether every size is known; otherwise some are guesses and addresses may move.
    pub exact: bool,
    /// The parts of the image.
    pub artifacts: Artifacts,
    /// RAM: the first address and the first behind it.
    pub ram: (u64, u64),
    /// Who is where in RAM while the board boots. Under UEFI the firmware decides that, and the list is empty.
    pub ram_map: Vec<Region>,
    /// The byte map of the medium.
    pub disk: DiskMap,
    /// What is loaded to which address before the hypervisor starts; under UEFI the firmware decides.
    pub loads: Vec<Load>,
    /// Who starts the hypervisor in QEMU: the boot method's firmware, or the builder in its place.
    pub loader: Loader,
    /// What the image lacks that somebody has to have elsewhere, in sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// Whether no boot of the board was ever seen.
    pub never_booted: bool,
    /// U-Boot's boot script, or the EFI configuration; empty where a loader outside of the machine needs neither.
    pub boot_text: String,
    /// The EFI configuration besides, where the image boots by U-Boot and as an EFI application.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub efi_text: String,
    /// The boot script of a slot, where there are slots: the other one then chooses one of them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub slot_text: String,
    /// The device tree on the image, complete.
    #[serde(skip)]
    pub device_tree: Option<Arc<[u8]>>,
    /// The image's path.
    pub image: PathBuf,
}

/// Where the hypervisor comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlannedHypervisor {
    /// It is compiled.
    Compiled {
        /// For this board.
        board: String,
        /// For this Rust target.
        target: String,
        /// With these drivers.
        drivers: Vec<String>,
    },
    /// It is in a Debian package of this name.
    Package(String),
    /// A file is used as it is.
    File(PathBuf),
}

impl Plan {
    /// Plans an image of `artifacts`.
    ///
    /// # Errors
    ///
    /// Parts that cannot be started by the boot method, that do not fit into RAM, or that overlap there or on the
    /// medium.
    pub fn new(decision: &Decision, artifacts: Artifacts) -> Result<Self> {
        let base = decision.board.memory.base;
        let end = base.saturating_add(decision.memory.bytes());
        fits_together(decision, &artifacts)?;
        let Booting { ram_map, loads, text: boot_text, efi_text, slot_text, tree: device_tree } =
            match decision.method {
                Method::Uboot | Method::Direct => boot::by_address(decision, &artifacts, base, end)?,
                Method::Uefi => boot::by_uefi(decision)?,
            };
        let blobs: Vec<Blob> = decision
            .boot
            .firmware
            .iter()
            .enumerate()
            .filter(|(number, _)| decision.layout.find(Content::Firmware(*number)).is_none())
            .filter_map(|(_, name)| {
                let offset = decision.board.firmware.get(name)?.offset?.bytes();
                let size = artifacts.firmware.get(name)?.size;
                Some(Blob { name: name.clone(), offset, size })
            })
            .collect();
        let boot_size = boot_file_size(decision.method, &boot_text);
        let slot_size = boot_file_size(decision.method, &slot_text);
        let size_of_file = |content| match content {
            Content::Hypervisor => artifacts.hypervisor.size,
            Content::HypervisorUimage => boot::uimage_size(&artifacts.hypervisor),
            Content::Kernel => artifacts.kernel.size,
            Content::Ramdisk => artifacts.ramdisk.size,
            Content::DeviceTree => device_tree.as_ref().map_or(0, |tree| tree.len() as u64),
            Content::EfiConfig if decision.method == Method::Uboot => efi_text.len() as u64,
            Content::BootScript | Content::EfiConfig => boot_size,
            Content::Guest(module) => {
                let guest = artifacts.guests.get(module.guest);
                guest.and_then(|guest| guest.module(module.kind)).map_or(0, |artifact| artifact.size)
            }
            Content::Firmware(number) => {
                let name = decision.boot.firmware.get(number);
                name.and_then(|name| artifacts.firmware.get(name)).map_or(0, |artifact| artifact.size)
            }
            Content::Slot(SlotFile::Script) => slot_size,
            Content::Slot(SlotFile::Good | SlotFile::Trial) => STATE_SIZE as u64,
            Content::Slot(SlotFile::Listing) => 0,
        };
        // As long as the one with the hashes, which not every artifact has yet.
        let unhashed = |content| Ok((size_of_file(content), "0".repeat(64)));
        let listing = listing(decision, &artifacts.kernel.from, unhashed)?.text().len() as u64;
        let size_of = |content| match content {
            Content::Slot(SlotFile::Listing) => listing,
            other => size_of_file(other),
        };
        let medium = decision.board.qemu.as_ref().map_or(DiskSize::Any, |qemu| qemu.disk_size);
        let needed =
            |partition: &Partition, files: &[PlannedFile]| needed(decision, &artifacts, partition, files);
        let disk = disk::lay_out(&decision.layout, &blobs, medium, size_of, needed)?;
        Ok(Self {
            board: decision.board.id.clone(),
            architecture: decision.board.architecture.name().to_owned(),
            variant: decision.variant.as_ref().map(|(name, _)| name.clone()),
            method: decision.method.name().to_owned(),
            layout: decision.layout.id.clone(),
            profile: decision.profile.spec.id.clone(),
            memory: decision.memory.bytes(),
            cpus: decision.cpus,
            dom0_mem: decision.dom0_mem.bytes(),
            dom0_cpus: decision.dom0_cpus,
            kind: decision.kind,
            hypervisor: match &decision.hypervisor {
                HypervisorSource::File(path) => PlannedHypervisor::File(path.clone()),
                HypervisorSource::Package { package, .. } => PlannedHypervisor::Package(package.clone()),
                HypervisorSource::Compile { board, target, features, .. } => PlannedHypervisor::Compiled {
                    board: board.clone(),
                    target: target.clone(),
                    drivers: features.clone(),
                },
            },
            hypervisor_args: decision.hypervisor_args.clone(),
            dom0_args: decision.dom0_args.clone(),
            exact: artifacts.exact(),
            artifacts,
            ram: (base, end),
            ram_map,
            disk,
            loads,
            loader: decision.board.qemu.as_ref().map_or(Loader::Firmware, |qemu| qemu.loader),
            remarks: firmware_elsewhere(decision).into_iter().collect(),
            never_booted: decision.board.never_booted(),
            boot_text,
            efi_text,
            slot_text,
            device_tree,
            image: decision.image.clone(),
        })
    }
}

/// What is to be known where the user has not named the firmware that no package has.
fn firmware_elsewhere(decision: &Decision) -> Option<String> {
    let names = &decision.firmware_elsewhere;
    if names.is_empty() {
        return None;
    }
    let set: Vec<String> = names.iter().map(|name| format!("--set firmware.{name}=FILE")).collect();
    Some(format!(
        "no {} on this medium: the board starts from those of another one; or name your own under [firmware], or with {}",
        names.join(" and no "),
        set.join(" ")
    ))
}

/// What the slot that an image is built with has; `file` gives size and SHA-256 of each content, and `kernel` is where the
/// kernel is from.
pub(crate) fn listing(
    decision: &Decision,
    kernel: &str,
    file: impl Fn(Content) -> Result<(u64, String)>,
) -> Result<Listing> {
    let folder = slot::path(SlotName::A, "");
    let all = decision.layout.partitions.iter().flat_map(|partition| &partition.files);
    let files = all.filter(|file| file.content != Content::Slot(SlotFile::Listing)).filter_map(|entry| {
        let name = entry.path.strip_prefix(&folder)?.to_owned();
        Some(file(entry.content).map(|(size, sha256)| Listed { name, size, sha256 }))
    });
    let files = files.collect::<Result<_>>()?;
    Ok(Listing { board: decision.board.id.clone(), kernel: Listing::release(kernel), files })
}

/// The bytes that a partition has to have at least.
fn needed(
    decision: &Decision,
    artifacts: &Artifacts,
    partition: &Partition,
    files: &[PlannedFile],
) -> Result<u64> {
    let slack = if partition.size.is_some() { 0 } else { partition.slack.bytes() };
    match partition.filesystem {
        Filesystem::Fat32 => {
            // The other slot will be as large, and both may grow.
            let other: Vec<(String, u64)> = files.iter().filter_map(other_slot).collect();
            let slack = if other.is_empty() { slack } else { slack.saturating_mul(2) };
            let files = files.iter().map(|file| (file.path.as_str(), file.size));
            let all = files.chain(other.iter().map(|(path, size)| (path.as_str(), *size)));
            crate::disk::fat32_size(all, slack)
        }
        Filesystem::Ext4 => {
            let tree = artifacts.root.as_ref().map(|root| root.tree).unwrap_or_default();
            let room = decision.profile.spec.room.filter(|_| partition.size.is_none());
            let room = room.map_or(0, Size::bytes);
            crate::disk::ext4_size(tree, slack.max(room))
        }
        Filesystem::Guest { guest, disk } => {
            let disk = artifacts.guests.get(guest).and_then(|guest| guest.disks.get(disk));
            disk.map(|disk| disk.size).ok_or_else(|| Error::new("the plan has a partition of no guest's"))
        }
        Filesystem::Lvm => {
            let disks = artifacts.guests.iter().flat_map(|guest| &guest.disks);
            let volumes = disks.filter(|disk| disk.on == Medium::Volume).map(|disk| disk.size);
            let free = decision.guests.config.volume_group().map_or(0, |(_, free)| free);
            Ok(crate::disk::lvm_size(volumes, free))
        }
    }
}

/// The path that a file of the first slot has in the other one.
fn other_slot(file: &PlannedFile) -> Option<(String, u64)> {
    let name = file.path.strip_prefix(&slot::path(SlotName::A, ""))?;
    Some((slot::path(SlotName::B, name), file.size))
}

/// The size of the file the firmware, or the hypervisor, reads `text` from: a boot script has U-Boot's header of 64
/// bytes and a list of one length, 8 bytes, before it.
fn boot_file_size(method: Method, text: &str) -> u64 {
    let text = text.len() as u64;
    match method {
        Method::Uboot => text + 72,
        Method::Uefi | Method::Direct => text,
    }
}

/// Whether dom0, the hypervisor and what is loaded fit into RAM beside one another, and the kernel into dom0.
fn fits_together(decision: &Decision, artifacts: &Artifacts) -> Result<()> {
    let Artifacts { hypervisor, kernel, ramdisk, .. } = artifacts;
    let image_size = |artifact: &Artifact| artifact.header.map_or(0, |h| h.image_size).max(artifact.size);
    let mib = |bytes: u64| bytes.div_ceil(MIB);
    let of_guests = artifacts.guests.iter().filter(|guest| guest.start == Start::Static);
    let modules =
        of_guests.flat_map(|guest| [Some(&guest.kernel), guest.ramdisk.as_ref(), guest.device_tree.as_ref()]);
    let loaded = [image_size(hypervisor), kernel.size, ramdisk.size, TREE_ROOM, HYPERVISOR_HEAP]
        .into_iter()
        .chain(modules.flatten().map(|module| module.size))
        .fold(0, u64::saturating_add);
    let (dom0, memory) = (decision.dom0_mem, decision.memory);
    if dom0.bytes().saturating_add(loaded) > memory.bytes() {
        return Err(Error::new(format!(
            "dom0's {dom0} and {} MiB for the hypervisor and what is loaded are more than the machine's {memory}",
            mib(loaded)
        ))
        .help("give dom0 less with --dom0-mem, or the machine more with --memory"));
    }
    let guests = &decision.guests.config;
    let of_guests = guests
        .static_guests()
        .map(|(_, guest)| guest.memory.bytes())
        .chain(guests.shared_memory().map(|(.., shared)| shared.size.bytes()))
        .fold(0, u64::saturating_add);
    if dom0.bytes().saturating_add(loaded).saturating_add(of_guests) > memory.bytes() {
        return Err(Error::new(format!(
            "beside dom0's {dom0} and {} MiB for what is loaded, the guests that the hypervisor starts need {} MiB: more \
             than the machine's {memory}",
            mib(loaded),
            mib(of_guests)
        ))
        .help("give dom0 or the guests less memory, or the machine more with --memory"));
    }
    // The kernel unpacks itself and the ramdisk; both are there twice for a moment.
    let needed = image_size(kernel).saturating_add(ramdisk.size.saturating_mul(4)).saturating_add(16 * MIB);
    if needed > dom0.bytes() {
        return Err(Error::new(format!(
            "dom0's kernel and ramdisk need {} MiB, and dom0 has {dom0}",
            mib(needed)
        ))
        .help("give dom0 more with --dom0-mem"));
    }
    Ok(())
}
