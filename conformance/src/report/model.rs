//! The contents of reports: columns, each an implementation in one setting, with its checks.
//!
//! `run` writes one column as a JSON report; `merge` and the matrix write any number of them as one. Both forms are
//! read here, and both become a page with [`html::page`](super::html::page):
//!
//! ```no_run
//! use hypercore_conformance::report::model::{Column, Report};
//! use hypercore_conformance::report::{Rerun, html};
//! # fn example(run: &hypercore_conformance::run::Run, rerun: &Rerun) -> Result<(), Box<dyn std::error::Error>> {
//! let mut column = Column::new(run, rerun);
//! column.release = Some("11.37.1".into()); // a row of the header of its own, as are runtime, role and peer
//! column.required = Some(vec!["message".into()]); // only this layer gates
//!
//! let mut report = Report::of(column);
//! report.add(Report::read(&std::fs::read_to_string("shard.json")?)?)?; // the same column goes on, another is added
//! report.add_column(Column::unavailable(
//!     "hypercore 11.39.5",
//!     "npm: No matching version found for hypercore-storage",
//! ))?;
//! std::fs::write("report.json", report.to_json())?;
//! std::fs::write("report.html", html::page(&report))?;
//! # Ok(())
//! # }
//! ```

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Rerun;
use crate::adapter::{Hello, PROTOCOL};
use crate::run::expected::Applied;
use crate::run::verdict::Verdict;
use crate::run::{Check, Kind, Run, Tally, rank};

/// The version of the format of JSON reports.
pub const FORMAT: u64 = 1;

/// Any number of columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The suite that made it; for merged reports, that of the first.
    pub suite: Suite,
    /// The columns, in order of arrival.
    pub columns: Vec<Column>,
}

/// A release of the suite.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Suite {
    /// The name of the package.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Suite {
    /// This suite.
    pub fn this() -> Self {
        Self {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

/// An implementation, as described by its answer to `hello`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Implementation {
    /// The version of the adapter protocol.
    pub protocol: u64,
    /// Its name; empty if unknown.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// The language that it is written in.
    pub language: String,
    /// The release of Node's hypercore that it is, if any.
    pub release: Option<String>,
    /// The operations that it declares.
    pub ops: Vec<String>,
    /// Whether it declares live operations.
    pub live: bool,
}

impl From<&Hello> for Implementation {
    fn from(hello: &Hello) -> Self {
        Self {
            protocol: PROTOCOL,
            name: hello.name.clone(),
            version: hello.version.clone(),
            language: hello.language.clone(),
            release: hello.release.clone(),
            ops: hello.ops.clone(),
            live: hello.live,
        }
    }
}

/// One implementation in one setting, with its results.
///
/// `release`, `runtime`, `role` and `peer` make up the setting: each is a row of the page's header if any column has
/// it. Two reports with the same implementation and setting are shards of one column.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Column {
    /// A name that distinguishes it from others with the same setting: `before`, `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The implementation under test.
    pub implementation: Implementation,
    /// The release of hypercore at its other end, or its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Its runtime: `Node.js 22.11.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Its role: `initiator`, `reader`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The peer at the other end, if not Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The layers, or `layer/subject`, that gate; all without this list, and none if it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<Vec<String>>,
    /// Why it could not be run at all, for example npm's error; then it has no checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// The number of checks by verdict.
    pub verdicts: Tally,
    /// The same by layer.
    pub layers: Vec<LayerTally>,
    /// Skipped checks, and why.
    pub left_out: Vec<String>,
    /// The list of expected failures, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Applied>,
    /// Every check.
    pub checks: Vec<Check>,
}

/// The verdicts of one layer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LayerTally {
    /// The layer.
    pub layer: String,
    /// The number of its checks by verdict.
    pub verdicts: Tally,
}

