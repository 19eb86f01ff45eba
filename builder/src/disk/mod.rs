//! Writing a disk image: partition table, file systems and raw blobs, from a description that is all data.
//!
//! The image is written once, sparsely, under a temporary name beside its own, and takes its name only when it is
//! whole and on the disk. Until then the image of before stays what it was.

mod ext4;
mod fat;
mod fill;
mod gpt;
mod layout;
mod lvm;
mod mbr;
mod mend;
mod partial;
pub(crate) mod sparse;
mod sums;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::error::{Error, Result, ResultExt};
use crate::parallel;
use crate::progress::Progress;
use crate::tree::{Data, Tree};

pub use ext4::{TreeSize, ext4_size, write_ext4};
pub use fat::{fat_name, fat32_size};
pub(crate) use lvm::DATA as LVM_DATA;
pub use lvm::{EXTENT, lvm_name_fault, lvm_size, lvm_uuid};
pub(crate) use partial::{PARTIAL, Partial};
pub(crate) use sparse::data_from;
use sparse::{Writer, clear};
pub(crate) use sums::{CHUNK, Claim, Sums, Written, sum};

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
    Gpt(Gpt),
    /// Master boot record with at most four primary partitions.
    Mbr {
        /// The disk's signature, not 0: partition `n` has the PARTUUID `<signature>-<n>`, both in hexadecimal.
        signature: u32,
    },
}

/// The shape of a GUID partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Gpt {
    /// Entries of 128 bytes. The specification reserves 16 KiB for them, which are 128; with fewer, something else can
    /// begin before block 34, and every known reader takes the count from the header.
    pub entries: u32,
    /// The block where the first copy of the entries begins; 2 where nothing is in the way.
    pub entries_at: u64,
    /// The first block that a partition may have. What partitions are added with keeps out of the blocks before it.
    pub first_usable: u64,
}

impl Gpt {
    /// The table as every tool makes it: 128 entries right behind the header.
    pub const USUAL: Self = Self { entries: 128, entries_at: 2, first_usable: 34 };

    /// Blocks that the entries take.
    pub const fn entry_blocks(&self) -> u64 {
        (self.entries as u64 * 128).div_ceil(BLOCK)
    }
}

/// One partition.
#[derive(Clone, Debug)]
pub struct PartitionSpec {
    /// Its name in the partition table; at most 36 UTF-16 units.
    pub name: String,
    /// Its type GUID, printed, such as `c12a7328-f81f-11d2-ba4b-00a0c93ec93b`, for a GPT.
    pub type_guid: String,
    /// Its type in a master boot record, such as 0x0c for FAT32 and 0x83 for Linux.
    pub mbr_type: u8,
    /// Its own GUID, in the order in which it is printed.
    pub guid: [u8; 16],
    /// Offset of its first byte on the disk; a multiple of 512.
    pub start: u64,
    /// Bytes; a multiple of 512.
    pub size: u64,
    /// Marks it as the one to boot from: attribute bit 2 in a GPT, the active flag in a master boot record. U-Boot
    /// goes by both.
    pub bootable: bool,
    /// What is in it.
    pub content: Content,
}

/// What a partition holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// Nothing: a hole.
    Empty,
    /// An ext4 file system that is there already, in the image that this one is made from.
    Same,
    /// These bytes at its start, and a hole behind them.
    Raw(Arc<[u8]>),
    /// A FAT32 file system.
    Fat32(Fat32),
    /// An ext4 file system.
    Ext4(Ext4),
    /// An LVM2 volume group.
    Lvm(VolumeGroup),
}

impl Content {
    /// Bytes that are put there, without what a file system adds.
    fn data_size(&self) -> u64 {
        match self {
            Self::Empty | Self::Same => 0,
            Self::Raw(data) => data.len() as u64,
            Self::Fat32(fat) => fat.files.iter().map(|file| file.data.len()).sum(),
            Self::Ext4(ext4) => ext4.data_size(),
            Self::Lvm(group) => group.volumes.iter().map(|volume| volume.content.data_size()).sum(),
        }
    }
}

