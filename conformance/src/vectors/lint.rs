//! Properties of the vectors themselves, independent of any implementation: the schema, the canonical form, ids,
//! clauses and flags.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::vectors::spec::Specification;
use crate::vectors::{self, VectorFile};

/// The number of checked items.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Checked {
    /// Vector files.
    pub files: usize,
    /// Cases in them.
    pub cases: usize,
}

/// Checks every file of the folder of vectors: against the schema, that it is in canonical form, that its cases are
/// named by its path, that their clauses exist, and that each flag has a note and each note is used.
///
/// # Errors
/// The faults, one line each.
pub fn check_vectors(folder: &Path) -> Result<Checked, Vec<String>> {
    let mut faults = Vec::new();
    let schema = folder.join("schema");
    let vectors_schema = read_schema(&schema.join("vectors.schema.json"), &mut faults);
    read_schema(&schema.join("adapter.schema.json"), &mut faults);
    let clauses = match Specification::load(folder) {
        Ok(spec) => spec.clauses.into_iter().map(|clause| clause.id).collect(),
        Err(more) => {
            faults.extend(more);
            BTreeSet::new()
        }
    };
    let mut checked = Checked { files: 0, cases: 0 };
    match vectors::paths(folder) {
        Ok(paths) => {
            for path in paths {
                let name = path
                    .strip_prefix(folder)
                    .unwrap_or(&path)
                    .display()
                    .to_string();
                match std::fs::read_to_string(&path) {
                    Ok(text) => {
                        let found = check_file(&name, &text, vectors_schema.as_ref(), &clauses);
                        checked.files += 1;
                        checked.cases += found.cases;
                        faults.extend(
                            found
                                .faults
                                .into_iter()
                                .map(|fault| format!("{name}: {fault}")),
                        );
                    }
                    Err(error) => faults.push(format!("{name}: {error}")),
                }
            }
        }
        Err(error) => faults.push(error.to_string()),
    }
    // Ids that appear twice, within a file or in all of them.
    if faults.is_empty()
        && let Err(error) = vectors::load(folder)
    {
        faults.push(error.to_string());
    }
    if faults.is_empty() {
        Ok(checked)
    } else {
        Err(faults)
    }
}

fn read_schema(path: &Path, faults: &mut Vec<String>) -> Option<jsonschema::Validator> {
    let schema = std::fs::read_to_string(path)
        .map_err(|error| error.to_string())
        .and_then(|text| serde_json::from_str::<Value>(&text).map_err(|error| error.to_string()))
        .and_then(|value| compile(&value));
    schema
        .map_err(|reason| faults.push(format!("{}: {reason}", path.display())))
        .ok()
}

/// Compiles a schema, which must itself be valid.
///
/// # Errors
/// Why it is invalid.
pub fn compile(schema: &Value) -> Result<jsonschema::Validator, String> {
    jsonschema::draft202012::meta::validate(schema).map_err(|error| error.to_string())?;
    jsonschema::draft202012::new(schema).map_err(|error| error.to_string())
}

#[derive(Default)]
struct Found {
    cases: usize,
    faults: Vec<String>,
}

fn check_file(
    name: &str,
    text: &str,
    schema: Option<&jsonschema::Validator>,
    clauses: &BTreeSet<String>,
) -> Found {
    let mut found = Found::default();
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            found.faults.push(error.to_string());
            return found;
        }
    };
    if let Some(schema) = schema {
        found.faults.extend(
            schema
                .iter_errors(&value)
                .map(|error| shorten(&format!("{} at {}", error, error.instance_path()))),
        );
    }
    let file: VectorFile = match serde_json::from_value(value) {
        Ok(file) => file,
        Err(error) => {
            found.faults.push(error.to_string());
            return found;
        }
    };
    match serde_json::to_string_pretty(&file) {
        Ok(mut canonical) => {
            canonical.push('\n');
            if canonical != text {
                let line = 1 + canonical
                    .lines()
                    .zip(text.lines())
                    .take_while(|(left, right)| left == right)
                    .count();
                found
                    .faults
                    .push(format!("not in canonical form, first in line {line}"));
            }
        }
        Err(error) => found.faults.push(error.to_string()),
    }
    let path = format!("{}/{}.json", file.layer, file.subject);
    if path != name.replace('\\', "/") {
        found
            .faults
            .push(format!("names its layer and subject as {path}"));
    }
    let prefix = format!("{}.{}.", file.layer, file.subject);
    let mut flags = BTreeSet::new();
    for case in file.groups.iter().flat_map(|group| &group.cases) {
        found.cases += 1;
        if !case.id.starts_with(&prefix) {
            found
                .faults
                .push(format!("{}: does not start with {prefix}", case.id));
        }
        for clause in case
            .clauses
            .iter()
            .filter(|clause| !clauses.contains(*clause))
        {
            found
                .faults
                .push(format!("{}: there is no clause {clause}", case.id));
        }
        for flag in &case.flags {
            if !file.notes.contains_key(flag) {
                found
                    .faults
                    .push(format!("{}: flag {flag} has no note", case.id));
            }
            flags.insert(flag.as_str());
        }
    }
    for note in file
        .notes
        .keys()
        .filter(|note| !flags.contains(note.as_str()))
    {
        found.faults.push(format!("note {note} is not used"));
    }
    found
}

