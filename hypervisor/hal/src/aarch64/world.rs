//! A vCPU's machine state: what is switched when another vCPU takes the CPU, and how a trap is decoded.
//!
//! | state | switched |
//! |---|---|
//! | general-purpose registers, PC, PSTATE | at every trap, by `vectors` |
//! | EL1 system registers, FP/SIMD, virtual timer, trap controls | when another vCPU is loaded |
//! | list registers | by `core`, through the virtual GIC |

use core::arch::asm;

use vambrace_core::addr::{GuestVa, Ipa, Pa};
use vambrace_core::machine::{Access, ContextSpec, Stage2, SystemState, TimerState};
use vambrace_core::p2m::Shape;
use vambrace_core::trap::{GuestRegs, SysReg, Trap};

use super::aarch32;
use super::sysregs::{isb, read_sysreg, write_sysreg};
use super::vectors;
use crate::{syndrome, timer};

/// HCR_EL2 for guests (Arm ARM D23.2.46).
mod hcr {
    pub(super) const VM: u64 = 1 << 0;
    pub(super) const SWIO: u64 = 1 << 1;
    pub(super) const PTW: u64 = 1 << 2;
    pub(super) const FMO: u64 = 1 << 3;
    pub(super) const IMO: u64 = 1 << 4;
    pub(super) const AMO: u64 = 1 << 5;
    pub(super) const FB: u64 = 1 << 9;
    pub(super) const BSU_INNER: u64 = 1 << 10;
    pub(super) const TWI: u64 = 1 << 13;
    pub(super) const TID3: u64 = 1 << 18;
    pub(super) const TSC: u64 = 1 << 19;
    pub(super) const TIDCP: u64 = 1 << 20;
    pub(super) const TACR: u64 = 1 << 21;
    pub(super) const RW: u64 = 1 << 31;

    /// Everything that all guests have in common: stage 2 on, interrupts and SErrors to EL2, `wfi`, `smc`, ID
    /// registers and implementation-defined registers trapped, set/way invalidation made harmless.
    pub(super) const GUEST: u64 =
        VM | SWIO | PTW | FMO | IMO | AMO | FB | BSU_INNER | TWI | TID3 | TSC | TIDCP | TACR;
}

/// EL1h with D, A, I and F masked (SPSR_EL1 layout, Arm ARM C5.2.19).
const PSTATE_EL1H_MASKED: u64 = 0x3c5;
/// SCTLR_EL1 after reset: MMU and caches off, the bits that are RES1 set.
const SCTLR_RESET: u64 = 0x00c5_0078;

/// FP and SIMD registers.
#[derive(Clone)]
#[repr(C, align(16))]
struct Simd {
    v: [u128; 32],
    fpcr: u64,
    fpsr: u64,
}

/// A vCPU's machine state while it is not loaded.
#[derive(Clone)]
pub struct Context {
    hcr: u64,
    vmpidr: u64,
    counter_offset: u64,
    sctlr: u64,
    cpacr: u64,
    ttbr0: u64,
    ttbr1: u64,
    tcr: u64,
    mair: u64,
    amair: u64,
    vbar: u64,
    esr: u64,
    far: u64,
    afsr0: u64,
    afsr1: u64,
    contextidr: u64,
    tpidr_el0: u64,
    tpidrro_el0: u64,
    tpidr_el1: u64,
    sp_el0: u64,
    sp_el1: u64,
    elr: u64,
    spsr: u64,
    csselr: u64,
    par: u64,
    cntkctl: u64,
    timer: TimerState,
    aarch32: Aarch32,
    simd: Simd,
    /// Virtual CPU interface: kept by the GIC driver.
    pub(crate) virtual_interface: crate::gic::VcpuInterface,
}

/// Registers that only AArch32 code at EL1 has. A 64-bit guest cannot reach them, so they are switched for 32-bit ones
/// alone.
#[derive(Clone, Default)]
struct Aarch32 {
    dacr: u64,
    ifsr: u64,
    fpexc: u64,
    spsr_abt: u64,
    spsr_und: u64,
    spsr_irq: u64,
    spsr_fiq: u64,
}

