//! What the commands do, for toolstacks of both releases, and what they refuse.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use vambrace_abi::arch_arm::*;
use vambrace_abi::domctl::*;
use vambrace_abi::domid::DOMID_INVALID;
use vambrace_abi::errno::Errno;
use vambrace_abi::handle::XenHandle;
use vambrace_abi::hypercall::HYPERVISOR_DOMCTL;
use vambrace_abi::sched::SHUTDOWN_SUSPEND;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::create::{self, Host};
use crate::addr::{Ipa, PAGE_SIZE, Pa, PaRange};
use crate::domain::Permissions;
use crate::machine::SystemState;
use crate::p2m::Kind;
use crate::sched::{Status, VcpuKey};
use crate::testing::*;

const V417: u32 = XEN_DOMCTL_INTERFACE_VERSION_4_17;
const V420: u32 = XEN_DOMCTL_INTERFACE_VERSION_4_20;
/// Offset in the buffer of what a structure points to.
const POINTEE: u64 = 0x1000;
const EINVAL: i64 = error(Errno::EINVAL);

/// Makes a domctl of a version; answers result, domain and structure.
fn call<T>(world: &World, version: u32, cmd: u32, domain: u16, body: T) -> (i64, u16, T)
where
    T: FromBytes + IntoBytes + Immutable,
{
    let mut head =
        XenDomctl { cmd, interface_version: version, domain, u: [u64::MAX; 16], ..Default::default() };
    body.write_to_prefix(head.u.as_mut_bytes()).unwrap();
    let at = world.put(0, head);
    let result = world.call(HYPERVISOR_DOMCTL, &[at]);
    let after: XenDomctl = world.get(0);
    (result, after.domain, T::read_from_prefix(after.u.as_bytes()).unwrap().0)
}

fn ask<T: FromBytes + IntoBytes + Immutable>(world: &World, cmd: u32, domain: u16, body: T) -> (i64, T) {
    let (result, _, body) = call(world, V420, cmd, domain, body);
    (result, body)
}

/// The result of a command without a structure, or with one that is wrong whatever it is.
fn plain(world: &World, cmd: u32, domain: u16) -> i64 {
    ask(world, cmd, domain, 0_u64).0
}

fn config() -> XenDomctlCreatedomain420 {
    XenDomctlCreatedomain420 {
        handle: *b"a domain of mine",
        flags: XEN_DOMCTL_CDF_HVM | XEN_DOMCTL_CDF_HAP,
        max_vcpus: 2,
        max_evtchn_port: 1023,
        max_grant_frames: 32,
        max_maptrack_frames: -1,
        grant_opts: 1,
        arch: XenArchDomainconfig { nr_spis: 1, ..Default::default() },
        ..Default::default()
    }
}

/// Domain with two vCPUs, which no toolstack has let run yet.
fn create(world: &World) -> u16 {
    let (result, id, _) = call(world, V420, XEN_DOMCTL_CREATEDOMAIN, 0, config());
    assert_eq!(result, 0);
    id
}

fn info(world: &World, domain: u16) -> XenDomctlGetdomaininfo {
    let (result, info) = ask(world, XEN_DOMCTL_GETDOMAININFO, domain, XenDomctlGetdomaininfo::default());
    assert_eq!(result, 0);
    info
}

