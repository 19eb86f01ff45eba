//! A root file system by itself, as a file: for a guest's disk, or to look at.

use crate::cache::Cache;
use crate::decision::{Decision, ROOT_LABEL};
use crate::disk::{Ext4, ext4_size, write_ext4};
use crate::error::{Error, Result, ResultExt};
use crate::parts::{Maker, Part, epoch};
use crate::progress::Progress;
use std::fs;
use std::path::{Path, PathBuf};
use vambrace_bsp::Size;

/// What is left free where neither a size nor the profile says how much.
const ROOM: u64 = 64 << 20;

/// Where the parts go.
#[derive(Debug, Clone, Default)]
pub struct Outputs {
    /// The ext4 file system.
    pub image: PathBuf,
    /// Its size; by default what it takes, and the profile's room.
    pub size: Option<Size>,
    /// The kernel that goes with it, if it is wanted.
    pub kernel: Option<PathBuf>,
    /// The ramdisk that finds the file system by its UUID, on QEMU's disks and a guest's, if it is wanted.
    pub ramdisk: Option<PathBuf>,
}

/// Makes the root file system of `decision`'s profile, and writes it where `outputs` says. Nothing is compiled.
///
/// # Errors
/// What cannot be made or written, and a size that is too small. A file is there whole or, as before, not at all.
pub fn write(
    root: &Path,
    decision: &Decision,
    cache: &Cache,
    progress: &Progress,
    outputs: &Outputs,
) -> Result<()> {
    let decision = decision.clone().for_guest("rootfs".into(), true);
    let epoch = epoch()?;
    let maker = Maker { root, decision: &decision, cache, progress, epoch };
    maker.resolve_packages()?;
    let made = maker.root()?.ok_or_else(|| Error::new("the profile has no root file system"))?;
    let room = decision.profile.spec.room.map_or(ROOM, Size::bytes);
    let size = match outputs.size {
        None => ext4_size(made.artifact.tree, room)?,
        Some(size) => size.bytes() / 4096 * 4096,
    };
    let spec = Ext4 { label: ROOT_LABEL.into(), uuid: made.uuid, tree: made.tree.unwrap_or_default() };
    let step = progress.step(format!("writing {}", outputs.image.display()));
    into_place(&outputs.image, |file| write_ext4(file, &spec, size, epoch))?;
    step.finish();
    let wanted = |path: &Option<PathBuf>, make: &dyn Fn() -> Result<Part>| -> Result<()> {
        let Some(path) = path else { return Ok(()) };
        let part = make()?;
        into_place(path, |mut file| {
            std::io::copy(&mut part.data.reader(), &mut file).map(drop).context(|| "cannot write the file")
        })
    };
    wanted(&outputs.kernel, &|| maker.kernel())?;
    wanted(&outputs.ramdisk, &|| maker.ramdisk())?;
    cache.save();
    Ok(())
}

/// Has `fill` write a file under another name, which becomes `path` when it is complete.
fn into_place(path: &Path, fill: impl FnOnce(&fs::File) -> Result<()>) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).context_at(folder, || "cannot make the folder")?;
    let file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(folder)
        .context_at(folder, || "cannot make a file in the folder")?;
    fill(file.as_file()).map_err(|error| error.at(path))?;
    file.persist(path)
        .map_err(|error| Error::new("cannot give the file its name").because(error.error).at(path))?;
    Ok(())
}
