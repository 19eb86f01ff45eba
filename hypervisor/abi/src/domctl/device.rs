//! Devices of the host for a domain, and its virtual UART.

use crate::domid::DomId;
use crate::event_channel::EvtchnPort;
use crate::handle::XenHandle;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `XEN_DOMCTL_irq_permission`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlIrqPermission {
    /// In: physical interrupt.
    pub pirq: u32,
    /// In: 0 to forbid.
    pub allow_access: u8,
    /// Unused.
    pub pad: [u8; 3],
}

/// `XEN_DOMCTL_iomem_permission`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlIomemPermission {
    /// In: first frame (physical).
    pub first_mfn: u64,
    /// In: frames, at least one.
    pub nr_mfns: u64,
    /// In: 0 to forbid.
    pub allow_access: u8,
    /// Implicit in C.
    pub _pad: [u8; 7],
}

/// In `add_mapping`: map.
pub const DPCI_ADD_MAPPING: u32 = 1;
/// In `add_mapping`: unmap.
pub const DPCI_REMOVE_MAPPING: u32 = 0;

/// `XEN_DOMCTL_memory_mapping`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlMemoryMapping {
    /// In: first frame of the domain's.
    pub first_gfn: u64,
    /// In: first frame (physical).
    pub first_mfn: u64,
    /// In: frames, at least one; more than the hypervisor takes at once get `E2BIG`.
    pub nr_mfns: u64,
    /// In: `DPCI_ADD_MAPPING` or `DPCI_REMOVE_MAPPING`.
    pub add_mapping: u32,
    /// Unused.
    pub padding: u32,
}

/// x86 only.
pub const PT_IRQ_TYPE_PCI: u32 = 0;
/// x86 only.
pub const PT_IRQ_TYPE_ISA: u32 = 1;
/// x86 only.
pub const PT_IRQ_TYPE_MSI: u32 = 2;
/// x86 only.
pub const PT_IRQ_TYPE_MSI_TRANSLATE: u32 = 3;
/// A shared peripheral interrupt.
pub const PT_IRQ_TYPE_SPI: u32 = 4;

/// `XEN_DOMCTL_bind_pt_irq`, `XEN_DOMCTL_unbind_pt_irq`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlBindPtIrq {
    /// In: the interrupt that the domain sees.
    pub machine_irq: u32,
    /// In: `PT_IRQ_TYPE_SPI`.
    pub irq_type: u32,
    /// In: for `PT_IRQ_TYPE_SPI` the physical interrupt, in the first 16 bits.
    pub u: [u64; 2],
}

/// `XEN_DOMCTL_assign_device` and its like: a PCI device.
pub const XEN_DOMCTL_DEV_PCI: u32 = 0;
/// A node of the device tree.
pub const XEN_DOMCTL_DEV_DT: u32 = 1;

/// `XEN_DOMCTL_assign_device`, `XEN_DOMCTL_test_assign_device`, `XEN_DOMCTL_deassign_device`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlAssignDevice {
    /// In: one of `XEN_DOMCTL_DEV_*`.
    pub dev: u32,
    /// In: x86 only.
    pub flags: u32,
    /// In: bytes of the path, or a PCI device's number.
    pub size: u32,
    /// Implicit in C.
    pub _pad: [u8; 4],
    /// In: path in the device tree.
    pub path: XenHandle<u8>,
}

/// `XEN_DOMCTL_vuart_op`: set the virtual UART up.
pub const XEN_DOMCTL_VUART_OP_INIT: u32 = 0;
/// A PL011.
pub const XEN_DOMCTL_VUART_TYPE_VPL011: u32 = 0;

/// `XEN_DOMCTL_vuart_op`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlVuartOp {
    /// In: `XEN_DOMCTL_VUART_OP_INIT`.
    pub cmd: u32,
    /// In: `XEN_DOMCTL_VUART_TYPE_VPL011`.
    pub kind: u32,
    /// In: the domain's frame that holds the ring ([`crate::console::XenconsInterface`]).
    pub gfn: u64,
    /// In: where the console's back end runs.
    pub console_domid: DomId,
    /// In: 0.
    pub pad: [u8; 2],
    /// Out: the domain's port to which the back end binds.
    pub evtchn: EvtchnPort,
}

/// `XEN_DOMCTL_DT_OVERLAY_ATTACH`. Since Xen 4.20.
pub const XEN_DOMCTL_DT_OVERLAY_ATTACH: u8 = 1;

/// `XEN_DOMCTL_dt_overlay`. Since Xen 4.20.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct XenDomctlDtOverlay {
    /// In: the overlay.
    pub overlay_fdt: XenHandle<u8>,
    /// In: bytes of it.
    pub overlay_fdt_size: u32,
    /// In: `XEN_DOMCTL_DT_OVERLAY_ATTACH`.
    pub overlay_op: u8,
    /// In: 0.
    pub pad: [u8; 3],
}
