//! File systems: which one it is, by its superblock, and the files of those that boot loaders read.

use ext4_view::{Ext4, Ext4Read};
use serde::Serialize;

use super::fat::{self, Fat};
use super::fault::Fault;
use super::thing::{Kind, Thing};
use super::window::Window;
use crate::bytes::{be32_at, has, u16_at, u32_at, u64_at};
use crate::error::{Error, Result, ResultExt};

/// Folders of an installed system in which nothing is that a boot loader reads.
const NOT_FOR_BOOTING: [&str; 19] = [
    "bin",
    "dev",
    "etc",
    "home",
    "lib",
    "lib32",
    "lib64",
    "lost+found",
    "media",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "sbin",
    "srv",
    "sys",
    "usr",
    "var",
];
/// Entries that are listed, and how deep folders are followed.
const MOST_FILES: usize = 4000;
const MOST_DEPTH: usize = 6;

/// What a partition or a whole medium is formatted as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Format {
    /// Its name: FAT32, ext4, squashfs.
    pub name: String,
    /// The label it has, if that was read.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// Its size by its own account, in bytes; 0 where it does not say.
    pub size: u64,
}

/// A file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// The path, without a slash before it.
    pub(super) path: String,
    pub(super) folder: bool,
    pub(super) size: u64,
    item: Option<fat::Item>,
}

/// A file system whose files can be read.
#[derive(Debug)]
pub(super) enum Volume {
    Fat(Fat),
    /// With whether it is ext2 or ext3, of whose files those with holes cannot be read.
    Ext(Box<Ext4>, bool),
}

/// How ext4-view reads.
struct Region(Window);

impl Ext4Read for Region {
    fn read(
        &mut self,
        at: u64,
        into: &mut [u8],
    ) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync + 'static>> {
        Ok(self.0.fill(at, into)?)
    }
}

/// What `window` is formatted as, and the file system itself where its files can be read. Faults are added at `at`.
pub(super) fn open(
    window: &Window,
    at: &str,
    faults: &mut Vec<Fault>,
) -> Result<(Option<Format>, Option<Volume>)> {
    if let Some(fat) = Fat::open(window)? {
        let label = fat.label().unwrap_or_default();
        let format = Format { name: fat.name(), label, size: fat.size };
        too_long(&format, window, at, faults);
        faults.extend(fat.oddities().into_iter().map(|what| Fault::note(at, what)));
        return Ok((Some(format), Some(Volume::Fat(fat))));
    }
    let Some(format) = name(window)? else { return Ok((None, None)) };
    too_long(&format, window, at, faults);
    let fits = format.size > 0 && format.size <= window.size();
    if !format.name.starts_with("ext") || !fits {
        return Ok((Some(format), None));
    }
    match Ext4::load(Box::new(Region(window.clone()))) {
        Ok(volume) => {
            let old = format.name != "ext4";
            Ok((Some(format), Some(Volume::Ext(Box::new(volume), old))))
        }
        Err(error) => {
            faults.push(Fault::error(at, format!("its {} file system cannot be read: {error}", format.name)));
            Ok((Some(format), None))
        }
    }
}

fn too_long(format: &Format, window: &Window, at: &str, faults: &mut Vec<Fault>) {
    if format.size > window.size() {
        let (claimed, there) = (format.size, window.size());
        let what =
            format!("its {} file system says that it has {claimed} bytes; there are {there}", format.name);
        faults.push(Fault::error(at, what).help("the image or partition is cut short: get it again, whole"));
    }
}

