//! The units of the matrix: a cell is a part of the checks, for one implementation with one release, runtime and role.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::PARTS;

/// What a cell checks: the index of a `Part` in the list.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PartId(usize);

impl PartId {
    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..PARTS.len()).map(Self)
    }

    /// Its name, as in cells and on the command line.
    pub fn name(self) -> &'static str {
        self.part().name()
    }

    /// Its index in the list.
    pub(super) fn place(self) -> usize {
        self.0
    }

    /// The part whose jobs fill its cells.
    pub(super) fn unit(self) -> Self {
        let mut all = Self::all();
        let fills = |part: &Self| part.part().fills().contains(&self.name());
        all.find(fills).unwrap_or(self)
    }
}

impl FromStr for PartId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::all();
        all.find(|part| part.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::all().map(Self::name).collect();
            let (last, names) = names.split_last().unwrap_or((&"", &[]));
            format!("{text} is no part: {} or {last}", names.join(", "))
        })
    }
}

impl fmt::Display for PartId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

impl fmt::Debug for PartId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.part().fmt(out)
    }
}

/// The id of a cell: `implementation/release/runtime/part`, and for the live parts the implementation's role.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct CellId {
    /// `reference`, `node`, or the name of a third party.
    pub implementation: String,
    /// The exact release of hypercore at the other end.
    pub release: String,
    /// The runtime of that release: `node20`.
    pub runtime: String,
    /// What is checked.
    pub part: PartId,
    /// `initiator` or `responder`, with `-reader` or `-writer` for cores; empty if there is no connection.
    pub role: String,
}

impl fmt::Display for CellId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            implementation,
            release,
            runtime,
            part,
            role,
        } = self;
        write!(out, "{implementation}/{release}/{runtime}/{part}")?;
        if role.is_empty() {
            return Ok(());
        }
        write!(out, "/{role}")
    }
}

impl From<CellId> for String {
    fn from(id: CellId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for CellId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let words: Vec<&str> = text.split('/').collect();
        let (implementation, release, runtime, part, role) = match words.as_slice() {
            [a, b, c, d] => (a, b, c, d, ""),
            [a, b, c, d, e] => (a, b, c, d, *e),
            _ => {
                return Err(format!(
                    "{text} is no cell: implementation/release/runtime/part/role"
                ));
            }
        };
        Ok(Self {
            implementation: (*implementation).to_owned(),
            release: (*release).to_owned(),
            runtime: (*runtime).to_owned(),
            part: part.parse()?,
            role: role.to_owned(),
        })
    }
}

/// The state of a cell.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Every check passed.
    Passed,
    /// Every failed check also fails between this release and the pinned Node release.
    Limited,
    /// The release encodes or decodes differently than recorded.
    Drifted,
    /// A check failed.
    Failed,
    /// The implementation does not support this.
    Unsupported,
    /// The release or the runtime is unavailable, or does not start.
    Unavailable,
}

impl State {
    /// Its name, as in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Limited => "limited",
            Self::Drifted => "drifted",
            Self::Failed => "failed",
            Self::Unsupported => "unsupported",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

/// Features of the recorded bytes that a release lacks.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MissingFeatures {
    /// A flag, a field, a type or a version each: `sync, flag allowPush (16)`.
    pub features: Vec<String>,
    /// The release's bytes, in hex, if short; none if it refuses the recorded bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
}

/// A check of a cell that did not pass.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// The check.
    pub id: String,
    /// The fault.
    pub reason: String,
    /// The features that the release lacks, for bytes that it encodes differently or refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<MissingFeatures>,
    /// Whether Node itself fails it in the same cell.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub as_node: bool,
    /// Why it is expected, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

impl Fault {
    /// A fault that is not expected.
    pub fn new(id: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            reason: reason.into(),
            lacks: None,
            as_node: false,
            expected: None,
        }
    }

    /// Whether it is expected, or Node fails it as well.
    pub fn is_known(&self) -> bool {
        self.as_node || self.expected.is_some()
    }
}

/// The checks of a cell that passed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Passes {
    /// By id.
    Ids(Vec<String>),
    /// As ranges of the report's list of checks: start and end.
    Spans(Vec<(usize, usize)>),
}

impl Default for Passes {
    fn default() -> Self {
        Self::Ids(Vec::new())
    }
}

impl Passes {
    fn is_empty(&self) -> bool {
        match self {
            Self::Ids(ids) => ids.is_empty(),
            Self::Spans(spans) => spans.is_empty(),
        }
    }

    /// The same as ranges of `all`, which is sorted and contains all of them.
    pub(super) fn packed(&self, all: &[String]) -> Self {
        let Self::Ids(ids) = self else {
            return self.clone();
        };
        let mut places: Vec<usize> = ids
            .iter()
            .filter_map(|id| all.binary_search(id).ok())
            .collect();
        places.sort_unstable();
        let mut spans: Vec<(usize, usize)> = Vec::new();
        for place in places {
            match spans.last_mut() {
                Some((_, end)) if *end == place => *end += 1,
                _ => spans.push((place, place + 1)),
            }
        }
        Self::Spans(spans)
    }

