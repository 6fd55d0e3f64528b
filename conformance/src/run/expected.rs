//! The known failures of an implementation: a file in its author's repository.
//!
//! ```toml
//! [[expected]]
//! id = "message.sync.decode.*"
//! reason = "trailing bytes are refused"
//! link = "https://example.org/issues/1"
//!
//! [[flaky]]
//! id = "live.flow.a-reader-that-stops"
//! reason = "the socket's buffer is not bounded"
//! link = "https://example.org/issues/2"
//! ```
//!
//! Listed checks run like all others. To keep the file current, a check that is listed under `expected` and does not
//! fail, an entry that matches nothing, and a check that two entries match fail the run. Checks listed under `flaky`
//! are reported and not judged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use globset::{Glob, GlobMatcher};
use serde::{Deserialize, Serialize};

use super::Run;
use super::check::{Check, Kind, List, Listing, suite_fault};
use super::verdict::Verdict;

/// How many ids are named where one entry or two match many.
const NAMED_IDS: usize = 5;

/// The parsed file.
#[derive(Clone, Debug)]
pub struct Expected {
    path: PathBuf,
    entries: Vec<(Listing, GlobMatcher)>,
}

/// How the file applied to a run.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    /// The file.
    pub file: String,
    /// Its entries, in order.
    pub entries: Vec<AppliedEntry>,
}

/// One entry, and the number of checks of the run that it matched.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AppliedEntry {
    /// The entry.
    pub listing: Listing,
    /// The number of checks that it matched and that were run.
    pub matched: usize,
}

impl Applied {
    /// Adds the matches of another part of the same run.
    pub fn add(&mut self, other: Self) {
        for entry in other.entries {
            let own = self
                .entries
                .iter_mut()
                .find(|own| own.listing == entry.listing);
            match own {
                Some(own) => own.matched += entry.matched,
                None => self.entries.push(entry),
            }
        }
    }
}

/// Why the file could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExpectedError {
    /// It could not be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        error: std::io::Error,
    },
    /// It is invalid.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The fault.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    #[serde(default)]
    expected: Vec<EntryForm>,
    #[serde(default)]
    flaky: Vec<EntryForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryForm {
    id: String,
    reason: String,
    link: String,
}

impl Expected {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// If it can't be read, is not TOML, has an unknown field, or an entry without an id, a reason or a link.
    pub fn read(path: &Path) -> Result<Self, ExpectedError> {
        let text = std::fs::read_to_string(path).map_err(|error| ExpectedError::Read {
            path: path.to_owned(),
            error,
        })?;
        Self::parse(path, &text)
    }

