//! Debian binary packages (`.deb`), read in-process.
//!
//! The layout follows deb(5): an `ar` archive with the members `debian-binary`, `control.tar.*` and
//! `data.tar.*`. A package is signed by the archive, yet it is treated as hostile here: every size is bounded
//! and no path of it is ever opened on the host.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Take, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, ResultExt};

/// Entries in one package; Debian's largest kernel packages have some ten thousand.
const MAX_ENTRIES: usize = 1_000_000;
/// Bytes of one file read into memory.
const MAX_FILE: u64 = 1 << 30;
/// Bytes of a whole unpacked package: past this it is a decompression bomb.
const MAX_UNPACKED: u64 = 16 << 30;
/// Memory that an xz or zstd stream may ask for, in KiB. Debian's own packages need 65 MiB at most.
const MAX_DECODER_KIB: u32 = 256 << 10;
/// Symbolic links followed for one file.
const MAX_LINKS: usize = 8;

/// What an entry of a package is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file, or a hard link to one.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device node or a FIFO.
    Special,
}

/// One entry of a package's file tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Absolute path on the system that the package is made for, such as `/boot/config-6.12`.
    pub path: String,
    /// Size in bytes; 0 for what is not a file.
    pub size: u64,
    /// What it is.
    pub kind: EntryKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Xz,
    Zstd,
}

/// One of the two archives in a package.
#[derive(Clone, Copy, Debug)]
struct Member {
    offset: u64,
    size: u64,
    packing: Packing,
}

/// An opened package.
#[derive(Debug)]
pub struct Deb {
    path: PathBuf,
    /// What dpkg needs to know.
    control: Option<Member>,
    /// The files.
    data: Member,
}

