//! The verdict on one answer: compares the expected and the actual outcome.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::adapter::{Failure, Outcome};
use crate::diff::{Difference, differences};
use crate::vectors::{Expect, Expectation, ExpectedError, NodeOutcome};

/// The verdict of one check.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As expected.
    Ok,
    /// Tolerated: refused in the right layer by another class, or an accepted alternative to Node's behaviour.
    NonStrict,
    /// Reported, not judged: an accepted outcome for an input that Node itself does not survive.
    Informational,
    /// Not as expected.
    Failed,
    /// The implementation does not declare the operation; never counted as passed.
    Unsupported,
    /// Failed, as listed in the file of expected failures.
    ExpectedFailure,
    /// Did not fail, though listed in the file of expected failures.
    UnexpectedPass,
    /// Listed as flaky: it ran, and its outcome is reported, not judged.
    Flaky,
}

impl Verdict {
    /// All verdicts, in the order of reports.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::NonStrict,
        Self::Informational,
        Self::Failed,
        Self::UnexpectedPass,
        Self::ExpectedFailure,
        Self::Flaky,
        Self::Unsupported,
    ];

    /// Whether a run with such a check has failed.
    pub fn fails_the_run(self) -> bool {
        matches!(self, Self::Failed | Self::UnexpectedPass)
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.pad(match self {
            Self::Ok => "ok",
            Self::NonStrict => "non-strict",
            Self::Informational => "informational",
            Self::Failed => "failed",
            Self::Unsupported => "unsupported",
            Self::ExpectedFailure => "expected-failure",
            Self::UnexpectedPass => "unexpected-pass",
            Self::Flaky => "flaky",
        })
    }
}

/// A verdict and its grounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// The reason in one line, where the verdict alone does not say it.
    pub reason: Option<String>,
    /// Where the output or the error differs from the expectation.
    pub differences: Vec<Difference>,
}

impl Judgement {
    fn ok() -> Self {
        Self {
            verdict: Verdict::Ok,
            reason: None,
            differences: Vec::new(),
        }
    }

    fn non_strict(reason: String) -> Self {
        Self {
            verdict: Verdict::NonStrict,
            reason: Some(reason),
            differences: Vec::new(),
        }
    }

    fn informational(reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Informational,
            reason: Some(reason.into()),
            differences: Vec::new(),
        }
    }

    fn failed(reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Failed,
            reason: Some(reason.into()),
            differences: Vec::new(),
        }
    }

    fn differs(reason: impl Into<String>, differences: Vec<Difference>) -> Self {
        Self {
            differences,
            ..Self::failed(reason)
        }
    }
}

/// Judges an answer to a case.
///
/// `is_node` means that the implementation is Node itself: where Node was recorded to die or to hang, it may.
pub fn judge(
    (result, expect): (Expectation, &Expect),
    node: Option<&NodeOutcome>,
    is_node: bool,
    answer: &Result<Outcome, Failure>,
) -> Judgement {
    let outcome = match answer {
        Ok(outcome) => outcome,
        Err(failure)
            if (failure.is_timeout() || matches!(failure, Failure::Crashed { .. }))
                && is_node
                && node.is_some_and(|node| !node.survives()) =>
        {
            return Judgement::informational(format!(
                "as recorded, Node does not survive this: {failure}"
            ));
        }
        Err(failure) => return Judgement::failed(failure.to_string()),
    };
    if let Outcome::Unsupported = outcome {
        return Judgement::failed("the operation was declared, but the answer is unsupported");
    }
    match result {
        Expectation::Valid => judge_valid(expect, outcome),
        Expectation::Invalid => judge_invalid(expect, outcome),
        Expectation::Acceptable => judge_acceptable(expect, node, outcome),
    }
}

fn judge_valid(expect: &Expect, outcome: &Outcome) -> Judgement {
    let Some(expected) = &expect.output else {
        return Judgement::failed(
            "the case is at fault: it expects neither an output nor an error",
        );
    };
    match outcome {
        Outcome::Ok(actual) => {
            let found = differences(expected, actual);
            match found.as_slice() {
                [] => Judgement::ok(),
                // A session that ends as expected, with another class of error.
                [only] if only.path == "error.class" => {
                    let class = |value: &Option<Value>| {
                        value.as_ref().map_or("none".into(), Value::to_string)
                    };
                    let (expected, actual) = (class(&only.expected), class(&only.actual));
                    Judgement::non_strict(format!("refused as {actual}, expected {expected}"))
                }
                _ => Judgement::differs("the output differs", found),
            }
        }
        Outcome::Error(error) => Judgement::failed(format!(
            "refused, but it is valid: {}",
            describe_error(error)
        )),
        Outcome::Unsupported => Judgement::failed("unsupported"),
    }
}

