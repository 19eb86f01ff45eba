//! Event channels: the asynchronous notifications of the ABI (`event_channel.h`).
//!
//! `x0` is one of `EVTCHNOP_*`, `x1` the guest virtual address of its structure. Two mechanisms carry the
//! state of a channel: the 2-level bitmaps in [`SharedInfo`](crate::shared_info::SharedInfo), and FIFO queues
//! of event words in pages that the guest gives by `EVTCHNOP_init_control` and `EVTCHNOP_expand_array`.

use crate::domid::DomId;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A domain's number for one of its channels (`evtchn_port_t`). Port 0 is never valid.
pub type EvtchnPort = u32;

/// State of one channel and its link in a FIFO queue (`event_word_t`), 32 bits in guest memory, changed
/// atomically.
pub type EventWord = u32;

/// Connect to another domain's unbound channel: [`EvtchnBindInterdomain`].
pub const EVTCHNOP_BIND_INTERDOMAIN: u32 = 0;
/// Bind a virtual interrupt: [`EvtchnBindVirq`].
pub const EVTCHNOP_BIND_VIRQ: u32 = 1;
/// Bind a physical interrupt: [`EvtchnBindPirq`]; not on ARM.
pub const EVTCHNOP_BIND_PIRQ: u32 = 2;
/// Close a channel: [`EvtchnClose`].
pub const EVTCHNOP_CLOSE: u32 = 3;
/// Notify the other end: [`EvtchnSend`].
pub const EVTCHNOP_SEND: u32 = 4;
/// Query a channel: [`EvtchnStatus`].
pub const EVTCHNOP_STATUS: u32 = 5;
/// Allocate a channel for another domain to connect to: [`EvtchnAllocUnbound`].
pub const EVTCHNOP_ALLOC_UNBOUND: u32 = 6;
/// Allocate a channel between the domain's own vCPUs: [`EvtchnBindIpi`].
pub const EVTCHNOP_BIND_IPI: u32 = 7;
/// Choose the vCPU a channel notifies: [`EvtchnBindVcpu`].
pub const EVTCHNOP_BIND_VCPU: u32 = 8;
/// Unmask a channel, and notify when it is pending: [`EvtchnUnmask`].
pub const EVTCHNOP_UNMASK: u32 = 9;
/// Close all channels of a domain and go back to 2-level: [`EvtchnReset`].
pub const EVTCHNOP_RESET: u32 = 10;
/// Give a vCPU's FIFO control block: [`EvtchnInitControl`].
pub const EVTCHNOP_INIT_CONTROL: u32 = 11;
/// Give one more page of event words: [`EvtchnExpandArray`].
pub const EVTCHNOP_EXPAND_ARRAY: u32 = 12;
/// Set a channel's FIFO priority: [`EvtchnSetPriority`].
pub const EVTCHNOP_SET_PRIORITY: u32 = 13;

/// `EVTCHNOP_alloc_unbound`. Only a privileged caller may name a `dom` other than itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct EvtchnAllocUnbound {
    /// In: domain that gets the channel, or `DOMID_SELF`.
    pub dom: DomId,
    /// In: domain that may connect.
    pub remote_dom: DomId,
    /// Out: the new port.
    pub port: EvtchnPort,
}

/// `EVTCHNOP_bind_interdomain`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct EvtchnBindInterdomain {
    /// In: domain with the unbound channel.
    pub remote_dom: DomId,
    /// Implicit in C.
    pub _pad: [u8; 2],
    /// In: its port.
    pub remote_port: EvtchnPort,
    /// Out: the caller's new port.
    pub local_port: EvtchnPort,
}

/// `EVTCHNOP_bind_virq`. A virtual interrupt is bound once per vCPU, a global one only on vCPU 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct EvtchnBindVirq {
    /// In: one of [`crate::virq`].
    pub virq: u32,
    /// In: the vCPU to notify.
    pub vcpu: u32,
    /// Out: the new port.
    pub port: EvtchnPort,
}

/// `EVTCHNOP_bind_pirq`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct EvtchnBindPirq {
    /// In: the physical interrupt.
    pub pirq: u32,
    /// In: `BIND_PIRQ__WILL_SHARE` (bit 0) or 0.
    pub flags: u32,
    /// Out: the new port.
    pub port: EvtchnPort,
}

/// `EVTCHNOP_bind_ipi`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct EvtchnBindIpi {
    /// In: the vCPU to notify.
    pub vcpu: u32,
    /// Out: the new port.
    pub port: EvtchnPort,
}

/// `EVTCHNOP_close`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct EvtchnClose {
    /// In.
    pub port: EvtchnPort,
}

/// `EVTCHNOP_send`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct EvtchnSend {
    /// In.
    pub port: EvtchnPort,
}

