//! Where the bytes of files lie: in memory, or in a file of this machine that is opened when they are first wanted.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::cache::Stamp;

/// Something with bytes at offsets. Copies of it are the same thing.
#[derive(Clone, Debug)]
pub enum Source {
    /// Bytes in memory.
    Memory(Arc<[u8]>),
    /// A file.
    File(Arc<Store>),
}

/// A file that contents are read from.
pub struct Store {
    path: PathBuf,
    /// An archive with the contents of many files stays open; a file of a folder is opened each time, for there may be
    /// more of those than a process may have open.
    held: Option<OnceLock<File>>,
    /// How the file looked when it was found; what has changed since is refused.
    stamp: Option<Stamp>,
}

/// An opened [`Source`].
#[derive(Debug)]
pub(super) enum Opened<'a> {
    Memory(&'a [u8]),
    Held(&'a File, &'a Path),
    Own(File, &'a Path),
}

impl Source {
    /// The archive at `path`, which is opened when it is first read and stays open.
    #[must_use]
    pub fn archive(path: &Path) -> Self {
        Self::File(Arc::new(Store { path: path.to_owned(), held: Some(OnceLock::new()), stamp: None }))
    }

    /// A file that is open; `path` is its name in errors.
    #[must_use]
    pub fn opened(file: File, path: &Path) -> Self {
        let held = OnceLock::from(file);
        Self::File(Arc::new(Store { path: path.to_owned(), held: Some(held), stamp: None }))
    }

    /// A file by itself, opened each time that it is read. It must look as `stamp` says.
    #[must_use]
    pub fn loose(path: PathBuf, stamp: Stamp) -> Self {
        Self::File(Arc::new(Store { path, held: None, stamp: Some(stamp) }))
    }

    /// Bytes that are there.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn length(&self) -> io::Result<u64> {
        match self.open()? {
            Opened::Memory(bytes) => Ok(bytes.len() as u64),
            Opened::Held(file, path) => file.metadata().map(|meta| meta.len()).map_err(named(path)),
            Opened::Own(file, path) => file.metadata().map(|meta| meta.len()).map_err(named(path)),
        }
    }

    /// Fills `into` from byte `offset` on.
    ///
    /// # Errors
    /// A file that cannot be read, and a source that ends before that.
    pub fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.open()?.read_at(into, offset)
    }

    pub(super) fn open(&self) -> io::Result<Opened<'_>> {
        match self {
            Self::Memory(bytes) => Ok(Opened::Memory(bytes)),
            Self::File(store) => store.open(),
        }
    }

    /// Whether both are one thing.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Memory(a), Self::Memory(b)) => Arc::ptr_eq(a, b),
            (Self::File(a), Self::File(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Store {
    fn open(&self) -> io::Result<Opened<'_>> {
        let open = || File::open(&self.path).map_err(named(&self.path));
        let Some(held) = &self.held else {
            let file = open()?;
            let looks = file.metadata().map(|meta| Stamp::from_metadata(&meta)).map_err(named(&self.path))?;
            if self.stamp.as_ref().is_some_and(|stamp| *stamp != looks) {
                return Err(told(&self.path, ErrorKind::Other, "has changed while it was being read"));
            }
            return Ok(Opened::Own(file, &self.path));
        };
        if let Some(file) = held.get() {
            return Ok(Opened::Held(file, &self.path));
        }
        let file = open()?;
        Ok(Opened::Held(held.get_or_init(|| file), &self.path))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

impl Opened<'_> {
    pub(super) fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let (file, path): (&File, &Path) = match self {
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).ok();
                let there = start.and_then(|start| bytes.get(start..)?.get(..into.len()));
                into.copy_from_slice(there.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?);
                return Ok(());
            }
            Self::Held(file, path) => (file, path),
            Self::Own(file, path) => (file, path),
        };
        file.read_exact_at(into, offset).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => told(path, ErrorKind::UnexpectedEof, "is shorter than it was"),
            _ => named(path)(error),
        })
    }
}

fn told(path: &Path, kind: ErrorKind, what: &str) -> io::Error {
    io::Error::new(kind, format!("{} {what}", path.display()))
}

/// Says which file it was.
fn named(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_opened_late_and_one_that_changes_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let late = Source::archive(&path);
        assert!(late.length().unwrap_err().to_string().contains("/a: "));
        std::fs::write(&path, b"hello").unwrap();
        assert_eq!(late.length().unwrap(), 5);
        let mut two = [0; 2];
        late.read_at(&mut two, 3).unwrap();
        assert_eq!(&two, b"lo");
        assert_eq!(late.read_at(&mut two, 4).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert!(Source::Memory(b"hello"[..].into()).read_at(&mut two, u64::MAX).is_err());
        let loose = Source::loose(path.clone(), Stamp::of(&path).unwrap());
        loose.read_at(&mut two, 0).unwrap();
        std::fs::write(&path, b"hello!").unwrap();
        assert!(loose.read_at(&mut two, 0).unwrap_err().to_string().contains("has changed"));
    }
}
