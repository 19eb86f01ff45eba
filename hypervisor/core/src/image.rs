//! Kernel images: what a module's bytes are, and what a kernel asks of the memory it is put into (Linux,
//! Documentation/arch/arm64/booting.rst and Documentation/arch/arm/booting.rst; RFC 1952 for gzip).
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
/// Bytes of the header of U-Boot's legacy image format.
const UIMAGE_HEADER: u64 = 64;
/// Magic number of a zImage, at offset 0x24.
const ZIMAGE_MAGIC: u32 = 0x016f_2818;
/// What a zImage uses behind its file while it unpacks itself: zeroed data, stack, heap.
const ZIMAGE_WORK: u64 = 1 << 20;
/// Of a zImage that does not say what it unpacks to: the largest text offset that Linux has, how much it grows at most,
/// and its zeroed data.
const ZIMAGE_TEXT_OFFSET: u64 = 0x20_8000;
const ZIMAGE_GROWTH: u64 = 6;
const ZIMAGE_BSS: u64 = 8 << 20;

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
            Self::Wrong(what) => {
                write!(f, "the kernel module is {what}, not an arm64 Image (plain or gzip) or an ARM zImage")
            }
            Self::Unknown => {
                write!(f, "the kernel module is not an arm64 Image (plain or gzip) or an ARM zImage")
            }
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
    /// As it is, `offset` bytes into the module.
    Plain {
        /// Offset in the module, in bytes; that of the payload of a U-Boot legacy image, else 0.
        offset: u64,
    },
    /// As a gzip stream that starts `offset` bytes into the module and is `size` bytes long (the whole module, or the
    /// payload of an EFI zboot image).
    Gzip {
        /// Offset in the module, in bytes.
        offset: u64,
        /// Length, in bytes.
        size: u64,
    },
}

/// What kind of kernel it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A 64-bit `Image`.
    Arm64,
    /// A 32-bit `zImage`, which unpacks itself.
    Zimage {
        /// Bytes from the start of its memory on that the unpacked kernel takes, with its zeroed data.
        span: u64,
    },
}

