//! What the toolstack is told of the machine, and sets.

use alloc::vec::Vec;

use vambrace_abi::domctl::*;
use vambrace_abi::errno::Errno;
use vambrace_abi::handle::XenHandle;
use vambrace_abi::hypercall::{HYPERVISOR_SYSCTL, HYPERVISOR_XSM_OP};
use vambrace_abi::sysctl::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::addr::PAGE_SIZE;
use crate::testing::*;

/// Offset in the buffer of what a structure points to.
const POINTEE: u64 = 0x1000;
const EINVAL: i64 = error(Errno::EINVAL);

fn ask<T: FromBytes + IntoBytes + Immutable>(world: &World, cmd: u32, body: T) -> (i64, T) {
    let interface_version = XEN_SYSCTL_INTERFACE_VERSION_4_20;
    let mut head = XenSysctl { cmd, interface_version, u: [u64::MAX; 16] };
    body.write_to_prefix(head.u.as_mut_bytes()).unwrap();
    let at = world.put(0, head);
    let result = world.call(HYPERVISOR_SYSCTL, &[at]);
    (result, T::read_from_prefix(world.get::<XenSysctl>(0).u.as_bytes()).unwrap().0)
}

fn pointee<T>() -> XenHandle<T> {
    XenHandle::new(BUFFER + POINTEE)
}

fn map() -> XenctlBitmap {
    XenctlBitmap { bitmap: pointee(), nr_bits: 8, ..Default::default() }
}

#[test]
fn the_machine_is_as_it_is() {
    let world = World::new(1, 3);
    let (result, info) = ask(&world, XEN_SYSCTL_PHYSINFO, XenSysctlPhysinfo::default());
    assert_eq!((result, info.nr_cpus, info.max_cpu_id, info.nr_nodes), (0, 3, 2, 1));
    assert_eq!(info.capabilities, 0b11_0000_1001);
    let free = world.hv.frames.lock().free_frames();
    assert_eq!((info.total_pages, info.free_pages), (16 * MIB / PAGE_SIZE, free));
    assert_eq!(info.max_mfn, (RAM + 16 * MIB) / PAGE_SIZE - 1);
    // Topology, as much of it as there is room for.
    let cpus = |num_cpus, cputopo| {
        let request = XenSysctlCputopoinfo { num_cpus, cputopo, ..Default::default() };
        let (result, answer) = ask(&world, XEN_SYSCTL_CPUTOPOINFO, request);
        (result, answer.num_cpus)
    };
    assert_eq!(cpus(0, XenHandle::NULL), (0, 3));
    assert_eq!((cpus(2, pointee()), cpus(9, pointee())), ((0, 2), (0, 3)));
    let cores: Vec<u32> = world.get::<[XenSysctlCputopo; 3]>(POINTEE).iter().map(|cpu| cpu.core).collect();
    assert_eq!(cores, [0, 1, 2]);
    assert_eq!(cpus(9, XenHandle::new(NOWHERE_VA)).0, error(Errno::EFAULT));
    let nodes = XenSysctlNumainfo {
        num_nodes: 4,
        meminfo: pointee(),
        distance: XenHandle::new(BUFFER + POINTEE + 64),
        ..Default::default()
    };
    let (result, answer) = ask(&world, XEN_SYSCTL_NUMAINFO, nodes);
    assert_eq!((result, answer.num_nodes), (0, 1));
    let memory = world.get::<XenSysctlMeminfo>(POINTEE);
    assert_eq!((memory.memsize, memory.memfree), (16 * MIB, free * PAGE_SIZE));
    let (_, counted) = ask(&world, XEN_SYSCTL_NUMAINFO, XenSysctlNumainfo::default());
    assert_eq!(counted.num_nodes, 1);
    let heap = |node, min_bitwidth, max_bitwidth| {
        let request = XenSysctlAvailheap { node, min_bitwidth, max_bitwidth, ..Default::default() };
        let (result, answer) = ask(&world, XEN_SYSCTL_AVAILHEAP, request);
        assert_eq!(result, 0);
        answer.avail_bytes
    };
    let all = free * PAGE_SIZE;
    assert_eq!([heap(-1, 0, 0), heap(0, 0, 31), heap(0, 31, 0), heap(0, 0, 64)], [all; 4]);
    assert_eq!([heap(1, 0, 0), heap(0, 0, 30), heap(0, 32, 0), heap(0, 65, u32::MAX)], [0; 4]);
    let idle = XenSysctlGetcpuinfo { max_cpus: 8, info: pointee(), ..Default::default() };
    let (result, answer) = ask(&world, XEN_SYSCTL_GETCPUINFO, idle);
    assert_eq!((result, answer.nr_cpus), (0, 3));
    let devices = XenSysctlPcitopoinfo {
        num_devs: 2,
        devs: pointee(),
        nodes: XenHandle::new(BUFFER + POINTEE + 64),
        ..Default::default()
    };
    assert_eq!(ask(&world, XEN_SYSCTL_PCITOPOINFO, devices).0, 0);
    assert_eq!(world.get::<[u32; 2]>(POINTEE + 64), [XEN_INVALID_DEV; 2]);
    let too_many = XenSysctlPcitopoinfo { num_devs: u32::MAX, ..devices };
    assert_eq!(ask(&world, XEN_SYSCTL_PCITOPOINFO, too_many).0, EINVAL);
}

