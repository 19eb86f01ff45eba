//! A vCPU's machine state: what is switched when another vCPU takes the CPU, and how a trap is decoded.
//!
//! | state | switched |
//! |---|---|
//! | r0 to r12, LR of User mode, PC, CPSR | at every trap, by `vectors` |
//! | other banked registers, PL1 system registers, VFP/SIMD, virtual timer | when another vCPU is loaded |
//! | a banked register that a trapped instruction names | lent to `core` at that trap, by [`Context::lend`] |
//! | list registers | by `core`, through the virtual GIC |

use core::arch::asm;

use vambrace_core::addr::{GuestVa, Ipa, Pa};
use vambrace_core::machine::{Access, ContextSpec, Stage2, SystemState, TimerState};
use vambrace_core::p2m::Shape;
use vambrace_core::trap::{GuestRegs, SysReg, Trap};

use super::simd::{Simd, mvfr};
use super::sysregs::{isb, read_sysreg, read32, read64, write_sysreg, write32, write64};
use super::vectors::{self, Exit};
use crate::aarch32::{Exception, external_abort};
use crate::{syndrome, timer};

/// HCR for guests (ARMv7 ARM, B4.1.65).
mod hcr {
    const VM: u32 = 1 << 0;
    const SWIO: u32 = 1 << 1;
    const PTW: u32 = 1 << 2;
    const FMO: u32 = 1 << 3;
    const IMO: u32 = 1 << 4;
    const AMO: u32 = 1 << 5;
    const FB: u32 = 1 << 9;
    const BSU_INNER: u32 = 1 << 10;
    const TWI: u32 = 1 << 13;
    const TID3: u32 = 1 << 18;
    const TSC: u32 = 1 << 19;
    const TIDCP: u32 = 1 << 20;
    const TAC: u32 = 1 << 21;

    /// The same for all guests: stage 2 on, interrupts and asynchronous aborts to Hyp mode, `wfi`, `smc`, ID registers,
    /// ACTLR and implementation-defined registers trapped, set/way invalidation made harmless.
    pub(super) const GUEST: u32 =
        VM | SWIO | PTW | FMO | IMO | AMO | FB | BSU_INNER | TWI | TID3 | TSC | TIDCP | TAC;
}

/// SCTLR after reset: MMU and caches off, the bits that are RES1 set (ARMv7 ARM, B4.1.130).
const SCTLR_RESET: u32 = 0x00c5_0078;

