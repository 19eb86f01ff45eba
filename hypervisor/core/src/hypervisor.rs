//! The whole: the machine, its memory, its CPUs, its domains.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use spin::{Mutex, RwLock};
use vambrace_abi::errno::Errno;
use vambrace_abi::shared_info;
use vambrace_abi::vcpu::RUNSTATE_OFFLINE;
use vambrace_abi::virq::NR_VIRQS;

use crate::addr::{PAGE_SIZE, Pa, PaRange};
use crate::console::Console;
use crate::domain::{DOM0, Domain, NOWHERE, Seat, Vcpu};
use crate::event::is_per_vcpu;
use crate::frames::Frames;
use crate::idregs::IdRegisters;
use crate::machine::{CpuId, FIRST_SPI, Intid, Machine};
use crate::p2m::Shape;
use crate::sched::{CpuMask, Scheduler, VcpuKey};
use crate::timers::Timers;
use crate::vgic::Version;
use crate::vmid::Vmids;
use crate::word;

/// The host's interrupts that the hypervisor itself takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostInterrupts {
    /// The hypervisor's timer (CNTHP).
    pub hypervisor_timer: Intid,
    /// The virtual timer (CNTV), which is the guests'.
    pub virtual_timer: Intid,
    /// Maintenance of the virtual CPU interface.
    pub maintenance: Intid,
    /// The console UART, if it has an interrupt.
    pub uart: Option<Intid>,
}

/// The interrupt controller that guests get, which is the host's kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestGic {
    /// GICv2: its virtual CPU interface is the hardware's, at this physical place.
    V2 {
        /// GICV registers.
        gicv: PaRange,
    },
    /// GICv3, by system registers.
    V3,
}

impl GuestGic {
    /// Its version.
    pub fn version(&self) -> Version {
        match self {
            Self::V2 { .. } => Version::V2,
            Self::V3 => Version::V3,
        }
    }
}

/// What is fixed at boot and belongs to no other part.
pub struct Settings {
    /// Interrupt numbers.
    pub interrupts: HostInterrupts,
    /// What guests get for an interrupt controller.
    pub guest_gic: GuestGic,
    /// Shape of stage-2 tables.
    pub shape: Shape,
    /// The Xen release that we say we are, major and minor.
    pub xen_version: (u16, u16),
    /// The command line, for XENVER_commandline.
    pub command_line: String,
    /// Stop instead of a reset when dom0 ends badly or asks for one (`noreboot`).
    pub no_reboot: bool,
    /// End of the highest bank of RAM.
    pub ram_end: Pa,
    /// The physical counter when the hypervisor started: system time 0.
    pub boot_time: u64,
    /// The counter's frequency in hertz, which guests are told where its register cannot be trusted; else 0.
    pub clock_frequency: u32,
}

/// The hypervisor. One exists; every CPU runs [`Hypervisor::run_cpu`] on it.
pub struct Hypervisor<M: Machine> {
    /// The machine below.
    pub machine: M,
    /// Which vCPU runs where.
    pub scheduler: Scheduler<Seat<M>>,
    /// Free memory.
    pub frames: Mutex<Frames>,
    /// Domains by identifier.
    pub domains: RwLock<BTreeMap<u16, Arc<Domain<M>>>>,
    /// The console, the log and the keys.
    pub console: Console,
    /// What guests read in ID registers.
    pub id_registers: IdRegisters,
    /// Fixed at boot.
    pub settings: Settings,
    /// Dom0's wall clock when system time was 0: nanoseconds since 1970.
    wall_clock: Mutex<u128>,
    /// Held while a domain is made.
    pub(crate) creation: Mutex<()>,
    /// TLB tags that domains have.
    pub(crate) vmids: Mutex<Vmids>,
    /// Where the next search for a domain's number begins.
    pub(crate) next_domid: AtomicU16,
    /// Domains that are dead and not forgotten.
    pub(crate) zombies: AtomicUsize,
    /// For each global virtual interrupt request the domain that gets it.
    virq_handlers: [AtomicU16; NR_VIRQS as usize],
    timers: Vec<Mutex<Timers>>,
    /// For each physical SPI (from INTID 32) the domain that has it, or [`NO_OWNER`].
    spi_owners: Vec<AtomicU16>,
}

