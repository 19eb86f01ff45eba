//! The console: one UART shared by the hypervisor, dom0 and those guests that have no console of their own, and the log
//! that keeps what was said.
//!
//! ```text
//!   hypervisor's lines ---+--> log ring --> key 'l', `xl dmesg`, who reads the memory from outside (`console_ring::log_in`)
//!   guests' lines --------+--> UART     with "(d1) " before each
//!   dom0's bytes ------------> UART     as they come, and so those of the domain that has the input
//!                                    UART input --> three times Ctrl-A moves it on
//!                                        hypervisor (keys) -> dom0 -> d1 -> d2 ... -> hypervisor
//! ```

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use spin::Mutex;
use vambrace_abi::domid::DomId;
use vambrace_abi::virq::{VIRQ_CON_RING, VIRQ_CONSOLE};

use crate::console_ring::{ConsoleRing, GuestLine};
use crate::domain::{DOM0, Domain};
use crate::hypervisor::Hypervisor;
use crate::machine::{self, Machine};

/// Bytes of log kept.
const LOG_BYTES: usize = 32 << 10;
/// Bytes of log that go to the UART at a time when it is written again.
const REPLAY_BYTES: usize = 256;
/// Bytes of input kept for a domain.
const INPUT_BYTES: usize = 4096;
/// How many times in a row the switch character has to come.
const SWITCH_COUNT: u8 = 3;
/// Most warnings about guests that are printed in a second; a guest must not fill the console.
const WARNINGS_A_SECOND: u32 = 10;
/// Bytes after which, in a second, the lines of all guests together that were not given this console are left out: what a
/// UART of 115,200 baud sends in a tenth of it. Whoever else has something to say waits meanwhile.
const BYTES_A_SECOND: u32 = 1200;

/// Who gets the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Focus {
    /// The hypervisor: bytes are keys.
    Hypervisor,
    /// A domain.
    Domain(DomId),
}

/// What a byte from the UART was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// For a domain.
    Guest(DomId, u8),
    /// A key for the hypervisor.
    Key(u8),
    /// The input now goes elsewhere.
    Switched(Focus),
}

/// The console's state.
pub struct Console {
    inner: Mutex<Inner>,
    /// Something was written to the log since [`Console::take_log_written`].
    log_written: AtomicBool,
    /// Warnings in the second [`Console::warning_second`].
    warnings: AtomicU32,
    warning_second: AtomicU64,
}

struct Inner {
    log: ConsoleRing,
    /// What guests other than dom0 have said.
    outputs: BTreeMap<DomId, Output>,
    /// What was typed for a domain that reads by hypercalls.
    inputs: BTreeMap<DomId, VecDeque<u8>>,
    /// The domains that may have the input.
    holders: BTreeSet<DomId>,
    focus: Focus,
    switch: u8,
    switches: u8,
    /// Whose line on the UART has no end yet.
    unfinished: Option<DomId>,
    /// Bytes on the UART, in the second, of all guests that were not given this console.
    strangers_bytes: u32,
    strangers_second: u64,
}

/// A guest's output.
#[derive(Default)]
struct Output {
    line: GuestLine,
    /// Lines that were left out.
    left_out: u32,
}

impl Default for Console {
    fn default() -> Self {
        Self::new(Some(b'a'), false)
    }
}

impl Console {
    /// A console. `switch` is the letter of the switch character (Ctrl with it), `None` for no switching; the input
    /// goes to the hypervisor from the start if `to_hypervisor`, else to dom0.
    pub fn new(switch: Option<u8>, to_hypervisor: bool) -> Self {
        let inner = Inner {
            log: ConsoleRing::new(LOG_BYTES),
            outputs: BTreeMap::new(),
            inputs: BTreeMap::new(),
            holders: BTreeSet::from([DOM0]),
            focus: if to_hypervisor { Focus::Hypervisor } else { Focus::Domain(DOM0) },
            switch: switch.map_or(0, |letter| letter & 0x1f),
            switches: 0,
            unfinished: None,
            strangers_bytes: 0,
            strangers_second: 0,
        };
        Self {
            inner: Mutex::new(inner),
            log_written: AtomicBool::new(false),
            warnings: AtomicU32::new(0),
            warning_second: AtomicU64::new(0),
        }
    }

