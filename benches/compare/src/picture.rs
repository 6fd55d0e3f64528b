//! Charts as SVG, in the reader's colour scheme.

use std::fmt::Write;

use crate::growth::Curve;
use crate::report::{Figure, median};

const STYLE: &str = "<style>text{font:13px sans-serif;fill:#333}.small{font-size:11px}.ours{fill:#2a7ab8}.other{fill:#b9b9b9}\
.axis{stroke:#999;stroke-width:1}.line{fill:none;stroke:#2a7ab8;stroke-width:2}\
@media(prefers-color-scheme:dark){text{fill:#ddd}.other{fill:#666}}</style>";

fn open(width: usize, height: usize) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">{STYLE}\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// A bar for each contestant: its speed as a share of ours, the median of the rounds. Bars beyond twice ours are cut.
pub fn bars(figures: &[Figure]) -> String {
    const LEFT: usize = 270;
    const UNIT: f64 = 250.0;
    let rows: usize = figures
        .iter()
        .map(|figure| figure.contestants.len() + 2)
        .sum();
    let mut out = open(900, 18 * rows + 40);
    let mut y = 20;
    for figure in figures {
        let _ = writeln!(
            out,
            "<text x=\"8\" y=\"{y}\" font-weight=\"bold\">{}</text>",
            escaped(&figure.name)
        );
        y += 18;
        for (name, _) in &figure.contestants {
            let share = figure
                .ratios(name, "ours")
                .map_or(0.0, |ratios| median(&ratios));
            let class = if name.starts_with("our") {
                "ours"
            } else {
                "other"
            };
            let width = UNIT * share.min(2.2);
            let _ = writeln!(
                out,
                "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{}</text><rect class=\"{class}\" x=\"{LEFT}\" y=\"{}\" width=\"{width:.1}\" height=\"13\"/><text class=\"small\" x=\"{:.1}\" y=\"{y}\">{share:.2}</text>",
                LEFT - 8,
                escaped(name),
                y - 11,
                LEFT as f64 + width + 6.0,
            );
            y += 18;
        }
        y += 18;
    }
    out.push_str("</svg>\n");
    out
}

/// A small chart for each curve: the cost of an item, from zero, against the number of items, on a logarithmic scale.
pub fn curves(curves: &[Curve]) -> String {
    const WIDTH: usize = 440;
    const HEIGHT: usize = 190;
    let rows = curves.len().div_ceil(2);
    let mut out = open(2 * WIDTH, rows * HEIGHT);
    for (at, curve) in curves.iter().enumerate() {
        let (left, top) = ((at % 2 * WIDTH) as f64, (at / 2 * HEIGHT) as f64);
        let highest = curve.points.iter().map(|(_, y)| *y).fold(0.0, f64::max);
        let place = |at: usize, y: f64| {
            let x = left + 60.0 + 80.0 * at as f64;
            (x, top + 150.0 - 90.0 * y / highest.max(f64::MIN_POSITIVE))
        };
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" font-weight=\"bold\">{}</text><path class=\"axis\" d=\"M{} {}h370\"/>",
            left + 20.0,
            top + 24.0,
            escaped(curve.name),
            left + 40.0,
            top + 150.0
        );
        let mut path = String::new();
        for (at, (count, each)) in curve.points.iter().enumerate() {
            let (x, y) = place(at, *each);
            let _ = write!(path, "{}{x:.1} {y:.1}", if at == 0 { "M" } else { "L" });
            let _ = writeln!(
                out,
                "<circle class=\"ours\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/><text class=\"small\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{}</text><text class=\"small\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{count}</text>",
                y - 8.0,
                curve.unit.of(*each),
                top + 166.0
            );
        }
        let _ = writeln!(out, "<path class=\"line\" d=\"{path}\"/>");
    }
    out.push_str("</svg>\n");
    out
}
