//! `vambrace doctor`.

use super::print;
use crate::doctor;
use crate::error::{Error, Result};
use crate::workspace::Workspace;
use clap::Args;
use std::process::ExitCode;

/// What is asked for.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Install it, with apt-get
    #[arg(long)]
    install: bool,
}

pub(super) fn run(workspace: &Workspace, command: &Doctor) -> Result<ExitCode> {
    let mut findings = doctor::examine(workspace);
    let packages = doctor::missing_packages(&findings);
    if command.install && !packages.is_empty() {
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
