//! A folder of this machine as a tree. Contents stay in its files, which must not change until they have been written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, lgetxattr, llistxattr, major, minor, seek};
use rustix::io::Errno;
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{Data, Device, Kind, Node, Owner, Source, Tree, Xattrs};
use crate::acl;
use crate::cache::{Stamp, hex};
use crate::error::{Error, Result, ResultExt};
use crate::parallel;

/// Whom what is in a folder belongs to in the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Owners {
    /// root, whoever has it on this machine.
    #[default]
    Root,
    /// Who has it on this machine, by number.
    Kept,
}

/// Files and folders of one tree.
const MAX_ENTRIES: usize = 4 << 20;

/// Reads the folder at `path` with everything below it: every kind of file, hard links, holes, and those extended attributes
/// that belong to a file and not to the machine that it is on (`user.`, `security.capability`, access control
/// lists).
///
/// # Errors
/// What cannot be looked at, and what a [`Tree`] does not take.
pub fn read_folder(path: &Path, owners: Owners) -> Result<Tree> {
    read_and_look(path, owners).map(|(tree, _)| tree)
}

/// The same, with how the folder looked while it was read: what is changed after a file was looked at is refused when that
/// file is read.
///
/// # Errors
/// As [`read_folder`].
pub fn read_and_look(path: &Path, owners: Owners) -> Result<(Tree, Looks)> {
    let (mut tree, mut linked) = (Tree::new(), BTreeMap::<(u64, u64), Vec<u8>>::new());
    let mut seen = Vec::new();
    walk(
        path,
        |found| Ok((node(&found.host, &found.meta, owners)?, found)),
        |(node, found)| {
            let (meta, at) = (&found.meta, &found.inside);
            seen.push((found.host.clone(), Stamp::from_metadata(meta)));
            if meta.nlink() > 1 && !meta.is_dir() {
                let inode = (meta.dev(), meta.ino());
                if let Some(first) = linked.get(&inode) {
                    return tree.link(at, first).map_err(|error| error.at(&found.host));
                }
                linked.insert(inode, at.clone());
            }
            tree.insert(at, node).map_err(|error| error.at(&found.host))
        },
    )?;
    Ok((tree, Looks::of(seen)))
}

/// A name in a folder.
struct Found {
    /// Where it is on this machine.
    host: PathBuf,
    /// The same from the folder on that the walk began at.
    inside: Vec<u8>,
    meta: fs::Metadata,
}

/// Goes through everything below the folder at `path`: has `look` called for each name, on all CPUs, and then `take` with
/// what came of it, a folder before what is in it.
fn walk<R: Send>(
    path: &Path,
    look: impl Fn(Found) -> Result<R> + Sync,
    mut take: impl FnMut(R) -> Result<()>,
) -> Result<()> {
    let (mut folders, mut count) = (vec![(path.to_owned(), Vec::new())], 0_usize);
    while !folders.is_empty() {
        let listed = parallel::map(&folders, |(folder, inside)| list(folder, inside, &look))?;
        folders.clear();
        for (found, below) in listed {
            count += found.len();
            if count > MAX_ENTRIES {
                return Err(Error::new("the folder has too many files").at(path));
            }
            found.into_iter().try_for_each(&mut take)?;
            folders.extend(below);
        }
    }
    Ok(())
}

/// Folders on this machine, and the same from the one on that a walk began at.
type Folders = Vec<(PathBuf, Vec<u8>)>;

/// What `look` makes of the names in a folder, and the folders among them.
fn list<R>(folder: &Path, inside: &[u8], look: impl Fn(Found) -> Result<R>) -> Result<(Vec<R>, Folders)> {
    let failed = || "cannot list the folder";
    let (mut all, mut below) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).context_at(folder, failed)? {
        let entry = entry.context_at(folder, failed)?;
        let (host, name) = (entry.path(), entry.file_name().into_vec());
        // By the folder that is open: no path is followed from its beginning.
        let meta = entry.metadata().context_at(&host, || "cannot look at the file")?;
        let inside = if inside.is_empty() { name } else { [inside, &name].join(&b'/') };
        if meta.is_dir() {
            below.push((host.clone(), inside.clone()));
        }
        if all.len() == MAX_ENTRIES {
            return Err(Error::new("the folder has too many files").at(folder));
        }
        all.push(look(Found { host, inside, meta })?);
    }
    Ok((all, below))
}

