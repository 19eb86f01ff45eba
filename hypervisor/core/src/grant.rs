//! The grant table of a domain: frames shared with the guest, in which it says who may use which of its pages
//! (`grant_table.h`).
//!
//! ```text
//!   shared frames (both versions)            status frames (version 2 only)
//!   v1: 512 entries of 8 bytes a frame       2048 words of 2 bytes a frame: the hypervisor says there
//!   v2: 256 entries of 16 bytes a frame      which entries it uses; in version 1 it does so in the flags
//! ```
//!
//! The guest reaches the frames by `XENMEM_add_to_physmap`; they come one by one as it asks for them, and stay until the
//! domain ends. What stands in them is the guest's word: it is read once, into a [`GrantEntry`], and believed only as far
//! as it names the guest's own pages.

use alloc::vec::Vec;

use vambrace_abi::domid::DomId;
use vambrace_abi::errno::Errno;
use vambrace_abi::grant_table::*;
use vambrace_abi::memory::XENMAPIDX_GRANT_TABLE_STATUS;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::machine::Memory;

/// Frames that a domain may have unless its creator says otherwise.
pub const DEFAULT_MAX_FRAMES: u32 = 64;
/// What stands in a list of frame numbers for a frame that the guest has mapped nowhere.
pub const UNMAPPED_GFN: u64 = u64::MAX;

const V2_ENTRIES_PER_FRAME: u32 = PAGE_SIZE as u32 / size_of::<GrantEntryV2FullPage>() as u32;
const STATUS_PER_FRAME: u32 = PAGE_SIZE as u32 / size_of::<GrantStatus>() as u32;

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

/// What a guest granted by an entry, as it stood there at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GrantEntry {
    /// Nothing.
    Invalid,
    /// Domain `to` may map and copy the guest's frame.
    Access {
        /// Who.
        to: DomId,
        /// Frame number in the guest's physical space.
        frame: u64,
        /// All of the subflags `GTF_*`.
        flags: u16,
        /// First byte and length of the part that is granted; `None` is the page.
        part: Option<(u16, u16)>,
    },
    /// Something else: a transfer, or a grant of another domain's grant.
    Other,
}

/// A frame of the table, and where the guest last mapped it.
#[derive(Clone, Copy, Debug)]
struct Frame {
    pa: Pa,
    gfn: u64,
}

/// A domain's grant table.
#[derive(Debug)]
pub struct GrantTable {
    version: Version,
    max_frames: u32,
    shared: Vec<Frame>,
    status: Vec<Frame>,
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
    /// An empty table of version 1 that can grow to `max_frames` shared frames.
    pub fn new(max_frames: u32) -> Self {
        // More would overflow nothing, but no status index reaches them.
        let max_frames = max_frames.min(1 << 16);
        Self { version: Version::V1, max_frames, shared: Vec::new(), status: Vec::new() }
    }

    /// `GNTTABOP_query_size`: present and largest number of shared frames.
    pub fn size(&self) -> (u32, u32) {
        (self.shared.len() as u32, self.max_frames)
    }

