//! What logs, faults and people have written, made fit for a report: it is hostile until it has been here.

use crate::draw::{cut, escaped};

/// Characters of a line that a report shows.
pub(super) const MAX_LINE: usize = 400;
/// Bytes of a sentence that is not a log's: a fault, an advice.
const MAX_TEXT: usize = 8 << 10;

/// One line: no control characters, none that turn the direction of writing, and no longer than a report shows.
pub(super) fn line(text: &str) -> String {
    cut(&text.replace('\t', "    "), MAX_LINE)
}

/// [`line`] as HTML and XML have it.
pub(super) fn html(text: &str) -> String {
    escaped(&line(text))
}

/// Text of several lines, each as [`line`] makes it.
pub(super) fn lines(text: &str) -> Vec<String> {
    let end = text.floor_char_boundary(MAX_TEXT);
    let (shown, rest) = text.split_at(end);
    let mut lines: Vec<String> = shown.lines().map(line).collect();
    if !rest.is_empty() {
        lines.push("…".to_owned());
    }
    lines
}

/// [`lines`] as HTML has it, where white space is kept.
pub(super) fn html_lines(text: &str) -> String {
    escaped_lines(&lines(text))
}

/// [`html_lines`] of what the builder says: what it has put between backticks is code.
pub(super) fn sentences(text: &str) -> String {
    let mark = |line: &str| {
        let parts: Vec<&str> = line.split('`').collect();
        let part = |(index, part): (usize, &&str)| match index % 2 {
            0 => (*part).to_owned(),
            // One that has no other.
            _ if index + 1 == parts.len() => format!("`{part}"),
            _ => format!("<code>{part}</code>"),
        };
        parts.iter().enumerate().map(part).collect()
    };
    html_lines(text).split('\n').map(mark).collect::<Vec<String>>().join("\n")
}

/// Lines that [`line`] has made, as HTML has them, where white space is kept.
pub(super) fn escaped_lines(lines: &[String]) -> String {
    lines.iter().map(|line| escaped(line)).collect::<Vec<_>>().join("\n")
}

/// The words of `count` things: `1 boot`, `2 boots`.
pub(super) fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// A time for people: tenths of a second below two minutes.
pub(super) fn duration(seconds: f64) -> String {
    let seconds = if seconds.is_finite() && seconds > 0.0 { seconds } else { 0.0 };
    if seconds < 120.0 {
        return format!("{seconds:.1} s");
    }
    let minutes = (seconds / 60.0).floor();
    if minutes < 120.0 {
        return format!("{minutes} min {:.0} s", (seconds - minutes * 60.0).floor());
    }
    let hours = (minutes / 60.0).floor();
    format!("{hours} h {:.0} min", minutes - hours * 60.0)
}

/// The reference that leads to a file beside the page (RFC 3986, 3.3); `None` for what would lead elsewhere.
pub(super) fn reference(path: &str) -> Option<String> {
    let mut text = String::new();
    for part in path.split('/') {
        if matches!(part, "" | "." | "..") {
            return None;
        }
        if !text.is_empty() {
            text.push('/');
        }
        for byte in part.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    text.push(char::from(byte));
                }
                _ => text.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hostile_is_only_text() {
        assert_eq!(html("<b>\u{202e}&\u{9b}2J\tx"), "&lt;b&gt;?&amp;?2J    x");
        assert_eq!(line(&"é".repeat(MAX_LINE + 1)).chars().count(), MAX_LINE);
        assert_eq!(lines("a\nb\u{7}"), ["a", "b?"]);
        let long = lines(&"é\n".repeat(MAX_TEXT));
        assert!(long.len() < MAX_TEXT && long.last().unwrap() == "…");
    }

    #[test]
    fn what_stands_between_backticks_is_code() {
        assert_eq!(sentences("see `a<b` of `\n`c"), "see <code>a&lt;b</code> of `\n`c");
    }

    #[test]
    fn references_lead_to_files_beside_the_page() {
        assert_eq!(reference("consoles/a b.log").as_deref(), Some("consoles/a%20b.log"));
        assert_eq!(reference("javascript:alert(1)").as_deref(), Some("javascript%3Aalert%281%29"));
        for bad in ["../x", "/etc/passwd", "a//b", ""] {
            assert_eq!(reference(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_are_told_as_people_do() {
        assert_eq!(duration(3.24), "3.2 s");
        assert_eq!(duration(3199.9), "53 min 19 s");
        assert_eq!(duration(7260.0), "2 h 1 min");
        assert_eq!(duration(-1.0), "0.0 s");
        assert_eq!((counted(1, "boot"), counted(0, "boot")), ("1 boot".into(), "0 boots".into()));
    }
}
