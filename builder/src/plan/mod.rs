//! The plan of an image: every decision, address and size, before anything is touched.
//!
//! ```text
//! Request + descriptions -> Decision -+
//!                                     +-> Plan -> image
//! artifacts' sizes and headers -------+
//! ```

pub mod disk;
pub mod memory;
pub mod script;

use crate::decision::{Decision, HypervisorSource};
use crate::error::{Error, Result};
use crate::kernel::KernelImage;
use crate::layout::Content;
use disk::{Blob, DiskMap};
use memory::{Region, Wanted};
use script::{Load, Script};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use vambrace_bsp::{DeviceTree, Method};

const MIB: u64 = 1 << 20;
/// Room for the copy of the device tree: what QEMU hands on is 1 MiB, most of it empty, and the modules are added.
const TREE_ROOM: u64 = 2 * MIB;
/// What the hypervisor takes for itself beside dom0: its heap, page tables, dom0's stage-2 tables.
const HYPERVISOR_HEAP: u64 = 32 * MIB;

/// A part of the image as the plan sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Artifact {
    /// Where it comes from, in words.
    pub from: String,
    /// The size of the file in bytes.
    pub size: u64,
    /// The SHA-256 of the file, in hexadecimal; `None` while it has not been made.
    pub sha256: Option<String>,
    /// What its arm64 Image header says, if it has one.
    pub header: Option<Header>,
}

/// What the arm64 Image header says (Linux, Documentation/arch/arm64/booting.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Header {
    /// The offset from a 2 MiB boundary at which the image wants to be.
    pub text_offset: u64,
    /// The memory the running image takes from its first byte on.
    pub image_size: u64,
    /// Whether the image may be anywhere in RAM.
    pub loads_anywhere: bool,
    /// Whether it is compressed with gzip.
    pub gzip: bool,
}

impl From<&KernelImage> for Header {
    fn from(image: &KernelImage) -> Self {
        Self {
            text_offset: image.text_offset,
            image_size: image.image_size,
            loads_anywhere: image.loads_anywhere(),
            gzip: image.compression == crate::kernel::Compression::Gzip,
        }
    }
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
    /// The firmware of the boot method, by its name in the board's description.
    pub firmware: BTreeMap<String, Artifact>,
}

impl Artifacts {
    /// Whether every part has been made, so that no size is a guess.
    pub fn exact(&self) -> bool {
        [&self.hypervisor, &self.kernel, &self.ramdisk]
            .into_iter()
            .chain(self.firmware.values())
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
    /// U-Boot's boot script, or the EFI configuration.
    pub boot_text: String,
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
        let (ram_map, boot_text) = match decision.method {
            Method::Uboot => plan_uboot(decision, &artifacts, base, end)?,
            Method::Uefi => {
                let text = script::efi_config(
                    &decision.layout,
                    &decision.board.id,
                    &decision.hypervisor_args,
                    &decision.dom0_args,
                )?;
                (Vec::new(), text)
            }
        };
        let blobs: Vec<Blob> = decision
            .boot
            .firmware
            .iter()
            .filter_map(|name| {
                let offset = decision.board.firmware.get(name)?.offset?.bytes();
                let size = artifacts.firmware.get(name)?.size;
                Some(Blob { name: name.clone(), offset, size })
            })
            .collect();
        let boot_size = boot_file_size(decision.method, &boot_text);
        let size_of = |content| match content {
            Content::Hypervisor => artifacts.hypervisor.size,
            Content::Kernel => artifacts.kernel.size,
            Content::Ramdisk => artifacts.ramdisk.size,
            Content::BootScript | Content::EfiConfig => boot_size,
        };
        let disk = disk::lay_out(&decision.layout, &blobs, size_of, |files, slack| {
            let files = files.iter().map(|file| (file.path.as_str(), file.size));
            crate::disk::fat32_size(files, slack)
        })?;
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
            hypervisor: match &decision.hypervisor {
                HypervisorSource::File(path) => PlannedHypervisor::File(path.clone()),
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
            boot_text,
            image: decision.image.clone(),
        })
    }
}

/// The size of the file the firmware, or the hypervisor, reads `text` from: a boot script has U-Boot's header of 64
/// bytes and a list of one length, 8 bytes, before it.
fn boot_file_size(method: Method, text: &str) -> u64 {
    let text = text.len() as u64;
    match method {
        Method::Uboot => text + 72,
        Method::Uefi => text,
    }
}

