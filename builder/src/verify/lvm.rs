//! LVM2 volume groups, read as lvm2 reads them: from the label to the metadata area, its header, and the text, of which
//! only the syntax (lvm.conf(5)) is taken for granted.

use std::collections::BTreeMap;
use std::fs::File;

use super::{read, u32_at, u64_at};
use crate::disk::VolumeGroup;
use crate::error::{Error, Result};

const SECTOR: u64 = 512;
/// A text longer than this is none that was written here.
const MAX_TEXT: u64 = 1 << 20;
/// Sections in sections that are followed.
const MAX_DEPTH: usize = 16;

/// A value of the text.
#[derive(Debug, PartialEq, Eq)]
enum Value {
    Number(u64),
    Text(String),
    List(Vec<Value>),
    Section(BTreeMap<String, Value>),
}

/// A volume, as the group describes it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    /// Its name.
    pub(crate) name: String,
    /// Its first byte, counted from the partition's.
    pub(crate) start: u64,
    /// Its bytes.
    pub(crate) size: u64,
}

/// The volumes of the group that has the `size` bytes from byte `start`, sorted by name; each in one piece.
pub(crate) fn volumes(file: &File, start: u64, size: u64) -> Result<Vec<Volume>> {
    let Value::Section(all) = parse(&metadata(file, start, size, None)?)? else {
        return Err(wrong("is no section"));
    };
    let group =
        all.values().find_map(|value| if let Value::Section(group) = value { Some(group) } else { None });
    let group = group.ok_or_else(|| wrong("has no name"))?;
    let extents = Extents::of(group, size)?;
    let Some(Value::Section(described)) = group.get("logical_volumes") else { return Ok(Vec::new()) };
    let mut volumes = Vec::new();
    for name in described.keys() {
        let (start, size) = extents.place(section(described, name)?)?;
        volumes.push(Volume { name: name.clone(), start, size });
    }
    Ok(volumes)
}

/// Compares the group at byte `start` with what was asked for, and gives the first byte of each volume, counted from the
/// partition's, and its size.
pub(super) fn check(file: &File, start: u64, size: u64, wanted: &VolumeGroup) -> Result<Vec<(u64, u64)>> {
    let metadata = metadata(file, start, size, Some(&wanted.physical_uuid))?;
    let Value::Section(all) = parse(&metadata)? else { return Err(wrong("is no section")) };
    let group = section(&all, &wanted.name)?;
    is_text(group, "id", &wanted.uuid)?;
    is_text(section(section(group, "physical_volumes")?, "pv0")?, "id", &wanted.physical_uuid)?;
    let extents = Extents::of(group, size)?;
    let none = BTreeMap::new();
    let volumes = if wanted.volumes.is_empty() { &none } else { section(group, "logical_volumes")? };
    if volumes.len() != wanted.volumes.len() {
        return Err(wrong("has another number of volumes"));
    }
    let mut places = Vec::new();
    for volume in &wanted.volumes {
        let there = section(volumes, &volume.name)?;
        is_text(there, "id", &volume.uuid)?;
        let (place, bytes) = extents.place(there)?;
        if bytes < volume.size || bytes - volume.size >= extents.size {
            return Err(wrong(&format!("has {bytes} bytes for `{}`", volume.name)));
        }
        if places.iter().any(|(other, size): &(u64, u64)| place < other + size && *other < place + bytes) {
            return Err(wrong("has volumes that lie over one another"));
        }
        places.push((place, bytes));
    }
    Ok(places)
}

/// The extents of a physical volume.
struct Extents {
    /// The first byte of the first, counted from the partition's.
    start: u64,
    /// Bytes of each.
    size: u64,
    count: u64,
}

impl Extents {
    /// Those of `group`, which has `size` bytes.
    fn of(group: &BTreeMap<String, Value>, size: u64) -> Result<Self> {
        let extent = number(group, "extent_size")?.saturating_mul(SECTOR);
        let physical = section(section(group, "physical_volumes")?, "pv0")?;
        let start = number(physical, "pe_start")?.saturating_mul(SECTOR);
        let count = number(physical, "pe_count")?;
        if number(physical, "dev_size")?.saturating_mul(SECTOR) != size
            || count.saturating_mul(extent).saturating_add(start) > size
        {
            return Err(wrong("has another size than its partition"));
        }
        Ok(Self { start, size: extent, count })
    }

