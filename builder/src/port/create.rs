//! A new board's folder: description and device tree, whole or not at all.

use super::describe::Description;
use crate::error::{Error, Result, ResultExt};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Writes the folder of the board `id` into `dir`, which is made if it is missing: `board.toml`, and the device tree
/// `blob` under the name that the description gives it. Gives the folder's path.
///
/// The folder takes its name when all in it is on the disk, and only if nothing has that name.
///
/// # Errors
///
/// Something of that name is there already, and what the file system refuses.
pub fn create(dir: &Path, id: &str, description: &Description, blob: &[u8]) -> Result<PathBuf> {
    let folder = dir.join(id);
    // The last step would fail as well; this saves the work and serves file systems that cannot say why.
    if fs::symlink_metadata(&folder).is_ok() {
        return Err(taken(&folder));
    }
    fs::create_dir_all(dir).context_at(dir, || "cannot make the folder for the board")?;
    let temporary = tempfile::Builder::new()
        .prefix(&format!(".{id}."))
        .tempdir_in(dir)
        .context_at(dir, || "cannot make a folder for the board")?;
    for (name, content) in
        [("board.toml", description.text.as_bytes()), (description.tree_file.as_str(), blob)]
    {
        let path = temporary.path().join(name);
        let write = || -> std::io::Result<()> {
            let mut file = File::create_new(&path)?;
            file.write_all(content)?;
            file.sync_all()
        };
        write().context_at(&path, || "cannot write the file")?;
    }
    // Temporary folders are private; a board's is as any other.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(temporary.path(), mode)
        .context_at(temporary.path(), || "cannot open the folder to others")?;
    place(temporary.path(), &folder)?;
    // What it held has another name by now.
    let _ = temporary.keep();
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .context_at(dir, || "cannot bring the folder to the disk")?;
    Ok(folder)
}

/// Gives `from` the name `to`, in one step, and only if that is free.
fn place(from: &Path, to: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(error) => match std::io::Error::from(error) {
            error if error.kind() == ErrorKind::AlreadyExists => Err(taken(to)),
            error => Err(error).context_at(to, || "cannot give the board's folder its name"),
        },
    }
}

fn taken(folder: &Path) -> Error {
    Error::new("there is something of this name already; nothing was changed")
        .at(folder)
        .help("choose another name, or remove it first")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        Description { text: "id = \"x\"\n".to_owned(), tree_file: "x.dtb".to_owned() }
    }

    #[test]
    fn the_folder_is_there_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = create(&dir.path().join("deep/boards"), "x", &description(), b"tree").unwrap();
        assert_eq!(fs::read(folder.join("x.dtb")).unwrap(), b"tree");
        assert_eq!(fs::read_to_string(folder.join("board.toml")).unwrap(), "id = \"x\"\n");
        let left: Vec<_> = fs::read_dir(folder.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "no temporary folder stays");
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let mine = dir.path().join("x");
        fs::create_dir(&mine).unwrap();
        fs::write(mine.join("board.toml"), "mine").unwrap();
        let said = create(dir.path(), "x", &description(), b"tree").unwrap_err().report();
        assert!(said.contains("of this name already"), "{said}");
        assert_eq!(fs::read_to_string(mine.join("board.toml")).unwrap(), "mine");
        // Not even what came in between, an empty folder, or a link to nowhere.
        let (from, to) = (dir.path().join("from"), dir.path().join("empty"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        assert!(place(&from, &to).unwrap_err().report().contains("of this name already"));
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        assert!(create(dir.path(), "link", &description(), b"tree").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }
}
