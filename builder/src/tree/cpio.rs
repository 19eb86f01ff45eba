//! An initramfs: a file tree as a `newc` cpio archive, which is compressed with gzip.
//!
//! The layout follows the kernel's Documentation/driver-api/early-userspace/buffer-format.rst. The same tree gives the
//! same bytes: entries are sorted, times are the caller's, inode numbers count from 1. The last name of a file has its
//! contents, as GNU cpio writes it.

use std::collections::BTreeMap;
use std::io::{self, Write};

use flate2::{Compression, GzBuilder};

use super::counted::Counted;
use super::{Data, Device, Inode, Kind, Node, Owner, Source, Tree, Xattrs, shown};
use crate::error::{Error, Result, ResultExt};

/// The name that ends an archive.
const END: &[u8] = b"TRAILER!!!";
/// Bytes of an entry before its name.
const HEADER: usize = 110;

/// Writes `tree` as an uncompressed `newc` archive; `epoch` is the time of every entry, in seconds since 1970.
///
/// # Errors
/// When `epoch` is past 2106, where the format's 32 bits end; a file of 4 GiB or more, extended attributes, and a file
/// called as the end mark is, which the format cannot hold; contents that cannot be read, and what cannot be written.
pub fn write_cpio(tree: &Tree, epoch: u64, to: impl Write) -> Result<()> {
    let mtime = u32::try_from(epoch)
        .map_err(|_| Error::new(format!("time {epoch} is past 2106, too late for a cpio archive")))?;
    let mut out = Counted::new(to);
    // Of files with several names: the number of each, and how many names have been written.
    let mut linked = BTreeMap::<Inode, (u32, u32)>::new();
    for (number, entry) in (1_u32..).zip(tree.iter()) {
        let node = entry.node;
        let cannot = |why: &str| Error::new(format!("`{}` {why}", entry.shown()));
        if entry.path == END {
            return Err(cannot("is the end mark of a cpio archive and cannot name a file"));
        }
        if !node.xattrs.is_empty() {
            return Err(cannot("has extended attributes, which a cpio archive does not hold")
                .help("put this root file system on the medium: take a layout with a root partition"));
        }
        let (inode, last) = if entry.links > 1 && !node.is_dir() {
            let (inode, seen) = linked.entry(entry.inode).or_insert((number, 0));
            *seen += 1;
            (*inode, *seen == entry.links)
        } else {
            (number, true)
        };
        let target = node.target().map(Data::from);
        let empty = Data::default();
        let data = target.as_ref().or(node.data().filter(|_| last)).unwrap_or(&empty);
        let size =
            u32::try_from(data.len()).map_err(|_| cannot("is over 4 GiB, more than a cpio archive holds"))?;
        let fields = Fields {
            inode,
            mode: node.type_bits() | node.mode,
            owner: node.owner,
            links: if node.is_dir() { 2 } else { entry.links },
            mtime,
            size,
            device: node.device().unwrap_or_default(),
        };
        write(&mut out, entry.path, &fields, data)
            .context(|| format!("cannot put `{}` into the cpio archive", entry.shown()))?;
    }
    let end = Fields { links: 1, ..Fields::default() };
    // The kernel takes any length; a multiple of 512 is what cpio itself writes.
    let done = write(&mut out, END, &end, &Data::default()).and_then(|()| out.pad(512));
    done.context(|| "cannot write the cpio archive")
}

/// Writes `tree` as a gzip-compressed `newc` archive, an initramfs. Every byte is determined by the arguments.
///
/// # Errors
/// As [`write_cpio`].
pub fn write_initramfs(tree: &Tree, epoch: u64) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::new(9));
    write_cpio(tree, epoch, &mut encoder)?;
    encoder.finish().context(|| "cannot compress the initramfs")
}

