//! The hypercalls but those about memory: what they do, and what they say to nonsense.

use core::sync::atomic::Ordering;

use vambrace_abi::console::*;
use vambrace_abi::domid::DOMID_SELF;
use vambrace_abi::errno::Errno;
use vambrace_abi::event_channel::*;
use vambrace_abi::handle::XenHandle;
use vambrace_abi::hvm::*;
use vambrace_abi::hypercall::*;
use vambrace_abi::multicall::MulticallEntry;
use vambrace_abi::platform::*;
use vambrace_abi::sched::*;
use vambrace_abi::shared_info::*;
use vambrace_abi::vcpu::*;
use vambrace_abi::version::*;
use vambrace_abi::virq::{NR_VIRQS, VIRQ_CONSOLE, VIRQ_TIMER};
use vambrace_abi::vm_assist::*;

use crate::addr::PAGE_SIZE;
use crate::run::Next;
use crate::testing::*;

/// Every operation of `op` in `commands` answers EFAULT where its structure cannot be read or written.
fn pointers_are_checked(world: &World, op: u32, commands: impl IntoIterator<Item = u32>) {
    for command in commands {
        for bad in [NOWHERE_VA, u64::MAX, 0] {
            assert_eq!(
                world.call(op, &[command.into(), bad]),
                error(Errno::EFAULT),
                "{op} {command} {bad:#x}"
            );
        }
    }
}

fn unknown_commands_are_refused(world: &World, op: u32, commands: impl IntoIterator<Item = u64>) {
    for command in commands {
        assert_eq!(world.call(op, &[command, BUFFER]), error(Errno::ENOSYS), "{op} {command}");
    }
}

fn text(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes.split(|byte| *byte == 0).next().unwrap()).unwrap()
}

#[test]
fn versions_tell_who_we_are() {
    let world = World::small();
    let op = HYPERVISOR_XEN_VERSION;
    assert_eq!(world.call(op, &[XENVER_VERSION.into()]), 0x0004_0014);
    assert_eq!(world.call(op, &[XENVER_PAGESIZE.into(), 0]), 4096);
    assert_eq!(world.call(op, &[XENVER_PAGESIZE.into(), 8]), error(Errno::EINVAL));
    // The fixed forms answer 0: Linux takes anything else for a failure.
    let (result, extra) = world.with(op, XENVER_EXTRAVERSION, [0xff_u8; 16]);
    assert_eq!((result, text(&extra)), (0, ".0-vambrace"));
    let (result, capabilities) = world.with(op, XENVER_CAPABILITIES, [0xff_u8; 1024]);
    assert_eq!((result, text(&capabilities)), (0, "xen-3.0-aarch64 xen-3.0-armv7l "));
    let (result, line) = world.with(op, XENVER_COMMANDLINE, [0xff_u8; 1024]);
    assert_eq!((result, text(&line)), (0, "console=dtuart dom0_mem=4M"));
    assert!(line[100..].iter().all(|byte| *byte == 0), "nothing of the hypervisor's leaks");
    let (result, changes) = world.with(op, XENVER_CHANGESET, [0xff_u8; 64]);
    assert_eq!((result, text(&changes).starts_with("vambrace ")), (0, true));
    let (result, handle) = world.with(op, XENVER_GUEST_HANDLE, [0xff_u8; 16]);
    assert_eq!((result, handle), (0, [0; 16]));
    assert_eq!(world.with(op, XENVER_COMPILE_INFO, [0xff_u8; 144]).0, 0);
    let (result, place) = world.with(op, XENVER_PLATFORM_PARAMETERS, u64::MAX);
    assert_eq!((result, place), (0, 0));
    assert_eq!(world.call(op, &[XENVER_BUILD_ID.into(), 0]), error(Errno::ENODATA));
    unknown_commands_are_refused(&world, op, [15, 99, u32::MAX.into(), 1 << 32]);
    let with_pointer = [
        XENVER_EXTRAVERSION,
        XENVER_COMPILE_INFO,
        XENVER_CAPABILITIES,
        XENVER_CHANGESET,
        XENVER_PLATFORM_PARAMETERS,
        XENVER_GET_FEATURES,
        XENVER_GUEST_HANDLE,
        XENVER_COMMANDLINE,
    ];
    pointers_are_checked(&world, op, with_pointer);
    assert_eq!(world.call(op, &[XENVER_GET_FEATURES.into(), READ_ONLY]), error(Errno::EFAULT));
}

