//! Every hypercall with arguments that are wrong in one way each: the errno that the Xen ABI names, and nothing else.

use crate::hypercall::errno::*;
use crate::hypercall::number::*;
use crate::hypercall::{SELF, call, operation};
use crate::report::{Report, holds, result};
use crate::start::{READ_ONLY_WINDOW, UNMAPPED, WILD};

/// A domain that there is not.
const NOBODY: u16 = 0x1234;

/// A pointer argument as the ABI sees it.
const NULL: u64 = 0;

pub(crate) fn run(report: &mut Report) {
    let canary = [0x5a5a_5a5a_5a5a_5a5au64; 64];
    numbers(report);
    version(report);
    pointers(report);
    memory(report);
    events(report);
    grants(report);
    others(report);
    report.test("abi.nothing-disturbed", || {
        let canary = core::hint::black_box(&canary);
        holds("a buffer that no call named", canary.iter().all(|&word| word == 0x5a5a_5a5a_5a5a_5a5a), 0)?;
        holds("version still answers", call(XEN_VERSION, [0; 5]) >> 16 == 4, 0)
    });
}

fn numbers(report: &mut Report) {
    for number in
        [0, 1, 5, 8, 10, 11, 14, 23, 26, 28, 30, 31, 37, 38, 43, 47, 56, 60, 63, 64, 255, 0xffff_ffff, !0]
    {
        report.test("abi.unknown-number", || result("", call(number, [number; 5]), ENOSYS));
    }
}

fn version(report: &mut Report) {
    report.test("abi.version", || {
        let version = call(XEN_VERSION, [0; 5]);
        holds("at least 4.17", version >= 0x4_0011 && version >> 16 == 4, version as u64)
    });
    report.test("abi.version.features", || {
        let mut features = [0u32, 0];
        result("call", operation(XEN_VERSION, 6, &mut features), 0)?;
        result("word", i64::from(features[1]), 0x66805)?;
        features[0] = 1;
        result("submap 1", operation(XEN_VERSION, 6, &mut features), EINVAL)
    });
    report.test("abi.version.pagesize", || result("", call(XEN_VERSION, [7, NULL, 0, 0, 0]), 4096));
    report.test("abi.version.capabilities", || {
        let mut text = [0xffu8; 1024];
        result("call", operation(XEN_VERSION, 3, &mut text), 0)?;
        let aarch64 = b"aarch64";
        holds("names aarch64", text.windows(aarch64.len()).any(|w| w == aarch64), 0)?;
        holds("is terminated", text.contains(&0), 0)
    });
    report.test("abi.version.extraversion", || {
        let mut text = [0xffu8; 16];
        result("call", operation(XEN_VERSION, 1, &mut text), 0)?;
        holds("is terminated", text.contains(&0), 0)
    });
    report.test("abi.version.unknown", || result("", call(XEN_VERSION, [100, NULL, 0, 0, 0]), ENOSYS));
}

