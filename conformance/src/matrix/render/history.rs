//! The changes on the wire by release: which releases answer a case of the vectors as today's Node does, and which as
//! an earlier one did.
//!
//! It is computed entirely from reports. A release is compared with the recording of its line; if it answers
//! differently, or if its line was recorded to answer differently than today's, the case has another phase. Cases with
//! the same phases in the same file show one change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use semver::Version;
use serde_json::Value;

use super::Judged;
use crate::matrix::answers::{compare_answers, line_of};
use crate::matrix::cell::{Cell, Fault, MissingFeatures, State};
use crate::matrix::conversation::{PREFIX, is_asked};
use crate::matrix::missing_features::{UNKNOWN_VERSION, of_bytes, refused_version};
use crate::matrix::report::MatrixReport;
use crate::node;
use crate::report::files::Format;
use crate::vectors::spec::Specification;
use crate::vectors::{self, Case, VectorFile};

pub(super) const FORMAT: Format<Judged> = Format {
    name: "history",
    help: "Write what changed on the wire, and when, as a page in Markdown",
    text: |judged| {
        let files = vectors::load(&vectors::default_folder()).map_err(|error| error.to_string())?;
        Ok(page(&judged.report, &files))
    },
};

/// The answer of today's Node.
const TODAY: &str = "as today";

/// The subject of changes in the package that encodes integers, strings and arrays.
const ENCODING: &str = "compact-encoding";

/// The subject of changes in whole conversations.
const CONVERSATION: &str = "conversation";

/// A phase of a case: from this release on, this answer.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Phase {
    since: Version,
    answer: String,
}

/// Cases of one file whose answers changed at the same releases.
#[derive(Clone, Debug)]
struct Change {
    /// `message/sync`.
    subject: String,
    /// The boundaries: the last release before, and the first release after.
    boundaries: Vec<(Version, Version)>,
    /// Each case with its phases.
    cases: Vec<(String, Vec<Phase>)>,
}

/// The drift cells with a release's answers, oldest first.
fn told(cells: &[Cell]) -> Vec<(Version, &Cell)> {
    let mut told: Vec<(Version, &Cell)> = cells
        .iter()
        .filter(|cell| cell.id.part.part().is_of_release() && cell.state != State::Unavailable)
        .filter_map(|cell| Some((Version::parse(&cell.id.release).ok()?, cell)))
        .collect();
    told.sort_by(|a, b| (&a.0, &a.1.id.runtime).cmp(&(&b.0, &b.1.id.runtime)));
    // The wire does not depend on the runtime; if it did, the matrix would show it.
    told.dedup_by(|a, b| a.0 == b.0);
    told
}

/// The recorded answer of `line`, one of the pinned releases, if it is not today's.
fn line_answer(op: &str, case: &Case, release: &str) -> Option<String> {
    let line = line_of(release);
    if line == node::RELEASES[node::RELEASES.len() - 1] {
        return None;
    }
    let other = case.releases.get(line)?;
    let text = match (&other.expect.output, &other.expect.error) {
        (Some(output), _) => compare_answers(op, &case.input, case.expect.output.as_ref(), output),
        (None, Some(error)) => format!(
            "refused: {}, {}",
            error.layer,
            error.class.as_deref().unwrap_or("any class")
        ),
        (None, None) => other.result.to_string(),
    };
    Some(text)
}

