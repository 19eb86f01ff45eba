//! Everything at once, against a model that has no list registers.

use super::*;

/// xorshift64*: the same numbers every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, limit: usize) -> usize {
        ((self.next() >> 32) as usize) % limit
    }
}

/// What an interrupt must be, seen from outside.
#[derive(Clone, Copy, Default, Debug)]
struct Expected {
    /// Latched: it must come.
    must: bool,
    /// Raised while in a list register: whether that was before it was taken, only the hardware knows.
    may: bool,
    line: bool,
    active: bool,
}

/// INTIDs used besides [`SGI`]: PPIs, edge-triggered and level-sensitive SPIs, backed ones.
const PPI_EDGE: Intid = 20;
const PPI_LEVEL: Intid = 21;
const TIMER: Intid = 27;
const BACKED: Intid = 33;
const INTIDS: [Intid; 14] = [PPI_EDGE, PPI_LEVEL, TIMER, BACKED, 34, 35, 36, 40, 63, 64, 65, 70, 90, 95];
/// Sent by all to all; on GICv2 pending per source.
const SGI: Intid = 3;
const VCPUS: usize = 3;

struct World {
    domain: Domain,
    random: Random,
    /// Private ones per vCPU; SPIs in vCPU 0's.
    expected: Vec<Vec<Expected>>,
    /// SGIs, by receiver and sender (on GICv3 always 0).
    sgis: [[Expected; VCPUS]; VCPUS],
    /// What each guest is handling.
    handling: Vec<Vec<Intid>>,
    inside: Vec<bool>,
    /// Which physical SPI is active.
    physical: BTreeSet<Intid>,
}

fn is_level(intid: Intid) -> bool {
    intid == PPI_LEVEL || intid >= 64
}

fn is_backed(intid: Intid) -> bool {
    matches!(intid, TIMER | BACKED)
}

impl World {
    fn new(version: Version, lists: usize, seed: u64) -> Self {
        let mut domain = Domain::ready(version, VCPUS, lists);
        for vcpu in 0..VCPUS {
            domain.write_private(vcpu, 0xc04, 2 << (2 * (PPI_EDGE - 16)));
            domain.vgic.set_hardware(vcpu, TIMER, Some(TIMER), &mut domain.host).unwrap();
        }
        domain.write(0, 0xc10, 0);
        domain.write(0, 0xc14, 0);
        domain.vgic.set_hardware(0, BACKED, Some(133), &mut domain.host).unwrap();
        domain.host = Host::default();
        Self {
            domain,
            random: Random(seed),
            expected: vec![vec![Expected::default(); 128]; VCPUS],
            sgis: [[Expected::default(); VCPUS]; VCPUS],
            handling: vec![Vec::new(); VCPUS],
            inside: vec![false; VCPUS],
            physical: BTreeSet::new(),
        }
    }

    fn expect(&mut self, vcpu: usize, intid: Intid) -> &mut Expected {
        &mut self.expected[if intid < 32 { vcpu } else { 0 }][intid as usize]
    }

    /// The guest traps: its list registers are no longer the hardware's to change.
    fn leave(&mut self, vcpu: usize) {
        self.domain.sync(vcpu);
        self.inside[vcpu] = false;
        self.effects();
    }

    fn enter(&mut self, vcpu: usize) {
        assert!(self.domain.enter(vcpu));
        self.effects();
        self.inside[vcpu] = true;
    }

    /// The physical interrupt that backs the SPI.
    fn effects(&mut self) {
        for effect in self.domain.host.take() {
            match effect {
                Effect::Active(_, 133, true) => assert!(self.physical.insert(133)),
                Effect::Active(_, 133, false) => assert!(self.physical.remove(&133)),
                _ => {}
            }
        }
        for lists in &self.domain.cpus {
            for physical in lists.deactivated.borrow_mut().drain(..) {
                assert!(physical == TIMER || self.physical.remove(&physical), "{physical} was not active");
            }
        }
    }

