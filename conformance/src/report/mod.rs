//! The results of a run: on the terminal, as JUnit XML, as JSON, and as a page.

pub mod bundle;
pub mod files;
pub mod html;
pub mod json;
pub mod junit;
pub mod merge;
pub mod model;
pub mod terminal;

use crate::run::{Check, Kind, Run};
use files::{Format, Formats};
use model::Report;

/// A finished run, and its rerun command.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The run.
    pub run: Run,
    /// The rerun command.
    pub rerun: Rerun,
}

/// The formats of a run. A new format is a file with a [`Format`] in it, and its lines here.
#[derive(Clone, Copy, Debug)]
pub enum OfRun {}

impl Formats for OfRun {
    type Report = Finished;
    const FORMATS: &'static [Format<Finished>] = &[junit::OF_RUN, json::OF_RUN, html::OF_RUN];
    const APART_FROM: &'static [&'static str] = &["emit_script"];
}

/// The formats of several merged runs.
#[derive(Clone, Copy, Debug)]
pub enum OfMany {}

impl Formats for OfMany {
    type Report = Report;
    const FORMATS: &'static [Format<Report>] = &[html::OF_MANY, json::OF_MANY];
}

/// How the implementation under test was chosen on the command line, for rerun commands.
#[derive(Clone, Debug, Default)]
pub struct Rerun {
    /// The arguments, as in `--node 11.37.1`; empty for the reference implementation.
    pub target: Vec<String>,
    /// The words after `--`, if the command was `check`.
    pub command: Vec<String>,
}

impl Rerun {
    /// The command that reruns one check.
    pub fn line(&self, id: &str) -> String {
        // Under cargo, `hypercore-conformance` need not be on the PATH.
        let program = if std::env::var_os("CARGO").is_some() {
            "cargo run --release --"
        } else {
            "hypercore-conformance"
        };
        self.with(program, &["--id", id])
    }

    /// The command with other arguments.
    pub fn with(&self, program: &str, arguments: &[&str]) -> String {
        let (verb, dashes): (_, &[&str]) = match self.command.is_empty() {
            true => ("run", &[]),
            false => ("check", &["--"]),
        };
        let target = self.target.iter().map(String::as_str);
        let command = self.command.iter().map(String::as_str);
        let words = target
            .chain(arguments.iter().chain(dashes).copied())
            .chain(command);
        let words = words.map(quote);
        words.fold(format!("{program} {verb}"), |line, word| line + " " + &word)
    }

    /// The check, with its rerun command if it failed.
    fn mark(&self, check: &Check) -> Check {
        let mut check = check.clone();
        if check.verdict.fails_the_run() && check.kind != Kind::Suite {
            check.rerun = Some(self.line(&check.id));
        }
        check
    }
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rerun_line_can_be_pasted() {
        let rerun = Rerun {
            target: vec!["--adapter".into(), "python3 it's.py".into()],
            ..Rerun::default()
        };
        let line = rerun.line("message.sync.a");
        assert!(
            line.ends_with(r"run --adapter 'python3 it'\''s.py' --id message.sync.a"),
            "{line}"
        );
        assert!(Rerun::default().line("a.b").ends_with("run --id a.b"));
        let rerun = Rerun {
            command: vec!["python3".into(), "it's.py".into(), "--id".into()],
            ..Rerun::default()
        };
        let line = rerun.line("a.b");
        assert!(
            line.ends_with(r"check --id a.b -- python3 'it'\''s.py' --id"),
            "{line}"
        );
    }
}
