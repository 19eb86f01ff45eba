//! A message that the guide explains is one that the program still says.

use crate::page::{Page, root};
use pulldown_cmark::HeadingLevel;
use std::fs;
use std::path::Path;

/// The sections of the page with messages of other programs.
const OTHERS: [&str; 3] = ["U-Boot", "Linux", "xl"];
/// Where messages are in the sources.
const SOURCES: [&str; 6] = [
    "bsp/src",
    "builder/src",
    "dom0-rootfs/shared/initramfs",
    "hypervisor/core/src",
    "hypervisor/hal/src",
    "hypervisor/src",
];
/// Least letters of a message that is looked for.
const LEAST: usize = 8;

/// The lines of all sources, a text over several lines as one.
fn lines(dir: &Path, all: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            lines(&path, all);
        } else {
            // Up to the tests, which quote messages as well.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let mut line = String::new();
            for part in text.lines() {
                line.push_str(part.trim_start());
                match line.strip_suffix('\\') {
                    Some(begun) => line.truncate(begun.len()),
                    None => all.push(std::mem::take(&mut line)),
                }
            }
        }
    }
}

/// Whether `line` has these parts, one after the other.
fn has(line: &str, parts: &[&str]) -> bool {
    let mut rest = line;
    parts.iter().all(|part| match rest.split_once(part) {
        Some((_, behind)) => {
            rest = behind;
            true
        }
        None => false,
    })
}

/// The parts of a quoted message that do not differ from case to case.
fn parts(message: &str) -> Vec<&str> {
    let parts: Vec<&str> = message.split("...").filter(|part| !part.trim().is_empty()).collect();
    let letters = parts.iter().flat_map(|part| part.chars()).filter(|c| c.is_alphabetic()).count();
    assert!(letters >= LEAST, "`{message}` says too little to be looked for");
    parts
}

#[test]
fn every_message_of_ours_is_still_said() {
    let mut all = Vec::new();
    SOURCES.iter().for_each(|dir| lines(&root().join(dir), &mut all));
    let page = Page::read(&root().join("builder/guide/src/troubleshooting.md"));
    let mut ours = true;
    let (mut count, mut lost) = (0, Vec::new());
    for heading in &page.headings {
        if heading.level == HeadingLevel::H2 {
            ours = !OTHERS.contains(&heading.text.as_str());
        } else if ours && heading.is_code {
            count += 1;
            let parts = parts(&heading.text);
            if !all.iter().any(|line| has(line, &parts)) {
                lost.push(heading.text.as_str());
            }
        }
    }
    assert!(lost.is_empty(), "nothing says this any more:\n{}", lost.join("\n"));
    assert!(count > 50, "{count} messages are too few: are they still found?");
    let sections: Vec<&str> = page.headings.iter().map(|heading| heading.text.as_str()).collect();
    assert!(OTHERS.iter().all(|other| sections.contains(other)), "{sections:?}");
}

#[test]
fn a_lost_message_would_be_found() {
    let parts = parts("cannot load ... from ...");
    assert!(has("say(\"cannot load {file} from {disk}\")", &parts));
    assert!(!has("say(\" from cannot load \")", &parts));
}
