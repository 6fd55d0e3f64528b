//! Reports as one self-contained page: no network, no other file, no framework.
//!
//! The matrix is static HTML, so that it can be read without scripts; `assets/report.js` shows the checks behind a
//! cell. The script's data is one JSON object that stores values shared by columns once, and for a passed check only
//! its verdict, one character. A content security policy forbids everything else.

mod data;
mod tables;

use std::collections::HashSet;
use std::fmt::Write as _;

use base64::Engine as _;
use indicatif::HumanCount;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use self::tables::Matrix;
use super::Finished;
use super::files::Format;
use super::model::{Column, Report};
use crate::run::{Check, Kind};

pub(super) const OF_RUN: Format<Finished> = Format {
    name: "html",
    help: "Write a page for browsers, which needs no other file",
    text: |Finished { run, rerun }| Ok(page(&Report::of(Column::new(run, rerun)))),
};

pub(super) const OF_MANY: Format<Report> = Format {
    name: OF_RUN.name,
    help: OF_RUN.help,
    text: |report| Ok(page(report)),
};

const STYLE: &str = include_str!("../../../assets/report.css");
const SCRIPT: &str = include_str!("../../../assets/report.js");
const SPECIFICATION: &str = include_str!("../../../../vectors/SPECIFICATION.md");

/// The verdicts from the worst to the best, each with its sign and its heading.
const VERDICTS: [(&str, &str, &str); 8] = [
    ("failed", "✕", "failed"),
    ("unexpected-pass", "!", "unexpected pass"),
    ("flaky", "∿", "flaky"),
    ("expected-failure", "⊘", "expected failure"),
    ("non-strict", "≈", "non-strict"),
    ("informational", "i", "informational"),
    ("unsupported", "–", "unsupported"),
    ("ok", "✓", "ok"),
];

/// The headline of a report of many settings: its title, its result as a flag, a word, and a line.
#[derive(Clone, Debug)]
pub(crate) struct Headline {
    pub(crate) title: String,
    pub(crate) failed: bool,
    pub(crate) word: String,
    pub(crate) line: String,
}

/// The script's terms, in this order: a layer, all layers, all columns, and the columns not shown.
const TERMS: [&str; 4] = ["Layer", "all layers", "all columns", "other columns"];

/// The same if rows are settings.
const PART_TERMS: [&str; 4] = [
    "Part",
    "all parts",
    "all releases",
    "other places of the matrix",
];

/// The page.
pub fn page(report: &Report) -> String {
    render(report, None)
}

/// The page of a report of many settings, such as releases: a row for each, and side by side the results of each
/// implementation in each layer.
pub(crate) fn page_by_setting(report: &Report, headline: &Headline) -> String {
    render(report, Some(headline))
}

fn render(report: &Report, headline: Option<&Headline>) -> String {
    let keys = keys(&report.columns);
    let matrix = Matrix::of(report);
    let title = match (headline, report.columns.as_slice()) {
        (Some(headline), _) => headline.title.clone(),
        (None, [only]) => format!("{}: conformance report", only.title()),
        (None, columns) => format!("Conformance report: {} columns", columns.len()),
    };
    let mut out = String::new();
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src '{}'; style-src '{}'; \
         img-src data:; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
        digest(SCRIPT),
        digest(STYLE),
        escape(&title),
    );
    let heading = headline.map_or("Conformance report", |headline| &headline.title);
    header(&mut out, report, heading);
    out.push_str("<main>\n");
    match headline {
        Some(own) => verdict(&mut out, own.failed, &escape(&own.word), &escape(&own.line)),
        None => summary(&mut out, report),
    }
    notes(&mut out, &report.columns);
    match (headline, report.columns.as_slice()) {
        (Some(_), columns) => tables::by_setting(&mut out, columns, &matrix, &keys),
        (None, [_]) => tables::single(&mut out, &matrix, &keys[0]),
        (None, columns) => tables::table(&mut out, columns, &matrix, &keys),
    }
    legend(&mut out, report);
    out.push_str(
        "<section id=\"checks\" aria-labelledby=\"checks-title\" tabindex=\"-1\">\n<h2 id=\"checks-title\">Checks</h2>\n\
         <noscript><p>The checks behind each cell are shown by a script.</p></noscript>\n</section>\n",
    );
    about(&mut out, &report.columns);
    out.push_str("</main>\n");
    let _ = write!(
        out,
        "<script type=\"application/json\" id=\"data\">{}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        embed(&data::of(
            report,
            &keys,
            headline.map_or(TERMS, |_| PART_TERMS)
        )),
    );
    out
}

