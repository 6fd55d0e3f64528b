//! Makes text from a peer, an adapter, npm or a file safe to show.
//!
//! Such text may hold control sequences for a terminal or the log of a CI: escape sequences, carriage returns,
//! bidirectional controls, or a line that the log parses as a command. [`line()`] and [`lines`] replace them by
//! readable text. They are applied on input, so that a foreign line break can't forge a line of ours; [`safe_output`]
//! is applied to everything that leaves through [`crate::out`], in case one was forgotten.

use std::borrow::Cow;

/// The longest name, version or language of an adapter, in characters.
pub const MAX_NAME: usize = 200;

/// The longest error message that is kept, in characters; it is part of each report.
pub const MAX_MESSAGE: usize = 2000;

/// The longest file name that [`file_name`] returns, in bytes; the supported systems allow 255.
const MAX_FILE_NAME: usize = 120;

/// Whether a terminal, a browser or the log of a CI may do anything but display this character.
fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            // Line and paragraph separators; bidirectional controls, and marks without width.
            '\u{2028}' | '\u{2029}' | '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

fn escape(c: char, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if (c as u32) < 0x100 => out.push_str(&format!("\\x{:02x}", c as u32)),
        c => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
    }
}

fn escaped(text: &str, keeps: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_bad = |c: char| is_dangerous(c) && !keeps(c);
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_bad(c) {
            escape(c, &mut out);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// The text on one line that is not a command to the log of a CI: a line break becomes `\n`, an escape character
/// `\x1b`.
pub fn line(text: &str) -> Cow<'_, str> {
    safe(text, |_| false)
}

fn safe(text: &str, keeps: impl Fn(char) -> bool) -> Cow<'_, str> {
    match escaped(text, keeps) {
        Cow::Borrowed(text) => without_commands(text),
        Cow::Owned(text) => Cow::Owned(match without_commands(&text) {
            Cow::Owned(changed) => changed,
            Cow::Borrowed(_) => text,
        }),
    }
}

/// The text with its line breaks and tabs; otherwise as [`line()`].
pub fn lines(text: &str) -> Cow<'_, str> {
    let keeps = |c| matches!(c, '\n' | '\t');
    if text.contains("\r\n") {
        return Cow::Owned(safe(&text.replace("\r\n", "\n"), keeps).into_owned());
    }
    safe(text, keeps)
}

/// The text on one line, cut off after `most` characters with the number of the omitted ones.
pub fn short(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => line(text),
        Some((end, _)) => {
            let more = text[end..].chars().count();
            Cow::Owned(format!("{}… ({more} characters more)", line(&text[..end])))
        }
    }
}

/// Breaks what the logs of GitHub Actions and Azure Pipelines parse as commands: `::` at the start of a line, after any
/// spaces; and `##[` or `##vso[` anywhere in it.
fn without_commands(text: &str) -> Cow<'_, str> {
    let is_command = |line: &str| {
        let line = plain(line);
        line.trim_start().starts_with("::") || line.contains("##[") || line.contains("##vso[")
    };
    // Most text has neither, and needs no pass over its lines.
    if !text.contains("::") && !text.contains("##") || !text.lines().any(is_command) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for piece in text.split_inclusive('\n') {
        if !is_command(piece) {
            out.push_str(piece);
            continue;
        }
        let piece = piece
            .replace("##[", "#\\x23[")
            .replace("##vso[", "#\\x23vso[");
        match piece.split_once("::") {
            Some((before, after)) if plain(before).trim().is_empty() => {
                out.push_str(before);
                out.push_str("\\x3a:");
                out.push_str(after);
            }
            _ => out.push_str(&piece),
        }
    }
    Cow::Owned(out)
}

/// The text without colours, as the log of a CI may see it.
fn plain(text: &str) -> Cow<'_, str> {
    if text.contains('\x1b') {
        console::strip_ansi_codes(text)
    } else {
        Cow::Borrowed(text)
    }
}

/// Our own output without anything harmful: line breaks, tabs and colours stay.
pub fn safe_output(text: &str) -> Cow<'_, str> {
    let is_bad = |c: char| is_dangerous(c) && !matches!(c, '\n' | '\t');
    if !text.contains(is_bad) {
        return without_commands(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_bad) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = match colour(rest) {
            0 => {
                let c = rest.chars().next().unwrap_or_default();
                escape(c, &mut out);
                c.len_utf8()
            }
            length => {
                out.push_str(&rest[..length]);
                length
            }
        };
        rest = &rest[taken..];
    }
    out.push_str(rest);
    match without_commands(&out) {
        Cow::Owned(changed) => Cow::Owned(changed),
        Cow::Borrowed(_) => Cow::Owned(out),
    }
}

/// Length of the colour or weight sequence at the start of the text: `ESC [`, digits and semicolons, `m`.
fn colour(text: &str) -> usize {
    let Some(rest) = text.strip_prefix("\x1b[") else {
        return 0;
    };
    let inner = rest
        .bytes()
        .take_while(|byte| byte.is_ascii_digit() || *byte == b';')
        .count();
    match rest.as_bytes().get(inner) {
        Some(b'm') => 2 + inner + 1,
        _ => 0,
    }
}

