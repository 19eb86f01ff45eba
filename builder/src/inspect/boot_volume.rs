//! The FAT file system on a medium that has certain files, for what reads and replaces them.

use std::path::Path;

use super::fat::Fat;
use super::source;
use super::table::Tables;
use super::volume::Volume;
use super::window::Window;
use crate::error::{Error, Result};
use crate::progress::Progress;

/// A FAT file system on a partition, or on the whole medium.
#[derive(Debug)]
pub(crate) struct BootVolume {
    volume: Volume,
    window: Window,
    /// The first byte on the medium.
    start: u64,
    packed: bool,
}

/// The first FAT file system of the image or device at `path` that is `wanted`; `None` where none is.
///
/// # Errors
/// What cannot be read at all.
pub(crate) fn boot_volume(
    path: &Path,
    wanted: impl Fn(&BootVolume) -> bool,
    progress: &Progress,
) -> Result<Option<BootVolume>> {
    // What is wrong with the medium beside it is not asked for.
    let mut faults = Vec::new();
    let source = source::open(path, &mut faults, progress)?;
    let window = &source.window;
    let tables = Tables::read(window, &mut faults).map_err(|error| error.at(path))?;
    let parts = tables.entries.iter().map(|entry| (entry.start, entry.size));
    for (start, size) in parts.chain([(0, window.size())]) {
        let window = window.part(start, size);
        let Ok(Some(fat)) = Fat::open(&window) else { continue };
        let packed = source.packing.is_some();
        let volume = BootVolume { volume: Volume::Fat(fat), window, start, packed };
        if wanted(&volume) {
            return Ok(Some(volume));
        }
    }
    Ok(None)
}

impl BootVolume {
    /// The first bytes of the file at `path`, at most `most`; `None` where there is no such file.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let Some(found) = self.volume.find(path) else { return Ok(None) };
        found.read(most).map(Some).map_err(|error| error.context(format!("cannot read {path}")))
    }

    /// All files, with their sizes in bytes.
    ///
    /// # Errors
    /// Folders that cannot be read, or more files than there can be.
    pub(crate) fn files(&self) -> Result<Vec<(String, u64)>> {
        let (listed, more) = self.volume.list()?;
        let files = listed.into_iter().filter(|listed| !listed.folder);
        let files: Vec<(String, u64)> = files.map(|listed| (listed.path, listed.size)).collect();
        let total = files.iter().fold(0_u64, |sum, (_, size)| sum.saturating_add(*size));
        if more || total > self.size() {
            return Err(Error::new("its folders say that it has more files than it can have")
                .help("repair the file system: fsck.vfat -a"));
        }
        Ok(files)
    }

    /// The first byte on the medium, and the size in bytes.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.start, self.size())
    }

    /// Its size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.window.size()
    }

    /// Whether it was in a packed file, so that there is no place to write it to.
    pub(crate) fn is_packed(&self) -> bool {
        self.packed
    }

    /// Label and serial number, of a FAT32 file system.
    ///
    /// # Errors
    /// Another size of FAT, or a boot sector that cannot be read.
    pub(crate) fn identity(&self) -> Result<(String, u32)> {
        let Volume::Fat(fat) = &self.volume else { return Err(Error::new("the boot partition is not FAT")) };
        if fat.name() != "FAT32" {
            return Err(Error::new(format!("the boot partition is {}, and not FAT32", fat.name())));
        }
        // Microsoft's FAT specification, section 3.3: BS_VolID.
        let id = self.window.read(67, 4)?.first_chunk().copied().map_or(0, u32::from_le_bytes);
        Ok((fat.label()?, id))
    }
}
