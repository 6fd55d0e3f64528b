//! The command line as its users meet it: exit codes, filters, what a failure looks like, and the files it writes.

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

/// A failure of each kind, in files of a folder of their own.
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
