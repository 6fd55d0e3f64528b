//! The specification and the vectors as such: every example holds, every file is what the schema says, every clause is
//! tested, and the generated parts are up to date.

use std::path::{Path, PathBuf};

use hypercore_conformance::adapter::Outcome;
use hypercore_conformance::check::check_vectors;
use hypercore_conformance::coverage;
use hypercore_conformance::reference::Reference;
use hypercore_conformance::spec::Specification;

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
