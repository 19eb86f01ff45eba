//! U-Boot's legacy images (U-Boot, include/image.h), with their checksums.

use super::thing::{Cpu, Kind, Thing};
use crate::bytes::{be32_at, has};
use crate::uboot::crc32;

const MAGIC: [u8; 4] = [0x27, 0x05, 0x19, 0x56];
const HEADER: u64 = 64;

/// The image that `bytes` begin with; `inside` says what its data is.
pub(super) fn recognise(bytes: &[u8], size: u64, inside: impl FnOnce(&[u8], u64) -> Thing) -> Option<Thing> {
    if !has(bytes, 0, &MAGIC) {
        return None;
    }
    let header = bytes.get(..64)?;
    let mut summed = header.to_vec();
    summed.iter_mut().skip(4).take(4).for_each(|byte| *byte = 0);
    let length = u64::from(be32_at(header, 12)?);
    let (kind, cpu) = (kind(*header.get(30)?), cpu(*header.get(29)?));
    let name: Vec<u8> = header.get(32..)?.iter().copied().take_while(|&byte| byte != 0).collect();
    let name = String::from_utf8_lossy(&name).into_owned();
    let named = if name.is_empty() { String::new() } else { format!(" `{name}`") };
    let mut thing =
        Thing::new(kind.0, format!("legacy U-Boot image{named}: {}", kind.1)).cpu(cpu).size(HEADER + length);
    if be32_at(header, 4) != Some(crc32(&summed)) {
        return Some(thing.wrong("the header's checksum is wrong"));
    }
    let end = usize::try_from(HEADER + length).unwrap_or(usize::MAX);
    let Some(data) = bytes.get(64..end) else {
        let whole = bytes.len() as u64 >= size;
        return Some(if whole {
            thing.wrong(format!("it is cut short: {size} bytes of {}", HEADER + length))
        } else {
            thing
        });
    };
    if be32_at(header, 24) != Some(crc32(data)) {
        return Some(thing.wrong("the data's checksum is wrong"));
    }
    if kind.0 == Kind::Script {
        thing.text = script(data);
        if thing.text.is_none() {
            thing = thing.wrong("the list of sizes before the script is wrong");
        }
    } else if kind.0 == Kind::Kernel {
        let data = inside(data, length);
        thing.what = format!("{} ({})", thing.what, data.what);
        // A hypervisor is started as a kernel is.
        if data.kind == Kind::Hypervisor {
            thing.kind = data.kind;
        }
    }
    Some(thing)
}

/// The commands of a script: they are the first of a list of parts, whose sizes come before, with a zero at the end.
fn script(data: &[u8]) -> Option<String> {
    let length = usize::try_from(be32_at(data, 0)?).ok()?;
    let parts = data.chunks_exact(4).position(|size| size == [0; 4])?;
    let start = (parts + 1) * 4;
    let text = data.get(start..start.checked_add(length)?)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn kind(number: u8) -> (Kind, &'static str) {
    match number {
        1 => (Kind::Other, "standalone program"),
        2 | 14 => (Kind::Kernel, "kernel"),
        3 => (Kind::Ramdisk, "ramdisk"),
        4 => (Kind::Container, "several files"),
        5 | 17 => (Kind::Firmware, "firmware"),
        6 => (Kind::Script, "script"),
        7 => (Kind::Other, "file system"),
        8 => (Kind::DeviceTree, "device tree"),
        _ => (Kind::Other, "of another kind"),
    }
}

fn cpu(number: u8) -> Option<Cpu> {
    match number {
        0 => None,
        2 => Some(Cpu::Arm),
        22 => Some(Cpu::Arm64),
        _ => Some(Cpu::Foreign),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uboot::{boot_script, kernel_image};
    use vambrace_bsp::Architecture;

    fn of(bytes: &[u8]) -> Thing {
        recognise(bytes, bytes.len() as u64, |_, _| Thing::new(Kind::Other, "data")).unwrap()
    }

    #[test]
    fn scripts_and_kernels_are_read_with_their_sums() {
        let script = boot_script("echo hi\n", Architecture::Armv7, 0).unwrap();
        let thing = of(&script);
        assert_eq!(
            (thing.kind, thing.cpu, thing.text.as_deref()),
            (Kind::Script, Some(Cpu::Arm), Some("echo hi\n"))
        );
        assert!(thing.wrong.is_empty() && thing.size == script.len() as u64);
        let kernel = kernel_image(b"xyz", Architecture::Aarch64, 0).unwrap();
        assert_eq!(of(&kernel).what, "legacy U-Boot image `vambrace`: kernel (data)");
        for (at, said) in [(9, "header"), (66, "data")] {
            let mut damaged = kernel.clone();
            damaged[at] ^= 1;
            assert!(of(&damaged).wrong[0].contains(said), "{said}");
        }
        assert!(of(&kernel[..65]).wrong[0].contains("cut short"));
    }
}
