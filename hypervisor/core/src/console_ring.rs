//! The hypervisor's log: the last bytes that went to its console, for `xl dmesg` (`XEN_SYSCTL_readconsole`), and the
//! gathering of guests' output into lines.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use arrayvec::ArrayVec;
use vambrace_abi::domid::DomId;

/// What a log begins with in memory, so that who reads the machine's memory from outside finds it. Behind it, each in 4
/// bytes, little-endian: the capacity, its complement, the position after the newest byte, and that of the oldest.
const SIGNATURE: [u8; 16] = *b"\x7fVambrace log\r\n\x1a";
/// Bytes of all that.
const HEADER: usize = SIGNATURE.len() + 16;
/// The largest capacity. Whoever looks for a log in a machine's memory believes no more of what it finds.
const MAX_CAPACITY: usize = 1 << 20;

/// The last bytes written. Positions count all bytes ever written, modulo 2^32; the newest `capacity` are kept.
#[derive(Debug)]
pub struct ConsoleRing {
    /// The header, and the bytes behind it.
    buffer: Box<[u8]>,
    /// Position after the newest byte.
    produced: u32,
    /// Position of the oldest byte that was not cleared and not overwritten.
    oldest: u32,
}

impl ConsoleRing {
    /// A ring that keeps `capacity` bytes, rounded up to a power of two from 256 bytes to 1 MiB so that positions stay
    /// right when they wrap.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(256, MAX_CAPACITY).next_power_of_two();
        let mut ring =
            Self { buffer: alloc::vec![0; HEADER + capacity].into_boxed_slice(), produced: 0, oldest: 0 };
        ring.note(0, SIGNATURE);
        ring.note(SIGNATURE.len(), (capacity as u32).to_le_bytes());
        ring.note(SIGNATURE.len() + 4, (!(capacity as u32)).to_le_bytes());
        ring
    }

    /// Puts `bytes` at this place of the header.
    fn note<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        if let Some(place) = self.buffer.get_mut(at..at + N) {
            place.copy_from_slice(&bytes);
        }
    }

    /// The header says what the fields say.
    fn note_positions(&mut self) {
        self.note(SIGNATURE.len() + 8, self.produced.to_le_bytes());
        self.note(SIGNATURE.len() + 12, self.oldest.to_le_bytes());
    }

    fn capacity(&self) -> usize {
        self.buffer.len() - HEADER
    }

    /// Appends bytes, over the oldest ones if it must.
    pub fn write(&mut self, bytes: &[u8]) {
        let capacity = self.capacity();
        for &byte in bytes {
            if let Some(slot) = self.buffer.get_mut(HEADER + (self.produced as usize & (capacity - 1))) {
                *slot = byte;
            }
            self.produced = self.produced.wrapping_add(1);
        }
        if self.produced.wrapping_sub(self.oldest) as usize > capacity {
            self.oldest = self.produced.wrapping_sub(capacity as u32);
        }
        self.note_positions();
    }

    /// Copies out as much as fits into `into`: from position `from` on if it is given (`incremental` with `index`) and
    /// still kept, else from the oldest byte. Returns how many bytes, and the position after them, from which the next
    /// call may go on.
    pub fn read(&self, from: Option<u32>, into: &mut [u8]) -> (usize, u32) {
        let kept = self.produced.wrapping_sub(self.oldest);
        let mut at = from.filter(|from| self.produced.wrapping_sub(*from) <= kept).unwrap_or(self.oldest);
        let mut count = 0;
        for slot in into {
            if at == self.produced {
                break;
            }
            let place = HEADER + (at as usize & (self.capacity() - 1));
            *slot = self.buffer.get(place).copied().unwrap_or(0);
            at = at.wrapping_add(1);
            count += 1;
        }
        (count, at)
    }

    /// Forgets what lies before position `up_to` (`clear`), as a read returned it.
    pub fn clear(&mut self, up_to: u32) {
        let kept = self.produced.wrapping_sub(self.oldest);
        if self.produced.wrapping_sub(up_to) <= kept {
            self.oldest = up_to;
            self.note_positions();
        }
    }
}

/// The first log in `memory`, which is a copy of (part of) a machine's memory: what it keeps, oldest byte first. What only
/// looks like one is passed over, and so is one that is not in `memory` as a whole.
pub fn log_in(memory: &[u8]) -> Option<Vec<u8>> {
    let mut at = 0;
    while let Some(rest) = memory.get(at..).filter(|rest| rest.len() > HEADER) {
        // A byte that little else begins with: memory is searched at the speed at which it is read.
        let next = rest.iter().position(|byte| *byte == SIGNATURE[0])?;
        if let Some(log) = rest.get(next..).and_then(log_at) {
            return Some(log);
        }
        at += next + 1;
    }
    None
}

/// The log that `memory` begins with.
fn log_at(memory: &[u8]) -> Option<Vec<u8>> {
    let rest = memory.strip_prefix(&SIGNATURE)?;
    let field = |index: usize| {
        rest.get(index * 4..).and_then(|rest| rest.first_chunk()).map(|bytes| u32::from_le_bytes(*bytes))
    };
    let (capacity, produced, oldest) = (field(0)?, field(2)?, field(3)?);
    let kept = produced.wrapping_sub(oldest);
    let sound = capacity.is_power_of_two() && capacity as usize <= MAX_CAPACITY && field(1)? == !capacity;
    let data = memory.get(HEADER..)?.get(..capacity as usize).filter(|_| sound && kept <= capacity)?;
    let byte = |at: u32| data.get(oldest.wrapping_add(at) as usize & (capacity as usize - 1)).copied();
    (0..kept).map(byte).collect()
}

impl fmt::Write for ConsoleRing {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(text.as_bytes());
        Ok(())
    }
}

