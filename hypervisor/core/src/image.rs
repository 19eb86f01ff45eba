//! Kernel images: what a module's bytes are, and what a kernel asks of the memory it is put into (Linux,
//! Documentation/arch/arm64/booting.rst; RFC 1952 for gzip).
//!
//! The bytes lie in physical memory, so they are read through a closure, and none of them is believed.

use alloc::boxed::Box;
use alloc::vec;
use core::fmt;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// Bytes of the arm64 `Image` header.
pub const HEADER_BYTES: usize = 64;
/// text_offset of kernels before 3.17, which left the size empty.
const OLD_TEXT_OFFSET: u64 = 0x8_0000;
/// What kernels before 3.17 may need after their file, for their zeroed data.
const OLD_BSS_BYTES: u64 = 16 << 20;
/// Window of the decompressor; Deflate looks back at most 32 KiB, and the window must be a power of two.
const WINDOW: usize = 32 * 1024;
/// Bytes read from the module at a time.
const CHUNK: usize = 16 * 1024;
/// The most that a compressed kernel may grow to.
const MAX_KERNEL: u64 = 1 << 30;

/// Why an image cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImageError {
    /// The module's memory cannot be read at this offset.
    Unreadable(u64),
    /// The module is shorter than what it claims to be.
    Truncated,
    /// The module is a kernel or a program of another kind; this names it.
    Wrong(&'static str),
    /// Nothing known.
    Unknown,
    /// The kernel is big-endian.
    BigEndian,
    /// The compressed stream is damaged.
    Damaged,
    /// The kernel is larger than the room for it, in bytes.
    TooLarge(u64),
    /// The destination cannot be written at this offset.
    Unwritable(u64),
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(offset) => write!(f, "the module's memory cannot be read at offset {offset:#x}"),
            Self::Truncated => write!(f, "the kernel module is cut off"),
            Self::Wrong(what) => write!(f, "the kernel module is {what}, not an arm64 Image (plain or gzip)"),
            Self::Unknown => write!(f, "the kernel module is not an arm64 Image (plain or gzip)"),
            Self::BigEndian => write!(f, "the kernel is big-endian"),
            Self::Damaged => write!(f, "the compressed kernel is damaged"),
            Self::TooLarge(room) => write!(f, "the kernel does not fit into {room:#x} bytes"),
            Self::Unwritable(offset) => {
                write!(f, "the kernel's memory cannot be written at offset {offset:#x}")
            }
        }
    }
}

impl core::error::Error for ImageError {}

/// How the kernel lies in its module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packing {
    /// As it is.
    Plain,
    /// As a gzip stream that starts `offset` bytes into the module and is `size` bytes long (the whole module, or the
    /// payload of an EFI zboot image).
    Gzip {
        /// Offset in the module, in bytes.
        offset: u64,
        /// Length, in bytes.
        size: u64,
    },
}

/// An arm64 kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelImage {
    /// How it lies in its module.
    pub packing: Packing,
    /// Where it wants to lie, in bytes after a 2 MiB boundary.
    pub text_offset: u64,
    /// Memory it needs from there on, in bytes: file, zeroed data and early tables.
    pub memory_size: u64,
    /// Length of the kernel's file as it lies in memory, in bytes. For gzip the length modulo 4 GiB that the stream
    /// claims.
    pub file_size: u64,
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

