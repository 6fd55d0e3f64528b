//! `run`: checks on one implementation, and the reports of them.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::progress::Bar;
use super::{End, Filters, Trouble, scenarios, script, scripted};
use crate::adapter::{Adapter, AdapterCommand, AdapterProcess, DEFAULT_MAX_LINE, InProcess, Reach};
use crate::live::{self, LiveConfig, ScenarioInfo};
use crate::node::{self, NodeMissing};
use crate::reference::Reference;
use crate::report::bundle::Bundle;
use crate::report::files::{OpenFiles, ReportFiles};
use crate::report::{Finished, OfRun, Rerun, terminal};
use crate::run::expected::{Expected, ExpectedError};
use crate::run::verdict::Verdict;
use crate::run::{Check, Progress, Run, Selection, run_vectors};
use crate::term::{Paint, Spinner};
use crate::vectors::VectorFile;

#[derive(Args, Debug, Default)]
pub(super) struct RunArguments {
    /// The implementation under test: a command that speaks the adapter protocol
    #[arg(long, value_name = "CMD", group = "target")]
    adapter: Option<String>,
    /// One that runs already, and listens at this address
    #[arg(long, value_name = "ADDR", group = "target")]
    attach: Option<String>,
    /// Node itself, at this release of hypercore
    #[arg(long, value_name = "RELEASE", group = "target", value_parser = node::RELEASES)]
    node: Option<String>,
    /// The reference implementation in Rust (the default)
    #[arg(long, group = "target")]
    reference: bool,
    /// The reference implementation, called in this process instead of over a pipe; without live scenarios
    #[arg(long, group = "target")]
    in_process: bool,
    #[command(flatten)]
    options: Options,
}

/// What `run` and `check` have in common.
#[derive(Args, Debug, Default)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) filters: Filters,
    /// Leave out the live scenarios
    #[arg(long)]
    no_live: bool,
    /// What the implementation is known to get wrong, with reasons: a file in TOML
    #[arg(long, value_name = "FILE")]
    expected: Option<PathBuf>,
    /// How long each answer may take: 30 unless told otherwise, and a day with --attach. The answer to hello, before which the
    /// program starts, may take 5 at least
    #[arg(long, value_name = "SECONDS")]
    pub(super) timeout: Option<f32>,
    /// The longest answer that is read, in MiB; a longer one fails its case
    #[arg(long, value_name = "MIB", default_value = "128")]
    max_answer: MaxAnswer,
    /// Check each answer against the JSON schema of the adapter protocol
    #[arg(long)]
    validate: bool,
    /// Run nothing: print what to paste into an adapter's stdin to ask it this one case
    #[arg(long, value_name = "ID", conflicts_with_all = ["layers", "ids", "bundle"])]
    pub(super) emit_script: Option<String>,
    /// Write a folder for each failed check: request, answer, bytes taken apart, stderr, and how to run it again
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    reports: ReportFiles<OfRun>,
    /// Show every failure, and what was tolerated
    #[arg(short, long)]
    verbose: bool,
}

/// How long the answer to hello may take, however short the other answers are to be: a runtime starts meanwhile.
pub(super) const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// `--max-answer`, in bytes.
#[derive(Clone, Copy, Debug)]
struct MaxAnswer(usize);

impl Default for MaxAnswer {
    fn default() -> Self {
        Self(DEFAULT_MAX_LINE)
    }
}

impl std::str::FromStr for MaxAnswer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<usize>() {
            Ok(mib @ 1..=1024) => Ok(Self(mib << 20)),
            _ => Err("a whole number from 1 to 1024 is wanted".into()),
        }
    }
}

/// The implementation under test.
pub(super) enum Target {
    /// The reference, in this process.
    InProcess,
    /// An adapter.
    Adapter(Reach),
    /// The adapter of Node, at a release of hypercore.
    Node(String),
}

pub(super) fn run(arguments: &RunArguments) -> Result<End, Trouble> {
    let (target, words) = if let Some(line) = &arguments.adapter {
        let command = AdapterCommand::parse(line)
            .map_err(|error| Trouble::usage(format!("--adapter: {error}")))?;
        (Target::Adapter(command.into()), vec!["--adapter", line])
    } else if let Some(address) = &arguments.attach {
        let reach = Reach::Attach(address.clone());
        (Target::Adapter(reach), vec!["--attach", address])
    } else if let Some(release) = &arguments.node {
        (Target::Node(release.clone()), vec!["--node", release])
    } else if arguments.in_process {
        (Target::InProcess, vec!["--in-process"])
    } else {
        let command = AdapterCommand::reference().map_err(Trouble::environment)?;
        (Target::Adapter(command.into()), vec![])
    };
    let rerun = Rerun {
        target: words.into_iter().map(str::to_owned).collect(),
        command: Vec::new(),
    };
    run_target(target, rerun, &arguments.options)
}

