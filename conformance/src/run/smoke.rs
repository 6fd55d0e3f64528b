//! A few requests that distinguish a broken harness from a broken implementation, before a whole run buries the
//! difference in failures.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::verdict::{Verdict, describe_error, judge};
use super::{LAYERS, Selection};
use crate::adapter::{Adapter, Failure, Hello, Implementation as _, Outcome};
use crate::diff::abridge;
use crate::reference::Reference;
use crate::term::Paint;
use crate::vectors::{Case, Expectation, Group, VectorFile, expand};

/// An operation that does not exist.
const NONSENSE: &str = "conformance.noSuchOperation";

/// How many characters of an answer are shown.
const SHOWN: usize = 200;

/// Whose fault it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Blame {
    /// This suite, or its vectors.
    Suite,
    /// The adapter, the program between the suite and the implementation.
    Harness,
    /// The implementation behind it.
    Implementation,
}

/// One request, and its result.
#[derive(Clone, Debug)]
pub struct Step {
    /// What was tried.
    pub name: String,
    /// The fault, if any.
    pub fault: Option<Fault>,
}

/// A fault, whose it is, and how to fix it.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Whose fault it is.
    pub blame: Blame,
    /// The fault.
    pub what: String,
    /// How to fix it.
    pub advice: String,
}

/// All results.
#[derive(Clone, Debug, Default)]
pub struct Smoke {
    /// The adapter's answer to `hello`, if any.
    pub hello: Option<Hello>,
    /// The requests in order.
    pub steps: Vec<Step>,
    /// Whether nothing was requested, because the adapter could not be started or reached.
    pub could_not_start: bool,
    /// The end of the adapter's stderr.
    pub stderr: String,
}

impl Smoke {
    /// Whether there is no fault.
    pub fn is_fine(&self) -> bool {
        self.blame().is_none()
    }

    /// The first to blame: a fault of the suite or the harness explains the rest.
    pub fn blame(&self) -> Option<Blame> {
        let faults = self.steps.iter().filter_map(|step| step.fault.as_ref());
        faults.map(|fault| fault.blame).min()
    }

    fn note(&mut self, name: impl Into<String>, fault: Option<Fault>) -> bool {
        let fine = fault.is_none();
        let name = name.into();
        self.steps.push(Step { name, fault });
        fine
    }

    /// The results as text; `check` is the command that runs everything.
    pub fn text(&self, check: &str, paint: &Paint) -> String {
        let mut out = String::new();
        for Step { name, fault } in &self.steps {
            let Some(fault) = fault else {
                let _ = writeln!(out, "{} {name}", paint.good.apply_to("ok    "));
                continue;
            };
            let _ = writeln!(out, "{} {name}", paint.bad.apply_to("FAILED"));
            for (label, text) in [("because", &fault.what), ("do", &fault.advice)] {
                let label = paint.faint.apply_to(format!("{label:<8}"));
                let _ = writeln!(out, "       {label} {text}");
            }
        }
        if !self.is_fine() && !self.stderr.trim().is_empty() {
            let lines: Vec<&str> = self.stderr.trim_end().lines().collect();
            let _ = writeln!(out, "\nThe end of its stderr:");
            for line in &lines[lines.len().saturating_sub(12)..] {
                let _ = writeln!(out, "  {line}");
            }
        }
        let title = self.hello.as_ref().map(Hello::title).unwrap_or_default();
        let conclusion = match self.blame() {
            None => format!(
                "{} The harness works, and {title} answers a case of each layer that it declares.\nNext: {check}",
                paint.good.apply_to("FINE:")
            ),
            Some(Blame::Suite) => format!(
                "{} Neither your adapter nor your implementation was tried. Please report this.",
                paint.bad.apply_to("THE SUITE IS BROKEN:")
            ),
            Some(Blame::Harness) => format!(
                "{} Mend the adapter first; what it says of the implementation means nothing yet.",
                paint.bad.apply_to("THE HARNESS IS BROKEN:")
            ),
            Some(Blame::Implementation) => format!(
                "{} The harness works: these are wrong answers of {title}, or of the code that calls it.\nNext: {check}",
                paint.doubtful.apply_to("THE IMPLEMENTATION IS WRONG:")
            ),
        };
        let _ = writeln!(out, "\n{conclusion}");
        out
    }
}

