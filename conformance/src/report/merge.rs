//! The command `merge`: any number of JSON reports become one, and one page.

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::HumanCount;

use crate::report::OfMany;
use crate::report::files::{FilesError, ReportFiles};
use crate::report::model::{Column, Report, ReportError};
use crate::run::verdict::Verdict;
use crate::term::Paint;

/// What is to be merged, and into what.
#[derive(Args, Debug)]
pub struct MergeArguments {
    /// JSON reports of `run`, `check`, `matrix` or `merge`; NAME= tells apart two of the same implementation and setting
    #[arg(required = true, value_name = "[NAME=]REPORT.json")]
    reports: Vec<String>,
    #[command(flatten)]
    files: ReportFiles<OfMany>,
}

/// Why reports could not be merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] FilesError),
    /// A file cannot be read.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        reason: std::io::Error,
    },
    /// A file is not a report, or does not fit the others.
    #[error("{}: {reason}", path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// The fault.
        reason: ReportError,
    },
}

/// Merges, writes the requested files, and returns the merged report.
///
/// # Errors
/// If a report cannot be read or does not fit the others, or a file cannot be written.
pub fn merge(arguments: &MergeArguments) -> Result<Report, MergeError> {
    let files = arguments.files.open().map_err(FilesError::from)?;
    let mut merged = Report::empty();
    for (at, argument) in arguments.reports.iter().enumerate() {
        let (name, path) = split(argument);
        let text = std::fs::read_to_string(path).map_err(|reason| MergeError::File {
            path: path.to_owned(),
            reason,
        })?;
        let fault = |reason| MergeError::Report {
            path: path.to_owned(),
            reason,
        };
        let mut report = Report::read(&text).map_err(fault)?;
        if let Some(name) = name {
            for column in &mut report.columns {
                column.label = Some(name.to_owned());
            }
        }
        if at == 0 {
            merged.suite = report.suite.clone();
        }
        merged.add(report).map_err(fault)?;
    }
    files.write(&merged)?;
    Ok(merged)
}

/// The merged report as text: a line per column.
pub fn summary(report: &Report, paint: &Paint) -> String {
    let mut out = String::new();
    for column in &report.columns {
        let (word, style) = match (column.has_regressed(), column.unavailable.is_some()) {
            (true, _) => ("FAILED", &paint.bad),
            (false, true) => ("ABSENT", &paint.doubtful),
            (false, false) if fails(column) => ("RED   ", &paint.doubtful),
            (false, false) => ("PASSED", &paint.good),
        };
        out += &format!("{} {}: ", style.apply_to(word), column.title());
        out += &match &column.unavailable {
            Some(reason) => format!("{}\n", reason.lines().next().unwrap_or_default()),
            None => format!("{}\n", counts(column)),
        };
        for what in &column.left_out {
            out += &format!("       {} {what}\n", paint.doubtful.apply_to("left out:"));
        }
    }
    out
}

/// Whether anything failed, even if only observed.
fn fails(column: &Column) -> bool {
    let mut checks = column.checks.iter();
    checks.any(|check| check.verdict.fails_the_run())
}

fn counts(column: &Column) -> String {
    let checks = HumanCount(column.checks.len() as u64);
    let counted = Verdict::ALL
        .into_iter()
        .map(|verdict| (column.verdicts.count(verdict), verdict))
        .filter(|(count, _)| *count > 0);
    counted.fold(format!("{checks} checks"), |line, (count, verdict)| {
        format!("{line}, {} {verdict}", HumanCount(count as u64))
    })
}

/// The name and the path of `NAME=PATH`; the path of an existing file may contain an equals sign.
fn split(argument: &str) -> (Option<&str>, &Path) {
    let whole = Path::new(argument);
    match argument.split_once('=') {
        Some((name, path)) if !name.is_empty() && !whole.exists() => (Some(name), Path::new(path)),
        _ => (None, whole),
    }
}