#[test]
fn domains_are_listed_in_order() {
    let world = World::small();
    let other = world.add_other();
    let list = |first_domain, max_domains| {
        let request =
            XenSysctlGetdomaininfolist { first_domain, max_domains, buffer: pointee(), ..Default::default() };
        let (result, answer) = ask(&world, XEN_SYSCTL_GETDOMAININFOLIST, request);
        assert_eq!(result, 0);
        let all = world.get::<[XenDomctlGetdomaininfo; 2]>(POINTEE);
        all.iter().take(answer.num_domains as usize).map(|info| info.domain).collect::<Vec<_>>()
    };
    assert_eq!(list(0, 1024), [0, other.id]);
    assert_eq!((list(0, 1), list(1, 1024)), ([0].into(), [other.id].into()));
    assert_eq!((list(2, 1024), list(0, 0)), (Vec::new(), Vec::new()));
    let nowhere = XenSysctlGetdomaininfolist {
        max_domains: 1,
        buffer: XenHandle::new(NOWHERE_VA),
        ..Default::default()
    };
    assert_eq!(ask(&world, XEN_SYSCTL_GETDOMAININFOLIST, nowhere).0, error(Errno::EFAULT));
}

#[test]
fn the_log_is_read_on_and_cleared() {
    let world = World::small();
    world.hv.log(format_args!("{}", "x".repeat(700)));
    let read = |clear, incremental, index, count| {
        let request = XenSysctlReadconsole {
            clear,
            incremental,
            index,
            count,
            buffer: pointee(),
            ..Default::default()
        };
        let (result, answer) = ask(&world, XEN_SYSCTL_READCONSOLE, request);
        assert_eq!(result, 0);
        (answer.count, answer.index)
    };
    let (all, end) = read(0, 0, 0, 4096);
    assert!(all > 700);
    assert_eq!(world.get::<u8>(POINTEE + u64::from(all) - 1), b'\n');
    assert_eq!(read(0, 0, 0, 300), (300, end - all + 300));
    assert_eq!(read(0, 1, end - 5, 4096), (5, end));
    assert_eq!(read(0, 1, end, 0), (0, end));
    assert_eq!(read(1, 0, 0, 4096), (all, end));
    assert_eq!(read(0, 0, 0, 4096), (0, end));
    world.console();
    world.put(POINTEE, *b"h?");
    let keys = |keys, nr_keys| {
        ask(&world, XEN_SYSCTL_DEBUG_KEYS, XenSysctlDebugKeys { keys, nr_keys, ..Default::default() }).0
    };
    assert_eq!(keys(pointee(), 2), 0);
    assert_eq!(world.console().matches("h help").count(), 2);
    // Each key in a go of its own: some write for seconds, and the caller's interrupts are to be taken.
    let at = world.put(
        0,
        XenSysctl {
            cmd: XEN_SYSCTL_DEBUG_KEYS,
            interface_version: XEN_SYSCTL_INTERFACE_VERSION_4_20,
            u: [0; 16],
        },
    );
    let body = XenSysctlDebugKeys { keys: pointee(), nr_keys: 5, ..Default::default() };
    world.put(core::mem::offset_of!(XenSysctl, u) as u64, body);
    world.put(POINTEE, *b"hhhhh");
    let (result, _, goes) = world.call_in_goes(0, HYPERVISOR_SYSCTL, [at, 0, 0, 0, 0]);
    assert_eq!((result, goes, world.console().matches("h help").count()), (0, 5, 5));
    assert_eq!(keys(pointee(), 0), 0);
    assert_eq!(keys(pointee(), 257), error(Errno::E2BIG));
    assert_eq!(world.console(), "");
    assert_eq!(keys(XenHandle::new(NOWHERE_VA), 1), error(Errno::EFAULT));
    assert_eq!(keys(pointee(), u32::MAX), error(Errno::E2BIG));
}

