//! The GICv3 distributor and redistributors as drivers use them.

use super::super::{SgiRegister, VgicError};
use super::*;

const SGI_FRAME: u64 = 0x1_0000;

#[test]
fn reset_values() {
    let domain = Domain::new(V3, 4, 4);
    assert_eq!(domain.read(0, 0x0000), 1 << 6 | 1 << 4, "one security state, affinity routing, RWP clear");
    assert_eq!(domain.read(0, 0x0004), 2 | 9 << 19 | 1 << 25);
    assert_eq!(domain.read(0, 0x0008), 0x5600_043b);
    assert_eq!(domain.read(0, 0x000c), 0);
    assert_eq!(domain.read(0, 0xffe8) >> 4 & 0xf, 3, "ArchRev");
    assert_eq!(domain.read(0, 0xfff0), 0x0d);
    for vcpu in 0..4 {
        assert_eq!(domain.vgic.redist_read(vcpu, 0xffe8, 4) >> 4 & 0xf, 3);
        assert_eq!(domain.vgic.redist_read(vcpu, 0x14, 4), 6, "asleep");
        assert_eq!(domain.vgic.redist_read(vcpu, 0, 4), 0, "no LPIs, RWP clear");
        assert_eq!(domain.read_private(vcpu, 0x100), 0);
        assert_eq!(domain.read_private(vcpu, 0xc00), 0xaaaa_aaaa);
    }
    assert_eq!(domain.read(0, 0x84), !0);
}

#[test]
fn typer_tells_of_far_affinities() {
    let typer = |mpidr: u64| {
        let config = VgicConfig { version: V3, spis: 32, priority_bits: 5, mpidrs: &[0, mpidr] };
        Vgic::new(config).unwrap().dist_read(0, 4, 4) as u32
    };
    let fixed = 1 | 9 << 19 | 1 << 25;
    assert_eq!(typer(0x8000_0001), fixed);
    assert_eq!(typer(1 << 32), fixed | 1 << 24);
    assert_eq!(typer(16), fixed | 1 << 26);
}

#[test]
fn redistributors_are_found_by_affinity() {
    let domain = Domain::new(V3, 18, 4);
    for vcpu in 0..18 {
        let typer = domain.vgic.redist_read(vcpu, 8, 8);
        let affinity = (vcpu as u64 >> 4) << 8 | (vcpu as u64 & 15);
        assert_eq!(typer >> 32, affinity);
        assert_eq!(typer >> 8 & 0xffff, vcpu as u64);
        assert_eq!(typer & 1 << 4 != 0, vcpu == 17, "Last");
        assert_eq!(typer & 0xf, 0, "no LPIs");
        assert_eq!(domain.vgic.redist_read(vcpu, 8, 4), typer & 0xffff_ffff);
        assert_eq!(domain.vgic.redist_read(vcpu, 12, 4), typer >> 32);
    }
    assert_eq!(domain.vgic.redist_read(18, 8, 8), 0);
}

#[test]
fn initialisation_as_linux_does_it() {
    let mut domain = Domain::new(V3, 4, 4);
    domain.write(0, 0, 0);
    for bank in 1..3 {
        domain.write(0, 0x80 + 4 * bank, !0);
        domain.write(0, 0x380 + 4 * bank, !0);
        domain.write(0, 0x180 + 4 * bank, !0);
    }
    for offset in (32..96).step_by(4) {
        domain.write(0, 0x400 + offset, 0xa0a0_a0a0);
    }
    domain.write(0, 0, 1 << 4 | 3);
    assert_eq!(domain.read(0, 0), 1 << 6 | 1 << 4 | 3);
    for intid in 32..96 {
        domain.vgic.dist_write(0, 0x6000 + 8 * intid, 8, 0, &mut domain.host);
    }
    for vcpu in 0..4 {
        domain.vgic.redist_write(vcpu, 0x14, 4, 4, &mut domain.host);
        assert_eq!(domain.vgic.redist_read(vcpu, 0x14, 4), 0, "awake at once");
        domain.write_private(vcpu, 0x80, !0);
        domain.write_private(vcpu, 0x380, !0);
        domain.write_private(vcpu, 0x180, !0);
        for offset in (0..32).step_by(4) {
            domain.write_private(vcpu, 0x400 + offset, 0xa0a0_a0a0);
            assert_eq!(domain.read_private(vcpu, 0x400 + offset), 0xa0a0_a0a0);
        }
        domain.write_private(vcpu, 0x100, 1 << 27 | 1);
        assert_eq!(domain.read_private(vcpu, 0x180), 1 << 27 | 1);
        domain.write_private(vcpu, 0xc04, 2 << 22);
        assert_eq!(domain.read_private(vcpu, 0xc04), 2 << 22);
    }
    domain.vgic.dist_write(0, 0x6000 + 8 * 40, 8, 3, &mut domain.host);
    assert_eq!(domain.vgic.dist_read(0, 0x6000 + 8 * 40, 8), 3);
    domain.write(0, 0x104, 1 << 8);
    assert_eq!(domain.raise(0, 40), Some(3));
    assert_eq!(domain.raise(2, 27), Some(2));
    assert_eq!(domain.drain(3), [40]);
    assert_eq!(domain.drain(2), [27]);
    domain.vgic.redist_write(1, 0x14, 4, 2, &mut domain.host);
    assert_eq!(domain.vgic.redist_read(1, 0x14, 4), 6);
}

