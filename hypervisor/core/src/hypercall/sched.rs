//! `sched_op`: what a vCPU wants of the scheduler (`sched.h`).

use alloc::vec::Vec;
use vambrace_abi::errno::Errno;
use vambrace_abi::handle::XenHandle;
use vambrace_abi::sched::*;

use super::{Caller, Outcome};
use crate::machine::Machine;
use crate::run::Next;
use crate::sched::VcpuKey;
use crate::timers::Due;

/// Most ports of one poll (`sched.h`).
const POLL_LIMIT: u32 = 128;

pub(super) fn op<M: Machine>(caller: &Caller<'_, M>, command: u64, argument: u64) -> Outcome {
    match u32::try_from(command) {
        Ok(SCHEDOP_YIELD) => Outcome::Then(Ok(0), Next::Yield),
        Ok(SCHEDOP_BLOCK) => Outcome::Then(Ok(0), Next::Block),
        Ok(SCHEDOP_SHUTDOWN) => match caller.memory().read(XenHandle::<SchedShutdown>::new(argument)) {
            Ok(shutdown) => {
                // It stops here, and goes on behind the call if it is resumed.
                caller.hv.shut_down(caller.domain(), reason(shutdown.reason));
                Outcome::Done(Ok(0))
            }
            Err(errno) => Outcome::Done(Err(errno)),
        },
        Ok(SCHEDOP_SHUTDOWN_CODE) => match caller.memory().read(XenHandle::<SchedShutdown>::new(argument)) {
            Ok(shutdown) => {
                let mut life = caller.domain().life.lock();
                if life.shutdown_code.is_some() {
                    return Outcome::Done(Err(Errno::EBUSY));
                }
                life.shutdown_code = Some(reason(shutdown.reason));
                Outcome::Done(Ok(0))
            }
            Err(errno) => Outcome::Done(Err(errno)),
        },
        Ok(SCHEDOP_POLL) => poll(caller, argument),
        Ok(SCHEDOP_WATCHDOG) => Outcome::Done(watchdog(caller, argument)),
        Ok(SCHEDOP_REMOTE_SHUTDOWN) => Outcome::Done(remote_shutdown(caller, argument)),
        _ => Outcome::Done(Err(Errno::ENOSYS)),
    }
}

/// A shutdown's reason: only the lowest byte counts.
const fn reason(asked: u32) -> u32 {
    asked & 0xff
}

/// Waits until one of some ports is pending, or a time has come.
fn poll<M: Machine>(caller: &Caller<'_, M>, argument: u64) -> Outcome {
    let begin = || -> Result<bool, Errno> {
        let poll = caller.memory().read(XenHandle::<SchedPoll>::new(argument))?;
        if poll.nr_ports > POLL_LIMIT {
            return Err(Errno::EINVAL);
        }
        let mut ports = Vec::with_capacity(poll.nr_ports as usize);
        for index in 0..u64::from(poll.nr_ports) {
            ports.push(caller.memory().read(poll.ports.element(index).ok_or(Errno::EFAULT)?)?);
        }
        caller.hv.begin_poll(caller.cpu, caller.seat, &ports, poll.timeout)
    };
    match begin() {
        Ok(true) => Outcome::Then(Ok(0), Next::Block),
        Ok(false) => Outcome::Done(Ok(0)),
        Err(errno) => Outcome::Done(Err(errno)),
    }
}

fn watchdog<M: Machine>(caller: &Caller<'_, M>, argument: u64) -> Result<u64, Errno> {
    let watchdog = caller.memory().read(XenHandle::<SchedWatchdog>::new(argument))?;
    let ticks = u64::from(watchdog.timeout).saturating_mul(caller.hv.machine.frequency());
    let deadline = caller.hv.machine.now().saturating_add(ticks);
    let mut slots = caller.domain().watchdogs.lock();
    let index = match (watchdog.id, watchdog.timeout) {
        (0, 0) => return Err(Errno::EINVAL),
        (0, _) => slots.iter().position(Option::is_none).ok_or(Errno::ENOSPC)?,
        (id, _) => id as usize - 1,
    };
    let slot = slots.get_mut(index).ok_or(Errno::EINVAL)?;
    if watchdog.id != 0 && slot.is_none() {
        return Err(Errno::EINVAL);
    }
    // Each watchdog has a deadline of its own among the CPUs' timers, and never more than one.
    let key = VcpuKey { domain: caller.domain().id, vcpu: index as u16 };
    if let Some((cpu, armed)) = slot.take()
        && let Some(timers) = caller.hv.timers(cpu)
    {
        timers.lock().cancel(armed, key, Due::Watchdog);
    }
    if watchdog.timeout != 0
        && let Some(timers) = caller.hv.timers(caller.cpu)
    {
        timers.lock().arm(deadline, key, Due::Watchdog);
        *slot = Some((caller.cpu, deadline));
        caller.hv.arm_alarm(caller.cpu);
    }
    Ok(if watchdog.id == 0 { index as u64 + 1 } else { 0 })
}

fn remote_shutdown<M: Machine>(caller: &Caller<'_, M>, argument: u64) -> Result<u64, Errno> {
    let request = caller.memory().read(XenHandle::<SchedRemoteShutdown>::new(argument))?;
    caller.privileged()?;
    let domain = caller.hv.domain(request.domain_id).ok_or(Errno::ESRCH)?;
    if domain.id == caller.domain().id {
        return Err(Errno::EINVAL);
    }
    caller.hv.shut_down(&domain, reason(request.reason));
    Ok(0)
}