#[test]
fn pools_come_and_go() {
    let world = World::new(1, 3);
    let other = world.add_other();
    let op = |op, cpupool_id, cpu, domid| {
        let request = XenSysctlCpupoolOp {
            op,
            cpupool_id,
            cpu,
            domid,
            sched_id: XEN_SCHEDULER_CREDIT2,
            cpumap: map(),
            ..Default::default()
        };
        let (result, answer) = ask(&world, XEN_SYSCTL_CPUPOOL_OP, request);
        (result, answer.cpupool_id, answer.n_dom)
    };
    let any = XEN_SYSCTL_CPUPOOL_PAR_ANY;
    let pool_map = || world.get::<u8>(POINTEE);
    assert_eq!((op(XEN_SYSCTL_CPUPOOL_OP_INFO, 0, 0, 0), pool_map()), ((0, 0, 2), 0b111));
    assert_eq!(op(XEN_SYSCTL_CPUPOOL_OP_INFO, 1, 0, 0).0, error(Errno::ENOENT));
    assert_eq!(op(XEN_SYSCTL_CPUPOOL_OP_CREATE, any, 0, 0), (0, 1, 0));
    assert_eq!(op(XEN_SYSCTL_CPUPOOL_OP_CREATE, 1, 0, 0).0, error(Errno::EEXIST));
    assert_eq!(op(XEN_SYSCTL_CPUPOOL_OP_ADDCPU, 1, 2, 0).0, error(Errno::ENODEV), "pool 0 has it");
    assert_eq!(op(XEN_SYSCTL_CPUPOOL_OP_RMCPU, 1, 2, 0).0, error(Errno::ENODEV));
    assert_eq!(op(XEN_SYSCTL_CPUPOOL_OP_RMCPU, 0, any, 0).0, 0);
    assert_eq!((op(XEN_SYSCTL_CPUPOOL_OP_FREEINFO, 0, 0, 0).0, pool_map()), (0, 0b100));
    assert_eq!(op(XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, 1, 0, other.id.into()).0, error(Errno::ENOENT));
    assert_eq!(op(XEN_SYSCTL_CPUPOOL_OP_ADDCPU, 1, any, 0).0, 0);
    assert_eq!(op(XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, 1, 0, other.id.into()).0, 0);
    assert_eq!((op(XEN_SYSCTL_CPUPOOL_OP_INFO, 1, 0, 0), pool_map()), ((0, 1, 1), 0b100));
    assert_eq!(op(XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, 1, 0, 0).0, error(Errno::EPERM));
    assert_eq!(op(XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, 1, 0, 99).0, error(Errno::ESRCH));
    assert_eq!(op(XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, 1, 0, 0x1_0001).0, error(Errno::ESRCH));
    assert_eq!(op(XEN_SYSCTL_CPUPOOL_OP_RMCPU, 1, 2, 0).0, error(Errno::EBUSY));
    assert_eq!(op(XEN_SYSCTL_CPUPOOL_OP_DESTROY, 1, 0, 0).0, error(Errno::EBUSY));
    assert_eq!(op(XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, 0, 0, other.id.into()).0, 0);
    assert_eq!(op(XEN_SYSCTL_CPUPOOL_OP_RMCPU, 1, 2, 0).0, 0);
    assert_eq!(op(XEN_SYSCTL_CPUPOOL_OP_DESTROY, 1, 0, 0).0, 0);
    assert_eq!(op(XEN_SYSCTL_CPUPOOL_OP_ADDCPU, 0, 9, 0).0, EINVAL);
    assert_eq!(op(99, 0, 0, 0).0, error(Errno::ENOSYS));
    let credit = XenSysctlCpupoolOp {
        op: XEN_SYSCTL_CPUPOOL_OP_CREATE,
        sched_id: XEN_SCHEDULER_CREDIT,
        ..Default::default()
    };
    assert_eq!(ask(&world, XEN_SYSCTL_CPUPOOL_OP, credit).0, error(Errno::ENOENT));
}

