//! The specification and the vectors themselves: every example holds, every file is valid under the schema, every
//! clause is tested, and the generated parts are up to date.

use std::path::{Path, PathBuf};

use hypercore_conformance::adapter::Outcome;
use hypercore_conformance::coverage;
use hypercore_conformance::reference::Reference;
use hypercore_conformance::vectors::lint::check_vectors;
use hypercore_conformance::vectors::spec::Specification;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors")
}

#[test]
fn every_example_of_the_specification_holds() {
    let spec =
        Specification::load(&vectors()).unwrap_or_else(|faults| panic!("{}", faults.join("\n")));
    assert!(spec.clauses.len() > 150);
    assert!(spec.examples.len() > 35);
    let mut reference = Reference::new();
    for example in &spec.examples {
        let outcome = reference.call(&example.op, &example.input);
        assert_eq!(
            outcome,
            Outcome::Ok(example.ok.clone()),
            "{}: {} {}",
            example.clause,
            example.op,
            example.input
        );
    }
}

#[test]
fn the_vectors_are_what_the_schema_says() {
    let checked =
        check_vectors(&vectors()).unwrap_or_else(|faults| panic!("{}", faults.join("\n")));
    assert!(checked.cases >= coverage::MIN_CASES);
}

#[test]
fn every_clause_is_tested_and_the_table_says_where() {
    let folder = vectors();
    let features = coverage::features_folder(&folder);
    if let Err(faults) = coverage::run(&folder, &features, true) {
        panic!("{}", faults.join("\n"));
    }
}

/// `.ci/mutants` breaks the code at these places, and shows that the vectors notice: a place that no longer exists
/// shows nothing.
#[test]
fn every_mutant_still_finds_its_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join(".ci/mutants.json")).expect("the mutants");
    let mutants: Vec<serde_json::Value> = serde_json::from_str(&text).expect("a list");
    let mut stale = Vec::new();
    let mut names = std::collections::BTreeSet::new();
    for mutant in &mutants {
        let field = |name: &str| mutant[name].as_str().expect(name);
        let code = std::fs::read_to_string(root.join(field("file"))).unwrap_or_default();
        let times = code.matches(field("find")).count();
        if times != 1 || field("find") == field("replace") {
            stale.push(format!(
                "{}: found {times} times in {}",
                field("name"),
                field("file")
            ));
        }
        assert!(names.insert(field("name")), "twice: {}", field("name"));
    }
    assert!(mutants.len() >= 38);
    assert!(stale.is_empty(), "{}", stale.join("\n"));
}
