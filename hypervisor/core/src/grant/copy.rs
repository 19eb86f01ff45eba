//! `GNTTABOP_copy`: where its two ends lie, and the copy.

use vambrace_abi::grant_table::*;

use super::active::Granted;
use crate::addr::{PAGE_SIZE, Pa};
use crate::machine::Memory;

/// Bytes of a buffer for two ends that overlap, which no sensible guest has.
const STEP: u64 = 256;

/// Copies `length` bytes from `from_offset` in the page of `from` to `to_offset` in the page of `to`. The error is a
/// `GNTST_*`: BAD_COPY_ARG where an end leaves its page, GENERAL_ERROR where it leaves the part that is granted, BAD_PAGE
/// where there is no memory.
#[inline]
pub fn copy<M: Memory>(
    memory: &M,
    from: Granted,
    from_offset: u16,
    to: Granted,
    to_offset: u16,
    length: u16,
) -> Result<(), i16> {
    let end = |offset| u64::from(offset) + u64::from(length);
    if end(from_offset) > PAGE_SIZE || end(to_offset) > PAGE_SIZE {
        return Err(GNTST_BAD_COPY_ARG);
    }
    let within = |part: Granted, offset: u16| {
        offset >= part.start && end(offset) <= u64::from(part.start) + u64::from(part.length)
    };
    if !within(from, from_offset) || !within(to, to_offset) {
        return Err(GNTST_GENERAL_ERROR);
    }
    let length = u64::from(length);
    let (source, target) = (from.page.offset(from_offset.into()), to.page.offset(to_offset.into()));
    if source.0 < target.0 + length && target.0 < source.0 + length {
        return move_within(memory, source, target, length);
    }
    memory.copy(target, source, length).map_err(|_| GNTST_BAD_PAGE)
}

/// Copies between places that overlap, in steps from the end where nothing is overwritten before it is read.
fn move_within<M: Memory>(memory: &M, source: Pa, target: Pa, length: u64) -> Result<(), i16> {
    let mut buffer = [0; STEP as usize];
    let mut done = 0;
    while done < length {
        let step = STEP.min(length - done);
        let at = if target.0 > source.0 { length - done - step } else { done };
        let bytes = buffer.get_mut(..step as usize).ok_or(GNTST_BAD_PAGE)?;
        memory
            .read(source.offset(at), bytes)
            .and_then(|()| memory.write(target.offset(at), bytes))
            .map_err(|_| GNTST_BAD_PAGE)?;
        done += step;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeMachine;

    const RAM: u64 = 0x4000_0000;

    fn page(n: u64) -> Granted {
        Granted { page: Pa(RAM + n * PAGE_SIZE), start: 0, length: PAGE_SIZE as u16 }
    }

    #[test]
    fn ends_stay_in_their_parts() {
        let m = FakeMachine::with_ram(RAM, 1 << 20);
        let whole = |from, to, length| copy(&m, page(0), from, page(1), to, length);
        assert_eq!(whole(0, 0, 4096), Ok(()));
        assert_eq!(whole(1, 0, 4096), Err(GNTST_BAD_COPY_ARG));
        assert_eq!(whole(0, 4095, 2), Err(GNTST_BAD_COPY_ARG));
        assert_eq!(whole(4096, 4096, 0), Ok(()));
        assert_eq!(whole(u16::MAX, 0, u16::MAX), Err(GNTST_BAD_COPY_ARG));
        let part = Granted { start: 16, length: 16, ..page(2) };
        let from = |offset, length| copy(&m, part, offset, page(3), 0, length);
        let to = |offset, length| copy(&m, page(3), 0, part, offset, length);
        for end in [&from as &dyn Fn(u16, u16) -> Result<(), i16>, &to] {
            assert_eq!(end(16, 16), Ok(()));
            assert_eq!(end(31, 1), Ok(()));
            assert_eq!(end(15, 1), Err(GNTST_GENERAL_ERROR));
            assert_eq!(end(31, 2), Err(GNTST_GENERAL_ERROR));
        }
        // What a guest wrote into its entry may be anything.
        let absurd = Granted { start: u16::MAX, length: u16::MAX, ..page(2) };
        assert_eq!(copy(&m, absurd, 0, page(3), 0, 1), Err(GNTST_GENERAL_ERROR));
        let nowhere = Granted { page: Pa(0), ..page(0) };
        assert_eq!(copy(&m, nowhere, 0, page(1), 0, 1), Err(GNTST_BAD_PAGE));
    }

    #[test]
    fn overlapping_ends_copy_as_if_through_a_buffer() {
        let m = FakeMachine::with_ram(RAM, 1 << 20);
        let pattern: alloc::vec::Vec<u8> = (0..PAGE_SIZE).map(|n| (n * 7 % 251) as u8).collect();
        for (from, to) in [(0_u16, 1_u16), (1, 0), (0, 700), (700, 0), (5, 5)] {
            m.write(Pa(RAM), &pattern).unwrap();
            copy(&m, page(0), from, page(0), to, 3000).unwrap();
            let mut expected = pattern.clone();
            expected.copy_within(usize::from(from)..usize::from(from) + 3000, to.into());
            let mut found = alloc::vec![0; PAGE_SIZE as usize];
            m.read(Pa(RAM), &mut found).unwrap();
            assert!(found == expected, "{from} to {to}");
        }
    }
}