fn changes(cells: &[Cell], files: &[VectorFile]) -> Vec<Change> {
    let told = told(cells);
    let answers: Vec<BTreeMap<&str, &str>> = told
        .iter()
        .map(|(_, cell)| {
            cell.faults
                .iter()
                .map(|fault| (fault.id.as_str(), fault.reason.as_str()))
                .collect()
        })
        .collect();
    let mut grouped: BTreeMap<(String, Vec<Version>), Change> = BTreeMap::new();
    for file in files {
        let cases = file
            .groups
            .iter()
            .flat_map(|group| group.cases.iter().map(|case| (&group.op, case)));
        for (op, case) in cases {
            let mut phases: Vec<Phase> = Vec::new();
            let mut boundaries = Vec::new();
            let mut before: Option<&Version> = None;
            for ((version, cell), answers) in told.iter().zip(&answers) {
                let answer = match answers.get(case.id.as_str()) {
                    Some(reason) => (*reason).to_owned(),
                    None => line_answer(op, case, &cell.id.release).unwrap_or_else(|| TODAY.into()),
                };
                if phases.last().is_none_or(|phase| phase.answer != answer) {
                    if let Some(before) = before {
                        boundaries.push((before.clone(), version.clone()));
                    }
                    phases.push(Phase {
                        since: version.clone(),
                        answer,
                    });
                }
                before = Some(version);
            }
            if boundaries.is_empty() {
                continue;
            }
            // The decoding of integers is one subject, whatever the message.
            let integers =
                file.layer == "encoding" || case.flags.iter().any(|flag| flag == "UnsafeInteger");
            let subject = if integers {
                ENCODING.to_owned()
            } else {
                format!("{}/{}", file.layer, file.subject)
            };
            let firsts = boundaries.iter().map(|(_, after)| after.clone()).collect();
            let change = grouped
                .entry((subject.clone(), firsts))
                .or_insert_with(|| Change {
                    subject,
                    boundaries,
                    cases: Vec::new(),
                });
            change.cases.push((case.id.to_string(), phases));
        }
    }
    for (id, phases, boundaries) in conversations(&told, &answers) {
        let firsts = boundaries.iter().map(|(_, after)| after.clone()).collect();
        let change = grouped
            .entry((CONVERSATION.to_owned(), firsts))
            .or_insert_with(|| Change {
                subject: CONVERSATION.to_owned(),
                boundaries,
                cases: Vec::new(),
            });
        change.cases.push((id, phases));
    }
    let mut changes: Vec<Change> = grouped.into_values().collect();
    changes.sort_by(|a, b| {
        let last = |change: &Change| change.boundaries.last().map(|(_, after)| after.clone());
        (last(a), &a.subject).cmp(&(last(b), &b.subject))
    });
    changes
}

type PhasesOfCase = (String, Vec<Phase>, Vec<(Version, Version)>);

/// Conversations in which a release differs from the previous one, of those that it replays.
fn conversations(told: &[(Version, &Cell)], answers: &[BTreeMap<&str, &str>]) -> Vec<PhasesOfCase> {
    let ids: BTreeSet<&str> = answers.iter().flat_map(BTreeMap::keys).copied().collect();
    let ids = ids.into_iter().filter(|id| id.starts_with(PREFIX));
    let one = |id: &str| {
        let mut phases: Vec<Phase> = Vec::new();
        let mut boundaries = Vec::new();
        let mut before: Option<&Version> = None;
        let asked = told.iter().zip(answers);
        for ((version, _), answers) in asked.filter(|((_, cell), _)| is_asked(id, &cell.id.release))
        {
            // In conversations between 10 and 11, each is compared with the recording of its pinned release.
            let answer = answers.get(id).copied().unwrap_or(TODAY);
            if phases.last().is_none_or(|phase| phase.answer != answer) {
                if let Some(before) = before {
                    boundaries.push((before.clone(), version.clone()));
                }
                phases.push(Phase {
                    since: version.clone(),
                    answer: answer.to_owned(),
                });
            }
            before = Some(version);
        }
        (id.to_owned(), phases, boundaries)
    };
    ids.map(one)
        .filter(|(_, _, boundaries)| !boundaries.is_empty())
        .collect()
}

/// A feature that the wire gained: a flag, a field or a version.
#[derive(Clone, Debug, PartialEq)]
struct Feature {
    /// Named as in [`super::cell::MissingFeatures`].
    name: String,
    /// The last release without it, and the first with it.
    before: Version,
    since: Version,
    /// A case that shows it, if any.
    shown: Option<Shown>,
}

/// A case and its bytes, in hex.
#[derive(Clone, Debug, PartialEq)]
struct Shown {
    id: String,
    clause: Option<String>,
    /// How many other features are missing in it as well.
    others: usize,
    /// `None` if the bytes are refused.
    without: Option<String>,
    with: String,
}

