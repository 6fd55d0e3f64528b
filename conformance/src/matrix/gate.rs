//! Required cells, expected failures with their reasons, and changes since another report.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};

use super::cell::{Cell, CellId, State};

/// The committed rules: the default set, the cells that gate, and the expected failures.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Sets of releases and runtimes by name; `default` runs unless another is given.
    #[serde(default)]
    pub set: BTreeMap<String, Set>,
    /// Required cells.
    #[serde(default)]
    pub required: Vec<Required>,
    /// Expected failures.
    #[serde(default)]
    pub expected: Vec<Expected>,
}

/// Releases and runtimes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// The releases, each on the Node at hand.
    pub releases: Vec<String>,
    /// Other runtimes, as specs.
    #[serde(default)]
    pub runtimes: Vec<String>,
    /// The releases that run on each of these other runtimes.
    #[serde(default)]
    pub on_runtimes: Vec<String>,
}

/// Required cells.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Required {
    /// A glob on their ids; `*` stays within a word between slashes.
    pub cells: Pattern,
}

/// Expected failures.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// A glob on the cells.
    pub cells: Pattern,
    /// A glob on the checks.
    pub checks: Pattern,
    /// The reason, for readers of a red cell.
    pub reason: String,
    /// A link for details.
    #[serde(default)]
    pub link: Option<String>,
    /// Fails only sometimes: a pass is not reported.
    #[serde(default)]
    pub sometimes: bool,
}

/// A glob that keeps its source text.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern {
    text: String,
    matcher: GlobMatcher,
}

impl Pattern {
    /// Whether `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        self.matcher.is_match(text)
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let glob = GlobBuilder::new(&text)
            .literal_separator(true)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            matcher: glob.compile_matcher(),
            text,
        })
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.pad(&self.text)
    }
}

impl Rules {
    /// The committed rules.
    pub fn default_path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("matrix/required.toml")
    }

    /// The rules in `path`, with the committed sets for names that it lacks; without a path, the committed rules.
    ///
    /// # Errors
    /// As [`Rules::read`].
    pub fn of(path: Option<&Path>) -> Result<Self, String> {
        let committed = Self::read(&Self::default_path())?;
        let Some(path) = path else {
            return Ok(committed);
        };
        let mut rules = Self::read(path)?;
        for (name, set) in committed.set {
            rules.set.entry(name).or_insert(set);
        }
        Ok(rules)
    }

    /// Reads rules.
    ///
    /// # Errors
    /// If the file can't be read, is malformed, or an expected failure has no reason.
    pub fn read(path: &Path) -> Result<Self, String> {
        let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| fault(&error))?;
        let rules: Self = toml::from_str(&text).map_err(|error| fault(&error))?;
        match rules
            .expected
            .iter()
            .find(|entry| entry.reason.trim().is_empty())
        {
            Some(entry) => Err(fault(&format!("no reason for {}", entry.cells))),
            None => Ok(rules),
        }
    }
}

/// The result of the gate.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Judgement {
    /// Required cells that are not as required.
    pub regressions: Vec<CellId>,
    /// Expected failures that did not fail: the entry and the cell.
    pub passes: Vec<UnexpectedPass>,
    /// Required cells that were unavailable.
    pub missing: Vec<CellId>,
    /// Rules that match no cell of this run.
    pub idle: Vec<String>,
}

/// An expected failure that passed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnexpectedPass {
    /// The cell.
    pub cell: CellId,
    /// The glob on its checks.
    pub checks: String,
    /// Why it was expected to fail.
    pub reason: String,
}

/// Marks required cells and expected faults in `cells`, and judges them.
pub fn judge(rules: &Rules, cells: &mut [Cell]) -> Judgement {
    let mut judgement = Judgement::default();
    let mut used_required = vec![false; rules.required.len()];
    let mut used_expected = vec![false; rules.expected.len()];
    for cell in cells.iter_mut() {
        // A report that was read may have been judged by other rules.
        cell.required = false;
        cell.faults
            .iter_mut()
            .for_each(|fault| fault.expected = None);
        let id = cell.id.to_string();
        for (used, required) in used_required.iter_mut().zip(&rules.required) {
            if required.cells.matches(&id) {
                *used = true;
                cell.required = true;
            }
        }
        for (used, entry) in used_expected.iter_mut().zip(&rules.expected) {
            if !entry.cells.matches(&id) {
                continue;
            }
            *used = true;
            let mut failed = false;
            for fault in &mut cell.faults {
                if entry.checks.matches(&fault.id) {
                    failed = true;
                    fault.expected.get_or_insert_with(|| entry.reason.clone());
                }
            }
            let ran = !matches!(cell.state, State::Unavailable | State::Unsupported);
            if ran && !failed && !entry.sometimes {
                judgement.passes.push(UnexpectedPass {
                    cell: cell.id.clone(),
                    checks: entry.checks.to_string(),
                    reason: entry.reason.clone(),
                });
            }
        }
        if !cell.required {
            continue;
        }
        match cell.state {
            State::Passed | State::Limited => {}
            State::Unavailable => judgement.missing.push(cell.id.clone()),
            State::Failed | State::Drifted | State::Unsupported => {
                if cell.state == State::Unsupported || !cell.is_known() {
                    judgement.regressions.push(cell.id.clone());
                }
            }
        }
    }
    let idle_required = rules.required.iter().zip(&used_required);
    let idle_expected = rules.expected.iter().zip(&used_expected);
    let idle = idle_required
        .filter(|(_, used)| !**used)
        .map(|(entry, _)| format!("required: {}", entry.cells));
    let idle = idle.chain(
        idle_expected
            .filter(|(_, used)| !**used)
            .map(|(entry, _)| format!("expected: {}", entry.cells)),
    );
    judgement.idle = idle.collect();
    judgement
}

