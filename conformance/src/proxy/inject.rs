//! Tampering by the proxy: the language of `--inject`, and the counting of messages.

use std::fmt;
use std::str::FromStr;

use crate::dissect::Side;

/// The language, for `--help`.
pub const GRAMMAR: &str = "\
ACTION:MESSAGE[:WHICH][:SIDE][=VALUE]

ACTION   drop      is not forwarded
         delay     waits VALUE milliseconds (1000), and what follows waits behind it
         reorder   is sent after the next record of its side instead, or after VALUE (1) of them, or after two seconds
         truncate  keeps VALUE bytes of its body (half of them)
         corrupt   has the lowest bit of byte VALUE of its body changed (of the last one)
         split     is written to the socket in pieces of VALUE bytes (1)
         unbatch   leaves its batch: all messages of that batch are sent in records of their own
MESSAGE  open, reject, close; sync, request, cancel, data, noData, want, unwant, bitfield, range, extension;
         message: one of another protocol; any: each of these; keep-alive; record: what is sealed, on the wire,
         where drop, truncate and corrupt give the receiver something that it cannot open
WHICH    N: the Nth of its side, from 0; N+: it and all after it; left out: each
SIDE     dialer, upstream: who sends it; left out: either

drop:data:3               the fourth data of each side is lost
corrupt:data:0:upstream   the first block that the upstream peer sends is tampered with
delay:any:10+=50          from its eleventh message on, each message of a side comes 50 ms late";

/// An action on a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// It is not forwarded.
    Drop,
    /// It and everything behind it are delayed.
    Delay,
    /// It comes after later messages.
    Reorder,
    /// Its body loses its end.
    Truncate,
    /// A bit of its body is flipped.
    Corrupt,
    /// It is written in pieces.
    Split,
    /// Its batch is split into single records.
    Unbatch,
}

const ACTIONS: [(&str, Action); 7] = [
    ("drop", Action::Drop),
    ("delay", Action::Delay),
    ("reorder", Action::Reorder),
    ("truncate", Action::Truncate),
    ("corrupt", Action::Corrupt),
    ("split", Action::Split),
    ("unbatch", Action::Unbatch),
];

const MESSAGES: [&str; 17] = [
    "open",
    "reject",
    "close",
    "sync",
    "request",
    "cancel",
    "data",
    "noData",
    "want",
    "unwant",
    "bitfield",
    "range",
    "extension",
    "message",
    "any",
    "keep-alive",
    "record",
];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Which {
    Only(u64),
    From(u64),
}

/// One fault of `--inject`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Injection {
    /// The action.
    pub action: Action,
    /// The name of the message.
    pub message: String,
    which: Which,
    side: Option<Side>,
    /// The number after the `=`.
    pub value: Option<u64>,
}

/// An invalid `--inject`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct InjectError(String);

impl FromStr for Injection {
    type Err = InjectError;

