//! The loader that stands in for firmware: it takes the files out of the image and has QEMU put them to the addresses
//! that the plan gave them.
//!
//! QEMU starts the hypervisor as it starts a Linux kernel (`hw/arm/boot.c`): with the device tree's address in the
//! register for it, in HYP mode or at EL2. It puts the device tree to a place of its own, with the machine's memory in
//! it, and PSCI where the machine has that. What its own machines do not do for 64-bit CPUs without PSCI is to hold the
//! other CPUs until they are released; a few instructions do that here, as a boot wrapper would.

use crate::error::{Error, Result, ResultExt};
use crate::fdt;
use crate::layout::Content;
use crate::plan::memory::Region;
use crate::plan::script::Load;
use crate::uboot::kernel_image;
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use vambrace_bsp::Architecture;

const MIB: u64 = 1 << 20;
/// A file larger than this is none that the plan put there.
const MAX_FILE: u64 = 1 << 30;

/// Memory that QEMU's own loader uses in the RAM of `memory` bytes from `base`: the first instructions at its start,
/// and the device tree where it would put that behind a ramdisk of Linux.
pub fn kept(base: u64, memory: u64) -> Vec<Region> {
    let region = |what: &str, start, size| Region {
        what: what.into(),
        start,
        size,
        why: "QEMU's loader puts it there".into(),
    };
    let tree = base.saturating_add((memory / 2).min(128 * MIB)).next_multiple_of(2 * MIB);
    vec![region("first instructions", base, 64 << 10), region("device tree of QEMU", tree, 2 * MIB)]
}

/// What has to be known of a plan to load its image.
#[derive(Debug, Deserialize)]
struct Planned {
    loads: Vec<Load>,
    disk: Disk,
}

#[derive(Debug, Deserialize)]
struct Disk {
    partitions: Vec<Partition>,
}

#[derive(Debug, Deserialize)]
struct Partition {
    start: u64,
    size: u64,
    #[serde(default)]
    files: Vec<PlannedFile>,
}

#[derive(Debug, Deserialize)]
struct PlannedFile {
    path: String,
    content: Content,
}

/// The folder for the files of `image`, beside it.
pub fn folder(image: &Path) -> PathBuf {
    image.with_extension("files")
}

/// The machine that an image is loaded into.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// The CPUs' architecture.
    pub architecture: Architecture,
    /// The first address of RAM.
    pub base: u64,
    /// How many CPUs there are.
    pub cpus: u32,
    /// Whether the machine itself holds the CPUs other than the first.
    pub holds_cpus: bool,
}

/// Takes the files out of `image`, which was made by `plan`, into its [`folder`], and gives QEMU's arguments that load
/// them into `machine`.
///
/// # Errors
///
/// An image that is not as the plan says, and a folder that cannot be written.
pub fn load(image: &Path, plan: &serde_json::Value, machine: Machine) -> Result<Vec<String>> {
    let planned = Planned::deserialize(plan).map_err(|error| {
        Error::new("the image's plan does not say what is loaded")
            .because(error)
            .help("make the image anew with --force")
    })?;
    let folder = folder(image);
    fs::create_dir_all(&folder).context_at(&folder, || "cannot make the folder for the image's files")?;
    let mut file = crate::image::open(image)?;
    let mut args = Vec::new();
    // U-Boot's own format is for U-Boot.
    for load in planned.loads.iter().filter(|load| load.content != Content::HypervisorUimage) {
        let partition = planned
            .disk
            .partitions
            .iter()
            .find(|partition| {
                partition.files.iter().any(|file| (file.content, &file.path) == (load.content, &load.path))
            })
            .ok_or_else(|| Error::new(format!("no partition of the plan has {}", load.path)))?;
        let data = read(&mut file, partition, &load.path).map_err(|error| error.at(image))?;
        if data.len() as u64 != load.size {
            return Err(Error::new(format!(
                "{} on the image has {} bytes, and the plan says {}",
                load.path,
                data.len(),
                load.size
            ))
            .at(image)
            .help("make the image anew with --force"));
        }
        args.extend(hand_over(&folder, load, data, machine)?);
    }
    Ok(args)
}

/// A file of a FAT32 partition.
fn read(image: &mut File, partition: &Partition, path: &str) -> Result<Vec<u8>> {
    let failed = || format!("cannot read {path} from the image");
    let window = Window { file: image, start: partition.start, size: partition.size, at: 0 };
    let volume = fatfs::FileSystem::new(window, fatfs::FsOptions::new()).context(failed)?;
    let file = volume.root_dir().open_file(path).context(failed)?;
    let mut data = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut data).context(failed)?;
    Ok(data)
}

/// QEMU's arguments for one file.
fn hand_over(folder: &Path, load: &Load, mut data: Vec<u8>, machine: Machine) -> Result<Vec<String>> {
    let keep = |name: &str, data: &[u8]| -> Result<String> {
        let path = folder.join(name);
        fs::write(&path, data).context_at(&path, || "cannot write the file")?;
        Ok(path.display().to_string())
    };
    let Load { address, .. } = load;
    // Of the two formats with an address QEMU takes it from the header.
    Ok(match (load.content, machine.architecture) {
        (Content::Hypervisor, Architecture::Aarch64) => {
            at_offset(&mut data, address.checked_sub(machine.base))?;
            vec!["-kernel".to_owned(), keep("hypervisor.image", &data)?]
        }
        (Content::Hypervisor, Architecture::Armv7) => {
            let address = u32::try_from(*address).map_err(|_| {
                Error::new(format!("QEMU cannot load the hypervisor to {address:#x}, above 4 GiB"))
            })?;
            let image = kernel_image(&data, machine.architecture, address)?;
            vec!["-kernel".to_owned(), keep("hypervisor.uimage", &image)?]
        }
        (Content::DeviceTree, architecture) => {
            let mut args = vec!["-dtb".to_owned(), keep("device-tree.dtb", &data)?];
            if architecture == Architecture::Aarch64 && !machine.holds_cpus {
                args.extend(waiting(folder, &data, machine.cpus)?);
            }
            args
        }
        (other, _) => {
            // In a list, a comma that is meant is doubled.
            let path = keep(&other.label(), &data)?.replace(',', ",,");
            vec!["-device".to_owned(), format!("loader,file={path},addr={address:#x},force-raw=on")]
        }
    })
}

