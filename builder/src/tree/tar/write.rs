//! Writing a tree as a pax archive, in which nothing of it is lost.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::BLOCK;
use super::pax::{XATTR, record};
use crate::error::{Error, Result, ResultExt};
use crate::tree::counted::Counted;
use crate::tree::{Data, Entry, Inode, Kind, Tree};

/// Bytes that a path has room for in a header.
const NAME: usize = 100;
/// The largest number in seven, and in eleven, octal digits.
const SMALL: u64 = (1 << 21) - 1;
const LARGE: u64 = (1 << 33) - 1;

/// Writes `tree` as a pax archive; `epoch` is the time of every member, in seconds since 1970. Holes and hard links stay
/// what they are.
///
/// # Errors
/// A socket and an extended attribute with `=` in its name, which such an archive does not hold; contents that cannot be
/// read, and what cannot be written.
pub fn write_tar(tree: &Tree, epoch: u64, to: impl Write) -> Result<()> {
    let mut out = Counted::new(to);
    let mut first = BTreeMap::<Inode, &[u8]>::new();
    for entry in tree.iter() {
        let other = if entry.links > 1 { first.get(&entry.inode).copied() } else { None };
        if other.is_none() && entry.links > 1 {
            first.insert(entry.inode, entry.path);
        }
        let cannot = |what: &str| Error::new(format!("`{}` {what}", entry.shown()));
        if matches!(entry.node.kind, Kind::Socket) {
            return Err(cannot("is a socket, which an archive does not hold"));
        }
        if entry.node.xattrs.keys().any(|name| name.contains(&b'=')) {
            return Err(cannot(
                "has an extended attribute with `=` in its name, which an archive does not hold",
            ));
        }
        member(&mut out, entry, other, epoch)
            .context(|| format!("cannot put `{}` into the archive", entry.shown()))?;
    }
    let end = io::copy(&mut Data::hole(2 * BLOCK).reader(), &mut out).and_then(|_| out.flush());
    end.context(|| "cannot write the archive")
}