impl Deb {
    /// Opens the package at `path` and finds its file tree.
    ///
    /// # Errors
    /// When the file cannot be read, is not an `ar` archive, is truncated, is of a format version other than 2,
    /// or has its files packed in a way other than gzip, xz, zstd or not at all.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).context_at(path, || "cannot open the package")?;
        let length = file.metadata().context_at(path, || "cannot read the package's size")?.len();
        find_members(&mut file, length).map_err(|error| error.at(path)).map(|(control, data)| Self {
            path: path.to_owned(),
            control,
            data,
        })
    }

    /// Everything that dpkg needs to know of the package: `control`, `conffiles`, `postinst` and the like, by name, with
    /// permission bits.
    ///
    /// # Errors
    /// When the package cannot be read or is damaged, or has none of it.
    pub fn control(&self) -> Result<Vec<(String, u32, Vec<u8>)>> {
        let member = self
            .control
            .ok_or_else(|| Error::new("the package has nothing for dpkg (no control.tar)").at(&self.path))?;
        let mut files = Vec::new();
        self.walk_member(member, |path, entry| {
            if entry.header().entry_type().is_file() {
                let mode = entry.header().mode().context(|| format!("{path} has no permission bits"))?;
                let name = path.trim_start_matches('/').to_owned();
                files.push((name, mode & 0o7777, read_bounded(entry, path)?));
            }
            Ok(true)
        })?;
        Ok(files)
    }

    /// Writes the package's files as the archive that they are, unpacked ([`crate::tree::walk_tar`] reads it).
    ///
    /// # Errors
    /// When the package cannot be read or is damaged, has more than 16 GiB of files, and what cannot be written.
    pub fn unpack(&self, to: &mut dyn Write) -> Result<()> {
        let failed = || format!("cannot unpack the {} file tree of the package", self.data.packing.name());
        let mut from = BufReader::with_capacity(1 << 17, self.unpacked(self.data)?);
        let size = std::io::copy(&mut from, to).context_at(&self.path, failed)?;
        if size == MAX_UNPACKED {
            return Err(
                Error::new(format!("the package has more than {MAX_UNPACKED} bytes of files")).at(&self.path)
            );
        }
        Ok(())
    }

    /// Lists every entry, in the package's order.
    ///
    /// # Errors
    /// When the package cannot be read or is damaged.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        self.walk(|path, entry| {
            let kind = match entry.header().entry_type() {
                kind if kind.is_dir() => EntryKind::Directory,
                kind if kind.is_symlink() => EntryKind::Symlink,
                kind if kind.is_file() || kind.is_hard_link() => EntryKind::File,
                _ => EntryKind::Special,
            };
            let size = if kind == EntryKind::File { entry.size() } else { 0 };
            entries.push(Entry { path: path.to_owned(), size, kind });
            Ok(true)
        })?;
        Ok(entries)
    }

    /// Reads one file. `inside` is its path on the target system; a leading `/` or `./` may be left out, and
    /// `/usr/bin/x` is `/bin/x`, whichever the package has. Links inside the package are followed.
    ///
    /// # Errors
    /// When the package is damaged, holds no such file (near names are given), or the file is over 1 GiB.
    pub fn read(&self, inside: &str) -> Result<Vec<u8>> {
        let mut files = self.read_many(&[inside])?;
        files.pop().ok_or_else(|| Error::new(format!("{inside} was not read")).at(&self.path))
    }

    /// Reads several files in as few passes over the package as their links allow. The result has the order of
    /// `inside`.
    ///
    /// # Errors
    /// As [`Deb::read`], for the first file that is missing.
    pub fn read_many(&self, inside: &[&str]) -> Result<Vec<Vec<u8>>> {
        let mut wanted: Vec<String> = inside.iter().map(|path| normalise(path)).collect();
        let mut found: Vec<Option<Vec<u8>>> = vec![None; wanted.len()];
        for _ in 0..=MAX_LINKS {
            let mut redirected = false;
            self.walk(|path, entry| {
                // A link's target may come later in this very pass, so each entry is held against the current names.
                let Some(first) =
                    (0..wanted.len()).find(|&i| found[i].is_none() && same_file(&wanted[i], path))
                else {
                    return Ok(true);
                };
                let kind = entry.header().entry_type();
                if kind.is_symlink() || kind.is_hard_link() {
                    let target = entry
                        .link_name_bytes()
                        .ok_or_else(|| Error::new(format!("{path} is a link without a target")))?;
                    let target = String::from_utf8_lossy(&target).into_owned();
                    let target =
                        if kind.is_hard_link() { normalise(&target) } else { resolve(path, &target) };
                    for name in wanted.iter_mut().filter(|name| same_file(name, path)) {
                        name.clone_from(&target);
                    }
                    redirected = true;
                    return Ok(true);
                }
                if !kind.is_file() {
                    return Err(Error::new(format!("{path} in the package is not a file")));
                }
                let data = read_bounded(entry, path)?;
                for i in first..wanted.len() {
                    if found[i].is_none() && same_file(&wanted[i], path) {
                        found[i] = Some(data.clone());
                    }
                }
                Ok(found.iter().any(Option::is_none))
            })?;
            if found.iter().all(Option::is_some) {
                return Ok(found.into_iter().flatten().collect());
            }
            if !redirected {
                break;
            }
        }
        let missing = (0..wanted.len()).find(|&i| found[i].is_none()).unwrap_or(0);
        Err(self.missing(inside.get(missing).copied().unwrap_or(""), wanted.get(missing).map_or("", |w| w)))
    }

    fn missing(&self, asked: &str, wanted: &str) -> Error {
        let base = |path: &str| path.rsplit('/').next().unwrap_or("").to_owned();
        let folder =
            |path: &str| path.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned());
        let mut near: Vec<String> = self
            .list()
            .unwrap_or_default()
            .into_iter()
            .filter(|entry| entry.kind != EntryKind::Directory)
            .filter(|entry| base(&entry.path) == base(wanted) || folder(&entry.path) == folder(wanted))
            .map(|entry| entry.path)
            .collect();
        near.truncate(8);
        let error = Error::new(format!("the package holds no file {asked}")).at(&self.path);
        if near.is_empty() { error } else { error.help(format!("it does hold {}", near.join(", "))) }
    }

    /// Calls `visit` with each entry and its normalised path until it returns `false`.
    fn walk(&self, visit: impl FnMut(&str, &mut tar::Entry<'_, Unpacked>) -> Result<bool>) -> Result<()> {
        self.walk_member(self.data, visit)
    }

    fn walk_member(
        &self,
        member: Member,
        mut visit: impl FnMut(&str, &mut tar::Entry<'_, Unpacked>) -> Result<bool>,
    ) -> Result<()> {
        let damaged = || format!("cannot unpack the {} file tree of the package", member.packing.name());
        let mut archive = tar::Archive::new(self.unpacked(member)?);
        let entries = archive.entries().context_at(&self.path, damaged)?;
        for (count, entry) in entries.enumerate() {
            if count >= MAX_ENTRIES {
                return Err(Error::new("the package has too many entries").at(&self.path));
            }
            let mut entry = entry.context_at(&self.path, damaged)?;
            let path = normalise(&String::from_utf8_lossy(&entry.path_bytes()));
            if !visit(&path, &mut entry).map_err(|error| error.at(&self.path))? {
                break;
            }
        }
        Ok(())
    }

    fn unpacked(&self, member: Member) -> Result<Unpacked> {
        let mut file = File::open(&self.path).context_at(&self.path, || "cannot open the package")?;
        file.seek(SeekFrom::Start(member.offset)).context_at(&self.path, || "cannot read the package")?;
        let packed = BufReader::with_capacity(1 << 17, file.take(member.size));
        let unpacked: Box<dyn Read> = match member.packing {
            Packing::None => Box::new(packed),
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
            Packing::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(packed, true, MAX_DECODER_KIB)),
            Packing::Zstd => Box::new(
                ruzstd::decoding::StreamingDecoder::new_with_max_window_size(
                    packed,
                    u64::from(MAX_DECODER_KIB) << 10,
                )
                .context_at(&self.path, || "the package's zstd stream is damaged")?,
            ),
        };
        Ok(unpacked.take(MAX_UNPACKED))
    }
}

