//! The scripted peer on the reference implementation and on faulty ones; no Node is needed here, since its reactions
//! are recorded.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use hypercore_protocol::{Event, Protocol, ProtocolBuilder};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hypercore-conformance");

const KEY: [u8; 32] = [5; 32];

/// The results of a run: the exit code, and each check by its id.
fn run(adapter: &str, more: &[&str]) -> (Option<i32>, BTreeMap<String, Value>) {
    let folder = tempfile::tempdir().expect("a folder");
    let report = folder.path().join("report.json");
    let output = Command::new(PROGRAM)
        .args([
            "run",
            "--adapter",
            &format!("'{PROGRAM}' {adapter}"),
            "--json",
        ])
        .arg(&report)
        .args(more)
        .output()
        .expect("the program");
    let text = std::fs::read(&report).unwrap_or_else(|_| panic!("{output:?}"));
    let report: Value = serde_json::from_slice(&text).expect("JSON");
    let schema = serde_json::from_str(include_str!("../schema/report.schema.json"));
    let schema: Value = schema.expect("a schema");
    jsonschema::validate(&schema, &report).expect("a report as the schema says");
    let checks = report["checks"].as_array().cloned().unwrap_or_default();
    let checks = checks
        .into_iter()
        .filter(|check| check["kind"] != "adapter")
        .map(|check| (check["id"].as_str().unwrap_or_default().to_owned(), check));
    (output.status.code(), checks.collect())
}

#[test]
fn the_reference_reacts_as_node_does() {
    let (code, checks) = run("adapter", &["--layer", "deviation", "--layer", "script"]);
    let told = |verdict: &str| {
        let had = checks
            .iter()
            .filter(|(_, check)| check["verdict"] == verdict);
        had.map(|(id, check)| format!("{id}: {}", check["reason"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(told("failed"), Vec::<String>::new());
    assert_eq!(code, Some(0));
    assert!(checks.len() > 260, "{}", checks.len());
    assert!(told("non-strict").len() <= 8, "{:#?}", told("non-strict"));
}

#[test]
fn an_implementation_that_lives_through_everything_fails_where_node_does_not() {
    let (code, checks) = run(
        "adapter --broken undying",
        &["--layer", "deviation", "--id", "deviation.*.initiator"],
    );
    assert_eq!(code, Some(1));
    let mut caught = 0;
    for (id, check) in &checks {
        if check["verdict"] == "failed" {
            caught += 1;
            assert!(
                check["reason"]
                    .as_str()
                    .is_some_and(|reason| !reason.is_empty()),
                "{id}"
            );
            // Everything needed to see why: the bytes both ways, the keys, and the records in words.
            let transcript = &check["transcript"];
            assert!(
                transcript["chunks"]
                    .as_array()
                    .is_some_and(|all| !all.is_empty()),
                "{id}"
            );
            assert!(
                transcript["trace"]
                    .as_array()
                    .is_some_and(|all| !all.is_empty()),
                "{id}"
            );
        }
    }
    assert!(caught > 60, "{caught}");
    let transcript = &checks["deviation.reused-channel-id.initiator"]["transcript"];
    let hash = transcript["keys"]["handshakeHash"].as_str();
    assert_eq!(hash.map(str::len), Some(128), "{transcript}");
    assert!(
        transcript["chunks"]
            .as_array()
            .is_some_and(|all| all.len() > 4),
        "{transcript}"
    );
    let trace = transcript["trace"].to_string();
    assert!(trace.contains("· open 1 B"), "{trace}");
    assert_eq!(checks["deviation.close-twice.initiator"]["verdict"], "ok");
}

#[test]
fn a_bundle_has_what_the_scripted_peer_and_the_adapter_did_and_saw() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = folder.path().join("bundle");
    let id = "deviation.reused-channel-id.initiator";
    let (code, _) = run(
        "adapter --broken undying",
        &["--id", id, "--bundle", bundle.to_str().expect("a path")],
    );
    assert_eq!(code, Some(1));
    let read = |name: &str| std::fs::read_to_string(bundle.join(id).join(name)).expect(name);
    assert!(read("script.txt").contains("open 1 B"));
    // Each end reports the same message.
    let (peer, implementation) = (read("peer.log"), read("implementation.log"));
    assert!(peer.contains("· open 1 B") && peer.contains("← "), "{peer}");
    assert!(
        implementation.contains("peer.dial {") && implementation.contains("event {"),
        "{implementation}"
    );
    let transcript: Value =
        serde_json::from_str(&read("connection-0.transcript.json")).expect("JSON");
    for from in ["initiator", "responder"] {
        assert_eq!(transcript[from]["key"].as_str().map(str::len), Some(64));
        let chunks = transcript["chunks"].as_array().expect("chunks").iter();
        assert!(chunks.filter(|chunk| chunk["from"] == from).count() > 2);
    }
    // The keys are the right way round, and the core keys are known.
    let decoded = read("connection-0.decoded.txt");
    assert!(decoded.contains("hypercore/alpha"), "{decoded}");
    assert!(!decoded.contains("secretstream ("), "{decoded}");
    assert!(read("failure.txt").contains("rerun"));
}

#[test]
fn what_the_scripted_peer_is_answered_is_held_against_the_schema() {
    let arguments = ["--id", "deviation.close-twice.initiator"];
    let (code, _) = run("adapter --broken extra-live", &arguments);
    assert_eq!(code, Some(0));
    let validated = [&arguments[..], &["--validate"]].concat();
    let (code, checks) = run("adapter --broken extra-live", &validated);
    assert_eq!(code, Some(1));
    let reason = checks["deviation.close-twice.initiator"]["reason"].to_string();
    assert!(reason.contains("not what the schema says"), "{reason}");
    let (code, _) = run("adapter", &validated);
    assert_eq!(code, Some(0));
}

#[test]
fn an_implementation_that_dies_of_everything_fails_where_node_lives() {
    let (code, checks) = run(
        "adapter --broken dying",
        &["--id", "deviation.close-*.responder"],
    );
    assert_eq!(code, Some(1));
    assert_eq!(checks.len(), 3);
    for (id, check) in &checks {
        // Each is followed by a fresh connection, which it reports as closed too.
        assert_eq!(check["verdict"], "failed", "{id}");
    }
    let reason = checks["deviation.close-twice.responder"]["reason"].to_string();
    assert!(reason.contains("closing: it"), "{reason}");
}

#[test]
fn a_crash_costs_what_met_it_and_nothing_hangs() {
    let only = ["--id", "deviation.close-twice.*", "--id", "script.batch.*"];
    let (code, checks) = run("adapter --broken crash", &only);
    assert_eq!(code, Some(1));
    assert_eq!(checks.len(), 4);
    for (id, check) in &checks {
        assert_eq!(check["verdict"], "failed", "{id}");
        let stderr = check["stderr"].as_str().unwrap_or_default();
        assert!(stderr.contains("broken on purpose"), "{id}: {check}");
    }
}

/// A program with a core, as an implementer might have running.
async fn program(stream: TcpStream, is_initiator: bool) {
    stream.set_nodelay(true).expect("a socket");
    let mut protocol: Protocol<_> = ProtocolBuilder::new(is_initiator).connect(stream);
    let mut channels = Vec::new();
    while let Some(Ok(event)) = protocol.next().await {
        match event {
            Event::Handshake(_) => drop(protocol.open(KEY)),
            Event::DiscoveryKey(other) => protocol.reject(&other),
            // A dropped channel is closed.
            Event::Channel(channel) => channels.push(channel),
            _ => {}
        }
    }
}

async fn misbehave(arguments: Vec<String>) -> Output {
    let command = tokio::process::Command::new(PROGRAM)
        .arg("misbehave")
        .args(arguments)
        .output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(60), command).await;
    output.expect("an end in time").expect("the program")
}

async fn at_a_listener(flag: &str, key: Option<[u8; 32]>) -> (Option<i32>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let running = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        program(stream, false).await;
    });
    let mut arguments = vec!["--flag".into(), flag.to_owned(), "--dial".into(), address];
    arguments.extend(
        key.iter()
            .flat_map(|key| ["--key".into(), hex::encode(key)]),
    );
    let output = misbehave(arguments).await;
    running.abort();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

#[tokio::test]
async fn one_deviation_can_be_pointed_at_a_running_program() {
    let (code, text) = at_a_listener("ReusedChannelId", Some(KEY)).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("closes the stream"), "{text}");
    assert!(
        text.contains("Node destroys the stream (mux, invalid-open)"),
        "{text}"
    );
    for flag in [
        "UnknownControlType",
        "GarbageHandshake",
        "HalfClose",
        "EndlessOpens",
        "WrongStreamId",
    ] {
        let (code, text) = at_a_listener(flag, Some(KEY)).await;
        assert_eq!(code, Some(0), "{flag}: {text}");
    }
    let (code, text) = at_a_listener("CloseTwice", None).await;
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("give the key"), "{text}");
    let (code, text) = at_a_listener("NoSuchThing", None).await;
    assert_eq!(code, Some(2), "{text}");
}

