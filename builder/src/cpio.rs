//! An initramfs: a file tree written as a `newc` cpio archive and compressed with gzip.
//!
//! The layout follows the kernel's Documentation/driver-api/early-userspace/buffer-format.rst. The same tree gives the
//! same bytes: entries are sorted, owners are root unless the tree says otherwise, times are the caller's, inode numbers
//! count from 1.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::{Compression, GzBuilder};

use crate::error::{Error, Result, ResultExt};

/// Longest path that Linux takes, in bytes, with the terminating NUL.
const PATH_MAX: usize = 4096;

/// One entry of a tree. Modes are permission bits only (at most 0o7777).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Dir {
        /// Permission bits.
        mode: u32,
    },
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// The contents.
        data: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it leads, as the running system sees it.
        target: String,
    },
    /// A character device.
    CharDevice {
        /// Permission bits.
        mode: u32,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Permission bits.
        mode: u32,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// The user and the group that something belongs to, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: u32,
    /// The group.
    pub group: u32,
}

impl Owner {
    /// root, whom everything belongs to that a tree says nothing else of.
    pub const ROOT: Self = Self { user: 0, group: 0 };
}

/// A file tree, sorted by path. A folder always comes before what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
    /// What does not belong to root.
    owners: BTreeMap<String, Owner>,
}

impl Tree {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `node` at `path` (`bin/sh`, no leading slash); missing parents become directories of mode 0755.
    /// A directory may be added again to change its mode.
    ///
    /// # Errors
    /// When the path is empty, absolute, too long, or has `.`, `..`, empty or NUL parts; when there is something else
    /// at the path, or a parent is not a directory; when a mode or device number is out of range.
    pub fn insert(&mut self, path: &str, node: Node) -> Result<()> {
        let bad = |why: &str| Error::new(format!("`{}` {why}", path.escape_default()));
        if path.len() >= PATH_MAX {
            return Err(bad("is too long for a path in an initramfs"));
        }
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') {
            return Err(bad("is not a path in an initramfs: write it like `bin/sh`"));
        }
        if path == "TRAILER!!!" {
            return Err(bad("is the end mark of a cpio archive and cannot name a file"));
        }
        node.check().map_err(|error| bad(&error))?;
        for (end, _) in path.match_indices('/') {
            let parent = path.get(..end).unwrap_or_default();
            match self.nodes.get(parent) {
                None => {
                    self.nodes.insert(parent.to_owned(), Node::Dir { mode: 0o755 });
                }
                Some(Node::Dir { .. }) => {}
                Some(_) => return Err(bad(&format!("cannot be there: `{parent}` is not a directory"))),
            }
        }
        match (self.nodes.get(path), &node) {
            (None, _) | (Some(Node::Dir { .. }), Node::Dir { .. }) => {
                self.nodes.insert(path.to_owned(), node);
                Ok(())
            }
            (Some(_), _) => Err(bad("is in the tree twice")),
        }
    }

    /// Puts `node` in the place of whatever is at `path` but a folder: that one can only become another folder.
    ///
    /// # Errors
    /// As [`Tree::insert`], but for something else being there.
    pub fn replace(&mut self, path: &str, node: Node) -> Result<()> {
        if !matches!(self.nodes.get(path), None | Some(Node::Dir { .. })) {
            self.nodes.remove(path);
            self.owners.remove(path);
        }
        self.insert(path, node)
    }

    /// Takes out what is at `path`, with everything in it where it is a folder. Nothing there is fine.
    pub fn remove(&mut self, path: &str) -> Option<Node> {
        let node = self.nodes.remove(path)?;
        self.owners.remove(path);
        if matches!(node, Node::Dir { .. }) {
            let inside = format!("{path}/");
            let gone: Vec<String> = self
                .nodes
                .range(inside.clone()..)
                .map(|(path, _)| path)
                .take_while(|path| path.starts_with(&inside))
                .cloned()
                .collect();
            for path in gone {
                self.nodes.remove(&path);
                self.owners.remove(&path);
            }
        }
        Some(node)
    }

    /// Who has what is at `path`.
    #[must_use]
    pub fn owner(&self, path: &str) -> Owner {
        self.owners.get(path).copied().unwrap_or(Owner::ROOT)
    }

    /// Gives what is at `path` to `owner`. Where nothing is, nothing happens.
    pub fn set_owner(&mut self, path: &str, owner: Owner) {
        if owner == Owner::ROOT || !self.nodes.contains_key(path) {
            self.owners.remove(path);
        } else {
            self.owners.insert(path.to_owned(), owner);
        }
    }

    /// What is at `path`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Every entry, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }
}