/// A file system or the like by its superblock.
fn name(window: &Window) -> Result<Option<Format>> {
    let head = window.up_to(0, 72 << 10)?;
    let text = |at: usize, most: usize| {
        let bytes = head.get(at..).unwrap_or_default();
        let bytes = bytes.get(..most).unwrap_or(bytes);
        let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(bytes).trim_end().to_owned()
    };
    let format =
        |name: &str, label: String, size: u64| Ok(Some(Format { name: name.to_owned(), label, size }));
    // Linux, fs/ext4/ext4.h
    if u16_at(&head, 1024 + 0x38) == Some(0xef53) {
        let word = |at: usize| u64::from(u32_at(&head, 1024 + at).unwrap_or(0));
        let (compatible, incompatible) = (word(0x5c), word(0x60));
        let high = if incompatible & 0x80 != 0 { word(0x150) } else { 0 };
        let block =
            1024_u64.checked_shl(u32::try_from(word(0x18)).unwrap_or(64)).filter(|size| *size <= 1 << 16);
        let size = block.and_then(|block| (high << 32 | word(4)).checked_mul(block)).unwrap_or(u64::MAX);
        // Extents, 64 bits, flexible groups; then a journal.
        let name = if incompatible & 0x2c0 != 0 || word(0x64) & 0x478 != 0 {
            "ext4"
        } else if compatible & 4 != 0 {
            "ext3"
        } else {
            "ext2"
        };
        return format(name, text(1024 + 0x78, 16), size);
    }
    if has(&head, 0, b"hsqs") {
        return format("squashfs", String::new(), u64_at(&head, 40).unwrap_or(0));
    }
    if has(&head, 0x8001, b"CD001") {
        let size = u64::from(u32_at(&head, 0x8050).unwrap_or(0)) * 2048;
        return format("ISO 9660", text(0x8028, 32), size);
    }
    if has(&head, 0x10040, b"_BHRfS_M") {
        return format("btrfs", text(0x1012b, 256), 0);
    }
    if has(&head, 0xff6, b"SWAPSPACE2") {
        return format("swap", text(0x41c, 16), 0);
    }
    for sector in 0..4 {
        if has(&head, sector * 512, b"LABELONE") && has(&head, sector * 512 + 24, b"LVM2 001") {
            return format("LVM2", String::new(), 0);
        }
    }
    if has(&head, 0, b"XFSB") {
        let size = u64::from(be32_at(&head, 4).unwrap_or(0)).checked_mul(u64::from_be_bytes(
            head.get(8..).and_then(|rest| rest.first_chunk().copied()).unwrap_or_default(),
        ));
        return format("XFS", text(108, 12), size.unwrap_or(u64::MAX));
    }
    if u32_at(&head, 1024) == Some(0xf2f5_2010) {
        return format("F2FS", String::new(), 0);
    }
    if has(&head, 0, b"LUKS\xba\xbe") {
        return format("LUKS", String::new(), 0);
    }
    Ok(None)
}

impl Volume {
    /// What is said of a file that gives `error` when it is read.
    pub(super) fn unread(&self, error: &Error) -> Thing {
        match self {
            Self::Ext(_, true) => {
                Thing::new(Kind::Unread, "file with holes on ext2 or ext3, which cannot be read here")
            }
            _ => {
                let cause =
                    std::error::Error::source(error).map_or(String::new(), |cause| format!(": {cause}"));
                Thing::new(Kind::Other, "file").wrong(format!("it cannot be read: {error}{cause}"))
            }
        }
    }

    /// Whether names are the same in either case.
    fn any_case(&self) -> bool {
        matches!(self, Self::Fat(_))
    }

