//! File trees: what a root file system or a ramdisk holds, whole and in order, and where its contents lie.
//!
//! A tree has everything that Linux knows of a file but its times: names of any bytes, hard links, owners, modes, devices,
//! pipes and sockets, extended attributes, holes. Contents stay where they are ([`Data`]) until they are written, so a
//! tree is small whatever it stands for. What a format cannot hold is an error that names the file, never left out.
//!
//! Trees are read from archives ([`read_tar`], [`read_cpio`]) and folders ([`read_folder`]), and written as archives
//! ([`write_tar`], [`write_cpio`]) and file systems ([`crate::disk`]).

mod counted;
mod cpio;
mod data;
mod digest;
mod folder;
mod node;
mod source;
mod tar;

use std::collections::BTreeMap;

use crate::error::{Error, Result};

pub use cpio::{read_cpio, write_cpio, write_initramfs};
use data::MAX_PIECES;
pub use data::{Data, Reader};
pub use folder::{Looks, Owners, look_at_folder, read_and_look, read_file, read_folder};
use node::PATH_MAX;
pub use node::{Device, Kind, Node, Owner, Xattrs};
pub use source::{Source, Store};
pub use tar::{Item, Member, read_tar, walk_tar, write_tar};

/// Longest name in a folder, in bytes.
const NAME_MAX: usize = 255;

/// Which file of a tree it is: names with the same one are hard links to one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inode(u64);

/// A file tree, sorted by the bytes of its paths. A folder always comes before what is in it.
///
/// The root folder itself belongs to whoever writes the tree.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    names: BTreeMap<Vec<u8>, Inode>,
    inodes: BTreeMap<Inode, Linked>,
    /// No file has this or a higher number.
    next: u64,
}

/// A file and how many names it has.
#[derive(Clone, Debug)]
struct Linked {
    node: Node,
    links: u32,
}

/// A name in a tree and what it stands for.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The path from the root, such as `bin/sh`.
    pub path: &'a [u8],
    /// Which file it is.
    pub inode: Inode,
    /// How many names that has in the tree.
    pub links: u32,
    /// The file.
    pub node: &'a Node,
}

impl<'a> Entry<'a> {
    /// The folder that it is in, empty for the root, and its name there.
    #[must_use]
    pub fn split(&self) -> (&'a [u8], &'a [u8]) {
        split(self.path)
    }

    /// The path as it is shown to people.
    #[must_use]
    pub fn shown(&self) -> String {
        shown(self.path)
    }
}

/// A path as it is shown to people.
pub(crate) fn shown(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(path) if !path.contains(char::is_control) => path.to_owned(),
        _ => path.escape_ascii().to_string(),
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (&[], path),
    }
}

impl Tree {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `node` at `path` (`bin/sh`, no leading slash); missing parents become directories of mode 0755.
    /// A directory may be added again to change it.
    ///
    /// # Errors
    /// When the path is empty, absolute, too long, or has `.`, `..`, empty or NUL parts; when there is something else
    /// at the path, or a parent is not a directory; when Linux could not have such a node.
    pub fn insert(&mut self, path: impl AsRef<[u8]>, node: Node) -> Result<()> {
        let path = path.as_ref();
        node.check().map_err(|error| bad(path, &error))?;
        self.make_way(path)?;
        match self.names.get(path).and_then(|inode| self.inodes.get_mut(inode)) {
            None => {
                let inode = self.number();
                self.names.insert(path.to_owned(), inode);
                self.inodes.insert(inode, Linked { node, links: 1 });
                Ok(())
            }
            Some(there) if there.node.is_dir() && node.is_dir() => {
                there.node = node;
                Ok(())
            }
            Some(_) => Err(bad(path, "is in the tree twice")),
        }
    }

    /// Makes `path` another name of the file at `other`, a hard link.
    ///
    /// # Errors
    /// When nothing or a directory is at `other`, or something at `path`; for the path itself, as [`Tree::insert`].
    pub fn link(&mut self, path: impl AsRef<[u8]>, other: impl AsRef<[u8]>) -> Result<()> {
        let (path, other) = (path.as_ref(), other.as_ref());
        let missing = || bad(path, &format!("is another name of `{}`, which is not there", shown(other)));
        let inode = *self.names.get(other).ok_or_else(missing)?;
        self.make_way(path)?;
        if self.names.contains_key(path) {
            return Err(bad(path, "is in the tree twice"));
        }
        let linked = self.inodes.get_mut(&inode).ok_or_else(missing)?;
        if linked.node.is_dir() {
            return Err(bad(path, &format!("cannot be another name of the directory `{}`", shown(other))));
        }
        linked.links += 1;
        self.names.insert(path.to_owned(), inode);
        Ok(())
    }

    /// Puts `node` in the place of whatever is at `path` but a folder: that one can only become another folder.
    ///
    /// # Errors
    /// As [`Tree::insert`], but for something else being there.
    pub fn replace(&mut self, path: impl AsRef<[u8]>, node: Node) -> Result<()> {
        let path = path.as_ref();
        node.check().map_err(|error| bad(path, &error))?;
        if self.get(path).is_some_and(|there| !there.is_dir()) {
            self.remove(path);
        }
        self.insert(path, node)
    }

    /// Takes out what is at `path`, with everything in it where it is a folder, and says whether there was anything.
    /// Other names of a file stay.
    pub fn remove(&mut self, path: impl AsRef<[u8]>) -> bool {
        let path = path.as_ref();
        let Some(inode) = self.names.remove(path) else { return false };
        if self.unlink(inode) {
            let inside = [path, b"/"].concat();
            let gone: Vec<Vec<u8>> = self
                .names
                .range(inside.clone()..)
                .map(|(path, _)| path)
                .take_while(|path| path.starts_with(&inside))
                .cloned()
                .collect();
            for path in gone {
                if let Some(inode) = self.names.remove(&path) {
                    self.unlink(inode);
                }
            }
        }
        true
    }

