//! What is wrong with a description, and where.

use std::fmt;

/// The result of reading descriptions.
pub type Result<T, E = Box<Error>> = std::result::Result<T, E>;

/// A fault in a description, or a description that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The file, or the name of what was read; empty where the fault is in no file.
    pub file: String,
    /// Line and column, both counted from 1; the column counts characters.
    pub position: Option<(usize, usize)>,
    /// The field at fault, as a dotted path such as `boot.uboot.firmware`.
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
    /// The line at fault, with a mark below it, ready to print.
    pub snippet: Option<String>,
    /// What to do.
    pub help: Option<String>,
}

impl Error {
    /// A fault without a place.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            file: String::new(),
            position: None,
            field: None,
            message: message.into(),
            snippet: None,
            help: None,
        }
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Names the file.
    #[must_use]
    pub fn file(mut self, file: impl Into<String>) -> Self {
        self.file = file.into();
        self
    }

    /// The place as `file:line:column`, as far as it is known.
    pub fn place(&self) -> Option<String> {
        match self.position {
            _ if self.file.is_empty() => None,
            Some((line, column)) => Some(format!("{}:{line}:{column}", self.file)),
            None => Some(self.file.clone()),
        }
    }

    /// The fault with the field it is in, without the place.
    pub fn fault(&self) -> String {
        match &self.field {
            Some(field) => format!("in `{field}`: {}", self.message),
            None => self.message.clone(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = self.place() {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.fault())
    }
}

impl std::error::Error for Error {}
