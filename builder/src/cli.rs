//! The command line: `vambrace`.

use crate::boot::{ConsoleUser, Writes, check, qemu_command};
use crate::build::{Built, Manifest, Options, build, manifest_path};
use crate::cache::{Cache, PINS, read_json, replace_file, to_json};
use crate::chosen::{Chosen, lock_of};
use crate::companions;
use crate::decision::{Decision, Request};
use crate::doctor;
use crate::error::{Error, Result, ResultExt};
use crate::explain;
use crate::flash::{self, Flash};
use crate::guest::ImageConfig;
use crate::hypervisor::HypervisorKind;
use crate::image::packed_path;
use crate::image::packing::Packing;
use crate::inspect;
use crate::lock::ImageLock;
use crate::parts::{CONFIGURING, Maker, epoch};
use crate::persistent::{is_persistent, persistent};
use crate::pins::change;
use crate::plan::Plan;
use crate::port::{self, BoardCommand};
use crate::progress::Progress;
use crate::qemu::{check_version, direct, run_interactive};
use crate::report;
use crate::reproduce::{self, REBUILDING, reproduce};
use crate::rootfs;
use crate::workspace::{Workspace, described};
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::fs;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use vambrace_bsp::{Architecture, Method, Size};

/// Builds bootable hypervisor images for ARM boards, and boots them in QEMU.
#[derive(Debug, Parser)]
#[command(name = "vambrace", version, arg_required_else_help = true, max_term_width = 100)]
#[command(disable_help_flag = true)]
struct Cli {
    /// The folder of Vambrace's sources [default: the one this is run in]
    #[arg(long, global = true, value_name = "DIR", env = "VAMBRACE_WORKSPACE", hide_env_values = true)]
    #[arg(help_heading = "Global")]
    workspace: Option<PathBuf>,
    /// A folder with boards of your own
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global")]
    boards_dir: Option<PathBuf>,
    /// Say nothing but results and errors
    #[arg(long, short, global = true, help_heading = "Global")]
    quiet: bool,
    /// Print this help
    #[arg(long, short, global = true, help_heading = "Global", action = ArgAction::Help)]
    help: Option<bool>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the boards
    Boards,
    /// Show what is known of a board
    Show {
        /// The board
        board: String,
        /// Print JSON
        #[arg(long, help_heading = "Output")]
        json: bool,
    },
    /// Show everything that is decided about an image; nothing is touched
    #[command(after_help = SEE_SHOW)]
    Plan {
        #[command(flatten)]
        what: What,
        /// Print JSON
        #[arg(long, help_heading = "Output")]
        json: bool,
        /// Show the boot script, or the firmware's configuration, as well
        #[arg(long, short, help_heading = "Output")]
        verbose: bool,
    },
    /// Build the image of a board
    #[command(after_help = SEE_SHOW)]
    Build {
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        how: How,
        /// Pack the image as well; may be given several times
        #[arg(long, value_enum, value_name = "FORMAT", help_heading = "Output")]
        pack: Vec<PackingName>,
    },
    /// Make a profile's root file system by itself, as an ext4 file, for a guest's disk
    #[command(after_help = SEE_SHOW)]
    Rootfs {
        #[command(flatten)]
        what: What,
        /// The ext4 file system to write
        #[arg(long, short = 'o', value_name = "FILE", help_heading = "Output")]
        output: PathBuf,
        /// Its size, such as 1G [default: what it takes, and some room]
        #[arg(long, value_name = "SIZE", help_heading = "Output")]
        size: Option<Size>,
        /// Write the kernel that goes with it
        #[arg(long, value_name = "FILE", help_heading = "Output")]
        kernel: Option<PathBuf>,
        /// Write the ramdisk that finds it
        #[arg(long, value_name = "FILE", help_heading = "Output")]
        ramdisk: Option<PathBuf>,
    },
    /// Boot the image of a board in QEMU; it is built first if it is not up to date
    #[command(after_help = BOOT_EXAMPLE)]
    Boot(Boot),
    /// Write an image, or that of a board, to a card, a stick or a disk; reads it back
    #[command(after_help = FLASH_EXAMPLE)]
    Flash(FlashOf),
    /// Show what lies where on the medium and in RAM at each hand-over: of a board's image, or of an image in a file
    #[command(after_help = EXPLAIN_CODES)]
    Explain {
        #[command(flatten)]
        what: What,
        /// Print JSON
        #[arg(long, help_heading = "Output")]
        json: bool,
        /// Write a page with the drawings
        #[arg(long, value_name = "FILE", help_heading = "Output")]
        html: Option<PathBuf>,
        /// Write the drawings
        #[arg(long, value_name = "FILE", help_heading = "Output")]
        svg: Option<PathBuf>,
    },
    /// Say what is on any disk image, disk or boot file, what of it would boot, and what keeps it from that
    Inspect(inspect::InspectCommand),
    /// Take the archive's newest packages, and show what changes; an image's lock file is moved, or all that this machine uses
    #[command(after_help = SEE_SHOW)]
    Update {
        #[command(flatten)]
        what: What,
        /// Show what would change, and leave everything as it is
        #[arg(long, help_heading = "Output")]
        dry_run: bool,
    },
    /// Build an image again from the lock file beside it, and say whether it is the same or where it differs
    #[command(after_help = REPRODUCE_CODES)]
    Reproduce {
        /// The image
        image: PathBuf,
        /// Make every part anew, rather than take it from the cache
        #[arg(long, help_heading = "Output")]
        from_scratch: bool,
        /// Keep what is built, in this folder
        #[arg(long, value_name = "DIR", help_heading = "Output")]
        out: Option<PathBuf>,
    },
    /// Remove images, and with --cache everything that can be made again; copies of `boot --persistent` stay
    Clean {
        /// The board; all of them where none is named
        board: Option<String>,
        /// The folder of the images
        #[arg(long, value_name = "DIR", default_value = "out")]
        out: PathBuf,
        /// Remove packages, parts and compiled code as well
        #[arg(long)]
        cache: bool,
    },
    /// Bring up a new board: derive its description from a device tree, or check one
    Board {
        #[command(subcommand)]
        command: BoardCommand,
    },
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Say what this machine lacks
    Doctor {
        /// Install it, with apt-get
        #[arg(long)]
        install: bool,
    },
}

