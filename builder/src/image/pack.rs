//! Packing an image: chunk by chunk, on all CPUs.
//!
//! A chunk becomes a frame of its own (a stream, a member: all three formats say that a file may be several, one behind
//! another). So chunks are packed side by side, the result does not depend on how many CPUs there are, and all chunks that
//! are holes are one frame that is packed once.

use super::base::open;
use super::map::is_zero;
use super::packing::Packing;
use crate::cache::{Stamp, hex};
use crate::disk::{Partial, data_from};
use crate::error::{Error, Result, ResultExt};
use crate::progress::Progress;
use flate2::{Compression, GzBuilder};
use lzma_rust2::{XzOptions, XzWriter};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;

/// Bytes of a chunk: large enough that a format loses little by starting anew, small enough that a few fit into memory.
const CHUNK: usize = 2 << 20;
/// The levels, each its tool's default.
const ZSTD_LEVEL: i32 = 3;
const XZ_LEVEL: u32 = 6;
/// The operating system in a gzip header where none is named (RFC 1952, section 2.3.1).
const UNKNOWN_SYSTEM: u8 = 255;

/// An image that has been packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// How it is packed.
    pub packing: Packing,
    /// How the file looked when it was made.
    pub stamp: Stamp,
    /// The file's SHA-256, in hexadecimal.
    pub sha256: String,
}

impl Packed {
    /// Whether it lies beside `image`, and has not been touched since it was made.
    pub fn is_beside(&self, image: &Path) -> bool {
        Stamp::of(&packed_path(image, self.packing)).is_ok_and(|stamp| stamp == self.stamp)
    }
}

/// Where the image at `image` is put when it is packed: what bmaptool finds the image's map by.
pub fn packed_path(image: &Path, packing: Packing) -> PathBuf {
    beside(image, packing.suffix())
}

/// The file beside `image` that has its whole name and `suffix`.
pub(crate) fn beside(image: &Path, suffix: &str) -> PathBuf {
    let mut name = image.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Packs the image at `image`, and puts the result beside it. `image` stays.
///
/// # Errors
///
/// What cannot be read or written. What was there before is there then.
pub fn pack(image: &Path, packing: Packing, progress: &Progress) -> Result<Packed> {
    prepare(&open(image)?, image, packing, progress)?.put()
}

/// An image that has been packed, under a temporary name; gone when it is dropped before it was put in place.
#[derive(Debug)]
pub(crate) struct Prepared {
    packing: Packing,
    partial: Partial,
    sha256: String,
}

impl Prepared {
    /// Puts it beside the image, in place of what was there.
    ///
    /// # Errors
    ///
    /// A folder that cannot be written.
    pub(crate) fn put(self) -> Result<Packed> {
        let path = self.partial.path().to_owned();
        self.partial.keep()?;
        Ok(Packed { packing: self.packing, stamp: Stamp::of(&path)?, sha256: self.sha256 })
    }
}

/// Packs what `file` holds, which is the image at `image` or is going to be.
///
/// # Errors
///
/// What cannot be read or written.
pub(crate) fn prepare(file: &File, image: &Path, packing: Packing, progress: &Progress) -> Result<Prepared> {
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
    pack_in(file, image, packing, CHUNK, workers, progress)
}

/// The same, in chunks of `chunk` bytes, by so many workers.
fn pack_in(
    file: &File,
    image: &Path,
    packing: Packing,
    chunk: usize,
    workers: usize,
    progress: &Progress,
) -> Result<Prepared> {
    let path = packed_path(image, packing);
    if packing == Packing::None {
        return Err(Error::new("an image that is not packed is packed already").at(image));
    }
    let looks = || file.metadata().map(|meta| Stamp::from_metadata(&meta));
    let before = looks().context_at(image, || "cannot look at the image")?;
    let length = before.size();
    let step = progress.step(format!("packing {}", path.display()));
    let partial = Partial::create(&path)?;
    let mut to = BufWriter::new(partial.file());
    let mut hash = Sha256::new();
    let work = Work { file, length, packing, chunk };
    let hole = Packer::new(packing).and_then(|mut packer| packer.frame(&vec![0; chunk]));
    let hole = hole.context(|| "cannot pack zeros")?;
    let mut done = 0;
    work.each(workers, |packed| {
        let packed = packed.as_deref().unwrap_or(&hole);
        hash.update(packed);
        done += chunk as u64;
        step.set_bytes(done.min(length), length);
        to.write_all(packed).context_at(&path, || "cannot write the packed image")
    })
    .map_err(|error| error.at(image))?;
    // What is read behind a new, nearer end looks like a hole.
    if looks().context_at(image, || "cannot look at the image")? != before {
        return Err(Error::new("the image changed while it was packed")
            .at(image)
            .help("run this again when nobody writes to it"));
    }
    to.flush()
        .and_then(|()| partial.file().sync_all())
        .context_at(&path, || "cannot write the packed image")?;
    drop(to);
    step.finish();
    Ok(Prepared { packing, partial, sha256: hex(&hash.finalize()) })
}

/// Packs frame after frame.
enum Packer {
    None,
    Gzip,
    Xz,
    /// Its memory is asked for once, and cleared by the page that was written to.
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Packer {
    fn new(packing: Packing) -> io::Result<Self> {
        Ok(match packing {
            Packing::None => Self::None,
            Packing::Gzip => Self::Gzip,
            Packing::Xz => Self::Xz,
            Packing::Zstd => {
                let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
                compressor.include_checksum(true)?;
                Self::Zstd(compressor)
            }
        })
    }

    /// `data` as a frame of its own.
    fn frame(&mut self, data: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(data.to_vec()),
            Self::Gzip => {
                // Neither a time nor a name: the same bytes everywhere.
                let header = GzBuilder::new().operating_system(UNKNOWN_SYSTEM);
                let mut writer = header.write(Vec::new(), Compression::default());
                writer.write_all(data)?;
                writer.finish()
            }
            Self::Zstd(compressor) => compressor.compress(data),
            Self::Xz => {
                let mut options = XzOptions::with_preset(XZ_LEVEL);
                // A dictionary that is larger than the chunk is memory for nothing, also where it is unpacked.
                options.lzma_options.dict_size = options.lzma_options.dict_size.min(CHUNK as u32);
                let mut writer = XzWriter::new(Vec::new(), options)?;
                writer.write_all(data)?;
                writer.finish()
            }
        }
    }
}

/// An image that is being packed.
struct Work<'a> {
    file: &'a File,
    length: u64,
    packing: Packing,
    /// Bytes of a chunk.
    chunk: usize,
}

