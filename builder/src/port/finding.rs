//! What a device tree lacks or has wrong, why it matters, and what to write instead.

use serde::Serialize;
use std::fmt;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The hypervisor does not boot with this tree.
    Error,
    /// It boots, but something a user expects is missing.
    Warning,
    /// Good to know.
    Note,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// What to do about a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fix {
    /// In words.
    pub text: String,
    /// Device-tree source to put behind the board's own source, where the tree is what has to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Whether an overlay can do it as well: [`Fix::source`] behind `/dts-v1/; /plugin/;` is that overlay. An overlay
    /// adds and replaces; it cannot take away.
    pub overlay: bool,
}

impl Fix {
    /// A fix in words alone: the remedy lies outside of the tree, or needs a number that nobody can know from it.
    pub(super) fn words(text: impl Into<String>) -> Self {
        Self { text: text.into(), source: None, overlay: false }
    }

    /// Properties and nodes to add or replace in the node at `path`, a line each. An overlay can do that, unless it
    /// would have to name a node of the tree by its path: there is no telling what phandle that will have.
    pub(super) fn amend(text: impl Into<String>, path: &str, lines: &[String]) -> Self {
        let mut source = format!("&{{{path}}} {{\n");
        for line in lines {
            source.push_str(&format!("    {line}\n"));
        }
        source.push_str("};\n");
        let overlay = !source.contains("<&{");
        Self { text: text.into(), source: Some(source), overlay }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Which check found it; a name that stays.
    pub lint: &'static str,
    /// The full path of the node.
    pub node: String,
    /// What is wrong.
    pub what: String,
    /// Why that matters.
    pub why: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<Fix>,
}

impl Finding {
    pub(super) fn new(
        level: Level,
        lint: &'static str,
        node: impl Into<String>,
        what: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self { level, lint, node: node.into(), what: what.into(), why: why.into(), fix: None }
    }

    pub(super) fn fix(mut self, fix: Fix) -> Self {
        self.fix = Some(fix);
        self
    }
}