impl KernelImage {
    /// Finds out what the `size` bytes of a module are. `read(offset, buffer)` fills the buffer from the module and
    /// says whether it could; it is never asked for bytes past `size`.
    pub fn inspect(size: u64, mut read: impl FnMut(u64, &mut [u8]) -> bool) -> Result<Self, ImageError> {
        let mut head = [0; 1024];
        let head = head.get_mut(..size.min(1024) as usize).unwrap_or_default();
        get(&mut read, 0, head)?;
        if let Some(image) = Self::from_header(head, size, Packing::Plain)? {
            return Ok(image);
        }
        let (offset, length) = if head.starts_with(&[0x1f, 0x8b]) {
            (0, size)
        } else if let Some(payload) = zboot_payload(head)? {
            payload
        } else {
            return Err(foreign(head));
        };
        let within = offset.checked_add(length).is_some_and(|end| end <= size);
        if !within || length < 18 {
            return Err(ImageError::Truncated);
        }
        // The last word of a gzip stream is the length of what it holds.
        let mut tail = [0; 4];
        get(&mut read, offset + length - 4, &mut tail)?;
        let unpacked = u64::from(u32::from_le_bytes(tail));
        let packing = Packing::Gzip { offset, size: length };
        let mut inner = [0; HEADER_BYTES];
        let mut filled = 0;
        let taken = inflate(offset, length, &mut read, |chunk| {
            let want = inner.get_mut(filled..).unwrap_or_default();
            let count = want.len().min(chunk.len());
            for (to, from) in want.iter_mut().zip(chunk) {
                *to = *from;
            }
            filled += count;
            Ok(filled < HEADER_BYTES)
        });
        taken?;
        match Self::from_header(inner.get(..filled).unwrap_or_default(), unpacked, packing)? {
            Some(image) => Ok(image),
            None => Err(foreign(&inner)),
        }
    }

    fn from_header(head: &[u8], file_size: u64, packing: Packing) -> Result<Option<Self>, ImageError> {
        let (Some(text_offset), Some(image_size), Some(flags), Some(magic)) =
            (u64_at(head, 8), u64_at(head, 16), u64_at(head, 24), head.get(56..60))
        else {
            return Ok(None);
        };
        if magic != b"ARM\x64" {
            return Ok(None);
        }
        if flags & 1 != 0 {
            return Err(ImageError::BigEndian);
        }
        let (text_offset, memory_size) = if image_size == 0 {
            (OLD_TEXT_OFFSET, file_size.saturating_add(OLD_BSS_BYTES))
        } else {
            (text_offset, image_size.max(file_size))
        };
        if text_offset >= 2 << 20 || memory_size > MAX_KERNEL {
            return Err(ImageError::TooLarge(MAX_KERNEL));
        }
        Ok(Some(Self { packing, text_offset, memory_size, file_size }))
    }

    /// Decompresses a gzip kernel: `write(offset, bytes)` is called with the kernel's bytes in order and says whether it
    /// could. At most `room` bytes are written. Answers how many, once length and CRC have been found right.
    pub fn unpack(
        &self,
        room: u64,
        mut read: impl FnMut(u64, &mut [u8]) -> bool,
        mut write: impl FnMut(u64, &[u8]) -> bool,
    ) -> Result<u64, ImageError> {
        let Packing::Gzip { offset, size } = self.packing else {
            return Err(ImageError::Wrong("not compressed"));
        };
        let mut written: u64 = 0;
        let table = crc_table();
        let mut crc = u32::MAX;
        let end = inflate(offset, size, &mut read, |chunk| {
            if written.saturating_add(chunk.len() as u64) > room {
                return Err(ImageError::TooLarge(room));
            }
            if !write(written, chunk) {
                return Err(ImageError::Unwritable(written));
            }
            crc = chunk.iter().fold(crc, |crc, &byte| {
                let index = (crc as u8 ^ byte) as usize;
                crc >> 8 ^ table.get(index).copied().unwrap_or(0)
            });
            written += chunk.len() as u64;
            Ok(true)
        })?;
        let mut trailer = [0; 8];
        if end.checked_add(8).is_none_or(|after| after > offset + size) {
            return Err(ImageError::Truncated);
        }
        get(&mut read, end, &mut trailer)?;
        let right = u32_at(&trailer, 0) == Some(!crc) && u32_at(&trailer, 4) == Some(written as u32);
        if right { Ok(written) } else { Err(ImageError::Damaged) }
    }
}

