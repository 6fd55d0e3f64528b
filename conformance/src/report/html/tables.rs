//! The matrix of a report as a table, in one of three layouts.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::super::model::{Column, Report};
use super::{Counts, VERDICTS, count, encode, escape, fails, in_words, name_of, place};
use crate::run::rank;

/// The order of verdicts in a table of one column, and whether an empty one is left out.
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

/// The verdicts of each layer and column.
pub(super) struct Matrix {
    layers: Vec<String>,
    cells: HashMap<(usize, String), Counts>,
    totals: Vec<Counts>,
}

impl Matrix {
    pub(super) fn of(report: &Report) -> Self {
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

fn caption(out: &mut String, text: &str) {
    let _ = write!(
        out,
        "<section class=\"matrix\">\n<h2 id=\"matrix-title\">{text}</h2>\n\
         <div class=\"scroll\" role=\"region\" aria-labelledby=\"matrix-title\" tabindex=\"0\">\n<table id=\"matrix\">\n"
    );
}

/// One column: a row per layer and a column per verdict, as on the terminal.
pub(super) fn single(out: &mut String, matrix: &Matrix, key: &str) {
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
    out.push_str("</table>\n</div>\n</section>\n");
}

/// Several columns: a row per layer, a column per implementation in one setting.
pub(super) fn table(out: &mut String, columns: &[Column], matrix: &Matrix, keys: &[String]) {
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
            // Neighbours share a heading if they share all headings above; the last row has one for each.
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

/// The distinct values, in order.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

/// Many settings: a row per release on a runtime, a column per layer of an implementation.
pub(super) fn by_setting(out: &mut String, columns: &[Column], matrix: &Matrix, keys: &[String]) {
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
    // For each implementation, the layers that were checked anywhere.
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

/// One cell: its worst verdict with the count, and a link to the checks.
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