const NO_OWNER: u16 = u16::MAX;

impl<M: Machine> Hypervisor<M> {
    /// A hypervisor for `cpus` CPUs, with no domain yet.
    pub fn new(
        machine: M,
        cpus: usize,
        frames: Frames,
        console: Console,
        id_registers: IdRegisters,
        settings: Settings,
    ) -> Self {
        let frequency = machine.frequency();
        let spis = machine.intid_limit().saturating_sub(FIRST_SPI);
        Self {
            scheduler: Scheduler::new(cpus, frequency),
            frames: Mutex::new(frames),
            domains: RwLock::new(BTreeMap::new()),
            console,
            id_registers,
            settings,
            wall_clock: Mutex::new(0),
            creation: Mutex::new(()),
            vmids: Mutex::new(Vmids::default()),
            next_domid: AtomicU16::new(1),
            zombies: AtomicUsize::new(0),
            virq_handlers: [const { AtomicU16::new(DOM0) }; NR_VIRQS as usize],
            timers: (0..cpus).map(|_| Mutex::new(Timers::new())).collect(),
            spi_owners: (0..spis).map(|_| AtomicU16::new(NO_OWNER)).collect(),
            machine,
        }
    }

    /// Writes a line of the hypervisor's own to console and log.
    pub fn log(&self, line: fmt::Arguments<'_>) {
        self.console.log(&self.machine, line);
    }

    /// Makes a domain known and its first vCPU ready to be brought online.
    pub fn add_domain(&self, domain: Arc<Domain<M>>, affinity: CpuMask, weight: u32) {
        for vcpu in &domain.vcpus {
            let seat = Seat { vcpu: vcpu.clone(), domain: domain.clone() };
            self.scheduler.add(vcpu.key, Arc::new(seat), affinity, weight);
        }
        self.domains.write().insert(domain.id, domain);
    }

    /// The domain with the identifier.
    pub fn domain(&self, id: u16) -> Option<Arc<Domain<M>>> {
        self.domains.read().get(&id).cloned()
    }

    /// The domain with the lowest identifier from `id` on.
    pub fn domain_from(&self, id: u16) -> Option<Arc<Domain<M>>> {
        self.domains.read().range(id..).next().map(|(_, domain)| domain.clone())
    }

    /// The vCPU with the name, and its domain.
    pub fn seat(&self, key: VcpuKey) -> Option<Seat<M>> {
        let domain = self.domain(key.domain)?;
        let vcpu = domain.vcpus.get(usize::from(key.vcpu))?.clone();
        Some(Seat { vcpu, domain })
    }

    /// A frame of zeroes that belongs to a domain, with one reference.
    pub fn zeroed_frame(&self, domain: u16) -> Option<Pa> {
        let pa = self.frames.lock().allocate_for(domain, 0)?;
        // Frames are RAM that the machine reaches; were one not, it stays out of use.
        self.machine.zero(pa, PAGE_SIZE).ok().map(|()| pa)
    }

    /// Gives a physical SPI to a domain, where it has the same number.
    pub fn assign_spi(&self, spi: Intid, domain: u16) {
        if let Some(owner) = self.spi_slot(spi) {
            owner.store(domain, Ordering::Release);
        }
    }

    /// The domain that has the physical SPI.
    pub fn spi_owner(&self, spi: Intid) -> Option<Arc<Domain<M>>> {
        match self.spi_slot(spi)?.load(Ordering::Acquire) {
            NO_OWNER => None,
            id => self.domain(id),
        }
    }

