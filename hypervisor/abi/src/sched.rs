//! `sched_op`: yielding, shutting down, polling (`sched.h`).
//!
//! `x0` is one of `SCHEDOP_*`, `x1` the guest virtual address of its structure.

use crate::domid::DomId;
use crate::event_channel::EvtchnPort;
use crate::handle::XenHandle;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Give up the CPU for now. No argument.
pub const SCHEDOP_YIELD: u32 = 0;
/// Unmask events and wait for one. No argument.
pub const SCHEDOP_BLOCK: u32 = 1;
/// Halt the caller's domain: [`SchedShutdown`]. Does not return, except after a resumed suspend.
pub const SCHEDOP_SHUTDOWN: u32 = 2;
/// Wait until one of some events is pending: [`SchedPoll`].
pub const SCHEDOP_POLL: u32 = 3;
/// Declare another domain shut down: [`SchedRemoteShutdown`].
pub const SCHEDOP_REMOTE_SHUTDOWN: u32 = 4;
/// Set the reason that a later shutdown without one will have: [`SchedShutdown`].
pub const SCHEDOP_SHUTDOWN_CODE: u32 = 5;
/// Set, poke or clear a watchdog: [`SchedWatchdog`].
pub const SCHEDOP_WATCHDOG: u32 = 6;
/// Pin the caller's vCPU to a physical CPU for a moment: [`SchedPinOverride`].
pub const SCHEDOP_PIN_OVERRIDE: u32 = 7;
/// Off.
pub const SHUTDOWN_POWEROFF: u32 = 0;
/// Restart.
pub const SHUTDOWN_REBOOT: u32 = 1;
/// Save the suspend record.
pub const SHUTDOWN_SUSPEND: u32 = 2;
/// The guest crashed.
pub const SHUTDOWN_CRASH: u32 = 3;
/// A watchdog ran out: restart.
pub const SHUTDOWN_WATCHDOG: u32 = 4;
/// Start over with memory kept.
pub const SHUTDOWN_SOFT_RESET: u32 = 5;
/// Largest valid reason.
pub const SHUTDOWN_MAX: u32 = 5;

/// `SCHEDOP_shutdown`, `SCHEDOP_shutdown_code`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct SchedShutdown {
    /// One of `SHUTDOWN_*`.
    pub reason: u32,
}

/// `SCHEDOP_poll`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct SchedPoll {
    /// The ports to wait for.
    pub ports: XenHandle<EvtchnPort>,
    /// How many; at most 128.
    pub nr_ports: u32,
    /// Implicit in C.
    pub _pad: [u8; 4],
    /// System time in nanoseconds at which to give up; 0 never.
    pub timeout: u64,
}

/// `SCHEDOP_remote_shutdown`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct SchedRemoteShutdown {
    /// The domain.
    pub domain_id: DomId,
    /// Implicit in C.
    pub _pad: [u8; 2],
    /// One of `SHUTDOWN_*`.
    pub reason: u32,
}

/// `SCHEDOP_watchdog`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct SchedWatchdog {
    /// In: 0 asks for a new watchdog, whose number is the answer.
    pub id: u32,
    /// Seconds until it fires; 0 removes it.
    pub timeout: u32,
}

/// `SCHEDOP_pin_override`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct SchedPinOverride {
    /// The physical CPU; negative ends the override.
    pub pcpu: i32,
}
