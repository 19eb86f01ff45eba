//! `domctl`: the toolstack's control of one domain (`domctl.h`): command numbers, versions, head of the
//! argument, and the commands' structures.
//!
//! `x0` is the guest virtual address of a [`XenDomctl`]. Layouts of the commands belong to an interface
//! version; a call of a version that is not served gets [`Errno::EACCES`](crate::errno::Errno::EACCES).
//! Between 0x15 (Xen 4.17) and 0x17 (Xen 4.20) one layout of those that ARM uses changed, that of
//! `XEN_DOMCTL_createdomain`: [`XenDomctlCreatedomain417`], [`XenDomctlCreatedomain420`].

mod bitmap;
mod create;
mod device;
mod info;
mod memory;
mod scheduler;
mod vcpu;

pub use bitmap::*;
pub use create::*;
pub use device::*;
pub use info::*;
pub use memory::*;
pub use scheduler::*;
pub use vcpu::*;

use crate::domid::DomId;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The interface version of Xen 4.17.
pub const XEN_DOMCTL_INTERFACE_VERSION_4_17: u32 = 0x15;
/// The interface version of Xen 4.20.
pub const XEN_DOMCTL_INTERFACE_VERSION_4_20: u32 = 0x17;

/// Create a domain.
pub const XEN_DOMCTL_CREATEDOMAIN: u32 = 1;
/// Destroy a domain.
pub const XEN_DOMCTL_DESTROYDOMAIN: u32 = 2;
/// Pause a domain.
pub const XEN_DOMCTL_PAUSEDOMAIN: u32 = 3;
/// Let a paused domain run.
pub const XEN_DOMCTL_UNPAUSEDOMAIN: u32 = 4;
/// Query a domain's state.
pub const XEN_DOMCTL_GETDOMAININFO: u32 = 5;
/// Set where a vCPU may run.
pub const XEN_DOMCTL_SETVCPUAFFINITY: u32 = 9;
/// Log dirty pages, size of the paging pool.
pub const XEN_DOMCTL_SHADOW_OP: u32 = 10;
/// Set how much memory a domain may have.
pub const XEN_DOMCTL_MAX_MEM: u32 = 11;
/// Set a vCPU's registers.
pub const XEN_DOMCTL_SETVCPUCONTEXT: u32 = 12;
/// Get a vCPU's registers.
pub const XEN_DOMCTL_GETVCPUCONTEXT: u32 = 13;
/// Query a vCPU's state.
pub const XEN_DOMCTL_GETVCPUINFO: u32 = 14;
/// Allocate a domain's vCPUs.
pub const XEN_DOMCTL_MAX_VCPUS: u32 = 15;
/// A domain's or vCPU's scheduling parameters.
pub const XEN_DOMCTL_SCHEDULER_OP: u32 = 16;
/// Set a domain's UUID.
pub const XEN_DOMCTL_SETDOMAINHANDLE: u32 = 17;
/// Let a domain be debugged.
pub const XEN_DOMCTL_SETDEBUGGING: u32 = 18;
/// Let a domain use an interrupt.
pub const XEN_DOMCTL_IRQ_PERMISSION: u32 = 19;
/// Let a domain use device memory.
pub const XEN_DOMCTL_IOMEM_PERMISSION: u32 = 20;
/// x86 only.
pub const XEN_DOMCTL_IOPORT_PERMISSION: u32 = 21;
/// x86 only.
pub const XEN_DOMCTL_HYPERCALL_INIT: u32 = 22;
/// Set a domain's wall-clock offset.
pub const XEN_DOMCTL_SETTIMEOFFSET: u32 = 24;
/// Query where a vCPU may run.
pub const XEN_DOMCTL_GETVCPUAFFINITY: u32 = 25;
/// Obsolete.
pub const XEN_DOMCTL_REAL_MODE_AREA: u32 = 26;
/// Resume a domain that suspended.
pub const XEN_DOMCTL_RESUMEDOMAIN: u32 = 27;
/// Press a button of a domain.
pub const XEN_DOMCTL_SENDTRIGGER: u32 = 28;
/// Have an event sent when a domain suspends.
pub const XEN_DOMCTL_SUBSCRIBE: u32 = 29;
/// x86 only.
pub const XEN_DOMCTL_GETHVMCONTEXT: u32 = 33;
/// x86 only.
pub const XEN_DOMCTL_SETHVMCONTEXT: u32 = 34;
/// Choose 32 or 64 bits.
pub const XEN_DOMCTL_SET_ADDRESS_SIZE: u32 = 35;
/// Query 32 or 64 bits.
pub const XEN_DOMCTL_GET_ADDRESS_SIZE: u32 = 36;
/// Pass a device through.
pub const XEN_DOMCTL_ASSIGN_DEVICE: u32 = 37;
/// Route a physical interrupt to a domain.
pub const XEN_DOMCTL_BIND_PT_IRQ: u32 = 38;
/// Map device memory into a domain.
pub const XEN_DOMCTL_MEMORY_MAPPING: u32 = 39;
/// x86 only.
pub const XEN_DOMCTL_IOPORT_MAPPING: u32 = 40;
/// x86 only.
pub const XEN_DOMCTL_SET_EXT_VCPUCONTEXT: u32 = 42;
/// x86 only.
pub const XEN_DOMCTL_GET_EXT_VCPUCONTEXT: u32 = 43;
/// Obsolete.
pub const XEN_DOMCTL_SET_OPT_FEATURE: u32 = 44;
/// Ask whether a device can be passed through.
pub const XEN_DOMCTL_TEST_ASSIGN_DEVICE: u32 = 45;
/// Let a domain act for another.
pub const XEN_DOMCTL_SET_TARGET: u32 = 46;
/// Take a device back.
pub const XEN_DOMCTL_DEASSIGN_DEVICE: u32 = 47;
/// Undo `XEN_DOMCTL_bind_pt_irq`.
pub const XEN_DOMCTL_UNBIND_PT_IRQ: u32 = 48;
/// Devices that can only be passed together.
pub const XEN_DOMCTL_GET_DEVICE_GROUP: u32 = 50;
/// Single-step a vCPU.
pub const XEN_DOMCTL_DEBUG_OP: u32 = 54;
/// x86 only.
pub const XEN_DOMCTL_GETHVMCONTEXT_PARTIAL: u32 = 55;
/// Introspection rings.
pub const XEN_DOMCTL_VM_EVENT_OP: u32 = 56;
/// x86 only.
pub const XEN_DOMCTL_MEM_SHARING_OP: u32 = 57;
/// x86 only.
pub const XEN_DOMCTL_GETTSCINFO: u32 = 59;
/// x86 only.
pub const XEN_DOMCTL_SETTSCINFO: u32 = 60;
/// x86 only.
pub const XEN_DOMCTL_GETPAGEFRAMEINFO3: u32 = 61;
/// x86 only.
pub const XEN_DOMCTL_SETVCPUEXTSTATE: u32 = 62;
/// x86 only.
pub const XEN_DOMCTL_GETVCPUEXTSTATE: u32 = 63;
/// Introspection must have a listener.
pub const XEN_DOMCTL_SET_ACCESS_REQUIRED: u32 = 64;
/// x86 only.
pub const XEN_DOMCTL_AUDIT_P2M: u32 = 65;
/// Choose the domain that gets a global virtual interrupt.
pub const XEN_DOMCTL_SET_VIRQ_HANDLER: u32 = 66;
/// x86 only.
pub const XEN_DOMCTL_SET_BROKEN_PAGE_P2M: u32 = 67;
/// Set a domain's NUMA nodes.
pub const XEN_DOMCTL_SETNODEAFFINITY: u32 = 68;
/// Query a domain's NUMA nodes.
pub const XEN_DOMCTL_GETNODEAFFINITY: u32 = 69;
/// Clean caches over a range of a domain's frames.
pub const XEN_DOMCTL_CACHEFLUSH: u32 = 71;
/// x86 only.
pub const XEN_DOMCTL_GET_VCPU_MSRS: u32 = 72;
/// x86 only.
pub const XEN_DOMCTL_SET_VCPU_MSRS: u32 = 73;
/// Set a domain's virtual NUMA.
pub const XEN_DOMCTL_SETVNUMAINFO: u32 = 74;
/// x86 only.
pub const XEN_DOMCTL_PSR_CMT_OP: u32 = 75;
/// Introspection events.
pub const XEN_DOMCTL_MONITOR_OP: u32 = 77;
/// x86 only.
pub const XEN_DOMCTL_PSR_ALLOC: u32 = 78;
/// Start a domain over with its memory kept.
pub const XEN_DOMCTL_SOFT_RESET: u32 = 79;
/// The virtual PL011's back end.
pub const XEN_DOMCTL_VUART_OP: u32 = 81;
/// x86 only.
pub const XEN_DOMCTL_GET_CPU_POLICY: u32 = 82;
/// x86 only.
pub const XEN_DOMCTL_SET_CPU_POLICY: u32 = 83;
/// x86 only.
pub const XEN_DOMCTL_VMTRACE_OP: u32 = 84;
/// Query the stage-2 table pool, in bytes.
pub const XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE: u32 = 85;
/// Set the stage-2 table pool, in bytes.
pub const XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE: u32 = 86;
/// Attach a device-tree overlay to a domain. Since Xen 4.20.
pub const XEN_DOMCTL_DT_OVERLAY: u32 = 87;
/// x86 only. Since Xen 4.20.
pub const XEN_DOMCTL_GSI_PERMISSION: u32 = 88;
/// Choose a domain's cache colours. Since Xen 4.20.
pub const XEN_DOMCTL_SET_LLC_COLORS: u32 = 89;
/// Debugger: access a domain's memory.
pub const XEN_DOMCTL_GDBSX_GUESTMEMIO: u32 = 1000;
/// Debugger: pause a vCPU.
pub const XEN_DOMCTL_GDBSX_PAUSEVCPU: u32 = 1001;
/// Debugger: let a vCPU run.
pub const XEN_DOMCTL_GDBSX_UNPAUSEVCPU: u32 = 1002;
/// Debugger: query a domain.
pub const XEN_DOMCTL_GDBSX_DOMSTATUS: u32 = 1003;

/// The argument of `domctl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctl {
    /// One of `XEN_DOMCTL_*`.
    pub cmd: u32,
    /// Version of the layouts that the caller uses.
    pub interface_version: u32,
    /// The domain.
    pub domain: DomId,
    /// Unused.
    pub pad: [u16; 3],
    /// The command's structure, at the start of these bytes; some commands answer here.
    pub u: [u64; 16],
}
