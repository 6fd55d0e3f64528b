//! Asks an implementation all that is wanted of it, and gathers how it did.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::adapter::{Adapter, Failure, Hello, Outcome};
use crate::diff::{Difference, abridge, bytes_of};
use crate::expected::{self, Listing};
use crate::fields;
use crate::vectors::{Case, Expectation, Group, VectorFile, expand};
use crate::verdict::{Judgement, Verdict, expectation_value, judge};

/// The layers in the order in which they build on each other; reports keep to it.
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

/// After so many missed deadlines in a row, the rest is not asked: an adapter that hangs would take hours.
const GIVE_UP_AFTER: usize = 5;

/// How long Node may take where it was recorded to die or hang.
const DEATH_LIMIT: Duration = Duration::from_secs(20);

/// Strings in a report are abridged above this many characters.
const REPORT_LIMIT: usize = 8 << 10;

/// Which checks are wanted.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    layers: Vec<String>,
    ids: Option<GlobSet>,
}

impl Selection {
    /// Checks of one of `layers`, with an id that matches one of the globs `ids`; an empty list selects all.
    ///
    /// # Errors
    /// If a glob is not one.
    pub fn new(layers: &[String], ids: &[String]) -> Result<Self, String> {
        let mut globs = GlobSetBuilder::new();
        for id in ids {
            globs.add(Glob::new(id).map_err(|error| error.to_string())?);
        }
        let ids = if ids.is_empty() {
            None
        } else {
            Some(globs.build().map_err(|error| error.to_string())?)
        };
        Ok(Self {
            layers: layers.to_vec(),
            ids,
        })
    }

    /// Whether the check `id` of `layer` is wanted.
    pub fn matches(&self, layer: &str, id: &str) -> bool {
        (self.layers.is_empty() || self.layers.iter().any(|wanted| wanted == layer))
            && self.ids.as_ref().is_none_or(|ids| ids.is_match(id))
    }

    /// Whether everything is wanted.
    pub fn is_all(&self) -> bool {
        self.layers.is_empty() && self.ids.is_none()
    }

    /// The cases of `files` that are wanted, in order.
    pub fn cases<'a>(&self, files: &'a [VectorFile]) -> Vec<(&'a VectorFile, &'a Group, &'a Case)> {
        let groups = files
            .iter()
            .flat_map(|file| file.groups.iter().map(move |group| (file, group)));
        groups
            .flat_map(|(file, group)| group.cases.iter().map(move |case| (file, group, case)))
            .filter(|(file, _, case)| self.matches(&file.layer, &case.id))
            .collect()
    }
}

/// What kind of check it was.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Whether the adapter keeps to its own protocol.
    Adapter,
    /// A recorded vector.
    Vector,
    /// A scenario against a live peer.
    Live,
    /// Whether the run itself is sound: something was run, nothing twice, and the expected failures are up to date.
    Suite,
}

/// How one check went.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Check {
    /// What kind of check it was.
    pub kind: Kind,
    /// Its id; `--id` takes it.
    pub id: String,
    /// The layer of the protocol, or `live`.
    pub layer: String,
    /// The subject of its file, or the feature.
    pub subject: String,
    /// What it shows, in one line.
    pub comment: String,
    /// The clauses of the specification that it tests.
    pub clauses: Vec<String>,
    /// The flags of the case.
    pub flags: Vec<String>,
    /// The operation that was asked for.
    pub op: Option<String>,
    /// What the case calls for.
    pub result: Option<Expectation>,
    /// How it went.
    pub verdict: Verdict,
    /// How it went by itself, where it is listed as an expected failure or as flaky.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Verdict>,
    /// The entry that lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<Listing>,
    /// Why, where that is not plain.
    pub reason: Option<String>,
    /// Where the answer differs.
    pub differences: Vec<Difference>,
    /// The input, with what is very long abridged; only where the verdict is not ok.
    pub input: Option<Value>,
    /// What was expected.
    pub expected: Option<Value>,
    /// What was answered.
    pub actual: Option<Value>,
    /// What Node was seen to do.
    pub node: Option<Value>,
    /// The end of what the implementation wrote to stderr meanwhile; only where the check failed.
    pub stderr: Option<String>,
    /// All that passed on the wire: bytes both ways, keys, and a trace of the records; only where a check failed that has
    /// the scripted peer at the other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<Value>,
    /// How long it took.
    #[serde(
        rename = "seconds",
        serialize_with = "seconds",
        deserialize_with = "from_seconds"
    )]
    pub duration: Duration,
    /// The command that runs it again; only in reports, and only where the check failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerun: Option<String>,
}

