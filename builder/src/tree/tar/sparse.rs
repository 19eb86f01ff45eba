//! Where the pieces of a sparse file lie: the four ways that GNU tar has had of saying it (its manual, "Storing Sparse
//! Files").

use super::BLOCK;
use super::pax::{Records, bad, number};
use crate::error::{Error, Result, ResultExt};
use crate::tree::{Data, MAX_PIECES, Source};

/// Longest number in a map at the beginning of a file's contents, with its line end.
const DIGITS: usize = 21;

/// Pieces as they stand in an archive, one behind the other.
pub(super) struct Map {
    /// The file's length.
    length: u64,
    /// Offset in the file and length of each piece.
    pieces: Vec<(u64, u64)>,
    /// Bytes of the contents that are map and no piece.
    skip: u64,
}

impl Map {
    /// The map that the pax records have or speak of; `None` for a file without holes. The contents are the `stored` bytes
    /// of `archive` from byte `start` on.
    pub(super) fn of_records(
        records: &Records,
        archive: &Source,
        start: u64,
        stored: u64,
    ) -> Result<Option<Self>> {
        if records.get("GNU.sparse.major").is_some() {
            let version = (records.number("GNU.sparse.major")?, records.number("GNU.sparse.minor")?);
            if version != (Some(1), Some(0)) {
                return Err(Error::new("is sparse in a form that is not known"));
            }
            let length = records.number("GNU.sparse.realsize")?;
            let length = length.ok_or_else(|| bad("GNU.sparse.realsize"))?;
            return Self::in_contents(length, archive, start, stored).map(Some);
        }
        let Some(length) = records.number("GNU.sparse.size")? else { return Ok(None) };
        let mut numbers: Vec<&[u8]> = Vec::new();
        match records.get("GNU.sparse.map") {
            Some(map) => numbers.extend(map.split(|&byte| byte == b',')),
            None => {
                let pairs = records.all("GNU.sparse.offset").zip(records.all("GNU.sparse.numbytes"));
                numbers.extend(pairs.flat_map(|(offset, length)| [offset, length]));
            }
        }
        let damaged = || bad("GNU.sparse.map");
        let numbers: Vec<u64> = numbers.into_iter().map(number).collect::<Option<_>>().ok_or_else(damaged)?;
        let (pairs, []) = numbers.as_chunks() else { return Err(damaged()) };
        let pieces = pairs.iter().map(|&[offset, length]| (offset, length)).collect();
        Ok(Some(Self { length, pieces, skip: 0 }))
    }

    /// The map of version 1.0: lines with a number each, first how many pieces there are.
    fn in_contents(length: u64, archive: &Source, start: u64, stored: u64) -> Result<Self> {
        let damaged = || Error::new("has a damaged map of its holes");
        let (mut block, mut used, mut skip) = ([0; BLOCK as usize], BLOCK as usize, 0);
        let mut next = || -> Result<u64> {
            let mut digits = Vec::new();
            loop {
                if used == block.len() {
                    if skip + BLOCK > stored {
                        return Err(damaged());
                    }
                    archive.read_at(&mut block, start + skip).context(|| "cannot read the archive")?;
                    skip += BLOCK;
                    used = 0;
                }
                let byte = *block.get(used).ok_or_else(damaged)?;
                used += 1;
                if byte == b'\n' {
                    return number(&digits).ok_or_else(damaged);
                }
                digits.push(byte);
                if digits.len() == DIGITS {
                    return Err(damaged());
                }
            }
        };
        let count = next()?;
        // Memory grows with what is there, not with what is said.
        let mut pieces = Vec::new();
        for _ in 0..count {
            pieces.push((next()?, next()?));
            few(&pieces)?;
        }
        Ok(Self { length, pieces, skip })
    }

    /// The map in an old GNU header and the blocks behind it, and how many bytes those have.
    pub(super) fn of_header(header: &tar::Header, archive: &Source, start: u64) -> Result<(Self, u64)> {
        let damaged = || "has a damaged map of its holes";
        let gnu = header.as_gnu().ok_or_else(|| Error::new(damaged()))?;
        let (mut pieces, mut behind) = (Vec::new(), 0);
        let mut add = |all: &[tar::GnuSparseHeader]| -> Result<()> {
            for piece in all.iter().filter(|piece| !piece.is_empty()) {
                pieces.push((piece.offset().context(damaged)?, piece.length().context(damaged)?));
            }
            few(&pieces)
        };
        add(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            archive.read_at(block.as_mut_bytes(), start + behind).context(damaged)?;
            behind += BLOCK;
            add(block.sparse())?;
            more = block.is_extended();
        }
        let length = gnu.real_size().context(damaged)?;
        Ok((Self { length, pieces, skip: 0 }, behind))
    }

    /// The contents, of which `stored` bytes lie in `archive` from byte `start` on.
    pub(super) fn data(self, archive: &Source, start: u64, stored: u64) -> Result<Data> {
        let mut data = Data::hole(self.length);
        let mut at = self.skip;
        for (offset, length) in self.pieces {
            let end = at.checked_add(length).filter(|end| *end <= stored);
            let end = end.ok_or_else(|| Error::new("has more in its map of holes than there is"))?;
            data.fill(offset, length, archive, start + at)?;
            at = end;
        }
        Ok(data)
    }
}

/// Refuses what no file has.
fn few(pieces: &[(u64, u64)]) -> Result<()> {
    if pieces.len() > MAX_PIECES {
        return Err(Error::new(format!("is in more than {MAX_PIECES} pieces")));
    }
    Ok(())
}
