//! Guests that the loader brings: nodes of `/chosen` compatible with `xen,domain` (Xen,
//! docs/misc/arm/device-tree/booting.txt), with their modules, static event channels and shared memory.
//!
//! A guest that makes no sense is left out with a warning that says why; the machine boots without it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use vambrace_abi::domid::DomId;
use vambrace_abi::event_channel::EVTCHN_2L_NR_CHANNELS;

use super::address::{address_cells, entries, size_cells};
use super::boot::{is_module, module_range};
use super::error::{PlatformError, Problem};
use super::tree::{Node, Tree};
use crate::addr::{Ipa, PAGE_SIZE, Pa, PaRange};

/// Most guests.
const MAX_GUESTS: usize = 64;
/// Most nodes with one purpose in a guest's.
const MAX_NODES: usize = 64;
/// Longest identifier of shared memory, in bytes.
const MAX_ID: usize = 15;
/// Bytes in the units of `memory`.
const KIB: u64 = 1 << 10;
/// Bytes in the units of `xen,domain-p2m-mem-mb`.
const MIB: u64 = 1 << 20;

/// What a guest gets of Xen's interfaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Enhanced {
    /// Its device tree names no hypervisor.
    #[default]
    No,
    /// Event channels, grants and xenstore, the last once dom0 offers it.
    Yes,
    /// Event channels and grants.
    WithoutXenstore,
}

/// Memory that guests share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SharedMemory {
    /// The name by which its sharers find it.
    pub id: String,
    /// Where it lies, if the tree says.
    pub host: Option<Pa>,
    /// Where the guest finds it.
    pub at: Ipa,
    /// Length in bytes: whole pages.
    pub size: u64,
    /// The guest is its owner: it is part of its memory.
    pub is_owner: bool,
}

/// A file of a guest's that the loader put into memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestModules {
    /// Its kernel.
    pub kernel: PaRange,
    /// Its initial RAM disk.
    pub ramdisk: Option<PaRange>,
    /// A partial device tree that names devices for it.
    pub tree: Option<PaRange>,
}

/// A guest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StaticGuest {
    /// Path of its node.
    pub path: String,
    /// Its number: they count from 1 in the order of the tree, those that are left out too.
    pub id: DomId,
    /// Memory in bytes: whole pages.
    pub memory: u64,
    /// Where that lies, if the tree says: as much as `memory`.
    pub banks: Vec<PaRange>,
    /// It finds its memory at the physical addresses.
    pub direct: bool,
    /// vCPUs.
    pub vcpus: u32,
    /// It has a virtual PL011.
    pub uart: bool,
    /// SPIs of its interrupt controller, if the tree says.
    pub spis: Option<u32>,
    /// Xen's interfaces.
    pub enhanced: Enhanced,
    /// Bytes for its stage-2 tables, if the tree says.
    pub tables: Option<u64>,
    /// Frames of its grant table, and for its grant mappings, at most, if the tree says.
    pub grant_frames: (Option<u32>, Option<u32>),
    /// Its files.
    pub modules: GuestModules,
    /// Its kernel's command line.
    pub args: String,
    /// What it shares.
    pub shared: Vec<SharedMemory>,
}

impl StaticGuest {
    /// What the loader put into memory for it.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, PaRange)> {
        let GuestModules { kernel, ramdisk, tree } = self.modules;
        let kernel = Some(("kernel", kernel));
        let ramdisk = ramdisk.map(|range| ("RAM disk", range));
        let tree = tree.map(|range| ("device tree", range));
        [kernel, ramdisk, tree].into_iter().flatten()
    }

    /// The memory that the tree sets apart for it.
    pub fn reserved(&self) -> impl Iterator<Item = PaRange> {
        let shared = self.shared.iter().filter_map(|shared| PaRange::new(shared.host?, shared.size));
        self.banks.iter().copied().chain(shared)
    }
}

/// One end of a static event channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StaticPort {
    /// Whose.
    pub domain: DomId,
    /// Which port.
    pub port: u32,
}

