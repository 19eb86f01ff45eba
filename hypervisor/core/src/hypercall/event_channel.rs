//! `event_channel_op` (`event_channel.h`).

use vambrace_abi::errno::Errno;
use vambrace_abi::event_channel::*;
use vambrace_abi::handle::XenHandle;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Caller, Outcome};
use crate::domain::Domain;
use crate::event::pair;
use crate::life::Progress;
use crate::machine::Machine;
use crate::page::Page;

#[inline]
pub(super) fn op<M: Machine>(caller: &Caller<'_, M>, args: [u64; 5]) -> Outcome {
    let [command, argument, ..] = args;
    match short(caller, command, argument) {
        Ok(Progress::Done) => Outcome::Done(Ok(0)),
        Ok(Progress::Again) => Outcome::Again(args),
        Err(errno) => Outcome::Done(Err(errno)),
    }
}

#[inline]
fn short<M: Machine>(caller: &Caller<'_, M>, command: u64, argument: u64) -> Result<Progress, Errno> {
    let (hv, domain, m) = (caller.hv, caller.domain(), &caller.hv.machine);
    match u32::try_from(command).map_err(|_| Errno::ENOSYS)? {
        EVTCHNOP_SEND => {
            let send: EvtchnSend = get(caller, argument)?;
            pair::send(
                m,
                domain,
                send.port,
                |id| hv.domain(id),
                |owner, receiver| hv.tell_receiver(owner, receiver),
            )?;
        }
        EVTCHNOP_UNMASK => {
            let unmask: EvtchnUnmask = get(caller, argument)?;
            let notify = domain.events.lock().unmask(m, unmask.port)?;
            raise(caller, notify);
        }
        EVTCHNOP_ALLOC_UNBOUND => alloc_unbound(caller, argument)?,
        EVTCHNOP_BIND_INTERDOMAIN => bind_interdomain(caller, argument)?,
        EVTCHNOP_BIND_VIRQ => {
            let mut bind: EvtchnBindVirq = get(caller, argument)?;
            bind.port = domain.events.lock().bind_virq(m, bind.virq, bind.vcpu)?;
            put_bound(caller, argument, &bind, bind.port)?;
        }
        EVTCHNOP_BIND_IPI => {
            let mut bind: EvtchnBindIpi = get(caller, argument)?;
            bind.port = domain.events.lock().bind_ipi(m, bind.vcpu)?;
            put_bound(caller, argument, &bind, bind.port)?;
        }
        EVTCHNOP_BIND_PIRQ => {
            let mut bind: EvtchnBindPirq = get(caller, argument)?;
            bind.port = domain.events.lock().bind_pirq(bind.pirq)?;
            put(caller, argument, &bind)?;
        }
        EVTCHNOP_CLOSE => {
            let close: EvtchnClose = get(caller, argument)?;
            pair::close(m, domain, close.port, |id| hv.domain(id))?;
        }
        EVTCHNOP_STATUS => {
            let mut status: EvtchnStatus = get(caller, argument)?;
            let target = caller.target(status.dom)?;
            target.events.lock().status(&mut status)?;
            put(caller, argument, &status)?;
        }
        EVTCHNOP_BIND_VCPU => {
            let bind: EvtchnBindVcpu = get(caller, argument)?;
            domain.events.lock().bind_vcpu(bind.port, bind.vcpu)?;
        }
        EVTCHNOP_RESET => {
            let reset: EvtchnReset = get(caller, argument)?;
            let target = caller.target(reset.dom)?;
            let Some(pages) = pair::reset(m, &*target, |id| hv.domain(id))? else {
                return Ok(Progress::Again);
            };
            let mut frames = hv.frames.lock();
            pages.into_iter().for_each(|page| frames.put(page));
        }
        EVTCHNOP_INIT_CONTROL => {
            let mut init: EvtchnInitControl = get(caller, argument)?;
            let page = hv.page(domain, init.control_gfn).ok();
            let pa = page.as_ref().map(|page| page.pa);
            init.link_bits = domain.events.lock().init_control(m, init.vcpu, pa, init.offset)?;
            page.map(Page::keep);
            put(caller, argument, &init)?;
        }
        EVTCHNOP_EXPAND_ARRAY => {
            let expand: EvtchnExpandArray = get(caller, argument)?;
            let page = hv.page(domain, expand.array_gfn).ok();
            let notify = domain.events.lock().expand_array(m, page.as_ref().map(|page| page.pa))?;
            page.map(Page::keep);
            for vcpu in notify {
                raise(caller, Some(vcpu));
            }
        }
        EVTCHNOP_SET_PRIORITY => {
            let set: EvtchnSetPriority = get(caller, argument)?;
            domain.events.lock().set_priority(set.port, set.priority)?;
        }
        _ => return Err(Errno::ENOSYS),
    }
    Ok(Progress::Done)
}

fn get<M: Machine, T: FromBytes + IntoBytes>(caller: &Caller<'_, M>, argument: u64) -> Result<T, Errno> {
    caller.memory().read(XenHandle::<T>::new(argument))
}

fn put<M: Machine, T: IntoBytes + Immutable>(
    caller: &Caller<'_, M>,
    argument: u64,
    value: &T,
) -> Result<(), Errno> {
    caller.memory().write(XenHandle::<T>::new(argument), value)
}

/// As [`put`] for the answer that names a new port of the caller's: one that it never learns of is closed.
fn put_bound<M: Machine, T: IntoBytes + Immutable>(
    caller: &Caller<'_, M>,
    argument: u64,
    value: &T,
    port: u32,
) -> Result<(), Errno> {
    put(caller, argument, value).inspect_err(|_| close(caller, caller.domain(), port))
}

/// Closes a port that was opened a moment ago.
fn close<M: Machine>(caller: &Caller<'_, M>, domain: &Domain<M>, port: u32) {
    // It can only have been closed already, by another vCPU of the domain's.
    let _ = pair::close(&caller.hv.machine, domain, port, |id| caller.hv.domain(id));
}

fn raise<M: Machine>(caller: &Caller<'_, M>, vcpu: Option<u32>) {
    if let Some(vcpu) = vcpu {
        caller.hv.raise_event(caller.domain(), vcpu as usize);
    }
}

fn alloc_unbound<M: Machine>(caller: &Caller<'_, M>, argument: u64) -> Result<(), Errno> {
    let mut alloc: EvtchnAllocUnbound = get(caller, argument)?;
    let target = caller.target(alloc.dom)?;
    let remote = if caller.is_self(alloc.remote_dom) { caller.domain().id } else { alloc.remote_dom };
    let port = target.events.lock().alloc_unbound(&caller.hv.machine, remote)?;
    alloc.port = port;
    put(caller, argument, &alloc).inspect_err(|_| close(caller, &target, port))?;
    Ok(())
}

fn bind_interdomain<M: Machine>(caller: &Caller<'_, M>, argument: u64) -> Result<(), Errno> {
    let mut bind: EvtchnBindInterdomain = get(caller, argument)?;
    let (own, m) = (caller.domain(), &caller.hv.machine);
    let (port, notify) = if caller.is_self(bind.remote_dom) {
        pair::bind_interdomain(m, own, own, bind.remote_port)?
    } else {
        let remote = caller.hv.domain(bind.remote_dom).ok_or(Errno::ESRCH)?;
        pair::bind_interdomain(m, own, &*remote, bind.remote_port)?
    };
    raise(caller, notify);
    bind.local_port = port;
    put_bound(caller, argument, &bind, port)?;
    Ok(())
}
