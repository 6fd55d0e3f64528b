//! Runs the cases of vectors on an implementation, and checks that its answers are meaningful.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::progress::Progress;
use super::selection::Selection;
use super::verdict::{Judgement, Verdict, expectation_value, judge};
use super::{Run, rank};
use crate::adapter::{Adapter, Failure, Hello, Outcome};
use crate::diff::{Difference, abridge, bytes_of};
use crate::dissect::place;
use crate::run::check::{Check, Kind};
use crate::vectors::{Case, Expectation, Group, VectorFile, expand};

/// The number of consecutive time-outs after which the rest is skipped: an adapter that hangs would take hours.
const GIVE_UP_AFTER: usize = 5;

/// The time-out for Node where it was recorded to die or hang.
const DEATH_LIMIT: Duration = Duration::from_secs(20);

/// Strings in a report are abridged above this many characters.
const REPORT_LIMIT: usize = 8 << 10;

/// Runs the selected cases of `files` on `adapter`, and before and after them requests an operation that does not
/// exist.
///
/// # Errors
/// If the adapter cannot be started. If it fails later, its checks fail instead.
pub async fn run_vectors(
    adapter: &mut dyn Adapter,
    files: &[VectorFile],
    selection: &Selection,
    progress: &mut dyn Progress,
) -> Result<Run, Failure> {
    let began = Instant::now();
    let hello = adapter.hello().await;
    let mut run = Run {
        implementation: hello.clone().unwrap_or_default(),
        checks: Vec::new(),
        left_out: Vec::new(),
        expected: None,
        duration: Duration::ZERO,
    };
    let introduction = Check::new(Kind::Adapter, "adapter.hello", "adapter", "protocol")
        .with_comment("The adapter says who it is and what it can do.");
    let hello = match hello {
        Ok(hello) => hello,
        Err(failure @ Failure::Start { .. }) => return Err(failure),
        Err(failure) => {
            let mut check = introduction.failed(failure.to_string());
            check.stderr = stderr_of(adapter);
            progress.done(&check);
            run.checks.push(check);
            run.duration = began.elapsed();
            return Ok(run);
        }
    };
    run.checks.push(introduction);
    run.checks
        .push(ask_nonsense(adapter, "adapter.unknown-op.first").await);
    let sanity = sanity_case(files, &hello);
    let mut first_answer = None;
    if let Some(case) = &sanity {
        let (check, answer) = ask_sanity(adapter, case, "adapter.sanity.first", None).await;
        first_answer = answer;
        run.checks.push(check);
    }

    let mut cases = selection.cases(files);
    // From the bottom up: a failure in a lower layer explains failures above.
    cases.sort_by_key(|(file, _, _)| rank(&file.layer));
    progress.begin("vectors", cases.len());
    let mut timeouts = 0;
    for (file, group, case) in cases {
        progress.next(&case.id);
        let check = if timeouts >= GIVE_UP_AFTER {
            vector_check(file, group, case).failed(format!(
                "not asked: {GIVE_UP_AFTER} answers in a row did not come in time"
            ))
        } else {
            run_case(adapter, &hello, file, group, case, &mut timeouts, progress).await
        };
        blame_unasked(adapter, &mut run.checks, progress);
        progress.done(&check);
        run.checks.push(check);
    }
    progress.end();

    if timeouts < GIVE_UP_AFTER {
        if let Some(case) = &sanity {
            let (check, _) =
                ask_sanity(adapter, case, "adapter.sanity.last", first_answer.as_ref()).await;
            blame_unasked(adapter, &mut run.checks, progress);
            run.checks.push(check);
        }
        let check = ask_nonsense(adapter, "adapter.unknown-op.last").await;
        blame_unasked(adapter, &mut run.checks, progress);
        run.checks.push(check);
    }
    let mut ending = Check::new(Kind::Adapter, "adapter.exit", "adapter", "protocol")
        .with_comment("Exits with code 0 when its stdin ends, with nothing left unsaid.");
    let unasked = if adapter.is_attached() {
        Some("the adapter runs on its own, so how it ends is not for this run to see".to_owned())
    } else if timeouts >= GIVE_UP_AFTER {
        Some(format!(
            "not asked: {GIVE_UP_AFTER} answers in a row did not come in time"
        ))
    } else {
        None
    };
    run.checks.push(if let Some(reason) = unasked {
        ending.verdict = Verdict::Unsupported;
        ending.reason = Some(reason);
        ending
    } else {
        match adapter.finish().await {
            Ok(()) => ending,
            Err(failure) => {
                let mut check = ending.failed(failure.to_string());
                check.stderr = stderr_of(adapter);
                check
            }
        }
    });
    run.duration = began.elapsed();
    Ok(run)
}

