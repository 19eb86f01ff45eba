//! What is inspected as a window of bytes: a file, a block device, or what is packed in a file.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::fault::Fault;
use super::thing::Packing;
use super::window::Window;
use crate::disk::sparse::Writer;
use crate::error::{Error, Result, ResultExt};
use crate::progress::Progress;

/// The largest image that is unpacked, and what of it may be other than zeros.
const MOST_UNPACKED: u64 = 64 << 30;
const MOST_WRITTEN: u64 = 16 << 30;

/// What is inspected.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) window: Window,
    /// How the file was packed.
    pub(super) packing: Option<&'static str>,
}

/// Opens `path`, read-only.
///
/// # Errors
/// What is no file and no block device, cannot be read, or unpacks to more than there is room for.
pub(super) fn open(path: &Path, faults: &mut Vec<Fault>, progress: &Progress) -> Result<Source> {
    let kind = fs::metadata(path).context_at(path, || "cannot find what is to be inspected")?.file_type();
    // Opening a pipe or a terminal would wait.
    if !kind.is_file() && !kind.is_block_device() {
        return Err(Error::new("this is neither a file nor a block device").at(path));
    }
    let mut file = File::open(path).map_err(|error| {
        let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
        let told = Error::new("cannot open what is to be inspected").because(error).at(path);
        if denied {
            told.help("reading a disk takes the right to: run this as root, or copy the disk into a file")
        } else {
            told
        }
    })?;
    let size = file.seek(SeekFrom::End(0)).context_at(path, || "cannot find out the size")?;
    file.rewind().context_at(path, || "cannot read it")?;
    let mut head = Vec::new();
    (&mut file).take(16).read_to_end(&mut head).context_at(path, || "cannot read it")?;
    let Some(packing) = Packing::of(&head).filter(|_| kind.is_file()) else {
        return Ok(Source { window: Window::of_file(file, size), packing: None });
    };
    file.rewind().context_at(path, || "cannot read it")?;
    let step = progress.step(format!("unpacking {}", path.display()));
    let (unpacked, length, wrong) =
        unpack(file, packing, &|done| step.set(done, size)).map_err(|error| error.at(path))?;
    step.finish();
    if let Some(wrong) = wrong {
        let what = format!("the {} stream ends after {length} bytes: {wrong}", packing.name());
        faults.push(
            Fault::error(path.display().to_string(), what)
                .help("the download is damaged or cut short: get it again"),
        );
    }
    Ok(Source { window: Window::of_file(unpacked, length), packing: Some(packing.name()) })
}

/// Unpacks `packed` into a file that has no name. Gives it with its length, and what was wrong with the stream.
fn unpack(packed: File, packing: Packing, report: &dyn Fn(u64)) -> Result<(File, u64, Option<String>)> {
    let cannot = || "cannot write the unpacked image into the folder for temporary files (TMPDIR)";
    let unpacked = tempfile::tempfile().context(cannot)?;
    let position = packed.try_clone().context(|| "cannot read it")?;
    let mut written = 0;
    let mut length = 0_u64;
    let mut wrong = None;
    let mut input = BufReader::with_capacity(1 << 17, packed);
    let mut buffer = vec![0; 1 << 20];
    let mut frame = 0;
    // A zstd file may be several frames, of which its reader reads one.
    while wrong.is_none()
        && (frame == 0 || packing == Packing::Zstd && input.fill_buf().is_ok_and(|rest| !rest.is_empty()))
    {
        frame += 1;
        let mut reader = match packing.reader(&mut input) {
            Ok(reader) => reader,
            Err(error) => {
                wrong = Some(error.to_string());
                break;
            }
        };
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => {
                    wrong = Some(error.to_string());
                    break;
                }
            };
            let piece = buffer.get(..count).unwrap_or_default();
            let mut writer = Writer::new(&unpacked, |_| {});
            writer.write(length, piece).context(cannot)?;
            written += if piece.iter().any(|&byte| byte != 0) { count as u64 } else { 0 };
            length += count as u64;
            if length > MOST_UNPACKED || written > MOST_WRITTEN {
                let what = format!(
                    "it unpacks to more than {} GiB, {} of them not zero",
                    MOST_UNPACKED >> 30,
                    MOST_WRITTEN >> 30
                );
                return Err(
                    Error::new(what).help("unpack it yourself, if that is right, and inspect the result")
                );
            }
            report((&position).stream_position().unwrap_or(0));
        }
    }
    unpacked.set_len(length).context(cannot)?;
    Ok((unpacked, length, wrong))
}
