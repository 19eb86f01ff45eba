//! ext4 file systems with the same bytes each time, streamed into the image.
//!
//! The crate decides every place before it writes the first byte, so each byte of the file system is written once, and
//! what is free stays a hole. It writes the structures; the files' contents are put into their places by us, many at once. Owners are the tree's, times are the caller's, whoever builds and whenever.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::Range;

use mkext4::{FsBuilder, InodeCount, InodeHandle, Meta, Options, ROOT, RegionSink, SparseSeg, SpecialKind};

use super::Ext4;
use super::fill::{Placed, fill};
use super::sparse::Writer;
use super::sums::Sums;
use crate::acl;
use crate::error::{Error, Result, ResultExt};
use crate::tree::{Data, Device, Entry, Inode, Kind, Node, Tree};

/// Bytes of a block.
const BLOCK: u64 = 4096;
const MIB: u64 = 1 << 20;
/// Blocks of a group, as many as a bitmap of one block counts.
const GROUP: u64 = 8 * BLOCK;
/// Inodes of a group, as many as another such bitmap counts.
const GROUP_INODES: u64 = 8 * BLOCK;
/// Blocks of the smallest file system made here: below it a journal takes too much.
const MIN_BLOCKS: u64 = 16 * MIB / BLOCK;
/// Blocks of the largest: 16 TiB, where the block numbers of the fields in use here end.
const MAX_BLOCKS: u64 = 1 << 32;
/// Longest target of a symbolic link that needs no block.
const SHORT_LINK: usize = 59;
/// Extents that one block lists.
const EXTENTS: u64 = 340;
/// Blocks of the longest file: their numbers have 32 bits, and the last one is none.
const MAX_FILE_BLOCKS: u64 = u32::MAX as u64;
/// The folder that belongs to the file system's own repair.
const LOST_FOUND: &[u8] = b"lost+found";
/// Inodes the file system has for itself, with lost+found.
const OWN_INODES: u64 = 11;
/// Blocks of the root folder and of lost+found.
const OWN_BLOCKS: u64 = 8;

/// What a tree takes in an ext4 file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TreeSize {
    /// Files, folders, links and devices.
    pub inodes: u64,
    /// Blocks of 4 KiB for what is in them.
    pub blocks: u64,
}

impl TreeSize {
    /// What `tree` takes.
    pub fn of(tree: &Tree) -> Self {
        let mut size = Self::default();
        let mut folders = BTreeMap::<&[u8], u64>::new();
        let mut linked = BTreeSet::<Inode>::new();
        for entry in tree.iter() {
            let (folder, name) = entry.split();
            *folders.entry(folder).or_default() += 8 + (name.len() as u64).next_multiple_of(4);
            if entry.node.is_dir() {
                folders.entry(entry.path).or_default();
            }
            if entry.links > 1 && !linked.insert(entry.inode) {
                continue;
            }
            size.inodes += 1;
            size.blocks += match &entry.node.kind {
                Kind::File(data) => data_blocks(data),
                Kind::Symlink(target) => u64::from(target.len() > SHORT_LINK),
                _ => 0,
            };
            // Those that have no room in the inode take a block.
            size.blocks += u64::from(!entry.node.xattrs.is_empty());
        }
        // Blocks of an indexed folder are half full in the worst case, and the index takes some.
        size.blocks += folders
            .values()
            .map(|bytes| if *bytes < BLOCK - 64 { 1 } else { 2 * bytes.div_ceil(BLOCK) + 2 })
            .sum::<u64>();
        size
    }
}

/// Blocks that contents take, with those that say where they are.
fn data_blocks(data: &Data) -> u64 {
    if !data.is_sparse() {
        // Past four extents a file needs a block of them; 340 fit into one.
        let blocks = data.len().div_ceil(BLOCK);
        return blocks + blocks.div_ceil(GROUP);
    }
    let extents = data.extents(BLOCK);
    let blocks: u64 = extents.iter().map(|extent| (extent.end - extent.start).div_ceil(BLOCK)).sum();
    // Each may be split where a group ends, and blocks of extents have blocks above them.
    let pieces = extents.len() as u64 + blocks.div_ceil(GROUP);
    blocks + blocks.div_ceil(GROUP) + pieces.div_ceil(EXTENTS) + pieces.div_ceil(EXTENTS * EXTENTS)
}

