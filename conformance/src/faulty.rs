//! The reference implementation with one fault, to prove that the suite detects it.

use std::io::{BufRead, Write};

use clap::ValueEnum;
use hypercore_protocol::Key;
use serde_json::{Value, json};

use crate::adapter::{Hello, Implementation, Outcome, answer_line};
use crate::live::core_key;
use crate::scripted::PROBE;

/// A way to be wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Broken {
    /// Accepts everything, with an empty output.
    AlwaysOk,
    /// Refuses everything, alike.
    AlwaysError,
    /// Changes the first byte, or number, of each output.
    OffByOne,
    /// Changes the last byte, or number, of each output.
    OffAtTheEnd,
    /// Leaves out the last byte of each output.
    ShortByOne,
    /// Refuses what it should, in another layer.
    WrongLayer,
    /// Refuses what it should, as another class; tolerated, but seen.
    WrongClass,
    /// Knows no operation that it declared.
    Unsupported,
    /// Ends without an answer at each second request.
    Crash,
    /// Never answers each second request.
    Hang,
    /// Never answers anything but `hello`.
    Mute,
    /// Answers each second request with a line that is not JSON.
    NonJson,
    /// Answers each second request under another id.
    WrongId,
    /// Answers each second request twice.
    Twice,
    /// Answers each second request once more, just before the answer to the third.
    Again,
    /// Keeps each second answer back until it is asked something else.
    Late,
    /// Answers each second request with a line that never ends.
    Flood,
    /// Answers each second request with answers to the first, without end.
    Chatter,
    /// Writes to stderr without end at each second request, and never answers it.
    Wails,
    /// Writes 32 MiB to stderr before each second answer.
    Noisy,
    /// Is right at first, and off by one from the fifth request on.
    Drifts,
    /// Adds a field to each answer that the protocol does not have.
    ExtraField,
    /// Adds a field to each output of a live operation that the protocol does not have.
    ExtraLive,
    /// Says nothing that makes sense to `hello`.
    BadHello,
    /// Answers `hello` in a version that was not offered, from the future.
    FromTheFuture,
    /// Refuses every version that `hello` offers, for it knows only version 0.
    FromThePast,
    /// Does not end when its stdin does.
    Lingers,
    /// Ends with an exit code other than 0.
    BadExit,
    /// Says of every stream that is gone that it lives, as the scripted peer wants to hear it.
    Undying,
    /// Says of every stream that lives that it is gone.
    Dying,
    /// Takes all that it is given to send, and never lets its caller wait.
    Hoards,
    /// Tells every error of a stream as a clean end.
    Denies,
}

impl Broken {
    /// Serves `implementation` with this fault until `input` ends.
    ///
    /// # Errors
    /// If reading or writing fails, or if the fault requires it.
    pub fn serve(
        self,
        implementation: &mut impl Implementation,
        input: impl BufRead,
        mut output: impl Write,
    ) -> std::io::Result<()> {
        let mut asked = 0;
        let mut kept: Option<Value> = None;
        for line in input.lines() {
            let line = line?;
            let mut answer = answer_line(implementation, &line);
            if line.contains(r#""op":"hello""#) {
                match self {
                    Self::BadHello => answer["ok"] = json!({ "name": "broken" }),
                    Self::FromTheFuture => answer["ok"]["protocol"] = json!(1000),
                    Self::FromThePast => {
                        answer = json!({ "id": answer["id"], "error": {
                            "layer": "adapter", "class": "protocol-version", "message": "", "protocols": [0],
                        } });
                    }
                    Self::ExtraField => answer["more"] = json!(1),
                    _ => {}
                }
                writeln!(output, "{answer}")?;
                output.flush()?;
                continue;
            }
            asked += 1;
            if self == Self::Mute {
                park();
            }
            if let Some(kept) = kept.take() {
                writeln!(output, "{kept}")?;
            }
            if asked == 2 {
                match self {
                    Self::Again => kept = Some(answer.clone()),
                    Self::Late => {
                        kept = Some(answer);
                        continue;
                    }
                    _ if !self.disrupt(&answer, &mut output)? => continue,
                    _ => {}
                }
            }
            let live = line.contains(r#""op":"peer."#);
            if (self != Self::Drifts || asked > 4) && (self != Self::ExtraLive || live) {
                self.distort(&mut answer);
            }
            writeln!(output, "{answer}")?;
            output.flush()?;
        }
        match self {
            Self::Lingers => park(),
            Self::BadExit => Err(std::io::Error::other("broken on purpose")),
            _ => Ok(()),
        }
    }

    /// Faults that break the protocol; returns whether to write the answer as well.
    fn disrupt(self, answer: &Value, output: &mut impl Write) -> std::io::Result<bool> {
        match self {
            Self::Crash => Err(std::io::Error::other("broken on purpose")),
            Self::Hang => park(),
            Self::NonJson => {
                writeln!(output, "here you are")?;
                output.flush().map(|()| false)
            }
            Self::WrongId => {
                let mut answer = answer.clone();
                answer["id"] = json!(answer["id"].as_u64().unwrap_or_default() + 1);
                writeln!(output, "{answer}")?;
                output.flush().map(|()| false)
            }
            Self::Twice => writeln!(output, "{answer}").map(|()| true),
            Self::Chatter => {
                let mut answer = answer.clone();
                answer["id"] = json!(0);
                loop {
                    writeln!(output, "{answer}")?;
                }
            }
            Self::Wails => loop {
                std::io::stderr().write_all(&[b'.'; 1 << 16])?;
            },
            Self::Noisy => {
                let mut stderr = std::io::stderr();
                (0..512).try_for_each(|_| stderr.write_all(&[b'.'; 1 << 16]))?;
                Ok(true)
            }
            Self::Flood => loop {
                output.write_all(&[b'0'; 1 << 16])?;
            },
            _ => Ok(true),
        }
    }

    /// Faults in the answer itself.
    fn distort(self, answer: &mut Value) {
        let Some(answer) = answer.as_object_mut() else {
            return;
        };
        match self {
            Self::AlwaysOk => replace(answer, Outcome::Ok(json!({}))),
            Self::AlwaysError => replace(
                answer,
                Outcome::error("message", "out-of-bounds", "broken on purpose"),
            ),
            Self::Unsupported => replace(answer, Outcome::Unsupported),
            Self::OffByOne | Self::OffAtTheEnd | Self::ShortByOne | Self::Drifts => {
                if let Some(ok) = answer.get_mut("ok") {
                    self.change(ok);
                }
            }
            Self::Undying => {
                if let Some(event) = event(answer, &["error", "end", "closed"]) {
                    *event = json!({ "type": "discoveryKey", "discoveryKey": probe() });
                }
            }
            Self::Dying => {
                if let Some(event) = event(answer, &["discoveryKey"])
                    && event["discoveryKey"] == probe()
                {
                    *event = json!({ "type": "closed" });
                }
            }
            Self::Hoards => {
                if let Some(ok) = answer.get_mut("ok")
                    && ok["waits"] == true
                {
                    *ok = json!({ "sent": 1_000_000, "waits": false });
                }
            }
            Self::Denies => {
                if let Some(event) = event(answer, &["error"]) {
                    *event = json!({ "type": "end" });
                }
            }
            Self::ExtraField => {
                answer.insert("more".into(), json!(1));
            }
            Self::ExtraLive => {
                if let Some(ok) = answer.get_mut("ok") {
                    ok["more"] = json!(1);
                }
            }
            Self::WrongLayer => set(answer, "layer", "elsewhere"),
            Self::WrongClass => set(answer, "class", "otherwise"),
            _ => {}
        }
    }
}

fn park() -> ! {
    loop {
        std::thread::park();
    }
}

fn replace(answer: &mut serde_json::Map<String, Value>, outcome: Outcome) {
    let id = answer.get("id").and_then(Value::as_u64).unwrap_or_default();
    if let Value::Object(other) = outcome.into_answer(id) {
        *answer = other;
    }
}

/// The event in an answer to `peer.next`, if it is of one of these types.
fn event<'a>(
    answer: &'a mut serde_json::Map<String, Value>,
    types: &[&str],
) -> Option<&'a mut Value> {
    let event = answer.get_mut("ok")?.get_mut("event")?;
    types
        .iter()
        .any(|kind| event["type"] == *kind)
        .then_some(event)
}

