//! Gathers the cases, scenarios and scripted checks to count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cucumber::gherkin::Feature;

use super::facts::{facts, refusal};
use crate::live::features;
use crate::scripted;
use crate::vectors::spec::{Specification, is_clause_id};
use crate::vectors::{Case, Expectation, VectorFile};

/// One scenario of a feature, with all its examples.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scenario {
    /// The feature's file, relative to its folder.
    pub file: String,
    /// Its name.
    pub name: String,
    /// The clauses that its tags, or those of its rule or feature, name.
    pub clauses: BTreeSet<String>,
    /// The number of runs: the rows of its examples, or 1.
    pub runs: usize,
}

/// A conversation or a deviation of the scripted peer, in one role.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scripted {
    /// The id of its check.
    pub id: String,
    /// `script`, or `deviation` and its family.
    pub kind: String,
    /// The clauses that it names.
    pub clauses: Vec<String>,
}

/// Reads the scenarios of all features in a folder, in the order of their paths.
///
/// # Errors
/// If a feature can't be parsed. A folder that isn't there has none.
pub fn scenarios(folder: &Path) -> Result<Vec<Scenario>, String> {
    // Vectors may be used without the features.
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut out = Vec::new();
    for path in features::paths(folder).map_err(|error| error.to_string())? {
        let feature =
            features::outlines(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let file = path
            .strip_prefix(folder)
            .unwrap_or(&path)
            .display()
            .to_string();
        out.extend(scenarios_of(&feature, &file));
    }
    Ok(out)
}

pub(super) fn scenarios_of(feature: &Feature, file: &str) -> Vec<Scenario> {
    let plain = feature.scenarios.iter().map(|scenario| (None, scenario));
    let ruled = feature.rules.iter().flat_map(|rule| {
        rule.scenarios
            .iter()
            .map(move |scenario| (Some(rule), scenario))
    });
    plain
        .chain(ruled)
        .map(|(rule, scenario)| {
            let examples = &scenario.examples;
            let tags = feature
                .tags
                .iter()
                .chain(rule.iter().flat_map(|rule| &rule.tags))
                .chain(&scenario.tags)
                .chain(examples.iter().flat_map(|examples| &examples.tags));
            let rows = examples
                .iter()
                .filter_map(|examples| examples.table.as_ref())
                .map(|table| table.rows.len().saturating_sub(1))
                .sum::<usize>();
            Scenario {
                file: file.to_owned(),
                name: scenario.name.clone(),
                clauses: tags
                    .map(|tag| tag.trim_start_matches('@'))
                    .filter(|tag| is_clause_id(tag))
                    .map(str::to_owned)
                    .collect(),
                runs: if examples.is_empty() { 1 } else { rows },
            }
        })
        .collect()
}

/// All checks of the scripted peer, in order.
///
/// # Errors
/// If one of its files is at fault.
pub fn scripted() -> Result<Vec<Scripted>, String> {
    let items = scripted::items()?;
    let scripted = items.iter().map(|item| Scripted {
        id: item.id(),
        kind: match item.family() {
            Some(family) => format!("{}, {family}", item.layer()),
            None => item.layer().to_owned(),
        },
        clauses: item.clauses().to_vec(),
    });
    Ok(scripted.collect())
}

/// Counts by result, and the first counted case.
#[derive(Clone, Debug, Default)]
pub(super) struct Count {
    pub(super) valid: usize,
    pub(super) invalid: usize,
    pub(super) acceptable: usize,
    pub(super) first: Option<String>,
}

impl Count {
    fn add(&mut self, case: &Case) {
        match case.result {
            Expectation::Valid => self.valid += 1,
            Expectation::Invalid => self.invalid += 1,
            Expectation::Acceptable => self.acceptable += 1,
        }
        self.first.get_or_insert_with(|| case.id.to_string());
    }

    pub(super) fn total(&self) -> usize {
        self.valid + self.invalid + self.acceptable
    }
}

/// All counts, by key.
#[derive(Clone, Debug, Default)]
pub(super) struct Counted<'a> {
    pub(super) all: Count,
    pub(super) by_layer: BTreeMap<&'a str, Count>,
    pub(super) by_op: BTreeMap<&'a str, Count>,
    pub(super) by_flag: BTreeMap<&'a str, Count>,
    pub(super) by_clause: BTreeMap<&'a str, Count>,
    pub(super) by_fact: BTreeMap<String, Count>,
    pub(super) by_refusal: BTreeMap<String, Count>,
    /// By Node's recorded outcome.
    pub(super) by_node: BTreeMap<&'a str, Count>,
    /// By the release that differs.
    pub(super) by_release: BTreeMap<&'a str, Count>,
    /// Checks that name no clause, or one that does not exist.
    pub(super) faults: Vec<String>,
}

/// Counts everything.
pub(super) fn count<'a>(
    spec: &Specification,
    files: &'a [VectorFile],
    scenarios: &[Scenario],
    scripted: &[Scripted],
) -> Counted<'a> {
    let mut counted = Counted::default();
    for file in files {
        for group in &file.groups {
            for case in &group.cases {
                counted.all.add(case);
                counted.by_layer.entry(&file.layer).or_default().add(case);
                counted.by_op.entry(&group.op).or_default().add(case);
                if case.clauses.is_empty() {
                    counted.faults.push(format!("{}: names no clause", case.id));
                }
                for clause in &case.clauses {
                    counted.by_clause.entry(clause).or_default().add(case);
                    if spec.clause(clause).is_none() {
                        counted
                            .faults
                            .push(format!("{}: there is no clause {clause}", case.id));
                    }
                }
                for flag in &case.flags {
                    counted.by_flag.entry(flag).or_default().add(case);
                }
                for fact in facts(&group.op, case) {
                    counted.by_fact.entry(fact).or_default().add(case);
                }
                if let Some(refusal) = refusal(case) {
                    counted.by_refusal.entry(refusal).or_default().add(case);
                }
                if let Some(node) = &case.node {
                    counted.by_node.entry(&node.outcome).or_default().add(case);
                }
                for release in case.releases.keys() {
                    counted.by_release.entry(release).or_default().add(case);
                }
            }
        }
    }
    for scenario in scenarios {
        let name = format!("{}: {}", scenario.file, scenario.name);
        if scenario.clauses.is_empty() {
            counted.faults.push(format!("{name}: names no clause"));
        }
        for clause in &scenario.clauses {
            if spec.clause(clause).is_none() {
                counted
                    .faults
                    .push(format!("{name}: there is no clause {clause}"));
            }
        }
    }
    for Scripted { id, clauses, .. } in scripted {
        if clauses.is_empty() {
            counted.faults.push(format!("{id}: names no clause"));
        }
        for clause in clauses {
            if spec.clause(clause).is_none() {
                counted
                    .faults
                    .push(format!("{id}: there is no clause {clause}"));
            }
        }
    }
    counted
}
