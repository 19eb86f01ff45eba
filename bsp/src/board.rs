//! The description of a board, as `board.toml` gives it.

use crate::size::Size;
use crate::version::QemuVersion;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

/// A board: identity, machine facts the image needs, and how QEMU runs it.
///
/// Addresses are physical, in the CPU's address space, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Board {
    /// The name a person types; the same as the folder's.
    pub id: String,
    /// The name a person reads.
    pub name: String,
    /// Who makes the board.
    pub vendor: String,
    /// The system on chip, or the machine model.
    pub soc: String,
    /// The CPU's architecture.
    pub architecture: Architecture,
    /// Whether it exists as an emulator's or a model's machine only, so that nobody has a medium or a cable for it.
    #[serde(default)]
    pub emulated: bool,
    /// Where the device tree comes from.
    pub device_tree: DeviceTree,
    /// Where RAM is and how much there may be.
    pub memory: Memory,
    /// The UART the hypervisor writes to before it has read the device tree. Without it the hypervisor is silent
    /// until then.
    pub console: Option<Console>,
    /// The serial line that shows the console to a person.
    pub serial: Option<Serial>,
    /// What the hypervisor is compiled with.
    pub hypervisor: Hypervisor,
    /// What dom0's kernel needs before it can reach the medium.
    #[serde(default)]
    pub dom0: Dom0,
    /// Firmware files, by a name of this description's own.
    #[serde(default)]
    pub firmware: BTreeMap<String, Firmware>,
    /// The boot method used where none is asked for.
    pub default_method: Method,
    /// How the board can be booted.
    pub boot: BTreeMap<Method, BootMethod>,
    /// How QEMU runs the board; without it the board cannot be booted here.
    pub qemu: Option<Qemu>,
    /// What a user should know.
    #[serde(default)]
    pub notes: Vec<String>,
    /// How and where this description was seen to boot. Empty where nobody has seen that.
    #[serde(default)]
    pub verified: Vec<String>,
}

impl Board {
    /// The boot method with this name, or the default one.
    pub fn method(&self, wanted: Option<Method>) -> Option<(Method, &BootMethod)> {
        let method = wanted.unwrap_or(self.default_method);
        self.boot.get(&method).map(|boot| (method, boot))
    }

    /// Whether no boot of this board was seen: no machine of QEMU is described, and nobody has written one down.
    pub fn never_booted(&self) -> bool {
        self.qemu.is_none() && self.verified.is_empty()
    }
}

/// The CPU's architecture and register width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// ARMv8-A in AArch64.
    Aarch64,
    /// ARMv7-A with the virtualization extensions.
    Armv7,
}

impl Architecture {
    /// The name as descriptions write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64",
            Self::Armv7 => "armv7",
        }
    }

    /// Debian's name.
    pub const fn debian(self) -> &'static str {
        match self {
            Self::Aarch64 => "arm64",
            Self::Armv7 => "armhf",
        }
    }

    /// The Rust target the hypervisor is compiled for.
    pub const fn target(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-unknown-none-softfloat",
            Self::Armv7 => "armv7a-none-eabi",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where the device tree of the board comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "from", deny_unknown_fields, rename_all = "kebab-case")]
pub enum DeviceTree {
    /// The firmware has one and hands it on at run time.
    Firmware {},
    /// One that came with dom0's kernel, which the image carries. Kernel and tree are of one version this way.
    Kernel {
        /// The path below the folder of the package's trees, as `allwinner/sun50i-a64-pine64-plus.dtb`.
        path: String,
        /// What is different on the image.
        #[serde(default)]
        amend: Vec<Amendment>,
    },
    /// A file in a Debian package, which the image carries.
    Package {
        /// The package's name.
        package: String,
        /// The file's absolute path in the package.
        path: String,
        /// What is different on the image.
        #[serde(default)]
        amend: Vec<Amendment>,
    },
    /// A file beside the board's description, which the image carries.
    File {
        /// The path, relative to the board's folder.
        path: String,
    },
}

impl DeviceTree {
    /// Whether the image carries the tree, so that it is known when the image is built.
    pub const fn is_carried(&self) -> bool {
        !matches!(self, Self::Firmware {})
    }

