//! Hypercalls, with numbers read in Xen's public headers and written down apart from the product's own ABI crate, so
//! that a mistake there meets a second opinion here.

use core::arch::asm;

/// A hypercall `hvc #0xEA1` with its number in x16 (arch-arm.h).
pub fn call(number: u64, arguments: [u64; 5]) -> i64 {
    let result: i64;
    // SAFETY: the hypervisor may write memory that the arguments name: tests pass memory of their own that outlives
    // the call, or addresses that must be refused. Memory is clobbered, the argument registers too (arch-arm.h).
    unsafe {
        asm!("hvc #0xEA1", in("x16") number, inout("x0") arguments[0] as i64 => result, inout("x1") arguments[1] => _,
            inout("x2") arguments[2] => _, inout("x3") arguments[3] => _, inout("x4") arguments[4] => _,
            options(nostack));
    }
    result
}

/// A call of two arguments: operation, and address of its structure.
pub fn operation<T>(number: u64, operation: u64, argument: &mut T) -> i64 {
    call(number, [operation, &raw mut *argument as u64, 0, 0, 0])
}

/// SMCCC by `hvc #0` (PSCI).
pub fn smccc(function: u64, arguments: [u64; 3]) -> i64 {
    let result: i64;
    // SAFETY: PSCI touches no memory of ours; x1 to x17 may change.
    unsafe {
        asm!("hvc #0", inout("x0") function as i64 => result, inout("x1") arguments[0] => _,
            inout("x2") arguments[1] => _, inout("x3") arguments[2] => _, lateout("x4") _, lateout("x5") _,
            lateout("x6") _, lateout("x7") _, lateout("x8") _, lateout("x9") _, lateout("x10") _, lateout("x11") _,
            lateout("x12") _, lateout("x13") _, lateout("x14") _, lateout("x15") _, lateout("x16") _,
            lateout("x17") _, options(nostack));
    }
    result
}

#[allow(missing_docs)]
pub mod number {
    pub const PLATFORM_OP: u64 = 7;
    pub const MEMORY_OP: u64 = 12;
    pub const MULTICALL: u64 = 13;
    pub const XEN_VERSION: u64 = 17;
    pub const CONSOLE_IO: u64 = 18;
    pub const GRANT_TABLE_OP: u64 = 20;
    pub const VM_ASSIST: u64 = 21;
    pub const VCPU_OP: u64 = 24;
    pub const SCHED_OP: u64 = 29;
    pub const EVENT_CHANNEL_OP: u64 = 32;
    pub const PHYSDEV_OP: u64 = 33;
    pub const HVM_OP: u64 = 34;
    pub const SYSCTL: u64 = 35;
    pub const DOMCTL: u64 = 36;
}

#[allow(missing_docs)]
pub mod errno {
    pub const EPERM: i64 = -1;
    pub const ENOENT: i64 = -2;
    pub const ESRCH: i64 = -3;
    pub const ENXIO: i64 = -6;
    pub const EACCES: i64 = -13;
    pub const EFAULT: i64 = -14;
    pub const EBUSY: i64 = -16;
    pub const EEXIST: i64 = -17;
    pub const EINVAL: i64 = -22;
    pub const ENOSYS: i64 = -38;
}

/// DOMID_SELF (xen.h).
pub const SELF: u16 = 0x7ff0;

/// Gives the CPU away (SCHEDOP_yield).
pub fn yield_cpu() {
    call(number::SCHED_OP, [0; 5]);
}
