//! FIT images: U-Boot's doc/usage/fit/source_file_format.rst. Hashes are checked; signatures are only named.

use std::borrow::Cow;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};
use sha2::{Digest, Sha256};

use super::thing::{Cpu, Kind, Thing};
use crate::bytes::be32_at;
use crate::uboot::crc32;

/// Images that are looked at.
const MOST_IMAGES: usize = 256;

/// The FIT that `bytes` begin with; `None` where it is another tree, or damaged.
pub(super) fn recognise(bytes: &[u8], size: u64) -> Option<Thing> {
    let total = usize::try_from(be32_at(bytes, 4)?).ok()?;
    let tree = Fdt::new(bytes.get(..total)?).ok()?;
    let root = tree.root();
    let images = root.child("images")?;
    let mut said = Vec::new();
    let mut wrong = Vec::new();
    let mut end = total as u64;
    let (mut kinds, mut cpu) = (Vec::new(), None);
    // External data begins behind the tree, at a multiple of four.
    let base = total.next_multiple_of(4);
    for image in images.children().take(MOST_IMAGES) {
        let name = image.name();
        let kind = text(&image, "type").unwrap_or_default();
        let arch = text(&image, "arch").unwrap_or_default();
        said.push(format!("{name} ({kind}{}{arch})", if arch.is_empty() { "" } else { ", " }));
        cpu = cpu.or(match arch.as_str() {
            "" => None,
            "arm64" => Some(Cpu::Arm64),
            "arm" => Some(Cpu::Arm),
            _ => Some(Cpu::Foreign),
        });
        kinds.push(kind);
        let data = match data(&image, bytes, base) {
            Ok(data) => data,
            Err(reach) => {
                end = end.max(reach);
                if bytes.len() as u64 >= size {
                    wrong.push(format!(
                        "the data of `{name}` reaches to byte {reach}, and the file has {size}"
                    ));
                }
                continue;
            }
        };
        let Some((data, reach)) = data else { continue };
        end = end.max(reach);
        for hash in image.children().filter(|node| node.name().starts_with("hash")) {
            if matches(&hash, &data) == Some(false) {
                let algorithm = text(&hash, "algo").unwrap_or_default();
                wrong.push(format!("the {algorithm} of `{name}` is wrong"));
            }
        }
    }
    let configurations = root.child("configurations");
    let count = configurations.as_ref().map_or(0, |node| node.children().count());
    let signed = configurations
        .iter()
        .flat_map(|node| node.children())
        .any(|node| node.children().any(|node| node.name().starts_with("signature")));
    let signed = if signed { ", signed" } else { "" };
    if let Some(node) = &configurations
        && let Some(default) = text(node, "default")
        && node.child(&default).is_none()
    {
        wrong.push(format!("its default configuration `{default}` is not there"));
    }
    let is = |name: &str| kinds.iter().any(|kind| kind == name);
    let firmware = said.iter().any(|image| image.starts_with("uboot") || image.starts_with("u-boot"))
        || is("firmware")
        || is("standalone");
    let kind = if is("kernel") {
        Kind::Container
    } else if firmware {
        Kind::Firmware
    } else if !kinds.is_empty() && kinds.iter().all(|kind| kind == "script") {
        Kind::Script
    } else {
        Kind::Container
    };
    let what = match kind {
        Kind::Firmware => "U-Boot (FIT)",
        Kind::Script => "script (FIT)",
        _ => "FIT",
    };
    let shown = said.iter().take(6).cloned().collect::<Vec<_>>().join(", ");
    let more = if said.len() > 6 { format!(" and {} more", said.len() - 6) } else { String::new() };
    let mut thing =
        Thing::new(kind, format!("{what}: {shown}{more}; {count} configurations{signed}")).cpu(cpu).size(end);
    thing.wrong = wrong;
    Some(thing)
}

/// An image's data, and the byte it ends at where it lies behind the tree.
type Data<'a> = (Cow<'a, [u8]>, u64);

/// The image's data; `None` where it has none, an error with its end where that is not here.
fn data<'a>(image: &FdtNode<'_>, bytes: &'a [u8], base: usize) -> Result<Option<Data<'a>>, u64> {
    if let Some(property) = image.property("data") {
        return Ok(Some((property.value().to_vec().into(), 0)));
    }
    let number = |name: &str| be32_at(image.property(name)?.value(), 0).map(u64::from);
    let Some(size) = number("data-size") else { return Ok(None) };
    let start = number("data-position").or_else(|| number("data-offset").map(|offset| base as u64 + offset));
    let Some(start) = start else { return Ok(None) };
    let end = start + size;
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    match range.and_then(|(start, end)| bytes.get(start..end)) {
        Some(data) => Ok(Some((data.into(), end))),
        None => Err(end),
    }
}

/// Whether a hash is right; `None` where its algorithm is not known here.
fn matches(hash: &FdtNode<'_>, data: &[u8]) -> Option<bool> {
    let property = hash.property("value")?;
    let value = property.value();
    match text(hash, "algo")?.as_str() {
        "crc32" => Some(value == crc32(data).to_be_bytes()),
        "sha256" => Some(value == Sha256::digest(data).as_slice()),
        "sha384" => Some(value == sha2::Sha384::digest(data).as_slice()),
        "sha512" => Some(value == sha2::Sha512::digest(data).as_slice()),
        _ => None,
    }
}

fn text(node: &FdtNode<'_>, name: &str) -> Option<String> {
    let property = node.property(name)?;
    let value = property.value().strip_suffix(b"\0")?;
    String::from_utf8(value.to_vec()).ok()
}
