//! What a CPU does for ever: pick a vCPU, run it until it traps, handle the trap, see whether to go on.
//!
//! ```text
//!   run_cpu: pick --none--> arm timer, idle, take interrupts --+
//!              |                                               |
//!              v                                               |
//!            load -> [ flush list registers -> guest -> sync ] |
//!                        ^                         |           |
//!                        +--- Resume --- handle <--+           |
//!                                          |                   |
//!            save <- Yield / Block / Off <-+                   |
//!              +-----------------------------------------------+
//! ```

use core::hint::spin_loop;
use core::sync::atomic::Ordering;

use vambrace_abi::sched::SHUTDOWN_WATCHDOG;
use vambrace_abi::vcpu::{RUNSTATE_BLOCKED, RUNSTATE_OFFLINE, RUNSTATE_RUNNABLE};

use crate::domain::{NOWHERE, PhysicalTimer, Seat, VcpuRun};
use crate::hypercall;
use crate::hypervisor::Hypervisor;
use crate::machine::{CpuId, Machine};
use crate::sched::mask::each;
use crate::sched::{CpuMask, Demand, Idleness, Leave, Waited};
use crate::timers::Due;
use crate::trap::Trap;
use crate::vgic::Effects;
use crate::{coprocessor, emulate, vpsci};

/// What to do with a vCPU after a trap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Back into the guest.
    Resume,
    /// Let others run, if any wait.
    Yield,
    /// Wait for an interrupt or event.
    Block,
    /// It is switched off.
    Offline,
}

/// Control bits of a timer (Arm ARM, CNTV_CTL_EL0).
const TIMER_ENABLE: u64 = 1;
const TIMER_MASKED: u64 = 2;

/// No priority mask: the guest's own is in its CPU interface, which a WFI does not look at either.
const ANY_PRIORITY: u8 = 0xff;

/// Immediate of Xen's hypercall instruction.
const XEN_HVC: u16 = vambrace_abi::arch_arm::XEN_HYPERCALL_TAG;

impl<M: Machine> Hypervisor<M> {
    /// Runs vCPUs on `cpu`, which takes work already ([`Scheduler::cpu_online`](crate::sched::Scheduler::cpu_online)), for
    /// ever.
    pub fn run_cpu(&self, cpu: CpuId) -> ! {
        loop {
            self.round(cpu);
        }
    }

    /// One turn: a vCPU from load to save, or one sleep.
    pub fn round(&self, cpu: CpuId) {
        let (turn, kicks) = self.scheduler.pick(cpu, self.machine.now());
        self.kick_all(kicks);
        match turn {
            Some(turn) => self.run_seat(cpu, &turn.payload, turn.waited),
            None => {
                self.arm_alarm(cpu);
                self.machine.idle();
                self.take_interrupts(cpu, None);
            }
        }
    }

    /// Has CPUs leave their guests or their sleep.
    pub fn kick_all(&self, cpus: CpuMask) {
        each(cpus).for_each(|cpu| self.kick(cpu));
    }

    fn run_seat(&self, cpu: CpuId, seat: &Seat<M>, waited: Waited) {
        let vcpu = &seat.vcpu;
        let index = usize::from(vcpu.key.vcpu);
        let mut guard = vcpu.run.lock();
        let run = &mut *guard;
        self.take(cpu, seat, run, waited);
        let how = loop {
            match self.scheduler.demand(cpu) {
                Demand::None => {}
                Demand::Rearm => self.arm_alarm(cpu),
                Demand::Leave => break Leave::Preempted,
            }
            if vcpu.attention.load(Ordering::SeqCst) {
                vcpu.attention.store(false, Ordering::SeqCst);
                if vcpu.timer_due.swap(false, Ordering::SeqCst) {
                    self.update_physical_timer(cpu, seat, &mut run.physical_timer);
                }
                let mut effects = Effects::new(self, &seat.domain, Some(index));
                let may_enter = {
                    let mut vgic = seat.domain.vgic.lock();
                    let may_enter = vgic.flush(index, &self.machine, &mut effects);
                    if vcpu.private_changed.swap(false, Ordering::SeqCst) {
                        self.set_timer_active(vgic.hardware_active(index));
                    }
                    may_enter
                };
                effects.tell();
                if !may_enter {
                    // Another vCPU is looking at this one's interrupts.
                    vcpu.attention.store(true, Ordering::SeqCst);
                    spin_loop();
                    continue;
                }
            }
            let trap = self.machine.run(&mut run.regs, &mut run.context);
            match self.handle(cpu, seat, run, trap) {
                Next::Resume => {}
                Next::Yield if !self.scheduler.anyone_waiting(cpu) => {}
                Next::Yield => break Leave::Preempted,
                Next::Block if self.has_interrupt(seat, index) => self.end_poll(seat),
                Next::Block => break Leave::Blocked,
                Next::Offline => break Leave::Offline,
            }
        };
        self.put(cpu, seat, run, how);
        drop(guard);
        let woken = || {
            vcpu.timer_due.load(Ordering::SeqCst)
                || vcpu.poll.is_over()
                || seat.domain.vgic.lock().deliverable(index, ANY_PRIORITY)
        };
        if how == Leave::Blocked && woken() {
            // Raised between the last look and the block: see `sched`'s "no wake-up is lost".
            if let Some(other) = self.scheduler.wake(vcpu.key, self.machine.now()) {
                self.kick(other);
            }
        }
    }