/// Known flaky failures removed, so that they do not count as changes.
pub fn settled(rules: &Rules, cells: &[Cell]) -> Vec<Cell> {
    let sometimes = |cell: &str, check: &str| {
        let mut entries = rules.expected.iter().filter(|entry| entry.sometimes);
        entries.any(|entry| entry.cells.matches(cell) && entry.checks.matches(check))
    };
    let mut cells = cells.to_vec();
    for cell in &mut cells {
        let id = cell.id.to_string();
        cell.faults.retain(|fault| !sometimes(&id, &fault.id));
        cell.settle();
    }
    cells
}

/// A difference between a cell and an earlier report.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Change {
    /// The cell.
    pub cell: CellId,
    /// Its earlier state, if it was there.
    pub before: Option<State>,
    /// Its state now, if it is there.
    pub now: Option<State>,
    /// Checks that fail now and did not before.
    pub failing: Vec<String>,
    /// Checks that failed before and do not now.
    pub mended: Vec<String>,
}

/// The differences; cells with the same result in both are not listed.
pub fn changes(before: &[Cell], now: &[Cell]) -> Vec<Change> {
    let by_id = |cells: &[Cell]| -> BTreeMap<CellId, Cell> {
        cells
            .iter()
            .map(|cell| (cell.id.clone(), cell.clone()))
            .collect()
    };
    let (before, now) = (by_id(before), by_id(now));
    let mut ids: Vec<&CellId> = before.keys().chain(now.keys()).collect();
    ids.sort();
    ids.dedup();
    let failing = |cell: Option<&Cell>| -> Vec<String> {
        let faults = cell.map(|cell| cell.faults.as_slice()).unwrap_or_default();
        faults.iter().map(|fault| fault.id.clone()).collect()
    };
    let without = |some: &[String], others: &[String]| -> Vec<String> {
        some.iter()
            .filter(|id| !others.contains(id))
            .cloned()
            .collect()
    };
    ids.into_iter()
        .filter_map(|id| {
            let (then, here) = (before.get(id), now.get(id));
            let (failed_then, fails_now) = (failing(then), failing(here));
            let change = Change {
                cell: id.clone(),
                before: then.map(|cell| cell.state),
                now: here.map(|cell| cell.state),
                failing: without(&fails_now, &failed_then),
                mended: without(&failed_then, &fails_now),
            };
            let same = change.before == change.now
                && change.failing.is_empty()
                && change.mended.is_empty();
            (!same).then_some(change)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::cell::{Fault, compare_with_node};
    use super::*;

    fn rules(text: &str) -> Rules {
        toml::from_str(text).expect("rules")
    }

    fn cell(id: &str, faults: &[&str]) -> Cell {
        let mut cell = Cell::new(CellId::try_from(id.to_owned()).expect("an id"));
        cell.passed = 3;
        cell.faults = faults.iter().map(|id| Fault::new(*id, "x")).collect();
        cell
    }

    const RULES: &str = r#"
        set.default.releases = ["1.0.0"]
        [[required]]
        cells = "reference/{1.0.0,2.0.0}/*/**"
        [[expected]]
        cells = "reference/1.0.0/*/live/*"
        checks = "live.a*"
        reason = "an old fault"
    "#;

    #[test]
    fn only_required_cells_gate() {
        let mut cells = vec![
            cell("reference/1.0.0/node20/vectors", &[]),
            cell("reference/2.0.0/node20/live/initiator", &["live.b"]),
            cell("reference/3.0.0/node20/live/initiator", &["live.b"]),
            cell("reference/1.0.0/node20/live/initiator", &["live.a.1"]),
        ];
        compare_with_node(&mut cells);
        let judgement = judge(&rules(RULES), &mut cells);
        assert_eq!(judgement.regressions, [cells[1].id.clone()]);
        assert!(
            judgement.passes.is_empty()
                && judgement.missing.is_empty()
                && judgement.idle.is_empty()
        );
        assert_eq!(cells[3].faults[0].expected.as_deref(), Some("an old fault"));
        assert!(cells[3].required && !cells[2].required);
    }

    #[test]
    fn a_release_that_is_new_is_observed() {
        let committed = Rules::of(None).expect("rules");
        for part in [
            "drift",
            "vectors",
            "live/initiator",
            "replication/responder-reader",
        ] {
            for implementation in ["node", "reference"] {
                let required = |release: &str| {
                    let id = format!("{implementation}/{release}/node24/{part}");
                    let mut rules = committed.required.iter();
                    rules.any(|rule| rule.cells.matches(&id))
                };
                assert!(!required("11.99.0") && !required("12.0.0"), "{part}");
                let drifts_alone = part == "drift" && implementation == "reference";
                assert_eq!(required("11.37.1"), !drifts_alone, "{part}");
            }
        }
    }

    #[test]
    fn what_comes_and_goes_is_no_change() {
        let rules = rules(
            "[set.default]\nreleases = []\n[[expected]]\ncells = \"a/11.0.0/**\"\nchecks = \"x*\"\nreason = \"why\"\nsometimes = true",
        );
        let told = |id: &str, before: &[&str], now: &[&str]| {
            let of = |faults| settled(&rules, &[cell(id, faults)]);
            changes(&of(before), &of(now)).len()
        };
        let (listed, other) = ("a/11.0.0/node20/vectors", "a/11.5.0/node20/vectors");
        assert_eq!(told(listed, &["x1"], &[]), 0);
        assert_eq!(told(listed, &[], &["x2"]), 0);
        assert_eq!(told(listed, &["x1"], &["y"]), 1);
        assert_eq!(told(other, &["x1"], &[]), 1);
    }

    #[test]
    fn what_other_rules_said_is_forgotten() {
        let mut cells = [cell("a/11.0.0/node20/vectors", &["x"])];
        cells[0].required = true;
        cells[0].faults[0].expected = Some("others say so".into());
        judge(&rules("[set.default]\nreleases = []"), &mut cells);
        assert!(!cells[0].required);
        assert_eq!(cells[0].faults[0].expected, None);
    }

    #[test]
    fn rules_without_a_set_take_the_committed_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rules.toml");
        std::fs::write(&path, "[set.default]\nreleases = [\"11.0.0\"]").expect("a file");
        let rules = Rules::of(Some(&path)).expect("rules");
        assert_eq!(rules.set["default"].releases, ["11.0.0"]);
        assert!(!rules.set["pinned"].releases.is_empty());
        assert!(rules.required.is_empty());
    }

    #[test]
    fn a_failure_beside_an_expected_one_is_a_regression() {
        let mut cells = vec![cell(
            "reference/1.0.0/node20/live/initiator",
            &["live.a.1", "live.c"],
        )];
        compare_with_node(&mut cells);
        assert_eq!(judge(&rules(RULES), &mut cells).regressions.len(), 1);
    }

    #[test]
    fn an_expected_failure_that_passes_is_told() {
        let mut cells = vec![cell("reference/1.0.0/node20/live/initiator", &[])];
        compare_with_node(&mut cells);
        let judgement = judge(&rules(RULES), &mut cells);
        assert_eq!(judgement.passes.len(), 1);
        assert!(judgement.regressions.is_empty());
    }

    #[test]
    fn a_required_cell_that_is_not_to_be_had_never_passes() {
        let id = CellId::try_from("reference/2.0.0/node20/vectors".to_owned()).expect("an id");
        let mut cells = vec![Cell::unavailable(id.clone(), "E404")];
        compare_with_node(&mut cells);
        let judgement = judge(&rules(RULES), &mut cells);
        assert_eq!(judgement.missing, [id]);
        assert_eq!(judgement.idle, ["expected: reference/1.0.0/*/live/*"]);
    }

    #[test]
    fn changes_name_cells_and_checks() {
        let before = [
            cell("a/1.0.0/n/live/x", &["p", "q"]),
            cell("a/2.0.0/n/live/x", &[]),
            cell("a/3.0.0/n/live/x", &["p"]),
        ];
        let now = [
            cell("a/1.0.0/n/live/x", &["q", "r"]),
            cell("a/3.0.0/n/live/x", &["p"]),
            cell("a/4.0.0/n/live/x", &[]),
        ];
        let changes = changes(&before, &now);
        let told: Vec<_> = changes
            .iter()
            .map(|change| {
                (
                    change.cell.release.as_str(),
                    change.before.is_some(),
                    change.now.is_some(),
                    change.failing.clone(),
                    change.mended.clone(),
                )
            })
            .collect();
        let list = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            told,
            [
                ("1.0.0", true, true, list(&["r"]), list(&["p"])),
                ("2.0.0", true, false, list(&[]), list(&[])),
                ("4.0.0", false, true, list(&[]), list(&[])),
            ]
        );
    }
}
