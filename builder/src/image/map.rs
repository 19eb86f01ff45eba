//! Which blocks of an image have to be written, and with what hash.

use crate::error::{Error, Result};
use sha2::{Digest, Sha256};

/// The bytes of a block in a map that is made here.
pub(super) const BLOCK: u64 = 4096;
/// Zeros of fewer bytes than this between two ranges are written with them: it costs less than a range of its own, and
/// bounds how many ranges an image can have.
pub(super) const GAP: u64 = 64 << 10;

/// What an image has where no range is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Zeros, which are part of it: free clusters, empty tables, the inside of files.
    Zero,
    /// Nothing that counts: whoever made the map says that these blocks are not in use.
    Any,
}

/// Blocks that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The first block.
    pub first: u64,
    /// How many there are; at least one.
    pub count: u64,
    /// The SHA-256 of their bytes. That of the last one ends where the image does.
    pub sha256: Option<[u8; 32]>,
}

/// The blocks of an image that have to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMap {
    block_size: u64,
    image_size: u64,
    ranges: Vec<Range>,
    rest: Rest,
}

impl BlockMap {
    /// The map with these ranges.
    ///
    /// # Errors
    ///
    /// Sizes of no bytes, blocks that are no multiple of 512 bytes or larger than 16 MiB, and ranges that are empty,
    /// out of order, or beyond the image.
    pub fn new(block_size: u64, image_size: u64, ranges: Vec<Range>, rest: Rest) -> Result<Self> {
        if image_size == 0 {
            return Err(Error::new("the image is empty"));
        }
        if image_size > i64::MAX as u64 {
            return Err(Error::new(format!("no image has {image_size} bytes")));
        }
        if block_size == 0 || !block_size.is_multiple_of(512) || block_size > 16 << 20 {
            return Err(Error::new(format!("a block of {block_size} bytes cannot be")));
        }
        let blocks = image_size.div_ceil(block_size);
        let mut end = 0;
        for range in &ranges {
            let Some(behind) = range.first.checked_add(range.count).filter(|&behind| behind <= blocks) else {
                return Err(Error::new(format!(
                    "the range of {} blocks from block {} on ends beyond the image's {blocks}",
                    range.count, range.first
                )));
            };
            if range.count == 0 || range.first < end {
                return Err(Error::new(format!(
                    "the range that begins at block {} is empty, or does not come after the one before it",
                    range.first
                )));
            }
            end = behind;
        }
        Ok(Self { block_size, image_size, ranges, rest })
    }

    /// The image's size in bytes.
    pub fn image_size(&self) -> u64 {
        self.image_size
    }

    /// The bytes of a block.
    pub fn block_size(&self) -> u64 {
        self.block_size
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// What is where no range is.
    pub fn rest(&self) -> Rest {
        self.rest
    }

    /// The same with another meaning of what is in no range.
    #[must_use]
    pub(crate) fn with_rest(self, rest: Rest) -> Self {
        Self { rest, ..self }
    }

    /// The first byte of `range` and the first one behind it.
    pub fn bytes(&self, range: &Range) -> (u64, u64) {
        let end = (range.first + range.count).saturating_mul(self.block_size);
        (range.first * self.block_size, end.min(self.image_size))
    }

    /// How many bytes are in ranges.
    pub fn mapped(&self) -> u64 {
        self.ranges.iter().map(|range| self.bytes(range)).map(|(start, end)| end - start).sum()
    }

    /// What tells this image from any other: a hash of the map. `None` where not every range has a hash.
    pub fn identity(&self) -> Option<[u8; 32]> {
        let mut hash = Sha256::new();
        let rest = u64::from(self.rest == Rest::Any);
        for number in [self.block_size, self.image_size, rest, self.ranges.len() as u64] {
            hash.update(number.to_le_bytes());
        }
        for range in &self.ranges {
            hash.update(range.first.to_le_bytes());
            hash.update(range.count.to_le_bytes());
            hash.update(range.sha256?);
        }
        Some(hash.finalize().into())
    }
}

/// Makes the map of an image from its bytes, which come in order.
#[derive(Debug)]
pub(super) struct Surveyor {
    ranges: Vec<Range>,
    /// The range that is not ended: its first block, the blocks up to the last that is not zero, and their hash.
    open: Option<(u64, u64, Sha256)>,
    /// Blocks of zeros behind the open range.
    zeros: u64,
    /// The block that comes next.
    block: u64,
}

impl Surveyor {
    pub(super) fn new() -> Self {
        Self { ranges: Vec::new(), open: None, zeros: 0, block: 0 }
    }

