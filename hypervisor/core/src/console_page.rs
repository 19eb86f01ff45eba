//! The page through which a guest's console and its back end in another domain speak (`io/console.h`).
//!
//! ```text
//!   input[1024]    back end ---in_prod--> ring ---in_cons--> guest
//!   output[2048]   guest ---out_prod--> ring ---out_cons--> back end
//! ```
//!
//! The hypervisor stands on the guest's side, for a UART that it emulates. Both the guest and the back end may write
//! anything there at any time: every index is read once, an impossible one makes the ring unusable (empty for who reads,
//! full for who writes), and no place outside of the page is ever touched.

use core::mem::offset_of;

use vambrace_abi::console::XenconsInterface;

use crate::addr::Pa;
use crate::machine::Memory;
use crate::word;

const INPUT_BYTES: u32 = 1024;
const OUTPUT_BYTES: u32 = 2048;
const INPUT: u64 = offset_of!(XenconsInterface, input) as u64;
const OUTPUT: u64 = offset_of!(XenconsInterface, output) as u64;
const IN_CONS: u64 = offset_of!(XenconsInterface, in_cons) as u64;
const IN_PROD: u64 = offset_of!(XenconsInterface, in_prod) as u64;
const OUT_CONS: u64 = offset_of!(XenconsInterface, out_cons) as u64;
const OUT_PROD: u64 = offset_of!(XenconsInterface, out_prod) as u64;

/// The page, which its owner keeps from being freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsolePage {
    page: Pa,
}

impl ConsolePage {
    /// The page at the physical address `page`.
    pub const fn new(page: Pa) -> Self {
        Self { page }
    }

    /// Its physical address.
    pub const fn page(self) -> Pa {
        self.page
    }

    fn index<M: Memory>(self, memory: &M, offset: u64) -> u32 {
        // The page is RAM; were it not, the ring is empty.
        word::read(memory, self.page.offset(offset)).unwrap_or(0)
    }

    fn set_index<M: Memory>(self, memory: &M, offset: u64, value: u32) {
        // As above. A guest that never lets go of the word loses a byte of its console.
        let _ = word::update(memory, self.page.offset(offset), |_| Some(value));
    }

    /// Where the next byte of input is, and how many there are.
    fn waiting_input<M: Memory>(self, memory: &M) -> (u32, u32) {
        let (consumed, produced) = (self.index(memory, IN_CONS), self.index(memory, IN_PROD));
        let waiting = produced.wrapping_sub(consumed);
        (consumed, if waiting > INPUT_BYTES { 0 } else { waiting })
    }

    /// Bytes of input that wait for the guest, at most 1024.
    pub fn input<M: Memory>(self, memory: &M) -> u32 {
        self.waiting_input(memory).1
    }

    /// Whether no more input fits.
    pub fn is_input_full<M: Memory>(self, memory: &M) -> bool {
        self.input(memory) == INPUT_BYTES
    }

    /// Takes a byte of input.
    pub fn take<M: Memory>(self, memory: &M) -> Option<u8> {
        let (consumed, waiting) = self.waiting_input(memory);
        if waiting == 0 {
            return None;
        }
        let mut byte = [0];
        let at = INPUT + u64::from(consumed % INPUT_BYTES);
        memory.read(self.page.offset(at), &mut byte).ok()?;
        self.set_index(memory, IN_CONS, consumed.wrapping_add(1));
        let [byte] = byte;
        Some(byte)
    }

    /// Bytes of output that the back end has not taken yet, at most 2048.
    pub fn output<M: Memory>(self, memory: &M) -> u32 {
        let (consumed, produced) = (self.index(memory, OUT_CONS), self.index(memory, OUT_PROD));
        produced.wrapping_sub(consumed).min(OUTPUT_BYTES)
    }

    /// Whether output must wait for the back end.
    pub fn is_output_full<M: Memory>(self, memory: &M) -> bool {
        self.output(memory) == OUTPUT_BYTES
    }

    /// Puts a byte of output; whether it fitted.
    pub fn put<M: Memory>(self, memory: &M, byte: u8) -> bool {
        let (consumed, produced) = (self.index(memory, OUT_CONS), self.index(memory, OUT_PROD));
        if produced.wrapping_sub(consumed) >= OUTPUT_BYTES {
            return false;
        }
        let at = OUTPUT + u64::from(produced % OUTPUT_BYTES);
        if memory.write(self.page.offset(at), &[byte]).is_err() {
            return false;
        }
        // Orders the byte before the index: the word is changed sequentially consistent.
        self.set_index(memory, OUT_PROD, produced.wrapping_add(1));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeMachine;

    const PAGE: Pa = Pa(0x4000_1000);

    fn machine() -> (FakeMachine, ConsolePage) {
        (FakeMachine::with_ram(0x4000_0000, 0x10_0000), ConsolePage::new(PAGE))
    }

    #[test]
    fn bytes_go_both_ways_round_the_rings() {
        let (machine, page) = machine();
        for n in 0..5000_u32 {
            assert!(page.put(&machine, n as u8));
            assert_eq!(page.output(&machine), 1);
            let mut byte = [0];
            machine.read(PAGE.offset(OUTPUT + u64::from(n % OUTPUT_BYTES)), &mut byte).unwrap();
            assert_eq!(byte, [n as u8]);
            machine.set_word(PAGE.offset(OUT_CONS), n + 1);

            machine.write(PAGE.offset(INPUT + u64::from(n % INPUT_BYTES)), &[!n as u8]).unwrap();
            assert_eq!(page.take(&machine), None);
            machine.set_word(PAGE.offset(IN_PROD), n + 1);
            assert_eq!((page.input(&machine), page.take(&machine)), (1, Some(!n as u8)));
        }
    }

    #[test]
    fn a_full_ring_waits() {
        let (machine, page) = machine();
        for _ in 0..OUTPUT_BYTES {
            assert!(!page.is_output_full(&machine) && page.put(&machine, b'x'));
        }
        assert!(page.is_output_full(&machine) && !page.put(&machine, b'y'));
        machine.set_word(PAGE.offset(OUT_CONS), 1);
        assert!(!page.is_output_full(&machine) && page.put(&machine, b'y'));
        machine.set_word(PAGE.offset(IN_PROD), INPUT_BYTES);
        assert!(page.is_input_full(&machine));
    }

    #[test]
    fn impossible_indexes_lead_nowhere() {
        let (machine, page) = machine();
        for (consumed, produced) in [(0, 0x8000_0000), (5, 4), (u32::MAX, 4096), (0, 2049)] {
            machine.set_word(PAGE.offset(IN_CONS), consumed);
            machine.set_word(PAGE.offset(IN_PROD), produced);
            machine.set_word(PAGE.offset(OUT_CONS), consumed);
            machine.set_word(PAGE.offset(OUT_PROD), produced);
            assert_eq!(page.take(&machine), None);
            assert!(!page.put(&machine, 1));
            assert!(page.is_output_full(&machine));
            assert_eq!(machine.word(PAGE.offset(IN_CONS)), consumed);
            assert_eq!(machine.word(PAGE.offset(OUT_PROD)), produced);
        }
        // Indexes that wrap are right.
        machine.set_word(PAGE.offset(IN_CONS), u32::MAX);
        machine.set_word(PAGE.offset(IN_PROD), 1);
        assert_eq!(page.input(&machine), 2);
    }
}
