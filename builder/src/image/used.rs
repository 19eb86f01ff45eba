//! What of an image that has just been made is in use: the block map for those who write it to a medium that was used
//! before, with everything that counts, zeros too.
//!
//! Neither holes nor zeros tell: a FAT's free entries, an empty bitmap and the zeros in a file are holes, and a medium's
//! old bytes in their place would be damage. So the file systems themselves are asked which blocks they use.

use super::map::{BLOCK, BlockMap, GAP, Range as Blocks, Rest};
use crate::disk::{BLOCK as SECTOR, Claim, Content, DiskSpec, LVM_DATA, Table, data_from};
use crate::error::{Result, ResultExt};
use crate::groups::Groups;
use crate::parallel;
use crate::tree::Source;
use crate::verify::{fat, unusable};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Bytes at the start of what is empty. What was there before is looked for here, and must not be found again.
const SIGNATURES: u64 = 1 << 20;
/// Where no boot ROM looks for a first stage any more, in bytes of the medium. Before it what is in no partition is written
/// whole: in several places a ROM may look, and must not find what another board's image has left.
const FIRST_STAGES: u64 = 16 << 20;
/// Bytes at the end of the image, in which a GPT's second copy lies.
const BACKUP: u64 = 1 << 20;
/// Bytes that are read at once.
const PIECE: usize = 1 << 18;
/// Most bytes of a range: several CPUs hash side by side, and whoever updates a card reads only ranges that have changed.
const LONGEST: u64 = 1 << 20;

/// The map of the image at `path`, which was made from `spec`, with the hash of each range. `base` is the map of the image
/// that it was made from, where there was one: it tells of what is the same in both.
///
/// # Errors
///
/// An image that cannot be read, or whose file systems are not sound.
pub fn map_of(path: &Path, spec: &DiskSpec, base: Option<&BlockMap>) -> Result<BlockMap> {
    map_and_check(path, spec, base, Vec::new())
}

/// The same, and compares with `claims` what is read for it.
pub(crate) fn map_and_check(
    path: &Path,
    spec: &DiskSpec,
    base: Option<&BlockMap>,
    mut claims: Vec<Claim>,
) -> Result<BlockMap> {
    let file = File::open(path).context_at(path, || "cannot open the image")?;
    let used = used(&file, path, spec).map_err(|error| error.at(path))?;
    let starts: Vec<u64> = spec.partitions.iter().map(|partition| partition.start / BLOCK).collect();
    let ranges = blocks(used, spec.size, &starts);
    let known = base.map(BlockMap::ranges).unwrap_or_default();
    let same = same(spec);
    claims.sort_by_key(|claim| claim.at);
    // What does not lie in one range is read by itself.
    let inside = |range: &Blocks, claim: &Claim| {
        let (start, end) = (range.first * BLOCK, (range.first + range.count) * BLOCK);
        start <= claim.at && claim.at + claim.length as u64 <= end
    };
    let (claims, astray): (Vec<_>, Vec<_>) = claims.into_iter().partition(|claim| {
        let index = ranges.partition_point(|range| range.first * BLOCK <= claim.at);
        index.checked_sub(1).and_then(|index| ranges.get(index)).is_some_and(|range| inside(range, claim))
    });
    parallel::each(&astray, |claim| {
        let mut bytes = vec![0; claim.length];
        file.read_exact_at(&mut bytes, claim.at).context_at(path, || "cannot read the image")?;
        claim.check(&bytes).map_err(|error| unusable(error, path))
    })?;
    // To ask for the memory of a range anew each time would take as long as to read it.
    let buffers = Mutex::new(Vec::<Vec<u8>>::new());
    let buffers = || buffers.lock().unwrap_or_else(PoisonError::into_inner);
    let ranges = parallel::map(&ranges, |range| {
        let (start, end) = (range.first * BLOCK, (range.first + range.count) * BLOCK);
        let known =
            known.binary_search_by_key(&range.first, |known| known.first).ok().and_then(|at| known.get(at));
        if let Some(known) = known.filter(|known| known.count == range.count && known.sha256.is_some())
            && same.iter().any(|same| same.start <= start && end <= same.end)
        {
            return Ok(known.clone());
        }
        let mut buffer = buffers().pop().unwrap_or_default();
        let bytes =
            read(&file, range, spec.size, &mut buffer).context_at(path, || "cannot read the image")?;
        let first = claims.partition_point(|claim| claim.at < start);
        let own = claims.get(first..).unwrap_or_default();
        for claim in own.iter().take_while(|claim| inside(range, claim)) {
            let at = usize::try_from(claim.at - start).unwrap_or(usize::MAX);
            let there = bytes.get(at..).and_then(|bytes| bytes.get(..claim.length));
            claim.check(there.unwrap_or_default()).map_err(|error| unusable(error, path))?;
        }
        let sha256 = Sha256::digest(bytes).into();
        buffers().push(buffer);
        Ok(Blocks { sha256: Some(sha256), ..*range })
    })?;
    BlockMap::new(BLOCK, spec.size, ranges, Rest::Any)
}

