//! The generic timer as EL2 sees it (Arm ARM DDI 0487, D12): the system counter, the hypervisor's own timer, and the
//! registers of the guest's timers.
//!
//! Counter values and deadlines are in ticks of the system counter, `frequency` of them a second.

#[cfg(target_arch = "aarch64")]
use core::arch::asm;
#[cfg(target_arch = "aarch64")]
use vambrace_core::machine::TimerState;

/// CTL: the timer runs.
pub const ENABLE: u64 = 1;
/// CTL: its interrupt is masked.
pub const IMASK: u64 = 1 << 1;
/// CTL: its condition is met.
pub const ISTATUS: u64 = 1 << 2;

/// Reads a system register without side effects.
#[cfg(target_arch = "aarch64")]
macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: a read of a timer register changes nothing.
        unsafe {
            asm!(concat!("mrs {value}, ", $register), value = out(reg) value, options(nostack, preserves_flags));
        }
        value
    }};
}

/// Writes a timer register.
#[cfg(target_arch = "aarch64")]
macro_rules! write {
    ($register:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: timer registers touch no memory; the worst a wrong value does is an interrupt early, late or never.
        unsafe {
            asm!(concat!("msr ", $register, ", {value}"), value = in(reg) value, options(nostack, preserves_flags));
        }
    }};
}

#[cfg(target_arch = "aarch64")]
fn isb() {
    // SAFETY: synchronises the instruction stream, no more.
    unsafe { asm!("isb", options(nostack, preserves_flags)) }
}

/// The physical counter now, in ticks.
#[cfg(target_arch = "aarch64")]
#[inline]
pub fn now() -> u64 {
    // Without the ISB the counter could be read ahead of what came before.
    isb();
    read!("cntpct_el0")
}

/// Ticks per second as firmware left them in CNTFRQ_EL0; 0 where firmware forgot.
#[cfg(target_arch = "aarch64")]
#[inline]
pub fn frequency() -> u64 {
    read!("cntfrq_el0") & 0xffff_ffff
}

/// Sets this CPU's timers up for a hypervisor: its own off, the guest's virtual one off and unshifted, EL1 and EL0 kept
/// off the physical timer but not the physical counter (CNTHCTL_EL2.EL1PCEN clear, EL1PCTEN set).
#[cfg(target_arch = "aarch64")]
pub fn init_cpu() {
    const EL1PCTEN: u64 = 1;
    write!("cnthctl_el2", EL1PCTEN);
    write!("cnthp_ctl_el2", IMASK);
    write!("cntv_ctl_el0", IMASK);
    write!("cntp_ctl_el0", IMASK);
    write!("cntvoff_el2", 0);
    isb();
}

/// Arms this CPU's hypervisor timer (CNTHP) for the physical counter value `deadline`, or turns it off.
#[cfg(target_arch = "aarch64")]
#[inline]
pub fn set_alarm(deadline: Option<u64>) {
    match deadline {
        Some(deadline) => {
            write!("cnthp_cval_el2", deadline);
            write!("cnthp_ctl_el2", ENABLE);
        }
        None => write!("cnthp_ctl_el2", IMASK),
    }
    isb();
}

/// Whether this CPU's hypervisor timer is armed and past its deadline.
#[cfg(target_arch = "aarch64")]
#[inline]
pub fn alarm_due() -> bool {
    read!("cnthp_ctl_el2") & (ENABLE | ISTATUS) == ENABLE | ISTATUS
}

/// What the loaded vCPU's virtual counter is behind the physical one, in ticks (CNTVOFF_EL2).
#[cfg(target_arch = "aarch64")]
#[inline]
pub fn set_virtual_offset(offset: u64) {
    write!("cntvoff_el2", offset);
}

/// The guest's virtual timer as it stands in this CPU.
#[cfg(target_arch = "aarch64")]
#[inline]
pub fn virtual_timer() -> TimerState {
    TimerState { control: read!("cntv_ctl_el0"), compare: read!("cntv_cval_el0") }
}

/// Puts a guest's virtual timer into this CPU. Its offset is set before: see [`set_virtual_offset`].
#[cfg(target_arch = "aarch64")]
#[inline]
pub fn set_virtual_timer(state: TimerState) {
    write!("cntv_cval_el0", state.compare);
    write!("cntv_ctl_el0", state.control & (ENABLE | IMASK));
}

/// Turns the virtual timer of this CPU off, so that it raises nothing while no vCPU is loaded.
#[cfg(target_arch = "aarch64")]
#[inline]
pub fn stop_virtual_timer() {
    write!("cntv_ctl_el0", IMASK);
}

/// CNTKCTL_EL1 of the loaded vCPU: what its EL0 may read.
#[cfg(target_arch = "aarch64")]
#[inline]
pub fn kernel_control() -> u64 {
    read!("cntkctl_el1")
}

/// Writes CNTKCTL_EL1 of the loaded vCPU.
#[cfg(target_arch = "aarch64")]
#[inline]
pub fn set_kernel_control(value: u64) {
    write!("cntkctl_el1", value);
}