#[test]
fn both_releases_make_the_same_domain() {
    let world = World::small();
    let XenDomctlCreatedomain420 { handle, flags, max_vcpus, max_evtchn_port, arch, .. } = config();
    let old = XenDomctlCreatedomain417 {
        handle,
        flags,
        max_vcpus,
        max_evtchn_port,
        max_grant_frames: 32,
        max_maptrack_frames: -1,
        grant_opts: 1,
        // Padding there, so it says nothing.
        arch: XenArchDomainconfig { sve_vl: 9, ..arch },
        ..Default::default()
    };
    let (result, first, answer) = call(&world, V417, XEN_DOMCTL_CREATEDOMAIN, 0, old);
    assert_eq!((result, first, answer.arch.gic_version), (0, 1, XEN_DOMCTL_CONFIG_GIC_V2));
    let (result, second, answer) = call(&world, V420, XEN_DOMCTL_CREATEDOMAIN, 0x7ff4, config());
    assert_eq!((result, second, answer.arch.gic_version), (0, 2, XEN_DOMCTL_CONFIG_GIC_V2));
    assert_eq!(answer.handle, handle, "the rest is as it was");
    for (version, id) in [(V417, first), (V420, second)] {
        let empty = XenDomctlGetdomaininfo::default();
        let (result, domain, info) = call(&world, version, XEN_DOMCTL_GETDOMAININFO, id, empty);
        assert_eq!((result, domain, info.domain, info.handle), (0, id, id, handle));
        assert_eq!((info.max_vcpu_id, info.nr_online_vcpus, info.tot_pages), (1, 0, 0));
        let steady = XEN_DOMINF_HVM_GUEST | XEN_DOMINF_HAP | XEN_DOMINF_PAUSED;
        assert_eq!(info.flags & 0xffff, steady);
        assert_eq!(info.shared_info_frame, u64::MAX);
        assert_eq!((info.cpupool, info.gpaddr_bits), (0, 40));
        assert_eq!(info.arch_config.gic_version, XEN_DOMCTL_CONFIG_GIC_V2);
        for (max, expected) in [(2, 0), (1, EINVAL), (3, EINVAL)] {
            let (result, ..) = call(&world, version, XEN_DOMCTL_MAX_VCPUS, id, XenDomctlMaxVcpus { max });
            assert_eq!(result, expected);
        }
    }
    // A number of one's own, which is then another's.
    assert_eq!(call(&world, V420, XEN_DOMCTL_CREATEDOMAIN, 77, config()).1, 77);
    assert_eq!(call(&world, V420, XEN_DOMCTL_CREATEDOMAIN, 77, config()).0, error(Errno::EEXIST));
    let nowhere = XenDomctlCreatedomain420 { cpupool_id: 5, ..config() };
    assert_eq!(call(&world, V420, XEN_DOMCTL_CREATEDOMAIN, 0, nowhere).0, error(Errno::ESRCH));
}

#[test]
fn the_older_release_walks_from_domain_to_domain() {
    let world = World::small();
    for id in [3, 9] {
        assert_eq!(call(&world, V420, XEN_DOMCTL_CREATEDOMAIN, id, config()).1, id);
    }
    let get = |version, id| {
        let empty = XenDomctlGetdomaininfo::default();
        let (result, domain, info) = call(&world, version, XEN_DOMCTL_GETDOMAININFO, id, empty);
        (result, domain, info.domain)
    };
    for (asked, found) in [(0, 0), (1, 3), (3, 3), (4, 9)] {
        assert_eq!(get(V417, asked), (0, found, found));
    }
    assert_eq!(get(V417, 10).0, error(Errno::ESRCH));
    assert_eq!(get(V420, 1).0, error(Errno::ESRCH));
}

#[test]
fn a_domain_that_cannot_be_is_refused() {
    let host = Host { gic: XEN_DOMCTL_CONFIG_GIC_V2, vcpus: 8 };
    let check = |change: fn(&mut XenDomctlCreatedomain420)| {
        let mut config = config();
        change(&mut config);
        create::check(&config, None, &host).map(|config| (config.max_grant_frames, config.max_port))
    };
    assert_eq!(check(|_| {}), Ok((32, 1023)));
    assert_eq!(check(|c| c.max_grant_frames = -1), Ok((64, 1023)));
    assert_eq!(check(|c| c.max_evtchn_port = u32::MAX), Ok((32, i32::MAX as u32)));
    let wrong: [fn(&mut XenDomctlCreatedomain420); 20] = [
        |c| c.flags = 0,
        |c| c.flags &= !XEN_DOMCTL_CDF_HAP,
        |c| c.flags |= XEN_DOMCTL_CDF_IOMMU,
        |c| c.flags |= XEN_DOMCTL_CDF_VPMU,
        |c| c.flags |= 1 << 31,
        |c| c.iommu_opts = 1,
        |c| c.altp2m_opts = 1,
        |c| c.vmtrace_size = 4096,
        |c| c.grant_opts = 0,
        |c| c.grant_opts = 3,
        |c| c.grant_opts = 0x11,
        |c| c.max_vcpus = 0,
        |c| c.max_vcpus = 9,
        |c| c.max_grant_frames = 0,
        |c| c.max_grant_frames = 65,
        |c| c.max_maptrack_frames = 1025,
        |c| c.arch.nr_spis = 989,
        |c| c.arch.sve_vl = 1,
        |c| c.arch.tee_type = XEN_DOMCTL_CONFIG_TEE_OPTEE,
        |c| c.arch.gic_version = 9,
    ];
    for (number, change) in wrong.into_iter().enumerate() {
        assert_eq!(check(change), Err(Errno::EINVAL), "{number}");
    }
    assert_eq!(check(|c| c.arch.gic_version = XEN_DOMCTL_CONFIG_GIC_V3), Err(Errno::ENODEV));
}

