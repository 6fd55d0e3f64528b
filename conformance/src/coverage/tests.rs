use std::collections::BTreeSet;

use cucumber::gherkin::Feature;
use serde_json::{Value, json};

use super::facts::{manifest_facts, message_facts};
use super::gather::scenarios_of;
use super::*;

fn spec() -> Specification {
    let clause = |id: &str| {
        format!("### {id} — Title\n\n- Kind: normative\n- Source: here.\n- Releases: all.\n\n")
    };
    Specification::parse(format!("## 1. S\n\n{}{}", clause("ENC-1"), clause("ENC-2")))
        .expect("parses")
}

fn file(cases: &[(&str, &str, &str)]) -> VectorFile {
    let cases: Vec<Value> = cases
        .iter()
        .map(|(id, clause, result)| {
            json!({
                "id": id, "clauses": [clause], "comment": "c", "flags": [], "input": { "type": "uint", "bytes": "" },
                "result": result, "expect": {}, "node": null, "releases": {},
            })
        })
        .collect();
    serde_json::from_value(json!({
        "$schema": "s", "format": 1, "layer": "encoding", "subject": "uint", "description": "d",
        "generator": { "script": "s", "packages": {} }, "notes": {},
        "groups": [{ "name": "g", "description": "d", "op": "compact.decode", "cases": cases }],
    }))
    .expect("a file")
}

fn feature(text: &str) -> Vec<Scenario> {
    scenarios_of(
        &Feature::parse(text, cucumber::gherkin::GherkinEnv::default()).expect("parses"),
        "a.feature",
    )
}

const FEATURE: &str = "@ENC-1 @live\nFeature: F\n\n  Scenario: one\n    Given x\n\n  @ENC-2\n  Scenario Outline: two\n    Given <x>\n\n    \
    Examples:\n      | x |\n      | 1 |\n      | 2 |\n";

#[test]
fn counts_the_runs_of_scenarios_and_gathers_their_tags() {
    let scenarios = feature(FEATURE);
    assert_eq!(scenarios.len(), 2);
    assert_eq!((scenarios[0].runs, scenarios[1].runs), (1, 2));
    assert_eq!(scenarios[0].clauses, BTreeSet::from(["ENC-1".to_owned()]));
    assert_eq!(
        scenarios[1].clauses,
        BTreeSet::from(["ENC-1".to_owned(), "ENC-2".to_owned()])
    );
}

#[test]
fn a_clause_that_nothing_tests_is_a_fault() {
    let has = |coverage: &Coverage, fault: &str| coverage.faults.iter().any(|f| f == fault);
    let files = [file(&[("encoding.uint.a", "ENC-1", "valid")])];
    let coverage = measure(&spec(), &files, &[], &[]);
    assert!(!has(&coverage, "ENC-1: nothing tests it"));
    assert!(has(&coverage, "ENC-2: nothing tests it"));
    let coverage = measure(&spec(), &files, &feature(FEATURE), &[]);
    assert!(!has(&coverage, "ENC-2: nothing tests it"));
    assert!(
        coverage
            .table
            .contains("| ENC-2 | Title | 0 | 0 | 0 | 2 | 0 | a.feature: two |")
    );
}

#[test]
fn a_clause_that_needs_no_test_says_so_and_has_none() {
    let text = spec()
        .text()
        .replacen("- Kind: normative", "- Kind: normative, no check", 1);
    let spec = Specification::parse(text).expect("parses");
    let fault = "ENC-1: is tested, and says \"no check\"".to_owned();
    let coverage = measure(&spec, &[], &[], &[]);
    assert!(
        !coverage
            .faults
            .iter()
            .any(|fault| fault.starts_with("ENC-1"))
    );
    assert!(
        coverage
            .table
            .contains("| ENC-1 | Title | 0 | 0 | 0 | 0 | 0 | no check |")
    );
    let files = [file(&[("encoding.uint.a", "ENC-1", "valid")])];
    assert!(measure(&spec, &files, &[], &[]).faults.contains(&fault));
}

#[test]
fn what_the_scripted_peer_plays_counts_too() {
    let played = |clauses: &[&str]| Scripted {
        id: "deviation.odd.initiator".into(),
        kind: "deviation, mux".into(),
        clauses: clauses.iter().map(|&clause| clause.to_owned()).collect(),
    };
    let coverage = measure(&spec(), &[], &[], &[played(&["ENC-2"]), played(&["ENC-2"])]);
    let has = |fault: &str| coverage.faults.iter().any(|f| f == fault);
    assert!(has("ENC-1: nothing tests it") && !has("ENC-2: nothing tests it"));
    for row in [
        "| ENC-2 | Title | 0 | 0 | 0 | 0 | 2 | `deviation.odd.initiator` |",
        "| deviation, mux | 2 | ENC-2 |",
    ] {
        assert!(coverage.table.contains(row), "{}", coverage.table);
    }
    let faults = measure(&spec(), &[], &[], &[played(&[]), played(&["MUX-99"])]).faults;
    for fault in [
        "deviation.odd.initiator: names no clause",
        "deviation.odd.initiator: there is no clause MUX-99",
    ] {
        assert!(faults.iter().any(|f| f == fault), "{faults:#?}");
    }
}

