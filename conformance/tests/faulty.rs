//! Each fault of an adapter fails the run, and costs only the affected cases.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use hypercore_conformance::adapter::{Implementation as _, InProcess, Outcome};
use hypercore_conformance::faulty::{Broken, Distorted};
use hypercore_conformance::reference::Reference;
use hypercore_conformance::run::verdict::Verdict;
use hypercore_conformance::run::{Selection, Silent, run_vectors};
use hypercore_conformance::vectors::{Expectation, default_folder, expand, load};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hypercore-conformance");

/// Valid and invalid cases of an operation that is quick to answer.
const CASES: &str = "encoding.uint.*";

struct CommandResult {
    code: Option<i32>,
    text: String,
    checks: Vec<Value>,
}

impl CommandResult {
    fn with(&self, verdict: &str) -> BTreeSet<&str> {
        let had = self
            .checks
            .iter()
            .filter(|check| check["verdict"] == verdict);
        had.filter_map(|check| check["id"].as_str()).collect()
    }

    fn failed_cases(&self) -> usize {
        self.with("failed")
            .iter()
            .filter(|id| !id.starts_with("adapter."))
            .count()
    }

    fn cases(&self) -> usize {
        self.checks
            .iter()
            .filter(|check| check["kind"] == "vector")
            .count()
    }

