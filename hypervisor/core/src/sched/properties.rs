//! Random operations keep what the scheduler promises.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::mask::each;
use super::*;

const CPUS: usize = 4;
const DOMAINS: u16 = 4;
const VCPUS: u16 = 2;

#[derive(Clone, Copy, Debug)]
enum Op {
    Wake(VcpuKey),
    Online(VcpuKey),
    Pause(VcpuKey),
    Unpause(VcpuKey),
    Remove(VcpuKey),
    Affinity(VcpuKey, Option<CpuMask>, Option<CpuMask>),
    Weight(u16, u16),
    Cap(u16, u16),
    Ratelimit(u32, u32),
    CreatePool(u32),
    DestroyPool(u32),
    AddCpu(u32, CpuId),
    RemoveCpu(u32, CpuId),
    Move(u16, u32),
    /// The vCPU on the CPU blocks, or is switched off.
    Leave(CpuId, Leave),
    /// Time goes on, and timers fire.
    Time(u64),
}

fn key() -> impl Strategy<Value = VcpuKey> {
    (0..DOMAINS, 0..VCPUS).prop_map(|(domain, vcpu)| VcpuKey { domain, vcpu })
}

fn op() -> impl Strategy<Value = Op> {
    let mask = || prop::option::of(1..(1u128 << CPUS));
    prop_oneof![
        8 => key().prop_map(Op::Wake),
        3 => key().prop_map(Op::Online),
        2 => key().prop_map(Op::Pause),
        3 => key().prop_map(Op::Unpause),
        1 => key().prop_map(Op::Remove),
        2 => (key(), mask(), mask()).prop_map(|(k, h, s)| Op::Affinity(k, h, s)),
        1 => (0..DOMAINS, 0..1000u16).prop_map(|(d, w)| Op::Weight(d, w)),
        2 => (0..DOMAINS, prop_oneof![Just(0), 1..250u16]).prop_map(|(d, c)| Op::Cap(d, c)),
        1 => (0..3u32, prop_oneof![Just(0), 90..5000u32]).prop_map(|(p, r)| Op::Ratelimit(p, r)),
        1 => (0..3u32).prop_map(Op::CreatePool),
        1 => (0..3u32).prop_map(Op::DestroyPool),
        2 => (0..3u32, 0..=CPUS).prop_map(|(p, c)| Op::AddCpu(p, c)),
        1 => (0..3u32, 0..=CPUS).prop_map(|(p, c)| Op::RemoveCpu(p, c)),
        1 => (0..DOMAINS, 0..3u32).prop_map(|(d, p)| Op::Move(d, p)),
        6 => (0..CPUS, prop_oneof![4 => Just(Leave::Blocked), 1 => Just(Leave::Offline)])
            .prop_map(|(c, l)| Op::Leave(c, l)),
        6 => (1..20_000u64).prop_map(Op::Time),
    ]
}

/// What a vCPU wants, as its guest and the toolstack see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wish {
    Off,
    Sleep,
    Run,
}

struct World {
    s: Scheduler<()>,
    now: u64,
    running: [Option<VcpuKey>; CPUS],
    wishes: BTreeMap<VcpuKey, (Wish, u32)>,
}

impl World {
    fn new() -> Self {
        let s = Scheduler::new(CPUS, 1_000_000);
        let mut world = Self { s, now: 0, running: [None; CPUS], wishes: BTreeMap::new() };
        (0..CPUS).for_each(|cpu| world.s.cpu_online(cpu));
        for domain in 0..DOMAINS {
            for vcpu in 0..VCPUS {
                let key = VcpuKey { domain, vcpu };
                world.s.add(key, Arc::new(()), CpuMask::MAX, DEFAULT_WEIGHT);
                world.wishes.insert(key, (Wish::Off, 0));
            }
        }
        world
    }

    fn leave(&mut self, cpu: CpuId, how: Leave) {
        if let Some(key) = self.running[cpu].take() {
            if let Some((wish, _)) = self.wishes.get_mut(&key) {
                match how {
                    Leave::Preempted => {}
                    Leave::Blocked => *wish = Wish::Sleep,
                    Leave::Offline => *wish = Wish::Off,
                }
            }
            let (_, kicks) = self.s.leave(cpu, how, self.now);
            self.kick(kicks | bit(cpu));
        }
    }

    /// What kicked CPUs do: an idle one picks, a busy one looks at what is demanded. No other CPU does anything.
    fn kick(&mut self, mut kicks: CpuMask) {
        while let Some(cpu) = lowest(kicks) {
            kicks &= !bit(cpu);
            if cpu >= CPUS {
                continue;
            }
            if self.running[cpu].is_some() && self.s.demand(cpu) == Demand::Leave {
                self.running[cpu] = None;
                kicks |= self.s.leave(cpu, Leave::Preempted, self.now).1;
            }
            if self.running[cpu].is_none() {
                let (turn, more) = self.s.pick(cpu, self.now);
                self.running[cpu] = turn.map(|turn| turn.key);
                kicks |= more;
            }
        }
    }

