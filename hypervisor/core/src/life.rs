//! The life of a domain that is not dom0: it runs or is paused, is shut down, is destroyed, is forgotten.
//!
//! ```text
//!   made, paused once --unpause--> runs <--pause, unpause--> paused
//!                                   |
//!                                   +-- shut down (reason) --resume--> runs
//!                                   |
//!   destroy, from any of them: Dying(step by step) --> Dead --last frame given back--> forgotten
//! ```
//!
//! A dead domain is there as long as another holds one of its pages, by a mapping or a grant: its number is not used
//! again, and the toolstack sees that it is dying.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::Ordering;

use vambrace_abi::errno::Errno;
use vambrace_abi::sched::{
    SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SHUTDOWN_SUSPEND, SHUTDOWN_WATCHDOG,
};
use vambrace_abi::virq::VIRQ_DOM_EXC;

use crate::domain::{Domain, NOWHERE};
use crate::event::{Port, pair};
use crate::hypervisor::Hypervisor;
use crate::machine::Machine;
use crate::vgic::Effects;

/// Pages that one step of a destruction gives back, or less where there are many tables with little in them.
const PAGES_AT_ONCE: u64 = 4096;
/// First number of a domain that the toolstack does not choose, and the one behind the last (`xen.h`,
/// DOMID_FIRST_RESERVED).
const DOMIDS: core::ops::Range<u16> = 1..0x7ff0;

/// How far the end of a domain has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Stage {
    /// It is not ending.
    #[default]
    Alive,
    /// It is being taken apart.
    Dying,
    /// It has nothing any more but pages that others hold.
    Dead,
}

/// Where in its life a domain is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Life {
    /// Why it was shut down: SHUTDOWN_*, once it was.
    pub shutdown: Option<u32>,
    /// The reason that it gave beforehand (SCHEDOP_shutdown_code).
    pub shutdown_code: Option<u32>,
    /// How often the toolstack has paused it.
    pub toolstack_pauses: u32,
    /// How far its end has come.
    pub stage: Stage,
    /// It has run.
    pub started: bool,
    /// A debugger looks after it.
    pub debugged: bool,
    /// The port that gets an event when it suspends, in the place of the toolstack's virtual interrupt; 0 for none.
    pub suspend_port: Port,
    /// One CPU is taking it apart.
    busy: bool,
}

/// Whether a call that takes long has come to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Progress {
    /// It has.
    Done,
    /// It is to be made again.
    Again,
}

impl<M: Machine> Domain<M> {
    /// Whether it is being taken apart, or has been.
    pub fn is_dying(&self) -> bool {
        self.life.lock().stage != Stage::Alive
    }

    /// Why it was shut down, if it was.
    pub fn shutdown_reason(&self) -> Option<u32> {
        self.life.lock().shutdown
    }
}

impl<M: Machine> Hypervisor<M> {
    /// A number that no domain has: `wanted`, or a new one. EEXIST, EINVAL for one that no domain may have, ENOMEM when
    /// none is left.
    pub fn free_domid(&self, wanted: Option<u16>) -> Result<u16, Errno> {
        let domains = self.domains.read();
        if let Some(id) = wanted {
            return match () {
                () if !DOMIDS.contains(&id) => Err(Errno::EINVAL),
                () if domains.contains_key(&id) => Err(Errno::EEXIST),
                () => Ok(id),
            };
        }
        let next = self.next_domid.load(Ordering::Relaxed);
        let id = (next..DOMIDS.end).chain(DOMIDS.start..next).find(|id| !domains.contains_key(id));
        let id = id.ok_or(Errno::ENOMEM)?;
        self.next_domid.store(if id + 1 < DOMIDS.end { id + 1 } else { DOMIDS.start }, Ordering::Relaxed);
        Ok(id)
    }