/// Behind the help of what takes a board.
const SEE_SHOW: &str = "`vambrace show BOARD` lists a board's variants, layouts and profiles.";
/// Behind the help of `explain`.
const EXPLAIN_CODES: &str = "\
What has a slash or a full stop in its name, or is a file, is taken for an image. It ends with 1 where two things lie over
one another; the smallest change that mends it is shown.";
/// Behind the help of `reproduce`.
const REPRODUCE_CODES: &str = "\
Ends with 0 when it is the same, 1 when it differs, 2 when it cannot be built again.";
/// Behind the help of `boot`.
const BOOT_EXAMPLE: &str = "\
Example: 8 CPUs behind a GICv3, half of them for dom0, followed to the end of dom0's self-test:
  vambrace boot qemu-arm64:gicv3 --cpus 8 --dom0-cpus 4 --check

`vambrace show BOARD` lists a board's variants, layouts and profiles.";

/// Behind the help of `flash`.
const FLASH_EXAMPLE: &str = "\
An IMAGE may be packed with gzip, xz or zstd, and have bmaptool's .bmap beside it. A disk is
refused while anything of it is in use, and unless said otherwise when it cannot be taken out or
is larger than cards are.

Examples:
  vambrace flash orangepi-pc
  vambrace flash image.img.xz /dev/sdb";

