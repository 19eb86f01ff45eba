//! What image a command is about: the options that all of them share.

use crate::cache::Cache;
use crate::chosen::{Chosen, lock_of};
use crate::config::{ImageConfig, Setting, USUAL_FILE};
use crate::decision::{Decision, Request, added};
use crate::error::{Error, Result};
use crate::hypervisor::HypervisorKind;
use crate::workspace::Workspace;
use clap::{Args, ValueEnum};
use std::io::Write;
use std::path::PathBuf;
use vambrace_bsp::{Architecture, Method, Size};

/// What image is meant.
#[derive(Debug, Args)]
pub(super) struct What {
    /// The board, or BOARD:VARIANT [default: that of --config's file, or of vambrace.toml in this folder]
    pub(super) board: Option<String>,
    /// A file that describes the image: board, dom0, disk, guests
    #[arg(long, value_name = "FILE", help_heading = "Description")]
    pub(super) config: Option<PathBuf>,
    /// Put a value over the file's: --set dom0.memory=1G; may be given several times
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Description")]
    set: Vec<Setting>,
    /// The variant of QEMU's machine, such as gicv3
    #[arg(long, help_heading = "Machine")]
    variant: Option<String>,
    /// How the board boots
    #[arg(long, value_enum, help_heading = "Machine")]
    method: Option<MethodName>,
    /// dom0's root file system
    #[arg(long, help_heading = "dom0")]
    profile: Option<String>,
    /// The architecture of dom0, where it is not the board's: armv7 on a 64-bit board
    #[arg(long, value_enum, value_name = "ARCH", help_heading = "dom0")]
    dom0_arch: Option<ArchitectureName>,
    /// dom0's memory, such as 512M
    #[arg(long, value_name = "SIZE", help_heading = "dom0")]
    dom0_mem: Option<Size>,
    /// The machine's memory, such as 2G
    #[arg(long, value_name = "SIZE", help_heading = "Machine")]
    memory: Option<Size>,
    /// The machine's CPUs
    #[arg(long, value_name = "N", help_heading = "Machine")]
    cpus: Option<u32>,
    /// dom0's virtual CPUs [default: as many as the machine has]
    #[arg(long, value_name = "N", help_heading = "dom0")]
    dom0_cpus: Option<u32>,
    /// Which hypervisor the image starts [default: vambrace]
    #[arg(long, value_enum, value_name = "KIND", help_heading = "Hypervisor")]
    hypervisor: Option<HypervisorName>,
    /// Add to the hypervisor's command line
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true, help_heading = "Hypervisor")]
    hypervisor_args: Option<String>,
    /// Add to dom0's command line
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true, help_heading = "dom0")]
    dom0_args: Option<String>,
    /// Use this hypervisor instead of compiling one
    #[arg(long, value_name = "FILE", conflicts_with = "hypervisor_board", help_heading = "Hypervisor")]
    hypervisor_file: Option<PathBuf>,
    /// Compile the hypervisor for this board instead
    #[arg(long, value_name = "BOARD", help_heading = "Hypervisor")]
    hypervisor_board: Option<String>,
    /// The file that pins every package by version and hash; written if it is not there [default: the one beside --config's
    /// file, NAME.lock]
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    lock: Option<PathBuf>,
    /// Two slots for hypervisor, kernel and ramdisk, so that another set of them is tried before it is kept
    #[arg(long, help_heading = "Output")]
    slots: bool,
    /// The disk layout
    #[arg(long, help_heading = "Output")]
    layout: Option<String>,
    /// The folder for images
    #[arg(long, value_name = "DIR", default_value = "out", help_heading = "Output")]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum MethodName {
    /// U-Boot runs a boot script
    Uboot,
    /// UEFI firmware starts the hypervisor
    Uefi,
    /// A loader outside of the machine puts everything to its address
    Direct,
}

