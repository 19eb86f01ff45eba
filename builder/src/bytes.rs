//! Numbers out of bytes that may end too early. Without a word on it, the first byte is the least.

/// The two bytes at `offset`.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(field(bytes, offset)?))
}

/// The four bytes at `offset`.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(field(bytes, offset)?))
}

/// The eight bytes at `offset`.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(field(bytes, offset)?))
}

/// The four bytes at `offset`, the greatest first.
pub(crate) fn be32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_be_bytes(field(bytes, offset)?))
}

/// Whether `bytes` has `magic` at `offset`.
pub(crate) fn has(bytes: &[u8], offset: usize, magic: &[u8]) -> bool {
    bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic))
}

/// Where `wanted` begins in `bytes`.
pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    while let Some(step) = bytes.get(from..)?.iter().position(|&byte| byte == first) {
        if has(bytes, from + step, wanted) {
            return Some(from + step);
        }
        from += step + 1;
    }
    None
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_or_not_there() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!((u16_at(&bytes, 6), u16_at(&bytes, 7)), (Some(0x0807), None));
        assert_eq!((u32_at(&bytes, 1), be32_at(&bytes, 1)), (Some(0x0504_0302), Some(0x0203_0405)));
        assert_eq!((u64_at(&bytes, 0), u64_at(&bytes, usize::MAX)), (Some(0x0807_0605_0403_0201), None));
    }

    #[test]
    fn a_word_is_found_where_it_begins() {
        assert_eq!((find(b"aab aabc", b"aabc"), find(b"aab", b"aabc")), (Some(4), None));
        assert_eq!((find(b"", b"a"), find(b"a", b"")), (None, None));
    }
}