fn get(
    read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    offset: u64,
    buffer: &mut [u8],
) -> Result<(), ImageError> {
    if read(offset, buffer) { Ok(()) } else { Err(ImageError::Unreadable(offset)) }
}

/// The gzip payload of an EFI zboot image (offset, length), `None` where the bytes are none (Linux,
/// drivers/firmware/efi/libstub/zboot-header.S).
fn zboot_payload(head: &[u8]) -> Result<Option<(u64, u64)>, ImageError> {
    if !head.starts_with(b"MZ") || head.get(4..8) != Some(b"zimg") {
        return Ok(None);
    }
    if head.get(24..29) != Some(b"gzip\0") {
        return Err(ImageError::Wrong("an EFI zboot image compressed otherwise than with gzip"));
    }
    let (Some(offset), Some(size)) = (u32_at(head, 8), u32_at(head, 12)) else {
        return Err(ImageError::Truncated);
    };
    Ok(Some((offset.into(), size.into())))
}

/// Names what the bytes are instead of a kernel for this CPU.
fn foreign(head: &[u8]) -> ImageError {
    let is = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|tail| tail.starts_with(magic));
    ImageError::Wrong(if head.is_empty() {
        return ImageError::Truncated;
    } else if is(0x24, &0x016f_2818_u32.to_le_bytes()) || is(0x24, &0x016f_2818_u32.to_be_bytes()) {
        "a 32-bit ARM zImage"
    } else if is(0x202, b"HdrS") {
        "an x86 bzImage"
    } else if is(0x38, b"RSC\x05") || is(0x30, b"RISCV\0") {
        "a RISC-V Image"
    } else if is(0, b"\x7fELF") {
        "an ELF file"
    } else if is(0, b"MZ") {
        "an EFI program without an arm64 Image header"
    } else if is(0, &[0x27, 0x05, 0x19, 0x56]) {
        "a U-Boot legacy image (uImage)"
    } else if is(0, &[0xd0, 0x0d, 0xfe, 0xed]) {
        "a device tree or a U-Boot FIT image"
    } else if is(0, b"\xfd7zXZ\0") {
        "compressed with xz"
    } else if is(0, &[0x28, 0xb5, 0x2f, 0xfd]) {
        "compressed with zstd"
    } else if is(0, &[0x02, 0x21, 0x4c, 0x18]) || is(0, &[0x04, 0x22, 0x4d, 0x18]) {
        "compressed with lz4"
    } else if is(0, b"BZh") {
        "compressed with bzip2"
    } else if is(0, &[0x5d, 0, 0]) {
        "compressed with lzma"
    } else if is(0, b"070701") || is(0, b"070702") {
        "a cpio archive (the RAM disk?)"
    } else {
        return ImageError::Unknown;
    })
}

/// Decompresses the gzip stream at `offset`, `size` bytes long, and hands over its content piece by piece until `sink`
/// answers false. Answers the offset after the Deflate data (where `sink` stopped it, that of the last byte read).
fn inflate(
    offset: u64,
    size: u64,
    read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    mut sink: impl FnMut(&[u8]) -> Result<bool, ImageError>,
) -> Result<u64, ImageError> {
    let end = offset.saturating_add(size);
    let mut at = after_gzip_header(offset, end, read)?;
    let mut state = Box::<DecompressorOxide>::default();
    let mut window = vec![0; WINDOW];
    let mut input = vec![0; CHUNK];
    let (mut from, mut until, mut out) = (0, 0, 0);
    loop {
        if from == until {
            let count = (end.saturating_sub(at)).min(CHUNK as u64) as usize;
            get(read, at, input.get_mut(..count).unwrap_or_default())?;
            (from, until) = (0, count);
            at += count as u64;
        }
        let flags = if at < end { TINFL_FLAG_HAS_MORE_INPUT } else { 0 };
        let piece = input.get(from..until).unwrap_or_default();
        let (status, consumed, produced) = decompress(&mut state, piece, &mut window, out, flags);
        from += consumed;
        if produced > 0 && !sink(window.get(out..out + produced).unwrap_or_default())? {
            return Ok(at);
        }
        out = (out + produced) % WINDOW;
        match status {
            TINFLStatus::Done => return Ok(at - (until - from) as u64),
            TINFLStatus::HasMoreOutput => {}
            TINFLStatus::NeedsMoreInput if from == until && at < end => {}
            TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => {
                return Err(ImageError::Truncated);
            }
            _ => return Err(ImageError::Damaged),
        }
    }
}

