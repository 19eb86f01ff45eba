//! Event channels: 2-level, then FIFO, which cannot be left again but by a reset.

use super::{Page, memory};
use core::sync::atomic::{AtomicU64, Ordering};

use crate::board::Board;
use crate::hypercall::errno::{EBUSY, EEXIST, EINVAL, ENXIO};
use crate::hypercall::number::{EVENT_CHANNEL_OP, SCHED_OP, VCPU_OP};
use crate::hypercall::{SELF, call, operation};
use crate::report::{Outcome, Report, holds, result, same};
use crate::{cpus, gic};

/// Address of shared_info.
static SHARED: AtomicU64 = AtomicU64::new(0);
static VCPU_INFO: Page = Page::new();
static CONTROL: Page = Page::new();
static WORDS: Page = Page::new();

/// Where vCPU n's `vcpu_info` is in its page: 64 bytes each.
const INFO: usize = 64;
/// In `vcpu_info`: the selector.
const SELECTOR: usize = 8;
/// In `shared_info`, behind the one legacy `vcpu_info` of 48 bytes: pending and mask bitmaps.
const PENDING: usize = 48;
const MASK: usize = PENDING + 512;

const BIND_INTERDOMAIN: u64 = 0;
const BIND_VIRQ: u64 = 1;
const CLOSE: u64 = 3;
const SEND: u64 = 4;
const STATUS: u64 = 5;
const ALLOC_UNBOUND: u64 = 6;
const BIND_IPI: u64 = 7;
const BIND_VCPU: u64 = 8;
const UNMASK: u64 = 9;
const RESET: u64 = 10;
const INIT_CONTROL: u64 = 11;
const EXPAND_ARRAY: u64 = 12;
const SET_PRIORITY: u64 = 13;

fn op<T>(number: u64, argument: &mut T) -> i64 {
    operation(EVENT_CHANNEL_OP, number, argument)
}

/// A port for this domain's own use, bound to `vcpu`.
fn bind_ipi(vcpu: u32) -> Result<u32, i64> {
    let mut argument = [vcpu, 0];
    match op(BIND_IPI, &mut argument) {
        0 => Ok(argument[1]),
        error => Err(error),
    }
}

/// What `status` says of a port: state, vCPU.
pub(crate) fn status(port: u32) -> Result<[u32; 2], i64> {
    let mut argument = [u32::from(SELF), port, 0, 0, 0, 0];
    match op(STATUS, &mut argument) {
        0 => Ok([argument[2], argument[3]]),
        error => Err(error),
    }
}

fn shared(offset: usize) -> u64 {
    // SAFETY: within the page that the hypervisor shares, or that this image had there.
    unsafe { ((SHARED.load(Ordering::Relaxed) + offset as u64) as *const u64).read_volatile() }
}

fn set_shared(offset: usize, value: u64) {
    // SAFETY: as above.
    unsafe { ((SHARED.load(Ordering::Relaxed) + offset as u64) as *mut u64).write_volatile(value) }
}

fn bit(map: usize, port: u32) -> bool {
    shared(map + 8 * (port as usize / 64)) >> (port % 64) & 1 == 1
}

fn set_bit(map: usize, port: u32, value: bool) {
    let offset = map + 8 * (port as usize / 64);
    let old = shared(offset);
    let bit = 1 << (port % 64);
    set_shared(offset, if value { old | bit } else { old & !bit });
}

fn upcall(vcpu: usize) -> u8 {
    VCPU_INFO.get::<u8>(INFO * vcpu)
}

/// Takes everything pending of vCPU 0 away: selector, flag, interrupt.
fn clear(port: u32) {
    set_bit(PENDING, port, false);
    VCPU_INFO.set(SELECTOR, 0u64);
    VCPU_INFO.set(0, 0u8);
    while let Some(taken) = gic::acknowledge() {
        gic::end(taken);
    }
}

/// Sends to the other end of a port.
pub(crate) fn send(port: u32) -> i64 {
    op(SEND, &mut [port])
}

/// Whether a port is pending, by the 2-level ABI; after [`share`].
pub(crate) fn is_pending(port: u32) -> bool {
    bit(PENDING, port)
}

/// Maps shared_info for this module. Returns what the hypervisor says.
pub(crate) fn share() -> i64 {
    match memory::shared_info() {
        Ok(page) => {
            SHARED.store(page.address(), Ordering::Relaxed);
            0
        }
        Err(error) => error,
    }
}

