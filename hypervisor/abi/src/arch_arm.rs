//! What is ARM's own in the ABI: the calling convention, the platform a guest finds, register state
//! (`arch-arm.h`).
//!
//! A hypercall is `hvc #0xEA1` from EL1 (AArch64) or a privileged AArch32 mode, its number in `x16` (`r12`),
//! its arguments in `x0` to `x4` (`r0` to `r4`), its result in `x0` (`r0`). Structures lie in memory
//! little-endian as AAPCS64 lays them out, for both widths of guest; a pointer in memory is always 8 bytes
//! ([`crate::handle::XenHandle`]).
//!
//! The addresses and interrupts below are those that a Xen toolstack of 4.17 to 4.20 writes into the device
//! tree of a guest it builds; dom0 finds the machine's own instead.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The immediate of the `hvc` instruction.
pub const XEN_HYPERCALL_TAG: u16 = 0xEA1;

/// AArch32: Thumb state.
pub const PSR_THUMB: u64 = 1 << 5;
/// FIQs masked.
pub const PSR_FIQ_MASK: u64 = 1 << 6;
/// IRQs masked.
pub const PSR_IRQ_MASK: u64 = 1 << 7;
/// Asynchronous aborts (SErrors) masked.
pub const PSR_ABT_MASK: u64 = 1 << 8;
/// AArch32: big-endian data.
pub const PSR_BIG_ENDIAN: u64 = 1 << 9;
/// AArch64: debug exceptions masked.
pub const PSR_DBG_MASK: u64 = 1 << 9;
/// AArch32: the if-then state.
pub const PSR_IT_MASK: u64 = 0x0600_FC00;
/// AArch32: Jazelle state.
pub const PSR_JAZELLE: u64 = 1 << 24;
/// The zero flag.
pub const PSR_Z: u64 = 1 << 30;
/// AArch32 User.
pub const PSR_MODE_USR: u64 = 0x10;
/// AArch32 FIQ.
pub const PSR_MODE_FIQ: u64 = 0x11;
/// AArch32 IRQ.
pub const PSR_MODE_IRQ: u64 = 0x12;
/// AArch32 Supervisor.
pub const PSR_MODE_SVC: u64 = 0x13;
/// AArch32 Monitor.
pub const PSR_MODE_MON: u64 = 0x16;
/// AArch32 Abort.
pub const PSR_MODE_ABT: u64 = 0x17;
/// AArch32 Hyp.
pub const PSR_MODE_HYP: u64 = 0x1A;
/// AArch32 Undefined.
pub const PSR_MODE_UND: u64 = 0x1B;
/// AArch32 System.
pub const PSR_MODE_SYS: u64 = 0x1F;
/// Set in every AArch32 mode, clear in every AArch64 one.
pub const PSR_MODE_BIT: u64 = 0x10;
/// EL3 with its own stack pointer.
pub const PSR_MODE_EL3H: u64 = 0x0D;
/// EL3 with SP_EL0.
pub const PSR_MODE_EL3T: u64 = 0x0C;
/// EL2 with its own stack pointer.
pub const PSR_MODE_EL2H: u64 = 0x09;
/// EL2 with SP_EL0.
pub const PSR_MODE_EL2T: u64 = 0x08;
/// EL1 with its own stack pointer.
pub const PSR_MODE_EL1H: u64 = 0x05;
/// EL1 with SP_EL0.
pub const PSR_MODE_EL1T: u64 = 0x04;
/// EL0.
pub const PSR_MODE_EL0T: u64 = 0x00;
/// Processor state in which an AArch32 vCPU starts.
pub const PSR_GUEST32_INIT: u64 = PSR_Z | PSR_ABT_MASK | PSR_FIQ_MASK | PSR_IRQ_MASK | PSR_MODE_SVC;
/// Processor state in which an AArch64 vCPU starts, without [`PSR_DBG_MASK`].
pub const PSR_GUEST64_INIT: u64 = PSR_ABT_MASK | PSR_FIQ_MASK | PSR_IRQ_MASK | PSR_MODE_EL1H;
/// SCTLR_EL1 (SCTLR) with which a vCPU starts: MMU and caches off.
pub const SCTLR_GUEST_INIT: u64 = 0x00C5_0078;
/// Intermediate physical address of the virtio transports.
pub const GUEST_VIRTIO_MMIO_BASE: u64 = 0x0200_0000;
/// Bytes of them.
pub const GUEST_VIRTIO_MMIO_SIZE: u64 = 0x0010_0000;
/// GICv2 distributor.
pub const GUEST_GICD_BASE: u64 = 0x0300_1000;
/// Bytes of it.
pub const GUEST_GICD_SIZE: u64 = 0x0000_1000;
/// GICv2 CPU interface.
pub const GUEST_GICC_BASE: u64 = 0x0300_2000;
/// Bytes of it.
pub const GUEST_GICC_SIZE: u64 = 0x0000_2000;
/// GICv3 distributor.
pub const GUEST_GICV3_GICD_BASE: u64 = 0x0300_1000;
/// Bytes of it.
pub const GUEST_GICV3_GICD_SIZE: u64 = 0x0001_0000;
/// Regions of GICv3 redistributors.
pub const GUEST_GICV3_RDIST_REGIONS: u64 = 1;
/// GICv3 redistributors, 128 KiB for each vCPU.
pub const GUEST_GICV3_GICR0_BASE: u64 = 0x0302_0000;
/// Bytes of them.
pub const GUEST_GICV3_GICR0_SIZE: u64 = 0x0100_0000;
/// ACPI tables.
pub const GUEST_ACPI_BASE: u64 = 0x2000_0000;
/// Bytes of them.
pub const GUEST_ACPI_SIZE: u64 = 0x0200_0000;
/// Virtual PL011 UART.
pub const GUEST_PL011_BASE: u64 = 0x2200_0000;
/// Bytes of it.
pub const GUEST_PL011_SIZE: u64 = 0x0000_1000;
/// Window for the grant table.
pub const GUEST_GNTTAB_BASE: u64 = 0x3800_0000;
/// Bytes of it.
pub const GUEST_GNTTAB_SIZE: u64 = 0x0100_0000;
/// Pages of the console, xenstore and other rings.
pub const GUEST_MAGIC_BASE: u64 = 0x3900_0000;
/// Bytes of them.
pub const GUEST_MAGIC_SIZE: u64 = 0x0100_0000;
/// Banks of memory.
pub const GUEST_RAM_BANKS: u64 = 2;
/// First bank.
pub const GUEST_RAM0_BASE: u64 = 0x4000_0000;
/// Bytes it may have.
pub const GUEST_RAM0_SIZE: u64 = 0xC000_0000;
/// Second bank.
pub const GUEST_RAM1_BASE: u64 = 0x2_0000_0000;
/// Bytes it may have.
pub const GUEST_RAM1_SIZE: u64 = 0xFE_0000_0000;
/// Lowest address of memory.
pub const GUEST_RAM_BASE: u64 = GUEST_RAM0_BASE;
/// Bytes of memory a guest may have.
pub const GUEST_RAM_MAX: u64 = GUEST_RAM0_SIZE + GUEST_RAM1_SIZE;

