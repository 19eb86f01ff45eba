//! What of a medium is taken as unchanged without being read.

use super::evidence::Part;
use super::memory::Memory;
use super::spans::Spans;
use crate::error::Result;
use crate::image::{BlockMap, Rest};
use std::collections::HashMap;
use std::ops::Range;

/// Stretches of a medium that are not read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Trust {
    spans: Spans,
    /// Seconds after 1970 began when they were read last; `None` where nothing was known of the medium.
    pub(super) since: Option<u64>,
    /// Parts that were written to since, so that all of them is compared.
    pub(super) written_to: Vec<String>,
}

impl Trust {
    /// What need not be compared of a medium that has got `memory`, to see whether it has the image with `map`: ranges that
    /// are the same in both, in parts whose evidence is as it was, and of those only what lies in `open`. `read` reads the
    /// medium.
    ///
    /// # Errors
    ///
    /// What `read` says.
    pub(super) fn of(
        memory: &Memory,
        map: &BlockMap,
        open: Range<u64>,
        read: &mut dyn FnMut(&mut [u8], u64) -> Result<()>,
    ) -> Result<Self> {
        let same = unchanged(&memory.map, map);
        let (mut good, mut bad, mut written_to) = (Vec::new(), Vec::new(), Vec::new());
        for Part { name, place, evidence } in &memory.parts {
            match evidence {
                // Where all of it is written anew, nobody asks what it was.
                Some(_) if Spans::of([place.clone()]).and(&same).ranges().is_empty() => {}
                Some(evidence) if evidence.is_there(read)? => good.push(place.clone()),
                Some(_) => {
                    written_to.push(name.clone());
                    bad.push(place.clone());
                }
                None => bad.push(place.clone()),
            }
        }
        // Evidence itself is compared: so it is read from the image too, and one that was edited behind its map is noticed.
        let evidence = memory.parts.iter().filter_map(|part| part.evidence.as_ref());
        let evidence = Spans::of(evidence.flat_map(|evidence| evidence.places.iter().cloned()));
        let spans = same.and(&Spans::of(good)).without(&Spans::of(bad)).without(&evidence);
        let spans = spans.and(&Spans::of([open]));
        Ok(Self { spans, since: Some(memory.since), written_to })
    }

    /// How many bytes are taken as unchanged.
    pub(super) fn bytes(&self) -> u64 {
        self.spans.bytes()
    }

    /// Whether all of `range` is.
    pub(super) fn covers(&self, range: Range<u64>) -> bool {
        self.spans.contain(range)
    }

    /// What of `range` is not.
    pub(super) fn outside(&self, range: Range<u64>) -> Vec<Range<u64>> {
        self.spans.outside(range)
    }
}

/// What two images have in common by their maps.
fn unchanged(old: &BlockMap, new: &BlockMap) -> Spans {
    let known: HashMap<(u64, u64), [u8; 32]> =
        old.ranges().iter().filter_map(|range| Some((old.bytes(range), range.sha256?))).collect();
    let same = new.ranges().iter().filter_map(|range| {
        let place = new.bytes(range);
        (range.sha256.is_some() && known.get(&place) == range.sha256.as_ref()).then_some(place.0..place.1)
    });
    let mut same: Vec<Range<u64>> = same.collect();
    if (old.rest(), new.rest()) == (Rest::Zero, Rest::Zero) {
        let ranges = [old, new].into_iter().flat_map(|map| {
            map.ranges().iter().map(|range| {
                let (start, end) = map.bytes(range);
                start..end
            })
        });
        same.extend(Spans::of(ranges).outside(0..old.image_size().min(new.image_size())));
    }
    Spans::of(same)
}
