//! How a verdict is shown: never by its colour alone.

use crate::nightly::outcome::Verdict;

/// The sign that stands before it.
pub(super) const fn sign(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "✓",
        Verdict::Flaky => "≈",
        Verdict::Failed => "✗",
        Verdict::Known(_) => "!",
        Verdict::Absent(_) => "–",
    }
}

/// What it means, in words.
pub(super) const fn meaning(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Flaky => "flaky: passed at a later attempt",
        Verdict::Failed => "failed",
        Verdict::Known(_) => "failed, as is known",
        Verdict::Absent(_) => "could not be tried here",
    }
}

/// One of each, in the order of a legend.
pub(super) fn all() -> [Verdict; 5] {
    let why = String::new();
    [Verdict::Passed, Verdict::Flaky, Verdict::Failed, Verdict::Known(why.clone()), Verdict::Absent(why)]
}

/// What a reader wants first: failures, then what passed only in the end, then what is known.
pub(super) const fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Failed => 0,
        Verdict::Flaky => 1,
        Verdict::Known(_) => 2,
        Verdict::Absent(_) => 3,
        Verdict::Passed => 4,
    }
}
