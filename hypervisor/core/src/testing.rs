//! A small world for tests: a hypervisor on the fake machine with a domain like dom0, made without a device tree.
//!
//! ```text
//!   0x4000_0000  RAM of domain 0, 4 MiB, mapped 1:1     0x0800_0000  its distributor (GICv2, emulated)
//!   0x4040_0000  RAM of domain 1, 1 MiB, mapped 1:1     0x0900_0000  its UART (emulated)
//!   0x4080_0000  free frames, 4 MiB                     0x0a00_0000  a device of its own
//! ```
//!
//! Virtual pages from [`BUFFER`] on lead to domain 0's RAM from [`BUFFER_PA`] on, and [`READ_ONLY`] to a page that may
//! only be read. Nothing else is mapped virtually.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use vambrace_abi::errno::Errno;
use vambrace_abi::handle::XenHandle;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::addr::{GuestVa, Ipa, PAGE_SIZE, Pa, PaRange};
use crate::console::Console;
use crate::domain::{Domain, GuestInterrupts, MmioDevice, MmioRegion};
use crate::domain_spec::DomainSpec;
use crate::fake::{FakeContext, FakeMachine};
use crate::frames::Frames;
use crate::grant::DEFAULT_MAX_FRAMES;
use crate::hypercall;
use crate::hypervisor::{GuestGic, HostInterrupts, Hypervisor, Settings};
use crate::idregs::IdRegisters;
use crate::machine::{Intid, Memory};
use crate::p2m::{Kind, Shape};
use crate::run::Next;
use crate::sched::{CpuMask, DEFAULT_WEIGHT, VcpuKey};
use crate::trap::{GuestRegs, SysReg, Trap};
use crate::umem::GuestMemory;
use crate::vgic::{Effects, Version};
use crate::vpl011::Vpl011;

pub(crate) const MIB: u64 = 1 << 20;
/// RAM of domain 0.
pub(crate) const RAM: u64 = 0x4000_0000;
pub(crate) const RAM_SIZE: u64 = 4 * MIB;
/// RAM of domain 1.
pub(crate) const OTHER_RAM: u64 = 0x4040_0000;
pub(crate) const FREE: u64 = 0x4080_0000;
pub(crate) const DISTRIBUTOR: u64 = 0x0800_0000;
pub(crate) const UART: u64 = 0x0900_0000;
pub(crate) const DEVICE: u64 = 0x0a00_0000;
/// Virtual address of sixteen pages that may be read and written.
pub(crate) const BUFFER: u64 = 0x10_0000;
/// Where they lie.
pub(crate) const BUFFER_PA: u64 = RAM + 0x10_0000;
/// Virtual address of a page that may only be read.
pub(crate) const READ_ONLY: u64 = 0x20_0000;
/// Virtual address where nothing is.
pub(crate) const NOWHERE_VA: u64 = 0xdead_0000;

pub(crate) const EVENT: Intid = 31;
pub(crate) const PHYSICAL_TIMER: Intid = 30;
pub(crate) const VIRTUAL_TIMER: Intid = 27;
pub(crate) const HYPERVISOR_TIMER: Intid = 26;
pub(crate) const MAINTENANCE: Intid = 25;
pub(crate) const HOST_UART: Intid = 33;
/// The SPI of [`DEVICE`], which domain 0 has.
pub(crate) const DEVICE_SPI: Intid = 40;

/// ID_AA64PFR0_EL1 and MIDR_EL1, of which the fake CPU has something.
pub(crate) const ID_AA64PFR0: SysReg = SysReg::new(3, 0, 0, 4, 0);
pub(crate) const MIDR: SysReg = SysReg::new(3, 0, 0, 0, 0);

pub(crate) struct World {
    pub(crate) hv: Hypervisor<FakeMachine>,
    /// Domain 0, with the hardware.
    pub(crate) domain: Arc<Domain<FakeMachine>>,
}

fn range(start: u64, size: u64) -> PaRange {
    PaRange::new(Pa(start), size).unwrap()
}

impl World {
    /// Domain 0 with `vcpus` vCPUs on a machine of `cpus` CPUs; vCPU 0 is online.
    pub(crate) fn new(vcpus: usize, cpus: usize) -> Self {
        Self::of_width(vcpus, cpus, false)
    }

    /// As [`World::new`], with a 32-bit domain 0.
    pub(crate) fn aarch32(vcpus: usize, cpus: usize) -> Self {
        Self::of_width(vcpus, cpus, true)
    }

