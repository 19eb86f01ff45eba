//! A machine made of data structures, for tests on the host: what the hypervisor does to it can be looked at.
//!
//! Memory is sparse and every access takes one lock, so all of it is sequentially consistent. Guests are scripts: each
//! [`Processor::run`] pops the next step, which may change the guest's registers and memory and says how it trapped.
//! There is one "this CPU", which a test chooses with [`FakeMachine::set_this_cpu`].

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use spin::{Mutex, MutexGuard};

use crate::addr::{GuestVa, Ipa, PAGE_SIZE, Pa, PaRange};
use crate::machine::{
    Access, Acknowledged, BadAddress, Clock, Console, ContextSpec, CpuId, Interrupts, Intid, ListRegister,
    Memory, Power, Processor, Stage2, SystemState, TimerState, VirtualCpuInterface,
};
use crate::trap::{GuestRegs, SysReg, Trap};

/// ID_AA64PFR0_EL1 of a CPU whose EL1 and EL0 run in AArch64 and AArch32 state (Arm ARM D23.2).
const EL1_BOTH_STATES: u64 = 0x22;
const PAGE_BYTES: usize = PAGE_SIZE as usize;

/// One step of a scripted guest: runs "inside" the guest, and ends in a trap.
pub type Step = Box<dyn FnOnce(&FakeMachine, &mut GuestRegs, &mut FakeContext) -> Trap + Send>;

/// Answers how much of the heap is free, in bytes.
pub type HeapRoom = Box<dyn Fn() -> u64 + Send>;

/// An exception that the hypervisor had a vCPU take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Injected {
    /// Undefined instruction.
    Undefined,
    /// Synchronous external abort.
    Abort {
        /// Faulting guest virtual address.
        va: GuestVa,
        /// On an instruction fetch.
        instruction: bool,
    },
}

/// A vCPU's context on the fake machine.
#[derive(Clone, Debug)]
pub struct FakeContext {
    /// What it was created from.
    pub spec: ContextSpec,
    /// The guest's virtual timer; a test sets it.
    pub timer: TimerState,
    /// Exceptions taken so far, oldest first.
    pub injected: Vec<Injected>,
    /// The stage 2 it was last loaded with, while it is loaded.
    pub loaded: Option<Stage2>,
    /// What a toolstack gave it.
    pub system: SystemState,
}

/// What the fake interrupt controller has been told.
#[derive(Clone, Debug, Default)]
pub struct FakeController {
    /// Raised by the test and not yet acknowledged, oldest first.
    pub raised: VecDeque<Intid>,
    /// Let through.
    pub enabled: BTreeSet<Intid>,
    /// Edge-sensitive.
    pub edge: BTreeSet<Intid>,
    /// Where SPIs go.
    pub routes: BTreeMap<Intid, CpuId>,
    /// Active.
    pub active: BTreeSet<Intid>,
    /// Set pending by the hypervisor.
    pub pending: BTreeSet<Intid>,
    /// Priority drops, in order.
    pub ended: Vec<Intid>,
    /// CPUs kicked, in order.
    pub kicks: Vec<CpuId>,
    /// List registers of this CPU.
    pub list: Vec<ListRegister>,
    /// Underflow maintenance interrupt asked for.
    pub underflow: bool,
}

/// What the fake processor keeps.
#[derive(Default)]
struct FakeProcessor {
    script: VecDeque<Step>,
    virtual_pages: BTreeMap<u64, (Pa, bool)>,
    id_registers: BTreeMap<SysReg, u64>,
    flushes: Vec<(Stage2, Option<Ipa>)>,
    firmware: BTreeMap<u64, [u64; 4]>,
    firmware_calls: Vec<(u64, [u64; 7])>,
    alarm: Option<u64>,
}

/// What the fake UART has sent and will receive.
#[derive(Default)]
struct FakeUart {
    output: Vec<u8>,
    input: VecDeque<u8>,
    receive_interrupt: bool,
}