type Unpacked = Take<Box<dyn Read>>;

impl Packing {
    /// By the end of the archive's name.
    fn of(end: &str) -> Result<Self> {
        match end {
            "" => Ok(Self::None),
            ".gz" => Ok(Self::Gzip),
            ".xz" => Ok(Self::Xz),
            ".zst" => Ok(Self::Zstd),
            other => {
                Err(Error::new(format!("the package's files are packed as {other}, which is not known")))
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "plain",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }
}

/// Walks the `ar` members: where `control.tar` is, if it is there, and `data.tar`.
fn find_members(file: &mut File, length: u64) -> Result<(Option<Member>, Member)> {
    let truncated = |_| Error::new("the package is truncated").help("delete it; it will be downloaded again");
    let mut magic = [0_u8; 8];
    file.read_exact(&mut magic).map_err(truncated)?;
    if &magic != b"!<arch>\n" {
        return Err(Error::new("this is not a Debian package (no ar archive)"));
    }
    let mut offset = 8_u64;
    let (mut version_seen, mut control) = (false, None);
    while offset < length {
        file.seek(SeekFrom::Start(offset)).context(|| "cannot read the package")?;
        let mut header = [0_u8; 60];
        file.read_exact(&mut header).map_err(truncated)?;
        let (name, size, end) = (&header[..16], &header[48..58], &header[58..]);
        if end != b"`\n" {
            return Err(Error::new("the package's ar header is damaged"));
        }
        let name = String::from_utf8_lossy(name).trim_end().trim_end_matches('/').to_owned();
        let size: u64 = std::str::from_utf8(size)
            .ok()
            .and_then(|text| text.trim_end().parse().ok())
            .ok_or_else(|| Error::new("the package's ar header has no size"))?;
        let start = offset + 60;
        if size > length - start {
            return Err(truncated(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)));
        }
        if name == "debian-binary" {
            let mut version = String::new();
            file.take(size.min(16)).read_to_string(&mut version).context(|| "cannot read debian-binary")?;
            if !version.starts_with("2.") {
                return Err(Error::new(format!("the package is of format {:?}, not 2.x", version.trim())));
            }
            version_seen = true;
        } else if let Some(packing) = name.strip_prefix("control.tar") {
            // One that cannot be unpacked is no matter to who wants a file only.
            control = Packing::of(packing).ok().map(|packing| Member { offset: start, size, packing });
        } else if let Some(packing) = name.strip_prefix("data.tar") {
            let packing = Packing::of(packing)?;
            if !version_seen {
                return Err(Error::new("this is not a Debian package (no debian-binary)"));
            }
            return Ok((control, Member { offset: start, size, packing }));
        }
        offset = start + size + (size & 1);
    }
    Err(Error::new("this is not a Debian package (no data.tar)"))
}

fn read_bounded(entry: &mut tar::Entry<'_, Unpacked>, path: &str) -> Result<Vec<u8>> {
    let size = entry.size();
    if size > MAX_FILE {
        return Err(Error::new(format!(
            "{path} in the package is {size} bytes, over the limit of {MAX_FILE}"
        )));
    }
    // The size is an allegation of the archive: memory grows with what is really there.
    let mut data = Vec::with_capacity(usize::try_from(size.min(1 << 26)).unwrap_or(0));
    entry.take(MAX_FILE).read_to_end(&mut data).context(|| format!("cannot unpack {path}"))?;
    if data.len() as u64 != size {
        return Err(Error::new(format!("the package ends in the middle of {path}")));
    }
    Ok(data)
}

/// Whether two paths are one file where `/bin`, `/lib` and `/sbin` are links into `/usr`, as on every Debian since 12.
/// Packages took years to move their files there.
fn same_file(a: &str, b: &str) -> bool {
    fn short(path: &str) -> &str {
        match path.strip_prefix("/usr") {
            Some(rest) if ["/bin/", "/lib/", "/sbin/"].iter().any(|folder| rest.starts_with(folder)) => rest,
            _ => path,
        }
    }
    short(a) == short(b)
}

/// An absolute path without `.`, `..` and doubled slashes; `..` stops at the root.
pub(crate) fn normalise(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Where a symbolic link at `link` leads.
fn resolve(link: &str, target: &str) -> String {
    if target.starts_with('/') {
        return normalise(target);
    }
    let folder = link.rsplit_once('/').map_or("", |(folder, _)| folder);
    normalise(&format!("{folder}/{target}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn member(name: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes =
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, data.len()).into_bytes();
        bytes.extend_from_slice(data);
        if data.len() % 2 == 1 {
            bytes.push(b'\n');
        }
        bytes
    }

    fn tree() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |path: &str, kind: tar::EntryType, link: &str, data: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            if link.is_empty() {
                tar.append_data(&mut header, path, data).unwrap();
            } else {
                tar.append_link(&mut header, path, link).unwrap();
            }
        };
        add("./boot/", tar::EntryType::Directory, "", b"");
        add("./boot/second", tar::EntryType::Symlink, "first", b"");
        add("./boot/first", tar::EntryType::Regular, "", b"hello");
        add("./boot/third", tar::EntryType::Symlink, "/boot/second", b"");
        add("./boot/round", tar::EntryType::Symlink, "round", b"");
        add("./boot/hard", tar::EntryType::Link, "./boot/first", b"");
        tar.into_inner().unwrap()
    }

