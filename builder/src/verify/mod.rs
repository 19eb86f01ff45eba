//! Reading a finished image back, with code that had no part in writing it.
//!
//! Nothing here calls the crates that made the image: tables and file systems are taken apart by the letter of their
//! specifications, ext4 with the checksums of all its structures, and compared with what was asked for.

pub(crate) mod ext4;
pub(crate) mod fat;
mod gpt;
mod lvm;
mod mbr;

pub(crate) use lvm::volumes;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::disk::{Claim, Content, DiskSpec, Table, Written};
use crate::error::{Error, Result, ResultExt};
use crate::parallel::each;
use crate::progress::Progress;

/// Bytes that are compared at once.
const PIECE: usize = 1 << 18;

/// Compares the image at `path` with `spec`: length, partition tables, every file system
/// with the contents of every file, and every raw blob.
///
/// # Errors
/// The first difference, with its place.
pub fn verify_image(path: &Path, spec: &DiskSpec, progress: &Progress) -> Result<()> {
    verify_written(path, spec, &Written::default(), progress).map(drop)
}

/// The same, but that files of which `written` has sums are not read: what has to be where is given back.
pub(crate) fn verify_written(
    path: &Path,
    spec: &DiskSpec,
    written: &Written,
    progress: &Progress,
) -> Result<Vec<Claim>> {
    let step = progress.step("reading the image back");
    let claims = check(path, spec, written).map_err(|error| unusable(error, path))?;
    step.finish();
    Ok(claims)
}

/// The error of an image that is not what was written.
pub(crate) fn unusable(error: Error, path: &Path) -> Error {
    error
        .at(path)
        .help("the image must not be used; build it again, and check the disk it is on if this comes back")
}

fn check(path: &Path, spec: &DiskSpec, written: &Written) -> Result<Vec<Claim>> {
    let claims = Mutex::default();
    let file = File::open(path).context_at(path, || "cannot open the image")?;
    let length = file.metadata().context_at(path, || "cannot read the image's size")?.len();
    if length != spec.size {
        return Err(Error::new(format!("the image has {length} bytes instead of {}", spec.size)));
    }
    match &spec.table {
        Table::Gpt(table) => gpt::check(&file, spec, table)?,
        Table::Mbr { signature } => mbr::check(&file, spec, *signature)?,
    }
    each(&spec.partitions, |partition| {
        let failed = || format!("partition `{}` is not what was written", partition.name);
        check_content(
            &file,
            (partition.start, partition.size),
            &partition.content,
            spec.epoch,
            written,
            &claims,
        )
        .map_err(|error| error.context(failed()))
    })?;
    for blob in &spec.raw {
        same(&file, blob.offset, &blob.data)
            .map_err(|error| error.context(format!("{} is not what was written", blob.name)))?;
    }
    Ok(claims.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Compares the `size` bytes from byte `start` on with what was asked for; what `written` has sums of is added to `claims`.
pub(crate) fn check_content(
    file: &File,
    (start, size): (u64, u64),
    content: &Content,
    epoch: u64,
    written: &Written,
    claims: &Mutex<Vec<Claim>>,
) -> Result<()> {
    match content {
        // It was compared when it was written, and nobody has written to it since.
        Content::Empty | Content::Same => Ok(()),
        Content::Raw(data) => same(file, start, data),
        Content::Fat32(wanted) => fat::check(file, start, size, wanted),
        Content::Ext4(wanted) => ext4::check(file, (start, size), wanted, epoch, written.at(start), claims),
        Content::Lvm(wanted) => {
            for (volume, (place, size)) in wanted.volumes.iter().zip(lvm::check(file, start, size, wanted)?) {
                check_content(file, (start + place, size), &volume.content, epoch, written, claims)
                    .map_err(|error| error.context(format!("the volume `{}`", volume.name)))?;
            }
            Ok(())
        }
    }
}

/// Compares the file's bytes at `offset` with `data`.
fn same(file: &File, offset: u64, data: &[u8]) -> Result<()> {
    let mut buffer = vec![0; data.len().min(PIECE)];
    let mut at = offset;
    for piece in data.chunks(PIECE) {
        let there = buffer.get_mut(..piece.len()).unwrap_or_default();
        file.read_exact_at(there, at).context(|| format!("cannot read the image at byte {at:#x}"))?;
        if there != piece {
            let differs = there.iter().zip(piece).position(|(a, b)| a != b).unwrap_or(0);
            return Err(Error::new(format!(
                "the first difference is at byte {:#x} of the image",
                at + differs as u64
            )));
        }
        at += piece.len() as u64;
    }
    Ok(())
}

/// The `size` bytes from byte `offset` of the image on; callers say how many there can be at most.
pub(crate) fn read(file: &File, offset: u64, size: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0; size];
    file.read_exact_at(&mut buffer, offset)
        .context(|| format!("cannot read the image at byte {offset:#x}"))?;
    Ok(buffer)
}

pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Result<u16> {
    field(bytes, offset).map(u16::from_le_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Result<u32> {
    field(bytes, offset).map(u32::from_le_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Result<u64> {
    field(bytes, offset).map(u64::from_le_bytes)
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N]> {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk().copied())
        .ok_or_else(|| Error::new(format!("a structure of the image ends before its byte {offset}")))
}
