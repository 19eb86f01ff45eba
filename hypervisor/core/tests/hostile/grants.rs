//! Grant tables full of whatever guests write, and whatever others ask of them.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use vambrace_core::addr::{PAGE_SIZE, Pa, PaRange};
use vambrace_core::fake::FakeMachine;
use vambrace_core::frames::Frames;
use vambrace_core::grant::{GrantTable, Mapping, Pages, Swept, Want, copy};
use vambrace_core::machine::Memory;

use crate::few;

const RAM: u64 = 0x4000_0000;
const RAM_BYTES: u64 = 0x40_0000;
/// The granter, and who maps.
const GRANTER: u16 = 1;
const USER: u16 = 2;
/// Pages of the granter's.
const PAGES: u64 = 8;

#[derive(Clone, Debug)]
enum Step {
    /// The guest writes a word of its table, or its status.
    Write {
        frame: usize,
        word: u64,
        value: u32,
    },
    Map {
        entry: u32,
        by: u16,
        write: bool,
    },
    Unmap {
        which: usize,
    },
    Copy {
        from: u32,
        to: u32,
        offset: u16,
        length: u16,
    },
    SetVersion(u32),
    Swap(u32, u32),
    Grow(u64),
    GiveBack(u64),
    End,
}

fn step() -> impl Strategy<Value = Step> {
    let entry = || prop_oneof![8 => 0_u32..12, 1 => 0_u32..3000, 1 => any::<u32>()];
    // Flags and domain of a good entry, frame numbers, anything.
    let value = || {
        prop_oneof![
            4 => (0_u32..32).prop_map(|flags| u32::from(USER) << 16 | flags << 2 | 1),
            3 => 0..PAGES as u32 + 2,
            1 => any::<u32>()
        ]
    };
    prop_oneof![
        12 => (0_usize..4, 0_u64..48, value())
            .prop_map(|(frame, word, value)| Step::Write { frame, word, value }),
        8 => (entry(), prop_oneof![9 => Just(USER), 1 => any::<u16>()], any::<bool>())
            .prop_map(|(entry, by, write)| Step::Map { entry, by, write }),
        6 => any::<usize>().prop_map(|which| Step::Unmap { which }),
        4 => (entry(), entry(), any::<u16>(), any::<u16>())
            .prop_map(|(from, to, offset, length)| Step::Copy { from, to, offset, length }),
        2 => prop_oneof![9 => 1_u32..3, 1 => any::<u32>()].prop_map(Step::SetVersion),
        1 => (entry(), entry()).prop_map(|(a, b)| Step::Swap(a, b)),
        2 => prop_oneof![9 => 0_u64..6, 1 => any::<u64>(), 1 => Just(1 << 31)].prop_map(Step::Grow),
        2 => (0..PAGES).prop_map(Step::GiveBack),
        1 => Just(Step::End),
    ]
}

/// The granter's memory: what it has at which frame number.
struct Granter<'a> {
    frames: &'a mut Frames,
    map: &'a BTreeMap<u64, Pa>,
}

impl Pages for Granter<'_> {
    fn hold(&mut self, frame: u64, _write: bool) -> Result<Pa, i16> {
        let page = *self.map.get(&frame).ok_or(-9_i16)?;
        self.frames.hold(page, GRANTER).map_err(|_| -9_i16)?;
        Ok(page)
    }

    fn put(&mut self, page: Pa) {
        self.frames.put(page);
    }
}

