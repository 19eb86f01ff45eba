//! From source to guest: pulses, levels, priorities, overflow, SGIs.

use super::super::SgiRegister;
use super::*;

const PPI: Intid = 20;
const EDGE: Intid = 40;
const LEVEL: Intid = 70;

/// Makes SPIs from 64 level-sensitive.
fn with_levels(version: Version, vcpus: usize, lists: usize) -> Domain {
    let mut domain = Domain::ready(version, vcpus, lists);
    domain.write(0, 0xc10, 0);
    domain.write(0, 0xc14, 0);
    domain.host = Host::default();
    domain
}

#[test]
fn an_edge_is_delivered_once() {
    for version in [V2, V3] {
        let mut domain = Domain::ready(version, 2, 4);
        assert_eq!(domain.raise(0, EDGE), Some(0));
        assert_eq!(domain.raise(0, EDGE), None, "already pending");
        assert!(domain.vgic.wants_flush(0) && !domain.vgic.wants_flush(1));
        assert!(domain.vgic.deliverable(0, 0xff) && !domain.vgic.deliverable(1, 0xff));
        assert!(domain.enter(0));
        let lr = domain.cpus[0].take().unwrap();
        assert_eq!((lr.intid, lr.priority, lr.group1), (EDGE, 0xa0, version == V3));
        assert!(domain.cpus[0].end(EDGE));
        assert!(!domain.cpus[0].maintenance(), "an edge needs no maintenance");
        domain.sync(0);
        assert!(!domain.vgic.deliverable(0, 0xff));
        assert_eq!(domain.drain(0), []);
        assert_eq!(domain.raise(1, PPI), Some(1));
        assert_eq!(domain.drain(1), [PPI]);
    }
}

#[test]
fn priority_mask_hides_what_is_less_urgent() {
    let mut domain = Domain::ready(V3, 1, 4);
    let _ = domain.raise(0, EDGE);
    assert!(domain.vgic.deliverable(0, 0xb0) && !domain.vgic.deliverable(0, 0xa0));
}

#[test]
fn an_edge_while_active_comes_again() {
    for version in [V2, V3] {
        let mut domain = Domain::ready(version, 1, 4);
        let _ = domain.raise(0, EDGE);
        assert!(domain.enter(0));
        assert_eq!(domain.cpus[0].take_intid(), Some(EDGE));
        assert_eq!(domain.raise(0, EDGE), Some(0), "the running vCPU must hear of it");
        domain.sync(0);
        assert!(!domain.vgic.deliverable(0, 0xff), "not while it is active");
        assert!(domain.enter(0));
        assert_eq!(domain.cpus[0].find(EDGE).unwrap().state, LrState::PendingAndActive);
        assert!(domain.cpus[0].end(EDGE));
        assert_eq!(domain.drain(0), [EDGE]);
    }
}

#[test]
fn an_edge_after_the_guest_was_done_but_not_seen_comes_again() {
    let mut domain = Domain::ready(V3, 1, 4);
    let _ = domain.raise(0, EDGE);
    assert!(domain.enter(0));
    assert_eq!(domain.cpus[0].take_intid(), Some(EDGE));
    assert!(domain.cpus[0].end(EDGE));
    assert_eq!(domain.raise(0, EDGE), Some(0));
    assert_eq!(domain.drain(0), [EDGE]);
}

#[test]
fn two_edges_before_the_guest_takes_one_are_one() {
    let mut domain = Domain::ready(V3, 1, 4);
    let _ = domain.raise(0, EDGE);
    assert!(domain.enter(0));
    let _ = domain.raise(0, EDGE);
    domain.sync(0);
    assert_eq!(domain.drain(0), [EDGE]);
}

#[test]
fn a_level_is_delivered_until_it_falls() {
    for version in [V2, V3] {
        let mut domain = with_levels(version, 1, 4);
        assert_eq!(domain.vgic.set_line(0, LEVEL, true), Some(0));
        assert_eq!(domain.vgic.set_line(0, LEVEL, true), None);
        assert!(domain.enter(0));
        for _ in 0..3 {
            assert_eq!(domain.cpus[0].take_intid(), Some(LEVEL));
            assert!(domain.cpus[0].end(LEVEL));
            assert!(domain.cpus[0].maintenance());
            domain.maintain(0);
        }
        assert_eq!(domain.cpus[0].take_intid(), Some(LEVEL));
        domain.sync(0);
        let _ = domain.vgic.set_line(0, LEVEL, false);
        assert!(domain.enter(0));
        assert!(domain.cpus[0].end(LEVEL));
        assert_eq!(domain.drain(0), []);
    }
}

