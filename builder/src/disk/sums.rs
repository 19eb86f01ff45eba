//! Sums of files' contents, taken as they are read to be written: what is read back is compared with these, and nothing has
//! to be read twice.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::io::{self, Read};

use twox_hash::XxHash3_64;

use crate::tree::{Data, Inode};

/// The sum of bytes: XXH3 with 64 bits, which finds damage and faults of programs. It is no proof against somebody who wants
/// two contents to have one sum, and nobody is asked to believe it.
#[derive(Default)]
pub(crate) struct Sum(XxHash3_64);

impl Sum {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// The sum of what `data` has outside of holes, in blocks of `block` bytes, as it is read with the help of `buffer`.
    ///
    /// # Errors
    /// What cannot be read.
    pub(crate) fn of(data: &Data, block: u64, buffer: &mut [u8]) -> io::Result<u64> {
        let mut sum = Self::default();
        for extent in data.extents(block) {
            let mut reader = data.range(extent);
            loop {
                match reader.read(buffer)? {
                    0 => break,
                    count => sum.add(buffer.get(..count).unwrap_or_default()),
                }
            }
        }
        Ok(sum.0.finish())
    }
}

/// The sums of all that was written to an image, by the byte at which each file system begins.
#[derive(Default)]
pub(crate) struct Written(BTreeMap<u64, Sums>);

impl Written {
    pub(super) fn add(&mut self, start: u64, sums: Sums) {
        self.0.insert(start, sums);
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// The sums of the file system that begins there; `None` where nothing is known of it.
    pub(crate) fn at(&self, start: u64) -> Option<&Sums> {
        self.0.get(&start)
    }
}

/// The sums of a tree's files.
#[derive(Default)]
pub(crate) struct Sums(BTreeMap<Inode, u64>);

impl Sums {
    pub(crate) fn add(&mut self, inode: Inode, sum: Sum) {
        self.0.insert(inode, sum.0.finish());
    }

    /// The sum of this file's contents, if they have been written.
    pub(crate) fn get(&self, inode: Inode) -> Option<u64> {
        self.0.get(&inode).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Content, DiskSpec, Ext4, Gpt, Partial, PartitionSpec, Table, write_into};
    use super::*;
    use crate::progress::Progress;
    use crate::tree::{Node, Tree};
    use crate::verify::{verify_image, verify_written};
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;

    #[test]
    fn what_reads_back_is_compared_with_what_was_read() {
        let mut tree = Tree::new();
        let mut sparse = Data::hole(1 << 20);
        let source = crate::tree::Source::Memory(vec![b'c'; 9000].into());
        sparse.fill(5000, 9000, &source, 0).unwrap();
        for (name, data) in
            [("a", vec![b'a'; 70_000].into()), ("b", vec![b'b'; 70_000].into()), ("c", sparse)]
        {
            tree.insert(name, Node::file(0o644, data)).unwrap();
        }
        let content = Content::Ext4(Ext4 { label: "root".into(), uuid: [9; 16], tree: Arc::new(tree) });
        let partition = PartitionSpec {
            name: "root".into(),
            type_guid: "0fc63daf-8483-4772-8e79-3d69d8477de4".into(),
            mbr_type: 0x83,
            guid: [1; 16],
            start: 1 << 20,
            size: 16 << 20,
            bootable: false,
            content,
        };
        let spec = DiskSpec {
            table: Table::Gpt(Gpt::USUAL),
            disk_guid: [3; 16],
            size: 18 << 20,
            partitions: vec![partition],
            raw: Vec::new(),
            epoch: 1_700_000_000,
        };
        let dir = tempfile::tempdir().unwrap();
        let partial = Partial::create(&dir.path().join("x.img")).unwrap();
        let written = write_into(&partial, &spec, false, &Progress::quiet()).unwrap();
        let check =
            |written: &Written| verify_written(partial.temporary(), &spec, written, &Progress::quiet());
        check(&written).unwrap();
        verify_image(partial.temporary(), &spec, &Progress::quiet()).unwrap();
        let mut image = vec![0; 18 << 20];
        partial.file().read_exact_at(&mut image, 0).unwrap();
        for name in *b"abc" {
            let at = image.windows(2000).position(|bytes| bytes.iter().all(|&byte| byte == name)).unwrap();
            partial.file().write_all_at(b"x", at as u64 + 1000).unwrap();
            let said = check(&written).unwrap_err().report();
            assert!(
                said.contains("not those that were written") && said.contains(&format!("/{}", name as char)),
                "{said}"
            );
            // Where nothing is known, the source tells.
            assert!(check(&Written::default()).is_err());
            partial.file().write_all_at(&[name], at as u64 + 1000).unwrap();
            check(&written).unwrap();
        }
    }
}
