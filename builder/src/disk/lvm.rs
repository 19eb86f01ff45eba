//! An LVM2 volume group on one partition, as lvm2 finds it at first boot: label, metadata area, linear volumes.
//!
//! Follows lvm2's format as `pvck --dump` (lvm2 2.03) shows it: a label in sector 1 names the physical volume, its data
//! from 1 MiB on, and the metadata area from 4 KiB on; that begins with a header which points at the text that describes
//! the group. Label and header carry a CRC-32, the header also that of the text.

use super::sparse::Writer;
use super::{Content, VolumeGroup};
use crate::error::{Error, Result, ResultExt};
use std::fmt::Write as _;

/// Bytes of a sector, in which the metadata counts.
const SECTOR: u64 = 512;
/// Where the metadata area begins, in bytes of the physical volume.
const AREA: u64 = 4096;
/// Where it ends, and volumes begin.
pub(crate) const DATA: u64 = 1 << 20;
/// Where the text begins, in bytes of the metadata area: behind its header.
const TEXT: u64 = SECTOR;
/// Longest text: half of the area, since lvm2 writes the next version beside the last.
const MAX_TEXT: usize = 256 << 10;
/// What begins the header of a metadata area.
const AREA_MAGIC: &[u8; 16] = b" LVM2 x[5A%r0N*>";
/// What a checksum of LVM2 starts from.
const CRC_START: u32 = 0xf597_a6cf;
/// The digits of LVM's UUIDs.
const DIGITS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Groups of characters in a UUID as it is printed.
const GROUPS: [usize; 7] = [6, 4, 4, 4, 4, 4, 6];
/// Names that lvm2 keeps for itself, whole or as beginnings.
const RESERVED_STARTS: [&str; 3] = ["snapshot", "pvmove", "lvmlock"];
/// Parts of names that lvm2 keeps for itself (lvm(8), "Valid names").
const RESERVED_PARTS: [&str; 16] = [
    "_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_wcorig", "_imeta", "_iorig", "_mimage", "_mlog",
    "_pmspare", "_rimage", "_rmeta", "_tdata", "_tmeta", "_vorigin",
];

/// Bytes of an extent: volumes are multiples of it. lvm2's usual size.
pub const EXTENT: u64 = 4 << 20;

/// Bytes of the partition for volumes of these sizes and `free` bytes for more.
#[must_use]
pub fn lvm_size(volumes: impl IntoIterator<Item = u64>, free: u64) -> u64 {
    let extents = |bytes: u64| bytes.div_ceil(EXTENT);
    let all = volumes.into_iter().map(extents).fold(extents(free), u64::saturating_add);
    all.saturating_mul(EXTENT).saturating_add(DATA)
}

/// A UUID as LVM writes it, from 16 bytes of a hash: 32 letters and digits, in printed groups.
#[must_use]
pub fn lvm_uuid(hash: [u8; 16]) -> String {
    let mut number = u128::from_be_bytes(hash);
    let mut text = String::new();
    for (index, group) in GROUPS.iter().enumerate() {
        if index > 0 {
            text.push('-');
        }
        for _ in 0..*group {
            let digit = DIGITS.get((number % 62) as usize).copied().unwrap_or(b'0');
            text.push(char::from(digit));
            // 128 bits are 21 digits; the rest come from the same bits, turned.
            number = (number / 62).rotate_left(17) ^ u128::from(digit);
        }
    }
    text
}

/// Why `name` cannot be that of a volume group or a volume, if it cannot (lvm(8), "Valid names").
#[must_use]
pub fn lvm_name_fault(name: &str) -> Option<String> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'_' | b'.' | b'-');
    if name.is_empty() || name.len() > 60 || name.starts_with(['-', '.']) || !name.bytes().all(letter) {
        return Some(format!(
            "`{}` is not 1 to 60 letters, digits, `+`, `_`, `.` and `-`, beginning with none of the last two",
            name.escape_default()
        ));
    }
    let kept = RESERVED_STARTS.iter().find(|start| name.starts_with(**start));
    let kept = kept.or_else(|| RESERVED_PARTS.iter().find(|part| name.contains(**part)));
    kept.map(|word| format!("`{name}` has `{word}` in it, which lvm2 keeps for itself"))
}