#[test]
fn a_level_that_falls_after_it_was_taken_is_not_delivered_again() {
    let mut domain = with_levels(V2, 1, 4);
    let _ = domain.vgic.set_line(0, LEVEL, true);
    assert!(domain.enter(0));
    assert_eq!(domain.cpus[0].take_intid(), Some(LEVEL));
    // Whatever makes the list registers be written meanwhile must not make it pending in there.
    let _ = domain.raise(0, EDGE);
    domain.vgic.dist_write(0, 0x400 + u64::from(LEVEL), 1, 0x40, &mut domain.host);
    assert!(domain.enter(0));
    let lr = domain.cpus[0].find(LEVEL).unwrap();
    assert_eq!((lr.state, lr.eoi_maintenance), (LrState::Active, true));
}

#[test]
fn a_level_that_falls_before_it_is_taken_is_withdrawn() {
    let mut domain = with_levels(V3, 1, 4);
    let _ = domain.vgic.set_line(0, LEVEL, true);
    assert!(domain.enter(0));
    assert_eq!(domain.vgic.set_line(0, LEVEL, false), Some(0));
    assert!(domain.enter(0));
    assert_eq!(domain.cpus[0].in_use(), []);
}

#[test]
fn a_pulse_on_a_level_sensitive_interrupt_needs_no_maintenance() {
    let mut domain = with_levels(V3, 1, 4);
    let _ = domain.raise(0, LEVEL);
    assert!(domain.enter(0));
    assert!(!domain.cpus[0].find(LEVEL).unwrap().eoi_maintenance);
    assert_eq!(domain.drain(0), [LEVEL]);
}

#[test]
fn a_line_that_rises_on_an_edge_triggered_interrupt_is_an_edge() {
    let mut domain = Domain::ready(V2, 1, 4);
    assert_eq!(domain.vgic.set_line(0, EDGE, true), Some(0));
    assert_eq!(domain.drain(0), [EDGE]);
    assert_eq!(domain.vgic.set_line(0, EDGE, false), None);
    assert_eq!(domain.vgic.set_line(0, EDGE, true), Some(0));
    assert_eq!(domain.drain(0), [EDGE]);
}

#[test]
fn urgency_decides_and_nothing_is_lost_when_lists_overflow() {
    // The higher the INTID the more urgent, two of each priority.
    let priority = |intid: Intid| 0xf8 - (intid - 32) * 4;
    for version in [V2, V3] {
        for lists in [2, 4] {
            let mut domain = Domain::ready(version, 1, lists);
            let mut intids: Vec<Intid> = (32..72).collect();
            for &intid in &intids {
                let at = 0x400 + u64::from(intid);
                domain.vgic.dist_write(0, at, 1, priority(intid).into(), &mut domain.host);
                let _ = domain.raise(0, intid);
            }
            assert!(domain.enter(0));
            assert!(domain.cpus[0].underflow.get());
            assert!(domain.cpus[0].find(71).is_some() && domain.cpus[0].find(32).is_none());
            let got = domain.drain(0);
            assert!(!domain.cpus[0].underflow.get());
            intids.sort_by_key(|&intid| (priority(intid) & 0xf8, intid));
            assert_eq!(got, intids);
        }
    }
}

#[test]
fn an_active_interrupt_keeps_its_list_register() {
    let mut domain = Domain::ready(V3, 1, 2);
    domain.vgic.dist_write(0, 0x400 + 40, 1, 0xf0, &mut domain.host);
    let _ = domain.raise(0, 40);
    assert!(domain.enter(0));
    assert_eq!(domain.cpus[0].take_intid(), Some(40));
    for intid in 50..60 {
        let _ = domain.raise(0, intid);
    }
    assert!(domain.enter(0));
    assert!(domain.cpus[0].end(40), "the guest's EOI must find it");
    assert_eq!(domain.drain(0).len(), 10);
}

#[test]
fn disabled_while_pending_waits() {
    for version in [V2, V3] {
        let mut domain = Domain::ready(version, 1, 4);
        let _ = domain.raise(0, EDGE);
        assert!(domain.enter(0));
        domain.sync(0);
        domain.write(0, 0x184, 1 << (EDGE - 32));
        assert_eq!(domain.read(0, 0x104) & 1 << (EDGE - 32), 0);
        assert!(domain.enter(0));
        assert_eq!(domain.cpus[0].in_use(), []);
        assert_eq!(domain.read(0, 0x204), 1 << (EDGE - 32), "still pending");
        assert!(!domain.vgic.deliverable(0, 0xff));
        domain.write(0, 0x104, 1 << (EDGE - 32));
        assert_eq!(domain.drain(0), [EDGE]);
    }
}

