//! The order of writing, on media that fail.

use super::*;
use crate::flash::faulty::{Fault, Faulty};
use crate::flash::order::Geometry;
use crate::flash::trust::Trust;
use crate::image::{BlockMap, Range};
use proptest::prelude::*;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

/// Small, so that a test has thousands of media.
pub(in crate::flash) const SMALL: Geometry =
    Geometry { head: 16 << 10, table: 4096, tail: 16 << 10, chunk: 2048, stride: 8192 };
pub(in crate::flash) const BLOCK: usize = 1024;

/// Nobody who is told.
pub(in crate::flash) struct Nobody;

impl Watch for Nobody {
    fn begins(&mut self) -> Result<()> {
        Ok(())
    }

    fn moved(&mut self, _: Stage, _: u64, _: u64) {}
}

/// An image in memory.
#[derive(Debug, Clone)]
pub(in crate::flash) struct Sample {
    pub(in crate::flash) data: Vec<u8>,
    pub(in crate::flash) map: BlockMap,
}

impl Sample {
    /// The image with these bytes, of which the blocks that `used` names are mapped.
    pub(in crate::flash) fn new(mut data: Vec<u8>, used: &[bool], rest: Rest, hashed: bool) -> Self {
        let mut ranges: Vec<Range> = Vec::new();
        for (index, block) in data.chunks_mut(BLOCK).enumerate() {
            if !used.get(index).copied().unwrap_or(false) {
                block.fill(0);
                continue;
            }
            match ranges.last_mut().filter(|last| last.first + last.count == index as u64) {
                Some(last) => last.count += 1,
                None => ranges.push(Range { first: index as u64, count: 1, sha256: None }),
            }
        }
        for range in &mut ranges {
            let start = range.first as usize * BLOCK;
            let end = (start + range.count as usize * BLOCK).min(data.len());
            range.sha256 = hashed.then(|| Sha256::digest(&data[start..end]).into());
        }
        let map = BlockMap::new(BLOCK as u64, data.len() as u64, ranges, rest).unwrap();
        Self { data, map }
    }

    /// The same with ranges of at most `most` blocks.
    pub(in crate::flash) fn cut(self, most: u64) -> Self {
        let cut = |range: &Range| {
            let Range { first, count, .. } = *range;
            (0..count).step_by(most as usize).map(move |at| (first + at, most.min(count - at)))
        };
        let ranges = self.map.ranges().iter().flat_map(cut).map(|(first, count)| {
            let end = ((first + count) as usize * BLOCK).min(self.data.len());
            let sha256 = Some(Sha256::digest(&self.data[first as usize * BLOCK..end]).into());
            Range { first, count, sha256 }
        });
        let map = BlockMap::new(BLOCK as u64, self.map.image_size(), ranges.collect(), self.map.rest());
        Self { map: map.unwrap(), ..self }
    }

    /// The pieces, of at most `size` bytes.
    pub(in crate::flash) fn pieces(&self, size: usize) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for range in self.map.ranges() {
            let (start, end) = self.map.bytes(range);
            let mut at = start as usize;
            while at < end as usize {
                let stop = (at + size).min(end as usize);
                pieces.push(Piece { offset: at as u64, data: self.data[at..stop].to_vec() });
                at = stop;
            }
        }
        pieces
    }

    /// Flashes it.
    pub(in crate::flash) fn onto(&self, medium: &mut Faulty, update: bool) -> Result<Outcome> {
        self.from(medium, update, &mut self.pieces(5000).into_iter().map(Ok))
    }

    /// Flashes what `pieces` gives.
    fn from(
        &self,
        medium: &mut Faulty,
        update: bool,
        pieces: &mut dyn Iterator<Item = Result<Piece>>,
    ) -> Result<Outcome> {
        let order = Order { map: &self.map, update, trust: &Trust::default(), geometry: SMALL };
        transfer(medium, order, &mut || pieces.next(), &mut Nobody)
    }

    /// Whether the medium has it, from byte `from` on.
    pub(in crate::flash) fn is_on(&self, bytes: &[u8], from: usize) -> bool {
        let mapped = self.pieces(BLOCK).iter().all(|piece| {
            let start = piece.offset as usize;
            let skip = from.saturating_sub(start).min(piece.data.len());
            bytes[start + skip..start + piece.data.len()] == piece.data[skip..]
        });
        mapped
            && (self.map.rest() == Rest::Any
                || bytes[from.min(self.data.len())..self.data.len()]
                    == self.data[from.min(self.data.len())..])
    }
}

