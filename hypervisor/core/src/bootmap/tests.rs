use alloc::string::ToString;
use alloc::vec;

use super::*;

const MIB: u64 = 1 << 20;

fn r(start: u64, size: u64) -> PaRange {
    PaRange::new(Pa(start), size).unwrap()
}

/// 2 GiB of RAM at 1 GiB; hypervisor, tree, kernel and RAM disk as U-Boot would put them.
fn request() -> Request<'static> {
    Request {
        ram: &[PaRange { start: Pa(0x4000_0000), end: Pa(0xc000_0000) }],
        reserved: &[],
        hypervisor: r(0x4020_0000, MIB),
        host_tree: r(0x4400_0000, 0x2_1000),
        kernel: KernelModule {
            range: r(0x4800_0000, 36 * MIB),
            text_offset: 0,
            memory_size: 37 * MIB,
            packed: false,
            zimage: None,
        },
        ramdisk: Some(r(0x4c00_0000, 5 * MIB + 123)),
        others: &[],
        tree_size: 0x1_0000,
        dom0_mem: 1024 * MIB,
        heap: 32 * MIB,
        heap_limit: Pa(u64::MAX),
    }
}

/// What must hold of every arrangement.
fn check_map(request: &Request<'_>, map: &BootMap) {
    let ram = merge(request.ram.to_vec());
    let ramdisk = request.ramdisk.zip(map.ramdisk).map(|(source, placed)| r(placed.target.0, source.size()));
    let kernel = r(map.kernel.target.0, request.kernel.memory_size);
    // Dom0 has what was asked for, in RAM, and shares nothing with the hypervisor, reserved memory or the heap.
    assert_eq!(total(&map.dom0), request.dom0_mem.next_multiple_of(PAGE_SIZE));
    let owned: Vec<PaRange> =
        map.dom0.iter().chain([&map.heap]).chain(&map.free).chain(&map.free_after_copy).copied().collect();
    for (index, range) in owned.iter().enumerate() {
        assert!(ram.iter().any(|bank| bank.contains_range(*range)), "{range:?}");
        assert!(range.start.is_aligned(PAGE_SIZE) && range.end.is_aligned(PAGE_SIZE));
        assert!(!range.overlaps(request.hypervisor), "{range:?}");
        assert!(owned.iter().skip(index + 1).all(|other| !other.overlaps(*range)), "{range:?}");
    }
    // What dom0 starts with lies in its memory, and nothing on anything else.
    let bank = map.dom0[0];
    assert!(bank.contains_range(kernel) && bank.contains_range(map.tree));
    let placed: Vec<PaRange> = [Some(kernel), ramdisk, Some(map.tree)].into_iter().flatten().collect();
    for (index, range) in placed.iter().enumerate() {
        assert!(map.dom0.iter().any(|bank| bank.contains_range(*range)), "{range:?}");
        assert!(placed.iter().skip(index + 1).all(|other| !other.overlaps(*range)), "{placed:?}");
    }
    assert_eq!((kernel.start.0 - request.kernel.text_offset) % BLOCK, 0);
    assert_eq!(map.tree.start.0 / BLOCK, (map.tree.end.0 - 1) / BLOCK);
    // No copy destroys what another one still reads.
    let sources = [Some(request.host_tree), Some(request.kernel.range), request.ramdisk];
    let mut targets = vec![map.tree];
    if !map.kernel.is_in_place() {
        targets.push(kernel);
    }
    targets.extend(ramdisk.filter(|_| map.ramdisk.is_some_and(|placed| !placed.is_in_place())));
    for target in targets {
        assert!(sources.iter().flatten().all(|source| !source.overlaps(target)), "{target:?}");
    }
    // Free at once is only what nobody reads any more, and nothing is lost.
    assert!(
        map.free
            .iter()
            .chain([&map.heap])
            .all(|f| sources.iter().flatten().all(|source| !source.overlaps(*f)))
    );
    let all = total(&owned) + request.hypervisor.page_outer().size();
    let reserved = total(&merge(request.reserved.iter().map(|range| range.page_outer()).collect()));
    assert!(all + reserved + 64 * PAGE_SIZE >= total(&ram), "{} of {}", all, total(&ram));
}