proptest! {
    #![proptest_config(few(64))]

    #[test]
    fn grants(steps in vec(step(), 0..120)) {
        let machine = FakeMachine::with_ram(RAM, RAM_BYTES);
        let ram = PaRange::new(Pa(RAM), RAM_BYTES).unwrap();
        let mut frames = Frames::new(&[ram]);
        frames.release(ram).unwrap();
        let whole = frames.free_frames();
        let mut map: BTreeMap<u64, Pa> =
            (0..PAGES).map(|n| (n, frames.allocate_for(GRANTER, 0).unwrap())).collect();
        let (mut table, mut user) = (GrantTable::new(4, 0), GrantTable::new(1, 1));
        let zeroed = |frames: &mut Frames, owner| {
            let frame = frames.allocate_for(owner, 0)?;
            machine.zero(frame, PAGE_SIZE).ok().map(|()| frame)
        };
        table.frame(0, || zeroed(&mut frames, GRANTER)).unwrap();
        let mut live = Vec::new();
        for step in steps {
            match step {
                Step::Write { frame, word, value } => {
                    if let Some(frame) = table.frames().nth(frame) {
                        machine.set_word(frame.offset(word * 4), value);
                    }
                }
                Step::Map { entry, by, write } => {
                    let Ok(handle) = user.maptrack.reserve(&machine, || zeroed(&mut frames, USER)) else { continue };
                    let want = Want { by, write, whole: true };
                    let pinned =
                        table.pin(&machine, entry, want, &mut Granter { frames: &mut frames, map: &map });
                    match pinned {
                        Ok(granted) => {
                            let mapping = Mapping {
                                granter: GRANTER,
                                reference: entry,
                                page: granted.page,
                                at: Default::default(),
                                writable: write,
                            };
                            user.maptrack.commit(&machine, handle, mapping);
                            live.push((handle, mapping));
                        }
                        Err(status) => {
                            prop_assert!((-13..0).contains(&status));
                            user.maptrack.release(&machine, handle);
                        }
                    }
                }
                Step::Unmap { which } => {
                    if live.is_empty() {
                        continue;
                    }
                    let (handle, mapping) = live.swap_remove(which % live.len());
                    prop_assert_eq!(user.maptrack.claim(&machine, handle), Some(mapping));
                    let mut granter = Granter { frames: &mut frames, map: &map };
                    prop_assert!(table.unpin(&machine, mapping.reference, mapping.writable, &mut granter));
                    user.maptrack.release(&machine, handle);
                }
                Step::Copy { from, to, offset, length } => {
                    let mut granter = Granter { frames: &mut frames, map: &map };
                    let want = |write| Want { by: USER, write, whole: false };
                    let Ok(source) = table.pin(&machine, from, want(false), &mut granter) else { continue };
                    if let Ok(dest) = table.pin(&machine, to, want(true), &mut granter) {
                        let _ = copy(&machine, source, offset, dest, offset % 64, length);
                        prop_assert!(table.unpin(&machine, to, true, &mut granter));
                    }
                    prop_assert!(table.unpin(&machine, from, false, &mut granter));
                }
                Step::SetVersion(version) => {
                    let _ = table.set_version(&machine, version, || zeroed(&mut frames, GRANTER));
                }
                Step::Swap(a, b) => {
                    let _ = table.swap(&machine, a, b);
                }
                Step::Grow(index) => {
                    let _ = table.frame(index, || zeroed(&mut frames, GRANTER));
                    prop_assert!(table.size().0 <= 4);
                }
                Step::GiveBack(frame) => {
                    if let Some(page) = map.remove(&frame) {
                        frames.put(page);
                    }
                }
                Step::End => {
                    table.take_frames().for_each(|frame| frames.put(frame));
                }
            }
            let mut users: BTreeMap<u32, (u16, u16)> = BTreeMap::new();
            for (_, mapping) in &live {
                prop_assert_eq!(frames.owner(mapping.page), Some(GRANTER));
                let users = users.entry(mapping.reference).or_default();
                *(if mapping.writable { &mut users.1 } else { &mut users.0 }) += 1;
            }
            prop_assert_eq!(table.pinned() as usize, users.len());
            for (entry, users) in users {
                prop_assert_eq!(table.users(&machine, entry), users);
            }
        }
        // The granter ends, then the user.
        table.take_frames().for_each(|frame| frames.put(frame));
        for page in map.values() {
            frames.put(*page);
        }
        map.clear();
        while let Some(swept) = user.maptrack.sweep(&machine, 16) {
            if let Swept::Handle(handle, mapping) = swept {
                let mut granter = Granter { frames: &mut frames, map: &map };
                prop_assert!(table.unpin(&machine, mapping.reference, mapping.writable, &mut granter));
                user.maptrack.release(&machine, handle);
            }
        }
        user.take_frames().for_each(|frame| frames.put(frame));
        prop_assert_eq!(frames.free_frames(), whole);
    }
}