/// Fails the check before the current one, if a second answer to it arrived.
fn blame_unasked(adapter: &mut dyn Adapter, checks: &mut [Check], progress: &mut dyn Progress) {
    let Some(line) = adapter.take_unasked() else {
        return;
    };
    let asked = |check: &&mut Check| check.op.is_some() && check.verdict != Verdict::Unsupported;
    if let Some(check) = checks.iter_mut().rev().find(asked) {
        let failure = Failure::Unasked { line };
        check.verdict = Verdict::Failed;
        check.reason = Some(failure.to_string());
        progress.say(&format!("{}: {failure}", check.id));
    }
}

/// A case that any implementation can run: the shortest valid one of the lowest layer that the adapter declares.
pub(crate) fn sanity_case(files: &[VectorFile], hello: &Hello) -> Option<Sanity> {
    let everything = Selection::default();
    let cases = everything.cases(files).into_iter();
    let fitting: Vec<_> = cases
        .filter(|(_, group, case)| {
            case.result == Expectation::Valid && hello.knows(&group.op) && case.releases.is_empty()
        })
        .collect();
    let lowest = fitting.iter().map(|(file, _, _)| rank(&file.layer)).min()?;
    let lowest = fitting
        .into_iter()
        .filter(|(file, _, _)| rank(&file.layer) == lowest);
    let (_, group, case) = lowest.min_by_key(|(_, _, case)| case.input.to_string().len())?;
    Some(Sanity {
        id: case.id.to_string(),
        op: group.op.clone(),
        input: expand(&case.input).ok()?,
    })
}

/// A case that is run before all others and again after them.
pub(crate) struct Sanity {
    id: String,
    op: String,
    input: Value,
}

/// Runs it; there must be an answer, and later the same again. Whether the answer is right is checked by the case
/// itself.
async fn ask_sanity(
    adapter: &mut dyn Adapter,
    case: &Sanity,
    id: &str,
    before: Option<&Outcome>,
) -> (Check, Option<Outcome>) {
    let began = Instant::now();
    let answer = adapter.call(&case.op, &case.input).await;
    let mut check = Check::new(Kind::Adapter, id, "adapter", "protocol").with_comment(format!(
        "{} is answered before all other cases, and alike after them.",
        case.id
    ));
    check.duration = began.elapsed();
    check.op = Some(case.op.clone());
    match (answer, before) {
        (Ok(now), Some(before)) if now != *before => {
            check.expected = Some(abridge(&answer_value(&Ok(before.clone())), REPORT_LIMIT));
            check.actual = Some(abridge(&answer_value(&Ok(now)), REPORT_LIMIT));
            let reason = "the answer is not what it was before the other cases";
            (check.failed(reason), None)
        }
        (Ok(answer), _) => (check, Some(answer)),
        (Err(failure), _) => {
            check.stderr = stderr_of(adapter);
            (check.failed(failure.to_string()), None)
        }
    }
}

/// An adapter that answers an unknown operation would answer anything.
async fn ask_nonsense(adapter: &mut dyn Adapter, id: &str) -> Check {
    let op = "conformance.noSuchOperation";
    let began = Instant::now();
    let answer = adapter.call(op, &json!({ "bytes": "00" })).await;
    let mut check = Check::new(Kind::Adapter, id, "adapter", "protocol")
        .with_comment("An operation that does not exist is answered as unsupported.");
    check.duration = began.elapsed();
    check.op = Some(op.into());
    match answer {
        Ok(Outcome::Unsupported) => check,
        Ok(outcome) => {
            check.actual = Some(abridge(&answer_value(&Ok(outcome)), REPORT_LIMIT));
            check.expected = Some(json!({ "unsupported": true }));
            check.failed("an operation that does not exist was answered")
        }
        Err(failure) => {
            check.stderr = stderr_of(adapter);
            check.failed(failure.to_string())
        }
    }
}

