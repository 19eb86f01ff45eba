//! How boots and numbers went in the nights before: which boot cannot be relied on, and what has changed.

use std::collections::BTreeMap;

use crate::nightly::outcome::{Night, Outcome, Verdict};

/// A change of more than this part of the nights before is told.
const TOLD: f64 = 0.05;

/// The nights that are kept, the oldest first; the last is the one that is reported.
#[derive(Debug)]
pub(super) struct History<'a> {
    /// When each began, in seconds since 1970.
    pub(super) began: Vec<u64>,
    nights: Vec<(&'a Night, BTreeMap<&'a str, &'a Outcome>)>,
}

/// A boot in all of the nights; `None` where a night has nothing of it.
#[derive(Debug, Default)]
pub(super) struct BootHistory<'a> {
    /// How it went.
    pub(super) verdicts: Vec<Option<&'a Verdict>>,
    /// The machine's seconds to its last stage, where it passed.
    pub(super) seconds: Vec<Option<f64>>,
    /// Bytes of the image.
    pub(super) image: Vec<Option<f64>>,
    /// Bytes of the hypervisor.
    pub(super) hypervisor: Vec<Option<f64>>,
    /// Nights in which it passed at a later attempt.
    pub(super) retried: usize,
    /// How often it changed between passed and failed.
    pub(super) turns: usize,
}

/// The last value of a row, beside those before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    /// The value.
    pub(super) now: f64,
    /// The median of those before, if there is one.
    pub(super) median: Option<f64>,
}

impl Change {
    /// Of a row of nights whose last is the one that is reported; `None` where that has no value.
    pub(super) fn of(values: &[Option<f64>]) -> Option<Self> {
        let (last, before) = values.split_last()?;
        let mut before: Vec<f64> = before.iter().flatten().copied().collect();
        before.sort_by(f64::total_cmp);
        let middle = before.len() / 2;
        let median = match before.len() {
            0 => None,
            count if count % 2 == 1 => before.get(middle).copied(),
            _ => before.get(middle).zip(before.get(middle - 1)).map(|(a, b)| f64::midpoint(*a, *b)),
        };
        Some(Self { now: (*last)?, median })
    }

    /// By which part of the median it is another, if that is enough to be told; infinite where that was 0.
    pub(super) fn told(self) -> Option<f64> {
        let median = self.median?;
        let part = if median == 0.0 {
            if self.now == 0.0 { 0.0 } else { f64::INFINITY.copysign(self.now) }
        } else {
            (self.now - median) / median.abs()
        };
        (part.abs() > TOLD).then_some(part)
    }
}

impl<'a> History<'a> {
    /// `night` and those of `kept` that were before it.
    pub(super) fn new(kept: &'a [Night], night: &'a Night) -> Self {
        let before = kept.iter().filter(|other| other.began < night.began);
        let nights: Vec<_> = before
            .chain([night])
            .map(|night| {
                let by_name = night.outcomes.iter().map(|outcome| (outcome.name.as_str(), outcome)).collect();
                (night, by_name)
            })
            .collect();
        Self { began: nights.iter().map(|(night, _)| night.began).collect(), nights }
    }

    /// A boot.
    pub(super) fn boot(&self, name: &str) -> BootHistory<'a> {
        let mut boot = BootHistory::default();
        let mut well = None;
        for (_, outcomes) in &self.nights {
            let outcome = outcomes.get(name).copied();
            let verdict = outcome.map(|outcome| &outcome.verdict);
            boot.verdicts.push(verdict);
            boot.seconds.push(outcome.and_then(Outcome::machine_seconds));
            // A table's numbers are read by eye.
            #[allow(clippy::cast_precision_loss)]
            let bytes = |size: u64| Some(size as f64).filter(|size| *size > 0.0);
            let sizes = outcome.and_then(|outcome| outcome.sizes);
            boot.image.push(sizes.and_then(|sizes| bytes(sizes.image)));
            boot.hypervisor.push(sizes.and_then(|sizes| bytes(sizes.hypervisor)));
            boot.retried += usize::from(verdict == Some(&Verdict::Flaky));
            let now = match verdict {
                Some(Verdict::Passed | Verdict::Flaky) => true,
                Some(Verdict::Failed | Verdict::Known(_)) => false,
                Some(Verdict::Absent(_)) | None => continue,
            };
            boot.turns += usize::from(well.is_some_and(|well| well != now));
            well = Some(now);
        }
        boot
    }

    /// A figure.
    pub(super) fn figure(&self, name: &str) -> Vec<Option<f64>> {
        self.nights.iter().map(|(night, _)| night.figures.get(name).copied()).collect()
    }

    /// How a boot went in the last night before this one that tried it.
    pub(super) fn previous(&self, name: &str) -> Option<&'a Verdict> {
        let verdicts = self.nights.iter().rev().skip(1).filter_map(|(_, all)| all.get(name));
        verdicts.map(|outcome| &outcome.verdict).find(|verdict| !matches!(verdict, Verdict::Absent(_)))
    }
}