    /// The first byte of a volume, counted from the partition's, and its bytes.
    fn place(&self, volume: &BTreeMap<String, Value>) -> Result<(u64, u64)> {
        let segment = section(volume, "segment1")?;
        let count = number(segment, "extent_count")?;
        let stripe = match segment.get("stripes") {
            Some(Value::List(list)) => list.as_slice(),
            _ => return Err(wrong("has a volume that lies nowhere")),
        };
        let [Value::Text(on), Value::Number(first)] = stripe else {
            return Err(wrong("has a volume that is not in one piece"));
        };
        if number(volume, "segment_count")? != 1 || number(segment, "start_extent")? != 0 || on != "pv0" {
            return Err(wrong("has a volume that is not in one piece"));
        }
        if first.saturating_add(count) > self.count {
            return Err(wrong("has a volume that reaches past its end"));
        }
        Ok((self.start.saturating_add(first.saturating_mul(self.size)), count.saturating_mul(self.size)))
    }
}

fn wrong(what: &str) -> Error {
    Error::new(format!("the volume group {what}"))
}

/// The text, by way of label and header, whose checksums are tried.
fn metadata(file: &File, start: u64, size: u64, physical_uuid: Option<&str>) -> Result<String> {
    let label = read(file, start + SECTOR, 512)?;
    if label.get(..8) != Some(b"LABELONE")
        || label.get(24..32) != Some(b"LVM2 001")
        || u64_at(&label, 8)? != 1
    {
        return Err(wrong("has no label"));
    }
    if u32_at(&label, 16)? != crc(label.get(20..).unwrap_or_default()) {
        return Err(wrong("has a label with a wrong checksum"));
    }
    let mut at = u32_at(&label, 20)? as usize;
    let plain = physical_uuid.map(|uuid| uuid.bytes().filter(|byte| *byte != b'-').collect::<Vec<u8>>());
    let own = label.get(at..at.saturating_add(32));
    if plain.is_some_and(|plain| own != Some(&plain)) || u64_at(&label, at + 32)? != size {
        return Err(wrong("has a label with another identity or size"));
    }
    at += 40;
    // The list of data areas ends with a pair of zeros; behind it is that of metadata areas.
    while (u64_at(&label, at)?, u64_at(&label, at + 8)?) != (0, 0) {
        at += 16;
    }
    let area = u64_at(&label, at + 16)?;
    let inside = |from: u64, bytes: u64| from.checked_add(bytes).is_some_and(|end| end <= size);
    if area == 0 || !inside(area, SECTOR) {
        return Err(wrong("has no metadata"));
    }
    let header = read(file, start + area, 512)?;
    if u32_at(&header, 0)? != crc(header.get(4..).unwrap_or_default()) || u64_at(&header, 24)? != area {
        return Err(wrong("has metadata whose header is damaged"));
    }
    let (offset, length, sum) = (u64_at(&header, 40)?, u64_at(&header, 48)?, u32_at(&header, 56)?);
    let from = area.saturating_add(offset);
    if length > MAX_TEXT || !inside(from, length) {
        return Err(wrong("has metadata that is too long"));
    }
    let text = read(file, start + from, usize::try_from(length).unwrap_or_default())?;
    if crc(&text) != sum {
        return Err(wrong("has metadata with a wrong checksum"));
    }
    match text.split_last() {
        Some((0, text)) => {
            String::from_utf8(text.to_vec()).map_err(|_| wrong("has metadata that is no text"))
        }
        _ => Err(wrong("has metadata without an end")),
    }
}

fn section<'a>(of: &'a BTreeMap<String, Value>, name: &str) -> Result<&'a BTreeMap<String, Value>> {
    match of.get(name) {
        Some(Value::Section(section)) => Ok(section),
        _ => Err(wrong(&format!("has no section `{name}`"))),
    }
}

fn number(of: &BTreeMap<String, Value>, name: &str) -> Result<u64> {
    match of.get(name) {
        Some(Value::Number(number)) => Ok(*number),
        _ => Err(wrong(&format!("has no number `{name}`"))),
    }
}