/// Reads an uncompressed `newc` archive; the contents of its files stay where they are. It may come from a cache that
/// somebody else can write to, so nothing in it is taken on trust.
///
/// # Errors
/// What is not such an archive, ends too early, has a name twice, or holds what a [`Tree`] does not take.
pub fn read_cpio(archive: &Source) -> Result<Tree> {
    let failed = || "cannot read the archive of the file tree";
    let damaged = || Error::new("the archive of the file tree is damaged");
    let length = archive.length().context(failed)?;
    let mut tree = Tree::new();
    let mut linked = BTreeMap::<[u32; 3], Vec<u8>>::new();
    let mut at = 0_u64;
    let read = |at: u64, count: u64| -> Result<Vec<u8>> {
        let end = at.checked_add(count).filter(|end| *end <= length);
        let mut bytes = vec![0; end.and_then(|_| usize::try_from(count).ok()).ok_or_else(damaged)?];
        archive.read_at(&mut bytes, at).context(failed)?;
        Ok(bytes)
    };
    loop {
        let header = read(at, HEADER as u64)?;
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
        let (name_size, size) = (u64::from(field(11)?), u64::from(field(6)?));
        if name_size > super::PATH_MAX as u64 {
            return Err(damaged());
        }
        let name = read(at + HEADER as u64, name_size)?;
        let name = name.strip_suffix(b"\0").ok_or_else(damaged)?;
        if name == END {
            return Ok(tree);
        }
        let start = (at + HEADER as u64 + name_size).next_multiple_of(4);
        let data = Data::of(archive, start, size);
        at = (start + size).next_multiple_of(4);
        if start + size > length {
            return Err(damaged());
        }
        let name = name.strip_prefix(b"./").unwrap_or(name);
        let bits = field(1)?;
        let device = Device { major: field(9)?, minor: field(10)? };
        let kind = match bits & 0o170_000 {
            0o010_000 => Kind::Fifo,
            0o020_000 => Kind::CharDevice(device),
            0o040_000 => Kind::Dir,
            0o060_000 => Kind::BlockDevice(device),
            0o100_000 => Kind::File(data),
            0o120_000 => Kind::Symlink(data.bytes(super::PATH_MAX as u64)?),
            0o140_000 => Kind::Socket,
            _ => return Err(damaged()),
        };
        if name == b"." && matches!(kind, Kind::Dir) {
            continue;
        }
        let inode = [field(0)?, field(7)?, field(8)?];
        if field(4)? > 1 && !matches!(kind, Kind::Dir) {
            if let Some(first) = linked.get(&inode) {
                tree.link(name, first)?;
                match kind {
                    Kind::File(data) if !data.is_empty() => tree.set_data(name, data),
                    _ => {}
                }
                continue;
            }
            linked.insert(inode, name.to_owned());
        }
        let owner = Owner { user: field(2)?, group: field(3)? };
        tree.insert(name, Node { kind, mode: bits & 0o7777, owner, xattrs: Xattrs::new() })
            .map_err(|error| error.context(format!("the archive holds `{}`", shown(name))))?;
    }
}

#[derive(Default)]
struct Fields {
    inode: u32,
    mode: u32,
    owner: Owner,
    links: u32,
    mtime: u32,
    size: u32,
    device: Device,
}

