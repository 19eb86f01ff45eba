//! A file tree out of an ext4 file system, by the same readers that check images.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ext4_view::{Ext4, Ext4Read, FileType, Path as Ext4Path};

use crate::error::{Error, Result, ResultExt};
use crate::inodes::{Inode, Inodes, ROOT};
use crate::tree::{Kind, Node, Owner, Source, Tree, shown};

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

/// Reads the whole file system in `file`. Contents stay where they are in it. Sockets are left out: they are made anew by
/// whoever needs them.
///
/// # Errors
/// What is not a sound ext4 file system that has been unmounted.
pub(crate) fn read_ext4(file: &File) -> Result<Tree> {
    let failed = || "cannot read the ext4 file system";
    let length = file.metadata().context(failed)?.len();
    let source = Source::opened(file.try_clone().context(failed)?, Path::new("the machine's disk"));
    let inodes = Inodes::open(source, 0, length)?;
    let volume = Ext4::load(Box::new(Disk(file.try_clone().context(failed)?))).context(failed)?;
    let mut tree = Tree::new();
    let mut linked = BTreeMap::<u32, Vec<u8>>::new();
    let mut folders = vec![(Vec::new(), ROOT)];
    let mut count = 0_usize;
    while let Some((folder, number)) = folders.pop() {
        for (name, number) in inodes.list(&inodes.inode(number)?)? {
            let path = [folder.as_slice(), &name].join(&b'/');
            let inside = path.strip_prefix(b"/").unwrap_or(&path);
            if path == b"/lost+found" {
                continue;
            }
            count += 1;
            if count > MAX_ENTRIES {
                return Err(Error::new("the file system has too many entries"));
            }
            let at_fault = |error: Error| error.context(shown(&path));
            let inode = inodes.inode(number).map_err(at_fault)?;
            let Some(node) = node(&volume, &inodes, &inode, &path).map_err(at_fault)? else { continue };
            if node.is_dir() {
                folders.push((path.clone(), number));
            } else if inode.links()? > 1 {
                if let Some(first) = linked.get(&number) {
                    tree.link(inside, first)?;
                    continue;
                }
                linked.insert(number, inside.to_owned());
            }
            tree.insert(inside, node)?;
        }
    }
    Ok(tree)
}

fn node(volume: &Ext4, inodes: &Inodes, inode: &Inode, path: &[u8]) -> Result<Option<Node>> {
    let failed = || "cannot read it";
    let path = Ext4Path::try_from(path).context(failed)?;
    let meta = volume.symlink_metadata(path).context(failed)?;
    let kind = match meta.file_type() {
        FileType::Directory => Kind::Dir,
        FileType::Regular => Kind::File(inodes.data(inode)?),
        FileType::Symlink => Kind::Symlink(volume.read_link(path).context(failed)?.as_ref().to_vec()),
        FileType::CharacterDevice => Kind::CharDevice(inode.device()?),
        FileType::BlockDevice => Kind::BlockDevice(inode.device()?),
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => return Ok(None),
    };
    let owner = Owner { user: meta.uid(), group: meta.gid() };
    Ok(Some(Node { kind, mode: u32::from(meta.mode() & 0o7777), owner, xattrs: inodes.xattrs(inode)? }))
}
