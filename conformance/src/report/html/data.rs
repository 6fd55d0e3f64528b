//! The data for the script of a page.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::super::model::Report;
use super::{SPECIFICATION, VERDICTS, name_of, place};
use crate::diff::bytes_of;
use crate::dissect::place;
use crate::run::{Check, rank};
use crate::vectors::spec::Specification;

/// Fields of longer byte strings are not named.
const NAMED_BYTES: usize = 256;

/// The fields of a check that are in the list of cases or in the matrix, and not among its details.
const SHARED: [&str; 11] = [
    "kind", "id", "layer", "subject", "comment", "clauses", "flags", "op", "verdict", "seconds",
    "rerun",
];

/// A list of distinct values.
#[derive(Default)]
struct Interned {
    values: Vec<Value>,
    places: HashMap<String, usize>,
}

impl Interned {
    fn place(&mut self, value: Value) -> usize {
        let next = self.values.len();
        match self.places.entry(value.to_string()) {
            std::collections::hash_map::Entry::Occupied(entry) => *entry.get(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(next);
                self.values.push(value);
                next
            }
        }
    }
}

/// All data for the script.
pub(super) fn of(report: &Report, keys: &[String], terms: [&str; 4]) -> Value {
    let spec = Specification::parse(SPECIFICATION.to_owned()).ok();
    let mut subjects = Interned::default();
    let mut clauses = Interned::default();
    let mut words = Interned::default();
    let mut details = Interned::default();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut cases: Vec<Value> = Vec::new();
    let mut ordered: Vec<&Check> = Vec::new();
    for check in report.columns.iter().flat_map(|own| &own.checks) {
        if let std::collections::hash_map::Entry::Vacant(entry) = places.entry(&check.id) {
            entry.insert(0);
            ordered.push(check);
        }
    }
    ordered.sort_by_key(|check| rank(&check.layer));
    for (at, check) in ordered.iter().enumerate() {
        places.insert(&check.id, at);
        let named: Vec<usize> = check
            .clauses
            .iter()
            .map(|id| {
                let title = spec.as_ref().and_then(|spec| spec.clause(id));
                clauses.place(json!([id, title.map(|clause| &clause.title)]))
            })
            .collect();
        let flags: Vec<usize> = check
            .flags
            .iter()
            .map(|flag| words.place(json!(flag)))
            .collect();
        let op = check.op.as_ref().map(|op| words.place(json!(op)));
        let subject = subjects.place(json!([check.layer, check.subject]));
        // Most ids begin with their layer and subject, which are stored elsewhere.
        let prefix = format!("{}.{}.", check.layer, check.subject);
        let id = match check.id.strip_prefix(&prefix) {
            Some(rest) if !rest.is_empty() => format!("~{rest}"),
            _ => format!("={}", check.id),
        };
        cases.push(json!([subject, id, check.comment, named, flags, op]));
    }
    let columns: Vec<Value> = report
        .columns
        .iter()
        .zip(keys)
        .map(|(column, key)| {
            let mut verdicts = vec![b'.'; cases.len()];
            let mut shown: Vec<Value> = Vec::new();
            let rerun = rerun_of(&column.checks);
            for check in &column.checks {
                let Some(&at) = places.get(check.id.as_str()) else {
                    continue;
                };
                let verdict = name_of(check);
                verdicts[at] = b'0' + u8::try_from(place(&verdict)).unwrap_or_default();
                if verdict == "ok" {
                    continue;
                }
                let own = match (&check.rerun, rerun) {
                    (Some(line), Some((before, after)))
                        if *line == format!("{before}{}{after}", check.id) =>
                    {
                        json!(1)
                    }
                    (Some(line), _) => json!(line),
                    (None, _) => json!(0),
                };
                let milliseconds = (check.duration.as_secs_f64() * 1e4).round() / 10.0;
                let detail = details.place(detail(check));
                shown.push(json!([at, detail, milliseconds, own]));
            }
            json!({
                "key": key,
                "title": column.title(),
                "verdicts": String::from_utf8_lossy(&verdicts),
                "shown": shown,
                "rerun": rerun,
                "required": column.required,
                "absent": column.unavailable.is_some(),
            })
        })
        .collect();
    json!({
        "terms": terms,
        "verdicts": VERDICTS.map(|(name, sign, word)| json!([name, sign, word])),
        "columns": columns,
        "subjects": subjects.values,
        "clauses": clauses.values,
        "words": words.values,
        "cases": cases,
        "details": details.values,
    })
}

/// The common text before and after the id in the rerun commands.
fn rerun_of(checks: &[Check]) -> Option<(&str, &str)> {
    checks.iter().find_map(|check| {
        let (before, after) = check.rerun.as_deref()?.rsplit_once("--id ")?;
        let after = after.strip_prefix(check.id.as_str())?;
        Some((
            &check.rerun.as_deref()?[..before.len() + "--id ".len()],
            after,
        ))
    })
}

/// The details of a check that did not simply pass, with the fields of its bytes named.
fn detail(check: &Check) -> Value {
    let mut detail = match serde_json::to_value(check) {
        Ok(Value::Object(detail)) => detail,
        _ => Map::new(),
    };
    detail.retain(|name, value| {
        let empty = match &*value {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        !empty && !SHARED.contains(&name.as_str())
    });
    let (Some(op), Some(input)) = (&check.op, &check.input) else {
        return Value::Object(detail);
    };
    let named = |path: &str, bytes: &Option<Value>| -> Option<Value> {
        let bytes = bytes.as_ref().and_then(bytes_of)?;
        if bytes.len() > NAMED_BYTES {
            return None;
        }
        let fields = place::map(op, input, path, &bytes);
        (!fields.is_empty()).then(|| json!(fields))
    };
    for (at, difference) in check.differences.iter().enumerate() {
        if difference.first_byte.is_none() {
            continue;
        }
        let sides = [
            ("expectedFields", &difference.expected),
            ("actualFields", &difference.actual),
        ];
        for (name, bytes) in sides {
            if let Some(fields) = named(&difference.path, bytes) {
                detail["differences"][at][name] = fields;
            }
        }
    }
    if let Some(fields) = named("bytes", &input.get("bytes").cloned()) {
        detail.insert("inputFields".into(), fields);
    }
    Value::Object(detail)
}
