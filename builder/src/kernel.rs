//! Boot executables for ARM: the arm64 `Image`, plain, in gzip, or inside an EFI zboot wrapper, and the 32-bit `zImage`.
//!
//! The `Image` header follows the kernel's Documentation/arch/arm64/booting.rst; the wrapper follows
//! include/linux/pe.h and drivers/firmware/efi/libstub/zboot-header.S; the zImage follows
//! arch/arm/boot/compressed/head.S and vmlinux.lds.S there. The hypervisor is itself an `Image` or a `zImage`.

use std::io::Read;

use crate::bytes::{u16_at, u32_at, u64_at};
use crate::error::{Error, Result, ResultExt};
use crate::tree::Data;
use vambrace_bsp::Architecture;

/// Bytes of the `Image` header.
const HEADER: usize = 64;
/// `ARM\x64` at offset 56.
const MAGIC: &[u8] = b"ARM\x64";
/// An unpacked kernel larger than this is a decompression bomb.
const MAX_UNPACKED: u64 = 512 << 20;
/// What a gzip file begins with (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Bytes in which all headers of a kernel lie that is not packed.
const HEAD: usize = 64 << 10;
/// PE machine number of AArch64.
const PE_AARCH64: u16 = 0xaa64;

/// Where a zImage has its magic number, and what that is.
const ZIMAGE_MAGIC: (usize, u32) = (0x24, 0x016f_2818);
/// Where a zImage of Linux 4.15 or later says that it has a table, and what it says then.
const ZIMAGE_TABLE_MAGIC: (usize, u32) = (0x34, 0x4545_4545);
/// The entry of that table with sizes.
const ZIMAGE_SIZES: u32 = 0x5a53_4c4b;
/// Room behind a zImage that does not say how much it needs: stacks, zeroed data, and the first heap.
const ZIMAGE_ROOM: u64 = 1 << 20;

/// The kind of a boot executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// An arm64 `Image`, which U-Boot starts with `booti`.
    Image,
    /// A 32-bit `zImage`, which U-Boot starts with `bootz`.
    Zimage,
}

impl Format {
    /// The name people use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "arm64 Image",
            Self::Zimage => "32-bit zImage",
        }
    }

    /// The same in a sentence.
    pub const fn article(self) -> &'static str {
        match self {
            Self::Image => "an arm64 Image",
            Self::Zimage => "a zImage for 32-bit ARM",
        }
    }

    /// What a CPU of `architecture` runs in its own width.
    pub const fn of(architecture: Architecture) -> Self {
        match architecture {
            Architecture::Aarch64 => Self::Image,
            Architecture::Armv7 => Self::Zimage,
        }
    }
}

/// How the bytes given are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A plain image.
    None,
    /// The whole image in gzip (`Image.gz`).
    Gzip,
}

/// What the header of an image says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelImage {
    /// What it is.
    pub format: Format,
    /// Offset of the image from a 2 MiB aligned physical address, in bytes.
    pub text_offset: u64,
    /// Memory that the image needs from its load address while it starts, in bytes: file and zeroed data, for a
    /// zImage that unpacks itself also what it unpacks.
    pub image_size: u64,
    /// The header's flags: bit 0 big endian, bits 1 and 2 page size (1: 4 KiB, 2: 16 KiB, 3: 64 KiB), bit 3 load anywhere.
    pub flags: u64,
    /// Bytes of the file given, packed or not.
    pub file_size: u64,
    /// Bytes of the image itself, unpacked.
    pub unpacked_size: u64,
    /// How the bytes given are packed.
    pub compression: Compression,
    /// Whether the image is a PE/COFF file too, for UEFI.
    pub efi: bool,
}

impl KernelImage {
    /// Reads the header of `bytes`, which have to be of `format`.
    ///
    /// # Errors
    /// As [`Self::parse`], and when it is of the other format: the error names both.
    pub fn parse_as(data: &Data, format: Format) -> Result<Self> {
        let image = Self::parse_any(data)?;
        if image.format == format {
            return Ok(image);
        }
        Err(Error::new(format!("the kernel is {}, not {}", image.format.article(), format.article())))
    }

