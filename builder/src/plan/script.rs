//! What tells the firmware, or the hypervisor under UEFI, what to load: U-Boot's boot script and `vambrace.cfg`.

use crate::error::{Error, Result};
use crate::guest::nodes::Node;
use crate::hypervisor::{EfiSyntax, HypervisorKind};
use crate::kernel::Format;
use crate::layout::{Content, Layout};
use crate::slot::{self, SlotName, chooser};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use vambrace_bsp::OldUboot;

/// A file that is loaded before the hypervisor starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// What it is.
    pub content: Content,
    /// Its path on the boot partition.
    pub path: String,
    /// The physical address it is loaded to.
    pub address: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// What the boot script has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script<'a> {
    /// The board the image is for.
    pub board: &'a str,
    /// What the hypervisor is, and so the command that starts it.
    pub format: Format,
    /// The files.
    pub loads: &'a [Load],
    /// Where the firmware's device tree is copied to, and the room for it. Where the image carries a tree, that is
    /// among the files, and complete.
    pub tree: (u64, u64),
    /// The hypervisor's command line.
    pub hypervisor_args: &'a str,
    /// dom0's command line.
    pub dom0_args: &'a str,
    /// The guests that the hypervisor starts, as nodes of `/chosen`.
    pub guests: &'a [Node],
    /// The devices that are guests', by their paths in the firmware's tree.
    pub devices: &'a [String],
    /// Whether it is a slot's: its files are then in the folder of the slot that is being started, and what chose the slot adds
    /// to dom0's command line.
    pub slot: bool,
    /// What the board's U-Boot lacks, and the number of the partition with the files, where it does not know that either.
    pub old: Option<(&'a OldUboot, usize)>,
}

