//! Grants in use: what the hypervisor knows of them itself, whatever the guest writes into its table meanwhile.
//!
//! An entry that somebody maps or copies through is *pinned*. Its frame, and who may use it, were read once, when the first
//! came; the frame has one reference until the last has gone.

use vambrace_abi::domid::DomId;
use vambrace_abi::grant_table::*;

use super::book::Record;
use super::entry::{Entry, Named, Want};
use super::table::GrantTable;
use crate::addr::{PAGE_SIZE, Pa};
use crate::machine::Memory;

/// A granter's pages.
pub trait Pages {
    /// Finds the page that the granter has at frame number `frame` of its physical space, to be written if `write`, and
    /// takes a reference to it. The error is a `GNTST_*`.
    fn hold(&mut self, frame: u64, write: bool) -> Result<Pa, i16>;
    /// Gives a reference back.
    fn put(&mut self, page: Pa);
}

/// What a pinned grant gives: bytes of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Granted {
    /// The page.
    pub page: Pa,
    /// First byte in it.
    pub start: u16,
    /// How many.
    pub length: u16,
}

/// A pinned entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Active {
    pub(super) page: Pa,
    pub(super) by: DomId,
    /// First byte and length, if it grants a part of the page.
    part: Option<(u16, u16)>,
    pub(super) readers: u16,
    pub(super) writers: u16,
}

const BY_SHIFT: u32 = 40;
const PART: u64 = 1 << 56;

impl Active {
    /// The record of a pinned entry.
    pub(super) fn from_record([first, second]: Record) -> Option<Self> {
        let (readers, writers) = (second as u16, (second >> 16) as u16);
        (readers != 0 || writers != 0).then(|| Self {
            page: Pa::from_frame(first & ((1 << BY_SHIFT) - 1)),
            by: (first >> BY_SHIFT) as DomId,
            part: (first & PART != 0).then_some(((second >> 32) as u16, (second >> 48) as u16)),
            readers,
            writers,
        })
    }

    /// The record: all zero when nobody uses the entry any more.
    fn record(self) -> Record {
        if self.readers == 0 && self.writers == 0 {
            return Record::default();
        }
        let (start, length) = self.part.unwrap_or_default();
        let part = if self.part.is_some() { PART } else { 0 };
        let counts = u64::from(self.readers) | u64::from(self.writers) << 16;
        [
            self.page.frame() | u64::from(self.by) << BY_SHIFT | part,
            counts | u64::from(start) << 32 | u64::from(length) << 48,
        ]
    }

    fn granted(self) -> Granted {
        let (start, length) = self.part.unwrap_or((0, PAGE_SIZE as u16));
        Granted { page: self.page, start, length }
    }
}

impl GrantTable {
    /// Pins entry `index` for what is wanted. The error is a `GNTST_*` as Xen gives it: BAD_GNTREF beyond the table,
    /// GENERAL_ERROR where the entry does not grant this, or is in use by another domain, what [`Pages::hold`] says.
    pub fn pin<M: Memory>(
        &mut self,
        memory: &M,
        index: GrantRef,
        want: Want,
        pages: &mut impl Pages,
    ) -> Result<Granted, i16> {
        let entry = self.entry(index).ok_or(GNTST_BAD_GNTREF)?;
        let record = self.active.get(memory, index).ok_or(GNTST_BAD_GNTREF)?;
        let old = Active::from_record(record);
        let pinned = match old {
            None => {
                entry.mark(memory, want, false)?;
                let (page, named) = find(memory, entry, want.write, pages)
                    .inspect_err(|_| self.reduce(memory, entry, None, want))?;
                Active { page, by: want.by, part: named.part, readers: 0, writers: 0 }
            }
            Some(active) => {
                if active.by != want.by || want.whole && active.part.is_some() {
                    return Err(GNTST_GENERAL_ERROR);
                }
                if want.write && active.writers == 0 {
                    entry.mark(memory, want, true)?;
                    // Its first user only read. Whether the page may be written is to be seen yet.
                    let (page, named) = find(memory, entry, true, pages)
                        .inspect_err(|_| self.reduce(memory, entry, old, want))?;
                    pages.put(page);
                    if page != active.page || named.part != active.part {
                        self.reduce(memory, entry, old, want);
                        return Err(GNTST_GENERAL_ERROR);
                    }
                }
                active
            }
        };
        let count = |n: u16, one: bool| if one { n.checked_add(1) } else { Some(n) };
        let more = count(pinned.readers, !want.write).zip(count(pinned.writers, want.write));
        let Some((readers, writers)) = more else { return Err(GNTST_GENERAL_ERROR) };
        let pinned = Active { readers, writers, ..pinned };
        if self.active.set(memory, index, pinned.record()).is_none() {
            // The record was read a moment ago, so this cannot be; were it, the page would stay where it is.
            return Err(GNTST_GENERAL_ERROR);
        }
        if old.is_none() {
            self.pinned += 1;
        }
        Ok(pinned.granted())
    }

