//! From what was asked for to what will be done: board, method, layout, memory, CPUs, command lines.

use crate::config::ImageConfig;
use crate::error::{Error, Result};
use crate::firmware::{self, FirmwareSource, with_firmware};
use crate::guest::{Guests, layout::with_guests};
use crate::hypervisor::HypervisorKind;
use crate::layout::{Content, Filesystem, Kind, Layout, Partition, not_for};
use crate::profile::Profile;
use crate::slot::{check_slots, with_slots};
use crate::workspace::{Workspace, described};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use vambrace_bsp::{
    Architecture, Board, BootMethod, DeviceTree, Driver, Method, Qemu, Size, Source, Variant, did_you_mean,
};
use vambrace_core::cmdline::{self, Warning};

const MIB: u64 = 1 << 20;
/// What drives a guest's disks and networks; a ramdisk without a hypervisor's devices passes them over.
const GUEST_DRIVERS: [&str; 2] = ["xen_blkfront", "xen_netfront"];
/// Seconds after which a hypervisor or a kernel of a slot that has ended badly resets the machine: time to read why.
const RESET_AFTER: u32 = 10;
/// Room for what the scripts of slots add to dom0's command line: the slot, its trial, the root file system.
const SLOT_ARGS: usize = 100;
/// The label of a root file system that is alone on its medium.
pub(crate) const ROOT_LABEL: &str = "root";

/// What a user asked for. What is `None` is decided from the board.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The board's name; a variant may follow after a colon.
    pub board: String,
    /// The variant of QEMU's machine.
    pub variant: Option<String>,
    /// The boot method.
    pub method: Option<Method>,
    /// The root file system.
    pub profile: Option<String>,
    /// The disk layout.
    pub layout: Option<String>,
    /// The architecture of dom0's kernel and root file system, where it is not the board's.
    pub dom0_arch: Option<Architecture>,
    /// dom0's memory.
    pub dom0_mem: Option<Size>,
    /// The machine's memory.
    pub memory: Option<Size>,
    /// The machine's CPUs.
    pub cpus: Option<u32>,
    /// dom0's virtual CPUs.
    pub dom0_cpus: Option<u32>,
    /// Added to the hypervisor's command line.
    pub hypervisor_args: Option<String>,
    /// Added to dom0's command line.
    pub dom0_args: Option<String>,
    /// The kind of hypervisor.
    pub kind: HypervisorKind,
    /// A hypervisor to use as it is, in place of compiling one.
    pub hypervisor_file: Option<PathBuf>,
    /// The board the hypervisor is compiled for, in place of the image's.
    pub hypervisor_board: Option<String>,
    /// Whether the image has two slots for what boots.
    pub slots: bool,
    /// What an image's description says of guests.
    pub config: ImageConfig,
    /// The folder for images; `out` where none is named.
    pub out: Option<PathBuf>,
}

/// Everything that follows from the request, the descriptions, and nothing else.
#[derive(Debug, Clone)]
pub struct Decision {
    /// What was asked for.
    pub request: Request,
    /// The board.
    pub board: Board,
    /// The variant of QEMU's machine, with its name.
    pub variant: Option<(String, Variant)>,
    /// The boot method.
    pub method: Method,
    /// What the board says of that method; of its firmware, what somebody has.
    pub boot: BootMethod,
    /// Where each file of its firmware comes from, by name.
    pub firmware: BTreeMap<String, FirmwareSource>,
    /// The firmware that is the user's to name and was not, so that it is not on the medium.
    pub firmware_elsewhere: Vec<String>,
    /// The boot method whose firmware starts the image in QEMU.
    pub starter: Method,
    /// The disk layout.
    pub layout: Layout,
    /// The root file system.
    pub profile: Profile,
    /// The folder of the board's description, for files beside it.
    pub board_dir: PathBuf,
    /// The architecture of dom0's kernel and root file system.
    pub dom0_arch: Architecture,
    /// The machine's memory.
    pub memory: Size,
    /// The machine's CPUs.
    pub cpus: u32,
    /// dom0's memory.
    pub dom0_mem: Size,
    /// dom0's virtual CPUs; without it the hypervisor gives it as many as the machine has.
    pub dom0_cpus: Option<u32>,
    /// Whether the image has two slots for what boots.
    pub slots: bool,
    /// The guests.
    pub guests: Guests,
    /// The kind of hypervisor.
    pub kind: HypervisorKind,
    /// Where the hypervisor comes from.
    pub hypervisor: HypervisorSource,
    /// The hypervisor's command line.
    pub hypervisor_args: String,
    /// dom0's command line.
    pub dom0_args: String,
    /// The image's path.
    pub image: PathBuf,
    /// What a user should know before anything is done.
    pub warnings: Vec<String>,
}

