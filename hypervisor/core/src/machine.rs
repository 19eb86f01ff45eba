//! What `core` asks of a machine. `vambrace-hal` answers for real hardware, `crate::fake` in tests.
//!
//! Interrupts are masked whenever the hypervisor itself runs: it is entered by a trap, decides, and leaves, or waits in
//! [`Processor::idle`]. So no lock of `core` needs to care about interrupts, and no method here is called from one.

use crate::addr::{GuestVa, Ipa, Pa};
use crate::trap::{GuestRegs, SysReg, Trap};

/// A physical address that the hypervisor must not touch through [`Memory`]: not RAM, or RAM of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadAddress(pub Pa);

/// Physical memory that the hypervisor manages but does not own: guests' pages, shared pages, stage-2 tables.
///
/// Every method checks the address: RAM that was announced to the machine, and outside of the hypervisor's image and
/// heap. So safe code cannot corrupt the hypervisor through it, whatever it passes.
pub trait Memory {
    /// Copies from physical memory. Guests may write meanwhile: the bytes are a snapshot with no promise between them.
    fn read(&self, pa: Pa, into: &mut [u8]) -> Result<(), BadAddress>;
    /// Copies to physical memory.
    fn write(&self, pa: Pa, from: &[u8]) -> Result<(), BadAddress>;
    /// Copies `len` bytes between two places in physical memory that do not overlap.
    fn copy(&self, to: Pa, from: Pa, len: u64) -> Result<(), BadAddress>;
    /// Zeroes `len` bytes.
    fn zero(&self, pa: Pa, len: u64) -> Result<(), BadAddress>;
    /// Reads an aligned 64-bit word in one access (a translation-table descriptor).
    fn read_u64(&self, pa: Pa) -> Result<u64, BadAddress>;
    /// Writes an aligned 64-bit word in one access, visible to table walks when this returns.
    fn write_u64(&self, pa: Pa, value: u64) -> Result<(), BadAddress>;
    /// Atomically replaces the aligned 32-bit word at `pa` by `f(word)`, sequentially consistent, retrying while
    /// others write. `f` returning `None` leaves it. Returns the word as it was before.
    fn update_u32(&self, pa: Pa, f: impl FnMut(u32) -> Option<u32>) -> Result<u32, BadAddress>;
    /// Cleans and invalidates the data cache to the point of coherency, for readers with their caches off.
    fn clean_dcache(&self, pa: Pa, len: u64) -> Result<(), BadAddress>;
    /// Bytes of the hypervisor's heap that are free.
    fn heap_room(&self) -> u64 {
        u64::MAX
    }
    /// First physical address that the hypervisor cannot have its heap at or above; it may reach more in other ways.
    fn heap_limit(&self) -> Pa {
        Pa(u64::MAX)
    }
}

/// A physical interrupt number (INTID): 0-15 SGI, 16-31 PPI, 32-1019 SPI (GIC architecture, IHI 0069, 2.2).
pub type Intid = u32;

/// The first SPI's INTID.
pub const FIRST_SPI: Intid = 32;

/// A physical CPU by its index in the hypervisor's own numbering, 0 for the boot CPU.
pub type CpuId = usize;

/// State of a list register, by its number in both GICs (IHI 0048B GICH_LRn.State, IHI 0069 ICH_LRn_EL2.State).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum LrState {
    /// Free.
    #[default]
    Invalid = 0,
    /// Waiting to be taken.
    Pending = 1,
    /// Taken, not yet ended.
    Active = 2,
    /// Taken, and raised again.
    PendingAndActive = 3,
}

impl LrState {
    /// The state whose number is in the low two bits.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Invalid,
            1 => Self::Pending,
            2 => Self::Active,
            _ => Self::PendingAndActive,
        }
    }
}

/// A list register, in terms that hold for GICv2 and GICv3.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ListRegister {
    /// Virtual INTID.
    pub intid: Intid,
    /// State.
    pub state: LrState,
    /// Priority, 8 bits, lower is more urgent (GICv2 hardware keeps the upper five).
    pub priority: u8,
    /// Group 1 (IRQ) rather than group 0.
    pub group1: bool,
    /// The physical interrupt that deactivating this one deactivates (HW bit).
    pub physical: Option<Intid>,
    /// For an SGI of a GICv2 guest, the vCPU that sent it (0-7).
    pub source: u8,
    /// Raise the maintenance interrupt when the guest ends this one (never with `physical`).
    pub eoi_maintenance: bool,
}

