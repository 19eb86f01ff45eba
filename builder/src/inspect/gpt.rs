//! GUID partition tables of anyone's making, by the UEFI specification 2.10, chapter 5, in blocks of 512 or 4096 bytes.

use uuid::Uuid;

use super::fault::Fault;
use super::mbr::Record;
use super::table::{Entry, Table, Tables};
use super::window::Window;
use crate::bytes::{has, u32_at, u64_at};
use crate::error::Result;
use crate::uboot::crc32;

/// The largest array of entries that is read: 8192 entries of 128 bytes.
const MOST_ENTRIES: u64 = 1 << 20;

/// One of the two tables.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Copy {
    /// The block with the header.
    own: u64,
    /// That of the other header.
    other: u64,
    first_usable: u64,
    last_usable: u64,
    /// The first byte of the entries, and how many bytes they are.
    entries: (u64, u64),
    header_sound: bool,
    entries_sound: bool,
    partitions: Vec<Entry>,
    /// What is wrong with it.
    wrong: Vec<String>,
}

impl Copy {
    fn sound(&self) -> bool {
        self.header_sound && self.entries_sound
    }
}

/// Reads the two tables into `tables`; `false` where there is none.
pub(super) fn read(
    window: &Window,
    record: Option<&Record>,
    tables: &mut Tables,
    faults: &mut Vec<Fault>,
) -> Result<bool> {
    let protected = record.is_some_and(Record::is_protective);
    let Some((block, first)) = find_first(window, protected)? else { return Ok(false) };
    let last = (window.size() / block).saturating_sub(1);
    // Where the first one says, else at the end, where it should be.
    let claimed = first.as_ref().filter(|first| first.header_sound).map(|first| first.other);
    let mut second = None;
    for place in claimed.into_iter().chain([last]) {
        second = match second {
            None if place > 1 => table(window, block, place)?,
            found => found,
        };
    }
    let used = [&first, &second].into_iter().flatten().find(|copy| copy.sound());
    let used = used.or(first.as_ref()).or(second.as_ref());
    let Some(used) = used else { return Ok(false) };
    if record.is_none() || !protected {
        let what = "there is no protective MBR before the GPT: Linux and U-Boot take no notice of the GPT";
        faults.push(
            Fault::error("the GPT", what).help("`sgdisk --mbrtogpt` or writing the image anew makes one"),
        );
    }
    if let Some(record) = record.filter(|record| record.is_hybrid()) {
        hybrid(record, used, faults);
    }
    for (name, copy) in [("GPT", &first), ("backup GPT", &second)] {
        let Some(copy) = copy else { continue };
        let piece =
            |what: &str, start, size, sound| Table { what: format!("{name} {what}"), start, size, sound };
        tables.pieces.push(piece("header", copy.own * block, 512, copy.header_sound));
        if copy.entries.1 > 0 {
            tables.pieces.push(piece("entries", copy.entries.0, copy.entries.1, copy.entries_sound));
        }
    }
    first_fault(first.as_ref(), second.as_ref(), faults);
    second_fault(second.as_ref(), used, last, faults);
    for entry in &used.partitions {
        let (start, end) = (entry.start / block, entry.start.saturating_add(entry.size) / block);
        if start < used.first_usable || end > used.last_usable.saturating_add(1) {
            let what = format!(
                "it lies outside of what the GPT says can be used, blocks {} to {}",
                used.first_usable, used.last_usable
            );
            faults.push(Fault::warning(format!("partition {}", entry.number), what));
        }
    }
    tables.entries.clone_from(&used.partitions);
    Ok(true)
}

/// The block size and the first table, or the block size where only a backup or the MBR tells that there is a GPT.
fn find_first(window: &Window, protected: bool) -> Result<Option<(u64, Option<Copy>)>> {
    for block in [512, 4096] {
        if let Some(copy) = table(window, block, 1)? {
            return Ok(Some((block, Some(copy))));
        }
    }
    for block in [512, 4096] {
        let last = (window.size() / block).saturating_sub(1);
        if protected && last > 1 && table(window, block, last)?.is_some() {
            return Ok(Some((block, None)));
        }
    }
    Ok(None)
}

/// Reads the table whose header is in block `own`; `None` where there is no signature.
fn table(window: &Window, block: u64, own: u64) -> Result<Option<Copy>> {
    let header = window.up_to(own.saturating_mul(block), 512)?;
    if !has(&header, 0, b"EFI PART") || header.len() < 92 {
        return Ok(None);
    }
    let word = |at: usize| u64::from(u32_at(&header, at).unwrap_or(0));
    let long = |at: usize| u64_at(&header, at).unwrap_or(0);
    let mut copy = Copy {
        own,
        other: long(32),
        first_usable: long(40),
        last_usable: long(48),
        entries: (long(72).saturating_mul(block), 0),
        header_sound: true,
        entries_sound: true,
        partitions: Vec::new(),
        wrong: Vec::new(),
    };
    let size = usize::try_from(word(12)).unwrap_or(0);
    match header.get(..size).filter(|_| size >= 92) {
        Some(summed) => {
            let mut summed = summed.to_vec();
            summed.iter_mut().skip(16).take(4).for_each(|byte| *byte = 0);
            if u64::from(crc32(&summed)) != word(16) {
                copy.header_sound = false;
                copy.wrong.push("the header's checksum is wrong".into());
            }
        }
        None => {
            copy.header_sound = false;
            copy.wrong.push(format!("the header says that it has {size} bytes"));
        }
    }
    if long(24) != own {
        copy.header_sound = false;
        copy.wrong.push(format!("the header says that it is in block {}, and is in block {own}", long(24)));
    }
    let (count, each) = (word(80), word(84));
    let bytes = count.saturating_mul(each);
    if each < 128 || !each.is_power_of_two() || bytes > MOST_ENTRIES || bytes == 0 {
        copy.header_sound = false;
        copy.entries_sound = false;
        copy.wrong.push(format!("the header says that there are {count} entries of {each} bytes"));
        return Ok(Some(copy));
    }
    copy.entries.1 = bytes;
    let entries = window.up_to(copy.entries.0, bytes)?;
    if entries.len() as u64 != bytes || u64::from(crc32(&entries)) != word(88) {
        copy.entries_sound = false;
        copy.wrong.push("the entries' checksum is wrong".into());
    }
    for (number, entry) in (1..).zip(entries.chunks_exact(usize::try_from(each).unwrap_or(usize::MAX))) {
        copy.partitions.extend(partition(number, entry, block));
    }
    Ok(Some(copy))
}