/// Makes a few requests: `hello`, an unknown operation, and one valid case of each layer, up the layers and down again.
pub async fn smoke(adapter: &mut dyn Adapter, files: &[VectorFile]) -> Smoke {
    let mut smoke = Smoke::default();
    if smoke.note("the suite answers its own questions", try_suite(files)) {
        try_adapter(&mut smoke, adapter, files).await;
    }
    smoke.stderr = adapter.take_stderr();
    smoke
}

fn try_suite(files: &[VectorFile]) -> Option<Fault> {
    let mut reference = Reference::new();
    let hello = reference.hello();
    let questions = questions(files, &hello);
    let wrong = questions.iter().find_map(|question| {
        let answer = Ok(reference.call(question.op, &question.input));
        Some((question.id(), question.wrong(&answer)?))
    });
    let what = match wrong {
        _ if questions.is_empty() => "there are no vectors to ask".to_owned(),
        Some((id, why)) => format!("the reference implementation fails {id}: {why}"),
        None => return None,
    };
    let advice = "`vectors verify` says whether the vectors are whole".into();
    Some(Fault {
        blame: Blame::Suite,
        what,
        advice,
    })
}

async fn try_adapter(smoke: &mut Smoke, adapter: &mut dyn Adapter, files: &[VectorFile]) {
    let hello = match adapter.hello().await {
        Ok(hello) => hello,
        Err(failure) => {
            smoke.could_not_start = matches!(failure, Failure::Start { .. });
            smoke.note("it starts and says hello", Some(harness(&failure)));
            return;
        }
    };
    smoke.note(format!("it starts and says hello: {}", hello.title()), None);
    smoke.hello = Some(hello.clone());
    let nonsense = "an operation that does not exist is answered as unsupported";
    smoke.note(nonsense, ask_nonsense(adapter).await);

    let questions = questions(files, &hello);
    if questions.is_empty() {
        let fault = Fault {
            blame: Blame::Harness,
            what: "it declares no operation that any case asks for".into(),
            advice: "list in `ops` of the answer to hello what it can do; ADAPTER.md has the names"
                .into(),
        };
        smoke.note("it declares something to be asked", Some(fault));
        return;
    }
    let mut answers = Vec::new();
    for question in &questions {
        let answer = adapter.call(question.op, &question.input).await;
        let fault = match (&answer, question.wrong(&answer)) {
            (Err(failure), _) => Some(harness(failure)),
            (Ok(Outcome::Unsupported), _) => Some(Fault {
                blame: Blame::Harness,
                what: format!(
                    "{} was declared, but the answer is unsupported",
                    question.op
                ),
                advice: "declare in `ops` only what it can do".into(),
            }),
            (Ok(_), Some(why)) => Some(Fault {
                blame: Blame::Implementation,
                what: why,
                advice: format!("`show {}` takes the case apart", question.id()),
            }),
            (Ok(_), None) => None,
        };
        let name = format!("layer {}: {}", question.layer, question.id());
        smoke.note(name, fault);
        // Later requests would add nothing.
        if answer.is_err() {
            return;
        }
        answers.push(answer);
    }
    let mut fault = None;
    for (question, before) in questions.iter().zip(&answers).rev() {
        let now = adapter.call(question.op, &question.input).await;
        if let Err(failure) = &now {
            fault.get_or_insert(harness(failure));
            break;
        }
        if let Some(line) = adapter.take_unasked() {
            fault.get_or_insert(harness(&Failure::Unasked { line }));
        }
        if now != *before {
            fault.get_or_insert(Fault {
                blame: Blame::Harness,
                what: format!(
                    "{}: {} at first, and then {}",
                    question.id(),
                    describe(before),
                    describe(&now)
                ),
                advice: "each operation stands alone: keep nothing from one request to the next"
                    .into(),
            });
        }
    }
    smoke.note(
        "asked the same again in reverse, it answers the same",
        fault,
    );
    smoke.note(
        format!("once more, {nonsense}"),
        ask_nonsense(adapter).await,
    );
    if !adapter.is_attached() {
        let ended = adapter.finish().await;
        smoke.note(
            "it exits with code 0 when its stdin ends",
            ended.err().as_ref().map(harness),
        );
    }
}