impl Context {
    /// A vCPU as after reset.
    pub(crate) fn new(spec: &ContextSpec, virtual_interface: crate::gic::VcpuInterface) -> Self {
        Self {
            hcr: hcr::GUEST | if spec.aarch32 { 0 } else { hcr::RW },
            vmpidr: spec.mpidr,
            counter_offset: spec.counter_offset,
            sctlr: SCTLR_RESET,
            cpacr: 0,
            ttbr0: 0,
            ttbr1: 0,
            tcr: 0,
            mair: 0,
            amair: 0,
            vbar: 0,
            esr: 0,
            far: 0,
            afsr0: 0,
            afsr1: 0,
            contextidr: 0,
            tpidr_el0: 0,
            tpidrro_el0: 0,
            tpidr_el1: 0,
            sp_el0: 0,
            sp_el1: 0,
            elr: 0,
            spsr: 0,
            csselr: 0,
            par: 0,
            cntkctl: 0,
            timer: TimerState::default(),
            aarch32: Aarch32::default(),
            simd: Simd { v: [0; 32], fpcr: 0, fpsr: 0 },
            virtual_interface,
        }
    }

    pub(crate) fn load(&mut self, stage2: Stage2) {
        write_sysreg!("vttbr_el2", stage2.root.0 | u64::from(stage2.vmid) << 48);
        write_sysreg!("hcr_el2", self.hcr);
        write_sysreg!("vmpidr_el2", self.vmpidr);
        write_sysreg!("cntvoff_el2", self.counter_offset);
        write_sysreg!("sctlr_el1", self.sctlr);
        write_sysreg!("cpacr_el1", self.cpacr);
        write_sysreg!("ttbr0_el1", self.ttbr0);
        write_sysreg!("ttbr1_el1", self.ttbr1);
        write_sysreg!("tcr_el1", self.tcr);
        write_sysreg!("mair_el1", self.mair);
        write_sysreg!("amair_el1", self.amair);
        write_sysreg!("vbar_el1", self.vbar);
        write_sysreg!("esr_el1", self.esr);
        write_sysreg!("far_el1", self.far);
        write_sysreg!("afsr0_el1", self.afsr0);
        write_sysreg!("afsr1_el1", self.afsr1);
        write_sysreg!("contextidr_el1", self.contextidr);
        write_sysreg!("tpidr_el0", self.tpidr_el0);
        write_sysreg!("tpidrro_el0", self.tpidrro_el0);
        write_sysreg!("tpidr_el1", self.tpidr_el1);
        write_sysreg!("sp_el0", self.sp_el0);
        write_sysreg!("sp_el1", self.sp_el1);
        write_sysreg!("elr_el1", self.elr);
        write_sysreg!("spsr_el1", self.spsr);
        write_sysreg!("csselr_el1", self.csselr);
        write_sysreg!("par_el1", self.par);
        write_sysreg!("cntkctl_el1", self.cntkctl);
        if self.is_aarch32() {
            write_sysreg!("dacr32_el2", self.aarch32.dacr);
            write_sysreg!("ifsr32_el2", self.aarch32.ifsr);
            write_sysreg!("fpexc32_el2", self.aarch32.fpexc);
            write_sysreg!("spsr_abt", self.aarch32.spsr_abt);
            write_sysreg!("spsr_und", self.aarch32.spsr_und);
            write_sysreg!("spsr_irq", self.aarch32.spsr_irq);
            write_sysreg!("spsr_fiq", self.aarch32.spsr_fiq);
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
        self.sctlr = read_sysreg!("sctlr_el1");
        self.cpacr = read_sysreg!("cpacr_el1");
        self.ttbr0 = read_sysreg!("ttbr0_el1");
        self.ttbr1 = read_sysreg!("ttbr1_el1");
        self.tcr = read_sysreg!("tcr_el1");
        self.mair = read_sysreg!("mair_el1");
        self.amair = read_sysreg!("amair_el1");
        self.vbar = read_sysreg!("vbar_el1");
        self.esr = read_sysreg!("esr_el1");
        self.far = read_sysreg!("far_el1");
        self.afsr0 = read_sysreg!("afsr0_el1");
        self.afsr1 = read_sysreg!("afsr1_el1");
        self.contextidr = read_sysreg!("contextidr_el1");
        self.tpidr_el0 = read_sysreg!("tpidr_el0");
        self.tpidrro_el0 = read_sysreg!("tpidrro_el0");
        self.tpidr_el1 = read_sysreg!("tpidr_el1");
        self.sp_el0 = read_sysreg!("sp_el0");
        self.sp_el1 = read_sysreg!("sp_el1");
        self.elr = read_sysreg!("elr_el1");
        self.spsr = read_sysreg!("spsr_el1");
        self.csselr = read_sysreg!("csselr_el1");
        self.par = read_sysreg!("par_el1");
        self.cntkctl = read_sysreg!("cntkctl_el1");
        if self.is_aarch32() {
            self.aarch32.dacr = read_sysreg!("dacr32_el2");
            self.aarch32.ifsr = read_sysreg!("ifsr32_el2");
            self.aarch32.fpexc = read_sysreg!("fpexc32_el2");
            self.aarch32.spsr_abt = read_sysreg!("spsr_abt");
            self.aarch32.spsr_und = read_sysreg!("spsr_und");
            self.aarch32.spsr_irq = read_sysreg!("spsr_irq");
            self.aarch32.spsr_fiq = read_sysreg!("spsr_fiq");
        }
        self.simd.save();
    }

    /// Whether the guest's kernel is AArch32; only made on CPUs whose EL1 can be.
    fn is_aarch32(&self) -> bool {
        self.hcr & hcr::RW == 0
    }

    pub(crate) fn timer(&self) -> TimerState {
        self.timer
    }

    /// Every general-purpose register of an AArch32 guest is in its [`GuestRegs`] here.
    pub(crate) fn system_state(&self, _: &mut GuestRegs) -> SystemState {
        SystemState {
            sctlr: self.sctlr,
            tcr: self.tcr,
            ttbr0: self.ttbr0,
            ttbr1: self.ttbr1,
            spsr: self.spsr,
            sp_el0: self.sp_el0,
            sp_el1: self.sp_el1,
            elr: self.elr,
            spsr_fiq: self.aarch32.spsr_fiq as u32,
            spsr_irq: self.aarch32.spsr_irq as u32,
            spsr_und: self.aarch32.spsr_und as u32,
            spsr_abt: self.aarch32.spsr_abt as u32,
        }
    }

    pub(crate) fn set_system_state(&mut self, _: &GuestRegs, state: &SystemState) {
        (self.sctlr, self.tcr) = (state.sctlr, state.tcr);
        (self.ttbr0, self.ttbr1) = (state.ttbr0, state.ttbr1);
        (self.spsr, self.elr) = (state.spsr, state.elr);
        (self.sp_el0, self.sp_el1) = (state.sp_el0, state.sp_el1);
        self.aarch32.spsr_fiq = state.spsr_fiq.into();
        self.aarch32.spsr_irq = state.spsr_irq.into();
        self.aarch32.spsr_und = state.spsr_und.into();
        self.aarch32.spsr_abt = state.spsr_abt.into();
    }
}

impl Simd {
    fn load(&self) {
        // SAFETY: reads the 528 bytes of `self`; the SIMD registers it fills are a guest's, the hypervisor is compiled
        // without FP and SIMD and keeps nothing in them.
        unsafe {
            asm!(
                ".arch_extension fp",
                ".arch_extension simd",
                "ldp q0, q1, [{p}]",
                "ldp q2, q3, [{p}, #32]",
                "ldp q4, q5, [{p}, #64]",
                "ldp q6, q7, [{p}, #96]",
                "ldp q8, q9, [{p}, #128]",
                "ldp q10, q11, [{p}, #160]",
                "ldp q12, q13, [{p}, #192]",
                "ldp q14, q15, [{p}, #224]",
                "ldp q16, q17, [{p}, #256]",
                "ldp q18, q19, [{p}, #288]",
                "ldp q20, q21, [{p}, #320]",
                "ldp q22, q23, [{p}, #352]",
                "ldp q24, q25, [{p}, #384]",
                "ldp q26, q27, [{p}, #416]",
                "ldp q28, q29, [{p}, #448]",
                "ldp q30, q31, [{p}, #480]",
                "msr fpcr, {fpcr}",
                "msr fpsr, {fpsr}",
                ".arch_extension nosimd",
                ".arch_extension nofp",
                p = in(reg) &raw const self.v,
                fpcr = in(reg) self.fpcr,
                fpsr = in(reg) self.fpsr,
                options(nostack, readonly, preserves_flags),
            );
        }
    }

