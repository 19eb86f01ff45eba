//! ext4 file systems, by a reader that has nothing in common with the writer: the `ext4-view` crate, which checks the
//! checksums of what it reads. The superblock is taken apart here.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use ext4_view::{Ext4, Ext4Read, FileType, Path};

use super::{read, u16_at, u32_at};
use crate::cpio::{Node, Owner};
use crate::disk::Ext4 as Wanted;
use crate::error::{Error, Result, ResultExt};

/// The folder that belongs to the file system's own repair.
const LOST_FOUND: &str = "/lost+found";
/// Where the superblock begins, and how long it is.
pub(crate) const SUPERBLOCK: (u64, usize) = (1024, 1024);

/// The part of the image that the file system has.
struct Region {
    file: File,
    start: u64,
    size: u64,
}

impl Ext4Read for Region {
    fn read(
        &mut self,
        at: u64,
        into: &mut [u8],
    ) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync + 'static>> {
        let inside = at.checked_add(into.len() as u64).is_some_and(|end| end <= self.size);
        if !inside {
            return Err("it reaches past the end of its partition".into());
        }
        Ok(self.file.read_exact_at(into, self.start + at)?)
    }
}

/// The file system of `size` bytes at byte `start`.
pub(crate) fn load(file: &File, start: u64, size: u64) -> Result<Ext4> {
    let failed = || "cannot read the ext4 file system";
    let region = Region { file: file.try_clone().context(failed)?, start, size };
    Ext4::load(Box::new(region)).context(failed)
}

/// Compares the file system at byte `start` with what was asked for: every name, its kind, permissions, owner and time, and
/// every file's bytes.
pub(super) fn check(file: &File, start: u64, size: u64, wanted: &Wanted, epoch: u64) -> Result<()> {
    superblock(file, start, size, wanted)?;
    let volume = load(file, start, size)?;
    let mut left: BTreeMap<&str, &Node> = wanted.tree.iter().collect();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let path = if folder.is_empty() { "/" } else { folder.as_str() };
        for entry in volume.read_dir(path).context(|| format!("cannot list {path}"))? {
            let entry = entry.context(|| format!("cannot list {path}"))?;
            let name = entry.file_name();
            let name = name.as_str().map_err(|_| Error::new(format!("a name in {path} is not UTF-8")))?;
            if matches!(name, "." | "..") {
                continue;
            }
            let path = format!("{folder}/{name}");
            if path == LOST_FOUND {
                empty(&volume)?;
                continue;
            }
            let node = left
                .remove(path.trim_start_matches('/'))
                .ok_or_else(|| Error::new(format!("{path} is there and should not be")))?;
            let owner = wanted.tree.owner(path.trim_start_matches('/'));
            compare(&volume, &path, node, owner, epoch).map_err(|error| error.context(path.clone()))?;
            if matches!(node, Node::Dir { .. }) {
                folders.push(path);
            }
        }
    }
    match left.keys().next() {
        Some(path) => Err(Error::new(format!("/{path} is missing"))),
        None => Ok(()),
    }
}

/// The superblock's own claims (Linux, Documentation/filesystems/ext4/super.rst).
fn superblock(file: &File, start: u64, size: u64, wanted: &Wanted) -> Result<()> {
    let block = read(file, start + SUPERBLOCK.0, SUPERBLOCK.1)?;
    let wrong = |what: &str| Err(Error::new(format!("the superblock has {what}")));
    if u16_at(&block, 0x38)? != 0xef53 {
        return wrong("no signature");
    }
    if u16_at(&block, 0x3a)? != 1 {
        return wrong("the mark of a file system in use or with faults");
    }
    if u32_at(&block, 0x18)? != 2 || u64::from(u32_at(&block, 4)?) != size / 4096 {
        return wrong("another size than its partition");
    }
    // A journal, and nothing in it to be replayed.
    if u32_at(&block, 0x5c)? & 4 == 0 || u32_at(&block, 0x60)? & 4 != 0 {
        return wrong("no journal, or one that was not emptied");
    }
    if block.get(0x68..0x78) != Some(&wanted.uuid) {
        return wrong("another UUID");
    }
    let label: Vec<u8> = wanted.label.bytes().chain(std::iter::repeat(0)).take(16).collect();
    if block.get(0x78..0x88) != Some(&label) {
        return wrong("another label");
    }
    Ok(())
}

fn empty(volume: &Ext4) -> Result<()> {
    let failed = || format!("cannot list {LOST_FOUND}");
    for entry in volume.read_dir(LOST_FOUND).context(failed)? {
        let name = entry.context(failed)?;
        if !matches!(name.file_name().as_str(), Ok("." | "..")) {
            return Err(Error::new(format!("{LOST_FOUND} is not empty")));
        }
    }
    Ok(())
}

fn compare(volume: &Ext4, path: &str, node: &Node, owner: Owner, epoch: u64) -> Result<()> {
    let failed = || "cannot read it";
    let there = volume.symlink_metadata(Path::new(path)).context(failed)?;
    let (kind, mode) = match node {
        Node::Dir { mode } => (FileType::Directory, *mode),
        Node::File { mode, .. } => (FileType::Regular, *mode),
        Node::Symlink { .. } => (FileType::Symlink, 0o777),
        Node::CharDevice { mode, .. } => (FileType::CharacterDevice, *mode),
        Node::BlockDevice { mode, .. } => (FileType::BlockDevice, *mode),
    };
    if there.file_type() != kind {
        return Err(Error::new("it is of another kind"));
    }
    if u32::from(there.mode() & 0o7777) != mode || (there.uid(), there.gid()) != (owner.user, owner.group) {
        return Err(Error::new(format!(
            "it has mode {:o} and belongs to {}:{}",
            there.mode() & 0o7777,
            there.uid(),
            there.gid()
        )));
    }
    if i64::try_from(epoch) != Ok(there.modified().seconds()) {
        return Err(Error::new("it has another time"));
    }
    match node {
        Node::File { data, .. } => same(volume, path, there.len(), data),
        Node::Symlink { target } => {
            let there = volume.read_link(Path::new(path)).context(failed)?;
            if there.as_ref() == target.as_bytes() { Ok(()) } else { Err(Error::new("it leads elsewhere")) }
        }
        Node::Dir { .. } | Node::CharDevice { .. } | Node::BlockDevice { .. } => Ok(()),
    }
}

fn same(volume: &Ext4, path: &str, length: u64, data: &[u8]) -> Result<()> {
    if length != data.len() as u64 {
        return Err(Error::new(format!("it has {length} bytes instead of {}", data.len())));
    }
    let failed = || "cannot read it";
    let mut there = volume.open(Path::new(path)).context(failed)?;
    let mut buffer = vec![0; 1 << 18];
    let mut rest = data;
    while !rest.is_empty() {
        let count = there.read_bytes(&mut buffer).context(failed)?;
        let (piece, behind) = rest.split_at(count.min(rest.len()));
        if count == 0 || buffer.get(..count) != Some(piece) {
            return Err(Error::new(format!("it differs behind byte {}", data.len() - rest.len())));
        }
        rest = behind;
    }
    Ok(())
}
