//! Stretches of a medium, and what two sets of them have in common.

use std::ops::Range;

/// Bytes of a medium, as ranges in order that neither touch nor overlap; none is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Spans(Vec<Range<u64>>);

impl Spans {
    /// What is in any of `ranges`, which may come in any order and overlap.
    pub(super) fn of(ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().filter(|range| range.start < range.end).collect();
        ranges.sort_by_key(|range| range.start);
        let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match joined.last_mut().filter(|last| range.start <= last.end) {
                Some(last) => last.end = last.end.max(range.end),
                None => joined.push(range),
            }
        }
        Self(joined)
    }

    /// The ranges.
    pub(super) fn ranges(&self) -> &[Range<u64>] {
        &self.0
    }

    /// How many bytes they are.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// The parts of `range` that are in here.
    fn inside(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let first = self.0.partition_point(|own| own.end <= range.start);
        let own = self.0.get(first..).unwrap_or_default().iter();
        let end = range.end;
        let cut = move |own: &Range<u64>| own.start.max(range.start)..own.end.min(range.end);
        own.take_while(move |own| own.start < end).map(cut).filter(|part| part.start < part.end)
    }

    /// The parts of `range` that are not in here.
    pub(super) fn outside(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut at = range.start;
        let mut parts = Vec::new();
        for own in self.inside(range.clone()) {
            parts.push(at..own.start);
            at = own.end;
        }
        parts.push(at..range.end);
        parts.retain(|part| part.start < part.end);
        parts
    }

    /// Whether all of `range` is in here.
    pub(super) fn contain(&self, range: Range<u64>) -> bool {
        self.outside(range).is_empty()
    }

    /// What is in both.
    pub(super) fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().flat_map(|range| other.inside(range.clone())).collect())
    }

    /// What is in here and not in `other`.
    pub(super) fn without(&self, other: &Self) -> Self {
        Self(self.0.iter().flat_map(|range| other.outside(range.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges() -> impl Strategy<Value = Vec<Range<u64>>> {
        proptest::collection::vec((0_u64..60, 0_u64..12).prop_map(|(start, size)| start..start + size), 0..8)
    }

    fn has(ranges: &[Range<u64>], byte: u64) -> bool {
        ranges.iter().any(|range| range.contains(&byte))
    }

    proptest! {
        #[test]
        fn every_byte_is_where_it_belongs(a in ranges(), b in ranges(), range in (0_u64..60, 0_u64..30)) {
            let (one, other) = (Spans::of(a.clone()), Spans::of(b.clone()));
            let wanted = range.0..range.0 + range.1;
            let (both, without, outside) = (one.and(&other), one.without(&other), one.outside(wanted.clone()));
            for byte in 0..90 {
                let (in_a, in_b) = (has(&a, byte), has(&b, byte));
                prop_assert_eq!(has(one.ranges(), byte), in_a);
                prop_assert_eq!(has(both.ranges(), byte), in_a && in_b);
                prop_assert_eq!(has(without.ranges(), byte), in_a && !in_b);
                prop_assert_eq!(has(&outside, byte), wanted.contains(&byte) && !in_a);
            }
            prop_assert_eq!(one.bytes(), (0..90).filter(|&byte| has(&a, byte)).count() as u64);
            prop_assert_eq!(one.contain(wanted.clone()), wanted.clone().all(|byte| has(&a, byte)));
            prop_assert!(one.ranges().windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