#[test]
fn private_interrupts_are_not_in_the_distributor() {
    let mut domain = Domain::ready(V3, 2, 4);
    assert_eq!(domain.read(0, 0x100), 0);
    assert_eq!(domain.read(0, 0x400), 0);
    assert_eq!(domain.read(0, 0xc00), 0);
    assert_eq!(domain.read(0, 0x820), 0, "no target masks");
    domain.write(0, 0x180, !0);
    assert_eq!(domain.read_private(0, 0x100), !0);
    domain.write(0, 0xf00, 1 << 24);
    assert!(domain.host.kicked.is_empty(), "no GICD_SGIR");
    // Nor SPIs in a redistributor.
    assert_eq!(domain.vgic.redist_read(0, SGI_FRAME + 0x104, 4), 0);
    assert_eq!(domain.vgic.redist_read(0, SGI_FRAME + 0x420, 4), 0);
}

#[test]
fn a_redistributor_can_be_used_by_others() {
    let mut domain = Domain::ready(V3, 2, 4);
    domain.vgic.redist_write(1, SGI_FRAME + 0x200, 4, 1 << 9, &mut domain.host);
    assert_eq!(domain.host.kicked, BTreeSet::from([1]));
    assert_eq!(domain.read_private(1, 0x200), 1 << 9, "SGIs can be set pending");
    assert_eq!(domain.read_private(0, 0x200), 0);
    assert_eq!(domain.drain(1), [9]);
}

#[test]
fn routes_by_halves_and_to_nobody() {
    let config = VgicConfig { version: V3, spis: 988, priority_bits: 5, mpidrs: &[0, 0x12_0000_3456] };
    let mut vgic = Vgic::new(config).unwrap();
    let mut host = Host::default();
    let offset = 0x6000 + 8 * 1019;
    vgic.dist_write(0, offset, 4, 0x8000_3456, &mut host);
    vgic.dist_write(0, offset + 4, 4, 0x12, &mut host);
    assert_eq!(vgic.dist_read(0, offset, 8), 0x12_0000_3456, "bit 31, any CPU, is not offered");
    assert_eq!(vgic.dist_read(0, offset + 4, 4), 0x12);
    vgic.dist_write(0, 0, 4, 2, &mut host);
    vgic.dist_write(0, 0x17c, 4, !0, &mut host);
    assert_eq!(vgic.dist_read(0, 0x17c, 4), 0x0fff_ffff, "INTIDs 1020 to 1023 do not exist");
    assert_eq!(vgic.raise(0, 1019), Some(1));
    assert_eq!(vgic.raise(0, 1020), None);
    vgic.dist_write(0, offset, 8, 7, &mut host);
    assert!(!vgic.deliverable(0, 0xff) && !vgic.deliverable(1, 0xff));
    vgic.dist_write(0, offset + 8, 8, 7, &mut host);
    assert_eq!(vgic.dist_read(0, offset + 8, 8), 0);
    assert_eq!(vgic.intid_limit(), 1020);
}

#[test]
fn unreasonable_configurations_are_refused() {
    let new = |version, spis, priority_bits, mpidrs: &[u64]| {
        Vgic::new(VgicConfig { version, spis, priority_bits, mpidrs }).map(|_| ())
    };
    assert_eq!(new(V2, 32, 5, &[]), Err(VgicError::Vcpus(0)));
    assert_eq!(new(V2, 32, 5, &[0; 9]), Err(VgicError::Vcpus(9)));
    assert_eq!(new(V3, 32, 5, &[0; 129]), Err(VgicError::Vcpus(129)));
    assert_eq!(new(V3, 989, 5, &[0]), Err(VgicError::Spis(989)));
    assert_eq!(new(V3, 32, 9, &[0]), Err(VgicError::PriorityBits(9)));
    assert_eq!(new(V3, 0, 8, &[0; 128]), Ok(()));
}

/// The largest guest: eight clusters of sixteen vCPUs, the last of which is reached by SGI, by SPI and by its frame.
#[test]
fn the_last_of_128_vcpus_is_reached() {
    let mut domain = Domain::ready(V3, 128, 4);
    let last = 127;
    let typer = domain.vgic.redist_read(last, 8, 8);
    assert_eq!((typer >> 32, typer & 0xff_ff10), (0x70f, 127 << 8 | 1 << 4), "affinity, number, Last");
    assert_eq!(domain.vgic.redist_read(last - 1, 8, 8) & 1 << 4, 0);
    domain.host.kicked.clear();
    // Aff1 7, Aff0 15.
    domain.vgic.sgi_write(0, SgiRegister::Sgi1, 3 << 24 | 7 << 16 | 1 << 15, &mut domain.host);
    assert_eq!(domain.host.kicked.iter().copied().collect::<Vec<_>>(), [last]);
    assert_eq!(domain.drain(last), [3]);
    domain.vgic.dist_write(0, 0x6000 + 8 * 40, 8, 0x70f, &mut domain.host);
    assert_eq!(domain.vgic.raise(0, 40), Some(last));
    assert_eq!(domain.drain(last), [40]);
    // To all but itself.
    domain.host.kicked.clear();
    domain.vgic.sgi_write(last, SgiRegister::Sgi1, 1 << 40 | 5 << 24, &mut domain.host);
    assert_eq!(domain.host.kicked.len(), 127);
    assert!(!domain.host.kicked.contains(&last));
    // An affinity that none of them has.
    domain.host.kicked.clear();
    domain.vgic.sgi_write(0, SgiRegister::Sgi1, 3 << 24 | 8 << 16 | 1, &mut domain.host);
    assert!(domain.host.kicked.is_empty());
}
