//! How a disk is laid out, as a file in `images/` says.

use crate::error::{Error, Result, ResultExt};
use crate::workspace::described;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use vambrace_bsp::text::{fault_at, read};
use vambrace_bsp::{Method, Size};

/// A disk: its table, its partitions, and what is in them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Layout {
    /// The name a person types; the same as the file's.
    pub id: String,
    /// What it is, in a line.
    pub description: String,
    /// The boot method it is made for.
    pub method: Method,
    /// The kind of partition table.
    pub table: Table,
    /// The number of entries of a GPT. Fewer than the usual 128 leave room for firmware that the board's ROM expects
    /// in front of block 34: 56 end right before byte 8192.
    pub gpt_entries: Option<u32>,
    /// The size of the medium; without it, what the partitions need. dom0's root file system gets what they leave.
    pub size: Option<Size>,
    /// Where the board's firmware is that its ROM can read from a file as well as from a fixed byte.
    #[serde(default)]
    pub firmware: FirmwarePlace,
    /// Partitions begin and end on multiples of this.
    pub alignment: Size,
    /// The partitions, in the order they have on the disk.
    #[serde(rename = "partition")]
    pub partitions: Vec<Partition>,
}

/// A kind of partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Table {
    /// GUID partition table.
    Gpt,
    /// Master boot record: at most four partitions, and nothing else before byte 512.
    Mbr,
}

impl Table {
    /// The name a person reads.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gpt => "GPT",
            Self::Mbr => "MBR",
        }
    }
}

/// Where on the medium a board's firmware is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirmwarePlace {
    /// At the byte that the board names.
    #[default]
    Raw,
    /// In the root of the FAT partition that is marked; what a board's ROM reads from a fixed byte alone is there.
    Files,
}

/// A partition and its file system.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Partition {
    /// The name in the table; at most 36 characters.
    pub name: String,
    /// What the partition is for.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Whether it is marked for legacy BIOS boot, or as active: U-Boot looks there for what it boots.
    #[serde(default)]
    pub bootable: bool,
    /// The file system.
    pub filesystem: Filesystem,
    /// The file system's label: at most 11 capital letters for FAT, 16 of either case for ext4.
    pub label: String,
    /// The size, exactly; contents that need more are an error.
    pub size: Option<Size>,
    /// The least size; without it, what the content needs.
    #[serde(default)]
    pub min_size: Size,
    /// Room left free beyond the content.
    #[serde(default)]
    pub slack: Size,
    /// The files, which FAT has to have. On ext4 lies dom0's root file system and nothing else.
    #[serde(default, rename = "file")]
    pub files: Vec<File>,
}

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// EFI system partition.
    Esp,
    /// Linux file system data.
    Linux,
    /// A physical volume of LVM2.
    Lvm,
}

impl Kind {
    /// The partition type's GUID in a GPT (UEFI specification, table 5-7; systemd's discoverable partitions).
    pub const fn guid(self) -> &'static str {
        match self {
            Self::Esp => "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
            Self::Linux => "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
            Self::Lvm => "E6D6D379-F507-44C2-A23C-238F2A3DF928",
        }
    }

    /// The partition type in a master boot record, which goes by the file system.
    pub const fn mbr_type(self, filesystem: Filesystem) -> u8 {
        match (self, filesystem) {
            (Self::Esp, _) => 0xef,
            (Self::Linux, Filesystem::Fat32) => 0x0c,
            (Self::Linux, Filesystem::Ext4 | Filesystem::Guest { .. }) => 0x83,
            (Self::Lvm, _) | (Self::Linux, Filesystem::Lvm) => 0x8e,
        }
    }
}

/// A file system the builder writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filesystem {
    /// FAT32, for what the firmware reads.
    Fat32,
    /// ext4, for dom0's root file system. Without such a partition the root file system is the ramdisk.
    Ext4,
    /// A guest's disk, whatever that has; an image's description says so, and no layout.
    #[serde(skip_deserializing)]
    Guest {
        /// The guest's number in the description.
        guest: usize,
        /// The disk's number in the guest's.
        disk: usize,
    },
    /// LVM2's volume group with guests' disks; likewise.
    #[serde(skip_deserializing)]
    Lvm,
}

impl Filesystem {
    /// The name a person reads.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fat32 => "FAT32",
            Self::Ext4 => "ext4",
            Self::Guest { .. } => "a guest's",
            Self::Lvm => "LVM2",
        }
    }
}

/// A file of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// The path in the file system, without a leading slash.
    pub path: String,
    /// What is in it.
    pub content: Content,
}