    /// What is different on the image from the tree as somebody else made it.
    pub fn amendments(&self) -> &[Amendment] {
        match self {
            Self::Kernel { amend, .. } | Self::Package { amend, .. } => amend,
            Self::Firmware {} | Self::File { .. } => &[],
        }
    }
}

/// A property of a device tree that the image has otherwise than the tree it comes from, where that is wrong for the
/// hypervisor or for the board's firmware.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Amendment {
    /// The node's path; the tree has to have it.
    pub node: String,
    /// The property's name. One that is there is replaced.
    pub property: String,
    /// Its value, as 32-bit cells.
    pub cells: Vec<u32>,
    /// Why.
    pub why: String,
}

/// What dom0's kernel needs before it can reach the medium.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Dom0 {
    /// The kernel modules that drive the medium, by name. The ramdisk loads them, each after those that it depends on.
    pub modules: Vec<String>,
    /// How long the ramdisk waits for the root partition to appear, in seconds.
    pub root_device_wait: u32,
    /// The virtual CPUs of dom0 where none are asked for; as many as the machine has CPUs unless given.
    pub cpus: Option<u32>,
}

impl Default for Dom0 {
    fn default() -> Self {
        Self { modules: Vec::new(), root_device_wait: 30, cpus: None }
    }
}

/// Where RAM is, and how much of it there may be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Memory {
    /// The first address of RAM.
    pub base: u64,
    /// The size planned for where none is asked for.
    pub default: Size,
    /// The smallest size that boots.
    pub min: Size,
    /// The largest size the machine takes.
    pub max: Size,
}

/// A UART as the hypervisor uses it before it has a device tree.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Console {
    /// The driver; it has to be among [`Hypervisor::drivers`].
    pub driver: Driver,
    /// The physical address of the first register.
    pub base: u64,
    /// The distance of two registers, as a power of two in bytes.
    #[serde(default)]
    pub reg_shift: u8,
    /// The interrupt, as a shared peripheral interrupt's number: INTID minus 32.
    pub spi: u32,
}

/// A serial line as a person attaches to it: 8 data bits, no parity, 1 stop bit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Serial {
    /// Bits per second, as firmware and `/chosen/stdout-path` of the device tree have it.
    pub baud: u32,
    /// What the board calls its connector.
    pub connector: Option<String>,
}

impl Serial {
    /// The speeds that there are, in bits per second: from a slow modem's to what the fastest adapters take.
    pub const BAUDS: RangeInclusive<u32> = 300..=4_000_000;
}

/// A driver of the hypervisor; each is a cargo feature of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// GICv2 with the virtualization extensions.
    Gicv2,
    /// GICv3.
    Gicv3,
    /// ARM's PL011 UART.
    Pl011,
    /// UARTs that look like a National 16550.
    Ns16550,
    /// Samsung's UART, as in Exynos 4 and 5.
    Exynos4210,
}

impl Driver {
    /// The name, which is also the cargo feature.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gicv2 => "gicv2",
            Self::Gicv3 => "gicv3",
            Self::Pl011 => "pl011",
            Self::Ns16550 => "ns16550",
            Self::Exynos4210 => "exynos4210",
        }
    }

    /// Whether it drives an interrupt controller.
    pub const fn is_gic(self) -> bool {
        matches!(self, Self::Gicv2 | Self::Gicv3)
    }

    /// The most virtual CPUs of a domain behind this interrupt controller, `None` if it is none: a GICv2 has 8 CPU
    /// interfaces (Arm IHI 0048B, 1.1), and a domain of Xen's interface for Arm has at most 128 vCPUs
    /// (`GUEST_MAX_VCPUS` in `arch-arm.h`).
    pub const fn max_vcpus(self) -> Option<u32> {
        match self {
            Self::Gicv2 => Some(8),
            Self::Gicv3 => Some(128),
            Self::Pl011 | Self::Ns16550 | Self::Exynos4210 => None,
        }
    }

    /// Whether it drives a UART.
    pub const fn is_uart(self) -> bool {
        matches!(self, Self::Pl011 | Self::Ns16550 | Self::Exynos4210)
    }
}

