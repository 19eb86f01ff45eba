//! ext4 file systems.

use super::Difference;
use super::files::{Facts, Files, Paths, difference as files_difference};
use crate::cache::sha256;
use crate::error::{Error, Result, ResultExt};
use crate::groups::Groups;
use crate::inodes::{Inodes, ROOT};
use crate::tree::{Source, shown};
use crate::verify::ext4::SUPERBLOCK;
use ext4_view::{Ext4, Ext4Read, FileType, Metadata, Path};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

/// The first difference of the file systems at two places, given by first byte and size. One that cannot be read differs
/// from one that can; of two that cannot, nothing is said.
pub(super) fn difference(a: &File, at: (u64, u64), b: &File, other: (u64, u64)) -> Option<Difference> {
    let read = |file, (start, size)| Volume::open(file, start, size);
    let compared = match (read(a, at), read(b, other)) {
        (Ok(a), Ok(b)) => files_difference(&a, &b),
        (Err(_), Err(_)) => return None,
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error.context("one of them cannot be read")),
    };
    compared.unwrap_or_else(|error| Some(Difference::new("the ext4 file system", error.in_a_line())))
}

/// The part of the image that the file system has.
struct Region {
    file: File,
    start: u64,
    size: u64,
}

impl Ext4Read for Region {
    fn read(
        &mut self,
        at: u64,
        into: &mut [u8],
    ) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync + 'static>> {
        let inside = at.checked_add(into.len() as u64).is_some_and(|end| end <= self.size);
        if !inside {
            return Err("it reaches past the end of its partition".into());
        }
        Ok(self.file.read_exact_at(into, self.start + at)?)
    }
}

/// The file system of `size` bytes at byte `start`.
fn load(file: &File, start: u64, size: u64) -> Result<Ext4> {
    let failed = || "cannot read the ext4 file system";
    let region = Region { file: file.try_clone().context(failed)?, start, size };
    Ext4::load(Box::new(region)).context(failed)
}

struct Volume {
    volume: Ext4,
    paths: Paths,
}

impl Volume {
    fn open(file: &File, start: u64, size: u64) -> Result<Self> {
        let volume = load(file, start, size)?;
        let failed = || "cannot read the ext4 file system";
        let source = Source::opened(file.try_clone().context(failed)?, std::path::Path::new("the image"));
        let inodes = Inodes::open(source, start, size)?;
        let mut paths = Paths::default();
        paths.add(String::new(), facts(&volume, "/")?)?;
        let mut folders = vec![(String::new(), ROOT)];
        while let Some((folder, number)) = folders.pop() {
            let numbers: BTreeMap<_, _> = inodes.list(&inodes.inode(number)?)?.into_iter().collect();
            let listed = || format!("cannot list /{}", folder.escape_debug());
            let path = format!("/{folder}");
            for entry in volume.read_dir(path.as_str()).context(listed)? {
                let entry = entry.context(listed)?;
                let name = entry.file_name();
                let name = name.as_str().map_err(|_| Error::new(format!("a name in {path} is not UTF-8")))?;
                if matches!(name, "." | "..") {
                    continue;
                }
                let inside = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
                let mut facts = facts(&volume, &format!("/{inside}"))?;
                let is_folder = facts.first().is_some_and(|(_, kind)| kind == FOLDER);
                let number = *numbers
                    .get(name.as_bytes())
                    .ok_or_else(|| Error::new(format!("{} has no inode", inside.escape_debug())))?;
                facts.extend(more_facts(&inodes, number, &entry.file_type().context(listed)?)?);
                paths.add(inside.clone(), facts)?;
                if is_folder {
                    folders.push((inside, number));
                }
            }
        }
        Ok(Self { volume, paths })
    }
}

const FOLDER: &str = "a folder";

fn facts(volume: &Ext4, path: &str) -> Result<Facts> {
    let failed = || format!("cannot read {}", path.escape_debug());
    let there = volume.symlink_metadata(Path::new(path)).context(failed)?;
    let mut facts = vec![
        ("its kind", kind(&there).to_owned()),
        ("its mode", format!("{:04o}", there.mode() & 0o7777)),
        ("its owner", format!("{}:{}", there.uid(), there.gid())),
        ("its time", time(&there)),
    ];
    match there.file_type() {
        FileType::Regular => facts.push(("its size", super::bytes(there.len()))),
        FileType::Symlink => {
            let target = volume.read_link(Path::new(path)).context(failed)?;
            facts.push(("its target", format!("`{}`", target.as_ref().escape_ascii())));
        }
        _ => {}
    }
    Ok(facts)
}

