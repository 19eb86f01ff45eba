//! The contents of a file: where their pieces lie, and the holes between them. They are read when they are written.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use super::source::{Opened, Source};
use crate::error::{Error, Result, ResultExt};

/// Pieces of one file; a hostile map of holes could have any number.
pub(super) const MAX_PIECES: usize = 1 << 20;
/// Bytes that are read at once.
const BUFFER: usize = 1 << 17;

/// Contents of any length. What no piece covers is a hole, and reads as zeros.
#[derive(Clone, Debug, Default)]
pub struct Data {
    length: u64,
    /// In order, without overlaps.
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
struct Piece {
    /// Where it begins in the file.
    at: u64,
    length: u64,
    source: Source,
    /// Where it begins in the source.
    offset: u64,
}

impl Piece {
    fn end(&self) -> u64 {
        self.at + self.length
    }
}

impl Data {
    /// A hole of this length.
    #[must_use]
    pub fn hole(length: u64) -> Self {
        Self { length, pieces: Vec::new() }
    }

    /// The `length` bytes of `source` from byte `offset` on.
    #[must_use]
    pub fn of(source: &Source, offset: u64, length: u64) -> Self {
        let piece = Piece { at: 0, length, source: source.clone(), offset };
        Self { length, pieces: if length == 0 { Vec::new() } else { vec![piece] } }
    }

    /// Fills the hole from byte `at` on with `length` bytes of `source`, from its byte `offset` on. Pieces come in order.
    ///
    /// # Errors
    /// A piece that is not behind the others or not in the file, and too many of them.
    pub fn fill(&mut self, at: u64, length: u64, source: &Source, offset: u64) -> Result<()> {
        let end = at.checked_add(length).filter(|end| *end <= self.length);
        let (Some(_), Some(_)) = (end, offset.checked_add(length)) else {
            return Err(Error::new("a piece of the file reaches past its end"));
        };
        if self.pieces.last().is_some_and(|last| last.end() > at) {
            return Err(Error::new("the pieces of the file are not in order"));
        }
        if length == 0 {
            return Ok(());
        }
        if let Some(last) = self.pieces.last_mut()
            && (last.end(), last.offset + last.length) == (at, offset)
            && last.source.is(source)
        {
            last.length += length;
            return Ok(());
        }
        if self.pieces.len() == MAX_PIECES {
            return Err(Error::new(format!("the file is in more than {MAX_PIECES} pieces")));
        }
        self.pieces.push(Piece { at, length, source: source.clone(), offset });
        Ok(())
    }

    /// Bytes, holes included.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there is nothing, not even a hole.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether some of it is a hole.
    #[must_use]
    pub fn is_sparse(&self) -> bool {
        self.pieces.iter().map(|piece| piece.length).sum::<u64>() != self.length
    }

    /// What is not a hole, in whole blocks of `block` bytes; the last one ends where the file does.
    #[must_use]
    pub fn extents(&self, block: u64) -> Vec<Range<u64>> {
        let mut extents: Vec<Range<u64>> = Vec::new();
        for piece in &self.pieces {
            let start = piece.at / block * block;
            let end = piece.end().checked_next_multiple_of(block).unwrap_or(u64::MAX).min(self.length);
            match extents.last_mut() {
                Some(last) if start <= last.end => last.end = end,
                _ => extents.push(start..end),
            }
        }
        extents
    }

    /// Where these bytes of it lie in their source, one behind another; `None` where they lie in several places, or are a
    /// hole.
    pub(crate) fn place(&self, range: &Range<u64>) -> Option<u64> {
        let index = self.pieces.partition_point(|piece| piece.end() <= range.start);
        let piece = self.pieces.get(index)?;
        (piece.at <= range.start && range.end <= piece.end()).then(|| piece.offset + (range.start - piece.at))
    }

    /// Reads all of it from the beginning, holes as zeros.
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        self.range(0..self.length)
    }

    /// Reads these bytes of it.
    #[must_use]
    pub fn range(&self, range: Range<u64>) -> Reader<'_> {
        Reader { data: self, at: range.start, end: range.end.min(self.length), open: None }
    }

    /// All of it in memory.
    ///
    /// # Errors
    /// More than `most` bytes, and what cannot be read.
    pub fn bytes(&self, most: u64) -> Result<Vec<u8>> {
        if self.length > most {
            return Err(Error::new(format!("it has {} bytes, over the limit of {most}", self.length)));
        }
        let mut bytes = Vec::new();
        self.reader().read_to_end(&mut bytes).context(|| "cannot read a file's contents")?;
        Ok(bytes)
    }

    /// Whether both have the same bytes; holes are as good as zeros.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn same(&self, other: &Self) -> Result<bool> {
        if self.length != other.length {
            return Ok(false);
        }
        // Not what is a hole in both: it may be larger than anyone could read.
        let (ours, theirs) = (self.extents(1), other.extents(1));
        let more = if ours == theirs { Vec::new() } else { theirs };
        for range in ours.into_iter().chain(more) {
            if !self.same_range(other, range)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether both have the same bytes there.
    pub(crate) fn same_range(&self, other: &Self, range: Range<u64>) -> Result<bool> {
        let failed = || "cannot read a file's contents";
        let mut left = range.end.saturating_sub(range.start);
        let most = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
        let (mut a, mut b) = (vec![0; most], vec![0; most]);
        let (mut ours, mut theirs) = (self.range(range.clone()), other.range(range));
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            let (a, b) = (a.get_mut(..count).unwrap_or_default(), b.get_mut(..count).unwrap_or_default());
            ours.read_exact(a).context(failed)?;
            theirs.read_exact(b).context(failed)?;
            if a != b {
                return Ok(false);
            }
            left -= count as u64;
        }
        Ok(true)
    }
}