impl BootHistory<'_> {
    /// Why it cannot be relied on, if it cannot: it needed a second attempt, or went to and fro.
    pub(super) fn flaky(&self) -> Option<String> {
        let nights = self.verdicts.iter().flatten().count();
        let mut why = Vec::new();
        if self.retried > 0 {
            why.push(format!("needed a second attempt in {} of {nights} nights", self.retried));
        }
        if self.turns >= 2 {
            why.push(format!("changed {} times between passed and failed", self.turns));
        }
        (!why.is_empty()).then(|| why.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nightly::outcome::{FORMAT, Host};

    fn night(began: u64, verdict: Verdict) -> Night {
        let outcome = Outcome {
            name: "a".into(),
            board: "b".into(),
            variant: None,
            method: "uboot".into(),
            hypervisor: "vambrace".into(),
            cpus: 1,
            memory: 512,
            scenario: "dom0".into(),
            stages: vec![],
            verdict,
            attempts: vec![],
            sizes: None,
            known: None,
        };
        Night {
            format: FORMAT,
            title: "t".into(),
            began,
            seconds: 1.0,
            sources: None,
            host: Host::default(),
            outcomes: vec![outcome],
            untried: 0,
            figures: BTreeMap::new(),
        }
    }

    fn nights(verdicts: &[Verdict]) -> Vec<Night> {
        (1..).zip(verdicts).map(|(began, verdict)| night(began, verdict.clone())).collect()
    }

    #[test]
    fn to_and_fro_is_flaky_and_once_broken_is_not() {
        use Verdict::{Absent, Failed, Flaky, Known, Passed};
        let flaky = |verdicts: &[Verdict]| {
            let all = nights(verdicts);
            History::new(&all, all.last().unwrap()).boot("a").flaky()
        };
        assert_eq!(flaky(&[Passed, Passed, Failed, Failed]), None);
        assert_eq!(flaky(&[Passed, Absent("x".into()), Passed]), None);
        assert_eq!(
            flaky(&[Passed, Failed, Absent("x".into()), Passed]).as_deref(),
            Some("changed 2 times between passed and failed")
        );
        assert!(flaky(&[Failed, Passed, Known("x".into())]).is_some());
        assert_eq!(flaky(&[Passed, Flaky]).as_deref(), Some("needed a second attempt in 1 of 2 nights"));
    }

    #[test]
    fn only_nights_before_count() {
        let all = nights(&[Verdict::Passed, Verdict::Failed, Verdict::Passed]);
        let history = History::new(&all, &all[1]);
        assert_eq!(history.began, [1, 2]);
        assert_eq!(history.previous("a"), Some(&Verdict::Passed));
        assert_eq!(history.previous("b"), None);
    }

    #[test]
    fn changes_are_told_beyond_a_twentieth_of_the_median() {
        let told = |values: &[f64]| {
            let values: Vec<Option<f64>> = values.iter().copied().map(Some).collect();
            Change::of(&values).and_then(Change::told)
        };
        assert_eq!(told(&[100.0]), None);
        assert_eq!(told(&[100.0, 105.0]), None);
        assert_eq!(told(&[100.0, 90.0, 500.0, 150.0]), Some(0.5));
        assert_eq!(told(&[100.0, 200.0, 75.0]), Some(-0.5));
        assert_eq!(told(&[0.0, 0.0]), None);
        assert_eq!(told(&[0.0, 1.0]), Some(f64::INFINITY));
        assert_eq!(Change::of(&[Some(1.0), None]), None, "this night has none");
        assert_eq!(Change::of(&[None, Some(1.0)]), Some(Change { now: 1.0, median: None }));
    }
}
