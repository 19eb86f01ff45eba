//! A guest's memory while it is filled.

use alloc::vec::Vec;

use super::error::GuestError;
use super::layout::{self, Bank};
use crate::addr::{Ipa, PAGE_SHIFT, PAGE_SIZE, Pa, PaRange};
use crate::domain::Domain;
use crate::hypervisor::Hypervisor;
use crate::machine::Machine;
use crate::p2m::Kind;
use crate::platform::StaticGuest;

/// Sizes of block that memory is taken in, as powers of two of pages: those of stage 2's blocks, and halves between.
pub(super) const ORDERS: [u8; 5] = [18, 12, 9, 4, 0];

/// A part of a guest's memory that is contiguous in its address space and physically.
#[derive(Clone, Copy, Debug)]
struct Part {
    at: Ipa,
    to: Pa,
    size: u64,
}

/// A guest's memory.
pub(super) struct GuestRam<'a, M: Machine> {
    hv: &'a Hypervisor<M>,
    parts: Vec<Part>,
    /// Where it lies in the guest's address space.
    pub(super) banks: Vec<Bank>,
}

impl<'a, M: Machine> GuestRam<'a, M> {
    /// Gives a domain its memory: zeroed, and mapped.
    pub(super) fn new(
        hv: &'a Hypervisor<M>,
        domain: &Domain<M>,
        guest: &StaticGuest,
    ) -> Result<Self, GuestError> {
        let mut ram = Self { hv, parts: Vec::new(), banks: Vec::new() };
        if guest.banks.is_empty() {
            ram.banks = layout::banks(guest.memory)?;
            for bank in ram.banks.clone() {
                ram.allocate(domain, bank)?;
            }
        } else {
            ram.adopt(domain, guest)?;
        }
        Ok(ram)
    }

    /// Fills a bank with free frames, in blocks as large as there are.
    fn allocate(&mut self, domain: &Domain<M>, bank: Bank) -> Result<(), GuestError> {
        let mut done = 0;
        while done < bank.size {
            let at = bank.at.offset(done);
            let fits = |order: &u8| {
                let size = PAGE_SIZE << order;
                at.is_aligned(size) && size <= bank.size - done
            };
            let block = ORDERS.iter().filter(|order| fits(order)).find_map(|order| {
                let to = self.hv.frames.lock().allocate_for(domain.id, *order)?;
                Some((to, PAGE_SIZE << order))
            });
            let (to, size) = block.ok_or(GuestError::OutOfMemory)?;
            self.map(domain, Part { at, to, size })?;
            done += size;
        }
        Ok(())
    }

    /// Maps the memory that the tree sets apart for the guest: where it lies if that is asked for, else in the usual
    /// places.
    fn adopt(&mut self, domain: &Domain<M>, guest: &StaticGuest) -> Result<(), GuestError> {
        let what = "static memory";
        let usual = layout::banks(guest.memory)?;
        // How much of the usual banks is filled.
        let mut filled = 0;
        for range in &guest.banks {
            if guest.direct {
                layout::check_clear(what, Bank { at: Ipa(range.start.0), size: range.size() })?;
            }
            let why = "is not free memory";
            let adopted = self.hv.frames.lock().adopt(*range, domain.id);
            adopted.map_err(|_| GuestError::Place { what, range: *range, why })?;
            let mut rest = *range;
            while !rest.is_empty() {
                let (at, room) = if guest.direct {
                    (Ipa(rest.start.0), rest.size())
                } else {
                    next_place(&usual, filled).ok_or(GuestError::OutOfMemory)?
                };
                let part = Part { at, to: rest.start, size: rest.size().min(room) };
                if guest.direct {
                    self.banks.push(Bank { at, size: part.size });
                }
                rest.start = rest.start.offset(part.size);
                filled += part.size;
                self.map(domain, part).inspect_err(|_| self.give_back(rest.start, rest.size()))?;
            }
        }
        if !guest.direct {
            self.banks = usual;
        }
        Ok(())
    }

    /// Zeroes and maps a part, whose frames are the domain's. They are free again after an error.
    fn map(&mut self, domain: &Domain<M>, part: Part) -> Result<(), GuestError> {
        let m = &self.hv.machine;
        let range = PaRange::new(part.to, part.size).unwrap_or_default();
        let zeroed = m.zero(part.to, part.size).map_err(|_| GuestError::Unreachable(range));
        zeroed.inspect_err(|_| self.give_back(part.to, part.size))?;
        let mapped = {
            let mut p2m = domain.p2m.lock();
            let mut frames = self.hv.frames.lock();
            let mapped = p2m.map(m, &mut frames, part.at, part.to, part.size, Kind::Ram);
            if mapped.is_err() {
                // Some first part may be mapped, and has its frames; those go back with the domain.
                for page in (0..part.size).step_by(PAGE_SIZE as usize) {
                    if p2m.lookup(m, part.at.offset(page)).is_none() {
                        frames.put(part.to.offset(page));
                    }
                }
            }
            mapped
        };
        mapped?;
        // A guest starts with its caches off, and must not read what lay there.
        m.clean_dcache(part.to, part.size).map_err(|_| GuestError::Unreachable(range))?;
        self.parts.push(part);
        Ok(())
    }

    fn give_back(&self, pa: Pa, size: u64) {
        self.hv.frames.lock().put_range(pa, size >> PAGE_SHIFT);
    }

    /// Where the guest's address `at` lies, and how many bytes on from there lie together; `None` outside of its memory.
    fn find(&self, at: Ipa) -> Option<(Pa, u64)> {
        self.parts.iter().find_map(|part| {
            let offset = at.0.checked_sub(part.at.0).filter(|offset| *offset < part.size)?;
            Some((part.to.offset(offset), part.size - offset))
        })
    }

    /// Copies `size` bytes of physical memory to the guest's address `at`.
    pub(super) fn copy(&self, at: Ipa, from: Pa, size: u64) -> Result<(), GuestError> {
        let mut done = 0;
        while done < size {
            let bad = GuestError::Unreachable(PaRange { start: from, end: from.offset(size) });
            let Some((to, room)) = self.find(at.offset(done)) else { return Err(bad) };
            let length = room.min(size - done);
            let m = &self.hv.machine;
            let copied = m.copy(to, from.offset(done), length).and_then(|()| m.clean_dcache(to, length));
            if copied.is_err() {
                return Err(bad);
            }
            done += length;
        }
        Ok(())
    }

    /// Writes bytes to the guest's address `at`; whether it could.
    pub(super) fn write(&self, at: Ipa, bytes: &[u8]) -> bool {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let Some((to, room)) = self.find(at.offset(done as u64)) else { return false };
            let length = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
            let part = rest.get(..length).unwrap_or_default();
            let m = &self.hv.machine;
            if m.write(to, part).and_then(|()| m.clean_dcache(to, length as u64)).is_err() {
                return false;
            }
            done += length;
        }
        true
    }
}

/// The next place in `banks` when `filled` bytes of them are in use, and the bytes that fit there.
fn next_place(banks: &[Bank], mut filled: u64) -> Option<(Ipa, u64)> {
    for bank in banks {
        if filled < bank.size {
            return Some((bank.at.offset(filled), bank.size - filled));
        }
        filled -= bank.size;
    }
    None
}