impl From<Vec<u8>> for Data {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(Arc::<[u8]>::from(bytes))
    }
}

impl From<Arc<[u8]>> for Data {
    fn from(bytes: Arc<[u8]>) -> Self {
        let length = bytes.len() as u64;
        Self::of(&Source::Memory(bytes), 0, length)
    }
}

impl From<&[u8]> for Data {
    fn from(bytes: &[u8]) -> Self {
        Self::from(Arc::<[u8]>::from(bytes))
    }
}

impl From<String> for Data {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

impl From<&str> for Data {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

/// Reads contents in order.
#[derive(Debug)]
pub struct Reader<'a> {
    data: &'a Data,
    at: u64,
    end: u64,
    /// The piece that was read last.
    open: Option<(usize, Opened<'a>)>,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let index = self.data.pieces.partition_point(|piece| piece.end() <= self.at);
        let piece = self.data.pieces.get(index);
        let here = piece.filter(|piece| piece.at <= self.at);
        // Up to the end of the piece, or of the hole before it.
        let until = here.map(Piece::end).or(piece.map(|piece| piece.at)).unwrap_or(self.end).min(self.end);
        let left = usize::try_from(until.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let count = left.min(buffer.len());
        let into = buffer.get_mut(..count).unwrap_or_default();
        match here {
            _ if into.is_empty() => return Ok(0),
            None => into.fill(0),
            Some(piece) => {
                let opened = match self.open.take() {
                    Some((last, opened)) if last == index => opened,
                    _ => piece.source.open()?,
                };
                opened.read_at(into, piece.offset + (self.at - piece.at))?;
                self.open = Some((index, opened));
            }
        }
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn holes_are_zeros_and_pieces_meet() {
        let source = Source::Memory(b"0123456789"[..].into());
        let mut data = Data::hole(30);
        data.fill(2, 3, &source, 0).unwrap();
        data.fill(5, 2, &source, 3).unwrap();
        data.fill(20, 10, &source, 0).unwrap();
        assert_eq!(data.pieces.len(), 2, "what is one piece becomes one");
        assert_eq!(data.bytes(30).unwrap(), b"\0\x0001234\0\0\0\0\0\0\0\0\0\0\0\0\x000123456789");
        assert!(data.is_sparse() && data.bytes(29).is_err());
        assert_eq!(data.extents(8), [0..8, 16..30]);
        let mut middle = Vec::new();
        data.range(6..21).read_to_end(&mut middle).unwrap();
        assert_eq!(middle, b"4\0\0\0\0\0\0\0\0\0\0\0\0\x000");
        assert!(data.same(&data.bytes(30).unwrap().into()).unwrap());
        assert!(!data.same(&Data::hole(30)).unwrap() && !data.same(&Data::hole(31)).unwrap());
        for (at, length, offset) in [(29, 1, 0), (30, 1, 0), (u64::MAX, 1, 0), (30, u64::MAX, 0)] {
            assert!(data.fill(at, length, &source, offset).is_err(), "{at} {length}");
        }
        let mut data = Data::hole(u64::MAX);
        assert!(data.fill(0, 5, &source, u64::MAX - 1).is_err());
        data.fill(u64::MAX - 5, 5, &source, 0).unwrap();
        assert_eq!(data.extents(4096).last().unwrap().end, u64::MAX);
        assert!(data.same(&data.clone()).unwrap() && !data.same(&Data::hole(u64::MAX)).unwrap());
        // A source that is shorter than it was.
        assert!(Data::of(&source, 8, 3).bytes(9).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_pieces_read_as_what_they_are(
            gaps in proptest::collection::vec((0_u64..20, 0_u64..20, 0_u64..100), 0..12), step in 1_usize..50,
        ) {
            let bytes: Vec<u8> = (1..=200).collect();
            let source = Source::Memory(bytes.clone().into());
            let length: u64 = gaps.iter().map(|(hole, piece, _)| hole + piece).sum();
            let (mut data, mut expected) = (Data::hole(length), Vec::<u8>::new());
            for (hole, piece, offset) in gaps {
                expected.resize(expected.len() + hole as usize, 0);
                data.fill(expected.len() as u64, piece, &source, offset).unwrap();
                expected.extend(&bytes[offset as usize..(offset + piece) as usize]);
            }
            let (mut reader, mut read, mut buffer) = (data.reader(), Vec::<u8>::new(), vec![0; step]);
            loop {
                let count = reader.read(&mut buffer).unwrap();
                if count == 0 {
                    break;
                }
                read.extend(&buffer[..count]);
            }
            prop_assert_eq!(&read, &expected);
            for (at, byte) in (0_u64..).zip(&expected) {
                prop_assert!(*byte == 0 || data.extents(8).iter().any(|extent| extent.contains(&at)));
            }
        }
    }
}