#[test]
fn the_command_line_is_for_dom0_alone() {
    let world = World::small();
    let other = world.add_other();
    let op = HYPERVISOR_XEN_VERSION;
    let by_other = |command: u32, at| world.call_by(other.id, op, [command.into(), at, 0, 0, 0]).0;
    let at = world.put(0, [0xff_u8; 1024]);
    assert_eq!(by_other(XENVER_COMMANDLINE, at), 0);
    assert_eq!(text(&world.get::<[u8; 1024]>(0)), "<denied>");
    // Neither the text nor its length.
    let at = world.put(0, 1024_u32);
    for command in [XENVER_COMMANDLINE2, XENVER_BUILD_ID] {
        assert_eq!([by_other(command, at), by_other(command, 0)], [error(Errno::EPERM); 2], "{command}");
    }
    assert_eq!(by_other(XENVER_EXTRAVERSION2, 0), ".0-vambrace-0.1.0".len() as i64, "this is for everybody");
}

#[test]
fn buffers_of_the_callers_size_are_not_overrun() {
    let world = World::small();
    let command = u64::from(XENVER_COMMANDLINE2);
    let call = |at| world.call(HYPERVISOR_XEN_VERSION, &[command, at]);
    let line = &world.hv.settings.command_line;
    let length = line.len() as i64;
    assert_eq!(call(0), length);
    world.put(4, [0xff_u8; 64]);
    let at = world.put(0, length as u32);
    assert_eq!(call(at), length);
    let written = world.get::<[u8; 64]>(4);
    assert_eq!(&written[..line.len()], line.as_bytes());
    assert_eq!(written[line.len()], 0xff, "no byte more than was said");
    world.put(0, length as u32 - 1);
    assert_eq!(call(at), error(Errno::ENOBUFS));
    world.put(0, 0_u32);
    assert_eq!(call(at), error(Errno::EINVAL));
    assert_eq!(call(NOWHERE_VA), error(Errno::EFAULT));
    // The head lies in the last page, the body behind it.
    let end = world.put(16 * PAGE_SIZE - 4, 1024_u32);
    assert_eq!(call(end), error(Errno::EFAULT));
}

#[test]
fn features_are_those_of_dom0() {
    let world = World::small();
    let ask = |submap_idx| {
        let info = XenFeatureInfo { submap_idx, ..Default::default() };
        world.with(HYPERVISOR_XEN_VERSION, XENVER_GET_FEATURES, info)
    };
    let (result, info) = ask(0);
    assert_eq!(result, 0);
    for (feature, has) in [
        (XENFEAT_AUTO_TRANSLATED_PHYSMAP, true),
        (XENFEAT_DOM0, true),
        (XENFEAT_DIRECT_MAPPED, true),
        (XENFEAT_NOT_DIRECT_MAPPED, false),
        (XENFEAT_HVM_PIRQS, false),
    ] {
        assert_eq!(info.submap >> feature & 1 != 0, has, "{feature}");
    }
    assert_eq!(ask(1).0, error(Errno::EINVAL));
    let other = world.add_other();
    let at = world.put(0, XenFeatureInfo::default());
    world.call_by(other.id, HYPERVISOR_XEN_VERSION, [XENVER_GET_FEATURES.into(), at, 0, 0, 0]);
    let submap = world.get::<XenFeatureInfo>(0).submap;
    assert_eq!(submap >> XENFEAT_DOM0 & 1, 0);
    assert_eq!(submap >> XENFEAT_NOT_DIRECT_MAPPED & 1, 1);
}

