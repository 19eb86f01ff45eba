//! The hypervisor's binary: find the machine in the device tree, wire `hal` to `core`, run.
//!
//! ```text
//!   main: device tree -> Platform -> console, RAM, GIC -> plan -> heap -> CPUs -> dom0 -> run_cpu
//!   secondary:                                                    wait  -> init ------> run_cpu
//! ```
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use core::fmt::{Display, Write};
use core::hint::spin_loop;

use spin::Once;
use vambrace_core::addr::{Pa, PaRange};
use vambrace_core::cmdline::Options;
use vambrace_core::console::Console;
use vambrace_core::frames::Frames;
use vambrace_core::hypervisor::{GuestGic, HostInterrupts, Hypervisor, Settings};
use vambrace_core::idregs::IdRegisters;
use vambrace_core::machine::{Console as _, Interrupts, Machine};
use vambrace_core::p2m::Shape;
use vambrace_core::platform::tree::Tree;
use vambrace_core::platform::{self, Cpu, GicFrames, Platform, Timer, subtract};
use vambrace_core::{boot, dom0, static_guest};
use vambrace_hal::boot::BootInfo;
use vambrace_hal::cpu::world;
use vambrace_hal::machine::Arm;
use vambrace_hal::panic::{Raw, end, halt, set_console, set_log, set_machine, set_reset};
use vambrace_hal::{devices, entry, mmu};

entry!(main, secondary);

static HYPERVISOR: Once<Hypervisor<Arm>> = Once::new();

/// Name of the board that this binary was built for.
const BOARD: &str = match option_env!("VAMBRACE_BOARD") {
    Some(board) => board,
    None => "any",
};

/// The Xen release whose interface this is, if the command line asks for no other.
const XEN_VERSION: (u16, u16) = (4, 20);

/// The maintenance interrupt where the device tree does not name it (SBSA: PPI 9).
const MAINTENANCE_DEFAULT: u32 = 25;

/// The value, or the end: whatever is wrong here is wrong for good.
fn or_halt<T, E: Display>(result: Result<T, E>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(e) => end(format_args!("{what}: {e}")),
    }
}

fn main(info: BootInfo) -> ! {
    let _ = writeln!(Raw, "\n(VMB) Vambrace {} for {BOARD}", env!("CARGO_PKG_VERSION"));
    let tree = or_halt(Tree::parse(info.dtb), "Cannot boot");
    let mut platform = or_halt(Platform::from_tree(&tree), "Cannot boot");
    let options = Options::parse(&platform.boot.hypervisor_args);
    if let Some(after) = options.panic.filter(|_| !options.noreboot) {
        set_reset(after, &platform.power.reset, platform.psci.as_ref());
    }
    if let Some(uart) = &platform.console {
        match devices::open_uart(uart) {
            Ok(uart) => {
                let first = vambrace_hal::panic::console().is_none();
                set_console(uart);
                if first && info.boot_uart.is_none() {
                    let _ = writeln!(Raw, "\n(VMB) Vambrace {} for {BOARD}", env!("CARGO_PKG_VERSION"));
                }
            }
            Err(e) => {
                let _ = writeln!(Raw, "(VMB) Console {}: {e}", uart.path);
            }
        }
    }
    set_clock(&platform.timer);
    cut_ram(&mut platform, world::physical_address_bits());
    let ram = map_ram(&platform);
    let gic = or_halt(devices::open_gic(&platform.gic), "Interrupt controller");
    let mut machine = Arm::new(&ram, gic, platform.psci.clone(), platform.power.clone());
    let tree_range = PaRange::new(Pa(info.dtb.as_ptr() as u64), info.dtb.len() as u64).unwrap_or_default();
    let plan = or_halt(boot::plan(&machine, &platform, info.image, tree_range), "Cannot boot");
    if let Err(e) = info.heap.extend(plan.map.heap) {
        end(format_args!("Heap at {}: {e:?}", plan.map.heap.start));
    }
    machine.refresh_reach(&ram);

    let shape = Shape::for_physical(world::physical_address_bits());
    or_halt(machine.init_interrupts(), "Interrupt controller");
    or_halt(machine.init_cpu(0, shape), "Interrupt controller");
    let cpus = cpus_to_start(&platform, info.mpidr, plan.options.max_cpus);
    let hv = new_hypervisor(machine, &platform, &plan, cpus.len(), info.entered, shape);
    set_machine(&hv.machine);
    set_log(&hv.console);
    hv.console.note(format_args!("Vambrace {} for {BOARD}", env!("CARGO_PKG_VERSION")));
    hv.log(format_args!("{}, {} MiB of memory", platform.model, megabytes(&platform.ram)));
    for warning in &platform.warnings {
        hv.log(format_args!("{warning}"));
    }
    for warning in &plan.options.warnings {
        hv.log(format_args!("{warning}"));
    }
    for refused in &plan.refused_guests {
        hv.log(format_args!("{refused}"));
    }
    release_memory(hv, &plan.map.free);
    join(hv, 0);
    enable_console_input(hv);
    let started = start_cpus(hv, &cpus);
    let guests = static_guest::build(hv, &tree, &platform, &plan.guests);
    let dom0 = or_halt(dom0::build(hv, &tree, &platform, &plan, started), "Dom0");
    release_memory(hv, &plan.map.free_after_copy);
    hv.log(format_args!("{}", dom0::describe(&dom0, &plan)));
    static_guest::start(hv, guests);
    hv.log(format_args!("Dom0 starts, {} us after the hypervisor did", hv.system_time() / 1000));
    drop((platform, plan, dom0));
    hv.run_cpu(0)
}