/// Why a report cannot be read or merged with another.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// It isn't JSON, or not of the format.
    #[error("not a report of format {FORMAT}: {0}")]
    Form(String),
    /// It is of another format.
    #[error("a report of format {0}; only {FORMAT} is read here")]
    Format(Value),
    /// Its counts do not match its checks.
    #[error("{column}: the counts of {what} are not those of its checks")]
    Counts {
        /// The column.
        column: String,
        /// The counts.
        what: String,
    },
    /// A check is present twice.
    #[error("{column}: the check {id} is there twice; name the reports apart, as in before=FILE")]
    Twice {
        /// The column.
        column: String,
        /// The check.
        id: String,
    },
}

impl Report {
    /// A report of one column.
    pub fn of(column: Column) -> Self {
        Self {
            suite: Suite::this(),
            columns: vec![column],
        }
    }

    /// A report without columns.
    pub fn empty() -> Self {
        Self {
            suite: Suite::this(),
            columns: Vec::new(),
        }
    }

    /// Reads a JSON report, of one run or merged, from any text.
    ///
    /// # Errors
    /// If it is not such a report, or its counts do not match its checks.
    pub fn read(text: &str) -> Result<Self, ReportError> {
        let form = |error: serde_json::Error| ReportError::Form(error.to_string());
        let mut head: Map<String, Value> = serde_json::from_str(text).map_err(form)?;
        match head.remove("format") {
            Some(format) if format == FORMAT => {}
            Some(other) => return Err(ReportError::Format(other)),
            None => return Err(ReportError::Form("it has no `format`".into())),
        }
        let suite = head.remove("suite").unwrap_or_default();
        let suite = serde_json::from_value(suite).map_err(form)?;
        let columns: Vec<Column> = match head.remove("columns") {
            Some(columns) => match head.keys().next() {
                None => serde_json::from_value(columns).map_err(form)?,
                Some(name) => return Err(ReportError::Form(format!("unknown field `{name}`"))),
            },
            None => vec![serde_json::from_value(Value::Object(head)).map_err(form)?],
        };
        let mut report = Self {
            suite,
            columns: Vec::new(),
        };
        for column in columns {
            column.check_counts()?;
            report.add_column(column)?;
        }
        Ok(report)
    }

    /// Adds all columns of another report.
    ///
    /// # Errors
    /// If a check is in both.
    pub fn add(&mut self, other: Self) -> Result<(), ReportError> {
        other
            .columns
            .into_iter()
            .try_for_each(|column| self.add_column(column))
    }

    /// Adds a column, or its checks to the column of the same implementation and setting.
    ///
    /// # Errors
    /// If a check is in both.
    pub fn add_column(&mut self, column: Column) -> Result<(), ReportError> {
        let own = self.columns.iter_mut().find(|own| own.is_same(&column));
        match own {
            Some(own) => own.go_on_with(column)?,
            None => {
                column.check_ids()?;
                self.columns.push(column);
            }
        }
        Ok(())
    }

    /// The report as JSON: in the form of a run, if it has one column, else in that of merged reports.
    pub fn to_value(&self) -> Value {
        let mut value = Map::new();
        value.insert("format".into(), FORMAT.into());
        value.insert("suite".into(), json(&self.suite));
        match self.columns.as_slice() {
            [only] => {
                if let Value::Object(column) = json(only) {
                    value.extend(column);
                }
            }
            columns => {
                value.insert("columns".into(), json(columns));
            }
        }
        Value::Object(value)
    }

    /// The same as text.
    pub fn to_json(&self) -> String {
        format!("{:#}\n", self.to_value())
    }

    /// Whether a gating check failed.
    pub fn has_regressed(&self) -> bool {
        self.columns.iter().any(Column::has_regressed)
    }
}

impl Column {
    /// The results of a run.
    pub fn new(run: &Run, rerun: &Rerun) -> Self {
        let mut column = Self::bare(Implementation::from(&run.implementation));
        column.seconds = run.duration.as_secs_f64();
        column.left_out.clone_from(&run.left_out);
        column.expected.clone_from(&run.expected);
        column.checks = run.checks.iter().map(|check| rerun.mark(check)).collect();
        column.count();
        column
    }

    /// A column of checks made elsewhere.
    pub(crate) fn checked(name: impl Into<String>, checks: Vec<Check>) -> Self {
        let mut column = Self::unavailable(name, "");
        column.unavailable = None;
        column.checks = checks;
        column.count();
        column
    }

