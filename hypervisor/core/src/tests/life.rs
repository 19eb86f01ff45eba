//! Domains that a toolstack makes, from their making to the last frame that they leave behind.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use vambrace_abi::errno::Errno;
use vambrace_abi::handle::XenHandle;
use vambrace_abi::hypercall::HYPERVISOR_MEMORY_OP;
use vambrace_abi::memory::*;
use vambrace_abi::sched::SHUTDOWN_POWEROFF;

use crate::addr::{Ipa, PAGE_SIZE};
use crate::domain::Domain;
use crate::domu::DomuConfig;
use crate::fake::FakeMachine;
use crate::life::Progress;
use crate::machine::Memory;
use crate::testing::{BUFFER, FREE, MIB, World, bytes_at, error};

const GUEST_RAM: u64 = 0x4000_0000;
/// Where nothing of domain 0's is.
const WINDOW: u64 = 0x8000_0000 / PAGE_SIZE;

fn config() -> DomuConfig {
    DomuConfig {
        id: None,
        handle: *b"0123456789abcdef",
        vcpus: 2,
        spis: 32,
        max_port: 1023,
        max_grant_frames: 4,
        max_maptrack_frames: 4,
        grant_version: crate::grant::Version::V2,
        pool: 0,
        direct: false,
    }
}

fn free(world: &World) -> u64 {
    world.hv.frames.lock().free_frames()
}

/// A domain that may have `pages` pages, and has none.
fn create(world: &World, pages: u64) -> Arc<Domain<FakeMachine>> {
    let domain = world.hv.create_domain(&config()).unwrap();
    domain.max_pages.store(pages, core::sync::atomic::Ordering::Relaxed);
    domain.p2m.lock().limit_tables(64);
    domain
}

fn destroy(world: &World, domain: &Arc<Domain<FakeMachine>>) {
    while world.hv.destroy(domain) == Ok(Progress::Again) {}
}

/// Has domain 0 populate `extents` extents of the domain's RAM; how many were.
fn populate(world: &World, domain: u16, first: u64, extents: u64, order: u32) -> i64 {
    for index in 0..extents {
        world.put(0x100 + index * 8, GUEST_RAM / PAGE_SIZE + first + (index << order));
    }
    let request = XenMemoryReservation {
        extent_start: XenHandle::new(BUFFER + 0x100),
        nr_extents: extents,
        extent_order: order,
        domid: domain,
        ..Default::default()
    };
    world.with(HYPERVISOR_MEMORY_OP, XENMEM_POPULATE_PHYSMAP, request).0
}

/// Has domain 0 map frame `gfn` of the domain's at [`WINDOW`] and on; the error for the page.
fn map_foreign(world: &World, domain: u16, gfn: u64, at: u64) -> i32 {
    world.put(0x100, gfn);
    world.put(0x108, at);
    world.put(0x110, -1_i32);
    let request = XenAddToPhysmapBatch {
        domid: 0,
        space: XENMAPSPACE_GMFN_FOREIGN as u16,
        size: 1,
        foreign_domid: domain,
        idxs: XenHandle::new(BUFFER + 0x100),
        gpfns: XenHandle::new(BUFFER + 0x108),
        errs: XenHandle::new(BUFFER + 0x110),
    };
    assert_eq!(world.with(HYPERVISOR_MEMORY_OP, XENMEM_ADD_TO_PHYSMAP_BATCH, request).0, 0);
    world.get(0x110)
}

fn unmap(world: &World, at: u64) -> i64 {
    let request = XenRemoveFromPhysmap { domid: 0, gpfn: at, ..Default::default() };
    world.with(HYPERVISOR_MEMORY_OP, XENMEM_REMOVE_FROM_PHYSMAP, request).0
}

#[test]
fn a_domain_leaves_nothing_behind() {
    let world = World::small();
    let before = free(&world);
    for round in 0..300 {
        let domain = create(&world, 512);
        assert_eq!(domain.id, 1 + round);
        assert_eq!(populate(&world, domain.id, 0, 20, 4), 20);
        assert_eq!(domain.pages(), 320);
        destroy(&world, &domain);
        assert!(world.hv.domain(domain.id).is_none());
        assert_eq!(free(&world), before, "round {round}");
    }
}

#[test]
fn a_populated_page_is_zero_and_counts() {
    let world = World::small();
    let dirty: Vec<u8> = alloc::vec![0xaa; 8 * MIB as usize];
    world.machine().write(crate::addr::Pa(FREE), &dirty).unwrap();
    let domain = create(&world, 10);
    assert_eq!(populate(&world, domain.id, 0, 16, 0), 10, "no more than it may have");
    assert_eq!(populate(&world, domain.id, 0, 1, 0), 0);
    for page in 0..10 {
        let at = domain.p2m.lock().lookup(world.machine(), Ipa(GUEST_RAM + page * PAGE_SIZE)).unwrap().pa;
        assert!(bytes_at(world.machine(), at.0, PAGE_SIZE as usize).iter().all(|byte| *byte == 0));
    }
    destroy(&world, &domain);
}

