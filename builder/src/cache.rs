//! The cache: artifacts under the hash of their inputs, content hashes of files that have not changed, and which
//! version of each package is in use.

use crate::apt::Package;
use crate::error::{Error, Result, ResultExt};
use crate::pins::Pins;
use crate::staged::Staged;
use crate::tree::{Data, Looks, Owners, Source, Tree, look_at_folder, read_and_look, read_file};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The cache's folder and what is remembered in it. It may be used from several threads.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    hashes: Mutex<Remembered<BTreeMap<String, Stamped>>>,
    folders: Mutex<Remembered<BTreeMap<String, Folder>>>,
    /// The hashes of folders that this process has looked at: what changes while it runs is the next one's matter.
    looked: Mutex<BTreeMap<String, String>>,
    /// A folder that was read before it was asked for, under the key of its hash.
    ahead: Mutex<Option<(String, Tree)>>,
    pins: Mutex<Remembered<Pins>>,
    keeper: Keeper,
}

/// The file in the cache with this machine's pins.
pub(crate) const PINS: &str = "pins.json";

/// The files in the cache with the hashes of files and folders.
pub(crate) const FILES: &str = "files.json";
pub(crate) const FOLDERS: &str = "folders.json";

/// Who keeps the pins in use.
#[derive(Debug)]
enum Keeper {
    /// This machine. What is not pinned yet is looked up.
    Machine,
    /// This lock file, and nothing is used that it does not pin.
    LockFile(PathBuf),
    /// Nobody: they are looked up anew, and forgotten.
    Nobody,
}

/// Something kept in a file, and whether it has changed since it was read.
#[derive(Debug)]
struct Remembered<T> {
    path: PathBuf,
    items: T,
    changed: bool,
}

/// A file's content hash, and how the file looked then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamped {
    stamp: Stamp,
    sha256: String,
}

/// A folder's content hash, and how everything in it looked then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Folder {
    looks: String,
    sha256: String,
}

/// How a file looks from outside. As long as this stays, so does the content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
    device: u64,
}

impl Stamp {
    /// The stamp of the file at `path`.
    ///
    /// # Errors
    ///
    /// A file that cannot be looked at.
    pub fn of(path: &Path) -> Result<Self> {
        Ok(Self::from_metadata(&fs::metadata(path).context_at(path, || "cannot look at the file")?))
    }

    /// Bytes that the file has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the file was last written to a while ago: one that changes within a tick of its file system's clock looks the
    /// same afterwards.
    pub(crate) fn is_settled(&self) -> bool {
        seconds_now().is_some_and(|now| now - self.modified.0 > 2)
    }

    /// All of it, for a hash.
    pub(crate) fn bytes(&self) -> [u8; 56] {
        let fields = [
            self.size,
            self.modified.0.cast_unsigned(),
            self.modified.1.cast_unsigned(),
            self.changed.0.cast_unsigned(),
            self.changed.1.cast_unsigned(),
            self.inode,
            self.device,
        ];
        let mut bytes = [0; 56];
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn from_metadata(meta: &Metadata) -> Self {
        Self {
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
            device: meta.dev(),
        }
    }
}

/// An artifact in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The SHA-256 of the content, in hexadecimal.
    pub sha256: String,
    /// The size in bytes.
    pub size: u64,
    /// Where it came from, in words.
    pub from: String,
}

impl Cache {
    /// Opens the cache in `dir`, or in `$VAMBRACE_CACHE`, `$XDG_CACHE_HOME/vambrace` or `~/.cache/vambrace`. Nothing is
    /// written yet.
    ///
    /// # Errors
    ///
    /// No home to be found.
    pub fn open(dir: Option<&Path>) -> Result<Self> {
        let dir = Self::place(dir)?;
        let hashes = Mutex::new(Remembered::load(dir.join(FILES)));
        let folders = Mutex::new(Remembered::load(dir.join(FOLDERS)));
        let pins = Mutex::new(Remembered::load(dir.join(PINS)));
        Ok(Self {
            dir,
            hashes,
            folders,
            looked: Mutex::default(),
            ahead: Mutex::default(),
            pins,
            keeper: Keeper::Machine,
        })
    }

