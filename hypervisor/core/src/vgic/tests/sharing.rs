//! Interrupts backed by physical ones, vCPUs that are switched, and state that is elsewhere.

use super::super::VgicError;
use super::*;

const TIMER: Intid = 27;
const DEVICE: Intid = 45;
const DEVICE_PHYSICAL: Intid = 145;

fn with_hardware(version: Version) -> Domain {
    let mut domain = Domain::ready(version, 2, 4);
    for vcpu in 0..2 {
        domain.vgic.set_hardware(vcpu, TIMER, Some(TIMER), &mut domain.host).unwrap();
    }
    domain.vgic.set_hardware(0, DEVICE, Some(DEVICE_PHYSICAL), &mut domain.host).unwrap();
    domain
}

#[test]
fn the_guest_deactivates_the_physical_interrupt() {
    for version in [V2, V3] {
        let mut domain = with_hardware(version);
        assert_eq!(domain.host.take(), [Effect::Route(145, 0), Effect::Edge(145, true), Effect::Enable(145)]);
        for intid in [TIMER, DEVICE] {
            assert!(domain.raise(0, intid).is_some());
            assert_eq!(domain.drain(0), [intid]);
        }
        assert_eq!(*domain.cpus[0].deactivated.borrow(), [TIMER, DEVICE_PHYSICAL]);
        assert_eq!(domain.host.take(), [], "nothing to do in software");
    }
}

#[test]
fn what_the_guest_configures_reaches_the_physical_interrupt() {
    let mut domain = with_hardware(V2);
    domain.host.take();
    domain.write(0, 0x184, 1 << 13);
    domain.write(0, 0x184, 1 << 13);
    domain.write(0, 0x104, 1 << 13);
    domain.write(0, 0xc08, 0);
    domain.vgic.dist_write(0, 0x800 + 45, 1, 2, &mut domain.host);
    let expected =
        [Effect::Disable(145), Effect::Enable(145), Effect::Edge(145, false), Effect::Route(145, 1)];
    assert_eq!(domain.host.take(), expected);
    // The timer's PPI is never touched.
    domain.write(0, 0x180, 1 << TIMER);
    domain.write(0, 0x100, 1 << TIMER);
    assert_eq!(domain.host.take(), []);
}

#[test]
fn state_written_by_the_guest_is_matched_by_the_physical_state() {
    let mut domain = with_hardware(V3);
    domain.host.take();
    let active = |on| [Effect::Active(0, DEVICE_PHYSICAL, on)];
    domain.write(0, 0x204, 1 << 13);
    assert_eq!(domain.host.take(), active(true));
    domain.write(0, 0x304, 1 << 13);
    assert_eq!(domain.host.take(), [], "already");
    domain.write(0, 0x284, 1 << 13);
    assert_eq!(domain.host.take(), [], "still active");
    domain.write(0, 0x384, 1 << 13);
    assert_eq!(domain.host.take(), active(false));
    let _ = domain.raise(0, DEVICE);
    domain.vgic.retract(0, DEVICE, &mut domain.host);
    assert_eq!(domain.host.take(), active(false));
    assert_eq!(domain.drain(0), []);
}

#[test]
fn a_backed_interrupt_made_pending_while_active() {
    let mut domain = with_hardware(V2);
    let _ = domain.raise(0, DEVICE);
    assert!(domain.enter(0));
    assert_eq!(domain.cpus[0].take_intid(), Some(DEVICE));
    domain.sync(0);
    domain.write(0, 0x204, 1 << 13);
    assert!(domain.enter(0));
    // The physical interrupt stays active until the second one is done.
    assert!(domain.cpus[0].end(DEVICE));
    assert!(domain.cpus[0].deactivated.borrow().is_empty());
    assert_eq!(domain.drain(0), [DEVICE]);
    assert_eq!(*domain.cpus[0].deactivated.borrow(), [DEVICE_PHYSICAL]);
}

#[test]
fn a_switched_out_timer_takes_its_active_state_along() {
    for version in [V2, V3] {
        let mut domain = with_hardware(version);
        let cpu = 0;
        let Domain { vgic, host, cpus } = &mut domain;
        let lists = &cpus[cpu];
        assert_eq!(vgic.hardware_active(0), 0);
        let _ = vgic.raise(0, TIMER);
        assert!(vgic.flush(0, lists, host));
        assert_eq!(lists.take_intid(), Some(TIMER));
        vgic.unload(0, lists, host);
        assert_eq!(lists.in_use(), [], "nothing of it is left for the next vCPU");
        assert_eq!(vgic.hardware_active(0), 1 << TIMER);
        assert!(!vgic.deliverable(0, 0xff), "active, so nothing to wake for");
        // The other vCPU has the timer meanwhile.
        assert!(vgic.flush(1, lists, host));
        assert_eq!(vgic.raise(1, TIMER), Some(1));
        assert!(vgic.flush(1, lists, host));
        assert_eq!(lists.take_intid(), Some(TIMER));
        assert!(lists.end(TIMER));
        vgic.unload(1, lists, host);
        assert_eq!(vgic.hardware_active(1), 0);
        // Back again: still active.
        assert!(vgic.flush(0, lists, host));
        assert_eq!(lists.find(TIMER).unwrap().state, LrState::Active);
        assert!(lists.end(TIMER));
        assert_eq!(*lists.deactivated.borrow(), [TIMER, TIMER]);
        vgic.unload(0, lists, host);
        assert_eq!(vgic.hardware_active(0), 0);
    }
}

