//! `physdev_op`: what dom0 tells of physical devices (`physdev.h`).
//!
//! `x0` is one of `PHYSDEVOP_*`, `x1` the guest virtual address of its structure. On ARM, Linux as dom0
//! reports PCI devices by it; the interrupt operations are x86's.

use crate::domid::DomId;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// x86 only: [`PhysdevIrqStatusQuery`].
pub const PHYSDEVOP_IRQ_STATUS_QUERY: u32 = 5;
/// x86 only.
pub const PHYSDEVOP_SET_IOPL: u32 = 6;
/// x86 only.
pub const PHYSDEVOP_SET_IOBITMAP: u32 = 7;
/// x86 only.
pub const PHYSDEVOP_APIC_READ: u32 = 8;
/// x86 only.
pub const PHYSDEVOP_APIC_WRITE: u32 = 9;
/// x86 only.
pub const PHYSDEVOP_ALLOC_IRQ_VECTOR: u32 = 10;
/// x86 only.
pub const PHYSDEVOP_FREE_IRQ_VECTOR: u32 = 11;
/// x86 only: [`PhysdevEoi`].
pub const PHYSDEVOP_EOI: u32 = 12;
/// x86 only: [`PhysdevMapPirq`].
pub const PHYSDEVOP_MAP_PIRQ: u32 = 13;
/// x86 only: [`PhysdevUnmapPirq`].
pub const PHYSDEVOP_UNMAP_PIRQ: u32 = 14;
/// A PCI device of segment 0 appeared: [`PhysdevManagePci`].
pub const PHYSDEVOP_MANAGE_PCI_ADD: u32 = 15;
/// It went away: [`PhysdevManagePci`].
pub const PHYSDEVOP_MANAGE_PCI_REMOVE: u32 = 16;
/// x86 only.
pub const PHYSDEVOP_PIRQ_EOI_GMFN_V1: u32 = 17;
/// x86 only.
pub const PHYSDEVOP_RESTORE_MSI: u32 = 19;
/// A PCI function of segment 0 appeared: [`PhysdevManagePciExt`].
pub const PHYSDEVOP_MANAGE_PCI_ADD_EXT: u32 = 20;
/// x86 only.
pub const PHYSDEVOP_SETUP_GSI: u32 = 21;
/// x86 only.
pub const PHYSDEVOP_GET_FREE_PIRQ: u32 = 23;
/// Where PCI configuration space is mapped: [`PhysdevPciMmcfgReserved`].
pub const PHYSDEVOP_PCI_MMCFG_RESERVED: u32 = 24;
/// A PCI device appeared: [`PhysdevPciDeviceAdd`].
pub const PHYSDEVOP_PCI_DEVICE_ADD: u32 = 25;
/// It went away: [`PhysdevPciDevice`].
pub const PHYSDEVOP_PCI_DEVICE_REMOVE: u32 = 26;
/// x86 only.
pub const PHYSDEVOP_RESTORE_MSI_EXT: u32 = 27;
/// x86 only.
pub const PHYSDEVOP_PIRQ_EOI_GMFN_V2: u32 = 28;
/// USB debug port.
pub const PHYSDEVOP_DBGP_OP: u32 = 29;
/// x86 only.
pub const PHYSDEVOP_PREPARE_MSIX: u32 = 30;
/// x86 only.
pub const PHYSDEVOP_RELEASE_MSIX: u32 = 31;
/// A PCI device was reset: [`PciDeviceReset`]. Since Xen 4.20.
pub const PHYSDEVOP_PCI_DEVICE_RESET: u32 = 32;
/// The end of the interrupt must be told.
pub const XENIRQSTAT_NEEDS_EOI: u32 = 1;
/// Several domains share the interrupt.
pub const XENIRQSTAT_SHARED: u32 = 1 << 1;
/// The window is reserved by firmware.
pub const XEN_PCI_MMCFG_RESERVED: u32 = 1;
/// An extended function (ARI).
pub const XEN_PCI_DEV_EXTFN: u32 = 1;
/// A virtual function (SR-IOV).
pub const XEN_PCI_DEV_VIRTFN: u32 = 1 << 1;
/// A proximity domain follows.
pub const XEN_PCI_DEV_PXM: u32 = 1 << 2;

