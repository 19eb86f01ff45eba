//! What this machine has put onto a medium last, kept in the cache until that medium is written to again.

use super::evidence::{self, MOST, Part};
use super::table::Table;
use crate::cache::{Cache, replace_file, sha256, to_json};
use crate::error::{Error, Result, ResultExt};
use crate::image::{BlockMap, Rest, bmap};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// The folder in the cache.
pub(crate) const FOLDER: &str = "flashed";
/// Bytes at the beginning of a medium by which it is known again. Both kinds of table are there, with their checksums.
pub(super) const HEAD: usize = 4096;
/// Bytes of what is remembered of a medium.
const MOST_TEXT: u64 = 64 << 20;
/// Parts of a medium: a table's partitions, and an LVM group's volumes.
const MOST_PARTS: usize = 4096;
/// How many media are remembered.
const MEDIA: usize = 64;
const FORMAT: u32 = 1;

/// What was put onto a medium and read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Memory {
    /// Seconds after 1970 began when all of it was written, or compared, last.
    pub(super) since: u64,
    /// The image's block map.
    pub(super) map: BlockMap,
    /// What tells whether its file systems were written to since.
    pub(super) parts: Vec<Part>,
    /// The medium's size in bytes.
    medium: u64,
}

/// How it is written down.
#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    since: u64,
    medium: u64,
    /// Whether there are zeros where the map has no range.
    zeros: bool,
    map: String,
    parts: Vec<Part>,
}

impl Memory {
    /// What is to be remembered of the medium in `file`, of `size` bytes, which has just got the image with `map`.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub(super) fn of(file: &File, size: u64, map: &BlockMap, since: u64) -> Result<Self> {
        let mut head = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(1 << 20)];
        file.read_exact_at(&mut head, 0).context(|| "cannot read the medium again")?;
        let parts = evidence::parts(file, size, &Table::of(&head))?;
        Ok(Self { since, map: map.clone(), parts, medium: size })
    }

    /// Its text: a checksum, and then JSON.
    fn render(&self) -> Result<Vec<u8>> {
        let json = to_json(&Written {
            format: FORMAT,
            since: self.since,
            medium: self.medium,
            zeros: self.map.rest() == Rest::Zero,
            map: bmap::render(&self.map)?,
            parts: self.parts.clone(),
        })?;
        Ok([sha256(&json).as_bytes(), b"\n", &json].concat())
    }

    /// What the text says; `None` where it is damaged, of another version, or says what cannot be.
    fn parse(text: &[u8]) -> Option<Self> {
        let (checksum, json) = text.split_at_checked(64)?;
        let json = json.strip_prefix(b"\n")?;
        if sha256(json).as_bytes() != checksum {
            return None;
        }
        let written: Written = serde_json::from_slice(json).ok()?;
        let rest = if written.zeros { Rest::Zero } else { Rest::Any };
        let map = bmap::parse(&written.map).ok()?.with_rest(rest);
        let medium = written.medium;
        let possible = |part: &Part| {
            let places = part.evidence.iter().flat_map(|evidence| &evidence.places);
            let ends = places.clone().all(|place| place.start <= place.end && place.end <= medium);
            let bytes =
                places.fold(0, |sum: u64, place| sum.saturating_add(place.end.saturating_sub(place.start)));
            ends && bytes <= MOST && part.place.start <= part.place.end && part.place.end <= medium
        };
        let whole = written.format == FORMAT && map.image_size() <= medium && map.identity().is_some();
        let all = whole && written.parts.len() <= MOST_PARTS && written.parts.iter().all(possible);
        all.then_some(Self { since: written.since, map, parts: written.parts, medium })
    }
}

