//! An ext4 file system by its inodes, which `ext4-view` does not give: what they say, the names in folders, extended
//! attributes, and where contents and holes lie. By the letter of Linux's Documentation/filesystems/ext4.

use std::collections::BTreeSet;
use std::io::Read;

use crate::acl;
use crate::checksums::{Checksums, OfInode};
use crate::error::{Error, Result, ResultExt};
use crate::groups::{Groups, damaged};
use crate::tree::{Data, Device, Owner, Source, Xattrs};

/// The root folder's inode.
pub(crate) const ROOT: u32 = 2;
/// Signature of extended attributes, in an inode and in a block.
const XATTR: u32 = 0xea02_0000;
/// Features that are known: file types, extents, 64 bits, flexible groups, a seed for checksums.
const KNOWN: u32 = 0x2 | 0x40 | 0x80 | 0x200 | 0x2000;
/// Flag of an inode whose contents are in extents.
const EXTENTS: u32 = 0x8_0000;
/// Bytes of one folder.
const MAX_FOLDER: u64 = 1 << 30;
/// Levels of a tree of extents.
const MAX_DEPTH: u16 = 5;
/// Blocks of extents of one file.
const MAX_NODES: u32 = 1 << 16;

/// An ext4 file system in a file.
pub(crate) struct Inodes {
    groups: Groups,
    /// What structures are checked with, where they are.
    checksums: Option<Checksums>,
}

/// An inode as it stands in the file system.
pub(crate) struct Inode {
    raw: Vec<u8>,
    checksums: Option<OfInode>,
}

impl Inodes {
    /// Opens the file system that has the `length` bytes of `source` from byte `start` on.
    pub(crate) fn open(source: Source, start: u64, length: u64) -> Result<Self> {
        let groups = Groups::open(source, start, length)?;
        let features = groups.incompatible;
        if features & 4 != 0 {
            return Err(Error::new("the ext4 file system has a journal that is not empty"));
        }
        if features & !KNOWN != 0 {
            return Err(Error::new(format!(
                "the ext4 file system has features that are not known ({features:#x})"
            )));
        }
        Ok(Self { groups, checksums: None })
    }

    /// The same, where everything that is read has to have its checksum.
    pub(crate) fn checked(source: Source, start: u64, length: u64) -> Result<Self> {
        let mut inodes = Self::open(source, start, length)?;
        let checksums = inodes.groups.checksums()?;
        inodes.checksums =
            Some(checksums.ok_or_else(|| Error::new("the ext4 file system has no checksums"))?);
        Ok(inodes)
    }

    /// The inode with this number.
    pub(crate) fn inode(&self, number: u32) -> Result<Inode> {
        let groups = &self.groups;
        let index = number.checked_sub(1).filter(|_| number <= groups.inodes).ok_or_else(damaged)?;
        let (group, index) = (index / groups.inodes_per_group, index % groups.inodes_per_group);
        let table = groups.place(groups.group(u64::from(group))?.inodes)?;
        let at = table.checked_add(u64::from(index) * groups.inode_size).ok_or_else(damaged)?;
        let raw = groups.read(at, groups.inode_size)?;
        let checksums = self.checksums.map(|checksums| checksums.inode(number, &raw)).transpose()?;
        Ok(Inode { raw, checksums })
    }

    /// The names in a folder and the inode of each, without `.` and `..`.
    pub(crate) fn list(&self, folder: &Inode) -> Result<Vec<(Vec<u8>, u32)>> {
        let data = self.data(folder)?;
        if data.len() > MAX_FOLDER {
            return Err(damaged());
        }
        let mut names = Vec::new();
        // Blocks of an index look like blocks without names.
        let mut block = vec![0; usize::try_from(self.groups.block).map_err(|_| damaged())?];
        let mut reader = data.reader();
        for index in 0..data.len() / self.groups.block {
            reader.read_exact(&mut block).context(|| "cannot read a folder of the ext4 file system")?;
            let block = block.as_slice();
            if let Some(checksums) = folder.checksums {
                checksums.folder(block, index == 0)?;
            }
            let mut at = 0;
            while at < block.len() {
                let entry = block.get(at..).unwrap_or_default();
                let (inode, length) = (u32_at(entry, 0)?, usize::from(u16_at(entry, 4)?));
                let size = usize::from(*entry.get(6).ok_or_else(damaged)?);
                // What has 64 KiB does not fit its field.
                let length =
                    if matches!(length, 0 | 0xffff) && block.len() == 1 << 16 { 1 << 16 } else { length };
                if length < 8 || at + length > block.len() {
                    return Err(damaged());
                }
                let name = entry.get(8..8 + size).filter(|_| 8 + size <= length).ok_or_else(damaged)?;
                if inode != 0 && !matches!(name, b"." | b"..") {
                    names.push((name.to_owned(), inode));
                }
                at += length;
            }
        }
        Ok(names)
    }

