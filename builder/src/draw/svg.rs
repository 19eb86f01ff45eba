//! A map as an SVG drawing (SVG 1.1, static): a column for each lane, heights to scale as far as small things stay
//! visible.

use super::{Map, Role, Span, cut, escaped};
use crate::report::size;
use std::fmt::Write as _;

/// Points of a line of text, and the least height of a span.
const LINE: u64 = 18;
/// Points that the spans have to share beyond their least.
const SHARED: u64 = 520;
/// Points of a column; of what is left of it, and of what is right.
const COLUMN: u64 = 120;
const LEFT: u64 = 130;
const RIGHT: u64 = 560;

/// Draws `maps` one below the other.
pub fn svg(maps: &[&Map]) -> String {
    let lanes = maps.iter().map(|map| map.lanes().len()).max().unwrap_or(1).max(1) as u64;
    let width = LEFT + lanes * COLUMN + RIGHT;
    let mut drawings = String::new();
    let mut y = 0;
    for map in maps {
        y = draw(map, width, y, &mut drawings);
    }
    let mut x = LEFT;
    for role in Role::ALL {
        let _ = writeln!(
            drawings,
            "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{}\" stroke=\"#333333\"/><text x=\"{}\" \
             y=\"{}\">{}</text>",
            y + 4,
            colour(role),
            x + 16,
            y + 15,
            role.name()
        );
        x += 90;
    }
    let total = y + LINE + 12;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{total}\" \
         viewBox=\"0 0 {width} {total}\" font-family=\"sans-serif\" font-size=\"12\" role=\"img\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{drawings}</svg>\n"
    )
}

/// Draws `map` from `y` on, and gives where it ends.
fn draw(map: &Map, width: u64, y: u64, text: &mut String) -> u64 {
    let all = map.with_gaps();
    let whole = u128::from((map.end - map.start).max(1));
    let height = |span: &Span| {
        LINE + u64::try_from(u128::from(span.size) * u128::from(SHARED) / whole).unwrap_or(SHARED)
    };
    let _ = writeln!(
        text,
        "<text x=\"8\" y=\"{}\" font-size=\"14\" font-weight=\"bold\">{}</text>",
        y + LINE,
        escaped(&cut(&map.title, 140))
    );
    let mut y = y + 2 * LINE;
    for span in &all {
        let lane = map.lanes().iter().position(|lane| lane.contains(span)).unwrap_or(0) as u64;
        let (x, high) = (LEFT + lane * COLUMN, height(span));
        let detail = if span.detail.is_empty() { String::new() } else { format!(": {}", span.detail) };
        let said = format!("{}, {}{detail}", span.name, size(span.size));
        let _ = writeln!(
            text,
            "<g><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{COLUMN}\" height=\"{high}\" fill=\"{}\" \
             stroke=\"#333333\"/><text x=\"{}\" y=\"{}\" text-anchor=\"end\" font-family=\"monospace\">{:#x}</text>\
             <text x=\"{}\" y=\"{}\">{}</text></g>",
            escaped(&format!("{said}; {:#x} to {:#x}", span.start, span.end())),
            colour(span.role),
            LEFT - 8,
            y + 13,
            span.start,
            width - RIGHT + 8,
            y + 13,
            escaped(&cut(&said, 88)),
        );
        y += high;
    }
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" font-family=\"monospace\">{:#x}</text>",
        LEFT - 8,
        y + 13,
        map.end
    );
    y + LINE + 8
}

/// Light enough for black text, and told apart by who sees no red and green.
fn colour(role: Role) -> &'static str {
    match role {
        Role::Table => "#cc79a7",
        Role::Firmware => "#e69f00",
        Role::Hypervisor => "#56b4e9",
        Role::Boot => "#f0e442",
        Role::Volume => "#8fd3b6",
        Role::Reserved => "#bbbbbb",
        Role::Free => "#f7f7f7",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_and_every_span_is_drawn() {
        let spans = vec![
            Span::new("<script>alert(1)</script>&\"'\u{0}", 0, 512, Role::Table),
            Span::new("b", 256, 512, Role::Volume),
        ];
        let drawn = svg(&[&Map::new("]]><x>", 0, u64::MAX, spans)]);
        assert!(!drawn.contains("<script") && !drawn.contains("<x>") && !drawn.contains('\0'), "{drawn}");
        assert_eq!(drawn.matches("<g>").count(), 3, "two spans and what is free");
        assert!(drawn.contains(&format!("x=\"{}\" y=", LEFT + COLUMN)), "the second column");
    }
}
