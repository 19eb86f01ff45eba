//! Locks that keep two builds of one image apart.

use crate::error::{Error, Result, ResultExt};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The right to make, or to remove, one image; given back when dropped.
///
/// It is a lock on the file `.NAME.lock` beside the image, which the system gives back for a process that is killed:
/// a file that was left behind locks nobody out.
#[derive(Debug)]
pub(crate) struct ImageLock {
    /// Closing it unlocks.
    _file: File,
    path: PathBuf,
}

impl ImageLock {
    /// Takes the lock of the image at `image`, and makes the folder it lies in.
    ///
    /// # Errors
    ///
    /// Another process has it, or the folder cannot be written to.
    pub(crate) fn take(image: &Path) -> Result<Self> {
        let folder = match image.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(folder).context_at(folder, || "cannot make the folder for the image")?;
        let path = hidden(image, "lock")?;
        Ok(Self { _file: open_locked(&path, || busy(image))?, path })
    }
}

impl Drop for ImageLock {
    fn drop(&mut self) {
        // Removed while it is still locked: whoever has opened it meanwhile sees that it is not there any more.
        let _ = fs::remove_file(&self.path);
    }
}

/// `.NAME.EXTENSION` beside the file `path`.
pub(crate) fn hidden(path: &Path, extension: &str) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| Error::new("this is not the name of a file").at(path))?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".");
    hidden.push(extension);
    Ok(path.with_file_name(hidden))
}

/// What is said where another build has the image.
pub(crate) fn busy(image: &Path) -> Error {
    Error::new("another build is writing this image")
        .at(image)
        .help("wait for it to end, or name another folder with --out")
}

/// Opens the file `path` for reading and writing, makes it if need be, and locks it.
///
/// # Errors
///
/// Another process has it locked, which `busy` words, or it cannot be made.
pub(crate) fn open_locked(path: &Path, busy: impl Fn() -> Error) -> Result<File> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .context_at(path, || "cannot make the file")?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(busy()),
            Err(TryLockError::Error(error)) => {
                return Err(error).context_at(path, || "cannot lock the file");
            }
        }
        // Between opening and locking, whoever had the lock may have removed or renamed this very file.
        let ours = file.metadata().context_at(path, || "cannot look at the file")?;
        match fs::metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => return Ok(file),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_the_lock_and_the_next_gets_it_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("board/x.img");
        let lock = ImageLock::take(&image).unwrap();
        let said = ImageLock::take(&image).unwrap_err().report();
        assert!(said.contains("x.img: another build is writing this image"), "{said}");
        // Another image is another matter.
        drop(ImageLock::take(&dir.path().join("board/y.img")).unwrap());
        drop(lock);
        drop(ImageLock::take(&image).unwrap());
        assert_eq!(fs::read_dir(dir.path().join("board")).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn what_a_killed_build_left_locks_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("x.img");
        fs::write(dir.path().join(".x.img.lock"), "").unwrap();
        assert!(ImageLock::take(&image).is_ok());
    }
}