/// Runs what is wanted on an implementation, and writes and tells what came of it.
pub(super) fn run_target(target: Target, rerun: Rerun, options: &Options) -> Result<End, Trouble> {
    let files = options.filters.folder.load()?;
    if let Some(id) = &options.emit_script {
        return script::print(id, &files, &rerun);
    }
    let selection = options.filters.selection()?;
    let expected = options.expected.as_deref().map(read_expected).transpose()?;
    let bundle = options.bundle.as_deref().map(|folder| {
        Bundle::create(folder, rerun.clone(), expected.clone())
            .map_err(|error| Trouble::environment(format!("{}: {error}", folder.display())))
    });
    let outputs = options.reports.open().map_err(Trouble::environment)?;
    let mut running = Running {
        target,
        outputs: Some(outputs),
        rerun,
        options,
        files: &files,
        selection: &selection,
        expected: expected.as_ref(),
        bundle: bundle.transpose()?,
    };
    let runtime = tokio::runtime::Runtime::new().map_err(Trouble::environment)?;
    runtime.block_on(running.run())
}

/// The number of seconds of `--timeout`.
pub(super) fn timeout(seconds: Option<f32>) -> Result<Option<Duration>, Trouble> {
    match seconds.map(Duration::try_from_secs_f32) {
        None => Ok(None),
        Some(Ok(timeout)) if !timeout.is_zero() => Ok(Some(timeout)),
        Some(_) => Err(Trouble::usage(
            "--timeout wants a number of seconds above 0",
        )),
    }
}

/// One run, with all that it was asked for.
struct Running<'a> {
    target: Target,
    outputs: Option<OpenFiles<OfRun>>,
    rerun: Rerun,
    options: &'a Options,
    files: &'a [VectorFile],
    selection: &'a Selection,
    expected: Option<&'a Expected>,
    bundle: Option<Bundle>,
}

impl Running<'_> {
    async fn run(&mut self) -> Result<End, Trouble> {
        let timeout = timeout(self.options.timeout)?;
        let is_live = !self.options.no_live && !matches!(self.target, Target::InProcess);
        let scenarios = if is_live {
            scenarios::wanted(self.selection)?
        } else {
            Vec::new()
        };
        let scripts = if is_live {
            scripted::wanted(self.selection)?
        } else {
            Vec::new()
        };
        let none = self.selection.cases(self.files).is_empty();
        if none && scenarios.is_empty() && scripts.is_empty() {
            return Err(Trouble::usage(
                "no check is selected; `list` shows what there is",
            ));
        }
        let mut left_out = Vec::new();
        let mut missing = None;
        let mut peers = None;
        let is_node = matches!(self.target, Target::Node(_));
        if is_node || !scenarios.is_empty() {
            match install() {
                Ok(folder) => peers = Some(folder),
                Err(error) if is_node => return Err(Trouble::environment(error)),
                Err(error) => {
                    let count = scenarios.len();
                    left_out.push(format!("all {count} live scenarios, because {error}."));
                    missing = Some(error);
                }
            }
        }
        let reach = match (&self.target, &peers) {
            (Target::Adapter(reach), _) => Some(reach.clone()),
            (Target::Node(release), Some(folder)) => {
                let mut command = node::adapter_command(folder);
                let release = ["--release".to_owned(), release.clone()];
                command.args.extend(release);
                Some(command.into())
            }
            _ => None,
        };
        let mut run = match &reach {
            Some(reach) => {
                let mut adapter = AdapterProcess::new(reach.clone())
                    .with_validation(self.options.validate)
                    .with_max_line(self.options.max_answer.0);
                if let Some(timeout) = timeout {
                    adapter = adapter
                        .with_timeout(timeout)
                        .with_hello_timeout(timeout.max(HELLO_TIMEOUT));
                }
                let run = self.ask(&mut adapter).await;
                adapter.kill().await;
                run?
            }
            None => {
                let mut adapter = InProcess::new(Reference::new);
                if let Some(timeout) = timeout {
                    adapter = adapter.with_timeout(timeout);
                }
                self.ask(&mut adapter).await?
            }
        };
        if let Some(reach) = &reach {
            scripted::run(&mut run, reach, self.options.validate, scripts).await;
            self.bundle_scripted(&run);
        }
        if let (Some(folder), Some(reach)) = (peers.filter(|_| !scenarios.is_empty()), reach) {
            let mut config = LiveConfig::new(reach, node::adapter_command(&folder));
            config.validate = self.options.validate;
            scenarios::run(&mut run, config.clone(), &scenarios).await;
            self.bundle_scenarios(&run, config, &scenarios).await;
        }
        run.left_out = left_out;
        if let Some(expected) = self.expected {
            expected.apply(&mut run, &known_ids(self.files)?);
        }
        run.audit();
        let finished = Finished {
            run,
            rerun: self.rerun.clone(),
        };
        self.report(&finished)?;
        let run = &finished.run;
        // Where CI is set nothing may be left out, and an installation that failed is never all right.
        let incomplete = missing.is_some_and(|missing| is_ci() || !missing.is_absent())
            || (run.asked() == 0 && !run.left_out.is_empty());
        Ok(match (run.has_failed(), incomplete) {
            (true, _) => End::Regression,
            (false, true) => End::Environment,
            (false, false) => End::Expected,
        })
    }

    async fn ask(&mut self, adapter: &mut dyn Adapter) -> Result<Run, Trouble> {
        let mut progress = Watched {
            bar: Bar::new(),
            bundle: self.bundle.as_mut(),
        };
        run_vectors(adapter, self.files, self.selection, &mut progress)
            .await
            .map_err(Trouble::environment)
    }

    fn bundle_scripted(&mut self, run: &Run) {
        let Some(bundle) = &mut self.bundle else {
            return;
        };
        let scripted = [crate::scripted::LAYER, crate::scripted::SCRIPT_LAYER];
        for check in &run.checks {
            if check.verdict == Verdict::Failed && scripted.contains(&check.layer.as_str()) {
                bundle.add_scripted(check);
            }
        }
    }

    /// Plays scenarios that failed once more, over a relay that keeps what crosses it. The first play is what counts: a
    /// relay is not quite a wire.
    async fn bundle_scenarios(
        &mut self,
        run: &Run,
        mut config: LiveConfig,
        scenarios: &[ScenarioInfo],
    ) {
        let Some(bundle) = &mut self.bundle else {
            return;
        };
        let failed =
            |check: &&Check| check.layer == scenarios::LAYER && check.verdict == Verdict::Failed;
        let failed: Vec<&Check> = run
            .checks
            .iter()
            .filter(failed)
            .filter(|check| bundle.wants(check))
            .collect();
        let ids: HashSet<String> = failed.iter().map(|check| check.id.clone()).collect();
        if !scenarios.iter().any(|scenario| ids.contains(&scenario.id)) {
            return;
        }
        config.record = true;
        let again = live::run(config, move |scenario| ids.contains(&scenario.id), |_| {}).await;
        for check in failed {
            let result = again
                .scenarios
                .iter()
                .find(|result| result.scenario.id == check.id);
            let recording = result.and_then(|result| result.recording.clone());
            match recording {
                Some(recording) => bundle.add_scenario(check, &recording),
                // It passed this time, or never came so far as to have two ends.
                None => bundle.add_scenario(check, &live::Recording::default()),
            }
        }
    }

    fn report(&mut self, finished: &Finished) -> Result<(), Trouble> {
        // What was not written is told last, so that the result of minutes is on the terminal at least.
        let written = match self.outputs.take() {
            Some(outputs) => outputs.write(finished).map_err(Trouble::environment),
            None => Ok(()),
        };
        let paint = Paint::stdout();
        let text = terminal::report(&finished.run, &self.rerun, self.options.verbose, &paint);
        let printed = super::print(&text);
        written?;
        printed?;
        if let Some(bundle) = &self.bundle {
            let told = bundle.finish().map_err(|error| {
                Trouble::environment(format!("the bundle cannot be written: {error}"))
            })?;
            super::say(told)?;
        }
        Ok(())
    }
}

