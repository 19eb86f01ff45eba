//! `vambrace clean`.

use super::print;
use crate::build::{Manifest, manifest_path};
use crate::cache::{Cache, FILES, FOLDERS, PINS, read_json};
use crate::companions;
use crate::disk::PARTIAL;
use crate::error::{Result, ResultExt};
use crate::flash;
use crate::image::{ABOUT, SPARE, remove_spare};
use crate::lock::{ImageLock, hidden};
use crate::parts::CONFIGURING;
use crate::persistent::is_persistent;
use crate::qemu::direct;
use crate::reproduce::REBUILDING;
use crate::workspace::{Workspace, described};
use clap::Args;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What is asked for.
#[derive(Debug, Args)]
pub(super) struct Clean {
    /// The board; all of them where none is named
    board: Option<String>,
    /// The folder of the images
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// Remove packages, parts and compiled code as well
    #[arg(long)]
    cache: bool,
}

/// Removes what this program has made and nothing else: the folders may be somebody's own.
pub(super) fn run(workspace: &Workspace, command: &Clean) -> Result<ExitCode> {
    let Clean { board, out, cache } = command;
    let ids: Vec<&str> = match board.as_deref() {
        Some(id) => vec![workspace.boards().get(id).map(|board| board.id.as_str()).map_err(described)?],
        None => workspace.boards().ids().collect(),
    };
    let mut count = 0;
    for folder in ids.iter().map(|id| out.join(id)) {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let image = entry.context_at(&folder, || "cannot list the images")?.path();
            if let Some(image) = hidden_of(&image) {
                // What a build that is running has here stays.
                let _lock = ImageLock::take(&image)?;
                count += remove_spare(&image)?;
                count += usize::from(companions::remove(&hidden(&image, PARTIAL)?)?);
                continue;
            }
            // What somebody has written in a machine cannot be made again, nor what has no manifest of ours.
            let ours = image.extension().is_some_and(|extension| extension == "img")
                && !is_persistent(&image)
                && read_json::<Manifest>(&manifest_path(&image)).is_some();
            if !ours {
                continue;
            }
            // What another process is just making stays.
            let _lock = ImageLock::take(&image)?;
            count += remove_loaded(&direct::folder(&image))?;
            let beside = [manifest_path(&image), image.with_extension("log")];
            for path in companions::paths(&image).into_iter().chain(beside).chain([image]) {
                count += usize::from(companions::remove(&path)?);
            }
        }
        // Not empty: something there is not ours.
        let _ = fs::remove_dir(&folder);
    }
    let mut text = format!("removed {count} files of images\n");
    if *cache {
        let cache = Cache::open(None)?;
        for name in ["artifacts", "apt", "target", flash::FOLDER] {
            remove(&cache.folder(name))?;
        }
        for name in [FILES, FOLDERS, PINS] {
            remove(&cache.folder(name))?;
        }
        remove_leftovers(cache.dir())?;
        text.push_str(&format!("removed the cache in {}\n", cache.dir().display()));
    }
    print(&text).map(|()| ExitCode::SUCCESS)
}

/// The image that the hidden file at `path` is of: its spare, or what a build that was killed has left of it.
fn hidden_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_prefix('.')?;
    let suffixes = [SPARE, ABOUT, PARTIAL].map(|suffix| format!(".{suffix}"));
    let image = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix.as_str()))?;
    image.ends_with(".img").then(|| path.with_file_name(image))
}

/// Removes the folders in which packages were being configured, or an image built again, when the program was killed.
fn remove_leftovers(cache: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(cache) else { return Ok(()) };
    for entry in entries {
        let path = entry.context_at(cache, || "cannot list the cache")?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        if name.is_some_and(|name| name.starts_with(CONFIGURING) || name.starts_with(REBUILDING)) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes the files of an image that were taken out of it, and gives their number.
fn remove_loaded(folder: &Path) -> Result<usize> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(0) };
    let count = entries.count();
    remove(folder).map(|()| count)
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).context_at(path, || "cannot remove it")
        }
        _ => Ok(()),
    }
}
