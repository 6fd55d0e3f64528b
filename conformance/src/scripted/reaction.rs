//! An implementation's reaction, compared with Node's.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::run::verdict::Verdict;

/// More lines of one kind in a row than this are shown as one.
const ROW: usize = 10;

/// How the stream ended.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum End {
    /// It is alive: a message passed each way afterwards.
    Alive,
    /// It was destroyed, with this reason.
    Destroyed {
        /// The layer that refused.
        layer: String,
        /// The class of the error.
        class: String,
    },
    /// The implementation reported a clean end.
    Ended,
    /// It is closed, without a reason.
    Closed,
    /// It neither continued nor closed.
    Silent,
    /// The implementation reported the stream closed, but left its socket open.
    Lingers,
}

impl fmt::Display for End {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alive => out.write_str("stays alive"),
            Self::Destroyed { layer, class } => {
                write!(out, "destroys the stream ({layer}, {class})")
            }
            Self::Ended => out.write_str("takes it for a clean end"),
            Self::Closed => out.write_str("closes the stream without a word"),
            Self::Silent => out.write_str("neither answers nor closes the stream"),
            Self::Lingers => {
                out.write_str("says that the stream is gone, and leaves its socket open")
            }
        }
    }
}

/// An implementation's reaction.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Reaction {
    /// How the stream ended.
    #[serde(flatten)]
    pub end: End,
    /// The implementation's events up to then, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<String>,
    /// Its messages, in order. Unknown if it closed, since messages in transit may be lost with the connection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sent: Vec<String>,
}

impl fmt::Display for Reaction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.end)?;
        for (verb, lines) in [("tells", &self.told), ("answers", &self.sent)] {
            if !lines.is_empty() {
                write!(out, "; {verb} {}", lines.join(", "))?;
            }
        }
        Ok(())
    }
}

impl Reaction {
    pub(super) fn new(end: End) -> Self {
        Self {
            end,
            told: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// Long rows of lines of one kind are merged.
    pub(super) fn shortened(mut self) -> Self {
        self.told = rows(self.told);
        self.sent = rows(self.sent);
        self
    }
}

fn rows(lines: Vec<String>) -> Vec<String> {
    let kind = |line: &String| line.split(' ').next().unwrap_or_default().to_owned();
    let mut short = Vec::new();
    for row in lines.chunk_by(|a, b| kind(a) == kind(b)) {
        match row {
            [first, .., last] if row.len() >= ROW => {
                short.push(format!("{first} … {last} ({} in a row)", row.len()));
            }
            _ => short.extend_from_slice(row),
        }
    }
    short
}

/// An accepted reaction other than Node's.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tolerated {
    /// `alive`, `destroyed` or `ended`.
    pub end: String,
    /// For a destroyed stream, the layer; any if absent.
    #[serde(default)]
    pub layer: Option<String>,
    /// For a live stream, all events.
    #[serde(default)]
    pub told: Vec<String>,
    /// For a live stream, all messages.
    #[serde(default)]
    pub sent: Vec<String>,
    /// Why it is accepted.
    pub why: String,
}

impl Tolerated {
    fn takes(&self, reaction: &Reaction) -> bool {
        match (self.end.as_str(), &reaction.end) {
            ("alive", End::Alive) => self.told == reaction.told && self.sent == reaction.sent,
            ("ended", End::Ended) => true,
            ("destroyed", End::Destroyed { layer, .. }) => {
                self.layer.as_ref().is_none_or(|wanted| wanted == layer)
            }
            _ => false,
        }
    }
}

/// A verdict, and its grounds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) reason: Option<String>,
}

/// Compares a reaction with Node's, `(release, reaction)`; the first of them decides.
pub(super) fn judge(
    actual: &Reaction,
    node: &[(&str, &Reaction)],
    tolerated: &[Tolerated],
) -> Judged {
    let Some(((release, expected), others)) = node.split_first() else {
        return judgement(Verdict::Failed, "no reaction of Node was recorded".into());
    };
    if let (true, reason) = as_good(actual, expected) {
        return match reason {
            None => Judged {
                verdict: Verdict::Ok,
                reason: None,
            },
            Some(reason) => judgement(Verdict::NonStrict, reason),
        };
    }
    if let Some((other, _)) = others
        .iter()
        .find(|(_, reaction)| as_good(actual, reaction) == (true, None))
    {
        return judgement(
            Verdict::NonStrict,
            format!("it {actual}, as Node {other} does; Node {release} {expected}"),
        );
    }
    if let Some(tolerated) = tolerated.iter().find(|other| other.takes(actual)) {
        return judgement(
            Verdict::NonStrict,
            format!("it {}: {}; Node {expected}", actual.end, tolerated.why),
        );
    }
    // Closing and messages are reported separately.
    let mut reasons = Vec::new();
    if !same_end(&actual.end, &expected.end) {
        reasons.push(format!(
            "closing: it {}, where Node {}",
            actual.end, expected.end
        ));
    }
    for (what, actual, expected) in [
        ("told", &actual.told, &expected.told),
        ("sent", &actual.sent, &expected.sent),
    ] {
        if actual != expected {
            reasons.push(format!(
                "messages: {what} [{}], where Node has [{}]",
                actual.join(", "),
                expected.join(", ")
            ));
        }
    }
    judgement(Verdict::Failed, reasons.join("\n"))
}

