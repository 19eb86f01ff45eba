//! Block maps as bmaptool writes them, format 2.0: XML that names an image's blocks in use with their SHA-256, and has
//! a checksum of itself.
//!
//! The format is described by the comment that bmaptool puts into every map, and by its documentation.

use super::map::{BlockMap, Range, Rest};
use crate::cache::{hex, sha256};
use crate::error::{Error, Result, ResultExt};
use quick_xml::events::Event;
use quick_xml::reader::Reader;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of a map. One of 32 MiB names some 300,000 ranges.
const MAX: u64 = 32 << 20;

/// The map beside the image at `path`, if there is one: of its whole name, or with endings less, as bmaptool looks.
pub fn beside(path: &Path) -> Option<PathBuf> {
    let mut name = path.to_path_buf();
    loop {
        let mut candidate = name.clone().into_os_string();
        candidate.push(".bmap");
        let candidate = PathBuf::from(candidate);
        if candidate != path && candidate.is_file() {
            return Some(candidate);
        }
        name = match name.extension() {
            Some(_) => name.with_extension(""),
            None => return None,
        };
    }
}

/// Reads the map at `path`.
///
/// # Errors
///
/// A file that cannot be read, and whatever [`parse`] refuses.
pub fn read(path: &Path) -> Result<BlockMap> {
    let mut text = Vec::new();
    let file = File::open(path).context_at(path, || "cannot open the block map")?;
    file.take(MAX + 1).read_to_end(&mut text).context_at(path, || "cannot read the block map")?;
    if text.len() as u64 > MAX {
        return Err(Error::new(format!("the block map has more than {} MiB", MAX >> 20)).at(path));
    }
    String::from_utf8(text)
        .map_err(|_| Error::new("the block map is no text"))
        .and_then(|text| parse(&text))
        .map_err(|error| {
            error.at(path).help(
                "make the map again with `bmaptool create`, or move it away: the image is then written whole",
            )
        })
}

/// The text of `map`.
///
/// # Errors
///
/// A map with a range that has no hash.
pub fn render(map: &BlockMap) -> Result<String> {
    let blocks = map.image_size().div_ceil(map.block_size());
    let mapped: u64 = map.ranges().iter().map(|range| range.count).sum();
    let checksum = "0".repeat(64);
    let mut ranges = String::new();
    for range in map.ranges() {
        let hash = range.sha256.ok_or_else(|| Error::new("a range of the map has no hash"))?;
        let blocks = match range.count {
            1 => range.first.to_string(),
            count => format!("{}-{}", range.first, range.first + count - 1),
        };
        ranges.push_str(&format!("        <Range chksum=\"{}\"> {blocks} </Range>\n", hex(&hash)));
    }
    let text = format!(
        "<?xml version=\"1.0\" ?>\n\
         <!-- The blocks of the image that are in use: whoever writes it to a medium need not write the others. -->\n\
         <bmap version=\"2.0\">\n    \
         <ImageSize> {} </ImageSize>\n    \
         <BlockSize> {} </BlockSize>\n    \
         <BlocksCount> {blocks} </BlocksCount>\n    \
         <MappedBlocksCount> {mapped} </MappedBlocksCount>\n    \
         <ChecksumType> sha256 </ChecksumType>\n    \
         <BmapFileChecksum> {checksum} </BmapFileChecksum>\n    \
         <BlockMap>\n{ranges}    </BlockMap>\n\
         </bmap>\n",
        map.image_size(),
        map.block_size(),
    );
    // Made while zeros stand in its place.
    Ok(text.replacen(&checksum, &sha256(text.as_bytes()), 1))
}

/// What the file says, as far as it has been read.
#[derive(Debug, Default)]
struct Fields {
    image_size: Option<u64>,
    block_size: Option<u64>,
    blocks: Option<u64>,
    mapped: Option<u64>,
    hash: Option<String>,
    checksum: Option<String>,
    ranges: Vec<Range>,
}

