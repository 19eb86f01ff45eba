//! Device-tree nodes of guests that the hypervisor starts by itself, below `/chosen`: `xen,domain` with its modules, by
//! Xen's docs/misc/arm/device-tree/booting.txt, as text for U-Boot's `fdt` command or for a tree that is written.

use super::{EventChannel, Guest, SharedMemory};
use crate::config::ImageConfig;
use crate::layout::ModuleKind;

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name, with the unit address.
    pub name: String,
    /// Its properties.
    pub properties: Vec<(&'static str, Value)>,
    /// The nodes in it.
    pub children: Vec<Node>,
}

/// The value of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// None: that it is there says all.
    Flag,
    /// 32-bit cells.
    Cells(Vec<u32>),
    /// Strings, each with its NUL.
    Strings(Vec<String>),
}

/// Phandles of event channels' ends count up from here: far from those that compilers give, which begin at 1.
const FIRST_PHANDLE: u32 = 0x4000_0000;
/// dom0, as the other end of an event channel.
const DOM0: &str = "dom0";

fn cells(value: u64) -> [u32; 2] {
    [(value >> 32) as u32, value as u32]
}

fn strings(values: &[&str]) -> Value {
    Value::Strings(values.iter().map(|value| (*value).to_owned()).collect())
}

/// The nodes for all static guests of `config`, and for dom0's ends of their event channels. `place` gives the physical
/// address and the bytes of a module.
pub fn nodes(config: &ImageConfig, place: impl Fn(usize, ModuleKind) -> Option<(u64, u64)>) -> Vec<Node> {
    let ends = ends(config);
    let mut nodes: Vec<Node> = config
        .static_guests()
        .map(|(index, guest)| {
            let modules = ModuleKind::ALL.into_iter().filter_map(|kind| {
                let (address, size) = place(index, kind)?;
                Some(module(kind, address, size, &guest.args))
            });
            let own = ends.iter().filter(|end| end.domain == guest.name);
            let shared = guest.shared_memory.iter().map(shared_memory);
            Node {
                name: format!("domain-{}", guest.name),
                properties: properties(guest),
                children: modules.chain(own.map(End::node)).chain(shared).collect(),
            }
        })
        .collect();
    nodes.extend(ends.iter().filter(|end| end.domain == DOM0).map(End::node));
    nodes
}

fn properties(guest: &Guest) -> Vec<(&'static str, Value)> {
    let mut properties = vec![
        ("compatible", strings(&["xen,domain"])),
        ("#address-cells", Value::Cells(vec![2])),
        ("#size-cells", Value::Cells(vec![2])),
        ("memory", Value::Cells(cells(guest.memory.bytes() >> 10).to_vec())),
        ("cpus", Value::Cells(vec![guest.vcpus])),
    ];
    if guest.vuart {
        properties.push(("vpl011", Value::Flag));
    }
    // A guest learns of the hypervisor only if it has a use for it; disks and networks come by way of xenstore.
    let backends = !guest.disks.is_empty() || !guest.networks.is_empty();
    if backends {
        properties.push(("xen,enhanced", strings(&["enabled"])));
    } else if !guest.event_channels.is_empty() {
        properties.push(("xen,enhanced", strings(&["no-xenstore"])));
    }
    if guest.passthrough.is_some() {
        properties.push(("xen,passthrough", Value::Flag));
    }
    properties
}

fn module(kind: ModuleKind, address: u64, size: u64, args: &str) -> Node {
    let compatible = match kind {
        ModuleKind::Kernel => "multiboot,kernel",
        ModuleKind::Ramdisk => "multiboot,ramdisk",
        ModuleKind::DeviceTree => "multiboot,device-tree",
    };
    let reg = [cells(address), cells(size)].concat();
    let mut properties =
        vec![("compatible", strings(&[compatible, "multiboot,module"])), ("reg", Value::Cells(reg))];
    if kind == ModuleKind::Kernel {
        properties.push(("bootargs", strings(&[args])));
    }
    Node { name: format!("module@{address:x}"), properties, children: Vec::new() }
}

fn shared_memory(shared: &SharedMemory) -> Node {
    let place = shared.host_address.map(cells).into_iter();
    let place = place.chain([cells(shared.address), cells(shared.size.bytes())]).flatten().collect();
    Node {
        name: format!("shared-memory@{:x}", shared.address),
        properties: vec![
            ("compatible", strings(&["xen,domain-shared-memory-v1"])),
            ("role", strings(&[if shared.owner { "owner" } else { "borrower" }])),
            ("xen,shm-id", strings(&[&shared.id])),
            ("xen,shared-mem", Value::Cells(place)),
        ],
        children: Vec::new(),
    }
}

/// One end of an event channel.
struct End<'a> {
    domain: &'a str,
    port: u32,
    phandle: u32,
    peer: u32,
}