impl Script<'_> {
    /// The script's text, for U-Boot's shell.
    ///
    /// It loads each file to its planned address and stops when one is not there or is not the one that was planned
    /// for: a larger one would lie on its neighbour. Then it describes kernel and ramdisk in the firmware's device tree,
    /// by the multiboot protocol for ARM (Xen, docs/misc/arm/device-tree/booting.txt), and starts the hypervisor. A tree
    /// that the image carries has them already; to either, U-Boot adds what it alone knows (memory, PSCI, addresses of
    /// network interfaces) when it starts the hypervisor.
    ///
    /// # Errors
    ///
    /// A script without a hypervisor, kernel or ramdisk.
    pub fn text(&self) -> Result<String> {
        let moved = self.load(Content::HypervisorUimage).ok();
        let hypervisor = self.load(Content::Hypervisor)?;
        let (tree, _) = self.tree;
        let mut text = String::new();
        let mut line = |content: &str| {
            text.push_str(content);
            text.push('\n');
        };
        line(&format!(
            "# Starts the hypervisor on {}. The addresses were planned for exactly these files.",
            self.board
        ));
        let mut read = "load";
        if let Some((old, partition)) = &self.old {
            read = "fatload";
            line(&format!(
                "if test -n \"${{distro_bootpart}}\"; then true; else setenv devtype {}; setenv devnum {}; setenv \
                 distro_bootpart {partition}; fi",
                old.interface, old.device
            ));
        }
        for load in self.loads.iter().filter(|load| moved.is_none() || load.content != Content::Hypervisor) {
            let Load { address, size, .. } = load;
            let path = self.path(load);
            line(&checked(
                &format!("{read} ${{devtype}} ${{devnum}}:${{distro_bootpart}} {address:#x} {path}"),
                &format!("cannot load {path}"),
            ));
            line(&checked(
                &format!("itest ${{filesize}} == {size:x}"),
                &format!("{path} is not the file this image was planned for; make the image anew"),
            ));
        }
        // The hypervisor's own command line is in the device tree, and the tree stays where it is put.
        line("setenv bootargs");
        let stay = match self.format {
            Format::Image => "0xffffffffffffffff",
            Format::Zimage => "0xffffffff",
        };
        let (command, start) = match (moved, self.format) {
            (Some(moved), _) => ("bootm", moved.address),
            (None, Format::Image) => ("booti", hypervisor.address),
            (None, Format::Zimage) => ("bootz", hypervisor.address),
        };
        line(&format!("setenv fdt_high {stay}"));
        let edits = match self.load(Content::DeviceTree) {
            Err(_) => self.edits()?,
            // The tree is complete but for what only the script that chose the slot knows.
            Ok(_) if self.slot => vec![
                format!("fdt addr {tree:#x}"),
                "fdt resize 0x1000".to_owned(),
                format!("fdt set /chosen xen,dom0-bootargs \"{}\"", self.dom0_args()),
            ],
            Ok(_) => Vec::new(),
        };
        edits.iter().for_each(|edit| line(&checked(edit, "cannot prepare the device tree")));
        line(&format!("{command} {start:#x} - {tree:#x}"));
        line("echo \"vambrace: U-Boot could not start the hypervisor\"");
        Ok(text)
    }

    /// The commands that copy the firmware's device tree and describe the modules in the copy.
    fn edits(&self) -> Result<Vec<String>> {
        let (tree, room) = self.tree;
        let mut edits = vec![
            "fdt addr ${fdtcontroladdr}".to_owned(),
            format!("fdt move ${{fdtcontroladdr}} {tree:#x} {room:#x}"),
            format!("fdt resize {:#x}", 0x8000 + 0x1000 * self.guests.len() + 0x100 * self.devices.len()),
            "fdt chosen".to_owned(),
            "fdt set /chosen \\#address-cells <2>".to_owned(),
            "fdt set /chosen \\#size-cells <2>".to_owned(),
            format!("fdt set /chosen xen,xen-bootargs \"{}\"", self.hypervisor_args),
            format!("fdt set /chosen xen,dom0-bootargs \"{}\"", self.dom0_args()),
        ];
        for (content, kind) in
            [(Content::Kernel, "multiboot,kernel"), (Content::Ramdisk, "multiboot,ramdisk")]
        {
            let Load { address, size, .. } = self.load(content)?;
            let node = format!("module@{address:x}");
            let cells = |value: u64| format!("{:#x} {:#x}", value >> 32, value & 0xffff_ffff);
            edits.extend([
                format!("fdt mknode /chosen {node}"),
                format!("fdt set /chosen/{node} compatible \"{kind}\" \"multiboot,module\""),
                format!("fdt set /chosen/{node} reg <{} {}>", cells(*address), cells(*size)),
            ]);
        }
        edits.extend(self.devices.iter().map(|path| format!("fdt set {path} xen,passthrough")));
        // U-Boot puts a node before those that are there, and the hypervisor numbers guests in their order.
        edits.extend(self.guests.iter().rev().flat_map(|guest| guest.commands("/chosen")));
        Ok(edits)
    }

    /// The path of a file, as the shell is told it.
    fn path(&self, load: &Load) -> String {
        let first = slot::path(SlotName::A, "");
        match load.path.strip_prefix(&first).filter(|_| self.slot) {
            Some(name) => format!("{}/${{{}}}/{name}", slot::FOLDER, chooser::SLOT),
            None => load.path.clone(),
        }
    }

    /// dom0's command line, as the shell is told it.
    fn dom0_args(&self) -> String {
        match self.slot {
            true => format!("{} ${{{}}}", self.dom0_args, chooser::DOM0),
            false => self.dom0_args.to_owned(),
        }
    }

    fn load(&self, content: Content) -> Result<&Load> {
        self.loads
            .iter()
            .find(|load| load.content == content)
            .ok_or_else(|| Error::new(format!("the boot script loads no {}", content.name())))
    }
}

/// One command that ends the script where it fails, with words.
fn checked(command: &str, otherwise: &str) -> String {
    format!("if {command}; then true; else echo \"vambrace: {otherwise}\"; exit 1; fi")
}

