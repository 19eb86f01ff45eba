//! The machine that `core` runs on: its traits, answered by the drivers of this crate.

use vambrace_core::addr::{GuestVa, Ipa, Pa, PaRange};
use vambrace_core::machine::{
    Access, Acknowledged, BadAddress, Clock, Console, ContextSpec, CpuId, Interrupts, Intid, ListRegister,
    Memory, Power, Processor, Stage2, SystemState, TimerState, VirtualCpuInterface,
};
use vambrace_core::p2m::Shape;
use vambrace_core::platform;
use vambrace_core::platform::{Cpu, Psci};
use vambrace_core::trap::{GuestRegs, SysReg, Trap};

use crate::cpu::tlb;
use crate::cpu::world::{self, Context};
use crate::gic::{Gic, GicError};
use crate::memory::Reach;
use crate::panic::{console, stop_if_panicking};
use crate::sequence::{self, Host};
use crate::{firmware, heap, mmu, smp, timer};

/// A machine of either width.
pub struct Arm {
    reach: Reach,
    gic: Gic,
    psci: Option<Psci>,
    power: platform::Power,
}

impl Arm {
    /// A machine with the given RAM, which is mapped, its interrupt controller, its firmware, and its ways
    /// to end. The console is [`crate::panic::console`].
    pub fn new(ram: &[PaRange], gic: Gic, psci: Option<Psci>, power: platform::Power) -> Self {
        Self { reach: Reach::new(ram), gic, psci, power }
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

    /// Starts another CPU as number `number`, in the way that the device tree says.
    pub fn start_cpu(&self, number: CpuId, cpu: &Cpu) -> Result<(), smp::StartError> {
        smp::start(number, cpu, self.psci.as_ref(), self)
    }
}

impl Host for Arm {
    fn call_firmware(&self, function: u32) -> bool {
        self.firmware_call(function.into(), [0; 7]).is_some()
    }
    fn interrupt_others(&self) {
        self.gic.call_others();
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
    fn heap_room(&self) -> u64 {
        heap::room()
    }
    fn heap_limit(&self) -> Pa {
        // Whole blocks, and the last byte's successor has an address too.
        Pa(mmu::LIMIT - (2 << 20))
    }
}

impl Interrupts for Arm {
    fn acknowledge(&self) -> Option<Acknowledged> {
        stop_if_panicking();
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
    fn system_state(&self, context: &Context, regs: &mut GuestRegs) -> SystemState {
        context.system_state(regs)
    }
    fn set_system_state(&self, context: &mut Context, regs: &GuestRegs, state: &SystemState) {
        context.set_system_state(regs, state);
    }
    #[inline]
    fn run(&self, regs: &mut GuestRegs, context: &mut Context) -> Trap {
        world::run(regs, context)
    }
    fn translate(&self, va: GuestVa, access: Access) -> Option<Pa> {
        world::translate(va, access)
    }
    fn inject_undefined(&self, regs: &mut GuestRegs, context: &mut Context) {
        world::inject_undefined(regs, context);
    }
    fn inject_abort(&self, regs: &mut GuestRegs, context: &mut Context, va: GuestVa, instruction: bool) {
        world::inject_abort(regs, context, va, instruction);
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
        unsafe { core::arch::asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
    }
    fn flush_tlb(&self, stage2: Stage2) {
        tlb::flush(stage2);
    }
    fn flush_tlb_page(&self, stage2: Stage2, ipa: Ipa) {
        tlb::flush_page(stage2, ipa);
    }
    fn firmware_call(&self, function: u64, args: [u64; 7]) -> Option<[u64; 4]> {
        firmware::call(self.psci.as_ref()?, function, args)
    }
}

impl Power for Arm {
    fn power_off(&self) {
        sequence::end(&self.power.off, self);
    }
    fn reset(&self) {
        sequence::end(&self.power.reset, self);
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