    fn step(&mut self) {
        let vcpu = self.random.below(VCPUS);
        let intid = INTIDS[self.random.below(INTIDS.len())];
        let (bank, mask) = (u64::from(intid / 32) * 4, 1 << (intid % 32));
        match self.random.below(18) {
            0..3 => self.raise(vcpu, intid),
            3 if is_level(intid) => {
                let high = self.random.below(2) == 1;
                let _ = self.domain.vgic.set_line(vcpu, intid, high);
                self.expect(vcpu, intid).line = high;
            }
            4..7 => self.take(vcpu),
            7..10 => self.end(vcpu),
            10 => self.enter(vcpu),
            11 => {
                self.leave(vcpu);
                self.domain.vgic.unload(vcpu, &self.domain.cpus[vcpu], &mut self.domain.host);
                self.effects();
            }
            12 => {
                let offset = if self.random.below(3) == 0 { 0x180 } else { 0x100 };
                self.write_at(vcpu, intid, offset + bank, mask);
                let priority = self.random.next() & 0xff;
                if intid >= 32 {
                    let Domain { vgic, host, .. } = &mut self.domain;
                    vgic.dist_write(vcpu, 0x400 + u64::from(intid), 1, priority, host);
                }
            }
            13 if intid >= 32 => {
                let to = self.random.below(VCPUS) as u64;
                let Domain { vgic, host, .. } = &mut self.domain;
                match vgic.version() {
                    V2 => vgic.dist_write(vcpu, 0x800 + u64::from(intid), 1, 1 << to, host),
                    V3 => vgic.dist_write(vcpu, 0x6000 + 8 * u64::from(intid), 8, to, host),
                }
            }
            14 => {
                // Access to the state, by the protocol.
                for v in 0..VCPUS {
                    self.leave(v);
                }
                assert_eq!(self.domain.vgic.needs_sync(vcpu, 0x300 + bank), None);
                let offset = [0x200, 0x280][self.random.below(2)];
                self.write_at(vcpu, intid, offset + bank, mask);
                let expected = self.expect(vcpu, intid);
                expected.must = offset == 0x200;
                expected.may &= expected.must;
                self.effects();
            }
            15 => {
                self.leave(vcpu);
                let gate = if self.random.below(4) == 0 { 0 } else { 3 };
                self.domain.write(vcpu, 0, gate);
            }
            16 => self.send(vcpu),
            _ => {}
        }
        self.check();
    }

    fn write_at(&mut self, vcpu: usize, intid: Intid, offset: u64, value: u32) {
        if intid < 32 {
            self.domain.write_private(vcpu, offset, value);
        } else {
            self.domain.write(vcpu, offset, value);
        }
        self.effects();
    }

    fn raise(&mut self, vcpu: usize, intid: Intid) {
        if intid == BACKED && !self.physical.insert(133) {
            // The hardware does not raise what is still active.
            return;
        }
        if intid == TIMER && { *self.expect(vcpu, intid) }.active {
            return;
        }
        let _ = self.domain.raise(vcpu, intid);
        let expected = self.expect(vcpu, intid);
        // A level that is (or just was) high may be in a list register too.
        expected.may |= expected.must || is_level(intid);
        expected.must = true;
    }

    fn send(&mut self, vcpu: usize) {
        let to = self.random.below(VCPUS);
        let Domain { vgic, host, .. } = &mut self.domain;
        let from = match vgic.version() {
            V2 => {
                vgic.dist_write(vcpu, 0xf00, 4, 1 << (16 + to) | u64::from(SGI), host);
                vcpu
            }
            V3 => {
                let value = u64::from(SGI) << 24 | 1 << to;
                vgic.sgi_write(vcpu, super::super::SgiRegister::Sgi1, value, host);
                0
            }
        };
        let expected = &mut self.sgis[to][from];
        expected.may |= expected.must;
        expected.must = true;
    }

    fn take(&mut self, vcpu: usize) {
        if !self.inside[vcpu] {
            return;
        }
        if let Some(lr) = self.domain.cpus[vcpu].take() {
            let expected = self.expect(vcpu, lr.intid);
            assert!(!expected.active, "{} taken while active", lr.intid);
            expected.must = false;
            expected.active = true;
            if lr.intid == SGI {
                self.sgis[vcpu][usize::from(lr.source)].must = false;
            }
            self.handling[vcpu].push(lr.intid);
        }
    }

    fn end(&mut self, vcpu: usize) {
        if !self.inside[vcpu] {
            return;
        }
        if let Some(intid) = self.handling[vcpu].pop() {
            assert!(self.domain.cpus[vcpu].end(intid), "the end of {intid} is lost");
            self.expect(vcpu, intid).active = false;
            self.effects();
        }
    }

    /// What holds at any moment.
    fn check(&mut self) {
        let mut seen = BTreeSet::new();
        for (vcpu, lists) in self.domain.cpus.iter().enumerate() {
            for lr in lists.in_use() {
                assert!(seen.insert((if lr.intid < 32 { vcpu } else { 0 }, lr.intid)), "{lr:?} twice");
                assert!(lr.physical.is_none() || is_backed(lr.intid));
            }
        }
    }

    /// With everybody out of the guest, the registers say what the model says.
    fn compare(&mut self) {
        for vcpu in 0..VCPUS {
            self.leave(vcpu);
        }
        for vcpu in 0..VCPUS {
            for intid in INTIDS {
                let (bank, bit) = (u64::from(intid / 32) * 4, intid % 32);
                let read = |offset: u64| {
                    let word = match intid {
                        0..32 => self.domain.read_private(vcpu, offset + bank),
                        _ => self.domain.read(vcpu, offset + bank),
                    };
                    word >> bit & 1 == 1
                };
                let (pending, active) = (read(0x200), read(0x300));
                let expected = self.expect(vcpu, intid);
                assert_eq!(active, expected.active, "{intid} on {vcpu}: {expected:?}");
                let high = is_level(intid) && expected.line;
                let must = expected.must || high;
                assert!(pending || !must, "{intid} on {vcpu} lost: {expected:?}");
                assert!(must || expected.may || !pending, "{intid} on {vcpu} from nowhere: {expected:?}");
                if !high {
                    // Now it is known.
                    (expected.must, expected.may) = (pending, false);
                }
            }
        }
        for vcpu in 0..VCPUS {
            let active = self.domain.read_private(vcpu, 0x300) >> SGI & 1 == 1;
            assert_eq!(active, self.expected[vcpu][SGI as usize].active);
            let sources = match self.domain.vgic.version() {
                V2 => self.domain.read(vcpu, 0xf20) >> (8 * SGI),
                V3 => self.domain.read_private(vcpu, 0x200) >> SGI & 1,
            };
            for (source, expected) in self.sgis[vcpu].iter_mut().enumerate() {
                let pending = sources >> source & 1 == 1;
                assert!(pending || !expected.must, "SGI from {source} to {vcpu} lost");
                assert!(
                    !pending || expected.must || expected.may,
                    "SGI from {source} to {vcpu} from nowhere"
                );
                (expected.must, expected.may) = (pending, false);
            }
        }
        let backed = self.expected[0][BACKED as usize];
        if backed.active {
            assert!(self.physical.contains(&133), "the physical interrupt must be active");
        }
    }

