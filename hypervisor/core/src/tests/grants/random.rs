//! Domains that grant, map, copy, change their minds, and end, at random: whatever they do, what one maps stays where it
//! is, is counted once for each who has it, and all comes back in the end.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::*;

const GRANTS: u32 = 24;
const PAGES: u64 = 6;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A mapping that a domain was told it has.
#[derive(Clone, Copy, Debug)]
struct Held {
    user: u16,
    granter: u16,
    gref: u32,
    handle: u32,
    gfn: u64,
    page: Pa,
    write: bool,
    /// Still where it was mapped.
    there: bool,
}

struct Play<'a> {
    world: &'a World,
    random: Random,
    guests: Vec<Arc<Domain<FakeMachine>>>,
    held: Vec<Held>,
}

impl Play<'_> {
    fn guest(&mut self) -> Arc<Domain<FakeMachine>> {
        let index = self.random.below(self.guests.len() as u64) as usize;
        self.guests[index].clone()
    }

    /// A domain's number, of one that is there or was.
    fn number(&mut self) -> u16 {
        if self.random.chance(90) { self.guest().id } else { self.random.below(12) as u16 }
    }

    /// The guest writes an entry, often a good one, over whatever it was.
    fn write_entry(&mut self) {
        let domain = self.guest();
        let index = self.random.below(u64::from(GRANTS));
        let mut flags = if self.random.chance(85) { GTF_PERMIT_ACCESS } else { self.random.below(4) as u16 };
        if self.random.chance(20) {
            flags |= GTF_READONLY;
        }
        if self.random.chance(5) {
            flags |= GTF_SUB_PAGE;
        }
        let (domid, frame) = (self.number(), GUEST_GFN + self.random.below(PAGES + 1));
        let (version, table) = {
            let grants = domain.grants.lock();
            (grants.version().number(), grants.frames().next().unwrap())
        };
        let written = if version == 1 {
            let entry = GrantEntryV1 { flags, domid, frame: frame as u32 };
            self.world.machine().write(table.offset(index * 8), entry.as_bytes())
        } else {
            let hdr = GrantEntryHeader { flags, domid };
            let entry = GrantEntryV2SubPage { hdr, page_off: 8, length: 100, frame };
            self.world.machine().write(table.offset(index * 16), entry.as_bytes())
        };
        written.unwrap();
    }

    fn map(&mut self) {
        let (user, granter) = (self.guest(), self.number());
        let gref = self.random.below(u64::from(GRANTS) + 1) as u32;
        let gfn = GUEST_GFN + 16 + self.random.below(40);
        let write = self.random.chance(60);
        let flags = if write { HOST } else { READ_ONLY_MAP };
        let request = map_at(self.world, user.id, granter, gref, flags, gfn);
        if request.status != GNTST_OKAY {
            return;
        }
        for other in self.held.iter_mut().filter(|held| held.user == user.id && held.gfn == gfn) {
            other.there = false;
        }
        let page = Pa(request.dev_bus_addr);
        let kind = if write { Kind::Grant } else { Kind::GrantReadOnly };
        assert_eq!(at(self.world, &user, gfn), Some((page, kind)));
        let handle = request.handle;
        assert!(!self.held.iter().any(|held| held.user == user.id && held.handle == handle));
        self.held.push(Held { user: user.id, granter, gref, handle, gfn, page, write, there: true });
    }

    fn unmap(&mut self) {
        if self.held.is_empty() || self.random.chance(10) {
            let (user, handle) = (self.guest().id, self.random.below(60) as u32);
            let live = self.held.iter().any(|held| held.user == user && held.handle == handle);
            let status = unmap_by(self.world, user, handle, 1);
            assert_eq!(status, if live { GNTST_GENERAL_ERROR } else { GNTST_BAD_HANDLE });
            return;
        }
        let index = self.random.below(self.held.len() as u64) as usize;
        let held = self.held[index];
        // In its place the same page may stand, by the same kind of mapping, which is as good.
        let place = self.guests.iter().find(|domain| domain.id == held.user).unwrap();
        let there = at(self.world, place, held.gfn);
        let kind = if held.write { Kind::Grant } else { Kind::GrantReadOnly };
        let status = unmap_by(self.world, held.user, held.handle, held.gfn);
        if there == Some((held.page, kind)) {
            assert_eq!(status, GNTST_OKAY, "{held:?}");
            self.held.swap_remove(index);
        } else {
            assert!(!held.there);
            assert_eq!(status, GNTST_GENERAL_ERROR, "{held:?}");
        }
    }

    fn copy(&mut self) {
        let user = self.guest().id;
        let mut flags = 0;
        let mut choose = |flag| {
            let offset = self.random.below(300) as u16;
            if self.random.chance(70) {
                flags |= flag;
                end(self.random.below(u64::from(GRANTS)), self.number(), offset)
            } else {
                end(GUEST_GFN + self.random.below(PAGES + 20), DOMID_SELF, offset)
            }
        };
        let (source, dest) = (choose(GNTCOPY_SOURCE_GREF), choose(GNTCOPY_DEST_GREF));
        let length = self.random.below(200) as u16;
        copy_by(self.world, user, source, dest, length, flags);
    }

    /// The guest gives a page back, or gets one where it has none.
    fn balloon(&mut self) {
        let domain = self.guest();
        let gfn = GUEST_GFN + self.random.below(PAGES);
        let m = self.world.machine();
        if at(self.world, &domain, gfn).is_some() {
            let (mut p2m, mut frames) = (domain.p2m.lock(), self.world.hv.frames.lock());
            p2m.unmap(m, &mut frames, Ipa::from_frame(gfn), PAGE_SIZE).unwrap();
        } else {
            let page = self.world.hv.zeroed_frame(domain.id).unwrap();
            assert!(!self.held.iter().any(|held| held.page == page), "it is mapped");
            let (mut p2m, mut frames) = (domain.p2m.lock(), self.world.hv.frames.lock());
            p2m.map(m, &mut frames, Ipa::from_frame(gfn), page, PAGE_SIZE, Kind::Ram).unwrap();
        }
    }

    fn set_version(&mut self) {
        let domain = self.guest();
        let version = 1 + self.random.below(2) as u32;
        let changes = domain.grants.lock().version().number() != version;
        let (result, _) = by(self.world, domain.id, GNTTABOP_SET_VERSION, GnttabSetVersion { version });
        let busy = self.held.iter().any(|held| held.granter == domain.id && held.gref >= 8);
        if changes && busy {
            assert_eq!(result, error(Errno::EBUSY));
        } else {
            assert!([0, error(Errno::ERANGE)].contains(&result), "{result}");
        }
    }

    fn swap(&mut self) {
        let (domain, ref_a, ref_b) = (self.guest().id, self.random.below(20), self.random.below(20));
        let request = GnttabSwapGrantRef { ref_a: ref_a as u32, ref_b: ref_b as u32, ..Default::default() };
        by(self.world, domain, GNTTABOP_SWAP_GRANT_REF, request);
    }

    /// One domain ends, another comes.
    fn replace(&mut self) {
        let index = self.random.below(self.guests.len() as u64) as usize;
        let domain = self.guests.swap_remove(index);
        destroy(self.world, &domain);
        self.held.retain(|held| held.user != domain.id);
        let zombie = self.held.iter().any(|held| held.granter == domain.id);
        assert_eq!(self.world.hv.domain(domain.id).is_some(), zombie);
        self.guests.push(guest(self.world, PAGES));
    }

    fn check(&self) {
        let frames = self.world.hv.frames.lock();
        let mut expected: BTreeMap<(u16, u32), (u16, u16)> = BTreeMap::new();
        let mut entries: BTreeMap<Pa, BTreeMap<(u16, u32), ()>> = BTreeMap::new();
        for held in &self.held {
            assert_eq!(frames.owner(held.page), Some(held.granter), "{held:?}");
            let users = expected.entry((held.granter, held.gref)).or_default();
            *(if held.write { &mut users.1 } else { &mut users.0 }) += 1;
            entries.entry(held.page).or_default().insert((held.granter, held.gref), ());
        }
        drop(frames);
        for domain in &self.guests {
            let grants = domain.grants.lock();
            let own = self.held.iter().filter(|held| held.user == domain.id).count();
            assert_eq!(grants.maptrack.busy() as usize, own);
            for gref in 0..GRANTS + 2 {
                let users = expected.get(&(domain.id, gref)).copied().unwrap_or_default();
                assert_eq!(grants.users(self.world.machine(), gref), users, "entry {gref}");
            }
        }
        for domain in &self.guests {
            for gfn in (0..PAGES).map(|n| GUEST_GFN + n) {
                let Some((page, _)) = at(self.world, domain, gfn) else { continue };
                let pins = entries.remove(&page).map_or(0, |by| by.len());
                assert_eq!(self.world.hv.frames.lock().references(page), 1 + pins as u32);
            }
        }
        // Those that their owners gave back.
        for (page, by) in entries {
            assert_eq!(self.world.hv.frames.lock().references(page), by.len() as u32);
        }
    }
}

#[test]
fn whatever_guests_do_the_books_are_right() {
    for seed in 0..6 {
        let world = World::small();
        let before = world.hv.frames.lock().free_frames();
        let guests: Vec<_> = (0..3).map(|_| guest(&world, PAGES)).collect();
        let mut play = Play { world: &world, random: Random(seed), guests, held: Vec::new() };
        for step in 0..1500 {
            match play.random.below(100) {
                0..30 => play.write_entry(),
                30..55 => play.map(),
                55..75 => play.unmap(),
                75..88 => play.copy(),
                88..94 => play.balloon(),
                94..97 => play.set_version(),
                97..99 => play.swap(),
                _ => play.replace(),
            }
            if step % 8 == 0 {
                play.check();
            }
        }
        play.check();
        for domain in play.guests.drain(..) {
            destroy(&world, &domain);
        }
        assert_eq!(world.hv.domains.read().len(), 1, "all but domain 0 are forgotten");
        assert_eq!(world.hv.frames.lock().free_frames(), before);
    }
}