#[test]
fn the_console_is_written_and_read() {
    let world = World::small();
    let op = HYPERVISOR_CONSOLE_IO;
    let at = world.put(PAGE_SIZE - 3, *b"hello\n");
    assert_eq!(world.call(op, &[CONSOLEIO_WRITE.into(), 6, at]), 0);
    assert_eq!(world.console(), "hello\n");
    assert_eq!(world.call(op, &[CONSOLEIO_WRITE.into(), 0, NOWHERE_VA]), 0);
    assert_eq!(world.call(op, &[CONSOLEIO_WRITE.into(), 1, NOWHERE_VA]), error(Errno::EFAULT));
    assert_eq!(world.call(op, &[CONSOLEIO_WRITE.into(), 300, u64::MAX - 255]), error(Errno::EFAULT));
    for huge in [u64::MAX, u32::MAX.into(), (64 << 10) + 1] {
        assert_eq!(world.call(op, &[CONSOLEIO_WRITE.into(), huge, BUFFER]), error(Errno::E2BIG));
    }
    world.console();
    for byte in *b"input" {
        world.hv.console.put_input(0, byte);
    }
    assert_eq!(world.call(op, &[CONSOLEIO_READ.into(), 3, BUFFER]), 3);
    assert_eq!(world.call(op, &[CONSOLEIO_READ.into(), u64::MAX, BUFFER + 3]), 2);
    assert_eq!(world.get::<[u8; 5]>(0), *b"input");
    assert_eq!(world.call(op, &[CONSOLEIO_READ.into(), 8, NOWHERE_VA]), 0, "nothing to write");
    unknown_commands_are_refused(&world, op, [2, u64::MAX]);
    // Others are heard with their number before each line, and hear nothing.
    let other = world.add_other();
    let at = world.put(0, *b"from one\n");
    assert_eq!(world.call_by(other.id, op, [CONSOLEIO_WRITE.into(), 9, at, 0, 0]).0, 0);
    assert!(world.console().contains("d1"));
    assert_eq!(world.call_by(other.id, op, [CONSOLEIO_READ.into(), 1, at, 0, 0]).0, error(Errno::EPERM));
}

#[test]
fn event_channels_connect_and_carry() {
    let world = World::new(2, 1);
    let other = world.add_other();
    let op = HYPERVISOR_EVENT_CHANNEL_OP;
    let alloc = EvtchnAllocUnbound { dom: DOMID_SELF, remote_dom: 1, port: 0 };
    let (result, EvtchnAllocUnbound { port, .. }) = world.with(op, EVTCHNOP_ALLOC_UNBOUND, alloc);
    assert_eq!(result, 0);
    // The other domain connects and sends.
    let bind = EvtchnBindInterdomain { remote_dom: 0, remote_port: port, ..Default::default() };
    let at = world.put(0, bind);
    let by_other = |command: u32| world.call_by(other.id, op, [command.into(), at, 0, 0, 0]).0;
    assert_eq!(by_other(EVTCHNOP_BIND_INTERDOMAIN), 0);
    let local = world.get::<EvtchnBindInterdomain>(0).local_port;
    world.put(0, EvtchnSend { port: local });
    assert_eq!(by_other(EVTCHNOP_SEND), 0);
    let pending = world.domain.shared_info.offset(SHARED_INFO_EVTCHN_PENDING as u64);
    assert_eq!(world.machine().word(pending), 1 << port);
    let (result, status) =
        world.with(op, EVTCHNOP_STATUS, EvtchnStatus { dom: DOMID_SELF, port, ..Default::default() });
    assert_eq!(
        (result, status.status, status.info, status.remote_port),
        (0, EVTCHNSTAT_INTERDOMAIN, 1, local)
    );
    // Dom0 sees the other's ports, the other not dom0's.
    let ask = EvtchnStatus { dom: 1, port: local, ..Default::default() };
    assert_eq!(world.with(op, EVTCHNOP_STATUS, ask).1.status, EVTCHNSTAT_INTERDOMAIN);
    world.put(0, EvtchnStatus { dom: 0, port, ..Default::default() });
    assert_eq!(by_other(EVTCHNOP_STATUS), error(Errno::EPERM));
    world.put(0, EvtchnReset { dom: 0 });
    assert_eq!(by_other(EVTCHNOP_RESET), error(Errno::EPERM));
    world.put(0, EvtchnAllocUnbound { dom: 0, remote_dom: 1, port: 0 });
    assert_eq!(by_other(EVTCHNOP_ALLOC_UNBOUND), error(Errno::EPERM));
    assert_eq!(world.with(op, EVTCHNOP_CLOSE, EvtchnClose { port }).0, 0);
    assert_eq!(world.with(op, EVTCHNOP_CLOSE, EvtchnClose { port }).0, error(Errno::EINVAL));
    assert_eq!(world.with(op, EVTCHNOP_RESET, EvtchnReset { dom: 1 }).0, 0);
    // An IPI to vCPU 1, by way of its own port.
    let (result, ipi) = world.with(op, EVTCHNOP_BIND_IPI, EvtchnBindIpi { vcpu: 1, port: 0 });
    assert_eq!((result, world.with(op, EVTCHNOP_SEND, EvtchnSend { port: ipi.port }).0), (0, 0));
    assert_eq!(world.with(op, EVTCHNOP_UNMASK, EvtchnUnmask { port: ipi.port }).0, 0);
}