/// The interrupt taken, as acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acknowledged {
    /// Which.
    pub intid: Intid,
    /// What the controller wants back in [`Interrupts::end`] (GICv2 puts an SGI's source CPU there).
    pub token: u32,
}

/// The host's interrupt controller. Ending an interrupt is split in two: priority drop, then deactivation (EOImode 1).
pub trait Interrupts {
    /// Takes the most urgent pending interrupt of this CPU; `None` when there is none (spurious).
    fn acknowledge(&self) -> Option<Acknowledged>;
    /// Drops the running priority, so that others can be taken; the interrupt stays active.
    fn end(&self, interrupt: Acknowledged);
    /// Deactivates: it may be raised again. PPIs and SGIs are this CPU's.
    fn deactivate(&self, interrupt: Acknowledged);
    /// Lets the interrupt through (PPIs: on this CPU).
    fn enable(&self, intid: Intid);
    /// Stops the interrupt (PPIs: on this CPU).
    fn disable(&self, intid: Intid);
    /// Sets edge (true) or level sensitivity, where the controller allows.
    fn set_edge(&self, intid: Intid, edge: bool);
    /// Sends an SPI to `cpu`.
    fn route(&self, intid: Intid, cpu: CpuId);
    /// Sets or clears the active state of an interrupt (PPIs: on this CPU).
    fn set_active(&self, intid: Intid, active: bool);
    /// Sets or clears the pending state of an interrupt.
    fn set_pending(&self, intid: Intid, pending: bool);
    /// Number of INTIDs that the controller implements (a multiple of 32, at most 1020).
    fn intid_limit(&self) -> u32;
    /// Raises the hypervisor's own SGI on `cpu`, which leaves its guest or wakes from idle.
    fn kick(&self, cpu: CpuId);
}

/// The virtual CPU interface of this CPU (GICH or ICH registers). All are used only between a vCPU's load and save.
pub trait VirtualCpuInterface {
    /// Number of list registers, 2 to 16 (of more, the first 16 are used).
    fn lr_count(&self) -> usize;
    /// Reads list register `index`. The virtual GIC only looks at the state, the one field that hardware changes.
    fn lr_read(&self, index: usize) -> ListRegister;
    /// Writes list register `index`.
    fn lr_write(&self, index: usize, value: ListRegister);
    /// Asks for the maintenance interrupt when at most one list register is in use (underflow).
    fn set_underflow(&self, on: bool);
}

/// A guest timer, as the guest programmed it (Arm ARM, CNTV_CTL and CNTV_CVAL).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TimerState {
    /// CTL: bit 0 ENABLE, bit 1 IMASK, bit 2 ISTATUS.
    pub control: u64,
    /// CVAL, in ticks of the guest's virtual counter.
    pub compare: u64,
}

/// The system counter.
pub trait Clock {
    /// The physical counter, in ticks.
    fn now(&self) -> u64;
    /// Ticks per second.
    fn frequency(&self) -> u64;
    /// Arms this CPU's hypervisor timer for the physical counter value `deadline`, or turns it off.
    fn set_alarm(&self, deadline: Option<u64>);
}

/// How a vCPU's machine context starts.
#[derive(Clone, Copy, Debug)]
pub struct ContextSpec {
    /// What the guest reads in MPIDR_EL1 (VMPIDR_EL2).
    pub mpidr: u64,
    /// What the guest's virtual counter is behind the physical one, in ticks (CNTVOFF_EL2).
    pub counter_offset: u64,
    /// The guest's kernel is AArch32.
    pub aarch32: bool,
}

/// Registers of EL1 that a toolstack gives a vCPU and takes from it (`arch-arm.h`, `vcpu_guest_context`), besides those in
/// [`GuestRegs`]. For a 32-bit guest they stand for their AArch32 counterparts (Arm ARM D1.20.2): `spsr` for SPSR_svc.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SystemState {
    /// SCTLR_EL1.
    pub sctlr: u64,
    /// TCR_EL1 (TTBCR).
    pub tcr: u64,
    /// TTBR0_EL1.
    pub ttbr0: u64,
    /// TTBR1_EL1.
    pub ttbr1: u64,
    /// SPSR_EL1.
    pub spsr: u64,
    /// AArch64 only: SP_EL0.
    pub sp_el0: u64,
    /// AArch64 only: SP_EL1.
    pub sp_el1: u64,
    /// AArch64 only: ELR_EL1.
    pub elr: u64,
    /// AArch32 only.
    pub spsr_fiq: u32,
    /// AArch32 only.
    pub spsr_irq: u32,
    /// AArch32 only.
    pub spsr_und: u32,
    /// AArch32 only.
    pub spsr_abt: u32,
}