fn arrange(request: &Request<'_>) -> BootMap {
    let map = BootMap::arrange(request).unwrap();
    check_map(request, &map);
    map
}

#[test]
fn modules_that_lie_well_stay() {
    let map = arrange(&request());
    assert_eq!(map.dom0.len(), 1);
    assert!(map.kernel.is_in_place() && map.ramdisk.unwrap().is_in_place());
    assert!(map.dom0[0].start.is_aligned(BLOCK));
    assert_eq!(map.heap, r(0xc000_0000 - 32 * MIB, 32 * MIB));
}

#[test]
fn a_whole_gigabyte_is_one_block() {
    // With the kernel beyond the boundary, dom0 can have a gigabyte of its own, kernel included.
    let kernel = KernelModule { range: r(0x8200_0000, 36 * MIB), ..request().kernel };
    let request = Request {
        kernel,
        ramdisk: Some(r(0x8800_0000, MIB)),
        heap: 2 * MIB,
        dom0_mem: 960 * MIB,
        ..request()
    };
    let map = arrange(&request);
    assert_eq!(map.dom0, [r(0x8000_0000, 960 * MIB)]);
    assert!(map.kernel.is_in_place());
}

#[test]
fn odd_kernels_are_copied() {
    let packed = KernelModule { packed: true, ..request().kernel };
    let unaligned = KernelModule { range: r(0x4810_0000, 36 * MIB), ..request().kernel };
    let offset = KernelModule { text_offset: 0x8_0000, ..request().kernel };
    // The zeroed data after its file would lie on the RAM disk.
    let crowded = KernelModule { memory_size: 65 * MIB, ..request().kernel };
    for kernel in [packed, unaligned, offset, crowded] {
        let map = arrange(&Request { kernel, ..request() });
        assert!(!map.kernel.is_in_place(), "{kernel:?}");
        assert!(map.ramdisk.unwrap().is_in_place());
    }
    let exact = KernelModule { range: r(0x4808_0000, 36 * MIB), text_offset: 0x8_0000, ..request().kernel };
    assert!(arrange(&Request { kernel: exact, ..request() }).kernel.is_in_place());
}

#[test]
fn all_sizes_of_dom0_and_board() {
    for ram_mib in [256, 512, 1024, 2048, 4096_u64] {
        let ram = [r(0x4000_0000, ram_mib * MIB)];
        for dom0_mib in [64, 100, 128, 200, 256, 384, 512, 777, 1000, 1024, 2000, 3000, 4000] {
            let request = Request { ram: &ram, dom0_mem: dom0_mib * MIB, ..request() };
            match BootMap::arrange(&request) {
                Ok(map) => check_map(&request, &map),
                Err(MapError::TooLarge { asked, most }) => assert!(asked > most),
                Err(error) => panic!("{ram_mib} {dom0_mib}: {error}"),
            }
        }
    }
}

#[test]
fn several_banks_where_one_is_too_small() {
    // As on Midway and on the ARMv8 model: RAM below and above 4 GiB.
    let ram = [r(0x4000_0000, 1024 * MIB), r(0x8_8000_0000, 2048 * MIB)];
    let map = arrange(&Request { ram: &ram, dom0_mem: 2048 * MIB, ..request() });
    assert_eq!(map.dom0.len(), 2);
    assert!(map.dom0[0].start.0 < LOW_END && map.dom0[1].start.0 > LOW_END);
    // What fits low stays low.
    let map = arrange(&Request { ram: &ram, dom0_mem: 512 * MIB, ..request() });
    assert_eq!(map.dom0.len(), 1);
    assert!(map.dom0[0].end.0 < LOW_END);
    // Nothing is low: then the first bank need not be.
    let ram = [r(0x1_0000_0000, 2048 * MIB)];
    let high = |range: PaRange| r(range.start.0 + 0xc000_0000, range.size());
    let base = request();
    let map = arrange(&Request {
        ram: &ram,
        hypervisor: high(base.hypervisor),
        host_tree: high(base.host_tree),
        kernel: KernelModule { range: high(base.kernel.range), ..base.kernel },
        ramdisk: base.ramdisk.map(high),
        ..base
    });
    assert!(map.kernel.is_in_place());
}