#[test]
fn a_domain_lives_and_ends() {
    let world = World::small();
    let before = world.hv.frames.lock().free_frames();
    let id = create(&world);
    assert_eq!(plain(&world, XEN_DOMCTL_PAUSEDOMAIN, id), 0);
    for _ in 0..2 {
        assert_ne!(info(&world, id).flags & XEN_DOMINF_PAUSED, 0);
        assert_eq!(plain(&world, XEN_DOMCTL_UNPAUSEDOMAIN, id), 0);
    }
    assert_eq!(info(&world, id).flags & XEN_DOMINF_PAUSED, 0);
    assert_eq!(plain(&world, XEN_DOMCTL_UNPAUSEDOMAIN, id), EINVAL);
    for _ in 0..255 {
        assert_eq!(plain(&world, XEN_DOMCTL_PAUSEDOMAIN, id), 0);
    }
    assert_eq!(plain(&world, XEN_DOMCTL_PAUSEDOMAIN, id), error(Errno::EOVERFLOW));
    // Shut down, and let go on.
    assert_eq!(plain(&world, XEN_DOMCTL_SOFT_RESET, id), EINVAL);
    world.hv.shut_down(&world.hv.domain(id).unwrap(), SHUTDOWN_SUSPEND);
    let flags = info(&world, id).flags;
    assert_ne!(flags & XEN_DOMINF_SHUTDOWN, 0);
    assert_eq!(flags >> XEN_DOMINF_SHUTDOWNSHIFT & XEN_DOMINF_SHUTDOWNMASK, SHUTDOWN_SUSPEND);
    assert_eq!(plain(&world, XEN_DOMCTL_SOFT_RESET, id), error(Errno::ENOSYS));
    for _ in 0..2 {
        assert_eq!(plain(&world, XEN_DOMCTL_RESUMEDOMAIN, id), 0);
        assert_eq!(info(&world, id).flags & XEN_DOMINF_SHUTDOWN, 0);
    }
    assert_eq!(plain(&world, XEN_DOMCTL_DESTROYDOMAIN, id), 0);
    assert_eq!(plain(&world, XEN_DOMCTL_DESTROYDOMAIN, id), error(Errno::ESRCH));
    assert_eq!(world.hv.frames.lock().free_frames(), before);
    // Who calls would wait for himself, and dom0 is not to be destroyed.
    for command in [
        XEN_DOMCTL_PAUSEDOMAIN,
        XEN_DOMCTL_RESUMEDOMAIN,
        XEN_DOMCTL_SOFT_RESET,
        XEN_DOMCTL_MAX_VCPUS,
        XEN_DOMCTL_SETVCPUCONTEXT,
        XEN_DOMCTL_GETVCPUCONTEXT,
        XEN_DOMCTL_SETDEBUGGING,
        XEN_DOMCTL_DESTROYDOMAIN,
    ] {
        assert_eq!(plain(&world, command, 0), EINVAL, "{command}");
    }
}

#[test]
fn versions_privileges_and_domains_are_checked() {
    let world = World::small();
    let id = create(&world);
    for version in [0, 0x14, 0x16, 0x18, u32::MAX] {
        let (result, ..) = call(&world, version, XEN_DOMCTL_UNPAUSEDOMAIN, id, 0_u64);
        assert_eq!(result, error(Errno::EACCES));
        assert!(world.console().contains("Xen 4.17 and 4.20"));
    }
    let other = world.add_other();
    let head = XenDomctl {
        cmd: XEN_DOMCTL_GETDOMAININFO,
        interface_version: V420,
        domain: id,
        ..Default::default()
    };
    let at = world.put(0, head);
    assert_eq!(world.call_by(other.id, HYPERVISOR_DOMCTL, [at, 0, 0, 0, 0]).0, error(Errno::EPERM));
    assert_eq!(world.call(HYPERVISOR_DOMCTL, &[NOWHERE_VA]), error(Errno::EFAULT));
    assert_eq!(world.call(HYPERVISOR_DOMCTL, &[u64::MAX]), error(Errno::EFAULT));
    for nobody in [99, 0x7ff0, 0x7ff1, u16::MAX] {
        assert_eq!(plain(&world, XEN_DOMCTL_GETDOMAININFO, nobody), error(Errno::ESRCH));
    }
    let absent = [
        (XEN_DOMCTL_ASSIGN_DEVICE, Errno::EOPNOTSUPP),
        (XEN_DOMCTL_TEST_ASSIGN_DEVICE, Errno::EOPNOTSUPP),
        (XEN_DOMCTL_VM_EVENT_OP, Errno::EOPNOTSUPP),
        (XEN_DOMCTL_SHADOW_OP, Errno::ENOSYS),
        (XEN_DOMCTL_SENDTRIGGER, Errno::ENOSYS),
        (XEN_DOMCTL_GETHVMCONTEXT, Errno::ENOSYS),
        (999, Errno::ENOSYS),
    ];
    for (command, errno) in absent {
        assert_eq!(plain(&world, command, id), error(errno), "{command}");
    }
    assert_eq!(plain(&world, XEN_DOMCTL_TEST_ASSIGN_DEVICE, DOMID_INVALID), error(Errno::EOPNOTSUPP));
    assert_eq!(plain(&world, XEN_DOMCTL_ASSIGN_DEVICE, DOMID_INVALID), error(Errno::ESRCH));
    // What 4.20 brought, 4.17 never had.
    let colors = XenDomctlSetLlcColors::default();
    let set = |version| call(&world, version, XEN_DOMCTL_SET_LLC_COLORS, id, colors).0;
    assert_eq!((set(V417), set(V420)), (error(Errno::ENOSYS), error(Errno::EOPNOTSUPP)));
}