/// A block of registers that are switched together.
macro_rules! registers {
    ($(#[$doc:meta])* $name:ident: $type:ty, $read:ident, $write:ident; $($field:ident => $register:tt),* $(,)?) => {
        $(#[$doc])*
        #[derive(Clone, Default)]
        struct $name {
            $($field: $type,)*
        }

        impl $name {
            fn load(&self) {
                $($write!($register, self.$field);)*
            }
            fn save(&mut self) {
                $(self.$field = $read!($register);)*
            }
        }
    };
}

registers! {
    /// CP15 registers of PL1 and PL0.
    System: u32, read32, write32;
    sctlr => "sctlr",
    cpacr => "cpacr",
    ttbcr => "ttbcr",
    dacr => "dacr",
    dfsr => "dfsr",
    ifsr => "ifsr",
    adfsr => "adfsr",
    aifsr => "aifsr",
    dfar => "dfar",
    ifar => "ifar",
    mair0 => "mair0",
    mair1 => "mair1",
    amair0 => "amair0",
    amair1 => "amair1",
    vbar => "vbar",
    contextidr => "contextidr",
    tpidrurw => "tpidrurw",
    tpidruro => "tpidruro",
    tpidrprw => "tpidrprw",
    csselr => "csselr",
    cntkctl => "cntkctl_el1",
}

registers! {
    /// 64-bit CP15 registers of PL1.
    Wide: u64, read64, write64;
    ttbr0 => "ttbr0",
    ttbr1 => "ttbr1",
    par => "par",
}

registers! {
    /// ThumbEE's registers, on a CPU that has them. ID registers hide it; software that knows the CPU uses it all the same.
    ThumbEe: u32, read32, write32;
    control => "teecr",
    handler_base => "teehbr",
}

/// Whether this CPU has ThumbEE (ID_PFR0.State3).
fn has_thumb_ee() -> bool {
    read32!("id_pfr0") >> 12 & 0xf == 1
}

/// Reads a banked register from Hyp mode (ARMv7 ARM, B9.2.3).
macro_rules! read_banked {
    ($name:tt) => {{
        let value: u32;
        // SAFETY: reads a register that only guests use.
        unsafe {
            asm!(".arch_extension virt", concat!("mrs {}, ", $name), out(reg) value,
                options(nomem, nostack, preserves_flags))
        };
        value
    }};
}

/// Writes a banked register from Hyp mode (ARMv7 ARM, B9.2.4).
macro_rules! write_banked {
    ($name:tt, $value:expr) => {{
        let value: u32 = $value;
        // SAFETY: writes a register that only guests use.
        unsafe {
            asm!(".arch_extension virt", concat!("msr ", $name, ", {}"), in(reg) value,
                options(nomem, nostack, preserves_flags))
        };
    }};
}

registers! {
    /// Registers that belong to one mode of the processor.
    Banked: u32, read_banked, write_banked;
    sp_usr => "sp_usr",
    sp_svc => "sp_svc",
    lr_svc => "lr_svc",
    spsr_svc => "spsr_svc",
    sp_abt => "sp_abt",
    lr_abt => "lr_abt",
    spsr_abt => "spsr_abt",
    sp_und => "sp_und",
    lr_und => "lr_und",
    spsr_und => "spsr_und",
    sp_irq => "sp_irq",
    lr_irq => "lr_irq",
    spsr_irq => "spsr_irq",
    r8_fiq => "r8_fiq",
    r9_fiq => "r9_fiq",
    r10_fiq => "r10_fiq",
    r11_fiq => "r11_fiq",
    r12_fiq => "r12_fiq",
    sp_fiq => "sp_fiq",
    lr_fiq => "lr_fiq",
    spsr_fiq => "spsr_fiq",
}

impl Banked {
    /// The registers that have a place in [`GuestRegs`], with its index (Arm ARM, D1.20.2).
    fn by_index(&mut self) -> [(u8, &mut u32); 16] {
        [
            (13, &mut self.sp_usr),
            (16, &mut self.lr_irq),
            (17, &mut self.sp_irq),
            (18, &mut self.lr_svc),
            (19, &mut self.sp_svc),
            (20, &mut self.lr_abt),
            (21, &mut self.sp_abt),
            (22, &mut self.lr_und),
            (23, &mut self.sp_und),
            (24, &mut self.r8_fiq),
            (25, &mut self.r9_fiq),
            (26, &mut self.r10_fiq),
            (27, &mut self.r11_fiq),
            (28, &mut self.r12_fiq),
            (29, &mut self.sp_fiq),
            (30, &mut self.lr_fiq),
        ]
    }
}

/// A vCPU's machine state while it is not loaded.
#[derive(Clone)]
pub struct Context {
    vmpidr: u32,
    counter_offset: u64,
    system: System,
    wide: Wide,
    banked: Banked,
    thumb_ee: ThumbEe,
    timer: TimerState,
    simd: Simd,
    /// Banked registers that `core` has in [`GuestRegs`] until the guest runs again, a bit for each of `x`.
    lent: u32,
    /// Virtual CPU interface: kept by the GIC driver.
    pub(crate) virtual_interface: crate::gic::VcpuInterface,
}

impl Context {
    /// A vCPU as after reset.
    pub(crate) fn new(spec: &ContextSpec, virtual_interface: crate::gic::VcpuInterface) -> Self {
        Self {
            // RES1: the register's format.
            vmpidr: spec.mpidr as u32 | 1 << 31,
            counter_offset: spec.counter_offset,
            system: System { sctlr: SCTLR_RESET, ..System::default() },
            wide: Wide::default(),
            banked: Banked::default(),
            thumb_ee: ThumbEe::default(),
            timer: TimerState::default(),
            simd: Simd::new(),
            lent: 0,
            virtual_interface,
        }
    }

    pub(crate) fn load(&mut self, stage2: Stage2) {
        write64!("vttbr", vttbr(stage2));
        write32!("hcr", hcr::GUEST);
        write32!("vmpidr", self.vmpidr);
        write_sysreg!("cntvoff_el2", self.counter_offset);
        // The format of the registers behind it depends on TTBCR.
        self.system.load();
        self.wide.load();
        self.banked.load();
        if has_thumb_ee() {
            self.thumb_ee.load();
        }
        self.simd.load();
        write_sysreg!("cntv_cval_el0", self.timer.compare);
        write_sysreg!("cntv_ctl_el0", self.timer.control);
        isb!();
    }

    pub(crate) fn save(&mut self) {
        let TimerState { control, compare } = timer::virtual_timer();
        self.timer = TimerState { control: control & (timer::ENABLE | timer::IMASK), compare };
        write_sysreg!("cntv_ctl_el0", 0);
        self.system.save();
        self.wide.save();
        self.banked.save();
        if has_thumb_ee() {
            self.thumb_ee.save();
        }
        self.simd.save();
    }

    pub(crate) fn timer(&self) -> TimerState {
        self.timer
    }

    /// What the context has, the banked registers in `regs`, where those that are lent are already.
    pub(crate) fn system_state(&self, regs: &mut GuestRegs) -> SystemState {
        let mut banked = self.banked.clone();
        for (index, register) in banked.by_index() {
            if self.lent & 1 << index == 0 {
                regs.set(index, (*register).into());
            }
        }
        SystemState {
            sctlr: self.system.sctlr.into(),
            tcr: self.system.ttbcr.into(),
            ttbr0: self.wide.ttbr0,
            ttbr1: self.wide.ttbr1,
            spsr: self.banked.spsr_svc.into(),
            spsr_fiq: self.banked.spsr_fiq,
            spsr_irq: self.banked.spsr_irq,
            spsr_und: self.banked.spsr_und,
            spsr_abt: self.banked.spsr_abt,
            ..SystemState::default()
        }
    }

    pub(crate) fn set_system_state(&mut self, regs: &GuestRegs, state: &SystemState) {
        for (index, register) in self.banked.by_index() {
            *register = regs.get(index) as u32;
        }
        self.lent = 0;
        (self.system.sctlr, self.system.ttbcr) = (state.sctlr as u32, state.tcr as u32);
        (self.wide.ttbr0, self.wide.ttbr1) = (state.ttbr0, state.ttbr1);
        self.banked.spsr_svc = state.spsr as u32;
        self.banked.spsr_fiq = state.spsr_fiq;
        self.banked.spsr_irq = state.spsr_irq;
        self.banked.spsr_und = state.spsr_und;
        self.banked.spsr_abt = state.spsr_abt;
    }

    /// The index in `regs` of register `number` of the guest's mode. A banked register is brought there, and taken back
    /// before the guest runs.
    fn lend(&mut self, regs: &mut GuestRegs, number: u8) -> u8 {
        let index = index_of(number, regs.pstate as u32);
        if index > 12 && index != LR_USR && index != PC {
            regs.set(index, read_lent(index).into());
            self.lent |= 1 << index;
        }
        index
    }

    /// Takes back what was lent.
    #[cold]
    fn take_back(&mut self, regs: &GuestRegs) {
        for index in 13..31 {
            if self.lent & 1 << index != 0 {
                write_lent(index, regs.get(index) as u32);
            }
        }
        self.lent = 0;
    }
}

/// Index in [`GuestRegs`] of User mode's LR, which is always there.
const LR_USR: u8 = 14;
/// Not a general-purpose register: the condition flags, for `mrc`.
const PC: u8 = 15;

/// Where register `number` of the mode in `cpsr` lies among x0 to x30 (Arm ARM, D1.20.2).
fn index_of(number: u8, cpsr: u32) -> u8 {
    const FIQ: u32 = 0x11;
    let mode = cpsr & 0x1f;
    match (number, mode) {
        (8..=12, FIQ) => number + 16,
        (13, FIQ) => 29,
        (14, FIQ) => 30,
        (13 | 14, 0x12 | 0x13 | 0x17 | 0x1b) => {
            let lr = match mode {
                0x12 => 16,
                0x13 => 18,
                0x17 => 20,
                _ => 22,
            };
            if number == 14 { lr } else { lr + 1 }
        }
        _ => number,
    }
}

/// Calls `$access` with the name of the banked register that lies at an index of [`GuestRegs`].
macro_rules! banked_at {
    ($index:expr, $access:ident $(, $value:expr)?) => {
        match $index {
            13 => $access!("sp_usr" $(, $value)?),
            16 => $access!("lr_irq" $(, $value)?),
            17 => $access!("sp_irq" $(, $value)?),
            18 => $access!("lr_svc" $(, $value)?),
            19 => $access!("sp_svc" $(, $value)?),
            20 => $access!("lr_abt" $(, $value)?),
            21 => $access!("sp_abt" $(, $value)?),
            22 => $access!("lr_und" $(, $value)?),
            23 => $access!("sp_und" $(, $value)?),
            24 => $access!("r8_fiq" $(, $value)?),
            25 => $access!("r9_fiq" $(, $value)?),
            26 => $access!("r10_fiq" $(, $value)?),
            27 => $access!("r11_fiq" $(, $value)?),
            28 => $access!("r12_fiq" $(, $value)?),
            29 => $access!("sp_fiq" $(, $value)?),
            30 => $access!("lr_fiq" $(, $value)?),
            _ => Default::default(),
        }
    };
}

fn read_lent(index: u8) -> u32 {
    banked_at!(index, read_banked)
}

fn write_lent(index: u8, value: u32) {
    banked_at!(index, write_banked, value)
}

/// VTTBR for a domain. VMIDs have eight bits.
pub(super) fn vttbr(stage2: Stage2) -> u64 {
    stage2.root.0 | u64::from(stage2.vmid & 0xff) << 48
}

/// Sets the Hyp mode controls that are the same for every guest, on this CPU.
pub(crate) fn init_traps(shape: Shape) {
    // VTCR (ARMv7 ARM, B4.1.157): the size as 32 less the bits, signed in four bits and repeated in the fifth; walks
    // inner-shareable and write-back; first level 1.
    let size = 32_u32.wrapping_sub(shape.ipa_bits.into());
    let start_level = 2 - u32::from(shape.start_level);
    write32!(
        "vtcr",
        1 << 31 | 0b11 << 12 | 0b01 << 10 | 0b01 << 8 | start_level << 6 | size >> 3 << 4 & 0x10 | size & 0xf
    );
    // HDCR: debug and performance-monitor registers trap; no counters for Hyp mode.
    let counters = read32!("hdcr") & 0x1f;
    write32!("hdcr", 1 << 11 | 1 << 10 | 1 << 9 | 1 << 6 | 1 << 5 | counters);
    // HSTR: CP15 c15, which is implementation-defined.
    write32!("hstr", 1 << 15);
    write32!("vpidr", read32!("midr"));
    isb!();
}

/// Bits of physical address: the long-descriptor format's.
pub fn physical_address_bits() -> u8 {
    40
}

/// Runs the loaded vCPU until it traps.
#[inline]
pub(crate) fn run(regs: &mut GuestRegs, context: &mut Context) -> Trap {
    if context.lent != 0 {
        context.take_back(regs);
    }
    match vectors::enter(regs) {
        Exit::Interrupt => Trap::Interrupt,
        Exit::Trap => {
            let mut trap = syndrome::decode_aarch32(read_sysreg!("hsr"), regs.pstate);
            match &mut trap {
                Trap::Mmio(access) | Trap::MmioInBlock(access) if access.reg > 7 => {
                    access.reg = context.lend(regs, access.reg);
                }
                Trap::Coprocessor(access) => {
                    access.reg = context.lend(regs, access.reg);
                    access.reg2 = access.reg2.map(|reg| context.lend(regs, reg));
                }
                _ => {}
            }
            trap
        }
    }
}

/// The address that faulted, of a data access or an instruction fetch.
#[inline]
pub(crate) fn fault_va(instruction: bool) -> GuestVa {
    GuestVa(if instruction { read_sysreg!("hifar") } else { read_sysreg!("hdfar") })
}

/// HPFAR.
#[inline]
pub(crate) fn fault_ipa() -> u64 {
    read_sysreg!("hpfar")
}

/// Performs an address translation (an operation of CP15 c7, c8) and reads what PAR says, without a change of it for the
/// guest: the page, or `None` for a fault (ARMv7 ARM, B4.1.112).
macro_rules! address_translation {
    ($operation:literal, $va:expr) => {{
        let saved = read64!("par");
        // SAFETY: an address translation changes PAR only, the guest's value of which is put back.
        unsafe {
            asm!(concat!("mcr p15, 0, {}, c7, c8, ", $operation), "isb", in(reg) $va.0 as u32,
                options(nostack, preserves_flags))
        };
        let par = read64!("par");
        write64!("par", saved);
        page(par)
    }};
}

fn page(par: u64) -> Option<u64> {
    const FAULT: u64 = 1;
    const SUPERSECTION: u64 = 1 << 1;
    const LONG: u64 = 1 << 11;
    if par & FAULT != 0 {
        None
    } else if par & LONG != 0 {
        Some(par & 0xff_ffff_f000)
    } else if par & SUPERSECTION != 0 {
        Some(par & 0xff00_0000 | (par >> 16 & 0xff) << 32)
    } else {
        Some(par & 0xffff_f000)
    }
}

/// Walks the loaded vCPU's stage 1 for its kernel's read of `va`: the page, in intermediate physical space.
pub(crate) fn walk_stage1(va: GuestVa) -> Option<Ipa> {
    // ATS1CPR
    address_translation!("0", va).map(Ipa)
}

/// Translates a virtual address of the loaded vCPU through both stages, as its kernel would read or write.
pub(crate) fn translate(va: GuestVa, access: Access) -> Option<Pa> {
    let page = match access {
        // ATS12NSOPR
        Access::Read => address_translation!("4", va),
        // ATS12NSOPW
        Access::Write => address_translation!("5", va),
    };
    page.map(|page| Pa(page | va.page_offset()))
}

/// The loaded vCPU takes an exception at its current instruction.
fn take(exception: Exception, regs: &mut GuestRegs) {
    let cpsr = regs.pstate as u32;
    let entry = exception.enter(regs.pc as u32, cpsr, read32!("sctlr"), read32!("vbar"));
    if exception == Exception::Undefined {
        write_banked!("lr_und", entry.lr);
        write_banked!("spsr_und", cpsr);
    } else {
        write_banked!("lr_abt", entry.lr);
        write_banked!("spsr_abt", cpsr);
    }
    regs.pc = entry.pc.into();
    regs.pstate = entry.cpsr.into();
}

/// The loaded vCPU takes an undefined-instruction exception.
pub(crate) fn inject_undefined(regs: &mut GuestRegs, context: &mut Context) {
    // What was lent to an instruction that now does nothing is as it was.
    context.lent = 0;
    take(Exception::Undefined, regs);
}

/// The loaded vCPU takes a synchronous external abort at `va`.
pub(crate) fn inject_abort(regs: &mut GuestRegs, context: &mut Context, va: GuestVa, instruction: bool) {
    context.lent = 0;
    let status = external_abort(read32!("ttbcr"));
    if instruction {
        write32!("ifsr", status);
        write32!("ifar", va.0 as u32);
        take(Exception::PrefetchAbort, regs);
    } else {
        write32!("dfsr", status);
        write32!("dfar", va.0 as u32);
        take(Exception::DataAbort, regs);
    }
}

/// The value of an ID register, by its AArch64 name.
pub(crate) fn id_register(register: SysReg) -> u64 {
    macro_rules! id {
        ($($fields:pat => $name:tt),* $(,)?) => {
            match register.fields() {
                $($fields => read_sysreg!($name),)*
                (3, 0, 0, 3, 0) => mvfr(0).into(),
                (3, 0, 0, 3, 1) => mvfr(1).into(),
                _ => 0,
            }
        };
    }
    id! {
        (3, 0, 0, 0, 0) => "midr",
        (3, 0, 0, 1, 0) => "id_pfr0",
        (3, 0, 0, 1, 1) => "id_pfr1",
        (3, 0, 0, 1, 2) => "id_dfr0",
        (3, 0, 0, 1, 3) => "id_afr0",
        (3, 0, 0, 1, 4) => "id_mmfr0",
        (3, 0, 0, 1, 5) => "id_mmfr1",
        (3, 0, 0, 1, 6) => "id_mmfr2",
        (3, 0, 0, 1, 7) => "id_mmfr3",
        (3, 0, 0, 2, 0) => "id_isar0",
        (3, 0, 0, 2, 1) => "id_isar1",
        (3, 0, 0, 2, 2) => "id_isar2",
        (3, 0, 0, 2, 3) => "id_isar3",
        (3, 0, 0, 2, 4) => "id_isar4",
        (3, 0, 0, 2, 5) => "id_isar5",
    }
}