pub(crate) fn run(report: &mut Report, board: &Board) {
    let shared = share();
    if shared != 0 {
        return report.test("events.shared-info", || result("map", shared, 0));
    }
    report.test("events.vcpu-info", || {
        let register = |vcpu: u64, offset: u64| {
            let mut argument = [VCPU_INFO.frame(), offset];
            call(VCPU_OP, [10, vcpu, &raw mut argument as u64, 0, 0])
        };
        result("crosses its page", register(0, 4090), ENXIO)?;
        result("vCPU 0", register(0, 0), 0)?;
        // 4.17 says EINVAL, 4.20 EBUSY.
        let twice = register(0, 64);
        holds("twice", twice == EINVAL || twice == EBUSY, twice as u64)?;
        for vcpu in 1..board.cpu_count as u64 {
            result("another", register(vcpu, INFO as u64 * vcpu), 0)?;
        }
        Ok(())
    });
    gic::set_upcall(VCPU_INFO.address());
    for word in 0..64 {
        set_shared(MASK + 8 * word, !0);
        set_shared(PENDING + 8 * word, 0);
    }
    let interrupt = board.event_intid.filter(|_| board.gic.is_some());
    if let Some(intid) = interrupt {
        gic::enable_private(1 << intid);
    }
    clear(1);
    two_level(report, interrupt);
    if board.cpu_count > 1 {
        other_cpu(report, board);
    } else {
        report.skip("events.to-another-vcpu", "one CPU");
    }
    fifo(report, interrupt);
    if let Some(intid) = interrupt {
        gic::disable_private(1 << intid);
    }
}

fn two_level(report: &mut Report, interrupt: Option<u32>) {
    report.test("events.alloc-and-bind", || {
        let mut alloc = [SELF, SELF, 0, 0];
        result("alloc_unbound", op(ALLOC_UNBOUND, &mut alloc), 0)?;
        let port = u32::from(alloc[2]) | u32::from(alloc[3]) << 16;
        same("unbound", u64::from(status(port).unwrap_or([99; 2])[0]), 1)?;
        let mut bind = [u32::from(SELF), port, 0];
        result("bind_interdomain", op(BIND_INTERDOMAIN, &mut bind), 0)?;
        same("interdomain", u64::from(status(bind[2]).unwrap_or([99; 2])[0]), 2)?;
        same("the other end too", u64::from(status(port).unwrap_or([99; 2])[0]), 2)?;
        result("a bound port again", op(BIND_INTERDOMAIN, &mut [u32::from(SELF), port, 0]), EINVAL)?;
        result("send", send(port), 0)?;
        holds("arrives at the other end", bit(PENDING, bind[2]), 0)?;
        holds("and not at its own", !bit(PENDING, port), 0)?;
        clear(bind[2]);
        result("close", op(CLOSE, &mut [bind[2]]), 0)?;
        same("closed", u64::from(status(bind[2]).unwrap_or([99; 2])[0]), 0)?;
        same("the other end is unbound", u64::from(status(port).unwrap_or([99; 2])[0]), 1)?;
        result("close that", op(CLOSE, &mut [port]), 0)?;
        result("closed twice", op(CLOSE, &mut [port]), EINVAL)
    });
    report.test("events.masked-send-then-unmask", || {
        let port = bind_ipi(0).map_err(|error| result("bind_ipi", error, 0).unwrap_err())?;
        set_bit(MASK, port, true);
        result("send", send(port), 0)?;
        holds("pending", bit(PENDING, port), 0)?;
        same("no upcall", u64::from(upcall(0)), 0)?;
        result("unmask", op(UNMASK, &mut [port]), 0)?;
        holds("unmasked", !bit(MASK, port), 0)?;
        same("upcall", u64::from(upcall(0)), 1)?;
        let selector = VCPU_INFO.get::<u64>(SELECTOR);
        same("selector", selector, 1 << (port / 64))?;
        clear(port);
        result("close", op(CLOSE, &mut [port]), 0)
    });
    report.test("events.interrupt", || {
        let Some(intid) = interrupt else { return holds("an interrupt in the device tree", false, 0) };
        let port = bind_ipi(0).map_err(|error| result("bind_ipi", error, 0).unwrap_err())?;
        set_bit(MASK, port, false);
        result("send", send(port), 0)?;
        let taken = gic::wait_acknowledge();
        VCPU_INFO.set(0, 0u8);
        gic::end(taken.unwrap_or(intid));
        same("INTID", u64::from(taken.unwrap_or(1023)), u64::from(intid))?;
        result("sent while pending", send(port), 0)?;
        same("is no new event", u64::from(upcall(0)), 0)?;
        clear(port);
        let (before, _) = crate::exception::interrupts();
        result("send", send(port), 0)?;
        (0..100).for_each(|_| crate::exception::window());
        let (after, last) = crate::exception::interrupts();
        same("through the vector", u64::from(after - before), 1)?;
        same("INTID", u64::from(last), u64::from(intid))?;
        clear(port);
        result("close", op(CLOSE, &mut [port]), 0)
    });
    report.test("events.virq", || {
        let mut debug = [1u32, 0, 0];
        result("VIRQ_DEBUG", op(BIND_VIRQ, &mut debug), 0)?;
        same("virq", u64::from(status(debug[2]).unwrap_or([99; 2])[0]), 4)?;
        result("twice", op(BIND_VIRQ, &mut [1u32, 0, 0]), EEXIST)?;
        result("a per-vCPU one moved", op(BIND_VCPU, &mut [debug[2], 0]), EINVAL)?;
        result("close", op(CLOSE, &mut [debug[2]]), 0)?;
        result("then again", op(BIND_VIRQ, &mut debug), 0)?;
        result("close", op(CLOSE, &mut [debug[2]]), 0)
    });
    report.test("events.poll", || {
        let port = bind_ipi(0).map_err(|error| result("bind_ipi", error, 0).unwrap_err())?;
        set_bit(MASK, port, true);
        result("send", send(port), 0)?;
        let mut poll = [&raw const port as u64, 1, 0];
        result("pending: at once", operation(SCHED_OP, 3, &mut poll), 0)?;
        clear(port);
        poll[2] = 1; // an absolute time long past
        result("timeout", operation(SCHED_OP, 3, &mut poll), 0)?;
        result("close", op(CLOSE, &mut [port]), 0)
    });
    report.test("events.many-ports", || {
        let mut ports = [0u32; 200];
        for port in &mut ports {
            *port = bind_ipi(0).map_err(|error| result("bind_ipi", error, 0).unwrap_err())?;
        }
        let last = ports[199];
        holds("numbered upwards", last >= 199, u64::from(last))?;
        set_bit(MASK, last, true);
        result("send the last", send(last), 0)?;
        holds("pending", bit(PENDING, last), 0)?;
        clear(last);
        ports.iter().try_for_each(|&port| result("close", op(CLOSE, &mut [port]), 0))
    });
}