    /// Reads the header of `data`, of any format, and no more of it than is needed.
    ///
    /// # Errors
    /// As [`KernelImage::parse`], and what cannot be read.
    pub fn parse_any(data: &Data) -> Result<Self> {
        let mut head = vec![0; usize::try_from(data.len()).unwrap_or(HEAD).min(HEAD)];
        data.reader().read_exact(&mut head).context(|| "cannot read the kernel")?;
        let zimage = u32_at(&head, ZIMAGE_MAGIC.0) == Some(ZIMAGE_MAGIC.1);
        // What these unpack to, only all of it tells.
        match zimage || head.starts_with(&GZIP) {
            true => Self::parse(&data.bytes(MAX_UNPACKED)?),
            false => Self::parse_head(&head, data.len()),
        }
    }

    /// Reads the header of `bytes`, a plain or gzip-compressed image, or a zImage.
    ///
    /// # Errors
    /// When the bytes are something else (the error says what), truncated, big endian, or say what cannot be.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let file_size = bytes.len() as u64;
        if bytes.starts_with(&GZIP) {
            let unpacked = gunzip(bytes)?;
            let inner = parse_plain(&unpacked, unpacked.len() as u64)?;
            return Ok(Self { file_size, compression: Compression::Gzip, ..inner });
        }
        Self::parse_head(bytes, file_size)
    }

    /// The same of what is not packed, of which `bytes` are the first.
    fn parse_head(bytes: &[u8], file_size: u64) -> Result<Self> {
        if is_zboot(bytes) {
            return Err(Error::new("the kernel is an EFI zboot image, which only UEFI can start")
                .help("unpack it first, or boot it through UEFI"));
        }
        parse_plain(bytes, file_size)
    }

    /// Whether the image may be loaded at any 2 MiB aligned address, not only near the start of memory.
    #[must_use]
    pub fn loads_anywhere(&self) -> bool {
        self.flags & 8 != 0
    }
}

/// Gives the plain image in `bytes`: as they are, out of gzip, or out of an EFI zboot wrapper.
///
/// # Errors
/// When the wrapper is damaged or packed in a way that is not known, or what is inside is no image for ARM.
pub fn unpack(bytes: &[u8]) -> Result<Vec<u8>> {
    let unpacked = if is_zboot(bytes) {
        unpack_zboot(bytes)?
    } else if bytes.starts_with(&GZIP) {
        gunzip(bytes)?
    } else {
        bytes.to_vec()
    };
    parse_plain(&unpacked, unpacked.len() as u64)?;
    Ok(unpacked)
}

fn is_zboot(bytes: &[u8]) -> bool {
    bytes.starts_with(b"MZ") && bytes.get(4..8) == Some(b"zimg")
}

fn unpack_zboot(bytes: &[u8]) -> Result<Vec<u8>> {
    let truncated = || Error::new("the EFI zboot image is truncated");
    let offset = u32_at(bytes, 8).ok_or_else(truncated)? as usize;
    let size = u32_at(bytes, 12).ok_or_else(truncated)? as usize;
    let packing = bytes.get(24..56).ok_or_else(truncated)?;
    let packing = packing.split(|&byte| byte == 0).next().unwrap_or_default();
    let payload = offset.checked_add(size).and_then(|end| bytes.get(offset..end)).ok_or_else(truncated)?;
    match packing {
        b"gzip" => gunzip(payload),
        b"zstd" => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(payload)
                .map_err(|error| Error::new("the kernel's zstd stream is damaged").because(error))?;
            bounded(decoder, "zstd")
        }
        b"xzkern" | b"xz" => bounded(lzma_rust2::XzReader::new_mem_limit(payload, true, 256 << 10), "xz"),
        other => Err(Error::new(format!(
            "the EFI zboot image is packed as `{}`, which is not known here",
            String::from_utf8_lossy(other).escape_default()
        ))),
    }
}

