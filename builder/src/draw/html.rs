//! Maps and text as one page of HTML, with nothing to fetch and nothing to run.

use super::{Map, escaped, svg};
use crate::report::size;
use std::fmt::Write as _;

/// A page with `title`, the lines of `sections` under their headings, and the drawings of `maps` with their tables.
pub fn html(title: &str, sections: &[(&str, Vec<String>)], maps: &[&Map]) -> String {
    let title = escaped(title);
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n<style>\n\
         body {{ font-family: sans-serif; margin: 2em; max-width: 72em }}\n\
         table {{ border-collapse: collapse }} td, th {{ text-align: left; padding: 0.1em 0.8em; vertical-align: top }}\n\
         td.n {{ font-family: monospace; text-align: right }} tr:nth-child(even) {{ background: #f4f4f4 }}\n\
         </style></head>\n<body><h1>{title}</h1>\n"
    );
    for (heading, lines) in sections.iter().filter(|(_, lines)| !lines.is_empty()) {
        let _ = writeln!(text, "<h2>{}</h2>\n<ul>", escaped(heading));
        for line in lines {
            let _ = writeln!(text, "<li>{}</li>", escaped(line));
        }
        text.push_str("</ul>\n");
    }
    for map in maps {
        let _ = writeln!(text, "<h2>{}</h2>\n{}", escaped(&map.title), svg(&[map]));
        text.push_str("<table><tr><th>from</th><th>to</th><th>size</th><th>what</th></tr>\n");
        for span in map.with_gaps() {
            let detail = if span.detail.is_empty() { String::new() } else { format!(": {}", span.detail) };
            let inside: String = span.inside.iter().map(|line| format!("<br>{}", escaped(line))).collect();
            let _ = writeln!(
                text,
                "<tr><td class=\"n\">{:#x}</td><td class=\"n\">{:#x}</td><td class=\"n\">{}</td><td>{}{inside}</td></tr>",
                span.start,
                span.end(),
                size(span.size),
                escaped(&format!("{}{detail}", span.name)),
            );
        }
        text.push_str("</table>\n");
    }
    text.push_str("</body></html>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Role, Span};
    use super::*;

    #[test]
    fn a_page_says_everything_and_runs_nothing() {
        let evil = "<img src=x onerror=alert(1)>";
        let spans = vec![Span::new(evil, 0, 10, Role::Boot).inside(vec![evil.into()])];
        let page =
            html(evil, &[("Faults", vec![evil.into()]), ("None", vec![])], &[&Map::new(evil, 0, 20, spans)]);
        assert!(
            !page.contains("<img") && !page.contains("<script") && !page.contains("http:")
                || page.matches("http:").count() == 1,
            "{page}"
        );
        assert!(page.contains("<h2>Faults</h2>") && !page.contains("<h2>None</h2>"), "{page}");
        assert!(!page.contains("<img"), "{page}");
    }
}