    fn save(&mut self) {
        // SAFETY: writes the 512 bytes of `self.v`, exclusively borrowed; see `load`.
        unsafe {
            asm!(
                ".arch_extension fp",
                ".arch_extension simd",
                "stp q0, q1, [{p}]",
                "stp q2, q3, [{p}, #32]",
                "stp q4, q5, [{p}, #64]",
                "stp q6, q7, [{p}, #96]",
                "stp q8, q9, [{p}, #128]",
                "stp q10, q11, [{p}, #160]",
                "stp q12, q13, [{p}, #192]",
                "stp q14, q15, [{p}, #224]",
                "stp q16, q17, [{p}, #256]",
                "stp q18, q19, [{p}, #288]",
                "stp q20, q21, [{p}, #320]",
                "stp q22, q23, [{p}, #352]",
                "stp q24, q25, [{p}, #384]",
                "stp q26, q27, [{p}, #416]",
                "stp q28, q29, [{p}, #448]",
                "stp q30, q31, [{p}, #480]",
                "mrs {fpcr}, fpcr",
                "mrs {fpsr}, fpsr",
                ".arch_extension nosimd",
                ".arch_extension nofp",
                p = in(reg) &raw mut self.v,
                fpcr = out(reg) self.fpcr,
                fpsr = out(reg) self.fpsr,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// Sets the EL2 controls that are the same for every guest, on this CPU.
pub(crate) fn init_traps(shape: Shape) {
    // VTCR_EL2 (Arm ARM D23.2.150): 4 KiB granule, inner-shareable write-back walks, the shape's size and start level.
    let start_level = 2 - u64::from(shape.start_level);
    let pa_range = read_sysreg!("id_aa64mmfr0_el1") & 0xf;
    let t0sz = 64 - u64::from(shape.ipa_bits);
    write_sysreg!(
        "vtcr_el2",
        1 << 31 | pa_range.min(5) << 16 | 0b11 << 12 | 0b01 << 10 | 0b01 << 8 | start_level << 6 | t0sz
    );
    // CPTR_EL2 (E2H = 0): trace, SVE and SME trap; FP and SIMD do not.
    write_sysreg!("cptr_el2", 0x33ff & !(1 << 10) | 1 << 20 | 1 << 12 | 1 << 8);
    // MDCR_EL2: debug and performance-monitor registers trap; no counters for EL2.
    let counters = read_sysreg!("mdcr_el2") & 0x1f;
    write_sysreg!("mdcr_el2", 1 << 11 | 1 << 10 | 1 << 9 | 1 << 6 | 1 << 5 | counters);
    write_sysreg!("hstr_el2", 0);
    write_sysreg!("vpidr_el2", read_sysreg!("midr_el1"));
    isb!();
}

/// Bits of physical address of this CPU (ID_AA64MMFR0_EL1.PARange).
pub fn physical_address_bits() -> u8 {
    match read_sysreg!("id_aa64mmfr0_el1") & 0xf {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        _ => 48,
    }
}

/// Runs the loaded vCPU until it traps.
#[inline]
pub(crate) fn run(regs: &mut GuestRegs, _: &mut Context) -> Trap {
    match vectors::enter(regs) {
        vectors::EXIT_SYNC => syndrome::decode(read_sysreg!("esr_el2")),
        vectors::EXIT_INTERRUPT => Trap::Interrupt,
        vectors::EXIT_SYNC_AARCH32 => syndrome::decode_aarch32(read_sysreg!("esr_el2"), regs.pstate),
        _ => Trap::SystemError { syndrome: read_sysreg!("esr_el2") },
    }
}

/// The address that faulted, of a data access or an instruction fetch.
#[inline]
pub(crate) fn fault_va(_instruction: bool) -> GuestVa {
    GuestVa(read_sysreg!("far_el2"))
}

/// HPFAR_EL2.
#[inline]
pub(crate) fn fault_ipa() -> u64 {
    read_sysreg!("hpfar_el2")
}

/// Walks the loaded vCPU's stage 1 for its kernel's read of `va`: the page, in intermediate physical space.
pub(crate) fn walk_stage1(va: GuestVa) -> Option<Ipa> {
    let saved = read_sysreg!("par_el1");
    // SAFETY: an address translation changes PAR_EL1 only, the guest's value of which is put back.
    unsafe { asm!("at s1e1r, {}", "isb", in(reg) va.0, options(nostack, preserves_flags)) };
    let par = read_sysreg!("par_el1");
    write_sysreg!("par_el1", saved);
    (par & 1 == 0).then_some(Ipa(par & 0x000f_ffff_ffff_f000))
}

/// Translates a virtual address of the loaded vCPU through both stages, as its EL1 would read or write.
pub(crate) fn translate(va: GuestVa, access: Access) -> Option<Pa> {
    let saved = read_sysreg!("par_el1");
    match access {
        // SAFETY: an address translation changes PAR_EL1 only, the guest's value of which is put back below.
        Access::Read => unsafe {
            asm!("at s12e1r, {}", "isb", in(reg) va.0, options(nostack, preserves_flags));
        },
        // SAFETY: as above.
        Access::Write => unsafe {
            asm!("at s12e1w, {}", "isb", in(reg) va.0, options(nostack, preserves_flags));
        },
    }
    let par = read_sysreg!("par_el1");
    write_sysreg!("par_el1", saved);
    (par & 1 == 0).then_some(Pa((par & 0x000f_ffff_ffff_f000) | va.page_offset()))
}

/// Offset of the EL1 vector for a synchronous exception from the guest's present state (Arm ARM D1.4.1).
fn synchronous_vector(pstate: u64) -> u64 {
    match pstate & 0x1f {
        0x4 => 0x000,
        0x5 => 0x200,
        0x0 => 0x400,
        _ => 0x600,
    }
}

/// PSTATE on entry to an exception at EL1 (Arm ARM, AArch64.TakeException): PAN is set unless SCTLR_EL1.SPAN says to keep
/// it, SSBS is as SCTLR_EL1.DSSBS says, DIT stays.
fn exception_pstate(old: u64, sctlr: u64) -> u64 {
    const SSBS: u64 = 1 << 12;
    const PAN: u64 = 1 << 22;
    const DIT: u64 = 1 << 24;
    const SCTLR_SPAN: u64 = 1 << 23;
    const SCTLR_DSSBS: u64 = 1 << 44;
    let has_pan = read_sysreg!("id_aa64mmfr1_el1") >> 20 & 0xf != 0;
    let pan = if sctlr & SCTLR_SPAN == 0 && has_pan { PAN } else { old & PAN };
    let ssbs = if sctlr & SCTLR_DSSBS != 0 { SSBS } else { 0 };
    PSTATE_EL1H_MASKED | pan | ssbs | old & DIT
}

fn take_exception(regs: &mut GuestRegs, esr: u64) {
    write_sysreg!("elr_el1", regs.pc);
    write_sysreg!("spsr_el1", regs.pstate);
    write_sysreg!("esr_el1", esr);
    regs.pc = read_sysreg!("vbar_el1") + synchronous_vector(regs.pstate);
    regs.pstate = exception_pstate(regs.pstate, read_sysreg!("sctlr_el1"));
}

const ESR_IL: u64 = 1 << 25;

/// Whether the loaded vCPU's kernel is AArch32; its present code may be where the kernel is AArch64, too.
fn kernel_is_aarch32() -> bool {
    read_sysreg!("hcr_el2") & hcr::RW == 0
}

/// The loaded vCPU takes an undefined-instruction exception (AArch64: EC 0, unknown reason).
pub(crate) fn inject_undefined(regs: &mut GuestRegs, _: &mut Context) {
    if kernel_is_aarch32() {
        return aarch32::take_undefined(regs);
    }
    take_exception(regs, ESR_IL);
}

/// The loaded vCPU takes a synchronous external abort at `va`.
pub(crate) fn inject_abort(regs: &mut GuestRegs, _: &mut Context, va: GuestVa, instruction: bool) {
    if kernel_is_aarch32() {
        return aarch32::take_abort(regs, va, instruction);
    }
    let from_lower = regs.pstate & 0xc == 0 || regs.is_aarch32();
    let class = if instruction { 0x20 } else { 0x24 } + u64::from(!from_lower);
    write_sysreg!("far_el1", va.0);
    take_exception(regs, class << 26 | ESR_IL | 0x10);
}

/// The value of an ID register.
pub(crate) fn id_register(register: SysReg) -> u64 {
    macro_rules! id {
        ($($fields:pat => $name:literal),* $(,)?) => {
            match register.fields() {
                $($fields => read_sysreg!($name),)*
                _ => 0,
            }
        };
    }
    id! {
        (3, 0, 0, 0, 0) => "midr_el1",
        (3, 0, 0, 1, 0) => "id_pfr0_el1",
        (3, 0, 0, 1, 1) => "id_pfr1_el1",
        (3, 0, 0, 1, 2) => "id_dfr0_el1",
        (3, 0, 0, 1, 3) => "id_afr0_el1",
        (3, 0, 0, 1, 4) => "id_mmfr0_el1",
        (3, 0, 0, 1, 5) => "id_mmfr1_el1",
        (3, 0, 0, 1, 6) => "id_mmfr2_el1",
        (3, 0, 0, 1, 7) => "id_mmfr3_el1",
        (3, 0, 0, 2, 0) => "id_isar0_el1",
        (3, 0, 0, 2, 1) => "id_isar1_el1",
        (3, 0, 0, 2, 2) => "id_isar2_el1",
        (3, 0, 0, 2, 3) => "id_isar3_el1",
        (3, 0, 0, 2, 4) => "id_isar4_el1",
        (3, 0, 0, 2, 5) => "id_isar5_el1",
        (3, 0, 0, 2, 6) => "S3_0_C0_C2_6",
        (3, 0, 0, 2, 7) => "S3_0_C0_C2_7",
        (3, 0, 0, 3, 0) => "mvfr0_el1",
        (3, 0, 0, 3, 1) => "mvfr1_el1",
        (3, 0, 0, 3, 2) => "mvfr2_el1",
        (3, 0, 0, 3, 4) => "S3_0_C0_C3_4",
        (3, 0, 0, 3, 5) => "S3_0_C0_C3_5",
        (3, 0, 0, 3, 6) => "S3_0_C0_C3_6",
        (3, 0, 0, 4, 0) => "id_aa64pfr0_el1",
        (3, 0, 0, 4, 1) => "id_aa64pfr1_el1",
        (3, 0, 0, 4, 4) => "S3_0_C0_C4_4",
        (3, 0, 0, 5, 0) => "id_aa64dfr0_el1",
        (3, 0, 0, 5, 1) => "id_aa64dfr1_el1",
        (3, 0, 0, 5, 4) => "id_aa64afr0_el1",
        (3, 0, 0, 5, 5) => "id_aa64afr1_el1",
        (3, 0, 0, 6, 0) => "id_aa64isar0_el1",
        (3, 0, 0, 6, 1) => "id_aa64isar1_el1",
        (3, 0, 0, 6, 2) => "S3_0_C0_C6_2",
        (3, 0, 0, 7, 0) => "id_aa64mmfr0_el1",
        (3, 0, 0, 7, 1) => "id_aa64mmfr1_el1",
        (3, 0, 0, 7, 2) => "S3_0_C0_C7_2",
    }
}
