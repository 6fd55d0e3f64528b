//! The table and its output.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::growth::Curve;
use crate::picture;

/// The unit of a figure.
#[derive(Clone, Copy)]
pub enum Unit {
    /// Megabytes per second, of items of this many bytes.
    Bytes(usize),
    /// Items per second.
    PerSecond,
    /// Microseconds per item: less is better.
    Micros,
}

impl Unit {
    /// Converts from seconds per item.
    fn of(self, seconds: f64) -> String {
        match self {
            Self::Bytes(size) => format!("{} MB/s", grouped(size as f64 / seconds / 1e6)),
            Self::PerSecond => format!("{}/s", grouped(1.0 / seconds)),
            Self::Micros => format!("{:.1} µs", seconds * 1e6),
        }
    }
}

fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The results of one case: the seconds per item, by contestant and round.
pub struct Figure {
    pub name: String,
    pub unit: Unit,
    pub contestants: Vec<(&'static str, Vec<f64>)>,
}

impl Figure {
    pub fn new(
        name: &str,
        unit: Unit,
        contestants: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        let contestants = contestants.into_iter();
        Self {
            name: name.to_owned(),
            unit,
            contestants: contestants.map(|name| (name, Vec::new())).collect(),
        }
    }

    pub fn add(&mut self, contestant: usize, seconds: f64) {
        self.contestants[contestant].1.push(seconds);
    }

    fn times(&self, contestant: &str) -> Option<&[f64]> {
        let mut all = self.contestants.iter();
        all.find(|(name, _)| *name == contestant)
            .map(|(_, times)| &times[..])
    }