    /// Whether the vCPU, which is loaded here, has an interrupt to take.
    fn has_interrupt(&self, seat: &Seat<M>, index: usize) -> bool {
        let mut effects = Effects::new(self, &seat.domain, Some(index));
        let mut vgic = seat.domain.vgic.lock();
        vgic.sync(index, &self.machine, &mut effects);
        seat.vcpu.attention.store(true, Ordering::SeqCst);
        let has = vgic.deliverable(index, ANY_PRIORITY)
            || seat.vcpu.timer_due.load(Ordering::SeqCst)
            || seat.vcpu.poll.is_over();
        drop(vgic);
        effects.tell();
        has
    }

    /// Loads a vCPU that was picked for this CPU.
    fn take(&self, cpu: CpuId, seat: &Seat<M>, run: &mut VcpuRun<M>, waited: Waited) {
        let vcpu = &seat.vcpu;
        if let Some((on, deadline)) = run.wake_armed.take()
            && let Some(timers) = self.timers(on)
        {
            timers.lock().cancel(deadline, vcpu.key, Due::Wake);
        }
        self.end_poll(seat);
        {
            let mut runstate = seat.vcpu.runstate.lock();
            let [runnable, offline] = [waited.runnable, waited.offline].map(|t| self.nanoseconds(t));
            runstate.run(self.system_time(), runnable, offline);
            runstate.publish(&self.machine, seat.domain.runstate_update_flag());
        }
        self.machine.load(&mut run.context, seat.domain.stage2);
        // Asked anew: another vCPU may have changed it through this one's redistributor.
        self.set_timer_active(seat.domain.vgic.lock().hardware_active(usize::from(vcpu.key.vcpu)));
        vcpu.running_on.store(cpu, Ordering::SeqCst);
        vcpu.attention.store(true, Ordering::SeqCst);
        self.arm_alarm(cpu);
    }

    /// Saves a vCPU and gives its CPU up.
    fn put(&self, cpu: CpuId, seat: &Seat<M>, run: &mut VcpuRun<M>, how: Leave) {
        let vcpu = &seat.vcpu;
        let index = usize::from(vcpu.key.vcpu);
        let mut effects = Effects::new(self, &seat.domain, Some(index));
        let timer_in_flight = {
            let mut vgic = seat.domain.vgic.lock();
            vgic.unload(index, &self.machine, &mut effects);
            vgic.hardware_active(index) & self.timer_bit() != 0
        };
        effects.tell();
        self.machine.save(&mut run.context);
        self.set_timer_active(0);
        if how == Leave::Blocked && !timer_in_flight {
            let timer = self.machine.virtual_timer(&run.context);
            if timer.control & (TIMER_ENABLE | TIMER_MASKED) == TIMER_ENABLE
                && let Some(timers) = self.timers(cpu)
            {
                let deadline = timer.compare.saturating_add(seat.domain.counter_offset);
                timers.lock().arm(deadline, vcpu.key, Due::Wake);
                run.wake_armed = Some((cpu, deadline));
            }
        }
        if how == Leave::Offline {
            run.physical_timer.control = 0;
            self.update_physical_timer(cpu, seat, &mut run.physical_timer);
        }
        // From here on another CPU may pick the vCPU, but it waits for `run` before it loads it.
        let (idleness, kicks) = self.scheduler.leave(cpu, how, self.machine.now());
        {
            let mut runstate = vcpu.runstate.lock();
            let state = match idleness {
                Some(Idleness::Runnable) => RUNSTATE_RUNNABLE,
                Some(Idleness::Blocked) => RUNSTATE_BLOCKED,
                Some(Idleness::Offline) | None => RUNSTATE_OFFLINE,
            };
            runstate.enter(state, self.system_time());
            runstate.publish(&self.machine, seat.domain.runstate_update_flag());
        }
        vcpu.running_on.store(NOWHERE, Ordering::SeqCst);
        self.kick_all(kicks);
    }