impl VolumeGroup {
    /// The first byte of each volume, counted from the partition's, and its size.
    pub(super) fn places(&self) -> impl Iterator<Item = (u64, u64)> {
        self.volumes.iter().scan(DATA, |next, volume| {
            let (start, size) = (*next, volume.size.div_ceil(EXTENT).saturating_mul(EXTENT));
            *next = next.saturating_add(size);
            Some((start, size))
        })
    }

    /// Checks names and that the volumes fit into `size` bytes.
    pub(super) fn check(&self, size: u64) -> Result<()> {
        for (index, volume) in self.volumes.iter().enumerate() {
            if let Some(fault) = lvm_name_fault(&volume.name) {
                return Err(Error::new(fault));
            }
            if self.volumes.iter().take(index).any(|other| other.name == volume.name) {
                return Err(Error::new(format!("the volume `{}` is there twice", volume.name)));
            }
            if volume.size == 0 {
                return Err(Error::new(format!("the volume `{}` is empty", volume.name)));
            }
            if matches!(volume.content, Content::Lvm(_)) {
                return Err(Error::new(format!("the volume `{}` holds a volume group", volume.name)));
            }
        }
        let end = self.places().map(|(start, size)| start.saturating_add(size)).max().unwrap_or(DATA);
        if let Some(fault) = lvm_name_fault(&self.name) {
            return Err(Error::new(fault));
        }
        if end > size {
            let text = format!("the volumes need {end} bytes, and the partition has {size}");
            return Err(Error::new(text));
        }
        Ok(())
    }

    /// The text that describes the group on a partition of `size` bytes, made at `epoch`. Its syntax is that of lvm.conf(5).
    fn text(&self, size: u64, epoch: u64) -> String {
        let extents = size.saturating_sub(DATA) / EXTENT;
        let mut text = format!(
            "{} {{\nid = \"{}\"\nseqno = 1\nformat = \"lvm2\"\nstatus = [\"RESIZEABLE\", \"READ\", \"WRITE\"]\n\
             flags = []\nextent_size = {}\nmax_lv = 0\nmax_pv = 0\nmetadata_copies = 0\n\n\
             physical_volumes {{\n\npv0 {{\nid = \"{}\"\nstatus = [\"ALLOCATABLE\"]\nflags = []\ndev_size = {}\n\
             pe_start = {}\npe_count = {extents}\n}}\n}}\n\n",
            self.name,
            self.uuid,
            EXTENT / SECTOR,
            self.physical_uuid,
            size / SECTOR,
            DATA / SECTOR,
        );
        if !self.volumes.is_empty() {
            text.push_str("logical_volumes {\n\n");
        }
        for (volume, (start, size)) in self.volumes.iter().zip(self.places()) {
            let _ = writeln!(
                text,
                "{} {{\nid = \"{}\"\nstatus = [\"READ\", \"WRITE\", \"VISIBLE\"]\nflags = []\ncreation_time = {epoch}\n\
                 creation_host = \"vambrace\"\nsegment_count = 1\n\nsegment1 {{\nstart_extent = 0\nextent_count = {}\n\n\
                 type = \"striped\"\nstripe_count = 1\n\nstripes = [\n\"pv0\", {}\n]\n}}\n}}\n",
                volume.name,
                volume.uuid,
                size / EXTENT,
                (start - DATA) / EXTENT,
            );
        }
        if !self.volumes.is_empty() {
            text.push_str("}\n\n");
        }
        let _ = write!(
            text,
            "}}\n\ncontents = \"Text Format Volume Group\"\nversion = 1\n\ndescription = \"Laid out by vambrace\"\n\n\
             creation_host = \"vambrace\"\ncreation_time = {epoch}\n\n"
        );
        text
    }
}

/// A CRC-32 as LVM2 takes it: its own start, and the register as it ends.
fn checksum(bytes: &[u8]) -> u32 {
    // The hasher negates what it starts from and what it ends with.
    let mut hasher = crc32fast::Hasher::new_with_initial(!CRC_START);
    hasher.update(bytes);
    !hasher.finalize()
}

/// A sector that is filled from its start.
struct Sector(Vec<u8>);