impl Work<'_> {
    /// Gives `take` the frames of all chunks in order; `None` stands for that of a whole chunk of zeros.
    fn each(&self, workers: usize, mut take: impl FnMut(Option<Vec<u8>>) -> Result<()>) -> Result<()> {
        let count = self.length.div_ceil(self.chunk as u64);
        let window = Window::new(2 * workers as u64);
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(workers);
            for _ in 0..workers {
                let (sender, window) = (sender.clone(), &window);
                scope.spawn(move || {
                    let mut packer = Packer::new(self.packing);
                    let mut data = Vec::new();
                    while let Some(number) = window.next(count) {
                        let packed = match &mut packer {
                            Ok(packer) => self.packed(number, packer, &mut data),
                            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
                        };
                        if sender.send((number, packed)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let mut early = BTreeMap::new();
            let mut wanted = 0;
            let taken = receiver.into_iter().try_for_each(|(number, packed)| {
                early.insert(number, packed.context(|| "cannot read or pack the image")?);
                while let Some(packed) = early.remove(&wanted) {
                    take(packed)?;
                    wanted += 1;
                    window.advance();
                }
                Ok(())
            });
            // Whoever waits for the window to move on ends.
            window.close();
            taken
        })
    }

    /// The frame of the chunk of this number, which is read into `data`.
    fn packed(&self, number: u64, packer: &mut Packer, data: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
        let start = number * self.chunk as u64;
        let end = self.length.min(start + self.chunk as u64);
        let whole = end - start == self.chunk as u64;
        if whole && data_from(self.file, start)?.is_none_or(|data| data >= end) {
            return Ok(None);
        }
        data.resize(usize::try_from(end - start).unwrap_or(self.chunk), 0);
        self.file.read_exact_at(data, start)?;
        if whole && is_zero(data) {
            return Ok(None);
        }
        packer.frame(data).map(Some)
    }
}

/// Which chunks may be under way: no more than some behind the last that was written, which bounds the memory.
struct Window {
    state: Mutex<(u64, u64)>,
    moved: Condvar,
    closed: AtomicBool,
}

impl Window {
    /// A window of `width` chunks.
    fn new(width: u64) -> Self {
        Self { state: Mutex::new((0, width)), moved: Condvar::new(), closed: AtomicBool::new(false) }
    }

    /// The number of the next chunk to pack, once it may be; `None` where there is none of the `count`, or no more is wanted.
    fn next(&self, count: u64) -> Option<u64> {
        let state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let waits = |&mut (next, end): &mut (u64, u64)| {
            next >= end && next < count && !self.closed.load(Ordering::Acquire)
        };
        let mut state =
            self.moved.wait_while(state, waits).unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.closed.load(Ordering::Acquire) || state.0 >= count {
            return None;
        }
        state.0 += 1;
        Some(state.0 - 1)
    }

    /// One more has been written.
    fn advance(&self) {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1 += 1;
        self.moved.notify_all();
    }

    fn close(&self) {
        let _state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.closed.store(true, Ordering::Release);
        self.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::io::Read;

    /// Bytes of a chunk, here.
    const SMALL: usize = 8192;

    /// A file of `length` bytes with `data` at these places.
    fn image(folder: &Path, length: u64, data: &[(u64, &[u8])]) -> PathBuf {
        let path = folder.join("x.img");
        let file = File::create(&path).unwrap();
        file.set_len(length).unwrap();
        data.iter().for_each(|(at, bytes)| file.write_all_at(bytes, *at).unwrap());
        path
    }

    fn packed(image: &Path, packing: Packing, chunk: usize, workers: usize) -> Vec<u8> {
        let file = open(image).unwrap();
        let told = pack_in(&file, image, packing, chunk, workers, &Progress::quiet()).unwrap().put().unwrap();
        let path = packed_path(image, packing);
        let bytes = fs::read(&path).unwrap();
        assert_eq!((told.packing, &told.stamp), (packing, &Stamp::of(&path).unwrap()));
        assert_eq!((told.stamp.size(), &told.sha256), (bytes.len() as u64, &crate::cache::sha256(&bytes)));
        bytes
    }

    fn unpacked(image: &Path, packing: Packing) -> Vec<u8> {
        let mut data = Vec::new();
        packing.open(&packed_path(image, packing)).unwrap().read_to_end(&mut data).unwrap();
        data
    }

    #[test]
    fn an_image_comes_back_whole_and_the_same_however_many_pack_it() {
        let dir = tempfile::tempdir().unwrap();
        let chunk = SMALL as u64;
        let ends = [1, chunk - 1, chunk, chunk + 1, 9 * chunk + 100];
        for (length, packing) in
            ends.into_iter().flat_map(|length| Packing::ALL.map(|packing| (length, packing)))
        {
            // What chunks end in, a hole of several, zeros that are no hole, and the last byte.
            let zeros = vec![0; SMALL];
            let data: [(u64, &[u8]); 4] =
                [(0, b"first"), (3 * chunk - 3, b"across"), (7 * chunk, &zeros), (length - 1, b"z")];
            let fits = data.iter().filter(|(at, bytes)| at + bytes.len() as u64 <= length);
            let path = image(dir.path(), length, &fits.copied().collect::<Vec<_>>());
            let one = packed(&path, packing, SMALL, 1);
            assert!(unpacked(&path, packing) == fs::read(&path).unwrap(), "{packing:?} of {length}");
            assert!(packed(&path, packing, SMALL, 5) == one, "{packing:?} of {length}");
        }
    }

    #[test]
    fn what_is_packed_is_told_by_its_first_bytes_and_is_small() {
        let dir = tempfile::tempdir().unwrap();
        let length = 3 * CHUNK as u64 + 5;
        let path = image(dir.path(), length, &[(CHUNK as u64 + 7, &[7; 5000])]);
        for packing in Packing::ALL {
            assert!((pack(&path, packing, &Progress::quiet()).unwrap().stamp.size()) < length / 200);
            let file = File::open(packed_path(&path, packing)).unwrap();
            assert_eq!(Packing::of(&file).unwrap(), packing);
        }
    }

    #[test]
    fn what_cannot_be_packed_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = image(dir.path(), 3, &[]);
        assert!(pack(&path, Packing::None, &Progress::quiet()).is_err());
        let gone = dir.path().join("gone.img");
        fs::write(packed_path(&gone, Packing::Gzip), "before").unwrap();
        assert!(pack(&gone, Packing::Gzip, &Progress::quiet()).is_err());
        assert_eq!(fs::read(packed_path(&gone, Packing::Gzip)).unwrap(), b"before");
    }

    #[test]
    fn an_error_ends_the_work_of_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = image(dir.path(), 64 * SMALL as u64, &[(0, &[1; 64 * SMALL])]);
        let file = File::open(&path).unwrap();
        let work = Work { file: &file, length: 64 * SMALL as u64, packing: Packing::Gzip, chunk: SMALL };
        let mut taken = 0;
        let said = work.each(3, |_| {
            taken += 1;
            if taken < 3 { Ok(()) } else { Err(Error::new("the disk is full")) }
        });
        assert_eq!((said.unwrap_err().what(), taken), ("the disk is full", 3));
        // The file has become shorter.
        let work = Work { length: 64 * SMALL as u64 + 1, ..work };
        assert!(work.each(3, |_| Ok(())).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn any_image_comes_back(
            length in 1_u64..(3 * SMALL as u64),
            pieces in proptest::collection::vec((any::<u64>(), 1_usize..5000, any::<u8>()), 0..6),
            which in 0_usize..3,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut wanted = vec![0; length as usize];
            for (at, count, byte) in pieces {
                let at = (at % length) as usize;
                let end = wanted.len().min(at + count);
                wanted[at..end].fill(byte);
            }
            let path = image(dir.path(), length, &[(0, &wanted)]);
            packed(&path, Packing::ALL[which], SMALL, 2);
            prop_assert!(unpacked(&path, Packing::ALL[which]) == wanted);
        }
    }
}