/// What the builder puts into files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// The hypervisor.
    Hypervisor,
    /// The hypervisor in U-Boot's own format, for a U-Boot that starts nothing else.
    HypervisorUimage,
    /// dom0's kernel.
    Kernel,
    /// dom0's ramdisk.
    Ramdisk,
    /// U-Boot's boot script.
    BootScript,
    /// The configuration the hypervisor reads when it is an EFI application.
    EfiConfig,
    /// The board's device tree, where the image carries it.
    DeviceTree,
    /// What a guest is started with that the hypervisor starts; an image's description says so, and no layout.
    Guest(GuestModule),
    /// Firmware that the board's ROM reads from a file, by its number among the boot method's; the board says so.
    Firmware(usize),
    /// What tells slots apart; `--slots` puts it in, and no layout.
    Slot(SlotFile),
}

/// A file of a layout with slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotFile {
    /// The slot's own boot script.
    Script,
    /// What the slot has.
    Listing,
    /// Which slot is good.
    Good,
    /// Which slot is on trial.
    Trial,
}

/// What a guest is started with that the hypervisor starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct GuestModule {
    /// The guest's number in the image's description.
    pub guest: usize,
    /// What it is.
    pub kind: ModuleKind,
}

/// A kind of module for a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleKind {
    /// Its kernel.
    Kernel,
    /// Its RAM disk.
    Ramdisk,
    /// Its partial device tree.
    DeviceTree,
}

impl ModuleKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Kernel, Self::Ramdisk, Self::DeviceTree];

    /// The name as paths have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Ramdisk => "ramdisk",
            Self::DeviceTree => "device-tree",
        }
    }
}

impl Content {
    /// What tells it from everything else of an image.
    pub fn label(self) -> String {
        match self {
            Self::Guest(module) => format!("guest-{}-{}", module.guest, module.kind.name()),
            Self::Firmware(number) => format!("firmware-{number}"),
            other => other.name().to_owned(),
        }
    }

    /// The name as layouts write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guest(_) => "guest",
            Self::Firmware(_) => "firmware",
            Self::Slot(SlotFile::Script) => "slot-script",
            Self::Slot(SlotFile::Listing) => "slot-listing",
            Self::Slot(SlotFile::Good) => "good-slot",
            Self::Slot(SlotFile::Trial) => "slot-on-trial",
            Self::Hypervisor => "hypervisor",
            Self::HypervisorUimage => "hypervisor-uimage",
            Self::Kernel => "kernel",
            Self::Ramdisk => "ramdisk",
            Self::BootScript => "boot-script",
            Self::EfiConfig => "efi-config",
            Self::DeviceTree => "device-tree",
        }
    }

    /// What an image for `method` must have.
    pub const fn needed_by(method: Method) -> &'static [Self] {
        match method {
            Method::Uboot => &[Self::BootScript, Self::Hypervisor, Self::Kernel, Self::Ramdisk],
            Method::Uefi => &[Self::EfiConfig, Self::Hypervisor, Self::Kernel, Self::Ramdisk],
            Method::Direct => &[Self::Hypervisor, Self::Kernel, Self::Ramdisk, Self::DeviceTree],
        }
    }
}