#[test]
fn malformed_event_calls_are_refused() {
    let world = World::small();
    let op = HYPERVISOR_EVENT_CHANNEL_OP;
    pointers_are_checked(&world, op, 0..=EVTCHNOP_SET_PRIORITY);
    unknown_commands_are_refused(&world, op, [14, 1 << 32]);
    let virq = |virq, vcpu| world.with(op, EVTCHNOP_BIND_VIRQ, EvtchnBindVirq { virq, vcpu, port: 0 }).0;
    assert_eq!(virq(VIRQ_CONSOLE, 0), 0);
    assert_eq!(virq(VIRQ_CONSOLE, 0), error(Errno::EEXIST));
    assert_eq!(virq(VIRQ_TIMER, 1), error(Errno::ENOENT));
    assert_eq!(virq(NR_VIRQS, 0), error(Errno::EINVAL));
    let bind = |remote_dom, remote_port| {
        let bind = EvtchnBindInterdomain { remote_dom, remote_port, ..Default::default() };
        world.with(op, EVTCHNOP_BIND_INTERDOMAIN, bind).0
    };
    assert_eq!(bind(9, 1), error(Errno::ESRCH));
    assert_eq!(bind(DOMID_SELF, 77), error(Errno::EINVAL));
    assert_eq!(world.with(op, EVTCHNOP_BIND_IPI, EvtchnBindIpi { vcpu: 1, port: 0 }).0, error(Errno::ENOENT));
    let alloc = EvtchnAllocUnbound { dom: 9, ..Default::default() };
    assert_eq!(world.with(op, EVTCHNOP_ALLOC_UNBOUND, alloc).0, error(Errno::ESRCH));
    assert_eq!(world.with(op, EVTCHNOP_SEND, EvtchnSend { port: u32::MAX }).0, error(Errno::EINVAL));
    // Control blocks and event words lie in RAM of the caller's own.
    for control_gfn in [0, DEVICE >> 12, 1 << 52 | RAM >> 12, u64::MAX] {
        let control = EvtchnInitControl { control_gfn, ..Default::default() };
        assert_eq!(world.with(op, EVTCHNOP_INIT_CONTROL, control).0, error(Errno::EINVAL));
    }
    let control = EvtchnInitControl { control_gfn: RAM >> 12, ..Default::default() };
    let (result, control) = world.with(op, EVTCHNOP_INIT_CONTROL, control);
    assert_eq!((result, control.link_bits), (0, 17));
    let array = EvtchnExpandArray { array_gfn: DEVICE >> 12 };
    assert_eq!(world.with(op, EVTCHNOP_EXPAND_ARRAY, array).0, error(Errno::EINVAL));
    let array = EvtchnExpandArray { array_gfn: (RAM >> 12) + 1 };
    assert_eq!(world.with(op, EVTCHNOP_EXPAND_ARRAY, array).0, 0);
}

