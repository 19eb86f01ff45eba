//! A reference of what a TOML file can say, from the JSON schema of its contents (draft 2020-12).
//!
//! A heading for each table of the file, with a line for each of its fields. What a schema says of anything else (other
//! vocabularies, conditions) is left out: the types that schemas are derived from have nothing of the kind.

use super::markdown::{anchor, code, table};
use serde_json::{Map, Value};

/// References that lead to references, before they count as a circle.
const MAX_REFERENCES: usize = 16;
/// What stands for a key of the user's own.
const NAME: &str = "NAME";
/// Tables in tables.
const MAX_DEPTH: usize = 8;

/// A table of the file: its path, whether there can be several, and its schema.
struct Section<'a> {
    path: Vec<&'a str>,
    several: bool,
    schema: &'a Value,
}

impl Section<'_> {
    /// The header as TOML writes it, empty for the file's own fields.
    fn header(&self) -> String {
        match (self.path.is_empty(), self.several) {
            (true, _) => String::new(),
            (false, false) => format!("[{}]", self.path.join(".")),
            (false, true) => format!("[[{}]]", self.path.join(".")),
        }
    }
}

/// The reference, as Markdown, with headings of the second level.
pub(super) fn reference(schema: &Value) -> String {
    let mut text = String::new();
    let mut left = vec![Section { path: Vec::new(), several: false, schema }];
    while let Some(section) = left.pop() {
        let header = section.header();
        let title = if header.is_empty() { "The file".to_owned() } else { code(&header) };
        text.push_str(&format!("## {title}\n\n"));
        let (resolved, described) = resolve(schema, section.schema);
        if let Some(what) = described {
            text.push_str(&format!("{}\n\n", unwrapped(what)));
        }
        let fields = resolved.get("properties").and_then(Value::as_object);
        let (mut rows, mut inner) = (Vec::new(), Vec::new());
        for (name, field) in fields.into_iter().flatten() {
            let of_section = Field { root: schema, section: &section, name, schema: field };
            rows.push(of_section.row(required(resolved, name)));
            if section.path.len() < MAX_DEPTH {
                inner.extend(of_section.table());
            }
        }
        // Each table is followed by those in it.
        left.extend(inner.into_iter().rev());
        text.push_str(&table(["field", "takes", "unless given", "what"], &rows));
        text.push('\n');
    }
    text
}

/// A field of a table.
struct Field<'a, 'b> {
    root: &'a Value,
    section: &'b Section<'a>,
    name: &'a str,
    schema: &'a Value,
}

impl<'a> Field<'a, '_> {
    fn row(&self, required: bool) -> [String; 4] {
        let (resolved, described) = resolve(self.root, self.schema);
        let default = self.schema.get("default").or_else(|| resolved.get("default"));
        let default = match default {
            _ if required => "has to be given".to_owned(),
            None | Some(Value::Null) => String::new(),
            Some(Value::Array(items)) if items.is_empty() => String::new(),
            Some(value) => code(&value.to_string()),
        };
        let takes = match self.table() {
            Some(table) => {
                let header = table.header();
                format!("[{}](#{})", code(&header), anchor(&header))
            }
            None => takes(self.root, resolved),
        };
        let choices = choices(self.root, resolved)
            .into_iter()
            .filter_map(|(value, what)| what.map(|what| format!("{}: {}", code(&value), cell(what))));
        let of_items = || resolve(self.root, resolved.get("items")?).1;
        let what = described.or_else(of_items).map(cell);
        let what: Vec<String> = what.into_iter().chain(choices).collect();
        [code(self.name), takes, default, what.join("<br>")]
    }

    /// The table that the field is, if it is one, or several. One whose keys are the user's own has NAME for them.
    fn table(&self) -> Option<Section<'a>> {
        let (resolved, _) = resolve(self.root, self.schema);
        let own = resolved.get("additionalProperties").filter(|schema| schema.is_object());
        let (schema, several, key) = match (resolved.get("items"), own) {
            (Some(items), _) => (items, true, None),
            (None, Some(values)) => (values, false, Some(NAME)),
            (None, None) => (resolved, false, None),
        };
        resolve(self.root, schema).0.get("properties")?;
        let path = self.section.path.iter().copied().chain([self.name]).chain(key).collect();
        Some(Section { path, several, schema })
    }
}