impl Layout {
    /// Reads and checks the layout in `path`.
    ///
    /// # Errors
    ///
    /// Any fault, with file, line and field.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).context_at(path, || "cannot read the layout")?;
        let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        Self::parse(&path.display().to_string(), &text, id)
    }

    /// Reads and checks a layout from `text`, which came from `file` and should be called `id`.
    ///
    /// # Errors
    ///
    /// Any fault, with file, line and field.
    pub fn parse(file: &str, text: &str, id: &str) -> Result<Self> {
        let layout: Self = read(file, text).map_err(described)?;
        match layout.fault(id) {
            None => Ok(layout),
            Some((path, message)) => Err(described(Box::new(fault_at(file, text, &path, message)))),
        }
    }

    /// The place of the one file with `content`, and its partition's number, counted from 0.
    pub fn find(&self, content: Content) -> Option<(usize, &str)> {
        self.partitions.iter().enumerate().find_map(|(index, partition)| {
            let file = partition.files.iter().find(|file| file.content == content)?;
            Some((index, file.path.as_str()))
        })
    }

    /// The number of the partition with dom0's root file system, counted from 0; without one, that is the ramdisk.
    pub fn root(&self) -> Option<usize> {
        self.partitions.iter().position(|partition| partition.filesystem == Filesystem::Ext4)
    }

    fn fault(&self, id: &str) -> Option<(String, String)> {
        if self.id != id {
            return Some(("id".into(), format!("`{}` is not the name of the file, `{id}`", self.id)));
        }
        let alignment = self.alignment.bytes();
        if !alignment.is_power_of_two() || !(4096..=1 << 30).contains(&alignment) {
            return Some((
                "alignment".into(),
                format!("{} is not a power of two from 4K to 1G", self.alignment),
            ));
        }
        if self.partitions.is_empty() || self.partitions.len() > 16 {
            return Some(("partition".into(), "there have to be 1 to 16 partitions".into()));
        }
        if let Some(fault) = self.table_fault() {
            return Some(fault);
        }
        for (index, partition) in self.partitions.iter().enumerate() {
            let field = |name: &str| format!("partition.{index}.{name}");
            if let Some((name, message)) = self.filesystem_fault(index, partition) {
                return Some((field(name), message));
            }
            if partition.name.is_empty() || partition.name.encode_utf16().count() > 36 {
                return Some((field("name"), "the name has to have 1 to 36 characters".into()));
            }
            for (name, size) in [("min-size", partition.min_size), ("slack", partition.slack)] {
                if size.bytes() > 1 << 40 {
                    return Some((field(name), format!("{size} is more than 1T")));
                }
            }
            for (number, file) in partition.files.iter().enumerate() {
                let foreign = match file.content {
                    Content::Guest(_) => Some("guests are in an image's description, not in a layout"),
                    Content::Slot(_) => Some("slots come with `--slots`, and are not in a layout"),
                    Content::Firmware(_) => {
                        Some("a board says what its firmware's files are called: firmware = \"files\"")
                    }
                    _ => None,
                };
                if let Some(text) = foreign {
                    return Some((field(&format!("file.{number}.content")), text.into()));
                }
                if let Some(message) = path_fault(&file.path) {
                    return Some((field(&format!("file.{number}.path")), message));
                }
                // FAT's names are the same in either case.
                let twice = partition
                    .files
                    .iter()
                    .take(number)
                    .any(|other| other.path.eq_ignore_ascii_case(&file.path));
                if twice {
                    return Some((
                        field(&format!("file.{number}.path")),
                        format!("`{}` is there twice", file.path),
                    ));
                }
            }
        }
        if self.firmware == FirmwarePlace::Files && !self.partitions.iter().any(Partition::takes_firmware) {
            return Some(("firmware".into(), "files want a FAT32 partition that is `bootable`".into()));
        }
        if self.partitions.iter().filter(|partition| partition.filesystem == Filesystem::Ext4).count() > 1 {
            return Some((
                "partition".into(),
                "dom0 has one root file system, so one ext4 partition at most".into(),
            ));
        }
        Content::needed_by(self.method).iter().find_map(|&content| {
            let count =
                self.partitions.iter().flat_map(|p| &p.files).filter(|file| file.content == content).count();
            (count != 1).then(|| {
                let message =
                    format!("`{}` has to be in it once, for the method {}", content.name(), self.method);
                ("partition".to_owned(), message)
            })
        })
    }
}

impl Layout {
    /// What the partition table cannot hold.
    fn table_fault(&self) -> Option<(String, String)> {
        match (self.table, self.gpt_entries) {
            (Table::Gpt, None) => None,
            (Table::Gpt, Some(entries)) => {
                // A block holds four.
                let fine = (16..=128).contains(&entries) && entries % 4 == 0;
                (!fine).then(|| {
                    ("gpt-entries".into(), format!("{entries} is not a multiple of 4 from 16 to 128"))
                })
            }
            (Table::Mbr, Some(_)) => {
                Some(("gpt-entries".into(), "a master boot record has no such entries".into()))
            }
            (Table::Mbr, None) if self.partitions.len() > 4 => {
                Some(("partition".into(), "a master boot record has at most 4 partitions".into()))
            }
            (Table::Mbr, None) => {
                let bootable = self.partitions.iter().filter(|partition| partition.bootable).count();
                (bootable > 1).then(|| {
                    (
                        "partition".into(),
                        "a master boot record marks at most one partition as bootable".into(),
                    )
                })
            }
        }
    }