/// What a stage-1 and stage-2 translation was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// The hypervisor will read.
    Read,
    /// The hypervisor will write.
    Write,
}

/// A domain's stage-2 translation as the CPU wants it: VTTBR_EL2 contents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stage2 {
    /// Physical address of the first-level table.
    pub root: Pa,
    /// Virtual machine identifier that tags its TLB entries.
    pub vmid: u16,
}

/// This CPU as a runner of vCPUs.
pub trait Processor {
    /// What the machine keeps of a vCPU besides [`GuestRegs`]: EL1 system registers, FP/SIMD, timers, virtual CPU
    /// interface.
    type Context: Send;

    /// The CPU that executes this.
    fn this_cpu(&self) -> CpuId;
    /// A fresh context, as after reset.
    fn new_context(&self, spec: &ContextSpec) -> Self::Context;
    /// Puts a vCPU's context into the CPU.
    fn load(&self, context: &mut Self::Context, stage2: Stage2);
    /// Takes the context of the vCPU last loaded back out of the CPU.
    fn save(&self, context: &mut Self::Context);
    /// What a context that is not loaded has of the registers that a toolstack takes. Banked registers of a 32-bit guest
    /// that the machine does not keep in [`GuestRegs`] are put there.
    fn system_state(&self, context: &Self::Context, regs: &mut GuestRegs) -> SystemState;
    /// Puts into a context that is not loaded what a toolstack gives; the banked registers of a 32-bit guest are those in
    /// `regs`.
    fn set_system_state(&self, context: &mut Self::Context, regs: &GuestRegs, state: &SystemState);
    /// Runs the loaded vCPU until it traps.
    fn run(&self, regs: &mut GuestRegs, context: &mut Self::Context) -> Trap;
    /// Translates a virtual address of the loaded vCPU through its stage 1 and its stage 2, as its kernel would access
    /// it; `None` where that would fault.
    fn translate(&self, va: GuestVa, access: Access) -> Option<Pa>;
    /// Has the loaded vCPU take an undefined-instruction exception at its current instruction.
    fn inject_undefined(&self, regs: &mut GuestRegs, context: &mut Self::Context);
    /// Has the loaded vCPU take a synchronous external data (or instruction) abort for virtual address `va`.
    fn inject_abort(&self, regs: &mut GuestRegs, context: &mut Self::Context, va: GuestVa, instruction: bool);
    /// The virtual timer of a context that was saved.
    fn virtual_timer(&self, context: &Self::Context) -> TimerState;
    /// Whether the virtual timer of the loaded vCPU asks for its interrupt now (enabled, not masked, condition met).
    fn virtual_timer_line(&self) -> bool;
    /// The value of an ID register of this CPU (Arm ARM, op0 3, op1 0 or 1, CRn 0), 0 for one it does not know.
    fn id_register(&self, register: SysReg) -> u64;
    /// Waits for an interrupt.
    fn idle(&self);
    /// Drops every TLB entry of `vmid`, on all CPUs.
    fn flush_tlb(&self, stage2: Stage2);
    /// Drops the TLB entries of `stage2` for the page at `ipa`, on all CPUs.
    fn flush_tlb_page(&self, stage2: Stage2, ipa: Ipa);
    /// A call to the secure firmware by SMCCC with at most seven arguments; `None` where there is no conduit.
    fn firmware_call(&self, function: u64, args: [u64; 7]) -> Option<[u64; 4]>;
}

/// The board's way to end.
pub trait Power {
    /// Turns the board off; returns only if it cannot.
    fn power_off(&self);
    /// Resets the board; returns only if it cannot.
    fn reset(&self);
}

/// The board's console UART.
pub trait Console {
    /// Writes bytes, waiting while the UART is busy; `\n` goes out as `\r\n`.
    fn put(&self, bytes: &[u8]);
    /// The next received byte, if any.
    fn get(&self) -> Option<u8>;
    /// Turns the receive interrupt on, if the UART has one, and clears what is latched.
    fn enable_receive_interrupt(&self);
}

/// All of it.
pub trait Machine:
    Memory + Interrupts + VirtualCpuInterface + Clock + Processor + Power + Console + Sync + 'static
{
}

impl<T> Machine for T where
    T: Memory + Interrupts + VirtualCpuInterface + Clock + Processor + Power + Console + Sync + 'static
{
}
