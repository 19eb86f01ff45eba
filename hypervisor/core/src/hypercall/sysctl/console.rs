//! The hypervisor's log and keys (`XEN_SYSCTL_readconsole`, `XEN_SYSCTL_debug_keys`).

use vambrace_abi::errno::{Errno, HypercallResult};
use vambrace_abi::sysctl::{XenSysctlDebugKeys, XenSysctlReadconsole};

use super::Call;
use crate::hypercall::Outcome;
use crate::machine::Machine;

/// Bytes copied at a time.
const CHUNK: usize = 256;
/// Most keys of one call.
const MAX_KEYS: u32 = 256;

/// Reads the log from where the last call ended, or from its beginning, and forgets it if that is asked for.
pub(super) fn read<M: Machine>(call: &Call<'_, '_, M>) -> HypercallResult {
    let request: XenSysctlReadconsole = call.body()?;
    let console = &call.caller.hv.console;
    let mut from = (request.incremental != 0).then_some(request.index);
    let mut done = 0;
    let mut chunk = [0; CHUNK];
    loop {
        let room = (request.count - done).min(CHUNK as u32) as usize;
        let part = chunk.get_mut(..room).ok_or(Errno::EINVAL)?;
        let (count, next) = console.read_log(from, part);
        let at = request.buffer.address().checked_add(done.into()).ok_or(Errno::EFAULT)?;
        call.caller.memory().write_bytes(at, chunk.get(..count).ok_or(Errno::EINVAL)?)?;
        done += count as u32;
        from = Some(next);
        if count < CHUNK {
            break;
        }
    }
    let index = from.unwrap_or(request.index);
    if request.clear != 0 {
        console.clear_log(index);
    }
    call.answer(&XenSysctlReadconsole { index, count: done, ..request })
}

/// Does what the first key asks, as if it had been typed on the hypervisor's console; the call is made again with the rest,
/// for a key may have much to say.
pub(super) fn keys<M: Machine>(call: &Call<'_, '_, M>) -> Outcome {
    match first_key(call) {
        Ok(true) => call.again(),
        Ok(false) => Outcome::Done(Ok(0)),
        Err(errno) => Outcome::Done(Err(errno)),
    }
}

/// Whether there are more keys, which the caller's structure then says.
fn first_key<M: Machine>(call: &Call<'_, '_, M>) -> Result<bool, Errno> {
    let request: XenSysctlDebugKeys = call.body()?;
    let Some(nr_keys) = request.nr_keys.checked_sub(1) else { return Ok(false) };
    if nr_keys >= MAX_KEYS {
        return Err(Errno::E2BIG);
    }
    let key = call.caller.memory().read(request.keys)?;
    call.caller.hv.key(key);
    if nr_keys == 0 {
        return Ok(false);
    }
    let keys = request.keys.element(1).ok_or(Errno::EFAULT)?;
    call.answer(&XenSysctlDebugKeys { keys, nr_keys, ..request })?;
    Ok(true)
}
