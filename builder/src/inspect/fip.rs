//! Trusted Firmware-A's firmware image packages: include/tools_share/firmware_image_package.h there.

use super::thing::{Kind, Thing};
use crate::bytes::{u32_at, u64_at};
use uuid::{Uuid, uuid};

const MAGIC: u32 = 0xaa64_0001;
const HEADER: usize = 16;
const ENTRY: usize = 40;
const MOST_ENTRIES: usize = 64;

/// What has which UUID.
const NAMES: [(Uuid, &str); 5] = [
    (uuid!("5ff9ec0b-4d22-3e4d-a544-c39d81c73f0a"), "BL2"),
    (uuid!("9766fd3d-89be-e849-ae5d-78a140608213"), "SCP_BL2"),
    (uuid!("47d4086d-4cfe-9846-9b95-2950cbbd5a00"), "BL31"),
    (uuid!("05d0e189-53dc-1347-8d2b-500a4b7a3e38"), "BL32"),
    (uuid!("d6d0eea7-fcea-d54b-9782-9934f234b6e4"), "BL33"),
];

/// The package that `bytes` begin with.
pub(super) fn recognise(bytes: &[u8], size: u64) -> Option<Thing> {
    if u32_at(bytes, 0)? != MAGIC {
        return None;
    }
    let mut names = Vec::new();
    let mut wrong = Vec::new();
    let mut end = 0;
    let mut closed = false;
    for entry in bytes.get(HEADER..)?.chunks_exact(ENTRY).take(MOST_ENTRIES) {
        let id = Uuid::from_bytes(*entry.first_chunk()?);
        let (start, length) = (u64_at(entry, 16)?, u64_at(entry, 24)?);
        if id.is_nil() {
            end = end.max(start);
            closed = true;
            break;
        }
        let name = NAMES
            .iter()
            .find(|(known, _)| *known == id)
            .map_or_else(|| id.to_string(), |(_, name)| (*name).to_owned());
        match start.checked_add(length) {
            Some(reach) if reach <= size => end = end.max(reach),
            _ => wrong.push(format!("{name} reaches past the end")),
        }
        names.push(name);
    }
    if !closed {
        wrong.push("its list of images has no end".into());
    }
    let mut thing = Thing::new(Kind::Firmware, format!("TF-A firmware package: {}", names.join(", ")))
        .size(end.min(size));
    thing.wrong = wrong;
    Some(thing)
}
