//! The answers of a release or an implementation to the vectors.

use serde_json::Value;

use super::compare::{compare_fields, shorten, written_by};
use super::silence_limit::SilenceLimit;
use crate::adapter::AdapterCommand;
use crate::diff::{Difference, bytes_of, differences};
use crate::dissect::Kind;
use crate::node;
use crate::npm::cache::{Release, major, transport_of};
use crate::run::{Check, Run, Selection, Silent, run_vectors};
use crate::vectors::VectorFile;

/// The layers whose packages come with each release of hypercore; the layers below belong to the transport.
const OWN_LAYERS: [&str; 7] = [
    "encoding",
    "channel",
    "message",
    "extension",
    "manifest",
    "tree",
    "transcript",
];

/// The pinned release of the same major version, whose recordings apply to a release.
pub(super) fn line_of(release: &str) -> &'static str {
    let same = |pinned: &&&str| major(pinned) == major(release);
    let newest = node::RELEASES[node::RELEASES.len() - 1];
    node::RELEASES.iter().find(same).copied().unwrap_or(newest)
}

/// The vectors as `release` should answer them, with the recorded overrides of its line.
fn as_of(files: &[VectorFile], release: &str) -> Vec<VectorFile> {
    let mut files = files.to_vec();
    let cases = files.iter_mut().flat_map(|file| &mut file.groups);
    for case in cases.flat_map(|group| &mut group.cases) {
        if let Some(other) = case.releases.get(line_of(release)).cloned() {
            case.releases.insert(release.to_owned(), other);
        }
    }
    files
}

/// The layers to ask of a release: its own, and those of the transport if its files differ from the pinned ones, which
/// the vectors were recorded from.
pub(super) fn layers_of(release: &Release, pinned: &[(String, String)]) -> Vec<String> {
    let mut layers: Vec<String> = OWN_LAYERS.map(str::to_owned).to_vec();
    if transport_of(&release.folder) != pinned {
        let others = crate::run::LAYERS
            .iter()
            .filter(|layer| !OWN_LAYERS.contains(layer));
        layers.extend(others.map(|layer| (*layer).to_owned()));
    }
    layers
}

/// Asks an adapter all vectors of some layers; with the overrides of `release` if it is one of Node's.
pub(super) async fn ask(
    command: &AdapterCommand,
    files: &[VectorFile],
    layers: &[String],
    release: Option<&str>,
) -> Result<Run, String> {
    let own;
    let files = match release {
        Some(release) => {
            own = as_of(files, release);
            &own
        }
        None => files,
    };
    let mut adapter = SilenceLimit::new(command);
    let selection = Selection::new(layers, &[])?;
    let run = run_vectors(&mut adapter, files, &selection, &mut Silent).await;
    adapter.kill().await;
    run.map_err(|error| error.to_string())
}

/// The differences, by the names of the fields.
pub(super) fn describe(check: &Check) -> String {
    let reason = check.reason.clone().unwrap_or_default();
    // The rest are local paths of the packages.
    let reason = match reason.split_once("\nRequire stack:") {
        Some((reason, _)) => reason.to_owned(),
        None => reason,
    };
    if check.differences.is_empty() {
        return reason;
    }
    let told = check
        .differences
        .iter()
        .flat_map(|difference| explain(check, difference));
    shorten(told.collect())
}

/// The same for an answer that was recorded from another release.
pub(super) fn compare_answers(
    op: &str,
    input: &Value,
    today: Option<&Value>,
    other: &Value,
) -> String {
    let Some(today) = today else {
        return "accepted".into();
    };
    let mut check = Check::new(crate::run::Kind::Vector, "", "", "");
    check.op = Some(op.to_owned());
    check.input = Some(input.clone());
    let found = differences(today, other);
    let told: Vec<String> = found
        .iter()
        .flat_map(|difference| explain(&check, difference))
        .collect();
    shorten(told)
}

fn explain(check: &Check, difference: &Difference) -> Vec<String> {
    let bytes = |value: &Option<Value>| value.as_ref().and_then(bytes_of);
    if let (Some(kind), Some(expected), Some(actual)) = (
        kind_of(check, &difference.path),
        bytes(&difference.expected),
        bytes(&difference.actual),
    ) {
        let told = compare_fields(kind, expected, actual);
        if !told.is_empty() {
            return told;
        }
    }
    let path = match (&difference.field, difference.path.as_str()) {
        (Some(field), path) => format!("{path}, at {field}"),
        (None, "") => "the answer".into(),
        (None, path) => path.to_owned(),
    };
    vec![format!(
        "{path}: recorded {}, now {}",
        shown_value(&difference.expected),
        shown_value(&difference.actual)
    )]
}

pub(super) fn shown_value(value: &Option<Value>) -> String {
    let Some(value) = value else {
        return "absent".to_owned();
    };
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

/// The kind of the bytes at `path` of the answer to a check.
fn kind_of(check: &Check, path: &str) -> Option<Kind> {
    if path != "bytes" {
        return None;
    }
    written_by(check.op.as_deref()?, check.input.as_ref()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_held_to_the_recordings_of_its_line() {
        assert_eq!(line_of("10.0.0"), "10.38.2");
        assert_eq!(line_of("11.39.5"), "11.37.1");
        assert_eq!(line_of("12.0.0"), "11.37.1");
    }
}