    /// Stops a domain's vCPUs, and returns when none of them is on a CPU. Counted: as many [`Hypervisor::unpause`] let it
    /// go on. Not for the domain that calls.
    pub fn pause(&self, domain: &Domain<M>) {
        self.pause_nosync(domain);
        for vcpu in &domain.vcpus {
            // A CPU that has picked it and not loaded it yet counts too.
            while self.scheduler.is_running(vcpu.key) || vcpu.running_on.load(Ordering::SeqCst) != NOWHERE {
                spin_loop();
            }
        }
    }

    /// As [`Hypervisor::pause`], without waiting.
    pub fn pause_nosync(&self, domain: &Domain<M>) {
        for vcpu in &domain.vcpus {
            if let Some(cpu) = self.scheduler.pause(vcpu.key, self.machine.now()) {
                self.kick(cpu);
            }
        }
    }

    /// Takes one [`Hypervisor::pause`] back.
    pub fn unpause(&self, domain: &Domain<M>) {
        for vcpu in &domain.vcpus {
            if let Some(cpu) = self.scheduler.unpause(vcpu.key, self.machine.now()) {
                self.kick(cpu);
            }
        }
    }

    /// Shuts a domain down for a SHUTDOWN_* reason: it stops, and the toolstack is told. With the hardware domain the
    /// machine goes.
    pub fn shut_down(&self, domain: &Domain<M>, reason: u32) {
        let subscriber = {
            let mut life = domain.life.lock();
            if life.shutdown.is_some() {
                return;
            }
            let reason = life.shutdown_code.unwrap_or(reason);
            // Both in one go: who resumes it takes both back.
            life.shutdown = Some(reason);
            self.pause_nosync(domain);
            Some(life.suspend_port).filter(|port| *port != 0 && reason == SHUTDOWN_SUSPEND)
        };
        if domain.is_hardware {
            self.end(reason);
        } else if let Some(port) = subscriber {
            // A port that leads nowhere tells nobody, as the subscriber wished.
            let _ = pair::send(
                &self.machine,
                domain,
                port,
                |id| self.domain(id),
                |other, receiver| self.tell_receiver(other, receiver),
            );
        } else {
            self.send_global_virq(VIRQ_DOM_EXC);
        }
    }

    /// Lets a domain go on that was shut down (to suspend, for one). EINVAL for one that was not.
    pub fn resume(&self, domain: &Domain<M>) -> Result<(), Errno> {
        {
            let mut life = domain.life.lock();
            if life.stage != Stage::Alive || life.shutdown.take().is_none() {
                return Err(Errno::EINVAL);
            }
            life.shutdown_code = None;
        }
        self.unpause(domain);
        Ok(())
    }

    /// Ends the machine as the hardware domain's shutdown asks; returns if it cannot, or must not.
    fn end(&self, reason: u32) {
        match reason {
            SHUTDOWN_REBOOT | SHUTDOWN_WATCHDOG | SHUTDOWN_CRASH if !self.settings.no_reboot => {
                let what = if reason == SHUTDOWN_CRASH { "crashed" } else { "reboots" };
                self.log(format_args!("Dom0 {what}: resetting the machine"));
                self.machine.reset();
                self.log(format_args!("The machine has no way to be reset; it stays halted"));
            }
            SHUTDOWN_POWEROFF => {
                self.log(format_args!("Dom0 is off: powering the machine off"));
                self.machine.power_off();
                self.log(format_args!("The machine has no way to be turned off; it stays halted"));
            }
            _ => self.log(format_args!("Dom0 ended (reason {reason}); the machine stays halted")),
        }
    }

    /// Takes a domain apart, some way each time: everything that it has goes back, and it is forgotten when nobody holds a
    /// page of it any more. EBUSY while another CPU does so. Not for dom0, nor for the domain that calls.
    pub fn destroy(&self, domain: &Arc<Domain<M>>) -> Result<Progress, Errno> {
        let first = {
            let mut life = domain.life.lock();
            match life.stage {
                Stage::Dead => return Ok(Progress::Done),
                _ if life.busy => return Err(Errno::EBUSY),
                stage => {
                    life.busy = true;
                    life.stage = Stage::Dying;
                    stage == Stage::Alive
                }
            }
        };
        if first {
            self.stop_for_good(domain);
        }
        let progress = self.take_apart(domain);
        {
            let mut life = domain.life.lock();
            life.busy = false;
            if progress == Progress::Done {
                life.stage = Stage::Dead;
            }
        }
        if progress == Progress::Done {
            self.zombies.fetch_add(1, Ordering::SeqCst);
            self.frames.lock().watch(domain.id);
            self.bury();
            self.send_global_virq(VIRQ_DOM_EXC);
        }
        Ok(progress)
    }

