//! The step sentences of the features. [`LiveWorld`] implements them; here they are only phrased.

mod capabilities;
mod channels;
mod connecting;
mod ending;
mod extensions;
mod handshake;
mod hypercore;
mod messages;
mod wire;

use cucumber::Parameter;
use serde_json::Value;

use super::trouble::Trouble;
use super::values::{self, Form};
use super::world::{Actor, Wire};

type Done = Result<(), Trouble>;

/// `in full` or `at its smallest`.
#[derive(Clone, Copy, Debug, Parameter)]
#[param(name = "form", regex = "in full|at its smallest")]
struct InForm(Form);

impl std::str::FromStr for InForm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "in full" => Ok(Self(Form::Full)),
            "at its smallest" => Ok(Self(Form::Smallest)),
            other => Err(format!("no such form: {other}")),
        }
    }
}

/// The wire's behaviour, after `over a wire that`.
#[derive(Clone, Copy, Debug, Parameter)]
#[param(
    name = "wire",
    regex = "is watched|delivers .+ at a time|changes byte .+"
)]
struct OverWire(Wire);

impl std::str::FromStr for OverWire {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<_> = text.split(' ').collect();
        let number = |word: &str| word.parse::<usize>().map_err(|error| error.to_string());
        let wire = match words[..] {
            ["is", "watched"] => Wire::Watched,
            ["delivers", size, "byte" | "bytes", "at", "a", "time"] => Wire::Pieces(number(size)?),
            [
                "changes",
                "byte",
                byte,
                "of",
                "record",
                record,
                "from",
                "Node",
            ] => Wire::Flips {
                from: Actor::Node,
                record: number(record)?,
                byte: number(byte)?,
            },
            _ => return Err(format!("no such wire: {text}")),
        };
        Ok(Self(wire))
    }
}

/// Why a socket fails, after `for it`.
#[derive(Clone, Copy, Debug, Parameter)]
#[param(name = "cause", regex = "timed out|has no route|is broken")]
struct Cause(&'static str);

impl std::str::FromStr for Cause {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "timed out" => Ok(Self("timed-out")),
            "has no route" => Ok(Self("unreachable")),
            "is broken" => Ok(Self("broken-pipe")),
            other => Err(format!("no such cause: {other}")),
        }
    }
}

fn message(name: &str, form: Form) -> Result<Value, Trouble> {
    values::message(name, form)
        .ok_or_else(|| Trouble::failed(format!("there is no message {name}")))
}

fn unhex(text: &str) -> Result<Vec<u8>, Trouble> {
    let text: String = text.split_whitespace().collect();
    hex::decode(text).map_err(|error| Trouble::failed(format!("the feature's hex: {error}")))
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Done {
    if holds {
        Ok(())
    } else {
        Err(Trouble::failed(otherwise()))
    }
}