    fn of_width(vcpus: usize, cpus: usize, aarch32: bool) -> Self {
        let machine = FakeMachine::with_ram(RAM, 16 * MIB);
        // EL0 and EL1 in AArch64 and AArch32, EL2, SVE.
        machine.set_id_register(ID_AA64PFR0, 0x1_0000_0122);
        machine.set_id_register(MIDR, 0x410f_d083);
        for page in 0..16 {
            let at = page * PAGE_SIZE;
            machine.map_virtual(GuestVa(BUFFER + at), Pa(BUFFER_PA + at), true);
        }
        machine.map_virtual(GuestVa(READ_ONLY), Pa(RAM + 0x20_0000), false);
        let ram = range(RAM, 16 * MIB);
        let mut frames = Frames::new(&[ram]);
        frames.release(range(FREE, 8 * MIB)).unwrap();
        let settings = Settings {
            interrupts: HostInterrupts {
                hypervisor_timer: HYPERVISOR_TIMER,
                virtual_timer: VIRTUAL_TIMER,
                maintenance: MAINTENANCE,
                uart: Some(HOST_UART),
            },
            guest_gic: GuestGic::V2 { gicv: range(0x0804_0000, 0x2000) },
            xen_version: (4, 20),
            shape: Shape::for_physical(40),
            command_line: String::from("console=dtuart dom0_mem=4M"),
            no_reboot: false,
            ram_end: ram.end,
            boot_time: 0,
            clock_frequency: 0,
        };
        let ids = IdRegisters::new(&machine, false);
        let hv = Hypervisor::new(machine, cpus, frames, Console::default(), ids, settings);
        (0..cpus).for_each(|cpu| hv.scheduler.cpu_online(cpu));
        let domain = add_domain(&hv, 0, vcpus, range(RAM, RAM_SIZE), aarch32);
        hv.assign_spi(DEVICE_SPI, 0);
        hv.bring_online(&domain.vcpus[0]);
        let world = Self { hv, domain };
        world.machine().controller().kicks.clear();
        world
    }

    /// One vCPU on one CPU.
    pub(crate) fn small() -> Self {
        Self::new(1, 1)
    }

    /// Adds domain 1, which has no privileges, with one vCPU, offline.
    pub(crate) fn add_other(&self) -> Arc<Domain<FakeMachine>> {
        add_domain(&self.hv, 1, 1, range(OTHER_RAM, MIB), false)
    }

    pub(crate) fn machine(&self) -> &FakeMachine {
        &self.hv.machine
    }

    /// Makes a hypercall on vCPU 0 of a domain, as if loaded on CPU 0. Nothing but x0 may change.
    pub(crate) fn call_by(&self, domain: u16, op: u32, args: [u64; 5]) -> (i64, Next) {
        let (result, next, _) = self.call_in_goes(domain, op, args);
        (result, next)
    }

    /// As [`World::call_by`], and in how many goes the call was made.
    pub(crate) fn call_in_goes(&self, domain: u16, op: u32, args: [u64; 5]) -> (i64, Next, u64) {
        let seat = self.hv.seat(VcpuKey { domain, vcpu: 0 }).unwrap();
        let mut run = seat.vcpu.run.lock();
        for (n, x) in (0..).zip(&mut run.regs.x) {
            *x = 0x1000 + n;
        }
        run.regs.x[..5].copy_from_slice(&args);
        run.regs.x[16] = op.into();
        run.regs.pc = 0x8_0004;
        let before = run.regs.clone();
        let mut next = hypercall::dispatch(&self.hv, 0, &seat, &mut run);
        let mut goes = 1;
        // A long call is made again, with other arguments.
        while run.regs.pc == before.pc - 4 {
            assert_eq!(next, Next::Resume);
            run.regs.pc = before.pc;
            next = hypercall::dispatch(&self.hv, 0, &seat, &mut run);
            goes += 1;
        }
        assert_eq!(run.regs.x[5..], before.x[5..]);
        assert_eq!((run.regs.pc, run.regs.pstate), (before.pc, before.pstate));
        (run.regs.x[0] as i64, next, goes)
    }

    /// As [`World::call_by`] from domain 0, for a call after which the guest goes on.
    pub(crate) fn call(&self, op: u32, args: &[u64]) -> i64 {
        let mut all = [0; 5];
        all[..args.len()].copy_from_slice(args);
        let (result, next) = self.call_by(0, op, all);
        assert_eq!(next, Next::Resume);
        result
    }

    /// Writes `value` to the buffer at `offset` and answers its virtual address.
    pub(crate) fn put<T: IntoBytes + Immutable>(&self, offset: u64, value: T) -> u64 {
        GuestMemory::of_hardware(self.machine()).write(XenHandle::new(BUFFER + offset), &value).unwrap();
        BUFFER + offset
    }

    /// Reads from the buffer at `offset`.
    pub(crate) fn get<T: FromBytes + IntoBytes>(&self, offset: u64) -> T {
        GuestMemory::of_hardware(self.machine()).read(XenHandle::new(BUFFER + offset)).unwrap()
    }

    /// Makes call `op` with `command` and a structure at the start of the buffer; answers result and structure.
    pub(crate) fn with<T>(&self, op: u32, command: u32, value: T) -> (i64, T)
    where
        T: FromBytes + IntoBytes + Immutable,
    {
        let at = self.put(0, value);
        let result = self.call(op, &[command.into(), at, 1]);
        (result, self.get(0))
    }

