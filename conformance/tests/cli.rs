//! The command line for its users: exit codes, filters, the output of a failure, and the files written.

use std::process::{Command, Output};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hypercore-conformance");

fn program(arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .env_remove("CARGO")
        .env_remove("CI")
        .output()
        .expect("the program")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A failure of each kind, in files of a new folder.
fn failing_vectors() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let case = |id: &str, input: Value, expect: Value, result: &str| {
        serde_json::json!({
            "id": id, "clauses": ["SYNC-1"], "comment": "Not what it says.", "flags": [], "input": input,
            "result": result, "expect": expect, "node": null, "releases": {},
        })
    };
    let sync = serde_json::json!({
        "fork": 1, "length": 2, "remoteLength": 3, "canUpgrade": true, "uploading": false, "downloading": false,
        "hasManifest": false, "allowPush": false,
    });
    let groups = serde_json::json!([
        { "name": "encode", "description": "d", "op": "message.encode", "cases": [
            case("message.sync.a", serde_json::json!({ "message": "sync", "value": sync }),
                serde_json::json!({ "output": { "bytes": "01010203ff" } }), "valid"),
            case("message.sync.b", serde_json::json!({ "message": "sync", "value": sync }),
                serde_json::json!({ "output": { "bytes": "01010303" } }), "valid"),
        ] },
        { "name": "decode", "description": "d", "op": "message.decode", "cases": [
            case("message.sync.c", serde_json::json!({ "message": "sync", "bytes": "01010203" }),
                serde_json::json!({ "output": { "value": { "fork": 9 }, "consumed": 4 } }), "valid"),
            case("message.sync.d", serde_json::json!({ "message": "sync", "bytes": "01010203" }),
                serde_json::json!({ "error": { "layer": "message", "class": "out-of-bounds" } }), "invalid"),
        ] },
    ]);
    let file = serde_json::json!({
        "$schema": "../schema/vectors.schema.json", "format": 1, "layer": "message", "subject": "sync",
        "description": "d", "generator": { "script": "s", "packages": {} }, "notes": {}, "groups": groups,
    });
    std::fs::create_dir(folder.path().join("message")).expect("a folder");
    std::fs::write(folder.path().join("message/sync.json"), file.to_string()).expect("a file");
    folder
}

