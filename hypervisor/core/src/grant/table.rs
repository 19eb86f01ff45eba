//! The table itself: its frames, its size, its version, its end.

use alloc::vec::Vec;

use vambrace_abi::errno::Errno;
use vambrace_abi::grant_table::*;
use vambrace_abi::memory::{
    XENMAPIDX_GRANT_TABLE_STATUS, XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED,
    XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::active::Active;
use super::book::{Book, RECORDS_PER_FRAME};
use super::entry::Entry;
use super::maptrack::Maptrack;
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::machine::Memory;

/// Frames that a domain may have unless its creator says otherwise.
pub const DEFAULT_MAX_FRAMES: u32 = 64;
/// Frames that its mappings of others' pages may take unless its creator says otherwise.
pub const DEFAULT_MAX_MAPTRACK_FRAMES: u32 = 1024;
/// What stands in a list of frame numbers for a frame that the guest has mapped nowhere.
pub const UNMAPPED_GFN: u64 = u64::MAX;

const V1_ENTRIES_PER_FRAME: u32 = PAGE_SIZE as u32 / size_of::<GrantEntryV1>() as u32;
const V2_ENTRIES_PER_FRAME: u32 = PAGE_SIZE as u32 / size_of::<GrantEntryV2FullPage>() as u32;
const STATUS_PER_FRAME: u32 = PAGE_SIZE as u32 / size_of::<GrantStatus>() as u32;
/// Frames of records for one shared frame, whichever version it comes to be of.
const BOOKS_PER_FRAME: u32 = V1_ENTRIES_PER_FRAME / RECORDS_PER_FRAME;
/// No more frames than that, whatever a creator says: handles and records have room for their entries' numbers.
const MOST_FRAMES: u32 = 1 << 14;

/// The layout of the entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// Eight bytes: 32-bit frame numbers.
    V1,
    /// Sixteen bytes, with status words apart.
    V2,
}

impl Version {
    /// The number that the ABI gives it.
    pub fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    fn entry_size(self) -> u64 {
        match self {
            Self::V1 => size_of::<GrantEntryV1>() as u64,
            Self::V2 => size_of::<GrantEntryV2FullPage>() as u64,
        }
    }
}

/// A frame of the table, and where the guest last mapped it.
#[derive(Clone, Copy, Debug)]
struct Frame {
    pa: Pa,
    gfn: u64,
}

/// A domain's grant table, and its mappings of what others grant.
///
/// All frames come from what the domain is given as `allocate`: zeroed, and counted as the domain's.
#[derive(Debug)]
pub struct GrantTable {
    version: Version,
    max_version: Version,
    max_frames: u32,
    shared: Vec<Frame>,
    status: Vec<Frame>,
    /// What is in use, by entry.
    pub(super) active: Book,
    /// How many entries are.
    pub(super) pinned: u32,
    /// The domain has ended: the table is gone, and only what others still have mapped of it is known.
    retired: bool,
    /// What it has mapped itself.
    pub maptrack: Maptrack,
}

/// Status frames that go with so many shared frames.
fn status_frames(shared: u32) -> u32 {
    (shared * V2_ENTRIES_PER_FRAME).div_ceil(STATUS_PER_FRAME)
}

/// Appends zeroed frames until there are `count`; ENOMEM.
fn grow(frames: &mut Vec<Frame>, count: u32, allocate: &mut impl FnMut() -> Option<Pa>) -> Result<(), Errno> {
    while frames.len() < count as usize {
        frames.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let pa = allocate().ok_or(Errno::ENOMEM)?;
        frames.push(Frame { pa, gfn: UNMAPPED_GFN });
    }
    Ok(())
}

impl GrantTable {
    /// An empty table of version 1 that can grow to `max_frames` shared frames, and have as many mappings of others'
    /// pages as `max_maptrack_frames` hold.
    pub fn new(max_frames: u32, max_maptrack_frames: u32) -> Self {
        Self {
            version: Version::V1,
            max_version: Version::V2,
            max_frames: max_frames.min(MOST_FRAMES),
            shared: Vec::new(),
            status: Vec::new(),
            active: Book::default(),
            pinned: 0,
            retired: false,
            maptrack: Maptrack::new(max_maptrack_frames),
        }
    }

    /// Lets the guest choose versions up to this one, as the domain's creator says (`XEN_DOMCTL_GRANT_version_mask`).
    pub fn limit_version(&mut self, version: Version) {
        self.max_version = version;
    }

    /// `GNTTABOP_query_size`: present and largest number of shared frames.
    pub fn size(&self) -> (u32, u32) {
        (self.shared.len() as u32, self.max_frames)
    }