/// The machine. All methods take `&self`: it may be shared between threads.
pub struct FakeMachine {
    ram: Vec<PaRange>,
    pages: Mutex<BTreeMap<u64, Box<[u8]>>>,
    controller: Mutex<FakeController>,
    processor: Mutex<FakeProcessor>,
    uart: Mutex<FakeUart>,
    cpu: AtomicUsize,
    now: AtomicU64,
    frequency: u64,
    idles: AtomicU64,
    cache_cleans: AtomicU64,
    heap_room: Mutex<Option<HeapRoom>>,
    off: AtomicBool,
    reset: AtomicBool,
}

impl FakeMachine {
    /// A machine with `ram`, all zero, four list registers, a 1 MHz counter at 0, and no guest script.
    pub fn new(ram: &[PaRange]) -> Self {
        Self {
            ram: ram.to_vec(),
            pages: Mutex::new(BTreeMap::new()),
            controller: Mutex::new(FakeController {
                list: alloc::vec![ListRegister::default(); 4],
                ..FakeController::default()
            }),
            processor: Mutex::new(FakeProcessor {
                id_registers: BTreeMap::from([(SysReg::new(3, 0, 0, 4, 0), EL1_BOTH_STATES)]),
                ..FakeProcessor::default()
            }),
            uart: Mutex::new(FakeUart::default()),
            cpu: AtomicUsize::new(0),
            now: AtomicU64::new(0),
            frequency: 1_000_000,
            idles: AtomicU64::new(0),
            cache_cleans: AtomicU64::new(0),
            heap_room: Mutex::new(None),
            off: AtomicBool::new(false),
            reset: AtomicBool::new(false),
        }
    }

    /// A machine with one stretch of RAM, `size` bytes from physical address `start`.
    pub fn with_ram(start: u64, size: u64) -> Self {
        Self::new(&[PaRange { start: Pa(start), end: Pa(start.saturating_add(size)) }])
    }

    /// Sets the physical counter, in ticks.
    pub fn set_now(&self, ticks: u64) {
        self.now.store(ticks, Ordering::SeqCst);
    }
    /// The deadline last given to [`Clock::set_alarm`], in ticks of the physical counter.
    pub fn alarm(&self) -> Option<u64> {
        self.processor.lock().alarm
    }
    /// Chooses the CPU that executes from now on.
    pub fn set_this_cpu(&self, cpu: CpuId) {
        self.cpu.store(cpu, Ordering::SeqCst);
    }
    /// How often the CPU went idle.
    pub fn idles(&self) -> u64 {
        self.idles.load(Ordering::SeqCst)
    }

    /// Appends to the guest's script: the next run without a step before it stops with `trap`.
    pub fn push_trap(&self, trap: Trap) {
        self.push_step(move |_, _, _| trap);
    }
    /// Appends a step to the guest's script.
    pub fn push_step(
        &self,
        step: impl FnOnce(&FakeMachine, &mut GuestRegs, &mut FakeContext) -> Trap + Send + 'static,
    ) {
        self.processor.lock().script.push_back(Box::new(step));
    }
    /// Steps of the script that have not run yet.
    pub fn steps_left(&self) -> usize {
        self.processor.lock().script.len()
    }
    /// Has [`Processor::translate`] find the page of `va` at the page of `pa`, writable or not.
    pub fn map_virtual(&self, va: GuestVa, pa: Pa, writable: bool) {
        self.processor.lock().virtual_pages.insert(va.frame(), (pa.page(), writable));
    }
    /// Sets what an ID register reads as; others read 0, but ID_AA64PFR0_EL1 says that guests may be of either width.
    pub fn set_id_register(&self, register: SysReg, value: u64) {
        self.processor.lock().id_registers.insert(register, value);
    }
    /// TLB flushes so far: of a whole stage 2, or of one page of it.
    pub fn flushes(&self) -> Vec<(Stage2, Option<Ipa>)> {
        self.processor.lock().flushes.clone()
    }
    /// Has the firmware answer `function` with `result`; it answers others with NOT_SUPPORTED (-1 in x0).
    pub fn set_firmware(&self, function: u64, result: [u64; 4]) {
        self.processor.lock().firmware.insert(function, result);
    }
    /// Firmware calls so far, in order.
    pub fn firmware_calls(&self) -> Vec<(u64, [u64; 7])> {
        self.processor.lock().firmware_calls.clone()
    }

