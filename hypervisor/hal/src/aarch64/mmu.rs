//! The form of EL2's tables, and the stacks of secondary CPUs, which have virtual space of their own.

use vambrace_core::addr::PAGE_SIZE;

use crate::mmu::{MapError, with_tables};
use crate::stage1::{Format, Kind};

/// 48 bits of virtual and physical address.
pub(crate) const FORMAT: Format = Format { start_level: 0, virtual_bits: 48, physical_bits: 48 };

/// Bytes of a secondary CPU's stack.
const STACK_SIZE: u64 = 16 << 10;
/// Virtual space of a secondary CPU's stack: the stack's top lies in its middle, all around is not mapped.
const STACK_SLOT: u64 = 64 << 10;
/// Where in virtual space the stacks lie: the last 512 GiB, where no physical memory is expected.
const STACK_WINDOW: u64 = FORMAT.limit() - (1 << 39);

/// What of the image's writable memory is not mapped with it, besides the page below the boot CPU's stack: nothing, the
/// others' stacks lie elsewhere.
pub(crate) fn holes() -> [(u64, u64); 0] {
    []
}

/// Maps a stack for CPU number `cpu`, with nothing mapped on either side, and returns its top (virtual). The memory
/// comes from the heap. A second stack for the same CPU is [`MapError::Occupied`].
pub(crate) fn map_stack(cpu: usize) -> Result<u64, MapError> {
    let offset = (cpu as u64)
        .checked_mul(STACK_SLOT)
        .filter(|offset| *offset < 1 << 38)
        .ok_or(MapError::OutOfRange)?;
    let top = STACK_WINDOW + offset + STACK_SLOT / 2;
    let bottom = top - STACK_SIZE;
    if with_tables(|tables| tables.lookup(bottom)).is_some() {
        return Err(MapError::Occupied(bottom));
    }
    let memory = crate::heap::zeroed_pages(STACK_SIZE / PAGE_SIZE).ok_or(MapError::NoMemory)?;
    with_tables(|tables| tables.map(bottom, memory, STACK_SIZE, Kind::Data))?;
    Ok(top)
}
