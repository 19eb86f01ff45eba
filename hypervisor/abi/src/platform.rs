//! `platform_op`: what dom0 asks of the physical platform (`platform.h`).
//!
//! `x0` is the guest virtual address of a [`XenPlatformOp`]; its `interface_version` must be
//! [`XENPF_INTERFACE_VERSION`], else the answer is [`Errno::EACCES`](crate::errno::Errno::EACCES).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The version of this interface; never changed since Xen 3.
pub const XENPF_INTERFACE_VERSION: u32 = 0x0300_0001;
/// Set the wall clock: [`XenpfSettime32`].
pub const XENPF_SETTIME32: u32 = 17;
/// Set the wall clock: [`XenpfSettime64`].
pub const XENPF_SETTIME64: u32 = 62;
/// x86 only.
pub const XENPF_ADD_MEMTYPE: u32 = 31;
/// x86 only.
pub const XENPF_DEL_MEMTYPE: u32 = 32;
/// x86 only.
pub const XENPF_READ_MEMTYPE: u32 = 33;
/// x86 only.
pub const XENPF_MICROCODE_UPDATE: u32 = 35;
/// x86 only.
pub const XENPF_PLATFORM_QUIRK: u32 = 39;
/// x86 only.
pub const XENPF_GET_CPU_VERSION: u32 = 48;
/// Call an EFI runtime service.
pub const XENPF_EFI_RUNTIME_CALL: u32 = 49;
/// Facts from the firmware.
pub const XENPF_FIRMWARE_INFO: u32 = 50;
/// x86 only.
pub const XENPF_ENTER_ACPI_SLEEP: u32 = 51;
/// x86 only.
pub const XENPF_CHANGE_FREQ: u32 = 52;
/// x86 only.
pub const XENPF_GETIDLETIME: u32 = 53;
/// x86 only.
pub const XENPF_SET_PROCESSOR_PMINFO: u32 = 54;
/// One physical CPU: [`XenpfPcpuinfo`].
pub const XENPF_GET_CPUINFO: u32 = 55;
/// Bring a CPU up: [`XenpfCpuOl`].
pub const XENPF_CPU_ONLINE: u32 = 56;
/// Take a CPU down: [`XenpfCpuOl`].
pub const XENPF_CPU_OFFLINE: u32 = 57;
/// x86 only.
pub const XENPF_CPU_HOTADD: u32 = 58;
/// x86 only.
pub const XENPF_MEM_HOTADD: u32 = 59;
/// x86 only.
pub const XENPF_CORE_PARKING: u32 = 60;
/// x86 only.
pub const XENPF_RESOURCE_OP: u32 = 61;
/// One symbol of the hypervisor.
pub const XENPF_GET_SYMBOL: u32 = 63;
/// x86 only. Since Xen 4.18.
pub const XENPF_GET_DOM0_CONSOLE: u32 = 64;
/// x86 only. Since Xen 4.18.
pub const XENPF_GET_UCODE_REVISION: u32 = 65;
/// x86 only. Since Xen 4.20.
pub const XENPF_MICROCODE_UPDATE2: u32 = 66;
/// The CPU is up.
pub const XEN_PCPU_FLAGS_ONLINE: u32 = 1;
/// There is no such CPU.
pub const XEN_PCPU_FLAGS_INVALID: u32 = 2;

/// The argument of `platform_op`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenPlatformOp {
    /// One of `XENPF_*`.
    pub cmd: u32,
    /// [`XENPF_INTERFACE_VERSION`].
    pub interface_version: u32,
    /// The command's structure, read from the start of these bytes.
    pub u: [u64; 16],
}

/// `XENPF_settime32`: wall clock at a system time.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenpfSettime32 {
    /// Seconds since 1970.
    pub secs: u32,
    /// Nanoseconds.
    pub nsecs: u32,
    /// System time in nanoseconds at which that was so.
    pub system_time: u64,
}

/// `XENPF_settime64`: wall clock at a system time.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenpfSettime64 {
    /// Seconds since 1970.
    pub secs: u64,
    /// Nanoseconds.
    pub nsecs: u32,
    /// Must be 0.
    pub mbz: u32,
    /// System time in nanoseconds at which that was so.
    pub system_time: u64,
}

/// `XENPF_get_cpuinfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenpfPcpuinfo {
    /// In: the CPU.
    pub xen_cpuid: u32,
    /// Out: largest present CPU.
    pub max_present: u32,
    /// Out: `XEN_PCPU_FLAGS_*`.
    pub flags: u32,
    /// Out: x86 only.
    pub apic_id: u32,
    /// Out: processor number in ACPI.
    pub acpi_id: u32,
}

/// `XENPF_cpu_online`, `XENPF_cpu_offline`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenpfCpuOl {
    /// The CPU.
    pub cpuid: u32,
}
