//! Reports as one page that needs nothing else: no network, no other file, no framework.
//!
//! The matrix is written here, so that it can be read without scripts; `assets/report.js` shows the checks behind a cell.
//! What the script reads is one JSON object in which whatever many columns share stands once, and of a check that passed
//! only its verdict, one character. A policy in the page forbids all that is not in it.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use base64::Engine as _;
use indicatif::HumanCount;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::model::{Column, Report};
use crate::diff::bytes_of;
use crate::fields;
use crate::runner::{Check, Kind, rank};
use crate::spec::Specification;

const STYLE: &str = include_str!("../../assets/report.css");
const SCRIPT: &str = include_str!("../../assets/report.js");
const SPECIFICATION: &str = include_str!("../../../vectors/SPECIFICATION.md");

/// Of longer byte strings the fields are not named.
const NAMED_BYTES: usize = 256;

/// The verdicts from the worst to the best, each with its sign and what its column of the table is called.
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

/// The order in which a table of one column counts verdicts, and whether one that nothing got is left out.
const COUNTED: [(&str, bool); 8] = [
    ("ok", false),
    ("non-strict", false),
    ("informational", true),
    ("failed", false),
    ("unexpected-pass", true),
    ("expected-failure", true),
    ("flaky", true),
    ("unsupported", false),
];

/// What stands of a check in the list of cases, or in the matrix, and not among its details.
const SHARED: [&str; 11] = [
    "kind", "id", "layer", "subject", "comment", "clauses", "flags", "op", "verdict", "seconds",
    "rerun",
];

/// How a report of many settings is told: what it is called, how it came out, in a word, and in a line.
#[derive(Clone, Debug)]
pub(crate) struct Headline {
    pub(crate) title: String,
    pub(crate) failed: bool,
    pub(crate) word: String,
    pub(crate) line: String,
}

/// What the script calls things, in this order: a layer, all of them, all columns, and those that are not shown.
const TERMS: [&str; 4] = ["Layer", "all layers", "all columns", "other columns"];

/// The same where rows are settings.
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

/// The page of a report of many settings, such as releases: a row for each of them, and beside each other what each
/// implementation came to in each layer.
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
        (Some(_), columns) => by_setting(&mut out, columns, &matrix, &keys),
        (None, [only]) => single(&mut out, only, &matrix, &keys[0]),
        (None, columns) => table(&mut out, columns, &matrix, &keys),
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
        embed(&data(report, &keys, headline.map_or(TERMS, |_| PART_TERMS))),
    );
    out
}

/// Text that is no markup, in content and in attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Not allowed in HTML, whatever they are written as.
            '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\x7f' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// JSON that cannot end the element it stands in.