#[test]
fn disabled_while_active_can_be_ended() {
    let mut domain = Domain::ready(V2, 1, 4);
    let _ = domain.raise(0, EDGE);
    assert!(domain.enter(0));
    assert_eq!(domain.cpus[0].take_intid(), Some(EDGE));
    domain.sync(0);
    domain.write(0, 0x184, !0);
    assert!(domain.enter(0));
    assert!(domain.cpus[0].end(EDGE));
    domain.sync(0);
    assert_eq!(domain.read(0, 0x304), 0);
}

#[test]
fn a_closed_distributor_or_group_delivers_nothing() {
    for version in [V2, V3] {
        let mut domain = Domain::ready(version, 1, 4);
        let own = if version == V2 { 1 } else { 2 };
        domain.write(0, 0, 3 ^ own);
        let _ = domain.raise(0, EDGE);
        let _ = domain.raise(0, PPI);
        assert_eq!(domain.drain(0), []);
        domain.write(0, 0, own);
        assert!(domain.host.kicked.contains(&0));
        assert_eq!(domain.drain(0), [PPI, EDGE]);
    }
}

#[test]
fn a_pending_spi_moves_with_its_target() {
    for version in [V2, V3] {
        let mut domain = Domain::ready(version, 2, 4);
        let to_1 = |domain: &mut Domain| match version {
            V2 => {
                let offset = 0x800 + u64::from(EDGE);
                domain.vgic.dist_write(0, offset, 1, 2, &mut domain.host);
            }
            V3 => domain.vgic.dist_write(0, 0x6000 + 8 * u64::from(EDGE), 8, 1, &mut domain.host),
        };
        let _ = domain.raise(0, EDGE);
        to_1(&mut domain);
        assert!(domain.host.kicked.contains(&1));
        assert_eq!(domain.drain(0), []);
        assert_eq!(domain.drain(1), [EDGE]);
    }
}

#[test]
fn an_spi_in_a_list_register_moves_when_it_can() {
    let mut domain = Domain::ready(V2, 2, 4);
    let _ = domain.raise(0, EDGE);
    assert!(domain.enter(0));
    // Not taken: it leaves with the next flush.
    domain.vgic.dist_write(1, 0x800 + u64::from(EDGE), 1, 2, &mut domain.host);
    assert_eq!(domain.drain(1), []);
    assert!(domain.host.kicked.contains(&0));
    domain.host.kicked.clear();
    assert!(domain.enter(0));
    assert!(domain.host.kicked.contains(&1));
    assert_eq!(domain.drain(1), [EDGE]);
    // Active: it stays until its end, then the next one goes to the new target.
    let _ = domain.raise(0, EDGE);
    assert!(domain.enter(1));
    assert_eq!(domain.cpus[1].take_intid(), Some(EDGE));
    domain.vgic.dist_write(1, 0x800 + u64::from(EDGE), 1, 1, &mut domain.host);
    assert!(domain.enter(1));
    assert_eq!(domain.raise(0, EDGE), Some(1));
    assert!(domain.cpus[1].end(EDGE));
    assert!(domain.enter(1));
    assert_eq!(domain.drain(0), [EDGE]);
    assert_eq!(domain.drain(1), []);
}

#[test]
fn an_untargeted_spi_waits() {
    let mut domain = Domain::ready(V2, 2, 4);
    domain.vgic.dist_write(0, 0x800 + u64::from(EDGE), 1, 0, &mut domain.host);
    assert_eq!(domain.raise(0, EDGE), None);
    assert_eq!(domain.drain(0), []);
    domain.vgic.dist_write(0, 0x800 + u64::from(EDGE), 1, 2, &mut domain.host);
    assert_eq!(domain.drain(1), [EDGE]);
}

#[test]
fn a_v2_sgi_is_delivered_once_per_source() {
    let mut domain = Domain::ready(V2, 4, 4);
    for source in [3, 1, 2, 1] {
        domain.write(source, 0xf00, 1 << 16 | 5);
    }
    assert_eq!(domain.host.kicked, BTreeSet::from([0]));
    assert_eq!(domain.read(0, 0xf24), 0b1110 << 8);
    assert_eq!(domain.read(0, 0x200), 1 << 5);
    let mut sources = Vec::new();
    for _ in 0..3 {
        assert!(domain.enter(0));
        domain.maintain(0);
        let lr = domain.cpus[0].take().unwrap();
        assert_eq!(lr.intid, 5);
        sources.push(lr.source);
        assert!(domain.cpus[0].end(5));
    }
    assert_eq!(sources, [1, 2, 3]);
    assert_eq!(domain.drain(0), []);
    domain.sync(0);
    assert_eq!(domain.read(0, 0xf24), 0);
}