fn gunzip(bytes: &[u8]) -> Result<Vec<u8>> {
    bounded(flate2::read::MultiGzDecoder::new(bytes), "gzip")
}

fn bounded(reader: impl Read, packing: &str) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    reader.take(MAX_UNPACKED + 1).read_to_end(&mut unpacked).map_err(|error| {
        Error::new(format!("the kernel's {packing} stream is damaged or truncated")).because(error)
    })?;
    if unpacked.len() as u64 > MAX_UNPACKED {
        return Err(Error::new(format!("the kernel unpacks to more than {} MiB", MAX_UNPACKED >> 20)));
    }
    Ok(unpacked)
}

fn parse_plain(bytes: &[u8], file_size: u64) -> Result<KernelImage> {
    if u32_at(bytes, ZIMAGE_MAGIC.0) == Some(ZIMAGE_MAGIC.1) {
        return parse_zimage(bytes);
    }
    if bytes.get(56..60) != Some(MAGIC) {
        return Err(foreign(bytes));
    }
    let field = |offset| u64_at(bytes, offset).ok_or_else(|| Error::new("the kernel image is truncated"));
    let (text_offset, image_size, flags) = (field(8)?, field(16)?, field(24)?);
    if flags & 1 != 0 {
        return Err(Error::new(
            "the kernel is a big-endian arm64 image; only little-endian ones can be started",
        ));
    }
    if image_size == 0 {
        return Err(Error::new("the kernel's header gives no image size: it is older than Linux 3.17"));
    }
    if image_size > 1 << 32 || text_offset > 1 << 30 || text_offset % 4096 != 0 {
        return Err(Error::new(format!(
            "the kernel's header cannot be right: text offset {text_offset:#x}, image size {image_size:#x}"
        )));
    }
    let efi = bytes.starts_with(b"MZ");
    if efi {
        check_pe(bytes, file_size)?;
    }
    Ok(KernelImage {
        format: Format::Image,
        text_offset,
        // A signature or padding behind the image can make the file longer than what it uses of memory.
        image_size: image_size.max(file_size),
        flags,
        file_size,
        unpacked_size: file_size,
        compression: Compression::None,
        efi,
    })
}

/// Reads a zImage's header: `start` and `end` of what is to be loaded, and the table with the sizes it unpacks to.
fn parse_zimage(bytes: &[u8]) -> Result<KernelImage> {
    let wrong = |why: String| Error::new(format!("the kernel's zImage header cannot be right: {why}"));
    let truncated = || Error::new("the kernel is a truncated zImage");
    let (start, end) =
        (u32_at(bytes, 0x28).ok_or_else(truncated)?, u32_at(bytes, 0x2c).ok_or_else(truncated)?);
    let Some(loaded) = end.checked_sub(start).map(u64::from).filter(|size| *size > 0x30) else {
        return Err(wrong(format!("it reaches from {start:#x} to {end:#x}")));
    };
    let file_size = bytes.len() as u64;
    let sizes = zimage_sizes(bytes);
    // Linux ends where its file ends. Other executables of this format, such as Xen, count zeroed data in as well.
    if loaded > if sizes.is_some() { file_size } else { MAX_UNPACKED } {
        return Err(Error::new(format!(
            "the kernel is a truncated zImage: its header says {loaded} bytes, the file has {file_size}"
        )));
    }
    if u32_at(bytes, 0x30) == Some(0x0102_0304) {
        return Err(Error::new("the kernel is a big-endian zImage; only little-endian ones can be started"));
    }
    let (unpacked, beyond) = match sizes {
        Some((unpacked, beyond)) if unpacked + beyond <= MAX_UNPACKED => (unpacked, beyond),
        Some((unpacked, beyond)) => {
            return Err(wrong(format!("it unpacks to {unpacked} bytes and takes {beyond} more")));
        }
        None => (loaded.max(file_size), ZIMAGE_ROOM),
    };
    // One that unpacks itself moves out of the way of what comes out: both are there at once.
    let image_size =
        if unpacked > loaded { loaded + unpacked + beyond } else { file_size.max(unpacked) + beyond };
    Ok(KernelImage {
        format: Format::Zimage,
        text_offset: 0,
        image_size,
        flags: 8,
        file_size,
        unpacked_size: unpacked,
        compression: Compression::None,
        efi: bytes.starts_with(b"MZ"),
    })
}

