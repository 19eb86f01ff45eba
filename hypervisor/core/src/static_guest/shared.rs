//! Memory that guests share: frames of the owner's, or of nobody's, that each sharer finds at an address of its own.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use vambrace_abi::domid::{DOMID_IO, DomId};

use super::error::GuestError;
use super::layout::{self, Bank};
use super::memory::ORDERS;
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
    /// Where it lies, in the order in which the sharers find it.
    ranges: Vec<PaRange>,
}

impl Shared {
    fn pages(&self) -> u64 {
        self.ranges.iter().map(|range| layout::page_count(range.size())).sum()
    }

    fn frames(&self) -> impl Iterator<Item = Pa> {
        let of = |range: &PaRange| {
            let start = range.start;
            (0..layout::page_count(range.size())).map(move |page| start.offset(page * PAGE_SIZE))
        };
        self.ranges.iter().flat_map(of)
    }

    /// Gives the references back that keep it until it is mapped.
    fn release<M: Machine>(&self, hv: &Hypervisor<M>) {
        let mut frames = hv.frames.lock();
        self.ranges.iter().for_each(|range| frames.put_range(range.start, layout::page_count(range.size())));
    }
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
            let same = known.host == shared.host && known.pages() == layout::page_count(shared.size);
            if !same {
                return Err(GuestError::Shared("its sharers name different places or sizes"));
            }
            if known.owner == domain.id {
                // What others hold of it counts as the owner's.
                domain.max_pages.fetch_add(known.pages(), Ordering::AcqRel);
            }
            let mut p2m = domain.p2m.lock();
            let mut frames = hv.frames.lock();
            for (index, frame) in (0..).zip(known.frames()) {
                let at = shared.at.offset(index * PAGE_SIZE);
                // Each mapping has a reference; the first one goes back when all guests are built.
                frames.hold(frame, known.owner).map_err(|_| GuestError::OutOfMemory)?;
                let mapped = p2m.map(&hv.machine, &mut frames, at, frame, PAGE_SIZE, Kind::Data);
                mapped.inspect_err(|_| frames.put(frame))?;
            }
        }
        Ok(())
    }

    /// Gives the references back that kept the memory until it was mapped.
    pub(super) fn release<M: Machine>(self, hv: &Hypervisor<M>) {
        self.by_id.values().for_each(|shared| shared.release(hv));
    }
}

/// Pages of memory that a guest shares. The device tree says how many, so they may be more than there is memory.
pub(super) fn page_count(guest: &StaticGuest) -> u64 {
    let pages = guest.shared.iter().map(|shared| layout::page_count(shared.size));
    pages.fold(0, u64::saturating_add)
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
    let mut made = Shared { owner, host: shared.host, ranges: Vec::new() };
    let filled = fill(hv, shared, &mut made);
    filled.inspect_err(|_| made.release(hv))?;
    Ok(made)
}

/// Takes the memory, in blocks as large as there are, and zeroes it. What was taken is in `made` after an error too.
fn fill<M: Machine>(hv: &Hypervisor<M>, shared: &SharedMemory, made: &mut Shared) -> Result<(), GuestError> {
    if let Some(range) = shared.host.and_then(|host| PaRange::new(host, shared.size)) {
        made.ranges.try_reserve(1).map_err(|_| GuestError::OutOfMemory)?;
        let refuse = GuestError::Place { what: "shared memory", range, why: "is not free memory" };
        hv.frames.lock().adopt(range, made.owner).map_err(|_| refuse)?;
        made.ranges.push(range);
    } else {
        let mut missing = layout::page_count(shared.size);
        while missing > 0 {
            made.ranges.try_reserve(1).map_err(|_| GuestError::OutOfMemory)?;
            let block = ORDERS.iter().filter(|order| 1 << **order <= missing).find_map(|order| {
                let start = hv.frames.lock().allocate_for(made.owner, *order)?;
                PaRange::new(start, PAGE_SIZE << *order)
            });
            let block = block.ok_or(GuestError::OutOfMemory)?;
            made.ranges.push(block);
            missing -= layout::page_count(block.size());
        }
    }
    for range in &made.ranges {
        let m = &hv.machine;
        let cleared =
            m.zero(range.start, range.size()).and_then(|()| m.clean_dcache(range.start, range.size()));
        cleared.map_err(|_| GuestError::Unreachable(*range))?;
    }
    Ok(())
}