/// `EVTCHNOP_status`. Only a privileged caller may name a `dom` other than itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct EvtchnStatus {
    /// In: domain that owns the port.
    pub dom: DomId,
    /// Implicit in C.
    pub _pad0: [u8; 2],
    /// In: the port.
    pub port: EvtchnPort,
    /// Out: one of `EVTCHNSTAT_*`.
    pub status: u32,
    /// Out: the vCPU that is notified.
    pub vcpu: u32,
    /// Out: the remote domain in the low 16 bits (`unbound`, `interdomain`), or the interrupt (`pirq`,
    /// `virq`).
    pub info: u32,
    /// Out: the remote end's port (`interdomain`).
    pub remote_port: EvtchnPort,
}

/// `EVTCHNOP_bind_vcpu`. Not for IPI channels and per-vCPU virtual interrupts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct EvtchnBindVcpu {
    /// In.
    pub port: EvtchnPort,
    /// In: the vCPU to notify from now on.
    pub vcpu: u32,
}

/// `EVTCHNOP_unmask`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct EvtchnUnmask {
    /// In.
    pub port: EvtchnPort,
}

/// `EVTCHNOP_reset`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct EvtchnReset {
    /// In: domain to reset, or `DOMID_SELF`.
    pub dom: DomId,
}

/// `EVTCHNOP_init_control`. The first call switches the domain to FIFO.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct EvtchnInitControl {
    /// In: frame number of the page with the control block.
    pub control_gfn: u64,
    /// In: byte offset of the [`EvtchnFifoControlBlock`] in that page, a multiple of 8.
    pub offset: u32,
    /// In: whose control block it is.
    pub vcpu: u32,
    /// Out: bits of an event word that hold a link ([`EVTCHN_FIFO_LINK_BITS`]).
    pub link_bits: u8,
    /// Unused.
    pub pad: [u8; 7],
}

/// `EVTCHNOP_expand_array`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct EvtchnExpandArray {
    /// In: frame number of the page with the next 1024 event words.
    pub array_gfn: u64,
}

/// `EVTCHNOP_set_priority`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct EvtchnSetPriority {
    /// In.
    pub port: EvtchnPort,
    /// In: 0 (highest) to 15 (lowest).
    pub priority: u32,
}

/// The physical interrupt may be shared.
pub const BIND_PIRQ__WILL_SHARE: u32 = 1;
/// The port is not in use.
pub const EVTCHNSTAT_CLOSED: u32 = 0;
/// Waiting for the remote domain to connect.
pub const EVTCHNSTAT_UNBOUND: u32 = 1;
/// Connected to a remote domain.
pub const EVTCHNSTAT_INTERDOMAIN: u32 = 2;
/// Bound to a physical interrupt.
pub const EVTCHNSTAT_PIRQ: u32 = 3;
/// Bound to a virtual interrupt.
pub const EVTCHNSTAT_VIRQ: u32 = 4;
/// Bound for notifications between the domain's vCPUs.
pub const EVTCHNSTAT_IPI: u32 = 5;
/// Ports that the 2-level bitmaps have room for (both widths: the words are 64 bits).
pub const EVTCHN_2L_NR_CHANNELS: u32 = 4096;
/// Highest priority.
pub const EVTCHN_FIFO_PRIORITY_MAX: u32 = 0;
/// Priority of a channel that never got another.
pub const EVTCHN_FIFO_PRIORITY_DEFAULT: u32 = 7;
/// Lowest priority.
pub const EVTCHN_FIFO_PRIORITY_MIN: u32 = 15;
/// Queues of a vCPU, one for each priority.
pub const EVTCHN_FIFO_MAX_QUEUES: u32 = 16;
/// Bit number in an event word: the event is pending.
pub const EVTCHN_FIFO_PENDING: u32 = 31;
/// Bit number: the guest masked the event.
pub const EVTCHN_FIFO_MASKED: u32 = 30;
/// Bit number: the word is in a queue.
pub const EVTCHN_FIFO_LINKED: u32 = 29;
/// Bit number: a link is being written.
pub const EVTCHN_FIFO_BUSY: u32 = 28;
/// Width of the link, the low bits of an event word.
pub const EVTCHN_FIFO_LINK_BITS: u32 = 17;
/// The link's bits: port of the next event in the queue, 0 at its end.
pub const EVTCHN_FIFO_LINK_MASK: u32 = 0x1_FFFF;
/// Ports that FIFO has room for.
pub const EVTCHN_FIFO_NR_CHANNELS: u32 = 0x2_0000;

/// A vCPU's FIFO queues, in guest memory. The hypervisor sets bits of `ready`, the guest clears them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct EvtchnFifoControlBlock {
    /// Bit `p` set: the queue of priority `p` holds events.
    pub ready: u32,
    /// Reserved, 0.
    pub rsvd: u32,
    /// For each priority the port at the head of the queue, 0 when empty. The guest moves it on.
    pub head: [u32; 16],
}

/// Event words in one 4 KiB page of the event array.
pub const EVTCHN_FIFO_WORDS_PER_PAGE: u32 = 1024;
/// Pages of event words that a domain can give at most.
pub const EVTCHN_FIFO_MAX_ARRAY_PAGES: u32 = EVTCHN_FIFO_NR_CHANNELS / EVTCHN_FIFO_WORDS_PER_PAGE;
