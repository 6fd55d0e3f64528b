//! Scripts: the scripted peer's messages and expectations, and the implementation's operations and expected events, a
//! step per line.
//!
//! Steps of the peer:
//!
//! | step | |
//! |---|---|
//! | `noise` [FAULT] | goes through the Noise handshake |
//! | `header` [BYTES] | sends the header record, or these bytes in its place |
//! | `handshake` | both, and takes the other end's header |
//! | `bytes BYTES` | writes to the socket |
//! | `frame BYTES` | writes a frame |
//! | `record` [`tag=N` `flip=N` `claim=N` `cut=N`] `BYTES` | encrypts a plaintext; flips a bit of the Nth byte from the
//! end, adds N to the length, leaves out the last N bytes |
//! | `open N CORE` | opens a core's channel under this number |
//! | `close N`, `reject N` | |
//! | `message N NAME JSON` | sends a message on its channel N |
//! | `undo-rekey`, `rekey-unasked` | keeps the key where a tag changed it; changes it where none did |
//! | `pieces N` | from here on writes N bytes at a time, each sent before the next is written |
//! | `times N STEP` | a step N times, with `{n}` counting from 1 |
//! | `end`, `reset` | closes its side; resets the connection |
//! | `expect open CORE`, `expect close CORE`, `expect reject N`, `expect message CORE NAME JSON`, `expect keep-alive`,
//! `expect end` | the other end's next message |
//!
//! Steps of the implementation, through its adapter:
//!
//! | step | |
//! |---|---|
//! | `ask open CORE`, `ask close CORE`, `ask reject CORE`, `ask end` | |
//! | `ask send CORE NAME JSON`, `ask extension CORE NAME HEX`, `ask keep-alive` | |
//! | `hear LINE` | its next event: `open A`, `message A sync {…}`, `close A by remote`, `end`, … |
//! | `meet CORE` | both open the core, the peer first |
//! | `alive` | proves that it still answers |
//! | `destroyed LAYER CLASS` | it destroyed the stream for this reason |

use std::str::FromStr;

use serde_json::Value;

use super::bytes::Bytes;
use super::wire::{Edit, NoiseFault};

/// One line of a script, as text and parsed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) step: Step,
}

/// A parsed line of a script.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Step {
    Noise(NoiseFault),
    Header(Option<Bytes>),
    Handshake,
    Bytes(Bytes),
    Frame(Bytes),
    Record(Edit, Bytes),
    Open(u64, String),
    Close(u64),
    Reject(u64),
    Message(u64, String, Value),
    UndoRekey,
    RekeyUnasked,
    Pieces(usize),
    Times(u64, String),
    End,
    Reset,
    Expect(String),
    Ask(Request),
    Hear(String),
    Meet(String),
    Alive,
    Destroyed(String, String),
}

/// An operation of the implementation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Request {
    Open(String),
    Close(String),
    Reject(String),
    Send(String, String, Value),
    Extension(String, String, String),
    KeepAlive,
    End,
}

/// The first word, and the rest.
fn cut(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (word, rest.trim())
}

fn number<T: FromStr>(word: &str) -> Result<T, String> {
    word.parse()
        .map_err(|_| format!("a number is expected: {word:?}"))
}

fn name(word: &str) -> Result<String, String> {
    if word.is_empty() {
        return Err("a name is missing".into());
    }
    Ok(word.to_owned())
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("{text:?} is not JSON: {error}"))
}

fn fault(word: &str) -> Result<NoiseFault, String> {
    Ok(match word {
        "" => NoiseFault::None,
        "garbage" => NoiseFault::Garbage,
        "small-order" => NoiseFault::SmallOrder,
        "short" => NoiseFault::Short,
        "payload" => NoiseFault::Payload,
        "prologue" => NoiseFault::Prologue,
        "other-pattern" => NoiseFault::OtherPattern,
        "flipped" => NoiseFault::Flipped,
        "twice" => NoiseFault::Twice,
        other => return Err(format!("no such fault of a handshake: {other:?}")),
    })
}

/// The lines of a script, without empty ones and `#` comments.
///
/// # Errors
/// Names the invalid line.
pub(super) fn parse(text: &str) -> Result<Vec<Line>, String> {
    text.lines()
        .map(|line| line.split(" #").next().unwrap_or(line).trim())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let step = line.parse().map_err(|error| format!("`{line}`: {error}"))?;
            let text = line.to_owned();
            Ok(Line { text, step })
        })
        .collect()
}

