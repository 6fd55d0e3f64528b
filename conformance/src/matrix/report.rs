//! A matrix as JSON, and merging of several.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::cell::{Cell, compare_with_node};
use super::gate::{Change, Judgement};
use super::plan::Shard;
use crate::foreign;
use crate::report::model::Suite;

/// The version of the format of matrix reports.
pub const FORMAT: u64 = 1;

/// Distinguishes these reports from those of a run.
pub const KIND: &str = "matrix";

/// The `asked` of a release that only the history needs.
pub(super) const BISECT: &str = "bisect";

/// A release of hypercore or a runtime, and whether it is available.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subject {
    /// The exact version of a release, or the name of a runtime; if not found, the requested spec.
    pub name: String,
    /// The requested spec: `latest`, `11`, `system`.
    pub asked: String,
    /// The exact version of a runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The packages that define a release's wire format, each with its version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<(String, String)>,
    /// Why it is unavailable, in npm's words or its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
    /// Whether the reason lies with this machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub environment: bool,
}

/// A whole matrix, or a shard of one.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MatrixReport {
    /// [`FORMAT`].
    pub format: u64,
    /// [`KIND`].
    pub kind: String,
    /// The suite that made it.
    pub suite: Suite,
    /// The set of releases, or `given` on the command line.
    pub set: String,
    /// Which share of all units it has.
    pub shard: Shard,
    /// A digest of all units and costs: only shards of the same plan make a whole.
    pub plan: String,
    /// The implementations, in the order of the columns.
    pub implementations: Vec<String>,
    /// The releases, oldest first.
    pub releases: Vec<Subject>,
    /// The runtimes.
    pub runtimes: Vec<Subject>,
    /// All releases that the registry serves, as of the last request.
    #[serde(default)]
    pub served: Vec<String>,
    /// How long it took.
    pub seconds: f64,
    /// The ids of all checks that passed anywhere, sorted: cells refer to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
    /// The cells, by id.
    pub cells: Vec<Cell>,
    /// The result of the gate.
    pub judgement: Judgement,
    /// The changes since the baseline, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<Change>>,
}

impl MatrixReport {
    /// The cells without those that were run only to find the release of a change on the wire.
    pub(super) fn asked_cells(&self) -> impl Iterator<Item = &Cell> {
        let asked = |cell: &&Cell| {
            let mut releases = self.releases.iter();
            let release = releases.find(|release| release.name == cell.id.release);
            release.is_none_or(|release| release.asked != BISECT)
        };
        self.cells.iter().filter(asked)
    }

    /// Reads a report.
    ///
    /// # Errors
    /// If the file can't be read, or is not such a report.
    pub fn read(path: &Path) -> Result<Self, String> {
        let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read(path).map_err(|error| fault(&error))?;
        Self::parse(&text).map_err(|error| fault(&error))
    }

    /// Whether a release or a runtime is unavailable for a reason of this machine: no registry, no space.
    pub fn lacks_something_here(&self) -> bool {
        let mut subjects = self.releases.iter().chain(&self.runtimes);
        subjects.any(|subject| subject.environment)
    }

    /// Parses a report from any bytes.
    ///
    /// # Errors
    /// If they are not a report of a matrix, or it is of another format or refers to checks that it does not hold.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut report: Self = serde_json::from_slice(text)
            .map_err(|error| format!("no report of a matrix: {error}"))?;
        if (report.format, report.kind.as_str()) != (FORMAT, KIND) {
            return Err(format!(
                "format {} of kind {} is not known here",
                report.format,
                foreign::short(&report.kind, foreign::MAX_NAME)
            ));
        }
        for cell in &mut report.cells {
            cell.passes = cell
                .passes
                .unpacked(&report.checks)
                .ok_or_else(|| format!("{} refers to checks that are not there", cell.id))?;
        }
        report.checks = Vec::new();
        Ok(report)
    }

    /// Merges reports. Shards have to be of the same plan, each present once; other reports may not share a cell.
    ///
    /// # Errors
    /// If they do not fit together.
    pub fn merge(reports: Vec<Self>) -> Result<Self, String> {
        let mut reports = reports.into_iter();
        let mut merged = reports.next().ok_or("there is nothing to merge")?;
        let mut shards = vec![(merged.plan.clone(), merged.shard)];
        for report in reports {
            shards.push((report.plan.clone(), report.shard));
            for name in report.implementations {
                if !merged.implementations.contains(&name) {
                    merged.implementations.push(name);
                }
            }
            add_subjects(&mut merged.releases, report.releases);
            add_subjects(&mut merged.runtimes, report.runtimes);
            merged.seconds += report.seconds;
            for cell in report.cells {
                if merged.cells.iter().any(|other| other.id == cell.id) {
                    return Err(format!("{} is in two reports", cell.id));
                }
                merged.cells.push(cell);
            }
            if report.set != merged.set {
                merged.set = "merged".into();
            }
        }
        check_shards(&shards)?;
        merged.shard = Shard::WHOLE;
        merged
            .releases
            .sort_by_cached_key(|subject| semver::Version::parse(&subject.name).ok());
        merged.cells.sort_by(|a, b| a.id.cmp(&b.id));
        merged.changes = None;
        compare_with_node(&mut merged.cells);
        Ok(merged)
    }

    /// The report as text.
    pub fn to_json(&self) -> String {
        let mut packed = self.clone();
        let ids = self.cells.iter().flat_map(|cell| cell.passes.ids());
        let ids: std::collections::BTreeSet<&String> = ids.collect();
        packed.checks = ids.into_iter().cloned().collect();
        for cell in &mut packed.cells {
            cell.passes = cell.passes.packed(&packed.checks);
        }
        // Serialising it cannot fail: its keys are strings.
        serde_json::to_string_pretty(&packed).unwrap_or_default() + "\n"
    }
}

