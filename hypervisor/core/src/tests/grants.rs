//! `grant_table_op`, with one domain and with several.

use alloc::sync::Arc;
use alloc::vec::Vec;

use vambrace_abi::domid::DOMID_SELF;
use vambrace_abi::errno::Errno;
use vambrace_abi::grant_table::*;
use vambrace_abi::handle::XenHandle;
use vambrace_abi::hypercall::*;
use vambrace_abi::memory::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::domain::Domain;
use crate::domu::DomuConfig;
use crate::fake::FakeMachine;
use crate::grant::Version;
use crate::life::Progress;
use crate::machine::Memory;
use crate::p2m::Kind;
use crate::run::Next;
use crate::testing::*;

mod random;

const OP: u32 = HYPERVISOR_GRANT_TABLE_OP;
const RAM_GFN: u64 = RAM / PAGE_SIZE;
/// A frame of no RAM.
const FREE_GFN: u64 = 0x3000_0000 / PAGE_SIZE;
/// Where the guests' pages are for them.
const GUEST_RAM: u64 = 0x4000_0000;
const GUEST_GFN: u64 = GUEST_RAM / PAGE_SIZE;

/// Makes a domain with `pages` pages.
fn guest(world: &World, pages: u64) -> Arc<Domain<FakeMachine>> {
    let config = DomuConfig {
        id: None,
        handle: [0; 16],
        vcpus: 1,
        spis: 32,
        max_port: 1023,
        max_grant_frames: 4,
        max_maptrack_frames: 4,
        grant_version: Version::V2,
        pool: 0,
        direct: false,
    };
    let domain = world.hv.create_domain(&config).unwrap();
    domain.p2m.lock().limit_tables(64);
    for page in 0..pages {
        let frame = world.hv.zeroed_frame(domain.id).unwrap();
        let (mut p2m, mut frames) = (domain.p2m.lock(), world.hv.frames.lock());
        let at = Ipa(GUEST_RAM + page * PAGE_SIZE);
        p2m.map(world.machine(), &mut frames, at, frame, PAGE_SIZE, Kind::Ram).unwrap();
    }
    domain
}

fn destroy(world: &World, domain: &Arc<Domain<FakeMachine>>) {
    while world.hv.destroy(domain) == Ok(Progress::Again) {}
}

/// Makes a domain call with one request; answers result and request.
fn by<T: FromBytes + IntoBytes + Immutable>(
    world: &World,
    domain: u16,
    command: u32,
    request: T,
) -> (i64, T) {
    let at = world.put(0, request);
    let (result, next) = world.call_by(domain, OP, [command.into(), at, 1, 0, 0]);
    assert_eq!(next, Next::Resume);
    (result, world.get(0))
}

/// The guest writes entry `index` of its table, of version 1.
fn grant(world: &World, domain: &Domain<FakeMachine>, index: u32, flags: u16, domid: u16, frame: u64) {
    let at = domain.grants.lock().frames().next().unwrap().offset(u64::from(index) * 8);
    let entry = GrantEntryV1 { flags, domid, frame: frame as u32 };
    world.machine().write(at, entry.as_bytes()).unwrap();
}

/// The bits by which entry `index` is in use.
fn in_use(world: &World, domain: &Domain<FakeMachine>, index: u32) -> u16 {
    let at = domain.grants.lock().frames().next().unwrap().offset(u64::from(index) * 8);
    world.machine().word(at) as u16 & (GTF_READING | GTF_WRITING)
}

fn map_at(world: &World, user: u16, dom: u16, gref: u32, flags: u32, gfn: u64) -> GnttabMapGrantRef {
    let request = GnttabMapGrantRef { host_addr: gfn * PAGE_SIZE, flags, gref, dom, ..Default::default() };
    let (result, request) = by(world, user, GNTTABOP_MAP_GRANT_REF, request);
    assert_eq!(result, 0);
    request
}

fn map(world: &World, dom: u16, gref: u32, flags: u32) -> (i16, u32) {
    let request = map_at(world, 0, dom, gref, flags, FREE_GFN);
    (request.status, request.handle)
}

fn unmap_by(world: &World, user: u16, handle: u32, gfn: u64) -> i16 {
    let request = GnttabUnmapGrantRef { host_addr: gfn * PAGE_SIZE, handle, ..Default::default() };
    let (result, request) = by(world, user, GNTTABOP_UNMAP_GRANT_REF, request);
    assert_eq!(result, 0);
    request.status
}

fn unmap(world: &World, handle: u32) -> i16 {
    unmap_by(world, 0, handle, FREE_GFN)
}