/// The offset of the Deflate data: after the fixed fields and the optional ones (RFC 1952, 2.3).
fn after_gzip_header(
    offset: u64,
    end: u64,
    read: &mut impl FnMut(u64, &mut [u8]) -> bool,
) -> Result<u64, ImageError> {
    let mut byte = |at: u64| {
        let mut one = [0; 1];
        if at >= end {
            return Err(ImageError::Truncated);
        }
        get(read, at, &mut one)?;
        Ok(one[0])
    };
    // Method 8 is Deflate; the upper three flags are reserved.
    if byte(offset)? != 0x1f || byte(offset + 1)? != 0x8b || byte(offset + 2)? != 8 {
        return Err(ImageError::Damaged);
    }
    let flags = byte(offset + 3)?;
    if flags & 0xe0 != 0 {
        return Err(ImageError::Damaged);
    }
    let mut at = offset + 10;
    if flags & 4 != 0 {
        at += 2 + u64::from(u16::from_le_bytes([byte(at)?, byte(at + 1)?]));
    }
    // File name and comment, each up to a NUL; a kernel's are short.
    for flag in [8, 16] {
        if flags & flag != 0 {
            let limit = at + 4096;
            while byte(at)? != 0 {
                at += 1;
                if at > limit {
                    return Err(ImageError::Damaged);
                }
            }
            at += 1;
        }
    }
    if flags & 2 != 0 {
        at += 2;
    }
    if at >= end { Err(ImageError::Truncated) } else { Ok(at) }
}

