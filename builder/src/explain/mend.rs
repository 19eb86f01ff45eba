//! The smallest change that puts two things apart.

use crate::disk::BLOCK;
use crate::draw::{Conflict, Map, Role, Span};
use crate::plan::memory::{Region, Wanted, place};

/// What partitions begin at a multiple of.
const ALIGNMENT: u64 = 1 << 20;
/// Entries of a GPT have this many bytes; their number is a multiple of what a block holds.
const ENTRY: u64 = 128;
/// The fewest entries that a layout may have.
const FEWEST_ENTRIES: u64 = 16;
/// Kernels want to be at a multiple of this.
const KERNEL_ALIGNMENT: u64 = 2 << 20;

/// The two spans of a conflict.
fn both<'a>(map: &'a Map, conflict: &Conflict) -> Option<(&'a Span, &'a Span)> {
    let spans = map.spans();
    let first = spans.iter().find(|span| span.name == conflict.first && span.end() > conflict.start)?;
    let second = spans.iter().find(|span| span.name == conflict.second && span.start == conflict.start)?;
    Some((first, second))
}

/// What mends a conflict on the medium.
pub(super) fn medium(map: &Map, conflict: &Conflict) -> Option<String> {
    let (first, second) = both(map, conflict)?;
    match (first.role, second.role) {
        (Role::Table, Role::Firmware) => {
            // Entries begin behind the protective record and the header.
            let begins = if first.name.contains("entries") { first.start } else { 2 * BLOCK };
            let room = second.start.checked_sub(begins)? / ENTRY / (BLOCK / ENTRY) * (BLOCK / ENTRY);
            Some(if room >= FEWEST_ENTRIES && first.name.contains("GPT") {
                format!(
                    "give the GPT {room} entries, so that it ends before byte {:#x}; or use a MBR",
                    second.start
                )
            } else {
                "use a MBR, which has the first block alone".to_owned()
            })
        }
        (Role::Table | Role::Firmware, Role::Volume) => {
            let start = first.end().checked_next_multiple_of(ALIGNMENT)?;
            Some(format!("begin {} at byte {start:#x}, behind {}", second.name, first.name))
        }
        (Role::Volume, Role::Table) if second.end() >= map.end => {
            let size = (second.start - first.start) / ALIGNMENT * ALIGNMENT;
            Some(format!("end {} before byte {:#x}: give it {size} bytes", first.name, second.start))
        }
        (Role::Volume, Role::Volume) if second.start > first.start => {
            let size = second.start - first.start;
            Some(format!(
                "give {} {size} bytes instead of {}, so that it ends where {} begins",
                first.name, first.size, second.name
            ))
        }
        _ => {
            let start = free(map, second)?;
            Some(format!("move {} to byte {start:#x}, which is free", second.name))
        }
    }
}

/// The first byte from which on there is room for `span`, aligned.
fn free(map: &Map, span: &Span) -> Option<u64> {
    map.gaps().into_iter().find_map(|(start, size)| {
        let aligned = start.checked_next_multiple_of(ALIGNMENT)?;
        (aligned.checked_add(span.size)? <= start.checked_add(size)?).then_some(aligned)
    })
}

/// What mends a conflict in RAM: the smaller of the two that may move is moved to the first place where it fits among
/// all others.
pub(super) fn memory(map: &Map, conflict: &Conflict) -> Option<String> {
    let (first, second) = both(map, conflict)?;
    let movable = |span: &&Span| !matches!(span.role, Role::Firmware | Role::Reserved);
    let moved = [first, second].into_iter().filter(movable).min_by_key(|span| span.size)?;
    let mut fixed: Vec<Region> = Vec::new();
    for span in map.spans() {
        // Of others that lie over one another, what they have together is taken once.
        if span != moved {
            let region =
                Region { what: String::new(), start: span.start, size: span.size, why: String::new() };
            match fixed.last_mut().filter(|last| last.end() > region.start) {
                Some(last) => last.size = last.size.max(region.end() - last.start),
                None => fixed.push(region),
            }
        }
    }
    let wanted = Wanted {
        what: "moved".into(),
        size: moved.size,
        alignment: KERNEL_ALIGNMENT,
        offset: 0,
        why: String::new(),
    };
    let regions = place(map.start, map.end, &fixed, &[wanted]).ok()?;
    let found = regions.iter().find(|region| region.what == "moved")?;
    Some(format!("load {} at {:#x} instead of {:#x}", moved.name, found.start, moved.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(map: &Map, mend: impl Fn(&Map, &Conflict) -> Option<String>) -> Vec<String> {
        map.conflicts().iter().map(|conflict| mend(map, conflict).unwrap_or_default()).collect()
    }

    #[test]
    fn a_gpt_is_made_shorter_for_an_spl() {
        let spans = vec![
            Span::new("GPT entries", 1024, 16384, Role::Table),
            Span::new("SPL", 8192, 24576, Role::Firmware),
        ];
        let map = Map::new("m", 0, 1 << 26, spans);
        assert_eq!(
            changes(&map, medium),
            ["give the GPT 56 entries, so that it ends before byte 0x2000; or use a MBR"]
        );
    }

    #[test]
    fn partitions_give_way_to_what_lies_before_them() {
        let spans = vec![
            Span::new("U-Boot", 40 << 10, 2 << 20, Role::Firmware),
            Span::new("a", 1 << 20, 8 << 20, Role::Volume),
            Span::new("b", 8 << 20, 8 << 20, Role::Volume),
        ];
        let map = Map::new("m", 0, 1 << 26, spans);
        let expected = [
            "begin a at byte 0x300000, behind U-Boot",
            "give a 7340032 bytes instead of 8388608, so that it ends where b begins",
        ];
        assert_eq!(changes(&map, medium), expected);
    }

    #[test]
    fn what_is_loaded_over_something_is_moved_to_where_it_fits() {
        let mib = |n: u64| n << 20;
        let spans = vec![
            Span::new("kernel", mib(1026), mib(30), Role::Boot),
            Span::new("ramdisk", mib(1040), mib(8), Role::Boot),
            Span::new("U-Boot", mib(1100), mib(4), Role::Firmware),
        ];
        let map = Map::new("m", mib(1024), mib(1152), spans);
        assert_eq!(changes(&map, memory), ["load ramdisk at 0x42000000 instead of 0x41000000"]);
        let fixed = vec![Span::new("a", 0, 10, Role::Reserved), Span::new("b", 5, 10, Role::Firmware)];
        assert_eq!(changes(&Map::new("m", 0, 100, fixed), memory), [""], "neither can be moved");
    }
}