#[test]
fn reserved_memory_is_kept_clear() {
    let reserved = [r(0x5000_0000, 0x80_0000), r(0x6000_0123, 0x10), r(0x4000_0000, 0x1_0000)];
    let request = Request { reserved: &reserved, dom0_mem: 1500 * MIB, ..request() };
    let map = arrange(&request);
    for range in map.dom0.iter().chain(&map.free).chain(&map.free_after_copy).chain([&map.heap]) {
        assert!(reserved.iter().all(|reserved| !reserved.overlaps(*range)));
    }
    assert!(map.dom0.len() <= 3);
}

#[test]
fn loaders_reserve_their_modules() {
    // U-Boot adds the device tree and the RAM disk to the reservation block: they are free after the copy all the same.
    let base = request();
    let reserved = [base.host_tree, base.ramdisk.unwrap()];
    let map = arrange(&Request { reserved: &reserved, ..base });
    assert!(map.ramdisk.unwrap().is_in_place());
    assert_eq!(map.dom0.len(), 1);
}

#[test]
fn bad_layouts_are_named() {
    let said = |request: Request<'_>| BootMap::arrange(&request).unwrap_err().to_string();
    let base = request();
    assert!(said(Request { dom0_mem: 1 << 40, ..base }).contains("at most"));
    assert!(said(Request { dom0_mem: u64::MAX, ..base }).contains("at most"));
    assert!(said(Request { dom0_mem: 16 * MIB, ..base }).contains("need"));
    assert!(said(Request { dom0_mem: 0, ..base }).contains("need"));
    let ramdisk = Some(r(0xc000_0000, MIB));
    assert!(
        said(Request { ramdisk, ..base }).contains("RAM disk module at 0xc0000000..0xc0100000 lies outside")
    );
    let half_outside = KernelModule { range: r(0xbff0_0000, 2 * MIB), ..base.kernel };
    assert!(said(Request { kernel: half_outside, ..base }).contains("kernel module"));
    let ramdisk = Some(r(0x4800_1000, MIB));
    assert!(
        said(Request { ramdisk, ..base }).contains("the kernel module at 0x48000000..0x4a400000 overlaps")
    );
    assert!(said(Request { hypervisor: r(0x4c00_0000, MIB), ..base }).contains("the hypervisor at"));
    assert!(said(Request { heap: 4096 * MIB, ..base }).contains("the heap"));
    assert!(said(Request { heap: u64::MAX, ..base }).contains("the heap"));
    assert!(said(Request { tree_size: 3 * MIB, ..base }).contains("device tree"));
    assert!(said(Request { ram: &[], ..base }).contains("outside of memory"));
    let everything = [r(0x4000_0000, 2048 * MIB)];
    assert!(said(Request { reserved: &everything, ..base }).contains("the heap"));
    let huge = KernelModule { memory_size: u64::MAX, ..base.kernel };
    assert!(said(Request { kernel: huge, ..base }).contains("need"));
}

/// A zImage of 6 MiB that unpacks itself to 24 MiB.
fn zimage() -> KernelModule {
    KernelModule {
        range: r(0x4800_0000, 6 * MIB),
        text_offset: 0,
        memory_size: 7 * MIB,
        packed: false,
        zimage: Some(24 * MIB),
    }
}

/// Where a zImage at `start` unpacks itself to, as `arch/arm/boot/compressed` chooses it for a kernel with these banks.
fn unpacks_to(start: u64, banks: &[PaRange]) -> u64 {
    let window = start & !0x7ff_ffff;
    if banks.iter().any(|bank| bank.contains(Pa(window))) {
        return window;
    }
    banks.iter().map(|bank| bank.start.0).min().unwrap().next_multiple_of(BLOCK)
}

/// What must hold for a 32-bit kernel besides.
fn check_zimage(request: &Request<'_>, map: &BootMap) {
    check_map(request, map);
    let room = r(map.kernel.target.0, request.kernel.memory_size);
    let base = unpacks_to(room.start.0, &map.dom0);
    let unpacked = r(base, request.kernel.zimage.unwrap());
    assert!(map.dom0[0].contains_range(unpacked), "{map:?}");
    assert!(
        map.dom0[0].start.0 < base + BLOCK && map.dom0.iter().all(|bank| bank.start >= map.dom0[0].start)
    );
    let ramdisk = request.ramdisk.zip(map.ramdisk).map(|(source, placed)| r(placed.target.0, source.size()));
    for range in [Some(room), Some(map.tree), ramdisk].into_iter().flatten() {
        assert!(!range.overlaps(unpacked), "{range:?} {unpacked:?}");
        assert!(range.start.0 > base && range.end.0 <= base + (512 << 20), "{range:?}");
    }
}