    /// The contents of a file or folder, holes as such.
    pub(crate) fn data(&self, inode: &Inode) -> Result<Data> {
        let size = inode.size()?;
        if u32_at(&inode.raw, 0x20)? & EXTENTS == 0 {
            return Err(Error::new("the contents of a file are not in extents"));
        }
        let mut data = Data::hole(size);
        let root = inode.raw.get(0x28..0x64).ok_or_else(damaged)?.to_vec();
        // By the number of its block, but for the one in the inode.
        let (mut nodes, mut count) = (vec![(None, MAX_DEPTH + 1)], 0_u32);
        // The last one is the next: a tree is walked in the order of its file.
        while let Some((block, above)) = nodes.pop() {
            count += 1;
            let node = match block {
                None => root.clone(),
                Some(block) => self.groups.read(self.groups.place(block)?, self.groups.block)?,
            };
            if let (Some(_), Some(checksums)) = (block, inode.checksums) {
                checksums.extents(&node)?;
            }
            let (entries, depth) = (usize::from(u16_at(&node, 2)?), u16_at(&node, 6)?);
            if u16_at(&node, 0)? != 0xf30a || depth >= above || count > MAX_NODES {
                return Err(damaged());
            }
            let entry = |index: usize| {
                node.get(12 + 12 * index..24 + 12 * index).filter(|_| index < entries).ok_or_else(damaged)
            };
            if depth > 0 {
                for index in (0..entries).rev() {
                    let entry = entry(index)?;
                    let block = u64::from(u32_at(entry, 4)?) | u64::from(u16_at(entry, 8)?) << 32;
                    nodes.push((Some(block), depth));
                }
                if nodes.len() > usize::from(u16::MAX) {
                    return Err(damaged());
                }
                continue;
            }
            for index in 0..entries {
                let entry = entry(index)?;
                let (at, length) = (u64::from(u32_at(entry, 0)?), u64::from(u16_at(entry, 4)?));
                let block = u64::from(u32_at(entry, 8)?) | u64::from(u16_at(entry, 6)?) << 32;
                let at = self.groups.place(at)?;
                // Room that has been set aside and not been written reads as zeros.
                if length > 0x8000 || at >= size {
                    continue;
                }
                let (place, length) =
                    (self.groups.place(block)?, (length * self.groups.block).min(size - at));
                let (source, place) = self.groups.within(place, length)?;
                data.fill(at, length, source, place)?;
            }
        }
        Ok(data)
    }

    /// Where a symbolic link leads.
    pub(crate) fn target(&self, link: &Inode) -> Result<Vec<u8>> {
        /// Bytes of an inode in which a short one stands by itself.
        const INSIDE: usize = 60;
        let size = usize::try_from(u32_at(&link.raw, 4)?).map_err(|_| damaged())?;
        if size < INSIDE && u32_at(&link.raw, 0x20)? & EXTENTS == 0 {
            return Ok(link.raw.get(0x28..0x28 + size).ok_or_else(damaged)?.to_vec());
        }
        self.data(link)?.bytes(self.groups.block)
    }

    /// Extended attributes, by their whole names.
    pub(crate) fn xattrs(&self, inode: &Inode) -> Result<Xattrs> {
        let mut xattrs = Xattrs::new();
        if self.groups.inode_size > 128 {
            let start = 128 + usize::from(u16_at(&inode.raw, 0x80)?);
            let inner = inode.raw.get(start..).filter(|inner| inner.len() > 4).unwrap_or_default();
            if !inner.is_empty() && u32_at(inner, 0)? == XATTR {
                let area = inner.get(4..).unwrap_or_default();
                attributes(area, area, &mut xattrs)?;
            }
        }
        let block = u64::from(u32_at(&inode.raw, 0x68)?) | u64::from(u16_at(&inode.raw, 0x76)?) << 32;
        if block != 0 {
            let number = block;
            let block = self.groups.read(self.groups.place(block)?, self.groups.block)?;
            if let Some(checksums) = self.checksums {
                checksums.attributes(number, &block)?;
            }
            if u32_at(&block, 0)? != XATTR {
                return Err(damaged());
            }
            attributes(block.get(32..).unwrap_or_default(), &block, &mut xattrs)?;
        }
        Ok(xattrs)
    }
}