#[test]
fn registers_come_back_as_they_were_given() {
    let world = World::small();
    let id = create(&world);
    let seat = world.hv.seat(VcpuKey { domain: id, vcpu: 1 }).unwrap();
    let at = XenHandle::new(BUFFER + POINTEE);
    let request = XenDomctlVcpucontext { vcpu: 1, ctxt: at, ..Default::default() };
    assert_eq!(ask(&world, XEN_DOMCTL_GETVCPUCONTEXT, id, request).0, error(Errno::ENODATA));
    let mut context = VcpuGuestContext {
        flags: VGCF_ONLINE,
        user_regs: VcpuGuestCoreRegs {
            x: core::array::from_fn(|n| 0x100 + n as u64),
            pc64: 0x4020_0000,
            cpsr: PSR_GUEST64_INIT,
            sp_el0: 1,
            sp_el1: 2,
            elr_el1: 3,
            ..Default::default()
        },
        sctlr: SCTLR_GUEST_INIT,
        ttbcr: 4,
        ttbr0: 5,
        ttbr1: 6,
        ..Default::default()
    };
    world.put(POINTEE, context);
    assert_eq!(ask(&world, XEN_DOMCTL_SETVCPUCONTEXT, id, request).0, 0);
    assert!(seat.vcpu.is_online());
    assert_eq!(info(&world, id).nr_online_vcpus, 1);
    {
        let run = seat.vcpu.run.lock();
        assert_eq!((run.regs.pc, run.regs.pstate, run.regs.x[30]), (0x4020_0000, PSR_GUEST64_INIT, 0x11e));
        let expected = SystemState {
            sctlr: SCTLR_GUEST_INIT,
            tcr: 4,
            ttbr0: 5,
            ttbr1: 6,
            sp_el0: 1,
            sp_el1: 2,
            elr: 3,
            ..Default::default()
        };
        assert_eq!(run.context.system, expected);
    }
    world.put(POINTEE, VcpuGuestContext::default());
    assert_eq!(ask(&world, XEN_DOMCTL_GETVCPUCONTEXT, id, request).0, 0);
    assert_eq!(world.get::<VcpuGuestContext>(POINTEE), context);
    // Processor states that a guest of this width cannot be in.
    for pstate in [0x3c9, 0x3cd, 0x1d3, 0x1d0, 0x1da, 0x1d6] {
        context.user_regs.cpsr = pstate;
        world.put(POINTEE, context);
        assert_eq!(ask(&world, XEN_DOMCTL_SETVCPUCONTEXT, id, request).0, EINVAL, "{pstate:#x}");
    }
    context.user_regs.cpsr = PSR_GUEST64_INIT;
    context.user_regs.spsr_el1 = 0x3c9;
    world.put(POINTEE, context);
    assert_eq!(ask(&world, XEN_DOMCTL_SETVCPUCONTEXT, id, request).0, EINVAL);
    for command in [XEN_DOMCTL_SETVCPUCONTEXT, XEN_DOMCTL_GETVCPUCONTEXT, XEN_DOMCTL_GETVCPUINFO] {
        let other = XenDomctlVcpucontext { vcpu: 2, ..request };
        assert_eq!(ask(&world, command, id, other).0, EINVAL);
    }
    let nowhere = XenDomctlVcpucontext { ctxt: XenHandle::new(NOWHERE_VA), ..request };
    assert_eq!(ask(&world, XEN_DOMCTL_SETVCPUCONTEXT, id, nowhere).0, error(Errno::EFAULT));
    assert_eq!(ask(&world, XEN_DOMCTL_GETVCPUCONTEXT, id, nowhere).0, error(Errno::EFAULT));
    let vcpu = XenDomctlGetvcpuinfo { vcpu: 1, ..Default::default() };
    let (result, vcpu) = ask(&world, XEN_DOMCTL_GETVCPUINFO, id, vcpu);
    assert_eq!((result, vcpu.online, vcpu.blocked, vcpu.running, vcpu.cpu), (0, 1, 0, 0, 0));
    // With no structure the vCPU is reset.
    let reset = XenDomctlVcpucontext { ctxt: XenHandle::NULL, ..request };
    assert_eq!(ask(&world, XEN_DOMCTL_SETVCPUCONTEXT, id, reset).0, 0);
    assert!(!seat.vcpu.is_online());
    let status = || world.hv.scheduler.account(seat.vcpu.key).unwrap().status;
    assert_eq!(status(), Status::Offline, "or it would run with no registers");
    world.hv.scheduler.wake(seat.vcpu.key, 0);
    assert_eq!(status(), Status::Offline);
}

