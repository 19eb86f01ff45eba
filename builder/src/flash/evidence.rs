//! What on a medium tells that a file system was written to.
//!
//! Whoever mounts one to write leaves traces in known places: ext4 counts mounts and keeps their time in its superblock
//! (Linux, Documentation/filesystems/ext4, "Super Block"), FAT has boot sector, counts, tables and folders (Microsoft's
//! "FAT32 File System Specification" 1.03), LVM numbers its metadata. As long as these bytes are the same, so is what they
//! describe, unless somebody wrote behind the file system's back. What is of no kind that is known here has no evidence.

use super::spans::Spans;
use super::table::Table;
use crate::bytes::has;
use crate::cache::hex;
use crate::error::{Result, ResultExt};
use crate::inspect::{Fat, Window};
use crate::verify;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::ops::Range;

/// Bytes that are read at once.
const STRIDE: u64 = 1 << 20;
/// Bytes that all evidence of a partition may have; with more, reading it saves nothing.
pub(super) const MOST: u64 = 64 << 20;
/// Of LVM's metadata what changes with every change of it: the label in the second sector, and the header at 4 KiB.
const LVM_HEAD: u64 = 8 << 10;
/// What marks Linux' description of a RAID (include/uapi/linux/raid/md_p.h, `MD_SB_MAGIC`).
const RAID: [u8; 4] = 0xa92b_4efc_u32.to_le_bytes();

/// Bytes that are taken as unchanged while their evidence is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// What people call it.
    pub(super) name: String,
    /// Its first byte, and the first one behind it.
    pub(super) place: Range<u64>,
    /// `None` where nothing tells whether it was written to.
    pub(super) evidence: Option<Evidence>,
}

/// Bytes that change with others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Evidence {
    /// Where they are, on the medium.
    pub(super) places: Vec<Range<u64>>,
    /// The SHA-256 of all of them, in hexadecimal.
    sha256: String,
}

impl Evidence {
    /// Whether it is what `read` reads, which fills a buffer with the bytes from a place on.
    pub(super) fn is_there(&self, read: &mut dyn FnMut(&mut [u8], u64) -> Result<()>) -> Result<bool> {
        Ok(hash(&self.places, read)? == self.sha256)
    }
}

fn hash(places: &[Range<u64>], read: &mut dyn FnMut(&mut [u8], u64) -> Result<()>) -> Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; STRIDE as usize];
    for place in places {
        let mut at = place.start;
        while at < place.end {
            let count = usize::try_from((place.end - at).min(STRIDE)).unwrap_or(0);
            let into = buffer.get_mut(..count).unwrap_or_default();
            read(into, at)?;
            hash.update(&*into);
            at += count as u64;
        }
    }
    Ok(hex(&hash.finalize()))
}

/// The parts of the medium in `file`, of `size` bytes, which has `table`.
pub(super) fn parts(file: &File, size: u64, table: &Table) -> Result<Vec<Part>> {
    let copy = file.try_clone().context(|| "cannot open the medium a second time")?;
    let medium = Medium { file, window: Window::of_file(copy, size) };
    let mut parts = Vec::new();
    for partition in &table.partitions {
        let place = partition.start..partition.end.min(size);
        if place.start < place.end && !medium.volumes(&partition.name, &place, &mut parts) {
            parts.push(medium.part(partition.name.clone(), place, &[])?);
        }
    }
    Ok(parts)
}

struct Medium<'a> {
    file: &'a File,
    window: Window,
}