fn write<W: Write>(out: &mut Counted<W>, path: &[u8], fields: &Fields, data: &Data) -> io::Result<()> {
    let header = [
        fields.inode,
        fields.mode,
        fields.owner.user,
        fields.owner.group,
        fields.links,
        fields.mtime,
        fields.size,
        0, // device that holds the file
        0,
        fields.device.major,
        fields.device.minor,
        // A tree's paths are short.
        u32::try_from(path.len()).unwrap_or(u32::MAX).saturating_add(1),
        0, // checksum, unused in this variant
    ];
    let mut text = String::from("070701");
    for field in header {
        text.push_str(&format!("{field:08x}"));
    }
    out.write_all(&[text.as_bytes(), path, b"\0"].concat())?;
    out.pad(4)?;
    out.copy(data, 0..data.len())?;
    out.pad(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn sample() -> Tree {
        let mut tree = Tree::new();
        tree.insert("usr/bin/hello", Node::file(0o755, "#!/bin/sh\necho hello\n")).unwrap();
        tree.insert("bin", Node::symlink("usr/bin")).unwrap();
        tree.insert("dev/console", Node::char_device(0o600, 5, 1)).unwrap();
        tree.insert("dev/vda", Node::block_device(0o660, 254, 0)).unwrap();
        tree.insert("tmp", Node::dir(0o1777)).unwrap();
        tree.insert("empty", Node::file(0o644, "")).unwrap();
        tree
    }

    fn archive(tree: &Tree, epoch: u64) -> Vec<u8> {
        let mut archive = Vec::new();
        write_cpio(tree, epoch, &mut archive).unwrap();
        archive
    }

    fn read(archive: &[u8]) -> Result<Tree> {
        read_cpio(&Source::Memory(archive.into()))
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
        let Some(list) = cpio_lists(&archive(&sample(), 86_400)) else { return };
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
        let archive = archive(&sample(), 7);
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
        let bytes = archive(&sample(), 7);
        let back = read(&bytes).unwrap();
        assert_eq!(archive(&back, 7), bytes);
        assert_eq!(back.get("empty").unwrap().data().unwrap().len(), 0);
        // Wherever it is cut before its end mark, it is refused.
        let end = bytes.windows(10).position(|name| name == END).unwrap();
        for cut in 0..end {
            assert!(read(&bytes[..cut]).is_err(), "{cut}");
        }
        // Whatever byte is changed, there is an answer.
        for at in 0..end {
            let mut other = bytes.clone();
            other[at] ^= 0x15;
            let _ = read(&other);
        }
    }

    #[test]
    fn order_of_insertion_and_time_of_day_change_nothing() {
        let mut other = Tree::new();
        let sample = sample();
        let mut entries: Vec<_> = sample.iter().collect();
        entries.reverse();
        for entry in entries {
            other.insert(entry.path, entry.node.clone()).unwrap();
        }
        let (a, b) = (write_initramfs(&sample, 1).unwrap(), write_initramfs(&other, 1).unwrap());
        assert_eq!(a, b);
        assert_eq!(
            &a[..10],
            [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255],
            "gzip's header holds no time and no host"
        );
    }

    #[test]
    fn the_ramdisk_does_not_depend_on_how_its_bytes_come() {
        let noise = |seed: u64| -> Vec<u8> {
            (0..300_000_u64).map(|at| (at.wrapping_mul(seed) >> 9) as u8 & (at >> 12) as u8).collect()
        };
        let mut tree = sample();
        tree.insert("noise", Node::file(0o644, noise(0x9e37_79b9))).unwrap();
        tree.insert("other", Node::file(0o644, noise(0x85eb_ca6b))).unwrap();
        let mut whole =
            GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::new(9));
        whole.write_all(&archive(&tree, 1)).unwrap();
        assert!(whole.finish().unwrap() == write_initramfs(&tree, 1).unwrap());
    }

    #[test]
    fn hard_links_pipes_and_odd_names_come_back() {
        let mut tree = sample();
        tree.link("usr/bin/other", "usr/bin/hello").unwrap();
        tree.link("a", "usr/bin/hello").unwrap();
        tree.insert("fifo", Node::new(Kind::Fifo, 0o600)).unwrap();
        tree.insert("socket", Node::new(Kind::Socket, 0o600)).unwrap();
        tree.link("dev/vdb", "dev/vda").unwrap();
        tree.insert(&b"not \xff utf-8"[..], Node::file(0o644, Data::hole(5000))).unwrap();
        let bytes = archive(&tree, 7);
        assert_eq!(bytes.windows(10).filter(|text| *text == b"echo hello").count(), 1, "once");
        let back = read(&bytes).unwrap();
        assert_eq!(archive(&back, 7), bytes);
        assert_eq!(back.inode("a"), back.inode("usr/bin/other"));
        assert_eq!(back.inode("dev/vda"), back.inode("dev/vdb"));
        assert_eq!(back.get("a").unwrap().data().unwrap().bytes(99).unwrap(), b"#!/bin/sh\necho hello\n");
        // Those of GNU cpio, with a folder of its own first, whichever name has the contents.
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"one").unwrap();
        std::fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        let listed = "cd \"$0\" && find . | sort | cpio --quiet -o -H newc";
        let Ok(output) = Command::new("sh").arg("-c").arg(listed).arg(dir.path()).output() else { return };
        if output.status.success() {
            let back = read(&output.stdout).unwrap();
            assert_eq!((back.iter().count(), back.inode("a")), (2, back.inode("b")));
            assert_eq!(back.get("a").unwrap().data().unwrap().bytes(9).unwrap(), b"one");
        }
    }

    #[test]
    fn what_an_archive_does_not_hold_is_named() {
        let refused = |path: &str, node: Node| {
            let mut tree = Tree::new();
            tree.insert(path, node).unwrap();
            write_cpio(&tree, 0, std::io::sink()).unwrap_err().report()
        };
        assert!(refused("big", Node::file(0o644, Data::hole(1 << 32))).contains("`big` is over 4 GiB"));
        assert!(refused("TRAILER!!!", Node::dir(0o755)).contains("end mark"));
        let mut marked = Node::dir(0o755);
        marked.xattrs.insert(b"user.a".to_vec(), Vec::new());
        assert!(refused("marked", marked).contains("`marked` has extended attributes"));
    }

    #[test]
    fn hostile_paths_and_nodes_are_refused() {
        let file = || Node::file(0o644, "");
        for path in
            ["", "/bin/sh", "bin//sh", "bin/", "../x", "a/./b", "a\0b", &"x".repeat(256), &"x/".repeat(2500)]
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
        assert!(tree.insert("usr", Node::dir(0o700)).is_ok());
        assert!(tree.insert("x", Node::dir(0o10_000)).is_err());
        assert!(tree.insert("x", Node::char_device(0, 1 << 12, 0)).is_err());
        assert!(tree.insert("x", Node::symlink("")).is_err());
        assert!(write_cpio(&tree, 1 << 32, std::io::sink()).is_err());
    }

    #[test]
    fn owners_go_with_what_they_own() {
        let (mut tree, owner) = (sample(), Owner { user: 101, group: 42 });
        tree.replace("usr/bin", Node::dir(0o755).owned_by(owner)).unwrap();
        let back = read(&archive(&tree, 7)).unwrap();
        let owner_of = |path: &str| back.get(path).unwrap().owner;
        assert_eq!((owner_of("usr/bin"), owner_of("usr/bin/hello")), (owner, Owner::ROOT));
        assert!(tree.remove("usr") && !tree.remove("usr"));
        assert!(tree.get("usr/bin/hello").is_none() && tree.get("tmp").is_some());
        tree.replace("empty", Node::dir(0o755)).unwrap();
        assert!(tree.replace("empty", Node::symlink("x")).is_err());
    }
}