    /// Switches the guest's interrupt controller on, with SGIs, PPIs, the device's interrupt and the UART's enabled.
    pub(crate) fn enable_interrupts(&self) {
        let mut vgic = self.domain.vgic.lock();
        let mut effects = Effects::new(&self.hv, &self.domain, None);
        vgic.dist_write(0, 0, 4, 1, &mut effects);
        for vcpu in 0..self.domain.vcpus.len() {
            vgic.dist_write(vcpu, 0x100, 4, 0xffff_ffff, &mut effects);
        }
        vgic.dist_write(0, 0x104, 4, 1 << (DEVICE_SPI - 32) | 1 << (HOST_UART - 32), &mut effects);
        for intid in [DEVICE_SPI, HOST_UART] {
            vgic.dist_write(0, 0x800 + u64::from(intid), 1, 1, &mut effects);
        }
    }

    /// The registers of a vCPU that is not loaded.
    pub(crate) fn regs(&self, vcpu: usize) -> GuestRegs {
        self.domain.vcpus[vcpu].run.try_lock().unwrap().regs.clone()
    }

    /// The context of a vCPU that is not loaded.
    pub(crate) fn context(&self, vcpu: usize) -> FakeContext {
        self.domain.vcpus[vcpu].run.try_lock().unwrap().context.clone()
    }

    /// Has the guest stop with `trap`, then wait, and runs it on CPU 0 that far. Its registers are in [`World::regs`].
    pub(crate) fn trap(&self, setup: impl FnOnce(&mut GuestRegs) + Send + 'static, trap: Trap) {
        self.machine().push_step(move |_, regs, _| {
            setup(regs);
            trap
        });
        self.machine().push_step(|_, regs, _| {
            // Not to be seen in the program counter.
            regs.pc = regs.pc.wrapping_sub(4);
            Trap::Wait { event: false, instruction_length: 4 }
        });
        if self.hv.scheduler.account(self.domain.vcpus[0].key).unwrap().status
            == crate::sched::Status::Blocked
        {
            self.hv.scheduler.wake(self.domain.vcpus[0].key, 0);
        }
        self.hv.round(0);
        assert_eq!(self.machine().steps_left(), 0);
    }

    /// What went to the console since the last call.
    pub(crate) fn console(&self) -> String {
        String::from_utf8(self.machine().take_console()).unwrap()
    }
}

/// The negative of an error as it stands in x0.
pub(crate) const fn error(errno: Errno) -> i64 {
    -(errno as i64)
}

fn add_domain(
    hv: &Hypervisor<FakeMachine>,
    id: u16,
    vcpus: usize,
    ram: PaRange,
    aarch32: bool,
) -> Arc<Domain<FakeMachine>> {
    let m = &hv.machine;
    let is_hardware = id == 0;
    hv.frames.lock().adopt(ram, id).unwrap();
    let region = |base, size, device| MmioRegion { base: Ipa(base), size, device };
    let spec = DomainSpec {
        id,
        vcpus: vcpus as u32,
        gic: Version::V2,
        spis: 224,
        interrupts: GuestInterrupts {
            event: EVENT,
            virtual_timer: VIRTUAL_TIMER,
            physical_timer: PHYSICAL_TIMER,
            uart: Some(HOST_UART),
        },
        mmio: Vec::from([
            region(DISTRIBUTOR, 0x1000, MmioDevice::Distributor),
            region(UART, 0x1000, MmioDevice::Uart),
        ]),
        uart: Some(Vpl011::new()),
        aarch32,
        is_hardware,
        direct: is_hardware.then(|| Vec::from([ram])),
        max_pages: ram.pages(),
        max_port: 1023,
        max_grant_frames: DEFAULT_MAX_FRAMES,
        max_maptrack_frames: 16,
        handle: [id as u8; 16],
    };
    let domain = Arc::new(Domain::new(hv, spec).unwrap());
    {
        let mut p2m = domain.p2m.lock();
        let mut frames = hv.frames.lock();
        p2m.map(m, &mut frames, Ipa(ram.start.0), ram.start, ram.size(), Kind::Ram).unwrap();
        if is_hardware {
            p2m.map(m, &mut frames, Ipa(DEVICE), Pa(DEVICE), PAGE_SIZE, Kind::Device).unwrap();
        }
    }
    for vcpu in &domain.vcpus {
        let mut run = vcpu.run.lock();
        run.regs = GuestRegs { pc: ram.start.0, pstate: 0x3c5, ..GuestRegs::default() };
    }
    if is_hardware {
        let mut effects = Effects::new(hv, &domain, None);
        let mut vgic = domain.vgic.lock();
        for vcpu in 0..vcpus {
            vgic.set_hardware(vcpu, VIRTUAL_TIMER, Some(VIRTUAL_TIMER), &mut effects).unwrap();
        }
        vgic.set_hardware(0, DEVICE_SPI, Some(DEVICE_SPI), &mut effects).unwrap();
    }
    hv.add_domain(domain.clone(), CpuMask::MAX, DEFAULT_WEIGHT);
    domain
}

/// Bytes of physical memory.
pub(crate) fn bytes_at(machine: &FakeMachine, pa: u64, length: usize) -> Vec<u8> {
    let mut bytes = alloc::vec![0; length];
    machine.read(Pa(pa), &mut bytes).unwrap();
    bytes
}
