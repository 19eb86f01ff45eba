//! A guest's file for xl (xl.cfg(5)), in dom0's /etc/xen.

use super::layout::{device_name, disk_name};
use super::partial::Resources;
use super::{Disk, Format, Guest, Medium, Start};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// Where dom0 keeps guests' kernels, RAM disks and trees.
pub const MODULES: &str = "/usr/lib/vambrace/guests";
/// Where dom0 keeps guests' disks that are files.
pub const DISKS: &str = "/var/lib/xen/images";
/// Xen's own range of MAC addresses.
const MAC_PREFIX: [u8; 3] = [0x00, 0x16, 0x3e];

/// What has been decided about a guest beside its description.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The kernel's absolute path in dom0.
    pub kernel: String,
    /// The RAM disk's.
    pub ramdisk: Option<String>,
    /// The partial device tree's, and the resources that it names.
    pub device_tree: Option<(String, Resources)>,
    /// The name of the volume group.
    pub volume_group: String,
}

/// The absolute path in dom0 of what a disk lies on.
pub fn target(guest: &Guest, disk: &Disk, volume_group: &str) -> String {
    let name = disk_name(guest, disk);
    match (disk.on, disk.format) {
        (Medium::File, Format::Raw) => format!("{DISKS}/{name}.img"),
        (Medium::File, Format::Qcow2) => format!("{DISKS}/{name}.qcow2"),
        (Medium::Partition, _) => format!("/dev/disk/by-partlabel/{name}"),
        (Medium::Volume, _) => format!("/dev/{volume_group}/{name}"),
    }
}

/// The MAC address of the guest's interface `index`.
pub fn mac(guest: &Guest, index: usize) -> String {
    if let Some(mac) = guest.networks.get(index).and_then(|network| network.mac.clone()) {
        return mac.to_ascii_lowercase();
    }
    let hash = Sha256::digest(format!("{} network {index}", guest.name));
    let bytes = MAC_PREFIX.into_iter().chain(hash.iter().copied().take(3));
    bytes.map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// The text of the guest's file.
pub fn text(guest: &Guest, facts: &Facts) -> String {
    let mut text = String::from(
        "# Made by vambrace from the image's description; xl.cfg(5) says what can be changed.\n",
    );
    if guest.start == Start::Static {
        text.push_str(
            "# The hypervisor starts this guest by itself. This file is for starting it again, with xl.\n",
        );
        if !guest.event_channels.is_empty() || !guest.shared_memory.is_empty() {
            text.push_str("# Its static event channels and shared memory are not there then.\n");
        }
    }
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key} = {value}");
    };
    let quoted = |value: &str| format!("\"{value}\"");
    line("name", quoted(&guest.name));
    line("kernel", quoted(&facts.kernel));
    if let Some(ramdisk) = &facts.ramdisk {
        line("ramdisk", quoted(ramdisk));
    }
    line("cmdline", quoted(&guest.args));
    line("memory", (guest.memory.bytes() >> 20).to_string());
    line("vcpus", guest.vcpus.to_string());
    // With ACPI tables, libxl 4.20 fails `xl mem-set` and `xl mem-max`.
    line("acpi", "0".to_owned());
    if guest.vuart {
        line("vuart", quoted("sbsa_uart"));
    }
    let list = |items: Vec<String>| {
        let items: String = items.iter().map(|item| format!("    {item},\n")).collect();
        format!("[\n{items}]")
    };
    if !guest.disks.is_empty() {
        let disks = guest.disks.iter().enumerate().map(|(index, disk)| {
            let access = if disk.read_only { "ro" } else { "rw" };
            let device = device_name(guest, index);
            let target = target(guest, disk, &facts.volume_group);
            // Debian has no QEMU with Xen's block devices for ARM: dom0's script has its tools show the file as raw.
            let source = match disk.format {
                Format::Raw => format!("target={target}"),
                Format::Qcow2 => format!("script=block-qemu, target=qcow2:{target}"),
            };
            // The target is last, and may have anything in it.
            format!("\"format=raw, vdev={device}, access={access}, {source}\"")
        });
        line("disk", list(disks.collect()));
    }
    if !guest.networks.is_empty() {
        let networks = guest.networks.iter().enumerate().map(|(index, network)| {
            let mac = mac(guest, index);
            match (&network.bridge, &network.open_vswitch) {
                (_, Some(switch)) => format!("\"mac={mac}, bridge={switch}, script=vif-openvswitch\""),
                (bridge, None) => format!("\"mac={mac}, bridge={}\"", bridge.as_deref().unwrap_or_default()),
            }
        });
        line("vif", list(networks.collect()));
    }
    if let Some((path, resources)) = &facts.device_tree {
        line("device_tree", quoted(path));
        if !resources.iomem.is_empty() {
            let iomem =
                resources.iomem.iter().map(|(from, count, to)| format!("\"{from:x},{count:x}@{to:x}\""));
            line("iomem", list(iomem.collect()));
        }
        if !resources.irqs.is_empty() {
            line("irqs", list(resources.irqs.iter().map(u32::to_string).collect()));
        }
        if !resources.dtdev.is_empty() {
            line("dtdev", list(resources.dtdev.iter().map(|path| quoted(path)).collect()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ImageConfig;

    #[test]
    fn a_file_has_everything_of_the_description() {
        let text = r#"
[[guest]]
name = "web"
memory = "256M"
vcpus = 2
vuart = true
args = "console=hvc0 quiet"
[[guest.disk]]
name = "root"
on = "volume"
size = "64M"
[[guest.disk]]
name = "data"
on = "partition"
size = "8M"
read-only = true
[[guest.disk]]
name = "swap"
on = "file"
format = "qcow2"
size = "1G"
device = "xvdz"
[[guest.network]]
bridge = "xenbr0"
[[guest.network]]
open-vswitch = "ovs0"
mac = "00:16:3E:01:02:03"
"#;
        let config = ImageConfig::parse("f", text).unwrap();
        let facts = Facts { kernel: "/k".into(), volume_group: "vambrace".into(), ..Facts::default() };
        let made = super::text(&config.guests[0], &facts);
        for expected in [
            "name = \"web\"\n",
            "memory = 256\n",
            "vcpus = 2\n",
            "vuart = \"sbsa_uart\"\n",
            "\"format=raw, vdev=xvda, access=rw, target=/dev/vambrace/web-root\"",
            "\"format=raw, vdev=xvdb, access=ro, target=/dev/disk/by-partlabel/web-data\"",
            "\"format=raw, vdev=xvdz, access=rw, script=block-qemu, target=qcow2:/var/lib/xen/images/web-swap.qcow2\"",
            "bridge=xenbr0\"",
            "\"mac=00:16:3e:01:02:03, bridge=ovs0, script=vif-openvswitch\"",
            "cmdline = \"console=hvc0 quiet\"\n",
        ] {
            assert!(made.contains(expected), "{expected}: {made}");
        }
        assert!(!made.contains("ramdisk"), "{made}");
        assert_eq!(mac(&config.guests[0], 0), mac(&config.guests[0], 0));
        assert!(mac(&config.guests[0], 0).starts_with("00:16:3e:"));
    }
}
