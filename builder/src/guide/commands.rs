//! The command line: its reference for the guide, manual pages, completions.

use crate::error::{Result, ResultExt};
use clap::{Command, ValueEnum};
use clap_complete::Shell;
use std::fs;
use std::path::Path;

/// Characters of a line of help, whatever terminal this runs in.
const WIDTH: usize = 100;

/// Every command with its help, as Markdown.
pub(super) fn reference(command: &Command) -> String {
    let mut command = command.clone().term_width(WIDTH);
    command.build();
    let mut text = String::new();
    for subcommand in command.get_subcommands() {
        describe(&mut text, subcommand, &format!("{} {}", command.get_name(), subcommand.get_name()));
    }
    text
}

fn describe(text: &mut String, command: &Command, name: &str) {
    if command.get_name() == "help" {
        return;
    }
    let help = command.clone().render_help().to_string();
    text.push_str(&format!("## {name}\n\n```text\n{}\n```\n\n", help.trim_end()));
    for subcommand in command.get_subcommands() {
        describe(text, subcommand, &format!("{name} {}", subcommand.get_name()));
    }
}

/// Writes a manual page for `command` and one for each of its subcommands into `dir`.
///
/// # Errors
///
/// What cannot be written.
pub(super) fn manual(command: &Command, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).context_at(dir, || "cannot make the folder")?;
    clap_mangen::generate_to(ordered(command.clone()), dir)
        .context_at(dir, || "cannot write the manual pages")
}

/// The command with its positional arguments in the order in which they are typed. clap's own help sorts them; the
/// generator takes them as they come, and one that was changed comes last.
fn ordered(mut command: Command) -> Command {
    let positionals = command.get_positionals().map(|arg| (arg.get_index(), arg.get_id().clone()));
    let mut positionals: Vec<_> = positionals.collect();
    positionals.sort_by_key(|(index, _)| *index);
    for (_, id) in positionals {
        command = command.mut_arg(id, |arg| arg);
    }
    let names: Vec<String> = command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, ordered))
}

/// Writes the completions for every shell into `dir`.
///
/// # Errors
///
/// What cannot be written.
pub(super) fn completions(command: &Command, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).context_at(dir, || "cannot make the folder")?;
    for shell in Shell::value_variants() {
        clap_complete::generate_to(*shell, &mut command.clone(), command.get_name().to_owned(), dir)
            .context_at(dir, || format!("cannot write the completions for {shell}"))?;
    }
    Ok(())
}