/// Reads a map.
///
/// # Errors
///
/// What is no map, one of another version or with other hashes than SHA-256, one whose checksum is not that of its
/// text, and one that contradicts itself.
pub fn parse(text: &str) -> Result<BlockMap> {
    let fields = fields(text)?;
    let checksum = fields.checksum.ok_or_else(|| lacks("BmapFileChecksum"))?;
    if checksum.len() != 64 || hash(&checksum).is_none() {
        return Err(Error::new(format!("the checksum `{checksum}` is no SHA-256")));
    }
    // It was made while zeros stood in its place.
    if sha256(text.replacen(&checksum, &"0".repeat(64), 1).as_bytes()) != checksum.to_ascii_lowercase() {
        return Err(Error::new("the block map is damaged: its checksum is another"));
    }
    match fields.hash.as_deref() {
        Some("sha256") => {}
        Some(other) => return Err(Error::new(format!("the hashes are {other}; only sha256 is known"))),
        None => return Err(lacks("ChecksumType")),
    }
    let image_size = fields.image_size.ok_or_else(|| lacks("ImageSize"))?;
    let block_size = fields.block_size.ok_or_else(|| lacks("BlockSize"))?;
    let mapped: u64 = fields.ranges.iter().map(|range| range.count).fold(0, u64::saturating_add);
    let map = BlockMap::new(block_size, image_size, fields.ranges, Rest::Any)?;
    let blocks = image_size.div_ceil(block_size);
    if fields.blocks.is_some_and(|said| said != blocks) {
        return Err(Error::new(format!("BlocksCount does not fit the image, which has {blocks}")));
    }
    if fields.mapped.is_some_and(|said| said != mapped) {
        return Err(Error::new(format!("MappedBlocksCount does not fit the ranges, which have {mapped}")));
    }
    Ok(map)
}

fn lacks(what: &str) -> Error {
    Error::new(format!("the block map lacks {what}"))
}

fn fields(text: &str) -> Result<Fields> {
    let mut reader = Reader::from_str(text);
    let mut fields = Fields::default();
    // The names of the elements that are open, and the text and hash of the innermost.
    let mut open: Vec<String> = Vec::new();
    let mut content = String::new();
    let mut range_hash = None;
    loop {
        match reader.read_event().context(|| "the block map is no XML that can be read")? {
            Event::Start(element) => {
                let name: &str = element.name().into_inner();
                match open.len() {
                    0 if name == "bmap" => version(&attribute(&element, "version")?)?,
                    0 => return Err(Error::new(format!("this is `{name}` and no block map"))),
                    1 | 2 => {}
                    _ => return Err(Error::new(format!("`{name}` is nested too deeply"))),
                }
                range_hash = attribute(&element, "chksum")?;
                open.push(name.to_owned());
                content.clear();
            }
            Event::End(_) => {
                let path: Vec<&str> = open.iter().map(String::as_str).collect();
                set(&mut fields, &path, content.trim(), range_hash.take())?;
                open.pop();
                content.clear();
            }
            Event::Text(text) => content.push_str(&text.xml10_content()),
            Event::Eof => break,
            Event::Decl(_) | Event::Comment(_) | Event::Empty(_) => {}
            Event::CData(_) | Event::PI(_) | Event::DocType(_) | Event::GeneralRef(_) => {
                return Err(Error::new("the block map has XML in it that no block map has"));
            }
        }
    }
    if open.is_empty() { Ok(fields) } else { Err(Error::new("the block map ends in the middle")) }
}

/// The attribute `wanted`.
fn attribute(element: &quick_xml::events::BytesStart<'_>, wanted: &str) -> Result<Option<String>> {
    for attribute in element.attributes() {
        let attribute = attribute.context(|| "the block map is no XML that can be read")?;
        if attribute.key.into_inner() == wanted {
            return Ok(Some(attribute.value.trim().to_owned()));
        }
    }
    Ok(None)
}