/// The smallest ext4 file system, in bytes and in whole MiB, that holds `tree` and has `slack` bytes left.
///
/// # Errors
/// When that is more than the 16 TiB that it can have.
pub fn ext4_size(tree: TreeSize, slack: u64) -> Result<u64> {
    let wanted = tree.blocks.saturating_add(OWN_BLOCKS).saturating_add(slack.div_ceil(BLOCK));
    let mut blocks = MIN_BLOCKS;
    // Each round is larger than the last, so this ends.
    while blocks <= MAX_BLOCKS {
        let available = blocks.saturating_sub(overhead(blocks, tree.inodes));
        let room_for_inodes = blocks.div_ceil(GROUP) * GROUP_INODES;
        if wanted <= available && inode_count(blocks, tree.inodes) <= room_for_inodes {
            return Ok(blocks * BLOCK);
        }
        let more = wanted.saturating_sub(available).saturating_mul(BLOCK).div_ceil(MIB).max(1);
        blocks = blocks.saturating_add(more.saturating_mul(MIB / BLOCK));
    }
    Err(Error::new("the root file system needs more than the 16 TiB that ext4 can have here"))
}

/// Blocks that can never hold a file: superblock, descriptors and their copies, bitmaps, inodes, journal.
fn overhead(blocks: u64, inodes: u64) -> u64 {
    let groups = blocks.div_ceil(GROUP);
    let descriptors = (groups * 32).div_ceil(BLOCK);
    let tables = inode_count(blocks, inodes).div_ceil(groups).div_ceil(16);
    // Copies lie in groups 0, 1 and powers of 3, 5 and 7: fewer than these.
    let copies = groups.min(2 + 3 * u64::from(groups.ilog2()));
    groups.saturating_mul(2 + tables).saturating_add(copies * (1 + descriptors) + u64::from(journal(blocks)))
}

/// One inode for each 16 KiB, as mke2fs has it, and never too few for what is there and may come.
fn inode_count(blocks: u64, inodes: u64) -> u64 {
    (blocks / 4).max(inodes.saturating_add(OWN_INODES).saturating_mul(5) / 4)
}

/// Blocks of the journal, in mke2fs's steps.
const fn journal(blocks: u64) -> u32 {
    match blocks {
        0..=0x7fff => 1024,
        0x8000..=0x3_ffff => 4096,
        0x4_0000..=0x7_ffff => 8192,
        0x8_0000..=0x3f_ffff => 16_384,
        _ => 32_768,
    }
}

/// Writes the file system of `size` bytes into the empty `file`, which becomes as long and has holes where it is free.
///
/// # Errors
/// A label or a size that ext4 does not take, a tree that does not fit, and what cannot be written.
pub fn write_ext4(file: &File, spec: &Ext4, size: u64, epoch: u64) -> Result<()> {
    check_label(&spec.label)?;
    file.set_len(size).context(|| "cannot make the file as long as its file system")?;
    write(spec, size, epoch, 0, &mut Writer::new(file, |_| ())).map(drop)
}

