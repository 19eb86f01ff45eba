//! What is wrong with a medium or a file.

use serde::Serialize;

use crate::port::Level;

/// Something wrong, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// How bad it is; an error is what keeps it from booting.
    pub level: Level,
    /// The place: a path, a table, a byte.
    pub at: String,
    /// What is wrong.
    pub what: String,
    /// What to do; nothing where that is plain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub help: String,
}

impl Fault {
    /// What keeps it from booting.
    pub(super) fn error(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { level: Level::Error, at: at.into(), what: what.into(), help: String::new() }
    }

    /// What does not, or not everywhere.
    pub(super) fn warning(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::error(at, what) }
    }

    /// What is good to know.
    pub(super) fn note(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { level: Level::Note, ..Self::error(at, what) }
    }

    /// Says what to do.
    #[must_use]
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}