fn secondary(cpu: usize) -> ! {
    let hv = loop {
        match HYPERVISOR.get() {
            Some(hv) => break hv,
            None => spin_loop(),
        }
    };
    if let Err(e) = hv.machine.init_cpu(cpu, hv.settings.shape) {
        halt(format_args!("CPU {cpu}: {e}"));
    }
    join(hv, cpu);
    hv.run_cpu(cpu)
}

/// Has the counter count as the device tree says, or as the board wants it set up.
fn set_clock(timer: &Timer) {
    if let Some(counter) = &timer.counter
        && let Err(e) = devices::set_counter(counter)
    {
        let _ = writeln!(Raw, "(VMB) The counter is left as it is: {e}");
        return;
    }
    if let Some(frequency) = timer.frequency {
        vambrace_hal::timer::set_frequency(frequency);
    }
}

fn megabytes(ranges: &[PaRange]) -> u64 {
    ranges.iter().map(|r| r.size() >> 20).sum()
}

/// Leaves out RAM that no physical address of `bits` bits reaches.
fn cut_ram(platform: &mut Platform, bits: u8) {
    let limit = Pa(1 << bits);
    if platform.ram.last().is_some_and(|bank| bank.end > limit) {
        platform.ram = subtract(&platform.ram, &[PaRange { start: limit, end: Pa(u64::MAX) }]);
        platform.warnings.push("Memory beyond the CPU's physical addresses is left out".into());
    }
}

/// Maps all RAM that may be mapped.
fn map_ram(platform: &Platform) -> Vec<PaRange> {
    let off: Vec<PaRange> =
        platform.reserved.iter().filter(|r| r.no_map).map(|r| r.range.page_outer()).collect();
    let ram = subtract(&platform.ram, &off);
    for bank in &ram {
        if let Err(e) = mmu::map_ram(*bank) {
            end(format_args!("Memory at {}..{} cannot be mapped: {e:?}", bank.start, bank.end));
        }
    }
    ram
}