    /// Parses a list; `path` is named in errors.
    ///
    /// # Errors
    /// As [`Expected::read`], except for those of the file.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ExpectedError> {
        let invalid = |reason: String| ExpectedError::Invalid {
            path: path.to_owned(),
            reason,
        };
        let form: FileForm = toml::from_str(text).map_err(|error| invalid(error.to_string()))?;
        let both = [(List::Expected, form.expected), (List::Flaky, form.flaky)];
        let mut entries = Vec::new();
        for (list, forms) in both {
            for EntryForm { id, reason, link } in forms {
                for (name, text) in [("id", &id), ("reason", &reason), ("link", &link)] {
                    if text.trim().is_empty() {
                        let list = list.name();
                        return Err(invalid(format!(
                            "an entry of {list} has an empty {name} (id {id:?})"
                        )));
                    }
                }
                let glob = Glob::new(&id).map_err(|error| invalid(error.to_string()))?;
                let listing = Listing {
                    list,
                    id,
                    reason,
                    link,
                };
                entries.push((listing, glob.compile_matcher()));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            entries,
        })
    }

    /// Gives listed checks the verdict of their entry, and adds a failure for each useless entry.
    ///
    /// `known` are the existing ids, whether or not this run selected them: an entry for one of those is not stale.
    pub fn apply(&self, run: &mut Run, known: &BTreeSet<String>) {
        let mut faults = self.repeated();
        faults.extend(self.matched_twice(run, known));
        for check in run
            .checks
            .iter_mut()
            .filter(|check| check.kind != Kind::Suite)
        {
            if let Some(listing) = self.entries_for(&check.id).first() {
                list_check(check, listing);
            }
        }
        let mut entries = Vec::new();
        for (listing, glob) in &self.entries {
            let (asked, unsupported): (Vec<&Check>, Vec<_>) = run
                .checks
                .iter()
                .filter(|check| glob.is_match(&check.id))
                .partition(|check| check.verdict != Verdict::Unsupported);
            let elsewhere = || known.iter().any(|id| glob.is_match(id));
            if asked.is_empty() && !unsupported.is_empty() {
                faults.push(self.stale(listing, "matches only what the adapter does not support"));
            } else if asked.is_empty() && !elsewhere() {
                faults.push(self.stale(listing, "matches nothing"));
            }
            entries.push(AppliedEntry {
                listing: listing.clone(),
                matched: asked.len(),
            });
        }
        run.checks.extend(faults);
        run.expected = Some(Applied {
            file: self.path.display().to_string(),
            entries,
        });
    }

    /// Whether an entry of either list matches an id.
    pub fn lists(&self, id: &str) -> bool {
        !self.entries_for(id).is_empty()
    }

    /// The entries that match an id, in order.
    fn entries_for(&self, id: &str) -> Vec<&Listing> {
        let matching = self.entries.iter().filter(|(_, glob)| glob.is_match(id));
        matching.map(|(listing, _)| listing).collect()
    }

    fn stale(&self, listing: &Listing, what: &str) -> Check {
        let Listing { list, id, .. } = listing;
        suite_fault(
            &format!("suite.stale-entry.{id}"),
            "Each entry of the expected failures matches something.",
            format!(
                "{}: the entry {id:?} of {} {what}; remove it",
                self.path.display(),
                list.name()
            ),
        )
    }

    fn repeated(&self) -> Vec<Check> {
        let mut seen = BTreeSet::new();
        let ids = self.entries.iter().map(|(listing, _)| listing.id.as_str());
        let twice: BTreeSet<&str> = ids.filter(|id| !seen.insert(*id)).collect();
        let fault = |id: &str| {
            suite_fault(
                &format!("suite.repeated-entry.{id}"),
                "Each entry of the expected failures stands there once.",
                format!("{}: {id:?} is listed more than once", self.path.display()),
            )
        };
        twice.into_iter().map(fault).collect()
    }

    /// Finds checks that two entries match, which would hide that one of them is useless.
    fn matched_twice(&self, run: &Run, known: &BTreeSet<String>) -> Vec<Check> {
        let mut pairs: Vec<([&str; 2], Vec<&str>)> = Vec::new();
        let ids: BTreeSet<&str> = known
            .iter()
            .map(String::as_str)
            .chain(run.checks.iter().map(|check| check.id.as_str()))
            .collect();
        for id in ids {
            let &[first, second, ..] = self.entries_for(id).as_slice() else {
                continue;
            };
            let (first, second) = (first.id.as_str(), second.id.as_str());
            // A duplicate entry is reported as such.
            if first == second {
                continue;
            }
            match pairs.iter_mut().find(|(pair, _)| *pair == [first, second]) {
                Some((_, ids)) => ids.push(id),
                None => pairs.push(([first, second], vec![id])),
            }
        }
        let fault = |([first, second], ids): ([&str; 2], Vec<&str>)| {
            let mut named = ids[..ids.len().min(NAMED_IDS)].join(", ");
            if ids.len() > NAMED_IDS {
                named.push_str(&format!(" and {} more", ids.len() - NAMED_IDS));
            }
            suite_fault(
                &format!("suite.overlapping-entries.{first}.{second}"),
                "Each check is listed by one entry at most.",
                format!(
                    "{}: {first:?} and {second:?} both match {named}",
                    self.path.display()
                ),
            )
        };
        pairs.into_iter().map(fault).collect()
    }
}

