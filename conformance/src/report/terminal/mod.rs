//! Runs and single cases as text.

mod case;
mod difference;
mod run;

pub use case::{list, show};
pub use difference::aligned;
pub use run::{failure, report};

use console::Style;

use crate::run::verdict::Verdict;
use crate::term::Paint;
use crate::vectors::Expectation;

impl Paint {
    pub(super) fn result(&self, result: Expectation) -> &Style {
        match result {
            Expectation::Valid => &self.good,
            Expectation::Invalid => &self.bad,
            Expectation::Acceptable => &self.doubtful,
        }
    }

    pub(super) fn verdict(&self, verdict: Verdict) -> &Style {
        match verdict {
            Verdict::Ok => &self.good,
            Verdict::NonStrict | Verdict::Flaky => &self.doubtful,
            Verdict::Failed | Verdict::UnexpectedPass => &self.bad,
            Verdict::Informational | Verdict::ExpectedFailure | Verdict::Unsupported => &self.faint,
        }
    }
}