/// Where the hypervisor comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HypervisorSource {
    /// It is compiled for a board.
    Compile {
        /// The board's name.
        board: String,
        /// The Rust target.
        target: String,
        /// The cargo features: the board's drivers.
        features: Vec<String>,
        /// What the compilation learns of the board, as environment variables.
        env: Vec<(String, String)>,
    },
    /// It is in a Debian package.
    Package {
        /// The release.
        suite: String,
        /// Debian's name of the architecture.
        arch: String,
        /// The package's name.
        package: String,
        /// The absolute path in the package.
        path: String,
    },
    /// A file is used as it is.
    File(PathBuf),
}

/// The arguments `own` with `more` behind them.
pub(crate) fn added(own: Option<String>, more: &Option<String>) -> Option<String> {
    match (own, more) {
        (Some(own), Some(more)) => Some(format!("{own} {more}")),
        (own, more) => own.or_else(|| more.clone()),
    }
}

impl Request {
    /// What a description asks for; the board's name is empty where it names none.
    pub fn of(config: ImageConfig) -> Self {
        let ImageConfig { board, profile, method, layout, machine, hypervisor, dom0, disk, dir, .. } =
            &config;
        Self {
            board: board.clone().unwrap_or_default(),
            variant: None,
            method: *method,
            profile: profile.clone(),
            layout: layout.clone(),
            dom0_arch: dom0.architecture,
            dom0_mem: dom0.memory,
            memory: machine.memory,
            cpus: machine.cpus,
            dom0_cpus: dom0.cpus,
            hypervisor_args: hypervisor.args.clone(),
            dom0_args: dom0.args.clone(),
            kind: hypervisor.kind.unwrap_or_default(),
            hypervisor_file: hypervisor.file.as_ref().map(|file| dir.join(file)),
            hypervisor_board: hypervisor.board.clone(),
            slots: disk.slots,
            out: None,
            config,
        }
    }
}

