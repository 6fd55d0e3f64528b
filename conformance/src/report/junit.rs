//! A run as JUnit XML, for CI: a suite per layer, a test case per check.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::foreign::lines;
use crate::report::files::Format;
use crate::report::{Finished, Rerun, terminal};
use crate::run::Run;
use crate::run::verdict::Verdict;
use crate::term::Paint;

pub(super) const OF_RUN: Format<Finished> = Format {
    name: "junit",
    help: "Write a JUnit report",
    text: |finished| report(&finished.run, &finished.rerun),
};

/// The whole run as a JUnit document.
///
/// # Errors
/// If it cannot be written as XML.
pub fn report(run: &Run, rerun: &Rerun) -> Result<String, String> {
    let mut report = Report::new(format!(
        "hypercore-conformance: {}",
        run.implementation.title()
    ));
    report.set_time(run.duration);
    for (layer, _) in run.by_layer() {
        let mut suite = TestSuite::new(layer.clone());
        for check in run.checks.iter().filter(|check| check.layer == layer) {
            let reason = check.reason.as_deref().map(lines).unwrap_or_default();
            let reason = reason.into_owned();
            let status = match check.verdict {
                Verdict::Ok | Verdict::NonStrict | Verdict::Informational => {
                    TestCaseStatus::success()
                }
                Verdict::Flaky if check.outcome != Some(Verdict::Failed) => {
                    TestCaseStatus::success()
                }
                Verdict::Failed | Verdict::UnexpectedPass => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    status.set_message(reason.clone());
                    status.set_type(check.verdict.to_string());
                    // Shown in the log of a CI: the rerun command and the result are part of it.
                    let failure = terminal::failure(check, rerun, &Paint::plain());
                    status.set_description(lines(&failure).into_owned());
                    status
                }
                Verdict::Unsupported | Verdict::ExpectedFailure | Verdict::Flaky => {
                    let mut status = TestCaseStatus::skipped();
                    status.set_type(check.verdict.to_string());
                    status.set_message(match &check.listed {
                        Some(listed) => format!("{} ({}): {reason}", listed.reason, listed.link),
                        None => reason.clone(),
                    });
                    status
                }
            };
            let mut case = TestCase::new(check.id.clone(), status);
            case.set_classname(format!("{}.{}", check.layer, check.subject));
            case.set_time(check.duration);
            match check.verdict {
                Verdict::NonStrict | Verdict::Informational => {
                    case.set_system_out(format!("{}: {reason}", check.verdict));
                }
                Verdict::Flaky => {
                    let outcome = check.outcome.unwrap_or(check.verdict);
                    case.set_system_out(format!("flaky: {outcome} this time"));
                }
                _ => {}
            }
            if let Some(stderr) = &check.stderr {
                case.set_system_err(lines(stderr).into_owned());
            }
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
    }
    report.to_string().map_err(|error| error.to_string())
}