    /// The folder that [`Cache::open`] opens.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) fn place(dir: Option<&Path>) -> Result<PathBuf> {
        let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let dir = dir
            .map(Path::to_path_buf)
            .or_else(|| of("VAMBRACE_CACHE"))
            .or_else(|| of("XDG_CACHE_HOME").map(|dir| dir.join("vambrace")))
            .or_else(|| of("HOME").map(|home| home.join(".cache/vambrace")))
            .ok_or_else(|| {
                Error::new("there is no home folder to keep the cache in")
                    .help("name a folder with VAMBRACE_CACHE")
            })?;
        // Processes that are started elsewhere get paths into the cache.
        std::path::absolute(&dir).context_at(&dir, || "cannot find the cache")
    }

    /// The same cache with the pins of `file` in place of this machine's, which are neither used nor changed.
    #[must_use]
    pub fn pinned_by(mut self, file: &Path, pins: Pins) -> Self {
        self.keeper = Keeper::LockFile(file.to_path_buf());
        lock(&self.pins).items = pins;
        self
    }

    /// The same cache without any pins, to find out what the archive has now; they are not kept.
    ///
    /// # Errors
    ///
    /// As [`Cache::open`].
    pub fn unpinned(&self) -> Result<Self> {
        let mut other = Self::open(Some(&self.dir))?;
        other.keeper = Keeper::Nobody;
        lock(&other.pins).items = Pins::default();
        Ok(other)
    }

    /// The lock file that says which packages are used, if it is one.
    pub fn lock_file(&self) -> Option<&Path> {
        match &self.keeper {
            Keeper::LockFile(path) => Some(path),
            Keeper::Machine | Keeper::Nobody => None,
        }
    }

    /// The cache's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A folder in the cache for one purpose.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The SHA-256 of the file at `path`, read only if it looks different from when it was read last.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn hash_file(&self, path: &Path) -> Result<String> {
        let path = std::path::absolute(path).context_at(path, || "cannot find the file")?;
        let stamp = Stamp::of(&path)?;
        let key = path.to_string_lossy().into_owned();
        let known = lock(&self.hashes).items.get(&key).filter(|known| known.stamp == stamp).cloned();
        if let Some(known) = known {
            return Ok(known.sha256);
        }
        let sha256 = hash_reader(File::open(&path).context_at(&path, || "cannot open the file")?)
            .context_at(&path, || "cannot read the file")?;
        if stamp.is_settled() && path.to_str().is_some() && Stamp::of(&path)? == stamp {
            let mut hashes = lock(&self.hashes);
            hashes.items.insert(key, Stamped { stamp, sha256: sha256.clone() });
            hashes.changed = true;
        }
        Ok(sha256)
    }

    /// What the file at `path` holds, which is read when it is wanted, and the SHA-256 of it.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn contents(&self, path: &Path) -> Result<(Data, String)> {
        // Looked at first: what is changed later is refused when it is read.
        let (data, _) = read_file(path)?;
        Ok((data, self.hash_file(path)?))
    }

    /// A hash of what the file or the folder at `path` holds, as [`Cache::hash_file`] or [`Cache::hash_folder`] gives it.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub fn hash_path(&self, path: &Path, owners: Owners) -> Result<String> {
        if path.is_dir() { self.hash_folder(path, owners) } else { self.hash_file(path) }
    }

    /// A hash of everything in the folder at `path`, its files read only if something looks different from when it was read
    /// last.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub fn hash_folder(&self, path: &Path, owners: Owners) -> Result<String> {
        let (path, key) = Self::folder_key(path, owners)?;
        if let Some(sha256) = lock(&self.looked).get(&key) {
            return Ok(sha256.clone());
        }
        let looks = look_at_folder(&path)?;
        match self.known_folder(&key, &looks) {
            Some(known) => Ok(self.note_folder(&path, key, looks, known)),
            None => self.read_folder(&path, owners).map(|(_, sha256)| sha256),
        }
    }

    /// Everything in the folder at `path`, and the hash that [`Cache::hash_folder`] gives of it from here on.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub fn read_folder(&self, path: &Path, owners: Owners) -> Result<(Tree, String)> {
        let (path, key) = Self::folder_key(path, owners)?;
        let ahead = lock(&self.ahead).take_if(|(of, _)| *of == key);
        if let (Some((_, tree)), Some(sha256)) = (ahead, lock(&self.looked).get(&key)) {
            return Ok((tree, sha256.clone()));
        }
        let (tree, looks) = read_and_look(&path, owners)?;
        let sha256 = self.known_folder(&key, &looks).map_or_else(|| tree.digest(), Ok)?;
        let sha256 = self.note_folder(&path, key, looks, sha256);
        Ok((tree, sha256))
    }

    /// Reads the folder at `path` for the first who asks [`Cache::read_folder`] for it, who has to want it as it is now.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub(crate) fn read_ahead(&self, path: &Path, owners: Owners) -> Result<()> {
        let (tree, _) = self.read_folder(path, owners)?;
        let (_, key) = Self::folder_key(path, owners)?;
        *lock(&self.ahead) = Some((key, tree));
        Ok(())
    }

    /// The folder's path from the root on, and what is known of it under which key.
    fn folder_key(path: &Path, owners: Owners) -> Result<(PathBuf, String)> {
        let path = std::path::absolute(path).context_at(path, || "cannot find the folder")?;
        let key = format!("{owners:?} {}", path.to_string_lossy());
        Ok((path, key))
    }

    /// The hash of the folder that looked like this before.
    fn known_folder(&self, key: &str, looks: &Looks) -> Option<String> {
        let folders = lock(&self.folders);
        folders.items.get(key).filter(|known| known.looks == looks.sha256).map(|known| known.sha256.clone())
    }

    fn note_folder(&self, path: &Path, key: String, looks: Looks, sha256: String) -> String {
        // What was changed while it was read is read again by the next one who asks.
        if looks.settled && path.to_str().is_some() {
            let mut folders = lock(&self.folders);
            let folder = Folder { looks: looks.sha256, sha256: sha256.clone() };
            folders.changed |= folders.items.insert(key.clone(), folder.clone()) != Some(folder);
        }
        lock(&self.looked).insert(key, sha256.clone());
        sha256
    }

    /// From here on folders count as they are now.
    pub(crate) fn look_again(&self) {
        lock(&self.looked).clear();
        *lock(&self.ahead) = None;
    }

    /// The package that is in use under this name, if one is.
    pub fn package(&self, suite: &str, arch: &str, name: &str) -> Option<Package> {
        lock(&self.pins).items.package(suite, arch, name).cloned()
    }

    /// Remembers that `package` is what `name` stands for.
    pub fn set_package(&self, suite: &str, arch: &str, name: &str, package: Package) {
        let mut pins = lock(&self.pins);
        pins.items.set_package(suite, arch, name, package);
        pins.changed = true;
    }

    /// The names of everything that is installed where `wanted` is asked for, if that is known.
    pub fn installed(&self, suite: &str, arch: &str, wanted: &[String]) -> Option<Vec<String>> {
        lock(&self.pins).items.installed(suite, arch, wanted).map(<[String]>::to_vec)
    }

    /// Remembers that `packages` are installed where `wanted` is asked for.
    pub fn set_installed(&self, suite: &str, arch: &str, wanted: &[String], packages: Vec<Package>) {
        let mut pins = lock(&self.pins);
        let names = packages.iter().map(|package| package.name.clone()).collect();
        for package in packages {
            pins.items.set_package(suite, arch, &package.name.clone(), package);
        }
        pins.items.set_installed(suite, arch, wanted, names);
        pins.changed = true;
    }

    /// All pins in use.
    pub fn pins(&self) -> Pins {
        lock(&self.pins).items.clone()
    }

    /// Puts `new` in place of all pins in use. Those of a lock file are not written by this.
    pub fn set_pins(&self, new: Pins) {
        let mut pins = lock(&self.pins);
        pins.items = new;
        pins.changed = true;
    }

    /// What is known of the artifact of this `kind` made from inputs with the hash `key`, without reading it.
    pub fn peek(&self, kind: &str, key: &str) -> Option<Stored> {
        let (data, meta) = self.paths(kind, key);
        let stored: Stored = read_json(&meta)?;
        (fs::metadata(data).ok()?.len() == stored.size).then_some(stored)
    }

    /// The artifact of this `kind` made from inputs with the hash `key`, which is read when it is wanted. One that was
    /// damaged counts as not there.
    pub fn lookup(&self, kind: &str, key: &str) -> Option<(Data, Stored)> {
        let stored = self.peek(kind, key)?;
        let path = self.path(kind, key);
        // Another process may put the same in its place at any time: what is hashed is what will be read.
        let file = File::open(&path).ok()?;
        let sha256 = hash_reader(&file).ok()?;
        let data = Data::of(&Source::opened(file, &path), 0, stored.size);
        (sha256 == stored.sha256).then_some((data, stored))
    }

    /// The file of the artifact of this `kind` made from inputs with the hash `key`, for what is too large for memory.
    /// One that was damaged counts as not there.
    pub fn lookup_file(&self, kind: &str, key: &str) -> Option<(PathBuf, Stored)> {
        let stored = self.peek(kind, key)?;
        let path = self.path(kind, key);
        let sha256 = hash_reader(File::open(&path).ok()?).ok()?;
        (sha256 == stored.sha256).then_some((path, stored))
    }

    /// Keeps what `write` writes as the artifact of this `kind` made from inputs with the hash `key`.
    ///
    /// # Errors
    ///
    /// What cannot be written, and whatever `write` says; there is then no artifact.
    pub fn store_with(
        &self,
        kind: &str,
        key: &str,
        from: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<Stored> {
        let (path, meta) = self.paths(kind, key);
        let mut stored = Stored { sha256: String::new(), size: 0, from: from.to_owned() };
        Staged::by(&path, |file| {
            let mut hashed =
                Hashed { to: BufWriter::with_capacity(1 << 17, file), hash: Sha256::new(), size: 0 };
            write(&mut hashed)?;
            hashed.to.flush().context_at(&path, || "cannot write the file")?;
            (stored.sha256, stored.size) = (hex(&hashed.hash.finalize()), hashed.size);
            Ok(())
        })?
        .put()?;
        replace_file(&meta, &to_json(&stored)?)?;
        Ok(stored)
    }

    /// The file of an artifact.
    pub fn path(&self, kind: &str, key: &str) -> PathBuf {
        self.paths(kind, key).0
    }

    /// Keeps `data` as the artifact of this `kind` made from inputs with the hash `key`.
    ///
    /// # Errors
    ///
    /// What cannot be written; there is then no artifact.
    pub fn store(&self, kind: &str, key: &str, data: &[u8], from: &str) -> Result<Stored> {
        let (path, meta) = self.paths(kind, key);
        let stored = Stored { sha256: sha256(data), size: data.len() as u64, from: from.to_owned() };
        replace_file(&path, data)?;
        // The description is written last: what it describes is there.
        replace_file(&meta, &to_json(&stored)?)?;
        Ok(stored)
    }

    /// Writes down what has been learned. Not being able to is no reason to fail: it is then learned again.
    pub fn save(&self) {
        lock(&self.hashes).save();
        lock(&self.folders).save();
        if matches!(self.keeper, Keeper::Machine) {
            lock(&self.pins).save();
        }
    }

    fn paths(&self, kind: &str, key: &str) -> (PathBuf, PathBuf) {
        let dir = self.dir.join("artifacts").join(kind);
        (dir.join(key), dir.join(format!("{key}.json")))
    }
}

