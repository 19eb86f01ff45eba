//! The builder's error: what was wrong, where, and what to do about it.

use std::error::Error as StdError;
use std::fmt;
use std::path::Path;

/// The builder's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One failure, told so that the reader can act on it.
///
/// It prints as `where: what`, then the causes from the nearest to the farthest, then the source line at
/// fault if there is one, then the help.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    what: String,
    at: Option<String>,
    snippet: Option<String>,
    help: Vec<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error that says `what` was wrong.
    pub fn new(what: impl Into<String>) -> Self {
        Self(Box::new(Inner { what: what.into(), at: None, snippet: None, help: Vec::new(), source: None }))
    }

    /// Names the file (or other place) where it went wrong. The place named first, nearest to the fault, stays.
    #[must_use]
    pub fn at(self, path: impl AsRef<Path>) -> Self {
        self.at_text(path.as_ref().display().to_string())
    }

    /// Like [`Error::at`], with a place that is not a path, such as `file:line:column`.
    #[must_use]
    pub fn at_text(mut self, place: impl Into<String>) -> Self {
        self.0.at.get_or_insert_with(|| place.into());
        self
    }

    /// Shows the source text at fault below the message.
    #[must_use]
    pub fn snippet(mut self, text: impl Into<String>) -> Self {
        self.0.snippet = Some(text.into());
        self
    }

    /// Says what to do. May be called more than once.
    #[must_use]
    pub fn help(mut self, what_to_do: impl Into<String>) -> Self {
        self.0.help.push(what_to_do.into());
        self
    }

    /// Keeps `source` as the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Wraps this error in one that says what was being done; place, help and snippet stay with the cause.
    #[must_use]
    pub fn context(self, what: impl Into<String>) -> Self {
        Self::new(what).because(self)
    }

    /// The same, told where `place` is: at that place, behind its words, with its source text and its help. What it was about
    /// becomes part of what was wrong.
    #[must_use]
    pub fn told_at(mut self, place: Self) -> Self {
        if let Some(about) = self.0.at.take() {
            self.0.what = format!("{about}: {}", self.0.what);
        }
        self.0.what.insert_str(0, &place.0.what);
        self.0.at = place.0.at;
        self.0.snippet = place.0.snippet;
        self.0.help.extend(place.0.help);
        self
    }

    /// What was wrong, without place, causes and help.
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// What was wrong and where, and the causes behind it, in one line; without help.
    pub fn in_a_line(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    }

    /// The whole story over several lines, without a colour and without a trailing line end.
    pub fn report(&self) -> String {
        let mut lines = vec![format!("error: {self}")];
        let mut snippets: Vec<&str> = self.0.snippet.as_deref().into_iter().collect();
        let mut helps: Vec<&str> = self.0.help.iter().map(String::as_str).collect();
        let mut cause = self.source();
        while let Some(error) = cause {
            lines.push(format!("  cause: {error}"));
            if let Some(own) = error.downcast_ref::<Error>() {
                snippets.extend(own.0.snippet.as_deref());
                helps.extend(own.0.help.iter().map(String::as_str));
            }
            cause = error.source();
        }
        lines.extend(snippets.into_iter().map(str::to_owned));
        for (index, help) in helps.iter().enumerate() {
            if !helps[..index].contains(help) {
                lines.push(format!("  help: {}", help.replace('\n', "\n        ")));
            }
        }
        lines.join("\n")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.at {
            Some(at) => write!(f, "{at}: {}", self.0.what),
            None => f.write_str(&self.0.what),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Adds what was being done, and where, to an error of any kind.
pub trait ResultExt<T> {
    /// Wraps the error in one that says what was being done.
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;

    /// Wraps the error in one that says what was being done to which file. A full disk gets its own help.
    fn context_at<S: Into<String>>(self, path: impl AsRef<Path>, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: StdError + Send + Sync + 'static> ResultExt<T> for std::result::Result<T, E> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| wrap(what().into(), error))
    }

    fn context_at<S: Into<String>>(self, path: impl AsRef<Path>, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| wrap(what().into(), error).at(path))
    }
}

fn wrap<E: StdError + Send + Sync + 'static>(what: String, error: E) -> Error {
    let full = (&error as &(dyn StdError + 'static))
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull);
    let wrapped = Error::new(what).because(error);
    if full {
        wrapped.help("free some space on that disk, or name another one with `--out` or VAMBRACE_CACHE; what was there before is unchanged")
    } else {
        wrapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_tells_place_cause_and_help_once() {
        let inner = Error::new("no room").at("/a/b").help("free some space");
        let report = inner.context("cannot write the image").help("free some space").report();
        assert_eq!(report, "error: cannot write the image\n  cause: /a/b: no room\n  help: free some space");
    }

    #[test]
    fn the_nearest_place_stays() {
        assert_eq!(Error::new("x").at("near").at("far").to_string(), "near: x");
    }

    #[test]
    fn an_error_moves_to_where_it_was_caused() {
        let error = Error::new("no such file").at("/a/b").help("make it");
        let report = error
            .told_at(Error::new("in `x`: ").at_text("f.toml:1:2").snippet("  1 | x").help("or not"))
            .report();
        assert_eq!(
            report,
            "error: f.toml:1:2: in `x`: /a/b: no such file\n  1 | x\n  help: make it\n  help: or not"
        );
    }

    #[test]
    fn a_full_disk_says_what_to_do() {
        let full: std::io::Result<()> = Err(std::io::ErrorKind::StorageFull.into());
        let report = full.context_at("/out/x.img", || "cannot write").unwrap_err().report();
        assert!(report.contains("/out/x.img: cannot write"), "{report}");
        assert!(report.contains("free some space"), "{report}");
    }
}