impl Decision {
    /// Decides.
    ///
    /// # Errors
    ///
    /// Names that are not known, with the nearest that are; numbers the machine cannot have; command lines that
    /// cannot be passed on.
    pub fn new(workspace: &Workspace, request: &Request) -> Result<Self> {
        let (id, colon_variant) = match request.board.split_once(':') {
            Some((id, variant)) => (id, Some(variant)),
            None => (request.board.as_str(), None),
        };
        let board = workspace.boards().get(id).map_err(described)?.clone();
        let variant = variant(&board, colon_variant, request.variant.as_deref())?;
        let (method, boot) = board.method(request.method).ok_or_else(|| {
            let known = board.boot.keys().map(|method| method.name()).collect::<Vec<_>>().join(", ");
            Error::new(format!("{id} does not boot with {}", request.method.unwrap_or(board.default_method)))
                .help(format!("it boots with: {known}"))
        })?;
        if request.slots {
            check_slots(&board, method, boot)?;
            check_root(&request.config)?;
        }
        let mut boot = boot.clone();
        let board_dir = match workspace.boards().source(id) {
            Some(Source::Folder(path)) => path.clone(),
            Some(Source::Embedded) | None => workspace.root().join("bsp/boards").join(id),
        };
        let firmware = firmware::sources(&board, &boot, &board_dir, &request.config)?;
        let (there, firmware_elsewhere) =
            boot.firmware.into_iter().partition(|name| firmware.contains_key(name));
        boot.firmware = there;
        let dom0_arch = dom0_architecture(&board, request.dom0_arch)?;
        // As with a board's variant, the release may be named behind a colon.
        let (profile, release) = match request.profile.as_deref().unwrap_or("minimal").split_once(':') {
            Some((id, release)) => (id, Some(release)),
            None => (request.profile.as_deref().unwrap_or("minimal"), None),
        };
        let profile = workspace.profile(profile)?.of_release(release, dom0_arch.debian())?;
        let profile = with_packages(profile, &request.config)?;
        let layout = layout(workspace, &board, method, &boot, &profile, request)?;
        let layout = sized(layout, &request.config)?;
        // UEFI firmware loads nothing for guests, and marks no devices as theirs.
        let marked = board.device_tree.is_carried();
        let wants_script = request.config.static_guests().next().is_some()
            || (!marked && request.config.guests.iter().any(|guest| guest.passthrough.is_some()));
        let alone =
            wants_script && layout.method == Method::Uboot && layout.find(Content::EfiConfig).is_some();
        let layout = configuring(carrying(layout, &board, &boot, alone)?, request.kind);
        let layout = with_guests(layout, &request.config)?;
        let (layout, profile) = match request.slots {
            true => (with_slots(layout)?, profile.with_slots()?),
            false => (layout, profile),
        };
        let layout = with_firmware(layout, &board, &boot.firmware)?;
        let guests = Guests::new(workspace, request.config.clone(), dom0_arch, &profile.spec.suite)?;
        let memory = memory(&board, request.memory)?;
        let cpus = cpus(&board, variant.as_ref(), request.cpus)?;
        let dom0_mem = dom0_memory(memory, request.dom0_mem)?;
        if request.dom0_cpus == Some(0) {
            return Err(Error::new("dom0 cannot run without a CPU").help("give 1 or more with --dom0-cpus"));
        }
        let Line { text: hypervisor_args, dom0_cpus, mut warnings } =
            hypervisor_line(&board, dom0_mem, cpus, request)?;
        if alone {
            warnings.push(
                "this image boots by U-Boot alone: UEFI firmware would leave its guests out".to_owned(),
            );
        }
        vcpus_fit(&board, variant.as_ref(), dom0_cpus, &request.config)?;
        let mut own = "console=hvc0".to_owned();
        if request.slots {
            own.push_str(&format!(" panic={RESET_AFTER}"));
        }
        // A ramdisk of the user's own has nobody who looks after a trial.
        if request.slots && request.config.dom0.ramdisk.is_none() {
            own.push_str(" rdinit=/slot-init");
        }
        let dom0_args = join(&own, request.dom0_args.as_deref());
        let room = if request.slots { SLOT_ARGS } else { 0 };
        command_line("--dom0-args", &dom0_args, room)?;
        let hypervisor = hypervisor(workspace, &board, method, &profile, request)?;
        let out = request.out.clone().unwrap_or_else(|| PathBuf::from("out"));
        // Each dom0, each hypervisor and each description has an image of its own. A description's name stands after a
        // `+`, for it may be that of one of the others.
        let mut name = format!("{}-{}", layout.id, profile.spec.id);
        if let Some(release) = release {
            name.push_str(&format!("-{release}"));
        }
        if request.slots {
            name.push_str("-slots");
        }
        if dom0_arch != board.architecture {
            name.push_str(&format!("-{dom0_arch}"));
        }
        if request.kind != HypervisorKind::default() {
            name.push_str(&format!("-{}", request.kind.traits().name));
        }
        if let Some(stem) = request.config.stem() {
            name.push_str(&format!("+{stem}"));
        }
        let image = out.join(&board.id).join(format!("{name}.img"));
        Ok(Self {
            request: request.clone(),
            board,
            variant,
            method,
            boot,
            firmware,
            firmware_elsewhere,
            starter: method,
            layout,
            profile,
            board_dir,
            dom0_arch,
            memory,
            cpus,
            dom0_mem,
            dom0_cpus,
            slots: request.slots,
            guests,
            kind: request.kind,
            hypervisor,
            hypervisor_args,
            dom0_args,
            image,
            warnings,
        })
    }

