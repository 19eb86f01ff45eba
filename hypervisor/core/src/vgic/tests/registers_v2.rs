//! The GICv2 distributor as drivers use it.

use super::*;

#[test]
fn reset_values() {
    let domain = Domain::new(V2, 4, 4);
    assert_eq!(domain.read(0, 0x000), 0);
    assert_eq!(domain.read(0, 0x004), 3 << 5 | 2, "4 CPUs, 96 INTIDs, no security extensions");
    assert_eq!(domain.read(0, 0x008), 0x5600_043b);
    assert_eq!(domain.read(0, 0x080), 0, "group 0: what a guest without groups uses");
    assert_eq!(domain.read(0, 0x100), 0xffff);
    assert_eq!(domain.read(0, 0x104), 0);
    assert_eq!(domain.read(0, 0xc00), 0xaaaa_aaaa);
    assert_eq!(domain.read(0, 0xc04), 0);
    assert_eq!(domain.read(0, 0xfe8) >> 4 & 0xf, 2, "ArchRev");
    let cidr = [0xff0, 0xff4, 0xff8, 0xffc].map(|offset| domain.read(0, offset));
    assert_eq!(cidr, [0x0d, 0xf0, 0x05, 0xb1]);
    for bank in 0..3 {
        assert_eq!(domain.read(0, 0x200 + 4 * bank), 0);
        assert_eq!(domain.read(0, 0x300 + 4 * bank), 0);
    }
}

#[test]
fn initialisation_as_linux_does_it() {
    let mut domain = Domain::new(V2, 4, 4);
    for vcpu in 0..4 {
        // The CPU mask is found in the targets of the private interrupts.
        for offset in (0..32).step_by(4) {
            assert_eq!(domain.read(vcpu, 0x800 + offset), 0x0101_0101 << vcpu);
        }
        domain.write(vcpu, 0x800, !0);
        assert_eq!(domain.read(vcpu, 0x800), 0x0101_0101 << vcpu, "read-only");
    }
    domain.write(0, 0, 0);
    for offset in (32..96).step_by(4) {
        domain.write(0, 0x800 + offset, 0x0101_0101);
        assert_eq!(domain.read(0, 0x800 + offset), 0x0101_0101);
        domain.write(0, 0x400 + offset, 0xa0a0_a0a0);
        assert_eq!(domain.read(0, 0x400 + offset), 0xa0a0_a0a0);
    }
    for offset in [8, 12, 16, 20] {
        domain.write(0, 0xc00 + offset, 0);
    }
    for bank in 1..3 {
        domain.write(0, 0x380 + 4 * bank, !0);
        domain.write(0, 0x180 + 4 * bank, !0);
        assert_eq!(domain.read(0, 0x100 + 4 * bank), 0);
    }
    domain.write(0, 0, 1);
    assert_eq!(domain.read(0, 0), 1);
    // Each CPU for itself.
    for vcpu in 0..4 {
        domain.write(vcpu, 0x380, !0);
        domain.write(vcpu, 0x180, 0xffff_0000);
        domain.write(vcpu, 0x100, 0xffff);
        assert_eq!(domain.read(vcpu, 0x100), 0xffff);
    }
    // A type is set, and read back to see whether that worked.
    domain.write(0, 0xc08, 2 << 2);
    assert_eq!(domain.read(0, 0xc08), 2 << 2);
    // An affinity is set by a byte.
    domain.vgic.dist_write(0, 0x800 + 50, 1, 4, &mut domain.host);
    assert_eq!(domain.vgic.dist_read(0, 0x800 + 50, 1), 4);
    assert_eq!(domain.read(0, 0x800 + 48), 0x0104_0101);
    domain.write(0, 0x104, 1 << 18);
    assert_eq!(domain.raise(0, 50), Some(2));
    assert_eq!(domain.drain(2), [50]);
}