#[test]
fn the_scheduler_is_credit2() {
    let world = World::small();
    let (result, id) = ask(&world, XEN_SYSCTL_SCHED_ID, XenSysctlSchedId::default());
    assert_eq!((result, id.sched_id), (0, XEN_SCHEDULER_CREDIT2));
    let op = |cmd, cpupool_id, sched_id, ratelimit: u64| {
        let request =
            XenSysctlSchedulerOp { cmd, cpupool_id, sched_id, u: [ratelimit, 0], ..Default::default() };
        let (result, answer) = ask(&world, XEN_SYSCTL_SCHEDULER_OP, request);
        (result, answer.u[0] as u32)
    };
    let (get, put) = (XEN_SYSCTL_SCHEDOP_GETINFO, XEN_SYSCTL_SCHEDOP_PUTINFO);
    assert_eq!(op(get, 0, 6, 0), (0, 1000));
    assert_eq!((op(put, 0, 6, 5000), op(get, 0, 6, 0)), ((0, 5000), (0, 5000)));
    assert_eq!((op(put, 0, 6, 99).0, op(put, 0, 6, 500_001).0, op(put, 0, 6, 0).0), (EINVAL, EINVAL, 0));
    assert_eq!((op(get, 3, 6, 0).0, op(get, 0, 5, 0).0), (error(Errno::ESRCH), EINVAL));
    assert_eq!(op(7, 0, 6, 0).0, EINVAL);
}

#[test]
fn what_is_not_there_is_said_as_xen_says_it() {
    let world = World::small();
    for (command, errno) in [
        (XEN_SYSCTL_TBUF_OP, Errno::ENOSYS),
        (XEN_SYSCTL_PERFC_OP, Errno::ENOSYS),
        (XEN_SYSCTL_LOCKPROF_OP, Errno::ENOSYS),
        (XEN_SYSCTL_CPU_HOTPLUG, Errno::ENOSYS),
        (XEN_SYSCTL_GET_PMSTAT, Errno::ENOSYS),
        (XEN_SYSCTL_LIVEPATCH_OP, Errno::ENOSYS),
        (XEN_SYSCTL_COVERAGE_OP, Errno::EOPNOTSUPP),
        (XEN_SYSCTL_DT_OVERLAY, Errno::EOPNOTSUPP),
        (999, Errno::ENOSYS),
    ] {
        assert_eq!(ask(&world, command, 0_u64).0, error(errno), "{command}");
    }
    assert_eq!(world.call(HYPERVISOR_XSM_OP, &[BUFFER]), error(Errno::ENOSYS));
    let other = world.add_other();
    let mut head = XenSysctl { cmd: 3, interface_version: 0x15, ..Default::default() };
    let at = world.put(0, head);
    assert_eq!(world.call_by(other.id, HYPERVISOR_SYSCTL, [at, 0, 0, 0, 0]).0, error(Errno::EPERM));
    head.interface_version = 0x16;
    let at = world.put(0, head);
    assert_eq!(world.call(HYPERVISOR_SYSCTL, &[at]), error(Errno::EACCES));
    assert!(world.console().contains("Xen 4.17 and 4.20"));
    assert_eq!(world.call(HYPERVISOR_SYSCTL, &[NOWHERE_VA]), error(Errno::EFAULT));
}