#[test]
fn an_spi_of_a_switched_out_vcpu_can_move() {
    let mut domain = Domain::ready(V2, 2, 4);
    let _ = domain.raise(0, 50);
    assert!(domain.enter(0));
    domain.vgic.unload(0, &domain.cpus[0], &mut domain.host);
    domain.vgic.dist_write(1, 0x800 + 50, 1, 2, &mut domain.host);
    assert_eq!(domain.drain(1), [50]);
    assert_eq!(domain.drain(0), []);
}

#[test]
fn the_state_of_an_interrupt_on_another_vcpu_is_fetched() {
    for version in [V2, V3] {
        let mut domain = Domain::ready(version, 2, 4);
        let _ = domain.raise(0, 50);
        assert!(domain.enter(0));
        assert_eq!(domain.cpus[0].take_intid(), Some(50));
        // vCPU 1 wants to know whether it is active, as synchronize_irq does.
        assert_eq!(domain.vgic.needs_sync(1, 0x304), Some(0));
        assert_eq!(domain.vgic.needs_sync(1, 0x308), None);
        assert_eq!(domain.vgic.needs_sync(1, 0x104), None);
        domain.vgic.hold(0);
        assert!(domain.vgic.wants_flush(0));
        assert!(!domain.enter(0), "held");
        assert!(!domain.vgic.is_resident(0));
        assert_eq!(domain.vgic.needs_sync(1, 0x304), None);
        assert_eq!(domain.read(1, 0x304), 1 << 18);
        domain.write(1, 0x384, 1 << 18);
        assert!(!domain.enter(0));
        domain.vgic.release(0);
        assert!(domain.enter(0));
        assert_eq!(domain.cpus[0].in_use(), []);
        assert!(!domain.vgic.wants_flush(0));
    }
}

#[test]
fn private_state_is_fetched_too() {
    let mut v2 = Domain::ready(V2, 2, 4);
    let _ = v2.raise(0, TIMER);
    assert!(v2.enter(0));
    assert_eq!(v2.vgic.needs_sync(0, 0x200), Some(0));
    assert_eq!(v2.vgic.needs_sync(0, 0xf20), Some(0));
    assert_eq!(v2.vgic.needs_sync(1, 0x200), None);
    let mut v3 = Domain::ready(V3, 2, 4);
    let _ = v3.raise(0, TIMER);
    assert!(v3.enter(0));
    assert_eq!(v3.vgic.redist_needs_sync(0, 0x1_0200), Some(0));
    assert_eq!(v3.vgic.redist_needs_sync(1, 0x1_0200), None);
    assert_eq!(v3.vgic.redist_needs_sync(0, 0x1_0100), None);
    assert_eq!(v3.vgic.redist_needs_sync(0, 0x0200), None);
    assert_eq!(v3.vgic.needs_sync(0, 0x200), None);
}

#[test]
fn what_cannot_be_backed_is_refused() {
    let mut domain = Domain::ready(V3, 1, 4);
    let Domain { vgic, host, .. } = &mut domain;
    assert_eq!(vgic.set_hardware(0, 3, Some(3), host), Err(VgicError::Intid(3)));
    assert_eq!(vgic.set_hardware(0, 96, Some(96), host), Err(VgicError::Intid(96)));
    assert_eq!(vgic.set_hardware(5, TIMER, Some(TIMER), host), Err(VgicError::Intid(TIMER)));
    assert_eq!(vgic.set_hardware(0, TIMER, Some(50), host), Err(VgicError::Physical(50)));
    assert_eq!(vgic.set_hardware(0, 50, Some(TIMER), host), Err(VgicError::Physical(TIMER)));
    assert_eq!(vgic.set_hardware(0, 50, Some(1020), host), Err(VgicError::Physical(1020)));
    assert!(host.take().is_empty());
}

#[test]
fn a_line_held_high_is_dropped_when_hardware_takes_over() {
    let mut domain = Domain::ready(V3, 1, 4);
    domain.write(0, 0xc08, 0);
    let _ = domain.vgic.set_line(0, DEVICE, true);
    domain.vgic.set_hardware(0, DEVICE, Some(DEVICE_PHYSICAL), &mut domain.host).unwrap();
    assert!(!domain.host.take().contains(&Effect::Active(0, DEVICE_PHYSICAL, true)));
    assert_eq!(domain.drain(0), []);
    assert_eq!(domain.vgic.set_line(0, DEVICE, true), Some(0));
    assert_eq!(domain.drain(0), [DEVICE], "once, as the physical interrupt came once");
}

#[test]
fn hardware_is_given_back() {
    let mut domain = with_hardware(V3);
    let _ = domain.raise(0, DEVICE);
    domain.host.take();
    domain.vgic.release_hardware(&mut domain.host);
    let expected = [Effect::Disable(145), Effect::Active(0, 145, false)];
    assert_eq!(domain.host.take(), expected);
    domain.vgic.release_hardware(&mut domain.host);
    assert_eq!(domain.host.take(), []);
}