/// What image is meant.
#[derive(Debug, Args)]
struct What {
    /// The board, or BOARD:VARIANT
    #[arg(required_unless_present = "config")]
    board: Option<String>,
    /// A file that describes the image: board, profile, guests
    #[arg(long, value_name = "FILE", help_heading = "Guests")]
    config: Option<PathBuf>,
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
    /// The disk layout
    #[arg(long, help_heading = "Output")]
    layout: Option<String>,
    /// The folder for images
    #[arg(long, value_name = "DIR", default_value = "out", help_heading = "Output")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct How {
    /// Build even if the image is up to date
    #[arg(long, help_heading = "Output")]
    force: bool,
    /// Take the newest packages of the archive, as `vambrace update` does
    #[arg(long, help_heading = "Output")]
    update: bool,
    /// Sign the statement of where the image comes from, with this key of OpenSSH's
    #[arg(long, value_name = "KEY", help_heading = "Output")]
    sign: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Boot {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
    /// Follow the boot to dom0's self-test and its power-off, also on a terminal
    #[arg(long, help_heading = "Run")]
    check: bool,
    /// How long the stages may take together, in seconds
    #[arg(long, value_name = "SECS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    #[arg(help_heading = "Run")]
    timeout: u64,
    /// Build what is not up to date, and print QEMU's command line instead of running it
    #[arg(long, help_heading = "Run")]
    print: bool,
    /// Keep what is written, in a copy of the image beside it; it is made once, and a rebuild leaves it alone
    #[arg(long, help_heading = "Run")]
    persistent: bool,
    /// Show the console while it is followed
    #[arg(long, help_heading = "Run")]
    console: bool,
    /// More arguments for QEMU
    #[arg(last = true, value_name = "QEMU ARGS", help_heading = "Run")]
    qemu: Vec<String>,
}

#[derive(Debug, Args)]
#[command(mut_arg("board", |arg| {
    arg.index(1).value_name("IMAGE|BOARD").help("The file of an image; or the board, or BOARD:VARIANT, whose image is built first")
}))]
struct FlashOf {
    #[command(flatten)]
    what: What,
    /// The disk: its path or its serial number [default: the only one that can be taken out]
    #[arg(index = 2)]
    device: Option<String>,
    #[command(flatten)]
    flash: Flash,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PackingName {
    /// Zstandard, which is quick in both directions
    Zst,
    /// xz, the smallest and the slowest
    Xz,
    /// gzip, which everything can read
    Gz,
}

impl PackingName {
    fn packing(self) -> Packing {
        match self {
            Self::Zst => Packing::Zstd,
            Self::Xz => Packing::Xz,
            Self::Gz => Packing::Gzip,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MethodName {
    /// U-Boot runs a boot script
    Uboot,
    /// UEFI firmware starts the hypervisor
    Uefi,
    /// A loader outside of the machine puts everything to its address
    Direct,
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
    /// The packages that the command goes by.
    fn chosen(&self) -> Result<Chosen> {
        let lock = lock_of(self.lock.as_deref(), self.config.as_deref(), self.kind())?;
        Chosen::open(Cache::open(None)?, lock)
    }

    fn kind(&self) -> HypervisorKind {
        match self.hypervisor {
            None | Some(HypervisorName::Vambrace) => HypervisorKind::Vambrace,
            Some(HypervisorName::Xen) => HypervisorKind::Xen,
        }
    }

    fn request(&self) -> Result<Request> {
        self.request_for(self.board.as_deref())
    }

    /// The request, with `board` for the board that is named on the command line.
    fn request_for(&self, board: Option<&str>) -> Result<Request> {
        let config = self.config.as_deref().map(ImageConfig::read).transpose()?.unwrap_or_default();
        let board = board.map(str::to_owned).or_else(|| config.board.clone());
        let board = board.ok_or_else(|| {
            Error::new("no board is named")
                .help("name one on the command line, or with `board` in --config's file")
        })?;
        Ok(Request {
            board,
            variant: self.variant.clone(),
            method: self.method.map(|method| match method {
                MethodName::Uboot => Method::Uboot,
                MethodName::Uefi => Method::Uefi,
                MethodName::Direct => Method::Direct,
            }),
            profile: self.profile.clone().or_else(|| config.profile.clone()),
            layout: self.layout.clone(),
            dom0_arch: self.dom0_arch.map(|arch| match arch {
                ArchitectureName::Aarch64 => Architecture::Aarch64,
                ArchitectureName::Armv7 => Architecture::Armv7,
            }),
            dom0_mem: self.dom0_mem,
            memory: self.memory,
            cpus: self.cpus,
            dom0_cpus: self.dom0_cpus,
            hypervisor_args: self.hypervisor_args.clone(),
            dom0_args: self.dom0_args.clone(),
            kind: self.kind(),
            hypervisor_file: self.hypervisor_file.clone(),
            hypervisor_board: self.hypervisor_board.clone(),
            config,
            out: Some(self.out.clone()),
        })
    }

    /// Whether more is said of an image than its board.
    fn says_more(&self) -> bool {
        [
            self.config.is_some(),
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
            self.lock.is_some(),
        ]
        .contains(&true)
    }
}

/// Runs the command and gives its exit code: 0, 1 after an error that has been printed, 2 for a command line that is
/// not understood.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help is no error; it goes to standard output with code 0.
            let code = error.exit_code();
            let _ = error.print();
            return ExitCode::from(u8::try_from(code).unwrap_or(2));
        }
    };
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr().lock(), "{}", error.report());
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    let progress = if cli.quiet { Progress::quiet() } else { Progress::auto() };
    let workspace = || Workspace::open(cli.workspace.as_deref(), cli.boards_dir.as_deref());
    match &cli.command {
        Command::Boards => boards(&workspace()?),
        Command::Show { board, json } => show(&workspace()?, board, *json),
        Command::Plan { what, json, verbose } => plan(&workspace()?, what, *json, *verbose, &progress),
        Command::Build { what, how, pack } => {
            let workspace = workspace()?;
            let decision = decide(&workspace, what)?;
            let chosen = chosen_for(&workspace, &decision, what, how, &progress)?;
            let options = Options {
                pack: pack.iter().map(|name| name.packing()).collect(),
                ..chosen.options(how.force, how.sign.clone())
            };
            let built = build(&workspace, &decision, &chosen.cache, &options, &progress)?;
            print(&told(&built, &decision)).map(|()| ExitCode::SUCCESS)
        }
        Command::Rootfs { what, output, size, kernel, ramdisk } => {
            let workspace = workspace()?;
            let decision = decide(&workspace, what)?;
            let (image, kernel, ramdisk) = (output.clone(), kernel.clone(), ramdisk.clone());
            let outputs = rootfs::Outputs { image, size: *size, kernel, ramdisk };
            rootfs::write(workspace.root(), &decision, &what.chosen()?.cache, &progress, &outputs)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Boot(boot) => run_boot(&workspace()?, boot, &progress),
        Command::Flash(command) => run_flash(&workspace, command, &progress),
        Command::Explain { what, json, html, svg } => {
            let explained = explained(&workspace, what, &progress)?;
            let image = what.board.as_ref().map(PathBuf::from);
            for (path, drawn) in [(html, explained.html()), (svg, explained.svg())] {
                let Some(path) = path else { continue };
                inspect::keeps(image.as_deref(), path)?;
                replace_file(path, drawn.as_bytes())?;
            }
            let printed =
                if *json { to_json(&explained)? } else { explained.text(terminal_width()).into_bytes() };
            print_bytes(&printed)?;
            Ok(if explained.is_disjoint() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Inspect(command) => run_inspect(command, &progress),
        Command::Update { what, dry_run } => {
            let workspace = workspace()?;
            let decision = decide(&workspace, what)?;
            let (_, changes) = what.chosen()?.update(&workspace, &decision, *dry_run, &progress)?;
            print(&change::report(&changes)).map(|()| ExitCode::SUCCESS)
        }
        Command::Reproduce { image, from_scratch, out } => {
            let how = reproduce::How { from_scratch: *from_scratch, out: out.clone() };
            run_reproduce(cli, image, &how, &progress)
        }
        Command::Clean { board, out, cache } => clean(&workspace()?, board.as_deref(), out, *cache),
        Command::Board { command } => {
            let (text, code) = port::run(command, &workspace, &progress)?;
            print(&text).map(|()| code)
        }
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "vambrace", &mut text);
            print_bytes(&text).map(|()| ExitCode::SUCCESS)
        }
        Command::Doctor { install } => run_doctor(&workspace()?, *install),
    }
}

/// The packages to build with; the newest where those are asked for, and then it is said what changes.
fn chosen_for(
    workspace: &Workspace,
    decision: &Decision,
    what: &What,
    how: &How,
    progress: &Progress,
) -> Result<Chosen> {
    let chosen = what.chosen()?;
    if !how.update {
        return Ok(chosen);
    }
    let (chosen, changes) = chosen.update(workspace, decision, false, progress)?;
    progress.line(change::report(&changes).trim_end());
    Ok(chosen)
}

/// Everything that keeps an image from being built again is an error of another code than its being different.
fn run_reproduce(cli: &Cli, image: &Path, how: &reproduce::How, progress: &Progress) -> Result<ExitCode> {
    let open = |boards: Option<&Path>| {
        Workspace::open(cli.workspace.as_deref(), cli.boards_dir.as_deref().or(boards))
    };
    let outcome = match Cache::open(None).and_then(|cache| reproduce(image, &open, cache, how, progress)) {
        Ok(outcome) => outcome,
        Err(error) => {
            let error = error.context("the image cannot be built again");
            let _ = writeln!(std::io::stderr().lock(), "{}", error.report());
            return Ok(ExitCode::from(2));
        }
    };
    let (image, reproduce::Outcome { sha256, rebuilt, differences }) = (image.display(), outcome);
    if sha256 == rebuilt {
        return print(&format!("{image} was built again with the same bytes: sha256 {sha256}\n"))
            .map(|()| ExitCode::SUCCESS);
    }
    let mut text =
        format!("{image}, sha256 {sha256}, differs from what was built again, sha256 {rebuilt}:\n");
    differences.iter().for_each(|difference| text.push_str(&format!("  {difference}\n")));
    print(&text).map(|()| ExitCode::FAILURE)
}

fn told(built: &Built, decision: &Decision) -> String {
    let state = if built.up_to_date { "is up to date" } else { "was built" };
    let packed = built.manifest.packed.iter().filter(|packed| packed.is_beside(&built.image));
    let packed = packed.map(|packed| {
        let path = packed_path(&built.image, packed.packing);
        format!(
            "packed: {}, {}, sha256 {}\n",
            path.display(),
            report::size(packed.stamp.size()),
            packed.sha256
        )
    });
    format!(
        "{} {state}: {}, sha256 {}\n{}{}",
        built.image.display(),
        report::size(built.manifest.size),
        built.manifest.sha256,
        packed.collect::<String>(),
        if decision.board.never_booted() { "image checked by reading it back, never booted\n" } else { "" }
    )
}

/// Decides, and says what a user should know of that. It is said even where nothing but results is wanted, as errors
/// are.
fn decide(workspace: &Workspace, what: &What) -> Result<Decision> {
    decide_on(workspace, &what.request()?)
}

fn decide_on(workspace: &Workspace, request: &Request) -> Result<Decision> {
    let decision = Decision::new(workspace, request)?;
    for warning in &decision.warnings {
        let _ = writeln!(std::io::stderr().lock(), "warning: {warning}");
    }
    Ok(decision)
}

/// Explains the image of a board, or one in a file.
fn explained(
    workspace: &dyn Fn() -> Result<Workspace>,
    what: &What,
    progress: &Progress,
) -> Result<explain::Explanation> {
    if let Some(name) =
        what.board.as_ref().filter(|name| name.contains(['/', '.']) || Path::new(name).is_file())
    {
        return explain::of_image(Path::new(name), progress);
    }
    let (workspace, cache, epoch) = (workspace()?, what.chosen()?.cache, epoch()?);
    explain::of_board(&workspace, &what.request()?, |decision| {
        Maker { root: workspace.root(), decision, cache: &cache, progress, epoch }.peek()
    })
}

/// Inspects; what cannot be read has an exit code of its own.
fn run_inspect(command: &inspect::InspectCommand, progress: &Progress) -> Result<ExitCode> {
    match inspect::run(command, terminal_width(), progress) {
        Ok((printed, code)) => print_bytes(&printed).map(|()| ExitCode::from(code)),
        Err(error) => {
            let _ = writeln!(std::io::stderr().lock(), "{}", error.report());
            Ok(ExitCode::from(2))
        }
    }
}

/// Characters of a line of the terminal; elsewhere, enough for most of what there is to say.
fn terminal_width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdout()).map_or(120, |size| usize::from(size.ws_col).max(60))
}