/// What the tree says of guests.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StaticGuests {
    /// The guests, by number.
    pub guests: Vec<StaticGuest>,
    /// Event channels between them, and dom0.
    pub channels: Vec<(StaticPort, StaticPort)>,
}

fn is_guest(node: Node<'_, '_>) -> bool {
    node.is_compatible("xen,domain") && node.is_available()
}

/// Reads the guests below `/chosen`.
pub(crate) fn find(chosen: Node<'_, '_>, warnings: &mut Vec<String>) -> StaticGuests {
    let mut guests = Vec::new();
    let mut nodes = Vec::from([(0, chosen)]);
    for (index, node) in chosen.children().filter(|node| is_guest(*node)).enumerate() {
        if index == MAX_GUESTS {
            warnings.push(format!("{}: only the first {MAX_GUESTS} guests are started", chosen.path()));
            break;
        }
        let id = index as DomId + 1;
        match guest(node, id) {
            Ok(guest) => {
                for (name, why) in IGNORED {
                    if node.has(name) {
                        warnings.push(format!("{}: {name} has no effect: {why}", node.path()));
                    }
                }
                guests.push(guest);
                nodes.push((id, node));
            }
            Err(error) => warnings.push(format!("{error}; d{id} is not started")),
        }
    }
    let channels = channels(chosen.tree(), &nodes, warnings);
    StaticGuests { guests, channels }
}

/// Properties of Xen's that change nothing here.
const IGNORED: [(&str, &str); 3] = [
    ("llc-colors", "caches are not partitioned"),
    ("colors", "caches are not partitioned"),
    ("sve", "guests get no SVE"),
];

fn guest(node: Node<'_, '_>, id: DomId) -> Result<StaticGuest, PlatformError> {
    let missing = |name| node.error(name, Problem::Missing);
    let memory = node.number("memory")?.ok_or_else(|| missing("memory"))?;
    let memory = memory.checked_mul(KIB).ok_or_else(|| node.error("memory", Problem::Overflow))?;
    if memory == 0 || !memory.is_multiple_of(PAGE_SIZE) {
        return Err(node.error("memory", Problem::Value("a multiple of 4 KiB, not 0")));
    }
    let vcpus = node.cell("cpus")?.ok_or_else(|| missing("cpus"))?;
    if vcpus == 0 {
        return Err(node.error("cpus", Problem::Value("at least 1")));
    }
    let (modules, args) = modules(node)?;
    let banks = static_memory(node)?;
    let direct = node.has("direct-map");
    let in_banks = banks.iter().fold(0u64, |sum, bank| sum.saturating_add(bank.size()));
    if !banks.is_empty() && in_banks != memory {
        return Err(node.error("xen,static-mem", Problem::Value("as much memory as `memory` says")));
    }
    if direct && banks.is_empty() {
        return Err(node.error("direct-map", Problem::Unsupported("it takes xen,static-mem")));
    }
    let spis = node.cell("nr_spis")?;
    if spis.is_some_and(|count| count > 988) {
        return Err(node.error("nr_spis", Problem::Value("at most 988")));
    }
    Ok(StaticGuest {
        path: node.path(),
        id,
        memory,
        banks,
        direct,
        vcpus,
        uart: node.has("vpl011"),
        spis,
        enhanced: enhanced(node)?,
        tables: node.cell("xen,domain-p2m-mem-mb")?.map(|count| u64::from(count) * MIB),
        grant_frames: (node.cell("max_grant_frames")?, node.cell("max_maptrack_frames")?),
        modules,
        args,
        shared: shared_memory(node)?,
    })
}

fn enhanced(node: Node<'_, '_>) -> Result<Enhanced, PlatformError> {
    Ok(match node.property("xen,enhanced").map(|_| node.string("xen,enhanced").unwrap_or("")) {
        None | Some("disabled") => Enhanced::No,
        Some("" | "enabled") => Enhanced::Yes,
        Some("no-xenstore") => Enhanced::WithoutXenstore,
        Some(_) => {
            let expected = "\"enabled\", \"disabled\" or \"no-xenstore\"";
            return Err(node.error("xen,enhanced", Problem::Value(expected)));
        }
    })
}

