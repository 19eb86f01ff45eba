//! `memory_op`, and what guest handles lead to.

use vambrace_abi::domid::DOMID_SELF;
use vambrace_abi::errno::Errno;
use vambrace_abi::handle::XenHandle;
use vambrace_abi::hypercall::*;
use vambrace_abi::memory::*;

use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::testing::*;
use crate::umem::GuestMemory;

const OP: u32 = HYPERVISOR_MEMORY_OP;
const RAM_GFN: u64 = RAM / PAGE_SIZE;
/// A frame of no RAM.
const FREE_GFN: u64 = 0x3000_0000 / PAGE_SIZE;

fn at(world: &World, gfn: u64) -> Option<Pa> {
    let mapping = world.domain.p2m.lock().lookup(world.machine(), Ipa::from_frame(gfn));
    mapping.map(|mapping| mapping.pa)
}

fn add(world: &World, space: u32, idx: u64, gpfn: u64) -> i64 {
    let request = XenAddToPhysmap { domid: DOMID_SELF, size: 0, space, idx, gpfn };
    world.with(OP, XENMEM_ADD_TO_PHYSMAP, request).0
}

/// `command` on extents of `order` that start at `gfns`.
fn reserve(world: &World, command: u32, order: u32, gfns: &[u64]) -> i64 {
    for (n, gfn) in (0..).zip(gfns) {
        world.put(0x100 + 8 * n, *gfn);
    }
    let request = XenMemoryReservation {
        extent_start: XenHandle::new(BUFFER + 0x100),
        nr_extents: gfns.len() as u64,
        extent_order: order,
        domid: DOMID_SELF,
        ..Default::default()
    };
    world.with(OP, command, request).0
}

#[test]
fn handles_are_copied_across_pages_or_not_at_all() {
    let world = World::small();
    let memory = GuestMemory::of_hardware(world.machine());
    let edge = BUFFER + PAGE_SIZE - 3;
    memory.write_bytes(edge, b"abcdef").unwrap();
    assert_eq!(bytes_at(world.machine(), BUFFER_PA + PAGE_SIZE - 3, 6), b"abcdef");
    assert_eq!(memory.read::<u64>(XenHandle::new(edge)).unwrap() & 0xffff_ffff_ffff, 0x6665_6463_6261);
    let mut byte = [0];
    for bad in [0, NOWHERE_VA, BUFFER - 1, BUFFER + 16 * PAGE_SIZE, u64::MAX] {
        assert_eq!(memory.read_bytes(bad, &mut byte), Err(Errno::EFAULT), "{bad:#x}");
        assert_eq!(memory.write_bytes(bad, &byte), Err(Errno::EFAULT), "{bad:#x}");
    }
    // The second page is missing; the address wraps.
    assert_eq!(memory.read_bytes(BUFFER + 16 * PAGE_SIZE - 1, &mut [0; 2]), Err(Errno::EFAULT));
    assert_eq!(memory.read_bytes(u64::MAX, &mut [0; 2]), Err(Errno::EFAULT));
    assert_eq!(memory.read_bytes(READ_ONLY, &mut byte), Ok(()));
    assert_eq!(memory.write_bytes(READ_ONLY, &byte), Err(Errno::EFAULT));
    // Nothing is no access.
    assert_eq!(memory.read_bytes(NOWHERE_VA, &mut []), Ok(()));
}

#[test]
fn shared_info_is_mapped_once_at_a_time() {
    let world = World::small();
    // A frame beyond the address space does not count as mapped.
    assert_eq!(add(&world, XENMAPSPACE_SHARED_INFO, 0, 1 << 40), error(Errno::EINVAL));
    assert_eq!(add(&world, XENMAPSPACE_SHARED_INFO, 0, u64::MAX), error(Errno::EINVAL));
    assert_eq!(add(&world, XENMAPSPACE_SHARED_INFO, 1, FREE_GFN), error(Errno::EINVAL));
    assert_eq!(add(&world, XENMAPSPACE_SHARED_INFO, 0, FREE_GFN), 0);
    assert_eq!(at(&world, FREE_GFN), Some(world.domain.shared_info));
    assert_eq!(add(&world, XENMAPSPACE_SHARED_INFO, 0, FREE_GFN + 1), error(Errno::EBUSY));
    let remove = |gpfn, domid| {
        let request = XenRemoveFromPhysmap { domid, gpfn, ..Default::default() };
        world.with(OP, XENMEM_REMOVE_FROM_PHYSMAP, request).0
    };
    assert_eq!(remove(FREE_GFN, 9), error(Errno::ESRCH));
    assert_eq!(remove(FREE_GFN, 0), 0);
    assert_eq!(remove(FREE_GFN, DOMID_SELF), error(Errno::ENOENT));
    assert_eq!(remove(1 << 52 | FREE_GFN, DOMID_SELF), error(Errno::EINVAL));
    assert_eq!(add(&world, XENMAPSPACE_SHARED_INFO, 0, FREE_GFN + 1), 0);
}

