//! A guest's accesses to its virtual GIC.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use vambrace_core::fake::FakeMachine;
use vambrace_core::machine::Intid;
use vambrace_core::vgic::{SgiRegister, Version, Vgic, VgicConfig, VgicHost};

use crate::few;

/// A host that notes nothing.
struct Deaf;

impl VgicHost for Deaf {
    fn kick(&mut self, _: usize) {}
    fn physical_enable(&mut self, _: Intid) {}
    fn physical_disable(&mut self, _: Intid) {}
    fn physical_set_edge(&mut self, _: Intid, _: bool) {}
    fn physical_route(&mut self, _: Intid, _: usize) {}
    fn physical_set_active(&mut self, _: usize, _: Intid, _: bool) {}
}

/// What a guest, or a device of its, does to its virtual GIC.
#[derive(Clone, Debug)]
enum Access {
    Read { vcpu: usize, offset: u64, size: u8 },
    Write { vcpu: usize, offset: u64, size: u8, value: u64 },
    Sgi { vcpu: usize, register: SgiRegister, value: u64 },
    Raise { vcpu: usize, intid: Intid },
    Line { vcpu: usize, intid: Intid, high: bool },
    Enter,
}

fn access() -> impl Strategy<Value = Access> {
    let vcpu = || prop_oneof![9 => 0_usize..3, 1 => any::<usize>()];
    let offset =
        || prop_oneof![6 => 0_u64..0x1000, 2 => 0x6000_u64..0x8000, 2 => 0_u64..0x2_0000, 1 => any::<u64>()];
    let size = || select(&[1_u8, 2, 4, 8][..]);
    let value = || prop_oneof![Just(0), Just(u64::MAX), any::<u64>()];
    let intid = || prop_oneof![9 => 0_u32..1024, 1 => any::<u32>()];
    let register = select(&[SgiRegister::Sgi1, SgiRegister::AliasSgi1, SgiRegister::Sgi0][..]);
    prop_oneof![
        (vcpu(), offset(), size()).prop_map(|(vcpu, offset, size)| Access::Read { vcpu, offset, size }),
        (vcpu(), offset(), size(), value()).prop_map(|(vcpu, offset, size, value)| Access::Write {
            vcpu,
            offset,
            size,
            value
        }),
        (vcpu(), register, value()).prop_map(|(vcpu, register, value)| Access::Sgi { vcpu, register, value }),
        (vcpu(), intid()).prop_map(|(vcpu, intid)| Access::Raise { vcpu, intid }),
        (vcpu(), intid(), any::<bool>()).prop_map(|(vcpu, intid, high)| Access::Line { vcpu, intid, high }),
        Just(Access::Enter),
    ]
}

proptest! {
    #![proptest_config(few(32))]

    #[test]
    fn virtual_gics(v3 in any::<bool>(), spis in 0_u32..989, accesses in vec(access(), 0..80)) {
        let version = if v3 { Version::V3 } else { Version::V2 };
        let machine = FakeMachine::with_ram(0x4000_0000, 0x1000);
        let config = VgicConfig { version, spis, priority_bits: 5, mpidrs: &[0, 1, 2] };
        let mut vgic = Vgic::new(config).unwrap();
        for access in accesses {
            // vCPU 0 is the one that runs.
            vgic.sync(0, &machine, &mut Deaf);
            match access {
                Access::Read { vcpu, offset, size } => {
                    vgic.needs_sync(vcpu, offset);
                    for value in [vgic.dist_read(vcpu, offset, size), vgic.redist_read(vcpu, offset, size)] {
                        prop_assert!(size == 8 || value >> (8 * size) == 0, "{value:#x} in {size} bytes");
                    }
                }
                Access::Write { vcpu, offset, size, value } => {
                    vgic.dist_write(vcpu, offset, size, value, &mut Deaf);
                    vgic.redist_write(vcpu, offset, size, value, &mut Deaf);
                }
                Access::Sgi { vcpu, register, value } => vgic.sgi_write(vcpu, register, value, &mut Deaf),
                Access::Raise { vcpu, intid } => {
                    if let Some(woken) = vgic.raise(vcpu, intid) {
                        prop_assert!(woken < 3);
                    }
                }
                Access::Line { vcpu, intid, high } => {
                    let _ = vgic.set_line(vcpu, intid, high);
                }
                Access::Enter => prop_assert!(vgic.flush(0, &machine, &mut Deaf), "nobody holds it"),
            }
        }
        vgic.unload(0, &machine, &mut Deaf);
    }
}