fn modules(guest: Node<'_, '_>) -> Result<(GuestModules, String), PlatformError> {
    let (mut kernel, mut ramdisk, mut tree, mut args) = (None, None, None, String::new());
    for node in guest.children().filter(|node| is_module(*node)) {
        let slot = if node.is_compatible_any(&["multiboot,kernel", "xen,linux-zimage"]) {
            args = String::from(node.string("bootargs").unwrap_or(""));
            &mut kernel
        } else if node.is_compatible_any(&["multiboot,ramdisk", "xen,linux-initrd"]) {
            &mut ramdisk
        } else if node.is_compatible("multiboot,device-tree") {
            &mut tree
        } else {
            let expected = "one of multiboot,kernel, multiboot,ramdisk, multiboot,device-tree";
            return Err(node.error("compatible", Problem::Value(expected)));
        };
        if slot.replace(module_range(guest, node)?).is_some() {
            return Err(node.error("compatible", Problem::Unsupported("a second module of this kind")));
        }
    }
    match kernel {
        Some(kernel) => Ok((GuestModules { kernel, ramdisk, tree }, args)),
        None => {
            Err(guest.error("", Problem::Unsupported("it has no module compatible with multiboot,kernel")))
        }
    }
}

/// Cells of addresses and sizes in the properties of a guest's node.
fn cells(guest: Node<'_, '_>) -> Result<[u32; 2], PlatformError> {
    let cells = [address_cells(guest)?, size_cells(guest)?];
    match cells.iter().find(|count| !(1..=2).contains(*count)) {
        Some(odd) => Err(guest.error("#address-cells", Problem::Cells(*odd))),
        None => Ok(cells),
    }
}

fn static_memory(guest: Node<'_, '_>) -> Result<Vec<PaRange>, PlatformError> {
    let name = "xen,static-mem";
    if !guest.has(name) {
        return Ok(Vec::new());
    }
    let own = cells(guest)?;
    // Xen 4.17 has cell counts for this property alone; later the node's own serve.
    let address = guest.cell("#xen,static-mem-address-cells")?.unwrap_or(own[0]);
    let size = guest.cell("#xen,static-mem-size-cells")?.unwrap_or(own[1]);
    if let Some(odd) = [address, size].into_iter().find(|count| !(1..=2).contains(count)) {
        return Err(guest.error(name, Problem::Cells(odd)));
    }
    let found = entries(guest, name, [address, size])?;
    if found.len() > MAX_NODES {
        return Err(guest.error(name, Problem::TooLarge { what: "banks", limit: MAX_NODES as u64 }));
    }
    let banks = found.into_iter().map(|[start, size]| pages(guest, name, start, size));
    banks.collect()
}

/// A range of whole pages.
fn pages(node: Node<'_, '_>, name: &'static str, start: u128, size: u128) -> Result<PaRange, PlatformError> {
    // At most two cells each: the numbers fit.
    let (start, size) = (start as u64, size as u64);
    if size == 0 || !(start | size).is_multiple_of(PAGE_SIZE) {
        return Err(node.error(name, Problem::Value("whole pages")));
    }
    PaRange::new(Pa(start), size).ok_or_else(|| node.error(name, Problem::Overflow))
}

