//! Drawings of what lies where: a [`Map`] of named spans, as text for a terminal, as SVG, and as a page of HTML that
//! needs nothing else.
//!
//! Spans that lie over one another are put side by side, and that they do is what [`Map::conflicts`] says.

mod html;
mod map;
mod svg;
mod text;

pub use html::html;
pub use map::{Conflict, MOST_CONFLICTS, Map, Role, Span};
pub use svg::svg;
pub use text::text;

/// `text` with what XML gives a meaning to written otherwise; control characters, which XML has no form for, are `?`.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push('?'),
            c => safe.push(c),
        }
    }
    safe
}

/// At most `most` characters of `text`, with a mark where some were cut, and without what would move a terminal's
/// cursor.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return clean(text);
    }
    clean(text).chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// `text` without what would move a terminal's cursor, or turn the direction of what follows.
pub(crate) fn clean(text: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { '?' } else { c }).collect()
}
