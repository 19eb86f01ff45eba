//! Keys on the hypervisor's console: what an operator asks when nothing else answers.

use core::sync::atomic::Ordering;

use crate::addr::PAGE_SIZE;
use crate::hypervisor::Hypervisor;
use crate::machine::Machine;
use crate::sched::Status;

/// Most event channels of a domain that are listed: the domain waits meanwhile.
const SHOWN_PORTS: u32 = 64;

const HELP: &str =
    "h help, q domains, r run queue, m memory, e event channels, i virtual interrupts, l log, R reset";

impl<M: Machine> Hypervisor<M> {
    /// Does what a key asks.
    pub fn key(&self, key: u8) {
        match key {
            b'h' | b'?' => self.log(format_args!("{HELP}")),
            b'q' => self.show_domains(),
            b'r' => self.show_run_queue(),
            b'm' => self.show_memory(),
            b'e' => self.show_events(),
            b'i' => self.show_interrupts(),
            b'l' => self.console.replay(&self.machine),
            b'R' => {
                self.log(format_args!("Resetting the machine"));
                self.machine.reset();
                self.log(format_args!("The machine has no way to be reset"));
            }
            b'\r' | b'\n' => {}
            key => self.log(format_args!("no key '{}'; {HELP}", key.escape_ascii())),
        }
    }

    fn show_domains(&self) {
        for domain in self.domains.read().values() {
            self.log(format_args!(
                "d{}: {} of {} pages, {} vCPUs, shut down: {:?}",
                domain.id,
                domain.pages.load(Ordering::Relaxed),
                domain.max_pages,
                domain.vcpus.len(),
                domain.shutdown.get()
            ));
            for vcpu in &domain.vcpus {
                let state = self.scheduler.account(vcpu.key).map(|a| a.status);
                match vcpu.run.try_lock() {
                    Some(run) => self.log(format_args!(
                        "  v{}: {state:?}, pc {:#x}, pstate {:#x}",
                        vcpu.key.vcpu, run.regs.pc, run.regs.pstate
                    )),
                    None => self.log(format_args!("  v{}: {state:?}, loaded", vcpu.key.vcpu)),
                }
            }
        }
    }

    fn show_run_queue(&self) {
        let frequency = self.machine.frequency().max(1);
        self.log(format_args!("CPUs online: {:#x}", self.scheduler.online_cpus()));
        self.scheduler.for_each(|key, account| {
            let ran = (u128::from(account.run_time) * 1000 / u128::from(frequency)) as u64;
            let place = match account.status {
                Status::Running(cpu) => cpu,
                _ => account.last_cpu,
            };
            self.log(format_args!(
                "  d{}v{}: {:?}, CPU {place}, ran {ran} ms, weight {}, affinity {:#x}",
                key.domain, key.vcpu, account.status, account.weight, account.affinity
            ));
        });
    }

    fn show_memory(&self) {
        let (free, total) = {
            let frames = self.frames.lock();
            (frames.free_frames(), frames.total_frames())
        };
        self.log(format_args!("Free {} KiB of {} KiB", free * PAGE_SIZE / 1024, total * PAGE_SIZE / 1024));
        for domain in self.domains.read().values() {
            let p2m = domain.p2m.lock();
            let stage2 = p2m.stage2();
            self.log(format_args!(
                "d{}: stage 2 at {}, VMID {}, {} KiB of tables",
                domain.id,
                stage2.root,
                stage2.vmid,
                p2m.table_frames() * PAGE_SIZE / 1024
            ));
        }
    }

    fn show_events(&self) {
        for domain in self.domains.read().values() {
            let events = domain.events.lock();
            let kind = if events.is_fifo() { "FIFO" } else { "2-level" };
            self.log(format_args!("d{}: {kind} event channels", domain.id));
            let mut shown = 0;
            for port in 1..events.ports() {
                if shown == SHOWN_PORTS {
                    self.log(format_args!("  and perhaps more, from {port} on"));
                    break;
                }
                if let Ok(state) = events.state(port)
                    && state != crate::event::State::Free
                {
                    shown += 1;
                    let pending = events.is_pending(&self.machine, port).unwrap_or(false);
                    self.log(format_args!("  {port}: {state:?}{}", if pending { ", pending" } else { "" }));
                }
            }
        }
    }

    fn show_interrupts(&self) {
        for domain in self.domains.read().values() {
            let vgic = domain.vgic.lock();
            for vcpu in 0..domain.vcpus.len() {
                self.log(format_args!(
                    "d{}v{vcpu}: deliverable {}, in list registers {}, physical PPIs active {:#x}",
                    domain.id,
                    vgic.deliverable(vcpu, 0xff),
                    vgic.is_resident(vcpu),
                    vgic.hardware_active(vcpu)
                ));
            }
        }
    }
}