/// A medium that has a GPT with both copies, or a MBR, and other things.
fn old_medium(size: usize, seed: u8, gpt: bool) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..size).map(|index| (index / 512) as u8 ^ (index as u8) ^ seed).collect();
    // Half of it is empty, as on most media.
    bytes[size / 4..size * 3 / 4].fill(0);
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    if gpt {
        bytes[512..520].copy_from_slice(SIGNATURE);
        let last = size - 512;
        bytes[last..last + 8].copy_from_slice(SIGNATURE);
    }
    bytes
}

fn shows_a_table(bytes: &[u8]) -> bool {
    bytes[510..512] == [0x55, 0xaa] || bytes[512..520] == *SIGNATURE || bytes[4096..4104] == *SIGNATURE
}

/// What must hold whenever the medium is pulled out, even of one that forgets what was written. Of an old table a half
/// may be gone, while nothing behind it is touched.
fn shows_no_lie(sample: &Sample, old: &[u8], now: &[u8]) -> bool {
    let behind = SMALL.table + 512;
    !shows_a_table(now) || now[behind..] == old[behind..] || sample.is_on(now, SMALL.table)
}

/// What must hold whenever the medium is pulled out.
fn is_safe(sample: &Sample, old: &[u8], now: &[u8]) -> bool {
    let complete = sample.is_on(now, SMALL.table);
    if shows_a_table(now) {
        return shows_no_lie(sample, old, now);
    }
    // Tools mend a GPT from its second copy.
    let last = now.len() - 512;
    let old_backup = now[last..last + 8] == *SIGNATURE && now[last..] == old[last..];
    let tail = now.len() - SMALL.tail as usize;
    !old_backup || complete || now[SMALL.head..tail] == old[SMALL.head..tail]
}

fn with_gpt(length: usize) -> Sample {
    let mut data: Vec<u8> = (0..length).map(|index| ((index * 31) >> 4) as u8 | 1).collect();
    data[510..512].copy_from_slice(&[0x55, 0xaa]);
    data[512..520].copy_from_slice(SIGNATURE);
    Sample::new(data, &vec![true; length.div_ceil(BLOCK)], Rest::Zero, true)
}

#[test]
fn an_image_gets_onto_a_medium_and_again_writes_nothing() {
    let sample = with_gpt(50_000);
    let old = old_medium(64 << 10, 5, true);
    let mut medium = Faulty::new(old, None);
    let outcome = sample.onto(&mut medium, false).unwrap();
    assert!(sample.is_on(&medium.bytes, 0) && !outcome.resumed);
    assert!(is_zero(&medium.bytes[50_000..]), "nothing of the old table is left behind the image");
    assert_eq!(outcome.counts.written, medium.written);
    assert!(outcome.counts.verified >= 50_000);
    let before = medium.written;
    let outcome = sample.onto(&mut medium, true).unwrap();
    assert_eq!((outcome.counts.written, medium.written), (0, before));
}

#[test]
fn an_update_writes_what_differs() {
    let mut sample = with_gpt(50_000);
    let mut medium = Faulty::new(old_medium(64 << 10, 5, false), None);
    sample.onto(&mut medium, false).unwrap();
    let before = medium.written;
    sample.data[40_000] ^= 1;
    let sample = Sample::new(sample.data, &[true; 49], Rest::Zero, true);
    let outcome = sample.onto(&mut medium, true).unwrap();
    assert!(sample.is_on(&medium.bytes, 0));
    // The mark and the table, the beginning, which the mark has changed, and one chunk.
    let written = medium.written - before;
    assert_eq!((outcome.counts.written, written), (written, 4096 + 2048 + 4096));
}

