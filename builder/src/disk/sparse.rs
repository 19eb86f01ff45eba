//! Sparse writing: blocks of zeros become holes, and a file system is built in memory first, so that every byte is
//! written once and in order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate, seek};
use rustix::io::Errno;

use crate::tree::Data;

/// What a hole is made of: the block size of the file systems that hold images.
const HOLE: usize = 4096;
/// Bytes of one page in memory.
const PAGE: usize = 64 << 10;
const PAGE_BYTES: u64 = PAGE as u64;
/// Bytes of a file that are read at once.
const PIECE: usize = 1 << 18;

/// Writes into a file that is one hole so far, or over one that is much like what it is to become.
pub(crate) struct Writer<'a, F> {
    file: &'a File,
    report: F,
    over: Option<Over>,
}

/// What is known of a file that is written over.
#[derive(Default)]
struct Over {
    /// What has been put there, in the order in which that was done.
    put: Vec<Range<u64>>,
    /// What was there, as it is read to be compared.
    there: Vec<u8>,
}

impl<'a, F: FnMut(u64)> Writer<'a, F> {
    /// `report` is called with the bytes of each piece that has been written.
    pub(crate) fn new(file: &'a File, report: F) -> Self {
        Self { file, report, over: None }
    }

    /// The same over a file that is as long as it is going to be: what is there already is not written. In the end
    /// [`clear`] has to be called for what was put nowhere.
    pub(crate) fn over(file: &'a File, report: F) -> Self {
        Self { file, report, over: Some(Over::default()) }
    }

    /// Writes `data` at `offset`, leaving holes where it is zero.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (mut at, mut rest) = (offset, data);
        while !rest.is_empty() {
            // Blocks are aligned to the file, not to the data: only so can a hole be a hole.
            let to_boundary = HOLE - usize::try_from(at % HOLE as u64).unwrap_or(0);
            let zero = |block: &[u8]| block.iter().all(|&byte| byte == 0);
            let first = rest.get(..to_boundary.min(rest.len())).unwrap_or(rest);
            let mut run = first.len();
            let hole = zero(first);
            while let Some(block) =
                rest.get(run..(run + HOLE).min(rest.len())).filter(|block| !block.is_empty())
            {
                if zero(block) != hole || run >= 1 << 20 {
                    break;
                }
                run += block.len();
            }
            let (piece, behind) = rest.split_at(run);
            if !hole {
                match &mut self.over {
                    None => self.file.write_all_at(piece, at)?,
                    Some(over) => over.write(self.file, piece, at)?,
                }
                (self.report)(piece.len() as u64);
            }
            at += piece.len() as u64;
            rest = behind;
        }
        Ok(())
    }

    /// What has been put into a file that is written over, whether it was there already or not.
    pub(crate) fn put(self) -> Vec<Range<u64>> {
        self.over.map(|over| over.put).unwrap_or_default()
    }
}

impl Over {
    /// Writes those blocks of `data` that differ from what is there.
    fn write(&mut self, file: &File, data: &[u8], at: u64) -> io::Result<()> {
        let end = at + data.len() as u64;
        match self.put.last_mut() {
            Some(last) if last.end == at => last.end = end,
            _ => self.put.push(at..end),
        }
        self.there.resize(data.len(), 0);
        file.read_exact_at(&mut self.there, at)?;
        let mut run = 0..0;
        for (wanted, there) in data.chunks(HOLE).zip(self.there.chunks(HOLE)) {
            if wanted != there {
                run.end += wanted.len();
                continue;
            }
            write_run(file, data, at, run.clone())?;
            run = run.end + wanted.len()..run.end + wanted.len();
        }
        write_run(file, data, at, run)
    }
}

/// Makes a hole of whatever of a file lies outside of `put`, up to byte `size`.
pub(crate) fn clear(file: &File, mut put: Vec<Range<u64>>, size: u64) -> io::Result<()> {
    put.push(size..size);
    put.sort_by_key(|range| range.start);
    let mut at = 0;
    for range in put {
        punch(file, at..range.start)?;
        at = at.max(range.end);
    }
    Ok(())
}

/// Writes this part of `data`, which belongs to byte `at`.
fn write_run(file: &File, data: &[u8], at: u64, run: Range<usize>) -> io::Result<()> {
    let start = at + run.start as u64;
    file.write_all_at(data.get(run).unwrap_or_default(), start)
}