    /// The interrupt controller, to look at or to change. Holds its lock: drop it before the machine runs on.
    pub fn controller(&self) -> MutexGuard<'_, FakeController> {
        self.controller.lock()
    }
    /// Raises a physical interrupt: the next [`Interrupts::acknowledge`] after those before it returns it.
    pub fn raise(&self, intid: Intid) {
        self.controller.lock().raised.push_back(intid);
    }

    /// Takes what was sent to the console since the last call.
    pub fn take_console(&self) -> Vec<u8> {
        core::mem::take(&mut self.uart.lock().output)
    }
    /// Types on the console.
    pub fn type_in(&self, bytes: &[u8]) {
        self.uart.lock().input.extend(bytes);
    }
    /// Whether the UART's receive interrupt is on.
    pub fn receive_interrupt(&self) -> bool {
        self.uart.lock().receive_interrupt
    }
    /// Whether the board was turned off.
    pub fn is_off(&self) -> bool {
        self.off.load(Ordering::SeqCst)
    }
    /// Whether the board was reset.
    pub fn is_reset(&self) -> bool {
        self.reset.load(Ordering::SeqCst)
    }
    /// Calls of [`Memory::clean_dcache`] so far.
    pub fn cache_cleans(&self) -> u64 {
        self.cache_cleans.load(Ordering::SeqCst)
    }

    /// Has [`Memory::heap_room`] ask `room`; without one there is no end of it.
    pub fn set_heap_room(&self, room: HeapRoom) {
        *self.heap_room.lock() = Some(room);
    }

    /// Reads the aligned 32-bit little-endian word at `pa`, as a test wants it: panics outside RAM.
    #[expect(clippy::missing_panics_doc, reason = "the first line says it")]
    pub fn word(&self, pa: Pa) -> u32 {
        self.update_u32(pa, |_| None).expect("an aligned address in RAM")
    }
    /// Writes the aligned 32-bit little-endian word at `pa`, as a test wants it: panics outside RAM.
    #[expect(clippy::missing_panics_doc, reason = "the first line says it")]
    pub fn set_word(&self, pa: Pa, value: u32) {
        self.update_u32(pa, |_| Some(value)).expect("an aligned address in RAM");
    }

    fn check(&self, pa: Pa, len: u64) -> Result<(), BadAddress> {
        let range = PaRange::new(pa, len).ok_or(BadAddress(pa))?;
        let inside = self.ram.iter().any(|ram| ram.contains_range(range));
        if inside { Ok(()) } else { Err(BadAddress(pa)) }
    }

    fn check_aligned(&self, pa: Pa, len: u64) -> Result<(), BadAddress> {
        if pa.is_aligned(len) { self.check(pa, len) } else { Err(BadAddress(pa)) }
    }
}

/// Sparse pages: frame number to contents; an absent one reads as zero.
type Pages = BTreeMap<u64, Box<[u8]>>;

/// Calls `each(offset into the transfer, frame, offset in the page, length)` for every page that `len` bytes touch.
fn by_page(pa: Pa, len: usize, mut each: impl FnMut(usize, u64, usize, usize)) {
    let mut done = 0;
    while done < len {
        let at = pa.offset(done as u64);
        let within = at.page_offset() as usize;
        let part = (PAGE_BYTES - within).min(len - done);
        each(done, at.frame(), within, part);
        done += part;
    }
}

fn peek(pages: &Pages, pa: Pa, into: &mut [u8]) {
    by_page(pa, into.len(), |done, frame, within, part| {
        let target = &mut into[done..done + part];
        match pages.get(&frame) {
            Some(page) => target.copy_from_slice(&page[within..within + part]),
            None => target.fill(0),
        }
    });
}