/// The CPUs by our numbers: the one that booted first, then the others as the device tree has them, up to `limit`.
fn cpus_to_start(platform: &Platform, boot: u64, limit: Option<u32>) -> Vec<Cpu> {
    let (mut cpus, others): (Vec<Cpu>, Vec<Cpu>) =
        platform.cpus.iter().cloned().partition(|cpu| cpu.mpidr == boot & platform::MPIDR_AFFINITY);
    if cpus.is_empty() {
        end(format_args!("The CPU that runs this, MPIDR {boot:#x}, is not in the device tree"));
    }
    cpus.truncate(1);
    cpus.extend(others);
    cpus.truncate(limit.map_or(usize::MAX, |l| l as usize).max(1));
    cpus
}

fn new_hypervisor(
    machine: Arm,
    platform: &Platform,
    plan: &boot::Plan,
    cpus: usize,
    entered: u64,
    shape: Shape,
) -> &'static Hypervisor<Arm> {
    let gicv3 = matches!(platform.gic.frames, GicFrames::V3 { .. });
    let uart = platform.console.as_ref().and_then(|uart| uart.interrupt);
    let settings = Settings {
        interrupts: HostInterrupts {
            hypervisor_timer: platform.timer.hypervisor,
            virtual_timer: platform.timer.virtual_,
            maintenance: platform.gic.maintenance.map_or(MAINTENANCE_DEFAULT, |i| i.intid),
            uart: uart.filter(|i| i.is_spi()).map(|i| i.intid),
        },
        guest_gic: match &platform.gic.frames {
            GicFrames::V2 { gicv, .. } => GuestGic::V2 { gicv: *gicv },
            GicFrames::V3 { .. } => GuestGic::V3,
        },
        xen_version: plan.options.xen_version.unwrap_or(XEN_VERSION),
        shape,
        command_line: platform.boot.hypervisor_args.clone(),
        no_reboot: plan.options.noreboot,
        ram_end: platform.ram.iter().map(|bank| bank.end).max().unwrap_or_default(),
        boot_time: entered,
        clock_frequency: platform.timer.frequency.unwrap_or(0),
    };
    let ids = IdRegisters::new(&machine, gicv3);
    let switch = plan.options.console_switch.or(Some(b'a'));
    let console = Console::new(switch, plan.options.console_starts_in_hypervisor);
    let frames = Frames::new(&platform.ram);
    HYPERVISOR.call_once(|| Hypervisor::new(machine, cpus, frames, console, ids, settings))
}

/// Makes memory free. The host's device tree stays where it is; it is private to the hypervisor.
fn release_memory(hv: &Hypervisor<Arm>, ranges: &[PaRange]) {
    let private: Vec<PaRange> = vambrace_hal::private::private_ranges().collect();
    let mut frames = hv.frames.lock();
    for range in subtract(ranges, &private) {
        or_halt(frames.release(range), "Free memory");
    }
}

/// Lets through the interrupts of this CPU that the hypervisor takes for itself, and has it take work: domains that are made
/// from now on have a CPU.
fn join(hv: &Hypervisor<impl Machine>, cpu: usize) {
    let own = &hv.settings.interrupts;
    for intid in [own.hypervisor_timer, own.virtual_timer, own.maintenance] {
        hv.machine.enable(intid);
    }
    hv.scheduler.cpu_online(cpu);
}

fn enable_console_input(hv: &Hypervisor<Arm>) {
    if let Some(uart) = hv.settings.interrupts.uart {
        hv.machine.set_edge(uart, false);
        hv.machine.route(uart, 0);
        hv.machine.enable(uart);
        hv.machine.enable_receive_interrupt();
    }
}

/// Starts the other CPUs; answers how many run, with this one.
fn start_cpus(hv: &'static Hypervisor<Arm>, cpus: &[Cpu]) -> usize {
    let mut running = 1;
    for (number, cpu) in cpus.iter().enumerate().skip(1) {
        match hv.machine.start_cpu(number, cpu) {
            Ok(()) => running += 1,
            Err(e) => hv.log(format_args!("CPU {number} (MPIDR {:#x}) did not start: {e:?}", cpu.mpidr)),
        }
    }
    hv.log(format_args!("{running} of {} CPUs run", cpus.len()));
    running
}