#[test]
fn what_a_map_leaves_out_stays_but_for_an_old_table() {
    let mut used = [false; 48];
    used[20] = true;
    let sample = Sample::new(vec![7; 48 * BLOCK], &used, Rest::Any, true);
    let old = old_medium(80 << 10, 9, true);
    let mut medium = Faulty::new(old.clone(), None);
    sample.onto(&mut medium, false).unwrap();
    let now = &medium.bytes;
    assert!(sample.is_on(now, 0) && !shows_a_table(now) && is_zero(&now[..1024]));
    let others = [(1024, 20 * BLOCK), (21 * BLOCK, now.len() - SMALL.tail as usize)];
    assert!(others.iter().all(|&(start, end)| now[start..end] == old[start..end]));
}

#[test]
fn an_interrupted_write_is_gone_on_with() {
    let sample = with_gpt(50_000);
    let mut medium = Faulty::new(old_medium(64 << 10, 5, true), Some((30, Fault::Says(Errno::IO, false))));
    let said = sample.onto(&mut medium, false).unwrap_err().report();
    assert!(said.contains("go") && said.contains("run the same command again"), "{said}");
    let mut medium = Faulty::new(medium.bytes, None);
    let outcome = sample.onto(&mut medium, false).unwrap();
    assert!(outcome.resumed && sample.is_on(&medium.bytes, 0));
    assert!(outcome.counts.written < 45_000 && outcome.counts.verified >= 50_000, "{outcome:?}");
    // Another image does not go on with it.
    let mut medium = Faulty::new(medium.bytes, Some((30, Fault::Says(Errno::IO, false))));
    sample.onto(&mut medium, false).unwrap_err();
    let other = Sample::new(vec![3; 50_000], &[true; 49], Rest::Zero, true);
    let mut medium = Faulty::new(medium.bytes, None);
    assert!(!other.onto(&mut medium, false).unwrap().resumed);
}

#[test]
fn errors_have_their_place_and_what_to_do() {
    let mut sample = with_gpt(50_000);
    // A MBR whose first partition has everything behind the head.
    sample.data[512] = 0;
    sample.data[446..510].fill(0);
    sample.data[454..462].copy_from_slice(&[32, 0, 0, 0, 99, 0, 0, 0]);
    let sample = Sample::new(sample.data, &[true; 49], Rest::Zero, true);
    let old = old_medium(64 << 10, 5, true);
    let said = |errno: Errno| {
        (0..90)
            .map(|call| {
                let mut medium = Faulty::new(old.clone(), Some((call, Fault::Says(errno, false))));
                sample.onto(&mut medium, false).map_or_else(|error| error.report(), |_| String::new())
            })
            .collect::<Vec<_>>()
    };
    let io = said(Errno::IO);
    assert!(
        io.iter()
            .any(|said| said.contains("cannot be written at byte 0x") && said.contains("in partition 1")),
        "{io:?}"
    );
    assert!(
        io.iter().any(|said| said.contains("cannot be read at byte 0x") && said.contains("in partition 1"))
    );
    assert!(io[0].contains("nothing was written"), "{}", io[0]);
    assert!(said(Errno::NODEV)[20].contains("put it back in"));
    assert!(said(Errno::NOSPC)[20].contains("the medium ends here"));
}