    /// `GNTTABOP_get_version`.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Physical addresses of all frames that the guest can map, shared and status.
    pub fn frames(&self) -> impl Iterator<Item = Pa> + '_ {
        self.shared.iter().chain(&self.status).map(|frame| frame.pa)
    }

    /// Frames that the table takes, for the guest to see and for the hypervisor's records.
    pub fn frame_count(&self) -> u64 {
        let records = self.active.frames() + self.maptrack.frames();
        (self.shared.len() + self.status.len()) as u64 + u64::from(records)
    }

    /// Has at least `count` shared frames, and the status frames that go with them in version 2. EINVAL beyond the
    /// largest number, ENOMEM; then there may be some more than before.
    fn ensure(&mut self, count: u32, allocate: &mut impl FnMut() -> Option<Pa>) -> Result<(), Errno> {
        if count > self.max_frames || self.retired {
            return Err(Errno::EINVAL);
        }
        let count = count.max(self.shared.len() as u32);
        self.active.grow(count * BOOKS_PER_FRAME, allocate)?;
        if self.version == Version::V2 {
            grow(&mut self.status, status_frames(count), allocate)?;
        }
        grow(&mut self.shared, count, allocate)
    }

    /// The frame that `index` of `XENMAPSPACE_GRANT_TABLE` stands for: a shared frame, or a status frame with
    /// `XENMAPIDX_grant_table_status`; the table grows to it. `allocate` gives a zeroed frame. EINVAL for an index beyond
    /// the largest, or a status frame in version 1; ENOMEM.
    pub fn frame(&mut self, index: u64, mut allocate: impl FnMut() -> Option<Pa>) -> Result<Pa, Errno> {
        let (list, index) = self.locate(index)?;
        match list {
            List::Shared => self.ensure(index + 1, &mut allocate)?,
            List::Status => {
                let shared = (index + 1) * (STATUS_PER_FRAME / V2_ENTRIES_PER_FRAME);
                // The last status frame serves fewer shared frames if the largest number is not a multiple.
                let shared =
                    if status_frames(self.max_frames) == index + 1 { self.max_frames } else { shared };
                self.ensure(shared, &mut allocate)?;
            }
        }
        self.list(list).get(index as usize).map(|frame| frame.pa).ok_or(Errno::EINVAL)
    }

    /// Frames that a toolstack may map of a resource (`memory.h`, XENMEM_resource_grant_table_id_*); EINVAL for another.
    pub fn resource_frames(&self, id: u32) -> Result<u32, Errno> {
        match id {
            XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED => Ok(self.max_frames),
            XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS if self.max_version == Version::V2 => {
                Ok(status_frames(self.max_frames))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// Frame `index` of such a resource; the table grows to it. EINVAL beyond the largest index, for a status frame in
    /// version 1, and where there is no memory, as Xen answers.
    pub fn resource_frame(
        &mut self,
        id: u32,
        index: u64,
        allocate: impl FnMut() -> Option<Pa>,
    ) -> Result<Pa, Errno> {
        let status = match id {
            XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED => 0,
            XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS => XENMAPIDX_GRANT_TABLE_STATUS,
            _ => return Err(Errno::EINVAL),
        };
        if index & XENMAPIDX_GRANT_TABLE_STATUS != 0 {
            return Err(Errno::EINVAL);
        }
        self.frame(index | status, allocate).map_err(|_| Errno::EINVAL)
    }

    /// Notes that the guest has mapped something else, or nothing, at the `size` bytes from `at`.
    pub fn forget_mapped(&mut self, at: Ipa, size: u64) {
        let gone = at.frame()..at.frame() + size.div_ceil(PAGE_SIZE);
        for frame in self.shared.iter_mut().chain(&mut self.status) {
            if gone.contains(&frame.gfn) {
                frame.gfn = UNMAPPED_GFN;
            }
        }
    }

    /// Notes that the guest has mapped frame `index` (as in [`GrantTable::frame`]) at `at`.
    pub fn set_mapped(&mut self, index: u64, at: Ipa) {
        if let Ok((list, index)) = self.locate(index)
            && let Some(frame) = self.list(list).get_mut(index as usize)
        {
            frame.gfn = at.frame();
        }
    }

    fn locate(&self, index: u64) -> Result<(List, u32), Errno> {
        let status = index & XENMAPIDX_GRANT_TABLE_STATUS != 0;
        if status && self.version != Version::V2 {
            return Err(Errno::EINVAL);
        }
        let list = if status { List::Status } else { List::Shared };
        let limit = if status { status_frames(self.max_frames) } else { self.max_frames };
        let index = u32::try_from(index & !XENMAPIDX_GRANT_TABLE_STATUS).map_err(|_| Errno::EINVAL)?;
        if index < limit { Ok((list, index)) } else { Err(Errno::EINVAL) }
    }

    fn list(&mut self, list: List) -> &mut Vec<Frame> {
        match list {
            List::Shared => &mut self.shared,
            List::Status => &mut self.status,
        }
    }

    /// `GNTTABOP_setup_table`: grows the table to `count` shared frames and lists the numbers of the guest's frames at
    /// which it has mapped them, [`UNMAPPED_GFN`] where it has not. The error is a `GNTST_*`.
    pub fn setup(
        &mut self,
        count: u32,
        mut allocate: impl FnMut() -> Option<Pa>,
    ) -> Result<impl Iterator<Item = u64> + '_, i16> {
        self.ensure(count, &mut allocate).map_err(|_| GNTST_GENERAL_ERROR)?;
        Ok(self.shared.iter().take(count as usize).map(|frame| frame.gfn))
    }

    /// `GNTTABOP_get_status_frames`: lists the numbers of the guest's frames at which it has mapped the first `count`
    /// status frames. The error is a `GNTST_*`: version 1 has none, and version 2 not more than go with its shared ones.
    pub fn status_frames(&self, count: u32) -> Result<impl Iterator<Item = u64> + '_, i16> {
        let there = if self.version == Version::V2 { self.status.len() } else { 0 };
        if count as usize > there {
            return Err(GNTST_GENERAL_ERROR);
        }
        Ok(self.status.iter().take(count as usize).map(|frame| frame.gfn))
    }

    /// `GNTTABOP_set_version`: changes the layout. All entries become invalid but the reserved ones, which keep what they
    /// grant, and stay in use if they are. EINVAL for another version than 1 or 2; ENOSYS for one that the domain may
    /// not have; EBUSY while another entry is in use; ERANGE for a reserved entry that version 1 cannot express;
    /// ENOMEM.
    pub fn set_version<M: Memory>(
        &mut self,
        memory: &M,
        version: u32,
        mut allocate: impl FnMut() -> Option<Pa>,
    ) -> Result<(), Errno> {
        let version = match version {
            1 => Version::V1,
            2 if self.max_version == Version::V1 => return Err(Errno::ENOSYS),
            2 => Version::V2,
            _ => return Err(Errno::EINVAL),
        };
        if version == self.version {
            return Ok(());
        }
        let is_pinned = |&index: &u32| {
            self.active.get(memory, index).is_some_and(|record| Active::from_record(record).is_some())
        };
        let reserved = (0..GNTTAB_NR_RESERVED_ENTRIES).filter(is_pinned).count();
        if self.pinned as usize > reserved {
            return Err(Errno::EBUSY);
        }
        let mut kept = [GrantEntryV2FullPage::default(); GNTTAB_NR_RESERVED_ENTRIES as usize];
        for (index, slot) in (0..).zip(&mut kept) {
            *slot = self.read_reserved(memory, index)?;
        }
        if version == Version::V2 {
            grow(&mut self.status, status_frames(self.shared.len() as u32), &mut allocate)?;
        }
        // Status frames outlive a change back to version 1: the guest may still have them mapped.
        for frame in self.shared.iter().chain(&self.status) {
            memory.zero(frame.pa, PAGE_SIZE).map_err(|_| Errno::EINVAL)?;
        }
        self.version = version;
        for (index, entry) in (0..).zip(kept) {
            self.write_reserved(memory, index, entry)?;
        }
        Ok(())
    }

    /// A reserved entry, on its way to the other version: as of version 2, but with its status in the flags as in
    /// version 1. ERANGE for one that the other version cannot express.
    fn read_reserved<M: Memory>(&self, memory: &M, index: GrantRef) -> Result<GrantEntryV2FullPage, Errno> {
        let nothing = GrantEntryV2FullPage::default();
        match self.entry(index) {
            None => Ok(nothing),
            Some(Entry::V1(at)) => {
                let entry: GrantEntryV1 = read(memory, at).ok_or(Errno::EINVAL)?;
                let hdr = GrantEntryHeader { flags: entry.flags, domid: entry.domid };
                Ok(GrantEntryV2FullPage { hdr, frame: entry.frame.into(), ..nothing })
            }
            Some(Entry::V2 { at, status, shift }) => {
                let mut entry: GrantEntryV2FullPage = read(memory, at).ok_or(Errno::EINVAL)?;
                let flags = entry.hdr.flags;
                let too_large = entry.frame > u64::from(u32::MAX) || flags & GTF_SUB_PAGE != 0;
                match flags & GTF_TYPE_MASK {
                    GTF_TRANSITIVE => return Err(Errno::ERANGE),
                    GTF_PERMIT_ACCESS if too_large => return Err(Errno::ERANGE),
                    GTF_PERMIT_ACCESS => {}
                    _ => return Ok(nothing),
                }
                let status: u32 = read(memory, status).ok_or(Errno::EINVAL)?;
                entry.hdr.flags |= (status >> shift) as u16 & (GTF_READING | GTF_WRITING);
                Ok(entry)
            }
        }
    }

    /// Writes what [`GrantTable::read_reserved`] read into an entry of the version of now.
    fn write_reserved<M: Memory>(
        &self,
        memory: &M,
        index: GrantRef,
        entry: GrantEntryV2FullPage,
    ) -> Result<(), Errno> {
        let GrantEntryHeader { flags, domid } = entry.hdr;
        let written = match self.entry(index) {
            None => return Ok(()),
            Some(Entry::V1(at)) => {
                let frame = u32::try_from(entry.frame).map_err(|_| Errno::ERANGE)?;
                memory.write(at, GrantEntryV1 { flags, domid, frame }.as_bytes())
            }
            Some(Entry::V2 { at, status, shift }) => {
                let in_use = GTF_READING | GTF_WRITING;
                let hdr = GrantEntryHeader { flags: flags & !in_use, domid };
                let set = u32::from(flags & in_use) << shift;
                memory
                    .write(at, GrantEntryV2FullPage { hdr, pad0: 0, frame: entry.frame }.as_bytes())
                    .and_then(|()| memory.update_u32(status, |word| Some(word | set)).map(drop))
            }
        };
        written.map_err(|_| Errno::EINVAL)
    }

    /// `GNTTABOP_swap_grant_ref`: exchanges two entries that are not in use. The error is a `GNTST_*`.
    pub fn swap<M: Memory>(&self, memory: &M, a: GrantRef, b: GrantRef) -> Result<(), i16> {
        let places = self.entry(a).zip(self.entry(b)).ok_or(GNTST_BAD_GNTREF)?;
        if a == b {
            return Ok(());
        }
        for index in [a, b] {
            let record = self.active.get(memory, index).ok_or(GNTST_BAD_GNTREF)?;
            if Active::from_record(record).is_some() {
                return Err(GNTST_EAGAIN);
            }
        }
        let (
            Entry::V1(first) | Entry::V2 { at: first, .. },
            Entry::V1(second) | Entry::V2 { at: second, .. },
        ) = places;
        let size = self.version.entry_size() as usize;
        let (mut of_a, mut of_b) = ([0; 16], [0; 16]);
        let (Some(of_a), Some(of_b)) = (of_a.get_mut(..size), of_b.get_mut(..size)) else {
            return Err(GNTST_GENERAL_ERROR);
        };
        // Not in one step: that the guest leaves both alone meanwhile is its own affair.
        let moved = memory
            .read(first, of_a)
            .and_then(|()| memory.read(second, of_b))
            .and_then(|()| memory.write(first, of_b))
            .and_then(|()| memory.write(second, of_a));
        moved.map_err(|_| GNTST_GENERAL_ERROR)
    }

    /// Where entry `index` is, if the table reaches so far.
    #[inline]
    pub(super) fn entry(&self, index: GrantRef) -> Option<Entry> {
        let at = u64::from(index) * self.version.entry_size();
        let frame = self.shared.get((at / PAGE_SIZE) as usize)?;
        let at = frame.pa.offset(at % PAGE_SIZE);
        Some(match self.version {
            Version::V1 => Entry::V1(at),
            Version::V2 => {
                let frame = self.status.get((index / STATUS_PER_FRAME) as usize)?;
                let byte = u64::from(index % STATUS_PER_FRAME) * size_of::<GrantStatus>() as u64;
                Entry::V2 { at, status: frame.pa.offset(byte & !3), shift: (byte & 3) as u32 * 8 }
            }
        })
    }

    /// The end of the domain: takes all of its frames out, each with a reference to put, but for those that say what is
    /// still in use, which go with the last user. From now on nobody can use an entry who does not yet. Its own mappings
    /// were released before.
    pub fn take_frames(&mut self) -> impl Iterator<Item = Pa> + '_ {
        self.retired = true;
        let books = if self.pinned == 0 { Some(self.active.drain()) } else { None };
        let tables = self.shared.drain(..).chain(self.status.drain(..));
        tables.map(|frame| frame.pa).chain(books.into_iter().flatten()).chain(self.maptrack.take_frames())
    }

    /// Gives back what says which entries are in use, when the domain has ended and there are none.
    pub(super) fn release_books(&mut self, put: impl FnMut(Pa)) {
        if self.retired && self.pinned == 0 {
            self.active.drain().for_each(put);
        }
    }
}

/// Which frames an index means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Shared,
    Status,
}

fn read<M: Memory, T: FromBytes + IntoBytes + Immutable>(memory: &M, at: Pa) -> Option<T> {
    let mut value = T::new_zeroed();
    memory.read(at, value.as_mut_bytes()).ok()?;
    Some(value)
}