/// The size that a zImage unpacks to and the memory it takes beyond that, in bytes, if it says so: an entry of its
/// table, which is a length in words, a tag, and for sizes where the unpacked size stands, the size of zeroed data,
/// and room before and behind the kernel.
fn zimage_sizes(bytes: &[u8]) -> Option<(u64, u64)> {
    let (at, magic) = ZIMAGE_TABLE_MAGIC;
    let mut entry = (u32_at(bytes, at) == Some(magic)).then(|| u32_at(bytes, at + 4))?? as usize;
    // A damaged table must not keep us for long.
    for _ in 0..16 {
        let words = u32_at(bytes, entry)? as usize;
        if words < 2 {
            return None;
        }
        let field = |index: usize| u32_at(bytes, entry.checked_add(index.checked_mul(4)?)?);
        if field(1)? == ZIMAGE_SIZES {
            let unpacked = u32_at(bytes, field(2)? as usize)?;
            let beyond = field(3)?;
            let rest = if words >= 6 { u64::from(field(4)?) + u64::from(field(5)?) } else { 0 };
            return Some((u64::from(unpacked), u64::from(beyond) + rest));
        }
        entry = entry.checked_add(words.checked_mul(4)?)?;
    }
    None
}

/// Checks the PE/COFF headers: the machine, and that every section is there (a truncated file shows here).
fn check_pe(bytes: &[u8], file_size: u64) -> Result<()> {
    let damaged = || Error::new("the kernel's PE/COFF header is damaged");
    let pe = u32_at(bytes, 60).ok_or_else(damaged)? as usize;
    if bytes.get(pe..pe.saturating_add(4)) != Some(b"PE\0\0") {
        return Err(damaged());
    }
    let machine = u16_at(bytes, pe + 4).ok_or_else(damaged)?;
    if machine != PE_AARCH64 {
        return Err(Error::new(format!(
            "the kernel's PE/COFF header is for machine {machine:#x}, not AArch64"
        )));
    }
    let sections = u16_at(bytes, pe + 6).ok_or_else(damaged)?;
    let optional = usize::from(u16_at(bytes, pe + 20).ok_or_else(damaged)?);
    for section in 0..usize::from(sections) {
        let at = pe + 24 + optional + section * 40;
        let size = u32_at(bytes, at + 16).ok_or_else(damaged)?;
        let start = u32_at(bytes, at + 20).ok_or_else(damaged)?;
        let end = u64::from(start) + u64::from(size);
        if end > file_size {
            return Err(Error::new(format!(
                "the kernel image is truncated: its sections reach to byte {end}, the file has {file_size}"
            )));
        }
    }
    Ok(())
}