fn vector_check(file: &VectorFile, group: &Group, case: &Case) -> Check {
    let mut check = Check::new(Kind::Vector, &case.id, &file.layer, &file.subject)
        .with_comment(case.comment.clone());
    check.clauses.clone_from(&case.clauses);
    check.flags.clone_from(&case.flags);
    check.op = Some(group.op.clone());
    check.result = Some(case.result);
    check
}

async fn run_case(
    adapter: &mut dyn Adapter,
    hello: &Hello,
    file: &VectorFile,
    group: &Group,
    case: &Case,
    timeouts: &mut usize,
    progress: &mut dyn Progress,
) -> Check {
    let mut check = vector_check(file, group, case);
    if !hello.knows(&group.op) {
        check.verdict = Verdict::Unsupported;
        check.reason = Some(format!("the adapter does not declare {}", group.op));
        return check;
    }
    let input = match expand(&case.input) {
        Ok(input) => input,
        Err(reason) => return check.failed(format!("the case is at fault: {reason}")),
    };
    let release = hello.release.as_deref();
    let expected = case.expected(release);
    check.result = Some(expected.0);
    let may_die = release.is_some() && case.node.as_ref().is_some_and(|node| !node.survives());
    adapter.take_stderr();
    let began = Instant::now();
    let answer = if may_die {
        adapter.call_within(&group.op, &input, DEATH_LIMIT).await
    } else {
        adapter.call(&group.op, &input).await
    };
    check.duration = began.elapsed();
    let Judgement {
        verdict,
        reason,
        differences,
    } = judge(expected, case.node.as_ref(), release.is_some(), &answer);
    match &answer {
        Err(failure) if failure.is_timeout() && verdict == Verdict::Failed => *timeouts += 1,
        _ => *timeouts = 0,
    }
    check.verdict = verdict;
    check.reason = reason;
    if verdict == Verdict::Ok {
        return check;
    }
    check.differences = differences
        .into_iter()
        .map(|mut difference| {
            difference.field = name_field(&group.op, &input, &difference);
            difference.expected = difference
                .expected
                .map(|value| abridge(&value, REPORT_LIMIT));
            difference.actual = difference.actual.map(|value| abridge(&value, REPORT_LIMIT));
            difference
        })
        .collect();
    check.input = Some(abridge(&input, REPORT_LIMIT));
    check.expected = Some(expectation_value(expected));
    check.actual = Some(abridge(&answer_value(&answer), REPORT_LIMIT));
    check.node = case
        .node
        .as_ref()
        .and_then(|node| serde_json::to_value(node).ok());
    if verdict == Verdict::Failed {
        check.stderr = stderr_of(adapter);
        progress.failed(&check, &input, &answer_value(&answer));
    }
    check
}

fn name_field(op: &str, input: &Value, difference: &Difference) -> Option<String> {
    let expected = difference.expected.as_ref().and_then(bytes_of)?;
    place::name(
        op,
        input,
        &difference.path,
        &expected,
        difference.first_byte?,
    )
}

fn answer_value(answer: &Result<Outcome, Failure>) -> Value {
    match answer {
        Ok(Outcome::Ok(value)) => json!({ "ok": value }),
        Ok(Outcome::Error(error)) => json!({ "error": error }),
        Ok(Outcome::Unsupported) => json!({ "unsupported": true }),
        Err(failure) => json!({ "failure": failure.kind(), "message": failure.to_string() }),
    }
}

fn stderr_of(adapter: &mut dyn Adapter) -> Option<String> {
    Some(adapter.take_stderr()).filter(|text| !text.trim().is_empty())
}

#[cfg(test)]
pub(super) mod tests;