    fn package(data_name: &str, data: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = b"!<arch>\n".to_vec();
        bytes.extend(member("debian-binary", b"2.0\n"));
        bytes.extend(member("control.tar", b"odd"));
        bytes.extend(member(data_name, data));
        file.write_all(&bytes).unwrap();
        file
    }

    fn gz(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn folders_that_are_links_into_usr_are_those_in_usr() {
        for (a, b) in
            [("/usr/bin/x", "/bin/x"), ("/sbin/x", "/usr/sbin/x"), ("/lib/a/b", "/usr/lib/a/b"), ("/a", "/a")]
        {
            assert!(same_file(a, b), "{a} {b}");
        }
        for (a, b) in
            [("/usr/share/x", "/share/x"), ("/usr/binary", "/binary"), ("/bin/x", "/sbin/x"), ("/usr", "/")]
        {
            assert!(!same_file(a, b), "{a} {b}");
        }
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        tar.append_data(&mut header, "./bin/busybox", &b"old"[..]).unwrap();
        let file = package("data.tar", &tar.into_inner().unwrap());
        assert_eq!(Deb::open(file.path()).unwrap().read("/usr/bin/busybox").unwrap(), b"old");
    }

    #[test]
    fn reads_files_through_links_in_any_order() {
        for file in [package("data.tar", &tree()), package("data.tar.gz/", &gz(&tree()))] {
            let deb = Deb::open(file.path()).unwrap();
            let read = deb.read_many(&["boot/third", "./boot/first", "/boot/hard"]).unwrap();
            assert_eq!(read, [b"hello", b"hello", b"hello"]);
            let list = deb.list().unwrap();
            assert_eq!(list.len(), 6);
            assert_eq!(list[2], Entry { path: "/boot/first".into(), size: 5, kind: EntryKind::File });
        }
    }

    #[test]
    fn its_files_are_an_archive() {
        let file = package("data.tar.gz/", &gz(&tree()));
        let mut archive = Vec::new();
        Deb::open(file.path()).unwrap().unpack(&mut archive).unwrap();
        assert_eq!(archive, tree());
        let file = package("data.tar.gz/", &gz(&tree())[..100]);
        assert!(Deb::open(file.path()).unwrap().unpack(&mut Vec::new()).is_err());
    }

    #[test]
    fn a_missing_file_is_named_with_its_neighbours() {
        let file = package("data.tar", &tree());
        let report = Deb::open(file.path()).unwrap().read("/boot/fist").unwrap_err().report();
        assert!(report.contains("holds no file /boot/fist") && report.contains("/boot/first"), "{report}");
    }

    #[test]
    fn a_link_to_itself_ends() {
        let file = package("data.tar", &tree());
        let error = Deb::open(file.path()).unwrap().read("/boot/round").unwrap_err();
        assert!(error.to_string().contains("holds no file /boot/round"), "{error}");
    }

    #[test]
    fn damage_is_an_error_never_a_panic() {
        let whole = std::fs::read(package("data.tar.gz", &gz(&tree())).path()).unwrap();
        for cut in 0..whole.len() {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&whole[..cut]).unwrap();
            let result = Deb::open(file.path()).and_then(|deb| deb.read("/boot/hard"));
            // The last few bytes are tar's padding and gzip's trailer, which an early stop need not reach.
            if cut + 200 < whole.len() {
                assert!(result.is_err(), "{cut}");
            }
        }
        for junk in ["data.tar.xz", "data.tar.zst", "data.tar.bz2"] {
            let file = package(junk, b"not packed at all");
            let result = Deb::open(file.path()).and_then(|deb| deb.list());
            assert!(result.is_err(), "{junk}");
        }
    }

    #[test]
    fn paths_stay_inside() {
        assert_eq!(normalise("../../etc/./passwd"), "/etc/passwd");
        assert_eq!(resolve("/a/b", "../../../x"), "/x");
    }
}
