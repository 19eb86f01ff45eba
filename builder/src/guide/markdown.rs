//! Text as Markdown takes it.

/// `text` as a part of a line that says the same when it has been rendered, in a table's cell too.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '&' | '#' | '~' => safe.extend(['\\', c]),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// `text` as code in a line, in a table's cell too.
pub(crate) fn code(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // The fence is longer than any in the text (CommonMark 0.31, 6.1).
    let longest = plain.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let gap = if longest == 0 { "" } else { " " };
    format!("{fence}{gap}{}{gap}{fence}", plain.replace('|', "\\|"))
}

/// A table of two or more columns.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&head.map(str::to_owned));
    text.push_str(&format!("|{}\n", "---|".repeat(N)));
    rows.iter().for_each(|row| text.push_str(&line(row)));
    text
}

/// The name that a heading has in links to it, as GitHub and mdBook make it.
pub(super) fn anchor(heading: &str) -> String {
    heading
        .chars()
        .filter_map(|c| match c {
            c if c.is_alphanumeric() || matches!(c, '-' | '_') => Some(c.to_ascii_lowercase()),
            c if c.is_whitespace() => Some('-'),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_markdown_is_escaped() {
        assert_eq!(escaped("a_b|<c>\nd"), "a\\_b\\|\\<c\\> d");
        assert_eq!(code("a`b|c"), "`` a`b\\|c ``");
        assert_eq!(code("plain"), "`plain`");
    }

    #[test]
    fn a_table_has_as_many_cells_in_each_line() {
        let text = table(["a", "b"], &[["1".into(), "2".into()]]);
        assert_eq!(text, "| a | b |\n|---|---|\n| 1 | 2 |\n");
    }

    #[test]
    fn headings_have_the_names_that_links_use() {
        assert_eq!(anchor("[[guest.disk]]"), "guestdisk");
        assert_eq!(anchor("First card, in ten minutes"), "first-card-in-ten-minutes");
    }
}