impl Sector {
    fn number(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    /// Fills it up with zeros, and puts the checksum of what is behind byte `behind` to byte `at`.
    fn finish(mut self, at: usize, behind: usize) -> Vec<u8> {
        self.0.resize(SECTOR as usize, 0);
        let sum = checksum(self.0.get(behind..).unwrap_or_default()).to_le_bytes();
        self.0.iter_mut().skip(at).zip(sum).for_each(|(to, from)| *to = from);
        self.0
    }
}

/// The sector that says what the partition is.
fn label(group: &VolumeGroup, size: u64) -> Vec<u8> {
    let mut sector = Sector(b"LABELONE".to_vec());
    sector.number(1);
    // The checksum, and where what follows begins.
    sector.number(32 << 32);
    sector.0.extend(b"LVM2 001");
    sector.0.extend(group.physical_uuid.bytes().filter(|byte| *byte != b'-'));
    sector.number(size);
    // Data to the end, which a size of 0 stands for; then metadata. A pair of zeros ends each list.
    for value in [DATA, 0, 0, 0, AREA, DATA - AREA, 0, 0] {
        sector.number(value);
    }
    // The extension: version 2, a volume that is in use, and no room for a boot loader.
    for value in [2 | 1 << 32, 0, 0] {
        sector.number(value);
    }
    sector.finish(16, 20)
}

/// The header of the metadata area, which points at `text`.
fn area(text: &[u8]) -> Vec<u8> {
    let mut sector = Sector(vec![0; 4]);
    sector.0.extend(AREA_MAGIC);
    sector.0.extend(1_u32.to_le_bytes());
    for value in [AREA, DATA - AREA, TEXT, text.len() as u64, u64::from(checksum(text))] {
        sector.number(value);
    }
    sector.finish(0, 4)
}

/// Writes everything but what is in the volumes to byte `start` of the image.
pub(super) fn write<F: FnMut(u64)>(
    group: &VolumeGroup,
    size: u64,
    epoch: u64,
    start: u64,
    writer: &mut Writer<'_, F>,
) -> Result<()> {
    let mut text = group.text(size, epoch).into_bytes();
    text.push(0);
    if text.len() > MAX_TEXT {
        return Err(Error::new(format!("the description of the volume group has {} bytes", text.len())));
    }
    let failed = || "cannot write the volume group";
    writer.write(start + SECTOR, &label(group, size)).context(failed)?;
    writer.write(start + AREA, &area(&text)).context(failed)?;
    writer.write(start + AREA + TEXT, &text).context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Volume;

    /// What lvm2 2.03.16 wrote for `pvcreate` and `vgcreate` on 64 MiB.
    #[test]
    fn a_label_is_what_lvm2_writes() {
        let group = VolumeGroup {
            name: "vambrace".into(),
            uuid: lvm_uuid([1; 16]),
            physical_uuid: "Qx5MiI-iSok-wwUH-k0rn-f8C7-6Ffx-jbhhGD".into(),
            volumes: Vec::new(),
        };
        let sector = label(&group, 64 << 20);
        assert_eq!(sector[16..20], [0x7c, 0x2b, 0x5f, 0x6b], "the checksum of the whole");
    }

    #[test]
    fn names_that_lvm2_would_not_take_are_refused() {
        for name in ["web-root", "a", "x.y+z_1"] {
            assert_eq!(lvm_name_fault(name), None);
        }
        for name in ["", "-a", "..", "a b", "snapshot1", "x_tdata", "a/b", "é"] {
            assert!(lvm_name_fault(name).is_some(), "{name}");
        }
    }

    #[test]
    fn uuids_are_of_lvm_s_form_and_follow_the_hash() {
        let one = lvm_uuid([7; 16]);
        let lengths: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(lengths, GROUPS);
        assert_ne!(one, lvm_uuid([8; 16]));
        assert_ne!(lvm_uuid([0; 16]), lvm_uuid([255; 16]));
    }

    #[test]
    fn volumes_lie_behind_one_another_in_whole_extents() {
        let volume = |name: &str, size| Volume {
            name: name.into(),
            uuid: lvm_uuid([2; 16]),
            size,
            content: Content::Empty,
        };
        let mut group = VolumeGroup {
            name: "vg".into(),
            uuid: lvm_uuid([1; 16]),
            physical_uuid: lvm_uuid([3; 16]),
            volumes: vec![volume("a", 1), volume("b", EXTENT + 1)],
        };
        let places: Vec<_> = group.places().collect();
        assert_eq!(places, [(DATA, EXTENT), (DATA + EXTENT, 2 * EXTENT)]);
        let size = lvm_size(group.volumes.iter().map(|volume| volume.size), 5);
        assert_eq!(size, DATA + 4 * EXTENT);
        assert!(group.check(size).is_ok() && group.check(size - EXTENT - 1).is_err());
        group.volumes[1].name = "a".into();
        assert!(group.check(size).unwrap_err().what().contains("twice"));
    }
}