fn judge_invalid(expect: &Expect, outcome: &Outcome) -> Judgement {
    let Some(expected) = &expect.error else {
        // A destroyed session has an output, which contains the error.
        return judge_valid(expect, outcome);
    };
    match outcome {
        Outcome::Error(actual) => judge_error(expected, actual),
        _ => Judgement::failed(format!(
            "accepted, but it must be refused by the layer {}",
            describe(expected)
        )),
    }
}

fn judge_error(expected: &ExpectedError, actual: &Value) -> Judgement {
    let text = |name: &str| actual.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("layer") != expected.layer {
        return Judgement::failed(format!(
            "refused by the wrong layer: {}, expected {}",
            describe_error(actual),
            describe(expected)
        ));
    }
    let wanted: Map<_, _> = expected
        .more
        .iter()
        .filter(|(name, _)| !for_people(name))
        .map(own)
        .collect();
    let given: Map<_, _> = wanted
        .keys()
        .filter_map(|name| Some((name.clone(), actual.get(name)?.clone())))
        .collect();
    let found = differences(&Value::Object(wanted), &Value::Object(given));
    if !found.is_empty() {
        return Judgement::differs("refused, but not where expected", found);
    }
    match &expected.class {
        Some(class) if *class != text("class") => {
            Judgement::non_strict(format!("refused as {}, expected {class}", text("class")))
        }
        _ => Judgement::ok(),
    }
}

/// Fields of an error that are explanations and may differ between implementations.
fn for_people(name: &str) -> bool {
    matches!(name, "message" | "offset" | "field")
}

