//! The slots of an image in a file: what they are, and putting another one there.
//!
//! A new slot is put into a copy of the image, which takes the image's place when it has been read back: whatever happens
//! on the way, the image is as it was, with its good slot.

use super::{Bundle, FOLDER, LISTING, Listing, SlotName, State, Trial, path};
use crate::disk::sparse::Writer;
use crate::disk::{Content, Fat32, FileSpec, Partial, Written, render};
use crate::error::{Error, Result, ResultExt};
use crate::inspect::{self, BootVolume};
use crate::lock::ImageLock;
use crate::progress::Progress;
use crate::verify::check_content;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Bytes of a piece that is copied.
const PIECE: u64 = 1 << 20;

/// An image with slots.
#[derive(Debug)]
pub struct Medium {
    volume: BootVolume,
}

impl Medium {
    /// Opens the image, card or disk at `path`, which may be packed.
    ///
    /// # Errors
    /// What cannot be read, or has no slots.
    pub fn open(path: &Path, progress: &Progress) -> Result<Self> {
        let volume = inspect::boot_volume(path, is_with_slots, progress)?;
        let volume = volume.ok_or_else(|| {
            Error::new("there are no slots on it")
                .at(path)
                .help("build an image with slots: `vambrace build BOARD --slots`")
        })?;
        Ok(Self { volume })
    }

    /// Which slot is good, and which is on trial.
    pub fn state(&self) -> State {
        State::read(|path| self.volume.read(path, super::STATE_SIZE as u64).ok().flatten())
    }

    /// What the slot says that it has.
    ///
    /// # Errors
    /// It says nothing, or what is no listing.
    pub fn listing(&self, slot: SlotName) -> Result<Listing> {
        let text = self.volume.read(&path(slot, LISTING), super::listing::MOST_TEXT + 1)?;
        Listing::parse(&text.ok_or_else(|| Error::new(format!("slot {slot} has no {LISTING}")))?)
    }

    /// The slot with all its files, each of them what the listing says.
    ///
    /// # Errors
    /// What is missing, damaged or cannot be read.
    pub fn bundle(&self, slot: SlotName) -> Result<Bundle> {
        let listing = self.listing(slot)?;
        // No more can be there than the partition has.
        let total = listing.files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.size));
        if total > self.volume.size() {
            return Err(Error::new(format!("slot {slot} says that it has more than its partition")));
        }
        Bundle::new(listing, |name| {
            let path = path(slot, name);
            let data = self.volume.read(&path, self.volume.size())?;
            data.map(Arc::from).ok_or_else(|| Error::new(format!("{path} is not there")))
        })
        .map_err(|error| error.context(format!("slot {slot} is not whole")))
    }
}

fn is_with_slots(volume: &BootVolume) -> bool {
    State::GOOD_PATHS.iter().any(|path| matches!(volume.read(path, 1), Ok(Some(_))))
}

/// Puts `bundle` into the slot that is not good, of the image in the file `image`, and has it tried `tries` times. Gives the
/// slot.
///
/// # Errors
/// An image that cannot be written to or has no good slot that is whole, a bundle for another board or one that does not fit.
/// In every case the image is then what it was.
pub fn install(image: &Path, bundle: &Bundle, tries: u8, progress: &Progress) -> Result<SlotName> {
    let _lock = ImageLock::take(image)?;
    let medium = Medium::open(image, progress)?;
    if medium.volume.is_packed() {
        return Err(Error::new("the image is packed").at(image).help("unpack it, and install into that"));
    }
    let state = medium.state();
    let good = state.good();
    let there = medium.bundle(good).map_err(|error| error.at(image))?.listing;
    if there.board != bundle.listing.board {
        return Err(Error::new(format!(
            "the bundle is for {}, and the image for {}",
            bundle.listing.board, there.board
        ))
        .help("make a bundle of an image for this board"));
    }
    let slot = good.other();
    let fat = content(
        &medium.volume,
        bundle,
        slot,
        State { good: [Some(good); 2], trial: Some(Trial { slot, tries }) },
    )
    .map_err(|error| error.at(image))?;
    replace(image, &medium.volume, fat, progress).map_err(|error| error.at(image))?;
    Ok(slot)
}