impl Node {
    fn check(&self) -> std::result::Result<(), String> {
        let (mode, device) = match self {
            Self::Dir { mode } => (*mode, (0, 0)),
            Self::File { mode, data } => {
                if u32::try_from(data.len()).is_err() {
                    return Err("is over 4 GiB, more than a cpio archive holds".into());
                }
                (*mode, (0, 0))
            }
            Self::Symlink { target } => {
                if target.is_empty() || target.len() >= PATH_MAX || target.contains('\0') {
                    return Err("has a link target that Linux does not take".into());
                }
                (0o777, (0, 0))
            }
            Self::CharDevice { mode, major, minor } | Self::BlockDevice { mode, major, minor } => {
                (*mode, (*major, *minor))
            }
        };
        if mode > 0o7777 {
            return Err(format!("has mode {mode:o}; permission bits end at 7777"));
        }
        // Linux: 12 bits of major, 20 of minor.
        if device.0 >= 1 << 12 || device.1 >= 1 << 20 {
            return Err(format!("has device number {}:{}, out of range", device.0, device.1));
        }
        Ok(())
    }

    fn type_bits(&self) -> u32 {
        match self {
            Self::Dir { .. } => 0o040_000,
            Self::File { .. } => 0o100_000,
            Self::Symlink { .. } => 0o120_000,
            Self::CharDevice { .. } => 0o020_000,
            Self::BlockDevice { .. } => 0o060_000,
        }
    }
}

/// Writes `tree` as an uncompressed `newc` archive; `epoch` is the time of every entry, in seconds since 1970.
///
/// # Errors
/// When `epoch` is past 2106, where the format's 32 bits end.
pub fn write_cpio(tree: &Tree, epoch: u64) -> Result<Vec<u8>> {
    let mtime = u32::try_from(epoch)
        .map_err(|_| Error::new(format!("time {epoch} is past 2106, too late for a cpio archive")))?;
    let mut out = Vec::new();
    for (inode, (path, node)) in (1_u32..).zip(tree.iter()) {
        let (mode, data, device): (u32, &[u8], (u32, u32)) = match node {
            Node::Dir { mode } => (*mode, &[], (0, 0)),
            Node::File { mode, data } => (*mode, data, (0, 0)),
            Node::Symlink { target } => (0o777, target.as_bytes(), (0, 0)),
            Node::CharDevice { mode, major, minor } | Node::BlockDevice { mode, major, minor } => {
                (*mode, &[], (*major, *minor))
            }
        };
        let links = if matches!(node, Node::Dir { .. }) { 2 } else { 1 };
        let (mode, owner) = (node.type_bits() | mode, tree.owner(path));
        entry(&mut out, path, data, &Fields { inode, mode, owner, links, mtime, device });
    }
    let end = Fields { inode: 0, mode: 0, owner: Owner::ROOT, links: 1, mtime: 0, device: (0, 0) };
    entry(&mut out, "TRAILER!!!", &[], &end);
    // The kernel takes any length; a multiple of 512 is what cpio itself writes.
    pad(&mut out, 512);
    Ok(out)
}

/// Writes `tree` as a gzip-compressed `newc` archive, an initramfs. Every byte is determined by the arguments.
///
/// # Errors
/// As [`write_cpio`].
pub fn write_initramfs(tree: &Tree, epoch: u64) -> Result<Vec<u8>> {
    let archive = write_cpio(tree, epoch)?;
    let mut encoder = GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(Vec::with_capacity(archive.len() / 2), Compression::new(9));
    encoder.write_all(&archive).context(|| "cannot compress the initramfs")?;
    encoder.finish().context(|| "cannot compress the initramfs")
}