fn at(world: &World, domain: &Domain<FakeMachine>, gfn: u64) -> Option<(Pa, Kind)> {
    let mapping = domain.p2m.lock().lookup(world.machine(), Ipa::from_frame(gfn));
    mapping.map(|mapping| (mapping.pa, mapping.kind))
}

fn end(addr: u64, domid: u16, offset: u16) -> GnttabCopyPtr {
    GnttabCopyPtr { addr, domid, offset, ..Default::default() }
}

fn copy_by(
    world: &World,
    user: u16,
    source: GnttabCopyPtr,
    dest: GnttabCopyPtr,
    len: u16,
    flags: u16,
) -> i16 {
    let request = GnttabCopy { source, dest, len, flags, ..Default::default() };
    let (result, request) = by(world, user, GNTTABOP_COPY, request);
    assert_eq!(result, 0);
    request.status
}

fn add(world: &World, space: u32, idx: u64, gpfn: u64) -> i64 {
    let request = XenAddToPhysmap { domid: DOMID_SELF, size: 0, space, idx, gpfn };
    world.with(HYPERVISOR_MEMORY_OP, XENMEM_ADD_TO_PHYSMAP, request).0
}

const HOST: u32 = GNTMAP_HOST_MAP;
const READ_ONLY_MAP: u32 = GNTMAP_HOST_MAP | GNTMAP_READONLY;

#[test]
fn frames_are_mapped_and_listed() {
    let world = World::small();
    assert_eq!(add(&world, XENMAPSPACE_GRANT_TABLE, 1, FREE_GFN + 1), 0);
    let second = world.domain.grants.lock().frames().nth(1).unwrap();
    assert_eq!(at(&world, &world.domain, FREE_GFN + 1), Some((second, Kind::Data)));
    assert_eq!(add(&world, XENMAPSPACE_GRANT_TABLE, 64, FREE_GFN), error(Errno::EINVAL));
    assert_eq!(add(&world, XENMAPSPACE_GRANT_TABLE, XENMAPIDX_GRANT_TABLE_STATUS, 1), error(Errno::EINVAL));
    let size = |user, dom| {
        let (result, answer) =
            by(&world, user, GNTTABOP_QUERY_SIZE, GnttabQuerySize { dom, ..Default::default() });
        assert_eq!(result, 0);
        (answer.status, answer.nr_frames, answer.max_nr_frames)
    };
    assert_eq!(size(0, DOMID_SELF), (GNTST_OKAY, 2, 64));
    let setup = |user, dom, nr_frames, list| {
        let frame_list = XenHandle::new(list);
        let request = GnttabSetupTable { dom, nr_frames, frame_list, ..Default::default() };
        let (result, request) = by(&world, user, GNTTABOP_SETUP_TABLE, request);
        assert_eq!(result, 0);
        request.status
    };
    assert_eq!(setup(0, DOMID_SELF, 2, BUFFER + 0x100), GNTST_OKAY);
    assert_eq!(world.get::<[u64; 2]>(0x100), [u64::MAX, FREE_GFN + 1]);
    assert_eq!(setup(0, 0, 65, BUFFER + 0x100), GNTST_GENERAL_ERROR);
    assert_eq!(setup(0, 0, 1, NOWHERE_VA), GNTST_BAD_VIRT_ADDR);
    assert_eq!(setup(0, 0, 1, READ_ONLY), GNTST_BAD_VIRT_ADDR);
    assert_eq!(setup(0, 0, 2, u64::MAX - 7), GNTST_BAD_VIRT_ADDR);
    assert_eq!(size(0, 1).0, GNTST_BAD_DOMAIN);
    // The privileged see to others' tables too.
    let other = guest(&world, 0);
    assert_eq!(size(0, other.id), (GNTST_OKAY, 1, 4));
    assert_eq!(size(other.id, 0).0, GNTST_PERMISSION_DENIED);
    assert_eq!(setup(0, other.id, 3, BUFFER + 0x100), GNTST_OKAY);
    assert_eq!(setup(other.id, 0, 3, BUFFER + 0x100), GNTST_PERMISSION_DENIED);
    assert_eq!(size(other.id, DOMID_SELF), (GNTST_OKAY, 3, 4));
}