    /// How QEMU runs the board.
    ///
    /// # Errors
    ///
    /// The board has no description of that.
    pub fn qemu(&self) -> Result<&Qemu> {
        self.board.qemu.as_ref().ok_or_else(|| {
            Error::new(format!("no machine of QEMU is described for {}", self.board.id))
                .help("write the image onto a card and boot the board from that")
        })
    }

    /// The same for a guest's disk, or to make what a guest is started with: as if it were dom0 of a machine whose medium
    /// has nothing on it but, with `root`, a root file system. `id` is the layout's.
    pub(crate) fn for_guest(mut self, id: String, root: bool) -> Self {
        self.board.dom0.modules.extend(GUEST_DRIVERS.map(str::to_owned));
        self.board.device_tree = DeviceTree::Firmware {};
        self.boot.firmware.clear();
        self.firmware.clear();
        self.firmware_elsewhere.clear();
        self.starter = self.method;
        self.guests = Guests::default();
        self.layout.id = id;
        self.layout.partitions.clear();
        if root {
            self.layout.partitions.push(Partition {
                name: ROOT_LABEL.into(),
                kind: Kind::Linux,
                bootable: false,
                filesystem: Filesystem::Ext4,
                label: ROOT_LABEL.into(),
                size: None,
                min_size: Size(0),
                slack: Size(0),
                files: Vec::new(),
            });
        }
        self
    }

    /// The number of CPUs dom0 should come up with.
    pub fn expected_dom0_cpus(&self) -> u32 {
        self.dom0_cpus.unwrap_or(self.cpus)
    }
}

fn variant(board: &Board, colon: Option<&str>, option: Option<&str>) -> Result<Option<(String, Variant)>> {
    if let (Some(colon), Some(option)) = (colon, option)
        && colon != option
    {
        return Err(Error::new(format!(
            "`{}:{colon}` and --variant {option} ask for different machines",
            board.id
        ))
        .help("name the variant once"));
    }
    let variants = board.qemu.as_ref().map(|qemu| &qemu.variants);
    let default = board.qemu.as_ref().and_then(|qemu| qemu.default_variant.as_deref());
    let Some(wanted) = colon.or(option).or(default) else { return Ok(None) };
    match variants.and_then(|variants| variants.get(wanted)) {
        Some(found) => Ok(Some((wanted.to_owned(), found.clone()))),
        None => {
            let known: Vec<&str> =
                variants.into_iter().flat_map(|all| all.keys().map(String::as_str)).collect();
            Err(Error::new(format!("{} has no variant called `{wanted}`", board.id))
                .help(did_you_mean(wanted, known)))
        }
    }
}

fn layout(
    workspace: &Workspace,
    board: &Board,
    method: Method,
    boot: &BootMethod,
    profile: &Profile,
    request: &Request,
) -> Result<Layout> {
    let wanted = request.layout.as_deref();
    let Some(first) = boot.layouts.first() else {
        return Err(Error::new(format!("{} names no layout for {method}", board.id)));
    };
    let layout = workspace.layout(wanted.unwrap_or(first))?;
    if layout.method != method || !boot.layouts.contains(&layout.id) {
        return Err(not_for(&layout, method, &board.id, &boot.layouts));
    }
    // Whole packages are too large for a ramdisk, and what xl needs of a guest is too.
    let guest = request.config.needs_dom0();
    let own = request.config.dom0.root.is_some();
    let wants = !profile.spec.root.install.is_empty() || guest.is_some() || own || request.slots;
    if !wants || layout.root().is_some() {
        return Ok(layout);
    }
    let mut fitting = Vec::new();
    for id in &boot.layouts {
        fitting.extend(Some(workspace.layout(id)?).filter(|layout| layout.root().is_some()));
    }
    let names = fitting.iter().map(|layout| layout.id.as_str()).collect::<Vec<_>>().join(", ");
    match (wanted, fitting.into_iter().next()) {
        (None, Some(layout)) => Ok(layout),
        (_, fitting) => {
            let who = match guest {
                Some(guest) => format!("the guest `{}`", guest.name),
                None if own => "the root file system of your own".to_owned(),
                None if request.slots && profile.spec.root.install.is_empty() => "`--slots`".to_owned(),
                None => format!("the profile `{}`", profile.spec.id),
            };
            let error =
                Error::new(format!("{who} wants a root partition, and the layout `{}` has none", layout.id));
            Err(match fitting {
                Some(_) => error.help(format!("choose one that has: {names}")),
                None => error.help(format!("{} has no such layout for {method}", board.id)),
            })
        }
    }
}