/// Lists all boards. One that cannot be used does not keep the others from being listed, and is an error all the same.
fn boards(workspace: &Workspace) -> Result<ExitCode> {
    print(&report::boards(workspace.boards()))?;
    let broken: Vec<&str> =
        workspace.boards().iter().filter(|(_, board)| board.is_err()).map(|(id, _)| id).collect();
    let Some(first) = broken.first() else { return Ok(ExitCode::SUCCESS) };
    Err(Error::new(format!("cannot be used: {}", broken.join(", ")))
        .help(format!("`vambrace show {first}` shows the line at fault")))
}

fn show(workspace: &Workspace, board: &str, json: bool) -> Result<ExitCode> {
    let id = board.split(':').next().unwrap_or(board);
    let found = workspace.boards().get(id).map_err(described)?;
    let (profiles, source) = (workspace.profiles()?, workspace.boards().source(id));
    if json {
        print_bytes(&to_json(&report::board_json(found, &profiles, source)?)?)?;
    } else {
        print(&report::board(found, &profiles, source))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn plan(
    workspace: &Workspace,
    what: &What,
    json: bool,
    verbose: bool,
    progress: &Progress,
) -> Result<ExitCode> {
    let decision = decide(workspace, what)?;
    let cache = what.chosen()?.cache;
    let maker =
        Maker { root: workspace.root(), decision: &decision, cache: &cache, progress, epoch: epoch()? };
    let plan = Plan::new(&decision, maker.peek()?)?;
    let firmware =
        |name: &str| Ok(maker.firmware_file(name).unwrap_or_else(|_| PathBuf::from(format!("<{name}>"))));
    let qemu = match decision.board.qemu {
        Some(_) => {
            let loaded = || Ok(vec![format!("<{}>", direct::folder(&plan.image).display())]);
            let user = ConsoleUser::Person;
            let command =
                qemu_command(&decision, &plan.image, firmware, loaded, user, Writes::Forgotten, &[])?;
            Some(command.shell_line())
        }
        None => None,
    };
    if json {
        let mut value = serde_json::to_value(&plan).context(|| "cannot write the plan as JSON")?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert("qemu".to_owned(), qemu.into());
        }
        print_bytes(&to_json(&value)?)?;
    } else {
        print(&report::plan(&plan, qemu.as_deref(), verbose))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn run_boot(workspace: &Workspace, boot: &Boot, progress: &Progress) -> Result<ExitCode> {
    let decision = decide(workspace, &boot.what)?;
    check_version(decision.qemu()?)?;
    let chosen = chosen_for(workspace, &decision, &boot.what, &boot.how, progress)?;
    let options = chosen.options(boot.how.force, boot.how.sign.clone());
    let cache = chosen.cache;
    let built = build(workspace, &decision, &cache, &options, progress)?;
    let (built, writes) = match boot.persistent {
        true => (persistent(&built, progress)?, Writes::Kept),
        false => (built, Writes::Forgotten),
    };
    let maker =
        Maker { root: workspace.root(), decision: &decision, cache: &cache, progress, epoch: epoch()? };
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let user =
        if boot.check || !(terminal || boot.print) { ConsoleUser::Program } else { ConsoleUser::Person };
    let architecture = decision.board.architecture;
    let loaded = || direct::load(&built.image, &built.manifest.plan, architecture, decision.cpus);
    let firmware = |name: &str| maker.firmware_file(name);
    let command = qemu_command(&decision, &built.image, firmware, loaded, user, writes, &boot.qemu)?;
    if boot.print {
        return print(&format!("{}\n", command.shell_line())).map(|()| ExitCode::SUCCESS);
    }
    if user == ConsoleUser::Person {
        progress.line(
            "`poweroff` ends dom0 and QEMU; so does Ctrl-] and then x. Ctrl-A three times: the hypervisor.",
        );
        let status = run_interactive(&command)?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let log = built.image.with_extension("log");
    let timeout = Duration::from_secs(boot.timeout);
    let checked = check(&decision, &command, timeout, &log, boot.console, progress)?;
    let mut text = String::new();
    for (stage, when) in &checked.reached {
        text.push_str(&format!("{stage:<16} {:>6.1} s\n", when.as_secs_f64()));
    }
    for (name, _, seen) in &checked.verdicts {
        text.push_str(&format!("self-test: {name:<16} ok  {seen}\n"));
    }
    print(&text).map(|()| ExitCode::SUCCESS)
}

/// Flashes a file, or builds what is named and flashes that.
fn run_flash(
    workspace: &dyn Fn() -> Result<Workspace>,
    command: &FlashOf,
    progress: &Progress,
) -> Result<ExitCode> {
    let FlashOf { what, device, flash } = command;
    // With --config no board need be named: then the first word is the device.
    let (board, device) = match (&what.board, device) {
        (Some(word), None) if what.config.is_some() && word.contains('/') => (None, Some(word)),
        (board, device) => (board.as_ref(), device.as_ref()),
    };
    let image = || match board.filter(|word| port::is_file(word)) {
        Some(file) if what.says_more() => {
            Err(Error::new("options for building mean nothing for an image that is there")
                .at(file)
                .help("leave them out, or name a board"))
        }
        Some(file) => Ok(PathBuf::from(file)),
        None => {
            let workspace = workspace()?;
            let decision = decide_on(&workspace, &what.request_for(board.map(String::as_str))?)?;
            let chosen = what.chosen()?;
            let options = chosen.options(false, None);
            let built = build(&workspace, &decision, &chosen.cache, &options, progress)?;
            Ok(built.image)
        }
    };
    flash::run(flash, image, device.map(String::as_str), progress).map(|()| ExitCode::SUCCESS)
}

/// Removes what this program has made and nothing else: the folders may be somebody's own.
fn clean(workspace: &Workspace, board: Option<&str>, out: &Path, cache: bool) -> Result<ExitCode> {
    let ids: Vec<&str> = match board {
        Some(id) => vec![workspace.boards().get(id).map(|board| board.id.as_str()).map_err(described)?],
        None => workspace.boards().ids().collect(),
    };
    let mut count = 0;
    for folder in ids.iter().map(|id| out.join(id)) {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let image = entry.context_at(&folder, || "cannot list the images")?.path();
            // What somebody has written in a machine cannot be made again, nor what has no manifest of ours.
            let ours = image.extension().is_some_and(|extension| extension == "img")
                && !is_persistent(&image)
                && read_json::<Manifest>(&manifest_path(&image)).is_some();
            if !ours {
                continue;
            }
            // What another process is just making stays.
            let _lock = ImageLock::take(&image)?;
            count += remove_loaded(&direct::folder(&image))?;
            let beside = [manifest_path(&image), image.with_extension("log")];
            for path in companions::paths(&image).into_iter().chain(beside).chain([image]) {
                count += usize::from(companions::remove(&path)?);
            }
        }
        // Not empty: something there is not ours.
        let _ = fs::remove_dir(&folder);
    }
    let mut text = format!("removed {count} files of images\n");
    if cache {
        let cache = Cache::open(None)?;
        for name in ["artifacts", "apt", "target"] {
            remove(&cache.folder(name))?;
        }
        for name in ["files.json", PINS] {
            remove(&cache.folder(name))?;
        }
        remove_leftovers(cache.dir())?;
        text.push_str(&format!("removed the cache in {}\n", cache.dir().display()));
    }
    print(&text).map(|()| ExitCode::SUCCESS)
}

/// Removes the folders in which packages were being configured, or an image built again, when the program was killed.
fn remove_leftovers(cache: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(cache) else { return Ok(()) };
    for entry in entries {
        let path = entry.context_at(cache, || "cannot list the cache")?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        if name.is_some_and(|name| name.starts_with(CONFIGURING) || name.starts_with(REBUILDING)) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes the files of an image that were taken out of it, and gives their number.
fn remove_loaded(folder: &Path) -> Result<usize> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(0) };
    let count = entries.count();
    remove(folder).map(|()| count)
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).context_at(path, || "cannot remove it")
        }
        _ => Ok(()),
    }
}