#[test]
fn a_32_bit_domain_is_one_from_before_it_has_memory() {
    let world = World::small();
    let id = create(&world);
    let domain = world.hv.domain(id).unwrap();
    let size = |size| ask(&world, XEN_DOMCTL_SET_ADDRESS_SIZE, id, XenDomctlAddressSize { size }).0;
    let get = || {
        let (result, answer) = ask(&world, XEN_DOMCTL_GET_ADDRESS_SIZE, id, XenDomctlAddressSize::default());
        assert_eq!(result, 0);
        answer.size
    };
    assert_eq!((size(16), get()), (EINVAL, 64));
    assert_eq!((size(32), get()), (0, 32));
    assert!(domain.vcpus.iter().all(|vcpu| vcpu.run.lock().context.spec.aarch32));
    assert_eq!((size(64), size(32)), (0, 0));
    // Registers of the one width are none of the other.
    let request = XenDomctlVcpucontext { ctxt: XenHandle::new(BUFFER + POINTEE), ..Default::default() };
    let user_regs = VcpuGuestCoreRegs { cpsr: PSR_GUEST32_INIT, ..Default::default() };
    world.put(POINTEE, VcpuGuestContext { user_regs, flags: VGCF_ONLINE, ..Default::default() });
    assert_eq!(ask(&world, XEN_DOMCTL_SETVCPUCONTEXT, id, request).0, 0);
    assert_eq!((size(64), size(32)), (0, 0));
    assert_eq!(ask(&world, XEN_DOMCTL_GETVCPUCONTEXT, id, request).0, error(Errno::ENODATA));
    assert_eq!(world.hv.scheduler.account(domain.vcpus[0].key).unwrap().status, Status::Offline);
    assert!(!domain.vcpus[0].is_online());
    let (hv, m) = (&world.hv, world.machine());
    let page = hv.zeroed_frame(id).unwrap();
    let mapped =
        domain.p2m.lock().map(m, &mut hv.frames.lock(), Ipa(GUEST_RAM_BASE), page, PAGE_SIZE, Kind::Ram);
    mapped.unwrap();
    assert_eq!((size(64), size(32), get()), (error(Errno::EBUSY), error(Errno::EBUSY), 32));
    for (cpsr, expected) in [(PSR_GUEST32_INIT, 0), (PSR_GUEST64_INIT, EINVAL), (0x1da, EINVAL)] {
        let user_regs = VcpuGuestCoreRegs { cpsr, ..Default::default() };
        world.put(POINTEE, VcpuGuestContext { user_regs, ..Default::default() });
        assert_eq!(ask(&world, XEN_DOMCTL_SETVCPUCONTEXT, id, request).0, expected, "{cpsr:#x}");
    }
}