impl Inode {
    /// Its kind and permissions, as `stat` has them.
    pub(crate) fn mode(&self) -> Result<u32> {
        u16_at(&self.raw, 0).map(u32::from)
    }

    /// Whom it belongs to.
    pub(crate) fn owner(&self) -> Result<Owner> {
        let id =
            |low, high| Ok(u32::from(u16_at(&self.raw, low)?) | u32::from(u16_at(&self.raw, high)?) << 16);
        Ok(Owner { user: id(2, 0x78)?, group: id(0x18, 0x7a)? })
    }

    /// When it was last changed, in seconds since 1970.
    pub(crate) fn modified(&self) -> Result<i64> {
        let low = i64::from(u32_at(&self.raw, 0x10)?.cast_signed());
        // Two bits more, where the inode has room for them.
        let wide = self.raw.len() > 0x8c && u16_at(&self.raw, 0x80)? >= 0x0c;
        let high = if wide { i64::from(u32_at(&self.raw, 0x88)? & 3) } else { 0 };
        Ok(low + (high << 32))
    }

    /// Bytes that it has, holes included.
    pub(crate) fn size(&self) -> Result<u64> {
        Ok(u64::from(u32_at(&self.raw, 4)?) | u64::from(u32_at(&self.raw, 0x6c)?) << 32)
    }

    /// How many names it has; for a folder, `.` and those of its folders as well.
    pub(crate) fn links(&self) -> Result<u32> {
        u16_at(&self.raw, 0x1a).map(u32::from)
    }

    /// The number of a device.
    pub(crate) fn device(&self) -> Result<Device> {
        // In the first field where both parts have 8 bits, in the second where not.
        let (old, new) = (u32_at(&self.raw, 0x28)?, u32_at(&self.raw, 0x2c)?);
        Ok(if old != 0 {
            Device { major: old >> 8 & 0xff, minor: old & 0xff }
        } else {
            Device { major: new >> 8 & 0xfff, minor: new & 0xff | new >> 12 & 0xf_ff00 }
        })
    }
}

/// The namespaces of extended attributes (Documentation/filesystems/ext4/attributes.rst).
const SPACES: [(u8, &str); 7] = [
    (0, ""),
    (1, "user."),
    (2, "system.posix_acl_access"),
    (3, "system.posix_acl_default"),
    (4, "trusted."),
    (6, "security."),
    (7, "system."),
];

