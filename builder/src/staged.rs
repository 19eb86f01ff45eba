//! A file that is written and has its room on the disk, and takes its name later.

use crate::error::{Error, Result, ResultExt};
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// The file under another name beside its own; removed when dropped before it was put in place.
#[derive(Debug)]
#[must_use]
pub(crate) struct Staged {
    temp: NamedTempFile,
    path: PathBuf,
}

impl Staged {
    /// What is going to be at `path`, with `data` in it.
    ///
    /// # Errors
    ///
    /// What cannot be written.
    pub(crate) fn new(path: &Path, data: &[u8]) -> Result<Self> {
        Self::by(path, |mut file| file.write_all(data).context_at(path, || "cannot write the file"))
    }

    /// The same with what `write` writes.
    pub(crate) fn by(path: &Path, write: impl FnOnce(&File) -> Result<()>) -> Result<Self> {
        let dir = path.parent().ok_or_else(|| Error::new("this is not a file's path").at(path))?;
        fs::create_dir_all(dir).context_at(dir, || "cannot make the folder")?;
        // As public as the user's umask lets any file be; a temporary file is its owner's alone otherwise.
        let temp = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(dir)
            .context_at(dir, || "cannot make a file in the folder")?;
        write(temp.as_file())?;
        let staged = Self { temp, path: path.to_owned() };
        staged.sync()?;
        Ok(staged)
    }

    /// Has other bytes in it, in the room of those that it has.
    ///
    /// # Errors
    ///
    /// What cannot be written.
    pub(crate) fn rewrite(&mut self, data: &[u8]) -> Result<()> {
        let file = self.temp.as_file_mut();
        let written = file.rewind().and_then(|()| file.write_all(data));
        written
            .and_then(|()| file.set_len(data.len() as u64))
            .context_at(&self.path, || "cannot write the file")?;
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        self.temp.as_file().sync_data().context_at(&self.path, || "cannot write the file")
    }

    /// Puts it in place of what is there.
    ///
    /// # Errors
    ///
    /// A folder that cannot be written to; the old file is then as it was.
    pub(crate) fn put(self) -> Result<()> {
        let put = self.temp.persist(&self.path).map_err(|error| error.error);
        put.context_at(&self.path, || "cannot replace the file").map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_not_there_before_it_is_put() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let mut staged = Staged::new(&path, b"longer").unwrap();
        assert!(!path.exists());
        staged.rewrite(b"text").unwrap();
        staged.put().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"text");
        drop(Staged::new(&path, b"other").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"text");
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 1, "nothing is left");
    }
}