fn judgement(verdict: Verdict, reason: String) -> Judged {
    Judged {
        verdict,
        reason: Some(reason),
    }
}

fn same_end(actual: &End, expected: &End) -> bool {
    match (actual, expected) {
        (End::Destroyed { layer, .. }, End::Destroyed { layer: wanted, .. }) => layer == wanted,
        _ => actual == expected,
    }
}

/// Whether a reaction matches the expected one, and a remark if it is not identical.
fn as_good(actual: &Reaction, expected: &Reaction) -> (bool, Option<String>) {
    let messages = actual.told == expected.told && actual.sent == expected.sent;
    let end = match (&actual.end, &expected.end) {
        (actual, expected) if actual == expected => (true, None),
        (End::Destroyed { class, .. }, End::Destroyed { class: wanted, .. })
            if same_end(&actual.end, &expected.end) =>
        {
            let said = format!("closing: refused as {class}, where Node says {wanted}");
            (true, Some(said))
        }
        (End::Closed, End::Destroyed { .. }) => (
            true,
            Some("closing: the stream is destroyed, but no error says why".into()),
        ),
        _ => (false, None),
    };
    (messages && end.0, end.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destroyed(layer: &str, class: &str) -> Reaction {
        Reaction::new(End::Destroyed {
            layer: layer.into(),
            class: class.into(),
        })
    }

    fn alive(told: &[&str]) -> Reaction {
        Reaction {
            told: told.iter().map(|&line| line.to_owned()).collect(),
            ..Reaction::new(End::Alive)
        }
    }

    fn verdict(actual: &Reaction, expected: &Reaction) -> Verdict {
        judge(actual, &[("11.37.1", expected)], &[]).verdict
    }

    #[test]
    fn a_stream_that_lives_where_node_destroys_it_is_failed() {
        let node = destroyed("mux", "invalid-open");
        assert_eq!(verdict(&node, &node), Verdict::Ok);
        assert_eq!(verdict(&alive(&[]), &node), Verdict::Failed);
        assert_eq!(verdict(&node, &alive(&[])), Verdict::Failed);
        for end in [End::Silent, End::Lingers, End::Ended] {
            assert_eq!(verdict(&Reaction::new(end), &node), Verdict::Failed);
        }
    }

    #[test]
    fn the_layer_must_be_right_and_the_class_should_be() {
        let node = destroyed("mux", "invalid-open");
        assert_eq!(
            verdict(&destroyed("mux", "limit"), &node),
            Verdict::NonStrict
        );
        assert_eq!(
            verdict(&destroyed("frame", "limit"), &node),
            Verdict::Failed
        );
        assert_eq!(
            verdict(&Reaction::new(End::Closed), &node),
            Verdict::NonStrict
        );
    }

    #[test]
    fn messages_are_judged_apart_from_closing() {
        let node = alive(&["message A cancel {}"]);
        let judged = judge(&alive(&[]), &[("11.37.1", &node)], &[]);
        assert_eq!(judged.verdict, Verdict::Failed);
        let reason = judged.reason.unwrap_or_default();
        assert!(
            reason.starts_with("messages:") && !reason.contains("closing"),
            "{reason}"
        );
        let mut sent = alive(&["message A cancel {}"]);
        sent.sent.push("close A".into());
        assert_eq!(verdict(&sent, &node), Verdict::Failed);
    }

    #[test]
    fn another_release_or_a_reason_makes_it_non_strict() {
        let (new, old) = (destroyed("mux", "unsafe-integer"), alive(&[]));
        let node = [("11.37.1", &new), ("10.38.2", &old)];
        assert_eq!(judge(&alive(&[]), &node, &[]).verdict, Verdict::NonStrict);
        assert_eq!(judge(&alive(&["x"]), &node, &[]).verdict, Verdict::Failed);
        let tolerated = Tolerated {
            end: "destroyed".into(),
            layer: Some("channel".into()),
            told: Vec::new(),
            sent: Vec::new(),
            why: "because".into(),
        };
        let tolerated = std::slice::from_ref(&tolerated);
        let actual = destroyed("channel", "x");
        assert_eq!(judge(&actual, &node, tolerated).verdict, Verdict::NonStrict);
        let actual = destroyed("message", "x");
        assert_eq!(judge(&actual, &node, tolerated).verdict, Verdict::Failed);
        assert_eq!(judge(&actual, &[], tolerated).verdict, Verdict::Failed);
    }

    #[test]
    fn what_is_tolerated_alive_says_what_is_told_and_sent() {
        let node = destroyed("mux", "unsafe-integer");
        let tolerated = Tolerated {
            end: "alive".into(),
            layer: None,
            told: Vec::new(),
            sent: vec!["reject 0".into()],
            why: "because".into(),
        };
        let tolerated = std::slice::from_ref(&tolerated);
        let mut actual = alive(&[]);
        let node = [("11.37.1", &node)];
        assert_eq!(judge(&actual, &node, tolerated).verdict, Verdict::Failed);
        actual.sent.push("reject 0".into());
        assert_eq!(judge(&actual, &node, tolerated).verdict, Verdict::NonStrict);
    }

    #[test]
    fn long_rows_are_one_line() {
        let lines = (0..12).map(|n| format!("reject {n}"));
        let mut reaction = alive(&["end"]);
        reaction.told.extend(lines);
        let short = reaction.shortened();
        assert_eq!(short.told, ["end", "reject 0 … reject 11 (12 in a row)"]);
    }
}