    /// The same by id; `None` if a range is not within `all`.
    pub(super) fn unpacked(&self, all: &[String]) -> Option<Self> {
        let Self::Spans(spans) = self else {
            return Some(self.clone());
        };
        let mut ids = Vec::new();
        for (from, to) in spans {
            ids.extend_from_slice(all.get(*from..*to)?);
        }
        Some(Self::Ids(ids))
    }

    /// Their ids.
    pub fn ids(&self) -> &[String] {
        match self {
            Self::Ids(ids) => ids,
            Self::Spans(_) => &[],
        }
    }
}

/// A cell and its state.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cell {
    /// Its id.
    pub id: CellId,
    /// Its state.
    pub state: State,
    /// Whether it gates.
    #[serde(default)]
    pub required: bool,
    /// The number of passed checks.
    pub passed: usize,
    /// The passed checks: in a report as ranges of its list of checks.
    #[serde(default, skip_serializing_if = "Passes::is_empty")]
    pub passes: Passes,
    /// The number of checks with undeclared operations.
    #[serde(default)]
    pub unsupported: usize,
    /// The checks that did not pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// Why it is unavailable, or another remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl Cell {
    /// A cell without checks, unavailable for this reason.
    pub fn unavailable(id: CellId, note: impl Into<String>) -> Self {
        Self {
            state: State::Unavailable,
            note: Some(note.into()),
            ..Self::new(id)
        }
    }

    /// Whether each of its faults is expected, or Node's as well.
    pub fn is_known(&self) -> bool {
        self.faults.iter().all(Fault::is_known)
    }

    /// A cell without checks.
    pub fn new(id: CellId) -> Self {
        Self {
            id,
            state: State::Passed,
            required: false,
            passed: 0,
            passes: Passes::default(),
            unsupported: 0,
            faults: Vec::new(),
            note: None,
            seconds: 0.0,
        }
    }

    /// Records a passed check.
    pub fn pass(&mut self, id: impl Into<String>) {
        self.passed += 1;
        if let Passes::Ids(ids) = &mut self.passes {
            ids.push(id.into());
        }
    }

    /// Sets the state from its checks.
    pub fn settle(&mut self) {
        if self.state == State::Unavailable {
            return;
        }
        self.state = match (self.faults.as_slice(), self.passed) {
            // A cell without any checks proves nothing.
            ([], 0) => State::Unsupported,
            ([], _) => State::Passed,
            _ if self.id.part.part().is_of_release() => State::Drifted,
            (faults, _) if faults.iter().all(|fault| fault.as_node) => State::Limited,
            _ => State::Failed,
        };
    }
}

/// The implementation that others are compared with.
pub const NODE: &str = "node";

/// Marks the faults that Node has in the same release, runtime, part and role, and sets every cell's state.
pub fn compare_with_node(cells: &mut [Cell]) {
    let place = |id: &CellId| CellId {
        implementation: NODE.into(),
        ..id.clone()
    };
    let fails: BTreeMap<CellId, Vec<String>> = cells
        .iter()
        .filter(|cell| cell.id.implementation == NODE)
        .map(|cell| {
            let ids = cell.faults.iter().map(|fault| fault.id.clone());
            (cell.id.clone(), ids.collect())
        })
        .collect();
    for cell in cells {
        if cell.id.implementation != NODE
            && let Some(ids) = fails.get(&place(&cell.id))
        {
            for fault in &mut cell.faults {
                fault.as_node = ids.contains(&fault.id);
            }
        }
        cell.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(id: &str, faults: &[&str]) -> Cell {
        let id = CellId::try_from(id.to_owned()).expect("an id");
        let mut cell = Cell::new(id);
        cell.passed = 1;
        cell.faults = faults.iter().map(|id| Fault::new(*id, "x")).collect();
        cell
    }

    #[test]
    fn ids_are_read_as_they_are_written() {
        for text in [
            "reference/11.37.1/node20/vectors",
            "mine/10.0.0/node18/replication/initiator-reader",
        ] {
            assert_eq!(
                CellId::try_from(text.to_owned())
                    .expect("an id")
                    .to_string(),
                text
            );
        }
        assert!(CellId::try_from("a/b/c".to_owned()).is_err());
        assert!(CellId::try_from("a/b/c/other".to_owned()).is_err());
    }

    #[test]
    fn what_node_fails_as_well_limits_a_cell_and_what_it_does_not_fails_it() {
        let mut cells = [
            cell("node/1.0.0/node20/live/initiator", &["a", "b"]),
            cell("reference/1.0.0/node20/live/initiator", &["a"]),
            cell("other/1.0.0/node20/live/initiator", &["a", "c"]),
            cell("reference/1.0.0/node20/live/responder", &["a"]),
            cell("reference/1.0.0/node20/drift", &["a"]),
            cell("reference/1.0.0/node20/vectors", &[]),
        ];
        cells[5].passed = 0;
        compare_with_node(&mut cells);
        let states: Vec<State> = cells.iter().map(|cell| cell.state).collect();
        let expected = [
            State::Failed,
            State::Limited,
            State::Failed,
            State::Failed,
            State::Drifted,
            State::Unsupported,
        ];
        assert_eq!(states, expected);
    }
}