/// What only the inode tells.
fn more_facts(inodes: &Inodes, number: u32, kind: &FileType) -> Result<Facts> {
    let inode = inodes.inode(number)?;
    let mut facts = Vec::new();
    if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
        let device = inode.device()?;
        facts.push(("its device number", format!("{}:{}", device.major, device.minor)));
    }
    if !matches!(kind, FileType::Directory) {
        facts.push(("its number of names", inode.links()?.to_string()));
    }
    let xattrs = inodes.xattrs(&inode)?;
    let told = xattrs.iter().map(|(name, value)| format!("{} (SHA-256 {})", shown(name), sha256(value)));
    let told = if xattrs.is_empty() { "empty".to_owned() } else { told.collect::<Vec<_>>().join(", ") };
    facts.push(("its list of extended attributes", told));
    Ok(facts)
}

fn kind(there: &Metadata) -> &'static str {
    match there.file_type() {
        FileType::Directory => FOLDER,
        FileType::Regular => "a file",
        FileType::Symlink => "a symbolic link",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
    }
}

/// When it was changed and made, in seconds since 1970.
fn time(there: &Metadata) -> String {
    let modified = there.modified();
    let made = there.created().map_or(String::new(), |made| format!(", made {}", made.seconds()));
    format!("{}.{:09} s{made}", modified.seconds(), modified.nanoseconds())
}

impl Files for Volume {
    fn itself(&self) -> Facts {
        let uuid = uuid::Uuid::from_bytes(*self.volume.uuid().as_bytes());
        let label = self.volume.label().as_bytes().escape_ascii().to_string();
        vec![("its label", format!("`{label}`")), ("its UUID", uuid.to_string())]
    }

    fn paths(&self) -> &Paths {
        &self.paths
    }

    fn open<'a>(&'a self, path: &str) -> Result<Option<Box<dyn Read + 'a>>> {
        let path = format!("/{path}");
        let failed = || format!("cannot read {}", path.escape_debug());
        let there = self.volume.symlink_metadata(Path::new(&path)).context(failed)?;
        if there.file_type() != FileType::Regular {
            return Ok(None);
        }
        Ok(Some(Box::new(self.volume.open(Path::new(&path)).context(failed)?)))
    }
}

/// What lies at byte `offset` of the file system that begins at byte `start`: a structure of its own (Linux,
/// Documentation/filesystems/ext4), for what no file's facts or content tell.
pub(super) fn structure_at(file: &File, (start, size): (u64, u64), offset: u64) -> String {
    find_structure(file, start, size, offset).unwrap_or_else(|_| "the ext4 file system".to_owned())
}

fn find_structure(file: &File, start: u64, size: u64, offset: u64) -> Result<String> {
    let (at, length) = SUPERBLOCK;
    if (at..at + length as u64).contains(&offset) {
        return Ok(format!("the superblock, offset {:#x}", offset - at));
    }
    let source = Source::opened(
        file.try_clone().context(|| "cannot read the ext4 file system")?,
        std::path::Path::new("the image"),
    );
    let groups = Groups::open(source, start, size)?;
    let descriptors = groups.descriptors()?;
    if (descriptors..descriptors + groups.count * groups.descriptor).contains(&offset) {
        return Ok(format!("the descriptor of group {}", (offset - descriptors) / groups.descriptor));
    }
    for index in 0..groups.count {
        let group = groups.group(index)?;
        let table = groups.place(group.inodes)?;
        if (table..table.saturating_add(groups.table_size())).contains(&offset) {
            let at = offset - table;
            let inode = index * u64::from(groups.inodes_per_group) + at / groups.inode_size + 1;
            let inside = at % groups.inode_size;
            let what = match inside {
                0x28..0x64 => "its device number, extents or inline link",
                128.. => "its extra times or extended attributes",
                _ => "its fields",
            };
            return Ok(format!("inode {inode} of the ext4 file system ({what}, offset {inside:#x})"));
        }
        for (block, name) in
            [(group.block_bitmap, "the block bitmap"), (group.inode_bitmap, "the inode bitmap")]
        {
            let place = groups.place(block)?;
            if (place..place.saturating_add(groups.block)).contains(&offset) {
                return Ok(format!("{name} of group {index}"));
            }
        }
    }
    Ok("a block of the ext4 file system that holds no file's content: an attribute, a folder or the journal"
        .to_owned())
}