fn run_doctor(workspace: &Workspace, install: bool) -> Result<ExitCode> {
    let mut findings = doctor::examine(workspace);
    let packages = doctor::missing_packages(&findings);
    if install && !packages.is_empty() {
        doctor::install(&packages)?;
        findings = doctor::examine(workspace);
    }
    let mut text = String::new();
    for finding in &findings {
        let state = match (&finding.found, finding.needed) {
            (Some(_), _) => "ok     ",
            (None, true) => "MISSING",
            (None, false) => "absent ",
        };
        let found = finding.found.as_deref().unwrap_or("not found");
        text.push_str(&format!("{state} {:<22} {found} (for {})\n", finding.what, finding.purpose));
        if let Some(help) = &finding.help {
            text.push_str(&format!("        {}\n", help.replace('\n', "\n        ")));
        }
    }
    print(&text)?;
    let packages = doctor::missing_packages(&findings);
    let lacking: Vec<&str> =
        findings.iter().filter(|f| f.needed && f.found.is_none()).map(|f| f.what.as_str()).collect();
    if !packages.is_empty() {
        print(&format!("install with: {}\n", doctor::install_command(&packages).join(" ")))?;
    }
    if lacking.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Error::new(format!("this machine lacks: {}", lacking.join(", "))))
}

