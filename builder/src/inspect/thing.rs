//! What a file or blob is, by its bytes.

use std::io::Read;

use serde::Serialize;

use super::fault::Fault;
use super::{fip, fit, legacy, rom};
use crate::bytes::{find, has, u16_at, u32_at};
use crate::fdt;
use crate::kernel::{self, KernelImage};
use vambrace_bsp::Architecture;
use vambrace_core::platform::tree::Tree;

/// What is read of a file to say what it is.
pub(super) const MOST: u64 = 64 << 20;
/// What a packed file is unpacked to at most.
const MOST_UNPACKED: u64 = 128 << 20;
/// What is unpacked to see what it is.
const GLANCE: u64 = 64 << 10;
/// How often something may be packed in something.
const MOST_LAYERS: u32 = 3;

/// What a thing is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A hypervisor: this project's, or Xen.
    Hypervisor,
    /// A kernel.
    Kernel,
    /// A boot manager or another EFI application.
    EfiApplication,
    /// A device tree.
    DeviceTree,
    /// A ramdisk.
    Ramdisk,
    /// U-Boot's script.
    Script,
    /// What a boot ROM loads, and U-Boot.
    Firmware,
    /// U-Boot's environment.
    Environment,
    /// Several things in one, such as a FIT with a kernel.
    Container,
    /// What could not be read here, though nothing is wrong with it.
    Unread,
    /// Nothing that is known.
    Other,
}

/// What a CPU has to be to run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cpu {
    /// AArch64.
    Arm64,
    /// 32-bit ARM.
    Arm,
    /// None of ARM.
    Foreign,
}

impl Cpu {
    /// The name a person reads.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arm64 => "64-bit ARM",
            Self::Arm => "32-bit ARM",
            Self::Foreign => "no ARM",
        }
    }
}

impl From<Architecture> for Cpu {
    fn from(architecture: Architecture) -> Self {
        match architecture {
            Architecture::Aarch64 => Self::Arm64,
            Architecture::Armv7 => Self::Arm,
        }
    }
}

/// What something is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Thing {
    /// What it is for.
    pub kind: Kind,
    /// What it is, in words.
    pub what: String,
    /// What runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// The bytes that it says it has; 0 where it does not say.
    #[serde(rename = "stated_size", skip_serializing_if = "is_zero")]
    pub size: u64,
    /// The memory that it takes where it is loaded and started, in bytes; 0 where that is its size, or not known.
    #[serde(skip_serializing_if = "is_zero")]
    pub memory: u64,
    /// A script's commands.
    #[serde(skip)]
    pub(super) text: Option<String>,
    /// What is wrong with it, without a place.
    #[serde(skip)]
    pub(super) wrong: Vec<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(size: &u64) -> bool {
    *size == 0
}

impl Thing {
    pub(super) fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), cpu: None, size: 0, memory: 0, text: None, wrong: Vec::new() }
    }

    pub(super) fn cpu(self, cpu: impl Into<Option<Cpu>>) -> Self {
        Self { cpu: cpu.into(), ..self }
    }

    pub(super) fn size(self, size: u64) -> Self {
        Self { size, ..self }
    }

    pub(super) fn wrong(mut self, wrong: impl Into<String>) -> Self {
        self.wrong.push(wrong.into());
        self
    }

    /// The first thing that is wrong with it.
    pub(crate) fn what_is_wrong(&self) -> Option<&str> {
        self.wrong.first().map(String::as_str)
    }

    /// What is wrong with it as faults at `at`.
    pub(super) fn faults(&self, at: &str) -> Vec<Fault> {
        self.wrong
            .iter()
            .map(|wrong| Fault::error(at, wrong.clone()).help("the file is damaged: get it or make it again"))
            .collect()
    }
}

