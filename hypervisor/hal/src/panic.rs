//! The end of a hypervisor that found a defect in itself: say so on the console, and stop, all CPUs, or reset the machine where
//! the command line asks for that.

use alloc::vec::Vec;
use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Once;
use vambrace_core::console::Console;
use vambrace_core::platform::{PowerMethod, Psci};

use crate::cpu::boot::park;
use crate::early_uart::EarlyConsole;
use crate::machine::Arm;
use crate::sequence::{self, Host};
use crate::uart::Uart;
use crate::{firmware, timer};

/// The console UART, once there is a driver for it.
static CONSOLE: Once<Uart> = Once::new();
static PANICKING: AtomicBool = AtomicBool::new(false);

/// The machine, whose other CPUs a panic stops.
static MACHINE: Once<&'static Arm> = Once::new();

/// The console whose log keeps the last words too, for who reads the machine's memory.
static LOG: Once<&'static Console> = Once::new();

/// What resets the machine in place of a halt.
struct Reset {
    /// Seconds until then.
    after: u32,
    ways: Vec<PowerMethod>,
    psci: Option<Psci>,
}

static RESET: Once<Reset> = Once::new();

impl Host for Reset {
    fn call_firmware(&self, function: u32) -> bool {
        self.psci.as_ref().is_some_and(|psci| firmware::call(psci, function.into(), [0; 7]).is_some())
    }
    fn interrupt_others(&self) {}
}

/// Has the end of the hypervisor reset the machine, `after` so many seconds, in the `ways` that the machine has; the first call
/// counts.
pub fn set_reset(after: u32, ways: &[PowerMethod], psci: Option<&Psci>) {
    RESET.call_once(|| Reset { after, ways: ways.to_vec(), psci: psci.cloned() });
}

/// Has a panic stop the other CPUs of `machine`; the first call counts.
pub fn set_machine(machine: &'static Arm) {
    MACHINE.call_once(|| machine);
}

/// Has the last words go into the log of `console` too; the first call counts.
pub fn set_log(console: &'static Console) {
    LOG.call_once(|| console);
}

/// Parks this CPU if another has panicked: nothing that it could do can be trusted.
#[inline]
pub(crate) fn stop_if_panicking() {
    if PANICKING.load(Ordering::Relaxed) {
        park();
    }
}

/// Makes `uart` the console, for the rest of this run; the first call counts.
pub fn set_console(uart: Uart) -> &'static Uart {
    CONSOLE.call_once(|| uart)
}

/// The console UART, if there is a driver for it.
#[inline]
pub fn console() -> Option<&'static Uart> {
    CONSOLE.get()
}

/// Writes to the console whatever state it is in: by its driver, else by the address that the build fixed.
#[derive(Clone, Copy, Debug)]
pub struct Raw;

impl Write for Raw {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        match console() {
            Some(uart) => uart.put(text.as_bytes()),
            None => EarlyConsole.put(text),
        }
        Ok(())
    }
}

/// Writes a last line to the console and, unless the CPU that has the log stands still, to that.
fn say(line: core::fmt::Arguments<'_>) {
    let _ = writeln!(Raw, "(VMB) {line}");
    if let Some(console) = LOG.get() {
        console.try_note(line);
    }
}

/// Stops this CPU after saying why.
pub fn halt(reason: core::fmt::Arguments<'_>) -> ! {
    say(reason);
    say(format_args!("Halted"));
    park()
}

/// Ends the hypervisor after saying why: whatever is wrong stays so until somebody boots another one.
pub fn end(reason: core::fmt::Arguments<'_>) -> ! {
    let Some(reset) = RESET.get() else { halt(reason) };
    say(reason);
    say(format_args!("Resetting the machine in {} s", reset.after));
    timer::delay(reset.after.saturating_mul(1_000_000));
    sequence::end(&reset.ways, reset);
    halt(format_args!("The machine has no way to be reset"))
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if PANICKING.swap(true, Ordering::SeqCst) {
        park();
    }
    if let Some(machine) = MACHINE.get() {
        // They leave their guests, or their sleep, and find out.
        machine.interrupt_others();
    }
    let cpu = crate::smp::this_cpu();
    end(format_args!("PANIC on CPU {cpu}: {info}"))
}
