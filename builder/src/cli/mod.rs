//! The command line: `vambrace`.

mod boot;
mod build;
mod clean;
mod docs;
mod doctor;
mod explain;
mod flash;
mod init;
mod reproduce;
mod rootfs;
mod show;
mod test;
mod update;
mod what;

use crate::error::{Result, ResultExt};
use crate::inspect;
use crate::port::{self, BoardCommand};
use crate::progress::Progress;
use crate::slot;
use crate::workspace::Workspace;
use clap::{ArgAction, CommandFactory, Parser, Subcommand};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

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
    /// Start the description of an image: board, packages, users, guests
    Init(init::Init),
    /// List the boards
    Boards,
    /// Show what is known of a board
    Show(show::Show),
    /// Show everything that is decided about an image; nothing is touched
    Plan(show::PlanOf),
    /// Build the image of a board
    Build(build::Build),
    /// Make a profile's root file system by itself, as an ext4 file, for a guest's disk
    Rootfs(rootfs::Rootfs),
    /// Boot the image of a board in QEMU; it is built first if it is not up to date
    Boot(boot::Boot),
    /// Run a test plan: build and boot each of its images in QEMU, follow the stages, and report
    Test(test::Test),
    /// Write an image, or that of a board, to a card, a stick or a disk; reads it back
    Flash(flash::FlashOf),
    /// Show what lies where on the medium and in RAM at each hand-over: of a board's image, or of an image in a file
    Explain(explain::Explain),
    /// Say what is on any disk image, disk or boot file, what of it would boot, and what keeps it from that
    Inspect(inspect::InspectCommand),
    /// Show the slots of an image, take one out as a bundle, or install a bundle into the other one
    Slot(slot::SlotCommand),
    /// Take the archive's newest packages, and show what changes; an image's lock file is moved, or all that this machine uses
    Update(update::Update),
    /// Build an image again from the lock file beside it, and say whether it is the same or where it differs
    Reproduce(reproduce::Reproduce),
    /// Remove images, and with --cache everything that can be made again; copies of `boot --persistent` stay
    Clean(clean::Clean),
    /// Bring up a new board: derive its description from a device tree, or check one
    Board {
        #[command(subcommand)]
        command: BoardCommand,
    },
    /// Print the JSON Schema of descriptions, for editors
    Schema(init::Schema),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the user guide for mdBook, the manual pages and the completions
    Docs(docs::Docs),
    /// Say what this machine lacks
    Doctor(doctor::Doctor),
}

/// Behind the help of what takes a board.
const SEE_SHOW: &str = "`vambrace show BOARD` lists a board's variants, layouts and profiles.";

/// The command line, as clap has it.
pub fn command() -> clap::Command {
    Cli::command()
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
    let open = |boards: Option<&Path>| {
        Workspace::open(cli.workspace.as_deref(), cli.boards_dir.as_deref().or(boards))
    };
    let workspace = || open(None);
    match &cli.command {
        Command::Init(command) => init::run(&workspace()?, command),
        Command::Schema(command) => init::schema(command),
        Command::Boards => show::boards(&workspace()?),
        Command::Show(command) => show::run(&workspace()?, command),
        Command::Plan(command) => show::plan(&workspace()?, command, &progress),
        Command::Build(command) => build::run(&workspace()?, command, &progress),
        Command::Rootfs(command) => rootfs::run(&workspace()?, command, &progress),
        Command::Boot(command) => boot::run(&workspace()?, command, &progress),
        Command::Test(command) => test::run(&open, command, &progress),
        Command::Flash(command) => flash::run(&workspace, command, &progress),
        Command::Explain(command) => explain::run(&workspace, command, &progress),
        Command::Inspect(command) => run_inspect(command, &progress),
        Command::Slot(command) => print(&slot::run(command, &progress)?).map(|()| ExitCode::SUCCESS),
        Command::Update(command) => update::run(&workspace()?, command, &progress),
        Command::Reproduce(command) => reproduce::run(&open, command, &progress),
        Command::Clean(command) => clean::run(&workspace()?, command),
        Command::Board { command } => {
            let (text, code) = port::run(command, &workspace, &progress)?;
            print(&text).map(|()| code)
        }
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut command(), "vambrace", &mut text);
            print_bytes(&text).map(|()| ExitCode::SUCCESS)
        }
        Command::Docs(command) => docs::run(&workspace()?, command),
        Command::Doctor(command) => doctor::run(&workspace()?, command),
    }
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