/// `PHYSDEVOP_eoi`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct PhysdevEoi {
    /// In.
    pub irq: u32,
}

/// `PHYSDEVOP_irq_status_query`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct PhysdevIrqStatusQuery {
    /// In.
    pub irq: u32,
    /// Out: `XENIRQSTAT_*`.
    pub flags: u32,
}

/// `PHYSDEVOP_map_pirq`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct PhysdevMapPirq {
    /// In.
    pub domid: DomId,
    /// Implicit in C.
    pub _pad0: [u8; 2],
    /// In: kind of interrupt.
    pub kind: i32,
    /// In.
    pub index: i32,
    /// In or out.
    pub pirq: i32,
    /// In.
    pub bus: i32,
    /// In.
    pub devfn: i32,
    /// In or out.
    pub entry_nr: i32,
    /// Implicit in C.
    pub _pad1: [u8; 4],
    /// In.
    pub table_base: u64,
}

/// `PHYSDEVOP_unmap_pirq`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct PhysdevUnmapPirq {
    /// In.
    pub domid: DomId,
    /// Implicit in C.
    pub _pad: [u8; 2],
    /// In.
    pub pirq: i32,
}

/// `PHYSDEVOP_manage_pci_add`, `PHYSDEVOP_manage_pci_remove`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct PhysdevManagePci {
    /// Bus.
    pub bus: u8,
    /// Device (upper five bits) and function.
    pub devfn: u8,
}

/// `PHYSDEVOP_manage_pci_add_ext`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct PhysdevManagePciExt {
    /// Bus.
    pub bus: u8,
    /// Device (upper five bits) and function.
    pub devfn: u8,
    /// Implicit in C.
    pub _pad0: [u8; 2],
    /// Non-zero: an extended function.
    pub is_extfn: u32,
    /// Non-zero: a virtual function of `physfn`.
    pub is_virtfn: u32,
    /// Bus of the physical function.
    pub physfn_bus: u8,
    /// Device and function of the physical function.
    pub physfn_devfn: u8,
    /// Implicit in C.
    pub _pad1: [u8; 2],
}

/// `PHYSDEVOP_pci_mmcfg_reserved`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct PhysdevPciMmcfgReserved {
    /// Physical address of bus 0's configuration space.
    pub address: u64,
    /// Segment.
    pub segment: u16,
    /// First bus.
    pub start_bus: u8,
    /// Last bus.
    pub end_bus: u8,
    /// `XEN_PCI_MMCFG_RESERVED` or 0.
    pub flags: u32,
}

/// `PHYSDEVOP_pci_device_add`. With `XEN_PCI_DEV_PXM` one more `u32`, the proximity domain, follows at once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct PhysdevPciDeviceAdd {
    /// Segment.
    pub seg: u16,
    /// Bus.
    pub bus: u8,
    /// Device (upper five bits) and function.
    pub devfn: u8,
    /// `XEN_PCI_DEV_*`.
    pub flags: u32,
    /// Bus of the physical function.
    pub physfn_bus: u8,
    /// Device and function of the physical function.
    pub physfn_devfn: u8,
    /// Implicit in C.
    pub _pad: [u8; 2],
}

/// A PCI device.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct PhysdevPciDevice {
    /// Segment.
    pub seg: u16,
    /// Bus.
    pub bus: u8,
    /// Device (upper five bits) and function.
    pub devfn: u8,
}

/// `PHYSDEVOP_pci_device_reset`. Since Xen 4.20.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct PciDeviceReset {
    /// The device.
    pub dev: PhysdevPciDevice,
    /// `PCI_DEVICE_RESET_*`.
    pub flags: u32,
}

/// Power cycle.
pub const PCI_DEVICE_RESET_COLD: u32 = 0;
/// Warm reset.
pub const PCI_DEVICE_RESET_WARM: u32 = 1;
/// Reset by the bus.
pub const PCI_DEVICE_RESET_HOT: u32 = 2;
/// Function-level reset.
pub const PCI_DEVICE_RESET_FLR: u32 = 3;
/// The kind's bits.
pub const PCI_DEVICE_RESET_MASK: u32 = 3;
