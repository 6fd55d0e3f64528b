//! What the vectors and the scenarios cover: the clauses of the specification, and every message type, control type,
//! manifest form and flag. Written to `vectors/COVERAGE.md`.

mod facts;
mod gather;
mod markdown;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::vectors::spec::Specification;
use crate::vectors::{self, VectorFile};
use facts::{PARTS, wanted};
use gather::{Count, Counted, count};

pub use gather::{Scenario, Scripted, scenarios, scripted};

/// The required number of cases.
pub const MIN_CASES: usize = 1_500;

/// The coverage, and its gaps.
#[derive(Clone, Debug)]
pub struct Coverage {
    /// The table, as Markdown.
    pub table: String,
    /// The gaps, one line each.
    pub faults: Vec<String>,
    /// The number of cases.
    pub cases: usize,
    /// The number of scenarios, each example counted.
    pub scenarios: usize,
    /// The number of conversations and deviations, each role counted.
    pub scripted: usize,
}

/// Measures the coverage and writes `COVERAGE.md` and the index of `SPECIFICATION.md`, or, with `check`, compares them
/// with what is there.
///
/// # Errors
/// The gaps, or the differences from the committed files, one line each.
pub fn run(folder: &Path, features: &Path, check: bool) -> Result<Coverage, Vec<String>> {
    let spec = Specification::load(folder)?;
    let files = vectors::load(folder).map_err(|error| vec![error.to_string()])?;
    let scenarios = scenarios(features).map_err(|error| vec![error])?;
    let scripted = scripted().map_err(|error| vec![error])?;
    let coverage = measure(&spec, &files, &scenarios, &scripted);
    let mut faults = coverage.faults.clone();
    let index = spec.with_index().map_err(|error| vec![error])?;
    for (name, text) in [
        ("SPECIFICATION.md", &index),
        ("COVERAGE.md", &coverage.table),
    ] {
        let path = folder.join(name);
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        if kept == *text {
            continue;
        }
        if check {
            faults.push(format!(
                "{} is out of date: run `hypercore-conformance coverage`",
                path.display()
            ));
        } else if let Err(error) = std::fs::write(&path, text) {
            faults.push(format!("{}: {error}", path.display()));
        }
    }
    if faults.is_empty() {
        Ok(coverage)
    } else {
        Err(faults)
    }
}

/// The folder of the features that belong to a folder of vectors: its sibling.
pub fn features_folder(vectors: &Path) -> PathBuf {
    vectors.parent().unwrap_or(vectors).join("features")
}

/// Measures the coverage of `files`, `scenarios` and the scripted peer.
pub fn measure(
    spec: &Specification,
    files: &[VectorFile],
    scenarios: &[Scenario],
    scripted: &[Scripted],
) -> Coverage {
    let counted = count(spec, files, scenarios, scripted);
    let mut faults = counted.faults.clone();
    faults.extend(missing(&counted, spec, scenarios, scripted));
    Coverage {
        table: markdown::page(&counted, files.len(), spec, scenarios, scripted),
        faults,
        cases: counted.all.total(),
        scenarios: scenarios.iter().map(|scenario| scenario.runs).sum(),
        scripted: scripted.len(),
    }
}

/// Facts that are not covered, or not enough.
fn missing(
    counted: &Counted<'_>,
    spec: &Specification,
    scenarios: &[Scenario],
    scripted: &[Scripted],
) -> Vec<String> {
    let mut faults = Vec::new();
    let Count { invalid, .. } = counted.all;
    let all = counted.all.total();
    if all < MIN_CASES {
        faults.push(format!("{all} cases, of at least {MIN_CASES}"));
    }
    if invalid * 3 < all {
        faults.push(format!(
            "{invalid} of {all} cases are invalid, less than a third"
        ));
    }
    for clause in &spec.clauses {
        let id = &clause.id;
        let is_tested = counted.by_clause.contains_key(id.as_str())
            || scenarios
                .iter()
                .any(|one| one.runs > 0 && one.clauses.contains(id))
            || scripted.iter().any(|one| one.clauses.contains(id));
        match (clause.is_checked, is_tested) {
            (true, false) => faults.push(format!("{id}: nothing tests it")),
            (false, true) => faults.push(format!("{id}: is tested, and says \"no check\"")),
            _ => {}
        }
    }
    for (title, wanted) in wanted() {
        let absent = wanted
            .iter()
            .filter(|fact| !counted.by_fact.contains_key(*fact));
        faults.extend(absent.map(|fact| format!("{title}: {fact}: no case")));
    }
    for (name, fields) in PARTS {
        let (seen, all) = (combinations_seen(name, &counted.by_fact), 1 << fields.len());
        if seen < all {
            faults.push(format!("{name}: {seen} of {all} combinations of its flags"));
        }
    }
    faults
}

/// How many combinations of a message's optional parts occur in valid cases.
fn combinations_seen(message: &str, by_fact: &BTreeMap<String, Count>) -> usize {
    let prefix = format!("combination {message} ");
    let seen = by_fact
        .iter()
        .filter(|(fact, count)| fact.starts_with(&prefix) && count.valid > 0);
    seen.count()
}