fn is_text(of: &BTreeMap<String, Value>, name: &str, wanted: &str) -> Result<()> {
    match of.get(name) {
        Some(Value::Text(text)) if text == wanted => Ok(()),
        _ => Err(wrong(&format!("has another `{name}` than {wanted}"))),
    }
}

/// The text as a section.
fn parse(text: &str) -> Result<Value> {
    let mut words = words(text)?.into_iter().peekable();
    let value = entries(&mut words, 0)?;
    if words.next().is_some() {
        return Err(wrong("has metadata with an end too many"));
    }
    Ok(value)
}

/// Names, numbers, texts with their first quote, and marks.
fn words(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '#' => rest.find('\n').unwrap_or(rest.len()),
            c if c.is_whitespace() => c.len_utf8(),
            '{' | '}' | '[' | ']' | '=' | ',' => 1,
            '"' => {
                let end = rest.get(1..).and_then(|rest| rest.find('"'));
                2 + end.ok_or_else(|| wrong("has metadata with an open text"))?
            }
            c if c.is_ascii_alphanumeric() || "_+.-".contains(c) => {
                let other = |c: char| !c.is_ascii_alphanumeric() && !"_+.-".contains(c);
                rest.find(other).unwrap_or(rest.len())
            }
            _ => return Err(wrong("has metadata with a character that does not belong there")),
        };
        let (word, behind) = rest.split_at(end);
        if first != '#' && !first.is_whitespace() {
            words.push(word.strip_suffix('"').unwrap_or(word).to_owned());
        }
        rest = behind;
    }
    Ok(words)
}

type Words = std::iter::Peekable<std::vec::IntoIter<String>>;

fn entries(words: &mut Words, depth: usize) -> Result<Value> {
    let mut all = BTreeMap::new();
    if depth > MAX_DEPTH {
        return Err(wrong("has metadata with too many sections in one another"));
    }
    while let Some(name) = words.next_if(|word| word != "}") {
        let value = match words.next().as_deref() {
            Some("{") => {
                let section = entries(words, depth + 1)?;
                if words.next().as_deref() != Some("}") {
                    return Err(wrong("has metadata with an open section"));
                }
                section
            }
            Some("=") => match words.next() {
                Some(word) if word == "[" => list(words)?,
                Some(word) => scalar(&word)?,
                None => return Err(wrong("has metadata that ends too early")),
            },
            _ => return Err(wrong("has metadata with a name alone")),
        };
        if all.insert(name, value).is_some() {
            return Err(wrong("has metadata with one name twice"));
        }
    }
    Ok(Value::Section(all))
}

fn list(words: &mut Words) -> Result<Value> {
    let mut all = Vec::new();
    for word in words.by_ref() {
        match word.as_str() {
            "]" => return Ok(Value::List(all)),
            "," => {}
            word => all.push(scalar(word)?),
        }
    }
    Err(wrong("has metadata with an open list"))
}

fn scalar(word: &str) -> Result<Value> {
    match word.strip_prefix('"') {
        Some(text) => Ok(Value::Text(text.to_owned())),
        None => word.parse().map(Value::Number).map_err(|_| wrong("has metadata with a value of no kind")),
    }
}

/// LVM2's checksum, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0xf597_a6cf, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_syntax_is_understood() {
        let text = "vg { # a comment { \n id = \"x y\"\n n = 12\n l = [\"a\", 3]\n e = []\n s {\n}\n}\nversion = 1\n";
        let Value::Section(all) = parse(text).unwrap() else { panic!("no section") };
        let group = section(&all, "vg").unwrap();
        assert!(is_text(group, "id", "x y").is_ok() && is_text(group, "id", "x").is_err());
        assert_eq!(number(group, "n").unwrap(), 12);
        assert_eq!(group.get("l"), Some(&Value::List(vec![Value::Text("a".into()), Value::Number(3)])));
        assert!(section(group, "s").unwrap().is_empty() && section(group, "n").is_err());
        for bad in ["a {", "a }", "a = ", "a = [1", "a = \"x", "a b", "}", "a = 1 a = 2", "a = (", "a = x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&"a {".repeat(10_000)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "([a-z{}=\\[\\]\", \n#0-9é])*") {
            let _ = parse(&text);
        }
    }
}
