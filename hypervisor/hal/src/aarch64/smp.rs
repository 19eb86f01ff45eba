//! The other CPUs: starting them, and knowing which one this is.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use spin::Mutex;
use vambrace_core::addr::{Pa, PaRange};

use super::sysregs::read_sysreg;
use super::{boot, mmu};
use crate::private;
use crate::stage1::Kind;

/// The instruction that calls the firmware (SMCCC, Arm DEN 0028).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduit {
    /// `smc`.
    Smc,
    /// `hvc`: never reaches firmware from EL2, it would call the hypervisor itself.
    Hvc,
}

/// PSCI's CPU_ON since version 0.2, 64-bit (Arm DEN 0022, 5.1.4).
pub const PSCI_CPU_ON_64: u32 = 0xc400_0003;

/// How a CPU is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartMethod {
    /// By the firmware.
    Psci {
        /// How to call it.
        conduit: Conduit,
        /// The function: [`PSCI_CPU_ON_64`], or what a PSCI 0.1 device tree names.
        cpu_on: u32,
    },
    /// The CPU spins on a 64-bit word of memory until that holds an address.
    SpinTable {
        /// Physical address of the word.
        release: Pa,
    },
}

/// Why a CPU did not start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// No memory or no room for its stack, or it has been started before.
    Stack(mmu::MapError),
    /// The firmware cannot be called from EL2 by this conduit.
    Conduit,
    /// The firmware refused, with this PSCI error.
    Firmware(i32),
    /// The spin table's word is not aligned, not reachable, or within the hypervisor.
    ReleaseAddress,
    /// It did not report within a second. If it comes later it stops by itself.
    Timeout,
}

/// What a CPU on its way up reads, with translation off; the layout is known to `head`.
#[repr(C, align(256))]
pub(super) struct Slot {
    mpidr: AtomicU64,
    stack: AtomicU64,
    cpu: AtomicU64,
    table: AtomicU64,
}

const NOBODY: u64 = u64::MAX;