/// Says what `bytes` are. They are the beginning of something of `size` bytes; of what is longer than [`MOST`] that is
/// not everything, and no checksum is tried.
pub(super) fn recognise(bytes: &[u8], size: u64) -> Thing {
    layer(bytes, size, 0)
}

fn layer(bytes: &[u8], size: u64, depth: u32) -> Thing {
    if let Some(thing) = legacy::recognise(bytes, size, |inner, size| nested(inner, size, depth)) {
        return thing;
    }
    if has(bytes, 0, &[0xd0, 0x0d, 0xfe, 0xed]) {
        return device_tree(bytes, size);
    }
    if let Some(packing) = Packing::of(bytes) {
        return packed(bytes, packing, depth);
    }
    if let Some(thing) = executable(bytes, size) {
        return thing;
    }
    if let Some(thing) = fip::recognise(bytes, size) {
        return thing;
    }
    if let Some(thing) = rom::recognise(bytes, size) {
        return thing;
    }
    if has(bytes, 0, b"070701") || has(bytes, 0, b"070702") {
        return Thing::new(Kind::Ramdisk, "ramdisk (cpio)");
    }
    Thing::new(Kind::Other, "data")
}

/// What is in something, unless it is too deep.
fn nested(bytes: &[u8], size: u64, depth: u32) -> Thing {
    if depth >= MOST_LAYERS {
        return Thing::new(Kind::Other, "packed more than three times");
    }
    layer(bytes, size, depth + 1)
}

/// A packing of whole files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Xz,
    Zstd,
}

impl Packing {
    /// That of a file that begins with `bytes`.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        if has(bytes, 0, &[0x1f, 0x8b, 8]) {
            Some(Self::Gzip)
        } else if has(bytes, 0, &[0xfd, b'7', b'z', b'X', b'Z', 0]) {
            Some(Self::Xz)
        } else if has(bytes, 0, &[0x28, 0xb5, 0x2f, 0xfd]) {
            Some(Self::Zstd)
        } else {
            None
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }

    /// Reads what is packed in `packed`. A window of at most 128 MiB is kept.
    pub(super) fn reader<'a>(self, packed: impl Read + 'a) -> std::io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(packed)),
            Self::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(packed, true, 128 << 10)),
            Self::Zstd => Box::new(
                ruzstd::decoding::StreamingDecoder::new_with_max_window_size(packed, 128 << 20)
                    .map_err(std::io::Error::other)?,
            ),
        })
    }
}

/// The first `most` bytes of what is packed in `bytes`, and whether the stream was sound as far as that.
fn unpacked(bytes: &[u8], packing: Packing, most: u64) -> (Vec<u8>, bool) {
    let mut unpacked = Vec::new();
    let read = packing.reader(bytes).and_then(|reader| reader.take(most).read_to_end(&mut unpacked));
    (unpacked, read.is_ok())
}

fn packed(bytes: &[u8], packing: Packing, depth: u32) -> Thing {
    let name = packing.name();
    let (glance, sound) = unpacked(bytes, packing, GLANCE);
    if glance.is_empty() {
        let thing = Thing::new(Kind::Other, format!("packed with {name}"));
        return if sound { thing } else { thing.wrong(format!("its {name} stream is damaged or cut short")) };
    }
    // Kernels are checked whole; of a ramdisk or a root file system the beginning tells what it is.
    let whole = executable(&glance, GLANCE).is_some() || has(&glance, 0, &[0x27, 0x05, 0x19, 0x56]);
    let (inner, sound) = if whole { unpacked(bytes, packing, MOST_UNPACKED) } else { (glance, sound) };
    let mut thing = nested(&inner, inner.len() as u64, depth);
    thing.what = format!("{}, packed with {name}", thing.what);
    thing.size = 0;
    if !sound {
        thing = thing.wrong(format!("its {name} stream is damaged or cut short"));
    } else if !whole {
        // A beginning has no right checksums.
        thing.wrong.clear();
    }
    thing
}