/// The boot partition with `bundle` in `slot`, and with `state`; all other files are what they were.
fn content(volume: &BootVolume, bundle: &Bundle, slot: SlotName, state: State) -> Result<Fat32> {
    let folder = path(slot, "");
    let mut files = Vec::new();
    for (path, size) in volume.files()? {
        let replaced = path.get(..folder.len()).is_some_and(|start| start.eq_ignore_ascii_case(&folder));
        if replaced || State::is_of(&path) {
            continue;
        }
        let data = volume.read(&path, size)?.ok_or_else(|| Error::new(format!("cannot read {path}")))?;
        files.push(FileSpec { path, data: data.into() });
    }
    let mut add = |path: String, data: Arc<[u8]>| files.push(FileSpec { path, data: data.into() });
    bundle.files().for_each(|(name, data)| add(path(slot, name), data));
    for path in State::GOOD_PATHS {
        add(path.to_owned(), State::good_file(state.good()).into());
    }
    add(State::TRIAL_PATH.to_owned(), State::trial_file(state.trial).into());
    let (label, volume_id) = volume.identity()?;
    Ok(Fat32 { label, volume_id, files })
}

/// Writes a copy of `image` with `fat` in the place of its boot partition, reads that back, and puts it in the image's place.
fn replace(image: &Path, volume: &BootVolume, fat: Fat32, progress: &Progress) -> Result<()> {
    let (start, size) = volume.place();
    let content = Content::Fat32(fat);
    // Its own times are of no use to anybody; those of an image are the builder's.
    let epoch = crate::parts::epoch()?;
    let fresh = render(&content, size, epoch).map_err(|error| {
        error.context(format!("the boot partition, on which {FOLDER} is, has no room for the new slot"))
    })?;
    let source = File::open(image).context(|| "cannot open it")?;
    let length = source.metadata().context(|| "cannot look at it")?.len();
    let partial = Partial::create(image)?;
    let step = progress.step(format!("writing {}", image.display()));
    partial.file().set_len(length).context(|| "cannot make a file of the image's size")?;
    let mut writer = Writer::new(partial.file(), |_| ());
    let end = start.saturating_add(size);
    let mut done = 0;
    for (from, mut at, until, to) in
        [(&source, 0, start, 0), (&fresh, 0, size, start), (&source, end, length, end)]
    {
        let mut file = from;
        file.seek(SeekFrom::Start(at)).context(|| "cannot read it")?;
        let first = at;
        while at < until {
            let mut piece = vec![0; usize::try_from((until - at).min(PIECE)).unwrap_or(1)];
            file.read_exact(&mut piece).context(|| "cannot read it")?;
            writer.write(to + (at - first), &piece).context(|| "cannot write the copy")?;
            at += piece.len() as u64;
            done += piece.len() as u64;
            step.set(done, length);
        }
    }
    partial.file().sync_all().context(|| "cannot bring the copy onto the disk")?;
    check_content(partial.file(), (start, size), &content, epoch, &Written::default(), &Mutex::default())
        .map_err(|error| error.context("the new boot partition is not what was written"))?;
    step.finish();
    partial.keep()
}

#[cfg(test)]
mod tests {
    use super::super::bundle::tests::bundle;
    use super::*;
    use crate::disk::{DiskSpec, Gpt, PartitionSpec, Table, write_image};
    use std::path::PathBuf;

    const MIB: u64 = 1 << 20;

    /// An image whose slot a has `bundle`, with these files of state and a file of the user's.
    fn image(dir: &Path, bundle: &Bundle, state: State) -> PathBuf {
        let mut files: Vec<FileSpec> = bundle
            .files()
            .map(|(name, data)| FileSpec { path: path(SlotName::A, name), data: data.into() })
            .collect();
        let mut add =
            |path: &str, data: Vec<u8>| files.push(FileSpec { path: path.into(), data: data.into() });
        add("boot.scr", b"chooses".to_vec());
        add("notes/of mine.txt", b"a user's".to_vec());
        for (path, slot) in State::GOOD_PATHS.into_iter().zip(state.good) {
            slot.into_iter().for_each(|slot| add(path, State::good_file(slot)));
        }
        add(State::TRIAL_PATH, State::trial_file(state.trial));
        let content = Content::Fat32(Fat32 { label: "VAMBRACE".into(), volume_id: 0x1234_5678, files });
        let partition = |name: &str, start, size, content| PartitionSpec {
            name: name.into(),
            type_guid: "0fc63daf-8483-4772-8e79-3d69d8477de4".into(),
            mbr_type: 0x0c,
            guid: [if start == MIB { 2 } else { 3 }; 16],
            start,
            size,
            bootable: true,
            content,
        };
        let path = dir.join("card.img");
        let spec = DiskSpec {
            table: Table::Gpt(Gpt::USUAL),
            disk_guid: [1; 16],
            size: 40 * MIB,
            partitions: vec![
                partition("boot", MIB, 36 * MIB, content),
                partition("root", 37 * MIB, MIB, Content::Raw(vec![5; 9000].into())),
            ],
            raw: Vec::new(),
            epoch: 0,
        };
        write_image(&path, &spec, &Progress::quiet()).unwrap();
        path
    }