/// `profile` with the packages that a description adds.
fn with_packages(mut profile: Profile, config: &ImageConfig) -> Result<Profile> {
    let wanted = &config.dom0.packages;
    if wanted.is_empty() {
        return Ok(profile);
    }
    if profile.spec.root.install.is_empty() {
        let text = format!("the profile `{}` is not one that packages are added to", profile.spec.id);
        return Err(config
            .at("dom0.packages", text)
            .help("choose one that installs packages: profile = \"debian\""));
    }
    let new = wanted.iter().filter(|name| !profile.spec.root.install.contains(name)).cloned();
    let new: BTreeSet<String> = new.collect();
    profile.spec.root.install.extend(new);
    Ok(profile)
}

/// `layout` with the sizes that a description wants.
fn sized(mut layout: Layout, config: &ImageConfig) -> Result<Layout> {
    layout.size = config.disk.size.or(layout.size);
    for (name, wanted) in &config.disk.partitions {
        let id = layout.id.clone();
        let names: Vec<String> = layout.partitions.iter().map(|partition| partition.name.clone()).collect();
        let Some(partition) = layout.partitions.iter_mut().find(|partition| partition.name == *name) else {
            let text = format!("the layout `{id}` has no partition `{}`", name.escape_default());
            let help = did_you_mean(name, names.iter().map(String::as_str).collect::<Vec<_>>());
            return Err(config.at(&format!("disk.partition.{name}"), text).help(help));
        };
        partition.size = wanted.size.or(partition.size);
        if let Some(free) = wanted.free {
            partition.slack = free;
        }
    }
    Ok(layout)
}

/// Slots want a dom0 that says when it is up.
fn check_root(config: &ImageConfig) -> Result<()> {
    if config.dom0.root.is_none() {
        return Ok(());
    }
    let text =
        "nothing in a root file system of your own confirms a slot when dom0 is up, so none would be kept";
    Err(config.at("dom0.root", text).help("take a profile for its base, or leave out slots"))
}

/// A 64-bit CPU runs a 32-bit dom0 too, and not the other way round.
fn dom0_architecture(board: &Board, wanted: Option<Architecture>) -> Result<Architecture> {
    match (board.architecture, wanted) {
        (own, None) => Ok(own),
        (Architecture::Armv7, Some(Architecture::Aarch64)) => {
            Err(Error::new(format!("{} cannot run a 64-bit dom0: its CPUs have 32 bits", board.id))
                .help("leave out --dom0-arch"))
        }
        (_, Some(wanted)) => Ok(wanted),
    }
}

/// `layout` as it is for `board`: it may have a place for a device tree, and the board's firmware may have its own; one for what
/// only an old U-Boot starts; and one for what UEFI firmware starts besides, which it `alone` does not.
fn carrying(mut layout: Layout, board: &Board, boot: &BootMethod, alone: bool) -> Result<Layout> {
    let carried = board.device_tree.is_carried();
    if carried && layout.find(Content::DeviceTree).is_none() {
        return Err(Error::new(format!(
            "the layout `{}` has no device-tree, and {}'s firmware has none either",
            layout.id, board.id
        ))
        .help("add a file with the content device-tree to it"));
    }
    let useless = |content: Content| match content {
        Content::DeviceTree => !carried,
        Content::HypervisorUimage => boot.bootm().is_none(),
        Content::EfiConfig => alone,
        _ => false,
    };
    for partition in &mut layout.partitions {
        partition.files.retain(|file| !useless(file.content));
    }
    Ok(layout)
}

/// `layout` with the configuration that a hypervisor of this kind reads.
fn configuring(mut layout: Layout, kind: HypervisorKind) -> Layout {
    let config = kind.efi_config(layout.find(Content::Hypervisor).map_or("", |(_, path)| path));
    let files = layout.partitions.iter_mut().flat_map(|partition| &mut partition.files);
    for file in files.filter(|file| file.content == Content::EfiConfig) {
        let folder = file.path.rfind('/').map_or(0, |slash| slash + 1);
        file.path.truncate(folder);
        file.path.push_str(&config);
    }
    layout
}

