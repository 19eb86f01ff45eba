//! Memory that guests share: frames of the owner's, or of nobody's, that each sharer finds at an address of its own.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use vambrace_abi::domid::{DOMID_IO, DomId};

use super::error::GuestError;
use super::layout::{self, Bank};
use crate::addr::{PAGE_SIZE, Pa, PaRange};
use crate::domain::Domain;
use crate::hypervisor::Hypervisor;
use crate::machine::Machine;
use crate::p2m::Kind;
use crate::platform::{SharedMemory, StaticGuest};

/// Shared memory that some guest has already.
struct Shared {
    owner: DomId,
    host: Option<Pa>,
    frames: Vec<Pa>,
}

/// All shared memory, by its name.
#[derive(Default)]
pub(super) struct SharedMemories {
    by_id: BTreeMap<String, Shared>,
}

impl SharedMemories {
    /// Maps a guest's shared memory. It is made when its first sharer comes, for its owner among `guests`.
    pub(super) fn map<M: Machine>(
        &mut self,
        hv: &Hypervisor<M>,
        domain: &Domain<M>,
        guest: &StaticGuest,
        guests: &[StaticGuest],
        ram: &[Bank],
    ) -> Result<(), GuestError> {
        let mut taken = ram.to_vec();
        for shared in &guest.shared {
            let bank = Bank { at: shared.at, size: shared.size };
            layout::check_clear("shared memory", bank)?;
            if taken.iter().any(|other| layout::overlap(*other, bank)) {
                let why = "lies on other memory of the guest's";
                return Err(GuestError::Place { what: "shared memory", range: bank.as_range(), why });
            }
            taken.push(bank);
            if !self.by_id.contains_key(&shared.id) {
                let made = make(hv, shared, owner(guests, &shared.id)?)?;
                self.by_id.insert(shared.id.clone(), made);
            }
            let Some(known) = self.by_id.get(&shared.id) else { continue };
            let same = known.host == shared.host && known.frames.len() as u64 * PAGE_SIZE == shared.size;
            if !same {
                return Err(GuestError::Shared("its sharers name different places or sizes"));
            }
            if known.owner == domain.id {
                // What others hold of it counts as the owner's.
                domain.max_pages.fetch_add(known.frames.len() as u64, Ordering::AcqRel);
            }
            let mut p2m = domain.p2m.lock();
            let mut frames = hv.frames.lock();
            for (index, frame) in known.frames.iter().enumerate() {
                let at = shared.at.offset(index as u64 * PAGE_SIZE);
                // Each mapping has a reference; the first one goes back when all guests are built.
                frames.hold(*frame, known.owner).map_err(|_| GuestError::OutOfMemory)?;
                let mapped = p2m.map(&hv.machine, &mut frames, at, *frame, PAGE_SIZE, Kind::Data);
                mapped.inspect_err(|_| frames.put(*frame))?;
            }
        }
        Ok(())
    }

    /// Gives the references back that kept the memory until it was mapped.
    pub(super) fn release<M: Machine>(self, hv: &Hypervisor<M>) {
        let mut frames = hv.frames.lock();
        for frame in self.by_id.into_values().flat_map(|shared| shared.frames) {
            frames.put(frame);
        }
    }
}

/// The guest that owns shared memory: nobody's is [`DOMID_IO`]'s.
fn owner(guests: &[StaticGuest], id: &str) -> Result<DomId, GuestError> {
    let owns = |guest: &&StaticGuest| guest.shared.iter().any(|shared| shared.id == id && shared.is_owner);
    let mut owners = guests.iter().filter(owns);
    let first = owners.next().map_or(DOMID_IO, |guest| guest.id);
    match owners.next() {
        Some(_) => Err(GuestError::Shared("two guests want to own it")),
        None => Ok(first),
    }
}

fn make<M: Machine>(hv: &Hypervisor<M>, shared: &SharedMemory, owner: DomId) -> Result<Shared, GuestError> {
    let count = layout::page_count(shared.size);
    let mut made = Vec::new();
    match shared.host.and_then(|host| PaRange::new(host, shared.size)) {
        Some(range) => {
            let refuse = GuestError::Place { what: "shared memory", range, why: "is not free memory" };
            hv.frames.lock().adopt(range, owner).map_err(|_| refuse)?;
            made.extend((0..count).map(|page| range.start.offset(page * PAGE_SIZE)));
        }
        None => {
            let mut frames = hv.frames.lock();
            for _ in 0..count {
                let Some(frame) = frames.allocate_for(owner, 0) else {
                    made.into_iter().for_each(|frame| frames.put(frame));
                    return Err(GuestError::OutOfMemory);
                };
                made.push(frame);
            }
        }
    }
    for frame in &made {
        let range = PaRange { start: *frame, end: frame.offset(PAGE_SIZE) };
        let cleared =
            hv.machine.zero(*frame, PAGE_SIZE).and_then(|()| hv.machine.clean_dcache(*frame, PAGE_SIZE));
        if cleared.is_err() {
            let mut frames = hv.frames.lock();
            made.iter().for_each(|frame| frames.put(*frame));
            return Err(GuestError::Unreachable(range));
        }
    }
    Ok(Shared { owner, host: shared.host, frames: made })
}
