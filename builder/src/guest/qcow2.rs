//! Disks as qcow2 files, version 3 (QEMU, docs/interop/qcow2.txt): what is empty takes no room in dom0's file system, and
//! nothing depends on that being sparse.

use crate::error::{Error, Result, ResultExt};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes of a cluster, as a power of two: QEMU's usual size.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Bytes of disk that one table of the second level maps.
const TABLE_SPAN: u64 = CLUSTER / 8 * CLUSTER;
/// Clusters that one block of 16-bit reference counts counts.
const COUNTED: u64 = CLUSTER / 2;
/// The mark of an entry whose cluster has one reference.
const COPIED: u64 = 1 << 63;
/// Largest file: it is made in memory.
const MAX_FILE: usize = 2 << 30;

/// The file for the disk of `size` bytes whose contents are those of `disk`.
///
/// Header, table of the first level, tables of the second, data, then reference counts: all in whole clusters, in this
/// order, and each known before it is written.
pub(super) fn encode(disk: &File, size: u64) -> Result<Vec<u8>> {
    let tables = size.div_ceil(TABLE_SPAN);
    let first_level = (tables * 8).div_ceil(CLUSTER).max(1);
    let mut file = vec![0; usize::try_from((1 + first_level) * CLUSTER).unwrap_or(usize::MAX)];
    let mut buffer = vec![0; CLUSTER as usize];
    for table in 0..tables {
        let mut at_table = None;
        let (from, to) = (table * TABLE_SPAN, ((table + 1) * TABLE_SPAN).min(size));
        for (index, start) in (from..to).step_by(CLUSTER as usize).enumerate() {
            let length = usize::try_from(CLUSTER.min(size - start)).unwrap_or(0);
            buffer.fill(0);
            let piece = buffer.get_mut(..length).unwrap_or_default();
            disk.read_exact_at(piece, start).context(|| "cannot read the disk that was made")?;
            if buffer.iter().all(|byte| *byte == 0) {
                continue;
            }
            let table_at = match at_table {
                Some(at) => at,
                None => {
                    let at = grow(&mut file)?;
                    put(&mut file, CLUSTER as usize + table as usize * 8, at as u64 | COPIED);
                    at_table = Some(at);
                    at
                }
            };
            let at = grow(&mut file)?;
            put(&mut file, table_at + index * 8, at as u64 | COPIED);
            if let Some(place) = file.get_mut(at..at + CLUSTER as usize) {
                place.copy_from_slice(&buffer);
            }
        }
    }
    // The counts count themselves, and the table of them.
    let used = file.len() as u64 / CLUSTER;
    let mut blocks = 1;
    while blocks * COUNTED < used + blocks + 1 {
        blocks += 1;
    }
    let table_at = grow(&mut file)?;
    if blocks * 8 > CLUSTER {
        return Err(Error::new(format!("a disk of {size} bytes is too large for a file that is made here")));
    }
    for block in 0..blocks {
        let at = grow(&mut file)?;
        put(&mut file, table_at + block as usize * 8, at as u64);
    }
    let all = file.len() as u64 / CLUSTER;
    let first_block = table_at + CLUSTER as usize;
    for cluster in 0..usize::try_from(all).unwrap_or(0) {
        let at = first_block + cluster * 2;
        file.iter_mut().skip(at).zip(1_u16.to_be_bytes()).for_each(|(to, from)| *to = from);
    }
    let header = header(size, tables, table_at as u64);
    file.iter_mut().zip(header).for_each(|(to, from)| *to = from);
    Ok(file)
}

/// Another cluster at the end; gives its place.
fn grow(file: &mut Vec<u8>) -> Result<usize> {
    let at = file.len();
    if at >= MAX_FILE {
        return Err(Error::new(
            "the disk's content is too large for a file in dom0's root; put it on a volume",
        ));
    }
    file.resize(at + CLUSTER as usize, 0);
    Ok(at)
}

fn put(file: &mut [u8], at: usize, value: u64) {
    file.iter_mut().skip(at).zip(value.to_be_bytes()).for_each(|(to, from)| *to = from);
}

fn header(size: u64, tables: u64, counts_at: u64) -> Vec<u8> {
    let mut header = b"QFI\xfb".to_vec();
    let mut word = |value: u32| header.extend(value.to_be_bytes());
    let halves = |value: u64| [(value >> 32) as u32, value as u32];
    word(3);
    // No backing file: offset and length.
    [0, 0, 0].into_iter().for_each(&mut word);
    word(CLUSTER_BITS);
    halves(size).into_iter().for_each(&mut word);
    // Not encrypted.
    word(0);
    word(tables as u32);
    halves(CLUSTER).into_iter().for_each(&mut word);
    halves(counts_at).into_iter().for_each(&mut word);
    // One cluster of the table of counts; no snapshots; no features.
    [1, 0, 0, 0].into_iter().for_each(&mut word);
    [0; 6].into_iter().for_each(&mut word);
    // Counts of 2^4 bits; the header's length.
    [4, 104].into_iter().for_each(&mut word);
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn disk(size: u64, pieces: &[(u64, &[u8])]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        for (at, bytes) in pieces {
            file.write_all_at(bytes, *at).unwrap();
        }
        file
    }

    #[test]
    fn an_empty_disk_takes_four_clusters() {
        let made = encode(&disk(1 << 30, &[]), 1 << 30).unwrap();
        assert_eq!(made.len() as u64, 4 * CLUSTER);
        assert_eq!(header(1 << 30, 2, 0).len(), 104);
    }

    /// QEMU's own tool, where it is there: no fault found, and the same bytes come out.
    #[test]
    fn qemu_reads_it() {
        let size = (1 << 29) + (3 << 20) + 512;
        let pieces: [(u64, &[u8]); 4] =
            [(0, b"first"), (70_000, b"x"), (1 << 29, b"second table"), (size - 4, b"last")];
        let raw = disk(size, &pieces);
        let dir = tempfile::tempdir().unwrap();
        let (path, back) = (dir.path().join("d.qcow2"), dir.path().join("d.raw"));
        std::fs::write(&path, encode(&raw, size).unwrap()).unwrap();
        let run = |args: &[&std::ffi::OsStr]| Command::new("qemu-img").args(args).output();
        let Ok(checked) = run(&["check".as_ref(), path.as_ref()]) else {
            assert!(std::env::var_os("VAMBRACE_REQUIRE_TOOLS").is_none(), "no qemu-img");
            return;
        };
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(checked.status.success() && said.contains("No errors"), "{said}");
        let convert = ["convert", "-f", "qcow2", "-O", "raw"].map(std::ffi::OsStr::new);
        let converted = run(&[&convert[..], &[path.as_ref(), back.as_ref()]].concat()).unwrap();
        assert!(converted.status.success());
        let there = File::open(&back).unwrap();
        assert_eq!(there.metadata().unwrap().len(), size);
        for (at, bytes) in pieces {
            let mut read = vec![0; bytes.len()];
            there.read_exact_at(&mut read, at).unwrap();
            assert_eq!(read, bytes);
        }
    }
}