fn memory(board: &Board, wanted: Option<Size>) -> Result<Size> {
    let size = wanted.unwrap_or(board.memory.default);
    let limits = &board.memory;
    if size < limits.min || size > limits.max || !size.bytes().is_multiple_of(MIB) {
        return Err(Error::new(format!("{} cannot have {size} of memory", board.id))
            .help(format!("give a multiple of 1M from {} to {} with --memory", limits.min, limits.max)));
    }
    Ok(size)
}

fn cpus(board: &Board, variant: Option<&(String, Variant)>, wanted: Option<u32>) -> Result<u32> {
    let Some(qemu) = &board.qemu else { return Ok(wanted.unwrap_or(1)) };
    let max = variant.and_then(|(_, variant)| variant.max_cpus).unwrap_or(qemu.max_cpus);
    let cpus = wanted.unwrap_or(qemu.cpus);
    if (1..=max).contains(&cpus) {
        return Ok(cpus);
    }
    let error = Error::new(match variant {
        Some((name, _)) => format!("{} with {name} has 1 to {max} CPUs, not {cpus}", board.id),
        None => format!("{} has 1 to {max} CPUs, not {cpus}", board.id),
    });
    let more =
        qemu.variants.iter().find(|(_, other)| cpus > 0 && other.max_cpus.unwrap_or(qemu.max_cpus) >= cpus);
    Err(match more {
        Some((name, _)) => error.help(format!("--variant {name} takes as many")),
        None => error.help(format!("give 1 to {max} with --cpus")),
    })
}

/// Half of the machine's memory, and not more than 1 GiB, where nothing else is asked for: enough for a toolstack, and
/// the rest is for guests.
fn dom0_memory(memory: Size, wanted: Option<Size>) -> Result<Size> {
    const LEAST: u64 = 64 * MIB;
    let size = wanted.unwrap_or(Size((memory.bytes() / 2).min(1 << 30)));
    if size.bytes() < LEAST || !size.bytes().is_multiple_of(MIB) {
        return Err(Error::new(format!("dom0 cannot have {size} of memory"))
            .help("give a multiple of 1M, and at least 64M, with --dom0-mem"));
    }
    if size >= memory {
        return Err(Error::new(format!("dom0 cannot have {size} of the machine's {memory}"))
            .help("give dom0 less with --dom0-mem, or the machine more with --memory"));
    }
    Ok(size)
}

/// The hypervisor's command line, and what follows from it.
struct Line {
    text: String,
    /// dom0's virtual CPUs, if the line limits them.
    dom0_cpus: Option<u32>,
    warnings: Vec<String>,
}