/// The features that the wire gained, oldest first: those that one release lacks and the next has. A feature that a
/// later release lacks again is gained again.
fn features(cells: &[Cell], files: &[VectorFile]) -> Vec<Feature> {
    let mut cases: BTreeMap<&str, (&str, &Case)> = BTreeMap::new();
    for group in files.iter().flat_map(|file| &file.groups) {
        for case in &group.cases {
            cases.insert(&case.id, (&group.op, case));
        }
    }
    let mut gained: Vec<Feature> = Vec::new();
    let mut lacked: BTreeMap<String, Option<Shown>> = BTreeMap::new();
    let mut before: Option<Version> = None;
    for (version, cell) in told(cells) {
        let mut lacks: BTreeMap<String, Option<Shown>> = BTreeMap::new();
        let faults: BTreeMap<&str, &Fault> = cell
            .faults
            .iter()
            .map(|fault| (fault.id.as_str(), fault))
            .collect();
        for (id, (op, case)) in &cases {
            // A release is compared with its line, and the line with today's.
            let own = faults.get(id).and_then(|fault| fault.lacks.clone());
            let of_line = line_lacks(op, case, &cell.id.release);
            let lack = match (own, of_line) {
                (Some(own), Some(of_line)) => MissingFeatures {
                    features: [own.features, of_line.features].concat(),
                    ..own
                },
                (Some(lack), None) | (None, Some(lack)) => lack,
                (None, None) => continue,
            };
            let shown = shown(case, &lack);
            for name in lack.features {
                let best = lacks.entry(name).or_default();
                // Prefer one missing feature to several, encoded bytes to refused ones, and short ones to long ones.
                let size = |shown: &Shown| {
                    let refused = shown.without.is_none();
                    (shown.others, refused, shown.with.len(), shown.id.clone())
                };
                match (&best, &shown) {
                    (Some(best), Some(shown)) if size(best) <= size(shown) => {}
                    (_, None) => {}
                    _ => best.clone_from(&shown),
                }
            }
        }
        if let Some(before) = before {
            let now = lacked.iter().filter(|(name, _)| !lacks.contains_key(*name));
            gained.extend(now.map(|(name, shown)| Feature {
                name: name.clone(),
                before: before.clone(),
                since: version.clone(),
                shown: shown.clone(),
            }));
        }
        lacked = lacks;
        before = Some(version);
    }
    gained
}

/// The features of today's bytes that the recorded bytes of a line lack.
fn line_lacks(op: &str, case: &Case, release: &str) -> Option<MissingFeatures> {
    let other = case.releases.get(line_of(release))?;
    if let Some(error) = &other.expect.error {
        let of_version = |_: &MissingFeatures| error.class.as_deref() == Some(UNKNOWN_VERSION);
        return refused_version(op, &case.input).filter(of_version);
    }
    let bytes = |output: &Option<Value>| output.as_ref()?.get("bytes").cloned();
    let (today, then) = (bytes(&case.expect.output)?, bytes(&other.expect.output)?);
    of_bytes(op, &case.input, &today, &then)
}

/// A case with a missing feature, if it has bytes to show.
fn shown(case: &Case, lack: &MissingFeatures) -> Option<Shown> {
    let of = |value: Option<&Value>| value?.get("bytes")?.as_str().map(str::to_owned);
    let (without, with) = match of(case.expect.output.as_ref()) {
        Some(written) => (Some(lack.bytes.clone()?), written),
        None => (None, of(Some(&case.input))?),
    };
    Some(Shown {
        id: case.id.to_string(),
        clause: case.clauses.first().cloned(),
        others: lack.features.len() - 1,
        without,
        with,
    })
}

/// The releases in the middle of each interval with a change, as far as they are published and untried.
pub(in crate::matrix) fn next(
    cells: &[Cell],
    files: &[VectorFile],
    served: &[String],
) -> Vec<String> {
    let tried: BTreeSet<&str> = cells
        .iter()
        .filter(|cell| cell.id.part.part().is_of_release())
        .map(|cell| cell.id.release.as_str())
        .collect();
    let spans: BTreeSet<(Version, Version)> = changes(cells, files)
        .into_iter()
        .flat_map(|change| change.boundaries)
        .collect();
    let mut wanted = BTreeSet::new();
    for (before, after) in spans {
        let within: Vec<&String> = served
            .iter()
            .filter(|version| !tried.contains(version.as_str()))
            .filter(|version| {
                Version::parse(version).is_ok_and(|version| {
                    before < version && version < after && version.pre.is_empty()
                })
            })
            .collect();
        if let Some(middle) = within.get(within.len() / 2) {
            wanted.insert((*middle).clone());
        }
    }
    wanted.into_iter().collect()
}