#[test]
fn cases_and_scenarios_must_name_clauses_that_exist() {
    let files = [file(&[("encoding.uint.a", "ENC-9", "valid")])];
    let scenarios = feature(
        "Feature: F\n\n  Scenario: none\n    Given x\n\n  @MUX-99\n  Scenario: unknown\n    Given x\n",
    );
    let faults = measure(&spec(), &files, &scenarios, &[]).faults;
    for fault in [
        "encoding.uint.a: there is no clause ENC-9",
        "a.feature: none: names no clause",
        "a.feature: unknown: there is no clause MUX-99",
    ] {
        assert!(
            faults.iter().any(|f| f == fault),
            "{fault} not in {faults:#?}"
        );
    }
}

#[test]
fn too_few_cases_or_too_few_invalid_ones_are_faults() {
    let ids: Vec<String> = (0..MIN_CASES)
        .map(|n| format!("encoding.uint.n{n}"))
        .collect();
    let results = |invalid: usize| {
        ids.iter()
            .enumerate()
            .map(|(n, id)| {
                (
                    id.as_str(),
                    "ENC-1",
                    if n < invalid { "invalid" } else { "valid" },
                )
            })
            .collect::<Vec<_>>()
    };
    let faults = |cases: &[(&str, &str, &str)]| {
        let faults = measure(&spec(), &[file(cases)], &[], &[]).faults;
        let count = faults.iter().any(|f| f.contains("of at least"));
        let third = faults.iter().any(|f| f.contains("less than a third"));
        (count, third)
    };
    assert_eq!(faults(&results(500)), (false, false));
    assert_eq!(faults(&results(499)), (false, true));
    assert_eq!(faults(&results(1500)[1..]), (true, false));
}

#[test]
fn facts_tell_the_parts_of_messages_and_the_forms_of_manifests() {
    let mut out = BTreeSet::new();
    message_facts("noData", &json!({ "request": 1, "reason": 2 }), &mut out);
    message_facts(
        "range",
        &json!({ "drop": false, "start": 0, "length": 1 }),
        &mut out,
    );
    manifest_facts(
        &json!({ "version": 0, "allowPatch": false, "quorum": 1, "signers": [{}], "prologue": null }),
        &mut out,
    );
    manifest_facts(
        &json!({ "version": 0, "allowPatch": false, "quorum": 0, "signers": [], "prologue": {} }),
        &mut out,
    );
    manifest_facts(
        &json!({ "version": 3, "allowPatch": true, "quorum": 1, "signers": [{}, {}], "linked": [] }),
        &mut out,
    );
    for fact in [
        "noData: with reason",
        "noData: reason 2",
        "combination noData 1",
        "range: without drop",
        "range: with length 1",
        "combination range 01",
        "manifest 0: one signer",
        "manifest 0: prologue",
        "manifest 3: with allowPatch",
        "manifest 3: without prologue",
        "manifest 3: with linked",
        "manifest 3: many signers",
    ] {
        assert!(out.contains(fact), "{fact} not in {out:#?}");
    }
}

#[test]
fn a_stale_table_is_noticed_and_brought_up_to_date() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("vectors");
    std::fs::create_dir_all(folder.join("encoding")).expect("a folder");
    let text = "## 1. S\n\n### ENC-1 — T\n\n- Kind: normative\n- Source: here.\n- Releases: all.\n\n<!-- index: generated by `hypercore-conformance coverage` -->\n<!-- end of index -->\n";
    std::fs::write(folder.join("SPECIFICATION.md"), text).expect("written");
    let file = file(&[("encoding.uint.a", "ENC-1", "valid")]);
    let json = serde_json::to_string(&file).expect("JSON");
    std::fs::write(folder.join("encoding/uint.json"), json).expect("written");
    let stale = |check: bool| {
        run(&folder, &features_folder(&folder), check)
            .expect_err("far from all is covered")
            .into_iter()
            .filter(|fault| fault.contains("out of date"))
            .count()
    };
    assert_eq!(stale(true), 2);
    assert_eq!(stale(false), 0);
    assert_eq!(stale(true), 0);
}