#[test]
fn pages_are_added_for_oneself_only() {
    let world = World::small();
    world.add_other();
    let request = XenAddToPhysmap { domid: 1, space: XENMAPSPACE_GRANT_TABLE, ..Default::default() };
    let at = world.put(0, XenAddToPhysmap { domid: 0, ..request });
    let other = world.call_by(1, OP, [XENMEM_ADD_TO_PHYSMAP.into(), at, 0, 0, 0]);
    assert_eq!(other.0, error(Errno::EPERM));
    let request = XenAddToPhysmap { domid: 5, ..request };
    assert_eq!(world.with(OP, XENMEM_ADD_TO_PHYSMAP, request).0, error(Errno::ESRCH));
    assert_eq!(add(&world, XENMAPSPACE_GMFN_FOREIGN, 0, FREE_GFN), error(Errno::ENOSYS));
    assert_eq!(add(&world, 77, 0, FREE_GFN), error(Errno::ENOSYS));
}

#[test]
fn a_batch_has_an_error_for_each_page() {
    let world = World::small();
    for (n, (index, gfn)) in (0..).zip([(0, FREE_GFN), (99, FREE_GFN), (1, u64::MAX), (1, FREE_GFN + 1)]) {
        world.put(0x100 + 8 * n, index as u64);
        world.put(0x200 + 8 * n, gfn);
    }
    let batch = XenAddToPhysmapBatch {
        domid: DOMID_SELF,
        space: XENMAPSPACE_GRANT_TABLE as u16,
        size: 4,
        foreign_domid: 0,
        idxs: XenHandle::new(BUFFER + 0x100),
        gpfns: XenHandle::new(BUFFER + 0x200),
        errs: XenHandle::new(BUFFER + 0x300),
    };
    let call = |batch| world.with(OP, XENMEM_ADD_TO_PHYSMAP_BATCH, batch).0;
    assert_eq!(call(batch), 0);
    assert_eq!(world.get::<[i32; 4]>(0x300), [0, -22, -22, 0]);
    assert!(at(&world, FREE_GFN).is_some() && at(&world, FREE_GFN + 1).is_some());
    let bad = XenHandle::new(NOWHERE_VA);
    assert_eq!(call(XenAddToPhysmapBatch { idxs: bad, ..batch }), error(Errno::EFAULT));
    assert_eq!(call(XenAddToPhysmapBatch { gpfns: bad, ..batch }), error(Errno::EFAULT));
    assert_eq!(call(XenAddToPhysmapBatch { errs: bad.cast(), ..batch }), error(Errno::EFAULT));
    assert_eq!(call(XenAddToPhysmapBatch { space: 2, ..batch }), error(Errno::ENOSYS));
    assert_eq!(call(XenAddToPhysmapBatch { domid: 3, ..batch }), error(Errno::ESRCH));
    assert_eq!(call(XenAddToPhysmapBatch { size: 0, idxs: bad, ..batch }), 0);
}

