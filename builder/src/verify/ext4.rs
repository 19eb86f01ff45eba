//! ext4 file systems, by a reader that has nothing in common with the writer, and checks the checksums of what it reads.
//! The superblock is taken apart here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use super::{read, u16_at, u32_at};
use crate::disk::{self, CHUNK, Claim, Ext4 as Wanted, Sums};
use crate::error::{Error, Result, ResultExt};
use crate::inodes::{Inode, Inodes, ROOT};
use crate::parallel::each;
use crate::tree::{Data, Entry, Kind, Owner, Source, shown};

/// The folder that belongs to the file system's own repair.
const LOST_FOUND: &[u8] = b"lost+found";
/// Bytes of a block.
const BLOCK: u64 = 4096;
/// Where the superblock begins, and how long it is.
pub(crate) const SUPERBLOCK: (u64, usize) = (1024, 1024);

/// Compares the file system at byte `start` with what was asked for: every name and which file it is, its kind, permissions,
/// owner, time, device and extended attributes, and every file's bytes and holes, these on all CPUs.
pub(super) fn check(
    file: &File,
    (start, size): (u64, u64),
    wanted: &Wanted,
    epoch: u64,
    sums: Option<&Sums>,
    claims: &Mutex<Vec<Claim>>,
) -> Result<()> {
    superblock(file, start, size, wanted)?;
    let failed = || "cannot read the ext4 file system";
    let source = Source::opened(file.try_clone().context(failed)?, std::path::Path::new("the image"));
    let inodes = Inodes::checked(source, start, size)?;
    let mut left: BTreeMap<&[u8], Entry<'_>> = wanted.tree.iter().map(|entry| (entry.path, entry)).collect();
    // Which inode is which file of the tree: names of one file have one, and other files have others.
    let (mut numbers, mut taken) = (BTreeMap::new(), BTreeSet::new());
    let mut folders = vec![(Vec::new(), ROOT)];
    let mut files = Vec::new();
    while let Some((folder, number)) = folders.pop() {
        let list = inodes.inode(number).and_then(|inode| inodes.list(&inode));
        for (name, number) in list.map_err(|error| error.context(shown(&folder)))? {
            let path = if folder.is_empty() { name } else { [folder.as_slice(), &name].join(&b'/') };
            if path == LOST_FOUND {
                empty(&inodes, number)?;
                continue;
            }
            let at_fault = |error: Error| error.context(shown(&path));
            let wanted = left
                .remove(path.as_slice())
                .ok_or_else(|| Error::new(format!("/{} is there and should not be", shown(&path))))?;
            // A file with several names is read once.
            match numbers.insert(wanted.inode, number) {
                None if !taken.insert(number) => {
                    return Err(at_fault(Error::new("it is another name of a file that it should not be")));
                }
                Some(other) if other != number => {
                    return Err(at_fault(Error::new(
                        "it should be another name of a file, and is one by itself",
                    )));
                }
                Some(_) => continue,
                None => {}
            }
            files.push((number, wanted));
            if wanted.node.is_dir() {
                folders.push((path, number));
            }
        }
    }
    if let Some(path) = left.keys().next() {
        return Err(Error::new(format!("/{} is missing", shown(path))));
    }
    each(&files, |(number, wanted)| {
        let path = || format!("/{}", wanted.shown());
        inodes
            .inode(*number)
            .and_then(|inode| {
                compare(&inode, *wanted, epoch)?;
                compare_inode(&inodes, &inode, *wanted, sums, claims)
            })
            .map_err(|error| error.context(path()))
    })
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

fn empty(inodes: &Inodes, number: u32) -> Result<()> {
    let list = inodes.inode(number).and_then(|inode| inodes.list(&inode));
    match list.map_err(|error| error.context("lost+found"))?.is_empty() {
        true => Ok(()),
        false => Err(Error::new("lost+found is not empty")),
    }
}

/// Compares what every inode says of itself.
fn compare(there: &Inode, wanted: Entry<'_>, epoch: u64) -> Result<()> {
    let node = wanted.node;
    // The numbers that `stat` has for them (Linux, include/uapi/linux/stat.h).
    let kind = match node.kind {
        Kind::Fifo => 0o1,
        Kind::CharDevice(_) => 0o2,
        Kind::Dir => 0o4,
        Kind::BlockDevice(_) => 0o6,
        Kind::File(_) => 0o10,
        Kind::Symlink(_) => 0o12,
        Kind::Socket => 0o14,
    };
    let mode = there.mode()?;
    if mode >> 12 != kind {
        return Err(Error::new("it is of another kind"));
    }
    let owner = there.owner()?;
    if mode & 0o7777 != node.mode || owner != node.owner {
        let (mode, Owner { user, group }) = (mode & 0o7777, owner);
        return Err(Error::new(format!("it has mode {mode:o} and belongs to {user}:{group}")));
    }
    if i64::try_from(epoch) != Ok(there.modified()?) {
        return Err(Error::new("it has another time"));
    }
    match &node.kind {
        Kind::File(data) if there.size()? != data.len() => {
            Err(Error::new(format!("it has {} bytes instead of {}", there.size()?, data.len())))
        }
        _ => Ok(()),
    }
}

/// Compares what an inode leads to.
fn compare_inode(
    inodes: &Inodes,
    inode: &Inode,
    wanted: Entry<'_>,
    sums: Option<&Sums>,
    claims: &Mutex<Vec<Claim>>,
) -> Result<()> {
    let node = wanted.node;
    // Folders have as many names as there are folders in them, which their own listing shows.
    if !node.is_dir() && inode.links()? != wanted.links {
        return Err(Error::new(format!("it has {} names instead of {}", inode.links()?, wanted.links)));
    }
    if let Some(device) = node.device()
        && inode.device()? != device
    {
        return Err(Error::new(format!("it is {:?} instead of {device:?}", inode.device()?)));
    }
    if inodes.xattrs(inode)? != node.xattrs {
        return Err(Error::new("it has other extended attributes"));
    }
    if let Some(target) = node.target()
        && inodes.target(inode)? != target
    {
        return Err(Error::new("it leads elsewhere"));
    }
    if let Some(data) = node.data() {
        let there = inodes.data(inode)?;
        if there.extents(BLOCK) != data.extents(BLOCK) {
            return Err(Error::new("it has other holes"));
        }
        if let Some(sums) = sums.and_then(|sums| sums.get(wanted.inode)) {
            return claim(&there, sums, &shown(wanted.path), claims);
        }
        for extent in data.extents(BLOCK) {
            if !data.same_range(&there, extent.clone())? {
                return Err(Error::new(format!("it differs behind byte {}", extent.start)));
            }
        }
    }
    Ok(())
}

/// Claims that each chunk of `there` has its sum. What lies in several places is compared here and now.
fn claim(there: &Data, sums: &[u64], of: &str, claims: &Mutex<Vec<Claim>>) -> Result<()> {
    let other = || Error::new("its contents are not those that were written");
    let (mut sums, of) = (sums.iter(), Arc::<str>::from(format!("/{of}")));
    let mut own = Vec::new();
    for extent in there.extents(BLOCK) {
        for start in extent.clone().step_by(CHUNK) {
            let chunk = start..(start + CHUNK as u64).min(extent.end);
            let sum = *sums.next().ok_or_else(other)?;
            let length = usize::try_from(chunk.end - chunk.start).unwrap_or(CHUNK);
            if let Some(at) = there.place(&chunk) {
                own.push(Claim { at, length, sum, of: of.clone() });
                continue;
            }
            let mut bytes = vec![0; length];
            there.range(chunk).read_exact(&mut bytes).context(|| "cannot read it")?;
            if disk::sum(&bytes) != sum {
                return Err(other());
            }
        }
    }
    if sums.next().is_some() {
        return Err(other());
    }
    claims.lock().unwrap_or_else(PoisonError::into_inner).append(&mut own);
    Ok(())
}
