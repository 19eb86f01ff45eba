//! From a linked ELF file to the bytes that lie in memory.

use object::Endianness;
use object::elf::{FileHeader32, FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

use crate::error::{Error, Result};

/// A hypervisor larger than this is a linking fault, such as two segments far apart.
const MAX_SIZE: u64 = 64 << 20;

/// The loadable part of an ELF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flat {
    /// The bytes, from the lowest address on, without the zeros that lie behind the last segment's data.
    pub bytes: Vec<u8>,
    /// The lowest physical address, as linked.
    pub base: u64,
    /// Bytes of memory from the lowest address to the highest, zeroed and unused parts included.
    pub memory_size: u64,
}

/// Lays the `PT_LOAD` segments of an ELF file out as they lie in physical memory.
///
/// # Errors
/// When the file is not ELF, is damaged, has no such segment, or its segments overlap or lie far apart.
pub fn flatten(elf: &[u8]) -> Result<Flat> {
    match elf.get(4) {
        Some(1) => layout::<FileHeader32<Endianness>>(elf),
        Some(2) => layout::<FileHeader64<Endianness>>(elf),
        _ => Err(Error::new("this is not an ELF file")),
    }
}

fn layout<E: FileHeader>(elf: &[u8]) -> Result<Flat> {
    let damaged = |error: object::read::Error| Error::new("the ELF file is damaged").because(error);
    let header = E::parse(elf).map_err(damaged)?;
    let endian = header.endian().map_err(damaged)?;
    let mut segments: Vec<(u64, &[u8], u64)> = Vec::new();
    for segment in header.program_headers(endian, elf).map_err(damaged)? {
        let size: u64 = segment.p_memsz(endian).into();
        if segment.p_type(endian) != PT_LOAD || size == 0 {
            continue;
        }
        let data = segment.data(endian, elf).map_err(|()| Error::new("the ELF file is truncated"))?;
        if data.len() as u64 > size {
            return Err(Error::new("a segment of the ELF file is larger than its memory"));
        }
        segments.push((segment.p_paddr(endian).into(), data, size));
    }
    segments.sort_by_key(|segment| segment.0);
    let base = segments
        .first()
        .map(|segment| segment.0)
        .ok_or_else(|| Error::new("the ELF file has nothing to load"))?;
    let mut bytes: Vec<u8> = Vec::new();
    let mut memory_size = 0;
    for (address, data, size) in segments {
        let start = address - base;
        let end = start.checked_add(size).filter(|&end| end <= MAX_SIZE).ok_or_else(|| {
            Error::new(format!(
                "a segment at {address:#x} with {size:#x} bytes lies too far from the first, at {base:#x}"
            ))
        })?;
        if start < memory_size {
            return Err(Error::new(format!("the segment at {address:#x} lies over the one before")));
        }
        memory_size = end;
        if !data.is_empty() {
            bytes.resize(usize::try_from(start).unwrap_or(usize::MAX), 0);
            bytes.extend_from_slice(data);
        }
    }
    Ok(Flat { bytes, base, memory_size })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF64 file for AArch64 of these segments: physical address, data, memory size.
    fn elf(segments: &[(u64, &[u8], u64)]) -> Vec<u8> {
        let mut file = vec![0_u8; 64 + 56 * segments.len()];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[16] = 2;
        file[18] = 0xb7;
        file[20] = 1;
        file[32] = 64;
        file[52] = 64;
        file[54] = 56;
        file[56] = u8::try_from(segments.len()).unwrap();
        for (index, (address, data, size)) in segments.iter().enumerate() {
            let offset = file.len() as u64;
            let fields = [
                1 | 5 << 32,
                offset,
                0xffff_0000_0000_0000_u64.wrapping_add(*address),
                *address,
                data.len() as u64,
                *size,
                0x1000,
            ];
            for (field, value) in fields.iter().enumerate() {
                let at = 64 + 56 * index + 8 * field;
                file[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            file.extend_from_slice(data);
        }
        file
    }

    #[test]
    fn segments_lie_at_their_physical_addresses() {
        let file = elf(&[(0x3000, b"data", 0x2000), (0x1000, b"text", 0x10), (0x6000, b"", 0x1000)]);
        let flat = flatten(&file).unwrap();
        assert_eq!((flat.base, flat.memory_size), (0x1000, 0x6000));
        assert_eq!(flat.bytes.len(), 0x2004, "what is zero behind the data is not in the file");
        assert_eq!((&flat.bytes[..4], &flat.bytes[0x2000..]), (&b"text"[..], &b"data"[..]));
        assert!(flat.bytes[4..0x2000].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn files_that_cannot_be_loaded_are_refused() {
        let fails = |segments: &[(u64, &[u8], u64)]| flatten(&elf(segments)).unwrap_err().to_string();
        assert!(fails(&[]).contains("nothing to load"));
        assert!(fails(&[(0, b"x", 0x1001), (0x1000, b"y", 1)]).contains("lies over"));
        assert!(fails(&[(0, b"x", 1), (1 << 40, b"y", 1)]).contains("too far"));
        assert!(fails(&[(u64::MAX, b"x", 2), (0, b"x", 1)]).contains("too far"));
        assert!(fails(&[(0, b"xyz", 2)]).contains("larger than its memory"));
        let whole = elf(&[(0x1000, b"text", 0x10)]);
        for cut in 0..whole.len() {
            assert!(flatten(&whole[..cut]).is_err(), "{cut}");
        }
    }
}