/// Kernels, hypervisors and EFI applications.
fn executable(bytes: &[u8], size: u64) -> Option<Thing> {
    let image = has(bytes, 56, b"ARM\x64") || u32_at(bytes, 0x24) == Some(0x016f_2818);
    let zboot = has(bytes, 0, b"MZ") && has(bytes, 4, b"zimg");
    if image || zboot {
        return Some(boot_executable(bytes, size, zboot));
    }
    if has(bytes, 0, b"MZ") {
        return Some(application(bytes));
    }
    if has(bytes, 0, b"\x7fELF") {
        let cpu = match u16_at(bytes, 18) {
            Some(183) => Cpu::Arm64,
            Some(40) => Cpu::Arm,
            _ => Cpu::Foreign,
        };
        let what = match hypervisor(bytes) {
            Some(name) => return Some(Thing::new(Kind::Hypervisor, format!("{name}, an ELF file")).cpu(cpu)),
            None if find(bytes, b"U-Boot ").is_some() => (Kind::Firmware, "U-Boot, an ELF file"),
            None => (Kind::Other, "ELF file"),
        };
        return Some(Thing::new(what.0, format!("{} for {}", what.1, cpu.name())).cpu(cpu));
    }
    if has(bytes, 0x202, b"HdrS") {
        return Some(Thing::new(Kind::Kernel, "kernel for x86 (bzImage)").cpu(Cpu::Foreign));
    }
    if has(bytes, 56, b"RSC\x05") {
        return Some(Thing::new(Kind::Kernel, "kernel for RISC-V (Image)").cpu(Cpu::Foreign));
    }
    None
}

fn boot_executable(bytes: &[u8], size: u64, zboot: bool) -> Thing {
    let plain = if zboot { kernel::unpack(bytes).ok() } else { None };
    let bytes = plain.as_deref().unwrap_or(bytes);
    let what = hypervisor(bytes);
    let kind = if what.is_some() { Kind::Hypervisor } else { Kind::Kernel };
    let name = what.unwrap_or_else(|| linux(bytes));
    match KernelImage::parse(bytes) {
        Ok(image) => {
            let header = match image.format {
                kernel::Format::Image => {
                    let place = if image.loads_anywhere() { "" } else { ", bound to the start of RAM" };
                    format!(
                        "Image, text offset {:#x}, {} bytes in memory{place}",
                        image.text_offset, image.image_size
                    )
                }
                kernel::Format::Zimage => format!("zImage, {} bytes in memory", image.image_size),
            };
            let efi = if image.efi { ", an EFI application too" } else { "" };
            let zboot = if zboot { ", inside of EFI zboot" } else { "" };
            let cpu = match image.format {
                kernel::Format::Image => Cpu::Arm64,
                kernel::Format::Zimage => Cpu::Arm,
            };
            let thing = Thing::new(kind, format!("{name} ({header}{efi}{zboot})")).cpu(cpu);
            Thing { memory: image.image_size, ..thing }
        }
        Err(error) => {
            let cpu = if has(bytes, 56, b"ARM\x64") { Some(Cpu::Arm64) } else { Some(Cpu::Arm) };
            let thing = Thing::new(kind, name).cpu(cpu);
            // Only a beginning is here of one that is longer than what is read.
            if size > bytes.len() as u64 { thing } else { thing.wrong(error.what()) }
        }
    }
}

/// The hypervisor in `bytes`, if it is one that is known: this project's greeting has its version and is in one piece;
/// Xen names itself to guests in a string.
fn hypervisor(bytes: &[u8]) -> Option<String> {
    const OURS: &[u8] = b"Vambrace ";
    let word = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        let rest = rest.get(..24).unwrap_or(rest);
        let end = rest.iter().position(|byte| !(byte.is_ascii_alphanumeric() || b".-+".contains(byte)));
        String::from_utf8_lossy(rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()).into_owned()
    };
    let mut from = 0;
    while let Some(at) = bytes.get(from..).and_then(|rest| find(rest, OURS)) {
        let begin = from + at + OURS.len();
        if bytes.get(begin).is_some_and(u8::is_ascii_digit) {
            return Some(format!("hypervisor Vambrace {}", word(begin)));
        }
        from = begin;
    }
    find(bytes, b"Xen version %d.%d")?;
    let version = find(bytes, b"xen,xen-").map(|at| word(at + 8)).unwrap_or_default();
    Some(format!("hypervisor Xen {version}").trim_end().to_owned())
}