    /// Adds everything that is in `other`, hard links as such.
    ///
    /// # Errors
    /// As [`Tree::insert`].
    pub fn graft(&mut self, other: &Self) -> Result<()> {
        let mut first = BTreeMap::new();
        for entry in other.iter() {
            match first.get(&entry.inode) {
                Some(path) => self.link(entry.path, path)?,
                None => {
                    self.insert(entry.path, entry.node.clone())?;
                    first.insert(entry.inode, entry.path);
                }
            }
        }
        Ok(())
    }

    /// What is at `path`.
    #[must_use]
    pub fn get(&self, path: impl AsRef<[u8]>) -> Option<&Node> {
        self.inodes.get(self.names.get(path.as_ref())?).map(|linked| &linked.node)
    }

    /// Which file is at `path`.
    #[must_use]
    pub fn inode(&self, path: impl AsRef<[u8]>) -> Option<Inode> {
        self.names.get(path.as_ref()).copied()
    }

    /// Every name, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        self.names.iter().filter_map(|(path, inode)| {
            let Linked { node, links } = self.inodes.get(inode)?;
            Some(Entry { path, inode: *inode, links: *links, node })
        })
    }

    /// Gives the file at `path` these contents, if a file is there.
    fn set_data(&mut self, path: &[u8], data: Data) {
        let linked = self.names.get(path).and_then(|inode| self.inodes.get_mut(inode));
        if let Some(Linked { node: Node { kind: kind @ Kind::File(_), .. }, .. }) = linked {
            *kind = Kind::File(data);
        }
    }

    fn number(&mut self) -> Inode {
        self.next += 1;
        Inode(self.next)
    }

    /// Takes a name from a file, and says whether it was a directory.
    fn unlink(&mut self, inode: Inode) -> bool {
        let Some(linked) = self.inodes.get_mut(&inode) else { return false };
        let dir = linked.node.is_dir();
        linked.links -= 1;
        if linked.links == 0 {
            self.inodes.remove(&inode);
        }
        dir
    }

    /// Checks a path and makes the directories that it needs.
    fn make_way(&mut self, path: &[u8]) -> Result<()> {
        if path.len() >= PATH_MAX {
            return Err(bad(path, "is too long for a path"));
        }
        let wrong = |part: &[u8]| matches!(part, b"" | b"." | b"..") || part.contains(&0);
        if path.split(|&byte| byte == b'/').any(wrong) {
            return Err(bad(path, "is not a path in a file tree: write it like `bin/sh`"));
        }
        if path.split(|&byte| byte == b'/').any(|part| part.len() > NAME_MAX) {
            return Err(bad(path, &format!("has a name of more than {NAME_MAX} bytes")));
        }
        for end in (0..path.len()).filter(|&at| path.get(at) == Some(&b'/')) {
            let parent = path.get(..end).unwrap_or_default();
            match self.get(parent).map(Node::is_dir) {
                Some(true) => {}
                Some(false) => {
                    let what = format!("cannot be there: `{}` is not a directory", shown(parent));
                    return Err(bad(path, &what));
                }
                None => {
                    let inode = self.number();
                    self.names.insert(parent.to_owned(), inode);
                    self.inodes.insert(inode, Linked { node: Node::dir(0o755), links: 1 });
                }
            }
        }
        Ok(())
    }
}

fn bad(path: &[u8], why: &str) -> Error {
    Error::new(format!("`{}` {why}", shown(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_file_are_one_file() {
        let mut tree = Tree::new();
        tree.insert("a/x", Node::file(0o644, "x")).unwrap();
        tree.link("b/y", "a/x").unwrap();
        assert_eq!(tree.inode("a/x"), tree.inode("b/y"));
        let links = |tree: &Tree| -> Vec<u32> { tree.iter().map(|entry| entry.links).collect() };
        assert_eq!(links(&tree), [1, 2, 1, 2]);
        for (path, other) in [("c", "a"), ("c", "nowhere"), ("a", "a/x"), ("b/y", "a/x"), ("../c", "a/x")] {
            assert!(tree.link(path, other).is_err(), "{path} {other}");
        }
        let mut twice = Tree::new();
        twice.insert("z", Node::dir(0o700)).unwrap();
        twice.graft(&tree).unwrap();
        assert_eq!(twice.inode("a/x"), twice.inode("b/y"));
        assert!(twice.graft(&tree).is_err());
        assert!(tree.remove("a"));
        assert_eq!(links(&tree), [1, 1]);
        assert_eq!(tree.get("b/y").unwrap().data().unwrap().bytes(9).unwrap(), b"x");
        tree.replace("b/y", Node::new(Kind::Fifo, 0o600)).unwrap();
        assert_eq!(tree.inodes.len(), 2, "nothing is kept that has no name");
    }

    #[test]
    fn any_bytes_are_a_name_and_are_shown_as_text() {
        let mut tree = Tree::new();
        tree.insert(&b"d\xff/\n"[..], Node::file(0o644, "")).unwrap();
        let shown: Vec<String> = tree.iter().map(|entry| entry.shown()).collect();
        assert_eq!(shown, ["d\\xff", "d\\xff/\\n"]);
        assert!(tree.insert(&b"d\xff/\n/x"[..], Node::dir(0o755)).unwrap_err().to_string().contains("\\xff"));
        let mut node = Node::dir(0o755);
        node.xattrs.insert(b"nospace".to_vec(), Vec::new());
        assert!(tree.insert("x", node).unwrap_err().to_string().contains("nospace"));
    }
}
