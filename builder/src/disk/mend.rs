//! Mends what the `fatfs` crate (0.3.6) leaves out of order in folders.
//!
//! It gives `.` and `..` long names, which makes fsck and some firmware take the folder for a damaged one, and lets `..`
//! of a folder in the root name the root's cluster where the specification wants 0. Both are set right here, in place.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::sparse::Pages;
use crate::error::{Error, Result, ResultExt};

const SLOT: usize = 32;
const LONG_NAME: u8 = 0x0f;
const FOLDER: u8 = 0x10;
const END: u32 = 0x0fff_fff8;
/// Folders in one file system: a chain that leads in circles ends here.
const MAX_FOLDERS: usize = 1 << 20;

struct Geometry {
    table: u64,
    data: u64,
    cluster: u64,
    clusters: u32,
}

/// Walks all folders below the root and mends each.
pub(super) fn mend(pages: &mut Pages) -> Result<()> {
    let mut boot = [0; 512];
    read_at(pages, 0, &mut boot).context(|| "cannot read the boot sector")?;
    let word = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
    let double = |at: usize| u32::from_le_bytes([boot[at], boot[at + 1], boot[at + 2], boot[at + 3]]);
    let table = word(14) * 512;
    let data = table + u64::from(boot[16]) * u64::from(double(36)) * 512;
    let cluster = u64::from(boot[13]) * 512;
    let count = (u64::from(double(32)) * 512).saturating_sub(data).checked_div(cluster).unwrap_or(0);
    let geometry = Geometry { table, data, cluster, clusters: u32::try_from(count).unwrap_or(0) };
    let root = double(44);
    let mut folders = vec![(root, None)];
    let mut seen = 0;
    while let Some((first, parent)) = folders.pop() {
        seen += 1;
        if seen > MAX_FOLDERS {
            return Err(broken());
        }
        let chain = chain(pages, &geometry, first).context(|| "cannot read a folder")?;
        let mut bytes = vec![0; chain.len() * usize::try_from(cluster).unwrap_or(0)];
        transfer(&chain, &geometry, &mut bytes, |at, piece| read_at(pages, at, piece))
            .context(|| "cannot read a folder")?;
        if let Some(parent) = parent {
            unname(&mut bytes, if parent == root { 0 } else { parent })?;
            transfer(&chain, &geometry, &mut bytes, |at, piece| write_at(pages, at, piece))
                .context(|| "cannot write a folder")?;
        }
        for slot in bytes.chunks_exact(SLOT).take_while(|slot| slot[0] != 0) {
            if slot[0] != 0xe5
                && slot[0] != b'.'
                && slot[11] & FOLDER != 0
                && slot[11] & LONG_NAME != LONG_NAME
            {
                folders.push((first_cluster(slot), Some(first)));
            }
        }
    }
    Ok(())
}

/// Takes the two long names away and moves everything behind them up.
fn unname(bytes: &mut Vec<u8>, parent: u32) -> Result<()> {
    let length = bytes.len();
    let is = |slot: usize, name: &[u8]| bytes.get(slot * SLOT..slot * SLOT + 11) == Some(name);
    let long = |slot: usize| bytes.get(slot * SLOT + 11) == Some(&LONG_NAME);
    if !(long(0) && is(1, b".          ") && long(2) && is(3, b"..         ")) {
        return Err(broken());
    }
    bytes.drain(2 * SLOT..3 * SLOT);
    bytes.drain(..SLOT);
    bytes.resize(length, 0);
    let [low0, low1, high0, high1] = parent.to_le_bytes();
    for (at, byte) in [(20, high0), (21, high1), (26, low0), (27, low1)] {
        *bytes.get_mut(SLOT + at).ok_or_else(broken)? = byte;
    }
    Ok(())
}

fn first_cluster(slot: &[u8]) -> u32 {
    u32::from_le_bytes([slot[26], slot[27], slot[20], slot[21]])
}

fn chain(pages: &mut Pages, geometry: &Geometry, first: u32) -> io::Result<Vec<u32>> {
    let mut chain = Vec::new();
    let mut at = first;
    while at < END {
        if at < 2 || at >= geometry.clusters.saturating_add(2) || chain.len() > geometry.clusters as usize {
            return Err(io::ErrorKind::InvalidData.into());
        }
        chain.push(at);
        let mut entry = [0; 4];
        read_at(pages, geometry.table + u64::from(at) * 4, &mut entry)?;
        at = u32::from_le_bytes(entry) & 0x0fff_ffff;
    }
    Ok(chain)
}

fn transfer(
    chain: &[u32],
    geometry: &Geometry,
    bytes: &mut [u8],
    mut each: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<()> {
    let size = usize::try_from(geometry.cluster).unwrap_or(1).max(1);
    for (&cluster, piece) in chain.iter().zip(bytes.chunks_mut(size)) {
        each(geometry.data + u64::from(cluster - 2) * geometry.cluster, piece)?;
    }
    Ok(())
}

fn read_at(pages: &mut Pages, at: u64, into: &mut [u8]) -> io::Result<()> {
    pages.seek(SeekFrom::Start(at))?;
    pages.read_exact(into)
}

fn write_at(pages: &mut Pages, at: u64, from: &[u8]) -> io::Result<()> {
    pages.seek(SeekFrom::Start(at))?;
    pages.write_all(from)
}

fn broken() -> Error {
    Error::new("the FAT32 file system has a folder of an unexpected form")
}
