//! A guest's hypercalls on event channels.

use proptest::collection::vec;
use proptest::prelude::*;
use vambrace_core::addr::Pa;
use vambrace_core::event::{Closed, EventChannels, OtherEnd};
use vambrace_core::fake::FakeMachine;

use crate::few;

/// A hypercall on event channels, with arguments as a guest gives them.
#[derive(Clone, Debug)]
enum Call {
    AllocUnbound(u16),
    Loop(u32),
    Virq(u32, u32),
    Ipi(u32),
    Close(u32),
    Send(u32),
    SendVirq(u32, u32),
    BindVcpu(u32, u32),
    Unmask(u32),
    Priority(u32, u32),
    Control(u32, u64, u32),
    Expand(u64),
    Register(u32, u64, u32),
    Reset,
}

/// RAM of the machine; the guest's shared page is its first.
const RAM: u64 = 0x4000_0000;
const RAM_BYTES: u64 = 0x10_0000;

fn call() -> impl Strategy<Value = Call> {
    let port = || prop_oneof![6 => 0_u32..12, 2 => 0_u32..4100, 1 => any::<u32>()];
    let small = || prop_oneof![6 => 0_u32..24, 1 => any::<u32>()];
    let page = || prop_oneof![8 => (0_u64..RAM_BYTES / 0x1000).prop_map(|page| RAM + page * 0x1000), 1 => any::<u64>()];
    prop_oneof![
        any::<u16>().prop_map(Call::AllocUnbound),
        port().prop_map(Call::Loop),
        (small(), small()).prop_map(|(virq, vcpu)| Call::Virq(virq, vcpu)),
        small().prop_map(Call::Ipi),
        port().prop_map(Call::Close),
        port().prop_map(Call::Send),
        (small(), small()).prop_map(|(vcpu, virq)| Call::SendVirq(vcpu, virq)),
        (port(), small()).prop_map(|(port, vcpu)| Call::BindVcpu(port, vcpu)),
        port().prop_map(Call::Unmask),
        (port(), small()).prop_map(|(port, priority)| Call::Priority(port, priority)),
        (small(), page(), small()).prop_map(|(vcpu, page, offset)| Call::Control(
            vcpu,
            page,
            offset.wrapping_mul(8)
        )),
        page().prop_map(Call::Expand),
        (small(), page(), small()).prop_map(|(vcpu, page, offset)| Call::Register(
            vcpu,
            page,
            offset.wrapping_mul(8)
        )),
        Just(Call::Reset),
    ]
}

proptest! {
    #![proptest_config(few(32))]

    #[test]
    fn event_channels(most in prop_oneof![Just(u32::MAX), 0_u32..200], calls in vec(call(), 0..80)) {
        const SELF: u16 = 1;
        let machine = FakeMachine::with_ram(RAM, RAM_BYTES);
        let mut events = EventChannels::new(SELF, Pa(RAM), 4, most);
        for call in calls {
            match call {
                Call::AllocUnbound(remote) => {
                    let _ = events.alloc_unbound(&machine, remote);
                }
                Call::Loop(port) => {
                    let _ = events.bind_interdomain(&machine, None, port);
                }
                Call::Virq(virq, vcpu) => {
                    let _ = events.bind_virq(&machine, virq, vcpu);
                }
                Call::Ipi(vcpu) => {
                    let _ = events.bind_ipi(&machine, vcpu);
                }
                Call::Close(port) => {
                    // Every port leads to this domain itself, so no other is ever needed.
                    if let Ok(closed) = events.close(&machine, port, OtherEnd::Unknown) {
                        prop_assert_eq!(closed, Closed::Done);
                    }
                }
                Call::Send(port) => {
                    let _ = events.send(&machine, port);
                }
                Call::SendVirq(vcpu, virq) => {
                    let _ = events.send_virq(&machine, vcpu, virq);
                }
                Call::BindVcpu(port, vcpu) => {
                    let _ = events.bind_vcpu(port, vcpu);
                }
                Call::Unmask(port) => {
                    let _ = events.unmask(&machine, port);
                }
                Call::Priority(port, priority) => {
                    let _ = events.set_priority(port, priority);
                }
                Call::Control(vcpu, page, offset) => {
                    let _ = events.init_control(&machine, vcpu, Some(Pa(page)), offset);
                }
                Call::Expand(page) => {
                    let _ = events.expand_array(&machine, Some(Pa(page)));
                }
                Call::Register(vcpu, page, offset) => {
                    let _ = events.register_vcpu_info(&machine, vcpu, Pa(page & !0xfff), offset);
                }
                Call::Reset => {
                    for port in 0..events.ports() {
                        let _ = events.close(&machine, port, OtherEnd::Unknown);
                    }
                    events.finish_reset();
                    prop_assert!(!events.is_fifo());
                }
            }
            for port in [0, 1, events.ports(), u32::MAX] {
                let _ = events.state(port);
                let _ = events.is_pending(&machine, port);
            }
            let limit = (u64::from(most) + 1).next_multiple_of(64);
            prop_assert!(u64::from(events.ports()) <= limit);
        }
    }
}