impl<T: Default + DeserializeOwned + Serialize> Remembered<T> {
    /// A file that is not there, or is damaged, remembers nothing.
    fn load(path: PathBuf) -> Self {
        let items = read_json(&path).unwrap_or_default();
        Self { path, items, changed: false }
    }

    fn save(&mut self) {
        if self.changed
            && let Ok(text) = to_json(&self.items)
            && replace_file(&self.path, &text).is_ok()
        {
            self.changed = false;
        }
    }
}

/// What a thread that panicked has left is still whole: every change is one insertion.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Seconds since 1970 began.
pub(crate) fn seconds_now() -> Option<i64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(now.as_secs()).ok()
}

/// Reads a JSON file; `None` if it is not there or not what was expected.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// The JSON of `value`, with a line end.
///
/// # Errors
///
/// A value that JSON has no form for.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).context(|| "cannot write this as JSON")?;
    text.push(b'\n');
    Ok(text)
}

/// Writes `data` to `path` so that there is either the old file or the whole new one, whatever happens.
///
/// # Errors
///
/// What cannot be written; the old file is then as it was.
pub(crate) fn replace_file(path: &Path, data: &[u8]) -> Result<()> {
    Staged::new(path, data)?.put()
}

/// Takes the hash of what is written.
struct Hashed<W> {
    to: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// The SHA-256 of `data`, in hexadecimal.
pub fn sha256(data: &[u8]) -> String {
    hex(&Sha256::digest(data))
}

/// The SHA-256 of everything `reader` gives, in hexadecimal.
pub(crate) fn hash_reader(reader: impl Read) -> std::io::Result<String> {
    digest(reader, &mut vec![0; 1 << 17]).map(|digest| hex(&digest))
}

/// The SHA-256 of everything `reader` gives, as it is read with the help of `buffer`.
pub(crate) fn digest(mut reader: impl Read, buffer: &mut [u8]) -> std::io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    loop {
        let count = reader.read(buffer)?;
        if count == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(buffer.get(..count).unwrap_or_default());
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hash of a list of inputs: each has a name and a value, so that no two lists run together.
#[derive(Debug, Default)]
pub struct Inputs(Sha256);

impl Inputs {
    /// The inputs of something of this kind; `version` changes when it is made differently from the same inputs.
    pub fn new(kind: &str, version: u32) -> Self {
        let mut inputs = Self::default();
        inputs.add(kind, version.to_string());
        inputs
    }

    /// Adds an input.
    pub fn add(&mut self, name: &str, value: impl AsRef<[u8]>) {
        for part in [name.as_bytes(), value.as_ref()] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    /// The hash, in hexadecimal.
    pub fn key(self) -> String {
        hex(&self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(dir.path())).unwrap();
        (dir, cache)
    }

    #[test]
    fn an_artifact_comes_back_and_a_damaged_one_does_not() {
        let (_dir, cache) = cache();
        assert!(cache.lookup("kernel", "k").is_none());
        let stored = cache.store("kernel", "k", b"data", "a test").unwrap();
        let (data, found) = cache.lookup("kernel", "k").unwrap();
        assert_eq!((data.bytes(4).unwrap(), found), (b"data".to_vec(), stored));
        let streamed = cache.store_with("tree", "k", "a test", |to| {
            to.write_all(b"da").and_then(|()| to.write_all(b"ta")).context(|| "no")
        });
        assert_eq!(streamed.unwrap(), cache.peek("kernel", "k").unwrap());
        assert_eq!(fs::read(cache.lookup_file("tree", "k").unwrap().0).unwrap(), b"data");
        assert!(cache.store_with("tree", "no", "a test", |_| Err(Error::new("no"))).is_err());
        assert_eq!(cache.peek("tree", "no"), None);
        fs::write(cache.path("tree", "k"), b"dat!").unwrap();
        assert_eq!(cache.lookup_file("tree", "k"), None);
        fs::write(cache.path("kernel", "k"), b"dat!").unwrap();
        assert!(cache.lookup("kernel", "k").is_none());
        fs::write(cache.path("kernel", "k"), b"short").unwrap();
        assert_eq!(cache.peek("kernel", "k"), None);
    }

    #[test]
    fn a_changed_file_has_another_hash() {
        let (dir, cache) = cache();
        let path = dir.path().join("file");
        fs::write(&path, "one").unwrap();
        assert_eq!(cache.hash_file(&path).unwrap(), sha256(b"one"));
        fs::write(&path, "two").unwrap();
        assert_eq!(cache.hash_file(&path).unwrap(), sha256(b"two"));
        assert!(cache.hash_file(&dir.path().join("none")).is_err());
    }

    #[test]
    fn a_settled_file_is_remembered_until_it_looks_different() {
        let (dir, cache) = cache();
        let path = dir.path().join("file");
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
        fs::write(&path, "one").unwrap();
        File::options().append(true).open(&path).unwrap().set_modified(old).unwrap();
        cache.hash_file(&path).unwrap();
        cache.save();
        let again = Cache::open(Some(dir.path())).unwrap();
        assert_eq!(lock(&again.hashes).items.len(), 1);
        assert_eq!(again.hash_file(&path).unwrap(), sha256(b"one"));
        fs::write(&path, "two").unwrap();
        File::options().append(true).open(&path).unwrap().set_modified(old).unwrap();
        assert_eq!(again.hash_file(&path).unwrap(), sha256(b"two"));
    }

    #[test]
    fn damaged_lists_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(PINS), "{\"package\": 3").unwrap();
        let cache = Cache::open(Some(dir.path())).unwrap();
        assert_eq!(cache.package("s", "a", "n"), None);
    }

    #[test]
    fn a_lock_files_pins_take_the_place_of_the_machines() {
        let (dir, cache) = cache();
        let package = crate::pins::tests::package("adduser", "1");
        cache.set_package("s", "a", "adduser", package.clone());
        cache.save();
        let open = || Cache::open(Some(dir.path())).unwrap();
        assert_eq!(open().package("s", "a", "adduser"), Some(package.clone()));

        let file = dir.path().join("x.lock");
        let pinned = open().pinned_by(&file, Pins::default());
        assert_eq!((pinned.package("s", "a", "adduser"), pinned.lock_file()), (None, Some(&*file)));
        for other in [pinned, open().unpinned().unwrap()] {
            other.set_package("t", "a", "adduser", package.clone());
            other.save();
        }
        assert_eq!(open().package("t", "a", "adduser"), None, "nothing of it is kept for the machine");
        assert_eq!(open().package("s", "a", "adduser"), Some(package));
    }

    #[test]
    fn inputs_do_not_run_together() {
        let key = |pairs: &[(&str, &str)]| {
            let mut inputs = Inputs::new("test", 1);
            pairs.iter().for_each(|(name, value)| inputs.add(name, value));
            inputs.key()
        };
        assert_ne!(key(&[("a", "bc")]), key(&[("ab", "c")]));
        assert_ne!(key(&[("a", "b"), ("c", "d")]), key(&[("a", "bc"), ("", "d")]));
        assert_eq!(key(&[("a", "b")]), key(&[("a", "b")]));
    }

    #[test]
    fn replacing_keeps_the_old_file_when_it_cannot_be_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("folder/file");
        fs::create_dir_all(path.join("in-the-way")).unwrap();
        assert!(replace_file(&path, b"x").is_err());
        assert!(path.join("in-the-way").is_dir());
        assert_eq!(fs::read_dir(dir.path().join("folder")).unwrap().count(), 1, "no temporary file is left");
    }
}
