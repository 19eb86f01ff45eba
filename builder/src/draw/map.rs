//! What lies where in a range of bytes.

use serde::Serialize;

/// Conflicts that are told: where there are so many, one more says nothing.
pub const MOST_CONFLICTS: usize = 200;

/// What something is for; drawings colour by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// What describes the rest: partition tables, file systems' own.
    Table,
    /// What runs first: boot ROM's loaders, U-Boot, firmware.
    Firmware,
    /// The hypervisor.
    Hypervisor,
    /// Kernels, ramdisks, device trees, scripts.
    Boot,
    /// A partition or file system.
    Volume,
    /// Memory that somebody keeps.
    Reserved,
    /// Nobody's.
    Free,
}

impl Role {
    /// All of them, in the order of a drawing's legend.
    pub const ALL: [Self; 7] =
        [Self::Table, Self::Firmware, Self::Hypervisor, Self::Boot, Self::Volume, Self::Reserved, Self::Free];

    /// The name a person reads.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Firmware => "firmware",
            Self::Hypervisor => "hypervisor",
            Self::Boot => "boot file",
            Self::Volume => "partition",
            Self::Reserved => "reserved",
            Self::Free => "free",
        }
    }
}

/// A range with a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span {
    /// What is there.
    pub name: String,
    /// What else there is to say of it, or nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The first byte, or physical address.
    pub start: u64,
    /// The size in bytes.
    pub size: u64,
    /// What it is for.
    pub role: Role,
    /// What is in it, whose places are not drawn: files of a file system, for one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inside: Vec<String>,
}

impl Span {
    /// A range with nothing said of its inside.
    pub fn new(name: impl Into<String>, start: u64, size: u64, role: Role) -> Self {
        Self { name: name.into(), detail: String::new(), start, size, role, inside: Vec::new() }
    }

    /// Adds what else there is to say.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Adds what is in it.
    #[must_use]
    pub fn inside(mut self, inside: Vec<String>) -> Self {
        self.inside = inside;
        self
    }

    /// The first byte behind it; one that would pass 2^64 ends there.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.size)
    }

    /// Whether the two have a byte in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}

/// Two spans that have bytes in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// The one that begins first.
    pub first: String,
    /// The other.
    pub second: String,
    /// The first byte that both have.
    pub start: u64,
    /// How many bytes both have.
    pub size: u64,
}

/// What lies where from byte `start` to byte `end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Map {
    /// What is drawn.
    pub title: String,
    /// The first byte, or address.
    pub start: u64,
    /// The first behind it.
    pub end: u64,
    /// Columns; in each the spans are sorted and have nothing in common. There is a second one only where spans of the
    /// first are in conflict with something.
    lanes: Vec<Vec<Span>>,
}

impl Map {
    /// Sorts `spans` into as few columns as they need. Empty ones are left out; the map is made longer for one that
    /// passes its end.
    pub fn new(title: impl Into<String>, start: u64, end: u64, spans: Vec<Span>) -> Self {
        let mut spans: Vec<Span> = spans.into_iter().filter(|span| span.size > 0).collect();
        // The longer of two that begin together is what the other lies in.
        spans.sort_by(|a, b| (a.start, b.size, &a.name).cmp(&(b.start, a.size, &b.name)));
        let start = spans.first().map_or(start, |span| span.start.min(start));
        let end = spans.iter().map(Span::end).fold(end.max(start), u64::max);
        let mut lanes: Vec<Vec<Span>> = Vec::new();
        for span in spans {
            let free = |lane: &&mut Vec<Span>| lane.last().is_none_or(|last| last.end() <= span.start);
            match lanes.iter_mut().find(free) {
                Some(lane) => lane.push(span),
                None => lanes.push(vec![span]),
            }
        }
        Self { title: title.into(), start, end, lanes }
    }

    /// The columns.
    pub fn lanes(&self) -> &[Vec<Span>] {
        &self.lanes
    }