    /// Lets a domain have the input, and as much output as it likes.
    pub fn add_holder(&self, domain: DomId) {
        self.inner.lock().holders.insert(domain);
    }

    /// Whether the domain may have the input.
    pub fn is_holder(&self, domain: DomId) -> bool {
        self.inner.lock().holders.contains(&domain)
    }

    /// Forgets a domain that has ended; what there is of a line of its comes out. Input that went to it goes to dom0.
    pub fn forget(&self, uart: &impl machine::Console, domain: DomId) {
        let mut inner = self.inner.lock();
        if let Some(mut output) = inner.outputs.remove(&domain)
            && !output.line.is_empty()
        {
            inner.end_line(uart, None);
            output.line.flush(domain, |text| _ = inner.write(uart, text));
            self.log_written.store(true, Ordering::Release);
        }
        inner.inputs.remove(&domain);
        if domain != DOM0 {
            inner.holders.remove(&domain);
            if inner.focus == Focus::Domain(domain) {
                inner.focus = Focus::Domain(DOM0);
            }
        }
    }

    /// Writes a line of the hypervisor's to log and UART, on a line of its own.
    pub fn log(&self, uart: &impl machine::Console, line: fmt::Arguments<'_>) {
        let mut inner = self.inner.lock();
        inner.end_line(uart, None);
        inner.write(uart, format_args!("(VMB) {line}\n"));
        self.log_written.store(true, Ordering::Release);
    }

    /// Writes a line to the log alone: one that the UART has had already.
    pub fn note(&self, line: fmt::Arguments<'_>) {
        // The ring cannot fail.
        let _ = self.inner.lock().log.write_fmt(format_args!("(VMB) {line}\n"));
    }

    /// As [`Console::note`], for a CPU that may have been stopped while it wrote: where the log is not free the line is lost.
    pub fn try_note(&self, line: fmt::Arguments<'_>) {
        if let Some(mut inner) = self.inner.try_lock() {
            let _ = inner.log.write_fmt(format_args!("(VMB) {line}\n"));
        }
    }

    /// As [`Console::log`], for what guests do wrong: so many lines a second, and how many were left out. `second` is
    /// the time in whole seconds.
    pub fn warn(&self, uart: &impl machine::Console, second: u64, line: fmt::Arguments<'_>) {
        if self.warning_second.swap(second, Ordering::Relaxed) != second {
            let before = self.warnings.swap(0, Ordering::Relaxed);
            if let Some(left_out @ 1..) = before.checked_sub(WARNINGS_A_SECOND) {
                self.log(uart, format_args!("{left_out} warnings about guests were left out"));
            }
        }
        if self.warnings.fetch_add(1, Ordering::Relaxed) < WARNINGS_A_SECOND {
            self.log(uart, line);
        }
    }

    /// Puts a guest's output on the UART: dom0's as it comes, another's line by line, and that into the log too. The
    /// domain that has the input is heard at once, byte by byte, so that its user sees what he types. `second` is the
    /// time in whole seconds: guests that were not given this console may say so much in one, together.
    pub fn guest_output(&self, uart: &impl machine::Console, domain: DomId, second: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        let raw = domain == DOM0 || inner.focus == Focus::Domain(domain);
        if raw {
            inner.end_line(uart, Some(domain));
            uart.put(bytes);
            inner.unfinished = (bytes.last() != Some(&b'\n')).then_some(domain);
        }
        if domain == DOM0 {
            return;
        }
        let is_holder = inner.holders.contains(&domain);
        if inner.strangers_second != second {
            (inner.strangers_second, inner.strangers_bytes) = (second, 0);
        }
        let mut said = if is_holder { 0 } else { inner.strangers_bytes };
        let limit = if is_holder { u32::MAX } else { BYTES_A_SECOND };
        let mut output = inner.outputs.remove(&domain).unwrap_or_default();
        let Output { line, left_out } = &mut output;
        if *left_out > 0 && said < limit {
            inner.end_line(uart, None);
            let text = format_args!("(VMB) d{domain}: {left_out} lines were left out\n");
            said = said.saturating_add(inner.write(uart, text));
            *left_out = 0;
        }
        line.push(domain, bytes, |text| {
            if said >= limit {
                *left_out = left_out.saturating_add(1);
                return;
            }
            if raw {
                // The sink cannot fail.
                let _ = inner.log.write_fmt(text);
            } else {
                inner.end_line(uart, None);
                said = said.saturating_add(inner.write(uart, text));
            }
            self.log_written.store(true, Ordering::Release);
        });
        if !is_holder {
            inner.strangers_bytes = said;
        }
        inner.outputs.insert(domain, output);
    }