    fn carry_out(&mut self, op: Op) {
        let (s, now) = (&self.s, self.now);
        let kicks = match op {
            Op::Wake(key) => {
                self.wishes.entry(key).and_modify(|(wish, _)| {
                    if *wish == Wish::Sleep {
                        *wish = Wish::Run;
                    }
                });
                s.wake(key, now).map_or(0, bit)
            }
            Op::Online(key) => {
                self.wishes.entry(key).and_modify(|(wish, _)| *wish = Wish::Run);
                s.bring_online(key, now).map_or(0, bit)
            }
            Op::Pause(key) => {
                self.wishes.entry(key).and_modify(|(_, pauses)| *pauses += 1);
                s.pause(key, now).map_or(0, bit)
            }
            Op::Unpause(key) => {
                self.wishes.entry(key).and_modify(|(_, pauses)| *pauses = pauses.saturating_sub(1));
                s.unpause(key, now).map_or(0, bit)
            }
            Op::Remove(key) => {
                self.wishes.remove(&key);
                s.remove(key).map_or(0, bit)
            }
            Op::Affinity(key, hard, soft) => {
                s.set_affinity(key, hard, soft, now).ok().flatten().map_or(0, bit)
            }
            Op::Weight(domain, weight) => s.set_weight(domain, weight, now).unwrap_or(0),
            Op::Cap(domain, cap) => s.set_cap(domain, cap, now).unwrap_or(0),
            Op::Ratelimit(pool, us) => {
                let _ = s.set_ratelimit(pool, us);
                0
            }
            Op::CreatePool(pool) => {
                let _ = s.create_pool(Some(pool));
                0
            }
            Op::DestroyPool(pool) => {
                let _ = s.destroy_pool(pool);
                0
            }
            Op::AddCpu(pool, cpu) => s.add_pool_cpu(pool, Some(cpu), now).unwrap_or(0),
            Op::RemoveCpu(pool, cpu) => s.remove_pool_cpu(pool, Some(cpu), now).unwrap_or(0),
            Op::Move(domain, pool) => s.move_domain(domain, pool, now).unwrap_or(0),
            Op::Leave(cpu, how) => return self.leave(cpu, how),
            Op::Time(span) => return self.pass(span),
        };
        self.kick(kicks);
    }

    fn pass(&mut self, span: u64) {
        let end = self.now + span;
        for _ in 0..1000 {
            let next = (0..CPUS).filter_map(|cpu| self.s.slice_end(cpu)).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at) + 1;
            for cpu in 0..CPUS {
                if self.s.slice_end(cpu).is_some_and(|at| at <= self.now) {
                    let kicks = self.s.slice_over(cpu, self.now);
                    self.kick(kicks | bit(cpu));
                }
            }
        }
        self.now = self.now.max(end);
    }

    fn check(&self) {
        let mut seen: Vec<VcpuKey> = Vec::new();
        let state = self.s.state.lock();
        for (cpu, running) in self.running.iter().enumerate() {
            assert_eq!(state.cpus[cpu].current, *running);
            if let Some(key) = running {
                assert!(!seen.contains(key), "{key:?} on two CPUs");
                seen.push(*key);
                let unit = &state.units[key];
                assert_eq!((unit.status, unit.place, unit.pauses), (Status::Running(cpu), None, 0));
                let pool = &state.pools[&state.groups[&key.domain].pool];
                assert!(pool.cpus & bit(cpu) != 0, "{key:?} out of its pool on {cpu}");
                assert!(unit.hard & bit(cpu) != 0, "{key:?} out of its affinity {:#x} on {cpu}", unit.hard);
                assert_eq!(self.wishes[key].0, Wish::Run);
            }
        }
        let mut waiting = [0u32; CPUS];
        for (id, pool) in &state.pools {
            assert_eq!(
                pool.domains as usize,
                state.groups.values().filter(|group| group.pool == *id).count()
            );
            for (place, entry) in &pool.queue {
                let key = &entry.key;
                assert!(!seen.contains(key), "{key:?} in two places");
                seen.push(*key);
                let unit = &state.units[key];
                assert_eq!(
                    (unit.place, unit.vruntime, unit.status),
                    (Some(*place), place.0, Status::Runnable)
                );
                assert_eq!(state.groups[&key.domain].pool, *id);
                assert!(entry.allowed != 0 && entry.allowed & !(unit.hard & pool.cpus) == 0);
                each(entry.allowed).for_each(|cpu| waiting[cpu] += 1);
                // No CPU idles that could have taken it.
                let idle = each(entry.allowed).filter(|cpu| self.running[*cpu].is_none());
                assert_eq!(idle.count(), 0, "{key:?} waits for nothing");
            }
        }
        for (cpu, waiting) in waiting.into_iter().enumerate() {
            assert_eq!(self.s.anyone_waiting(cpu), waiting != 0);
        }
        // Who wants to run and may does so, or waits.
        for (key, (wish, pauses)) in &self.wishes {
            let may = *pauses == 0 && !state.groups[&key.domain].exhausted;
            assert_eq!(seen.contains(key), *wish == Wish::Run && may, "{key:?}: {wish:?}, paused {pauses}");
        }
        assert!(state.units.keys().eq(self.wishes.keys()));
        let capped = state.groups.values().filter(|group| group.cap != 0).count();
        assert!(state.exhausted.len() <= capped);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn everything_keeps_its_place(ops in prop::collection::vec(op(), 1..250)) {
        let mut world = World::new();
        for op in ops {
            world.carry_out(op);
            world.check();
        }
    }

    #[test]
    fn nobody_starves(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        ops.into_iter().for_each(|op| world.carry_out(op));
        let hungry: Vec<VcpuKey> =
            world.wishes.iter().filter(|(_, w)| **w == (Wish::Run, 0)).map(|(key, _)| *key).collect();
        for key in &hungry {
            let kicks = world.s.set_weight(key.domain, 256, world.now).unwrap();
            world.kick(kicks);
        }
        let before: Vec<u64> =
            hungry.iter().map(|key| world.s.account(*key).unwrap().run_time_at(world.now)).collect();
        for _ in 0..10 {
            world.pass(100_000);
        }
        for (key, before) in hungry.into_iter().zip(before) {
            let after = world.s.account(key).unwrap().run_time_at(world.now);
            prop_assert!(after > before, "{:?} got nothing: {:?}", key, world.s.account(key));
        }
    }
}
