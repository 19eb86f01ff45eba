//! The guest's side of its virtual interrupt controller, GICv2 or GICv3. All interrupts are left in the group that a
//! non-secure kernel uses.

use core::arch::asm;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::board::GicAddresses;

static VERSION: AtomicU8 = AtomicU8::new(0);
static DISTRIBUTOR: AtomicU64 = AtomicU64::new(0);
/// GICC, or the redistributors.
static SECOND: AtomicU64 = AtomicU64::new(0);
static TIMER: AtomicU64 = AtomicU64::new(0);
static EVENT: AtomicU64 = AtomicU64::new(0);
/// Address of the first CPU's `evtchn_upcall_pending`, 0 before it has one.
static UPCALL: AtomicU64 = AtomicU64::new(0);

/// 2 or 3; 0 without a controller.
pub fn version() -> u8 {
    VERSION.load(Ordering::Relaxed)
}

/// Reads a 32-bit device register at an intermediate address (= virtual).
pub fn read(address: u64) -> u32 {
    let value: u32;
    // SAFETY: device space, which no Rust object lies in; a test that provokes a fault has announced it.
    unsafe { asm!("ldr {:w}, [{}]", out(reg) value, in(reg) address) }
    value
}

/// Writes a 32-bit device register at an intermediate address (= virtual).
pub fn write(address: u64, value: u32) {
    // SAFETY: device space, which no Rust object lies in; a test that provokes a fault has announced it.
    unsafe { asm!("str {:w}, [{}]", in(reg) value, in(reg) address) }
}

/// Address of a distributor register.
pub fn distributor(offset: u64) -> u64 {
    DISTRIBUTOR.load(Ordering::Relaxed) + offset
}

/// Address of a CPU-interface register (GICv2).
pub fn cpu_interface(offset: u64) -> u64 {
    SECOND.load(Ordering::Relaxed) + offset
}

/// Address of a register of the first CPU's redistributor (GICv3).
pub fn redistributor(offset: u64) -> u64 {
    SECOND.load(Ordering::Relaxed) + offset
}

/// Address of the register that holds SGIs and PPIs of this CPU: the distributor's banked one (GICv2), or the first
/// redistributor's SGI frame.
pub fn private(offset: u64) -> u64 {
    if version() == 3 { redistributor(0x1_0000 + offset) } else { distributor(offset) }
}

macro_rules! icc_read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: a GIC system register of ours, used on GICv3 only.
        unsafe { asm!(concat!("mrs {}, ", $register), out(reg) value) }
        value
    }};
}
macro_rules! icc_write {
    ($register:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: a GIC system register of ours, used on GICv3 only.
        unsafe { asm!(concat!("msr ", $register, ", {}"), "isb", in(reg) value) }
    }};
}

/// Remembers where things are and turns distributor and this CPU's interface on, everything else off.
pub fn init(addresses: GicAddresses, timer: u32, event: Option<u32>) {
    TIMER.store(u64::from(timer), Ordering::Relaxed);
    EVENT.store(event.map_or(!0, u64::from), Ordering::Relaxed);
    match addresses {
        GicAddresses::V2 { distributor: d, cpu } => {
            VERSION.store(2, Ordering::Relaxed);
            DISTRIBUTOR.store(d, Ordering::Relaxed);
            SECOND.store(cpu, Ordering::Relaxed);
            write(distributor(0), 1);
        }
        GicAddresses::V3 { distributor: d, redistributors, .. } => {
            VERSION.store(3, Ordering::Relaxed);
            DISTRIBUTOR.store(d, Ordering::Relaxed);
            SECOND.store(redistributors, Ordering::Relaxed);
            write(distributor(0), 1 << 4 | 1 << 1);
            write(redistributor(0x14), 0);
        }
    }
    write(private(0x180), !0);
    init_interface();
}

/// Turns this CPU's interface on: every priority, no split of EOI.
pub fn init_interface() {
    match version() {
        2 => {
            write(cpu_interface(4), 0xff);
            write(cpu_interface(0), 1);
        }
        3 => {
            icc_write!("S3_0_C12_C12_5", 7);
            icc_write!("S3_0_C4_C6_0", 0xff);
            icc_write!("S3_0_C12_C12_4", 0);
            icc_write!("S3_0_C12_C12_7", 1);
        }
        _ => {}
    }
}

/// Lets the SGIs and PPIs of `mask` through on the first CPU (on GICv2: on this one), at priority 0xa0.
pub fn enable_private(mask: u32) {
    for word in 0..8 {
        write(private(0x400 + 4 * word), 0xa0a0_a0a0);
    }
    if version() == 3 {
        write(private(0x80), !0);
    }
    write(private(0x100), mask);
}

/// Stops the SGIs and PPIs of `mask`.
pub fn disable_private(mask: u32) {
    write(private(0x180), mask);
}

/// Acknowledges; the raw value, with an SGI's source CPU in bits 12:10 on GICv2.
pub fn acknowledge() -> Option<u32> {
    let taken = match version() {
        2 => read(cpu_interface(0xc)),
        3 => icc_read!("S3_0_C12_C12_0") as u32,
        _ => 1023,
    };
    (taken & 0x3ff < 1020).then_some(taken)
}

/// Acknowledges, giving other CPUs and the hypervisor a while to raise something.
pub fn wait_acknowledge() -> Option<u32> {
    (0..10_000).find_map(|_| {
        let taken = acknowledge();
        if taken.is_none() {
            crate::hypercall::yield_cpu();
        }
        taken
    })
}

/// Ends what [`acknowledge`] gave.
pub fn end(taken: u32) {
    match version() {
        2 => write(cpu_interface(0x10), taken),
        3 => icc_write!("S3_0_C12_C12_1", u64::from(taken)),
        _ => {}
    }
}

/// Takes away whatever a failed test left behind.
pub fn settle() {
    crate::tests::timer::stop();
    // Bounded: a source that nobody quiets must not hold the tests up.
    for _ in 0..64 {
        let Some(taken) = acknowledge() else { return };
        quiet(taken);
        end(taken);
    }
}

/// Sends SGI `intid` to the CPUs whose Aff0 (GICv3) or interface number (GICv2) is in `mask`.
pub fn send_sgi(intid: u32, mask: u32) {
    match version() {
        2 => write(distributor(0xf00), mask << 16 | intid),
        3 => icc_write!("S3_0_C12_C11_5", u64::from(intid) << 24 | u64::from(mask)),
        _ => {}
    }
}

/// Where the first CPU's `evtchn_upcall_pending` byte is.
pub fn set_upcall(address: u64) {
    UPCALL.store(address, Ordering::Relaxed);
}

/// Quiets the source of a level-sensitive interrupt, so that it does not come again at once.
pub fn quiet(taken: u32) {
    let intid = u64::from(taken & 0x3ff);
    if intid == TIMER.load(Ordering::Relaxed) {
        crate::tests::timer::stop();
    }
    let upcall = UPCALL.load(Ordering::Relaxed);
    if intid == EVENT.load(Ordering::Relaxed) && upcall != 0 {
        // SAFETY: the byte of our own shared page that tests registered.
        unsafe { (upcall as *mut u8).write_volatile(0) }
    }
}
