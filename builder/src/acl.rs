//! Access control lists: as programs see them in extended attributes (Linux, include/uapi/linux/posix_acl_xattr.h), which is
//! how trees have them, and in the shorter form that ext4 writes (fs/ext4/acl.h).

use crate::error::{Error, Result};

/// The attributes that are such lists.
pub(crate) const NAMES: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
/// Versions of the two forms.
const SEEN: u32 = 2;
const WRITTEN: u32 = 1;
/// Tags of entries for one user and for one group: ext4 writes a number behind these only.
const NUMBERED: [u16; 2] = [2, 8];
/// Tags of the other entries: owner, owner's group, mask, everyone else.
const PLAIN: [u16; 4] = [1, 4, 0x10, 0x20];
/// The number of an entry that has none.
const NONE: [u8; 4] = [0xff; 4];

/// The form of ext4.
///
/// # Errors
/// What is no access control list.
pub(crate) fn to_ext4(list: &[u8]) -> Result<Vec<u8>> {
    let entries = list.strip_prefix(&SEEN.to_le_bytes()).ok_or_else(damaged)?;
    let (entries, []) = entries.as_chunks::<8>() else { return Err(damaged()) };
    let mut written = WRITTEN.to_le_bytes().to_vec();
    for entry in entries {
        let (short, number) = entry.split_at(4);
        written.extend_from_slice(short);
        match tag(short)? {
            tag if NUMBERED.contains(&tag) => written.extend_from_slice(number),
            tag if PLAIN.contains(&tag) && number == NONE => {}
            _ => return Err(damaged()),
        }
    }
    Ok(written)
}

/// The form that programs see.
///
/// # Errors
/// What is no access control list.
pub(crate) fn from_ext4(written: &[u8]) -> Result<Vec<u8>> {
    let mut rest = written.strip_prefix(&WRITTEN.to_le_bytes()).ok_or_else(damaged)?;
    let mut list = SEEN.to_le_bytes().to_vec();
    while !rest.is_empty() {
        let (short, behind) = rest.split_at_checked(4).ok_or_else(damaged)?;
        rest = behind;
        list.extend_from_slice(short);
        match tag(short)? {
            tag if NUMBERED.contains(&tag) => {
                let (number, behind) = rest.split_at_checked(4).ok_or_else(damaged)?;
                rest = behind;
                list.extend_from_slice(number);
            }
            tag if PLAIN.contains(&tag) => list.extend_from_slice(&NONE),
            _ => return Err(damaged()),
        }
    }
    Ok(list)
}

fn tag(entry: &[u8]) -> Result<u16> {
    entry.first_chunk().map(|tag| u16::from_le_bytes(*tag)).ok_or_else(damaged)
}

fn damaged() -> Error {
    Error::new("an access control list is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_the_same_list() {
        let mut list = SEEN.to_le_bytes().to_vec();
        for (tag, permissions, number) in [
            (1_u16, 6_u16, u32::MAX),
            (2, 4, 1000),
            (4, 5, u32::MAX),
            (8, 5, 4),
            (16, 5, u32::MAX),
            (32, 0, u32::MAX),
        ] {
            list.extend([&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &number.to_le_bytes()].concat());
        }
        let written = to_ext4(&list).unwrap();
        assert_eq!(written.len(), 4 + 4 * 4 + 2 * 8);
        assert_eq!(from_ext4(&written).unwrap(), list);
        for cut in (0..list.len()).filter(|cut| cut % 8 != 4) {
            assert!(to_ext4(&list[..cut]).is_err(), "{cut}");
        }
        for (at, byte) in [(0, 1), (4, 3), (4, 2 + 1), (8, 0)] {
            let mut other = list.clone();
            other[at] = byte;
            assert!(to_ext4(&other).is_err(), "{at}");
        }
        for other in
            [&written[..3], &written[..6], &[1, 0, 0, 0, 2, 0, 4, 0, 1], &[1, 0, 0, 0, 3, 0, 4, 0], &list]
        {
            assert!(from_ext4(other).is_err(), "{other:?}");
        }
    }
}