async fn ask_nonsense(adapter: &mut dyn Adapter) -> Option<Fault> {
    match adapter.call(NONSENSE, &json!({ "bytes": "00" })).await {
        Ok(Outcome::Unsupported) => None,
        Ok(outcome) => Some(Fault {
            blame: Blame::Harness,
            what: format!("it answered {}", describe(&Ok(outcome))),
            advice: r#"answer {"id":…,"unsupported":true} to any operation that you do not know"#
                .into(),
        }),
        Err(failure) => Some(harness(&failure)),
    }
}

/// A failure of the adapter, with its usual cause.
fn harness(failure: &Failure) -> Fault {
    let advice = match failure {
        Failure::Start { .. } => {
            "try the command by itself in this folder; after `--` it is taken word by word"
        }
        Failure::Crashed { .. } => {
            "`check --emit-script ID` prints lines to paste into its stdin; a panic while a case is decoded is the \
             implementation's"
        }
        Failure::TimedOut(_) | Failure::Unfinished { .. } | Failure::NotAsked { .. } => {
            "flush stdout after each line, and answer each line before you read the next"
        }
        Failure::NotJson { .. } => {
            "write nothing but answers to stdout, one a line; logs go to stderr"
        }
        Failure::WrongId { .. } => "repeat the `id` of the request in its answer",
        Failure::Unasked { .. } => {
            "answer each request once, in one line, and write nothing else to stdout"
        }
        Failure::Version { .. } => "ADAPTER.md says which version this suite speaks",
        Failure::Schema { .. } | Failure::Invalid { .. } => {
            "compare with ADAPTER.md and vectors/schema/adapter.schema.json"
        }
    };
    Fault {
        blame: Blame::Harness,
        what: failure.to_string(),
        advice: advice.into(),
    }
}

/// A case to run.
struct Question<'a> {
    layer: &'a str,
    op: &'a str,
    case: &'a Case,
    input: Value,
}

impl Question<'_> {
    fn id(&self) -> &str {
        &self.case.id
    }

    /// The fault of an answer, if any.
    fn wrong(&self, answer: &Result<Outcome, Failure>) -> Option<String> {
        let expected = (self.case.result, &self.case.expect);
        let judgement = judge(expected, self.case.node.as_ref(), false, answer);
        (judgement.verdict == Verdict::Failed).then(|| {
            let reason = judgement.reason.unwrap_or_default();
            format!("{reason}: {}", describe(answer))
        })
    }
}

/// The shortest valid case of each layer with a declared operation.
fn questions<'a>(files: &'a [VectorFile], hello: &Hello) -> Vec<Question<'a>> {
    let everything = Selection::default();
    let mut cases: Vec<(&VectorFile, &Group, &Case)> = everything.cases(files);
    cases.retain(|(_, group, case)| {
        let plain = case.flags.is_empty() && case.releases.is_empty();
        plain && case.result == Expectation::Valid && hello.knows(&group.op)
    });
    // There are many vectors in a layer: the length of each is measured once.
    cases.sort_by_cached_key(|(file, _, case)| {
        let rank = LAYERS.iter().position(|layer| *layer == file.layer);
        (rank, case.input.to_string().len())
    });
    let mut seen = HashSet::new();
    cases.retain(|(file, _, _)| seen.insert(file.layer.as_str()));
    let question = |(file, group, case): (&'a VectorFile, &'a Group, &'a Case)| {
        Some(Question {
            layer: &file.layer,
            op: &group.op,
            case,
            input: expand(&case.input).ok()?,
        })
    };
    cases.into_iter().filter_map(question).collect()
}

fn describe(answer: &Result<Outcome, Failure>) -> String {
    match answer {
        Ok(Outcome::Ok(value)) => {
            let text = abridge(value, SHOWN).to_string();
            match text.char_indices().nth(SHOWN) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        }
        Ok(Outcome::Error(error)) => format!("refused, {}", describe_error(error)),
        Ok(Outcome::Unsupported) => "unsupported".into(),
        Err(failure) => failure.to_string(),
    }
}
