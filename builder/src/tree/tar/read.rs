//! Reading an archive, header by header.

use super::BLOCK;
use super::pax::Records;
use super::sparse::Map;
use crate::error::{Error, Result, ResultExt};
use crate::tree::{Data, Device, Kind, Node, Owner, Source, Tree, Xattrs, shown};

/// Bytes of a header that belongs to another one.
const MAX_RECORDS: u64 = 1 << 20;
/// Members of one archive.
const MAX_MEMBERS: usize = 4 << 20;

/// A member of an archive.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its path as the archive has it, with whatever is in it.
    pub path: Vec<u8>,
    /// What it is.
    pub member: Member,
    /// Permission bits.
    pub mode: u32,
    /// Whom it belongs to.
    pub owner: Owner,
    /// Its extended attributes.
    pub xattrs: Xattrs,
}

/// What a member of an archive is.
#[derive(Clone, Debug)]
pub enum Member {
    /// A file of any kind.
    File(Kind),
    /// Another name of the file at this path, which came before.
    HardLink(Vec<u8>),
}

impl Item {
    /// What a tree has of it, if it is not another name of something.
    pub(crate) fn node(self) -> std::result::Result<Node, Vec<u8>> {
        let Self { member, mode, owner, xattrs, .. } = self;
        match member {
            Member::HardLink(target) => Err(target),
            Member::File(kind) => {
                let mode = if matches!(kind, Kind::Symlink(_)) { 0o777 } else { mode };
                Ok(Node { kind, mode, owner, xattrs })
            }
        }
    }
}

/// What headers before a member's own say of it.
#[derive(Default)]
struct Before {
    records: Records,
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
}

/// Gives every member to `take`, in the archive's order.
///
/// # Errors
/// An archive that cannot be read, is damaged or ends without its end mark, a kind of member that no tree has, and
/// whatever `take` says.
pub fn walk_tar(archive: &Source, mut take: impl FnMut(Item) -> Result<()>) -> Result<()> {
    let failed = || "cannot read the archive";
    let length = archive.length().context(failed)?;
    let (mut at, mut count) = (0_u64, 0_usize);
    let (mut global, mut before) = (Records::default(), Before::default());
    loop {
        let damaged = || Error::new(format!("the archive is damaged at its byte {at}"));
        if length - at < BLOCK {
            return Err(Error::new("the archive ends in the middle"));
        }
        let mut block = [0; BLOCK as usize];
        archive.read_at(&mut block, at).context(failed)?;
        if block == [0; BLOCK as usize] {
            return Ok(());
        }
        let header = tar::Header::from_byte_slice(&block);
        if header.cksum().ok() != Some(checksum(&block)) {
            return Err(damaged());
        }
        count += 1;
        if count > MAX_MEMBERS {
            return Err(Error::new("the archive has too many members"));
        }
        let (size, start) = (header.entry_size().map_err(|_| damaged())?, at + BLOCK);
        let kind = header.entry_type().as_byte();
        if !matches!(kind, b'x' | b'g' | b'L' | b'K' | b'V') {
            let Before { records, path, target } = std::mem::take(&mut before);
            let records = records.over(&global);
            let gnu_path = records.get("GNU.sparse.name").or(records.get("path")).map(<[u8]>::to_vec);
            let path = gnu_path.or(path).unwrap_or_else(|| header.path_bytes().into_owned());
            let target = records.get("linkpath").map(<[u8]>::to_vec).or(target);
            let target = target.or_else(|| header.link_name_bytes().map(|target| target.into_owned()));
            let place = Place { header, records: &records, archive, start, length };
            let (member, end) = place
                .member(&path, target.unwrap_or_default())
                .map_err(|error| error.context(format!("`{}` in the archive", shown(&path))))?;
            let item = place.item(path, member)?;
            at = end;
            take(item)?;
            continue;
        }
        let end = end_of(start, size, length).ok_or_else(damaged)?;
        let text = || -> Result<Vec<u8>> {
            if size > MAX_RECORDS {
                return Err(Error::new(format!("a header of the archive has {size} bytes")));
            }
            Data::of(archive, start, size).bytes(MAX_RECORDS)
        };
        match kind {
            b'x' => before.records = Records::parse(&text()?)?,
            b'g' => global = Records::parse(&text()?)?.over(&global),
            b'L' => before.path = Some(until_nul(text()?)),
            b'K' => before.target = Some(until_nul(text()?)),
            // The archive's own name.
            _ => {}
        }
        at = end;
    }
}