/// Pointers that lead nowhere, or to where the guest itself could not write.
fn pointers(report: &mut Report) {
    let mut features = [0u32; 2];
    let window = READ_ONLY_WINDOW | (&raw mut features as u64 & 0x3fff_ffff);
    for (name, pointer) in [
        ("abi.pointer.null", NULL),
        ("abi.pointer.stage1-unmapped", UNMAPPED),
        ("abi.pointer.stage2-unmapped", WILD),
        ("abi.pointer.beyond-address-space", 1 << 60),
        ("abi.pointer.read-only", window),
        ("abi.pointer.end-of-space", !0),
    ] {
        report.test(name, || result("get_features", call(XEN_VERSION, [6, pointer, 0, 0, 0]), EFAULT));
    }
    report.test("abi.pointer.read-only-argument", || {
        // Only read, so a read-only mapping will do: close of port 0 is refused for the port.
        result("close", call(EVENT_CHANNEL_OP, [3, window, 0, 0, 0]), EINVAL)
    });
    for (name, number, op) in [
        ("abi.pointer.compile-info", XEN_VERSION, 2),
        ("abi.pointer.sched-shutdown", SCHED_OP, 2),
        ("abi.pointer.sched-poll", SCHED_OP, 3),
        ("abi.pointer.hvm-get-param", HVM_OP, 1),
        ("abi.pointer.hvm-set-param", HVM_OP, 0),
        ("abi.pointer.add-to-physmap", MEMORY_OP, 7),
        ("abi.pointer.add-to-physmap-batch", MEMORY_OP, 23),
        ("abi.pointer.remove-from-physmap", MEMORY_OP, 15),
        ("abi.pointer.acquire-resource", MEMORY_OP, 28),
    ] {
        for pointer in [NULL, UNMAPPED, WILD] {
            report.test(name, || result("", call(number, [op, pointer, 0, 0, 0]), EFAULT));
        }
    }
    for op in [1, 6] {
        // decrease_reservation and populate_physmap answer how many extents were done: none.
        report.test("abi.pointer.reservation", || result("", call(MEMORY_OP, [op, UNMAPPED, 0, 0, 0]), 0));
    }
    for (name, number) in [
        ("abi.pointer.domctl", DOMCTL),
        ("abi.pointer.sysctl", SYSCTL),
        ("abi.pointer.platform-op", PLATFORM_OP),
    ] {
        for pointer in [NULL, UNMAPPED, WILD] {
            report.test(name, || result("", call(number, [pointer, 0, 0, 0, 0]), EFAULT));
        }
    }
    for op in [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13] {
        report.test("abi.pointer.event-channel-op", || {
            result("", call(EVENT_CHANNEL_OP, [op, UNMAPPED, 0, 0, 0]), EFAULT)
        });
    }
    for op in [0, 1, 5, 6, 8] {
        report.test("abi.pointer.grant-table-op", || {
            result("", call(GRANT_TABLE_OP, [op, UNMAPPED, 1, 0, 0]), EFAULT)
        });
    }
    report
        .test("abi.pointer.console-write", || result("", call(CONSOLE_IO, [0, 16, UNMAPPED, 0, 0]), EFAULT));
    report.test("abi.pointer.multicall", || result("", call(MULTICALL, [UNMAPPED, 1, 0, 0, 0]), EFAULT));
    report.test("abi.pointer.vcpu-info", || result("", call(VCPU_OP, [10, 0, UNMAPPED, 0, 0]), EFAULT));
}

/// `struct xen_add_to_physmap`.
#[repr(C)]
pub(crate) struct AddToPhysmap {
    pub(crate) domain: u16,
    pub(crate) size: u16,
    pub(crate) space: u32,
    pub(crate) index: u64,
    pub(crate) frame: u64,
}

fn memory(report: &mut Report) {
    report.test("abi.memory.unknown", || result("", call(MEMORY_OP, [50, NULL, 0, 0, 0]), ENOSYS));
    report.test("abi.memory.add.nobody", || {
        let mut add = AddToPhysmap { domain: NOBODY, size: 0, space: 0, index: 0, frame: 0 };
        result("", operation(MEMORY_OP, 7, &mut add), ESRCH)
    });
    report.test("abi.memory.add.unknown-space", || {
        let mut add = AddToPhysmap { domain: SELF, size: 0, space: 99, index: 0, frame: 0x38000 };
        result("", operation(MEMORY_OP, 7, &mut add), ENOSYS)
    });
    report.test("abi.memory.add.shared-info-1", || {
        let mut add = AddToPhysmap { domain: SELF, size: 0, space: 0, index: 1, frame: 0x38000 };
        result("", operation(MEMORY_OP, 7, &mut add), EINVAL)
    });
    report.test_beyond_reference("abi.memory.add.grant-frame-huge", "the index is cut to 32 bits", || {
        let mut add = AddToPhysmap { domain: SELF, size: 0, space: 1, index: 1 << 40, frame: 0x38000 };
        result("", operation(MEMORY_OP, 7, &mut add), EINVAL)
    });
    report.test("abi.memory.remove.nobody", || {
        let mut remove = [u64::from(NOBODY), 0x38000];
        result("", operation(MEMORY_OP, 15, &mut remove), ESRCH)
    });
    report.test("abi.memory.remove.nothing-there", || {
        let mut remove = [u64::from(SELF), WILD >> 12];
        result("", operation(MEMORY_OP, 15, &mut remove), ENOENT)
    });
    report.test("abi.memory.current-reservation", || {
        let mut domain = SELF;
        let pages = operation(MEMORY_OP, 3, &mut domain);
        holds("some pages", pages > 0, pages as u64)?;
        domain = NOBODY;
        result("of nobody", operation(MEMORY_OP, 3, &mut domain), ESRCH)
    });
}

