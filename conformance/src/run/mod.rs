//! Runs the selected checks on an implementation and collects the results.

mod ask;
mod check;
pub mod expected;
mod progress;
mod selection;
pub mod smoke;
pub mod verdict;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use ask::run_vectors;
pub use check::{Check, Kind, List, Listing};
pub use progress::{Progress, Silent};
pub use selection::Selection;

use crate::adapter::Hello;
use check::suite_fault;
use verdict::Verdict;

/// The layers, each after the ones that it builds on; reports keep this order.
pub const LAYERS: [&str; 19] = [
    "adapter",
    "encoding",
    "key",
    "noise",
    "frame",
    "secretstream",
    "datagram",
    "mux",
    "channel",
    "message",
    "extension",
    "manifest",
    "tree",
    "connection",
    "transcript",
    "script",
    "deviation",
    "live",
    "suite",
];

/// The results of a run.
#[derive(Clone, Debug)]
pub struct Run {
    /// The implementation under test.
    pub implementation: Hello,
    /// Every check, in order of execution.
    pub checks: Vec<Check>,
    /// Skipped checks, and why.
    pub left_out: Vec<String>,
    /// The file of expected failures, if there is one, and how its entries applied.
    pub expected: Option<expected::Applied>,
    /// How long it took.
    pub duration: Duration,
}

/// The number of checks by verdict.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tally {
    /// As expected.
    pub ok: usize,
    /// Tolerated.
    pub non_strict: usize,
    /// Reported, not judged.
    pub informational: usize,
    /// Not as expected.
    pub failed: usize,
    /// Passed, though listed as a failure.
    pub unexpected_pass: usize,
    /// Failed, as listed.
    pub expected_failure: usize,
    /// Listed as flaky.
    pub flaky: usize,
    /// Not declared by the implementation.
    pub unsupported: usize,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, verdict: Verdict) {
        *self.slot(verdict) += 1;
    }

    /// The number with this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        let mut copy = *self;
        *copy.slot(verdict)
    }

    /// The total.
    pub fn total(&self) -> usize {
        Verdict::ALL.map(|verdict| self.count(verdict)).iter().sum()
    }

    fn slot(&mut self, verdict: Verdict) -> &mut usize {
        match verdict {
            Verdict::Ok => &mut self.ok,
            Verdict::NonStrict => &mut self.non_strict,
            Verdict::Informational => &mut self.informational,
            Verdict::Failed => &mut self.failed,
            Verdict::UnexpectedPass => &mut self.unexpected_pass,
            Verdict::ExpectedFailure => &mut self.expected_failure,
            Verdict::Flaky => &mut self.flaky,
            Verdict::Unsupported => &mut self.unsupported,
        }
    }
}

impl Run {
    /// The verdicts of all checks.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.checks
            .iter()
            .for_each(|check| tally.add(check.verdict));
        tally
    }

    /// The verdicts by layer, in the order of [`LAYERS`].
    pub fn by_layer(&self) -> Vec<(String, Tally)> {
        let mut layers: Vec<(String, Tally)> = Vec::new();
        for check in &self.checks {
            match layers.iter_mut().find(|(layer, _)| *layer == check.layer) {
                Some((_, tally)) => tally.add(check.verdict),
                None => {
                    let mut tally = Tally::default();
                    tally.add(check.verdict);
                    layers.push((check.layer.clone(), tally));
                }
            }
        }
        layers.sort_by_key(|(layer, _)| rank(layer));
        layers
    }

    /// Whether any check failed unexpectedly, or passed unexpectedly.
    pub fn has_failed(&self) -> bool {
        self.checks
            .iter()
            .any(|check| check.verdict.fails_the_run())
    }

    /// The number of cases and scenarios that were run, whatever the result.
    pub fn asked(&self) -> usize {
        let asked = |check: &&Check| {
            matches!(check.kind, Kind::Vector | Kind::Live) && check.verdict != Verdict::Unsupported
        };
        self.checks.iter().filter(asked).count()
    }

    /// Adds a failure for anything that makes the run as a whole worthless: nothing was run, or an id twice.
    pub fn audit(&mut self) {
        let mut faults = Vec::new();
        if self.asked() == 0 && self.left_out.is_empty() && !self.has_failed() {
            faults.push(suite_fault(
                "suite.nothing-asked",
                "A run asks at least one case.",
                "no case was asked: the adapter declares none of the operations that the selected cases need".into(),
            ));
        }
        let mut seen = BTreeMap::new();
        for check in &self.checks {
            *seen.entry(check.id.as_str()).or_insert(0) += 1;
        }
        for (id, times) in seen.into_iter().filter(|&(_, times)| times > 1) {
            faults.push(suite_fault(
                &format!("suite.duplicate-id.{id}"),
                "Each id is one check.",
                format!("{times} checks have the id {id}"),
            ));
        }
        self.checks.extend(faults);
    }
}