fn other_cpu(report: &mut Report, board: &Board) {
    report.test("events.to-another-vcpu", || {
        same("CPU 1 starts", cpus::start(1, board.cpus[1]).unwrap_or(-99) as u64, 0)?;
        let outcome = send_to_one();
        holds("CPU 1 stops", cpus::stop(1, board.cpus[1]), 0)?;
        outcome
    });
}

fn send_to_one() -> Outcome {
    let port = bind_ipi(1).map_err(|error| result("bind_ipi", error, 0).unwrap_err())?;
    same("status names the vCPU", u64::from(status(port).unwrap_or([99; 2])[1]), 1)?;
    set_bit(MASK, port, false);
    // Registering marked everything pending, for a guest that had events before.
    VCPU_INFO.set(INFO + SELECTOR, 0u64);
    VCPU_INFO.set(INFO, 0u8);
    result("send", send(port), 0)?;
    same("its upcall", u64::from(upcall(1)), 1)?;
    same("not ours", u64::from(upcall(0)), 0)?;
    same("its selector", VCPU_INFO.get::<u64>(INFO + SELECTOR), 1 << (port / 64))?;
    clear(port);
    result("close", op(CLOSE, &mut [port]), 0)
}

const WORD_PENDING: u32 = 1 << 31;
const WORD_MASKED: u32 = 1 << 30;
const WORD_LINKED: u32 = 1 << 29;
const LINK: u32 = (1 << 17) - 1;

fn word(port: u32) -> u32 {
    WORDS.get::<u32>(4 * port as usize)
}

fn set_word(port: u32, value: u32) {
    WORDS.set::<u32>(4 * port as usize, value);
}

/// The head of a queue in the control block.
fn head(priority: usize) -> u32 {
    CONTROL.get::<u32>(8 + 4 * priority)
}

/// Consumes everything that is ready, as a guest does.
fn consume(priority: usize) -> u32 {
    let port = head(priority);
    CONTROL.set::<u32>(8 + 4 * priority, word(port) & LINK);
    CONTROL.set::<u32>(0, 0);
    set_word(port, word(port) & !(WORD_PENDING | WORD_LINKED | LINK));
    VCPU_INFO.set(0, 0u8);
    while let Some(taken) = gic::acknowledge() {
        gic::end(taken);
    }
    port
}

