//! `multicall`: calls from an array, each with its result written back (`xen.h`).

use core::mem::offset_of;

use vambrace_abi::errno::{Errno, to_register};
use vambrace_abi::handle::XenHandle;
use vambrace_abi::hypercall::HYPERVISOR_MULTICALL;
use vambrace_abi::multicall::MulticallEntry;

use super::{Caller, Outcome, perform};
use crate::machine::Machine;
use crate::run::Next;

/// Most entries of one multicall that are carried out in one go, and the nanoseconds after which no other one is begun:
/// each is as long as a call of its own may be.
const MULTICALL_LIMIT: u64 = 64;
const MULTICALL_TIME: u64 = 500_000;

pub(super) fn op<M: Machine>(caller: &Caller<'_, M>, args: [u64; 5]) -> Outcome {
    let [list, count, ..] = args;
    let entries = XenHandle::<MulticallEntry>::new(list);
    let (began, mut wish) = (caller.hv.system_time(), Next::Resume);
    for index in 0..count {
        let rest = |from: u64| match entries.element(from) {
            Some(handle) => Outcome::Again([handle.address(), count - from, args[2], args[3], args[4]]),
            None => Outcome::Done(Err(Errno::EFAULT)),
        };
        if index == MULTICALL_LIMIT || index > 0 && caller.hv.system_time() - began > MULTICALL_TIME {
            return rest(index);
        }
        match one_of_many(caller, entries, index) {
            Ok(Some(Next::Resume)) => {}
            Ok(Some(Next::Offline)) => return Outcome::Then(Ok(0), Next::Offline),
            Ok(Some(next)) => wish = next,
            Ok(None) => return rest(index),
            Err(errno) => return Outcome::Done(Err(errno)),
        }
    }
    Outcome::Then(Ok(0), wish)
}

/// Carries out one entry of a multicall. What is to be done with the vCPU when the list is done, if the entry has come to
/// its end; if not, its arguments in the guest's memory say where it goes on.
fn one_of_many<M: Machine>(
    caller: &Caller<'_, M>,
    entries: XenHandle<MulticallEntry>,
    index: u64,
) -> Result<Option<Next>, Errno> {
    let handle = entries.element(index).ok_or(Errno::EFAULT)?;
    let mut entry = caller.memory().read(handle)?;
    let [a, b, c, d, e, _] = entry.args;
    let outcome = match u32::try_from(entry.op) {
        // A list in a list could nest without bound.
        Ok(HYPERVISOR_MULTICALL) => Outcome::Done(Err(Errno::EINVAL)),
        _ => perform(caller, entry.op, [a, b, c, d, e]),
    };
    let (result, next) = match outcome {
        Outcome::Done(result) => (result, Next::Resume),
        Outcome::Then(result, next) => (result, next),
        Outcome::Again(args) => {
            for (slot, value) in entry.args.iter_mut().zip(args) {
                *slot = value;
            }
            caller.memory().write(handle, &entry)?;
            return Ok(None);
        }
    };
    let at = handle.address().wrapping_add(offset_of!(MulticallEntry, result) as u64);
    caller.memory().write(XenHandle::<u64>::new(at), &to_register(result))?;
    Ok(Some(next))
}