#[test]
fn scheduling_calls() {
    let world = World::small();
    let op = HYPERVISOR_SCHED_OP;
    let call = |command: u32, argument| world.call_by(0, op, [command.into(), argument, 0, 0, 0]);
    assert_eq!(call(SCHEDOP_YIELD, 0), (0, Next::Yield));
    assert_eq!(call(SCHEDOP_BLOCK, 0), (0, Next::Block));
    let with_pointer =
        [SCHEDOP_SHUTDOWN, SCHEDOP_POLL, SCHEDOP_REMOTE_SHUTDOWN, SCHEDOP_SHUTDOWN_CODE, SCHEDOP_WATCHDOG];
    pointers_are_checked(&world, op, with_pointer);
    unknown_commands_are_refused(&world, op, [SCHEDOP_PIN_OVERRIDE.into(), 99, 1 << 32 | 1]);
    // A poll of a port that is not pending sleeps; a pending one, or a time that has come, ends it.
    let (_, bind) = world.with(HYPERVISOR_EVENT_CHANNEL_OP, EVTCHNOP_BIND_IPI, EvtchnBindIpi::default());
    world.put(0x100, [bind.port, 9999]);
    let poll = SchedPoll { ports: XenHandle::new(BUFFER + 0x100), nr_ports: 1, ..Default::default() };
    let polled = |poll| call(SCHEDOP_POLL, world.put(0, poll));
    assert_eq!(polled(poll), (0, Next::Block));
    assert_eq!(polled(SchedPoll { timeout: 5000, ..poll }), (0, Next::Block));
    world.machine().set_now(5);
    assert_eq!(polled(SchedPoll { timeout: 5000, ..poll }), (0, Next::Resume));
    assert_eq!(polled(SchedPoll { nr_ports: 2, ..poll }).0, error(Errno::EINVAL), "no such port");
    assert_eq!(polled(SchedPoll { nr_ports: 129, ..poll }).0, error(Errno::EINVAL));
    let bad = XenHandle::new(NOWHERE_VA);
    assert_eq!(polled(SchedPoll { ports: bad, ..poll }).0, error(Errno::EFAULT));
    world.with(HYPERVISOR_EVENT_CHANNEL_OP, EVTCHNOP_SEND, EvtchnSend { port: bind.port });
    assert_eq!(polled(poll), (0, Next::Resume));
}

#[test]
fn watchdogs_are_two() {
    let world = World::small();
    let set =
        |id, timeout| world.with(HYPERVISOR_SCHED_OP, SCHEDOP_WATCHDOG, SchedWatchdog { id, timeout }).0;
    assert_eq!(set(0, 0), error(Errno::EINVAL));
    assert_eq!(set(1, 5), error(Errno::EINVAL), "not in use");
    assert_eq!((set(0, 5), set(0, u32::MAX)), (1, 2));
    assert_eq!(set(0, 5), error(Errno::ENOSPC));
    assert_eq!((set(1, 0), set(0, 5)), (0, 1));
    for id in [3, u32::MAX] {
        assert_eq!(set(id, 5), error(Errno::EINVAL));
    }
}

#[test]
fn domains_are_shut_down() {
    let world = World::small();
    let other = world.add_other();
    let op = HYPERVISOR_SCHED_OP;
    let remote = |domain_id| {
        let request = SchedRemoteShutdown { domain_id, reason: SHUTDOWN_CRASH, ..Default::default() };
        world.with(op, SCHEDOP_REMOTE_SHUTDOWN, request).0
    };
    assert_eq!(remote(7), error(Errno::ESRCH));
    assert_eq!(remote(0), error(Errno::EINVAL));
    let at = world.put(0, SchedRemoteShutdown::default());
    let args = [SCHEDOP_REMOTE_SHUTDOWN.into(), at, 0, 0, 0];
    assert_eq!(world.call_by(other.id, op, args).0, error(Errno::EPERM));
    assert_eq!(remote(1), 0);
    assert_eq!(other.shutdown_reason(), Some(SHUTDOWN_CRASH));
    assert!(!world.machine().is_off() && !world.machine().is_reset(), "only dom0 takes the machine along");
    let at = world.put(0, SchedShutdown { reason: SHUTDOWN_POWEROFF });
    assert_eq!(world.call_by(0, op, [SCHEDOP_SHUTDOWN.into(), at, 0, 0, 0]), (0, Next::Resume));
    assert!(world.machine().is_off());
}

