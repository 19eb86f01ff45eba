//! A bare-metal kernel that boots as dom0 (arm64 Image protocol) and tests the hypervisor below it from inside.
//!
//! Its command line says what to run: `test=abi,events,...` (or `test=all`), `bench`, `stamp` (print when this image
//! was entered); `uart=<address>` names the PL011 for a bare start and for the benchmark of the virtual one; `stay`
//! keeps it running afterwards, beside guests that go on; `reference` says that the hypervisor is stock Xen, whose known
//! faults are named and not counted. What it prints is described in [`report`].
//!
//! Started at EL2, in the hypervisor's place, it prints the stamp on the UART and powers off.
#![no_std]
#![no_main]

mod bench;
mod board;
mod cpus;
mod exception;
mod gic;
mod hypercall;
mod report;
mod start;
mod tests;

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use board::Board;
use hypercall::number;
use report::{Report, line};
use start::Entry;

/// Address of a PL011 to print on when there is no hypervisor, else 0.
static BARE_UART: AtomicU64 = AtomicU64::new(0);

/// Writes to the console: by hypercall, or on the bare UART.
pub(crate) fn console_write(text: &[u8]) {
    let uart = BARE_UART.load(Ordering::Relaxed);
    if uart == 0 {
        const WRITE: u64 = 0;
        hypercall::call(number::CONSOLE_IO, [WRITE, text.len() as u64, text.as_ptr() as u64, 0, 0]);
        return;
    }
    for &byte in text {
        gic::write(uart, u32::from(byte));
    }
}

/// Ends the machine: SCHEDOP_shutdown with SHUTDOWN_poweroff, and PSCI should that come back.
pub(crate) fn power_off() -> ! {
    const SHUTDOWN: u64 = 2;
    let mut reason = 0u32;
    if BARE_UART.load(Ordering::Relaxed) == 0 {
        hypercall::operation(number::SCHED_OP, SHUTDOWN, &mut reason);
        hypercall::smccc(cpus::psci::SYSTEM_OFF, [0; 3]);
    } else {
        // SAFETY: PSCI SYSTEM_OFF does not come back.
        unsafe { asm!("smc #0", inout("x0") cpus::psci::SYSTEM_OFF => _) }
    }
    loop {
        core::hint::spin_loop();
    }
}

/// Ticks of the counter to nanoseconds.
pub(crate) fn nanoseconds(ticks: u64) -> u64 {
    let frequency: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) frequency) }
    (u128::from(ticks) * 1_000_000_000 / u128::from(frequency.max(1))) as u64
}

#[unsafe(no_mangle)]
extern "C" fn first_main(entry: &Entry) -> ! {
    // SAFETY: the boot protocol's device tree; QEMU and hypervisors leave it alone once we run.
    let board = unsafe { Board::read(entry.dtb) };
    if entry.level != 4 {
        let uart = board.as_ref().and_then(|board| board.argument("uart")).and_then(board::number);
        BARE_UART.store(uart.unwrap_or(0x0900_0000), Ordering::Relaxed);
        line!("STAMP bare {}", nanoseconds(entry.physical_count));
        power_off();
    }
    let Some(board) = board else {
        line!("TEST device-tree FAIL x0 holds no device tree");
        line!("TESTS done 0 ok 1 failed");
        power_off();
    };
    if board.flag("stamp") {
        line!("STAMP dom0 {}", nanoseconds(entry.physical_count));
        line!("STAMP offset {}", nanoseconds(entry.physical_count.wrapping_sub(entry.virtual_count)));
    }
    if let Some(addresses) = board.gic {
        gic::init(addresses, board.timer_intid, board.event_intid);
    }
    if let Some(groups) = board.argument("test") {
        let mut report = Report::new(board.flag("reference"));
        tests::run(&mut report, groups, &board, entry);
        report.done();
    }
    if board.flag("bench") {
        bench::run(&board);
    }
    line!("END");
    while board.flag("stay") {
        // SAFETY: waits for an interrupt, and none is on its way.
        unsafe { asm!("wfi") }
    }
    power_off();
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    line!("TEST panic FAIL {info}");
    line!("TESTS done 0 ok 1 failed");
    power_off();
}
