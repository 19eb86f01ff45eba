//! A file tree out of an ext4 file system, by the same reader that checks images.

use std::fs::File;
use std::os::unix::fs::FileExt;

use ext4_view::{Ext4, Ext4Read, FileType, Path as Ext4Path};

use crate::cpio::{Node, Owner, Tree};
use crate::error::{Error, Result, ResultExt};

/// Bytes of one file read into memory.
const MAX_FILE: u64 = 1 << 30;
/// Entries of one file system.
const MAX_ENTRIES: usize = 1_000_000;

struct Disk(File);

impl Ext4Read for Disk {
    fn read(
        &mut self,
        at: u64,
        into: &mut [u8],
    ) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync + 'static>> {
        Ok(self.0.read_exact_at(into, at)?)
    }
}

/// Reads the whole file system in `file`. Sockets, pipes and devices are left out: they are made anew by whoever needs them.
///
/// # Errors
/// What is not a sound ext4 file system, or has a name that is not UTF-8, or a file of more than 1 GiB.
pub(crate) fn read_ext4(file: &File) -> Result<Tree> {
    let failed = || "cannot read the ext4 file system";
    let volume = Ext4::load(Box::new(Disk(file.try_clone().context(failed)?))).context(failed)?;
    let mut tree = Tree::new();
    let mut folders = vec![String::new()];
    let mut count = 0_usize;
    while let Some(folder) = folders.pop() {
        let shown = if folder.is_empty() { "/" } else { folder.as_str() };
        for entry in volume.read_dir(shown).context(|| format!("cannot list {shown}"))? {
            let entry = entry.context(|| format!("cannot list {shown}"))?;
            let name = entry.file_name();
            let name = name.as_str().map_err(|_| Error::new(format!("a name in {shown} is not UTF-8")))?;
            let path = format!("{folder}/{name}");
            if matches!(name, "." | "..") || path == "/lost+found" {
                continue;
            }
            count += 1;
            if count > MAX_ENTRIES {
                return Err(Error::new("the file system has too many entries"));
            }
            if let Some(node) = node(&volume, &path).map_err(|error| error.context(path.clone()))? {
                if matches!(node, Node::Dir { .. }) {
                    folders.push(path.clone());
                }
                let meta = volume.symlink_metadata(Ext4Path::new(&path)).context(failed)?;
                let path = path.trim_start_matches('/');
                tree.insert(path, node)?;
                tree.set_owner(path, Owner { user: meta.uid(), group: meta.gid() });
            }
        }
    }
    Ok(tree)
}

fn node(volume: &Ext4, path: &str) -> Result<Option<Node>> {
    let failed = || "cannot read it";
    let path = Ext4Path::new(path);
    let meta = volume.symlink_metadata(path).context(failed)?;
    let mode = u32::from(meta.mode() & 0o7777);
    Ok(Some(match meta.file_type() {
        FileType::Directory => Node::Dir { mode },
        FileType::Regular => {
            if meta.len() > MAX_FILE {
                return Err(Error::new(format!("it has {} bytes, over the limit of {MAX_FILE}", meta.len())));
            }
            Node::File { mode, data: volume.read(path).context(failed)? }
        }
        FileType::Symlink => {
            let target = volume.read_link(path).context(failed)?;
            let target = target.to_str().map_err(|_| Error::new("where it leads is not UTF-8"))?;
            Node::Symlink { target: target.to_owned() }
        }
        _ => return Ok(None),
    }))
}