/// Says what `bytes` are, when they are no arm64 image.
fn foreign(bytes: &[u8]) -> Error {
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..offset + magic.len()) == Some(magic);
    let what = if bytes.len() < HEADER {
        return Error::new(format!(
            "the kernel image is truncated: it has {} bytes, its header alone has {HEADER}",
            bytes.len()
        ));
    } else if at(0x24, &[0x01, 0x6f, 0x28, 0x18]) {
        "a big-endian zImage for 32-bit ARM"
    } else if at(0x202, b"HdrS") {
        "a bzImage for x86"
    } else if at(56, b"RSC\x05") {
        "an Image for RISC-V"
    } else if at(0, b"\x7fELF") {
        "an ELF file (a vmlinux?)"
    } else if at(0, &[0x27, 0x05, 0x19, 0x56]) {
        "a legacy U-Boot image (uImage)"
    } else if at(0, &[0xd0, 0x0d, 0xfe, 0xed]) {
        "a device tree or FIT image"
    } else if at(0, &[0xfd, b'7', b'z', b'X', b'Z']) {
        "an xz file"
    } else if at(0, &[0x28, 0xb5, 0x2f, 0xfd]) {
        "a zstd file"
    } else if at(0, b"MZ") {
        "a PE/COFF file of another kind"
    } else {
        "of an unknown kind"
    };
    Error::new(format!("the kernel is {what}, not an arm64 Image or a zImage")).help(
        "take the kernel of an ARM system, such as Debian's linux-image-arm64 or linux-image-armmp-lpae",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn image(efi: bool) -> Vec<u8> {
        let mut bytes = vec![0_u8; 4096];
        bytes[16..24].copy_from_slice(&0x10_0000_u64.to_le_bytes());
        bytes[24] = 0xa;
        bytes[56..60].copy_from_slice(MAGIC);
        if efi {
            bytes[..2].copy_from_slice(b"MZ");
            bytes[60] = 64;
            bytes[64..68].copy_from_slice(b"PE\0\0");
            bytes[68..70].copy_from_slice(&PE_AARCH64.to_le_bytes());
            bytes[70] = 1; // one section
            bytes[84] = 16; // of optional header
            let section = 64 + 24 + 16;
            bytes[section + 16..section + 20].copy_from_slice(&2048_u32.to_le_bytes());
            bytes[section + 20..section + 24].copy_from_slice(&2048_u32.to_le_bytes());
        }
        bytes
    }

    fn gz(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zboot(packing: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0_u8; 128];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[4..8].copy_from_slice(b"zimg");
        bytes[8..12].copy_from_slice(&128_u32.to_le_bytes());
        bytes[12..16].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        bytes[24..24 + packing.len()].copy_from_slice(packing);
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn plain_and_gzip_images_are_read() {
        for efi in [false, true] {
            let parsed = KernelImage::parse(&image(efi)).unwrap();
            assert_eq!((parsed.image_size, parsed.file_size, parsed.efi), (0x10_0000, 4096, efi));
            assert!(parsed.loads_anywhere());
        }
        let packed = gz(&image(true));
        let parsed = KernelImage::parse(&packed).unwrap();
        assert_eq!((parsed.compression, parsed.file_size), (Compression::Gzip, packed.len() as u64));
        assert_eq!(parsed.unpacked_size, 4096);
        assert_eq!(unpack(&packed).unwrap(), image(true));
    }

    #[test]
    fn zboot_is_unpacked_and_not_taken_for_an_image() {
        let wrapped = zboot(b"gzip", &gz(&image(false)));
        assert_eq!(unpack(&wrapped).unwrap(), image(false));
        assert!(KernelImage::parse(&wrapped).unwrap_err().to_string().contains("zboot"));
        assert!(unpack(&zboot(b"lz4", b"x")).unwrap_err().to_string().contains("`lz4`"));
        assert!(unpack(&wrapped[..wrapped.len() - 1]).is_err());
        let mut far = wrapped;
        far[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(unpack(&far).is_err());
    }

    #[test]
    fn foreign_kernels_are_named() {
        let with = |offset: usize, magic: &[u8]| {
            let mut bytes = vec![0_u8; 1024];
            bytes[offset..offset + magic.len()].copy_from_slice(magic);
            KernelImage::parse(&bytes).unwrap_err().to_string()
        };
        assert!(with(0x24, &[0x01, 0x6f, 0x28, 0x18]).contains("big-endian zImage"));
        assert!(with(0x202, b"HdrS").contains("x86"));
        assert!(with(56, b"RSC\x05").contains("RISC-V"));
        assert!(with(0, b"\x7fELF").contains("ELF"));
        assert!(with(0, b"??").contains("unknown kind"));
    }

    /// A zImage with its table of sizes.
    fn zimage() -> Vec<u8> {
        let mut bytes = vec![0_u8; 4096];
        let mut put = |at: usize, words: &[u32]| {
            for (index, word) in words.iter().enumerate() {
                bytes[at + index * 4..at + index * 4 + 4].copy_from_slice(&word.to_le_bytes());
            }
        };
        put(0x24, &[0x016f_2818, 0, 4096, 0x0403_0201, 0x4545_4545, 0x100]);
        put(0x100, &[3, 0x1234_5678, 0]);
        put(0x10c, &[6, ZIMAGE_SIZES, 0x200, 0x5000, 0x8000, 0x1000]);
        put(0x200, &[0x10_0000]);
        bytes
    }

    #[test]
    fn a_zimage_is_read_with_what_it_unpacks_to() {
        let parsed = KernelImage::parse_as(&zimage().into(), Format::Zimage).unwrap();
        assert_eq!((parsed.format, parsed.unpacked_size), (Format::Zimage, 0x10_0000));
        assert_eq!(parsed.image_size, 4096 + 0x10_0000 + 0x5000 + 0x9000);
        assert!(parsed.loads_anywhere());
        assert_eq!(unpack(&zimage()).unwrap(), zimage());
        let error = KernelImage::parse_as(&zimage().into(), Format::Image).unwrap_err().to_string();
        assert!(error.contains("a zImage for 32-bit ARM, not an arm64 Image"), "{error}");
        let error = KernelImage::parse_as(&image(false).into(), Format::Zimage).unwrap_err().to_string();
        assert!(error.contains("an arm64 Image, not a zImage"), "{error}");
    }

    #[test]
    fn a_zimage_without_sizes_gets_room_and_one_that_lies_is_refused() {
        let broken = |at: usize, value: u32| {
            let mut bytes = zimage();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            KernelImage::parse(&bytes)
        };
        assert_eq!(broken(0x34, 0).unwrap().image_size, 4096 + ZIMAGE_ROOM);
        for (at, value) in [(0x38, u32::MAX), (0x100, 0), (0x100, u32::MAX), (0x114, u32::MAX)] {
            assert_eq!(broken(at, value).unwrap().image_size, 4096 + ZIMAGE_ROOM, "{at:#x}");
        }
        assert!(broken(0x2c, 4097).unwrap_err().to_string().contains("truncated zImage"));
        let mut counting = zimage();
        counting[0x2c..0x30].copy_from_slice(&8192_u32.to_le_bytes());
        counting[0x34..0x38].fill(0);
        assert_eq!(KernelImage::parse(&counting).unwrap().image_size, 8192 + ZIMAGE_ROOM);
        assert!(broken(0x28, 4096).unwrap_err().to_string().contains("cannot be right"));
        assert!(broken(0x200, u32::MAX).unwrap_err().to_string().contains("unpacks to"));
        assert!(broken(0x30, 0x0102_0304).unwrap_err().to_string().contains("big-endian"));
        let whole = zimage();
        for cut in 0x204..whole.len() {
            assert!(KernelImage::parse(&whole[..cut]).unwrap_err().to_string().contains("kernel"), "{cut}");
        }
        for cut in 0..0x204 {
            let _ = KernelImage::parse(&whole[..cut]);
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = image(true);
        for cut in 0..whole.len() {
            assert!(KernelImage::parse(&whole[..cut]).unwrap_err().to_string().contains("kernel"), "{cut}");
        }
        let packed = gz(&whole);
        for cut in 2..packed.len() {
            assert!(KernelImage::parse(&packed[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let broken = |offset: usize, value: u64| {
            let mut bytes = image(false);
            bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
            KernelImage::parse(&bytes).unwrap_err().to_string()
        };
        assert!(broken(16, 0).contains("older than"));
        assert!(broken(16, u64::MAX).contains("cannot be right"));
        assert!(broken(8, u64::MAX).contains("cannot be right"));
        assert!(broken(24, 1).contains("big-endian"));
        let mut x86 = image(true);
        x86[68..70].copy_from_slice(&0x8664_u16.to_le_bytes());
        assert!(KernelImage::parse(&x86).unwrap_err().to_string().contains("0x8664"));
    }
}