#[test]
fn parameters_are_kept() {
    let world = World::small();
    let other = world.add_other();
    let op = HYPERVISOR_HVM_OP;
    pointers_are_checked(&world, op, [HVMOP_SET_PARAM, HVMOP_GET_PARAM]);
    unknown_commands_are_refused(&world, op, [HVMOP_FLUSH_TLBS.into(), HVMOP_ALTP2M.into(), 99, 1 << 32]);
    let param = |domid, index, value| XenHvmParam { domid, pad: 0, index, value };
    let set = |domid, index| world.with(op, HVMOP_SET_PARAM, param(domid, index, 0x1234)).0;
    let get = |domid, index| world.with(op, HVMOP_GET_PARAM, param(domid, index, 0));
    for domid in [DOMID_SELF, 1] {
        assert_eq!(set(domid, HVM_PARAM_STORE_PFN), 0);
        let (result, param) = get(domid, HVM_PARAM_STORE_PFN);
        assert_eq!((result, param.value), (0, 0x1234));
        assert_eq!(set(domid, HVM_NR_PARAMS), error(Errno::EINVAL));
        assert_eq!(get(domid, u32::MAX).0, error(Errno::EINVAL));
    }
    assert_eq!(get(9, 1).0, error(Errno::ESRCH));
    // A guest reads its own and writes none.
    let by_other = |command: u32, domid| {
        let at = world.put(0, param(domid, HVM_PARAM_STORE_PFN, 9));
        world.call_by(other.id, op, [command.into(), at, 0, 0, 0]).0
    };
    assert_eq!(by_other(HVMOP_GET_PARAM, DOMID_SELF), 0);
    assert_eq!(world.get::<XenHvmParam>(0).value, 0x1234);
    assert_eq!(by_other(HVMOP_SET_PARAM, DOMID_SELF), error(Errno::EPERM));
    assert_eq!(by_other(HVMOP_GET_PARAM, 0), error(Errno::EPERM));
    assert_eq!(by_other(HVMOP_SET_PARAM, 0), error(Errno::EPERM));
}