#[test]
fn affinity_and_weight_reach_the_scheduler() {
    let world = World::new(1, 4);
    let id = create(&world);
    let key = VcpuKey { domain: id, vcpu: 0 };
    let map = |offset| XenctlBitmap {
        bitmap: XenHandle::new(BUFFER + POINTEE + offset),
        nr_bits: 16,
        ..Default::default()
    };
    let both = XenDomctlVcpuaffinity {
        flags: XEN_VCPUAFFINITY_HARD | XEN_VCPUAFFINITY_SOFT,
        cpumap_hard: map(0),
        cpumap_soft: map(16),
        ..Default::default()
    };
    world.put(POINTEE, [0xff_u8; 32]);
    assert_eq!(ask(&world, XEN_DOMCTL_GETVCPUAFFINITY, id, both).0, 0);
    let shown = || (world.get::<u16>(POINTEE), world.get::<u16>(POINTEE + 16));
    assert_eq!(shown(), (0xf, 0xf), "all CPUs that there are");
    assert_eq!(world.get::<u8>(POINTEE + 2), 0xff, "and no byte more");
    world.put(POINTEE, 0b0110_u16);
    world.put(POINTEE + 16, 0b1111_1100_u16);
    assert_eq!(ask(&world, XEN_DOMCTL_SETVCPUAFFINITY, id, both).0, 0);
    assert_eq!(shown(), (0b0110, 0b0100), "what is effective");
    let account = world.hv.scheduler.account(key).unwrap();
    assert_eq!((account.affinity & 0xff, account.soft_affinity), (0b0110, 0b1111_1100));
    world.put(POINTEE, 0xf0_u16);
    assert_eq!(ask(&world, XEN_DOMCTL_SETVCPUAFFINITY, id, both).0, EINVAL, "no such CPU");
    for wrong in [
        XenDomctlVcpuaffinity { flags: 0, ..both },
        XenDomctlVcpuaffinity { vcpu: 2, ..both },
        XenDomctlVcpuaffinity { cpumap_soft: XenctlBitmap::default(), ..both },
    ] {
        assert_eq!(ask(&world, XEN_DOMCTL_SETVCPUAFFINITY, id, wrong).0, EINVAL);
        assert_eq!(ask(&world, XEN_DOMCTL_GETVCPUAFFINITY, id, wrong).0, EINVAL);
    }
    let huge = XenctlBitmap { nr_bits: u32::MAX, ..map(0) };
    let huge = XenDomctlVcpuaffinity { cpumap_hard: huge, ..both };
    assert_eq!(ask(&world, XEN_DOMCTL_GETVCPUAFFINITY, id, huge).0, EINVAL);
    // Credit2's parameters.
    let op = |cmd, weight, cap| {
        let mut op = XenDomctlSchedulerOp { sched_id: XEN_SCHEDULER_CREDIT2, cmd, ..Default::default() };
        op.u[0] = u64::from(weight) | u64::from(cap) << 16;
        let (result, answer) = ask(&world, XEN_DOMCTL_SCHEDULER_OP, id, op);
        (result, answer.u[0] as u16, (answer.u[0] >> 16) as u16)
    };
    assert_eq!(op(XEN_DOMCTL_SCHEDOP_GETINFO, 0_u16, 0_u16), (0, 256, 0));
    assert_eq!(op(XEN_DOMCTL_SCHEDOP_PUTINFO, 512, 50).0, 0);
    assert_eq!(op(XEN_DOMCTL_SCHEDOP_PUTINFO, 0, 25).0, 0);
    assert_eq!(op(XEN_DOMCTL_SCHEDOP_GETINFO, 0, 0), (0, 512, 25));
    for command in [XEN_DOMCTL_SCHEDOP_GETVCPUINFO, XEN_DOMCTL_SCHEDOP_PUTVCPUINFO, 4] {
        assert_eq!(op(command, 1, 0).0, EINVAL);
    }
    let credit = XenDomctlSchedulerOp { sched_id: XEN_SCHEDULER_CREDIT, cmd: 1, ..Default::default() };
    assert_eq!(ask(&world, XEN_DOMCTL_SCHEDULER_OP, id, credit).0, EINVAL);
    // One node, which a domain cannot do without.
    let node = XenDomctlNodeaffinity { nodemap: map(0) };
    assert_eq!(ask(&world, XEN_DOMCTL_GETNODEAFFINITY, id, node).0, 0);
    assert_eq!(world.get::<u16>(POINTEE), 1);
    assert_eq!(ask(&world, XEN_DOMCTL_SETNODEAFFINITY, id, node).0, 0);
    world.put(POINTEE, 2_u16);
    assert_eq!(ask(&world, XEN_DOMCTL_SETNODEAFFINITY, id, node).0, EINVAL);
    assert_ne!(account.status, Status::Blocked);
}