#[test]
fn a_failure_shows_aligned_bytes_the_field_and_how_to_rerun_it() {
    let folder = failing_vectors();
    let vectors = folder.path().to_str().expect("a path");
    let output = program(&["run", "--no-live", "--vectors", vectors]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = stdout(&output);
    let wanted = "\
FAILED message.sync.b
  shows     Not what it says.
  clauses   SYNC-1
  asked     message.encode {";
    assert!(text.contains(wanted), "{text}");
    let wanted = "\
  because   the output differs
  at        bytes, byte 2 of 4: sync.length
            expected  0000  01 01 03 03
            actual    0000  01 01 02 03
                                  ^^
  rerun     hypercore-conformance run --id message.sync.b
";
    assert!(text.contains(wanted), "{text}");
    assert!(
        text.contains("bytes, byte 4 (5 bytes expected, 4 came)"),
        "{text}"
    );
    assert!(
        text.contains("  at        value.fork\n            expected  9\n            actual    1\n"),
        "{text}"
    );
    assert!(
        text.contains("accepted, but it must be refused by the layer message (out-of-bounds)"),
        "{text}"
    );
    assert!(text.contains("4 failures"), "{text}");
}

#[test]
fn reports_hold_every_check() {
    let folder = failing_vectors();
    let vectors = folder.path().to_str().expect("a path");
    let file = |name: &str| {
        folder
            .path()
            .join(name)
            .to_str()
            .expect("a path")
            .to_owned()
    };
    let (junit, json) = (file("junit.xml"), file("report.json"));
    let output = program(&[
        "run",
        "--no-live",
        "--vectors",
        vectors,
        "--junit",
        &junit,
        "--json",
        &json,
    ]);
    assert_eq!(output.status.code(), Some(1));
    let xml = std::fs::read_to_string(junit).expect("the JUnit report");
    for part in [
        r#"<testsuite name="message" tests="4""#,
        r#"failures="4""#,
        r#"<testcase name="message.sync.b""#,
        "^^",
    ] {
        assert!(xml.contains(part), "{part} is not in {xml}");
    }
    let report: Value =
        serde_json::from_slice(&std::fs::read(json).expect("the JSON report")).expect("JSON");
    assert_eq!(report["format"], 1);
    assert_eq!(report["verdicts"]["failed"], 4);
    let checks = report["checks"].as_array().expect("checks");
    let check = checks
        .iter()
        .find(|check| check["id"] == "message.sync.b")
        .expect("the check");
    assert_eq!(check["differences"][0]["firstByte"], 2);
    assert_eq!(check["differences"][0]["field"], "sync.length");
    assert_eq!(
        check["rerun"],
        "hypercore-conformance run --id message.sync.b"
    );
}

/// Runs [`failing_vectors`] with a file of expected failures: returns the output, and the JSON report.
fn run_expecting(entries: &str, more: &[&str]) -> (Output, Value, String) {
    let folder = failing_vectors();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (expected, json, junit) = (file("known.toml"), file("report.json"), file("junit.xml"));
    std::fs::write(&expected, entries).expect("a file");
    let vectors = file("");
    let mut arguments = vec!["run", "--no-live", "--vectors", &vectors];
    arguments.extend(["--expected", &expected, "--json", &json, "--junit", &junit]);
    arguments.extend(more);
    let output = program(&arguments);
    let report = std::fs::read(json).map_or(Value::Null, |bytes| {
        serde_json::from_slice(&bytes).expect("JSON")
    });
    let xml = std::fs::read_to_string(junit).unwrap_or_default();
    (output, report, xml)
}

fn entry(list: &str, id: &str) -> String {
    format!("[[{list}]]\nid = \"{id}\"\nreason = \"it is so\"\nlink = \"https://example.org/1\"\n")
}

fn verdict<'a>(report: &'a Value, id: &str) -> &'a Value {
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["id"] == id).expect(id)
}

