//! Keys on the hypervisor's console, and by `xl debug-keys`: what an operator asks when nothing else answers.
//!
//! A line takes as long as the UART does. So nothing that a guest needs is locked while one is written: each report copies
//! what it tells, a part at a time, and lets go.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use crate::addr::PAGE_SIZE;
use crate::domain::{DOM0, Domain};
use crate::event::State;
use crate::hypervisor::Hypervisor;
use crate::machine::Machine;
use crate::sched::Status;

/// Most event channels of a domain that are listed.
const SHOWN_PORTS: usize = 64;

const HELP: [&str; 2] = [
    "h help, q domains, 0 dom0's registers, d all registers, r run queue, m memory, e event channels",
    "g grants, i virtual interrupts, t time, l log, R reset",
];

impl<M: Machine> Hypervisor<M> {
    /// Does what a key asks.
    pub fn key(&self, key: u8) {
        match key {
            b'h' | b'?' => self.show_help(),
            b'q' => self.show_domains(),
            b'0' => self.show_registers(Some(DOM0)),
            b'd' => self.show_registers(None),
            b'r' => self.show_run_queue(),
            b'm' => self.show_memory(),
            b'e' => self.show_events(),
            b'g' => self.show_grants(),
            b'i' => self.show_interrupts(),
            b't' => self.show_time(),
            b'l' => self.console.replay(&self.machine),
            b'R' => {
                self.log(format_args!("Resetting the machine"));
                self.machine.reset();
                self.log(format_args!("The machine has no way to be reset"));
            }
            b'\r' | b'\n' => {}
            key => {
                self.log(format_args!("no key '{}'", key.escape_ascii()));
                self.show_help();
            }
        }
    }

    fn show_help(&self) {
        for line in HELP {
            self.log(format_args!("{line}"));
        }
    }

    fn all_domains(&self) -> Vec<Arc<Domain<M>>> {
        self.domains.read().values().cloned().collect()
    }

    fn show_domains(&self) {
        for domain in self.all_domains() {
            let life = *domain.life.lock();
            let pages = domain.pages();
            self.log(format_args!(
                "d{}: {pages} of {} pages, {} vCPUs, {}-bit, shut down: {:?}, paused by the toolstack {} times, {:?}",
                domain.id,
                domain.max_pages.load(Ordering::Relaxed),
                domain.vcpus.len(),
                if domain.is_aarch32() { 32 } else { 64 },
                life.shutdown,
                life.toolstack_pauses,
                life.stage
            ));
            for vcpu in &domain.vcpus {
                let account = self.scheduler.account(vcpu.key);
                let (status, pauses) = (account.map(|a| a.status), account.map_or(0, |a| a.pauses));
                self.log(format_args!("  v{}: {status:?}, paused {pauses} times", vcpu.key.vcpu));
            }
        }
    }

    /// Registers of the vCPUs of a domain, or of all. Those of one that is on a CPU now are in that CPU.
    fn show_registers(&self, only: Option<u16>) {
        for domain in self.all_domains().iter().filter(|domain| only.is_none_or(|id| id == domain.id)) {
            for vcpu in &domain.vcpus {
                let regs = vcpu.run.try_lock().map(|run| (run.regs.pc, run.regs.pstate, run.regs.x));
                let (d, v) = (domain.id, vcpu.key.vcpu);
                let Some((pc, pstate, x)) = regs else {
                    self.log(format_args!("d{d}v{v}: on a CPU"));
                    continue;
                };
                self.log(format_args!("d{d}v{v}: pc {pc:#x}, pstate {pstate:#x}"));
                for (index, four) in x.chunks(4).enumerate() {
                    self.log(format_args!("  x{}: {four:x?}", index * 4));
                }
            }
        }
    }