#[test]
fn vcpu_areas_are_registered() {
    let world = World::new(2, 1);
    let op = HYPERVISOR_VCPU_OP;
    let call = |command: u32, vcpu, argument| world.call(op, &[command.into(), vcpu, argument]);
    let info = |mfn, offset| world.put(0, VcpuRegisterVcpuInfo { mfn, offset, rsvd: 0 });
    let register = VCPUOP_REGISTER_VCPU_INFO;
    let gfn = RAM >> 12;
    for bad in [DEVICE >> 12, 0, 1 << 52 | gfn, u64::MAX] {
        assert_eq!(call(register, 1, info(bad, 0)), error(Errno::EINVAL), "{bad:#x}");
    }
    assert_eq!(call(register, 1, info(gfn, 4096 - 8)), error(Errno::ENXIO));
    assert_eq!(call(register, 1, info(gfn, 64)), 0);
    assert_eq!(call(register, 1, info(gfn, 128)), error(Errno::EINVAL), "once");
    assert_eq!(call(register, 2, info(gfn, 64)), error(Errno::ENOENT));
    assert_eq!(call(register, u64::MAX, info(gfn, 64)), error(Errno::ENOENT));
    for command in [register, VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, VCPUOP_REGISTER_RUNSTATE_PHYS_AREA] {
        assert_eq!(call(command, 0, NOWHERE_VA), error(Errno::EFAULT));
    }
    for command in [VCPUOP_INITIALISE, VCPUOP_UP, VCPUOP_IS_UP, 99] {
        assert_eq!(call(command, 0, BUFFER), error(Errno::EINVAL), "vCPUs go up and down by PSCI");
    }
    let area = |command: u32, at: u64| call(command, 0, world.put(0, at));
    let (virt, phys) = (VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, VCPUOP_REGISTER_RUNSTATE_PHYS_AREA);
    for bad in [NOWHERE_VA, READ_ONLY, BUFFER + 16 * PAGE_SIZE - 8, u64::MAX - 7] {
        assert_eq!(area(virt, bad), error(Errno::EFAULT), "{bad:#x}");
    }
    for bad in [DEVICE, RAM + RAM_SIZE, RAM + RAM_SIZE - 8, 1 << 40] {
        assert_eq!(area(phys, bad), error(Errno::EFAULT), "{bad:#x}");
    }
    assert_eq!(area(virt, BUFFER + 0x104), error(Errno::EINVAL), "misaligned");
    // What is registered is written at once, here across a page's border, and again at each change.
    assert_eq!(area(virt, BUFFER + 2 * PAGE_SIZE - 16), 0);
    assert_eq!(world.get::<VcpuRunstateInfo>(2 * PAGE_SIZE - 16).state, RUNSTATE_OFFLINE);
    world.machine().set_now(7);
    world.machine().push_trap(crate::trap::Trap::Wait { event: false, instruction_length: 4 });
    world.hv.round(0);
    let shown: VcpuRunstateInfo = world.get(2 * PAGE_SIZE - 16);
    assert_eq!((shown.state, shown.state_entry_time), (RUNSTATE_BLOCKED, 7000));
    assert_eq!(area(virt, 0), 0);
    assert_eq!(area(phys, u64::MAX), 0);
    assert!(world.domain.vcpus[0].runstate.lock().area.is_none());
}

