//! The machine that `core` runs on: its traits, answered by the drivers of this crate.

use core::arch::asm;

use vambrace_core::addr::{GuestVa, Ipa, Pa, PaRange};
use vambrace_core::machine::{
    Access, Acknowledged, BadAddress, Clock, Console, ContextSpec, CpuId, Interrupts, Intid, ListRegister,
    Memory, Power, Processor, Stage2, TimerState, VirtualCpuInterface,
};
use vambrace_core::p2m::Shape;
use vambrace_core::platform::{self, Psci};
use vambrace_core::trap::{GuestRegs, SysReg, Trap};

use crate::aarch64::world::{self, Context};
use crate::aarch64::{smp, sysregs};
use crate::gic::{Gic, GicError};
use crate::memory::Reach;
use crate::panic::console;
use crate::timer;

/// PSCI's SYSTEM_OFF (Arm DEN0022, 5.1.9).
const SYSTEM_OFF: u64 = 0x8400_0008;
/// PSCI's SYSTEM_RESET.
const SYSTEM_RESET: u64 = 0x8400_0009;

/// An AArch64 machine.
pub struct Arm {
    reach: Reach,
    gic: Gic,
    psci: Option<Psci>,
}

impl Arm {
    /// A machine with the given RAM, which is mapped, its interrupt controller, and its firmware. The console is
    /// [`crate::panic::console`].
    pub fn new(ram: &[PaRange], gic: Gic, psci: Option<Psci>) -> Self {
        Self { reach: Reach::new(ram), gic, psci }
    }

    /// Finds anew what of `ram` may be reached, after the heap grew.
    pub fn refresh_reach(&mut self, ram: &[PaRange]) {
        self.reach = Reach::new(ram);
    }

    /// Resets the interrupt controller. Once, on the boot CPU, before [`Arm::init_cpu`].
    pub fn init_interrupts(&self) -> Result<(), GicError> {
        self.gic.init()
    }

    /// Sets up what guests need on this CPU, number `cpu`: trap controls, timers, interrupt controller.
    pub fn init_cpu(&self, cpu: CpuId, shape: Shape) -> Result<(), GicError> {
        timer::init_cpu();
        world::init_traps(shape);
        self.gic.init_cpu(cpu)
    }

    /// How the device tree says that a CPU is started.
    pub fn start_method(&self, cpu: &platform::Cpu) -> Option<smp::StartMethod> {
        match &cpu.enable {
            platform::EnableMethod::Psci => {
                let psci = self.psci.as_ref()?;
                let cpu_on = psci.cpu_on.unwrap_or(smp::PSCI_CPU_ON_64);
                Some(smp::StartMethod::Psci { conduit: conduit(psci), cpu_on })
            }
            platform::EnableMethod::SpinTable { release } => {
                Some(smp::StartMethod::SpinTable { release: *release })
            }
            platform::EnableMethod::Board(_) | platform::EnableMethod::Unknown => None,
        }
    }

    fn psci_call(&self, function: u64) {
        if let Some(psci) = &self.psci {
            smp::firmware_call(conduit(psci), function, [0; 7]);
        }
    }
}

impl Memory for Arm {
    fn read(&self, pa: Pa, into: &mut [u8]) -> Result<(), BadAddress> {
        self.reach.read(pa, into)
    }
    fn write(&self, pa: Pa, from: &[u8]) -> Result<(), BadAddress> {
        self.reach.write(pa, from)
    }
    fn copy(&self, to: Pa, from: Pa, len: u64) -> Result<(), BadAddress> {
        self.reach.copy(to, from, len)
    }
    fn zero(&self, pa: Pa, len: u64) -> Result<(), BadAddress> {
        self.reach.zero(pa, len)
    }
    fn read_u64(&self, pa: Pa) -> Result<u64, BadAddress> {
        self.reach.read_u64(pa)
    }
    fn write_u64(&self, pa: Pa, value: u64) -> Result<(), BadAddress> {
        self.reach.write_u64(pa, value)
    }
    fn update_u32(&self, pa: Pa, f: impl FnMut(u32) -> Option<u32>) -> Result<u32, BadAddress> {
        self.reach.update_u32(pa, f)
    }
    fn clean_dcache(&self, pa: Pa, len: u64) -> Result<(), BadAddress> {
        self.reach.clean_dcache(pa, len)
    }
}

impl Interrupts for Arm {
    fn acknowledge(&self) -> Option<Acknowledged> {
        self.gic.acknowledge()
    }
    fn end(&self, interrupt: Acknowledged) {
        self.gic.end(interrupt);
    }
    fn deactivate(&self, interrupt: Acknowledged) {
        self.gic.deactivate(interrupt);
    }
    fn enable(&self, intid: Intid) {
        self.gic.enable(intid);
    }
    fn disable(&self, intid: Intid) {
        self.gic.disable(intid);
    }
    fn set_edge(&self, intid: Intid, edge: bool) {
        self.gic.set_edge(intid, edge);
    }
    fn route(&self, intid: Intid, cpu: CpuId) {
        self.gic.route(intid, cpu);
    }
    fn set_active(&self, intid: Intid, active: bool) {
        self.gic.set_active(intid, active);
    }
    fn set_pending(&self, intid: Intid, pending: bool) {
        self.gic.set_pending(intid, pending);
    }
    fn intid_limit(&self) -> u32 {
        self.gic.intid_limit()
    }
    fn kick(&self, cpu: CpuId) {
        self.gic.kick(cpu);
    }
}

