//! The outcome of a check, for people and for programs.

use super::facts::Facts;
use super::finding::{Finding, Level};
use serde::Serialize;
use std::fmt::Write as _;
use vambrace_bsp::Size;

/// Characters of a line of prose.
const WIDTH: usize = 100;

/// What the hypervisor will see, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The machine as the hypervisor reads it.
    pub facts: Facts,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many findings there are of a level.
    pub fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }

    /// Whether the hypervisor boots with this tree, as far as a tree tells.
    pub fn passes(&self) -> bool {
        self.count(Level::Error) == 0
    }

    /// The report in words, several lines with a line end.
    pub fn text(&self) -> String {
        let mut text = heading(&self.facts);
        text.push_str("\n\n");
        for (name, value) in rows(&self.facts) {
            let _ = writeln!(text, "  {name:<9} {value}");
        }
        for finding in &self.findings {
            text.push('\n');
            describe(&mut text, finding);
        }
        let counted = |level, word: &str| {
            let count = self.count(level);
            format!("{count} {word}{}", if count == 1 { "" } else { "s" })
        };
        let _ = writeln!(
            text,
            "\n{}, {}, {}: {}",
            counted(Level::Error, "error"),
            counted(Level::Warning, "warning"),
            counted(Level::Note, "note"),
            if self.passes() {
                "the hypervisor can use this tree"
            } else {
                "the hypervisor cannot boot with this tree"
            }
        );
        text
    }

    /// One line for the outcome, for lists.
    pub fn line(&self) -> String {
        let lints: Vec<String> = self
            .findings
            .iter()
            .filter(|finding| finding.level != Level::Note)
            .map(|finding| format!("{} {}", finding.level, finding.lint))
            .collect();
        if lints.is_empty() { "nothing to mend".to_owned() } else { lints.join(", ") }
    }
}

fn heading(facts: &Facts) -> String {
    let name = facts.model.as_deref().unwrap_or("A board without a name");
    if facts.compatible.is_empty() {
        name.to_owned()
    } else {
        format!("{name} ({})", facts.compatible.join(", "))
    }
}

/// What is known, a line each.
fn rows(facts: &Facts) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for cpu in &facts.cpus {
        match kinds.iter_mut().find(|(kind, _)| kind == cpu) {
            Some((_, count)) => *count += 1,
            None => kinds.push((cpu, 1)),
        }
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} x {kind}")).collect();
    let architecture = facts.architecture.map_or(String::new(), |architecture| format!(" ({architecture})"));
    let start =
        if facts.start.is_empty() { String::new() } else { format!("; started: {}", facts.start.join(", ")) };
    rows.push(("cpus", format!("{}{architecture}{start}", kinds.join(", "))));
    if facts.refused {
        return rows;
    }
    let memory: Vec<String> =
        facts.memory.iter().map(|bank| format!("{} at {:#x}", Size(bank.size), bank.base)).collect();
    rows.push((
        "memory",
        if memory.is_empty() { "none; firmware has to add it".to_owned() } else { memory.join(", ") },
    ));
    if let Some(gic) = &facts.gic {
        let addresses: Vec<String> = gic.registers.iter().map(|range| format!("{:#x}", range.base)).collect();
        let maintenance = gic
            .maintenance
            .map_or("no maintenance interrupt".to_owned(), |intid| format!("maintenance INTID {intid}"));
        rows.push(("gic", format!("{} at {}; {maintenance}", gic.driver.name(), addresses.join(", "))));
    }
    if let Some(timers) = &facts.timers {
        let secure = timers.secure.map_or("-".to_owned(), |intid| intid.to_string());
        rows.push((
            "timers",
            format!(
                "INTIDs {secure}/{}/{}/{} (secure, physical, virtual, hypervisor)",
                timers.physical, timers.virtual_, timers.hypervisor
            ),
        ));
    }
    rows.push((
        "console",
        match &facts.console {
            Some(uart) => format!(
                "{}: {} at {:#x}, shift {}, {}",
                uart.node,
                uart.driver.map_or("no driver", |driver| driver.name()),
                uart.base,
                uart.reg_shift,
                uart.spi.map_or("no interrupt".to_owned(), |spi| format!("SPI {spi}"))
            ),
            None => "none".to_owned(),
        },
    ));
    rows
}

fn describe(text: &mut String, finding: &Finding) {
    let _ = writeln!(text, "{}[{}] {}: {}", finding.level, finding.lint, finding.node, finding.what);
    wrapped(text, "  why: ", &finding.why);
    let Some(fix) = &finding.fix else { return };
    wrapped(text, "  fix: ", &fix.text);
    for line in fix.source.iter().flat_map(|source| source.lines()) {
        let _ = writeln!(text, "      {line}");
    }
    if fix.source.is_some() {
        let how =
            if fix.overlay { "in the board's source, or as an overlay" } else { "in the board's source" };
        let _ = writeln!(text, "      ({how})");
    }
}

/// Writes prose behind a label, in lines of [`WIDTH`] characters.
fn wrapped(text: &mut String, label: &str, prose: &str) {
    let mut line = label.to_owned();
    let mut empty = true;
    for word in prose.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = " ".repeat(label.len());
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    text.push_str(&line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_wrapped_under_its_label() {
        let mut text = String::new();
        wrapped(&mut text, "  why: ", &"word ".repeat(30));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.len() <= WIDTH));
        assert!(lines[0].starts_with("  why: word") && lines[1].starts_with("       word"));
    }
}
