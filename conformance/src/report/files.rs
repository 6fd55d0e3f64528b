//! The output files of reports: a command line option for each format.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};

use crate::out::{ReportFile, WriteError};

/// An output format of a report `R`.
#[derive(Clone, Copy, Debug)]
pub struct Format<R: 'static> {
    /// The name of the option: `html`, as in `--html FILE`.
    pub name: &'static str,
    /// The option's help text.
    pub help: &'static str,
    /// Formats the report.
    pub text: fn(&R) -> Result<String, String>,
}

/// The formats of one kind of report.
pub trait Formats: 'static {
    /// The report.
    type Report: 'static;
    /// The formats, in the order of their options.
    const FORMATS: &'static [Format<Self::Report>];
    /// Options that cannot be given with any of them.
    const APART_FROM: &'static [&'static str] = &[];
}

/// Why a report was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The report cannot be written in this format.
    #[error("{0}")]
    Text(String),
}

/// The requested files, by format.
pub struct ReportFiles<F> {
    paths: Vec<Option<PathBuf>>,
    formats: PhantomData<fn() -> F>,
}

impl<F: Formats> ReportFiles<F> {
    /// Opens all files, whose contents stay until something is written.
    ///
    /// # Errors
    /// If one cannot be opened for writing.
    pub fn open(&self) -> Result<OpenFiles<F>, WriteError> {
        let mut files = Vec::new();
        for (format, path) in F::FORMATS.iter().zip(&self.paths) {
            if let Some(file) = ReportFile::open_if(path.as_ref())? {
                files.push((format, file));
            }
        }
        Ok(OpenFiles { files })
    }
}

/// Output files, open for writing.
pub struct OpenFiles<F: Formats> {
    files: Vec<(&'static Format<F::Report>, ReportFile)>,
}

impl<F: Formats> OpenFiles<F> {
    /// Writes as many files as possible, even if one fails.
    ///
    /// # Errors
    /// The first error.
    pub fn write(self, report: &F::Report) -> Result<(), FilesError> {
        let written = self.files.into_iter().map(|(format, file)| {
            let text = (format.text)(report).map_err(FilesError::Text)?;
            Ok(file.write(&text)?)
        });
        let written: Vec<_> = written.collect();
        written.into_iter().collect()
    }
}

impl<F> Default for ReportFiles<F> {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            formats: PhantomData,
        }
    }
}

impl<F> Clone for ReportFiles<F> {
    fn clone(&self) -> Self {
        Self {
            paths: self.paths.clone(),
            formats: PhantomData,
        }
    }
}

impl<F> fmt::Debug for ReportFiles<F> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.paths.fmt(out)
    }
}

impl<F: Formats> fmt::Debug for OpenFiles<F> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.files.iter().map(|(format, _)| format.name);
        out.debug_list().entries(names).finish()
    }
}

impl<F: Formats> Args for ReportFiles<F> {
    fn augment_args(command: Command) -> Command {
        F::FORMATS.iter().fold(command, |command, format| {
            let option = Arg::new(format.name)
                .long(format.name)
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with_all(F::APART_FROM)
                .help(format.help);
            command.arg(option)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<F: Formats> FromArgMatches for ReportFiles<F> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let path = |format: &Format<F::Report>| matches.get_one(format.name).cloned();
        Ok(Self {
            paths: F::FORMATS.iter().map(path).collect(),
            formats: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Toys {}

    impl Formats for Toys {
        type Report = u32;
        const FORMATS: &'static [Format<u32>] = &[
            Format {
                name: "fails",
                help: "Fails",
                text: |_| Err("no such form".into()),
            },
            Format {
                name: "number",
                help: "A number",
                text: |number| Ok(number.to_string()),
            },
        ];
    }

    #[test]
    fn each_format_is_an_option_and_one_that_fails_keeps_no_other_from_being_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let (number, fails) = (folder.path().join("number"), folder.path().join("fails"));
        let command = ReportFiles::<Toys>::augment_args(Command::new("toys"));
        let words = [
            "toys",
            "--number",
            &number.to_string_lossy(),
            "--fails",
            &fails.to_string_lossy(),
        ]
        .map(str::to_owned);
        let matches = command.try_get_matches_from(words).expect("options");
        let files = ReportFiles::<Toys>::from_arg_matches(&matches).expect("files");
        let written = files.open().expect("files").write(&7);
        assert_eq!(written.expect_err("one fails").to_string(), "no such form");
        assert_eq!(std::fs::read_to_string(&number).expect("a file"), "7");
        assert!(!fails.exists());
    }
}