    /// What the partition's file system cannot be called or hold: a field of the partition, and why.
    fn filesystem_fault(&self, index: usize, partition: &Partition) -> Option<(&'static str, String)> {
        let (most, letters) = match partition.filesystem {
            Filesystem::Fat32 => (11, "A-Z"),
            Filesystem::Ext4 | Filesystem::Guest { .. } | Filesystem::Lvm => (16, "a-z, A-Z"),
        };
        let letter = |byte: u8| {
            byte.is_ascii_uppercase()
                || (partition.filesystem == Filesystem::Ext4 && byte.is_ascii_lowercase())
                || byte.is_ascii_digit()
                || matches!(byte, b'-' | b'_')
        };
        if !(1..=most).contains(&partition.label.len()) || !partition.label.bytes().all(letter) {
            return Some((
                "label",
                format!("`{}` is not 1 to {most} of {letters}, 0-9, - and _", partition.label),
            ));
        }
        match (partition.filesystem, partition.files.is_empty()) {
            (Filesystem::Fat32, true) => Some(("filesystem", "a FAT32 partition has to have files".into())),
            (Filesystem::Ext4, false) => {
                Some(("filesystem", "ext4 holds dom0's root file system, and no files beside it".into()))
            }
            // It takes what is left of a medium whose size is rounded.
            (Filesystem::Ext4, true) if index + 1 != self.partitions.len() => {
                Some(("filesystem", "the ext4 partition has to be the last, so that it can grow".into()))
            }
            _ => None,
        }
    }
}

/// What keeps `path` from being the name of a file on FAT and in a boot script.
fn path_fault(path: &str) -> Option<String> {
    let plain = |part: &str| {
        !part.is_empty()
            && part.len() <= 64
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    (!path.split('/').all(plain))
        .then(|| format!("`{path}` is not a path of letters, digits, `.`, `-` and `_`"))
}

/// An error for a layout that is not for this method, or not for this board.
pub(crate) fn not_for(layout: &Layout, method: Method, board: &str, usable: &[String]) -> Error {
    Error::new(format!(
        "the layout `{}` is for {}, and {board} is to boot with {method}",
        layout.id, layout.method
    ))
    .help(format!("for {method} this board takes: {}", usable.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UBOOT: &str = include_str!("../../images/gpt-uboot.toml");
    const UEFI: &str = include_str!("../../images/gpt-uefi.toml");

    #[test]
    fn the_layouts_of_the_project_are_sound() {
        let layout = Layout::parse("l", UBOOT, "gpt-uboot").unwrap();
        assert_eq!(layout.find(Content::BootScript), Some((0, "boot.scr")));
        let layout = Layout::parse("l", UEFI, "gpt-uefi").unwrap();
        assert_eq!(layout.find(Content::Hypervisor), Some((0, "EFI/BOOT/BOOTAA64.EFI")));
        assert_eq!(layout.root(), None);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images");
        let mut with_root = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let layout = Layout::read(&entry.unwrap().path()).unwrap();
            with_root += usize::from(layout.root().is_some());
        }
        assert!(with_root >= 4);
    }

    #[test]
    fn faults_have_a_line_and_a_field() {
        for (from, to, expected) in [
            ("id = \"gpt-uboot\"", "id = \"other\"", "l:3:6: in `id`"),
            ("alignment = \"1M\"", "alignment = \"3M\"", "in `alignment`: 3M is not a power of two"),
            ("type = \"linux\"", "type = \"linus\"", "in `partition.0.type`: unknown value `linus`"),
            ("label = \"VAMBRACE\"", "label = \"vambrace boot\"", "in `partition.0.label`"),
            (
                "path = \"vambrace/kernel\"",
                "path = \"../kernel\"",
                "in `partition.0.file.2.path`: `../kernel`",
            ),
            ("path = \"vambrace/kernel\"", "path = \"BOOT.SCR\"", "`BOOT.SCR` is there twice"),
            ("content = \"kernel\"", "content = \"ramdisk\"", "`kernel` has to be in it once"),
            (
                "table = \"gpt\"",
                "table = \"gpt\"\ngpt-entries = 57",
                "in `gpt-entries`: 57 is not a multiple of 4",
            ),
            (
                "table = \"gpt\"",
                "table = \"mbr\"\ngpt-entries = 56",
                "in `gpt-entries`: a master boot record",
            ),
            (
                "filesystem = \"fat32\"",
                "filesystem = \"ext4\"",
                "in `partition.0.filesystem`: ext4 holds dom0's root",
            ),
            ("slack = \"16M\"", "slak = \"16M\"", "unknown key `slak`"),
        ] {
            assert!(UBOOT.contains(from), "{from}");
            let error = Layout::parse("l", &UBOOT.replacen(from, to, 1), "gpt-uboot").unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