/// Writes the file system of `size` bytes to byte `start` of the image.
pub(super) fn write<F: FnMut(u64) + Send>(
    spec: &Ext4,
    size: u64,
    epoch: u64,
    start: u64,
    writer: &mut Writer<'_, F>,
) -> Result<Sums> {
    let blocks = size / BLOCK;
    let tree_size = TreeSize::of(&spec.tree);
    let time = i64::from(
        u32::try_from(epoch)
            .map_err(|_| Error::new(format!("time {epoch} is past 2106, too late for ext4")))?,
    );
    let mut options = Options::new(blocks * BLOCK, spec.uuid, time);
    options.label = Some(spec.label.clone());
    let inodes = u32::try_from(inode_count(blocks, tree_size.inodes))
        .map_err(|_| Error::new("the root file system has too many files for ext4"))?;
    options.inodes = InodeCount::Exact(inodes);
    options.journal_blocks = Some(journal(blocks));
    // Everything in dom0 runs as root, whom a reserve does not keep out.
    options.reserved_percent = 0;
    let failed = || "cannot make the ext4 file system";
    let mut builder = FsBuilder::new(options).context(failed)?;
    let files = declare(&mut builder, &spec.tree, (time, 0))?;
    let layout = builder.seal().map_err(|error| {
        Error::new(failed()).because(error).help("give the partition a larger `min-size` in the layout")
    })?;
    let mut region = Region { at: 0, bytes: Vec::with_capacity(BATCH), start, writer };
    // It writes all but the files' contents, and has told where these belong.
    layout.writer(&mut region).map(drop).context(failed)?;
    region.pass(0).context(failed)?;
    let placed = |(handle, inode, data)| Placed { inode, data, places: layout.extents(handle) };
    let files: Vec<_> = files.into_iter().map(placed).collect();
    fill(&files, BLOCK, start, writer).map_err(|error| error.context(failed()))
}

/// Tells the builder of every entry; gives the files that have contents, in their order on the disk, and which of the
/// tree's each is.
fn declare<'a>(
    builder: &mut FsBuilder,
    tree: &'a Tree,
    time: (i64, u32),
) -> Result<Vec<(InodeHandle, Inode, &'a Data)>> {
    let mut folders = BTreeMap::<&[u8], InodeHandle>::from([(&b""[..], ROOT)]);
    let mut linked = BTreeMap::<Inode, InodeHandle>::new();
    let mut files = Vec::new();
    for entry in tree.iter() {
        let failed = || format!("cannot put {} into the ext4 file system", entry.shown());
        let (folder, name) = entry.split();
        // A tree has a folder before what is in it.
        let parent = *folders.get(folder).ok_or_else(|| Error::new(failed()))?;
        let name = text(name).map_err(|error| error.context(failed()))?;
        if let Some(handle) = linked.get(&entry.inode) {
            builder.hardlink(parent, name, *handle).context(failed)?;
            continue;
        }
        let handle =
            declare_one(builder, parent, name, entry, time).map_err(|error| error.context(failed()))?;
        for (key, value) in &entry.node.xattrs {
            let key = text(key).map_err(|error| error.context(failed()))?;
            let list = acl::NAMES.contains(&key.as_bytes()).then(|| acl::to_ext4(value)).transpose();
            let list = list.map_err(|error| error.context(failed()))?;
            builder.set_xattr(handle, key, list.as_deref().unwrap_or(value)).context(failed)?;
        }
        if entry.node.is_dir() {
            folders.insert(entry.path, handle);
        } else if entry.links > 1 {
            linked.insert(entry.inode, handle);
        }
        if let Some(data) = entry.node.data().filter(|data| !data.extents(BLOCK).is_empty()) {
            files.push((handle, entry.inode, data));
        }
    }
    Ok(files)
}

fn declare_one(
    builder: &mut FsBuilder,
    parent: InodeHandle,
    name: &str,
    entry: Entry<'_>,
    time: (i64, u32),
) -> Result<InodeHandle> {
    let Node { kind, mode, owner, .. } = entry.node;
    if entry.path == LOST_FOUND {
        return Err(Error::new("that folder belongs to the file system itself"));
    }
    let meta = Meta::new(u16::try_from(mode & 0o7777).unwrap_or(0), owner.user, owner.group, time);
    let mut special = |kind| builder.mknod(parent, name, meta, kind);
    let handle = match kind {
        Kind::CharDevice(Device { major, minor }) => {
            special(SpecialKind::Char { major: *major, minor: *minor })
        }
        Kind::BlockDevice(Device { major, minor }) => {
            special(SpecialKind::Block { major: *major, minor: *minor })
        }
        Kind::Fifo => special(SpecialKind::Fifo),
        Kind::Socket => special(SpecialKind::Socket),
        Kind::Dir => builder.mkdir(parent, name, meta),
        Kind::Symlink(target) => {
            let target = text(target).map_err(|error| error.context("where it leads"))?;
            builder.symlink(parent, name, target, meta)
        }
        Kind::File(data) if data.len().div_ceil(BLOCK) > MAX_FILE_BLOCKS => {
            return Err(Error::new(format!(
                "it has {} bytes, more than a file of ext4 can have",
                data.len()
            )));
        }
        Kind::File(data) if !data.is_sparse() => builder.file(parent, name, meta, data.len()),
        Kind::File(data) => builder.file_sparse(parent, name, meta, &segments(data)),
    };
    handle.context(|| "the writer of ext4 refuses it")
}