fn poke(pages: &mut Pages, pa: Pa, from: &[u8]) {
    by_page(pa, from.len(), |done, frame, within, part| {
        let page = pages.entry(frame).or_insert_with(|| alloc::vec![0; PAGE_BYTES].into_boxed_slice());
        page[within..within + part].copy_from_slice(&from[done..done + part]);
    });
}

impl Memory for FakeMachine {
    fn read(&self, pa: Pa, into: &mut [u8]) -> Result<(), BadAddress> {
        self.check(pa, into.len() as u64)?;
        peek(&self.pages.lock(), pa, into);
        Ok(())
    }
    fn write(&self, pa: Pa, from: &[u8]) -> Result<(), BadAddress> {
        self.check(pa, from.len() as u64)?;
        poke(&mut self.pages.lock(), pa, from);
        Ok(())
    }
    fn copy(&self, to: Pa, from: Pa, len: u64) -> Result<(), BadAddress> {
        self.check(to, len)?;
        self.check(from, len)?;
        let mut bytes = alloc::vec![0; len as usize];
        let mut pages = self.pages.lock();
        peek(&pages, from, &mut bytes);
        poke(&mut pages, to, &bytes);
        Ok(())
    }
    fn zero(&self, pa: Pa, len: u64) -> Result<(), BadAddress> {
        self.check(pa, len)?;
        let mut pages = self.pages.lock();
        // Absent pages are zero already, so gigabytes cost what was written to them.
        let end = pa.offset(len);
        for (&frame, page) in pages.range_mut(pa.frame()..=end.frame()) {
            let from = if frame == pa.frame() { pa.page_offset() as usize } else { 0 };
            let to = if frame == end.frame() { end.page_offset() as usize } else { PAGE_BYTES };
            page[from..to].fill(0);
        }
        Ok(())
    }
    fn heap_room(&self) -> u64 {
        self.heap_room.lock().as_ref().map_or(u64::MAX, |room| room())
    }
    fn read_u64(&self, pa: Pa) -> Result<u64, BadAddress> {
        self.check_aligned(pa, 8)?;
        let mut bytes = [0; 8];
        peek(&self.pages.lock(), pa, &mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }
    fn write_u64(&self, pa: Pa, value: u64) -> Result<(), BadAddress> {
        self.check_aligned(pa, 8)?;
        poke(&mut self.pages.lock(), pa, &value.to_le_bytes());
        Ok(())
    }
    fn update_u32(&self, pa: Pa, mut f: impl FnMut(u32) -> Option<u32>) -> Result<u32, BadAddress> {
        self.check_aligned(pa, 4)?;
        let mut pages = self.pages.lock();
        let mut bytes = [0; 4];
        peek(&pages, pa, &mut bytes);
        let old = u32::from_le_bytes(bytes);
        if let Some(new) = f(old) {
            poke(&mut pages, pa, &new.to_le_bytes());
        }
        Ok(old)
    }
    fn clean_dcache(&self, pa: Pa, len: u64) -> Result<(), BadAddress> {
        self.check(pa, len)?;
        self.cache_cleans.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Puts `intid` into `set`, or takes it out.
fn mark(set: &mut BTreeSet<Intid>, intid: Intid, on: bool) {
    if on {
        set.insert(intid);
    } else {
        set.remove(&intid);
    }
}

impl Interrupts for FakeMachine {
    fn acknowledge(&self) -> Option<Acknowledged> {
        let mut controller = self.controller.lock();
        let intid = controller.raised.pop_front()?;
        controller.pending.remove(&intid);
        controller.active.insert(intid);
        Some(Acknowledged { intid, token: intid })
    }
    fn end(&self, interrupt: Acknowledged) {
        self.controller.lock().ended.push(interrupt.intid);
    }
    fn deactivate(&self, interrupt: Acknowledged) {
        self.controller.lock().active.remove(&interrupt.intid);
    }
    fn enable(&self, intid: Intid) {
        self.controller.lock().enabled.insert(intid);
    }
    fn disable(&self, intid: Intid) {
        self.controller.lock().enabled.remove(&intid);
    }
    fn set_edge(&self, intid: Intid, edge: bool) {
        mark(&mut self.controller.lock().edge, intid, edge);
    }
    fn route(&self, intid: Intid, cpu: CpuId) {
        self.controller.lock().routes.insert(intid, cpu);
    }
    fn set_active(&self, intid: Intid, active: bool) {
        mark(&mut self.controller.lock().active, intid, active);
    }
    fn set_pending(&self, intid: Intid, pending: bool) {
        mark(&mut self.controller.lock().pending, intid, pending);
    }
    fn intid_limit(&self) -> u32 {
        256
    }
    fn kick(&self, cpu: CpuId) {
        self.controller.lock().kicks.push(cpu);
    }
}

impl VirtualCpuInterface for FakeMachine {
    fn lr_count(&self) -> usize {
        self.controller.lock().list.len()
    }
    fn lr_read(&self, index: usize) -> ListRegister {
        self.controller.lock().list[index]
    }
    fn lr_write(&self, index: usize, value: ListRegister) {
        self.controller.lock().list[index] = value;
    }
    fn set_underflow(&self, on: bool) {
        self.controller.lock().underflow = on;
    }
}

impl Clock for FakeMachine {
    fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }
    fn frequency(&self) -> u64 {
        self.frequency
    }
    fn set_alarm(&self, deadline: Option<u64>) {
        self.processor.lock().alarm = deadline;
    }
}

impl Processor for FakeMachine {
    type Context = FakeContext;

    fn this_cpu(&self) -> CpuId {
        self.cpu.load(Ordering::SeqCst)
    }
    fn new_context(&self, spec: &ContextSpec) -> FakeContext {
        FakeContext {
            spec: *spec,
            timer: TimerState::default(),
            injected: Vec::new(),
            loaded: None,
            system: SystemState::default(),
        }
    }
    fn system_state(&self, context: &FakeContext, _: &mut GuestRegs) -> SystemState {
        context.system
    }
    fn set_system_state(&self, context: &mut FakeContext, _: &GuestRegs, state: &SystemState) {
        context.system = *state;
    }
    fn load(&self, context: &mut FakeContext, stage2: Stage2) {
        context.loaded = Some(stage2);
    }
    fn save(&self, context: &mut FakeContext) {
        context.loaded = None;
    }
    /// Panics at the end of the script: a test that runs a guest further than it wrote is wrong.
    fn run(&self, regs: &mut GuestRegs, context: &mut FakeContext) -> Trap {
        // The lock must be free while the step runs: it may well look at the machine.
        let step = self.processor.lock().script.pop_front();
        step.expect("a step left in the guest's script")(self, regs, context)
    }
    fn translate(&self, va: GuestVa, access: Access) -> Option<Pa> {
        let (page, writable) = *self.processor.lock().virtual_pages.get(&va.frame())?;
        (writable || access == Access::Read).then(|| page.offset(va.page_offset()))
    }
    fn inject_undefined(&self, _regs: &mut GuestRegs, context: &mut FakeContext) {
        context.injected.push(Injected::Undefined);
    }
    fn inject_abort(&self, _regs: &mut GuestRegs, context: &mut FakeContext, va: GuestVa, instruction: bool) {
        context.injected.push(Injected::Abort { va, instruction });
    }
    fn virtual_timer(&self, context: &FakeContext) -> TimerState {
        context.timer
    }
    fn virtual_timer_line(&self) -> bool {
        false
    }
    fn id_register(&self, register: SysReg) -> u64 {
        self.processor.lock().id_registers.get(&register).copied().unwrap_or(0)
    }
    fn idle(&self) {
        self.idles.fetch_add(1, Ordering::SeqCst);
    }
    fn flush_tlb(&self, stage2: Stage2) {
        self.processor.lock().flushes.push((stage2, None));
    }
    fn flush_tlb_page(&self, stage2: Stage2, ipa: Ipa) {
        self.processor.lock().flushes.push((stage2, Some(ipa)));
    }
    fn firmware_call(&self, function: u64, args: [u64; 7]) -> Option<[u64; 4]> {
        let mut processor = self.processor.lock();
        processor.firmware_calls.push((function, args));
        Some(processor.firmware.get(&function).copied().unwrap_or([u64::MAX, 0, 0, 0]))
    }
}

impl Power for FakeMachine {
    fn power_off(&self) {
        self.off.store(true, Ordering::SeqCst);
    }
    fn reset(&self) {
        self.reset.store(true, Ordering::SeqCst);
    }
}

impl Console for FakeMachine {
    /// Keeps the bytes as they come, without the carriage returns that a real UART adds.
    fn put(&self, bytes: &[u8]) {
        self.uart.lock().output.extend_from_slice(bytes);
    }
    fn get(&self) -> Option<u8> {
        self.uart.lock().input.pop_front()
    }
    fn enable_receive_interrupt(&self) {
        self.uart.lock().receive_interrupt = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_machine<T: crate::machine::Machine>(_: &T) {}

    #[test]
    fn memory_is_sparse_and_bounded() {
        let machine = FakeMachine::with_ram(0x4000_0000, 0x4000_0000);
        is_machine(&machine);
        machine.write(Pa(0x4000_0ffe), &[1, 2, 3, 4]).unwrap();
        assert_eq!(machine.read_u64(Pa(0x4000_0ff8)), Ok(0x0201 << 48));
        assert_eq!(machine.word(Pa(0x4000_1000)), 0x0403);
        machine.copy(Pa(0x5000_0001), Pa(0x4000_0ffe), 4).unwrap();
        let mut bytes = [0xff; 6];
        machine.read(Pa(0x5000_0000), &mut bytes).unwrap();
        assert_eq!(bytes, [0, 1, 2, 3, 4, 0]);
        machine.zero(Pa(0x4000_0000), 0x4000_0000).unwrap();
        assert_eq!(machine.word(Pa(0x4000_1000)), 0);
        assert_eq!(machine.write(Pa(0x7fff_ffff), &[0, 0]), Err(BadAddress(Pa(0x7fff_ffff))));
        assert_eq!(machine.read_u64(Pa(0x4000_0004)), Err(BadAddress(Pa(0x4000_0004))));
        assert_eq!(machine.zero(Pa(u64::MAX), 2), Err(BadAddress(Pa(u64::MAX))));
    }

    #[test]
    fn scripted_guest() {
        let machine = FakeMachine::with_ram(0, 0x1000);
        let spec = ContextSpec { mpidr: 0, counter_offset: 0, aarch32: false };
        let (mut regs, mut context) = (GuestRegs::default(), machine.new_context(&spec));
        machine.push_step(|machine, regs, _| {
            regs.set(0, u64::from(machine.word(Pa(0))));
            Trap::Hypercall { immediate: 0xEA1 }
        });
        machine.push_trap(Trap::Interrupt);
        machine.set_word(Pa(0), 42);
        assert_eq!(machine.run(&mut regs, &mut context), Trap::Hypercall { immediate: 0xEA1 });
        assert_eq!((regs.get(0), machine.steps_left()), (42, 1));
        assert_eq!(machine.run(&mut regs, &mut context), Trap::Interrupt);
    }

    #[test]
    fn translation_and_interrupts() {
        let machine = FakeMachine::with_ram(0, 0x1000);
        machine.map_virtual(GuestVa(0x1234_5678), Pa(0x9000), false);
        assert_eq!(machine.translate(GuestVa(0x1234_5abc), Access::Read), Some(Pa(0x9abc)));
        assert_eq!(machine.translate(GuestVa(0x1234_5abc), Access::Write), None);
        machine.raise(27);
        let taken = machine.acknowledge().unwrap();
        assert!(machine.controller().active.contains(&27));
        machine.end(taken);
        machine.deactivate(taken);
        assert!(machine.controller().active.is_empty() && machine.acknowledge().is_none());
    }
}