fn seconds<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64((duration.as_secs_f64() * 1e6).round() / 1e6)
}

fn from_seconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(serde::de::Error::custom)
}

impl Check {
    /// A check of a kind, passed until told otherwise.
    pub fn new(kind: Kind, id: impl Into<String>, layer: &str, subject: &str) -> Self {
        Self {
            kind,
            id: id.into(),
            layer: layer.to_owned(),
            subject: subject.to_owned(),
            comment: String::new(),
            clauses: Vec::new(),
            flags: Vec::new(),
            op: None,
            result: None,
            verdict: Verdict::Ok,
            outcome: None,
            listed: None,
            reason: None,
            differences: Vec::new(),
            input: None,
            expected: None,
            actual: None,
            node: None,
            stderr: None,
            transcript: None,
            duration: Duration::ZERO,
            rerun: None,
        }
    }

    /// The same with a comment.
    pub fn with_comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = comment.into();
        self
    }

    /// The same, failed for this reason.
    pub fn failed(mut self, reason: impl Into<String>) -> Self {
        self.verdict = Verdict::Failed;
        self.reason = Some(reason.into());
        self
    }
}

/// Told how the run goes, as it goes.
pub trait Progress: Send {
    /// A stage with so many checks begins.
    fn begin(&mut self, stage: &str, total: usize);
    /// A check is about to run.
    fn next(&mut self, id: &str);
    /// A check is done.
    fn done(&mut self, check: &Check);
    /// A check failed to which this input was given and this answer came, neither of them abridged.
    fn failed(&mut self, check: &Check, input: &Value, answer: &Value) {
        let _ = (check, input, answer);
    }
    /// Something to tell in between.
    fn say(&mut self, line: &str);
    /// The stage is over.
    fn end(&mut self);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _: &str, _: usize) {}
    fn next(&mut self, _: &str) {}
    fn done(&mut self, _: &Check) {}
    fn say(&mut self, _: &str) {}
    fn end(&mut self) {}
}

/// All that came of a run.
#[derive(Clone, Debug)]
pub struct Run {
    /// The implementation under test.
    pub implementation: Hello,
    /// Every check, in the order in which they ran.
    pub checks: Vec<Check>,
    /// What could not be run here, and why.
    pub left_out: Vec<String>,
    /// The file of expected failures, where there is one, and what became of its entries.
    pub expected: Option<expected::Applied>,
    /// How long it took.
    pub duration: Duration,
}

/// How many checks got each verdict.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tally {
    /// As expected.
    pub ok: usize,
    /// Tolerated.
    pub non_strict: usize,
    /// Only told.
    pub informational: usize,
    /// Not as expected.
    pub failed: usize,
    /// Did not fail, though it is listed.
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

    /// How many got this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        let mut copy = *self;
        *copy.slot(verdict)
    }

    /// All of them.
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

    /// Whether any check failed that was not expected to, or passed that was not.
    pub fn has_failed(&self) -> bool {
        self.checks
            .iter()
            .any(|check| check.verdict.fails_the_run())
    }

    /// How many cases and scenarios the implementation was asked, whatever came of them.
    pub fn asked(&self) -> usize {
        let asked = |check: &&Check| {
            matches!(check.kind, Kind::Vector | Kind::Live) && check.verdict != Verdict::Unsupported
        };
        self.checks.iter().filter(asked).count()
    }

    /// Adds a failure for whatever makes the run as a whole worth nothing: that nothing was asked, or an id twice.
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

/// A failure of the run as a whole.
pub(crate) fn suite_fault(id: &str, comment: &str, reason: String) -> Check {
    Check::new(Kind::Suite, id, "suite", "run")
        .with_comment(comment)
        .failed(reason)
}

