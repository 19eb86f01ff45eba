//! `console_io`: the hypervisor's UART as a console (`xen.h`). All may write; dom0, and static guests that were given the
//! console, read too.

use vambrace_abi::console::{CONSOLEIO_READ, CONSOLEIO_WRITE};
use vambrace_abi::errno::{Errno, HypercallResult};

use super::Caller;
use crate::machine::Machine;

/// Bytes copied at a time.
const CHUNK: usize = 256;
/// Most bytes of one write: no guest may keep the hypervisor busy for as long as it likes.
const MAX_WRITE: u64 = 64 << 10;

pub(super) fn op<M: Machine>(
    caller: &Caller<'_, M>,
    command: u64,
    count: u64,
    buffer: u64,
) -> HypercallResult {
    match u32::try_from(command).map_err(|_| Errno::ENOSYS)? {
        CONSOLEIO_WRITE if count > MAX_WRITE => Err(Errno::E2BIG),
        CONSOLEIO_WRITE => {
            let mut chunk = [0; CHUNK];
            let mut done = 0;
            while done < count {
                let length = (count - done).min(CHUNK as u64);
                let part = chunk.get_mut(..length as usize).ok_or(Errno::EINVAL)?;
                let at = buffer.checked_add(done).ok_or(Errno::EFAULT)?;
                caller.memory().read_bytes(at, part)?;
                caller.hv.guest_output(caller.domain(), part);
                done += length;
            }
            Ok(0)
        }
        CONSOLEIO_READ => {
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
        _ => Err(Errno::ENOSYS),
    }
}