/// Where contents of `size` bytes end, with their padding, if that is in the archive.
fn end_of(start: u64, size: u64, length: u64) -> Option<u64> {
    start.checked_add(size)?.checked_next_multiple_of(BLOCK).filter(|end| *end <= length)
}

/// Every byte of a header, with spaces for the sum itself.
fn checksum(block: &[u8]) -> u32 {
    let field = 148..156;
    (0..).zip(block).map(|(at, byte)| if field.contains(&at) { 32 } else { u32::from(*byte) }).sum()
}

fn until_nul(mut text: Vec<u8>) -> Vec<u8> {
    text.truncate(text.iter().position(|&byte| byte == 0).unwrap_or(text.len()));
    text
}

/// A member's header and what lies behind it.
struct Place<'a> {
    header: &'a tar::Header,
    records: &'a Records,
    archive: &'a Source,
    start: u64,
    /// The archive's.
    length: u64,
}

impl Place<'_> {
    /// What it is, and where the next one begins.
    fn member(&self, path: &[u8], target: Vec<u8>) -> Result<(Member, u64)> {
        let Self { header, records, archive, mut start, length } = *self;
        let bad = || "has a damaged header";
        let size = match records.number("size")? {
            Some(size) => size,
            None => header.entry_size().context(bad)?,
        };
        let mut map = None;
        if header.entry_type().is_gnu_sparse() {
            let (own, behind) = Map::of_header(header, archive, start)?;
            start += behind;
            map = Some(own);
        }
        let end = end_of(start, size, length).ok_or_else(|| Error::new("reaches past the archive's end"))?;
        let device = || -> Result<Device> {
            let number =
                |number: std::io::Result<Option<u32>>| number.context(bad).map(Option::unwrap_or_default);
            Ok(Device { major: number(header.device_major())?, minor: number(header.device_minor())? })
        };
        let kind = match header.entry_type().as_byte() {
            // Before there were folders in archives, they had a slash.
            b'0' | b'\0' | b'7' if path.ends_with(b"/") => Kind::Dir,
            b'0' | b'\0' | b'7' | b'S' => {
                let map = match map {
                    Some(map) => Some(map),
                    None => Map::of_records(records, archive, start, size)?,
                };
                Kind::File(match map {
                    Some(map) => map.data(archive, start, size)?,
                    None => Data::of(archive, start, size),
                })
            }
            b'1' if size > 0 => return Err(Error::new("is a hard link with contents of its own")),
            b'1' => return Ok((Member::HardLink(target), end)),
            b'2' => Kind::Symlink(target),
            b'3' => Kind::CharDevice(device()?),
            b'4' => Kind::BlockDevice(device()?),
            b'5' => Kind::Dir,
            b'6' => Kind::Fifo,
            other => {
                return Err(Error::new(format!(
                    "is of the kind `{}`, which is not known",
                    other.escape_ascii()
                )));
            }
        };
        Ok((Member::File(kind), end))
    }

    fn item(&self, path: Vec<u8>, member: Member) -> Result<Item> {
        let bad = || format!("`{}` in the archive has a damaged header", shown(&path));
        let id = |key: &str, own: std::io::Result<u64>| -> Result<u32> {
            let id = self.records.number(key)?.map_or(own, Ok).context(bad)?;
            u32::try_from(id).context(bad)
        };
        let owner = Owner { user: id("uid", self.header.uid())?, group: id("gid", self.header.gid())? };
        let mode = self.header.mode().context(bad)? & 0o7777;
        let xattrs = self
            .records
            .xattrs()
            .map_err(|error| error.context(format!("`{}` in the archive", shown(&path))))?;
        Ok(Item { path, member, mode, owner, xattrs })
    }
}