    /// Keeps input for a domain that reads by hypercalls; it is lost if nobody reads.
    pub fn put_input(&self, domain: DomId, byte: u8) {
        let mut inner = self.inner.lock();
        if inner.holders.contains(&domain) {
            let input = inner.inputs.entry(domain).or_default();
            if input.len() < INPUT_BYTES {
                input.push_back(byte);
            }
        }
    }

    /// Takes input for a domain out of its buffer; answers how many bytes there were.
    pub fn take_input(&self, domain: DomId, into: &mut [u8]) -> usize {
        let mut inner = self.inner.lock();
        let Some(input) = inner.inputs.get_mut(&domain) else { return 0 };
        let mut taken = 0;
        for slot in into {
            let Some(byte) = input.pop_front() else { break };
            *slot = byte;
            taken += 1;
        }
        taken
    }

    /// Takes a byte from the UART, and says whose it is. Switch characters wait for what follows them: three in a row
    /// are nobody's, fewer go on to the domain before the next byte.
    pub fn receive(&self, byte: u8, mut to: impl FnMut(Input)) {
        let mut inner = self.inner.lock();
        if inner.switch != 0 && byte == inner.switch {
            inner.switches += 1;
            if inner.switches == SWITCH_COUNT {
                inner.switches = 0;
                inner.focus = inner.next_focus();
                let focus = inner.focus;
                drop(inner);
                to(Input::Switched(focus));
            }
            return;
        }
        let waiting = core::mem::take(&mut inner.switches);
        let (focus, switch) = (inner.focus, inner.switch);
        drop(inner);
        match focus {
            Focus::Hypervisor => to(Input::Key(byte)),
            Focus::Domain(domain) => {
                (0..waiting).for_each(|_| to(Input::Guest(domain, switch)));
                to(Input::Guest(domain, byte));
            }
        }
    }

    /// Shows what the domain that has the input now has said of a line, a prompt for one.
    fn show_unfinished(&self, uart: &impl machine::Console) {
        let mut inner = self.inner.lock();
        let Focus::Domain(domain) = inner.focus else { return };
        let Some(output) = inner.outputs.get(&domain).filter(|output| !output.line.is_empty()) else {
            return;
        };
        uart.put(output.line.text().as_bytes());
        inner.unfinished = Some(domain);
    }

    /// Writes the log to the UART again. At 115,200 baud that takes seconds, so who has something to say meanwhile waits for
    /// a few lines and not for all of it.
    pub fn replay(&self, uart: &impl machine::Console) {
        // What is written meanwhile makes the log no longer.
        let (mut from, mut rest) = (None, LOG_BYTES);
        while let Some((length, next)) = self.replay_lines(uart, from, rest) {
            from = Some(next);
            rest -= length;
        }
    }

    /// Writes some whole lines of the log to the UART again, at most `most` bytes, from position `from` on or from the
    /// oldest byte: how many bytes they were, and the position after them; `None` at the end.
    fn replay_lines(
        &self,
        uart: &impl machine::Console,
        from: Option<u32>,
        most: usize,
    ) -> Option<(usize, u32)> {
        let mut chunk = [0; REPLAY_BYTES];
        let mut inner = self.inner.lock();
        let (length, end) = inner.log.read(from, chunk.get_mut(..most.min(REPLAY_BYTES))?);
        let text = chunk.get(..length)?;
        let lines = text.iter().rposition(|byte| *byte == b'\n').map_or(length, |newline| newline + 1);
        if lines == 0 {
            return None;
        }
        inner.end_line(uart, None);
        uart.put(text.get(..lines)?);
        Some((lines, end.wrapping_sub((length - lines) as u32)))
    }

    /// Copies out of the log, from position `from` on (`index` of XEN_SYSCTL_readconsole when `incremental`) or from the
    /// oldest byte kept: how many bytes, and the position after them.
    pub fn read_log(&self, from: Option<u32>, into: &mut [u8]) -> (usize, u32) {
        self.inner.lock().log.read(from, into)
    }