#[test]
fn settings_are_kept() {
    let world = World::small();
    let id = create(&world);
    let domain = world.hv.domain(id).unwrap();
    let max = |max_memkb| ask(&world, XEN_DOMCTL_MAX_MEM, id, XenDomctlMaxMem { max_memkb }).0;
    assert_eq!((max(4099), info(&world, id).max_pages), (0, 1024));
    assert_eq!((max(u64::MAX), info(&world, id).max_pages), (0, u64::from(u32::MAX) - 1));
    let handle = XenDomctlSetdomainhandle { handle: *b"another name now" };
    assert_eq!(ask(&world, XEN_DOMCTL_SETDOMAINHANDLE, id, handle).0, 0);
    assert_eq!(info(&world, id).handle, handle.handle);
    let debugging = XenDomctlSetdebugging { enable: 2 };
    assert_eq!(ask(&world, XEN_DOMCTL_SETDEBUGGING, id, debugging).0, 0);
    assert_ne!(info(&world, id).flags & XEN_DOMINF_DEBUGGED, 0);
    let offset = XenDomctlSettimeoffset { time_offset_seconds: -3600 };
    assert_eq!(ask(&world, XEN_DOMCTL_SETTIMEOFFSET, id, offset).0, 0);
    assert_eq!(domain.time_offset.load(Ordering::Relaxed), -3600);
    let handler = |virq| ask(&world, XEN_DOMCTL_SET_VIRQ_HANDLER, id, XenDomctlSetVirqHandler { virq }).0;
    assert_eq!((handler(3), handler(0), handler(99)), (0, EINVAL, EINVAL));
    let target = |target| ask(&world, XEN_DOMCTL_SET_TARGET, id, XenDomctlSetTarget { target }).0;
    assert_eq!((target(99), target(id), target(0)), (error(Errno::ESRCH), EINVAL, error(Errno::EOPNOTSUPP)));
}

#[test]
fn the_pool_of_tables_holds_what_it_says() {
    let world = World::small();
    let id = create(&world);
    let get = || {
        let pool = XenDomctlPagingMempool::default();
        let (result, pool) = ask(&world, XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE, id, pool);
        assert_eq!(result, 0);
        pool.size
    };
    let set = |size| ask(&world, XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, id, XenDomctlPagingMempool { size }).0;
    assert_eq!(get(), 16 * PAGE_SIZE, "as Xen's, and its own test's");
    assert_eq!((set(MIB), get()), (0, MIB));
    assert_eq!((set(MIB + 1), get()), (EINVAL, MIB));
    for too_much in [64 * MIB, u64::MAX - 4095, 0] {
        assert_eq!((set(too_much), get()), (error(Errno::ENOMEM), MIB));
    }
}

#[test]
fn caches_are_cleaned_of_ram_alone() {
    let world = World::small();
    let other = world.add_other();
    let m = world.machine();
    let flush = |start_pfn, nr_pfns| {
        let before = m.cache_cleans();
        let request = XenDomctlCacheflush { start_pfn, nr_pfns };
        let (result, _) = ask(&world, XEN_DOMCTL_CACHEFLUSH, other.id, request);
        (result, m.cache_cleans() - before)
    };
    let first = OTHER_RAM / PAGE_SIZE;
    assert_eq!(flush(first, 3), (0, 3));
    assert_eq!(flush(first - 10, 1 << 18), (0, 256), "all its RAM, in two steps");
    assert_eq!(flush(0, 10), (0, 0));
    assert_eq!(flush(first, 0), (0, 0));
    assert_eq!(flush(first, (1 << 18) + 1).0, EINVAL);
    assert_eq!(flush(u64::MAX, 2).0, EINVAL);
}