#[test]
fn a_damaged_image_leaves_no_table() {
    let sample = with_gpt(50_000);
    let mut pieces = sample.pieces(5000).into_iter().map(Ok).take(6).chain([Err(Error::new("damaged"))]);
    let mut medium = Faulty::new(old_medium(64 << 10, 5, true), None);
    let told = sample.from(&mut medium, false, &mut pieces);
    assert!(told.unwrap_err().what() == "damaged" && !shows_a_table(&medium.bytes));
    // One that is damaged from the beginning changes nothing.
    let old = old_medium(64 << 10, 5, true);
    let mut medium = Faulty::new(old.clone(), None);
    let mut none = [Err(Error::new("damaged"))].into_iter();
    sample.from(&mut medium, false, &mut none).unwrap_err();
    assert!(medium.bytes == old);
}

#[test]
fn a_medium_that_forgets_is_known_at_once() {
    let sample = with_gpt(50_000);
    let old = old_medium(64 << 10, 5, true);
    // The first two calls read; the third is the first to write.
    let mut medium = Faulty::new(old.clone(), Some((2, Fault::Lost)));
    let said = sample.onto(&mut medium, false).unwrap_err().report();
    assert!(said.contains("does not keep") && medium.bytes == old, "{said}");
}

#[test]
fn an_image_that_fills_the_medium_is_safe_at_every_call() {
    let size = 64 << 10;
    let (sample, old) = (with_gpt(size), old_medium(size, 5, true));
    for update in [false, true] {
        let mut whole = Faulty::new(old.clone(), None);
        sample.onto(&mut whole, update).unwrap();
        for call in 0..whole.calls {
            let mut medium = Faulty::new(old.clone(), Some((call, Fault::Says(Errno::NODEV, false))));
            sample.onto(&mut medium, update).unwrap_err();
            assert!(is_safe(&sample, &old, &medium.bytes), "call {call} of an update: {update}");
        }
    }
}

#[test]
fn an_update_keeps_what_it_has_compared_and_clears_what_is_stale() {
    let size = 64 << 10;
    let mut data = with_gpt(size).data;
    // A header for blocks of 4096 bytes, in a piece before the last one.
    data[size - 4096..size - 4088].copy_from_slice(SIGNATURE);
    let sample = Sample::new(data.clone(), &[true; 64], Rest::Zero, true);
    data[size - 1] ^= 1;
    let mut medium = Faulty::new(data, None);
    sample.onto(&mut medium, true).unwrap();
    assert!(sample.is_on(&medium.bytes, 0));

    let sample = with_gpt(40_000);
    let mut medium = Faulty::new([&sample.data[..], &vec![0; size - 40_000]].concat(), None);
    medium.bytes[size - 512..size - 504].copy_from_slice(SIGNATURE);
    sample.onto(&mut medium, true).unwrap();
    assert!(sample.is_on(&medium.bytes, 0) && is_zero(&medium.bytes[40_000..]));
}

#[test]
fn whatever_write_is_lost_it_is_found() {
    let used: Vec<bool> = (0..60).map(|block| block < 4 || block % 7 == 3).collect();
    let sample = Sample::new(with_gpt(60_000).data, &used, Rest::Zero, true);
    let mut old = old_medium(64 << 10, 5, true);
    // Nothing of it is zeros: each gap has to be written.
    old[1024..63 << 10].iter_mut().for_each(|byte| *byte |= 1);
    let mut whole = Faulty::new(old.clone(), None);
    sample.onto(&mut whole, false).unwrap();
    let found = (0..whole.calls).filter(|&call| {
        let mut medium = Faulty::new(old.clone(), Some((call, Fault::Lost)));
        let ended = sample.onto(&mut medium, false);
        assert!(ended.is_err() || sample.is_on(&medium.bytes, 0), "call {call}");
        ended.is_err()
    });
    assert!(found.count() > 20);
}

#[test]
fn what_does_not_fit_is_not_begun() {
    let sample = with_gpt(50_000);
    let old = old_medium(48 << 10, 5, true);
    let mut medium = Faulty::new(old.clone(), None);
    assert!(sample.onto(&mut medium, false).is_err() && medium.bytes == old);
}