impl VirtualCpuInterface for Arm {
    #[inline]
    fn lr_count(&self) -> usize {
        self.gic.lr_count()
    }
    #[inline]
    fn lr_read(&self, index: usize) -> ListRegister {
        self.gic.lr_read(index)
    }
    #[inline]
    fn lr_write(&self, index: usize, value: ListRegister) {
        self.gic.lr_write(index, value);
    }
    fn set_underflow(&self, on: bool) {
        self.gic.set_underflow(on);
    }
}

impl Clock for Arm {
    fn now(&self) -> u64 {
        timer::now()
    }
    fn frequency(&self) -> u64 {
        timer::frequency()
    }
    fn set_alarm(&self, deadline: Option<u64>) {
        timer::set_alarm(deadline);
    }
}

impl Processor for Arm {
    type Context = Context;

    fn this_cpu(&self) -> CpuId {
        smp::this_cpu()
    }
    fn new_context(&self, spec: &ContextSpec) -> Context {
        Context::new(spec, self.gic.new_vcpu())
    }
    fn load(&self, context: &mut Context, stage2: Stage2) {
        context.load(stage2);
        self.gic.load_vcpu(&context.virtual_interface);
    }
    fn save(&self, context: &mut Context) {
        self.gic.save_vcpu(&mut context.virtual_interface);
        context.save();
    }
    #[inline]
    fn run(&self, regs: &mut GuestRegs, _: &mut Context) -> Trap {
        world::run(regs)
    }
    fn translate(&self, va: GuestVa, access: Access) -> Option<Pa> {
        world::translate(va, access)
    }
    fn inject_undefined(&self, regs: &mut GuestRegs, _: &mut Context) {
        world::inject_undefined(regs);
    }
    fn inject_abort(&self, regs: &mut GuestRegs, _: &mut Context, va: GuestVa, instruction: bool) {
        world::inject_abort(regs, va, instruction);
    }
    fn virtual_timer(&self, context: &Context) -> TimerState {
        context.timer()
    }
    fn virtual_timer_line(&self) -> bool {
        timer::virtual_timer().control & 7 == 5
    }
    fn id_register(&self, register: SysReg) -> u64 {
        world::id_register(register)
    }
    fn idle(&self) {
        // SAFETY: waits; an interrupt that is pending, though masked, ends the wait.
        unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
    }
    fn flush_tlb(&self, stage2: Stage2) {
        with_vttbr(stage2, || {
            // SAFETY: dropping translations is always sound; barriers make the tables' change visible before.
            unsafe {
                asm!("dsb ishst", "tlbi vmalls12e1is", "dsb ish", "isb", options(nostack, preserves_flags));
            }
        });
    }
    fn flush_tlb_page(&self, stage2: Stage2, ipa: Ipa) {
        with_vttbr(stage2, || {
            // SAFETY: as in `flush_tlb`; the combined entries go with the second operation (Arm ARM D8.14).
            unsafe {
                asm!(
                    "dsb ishst", "tlbi ipas2e1is, {}", "dsb ish", "tlbi vmalle1is", "dsb ish", "isb",
                    in(reg) ipa.frame(),
                    options(nostack, preserves_flags)
                );
            }
        });
    }
    fn firmware_call(&self, function: u64, args: [u64; 7]) -> Option<[u64; 4]> {
        let psci = self.psci.as_ref()?;
        smp::firmware_call(conduit(psci), function, args)
    }
}

/// Runs `f` with the domain's tables and VMID in VTTBR_EL2, which TLB operations go by.
fn with_vttbr(stage2: Stage2, f: impl FnOnce()) {
    let wanted = stage2.root.0 | u64::from(stage2.vmid) << 48;
    let was = sysregs::read_sysreg!("vttbr_el2");
    if was == wanted {
        return f();
    }
    sysregs::write_sysreg!("vttbr_el2", wanted);
    sysregs::isb!();
    f();
    sysregs::write_sysreg!("vttbr_el2", was);
    sysregs::isb!();
}

fn conduit(psci: &Psci) -> smp::Conduit {
    match psci.conduit {
        platform::Conduit::Smc => smp::Conduit::Smc,
        platform::Conduit::Hvc => smp::Conduit::Hvc,
    }
}

impl Power for Arm {
    fn power_off(&self) {
        self.psci_call(SYSTEM_OFF);
    }
    fn reset(&self) {
        self.psci_call(SYSTEM_RESET);
    }
}

impl Console for Arm {
    fn put(&self, bytes: &[u8]) {
        if let Some(uart) = console() {
            uart.put(bytes);
        }
    }
    fn get(&self) -> Option<u8> {
        console()?.get()
    }
    fn enable_receive_interrupt(&self) {
        if let Some(uart) = console() {
            uart.enable_receive_interrupt();
        }
    }
}
