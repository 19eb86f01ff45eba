//! The contents of files, read and put where they belong on a disk. As many are read side by side as there are CPUs; what
//! follows each other on the disk is written at once, for most files are small.
//!
//! ```text
//!   files and their places --> batches: each --> parts of files, read into one buffer, with their sums
//!                                           \--> runs of that buffer, written to the disk
//! ```

use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::sparse::Writer;
use super::sums::{CHUNK, Sums, sum};
use crate::error::{Error, Result, ResultExt};
use crate::parallel;
use crate::tree::{Data, Inode};

/// Most bytes of a batch: chunks that have sums are whole in one.
const BATCH: usize = 16 * CHUNK;

/// A file with the places of what is no hole in it, in that order: the first byte of each on the disk, and how many bytes.
pub(super) struct Placed<'a> {
    pub(super) inode: Inode,
    pub(super) data: &'a Data,
    pub(super) places: Vec<(u64, u64)>,
}

/// What is read and written at once.
#[derive(Debug, Default)]
struct Batch {
    parts: Vec<Part>,
    runs: Vec<Run>,
    /// Bytes of the buffer.
    length: usize,
}

/// A part of a file's contents.
#[derive(Debug)]
struct Part {
    /// Which of the files.
    file: usize,
    range: Range<u64>,
    /// Where it begins in the buffer.
    at: usize,
}

/// Bytes of the buffer that follow each other on the disk too.
#[derive(Debug)]
struct Run {
    from: Range<usize>,
    /// The first byte on the disk.
    to: u64,
}

