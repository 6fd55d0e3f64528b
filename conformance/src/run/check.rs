//! One check and its result.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::verdict::Verdict;
use crate::diff::Difference;
use crate::vectors::Expectation;

/// The kind of a check.
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

/// A check and its result.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Check {
    /// Its kind.
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
    /// The requested operation.
    pub op: Option<String>,
    /// The required result.
    pub result: Option<Expectation>,
    /// Its verdict.
    pub verdict: Verdict,
    /// Its own verdict, if it is listed as an expected failure or as flaky.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Verdict>,
    /// The entry that lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<Listing>,
    /// The reason, where the verdict alone does not say it.
    pub reason: Option<String>,
    /// Where the answer differs.
    pub differences: Vec<Difference>,
    /// The input, abridged if very long; only if the verdict is not ok.
    pub input: Option<Value>,
    /// The expected answer.
    pub expected: Option<Value>,
    /// The actual answer.
    pub actual: Option<Value>,
    /// Node's recorded behaviour.
    pub node: Option<Value>,
    /// The end of the implementation's stderr during the check; only if the check failed.
    pub stderr: Option<String>,
    /// All traffic on the wire: bytes both ways, keys, and a trace of the records; only for a failed check with the
    /// scripted peer at the other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<Value>,
    /// How long it took.
    #[serde(
        rename = "seconds",
        serialize_with = "seconds",
        deserialize_with = "from_seconds"
    )]
    pub duration: Duration,
    /// The rerun command; only in reports, and only if the check failed.
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
    /// A new check, passed by default.
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

    /// The same check, failed for this reason.
    pub fn failed(mut self, reason: impl Into<String>) -> Self {
        self.verdict = Verdict::Failed;
        self.reason = Some(reason.into());
        self
    }
}

/// The list that an entry is in.
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

/// One entry, as shown in reports beside each check that it matches.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    /// Its list.
    pub list: List,
    /// An id, or a glob over ids.
    pub id: String,
    /// The reason.
    pub reason: String,
    /// A link: an address, or a place in the author's repository.
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
