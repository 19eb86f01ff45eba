//! Memory that static guests share: what cannot be said of it.

use vambrace_core::static_guest::layout::{self, DEVICES};

use super::Guest;
use super::check::Fault;
use crate::config::ImageConfig;

const PAGE: u64 = 4096;

/// The banks of a guest's memory, as [`DEVICES`].
fn memory(guest: &Guest) -> impl Iterator<Item = (&'static str, u64, u64)> {
    layout::memory(guest.memory.bytes()).into_iter().flatten().map(|(at, size)| ("memory", at, size))
}

/// The first fault of the memory that `guest` shares.
pub(super) fn fault(config: &ImageConfig, guest: &Guest) -> Fault {
    for (index, shared) in guest.shared_memory.iter().enumerate() {
        let field = |name: &str, message: String| Some((format!("shared-memory.{index}.{name}"), message));
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !(1..=15).contains(&shared.id.len()) || !shared.id.bytes().all(plain) {
            return field(
                "id",
                format!("`{}` is not 1 to 15 letters, digits, -, _ and .", shared.id.escape_default()),
            );
        }
        if guest.shared_memory.iter().take(index).any(|other| other.id == shared.id) {
            return field("id", format!("`{}` is there twice", shared.id));
        }
        if shared.size.bytes() == 0
            || !shared.size.bytes().is_multiple_of(PAGE)
            || shared.size.bytes() > 1 << 40
        {
            return field("size", format!("{} is not a multiple of 4K up to 1T", shared.size));
        }
        for (name, address) in [("address", Some(shared.address)), ("host-address", shared.host_address)] {
            let wraps = |at: u64| at.checked_add(shared.size.bytes()).is_none();
            if address.is_some_and(|at| !at.is_multiple_of(PAGE) || wraps(at)) {
                return field(name, "it is not a multiple of 4K, or wraps around".into());
            }
        }
        let end = shared.address.saturating_add(shared.size.bytes());
        let meets = |at: u64, size: u64| shared.address < at.saturating_add(size) && at < end;
        let others = guest.shared_memory.iter().take(index);
        let others = others.map(|other| ("other shared memory", other.address, other.size.bytes()));
        let mut taken = memory(guest).chain(DEVICES).chain(others);
        if let Some((what, at, size)) = taken.find(|(_, at, size)| meets(*at, *size)) {
            let (from, behind) = (shared.address, at.saturating_add(size));
            return field(
                "address",
                format!("{from:#x} to {end:#x} lies on the guest's {what}, {at:#x} to {behind:#x}"),
            );
        }
        let sharers = || {
            let all = config.static_guests().flat_map(|(_, guest)| &guest.shared_memory);
            all.filter(|other| other.id == shared.id)
        };
        if sharers().any(|other| (other.size, other.host_address) != (shared.size, shared.host_address)) {
            return field("size", format!("the sharers of `{}` disagree about its size or place", shared.id));
        }
        if sharers().filter(|other| other.owner).count() != 1 {
            return field("owner", format!("`{}` has to have one owner", shared.id));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a guest with `memory` that has 64K at `address`, and 64K more at 0x3000_0000.
    fn said(memory: &str, address: u64) -> Result<(), String> {
        let shared = |id: &str, address: u64| {
            format!(
                "[[guest.shared-memory]]\nid = \"{id}\"\nsize = \"64K\"\naddress = {address:#x}\nowner = true\n"
            )
        };
        let guest = format!("[[guest]]\nname = \"one\"\nstart = \"static\"\nmemory = \"{memory}\"\n");
        let text = guest + &shared("first", 0x3000_0000) + &shared("second", address);
        ImageConfig::parse("f", &text).map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn shared_memory_lies_beside_what_the_guest_has() {
        for (memory, address) in [
            ("128M", 0x4800_0000),
            ("128M", 0x2_0000_0000),
            ("3G", 0x2_0000_0000),
            ("4G", 0x2_4000_0000),
            ("128M", 0x2fff_0000),
            ("128M", 0x3001_0000),
            ("128M", 0x2200_1000),
            ("128M", 0x3a00_0000),
        ] {
            assert_eq!(said(memory, address), Ok(()), "{memory} {address:#x}");
        }
        for (memory, address, what) in [
            ("128M", 0x4000_0000, "memory, 0x40000000 to 0x48000000"),
            ("128M", 0x47ff_f000, "memory, 0x40000000 to 0x48000000"),
            ("128M", 0x3fff_1000, "memory, 0x40000000 to 0x48000000"),
            ("4G", 0xffff_0000, "memory, 0x40000000 to 0x100000000"),
            ("4G", 0x2_3fff_f000, "memory, 0x200000000 to 0x240000000"),
            ("128M", 0x3000_f000, "other shared memory, 0x30000000 to 0x30010000"),
            ("128M", 0x0301_0000, "interrupt controller, 0x3001000 to 0x3011000"),
            ("128M", 0x0401_f000, "redistributors, 0x3020000 to 0x4020000"),
            ("128M", 0x2200_0000, "UART, 0x22000000 to 0x22001000"),
            ("128M", 0x3800_0000, "grant table, 0x38000000 to 0x39000000"),
            ("128M", 0x39ff_f000, "magic pages, 0x39000000 to 0x3a000000"),
        ] {
            let said = said(memory, address).unwrap_err();
            let end = address + 0x1_0000;
            let expected = format!(
                "f:13:11: in `guest.0.shared-memory.1.address`: {address:#x} to {end:#x} lies on the guest's {what}"
            );
            assert_eq!(said, expected);
        }
    }
}