fn events(report: &mut Report) {
    report.test("abi.event.unknown", || result("", call(EVENT_CHANNEL_OP, [99, NULL, 0, 0, 0]), ENOSYS));
    for (name, op) in [
        ("abi.event.send.no-port", 4),
        ("abi.event.close.no-port", 3),
        ("abi.event.unmask.no-port", 9),
        ("abi.event.bind-vcpu.no-port", 8),
        ("abi.event.set-priority.no-port", 13),
    ] {
        // Port 0 exists and is nobody's: two of these find nothing wrong with it, or no FIFO first.
        let ports = [0u32, 1000, 1 << 17, u32::MAX];
        for &port in &ports[usize::from(matches!(op, 9 | 13))..] {
            report.test(name, || result("", operation(EVENT_CHANNEL_OP, op, &mut [port, 0]), EINVAL));
        }
    }
    report.test("abi.event.status.no-port", || {
        let mut status = [u32::from(SELF), 1 << 20, 0, 0, 0, 0];
        result("", operation(EVENT_CHANNEL_OP, 5, &mut status), EINVAL)?;
        status = [u32::from(NOBODY), 1, 0, 0, 0, 0];
        result("of nobody", operation(EVENT_CHANNEL_OP, 5, &mut status), ESRCH)
    });
    report.test("abi.event.alloc-unbound.nobody", || {
        result("", operation(EVENT_CHANNEL_OP, 6, &mut [NOBODY, 0, 0, 0]), ESRCH)
    });
    report.test("abi.event.bind-interdomain.nobody", || {
        result("", operation(EVENT_CHANNEL_OP, 0, &mut [u32::from(NOBODY), 1, 0]), ESRCH)
    });
    report.test("abi.event.bind-interdomain.no-port", || {
        result("", operation(EVENT_CHANNEL_OP, 0, &mut [u32::from(SELF), 4000, 0]), EINVAL)
    });
    report.test("abi.event.bind-virq.bad", || {
        result("virq 99", operation(EVENT_CHANNEL_OP, 1, &mut [99u32, 0, 0]), EINVAL)?;
        result("vcpu 99", operation(EVENT_CHANNEL_OP, 1, &mut [1u32, 99, 0]), ENOENT)
    });
    report.test("abi.event.bind-ipi.bad", || {
        result("vcpu 99", operation(EVENT_CHANNEL_OP, 7, &mut [99u32, 0]), ENOENT)
    });
    report.test("abi.event.init-control.bad", || {
        let control = |offset: u64, vcpu: u64| [WILD >> 12, offset | vcpu << 32, 0];
        result("vcpu 99", operation(EVENT_CHANNEL_OP, 11, &mut control(0, 99)), ENOENT)?;
        result("crosses the page", operation(EVENT_CHANNEL_OP, 11, &mut control(4096 - 8, 0)), EINVAL)?;
        result("unaligned", operation(EVENT_CHANNEL_OP, 11, &mut control(4, 0)), EINVAL)?;
        result("no such frame", operation(EVENT_CHANNEL_OP, 11, &mut control(0, 0)), EINVAL)
    });
}

fn grants(report: &mut Report) {
    report.test("abi.grant.unknown", || {
        let mut space = [0u64; 8];
        result("", call(GRANT_TABLE_OP, [99, &raw mut space as u64, 1, 0, 0]), ENOSYS)
    });
    report.test("abi.grant.count", || {
        let mut space = [0u64; 8];
        result("none", call(GRANT_TABLE_OP, [0, &raw mut space as u64, 0, 0, 0]), 0)?;
        result("negative", call(GRANT_TABLE_OP, [0, &raw mut space as u64, 1 << 31, 0, 0]), EINVAL)
    });
    report.test("abi.grant.map.nobody", || {
        // host_addr, flags | ref, dom, status, handle
        let mut map = [0x38000000u64, 2, u64::from(NOBODY) | 0x7fff << 16, 0];
        result("call", call(GRANT_TABLE_OP, [0, &raw mut map as u64, 1, 0, 0]), 0)?;
        result("status GNTST_bad_domain", i64::from((map[2] >> 16) as i16), -2)
    });
    report.test("abi.grant.unmap.no-handle", || {
        for handle in [0xffff, 0xfff0_0000] {
            // host_addr, dev_bus_addr, handle | status
            let mut unmap = [0x38000000u64, 0, handle | 0x7fff << 32];
            result("call", call(GRANT_TABLE_OP, [1, &raw mut unmap as u64, 1, 0, 0]), 0)?;
            result("status GNTST_bad_handle", i64::from((unmap[2] >> 32) as i16), -4)?;
        }
        Ok(())
    });
    report.test("abi.grant.set-version.bad", || {
        result("3", operation3(GRANT_TABLE_OP, 8, &mut 3u32), EINVAL)?;
        result("0", operation3(GRANT_TABLE_OP, 8, &mut 0u32), EINVAL)
    });
}