#[test]
fn what_a_domain_gives_back_counts_while_somebody_holds_it() {
    let world = World::small();
    let domain = create(&world, 10);
    assert_eq!(populate(&world, domain.id, 0, 10, 0), 10);
    assert_eq!(map_foreign(&world, domain.id, GUEST_RAM / PAGE_SIZE, WINDOW), 0);
    world.put(0x100, GUEST_RAM / PAGE_SIZE);
    let request = XenMemoryReservation {
        extent_start: XenHandle::new(BUFFER + 0x100),
        nr_extents: 1,
        domid: domain.id,
        ..Default::default()
    };
    assert_eq!(world.with(HYPERVISOR_MEMORY_OP, XENMEM_DECREASE_RESERVATION, request).0, 1);
    assert_eq!(domain.pages(), 9);
    assert_eq!(populate(&world, domain.id, 10, 1, 0), 0, "it would have eleven");
    assert_eq!(unmap(&world, WINDOW), 0);
    assert_eq!(populate(&world, domain.id, 10, 2, 0), 1);
    destroy(&world, &domain);
}

#[test]
fn a_large_extent_is_populated_in_parts() {
    let world = World::small();
    let before = free(&world);
    let domain = create(&world, 1536);
    assert_eq!(populate(&world, domain.id, 0, 1, 10), 1);
    assert_eq!(domain.pages(), 1024);
    assert_eq!(populate(&world, domain.id, 1024, 1, 10), 0, "one part of two, which is none");
    assert_eq!(domain.pages(), 1536);
    destroy(&world, &domain);
    assert_eq!(free(&world), before);
}

#[test]
fn a_foreign_page_outlives_its_domain() {
    let world = World::small();
    let before = free(&world);
    let domain = create(&world, 512);
    assert_eq!(populate(&world, domain.id, 0, 2, 0), 2);
    let gfn = GUEST_RAM / PAGE_SIZE;
    assert_eq!(map_foreign(&world, domain.id, gfn, WINDOW), 0);
    assert_eq!(map_foreign(&world, domain.id, gfn, WINDOW + 1), 0);
    assert_eq!(map_foreign(&world, domain.id, gfn + 1, WINDOW + 1), 0, "in place of the other");
    assert_eq!(map_foreign(&world, domain.id, gfn + 2, WINDOW), Errno::EINVAL.to_int());
    let page = world.domain.p2m.lock().lookup(world.machine(), Ipa::from_frame(WINDOW)).unwrap().pa;
    destroy(&world, &domain);
    assert!(world.hv.domain(domain.id).unwrap().is_dying(), "it is there for its pages' sake");
    assert_eq!(world.hv.frames.lock().owner(page), Some(domain.id));
    assert_eq!(map_foreign(&world, domain.id, gfn, WINDOW + 2), Errno::EINVAL.to_int());
    assert_eq!(unmap(&world, WINDOW), 0);
    assert!(world.hv.domain(domain.id).is_some());
    assert_eq!(unmap(&world, WINDOW + 1), 0);
    assert!(world.hv.domain(domain.id).is_none());
    // The tables below domain 0's window stay.
    let tables = before - free(&world);
    assert!(tables <= 2, "{tables} frames are gone");
    assert_eq!(unmap(&world, WINDOW), error(Errno::ENOENT));
}

#[test]
fn shut_down_and_resumed() {
    let world = World::small();
    let domain = create(&world, 0);
    assert_eq!(world.hv.resume(&domain), Err(Errno::EINVAL));
    world.hv.shut_down(&domain, SHUTDOWN_POWEROFF);
    assert_eq!(domain.shutdown_reason(), Some(SHUTDOWN_POWEROFF));
    world.hv.resume(&domain).unwrap();
    assert_eq!(domain.shutdown_reason(), None);
    destroy(&world, &domain);
    assert_eq!(world.hv.resume(&domain), Err(Errno::EINVAL));
}

#[test]
fn numbers_and_limits_are_checked() {
    let world = World::small();
    let with = |config: DomuConfig| world.hv.create_domain(&config).map(|domain| domain.id);
    assert_eq!(with(DomuConfig { id: Some(7), ..config() }), Ok(7));
    assert_eq!(with(DomuConfig { id: Some(7), ..config() }), Err(Errno::EEXIST));
    assert_eq!(with(DomuConfig { id: Some(0), ..config() }), Err(Errno::EINVAL));
    assert_eq!(with(DomuConfig { id: Some(0x7ff0), ..config() }), Err(Errno::EINVAL));
    assert_eq!(with(DomuConfig { vcpus: 0, ..config() }), Err(Errno::EINVAL));
    assert_eq!(with(DomuConfig { vcpus: 9, ..config() }), Err(Errno::EINVAL));
    let before = free(&world);
    assert_eq!(with(DomuConfig { spis: 5000, ..config() }), Err(Errno::EINVAL));
    assert_eq!(free(&world), before);
    // 255 VMIDs, of which domains 0 and 7 have one each; and memory for some.
    while with(config()).is_ok() {}
    let last = with(config()).unwrap_err();
    assert!(matches!(last, Errno::EBUSY | Errno::ENOMEM), "{last:?}");
}

/// Several vCPUs of dom0 may make domains at once. Each has to find what the others leave, or all would find room where
/// there is room for one, and the hypervisor has no answer when its heap is used up.
#[test]
fn the_heap_is_asked_by_one_maker_at_a_time() {
    let world = Arc::new(World::small());
    let maker = Arc::downgrade(&world);
    world.machine().set_heap_room(Box::new(move || {
        let world = maker.upgrade().unwrap();
        assert!(world.hv.creation.try_lock().is_none(), "another may ask as well, and get the same answer");
        crate::domu::KEPT_HEAP
    }));
    let before = free(&world);
    assert_eq!(world.hv.create_domain(&config()).map(|_| ()), Err(Errno::ENOMEM));
    assert_eq!(free(&world), before);
}