    fn from_str(text: &str) -> Result<Self, InjectError> {
        let wrong = |what: String| Err(InjectError(what));
        let (spec, value) = match text.split_once('=') {
            None => (text, None),
            Some((spec, value)) => match value.parse() {
                Ok(value) => (spec, Some(value)),
                Err(_) => return wrong(format!("{value} is not a number")),
            },
        };
        let mut parts = spec.split(':');
        let name = parts.next().unwrap_or_default();
        let Some((_, action)) = ACTIONS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = ACTIONS.iter().map(|(name, _)| *name).collect();
            return wrong(format!("{name:?} is none of {}", known.join(", ")));
        };
        let message = parts.next().unwrap_or_default();
        if !MESSAGES.contains(&message) {
            return wrong(format!("{message:?} is none of {}", MESSAGES.join(", ")));
        }
        let mut injection = Self {
            action: *action,
            message: message.to_owned(),
            which: Which::From(0),
            side: None,
            value,
        };
        for part in parts {
            let number = part.strip_suffix('+').unwrap_or(part);
            match (part, number.parse()) {
                ("dialer", _) => injection.side = Some(Side::Left),
                ("upstream", _) => injection.side = Some(Side::Right),
                (_, Ok(number)) if part.ends_with('+') => injection.which = Which::From(number),
                (_, Ok(number)) => injection.which = Which::Only(number),
                _ => {
                    return wrong(format!(
                        "{part:?} is neither a number nor dialer nor upstream"
                    ));
                }
            }
        }
        if *action == Action::Split && value == Some(0) {
            return wrong("pieces have at least one byte".into());
        }
        Ok(injection)
    }
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = ACTIONS.iter().find(|(_, action)| *action == self.action);
        write!(
            f,
            "{}:{}",
            action.map_or("", |(name, _)| name),
            self.message
        )?;
        match self.which {
            Which::From(0) => {}
            Which::From(number) => write!(f, ":{number}+")?,
            Which::Only(number) => write!(f, ":{number}")?,
        }
        match self.side {
            None => {}
            Some(Side::Left) => f.write_str(":dialer")?,
            Some(Side::Right) => f.write_str(":upstream")?,
        }
        match self.value {
            None => Ok(()),
            Some(value) => write!(f, "={value}"),
        }
    }
}

/// The faults of one direction of one connection, and the number of messages of each kind so far.
#[derive(Clone, Debug)]
pub(super) struct Faults {
    faults: Vec<(Injection, u64)>,
}

impl Faults {
    pub(super) fn new(injections: &[Injection], from: Side) -> Self {
        let faults = injections
            .iter()
            .filter(|injection| injection.side.is_none_or(|side| side == from))
            .map(|injection| (injection.clone(), 0))
            .collect();
        Self { faults }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// The faults of the next message of this name.
    pub(super) fn next(&mut self, name: &str) -> Vec<Injection> {
        let mut due = Vec::new();
        for (injection, seen) in &mut self.faults {
            let any = injection.message == "any" && !matches!(name, "record" | "keep-alive");
            if !any && injection.message != name {
                continue;
            }
            let is_due = match injection.which {
                Which::Only(number) => *seen == number,
                Which::From(number) => *seen >= number,
            };
            *seen += 1;
            if is_due {
                due.push(injection.clone());
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood_and_said_again() {
        for text in [
            "drop:data:3",
            "delay:any:10+=50",
            "reorder:request",
            "truncate:open:0:dialer=4",
            "corrupt:record:2:upstream=0",
            "split:keep-alive=3",
            "unbatch:sync",
        ] {
            let injection: Injection = text.parse().expect(text);
            assert_eq!(injection.to_string(), text);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, wanted) in [
            ("", "\"\" is none of drop"),
            ("lose:data", "\"lose\" is none of drop"),
            ("drop", "\"\" is none of open"),
            ("drop:date", "\"date\" is none of open"),
            ("drop:data:x", "\"x\" is neither"),
            ("drop:data:1=y", "y is not a number"),
            ("split:data=0", "at least one byte"),
        ] {
            let error = text.parse::<Injection>().expect_err(text).to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn messages_are_counted_by_name_and_side() {
        let injections: Vec<Injection> = ["drop:data:1:dialer", "delay:any:3+"]
            .iter()
            .map(|text| text.parse().expect(text))
            .collect();
        let mut left = Faults::new(&injections, Side::Left);
        let mut right = Faults::new(&injections, Side::Right);
        let due = |faults: &mut Faults, name: &str| faults.next(name).len();
        let names = ["data", "sync", "data", "record", "data", "sync"];
        let seen: Vec<_> = names.iter().map(|name| due(&mut left, name)).collect();
        assert_eq!(seen, [0, 0, 1, 0, 1, 1]);
        let seen: Vec<_> = names.iter().map(|name| due(&mut right, name)).collect();
        assert_eq!(seen, [0, 0, 0, 0, 1, 1]);
    }
}
