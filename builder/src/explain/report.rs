//! The explanation for people.

use std::fmt::Write as _;

use super::Explanation;
use crate::draw::{self, Map};

impl Explanation {
    /// What was found of conflicts, in lines.
    fn proof(&self) -> Vec<String> {
        if self.is_disjoint() {
            let maps = 1 + self.memory.len();
            return vec![format!("no two things have a byte in common, on any of the {maps} maps")];
        }
        let lines = self.conflicts.iter().map(|mended| {
            let conflict = &mended.conflict;
            let change =
                mended.change.as_ref().map_or(String::new(), |change| format!("; to mend it, {change}"));
            format!(
                "on {}: {} lies over {}, {} bytes from {:#x}{change}",
                mended.place, conflict.second, conflict.first, conflict.size, conflict.start
            )
        });
        lines.collect()
    }

    fn maps(&self) -> Vec<&Map> {
        std::iter::once(&self.medium).chain(self.memory.iter().map(|handover| &handover.map)).collect()
    }

    /// All of it as text, drawn in lines of at most `width` characters.
    pub fn text(&self, width: usize) -> String {
        let mut text = String::new();
        for map in self.maps() {
            let _ = writeln!(text, "{}", draw::text(map, width));
        }
        for line in self.remarks.iter().chain(&self.proof()) {
            let _ = writeln!(text, "{}", draw::clean(line));
        }
        text
    }

    /// All of it as a page of HTML.
    pub fn html(&self) -> String {
        let sections = [("What lies over what", self.proof()), ("Remarks", self.remarks.clone())];
        draw::html(&self.title, &sections, &self.maps())
    }

    /// The maps one below the other.
    pub fn svg(&self) -> String {
        draw::svg(&self.maps())
    }
}
