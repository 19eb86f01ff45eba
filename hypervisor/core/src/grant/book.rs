//! Records of the hypervisor's own, in frames that it takes for them.
//!
//! How many there are a guest decides, within the limits that its creator set. So they lie in free memory that is counted
//! as the guest's, and not in the hypervisor's heap, which is all there is for everybody.

use alloc::vec::Vec;

use vambrace_abi::errno::Errno;
use zerocopy::{FromZeros, IntoBytes};

use crate::addr::{PAGE_SIZE, Pa};
use crate::machine::Memory;

/// A record: two words, which mean what the owner of the book says.
pub(super) type Record = [u64; 2];

/// Records in a frame.
pub(super) const RECORDS_PER_FRAME: u32 = PAGE_SIZE as u32 / size_of::<Record>() as u32;

/// An array of records, all zero at first.
#[derive(Debug, Default)]
pub(super) struct Book {
    frames: Vec<Pa>,
}

impl Book {
    /// How many frames it takes.
    pub(super) fn frames(&self) -> u32 {
        self.frames.len() as u32
    }

    /// How many records there are.
    pub(super) fn records(&self) -> u32 {
        self.frames() * RECORDS_PER_FRAME
    }

    /// Has at least `count` frames. `allocate` gives a zeroed frame. ENOMEM; then there may be some more than before.
    pub(super) fn grow(
        &mut self,
        count: u32,
        allocate: &mut impl FnMut() -> Option<Pa>,
    ) -> Result<(), Errno> {
        while self.frames() < count {
            self.frames.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            self.frames.push(allocate().ok_or(Errno::ENOMEM)?);
        }
        Ok(())
    }

    /// Takes all frames out, to give them back.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Pa> + '_ {
        self.frames.drain(..)
    }

    #[inline]
    fn place(&self, index: u32) -> Option<Pa> {
        let frame = self.frames.get((index / RECORDS_PER_FRAME) as usize)?;
        Some(frame.offset(u64::from(index % RECORDS_PER_FRAME) * size_of::<Record>() as u64))
    }

    /// Record `index`, if there is one.
    #[inline]
    pub(super) fn get<M: Memory>(&self, memory: &M, index: u32) -> Option<Record> {
        let mut record = Record::new_zeroed();
        memory.read(self.place(index)?, record.as_mut_bytes()).ok()?;
        Some(record)
    }

    /// Changes record `index`; `None` if there is none.
    #[inline]
    pub(super) fn set<M: Memory>(&self, memory: &M, index: u32, record: Record) -> Option<()> {
        memory.write(self.place(index)?, record.as_bytes()).ok()
    }

    /// Looks for a record that fits, through records `from..to`.
    pub(super) fn find<M: Memory>(
        &self,
        memory: &M,
        from: u32,
        to: u32,
        mut fits: impl FnMut(Record) -> bool,
    ) -> Option<u32> {
        (from..to.min(self.records())).find(|&index| self.get(memory, index).is_some_and(&mut fits))
    }
}