// The messages of a schema quote the instance, which may be megabytes.
fn shorten(message: &str) -> String {
    const HEAD: usize = 160;
    const TAIL: usize = 160;
    let count = message.chars().count();
    if count <= HEAD + TAIL + 3 {
        return message.to_owned();
    }
    let head: String = message.chars().take(HEAD).collect();
    let tail: String = message.chars().skip(count - TAIL).collect();
    format!("{head} … {tail}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> jsonschema::Validator {
        let text = include_str!("../../../vectors/schema/vectors.schema.json");
        compile(&serde_json::from_str(text).expect("JSON")).expect("a schema")
    }

    fn file() -> Value {
        json!({
            "$schema": "../schema/vectors.schema.json", "format": 1, "layer": "message", "subject": "sync",
            "description": "d",
            "generator": { "script": "examples-nodejs/record/message.js", "packages": { "hypercore": "11.37.1" } },
            "notes": { "Truncated": "Ends early." },
            "groups": [
                { "name": "g", "description": "d", "op": "message.decode", "cases": [
                    { "id": "message.sync.one", "clauses": ["SYNC-1"], "comment": "c", "flags": [],
                      "input": { "message": "sync", "bytes": "00000000" }, "result": "valid",
                      "expect": { "output": { "value": {
                          "fork": 0, "length": 0, "remoteLength": 0, "canUpgrade": false, "uploading": false,
                          "downloading": false, "hasManifest": false, "allowPush": false }, "consumed": 4 } },
                      "node": null, "releases": {} },
                    { "id": "message.sync.two", "clauses": ["SYNC-1"], "comment": "c", "flags": ["Truncated"],
                      "input": { "message": "sync", "bytes": "00" }, "result": "invalid",
                      "expect": { "error": { "layer": "message", "class": "out-of-bounds" } },
                      "node": { "outcome": "throws", "message": "Out of bounds" }, "releases": {
                          "10.38.2": { "result": "invalid",
                              "expect": { "error": { "layer": "message", "class": "out-of-bounds" } } } } } ] } ]
        })
    }

    fn faults(file: &Value) -> Vec<String> {
        let mut text = serde_json::to_string_pretty(file).expect("JSON");
        text.push('\n');
        let clauses = BTreeSet::from(["SYNC-1".to_owned()]);
        check_file("message/sync.json", &text, Some(&schema()), &clauses).faults
    }

    #[test]
    fn a_good_file_has_no_faults() {
        assert_eq!(faults(&file()), Vec::<String>::new());
    }

    // Each entry breaks one thing, at a JSON pointer; a null pointer value removes the field.
    #[test]
    fn each_fault_is_found() {
        let case = "/groups/0/cases/0";
        let bad = "/groups/0/cases/1";
        for (pointer, value) in [
            (String::from("/extra"), json!(1)),
            (String::from("/format"), json!(2)),
            (String::from("/layer"), json!("mux")),
            (String::from("/notes/Unused"), json!("x")),
            (String::from("/groups/0/extra"), json!(1)),
            (String::from("/groups/0/op"), json!("frame.decode")),
            (String::from("/groups/0/op"), json!("no.such")),
            (format!("{case}/extra"), json!(1)),
            (format!("{case}/id"), json!("message.sync.ONE")),
            (format!("{case}/id"), json!("message.request.one")),
            (format!("{case}/clauses"), json!([])),
            (format!("{case}/clauses"), json!(["SYNC-9"])),
            (format!("{case}/comment"), json!("two\nlines")),
            (format!("{case}/flags"), json!(["NoNote"])),
            (format!("{case}/input/extra"), json!(1)),
            (format!("{case}/input/bytes"), json!("0")),
            (format!("{case}/input/bytes"), json!("AA")),
            (
                format!("{case}/input/bytes"),
                json!({ "repeat": "00", "times": -1 }),
            ),
            (format!("{case}/input/message"), json!("cancel")),
            (format!("{case}/result"), json!("invalid")),
            (
                format!("{case}/expect/error"),
                json!({ "layer": "message", "class": "limit" }),
            ),
            (format!("{case}/expect/output/extra"), json!(1)),
            (
                format!("{case}/expect/output/value"),
                json!({ "request": 1 }),
            ),
            (format!("{case}/expect/output/value/extra"), json!(1)),
            (format!("{case}/expect/output/value/fork"), json!("5")),
            (format!("{case}/expect/output/consumed"), json!("00")),
            (format!("{bad}/flags"), json!([])),
            (format!("{bad}/node"), Value::Null),
            (format!("{bad}/node/outcome"), json!("explodes")),
            (format!("{bad}/expect/error/class"), json!("no-such-class")),
            (format!("{bad}/expect/error/layer"), json!("cellar")),
            (
                format!("{bad}/releases/10.38"),
                json!({ "result": "valid", "expect": { "output": 1 } }),
            ),
            (format!("{bad}/releases/10.38.2/extra"), json!(1)),
            (
                format!("{bad}/releases/10.38.2"),
                json!({ "result": "valid", "expect": { "output": { "value": {}, "consumed": 1 } } }),
            ),
        ] {
            let mut file = file();
            let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
            let parent = file.pointer_mut(parent).and_then(Value::as_object_mut);
            parent
                .expect(&pointer)
                .insert(field.to_owned(), value.clone());
            assert!(
                !faults(&file).is_empty(),
                "{pointer} = {value} was not noticed"
            );
        }
    }

    #[test]
    fn only_the_canonical_form_will_do() {
        let clauses = BTreeSet::from(["SYNC-1".to_owned()]);
        let text = file().to_string();
        let faults = check_file("message/sync.json", &text, None, &clauses).faults;
        assert_eq!(faults, ["not in canonical form, first in line 1"]);
        let mut swapped = file();
        let groups = swapped["groups"].take();
        let object = swapped.as_object_mut().expect("an object");
        object.shift_remove("groups");
        object.shift_insert(0, "groups".into(), groups);
        let text = serde_json::to_string_pretty(&swapped).expect("JSON") + "\n";
        let faults = check_file("message/sync.json", &text, None, &clauses).faults;
        assert_eq!(faults, ["not in canonical form, first in line 2"]);
    }
}