/// What the hypervisor is compiled with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hypervisor {
    /// The drivers compiled in.
    pub drivers: Vec<Driver>,
}

/// A firmware file of the board. It is in a Debian package, or beside the board's description, or the user's: see
/// [`Firmware::origin`]. An image's description can name a file in place of it, whatever it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Firmware {
    /// The Debian package it is in.
    pub package: Option<String>,
    /// The package's architecture in Debian's words, where it is not the board's (`all` packages need none).
    pub architecture: Option<String>,
    /// The absolute path in the package; without a package, the path of a file beside the description, relative to the
    /// board's folder.
    pub path: Option<String>,
    /// The byte of the medium it is written to, where the board's ROM reads it from there.
    pub offset: Option<Size>,
    /// The file's name in the root of the FAT partition that is marked, where the board's ROM reads files. A layout says
    /// whether it is there or at `offset`.
    pub file: Option<String>,
    /// What it has to be; a file that is none is refused. Anything is taken where this is not given.
    pub format: Option<FirmwareFormat>,
    /// The memory that the board's ROM may load it to.
    pub memory: Option<LoadWindow>,
    /// QEMU's arguments for it; `{file}` stands for the file's path, `{folder}` for that of the board's folder.
    #[serde(default)]
    pub qemu: Vec<String>,
}

impl Firmware {
    /// Where the file comes from unless an image's description names another one.
    pub fn origin(&self) -> Origin<'_> {
        match (&self.package, &self.path) {
            (Some(package), path) => Origin::Package { package, path: path.as_deref().unwrap_or_default() },
            (None, Some(path)) => Origin::Beside { path },
            (None, None) => Origin::User,
        }
    }

    /// Whether it is written to the medium; else it is QEMU's alone.
    pub const fn is_on_medium(&self) -> bool {
        self.offset.is_some() || self.file.is_some()
    }
}

/// Where a firmware file comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// A Debian package.
    Package {
        /// The package's name.
        package: &'a str,
        /// The absolute path in the package.
        path: &'a str,
    },
    /// A file beside the board's description.
    Beside {
        /// The path, relative to the board's folder.
        path: &'a str,
    },
    /// The user, who may name it in an image's description. Where that does not, the firmware is not on the medium, and
    /// the board has it elsewhere.
    User,
}

/// What a firmware file is, where its form is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirmwareFormat {
    /// What the boot ROMs of TI's OMAP and its relatives load: U-Boot's first stage behind TI's headers (U-Boot,
    /// tools/omapimage.h and tools/gpheader.h).
    Mlo,
    /// U-Boot as its first stage loads it, in a legacy image (U-Boot, include/image.h) or a FIT.
    UBootImage,
    /// What Allwinner's boot ROMs load, U-Boot's first stage behind an eGON header (U-Boot, include/sunxi_image.h), and U-Boot
    /// behind that.
    Egon,
}

/// Memory that something is loaded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LoadWindow {
    /// The first physical address.
    pub base: u64,
    /// The size.
    pub size: Size,
}

impl LoadWindow {
    /// The first address behind it.
    pub const fn end(&self) -> u64 {
        self.base.saturating_add(self.size.bytes())
    }
}

/// How a board gets from its firmware to the hypervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// U-Boot runs a boot script.
    Uboot,
    /// UEFI firmware starts the hypervisor as an application.
    Uefi,
    /// There is no firmware: a loader outside of the machine, such as a boot wrapper of a model, puts hypervisor,
    /// kernel, ramdisk and device tree to their addresses and starts the hypervisor.
    Direct,
}

impl Method {
    /// All methods.
    pub const ALL: [Self; 3] = [Self::Uboot, Self::Uefi, Self::Direct];