#[tokio::test]
async fn a_running_program_can_dial_the_peer_that_deviates() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let mut peer = tokio::process::Command::new(PROGRAM)
        .args(["misbehave", "--flag", "BadMac", "--listen", "localhost:0"])
        .args(["--key", &hex::encode(KEY)])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program");
    let mut lines = BufReader::new(peer.stdout.take().expect("stdout")).lines();
    let played = async {
        let first = lines.next_line().await.expect("a line").expect("a line");
        let address = first.strip_prefix("listening on ").expect("the address");
        let stream = TcpStream::connect(address).await.expect("a connection");
        let running = tokio::spawn(program(stream, true));
        let mut text = String::new();
        while let Some(line) = lines.next_line().await.expect("a line") {
            text.push_str(&line);
            text.push('\n');
        }
        running.abort();
        (peer.wait().await.expect("an end").code(), text)
    };
    let played = tokio::time::timeout(std::time::Duration::from_secs(60), played).await;
    let (code, text) = played.expect("an end in time");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("closes the stream"), "{text}");
}

#[test]
fn deviations_are_listed() {
    let output = Command::new(PROGRAM)
        .arg("deviations")
        .output()
        .expect("the program");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("ReusedChannelId") && text.contains("MUX-5"),
        "{text}"
    );
    let output = Command::new(PROGRAM)
        .args(["deviations", "--json", "BadMac"])
        .output()
        .expect("the program");
    let line: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(line["node"][0]["class"], "bad-mac");
}