fn partition(number: u32, entry: &[u8], block: u64) -> Option<Entry> {
    let kind: [u8; 16] = *entry.first_chunk()?;
    if kind == [0; 16] {
        return None;
    }
    let (first, last) = (u64_at(entry, 32)?, u64_at(entry, 40)?);
    let units: Vec<u16> =
        entry.get(56..128)?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    let name = units.split(|&unit| unit == 0).next().unwrap_or_default();
    let kind = Uuid::from_bytes_le(kind).to_string();
    let esp = kind == ESP;
    Some(Entry {
        number,
        name: String::from_utf16_lossy(name),
        start: first.saturating_mul(block),
        size: last.saturating_add(1).saturating_sub(first).saturating_mul(block),
        // U-Boot takes an EFI system partition for one with the mark (disk/part_efi.c).
        bootable: esp || u64_at(entry, 48)? & 4 != 0,
        esp,
        kind: TYPES.iter().find(|(guid, _)| *guid == kind).map_or(kind, |(_, name)| (*name).to_owned()),
    })
}

const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

/// Kinds of partitions that are met on boards (UEFI specification; the Discoverable Partitions Specification; U-Boot).
const TYPES: [(&str, &str); 10] = [
    (ESP, "EFI system partition"),
    ("0fc63daf-8483-4772-8e79-3d69d8477de4", "Linux"),
    ("b921b045-1df0-41c3-af44-4c6f280d3fae", "Linux root, arm64"),
    ("69dad710-2ce4-4e3c-b16c-21a1d49abed3", "Linux root, arm"),
    ("bc13c2ff-59e6-4262-a352-b275fd6f7172", "boot files of the system (Boot Loader Specification)"),
    ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "Linux swap"),
    ("e6d6d379-f507-44c2-a23c-238f2a3df928", "Linux LVM"),
    ("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "Microsoft basic data"),
    ("21686148-6449-6e6f-744e-656564454649", "BIOS boot"),
    ("3de21764-95bd-54bd-a5c3-4abe786f38a8", "U-Boot environment"),
];

fn first_fault(first: Option<&Copy>, second: Option<&Copy>, faults: &mut Vec<Fault>) {
    let wrong = match first {
        Some(first) if first.sound() => return,
        Some(first) => first.wrong.join("; "),
        None => "it is not there".to_owned(),
    };
    let help = match second.filter(|second| second.sound()) {
        Some(_) => {
            "the backup is sound: U-Boot takes it and says so, Linux only with `gpt` on its command line; \
             writing the image again mends the first"
        }
        None => "write the image again",
    };
    faults.push(Fault::error("the GPT", wrong).help(help));
}

fn second_fault(second: Option<&Copy>, used: &Copy, last: u64, faults: &mut Vec<Fault>) {
    const AT: &str = "the backup GPT";
    const MOVE: &str = "the image is smaller than the medium it is on, or was cut or made longer: `sgdisk --move-second-header`";
    match second {
        None => {
            let what = format!("it is neither in block {} nor in the last one, {last}", used.other);
            faults.push(Fault::warning(AT, what).help(MOVE));
        }
        Some(second) if !second.sound() => {
            faults.push(
                Fault::warning(AT, second.wrong.join("; "))
                    .help("`sgdisk --verify` shows more; writing the image again mends it"),
            );
        }
        Some(second) if second.own != last => {
            let what = format!("it is in block {} and not in the last one, {last}", second.own);
            faults.push(Fault::warning(AT, what).help(MOVE));
        }
        Some(second) if second.partitions != used.partitions => {
            faults.push(
                Fault::warning(AT, "it has other partitions than the first")
                    .help("decide which one is right; sgdisk can copy it over the other"),
            );
        }
        Some(_) => {}
    }
}

/// A hybrid record's partitions should be those of the GPT.
fn hybrid(record: &Record, used: &Copy, faults: &mut Vec<Fault>) {
    let at = "the hybrid MBR";
    faults.push(Fault::note(
        at,
        "a boot ROM that knows no GPT sees the partitions of the MBR, all others those of the GPT",
    ));
    for (kind, start, size) in record.shown() {
        if !used.partitions.iter().any(|entry| (entry.start, entry.size) == (start, size)) {
            let what = format!(
                "its partition of type {kind:#04x} at byte {start} with {size} bytes is none of the GPT's"
            );
            faults.push(Fault::warning(at, what));
        }
    }
}
