//! Recorded vectors: files, groups and cases, as described in `vectors/README.md`.

pub mod archive;
pub mod lint;
pub mod spec;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::Id;

/// The supported version of the file format.
pub const FORMAT: u64 = 1;

/// The most bytes that a `repeat` or `concat` may expand to.
const MAX_EXPANDED: usize = 512 << 20;

/// One file, `vectors/<layer>/<subject>.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VectorFile {
    /// The schema that describes it, relative to the file.
    #[serde(rename = "$schema")]
    pub schema: String,
    /// The version of the format: [`FORMAT`].
    pub format: u64,
    /// The layer of the protocol.
    pub layer: String,
    /// The subject within the layer.
    pub subject: String,
    /// A description in a sentence or two.
    pub description: String,
    /// The script and packages that recorded it.
    pub generator: Generator,
    /// The meaning of each flag of its cases.
    pub notes: Map<String, Value>,
    /// Cases of the same operation.
    pub groups: Vec<Group>,
    /// The path it was read from.
    #[serde(skip)]
    pub path: PathBuf,
}

/// The script and packages that recorded a file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Generator {
    /// The script, relative to the root of the repository.
    pub script: String,
    /// The npm packages, each with its exact version.
    pub packages: Map<String, Value>,
}

/// Cases of the same operation.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// A name within the file.
    pub name: String,
    /// The common properties of its cases.
    pub description: String,
    /// The operation of the adapter protocol.
    pub op: String,
    /// The cases.
    pub cases: Vec<Case>,
}

/// One input and its expected result.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Unique over all files; never changes.
    pub id: Id,
    /// The clauses of `vectors/SPECIFICATION.md` that it tests.
    pub clauses: Vec<String>,
    /// What it shows, in one line.
    pub comment: String,
    /// Why it is not valid, or what is unusual about it; explained in the file's notes.
    pub flags: Vec<String>,
    /// The operation's input; may hold `repeat` and `concat`.
    pub input: Value,
    /// The required result.
    pub result: Expectation,
    /// The expected outcome.
    pub expect: Expect,
    /// What Node does, where that is more than returning the output.
    pub node: Option<NodeOutcome>,
    /// Differences recorded from other releases of hypercore, by exact release.
    pub releases: BTreeMap<String, Override>,
}

/// The required result of a case.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Expectation {
    /// The output must be the expected one.
    Valid,
    /// The input must be refused, in the expected layer.
    Invalid,
    /// Peers may differ; each accepted outcome is listed.
    Acceptable,
}

impl std::fmt::Display for Expectation {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.pad(match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Acceptable => "acceptable",
        })
    }
}

/// The expected outcome of a case.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The output of a valid case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// The accepted outputs; the first is Node's, if Node gives an output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Vec<Value>>,
    /// The error of an invalid case, or an accepted error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ExpectedError>,
}

/// An expected error.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ExpectedError {
    /// The layer that must refuse the input.
    pub layer: String,
    /// The class of the error; another class is tolerated, and reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Other required fields, such as `step`, `record` or `frames`.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// Node's recorded behaviour in a case.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NodeOutcome {
    /// `throws`, `destroys`, `ignores`, `returns`, `process-dies` or `hangs`.
    pub outcome: String,
    /// The text of the error, for people; never compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl NodeOutcome {
    /// Whether Node answered, rather than died or hung.
    pub fn survives(&self) -> bool {
        !matches!(self.outcome.as_str(), "process-dies" | "hangs")
    }
}

/// The behaviour of another release.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// The required result there.
    pub result: Expectation,
    /// The expected outcome there.
    pub expect: Expect,
}

impl Case {
    /// The expectation for a peer: that of the release `release` of hypercore, if given and different.
    pub fn expected(&self, release: Option<&str>) -> (Expectation, &Expect) {
        match release.and_then(|release| self.releases.get(release)) {
            Some(other) => (other.result, &other.expect),
            None => (self.result, &self.expect),
        }
    }
}

/// Why the vectors could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// There is no such folder, or it contains no vectors.
    #[error("no vectors in {}", .0.display())]
    None(PathBuf),
    /// A file could not be read.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The fault.
        reason: String,
    },
}

/// The folder `vectors` in the current folder or one above it, else the one of this build's sources.
pub fn default_folder() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    here.ancestors()
        .map(|folder| folder.join("vectors"))
        .find(|folder| folder.join("schema").is_dir())
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors"))
}

/// The paths of all vector files in `folder`, sorted.
///
/// # Errors
/// If there are none.
pub fn paths(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let mut paths: Vec<PathBuf> = walkdir::WalkDir::new(folder)
        .min_depth(2)
        .into_iter()
        .filter_map(Result::ok)
        .map(walkdir::DirEntry::into_path)
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .filter(|path| {
            path.parent()
                .and_then(Path::file_name)
                .is_some_and(|name| name != "schema")
        })
        .collect();
    paths.sort();
    if paths.is_empty() {
        Err(LoadError::None(folder.to_owned()))
    } else {
        Ok(paths)
    }
}

