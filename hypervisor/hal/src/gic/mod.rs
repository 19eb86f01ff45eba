//! The host's interrupt controller and its virtual CPU interface: GICv2 (IHI 0048B) and GICv3 (IHI 0069).
//!
//! The drivers are our own rather than the `arm-gic` crate's: a hypervisor needs the split of priority drop and
//! deactivation, active state, routing, and list registers, which is more than half of a driver; the rest in a shape
//! of its own would be a second way of saying the same.
//!
//! All interrupts are group 1 where the controller distinguishes (non-secure), and have one priority: the hypervisor
//! handles them in the order they come, and priorities matter among virtual interrupts only.

// A build for no GIC at all (the host's check of the rest) has no use for it.
#[cfg_attr(not(any(feature = "gicv2", feature = "gicv3")), allow(dead_code))]
mod distributor;
#[cfg(feature = "gicv2")]
pub mod v2;
#[cfg(feature = "gicv3")]
pub mod v3;

use vambrace_core::machine::{Acknowledged, CpuId, Intid, ListRegister};

use self::distributor::{
    Distributor, ICACTIVER, ICENABLER, ICPENDR, ISACTIVER, ISENABLER, ISPENDR, write_bit,
};
use crate::mmio::Mmio;

/// Physical CPUs that a GICv3 driver keeps track of; GICv2 hardware has at most eight.
pub const MAX_CPUS: usize = 32;

/// The SGI with which the hypervisor's CPUs call each other.
pub const KICK_SGI: Intid = 0;

/// Why a controller could not be set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GicError {
    /// A register region that the device tree gives is too small, or missing.
    Region(&'static str),
    /// The CPU's number is beyond what the controller or the driver serves.
    TooManyCpus(CpuId),
    /// No redistributor answers for the CPU with this affinity (MPIDR without its flag bits).
    NoRedistributor(u64),
    /// The controller did not finish something in time.
    Timeout(&'static str),
    /// The CPU has no system-register interface to its GIC, or firmware keeps it from EL2.
    NoSystemRegisters,
}

impl core::fmt::Display for GicError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            GicError::Region(name) => {
                write!(f, "the {name} registers are missing from the device tree or too small")
            }
            GicError::TooManyCpus(cpu) => write!(f, "the interrupt controller cannot serve CPU {cpu}"),
            GicError::NoRedistributor(mpidr) => {
                write!(f, "no redistributor for the CPU with MPIDR {mpidr:#x}")
            }
            GicError::Timeout(what) => write!(f, "the interrupt controller did not finish: {what}"),
            GicError::NoSystemRegisters => {
                write!(f, "EL2 may not use the interrupt controller's system registers")
            }
        }
    }
}

/// What a vCPU's virtual CPU interface holds besides its list registers (which `core` keeps).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VcpuInterface {
    /// GICH_VMCR or ICH_VMCR_EL2: the guest's CPU interface settings.
    pub vmcr: u32,
    /// Active priorities: GICH_APR in the first, or `ICH_AP1R<n>_EL2`.
    pub apr: [u32; 4],
    /// `ICH_AP0R<n>_EL2` (GICv3; group 0 of a guest that uses it).
    pub apr0: [u32; 4],
}

/// The interrupt controller of the kind the machine has.
#[derive(Debug)]
// There is one of it, in a static.
#[allow(clippy::large_enum_variant)]
pub enum Gic {
    /// GICv2 with virtualization extensions.
    #[cfg(feature = "gicv2")]
    V2(v2::GicV2),
    /// GICv3 or later, through system registers.
    #[cfg(feature = "gicv3")]
    V3(v3::GicV3),
}