#[test]
fn a_v2_sgi_from_the_same_and_another_source_while_active() {
    let mut domain = Domain::ready(V2, 3, 4);
    domain.write(1, 0xf00, 1 << 16 | 5);
    assert!(domain.enter(0));
    assert_eq!(domain.cpus[0].take().unwrap().source, 1);
    domain.write(1, 0xf00, 1 << 16 | 5);
    domain.write(2, 0xf00, 1 << 16 | 5);
    assert!(domain.enter(0));
    assert!(domain.cpus[0].end(5));
    let mut sources = Vec::new();
    loop {
        assert!(domain.enter(0));
        domain.maintain(0);
        let Some(lr) = domain.cpus[0].take() else { break };
        sources.push(lr.source);
        assert!(domain.cpus[0].end(5));
    }
    assert_eq!(sources, [1, 2]);
}

#[test]
fn v2_sgi_filters() {
    let mut domain = Domain::ready(V2, 4, 4);
    domain.write(2, 0xf00, 1 << 24 | 0xff << 16 | 1);
    assert_eq!(domain.host.kicked, BTreeSet::from([0, 1, 3]));
    domain.host.kicked.clear();
    domain.write(2, 0xf00, 2 << 24 | 2);
    assert_eq!(domain.host.kicked, BTreeSet::from([2]));
    domain.host.kicked.clear();
    domain.write(2, 0xf00, 3 << 24 | 0xff << 16 | 2);
    domain.write(2, 0xf00, 0xf0 << 16 | 2);
    assert!(domain.host.kicked.is_empty());
    assert_eq!(domain.drain(2), [2]);
    assert_eq!(domain.drain(3), [1]);
}

#[test]
fn v3_sgis_go_where_the_affinity_says() {
    let mut domain = Domain::ready(V3, 34, 4);
    let send = |domain: &mut Domain, register, value| {
        domain.host.kicked.clear();
        domain.vgic.sgi_write(1, register, value, &mut domain.host);
        domain.host.kicked.clone()
    };
    // Aff1 = 0, list 0b1001.
    assert_eq!(send(&mut domain, SgiRegister::Sgi1, 7 << 24 | 0b1001), BTreeSet::from([0, 3]));
    assert_eq!(domain.drain(3), [7]);
    // Aff1 = 2 has only two CPUs.
    assert_eq!(send(&mut domain, SgiRegister::Sgi1, 7 << 24 | 2 << 16 | 0xffff), BTreeSet::from([32, 33]));
    // Other Aff2, Aff3, range: nobody.
    for nobody in [1 << 32, 1 << 48, 1 << 44] {
        assert!(send(&mut domain, SgiRegister::Sgi1, nobody | 8 << 24 | 1).is_empty());
    }
    // IRM: all but the sender, whatever the list says.
    let all = send(&mut domain, SgiRegister::Sgi1, 1 << 40 | 9 << 24);
    assert_eq!(all.len(), 33);
    assert!(!all.contains(&1));
    // Group 0 registers do not reach group 1 SGIs; group 1's reaches both.
    assert!(send(&mut domain, SgiRegister::Sgi0, 10 << 24 | 1).is_empty());
    domain.write_private(0, 0x80, !(1 << 10));
    for register in [SgiRegister::Sgi0, SgiRegister::AliasSgi1, SgiRegister::Sgi1] {
        assert_eq!(send(&mut domain, register, 10 << 24 | 1), BTreeSet::from([0]));
        assert!(domain.drain(0).contains(&10));
    }
}

#[test]
fn nothing_queued_costs_nothing_and_unchanged_lists_are_not_written() {
    let mut domain = Domain::ready(V3, 1, 4);
    assert!(domain.enter(0));
    domain.sync(0);
    assert!(!domain.vgic.wants_flush(0));
    let lists = &domain.cpus[0];
    assert_eq!((lists.reads.get(), lists.writes.get()), (0, 0));
    let _ = domain.raise(0, EDGE);
    assert!(domain.enter(0));
    assert_eq!(domain.cpus[0].take_intid(), Some(EDGE));
    assert_eq!(domain.cpus[0].writes.get(), 1);
    for _ in 0..3 {
        domain.sync(0);
        domain.sync(0);
        assert!(domain.vgic.wants_flush(0), "else nobody would know that it runs");
        assert!(domain.enter(0));
    }
    assert_eq!((domain.cpus[0].reads.get(), domain.cpus[0].writes.get()), (3, 1));
}
