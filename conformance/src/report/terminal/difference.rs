//! The differences between an answer and the expectation.

use std::fmt::Write as _;

use console::Style;
use serde_json::Value;

use crate::diff::{Difference, ROW, bytes_of, rows};
use crate::term::Paint;

/// Printed values are cut off after this many characters.
const SHOWN_CHARACTERS: usize = 240;

pub(super) fn describe(difference: &Difference, paint: &Paint) -> String {
    let path = if difference.path.is_empty() {
        "the whole value"
    } else {
        &difference.path
    };
    let bytes = |value: &Option<Value>| value.as_ref().and_then(bytes_of);
    if let (Some(first), Some(expected), Some(actual)) = (
        difference.first_byte,
        bytes(&difference.expected),
        bytes(&difference.actual),
    ) {
        return format!(
            "{path}{}",
            aligned(
                &expected,
                &actual,
                first,
                difference.field.as_deref(),
                paint
            )
        );
    }
    let side = |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".into(), shorten);
    format!(
        "{path}\nexpected  {}\nactual    {}",
        paint.good.apply_to(side(&difference.expected)),
        paint.bad.apply_to(side(&difference.actual))
    )
}

/// Both byte strings in rows of 16, with a caret under the first differing byte and the name of its field.
pub fn aligned(
    expected: &[u8],
    actual: &[u8],
    first: usize,
    field: Option<&str>,
    paint: &Paint,
) -> String {
    let mut out = String::new();
    let lengths = if expected.len() == actual.len() {
        format!("of {}", expected.len())
    } else {
        format!("({} bytes expected, {} came)", expected.len(), actual.len())
    };
    let field = field
        .map(|field| format!(": {}", paint.strong.apply_to(field)))
        .unwrap_or_default();
    let _ = write!(out, ", byte {first} {lengths}{field}");
    let shown = rows(expected, actual, 1, 1);
    if shown.first().is_some_and(|row| row.offset > 0) {
        let _ = write!(out, "\n          {}", paint.faint.apply_to("…"));
    }
    for row in &shown {
        if row.expected == row.actual {
            let _ = write!(
                out,
                "\n          {:04x}  {}",
                row.offset,
                hex_row(&row.expected, &row.expected, &paint.faint)
            );
            continue;
        }
        let _ = write!(
            out,
            "\nexpected  {:04x}  {}",
            row.offset,
            hex_row(&row.expected, &row.actual, &paint.good)
        );
        let _ = write!(
            out,
            "\nactual    {:04x}  {}",
            row.offset,
            hex_row(&row.actual, &row.expected, &paint.bad)
        );
        if (row.offset..row.offset + ROW).contains(&first) {
            let _ = write!(
                out,
                "\n{}{}",
                " ".repeat(16 + column(first - row.offset)),
                paint.bad.apply_to("^^")
            );
        }
    }
    let end = shown.last().map_or(0, |row| row.offset + ROW);
    if end < expected.len().max(actual.len()) {
        let _ = write!(out, "\n          {}", paint.faint.apply_to("…"));
    }
    out
}

/// The column of a byte of a row: three characters per byte, and a gap in the middle.
fn column(at: usize) -> usize {
    at * 3 + usize::from(at >= ROW / 2)
}

fn hex_row(bytes: &[u8], other: &[u8], style: &Style) -> String {
    let mut row = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        let gap = if at == 0 {
            ""
        } else if at == ROW / 2 {
            "  "
        } else {
            " "
        };
        row.push_str(gap);
        let byte_text = format!("{byte:02x}");
        if other.get(at) == Some(byte) {
            row.push_str(&byte_text);
        } else {
            row.push_str(&style.apply_to(byte_text).to_string());
        }
    }
    if bytes.is_empty() {
        row.push_str("(nothing)");
    }
    row
}

pub(super) fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}… ({} characters)", &text[..end], text.len()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_first_byte_that_differs() {
        let expected: Vec<u8> = (0..40).collect();
        for first in [0, 7, 8, 15, 16, 31, 39] {
            let mut actual = expected.clone();
            actual[first] = 0xff;
            let text = aligned(&expected, &actual, first, Some("fork"), &Paint::plain());
            assert!(
                text.starts_with(&format!(", byte {first} of 40: fork\n")),
                "{text}"
            );
            let lines: Vec<&str> = text.lines().collect();
            let caret = lines
                .iter()
                .position(|line| line.trim() == "^^")
                .expect(&text);
            let column = lines[caret].find('^').unwrap_or_default();
            assert_eq!(&lines[caret - 1][column..column + 2], "ff", "{text}");
            assert_eq!(
                &lines[caret - 2][column..column + 2],
                format!("{first:02x}"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_missing_end_is_pointed_at() {
        let text = aligned(&[1, 2, 3], &[1, 2], 2, None, &Paint::plain());
        assert_eq!(
            text,
            ", byte 2 (3 bytes expected, 2 came)\nexpected  0000  01 02 03\nactual    0000  01 02\n                      ^^"
        );
    }
}