/// JSON whose strings have no character that a terminal interprets: those are written as escapes with the same meaning.
pub fn json(text: &str) -> Cow<'_, str> {
    // Outside of strings, JSON has only spaces and such line breaks; within them, serde_json escapes these.
    let is_bad = |c: char| is_dangerous(c) && !matches!(c, '\n' | '\t' | '\r');
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_bad(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// A name for a file or a folder derived from this text: letters, digits, `.`, `-` and `_` stay, except a leading dot
/// or hyphen; everything else becomes `_`, and a digest keeps different texts apart.
///
/// The result names one entry of a folder: it is never empty, absolute, `..`, or too long for a file system.
pub fn file_name(text: &str) -> String {
    let keeps = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_plain = !text.is_empty()
        && text.len() <= MAX_FILE_NAME
        && !text.starts_with(['.', '-'])
        && !text.ends_with('.')
        && text.chars().all(keeps);
    if is_plain {
        return text.to_owned();
    }
    use sha2::{Digest as _, Sha256};
    let digest = hex::encode(&Sha256::digest(text)[..6]);
    let kept: String = text
        .chars()
        .map(|c| if keeps(c) { c } else { '_' })
        .take(MAX_FILE_NAME - digest.len() - 2)
        .collect();
    let kept = kept.trim_start_matches('.');
    format!("_{kept}-{digest}")
}

/// The text escaped for Markdown: no markup, HTML, or end of a table cell.
pub fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in line(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '!' | '#' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            // A mention would notify people, and an address would become a link.
            '@' => out.push_str("&#64;"),
            c => out.push(c),
        }
    }
    out.replace("://", ":&#8203;//")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "\x1b]0;t\x07\x1b[31mred\x1b[2J\u{9b}2J\u{202e}abc\u{200b}\r\n::error::x\n##vso[task]y\n ##[error]z\n  ::warning::w";

    #[test]
    fn one_line_has_nothing_that_a_terminal_obeys() {
        let shown = line(HOSTILE);
        assert!(!shown.contains(is_dangerous), "{shown:?}");
        assert!(shown.starts_with("\\x1b]0;t\\x07\\x1b[31mred"), "{shown}");
        assert!(
            shown.contains("\\x9b2J\\u{202e}abc\\u{200b}\\r\\n::error"),
            "{shown}"
        );
        assert!(matches!(line("plain – text"), Cow::Borrowed(_)));
    }

    #[test]
    fn no_line_is_a_command_to_a_log() {
        for shown in [lines(HOSTILE), safe_output(HOSTILE)] {
            for line in shown.lines() {
                assert!(!line.trim_start().starts_with("::"), "{line}");
                assert!(!line.contains("##[") && !line.contains("##vso["), "{line}");
            }
            assert!(shown.contains("\\x3a:error::x"), "{shown}");
        }
        assert!(safe_output("\x1b[31m::error::x\x1b[0m").contains("\\x3a:error"));
        assert!(matches!(lines("a::b\n## c"), Cow::Borrowed(_)));
    }

    #[test]
    fn our_own_colours_stay() {
        let own = "\x1b[31m\x1b[1mFAILED\x1b[0m a\n\tb";
        assert_eq!(safe_output(own), own);
        assert_eq!(
            safe_output("a\x1b[2Jb\x1b]0;t\x07"),
            "a\\x1b[2Jb\\x1b]0;t\\x07"
        );
    }

    #[test]
    fn a_file_name_names_one_entry_of_a_folder() {
        for text in [
            "",
            ".",
            "..",
            "-x",
            "/tmp/x",
            "../../x",
            "a/b",
            "a\\b",
            "c:x",
            "a\0b",
            ".git",
            "x.",
            "\u{202e}",
            &"n".repeat(100_000),
        ] {
            let name = file_name(text);
            let parts: Vec<_> = std::path::Path::new(&name).components().collect();
            assert!(
                matches!(parts.as_slice(), [std::path::Component::Normal(_)])
                    && name.len() <= MAX_FILE_NAME,
                "{text:?}: {name}"
            );
            assert!(
                name.chars()
                    .all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)),
                "{name}"
            );
        }
        assert_eq!(file_name("message.sync.a-b"), "message.sync.a-b");
        assert_ne!(file_name("a/b"), file_name("a:b"));
    }

    #[test]
    fn json_means_the_same() {
        let value = serde_json::json!({ "a\u{202e}": HOSTILE, "b": "\u{e0001}" });
        let text = serde_json::to_string_pretty(&value).expect("JSON");
        let shown = json(&text);
        assert!(!shown.contains(|c| is_dangerous(c) && c != '\n'), "{shown}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"),
            value
        );
    }

    #[test]
    fn what_is_long_is_cut_with_a_word() {
        assert_eq!(short("abc", 3), "abc");
        assert_eq!(short("ab\ncd", 3), "ab\\n… (2 characters more)");
    }

    #[test]
    fn a_cell_of_a_table_stays_one() {
        assert_eq!(
            markdown("a|b\n<img> `x` [l](http://e)"),
            "a\\|b\\\\n&lt;img&gt; \\`x\\` \\[l\\](http:&#8203;//e)"
        );
    }
}
