//! The generic timer as EL2 sees it (Arm ARM DDI 0487, D12; ARMv7 ARM, chapter B8): the system counter, the hypervisor's
//! own timer, and the registers of the guest's timers, by their AArch64 names.
//!
//! Counter values and deadlines are in ticks of the system counter, `frequency` of them a second.

use core::arch::asm;

use vambrace_core::machine::TimerState;

use crate::cpu::sysregs::{read_sysreg, write_sysreg};

/// CTL: the timer runs.
pub const ENABLE: u64 = 1;
/// CTL: its interrupt is masked.
pub const IMASK: u64 = 1 << 1;
/// CTL: its condition is met.
pub const ISTATUS: u64 = 1 << 2;

fn isb() {
    // SAFETY: synchronises the instruction stream, no more.
    unsafe { asm!("isb", options(nostack, preserves_flags)) }
}

/// The physical counter now, in ticks.
#[inline]
pub fn now() -> u64 {
    // Without the ISB the counter could be read ahead of what came before.
    isb();
    read_sysreg!("cntpct_el0")
}

/// Ticks per second as firmware left them in CNTFRQ_EL0; 0 where firmware forgot.
#[inline]
pub fn frequency() -> u64 {
    read_sysreg!("cntfrq_el0") & 0xffff_ffff
}

/// Sets this CPU's timers up for a hypervisor: its own off, the guest's virtual one off and unshifted, EL1 and EL0 kept
/// off the physical timer but not the physical counter (CNTHCTL_EL2.EL1PCEN clear, EL1PCTEN set).
pub fn init_cpu() {
    const EL1PCTEN: u64 = 1;
    write_sysreg!("cnthctl_el2", EL1PCTEN);
    write_sysreg!("cnthp_ctl_el2", IMASK);
    write_sysreg!("cntv_ctl_el0", IMASK);
    write_sysreg!("cntp_ctl_el0", IMASK);
    write_sysreg!("cntvoff_el2", 0);
    isb();
}

/// Arms this CPU's hypervisor timer (CNTHP) for the physical counter value `deadline`, or turns it off.
#[inline]
pub fn set_alarm(deadline: Option<u64>) {
    match deadline {
        Some(deadline) => {
            write_sysreg!("cnthp_cval_el2", deadline);
            write_sysreg!("cnthp_ctl_el2", ENABLE);
        }
        None => write_sysreg!("cnthp_ctl_el2", IMASK),
    }
    isb();
}

/// Whether this CPU's hypervisor timer is armed and past its deadline.
#[inline]
pub fn alarm_due() -> bool {
    read_sysreg!("cnthp_ctl_el2") & (ENABLE | ISTATUS) == ENABLE | ISTATUS
}

/// What the loaded vCPU's virtual counter is behind the physical one, in ticks (CNTVOFF_EL2).
#[inline]
pub fn set_virtual_offset(offset: u64) {
    write_sysreg!("cntvoff_el2", offset);
}

/// The guest's virtual timer as it stands in this CPU.
#[inline]
pub fn virtual_timer() -> TimerState {
    TimerState { control: read_sysreg!("cntv_ctl_el0"), compare: read_sysreg!("cntv_cval_el0") }
}

/// Puts a guest's virtual timer into this CPU. Its offset is set before: see [`set_virtual_offset`].
#[inline]
pub fn set_virtual_timer(state: TimerState) {
    write_sysreg!("cntv_cval_el0", state.compare);
    write_sysreg!("cntv_ctl_el0", state.control & (ENABLE | IMASK));
}

/// Turns the virtual timer of this CPU off, so that it raises nothing while no vCPU is loaded.
#[inline]
pub fn stop_virtual_timer() {
    write_sysreg!("cntv_ctl_el0", IMASK);
}

/// CNTKCTL_EL1 of the loaded vCPU: what its EL0 may read.
#[inline]
pub fn kernel_control() -> u64 {
    read_sysreg!("cntkctl_el1")
}

/// Writes CNTKCTL_EL1 of the loaded vCPU.
#[inline]
pub fn set_kernel_control(value: u64) {
    write_sysreg!("cntkctl_el1", value);
}

/// Ticks in `microseconds`. Where firmware forgot the frequency the time is long rather than short.
fn ticks(microseconds: u64) -> u64 {
    let frequency = match frequency() {
        0 => 1_000_000_000,
        ticks => ticks.max(1_000_000),
    };
    frequency * microseconds / 1_000_000
}

/// Waits at least so long.
pub fn delay(microseconds: u32) {
    let (begin, ticks) = (now(), ticks(microseconds.into()));
    while now().wrapping_sub(begin) < ticks {
        core::hint::spin_loop();
    }
}

/// Asks `ready` until it holds, for a second at most. False means that it never did.
pub fn wait_a_second(mut ready: impl FnMut() -> bool) -> bool {
    let (begin, ticks) = (now(), ticks(1_000_000));
    loop {
        if ready() {
            return true;
        }
        if now().wrapping_sub(begin) > ticks {
            return false;
        }
        core::hint::spin_loop();
    }
}