fn samples() -> impl Strategy<Value = (Sample, Vec<u8>)> {
    let length = (18_usize << 10)..(40 << 10);
    let used = proptest::collection::vec(proptest::bool::weighted(0.6), 40);
    let table = 0..3;
    let more = prop_oneof![Just(0), 0_usize..48];
    (length, used, any::<bool>(), any::<bool>(), table, more, any::<u8>(), any::<bool>(), any::<bool>())
        .prop_map(|(length, used, zero, hashed, table, more, seed, gpt, near)| {
            let mut data: Vec<u8> =
                (0..length).map(|index| (index / 700) as u8 ^ seed.rotate_left(3)).collect();
            if table > 0 {
                data[510..512].copy_from_slice(&[0x55, 0xaa]);
            }
            if table > 1 {
                data[512..520].copy_from_slice(SIGNATURE);
                let last = length / 512 * 512 - 512;
                data[last..last + 8].copy_from_slice(SIGNATURE);
            }
            let rest = if zero { Rest::Zero } else { Rest::Any };
            let sample = Sample::new(data, &used, rest, hashed);
            // From one that the image just fits onto to one that is much larger.
            let size = (length.div_ceil(512) + more) * 512;
            let size = size.max(SMALL.head + SMALL.tail as usize);
            let mut old = old_medium(size, seed, gpt);
            if near {
                // Much of the image is there already.
                old[..length].copy_from_slice(&sample.data);
                old[length / 2] ^= 1;
            }
            (sample, old)
        })
}

fn faults() -> impl Strategy<Value = Fault> {
    prop_oneof![
        any::<bool>().prop_map(|once| Fault::Says(Errno::IO, once)),
        Just(Fault::Says(Errno::NODEV, false)),
        Just(Fault::Says(Errno::INTR, true)),
        Just(Fault::Short),
        Just(Fault::Lost),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pulled_out_at_any_moment_it_shows_no_table_over_the_wrong_contents(
        (sample, old) in samples(),
        update in any::<bool>(),
        fault in faults(),
        at in 0_usize..90,
        mut random in any::<u64>(),
    ) {
        let mut medium = Faulty::new(old.clone(), Some((at, fault)));
        let ended = sample.onto(&mut medium, update);
        if ended.is_ok() {
            prop_assert!(sample.is_on(&medium.bytes, 0), "it is said to be there, and is not");
        }
        prop_assert!(shows_no_lie(&sample, &old, &medium.bytes), "after {ended:?}");
        // That a lost write left the table's second copy in place shows only when all is read back.
        if fault != Fault::Lost {
            prop_assert!(is_safe(&sample, &old, &medium.bytes), "after {ended:?}");
        }
        let now = medium.after_power_cut(|| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            random >> 63 == 1
        });
        if fault != Fault::Lost {
            prop_assert!(is_safe(&sample, &old, &now), "after a power cut, {ended:?}");
        }
        for bytes in [now, medium.bytes.clone()] {
            for update in [false, true] {
                let mut again = Faulty::new(bytes.clone(), None);
                let outcome = sample.onto(&mut again, update).unwrap();
                prop_assert!(sample.is_on(&again.bytes, 0), "{outcome:?}");
                prop_assert_eq!(outcome.counts.written, again.written);
            }
        }
    }

    #[test]
    fn killed_at_any_write_it_is_safe((sample, old) in samples(), update in any::<bool>(), kept in any::<u64>()) {
        // Every call, one after the other, as the last one.
        let mut whole = Faulty::new(old.clone(), None);
        sample.onto(&mut whole, update).unwrap();
        let mut random = kept;
        for call in (0..whole.calls).step_by(11) {
            let mut medium = Faulty::new(old.clone(), Some((call, Fault::Says(Errno::NODEV, false))));
            prop_assert!(sample.onto(&mut medium, update).is_err());
            let now = medium.after_power_cut(|| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                random >> 63 == 1
            });
            prop_assert!(is_safe(&sample, &old, &medium.bytes) && is_safe(&sample, &old, &now), "at call {call}");
        }
    }
}