/// A kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelImage {
    /// What it is.
    pub kind: Kind,
    /// How it lies in its module.
    pub packing: Packing,
    /// Where it wants to lie, in bytes after a 2 MiB boundary; 0 for a zImage, which lies anywhere.
    pub text_offset: u64,
    /// Memory it needs from there on, in bytes: file, zeroed data and early tables; for a zImage file, stack and heap.
    pub memory_size: u64,
    /// Length of the kernel's file as it lies in memory, in bytes, without what is appended to a zImage. For gzip the
    /// length modulo 4 GiB that the stream claims.
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
        Self::inspect_part(0, size, &mut read)
    }

    /// As `inspect`, of the `size` bytes from `start` on.
    fn inspect_part(
        start: u64,
        size: u64,
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) -> Result<Self, ImageError> {
        let mut head = [0; 1024];
        let head = head.get_mut(..size.min(1024) as usize).unwrap_or_default();
        get(read, start, head)?;
        let plain = Packing::Plain { offset: start };
        if let Some(image) = Self::from_header(head, size, plain)? {
            return Ok(image);
        }
        if is_zimage(head) {
            let mut tail = |offset: u64, bytes: &mut [u8]| {
                let within = offset.checked_add(bytes.len() as u64).is_some_and(|end| end <= size);
                within && read(start.saturating_add(offset), bytes)
            };
            return Self::from_zimage(head, size, plain, &mut tail);
        }
        if start == 0
            && let Some(length) = uimage_payload(head)?
        {
            let within = UIMAGE_HEADER.checked_add(length).is_some_and(|end| end <= size);
            return if within {
                Self::inspect_part(UIMAGE_HEADER, length, read)
            } else {
                Err(ImageError::Truncated)
            };
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
        let offset = start + offset;
        // The last word of a gzip stream is the length of what it holds.
        let mut tail = [0; 4];
        get(read, offset + length - 4, &mut tail)?;
        let unpacked = u64::from(u32::from_le_bytes(tail));
        let packing = Packing::Gzip { offset, size: length };
        let mut inner = [0; HEADER_BYTES];
        let mut filled = 0;
        let taken = inflate(offset, length, read, |chunk| {
            let want = inner.get_mut(filled..).unwrap_or_default();
            let count = want.len().min(chunk.len());
            for (to, from) in want.iter_mut().zip(chunk) {
                *to = *from;
            }
            filled += count;
            Ok(filled < HEADER_BYTES)
        });
        taken?;
        let inner = inner.get(..filled).unwrap_or_default();
        if let Some(image) = Self::from_header(inner, unpacked, packing)? {
            return Ok(image);
        }
        if is_zimage(inner) {
            // Its table lies deep in the stream; what it unpacks to is estimated.
            return Self::from_zimage(inner, unpacked, packing, &mut |_, _| false);
        }
        Err(foreign(inner))
    }

    /// A zImage of `file_size` bytes, of which `tail(offset, buffer)` reads more than the header (Linux,
    /// arch/arm/boot/compressed/head.S and vmlinux.lds.S; kexec reads the same table).
    fn from_zimage(
        head: &[u8],
        file_size: u64,
        packing: Packing,
        tail: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) -> Result<Self, ImageError> {
        if u32_at(head, 0x24) != Some(ZIMAGE_MAGIC) {
            return Err(ImageError::BigEndian);
        }
        let (Some(start), Some(end)) = (u32_at(head, 0x28), u32_at(head, 0x2c)) else {
            return Err(ImageError::Truncated);
        };
        // Code that is linked for one place in ROM has another start than 0; it cannot be moved.
        let length = u64::from(end);
        if start != 0 || length < HEADER_BYTES as u64 {
            return Err(ImageError::Wrong("a zImage for execution in ROM"));
        }
        if file_size < length {
            return Err(ImageError::Truncated);
        }
        let estimate = ZIMAGE_TEXT_OFFSET + length * ZIMAGE_GROWTH + ZIMAGE_BSS;
        let span = zimage_span(head, tail).unwrap_or(estimate);
        let memory_size = length + ZIMAGE_WORK;
        if span.max(memory_size) > MAX_KERNEL {
            return Err(ImageError::TooLarge(MAX_KERNEL));
        }
        Ok(Self { kind: Kind::Zimage { span }, packing, text_offset: 0, memory_size, file_size: length })
    }

    /// Whether the kernel runs in AArch32 state.
    pub const fn is_aarch32(&self) -> bool {
        matches!(self.kind, Kind::Zimage { .. })
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
        Ok(Some(Self { kind: Kind::Arm64, packing, text_offset, memory_size, file_size }))
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

/// Whether the bytes start with the header of a zImage, of either byte order.
fn is_zimage(head: &[u8]) -> bool {
    u32_at(head, 0x24).is_some_and(|magic| magic == ZIMAGE_MAGIC || magic == ZIMAGE_MAGIC.swap_bytes())
}

/// What a zImage unpacks to, by the table that it has since Linux 4.15: text offset, length, zeroed data.
fn zimage_span(head: &[u8], tail: &mut impl FnMut(u64, &mut [u8]) -> bool) -> Option<u64> {
    const TABLE_MAGIC: u32 = 0x4545_4545;
    const KERNEL_SIZE_TAG: u32 = 0x5a53_4c4b;
    /// Most entries looked at.
    const ENTRIES: usize = 16;
    if u32_at(head, 0x34)? != TABLE_MAGIC {
        return None;
    }
    let mut at = u64::from(u32_at(head, 0x38)?);
    for _ in 0..ENTRIES {
        // Length in words, with itself; tag; for this tag: where the length is, zeroed data, text offset.
        let mut entry = [0; 20];
        if !tail(at, &mut entry) {
            return None;
        }
        let words = u32_at(&entry, 0)?;
        if u32_at(&entry, 4)? == KERNEL_SIZE_TAG && words >= 4 {
            let mut size = [0; 4];
            if !tail(u32_at(&entry, 8)?.into(), &mut size) {
                return None;
            }
            let bss = u64::from(u32_at(&entry, 12)?);
            let text_offset = if words >= 5 { u32_at(&entry, 16)?.into() } else { ZIMAGE_TEXT_OFFSET };
            return Some(text_offset + u64::from(u32::from_le_bytes(size)) + bss);
        }
        if words < 2 {
            return None;
        }
        at = at.checked_add(u64::from(words) * 4)?;
    }
    None
}

/// The length of the payload of a U-Boot legacy image, `None` where the bytes are none (U-Boot, include/image.h).
fn uimage_payload(head: &[u8]) -> Result<Option<u64>, ImageError> {
    const KERNEL: u8 = 2;
    const KERNEL_NO_LOAD: u8 = 14;
    const NONE: u8 = 0;
    const GZIP: u8 = 1;
    if !head.starts_with(&[0x27, 0x05, 0x19, 0x56]) {
        return Ok(None);
    }
    let (Some(size), Some(&[kind, compression])) =
        (head.get(12..16).and_then(|bytes| bytes.first_chunk().copied()), head.get(30..32))
    else {
        return Err(ImageError::Truncated);
    };
    if !matches!(kind, KERNEL | KERNEL_NO_LOAD) {
        return Err(ImageError::Wrong("a U-Boot legacy image of something else than a kernel"));
    }
    if !matches!(compression, NONE | GZIP) {
        return Err(ImageError::Wrong("a U-Boot legacy image compressed otherwise than with gzip"));
    }
    Ok(Some(u32::from_be_bytes(size).into()))
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
    } else if is(0x202, b"HdrS") {
        "an x86 bzImage"
    } else if is(0x38, b"RSC\x05") || is(0x30, b"RISCV\0") {
        "a RISC-V Image"
    } else if is(0, b"\x7fELF") {
        "an ELF file"
    } else if is(0, b"MZ") {
        "an EFI program without an arm64 Image header"
    } else if is(0, &[0x27, 0x05, 0x19, 0x56]) {
        "a U-Boot legacy image (uImage) in another"
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
mod tests;