/// Where memories are kept.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    /// This user's; `None` where there is no home for it.
    pub(super) fn of_user() -> Option<Self> {
        Cache::place(None).ok().map(|dir| Self { folder: dir.join(FOLDER) })
    }

    /// The one in this folder.
    #[cfg(test)]
    pub(super) fn below(dir: &std::path::Path) -> Self {
        Self { folder: dir.join(FOLDER) }
    }

    /// The place of what is remembered of the medium that begins with `head`; `None` where it has no partition table, or
    /// one that names no medium.
    fn path(&self, head: &[u8]) -> Option<PathBuf> {
        let head = head.get(..HEAD)?;
        let identifier = Table::of(head).identifier?;
        // Two tables of the same identifier are not the same table.
        let hash = sha256(head);
        Some(self.folder.join(format!("{identifier}-{}", hash.get(..32)?)))
    }

    /// What is remembered of the medium of `size` bytes that begins with `head`.
    pub(super) fn recall(&self, head: &[u8], size: u64) -> Option<Memory> {
        let mut text = Vec::new();
        File::open(self.path(head)?).ok()?.take(MOST_TEXT).read_to_end(&mut text).ok()?;
        Memory::parse(&text).filter(|memory| memory.medium == size)
    }

    /// Forgets the medium that begins with `head`.
    ///
    /// # Errors
    ///
    /// A memory that cannot be removed.
    pub(super) fn forget(&self, head: &[u8]) -> Result<()> {
        let Some(path) = self.path(head) else { return Ok(()) };
        // An empty one stays: it stands for several media that cannot be told apart.
        if fs::metadata(&path).is_ok_and(|meta| meta.len() == 0) {
            return Ok(());
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::new("what was on the medium is remembered here, and that cannot be forgotten")
                    .because(error)
                    .at(&path)
                    .help("remove this file, or name another cache with VAMBRACE_CACHE"))
            }
            _ => Ok(()),
        }
    }

    /// Remembers what is on the medium that begins with `head`. Images that give the same table to different contents
    /// cannot be told apart by it: of such media nothing is remembered any more.
    ///
    /// # Errors
    ///
    /// What cannot be written.
    pub(super) fn keep(&self, head: &[u8], memory: &Memory) -> Result<()> {
        let Some(path) = self.path(head).filter(|_| memory.map.identity().is_some()) else { return Ok(()) };
        let other = || self.recall(head, memory.medium).is_some_and(|other| other.map != memory.map);
        if fs::metadata(&path).is_ok_and(|meta| meta.len() == 0) || other() {
            return replace_file(&path, &[]);
        }
        self.make_room();
        replace_file(&path, &memory.render()?)
    }

    /// Forgets the media that were written to longest ago, where there are many.
    fn make_room(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut known: Vec<_> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
            })
            .collect();
        known.sort();
        let many = known.len().saturating_sub(MEDIA - 1);
        // Another process may have been there first.
        known.iter().take(many).for_each(|(_, path)| drop(fs::remove_file(path)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Range;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    /// How a medium begins that has a signature.
    fn head(signature: u8) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        head[440] = signature;
        head[510..512].copy_from_slice(&[0x55, 0xaa]);
        head
    }

    fn memory(hash: u8) -> Memory {
        let range = |first, count| Range { first, count, sha256: Some([hash; 32]) };
        let map = BlockMap::new(4096, 1 << 20, vec![range(0, 2), range(9, 1)], Rest::Zero).unwrap();
        let place = 4096..90_000;
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 21).unwrap();
        let mut memory = Memory::of(&file, 1 << 21, &map, 1_700_000_000).unwrap();
        memory.parts.push(Part { name: "partition 1".into(), place, evidence: None });
        memory
    }

    fn shelf() -> (tempfile::TempDir, Shelf) {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::below(dir.path());
        (dir, shelf)
    }

    #[test]
    fn a_medium_is_known_again_by_its_table_and_its_size() {
        let (_dir, shelf) = shelf();
        shelf.keep(&head(1), &memory(5)).unwrap();
        assert_eq!(shelf.recall(&head(1), 1 << 21), Some(memory(5)));
        assert_eq!((shelf.recall(&head(2), 1 << 21), shelf.recall(&head(1), 1 << 22)), (None, None));
        let mut edited = head(1);
        edited[450] = 1;
        assert_eq!(shelf.recall(&edited, 1 << 21), None, "somebody has changed a partition's type");
        shelf.forget(&head(2)).unwrap();
        assert!(shelf.recall(&head(1), 1 << 21).is_some());
        shelf.forget(&head(1)).unwrap();
        shelf.forget(&head(1)).unwrap();
        assert_eq!(shelf.recall(&head(1), 1 << 21), None);
        // Without a signature nothing tells media apart.
        shelf.keep(&head(0), &memory(5)).unwrap();
        assert_eq!(shelf.recall(&head(0), 1 << 21), None);
        assert_eq!((shelf.recall(&[], 1 << 21), shelf.forget(&[]).is_ok()), (None, true));
    }

    #[test]
    fn of_media_with_one_table_and_different_contents_nothing_is_remembered() {
        let (_dir, shelf) = shelf();
        shelf.keep(&head(1), &memory(5)).unwrap();
        shelf.keep(&head(1), &memory(5)).unwrap();
        assert!(shelf.recall(&head(1), 1 << 21).is_some());
        shelf.keep(&head(1), &memory(6)).unwrap();
        shelf.forget(&head(1)).unwrap();
        shelf.keep(&head(1), &memory(6)).unwrap();
        assert_eq!(shelf.recall(&head(1), 1 << 21), None);
        // An update forgets its medium first, and another image with the same table may follow.
        shelf.keep(&head(2), &memory(5)).unwrap();
        shelf.forget(&head(2)).unwrap();
        shelf.keep(&head(2), &memory(6)).unwrap();
        assert_eq!(shelf.recall(&head(2), 1 << 21), Some(memory(6)));
    }

    #[test]
    fn what_cannot_be_forgotten_is_an_error() {
        let (_dir, shelf) = shelf();
        let path = shelf.path(&head(1)).unwrap();
        fs::create_dir_all(path.join("in-the-way")).unwrap();
        let said = shelf.forget(&head(1)).unwrap_err().report();
        assert!(said.contains("cannot be forgotten") && said.contains("VAMBRACE_CACHE"), "{said}");
        assert_eq!(shelf.recall(&head(1), 1 << 21), None);
    }

    #[test]
    fn not_more_media_are_remembered_than_anybody_has() {
        let (_dir, shelf) = shelf();
        (1..=u8::try_from(MEDIA).unwrap() + 3)
            .for_each(|card| shelf.keep(&head(card), &memory(card)).unwrap());
        assert_eq!(fs::read_dir(&shelf.folder).unwrap().count(), MEDIA);
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        let parsed = |change: &dyn Fn(&mut serde_json::Value)| {
            let text = memory(5).render().unwrap();
            let mut json = serde_json::from_slice(&text[65..]).unwrap();
            change(&mut json);
            let json = to_json(&json).unwrap();
            Memory::parse(&[sha256(&json).as_bytes(), b"\n", &json].concat())
        };
        assert_eq!(parsed(&|_| ()), Some(memory(5)));
        let far = u64::MAX;
        let evidence = |places: serde_json::Value| serde_json::json!({ "places": places, "sha256": "" });
        let cases: [(&str, &str, serde_json::Value); 8] = [
            ("", "format", 2.into()),
            ("", "medium", 99.into()),
            ("", "map", "<bmap>".into()),
            ("", "parts", 7.into()),
            ("/parts/0", "place", serde_json::json!({ "start": 9, "end": 8 })),
            ("/parts/0", "place", serde_json::json!({ "start": 0, "end": far })),
            ("/parts/0", "evidence", evidence(serde_json::json!([{ "start": 5, "end": 4 }]))),
            ("/parts/0", "evidence", evidence(serde_json::json!([{ "start": 0, "end": far }]))),
        ];
        for (place, field, value) in cases {
            assert_eq!(
                parsed(&|json| json.pointer_mut(place).unwrap()[field] = value.clone()),
                None,
                "{field}"
            );
        }
        // A hundred times the same MiB.
        let many = evidence(vec![serde_json::json!({ "start": 0, "end": 1 << 20 }); 100].into());
        assert_eq!(parsed(&|json| json.pointer_mut("/parts/0").unwrap()["evidence"] = many.clone()), None);
    }

    static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| memory(5).render().unwrap());

    proptest! {
        #[test]
        fn what_is_damaged_is_unknown(at in any::<prop::sample::Index>(), flip in 1_u8.., cut in any::<bool>()) {
            let mut text = TEXT.clone();
            let at = at.index(text.len());
            if cut { text.truncate(at) } else { text[at] ^= flip }
            prop_assert_eq!(Memory::parse(&text), None);
        }
    }
}