    /// A column that could not be run, with the reason.
    pub fn unavailable(name: impl Into<String>, reason: impl Into<String>) -> Self {
        let mut column = Self::bare(Implementation {
            name: name.into(),
            ..Implementation::from(&Hello::default())
        });
        column.unavailable = Some(reason.into());
        column
    }

    fn bare(implementation: Implementation) -> Self {
        Self {
            label: None,
            implementation,
            release: None,
            runtime: None,
            role: None,
            peer: None,
            required: None,
            unavailable: None,
            seconds: 0.0,
            verdicts: Tally::default(),
            layers: Vec::new(),
            left_out: Vec::new(),
            expected: None,
            checks: Vec::new(),
        }
    }

    /// A short description of the implementation and its setting.
    pub fn title(&self) -> String {
        let own = &self.implementation;
        let name = match (&self.label, own.name.as_str()) {
            (Some(label), _) => label.clone(),
            (None, "") => "(no name)".into(),
            (None, name) => format!("{name} {}", own.version).trim_end().to_owned(),
        };
        let release = self.release.as_ref().map(|own| format!("hypercore {own}"));
        let setting = [&release, &self.runtime, &self.role, &self.peer];
        let setting = setting.into_iter().flatten();
        setting.fold(name, |title, word| format!("{title}, {word}"))
    }

    /// Whether the checks of a layer, or of a subject of it, gate.
    pub fn gates(&self, layer: &str, subject: &str) -> bool {
        self.required.as_ref().is_none_or(|required| {
            required.iter().any(|wanted| match wanted.split_once('/') {
                Some(wanted) => wanted == (layer, subject),
                None => wanted == layer,
            })
        })
    }

    /// Whether a gating check failed, or none could be run though some gate.
    pub fn has_regressed(&self) -> bool {
        let gates = self.required.as_ref().is_none_or(|list| !list.is_empty());
        let mut failed = self
            .checks
            .iter()
            .filter(|check| check.verdict.fails_the_run());
        (gates && self.unavailable.is_some())
            || failed.any(|check| self.gates(&check.layer, &check.subject))
    }

    fn is_same(&self, other: &Self) -> bool {
        self.setting() == other.setting()
    }

    /// The fields that distinguish a column from others.
    fn setting(&self) -> [Option<&str>; 9] {
        let own = &self.implementation;
        [
            self.label.as_deref(),
            Some(&own.name),
            Some(&own.version),
            Some(&own.language),
            own.release.as_deref(),
            self.release.as_deref(),
            self.runtime.as_deref(),
            self.role.as_deref(),
            self.peer.as_deref(),
        ]
    }

    fn check_ids(&self) -> Result<(), ReportError> {
        let mut seen = HashSet::new();
        match self.checks.iter().find(|check| !seen.insert(&check.id)) {
            None => Ok(()),
            Some(check) => Err(ReportError::Twice {
                column: self.title(),
                id: check.id.clone(),
            }),
        }
    }

    /// Adds the checks of a shard of this column.
    fn go_on_with(&mut self, shard: Self) -> Result<(), ReportError> {
        shard.check_ids()?;
        let ids = self.checks.iter().map(|check| check.id.clone());
        let places: HashMap<String, usize> = ids.enumerate().map(|(at, id)| (id, at)).collect();
        for check in shard.checks {
            match places.get(&check.id) {
                None => self.checks.push(check),
                // Each shard starts the adapter and is a run, so each has these checks: the worst result counts.
                Some(&at) if matches!(check.kind, Kind::Adapter | Kind::Suite) => {
                    if severity(check.verdict) > severity(self.checks[at].verdict) {
                        self.checks[at] = check;
                    }
                }
                Some(_) => {
                    return Err(ReportError::Twice {
                        column: self.title(),
                        id: check.id,
                    });
                }
            }
        }
        // The report does not depend on the order of the shards.
        let order = |check: &Check| (rank(&check.layer), check.subject.clone(), check.id.clone());
        self.checks.sort_by_cached_key(order);
        self.seconds += shard.seconds;
        for what in shard.left_out {
            if !self.left_out.contains(&what) {
                self.left_out.push(what);
            }
        }
        if let (Some(own), Some(more)) = (&mut self.required, shard.required) {
            own.extend(more);
            own.sort();
            own.dedup();
        }
        match (&mut self.expected, shard.expected) {
            (Some(own), Some(more)) => own.add(more),
            (own, more) => *own = own.take().or(more),
        }
        self.unavailable = self.unavailable.take().or(shard.unavailable);
        self.count();
        Ok(())
    }