fn shared_memory(guest: Node<'_, '_>) -> Result<Vec<SharedMemory>, PlatformError> {
    let [address, size] = cells(guest)?;
    let mut found: Vec<SharedMemory> = Vec::new();
    for node in guest.children().filter(|node| node.is_compatible("xen,domain-shared-memory-v1")) {
        if found.len() == MAX_NODES {
            let problem = Problem::TooLarge { what: "shared memories", limit: MAX_NODES as u64 };
            return Err(guest.error("", problem));
        }
        let id = node.string("xen,shm-id").unwrap_or("");
        if id.is_empty() || id.len() > MAX_ID || found.iter().any(|known| known.id == id) {
            return Err(node.error("xen,shm-id", Problem::Value("a name of 1 to 15 characters, once")));
        }
        let name = "xen,shared-mem";
        let length = node.property(name).ok_or_else(|| node.error(name, Problem::Missing))?.len();
        // The host's address may be left out.
        let whole = (2 * address + size) as usize * 4;
        let (host, at, size) = if length == whole {
            match entries(node, name, [address, address, size])?.as_slice() {
                [[host, at, size]] => (Some(*host), *at, *size),
                _ => return Err(node.error(name, Problem::Missing)),
            }
        } else {
            match entries(node, name, [address, size])?.as_slice() {
                [[at, size]] => (None, *at, *size),
                _ => {
                    let have = length as u64;
                    return Err(node.error(name, Problem::Length { have, entry: whole as u64 }));
                }
            }
        };
        let host = host.map(|host| pages(node, name, host, size)).transpose()?;
        let at = pages(node, name, at, size)?;
        let is_owner = match node.string("role") {
            Some("owner") => true,
            None | Some("borrower") => false,
            Some(_) => return Err(node.error("role", Problem::Value("\"owner\" or \"borrower\""))),
        };
        found.push(SharedMemory {
            id: String::from(id),
            host: host.map(|range| range.start),
            at: Ipa(at.start.0),
            size: at.size(),
            is_owner,
        });
    }
    Ok(found)
}

/// Reads the static event channels of dom0, whose nodes lie below `/chosen`, and of the guests. Each end names the other
/// by its node; one that is not named back is left out.
fn channels(
    tree: &Tree<'_>,
    domains: &[(DomId, Node<'_, '_>)],
    warnings: &mut Vec<String>,
) -> Vec<(StaticPort, StaticPort)> {
    // By the end's phandle: the end, and the phandle that it names.
    let mut ends: BTreeMap<u32, (StaticPort, u32)> = BTreeMap::new();
    for (domain, node) in domains {
        let channels = node.children().filter(|child| child.is_compatible("xen,evtchn-v1"));
        for node in channels.take(EVTCHN_2L_NR_CHANNELS as usize) {
            match end(*domain, node) {
                Ok((phandle, _)) if ends.contains_key(&phandle) => {}
                Ok((phandle, (port, _))) if ends.values().any(|(known, _)| *known == port) => {
                    warnings.push(format!(
                        "{}: port {} is used twice ({phandle:#x})",
                        node.path(),
                        port.port
                    ));
                }
                Ok((phandle, end)) => drop(ends.insert(phandle, end)),
                Err(error) => warnings.push(format!("{error}; the event channel is left out")),
            }
        }
    }
    let mut found = Vec::new();
    for (phandle, (near, peer)) in &ends {
        match ends.get(peer) {
            Some((far, back)) if back == phandle && near != far => {
                // Each is met from both ends.
                if near < far {
                    found.push((*near, *far));
                }
            }
            _ => {
                let at = tree.by_phandle(*phandle).map(|node| node.path()).unwrap_or_default();
                warnings.push(format!("{at}: the other end of the event channel does not name this one"));
            }
        }
    }
    found
}

