//! Reads a TOML description into a type, and says of a fault in which file, line and field it is.

use crate::error::{Error, Result};
use crate::suggest::nearest;
use serde::de::DeserializeOwned;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// Reads `text`, which came from `file`, as a `T`.
///
/// # Errors
///
/// Text that is not TOML, a value of the wrong type, a missing field, and an unknown key, the last with the nearest
/// known one.
pub fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let span = error.span();
        let message = error.message();
        let mut fault = Error::new(shorten(message)).file(file);
        if let Some(span) = span {
            fault.field = path_at(text, &span);
            mark(&mut fault, text, span);
        }
        fault.help = advise(message);
        Box::new(fault)
    })
}

/// A fault found in a value that was read well: `path` is its dotted path in `text`. The place is the nearest part
/// of the path that is there.
pub fn fault_at(file: &str, text: &str, path: &str, message: impl Into<String>) -> Error {
    let mut fault = Error::new(message).file(file);
    fault.field = Some(path.to_owned());
    if let Some(span) = span_of(text, path) {
        mark(&mut fault, text, span);
    }
    fault
}

/// Puts position and snippet of `span` into `fault`.
fn mark(fault: &mut Error, text: &str, span: Range<usize>) {
    let start = floor(text, span.start);
    let before = &text[..start];
    let line_start = before.rfind('\n').map_or(0, |index| index + 1);
    let line_number = before.matches('\n').count() + 1;
    let column = text[line_start..start].chars().count();
    let line = text[line_start..].lines().next().unwrap_or_default();
    let end = floor(text, span.end.min(line_start + line.len()));
    let width = text.get(start..end).map_or(1, |marked| marked.chars().count().max(1));
    fault.position = Some((line_number, column + 1));
    let number = line_number.to_string();
    let margin = " ".repeat(number.len());
    let tabs: String = line.chars().take(column).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    fault.snippet = Some(format!("  {number} | {line}\n  {margin} | {tabs}{}", "^".repeat(width)));
}

/// The nearest character boundary at or before `index`.
fn floor(text: &str, index: usize) -> usize {
    (0..=index.min(text.len())).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0)
}

/// serde lists every name it would have taken; the help does that better.
fn shorten(message: &str) -> String {
    message.split_once(", expected").filter(|(head, _)| head.starts_with("unknown")).map_or_else(
        || message.trim_end().to_owned(),
        |(head, _)| head.replace("unknown field", "unknown key").replace("unknown variant", "unknown value"),
    )
}

/// For `unknown field 'x', expected one of 'a', 'b'`: the nearest of them, and all.
fn advise(message: &str) -> Option<String> {
    let (head, tail) = message.split_once(", expected")?;
    if !head.starts_with("unknown") {
        return None;
    }
    let wrong = head.split('`').nth(1)?;
    let known: Vec<&str> = tail.split('`').skip(1).step_by(2).collect();
    Some(match nearest(wrong, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known here are: {}", known.join(", ")),
    })
}

/// The dotted path of the innermost key whose key or value holds `span`.
fn path_at(text: &str, span: &Range<usize>) -> Option<String> {
    fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
        outer.start <= inner.start && inner.end <= outer.end
    }
    fn walk(value: &DeValue<'_>, span: &Range<usize>, path: &mut Vec<String>) -> bool {
        match value {
            DeValue::Table(table) => walk_table(table, span, path),
            DeValue::Array(array) => {
                for (index, item) in array.iter().enumerate() {
                    path.push(index.to_string());
                    if walk(item.get_ref(), span, path) || holds(&item.span(), span) {
                        return true;
                    }
                    path.pop();
                }
                false
            }
            _ => false,
        }
    }
    fn walk_table(table: &DeTable<'_>, span: &Range<usize>, path: &mut Vec<String>) -> bool {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            if holds(&key.span(), span) || walk(value.get_ref(), span, path) || holds(&value.span(), span) {
                return true;
            }
            path.pop();
        }
        false
    }
    let document = DeTable::parse(text).ok()?;
    let mut path = Vec::new();
    (walk_table(document.get_ref(), span, &mut path) && !path.is_empty()).then(|| path.join("."))
}

/// Where the value at `path` stands, or its nearest parent that is there.
fn span_of(text: &str, path: &str) -> Option<Range<usize>> {
    let document = DeTable::parse(text).ok()?;
    let mut parts = path.split('.');
    let mut value = document.get_ref().get(parts.next()?)?;
    for part in parts {
        let next = match value.get_ref() {
            DeValue::Table(table) => table.get(part),
            DeValue::Array(array) => part.parse::<usize>().ok().and_then(|index| array.get(index)),
            _ => None,
        };
        match next {
            Some(next) => value = next,
            None => break,
        }
    }
    Some(value.span())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[allow(dead_code)]
        name: String,
        #[allow(dead_code)]
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Inner {
        #[allow(dead_code)]
        load_address: u32,
        #[allow(dead_code)]
        colour: Option<Colour>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Colour {
        DarkRed,
        Blue,
    }

    fn fault(text: &str) -> Error {
        *read::<Outer>("b.toml", text).unwrap_err()
    }

    #[test]
    fn an_unknown_key_has_line_field_and_suggestion() {
        let fault = fault("name = \"x\"\n[inner]\nload-adress = 1\n");
        assert_eq!(fault.position, Some((3, 1)));
        assert_eq!(fault.field.as_deref(), Some("inner.load-adress"));
        assert_eq!(fault.message, "unknown key `load-adress`");
        assert_eq!(fault.help.as_deref(), Some("did you mean `load-address`?"));
        assert_eq!(fault.snippet.as_deref(), Some("  3 | load-adress = 1\n    | ^^^^^^^^^^^"));
    }

    #[test]
    fn an_unknown_value_has_a_suggestion() {
        let fault = fault("name = \"x\"\n[inner]\nload-address = 1\ncolour = \"dark-rad\"\n");
        assert_eq!(fault.message, "unknown value `dark-rad`");
        assert_eq!(fault.position, Some((4, 10)));
        assert_eq!(fault.help.as_deref(), Some("did you mean `dark-red`?"));
    }

    #[test]
    fn wrong_type_missing_field_and_bad_syntax_are_placed() {
        let wrong = fault("name = \"x\"\ninner = { load-address = \"y\" }\n");
        assert_eq!((wrong.position, wrong.field.as_deref()), (Some((2, 26)), Some("inner.load-address")));
        assert!(fault("\n").message.contains("missing field `name`"));
        let syntax = fault("name = \"x\nother = 1");
        assert_eq!(syntax.position.map(|(line, _)| line), Some(1), "{syntax:?}");
    }

    #[test]
    fn a_fault_found_later_is_placed_by_its_path() {
        let text = "a = [1, 2]\n[b.c]\nd = \"é\"\n";
        assert_eq!(fault_at("f", text, "b.c.d", "m").position, Some((3, 5)));
        assert_eq!(fault_at("f", text, "a.1", "m").position, Some((1, 9)));
        assert_eq!(fault_at("f", text, "b.c.missing", "m").position, Some((2, 1)));
        assert_eq!(fault_at("f", text, "zzz", "m").position, None);
    }

    proptest! {
        #[test]
        fn any_text_gives_a_value_or_an_error(text in "\\PC*") {
            let _ = read::<Outer>("f", &text);
        }

        #[test]
        fn toml_like_text_gives_a_value_or_an_error(text in "([a-z\"=\\[\\]{}#é\n\t0-9. ]|name|inner|load-address)*") {
            let _ = read::<Outer>("f", &text);
            let _ = fault_at("f", &text, "inner.load-address", "m");
        }
    }
}