/// A grant-table operation on one element.
pub(crate) fn operation3<T>(number: u64, op: u64, argument: &mut T) -> i64 {
    call(number, [op, &raw mut *argument as u64, 1, 0, 0])
}

fn others(report: &mut Report) {
    report.test("abi.console.unknown", || result("", call(CONSOLE_IO, [7, 0, NULL, 0, 0]), ENOSYS));
    report.test("abi.console.nothing", || {
        let byte = 0u8;
        result("", call(CONSOLE_IO, [0, 0, &raw const byte as u64, 0, 0]), 0)
    });
    report.test("abi.sched.unknown", || result("", call(SCHED_OP, [99, NULL, 0, 0, 0]), ENOSYS));
    report.test("abi.sched.poll.bad", || {
        // ports, nr_ports, timeout
        let mut poll = [UNMAPPED, 129, 1];
        result("129 ports", operation(SCHED_OP, 3, &mut poll), EINVAL)?;
        poll[1] = 1;
        result("ports unreadable", operation(SCHED_OP, 3, &mut poll), EFAULT)?;
        let port = 1u32 << 20;
        poll[0] = &raw const port as u64;
        result("no such port", operation(SCHED_OP, 3, &mut poll), EINVAL)
    });
    report.test("abi.vcpu.unknown", || result("", call(VCPU_OP, [99, 0, NULL, 0, 0]), EINVAL));
    report.test("abi.vcpu.nobody", || {
        let mut space = [0u64; 2];
        result("", call(VCPU_OP, [10, 99, &raw mut space as u64, 0, 0]), ENOENT)
    });
    report.test("abi.hvm.unknown", || result("", call(HVM_OP, [99, NULL, 0, 0, 0]), ENOSYS));
    report.test("abi.hvm.get-param", || {
        // domid, pad, index, value
        let mut param = [u64::from(SELF) | 1000 << 32, 0];
        result("index 1000", operation(HVM_OP, 1, &mut param), EINVAL)?;
        param[0] = u64::from(NOBODY) | 1 << 32;
        result("of nobody", operation(HVM_OP, 1, &mut param), ESRCH)
    });
    for (name, number) in [
        ("abi.domctl.version", DOMCTL),
        ("abi.sysctl.version", SYSCTL),
        ("abi.platform.version", PLATFORM_OP),
    ] {
        report.test(name, || {
            let mut space = [0u64; 32];
            space[0] = 5 | 0xdead << 32;
            result("", call(number, [&raw mut space as u64, 0, 0, 0, 0]), EACCES)
        });
    }
    report.test("abi.physdev.unknown", || {
        let mut space = [0u64; 8];
        result("", operation(PHYSDEV_OP, 99, &mut space), ENOSYS)
    });
    report.test("abi.multicall", || {
        // op, result, args[6]
        let mut calls = [[0u64; 8]; 3];
        calls[0][0] = XEN_VERSION;
        calls[1][0] = 60;
        calls[2][0] = XEN_VERSION;
        calls[2][2] = 7;
        result("no calls", call(MULTICALL, [&raw mut calls as u64, 0, 0, 0, 0]), 0)?;
        result("call", call(MULTICALL, [&raw mut calls as u64, 3, 0, 0, 0]), 0)?;
        holds("version", calls[0][1] >> 16 == 4, calls[0][1])?;
        result("unknown", calls[1][1] as i64, ENOSYS)?;
        result("page size", calls[2][1] as i64, 4096)
    });
    report.test("abi.vm-assist.unknown", || {
        result("type", call(VM_ASSIST, [0, 99, 0, 0, 0]), EINVAL)?;
        result("command", call(VM_ASSIST, [99, 5, 0, 0, 0]), ENOSYS)
    });
}
