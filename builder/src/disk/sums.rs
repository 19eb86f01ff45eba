//! Sums of files' contents, taken as they are read to be written: what is read back is compared with these, and nothing has
//! to be read twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use twox_hash::XxHash3_64;

use crate::error::{Error, Result};
use crate::tree::Inode;

/// Bytes of a file of which a sum is made; the last ones before a hole, or the file's end, may be fewer.
pub(crate) const CHUNK: usize = 64 << 10;

/// The sum of bytes: XXH3 with 64 bits, which finds damage and faults of programs. It is no proof against somebody who wants
/// two contents to have one sum, and nobody is asked to believe it.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// What has to be at one place of an image: a chunk of a file.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// Where it begins, and how long it is.
    pub(crate) at: u64,
    pub(crate) length: usize,
    pub(crate) sum: u64,
    /// The file.
    pub(crate) of: Arc<str>,
}

impl Claim {
    /// Compares it with the bytes that are there.
    ///
    /// # Errors
    /// Other bytes.
    pub(crate) fn check(&self, there: &[u8]) -> Result<()> {
        match sum(there) == self.sum {
            true => Ok(()),
            false => Err(Error::new(format!("{}: its contents are not those that were written", self.of))),
        }
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

/// The sums of a tree's files, chunk after chunk of what is no hole.
#[derive(Default)]
pub(crate) struct Sums(BTreeMap<Inode, Vec<u64>>);

impl Sums {
    /// Adds the sums of what follows in this file.
    pub(super) fn add(&mut self, inode: Inode, sums: Vec<u64>) {
        self.0.entry(inode).or_default().extend(sums);
    }

    /// The sums of this file's contents, if they have been written.
    pub(crate) fn get(&self, inode: Inode) -> Option<&[u64]> {
        self.0.get(&inode).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Content, DiskSpec, Ext4, Gpt, Partial, PartitionSpec, Table, write_into};
    use super::*;
    use crate::image::map_and_check;
    use crate::progress::Progress;
    use crate::tree::{Data, Node, Tree};
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
            [("a", vec![b'a'; 70_000].into()), ("b", vec![b'b'; 3_000_000].into()), ("c", sparse)]
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
        let check = |written: &Written| {
            let claims = verify_written(partial.temporary(), &spec, written, &Progress::quiet())?;
            map_and_check(partial.temporary(), &spec, None, claims)
        };
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