/// An LVM2 volume group that has one partition, with linear volumes.
#[derive(Clone, Debug)]
pub struct VolumeGroup {
    /// Its name.
    pub name: String,
    /// Its UUID, as LVM writes that ([`lvm_uuid`]).
    pub uuid: String,
    /// The UUID of the physical volume, which is the partition.
    pub physical_uuid: String,
    /// The volumes, in their order on the disk.
    pub volumes: Vec<Volume>,
}

/// A volume of a volume group.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its UUID, as LVM writes that ([`lvm_uuid`]).
    pub uuid: String,
    /// Bytes that are asked for; the volume has whole extents ([`EXTENT`]).
    pub size: u64,
    /// What is in it; no volume group.
    pub content: Content,
}

impl VolumeGroup {
    /// The volumes with the first byte of each, counted from the partition's, and the bytes that each has.
    pub fn placed(&self) -> impl Iterator<Item = (&Volume, u64, u64)> {
        self.volumes.iter().zip(self.places()).map(|(volume, (start, size))| (volume, start, size))
    }
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

/// An ext4 file system with a journal, everything owned by root.
#[derive(Clone, Debug)]
pub struct Ext4 {
    /// Volume label: 1 to 16 printable characters without spaces.
    pub label: String,
    /// The file system's UUID, in the order in which it is printed; the seed of its folders' hashes comes from it.
    pub uuid: [u8; 16],
    /// What is in it.
    pub tree: Arc<Tree>,
}

impl Ext4 {
    /// Bytes of all files.
    fn data_size(&self) -> u64 {
        let size = |data: &crate::tree::Data| {
            data.extents(BLOCK).iter().map(|extent| extent.end - extent.start).sum::<u64>()
        };
        self.tree.iter().filter_map(|entry| Some(size(entry.node.data()?) / u64::from(entry.links))).sum()
    }
}

/// One file of a file system.
#[derive(Clone, Debug)]
pub struct FileSpec {
    /// Path from the root, such as `EFI/BOOT/BOOTAA64.EFI`.
    pub path: String,
    /// Contents.
    pub data: Data,
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
    let known = |partition: &&PartitionSpec| matches!(partition.content, Content::Same);
    if let Some(partition) = spec.partitions.iter().find(known) {
        let text = format!("nothing is known of partition `{}`", partition.name);
        return Err(Error::new(text).at(path));
    }
    let partial = Partial::create(path)?;
    let _ = write_into(&partial, spec, false, progress)?;
    partial.sync()?;
    partial.keep()
}

/// Writes the image that `spec` describes into `partial`. `over` says that it holds an image already: then only blocks
/// that differ are written, and partitions that are [`Content::Same`] are not looked at.
///
/// # Errors
/// As [`write_image`].
pub(crate) fn write_into(
    partial: &Partial,
    spec: &DiskSpec,
    over: bool,
    progress: &Progress,
) -> Result<Written> {
    let written = spec.check().and_then(|()| fill(partial.file(), spec, over, progress));
    written.map_err(|error| error.at(partial.path()))
}

/// Partitions are filled side by side: none needs anything of another.
fn fill(file: &File, spec: &DiskSpec, over: bool, progress: &Progress) -> Result<Written> {
    file.set_len(spec.size).context(|| "cannot make a file of the image's size")?;
    let total = spec
        .partitions
        .iter()
        .map(|partition| partition.content.data_size())
        .chain(spec.raw.iter().map(|blob| blob.data.len() as u64))
        .sum();
    let step = progress.step("writing the image");
    let done = AtomicU64::new(0);
    let report = |more| step.set(done.fetch_add(more, Ordering::Relaxed) + more, total);
    let writer = || if over { Writer::over(file, report) } else { Writer::new(file, report) };
    let filled = parallel::map(&spec.partitions, |partition| {
        let failed = || format!("cannot write partition `{}`", partition.name);
        let (mut writer, mut written) = (writer(), Written::default());
        put(&partition.content, (partition.start, partition.size), spec.epoch, &mut writer, &mut written)
            .map_err(|error| error.context(failed()))?;
        let same = partition.start..partition.start + partition.size;
        let put = if matches!(partition.content, Content::Same) { vec![same] } else { writer.put() };
        Ok((put, written))
    })?;
    let (mut put, mut written) = (Vec::new(), Written::default());
    for (ranges, sums) in filled {
        put.push(ranges);
        written.append(sums);
    }
    let mut outside = writer();
    for blob in &spec.raw {
        outside.write(blob.offset, &blob.data).context(|| format!("cannot write {}", blob.name))?;
    }
    put.push(outside.put());
    if over {
        // Tables come last: what is left of old ones goes with all else.
        clear(file, put.concat(), spec.size).context(|| "cannot clear what is not in the image any more")?;
    }
    match &spec.table {
        Table::Gpt(table) => gpt::write(file, spec, table)?,
        Table::Mbr { signature } => mbr::write(file, spec, *signature)?,
    }
    step.finish();
    Ok(written)
}

/// Copies the image `from` to `to`, sparsely.
///
/// # Errors
/// When a file cannot be read or written. There is then nothing at `to`.
pub fn copy_image(from: &Path, to: &Path, progress: &Progress) -> Result<()> {
    let mut source = crate::image::open(from)?;
    let size = source.metadata().context_at(from, || "cannot look at the image")?.len();
    let partial = Partial::create(to)?;
    let step = progress.step(format!("copying to {}", to.display()));
    partial.file().set_len(size).context_at(to, || "cannot make a file of the image's size")?;
    let mut writer = Writer::new(partial.file(), |_| ());
    let mut block = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let count = source.read(&mut block).context_at(from, || "cannot read the image")?;
        let Some(data) = block.get(..count).filter(|data| !data.is_empty()) else { break };
        writer.write(at, data).context_at(to, || "cannot write the copy")?;
        at += count as u64;
        step.set(at, size);
    }
    partial.file().sync_all().context_at(to, || "cannot bring the copy onto the disk")?;
    step.finish();
    partial.keep()
}