fn list_check(check: &mut Check, listing: &Listing) {
    // A check that was not run neither failed nor passed.
    if check.verdict == Verdict::Unsupported {
        return;
    }
    let verdict = match (listing.list, check.verdict) {
        (List::Flaky, _) => Verdict::Flaky,
        (List::Expected, Verdict::Failed) => Verdict::ExpectedFailure,
        (List::Expected, _) => Verdict::UnexpectedPass,
    };
    check.outcome = Some(std::mem::replace(&mut check.verdict, verdict));
    check.listed = Some(listing.clone());
    if verdict == Verdict::UnexpectedPass {
        check.reason = Some(format!(
            "listed as an expected failure ({}), but it is {}; remove it from the list",
            listing.reason,
            check.outcome.unwrap_or(verdict),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::Hello;
    use std::time::Duration;

    fn read(text: &str) -> Expected {
        Expected::parse(Path::new("expected.toml"), text).expect("a file of expected failures")
    }

    fn entry(list: &str, id: &str) -> String {
        format!("[[{list}]]\nid = {id:?}\nreason = \"why\"\nlink = \"where\"\n")
    }

    /// A run in which `a.*` failed, `b.*` passed and `c.*` was unsupported.
    fn run() -> Run {
        let mut checks = Vec::new();
        for (id, verdict) in [
            ("a.one", Verdict::Failed),
            ("a.two", Verdict::Failed),
            ("b.one", Verdict::Ok),
            ("b.two", Verdict::NonStrict),
            ("c.one", Verdict::Unsupported),
        ] {
            let mut check = Check::new(Kind::Vector, id, "layer", "subject");
            check.verdict = verdict;
            checks.push(check);
        }
        Run {
            implementation: Hello::default(),
            checks,
            left_out: Vec::new(),
            expected: None,
            duration: Duration::ZERO,
        }
    }

    fn apply(text: &str, known: &[&str]) -> Run {
        let mut run = run();
        let known = known.iter().map(|&id| id.to_owned()).collect();
        read(text).apply(&mut run, &known);
        run
    }

    fn verdict(run: &Run, id: &str) -> Verdict {
        let check = run.checks.iter().find(|check| check.id == id);
        check.expect(id).verdict
    }

    fn faults(run: &Run) -> Vec<&str> {
        let faults = run.checks.iter().filter(|check| check.kind == Kind::Suite);
        faults.map(|check| check.id.as_str()).collect()
    }

    #[test]
    fn a_listed_failure_does_not_fail_the_run() {
        let run = apply(&entry("expected", "a.*"), &[]);
        assert!(!run.has_failed());
        assert_eq!(verdict(&run, "a.one"), Verdict::ExpectedFailure);
        assert_eq!(run.checks[0].outcome, Some(Verdict::Failed));
        let applied = run.expected.expect("the file");
        assert_eq!(applied.entries[0].matched, 2);
    }

    #[test]
    fn a_listed_pass_fails_the_run() {
        for id in ["b.one", "b.two"] {
            let text = entry("expected", "a.*") + &entry("expected", id);
            let run = apply(&text, &[]);
            assert!(run.has_failed());
            assert_eq!(verdict(&run, id), Verdict::UnexpectedPass);
            assert_eq!(faults(&run), Vec::<&str>::new());
        }
    }

    #[test]
    fn what_is_flaky_decides_nothing() {
        let run = apply(&(entry("flaky", "a.*") + &entry("flaky", "b.one")), &[]);
        assert!(!run.has_failed());
        assert_eq!(verdict(&run, "a.one"), Verdict::Flaky);
        assert_eq!(run.checks[0].outcome, Some(Verdict::Failed));
        assert_eq!(run.checks[2].outcome, Some(Verdict::Ok));
    }

    #[test]
    fn an_entry_must_match_what_was_asked() {
        for list in ["expected", "flaky"] {
            let text = entry("expected", "a.*") + &entry(list, "d.*");
            assert_eq!(faults(&apply(&text, &[])), ["suite.stale-entry.d.*"]);
            // It exists, but was not selected.
            assert_eq!(faults(&apply(&text, &["d.one"])), Vec::<&str>::new());
            let text = entry("expected", "a.*") + &entry(list, "c.one");
            let run = apply(&text, &["c.one"]);
            assert_eq!(faults(&run), ["suite.stale-entry.c.one"]);
            assert_eq!(verdict(&run, "c.one"), Verdict::Unsupported);
            assert!(run.has_failed());
        }
    }

    #[test]
    fn nothing_is_listed_twice() {
        let twice = entry("expected", "a.*") + &entry("flaky", "a.*");
        assert_eq!(faults(&apply(&twice, &[])), ["suite.repeated-entry.a.*"]);
        let both = entry("expected", "a.*") + &entry("expected", "a.one");
        let run = apply(&both, &[]);
        assert_eq!(faults(&run), ["suite.overlapping-entries.a.*.a.one"]);
        assert!(run.has_failed());
    }

    #[test]
    fn each_entry_says_what_why_and_where() {
        let invalid = |text: &str| Expected::parse(Path::new("f"), text).expect_err(text);
        for text in [
            "[[expected]]\nid = \"a\"\nreason = \"r\"\n",
            "[[expected]]\nid = \"a\"\nreason = \" \"\nlink = \"l\"\n",
            "[[expected]]\nid = \"a\"\nreason = \"r\"\nlink = \"l\"\nsince = 1\n",
            "[[failing]]\nid = \"a\"\nreason = \"r\"\nlink = \"l\"\n",
            "[[flaky]]\nid = \"[\"\nreason = \"r\"\nlink = \"l\"\n",
            "expected",
        ] {
            assert!(matches!(invalid(text), ExpectedError::Invalid { .. }));
        }
        assert!(matches!(
            Expected::read(Path::new("/no/such/file")),
            Err(ExpectedError::Read { .. })
        ));
    }

    #[test]
    fn a_fault_says_which_entry_and_what_to_do() {
        let reasons = |run: &Run| -> Vec<String> {
            let faults = run.checks.iter().filter(|check| check.kind == Kind::Suite);
            faults.filter_map(|check| check.reason.clone()).collect()
        };
        let stale = apply(&(entry("expected", "d") + &entry("flaky", "e")), &[]);
        assert_eq!(
            reasons(&stale),
            [
                "expected.toml: the entry \"d\" of expected matches nothing; remove it",
                "expected.toml: the entry \"e\" of flaky matches nothing; remove it",
            ]
        );
        let unsupported = apply(&entry("expected", "c.*"), &[]);
        assert_eq!(
            reasons(&unsupported),
            [
                "expected.toml: the entry \"c.*\" of expected matches only what the adapter does not support; remove it"
            ]
        );
        let passed = apply(&entry("expected", "b.one"), &[]);
        assert_eq!(
            passed.checks[2].reason.as_deref(),
            Some("listed as an expected failure (why), but it is ok; remove it from the list")
        );
        let failed = apply(&entry("expected", "a.one"), &[]);
        assert_eq!(failed.checks[0].reason, None, "it has its own");
    }

    #[test]
    fn an_entry_counts_what_was_asked() {
        let run = apply(&entry("expected", "?.one"), &[]);
        let applied = run.expected.expect("the file");
        assert_eq!(applied.file, "expected.toml");
        assert_eq!(applied.entries[0].matched, 2, "c.one was not asked");
    }

    #[test]
    fn a_list_knows_what_it_lists() {
        let expected = read(&(entry("expected", "a.*") + &entry("flaky", "b.one")));
        for (id, listed) in [
            ("a.one", true),
            ("b.one", true),
            ("b.two", false),
            ("", false),
        ] {
            assert_eq!(expected.lists(id), listed, "{id}");
        }
    }

    #[test]
    fn overlaps_are_told_pair_by_pair() {
        let text = entry("expected", "a.*") + &entry("flaky", "*.one") + &entry("expected", "d.?");
        let run = apply(&text, &["d.one", "a.three", "d.1"]);
        assert_eq!(faults(&run), ["suite.overlapping-entries.a.*.*.one"]);
        let reason = |known: &[&str]| {
            let text = entry("expected", "a.*") + &entry("expected", "?.*");
            let run = apply(&text, known);
            let fault = run.checks.into_iter().find(|check| {
                check.kind == Kind::Suite && check.id == "suite.overlapping-entries.a.*.?.*"
            });
            fault.and_then(|check| check.reason).expect("a reason")
        };
        assert_eq!(
            reason(&["a.3", "a.4", "a.5"]),
            "expected.toml: \"a.*\" and \"?.*\" both match a.3, a.4, a.5, a.one, a.two"
        );
        assert_eq!(
            reason(&["a.3", "a.4", "a.5", "a.6"]),
            "expected.toml: \"a.*\" and \"?.*\" both match a.3, a.4, a.5, a.6, a.one and 1 more"
        );
    }

    #[test]
    fn what_two_parts_of_a_run_matched_is_added_up() {
        let applied = |text: &str| apply(text, &["d"]).expected.expect("the file");
        let mut sum = applied(&entry("expected", "a.*"));
        sum.add(applied(
            &(entry("expected", "a.*") + &entry("flaky", "b.one")),
        ));
        sum.add(applied(&entry("flaky", "b.one")));
        let matched: Vec<_> = sum
            .entries
            .iter()
            .map(|entry| (entry.listing.id.as_str(), entry.matched))
            .collect();
        assert_eq!(matched, [("a.*", 4), ("b.one", 2)]);
    }

    #[test]
    fn only_checks_of_the_implementation_are_listed() {
        let mut run = run();
        run.checks
            .push(suite_fault("suite.one", "comment", "reason".into()));
        let text = entry("expected", "a.*") + &entry("expected", "suite.*");
        read(&text).apply(&mut run, &BTreeSet::new());
        assert_eq!(verdict(&run, "suite.one"), Verdict::Failed);
    }

    #[test]
    fn a_file_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("expected.toml");
        std::fs::write(&path, entry("expected", "a.*")).expect("written");
        assert!(Expected::read(&path).expect("it is fine").lists("a.one"));
        std::fs::write(
            &path,
            "[[flaky]]\nid = \"a\"\nreason = \"\"\nlink = \"l\"\n",
        )
        .expect("written");
        assert_eq!(
            Expected::read(&path).expect_err("no reason").to_string(),
            format!(
                "{}: an entry of flaky has an empty reason (id \"a\")",
                path.display()
            )
        );
    }
}
