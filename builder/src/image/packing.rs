//! How an image's file is packed, told by its first bytes, and the stream of what is in it.

use crate::error::{Result, ResultExt};
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Memory that an xz or zstd stream may ask for, in KiB: `zstd --long` and `xz -9` ask for 128 MiB at most.
const MAX_DECODER_KIB: u32 = 256 << 10;

/// How an image's file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packing {
    /// Not at all.
    None,
    /// gzip, RFC 1952.
    Gzip,
    /// xz.
    Xz,
    /// Zstandard, RFC 8878.
    Zstd,
}

impl Packing {
    /// Those that an image can be packed with.
    pub const ALL: [Self; 3] = [Self::Gzip, Self::Xz, Self::Zstd];

    /// What a file's name ends in behind a dot; nothing where it is not packed.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => "gz",
            Self::Xz => "xz",
            Self::Zstd => "zst",
        }
    }

    /// How `file` is packed.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn of(file: &File) -> io::Result<Self> {
        let mut magic = [0; 6];
        let mut length = 0;
        while let Some(rest) = magic.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, length as u64)? {
                0 => break,
                count => length += count,
            }
        }
        Ok(match magic {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        })
    }

    /// The stream of what is in the file at `path`.
    ///
    /// # Errors
    ///
    /// A file that cannot be opened. Damage shows when the stream is read.
    pub fn open(self, path: &Path) -> Result<Box<dyn Read + Send>> {
        Ok(self.unpack(File::open(path).context_at(path, || "cannot open the image")?))
    }

    /// The stream of what is in `file`, from where that is.
    pub fn unpack(self, file: File) -> Box<dyn Read + Send> {
        let packed = BufReader::with_capacity(1 << 17, file);
        match self {
            Self::None => Box::new(packed),
            Self::Gzip => Box::new(MultiGzDecoder::new(packed)),
            Self::Xz => Box::new(XzReader::new_mem_limit(packed, true, MAX_DECODER_KIB)),
            Self::Zstd => Box::new(Frames::new(packed)),
        }
    }
}

/// The frames of a Zstandard file, one after the other, each compared with its checksum.
struct Frames<R> {
    packed: R,
    decoder: FrameDecoder,
    /// Whether the decoder is in a frame.
    inside: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(packed: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(u64::from(MAX_DECODER_KIB) << 10);
        Self { packed, decoder, inside: false }
    }

    /// Begins the next frame; false where there is none.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.packed.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.packed) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let skipped = io::copy(&mut (&mut self.packed).take(u64::from(length)), &mut io::sink())?;
                    if skipped != u64::from(length) {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.inside {
                if !self.begin()? {
                    return Ok(0);
                }
                self.inside = true;
            }
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            }
            if self.decoder.is_finished() {
                let (said, real) =
                    (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum());
                if said.is_some() && said != real {
                    return Err(io::Error::new(ErrorKind::InvalidData, "the checksum of a frame is another"));
                }
                self.inside = false;
                continue;
            }
            let one = BlockDecodingStrategy::UptoBlocks(1);
            self.decoder.decode_blocks(&mut self.packed, one).map_err(io::Error::other)?;
        }
    }
}