/// Reads all of `files`, and writes them to their places behind byte `base`, in blocks of `block` bytes. What is left of a
/// file's last block is zeros.
///
/// # Errors
/// A file that cannot be read or has not the places for what is in it, and what cannot be written.
pub(super) fn fill<F: FnMut(u64) + Send>(
    files: &[Placed<'_>],
    block: u64,
    base: u64,
    writer: &mut Writer<'_, F>,
) -> Result<Sums> {
    let batches = batches(files, block)?;
    // The kernel lets one write to a file at a time in any case.
    let writer = Mutex::new(writer);
    let buffers = Mutex::new(Vec::<Vec<u8>>::new());
    let buffers = || buffers.lock().unwrap_or_else(PoisonError::into_inner);
    let all = parallel::map(&batches, |batch| {
        let mut buffer = buffers().pop().unwrap_or_default();
        let sums = batch.read(files, &mut buffer).context(|| "cannot read a file")?;
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        for run in &batch.runs {
            let bytes = buffer.get(run.from.clone()).unwrap_or_default();
            writer.write(base + run.to, bytes).context(|| "cannot write the contents of files")?;
        }
        drop(writer);
        buffers().push(buffer);
        Ok(sums)
    })?;
    let mut sums = Sums::default();
    for (part, chunks) in batches.iter().flat_map(|batch| &batch.parts).zip(all.into_iter().flatten()) {
        if let Some(file) = files.get(part.file) {
            sums.add(file.inode, chunks);
        }
    }
    Ok(sums)
}

impl Batch {
    /// Fills `buffer` with what is read; gives the sums of each part's chunks.
    fn read(&self, files: &[Placed<'_>], buffer: &mut Vec<u8>) -> io::Result<Vec<Vec<u64>>> {
        buffer.clear();
        buffer.resize(self.length, 0);
        let mut sums = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let length = usize::try_from(part.range.end - part.range.start).unwrap_or(usize::MAX);
            let into = buffer.get_mut(part.at..).and_then(|rest| rest.get_mut(..length));
            let (into, file) =
                into.zip(files.get(part.file)).ok_or_else(|| io::Error::other("it is in no batch"))?;
            file.data.range(part.range.clone()).read_exact(into)?;
            sums.push(into.chunks(CHUNK).map(sum).collect());
        }
        Ok(sums)
    }

    /// Adds bytes of the buffer that belong to byte `to` of the disk; what they leave out of a block are zeros.
    fn put(&mut self, from: Range<usize>, to: u64, block: u64) {
        if let Some(last) = self.runs.last_mut()
            && (from.start - last.from.end) as u64 <= block
            && last.to + (from.start - last.from.start) as u64 == to
        {
            last.from.end = from.end;
        } else {
            self.runs.push(Run { from, to });
        }
    }
}

/// `files` in batches. Their places are whole blocks, but for a file's last one.
fn batches(files: &[Placed<'_>], block: u64) -> Result<Vec<Batch>> {
    let mut batches = vec![Batch::default()];
    for (file, placed) in files.iter().enumerate() {
        let mut places = placed.places.iter().copied();
        let (mut to, mut room) = (0, 0);
        for extent in placed.data.extents(block) {
            let mut at = extent.start;
            while at < extent.end {
                let end = extent.end.min(at + BATCH as u64);
                let length = usize::try_from(end - at).unwrap_or(BATCH);
                if batches.last().is_none_or(|batch| batch.length + length > BATCH) {
                    batches.push(Batch::default());
                }
                let Some(batch) = batches.last_mut() else { continue };
                let begin = batch.length;
                batch.parts.push(Part { file, range: at..end, at: begin });
                let mut done = 0;
                while done < length {
                    if room == 0 {
                        (to, room) = places
                            .next()
                            .ok_or_else(|| Error::new("a file has not enough places on the disk"))?;
                    }
                    let count = usize::try_from(room).unwrap_or(usize::MAX).min(length - done);
                    batch.put(begin + done..begin + done + count, to, block);
                    (to, room, done) = (to + count as u64, room - count as u64, done + count);
                }
                batch.length = (begin + length).next_multiple_of(usize::try_from(block).unwrap_or(BATCH));
                at = end;
            }
        }
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Node, Source, Tree};
    use std::os::unix::fs::FileExt;

    const BLOCK: u64 = 4096;

    fn inode(number: usize) -> Inode {
        let mut tree = Tree::new();
        (0..=number).for_each(|n| tree.insert(n.to_string(), Node::file(0, "")).unwrap());
        tree.iter().nth(number).unwrap().inode
    }

    #[test]
    fn each_byte_comes_to_its_place() {
        let bytes =
            |byte: u8, length: usize| -> Vec<u8> { (0..length).map(|n| byte ^ (n % 251) as u8).collect() };
        let (small, large) = (bytes(1, 5000), bytes(2, 3 << 20));
        let mut sparse = Data::hole(1 << 20);
        let source = Source::Memory(bytes(3, 9000).into());
        sparse.fill(8192, 9000, &source, 0).unwrap();
        let (a, b): (Data, Data) = (small.clone().into(), large.clone().into());
        let at = |block: u64| block * BLOCK;
        let files = [
            Placed { inode: inode(0), data: &a, places: vec![(at(1), 4096), (at(2), 904)] },
            // Of three pieces, the second of which lies before the first.
            Placed {
                inode: inode(1),
                data: &b,
                places: vec![(at(100), at(300)), (at(3), at(8)), (at(500), at(460))],
            },
            Placed { inode: inode(2), data: &sparse, places: vec![(at(11), at(3))] },
        ];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let file = std::fs::File::options().create_new(true).read(true).write(true).open(path).unwrap();
        file.set_len(at(1000)).unwrap();
        let mut written = 0;
        let sums = fill(&files, BLOCK, at(10), &mut Writer::new(&file, |count| written += count)).unwrap();
        let there = |block: u64, length: usize| {
            let mut there = vec![0; length];
            file.read_exact_at(&mut there, at(10 + block)).unwrap();
            there
        };
        assert_eq!(there(1, 8192), [small.clone(), vec![0; 3192]].concat());
        let pieces = [there(100, 300 << 12), there(3, 8 << 12), there(500, 460 << 12)].concat();
        assert_eq!(pieces, large);
        assert_eq!(there(11, 3 << 12), [bytes(3, 9000), vec![0; 3288]].concat());
        // The rest of the last block is a hole as it is.
        assert_eq!(written, 5000 + at(768 + 3));
        let wanted = |bytes: &[u8]| bytes.chunks(CHUNK).map(sum).collect::<Vec<_>>();
        assert_eq!(sums.get(inode(0)).unwrap(), wanted(&small));
        assert_eq!(sums.get(inode(1)).unwrap(), wanted(&large));
        assert_eq!(sums.get(inode(2)).unwrap(), wanted(&there(11, 3 << 12)));
    }

    #[test]
    fn a_file_without_places_is_refused() {
        let data: Data = vec![1; 10_000].into();
        let files = [Placed { inode: inode(0), data: &data, places: vec![(0, 4096)] }];
        let file = tempfile::tempfile().unwrap();
        let error = fill(&files, BLOCK, 0, &mut Writer::new(&file, |_| ())).err().unwrap();
        assert!(error.report().contains("not enough places"), "{}", error.report());
    }
}