fn add_subjects(all: &mut Vec<Subject>, more: Vec<Subject>) {
    for subject in more {
        match all.iter_mut().find(|other| other.name == subject.name) {
            // One shard may have what another could not get.
            Some(other) if other.unavailable.is_some() && subject.unavailable.is_none() => {
                *other = subject
            }
            Some(_) => {}
            None => all.push(subject),
        }
    }
}

/// Checks that each shard of a plan is present once.
fn check_shards(shards: &[(String, Shard)]) -> Result<(), String> {
    for (plan, shard) in shards {
        let same = shards.iter().filter(|(other, _)| other == plan);
        let mut indexes: Vec<usize> = same.clone().map(|(_, shard)| shard.index).collect();
        indexes.sort_unstable();
        if same.clone().any(|(_, other)| other.count != shard.count) {
            return Err(format!(
                "a plan is cut into {} shards and into others",
                shard.count
            ));
        }
        let expected: Vec<usize> = (1..=shard.count).collect();
        if indexes != expected {
            return Err(format!("of {} shards, there are {indexes:?}", shard.count));
        }
    }
    // Shards cut by different costs overlap or leave gaps.
    let mut counts = shards
        .iter()
        .filter(|(_, shard)| shard.count > 1)
        .map(|(plan, _)| plan);
    let first = counts.next();
    if counts.any(|plan| Some(plan) != first) {
        return Err(
            "the shards are of different plans: all have to be given the same releases and costs"
                .into(),
        );
    }
    Ok(())
}

/// A report of these cells, for tests.
#[cfg(test)]
pub(super) fn of_cells(cells: Vec<Cell>) -> MatrixReport {
    MatrixReport {
        format: FORMAT,
        kind: KIND.into(),
        suite: Suite::this(),
        set: "default".into(),
        shard: Shard::WHOLE,
        plan: String::new(),
        implementations: vec!["reference".into()],
        releases: vec![Subject {
            name: "1.0.0".into(),
            asked: "1.0.0".into(),
            ..Subject::default()
        }],
        runtimes: Vec::new(),
        served: Vec::new(),
        seconds: 1.0,
        checks: Vec::new(),
        cells,
        judgement: Judgement::default(),
        changes: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::{CellId, State};
    use super::*;

    fn report(plan: &str, shard: &str, cells: &[&str]) -> MatrixReport {
        let cell = |id: &&str| {
            let mut cell = Cell::new(CellId::try_from((*id).to_owned()).expect("an id"));
            cell.passed = 1;
            cell
        };
        MatrixReport {
            shard: shard.parse().expect("a shard"),
            plan: plan.into(),
            ..of_cells(cells.iter().map(cell).collect())
        }
    }

    const A: &str = "reference/1.0.0/node20/vectors";
    const B: &str = "reference/1.0.0/node20/live/initiator";

    #[test]
    fn shards_make_a_whole() {
        let merged = MatrixReport::merge(vec![report("p", "2/2", &[A]), report("p", "1/2", &[B])])
            .expect("a whole");
        assert_eq!(merged.cells.len(), 2);
        assert_eq!(merged.releases.len(), 1);
        assert_eq!(merged.shard, Shard::WHOLE);
        assert!(merged.cells.iter().all(|cell| cell.state == State::Passed));
        assert_eq!(
            serde_json::from_str::<MatrixReport>(&merged.to_json()).expect("JSON"),
            merged
        );
    }

    #[test]
    fn what_only_the_history_needs_is_no_row() {
        let mut report = report("p", "1/1", &[A, "node/1.1.0/node20/drift"]);
        let rows = |report: &MatrixReport| crate::matrix::render::table::rows(report).len();
        assert_eq!((report.asked_cells().count(), rows(&report)), (2, 2));
        report.releases.push(Subject {
            name: "1.1.0".into(),
            asked: BISECT.into(),
            ..Subject::default()
        });
        assert_eq!((report.asked_cells().count(), rows(&report)), (1, 1));
    }

    #[test]
    fn what_is_no_whole_is_refused() {
        let refused =
            |reports: Vec<MatrixReport>| MatrixReport::merge(reports).expect_err("no whole");
        assert!(refused(vec![report("p", "1/2", &[A])]).contains("of 2 shards"));
        assert!(
            refused(vec![report("p", "1/2", &[A]), report("q", "2/2", &[B])])
                .contains("of 2 shards")
        );
        assert!(
            refused(vec![report("p", "1/1", &[A]), report("q", "1/1", &[A])])
                .contains("two reports")
        );
        assert!(
            refused(vec![report("p", "1/2", &[A]), report("p", "1/2", &[B])])
                .contains("of 2 shards")
        );
    }
}
