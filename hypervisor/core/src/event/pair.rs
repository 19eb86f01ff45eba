//! Operations that reach from one domain's event channels to another's, with the locks taken in the right order.

use alloc::vec::Vec;
use core::ops::Deref;

use spin::{Mutex, MutexGuard};
use vambrace_abi::domid::DomId;
use vambrace_abi::errno::Errno;

use super::{Closed, EventChannels, Message, OtherEnd, Peer, Port, Receiver, Sent, VcpuId};
use crate::addr::Pa;
use crate::machine::Memory;

/// How often a close starts again because the guest connected the port elsewhere meanwhile.
const TRIES: u32 = 16;
/// Ports that are closed in one go.
const CLOSES_AT_ONCE: u32 = 256;

/// What has event channels: a domain.
pub trait Owner {
    /// Its number.
    fn id(&self) -> DomId;
    /// Its channels.
    fn events(&self) -> &Mutex<EventChannels>;
}

/// Locks the channels of two different domains, the lower number first.
pub fn lock_both<'a>(
    a: &'a impl Owner,
    b: &'a impl Owner,
) -> (MutexGuard<'a, EventChannels>, MutexGuard<'a, EventChannels>) {
    if a.id() < b.id() {
        let first = a.events().lock();
        (first, b.events().lock())
    } else {
        let first = b.events().lock();
        (a.events().lock(), first)
    }
}

/// `EVTCHNOP_send` from `local`, to a domain that `find` finds. `notify` tells the receiver; no lock is held when
/// it is called. EINVAL for a port that is not for sending.
#[inline]
pub fn send<M: Memory, D: Owner, H: Deref<Target = D>>(
    memory: &M,
    local: &D,
    port: Port,
    find: impl FnOnce(DomId) -> Option<H>,
    notify: impl FnOnce(&D, Receiver),
) -> Result<(), Errno> {
    let sent = local.events().lock().send(memory, port)?;
    match sent {
        Sent::Here(Some(vcpu)) => notify(local, Receiver::Vcpu(vcpu)),
        Sent::Here(None) => {}
        Sent::There(message) => deliver(memory, message, find, notify),
    }
    Ok(())
}

/// Hands a message to the domain that it is for, if `find` still finds that, and has `notify` tell the receiver there.
#[inline]
fn deliver<M: Memory, D: Owner, H: Deref<Target = D>>(
    memory: &M,
    message: Message,
    find: impl FnOnce(DomId) -> Option<H>,
    notify: impl FnOnce(&D, Receiver),
) {
    if let Some(remote) = find(message.domain()) {
        let receiver = remote.events().lock().receive(memory, message);
        if let Some(receiver) = receiver {
            notify(&remote, receiver);
        }
    }
}

/// Sends an event from the device behind an internal port of `local`, as [`send`] does for a guest.
pub fn send_internal<M: Memory, D: Owner, H: Deref<Target = D>>(
    memory: &M,
    local: &D,
    port: Port,
    find: impl FnOnce(DomId) -> Option<H>,
    notify: impl FnOnce(&D, Receiver),
) {
    let message = local.events().lock().send_internal(port);
    if let Some(message) = message {
        deliver(memory, message, find, notify);
    }
}

/// `EVTCHNOP_bind_interdomain` of a new port of `local` to `remote_port` of `remote`, which may be the same domain.
/// Returns the port and the vCPU of `local` that needs its event-channel interrupt. Errors as
/// [`EventChannels::bind_interdomain`].
pub fn bind_interdomain<M: Memory, D: Owner>(
    memory: &M,
    local: &D,
    remote: &D,
    remote_port: Port,
) -> Result<(Port, Option<VcpuId>), Errno> {
    if local.id() == remote.id() {
        return local.events().lock().bind_interdomain(memory, None, remote_port);
    }
    let (mut near, mut far) = lock_both(local, remote);
    near.bind_interdomain(memory, Some(&mut far), remote_port)
}

/// Connects ports of two domains, which may be one, by their numbers: a static event channel. Errors as
/// [`EventChannels::connect_at`]; nothing is connected then.
pub fn connect_at<M: Memory, D: Owner>(
    memory: &M,
    a: &D,
    a_port: Port,
    b: &D,
    b_port: Port,
) -> Result<(), Errno> {
    let (near, far) = (Peer { domain: a.id(), port: a_port }, Peer { domain: b.id(), port: b_port });
    if a.id() == b.id() {
        let mut both = a.events().lock();
        both.connect_at(memory, a_port, far)?;
        return both.connect_at(memory, b_port, near).inspect_err(|_| both.release(memory, a_port));
    }
    let (mut a, mut b) = lock_both(a, b);
    a.connect_at(memory, a_port, far)?;
    b.connect_at(memory, b_port, near).inspect_err(|_| a.release(memory, a_port))
}

/// `EVTCHNOP_close` of a port of `local`, whose other end may be in a domain that `find` finds. EINVAL for a port that is
/// not open; EAGAIN if the guest connects it elsewhere again and again.
pub fn close<M: Memory, D: Owner, H: Deref<Target = D>>(
    memory: &M,
    local: &D,
    port: Port,
    find: impl Fn(DomId) -> Option<H>,
) -> Result<(), Errno> {
    let mut closed = local.events().lock().close(memory, port, OtherEnd::Unknown)?;
    for _ in 0..TRIES {
        let Closed::Needs(id) = closed else { return Ok(()) };
        closed = match find(id) {
            Some(remote) => {
                let (mut near, mut far) = lock_both(local, &*remote);
                near.close(memory, port, OtherEnd::Locked(&mut far))?
            }
            None => local.events().lock().close(memory, port, OtherEnd::Gone(id))?,
        };
    }
    if closed == Closed::Done { Ok(()) } else { Err(Errno::EAGAIN) }
}

/// `EVTCHNOP_reset`, and the end of a domain: closes ports of `local`, and when all are closed goes back to the 2-level
/// ABI. Returns the guest's pages that are then in use no more, see [`EventChannels::finish_reset`]; `None` while there
/// are ports left, for another call. EAGAIN as for [`close`].
pub fn reset<M: Memory, D: Owner, H: Deref<Target = D>>(
    memory: &M,
    local: &D,
    find: impl Fn(DomId) -> Option<H>,
) -> Result<Option<Vec<Pa>>, Errno> {
    let mut from = 1;
    for _ in 0..CLOSES_AT_ONCE {
        let open = local.events().lock().next_open(from);
        let Some(port) = open else { return Ok(local.events().lock().finish_reset()) };
        match close(memory, local, port, &find) {
            // EINVAL: it is closed already.
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(errno) => return Err(errno),
        }
        from = port + 1;
    }
    Ok(None)
}