/// Whether dom0, the hypervisor and what is loaded fit into RAM beside one another, and the kernel into dom0.
fn fits_together(decision: &Decision, artifacts: &Artifacts) -> Result<()> {
    let Artifacts { hypervisor, kernel, ramdisk, .. } = artifacts;
    let image_size = |artifact: &Artifact| artifact.header.map_or(0, |h| h.image_size).max(artifact.size);
    let mib = |bytes: u64| bytes.div_ceil(MIB);
    let loaded = [image_size(hypervisor), kernel.size, ramdisk.size, TREE_ROOM, HYPERVISOR_HEAP]
        .into_iter()
        .fold(0, u64::saturating_add);
    let (dom0, memory) = (decision.dom0_mem, decision.memory);
    if dom0.bytes().saturating_add(loaded) > memory.bytes() {
        return Err(Error::new(format!(
            "dom0's {dom0} and {} MiB for the hypervisor and what is loaded are more than the machine's {memory}",
            mib(loaded)
        ))
        .help("give dom0 less with --dom0-mem, or the machine more with --memory"));
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

fn plan_uboot(
    decision: &Decision,
    artifacts: &Artifacts,
    base: u64,
    end: u64,
) -> Result<(Vec<Region>, String)> {
    if decision.board.device_tree != (DeviceTree::Firmware {}) {
        return Err(Error::new(format!(
            "{}: only the firmware's device tree can be used so far",
            decision.board.id
        ))
        .help("set `device-tree = { from = \"firmware\" }` in the board's description"));
    }
    let header = artifacts.hypervisor.header.ok_or_else(|| {
        Error::new("the hypervisor has no arm64 Image header, so U-Boot's `booti` does not take it")
            .help("give a flat arm64 Image, or boot with --method uefi")
    })?;
    if header.gzip {
        return Err(
            Error::new("the hypervisor is compressed, and U-Boot starts it as it is").help("gunzip it first")
        );
    }
    if !header.loads_anywhere {
        return Err(Error::new(
            "the hypervisor's Image header binds it to the start of RAM, where U-Boot keeps things",
        )
        .help("set bit 3 of the header's flags"));
    }
    let kept = fixed_regions(decision, base, end)?;
    let wanted = [
        Wanted {
            what: "device tree".into(),
            size: TREE_ROOM,
            alignment: MIB,
            offset: 0,
            why: "a copy of the firmware's, with room for the modules".into(),
        },
        Wanted {
            what: Content::Hypervisor.name().into(),
            size: header.image_size.max(artifacts.hypervisor.size),
            alignment: 2 * MIB,
            offset: header.text_offset,
            why: "image_size at 2 MiB + text_offset, so U-Boot leaves it there".into(),
        },
        Wanted {
            what: Content::Kernel.name().into(),
            size: artifacts.kernel.size,
            alignment: 2 * MIB,
            offset: 0,
            why: "the file; the hypervisor copies it into dom0".into(),
        },
        Wanted {
            what: Content::Ramdisk.name().into(),
            size: artifacts.ramdisk.size,
            alignment: 2 * MIB,
            offset: 0,
            why: "the file; the hypervisor copies it into dom0".into(),
        },
    ];
    let mut regions = memory::place(base, end, &kept, &wanted)?;
    let address = |what: &str| {
        regions
            .iter()
            .find(|region| region.what == what)
            .map(|region| region.start)
            .ok_or_else(|| Error::new(format!("the plan has no place for the {what}")))
    };
    let load = |content: Content, artifact: &Artifact| {
        let (_, path) = decision.layout.find(content).ok_or_else(|| {
            Error::new(format!("the layout `{}` has no {}", decision.layout.id, content.name()))
        })?;
        Ok::<_, Error>(Load {
            content,
            path: path.to_owned(),
            address: address(content.name())?,
            size: artifact.size,
        })
    };
    let script = Script {
        board: &decision.board.id,
        loads: vec![
            load(Content::Hypervisor, &artifacts.hypervisor)?,
            load(Content::Kernel, &artifacts.kernel)?,
            load(Content::Ramdisk, &artifacts.ramdisk)?,
        ],
        tree: (address("device tree")?, TREE_ROOM),
        hypervisor_args: &decision.hypervisor_args,
        dom0_args: &decision.dom0_args,
    };
    let text = script.text()?;
    // The script's own size depends on the addresses in it, so its region was planned with room and is cut now.
    let size = boot_file_size(Method::Uboot, &text);
    if size > SCRIPT_ROOM {
        return Err(Error::new(format!("the boot script has {size} bytes, more than {SCRIPT_ROOM}")));
    }
    for region in regions.iter_mut().filter(|region| region.what == Content::BootScript.name()) {
        region.size = size;
    }
    Ok((regions, text))
}

/// Room for the boot script; two command lines of 1000 characters are most of it.
const SCRIPT_ROOM: u64 = 16 << 10;

/// What the firmware keeps, and the boot script.
fn fixed_regions(decision: &Decision, base: u64, end: u64) -> Result<Vec<Region>> {
    let mut regions = Vec::new();
    for reserved in &decision.boot.reserved {
        let size = reserved.size.bytes();
        let start = match reserved.base {
            Some(start) => start,
            None => end.checked_sub(size).filter(|start| *start >= base).ok_or_else(|| {
                Error::new(format!("RAM has no room for the {} that {} takes", reserved.size, reserved.what))
                    .help("give the machine more memory with --memory")
            })?,
        };
        regions.push(Region {
            what: reserved.what.clone(),
            start,
            size,
            why: "the firmware's while it loads".into(),
        });
    }
    let start = decision
        .boot
        .script_address
        .ok_or_else(|| Error::new(format!("{} has no address for the boot script", decision.board.id)))?;
    regions.push(Region {
        what: Content::BootScript.name().into(),
        start,
        size: SCRIPT_ROOM,
        why: "where this board's U-Boot puts it".into(),
    });
    Ok(regions)
}