fn own((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

fn judge_acceptable(expect: &Expect, node: Option<&NodeOutcome>, outcome: &Outcome) -> Judgement {
    let outputs = expect.outputs.iter().flatten().chain(&expect.output);
    // Node's behaviour is plain ok, unless Node does not survive the input: then the outcome is reported, not judged.
    let refuses = |node: &NodeOutcome| matches!(node.outcome.as_str(), "throws" | "destroys");
    let node_refuses = expect.error.is_some() && node.is_some_and(refuses);
    let node_survives = node.is_none_or(NodeOutcome::survives);
    match outcome {
        Outcome::Ok(actual) => {
            let compared: Vec<_> = outputs.map(|output| differences(output, actual)).collect();
            match compared.iter().position(Vec::is_empty) {
                Some(_) if !node_survives => {
                    Judgement::informational("accepted; Node does not survive this")
                }
                Some(0) if !node_refuses => Judgement::ok(),
                Some(_) => Judgement::non_strict("accepted, but Node does otherwise".into()),
                None => match compared.into_iter().min_by_key(Vec::len) {
                    Some(closest) => {
                        Judgement::differs("the output is none of the accepted ones", closest)
                    }
                    None => Judgement::failed("accepted, but only a refusal is acceptable"),
                },
            }
        }
        Outcome::Error(error) => match &expect.error {
            None => Judgement::failed(format!(
                "refused, but only an output is acceptable: {}",
                describe_error(error)
            )),
            Some(expected) => match judge_error(expected, error) {
                judgement if judgement.verdict == Verdict::Ok && !node_survives => {
                    Judgement::informational("refused; Node does not survive this")
                }
                judgement if judgement.verdict == Verdict::Ok && !node_refuses => {
                    Judgement::non_strict(
                        "refused, which is acceptable, but Node does otherwise".into(),
                    )
                }
                judgement => judgement,
            },
        },
        Outcome::Unsupported => Judgement::failed("unsupported"),
    }
}

fn describe(expected: &ExpectedError) -> String {
    match &expected.class {
        Some(class) => format!("{} ({class})", expected.layer),
        None => expected.layer.clone(),
    }
}

/// Layer, class and message of an adapter's error, in one line.
pub fn describe_error(error: &Value) -> String {
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut line = format!("{} ({})", text("layer"), text("class"));
    if !text("message").is_empty() {
        line.push_str(&format!(": {}", text("message")));
    }
    line
}

/// An expectation as JSON, for reports.
pub fn expectation_value((result, expect): (Expectation, &Expect)) -> Value {
    match result {
        Expectation::Valid => json!({ "ok": expect.output }),
        Expectation::Invalid => json!({ "error": expect.error }),
        Expectation::Acceptable => {
            let mut any: Vec<Value> = expect
                .outputs
                .iter()
                .flatten()
                .chain(&expect.output)
                .map(|output| json!({ "ok": output }))
                .collect();
            any.extend(expect.error.iter().map(|error| json!({ "error": error })));
            json!({ "anyOf": any })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn verdict(result: &str, expect: Value, node: Option<&str>, answer: Outcome) -> Verdict {
        let result: Expectation = serde_json::from_value(json!(result)).expect("a result");
        let expect: Expect = serde_json::from_value(expect).expect("an expectation");
        let node = node.map(|outcome| NodeOutcome {
            outcome: outcome.into(),
            message: None,
        });
        judge((result, &expect), node.as_ref(), false, &Ok(answer)).verdict
    }

    fn refused(layer: &str, class: &str) -> Outcome {
        Outcome::error(layer, class, "why")
    }

    #[test]
    fn a_valid_case_needs_its_output() {
        let expect = json!({ "output": { "value": 1, "consumed": 1 } });
        assert_eq!(
            verdict(
                "valid",
                expect.clone(),
                None,
                Outcome::Ok(json!({ "consumed": 1, "value": 1 }))
            ),
            Verdict::Ok
        );
        for answer in [
            Outcome::Ok(json!({ "consumed": 1, "value": 2 })),
            Outcome::Ok(json!({ "value": 1 })),
            Outcome::Ok(json!({ "value": 1, "consumed": 1, "more": null })),
            Outcome::Ok(Value::Null),
            refused("message", "out-of-bounds"),
            Outcome::Unsupported,
        ] {
            assert_eq!(
                verdict("valid", expect.clone(), None, answer),
                Verdict::Failed
            );
        }
    }

    #[test]
    fn an_invalid_case_needs_its_layer_and_would_like_its_class() {
        let expect = json!({ "error": { "layer": "noise", "class": "bad-mac", "step": 1 } });
        let answer = |layer: &str, class: &str, step: Value| {
            Outcome::Error(json!({ "layer": layer, "class": class, "message": "", "step": step }))
        };
        let check = |answer| verdict("invalid", expect.clone(), Some("throws"), answer);
        assert_eq!(check(answer("noise", "bad-mac", json!(1))), Verdict::Ok);
        assert_eq!(
            check(answer("noise", "bad-length", json!(1))),
            Verdict::NonStrict
        );
        assert_eq!(check(answer("frame", "bad-mac", json!(1))), Verdict::Failed);
        assert_eq!(check(answer("noise", "bad-mac", json!(2))), Verdict::Failed);
        assert_eq!(check(refused("noise", "bad-mac")), Verdict::Failed);
        assert_eq!(check(Outcome::Ok(json!({}))), Verdict::Failed);
    }

    #[test]
    fn a_session_ends_in_its_layer_and_would_like_its_class() {
        let output = |layer: &str, class: &str| json!({ "steps": [], "alive": false, "error": { "layer": layer, "class": class } });
        let check = |answer| {
            verdict(
                "invalid",
                json!({ "output": output("mux", "closed") }),
                Some("destroys"),
                Outcome::Ok(answer),
            )
        };
        assert_eq!(check(output("mux", "closed")), Verdict::Ok);
        assert_eq!(check(output("mux", "limit")), Verdict::NonStrict);
        assert_eq!(check(output("frame", "closed")), Verdict::Failed);
        assert_eq!(
            check(json!({ "steps": [], "alive": true, "error": null })),
            Verdict::Failed
        );
    }

    #[test]
    fn an_acceptable_case_is_strict_only_as_node_does() {
        let both = json!({ "outputs": [1, 2], "error": { "layer": "mux", "class": "limit" } });
        let check = |node, answer| verdict("acceptable", both.clone(), Some(node), answer);
        assert_eq!(check("returns", Outcome::Ok(json!(1))), Verdict::Ok);
        assert_eq!(check("returns", Outcome::Ok(json!(2))), Verdict::NonStrict);
        assert_eq!(
            check("returns", refused("mux", "limit")),
            Verdict::NonStrict
        );
        assert_eq!(check("returns", refused("frame", "limit")), Verdict::Failed);
        assert_eq!(check("returns", Outcome::Ok(json!(3))), Verdict::Failed);
        assert_eq!(check("destroys", refused("mux", "limit")), Verdict::Ok);
        assert_eq!(
            check("destroys", refused("mux", "closed")),
            Verdict::NonStrict
        );
        assert_eq!(check("destroys", Outcome::Ok(json!(1))), Verdict::NonStrict);
        for answer in [
            refused("mux", "limit"),
            Outcome::Ok(json!(1)),
            Outcome::Ok(json!(2)),
        ] {
            assert_eq!(check("process-dies", answer), Verdict::Informational);
        }
        assert_eq!(
            check("process-dies", refused("frame", "limit")),
            Verdict::Failed
        );
        assert_eq!(
            check("process-dies", Outcome::Ok(json!(3))),
            Verdict::Failed
        );
        let only_error = json!({ "error": { "layer": "mux", "class": "limit" } });
        assert_eq!(
            verdict(
                "acceptable",
                only_error,
                Some("hangs"),
                Outcome::Ok(json!(1))
            ),
            Verdict::Failed
        );
        assert_eq!(
            verdict(
                "acceptable",
                json!({ "outputs": [1] }),
                None,
                refused("mux", "limit")
            ),
            Verdict::Failed
        );
    }

    #[test]
    fn only_node_may_die_where_node_was_seen_to_die() {
        let expect: Expect =
            serde_json::from_value(json!({ "error": { "layer": "mux", "class": "limit" } }))
                .expect("an expectation");
        let node = NodeOutcome {
            outcome: "hangs".into(),
            message: None,
        };
        let hung = Err(Failure::TimedOut(Duration::from_secs(1)));
        let verdict =
            |is_node, node| judge((Expectation::Invalid, &expect), node, is_node, &hung).verdict;
        assert_eq!(verdict(true, Some(&node)), Verdict::Informational);
        assert_eq!(verdict(false, Some(&node)), Verdict::Failed);
        assert_eq!(verdict(true, None), Verdict::Failed);
    }

    #[test]
    fn every_verdict_has_its_name_and_two_of_them_fail_a_run() {
        let names = Verdict::ALL.map(|verdict| verdict.to_string());
        assert_eq!(
            names.join(" "),
            "ok non-strict informational failed unexpected-pass expected-failure flaky unsupported"
        );
        let failing = Verdict::ALL
            .into_iter()
            .filter(|verdict| verdict.fails_the_run());
        assert_eq!(
            failing.collect::<Vec<_>>(),
            [Verdict::Failed, Verdict::UnexpectedPass]
        );
        // Tables pad them.
        assert_eq!(format!("{:>4}", Verdict::Ok), "  ok");
    }

    #[test]
    fn a_judgement_says_why() {
        let judged = |result: &str, expect: Value, answer: Outcome| {
            let result: Expectation = serde_json::from_value(json!(result)).expect("a result");
            let expect: Expect = serde_json::from_value(expect).expect("an expectation");
            judge((result, &expect), None, false, &Ok(answer))
        };
        let reason = |result, expect, answer| judged(result, expect, answer).reason;
        let output = json!({ "output": { "value": 1 } });
        let error = json!({ "error": { "layer": "mux", "class": "limit", "step": 1 } });
        let at_step = |class: &str, step: u64| {
            Outcome::Error(
                json!({ "layer": "mux", "class": class, "message": "why", "step": step }),
            )
        };

        let differs = judged("valid", output.clone(), Outcome::Ok(json!({ "value": 2 })));
        assert_eq!(differs.reason.as_deref(), Some("the output differs"));
        assert_eq!(differs.differences.len(), 1);
        assert_eq!(differs.differences[0].path, "value");
        let elsewhere = judged("invalid", error.clone(), at_step("limit", 2));
        assert_eq!(elsewhere.verdict, Verdict::Failed);
        assert_eq!(elsewhere.differences[0].path, "step");
        for (result, expect, answer, why) in [
            (
                "valid",
                output.clone(),
                refused("mux", "limit"),
                "refused, but it is valid: mux (limit): why",
            ),
            (
                "valid",
                output.clone(),
                Outcome::Unsupported,
                "the operation was declared, but the answer is unsupported",
            ),
            (
                "invalid",
                error.clone(),
                Outcome::Ok(json!({})),
                "accepted, but it must be refused by the layer mux (limit)",
            ),
            (
                "invalid",
                json!({ "error": { "layer": "mux" } }),
                Outcome::Error(json!({ "layer": "frame", "class": "limit" })),
                "refused by the wrong layer: frame (limit), expected mux",
            ),
            (
                "invalid",
                error.clone(),
                at_step("closed", 1),
                "refused as closed, expected limit",
            ),
            (
                "acceptable",
                output,
                refused("mux", "limit"),
                "refused, but only an output is acceptable: mux (limit): why",
            ),
            (
                "acceptable",
                error,
                Outcome::Ok(json!(1)),
                "accepted, but only a refusal is acceptable",
            ),
        ] {
            assert_eq!(reason(result, expect, answer).as_deref(), Some(why));
        }
    }

    #[test]
    fn an_acceptable_output_that_is_wrong_is_compared_with_the_closest() {
        let expect: Expect =
            serde_json::from_value(json!({ "outputs": [{ "a": 1, "b": 1 }, { "a": 2, "b": 2 }] }))
                .expect("an expectation");
        let answer = Ok(Outcome::Ok(json!({ "a": 3, "b": 2 })));
        let judged = judge((Expectation::Acceptable, &expect), None, false, &answer);
        assert_eq!(judged.differences.len(), 1);
        assert_eq!(judged.differences[0].expected, Some(json!(2)));
    }

    #[test]
    fn what_explains_an_error_is_not_compared() {
        let expect = json!({ "error": {
            "layer": "mux", "class": "limit", "message": "m", "offset": 1, "field": "id", "step": 2,
        } });
        let error = |step: u64| json!({ "layer": "mux", "class": "limit", "step": step });
        let check = |answer| verdict("invalid", expect.clone(), None, Outcome::Error(answer));
        assert_eq!(check(error(2)), Verdict::Ok);
        assert_eq!(check(error(3)), Verdict::Failed);
    }

    #[test]
    fn only_a_death_is_forgiven_where_node_dies() {
        let expect: Expect = serde_json::from_value(json!({ "output": 1 })).expect("an output");
        let node = |outcome: &str| NodeOutcome {
            outcome: outcome.into(),
            message: None,
        };
        let crashed = Err(Failure::Crashed {
            status: "signal 9".into(),
        });
        let nonsense = Err(Failure::Invalid {
            reason: "no answer".into(),
        });
        let judged = |node: &NodeOutcome, answer| {
            judge((Expectation::Valid, &expect), Some(node), true, answer).verdict
        };
        assert_eq!(
            judged(&node("process-dies"), &crashed),
            Verdict::Informational
        );
        assert_eq!(judged(&node("process-dies"), &nonsense), Verdict::Failed);
        assert_eq!(judged(&node("throws"), &crashed), Verdict::Failed);
    }

    #[test]
    fn an_expectation_is_shown_as_an_answer_would_be() {
        let shown = |result, expect: Value| {
            let expect: Expect = serde_json::from_value(expect).expect("an expectation");
            expectation_value((result, &expect))
        };
        assert_eq!(
            shown(Expectation::Valid, json!({ "output": 1 })),
            json!({ "ok": 1 })
        );
        let error = json!({ "layer": "mux", "class": "limit" });
        assert_eq!(
            shown(Expectation::Invalid, json!({ "error": error })),
            json!({ "error": error })
        );
        assert_eq!(
            shown(
                Expectation::Acceptable,
                json!({ "outputs": [1, 2], "error": error })
            ),
            json!({ "anyOf": [{ "ok": 1 }, { "ok": 2 }, { "error": error }] })
        );
    }

    #[test]
    fn a_refusal_that_is_acceptable_is_told_from_one_of_another_class() {
        let expect: Expect = serde_json::from_value(
            json!({ "outputs": [1], "error": { "layer": "mux", "class": "limit" } }),
        )
        .expect("an expectation");
        let check = |outcome: &str, class: &str| {
            let node = NodeOutcome {
                outcome: outcome.into(),
                message: None,
            };
            let answer = Ok(refused("mux", class));
            let judged = judge(
                (Expectation::Acceptable, &expect),
                Some(&node),
                false,
                &answer,
            );
            (judged.verdict, judged.reason.unwrap_or_default())
        };
        let other_class = "refused as closed, expected limit";
        let otherwise = "refused, which is acceptable, but Node does otherwise";
        for (outcome, class, verdict, reason) in [
            ("returns", "limit", Verdict::NonStrict, otherwise),
            ("returns", "closed", Verdict::NonStrict, other_class),
            ("destroys", "limit", Verdict::Ok, ""),
            ("destroys", "closed", Verdict::NonStrict, other_class),
            (
                "hangs",
                "limit",
                Verdict::Informational,
                "refused; Node does not survive this",
            ),
            ("hangs", "closed", Verdict::NonStrict, other_class),
        ] {
            assert_eq!(
                check(outcome, class),
                (verdict, reason.to_owned()),
                "{outcome} {class}"
            );
        }
    }
}
