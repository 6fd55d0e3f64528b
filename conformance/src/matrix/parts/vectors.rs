//! An implementation's answers to the vectors, and whether it decodes a release's bytes.

use serde_json::{Value, json};

use crate::adapter::{Adapter as _, AdapterCommand, Outcome};
use crate::diff::{bytes_of, differences};
use crate::matrix::answers::{describe, shown_value};
use crate::matrix::cell::{Cell, Fault};
use crate::matrix::part::{Part, Task};
use crate::matrix::setup::{Matrix, block_on};
use crate::matrix::silence_limit::SilenceLimit;
use crate::run::verdict::Verdict;
use crate::run::{Kind, Run};

/// The name of the part.
pub(super) const NAME: &str = "vectors";

/// The part `vectors`.
#[derive(Debug)]
pub(in crate::matrix) struct Vectors;

impl Part for Vectors {
    fn name(&self) -> &'static str {
        NAME
    }

    fn kind(&self) -> Kind {
        Kind::Vector
    }

    fn usual_seconds(&self) -> f64 {
        10.0
    }

    fn fill(&self, _: &Task<'_>, _: &mut [Cell]) -> Result<(), String> {
        Err("another part fills these cells".into())
    }
}

/// Records in `cell` the results, given the release's own answers, `theirs`.
pub(super) fn fill(
    cell: &mut Cell,
    matrix: &Matrix<'_>,
    theirs: &Run,
    node: &AdapterCommand,
) -> Result<(), String> {
    let mut all = matrix.implementations.iter();
    let one = all.find(|one| one.name == cell.id.implementation);
    let one = one.ok_or("not an implementation of this run")?;
    let own = matrix.answers_of(one)?;
    block_on(note(cell, &own, theirs, (&one.command, node)))?
}

/// Bytes of a release that differ from the recorded ones, which others are asked to decode.
#[derive(Clone, Debug)]
struct Written {
    id: String,
    /// The operation that decodes them, and its input.
    op: &'static str,
    input: Value,
}

/// All bytes that a release encodes differently.
fn written(run: &Run) -> Vec<Written> {
    let other = run
        .checks
        .iter()
        .filter(|check| check.verdict == Verdict::Failed)
        // No core has 2^53 blocks, and others need not round as Node does.
        .filter(|check| !check.flags.iter().any(|flag| flag == "UnsafeInteger"));
    other
        .filter_map(|check| {
            let op = match check.op.as_deref()? {
                "message.encode" => "message.decode",
                "manifest.encode" => "manifest.decode",
                "multisig.encode" => "multisig.decode",
                _ => return None,
            };
            let bytes = check.actual.as_ref()?.get("ok")?.get("bytes")?;
            bytes_of(bytes)?;
            let mut input = json!({ "bytes": bytes });
            for name in ["message", "version"] {
                if let Some(value) = check.input.as_ref()?.get(name) {
                    input[name] = value.clone();
                }
            }
            Some(Written {
                id: check.id.clone(),
                op,
                input,
            })
        })
        .collect()
}

/// Records in `cell` an implementation's answers to the vectors, and whether it decodes the release's bytes as the
/// release does.
async fn note(
    cell: &mut Cell,
    own: &Run,
    theirs: &Run,
    (command, node): (&AdapterCommand, &AdapterCommand),
) -> Result<(), String> {
    let of_release = |id: &str| theirs.checks.iter().find(|check| check.id == id);
    let asked: std::collections::HashSet<&str> = theirs
        .checks
        .iter()
        .map(|check| check.id.as_str())
        .collect();
    for check in own
        .checks
        .iter()
        .filter(|check| asked.contains(check.id.as_str()))
    {
        match check.verdict {
            Verdict::Unsupported => cell.unsupported += 1,
            // Not the same as today's Node, but the same as this release.
            Verdict::Failed
                if of_release(&check.id).is_some_and(|theirs| {
                    theirs.verdict == Verdict::Failed && theirs.actual == check.actual
                }) =>
            {
                cell.pass(&check.id);
            }
            Verdict::Failed => cell.faults.push(Fault::new(&check.id, describe(check))),
            _ => cell.pass(&check.id),
        }
    }
    let written = written(theirs);
    if written.is_empty() {
        return Ok(());
    }
    let mut reader = SilenceLimit::new(command);
    let mut writer = SilenceLimit::new(node);
    let hello = reader.hello().await.map_err(|error| error.to_string())?;
    for Written { id, op, input } in written {
        if !hello.knows(op) {
            cell.unsupported += 1;
            continue;
        }
        let meant = writer.call(op, &input).await;
        let read = reader.call(op, &input).await;
        let (Ok(Outcome::Ok(meant)), Ok(read)) = (meant, read) else {
            continue;
        };
        let fault = match read {
            Outcome::Ok(read) => {
                let found = differences(&meant, &read);
                // Fields unknown to the release are absent, false or zero to those who know them.
                let nothing = |value: &Option<Value>| match value {
                    None | Some(Value::Null | Value::Bool(false)) => true,
                    Some(value) => value.as_u64() == Some(0),
                };
                let mut real = found
                    .iter()
                    .filter(|found| !(nothing(&found.expected) && nothing(&found.actual)));
                real.next().map(|found| {
                    format!(
                        "{} is {} here and {} to the release",
                        found.path,
                        shown_value(&found.actual),
                        shown_value(&found.expected)
                    )
                })
            }
            Outcome::Error(error) => Some(format!("refused what the release wrote: {error}")),
            Outcome::Unsupported => Some("declared, but unsupported".into()),
        };
        match fault {
            None => cell.pass(format!("reads.{id}")),
            Some(reason) => cell.faults.push(Fault::new(format!("reads.{id}"), reason)),
        }
    }
    reader.kill().await;
    writer.kill().await;
    Ok(())
}
