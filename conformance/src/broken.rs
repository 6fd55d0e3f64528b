//! The reference implementation with one fault, to prove that the suite sees it.

use std::io::{BufRead, Write};

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::adapter::{Implementation, Outcome, answer_line};
use crate::deviant::PROBE;
use crate::live::core_key;

/// A way to be wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Broken {
    /// Accepts everything, with an empty output.
    AlwaysOk,
    /// Refuses everything, alike.
    AlwaysError,
    /// Changes one byte, or one number, of each output.
    OffByOne,
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
    /// Answers each second request with a line that never ends.
    Flood,
    /// Says nothing that makes sense to `hello`.
    BadHello,
    /// Does not end when its stdin does.
    Lingers,
    /// Ends with an exit code other than 0.
    BadExit,
    /// Says of every stream that is gone that it lives, as the scripted peer wants to hear it.
    Undying,
    /// Says of every stream that lives that it is gone.
    Dying,
}

impl Broken {
    /// Serves `implementation` with this fault until `input` ends.
    ///
    /// # Errors
    /// If reading or writing fails, or the fault is to end so.
    pub fn serve(
        self,
        implementation: &mut impl Implementation,
        input: impl BufRead,
        mut output: impl Write,
    ) -> std::io::Result<()> {
        let mut asked = 0;
        for line in input.lines() {
            let line = line?;
            let mut answer = answer_line(implementation, &line);
            if line.contains(r#""op":"hello""#) {
                if self == Self::BadHello {
                    answer["ok"] = json!({ "name": "broken" });
                }
                writeln!(output, "{answer}")?;
                output.flush()?;
                continue;
            }
            asked += 1;
            if self == Self::Mute {
                park();
            }
            if asked == 2 && !self.disrupt(&answer, &mut output)? {
                continue;
            }
            self.distort(&mut answer);
            writeln!(output, "{answer}")?;
            output.flush()?;
        }
        match self {
            Self::Lingers => park(),
            Self::BadExit => Err(std::io::Error::other("broken on purpose")),
            _ => Ok(()),
        }
    }

    /// Faults that break the protocol; true if the answer is to be given all the same.
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
            Self::OffByOne => {
                if let Some(ok) = answer.get_mut("ok") {
                    change_first(ok);
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
    if let Value::Object(other) = outcome.to_answer(id) {
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

/// The discovery key of the core by which the scripted peer asks whether a stream lives.
fn probe() -> String {
    hex::encode(hypercore_protocol::discovery_key(&core_key(PROBE)))
}

fn set(answer: &mut serde_json::Map<String, Value>, name: &str, value: &str) {
    if let Some(error) = answer.get_mut("error") {
        error[name] = value.into();
    }
}

/// Changes the last digit of the first bytes or number there is; true if there was one.
fn change_first(value: &mut Value) -> bool {
    match value {
        Value::String(text) => match text.pop() {
            Some(last) => {
                text.push(if last == '0' { '1' } else { '0' });
                true
            }
            None => false,
        },
        Value::Number(number) => {
            *value = json!(number.as_u64().unwrap_or_default().wrapping_add(1));
            true
        }
        Value::Array(items) => items.iter_mut().any(change_first),
        Value::Object(object) => object.values_mut().any(change_first),
        Value::Bool(_) | Value::Null => false,
    }
}