fn embed(value: &Value) -> String {
    value
        .to_string()
        .replace('<', "\\u003c")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

/// The name of a script or style in a policy.
fn digest(text: &str) -> String {
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!("sha256-{hash}")
}

fn count(count: usize) -> String {
    HumanCount(count as u64).to_string()
}

/// A part of an address: what is no letter, digit, dot or hyphen is percent-encoded, as `encodeURIComponent` reads it.
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

/// Keys by which links name the columns: made of what they are, so that they stay when others are added.
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

/// The verdicts of each layer and column.
struct Matrix {
    layers: Vec<String>,
    cells: HashMap<(usize, String), Counts>,
    totals: Vec<Counts>,
}

impl Matrix {
    fn of(report: &Report) -> Self {
        let mut cells: HashMap<(usize, String), Counts> = HashMap::new();
        let mut totals = vec![Counts::default(); report.columns.len()];
        let mut layers: Vec<String> = Vec::new();
        for (at, column) in report.columns.iter().enumerate() {
            for check in &column.checks {
                let place = place(&name_of(check));
                cells.entry((at, check.layer.clone())).or_default()[place] += 1;
                totals[at][place] += 1;
                if !layers.contains(&check.layer) {
                    layers.push(check.layer.clone());
                }
            }
        }
        layers.sort_by_key(|layer| rank(layer));
        Self {
            layers,
            cells,
            totals,
        }
    }

    fn counts(&self, column: usize, layer: &str) -> Counts {
        let cell = self.cells.get(&(column, layer.to_owned()));
        cell.copied().unwrap_or_default()
    }
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

/// The line by which it stands or falls, in markup.
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

/// The lines that sum it up: of one column as on the terminal.
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

/// What was left out and what could not be run, each reason once.
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

/// The title as the terminal has it.
fn title_of(column: &Column) -> String {
    let own = &column.implementation;
    match own.language.as_str() {
        "" => column.title(),
        language => format!("{} ({language})", column.title()),
    }
}

fn caption(out: &mut String, text: &str) {
    let _ = write!(
        out,
        "<section class=\"matrix\">\n<h2 id=\"matrix-title\">{text}</h2>\n\
         <div class=\"scroll\" role=\"region\" aria-labelledby=\"matrix-title\" tabindex=\"0\">\n<table id=\"matrix\">\n"
    );
}

/// One column: a row a layer and a column a verdict, as on the terminal.
fn single(out: &mut String, column: &Column, matrix: &Matrix, key: &str) {
    caption(out, "Verdicts by layer");
    let total = matrix.totals[0];
    let shown: Vec<(usize, &str)> = COUNTED
        .iter()
        .map(|&(name, optional)| (place(name), optional))
        .filter(|&(at, optional)| !optional || total[at] > 0)
        .map(|(at, _)| (at, VERDICTS[at].2))
        .collect();
    out.push_str("<thead><tr><th scope=\"col\">Layer</th><th scope=\"col\">checks</th>");
    for (_, word) in &shown {
        let _ = write!(out, "<th scope=\"col\">{word}</th>");
    }
    out.push_str("</tr></thead>\n");
    let mut row = |name: &str, counts: &Counts, href: &str, layer: Option<&str>| {
        let attribute = match layer {
            Some(layer) => format!(" data-layer=\"{}\"", escape(layer)),
            None => String::new(),
        };
        let _ = write!(
            out,
            "<tbody{attribute}><tr><th scope=\"row\">{}</th><td><a href=\"#{href}\"><span class=\"sr\">{}, all: </span>{}</a></td>",
            escape(name),
            escape(name),
            count(counts.iter().sum())
        );
        for &(at, word) in &shown {
            if counts[at] == 0 {
                out.push_str("<td class=\"none\"><span aria-hidden=\"true\">·</span><span class=\"sr\">0</span></td>");
                continue;
            }
            let (verdict, sign, _) = VERDICTS[at];
            let _ = write!(
                out,
                "<td class=\"v-{verdict}\"><a href=\"#{href}?verdict={verdict}\"><span class=\"sr\">{}, {word}: </span>\
                 <span class=\"sign\" aria-hidden=\"true\">{sign}</span> {}</a></td>",
                escape(name),
                count(counts[at])
            );
        }
        out.push_str("</tr></tbody>\n");
    };
    for layer in &matrix.layers {
        let href = format!("{key}/{}", encode(layer));
        row(layer, &matrix.counts(0, layer), &href, Some(layer));
    }
    if matrix.layers.len() > 1 {
        row("total", &total, key, None);
    }
    let _ = column;
    out.push_str("</table>\n</div>\n</section>\n");
}

/// Several columns: a row a layer, a column an implementation in one setting.
fn table(out: &mut String, columns: &[Column], matrix: &Matrix, keys: &[String]) {
    caption(out, "Implementations by layer");
    type Part = fn(&Column) -> Option<String>;
    let name: Part = |own| Some(own.implementation.name.clone());
    let version: Part =
        |own| Some(own.implementation.version.clone()).filter(|word| !word.is_empty());
    let parts: [(&str, Part); 7] = [
        ("Run", |own| own.label.clone()),
        ("Implementation", name),
        ("Version", version),
        ("Release", |own| own.release.clone()),
        ("Runtime", |own| own.runtime.clone()),
        ("Role", |own| own.role.clone()),
        ("Peer", |own| own.peer.clone()),
    ];
    let rows: Vec<(&str, Vec<String>)> = parts
        .into_iter()
        .map(|(name, part)| (name, columns.iter().map(part).collect::<Vec<_>>()))
        .filter(|(_, words)| words.iter().any(Option::is_some))
        .map(|(name, words)| {
            (
                name,
                words.into_iter().map(Option::unwrap_or_default).collect(),
            )
        })
        .collect();
    out.push_str("<thead>\n");
    let groups = rows.len().saturating_sub(1);
    for (at, (name, words)) in rows.iter().enumerate() {
        let _ = write!(out, "<tr><th scope=\"row\">{name}</th>");
        let last = at == groups;
        let mut from = 0;
        while from < words.len() {
            // Neighbours share a heading as far as all the headings above are shared; the last row has one for each.
            let same = |to: &usize| rows[..=at].iter().all(|(_, row)| row[*to] == row[from]);
            let span = if last {
                1
            } else {
                (from..words.len()).take_while(same).count()
            };
            let (scope, colspan) = match span {
                1 => ("col", String::new()),
                _ => ("colgroup", format!(" colspan=\"{span}\"")),
            };
            let _ = write!(out, "<th scope=\"{scope}\"{colspan}>");
            let word = escape(&words[from]);
            if last {
                let word = if word.is_empty() { "–".into() } else { word };
                let _ = write!(
                    out,
                    "<a href=\"#{}\"><span class=\"sr\">{}: </span>{word}</a>",
                    keys[from],
                    escape(&columns[from].title())
                );
            } else {
                out.push_str(&word);
            }
            out.push_str("</th>");
            from += span;
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</thead>\n");
    let total: Vec<Counts> = matrix.totals.clone();
    let gates = |at: usize| {
        let required = columns[at].required.as_ref();
        required.is_none_or(|list| !list.is_empty())
    };
    out.push_str("<tbody class=\"total\"><tr><th scope=\"row\"><a href=\"#\">all layers</a></th>");
    for (at, counts) in total.iter().enumerate() {
        let absent = columns[at].unavailable.is_some();
        cell(out, "all layers", counts, &keys[at], gates(at), absent);
    }
    out.push_str("</tr></tbody>\n");
    for layer in &matrix.layers {
        let _ = write!(
            out,
            "<tbody data-layer=\"{0}\"><tr><th scope=\"row\"><a href=\"#/{1}\">{0}</a></th>",
            escape(layer),
            encode(layer)
        );
        for (at, column) in columns.iter().enumerate() {
            let counts = matrix.counts(at, layer);
            let href = format!("{}/{}", keys[at], encode(layer));
            let absent = column.unavailable.is_some();
            cell(out, layer, &counts, &href, gates_in(column, layer), absent);
        }
        out.push_str("</tr></tbody>\n");
    }
    out.push_str("</table>\n</div>\n</section>\n");
}

/// Whether anything in a layer gates.
fn gates_in(column: &Column, layer: &str) -> bool {
    column.required.as_ref().is_none_or(|required| {
        let under = |wanted: &String| wanted.split('/').next() == Some(layer);
        required.iter().any(under)
    })
}

/// Each value once, in the order in which they come.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

/// Many settings: a row a release on a runtime, a column a layer of an implementation.
fn by_setting(out: &mut String, columns: &[Column], matrix: &Matrix, keys: &[String]) {
    let name = |at: usize| columns[at].implementation.name.as_str();
    let setting = |at: usize| {
        let own = &columns[at];
        let word = |word: &Option<String>| word.clone().unwrap_or_default();
        (word(&own.release), word(&own.runtime))
    };
    let all = || 0..columns.len();
    let names = distinct(all().map(name));
    let settings = distinct(all().map(setting));
    // In the order in which they were checked, which is that of the columns.
    let checks = columns.iter().flat_map(|own| &own.checks);
    let order = distinct(checks.map(|check| &check.layer));
    // Of each implementation the layers in which it was checked anywhere.
    let checked = |owner: &str, layer: &str| {
        let counts = |at: usize| matrix.counts(at, layer).iter().sum::<usize>();
        all().any(|at| name(at) == owner && counts(at) > 0)
    };
    let groups: Vec<(&str, Vec<&String>)> = names
        .iter()
        .map(|owner| {
            let layers = order.iter().copied();
            let layers = layers.filter(|layer| checked(owner, layer));
            (*owner, layers.collect())
        })
        .filter(|(_, layers): &(&str, Vec<&String>)| !layers.is_empty())
        .collect();
    caption(out, "Releases");
    out.push_str("<thead>\n<tr><th scope=\"col\" rowspan=\"2\">Release</th><th scope=\"col\" rowspan=\"2\" class=\"second\">Runtime</th>");
    for (owner, layers) in &groups {
        let _ = write!(
            out,
            "<th scope=\"colgroup\" colspan=\"{}\">{}</th>",
            layers.len(),
            escape(owner)
        );
    }
    out.push_str("</tr>\n<tr>");
    for (owner, layers) in &groups {
        for (at, layer) in layers.iter().enumerate() {
            let class = if at == 0 { " class=\"edge\"" } else { "" };
            let _ = write!(
                out,
                "<th scope=\"col\"{class}><a href=\"#/{}\"><span class=\"sr\">{}: </span>{}</a></th>",
                encode(layer),
                escape(owner),
                escape(layer)
            );
        }
    }
    out.push_str("</tr>\n</thead>\n");
    let mut left = settings.as_slice();
    while let Some((release, _)) = left.first() {
        let span = left
            .iter()
            .take_while(|(other, _)| other == release)
            .count();
        let (own, rest) = left.split_at(span);
        left = rest;
        out.push_str("<tbody>");
        for (row, setting_of_row) in own.iter().enumerate() {
            out.push_str("<tr>");
            if row == 0 {
                let _ = write!(
                    out,
                    "<th scope=\"rowgroup\" rowspan=\"{span}\">{}</th>",
                    escape(release)
                );
            }
            let runtime = &setting_of_row.1;
            let _ = write!(
                out,
                "<th scope=\"row\" class=\"second\">{}</th>",
                escape(runtime)
            );
            for (owner, layers) in &groups {
                let place = all().find(|&at| name(at) == *owner && setting(at) == *setting_of_row);
                for layer in layers {
                    let Some(at) = place else {
                        cell(out, layer, &Counts::default(), "", true, false);
                        continue;
                    };
                    let (column, counts) = (&columns[at], matrix.counts(at, layer));
                    let href = format!("{}/{}", keys[at], encode(layer));
                    let words = format!("{owner}, {release} on {runtime}, {layer}");
                    let absent = column.unavailable.is_some();
                    cell(out, &words, &counts, &href, gates_in(column, layer), absent);
                }
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody>\n");
    }
    out.push_str("</table>\n</div>\n</section>\n");
}

/// One cell: its worst verdict and how often, and a link to what is behind it.
fn cell(out: &mut String, row: &str, counts: &Counts, href: &str, gates: bool, absent: bool) {
    let total: usize = counts.iter().sum();
    if total == 0 {
        let (sign, words) = match absent {
            true => ("∅", "could not be run"),
            false => ("", "no checks"),
        };
        let _ = write!(
            out,
            "<td class=\"none\"><span aria-hidden=\"true\">{sign}</span><span class=\"sr\">{words}</span></td>"
        );
        return;
    }
    let ok = counts[place("ok")];
    let unsupported = counts[place("unsupported")];
    let (shown, more) = if fails(counts) {
        let worst = (0..counts.len()).find(|&at| counts[at] > 0).unwrap_or(0);
        (worst, format!("/{}", count(total)))
    } else if unsupported == total {
        (place("unsupported"), String::new())
    } else {
        let small = VERDICTS
            .iter()
            .zip(counts)
            .filter(|((name, ..), number)| **number > 0 && *name != "ok");
        let small: Vec<String> = small
            .map(|((_, sign, _), number)| format!("{sign}{}", count(*number)))
            .collect();
        let shown = if ok > 0 {
            place("ok")
        } else {
            (0..counts.len()).find(|&at| counts[at] > 0).unwrap_or(0)
        };
        (
            shown,
            if ok > 0 {
                small.join(" ")
            } else {
                String::new()
            },
        )
    };
    let (verdict, sign, _) = VERDICTS[shown];
    let observed = if gates { "" } else { " observed" };
    let said = if gates { "" } else { ", observed only" };
    let _ = write!(
        out,
        "<td class=\"v-{verdict}{observed}\"><a href=\"#{href}\"><span aria-hidden=\"true\"><span class=\"sign\">{sign}</span> {}<small>{more}</small></span>\
         <span class=\"sr\">{}: {}{said}</span></a></td>",
        count(counts[shown]),
        escape(row),
        in_words(counts)
    );
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

/// What each column is.
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

/// A list in which each value stands once.
#[derive(Default)]
struct Interned {
    values: Vec<Value>,
    places: HashMap<String, usize>,
}

impl Interned {
    fn place(&mut self, value: Value) -> usize {
        let next = self.values.len();
        match self.places.entry(value.to_string()) {
            std::collections::hash_map::Entry::Occupied(entry) => *entry.get(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(next);
                self.values.push(value);
                next
            }
        }
    }
}

/// All that the script reads.
fn data(report: &Report, keys: &[String], terms: [&str; 4]) -> Value {
    let spec = Specification::parse(SPECIFICATION.to_owned()).ok();
    let mut subjects = Interned::default();
    let mut clauses = Interned::default();
    let mut words = Interned::default();
    let mut details = Interned::default();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut cases: Vec<Value> = Vec::new();
    let mut ordered: Vec<&Check> = Vec::new();
    for check in report.columns.iter().flat_map(|own| &own.checks) {
        if let std::collections::hash_map::Entry::Vacant(entry) = places.entry(&check.id) {
            entry.insert(0);
            ordered.push(check);
        }
    }
    ordered.sort_by_key(|check| rank(&check.layer));
    for (at, check) in ordered.iter().enumerate() {
        places.insert(&check.id, at);
        let named: Vec<usize> = check
            .clauses
            .iter()
            .map(|id| {
                let title = spec.as_ref().and_then(|spec| spec.clause(id));
                clauses.place(json!([id, title.map(|clause| &clause.title)]))
            })
            .collect();
        let flags: Vec<usize> = check
            .flags
            .iter()
            .map(|flag| words.place(json!(flag)))
            .collect();
        let op = check.op.as_ref().map(|op| words.place(json!(op)));
        let subject = subjects.place(json!([check.layer, check.subject]));
        // Most ids begin with their layer and subject, which stand elsewhere already.
        let prefix = format!("{}.{}.", check.layer, check.subject);
        let id = match check.id.strip_prefix(&prefix) {
            Some(rest) if !rest.is_empty() => format!("~{rest}"),
            _ => format!("={}", check.id),
        };
        cases.push(json!([subject, id, check.comment, named, flags, op]));
    }
    let columns: Vec<Value> = report
        .columns
        .iter()
        .zip(keys)
        .map(|(column, key)| {
            let mut verdicts = vec![b'.'; cases.len()];
            let mut shown: Vec<Value> = Vec::new();
            let rerun = rerun_of(&column.checks);
            for check in &column.checks {
                let Some(&at) = places.get(check.id.as_str()) else {
                    continue;
                };
                let verdict = name_of(check);
                verdicts[at] = b'0' + u8::try_from(place(&verdict)).unwrap_or_default();
                if verdict == "ok" {
                    continue;
                }
                let own = match (&check.rerun, rerun) {
                    (Some(line), Some((before, after)))
                        if *line == format!("{before}{}{after}", check.id) =>
                    {
                        json!(1)
                    }
                    (Some(line), _) => json!(line),
                    (None, _) => json!(0),
                };
                let milliseconds = (check.duration.as_secs_f64() * 1e4).round() / 10.0;
                let detail = details.place(detail(check));
                shown.push(json!([at, detail, milliseconds, own]));
            }
            json!({
                "key": key,
                "title": column.title(),
                "verdicts": String::from_utf8_lossy(&verdicts),
                "shown": shown,
                "rerun": rerun,
                "required": column.required,
                "absent": column.unavailable.is_some(),
            })
        })
        .collect();
    json!({
        "terms": terms,
        "verdicts": VERDICTS.map(|(name, sign, word)| json!([name, sign, word])),
        "columns": columns,
        "subjects": subjects.values,
        "clauses": clauses.values,
        "words": words.values,
        "cases": cases,
        "details": details.values,
    })
}

/// What stands before and after the id in the lines that run checks again.
fn rerun_of(checks: &[Check]) -> Option<(&str, &str)> {
    checks.iter().find_map(|check| {
        let (before, after) = check.rerun.as_deref()?.rsplit_once("--id ")?;
        let after = after.strip_prefix(check.id.as_str())?;
        Some((
            &check.rerun.as_deref()?[..before.len() + "--id ".len()],
            after,
        ))
    })
}

/// What there is to say of a check that did not simply pass, with the fields of its bytes named.
fn detail(check: &Check) -> Value {
    let mut detail = match serde_json::to_value(check) {
        Ok(Value::Object(detail)) => detail,
        _ => Map::new(),
    };
    detail.retain(|name, value| {
        let empty = match &*value {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        !empty && !SHARED.contains(&name.as_str())
    });
    let (Some(op), Some(input)) = (&check.op, &check.input) else {
        return Value::Object(detail);
    };
    let named = |path: &str, bytes: &Option<Value>| -> Option<Value> {
        let bytes = bytes.as_ref().and_then(bytes_of)?;
        if bytes.len() > NAMED_BYTES {
            return None;
        }
        let fields = fields::map(op, input, path, &bytes);
        (!fields.is_empty()).then(|| json!(fields))
    };
    for (at, difference) in check.differences.iter().enumerate() {
        if difference.first_byte.is_none() {
            continue;
        }
        let sides = [
            ("expectedFields", &difference.expected),
            ("actualFields", &difference.actual),
        ];
        for (name, bytes) in sides {
            if let Some(fields) = named(&difference.path, bytes) {
                detail["differences"][at][name] = fields;
            }
        }
    }
    if let Some(fields) = named("bytes", &input.get("bytes").cloned()) {
        detail.insert("inputFields".into(), fields);
    }
    Value::Object(detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::Hello;
    use crate::report::Rerun;
    use crate::runner::Run;
    use crate::verdict::Verdict;

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
        // As `openssl dgst -sha256 -binary | base64` has it.
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