/// The bar on the terminal, and the bundle of failures where one is wanted.
struct Watched<'a> {
    bar: Bar,
    bundle: Option<&'a mut Bundle>,
}

impl Progress for Watched<'_> {
    fn begin(&mut self, stage: &str, total: usize) {
        self.bar.begin(stage, total);
    }

    fn next(&mut self, id: &str) {
        self.bar.next(id);
    }

    fn done(&mut self, check: &Check) {
        self.bar.done(check);
    }

    fn failed(&mut self, check: &Check, input: &Value, answer: &Value) {
        if let Some(bundle) = &mut self.bundle {
            bundle.add_case(check, input, answer);
        }
    }

    fn say(&mut self, line: &str) {
        self.bar.say(line);
    }

    fn end(&mut self) {
        self.bar.end();
    }
}

fn read_expected(path: &Path) -> Result<Expected, Trouble> {
    Expected::read(path).map_err(|error| match error {
        ExpectedError::Read { .. } => Trouble::environment(error),
        error => Trouble::usage(error.to_string()),
    })
}

/// The ids of every case and scenario that there is, selected or not.
fn known_ids(files: &[VectorFile]) -> Result<BTreeSet<String>, Trouble> {
    let everything = Selection::default();
    let cases = everything.cases(files);
    let mut ids: BTreeSet<String> = cases
        .into_iter()
        .map(|(_, _, case)| case.id.to_string())
        .collect();
    ids.extend(
        scenarios::wanted(&everything)?
            .into_iter()
            .map(|scenario| scenario.id),
    );
    let scripts = scripted::wanted(&everything)?;
    ids.extend(scripts.iter().map(crate::scripted::Item::id));
    Ok(ids)
}

fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false" && ci != "0")
}

/// Installs the Node peers if need be, with a sign of life meanwhile.
fn install() -> Result<PathBuf, NodeMissing> {
    let mut spinner = Spinner::default();
    node::ensure_node_modules_with(&mut |line| spinner.say(line))
}