/// Puts the hypervisor's command line together and reads it as the hypervisor will. What that would ignore is refused
/// here, where somebody reads it; only a hypervisor that was not compiled here may know more options than this one.
fn hypervisor_line(board: &Board, dom0_mem: Size, cpus: u32, request: &Request) -> Result<Line> {
    let mut own = format!("console=dtuart dom0_mem={}M", dom0_mem.bytes() / MIB);
    // Xen's resets by itself.
    if request.slots && request.kind == HypervisorKind::Vambrace {
        own.push_str(&format!(" panic={RESET_AFTER}"));
    }
    let said = request.hypervisor_args.as_deref().map(cmdline::Options::parse);
    let said = said.is_some_and(|said| said.dom0_max_vcpus.is_some());
    if let Some(cpus) = request.dom0_cpus.or(board.dom0.cpus.filter(|usual| *usual < cpus && !said)) {
        own.push_str(&format!(" dom0_max_vcpus={cpus}"));
    }
    let text = join(&own, request.hypervisor_args.as_deref());
    command_line("--hypervisor-args", &text, 0)?;
    let options = cmdline::Options::parse(&text);
    let mut warnings = Vec::new();
    let known = request.kind.traits().options_known;
    for warning in options.warnings.iter().filter(|_| known) {
        let error = match warning {
            // A command line that was written for Xen may well have these.
            Warning::NoEffect { option } => {
                warnings.push(format!("--hypervisor-args: `{option}` has no effect in this hypervisor"));
                continue;
            }
            Warning::Unknown { option, nearest } => unknown_option(option, *nearest),
            Warning::Value { option, expected } => {
                Error::new(format!("--hypervisor-args: `{option}` would be ignored"))
                    .help(format!("it takes {expected}"))
            }
        };
        if request.hypervisor_file.is_none() {
            return Err(error);
        }
        warnings.push(format!("{}; the hypervisor of --hypervisor-file may know better", error.what()));
    }
    if options.dom0_mem != Some(dom0_mem.bytes()) {
        return Err(Error::new(format!(
            "--hypervisor-args: `dom0_mem` would give dom0 {}, and the image is planned with {dom0_mem}",
            Size(options.dom0_mem.unwrap_or_default())
        ))
        .help("say how much memory dom0 gets with --dom0-mem"));
    }
    if let (Some(asked), Some(said)) = (request.dom0_cpus, options.dom0_max_vcpus)
        && asked != said
    {
        return Err(Error::new(format!(
            "--dom0-cpus {asked} and `dom0_max_vcpus={said}` contradict each other"
        ))
        .help("say how many CPUs dom0 gets once"));
    }
    // dom0 gets as many as there are CPUs in use.
    let dom0_cpus = options.dom0_max_vcpus.or(options.max_cpus.filter(|in_use| *in_use < cpus));
    Ok(Line { text, dom0_cpus, warnings })
}

fn unknown_option(option: &str, nearest: Option<&str>) -> Error {
    let error = Error::new(format!("--hypervisor-args: the hypervisor has no option `{option}`"));
    match nearest {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error.help("options for dom0's kernel go into --dom0-args"),
    }
}

/// dom0 and the guests have no more CPUs than the interrupt controller serves, which is of the kind of the machine's.
fn vcpus_fit(
    board: &Board,
    variant: Option<&(String, Variant)>,
    dom0: Option<u32>,
    config: &ImageConfig,
) -> Result<()> {
    if let Some(wanted) = dom0 {
        check_vcpus(board, variant, ("dom0", wanted), dom0_vcpu_limit, Error::new, "--dom0-cpus")?;
    }
    for (index, guest) in config.guests.iter().enumerate() {
        let asked = (format!("the guest `{}`", guest.name), guest.vcpus);
        let at_field = |what| config.at(&format!("guest.{index}.vcpus"), what);
        check_vcpus(board, variant, (&asked.0, asked.1), vcpu_limit, at_field, "`vcpus`")?;
    }
    Ok(())
}

/// One domain, by its name and the CPUs that are wanted for it. `error` makes the error, `option` is where they are asked
/// for.
fn check_vcpus(
    board: &Board,
    variant: Option<&(String, Variant)>,
    (domain, wanted): (&str, u32),
    limit_of: impl Fn(&Board, Option<&Variant>) -> (u32, Option<Driver>),
    error: impl FnOnce(String) -> Error,
    option: &str,
) -> Result<()> {
    let (limit, gic) = limit_of(board, variant.map(|(_, variant)| variant));
    if wanted <= limit {
        return Ok(());
    }
    let name = match variant {
        Some((name, _)) => format!("{}:{name}", board.id),
        None => board.id.clone(),
    };
    let controller = gic.map_or("interrupt controller", Driver::name);
    let error = error(format!(
        "{domain} cannot have {wanted} CPUs: the {controller} of {name} serves at most {limit}"
    ));
    let mut others = board.qemu.iter().flat_map(|qemu| &qemu.variants);
    Err(match others.find(|(_, other)| limit_of(board, Some(other)).0 >= wanted) {
        Some((name, _)) => error.help(format!("--variant {name} takes as many")),
        None => error.help(format!("give 1 to {limit} with {option}")),
    })
}

