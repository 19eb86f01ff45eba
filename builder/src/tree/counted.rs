//! A stream that knows how far it is, for formats that pad.

use std::io::{self, BufReader, Write};

use super::Data;

/// Bytes that are copied at once.
const BUFFER: usize = 1 << 17;

pub(super) struct Counted<W> {
    to: W,
    at: u64,
}

impl<W: Write> Counted<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, at: 0 }
    }

    /// Writes zeros up to the next multiple of `to`.
    pub(super) fn pad(&mut self, to: u64) -> io::Result<()> {
        let count = self.at.next_multiple_of(to) - self.at;
        io::copy(&mut Data::hole(count).reader(), self).map(|_| ())
    }

    /// Copies this part of `data`.
    pub(super) fn copy(&mut self, data: &Data, range: std::ops::Range<u64>) -> io::Result<()> {
        let length = range.end.saturating_sub(range.start);
        let buffer = usize::try_from(length).unwrap_or(BUFFER).min(BUFFER);
        io::copy(&mut BufReader::with_capacity(buffer, data.range(range)), self).map(|_| ())
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