#[test]
fn what_is_listed_as_failing_may_fail_and_nothing_else() {
    let (output, report, xml) = run_expecting(&entry("expected", "message.sync.[a-d]"), &["-v"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert!(text.contains("PASSED"), "{text}");
    assert!(
        text.contains("no failures, 4 failed as expected."),
        "{text}"
    );
    let listed = "listed: it is so (https://example.org/1)";
    assert!(text.contains("expected-failure message.sync.a"), "{text}");
    assert!(text.contains(listed), "{text}");
    let check = verdict(&report, "message.sync.b");
    assert_eq!(check["verdict"], "expected-failure");
    assert_eq!(check["outcome"], "failed");
    assert_eq!(check["listed"]["list"], "expected");
    assert_eq!(check["listed"]["link"], "https://example.org/1");
    assert_eq!(check["differences"][0]["firstByte"], 2);
    assert_eq!(report["verdicts"]["expectedFailure"], 4);
    assert_eq!(report["expected"]["entries"][0]["matched"], 4);
    assert!(
        xml.contains(
            r#"<skipped type="expected-failure" message="it is so (https://example.org/1): "#
        ) || xml.contains(r#"<skipped message="it is so (https://example.org/1): "#),
        "{xml}"
    );
    // An unlisted one still fails.
    let (output, report, _) = run_expecting(&entry("expected", "message.sync.[abc]"), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(verdict(&report, "message.sync.d")["verdict"], "failed");
}

#[test]
fn a_pass_that_is_listed_as_a_failure_fails_the_run() {
    let entries = entry("expected", "message.sync.[a-d]") + &entry("expected", "adapter.hello");
    let (output, report, xml) = run_expecting(&entries, &[]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("UNEXPECTED PASS adapter.hello"), "{text}");
    assert!(
        text.contains(
            "listed as an expected failure (it is so), but it is ok; remove it from the list"
        ),
        "{text}"
    );
    assert!(
        text.contains("1 passed unexpectedly, 4 failed as expected"),
        "{text}"
    );
    assert_eq!(
        verdict(&report, "adapter.hello")["verdict"],
        "unexpected-pass"
    );
    assert!(xml.contains(r#"type="unexpected-pass""#), "{xml}");
}

#[test]
fn what_is_flaky_is_told_and_decides_nothing() {
    let entries = entry("flaky", "message.sync.[a-d]") + &entry("flaky", "adapter.hello");
    let (output, report, xml) = run_expecting(&entries, &[]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.contains("flaky message.sync.a: failed this time: the output differs"),
        "{text}"
    );
    assert!(text.contains("flaky adapter.hello: ok this time"), "{text}");
    assert_eq!(verdict(&report, "message.sync.a")["outcome"], "failed");
    assert_eq!(verdict(&report, "adapter.hello")["outcome"], "ok");
    assert!(xml.contains("flaky: ok this time"), "{xml}");
}

#[test]
fn a_list_that_rots_fails_the_run() {
    let all = entry("expected", "message.sync.[a-d]");
    for (more, fault) in [
        (
            entry("expected", "message.gone.*"),
            "suite.stale-entry.message.gone.*",
        ),
        (
            entry("flaky", "message.gone.*"),
            "suite.stale-entry.message.gone.*",
        ),
        (all.clone(), "suite.repeated-entry.message.sync.[a-d]"),
        (
            entry("flaky", "message.sync.a"),
            "suite.overlapping-entries.message.sync.[a-d].message.sync.a",
        ),
    ] {
        let (output, report, xml) = run_expecting(&(all.clone() + &more), &[]);
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("FAILED {fault}")), "{fault}: {text}");
        assert!(xml.contains(&format!("name=\"{fault}\"")), "{fault}: {xml}");
        assert_eq!(report["verdicts"]["failed"], 1, "{text}");
    }
}

#[test]
fn an_entry_outside_the_selection_is_not_stale() {
    let entries = entry("expected", "message.sync.[a-d]") + &entry("expected", "live.*");
    let (output, _, _) = run_expecting(&entries, &["--id", "message.sync.a"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    let entries = entries + &entry("expected", "message.gone.*");
    let (output, _, _) = run_expecting(&entries, &["--id", "message.sync.a"]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
}

#[test]
fn a_list_that_cannot_be_read_is_not_taken_as_empty() {
    let (output, _, _) = run_expecting("[[expected]]\nid = \"a\"\n", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("missing field `reason`"),
        "{}",
        stderr(&output)
    );
    let output = program(&["run", "--no-live", "--expected", "/no/such/list.toml"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}

#[test]
fn nothing_selected_is_wrong_usage() {
    for arguments in [
        &["run", "--no-live", "--id", "no.such.*"][..],
        &["run", "--no-live", "--layer", "elsewhere"],
        &["run", "--id", "[", "--no-live"],
        &["run", "--node", "9.9.9"],
        &["run", "--reference", "--adapter", "x"],
        &["run", "--adapter", "'open"],
        &["run", "--no-live", "--timeout", "0"],
        &["list", "--layer", "elsewhere"],
        &["show", "no.such.case"],
        &["surprise"],
    ] {
        assert_eq!(program(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn without_vectors_there_is_nothing_to_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = program(&["run", "--vectors", folder.path().to_str().expect("a path")]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains("no vectors in"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_filter_by_id_runs_that_case_alone() {
    let output = program(&["run", "--id", "encoding.uint.decode.0"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert!(
        text.contains("PASSED") && text.contains(": 1 vector in "),
        "{text}"
    );
}

#[test]
fn list_and_show_tell_of_cases() {
    let output = program(&[
        "list",
        "--layer",
        "encoding",
        "--id",
        "encoding.uint.decode.*",
    ]);
    let text = stdout(&output);
    assert!(text.lines().count() > 5);
    let zero = text
        .lines()
        .find(|line| line.starts_with("encoding.uint.decode.0 "))
        .expect("the case");
    assert!(zero.contains(" valid ") && zero.contains("ENC-1"), "{zero}");
    let text = stdout(&program(&["show", "message.sync.decode.can-upgrade"]));
    assert!(
        text.contains("SYNC-1") && text.contains("sync.remoteLength"),
        "{text}"
    );
}

#[test]
fn without_node_the_vectors_run_and_what_is_left_out_is_told() {
    let nowhere = tempfile::tempdir().expect("a folder");
    let run = |ci: Option<&str>| {
        let mut command = Command::new(PROGRAM);
        command.args([
            "run", "--layer", "live", "--id", "live.*", "--layer", "key", "--id", "key.*",
        ]);
        command.env("PATH", nowhere.path()).env_remove("CI");
        command
            .envs(ci.map(|value| ("CI", value)))
            .output()
            .expect("the program")
    };
    let output = run(None);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert!(
        text.contains("Left out: all ") && text.contains("node is not to be found"),
        "{text}"
    );
    assert_eq!(run(Some("true")).status.code(), Some(3));
}

#[test]
fn check_takes_a_command_word_by_word() {
    let output = program(&[
        "check",
        "--no-live",
        "--id",
        "encoding.uint.*",
        "--",
        PROGRAM,
        "adapter",
    ]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert!(text.contains("PASSED hypercore-protocol"), "{text}");
    let broken = ["--", PROGRAM, "adapter", "--broken", "always-ok"];
    let mut arguments = vec!["check", "--no-live", "--id", "encoding.uint.decode.0"];
    arguments.extend(broken);
    let output = program(&arguments);
    assert_eq!(output.status.code(), Some(1));
    let rerun = format!(
        "hypercore-conformance check --id encoding.uint.decode.0 -- {PROGRAM} adapter --broken always-ok"
    );
    assert!(stdout(&output).contains(&rerun), "{}", stdout(&output));
    assert_eq!(program(&["check"]).status.code(), Some(2));
}

/// `smoke` on the reference with a fault: the exit code and the output.
fn smoke(broken: &[&str]) -> (Option<i32>, String) {
    let mut arguments = vec!["smoke", "--timeout", "2", "--", PROGRAM, "adapter"];
    arguments.extend(broken);
    let output = program(&arguments);
    (output.status.code(), stdout(&output) + &stderr(&output))
}

#[test]
fn smoke_says_who_is_at_fault() {
    let (code, text) = smoke(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("FINE: The harness works"), "{text}");
    assert!(text.contains("layer noise: noise."), "{text}");
    for (kind, advice) in [
        ("non-json", "write nothing but answers to stdout"),
        ("crash", "paste into its stdin"),
        ("hang", "flush stdout after each line"),
        ("late", "flush stdout after each line"),
        ("twice", "answer each request once"),
        ("again", "answer each request once"),
        ("wrong-id", "repeat the `id`"),
        ("extra-field", "adapter.schema.json"),
        ("unsupported", "declare in `ops` only what it can do"),
        ("from-the-future", "the suite is too old"),
        ("from-the-past", "the adapter is too old"),
        ("always-ok", "to any operation that you do not know"),
        ("lingers", "no answer within 5 s"),
        ("bad-exit", "exit status: 3"),
    ] {
        let (code, text) = smoke(&["--broken", kind]);
        assert_eq!(code, Some(1), "{kind}: {text}");
        assert!(text.contains("THE HARNESS IS BROKEN"), "{kind}: {text}");
        assert!(text.contains(advice), "{kind}: {text}");
    }
    let (code, text) = smoke(&["--broken", "drifts"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("THE IMPLEMENTATION IS WRONG") || text.contains("THE HARNESS IS BROKEN"),
        "{text}"
    );
    assert!(text.contains("each operation stands alone"), "{text}");
    for kind in ["off-by-one", "off-at-the-end"] {
        let (code, text) = smoke(&["--broken", kind]);
        assert_eq!(code, Some(1), "{kind}: {text}");
        assert!(
            text.contains("THE IMPLEMENTATION IS WRONG"),
            "{kind}: {text}"
        );
        assert!(text.contains("`show encoding."), "{kind}: {text}");
    }
    let output = program(&["smoke", "--", "/no/such/adapter"]);
    assert_eq!(output.status.code(), Some(3), "{}", stdout(&output));
}

#[test]
fn smoke_finds_vectors_that_are_at_fault() {
    let folder = failing_vectors();
    let vectors = folder.path().to_str().expect("a path");
    let output = program(&["smoke", "--vectors", vectors, "--", PROGRAM, "adapter"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).contains("THE SUITE IS BROKEN"),
        "{}",
        stdout(&output)
    );
}

/// The reference, listening; killed when dropped.
struct Listening(std::process::Child, String);

impl Listening {
    fn start(more: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["adapter", "--listen", "127.0.0.1:0"])
            .args(more)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("starts");
        let mut address = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut address)
            .expect("an address");
        Self(child, address.trim().to_owned())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}

#[test]
fn an_adapter_that_runs_already_is_attached_to() {
    let listening = Listening::start(&[]);
    let attach = ["--attach", &listening.1];
    for verb in ["check", "run"] {
        let mut arguments = vec![verb, "--no-live", "--id", "encoding.uint.*"];
        arguments.extend(attach);
        let output = program(&arguments);
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
        assert!(text.contains("PASSED hypercore-protocol"), "{text}");
    }
    // Its exit cannot be observed, and the report says so.
    let folder = tempfile::tempdir().expect("a folder");
    let report = folder.path().join("report.json");
    let path = report.to_str().expect("a path");
    let arguments = [
        "check",
        "--no-live",
        "--id",
        "encoding.uint.*",
        "--json",
        path,
    ];
    let output = program(&[&arguments[..], &["--attach", &listening.1]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report = std::fs::read(&report).expect("a report");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    let exit = checks.iter().find(|check| check["id"] == "adapter.exit");
    let exit = exit.expect("the check");
    assert_eq!(exit["verdict"], "unsupported");
    let reason = exit["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("runs on its own"), "{reason}");
    let output = program(&["smoke", "--attach", &listening.1]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    // A broken connection costs only its case; the next case connects again.
    let crashing = Listening::start(&["--broken", "crash"]);
    let output = program(&[
        "check",
        "--no-live",
        "--id",
        "encoding.uint.decode.[01]",
        "--attach",
        &crashing.1,
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("ended before it answered"), "{text}");
    assert!(text.contains("--attach 127.0.0.1:"), "{text}");
    let failed = text
        .lines()
        .filter(|line| line.starts_with("FAILED encoding."))
        .count();
    assert_eq!(failed, 1, "{text}");
    // A refused connection is an environment error.
    drop(crashing);
    let output = program(&["check", "--no-live", "--attach", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains("a connection to 127.0.0.1:1"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_script_asks_one_case_by_hand() {
    let output = program(&["check", "--emit-script", "encoding.uint.decode.0"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("# valid is expected: {\"ok\":{\"value\":0"),
        "{}",
        stderr(&output)
    );
    let mut child = Command::new(PROGRAM)
        .arg("adapter")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut stdin, &output.stdout).expect("written");
    drop(stdin);
    let answered = child.wait_with_output().expect("answers");
    let text = String::from_utf8_lossy(&answered.stdout).into_owned();
    let answers: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(answers.len(), 2, "{text}");
    assert_eq!(answers[0]["ok"]["protocol"], 1);
    assert_eq!(
        answers[1],
        serde_json::json!({ "id": 1, "ok": { "value": 0, "consumed": 1 } })
    );
    assert_eq!(
        program(&["run", "--emit-script", "no.such.case"])
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn a_scenario_is_told_step_by_step() {
    let listed = stdout(&program(&["list", "--layer", "live"]));
    let id = listed.split_whitespace().next().expect("a scenario");
    let output = program(&["check", "--emit-script", id, "--", "python3", "mine.py"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        text.contains(&format!(
            "#   hypercore-conformance check --id {id} -- python3 mine.py"
        )),
        "{text}"
    );
    assert!(
        text.lines().any(|line| line.starts_with("Given ")),
        "{text}"
    );
    assert!(
        text.lines()
            .any(|line| line.starts_with("Then ") || line.starts_with("And ")),
        "{text}"
    );
}

#[test]
fn the_reference_runs_in_process() {
    let output = program(&["run", "--in-process", "--layer", "encoding"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert!(text.contains("PASSED hypercore-protocol"), "{text}");
}

#[test]
fn a_bundle_has_what_is_needed_for_each_failure_and_nothing_else() {
    let folder = failing_vectors();
    let vectors = folder.path().to_str().expect("a path");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let bundle = elsewhere.path().join("bundle");
    let known = elsewhere.path().join("known.toml");
    std::fs::write(&known, entry("expected", "message.sync.d")).expect("a file");
    let arguments = |more: &[&str]| {
        let mut all = vec!["run", "--no-live", "--vectors", vectors, "--bundle"];
        all.push(bundle.to_str().expect("a path"));
        all.extend(more);
        program(&all)
    };
    let output = arguments(&["--expected", known.to_str().expect("a path")]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("Bundle: 3 failures in "),
        "{}",
        stdout(&output)
    );
    let read = |name: &str| std::fs::read_to_string(bundle.join(name)).expect(name);
    let request: Value = serde_json::from_str(&read("message.sync.b/request.json")).expect("JSON");
    assert_eq!(request["op"], "message.encode");
    assert_eq!(request["input"]["value"]["length"], 2);
    let answer: Value = serde_json::from_str(&read("message.sync.b/answer.json")).expect("JSON");
    assert_eq!(answer["ok"]["bytes"], "01010203");
    assert_eq!(
        read("message.sync.b/rerun.txt"),
        "hypercore-conformance run --id message.sync.b\n"
    );
    assert!(read("message.sync.b/failure.txt").contains("byte 2 of 4: sync.length"));
    let decoded = read("message.sync.c/decoded.txt");
    assert!(decoded.contains("remoteLength"), "{decoded}");
    assert_eq!(read("message.sync.c/script.jsonl").lines().count(), 2);
    assert!(!bundle.join("message.sync.d").exists(), "it is listed");
    // Existing files would look like failures of this run.
    let output = arguments(&[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains("the folder is not empty"),
        "{}",
        stderr(&output)
    );
    // Without a failure nothing is written.
    let none = elsewhere.path().join("none");
    let output = program(&[
        "run",
        "--in-process",
        "--id",
        "encoding.uint.decode.0",
        "--bundle",
        none.to_str().expect("a path"),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!none.exists());
}

#[test]
fn a_bundle_of_a_scenario_has_what_crossed_the_wire_and_can_be_read() {
    if let Err(missing) = hypercore_conformance::node::ensure_node_modules() {
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        println!("left out: {missing}");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = folder.path().join("bundle");
    let id =
        "live.handshake.both-ends-complete-the-handshake-and-agree-as-initiator-with-node-11.37.1";
    let mut arguments = vec![
        "check",
        "--id",
        id,
        "--bundle",
        bundle.to_str().expect("a path"),
    ];
    // The last byte of each of its events is wrong, beginning with the handshake's hash.
    arguments.extend(["--", PROGRAM, "adapter", "--broken", "off-at-the-end"]);
    let output = program(&arguments);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let read = |name: &str| std::fs::read_to_string(bundle.join(id).join(name)).expect(name);
    let transcript: Value =
        serde_json::from_str(&read("connection-0.transcript.json")).expect("JSON");
    let from = |who: &str| {
        let chunks = transcript["chunks"].as_array().expect("chunks").iter();
        chunks.filter(|chunk| chunk["from"] == who).count()
    };
    assert!(
        from("initiator") > 0 && from("responder") > 0,
        "{transcript}"
    );
    assert_eq!(
        transcript["initiator"]["key"].as_str().map(str::len),
        Some(64)
    );
    let decoded = read("connection-0.decoded.txt");
    for part in ["Noise handshake", "stream id", "initiator", "responder"] {
        assert!(decoded.contains(part), "{part}: {decoded}");
    }
    assert!(!decoded.contains("secretstream ("), "{decoded}");
    assert!(read("node.log").contains("peer."));
    assert!(read("implementation.log").contains("event {"));
    assert!(read("failure.txt").contains("rerun"));
}
