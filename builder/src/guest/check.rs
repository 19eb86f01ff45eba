//! What a description of guests cannot say: the first fault, with the path of its field.

use super::{Disk, Format, Guest, Medium, Module, Network, Start, shared};
use crate::config::ImageConfig;
use crate::disk::lvm_name_fault;
use vambrace_bsp::did_you_mean;

const MIB: u64 = 1 << 20;
/// Most guests of an image.
const MAX_GUESTS: usize = 64;
/// A name in a GPT has 36 characters.
const MAX_PARTITION_NAME: usize = 36;
/// Largest raw file: it is made in memory.
const MAX_RAW: u64 = 1 << 30;
/// The devices that a guest's disk can be by itself; more have to be named.
const LETTERS: usize = 16;
/// Ports of a static event channel end here: it is there before a guest can ask for more than the 2-level ABI has
/// (`event_channel.h`, EVTCHN_2L_NR_CHANNELS).
const MAX_PORT: u32 = 4096;

/// A field, and what is wrong with it.
pub(crate) type Fault = Option<(String, String)>;

/// The first fault.
pub(crate) fn fault(config: &ImageConfig) -> Fault {
    if let Some(group) = &config.volume_group {
        if let Some(message) = lvm_name_fault(&group.name) {
            return Some(("volume-group.name".into(), message));
        }
        if group.free.bytes() > 1 << 40 {
            return Some(("volume-group.free".into(), format!("{} is more than 1T", group.free)));
        }
    }
    if config.guests.len() > MAX_GUESTS {
        return Some(("guest".into(), format!("there can be at most {MAX_GUESTS} guests")));
    }
    config.guests.iter().enumerate().find_map(|(index, guest)| {
        let field = |(name, message): (String, String)| (format!("guest.{index}.{name}"), message);
        if config.guests.iter().take(index).any(|other| other.name == guest.name) {
            return Some(field(("name".into(), format!("there are two guests called `{}`", guest.name))));
        }
        own(guest).or_else(|| static_parts(config, guest)).map(field)
    })
}

/// What is wrong with a guest by itself.
fn own(guest: &Guest) -> Fault {
    let field = |name: &str, message: String| Some((name.to_owned(), message));
    if let Some(message) = name_fault(&guest.name, 32) {
        return field("name", message);
    }
    if matches!(guest.name.as_str(), "dom0" | "auto" | "scripts") {
        return field("name", format!("`{}` is not a guest's", guest.name));
    }
    if guest.memory.bytes() < MIB
        || !guest.memory.bytes().is_multiple_of(MIB)
        || guest.memory.bytes() > 1 << 40
    {
        return field("memory", format!("{} is not a multiple of 1M up to 1T", guest.memory));
    }
    if !(1..=128).contains(&guest.vcpus) {
        return field("vcpus", format!("{} is not from 1 to 128", guest.vcpus));
    }
    let odd = |c: char| matches!(c, '"' | '\'' | '$' | '\\' | ';' | '`') || !(' '..='~').contains(&c);
    if let Some(wrong) = guest.args.chars().find(|c| odd(*c)) {
        return field(
            "args",
            format!("{wrong:?} cannot be passed on; use printable ASCII other than \" ' $ \\ ; `"),
        );
    }
    if guest.args.len() > 1000 {
        return field("args", format!("{} characters are more than 1000", guest.args.len()));
    }
    if guest.kernel == Module::None {
        return field("kernel", "a guest has to have a kernel".into());
    }
    for (index, disk) in guest.disks.iter().enumerate() {
        let twice = guest.disks.iter().take(index).any(|other| other.name == disk.name);
        let fault = if twice {
            Some(("name", format!("there are two disks called `{}`", disk.name)))
        } else {
            disk_fault(guest, disk)
        };
        if let Some((name, message)) = fault {
            return field(&format!("disk.{index}.{name}"), message);
        }
        let device = device_name(guest, index);
        if (0..index).any(|other| device_name(guest, other) == device) {
            return field(&format!("disk.{index}"), format!("two disks are `{device}`"));
        }
    }
    for (index, network) in guest.networks.iter().enumerate() {
        if let Some((name, message)) = network_fault(network) {
            return field(&format!("network.{index}{name}"), message);
        }
    }
    None
}

/// The name of a guest or a disk, which becomes part of paths, device-tree nodes and volumes.
fn name_fault(name: &str, most: usize) -> Option<String> {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    let fine = (1..=most).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(letter);
    (!fine).then(|| {
        format!(
            "`{}` is not 1 to {most} of a-z, 0-9, - and _, beginning with a letter",
            name.escape_default()
        )
    })
}

