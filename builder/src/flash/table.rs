//! An image's partition table, read to tell people where something is (a byte in which partition, a second copy of the
//! table in which place), and which stretches of a medium may be taken as unchanged.
//!
//! By the UEFI specification 2.10, chapter 5. What is written depends on it only in the latter, where it is the table that
//! this program has put there itself; one that makes no sense is none.

use crate::cache::hex;
use crate::verify::{u32_at, u64_at};

/// What begins the header of a GPT.
pub(super) const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Bytes of a block, in an image.
const BLOCK: u64 = 512;
/// Entries that are looked at; more than any image has.
const ENTRIES: u64 = 256;

/// A partition's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partition {
    /// Its number and name, in words.
    pub(super) name: String,
    /// Its first byte.
    pub(super) start: u64,
    /// The first byte behind it.
    pub(super) end: u64,
}

/// The partitions of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) partitions: Vec<Partition>,
    /// What tells the medium from others: the disk's GUID, or the signature of a master boot record.
    pub(super) identifier: Option<String>,
    /// The byte at which the header of the second copy begins.
    pub(super) backup: Option<u64>,
}

impl Table {
    /// The table at the beginning of an image, of which these are the first bytes.
    pub(super) fn of(head: &[u8]) -> Self {
        if head.get(512..520) == Some(SIGNATURE) {
            return Self::of_gpt(head).unwrap_or_default();
        }
        if head.get(510..512) != Some(&[0x55, 0xaa]) {
            return Self::default();
        }
        let entries = head.get(446..510).unwrap_or_default().chunks_exact(16).zip(1..);
        let partitions = entries.filter_map(|(entry, number)| {
            let first = u64::from(u32_at(entry, 8).ok()?);
            let count = u64::from(u32_at(entry, 12).ok()?);
            let (start, end) = (first * BLOCK, (first + count) * BLOCK);
            (count > 0).then(|| Partition { name: format!("partition {number}"), start, end })
        });
        let signature = u32_at(head, 440).ok().filter(|&signature| signature != 0);
        Self {
            partitions: partitions.collect(),
            identifier: signature.map(|signature| format!("{signature:08x}")),
            backup: None,
        }
    }

    fn of_gpt(head: &[u8]) -> Option<Self> {
        let header = head.get(512..1024)?;
        let backup = u64_at(header, 32).ok()?.checked_mul(BLOCK);
        let at = u64_at(header, 72).ok()?.checked_mul(BLOCK)?;
        let count = u64::from(u32_at(header, 80).ok()?).min(ENTRIES);
        let size = u64::from(u32_at(header, 84).ok()?);
        let mut partitions = Vec::new();
        for number in 0..count {
            let start = usize::try_from(number.checked_mul(size)?.checked_add(at)?).ok()?;
            let Some(entry) = start.checked_add(128).and_then(|end| head.get(start..end)) else { break };
            let (first, last) = (u64_at(entry, 32).ok()?, u64_at(entry, 40).ok()?);
            if entry.iter().take(16).all(|&byte| byte == 0) {
                continue;
            }
            let units = entry.get(56..)?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
            let name: String = char::decode_utf16(units.take_while(|&unit| unit != 0))
                .map(|unit| unit.ok().filter(|c| !c.is_control()).unwrap_or('?'))
                .collect();
            let end = last.checked_add(1)?.checked_mul(BLOCK)?;
            let name = format!("partition {} (`{name}`)", number + 1);
            partitions.push(Partition { name, start: first.checked_mul(BLOCK)?, end });
        }
        let guid = header.get(56..72)?;
        let identifier = guid.iter().any(|&byte| byte != 0).then(|| hex(guid));
        Some(Self { partitions, identifier, backup })
    }

    /// The partition that the byte `at` lies in.
    pub(super) fn inside(&self, at: u64) -> Option<&str> {
        let found = self.partitions.iter().find(|partition| (partition.start..partition.end).contains(&at));
        found.map(|partition| partition.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_place_has_the_name_of_its_partition() {
        let mut mbr = vec![0; 1024];
        mbr[510..512].copy_from_slice(&[0x55, 0xaa]);
        mbr[446 + 16 + 8..][..8].copy_from_slice(&[0, 8, 0, 0, 2, 0, 0, 0]);
        let table = Table::of(&mbr);
        assert_eq!(table.inside(2048 * 512), Some("partition 2"));
        assert_eq!((table.inside(2050 * 512), table.inside(0)), (None, None));
        assert_eq!(table.identifier, None);
        mbr[440..444].copy_from_slice(&[4, 3, 2, 1]);
        assert_eq!(Table::of(&mbr).identifier.as_deref(), Some("01020304"));

        let mut gpt = vec![0; 4096];
        gpt[512..520].copy_from_slice(SIGNATURE);
        gpt[512 + 32..][..8].copy_from_slice(&99_u64.to_le_bytes());
        gpt[512 + 72..][..16].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 128, 0, 0, 0]);
        gpt[1024 + 128] = 1;
        gpt[1024 + 128 + 32..][..16].copy_from_slice(&[64, 0, 0, 0, 0, 0, 0, 0, 65, 0, 0, 0, 0, 0, 0, 0]);
        gpt[1024 + 128 + 56..][..4].copy_from_slice(b"a\0\x07\0");
        let table = Table::of(&gpt);
        assert_eq!(
            (table.inside(65 * 512 + 511), table.backup),
            (Some("partition 2 (`a?`)"), Some(99 * 512))
        );
        assert_eq!(table.identifier, None, "a GUID of zeros is none");
        gpt[512 + 56] = 0xab;
        assert_eq!(Table::of(&gpt).identifier, Some(format!("ab{}", "00".repeat(15))));
    }

    proptest! {
        #[test]
        fn no_table_makes_it_panic(mut head in proptest::collection::vec(any::<u8>(), 0..2048), gpt in any::<bool>()) {
            if gpt && head.len() >= 520 {
                head[512..520].copy_from_slice(SIGNATURE);
            }
            let _ = Table::of(&head).inside(4096);
        }
    }
}
