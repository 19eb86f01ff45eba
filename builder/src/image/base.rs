//! What the next image is made from: the one before, so that only what differs is written.
//!
//! The last good image stays as it is until the next one has been read back, so there have to be two files. Where the file
//! system shares blocks between files (btrfs, XFS), the next image begins as a copy of the last one that takes no room.
//! Elsewhere it begins as the image before the last, the spare, which lies beside the image under a hidden name.
//!
//! A spare was once an image that anybody could read, and somebody who still does must not see it change. So an image
//! becomes a spare only if nobody has read it since it was made, which its time of access tells: it is set to 0, and
//! the system sets it when the file is read. Who reads an image in this program leaves no such trace and locks the file
//! instead ([`open`]).

use super::bmap;
use super::map::{BLOCK, BlockMap};
use crate::cache::{Inputs, Stamp, read_json, replace_file, sha256, to_json};
use crate::companions::{map_path, remove};
use crate::disk::Partial;
use crate::error::{Error, Result, ResultExt};
use crate::lock::hidden;
use crate::parts::builder_stamp;
use crate::plan::RootArtifact;
use rustix::fs::{CWD, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT, futimens, renameat_with};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file system in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its first byte, from the image's beginning.
    pub start: u64,
    /// Its bytes.
    pub size: u64,
    /// A hash of all that it is made from: with the same, every byte is the same.
    pub key: String,
}

impl Placed {
    /// The ext4 file system with this label and UUID, the latter of which follows its contents.
    pub fn ext4(start: u64, size: u64, label: &str, uuid: [u8; 16], epoch: u64) -> Self {
        let mut inputs = Inputs::new("ext4", 1);
        inputs.add("label", label);
        inputs.add("uuid", uuid);
        inputs.add("epoch", epoch.to_string());
        Self { start, size, key: inputs.key() }
    }
}

/// What has to be known of an image for another one to be made from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The builder that made it: another one may make other bytes of the same.
    pub builder: String,
    /// Those of its file systems that have a key.
    pub placed: Vec<Placed>,
    /// dom0's root file system as the plan knows it.
    pub root: Option<RootArtifact>,
    /// Whether its time of access tells if it was read.
    pub watched: bool,
}

/// A spare, and what it was made of; in a file beside it.
#[derive(Debug, Serialize, Deserialize)]
struct Spare {
    stamp: Stamp,
    /// The text of its block map.
    map: String,
    known: Known,
}

/// The image that is there when another one is made.
#[derive(Debug, Clone)]
pub struct Last {
    /// What is known of it.
    pub known: Known,
    /// How it looked when it was made.
    pub stamp: Stamp,
    /// The hash of its block map's text.
    pub map: String,
}

/// What the next image at a place could be made from.
#[derive(Debug)]
pub struct Bases<'a> {
    image: &'a Path,
    last: Option<&'a Last>,
    spare: Option<Spare>,
}

/// What an image begins as.
#[derive(Debug)]
pub struct Base {
    /// The file, which is the new image's by now.
    pub(crate) partial: Partial,
    /// What is known of it.
    pub known: Known,
    /// What of it is in use.
    pub map: BlockMap,
    /// Whether it shares its blocks with the last image.
    pub cloned: bool,
}

impl<'a> Bases<'a> {
    /// Those for the image that is to lie at `image`, whose lock the caller has. `last` is what lies there now.
    pub fn find(image: &'a Path, last: Option<&'a Last>) -> Self {
        let spare = spare_paths(image).ok().and_then(|(_, about)| read_json::<Spare>(&about));
        Self { image, last, spare: spare.filter(|spare| spare.known.of_this_builder()) }
    }

    /// dom0's root file system with this UUID, if one of them has it.
    pub fn root(&self, uuid: &str) -> Option<&RootArtifact> {
        let last = self.last.map(|last| &last.known).filter(|known| known.of_this_builder());
        let known = last.into_iter().chain(self.spare.as_ref().map(|spare| &spare.known));
        known.filter_map(|known| known.root.as_ref()).find(|root| root.uuid == uuid)
    }

    /// The file that is to become the image; `None` where it has to begin as nothing.
    ///
    /// # Errors
    ///
    /// A spare that is of no use and cannot be removed.
    pub fn start(self) -> Result<Option<Base>> {
        if let Some(base) = self.last.and_then(|last| last.cloned(self.image)) {
            return Ok(Some(base));
        }
        let taken = self.spare.and_then(|spare| spare.take(self.image));
        remove_spare(self.image)?;
        Ok(taken)
    }
}

impl Known {
    fn of_this_builder(&self) -> bool {
        builder_stamp().is_some_and(|stamp| stamp == self.builder)
    }
}

impl Base {
    /// Whether it has this file system.
    pub fn has(&self, placed: &Placed) -> bool {
        self.known.placed.contains(placed)
    }
}

impl Last {
    /// The text of its block map, if image and map are what they were.
    pub fn map(&self, image: &Path) -> Option<String> {
        let text = fs::read_to_string(map_path(image)).ok()?;
        (self.is_at(image) && sha256(text.as_bytes()) == self.map).then_some(text)
    }