/// The page.
fn page(report: &MatrixReport, files: &[VectorFile]) -> String {
    let told = told(&report.cells);
    let changes = changes(&report.cells, files);
    let mut out = String::from(
        "# The history of the wire\n\n\
         Generated by `hypercore-conformance matrix --history`: do not edit. All vectors were asked of each release below, and\n\
         a change is told where an answer differs from that of the release before. Each release runs on the newest transport\n\
         (secret-stream, protomux, noise-handshake, compact-encoding) that its own version ranges allow, as npm installs it\n\
         today: what changed in those packages shows only where a range kept an older one.\n\n",
    );
    let versions: Vec<String> = told
        .iter()
        .map(|(version, _)| version.to_string())
        .collect();
    let _ = writeln!(
        out,
        "Releases asked ({}): {}.\n",
        versions.len(),
        versions.join(", ")
    );
    if told.len() < 2 {
        out += "Fewer than two releases were asked, so nothing can be told.\n";
        return out;
    }
    let of = |subject: &str| -> Vec<&Change> {
        let same = |change: &&Change| match change.subject.as_str() {
            ENCODING | CONVERSATION => change.subject == subject,
            _ => subject.is_empty(),
        };
        changes.iter().filter(same).collect()
    };
    let (own, talk, encoding) = (of(""), of(CONVERSATION), of(ENCODING));
    digest(&mut out, &features(&report.cells, files), report);
    out += "\n## Every change of messages, manifests and signatures\n\n\
            What is read counts here as well as what is written, and what was refused.\n\n";
    table(&mut out, &own, report);
    out += "\n## Conversations\n\n\
            The conversations of [transcript/hypercore](../vectors/transcript/hypercore.json), held again with each release in the\n\
            place of the pinned one of its line: what it says, and when, that the messages alone do not show. The digits are the\n\
            major versions of the writer and the reader.\n\n";
    table(&mut out, &talk, report);
    out += "\n## compact-encoding\n\nWhich integers, strings and arrays are read at all: a matter of the package that a release was installed with.\n\n";
    table(&mut out, &encoding, report);
    out += "\n\"as today\" is what the vectors hold: what 11.37.1 answers, or in conversations what a line was recorded to say. Other\n\
            answers are told against it, and one example stands for all cases of a row.\n";
    out
}

/// The gained features: a summary of the page.
fn digest(out: &mut String, features: &[Feature], report: &MatrixReport) {
    *out += "## What came when\n\n\
             What releases began to write and to read, each with the shortest vector that shows it, alone if one does: its bytes\n\
             as the last release without it writes them, where it does not refuse them, and as today; … for bytes that are alike or follow.\n\n\
             | since | what | before | now | vector | clause |\n|---|---|---|---|---|---|\n";
    let spec = Specification::load(&vectors::default_folder()).ok();
    for feature in features {
        let since = since(&feature.before, &feature.since, report);
        let _ = write!(out, "| {since} | {} |", feature.name);
        match &feature.shown {
            None => *out += " | | | |\n",
            Some(shown) => {
                let clause = spec.as_ref().zip(shown.clause.as_ref());
                let clause = clause.and_then(|(spec, id)| spec.clause(id));
                let clause = clause.map(|clause| {
                    let (id, anchor) = (&clause.id, clause.anchor());
                    format!("[{id}](../vectors/SPECIFICATION.md#{anchor})")
                });
                let (without, with) = match &shown.without {
                    Some(without) => beside(without, &shown.with),
                    None => ("refused".to_owned(), beside("", &shown.with).1),
                };
                let clause = clause.unwrap_or_default();
                let _ = writeln!(out, " {without} | {with} | `{}` | {clause} |", shown.id);
            }
        }
    }
}

/// Two byte strings in hex from shortly before their first difference, as code.
fn beside(without: &str, with: &str) -> (String, String) {
    const BEFORE: usize = 4;
    const BYTES: usize = 16;
    let bytes = |hex: &str| -> Vec<String> {
        let pairs = hex.as_bytes().chunks(2);
        pairs
            .map(|pair| String::from_utf8_lossy(pair).into_owned())
            .collect()
    };
    let (a, b) = (bytes(without), bytes(with));
    let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let from = match same {
        0..=BEFORE => 0,
        same => same - BEFORE,
    };
    let cut = |bytes: Vec<String>| {
        let shown: Vec<String> = bytes.iter().skip(from).take(BYTES).cloned().collect();
        let before = if from > 0 { "… " } else { "" };
        let after = if from + shown.len() < bytes.len() {
            " …"
        } else {
            ""
        };
        format!("`{before}{}{after}`", shown.join(" "))
    };
    (cut(a), cut(b))
}

