//! What is to be done with a medium.

use super::trust::Trust;
use crate::error::Result;
use crate::image::BlockMap;
use clap::ValueEnum;

/// What of a medium is compared before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Update {
    /// Everything
    All,
    /// What differs from the image that this machine put there last, and file systems written to since
    Changed,
}

/// An image, and how it gets onto a medium.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order<'a> {
    /// The image's ranges.
    pub(super) map: &'a BlockMap,
    /// Whether what is there is read, and only what differs is written.
    pub(super) update: bool,
    /// What is not even read.
    pub(super) trust: &'a Trust,
    /// Where things are.
    pub(super) geometry: Geometry,
}

impl Order<'_> {
    /// Bytes of ranges that are trusted whole: nobody reads them, of the image neither.
    pub(super) fn passed_over(&self) -> u64 {
        let places = self.map.ranges().iter().map(|range| self.map.bytes(range));
        places.filter(|&(start, end)| self.trust.covers(start..end)).map(|(start, end)| end - start).sum()
    }
}

/// What is measured in a test and what is so in the world: bytes of the things that have a place of their own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    /// The beginning that is written last: it holds tables and boot stages.
    pub(super) head: usize,
    /// What is written at the very end: both kinds of table begin here.
    pub(super) table: usize,
    /// The end of a medium, where second copies of things are.
    pub(super) tail: u64,
    /// What is compared, hashed, and written where it differs.
    pub(super) chunk: usize,
    /// What is read at once.
    pub(super) stride: usize,
}

impl Geometry {
    /// Those of real media.
    pub(super) const USUAL: Self =
        Self { head: 1 << 20, table: 4096, tail: 1 << 20, chunk: 64 << 10, stride: 1 << 20 };

    /// What of a medium of `size` bytes may be taken as unchanged at all: tables are never, nor what is cleared with them.
    pub(super) fn open(&self, size: u64) -> std::ops::Range<u64> {
        self.head as u64..size.saturating_sub(self.tail)
    }
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The image's pieces are written, or compared with what is there.
    Write,
    /// What was written is read back.
    Verify,
}

/// Somebody who is told of it.
pub(super) trait Watch {
    /// The medium is about to be written to.
    ///
    /// # Errors
    ///
    /// A reason not to.
    fn begins(&mut self) -> Result<()>;

    /// `done` of `total` bytes are through.
    fn moved(&mut self, stage: Stage, done: u64, total: u64);
}