#[test]
fn hardware_goes_where_it_may() {
    let world = World::small();
    let id = create(&world);
    let domain = world.hv.domain(id).unwrap();
    let device = PaRange::new(Pa(DEVICE), 4 * PAGE_SIZE).unwrap();
    *world.domain.permissions.lock() = Permissions::new([device], [41, 60]);
    let first = DEVICE / PAGE_SIZE;
    let permit = |first_mfn, nr_mfns, allow_access| {
        let request = XenDomctlIomemPermission { first_mfn, nr_mfns, allow_access, ..Default::default() };
        ask(&world, XEN_DOMCTL_IOMEM_PERMISSION, id, request).0
    };
    let map = |first_mfn, nr_mfns, add_mapping| {
        let request =
            XenDomctlMemoryMapping { first_gfn: 0x2000, first_mfn, nr_mfns, add_mapping, padding: 0 };
        ask(&world, XEN_DOMCTL_MEMORY_MAPPING, id, request).0
    };
    let there = || {
        let found = domain.p2m.lock().lookup(world.machine(), Ipa::from_frame(0x2001));
        found.map(|mapping| (mapping.kind, mapping.pa))
    };
    let eperm = error(Errno::EPERM);
    assert_eq!(map(first, 2, 1), eperm, "not permitted yet");
    assert_eq!(permit(first, 2, 1), 0);
    assert_eq!(
        (permit(first + 3, 2, 1), permit(u64::MAX, 1, 1), permit(first, 0, 1)),
        (eperm, EINVAL, EINVAL)
    );
    assert_eq!((map(first, 3, 1), map(first, 65, 1)), (eperm, error(Errno::E2BIG)));
    assert_eq!(map(first, 2, 1), 0);
    assert_eq!(there(), Some((Kind::Device, Pa(DEVICE + PAGE_SIZE))));
    assert_eq!(map(first, 2, 0), 0);
    assert_eq!(there(), None);
    assert_eq!((permit(first, 1, 0), map(first, 2, 1), map(first + 1, 1, 1)), (0, eperm, 0));
    // Interrupts: this domain's controller has 32.
    let allow = |pirq| {
        let request = XenDomctlIrqPermission { pirq, allow_access: 1, ..Default::default() };
        ask(&world, XEN_DOMCTL_IRQ_PERMISSION, id, request).0
    };
    assert_eq!((allow(41), allow(DEVICE_SPI), allow(5000)), (0, eperm, EINVAL));
    let bind = |command, machine_irq, spi: u64| {
        let request = XenDomctlBindPtIrq { machine_irq, irq_type: PT_IRQ_TYPE_SPI, u: [spi, 0] };
        ask(&world, command, id, request).0
    };
    let ebusy = error(Errno::EBUSY);
    assert_eq!(bind(XEN_DOMCTL_BIND_PT_IRQ, 41, 42), EINVAL);
    assert_eq!(bind(XEN_DOMCTL_BIND_PT_IRQ, DEVICE_SPI, DEVICE_SPI.into()), eperm);
    assert_eq!(bind(XEN_DOMCTL_UNBIND_PT_IRQ, 41, 41), EINVAL);
    assert_eq!(bind(XEN_DOMCTL_BIND_PT_IRQ, 41, 41), 0);
    assert_eq!(world.hv.spi_owner(41).unwrap().id, id);
    assert_eq!(bind(XEN_DOMCTL_BIND_PT_IRQ, 41, 41), ebusy);
    assert_eq!(bind(XEN_DOMCTL_UNBIND_PT_IRQ, 41, 41), 0);
    assert!(world.hv.spi_owner(41).is_none());
    let isa = XenDomctlBindPtIrq { machine_irq: 41, irq_type: PT_IRQ_TYPE_ISA, u: [41, 0] };
    assert_eq!(ask(&world, XEN_DOMCTL_BIND_PT_IRQ, id, isa).0, error(Errno::EOPNOTSUPP));
}

#[test]
fn a_virtual_uart_is_given_before_the_first_run() {
    let world = World::small();
    let id = create(&world);
    let (hv, domain) = (&world.hv, world.hv.domain(id).unwrap());
    let page = hv.zeroed_frame(id).unwrap();
    let gfn = GUEST_MAGIC_BASE / PAGE_SIZE;
    let mapped = domain.p2m.lock().map(
        world.machine(),
        &mut hv.frames.lock(),
        Ipa(GUEST_MAGIC_BASE),
        page,
        PAGE_SIZE,
        Kind::Ram,
    );
    mapped.unwrap();
    let uart = XenDomctlVuartOp { gfn, ..Default::default() };
    let init = |uart| ask(&world, XEN_DOMCTL_VUART_OP, id, uart);
    let wrong = [
        (XenDomctlVuartOp { pad: [0, 1], ..uart }, Errno::EINVAL),
        (XenDomctlVuartOp { cmd: 1, ..uart }, Errno::EINVAL),
        (XenDomctlVuartOp { kind: 1, ..uart }, Errno::EOPNOTSUPP),
        (XenDomctlVuartOp { gfn: gfn + 1, ..uart }, Errno::EINVAL),
    ];
    for (request, errno) in wrong {
        assert_eq!(init(request).0, error(errno));
    }
    let (result, answer) = init(uart);
    assert_eq!((result, answer.evtchn > 0), (0, true));
    assert_eq!(init(uart).0, EINVAL, "it has one");
    assert_eq!(plain(&world, XEN_DOMCTL_UNPAUSEDOMAIN, id), 0);
    assert_eq!(init(uart).0, error(Errno::EPERM), "it runs");
    assert_eq!(plain(&world, XEN_DOMCTL_DESTROYDOMAIN, id), 0);
}

#[test]
fn numbers_are_used_in_turn() {
    let world = World::small();
    let ids: Vec<u16> = (0..3).map(|_| create(&world)).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(plain(&world, XEN_DOMCTL_DESTROYDOMAIN, 2), 0);
    assert_eq!(create(&world), 4, "not at once again");
}