/// Reads an archive that [`write_cpio`] wrote back into the tree. It may come from a cache that somebody else can write
/// to, so nothing in it is taken on trust.
///
/// # Errors
/// What is not an uncompressed `newc` archive, ends too early, or holds what a [`Tree`] does not take, such as sockets.
pub fn read_cpio(archive: &[u8]) -> Result<Tree> {
    let damaged = || Error::new("the archive of the file tree is damaged");
    let mut tree = Tree::new();
    let mut at = 0_usize;
    loop {
        let header = archive.get(at..).and_then(|rest| rest.get(..110)).ok_or_else(damaged)?;
        if header.get(..6) != Some(b"070701") {
            return Err(damaged());
        }
        let field = |number: usize| {
            let digits = header.get(6 + number * 8..14 + number * 8).filter(|digits| digits.is_ascii());
            digits
                .and_then(|digits| std::str::from_utf8(digits).ok())
                .and_then(|digits| u32::from_str_radix(digits, 16).ok())
                .ok_or_else(damaged)
        };
        let (name_size, size) = (field(11)? as usize, field(6)? as usize);
        let name = archive.get(at + 110..).and_then(|rest| rest.get(..name_size)).ok_or_else(damaged)?;
        let name =
            name.strip_suffix(b"\0").and_then(|name| std::str::from_utf8(name).ok()).ok_or_else(damaged)?;
        if name == "TRAILER!!!" {
            return Ok(tree);
        }
        let start = (at + 110 + name_size).next_multiple_of(4);
        let data = archive.get(start..).and_then(|rest| rest.get(..size)).ok_or_else(damaged)?;
        at = (start + size).next_multiple_of(4);
        let bits = field(1)?;
        let (mode, major, minor) = (bits & 0o7777, field(9)?, field(10)?);
        let node = match bits & 0o170_000 {
            0o040_000 => Node::Dir { mode },
            0o100_000 => Node::File { mode, data: data.to_vec() },
            0o120_000 => Node::Symlink { target: String::from_utf8(data.to_vec()).map_err(|_| damaged())? },
            0o020_000 => Node::CharDevice { mode, major, minor },
            0o060_000 => Node::BlockDevice { mode, major, minor },
            _ => return Err(damaged()),
        };
        tree.insert(name, node)?;
        tree.set_owner(name, Owner { user: field(2)?, group: field(3)? });
    }
}

struct Fields {
    inode: u32,
    mode: u32,
    owner: Owner,
    links: u32,
    mtime: u32,
    device: (u32, u32),
}

