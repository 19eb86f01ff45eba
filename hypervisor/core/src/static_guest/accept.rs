//! Which guests can be started as far as memory goes: where their files and their memory lie, before anything uses it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::error::GuestError;
use crate::addr::PaRange;
use crate::platform::{Platform, StaticGuest};

/// Splits the tree's guests into those that can be started and, in words, why the others cannot. `own` is what the
/// hypervisor lies on: its image and the host's device tree.
pub fn accept(platform: &Platform, own: &[PaRange]) -> (Vec<StaticGuest>, Vec<String>) {
    let all = &platform.boot.domains.guests;
    // Files are read when the memory of guests is zeroed, which therefore must keep clear of all of them.
    let mut loaded: Vec<PaRange> = platform.boot.modules.iter().map(|module| module.range).collect();
    loaded.extend(all.iter().flat_map(StaticGuest::files).map(|(_, range)| range));
    loaded.extend_from_slice(own);
    loaded.extend(platform.reserved.iter().map(|reserved| reserved.range));
    let mut accepted: Vec<StaticGuest> = Vec::new();
    let mut refused = Vec::new();
    for guest in all {
        match check(platform, own, &loaded, &accepted, guest) {
            Ok(()) => accepted.push(guest.clone()),
            Err(error) => refused.push(format!("{}: {error}; d{} is not started", guest.path, guest.id)),
        }
    }
    (accepted, refused)
}

fn check(
    platform: &Platform,
    own: &[PaRange],
    loaded: &[PaRange],
    accepted: &[StaticGuest],
    guest: &StaticGuest,
) -> Result<(), GuestError> {
    let refuse = |what, range, why| Err(GuestError::Place { what, range, why });
    let in_ram = |range: PaRange| platform.ram.iter().any(|bank| bank.contains_range(range));
    for (what, range) in guest.files() {
        if !in_ram(range) {
            return refuse(what, range, "lies outside of memory");
        }
        if own.iter().any(|other| other.overlaps(range)) {
            return refuse(what, range, "lies on the hypervisor or its device tree");
        }
    }
    let what = "memory set apart";
    let mut before: Vec<PaRange> = Vec::new();
    for range in guest.reserved() {
        if !in_ram(range) {
            return refuse(what, range, "lies outside of memory");
        }
        if loaded.iter().any(|other| other.overlaps(range.page_outer())) {
            return refuse(what, range, "lies on something that the loader or the firmware put there");
        }
        if before.iter().any(|other| other.overlaps(range)) {
            return refuse(what, range, "lies on other memory of this guest");
        }
        before.push(range);
    }
    for other in accepted {
        for bank in &other.banks {
            if guest.reserved().any(|range| range.overlaps(*bank)) {
                return refuse(what, *bank, "is another guest's");
            }
        }
        // Shared memory may only lie on the same shared memory.
        for theirs in &other.shared {
            let Some(there) = theirs.host.and_then(|host| PaRange::new(host, theirs.size)) else { continue };
            let ours = guest.shared.iter().find(|ours| ours.id == theirs.id);
            let same = ours.is_some_and(|ours| (ours.host, ours.size) == (theirs.host, theirs.size));
            let overlaps = guest.reserved().filter(|range| range.overlaps(there)).count();
            if overlaps > usize::from(same) {
                return refuse(what, there, "is shared by others");
            }
        }
    }
    Ok(())
}
