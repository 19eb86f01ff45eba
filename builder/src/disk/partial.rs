//! A file that takes its name only when it is whole.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::ioctl_ficlone;

use crate::error::{Error, Result, ResultExt};
use crate::lock::{busy, hidden, open_locked};

/// What the temporary name of a file ends with.
pub(crate) const PARTIAL: &str = "partial";

/// The file under its temporary name, `.NAME.partial`; removed when dropped before it was kept.
///
/// The name is fixed, so that what a killed build leaves is taken over by the next one and never piles up; a lock on
/// the file keeps two builds apart.
#[derive(Debug)]
pub(crate) struct Partial {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    kept: bool,
}

impl Partial {
    /// Creates the temporary file for `path`, and the folder that it lies in.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Err(Error::new("there is a folder of that name").at(path));
        }
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(folder).context_at(folder, || "cannot make the folder for the image")?;
        let temporary = hidden(path, PARTIAL)?;
        let file = open_locked(&temporary, || busy(path))?;
        // Linux takes a file that is emptied for one that is saved anew, and writes all of it to the medium when whoever opens
        // it next closes it: the one that reads the image back would wait for that.
        let failed = || "cannot empty the image of a build that was killed";
        if file.metadata().context_at(&temporary, failed)?.len() > 0 {
            file.set_len(0).context_at(&temporary, failed)?;
        }
        Ok(Self { file, temporary, path: path.to_owned(), kept: false })
    }

    /// The same with what the file at `path` holds now, which shares its room on the disk until either is written to; `None`
    /// where the file system cannot do that.
    pub(crate) fn cloned(path: &Path) -> Result<Option<Self>> {
        let partial = Self::create(path)?;
        let from = File::open(path).context_at(path, || "cannot open the image")?;
        Ok(ioctl_ficlone(&partial.file, &from).is_ok().then_some(partial))
    }

    /// The file at `from` itself, which has its name no more.
    pub(crate) fn taken(path: &Path, from: &Path) -> Result<Self> {
        let temporary = hidden(path, PARTIAL)?;
        let file = open_locked(from, || busy(path))?;
        fs::rename(from, &temporary).context_at(from, || "cannot rename the file")?;
        Ok(Self { file, temporary, path: path.to_owned(), kept: false })
    }

    /// The open file, for reading and writing.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The name that it is going to have.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The name that it has until then.
    pub(crate) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Brings what has been written onto the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_all().context_at(&self.path, || "cannot bring the image onto the disk")
    }

    /// Gives the file its name in place of what had it before, and brings that onto the disk.
    pub(crate) fn keep(self) -> Result<()> {
        let (from, to) = (self.temporary.clone(), self.path.clone());
        self.keep_by(|| fs::rename(&from, &to).context_at(&to, || "cannot put the new image in place"))
    }

    /// The same, where `rename` is what gives the file its name.
    pub(crate) fn keep_by(mut self, rename: impl FnOnce() -> Result<()>) -> Result<()> {
        rename()?;
        self.kept = true;
        // Without this a power cut may bring the old image back; that is no fault of the new one, so it is not an error.
        if let Some(Ok(folder)) = self.temporary.parent().map(File::open) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing more can be done about a file that cannot be removed; the next build takes it over.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