impl Medium<'_> {
    /// The part with this place, whose evidence is `more` and what its file system has.
    fn part(&self, name: String, place: Range<u64>, more: &[Range<u64>]) -> Result<Part> {
        // What is not sound has no evidence.
        let own = self.telling(&place).unwrap_or_default();
        let places = own.map(|own| {
            let own = own.into_iter().map(|range| place.start + range.start..place.start + range.end);
            Spans::of(own.chain(more.iter().cloned()))
        });
        let evidence = match places.filter(|places| places.bytes() <= MOST) {
            None => None,
            Some(places) => {
                let places = places.ranges().to_vec();
                let sha256 = hash(&places, &mut |into, at| self.window.fill(at, into))?;
                Some(Evidence { places, sha256 })
            }
        };
        Ok(Part { name, place, evidence })
    }

    /// Where the file system in `place` has what changes with it, counted from its beginning.
    fn telling(&self, place: &Range<u64>) -> Result<Option<Vec<Range<u64>>>> {
        let window = self.window.part(place.start, place.end - place.start);
        // A volume group that is not understood, and a RAID's half, may have an old superblock left in them.
        let head = window.up_to(0, LVM_HEAD)?;
        if (0..4).any(|sector| has(&head, sector * 512, b"LABELONE")) || has(&head, 4096, &RAID) {
            return Ok(None);
        }
        let (at, size) = verify::ext4::SUPERBLOCK;
        let superblock = window.up_to(at, size as u64)?;
        if superblock.len() == size && has(&superblock, 0x38, &[0x53, 0xef]) {
            return Ok(Some(std::iter::once(at..at + size as u64).collect()));
        }
        Fat::open(&window)?.map_or(Ok(None), |fat| fat.telling())
    }

    /// Adds the volumes of an LVM group, each a part of its own, if there is one. What is in none of them is taken for
    /// unchanged by nobody.
    fn volumes(&self, name: &str, place: &Range<u64>, parts: &mut Vec<Part>) -> bool {
        let size = place.end - place.start;
        let Ok(volumes) = verify::volumes(self.file, place.start, size) else { return false };
        let head = place.start..place.start + LVM_HEAD;
        for volume in volumes {
            let start = place.start.saturating_add(volume.start);
            let end = start.saturating_add(volume.size).min(place.end);
            let name = format!("the volume `{}` of {name}", volume.name.replace(char::is_control, "?"));
            if start >= end {
                continue;
            }
            match self.part(name, start..end, std::slice::from_ref(&head)) {
                Ok(part) => parts.push(part),
                Err(_) => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{
        Content, DiskSpec, Ext4, Gpt, PartitionSpec, Volume, VolumeGroup, lvm_uuid, write_image,
    };
    use crate::progress::Progress;
    use crate::tree::{Node, Tree};
    use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions, format_volume};
    use std::io::{Cursor, Write};
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;

    const MIB: u64 = 1 << 20;

    fn is_there(file: &File, part: &Part) -> bool {
        let mut read = |into: &mut [u8], at| file.read_exact_at(into, at).context(|| "no");
        part.evidence.as_ref().unwrap().is_there(&mut read).unwrap()
    }

    /// A table of one partition, at 1 MiB.
    fn table(size: u64) -> Table {
        let mut mbr = vec![0; 512];
        mbr[510..].copy_from_slice(&[0x55, 0xaa]);
        mbr[454..458].copy_from_slice(&2048_u32.to_le_bytes());
        mbr[458..462].copy_from_slice(&u32::try_from(size / 512).unwrap().to_le_bytes());
        Table::of(&mbr)
    }

    /// A FAT with a large file, and a small one in a folder.
    fn fat(kind: FatType, size: u64) -> Vec<u8> {
        let mut volume = Cursor::new(vec![0; usize::try_from(size).unwrap()]);
        let options = FormatVolumeOptions::new().fat_type(kind).bytes_per_cluster(512);
        format_volume(&mut volume, options).unwrap();
        {
            let volume = FileSystem::new(&mut volume, FsOptions::new()).unwrap();
            let root = volume.root_dir();
            root.create_dir("folder").unwrap();
            root.create_file("folder/small").unwrap().write_all(&[7; 512]).unwrap();
            root.create_file("large").unwrap().write_all(&[9; 100_000]).unwrap();
        }
        volume.into_inner()
    }

    #[test]
    fn whatever_is_written_by_way_of_a_fat_is_seen() {
        for (kind, size) in [(FatType::Fat12, MIB), (FatType::Fat16, 4 * MIB), (FatType::Fat32, 34 * MIB)] {
            let volume = fat(kind, size);
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&volume, MIB).unwrap();
            let parts = parts(&file, MIB + size, &table(size)).unwrap();
            let [part] = &parts[..] else { panic!("one part") };
            assert!(is_there(&file, part));
            // Overwritten in place, as U-Boot and dom0 do with what slots keep: no table and no folder changes.
            let of = |byte: u8| volume.chunks(512).position(|bytes| bytes == [byte; 512]).unwrap() as u64;
            let small = MIB + of(7) * 512 + 100;
            file.write_all_at(b"8", small).unwrap();
            assert!(!is_there(&file, part), "a small file, {kind:?}");
            file.write_all_at(&[7], small).unwrap();
            assert!(is_there(&file, part));
            // A folder gets a file without clusters.
            let mut other = Cursor::new(volume.clone());
            let mounted = FileSystem::new(&mut other, FsOptions::new()).unwrap();
            mounted.root_dir().create_file("folder/more").unwrap();
            drop(mounted);
            file.write_all_at(other.get_ref(), MIB).unwrap();
            assert!(!is_there(&file, part), "a folder, {kind:?}");
            // What is written past the file system is not.
            file.write_all_at(&volume, MIB).unwrap();
            file.write_all_at(b"8", MIB + of(9) * 512).unwrap();
            assert!(is_there(&file, part));
        }
    }

    fn ext4() -> Content {
        let mut tree = Tree::new();
        tree.insert("file", Node::file(0o644, vec![1; 50_000])).unwrap();
        Content::Ext4(Ext4 { label: "x".into(), uuid: [9; 16], tree: Arc::new(tree) })
    }

    #[test]
    fn volumes_are_known_one_by_one_and_what_is_unknown_has_no_evidence() {
        let volume = |name: &str, size, content| Volume {
            name: name.into(),
            uuid: lvm_uuid([name.len() as u8; 16]),
            size,
            content,
        };
        let group = VolumeGroup {
            name: "vg".into(),
            uuid: lvm_uuid([1; 16]),
            physical_uuid: lvm_uuid([2; 16]),
            volumes: vec![volume("web", 16 * MIB, ext4()), volume("empty", 8 * MIB, Content::Empty)],
        };
        let contents =
            [(16 * MIB, ext4()), (30 * MIB, Content::Lvm(group)), (MIB, Content::Raw([5; 99].into()))];
        let mut partitions: Vec<PartitionSpec> = Vec::new();
        for (size, content) in contents {
            let start = partitions.last().map_or(2 * MIB, |last| last.start + last.size);
            partitions.push(PartitionSpec {
                name: format!("p{}", partitions.len()),
                type_guid: "0fc63daf-8483-4772-8e79-3d69d8477de4".into(),
                mbr_type: 0x83,
                guid: [partitions.len() as u8 + 1; 16],
                start,
                size,
                bootable: false,
                content,
            });
        }
        let size = 50 * MIB;
        let table = crate::disk::Table::Gpt(Gpt::USUAL);
        let spec = DiskSpec { table, disk_guid: [3; 16], size, partitions, raw: Vec::new(), epoch: 1 };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.img");
        write_image(&path, &spec, &Progress::quiet()).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let mut head = vec![0; 1 << 20];
        file.read_exact_at(&mut head, 0).unwrap();
        let found = parts(&file, size, &Table::of(&head)).unwrap();
        let evidence: Vec<bool> = found.iter().map(|part| part.evidence.is_some()).collect();
        let names: Vec<&str> = found.iter().map(|part| part.name.as_str()).collect();
        assert_eq!((&evidence[..], names.len()), (&[true, false, true, false][..], 4), "{names:?}");
        assert!(names[2].contains("the volume `web` of partition 2"), "{names:?}");
        let (root, web) = (&found[0], &found[2]);
        assert_eq!((root.place.clone(), web.place.end - web.place.start), (2 * MIB..18 * MIB, 16 * MIB));
        // A mount of the volume, and one of the partition; then a change of the group.
        for (part, at) in [(web, web.place.start + 1024 + 0x34), (root, root.place.start + 1024 + 0x34)] {
            assert!(is_there(&file, part));
            file.write_all_at(&[77], at).unwrap();
            assert!(!is_there(&file, part));
            file.write_all_at(&[0], at).unwrap();
        }
        let header = 18 * MIB + 4096;
        file.write_all_at(&[0], header).unwrap();
        assert!(!is_there(&file, web) && is_there(&file, root));
        // Then there is no telling where volumes lie.
        let found = parts(&file, size, &Table::of(&head)).unwrap();
        let group = found.iter().find(|part| part.place.start == 18 * MIB).unwrap();
        assert_eq!((found.len(), &group.evidence), (3, &None));
    }
}