/// Both ends of every event channel.
fn ends(config: &ImageConfig) -> Vec<End<'_>> {
    let channels = config.static_guests().flat_map(|(_, guest)| {
        guest.event_channels.iter().map(move |channel: &EventChannel| (guest.name.as_str(), channel))
    });
    let mut all = Vec::new();
    for ((domain, channel), near) in channels.zip((FIRST_PHANDLE..).step_by(2)) {
        let far = near + 1;
        all.push(End { domain, port: channel.port, phandle: near, peer: far });
        all.push(End { domain: &channel.peer, port: channel.peer_port, phandle: far, peer: near });
    }
    all
}

impl End<'_> {
    fn node(&self) -> Node {
        Node {
            name: format!("evtchn@{:x}", self.port),
            properties: vec![
                ("compatible", strings(&["xen,evtchn-v1"])),
                ("xen,evtchn", Value::Cells(vec![self.port, self.peer])),
                ("phandle", Value::Cells(vec![self.phandle])),
            ],
            children: Vec::new(),
        }
    }
}

impl Node {
    /// U-Boot's commands that make the node below the node at `path`.
    pub fn commands(&self, path: &str) -> Vec<String> {
        let own = format!("{path}/{}", self.name);
        let mut commands = vec![format!("fdt mknode {path} {}", self.name)];
        for (name, value) in &self.properties {
            // In U-Boot's shell, `#` begins a comment.
            let name = name.replace('#', "\\#");
            commands.push(match value {
                Value::Flag => format!("fdt set {own} {name}"),
                Value::Cells(cells) => {
                    let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:#x}")).collect();
                    format!("fdt set {own} {name} <{}>", cells.join(" "))
                }
                Value::Strings(all) => {
                    let all: Vec<String> = all.iter().map(|text| format!("\"{text}\"")).collect();
                    format!("fdt set {own} {name} {}", all.join(" "))
                }
            });
        }
        commands.extend(self.children.iter().flat_map(|child| child.commands(&own)));
        commands
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
[[guest]]
name = "one"
start = "static"
memory = "128M"
vcpus = 2
vuart = true
args = "console=ttyAMA0"
[[guest.event-channel]]
port = 10
peer = "two"
peer-port = 11
[[guest.event-channel]]
port = 12
peer = "dom0"
peer-port = 13
[[guest.shared-memory]]
id = "mail"
size = "64K"
address = 0x3000_0000
host-address = 0x1_7000_0000
owner = true

[[guest]]
name = "two"
start = "static"
memory = "64M"
[[guest.shared-memory]]
id = "mail"
size = "64K"
address = 0x3000_0000
host-address = 0x1_7000_0000
"#;

    fn places(guest: usize, kind: ModuleKind) -> Option<(u64, u64)> {
        (kind != ModuleKind::DeviceTree).then_some((0x1_4000_0000 + guest as u64 * 0x100_0000, 0x1234))
    }

    #[test]
    fn nodes_follow_xen_s_bindings() {
        let config = ImageConfig::parse("f", CONFIG).unwrap();
        let nodes = nodes(&config, places);
        assert_eq!(
            nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(),
            ["domain-one", "domain-two", "evtchn@d"]
        );
        let text: Vec<String> = nodes.iter().flat_map(|node| node.commands("/chosen")).collect();
        for expected in [
            "fdt set /chosen/domain-one compatible \"xen,domain\"",
            "fdt set /chosen/domain-one \\#address-cells <0x2>",
            "fdt set /chosen/domain-one memory <0x0 0x20000>",
            "fdt set /chosen/domain-one cpus <0x2>",
            "fdt set /chosen/domain-one vpl011",
            "fdt set /chosen/domain-one xen,enhanced \"no-xenstore\"",
            "fdt set /chosen/domain-one/module@140000000 compatible \"multiboot,kernel\" \"multiboot,module\"",
            "fdt set /chosen/domain-one/module@140000000 reg <0x1 0x40000000 0x0 0x1234>",
            "fdt set /chosen/domain-one/module@140000000 bootargs \"console=ttyAMA0\"",
            "fdt set /chosen/domain-one/evtchn@a xen,evtchn <0xa 0x40000001>",
            "fdt set /chosen/domain-two/evtchn@b xen,evtchn <0xb 0x40000000>",
            "fdt set /chosen/evtchn@d xen,evtchn <0xd 0x40000002>",
            "fdt set /chosen/domain-one/shared-memory@30000000 xen,shared-mem <0x1 0x70000000 0x0 0x30000000 0x0 0x10000>",
            "fdt set /chosen/domain-two/shared-memory@30000000 role \"borrower\"",
        ] {
            assert!(text.iter().any(|line| line == expected), "{expected}: {text:#?}");
        }
    }
}