fn fifo(report: &mut Report, interrupt: Option<u32>) {
    let ready = || CONTROL.get::<u32>(0);
    report.test("fifo.init", || {
        let mut control = [CONTROL.frame(), 0, 0];
        result("init_control", op(INIT_CONTROL, &mut control), 0)?;
        same("link bits", control[2] & 0xff, 17)?;
        result("expand_array", op(EXPAND_ARRAY, &mut [WORDS.frame()]), 0)
    });
    report.test("fifo.send", || {
        let port = bind_ipi(0).map_err(|error| result("bind_ipi", error, 0).unwrap_err())?;
        set_word(port, 0);
        result("send", send(port), 0)?;
        same("pending and linked", u64::from(word(port) & !LINK), u64::from(WORD_PENDING | WORD_LINKED))?;
        same("ready at priority 7", u64::from(ready()), 1 << 7)?;
        same("head", u64::from(head(7)), u64::from(port))?;
        same("upcall", u64::from(upcall(0)), 1)?;
        if let Some(intid) = interrupt {
            let taken = gic::wait_acknowledge();
            VCPU_INFO.set(0, 0u8);
            gic::end(taken.unwrap_or(intid));
            same("interrupt", u64::from(taken.unwrap_or(1023)), u64::from(intid))?;
        }
        consume(7);
        result("close", op(CLOSE, &mut [port]), 0)
    });
    report.test("fifo.queue", || {
        let mut ports = [0u32; 3];
        for port in &mut ports {
            *port = bind_ipi(0).map_err(|error| result("bind_ipi", error, 0).unwrap_err())?;
            set_word(*port, 0);
        }
        for port in ports {
            result("send", send(port), 0)?;
        }
        same("head is the first", u64::from(head(7)), u64::from(ports[0]))?;
        same("links to the second", u64::from(word(ports[0]) & LINK), u64::from(ports[1]))?;
        same("and that to the third", u64::from(word(ports[1]) & LINK), u64::from(ports[2]))?;
        for port in ports {
            same("in order", u64::from(consume(7)), u64::from(port))?;
        }
        ports.iter().try_for_each(|&port| result("close", op(CLOSE, &mut [port]), 0))
    });
    report.test("fifo.priority", || {
        let port = bind_ipi(0).map_err(|error| result("bind_ipi", error, 0).unwrap_err())?;
        set_word(port, 0);
        result("16", op(SET_PRIORITY, &mut [port, 16]), EINVAL)?;
        result("2", op(SET_PRIORITY, &mut [port, 2]), 0)?;
        result("send", send(port), 0)?;
        same("ready", u64::from(ready()), 1 << 2)?;
        same("head", u64::from(head(2)), u64::from(port))?;
        consume(2);
        result("close", op(CLOSE, &mut [port]), 0)
    });
    report.test("fifo.masked-send-then-unmask", || {
        let port = bind_ipi(0).map_err(|error| result("bind_ipi", error, 0).unwrap_err())?;
        set_word(port, WORD_MASKED);
        result("send", send(port), 0)?;
        same("pending, not linked", u64::from(word(port)), u64::from(WORD_PENDING | WORD_MASKED))?;
        same("nothing ready", u64::from(ready()), 0)?;
        result("unmask", op(UNMASK, &mut [port]), 0)?;
        same("linked", u64::from(word(port) & !LINK), u64::from(WORD_PENDING | WORD_LINKED))?;
        same("head", u64::from(head(7)), u64::from(port))?;
        consume(7);
        result("close", op(CLOSE, &mut [port]), 0)
    });
    report.test("fifo.hostile-links", || {
        // The queue's tail is in guest memory: a guest that spoils it hurts only itself.
        let mut ports = [0u32; 2];
        for port in &mut ports {
            *port = bind_ipi(0).map_err(|error| result("bind_ipi", error, 0).unwrap_err())?;
            set_word(*port, 0);
        }
        result("send", send(ports[0]), 0)?;
        set_word(ports[0], !WORD_MASKED);
        CONTROL.set::<u32>(8 + 4 * 7, LINK);
        CONTROL.set::<u32>(0, !0);
        result("send onto that", send(ports[1]), 0)?;
        for port in ports {
            set_word(port, 0);
            result("close", op(CLOSE, &mut [port]), 0)?;
        }
        for priority in 0..16 {
            CONTROL.set::<u32>(8 + 4 * priority, 0);
        }
        CONTROL.set::<u32>(0, 0);
        VCPU_INFO.set(0, 0u8);
        Ok(())
    });
    report.test("events.reset", || {
        result("reset", op(RESET, &mut [SELF, 0]), 0)?;
        let port = bind_ipi(0).map_err(|error| result("bind_ipi", error, 0).unwrap_err())?;
        set_bit(MASK, port, true);
        result("send", send(port), 0)?;
        holds("2-level again", bit(PENDING, port), u64::from(port))?;
        clear(port);
        result("close", op(CLOSE, &mut [port]), 0)
    });
}