/// Reads a whole archive into a tree; its paths are the tree's, and begin with `./` or not. Of two members at one path the
/// later one holds, as where an archive is unpacked. The root folder's own member is left out.
///
/// # Errors
/// As [`walk_tar`]; paths that lead out (`..`, `/`) or through something that is no folder, a folder in whose place
/// something else is to be, and what a [`Tree`] does not take.
pub fn read_tar(archive: &Source) -> Result<Tree> {
    let mut tree = Tree::new();
    walk_tar(archive, |item| {
        let path = inside(&item.path).to_vec();
        if path.is_empty() && matches!(item.member, Member::File(Kind::Dir)) {
            return Ok(());
        }
        match item.node() {
            Ok(node) => tree.replace(path, node),
            Err(target) => {
                let target = inside(&target);
                if path != target && tree.get(&path).is_some_and(|there| !there.is_dir()) {
                    tree.remove(&path);
                }
                tree.link(path, target)
            }
        }
    })?;
    Ok(tree)
}

/// A path without what says that it is below here, and that it is a folder.
fn inside(path: &[u8]) -> &[u8] {
    let mut path = path.strip_prefix(b".").filter(|rest| rest.is_empty()).unwrap_or(path);
    while let Some(rest) = path.strip_prefix(b"./") {
        path = rest;
    }
    while let Some(rest) = path.strip_suffix(b"/").filter(|rest| !rest.is_empty()) {
        path = rest;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn source(bytes: Vec<u8>) -> Source {
        Source::Memory(bytes.into())
    }

    /// Members with these paths, kinds, targets and contents, as the `tar` crate writes them.
    fn archive(members: &[(&str, tar::EntryType, &str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, target, data) in members {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_uid(7);
            header.set_gid(8);
            header.set_size(data.len() as u64);
            // The crate refuses hostile paths.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
            header.set_cksum();
            builder.append(&header, *data).unwrap();
        }
        builder.into_inner().unwrap()
    }

    use tar::EntryType as T;

    #[test]
    fn hostile_members_are_refused_and_the_last_of_a_path_holds() {
        for (members, words) in [
            (&[("../x", T::Regular, "", &b""[..])][..], "is not a path"),
            (&[("/etc/x", T::Regular, "", b"")], "is not a path"),
            (&[("a/../x", T::Regular, "", b"")], "is not a path"),
            (&[("a", T::Symlink, "/etc", b""), ("a/x", T::Regular, "", b"")], "is not a directory"),
            (&[("a", T::Link, "/etc/passwd", b"")], "is not there"),
            (&[("a", T::Link, "a", b"")], "is not there"),
            (&[("a/b", T::Regular, "", b""), ("a", T::Regular, "", b"x")], "twice"),
            (&[("a", T::Directory, "", b""), ("b", T::Link, "a", b"")], "directory"),
            (&[("a", T::Regular, "", b""), ("b", T::Link, "a", b"x")], "contents of its own"),
            (&[("a", T::Symlink, "", b"")], "link target"),
            (&[("a", T::new(b'Z'), "", b"")], "`Z`"),
        ] {
            let report = read_tar(&source(archive(members))).unwrap_err().report();
            assert!(report.contains(words), "`{words}` in {report}");
        }
        let tree = read_tar(&source(archive(&[
            ("./", T::Directory, "", b""),
            ("./a", T::Regular, "", b"old"),
            ("./l", T::Link, "./a", b""),
            ("./a", T::Regular, "", b"new"),
            ("./d/", T::Regular, "", b""),
            ("./a", T::Regular, "", b"newer"),
            ("./s", T::Symlink, "a", b""),
            ("./s", T::Link, "./a", b""),
        ])))
        .unwrap();
        let text = |path: &str| tree.get(path).unwrap().data().unwrap().bytes(9).unwrap();
        assert_eq!(
            (text("a"), text("l"), text("s")),
            (b"newer".to_vec(), b"old".to_vec(), b"newer".to_vec())
        );
        assert_eq!(tree.inode("a"), tree.inode("s"));
        assert!(tree.get("d").unwrap().is_dir());
        assert_eq!(tree.get("a").unwrap().owner, Owner { user: 7, group: 8 });
    }

    #[test]
    fn damage_is_an_error_never_a_panic() {
        let whole = archive(&[("a", T::Regular, "", &[1; 700]), ("b", T::Symlink, "a", b"")]);
        read_tar(&source(whole.clone())).unwrap();
        for cut in 0..512 + 1024 + 512 + 512 {
            assert!(read_tar(&source(whole[..cut].to_vec())).is_err(), "{cut}");
        }
        for at in (0..512).chain(1536..2048) {
            for bit in [1, 0x40, 0x80] {
                let mut other = whole.clone();
                other[at] ^= bit;
                assert!(read_tar(&source(other.clone())).is_err(), "the sum shows it at {at}");
                let header = tar::Header::from_byte_slice(&other[at / 512 * 512..][..512]);
                let mut header = header.clone();
                header.set_cksum();
                other[at / 512 * 512..][..512].copy_from_slice(header.as_bytes());
                let _ = read_tar(&source(other));
            }
        }
        let mut huge = tar::Header::new_gnu();
        huge.set_size(u64::MAX);
        huge.as_old_mut().name[0] = b'a';
        huge.set_cksum();
        assert!(read_tar(&source(huge.as_bytes().to_vec())).is_err());
        huge.set_entry_type(T::GNULongName);
        huge.set_size(1 << 40);
        huge.set_cksum();
        assert!(read_tar(&source(huge.as_bytes().to_vec())).is_err());
    }

    /// GNU tar, on a folder with everything that any user can make.
    #[test]
    fn every_form_of_gnu_tar_is_read() {
        use std::os::unix::fs::FileExt;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("tree");
        let deep = folder.join("x".repeat(200)).join("y".repeat(200));
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("a"), b"hello").unwrap();
        std::fs::hard_link(deep.join("a"), folder.join("b")).unwrap();
        std::os::unix::fs::symlink("z".repeat(300), folder.join("s")).unwrap();
        let sparse = std::fs::File::create(folder.join("sparse")).unwrap();
        sparse.set_len(9 << 30).unwrap();
        for index in 0..40 {
            sparse.write_all_at(b"data", index * (200 << 20) + 4096 * index).unwrap();
        }
        for form in [
            &["--format=gnu"][..],
            &["--sparse-version=0.0"],
            &["--sparse-version=0.1"],
            &["--sparse-version=1.0"],
        ] {
            let path = dir.path().join("archive");
            let mut command = Command::new("tar");
            if form != ["--format=gnu"] {
                command.arg("--format=pax");
            }
            command.args(form).arg("-Scf").arg(&path).arg("-C").arg(&folder).arg(".");
            let Ok(output) = command.output() else { return };
            assert!(output.status.success(), "{output:?}");
            let tree = read_tar(&Source::archive(&path)).unwrap();
            assert_eq!(tree.iter().count(), 6, "{form:?}");
            assert_eq!(tree.get("b").unwrap().data().unwrap().bytes(9).unwrap(), b"hello");
            let links: Vec<u32> = tree.iter().map(|entry| entry.links).collect();
            assert_eq!(links.iter().filter(|links| **links == 2).count(), 2, "{form:?}");
            assert_eq!(tree.get("s").unwrap().target().unwrap().len(), 300);
            let data = tree.get("sparse").unwrap().data().unwrap();
            assert_eq!(data.len(), 9 << 30);
            let extents = data.extents(4096);
            assert!((40..=80).contains(&extents.len()), "{form:?} {extents:?}");
            let mut there = [0; 6];
            let at = 39 * (200 << 20) + 4096 * 39;
            std::io::Read::read_exact(&mut data.range(at..at + 6), &mut there).unwrap();
            assert_eq!(&there, b"data\0\0", "{form:?}");
        }
    }
}