    fn count(&mut self) {
        self.verdicts = Tally::default();
        let mut layers: Vec<LayerTally> = Vec::new();
        for check in &self.checks {
            self.verdicts.add(check.verdict);
            match layers.iter_mut().find(|own| own.layer == check.layer) {
                Some(own) => own.verdicts.add(check.verdict),
                None => {
                    let mut verdicts = Tally::default();
                    verdicts.add(check.verdict);
                    layers.push(LayerTally {
                        layer: check.layer.clone(),
                        verdicts,
                    });
                }
            }
        }
        layers.sort_by_key(|own| rank(&own.layer));
        self.layers = layers;
    }

    // Detects a report that was cut or edited.
    fn check_counts(&self) -> Result<(), ReportError> {
        let mut counted = Self {
            checks: self.checks.clone(),
            ..Self::bare(self.implementation.clone())
        };
        counted.count();
        let wrong = |what: &str| {
            Err(ReportError::Counts {
                column: self.title(),
                what: what.into(),
            })
        };
        if counted.verdicts != self.verdicts {
            return wrong("all checks");
        }
        if counted.layers != self.layers {
            return wrong("a layer");
        }
        Ok(())
    }
}

/// Verdicts from the best to the worst.
pub const SEVERITY: [Verdict; 8] = [
    Verdict::Ok,
    Verdict::Unsupported,
    Verdict::Informational,
    Verdict::NonStrict,
    Verdict::Flaky,
    Verdict::ExpectedFailure,
    Verdict::UnexpectedPass,
    Verdict::Failed,
];

fn severity(verdict: Verdict) -> usize {
    SEVERITY
        .iter()
        .position(|known| *known == verdict)
        .unwrap_or(SEVERITY.len())
}