/// Makes `content` by itself, as a file of `size` bytes that has no name.
///
/// # Errors
/// When it does not fit, or the file cannot be written.
pub fn render(content: &Content, size: u64, epoch: u64) -> Result<File> {
    let file = tempfile::tempfile().context(|| "cannot make a file for the disk")?;
    file.set_len(size).context(|| "cannot make a file of the disk's size")?;
    put(content, (0, size), epoch, &mut Writer::new(&file, |_| ()), &mut Written::default())?;
    Ok(file)
}

/// Writes `content` into the `size` bytes from byte `start` of the image, and notes the sums of its files.
fn put<F: FnMut(u64) + Send>(
    content: &Content,
    (start, size): (u64, u64),
    epoch: u64,
    writer: &mut Writer<'_, F>,
    written: &mut Written,
) -> Result<()> {
    match content {
        Content::Empty | Content::Same => Ok(()),
        Content::Raw(data) => writer.write(start, data).context(|| "cannot write its bytes"),
        Content::Fat32(fat) => {
            let pages = fat::build(fat, size, epoch)?;
            pages.write_to(writer, start).context(|| "cannot write the FAT32 file system")
        }
        Content::Ext4(own) => {
            written.add(start, ext4::write(own, size, epoch, start, writer)?);
            Ok(())
        }
        Content::Lvm(group) => {
            lvm::write(group, size, epoch, start, writer)?;
            for (volume, place, size) in group.placed() {
                put(&volume.content, (start + place, size), epoch, writer, written)
                    .map_err(|error| error.context(format!("cannot write the volume `{}`", volume.name)))?;
            }
            Ok(())
        }
    }
}

fn guid(text: &str) -> Result<uuid::Uuid> {
    uuid::Uuid::try_parse(text)
        .map_err(|error| Error::new(format!("`{}` is not a GUID", text.escape_default())).because(error))
}