    fn reasons(&self) -> String {
        let failed = self
            .checks
            .iter()
            .filter(|check| check["verdict"] == "failed");
        failed
            .filter_map(|check| check["reason"].as_str())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

fn run(adapter: &str, more: &[&str]) -> CommandResult {
    let cases: &[&str] = match more.contains(&"--id") {
        true => &[],
        false => &["--id", CASES],
    };
    told(adapter, &[&["--no-live"], cases, more].concat())
}

fn run_live(adapter: &str, id: &str) -> CommandResult {
    told(adapter, &["--id", id])
}

fn told(adapter: &str, arguments: &[&str]) -> CommandResult {
    let folder = tempfile::tempdir().expect("a folder");
    let report = folder.path().join("report.json");
    let output: Output = Command::new(PROGRAM)
        .args(["run", "--adapter", adapter, "--json"])
        .arg(&report)
        .args(arguments)
        .output()
        .expect("the program");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let report: Value = std::fs::read(&report).map_or(Value::Null, |bytes| {
        serde_json::from_slice(&bytes).expect("JSON")
    });
    let checks = report["checks"].as_array().cloned().unwrap_or_default();
    CommandResult {
        code: output.status.code(),
        text,
        checks,
    }
}

fn broken(kind: &str, more: &[&str]) -> CommandResult {
    run(&format!("'{PROGRAM}' adapter --broken {kind}"), more)
}

#[test]
fn the_reference_itself_is_green() {
    let told = run(&format!("'{PROGRAM}' adapter"), &[]);
    assert_eq!(told.code, Some(0), "{}", told.text);
    assert!(told.cases() > 20, "{}", told.text);
    assert_eq!(told.with("ok").len(), told.checks.len());
}

#[test]
fn wrong_answers_are_failures() {
    for kind in ["always-ok", "off-by-one", "off-at-the-end"] {
        let told = broken(kind, &[]);
        assert_eq!(told.code, Some(1), "{kind}: {}", told.text);
        let valid = told
            .checks
            .iter()
            .filter(|check| check["result"] == "valid");
        assert!(valid.clone().count() > 0);
        for check in valid {
            assert_eq!(check["verdict"], "failed", "{kind}: {}", check["id"]);
        }
    }
    let told = broken("always-ok", &[]);
    assert_eq!(told.failed_cases(), told.cases(), "{}", told.text);
    assert!(told.with("failed").contains("adapter.unknown-op.first"));
    assert!(told.with("failed").contains("adapter.unknown-op.last"));
}

#[test]
fn a_refusal_must_come_from_the_right_layer() {
    let told = broken("always-error", &[]);
    assert_eq!(told.code, Some(1));
    assert_eq!(told.failed_cases(), told.cases(), "{}", told.text);
    let told = broken("wrong-layer", &[]);
    assert_eq!(told.code, Some(1));
    for check in told.checks.iter().filter(|check| check["kind"] == "vector") {
        let wanted = if check["result"] == "invalid" {
            "failed"
        } else {
            "ok"
        };
        assert_eq!(check["verdict"], wanted, "{}", check["id"]);
    }
}

#[test]
fn another_class_is_tolerated_and_told() {
    let told = broken("wrong-class", &["-v"]);
    assert_eq!(told.code, Some(0), "{}", told.text);
    assert!(!told.with("non-strict").is_empty());
    assert!(
        told.text
            .contains("refused as otherwise, expected out-of-bounds"),
        "{}",
        told.text
    );
}

#[test]
fn what_was_declared_must_not_be_unsupported() {
    let told = broken("unsupported", &[]);
    assert_eq!(told.code, Some(1));
    assert_eq!(told.failed_cases(), told.cases());
    assert!(told.with("unsupported").is_empty());
}

#[test]
fn a_disruption_costs_one_case() {
    for (kind, reason) in [
        ("crash", "ended before it answered"),
        (
            "non-json",
            "not JSON: expected value at line 1 column 1: here you are",
        ),
        ("wrong-id", "the answer is to request 3, not to 2"),
    ] {
        let told = broken(kind, &[]);
        assert_eq!(told.code, Some(1), "{kind}: {}", told.text);
        assert!(
            told.reasons().contains(reason),
            "{kind}: {}",
            told.reasons()
        );
        // Each process fails at its second request, and a fresh one takes the next case: every second one fails.
        let failed = told.failed_cases();
        assert!(
            failed.abs_diff(told.cases() / 2) <= 1,
            "{kind}: {failed} of {}",
            told.cases()
        );
    }
    let told = broken("crash", &[]);
    assert!(
        told.text
            .contains("stderr    hypercore-conformance: broken on purpose"),
        "{}",
        told.text
    );
}

#[test]
fn a_second_answer_costs_the_case_that_it_is_to() {
    let told = broken("twice", &[]);
    assert_eq!(told.code, Some(1));
    let reason = "was answered, and then came a line that nobody asked for: {\"id\":";
    assert!(told.reasons().contains(reason), "{}", told.reasons());
    // If both lines arrive together the process is killed, and the next fails once more; if not, only the first fails.
    assert!(told.failed_cases() < told.cases());
    // A repeated answer after the next request was sent must not be blamed on the next case.
    let told = broken("again", &[]);
    assert_eq!(told.code, Some(1));
    let first = BTreeSet::from(["adapter.sanity.first"]);
    assert_eq!(told.with("failed"), first, "{}", told.text);
    assert!(told.reasons().contains(reason), "{}", told.reasons());
}

#[test]
fn an_adapter_that_answers_otherwise_after_a_while_is_noticed() {
    let told = broken(
        "drifts",
        &[
            "--id",
            "encoding.uint.decode.[01]",
            "--id",
            "encoding.uint.decode.252",
        ],
    );
    assert_eq!(told.code, Some(1));
    assert!(
        told.with("failed").contains("adapter.sanity.last"),
        "{}",
        told.text
    );
    assert!(told.with("ok").contains("adapter.sanity.first"));
    let reason = "the answer is not what it was before the other cases";
    assert!(told.reasons().contains(reason), "{}", told.reasons());
}

/// Of two cases the first is answered; the second times out, and only that case fails.
fn costs_the_second_case(kind: &str) -> CommandResult {
    let told = broken(
        kind,
        &["--timeout", "1.5", "--id", "encoding.uint.decode.[01]"],
    );
    assert_eq!(told.code, Some(1), "{}", told.text);
    assert!(
        told.reasons().contains("no answer within 1.5 s"),
        "{}",
        told.text
    );
    assert_eq!((told.cases(), told.failed_cases()), (2, 1), "{}", told.text);
    told
}

#[test]
fn a_late_answer_costs_its_case() {
    costs_the_second_case("late");
}

#[test]
fn stderr_without_end_is_read_and_forgotten() {
    let told = broken("noisy", &["--id", "encoding.uint.decode.[0-9]"]);
    assert_eq!(told.code, Some(0), "{}", told.text);
    let told = costs_the_second_case("wails");
    let failed = told
        .checks
        .iter()
        .find(|check| check["verdict"] == "failed");
    let stderr = failed.and_then(|check| check["stderr"].as_str());
    assert_eq!(stderr.map(str::len), Some(16 << 10), "its end, and no more");
}

#[test]
fn answers_without_end_are_cut_off() {
    let told = broken(
        "chatter",
        &["--timeout", "60", "--id", "encoding.uint.decode.0"],
    );
    assert_eq!(told.code, Some(1), "{}", told.text);
    let reasons = told.reasons();
    let either = reasons.contains("64 answers to earlier requests, and none to this")
        || reasons.contains("then came a line that nobody asked for");
    assert!(either, "{reasons}");
}

#[test]
fn a_version_that_one_side_does_not_speak_says_which_is_too_old() {
    for (kind, advice) in [
        (
            "from-the-future",
            "version 1000 of the adapter protocol and the suite 1; the suite is too old",
        ),
        (
            "from-the-past",
            "version 0 of the adapter protocol and the suite 1; the adapter is too old",
        ),
    ] {
        let told = broken(kind, &[]);
        assert_eq!(told.code, Some(1), "{}", told.text);
        assert_eq!(told.with("failed"), BTreeSet::from(["adapter.hello"]));
        assert!(
            told.reasons().contains(advice),
            "{kind}: {}",
            told.reasons()
        );
    }
}

#[test]
fn a_message_that_the_schema_does_not_have_is_seen_if_asked_for() {
    assert_eq!(broken("extra-field", &[]).code, Some(0));
    let told = broken("extra-field", &["--validate"]);
    assert_eq!(told.code, Some(1));
    let reasons = told.reasons();
    assert!(reasons.contains("not what the schema says"), "{reasons}");
    let whole = run(&format!("'{PROGRAM}' adapter"), &["--validate"]);
    assert_eq!(whole.code, Some(0), "{}", whole.text);
}

/// One byte or number is wrong in the outputs of one operation: the cases of each operation must detect that, at the
/// beginning and at the end of the output, and a missing byte.
#[tokio::test]
async fn an_output_that_is_off_by_one_is_caught_in_every_layer() {
    let files = load(&default_folder()).expect("the vectors");
    let everything = Selection::default();
    let cases = everything.cases(&files);
    let mut layers = BTreeSet::new();
    for op in Reference::new().hello().ops {
        let mut tried = 0;
        let short = cases.iter().filter(|(_, group, case)| {
            let plain = case.result == Expectation::Valid && case.releases.is_empty();
            group.op == op && plain && case.input.to_string().len() < 20_000
        });
        for (file, _, case) in short.take(6) {
            let id = [case.id.to_string()];
            for broken in [Broken::OffByOne, Broken::OffAtTheEnd, Broken::ShortByOne] {
                let input = expand(&case.input).expect("expands");
                let Outcome::Ok(good) = Reference::new().call(&op, &input) else {
                    panic!("{} is refused", case.id);
                };
                let mut bad = good.clone();
                if !broken.change(&mut bad) {
                    continue;
                }
                assert_ne!(good, bad, "{}: {broken:?}", case.id);
                let wrong_op = op.clone();
                let make = move || Distorted::new(Reference::new(), broken, &wrong_op);
                let selection = Selection::new(&[], &id).expect("an id");
                let mut adapter = InProcess::new(make);
                let own = std::slice::from_ref(*file);
                let run = run_vectors(&mut adapter, own, &selection, &mut Silent)
                    .await
                    .expect("runs");
                let check = run.checks.iter().find(|check| case.id == check.id);
                let verdict = check.expect("the case").verdict;
                assert_eq!(verdict, Verdict::Failed, "{}: {broken:?}", case.id);
                tried += 1;
            }
        }
        // Live operations have no vectors.
        assert!(
            tried > 0 || op.starts_with("peer."),
            "{op} is never seen to fail"
        );
        if tried > 0 {
            layers.extend(
                cases
                    .iter()
                    .filter(|(_, group, _)| group.op == op)
                    .map(|(file, _, _)| file.layer.as_str()),
            );
        }
    }
    let all: BTreeSet<&str> = files.iter().map(|file| file.layer.as_str()).collect();
    assert_eq!(layers, all);
}

#[test]
fn a_hang_costs_its_time() {
    costs_the_second_case("hang");
}

#[test]
fn after_some_hangs_in_a_row_the_rest_is_not_asked() {
    let told = broken("mute", &["--timeout", "0.2"]);
    assert_eq!(told.code, Some(1), "{}", told.text);
    assert_eq!(told.failed_cases(), told.cases());
    let waited = told.reasons().matches("no answer within 0.2 s").count();
    assert_eq!(
        waited,
        2 + 5,
        "an operation that does not exist, the first sanity case, and five cases"
    );
    assert!(
        told.reasons()
            .contains("not asked: 5 answers in a row did not come in time")
    );
}

#[test]
fn a_line_without_end_is_cut_off() {
    let told = broken(
        "flood",
        &["--timeout", "60", "--id", "encoding.uint.decode.0"],
    );
    assert_eq!(told.code, Some(1));
    assert!(
        told.reasons().contains("a line of more than"),
        "{}",
        told.reasons()
    );
}

#[test]
fn a_hello_that_makes_no_sense_ends_the_run() {
    let told = broken("bad-hello", &[]);
    assert_eq!(told.code, Some(1));
    assert_eq!(
        told.with("failed"),
        BTreeSet::from(["adapter.hello"]),
        "{}",
        told.text
    );
}

#[test]
fn an_adapter_ends_with_its_stdin() {
    for (kind, reason) in [
        ("lingers", "no answer within 5 s"),
        ("bad-exit", "exit status: 3"),
    ] {
        let told = broken(kind, &["--id", "encoding.uint.decode.0"]);
        assert_eq!(told.code, Some(1), "{kind}");
        assert_eq!(
            told.with("failed"),
            BTreeSet::from(["adapter.exit"]),
            "{kind}: {}",
            told.text
        );
        assert!(
            told.reasons().contains(reason),
            "{kind}: {}",
            told.reasons()
        );
    }
}

#[test]
fn what_is_not_declared_is_never_passed() {
    let script = r#"
import sys, json
for line in sys.stdin:
    request = json.loads(line)
    answer = {"id": request["id"], "unsupported": True}
    if request["op"] == "hello":
        answer = {"id": request["id"], "ok": {"protocol": 1, "name": "idle", "ops": []}}
    print(json.dumps(answer), flush=True)
"#;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("idle.py");
    std::fs::write(&path, script).expect("a file");
    if Command::new("python3").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "there is no Python 3");
        println!("left out: there is no Python 3");
        return;
    }
    let told = run(&format!("python3 '{}'", path.display()), &[]);
    // An empty run is not a success either.
    assert_eq!(told.code, Some(1), "{}", told.text);
    assert_eq!(told.with("failed"), BTreeSet::from(["suite.nothing-asked"]));
    assert_eq!(told.with("unsupported").len(), told.cases());
    assert!(told.text.contains("0 vectors"), "{}", told.text);
}