    /// The domain's vCPUs never run again, and nobody sends it anything.
    fn stop_for_good(&self, domain: &Domain<M>) {
        self.pause(domain);
        for vcpu in &domain.vcpus {
            vcpu.online.store(false, Ordering::Release);
            self.scheduler.remove(vcpu.key);
        }
        self.cancel_timers(domain);
        self.drop_virq_handler(domain.id);
        self.machine.flush_tlb(domain.stage2);
        self.close_uart(domain);
        self.console.forget(&self.machine, domain.id);
    }

    /// Closes the domain's event channels, some each time, and gives back the pages that it registered.
    fn release_events(&self, domain: &Domain<M>) -> Progress {
        // A port that cannot be closed now, for its other end's changing, is closed with the next try.
        let Ok(Some(pages)) = pair::reset(&self.machine, domain, |id| self.domain(id)) else {
            return Progress::Again;
        };
        let registered = domain.events.lock().end();
        let areas = domain.vcpus.iter().filter_map(|vcpu| vcpu.runstate.lock().area.take());
        let areas: Vec<_> = areas.flat_map(|area| area.pages()).collect();
        let mut frames = self.frames.lock();
        for page in pages.into_iter().chain(registered).chain(areas) {
            frames.put(page);
        }
        Progress::Done
    }

    fn take_apart(&self, domain: &Arc<Domain<M>>) -> Progress {
        if self.release_events(domain) == Progress::Again || self.release_grants(domain) == Progress::Again {
            return Progress::Again;
        }
        let cleared = domain.p2m.lock().clear(&self.machine, &mut self.frames.lock(), PAGES_AT_ONCE);
        match cleared {
            Ok(true) => {}
            Ok(false) => return Progress::Again,
            // Its tables lie where the hypervisor put them: what cannot be reached there stays out of use.
            Err(at) => self.log(format_args!("d{}: table at {} is out of reach", domain.id, at.0)),
        }
        self.machine.flush_tlb(domain.stage2);
        self.release_interrupts(domain);
        let grants: Vec<_> = domain.grants.lock().take_frames().collect();
        {
            let mut p2m = domain.p2m.lock();
            let mut frames = self.frames.lock();
            grants.into_iter().for_each(|frame| frames.put(frame));
            p2m.release(&mut frames);
        }
        self.vmids.lock().give_back(domain.stage2.vmid);
        Progress::Done
    }

    /// Gives the domain's physical interrupts back.
    fn release_interrupts(&self, domain: &Domain<M>) {
        let mut effects = Effects::new(self, domain, None);
        domain.vgic.lock().release_hardware(&mut effects);
        effects.tell();
        self.take_spis(domain.id);
    }

    /// Forgets the dead domains of which nobody holds a page any more. No lock of a domain's, nor that of the frames, may
    /// be held.
    pub fn bury(&self) {
        if self.zombies.load(Ordering::SeqCst) == 0 || !self.frames.lock().take_left() {
            return;
        }
        let mut gone = 0;
        {
            let mut domains = self.domains.write();
            let mut frames = self.frames.lock();
            domains.retain(|id, domain| {
                // The shared page goes last.
                let dead = domain.life.lock().stage == Stage::Dead && frames.owned_by(*id) <= 1;
                if dead {
                    frames.unwatch(*id);
                    frames.put(domain.shared_info);
                    gone += 1;
                }
                !dead
            });
        }
        if gone > 0 {
            self.zombies.fetch_sub(gone, Ordering::SeqCst);
            self.send_global_virq(VIRQ_DOM_EXC);
        }
    }
}