fn print(text: &str) -> Result<()> {
    print_bytes(text.as_bytes())
}

/// Writes to standard output. A reader that has seen enough, as `head` does, is no error.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context(|| "cannot write to standard output")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_image_comes_before_the_device() {
        let cli =
            Cli::try_parse_from(["vambrace", "flash", "x.img", "/dev/x", "--allow", "fixed,large"]).unwrap();
        let Command::Flash(command) = cli.command else { panic!("another command") };
        assert_eq!(
            (command.what.board.as_deref(), command.device.as_deref()),
            (Some("x.img"), Some("/dev/x"))
        );
        assert_eq!(command.flash.allow.len(), 2);
        assert!(!command.what.says_more());
    }

    #[test]
    fn arguments_for_qemu_follow_two_dashes() {
        let cli = Cli::try_parse_from(["vambrace", "boot", "b:gicv3", "--check", "--", "-s", "-S"]).unwrap();
        let Command::Boot(boot) = cli.command else { panic!("another command") };
        assert_eq!((boot.what.board.as_deref(), boot.qemu.len()), (Some("b:gicv3"), 2));
        assert!(Cli::try_parse_from(["vambrace", "boot", "b", "-s"]).is_err());
        assert!(Cli::try_parse_from(["vambrace", "build", "b", "--memory", "2Q"]).is_err());
    }
}