/// The partitions that are as they were in the image that this one was made from.
fn same(spec: &DiskSpec) -> Vec<Range<u64>> {
    let same = spec.partitions.iter().filter(|partition| matches!(partition.content, Content::Same));
    same.map(|partition| partition.start..partition.start + partition.size).collect()
}

/// The bytes in use, in no order; they may overlap.
fn used(file: &File, path: &Path, spec: &DiskSpec) -> Result<Vec<Range<u64>>> {
    let mut used: Vec<_> =
        spec.raw.iter().map(|blob| blob.offset..blob.offset + blob.data.len() as u64).collect();
    if let Table::Gpt(table) = &spec.table {
        let entries = table.entries_at..table.entries_at + table.entry_blocks();
        used.push(entries.start * SECTOR..entries.end * SECTOR);
    }
    let mut inside: Vec<Range<u64>> =
        spec.partitions.iter().map(|partition| partition.start..partition.start + partition.size).collect();
    inside.sort_by_key(|range| range.start);
    let mut at = 0;
    for range in inside {
        used.push(at..range.start.min(FIRST_STAGES));
        at = range.end;
    }
    used.push(at..spec.size.min(FIRST_STAGES));
    used.push(spec.size.saturating_sub(BACKUP)..spec.size);
    let source = Source::opened(file.try_clone().context_at(path, || "cannot open the image")?, path);
    for partition in &spec.partitions {
        let place = (partition.start, partition.size);
        content(file, &source, place, &partition.content, &mut used)
            .map_err(|error| error.context(format!("partition `{}`", partition.name)))?;
    }
    Ok(used)
}

/// Adds what `content` uses of the `size` bytes from byte `start` on.
fn content(
    file: &File,
    source: &Source,
    (start, size): (u64, u64),
    content: &Content,
    used: &mut Vec<Range<u64>>,
) -> Result<()> {
    match content {
        Content::Empty => used.push(start..start + size.min(SIGNATURES)),
        Content::Raw(data) => used.push(start..start + (data.len() as u64).max(size.min(SIGNATURES))),
        Content::Fat32(_) => used.extend(fat::open(file, start, size)?.0.used()),
        // What is the same is an ext4 file system too.
        Content::Ext4(_) | Content::Same => used.extend(Groups::open(source.clone(), start, size)?.used()?),
        Content::Lvm(group) => {
            used.push(start..start + LVM_DATA);
            for (volume, place, size) in group.placed() {
                self::content(file, source, (start + place, size), &volume.content, used)
                    .map_err(|error| error.context(format!("the volume `{}`", volume.name)))?;
            }
        }
    }
    Ok(())
}