#[test]
fn a_balloon_gives_frames_back_and_takes_the_same_again() {
    let world = World::small();
    let (give, take) = (XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP);
    let gfn = RAM_GFN + 0x180;
    assert_eq!(reserve(&world, give, 0, &[gfn, gfn + 1]), 2);
    assert_eq!((at(&world, gfn), at(&world, gfn + 1)), (None, None));
    assert_eq!(reserve(&world, give, 0, &[gfn]), 0, "it is gone");
    assert_eq!(reserve(&world, give, 1, &[gfn]), 0, "and so is the pair");
    assert_eq!(reserve(&world, take, 1, &[gfn]), 1);
    assert_eq!(at(&world, gfn + 1), Some(Pa::from_frame(gfn + 1)));
    // The frames were dom0's all the time, and counted as such, whatever it does.
    for _ in 0..3 {
        assert_eq!(reserve(&world, take, 9, &[RAM_GFN + 0x200]), 1);
    }
    assert_eq!(reserve(&world, give, 0, &[RAM_GFN + 0x200]), 1);
    assert_eq!(reserve(&world, give, 9, &[RAM_GFN + 0x200]), 0, "not all of it is there");
    assert_eq!(world.domain.pages(), 1024);
    // The answer is how many extents were done before the first bad one.
    assert_eq!(reserve(&world, give, 0, &[gfn, OTHER_RAM >> 12, gfn + 1]), 1);
    assert_eq!(reserve(&world, give, 0, &[DEVICE >> 12]), 0);
    assert_eq!(reserve(&world, take, 0, &[FREE_GFN]), 0, "no RAM of its own");
    assert_eq!(reserve(&world, take, 0, &[1 << 52 | gfn]), 0);
    assert_eq!(reserve(&world, take, 1, &[gfn + 1]), 0, "misaligned");
    assert_eq!(reserve(&world, take, 18, &[0]), 0);
    assert_eq!(reserve(&world, take, 63, &[0]), 0);
    // A shared page that stands in the place of RAM is not RAM to give back.
    assert_eq!(add(&world, XENMAPSPACE_SHARED_INFO, 0, RAM_GFN + 0x190), 0);
    assert_eq!(reserve(&world, give, 0, &[RAM_GFN + 0x190]), 0);
    assert_eq!(at(&world, RAM_GFN + 0x190), Some(world.domain.shared_info));
}

#[test]
fn reservations_survive_bad_lists_and_huge_counts() {
    let world = World::small();
    for command in [XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP] {
        assert_eq!(world.call(OP, &[command.into(), NOWHERE_VA]), 0);
        let request = XenMemoryReservation { nr_extents: u64::MAX, domid: DOMID_SELF, ..Default::default() };
        for list in [NOWHERE_VA, u64::MAX, 0] {
            let extent_start = XenHandle::new(list);
            assert_eq!(world.with(OP, command, XenMemoryReservation { extent_start, ..request }).0, 0);
        }
        let extent_start = XenHandle::new(BUFFER);
        assert_eq!(world.with(OP, command, XenMemoryReservation { domid: 7, extent_start, ..request }).0, 0);
    }
}

#[test]
fn sizes_are_answered() {
    let world = World::small();
    let query = |command, domid| world.with(OP, command, XenMemoryDomain { domid }).0;
    assert_eq!(query(XENMEM_CURRENT_RESERVATION, DOMID_SELF), 1024);
    assert_eq!(query(XENMEM_MAXIMUM_RESERVATION, 0), 1024);
    assert_eq!(query(XENMEM_MAXIMUM_GPFN, DOMID_SELF), (RAM_GFN + 1023) as i64);
    assert_eq!(query(XENMEM_CURRENT_RESERVATION, 1), error(Errno::ESRCH));
    let other = world.add_other();
    assert_eq!(query(XENMEM_CURRENT_RESERVATION, 1), 256);
    assert_eq!(world.call(OP, &[XENMEM_CURRENT_RESERVATION.into(), NOWHERE_VA]), error(Errno::EFAULT));
    // The unprivileged learn of themselves only.
    let at = world.put(0, XenMemoryDomain { domid: 0 });
    let args = [XENMEM_CURRENT_RESERVATION.into(), at, 0, 0, 0];
    assert_eq!(world.call_by(other.id, OP, args).0, error(Errno::EPERM));
    world.put(0, XenMemoryDomain { domid: DOMID_SELF });
    assert_eq!(world.call_by(other.id, OP, args).0, 256);
    assert_eq!(world.call(OP, &[XENMEM_EXCHANGE.into(), BUFFER]), error(Errno::ENOSYS));
    assert_eq!(world.call(OP, &[0x3f, BUFFER]), error(Errno::ENOSYS));
}