fn version(said: &Option<String>) -> Result<()> {
    let said = said.as_deref().ok_or_else(|| lacks("its version"))?;
    if said.split('.').next() != Some("2") {
        return Err(Error::new(format!("the block map has version {said}; only 2 is known")));
    }
    Ok(())
}

/// Takes the element at `path` with what is in it. One that is not known is passed over: later versions 2 may have more.
fn set(fields: &mut Fields, path: &[&str], content: &str, range_hash: Option<String>) -> Result<()> {
    let field = match path {
        ["bmap", "ImageSize"] => &mut fields.image_size,
        ["bmap", "BlockSize"] => &mut fields.block_size,
        ["bmap", "BlocksCount"] => &mut fields.blocks,
        ["bmap", "MappedBlocksCount"] => &mut fields.mapped,
        ["bmap", "ChecksumType"] => return once(&mut fields.hash, content.to_owned(), "ChecksumType"),
        ["bmap", "BmapFileChecksum"] => {
            return once(&mut fields.checksum, content.to_owned(), "BmapFileChecksum");
        }
        ["bmap", "BlockMap", "Range"] => {
            let (first, last) = content.split_once('-').unwrap_or((content, content));
            let (first, last) = (number(first)?, number(last)?);
            let count = last.checked_sub(first).and_then(|count| count.checked_add(1));
            let count = count.ok_or_else(|| Error::new(format!("`{content}` is no range of blocks")))?;
            let sha256 = match range_hash {
                None => None,
                Some(text) => Some(hash(&text).ok_or_else(|| {
                    Error::new(format!("the hash `{text}` of the range {content} is no SHA-256"))
                })?),
            };
            fields.ranges.push(Range { first, count, sha256 });
            return Ok(());
        }
        _ => return Ok(()),
    };
    let name = path.last().copied().unwrap_or_default();
    once(field, number(content)?, name)
}

fn once<T>(field: &mut Option<T>, value: T, name: &str) -> Result<()> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::new(format!("the block map has {name} twice"))),
    }
}

fn number(text: &str) -> Result<u64> {
    let text = text.trim();
    text.parse().map_err(|_| Error::new(format!("`{text}` is no number of blocks or bytes")))
}

