use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures::future::BoxFuture;

use super::*;
use crate::run::progress::Silent;

/// The time-out.
const LIMIT: Duration = Duration::from_secs(1);

/// An adapter with scripted answers, call by call; without one it answers `unsupported`, as it must for an operation
/// that does not exist.
#[derive(Default)]
struct ScriptedAdapter {
    hello: Hello,
    /// The answers to each input of an existing operation.
    answers: BTreeMap<String, VecDeque<Result<Outcome, Failure>>>,
    /// Unrequested lines, each after the call of this number.
    unasked: BTreeMap<usize, String>,
    stderr: String,
    attached: bool,
    end: Option<Failure>,
    calls: Vec<(String, Duration)>,
}

impl ScriptedAdapter {
    /// An adapter for the tests' operations, which gives correct answers by default.
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

impl Adapter for ScriptedAdapter {
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

/// Records its calls.
#[derive(Default)]
struct Log(Vec<String>);

impl Progress for Log {
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

/// A valid case: the answer is its name. Fields of `more` replace those.
pub(in crate::run) fn case(id: &str, more: Value) -> Value {
    let mut case = json!({
        "id": id, "clauses": ["MUX-1"], "comment": "what it shows", "flags": ["Flag"],
        "input": { "name": id }, "result": "valid", "expect": { "output": { "name": id } },
        "node": null, "releases": {},
    });
    let fields = case.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    case
}

pub(in crate::run) fn file(layer: &str, op: &str, cases: &[Value]) -> VectorFile {
    serde_json::from_value(json!({
        "$schema": "", "format": 1, "layer": layer, "subject": "subject", "description": "",
        "generator": { "script": "", "packages": {} }, "notes": {},
        "groups": [{ "name": "group", "description": "", "op": op, "cases": cases }],
    }))
    .expect("a file of vectors")
}

async fn ask(adapter: &mut ScriptedAdapter, files: &[VectorFile]) -> (Run, Vec<String>) {
    let mut heard = Log::default();
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
    let mut adapter = ScriptedAdapter::new(&[]);
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
    let mut adapter = ScriptedAdapter::new(&[]);
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
    let mut adapter = ScriptedAdapter::new(&[]);
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
    let (run, heard) = ask(&mut ScriptedAdapter::new(&[("hello", Err(invalid))]), &[]).await;
    assert_eq!(verdicts(&run), ["failed adapter.hello"]);
    assert_eq!(heard, ["failed adapter.hello"]);
    assert_eq!(run.checks[0].stderr, None, "it wrote nothing");
    let start = Failure::Start {
        command: "no-such-program".into(),
        reason: "not found".into(),
    };
    let mut adapter = ScriptedAdapter::new(&[("hello", Err(start.clone()))]);
    let run = run_vectors(&mut adapter, &[], &Selection::default(), &mut Silent).await;
    assert_eq!(run.expect_err("no run").to_string(), start.to_string());
}

#[tokio::test]
async fn an_adapter_that_answers_nonsense_answers_anything() {
    let nonsense = "conformance.noSuchOperation";
    let mut adapter =
        ScriptedAdapter::new(&[(nonsense, Ok(Outcome::Ok(json!(1)))), (nonsense, crashed())]);
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
    let refused =
        json!({ "result": "invalid", "expect": { "error": { "layer": "frame" } }, "input": {} });
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
    let sanity = sanity_case(&files, &ScriptedAdapter::new(&[]).hello).expect("a case");
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
        &mut ScriptedAdapter::new(&[("f.a", ok(1)), ("f.a", ok(1)), ("f.a", ok(2))]),
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
    let mut adapter = ScriptedAdapter::new(&[("f.a", crashed()), ("f.a", ok(1)), ("f.a", ok(2))]);
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
    let mut adapter = ScriptedAdapter::new(&[
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
        heard.contains(&r#"c.wrong: {"name":"c.wrong"} {"ok":{"bytes":"0f050617"}}"#.to_owned())
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
    // The first case is the sanity case, and is answered; four consecutive time-outs are tolerated.
    let hangs =
        |from: usize, count: usize| (from..from + count).map(|n| (format!("case.{n:02}"), late()));
    let told: Vec<_> = hangs(1, 4).chain(hangs(6, 5)).collect();
    let told: Vec<_> = told
        .iter()
        .map(|(name, answer)| (name.as_str(), answer.clone()))
        .collect();
    let mut adapter = ScriptedAdapter::new(&told);
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

    // Four at the end are tolerated too.
    let told: Vec<_> = hangs(8, 4).collect();
    let told: Vec<_> = told
        .iter()
        .map(|(name, answer)| (name.as_str(), answer.clone()))
        .collect();
    let (run, _) = ask(&mut ScriptedAdapter::new(&told), &files).await;
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
    let mut adapter = ScriptedAdapter::new(&told);
    adapter.hello.release = Some("11.37.1".into());
    let (run, _) = ask(&mut adapter, &files).await;
    assert_eq!((run.tally().informational, run.tally().failed), (6, 0));
    let limits = |adapter: &ScriptedAdapter, name: &str| -> BTreeSet<Duration> {
        let calls = adapter.calls.iter().filter(|(called, _)| called == name);
        calls.map(|(_, limit)| *limit).collect()
    };
    assert_eq!(limits(&adapter, "case.0"), BTreeSet::from([DEATH_LIMIT]));
    assert_eq!(limits(&adapter, "c.a"), BTreeSet::from([LIMIT]));
    // Another implementation gets the ordinary time-out.
    let mut adapter = ScriptedAdapter::new(&[]);
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
    let mut adapter = ScriptedAdapter::new(&[]);
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
