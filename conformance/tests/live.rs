//! The runner of the live scenarios must detect failures, and explain them. No Node is needed here.
#![cfg(unix)]

use std::sync::{Arc, Mutex};

use hypercore_conformance::adapter::AdapterCommand;
use hypercore_conformance::live::{self, LiveConfig, LiveSummary, ScenarioOutcome};

const CONNECTED: &str = "Given the implementation, as initiator, is connected to Node 11.37.1";

/// An adapter that answers the first request with this `hello`, and runs `then`.
fn adapter(live: bool, ops: &str, then: &str) -> AdapterCommand {
    let hello = format!(
        r#"{{"id":0,"ok":{{"protocol":1,"name":"toy","version":"1","language":"sh","release":null,"ops":[{ops}],"live":{live}}}}}"#
    );
    AdapterCommand::new(
        "sh",
        [
            "-c".to_owned(),
            format!("read line; echo '{hello}'; {then}"),
        ],
    )
}

async fn play(implementation: AdapterCommand, feature: &str) -> LiveSummary {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("toy.feature"), feature).expect("written");
    let node = adapter(true, "", "cat > /dev/null");
    let mut config = LiveConfig::new(implementation, node);
    config.features = folder.path().to_owned();
    let reported = Arc::<Mutex<Vec<String>>>::default();
    let seen = Arc::clone(&reported);
    let summary = live::run(
        config,
        |_| true,
        move |result| {
            seen.lock()
                .expect("a lock")
                .push(result.scenario.id.clone());
        },
    )
    .await;
    let ids: Vec<_> = summary
        .scenarios
        .iter()
        .map(|r| r.scenario.id.clone())
        .collect();
    assert_eq!(*reported.lock().expect("a lock"), ids);
    summary
}

fn feature(step: &str) -> String {
    format!("Feature: Toy\n\n  @FLOW-1 @other\n  Scenario: A toy\n    {step}\n")
}

#[tokio::test]
async fn a_step_that_nobody_wrote_fails() {
    let toy = adapter(true, "", "cat > /dev/null");
    let summary = play(toy, &feature("Given the moon is made of cheese")).await;
    let [result] = summary.scenarios.as_slice() else {
        panic!("{summary:?}");
    };
    assert_eq!(result.outcome, ScenarioOutcome::Failed);
    assert!(
        result.failure.contains("no step function matches"),
        "{}",
        result.failure
    );
    assert!(
        result.failure.contains("made of cheese"),
        "{}",
        result.failure
    );
    assert_eq!(result.scenario.id, "live.toy.a-toy");
    assert_eq!(result.scenario.clauses, ["FLOW-1"]);
    assert_eq!(result.scenario.tags, ["other"]);
}

#[tokio::test]
async fn what_was_not_declared_is_unsupported_and_not_passed() {
    for toy in [
        adapter(false, "", "cat > /dev/null"),
        adapter(true, r#""peer.next""#, "cat > /dev/null"),
    ] {
        let summary = play(toy, &feature(CONNECTED)).await;
        assert_eq!(
            summary.count(ScenarioOutcome::Unsupported),
            1,
            "{summary:?}"
        );
    }
}

#[tokio::test]
async fn an_adapter_that_dies_fails_the_scenario() {
    let ops = r#""peer.listen","peer.dial","peer.next","peer.stop""#;
    let toy = adapter(true, ops, "read line; exit 3");
    let feature = feature(&CONNECTED.replace("initiator", "responder"));
    let summary = play(toy, &feature).await;
    let [result] = summary.scenarios.as_slice() else {
        panic!("{summary:?}");
    };
    assert_eq!(result.outcome, ScenarioOutcome::Failed);
    assert!(
        result.failure.contains("exit status: 3"),
        "{}",
        result.failure
    );
}

#[tokio::test]
async fn a_feature_that_cannot_be_read_is_an_error() {
    let toy = adapter(true, "", "cat > /dev/null");
    let summary = play(toy, "This is no feature.\n").await;
    assert!(
        summary.scenarios.is_empty() && summary.errors.len() == 1,
        "{summary:?}"
    );
}