/// The phandle of an end of an event channel, the end itself, and the phandle of the other end.
fn end(domain: DomId, node: Node<'_, '_>) -> Result<(u32, (StaticPort, u32)), PlatformError> {
    let phandle = node.phandle()?.ok_or_else(|| node.error("phandle", Problem::Missing))?;
    let cells = node.cells("xen,evtchn")?;
    let [port, peer] = cells.as_slice() else {
        return Err(node.error("xen,evtchn", Problem::Length { have: cells.len() as u64 * 4, entry: 8 }));
    };
    // They are opened before a guest can ask for more ports than the 2-level ABI has.
    if !(1..EVTCHN_2L_NR_CHANNELS).contains(port) {
        return Err(node.error("xen,evtchn", Problem::Value("a port from 1 to 4095")));
    }
    Ok((phandle, (StaticPort { domain, port: *port }, *peer)))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::platform::fixture::{TestNode, board, node};
    use crate::platform::{Platform, Uart};

    fn module(name: &str, kind: &str, start: u32, size: u32) -> TestNode {
        node(name).strings("compatible", &[kind, "multiboot,module"]).cells("reg", &[0, start, size])
    }

    /// As in Xen's documentation.
    fn guest(name: &str) -> TestNode {
        node(name)
            .strings("compatible", &["xen,domain"])
            .cells("#address-cells", &[2])
            .cells("#size-cells", &[1])
            .cells("memory", &[0, 131_072])
            .cells("cpus", &[2])
            .flag("vpl011")
            .with(
                module("module@4a000000", "multiboot,kernel", 0x4a00_0000, 0xff_ffff)
                    .strings("bootargs", &["console=ttyAMA0"]),
            )
            .with(module("module@4b000000", "multiboot,ramdisk", 0x4b00_0000, 0x12_3456))
    }

    fn parse(guests: &[TestNode]) -> (StaticGuests, Vec<String>) {
        let chosen = guests.iter().cloned().fold(node("chosen"), TestNode::with);
        let mut platform = Platform::parse(&board().with(chosen).blob()).unwrap();
        platform.warnings.retain(|warning| !warning.contains("console"));
        let _: Option<Uart> = platform.console;
        (platform.boot.domains, platform.warnings)
    }

    fn range(start: u64, size: u64) -> PaRange {
        PaRange::new(Pa(start), size).unwrap()
    }

    #[test]
    fn the_documented_example() {
        let (found, warnings) =
            parse(&[guest("domU1"), guest("domU2").strings("xen,enhanced", &["enabled"])]);
        assert_eq!(warnings, [""; 0]);
        let [first, second] = found.guests.as_slice() else { panic!("{found:?}") };
        assert_eq!((first.id, first.memory, first.vcpus, first.uart), (1, 128 << 20, 2, true));
        assert_eq!(first.modules.kernel, range(0x4a00_0000, 0xff_ffff));
        assert_eq!(first.modules.ramdisk, Some(range(0x4b00_0000, 0x12_3456)));
        assert_eq!((first.args.as_str(), first.enhanced), ("console=ttyAMA0", Enhanced::No));
        assert_eq!((second.id, second.enhanced), (2, Enhanced::Yes));
        assert_eq!((first.files().count(), first.reserved().count()), (2, 0));
    }

    #[test]
    fn a_bad_guest_is_left_out_and_the_others_keep_their_numbers() {
        let bad = [
            guest("a").cells("cpus", &[0]),
            guest("b").without("module@4a000000"),
            guest("c").cells("memory", &[u32::MAX, u32::MAX]),
            guest("d").cells("memory", &[0, 3]),
            guest("e").flag("direct-map"),
            guest("f").strings("xen,enhanced", &["perhaps"]),
            guest("g").with(module("again", "multiboot,kernel", 0x4a00_0000, 4)),
            guest("h").with(module("odd", "multiboot,xsm", 0x4a00_0000, 4)),
            guest("i").cells("nr_spis", &[989]),
            guest("j").cells("#size-cells", &[3]),
            guest("k").cells("xen,static-mem", &[0, 0x5000_0000, 0x1000]),
            guest("l").cells("xen,static-mem", &[0, 0x5000_0001, 0x800_0000]),
        ];
        let count = bad.len();
        let mut nodes = bad.to_vec();
        nodes.push(guest("last"));
        let (found, warnings) = parse(&nodes);
        assert_eq!(found.guests.iter().map(|guest| usize::from(guest.id)).collect::<Vec<_>>(), [count + 1]);
        assert_eq!(warnings.len(), count, "{warnings:#?}");
        assert!(
            warnings[0].contains("/chosen/a: property cpus") && warnings[0].ends_with("d1 is not started")
        );
    }

    #[test]
    fn static_and_shared_memory() {
        let shared = |name: &str, id: &str| {
            node(name).strings("compatible", &["xen,domain-shared-memory-v1"]).strings("xen,shm-id", &[id])
        };
        let first = guest("domU1")
            .cells("#xen,static-mem-address-cells", &[1])
            .cells("#xen,static-mem-size-cells", &[1])
            .cells("xen,static-mem", &[0x5000_0000, 0x400_0000, 0x6000_0000, 0x400_0000])
            .flag("direct-map")
            .with(
                shared("one", "frames")
                    .cells("xen,shared-mem", &[0, 0x7000_0000, 0, 0x3000_0000, 0x1_0000])
                    .strings("role", &["owner"]),
            )
            .with(shared("two", "mail").cells("xen,shared-mem", &[0, 0x3100_0000, 0x1000]));
        let (found, warnings) = parse(&[first]);
        assert_eq!(warnings, [""; 0]);
        let guest = &found.guests[0];
        assert_eq!(guest.banks, [range(0x5000_0000, 0x400_0000), range(0x6000_0000, 0x400_0000)]);
        assert!(guest.direct);
        let expected = SharedMemory {
            id: "frames".into(),
            host: Some(Pa(0x7000_0000)),
            at: Ipa(0x3000_0000),
            size: 0x1_0000,
            is_owner: true,
        };
        assert_eq!(guest.shared[0], expected);
        assert_eq!((guest.shared[1].host, guest.shared[1].is_owner), (None, false));
        assert_eq!(guest.reserved().count(), 3);
        let bad = [
            shared("x", "").cells("xen,shared-mem", &[0, 0x3100_0000, 0x1000]),
            shared("x", "a-name-too-long-").cells("xen,shared-mem", &[0, 0x3100_0000, 0x1000]),
            shared("x", "y").cells("xen,shared-mem", &[0, 0x3100_0000]),
            shared("x", "y").cells("xen,shared-mem", &[0, 0x3100_0000, 0x1001]),
            shared("x", "y").cells("xen,shared-mem", &[u32::MAX, 0xffff_f000, 0x2000]),
            shared("x", "y"),
            shared("x", "y").cells("xen,shared-mem", &[0, 0x3100_0000, 0x1000]).strings("role", &["thief"]),
        ];
        for shared in bad {
            let (found, warnings) = parse(&[super::tests::guest("domU1").with(shared)]);
            assert_eq!((found.guests.len(), warnings.len()), (0, 1), "{warnings:?}");
        }
    }

    #[test]
    fn event_channels_name_each_other() {
        let channel = |name: &str, phandle, port, peer| {
            node(name)
                .strings("compatible", &["xen,evtchn-v1"])
                .cells("xen,evtchn", &[port, peer])
                .cells("phandle", &[phandle])
        };
        let first =
            guest("domU1").with(channel("evtchn@1", 0x50, 10, 0x51)).with(channel("b", 0x52, 11, 0x53));
        let second =
            guest("domU2").with(channel("evtchn@1", 0x51, 12, 0x50)).with(channel("c", 0x54, 13, 0x50));
        let (found, warnings) = parse(&[first, second, channel("evtchn@9", 0x53, 7, 0x52)]);
        let port = |domain, port| StaticPort { domain, port };
        assert_eq!(found.channels, vec![(port(1, 10), port(2, 12)), (port(0, 7), port(1, 11))]);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("/chosen/domU2/c"));
        for bad in
            [channel("x", 0x60, 0, 0x61), channel("x", 0x60, u32::MAX, 0x61), channel("x", 0x60, 5, 0x60)]
        {
            let (found, warnings) = parse(&[guest("domU1").with(bad)]);
            assert_eq!((found.channels.len(), warnings.len()), (0, 1), "{warnings:?}");
        }
    }
}