fn entry(out: &mut Vec<u8>, path: &str, data: &[u8], fields: &Fields) {
    let size = data.len() as u64;
    let name_size = path.len() as u64 + 1;
    let header = [
        u64::from(fields.inode),
        u64::from(fields.mode),
        u64::from(fields.owner.user),
        u64::from(fields.owner.group),
        u64::from(fields.links),
        u64::from(fields.mtime),
        size,
        0, // device that holds the file
        0,
        u64::from(fields.device.0),
        u64::from(fields.device.1),
        name_size,
        0, // checksum, unused in this variant
    ];
    out.extend_from_slice(b"070701");
    for field in header {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out, 4);
    out.extend_from_slice(data);
    pad(out, 4);
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn sample() -> Tree {
        let mut tree = Tree::new();
        tree.insert("usr/bin/hello", Node::File { mode: 0o755, data: b"#!/bin/sh\necho hello\n".to_vec() })
            .unwrap();
        tree.insert("bin", Node::Symlink { target: "usr/bin".into() }).unwrap();
        tree.insert("dev/console", Node::CharDevice { mode: 0o600, major: 5, minor: 1 }).unwrap();
        tree.insert("dev/vda", Node::BlockDevice { mode: 0o660, major: 254, minor: 0 }).unwrap();
        tree.insert("tmp", Node::Dir { mode: 0o1777 }).unwrap();
        tree.insert("empty", Node::File { mode: 0o644, data: Vec::new() }).unwrap();
        tree
    }

    /// GNU cpio is not on every machine; bsdtar and python are no better. Where it is missing, the test below that
    /// reads the archive by its own hand still stands.
    fn cpio_lists(archive: &[u8]) -> Option<String> {
        let mut child = Command::new("cpio")
            .args(["-itv", "--quiet", "--numeric-uid-gid"])
            .env("TZ", "UTC")
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        child.stdin.take()?.write_all(archive).ok()?;
        Some(String::from_utf8(child.wait_with_output().ok()?.stdout).unwrap())
    }

    #[test]
    fn cpio_itself_reads_it() {
        let Some(list) = cpio_lists(&write_cpio(&sample(), 86_400).unwrap()) else { return };
        let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 9, "{list}");
        assert!(
            list.contains("crw-------   1 0        0          5,   1 Jan  2  1970 dev/console"),
            "{list}"
        );
        assert!(list.contains("bin -> usr/bin") && list.contains("drwxrwxrwt"), "{list}");
    }

    #[test]
    fn entries_are_sorted_aligned_and_terminated() {
        let archive = write_cpio(&sample(), 7).unwrap();
        let (mut at, mut names) = (0, Vec::new());
        loop {
            assert_eq!(&archive[at..at + 6], b"070701");
            let field = |n: usize| {
                let start = at + 6 + n * 8;
                usize::from_str_radix(std::str::from_utf8(&archive[start..start + 8]).unwrap(), 16).unwrap()
            };
            let (size, name_size) = (field(6), field(11));
            let name = std::str::from_utf8(&archive[at + 110..at + 110 + name_size - 1]).unwrap().to_owned();
            if name == "TRAILER!!!" {
                break;
            }
            assert_eq!((field(2), field(3), field(5)), (0, 0, 7), "{name}");
            assert_eq!(field(0), names.len() + 1, "inode numbers count up");
            let data = (at + 110 + name_size).next_multiple_of(4);
            if name == "usr/bin/hello" {
                assert_eq!(&archive[data..data + size], b"#!/bin/sh\necho hello\n");
                assert_eq!(field(1), 0o100_755);
            }
            names.push(name);
            at = (data + size).next_multiple_of(4);
        }
        assert_eq!(
            names,
            ["bin", "dev", "dev/console", "dev/vda", "empty", "tmp", "usr", "usr/bin", "usr/bin/hello"]
        );
        assert_eq!(archive.len() % 512, 0);
    }

    #[test]
    fn what_was_written_is_read_and_what_is_damaged_is_not() {
        let archive = write_cpio(&sample(), 7).unwrap();
        assert_eq!(read_cpio(&archive).unwrap(), sample());
        // Wherever it is cut before its end mark, it is refused.
        let end = archive.windows(10).position(|name| name == b"TRAILER!!!").unwrap();
        for cut in 0..end {
            assert!(read_cpio(&archive[..cut]).is_err(), "{cut}");
        }
        // Whatever byte is changed, there is an answer.
        for at in 0..end {
            let mut other = archive.clone();
            other[at] ^= 0x15;
            let _ = read_cpio(&other);
        }
    }

    #[test]
    fn order_of_insertion_and_time_of_day_change_nothing() {
        let mut other = Tree::new();
        let mut nodes: Vec<_> = sample().iter().map(|(path, node)| (path.to_owned(), node.clone())).collect();
        nodes.reverse();
        for (path, node) in nodes {
            other.insert(&path, node).unwrap();
        }
        let (a, b) = (write_initramfs(&sample(), 1).unwrap(), write_initramfs(&other, 1).unwrap());
        assert_eq!(a, b);
        assert_eq!(
            &a[..10],
            [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255],
            "gzip's header holds no time and no host"
        );
    }

    #[test]
    fn hostile_paths_and_nodes_are_refused() {
        let file = || Node::File { mode: 0o644, data: Vec::new() };
        for path in
            ["", "/bin/sh", "bin//sh", "bin/", "../x", "a/./b", "a\0b", "TRAILER!!!", &"x".repeat(5000)]
        {
            assert!(Tree::new().insert(path, file()).is_err(), "{path:?}");
        }
        let mut tree = sample();
        assert!(tree.insert("empty/below", file()).is_err());
        assert!(
            tree.insert("bin/below", file()).is_err(),
            "a link to a directory is not a directory of this tree"
        );
        assert!(tree.insert("empty", file()).is_err());
        assert!(tree.insert("usr", file()).is_err());
        assert!(tree.insert("usr", Node::Dir { mode: 0o700 }).is_ok());
        assert!(tree.insert("x", Node::Dir { mode: 0o10_000 }).is_err());
        assert!(tree.insert("x", Node::CharDevice { mode: 0, major: 1 << 12, minor: 0 }).is_err());
        assert!(tree.insert("x", Node::Symlink { target: String::new() }).is_err());
        assert!(write_cpio(&tree, 1 << 32).is_err());
    }

    #[test]
    fn owners_go_with_what_they_own() {
        let (mut tree, owner) = (sample(), Owner { user: 101, group: 42 });
        tree.set_owner("usr/bin", owner);
        tree.set_owner("nowhere", owner);
        let back = read_cpio(&write_cpio(&tree, 7).unwrap()).unwrap();
        assert_eq!(back, tree);
        assert_eq!((back.owner("usr/bin"), back.owner("nowhere")), (owner, Owner::ROOT));
        assert!(tree.remove("usr").is_some());
        assert_eq!((tree.get("usr/bin/hello"), tree.owner("usr/bin")), (None, Owner::ROOT));
        assert!(tree.get("tmp").is_some());
        tree.replace("empty", Node::Dir { mode: 0o755 }).unwrap();
        assert!(tree.replace("empty", Node::Symlink { target: "x".into() }).is_err());
    }
}
