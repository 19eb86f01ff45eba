//! The order in which an image gets onto a medium.
//!
//! A medium may be pulled out at any moment, and what was written since the last `sync` may be there or not, in any
//! order. At no moment may it show an old partition table over new contents, or a new one over half of the contents:
//!
//! 1. the old table goes: the mark takes the first block, and headers of a GPT lose their signature; sync
//! 2. what lies at the medium's end goes, behind the image: the old GPT's second copy, a RAID's description; sync
//! 3. everything from 1 MiB on; sync
//! 4. the first MiB but for its first 4 KiB: boot stages that a ROM looks for; sync
//! 5. all of it is read back from the medium itself
//! 6. the first 4 KiB, with the new table; sync, and read back
//!
//! Where the medium is compared first, 1 comes right before the first write, whatever that is.

use super::ledger::Ledger;
use super::mark::{self, is_of};
use super::medium::{Failure, Medium, help, read_all, write_all};
use super::order::{Order, Stage, Watch};
use super::table::{SIGNATURE, Table};
use crate::error::{Error, Result};
use crate::image::{Piece, Rest, is_zero};

/// What was done, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Read from the medium to be compared.
    pub compared: u64,
    /// Written.
    pub written: u64,
    /// Pieces of 64 KiB, or less, that were written.
    pub pieces: u64,
    /// Read back, and found to be what was written.
    pub verified: u64,
    /// Neither read nor written, but taken as unchanged.
    pub unchanged: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was done.
    pub counts: Counts,
    /// Seconds after 1970 began when what was taken as unchanged was read last, or written.
    pub since: Option<u64>,
    /// Whether an earlier try with the same image had been interrupted, and this one went on with it.
    pub resumed: bool,
    /// The byte at which the image's second copy of its GPT has its header, where it has one.
    pub backup: Option<u64>,
}

/// Puts an image onto `medium`; `next` gives its pieces in order, but for ranges that are trusted whole. Where it is an
/// update, what is there is read, and only what differs is written.
///
/// # Errors
///
/// What the medium or the image refuses, with its place, and what read back differs. The medium then shows no partition
/// table, unless nothing was written yet.
pub(super) fn transfer<M: Medium, W: Watch>(
    medium: &mut M,
    order: Order<'_>,
    next: &mut dyn FnMut() -> Option<Result<Piece>>,
    watch: &mut W,
) -> Result<Outcome> {
    let Order { map, trust, geometry, .. } = order;
    if map.image_size() > medium.size() {
        return Err(Error::new(format!(
            "the image has {} bytes, and the medium {}",
            map.image_size(),
            medium.size()
        )));
    }
    let head = geometry.head.min(usize::try_from(map.image_size()).unwrap_or(usize::MAX));
    let total = match map.rest() {
        Rest::Zero => map.image_size(),
        Rest::Any => map.mapped() - order.passed_over(),
    };
    let mut transfer = Transfer {
        medium,
        order,
        compare: order.update,
        begun: false,
        passed: 0,
        head: vec![0; head],
        head_ranges: Vec::new(),
        head_seen: false,
        table: Table::default(),
        ledger: Ledger::default(),
        counts: Counts { unchanged: trust.bytes(), ..Counts::default() },
        total,
        done: 0,
        watch,
    };
    transfer.run(next).map_err(|error| match transfer.begun {
        true => error.help("what is on the medium now does not boot; run the same command again when the cause is gone, and it goes on with what is missing"),
        false => error.help("nothing was written to the medium"),
    })
}

struct Transfer<'a, M, W> {
    medium: &'a mut M,
    order: Order<'a>,
    /// What is there is read before it is written.
    compare: bool,
    /// Whether the old table is gone.
    begun: bool,
    /// The byte up to which the medium, but for its head, has been compared or written.
    passed: u64,
    /// The image's first bytes, kept to the end.
    head: Vec<u8>,
    /// Which of them the image names: first byte, and the first one behind.
    head_ranges: Vec<(usize, usize)>,
    head_seen: bool,
    table: Table,
    ledger: Ledger,
    counts: Counts,
    total: u64,
    done: u64,
    watch: &'a mut W,
}