/// The scenarios of FLOW-8 and FLOW-9 need Node at the other end.
#[test]
fn what_never_lets_its_caller_wait_or_hides_that_its_socket_failed_is_caught() {
    if let Err(missing) = hypercore_conformance::node::ensure_node_modules() {
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        println!("left out: {missing}");
        return;
    }
    for (kind, id, reason) in [
        (
            "hoards",
            "live.backpressure.a-sender-waits-*-as-initiator-with-node-11.37.1",
            "while the wire took none of them, and never let its caller wait",
        ),
        (
            "denies",
            "live.closing.a-socket-that-fails-to-*-as-initiator-with-node-11.37.1",
            r#"expected an error of the connection layer, and got {"type":"end"}"#,
        ),
    ] {
        let told = run_live(&format!("'{PROGRAM}' adapter --broken {kind}"), id);
        assert_eq!(told.code, Some(1), "{kind}: {}", told.text);
        let live = |check: &&Value| check["kind"] == "live";
        assert!(told.checks.iter().filter(live).count() > 0, "{}", told.text);
        for check in told.checks.iter().filter(live) {
            let because = check["reason"].as_str().unwrap_or_default();
            assert!(because.contains(reason), "{}: {because}", check["id"]);
        }
    }
}

#[test]
fn what_cannot_start_is_a_matter_of_the_environment() {
    let told = run("/no/such/program", &[]);
    assert_eq!(told.code, Some(3));
    assert!(
        told.text.contains("cannot start `/no/such/program`"),
        "{}",
        told.text
    );
    assert!(!Path::new("/no/such/program").exists());
}