/// Takes down the attributes whose entries are in `entries`; their values are counted from the beginning of `values`.
fn attributes(entries: &[u8], values: &[u8], to: &mut Xattrs) -> Result<()> {
    let (mut at, mut seen) = (0, BTreeSet::new());
    while entries.get(at..at + 4).ok_or_else(damaged)? != [0; 4] {
        let entry = entries.get(at..at + 16).ok_or_else(damaged)?;
        let (size, space) = (usize::from(entry[0]), entry[1]);
        let (offset, length) = (usize::from(u16_at(entry, 2)?), u32_at(entry, 8)?);
        if u32_at(entry, 4)? != 0 {
            return Err(Error::new("an extended attribute has an inode of its own, which is not read"));
        }
        let space = SPACES.iter().find(|(own, _)| *own == space).ok_or_else(damaged)?.1;
        let name = entries.get(at + 16..at + 16 + size).ok_or_else(damaged)?;
        let name = [space.as_bytes(), name].concat();
        let end = usize::try_from(length).ok().and_then(|length| offset.checked_add(length));
        let value = end.and_then(|end| values.get(offset..end)).ok_or_else(damaged)?;
        let list = acl::NAMES.contains(&name.as_slice());
        let value = if list { acl::from_ext4(value)? } else { value.to_vec() };
        if !seen.insert(name.clone()) || to.insert(name, value).is_some() {
            return Err(damaged());
        }
        at += 16 + size.next_multiple_of(4);
    }
    Ok(())
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or_else(damaged)?;
    Ok(u16::from_le_bytes(*field))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or_else(damaged)?;
    Ok(u32::from_le_bytes(*field))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::sync::Arc;

    use crate::disk::{Ext4, write_ext4};
    use crate::tree::{Node, Tree};

    const SIZE: u64 = 16 << 20;

    fn sample() -> Vec<u8> {
        let mut tree = Tree::new();
        let mut node = Node::file(0o644, vec![7; 5000]);
        node.xattrs.insert(b"security.capability".to_vec(), vec![1, 0, 0, 2]);
        node.xattrs.insert(b"user.large".to_vec(), vec![3; 900]);
        tree.insert("a", node).unwrap();
        tree.link("d/b", "a").unwrap();
        tree.insert("null", Node::char_device(0o666, 1, 3)).unwrap();
        tree.insert("disk", Node::block_device(0o660, 0xabc, 0x8_1234)).unwrap();
        let mut sparse = Data::hole(1 << 40);
        let source = Source::Memory(vec![9; 4096].into());
        // More pieces than the inode has room for.
        for index in 0..400 {
            sparse.fill(index << 30, 4096, &source, 0).unwrap();
        }
        tree.insert("sparse", Node::file(0o644, sparse)).unwrap();
        let file = tempfile::tempfile().unwrap();
        let spec = Ext4 { label: "root".into(), uuid: [7; 16], tree: Arc::new(tree) };
        write_ext4(&file, &spec, SIZE, 1_700_000_000).unwrap();
        let mut bytes = vec![0; SIZE as usize];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
        bytes
    }

    fn open(bytes: Vec<u8>) -> Result<Inodes> {
        let length = bytes.len() as u64;
        Inodes::open(Source::Memory(bytes.into()), 0, length)
    }

    fn find(inodes: &Inodes, folder: u32, name: &str) -> u32 {
        let names = inodes.list(&inodes.inode(folder).unwrap()).unwrap();
        names.iter().find(|(own, _)| own == name.as_bytes()).unwrap().1
    }

    #[test]
    fn what_was_written_is_told() {
        let inodes = open(sample()).unwrap();
        let number = find(&inodes, ROOT, "a");
        assert_eq!(find(&inodes, find(&inodes, ROOT, "d"), "b"), number);
        let a = inodes.inode(number).unwrap();
        assert_eq!(a.links().unwrap(), 2);
        let xattrs = inodes.xattrs(&a).unwrap();
        assert_eq!(xattrs.get(&b"security.capability"[..]), Some(&vec![1, 0, 0, 2]));
        assert_eq!(xattrs.get(&b"user.large"[..]), Some(&vec![3; 900]));
        assert_eq!(inodes.data(&a).unwrap().bytes(5000).unwrap(), vec![7; 5000]);
        let device = |name: &str| inodes.inode(find(&inodes, ROOT, name)).unwrap().device().unwrap();
        assert_eq!(device("null"), Device { major: 1, minor: 3 });
        assert_eq!(device("disk"), Device { major: 0xabc, minor: 0x8_1234 });
        let sparse = inodes.data(&inodes.inode(find(&inodes, ROOT, "sparse")).unwrap()).unwrap();
        let expected: Vec<_> = (0..400_u64).map(|index| (index << 30)..(index << 30) + 4096).collect();
        assert_eq!((sparse.len(), sparse.extents(4096)), (1 << 40, expected));
        for number in [0, u32::MAX] {
            assert!(inodes.inode(number).is_err());
        }
    }

    /// Reads everything that can be reached, and says only that it ends.
    fn walk(bytes: Vec<u8>) {
        let Ok(inodes) = open(bytes) else { return };
        let (mut folders, mut seen) = (vec![ROOT], BTreeSet::new());
        while let Some(number) = folders.pop() {
            let Ok(folder) = inodes.inode(number) else { continue };
            for (_, number) in inodes.list(&folder).unwrap_or_default() {
                let Ok(inode) = inodes.inode(number) else { continue };
                let _ = (inodes.xattrs(&inode), inode.links(), inode.device());
                let _ = inodes.data(&inode).map(|data| data.extents(4096));
                if seen.len() < 100 && seen.insert(number) {
                    folders.push(number);
                }
            }
        }
    }

    #[test]
    fn damage_is_an_error_never_a_panic() {
        let bytes = sample();
        for cut in [0, 1023, 1024, 1100, 2047, 2048, 4096, 5000, 1 << 20] {
            walk(bytes[..cut].to_vec());
        }
        // The blocks that are not empty, but for the journal and contents.
        let blocks: Vec<usize> =
            (0..bytes.len()).step_by(4096).filter(|&at| bytes[at..at + 4096] != [0; 4096]).collect();
        let mut seed = 1_u64;
        for round in 0..160 {
            let mut other = bytes.clone();
            for _ in 0..1 + round % 3 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let block = blocks[(seed >> 33) as usize % blocks.len().min(40)];
                // What is there, for most of a block is not.
                let used: Vec<usize> = (block..block + 4096).filter(|&at| other[at] != 0).collect();
                if let Some(&at) = used.get((seed >> 17) as usize % used.len().max(1)) {
                    other[at] = [0, 0xff, other[at] ^ 1, (seed >> 8) as u8][round % 4];
                }
            }
            walk(other);
        }
    }

    /// Reads everything that can be reached, each inode once, and says what was wrong.
    fn read_all(inodes: &Inodes) -> Result<usize> {
        let (mut folders, mut seen) = (vec![ROOT], BTreeSet::new());
        while let Some(number) = folders.pop() {
            for (_, number) in inodes.list(&inodes.inode(number)?)? {
                let inode = inodes.inode(number)?;
                if seen.insert(number) {
                    inodes.xattrs(&inode)?;
                    if matches!(inode.mode()? >> 12, 0o4 | 0o10) {
                        inodes.data(&inode)?;
                    }
                    folders.extend((inode.mode()? >> 12 == 0o4).then_some(number));
                }
            }
        }
        Ok(seen.len())
    }

    #[test]
    fn every_structure_has_its_checksum() {
        let open = |bytes: Vec<u8>| {
            let length = bytes.len() as u64;
            Inodes::checked(Source::Memory(bytes.into()), 0, length)
        };
        let bytes = sample();
        let inodes = open(bytes.clone()).unwrap();
        assert!(read_all(&inodes).unwrap() > 5);
        // One bit of each structure, by where that lies.
        let groups = &inodes.groups;
        let group = groups.group(0).unwrap();
        let place = |block| usize::try_from(groups.place(block).unwrap()).unwrap();
        let inode = |number: u32| place(group.inodes) + (number as usize - 1) * groups.inode_size as usize;
        let sparse = inodes.inode(find(&inodes, ROOT, "sparse")).unwrap();
        let own = |at| u32_at(&inodes.inode(find(&inodes, ROOT, "a")).unwrap().raw, at).unwrap();
        let places = [
            ("superblock", 1024 + 0x20),
            ("descriptor", place(1) + 0x10),
            ("bitmap", place(group.block_bitmap) + 700),
            ("bitmap", place(group.inode_bitmap) + 3),
            ("inode", inode(ROOT) + 0x10),
            ("inode", inode(find(&inodes, ROOT, "null")) + 0x64),
            ("folder", place(u64::from(u32_at(&inodes.inode(ROOT).unwrap().raw, 0x3c).unwrap())) + 40),
            ("attributes", place(u64::from(own(0x68))) + 500),
            ("extents", place(u64::from(u32_at(&sparse.raw, 0x38).unwrap())) + 40),
        ];
        for (what, at) in places {
            let mut other = bytes.clone();
            other[at] ^= 4;
            let said = open(other).and_then(|inodes| read_all(&inodes)).unwrap_err().report();
            assert!(said.contains("checksum") && said.contains(what), "{what}: {said}");
        }
        let mut without = bytes.clone();
        without[1024 + 0x65] &= !4;
        assert!(open(without).err().unwrap().report().contains("no checksums"));
    }

    /// A file system of mke2fs, with attributes and a folder of an index.
    #[test]
    fn what_mke2fs_makes_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, image) = (dir.path().join("tree"), dir.path().join("image"));
        std::fs::create_dir_all(tree.join("many")).unwrap();
        for index in 0..500 {
            std::fs::write(tree.join(format!("many/a rather long name of a file {index}")), b"x").unwrap();
        }
        std::fs::hard_link(tree.join("many/a rather long name of a file 7"), tree.join("other")).unwrap();
        let mke2fs =
            ["/usr/sbin/mke2fs", "/sbin/mke2fs"].into_iter().find(|path| std::path::Path::new(path).exists());
        let Some(mke2fs) = mke2fs else { return };
        let made = Command::new(mke2fs)
            .args(["-q", "-t", "ext4", "-O", "metadata_csum", "-d"])
            .arg(&tree)
            .arg(&image)
            .arg("16M")
            .output();
        assert!(made.unwrap().status.success());
        let inodes = Inodes::checked(Source::archive(&image), 0, SIZE).unwrap();
        // With the folders, and one file of two names.
        assert_eq!(read_all(&inodes).unwrap(), 502);
        let many = inodes.inode(find(&inodes, ROOT, "many")).unwrap();
        assert_eq!(inodes.list(&many).unwrap().len(), 500);
        let other = inodes.inode(find(&inodes, ROOT, "other")).unwrap();
        assert_eq!(
            (other.links().unwrap(), inodes.data(&other).unwrap().bytes(9).unwrap()),
            (2, b"x".to_vec())
        );
    }
}
