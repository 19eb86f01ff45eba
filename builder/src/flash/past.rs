//! What is known of a medium before it is written, and what is to be known afterwards.

use super::medium::{Medium, read_all};
use super::memory::{HEAD, Memory, Shelf};
use super::order::{Geometry, Update};
use super::transfer::Outcome;
use super::trust::Trust;
use crate::cache::seconds_now;
use crate::error::{Result, ResultExt};
use crate::image::BlockMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// A medium's past, as far as this machine knows it.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Where it is kept.
    shelf: Option<Shelf>,
    /// How the medium begins: its name on the shelf.
    head: Vec<u8>,
    /// The image that it has, where that is remembered and asked for.
    map: Option<BlockMap>,
    /// What of it need not be read.
    pub(super) trust: Trust,
}

impl Past {
    /// What `shelf` has of `medium`, which is to have the image with `map`.
    ///
    /// # Errors
    ///
    /// A medium that cannot be read.
    pub(super) fn of(
        medium: &mut impl Medium,
        map: &BlockMap,
        shelf: Option<Shelf>,
        update: Option<Update>,
        geometry: Geometry,
    ) -> Result<Self> {
        let size = medium.size();
        let mut past = Self { shelf, ..Self::default() };
        if size < HEAD as u64 {
            return Ok(past);
        }
        past.head.resize(HEAD, 0);
        let mut read = |into: &mut [u8], at| read_all(medium, into, at).map_err(|failure| failure.told(None));
        read(&mut past.head, 0)?;
        if update == Some(Update::Changed)
            && let Some(memory) = past.shelf.as_ref().and_then(|shelf| shelf.recall(&past.head, size))
        {
            past.trust = Trust::of(&memory, map, geometry.open(size), &mut read)?;
            past.map = Some(memory.map);
        }
        Ok(past)
    }

    /// Forgets it, since the medium is about to be written to.
    ///
    /// # Errors
    ///
    /// What cannot be forgotten.
    pub(super) fn forget(&self) -> Result<()> {
        self.shelf.as_ref().map_or(Ok(()), |shelf| shelf.forget(&self.head))
    }

    /// Remembers that the medium in `file`, of `size` bytes, has the image with `map`, all of it as `outcome` says.
    ///
    /// # Errors
    ///
    /// What cannot be read or written; nothing is remembered then.
    pub(super) fn keep(&self, file: &File, size: u64, map: &BlockMap, outcome: &Outcome) -> Result<()> {
        let Some(shelf) = self.shelf.as_ref().filter(|_| !self.head.is_empty()) else { return Ok(()) };
        // What is remembered is still so.
        if outcome.counts.written == 0 && self.trust.written_to.is_empty() && self.map.as_ref() == Some(map) {
            return Ok(());
        }
        let since = outcome.since.filter(|_| outcome.counts.unchanged > 0);
        let now = || seconds_now().and_then(|now| u64::try_from(now).ok()).unwrap_or_default();
        let mut head = vec![0; HEAD];
        file.read_exact_at(&mut head, 0).context(|| "cannot read the medium again")?;
        shelf.keep(&head, &Memory::of(file, size, map, since.unwrap_or_else(now))?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::faulty::{Fault, Faulty};
    use super::super::order::{Order, Stage, Watch};
    use super::super::transfer::tests::{BLOCK, SMALL, Sample};
    use super::super::transfer::transfer;
    use super::*;
    use crate::image::Rest;
    use proptest::prelude::*;
    use rustix::io::Errno;
    use std::ops::Range;

    /// Two file systems that tell, and something between them that does not; in KiB.
    const PARTS: [Range<usize>; 3] = [16..40, 40..48, 48..72];
    const IMAGE: usize = 80 << 10;

    /// An image with these parts, a signature, and a number on each block.
    fn image(signature: u8, numbers: &[u8], used: &[bool], rest: Rest) -> Sample {
        let mut data: Vec<u8> = (0..IMAGE).map(|at| numbers[at / BLOCK] | 1).collect();
        data[..512].fill(0);
        data[440] = signature;
        data[510..512].copy_from_slice(&[0x55, 0xaa]);
        for (index, part) in PARTS.iter().enumerate() {
            data[446 + index * 16 + 8] = u8::try_from(part.start * 2).unwrap();
            data[446 + index * 16 + 12] = u8::try_from(part.len() * 2).unwrap();
        }
        let mut used = used.to_vec();
        used[0] = true;
        for part in [&PARTS[0], &PARTS[2]] {
            used[part.start + 1] = true;
            data[((part.start + 1) << 10) + 0x38..][..2].copy_from_slice(&[0x53, 0xef]);
        }
        Sample::new(data, &used, rest, true).cut(4)
    }

    struct Witness<'a>(&'a Past);

    impl Watch for Witness<'_> {
        fn begins(&mut self) -> Result<()> {
            self.0.forget()
        }

        fn moved(&mut self, _: Stage, _: u64, _: u64) {}
    }