fn member<W: Write>(
    out: &mut Counted<W>,
    entry: Entry<'_>,
    other: Option<&[u8]>,
    epoch: u64,
) -> io::Result<()> {
    let node = entry.node;
    let mut records = Vec::new();
    let mut header = tar::Header::new_ustar();
    let kind = match (&node.kind, other) {
        (_, Some(_)) => tar::EntryType::Link,
        (Kind::Dir, _) => tar::EntryType::Directory,
        (Kind::File(_) | Kind::Socket, _) => tar::EntryType::Regular,
        (Kind::Symlink(_), _) => tar::EntryType::Symlink,
        (Kind::CharDevice(_), _) => tar::EntryType::Char,
        (Kind::BlockDevice(_), _) => tar::EntryType::Block,
        (Kind::Fifo, _) => tar::EntryType::Fifo,
    };
    header.set_entry_type(kind);
    header.set_mode(node.mode);
    header.set_mtime(epoch);
    let device = node.device().unwrap_or_default();
    header.set_device_major(device.major)?;
    header.set_device_minor(device.minor)?;
    for (key, id) in [("uid", node.owner.user), ("gid", node.owner.group)] {
        let id = u64::from(id);
        if id > SMALL {
            record(&mut records, key.as_bytes(), id.to_string().as_bytes());
        }
        let set = if key == "uid" { tar::Header::set_uid } else { tar::Header::set_gid };
        set(&mut header, id.min(SMALL));
    }
    let target = other.or(node.target()).unwrap_or_default();
    let plain = |text: &[u8]| text.len() <= NAME && text.is_ascii();
    if !plain(target) {
        record(&mut records, b"linkpath", target);
    }
    let data = node.data().filter(|_| other.is_none());
    // A map of the pieces stands before them (GNU tar's manual, "Storing Sparse Files", version 1.0).
    let (mut map, mut pieces) = (Vec::new(), Vec::new());
    if let Some(data) = data {
        pieces = data.extents(1);
        if data.is_sparse() {
            let lines = pieces.iter().map(|piece| format!("{}\n{}\n", piece.start, piece.end - piece.start));
            map = format!("{}\n{}", pieces.len(), lines.collect::<String>()).into_bytes();
            map.resize(map.len().next_multiple_of(BLOCK as usize), 0);
            for (key, value) in [("major", "1"), ("minor", "0"), ("realsize", &data.len().to_string())] {
                record(&mut records, format!("GNU.sparse.{key}").as_bytes(), value.as_bytes());
            }
            record(&mut records, b"GNU.sparse.name", entry.path);
        }
    }
    if !plain(entry.path) {
        record(&mut records, b"path", entry.path);
    }
    if other.is_none() {
        for (name, value) in &node.xattrs {
            record(&mut records, &[XATTR, name].concat(), value);
        }
    }
    let size = map.len() as u64 + pieces.iter().map(|piece| piece.end - piece.start).sum::<u64>();
    if size > LARGE {
        record(&mut records, b"size", size.to_string().as_bytes());
    }
    header.set_size(if size > LARGE { 0 } else { size });
    if let Some(ustar) = header.as_ustar_mut() {
        // What reads no pax records gets a name at least.
        for (field, text) in [(&mut ustar.name, entry.path), (&mut ustar.linkname, target)] {
            let text = text.get(..NAME).unwrap_or(text);
            field.get_mut(..text.len()).unwrap_or_default().copy_from_slice(text);
        }
    }
    header.set_cksum();
    if !records.is_empty() {
        let mut about = tar::Header::new_ustar();
        about.set_entry_type(tar::EntryType::XHeader);
        about.set_path("pax")?;
        about.set_mode(0o644);
        about.set_mtime(epoch);
        about.set_uid(0);
        about.set_gid(0);
        about.set_size(records.len() as u64);
        about.set_cksum();
        out.write_all(about.as_bytes())?;
        out.write_all(&records)?;
        out.pad(BLOCK)?;
    }
    out.write_all(header.as_bytes())?;
    out.write_all(&map)?;
    if let Some(data) = data {
        for piece in pieces {
            out.copy(data, piece)?;
        }
    }
    out.pad(BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Node, Owner, Source, read_tar};
    use std::process::Command;

    fn sample() -> Tree {
        let mut tree = Tree::new();
        let owner = Owner { user: 5_000_000, group: u32::MAX };
        tree.insert("a", Node::file(0o4755, "hello").owned_by(owner)).unwrap();
        tree.link("hard", "a").unwrap();
        tree.link("z/hard", "a").unwrap();
        tree.insert(&b"not \xff utf-8"[..], Node::file(0o600, "")).unwrap();
        tree.insert([b"n".repeat(255), b"m".repeat(255)].join(&b'/'), Node::file(0o644, "long")).unwrap();
        tree.insert("link", Node::symlink(vec![b'l'; 4095])).unwrap();
        tree.insert("dev/console", Node::char_device(0o600, 5, 1)).unwrap();
        tree.insert("dev/vda", Node::block_device(0o660, 254, 0xf_ffff)).unwrap();
        tree.insert("fifo", Node::new(Kind::Fifo, 0o644)).unwrap();
        tree.insert("empty", Node::dir(0o1777)).unwrap();
        let mut sparse = Data::hole(20 << 30);
        let source = Source::Memory(vec![7; 5000].into());
        for (at, length) in [(3, 5), (1 << 20, 5000), (19 << 30, 4096)] {
            sparse.fill(at, length, &source, 0).unwrap();
        }
        let mut node = Node::file(0o644, sparse);
        node.xattrs.insert(b"security.capability".to_vec(), vec![1, 0, 0, 2, b'\n', 0]);
        node.xattrs.insert(b"user.empty".to_vec(), Vec::new());
        tree.insert("sparse", node).unwrap();
        tree.insert("hole", Node::file(0o644, Data::hole(1 << 40))).unwrap();
        tree
    }

    fn archive(tree: &Tree) -> Vec<u8> {
        let mut archive = Vec::new();
        write_tar(tree, 1_700_000_000, &mut archive).unwrap();
        archive
    }

    #[test]
    fn everything_comes_back() {
        let (tree, bytes) = (sample(), archive(&sample()));
        assert!(bytes.len() < 60_000, "holes take no room: {}", bytes.len());
        let back = read_tar(&Source::Memory(bytes.clone().into())).unwrap();
        assert_eq!(back.iter().count(), tree.iter().count());
        for (a, b) in tree.iter().zip(back.iter()) {
            assert_eq!((a.path, a.links), (b.path, b.links));
            assert_eq!(a.node.data().map(|data| data.extents(1)), b.node.data().map(|data| data.extents(1)));
            // A hole of 1 TiB takes a while to read.
            let large = a.node.data().is_some_and(|data| data.len() > 1 << 30);
            assert!(large || a.node.same(b.node).unwrap(), "{}", a.shown());
            assert_eq!(a.node.xattrs, b.node.xattrs);
        }
        assert_eq!(back.inode("a"), back.inode("z/hard"));
        assert_eq!(archive(&back), bytes, "the same tree is the same archive");
        // A different order of doing it changes nothing.
        let mut other = Tree::new();
        other.graft(&tree).unwrap();
        assert_eq!(archive(&other), bytes);
    }

    #[test]
    fn whatever_byte_is_changed_there_is_an_answer() {
        let bytes = archive(&sample());
        for at in (0..bytes.len()).step_by(5) {
            let mut other = bytes.clone();
            other[at] ^= 1 << (at % 8);
            let _ = read_tar(&Source::Memory(other.into()));
        }
    }

    #[test]
    fn gnu_tar_reads_it() {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), archive(&sample())).unwrap();
        let mut command = Command::new("tar");
        command.arg("--numeric-owner").arg("--xattrs").arg("-tvvf").arg(path.path());
        command.env("LC_ALL", "C").env("TZ", "UTC");
        let Ok(output) = command.output() else { return };
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        let words: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for line in [
            "-rwsr-xr-x 5000000/4294967295 5 2023-11-14 22:13 a",
            "hrwsr-xr-x 5000000/4294967295 0 2023-11-14 22:13 z/hard link to a",
            "crw------- 0/0 5,1 2023-11-14 22:13 dev/console",
            "brw-rw---- 0/0 254,1048575 2023-11-14 22:13 dev/vda",
            "drwxrwxrwt 0/0 0 2023-11-14 22:13 empty",
            "prw-r--r-- 0/0 0 2023-11-14 22:13 fifo",
            "-rw-r--r-- 0/0 1099511627776 2023-11-14 22:13 hole",
            "-rw-r--r--* 0/0 21474836480 2023-11-14 22:13 sparse",
            "x: 0 user.empty",
        ] {
            let line = line.trim_end_matches('/');
            assert!(words.iter().any(|own| own.trim_end_matches('/') == line), "`{line}` in {text}");
        }
    }

    #[test]
    fn what_an_archive_does_not_hold_is_named() {
        let mut tree = Tree::new();
        tree.insert("run/x", Node::new(Kind::Socket, 0o600)).unwrap();
        let refused = |tree: &Tree| write_tar(tree, 0, Vec::new()).unwrap_err().to_string();
        assert!(refused(&tree).contains("`run/x` is a socket"));
        let mut node = Node::dir(0o755);
        node.xattrs.insert(b"user.a=b".to_vec(), Vec::new());
        tree.replace("run", node).unwrap();
        assert!(refused(&tree).contains("`run`"));
    }
}
