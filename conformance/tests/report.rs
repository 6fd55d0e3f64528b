//! Report files: validation against the schema, merging, and rejection of bad ones.

use std::path::Path;
use std::process::{Command, Output};

use hypercore_conformance::vectors::lint::compile;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hypercore-conformance");

fn program(arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .env_remove("CARGO")
        .env_remove("CI")
        .output()
        .expect("the program")
}

fn told(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    text.concat()
}

fn validator() -> jsonschema::Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/report.schema.json");
    let text = std::fs::read_to_string(path).expect("the schema");
    compile(&serde_json::from_str(&text).expect("JSON")).expect("a schema")
}

/// Files in a new folder.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> String {
        self.0
            .path()
            .join(name)
            .to_str()
            .expect("a path")
            .to_owned()
    }

    fn read(&self, name: &str) -> Value {
        let text = std::fs::read_to_string(self.path(name)).expect("a file");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Runs the reference with a fault on some cases, and returns the path of its report.
    fn run(&self, broken: Option<&str>, name: &str, more: &[&str]) -> String {
        let report = self.path(name);
        let mut adapter = format!("'{PROGRAM}' adapter");
        if let Some(broken) = broken {
            adapter += &format!(" --broken {broken}");
        }
        let fixed = ["run", "--no-live", "--adapter", &adapter, "--json", &report];
        let output = program(&[&fixed, more].concat());
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "{}",
            told(&output)
        );
        report
    }
}