impl<M: Medium, W: Watch> Transfer<'_, M, W> {
    fn run(&mut self, next: &mut dyn FnMut() -> Option<Result<Piece>>) -> Result<Outcome> {
        let identity = self.order.map.identity();
        let mut block = [0; mark::SIZE];
        self.read(&mut block, 0)?;
        let resumed = is_of(&block, identity);
        self.compare |= resumed;
        // An image that cannot be read at all leaves the medium as it is.
        let mut piece = next().transpose()?;
        if !self.compare {
            self.begin()?;
        }
        let (mut at, mut received) = (0, 0);
        while let Some(Piece { offset, data }) = piece {
            received += data.len() as u64;
            self.gap(at, offset)?;
            at = offset + data.len() as u64;
            self.piece(offset, &data)?;
            piece = next().transpose()?;
        }
        if received != self.order.map.mapped() - self.order.passed_over() {
            return Err(Error::new("the image ended before all of it was read"));
        }
        self.gap(at, self.order.map.image_size())?;
        self.head_is_seen()?;
        if self.begun {
            self.sync()?;
            self.write_head()?;
            self.sync()?;
            self.drop_cache()?;
            self.verify()?;
            self.write_table()?;
        }
        let since = self.order.trust.since;
        Ok(Outcome { counts: self.counts, since, resumed, backup: self.table.backup })
    }

    /// Takes away what makes the medium look like anything: 1 and 2.
    fn begin(&mut self) -> Result<()> {
        self.watch.begins()?;
        let mut block = vec![0; self.order.geometry.table];
        self.read(&mut block, 0)?;
        let before = block.clone();
        let (first, second) = block.split_at_mut(mark::SIZE);
        first.copy_from_slice(&mark::mark(self.order.map.identity()));
        if second.starts_with(SIGNATURE) {
            second.iter_mut().take(mark::SIZE).for_each(|byte| *byte = 0);
        }
        self.begun = true;
        if block != before {
            self.write(&block, 0)?;
        }
        // A medium with blocks of 4096 bytes has its header there.
        self.clear_header(self.order.geometry.table as u64)?;
        self.sync()?;
        // Worn cards take what is written and forget it: better known now than after a GiB.
        self.drop_cache()?;
        let mut there = vec![0; block.len()];
        self.read(&mut there, 0)?;
        if there != block {
            return Err(Error::new("the medium does not keep what is written to it")
                .help("it is worn out, or protects itself from being written: take another one"));
        }
        let (start, end) = self.tail();
        self.zero(start, end)?;
        for from_end in [512, 4096] {
            let at = self.medium.size().saturating_sub(from_end);
            // What has been compared already is the image's.
            if at >= self.passed {
                self.clear_header(at)?;
            }
        }
        self.sync()
    }

    /// Clears the header of a GPT at byte `at`, if there is one.
    fn clear_header(&mut self, at: u64) -> Result<()> {
        let mut block = [0; 512];
        if at < self.order.geometry.table as u64 || at + 512 > self.medium.size() {
            return Ok(());
        }
        self.read(&mut block, at)?;
        if block.starts_with(SIGNATURE) { self.write(&[0; 512], at) } else { Ok(()) }
    }

    /// The medium's end, as far as it is not the image's.
    fn tail(&self) -> (u64, u64) {
        let size = self.medium.size();
        let start = size
            .saturating_sub(self.order.geometry.tail)
            .max(self.order.map.image_size())
            .max(self.order.geometry.head as u64);
        (start.min(size), size)
    }

    fn tail_is_stale(&mut self) -> Result<bool> {
        let (start, end) = self.tail();
        let mut there = vec![0; usize::try_from(end - start).unwrap_or_default()];
        self.read(&mut there, start)?;
        Ok(!is_zero(&there))
    }

    /// What the image does not name from `start` to `end`.
    fn gap(&mut self, start: u64, end: u64) -> Result<()> {
        if self.order.map.rest() == Rest::Any || start >= end {
            return Ok(());
        }
        let boundary = (self.head.len() as u64).clamp(start, end);
        if start < boundary {
            self.head_range(start, boundary);
        }
        if boundary < end {
            self.head_is_seen()?;
            for part in self.order.trust.outside(boundary..end) {
                self.passed = part.start;
                self.zero(part.start, part.end)?;
                self.ledger.add_zeros(part.start, part.end);
            }
        }
        self.advance(end - start);
        Ok(())
    }

    fn piece(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        let boundary = usize::try_from((self.head.len() as u64).saturating_sub(offset)).unwrap_or(usize::MAX);
        let (front, back) = data.split_at(boundary.min(data.len()));
        if !front.is_empty() {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            if let Some(into) = self.head.get_mut(start..).and_then(|head| head.get_mut(..front.len())) {
                into.copy_from_slice(front);
            }
            self.head_range(offset, offset + front.len() as u64);
        }
        if !back.is_empty() {
            self.head_is_seen()?;
            let start = offset + front.len() as u64;
            for part in self.order.trust.outside(start..start + back.len() as u64) {
                let of = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
                self.passed = part.start;
                self.put(part.start, back.get(of(part.start)..of(part.end)).unwrap_or_default())?;
            }
        }
        self.advance(data.len() as u64);
        Ok(())
    }

    fn head_range(&mut self, start: u64, end: u64) {
        let of = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(self.head.len());
        let (start, end) = (of(start), of(end));
        match self.head_ranges.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => self.head_ranges.push((start, end)),
        }
    }

    /// The image's first bytes are all known. Where they differ from what is there, or there is something at the medium's
    /// end, that is the first difference: the old table goes before anything behind it is written.
    fn head_is_seen(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.head_seen, true) {
            return Ok(());
        }
        self.table = Table::of(&self.head);
        if self.begun {
            return Ok(());
        }
        let mut there = vec![0; self.head.len()];
        self.read(&mut there, 0)?;
        let same = |&(start, end): &(usize, usize)| there.get(start..end) == self.head.get(start..end);
        if self.head_ranges.iter().all(same) && !self.tail_is_stale()? { Ok(()) } else { self.begin() }
    }

    /// Writes `data`, or what of it differs from what is there.
    fn put(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        if !self.compare {
            self.write(data, offset)?;
            self.ledger.add(offset, data, self.order.geometry.chunk);
            return Ok(());
        }
        let mut there = vec![0; data.len()];
        self.read(&mut there, offset)?;
        if there == data {
            if !self.order.update {
                self.ledger.add(offset, data, self.order.geometry.chunk);
            }
            return Ok(());
        }
        if !self.begun {
            self.begin()?;
            // That may have cleared something that lies here.
            self.read(&mut there, offset)?;
        }
        let chunks = data.chunks(self.order.geometry.chunk).zip(there.chunks(self.order.geometry.chunk));
        let mut start = 0;
        let mut run = 0;
        // Neighbours that differ are written together.
        for (wanted, there) in chunks {
            if wanted == there {
                self.put_run(offset, data, start, run)?;
                start += run + wanted.len();
                run = 0;
            } else {
                run += wanted.len();
            }
        }
        self.put_run(offset, data, start, run)?;
        if !self.order.update {
            self.ledger.add(offset, data, self.order.geometry.chunk);
        }
        Ok(())
    }

    fn put_run(&mut self, offset: u64, data: &[u8], start: usize, length: usize) -> Result<()> {
        let run = data.get(start..start + length).unwrap_or_default();
        if run.is_empty() {
            return Ok(());
        }
        let at = offset + start as u64;
        self.write(run, at)?;
        if self.order.update {
            self.ledger.add(at, run, self.order.geometry.chunk);
        }
        Ok(())
    }

    /// Makes the bytes from `start` to `end` zeros. They are read first, whatever else is compared: most of them are
    /// zeros already, and no medium reads more slowly than it writes.
    fn zero(&mut self, start: u64, end: u64) -> Result<()> {
        let mut there = vec![0; self.order.geometry.stride];
        let zeros = vec![0; self.order.geometry.chunk];
        let mut at = start;
        while at < end {
            let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(there.len());
            let there = there.get_mut(..count).unwrap_or_default();
            self.read(there, at)?;
            if !self.begun && !is_zero(there) {
                self.begin()?;
            }
            let mut place = at;
            for chunk in there.chunks(self.order.geometry.chunk) {
                if !is_zero(chunk) {
                    self.write(zeros.get(..chunk.len()).unwrap_or_default(), place)?;
                }
                place += chunk.len() as u64;
            }
            at = place;
        }
        Ok(())
    }

    /// What is in the first MiB behind the table.
    fn write_head(&mut self) -> Result<()> {
        for (start, end) in self.head_ranges.clone() {
            let start = start.max(self.order.geometry.table);
            let data = self.head.get(start..end).map(<[u8]>::to_vec);
            if let Some(data) = data.filter(|data| !data.is_empty()) {
                self.put(start as u64, &data)?;
            }
        }
        Ok(())
    }

    /// The table, with which the medium becomes what it is to be.
    fn write_table(&mut self) -> Result<()> {
        let mut block = vec![0; self.order.geometry.table];
        self.read(&mut block, 0)?;
        // The mark goes, whether the image has something for its place or not.
        block.iter_mut().take(mark::SIZE).for_each(|byte| *byte = 0);
        for &(start, end) in &self.head_ranges {
            let end = end.min(block.len());
            if let (Some(into), Some(from)) = (block.get_mut(start..end), self.head.get(start..end)) {
                into.copy_from_slice(from);
            }
        }
        self.write(&block, 0)?;
        self.sync()?;
        self.drop_cache()?;
        let mut there = vec![0; block.len()];
        self.read(&mut there, 0)?;
        match there.iter().zip(&block).position(|(a, b)| a != b) {
            None => {
                self.counts.verified += block.len() as u64;
                Ok(())
            }
            Some(at) => Err(self.differs(at as u64, at as u64 + 1)),
        }
    }

    fn verify(&mut self) -> Result<()> {
        let total = self.ledger.bytes();
        let mut done = 0;
        let ledger = std::mem::take(&mut self.ledger);
        let mut buffer = vec![0; self.order.geometry.stride];
        for entry in ledger.entries() {
            let (mut at, end) = entry.place();
            while at < end {
                let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
                let there = buffer.get_mut(..count).unwrap_or_default();
                read_all(self.medium, there, at).map_err(|failure| self.told(failure))?;
                if let Some((from, to)) = entry.difference(at, there, self.order.geometry.chunk) {
                    return Err(self.differs(from, to));
                }
                at += count as u64;
                done += count as u64;
                self.counts.verified += count as u64;
                self.watch.moved(Stage::Verify, done, total);
            }
        }
        Ok(())
    }

    fn differs(&self, from: u64, to: u64) -> Error {
        let inside = self.table.inside(from).map_or(String::new(), |inside| format!(", in {inside},"));
        Error::new(format!("what was read back from byte {from:#x} to {to:#x}{inside} is not what was written"))
            .help("the medium, its reader or its cable is broken, or it has less room than it says: take another one")
    }

    fn advance(&mut self, count: u64) {
        self.done += count;
        self.watch.moved(Stage::Write, self.done, self.total);
    }

    fn read(&mut self, buffer: &mut [u8], offset: u64) -> Result<()> {
        read_all(self.medium, buffer, offset).map_err(|failure| self.told(failure))?;
        self.counts.compared += buffer.len() as u64;
        Ok(())
    }

    fn write(&mut self, data: &[u8], offset: u64) -> Result<()> {
        write_all(self.medium, data, offset).map_err(|failure| self.told(failure))?;
        self.counts.written += data.len() as u64;
        self.counts.pieces += data.len().div_ceil(self.order.geometry.chunk) as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.medium.sync().map_err(|error| {
            let help = help(&error);
            Error::new("what was written to the medium did not get onto it").because(error).help(help)
        })
    }

    fn drop_cache(&mut self) -> Result<()> {
        self.medium.drop_cache().map_err(|error| {
            Error::new(
                "what this machine remembers of the medium cannot be dropped, so it cannot be verified",
            )
            .because(error)
        })
    }

    fn told(&self, failure: Failure) -> Error {
        let inside = self.table.inside(failure.at).map(str::to_owned);
        failure.told(inside.as_deref())
    }
}

#[cfg(test)]
pub(super) mod tests;