    /// All spans by their place.
    pub fn spans(&self) -> Vec<&Span> {
        let mut spans: Vec<&Span> = self.lanes.iter().flatten().collect();
        spans.sort_by_key(|span| span.start);
        spans
    }

    /// Whether no two spans have a byte in common.
    pub fn is_disjoint(&self) -> bool {
        self.lanes.len() <= 1
    }

    /// Every pair with bytes in common, the first [`MOST_CONFLICTS`] of them.
    pub fn conflicts(&self) -> Vec<Conflict> {
        let spans = self.spans();
        let mut conflicts = Vec::new();
        for (index, first) in spans.iter().enumerate() {
            for second in spans.iter().skip(index + 1).take_while(|second| second.start < first.end()) {
                let size = first.end().min(second.end()) - second.start;
                let names = (first.name.clone(), second.name.clone());
                if conflicts.len() == MOST_CONFLICTS {
                    return conflicts;
                }
                conflicts.push(Conflict { first: names.0, second: names.1, start: second.start, size });
            }
        }
        conflicts
    }

    /// What nothing has: first byte and size.
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut next = self.start;
        for span in self.spans() {
            if span.start > next {
                gaps.push((next, span.start - next));
            }
            next = next.max(span.end());
        }
        if next < self.end {
            gaps.push((next, self.end - next));
        }
        gaps
    }

    /// All spans, and those that nothing has as spans of their own, by their place.
    pub fn with_gaps(&self) -> Vec<Span> {
        let mut all: Vec<Span> = self.spans().into_iter().cloned().collect();
        all.extend(self.gaps().into_iter().map(|(start, size)| Span::new("free", start, size, Role::Free)));
        all.sort_by_key(|span| span.start);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(name: &str, start: u64, size: u64) -> Span {
        Span::new(name, start, size, Role::Boot)
    }

    #[test]
    fn what_is_disjoint_is_one_column_with_its_gaps() {
        let map = Map::new("m", 0, 100, vec![span("b", 50, 10), span("a", 10, 20), span("c", 60, 40)]);
        assert!(map.is_disjoint() && map.conflicts().is_empty());
        assert_eq!(map.gaps(), [(0, 10), (30, 20)]);
        let names: Vec<String> = map.with_gaps().into_iter().map(|span| span.name).collect();
        assert_eq!(names, ["free", "a", "free", "b", "c"]);
    }

    #[test]
    fn what_overlaps_is_put_side_by_side_and_said() {
        let map = Map::new("m", 0, 100, vec![span("table", 0, 34), span("spl", 16, 30), span("p", 46, 200)]);
        assert_eq!((map.is_disjoint(), map.end, map.lanes().len()), (false, 246, 2));
        let conflict = Conflict { first: "table".into(), second: "spl".into(), start: 16, size: 18 };
        assert_eq!(map.conflicts(), [conflict]);
    }

    proptest! {
        #[test]
        fn columns_are_disjoint_and_nothing_is_lost(
            ranges in prop::collection::vec((any::<u64>(), any::<u64>()), 0..24),
            start: u64,
            end: u64,
        ) {
            let spans: Vec<Span> = ranges.iter().map(|(at, size)| span("x", *at, *size)).collect();
            let kept = spans.iter().filter(|span| span.size > 0).count();
            let overlap = spans.iter().enumerate().any(|(index, a)| spans[..index].iter().any(|b| a.size > 0 && b.size > 0 && a.overlaps(b)));
            let map = Map::new("m", start, end, spans);
            prop_assert_eq!(map.spans().len(), kept);
            prop_assert_eq!(map.is_disjoint(), !overlap);
            prop_assert_eq!(map.conflicts().is_empty(), !overlap);
            for lane in map.lanes() {
                for pair in lane.windows(2) {
                    prop_assert!(pair[0].end() <= pair[1].start);
                }
            }
            for (at, size) in map.gaps() {
                let gap = span("gap", at, size);
                prop_assert!(map.spans().iter().all(|span| !span.overlaps(&gap)));
            }
        }
    }
}