fn required(schema: &Value, name: &str) -> bool {
    schema.get("required").and_then(Value::as_array).is_some_and(|all| all.iter().any(|one| one == name))
}

/// What `schema` refers to in the end, and its description: the nearest one on the way. An alternative to `null` is
/// no alternative, for TOML has none.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> (&'a Value, Option<&'a str>) {
    let mut schema = schema;
    let mut description = None;
    for _ in 0..MAX_REFERENCES {
        description = description.or_else(|| schema.get("description").and_then(Value::as_str));
        let referred = schema.get("$ref").and_then(Value::as_str);
        let next = referred
            .and_then(|to| root.pointer(to.strip_prefix('#')?))
            .or_else(|| only(schema.get("anyOf").or_else(|| schema.get("oneOf"))?))
            .or_else(|| only(schema.get("allOf")?));
        match next {
            Some(next) => schema = next,
            None => break,
        }
    }
    (schema, description)
}

/// The only one of these schemas that is not for `null`.
fn only(schemas: &Value) -> Option<&Value> {
    let mut some = schemas.as_array()?.iter().filter(|one| one.get("type").is_none_or(|kind| kind != "null"));
    some.next().filter(|_| some.next().is_none())
}

/// What values a field takes, in words.
fn takes(root: &Value, schema: &Value) -> String {
    let choices = choices(root, schema);
    if !choices.is_empty() {
        return choices.iter().map(|(value, _)| code(value)).collect::<Vec<_>>().join(", ");
    }
    if let Some(alternatives) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array)
    {
        let kinds = alternatives.iter().map(|one| resolve(root, one).0);
        let kinds: Vec<String> = kinds.filter(|one| !is_null(one)).map(|one| takes(root, one)).collect();
        return kinds.join(" or ");
    }
    let names: Vec<&str> = match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let kinds = names.into_iter().filter(|name| *name != "null").map(|name| match name {
        "string" => "text".to_owned(),
        "integer" | "number" => format!("a number{}", bounds(schema)),
        "boolean" => "`true` or `false`".to_owned(),
        "array" => match schema.get("items") {
            Some(items) => format!("a list: {}", takes(root, resolve(root, items).0)),
            None => "a list".to_owned(),
        },
        _ => "a table".to_owned(),
    });
    let kinds: Vec<String> = kinds.collect();
    if kinds.is_empty() { "any value".to_owned() } else { kinds.join(" or ") }
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").is_some_and(|kind| kind == "null")
}

/// The range of a number, in words, with a blank before it; nothing where there is none.
fn bounds(schema: &Value) -> String {
    let bound = |name: &str| schema.get(name).filter(|bound| bound.is_number());
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) => format!(" from {least} to {most}"),
        // Every number without a sign is from 0.
        (Some(least), None) if least.as_u64() == Some(0) => String::new(),
        (Some(least), None) => format!(" from {least}"),
        (None, Some(most)) => format!(" up to {most}"),
        (None, None) => String::new(),
    }
}

/// The values of a field that takes a few only, as TOML writes them, each with its description.
fn choices<'a>(root: &'a Value, schema: &'a Value) -> Vec<(String, Option<&'a str>)> {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values
            .iter()
            .filter(|value| !value.is_null())
            .map(|value| (value.to_string(), None))
            .collect();
    }
    if let Some(value) = schema.get("const") {
        return vec![(value.to_string(), schema.get("description").and_then(Value::as_str))];
    }
    let alternatives = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array);
    let mut all = Vec::new();
    for alternative in alternatives.into_iter().flatten() {
        let (resolved, described) = resolve(root, alternative);
        if is_null(resolved) {
            continue;
        }
        let plain = |one: &Map<String, Value>| one.contains_key("const") || one.contains_key("enum");
        if !resolved.as_object().is_some_and(plain) {
            return Vec::new();
        }
        all.extend(choices(root, resolved).into_iter().map(|(value, what)| (value, what.or(described))));
    }
    all
}

