//! Entries as the guest writes them, and the bits by which the hypervisor tells it that they are in use.
//!
//! ```text
//!   version 1                          version 2                               status (version 2)
//!   0  flags  16 | domid 16            0  flags 16 | domid 16                  0  16 bits an entry:
//!   4  frame 32                        4  first byte 16 | length 16 (part)        reading, writing
//!      flags has reading, writing      8  frame 64
//! ```
//!
//! Flags and domain are one 32-bit word, which the guest changes by compare-and-exchange. In version 1 the bits that say
//! "in use" are in that very word, so one side loses. In version 2 they are apart, hence both sides write, then look.

use vambrace_abi::domid::DomId;
use vambrace_abi::grant_table::*;

use crate::addr::Pa;
use crate::machine::Memory;
use crate::word;

/// What somebody wants of a grant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Want {
    /// Who.
    pub by: DomId,
    /// To write too.
    pub write: bool,
    /// All of the page: it is to be mapped.
    pub whole: bool,
}

impl Want {
    /// The bits that say so in an entry.
    const fn bits(self) -> u16 {
        if self.write { GTF_READING | GTF_WRITING } else { GTF_READING }
    }

    /// Whether an entry's first word grants it. Of one that is in use already, by the same domain, only the right to
    /// write is looked at: what it grants to whom is settled.
    const fn is_granted(self, word: u32, in_use: bool) -> bool {
        let (flags, to) = (word as u16, (word >> 16) as u16);
        let mask = if self.whole { GTF_TYPE_MASK | GTF_SUB_PAGE } else { GTF_TYPE_MASK };
        let access = in_use || (flags & mask == GTF_PERMIT_ACCESS && to == self.by);
        access && !(self.write && flags & GTF_READONLY != 0)
    }
}

/// Which bytes of which frame of the granter's an entry names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Named {
    /// Frame number in the granter's physical space.
    pub(super) frame: u64,
    /// First byte and length, where it is not the page.
    pub(super) part: Option<(u16, u16)>,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    /// Of version 1.
    V1(Pa),
    /// Of version 2.
    V2 {
        /// The entry.
        at: Pa,
        /// The 32-bit word that has its status.
        status: Pa,
        /// How far up in that.
        shift: u32,
    },
}

impl Entry {
    /// Marks the entry as in use, if it grants what is wanted. GNTST_GENERAL_ERROR if not, or if the guest does not stop
    /// changing it.
    pub(super) fn mark<M: Memory>(self, memory: &M, want: Want, in_use: bool) -> Result<(), i16> {
        match self {
            Self::V1(at) => {
                let mut granted = false;
                let done = word::update(memory, at, |word| {
                    granted = want.is_granted(word, in_use);
                    granted.then_some(word | u32::from(want.bits()))
                });
                if granted && done.is_some() { Ok(()) } else { Err(GNTST_GENERAL_ERROR) }
            }
            Self::V2 { at, status, shift } => {
                let look = || {
                    let granted = word::read(memory, at).is_some_and(|word| want.is_granted(word, in_use));
                    if granted { Ok(()) } else { Err(GNTST_GENERAL_ERROR) }
                };
                look()?;
                word::set(memory, status, u32::from(want.bits()) << shift).ok_or(GNTST_GENERAL_ERROR)?;
                // The guest, which takes back first and looks at the status then, is seen here, or sees us.
                look().inspect_err(|_| {
                    let reading = if in_use { 0 } else { GTF_READING };
                    self.unmark(memory, reading | (want.bits() & GTF_WRITING));
                })
            }
        }
    }

    /// Takes `bits` of "in use" away.
    pub(super) fn unmark<M: Memory>(self, memory: &M, bits: u16) {
        let (at, bits) = match self {
            Self::V1(at) => (at, u32::from(bits)),
            Self::V2 { status, shift, .. } => (status, u32::from(bits) << shift),
        };
        // A guest that never lets go of the word keeps an entry that looks as if in use, which is its own loss.
        let _ = word::clear(memory, at, bits);
    }

    /// What the entry names now. `None` only if its memory is not there.
    pub(super) fn named<M: Memory>(self, memory: &M) -> Option<Named> {
        match self {
            Self::V1(at) => {
                let frame = word::read(memory, at.offset(4))?;
                Some(Named { frame: frame.into(), part: None })
            }
            Self::V2 { at, .. } => {
                let flags = word::read(memory, at)? as u16;
                let part = if flags & GTF_SUB_PAGE != 0 {
                    let part = word::read(memory, at.offset(4))?;
                    Some((part as u16, (part >> 16) as u16))
                } else {
                    None
                };
                Some(Named { frame: memory.read_u64(at.offset(8)).ok()?, part })
            }
        }
    }
}
