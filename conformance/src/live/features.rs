//! The features, and how a scenario becomes one check for each role and release.
//!
//! A scenario with the tag `PERMUTED` is written once, with `<role>` and `<release>` in its steps. Each row of its
//! examples, or the scenario itself if it has none, runs in every role and with every pinned release; a table that
//! already has one of these columns is permuted over the other alone.

use std::path::{Path, PathBuf};

use cucumber::feature::Ext as _;
use cucumber::gherkin::{Examples, Feature, GherkinEnv, ParseFileError, Scenario, Table};
use cucumber::{Parser, cli, parser};
use futures::stream;

use crate::node;

/// The tag of scenarios that run in every role and with every pinned release.
const PERMUTED: &str = "every-role-and-release";

/// The columns that such a scenario may leave out, the slowest-changing first.
const COLUMNS: [(&str, &[&str]); 2] = [
    ("release", &node::RELEASES),
    ("role", &["initiator", "responder"]),
];

/// The suffix for the names of such scenarios, so that the names of checks differ.
const SUFFIX: &str = ", as <role> with Node <release>";

/// The features of a folder, by path.
///
/// # Errors
/// If the folder can't be read.
pub fn paths(folder: &Path) -> Result<Vec<PathBuf>, ParseFileError> {
    let fault = |source| ParseFileError::Reading {
        path: folder.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        if path.extension().is_some_and(|ext| ext == "feature") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Reads a feature with its permuted examples, not yet expanded into scenarios.
///
/// # Errors
/// If it can't be read.
pub fn outlines(path: &Path) -> Result<Feature, ParseFileError> {
    let mut feature = Feature::parse_path(path, GherkinEnv::default())?;
    permute(&mut feature);
    Ok(feature)
}

/// Reads a feature: a scenario for each row of examples.
///
/// # Errors
/// If it can't be read, or a step names a column that the examples don't have.
pub(super) fn scenarios(path: &Path) -> parser::Result<Feature> {
    let mut feature = Feature::parse_path(path, GherkinEnv::default())?;
    let mut expanded = Vec::new();
    for scenario in std::mem::take(&mut feature.scenarios) {
        let (is_permuted, position) = (is_permuted(&scenario), scenario.position);
        let mut alone = feature.clone();
        alone.scenarios = vec![scenario];
        permute(&mut alone);
        for mut scenario in alone.expand_examples()?.scenarios {
            if is_permuted {
                // Most of the rows have no line in the file.
                scenario.position = position;
            }
            expanded.push(scenario);
        }
    }
    feature.scenarios = expanded;
    Ok(feature)
}

/// Feeds the features of a folder to cucumber.
#[derive(Clone, Copy, Debug)]
pub(super) struct Features;

impl Parser<PathBuf> for Features {
    type Cli = cli::Empty;
    type Output = stream::Iter<std::vec::IntoIter<parser::Result<Feature>>>;

    fn parse(self, folder: PathBuf, _: cli::Empty) -> Self::Output {
        let features = match paths(&folder) {
            Ok(paths) => paths.iter().map(|path| scenarios(path)).collect(),
            Err(error) => vec![Err(error.into())],
        };
        stream::iter(features)
    }
}

fn is_permuted(scenario: &Scenario) -> bool {
    scenario.tags.iter().any(|tag| tag == PERMUTED)
}

fn permute(feature: &mut Feature) {
    let in_rules = feature
        .rules
        .iter_mut()
        .flat_map(|rule| &mut rule.scenarios);
    let scenarios = feature.scenarios.iter_mut().chain(in_rules);
    for scenario in scenarios.filter(|scenario| is_permuted(scenario)) {
        scenario.tags.retain(|tag| tag != PERMUTED);
        scenario.name.push_str(SUFFIX);
        if scenario.examples.is_empty() {
            scenario.examples.push(Examples {
                keyword: "Examples".into(),
                name: None,
                description: None,
                table: Some(Table {
                    // No columns, and one row.
                    rows: vec![Vec::new(), Vec::new()],
                    span: scenario.span,
                    position: scenario.position,
                }),
                tags: Vec::new(),
                span: scenario.span,
                position: scenario.position,
            });
        }
        let examples = scenario.examples.iter_mut();
        for table in examples.filter_map(|examples| examples.table.as_mut()) {
            table.rows = permuted(&table.rows);
        }
    }
}

/// The rows of a table, its header first, with the missing columns added.
fn permuted(rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let Some((header, rows)) = rows.split_first() else {
        return Vec::new();
    };
    let (mut header, mut rows) = (header.clone(), rows.to_vec());
    for (column, values) in COLUMNS {
        if header.iter().any(|own| own == column) {
            continue;
        }
        header.push(column.to_owned());
        let with = |row: &Vec<String>, value: &str| [row.as_slice(), &[value.to_owned()]].concat();
        rows = rows
            .iter()
            .flat_map(|row| values.iter().map(move |value| with(row, value)))
            .collect();
    }
    rows.insert(0, header);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(table: &[&[&str]]) -> Vec<String> {
        let owned = |row: &&[&str]| row.iter().map(|&cell| cell.to_owned()).collect();
        let table: Vec<Vec<String>> = table.iter().map(owned).collect();
        let permuted = permuted(&table);
        permuted.iter().map(|row| row.join(" ")).collect()
    }

    #[test]
    fn each_row_is_permuted_over_the_columns_that_it_lacks() {
        let all = [
            "release role",
            "10.38.2 initiator",
            "10.38.2 responder",
            "11.37.1 initiator",
            "11.37.1 responder",
        ];
        assert_eq!(rows(&[&[], &[]]), all);
        assert_eq!(
            rows(&[&["byte"], &["1"], &["2"]])[4..6],
            ["1 11.37.1 responder", "2 10.38.2 initiator"]
        );
        assert_eq!(
            rows(&[&["role"], &["initiator"]]),
            ["role release", "initiator 10.38.2", "initiator 11.37.1"]
        );
        assert_eq!(
            rows(&[&["release", "role"], &["9", "any"]]),
            ["release role", "9 any"]
        );
    }

    #[test]
    fn a_permuted_scenario_is_told_apart_by_its_name_and_stands_where_it_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("toy.feature");
        let text = "Feature: Toy\n\n  @every-role-and-release @FLOW-1\n  Scenario: A toy\n    Given the <role> of <release>\n\n  \
             Scenario: Another\n    Given nothing\n";
        std::fs::write(&path, text).expect("written");
        let feature = scenarios(&path).expect("a feature");
        let names: Vec<&str> = feature
            .scenarios
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "A toy, as initiator with Node 10.38.2",
                "A toy, as responder with Node 10.38.2",
                "A toy, as initiator with Node 11.37.1",
                "A toy, as responder with Node 11.37.1",
                "Another",
            ]
        );
        let first = &feature.scenarios[0];
        assert_eq!(first.steps[0].value, "the initiator of 10.38.2");
        assert_eq!(
            (first.tags.join(" "), first.position.line),
            ("FLOW-1".into(), 4)
        );
        let outlines = outlines(&path).expect("a feature");
        assert_eq!(
            outlines.scenarios[0].name,
            "A toy, as <role> with Node <release>"
        );
        let table = outlines.scenarios[0].examples[0].table.as_ref();
        assert_eq!(table.map(|table| table.rows.len()), Some(5));
    }
}