/// The release of a change: exact, if none is published between it and the one before.
fn since(before: &Version, after: &Version, report: &MatrixReport) -> String {
    match is_next(before, after, report) {
        true => format!("**{after}**"),
        false => format!("after {before}, by {after}"),
    }
}

/// A row for each boundary of each change, in order of release.
fn table(out: &mut String, changes: &[&Change], report: &MatrixReport) {
    *out += "| since | where | cases | before | after | example |\n|---|---|---:|---|---|---|\n";
    let mut rows = Vec::new();
    for change in changes {
        for (at, (before, after)) in change.boundaries.iter().enumerate() {
            let (id, phases) = example(change);
            let since = since(before, after, report);
            let place = match change.subject.split_once('/') {
                Some((layer, subject)) => {
                    format!("[{layer}/{subject}](../vectors/{layer}/{subject}.json)")
                }
                None if change.subject == CONVERSATION => {
                    "[conversation](../vectors/transcript/hypercore.json)".to_owned()
                }
                None => change.subject.clone(),
            };
            let row = format!(
                "| {since} | {place} | {} | {} | {} | `{id}` |\n",
                change.cases.len(),
                cell_text(&phases[at].answer),
                cell_text(&phases[at + 1].answer),
            );
            rows.push((after, &change.subject, row));
        }
    }
    rows.sort();
    rows.iter().for_each(|(_, _, row)| *out += row);
}

/// Whether no release is published between the two, as far as known.
fn is_next(before: &Version, after: &Version, report: &MatrixReport) -> bool {
    report
        .served
        .iter()
        .filter_map(|version| Version::parse(version).ok())
        .all(|version| !(before < &version && &version < after && version.pre.is_empty()))
        && !report.served.is_empty()
}

/// The best example of a change: encoded bytes rather than decoded ones, and short ones rather than long ones.
fn example(change: &Change) -> (&str, &[Phase]) {
    let weight = |(id, phases): &&(String, Vec<Phase>)| {
        let text: usize = phases.iter().map(|phase| phase.answer.len()).sum();
        (!id.contains("encode"), text, id.clone())
    };
    let best = change.cases.iter().min_by_key(weight);
    best.map_or(("", &[][..]), |(id, phases)| {
        (id.as_str(), phases.as_slice())
    })
}