impl FromStr for Step {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let (verb, rest) = cut(line);
        let (first, more) = cut(rest);
        Ok(match verb {
            "noise" => Self::Noise(fault(rest)?),
            "header" if rest.is_empty() => Self::Header(None),
            "header" => Self::Header(Some(Bytes::parse(rest)?)),
            "handshake" => Self::Handshake,
            "bytes" => Self::Bytes(Bytes::parse(rest)?),
            "frame" => Self::Frame(Bytes::parse(rest)?),
            "record" => record(rest)?,
            "open" => Self::Open(number(first)?, name(more)?),
            "close" => Self::Close(number(rest)?),
            "reject" => Self::Reject(number(rest)?),
            "message" => {
                let (message, value) = cut(more);
                Self::Message(number(first)?, name(message)?, json(value)?)
            }
            "undo-rekey" => Self::UndoRekey,
            "rekey-unasked" => Self::RekeyUnasked,
            "pieces" => Self::Pieces(number(rest)?),
            "times" => {
                more.replace("{n}", "1").parse::<Self>()?;
                Self::Times(number(first)?, more.to_owned())
            }
            "end" => Self::End,
            "reset" => Self::Reset,
            "expect" => Self::Expect(canonical(&name(rest)?)?),
            "ask" => Self::Ask(request(rest)?),
            "hear" => Self::Hear(canonical(&name(rest)?)?),
            "meet" => Self::Meet(name(rest)?),
            "alive" => Self::Alive,
            "destroyed" => Self::Destroyed(name(first)?, name(more)?),
            other => return Err(format!("no such step: {other:?}")),
        })
    }
}

fn record(mut rest: &str) -> Result<Step, String> {
    let mut edit = Edit::default();
    while let (word, more) = cut(rest)
        && let Some((option, value)) = word.split_once('=')
    {
        match option {
            "tag" => edit.tag = number(value)?,
            "flip" => edit.flip = Some(number(value)?),
            "claim" => edit.claim = number(value)?,
            "cut" => edit.cut = number(value)?,
            other => return Err(format!("no such option of a record: {other:?}")),
        }
        rest = more;
    }
    Ok(Step::Record(edit, Bytes::parse(rest)?))
}

fn request(text: &str) -> Result<Request, String> {
    let (verb, rest) = cut(text);
    let (core, more) = cut(rest);
    let (first, last) = cut(more);
    Ok(match verb {
        "open" => Request::Open(name(rest)?),
        "close" => Request::Close(name(rest)?),
        "reject" => Request::Reject(name(rest)?),
        "send" => Request::Send(name(core)?, name(first)?, json(last)?),
        "extension" => Request::Extension(name(core)?, name(first)?, last.to_owned()),
        "keep-alive" => Request::KeepAlive,
        "end" => Request::End,
        other => return Err(format!("nothing to ask for: {other:?}")),
    })
}

/// A line with its JSON, if any, in the form of [`line_of`].
fn canonical(line: &str) -> Result<String, String> {
    match line.find('{') {
        Some(at) => Ok(format!("{}{}", &line[..at], line_of(&json(&line[at..])?))),
        None => Ok(line.to_owned()),
    }
}

/// JSON in one line with its fields in order, so that it can be compared as text.
pub(super) fn line_of(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(line_of).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            let fields: Vec<_> = fields
                .into_iter()
                .map(|(name, value)| format!("\"{name}\":{}", line_of(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read() {
        let script = "# nothing\n\nopen 1 A  # the first\nrecord tag=2 claim=-3 0a\n";
        let lines = parse(script).expect("a script");
        let steps: Vec<_> = lines.into_iter().map(|line| line.step).collect();
        let edit = Edit {
            tag: 2,
            claim: -3,
            ..Edit::default()
        };
        assert_eq!(
            steps,
            [
                Step::Open(1, "A".into()),
                Step::Record(edit, Bytes::parse("0a").expect("hex")),
            ]
        );
        assert_eq!(
            "hear message A want { \"start\": 1, \"length\": 2 }".parse(),
            Ok(Step::Hear(
                r#"message A want {"length":2,"start":1}"#.into()
            ))
        );
        assert_eq!(
            "times 3 open {n} X{n}".parse(),
            Ok(Step::Times(3, "open {n} X{n}".into()))
        );
    }

    #[test]
    fn what_is_no_step_is_named() {
        for line in [
            "opens 1 A",
            "open A",
            "open 1",
            "record size=1 00",
            "record 0",
            "noise loud",
            "ask money",
            "times 2 nothing {n}",
            "message 1 sync {",
            "destroyed mux",
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(line), "{error}");
        }
    }
}