    const FRESH: State = State { good: [Some(SlotName::A); 2], trial: None };

    fn open(path: &Path) -> Medium {
        Medium::open(path, &Progress::quiet()).unwrap()
    }

    #[test]
    fn a_bundle_goes_into_the_other_slot_and_all_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (bundle(b"the old hypervisor"), bundle(b"the new one"));
        let path = image(dir.path(), &old, FRESH);
        let before = std::fs::read(&path).unwrap();
        assert_eq!(install(&path, &new, 2, &Progress::quiet()).unwrap(), SlotName::B);
        let medium = open(&path);
        let trial = Some(Trial { slot: SlotName::B, tries: 2 });
        assert_eq!(medium.state(), State { good: [Some(SlotName::A); 2], trial });
        assert_eq!(
            (medium.bundle(SlotName::A).unwrap(), medium.bundle(SlotName::B).unwrap()),
            (old.clone(), new)
        );
        let read = |path: &str| medium.volume.read(path, 100).unwrap();
        assert_eq!(read("boot.scr").as_deref(), Some(&b"chooses"[..]));
        assert_eq!(read("notes/of mine.txt").as_deref(), Some(&b"a user's"[..]));
        assert_eq!(medium.volume.identity().unwrap(), ("VAMBRACE".to_owned(), 0x1234_5678));
        let after = std::fs::read(&path).unwrap();
        let outside = |image: &[u8]| [&image[..1 << 20], &image[37 << 20..]].concat();
        assert!(after.len() == before.len() && outside(&after) == outside(&before));
        // Again, over what is there; the slot that is good is never the one.
        assert_eq!(install(&path, &old, 1, &Progress::quiet()).unwrap(), SlotName::B);
        assert_eq!(open(&path).bundle(SlotName::B).unwrap(), old);
    }

    #[test]
    fn the_slot_that_is_good_is_left_whichever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let one = bundle(b"one");
        // The good slot is a by the one copy that is left, and is not whole: nothing is good then.
        for good in [[None, Some(SlotName::B)], [Some(SlotName::B), Some(SlotName::A)]] {
            let path = image(dir.path(), &one, State { good, trial: None });
            let before = std::fs::read(&path).unwrap();
            let said = install(&path, &one, 1, &Progress::quiet()).unwrap_err().report();
            assert!(said.contains("slot b has no slot.txt"), "{said}");
            assert!(std::fs::read(&path).unwrap() == before);
        }
        let path = image(dir.path(), &one, State { good: [None, Some(SlotName::A)], trial: None });
        assert_eq!(install(&path, &one, 1, &Progress::quiet()).unwrap(), SlotName::B);
        assert_eq!(open(&path).state().good, [Some(SlotName::A); 2], "both copies agree again");
    }

    #[test]
    fn what_does_not_fit_leaves_the_image_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = image(dir.path(), &bundle(b"old"), FRESH);
        let before = std::fs::read(&path).unwrap();
        let mut other = bundle(b"new");
        other.listing.board = "another".into();
        let large = bundle(&vec![1; 36 << 20]);
        for (bundle, says) in
            [(other, "is for another, and the image for qemu-arm64"), (large, "has no room")]
        {
            let said = install(&path, &bundle, 1, &Progress::quiet()).unwrap_err().report();
            assert!(said.contains(says), "{said}");
            assert!(std::fs::read(&path).unwrap() == before, "{says}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        }
        let empty = dir.path().join("empty.img");
        std::fs::write(&empty, vec![0; 1 << 20]).unwrap();
        let said = Medium::open(&empty, &Progress::quiet()).unwrap_err().report();
        assert!(said.contains("no slots") && said.contains("--slots"), "{said}");
    }
}
