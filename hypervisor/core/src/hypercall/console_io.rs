//! `console_io`: the hypervisor's UART as a console (`xen.h`). All may write; dom0, and static guests that were given the
//! console, read too.

use vambrace_abi::console::{CONSOLEIO_READ, CONSOLEIO_WRITE};
use vambrace_abi::errno::{Errno, HypercallResult};

use super::{Caller, Outcome};
use crate::machine::Machine;

/// Bytes copied at a time.
const CHUNK: usize = 256;
/// Most bytes of one write.
const MAX_WRITE: u64 = 64 << 10;

pub(super) fn op<M: Machine>(caller: &Caller<'_, M>, args: [u64; 5]) -> Outcome {
    let [command, count, buffer, ..] = args;
    match u32::try_from(command) {
        Ok(CONSOLEIO_WRITE) if count > MAX_WRITE => Outcome::Done(Err(Errno::E2BIG)),
        Ok(CONSOLEIO_WRITE) => match write(caller, count, buffer) {
            Ok(0) => Outcome::Done(Ok(0)),
            // A UART is slow: the rest is another call, and interrupts are taken in between.
            Ok(rest) => Outcome::Again([command, rest, buffer.wrapping_add(count - rest), args[3], args[4]]),
            Err(errno) => Outcome::Done(Err(errno)),
        },
        Ok(CONSOLEIO_READ) => read(caller, count, buffer).into(),
        _ => Outcome::Done(Err(Errno::ENOSYS)),
    }
}

/// Writes the first bytes; how many are left.
fn write<M: Machine>(caller: &Caller<'_, M>, count: u64, buffer: u64) -> Result<u64, Errno> {
    let mut chunk = [0; CHUNK];
    let length = count.min(CHUNK as u64);
    let part = chunk.get_mut(..length as usize).ok_or(Errno::EINVAL)?;
    caller.memory().read_bytes(buffer, part)?;
    caller.hv.guest_output(caller.domain(), part);
    Ok(count - length)
}

fn read<M: Machine>(caller: &Caller<'_, M>, count: u64, buffer: u64) -> HypercallResult {
    let domain = caller.domain().id;
    if !caller.hv.console.is_holder(domain) {
        return Err(Errno::EPERM);
    }
    let mut chunk = [0; CHUNK];
    let limit = (count.min(CHUNK as u64)) as usize;
    let room = chunk.get_mut(..limit).ok_or(Errno::EINVAL)?;
    let length = caller.hv.console.take_input(domain, room);
    caller.memory().write_bytes(buffer, chunk.get(..length).ok_or(Errno::EINVAL)?)?;
    Ok(length as u64)
}
