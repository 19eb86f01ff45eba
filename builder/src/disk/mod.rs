//! Writing a disk image: partition table, file systems and raw blobs, from a description that is all data.
//!
//! The image is written once, sparsely, under a temporary name beside its own, and takes its name only when it is
//! whole and on the disk. Until then the image of before stays what it was.

mod fat;
mod gpt;
mod layout;
mod mend;
mod partial;
mod sparse;

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result, ResultExt};
use crate::progress::Progress;

pub use fat::{fat_name, fat32_size};
use sparse::Writer;

/// Bytes of a logical block. SD cards, eMMC and virtio disks all have blocks of 512.
pub const BLOCK: u64 = 512;

/// A disk image, described whole.
#[derive(Clone, Debug)]
pub struct DiskSpec {
    /// The kind of partition table.
    pub table: Table,
    /// The disk's GUID, in the order in which it is printed.
    pub disk_guid: [u8; 16],
    /// Bytes of the image; a multiple of 512.
    pub size: u64,
    /// The partitions, in the order of their numbers from 1.
    pub partitions: Vec<PartitionSpec>,
    /// Bytes at fixed offsets outside all partitions, such as a board's first boot stage.
    pub raw: Vec<Blob>,
    /// The time in every file system, in seconds since 1970.
    pub epoch: u64,
}

/// Kinds of partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// GUID partition table with a protective MBR (UEFI specification 2.10, chapter 5).
    Gpt,
}

/// One partition.
#[derive(Clone, Debug)]
pub struct PartitionSpec {
    /// Its name in the partition table; at most 36 UTF-16 units.
    pub name: String,
    /// Its type GUID, printed, such as `c12a7328-f81f-11d2-ba4b-00a0c93ec93b`.
    pub type_guid: String,
    /// Its own GUID, in the order in which it is printed.
    pub guid: [u8; 16],
    /// Offset of its first byte on the disk; a multiple of 512.
    pub start: u64,
    /// Bytes; a multiple of 512.
    pub size: u64,
    /// Sets attribute bit 2, by which U-Boot knows the partition to boot from.
    pub legacy_boot: bool,
    /// What is in it.
    pub content: Content,
}

/// What a partition holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// Nothing: a hole.
    Empty,
    /// These bytes at its start, and a hole behind them.
    Raw(Arc<[u8]>),
    /// A FAT32 file system.
    Fat32(Fat32),
}

/// A FAT32 file system.
#[derive(Clone, Debug)]
pub struct Fat32 {
    /// Volume label: at most 11 capital letters, digits, `_`, `-` and spaces.
    pub label: String,
    /// Volume serial number.
    pub volume_id: u32,
    /// Its files; folders come from their paths.
    pub files: Vec<FileSpec>,
}

/// One file of a file system.
#[derive(Clone, Debug)]
pub struct FileSpec {
    /// Path from the root, such as `EFI/BOOT/BOOTAA64.EFI`.
    pub path: String,
    /// Contents.
    pub data: Arc<[u8]>,
}

/// Bytes at a fixed place of the disk.
#[derive(Clone, Debug)]
pub struct Blob {
    /// What it is, for messages.
    pub name: String,
    /// Offset of its first byte on the disk; a multiple of 512.
    pub offset: u64,
    /// The bytes.
    pub data: Arc<[u8]>,
}

impl DiskSpec {
    /// Checks that everything lies inside the disk and nothing over anything else, before a byte is written.
    ///
    /// # Errors
    /// Names the two things that overlap, with their bytes, or the one that cannot be.
    pub fn check(&self) -> Result<()> {
        layout::check(self)
    }
}

/// Writes the image that `spec` describes to `path`.
///
/// # Errors
/// When `spec` is not sound ([`DiskSpec::check`]), a file system is too small for its files, another build is
/// writing the same image, or the disk is full or fails. In every case the file at `path` is what it was, and nothing
/// is left beside it.
pub fn write_image(path: &Path, spec: &DiskSpec, progress: &Progress) -> Result<()> {
    spec.check().map_err(|error| error.at(path))?;
    let partial = partial::Partial::create(path)?;
    fill(&partial, spec, progress).map_err(|error| error.at(path))?;
    partial.keep()
}

fn fill(partial: &partial::Partial, spec: &DiskSpec, progress: &Progress) -> Result<()> {
    let file = partial.file();
    file.set_len(spec.size).context(|| "cannot make a file of the image's size")?;
    let total = spec
        .partitions
        .iter()
        .map(|partition| match &partition.content {
            Content::Empty => 0,
            Content::Raw(data) => data.len() as u64,
            Content::Fat32(fat) => fat.files.iter().map(|file| file.data.len() as u64).sum(),
        })
        .chain(spec.raw.iter().map(|blob| blob.data.len() as u64))
        .sum();
    let step = progress.step("writing the image");
    let mut writer = Writer::new(file, |done| step.set(done, total));
    for partition in &spec.partitions {
        let failed = || format!("cannot write partition `{}`", partition.name);
        match &partition.content {
            Content::Empty => {}
            Content::Raw(data) => writer.write(partition.start, data).context(failed)?,
            Content::Fat32(fat) => {
                let pages =
                    fat::build(fat, partition.size, spec.epoch).map_err(|error| error.context(failed()))?;
                pages.write_to(&mut writer, partition.start).context(failed)?;
            }
        }
    }
    for blob in &spec.raw {
        writer.write(blob.offset, &blob.data).context(|| format!("cannot write {}", blob.name))?;
    }
    match spec.table {
        Table::Gpt => gpt::write(file, spec)?,
    }
    file.sync_all().context(|| "cannot bring the image onto the disk")?;
    step.finish();
    Ok(())
}

fn guid(text: &str) -> Result<uuid::Uuid> {
    uuid::Uuid::try_parse(text)
        .map_err(|error| Error::new(format!("`{}` is not a GUID", text.escape_default())).because(error))
}
