//! The checks, a file for each part of the machine.

mod console;
mod cpus;
mod gic;
mod memory;
mod shape;
mod timer;

use super::finding::{Finding, Level};
use super::survey::Survey;

/// Everything that is found in a tree, the worst first.
pub(super) fn all(survey: &Survey<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    if cpus::incapable(survey, &mut found) {
        // What the tree lacks besides does not matter, and much of it only follows.
        return found;
    }
    cpus::check(survey, &mut found);
    gic::check(survey, &mut found);
    timer::check(survey, &mut found);
    memory::check(survey, &mut found);
    console::check(survey, &mut found);
    shape::check(survey, &mut found);
    refusal(survey, &mut found);
    // Sorting keeps the order of checks within a level.
    found.sort_by_key(|finding| finding.level);
    found
}

/// What makes the hypervisor stop, where no check above says it better.
fn refusal(survey: &Survey<'_>, found: &mut Vec<Finding>) {
    match &survey.platform {
        Err(error) => {
            let explained = |finding: &Finding| {
                let below = error.path.strip_prefix(&finding.node).is_some_and(|rest| rest.starts_with('/'));
                let nowhere = error.path == "/" && finding.lint.starts_with("gic-");
                finding.level == Level::Error && (finding.node == error.path || below || nowhere)
            };
            if error.path == "/memory" || found.iter().any(explained) {
                return;
            }
            let node = if error.path.is_empty() { "/" } else { error.path.as_str() };
            let property =
                if error.property.is_empty() { String::new() } else { format!("`{}`: ", error.property) };
            found.push(Finding::new(
                Level::Error,
                "refused",
                node,
                format!("{property}{}", error.problem),
                "The hypervisor reads this before anything else, and stops here; what comes after it was not looked at.",
            ));
        }
        Ok(platform) => {
            // About the console there are better words.
            let told = ["stdout-path:", "aliases:", "no console is named"];
            for warning in &platform.warnings {
                if told.iter().any(|start| warning.starts_with(start)) {
                    continue;
                }
                let said = warning.strip_prefix("device tree: ").unwrap_or(warning);
                let node = said.split(": ").find(|part| part.starts_with('/')).unwrap_or("/");
                let what = said.strip_prefix(node).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(said);
                found.push(Finding::new(
                    Level::Note,
                    "left-out",
                    node,
                    what,
                    "The hypervisor says this at boot and leaves the thing out; dom0 may miss that device.",
                ));
            }
        }
    }
}
