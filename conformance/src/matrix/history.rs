//! What changed on the wire, and when: which releases answer a case of the vectors as today's Node does, and which as an
//! earlier one did.
//!
//! Nothing here is written down by hand. A release is held to the recordings of its line; where it answers otherwise, or
//! where its line itself was recorded to answer otherwise than today's, the case has another phase. Cases with the same
//! phases in the same file tell one change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use semver::Version;

use super::cell::{Cell, Part, State};
use super::conversation::{PREFIX, is_asked};
use super::report::MatrixReport;
use super::wire::line_of;
use crate::node;
use crate::vectors::{Case, VectorFile};

/// What today's Node answers.
const TODAY: &str = "as today";

/// The subject of what comes with the package that reads and writes integers, strings and arrays.
const ENCODING: &str = "compact-encoding";

/// The subject of what whole conversations tell.
const CONVERSATION: &str = "conversation";

/// From a release on, a case is answered in this way.
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

/// The drift cells that tell what a release answers, oldest first.
fn told(cells: &[Cell]) -> Vec<(Version, &Cell)> {
    let mut told: Vec<(Version, &Cell)> = cells
        .iter()
        .filter(|cell| cell.id.part == Part::Drift && cell.state != State::Unavailable)
        .filter_map(|cell| Some((Version::parse(&cell.id.release).ok()?, cell)))
        .collect();
    told.sort_by(|a, b| (&a.0, &a.1.id.runtime).cmp(&(&b.0, &b.1.id.runtime)));
    // The wire does not depend on what runs it; were it to, the matrix tells.
    told.dedup_by(|a, b| a.0 == b.0);
    told
}

/// How `line`, one of the pinned releases, was recorded to answer where it is not today's.
fn line_answer(op: &str, case: &Case, release: &str) -> Option<String> {
    let line = line_of(release);
    if line == node::RELEASES[node::RELEASES.len() - 1] {
        return None;
    }
    let other = case.releases.get(line)?;
    let text = match (&other.expect.output, &other.expect.error) {
        (Some(output), _) => {
            super::wire::compare_answers(op, &case.input, case.expect.output.as_ref(), output)
        }
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
            // How integers are read is one matter, whichever message they stand in.
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
            change.cases.push((case.id.clone(), phases));
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

type Told = (String, Vec<Phase>, Vec<(Version, Version)>);

/// Conversations that a release holds otherwise than the one before it, of those that are asked to hold them.
fn conversations(told: &[(Version, &Cell)], answers: &[BTreeMap<&str, &str>]) -> Vec<Told> {
    let ids: BTreeSet<&str> = answers.iter().flat_map(BTreeMap::keys).copied().collect();
    let ids = ids.into_iter().filter(|id| id.starts_with(PREFIX));
    let one = |id: &str| {
        let mut phases: Vec<Phase> = Vec::new();
        let mut boundaries = Vec::new();
        let mut before: Option<&Version> = None;
        let asked = told.iter().zip(answers);
        for ((version, _), answers) in asked.filter(|((_, cell), _)| is_asked(id, &cell.id.release))
        {
            // Of 10 and 11 with each other, each is held to what was recorded with the other at its pinned release.
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

/// The releases in the middle of each span in which something changed, as far as they are served and were not yet tried.
pub(super) fn next(cells: &[Cell], files: &[VectorFile], served: &[String]) -> Vec<String> {
    let tried: BTreeSet<&str> = cells
        .iter()
        .filter(|cell| cell.id.part == Part::Drift)
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
pub fn markdown(report: &MatrixReport, files: &[VectorFile]) -> String {
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
    out += "## Messages, manifests and signatures\n\n";
    table(&mut out, &own, report);
    out += "\n## Conversations\n\n\
            The conversations of [transcript/hypercore](../vectors/transcript/hypercore.json), held again with each release in the\n\
            place of the pinned one of its line: what it says, and when, that the messages alone do not show. The digits are the\n\
            major versions of the writer and the reader.\n\n";
    table(&mut out, &talk, report);
    out += "\n## compact-encoding\n\nWhich integers, strings and arrays are read at all: a matter of the package that a release was installed with.\n\n";
    table(&mut out, &encoding, report);
    out += "\n\"as today\" is what the vectors hold: what 11.37.1 answers, or in conversations what a line was recorded to say. Other answers are told against it, and one example stands\n\
            for all cases of a row.\n";
    out
}

/// A row for each boundary of each change, in order of the releases.
fn table(out: &mut String, changes: &[&Change], report: &MatrixReport) {
    *out += "| since | where | cases | before | after | example |\n|---|---|---:|---|---|---|\n";
    let mut rows = Vec::new();
    for change in changes {
        for (at, (before, after)) in change.boundaries.iter().enumerate() {
            let (id, phases) = example(change);
            let since = if is_next(before, after, report) {
                format!("**{after}**")
            } else {
                format!("after {before}, by {after}")
            };
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

/// Whether no release is served between the two, as far as was asked.
fn is_next(before: &Version, after: &Version, report: &MatrixReport) -> bool {
    report
        .served
        .iter()
        .filter_map(|version| Version::parse(version).ok())
        .all(|version| !(before < &version && &version < after && version.pre.is_empty()))
        && !report.served.is_empty()
}

/// The case that tells a change best: what is written tells more than what is read, and short more than long.
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

/// Text within a table.
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
    use super::super::cell::{CellId, Fault};
    use super::*;
    use crate::vectors;

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
}