    /// The files that a boot loader may read, and folders, sorted; whether some were left out.
    pub(super) fn list(&self) -> Result<(Vec<Listed>, bool)> {
        let mut found = Vec::new();
        let mut folders = vec![(String::new(), None::<fat::Item>, 0)];
        while let Some((folder, item, depth)) = folders.pop() {
            for (name, is_folder, size, item) in self.folder(&folder, item.as_ref())? {
                if found.len() >= MOST_FILES {
                    found.sort_by(|a: &Listed, b| a.path.cmp(&b.path));
                    return Ok((found, true));
                }
                let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                let system = matches!(self, Self::Ext(..)) && NOT_FOR_BOOTING.contains(&path.as_str());
                if is_folder && depth < MOST_DEPTH && !system {
                    folders.push((path.clone(), item.clone(), depth + 1));
                }
                found.push(Listed { path, folder: is_folder, size, item });
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok((found, false))
    }

    #[allow(clippy::type_complexity, reason = "used in the two places here")]
    fn folder(
        &self,
        path: &str,
        item: Option<&fat::Item>,
    ) -> Result<Vec<(String, bool, u64, Option<fat::Item>)>> {
        match self {
            Self::Fat(fat) => {
                let items = fat.list(item)?.into_iter();
                Ok(items.map(|item| (item.name.clone(), item.folder, item.size, Some(item))).collect())
            }
            Self::Ext(volume, _) => {
                let failed = || format!("cannot list /{path}");
                let mut items = Vec::new();
                for entry in volume.read_dir(format!("/{path}").as_str()).context(failed)? {
                    let entry = entry.context(failed)?;
                    let Ok(name) = entry.file_name().as_str().map(str::to_owned) else { continue };
                    if matches!(name.as_str(), "." | "..") {
                        continue;
                    }
                    let Ok(data) = entry.metadata() else { continue };
                    // What a link leads to is found when it is asked for by its name.
                    items.push((name, data.is_dir(), data.len(), None));
                    if items.len() > MOST_FILES {
                        break;
                    }
                }
                Ok(items)
            }
        }
    }

    /// A file that was listed.
    pub(super) fn open(&self, listed: &Listed) -> Option<Found<'_>> {
        match (self, &listed.item) {
            (Self::Fat(fat), Some(item)) => {
                Some(Found { size: item.size, place: Place::Fat(fat, item.clone()) })
            }
            _ => self.find(&listed.path),
        }
    }

    /// The file at `path`, whatever slashes it begins with; its size too. `None` where there is none.
    pub(super) fn find(&self, path: &str) -> Option<Found<'_>> {
        let path = path.trim_matches('/');
        match self {
            Self::Fat(fat) => {
                let mut item: Option<fat::Item> = None;
                for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
                    let same = |there: &fat::Item| match self.any_case() {
                        true => there.name.eq_ignore_ascii_case(name),
                        false => there.name == name,
                    };
                    item = Some(fat.list(item.as_ref()).ok()?.into_iter().find(same)?);
                }
                item.filter(|item| !item.folder)
                    .map(|item| Found { size: item.size, place: Place::Fat(fat, item) })
            }
            Self::Ext(volume, _) => {
                let path = format!("/{path}");
                let data = volume.metadata(path.as_str()).ok()?;
                let file = data.file_type().is_regular_file();
                file.then_some(Found { size: data.len(), place: Place::Ext(volume, path) })
            }
        }
    }
}

/// A file that is there.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) size: u64,
    place: Place<'a>,
}

#[derive(Debug)]
enum Place<'a> {
    Fat(&'a Fat, fat::Item),
    Ext(&'a Ext4, String),
}

impl Found<'_> {
    /// Its first bytes, at most `most`.
    pub(super) fn read(&self, most: u64) -> Result<Vec<u8>> {
        match &self.place {
            Place::Fat(fat, item) => fat.read(item, most),
            Place::Ext(volume, path) => {
                let failed = || format!("cannot read {path}");
                let mut file = volume.open(path.as_str()).context(failed)?;
                let wanted = usize::try_from(self.size.min(most)).unwrap_or(usize::MAX);
                let mut bytes = Vec::new();
                let mut buffer = vec![0; 1 << 16];
                while bytes.len() < wanted {
                    let count = file.read_bytes(&mut buffer).context(failed)?;
                    if count == 0 {
                        return Err(Error::new(format!(
                            "{path} ends after {} of {} bytes",
                            bytes.len(),
                            self.size
                        )));
                    }
                    bytes.extend(buffer.iter().take(count));
                }
                bytes.truncate(wanted);
                Ok(bytes)
            }
        }
    }
}
