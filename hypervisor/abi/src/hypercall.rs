//! Hypercall numbers, the value of `x16` (`r12` on AArch32) at `hvc #0xEA1` (`xen.h`, `__HYPERVISOR_*`).
//!
//! The convention of the call itself is in [`crate::arch_arm`]. A number that a hypervisor does not serve
//! gets [`Errno::ENOSYS`](crate::errno::Errno::ENOSYS).

/// x86 only.
pub const HYPERVISOR_SET_TRAP_TABLE: u32 = 0;
/// x86 only.
pub const HYPERVISOR_MMU_UPDATE: u32 = 1;
/// x86 only.
pub const HYPERVISOR_SET_GDT: u32 = 2;
/// x86 only.
pub const HYPERVISOR_STACK_SWITCH: u32 = 3;
/// x86 only.
pub const HYPERVISOR_SET_CALLBACKS: u32 = 4;
/// x86 only.
pub const HYPERVISOR_FPU_TASKSWITCH: u32 = 5;
/// Scheduler operations as they were before interface 3.1.1; never on ARM.
pub const HYPERVISOR_SCHED_OP_COMPAT: u32 = 6;
/// What dom0 asks of the physical platform: [`crate::platform`].
pub const HYPERVISOR_PLATFORM_OP: u32 = 7;
/// x86 only.
pub const HYPERVISOR_SET_DEBUGREG: u32 = 8;
/// x86 only.
pub const HYPERVISOR_GET_DEBUGREG: u32 = 9;
/// x86 only.
pub const HYPERVISOR_UPDATE_DESCRIPTOR: u32 = 10;
/// Guest memory: [`crate::memory`].
pub const HYPERVISOR_MEMORY_OP: u32 = 12;
/// Several hypercalls in one: [`crate::multicall`].
pub const HYPERVISOR_MULTICALL: u32 = 13;
/// x86 only.
pub const HYPERVISOR_UPDATE_VA_MAPPING: u32 = 14;
/// One-shot timer; never on ARM, where guests have the generic timer.
pub const HYPERVISOR_SET_TIMER_OP: u32 = 15;
/// Event channels as they were before interface 3.2.2; never on ARM.
pub const HYPERVISOR_EVENT_CHANNEL_OP_COMPAT: u32 = 16;
/// Version, features, build facts: [`crate::version`].
pub const HYPERVISOR_XEN_VERSION: u32 = 17;
/// The hypervisor's console: [`crate::console`].
pub const HYPERVISOR_CONSOLE_IO: u32 = 18;
/// Physical devices as they were before interface 3.2.2; never on ARM.
pub const HYPERVISOR_PHYSDEV_OP_COMPAT: u32 = 19;
/// Sharing pages between domains: [`crate::grant_table`].
pub const HYPERVISOR_GRANT_TABLE_OP: u32 = 20;
/// Optional behaviours: [`crate::vm_assist`].
pub const HYPERVISOR_VM_ASSIST: u32 = 21;
/// x86 only.
pub const HYPERVISOR_UPDATE_VA_MAPPING_OTHERDOMAIN: u32 = 22;
/// x86 only.
pub const HYPERVISOR_IRET: u32 = 23;
/// Per-vCPU operations: [`crate::vcpu`].
pub const HYPERVISOR_VCPU_OP: u32 = 24;
/// x86 only.
pub const HYPERVISOR_SET_SEGMENT_BASE: u32 = 25;
/// x86 only.
pub const HYPERVISOR_MMUEXT_OP: u32 = 26;
/// Security modules (FLASK).
pub const HYPERVISOR_XSM_OP: u32 = 27;
/// x86 only.
pub const HYPERVISOR_NMI_OP: u32 = 28;
/// Scheduling, shutdown, polling: [`crate::sched`].
pub const HYPERVISOR_SCHED_OP: u32 = 29;
/// x86 only.
pub const HYPERVISOR_CALLBACK_OP: u32 = 30;
/// Profiling; never on ARM.
pub const HYPERVISOR_XENOPROF_OP: u32 = 31;
/// Event channels: [`crate::event_channel`].
pub const HYPERVISOR_EVENT_CHANNEL_OP: u32 = 32;
/// Physical devices: [`crate::physdev`].
pub const HYPERVISOR_PHYSDEV_OP: u32 = 33;
/// Parameters of a hardware-virtualised domain: [`crate::hvm`].
pub const HYPERVISOR_HVM_OP: u32 = 34;
/// The toolstack's system-wide control: [`crate::sysctl`].
pub const HYPERVISOR_SYSCTL: u32 = 35;
/// The toolstack's per-domain control: [`crate::domctl`].
pub const HYPERVISOR_DOMCTL: u32 = 36;
/// Loading another kernel; x86 only.
pub const HYPERVISOR_KEXEC_OP: u32 = 37;
/// Transcendent memory, removed from Xen.
pub const HYPERVISOR_TMEM_OP: u32 = 38;
/// Argo message passing.
pub const HYPERVISOR_ARGO_OP: u32 = 39;
/// Performance counters; x86 only.
pub const HYPERVISOR_XENPMU_OP: u32 = 40;
/// Device-model operations.
pub const HYPERVISOR_DM_OP: u32 = 41;
/// The hypervisor's parameter file system.
pub const HYPERVISOR_HYPFS_OP: u32 = 42;
/// First of eight numbers for the architecture's own use.
pub const HYPERVISOR_ARCH_0: u32 = 48;
/// Architecture's own.
pub const HYPERVISOR_ARCH_1: u32 = 49;
/// Architecture's own.
pub const HYPERVISOR_ARCH_2: u32 = 50;
/// Architecture's own.
pub const HYPERVISOR_ARCH_3: u32 = 51;
/// Architecture's own.
pub const HYPERVISOR_ARCH_4: u32 = 52;
/// Architecture's own.
pub const HYPERVISOR_ARCH_5: u32 = 53;
/// Architecture's own.
pub const HYPERVISOR_ARCH_6: u32 = 54;
/// Architecture's own.
pub const HYPERVISOR_ARCH_7: u32 = 55;

/// One past the largest hypercall number the ABI has room for; the size of a dispatch table.
pub const HYPERVISOR_LIMIT: u32 = 64;
