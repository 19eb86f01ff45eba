//! `hvm_op` and the parameters of a domain (`hvm/hvm_op.h`, `hvm/params.h`).
//!
//! `x0` is one of `HVMOP_*`, `x1` the guest virtual address of its structure. Guests find their xenstore and
//! console rings by
//! `HVMOP_get_param`; a domain's builder puts them there by `HVMOP_set_param`.

use crate::domid::DomId;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Set a parameter: [`XenHvmParam`].
pub const HVMOP_SET_PARAM: u32 = 0;
/// Get a parameter: [`XenHvmParam`].
pub const HVMOP_GET_PARAM: u32 = 1;
/// x86 only.
pub const HVMOP_FLUSH_TLBS: u32 = 5;
/// x86 only.
pub const HVMOP_PAGETABLE_DYING: u32 = 9;
/// System time: [`XenHvmGetTime`].
pub const HVMOP_GET_TIME: u32 = 10;
/// Write a trace record.
pub const HVMOP_XENTRACE: u32 = 11;
/// Superseded by `XENMEM_access_op`.
pub const HVMOP_SET_MEM_ACCESS: u32 = 12;
/// Superseded by `XENMEM_access_op`.
pub const HVMOP_GET_MEM_ACCESS: u32 = 13;
/// Kind of a frame: [`XenHvmGetMemType`].
pub const HVMOP_GET_MEM_TYPE: u32 = 15;
/// Ask the introspection tool of the domain.
pub const HVMOP_GUEST_REQUEST_VM_EVENT: u32 = 24;
/// Alternate views of memory.
pub const HVMOP_ALTP2M: u32 = 25;

/// Bits of `HVM_PARAM_CALLBACK_IRQ` that hold the type, shifted down by 56.
pub const HVM_PARAM_CALLBACK_IRQ_TYPE_MASK: u64 = 0xFF00_0000_0000_0000;
/// x86 only.
pub const HVM_PARAM_CALLBACK_TYPE_GSI: u64 = 0;
/// x86 only.
pub const HVM_PARAM_CALLBACK_TYPE_PCI_INTX: u64 = 1;
/// ARM: the interrupt of event channels is a private one: bits 0 to 7 its number, 8 to 15 its flags.
pub const HVM_PARAM_CALLBACK_TYPE_PPI: u64 = 2;
/// The flags' bits.
pub const HVM_PARAM_CALLBACK_TYPE_PPI_FLAG_MASK: u64 = 0xFF00;
/// Flag: level, active low; else edge.
pub const HVM_PARAM_CALLBACK_TYPE_PPI_FLAG_LOW_LEVEL: u64 = 2;

/// How events are signalled.
pub const HVM_PARAM_CALLBACK_IRQ: u32 = 0;
/// Guest frame number of the xenstore ring.
pub const HVM_PARAM_STORE_PFN: u32 = 1;
/// Guest's port of the xenstore ring.
pub const HVM_PARAM_STORE_EVTCHN: u32 = 2;
/// x86 only.
pub const HVM_PARAM_PAE_ENABLED: u32 = 4;
/// x86 only.
pub const HVM_PARAM_IOREQ_PFN: u32 = 5;
/// x86 only.
pub const HVM_PARAM_BUFIOREQ_PFN: u32 = 6;
/// x86 only.
pub const HVM_PARAM_TIMER_MODE: u32 = 10;
/// x86 only.
pub const HVM_PARAM_HPET_ENABLED: u32 = 11;
/// x86 only.
pub const HVM_PARAM_IDENT_PT: u32 = 12;
/// Obsolete.
pub const HVM_PARAM_DM_DOMAIN: u32 = 13;
/// x86 only.
pub const HVM_PARAM_ACPI_S_STATE: u32 = 14;
/// x86 only.
pub const HVM_PARAM_VM86_TSS: u32 = 15;
/// x86 only.
pub const HVM_PARAM_VPT_ALIGN: u32 = 16;
/// Guest frame number of the console ring.
pub const HVM_PARAM_CONSOLE_PFN: u32 = 17;
/// Guest's port of the console ring.
pub const HVM_PARAM_CONSOLE_EVTCHN: u32 = 18;
/// x86 only.
pub const HVM_PARAM_ACPI_IOPORTS_LOCATION: u32 = 19;
/// Obsolete.
pub const HVM_PARAM_MEMORY_EVENT_CR0: u32 = 20;
/// Obsolete.
pub const HVM_PARAM_MEMORY_EVENT_CR3: u32 = 21;
/// Obsolete.
pub const HVM_PARAM_MEMORY_EVENT_CR4: u32 = 22;
/// Obsolete.
pub const HVM_PARAM_MEMORY_EVENT_INT3: u32 = 23;
/// Obsolete.
pub const HVM_PARAM_NESTEDHVM: u32 = 24;
/// Obsolete.
pub const HVM_PARAM_MEMORY_EVENT_SINGLE_STEP: u32 = 25;
/// Obsolete.
pub const HVM_PARAM_BUFIOREQ_EVTCHN: u32 = 26;
/// Frame of the paging ring.
pub const HVM_PARAM_PAGING_RING_PFN: u32 = 27;
/// Frame of the monitor (introspection) ring.
pub const HVM_PARAM_MONITOR_RING_PFN: u32 = 28;
/// Frame of the sharing ring.
pub const HVM_PARAM_SHARING_RING_PFN: u32 = 29;
/// Obsolete.
pub const HVM_PARAM_MEMORY_EVENT_MSR: u32 = 30;
/// x86 only.
pub const HVM_PARAM_TRIPLE_FAULT_REASON: u32 = 31;
/// First frame for ioreq servers.
pub const HVM_PARAM_IOREQ_SERVER_PFN: u32 = 32;
/// How many of them.
pub const HVM_PARAM_NR_IOREQ_SERVER_PAGES: u32 = 33;
/// Address of the generation identifier.
pub const HVM_PARAM_VM_GENERATION_ID_ADDR: u32 = 34;
/// Alternate views of memory.
pub const HVM_PARAM_ALTP2M: u32 = 35;
/// x86 only.
pub const HVM_PARAM_X87_FIP_WIDTH: u32 = 36;
/// x86 only.
pub const HVM_PARAM_VM86_TSS_SIZED: u32 = 37;
/// x86 only.
pub const HVM_PARAM_MCA_CAP: u32 = 38;
/// One past the largest parameter.
pub const HVM_NR_PARAMS: u32 = 39;

/// `HVMOP_set_param`, `HVMOP_get_param`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenHvmParam {
    /// In: whose, or `DOMID_SELF`.
    pub domid: DomId,
    /// Unused.
    pub pad: u16,
    /// In: one of `HVM_PARAM_*`.
    pub index: u32,
    /// In or out.
    pub value: u64,
}

/// `HVMOP_get_time`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenHvmGetTime {
    /// Out: nanoseconds since boot.
    pub now: u64,
}

/// `HVMOP_get_mem_type`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenHvmGetMemType {
    /// In: whose.
    pub domid: DomId,
    /// Out: 0 read-write memory, 1 read-only memory, 2 emulated.
    pub mem_type: u16,
    /// Unused.
    pub pad: [u16; 2],
    /// In: frame number.
    pub pfn: u64,
}