#[test]
fn dom0_sets_the_wall_clock() {
    let world = World::small();
    let op = HYPERVISOR_PLATFORM_OP;
    let mut request =
        XenPlatformOp { cmd: XENPF_SETTIME64, interface_version: XENPF_INTERFACE_VERSION, u: [0; 16] };
    request.u[..3].copy_from_slice(&[0x1_2345_6789, 500_000_000, 1_000_000_000]);
    let set = |request| world.call(op, &[world.put(0, request)]);
    assert_eq!(set(request), 0);
    let word = |offset: usize| world.machine().word(world.domain.shared_info.offset(offset as u64));
    assert_eq!(word(SHARED_INFO_WC_VERSION), 2);
    assert_eq!((word(SHARED_INFO_WC_SEC), word(SHARED_INFO_WC_SEC_HI)), (0x2345_6788, 1));
    assert_eq!(word(SHARED_INFO_WC_NSEC), 500_000_000);
    let mut bad = request;
    bad.u[1] |= 1 << 32;
    assert_eq!(set(bad), error(Errno::EINVAL), "mbz");
    bad.u = [u64::MAX, 0xffff_ffff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(set(bad), 0, "nonsense, but dom0's own");
    assert_eq!(set(XenPlatformOp { interface_version: 1, ..request }), error(Errno::EACCES));
    assert_eq!(set(XenPlatformOp { cmd: 99, ..request }), error(Errno::ENOSYS));
    assert_eq!(world.call(op, &[NOWHERE_VA]), error(Errno::EFAULT));
    let other = world.add_other();
    let at = world.put(0, request);
    assert_eq!(world.call_by(other.id, op, [at, 0, 0, 0, 0]).0, error(Errno::EPERM));
}

#[test]
fn the_one_assist() {
    let world = World::small();
    let kind = u64::from(VMASST_TYPE_RUNSTATE_UPDATE_FLAG);
    let set = |command: u64, kind| world.call(HYPERVISOR_VM_ASSIST, &[command, kind]);
    assert_eq!(set(VMASST_CMD_ENABLE.into(), kind), 0);
    assert!(world.domain.runstate_update_flag());
    assert_eq!(set(VMASST_CMD_DISABLE.into(), kind), 0);
    assert_eq!(world.domain.assists.load(Ordering::Relaxed), 0);
    assert_eq!(set(9, kind), error(Errno::ENOSYS));
    for kind in [0, 64, u64::MAX] {
        assert_eq!(set(VMASST_CMD_ENABLE.into(), kind), error(Errno::EINVAL));
    }
}

#[test]
fn a_multicall_answers_for_each() {
    let world = World::small();
    let entry = |op: u32, args: [u64; 2]| MulticallEntry {
        op: op.into(),
        result: 0x5555,
        args: [args[0], args[1], 0, 0, 0, 0],
    };
    let list = [
        entry(HYPERVISOR_XEN_VERSION, [XENVER_VERSION.into(), 0]),
        entry(HYPERVISOR_MULTICALL, [BUFFER, 1]),
        entry(HYPERVISOR_SCHED_OP, [SCHEDOP_YIELD.into(), 0]),
        entry(99, [0, 0]),
        MulticallEntry { op: 1 << 32 | 17, ..Default::default() },
    ];
    for (n, entry) in (0..).zip(list) {
        world.put(n * size_of::<MulticallEntry>() as u64, entry);
    }
    // What an entry wants done with the vCPU is done after the list.
    assert_eq!(world.call_by(0, HYPERVISOR_MULTICALL, [BUFFER, 5, 0, 0, 0]), (0, Next::Yield));
    let results: [i64; 5] = core::array::from_fn(|n| {
        world.get::<MulticallEntry>((n * size_of::<MulticallEntry>()) as u64).result as i64
    });
    let (nested, none) = (error(Errno::EINVAL), error(Errno::ENOSYS));
    assert_eq!(results, [0x0004_0014, nested, 0, none, none]);
    assert_eq!(world.call(HYPERVISOR_MULTICALL, &[NOWHERE_VA, 0]), 0);
    assert_eq!(world.call(HYPERVISOR_MULTICALL, &[NOWHERE_VA, 1]), error(Errno::EFAULT));
    assert_eq!(world.call(HYPERVISOR_MULTICALL, &[READ_ONLY, 1]), error(Errno::EFAULT));
    assert_eq!(world.call(HYPERVISOR_MULTICALL, &[u64::MAX - 10, 2]), error(Errno::EFAULT));
    for huge in [u64::MAX, 1 << 32, 1 << 20] {
        assert_eq!(
            world.call(HYPERVISOR_MULTICALL, &[BUFFER, huge]),
            error(Errno::EFAULT),
            "beyond the buffer"
        );
    }
}

#[test]
fn the_toolstacks_calls_check_their_version() {
    use vambrace_abi::{
        domctl::XEN_DOMCTL_INTERFACE_VERSION_4_20, sysctl::XEN_SYSCTL_INTERFACE_VERSION_4_20,
    };
    let world = World::small();
    let other = world.add_other();
    for (op, version) in [
        (HYPERVISOR_DOMCTL, XEN_DOMCTL_INTERFACE_VERSION_4_20),
        (HYPERVISOR_SYSCTL, XEN_SYSCTL_INTERFACE_VERSION_4_20),
    ] {
        assert_eq!(world.call(op, &[NOWHERE_VA]), error(Errno::EFAULT));
        let call = |domain, version: u32| {
            let at = world.put(0, [0x7fff_ffff, version]);
            world.call_by(domain, op, [at, 0, 0, 0, 0]).0
        };
        assert_eq!(call(0, 1), error(Errno::EACCES));
        assert_eq!(call(0, version), error(Errno::ENOSYS), "no such command");
        assert_eq!(call(other.id, version), error(Errno::EPERM));
    }
    assert_eq!(world.call(HYPERVISOR_PHYSDEV_OP, &[25, BUFFER]), error(Errno::ENOSYS));
}
