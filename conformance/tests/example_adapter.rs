//! The example adapter and the page that explains it: the session shown there matches the example's answers, every line
//! is valid under the schema, and the example passes all cases of the operations that it declares.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hypercore_conformance::adapter::{Adapter, AdapterCommand, AdapterProcess};
use hypercore_conformance::run::verdict::{Verdict, judge};
use hypercore_conformance::vectors::lint::compile;
use hypercore_conformance::vectors::{expand, load};
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

// Python, or None if it is not installed; CI must have it.
fn python() -> Option<&'static str> {
    let found = ["python3", "python"].into_iter().find(|name| {
        let version = Command::new(name).arg("--version").output();
        version.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).starts_with("Python 3"))
    });
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "there is no Python 3");
        eprintln!("left out: there is no Python 3");
    }
    found
}

fn script() -> PathBuf {
    root().join("conformance/adapters/example.py")
}

fn schema() -> Value {
    let text = std::fs::read_to_string(root().join("vectors/schema/adapter.schema.json"));
    serde_json::from_str(&text.expect("the schema")).expect("JSON")
}

// The lines of the session in ADAPTER.md, as request and answer.
fn session() -> Vec<(Value, Value)> {
    let page = std::fs::read_to_string(root().join("conformance/ADAPTER.md")).expect("the page");
    let (_, rest) = page.split_once("```session\n").expect("a session");
    let (block, _) = rest.split_once("```").expect("its end");
    let lines: Vec<&str> = block.lines().collect();
    assert_eq!(lines.len() % 2, 0, "requests and answers take turns");
    let parse = |line: &str, mark: &str| {
        let text = line
            .strip_prefix(mark)
            .unwrap_or_else(|| panic!("{line} is not marked with {mark}"));
        serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{line}: {error}"))
    };
    lines
        .chunks(2)
        .map(|pair| (parse(pair[0], "> "), parse(pair[1], "< ")))
        .collect()
}

#[test]
fn the_session_on_the_page_is_what_the_schema_says() {
    let schema = schema();
    let whole = compile(&schema).expect("a schema");
    let part = |name: &str| {
        let mut part = schema.clone();
        let object = part.as_object_mut().expect("an object");
        object.remove("oneOf");
        object.insert("$ref".into(), json!(format!("#/$defs/{name}")));
        compile(&part).expect("a schema")
    };
    let session = session();
    assert!(session.len() >= 7);
    for (request, answer) in &session {
        assert!(whole.is_valid(request), "{request}");
        assert!(whole.is_valid(answer), "{answer}");
        if let Some(output) = answer.get("ok") {
            let op = request["op"].as_str().expect("an operation");
            assert!(part(&format!("output.{op}")).is_valid(output), "{answer}");
        }
    }
    for wrong in [
        json!({ "id": 1, "op": "frame.encode", "input": { "body": "0" } }),
        json!({ "id": 1, "op": "frame.encode", "input": { "body": "00", "more": 1 } }),
        json!({ "id": 1, "op": "peer.dial", "input": {} }),
        json!({ "id": 1, "ok": 1, "unsupported": true }),
        json!({ "id": 1, "unsupported": false }),
        json!({ "id": 1, "error": { "layer": "cellar", "class": "limit", "message": "" } }),
        json!({ "ok": 1 }),
    ] {
        assert!(!whole.is_valid(&wrong), "{wrong}");
    }
}

#[test]
fn the_example_answers_as_the_page_shows() {
    let Some(python) = python() else { return };
    let mut child = Command::new(python)
        .arg(script())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    for (request, answer) in session() {
        writeln!(stdin, "{request}").expect("written");
        let line = lines.next().expect("an answer").expect("a line");
        let actual: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(actual, answer, "to {request}");
    }
    drop(stdin);
    assert!(child.wait().expect("ends").success());
    let source = std::fs::read_to_string(script()).expect("the example");
    assert!(
        source.lines().count() < 100,
        "the example has outgrown the page"
    );
}

#[tokio::test]
async fn the_example_passes_the_cases_of_its_operations() {
    let Some(python) = python() else { return };
    let script = script().display().to_string();
    let mut adapter = AdapterProcess::new(AdapterCommand::new(python, [script]));
    let hello = adapter.hello().await.expect("introduces itself");
    assert_eq!(
        hello.ops,
        ["compact.decode", "frame.decode", "frame.encode"]
    );
    let mut passed = 0;
    for file in load(&root().join("vectors")).expect("loads") {
        for group in file.groups.iter().filter(|group| hello.knows(&group.op)) {
            for case in &group.cases {
                // A record of 16 MiB shows nothing more here, and takes long in a debug build.
                if case.input.to_string().contains("\"times\":") {
                    continue;
                }
                let input = expand(&case.input).expect("expands");
                let answer = adapter.call(&group.op, &input).await;
                let judgement = judge(
                    (case.result, &case.expect),
                    case.node.as_ref(),
                    false,
                    &answer,
                );
                let fine = matches!(judgement.verdict, Verdict::Ok | Verdict::NonStrict);
                assert!(fine, "{}: {judgement:?}", case.id);
                passed += 1;
            }
        }
    }
    adapter.shutdown().await.expect("exits by itself");
    assert!(passed > 300, "only {passed} cases");
}