/// Loads all vector files in `folder`, in the order of their paths.
///
/// # Errors
/// If there are none, if one is invalid, or if an id appears twice.
pub fn load(folder: &Path) -> Result<Vec<VectorFile>, LoadError> {
    let mut seen = BTreeMap::new();
    let mut files = Vec::new();
    for path in paths(folder)? {
        let fault = |reason: String| LoadError::File {
            path: path.clone(),
            reason,
        };
        let text = std::fs::read_to_string(&path).map_err(|error| fault(error.to_string()))?;
        let mut file: VectorFile =
            serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?;
        if file.format != FORMAT {
            return Err(fault(format!(
                "format {} is not known here, only {FORMAT}",
                file.format
            )));
        }
        for case in file.groups.iter().flat_map(|group| &group.cases) {
            if let Some(other) = seen.insert(case.id.clone(), path.clone()) {
                return Err(fault(format!(
                    "the id {} is also in {}",
                    case.id,
                    other.display()
                )));
            }
        }
        file.path = path;
        files.push(file);
    }
    Ok(files)
}

/// Replaces `{"repeat": hex, "times": n}` and `{"concat": [bytes, …]}` by their hex, at any depth.
///
/// # Errors
/// If one expands to more than 512 MiB.
pub fn expand(value: &Value) -> Result<Value, String> {
    Ok(match value {
        Value::Array(items) => Value::Array(items.iter().map(expand).collect::<Result<_, _>>()?),
        Value::Object(object) => match expand_bytes(object)? {
            Some(hex) => Value::String(hex),
            None => Value::Object(
                object
                    .iter()
                    .map(|(name, item)| Ok((name.clone(), expand(item)?)))
                    .collect::<Result<_, String>>()?,
            ),
        },
        other => other.clone(),
    })
}

fn expand_bytes(object: &Map<String, Value>) -> Result<Option<String>, String> {
    let too_long = || format!("bytes of more than {MAX_EXPANDED}");
    if let (2, Some(Value::String(repeat)), Some(times)) = (
        object.len(),
        object.get("repeat"),
        object.get("times").and_then(Value::as_u64),
    ) {
        let times = usize::try_from(times).map_err(|_| too_long())?;
        let length = repeat
            .len()
            .checked_mul(times)
            .filter(|&length| length <= 2 * MAX_EXPANDED);
        length.ok_or_else(too_long)?;
        return Ok(Some(repeat.repeat(times)));
    }
    if let (1, Some(Value::Array(parts))) = (object.len(), object.get("concat")) {
        let mut hex = String::new();
        for part in parts {
            match expand(part)? {
                Value::String(part) if hex.len() + part.len() <= 2 * MAX_EXPANDED => {
                    hex.push_str(&part)
                }
                Value::String(_) => return Err(too_long()),
                other => return Err(format!("concat of something that is not bytes: {other}")),
            }
        }
        return Ok(Some(hex));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn expands_short_forms_at_any_depth() {
        let short = json!({
            "steps": [{ "receive": { "concat": ["00", { "repeat": "ab", "times": 3 }, { "concat": [] }] } }],
            "other": { "repeat": "ab", "times": 3, "more": 1 },
            "none": { "repeat": "ab", "times": 0 },
        });
        let long = json!({
            "steps": [{ "receive": "00ababab" }],
            "other": { "repeat": "ab", "times": 3, "more": 1 },
            "none": "",
        });
        assert_eq!(expand(&short), Ok(long));
    }

    #[test]
    fn refuses_to_expand_without_bound() {
        assert!(expand(&json!({ "repeat": "abab", "times": u64::MAX })).is_err());
        assert!(expand(&json!({ "repeat": "ab", "times": 1_u64 << 40 })).is_err());
        assert!(expand(&json!({ "concat": [1] })).is_err());
    }

    #[test]
    fn a_file_is_refused_for_an_unknown_field_and_for_an_id_seen_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let case = |id: &str| {
            json!({
                "id": id, "clauses": ["ENC-1"], "comment": "c", "flags": [], "input": {}, "result": "valid",
                "expect": { "output": 1 }, "node": null, "releases": {},
            })
        };
        let file = |subject: &str, cases: Vec<Value>| {
            json!({
                "$schema": "../schema/vectors.schema.json", "format": 1, "layer": "l", "subject": subject,
                "description": "d", "generator": { "script": "s", "packages": {} }, "notes": {},
                "groups": [{ "name": "g", "description": "d", "op": "o", "cases": cases }],
            })
        };
        let write = |name: &str, file: &Value| {
            std::fs::create_dir_all(folder.path().join("l")).expect("a folder");
            std::fs::write(folder.path().join("l").join(name), file.to_string()).expect("a file");
        };
        assert!(matches!(load(folder.path()), Err(LoadError::None(_))));
        write("a.json", &file("a", vec![case("l.a.one")]));
        assert_eq!(load(folder.path()).expect("loads").len(), 1);
        write("b.json", &file("b", vec![case("l.a.one")]));
        assert!(
            load(folder.path())
                .expect_err("a repeated id")
                .to_string()
                .contains("l.a.one")
        );
        for id in ["../../x", "/tmp/x", "l.b/c", "l.b\u{1b}[2J"] {
            write("b.json", &file("b", vec![case(id)]));
            let error = load(folder.path()).expect_err(id).to_string();
            assert!(error.contains("is no id: at byte"), "{error}");
            assert!(!error.contains('\u{1b}'), "{error}");
        }
        let mut odd = case("l.b.one");
        odd["surprise"] = json!(1);
        write("b.json", &file("b", vec![odd]));
        assert!(
            load(folder.path())
                .expect_err("an unknown field")
                .to_string()
                .contains("surprise")
        );
    }
}