/// How everything in a folder looks from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looks {
    /// A hash of it: as long as it stays, so does what [`read_folder`] reads. Whatever is done to a file changes the time of
    /// its last change.
    pub sha256: String,
    /// Whether nothing was changed lately: what changes within a tick of its file system's clock looks the same afterwards.
    pub settled: bool,
}

impl Looks {
    /// Of everything in a folder, in any order.
    fn of(mut seen: Vec<(PathBuf, Stamp)>) -> Self {
        // By bytes: a comparison part by part costs as much as the rest.
        seen.sort_by(|a, b| a.0.as_os_str().as_bytes().cmp(b.0.as_os_str().as_bytes()));
        let (mut hash, mut settled) = (Sha256::new(), true);
        for (host, stamp) in &seen {
            hash.update(host.as_os_str().as_bytes());
            hash.update(b"\0");
            hash.update(stamp.bytes());
            settled &= stamp.is_settled();
        }
        Self { sha256: hex(&hash.finalize()), settled }
    }
}

/// Looks at the folder at `path` and everything below it, and reads nothing.
///
/// # Errors
/// What cannot be looked at.
pub fn look_at_folder(path: &Path) -> Result<Looks> {
    let mut seen = Vec::new();
    let look = |found: Found| Ok((found.host, Stamp::from_metadata(&found.meta)));
    walk(path, look, |one| {
        seen.push(one);
        Ok(())
    })?;
    Ok(Looks::of(seen))
}

/// The contents of the file at `path`, links followed, and whether its owner can execute it.
///
/// # Errors
/// What cannot be looked at, and what is no file.
pub fn read_file(path: &Path) -> Result<(Data, bool)> {
    let meta = fs::metadata(path).context_at(path, || "cannot look at the file")?;
    if !meta.is_file() {
        return Err(Error::new("this is no file").at(path));
    }
    let data = contents(path, &meta).context_at(path, || "cannot read the file")?;
    Ok((data, meta.mode() & 0o100 != 0))
}

fn node(host: &Path, meta: &fs::Metadata, owners: Owners) -> Result<Node> {
    let device = || Device { major: major(meta.rdev()), minor: minor(meta.rdev()) };
    let kind = meta.file_type();
    let kind = if kind.is_dir() {
        Kind::Dir
    } else if kind.is_file() {
        Kind::File(contents(host, meta).context_at(host, || "cannot read the file")?)
    } else if kind.is_symlink() {
        let target = fs::read_link(host).context_at(host, || "cannot read the link")?;
        Kind::Symlink(target.into_os_string().into_vec())
    } else if kind.is_char_device() {
        Kind::CharDevice(device())
    } else if kind.is_block_device() {
        Kind::BlockDevice(device())
    } else if kind.is_fifo() {
        Kind::Fifo
    } else if kind.is_socket() {
        Kind::Socket
    } else {
        return Err(Error::new("the file is of a kind that is not known").at(host));
    };
    let mode = if matches!(kind, Kind::Symlink(_)) { 0o777 } else { meta.mode() & 0o7777 };
    let owner = match owners {
        Owners::Root => Owner::ROOT,
        Owners::Kept => Owner { user: meta.uid(), group: meta.gid() },
    };
    Ok(Node { kind, mode, owner, xattrs: xattrs(host)? })
}

/// Where the contents of a file lie, without its holes.
fn contents(host: &Path, meta: &fs::Metadata) -> io::Result<Data> {
    let length = meta.len();
    let source = Source::loose(host.to_owned(), Stamp::from_metadata(meta));
    // Whatever takes the room of its length has no holes.
    if meta.blocks().saturating_mul(512) >= length {
        return Ok(Data::of(&source, 0, length));
    }
    let file = File::open(host)?;
    let mut data = Data::hole(length);
    let mut at = 0;
    while at < length {
        let start = match seek(&file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            start => start?,
        };
        let end = seek(&file, SeekFrom::Hole(start))?.min(length);
        if end <= start {
            break;
        }
        data.fill(start, end - start, &source, start).map_err(io::Error::other)?;
        at = end;
    }
    Ok(data)
}