    /// Undoes one [`GrantTable::pin`] of entry `index`. Whether there was one: if not, a caller has a defect.
    pub fn unpin<M: Memory>(
        &mut self,
        memory: &M,
        index: GrantRef,
        write: bool,
        pages: &mut impl Pages,
    ) -> bool {
        let Some(old) = self.active.get(memory, index).and_then(Active::from_record) else { return false };
        let count = |n: u16, one: bool| if one { n.checked_sub(1) } else { Some(n) };
        let less = count(old.readers, !write).zip(count(old.writers, write));
        let Some((readers, writers)) = less else { return false };
        let left = Active { readers, writers, ..old };
        if self.active.set(memory, index, left.record()).is_none() {
            return false;
        }
        let used = readers != 0 || writers != 0;
        // The table of a domain that has ended is gone, and so is an entry that a change of version cut off.
        if let Some(entry) = self.entry(index) {
            let want = Want { by: old.by, write, whole: false };
            self.reduce(memory, entry, used.then_some(left), want);
        }
        if !used {
            self.pinned = self.pinned.saturating_sub(1);
            pages.put(old.page);
            self.release_books(|page| pages.put(page));
        }
        true
    }

    /// Takes away what an entry says about its use beyond what is left of that, after one who had or wanted it as `want`
    /// says is gone.
    fn reduce<M: Memory>(&self, memory: &M, entry: Entry, left: Option<Active>, want: Want) {
        let mut bits = if left.is_none() { GTF_READING } else { 0 };
        if want.write && left.is_none_or(|active| active.writers == 0) {
            bits |= GTF_WRITING;
        }
        if bits != 0 {
            entry.unmark(memory, bits);
        }
    }

    /// How many entries are pinned.
    pub fn pinned(&self) -> u32 {
        self.pinned
    }

    /// How many users entry `index` has: that read, and that write too.
    pub fn users<M: Memory>(&self, memory: &M, index: GrantRef) -> (u16, u16) {
        let record = self.active.get(memory, index);
        record.and_then(Active::from_record).map_or((0, 0), |active| (active.readers, active.writers))
    }

    /// Whether one of the entries from `from` on, of which it looks at `count`, grants domain `by` the page right now: the
    /// entry, or where to go on, or that there are no more.
    pub fn search<M: Memory>(&self, memory: &M, page: Pa, by: DomId, from: GrantRef, count: u32) -> Search {
        let end = from.saturating_add(count).min(self.active.records());
        let fits = |record| Active::from_record(record).is_some_and(|a| a.page == page && a.by == by);
        match self.active.find(memory, from, end, fits) {
            Some(_) => Search::Found,
            None if end < self.active.records() => Search::Further(end),
            None => Search::No,
        }
    }
}

/// How far [`GrantTable::search`] came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Search {
    /// There is such a grant.
    Found,
    /// Not so far; go on there.
    Further(GrantRef),
    /// There is none.
    No,
}

/// The page that an entry names, with a reference more.
fn find<M: Memory>(
    memory: &M,
    entry: Entry,
    write: bool,
    pages: &mut impl Pages,
) -> Result<(Pa, Named), i16> {
    let named = entry.named(memory).ok_or(GNTST_BAD_PAGE)?;
    Ok((pages.hold(named.frame, write)?, named))
}