/// The discovery key of the core with which the scripted peer checks that a stream is alive.
fn probe() -> String {
    hex::encode(hypercore_protocol::discovery_key(&Key::new(core_key(
        PROBE,
    ))))
}

fn set(answer: &mut serde_json::Map<String, Value>, name: &str, value: &str) {
    if let Some(error) = answer.get_mut("error") {
        error[name] = value.into();
    }
}

/// An implementation with a fault in the outputs of one operation.
#[derive(Debug)]
pub struct Distorted<I> {
    implementation: I,
    broken: Broken,
    op: String,
}

impl<I> Distorted<I> {
    /// `implementation`, with the outputs of `op` changed by [`Broken::change`].
    pub fn new(implementation: I, broken: Broken, op: &str) -> Self {
        Self {
            implementation,
            broken,
            op: op.to_owned(),
        }
    }
}

impl<I: Implementation> Implementation for Distorted<I> {
    fn hello(&self) -> Hello {
        self.implementation.hello()
    }

    fn call(&mut self, op: &str, input: &Value) -> Outcome {
        let mut outcome = self.implementation.call(op, input);
        if let Outcome::Ok(output) = &mut outcome
            && op == self.op
        {
            self.broken.change(output);
        }
        outcome
    }
}

impl Broken {
    /// Changes or removes one byte or number of an output; returns whether there was one.
    pub fn change(self, value: &mut Value) -> bool {
        match value {
            Value::String(text) if is_hex(text) => match self {
                Self::ShortByOne => {
                    text.truncate(text.len() - 2);
                    true
                }
                Self::OffAtTheEnd => {
                    let last = text.pop();
                    text.push(if last == Some('0') { '1' } else { '0' });
                    true
                }
                _ => {
                    let first = if text.starts_with('0') { "1" } else { "0" };
                    text.replace_range(..1, first);
                    true
                }
            },
            Value::Number(number) if self != Self::ShortByOne => {
                *value = json!(number.as_u64().unwrap_or_default().wrapping_add(1));
                true
            }
            Value::Array(items) if self == Self::OffAtTheEnd => {
                items.iter_mut().rev().any(|item| self.change(item))
            }
            Value::Array(items) => items.iter_mut().any(|item| self.change(item)),
            Value::Object(object) if self == Self::OffAtTheEnd => {
                object.values_mut().rev().any(|item| self.change(item))
            }
            Value::Object(object) => object.values_mut().any(|item| self.change(item)),
            _ => false,
        }
    }
}

fn is_hex(text: &str) -> bool {
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    !text.is_empty() && text.len().is_multiple_of(2) && digits
}
