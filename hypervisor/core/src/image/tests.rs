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
    assert_eq!((image.kind, image.packing), (Kind::Arm64, Packing::Plain { offset: 0 }));
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
    assert_eq!(named(b"HdrS", 0x202), Err(ImageError::Wrong("an x86 bzImage")));
    assert_eq!(named(b"\x7fELF", 0), Err(ImageError::Wrong("an ELF file")));
    assert_eq!(inspect(&[0; 4096]), Err(ImageError::Unknown));
    assert_eq!(inspect(&[]), Err(ImageError::Truncated));
    assert_eq!(inspect(&header(0, 0x1000, 1)), Err(ImageError::BigEndian));
    assert_eq!(inspect(&header(4 << 20, 0x1000, 0)), Err(ImageError::TooLarge(MAX_KERNEL)));
    assert_eq!(KernelImage::inspect(100, |_, _| false), Err(ImageError::Unreadable(0)));
}
/// A zImage of `length` bytes that says to unpack to 20 MiB with 1 MiB of zeroed data.
fn zimage(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut put = |at: usize, word: u32| bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    put(0x24, ZIMAGE_MAGIC);
    put(0x2c, length as u32);
    put(0x34, 0x4545_4545);
    put(0x38, 0x100);
    // A tag that is not known, then the one that is looked for.
    for (at, word) in (0x100..).step_by(4).zip([3, 7, 7, 5, 0x5a53_4c4b, 0x200, 1 << 20, 0x8000]) {
        put(at, word);
    }
    put(0x200, 20 << 20);
    bytes
}

#[test]
fn a_zimage_says_what_it_unpacks_to() {
    let image = inspect(&zimage(0x1000)).unwrap();
    assert!(image.is_aarch32());
    assert_eq!(image.kind, Kind::Zimage { span: 0x8000 + (21 << 20) });
    assert_eq!((image.packing, image.file_size), (Packing::Plain { offset: 0 }, 0x1000));
    // What is appended is not the kernel's.
    let mut appended = zimage(0x1000);
    appended.extend([0xd0, 0x0d, 0xfe, 0xed]);
    assert_eq!(inspect(&appended).unwrap().file_size, 0x1000);
    // Without a table, or with one that leads out of the file, it is estimated.
    for (at, word) in [(0x34, 0), (0x38, u32::MAX), (0x114, u32::MAX), (0x100, 0)] {
        let mut other = zimage(0x1000);
        other[at..at + 4].copy_from_slice(&u32::to_le_bytes(word));
        let Kind::Zimage { span } = inspect(&other).unwrap().kind else { panic!() };
        assert_eq!(span, 0x20_8000 + 6 * 0x1000 + (8 << 20), "{at:#x}");
    }
}

#[test]
fn a_bad_zimage_is_refused() {
    let whole = zimage(0x1000);
    for length in [0x40, 0x800, 0xfff] {
        assert_eq!(inspect(&whole[..length]), Err(ImageError::Truncated), "{length:#x}");
    }
    let with = |at: usize, word: u32| {
        let mut bytes = zimage(0x1000);
        bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        inspect(&bytes)
    };
    assert!(matches!(with(0x28, 0x8000), Err(ImageError::Wrong(_))));
    assert_eq!(with(0x24, ZIMAGE_MAGIC.swap_bytes()), Err(ImageError::BigEndian));
    assert_eq!(with(0x200, u32::MAX), Err(ImageError::TooLarge(MAX_KERNEL)));
}

#[test]
fn a_uimage_is_unwrapped() {
    let wrap = |payload: &[u8], kind: u8, compression: u8| {
        let mut bytes = vec![0x27, 0x05, 0x19, 0x56];
        bytes.resize(12, 0);
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.resize(28, 0);
        bytes.extend([5, 2, kind, compression]);
        bytes.resize(64, b'n');
        bytes.extend(payload);
        bytes
    };
    let image = inspect(&wrap(&zimage(0x1000), 2, 0)).unwrap();
    assert_eq!((image.packing, image.file_size), (Packing::Plain { offset: 64 }, 0x1000));
    assert_eq!(image.kind, Kind::Zimage { span: 0x8000 + (21 << 20) });
    let plain = kernel(3_000);
    assert_eq!(unpack(&wrap(&gzip(&plain), 2, 1), 1 << 20).unwrap(), plain);
    assert!(matches!(inspect(&wrap(&plain, 3, 0)), Err(ImageError::Wrong(_))), "a RAM disk");
    assert!(matches!(inspect(&wrap(&plain, 2, 3)), Err(ImageError::Wrong(_))), "lzma");
    let mut cut = wrap(&zimage(0x1000), 2, 0);
    cut.pop();
    assert_eq!(inspect(&cut), Err(ImageError::Truncated));
    // One in another would go on for ever.
    let nested = wrap(&wrap(&plain, 2, 0), 2, 0);
    assert!(matches!(inspect(&nested), Err(ImageError::Wrong(_))));
}

#[test]
fn a_packed_zimage_is_estimated() {
    let mut bytes = zimage(0x1_0000);
    bytes.truncate(0x1_0000);
    let packed = gzip(&bytes);
    let image = inspect(&packed).unwrap();
    assert_eq!(image.kind, Kind::Zimage { span: 0x20_8000 + 6 * 0x1_0000 + (8 << 20) });
    assert_eq!(unpack(&packed, image.memory_size).unwrap(), bytes);
}