/// The most virtual CPUs of a guest, and the interrupt controller that says so. A machine whose controller is not known
/// gets the benefit of the doubt: the largest limit of those it has drivers for.
fn vcpu_limit(board: &Board, variant: Option<&Variant>) -> (u32, Option<Driver>) {
    let gic = match variant.and_then(|variant| variant.gic) {
        Some(gic) => Some(gic),
        None => board.hypervisor.drivers.iter().copied().max_by_key(|driver| driver.max_vcpus()),
    };
    (gic.and_then(Driver::max_vcpus).unwrap_or(u32::MAX), gic)
}

/// The same of dom0, whose interrupt controller lies where the machine's does.
fn dom0_vcpu_limit(board: &Board, variant: Option<&Variant>) -> (u32, Option<Driver>) {
    let (limit, gic) = vcpu_limit(board, variant);
    // Each vCPU of a GICv3 has a redistributor, and QEMU's machine has room for as many as it takes CPUs.
    let room = match (gic, &board.qemu) {
        (Some(Driver::Gicv3), Some(qemu)) => {
            variant.and_then(|variant| variant.max_cpus).unwrap_or(qemu.max_cpus)
        }
        _ => u32::MAX,
    };
    (limit.min(room), gic)
}

fn join(own: &str, added: Option<&str>) -> String {
    match added.map(str::trim).filter(|added| !added.is_empty()) {
        Some(added) => format!("{own} {added}"),
        None => own.to_owned(),
    }
}

/// Refuses what a boot script or a configuration file would take for something else. U-Boot's shell expands `$`, `\`
/// and `"`, its `fdt set` keeps a value in 1024 bytes, and a line ends a value of the EFI configuration. The boot script adds
/// `added` characters of its own.
fn command_line(option: &str, text: &str, added: usize) -> Result<()> {
    const MOST: usize = 1000;
    if let Some(wrong) =
        text.chars().find(|c| matches!(c, '"' | '\'' | '$' | '\\' | ';' | '`') || !(' '..='~').contains(c))
    {
        return Err(Error::new(format!("{option}: {wrong:?} cannot be passed on to the board"))
            .help("use printable ASCII characters other than \" ' $ \\ ; `"));
    }
    if text.len() + added > MOST {
        return Err(Error::new(format!("{option}: the command line has {} characters", text.len()))
            .help(format!("U-Boot takes at most {}", MOST - added)));
    }
    Ok(())
}

fn hypervisor(
    workspace: &Workspace,
    board: &Board,
    method: Method,
    profile: &Profile,
    request: &Request,
) -> Result<HypervisorSource> {
    if let Some(file) = &request.hypervisor_file {
        return Ok(HypervisorSource::File(file.clone()));
    }
    if let Some((package, path)) = request.kind.package(board.architecture, &profile.spec.suite, method)? {
        if request.hypervisor_board.is_some() {
            let what = request.kind.traits().name;
            return Err(Error::new(format!("--hypervisor {what} is not compiled for any board"))
                .help("leave out --hypervisor-board"));
        }
        return Ok(HypervisorSource::Package {
            suite: package.suite.to_owned(),
            arch: board.architecture.debian().to_owned(),
            package: package.package.to_owned(),
            path: path.to_owned(),
        });
    }
    let board = match &request.hypervisor_board {
        None => board,
        Some(id) => {
            let other = workspace.boards().get(id).map_err(described)?;
            if other.architecture != board.architecture {
                return Err(Error::new(format!(
                    "{id} is {}, and {} is {}",
                    other.architecture, board.id, board.architecture
                ))
                .help("name a board of the same architecture with --hypervisor-board"));
            }
            other
        }
    };
    let mut env = vec![("VAMBRACE_BOARD".to_owned(), board.id.clone())];
    if let Some(console) = &board.console {
        env.push(("VAMBRACE_UART".to_owned(), console.driver.name().to_owned()));
        env.push(("VAMBRACE_UART_BASE".to_owned(), format!("{:#x}", console.base)));
        env.push(("VAMBRACE_UART_SHIFT".to_owned(), console.reg_shift.to_string()));
    }
    Ok(HypervisorSource::Compile {
        board: board.id.clone(),
        target: board.architecture.target().to_owned(),
        features: board.hypervisor.drivers.iter().map(|driver| driver.name().to_owned()).collect(),
        env,
    })
}
