//! The other CPUs: started by PSCI, given work through a mailbox each, turned off again.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::hypercall::{smccc, yield_cpu};
use crate::start::{MAX_CPUS, secondary_entry};

/// PSCI functions (Arm DEN 0022).
#[allow(missing_docs)]
pub mod psci {
    pub const VERSION: u64 = 0x8400_0000;
    pub const CPU_OFF: u64 = 0x8400_0002;
    pub const CPU_ON_64: u64 = 0xc400_0003;
    pub const AFFINITY_INFO_64: u64 = 0xc400_0004;
    pub const MIGRATE_INFO_TYPE: u64 = 0x8400_0006;
    pub const SYSTEM_OFF: u64 = 0x8400_0008;
    pub const FEATURES: u64 = 0x8400_000a;
    pub const NOT_SUPPORTED: i64 = -1;
    pub const INVALID_PARAMETERS: i64 = -2;
    pub const ALREADY_ON: i64 = -4;
}

struct Mailbox {
    /// 0: down, 1: idle, else the address of the function to run.
    work: AtomicU64,
    argument: AtomicU64,
    result: AtomicU64,
}

const IDLE: u64 = 1;
static MAILBOXES: [Mailbox; MAX_CPUS] =
    [const { Mailbox { work: AtomicU64::new(0), argument: AtomicU64::new(0), result: AtomicU64::new(0) } };
        MAX_CPUS];

#[unsafe(no_mangle)]
extern "C" fn secondary_main(cpu: usize) -> ! {
    let mailbox = &MAILBOXES[cpu];
    mailbox.work.store(IDLE, Ordering::SeqCst);
    loop {
        match mailbox.work.load(Ordering::SeqCst) {
            IDLE => yield_cpu(),
            work => {
                // SAFETY: `run` puts nothing but the address of such a function here.
                let work: fn(u64) -> u64 = unsafe { core::mem::transmute(work) };
                let result = work(mailbox.argument.load(Ordering::SeqCst));
                mailbox.result.store(result, Ordering::SeqCst);
                mailbox.work.store(IDLE, Ordering::SeqCst);
            }
        }
    }
}

/// A while in which other vCPUs run.
fn wait(mut done: impl FnMut() -> bool) -> bool {
    (0..100_000).any(|_| {
        let done = done();
        if !done {
            yield_cpu();
        }
        done
    })
}

/// Starts `cpu` (its index) with affinity `mpidr`; PSCI's answer, or `None` if it said success and did not come.
pub fn start(cpu: usize, mpidr: u64) -> Option<i64> {
    let answer = smccc(psci::CPU_ON_64, [mpidr, secondary_entry as *const () as u64, cpu as u64]);
    if answer != 0 || wait(|| MAILBOXES[cpu].work.load(Ordering::SeqCst) == IDLE) {
        Some(answer)
    } else {
        None
    }
}

/// Starts work on `cpu`.
pub fn begin(cpu: usize, work: fn(u64) -> u64, argument: u64) {
    MAILBOXES[cpu].argument.store(argument, Ordering::SeqCst);
    MAILBOXES[cpu].work.store(work as usize as u64, Ordering::SeqCst);
}

/// The result of the work that `cpu` was given; `None` if it never ends.
pub fn finish(cpu: usize) -> Option<u64> {
    wait(|| MAILBOXES[cpu].work.load(Ordering::SeqCst) == IDLE)
        .then(|| MAILBOXES[cpu].result.load(Ordering::SeqCst))
}

/// Runs `work` on `cpu` to its end.
pub fn run(cpu: usize, work: fn(u64) -> u64, argument: u64) -> Option<u64> {
    begin(cpu, work, argument);
    finish(cpu)
}

/// Turns `cpu` off; whether AFFINITY_INFO says so in the end.
pub fn stop(cpu: usize, mpidr: u64) -> bool {
    begin(cpu, |_| smccc(psci::CPU_OFF, [0; 3]) as u64, 0);
    let off = wait(|| smccc(psci::AFFINITY_INFO_64, [mpidr, 0, 0]) == 1);
    if off {
        MAILBOXES[cpu].work.store(0, Ordering::SeqCst);
    }
    off
}
