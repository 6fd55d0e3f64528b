//! One check, and how it went.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::verdict::Verdict;
use crate::diff::Difference;
use crate::vectors::Expectation;

/// What kind of check it was.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Whether the adapter keeps to its own protocol.
    Adapter,
    /// A recorded vector.
    Vector,
    /// A scenario against a live peer.
    Live,
    /// Whether the run itself is sound: something was run, nothing twice, and the expected failures are up to date.
    Suite,
}

/// How one check went.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Check {
    /// What kind of check it was.
    pub kind: Kind,
    /// Its id; `--id` takes it.
    pub id: String,
    /// The layer of the protocol, or `live`.
    pub layer: String,
    /// The subject of its file, or the feature.
    pub subject: String,
    /// What it shows, in one line.
    pub comment: String,
    /// The clauses of the specification that it tests.
    pub clauses: Vec<String>,
    /// The flags of the case.
    pub flags: Vec<String>,
    /// The operation that was asked for.
    pub op: Option<String>,
    /// What the case calls for.
    pub result: Option<Expectation>,
    /// How it went.
    pub verdict: Verdict,
    /// How it went by itself, where it is listed as an expected failure or as flaky.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Verdict>,
    /// The entry that lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<Listing>,
    /// Why, where that is not plain.
    pub reason: Option<String>,
    /// Where the answer differs.
    pub differences: Vec<Difference>,
    /// The input, with what is very long abridged; only where the verdict is not ok.
    pub input: Option<Value>,
    /// What was expected.
    pub expected: Option<Value>,
    /// What was answered.
    pub actual: Option<Value>,
    /// What Node was seen to do.
    pub node: Option<Value>,
    /// The end of what the implementation wrote to stderr meanwhile; only where the check failed.
    pub stderr: Option<String>,
    /// All that passed on the wire: bytes both ways, keys, and a trace of the records; only where a check failed that has
    /// the scripted peer at the other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<Value>,
    /// How long it took.
    #[serde(
        rename = "seconds",
        serialize_with = "seconds",
        deserialize_with = "from_seconds"
    )]
    pub duration: Duration,
    /// The command that runs it again; only in reports, and only where the check failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerun: Option<String>,
}

fn seconds<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64((duration.as_secs_f64() * 1e6).round() / 1e6)
}

fn from_seconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(serde::de::Error::custom)
}

impl Check {
    /// A check of a kind, passed until told otherwise.
    pub fn new(kind: Kind, id: impl Into<String>, layer: &str, subject: &str) -> Self {
        Self {
            kind,
            id: id.into(),
            layer: layer.to_owned(),
            subject: subject.to_owned(),
            comment: String::new(),
            clauses: Vec::new(),
            flags: Vec::new(),
            op: None,
            result: None,
            verdict: Verdict::Ok,
            outcome: None,
            listed: None,
            reason: None,
            differences: Vec::new(),
            input: None,
            expected: None,
            actual: None,
            node: None,
            stderr: None,
            transcript: None,
            duration: Duration::ZERO,
            rerun: None,
        }
    }

    /// The same with a comment.
    pub fn with_comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = comment.into();
        self
    }

    /// The same, failed for this reason.
    pub fn failed(mut self, reason: impl Into<String>) -> Self {
        self.verdict = Verdict::Failed;
        self.reason = Some(reason.into());
        self
    }
}

/// Which of the two lists an entry stands in.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum List {
    /// Must fail.
    Expected,
    /// May fail or not.
    Flaky,
}

impl List {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::Flaky => "flaky",
        }
    }
}

/// One entry, as reports show it beside each check that it matches.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    /// The list it stands in.
    pub list: List,
    /// An id, or a glob over ids.
    pub id: String,
    /// Why.
    pub reason: String,
    /// Where it is followed up: an address, or a place in the author's repository.
    pub link: String,
}

/// A failure of the run as a whole.
pub(crate) fn suite_fault(id: &str, comment: &str, reason: String) -> Check {
    Check::new(Kind::Suite, id, "suite", "run")
        .with_comment(comment)
        .failed(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_told_in_seconds_to_the_microsecond() {
        let mut check = Check::new(Kind::Vector, "a", "mux", "subject");
        check.duration = Duration::from_nanos(2_345_678_912);
        let told = serde_json::to_value(&check).expect("JSON");
        assert_eq!(told["seconds"], json!(2.345_679));
        let read: Check = serde_json::from_value(told).expect("a check");
        assert_eq!(read.duration, Duration::from_micros(2_345_679));
    }
}
