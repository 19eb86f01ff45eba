//! The tests, in groups that the command line names.

pub(crate) mod abi;
pub(crate) mod events;
pub(crate) mod gic;
pub(crate) mod hostile;
pub(crate) mod idregs;
pub(crate) mod memory;
pub(crate) mod neighbour;
pub(crate) mod psci;
pub(crate) mod timer;

use core::cell::UnsafeCell;

use crate::board::Board;
use crate::report::Report;
use crate::start::Entry;

/// A page of this image that a test gives to the hypervisor, or has replaced by one of the hypervisor's.
#[repr(C, align(4096))]
pub(crate) struct Page(UnsafeCell<[u64; 512]>);
// SAFETY: only reached by volatile accesses below; what races there races with the hypervisor, on purpose.
unsafe impl Sync for Page {}

impl Page {
    /// Zeroes.
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new([0; 512]))
    }
    /// Address (virtual = intermediate).
    pub(crate) fn address(&self) -> u64 {
        self.0.get() as u64
    }
    /// Frame number.
    pub(crate) fn frame(&self) -> u64 {
        self.address() >> 12
    }
    /// The aligned value at byte `offset`.
    pub(crate) fn get<T: Copy>(&self, offset: usize) -> T {
        assert!(offset + size_of::<T>() <= 4096);
        // SAFETY: within the page; every bit pattern is a value of the integers this is used with.
        unsafe { (self.address() as *const u8).add(offset).cast::<T>().read_volatile() }
    }
    /// Writes the aligned value at byte `offset`.
    pub(crate) fn set<T: Copy>(&self, offset: usize, value: T) {
        assert!(offset + size_of::<T>() <= 4096);
        // SAFETY: within the page.
        unsafe { (self.address() as *mut u8).add(offset).cast::<T>().write_volatile(value) }
    }
}

/// Runs the groups that `groups` lists, separated by commas; `all` is every one that a guest
/// without neighbours can run.
pub(crate) fn run(report: &mut Report, groups: &str, board: &Board, entry: &Entry) {
    let wanted = |group: &str| groups.split(',').any(|name| name == group || name == "all");
    if wanted("idregs") {
        idregs::run(report, board);
    }
    if wanted("timer") {
        timer::run(report, board, entry);
    }
    if wanted("gic") {
        gic::run(report, board);
    }
    if wanted("psci") {
        psci::run(report, board);
    }
    if wanted("memory") {
        memory::run(report, board);
    }
    if wanted("events") {
        events::run(report, board);
    }
    if wanted("abi") {
        abi::run(report);
    }
    if wanted("hostile") {
        hostile::run(report, board);
    }
    if groups == "neighbour" {
        neighbour::run(report, board);
    }
}
