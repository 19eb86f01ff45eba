//! The account for people: as text, as a map, as a page.

use std::fmt::Write as _;

use super::{Account, Found, Kind, Partition};
use crate::draw::{self, Map, Role, Span};
use crate::port::Level;
use crate::report::size;

/// How the map calls a partition.
pub(super) fn partition_name(partition: &Partition) -> String {
    let entry = &partition.entry;
    match (entry.number, entry.name.as_str()) {
        (0, _) => "the file system".to_owned(),
        (number, "") => format!("partition {number}"),
        (number, name) => format!("partition {number} `{name}`"),
    }
}

/// How the map calls what lies outside of partitions.
pub(super) fn found_name(found: &Found) -> String {
    found.thing.what.clone()
}

impl Account {
    /// What lies where.
    pub fn map(&self) -> Map {
        let mut spans: Vec<Span> = Vec::new();
        for table in &self.tables {
            let state = if table.sound { "" } else { "damaged" };
            spans.push(Span::new(&table.what, table.start, table.size, Role::Table).detail(state));
        }
        for found in &self.raw {
            let role = role(found.thing.kind);
            let mut said: Vec<&str> = found.rom.into_iter().collect();
            said.extend(found.thing.wrong.iter().map(String::as_str));
            spans.push(Span::new(found_name(found), found.start, found.size, role).detail(said.join("; ")));
        }
        for partition in &self.partitions {
            spans.push(span(partition));
        }
        if let Some(thing) = &self.file {
            spans.push(Span::new(&thing.what, 0, self.size, role(thing.kind)));
        }
        let packed = self.packing.map_or(String::new(), |packing| format!(", packed with {packing}"));
        let table = self.table.map_or(String::new(), |table| format!(", {table}"));
        Map::new(format!("{}: {}{table}{packed}", self.source, size(self.size)), 0, self.size, spans)
    }

    /// The verdicts in lines.
    fn verdict_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for verdict in &self.verdicts {
            let state = match (verdict.boots, verdict.hypervisor) {
                (true, true) => "boots with a hypervisor",
                (true, false) => "boots without a hypervisor",
                (false, _) => "does not boot",
            };
            lines.push(format!("{}, {state}: {}", verdict.way, verdict.line()));
            lines.extend(verdict.steps.iter().map(|step| format!("    {} ({})", step.what, step.evidence)));
            lines.extend(verdict.why_not.iter().map(|why| format!("    not: {why}")));
        }
        lines
    }

    fn fault_lines(&self) -> Vec<String> {
        let lines = self.faults.iter().map(|fault| {
            let help = if fault.help.is_empty() { String::new() } else { format!(" ({})", fault.help) };
            format!("{}: {}: {}{help}", fault.level, fault.at, fault.what)
        });
        lines.collect()
    }

    /// All of it as text, drawn in lines of at most `width` characters.
    pub fn text(&self, width: usize) -> String {
        let mut text = draw::text(&self.map(), width);
        for (heading, lines) in [("WHAT WOULD BOOT", self.verdict_lines()), ("FAULTS", self.fault_lines())] {
            if lines.is_empty() {
                continue;
            }
            let _ = writeln!(text, "\n{heading}");
            for line in lines {
                let _ = writeln!(text, "  {}", draw::clean(&line));
            }
        }
        let count = |level: Level| self.faults.iter().filter(|fault| fault.level == level).count();
        let _ = writeln!(
            text,
            "\nerrors: {}, warnings: {}, notes: {}",
            count(Level::Error),
            count(Level::Warning),
            count(Level::Note)
        );
        text
    }

    /// All of it as a page of HTML.
    pub fn html(&self) -> String {
        let sections = [("What would boot", self.verdict_lines()), ("Faults", self.fault_lines())];
        draw::html(&self.source, &sections, &[&self.map()])
    }
}

fn span(partition: &Partition) -> Span {
    let entry = &partition.entry;
    let mut said: Vec<String> = Vec::new();
    if !entry.kind.is_empty() {
        said.push(entry.kind.clone());
    }
    if entry.bootable {
        said.push("bootable".into());
    }
    if let Some(format) = &partition.format {
        let label = if format.label.is_empty() { String::new() } else { format!(" `{}`", format.label) };
        said.push(format!("{}{label}", format.name));
    }
    said.extend(partition.content.iter().map(|thing| thing.what.clone()));
    let inside = partition
        .files
        .iter()
        .map(|file| format!("{}: {}, {}", file.path, file.thing.what, size(file.bytes)));
    Span::new(partition_name(partition), entry.start, entry.size, Role::Volume)
        .detail(said.join(", "))
        .inside(inside.collect())
}

fn role(kind: Kind) -> Role {
    match kind {
        Kind::Hypervisor => Role::Hypervisor,
        Kind::Firmware | Kind::Environment => Role::Firmware,
        Kind::Other | Kind::Unread => Role::Reserved,
        _ => Role::Boot,
    }
}