    fn show_run_queue(&self) {
        let frequency = self.machine.frequency().max(1);
        self.log(format_args!("CPUs online: {:#x}", self.scheduler.online_cpus()));
        let domains = self.all_domains();
        for key in domains.iter().flat_map(|domain| &domain.vcpus).map(|vcpu| vcpu.key) {
            let Some(account) = self.scheduler.account(key) else { continue };
            let ran = (u128::from(account.run_time) * 1000 / u128::from(frequency)) as u64;
            let place = match account.status {
                Status::Running(cpu) => cpu,
                _ => account.last_cpu,
            };
            self.log(format_args!(
                "  d{}v{}: {:?}, CPU {place}, ran {ran} ms, weight {}, affinity {:#x}",
                key.domain, key.vcpu, account.status, account.weight, account.affinity
            ));
        }
    }

    fn show_memory(&self) {
        let (free, total) = {
            let frames = self.frames.lock();
            (frames.free_frames(), frames.total_frames())
        };
        self.log(format_args!("Free {} KiB of {} KiB", free * PAGE_SIZE / 1024, total * PAGE_SIZE / 1024));
        for domain in self.all_domains() {
            let (stage2, tables, limit, ram) = {
                let p2m = domain.p2m.lock();
                (p2m.stage2(), p2m.table_frames(), p2m.table_limit(), p2m.ram_pages())
            };
            let owned = self.frames.lock().owned_by(domain.id);
            self.log(format_args!(
                "d{}: {ram} pages of RAM, {owned} pages its own, stage 2 at {}, VMID {}, {tables} of {limit} tables",
                domain.id, stage2.root, stage2.vmid,
            ));
        }
    }

    fn show_events(&self) {
        for domain in self.all_domains() {
            let (fifo, ports) = {
                let events = domain.events.lock();
                (events.is_fifo(), events.ports())
            };
            let kind = if fifo { "FIFO" } else { "2-level" };
            self.log(format_args!("d{}: {kind} event channels", domain.id));
            let mut shown = 0;
            for port in 1..ports {
                let (state, pending) = {
                    let events = domain.events.lock();
                    (events.state(port), events.is_pending(&self.machine, port).unwrap_or(false))
                };
                let Some(state) = state.ok().filter(|state| *state != State::Free) else { continue };
                if shown == SHOWN_PORTS {
                    self.log(format_args!("  and more, from {port} on"));
                    break;
                }
                shown += 1;
                self.log(format_args!("  {port}: {state:?}{}", if pending { ", pending" } else { "" }));
            }
        }
    }

    fn show_grants(&self) {
        for domain in self.all_domains() {
            let (version, (frames, limit), handles) = {
                let grants = domain.grants.lock();
                (grants.version().number(), grants.size(), grants.maptrack.busy())
            };
            self.log(format_args!(
                "d{}: grant table of version {version}, {frames} of {limit} frames; {handles} pages of others mapped",
                domain.id
            ));
        }
    }

    fn show_interrupts(&self) {
        for domain in self.all_domains() {
            for vcpu in 0..domain.vcpus.len() {
                let (deliverable, resident, active) = {
                    let vgic = domain.vgic.lock();
                    (vgic.deliverable(vcpu, 0xff), vgic.is_resident(vcpu), vgic.hardware_active(vcpu))
                };
                self.log(format_args!(
                    "d{}v{vcpu}: deliverable {deliverable}, in list registers {resident}, physical PPIs active {active:#x}",
                    domain.id,
                ));
            }
        }
    }

    fn show_time(&self) {
        let (now, frequency) = (self.machine.now(), self.machine.frequency());
        self.log(format_args!("Counter {now} at {frequency} Hz, up {} us", self.system_time() / 1000));
        for domain in self.all_domains() {
            self.log(format_args!(
                "d{}: virtual counter {}",
                domain.id,
                now.wrapping_sub(domain.counter_offset)
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use crate::testing::World;

    #[test]
    fn the_run_queue_has_every_vcpu() {
        let world = World::new(2, 1);
        world.add_other();
        world.console();
        world.hv.key(b'r');
        let said = world.console();
        let vcpus: Vec<&str> =
            said.lines().filter_map(|line| line.split(':').next()?.strip_prefix("(VMB)   ")).collect();
        assert_eq!(vcpus, ["d0v0", "d0v1", "d1v0"], "{said}");
    }
}