/// The index of a layer in [`LAYERS`]; unknown layers come last.
pub(crate) fn rank(layer: &str) -> usize {
    LAYERS
        .iter()
        .position(|known| *known == layer)
        .unwrap_or(LAYERS.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_counted_by_layer_from_the_bottom_up() {
        let mut run = run(&[]);
        for (layer, verdict) in [
            ("live", Verdict::Flaky),
            ("elsewhere", Verdict::Ok),
            ("frame", Verdict::Ok),
            ("mux", Verdict::Failed),
            ("frame", Verdict::ExpectedFailure),
            ("frame", Verdict::Ok),
            ("mux", Verdict::UnexpectedPass),
            ("mux", Verdict::Informational),
            ("mux", Verdict::NonStrict),
        ] {
            let mut check = Check::new(Kind::Vector, "id", layer, "subject");
            check.verdict = verdict;
            run.checks.push(check);
        }
        let layers: Vec<_> = run
            .by_layer()
            .into_iter()
            .map(|(layer, tally)| (layer, tally.total(), tally.ok))
            .collect();
        let expected = [
            ("frame", 3, 2),
            ("mux", 4, 0),
            ("live", 1, 0),
            ("elsewhere", 1, 1),
        ];
        assert_eq!(
            layers,
            expected.map(|(layer, total, ok)| (layer.to_owned(), total, ok))
        );
        let tally = run.tally();
        assert_eq!(
            Verdict::ALL.map(|verdict| tally.count(verdict)),
            [3, 1, 1, 1, 1, 1, 1, 0]
        );
        assert_eq!(tally.total(), 9);
        assert_eq!(
            (rank("adapter"), rank("encoding"), rank("no such layer")),
            (0, 1, LAYERS.len())
        );
    }

    fn run(checks: &[(Kind, &str, Verdict)]) -> Run {
        let check = |&(kind, id, verdict): &(Kind, &str, Verdict)| {
            let mut check = Check::new(kind, id, "layer", "subject");
            check.verdict = verdict;
            check
        };
        Run {
            implementation: Hello::default(),
            checks: checks.iter().map(check).collect(),
            left_out: Vec::new(),
            expected: None,
            duration: Duration::ZERO,
        }
    }

    fn audited(checks: &[(Kind, &str, Verdict)]) -> Vec<String> {
        let mut run = run(checks);
        run.audit();
        let faults = run.checks.iter().filter(|check| check.kind == Kind::Suite);
        faults.map(|check| check.id.clone()).collect()
    }

    #[test]
    fn a_run_that_asks_nothing_fails() {
        let nothing = [
            (Kind::Adapter, "adapter.hello", Verdict::Ok),
            (Kind::Vector, "a", Verdict::Unsupported),
        ];
        assert_eq!(audited(&nothing), ["suite.nothing-asked"]);
        assert_eq!(audited(&[(Kind::Vector, "a", Verdict::Ok)]), [""; 0]);
        assert_eq!(audited(&[(Kind::Live, "a", Verdict::NonStrict)]), [""; 0]);
        // The reason is reported already.
        let failed = [
            ("adapter.hello", Verdict::Failed),
            ("a", Verdict::Unsupported),
        ]
        .map(|(id, verdict)| (Kind::Adapter, id, verdict));
        assert_eq!(audited(&failed), [""; 0]);
        assert_eq!(
            audited(&[(Kind::Adapter, "adapter.hello", Verdict::Ok)]),
            ["suite.nothing-asked"]
        );
        // Checks skipped for lack of Node are reported, and are no fault of the adapter.
        let mut run = run(&nothing);
        run.left_out.push("all of it".into());
        run.audit();
        assert!(!run.has_failed());
    }

    #[test]
    fn an_id_that_is_there_twice_fails_the_run() {
        let twice = [
            (Kind::Vector, "a", Verdict::Ok),
            (Kind::Vector, "b", Verdict::Ok),
            (Kind::Live, "a", Verdict::Ok),
        ];
        assert_eq!(audited(&twice), ["suite.duplicate-id.a"]);
        let mut run = run(&twice);
        run.audit();
        let fault = run.checks.last().expect("a fault");
        assert_eq!(fault.reason.as_deref(), Some("2 checks have the id a"));
        assert_eq!(
            (fault.verdict, fault.comment.as_str()),
            (Verdict::Failed, "Each id is one check.")
        );
        assert!(run.has_failed());
    }

    #[test]
    fn unsupported_is_never_counted_as_passed() {
        let run = run(&[
            (Kind::Vector, "a", Verdict::Unsupported),
            (Kind::Vector, "b", Verdict::Ok),
        ]);
        assert_eq!((run.tally().ok, run.tally().unsupported), (1, 1));
        assert_eq!((run.tally().total(), run.asked()), (2, 1));
    }
}