impl From<MethodName> for Method {
    fn from(name: MethodName) -> Self {
        match name {
            MethodName::Uboot => Self::Uboot,
            MethodName::Uefi => Self::Uefi,
            MethodName::Direct => Self::Direct,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum HypervisorName {
    /// This project's, compiled for the board
    Vambrace,
    /// Debian's build of Xen, with the same dom0
    Xen,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ArchitectureName {
    /// 64-bit: Debian's arm64
    Aarch64,
    /// 32-bit: Debian's armhf
    Armv7,
}

impl What {
    /// The description's file: the one that is named, or, where no board is named either, the usual one of this folder.
    fn file(&self) -> Option<PathBuf> {
        let usual = || Some(PathBuf::from(USUAL_FILE)).filter(|path| self.board.is_none() && path.is_file());
        self.config.clone().or_else(usual)
    }

    /// The description, with what the command line sets in it.
    fn described(&self) -> Result<ImageConfig> {
        match self.file() {
            Some(file) => ImageConfig::read(&file, &self.set),
            None => ImageConfig::with("", "", &self.set),
        }
    }

    /// The packages that the command goes by.
    pub(super) fn chosen(&self) -> Result<Chosen> {
        let kind = match self.kind() {
            Some(kind) => kind,
            None => self.described()?.hypervisor.kind.unwrap_or_default(),
        };
        let lock = lock_of(self.lock.as_deref(), self.file().as_deref(), kind)?;
        Chosen::open(Cache::open(None)?, lock)
    }

    fn kind(&self) -> Option<HypervisorKind> {
        self.hypervisor.map(|name| match name {
            HypervisorName::Vambrace => HypervisorKind::Vambrace,
            HypervisorName::Xen => HypervisorKind::Xen,
        })
    }

    pub(super) fn request(&self) -> Result<Request> {
        self.request_for(self.board.as_deref())
    }

    /// The request, with `board` for the board that is named on the command line.
    pub(super) fn request_for(&self, board: Option<&str>) -> Result<Request> {
        let of = Request::of(self.described()?);
        let board = board.map_or(of.board, str::to_owned);
        if board.is_empty() {
            return Err(Error::new("no board is named").help(format!(
                "name one on the command line, or with `board` in --config's file or in {USUAL_FILE}, which `vambrace init` makes"
            )));
        }
        let method = self.method.map(Method::from);
        let dom0_arch = self.dom0_arch.map(|arch| match arch {
            ArchitectureName::Aarch64 => Architecture::Aarch64,
            ArchitectureName::Armv7 => Architecture::Armv7,
        });
        Ok(Request {
            board,
            variant: self.variant.clone().or(of.variant),
            method: method.or(of.method),
            profile: self.profile.clone().or(of.profile),
            layout: self.layout.clone().or(of.layout),
            dom0_arch: dom0_arch.or(of.dom0_arch),
            dom0_mem: self.dom0_mem.or(of.dom0_mem),
            memory: self.memory.or(of.memory),
            cpus: self.cpus.or(of.cpus),
            dom0_cpus: self.dom0_cpus.or(of.dom0_cpus),
            hypervisor_args: added(of.hypervisor_args, &self.hypervisor_args),
            dom0_args: added(of.dom0_args, &self.dom0_args),
            kind: self.kind().unwrap_or(of.kind),
            hypervisor_file: self.hypervisor_file.clone().or(of.hypervisor_file),
            hypervisor_board: self.hypervisor_board.clone().or(of.hypervisor_board),
            slots: self.slots || of.slots,
            config: of.config,
            out: Some(self.out.clone()),
        })
    }

    /// Whether more is said of an image than its board.
    pub(super) fn says_more(&self) -> bool {
        [
            self.config.is_some(),
            !self.set.is_empty(),
            self.variant.is_some(),
            self.method.is_some(),
            self.profile.is_some(),
            self.layout.is_some(),
            self.dom0_arch.is_some(),
            self.dom0_mem.is_some(),
            self.memory.is_some(),
            self.cpus.is_some(),
            self.dom0_cpus.is_some(),
            self.hypervisor.is_some(),
            self.hypervisor_args.is_some(),
            self.dom0_args.is_some(),
            self.hypervisor_file.is_some(),
            self.hypervisor_board.is_some(),
            self.slots,
            self.lock.is_some(),
        ]
        .contains(&true)
    }
}

/// Decides, and says what a user should know of that. It is said even where nothing but results is wanted, as errors
/// are.
pub(super) fn decide(workspace: &Workspace, what: &What) -> Result<Decision> {
    decide_on(workspace, &what.request()?)
}

pub(super) fn decide_on(workspace: &Workspace, request: &Request) -> Result<Decision> {
    let decision = Decision::new(workspace, request)?;
    for warning in &decision.warnings {
        let _ = writeln!(std::io::stderr().lock(), "warning: {warning}");
    }
    Ok(decision)
}