    /// Flashes as the command does. What has been trusted comes too.
    fn flash(
        shelf: &Shelf,
        medium: &mut Faulty,
        sample: &Sample,
        update: Option<Update>,
    ) -> (Result<Outcome>, Trust) {
        let past = match Past::of(medium, &sample.map, Some(shelf.clone()), update, SMALL) {
            Ok(past) => past,
            Err(error) => return (Err(error), Trust::default()),
        };
        let trust = &past.trust;
        // What is trusted whole is not read of the image either.
        let covered = |place: Range<u64>| {
            let mut places = sample.map.ranges().iter().map(|range| sample.map.bytes(range));
            places.any(|(start, end)| start <= place.start && place.end <= end && trust.covers(start..end))
        };
        let pieces = sample.pieces(3000).into_iter();
        let pieces = pieces.filter(|piece| !covered(piece.offset..piece.offset + piece.data.len() as u64));
        let mut pieces = pieces.map(Ok);
        let order = Order { map: &sample.map, update: update.is_some(), trust, geometry: SMALL };
        let outcome = transfer(medium, order, &mut || pieces.next(), &mut Witness(&past));
        if let Ok(outcome) = &outcome {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&medium.bytes, 0).unwrap();
            past.keep(&file, medium.bytes.len() as u64, &sample.map, outcome).unwrap();
        }
        (outcome, past.trust)
    }

    /// A shelf, and a medium that has the image.
    fn flashed(sample: &Sample, more: usize) -> (tempfile::TempDir, Shelf, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::below(dir.path());
        let mut medium = Faulty::new(vec![0xff; IMAGE + more], None);
        flash(&shelf, &mut medium, sample, None).0.unwrap();
        (dir, shelf, medium.bytes)
    }

    fn usual(signature: u8) -> Sample {
        image(signature, &[8; 80], &[true; 80], Rest::Any)
    }

    #[test]
    fn what_is_the_same_is_not_read() {
        let old = usual(1);
        let (_dir, shelf, bytes) = flashed(&old, 24 << 10);
        let mut medium = Faulty::new(bytes, None);
        let mut numbers = [8; 80];
        numbers[60] = 10;
        let new = image(2, &numbers, &[true; 80], Rest::Any);
        let (outcome, trust) = flash(&shelf, &mut medium, &new, Some(Update::Changed));
        let counts = outcome.unwrap().counts;
        assert!(new.is_on(&medium.bytes, 0));
        // Two file systems but for four blocks of one, and for their superblocks, which tell.
        assert_eq!((counts.unchanged, trust.bytes()), (42 << 10, 42 << 10));
        // Again, without a difference: nothing is written, and it is remembered still.
        for _ in 0..2 {
            let (outcome, trust) = flash(&shelf, &mut medium, &new, Some(Update::Changed));
            assert_eq!((outcome.unwrap().counts.written, trust.bytes()), (0, 46 << 10));
        }
        // Without the word for it nothing is trusted.
        let (outcome, trust) = flash(&shelf, &mut medium, &new, Some(Update::All));
        assert_eq!((outcome.unwrap().counts.unchanged, trust), (0, Trust::default()));
    }

    #[test]
    fn a_file_system_that_was_written_to_is_compared_whole() {
        let (_dir, shelf, mut bytes) = flashed(&usual(1), 24 << 10);
        // A mount, and a write somewhere else.
        bytes[(16 << 10) + 1024 + 0x34] ^= 1;
        bytes[30 << 10] ^= 1;
        let mut medium = Faulty::new(bytes, None);
        let (outcome, trust) = flash(&shelf, &mut medium, &usual(2), Some(Update::Changed));
        assert_eq!(outcome.unwrap().counts.unchanged, 23 << 10);
        assert_eq!(trust.written_to, ["partition 1"]);
        assert!(usual(2).is_on(&medium.bytes, 0));
    }

    #[test]
    fn a_medium_with_another_table_or_size_is_unknown() {
        let (_dir, shelf, bytes) = flashed(&usual(1), 24 << 10);
        let mut edited = bytes.clone();
        edited[446 + 4] = 0x83;
        let longer = [&bytes[..], &[0; 512]].concat();
        for bytes in [edited, longer] {
            let mut medium = Faulty::new(bytes, None);
            let (outcome, trust) = flash(&shelf, &mut medium, &usual(1), Some(Update::Changed));
            assert_eq!((outcome.unwrap().since, trust.bytes()), (None, 0));
        }
    }

    #[derive(Debug, Clone)]
    struct Case {
        old: Sample,
        new: Sample,
        more: usize,
        /// What somebody wrote where, and whether the file system there knows of it.
        foreign: Vec<(usize, bool)>,
    }

    fn cases() -> impl Strategy<Value = Case> {
        let numbers = || proptest::collection::vec(any::<u8>(), 80);
        let used = || proptest::collection::vec(proptest::bool::weighted(0.7), 80);
        let changes = proptest::collection::vec((1_usize..80, any::<u8>()), 0..6);
        let foreign = proptest::collection::vec((512..IMAGE, any::<bool>()), 0..6);
        let more = prop_oneof![Just(0), Just(512_usize), Just(24 << 10)];
        let rests = (any::<bool>(), any::<bool>());
        (numbers(), used(), used(), changes, any::<bool>(), any::<bool>(), rests, more, foreign).prop_map(
            |(numbers, used, others, changes, same_used, same_table, rests, more, foreign)| {
                let rest = |zero| if zero { Rest::Zero } else { Rest::Any };
                let old = image(1, &numbers, &used, rest(rests.0));
                let mut numbers = numbers;
                changes.iter().for_each(|&(at, number)| numbers[at] = number);
                let used = if same_used { used } else { others };
                let new = image(if same_table { 1 } else { 2 }, &numbers, &used, rest(rests.1));
                Case { old, new, more, foreign }
            },
        )
    }

    impl Case {
        /// The medium after others have written to it, and where nobody can know of that.
        fn written_to(&self, mut bytes: Vec<u8>) -> (Vec<u8>, Vec<usize>) {
            let mut unseen = Vec::new();
            for &(at, told) in &self.foreign {
                bytes[at] ^= 0x80;
                let part = PARTS.iter().find(|part| ((part.start << 10)..(part.end << 10)).contains(&at));
                match part.filter(|part| part.start != 40) {
                    Some(part) if told => {
                        let count = &mut bytes[((part.start + 1) << 10) + 0x34];
                        *count = count.wrapping_add(1);
                    }
                    Some(_) => unseen.push(at),
                    None => {}
                }
            }
            (bytes, unseen)
        }

        /// Where the medium differs from the new image.
        fn differences(&self, bytes: &[u8]) -> Vec<usize> {
            let mut wanted = bytes.to_vec();
            if self.new.map.rest() == Rest::Zero {
                wanted[..IMAGE].fill(0);
            }
            for piece in self.new.pieces(BLOCK) {
                let at = usize::try_from(piece.offset).unwrap();
                wanted[at..at + piece.data.len()].copy_from_slice(&piece.data);
            }
            (0..IMAGE).filter(|&at| wanted[at] != bytes[at]).collect()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_medium_has_the_image_but_for_what_nobody_can_see(case in cases()) {
            let (_dir, shelf, bytes) = flashed(&case.old, case.more);
            let (bytes, unseen) = case.written_to(bytes);
            let mut medium = Faulty::new(bytes.clone(), None);
            let (outcome, trust) = flash(&shelf, &mut medium, &case.new, Some(Update::Changed));
            let outcome = outcome.unwrap();
            prop_assert_eq!(outcome.counts.written, medium.written);
            for at in case.differences(&medium.bytes) {
                prop_assert!(unseen.contains(&at), "byte {at} differs");
                prop_assert!(trust.covers(at as u64..at as u64 + 1) && medium.bytes[at] == bytes[at]);
            }
            // What compares all of it afterwards finds it.
            flash(&shelf, &mut medium, &case.new, Some(Update::All)).0.unwrap();
            prop_assert!(case.new.is_on(&medium.bytes, 0));
        }

        #[test]
        fn interrupted_it_leaves_the_mark_and_the_next_one_compares_all(
            case in cases(),
            at in 0_usize..60,
            next in prop_oneof![Just(None), Just(Some(Update::All)), Just(Some(Update::Changed))],
            mut random in any::<u64>(),
        ) {
            let (_dir, shelf, bytes) = flashed(&case.old, case.more);
            let (bytes, unseen) = case.written_to(bytes);
            let mut medium = Faulty::new(bytes.clone(), Some((at, Fault::Says(Errno::NODEV, false))));
            let (outcome, _) = flash(&shelf, &mut medium, &case.new, Some(Update::Changed));
            let now = medium.after_power_cut(|| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                random >> 63 == 1
            });
            let mut again = Faulty::new(now.clone(), None);
            let (finished, trust) = flash(&shelf, &mut again, &case.new, next);
            finished.unwrap();
            let differences = case.differences(&again.bytes);
            if outcome.is_err() && now != bytes {
                prop_assert_eq!((trust.bytes(), differences), (0, Vec::new()));
            } else {
                prop_assert!(differences.iter().all(|at| unseen.contains(at) && trust.covers(*at as u64..*at as u64 + 1)));
            }
        }
    }
}