#[test]
fn reports_are_what_the_schema_says() {
    let schema = validator();
    let files = Files::new();
    let expected = files.path("expected.toml");
    let entries = "[[expected]]\nid = \"message.want.encode.*\"\nreason = \"r\"\nlink = \"l\"\n\n\
                   [[flaky]]\nid = \"message.want.decode.*\"\nreason = \"r\"\nlink = \"l\"\n";
    std::fs::write(&expected, entries).expect("a file");
    let mut reports = Vec::new();
    for (broken, ids) in [
        (None, "*.sync.*"),
        (Some("off-by-one"), "*.sync.*"),
        (Some("always-ok"), "*.sync.*"),
        (Some("always-error"), "*.sync.*"),
        (Some("wrong-class"), "*.sync.*"),
        (Some("unsupported"), "*.sync.*"),
        (Some("crash"), "message.sync.decode.*"),
        (Some("non-json"), "message.sync.decode.*"),
        (Some("wrong-id"), "message.sync.decode.*"),
        (Some("bad-hello"), "message.sync.decode.*"),
    ] {
        let name = format!("{}.json", broken.unwrap_or("none"));
        reports.push(files.run(broken, &name, &["--id", ids]));
    }
    let listed = ["--id", "message.want.*", "--expected", &expected];
    reports.push(files.run(Some("off-by-one"), "listed.json", &listed));
    let mut arguments: Vec<String> = vec!["merge".into()];
    for (at, report) in reports.iter().enumerate() {
        let report_of = |path: &str| {
            let text = std::fs::read_to_string(path).expect("a file");
            serde_json::from_str::<Value>(&text).expect("JSON")
        };
        let report = (report, report_of(report));
        let faults: Vec<String> = schema
            .iter_errors(&report.1)
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
        assert!(faults.is_empty(), "{}: {faults:#?}", report.0);
        arguments.push(format!("of {at}={}", report.0));
    }
    let merged = files.path("merged.json");
    arguments.extend(["--json".into(), merged]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = program(&arguments);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let merged = files.read("merged.json");
    assert!(schema.is_valid(&merged));
    let columns = merged["columns"].as_array().expect("columns");
    assert_eq!(columns.len(), reports.len());
    // All verdicts that can occur here do.
    let verdicts = |name: &str| {
        columns
            .iter()
            .filter_map(|column| column["verdicts"][name].as_u64())
            .sum::<u64>()
    };
    for name in ["ok", "nonStrict", "failed", "expectedFailure", "flaky"] {
        assert!(verdicts(name) > 0, "{name}");
    }
}

#[test]
fn the_schema_refuses_what_it_does_not_know() {
    let schema = validator();
    let files = Files::new();
    files.run(
        Some("off-by-one"),
        "a.json",
        &["--id", "message.sync.encode.*"],
    );
    let report = files.read("a.json");
    assert!(schema.is_valid(&report));
    let failed = report["checks"].as_array().and_then(|checks| {
        checks
            .iter()
            .position(|check| check["differences"][0]["firstByte"].is_u64())
    });
    let check = format!("/checks/{}", failed.expect("a failure with bytes"));
    for (pointer, value) in [
        ("/extra".to_owned(), json!(1)),
        ("/format".to_owned(), json!(2)),
        ("/columns".to_owned(), json!([])),
        ("/suite/extra".to_owned(), json!(1)),
        ("/implementation/extra".to_owned(), json!(1)),
        ("/implementation/live".to_owned(), json!("yes")),
        ("/verdicts/extra".to_owned(), json!(1)),
        ("/verdicts/ok".to_owned(), json!(-1)),
        ("/layers/0/extra".to_owned(), json!(1)),
        ("/leftOut".to_owned(), json!([1])),
        ("/seconds".to_owned(), json!(-1)),
        ("/unavailable".to_owned(), Value::Null),
        (format!("{check}/extra"), json!(1)),
        (format!("{check}/kind"), json!("other")),
        (format!("{check}/verdict"), json!("fine")),
        (format!("{check}/result"), json!("maybe")),
        (format!("{check}/id"), Value::Null),
        (format!("{check}/actual"), json!({ "ok": 1, "error": {} })),
        (
            format!("{check}/actual"),
            json!({ "failure": "sulks", "message": "" }),
        ),
        (format!("{check}/expected"), json!({})),
        (format!("{check}/node"), json!({ "outcome": "explodes" })),
        (format!("{check}/differences/0/extra"), json!(1)),
        (format!("{check}/differences/0/firstByte"), json!(-1)),
    ] {
        let mut changed = report.clone();
        let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
        let parent = changed.pointer_mut(parent).and_then(Value::as_object_mut);
        parent
            .expect(&pointer)
            .insert(field.to_owned(), value.clone());
        assert!(!schema.is_valid(&changed), "{pointer} = {value} was taken");
    }
    for field in [
        "format",
        "suite",
        "implementation",
        "checks",
        "verdicts",
        "leftOut",
    ] {
        let mut changed = report.clone();
        changed.as_object_mut().expect("an object").remove(field);
        assert!(!schema.is_valid(&changed), "{field} was not missed");
    }
}

#[test]
fn shards_become_one_column_and_a_page() {
    let files = Files::new();
    let one = files.run(None, "one.json", &["--id", "message.sync.*"]);
    let two = files.run(None, "two.json", &["--id", "message.want.*"]);
    let (json, html) = (files.path("all.json"), files.path("all.html"));
    let output = program(&["merge", &two, &one, "--json", &json, "--html", &html]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(told(&output).starts_with("PASSED "), "{}", told(&output));
    let checks = |name: &str| files.read(name)["checks"].as_array().map_or(0, Vec::len);
    // The checks of the adapter itself are in both, and count once.
    assert_eq!(
        checks("all.json"),
        checks("one.json") + checks("two.json") - 6
    );
    let page = std::fs::read_to_string(&html).expect("a page");
    assert!(page.contains("PASSED"));
    assert!(page.contains("message.want.") || page.contains("\"want\""));
    // In another order the result is the same, except for the time.
    let again = files.path("again.json");
    program(&["merge", &one, &two, "--json", &again]);
    let (mut all, mut again) = (files.read("all.json"), files.read("again.json"));
    for report in [&mut all, &mut again] {
        report["checks"]
            .as_array_mut()
            .expect("checks")
            .retain(|check| check["kind"] != "adapter");
        report["seconds"] = Value::Null;
    }
    assert_eq!(all, again);
}

#[test]
fn what_cannot_be_merged_is_told() {
    let files = Files::new();
    let report = files.run(None, "a.json", &["--id", "message.sync.encode.*"]);
    let refused = |arguments: &[&str], code: i32, words: &str| {
        let output = program(&[&["merge"], arguments].concat());
        let text = told(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(words), "{text}");
    };
    refused(&[], 2, "[NAME=]REPORT.json");
    refused(&["missing.json"], 3, "missing.json");
    refused(
        &[&report, &report],
        2,
        "is there twice; name the reports apart",
    );
    let broken = files.path("broken.json");
    std::fs::write(&broken, "{}").expect("a file");
    refused(&[&broken], 2, "broken.json: not a report of format 1");
    let nowhere = files.path("no/such/folder.html");
    refused(&[&report, "--html", &nowhere], 3, "folder.html");
    let named = [&format!("before={report}"), &format!("after={report}")];
    let html = files.path("both.html");
    let output = program(&["merge", named[0], named[1], "--html", &html]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let page = std::fs::read_to_string(&html).expect("a page");
    assert!(page.contains("href=\"#before/message\"") && page.contains("href=\"#after/message\""));
}