/// Text escaped for HTML content and attributes.
fn escape(text: &str) -> String {
    let text = &*crate::foreign::lines(text);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Not allowed in HTML, in any form.
            '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\x7f' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// JSON that cannot end its enclosing element.
fn embed(value: &Value) -> String {
    value
        .to_string()
        .replace('<', "\\u003c")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

/// The hash source of a script or style in the policy.
fn digest(text: &str) -> String {
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!("sha256-{hash}")
}

fn count(count: usize) -> String {
    HumanCount(count as u64).to_string()
}

/// Percent-encodes a part of an address, except letters, digits, dots and hyphens, for `decodeURIComponent`.
fn encode(part: &str) -> String {
    let mut out = String::new();
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            out.push(byte as char);
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Keys that name the columns in links: derived from their contents, so that they are stable when others are added.
fn keys(columns: &[Column]) -> Vec<String> {
    let mut taken = HashSet::new();
    let slug = |column: &Column| {
        let mut slug = String::new();
        for c in column.title().chars() {
            match c.to_ascii_lowercase() {
                c if c.is_ascii_alphanumeric() || c == '.' => slug.push(c),
                _ if slug.is_empty() || slug.ends_with('-') => {}
                _ => slug.push('-'),
            }
        }
        slug.trim_end_matches(['-', '.']).to_owned()
    };
    let unique = |column: &Column| {
        let slug = slug(column);
        let mut key = if slug.is_empty() {
            "column".into()
        } else {
            slug.clone()
        };
        let mut number = 2;
        while !taken.insert(key.clone()) {
            key = format!("{slug}-{number}");
            number += 1;
        }
        key
    };
    columns.iter().map(unique).collect()
}

/// How many checks of a cell got each verdict, in the order of [`VERDICTS`].
type Counts = [usize; VERDICTS.len()];

fn place(verdict: &str) -> usize {
    let known = VERDICTS.iter().position(|(name, ..)| *name == verdict);
    known.unwrap_or(0)
}

fn name_of(check: &Check) -> String {
    check.verdict.to_string()
}

fn header(out: &mut String, report: &Report, heading: &str) {
    let _ = write!(
        out,
        "<a class=\"skip\" href=\"#checks\">Skip to the checks</a>\n<header class=\"top\">\n<h1>{}</h1>\n\
         <p class=\"faint\">hypercore wire protocol · {} {}</p>\n\
         <button type=\"button\" id=\"theme\" hidden>Theme: system</button>\n</header>\n",
        escape(heading),
        escape(&report.suite.name),
        escape(&report.suite.version),
    );
}

fn in_words(counts: &Counts) -> String {
    let parts = VERDICTS.iter().zip(counts).filter(|(_, count)| **count > 0);
    let parts: Vec<String> = parts
        .map(|((_, _, word), number)| format!("{} {word}", count(*number)))
        .collect();
    if parts.is_empty() {
        "no checks".into()
    } else {
        parts.join(", ")
    }
}

fn fails(counts: &Counts) -> bool {
    counts[place("failed")] + counts[place("unexpected-pass")] > 0
}

/// The headline verdict, as markup.
fn verdict(out: &mut String, failed: bool, word: &str, text: &str) {
    let (class, sign) = if failed {
        ("bad", "✕")
    } else {
        ("good", "✓")
    };
    let _ = writeln!(
        out,
        "<p class=\"verdict\"><strong class=\"{class}\"><span aria-hidden=\"true\">{sign} </span>{word}</strong> {text}</p>"
    );
}

/// The summary lines: for one column as on the terminal.
fn summary(out: &mut String, report: &Report) {
    let all: Vec<&Check> = report.columns.iter().flat_map(|own| &own.checks).collect();
    let ran = |kind: Kind| {
        let ran = |check: &&&Check| check.kind == kind && name_of(check) != "unsupported";
        all.iter().filter(ran).count()
    };
    let named = |number: usize, what: &str| {
        let plural = if number == 1 { "" } else { "s" };
        format!("{} {what}{plural}", count(number))
    };
    let mut what = named(ran(Kind::Vector), "vector");
    if ran(Kind::Live) > 0 {
        let _ = write!(what, " and {}", named(ran(Kind::Live), "live scenario"));
    }
    let mut counts = Counts::default();
    all.iter()
        .for_each(|check| counts[place(&name_of(check))] += 1);
    let seconds: f64 = report.columns.iter().map(|column| column.seconds).sum();
    let who = match report.columns.as_slice() {
        [only] => escape(&title_of(only)),
        columns => {
            let red = columns.iter().filter(|own| own.has_regressed()).count();
            format!("{}, {red} of them failed", named(columns.len(), "column"))
        }
    };
    let text = format!(
        "{who}: {what} in {seconds:.1} s.<br><span class=\"faint\">{} in all: {}.</span>",
        named(all.len(), "check"),
        in_words(&counts),
    );
    let failed = report.has_regressed();
    verdict(out, failed, if failed { "FAILED" } else { "PASSED" }, &text);
}

/// The reasons for skipped and unavailable checks, each once.
fn notes(out: &mut String, columns: &[Column]) {
    type Reasons = Vec<(String, Vec<String>)>;
    let gather = |reasons: &mut Reasons, reason: &str, column: &Column| {
        let title = column.title();
        match reasons.iter_mut().find(|(other, _)| other == reason) {
            Some((_, titles)) => titles.push(title),
            None => reasons.push((reason.to_owned(), vec![title])),
        }
    };
    let (mut left_out, mut unavailable) = (Reasons::new(), Reasons::new());
    for column in columns {
        for what in &column.left_out {
            gather(&mut left_out, what, column);
        }
        if let Some(reason) = &column.unavailable {
            gather(&mut unavailable, reason, column);
        }
    }
    let whose = |titles: &[String]| match columns.len() {
        1 => String::new(),
        _ => format!("{}: ", escape(&titles.join(" · "))),
    };
    for (what, titles) in &left_out {
        let _ = writeln!(
            out,
            "<p class=\"note\"><strong>Left out:</strong> {}{}</p>",
            whose(titles),
            escape(what)
        );
    }
    for (reason, titles) in &unavailable {
        let _ = writeln!(
            out,
            "<div class=\"note\"><strong>Could not be run:</strong> {}<pre>{}</pre></div>",
            whose(titles),
            escape(reason)
        );
    }
}

/// The title as on the terminal.
fn title_of(column: &Column) -> String {
    let own = &column.implementation;
    match own.language.as_str() {
        "" => column.title(),
        language => format!("{} ({language})", column.title()),
    }
}

fn legend(out: &mut String, report: &Report) {
    const MEANINGS: [&str; 8] = [
        "not as expected",
        "listed as a failure, but it passed",
        "listed as flaky: logged, decides nothing",
        "failed, as listed",
        "tolerated, though not what Node was seen to do",
        "only told; Node is no measure there",
        "not declared; never counted as passed",
        "as expected",
    ];
    let checks = report.columns.iter().flat_map(|own| &own.checks);
    let present: HashSet<String> = checks.map(name_of).collect();
    out.push_str("<dl class=\"legend\">\n");
    let signs = VERDICTS.iter().zip(MEANINGS);
    for ((verdict, sign, word), meaning) in signs.filter(|((name, ..), _)| present.contains(*name))
    {
        let _ = writeln!(
            out,
            "<div><dt class=\"v-{verdict}\"><span class=\"sign\" aria-hidden=\"true\">{sign}</span> {word}</dt><dd>{meaning}</dd></div>"
        );
    }
    if report.columns.iter().any(|own| own.required.is_some()) {
        out.push_str(
            "<div><dt class=\"v-failed observed\"><span class=\"sign\" aria-hidden=\"true\">✕</span> outlined</dt>\
             <dd>observed only: decides nothing</dd></div>\n",
        );
    }
    out.push_str("</dl>\n");
}

/// Describes each column.
fn about(out: &mut String, columns: &[Column]) {
    out.push_str("<section aria-labelledby=\"about-title\">\n<h2 id=\"about-title\">What was run</h2>\n<dl class=\"about\">\n");
    for column in columns {
        let own = &column.implementation;
        let live = if own.live {
            "live operations"
        } else {
            "no live operations"
        };
        let mut words = vec![
            format!("{} operations declared", count(own.ops.len())),
            live.to_owned(),
            format!(
                "{} checks in {:.1} s",
                count(column.checks.len()),
                column.seconds
            ),
        ];
        match &column.required {
            None => {}
            Some(list) if list.is_empty() => words.push("observed only".into()),
            Some(list) => words.push(format!("required: {}", list.join(", "))),
        }
        if let Some(list) = &column.expected {
            let entries = list.entries.len();
            let plural = if entries == 1 { "y" } else { "ies" };
            words.push(format!(
                "expected failures: {}, {entries} entr{plural}",
                list.file
            ));
        }
        if column.unavailable.is_some() {
            words = vec!["could not be run".into()];
        }
        let _ = writeln!(
            out,
            "<div><dt>{}</dt><dd>{}</dd></div>",
            escape(&title_of(column)),
            escape(&words.join("; "))
        );
    }
    out.push_str("</dl>\n</section>\n");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::adapter::Hello;
    use crate::report::Rerun;
    use crate::run::Run;
    use crate::run::verdict::Verdict;

    const HOSTILE: &str =
        "</script><script>alert(1)</script><!-- <img src=x onerror=alert(2)> \"'&amp;\u{2028}\u{0}";

    fn column(name: &str, checks: Vec<Check>) -> Column {
        let hello = Hello {
            name: name.into(),
            version: "1.0.0".into(),
            ..Hello::default()
        };
        let run = Run {
            implementation: hello,
            checks,
            left_out: Vec::new(),
            expected: None,
            duration: std::time::Duration::from_secs(1),
        };
        Column::new(&run, &Rerun::default())
    }

    fn check(id: &str, layer: &str, verdict: Verdict) -> Check {
        let mut check = Check::new(Kind::Vector, id, layer, "subject").with_comment("Shows it.");
        check.verdict = verdict;
        check
    }

    fn read(page: &str) -> Value {
        let from = page.find("id=\"data\">").expect("data") + "id=\"data\">".len();
        let to = page[from..].find("</script>").expect("an end") + from;
        serde_json::from_str(&page[from..to]).expect("JSON")
    }

    #[test]
    fn nothing_hostile_becomes_markup() {
        let mut bad = check(HOSTILE, HOSTILE, Verdict::Failed).with_comment(HOSTILE);
        bad.subject = HOSTILE.into();
        bad.reason = Some(HOSTILE.into());
        bad.stderr = Some(HOSTILE.into());
        bad.op = Some(HOSTILE.into());
        bad.clauses = vec![HOSTILE.into()];
        bad.flags = vec![HOSTILE.into()];
        bad.input = Some(json!({ HOSTILE: HOSTILE }));
        let mut own = column(HOSTILE, vec![bad.clone()]);
        own.left_out = vec![HOSTILE.into()];
        let mut other = own.clone();
        for text in [
            &mut other.label,
            &mut other.release,
            &mut other.runtime,
            &mut other.role,
            &mut other.peer,
        ] {
            *text = Some(HOSTILE.into());
        }
        other.required = Some(vec![HOSTILE.into()]);
        let mut report = Report::of(own.clone());
        let one = page(&report);
        report.add_column(other).expect("another");
        report
            .add_column(Column::unavailable(HOSTILE, HOSTILE))
            .expect("a third");
        let headline = Headline {
            title: HOSTILE.into(),
            failed: true,
            word: HOSTILE.into(),
            line: HOSTILE.into(),
        };
        for page in [one, page(&report), page_by_setting(&report, &headline)] {
            let count = |what: &str| page.to_lowercase().matches(what).count();
            assert_eq!((count("<script"), count("</script")), (2, 2));
            assert_eq!((count("<!--"), count("<img")), (0, 0));
            assert!(!page.contains('\0'));
            let data = read(&page);
            assert_eq!(data["cases"][0][1], format!("={HOSTILE}"));
            assert_eq!(data["details"][0]["stderr"], HOSTILE);
        }
    }

    #[test]
    fn the_policy_lets_only_what_is_in_the_page_run() {
        let page = page(&Report::of(column(
            "some",
            vec![check("a.b.c", "mux", Verdict::Ok)],
        )));
        let policy = format!(
            "script-src '{}'; style-src '{}';",
            digest(SCRIPT),
            digest(STYLE)
        );
        assert!(page.contains(&format!("\"default-src 'none'; {policy} img-src data:; ")));
        assert!(page.contains(&format!("<style>{STYLE}</style>")));
        assert!(page.contains(&format!("<script>{SCRIPT}</script>")));
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
        assert!(!page.contains(" style="));
        // As output by `openssl dgst -sha256 -binary | base64`.
        assert_eq!(
            digest("abc"),
            "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="
        );
    }

    #[test]
    fn counts_are_those_of_the_columns() {
        let mixed = vec![
            check("mux.subject.a", "mux", Verdict::Failed),
            check("mux.subject.b", "mux", Verdict::Ok),
            check("key.subject.c", "key", Verdict::Unsupported),
            check("frame.subject.d", "frame", Verdict::NonStrict),
            check("frame.subject.e", "frame", Verdict::Ok),
        ];
        let one = page(&Report::of(column("some", mixed.clone())));
        assert!(
            one.contains("5 checks in all: 1 failed, 1 non-strict, 1 unsupported, 2 ok."),
            "{one}"
        );
        assert!(one.contains("href=\"#some-1.0.0/mux?verdict=failed\""));
        let mut report = Report::of(column("some", mixed));
        let fine = vec![check("mux.subject.a", "mux", Verdict::Ok)];
        report.add_column(column("other", fine)).expect("another");
        let two = page(&report);
        assert!(two.contains("2 columns, 1 of them failed"));
        // By layer in order, then by column.
        let cells: Vec<&str> = two
            .split("<td class=\"")
            .skip(1)
            .filter_map(|cell| cell.split('"').next())
            .collect();
        assert_eq!(
            cells,
            [
                "v-failed",
                "v-ok",
                "v-unsupported",
                "none",
                "v-ok",
                "none",
                "v-failed",
                "v-ok"
            ]
        );
        assert!(two.contains("<span class=\"sr\">mux: 1 failed, 1 ok</span>"));
        let data = read(&two);
        assert_eq!(data["columns"][0]["verdicts"], "64707");
        assert_eq!(data["columns"][1]["verdicts"], "...7.");
    }

    #[test]
    fn a_setting_is_a_row_with_each_implementation_beside_the_others() {
        let mut report = Report::empty();
        let mut add = |name: &str, release: &str, checks: Vec<Check>| {
            let mut column = match checks.is_empty() {
                true => Column::unavailable(name, "npm: not served"),
                false => column(name, checks),
            };
            column.release = Some(release.into());
            column.runtime = Some("Node.js 20.0.0".into());
            report.add_column(column).expect("a column");
        };
        let ok = |layer: &str| check(&format!("{layer}.subject.a"), layer, Verdict::Ok);
        add("node", "10.0.0", vec![ok("drift"), ok("vectors")]);
        add(
            "node",
            "11.0.0",
            vec![check("drift.subject.a", "drift", Verdict::Failed)],
        );
        add("node", "12.0.0", Vec::new());
        add("other", "10.0.0", vec![ok("vectors")]);
        add("other", "12.0.0", Vec::new());
        let headline = Headline {
            title: "Some matrix".into(),
            failed: false,
            word: "AS EXPECTED".into(),
            line: "5 cells".into(),
        };
        let page = page_by_setting(&report, &headline);
        assert!(page.contains("<title>Some matrix</title>"), "{page}");
        assert!(page.contains("AS EXPECTED</strong> 5 cells"), "{page}");
        let rows: Vec<Vec<&str>> = page
            .split("<tbody>")
            .skip(1)
            .map(|row| {
                let cells = row.split("<td class=\"").skip(1);
                cells.filter_map(|cell| cell.split('"').next()).collect()
            })
            .collect();
        assert_eq!(
            rows,
            [
                ["v-ok", "v-ok", "v-ok"],
                ["v-failed", "none", "none"],
                ["none", "none", "none"]
            ]
        );
        assert!(page.contains("node, 11.0.0 on Node.js 20.0.0, drift: 1 failed"));
        assert_eq!(page.matches("could not be run</span>").count(), 3);
        assert_eq!(page.matches("npm: not served").count(), 1);
        assert_eq!(read(&page)["terms"][0], "Part");
    }

    #[test]
    fn what_many_columns_share_stands_once() {
        let checks = |failing: usize| -> Vec<Check> {
            (0..6000)
                .map(|at| {
                    let failed = at < failing;
                    let verdict = if failed { Verdict::Failed } else { Verdict::Ok };
                    let mut check = check(&format!("mux.subject.case-{at}"), "mux", verdict);
                    check.clauses = vec!["MUX-1".into()];
                    check.op = Some("mux.decode".into());
                    if failed {
                        check.input = Some(json!({ "bytes": "00".repeat(100), "at": at }));
                    }
                    check
                })
                .collect()
        };
        let mut report = Report::empty();
        for at in 0..20 {
            let mut column = column("some", checks(100));
            column.release = Some(format!("11.{at}.0"));
            report.add_column(column).expect("another");
        }
        let page = page(&report);
        assert!(page.len() < 1_000_000, "{} bytes", page.len());
        let data = read(&page);
        assert_eq!(data["cases"].as_array().map(Vec::len), Some(6000));
        assert_eq!(data["details"].as_array().map(Vec::len), Some(100));
    }

    #[test]
    fn a_column_has_a_key_that_stays() {
        let named = |name: &str| column(name, Vec::new());
        let keys = keys(&[
            named("Some Thing"),
            named("some thing"),
            named("</>"),
            named(""),
        ]);
        assert_eq!(
            keys,
            ["some-thing-1.0.0", "some-thing-1.0.0-2", "1.0.0", "no-name"]
        );
    }

    #[test]
    fn fields_are_named_on_both_sides() {
        let mut bad = check("message.subject.a", "message", Verdict::Failed);
        bad.op = Some("message.encode".into());
        bad.input = Some(json!({ "message": "sync", "value": {} }));
        bad.differences = vec![crate::diff::Difference {
            path: "bytes".into(),
            expected: Some(json!("00010203")),
            actual: Some(json!("00fd010203")),
            first_byte: Some(1),
            field: Some("sync.fork".into()),
        }];
        let page = page(&Report::of(column("some", vec![bad])));
        let difference = &read(&page)["details"][0]["differences"][0];
        assert_eq!(difference["expectedFields"][1], json!([1, "sync.fork"]));
        assert_eq!(difference["actualFields"][1], json!([3, "sync.fork"]));
    }
}