/// The table of CRC-32 (RFC 1952, 8).
fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    for (index, slot) in table.iter_mut().enumerate() {
        *slot = (0..8).fold(index as u32, |crc, _| crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg()));
    }
    table
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn header(text_offset: u64, image_size: u64, flags: u64) -> Vec<u8> {
        let mut bytes = vec![0; 8];
        for word in [text_offset, image_size, flags, 0, 0, 0] {
            bytes.extend(u64::to_le_bytes(word));
        }
        bytes.extend(b"ARM\x64\0\0\0\0");
        bytes
    }

    fn kernel(length: usize) -> Vec<u8> {
        let mut bytes = header(0, 0x10_0000, 0xa);
        bytes.extend((bytes.len()..length).map(|i| (i / 7) as u8));
        bytes
    }

    /// A gzip stream with a file name, made with the compressor of the crate under the decompressor.
    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 2, 3];
        bytes.extend(b"Image\0");
        bytes.extend(miniz_oxide::deflate::compress_to_vec(content, 6));
        let table = crc_table();
        let crc = content.iter().fold(u32::MAX, |crc, &b| crc >> 8 ^ table[(crc as u8 ^ b) as usize]);
        bytes.extend((!crc).to_le_bytes());
        bytes.extend((content.len() as u32).to_le_bytes());
        bytes
    }

    fn reader(bytes: &[u8]) -> impl FnMut(u64, &mut [u8]) -> bool + '_ {
        |offset, buffer| match bytes.get(offset as usize..offset as usize + buffer.len()) {
            Some(part) => {
                buffer.copy_from_slice(part);
                true
            }
            None => false,
        }
    }

    fn inspect(bytes: &[u8]) -> Result<KernelImage, ImageError> {
        KernelImage::inspect(bytes.len() as u64, reader(bytes))
    }

    fn unpack(bytes: &[u8], room: u64) -> Result<Vec<u8>, ImageError> {
        let mut unpacked = Vec::new();
        let image = inspect(bytes)?;
        let length = image.unpack(room, reader(bytes), |offset, part| {
            assert_eq!(offset, unpacked.len() as u64);
            unpacked.extend(part);
            true
        })?;
        assert_eq!(length, unpacked.len() as u64);
        Ok(unpacked)
    }

    #[test]
    fn the_check_value_of_crc32() {
        let table = crc_table();
        let crc = b"123456789".iter().fold(u32::MAX, |crc, &b| crc >> 8 ^ table[(crc as u8 ^ b) as usize]);
        assert_eq!(!crc, 0xcbf4_3926);
    }

    #[test]
    fn a_plain_kernel() {
        let image = inspect(&kernel(0x2000)).unwrap();
        assert_eq!(image.packing, Packing::Plain);
        assert_eq!((image.text_offset, image.memory_size, image.file_size), (0, 0x10_0000, 0x2000));
        let old = inspect(&header(0, 0, 0)).unwrap();
        assert_eq!((old.text_offset, old.memory_size), (0x8_0000, (16 << 20) + 64));
    }

    #[test]
    fn a_gzip_kernel_unpacks_to_what_was_packed() {
        let plain = kernel(300_000);
        let packed = gzip(&plain);
        let image = inspect(&packed).unwrap();
        assert_eq!(image.file_size, 300_000);
        assert_eq!(image.memory_size, 0x10_0000);
        assert_eq!(unpack(&packed, 300_000).unwrap(), plain);
        assert_eq!(unpack(&packed, 299_999), Err(ImageError::TooLarge(299_999)));
    }

    #[test]
    fn a_zboot_kernel_unpacks_too() {
        let plain = kernel(20_000);
        let packed = gzip(&plain);
        let mut zboot = b"MZ\0\0zimg".to_vec();
        zboot.extend(64_u32.to_le_bytes());
        zboot.extend((packed.len() as u32).to_le_bytes());
        zboot.extend([0; 8]);
        zboot.extend(b"gzip\0");
        zboot.resize(64, 0);
        zboot.extend(&packed);
        zboot.extend([0; 100]);
        assert_eq!(unpack(&zboot, 1 << 20).unwrap(), plain);
    }

    #[test]
    fn damage_is_noticed() {
        let plain = kernel(3_000);
        let packed = gzip(&plain);
        // Whatever single byte is wrong, nothing else than what was packed comes out. (The last bits before the CRC mean
        // nothing.)
        for position in 16..packed.len() {
            let mut bad = packed.clone();
            bad[position] ^= 0x10;
            assert!(unpack(&bad, 1 << 20).map_or(true, |out| out == plain), "byte {position}");
        }
        for length in 0..packed.len() {
            assert!(unpack(&packed[..length], 1 << 20).is_err(), "length {length}");
        }
    }

    #[test]
    fn other_things_are_named() {
        let named = |magic: &[u8], offset: usize| {
            let mut bytes = vec![0; 1024];
            bytes[offset..offset + magic.len()].copy_from_slice(magic);
            inspect(&bytes)
        };
        assert_eq!(
            named(&0x016f_2818_u32.to_le_bytes(), 0x24),
            Err(ImageError::Wrong("a 32-bit ARM zImage"))
        );
        assert_eq!(named(b"HdrS", 0x202), Err(ImageError::Wrong("an x86 bzImage")));
        assert_eq!(named(b"\x7fELF", 0), Err(ImageError::Wrong("an ELF file")));
        assert_eq!(inspect(&[0; 4096]), Err(ImageError::Unknown));
        assert_eq!(inspect(&[]), Err(ImageError::Truncated));
        assert_eq!(inspect(&header(0, 0x1000, 1)), Err(ImageError::BigEndian));
        assert_eq!(inspect(&header(4 << 20, 0x1000, 0)), Err(ImageError::TooLarge(MAX_KERNEL)));
        assert_eq!(KernelImage::inspect(100, |_, _| false), Err(ImageError::Unreadable(0)));
    }
}