/// A method of both drivers, with a value for the build that has neither.
macro_rules! forward {
    ($(#[$doc:meta])* $vis:vis $name:ident(&self $(, $argument:ident: $type:ty)*) $(-> $result:ty)?) => {
        $(#[$doc])*
        #[inline]
        #[cfg_attr(not(any(feature = "gicv2", feature = "gicv3")), allow(unused_variables))]
        $vis fn $name(&self $(, $argument: $type)*) $(-> $result)? {
            match *self {
                #[cfg(feature = "gicv2")]
                Gic::V2(ref gic) => gic.$name($($argument),*),
                #[cfg(feature = "gicv3")]
                Gic::V3(ref gic) => gic.$name($($argument),*),
            }
        }
    };
}

impl Gic {
    forward! {
        /// Resets the distributor, whatever firmware left: every SPI off, inactive, not pending, level-sensitive, to
        /// this CPU. Once, on the boot CPU, before any `init_cpu`.
        pub init(&self) -> Result<(), GicError>
    }
    forward! {
        /// Resets what is this CPU's own (SGIs, PPIs, CPU interface, virtual CPU interface) and lets the kick through.
        /// On each CPU, with its number in the hypervisor, after `init`.
        pub init_cpu(&self, cpu: CpuId) -> Result<(), GicError>
    }
    forward! {
        /// Takes the most urgent pending interrupt of this CPU; `None` when there is none (spurious).
        pub acknowledge(&self) -> Option<Acknowledged>
    }
    forward! {
        /// Drops the running priority; the interrupt stays active.
        pub end(&self, interrupt: Acknowledged)
    }
    forward! {
        /// Deactivates: it may be raised again. PPIs and SGIs are this CPU's.
        pub deactivate(&self, interrupt: Acknowledged)
    }
    forward! {
        /// Sends an SPI to `cpu`, whose `init_cpu` has run; others are left where they were.
        pub route(&self, intid: Intid, cpu: CpuId)
    }
    forward! {
        /// Raises [`KICK_SGI`] on `cpu`, whose `init_cpu` has run. What this CPU wrote before is visible there first.
        pub kick(&self, cpu: CpuId)
    }
    forward! {
        /// Raises [`KICK_SGI`] on all CPUs but this one, also on those that have not come up yet: it wakes them from `wfi`.
        pub call_others(&self)
    }
    forward! {
        /// Number of list registers, 1 to 16.
        pub lr_count(&self) -> usize
    }
    forward! {
        /// Reads list register `index`, below [`Gic::lr_count`].
        pub lr_read(&self, index: usize) -> ListRegister
    }
    forward! {
        /// Writes list register `index`, below [`Gic::lr_count`].
        pub lr_write(&self, index: usize, value: ListRegister)
    }
    forward! {
        /// Asks for the maintenance interrupt when at most one list register is in use. Only between
        /// [`Gic::load_vcpu`] and [`Gic::save_vcpu`].
        pub set_underflow(&self, on: bool)
    }
    forward! {
        /// A virtual CPU interface as after reset.
        pub new_vcpu(&self) -> VcpuInterface
    }
    forward! {
        /// Puts a vCPU's interface into this CPU, with every list register free, and turns it on.
        pub load_vcpu(&self, state: &VcpuInterface)
    }
    forward! {
        /// Takes the vCPU's interface out of this CPU and turns it off. List registers are read before.
        pub save_vcpu(&self, state: &mut VcpuInterface)
    }

    forward! {
        /// The distributor.
        distributor(&self) -> &Distributor
    }
    forward! {
        /// The registers with the state of an interrupt: the distributor's, or those of this CPU. `None` for an INTID
        /// that the controller does not have.
        registers_of(&self, intid: Intid) -> Option<Mmio>
    }
    forward! {
        /// Waits until an interrupt that was turned off is not taken any more. A controller that never gets there has
        /// been told of at start; here there is nobody to tell.
        settle(&self, intid: Intid)
    }

    fn write_bit(&self, bank: usize, intid: Intid) {
        if let Some(registers) = self.registers_of(intid) {
            write_bit(registers, bank, intid);
        }
    }

    /// Lets the interrupt through (PPIs: on this CPU).
    pub fn enable(&self, intid: Intid) {
        self.write_bit(ISENABLER, intid);
    }

    /// Stops the interrupt (PPIs: on this CPU). When this returns it is not taken any more.
    pub fn disable(&self, intid: Intid) {
        self.write_bit(ICENABLER, intid);
        self.settle(intid);
    }

    /// Sets edge (true) or level sensitivity. SGIs, and PPIs on most controllers, stay what they are.
    pub fn set_edge(&self, intid: Intid, edge: bool) {
        if let (16.., Some(registers)) = (intid, self.registers_of(intid)) {
            self.distributor().set_edge(registers, intid, edge);
        }
    }

    /// Sets or clears the active state (PPIs: on this CPU).
    pub fn set_active(&self, intid: Intid, active: bool) {
        self.write_bit(if active { ISACTIVER } else { ICACTIVER }, intid);
    }

    /// Sets or clears the pending state of a PPI of this CPU or an SPI.
    pub fn set_pending(&self, intid: Intid, pending: bool) {
        if intid >= 16 {
            self.write_bit(if pending { ISPENDR } else { ICPENDR }, intid);
        }
    }

    /// Number of INTIDs that the controller implements (a multiple of 32, or 1020).
    pub fn intid_limit(&self) -> u32 {
        self.distributor().limit()
    }
}
