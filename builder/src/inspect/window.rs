//! A read-only piece of what is inspected.
//!
//! All pieces of one medium draw on one allowance: structures that lead in circles, or say that they are large, cost no
//! more than that.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result, ResultExt};

/// What may be read of one medium altogether, in bytes, a single read counting for at least [`LEAST`].
const ALLOWANCE: u64 = 8 << 30;
/// What a read costs at least.
const LEAST: u64 = 512;
/// The longest single read.
pub(super) const LONGEST: u64 = 64 << 20;

/// Bytes from `start` on, `size` of them.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    medium: Arc<Medium>,
    start: u64,
    size: u64,
}

#[derive(Debug)]
struct Medium {
    bytes: Bytes,
    left: AtomicU64,
}

#[derive(Debug)]
enum Bytes {
    File(File),
    #[cfg(test)]
    Memory(Vec<u8>),
}

impl Window {
    /// The first `size` bytes of `file`.
    pub(crate) fn of_file(file: File, size: u64) -> Self {
        Self::new(Bytes::File(file), size)
    }

    /// All of `bytes`.
    #[cfg(test)]
    pub(super) fn of_memory(bytes: Vec<u8>) -> Self {
        let size = bytes.len() as u64;
        Self::new(Bytes::Memory(bytes), size)
    }

    fn new(bytes: Bytes, size: u64) -> Self {
        let medium = Medium { bytes, left: AtomicU64::new(ALLOWANCE) };
        Self { medium: Arc::new(medium), start: 0, size }
    }

    /// The size in bytes.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// The part from `start` on with at most `size` bytes: what there is of it.
    pub(crate) fn part(&self, start: u64, size: u64) -> Self {
        let begin = start.min(self.size);
        Self {
            medium: Arc::clone(&self.medium),
            start: self.start + begin,
            size: size.min(self.size - begin),
        }
    }

    /// `size` bytes at `at`.
    ///
    /// # Errors
    /// When they are not all there or cannot be read, and when the allowance is used up.
    pub(super) fn read(&self, at: u64, size: u64) -> Result<Vec<u8>> {
        if size > LONGEST || at.checked_add(size).is_none_or(|end| end > self.size) {
            return Err(Error::new(format!("there are no {size} bytes at byte {at:#x}")));
        }
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(0)];
        self.fill(at, &mut buffer)?;
        Ok(buffer)
    }

    /// As many of `size` bytes at `at` as there are.
    ///
    /// # Errors
    /// When they cannot be read, and when the allowance is used up.
    pub(crate) fn up_to(&self, at: u64, size: u64) -> Result<Vec<u8>> {
        self.read(at.min(self.size), size.min(LONGEST).min(self.size.saturating_sub(at)))
    }

    /// Fills `into` with the bytes from `at` on.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn fill(&self, at: u64, into: &mut [u8]) -> Result<()> {
        let size = into.len() as u64;
        if at.checked_add(size).is_none_or(|end| end > self.size) {
            return Err(Error::new(format!("there are no {size} bytes at byte {at:#x}")));
        }
        let paid = |left: u64| left.checked_sub(size.max(LEAST));
        if self.medium.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid).is_err() {
            return Err(Error::new("what is to be read has no end: its structures lead in circles"));
        }
        let at = self.start + at;
        match &self.medium.bytes {
            Bytes::File(file) => file
                .read_exact_at(into, at)
                .context(|| format!("cannot read byte {at:#x} and those behind it")),
            #[cfg(test)]
            Bytes::Memory(bytes) => {
                let there = usize::try_from(at).ok().and_then(|at| bytes.get(at..)?.get(..into.len()));
                into.copy_from_slice(there.ok_or_else(|| Error::new("bytes that were there are gone"))?);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_never_more_than_the_whole() {
        let whole = Window::of_memory((0..100).collect());
        let part = whole.part(90, 50);
        assert_eq!((part.size(), part.read(0, 2).unwrap()), (10, vec![90, 91]));
        assert!(
            part.read(9, 2).is_err() && part.read(u64::MAX, 2).is_err() && part.read(0, u64::MAX).is_err()
        );
        assert_eq!((part.up_to(9, 20).unwrap(), part.up_to(200, 20).unwrap()), (vec![99], vec![]));
        assert_eq!(whole.part(u64::MAX, u64::MAX).size(), 0);
    }

    #[test]
    fn the_allowance_ends_what_has_no_end() {
        let whole = Window::of_memory(vec![0; 4096]);
        whole.medium.left.store(1000, Ordering::Relaxed);
        assert!(whole.read(0, 1).is_ok() && whole.part(0, 600).read(0, 1).is_err());
    }
}