    fn is_at(&self, image: &Path) -> bool {
        Stamp::of(image).is_ok_and(|stamp| stamp == self.stamp)
    }

    /// A copy of the image that shares its blocks.
    fn cloned(&self, image: &Path) -> Option<Base> {
        let map = own_map(&self.map(image)?).filter(|_| self.known.of_this_builder())?;
        let partial = Partial::cloned(image).ok()??;
        // Nobody has written to it meanwhile.
        self.is_at(image).then(|| Base { partial, known: self.known.clone(), map, cloned: true })
    }
}

impl Spare {
    fn take(self, image: &Path) -> Option<Base> {
        let (path, about) = spare_paths(image).ok()?;
        let map = own_map(&self.map)?;
        if Stamp::of(&path).ok()? != self.stamp || read_since_watched(&path) {
            return None;
        }
        // It may have been mounted in another way since.
        if !watch(&path) {
            return None;
        }
        // From here on it is no spare any more.
        remove(&about).ok()?;
        let partial = Partial::taken(image, &path).ok()?;
        Some(Base { partial, known: self.known, map, cloned: false })
    }
}

/// Reads a map as they are made here.
fn own_map(text: &str) -> Option<BlockMap> {
    bmap::parse(text).ok().filter(|map| map.block_size() == BLOCK && map.identity().is_some())
}

/// What the names of a spare, and of what is known of it, end with.
pub(crate) const SPARE: &str = "spare";
pub(crate) const ABOUT: &str = "spare.json";

/// The spare of the image at `image`, and what is known of it.
pub(crate) fn spare_paths(image: &Path) -> Result<(PathBuf, PathBuf)> {
    Ok((hidden(image, SPARE)?, hidden(image, ABOUT)?))
}

/// Removes the spare of `image`, and says how many files that were.
pub(crate) fn remove_spare(image: &Path) -> Result<usize> {
    let (path, about) = spare_paths(image)?;
    Ok(usize::from(remove(&about)?) + usize::from(remove(&path)?))
}

/// Gives the file `fresh` the name `image`, as [`Partial::keep`] does. What had that name, `last` with this map, becomes the spare if it can.
///
/// # Errors
///
/// `fresh` does not get its name. The image of before is then still there.
pub(crate) fn replace(fresh: &Path, image: &Path, last: Option<(&Last, String)>) -> Result<()> {
    let named = || fs::rename(fresh, image).context_at(image, || "cannot give the image its name");
    let Some((last, map)) = last else { return named() };
    if !last.known.watched || !last.is_at(image) || read_since_watched(image) {
        return named();
    }
    if renameat_with(CWD, fresh, CWD, image, RenameFlags::EXCHANGE).is_err() {
        return named();
    }
    // The image has its name. Without a spare, the next one takes longer, and that is all.
    if keep_spare(fresh, image, &last.known, map).is_none() {
        let _ = (fs::remove_file(fresh), remove_spare(image));
    }
    Ok(())
}

fn keep_spare(old: &Path, image: &Path, known: &Known, map: String) -> Option<()> {
    let (path, about) = spare_paths(image).ok()?;
    fs::rename(old, &path).ok()?;
    let spare = Spare { stamp: Stamp::of(&path).ok()?, map, known: known.clone() };
    replace_file(&about, &to_json(&spare).ok()?).ok()
}

/// Watches from now on whether the file at `image` is read. `false` where that cannot be told.
pub(crate) fn watch(image: &Path) -> bool {
    let watched = || -> Result<bool> {
        let failed = || "cannot set the time of access";
        let mut file = File::open(image).context_at(image, failed)?;
        let forget = |file: &File| {
            let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
            let times =
                Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: 0 }, last_modification: omit };
            futimens(file, &times).context_at(image, failed)
        };
        forget(&file)?;
        // Not every file system takes it down.
        file.read_exact(&mut [0]).context_at(image, failed)?;
        let told = read_since_watched(image);
        forget(&file)?;
        Ok(told)
    };
    watched().unwrap_or(false)
}

/// Whether somebody has read the file since [`watch`] was called.
fn read_since_watched(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |meta| (meta.atime(), meta.atime_nsec()) != (0, 0))
}