pub(super) static SLOT: Slot = Slot {
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

/// The CPU that executes this, in the hypervisor's numbering: 0 for the one that booted.
#[inline]
pub fn this_cpu() -> usize {
    read_sysreg!("tpidr_el2") as usize
}

/// Starts the CPU with affinity `mpidr` as number `cpu`, and waits until it has arrived in the binary's `secondary`, or
/// for a second.
pub fn start(cpu: usize, mpidr: u64, method: StartMethod) -> Result<(), StartError> {
    let _guard = LOCK.lock();
    let stack = mmu::map_stack(cpu).map_err(StartError::Stack)?;
    let entry = (&raw const vambrace_secondary_entry) as u64;
    STATE.store(state(cpu, STARTING), Ordering::SeqCst);
    SLOT.stack.store(stack, Ordering::Relaxed);
    SLOT.cpu.store(cpu as u64, Ordering::Relaxed);
    SLOT.table.store(mmu::root().0, Ordering::Relaxed);
    call(mpidr & boot::MPIDR_AFFINITY);
    let result = match method {
        StartMethod::Psci { conduit: Conduit::Hvc, .. } => Err(StartError::Conduit),
        StartMethod::Psci { conduit: Conduit::Smc, cpu_on } => psci_on(cpu_on, mpidr, entry),
        StartMethod::SpinTable { release } => write_release(release, entry),
    };
    let result = result.and_then(|()| wait(cpu));
    // A CPU that comes only now finds nobody called, or that it has been given up.
    call(NOBODY);
    if result.is_err() {
        let given_up = STATE.compare_exchange(state(cpu, STARTING), 0, Ordering::SeqCst, Ordering::SeqCst);
        if given_up == Err(state(cpu, UP)) {
            return Ok(());
        }
    }
    result
}

/// Says which CPU is called, in memory that a CPU with its caches off reads.
fn call(mpidr: u64) {
    // The other fields first: whoever reads its own number before and after them has read them whole.
    clean(Pa((&raw const SLOT) as u64));
    SLOT.mpidr.store(mpidr, Ordering::Release);
    clean(Pa((&raw const SLOT) as u64));
    // SAFETY: wakes CPUs that wait for an event.
    unsafe { core::arch::asm!("sev", options(nostack, preserves_flags)) };
}

/// Cleans the cache line at `pa` out to memory.
fn clean(pa: Pa) {
    fence(Ordering::SeqCst);
    // SAFETY: cleaning writes back what is in memory's cached copy anyway; no value changes.
    unsafe { core::arch::asm!("dc civac, {}", "dsb sy", in(reg) pa.0, options(nostack, preserves_flags)) };
}

fn psci_on(function: u32, mpidr: u64, entry: u64) -> Result<(), StartError> {
    // ALREADY_ON: it is ours from an earlier try, and waits at the slot.
    const ALREADY_ON: i32 = -4;
    // SAFETY: CPU_ON starts another CPU at `entry`, code made for that; it stays off all Rust memory but `SLOT` until
    // it has a stack of its own.
    let result = unsafe { smc(u64::from(function), [mpidr, entry, 0, 0, 0, 0, 0]) };
    match result[0] as i32 {
        0 | ALREADY_ON => Ok(()),
        error => Err(StartError::Firmware(error)),
    }
}

fn write_release(release: Pa, entry: u64) -> Result<(), StartError> {
    let word = PaRange::new(release, 8).ok_or(StartError::ReleaseAddress)?;
    if !release.is_aligned(8) || private::is_private(word) {
        return Err(StartError::ReleaseAddress);
    }
    match mmu::kind_at(release) {
        Some(Kind::Data) => {
            // SAFETY: aligned, mapped as RAM, and outside of all memory of the hypervisor, so no Rust object is there.
            unsafe { core::ptr::write_volatile(release.0 as *mut u64, entry) };
            clean(release);
        }
        _ => {
            let mmio = mmu::map_device(word).map_err(|_| StartError::ReleaseAddress)?;
            mmio.write64(0, entry);
        }
    }
    // SAFETY: a barrier, and a wake-up for CPUs that wait for an event.
    unsafe { core::arch::asm!("dsb sy", "sev", options(nostack, preserves_flags)) };
    Ok(())
}

fn wait(cpu: usize) -> Result<(), StartError> {
    let ticks = read_sysreg!("cntfrq_el0").clamp(1_000_000, 4_000_000_000);
    let begin = read_sysreg!("cntpct_el0");
    while STATE.load(Ordering::SeqCst) != state(cpu, UP) {
        if read_sysreg!("cntpct_el0").wrapping_sub(begin) > ticks {
            return Err(StartError::Timeout);
        }
        core::hint::spin_loop();
    }
    Ok(())
}

/// Called from `head` on the new CPU, with translation on.
pub(super) extern "C" fn secondary_start(cpu: usize) -> ! {
    boot::install_vectors();
    if STATE
        .compare_exchange(state(cpu, STARTING), state(cpu, UP), Ordering::SeqCst, Ordering::SeqCst)
        .is_err()
    {
        boot::park();
    }
    // SAFETY: `entry!` defines the function with this signature.
    unsafe { vambrace_secondary(cpu) }
}

/// Calls the firmware by SMCCC with seven arguments (x1 to x7); returns x0 to x3. `None` where the conduit reaches no
/// firmware from EL2, and for the PSCI functions that continue at an address of the caller's: CPU_ON (see [`start`]),
/// CPU_SUSPEND, CPU_DEFAULT_SUSPEND and SYSTEM_SUSPEND.
///
/// Firmware is trusted: what it does with addresses among the arguments of its own services is not checked here.
pub fn firmware_call(conduit: Conduit, function: u64, args: [u64; 7]) -> Option<[u64; 4]> {
    let continues_elsewhere =
        matches!(function as u32 & !(1 << 30), 0x8400_0001 | 0x8400_0003 | 0x8400_000c | 0x8400_000e);
    if conduit != Conduit::Smc || continues_elsewhere {
        return None;
    }
    // SAFETY: the functions that would run code or resume at an address given are refused above; the firmware returns
    // here, by SMCCC with all registers but x0 to x17 kept.
    Some(unsafe { smc(function, args) })
}

/// # Safety
/// What the function does must not break memory safety.
unsafe fn smc(function: u64, args: [u64; 7]) -> [u64; 4] {
    let [a1, a2, a3, a4, a5, a6, a7] = args;
    let (r0, r1, r2, r3);
    // SAFETY: by SMCCC the call changes x0 to x17 only; its effect is the caller's promise.
    unsafe {
        core::arch::asm!(
            "smc #0",
            inlateout("x0") function => r0,
            inlateout("x1") a1 => r1,
            inlateout("x2") a2 => r2,
            inlateout("x3") a3 => r3,
            inlateout("x4") a4 => _,
            inlateout("x5") a5 => _,
            inlateout("x6") a6 => _,
            inlateout("x7") a7 => _,
            lateout("x8") _, lateout("x9") _, lateout("x10") _, lateout("x11") _, lateout("x12") _,
            lateout("x13") _, lateout("x14") _, lateout("x15") _, lateout("x16") _, lateout("x17") _,
            options(nostack),
        );
    }
    [r0, r1, r2, r3]
}
