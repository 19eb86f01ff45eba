//! Delivery by the 2-level ABI: bitmaps in the shared page, a selector in each `vcpu_info` (`event_channel.h`, `xen.h`).

use vambrace_abi::event_channel::EVTCHN_2L_NR_CHANNELS;
use vambrace_abi::shared_info::{SHARED_INFO_EVTCHN_MASK, SHARED_INFO_EVTCHN_PENDING};

use super::Port;
use super::vcpu::VcpuEvents;
use crate::addr::Pa;
use crate::machine::Memory;
use crate::word;

/// Ports that one bit of the selector stands for: a `xen_ulong_t` is 64 bits on both widths of ARM.
const PORTS_PER_SELECTOR: u32 = 64;

/// The place of a port's bit in the bitmap that begins `offset` bytes into the shared page. `None` for a port that the
/// bitmaps do not hold: its bit would be another page's.
fn bit(shared_info: Pa, offset: usize, port: Port) -> Option<(Pa, u32)> {
    (port < EVTCHN_2L_NR_CHANNELS).then(|| word::bit(shared_info.offset(offset as u64), port))
}

fn pending(shared_info: Pa, port: Port) -> Option<(Pa, u32)> {
    bit(shared_info, SHARED_INFO_EVTCHN_PENDING, port)
}

fn mask(shared_info: Pa, port: Port) -> Option<(Pa, u32)> {
    bit(shared_info, SHARED_INFO_EVTCHN_MASK, port)
}

/// Has the vCPU look at the part of the bitmap that holds `port`; whether to interrupt it.
fn select<M: Memory>(memory: &M, vcpu: &VcpuEvents, port: Port) -> bool {
    let Some(selector) = vcpu.selector() else { return false };
    let (at, bit) = word::bit(selector, port / PORTS_PER_SELECTOR);
    word::set(memory, at, bit) == Some(false) && vcpu.mark(memory)
}

/// Makes `port` pending; whether to interrupt the vCPU.
#[inline]
pub(super) fn raise<M: Memory>(memory: &M, shared_info: Pa, vcpu: &VcpuEvents, port: Port) -> bool {
    let Some((at, bit)) = pending(shared_info, port) else { return false };
    if word::set(memory, at, bit) != Some(false) {
        return false;
    }
    // A guest that unmasks after this look finds the event pending, and asks for it by EVTCHNOP_unmask.
    let Some((at, bit)) = mask(shared_info, port) else { return false };
    word::read(memory, at).is_some_and(|masks| masks & bit == 0) && select(memory, vcpu, port)
}

/// Unmasks `port`; whether to interrupt the vCPU, because the port was masked and is pending.
pub(super) fn unmask<M: Memory>(memory: &M, shared_info: Pa, vcpu: &VcpuEvents, port: Port) -> bool {
    let Some((at, bit)) = mask(shared_info, port) else { return false };
    word::clear(memory, at, bit) == Some(true)
        && is_pending(memory, shared_info, port)
        && select(memory, vcpu, port)
}

/// Whether `port` is pending.
pub(super) fn is_pending<M: Memory>(memory: &M, shared_info: Pa, port: Port) -> bool {
    let Some((at, bit)) = pending(shared_info, port) else { return false };
    word::read(memory, at).is_some_and(|word| word & bit != 0)
}

/// Makes `port` not pending.
pub(super) fn clear_pending<M: Memory>(memory: &M, shared_info: Pa, port: Port) {
    if let Some((at, bit)) = pending(shared_info, port) {
        word::clear(memory, at, bit);
    }
}