    /// Forgets the log before position `up_to` (`clear`), as [`Console::read_log`] returned it.
    pub fn clear_log(&self, up_to: u32) {
        self.inner.lock().log.clear(up_to);
    }

    /// Whether anything was written to the log since the last call.
    #[inline]
    pub fn take_log_written(&self) -> bool {
        self.log_written.load(Ordering::Relaxed) && self.log_written.swap(false, Ordering::AcqRel)
    }
}

impl Inner {
    /// Starts a new line on the UART, unless the unfinished one is `domain`'s.
    fn end_line(&mut self, uart: &impl machine::Console, domain: Option<DomId>) {
        if self.unfinished.is_some() && self.unfinished != domain {
            uart.put(b"\n");
            self.unfinished = None;
        }
    }

    /// Writes whole lines to log and UART; answers how many bytes.
    fn write(&mut self, uart: &impl machine::Console, text: fmt::Arguments<'_>) -> u32 {
        let mut sink = Sink { log: &mut self.log, uart, written: 0 };
        // The sink cannot fail.
        let _ = sink.write_fmt(text);
        sink.written
    }

    /// Who gets the input after the one who has it: the hypervisor, then the domains in their order.
    fn next_focus(&self) -> Focus {
        let next = match self.focus {
            Focus::Hypervisor => self.holders.first(),
            Focus::Domain(domain) => self.holders.iter().find(|holder| **holder > domain),
        };
        next.map_or(Focus::Hypervisor, |domain| Focus::Domain(*domain))
    }
}

struct Sink<'a, U> {
    log: &'a mut ConsoleRing,
    uart: &'a U,
    /// Bytes so far.
    written: u32,
}

impl<U: machine::Console> Write for Sink<'_, U> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.log.write(text.as_bytes());
        self.uart.put(text.as_bytes());
        self.written = self.written.saturating_add(text.len() as u32);
        Ok(())
    }
}

impl<M: Machine> Hypervisor<M> {
    /// Puts a guest's output on the console.
    pub(crate) fn guest_output(&self, domain: &Domain<M>, bytes: &[u8]) {
        let second = if domain.id == DOM0 { 0 } else { self.system_time() / 1_000_000_000 };
        self.console.guest_output(&self.machine, domain.id, second, bytes);
    }

    /// Tells dom0 of new text in the log, if it wants to know. No lock may be held: lines are logged under many.
    #[inline]
    pub(crate) fn announce_log(&self) {
        if self.console.take_log_written() {
            self.send_global_virq(VIRQ_CON_RING);
        }
    }

    /// Takes what the UART has received.
    pub(crate) fn take_console_input(&self) {
        while let Some(byte) = self.machine.get() {
            self.console.receive(byte, |input| match input {
                Input::Guest(domain, byte) => self.feed(domain, byte),
                Input::Key(key) => self.key(key),
                Input::Switched(focus) => self.show_focus(focus),
            });
        }
    }

    fn show_focus(&self, focus: Focus) {
        match focus {
            Focus::Hypervisor => {
                self.log(format_args!(
                    "Input to the hypervisor (three times Ctrl-A to switch back, h for help)"
                ));
            }
            Focus::Domain(DOM0) => self.log(format_args!("Input to dom0 (three times Ctrl-A to switch)")),
            Focus::Domain(id) => self.log(format_args!("Input to d{id} (three times Ctrl-A to switch)")),
        }
        self.console.show_unfinished(&self.machine);
    }

    /// Gives a domain a byte from the UART: by its virtual UART, or to be read by hypercalls. Dom0 has both; its virtual
    /// one is for early consoles, and gets the byte if a driver there asked for input.
    fn feed(&self, id: DomId, byte: u8) {
        let Some(domain) = self.domain(id) else { return };
        if let Some(uart) = domain.uart.get() {
            if id == DOM0 {
                uart.lock().receive_if_wanted(byte);
            } else if uart.lock().is_on_console() {
                // A byte for a full buffer is lost, as by the real one.
                uart.lock().receive(byte);
                self.update_uart_line(&domain);
                return;
            }
            self.update_uart_line(&domain);
        }
        self.console.put_input(id, byte);
        self.send_virq(&domain, VIRQ_CONSOLE);
    }
}

#[cfg(test)]
mod tests;