/// Opens the image at `path` for reading, so that no trace is left of it, and keeps builds from writing to that file as
/// long as it is open.
///
/// # Errors
///
/// It cannot be opened, or is just being written to.
pub(crate) fn open(path: &Path) -> Result<File> {
    let quietly = OpenOptions::new().read(true).custom_flags(OFlags::NOATIME.bits().cast_signed()).open(path);
    // Only its owner may read a file without a trace.
    let file = quietly.or_else(|_| File::open(path)).context_at(path, || "cannot open the image")?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            Err(Error::new("the image is just being made anew").at(path).help("run this again"))
        }
        // Where files cannot be locked, whoever reads has left a trace or has not, as everybody.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Range, Rest};
    use std::os::unix::fs::FileExt;

    const SIZE: u64 = 1 << 20;

    /// An image of one block with its map, as a build leaves them.
    fn made(image: &Path, byte: u8) -> Last {
        let file = File::create(image).unwrap();
        file.set_len(SIZE).unwrap();
        file.write_all_at(&[byte; 4096], 0).unwrap();
        let range = Range { first: 0, count: 1, sha256: Some([byte; 32]) };
        let text = bmap::render(&BlockMap::new(BLOCK, SIZE, vec![range], Rest::Any).unwrap()).unwrap();
        fs::write(map_path(image), &text).unwrap();
        let placed = vec![Placed::ext4(0, 4096, "root", [byte; 16], 0)];
        let known = Known { builder: builder_stamp().unwrap(), placed, root: None, watched: watch(image) };
        Last { known, stamp: Stamp::of(image).unwrap(), map: sha256(text.as_bytes()) }
    }

    /// The image `1` has given way to `2`; whether `1` is a spare now.
    fn replaced(dir: &Path, between: impl FnOnce(&Path)) -> (PathBuf, bool) {
        let (image, fresh) = (dir.join("x.img"), dir.join("x.img.new"));
        let last = made(&image, 1);
        fs::write(&fresh, [2; 4096]).unwrap();
        between(&image);
        let map = last.map(&image);
        replace(&fresh, &image, map.map(|map| (&last, map))).unwrap();
        assert_eq!(fs::read(&image).unwrap(), [2; 4096]);
        assert!(!fresh.exists());
        let (spare, about) = spare_paths(&image).unwrap();
        assert_eq!(spare.exists(), about.exists());
        (image, spare.exists())
    }

    /// Whether times of access are kept here.
    fn watches(dir: &Path) -> bool {
        let probe = dir.join("probe");
        fs::write(&probe, "x").unwrap();
        watch(&probe)
    }

    #[test]
    fn the_next_image_begins_as_the_one_before_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let (image, kept) =
            replaced(dir.path(), |image| drop(open(image).map(|file| file.read_exact_at(&mut [0], 0))));
        assert_eq!(kept, watches(dir.path()), "what reads without a trace does not count");
        let base = Bases::find(&image, None).start().unwrap();
        assert_eq!(base.is_some(), kept);
        if let Some(base) = base {
            assert!(base.has(&Placed::ext4(0, 4096, "root", [1; 16], 0)) && !base.cloned);
            assert!(!base.has(&Placed::ext4(0, 4096, "root", [2; 16], 0)));
            let mut block = [0; 4096];
            base.partial.file().read_exact_at(&mut block, 0).unwrap();
            assert_eq!((block, base.map.mapped()), ([1; 4096], 4096));
        }
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 3, "no spare is left: {left:?}");
    }

    #[test]
    fn what_somebody_reads_or_has_another_name_does_not_change() {
        type Deed = fn(&Path);
        let deeds: [(&str, Deed); 3] = [
            ("read", |image| drop(fs::read(image).unwrap())),
            ("linked", |image| fs::hard_link(image, image.with_extension("copy")).unwrap()),
            ("written to", |image| fs::write(image, "other").unwrap()),
        ];
        for (what, deed) in deeds {
            let dir = tempfile::tempdir().unwrap();
            assert!(!replaced(dir.path(), deed).1, "{what} as an image");
            let dir = tempfile::tempdir().unwrap();
            let (image, kept) = replaced(dir.path(), |_| ());
            let (spare, about) = spare_paths(&image).unwrap();
            if kept {
                deed(&spare);
            }
            assert!(Bases::find(&image, None).start().unwrap().is_none(), "{what} as a spare");
            assert!(!spare.exists() && !about.exists());
        }
        let dir = tempfile::tempdir().unwrap();
        let mut reader = None;
        let (image, _) = replaced(dir.path(), |image| reader = Some(open(image).unwrap()));
        assert!(Bases::find(&image, None).start().unwrap().is_none(), "being read");
        let mut block = [0; 4096];
        reader.unwrap().read_exact_at(&mut block, 0).unwrap();
        assert_eq!(block, [1; 4096]);
    }

    #[test]
    fn what_another_builder_made_is_no_base() {
        let dir = tempfile::tempdir().unwrap();
        let (image, kept) = replaced(dir.path(), |_| ());
        let (_, about) = spare_paths(&image).unwrap();
        if kept {
            let mut spare: Spare = read_json(&about).unwrap();
            spare.known.builder.push('x');
            fs::write(&about, to_json(&spare).unwrap()).unwrap();
        }
        assert!(Bases::find(&image, None).start().unwrap().is_none());
        assert_eq!(remove_spare(&image).unwrap(), 0);
    }

    #[test]
    fn an_image_that_is_written_to_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("x.img");
        fs::write(&image, "x").unwrap();
        let writer = File::open(&image).unwrap();
        writer.try_lock().unwrap();
        assert!(open(&image).unwrap_err().report().contains("being made anew"));
        drop(writer);
        assert!(open(&image).is_ok() && open(dir.path()).is_ok() && open(&dir.path().join("none")).is_err());
    }
}