/// A kernel's name: its banner, where that is not packed.
fn linux(bytes: &[u8]) -> String {
    const BANNER: &[u8] = b"Linux version ";
    let Some(at) = find(bytes, BANNER) else { return "kernel".to_owned() };
    let rest = bytes.get(at + BANNER.len()..).unwrap_or_default();
    let end = rest.iter().take(64).position(|byte| !byte.is_ascii_graphic() || *byte == b'%').unwrap_or(0);
    let version = String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned();
    if version.is_empty() { "kernel".to_owned() } else { format!("kernel Linux {version}") }
}

/// A PE/COFF file (Microsoft's PE Format).
fn application(bytes: &[u8]) -> Thing {
    let header = u32_at(bytes, 60).and_then(|at| usize::try_from(at).ok());
    let machine =
        header.filter(|at| has(bytes, *at, b"PE\0\0")).and_then(|at| u16_at(bytes, at.checked_add(4)?));
    let Some(machine) = machine else { return Thing::new(Kind::Other, "program for DOS or Windows") };
    let cpu = match machine {
        0xaa64 => Cpu::Arm64,
        0x01c0 | 0x01c2 | 0x01c4 => Cpu::Arm,
        _ => Cpu::Foreign,
    };
    if let Some(name) = hypervisor(bytes) {
        return Thing::new(Kind::Hypervisor, format!("{name} (an EFI application)")).cpu(cpu);
    }
    let name = [
        (&b"GNU GRUB"[..], "GRUB"),
        (b"grub_efi", "GRUB"),
        (b"grub_", "GRUB"),
        (b"LoaderInfo: systemd-boot", "systemd-boot"),
        (b"systemd-stub", "unified kernel image"),
        (b"UEFI SHIM", "shim"),
        (b"iPXE", "iPXE"),
    ];
    let name =
        name.iter().find(|(mark, _)| find(bytes, mark).is_some()).map_or("EFI application", |(_, name)| name);
    Thing::new(Kind::EfiApplication, format!("{name} for {}", cpu.name())).cpu(cpu)
}

/// A device tree, or what is written as one.
fn device_tree(bytes: &[u8], size: u64) -> Thing {
    if let Some(thing) = fit::recognise(bytes, size) {
        return thing;
    }
    match fdt::summary(bytes) {
        Ok(summary) => {
            let name = summary
                .model
                .or(summary.compatible.first().cloned())
                .unwrap_or_else(|| "no model".to_owned());
            let mut what = format!("device tree: {name}");
            if let Some(kind) = summary.compatible.first() {
                what.push_str(&format!(" ({kind})"));
            }
            if let Some(modules) =
                Tree::parse(bytes).ok().map(|tree| modules(&tree)).filter(|count| *count > 0)
            {
                what.push_str(&format!(", with {modules} modules for the hypervisor in /chosen"));
            }
            Thing::new(Kind::DeviceTree, what).size(summary.size)
        }
        Err(error) => Thing::new(Kind::DeviceTree, "device tree").wrong(error.what()),
    }
}

/// Modules for a hypervisor in `/chosen`, those of its guests too.
fn modules(tree: &Tree<'_>) -> usize {
    let chosen = tree.root().child("chosen");
    chosen.map_or(0, |node| node.descendants().filter(|node| node.is_compatible("multiboot,module")).count())
}