    /// Gives a physical SPI that no domain has to a domain; whether it did.
    pub fn claim_spi(&self, spi: Intid, domain: u16) -> bool {
        self.spi_slot(spi).is_some_and(|owner| {
            owner.compare_exchange(NO_OWNER, domain, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        })
    }

    /// Takes a physical SPI away from the domain, if that has it.
    pub fn release_spi(&self, spi: Intid, domain: u16) {
        if let Some(owner) = self.spi_slot(spi) {
            // It fails for another's.
            let _ = owner.compare_exchange(domain, NO_OWNER, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Takes all physical SPIs away from a domain.
    pub(crate) fn take_spis(&self, domain: u16) {
        for owner in &self.spi_owners {
            // It fails for those of others.
            let _ = owner.compare_exchange(domain, NO_OWNER, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Forgets what a domain's vCPUs and watchdogs are armed for.
    pub(crate) fn cancel_timers(&self, domain: &Domain<M>) {
        for timers in &self.timers {
            timers.lock().forget(domain.id);
        }
    }

    fn spi_slot(&self, spi: Intid) -> Option<&AtomicU16> {
        self.spi_owners.get(spi.checked_sub(FIRST_SPI)? as usize)
    }

    /// The deadlines of `cpu`.
    pub fn timers(&self, cpu: CpuId) -> Option<&Mutex<Timers>> {
        self.timers.get(cpu)
    }

    /// Has the vCPU look at its virtual interrupt controller: it leaves its guest, or wakes, if it has to.
    ///
    /// The caller has made visible there, or in the domain's event channels, what the vCPU is to find.
    pub fn notify(&self, vcpu: &Vcpu<M>) {
        vcpu.attention.store(true, Ordering::SeqCst);
        match vcpu.running_on.load(Ordering::SeqCst) {
            NOWHERE => {
                if let Some(cpu) = self.scheduler.wake(vcpu.key, self.machine.now()) {
                    self.kick(cpu);
                }
            }
            cpu => self.kick(cpu),
        }
    }

    /// Has `cpu` leave its guest or its sleep, unless it is this one, which is in neither.
    pub fn kick(&self, cpu: CpuId) {
        if cpu != self.machine.this_cpu() {
            self.machine.kick(cpu);
        }
    }

    /// Switches a vCPU on that is set up.
    pub fn bring_online(&self, vcpu: &Vcpu<M>) {
        vcpu.online.store(true, Ordering::Release);
        if let Some(cpu) = self.scheduler.bring_online(vcpu.key, self.machine.now()) {
            self.kick(cpu);
        }
    }

    /// Switches a vCPU off, of a domain that is paused: it keeps its registers and does not run.
    pub fn take_offline(&self, vcpu: &Vcpu<M>) {
        vcpu.online.store(false, Ordering::Release);
        self.scheduler.take_offline(vcpu.key, self.machine.now());
        vcpu.runstate.lock().enter(RUNSTATE_OFFLINE, self.system_time());
    }

    /// Raises the event-channel interrupt of a vCPU, whose event is pending in guest memory already.
    pub fn raise_event(&self, domain: &Domain<M>, vcpu: usize) {
        let told = domain.vgic.lock().raise(vcpu, domain.interrupts.event);
        self.tell(domain, told);
        self.wake_pollers(domain);
    }

    /// Sets the level of an emulated interrupt of a vCPU.
    pub fn set_line(&self, domain: &Domain<M>, vcpu: usize, intid: Intid, high: bool) {
        let told = domain.vgic.lock().set_line(vcpu, intid, high);
        self.tell(domain, told);
    }

    /// Notifies the vCPU that a virtual GIC named, if it named one.
    pub fn tell(&self, domain: &Domain<M>, vcpu: Option<usize>) {
        if let Some(vcpu) = vcpu.and_then(|v| domain.vcpus.get(v)) {
            self.notify(vcpu);
        }
    }

    /// Sends a domain the virtual interrupt request `virq` on its vCPU 0, if it has bound it.
    pub fn send_virq(&self, domain: &Domain<M>, virq: u32) {
        self.send_vcpu_virq(domain, 0, virq);
    }

    /// Sends a vCPU the virtual interrupt request `virq`, if it has bound it.
    pub fn send_vcpu_virq(&self, domain: &Domain<M>, vcpu: usize, virq: u32) {
        let notify = domain.events.lock().send_virq(&self.machine, vcpu as u32, virq);
        if let Some(vcpu) = notify {
            self.raise_event(domain, vcpu as usize);
        }
    }

    /// Sends the virtual interrupt request `virq`, which one domain has for all, to the domain that handles it.
    pub fn send_global_virq(&self, virq: u32) {
        let handler = self.virq_handlers.get(virq as usize).map_or(DOM0, |h| h.load(Ordering::Acquire));
        if let Some(domain) = self.domain(handler) {
            self.send_virq(&domain, virq);
        }
    }

    /// Has global virtual interrupt requests of the number go to the domain. EINVAL for one that is not global.
    pub fn set_virq_handler(&self, virq: u32, domain: u16) -> Result<(), Errno> {
        let handler = self.virq_handlers.get(virq as usize).filter(|_| !is_per_vcpu(virq));
        handler.ok_or(Errno::EINVAL)?.store(domain, Ordering::Release);
        Ok(())
    }

    /// Dom0 handles again what an ending domain did: the next one of its number is not to be told.
    pub fn drop_virq_handler(&self, domain: u16) {
        for handler in &self.virq_handlers {
            let _ = handler.compare_exchange(domain, DOM0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// System time: nanoseconds since the hypervisor started.
    pub fn system_time(&self) -> u64 {
        self.nanoseconds(self.machine.now().saturating_sub(self.settings.boot_time))
    }

    /// Takes over dom0's wall clock, `seconds` and `nanoseconds` since 1970 at `system_time`, and shows it to every
    /// domain.
    pub fn set_wall_clock(&self, seconds: u64, nanoseconds: u32, system_time: u64) {
        let now = u128::from(seconds) * 1_000_000_000 + u128::from(nanoseconds);
        *self.wall_clock.lock() = now.saturating_sub(u128::from(system_time));
        // None of them is forgotten, with its shared page, while they are looked at.
        for domain in self.domains.read().values() {
            self.write_wall_clock(domain);
        }
    }

    /// Shows the wall clock to one domain, if it is not forgotten. The list of domains must not be locked.
    pub fn show_wall_clock(&self, domain: &Domain<M>) {
        let domains = self.domains.read();
        if let Some(known) = domains.get(&domain.id).filter(|known| core::ptr::eq(&***known, domain)) {
            self.write_wall_clock(known);
        }
    }

    /// Writes the wall clock into a domain's shared_info (`xen.h`, wc_*): the time at which system time was 0, for this
    /// domain, which must be known as long.
    fn write_wall_clock(&self, domain: &Domain<M>) {
        let at_boot = *self.wall_clock.lock();
        let offset = domain.time_offset.load(Ordering::Acquire);
        let seconds = ((at_boot / 1_000_000_000) as u64).saturating_add_signed(offset);
        let nanoseconds = (at_boot % 1_000_000_000) as u32;
        // A version that is odd while the rest changes (`xen.h`, wc_version).
        let writes = [
            (shared_info::SHARED_INFO_WC_VERSION, None),
            (shared_info::SHARED_INFO_WC_SEC, Some(seconds as u32)),
            (shared_info::SHARED_INFO_WC_SEC_HI, Some((seconds >> 32) as u32)),
            (shared_info::SHARED_INFO_WC_NSEC, Some(nanoseconds)),
            (shared_info::SHARED_INFO_WC_VERSION, None),
        ];
        for (offset, value) in writes {
            let at = domain.shared_info.offset(offset as u64);
            let new = |old: u32| Some(value.unwrap_or(old.wrapping_add(1)));
            if word::update(&self.machine, at, new).is_none() {
                self.log(format_args!("d{}: the wall clock at {at} cannot be written", domain.id));
                return;
            }
        }
    }
}