/// Whole blocks that hold `used`, in order; ranges that are near each other are one. They are cut where a block of
/// `starts` is and at each whole multiple of [`LONGEST`]: what lies elsewhere does not change where a range begins.
fn blocks(mut used: Vec<Range<u64>>, size: u64, starts: &[u64]) -> Vec<Blocks> {
    used.retain(|range| range.start < range.end.min(size));
    used.sort_by_key(|range| range.start);
    let mut all: Vec<Range<u64>> = Vec::new();
    for range in used {
        let (first, end) = (range.start / BLOCK, range.end.min(size).div_ceil(BLOCK));
        match all.last_mut() {
            Some(last) if first < last.end + GAP / BLOCK => last.end = last.end.max(end),
            _ => all.push(first..end),
        }
    }
    let most = LONGEST / BLOCK;
    let mut cut = Vec::new();
    for Range { mut start, end } in all {
        while start < end {
            let next = (start / most + 1) * most;
            let border =
                starts.iter().copied().filter(|&border| border > start).fold(next.min(end), u64::min);
            cut.push(Blocks { first: start, count: border - start, sha256: None });
            start = border;
        }
    }
    cut
}

/// The bytes of a range of the file of `size` bytes, in `buffer`. What is a hole is not read.
fn read<'a>(file: &File, range: &Blocks, size: u64, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
    let (mut at, end) = (range.first * BLOCK, ((range.first + range.count) * BLOCK).min(size));
    let length = usize::try_from(end.saturating_sub(at)).unwrap_or_default();
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    let bytes = buffer.get_mut(..length).unwrap_or_default();
    // Before this byte there is a hole, where that lies ahead.
    let mut data = 0;
    for piece in bytes.chunks_mut(PIECE) {
        if data < at {
            data = data_from(file, at)?.unwrap_or(size);
        }
        if data >= at + piece.len() as u64 {
            piece.fill(0);
        } else {
            file.read_exact_at(piece, at)?;
        }
        at += piece.len() as u64;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{
        Blob, Ext4, Fat32, FileSpec, Gpt, Partial, PartitionSpec, Table, Volume, VolumeGroup, lvm_uuid,
        write_image, write_into,
    };
    use crate::progress::Progress;
    use crate::tree::{Data, Node, Tree};
    use crate::verify::verify_image;
    use std::sync::Arc;

    const MIB: u64 = 1 << 20;

    fn ext4(label: &str) -> Content {
        let mut tree = Tree::new();
        tree.insert("etc/hosts", Node::file(0o644, vec![b'x'; 70_000])).unwrap();
        // Zeros that are contents, and a hole that is none.
        tree.insert("zeros", Node::file(0o644, vec![0; 300_000])).unwrap();
        tree.insert("hole", Node::file(0o644, Data::hole(1 << 30))).unwrap();
        Content::Ext4(Ext4 { label: label.into(), uuid: [9; 16], tree: Arc::new(tree) })
    }

    /// A disk with everything that there can be on one.
    fn spec() -> DiskSpec {
        let volume = |name: &str, size: u64, content: Content| Volume {
            name: name.into(),
            uuid: lvm_uuid([name.len() as u8; 16]),
            size,
            content,
        };
        let files = [("a folder/a", vec![7; 90_000]), ("zeros", vec![0; 200_000]), ("empty", Vec::new())];
        let files =
            files.into_iter().map(|(path, data)| FileSpec { path: path.into(), data: data.into() }).collect();
        let group = VolumeGroup {
            name: "vg".into(),
            uuid: lvm_uuid([1; 16]),
            physical_uuid: lvm_uuid([2; 16]),
            volumes: vec![volume("empty", 8 * MIB, Content::Empty), volume("web", 16 * MIB, ext4("web"))],
        };
        let contents = [
            (36 * MIB, Content::Fat32(Fat32 { label: "BOOT".into(), volume_id: 7, files })),
            (2 * MIB, Content::Raw(vec![5; 5000].into())),
            (4 * MIB, Content::Empty),
            (16 * MIB, ext4("root")),
            (30 * MIB, Content::Lvm(group)),
        ];
        let (mut partitions, mut start) = (Vec::new(), 2 * MIB);
        for (index, (size, content)) in contents.into_iter().enumerate() {
            partitions.push(PartitionSpec {
                name: format!("p{index}"),
                type_guid: "0fc63daf-8483-4772-8e79-3d69d8477de4".into(),
                mbr_type: 0x83,
                guid: [index as u8 + 1; 16],
                start,
                size,
                bootable: index == 0,
                content,
            });
            start += size;
        }
        DiskSpec {
            table: Table::Gpt(Gpt::USUAL),
            disk_guid: [3; 16],
            size: start + MIB,
            partitions,
            raw: vec![Blob { name: "first stage".into(), offset: 128 << 10, data: vec![6; 3001].into() }],
            epoch: 1_700_000_000,
        }
    }

    /// The image of [`spec`], and the same with other bytes wherever the map has no range.
    fn onto_garbage(folder: &Path) -> (std::path::PathBuf, std::path::PathBuf, BlockMap) {
        let (path, medium) = (folder.join("x.img"), folder.join("medium"));
        write_image(&path, &spec(), &Progress::quiet()).unwrap();
        let map = map_of(&path, &spec(), None).unwrap();
        let image = File::open(&path).unwrap();
        let to = File::create(&medium).unwrap();
        let garbage = vec![0xff; MIB as usize];
        (0..spec().size).step_by(MIB as usize).for_each(|at| to.write_all_at(&garbage, at).unwrap());
        for range in map.ranges() {
            let (start, end) = map.bytes(range);
            let mut data = vec![0; (end - start) as usize];
            image.read_exact_at(&mut data, start).unwrap();
            assert_eq!(range.sha256, Some(Sha256::digest(&data).into()));
            to.write_all_at(&data, start).unwrap();
        }
        (path, medium, map)
    }

    #[test]
    fn the_map_alone_brings_the_image_onto_a_medium_with_garbage() {
        let dir = tempfile::tempdir().unwrap();
        let (path, medium, map) = onto_garbage(dir.path());
        verify_image(&medium, &spec(), &Progress::quiet()).unwrap();
        assert!(map.mapped() < 40 * MIB, "{} of {}", map.mapped(), spec().size);
        assert_eq!(map.rest(), Rest::Any);
        let (image, medium) = (std::fs::read(path).unwrap(), std::fs::read(medium).unwrap());
        // First stages of other boards, and signatures in what is empty.
        for part in [0..2 * MIB, spec().size - MIB..spec().size, 40 * MIB..41 * MIB] {
            let part = part.start as usize..part.end as usize;
            assert!(image[part.clone()] == medium[part.clone()], "{part:?}");
        }
    }

    #[test]
    fn a_map_by_holes_would_not_do() {
        // The same medium with only what is not zero on it: the test above can fail.
        let dir = tempfile::tempdir().unwrap();
        let (path, medium, _) = onto_garbage(dir.path());
        let (image, to) = (std::fs::read(path).unwrap(), File::create(&medium).unwrap());
        for (block, at) in image.chunks(BLOCK as usize).zip((0..).step_by(BLOCK as usize)) {
            let hole = block.iter().all(|&byte| byte == 0);
            to.write_all_at(if hole { &[0xff; BLOCK as usize] } else { block }, at).unwrap();
        }
        assert!(verify_image(&medium, &spec(), &Progress::quiet()).is_err());
    }

    #[test]
    fn an_image_made_from_another_is_the_same_as_one_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let quiet = Progress::quiet();
        let mut changed = spec();
        // Less, more and other files, and another table.
        for partition in &mut changed.partitions {
            if let Content::Fat32(fat) = &mut partition.content {
                let file = |path: &str, data: Vec<u8>| FileSpec { path: path.into(), data: data.into() };
                fat.files = vec![file("a folder/a", vec![8; 70_000]), file("b", vec![9; 300_000])];
                fat.volume_id = 8;
            }
        }
        changed.disk_guid = [4; 16];
        changed.raw.clear();
        write_image(&at("old"), &spec(), &quiet).unwrap();
        write_image(&at("anew"), &changed, &quiet).unwrap();
        let (old, anew) =
            (map_of(&at("old"), &spec(), None).unwrap(), map_of(&at("anew"), &changed, None).unwrap());
        let image = std::fs::read(at("anew")).unwrap();
        let make = |known: bool, name: &str| {
            let mut spec = changed.clone();
            for partition in spec.partitions.iter_mut().skip(3).take(1).filter(|_| known) {
                partition.content = Content::Same;
            }
            std::fs::copy(at("old"), at("base")).unwrap();
            let partial = Partial::taken(&at(name), &at("base")).unwrap();
            write_into(&partial, &spec, true, &quiet).unwrap();
            partial.keep().unwrap();
            verify_image(&at(name), &changed, &quiet).unwrap();
            assert!(std::fs::read(at(name)).unwrap() == image, "{name}");
            map_of(&at(name), &spec, Some(&old)).unwrap()
        };
        assert_eq!(make(false, "compared"), anew);
        assert_eq!(make(true, "known"), anew);
        // What is known is not read.
        let mut lie = old.clone().ranges().to_vec();
        lie.iter_mut().for_each(|range| range.sha256 = Some([1; 32]));
        let lie = BlockMap::new(BLOCK, old.image_size(), lie, Rest::Any).unwrap();
        let mut spec = changed.clone();
        spec.partitions[3].content = Content::Same;
        let found = map_of(&at("known"), &spec, Some(&lie)).unwrap();
        let (own, other) = (spec.partitions[3].start, spec.partitions[4].start);
        for range in found.ranges() {
            let known = (own..other).contains(&(range.first * BLOCK));
            assert_eq!(range.sha256 == Some([1; 32]), known, "{range:?}");
        }
        assert!(write_image(&at("x"), &spec, &quiet).unwrap_err().report().contains("nothing is known of"));
    }

    #[test]
    fn ranges_are_whole_blocks_and_near_ones_are_one() {
        let gap = GAP;
        let ranges =
            blocks(vec![5000..5001, 0..0, 2 * gap..2 * gap + 1, 4096..9000, gap..gap + 1], 10 * gap, &[]);
        let found: Vec<_> = ranges.iter().map(|range| (range.first, range.count)).collect();
        assert_eq!(found, [(1, 2 * gap / BLOCK)]);
        let far = blocks(vec![0..1, 3 * gap..10 * gap], 3 * gap + 5, &[]);
        let found: Vec<_> = far.iter().map(|range| (range.first, range.count)).collect();
        assert_eq!(found, [(0, 1), (3 * gap / BLOCK, 1)]);
    }

    #[test]
    fn long_ranges_are_cut() {
        let cut = |used, starts: &[u64]| -> Vec<_> {
            let found = blocks(used, 3 * LONGEST, starts);
            found.iter().map(|range| (range.first * BLOCK, range.count * BLOCK)).collect()
        };
        assert_eq!(
            cut(vec![0..1, 1..2 * LONGEST + 1], &[]),
            [(0, LONGEST), (LONGEST, LONGEST), (2 * LONGEST, BLOCK)]
        );
        // Where one begins does not count, only where it lies.
        assert_eq!(
            cut(vec![3 * BLOCK..LONGEST, LONGEST..LONGEST + BLOCK], &[1, 7, 900_000]),
            [(3 * BLOCK, 4 * BLOCK), (7 * BLOCK, LONGEST - 7 * BLOCK), (LONGEST, BLOCK)]
        );
    }

    #[test]
    fn hashes_are_of_holes_too_and_end_with_the_image() {
        let file = tempfile::tempfile().unwrap();
        let size = 3 * PIECE as u64 + 777;
        file.set_len(size).unwrap();
        for at in [5, PIECE as u64 - 2, size - 3] {
            file.write_all_at(b"abc", at).unwrap();
        }
        let (mut data, mut buffer) = (vec![0; size as usize], vec![7; 9]);
        file.read_exact_at(&mut data, 0).unwrap();
        for wanted in [0..10, 30 * BLOCK..31 * BLOCK, size - 1..size, 0..size] {
            for range in blocks(vec![wanted], size, &[]) {
                let end = data.len().min(((range.first + range.count) * BLOCK) as usize);
                let own: [u8; 32] = Sha256::digest(&data[(range.first * BLOCK) as usize..end]).into();
                assert_eq!(
                    <[u8; 32]>::from(Sha256::digest(read(&file, &range, size, &mut buffer).unwrap())),
                    own
                );
            }
        }
        let range = Blocks { first: 0, count: size / BLOCK + 1, sha256: None };
        file.set_len(size - 1).unwrap();
        assert!(read(&file, &range, size, &mut buffer).is_err());
    }
}