fn json(value: &(impl Serialize + ?Sized)) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Kind, id: &str, verdict: Verdict) -> Check {
        let layer = id.split('.').next().unwrap_or_default();
        let mut check = Check::new(kind, id, layer, "subject");
        check.verdict = verdict;
        check
    }

    fn column(checks: &[Check]) -> Column {
        let hello = Hello {
            name: "some".into(),
            version: "1.0.0".into(),
            ..Hello::default()
        };
        let run = Run {
            implementation: hello,
            checks: checks.to_vec(),
            left_out: vec!["the rest".into()],
            expected: None,
            duration: std::time::Duration::from_secs(2),
        };
        Column::new(&run, &Rerun::default())
    }

    fn shard(id: &str, hello: Verdict) -> Report {
        Report::of(column(&[
            check(Kind::Adapter, "adapter.hello", hello),
            check(Kind::Vector, id, Verdict::Ok),
        ]))
    }

    #[test]
    fn both_forms_are_read_as_they_were_written() {
        let mut report = shard("mux.open.a", Verdict::Ok);
        let text = report.to_json();
        assert!(text.contains("\"implementation\"") && !text.contains("\"columns\""));
        assert_eq!(Report::read(&text).expect("reads"), report);
        let mut other = column(&[check(Kind::Vector, "mux.open.a", Verdict::Failed)]);
        other.role = Some("reader".into());
        report.add_column(other).expect("another column");
        let text = report.to_json();
        assert!(text.contains("\"columns\""));
        assert_eq!(Report::read(&text).expect("reads"), report);
        assert!(text.contains("run --id mux.open.a"), "{text}");
    }

    #[test]
    fn shards_of_a_column_become_one_in_any_order() {
        let shards = [
            shard("mux.open.a", Verdict::Ok),
            shard("encoding.uint.b", Verdict::Failed),
            shard("mux.close.c", Verdict::Ok),
        ];
        let merge = |order: [usize; 3]| {
            let mut merged = Report::empty();
            for at in order {
                merged
                    .add(shards[at].clone())
                    .expect("goes with the others");
            }
            merged
        };
        let merged = merge([0, 1, 2]);
        assert_eq!(merged, merge([2, 1, 0]));
        let [column] = merged.columns.as_slice() else {
            panic!("{} columns", merged.columns.len());
        };
        let ids: Vec<&str> = column
            .checks
            .iter()
            .map(|check| check.id.as_str())
            .collect();
        assert_eq!(
            ids,
            [
                "adapter.hello",
                "encoding.uint.b",
                "mux.close.c",
                "mux.open.a"
            ]
        );
        // The worst of the adapter's own checks is kept.
        assert_eq!(column.checks[0].verdict, Verdict::Failed);
        assert_eq!((column.verdicts.ok, column.verdicts.failed), (3, 1));
        assert_eq!(column.left_out, ["the rest"]);
        assert!((column.seconds - 6.0).abs() < 1e-9);
    }

    #[test]
    fn a_check_is_not_counted_twice() {
        let mut report = shard("mux.open.a", Verdict::Ok);
        let again = report.add(report.clone());
        let error = again.expect_err("twice").to_string();
        assert!(
            error.contains("some 1.0.0: the check mux.open.a"),
            "{error}"
        );
        let mut named = report.clone();
        named.columns[0].label = Some("after".into());
        report.add(named).expect("told apart by its name");
        assert_eq!(report.columns.len(), 2);
        let twice = check(Kind::Vector, "mux.open.a", Verdict::Ok);
        let within = Report::empty().add_column(column(&[twice.clone(), twice]));
        assert!(matches!(within, Err(ReportError::Twice { .. })));
    }

    #[test]
    fn what_is_no_report_is_refused() {
        let good = shard("mux.open.a", Verdict::Ok).to_value();
        let with = |change: &dyn Fn(&mut Value)| {
            let mut value = good.clone();
            change(&mut value);
            Report::read(&value.to_string())
                .expect_err("refused")
                .to_string()
        };
        assert!(with(&|v| v["format"] = 2.into()).contains("format 2"));
        assert!(with(&|v| v["extra"] = 2.into()).contains("`extra`"));
        assert!(with(&|v| v["columns"] = Value::Array(vec![])).contains("unknown field"));
        assert!(with(&|v| v["checks"][0]["extra"] = 2.into()).contains("`extra`"));
        assert!(with(&|v| v["checks"][0]["verdict"] = "fine".into()).contains("`fine`"));
        assert!(with(&|v| v["checks"][0]["seconds"] = (-1).into()).contains("negative"));
        assert!(with(&|v| v["verdicts"]["ok"] = 7.into()).contains("all checks"));
        assert!(with(&|v| v["layers"][0]["verdicts"]["ok"] = 7.into()).contains("a layer"));
        assert!(Report::read("[]").is_err());
        assert!(Report::read("").is_err());
    }

    #[test]
    fn only_what_is_required_gates() {
        let mut column = column(&[
            check(Kind::Vector, "mux.open.a", Verdict::Failed),
            check(Kind::Vector, "key.hash.b", Verdict::Ok),
        ]);
        let mut regressed = |required: Option<&[&str]>| {
            column.required =
                required.map(|list| list.iter().map(|&word| word.to_owned()).collect());
            column.has_regressed()
        };
        assert!(regressed(None));
        assert!(regressed(Some(&["mux"])));
        assert!(regressed(Some(&["key", "mux/subject"])));
        assert!(!regressed(Some(&["mux/other"])));
        assert!(!regressed(Some(&["key"])));
        assert!(!regressed(Some(&[])));
        let mut absent = Column::unavailable("node", "npm: no such release");
        assert!(absent.has_regressed());
        absent.required = Some(Vec::new());
        assert!(!absent.has_regressed());
    }
}