#[test]
fn versions_change() {
    let world = World::small();
    let set = |version| {
        let (result, request) = world.with(OP, GNTTABOP_SET_VERSION, GnttabSetVersion { version });
        (result, request.version)
    };
    assert_eq!(set(3), (error(Errno::EINVAL), 1), "the version in use comes back");
    assert_eq!(set(2), (0, 2));
    let get = |user, dom| {
        let (result, answer) =
            by(&world, user, GNTTABOP_GET_VERSION, GnttabGetVersion { dom, ..Default::default() });
        (result, answer.version)
    };
    assert_eq!(get(0, DOMID_SELF), (0, 2));
    assert_eq!(get(0, 1).0, error(Errno::ESRCH));
    let other = guest(&world, 0);
    assert_eq!(get(0, other.id), (0, 1));
    assert_eq!(get(other.id, 0).0, error(Errno::EPERM));
    assert_eq!(add(&world, XENMAPSPACE_GRANT_TABLE, XENMAPIDX_GRANT_TABLE_STATUS, FREE_GFN), 0);
    let list = |nr_frames, list| {
        let frame_list = XenHandle::new(list);
        let request = GnttabGetStatusFrames { nr_frames, dom: DOMID_SELF, frame_list, ..Default::default() };
        world.with(OP, GNTTABOP_GET_STATUS_FRAMES, request).1.status
    };
    assert_eq!((list(1, BUFFER + 0x100), world.get::<u64>(0x100)), (GNTST_OKAY, FREE_GFN));
    assert_eq!(list(2, BUFFER + 0x100), GNTST_GENERAL_ERROR);
    assert_eq!(list(1, NOWHERE_VA), GNTST_BAD_VIRT_ADDR);
}