    /// The name as descriptions and options write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uboot => "uboot",
            Self::Uefi => "uefi",
            Self::Direct => "direct",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one boot method needs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BootMethod {
    /// The layouts that boot this way; the first is used where none is asked for.
    pub layouts: Vec<String>,
    /// The firmware files it takes, by their names in [`Board::firmware`].
    #[serde(default)]
    pub firmware: Vec<String>,
    /// The physical address U-Boot loads the boot script to (its `scriptaddr`).
    pub script_address: Option<u64>,
    /// What the board's own U-Boot lacks of what U-Boot has had since 2014; nothing where this is not given.
    pub old: Option<OldUboot>,
    /// Memory the firmware uses while it loads; nothing may be loaded there.
    #[serde(default)]
    pub reserved: Vec<Reserved>,
    /// Options added to QEMU's `-machine`.
    #[serde(default)]
    pub machine_options: Vec<String>,
}

impl BootMethod {
    /// Where an old U-Boot puts the hypervisor, if it starts nothing but its own format ([`OldUboot::bootm`]).
    pub fn bootm(&self) -> Option<u32> {
        self.old.as_ref()?.bootm
    }
}

/// A U-Boot from before distributions agreed on how it boots (2014): its environment does not say which medium it boots from,
/// and it reads files and starts kernels by other commands.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OldUboot {
    /// The medium's interface, as `scsi` or `mmc`.
    pub interface: String,
    /// The medium's number at the interface.
    #[serde(default)]
    pub device: u32,
    /// Where `bootm` puts the hypervisor, as an offset in bytes from the start of RAM. It is in a file of U-Boot's own format
    /// then: there is neither `booti` nor `bootz`.
    pub bootm: Option<u32>,
}

/// Memory that must not be loaded to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Reserved {
    /// Whose it is.
    pub what: String,
    /// The first physical address; without it the range ends where RAM ends.
    pub base: Option<u64>,
    /// The size.
    pub size: Size,
}

/// How QEMU runs the board.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Qemu {
    /// The program.
    pub binary: String,
    /// The Debian package with the program.
    pub package: String,
    /// The machine type (`-machine`).
    pub machine: String,
    /// The first version of QEMU whose machine does not serve this board any more.
    pub before: Option<QemuVersion>,
    /// Whether the machine is none of QEMU's own but one of the board models in `ci/board-models`, which are compiled for
    /// the QEMU that is installed and loaded into it.
    #[serde(default)]
    pub model: bool,
    /// Options of the machine.
    #[serde(default)]
    pub machine_options: Vec<String>,
    /// The CPU model (`-cpu`), for machines that take more than one.
    pub cpu: Option<String>,
    /// Who starts the hypervisor in this machine.
    #[serde(default)]
    pub loader: Loader,
    /// Whether the machine ends when dom0 switches off; some have no way to.
    #[serde(default = "yes")]
    pub power_off: bool,
    /// What sizes of a medium the machine takes. The image has such a size.
    #[serde(default)]
    pub disk_size: DiskSize,
    /// The number of CPUs where none is asked for.
    pub cpus: u32,
    /// The most CPUs the machine takes.
    pub max_cpus: u32,
    /// The arguments that attach the medium; `{image}` stands for the image's path.
    pub disk: Vec<String>,
    /// Further arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Ways to run the machine that differ in hardware but not in the image.
    #[serde(default)]
    pub variants: BTreeMap<String, Variant>,
    /// The variant used where none is asked for; needed where there are variants.
    pub default_variant: Option<String>,
}

const fn yes() -> bool {
    true
}

/// Who starts the hypervisor in QEMU's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loader {
    /// The boot method's firmware, from the medium.
    #[default]
    Firmware,
    /// The builder stands in for the firmware, which is not to be had or does not run on the machine: it takes the
    /// files out of the image, and QEMU puts them to the addresses at which the firmware would.
    Direct,
}

/// What sizes of a medium a machine takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskSize {
    /// Any multiple of a sector.
    #[default]
    Any,
    /// Powers of two only, as QEMU's SD cards.
    PowerOfTwo,
}

/// A way to run the machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Variant {
    /// What is different.
    pub description: String,
    /// Options added to QEMU's `-machine`.
    #[serde(default)]
    pub machine_options: Vec<String>,
    /// The most CPUs, where it differs from [`Qemu::max_cpus`].
    pub max_cpus: Option<u32>,
    /// The interrupt controller, by its driver, where the board has drivers for several. It limits the virtual CPUs
    /// that a domain can have.
    pub gic: Option<Driver>,
    /// The arguments that attach the medium, where they are not those of [`Qemu::disk`].
    #[serde(default)]
    pub disk: Vec<String>,
}