    /// Takes the next bytes: whole blocks, but for the image's last one.
    pub(super) fn take(&mut self, data: &[u8]) {
        for block in data.chunks(BLOCK as usize) {
            if is_zero(block) {
                self.skip(1);
                continue;
            }
            let (_, count, hash) = self.open.get_or_insert_with(|| (self.block, 0, Sha256::new()));
            for _ in 0..self.zeros {
                hash.update([0; BLOCK as usize]);
            }
            hash.update(block);
            *count += self.zeros + 1;
            self.zeros = 0;
            self.block += 1;
        }
    }

    /// Takes `count` blocks of zeros.
    pub(super) fn skip(&mut self, count: u64) {
        self.block += count;
        if self.open.is_some() {
            self.zeros += count;
            if self.zeros * BLOCK >= GAP {
                self.end();
            }
        }
    }

    fn end(&mut self) {
        if let Some((first, count, hash)) = self.open.take() {
            self.ranges.push(Range { first, count, sha256: Some(hash.finalize().into()) });
        }
        self.zeros = 0;
    }

    /// The map of an image of `size` bytes.
    pub(super) fn finish(mut self, size: u64) -> Result<BlockMap> {
        self.end();
        BlockMap::new(BLOCK, size, self.ranges, Rest::Zero)
    }
}

/// Whether there is nothing but zeros.
pub(crate) fn is_zero(data: &[u8]) -> bool {
    data.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, count: u64) -> Range {
        Range { first, count, sha256: None }
    }

    #[test]
    fn ranges_that_cannot_be_are_refused() {
        let map = |ranges: Vec<Range>| BlockMap::new(4096, 10_000, ranges, Rest::Any);
        let good = map(vec![range(0, 1), range(2, 1)]).unwrap();
        assert_eq!((good.mapped(), good.bytes(&good.ranges()[1])), (4096 + 1808, (8192, 10_000)));
        assert_eq!(good.identity(), None);
        for bad in [
            vec![range(0, 0)],
            vec![range(3, 1)],
            vec![range(1, u64::MAX)],
            vec![range(0, 2), range(1, 1)],
            vec![range(1, 1), range(0, 1)],
        ] {
            assert!(map(bad.clone()).is_err(), "{bad:?}");
        }
        for (block, size) in [(0, 1), (511, 1), (32 << 20, 1), (4096, 0), (4096, u64::MAX)] {
            assert!(BlockMap::new(block, size, Vec::new(), Rest::Any).is_err(), "{block} {size}");
        }
    }

    #[test]
    fn a_survey_joins_what_is_near_and_leaves_out_zeros() {
        let mut data = vec![0; 400_000];
        data[5000] = 1;
        data[5000 + (16 << 10)] = 2;
        data[399_999] = 3;
        let mut surveyor = Surveyor::new();
        surveyor.take(&data);
        let map = surveyor.finish(data.len() as u64).unwrap();
        let places: Vec<_> = map.ranges().iter().map(|range| map.bytes(range)).collect();
        assert_eq!(places, [(4096, 24576), (397_312, 400_000)]);
        for (range, (start, end)) in map.ranges().iter().zip(places) {
            let hash: [u8; 32] = Sha256::digest(&data[start as usize..end as usize]).into();
            assert_eq!(range.sha256, Some(hash));
        }
        assert!(map.identity().is_some());
    }
}