/// Makes a hole of what holds data there.
fn punch(file: &File, range: Range<u64>) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let Some(start) = data_from(file, at)?.filter(|start| *start < range.end) else { return Ok(()) };
        let end = hole_from(file, start)?.min(range.end);
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(file, flags, start, end - start) {
            Ok(()) => {}
            // Zeros are as good, but for the room that they take.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let zeros = [0; PAGE];
                for at in (start..end).step_by(PAGE) {
                    let count = usize::try_from(end - at).unwrap_or(PAGE).min(PAGE);
                    file.write_all_at(zeros.get(..count).unwrap_or_default(), at)?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        at = end;
    }
    Ok(())
}

/// Where data begins at or behind `at`; `None` where there is only a hole from there on.
pub(crate) fn data_from(file: &File, at: u64) -> io::Result<Option<u64>> {
    match seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(start) => Ok(Some(start)),
        Err(Errno::NXIO) => Ok(None),
        // Not every file system knows its holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(at)),
        Err(error) => Err(error.into()),
    }
}

/// Where the data at `at` ends.
fn hole_from(file: &File, at: u64) -> io::Result<u64> {
    match seek(file, rustix::fs::SeekFrom::Hole(at)) {
        Ok(end) => Ok(end),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(u64::MAX),
        Err(error) => Err(error.into()),
    }
}

/// What is written to [`Pages`] in place of files' contents.
pub(super) static STAND_IN: [u8; 64 << 10] = [0; 64 << 10];

/// A disk in memory that holds only what is not zero. The contents of files are not in it: whoever fills it writes the
/// [`STAND_IN`] for them, file after file, and they are read when the disk is written out.
#[derive(Debug)]
pub(super) struct Pages {
    pages: Vec<Option<Box<[u8]>>>,
    /// The files whose contents are written, in that order.
    files: Vec<Data>,
    /// The file that is being written, and how much of it has been.
    now: (usize, u64),
    /// Where parts of these lie, by their first byte; they do not overlap, and nothing is written over them.
    parts: BTreeMap<u64, Part>,
    size: u64,
    position: u64,
}

/// A part of a file's contents on the disk.
#[derive(Debug)]
struct Part {
    file: usize,
    range: Range<u64>,
}

impl Part {
    fn length(&self) -> u64 {
        self.range.end - self.range.start
    }
}

impl Pages {
    /// A disk of `size` bytes onto which `files` are to be written.
    pub(super) fn new(size: u64, files: Vec<Data>) -> Self {
        let count = usize::try_from(size.div_ceil(PAGE_BYTES)).unwrap_or(usize::MAX);
        Self { pages: vec![None; count], files, now: (0, 0), parts: BTreeMap::new(), size, position: 0 }
    }

    /// Writes what is there to `base` and beyond.
    pub(super) fn write_to<F: FnMut(u64)>(&self, writer: &mut Writer<'_, F>, base: u64) -> io::Result<()> {
        for (index, page) in (0_u64..).zip(&self.pages) {
            if let Some(page) = page {
                let start = index * PAGE_BYTES;
                let length = usize::try_from((self.size - start).min(PAGE_BYTES)).unwrap_or(PAGE);
                writer.write(base + start, page.get(..length).unwrap_or(page))?;
            }
        }
        let mut piece = vec![0; PIECE];
        for (start, part) in &self.parts {
            let Some(data) = self.files.get(part.file) else { continue };
            let (mut reader, mut at) = (data.range(part.range.clone()), base + start);
            loop {
                let count = reader.read(&mut piece)?;
                let Some(piece) = piece.get(..count).filter(|piece| !piece.is_empty()) else { break };
                writer.write(at, piece)?;
                at += count as u64;
            }
        }
        Ok(())
    }

    /// The part that holds the byte `at`, with its first byte.
    fn part(&self, at: u64) -> Option<(u64, &Part)> {
        let (start, part) = self.parts.range(..=at).next_back()?;
        (at - start < part.length()).then_some((*start, part))
    }