    /// Counter ticks in nanoseconds.
    #[inline]
    pub(crate) fn nanoseconds(&self, ticks: u64) -> u64 {
        const SECOND: u64 = 1_000_000_000;
        let frequency = self.machine.frequency().max(1);
        match ticks.checked_mul(SECOND) {
            Some(product) => product / frequency,
            None => (u128::from(ticks) * u128::from(SECOND) / u128::from(frequency)) as u64,
        }
    }

    /// The bit of the host's virtual timer among the PPIs.
    fn timer_bit(&self) -> u32 {
        1u32.checked_shl(self.settings.interrupts.virtual_timer).unwrap_or(0)
    }

    /// Has this CPU's virtual timer interrupt be active exactly if it is among `ppis`: it is while the loaded vCPU has
    /// its virtual counterpart pending or active.
    fn set_timer_active(&self, ppis: u32) {
        self.machine.set_active(self.settings.interrupts.virtual_timer, ppis & self.timer_bit() != 0);
    }

    #[inline]
    fn handle(&self, cpu: CpuId, seat: &Seat<M>, run: &mut VcpuRun<M>, trap: Trap) -> Next {
        match trap {
            Trap::Hypercall { immediate: XEN_HVC } => hypercall::dispatch(self, cpu, seat, run),
            Trap::Hypercall { immediate: 0 } => vpsci::call(self, seat, run),
            Trap::Hypercall { .. } => {
                // Not ours: the architecture has no answer, so the guest finds it undefined at the `hvc` itself.
                run.regs.pc = run.regs.pc.wrapping_sub(4);
                self.machine.inject_undefined(&mut run.regs, &mut run.context);
                Next::Resume
            }
            Trap::SecureCall { immediate: 0 } => {
                run.regs.skip(4);
                vpsci::call(self, seat, run)
            }
            Trap::SystemRegister { register, write, reg } => {
                emulate::system_register(self, cpu, seat, run, register, write, reg)
            }
            Trap::Mmio(access) => emulate::mmio(self, seat, run, access),
            Trap::Interrupt => {
                self.take_interrupts(cpu, Some(seat));
                self.arm_alarm(cpu);
                Next::Resume
            }
            Trap::Wait { event, instruction_length } => {
                run.regs.skip(instruction_length);
                if event { Next::Yield } else { Next::Block }
            }
            Trap::MmioInBlock(access) => {
                let next = emulate::mmio(self, seat, run, access);
                // An exception that the access led to has ended the block already.
                run.regs.leave_instruction();
                next
            }
            Trap::Coprocessor(access) => coprocessor::access(self, cpu, seat, run, access),
            Trap::Skipped { instruction_length } => {
                run.regs.skip(instruction_length);
                Next::Resume
            }
            Trap::DataAbort { va, ipa, write, .. } => {
                let what = if write { "write to" } else { "read of" };
                self.guest_warning(
                    seat,
                    format_args!("{what} {ipa}, where nothing is (pc {:#x})", run.regs.pc),
                );
                self.machine.inject_abort(&mut run.regs, &mut run.context, va, false);
                Next::Resume
            }
            Trap::InstructionAbort { va, ipa } => {
                self.guest_warning(seat, format_args!("instruction fetch from {ipa}, where nothing is"));
                self.machine.inject_abort(&mut run.regs, &mut run.context, va, true);
                Next::Resume
            }
            Trap::SecureCall { .. } | Trap::Disabled => {
                self.machine.inject_undefined(&mut run.regs, &mut run.context);
                Next::Resume
            }
            Trap::SystemError { syndrome } => {
                // The error cannot be laid to an access of the hypervisor's, so it is this guest's.
                self.guest_warning(seat, format_args!("SError, syndrome {syndrome:#x}"));
                self.machine.inject_abort(&mut run.regs, &mut run.context, crate::addr::GuestVa(0), false);
                Next::Resume
            }
            Trap::Unknown { syndrome } => {
                self.guest_warning(seat, format_args!("unexpected trap, syndrome {syndrome:#x}"));
                self.machine.inject_undefined(&mut run.regs, &mut run.context);
                Next::Resume
            }
        }
    }