    /// Opens everything; each interrupt that must come does come.
    fn finish(&mut self) {
        self.compare();
        for intid in INTIDS.into_iter().filter(|&intid| is_level(intid)) {
            for vcpu in 0..VCPUS {
                let _ = self.domain.vgic.set_line(vcpu, intid, false);
            }
        }
        for vcpu in 0..VCPUS {
            self.domain.write_private(vcpu, 0x100, !0);
        }
        self.domain.write(0, 0x104, !0);
        self.domain.write(0, 0x108, !0);
        self.domain.write(0, 0, 3);
        for vcpu in 0..VCPUS {
            self.enter(vcpu);
            while !self.handling[vcpu].is_empty() {
                self.end(vcpu);
            }
        }
        // Twice, since ending one may let an SPI move to a vCPU that was looked at before.
        let mut got = Vec::new();
        for _ in 0..2 {
            for vcpu in 0..VCPUS {
                let intids = self.domain.drain(vcpu);
                got.extend(intids.into_iter().map(|i| (if i < 32 { vcpu } else { 0 }, i)));
            }
        }
        for vcpu in 0..VCPUS {
            for intid in INTIDS {
                let expected = self.expected[vcpu][intid as usize];
                if expected.must {
                    assert!(got.contains(&(vcpu, intid)), "{intid} on {vcpu} never came");
                }
            }
            let sgis = got.iter().filter(|&&one| one == (vcpu, SGI)).count();
            assert_eq!(sgis, self.sgis[vcpu].iter().filter(|sgi| sgi.must).count());
            self.leave(vcpu);
            assert!(!self.domain.vgic.deliverable(vcpu, 0xff));
        }
        self.effects();
        assert!(self.physical.is_empty(), "the physical interrupt is stuck");
    }
}

#[test]
fn nothing_is_lost_or_made_up() {
    for version in [V2, V3] {
        for lists in [2, 4, 16] {
            for seed in 1..=12 {
                let mut world = World::new(version, lists, 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
                for step in 0..400 {
                    world.step();
                    if step % 8 == 0 {
                        world.compare();
                    }
                }
                world.finish();
            }
        }
    }
}

#[test]
fn no_access_panics() {
    for version in [V2, V3] {
        let mut random = Random(7);
        let mut domain = Domain::ready(version, 2, 4);
        let bases = [0, 0x80, 0x100, 0x200, 0x400, 0x7c0, 0x800, 0xbc0, 0xc00, 0xf00, 0x6000, 0x7f80, 0xffc0];
        for _ in 0..20_000 {
            let vcpu = random.below(4);
            let base = bases[random.below(bases.len())] + [0, 0x1_0000, 0x2_0000][random.below(3)];
            let offset = match random.below(50) {
                0 => random.next(),
                _ => base + random.below(0x80) as u64,
            };
            let size = random.below(10) as u8;
            let value = random.next();
            let Domain { vgic, host, cpus } = &mut domain;
            match random.below(12) {
                0..3 => vgic.dist_write(vcpu, offset, size, value, host),
                3 => drop(vgic.dist_read(vcpu, offset, size)),
                4..6 => vgic.redist_write(vcpu, offset, size, value, host),
                6 => drop(vgic.redist_read(vcpu, offset, size)),
                7 => vgic.sgi_write(vcpu, super::super::SgiRegister::Sgi1, value, host),
                8 => drop(vgic.raise(vcpu, random.below(1100) as Intid)),
                9 => drop(vgic.set_line(vcpu, random.below(1100) as Intid, value & 1 == 1)),
                10 => {
                    let _ = (vgic.needs_sync(vcpu, offset), vgic.redist_needs_sync(vcpu, offset));
                    let _ = (vgic.deliverable(vcpu, value as u8), vgic.hardware_active(vcpu));
                }
                _ => {
                    let lists = &cpus[vcpu & 1];
                    vgic.sync(vcpu & 1, lists, host);
                    let _ = vgic.flush(vcpu & 1, lists, host);
                    if let Some(intid) = lists.take_intid() {
                        lists.end(intid);
                    }
                }
            }
        }
    }
}
