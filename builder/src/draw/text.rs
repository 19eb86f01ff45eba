//! A map as text: a column that is to scale as far as lines can be, beside what each line is.

use super::{Map, Role, Span, cut};
use crate::report::size;
use std::fmt::Write as _;

/// The highest drawing of one span, in lines: a card is mostly one partition.
const MOST_LINES: u64 = 8;
/// And that of free space.
const MOST_FREE: u64 = 2;
/// Lines of names inside a span, before the rest is counted.
const MOST_INSIDE: usize = 40;

/// Draws `map` in lines of at most `width` characters.
pub fn text(map: &Map, width: usize) -> String {
    let width = width.max(60);
    let mut text = format!("{}\n", cut(&map.title, width));
    let all = map.with_gaps();
    let digits = format!("{:x}", map.end).len().max(8);
    let lanes = map.lanes().len().max(1);
    for span in &all {
        // Free space is beside nothing, so it has the first column.
        let lane = map.lanes().iter().position(|lane| lane.contains(span)).unwrap_or(0);
        let lines = height(span, map);
        for line in 0..lines {
            let column: String = (0..lanes)
                .map(|at| {
                    let mark = if at != lane { ' ' } else { fill(span.role) };
                    format!("|{mark}{mark}{mark}|")
                })
                .collect();
            let said = if line == 0 {
                let detail =
                    if span.detail.is_empty() { String::new() } else { format!("  {}", span.detail) };
                format!(" {:>10}  {}{detail}", size(span.size), span.name)
            } else {
                String::new()
            };
            let start = if line == 0 {
                format!("{:#0w$x}", span.start, w = digits + 2)
            } else {
                " ".repeat(digits + 2)
            };
            let _ = writeln!(text, "{}", cut(format!("{start} {column}{said}").trim_end(), width));
        }
        let indent = digits + 3 + lanes * 5 + 15;
        for inside in span.inside.iter().take(MOST_INSIDE) {
            let _ = writeln!(text, "{}", cut(&format!("{:indent$}{inside}", ""), width));
        }
        if span.inside.len() > MOST_INSIDE {
            let _ = writeln!(text, "{:indent$}and {} more", "", span.inside.len() - MOST_INSIDE);
        }
    }
    let _ = writeln!(text, "{:#0w$x}", map.end, w = digits + 2);
    text
}

/// Lines of a span: one for each doubling of its share, so that small things are seen and large ones look large.
fn height(span: &Span, map: &Map) -> u64 {
    let whole = (map.end - map.start).max(1);
    // In 1/256 of the whole.
    let share = u128::from(span.size) * 256 / u128::from(whole);
    let most = if span.role == Role::Free { MOST_FREE } else { MOST_LINES };
    u64::from(128 - (share + 1).leading_zeros()).clamp(1, most)
}

fn fill(role: Role) -> char {
    match role {
        Role::Table => '#',
        Role::Firmware => '%',
        Role::Hypervisor => '@',
        Role::Boot => '+',
        Role::Volume => '=',
        Role::Reserved => 'x',
        Role::Free => ' ',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_to_the_width_and_show_everything() {
        let spans = vec![
            Span::new("table \u{1b}[31m\u{202e}", 0, 512, Role::Table),
            Span::new("SPL", 8192, 30_000, Role::Firmware).detail("eGON, checksum right"),
            Span::new("partition 1", 1 << 20, 63 << 20, Role::Volume).inside(vec!["boot.scr".into(); 50]),
        ];
        let map = Map::new("a card", 0, 64 << 20, spans);
        let drawn = text(&map, 80);
        assert!(drawn.lines().all(|line| line.chars().count() <= 80), "{drawn}");
        for said in
            ["table ?[31m?", "SPL  eGON, checksum right", "63.0 MiB  partition 1", "free", "and 10 more"]
        {
            assert!(drawn.contains(said), "{said} in {drawn}");
        }
        let lines = |mark: &str| drawn.lines().filter(|line| line.contains(mark)).count();
        assert!(lines("|===|") > lines("|%%%|"), "{drawn}");
    }
}