    /// How many times as fast one is as the other, in each round, sorted ascending.
    pub fn ratios(&self, one: &str, other: &str) -> Option<Vec<f64>> {
        let (one, other) = (self.times(one)?, self.times(other)?);
        let mut ratios: Vec<_> = one
            .iter()
            .zip(other)
            .map(|(one, other)| other / one)
            .collect();
        ratios.sort_by(f64::total_cmp);
        Some(ratios)
    }
}

pub fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

/// The goals: the case, whose speed, relative to whose, and the ratio.
const GOALS: [(&str, &str, &str, f64); 25] = [
    ("64 KiB messages, end to end", "ours", "node", 1.15),
    (
        "64 KiB messages, end to end",
        "ours",
        "our push and pull",
        0.9,
    ),
    ("64 KiB messages, end to end", "ours, driven", "node", 1.15),
    ("1 KiB messages one by one, end to end", "ours", "node", 3.0),
    (
        "1 KiB messages one by one, end to end",
        "ours, driven",
        "node",
        3.0,
    ),
    (
        "1 KiB messages in batches of 32, end to end",
        "ours",
        "node",
        1.3,
    ),
    (
        "1 KiB messages in batches of 32, end to end",
        "ours, driven",
        "node",
        1.3,
    ),
    (
        "handshake and channel open, both ends",
        "ours",
        "the curve's part",
        0.85,
    ),
    ("handshake and channel open, both ends", "ours", "node", 2.0),
    (
        "handshake and channel open, both ends",
        "ours",
        "datrs",
        1.3,
    ),
    ("push of 64 KiB", "ours", "crypto_secretstream", 1.0),
    ("push of 1 KiB", "ours", "crypto_secretstream", 1.0),
    ("push of 64 bytes", "ours", "crypto_secretstream", 1.0),
    ("encode and decode: range", "ours", "node", 10.0),
    ("encode and decode: request", "ours", "node", 10.0),
    ("encode and decode: block of 1 KiB", "ours", "node", 10.0),
    (
        "encode and decode: block with a proof of 17 nodes",
        "ours",
        "node",
        10.0,
    ),
    ("encode and decode: range", "ours", "hypercore_schema", 3.0),
    (
        "encode and decode: request",
        "ours",
        "hypercore_schema",
        3.0,
    ),
    (
        "encode and decode: block of 1 KiB",
        "ours",
        "hypercore_schema",
        3.0,
    ),
    (
        "encode and decode: block with a proof of 17 nodes",
        "ours",
        "hypercore_schema",
        3.0,
    ),
    (
        "64 KiB over loopback TCP between two processes",
        "ours",
        "node",
        1.3,
    ),
    (
        "64 KiB over loopback TCP, running time of both",
        "ours",
        "node",
        1.3,
    ),
    (
        "64 bytes there and back over loopback TCP, median",
        "ours",
        "node",
        1.25,
    ),
    (
        "64 bytes there and back over loopback TCP, 99th percentile",
        "ours",
        "node",
        1.25,
    ),
];

pub fn markdown(figures: &[Figure], rounds: usize) -> String {
    let mut out = String::new();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<_> = load.split(' ').take(1).collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let _ = writeln!(
        out,
        "{rounds} rounds on {cores} cores; the system's load was {} at the end.\n",
        load.concat()
    );
    out.push_str("| goal | wanted | median | least | |\n|---|--:|--:|--:|---|\n");
    for (case, one, other, wanted) in GOALS {
        let Some(figure) = figures.iter().find(|figure| figure.name == case) else {
            continue;
        };
        let Some(ratios) = figure.ratios(one, other) else {
            continue;
        };
        let met = if median(&ratios) >= wanted {
            "met"
        } else {
            "**missed**"
        };
        let _ = writeln!(
            out,
            "| {case}: {one} to {other} | {wanted} | {:.2} | {:.2} | {met} |",
            median(&ratios),
            ratios[0]
        );
    }
    out.push_str(
        "\n| | | median | best | ours to it: median | least |\n|---|---|--:|--:|--:|--:|\n",
    );
    for figure in figures {
        for (at, (name, times)) in figure.contestants.iter().enumerate() {
            let mut sorted = times.clone();
            sorted.sort_by(f64::total_cmp);
            let title = if at == 0 { figure.name.as_str() } else { "" };
            let (middle, best) = (median(&sorted), sorted[0]);
            let ratio = match figure.ratios("ours", name) {
                Some(ratios) if *name != "ours" => {
                    format!("{:.2} | {:.2}", median(&ratios), ratios[0])
                }
                _ => " | ".to_owned(),
            };
            let (middle, best) = (figure.unit.of(middle), figure.unit.of(best));
            let _ = writeln!(out, "| {title} | {name} | {middle} | {best} | {ratio} |");
        }
    }
    out
}

pub fn growth(curves: &[Curve]) -> String {
    let mut out = String::from("| | | | | | |\n|---|--:|--:|--:|--:|--:|\n");
    for curve in curves {
        let mut line = format!("| {} |", curve.name);
        for (x, y) in &curve.points {
            let _ = write!(line, " {}: {} |", grouped(*x), curve.unit.of(*y));
        }
        let _ = writeln!(out, "{line}");
    }
    out
}

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/performance");
    std::fs::create_dir_all(&folder).expect("can be made");
    folder
}

pub fn write(report: &str, figures: &[Figure]) {
    let head = "<!-- Written by benches/compare. -->\n\n# Measured side by side\n\n";
    let tail = "\n![each speed as a share of ours](compare.svg)\n";
    std::fs::write(folder().join("compare.md"), format!("{head}{report}{tail}"))
        .expect("is written");
    std::fs::write(folder().join("compare.svg"), picture::bars(figures)).expect("is written");
}

pub fn write_growth(report: &str, curves: &[Curve]) {
    let head = "<!-- Written by benches/compare. -->\n\n# How costs grow\n\nWhat one item costs, by how many there are.\n\n";
    let tail = "\n![what one item costs, by how many there are](growth.svg)\n";
    std::fs::write(folder().join("growth.md"), format!("{head}{report}{tail}"))
        .expect("is written");
    std::fs::write(folder().join("growth.svg"), picture::curves(curves)).expect("is written");
}
