//! A vCPU's sleep in SCHEDOP_poll: until one of some ports is pending, a time has come, or there is an interrupt.
//!
//! ```text
//!   sleeper: registers its ports, looks whether one is pending, blocks, looks at `over`
//!   sender:  makes the port pending and finds the sleeper, under the same lock; then sets `over`, wakes
//! ```

use core::sync::atomic::{AtomicBool, Ordering};

use spin::Mutex;
use vambrace_abi::errno::Errno;

use crate::domain::{Domain, Seat, Vcpu};
use crate::event::Port;
use crate::hypervisor::Hypervisor;
use crate::machine::{CpuId, Machine};
use crate::timers::Due;

/// What a vCPU keeps of its poll.
#[derive(Default)]
pub struct Poll {
    /// It is in one.
    waiting: AtomicBool,
    /// The poll that it is in has come to its end.
    over: AtomicBool,
    /// The deadline as armed: CPU and counter value.
    armed: Mutex<Option<(CpuId, u64)>>,
}

impl Poll {
    /// Whether the vCPU is not to sleep on: a port that it waits for is pending, or its time has come.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

impl<M: Machine> Hypervisor<M> {
    /// Has the vCPU, which is loaded on `cpu`, wait for `ports` until `timeout` in nanoseconds of system time (0: for
    /// ever). Whether it has to block; if not, there is nothing to wait for. EINVAL for an unknown port.
    pub(crate) fn begin_poll(
        &self,
        cpu: CpuId,
        seat: &Seat<M>,
        ports: &[Port],
        timeout: u64,
    ) -> Result<bool, Errno> {
        // One in a list of calls does not block, and is there still.
        self.end_poll(seat);
        let (domain, vcpu) = (&seat.domain, &seat.vcpu);
        let index = u32::from(vcpu.key.vcpu);
        // Before the ports are registered: a sender that finds them has to see this.
        domain.polls.fetch_add(1, Ordering::SeqCst);
        vcpu.poll.over.store(false, Ordering::SeqCst);
        vcpu.poll.waiting.store(true, Ordering::SeqCst);
        let ready = domain.events.lock().begin_poll(&self.machine, index, ports);
        let now = self.system_time();
        if ready != Ok(false) || (timeout != 0 && now >= timeout) {
            self.end_poll(seat);
            return ready.map(|_| false);
        }
        if timeout != 0
            && let Some(timers) = self.timers(cpu)
        {
            let rest = u128::from(timeout - now) * u128::from(self.machine.frequency());
            let ticks = u64::try_from(rest.div_ceil(1_000_000_000)).unwrap_or(u64::MAX);
            let deadline = self.machine.now().saturating_add(ticks);
            timers.lock().arm(deadline, vcpu.key, Due::Poll);
            *vcpu.poll.armed.lock() = Some((cpu, deadline));
        }
        Ok(true)
    }

    /// Ends the vCPU's poll, if it is in one, for whatever reason it goes on.
    #[inline]
    pub(crate) fn end_poll(&self, seat: &Seat<M>) {
        if seat.vcpu.poll.waiting.load(Ordering::Relaxed) {
            self.forget_poll(seat);
        }
    }

    #[cold]
    fn forget_poll(&self, seat: &Seat<M>) {
        let (domain, vcpu) = (&seat.domain, &seat.vcpu);
        vcpu.poll.waiting.store(false, Ordering::SeqCst);
        domain.events.lock().end_poll(vcpu.key.vcpu.into());
        domain.polls.fetch_sub(1, Ordering::SeqCst);
        vcpu.poll.over.store(false, Ordering::SeqCst);
        if let Some((on, deadline)) = vcpu.poll.armed.lock().take()
            && let Some(timers) = self.timers(on)
        {
            timers.lock().cancel(deadline, vcpu.key, Due::Poll);
        }
    }

    /// Wakes the vCPUs of the domain whose poll found a port pending.
    #[inline]
    pub(crate) fn wake_pollers(&self, domain: &Domain<M>) {
        if domain.polls.load(Ordering::SeqCst) != 0 {
            let over = domain.events.lock().take_polled();
            for vcpu in over {
                if let Some(vcpu) = domain.vcpus.get(vcpu as usize) {
                    self.poll_is_over(vcpu);
                }
            }
        }
    }

    /// Ends a vCPU's sleep in a poll.
    pub(crate) fn poll_is_over(&self, vcpu: &Vcpu<M>) {
        vcpu.poll.over.store(true, Ordering::SeqCst);
        if let Some(cpu) = self.scheduler.wake(vcpu.key, self.machine.now()) {
            self.kick(cpu);
        }
    }
}