/// Text in a table cell.
fn cell_text(text: &str) -> String {
    let text = text
        .replace('|', "\\|")
        .replace('\n', " ")
        .replace('<', "&lt;");
    let cut = text
        .char_indices()
        .nth(240)
        .map_or(text.len(), |(at, _)| at);
    if cut < text.len() {
        format!("{}…", &text[..cut])
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::cell::CellId;

    fn cell(release: &str, faults: &[(&str, &str)]) -> Cell {
        let id = CellId::try_from(format!("node/{release}/node20/drift")).expect("an id");
        let mut cell = Cell::new(id);
        cell.passed = 1;
        cell.faults = faults
            .iter()
            .map(|(id, reason)| Fault::new(*id, *reason))
            .collect();
        cell.settle();
        cell
    }

    const CASE: &str = "message.sync.decode.allow-push";

    #[test]
    fn a_change_is_told_where_the_answer_changes() {
        let files = vectors::load(&vectors::default_folder()).expect("the vectors");
        let cells = [
            cell("11.0.0", &[(CASE, "no flag")]),
            cell("11.5.0", &[(CASE, "no flag")]),
            cell("11.30.0", &[]),
        ];
        let changes = changes(&cells, &files);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(changes[0].subject, "message/sync");
        let version = |text: &str| Version::parse(text).expect("a version");
        assert_eq!(
            changes[0].boundaries,
            [(version("11.5.0"), version("11.30.0"))]
        );
        let served = [
            "11.0.0", "11.5.0", "11.9.0", "11.10.0", "11.20.0", "11.30.0", "11.31.0",
        ]
        .map(str::to_owned);
        assert_eq!(next(&cells, &files, &served), ["11.10.0"]);
        let more = [
            cells[0].clone(),
            cells[1].clone(),
            cell("11.9.0", &[(CASE, "no flag")]),
            cell("11.10.0", &[]),
            cells[2].clone(),
        ];
        assert!(next(&more, &files, &served).is_empty());
    }

    #[test]
    fn what_came_is_told_with_its_bytes_and_again_where_it_was_gone() {
        let files = vectors::load(&vectors::default_folder()).expect("the vectors");
        const CASE_ENCODE: &str = "message.sync.encode.allow-push";
        const ALL: &str = "message.sync.encode.has-manifest-allow-push";
        let lacking = |id: &str, features: &[&str]| {
            let mut fault = Fault::new(id, "other bytes");
            fault.lacks = Some(MissingFeatures {
                features: features.iter().map(|name| (*name).to_owned()).collect(),
                bytes: Some("0f000500".into()),
            });
            fault
        };
        let with = |release: &str, faults: Vec<Fault>| Cell {
            faults,
            ..cell(release, &[])
        };
        let push = "sync, flag allowPush (16)";
        let cells = [
            with("11.5.0", vec![lacking(CASE_ENCODE, &[push])]),
            with(
                "11.21.0",
                vec![
                    lacking(CASE_ENCODE, &[push]),
                    lacking(ALL, &[push, "other"]),
                ],
            ),
            with("11.21.1", Vec::new()),
            with("11.23.0", vec![lacking(CASE_ENCODE, &[push])]),
            with("11.30.0", Vec::new()),
        ];
        let features = features(&cells, &files);
        let told: Vec<(String, String)> = features
            .iter()
            .map(|feature| (feature.since.to_string(), feature.name.clone()))
            .collect();
        let expected = [("11.21.1", "other"), ("11.21.1", push), ("11.30.0", push)];
        assert_eq!(
            told,
            expected.map(|(since, name)| (since.to_owned(), name.to_owned()))
        );
        // Prefer a case that lacks nothing else.
        assert_eq!(
            features[0].shown.as_ref().map(|shown| &*shown.id),
            Some(ALL)
        );
        let shown = features[1].shown.as_ref().expect("a case");
        assert_eq!(shown.id, CASE_ENCODE);
        assert_eq!(shown.without.as_deref(), Some("0f000500"));
        let report = crate::matrix::report::of_cells(cells.to_vec());
        let page = page(&report, &files);
        assert!(page.contains("| `0f 00 05 00` | `"), "{page}");
        assert!(page.contains("](../vectors/SPECIFICATION.md#"), "{page}");
        // Even if another case comes first by its bytes and its id.
        let both = [
            lacking(CASE_ENCODE, &[push, "other"]),
            lacking(ALL, &[push]),
        ];
        let cells = [with("11.21.0", both.to_vec()), with("11.21.1", Vec::new())];
        let features = super::features(&cells, &files);
        let shown = features.iter().find(|feature| feature.name == push);
        let shown = shown.and_then(|feature| feature.shown.as_ref());
        assert_eq!(shown.map(|shown| &*shown.id), Some(ALL));
    }

    #[test]
    fn a_line_lacks_what_was_recorded_of_it() {
        let files = vectors::load(&vectors::default_folder()).expect("the vectors");
        let told = |release: &str| -> Vec<String> {
            let gained = features(&[cell(release, &[]), cell("11.37.1", &[])], &files);
            gained.into_iter().map(|feature| feature.name).collect()
        };
        for name in ["sync, flag allowPush (16)", "manifest, version 2"] {
            assert!(told("10.38.2").contains(&name.to_owned()), "{name}");
        }
        assert_eq!(told("11.36.0"), [""; 0]);
    }

    #[test]
    fn bytes_are_shown_from_where_they_differ() {
        let told = |a: &str, b: &str| beside(a, b);
        let both = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(told("0102", "010203"), both("`01 02`", "`01 02 03`"));
        let long = "00".repeat(10);
        assert_eq!(
            told(&long, &format!("{long}{}", "11".repeat(20))),
            both(
                "`… 00 00 00 00`",
                "`… 00 00 00 00 11 11 11 11 11 11 11 11 11 11 11 11 …`"
            )
        );
    }
}