/// Writes into the header of an arm64 image at which offset from the start of RAM it is to be loaded (`text_offset`;
/// Linux, Documentation/arch/arm64/booting.rst). QEMU adds 2 MiB to what is below 4 KiB, where its own instructions are.
fn at_offset(image: &mut [u8], offset: Option<u64>) -> Result<()> {
    let field = image.get_mut(8..16);
    let (Some(offset), Some(field)) = (offset.filter(|offset| *offset >= 4 << 10), field) else {
        return Err(Error::new("the plan has the hypervisor where QEMU cannot load it"));
    };
    field.copy_from_slice(&offset.to_le_bytes());
    Ok(())
}

/// The arguments that hold the CPUs other than the first at the address where the device tree says they wait.
fn waiting(folder: &Path, tree: &[u8], cpus: u32) -> Result<Vec<String>> {
    let tree = fdt::summary(tree)?;
    let release = match tree.spin_tables.as_slice() {
        [] => return Ok(Vec::new()),
        [release] => *release,
        several => {
            return Err(Error::new(format!(
                "the device tree has its CPUs wait at {} addresses, and one is known here",
                several.len()
            )));
        }
    };
    // In the page with the address itself, which the tree reserves for this.
    let at = release & !0xfff;
    let inside =
        |range: &(u64, u64)| range.0 <= at && release.saturating_add(8) <= range.0.saturating_add(range.1);
    if !tree.reserved.iter().any(inside) || release - at < 64 || !release.is_multiple_of(8) {
        return Err(Error::new(format!(
            "the device tree has CPUs wait at {release:#x} and does not reserve the page of that"
        )));
    }
    let path = folder.join("waiting");
    fs::write(&path, wait_for(release)).context_at(&path, || "cannot write the file")?;
    let file = path.display().to_string().replace(',', ",,");
    let mut args = vec!["-device".to_owned(), format!("loader,file={file},addr={at:#x},force-raw=on")];
    for cpu in 1..cpus {
        args.extend(["-device".to_owned(), format!("loader,addr={at:#x},cpu-num={cpu}")]);
    }
    Ok(args)
}

/// A64 instructions that wait until there is something else than 0 at `release`, and go there (Linux,
/// Documentation/arch/arm64/booting.rst).
fn wait_for(release: u64) -> Vec<u8> {
    const CODE: [u32; 6] = [
        0x5800_00c4, // ldr  x4, the number behind the instructions
        0xd503_205f, // wfe
        0xf940_0085, // ldr  x5, [x4]
        0xb4ff_ffc5, // cbz  x5, back to wfe
        0xd61f_00a0, // br   x5
        0xd503_201f, // nop
    ];
    CODE.iter().flat_map(|word| word.to_le_bytes()).chain(release.to_le_bytes()).collect()
}

/// A partition as a file of its own.
#[derive(Debug)]
struct Window<'a> {
    file: &'a mut File,
    start: u64,
    size: u64,
    at: u64,
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        self.file.seek(SeekFrom::Start(self.start.saturating_add(self.at)))?;
        let count = self.file.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Nothing is ever written: the image was opened for reading.
impl Write for Window<'_> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemu_s_own_places_are_kept() {
        let places: Vec<(u64, u64)> =
            kept(0x8000_0000, 1 << 30).iter().map(|region| (region.start, region.size)).collect();
        assert_eq!(places, [(0x8000_0000, 0x1_0000), (0x8800_0000, 0x20_0000)]);
        assert_eq!(kept(0, 64 << 20)[1].start, 32 << 20, "with little memory it is in the middle");
    }

    #[test]
    fn the_waiting_instructions_end_with_the_address() {
        let code = wait_for(0x8000_fff8);
        assert_eq!(code.len(), 32);
        assert_eq!(code[24..], 0x8000_fff8_u64.to_le_bytes());
        // The load of it reaches 24 bytes ahead: imm19 counts words.
        assert_eq!((0x5800_00c4_u32 >> 5) & 0x7_ffff, 24 / 4);
    }

    #[test]
    fn an_offset_that_qemu_would_change_is_refused() {
        let mut image = vec![0xff; 64];
        at_offset(&mut image, Some(0x20_0000)).unwrap();
        assert_eq!(image[8..16], 0x20_0000_u64.to_le_bytes());
        for (size, offset) in [(64, None), (64, Some(0)), (12, Some(0x20_0000))] {
            assert!(at_offset(&mut vec![0; size], offset).is_err(), "{size}, {offset:?}");
        }
    }

    #[test]
    fn a_plan_of_another_kind_is_an_error() {
        let plan = serde_json::json!({ "loads": [{ "content": "kernel" }] });
        let machine = Machine { architecture: Architecture::Armv7, base: 0, cpus: 1, holds_cpus: false };
        let error = load(Path::new("/nowhere/x.img"), &plan, machine).unwrap_err();
        assert!(error.report().contains("--force"), "{}", error.report());
    }
}