/// Longest list of names, and longest value, that Linux has (include/uapi/linux/limits.h).
const LONGEST: usize = 65_536;

fn xattrs(host: &Path) -> Result<Xattrs> {
    let failed = || "cannot read the extended attributes";
    // Few files have any, and few of those many.
    let mut list = vec![0; 256];
    let count = loop {
        match llistxattr(host, &mut list) {
            // Not every file system has them.
            Err(Errno::NOTSUP) => return Ok(Xattrs::new()),
            Err(Errno::RANGE) if list.len() < LONGEST => list.resize(LONGEST, 0),
            count => break count.context_at(host, failed)?,
        }
    };
    let mut xattrs = Xattrs::new();
    for name in list.get(..count).unwrap_or_default().split(|&byte| byte == 0) {
        // Labels and signatures are of the machine that set them.
        let own = name.starts_with(b"user.") || name == b"security.capability" || acl::NAMES.contains(&name);
        if own {
            let mut value = vec![0; LONGEST];
            let count = lgetxattr(host, name, &mut value).context_at(host, failed)?;
            value.truncate(count);
            xattrs.insert(name.to_owned(), value);
        }
    }
    Ok(xattrs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{FileExt, symlink};

    #[test]
    fn whatever_is_done_to_a_folder_is_seen_from_outside() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::write(at("d/a"), "text").unwrap();
        let look = || look_at_folder(dir.path()).unwrap();
        assert!(look() == look() && !look().settled);
        let mut before = vec![look().sha256];
        let mut changed = |what: &str| {
            let now = look().sha256;
            assert!(!before.contains(&now), "{what}");
            before.push(now);
        };
        fs::write(at("d/a"), "longer").unwrap();
        changed("contents");
        fs::set_permissions(at("d/a"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        changed("mode");
        fs::rename(at("d/a"), at("d/b")).unwrap();
        changed("name");
        symlink("b", at("d/a")).unwrap();
        changed("link");
        fs::remove_file(at("d/a")).unwrap();
        changed("one less");
        assert!(look_at_folder(&at("nowhere")).is_err());
    }

    #[test]
    fn a_folder_is_read_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("d/empty")).unwrap();
        fs::write(at("d/a"), b"hello").unwrap();
        fs::hard_link(at("d/a"), at("b")).unwrap();
        symlink("/nowhere", at("s")).unwrap();
        fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff")), b"").unwrap();
        let sparse = File::create(at("sparse")).unwrap();
        sparse.set_len(5 << 30).unwrap();
        sparse.write_all_at(b"x", 4 << 30).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let marked = rustix::fs::lsetxattr(at("b"), "user.k", b"v", rustix::fs::XattrFlags::empty()).is_ok();
        let tree = read_folder(dir.path(), Owners::Root).unwrap();
        let paths: Vec<&[u8]> = tree.iter().map(|entry| entry.path).collect();
        let expected = [b"b", &b"d"[..], b"d/a", b"d/empty", b"fifo", b"s", b"socket", b"sparse", b"\xff"];
        assert_eq!(paths, expected);
        assert_eq!(tree.inode("b"), tree.inode("d/a"));
        assert!(tree.iter().all(|entry| entry.node.owner == Owner::ROOT));
        assert!(matches!(tree.get("fifo").unwrap().kind, Kind::Fifo));
        assert!(matches!(tree.get("socket").unwrap().kind, Kind::Socket));
        assert_eq!(tree.get("s").unwrap().target(), Some(&b"/nowhere"[..]));
        let expected = if marked { Some(&b"v".to_vec()) } else { None };
        assert_eq!(tree.get("b").unwrap().xattrs.get(&b"user.k"[..]), expected);
        let data = tree.get("sparse").unwrap().data().unwrap();
        assert_eq!((data.len(), data.is_sparse()), (5 << 30, true));
        assert!(data.extents(1 << 20).iter().all(|extent| extent.start == 4 << 30));
        // What has changed since it was found is not taken for what it was.
        fs::write(at("d/a"), b"other").unwrap();
        assert!(
            tree.get("b").unwrap().data().unwrap().bytes(9).unwrap_err().report().contains("has changed")
        );
        assert!(read_folder(&at("nowhere"), Owners::Root).is_err());
    }
}