#[test]
fn a_zimage_lies_behind_what_it_unpacks() {
    // RAM at the boards' bases, an odd one, and one of which firmware has the first page.
    for base in [0, 0x4000_0000, 0x6000_0000, 0x8000_0000, 0x4300_0000, 0x1000_u64] {
        let from = |start: u64| start - 0x4000_0000 + base.next_multiple_of(BLOCK);
        let moved = |range: PaRange| r(from(range.start.0), range.size());
        for ram_mib in [128, 256, 512, 1024, 2048] {
            let ram = [r(base, ram_mib * MIB)];
            for dom0_mib in [48, 64, 100, 128, 300, 512, 777, 1900] {
                let module = KernelModule { range: r(from(0x4200_0000), 6 * MIB), ..zimage() };
                let request = Request {
                    ram: &ram,
                    hypervisor: moved(request().hypervisor),
                    host_tree: r(from(0x4300_0000), 0x2_1000),
                    kernel: module,
                    ramdisk: Some(r(from(0x4340_0000), 5 * MIB + 123)),
                    dom0_mem: dom0_mib * MIB,
                    heap: 16 * MIB,
                    ..request()
                };
                match BootMap::arrange(&request) {
                    Ok(map) => check_zimage(&request, &map),
                    Err(MapError::TooLarge { asked, most }) => assert!(asked > most),
                    // Around the hypervisor and the heap there may be no stretch that is long enough.
                    Err(MapError::NoRoom(..)) => assert!(ram_mib < 512, "{base:#x} {ram_mib} {dom0_mib}"),
                    Err(error) => panic!("{base:#x} {ram_mib} {dom0_mib}: {error}"),
                }
            }
        }
    }
}

#[test]
fn a_zimage_that_lies_well_stays() {
    // The kernel in its second 32 MiB: nothing is copied, the RAM disk behind stays too.
    let kernel = KernelModule { range: r(0x4a00_0000, 6 * MIB), ..zimage() };
    let request = Request { kernel, dom0_mem: 512 * MIB, ..request() };
    let map = arrange(&request);
    check_zimage(&request, &map);
    assert_eq!(map.dom0, [r(0x4800_0000, 512 * MIB)]);
    assert!(map.kernel.is_in_place() && map.ramdisk.unwrap().is_in_place());
    // With something appended it has to go from there.
    let packed = KernelModule { packed: true, ..kernel };
    assert!(!arrange(&Request { kernel: packed, ..request }).kernel.is_in_place());
}

#[test]
fn a_32_bit_dom0_has_no_memory_below_its_kernel() {
    // As on Midway, with the hypervisor in the middle of the low bank.
    let ram = [r(0, 4088 * MIB), r(0x2_0000_0000, 12 << 30)];
    let kernel = KernelModule { range: r(0x0200_0000, 6 * MIB), ..zimage() };
    let reserved = [r(0, 0x1000)];
    let request = Request {
        ram: &ram,
        reserved: &reserved,
        hypervisor: r(0x1_0000, MIB),
        host_tree: r(0x100_0000, 0x1_0000),
        kernel,
        ramdisk: None,
        dom0_mem: 6 << 30,
        heap: 64 * MIB,
        heap_limit: Pa(LOW_END),
        ..request()
    };
    let map = arrange(&request);
    check_zimage(&request, &map);
    assert_eq!(map.dom0[0].start, Pa(0x0800_0000));
    assert!(map.heap.end.0 <= LOW_END, "{:?}", map.heap);
    // Nearly all RAM: then it begins at an odd place, and a newer kernel unpacks itself to that.
    let all = Request { dom0_mem: total(&ram) - 100 * MIB, ..request };
    let map = arrange(&all);
    check_zimage(&all, &map);
    assert_eq!(map.dom0[0].start, Pa(0x20_0000));
}
