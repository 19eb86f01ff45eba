//! QEMU with the board models of `ci/board-models` in it.
//!
//! A script of the sources compiles them for the QEMU that is installed, once, and says how they are had: as a shared
//! object that is loaded before the program, or as a QEMU of its own.

use super::{QemuCommand, emulator, quoted};
use crate::error::{Error, Result, ResultExt};
use crate::progress::Progress;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The script, in the folder of the sources.
const SCRIPT: &str = "ci/board-models/build";

/// How a program has the models.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Models {
    /// As a shared object for `LD_PRELOAD`.
    Preload(PathBuf),
    /// In the programs of this folder.
    Programs(PathBuf),
}

impl Models {
    /// Reads what the script has printed.
    fn said(text: &str) -> Option<Self> {
        let (how, path) = text.lines().last()?.split_once(' ')?;
        let path = Some(PathBuf::from(path)).filter(|path| path.is_absolute())?;
        match how {
            "preload" => Some(Self::Preload(path)),
            "programs" => Some(Self::Programs(path)),
            _ => None,
        }
    }
}

/// Gives `command` the board models of the sources in `root`, which are compiled where they are not there yet.
///
/// # Errors
/// When QEMU is not there, or the models cannot be compiled for it.
pub fn add_models(command: &mut QemuCommand, root: &Path, progress: &Progress) -> Result<()> {
    let program = emulator(&command.binary)?;
    let step = progress.step("compiling the board models for QEMU");
    let failed = || "cannot compile the board models for QEMU".to_owned();
    let output = Command::new(root.join(SCRIPT))
        .arg(&program)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .context(failed)?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        const LAST: usize = 12;
        let lines: Vec<&str> = said.lines().collect();
        return Err(Error::new(failed())
            .snippet(quoted(&lines, LAST))
            .help(format!("`{SCRIPT} {}` is what does it", program.display())));
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    let models = Models::said(&printed).ok_or_else(|| {
        Error::new(failed()).because(Error::new(format!("{SCRIPT} says `{}`", printed.trim())))
    })?;
    step.note("there");
    match models {
        Models::Preload(object) => command.preload = Some(object),
        Models::Programs(folder) => {
            let name = program.file_name().unwrap_or_default();
            command.binary = folder.join(name).display().to_string();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_s_last_line_counts() {
        let preload = Models::Preload(PathBuf::from("/c/a b.so"));
        assert_eq!(Models::said("x\npreload /c/a b.so\n"), Some(preload));
        assert_eq!(Models::said("programs /c/bin"), Some(Models::Programs(PathBuf::from("/c/bin"))));
        for text in ["", "preload", "preload x.so", "other /x", "preload /x\n\n"] {
            assert_eq!(Models::said(text), None, "{text:?}");
        }
    }
}