/// mkext4 takes names as text.
fn text(name: &[u8]) -> Result<&str> {
    std::str::from_utf8(name)
        .context(|| format!("`{}` is not UTF-8, which the writer of ext4 does not take", name.escape_ascii()))
}

/// Contents and holes in turn, up to the end of the file.
fn segments(data: &Data) -> Vec<SparseSeg> {
    let (mut segments, mut at) = (Vec::new(), 0);
    for Range { start, end } in data.extents(BLOCK) {
        if start > at {
            segments.push(SparseSeg::Hole(start - at));
        }
        segments.push(SparseSeg::Data(end - start));
        at = end;
    }
    if data.len() > at {
        segments.push(SparseSeg::Hole(data.len() - at));
    }
    segments
}

/// Bytes that are written at once.
const BATCH: usize = 1 << 20;

/// The part of the image that the file system has: gathers what follows each other.
struct Region<'a, 'w, F> {
    /// Where the bytes belong.
    at: u64,
    bytes: Vec<u8>,
    /// The file system's first byte in the image.
    start: u64,
    writer: &'a mut Writer<'w, F>,
}

impl<F: FnMut(u64)> Region<'_, '_, F> {
    /// Writes what has been gathered, and begins anew at `at`.
    fn pass(&mut self, at: u64) -> io::Result<()> {
        self.writer.write(self.start + self.at, &self.bytes)?;
        self.bytes.clear();
        self.at = at;
        Ok(())
    }
}

impl<F: FnMut(u64)> RegionSink for &mut Region<'_, '_, F> {
    fn data(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.at + self.bytes.len() as u64 != offset || self.bytes.len() + bytes.len() > BATCH {
            self.pass(offset)?;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// The image is one hole to begin with, or is made one wherever nothing is put.
    fn zeros(&mut self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// Checks the label of an ext4 file system: 1 to 16 bytes of printable ASCII without spaces.
///
/// # Errors
/// Names the label.
pub(super) fn check_label(label: &str) -> Result<()> {
    if (1..=16).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(Error::new(format!(
        "`{}` is not an ext4 label: 1 to 16 printable characters without spaces",
        label.escape_default()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn made(tree: Tree, size: u64) -> Result<()> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        let spec = Ext4 { label: "root".into(), uuid: [7; 16], tree: Arc::new(tree) };
        write(&spec, size, 1_700_000_000, 0, &mut Writer::new(&file, |_| ())).map(drop)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_size_asked_for_is_a_size_that_fits(
            files in 0_usize..3000, length in 0_usize..9000, name in 1_usize..250, slack in 0_u64..40 * MIB,
        ) {
            let mut tree = Tree::new();
            for index in 0..files {
                let path = format!("d{}/{index:0name$}", index % 7);
                tree.insert(path, Node::file(0o644, vec![1; length])).unwrap();
            }
            let size = ext4_size(TreeSize::of(&tree), slack).unwrap();
            prop_assert_eq!(size % MIB, 0);
            prop_assert!(size >= slack);
            made(tree, size).unwrap();
        }

        #[test]
        fn no_tree_size_makes_it_panic(inodes: u64, blocks: u64, slack: u64) {
            let _ = ext4_size(TreeSize { inodes, blocks }, slack);
        }
    }

    #[test]
    fn a_tree_that_does_not_fit_is_refused() {
        let mut tree = Tree::new();
        tree.insert("big", Node::file(0o600, vec![1; 20 << 20])).unwrap();
        assert!(made(tree, 16 * MIB).is_err());
        assert!(check_label("a label").is_err() && check_label(&"x".repeat(17)).is_err());
        assert!(check_label("vambrace-root").is_ok());
    }
}