/// A SHA-256 in hexadecimal.
fn hash(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> =
        digits.chunks_exact(2).filter_map(|pair| Some(pair.first()? << 4 | pair.get(1)?)).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write;

    /// The text of a map, with the checksum that it needs.
    pub(crate) fn text(block_size: u64, image_size: u64, mapped: u64, ranges: &str) -> String {
        let mut text = String::from("<?xml version=\"1.0\" ?>\n<!-- a comment -->\n<bmap version=\"2.0\">\n");
        let zeros = "0".repeat(64);
        let blocks = image_size.div_ceil(block_size.max(1));
        for (name, value) in [("ImageSize", image_size), ("BlockSize", block_size), ("BlocksCount", blocks)] {
            writeln!(text, "    <{name}> {value} </{name}>").unwrap();
        }
        writeln!(text, "    <MappedBlocksCount> {mapped}   </MappedBlocksCount>").unwrap();
        writeln!(text, "    <ChecksumType> sha256 </ChecksumType>").unwrap();
        writeln!(text, "    <BmapFileChecksum> {zeros} </BmapFileChecksum>").unwrap();
        write!(text, "    <BlockMap>{ranges}</BlockMap>\n</bmap>\n").unwrap();
        sealed(&text)
    }

    fn sealed(text: &str) -> String {
        text.replacen(&"0".repeat(64), &sha256(text.as_bytes()), 1)
    }

    #[test]
    fn a_map_is_read() {
        let hash = "ab".repeat(32);
        let ranges = format!("<Range chksum=\"{hash}\"> 0-1 </Range>\n<Range> 3 </Range>");
        let map = parse(&text(4096, 16_000, 3, &ranges)).unwrap();
        assert_eq!((map.block_size(), map.image_size(), map.rest()), (4096, 16_000, Rest::Any));
        let [first, second] = map.ranges() else { panic!("two ranges") };
        assert_eq!((first.first, first.count, first.sha256.map(|hash| hex(&hash))), (0, 2, Some(hash)));
        assert_eq!((map.bytes(second), second.sha256), ((12_288, 16_000), None));
    }

    #[test]
    fn a_map_that_was_written_is_read() {
        let range = |first, count| Range { first, count, sha256: Some([first as u8; 32]) };
        let map =
            BlockMap::new(4096, 40_000, vec![range(0, 1), range(3, 2), range(9, 1)], Rest::Any).unwrap();
        let text = render(&map).unwrap();
        assert_eq!(parse(&text).unwrap(), map);
        assert!(text.contains("> 3-4 </Range>") && text.contains("> 9 </Range>"), "{text}");
        assert!(parse(&text.replace("3-4", "3-5")).unwrap_err().report().contains("damaged"));
        let unknown = Range { first: 0, count: 1, sha256: None };
        assert!(render(&BlockMap::new(4096, 40_000, vec![unknown], Rest::Any).unwrap()).is_err());
    }

    #[test]
    fn a_map_that_lies_is_refused() {
        let good = text(4096, 8192, 1, "<Range>1</Range>");
        assert!(parse(&good).is_ok());
        let refused = |text: &str, why: &str| {
            let said = parse(text).unwrap_err().report();
            assert!(said.contains(why), "{said}");
        };
        refused(&good.replace("8192", "8193"), "damaged");
        refused(&text(4096, 8192, 2, "<Range>1</Range>"), "MappedBlocksCount");
        refused(&text(4096, 8192, 1, "<Range>2</Range>"), "beyond");
        refused(&text(4096, 8192, 2, "<Range>1</Range><Range>0</Range>"), "does not come after");
        refused(&text(4096, 8192, 1, "<Range>1-0</Range>"), "no range");
        refused(&text(4096, 8192, 1, "<Range>-1</Range>"), "no number");
        refused(&text(4096, 8192, 1, "<Range>0-18446744073709551615</Range>"), "no range");
        refused(&text(4096, 8192, 1, "<Range chksum=\"ab\">1</Range>"), "no SHA-256");
        refused(&text(4096, 8192, 1, "<Range>&lol;</Range>"), "no block map has");
        refused(&text(0, 8192, 1, "<Range>1</Range>"), "cannot be");
        let zeros = format!("<BmapFileChecksum> {} <", "0".repeat(64));
        let unsealed = format!("<bmap version=\"1.3\">{zeros}/BmapFileChecksum></bmap>");
        refused(&unsealed, "version 1.3");
        refused("<html></html>", "no block map");
        refused("", "lacks");
        refused("<bmap version=\"2.0\">", "ends in the middle");
        refused(&format!("<!DOCTYPE x [<!ENTITY a \"b\">]>{good}"), "no block map has");
    }

    #[test]
    fn the_map_is_found_beside_the_image() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("x.img.gz");
        assert_eq!(beside(&image), None);
        for name in ["x.bmap", "x.img.bmap", "x.img.gz.bmap"] {
            std::fs::write(dir.path().join(name), "").unwrap();
            assert_eq!(beside(&image), Some(dir.path().join(name)));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_damage_makes_it_panic(at in 0_usize..400, byte in "[<>/&a0\"-]") {
            let mut text = text(4096, 8192, 1, "<Range chksum=\"00\">1</Range>");
            if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
                text.replace_range(at..=at, &byte);
            }
            // With a checksum that fits, so that what follows is reached.
            if let Ok(fields) = fields(&text) && let Some(checksum) = fields.checksum {
                let text = text.replacen(&checksum, &"0".repeat(64), 1);
                let _ = parse(&sealed(&text));
            }
            let _ = parse(&text);
        }
    }
}