/// Longest line of a guest's that comes out in one piece.
const LINE: usize = 160;

/// A guest's output up to the end of the line, so that lines of different guests do not mix.
#[derive(Clone, Debug, Default)]
pub struct GuestLine {
    bytes: ArrayVec<u8, LINE>,
}

impl GuestLine {
    /// Takes output of domain `domain`, and gives each line that it completes to `emit`, as `(d<domain>) <text>\n`. A line
    /// that grows too long comes out in pieces. Control characters other than the tab are left out: a guest must not be
    /// able to drive the terminal of the hypervisor's operator.
    pub fn push(&mut self, domain: DomId, bytes: &[u8], mut emit: impl FnMut(fmt::Arguments<'_>)) {
        for &byte in bytes {
            match byte {
                b'\n' => self.flush(domain, &mut emit),
                b'\t' | b' '..=b'~' => {
                    if self.bytes.is_full() {
                        self.flush(domain, &mut emit);
                    }
                    // There is room now.
                    let _ = self.bytes.try_push(byte);
                }
                _ => {}
            }
        }
    }

    /// Gives what there is of a line to `emit`, for example when the domain ends. An empty line comes out empty.
    pub fn flush(&mut self, domain: DomId, mut emit: impl FnMut(fmt::Arguments<'_>)) {
        emit(format_args!("(d{domain}) {}\n", self.text()));
        self.bytes.clear();
    }

    /// What there is of the line.
    pub fn text(&self) -> &str {
        // Only ASCII is let in.
        core::str::from_utf8(&self.bytes).unwrap_or("")
    }

    /// Whether no line has been begun.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    fn all(ring: &ConsoleRing) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        let (count, _) = ring.read(None, &mut bytes);
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn keeps_the_newest_bytes() {
        let mut ring = ConsoleRing::new(200);
        ring.write(b"hello");
        assert_eq!(all(&ring), b"hello");
        let long: Vec<u8> = (0..=255).chain(0..=99).collect();
        ring.write(&long);
        assert_eq!(all(&ring), long[100..]);
    }

    #[test]
    fn reads_on_where_it_stopped() {
        let mut ring = ConsoleRing::new(256);
        ring.write(b"one two");
        let mut part = [0; 3];
        let (count, next) = ring.read(None, &mut part);
        assert_eq!((&part[..count], next), (&b"one"[..], 3));
        let mut rest = [0; 16];
        assert_eq!(ring.read(Some(next), &mut rest), (4, 7));
        assert_eq!(ring.read(Some(7), &mut rest), (0, 7));
        ring.write(b"!");
        assert_eq!(ring.read(Some(7), &mut rest), (1, 8));
        // A position that was never reached, or is gone, starts from the oldest byte.
        assert_eq!(ring.read(Some(9), &mut rest), (8, 8));
        ring.clear(3);
        assert_eq!(all(&ring), b" two!");
        ring.clear(1);
        ring.clear(77);
        assert_eq!(all(&ring), b" two!");
        assert_eq!(ring.read(Some(0), &mut rest), (5, 8));
    }

    #[test]
    fn positions_wrap() {
        let mut ring = ConsoleRing::new(256);
        ring.produced = u32::MAX - 100;
        ring.oldest = u32::MAX - 100;
        ring.note_positions();
        let bytes: Vec<u8> = (0..200).collect();
        ring.write(&bytes);
        assert_eq!(all(&ring), bytes);
        let mut rest = [0; 300];
        assert_eq!(ring.read(Some(u32::MAX), &mut rest), (100, 99));
        ring.write(&bytes);
        assert_eq!(ring.read(None, &mut rest), (256, 299));
        assert_eq!(rest[..56], bytes[144..]);
        assert_eq!(rest[56..256], bytes);
        assert_eq!(log_in(&ring.buffer).unwrap(), [&bytes[144..], &bytes].concat());
    }

    #[test]
    fn the_log_is_found_in_a_copy_of_memory() {
        let mut ring = ConsoleRing::new(256);
        ring.write(b"(VMB) first\n(VMB) second\n");
        ring.clear(12);
        let mut memory = vec![SIGNATURE[0]; 100];
        // What is no log: the signature alone, and one whose fields contradict each other.
        memory.extend(SIGNATURE);
        let mut other = ring.buffer.to_vec();
        other[SIGNATURE.len() + 4] ^= 1;
        memory.extend(&other);
        assert_eq!(log_in(&memory), None);
        memory.extend(&*ring.buffer);
        assert_eq!(log_in(&memory).unwrap(), b"(VMB) second\n");
        assert_eq!(log_in(&memory[..memory.len() - 1]), None, "it is not there as a whole");
        let mut full = ConsoleRing::new(256);
        full.write(&[b'x'; 300]);
        assert_eq!(log_in(&full.buffer).unwrap(), [b'x'; 256]);
    }

    #[test]
    fn guest_output_comes_in_clean_lines() {
        let mut line = GuestLine::default();
        let mut out = String::new();
        let mut push = |line: &mut GuestLine, bytes: &[u8]| {
            line.push(3, bytes, |text| out.push_str(&text.to_string()));
        };
        push(&mut line, b"boot");
        push(&mut line, b"ing \x1b[2J\x07\xffnow\r\n\nnext");
        assert!(!line.is_empty());
        push(&mut line, &[b'x'; LINE]);
        let expected = ["(d3) booting [2Jnow", "(d3) ", &["(d3) next", &"x".repeat(LINE - 4)].concat()];
        assert_eq!(out.lines().collect::<Vec<_>>(), expected);
        line.flush(3, |text| assert_eq!(text.to_string(), "(d3) xxxx\n"));
        assert!(line.is_empty());
    }
}
