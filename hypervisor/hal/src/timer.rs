//! The generic timer as EL2 sees it (Arm ARM DDI 0487, D12; ARMv7 ARM, chapter B8): the system counter, the hypervisor's
//! own timer, and the registers of the guest's timers, by their AArch64 names.
//!
//! Counter values and deadlines are in ticks of the system counter, `frequency` of them a second.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};

use vambrace_core::machine::TimerState;

use crate::cpu::sysregs::{read_sysreg, write_sysreg};

/// CTL: the timer runs.
pub const ENABLE: u64 = 1;
/// CTL: its interrupt is masked.
pub const IMASK: u64 = 1 << 1;

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

/// Ticks per second where CNTFRQ_EL0 does not count, else 0.
static FREQUENCY: AtomicU32 = AtomicU32::new(0);

/// Ticks per second: what the board's description says, or what firmware left in CNTFRQ_EL0; 0 where neither does.
#[inline]
pub fn frequency() -> u64 {
    match FREQUENCY.load(Ordering::Relaxed) {
        0 => read_sysreg!("cntfrq_el0") & 0xffff_ffff,
        known => known.into(),
    }
}

/// Has the counter run at `frequency` ticks per second, whatever firmware left in CNTFRQ_EL0.
pub fn set_frequency(frequency: u32) {
    FREQUENCY.store(frequency, Ordering::Relaxed);
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

/// The guest's virtual timer as it stands in this CPU.
#[inline]
pub fn virtual_timer() -> TimerState {
    TimerState { control: read_sysreg!("cntv_ctl_el0"), compare: read_sysreg!("cntv_cval_el0") }
}

/// Ticks in `microseconds`. Where firmware forgot the frequency the time is long rather than short.
// On no path where its call would count, and called from several.
#[inline(never)]
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

/// Waits for interrupts, for a second: those that come, though masked, only end one wait of several.
///
/// The hypervisor's timer is what ends the last one. It stays armed, and due: whoever handles its interrupt arms it anew.
pub fn idle_a_second() {
    let (begin, ticks) = (now(), ticks(1_000_000));
    set_alarm(Some(begin.saturating_add(ticks)));
    while now().wrapping_sub(begin) < ticks {
        // SAFETY: waits, no more.
        unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
    }
}