fn disk_fault(guest: &Guest, disk: &Disk) -> Option<(&'static str, String)> {
    if let Some(message) = name_fault(&disk.name, 24) {
        return Some(("name", message));
    }
    let whole = disk_name(guest, disk);
    match disk.on {
        Medium::Volume => {
            if let Some(message) = lvm_name_fault(&whole) {
                return Some(("name", message));
            }
        }
        Medium::Partition if whole.len() > MAX_PARTITION_NAME => {
            return Some((
                "name",
                format!("`{whole}`, the partition's name, is longer than {MAX_PARTITION_NAME}"),
            ));
        }
        Medium::Partition | Medium::File => {}
    }
    if disk.on != Medium::File && disk.format != Format::Raw {
        return Some(("format", "only a disk in a file has a format".into()));
    }
    match disk.size {
        None if disk.content.profile().is_none() => {
            return Some(("size", "an empty disk has to have a size".into()));
        }
        Some(size) if size.bytes() < MIB || !size.bytes().is_multiple_of(MIB) || size.bytes() > 1 << 40 => {
            return Some(("size", format!("{size} is not a multiple of 1M up to 1T")));
        }
        Some(size) if disk.on == Medium::File && disk.format == Format::Raw && size.bytes() > MAX_RAW => {
            return Some((
                "size",
                format!(
                    "{size} are too many for a raw file in dom0's root; take format = \"qcow2\", or a volume"
                ),
            ));
        }
        _ => {}
    }
    if let Some(device) = &disk.device {
        let fine = device.strip_prefix("xvd").is_some_and(|rest| {
            (1..=2).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_lowercase())
        });
        if !fine {
            return Some(("device", format!("`{}` is not xvda, xvdb and so on", device.escape_default())));
        }
    }
    None
}

/// The name of what a disk lies on.
pub(super) fn disk_name(guest: &Guest, disk: &Disk) -> String {
    format!("{}-{}", guest.name, disk.name)
}

/// What the guest calls its disk `index`.
pub(super) fn device_name(guest: &Guest, index: usize) -> String {
    let named = guest.disks.get(index).and_then(|disk| disk.device.clone());
    named.unwrap_or_else(|| {
        let letter = u8::try_from(index.min(LETTERS)).unwrap_or(0);
        format!("xvd{}", char::from(b'a' + letter))
    })
}

fn network_fault(network: &Network) -> Option<(&'static str, String)> {
    let bridge = match (&network.bridge, &network.open_vswitch) {
        (Some(bridge), None) | (None, Some(bridge)) => bridge,
        _ => return Some(("", "say either `bridge` or `open-vswitch`".into())),
    };
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    // Linux, IFNAMSIZ: 16 with the NUL.
    if !(1..=15).contains(&bridge.len()) || !bridge.bytes().all(letter) || bridge.starts_with(['.', '-']) {
        let which = if network.bridge.is_some() { ".bridge" } else { ".open-vswitch" };
        return Some((
            which,
            format!("`{}` is not the name of a network interface", bridge.escape_default()),
        ));
    }
    let mac = network.mac.as_ref()?;
    let pairs: Vec<u8> = mac
        .split(':')
        .filter(|pair| pair.len() == 2)
        .filter_map(|pair| u8::from_str_radix(pair, 16).ok())
        .collect();
    let whole = pairs.len() == 6 && mac.len() == 17;
    let odd = pairs.first().is_none_or(|first| first & 1 != 0);
    (!whole || odd)
        .then(|| (".mac", format!("`{}` is not a MAC address of one interface", mac.escape_default())))
}

/// What only a static guest can have, and how those agree with one another.
fn static_parts(config: &ImageConfig, guest: &Guest) -> Fault {
    let only = "only a guest with start = \"static\" can have it: xl knows nothing of the kind";
    if guest.start != Start::Static {
        let field = if guest.event_channels.is_empty() { "shared-memory" } else { "event-channel" };
        let some = !guest.event_channels.is_empty() || !guest.shared_memory.is_empty();
        return some.then(|| (field.to_owned(), only.to_owned()));
    }
    for (index, channel) in guest.event_channels.iter().enumerate() {
        let field = |name: &str, message: String| Some((format!("event-channel.{index}.{name}"), message));
        for (name, port) in [("port", channel.port), ("peer-port", channel.peer_port)] {
            if !(1..MAX_PORT).contains(&port) {
                return field(name, format!("{port} is not from 1 to {}", MAX_PORT - 1));
            }
        }
        let names: Vec<&str> =
            config.static_guests().map(|(_, guest)| guest.name.as_str()).chain(["dom0"]).collect();
        if !names.contains(&channel.peer.as_str()) {
            let help = did_you_mean(&channel.peer, names.iter().copied());
            let text = format!("no static guest is called `{}`; {help}", channel.peer.escape_default());
            return field("peer", text);
        }
        // Each port is one end of one channel.
        let ends = config.static_guests().flat_map(|(_, guest)| {
            guest.event_channels.iter().flat_map(|channel| {
                [(guest.name.as_str(), channel.port), (channel.peer.as_str(), channel.peer_port)]
            })
        });
        let ends: Vec<(&str, u32)> = ends.collect();
        for (name, end) in [
            ("port", (guest.name.as_str(), channel.port)),
            ("peer-port", (channel.peer.as_str(), channel.peer_port)),
        ] {
            if ends.iter().filter(|other| **other == end).count() > 1 {
                return field(name, format!("port {} of {} is an end of two channels", end.1, end.0));
            }
        }
    }
    shared::fault(config, guest)
}