    /// Takes down that the next of the files' contents lie at the position, if `buffer` stands for them, and says how many
    /// bytes.
    fn take(&mut self, buffer: &[u8]) -> Option<usize> {
        let (all, own) = (STAND_IN.as_ptr_range(), buffer.as_ptr_range());
        if buffer.is_empty() || own.start < all.start || all.end < own.end {
            return None;
        }
        while self.files.get(self.now.0).is_some_and(|file| file.len() == self.now.1) {
            self.now = (self.now.0 + 1, 0);
        }
        let (file, from) = self.now;
        let left = self.files.get(file)?.len() - from;
        let count = (buffer.len() as u64).min(left).min(self.size.saturating_sub(self.position));
        let at = self.position;
        // Most often it goes on where the last one ended.
        if let Some((start, last)) = self.parts.range_mut(..at).next_back()
            && (last.file, last.range.end) == (file, from)
            && start + last.length() == at
        {
            last.range.end += count;
        } else if count > 0 {
            self.parts.insert(at, Part { file, range: from..from + count });
        }
        self.now.1 += count;
        self.position += count;
        usize::try_from(count).ok()
    }

    /// The page under the position, the offset in it, and how much of `wanted` lies in it and on the disk.
    fn place(&self, wanted: usize) -> (usize, usize, usize) {
        let index = usize::try_from(self.position / PAGE_BYTES).unwrap_or(usize::MAX);
        let offset = usize::try_from(self.position % PAGE_BYTES).unwrap_or(0);
        let left = usize::try_from(self.size.saturating_sub(self.position)).unwrap_or(usize::MAX);
        (index, offset, wanted.min(PAGE - offset).min(left))
    }
}

