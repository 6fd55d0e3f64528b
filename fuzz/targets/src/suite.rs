//! The conformance suite's input from adapters, from foreign files, and from peers.

use hypercore_conformance::adapter::{Hello, Outcome, read_answer};
use hypercore_conformance::dissect::{
    Conversation, Dissection, Field, KEPT_BYTES, Kind, Side, dissect, print,
};
use hypercore_conformance::foreign;
use hypercore_conformance::matrix::report::MatrixReport;
use hypercore_conformance::report::model::Report;
use hypercore_conformance::term::Paint;
use hypercore_protocol::{Buffer, MessageType};

use crate::input::Input;

/// Text that is safe on a terminal or in the log of a CI.
fn harmless(line: &str) {
    assert!(!line.chars().any(char::is_control), "{line:?}");
    assert!(!line.trim_start().starts_with("::"), "{line:?}");
    assert!(
        !line.contains("##[") && !line.contains("##vso["),
        "{line:?}"
    );
}

pub(crate) fn answers(input: &[u8]) -> usize {
    let mut size = input.len();
    for line in input.split(|byte| *byte == b'\n') {
        size += line.len();
        match read_answer(line, 1) {
            Ok(Outcome::Ok(value)) => match Hello::from_value(&value) {
                Ok(hello) => {
                    harmless(&hello.title());
                    let again = Hello::from_value(&hello.to_value());
                    assert_eq!(again.as_ref(), Ok(&hello));
                }
                Err(failure) => harmless(&foreign::line(&failure.to_string())),
            },
            Ok(_) => {}
            Err(failure) => harmless(&foreign::line(&failure.to_string())),
        }
        let text = String::from_utf8_lossy(line);
        let shown = foreign::line(&text);
        harmless(&shown);
        assert_eq!(foreign::line(&shown), shown, "what is harmless stays");
        harmless(&foreign::short(&text, 20));
    }
    size
}

pub(crate) fn reports(input: &[u8]) -> usize {
    if let Ok(text) = std::str::from_utf8(input) {
        match Report::read(text) {
            Ok(report) => drop(format!("{report:?}")),
            Err(error) => drop(error.to_string()),
        }
    }
    match MatrixReport::parse(input) {
        Ok(report) => {
            let again = MatrixReport::parse(report.to_json().as_bytes());
            assert!(again.is_ok(), "a report that was read is read again");
            let _ = MatrixReport::merge(vec![report]);
        }
        Err(error) => drop(error.to_string()),
    }
    input.len()
}

pub(crate) fn dissector(input: &[u8]) -> usize {
    let mut choices = Input::new(input);
    let kind = choices.byte();
    let mut size = input.len();
    if kind & 1 == 0 {
        let mut conversation = Conversation::assuming_hypercore();
        while !choices.is_empty() {
            let side = if choices.flag() {
                Side::Left
            } else {
                Side::Right
            };
            let record = Buffer::copy_from(choices.bytes(2048));
            size += record.len();
            check(&conversation.record(side, &record), record.len());
        }
        return size;
    }
    let kind = match kind >> 1 & 15 {
        id @ 0..=9 => MessageType::from_id(u64::from(id)).map(Kind::Message),
        10 => Some(Kind::Handshake),
        11 => Some(Kind::Manifest),
        12 => Some(Kind::MultiSignature),
        13 => Some(Kind::MultiSignatureV0),
        _ => Some(Kind::Record),
    };
    let bytes = Buffer::copy_from(choices.rest());
    check(&dissect(kind.unwrap_or(Kind::Record), &bytes), bytes.len());
    size
}

/// Every field lies within the bytes, and in their order.
fn check(shown: &Dissection, length: usize) {
    assert_eq!(shown.length, length);
    fields(&shown.fields, 0, length);
    for fault in &shown.errors {
        assert!(fault.offset <= length);
    }
    for line in print(shown, "", &Paint::plain()).lines() {
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

fn fields(all: &[Field], start: usize, end: usize) {
    let mut at = start;
    for field in all {
        assert!(field.offset >= at, "{} begins within the last", field.name);
        at = field.offset + field.length;
        assert!(at <= end, "{} reaches past the end", field.name);
        assert!(
            field
                .hex
                .as_ref()
                .is_none_or(|hex| hex.len() <= 2 * KEPT_BYTES + 3)
        );
        fields(&field.fields, field.offset, at);
    }
}