/// Asks `adapter` for the cases of `files` that are wanted, after and before asking it for an operation that doesn't
/// exist.
///
/// # Errors
/// If the adapter cannot be started. One that starts and then fails has failed checks instead.
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
    // From the bottom up: what fails below explains what fails above.
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

/// The place of a layer among [`LAYERS`]; after all of them for one that is not known here.
pub(crate) fn rank(layer: &str) -> usize {
    LAYERS
        .iter()
        .position(|known| *known == layer)
        .unwrap_or(LAYERS.len())
}

/// Fails the check before the one that was just asked, if a second answer to it came meanwhile.
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

/// A case that any implementation can be asked: the shortest valid one of the lowest layer that the adapter declares.
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

/// A case that is asked before all others and after them.
pub(crate) struct Sanity {
    id: String,
    op: String,
    input: Value,
}

/// Asks it; it needs an answer, and later the same again. Whether the answer is right is for the case itself to say.
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

/// An adapter that answers what it cannot know would answer anything.
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
    fields::name(
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
mod tests {
    use std::collections::{BTreeMap, BTreeSet, VecDeque};

    use futures::future::BoxFuture;

    use super::*;

    /// How long it is given.
    const LIMIT: Duration = Duration::from_secs(1);

    /// An adapter that does as it is told, call by call; without a word it is `unsupported`, as an operation that does not
    /// exist must be.
    #[derive(Default)]
    struct Told {
        hello: Hello,
        /// The answers to each input of an operation that exists.
        answers: BTreeMap<String, VecDeque<Result<Outcome, Failure>>>,
        /// Lines that nobody asked for, each after the call of this number.
        unasked: BTreeMap<usize, String>,
        stderr: String,
        attached: bool,
        end: Option<Failure>,
        calls: Vec<(String, Duration)>,
    }

    impl Told {
        /// It does what the tests ask, and answers as it should unless told otherwise.
        fn new(answers: &[(&str, Result<Outcome, Failure>)]) -> Self {
            let mut told = Self::default();
            told.hello.ops = ["frame.decode", "message.decode", "message.encode"]
                .map(str::to_owned)
                .to_vec();
            for (input, answer) in answers {
                let queue = told.answers.entry((*input).to_owned()).or_default();
                queue.push_back(answer.clone());
            }
            told
        }

        fn answer(&mut self, op: &str, input: &Value, limit: Duration) -> Result<Outcome, Failure> {
            let name = input["name"].as_str().unwrap_or(op).to_owned();
            self.calls.push((name.clone(), limit));
            match self.answers.get_mut(&name).and_then(VecDeque::pop_front) {
                Some(answer) => answer,
                None if self.hello.knows(op) => Ok(Outcome::Ok(json!({ "name": name }))),
                None => Ok(Outcome::Unsupported),
            }
        }

        fn asked(&self) -> Vec<&str> {
            self.calls.iter().map(|(name, _)| name.as_str()).collect()
        }
    }

    impl Adapter for Told {
        fn hello(&mut self) -> BoxFuture<'_, Result<Hello, Failure>> {
            let answer = self.answers.get_mut("hello").and_then(VecDeque::pop_front);
            let hello = match answer {
                Some(Err(failure)) => Err(failure),
                _ => Ok(self.hello.clone()),
            };
            Box::pin(async { hello })
        }

        fn timeout(&self) -> Duration {
            LIMIT
        }

        fn call_within<'a>(
            &'a mut self,
            op: &'a str,
            input: &'a Value,
            limit: Duration,
        ) -> BoxFuture<'a, Result<Outcome, Failure>> {
            let answer = self.answer(op, input, limit);
            Box::pin(async { answer })
        }

        fn finish(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
            let end = self.end.take();
            Box::pin(async { end.map_or(Ok(()), Err) })
        }

        fn take_unasked(&mut self) -> Option<String> {
            self.unasked.remove(&self.calls.len())
        }

        fn is_attached(&self) -> bool {
            self.attached
        }

        fn take_stderr(&mut self) -> String {
            self.stderr.clone()
        }
    }

    /// Writes down what it is told.
    #[derive(Default)]
    struct Heard(Vec<String>);

    impl Progress for Heard {
        fn begin(&mut self, stage: &str, total: usize) {
            self.0.push(format!("{total} {stage}"));
        }
        fn next(&mut self, id: &str) {
            self.0.push(format!("next {id}"));
        }
        fn done(&mut self, check: &Check) {
            self.0.push(format!("{} {}", check.verdict, check.id));
        }
        fn failed(&mut self, check: &Check, input: &Value, answer: &Value) {
            self.0.push(format!("{}: {input} {answer}", check.id));
        }
        fn say(&mut self, line: &str) {
            self.0.push(line.to_owned());
        }
        fn end(&mut self) {
            self.0.push("end".into());
        }
    }

    /// A valid case: its name comes back. Fields of `more` replace those.
    fn case(id: &str, more: Value) -> Value {
        let mut case = json!({
            "id": id, "clauses": ["MUX-1"], "comment": "what it shows", "flags": ["Flag"],
            "input": { "name": id }, "result": "valid", "expect": { "output": { "name": id } },
            "node": null, "releases": {},
        });
        let fields = case.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        case
    }

    fn file(layer: &str, op: &str, cases: &[Value]) -> VectorFile {
        serde_json::from_value(json!({
            "$schema": "", "format": 1, "layer": layer, "subject": "subject", "description": "",
            "generator": { "script": "", "packages": {} }, "notes": {},
            "groups": [{ "name": "group", "description": "", "op": op, "cases": cases }],
        }))
        .expect("a file of vectors")
    }

    async fn ask(adapter: &mut Told, files: &[VectorFile]) -> (Run, Vec<String>) {
        let mut heard = Heard::default();
        let run = run_vectors(adapter, files, &Selection::default(), &mut heard).await;
        (run.expect("it starts"), heard.0)
    }

    fn verdicts(run: &Run) -> Vec<String> {
        let told = |check: &Check| format!("{} {}", check.verdict, check.id);
        run.checks.iter().map(told).collect()
    }

    fn check<'a>(run: &'a Run, id: &str) -> &'a Check {
        let mut checks = run.checks.iter();
        checks.find(|check| check.id == id).expect(id)
    }

    fn late() -> Result<Outcome, Failure> {
        Err(Failure::TimedOut(Duration::from_secs(1)))
    }

    fn crashed() -> Result<Outcome, Failure> {
        Err(Failure::Crashed {
            status: "signal 6".into(),
        })
    }

    #[tokio::test]
    async fn asks_from_the_bottom_up_between_its_own_checks() {
        let files = [
            file("message", "message.decode", &[case("m.one", json!({}))]),
            file(
                "frame",
                "frame.decode",
                &[case("f.one", json!({})), case("f.two", json!({}))],
            ),
            file("key", "key.discovery", &[case("k.one", json!({}))]),
        ];
        let mut adapter = Told::new(&[]);
        adapter.stderr = "nothing went wrong".into();
        let (run, heard) = ask(&mut adapter, &files).await;
        assert_eq!(
            verdicts(&run),
            [
                "ok adapter.hello",
                "ok adapter.unknown-op.first",
                "ok adapter.sanity.first",
                "unsupported k.one",
                "ok f.one",
                "ok f.two",
                "ok m.one",
                "ok adapter.sanity.last",
                "ok adapter.unknown-op.last",
                "ok adapter.exit",
            ]
        );
        let nonsense = "conformance.noSuchOperation";
        assert_eq!(
            adapter.asked(),
            [
                nonsense, "f.one", "f.one", "f.two", "m.one", "f.one", nonsense
            ]
        );
        assert_eq!(
            heard,
            [
                "4 vectors",
                "next k.one",
                "unsupported k.one",
                "next f.one",
                "ok f.one",
                "next f.two",
                "ok f.two",
                "next m.one",
                "ok m.one",
                "end",
            ]
        );
        let one = check(&run, "f.one");
        assert_eq!(
            (
                one.layer.as_str(),
                one.subject.as_str(),
                one.comment.as_str()
            ),
            ("frame", "subject", "what it shows")
        );
        assert_eq!(
            (one.clauses.join(" "), one.flags.join(" ")),
            ("MUX-1".into(), "Flag".into())
        );
        assert_eq!(
            (one.op.as_deref(), one.result),
            (Some("frame.decode"), Some(Expectation::Valid))
        );
        assert_eq!(
            (&one.input, &one.stderr),
            (&None, &None),
            "nothing to explain"
        );
        let unsupported = check(&run, "k.one");
        assert_eq!(
            unsupported.reason.as_deref(),
            Some("the adapter does not declare key.discovery")
        );
        assert_eq!(
            check(&run, "adapter.sanity.first").comment,
            "f.one is answered before all other cases, and alike after them."
        );
        assert!(
            check(&run, "adapter.unknown-op.last")
                .comment
                .starts_with("An operation that does not exist")
        );
    }

    #[tokio::test]
    async fn an_adapter_that_runs_on_its_own_does_not_end() {
        let mut adapter = Told::new(&[]);
        adapter.attached = true;
        let (run, _) = ask(&mut adapter, &[]).await;
        assert_eq!(
            verdicts(&run),
            [
                "ok adapter.hello",
                "ok adapter.unknown-op.first",
                "ok adapter.unknown-op.last",
                "unsupported adapter.exit"
            ]
        );
        let mut adapter = Told::new(&[]);
        adapter.stderr = "why".into();
        adapter.end = Some(Failure::Crashed {
            status: "code 3".into(),
        });
        let (run, _) = ask(&mut adapter, &[]).await;
        let exit = check(&run, "adapter.exit");
        assert_eq!(
            (exit.verdict, exit.stderr.as_deref()),
            (Verdict::Failed, Some("why"))
        );
    }

    #[tokio::test]
    async fn a_hello_that_fails_is_all_there_is_and_one_that_cannot_start_is_no_run() {
        let invalid = Failure::Invalid {
            reason: "hello: no ops".into(),
        };
        let (run, heard) = ask(&mut Told::new(&[("hello", Err(invalid))]), &[]).await;
        assert_eq!(verdicts(&run), ["failed adapter.hello"]);
        assert_eq!(heard, ["failed adapter.hello"]);
        assert_eq!(run.checks[0].stderr, None, "it wrote nothing");
        let start = Failure::Start {
            command: "no-such-program".into(),
            reason: "not found".into(),
        };
        let mut adapter = Told::new(&[("hello", Err(start.clone()))]);
        let run = run_vectors(&mut adapter, &[], &Selection::default(), &mut Silent).await;
        assert_eq!(run.expect_err("no run").to_string(), start.to_string());
    }

    #[tokio::test]
    async fn an_adapter_that_answers_nonsense_answers_anything() {
        let nonsense = "conformance.noSuchOperation";
        let mut adapter =
            Told::new(&[(nonsense, Ok(Outcome::Ok(json!(1)))), (nonsense, crashed())]);
        adapter.stderr = "why".into();
        let (run, _) = ask(&mut adapter, &[]).await;
        let first = check(&run, "adapter.unknown-op.first");
        assert_eq!(first.verdict, Verdict::Failed);
        assert_eq!(first.expected, Some(json!({ "unsupported": true })));
        assert_eq!(first.actual, Some(json!({ "ok": 1 })));
        let last = check(&run, "adapter.unknown-op.last");
        assert_eq!(
            (last.verdict, last.stderr.as_deref()),
            (Verdict::Failed, Some("why"))
        );
    }

    #[test]
    fn the_sanity_case_is_the_shortest_valid_one_of_the_lowest_layer_for_every_release() {
        let output = json!({ "expect": { "output": 1 } });
        let refused = json!({ "result": "invalid", "expect": { "error": { "layer": "frame" } }, "input": {} });
        let newer = json!({ "releases": { "10.0.0": { "result": "valid", "expect": { "output": 2 } } }, "input": {} });
        let files = [
            file("message", "message.decode", &[case("m.a", output.clone())]),
            file("key", "key.discovery", &[case("k.a", output.clone())]),
            file(
                "frame",
                "frame.decode",
                &[
                    case("frame.longer", output.clone()),
                    case("f.short", output),
                    case("f.refused", refused),
                    case("f.newer", newer),
                ],
            ),
        ];
        let sanity = sanity_case(&files, &Told::new(&[]).hello).expect("a case");
        assert_eq!(
            (sanity.id.as_str(), sanity.op.as_str()),
            ("f.short", "frame.decode")
        );
        assert_eq!(sanity.input, json!({ "name": "f.short" }));
        assert!(sanity_case(&files, &Hello::default()).is_none());
    }

    #[tokio::test]
    async fn the_sanity_case_must_be_answered_and_alike() {
        let files = [file("frame", "frame.decode", &[case("f.a", json!({}))])];
        let ok = |value: u64| Ok(Outcome::Ok(json!({ "name": "f.a", "value": value })));
        // The case itself comes between the two.
        let (run, _) = ask(
            &mut Told::new(&[("f.a", ok(1)), ("f.a", ok(1)), ("f.a", ok(2))]),
            &files,
        )
        .await;
        let last = check(&run, "adapter.sanity.last");
        assert_eq!(last.verdict, Verdict::Failed);
        assert_eq!(last.op.as_deref(), Some("frame.decode"));
        assert_eq!(
            last.expected,
            Some(json!({ "ok": { "name": "f.a", "value": 1 } }))
        );
        assert_eq!(
            last.actual,
            Some(json!({ "ok": { "name": "f.a", "value": 2 } }))
        );
        let mut adapter = Told::new(&[("f.a", crashed()), ("f.a", ok(1)), ("f.a", ok(2))]);
        adapter.stderr = "why".into();
        let (run, _) = ask(&mut adapter, &files).await;
        let first = check(&run, "adapter.sanity.first");
        assert_eq!(
            (first.verdict, first.stderr.as_deref()),
            (Verdict::Failed, Some("why"))
        );
        assert_eq!(
            check(&run, "adapter.sanity.last").verdict,
            Verdict::Ok,
            "there was no answer before"
        );
    }

    #[tokio::test]
    async fn a_failure_has_what_explains_it() {
        let sync = json!({
            "input": { "name": "c.wrong" }, "expect": { "output": { "bytes": "0f050607" } },
        });
        let files = [file(
            "message",
            "message.encode",
            &[
                case("c.fine", json!({})),
                case("c.wrong", sync),
                case(
                    "c.tolerated",
                    json!({
                        "result": "invalid", "expect": { "error": { "layer": "message", "class": "limit" } },
                        "node": { "outcome": "throws", "message": "no" },
                    }),
                ),
                case("at-fault", json!({ "input": { "concat": [1] } })),
            ],
        )];
        let mut adapter = Told::new(&[
            ("c.wrong", Ok(Outcome::Ok(json!({ "bytes": "0f050617" })))),
            (
                "c.tolerated",
                Ok(Outcome::error("message", "closed", "why")),
            ),
        ]);
        adapter.stderr = "why".into();
        let (run, heard) = ask(&mut adapter, &files).await;

        let wrong = check(&run, "c.wrong");
        assert_eq!(wrong.verdict, Verdict::Failed);
        assert_eq!(wrong.reason.as_deref(), Some("the output differs"));
        assert_eq!(wrong.differences.len(), 1);
        assert_eq!(wrong.differences[0].first_byte, Some(3));
        assert_eq!(
            wrong.input,
            Some(json!({ "name": "c.wrong" })),
            "short, so as it is"
        );
        assert_eq!(
            wrong.expected,
            Some(json!({ "ok": { "bytes": "0f050607" } }))
        );
        assert_eq!(wrong.actual, Some(json!({ "ok": { "bytes": "0f050617" } })));
        assert_eq!(
            (wrong.node.as_ref(), wrong.stderr.as_deref()),
            (None, Some("why"))
        );
        assert!(
            heard
                .contains(&r#"c.wrong: {"name":"c.wrong"} {"ok":{"bytes":"0f050617"}}"#.to_owned())
        );

        let tolerated = check(&run, "c.tolerated");
        assert_eq!(tolerated.verdict, Verdict::NonStrict);
        assert_eq!(
            tolerated.node,
            Some(json!({ "outcome": "throws", "message": "no" }))
        );
        assert_eq!(tolerated.stderr, None, "it did not fail");
        assert!(!heard.iter().any(|line| line.starts_with("c.tolerated: ")));

        let at_fault = check(&run, "at-fault");
        assert_eq!(at_fault.verdict, Verdict::Failed);
        assert!(
            at_fault
                .reason
                .as_ref()
                .is_some_and(|reason| reason.starts_with("the case is at fault: "))
        );
        assert!(!adapter.asked().contains(&"at-fault"));
    }

    #[test]
    fn a_difference_names_the_field_that_it_lies_in() {
        let input = json!({ "message": "sync", "value": {} });
        let difference = |expected: Value, first_byte| Difference {
            path: "bytes".into(),
            expected: Some(expected),
            actual: None,
            first_byte,
            field: None,
        };
        let name = |difference| name_field("message.encode", &input, &difference);
        assert_eq!(
            name(difference(json!("0f050607"), Some(2))).as_deref(),
            Some("sync.length")
        );
        assert_eq!(name(difference(json!("0f050607"), None)), None);
        assert_eq!(name(difference(json!(1), Some(2))), None);
    }

    #[test]
    fn an_answer_is_shown_by_its_kind() {
        for (answer, shown) in [
            (Ok(Outcome::Ok(json!(1))), json!({ "ok": 1 })),
            (
                Ok(Outcome::Error(json!({ "layer": "mux" }))),
                json!({ "error": { "layer": "mux" } }),
            ),
            (Ok(Outcome::Unsupported), json!({ "unsupported": true })),
            (
                crashed(),
                json!({ "failure": "crash", "message": "the adapter ended before it answered (signal 6)" }),
            ),
        ] {
            assert_eq!(answer_value(&answer), shown);
        }
    }

    #[tokio::test]
    async fn after_five_missed_deadlines_in_a_row_the_rest_is_not_asked() {
        let cases: Vec<Value> = (0..12)
            .map(|n| case(&format!("case.{n:02}"), json!({})))
            .collect();
        let files = [file("frame", "frame.decode", &cases)];
        // The first case is the sanity case, and answered; four in a row are borne.
        let hangs = |from: usize, count: usize| {
            (from..from + count).map(|n| (format!("case.{n:02}"), late()))
        };
        let told: Vec<_> = hangs(1, 4).chain(hangs(6, 5)).collect();
        let told: Vec<_> = told
            .iter()
            .map(|(name, answer)| (name.as_str(), answer.clone()))
            .collect();
        let mut adapter = Told::new(&told);
        let (run, _) = ask(&mut adapter, &files).await;
        assert_eq!(
            check(&run, "case.11").reason.as_deref(),
            Some("not asked: 5 answers in a row did not come in time")
        );
        assert_eq!(check(&run, "case.05").verdict, Verdict::Ok);
        assert_eq!(adapter.asked().last(), Some(&"case.10"));
        let ids: BTreeSet<&str> = run.checks.iter().map(|check| check.id.as_str()).collect();
        for id in ["adapter.sanity.last", "adapter.unknown-op.last"] {
            assert!(!ids.contains(id), "{id}");
        }
        assert_eq!(check(&run, "adapter.exit").verdict, Verdict::Unsupported);

        // Four at the end are borne too.
        let told: Vec<_> = hangs(8, 4).collect();
        let told: Vec<_> = told
            .iter()
            .map(|(name, answer)| (name.as_str(), answer.clone()))
            .collect();
        let (run, _) = ask(&mut Told::new(&told), &files).await;
        assert_eq!(run.tally().failed, 4);
        for id in [
            "adapter.sanity.last",
            "adapter.unknown-op.last",
            "adapter.exit",
        ] {
            assert_eq!(check(&run, id).verdict, Verdict::Ok, "{id}");
        }
    }

    #[tokio::test]
    async fn node_may_hang_where_it_was_seen_to_and_is_not_waited_for_as_long() {
        let hangs = json!({ "node": { "outcome": "hangs" } });
        let cases: Vec<Value> = (0..6)
            .map(|n| case(&format!("case.{n}"), hangs.clone()))
            .collect();
        let sane = case("c.a", json!({ "node": { "outcome": "returns" } }));
        let files = [file(
            "frame",
            "frame.decode",
            &[vec![sane.clone()], cases, vec![sane]].concat(),
        )];
        let told: Vec<_> = (0..6).map(|n| (format!("case.{n}"), late())).collect();
        let told: Vec<_> = told
            .iter()
            .map(|(name, answer)| (name.as_str(), answer.clone()))
            .collect();
        let mut adapter = Told::new(&told);
        adapter.hello.release = Some("11.37.1".into());
        let (run, _) = ask(&mut adapter, &files).await;
        assert_eq!((run.tally().informational, run.tally().failed), (6, 0));
        let limits = |adapter: &Told, name: &str| -> BTreeSet<Duration> {
            let calls = adapter.calls.iter().filter(|(called, _)| called == name);
            calls.map(|(_, limit)| *limit).collect()
        };
        assert_eq!(limits(&adapter, "case.0"), BTreeSet::from([DEATH_LIMIT]));
        assert_eq!(limits(&adapter, "c.a"), BTreeSet::from([LIMIT]));
        // Another implementation gets the time that every case has.
        let mut adapter = Told::new(&[]);
        ask(&mut adapter, &files).await;
        assert_eq!(limits(&adapter, "case.0"), BTreeSet::from([LIMIT]));
    }

    #[tokio::test]
    async fn a_line_too_many_is_held_against_the_case_before() {
        let cases: Vec<Value> = ["c.a", "c.b", "c.c"].map(|id| case(id, json!({}))).to_vec();
        let files = [
            file("frame", "frame.decode", &cases[..2]),
            file("mux", "mux.receive", &[case("not-asked", json!({}))]),
            file("message", "message.decode", &cases[2..]),
        ];
        let mut adapter = Told::new(&[]);
        // Calls: nonsense, sanity, a, b, c.
        adapter.unasked.insert(5, "again".into());
        let (run, heard) = ask(&mut adapter, &files).await;
        let blamed: Vec<&str> = run
            .checks
            .iter()
            .filter(|check| check.verdict == Verdict::Failed)
            .map(|check| check.id.as_str())
            .collect();
        assert_eq!(blamed, ["c.b"]);
        let why = "the request was answered, and then came a line that nobody asked for: again";
        assert_eq!(check(&run, "c.b").reason.as_deref(), Some(why));
        assert!(heard.contains(&format!("c.b: {why}")));
    }

    #[test]
    fn a_selection_is_by_layer_and_id() {
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>()
        };
        let select = |layers: &[&str], ids: &[&str]| {
            Selection::new(&words(layers), &words(ids)).expect("globs")
        };
        for (layers, ids, wanted) in [
            (&[][..], &[][..], [true, true, true]),
            (&["mux"], &[], [true, true, false]),
            (&["frame", "mux"], &[], [true, true, true]),
            (&[], &["*.one"], [true, false, true]),
            (&["mux"], &["*.one"], [true, false, false]),
            (&["key"], &[], [false, false, false]),
        ] {
            let selection = select(layers, ids);
            let matched = [
                ("mux", "mux.one"),
                ("mux", "mux.two"),
                ("frame", "frame.one"),
            ]
            .map(|(layer, id)| selection.matches(layer, id));
            assert_eq!(matched, wanted, "{layers:?} {ids:?}");
            assert_eq!(selection.is_all(), layers.is_empty() && ids.is_empty());
        }
        assert!(Selection::new(&[], &words(&["["])).is_err());
        let files = [file(
            "mux",
            "mux.receive",
            &[case("mux.one", json!({})), case("mux.two", json!({}))],
        )];
        let chosen = select(&[], &["*.two"]);
        let ids: Vec<&str> = chosen
            .cases(&files)
            .into_iter()
            .map(|(_, _, case)| case.id.as_str())
            .collect();
        assert_eq!(ids, ["mux.two"]);
    }

    #[test]
    fn times_are_told_in_seconds_to_the_microsecond() {
        let mut check = Check::new(Kind::Vector, "a", "mux", "subject");
        check.duration = Duration::from_nanos(2_345_678_912);
        let told = serde_json::to_value(&check).expect("JSON");
        assert_eq!(told["seconds"], json!(2.345_679));
        let read: Check = serde_json::from_value(told).expect("a check");
        assert_eq!(read.duration, Duration::from_micros(2_345_679));
    }

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
        // Why is told already.
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
        // What could not be run for want of Node is told, and is no fault of the adapter.
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