/// The configuration the hypervisor reads as an EFI application: `key=value` lines, files named beside itself. With
/// `own_tree` it takes the image's device tree in place of the firmware's.
///
/// # Errors
///
/// A layout that has them in different folders.
pub fn efi_config(
    layout: &Layout,
    board: &str,
    kind: HypervisorKind,
    hypervisor_args: &str,
    dom0_args: &str,
    own_tree: bool,
) -> Result<String> {
    let place = |content: Content| {
        layout
            .find(content)
            .ok_or_else(|| Error::new(format!("the layout `{}` has no {}", layout.id, content.name())))
    };
    let (partition, hypervisor) = place(Content::Hypervisor)?;
    let (folder, _) = hypervisor.rsplit_once('/').unwrap_or(("", hypervisor));
    let beside = |content: Content| {
        let (other, path) = place(content)?;
        let (its_folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if (other, its_folder) == (partition, folder) {
            return Ok(name);
        }
        Err(Error::new(format!("in the layout `{}`, {path} is not in the folder of {hypervisor}", layout.id))
            .help("the hypervisor looks for its files beside itself"))
    };
    let config = beside(Content::EfiConfig)?;
    let expected = kind.efi_config(hypervisor);
    if config != expected {
        return Err(Error::new(format!(
            "in the layout `{}`, the configuration is called {config}",
            layout.id
        ))
        .help(format!("the hypervisor looks for {expected}")));
    }
    let mut text = format!("# What the hypervisor loads and starts on {board}, from the folder it is in.\n");
    if kind.traits().efi_syntax == EfiSyntax::Sections {
        text.push_str("[global]\ndefault=dom0\n\n[dom0]\n");
    }
    let _ = writeln!(text, "options={hypervisor_args}");
    let _ = writeln!(text, "kernel={} {dom0_args}", beside(Content::Kernel)?);
    let _ = writeln!(text, "ramdisk={}", beside(Content::Ramdisk)?);
    if own_tree {
        let _ = writeln!(text, "dtb={}", beside(Content::DeviceTree)?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: HypervisorKind = HypervisorKind::Vambrace;

    fn loads() -> Vec<Load> {
        let load = |content, path: &str, address, size| Load { content, path: path.into(), address, size };
        vec![
            load(Content::Hypervisor, "v/hyp", 0x4060_0000, 0x1234),
            load(Content::Kernel, "v/kernel", 0x1_4080_0000, 0x200),
            load(Content::Ramdisk, "v/ramdisk", 0x4100_0000, 0x300),
        ]
    }

    fn text(format: Format, loads: &[Load]) -> Result<String> {
        let tree = (0x4040_0000, 0x20_0000);
        Script {
            board: "b",
            format,
            loads,
            tree,
            hypervisor_args: "console=dtuart",
            dom0_args: "console=hvc0",
            guests: &[],
            devices: &[],
            slot: false,
            old: None,
        }
        .text()
    }

    #[test]
    fn the_script_checks_each_file_and_describes_the_modules() {
        let text = text(Format::Image, &loads()).unwrap();
        assert!(
            text.contains(
                "if load ${devtype} ${devnum}:${distro_bootpart} 0x40600000 v/hyp; then true; else"
            )
        );
        assert!(text.contains("if itest ${filesize} == 1234; then true; else"));
        assert!(text.contains(
            "fdt set /chosen/module@140800000 compatible \"multiboot,kernel\" \"multiboot,module\";"
        ));
        assert!(text.contains("fdt set /chosen/module@140800000 reg <0x1 0x40800000 0x0 0x200>;"));
        assert!(text.contains("fdt set /chosen xen,dom0-bootargs \"console=hvc0\";"));
        assert!(text.contains("\nbooti 0x40600000 - 0x40400000\n"));
    }

    #[test]
    fn a_tree_of_the_image_is_loaded_and_left_as_it_is() {
        let mut loads = loads();
        let (path, address, size) = ("v/tree".to_owned(), 0x4040_0000, 0x5000);
        loads.push(Load { content: Content::DeviceTree, path, address, size });
        let text = text(Format::Zimage, &loads).unwrap();
        assert!(
            text.contains("0x40400000 v/tree;") && text.contains("\nbootz 0x40600000 - 0x40400000\n"),
            "{text}"
        );
        assert!(!text.contains("fdt set"), "{text}");
    }

    #[test]
    fn an_old_u_boot_is_told_its_medium_and_moves_the_hypervisor_itself() {
        let mut loads = loads();
        loads.push(Load {
            content: Content::HypervisorUimage,
            path: "v/hyp.uimage".into(),
            address: 0x4200_0000,
            size: 0x1274,
        });
        loads.push(Load {
            content: Content::DeviceTree,
            path: "v/tree".into(),
            address: 0x4040_0000,
            size: 0x5000,
        });
        let old = OldUboot { interface: "scsi".into(), device: 0, bootm: Some(0x8_0000) };
        let script = Script {
            board: "b",
            format: Format::Image,
            loads: &loads,
            tree: (0x4040_0000, 0x20_0000),
            hypervisor_args: "",
            dom0_args: "",
            guests: &[],
            devices: &[],
            slot: false,
            old: Some((&old, 1)),
        };
        let text = script.text().unwrap();
        let first = text.lines().nth(1).unwrap();
        assert_eq!(
            first,
            "if test -n \"${distro_bootpart}\"; then true; else setenv devtype scsi; setenv devnum 0; setenv \
             distro_bootpart 1; fi"
        );
        assert!(
            text.contains("if fatload ${devtype} ${devnum}:${distro_bootpart} 0x42000000 v/hyp.uimage;"),
            "{text}"
        );
        // The file for others is not read.
        assert!(!text.contains("v/hyp;") && text.contains("\nbootm 0x42000000 - 0x40400000\n"), "{text}");
    }

    #[test]
    fn a_slot_s_script_names_the_slot_that_is_started() {
        let mut loads = loads();
        for load in &mut loads {
            load.path = load.path.replace("v/", "vambrace/a/");
        }
        let script = |loads: &[Load]| {
            let (tree, guests, devices) = ((0x4040_0000, 0x20_0000), &[][..], &[][..]);
            let (format, hypervisor_args, dom0_args) = (Format::Image, "console=dtuart", "console=hvc0");
            let script = Script {
                board: "b",
                format,
                loads,
                tree,
                hypervisor_args,
                dom0_args,
                guests,
                devices,
                slot: true,
                old: None,
            };
            script.text().unwrap()
        };
        let text = script(&loads);
        assert!(
            text.contains("0x40600000 vambrace/${vambrace_slot}/hyp; then") && !text.contains("/a/"),
            "{text}"
        );
        assert!(text.contains("xen,dom0-bootargs \"console=hvc0 ${vambrace_dom0}\";"), "{text}");
        let path = "vambrace/a/tree".to_owned();
        loads.push(Load { content: Content::DeviceTree, path, address: 0x4040_0000, size: 0x5000 });
        let text = script(&loads);
        let (loaded, set) =
            (text.find("${vambrace_slot}/tree").unwrap(), text.find("fdt set /chosen xen,dom0").unwrap());
        assert!(loaded < set && text.matches("fdt set").count() == 1, "{text}");
    }

    #[test]
    fn a_script_without_a_kernel_is_refused() {
        let mut loads = loads();
        loads.retain(|load| load.content != Content::Kernel);
        assert!(text(Format::Image, &loads).unwrap_err().what().contains("loads no kernel"));
    }

    #[test]
    fn the_efi_configuration_names_files_beside_the_hypervisor() {
        let toml = include_str!("../../../images/gpt-uefi.toml");
        let layout = Layout::parse("l", toml, "gpt-uefi").unwrap();
        let text = efi_config(&layout, "b", OURS, "dom0_mem=1G", "console=hvc0", false).unwrap();
        assert!(
            text.ends_with("\noptions=dom0_mem=1G\nkernel=kernel console=hvc0\nramdisk=ramdisk\n"),
            "{text}"
        );
        for (from, to) in [("EFI/BOOT/kernel", "kernel"), ("EFI/BOOT/vambrace.cfg", "EFI/BOOT/other.cfg")] {
            let layout = Layout::parse("l", &toml.replace(from, to), "gpt-uefi").unwrap();
            assert!(efi_config(&layout, "b", OURS, "", "", false).is_err(), "{to}");
        }
    }
}