#[test]
fn private_registers_are_banked() {
    let mut domain = Domain::ready(V2, 2, 4);
    domain.write(0, 0x180, 1 << 30);
    domain.vgic.dist_write(1, 0x400 + 30, 1, 0x47, &mut domain.host);
    assert_eq!(domain.read(0, 0x100), !(1 << 30));
    assert_eq!(domain.read(1, 0x100), !0);
    assert_eq!(domain.vgic.dist_read(0, 0x400 + 30, 1), 0xa0);
    assert_eq!(domain.vgic.dist_read(1, 0x400 + 30, 1), 0x40, "five bits of priority");
}

#[test]
fn a_lone_cpu_gets_all_spis_without_targets() {
    let mut domain = Domain::new(V2, 1, 4);
    domain.write(0, 0x104, !0);
    domain.write(0, 0, 1);
    assert_eq!(domain.raise(0, 40), Some(0));
    assert_eq!(domain.drain(0), [40]);
}

#[test]
fn pending_and_active_can_be_read_and_written() {
    let mut domain = Domain::ready(V2, 1, 4);
    domain.write(0, 0x204, 1 << 8);
    assert_eq!(domain.read(0, 0x204), 1 << 8);
    assert!(domain.enter(0));
    assert_eq!(domain.cpus[0].take_intid(), Some(40));
    domain.sync(0);
    assert_eq!((domain.read(0, 0x204), domain.read(0, 0x304)), (0, 1 << 8));
    domain.write(0, 0x384, 1 << 8);
    assert_eq!(domain.read(0, 0x304), 0);
    domain.write(0, 0x204, 1 << 8);
    domain.write(0, 0x284, 1 << 8);
    assert_eq!(domain.read(0, 0x204), 0);
    assert_eq!(domain.drain(0), []);
    // Set active (as a restored guest would), it can be ended like any other.
    domain.write(0, 0x300, 1 << 20);
    assert!(domain.enter(0));
    assert!(domain.cpus[0].end(20));
    domain.sync(0);
    assert_eq!(domain.read(0, 0x300), 0);
}

#[test]
fn sgis_have_pending_registers_of_their_own() {
    let mut domain = Domain::ready(V2, 3, 4);
    domain.write(0, 0x200, 0xffff);
    domain.write(0, 0x180, 0xffff);
    assert_eq!((domain.read(0, 0x200), domain.read(0, 0x100)), (0, 0xffff_0000), "but can be disabled");
    domain.write(0, 0x100, 0xffff);
    domain.vgic.dist_write(0, 0xf23, 1, 0b11_0110, &mut domain.host);
    assert_eq!(domain.read(0, 0xf20), 0b110 << 24, "sources that do not exist are dropped");
    domain.vgic.dist_write(0, 0xf13, 1, 0b100, &mut domain.host);
    assert_eq!(domain.vgic.dist_read(0, 0xf13, 1), 0b010);
    assert_eq!(domain.read(0, 0x200), 1 << 3);
    domain.write(0, 0xf10, !0);
    assert_eq!(domain.read(0, 0x200), 0);
    assert_eq!(domain.drain(0), []);
}

#[test]
fn an_sgi_withdrawn_from_a_list_register_is_not_delivered() {
    let mut domain = Domain::ready(V2, 2, 4);
    domain.write(1, 0xf00, 1 << 16 | 5);
    assert!(domain.enter(0));
    domain.sync(0);
    domain.write(0, 0xf14, !0);
    assert_eq!(domain.drain(0), []);
}

#[test]
fn unsupported_accesses_do_nothing() {
    let mut domain = Domain::ready(V2, 2, 4);
    let before = domain.read(0, 0x104);
    for (offset, size) in [(0x184, 1), (0x184, 2), (0x184, 8), (0x185, 4), (0x186, 4)] {
        domain.vgic.dist_write(0, offset, size, u64::MAX, &mut domain.host);
        assert_eq!(domain.vgic.dist_read(0, offset, size), 0);
    }
    assert_eq!(domain.read(0, 0x104), before);
    domain.write(0, 0x800 + 92, 0xffff_ffff);
    assert_eq!(domain.read(0, 0x800 + 92), 0x0303_0303, "only vCPUs that exist");
    domain.write(0, 0x10c, !0);
    assert_eq!(domain.read(0, 0x10c), 0, "no such interrupts");
    assert_eq!(domain.vgic.dist_read(0, 0x1_0000_0000, 4), 0);
}
