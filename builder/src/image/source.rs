//! An image's file, and the pieces of it that have to be written.

use super::base::open;
use super::bmap;
use super::map::{BLOCK, BlockMap, Surveyor};
use super::packing::Packing;
use crate::disk::data_from;
use crate::error::{Error, Result, ResultExt};
use crate::progress::Progress;
use crate::report::size;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes that are read at once, and the most that a piece has.
const PIECE: usize = 1 << 20;

/// Bytes of an image, and where they belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The first one's place in the image.
    pub offset: u64,
    /// The bytes; at most 1 MiB.
    pub data: Vec<u8>,
}

/// An image that is there as a file.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    /// As long as it is open, no build writes to it; a build that gives its name to another one changes nothing here.
    file: File,
    packing: Packing,
    map: BlockMap,
    beside: Option<PathBuf>,
}

impl Image {
    /// Opens the image at `path`, of at most `limit` bytes. Without a block map beside it, it is read to its end once:
    /// what is damaged shows before anything is written anywhere.
    ///
    /// # Errors
    ///
    /// What is no file, a damaged file or map, a map of another image, and an image that is larger.
    pub fn open(path: &Path, limit: u64, progress: &Progress) -> Result<Self> {
        // Before it is opened: opening a pipe would wait for somebody to write into it.
        let meta = path.metadata().context_at(path, || "cannot find the image")?;
        if !meta.is_file() {
            return Err(Error::new("the image is no file").at(path));
        }
        let file = open(path)?;
        let packing = Packing::of(&file).context_at(path, || "cannot read the image")?;
        let beside = bmap::beside(path);
        let map = match &beside {
            Some(map) => bmap::read(map)?,
            None => survey(&file, path, packing, limit, progress)?,
        };
        if map.image_size() > limit {
            return Err(too_large(path, &format!("{} bytes", map.image_size()), limit));
        }
        if packing == Packing::None && meta.len() != map.image_size() {
            let text =
                format!("the image has {} bytes, and its block map says {}", meta.len(), map.image_size());
            return Err(foreign(Error::new(text), beside.as_deref()).at(path));
        }
        Ok(Self { path: path.to_owned(), file, packing, map, beside })
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What of it has to be written.
    pub fn map(&self) -> &BlockMap {
        &self.map
    }

    /// The file that the map came from.
    pub fn beside(&self) -> Option<&Path> {
        self.beside.as_deref()
    }

    /// Reads the ranges in order but for those from whose first byte to the one behind `skipped` says true, compares each
    /// with its hash, and gives every piece to `take`, until that says false.
    ///
    /// # Errors
    ///
    /// What cannot be read, is damaged, or is not what the map says. Pieces of a damaged range have been given by then.
    pub fn pieces(
        &self,
        skipped: impl Fn(std::ops::Range<u64>) -> bool,
        mut take: impl FnMut(Piece) -> bool,
    ) -> Result<()> {
        let plain = (self.packing == Packing::None).then_some(&self.file);
        let again = || self.file.try_clone().and_then(|mut file| file.rewind().map(|()| file));
        let file = again().context_at(&self.path, || "cannot read the image")?;
        let mut stream = self.packing.unpack(file);
        let mut at = 0;
        for range in self.map.ranges() {
            let (start, end) = self.map.bytes(range);
            if skipped(start..end) {
                continue;
            }
            if plain.is_none() {
                self.pass_over(&mut stream, start - at)?;
            }
            let mut hash = Sha256::new();
            at = start;
            while at < end {
                let mut data = vec![0; usize::try_from(end - at).unwrap_or(PIECE).min(PIECE)];
                match &plain {
                    Some(file) => file.read_exact_at(&mut data, at),
                    None => stream.read_exact(&mut data),
                }
                .map_err(|error| self.unreadable(error, at))?;
                if range.sha256.is_some() {
                    hash.update(&data);
                }
                let length = data.len() as u64;
                if !take(Piece { offset: at, data }) {
                    return Ok(());
                }
                at += length;
            }
            if range.sha256.is_some_and(|wanted| wanted != <[u8; 32]>::from(hash.finalize())) {
                let text =
                    format!("the image's bytes {start:#x} to {end:#x} are not those that its map names");
                return Err(foreign(Error::new(text), self.beside()).at(&self.path));
            }
        }
        if plain.is_none() {
            // To the end, where the packing has its checksums.
            self.pass_over(&mut stream, self.map.image_size() - at)?;
            let more = read_full(&mut stream, &mut [0]).map_err(|error| self.unreadable(error, at))?;
            if more != 0 {
                let text = format!("the image has more than the {} bytes of its map", self.map.image_size());
                return Err(foreign(Error::new(text), self.beside()).at(&self.path));
            }
        }
        Ok(())
    }

    fn pass_over(&self, stream: &mut impl Read, count: u64) -> Result<()> {
        let passed = io::copy(&mut stream.take(count), &mut io::sink());
        let passed = passed.map_err(|error| self.unreadable(error, 0))?;
        if passed != count {
            return Err(self.unreadable(ErrorKind::UnexpectedEof.into(), passed));
        }
        Ok(())
    }

    fn unreadable(&self, error: io::Error, at: u64) -> Error {
        if error.kind() == ErrorKind::UnexpectedEof {
            let text = format!("the image ends before its {} bytes", self.map.image_size());
            return foreign(Error::new(text), self.beside()).at(&self.path);
        }
        damaged(error, &self.path, at)
    }
}

fn foreign(error: Error, beside: Option<&Path>) -> Error {
    match beside {
        Some(map) => error.help(format!(
            "the image is damaged, or {} is of another image: get both again, or move the map away",
            map.display()
        )),
        None => error.help("the file changed while it was read: run this again when nobody writes to it"),
    }
}

fn damaged(error: io::Error, path: &Path, at: u64) -> Error {
    Error::new(format!("the image cannot be read, at about byte {at:#x} of what is in it"))
        .because(error)
        .at(path)
        .help("the file is damaged or not complete: get it again")
}

fn too_large(path: &Path, what: &str, limit: u64) -> Error {
    Error::new(format!("the image has {what}, and the medium {limit} bytes ({})", size(limit)))
        .at(path)
        .help("take a larger medium")
}

/// Reads the whole image and maps what is not zero.
fn survey(file: &File, path: &Path, packing: Packing, limit: u64, progress: &Progress) -> Result<BlockMap> {
    let step = progress.step(format!("reading {}", path.display()));
    let length = file.metadata().context_at(path, || "cannot look at the image")?.len();
    let mut surveyor = Surveyor::new();
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    if packing == Packing::None {
        if length > limit {
            return Err(too_large(path, &format!("{length} bytes"), limit));
        }
        while at < length {
            let data = data_from(file, at).context_at(path, || "cannot find the holes of the image")?;
            let start = data.unwrap_or(length) / BLOCK * BLOCK;
            if start > at || data.is_none() {
                surveyor.skip((start.max(at) - at) / BLOCK);
                at = start.max(at);
            }
            if data.is_none() {
                break;
            }
            let count = usize::try_from(length - at).unwrap_or(PIECE).min(PIECE);
            let piece = buffer.get_mut(..count).unwrap_or_default();
            file.read_exact_at(piece, at).map_err(|error| damaged(error, path, at))?;
            surveyor.take(piece);
            at += count as u64;
            step.set(at, length);
        }
        step.finish();
        return surveyor.finish(length);
    }
    let mut stream = packing.open(path)?;
    loop {
        let count = read_full(&mut stream, &mut buffer).map_err(|error| damaged(error, path, at))?;
        surveyor.take(buffer.get(..count).unwrap_or_default());
        at += count as u64;
        if at > limit {
            return Err(too_large(path, "more bytes", limit));
        }
        if count < PIECE {
            break;
        }
    }
    step.note(format!("{} when unpacked", size(at)));
    surveyor.finish(at)
}

/// Fills `buffer` as far as the stream goes.
fn read_full(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Rest;
    use crate::image::bmap::tests::text;
    use crate::image::is_zero;
    use proptest::prelude::*;
    use std::fs;
    use std::io::Write;

    const LIMIT: u64 = 1 << 30;

    fn sample() -> Vec<u8> {
        let mut data = vec![0; (2 << 20) + 700];
        for (index, byte) in data.iter_mut().enumerate().skip(9000).take(1_300_000) {
            *byte = ((index * 7) >> 3) as u8;
        }
        data[(2 << 20) + 600] = 9;
        data
    }

    fn open(path: &Path) -> Result<Image> {
        Image::open(path, LIMIT, &Progress::quiet())
    }

    /// The image put together from its pieces.
    fn whole(image: &Image) -> Result<Vec<u8>> {
        let mut data = vec![0; image.map().image_size() as usize];
        image.pieces(
            |_| false,
            |piece| {
                data[piece.offset as usize..][..piece.data.len()].copy_from_slice(&piece.data);
                true
            },
        )?;
        Ok(data)
    }

    fn gz(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zst(data: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn every_packing_gives_the_same_image() {
        let dir = tempfile::tempdir().unwrap();
        let data = sample();
        let (front, back) = data.split_at(1 << 20);
        // Of two members, two frames, with something to be passed over.
        let skip = [0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let packed = [
            ("raw", data.clone()),
            ("gz", [gz(front), gz(back)].concat()),
            ("zst", [&skip[..], &zst(front), &skip, &zst(back)].concat()),
        ];
        let mut maps = Vec::new();
        for (name, bytes) in packed {
            // The name says nothing: the bytes do.
            let path = dir.path().join(name);
            fs::write(&path, &bytes).unwrap();
            let image = open(&path).unwrap();
            assert!(whole(&image).unwrap() == data, "{name}");
            maps.push(image.map.clone());
            if name != "raw" {
                for cut in [bytes.len() - 1, bytes.len() / 2, 20] {
                    fs::write(&path, &bytes[..cut]).unwrap();
                    assert!(open(&path).is_err(), "{name} cut at {cut}");
                }
            }
        }
        assert!(maps.iter().all(|map| *map == maps[0] && map.rest() == Rest::Zero));
        assert!(maps[0].mapped() < 1_400_000);
    }

    #[test]
    fn a_sparse_file_is_mapped_as_its_bytes_are() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8 << 20).unwrap();
        file.as_file().write_all_at(&[1; 5000], (3 << 20) + 100).unwrap();
        file.flush().unwrap();
        let image = open(file.path()).unwrap();
        assert_eq!(image.map().mapped(), 8192);
        let data = whole(&image).unwrap();
        assert!(data == fs::read(file.path()).unwrap() && !is_zero(&data));
    }

    #[test]
    fn a_map_beside_it_is_believed_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let (path, map) = (dir.path().join("x.img.gz"), dir.path().join("x.bmap"));
        let data = sample();
        fs::write(&path, gz(&data)).unwrap();
        let hash = crate::cache::sha256(&data[8192..12288]);
        let write = |size: u64, hash: &str| {
            fs::write(&map, text(4096, size, 1, &format!("<Range chksum=\"{hash}\">2</Range>"))).unwrap();
        };
        write(data.len() as u64, &hash);
        let image = open(&path).unwrap();
        assert_eq!(
            (image.map().rest(), image.map().mapped(), image.beside()),
            (Rest::Any, 4096, Some(&*map))
        );
        assert!(whole(&image).unwrap()[8192..12288] == data[8192..12288]);

        let refused = |why: &str| {
            let said = open(&path).and_then(|image| whole(&image)).unwrap_err().report();
            assert!(said.contains(why) && said.contains("move the map away"), "{said}");
        };
        write(data.len() as u64, &hash.replace(&hash[..4], "0000"));
        refused("not those that its map names");
        write(data.len() as u64 - 1, &hash);
        refused("has more than");
        write(data.len() as u64 + 1, &hash);
        refused("ends before");
        fs::write(&path, &data).unwrap();
        refused("its block map says");
    }

    #[test]
    fn what_cannot_be_an_image_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        assert!(open(&path).is_err());
        assert!(open(dir.path()).unwrap_err().report().contains("no file"));
        fs::write(&path, "").unwrap();
        assert!(open(&path).unwrap_err().report().contains("empty"));
        // A bomb is stopped at the medium's size.
        fs::write(&path, gz(&vec![0; 3 << 20])).unwrap();
        let said = Image::open(&path, 1 << 20, &Progress::quiet()).unwrap_err().report();
        assert!(said.contains("larger medium"), "{said}");
    }

    #[test]
    fn a_file_that_changes_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut data = sample();
        fs::write(&path, &data).unwrap();
        let image = open(&path).unwrap();
        data[10_000] ^= 1;
        fs::write(&path, &data).unwrap();
        assert!(whole(&image).unwrap_err().report().contains("changed while it was read"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damage_is_an_error_or_another_image_never_a_panic(kind in 0..2, at in any::<prop::sample::Index>(), flip in 1_u8..) {
            let data: Vec<u8> = (0..9000_u32).map(|index| ((index * index) >> 7) as u8).collect();
            let mut bytes = if kind == 0 { gz(&data) } else { zst(&data) };
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x");
            fs::write(&path, &bytes).unwrap();
            if let Ok(image) = open(&path) {
                let _ = whole(&image);
            }
        }
    }
}
