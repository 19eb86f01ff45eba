//! What has been written where, so that it can be compared with what is read back.

use sha2::{Digest, Sha256};

/// The hash of each chunk that was written, and where there have to be zeros.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Vec<Entry>,
}

/// Bytes that follow each other.
#[derive(Debug)]
pub(super) struct Entry {
    start: u64,
    end: u64,
    /// The SHA-256 of each chunk; none where all is zeros.
    hashes: Option<Vec<[u8; 32]>>,
}

impl Ledger {
    /// Notes that `data` belongs to byte `start`, in chunks of `chunk` bytes.
    pub(super) fn add(&mut self, start: u64, data: &[u8], chunk: usize) {
        let hashes = data.chunks(chunk).map(|chunk| Sha256::digest(chunk).into()).collect();
        self.entries.push(Entry { start, end: start + data.len() as u64, hashes: Some(hashes) });
    }

    /// Notes that zeros belong to the bytes from `start` to `end`.
    pub(super) fn add_zeros(&mut self, start: u64, end: u64) {
        self.entries.push(Entry { start, end, hashes: None });
    }

    /// How many bytes are to be compared.
    pub(super) fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.end - entry.start).sum()
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

impl Entry {
    /// The first byte, and the first one behind.
    pub(super) fn place(&self) -> (u64, u64) {
        (self.start, self.end)
    }

    /// Where `there`, which was read at byte `at`, a whole number of chunks behind the entry's beginning, differs from
    /// what belongs there: the first byte, and the first one behind.
    pub(super) fn difference(&self, at: u64, there: &[u8], chunk: usize) -> Option<(u64, u64)> {
        let Some(hashes) = &self.hashes else {
            let first = there.iter().position(|&byte| byte != 0)?;
            return Some((at + first as u64, at + first as u64 + 1));
        };
        let skipped = usize::try_from(at - self.start).unwrap_or(usize::MAX) / chunk;
        let mut wanted = hashes.iter().skip(skipped);
        let mut place = at;
        for chunk in there.chunks(chunk) {
            let end = place + chunk.len() as u64;
            if wanted.next() != Some(&Sha256::digest(chunk).into()) {
                return Some((place, end));
            }
            place = end;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_has_its_place() {
        let mut ledger = Ledger::default();
        ledger.add(100, &[1; 25], 10);
        ledger.add_zeros(200, 300);
        assert_eq!(ledger.bytes(), 125);
        let [data, zeros] = ledger.entries() else { panic!("two entries") };
        assert_eq!(data.difference(100, &[1; 25], 10), None);
        assert_eq!(data.difference(110, &[1; 15], 10), None);
        let mut there = [1; 15];
        there[12] = 2;
        assert_eq!(data.difference(110, &there, 10), Some((120, 125)));
        assert_eq!(zeros.difference(200, &[0; 100], 10), None);
        assert_eq!(zeros.difference(250, &[0, 0, 3], 10), Some((252, 253)));
    }
}
