//! The other CPUs: starting them, and knowing which one this is.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use spin::Mutex;
use vambrace_core::addr::{Pa, PaRange};
use vambrace_core::platform::{Arrival, Cpu, EnableMethod, Psci};

use crate::cpu;
use crate::firmware::{self, CpuOnError};
use crate::mmio::{barrier, send_event};
use crate::sequence::{self, Host, StepError};
use crate::stage1::Kind;
use crate::{memory, mmu, private, timer};

pub use crate::cpu::smp::this_cpu;

/// Why a CPU did not start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// No memory or no room for its stack, or it has been started before.
    Stack(mmu::MapError),
    /// The device tree names no way to start it, or one that is not known.
    NoWay,
    /// It would arrive in a state that this kind of CPU cannot be brought out of.
    Arrival(Arrival),
    /// The firmware did not do it.
    Firmware(CpuOnError),
    /// A step of the board's own way.
    Step(StepError),
    /// The spin table's word is not aligned, not reachable, or within the hypervisor.
    ReleaseAddress,
    /// It did not report within a second. If it comes later it stops by itself.
    Timeout,
}

/// What a CPU on its way up reads, with translation off; the layout is known to `head`.
#[repr(C, align(256))]
pub(crate) struct Slot {
    mpidr: AtomicU64,
    stack: AtomicU64,
    cpu: AtomicU64,
    table: AtomicU64,
}

const NOBODY: u64 = u64::MAX;

pub(crate) static SLOT: Slot = Slot {
    mpidr: AtomicU64::new(NOBODY),
    stack: AtomicU64::new(0),
    cpu: AtomicU64::new(0),
    table: AtomicU64::new(0),
};

const STARTING: u32 = 1;
const UP: u32 = 2;

/// CPU number and STARTING, UP or 0. The CPU and whoever waits for it both try to leave STARTING; one succeeds.
static STATE: AtomicU32 = AtomicU32::new(0);
static LOCK: Mutex<()> = Mutex::new(());

const fn state(cpu: usize, phase: u32) -> u32 {
    (cpu as u32) << 2 | phase
}

unsafe extern "Rust" {
    fn vambrace_secondary(cpu: usize) -> !;
}

unsafe extern "C" {
    static vambrace_secondary_entry: u8;
}

/// Starts a CPU as number `number`, and waits until it has arrived in the binary's `secondary`, or for a second.
pub fn start(number: usize, cpu: &Cpu, psci: Option<&Psci>, host: &impl Host) -> Result<(), StartError> {
    let _guard = LOCK.lock();
    let entry = entry_for(&cpu.enable)?;
    let stack = cpu::mmu::map_stack(number).map_err(StartError::Stack)?;
    STATE.store(state(number, STARTING), Ordering::SeqCst);
    SLOT.stack.store(stack, Ordering::Relaxed);
    SLOT.cpu.store(number as u64, Ordering::Relaxed);
    SLOT.table.store(mmu::root().0, Ordering::Relaxed);
    call(cpu.mpidr & cpu::boot::MPIDR_AFFINITY);
    let result = match (&cpu.enable, psci) {
        (EnableMethod::Psci, Some(psci)) => {
            // SAFETY: the entry is made for CPUs without a stack; it reads `SLOT` alone.
            let started = unsafe { firmware::cpu_on(psci, cpu.mpidr, entry) };
            started.map_err(StartError::Firmware)
        }
        (EnableMethod::SpinTable { release }, _) => write_release(*release, entry),
        (EnableMethod::Registers { steps, .. }, _) => {
            sequence::carry_out(steps, Some(entry), host).map_err(StartError::Step)
        }
        _ => Err(StartError::NoWay),
    };
    let result = result.and_then(|()| wait(number));
    // A CPU that comes only now finds nobody called, or that it has been given up.
    call(NOBODY);
    if result.is_err() {
        let given_up = STATE.compare_exchange(state(number, STARTING), 0, Ordering::SeqCst, Ordering::SeqCst);
        if given_up == Err(state(number, UP)) {
            return Ok(());
        }
    }
    result
}

/// Where a CPU that is started so is to begin (physical).
fn entry_for(way: &EnableMethod) -> Result<Pa, StartError> {
    let entry = match *way {
        EnableMethod::Registers { arrival, .. } if arrival != Arrival::Hypervisor => {
            cpu::smp::entry_from(arrival).ok_or(StartError::Arrival(arrival))?
        }
        _ => &raw const vambrace_secondary_entry as usize,
    };
    Ok(Pa(entry as u64))
}

/// Says which CPU is called, in memory that a CPU with its caches off reads.
fn call(mpidr: u64) {
    // The other fields first: whoever reads its own number before and after them has read them whole.
    clean(Pa(&raw const SLOT as usize as u64));
    SLOT.mpidr.store(mpidr, Ordering::Release);
    clean(Pa(&raw const SLOT as usize as u64));
    send_event();
}

/// Cleans the word at `pa` out to memory.
fn clean(pa: Pa) {
    fence(Ordering::SeqCst);
    memory::clean(pa.0 as usize, size_of::<u64>());
}

fn write_release(release: Pa, entry: Pa) -> Result<(), StartError> {
    let word = PaRange::new(release, 8).ok_or(StartError::ReleaseAddress)?;
    if !release.is_aligned(8) || private::is_private(word) {
        return Err(StartError::ReleaseAddress);
    }
    match mmu::kind_at(release) {
        Some(Kind::Data) => {
            // SAFETY: aligned, mapped as RAM, and outside of all memory of the hypervisor, so no Rust object is there.
            unsafe { core::ptr::write_volatile(release.0 as usize as *mut u64, entry.0) };
            clean(release);
        }
        _ => {
            let mmio = mmu::map_device(word).map_err(|_| StartError::ReleaseAddress)?;
            // In one access: a CPU goes wherever half an address leads.
            #[cfg(target_pointer_width = "64")]
            mmio.write64(0, entry.0);
            // All is below 4 GiB here, and the high half is 0 from before.
            #[cfg(not(target_pointer_width = "64"))]
            mmio.write32(0, entry.0 as u32);
        }
    }
    barrier();
    send_event();
    Ok(())
}

fn wait(cpu: usize) -> Result<(), StartError> {
    let arrived = || STATE.load(Ordering::SeqCst) == state(cpu, UP);
    if timer::wait_a_second(arrived) { Ok(()) } else { Err(StartError::Timeout) }
}

/// Called from `head` on the new CPU, with translation on.
pub(crate) extern "C" fn secondary_start(cpu: usize) -> ! {
    cpu::boot::install_vectors();
    if STATE
        .compare_exchange(state(cpu, STARTING), state(cpu, UP), Ordering::SeqCst, Ordering::SeqCst)
        .is_err()
    {
        cpu::boot::park();
    }
    // SAFETY: `entry!` defines the function with this signature.
    unsafe { vambrace_secondary(cpu) }
}