impl Read for Pages {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some((start, part)) = self.part(self.position) {
            let from = part.range.start + (self.position - start);
            let file = self.files.get(part.file).ok_or(io::ErrorKind::UnexpectedEof)?;
            let count = file.range(from..part.range.end).read(buffer)?;
            self.position += count as u64;
            return Ok(count);
        }
        // No further than to where a part begins.
        let ahead = self.parts.range(self.position..).next().map(|(start, _)| start - self.position);
        let wanted = ahead.and_then(|ahead| usize::try_from(ahead).ok()).unwrap_or(usize::MAX);
        let (index, offset, count) = self.place(buffer.len().min(wanted));
        let Some(into) = buffer.get_mut(..count) else { return Ok(0) };
        match self.pages.get(index).and_then(Option::as_ref).and_then(|page| page.get(offset..offset + count))
        {
            Some(from) => into.copy_from_slice(from),
            None => into.fill(0),
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Pages {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if let Some(count) = self.take(buffer) {
            return Ok(count);
        }
        let (index, offset, count) = self.place(buffer.len());
        let (Some(from), Some(page)) = (buffer.get(..count), self.pages.get_mut(index)) else { return Ok(0) };
        if page.is_some() || from.iter().any(|&byte| byte != 0) {
            let page = page.get_or_insert_with(|| vec![0; PAGE].into_boxed_slice());
            if let Some(into) = page.get_mut(offset..offset + count) {
                into.copy_from_slice(from);
            }
        }
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Pages {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn zeros_become_holes_wherever_the_data_begins() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let mut data = vec![0_u8; 600_000];
        data[0] = 1;
        data[300_001] = 2;
        data[599_999] = 3;
        Writer::new(&file, |_| ()).write(512, &data).unwrap();
        let mut back = vec![0; data.len()];
        file.read_exact_at(&mut back, 512).unwrap();
        assert!(back == data);
        assert!(
            file.metadata().unwrap().blocks() * 512 <= 4 * HOLE as u64,
            "{}",
            file.metadata().unwrap().blocks()
        );
    }

    #[test]
    fn what_is_written_over_becomes_the_same_as_what_is_written_anew() {
        let (old, new) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let size = 1 << 20;
        for file in [&old, &new] {
            file.set_len(size).unwrap();
        }
        // What was there: some of it the same, some of it other bytes, some where there is to be nothing.
        let block = |byte: u8| vec![byte; 3 * HOLE];
        for (byte, at) in [(1, 0), (2, 40 * HOLE), (3, 100 * HOLE + 7), (4, 200 * HOLE)] {
            old.write_all_at(&block(byte), at as u64).unwrap();
        }
        let keep = 200 * HOLE as u64..203 * HOLE as u64;
        new.write_all_at(&block(4), keep.start).unwrap();
        let mut changed = block(2);
        changed[HOLE + 5] = 9;
        let quiet = |_| ();
        for mut writer in [Writer::over(&old, quiet), Writer::new(&new, quiet)] {
            writer.write(0, &block(1)).unwrap();
            writer.write(40 * HOLE as u64, &changed).unwrap();
            writer.write(60 * HOLE as u64 + 100, &[7; 50]).unwrap();
            let put = writer.put();
            if !put.is_empty() {
                clear(&old, [put, vec![keep.clone()]].concat(), size).unwrap();
            }
        }
        let [old, new] = [&old, &new].map(|file| {
            let mut bytes = vec![0; size as usize];
            file.read_exact_at(&mut bytes, 0).unwrap();
            (bytes, file.metadata().unwrap().blocks())
        });
        assert!(old == new, "{} blocks and {}", old.1, new.1);
    }

    #[test]
    fn what_is_there_already_is_not_written() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let data: Vec<u8> = (1..=255).cycle().take(5 * HOLE + 77).collect();
        file.write_all(&data).unwrap();
        // It cannot be written to at all.
        let file = File::open(file.path()).unwrap();
        let mut writer = Writer::over(&file, |_| ());
        writer.write(0, &data).unwrap();
        assert!(writer.write(5, &data[4..9]).is_err());
        clear(&file, writer.put(), data.len() as u64).unwrap();
    }

    #[test]
    fn pages_hold_only_what_is_not_zero() {
        let mut pages = Pages::new(3 * PAGE_BYTES + 100, Vec::new());
        pages.write_all(&vec![0; PAGE * 2]).unwrap();
        assert!(pages.pages.iter().all(Option::is_none));
        pages.seek(SeekFrom::End(-2)).unwrap();
        assert_eq!(pages.write(&[7, 8, 9]).unwrap(), 2, "the disk ends here");
        assert_eq!(pages.write(&[9]).unwrap(), 0);
        pages.seek(SeekFrom::Start(PAGE_BYTES - 1)).unwrap();
        pages.write_all(&[1, 2]).unwrap();
        pages.seek(SeekFrom::Start(PAGE_BYTES - 2)).unwrap();
        let mut back = [9; 4];
        pages.read_exact(&mut back).unwrap();
        assert_eq!(back, [0, 1, 2, 0]);
        assert!(pages.seek(SeekFrom::Current(-(1 << 40))).is_err());
    }

    #[test]
    fn contents_are_not_copied_and_are_there_all_the_same() {
        let contents: Vec<u8> = (1..=255).cycle().take(PAGE + 77).collect();
        let mut pages =
            Pages::new(4 * PAGE_BYTES, vec![vec![1].into(), Data::default(), contents.clone().into()]);
        let mut wanted = vec![0; 4 * PAGE];
        let mut write = |pages: &mut Pages, at: usize, data: &[u8], stand_in: bool| {
            pages.seek(SeekFrom::Start(at as u64)).unwrap();
            pages.write_all(if stand_in { &STAND_IN[..data.len()] } else { data }).unwrap();
            wanted[at..at + data.len()].copy_from_slice(data);
        };
        write(&mut pages, 0, b"before", false);
        write(&mut pages, 700, &[1], true);
        // As the crate writes it, cluster by cluster, and the end of it elsewhere.
        for (index, cluster) in contents[..PAGE].chunks(1024).enumerate() {
            write(&mut pages, 1000 + index * 1024, cluster, true);
        }
        write(&mut pages, 2 * PAGE + 500, &contents[PAGE..], true);
        write(&mut pages, 2 * PAGE + 577, b"after", false);
        assert_eq!(pages.parts.len(), 3);
        assert_eq!(pages.pages.iter().flatten().count(), 2);
        let mut back = Vec::new();
        pages.seek(SeekFrom::Start(0)).unwrap();
        pages.read_to_end(&mut back).unwrap();
        assert!(back == wanted);
        let file = tempfile::tempfile().unwrap();
        pages.write_to(&mut Writer::new(&file, |_| ()), 3).unwrap();
        let mut back = vec![0; 2 * PAGE + 582];
        file.read_exact_at(&mut back, 3).unwrap();
        assert!(back == wanted[..2 * PAGE + 582]);
        // More than there is of files is nobody's contents.
        pages.seek(SeekFrom::Start(3 * PAGE_BYTES)).unwrap();
        pages.write_all(&STAND_IN).unwrap();
        assert_eq!(pages.parts.len(), 3);
    }
}
