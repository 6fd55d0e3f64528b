//! A dissection as text: one line per field, indented, with its offset and bytes.

use std::fmt::Write as _;

use super::{Dissection, Fault, Field};
use crate::foreign::line;
use crate::term::Paint;

/// Bytes of a field that are shown.
const SHOWN_BYTES: usize = 8;

/// Items of an array that are shown in full.
const SHOWN_ITEMS: usize = 64;

/// Formats a dissection, with each line indented by `indent`.
pub fn print(shown: &Dissection, indent: &str, paint: &Paint) -> String {
    let mut out = String::new();
    let plural = if shown.length == 1 { "" } else { "s" };
    let title = format!("{} of {} byte{plural}", shown.what, shown.length);
    let _ = writeln!(out, "{indent}{}", paint.strong.apply_to(title));
    print_fields(&mut out, &shown.fields, indent, 0, paint);
    for fault in &shown.errors {
        print_fault(&mut out, fault, indent, paint);
    }
    for note in &shown.notes {
        let _ = writeln!(out, "{indent}  {} {note}", paint.doubtful.apply_to("note "));
    }
    out
}

fn print_fields(out: &mut String, fields: &[Field], indent: &str, depth: usize, paint: &Paint) {
    for (at, field) in fields.iter().enumerate() {
        if at == SHOWN_ITEMS && fields.len() > SHOWN_ITEMS + 1 {
            let more = fields.len() - at;
            let _ = writeln!(
                out,
                "{indent}{:36}{:width$}{more} more, not shown",
                "",
                "",
                width = depth * 2
            );
            return;
        }
        print_field(out, field, indent, depth, paint);
        print_fields(out, &field.fields, indent, depth + 1, paint);
    }
}

fn print_field(out: &mut String, field: &Field, indent: &str, depth: usize, paint: &Paint) {
    let bytes = field.hex.as_deref().map(spaced).unwrap_or_default();
    let name = match &field.hex {
        Some(_) => paint.faint.apply_to(&field.name),
        None => paint.strong.apply_to(&field.name),
    };
    let mut said = Vec::new();
    match &field.value {
        Some(serde_json::Value::String(text)) => said.push(format!("{text:?}")),
        Some(value) => said.push(value.to_string()),
        None if field.hex.is_some() && field.length > SHOWN_BYTES => {
            said.push(format!("{} bytes", field.length));
        }
        None => {}
    }
    if !field.meaning.is_empty() {
        said.push(line(&field.meaning).into_owned());
    }
    let row = format!(
        "{indent}  {}  {bytes:<25} {:width$}{name}  {}",
        paint.faint.apply_to(format_args!("{:>6}", field.offset)),
        "",
        said.join(", "),
        width = depth * 2
    );
    let _ = writeln!(out, "{}", row.trim_end());
}

fn print_fault(out: &mut String, fault: &Fault, indent: &str, paint: &Paint) {
    let field = fault
        .field
        .as_ref()
        .map(|field| format!(" in {field}"))
        .unwrap_or_default();
    let _ = writeln!(
        out,
        "{indent}  {:>6}  {} {} ({}){field}: {}",
        fault.offset,
        paint.bad.apply_to("error"),
        fault.class,
        fault.layer,
        fault.message
    );
}

/// The first bytes of some hex, two digits each.
fn spaced(hex: &str) -> String {
    let digits: Vec<char> = hex.chars().take(SHOWN_BYTES * 2).collect();
    let pairs: Vec<String> = digits.chunks(2).map(|pair| pair.iter().collect()).collect();
    let cut = if hex.chars().count() > SHOWN_BYTES * 2 {
        " …"
    } else {
        ""
    };
    pairs.join(" ") + cut
}