    /// Logs what a guest did wrong, at a bounded rate.
    pub(crate) fn guest_warning(&self, seat: &Seat<M>, what: core::fmt::Arguments<'_>) {
        let key = seat.vcpu.key;
        let second = self.system_time() / 1_000_000_000;
        self.console.warn(&self.machine, second, format_args!("d{}v{}: {what}", key.domain, key.vcpu));
    }

    /// Arms this CPU's timer for the next thing that is due.
    pub(crate) fn arm_alarm(&self, cpu: CpuId) {
        let timer = self.timers(cpu).and_then(|t| t.lock().next());
        let next = match (timer, self.scheduler.slice_end(cpu)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.machine.set_alarm(next);
    }

    /// Carries out what is due on this CPU.
    pub(crate) fn run_due(&self, cpu: CpuId) {
        let Some(timers) = self.timers(cpu) else { return };
        self.kick_all(self.scheduler.slice_over(cpu, self.machine.now()));
        loop {
            let due = timers.lock().pop_due(self.machine.now());
            let Some((key, due)) = due else { return };
            match due {
                Due::Wake => {
                    let loaded =
                        self.seat(key).is_some_and(|s| s.vcpu.running_on.load(Ordering::SeqCst) != NOWHERE);
                    if !loaded && let Some(other) = self.scheduler.wake(key, self.machine.now()) {
                        self.kick(other);
                    }
                }
                Due::PhysicalTimer => {
                    if let Some(seat) = self.seat(key) {
                        // The guest may have changed it meanwhile: whoever runs the vCPU looks.
                        seat.vcpu.timer_due.store(true, Ordering::SeqCst);
                        self.notify(&seat.vcpu);
                    }
                }
                Due::Poll => {
                    if let Some(seat) = self.seat(key) {
                        self.poll_is_over(&seat.vcpu);
                    }
                }
                Due::Watchdog => {
                    let Some(domain) = self.domain(key.domain) else { continue };
                    let bites = domain
                        .watchdogs
                        .lock()
                        .get_mut(usize::from(key.vcpu))
                        .is_some_and(|slot| slot.take_if(|(_, at)| *at <= self.machine.now()).is_some());
                    if bites {
                        self.log(format_args!("d{}: watchdog", domain.id));
                        self.shut_down(&domain, SHUTDOWN_WATCHDOG);
                    }
                }
            }
        }
    }

    /// Follows a guest's change of its physical timer: the line, and the deadline.
    pub(crate) fn update_physical_timer(&self, cpu: CpuId, seat: &Seat<M>, timer: &mut PhysicalTimer) {
        let key = seat.vcpu.key;
        if let Some((on, deadline)) = timer.armed.take()
            && let Some(timers) = self.timers(on)
        {
            timers.lock().cancel(deadline, key, Due::PhysicalTimer);
        }
        let live = timer.control & (TIMER_ENABLE | TIMER_MASKED) == TIMER_ENABLE;
        let due = self.machine.now() >= timer.compare;
        let intid = seat.domain.interrupts.physical_timer;
        self.set_line(&seat.domain, usize::from(key.vcpu), intid, live && due);
        if live
            && !due
            && let Some(timers) = self.timers(cpu)
        {
            timers.lock().arm(timer.compare, key, Due::PhysicalTimer);
            timer.armed = Some((cpu, timer.compare));
            self.arm_alarm(cpu);
        }
    }
}