/// vCPUs a guest may have.
pub const GUEST_MAX_VCPUS: u32 = 128;
/// Interrupt of the virtual timer.
pub const GUEST_TIMER_VIRT_PPI: u32 = 27;
/// Interrupt of the secure physical timer.
pub const GUEST_TIMER_PHYS_S_PPI: u32 = 29;
/// Interrupt of the physical timer.
pub const GUEST_TIMER_PHYS_NS_PPI: u32 = 30;
/// Interrupt of event channels.
pub const GUEST_EVTCHN_PPI: u32 = 31;
/// Interrupt of the virtual PL011.
pub const GUEST_VPL011_SPI: u32 = 32;
/// First interrupt of the virtio transports.
pub const GUEST_VIRTIO_MMIO_SPI_FIRST: u32 = 33;
/// Last one.
pub const GUEST_VIRTIO_MMIO_SPI_LAST: u32 = 43;
/// Function number that the toolstack writes for PSCI 0.1.
pub const PSCI_CPU_SUSPEND: u32 = 0;
/// Function number that the toolstack writes for PSCI 0.1.
pub const PSCI_CPU_OFF: u32 = 1;
/// Function number that the toolstack writes for PSCI 0.1.
pub const PSCI_CPU_ON: u32 = 2;
/// Function number that the toolstack writes for PSCI 0.1.
pub const PSCI_MIGRATE: u32 = 3;
/// In [`VcpuGuestContext::flags`]: the vCPU is up.
pub const VGCF_ONLINE: u32 = 1;

/// Core registers of a vCPU, laid out as AArch64 sees them; an AArch32 register lies in the low half of its
/// AArch64 place.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct VcpuGuestCoreRegs {
    /// x0 to x30.
    pub x: [u64; 31],
    /// Program counter.
    pub pc64: u64,
    /// Processor state.
    pub cpsr: u64,
    /// SPSR_EL1; AArch32: SPSR_svc in the low half.
    pub spsr_el1: u64,
    /// AArch32 only.
    pub spsr_fiq: u32,
    /// AArch32 only.
    pub spsr_irq: u32,
    /// AArch32 only.
    pub spsr_und: u32,
    /// AArch32 only.
    pub spsr_abt: u32,
    /// AArch64 only.
    pub sp_el0: u64,
    /// AArch64 only.
    pub sp_el1: u64,
    /// AArch64 only.
    pub elr_el1: u64,
}

/// Register state that the toolstack gives to and takes from a vCPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct VcpuGuestContext {
    /// `VGCF_*`.
    pub flags: u32,
    /// Implicit in C.
    pub _pad: [u8; 4],
    /// Core registers.
    pub user_regs: VcpuGuestCoreRegs,
    /// SCTLR_EL1.
    pub sctlr: u64,
    /// TCR_EL1.
    pub ttbcr: u64,
    /// TTBR0_EL1.
    pub ttbr0: u64,
    /// TTBR1_EL1.
    pub ttbr1: u64,
}