/// A description in a table's cell.
fn cell(text: &str) -> String {
    unwrapped(text).replace('|', "\\|")
}

/// A description's paragraphs as one line. It is Markdown already: it was a comment in the sources.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As a generator writes it for types like those of a description.
    fn schema() -> Value {
        json!({
            "title": "ImageConfig",
            "description": "The description of\nan image.",
            "type": "object",
            "required": ["board"],
            "properties": {
                "board": { "description": "The board | its `name`.", "type": "string" },
                "group": { "description": "The group.", "anyOf": [{ "$ref": "#/$defs/Group" }, { "type": "null" }] },
                "guest": { "type": "array", "items": { "$ref": "#/$defs/Guest" }, "default": [] },
                "size": { "type": ["string", "integer", "null"] },
                "partition": { "type": "object", "additionalProperties": { "$ref": "#/$defs/Group" } },
            },
            "$defs": {
                "Group": { "type": "object", "properties": {
                    "free": { "type": "integer", "minimum": 0 },
                    "copies": { "type": "integer", "minimum": 1, "maximum": 9 },
                } },
                "Guest": {
                    "description": "A guest.",
                    "type": "object",
                    "required": ["disk"],
                    "properties": {
                        "start": { "description": "When.", "$ref": "#/$defs/Start", "default": "xl" },
                        "disk": { "type": "array", "items": { "$ref": "#/$defs/Disk" } },
                        "modules": { "type": "array", "items": { "type": "string" } },
                    },
                },
                "Disk": { "type": "object", "properties": {
                    "on": { "type": "string", "enum": ["file", "volume"] },
                    "kernel": { "anyOf": [{ "type": "boolean" }, { "type": "string" }] },
                } },
                "Start": { "oneOf": [
                    { "description": "By you.", "type": "string", "const": "xl" },
                    { "description": "By dom0.", "type": "string", "const": "auto" },
                ] },
            },
        })
    }

    #[test]
    fn every_table_has_a_heading_that_links_lead_to() {
        let text = reference(&schema());
        let headings: Vec<&str> = text.lines().filter(|line| line.starts_with("## ")).collect();
        let tables = ["The file", "`[group]`", "`[[guest]]`", "`[[guest.disk]]`", "`[partition.NAME]`"];
        assert_eq!(headings, tables.map(|table| format!("## {table}")));
        assert!(text.contains("| `partition` | [`[partition.NAME]`](#partitionname) |"), "{text}");
        assert!(text.contains("| `guest` | [`[[guest]]`](#guest) |  | A guest. |"), "{text}");
        assert!(text.contains("[`[[guest.disk]]`](#guestdisk) | has to be given |"), "{text}");
    }

    #[test]
    fn a_field_says_what_it_takes_and_what_it_is_otherwise() {
        let text = reference(&schema());
        for row in [
            "| `board` | text | has to be given | The board \\| its `name`. |",
            "| `size` | text or a number |  |  |",
            "| `free` | a number |  |  |",
            "| `copies` | a number from 1 to 9 |  |  |",
            "| `start` | `\"xl\"`, `\"auto\"` | `\"xl\"` | When.<br>`\"xl\"`: By you.<br>`\"auto\"`: By dom0. |",
            "| `modules` | a list: text |  |  |",
            "| `on` | `\"file\"`, `\"volume\"` |  |  |",
            "| `kernel` | `true` or `false` or text |  |  |",
        ] {
            assert!(text.contains(row), "{row}\n{text}");
        }
        assert!(text.contains("The description of an image.\n"), "{text}");
    }

    #[test]
    fn a_schema_that_leads_in_circles_ends() {
        let circle = json!({
            "properties": { "a": { "$ref": "#/$defs/A" }, "t": { "$ref": "#/$defs/T" } },
            "$defs": {
                "A": { "$ref": "#/$defs/A" },
                "T": { "properties": { "t": { "$ref": "#/$defs/T" } } },
            },
        });
        let text = reference(&circle);
        assert!(text.contains("| `a` | any value |") && text.lines().count() < 100, "{text}");
        assert!(reference(&json!("nothing")).contains("## The file"));
    }
}