    /// `GNTTABOP_get_version`.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Physical addresses of all frames, shared and status, to give back when the domain is gone.
    pub fn frames(&self) -> impl Iterator<Item = Pa> + '_ {
        self.shared.iter().chain(&self.status).map(|frame| frame.pa)
    }

    /// Has at least `count` shared frames, and the status frames that go with them in version 2. EINVAL beyond the
    /// largest number, ENOMEM; then there may be some more than before.
    fn ensure(&mut self, count: u32, allocate: &mut impl FnMut() -> Option<Pa>) -> Result<(), Errno> {
        if count > self.max_frames {
            return Err(Errno::EINVAL);
        }
        if self.version == Version::V2 {
            let count = count.max(self.shared.len() as u32);
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
        if self.version != Version::V2 || count as usize > self.status.len() {
            return Err(GNTST_GENERAL_ERROR);
        }
        Ok(self.status.iter().take(count as usize).map(|frame| frame.gfn))
    }

    /// `GNTTABOP_set_version`: changes the layout. All entries become invalid but the reserved ones, which keep what they
    /// grant. EINVAL for another version than 1 or 2, or a reserved entry that the other layout cannot express; ENOMEM.
    /// A change while entries are in use must be refused by the caller (EBUSY).
    pub fn set_version<M: Memory>(
        &mut self,
        memory: &M,
        version: u32,
        mut allocate: impl FnMut() -> Option<Pa>,
    ) -> Result<(), Errno> {
        let version = match version {
            1 => Version::V1,
            2 => Version::V2,
            _ => return Err(Errno::EINVAL),
        };
        if version == self.version {
            return Ok(());
        }
        let mut kept = [GrantEntry::Invalid; GNTTAB_NR_RESERVED_ENTRIES as usize];
        for (index, slot) in (0..).zip(&mut kept) {
            *slot = self.entry(memory, index).unwrap_or(GrantEntry::Invalid);
            match (*slot, version) {
                (GrantEntry::Other, _) | (GrantEntry::Access { part: Some(_), .. }, _) => {
                    return Err(Errno::EINVAL);
                }
                (GrantEntry::Access { frame, .. }, Version::V1) if u32::try_from(frame).is_err() => {
                    return Err(Errno::EINVAL);
                }
                _ => {}
            }
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
            if let GrantEntry::Access { to, frame, flags, .. } = entry {
                self.put(memory, index, to, frame, flags)?;
            }
        }
        Ok(())
    }

    /// Physical address of an entry, if its frame is there.
    fn entry_address(&self, index: GrantRef) -> Option<Pa> {
        let size = self.version.entry_size();
        let at = u64::from(index) * size;
        let frame = self.shared.get((at / PAGE_SIZE) as usize)?;
        Some(frame.pa.offset(at % PAGE_SIZE))
    }

    /// What the guest grants by entry `index`; `None` where the table does not reach.
    pub fn entry<M: Memory>(&self, memory: &M, index: GrantRef) -> Option<GrantEntry> {
        let at = self.entry_address(index)?;
        let (flags, to, frame) = match self.version {
            Version::V1 => {
                let entry: GrantEntryV1 = read(memory, at)?;
                (entry.flags, entry.domid, entry.frame.into())
            }
            Version::V2 => {
                let entry: GrantEntryV2FullPage = read(memory, at)?;
                (entry.hdr.flags, entry.hdr.domid, entry.frame)
            }
        };
        Some(match flags & GTF_TYPE_MASK {
            GTF_INVALID => GrantEntry::Invalid,
            GTF_PERMIT_ACCESS => {
                let part = if self.version == Version::V2 && flags & GTF_SUB_PAGE != 0 {
                    let entry: GrantEntryV2SubPage = read(memory, at)?;
                    Some((entry.page_off, entry.length))
                } else {
                    None
                };
                GrantEntry::Access { to, frame, flags: flags & !GTF_TYPE_MASK, part }
            }
            _ => GrantEntry::Other,
        })
    }

    /// Writes an entry that grants a whole page to domain `to`.
    fn put<M: Memory>(
        &self,
        memory: &M,
        index: GrantRef,
        to: DomId,
        frame: u64,
        flags: u16,
    ) -> Result<(), Errno> {
        let at = self.entry_address(index).ok_or(Errno::EINVAL)?;
        let flags = flags | GTF_PERMIT_ACCESS;
        let written = match self.version {
            Version::V1 => {
                let frame = u32::try_from(frame).map_err(|_| Errno::EINVAL)?;
                memory.write(at, GrantEntryV1 { flags, domid: to, frame }.as_bytes())
            }
            Version::V2 => {
                let hdr = GrantEntryHeader { flags, domid: to };
                memory.write(at, GrantEntryV2FullPage { hdr, pad0: 0, frame }.as_bytes())
            }
        };
        written.map_err(|_| Errno::EINVAL)
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

/// What `GNTTABOP_cache_flush` is to do, once its numbers are checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheFlush {
    /// First byte, as a bus address, which is a physical address. It lies, with all of `length`, in one page.
    pub at: Pa,
    /// Bytes, 1 to 4096.
    pub length: u64,
    /// Drop the lines. Cleaning them first is allowed, and what we do: a guest could otherwise make another's writes
    /// disappear.
    pub invalidate: bool,
}

impl CacheFlush {
    /// Checks a request. `None` is one without an effect, by which guests ask whether the operation exists. EINVAL for
    /// a range that leaves the page or an unknown operation, EOPNOTSUPP for a page named by grant (as in Xen).
    ///
    /// Whether the page at [`CacheFlush::at`] is the caller's own, or one granted to it, is for the caller of this to
    /// find out (EPERM).
    pub fn check(request: &GnttabCacheFlush) -> Result<Option<Self>, Errno> {
        let (offset, length) = (u64::from(request.offset), u64::from(request.length));
        if offset >= PAGE_SIZE || length > PAGE_SIZE || offset + length > PAGE_SIZE {
            return Err(Errno::EINVAL);
        }
        if request.length == 0 || request.op == 0 {
            return Ok(None);
        }
        if request.op & GNTTAB_CACHE_SOURCE_GREF != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if request.op & !(GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_INVAL) != 0 {
            return Err(Errno::EINVAL);
        }
        let at = Pa(request.addr).page().offset(offset);
        Ok(Some(Self { at, length, invalidate: request.op & GNTTAB_CACHE_INVAL != 0 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeMachine;

    const RAM: u64 = 0x4000_0000;

    /// A machine, and an allocator of its first `count` frames.
    fn machine(count: u64) -> (FakeMachine, impl FnMut() -> Option<Pa>) {
        let mut next = 0;
        let allocate = move || {
            next += 1;
            (next <= count).then(|| Pa(RAM + (next - 1) * PAGE_SIZE))
        };
        (FakeMachine::with_ram(RAM, 64 << 20), allocate)
    }

    #[test]
    fn grows_on_demand_up_to_the_maximum() {
        let (_, mut allocate) = machine(100);
        let mut table = GrantTable::new(4);
        assert_eq!(table.size(), (0, 4));
        assert_eq!(table.frame(2, &mut allocate), Ok(Pa(RAM + 2 * PAGE_SIZE)));
        assert_eq!(table.size(), (3, 4));
        assert_eq!(table.frame(0, &mut allocate), Ok(Pa(RAM)));
        assert_eq!(table.frame(4, &mut allocate), Err(Errno::EINVAL));
        assert_eq!(table.frame(u64::MAX, &mut allocate), Err(Errno::EINVAL));
        assert_eq!(table.frame(1 << 40, &mut allocate), Err(Errno::EINVAL));
        assert_eq!(table.frame(XENMAPIDX_GRANT_TABLE_STATUS, &mut allocate), Err(Errno::EINVAL));
        assert_eq!(table.size(), (3, 4));
        assert_eq!(table.frames().count(), 3);
    }

    #[test]
    fn memory_may_run_out() {
        let (_, mut allocate) = machine(2);
        let mut table = GrantTable::new(DEFAULT_MAX_FRAMES);
        assert_eq!(table.frame(7, &mut allocate), Err(Errno::ENOMEM));
        assert_eq!(table.size(), (2, 64));
        assert_eq!(table.frame(1, &mut allocate), Ok(Pa(RAM + PAGE_SIZE)));
        assert!(table.setup(3, &mut allocate).is_err());
    }

    #[test]
    fn setup_lists_where_frames_are_mapped() {
        let (machine, mut allocate) = machine(100);
        let mut table = GrantTable::new(8);
        table.frame(0, &mut allocate).unwrap();
        table.set_mapped(0, Ipa(0x3800_0000));
        table.set_mapped(77, Ipa(0x3800_0000));
        let list: Vec<u64> = table.setup(2, &mut allocate).unwrap().collect();
        assert_eq!(list, [0x38000, UNMAPPED_GFN]);
        assert_eq!(table.setup(9, &mut allocate).err(), Some(GNTST_GENERAL_ERROR));
        assert_eq!(table.status_frames(0).err(), Some(GNTST_GENERAL_ERROR));
        table.set_version(&machine, 2, &mut allocate).unwrap();
        table.set_mapped(XENMAPIDX_GRANT_TABLE_STATUS, Ipa(0x3900_0000));
        assert_eq!(table.status_frames(1).unwrap().collect::<Vec<_>>(), [0x39000]);
        assert_eq!(table.status_frames(2).err(), Some(GNTST_GENERAL_ERROR));
    }

    #[test]
    fn status_frames_follow_shared_ones() {
        let (machine, mut allocate) = machine(100);
        let mut table = GrantTable::new(20);
        table.set_version(&machine, 2, &mut allocate).unwrap();
        // Status frame 1 holds the words of shared frames 8 to 15, so they come with it.
        table.frame(XENMAPIDX_GRANT_TABLE_STATUS | 1, &mut allocate).unwrap();
        assert_eq!(table.size(), (16, 20));
        assert_eq!(table.frames().count(), 18);
        table.frame(XENMAPIDX_GRANT_TABLE_STATUS | 2, &mut allocate).unwrap();
        assert_eq!(table.size(), (20, 20));
        let beyond = table.frame(XENMAPIDX_GRANT_TABLE_STATUS | 3, &mut allocate);
        assert_eq!(beyond, Err(Errno::EINVAL));
    }

    #[test]
    fn a_change_of_version_keeps_reserved_entries_alone() {
        let (machine, mut allocate) = machine(100);
        let mut table = GrantTable::new(8);
        let frame = table.frame(0, &mut allocate).unwrap();
        let entry = |flags, frame| GrantEntryV1 { flags, domid: 5, frame };
        machine.write(frame, entry(GTF_PERMIT_ACCESS | GTF_READONLY, 0x1234).as_bytes()).unwrap();
        machine.write(frame.offset(8 * 8), entry(GTF_PERMIT_ACCESS, 0x99).as_bytes()).unwrap();
        let granted = GrantEntry::Access { to: 5, frame: 0x1234, flags: GTF_READONLY, part: None };
        assert_eq!(table.entry(&machine, 0), Some(granted));
        for version in [2, 1, 1, 2] {
            table.set_version(&machine, version, &mut allocate).unwrap();
            assert_eq!(table.version().number(), version);
            assert_eq!(table.entry(&machine, 0), Some(granted));
            assert_eq!(table.entry(&machine, 8), Some(GrantEntry::Invalid));
        }
        assert_eq!(table.set_version(&machine, 3, &mut allocate), Err(Errno::EINVAL));
        assert_eq!(table.entry(&machine, u32::MAX), None);
    }

    #[test]
    fn a_change_of_version_refuses_what_it_cannot_express() {
        let (machine, mut allocate) = machine(100);
        let mut table = GrantTable::new(8);
        let frame = table.frame(0, &mut allocate).unwrap();
        machine.set_word(frame, u32::from(GTF_ACCEPT_TRANSFER));
        assert_eq!(table.set_version(&machine, 2, &mut allocate), Err(Errno::EINVAL));
        machine.set_word(frame, 0);
        table.set_version(&machine, 2, &mut allocate).unwrap();
        machine.set_word(frame, u32::from(GTF_PERMIT_ACCESS));
        machine.write_u64(frame.offset(8), 1 << 32).unwrap();
        assert_eq!(table.set_version(&machine, 1, &mut allocate), Err(Errno::EINVAL));
        machine.set_word(frame, u32::from(GTF_PERMIT_ACCESS | GTF_SUB_PAGE));
        assert_eq!(table.set_version(&machine, 1, &mut allocate), Err(Errno::EINVAL));
        assert_eq!(table.version(), Version::V2);
    }

    #[test]
    fn cache_flush_is_checked() {
        let request = |addr, offset, length, op| GnttabCacheFlush { addr, offset, length, op };
        let check = |offset, length, op| CacheFlush::check(&request(0x8_0123, offset, length, op));
        assert_eq!(check(0, 0, 0), Ok(None));
        let done = CacheFlush { at: Pa(0x8_0ff0), length: 16, invalidate: true };
        assert_eq!(check(0xff0, 16, GNTTAB_CACHE_INVAL), Ok(Some(done)));
        assert_eq!(check(0xff0, 17, GNTTAB_CACHE_CLEAN), Err(Errno::EINVAL));
        assert_eq!(check(0x1000, 0, GNTTAB_CACHE_CLEAN), Err(Errno::EINVAL));
        assert_eq!(check(0, 1, 4), Err(Errno::EINVAL));
        assert_eq!(check(0, 1, GNTTAB_CACHE_SOURCE_GREF), Err(Errno::EOPNOTSUPP));
    }
}