#[test]
fn malformed_calls_are_refused() {
    let world = World::small();
    let call = |command: u32, list, count| world.call(OP, &[command.into(), list, count]);
    for command in [GNTTABOP_QUERY_SIZE, GNTTABOP_SETUP_TABLE, GNTTABOP_GET_STATUS_FRAMES] {
        assert_eq!(call(command, BUFFER, 0), error(Errno::EINVAL));
        assert_eq!(call(command, BUFFER, 2), error(Errno::EINVAL));
    }
    let all = [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    for command in all {
        assert_eq!(call(command, NOWHERE_VA, 1), error(Errno::EFAULT), "{command}");
        assert_eq!(call(command, BUFFER, 0x8000_0000), error(Errno::EINVAL), "{command}");
        if command != GNTTABOP_CACHE_FLUSH {
            assert_eq!(call(command, READ_ONLY, 1), error(Errno::EFAULT), "the answer cannot be written");
            assert_eq!(call(command | 0x1000, BUFFER, 1), error(Errno::EINVAL), "{command}");
        }
    }
    for command in [0, 1, 4, 5, 7, 11, 12] {
        assert_eq!(call(command, NOWHERE_VA, 0), 0, "nothing asked");
        assert_eq!(call(command, u64::MAX, 2), error(Errno::EFAULT));
        if command != GNTTABOP_CACHE_FLUSH {
            assert_eq!(call(command, BUFFER + 15 * PAGE_SIZE, 100_000), error(Errno::EFAULT), "{command}");
        }
    }
    for unknown in [GNTTABOP_DUMP_TABLE, 13, 99, 0xfff] {
        assert_eq!(call(unknown, BUFFER, 1), error(Errno::ENOSYS));
    }
}

#[test]
fn a_page_is_mapped_for_as_long_as_it_takes() {
    let world = World::small();
    let other = guest(&world, 4);
    let page = at(&world, &other, GUEST_GFN + 2).unwrap().0;
    let references = || world.hv.frames.lock().references(page);
    grant(&world, &other, 8, GTF_PERMIT_ACCESS, 0, GUEST_GFN + 2);
    let first = map_at(&world, 0, other.id, 8, HOST, FREE_GFN);
    assert_eq!((first.status, first.dev_bus_addr), (GNTST_OKAY, page.0));
    assert_eq!(at(&world, &world.domain, FREE_GFN), Some((page, Kind::Grant)));
    assert_eq!((in_use(&world, &other, 8), references()), (GTF_READING | GTF_WRITING, 2));
    let second = map_at(&world, 0, other.id, 8, READ_ONLY_MAP, FREE_GFN + 1);
    assert_eq!((second.status, second.handle), (GNTST_OKAY, first.handle + 1));
    assert_eq!(at(&world, &world.domain, FREE_GFN + 1), Some((page, Kind::GrantReadOnly)));
    let set_version = || by(&world, other.id, GNTTABOP_SET_VERSION, GnttabSetVersion { version: 2 });
    assert_eq!(set_version().0, error(Errno::EBUSY));
    // The guest takes its page back, and it does not come free.
    let free = world.hv.frames.lock().free_frames();
    {
        let (mut p2m, mut frames) = (other.p2m.lock(), world.hv.frames.lock());
        p2m.unmap(world.machine(), &mut frames, Ipa::from_frame(GUEST_GFN + 2), PAGE_SIZE).unwrap();
    }
    assert_eq!((references(), world.hv.frames.lock().free_frames()), (1, free));
    assert_eq!(unmap(&world, first.handle + 2), GNTST_BAD_HANDLE);
    assert_eq!(unmap_by(&world, 0, first.handle, FREE_GFN + 1), GNTST_GENERAL_ERROR, "it is elsewhere");
    assert_eq!(unmap_by(&world, 0, first.handle, 0), GNTST_OKAY, "nothing asked");
    assert_eq!(unmap(&world, first.handle), GNTST_OKAY);
    assert_eq!(unmap(&world, first.handle), GNTST_BAD_HANDLE);
    assert_eq!((in_use(&world, &other, 8), references()), (GTF_READING, 1));
    assert_eq!(at(&world, &world.domain, FREE_GFN), None);
    assert_eq!(unmap_by(&world, 0, second.handle, FREE_GFN + 1), GNTST_OKAY);
    assert_eq!((in_use(&world, &other, 8), references()), (0, 0));
    assert_eq!(world.hv.frames.lock().free_frames(), free + 1);
    assert_eq!(set_version().0, 0);
}

#[test]
fn bad_mappings_are_refused_as_xen_does() {
    let world = World::small();
    let other = guest(&world, 4);
    let dom = other.id;
    grant(&world, &other, 8, GTF_PERMIT_ACCESS, 0, GUEST_GFN);
    grant(&world, &other, 9, GTF_PERMIT_ACCESS | GTF_READONLY, 0, GUEST_GFN);
    grant(&world, &other, 10, GTF_PERMIT_ACCESS, 77, GUEST_GFN);
    grant(&world, &other, 11, GTF_PERMIT_ACCESS, 0, GUEST_GFN + 4);
    grant(&world, &other, 12, GTF_ACCEPT_TRANSFER, 0, GUEST_GFN);
    let status = |dom, gref, flags| map(&world, dom, gref, flags).0;
    assert_eq!(status(dom, 8, 0), GNTST_BAD_GNTREF);
    assert_eq!(status(dom, 8, GNTMAP_READONLY), GNTST_BAD_GNTREF);
    assert_eq!(status(dom, 8, GNTMAP_DEVICE_MAP), GNTST_GENERAL_ERROR);
    assert_eq!(status(dom, 8, HOST | GNTMAP_DEVICE_MAP), GNTST_GENERAL_ERROR);
    assert_eq!(status(dom, 8, HOST | GNTMAP_CONTAINS_PTE), GNTST_GENERAL_ERROR);
    assert_eq!(status(dom, 8, HOST | 1 << 16), GNTST_GENERAL_ERROR);
    assert_eq!(status(9, 8, HOST), GNTST_BAD_DOMAIN);
    assert_eq!(status(DOMID_SELF, 8, HOST), GNTST_BAD_DOMAIN);
    assert_eq!(status(dom, 512, HOST), GNTST_BAD_GNTREF);
    assert_eq!(status(dom, u32::MAX, HOST), GNTST_BAD_GNTREF);
    assert_eq!(status(dom, 9, HOST), GNTST_GENERAL_ERROR);
    assert_eq!(status(dom, 10, HOST), GNTST_GENERAL_ERROR);
    assert_eq!(status(dom, 11, HOST), GNTST_BAD_PAGE);
    assert_eq!(status(dom, 12, HOST), GNTST_GENERAL_ERROR);
    let beyond = map_at(&world, 0, dom, 8, HOST, 1 << 36);
    assert_eq!(beyond.status, GNTST_GENERAL_ERROR);
    assert_eq!(in_use(&world, &other, 8), 0);
    assert_eq!((world.domain.grants.lock().maptrack.busy(), other.grants.lock().pinned()), (0, 0));
    // What one was granted one cannot grant on.
    assert_eq!(status(dom, 9, READ_ONLY_MAP), GNTST_OKAY);
    grant(&world, &world.domain, 8, GTF_PERMIT_ACCESS, dom, FREE_GFN);
    let onwards = map_at(&world, dom, 0, 8, READ_ONLY_MAP, GUEST_GFN + 8);
    assert_eq!(onwards.status, GNTST_BAD_PAGE);
    // One's own grants are no different from others'.
    grant(&world, &world.domain, 9, GTF_PERMIT_ACCESS, 0, RAM_GFN);
    let own = map_at(&world, 0, 0, 9, HOST, FREE_GFN + 1);
    assert_eq!((own.status, own.dev_bus_addr), (GNTST_OKAY, RAM));
    assert_eq!(unmap_by(&world, 0, own.handle, FREE_GFN + 1), GNTST_OKAY);
}

#[test]
fn handles_are_limited_by_the_creator() {
    let world = World::small();
    let other = guest(&world, 1);
    grant(&world, &world.domain, 8, GTF_PERMIT_ACCESS, other.id, RAM_GFN);
    let mut handles = Vec::new();
    loop {
        let request = map_at(&world, other.id, 0, 8, HOST, GUEST_GFN + 8 + handles.len() as u64);
        if request.status == GNTST_NO_SPACE {
            break;
        }
        assert_eq!(request.status, GNTST_OKAY);
        handles.push(request.handle);
    }
    assert_eq!(handles.len(), 4 * 256);
    assert_eq!(unmap_by(&world, other.id, 500, GUEST_GFN + 508), GNTST_OKAY);
    assert_eq!(map_at(&world, other.id, 0, 8, HOST, GUEST_GFN + 508).handle, 500);
}

#[test]
fn a_replacement_is_refused() {
    let world = World::small();
    let other = guest(&world, 1);
    grant(&world, &other, 8, GTF_PERMIT_ACCESS, 0, GUEST_GFN);
    let (_, handle) = map(&world, other.id, 8, HOST);
    let replace = |new_addr| {
        let request =
            GnttabUnmapAndReplace { host_addr: FREE_GFN * PAGE_SIZE, new_addr, handle, ..Default::default() };
        world.with(OP, GNTTABOP_UNMAP_AND_REPLACE, request).1.status
    };
    assert_eq!(replace((FREE_GFN + 1) * PAGE_SIZE), GNTST_GENERAL_ERROR);
    assert_eq!(at(&world, &world.domain, FREE_GFN).unwrap().1, Kind::Grant);
    assert_eq!(replace(0), GNTST_OKAY);
    assert_eq!(replace(0), GNTST_BAD_HANDLE);
}

#[test]
fn what_is_mapped_in_the_place_of_a_grant_leaves_the_grant_in_use() {
    let world = World::small();
    let other = guest(&world, 2);
    for page in 0..2 {
        grant(&world, &other, 8 + page, GTF_PERMIT_ACCESS, 0, GUEST_GFN + u64::from(page));
    }
    let (_, first) = map(&world, other.id, 8, HOST);
    let (_, second) = map(&world, other.id, 9, HOST);
    assert_eq!(unmap(&world, first), GNTST_GENERAL_ERROR, "another page is there");
    assert_eq!(unmap(&world, second), GNTST_OKAY);
    assert_eq!(unmap(&world, first), GNTST_GENERAL_ERROR, "nothing is there");
    let page = at(&world, &other, GUEST_GFN).unwrap().0;
    assert_eq!(world.hv.frames.lock().references(page), 2);
    // A frame of the table that was there is no longer listed as mapped.
    assert_eq!(add(&world, XENMAPSPACE_GRANT_TABLE, 0, FREE_GFN), 0);
    map(&world, other.id, 9, HOST);
    let frame_list = XenHandle::new(BUFFER + 0x100);
    let request = GnttabSetupTable { dom: DOMID_SELF, nr_frames: 1, frame_list, ..Default::default() };
    world.with(OP, GNTTABOP_SETUP_TABLE, request);
    assert_eq!(world.get::<u64>(0x100), u64::MAX);
    // Nor one whose place another of the hypervisor's pages takes.
    assert_eq!(add(&world, XENMAPSPACE_GRANT_TABLE, 0, FREE_GFN + 9), 0);
    world.with(OP, GNTTABOP_SETUP_TABLE, request);
    assert_eq!(world.get::<u64>(0x100), FREE_GFN + 9);
    assert_eq!(add(&world, XENMAPSPACE_SHARED_INFO, 0, FREE_GFN + 9), 0);
    world.with(OP, GNTTABOP_SETUP_TABLE, request);
    assert_eq!(world.get::<u64>(0x100), u64::MAX);
}

#[test]
fn copies_go_between_own_pages() {
    let world = World::small();
    let copy = |source, dest, len, flags| copy_by(&world, 0, source, dest, len, flags);
    let own = |gfn, offset| end(gfn, DOMID_SELF, offset);
    world.machine().write(Pa(RAM + 10), b"payload").unwrap();
    assert_eq!(copy(own(RAM_GFN, 10), own(RAM_GFN + 1, 4089), 7, 0), GNTST_OKAY);
    assert_eq!(bytes_at(world.machine(), RAM + 0x1ff9, 7), b"payload");
    // Overlapping ends copy as if through a buffer.
    assert_eq!(copy(own(RAM_GFN, 10), own(RAM_GFN, 12), 7, 0), GNTST_OKAY);
    assert_eq!(bytes_at(world.machine(), RAM + 10, 9), b"papayload");
    assert_eq!(copy(own(RAM_GFN, 0), own(RAM_GFN, 4090), 7, 0), GNTST_BAD_COPY_ARG);
    assert_eq!(copy(own(RAM_GFN, 0), own(RAM_GFN, 0), u16::MAX, 0), GNTST_BAD_COPY_ARG);
    assert_eq!(copy(own(FREE_GFN, 0), own(RAM_GFN, 0), 1, 0), GNTST_BAD_PAGE);
    assert_eq!(copy(own(RAM_GFN, 0), own(DEVICE >> 12, 0), 1, 0), GNTST_BAD_PAGE);
    assert_eq!(copy(own(1 << 52 | RAM_GFN, 0), own(RAM_GFN, 0), 1, 0), GNTST_BAD_PAGE);
    assert_eq!(copy(own(8, 0), own(RAM_GFN, 0), 1, GNTCOPY_SOURCE_GREF), GNTST_GENERAL_ERROR);
    assert_eq!(copy(own(512, 0), own(RAM_GFN, 0), 1, GNTCOPY_SOURCE_GREF), GNTST_BAD_GNTREF);
    // Only oneself is named by frame, and only as such.
    assert_eq!(copy(end(RAM_GFN, 0, 0), own(RAM_GFN, 0), 1, 0), GNTST_PERMISSION_DENIED);
    assert_eq!(copy(own(RAM_GFN, 0), end(0, 1, 0), 1, 0), GNTST_PERMISSION_DENIED);
    assert_eq!(copy(end(0, 7, 0), own(RAM_GFN, 0), 1, GNTCOPY_SOURCE_GREF), GNTST_BAD_DOMAIN);
    assert_eq!(copy(end(0, 7, 0), own(FREE_GFN, 0), 0, 0), GNTST_OKAY, "nothing asked");
    assert_eq!(world.hv.frames.lock().references(Pa(RAM)), 1);
}

#[test]
fn copies_go_between_granted_pages() {
    let world = World::small();
    let (a, b) = (guest(&world, 4), guest(&world, 4));
    let page = |domain, n| at(&world, domain, GUEST_GFN + n).unwrap().0;
    world.machine().write(page(&a, 1).offset(100), b"from a to b").unwrap();
    grant(&world, &a, 8, GTF_PERMIT_ACCESS | GTF_READONLY, 0, GUEST_GFN + 1);
    grant(&world, &b, 9, GTF_PERMIT_ACCESS, 0, GUEST_GFN + 2);
    let both = GNTCOPY_SOURCE_GREF | GNTCOPY_DEST_GREF;
    let copy = |source, dest, flags| copy_by(&world, 0, source, dest, 11, flags);
    assert_eq!(copy(end(8, a.id, 100), end(9, b.id, 7), both), GNTST_OKAY);
    assert_eq!(bytes_at(world.machine(), page(&b, 2).0 + 7, 11), b"from a to b");
    // To and from one's own page, as back ends do.
    assert_eq!(copy(end(8, a.id, 100), end(RAM_GFN, DOMID_SELF, 0), GNTCOPY_SOURCE_GREF), GNTST_OKAY);
    assert_eq!(bytes_at(world.machine(), RAM, 11), b"from a to b");
    let dest = end(9, b.id, 50);
    assert_eq!(copy(end(RAM_GFN, DOMID_SELF, 0), dest, GNTCOPY_DEST_GREF), GNTST_OKAY);
    assert_eq!(bytes_at(world.machine(), page(&b, 2).0 + 50, 11), b"from a to b");
    assert_eq!(copy(end(9, b.id, 0), end(8, a.id, 0), both), GNTST_GENERAL_ERROR, "it is read-only");
    assert_eq!(copy(end(8, b.id, 0), end(9, b.id, 0), both), GNTST_GENERAL_ERROR);
    assert_eq!(copy_by(&world, b.id, end(8, a.id, 0), dest, 1, both), GNTST_GENERAL_ERROR, "not for b");
    for (domain, index, n) in [(&a, 8, 1), (&b, 9, 2)] {
        assert_eq!(in_use(&world, domain, index), 0);
        assert_eq!(world.hv.frames.lock().references(page(domain, n)), 1);
        assert_eq!(domain.grants.lock().pinned(), 0);
    }
}

#[test]
fn a_list_of_copies_is_carried_out_whatever_its_length() {
    let world = World::small();
    let a = guest(&world, 4);
    let source = at(&world, &a, GUEST_GFN).unwrap().0;
    let pattern: Vec<u8> = (0..200).collect();
    world.machine().write(source, &pattern).unwrap();
    grant(&world, &a, 8, GTF_PERMIT_ACCESS, 0, GUEST_GFN);
    for n in 0..200_u16 {
        // The tenth has a wrong end.
        let gref = if n == 10 { 9 } else { 8 };
        let request = GnttabCopy {
            source: end(gref, a.id, n),
            dest: end(RAM_GFN + u64::from(n / 100), DOMID_SELF, n),
            len: 1,
            flags: GNTCOPY_SOURCE_GREF,
            status: 99,
            ..Default::default()
        };
        world.put(u64::from(n) * size_of::<GnttabCopy>() as u64, request);
    }
    assert_eq!(world.call(OP, &[GNTTABOP_COPY.into(), BUFFER, 200]), 0);
    for n in 0..200 {
        let request: GnttabCopy = world.get(n * size_of::<GnttabCopy>() as u64);
        assert_eq!(request.status, if n == 10 { GNTST_GENERAL_ERROR } else { GNTST_OKAY }, "{n}");
    }
    let mut expected = pattern.clone();
    expected[10] = 0;
    assert_eq!(bytes_at(world.machine(), RAM, 100), expected[..100]);
    assert_eq!(bytes_at(world.machine(), RAM + PAGE_SIZE + 100, 100), expected[100..]);
    assert_eq!(in_use(&world, &a, 8), 0);
    assert_eq!(a.grants.lock().pinned(), 0);
    assert_eq!(world.hv.frames.lock().references(source), 1);
}

#[test]
fn parts_of_pages_are_copied() {
    let world = World::small();
    let a = guest(&world, 4);
    by(&world, a.id, GNTTABOP_SET_VERSION, GnttabSetVersion { version: 2 });
    let (table, status) = {
        let grants = a.grants.lock();
        (grants.frames().next().unwrap(), grants.frames().nth(1).unwrap())
    };
    let hdr = GrantEntryHeader { flags: GTF_PERMIT_ACCESS | GTF_SUB_PAGE, domid: 0 };
    let entry = GrantEntryV2SubPage { hdr, page_off: 16, length: 8, frame: GUEST_GFN };
    world.machine().write(table.offset(9 * 16), entry.as_bytes()).unwrap();
    let copy = |offset, len| {
        copy_by(&world, 0, end(9, a.id, offset), end(RAM_GFN, DOMID_SELF, 0), len, GNTCOPY_SOURCE_GREF)
    };
    assert_eq!(copy(16, 8), GNTST_OKAY);
    assert_eq!(copy(17, 8), GNTST_GENERAL_ERROR);
    assert_eq!(copy(15, 1), GNTST_GENERAL_ERROR);
    assert_eq!(map(&world, a.id, 9, READ_ONLY_MAP).0, GNTST_GENERAL_ERROR);
    let entry = GrantEntryV2FullPage {
        hdr: GrantEntryHeader { flags: GTF_PERMIT_ACCESS, domid: 0 },
        pad0: 0,
        frame: GUEST_GFN,
    };
    world.machine().write(table.offset(9 * 16), entry.as_bytes()).unwrap();
    let (_, handle) = map(&world, a.id, 9, READ_ONLY_MAP);
    assert_eq!(world.machine().word(status.offset(16)), u32::from(GTF_READING) << 16);
    assert_eq!(unmap(&world, handle), GNTST_OKAY);
    assert_eq!(world.machine().word(status.offset(16)), 0);
}

#[test]
fn cache_lines_of_pages_one_may_use_are_cleaned() {
    let world = World::small();
    let flush = |addr, length, offset, op| {
        let request = GnttabCacheFlush { addr, length, offset, op };
        world.with(OP, GNTTABOP_CACHE_FLUSH, request).0
    };
    let clean = GNTTAB_CACHE_CLEAN;
    assert_eq!(flush(RAM + 0x3000, 64, 128, clean | GNTTAB_CACHE_INVAL), 0);
    assert_eq!(world.machine().cache_cleans(), 1);
    assert_eq!(flush(RAM, 0, 0, clean), 0, "a question");
    assert_eq!(flush(FREE + 3 * MIB, 64, 0, clean), error(Errno::EPERM), "nobody's");
    assert_eq!(flush(DEVICE, 64, 0, clean), error(Errno::EINVAL));
    assert_eq!(flush(u64::MAX, 64, 0, clean), error(Errno::EINVAL));
    assert_eq!(flush(RAM, 4096, 1, clean), error(Errno::EINVAL));
    assert_eq!(flush(RAM, 64, 0, GNTTAB_CACHE_SOURCE_GREF | clean), error(Errno::EINVAL));
    assert_eq!(world.machine().cache_cleans(), 1);
    let other = guest(&world, 1);
    let setup = GnttabSetupTable { dom: DOMID_SELF, nr_frames: 4, ..Default::default() };
    by(&world, other.id, GNTTABOP_SETUP_TABLE, setup);
    let page = at(&world, &other, GUEST_GFN).unwrap().0;
    assert_eq!(flush(page.0, 64, 0, clean), error(Errno::EINVAL), "another's");
    grant(&world, &other, 500, GTF_PERMIT_ACCESS, 0, GUEST_GFN);
    let (_, handle) = map(&world, other.id, 500, HOST);
    assert_eq!(flush(page.0, 64, 0, clean), 0);
    assert_eq!(unmap(&world, handle), GNTST_OKAY);
    assert_eq!(flush(page.0, 64, 0, clean), error(Errno::EINVAL));
}

#[test]
fn entries_are_swapped_and_pages_stay() {
    let world = World::small();
    let swap = |ref_a, ref_b| {
        let request = GnttabSwapGrantRef { ref_a, ref_b, status: 99, ..Default::default() };
        world.with(OP, GNTTABOP_SWAP_GRANT_REF, request).1.status
    };
    assert_eq!(swap(8, 9), GNTST_OKAY);
    assert_eq!(swap(8, 512), GNTST_BAD_GNTREF);
    let transfer = |mfn| {
        let request = GnttabTransfer { mfn, domid: 0, status: 99, ..Default::default() };
        world.with(OP, GNTTABOP_TRANSFER, request).1.status
    };
    assert_eq!(transfer(RAM_GFN), GNTST_GENERAL_ERROR);
    assert_eq!(transfer(FREE_GFN), GNTST_BAD_PAGE);
    assert_eq!(transfer(DEVICE / PAGE_SIZE), GNTST_BAD_PAGE);
    assert_eq!(transfer(1 << 52 | RAM_GFN), GNTST_BAD_PAGE);
}

#[test]
fn a_mapped_page_outlives_its_granter() {
    let world = World::small();
    let before = world.hv.frames.lock().free_frames();
    let other = guest(&world, 4);
    let page = at(&world, &other, GUEST_GFN).unwrap().0;
    grant(&world, &other, 8, GTF_PERMIT_ACCESS, 0, GUEST_GFN);
    let (_, first) = map(&world, other.id, 8, HOST);
    let second = map_at(&world, 0, other.id, 8, HOST, FREE_GFN + 1).handle;
    destroy(&world, &other);
    assert!(world.hv.domain(other.id).is_some_and(|domain| domain.is_dying()));
    assert_eq!(world.hv.frames.lock().owner(page), Some(other.id));
    assert_eq!(map(&world, other.id, 8, HOST).0, GNTST_BAD_GNTREF, "its table is gone");
    assert_eq!(unmap(&world, first), GNTST_OKAY);
    assert!(world.hv.domain(other.id).is_some());
    assert_eq!(unmap_by(&world, 0, second, FREE_GFN + 1), GNTST_OKAY);
    assert!(world.hv.domain(other.id).is_none());
    assert_eq!(world.hv.frames.lock().owner(page), None);
    // Domain 0 keeps a frame for its handles, and the tables below where it mapped.
    let kept = before - world.hv.frames.lock().free_frames();
    assert!(kept <= 3, "{kept} frames are gone");
}

#[test]
fn a_domain_that_ends_lets_go_of_what_it_mapped() {
    let world = World::small();
    grant(&world, &world.domain, 8, GTF_PERMIT_ACCESS, 1, RAM_GFN);
    let before = world.hv.frames.lock().free_frames();
    let other = guest(&world, 4);
    let third = guest(&world, 1);
    grant(&world, &third, 9, GTF_PERMIT_ACCESS, other.id, GUEST_GFN);
    for n in 0..600 {
        assert_eq!(map_at(&world, other.id, 0, 8, HOST, GUEST_GFN + 8 + n).status, GNTST_OKAY);
    }
    assert_eq!(map_at(&world, other.id, third.id, 9, READ_ONLY_MAP, GUEST_GFN + 7).status, GNTST_OKAY);
    assert_eq!(unmap_by(&world, other.id, 3, GUEST_GFN + 8 + 3), GNTST_OKAY);
    assert_eq!(world.domain.grants.lock().users(world.machine(), 8), (0, 599));
    destroy(&world, &third);
    assert!(world.hv.domain(third.id).is_some());
    destroy(&world, &other);
    assert!(world.hv.domain(other.id).is_none() && world.hv.domain(third.id).is_none());
    assert_eq!(world.domain.grants.lock().pinned(), 0);
    assert_eq!((in_use(&world, &world.domain, 8), world.hv.frames.lock().references(Pa(RAM))), (0, 1));
    assert_eq!(world.hv.frames.lock().free_frames(), before);
}
