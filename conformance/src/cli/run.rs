//! `run`: checks on one implementation, and the reports of them.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Args;

use super::{End, Filters, Trouble, scripted};
use crate::adapter::{AdapterCommand, AdapterProcess, DEFAULT_TIMEOUT};
use crate::expected::{Expected, ExpectedError};
use crate::live::{self, LiveConfig, ScenarioInfo, ScenarioOutcome, ScenarioResult};
use crate::node::{self, NodeMissing};
use crate::report::model::{Column, Report};
use crate::report::{self, Rerun, html, terminal};
use crate::runner::{Check, Kind, Progress, Run, Selection, run_vectors};
use crate::vectors::VectorFile;
use crate::verdict::Verdict;

/// The layer of the live scenarios, in filters and reports.
const LIVE: &str = "live";

#[derive(Args, Debug, Default)]
pub(super) struct RunArguments {
    /// The implementation under test: a command that speaks the adapter protocol
    #[arg(long, value_name = "CMD", group = "target")]
    adapter: Option<String>,
    /// Node itself, at this release of hypercore
    #[arg(long, value_name = "RELEASE", group = "target", value_parser = node::RELEASES)]
    node: Option<String>,
    /// The reference implementation in Rust (the default)
    #[arg(long, group = "target")]
    reference: bool,
    #[command(flatten)]
    filters: Filters,
    /// Leave out the live scenarios
    #[arg(long)]
    no_live: bool,
    /// What the implementation is known to get wrong, with reasons: a file in TOML
    #[arg(long, value_name = "FILE")]
    expected: Option<PathBuf>,
    /// How long each answer may take
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f32>,
    /// Write a JUnit report
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a JSON report
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page for browsers, which needs no other file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Show every failure, and what was tolerated
    #[arg(short, long)]
    verbose: bool,
}

pub(super) fn run(arguments: &RunArguments) -> Result<End, Trouble> {
    let files = arguments.filters.folder.load()?;
    let selection = arguments.filters.selection()?;
    let expected = arguments
        .expected
        .as_deref()
        .map(read_expected)
        .transpose()?;
    let runtime = tokio::runtime::Runtime::new().map_err(Trouble::environment)?;
    runtime.block_on(run_async(arguments, &files, &selection, expected.as_ref()))
}

async fn run_async(
    arguments: &RunArguments,
    files: &[VectorFile],
    selection: &Selection,
    expected: Option<&Expected>,
) -> Result<End, Trouble> {
    let timeout = match arguments.timeout.map(Duration::try_from_secs_f32) {
        None => DEFAULT_TIMEOUT,
        Some(Ok(timeout)) if !timeout.is_zero() => timeout,
        Some(_) => {
            return Err(Trouble::usage(
                "--timeout wants a number of seconds above 0",
            ));
        }
    };
    let scenarios = if arguments.no_live {
        Vec::new()
    } else {
        wanted_scenarios(selection)?
    };
    let scripts = if arguments.no_live {
        Vec::new()
    } else {
        scripted::wanted(selection)?
    };
    if selection.cases(files).is_empty() && scenarios.is_empty() && scripts.is_empty() {
        return Err(Trouble::usage(
            "no check is selected; `list` shows what there is",
        ));
    }
    let mut left_out = Vec::new();
    let mut missing = None;
    let mut peers = None;
    if arguments.node.is_some() || !scenarios.is_empty() {
        match install() {
            Ok(folder) => peers = Some(folder),
            Err(error) if arguments.node.is_some() => return Err(Trouble::environment(error)),
            Err(error) => {
                left_out.push(format!(
                    "all {} live scenarios, because {error}.",
                    scenarios.len()
                ));
                missing = Some(error);
            }
        }
    }
    let (command, rerun) = target(arguments, peers.as_deref())?;
    let mut adapter = AdapterProcess::new(command.clone()).with_timeout(timeout);
    let mut run = run_vectors(&mut adapter, files, selection, &mut terminal::Bar::new())
        .await
        .map_err(Trouble::environment)?;
    adapter.kill().await;
    scripted::run(&mut run, &command, scripts).await;
    if let Some(folder) = peers.filter(|_| !scenarios.is_empty()) {
        let config = LiveConfig::new(command, node::adapter_command(&folder));
        run_live(&mut run, config, &scenarios).await;
    }
    run.left_out = left_out;
    if let Some(expected) = expected {
        expected.apply(&mut run, &known_ids(files)?);
    }
    run.audit();
    write_reports(arguments, &run, &rerun)?;
    print!(
        "{}",
        terminal::report(&run, &rerun, arguments.verbose, &terminal::Paint::stdout())
    );
    // Where CI is set nothing may be left out, and an installation that failed is never all right.
    let incomplete = missing.is_some_and(|missing| is_ci() || !missing.is_absent())
        || (run.asked() == 0 && !run.left_out.is_empty());
    Ok(match (run.has_failed(), incomplete) {
        (true, _) => End::Regression,
        (false, true) => End::Environment,
        (false, false) => End::Expected,
    })
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
        .map(|(_, _, case)| case.id.clone())
        .collect();
    ids.extend(
        wanted_scenarios(&everything)?
            .into_iter()
            .map(|scenario| scenario.id),
    );
    let scripts = scripted::wanted(&everything)?;
    ids.extend(scripts.iter().map(crate::deviant::Item::id));
    Ok(ids)
}

fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false" && ci != "0")
}

/// The scenarios that are selected, if the features are here.
pub(super) fn wanted_scenarios(selection: &Selection) -> Result<Vec<ScenarioInfo>, Trouble> {
    let folder = live::features();
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut scenarios = live::scenarios(&folder).map_err(Trouble::environment)?;
    scenarios.retain(|scenario| selection.matches(LIVE, &scenario.id));
    Ok(scenarios)
}

/// Installs the Node peers if need be, with a sign of life meanwhile.
fn install() -> Result<PathBuf, NodeMissing> {
    let mut spinner = terminal::Spinner::default();
    node::ensure_node_modules_with(&mut |line| spinner.say(line))
}

/// The command of the implementation under test, and the arguments that chose it.
fn target(
    arguments: &RunArguments,
    peers: Option<&Path>,
) -> Result<(AdapterCommand, Rerun), Trouble> {
    let rerun = |target: &[&str]| Rerun {
        target: target.iter().map(|&word| word.to_owned()).collect(),
    };
    if let Some(line) = &arguments.adapter {
        let command = AdapterCommand::parse(line)
            .map_err(|error| Trouble::usage(format!("--adapter: {error}")))?;
        return Ok((command, rerun(&["--adapter", line])));
    }
    if let (Some(release), Some(folder)) = (&arguments.node, peers) {
        let mut command = node::adapter_command(folder);
        command
            .args
            .extend(["--release".to_owned(), release.clone()]);
        return Ok((command, rerun(&["--node", release])));
    }
    let command = AdapterCommand::reference().map_err(Trouble::environment)?;
    Ok((command, rerun(&[])))
}

async fn run_live(run: &mut Run, config: LiveConfig, scenarios: &[ScenarioInfo]) {
    if !run.implementation.live {
        run.checks.extend(scenarios.iter().map(|scenario| {
            let mut check = live_check(scenario);
            check.verdict = Verdict::Unsupported;
            check.reason = Some("the adapter does not declare live operations".into());
            check
        }));
        return;
    }
    let began = Instant::now();
    let mut bar = terminal::Bar::new();
    bar.begin("live scenarios", scenarios.len());
    let bar = Arc::new(Mutex::new(bar));
    let told = Arc::clone(&bar);
    let wanted: HashSet<String> = scenarios
        .iter()
        .map(|scenario| scenario.id.clone())
        .collect();
    let summary = live::run(
        config,
        move |scenario| wanted.contains(&scenario.id),
        move |result| {
            if let Ok(mut bar) = told.lock() {
                bar.next(&result.scenario.id);
                bar.done(&scenario_check(result));
            }
        },
    )
    .await;
    if let Ok(mut bar) = bar.lock() {
        bar.end();
    }
    let mut checks: Vec<Check> = summary.scenarios.iter().map(scenario_check).collect();
    // They run several at a time, and reports should not depend on which was first.
    checks.sort_by(|a, b| a.id.cmp(&b.id));
    let ran: HashSet<&str> = summary
        .scenarios
        .iter()
        .map(|result| result.scenario.id.as_str())
        .collect();
    for scenario in scenarios
        .iter()
        .filter(|scenario| !ran.contains(scenario.id.as_str()))
    {
        let mut check = live_check(scenario);
        check.verdict = Verdict::Unsupported;
        check.reason = Some("not played on this implementation".into());
        checks.push(check);
    }
    for (at, error) in summary.errors.iter().enumerate() {
        checks.push(
            Check::new(Kind::Live, format!("live.features.{at}"), LIVE, "features").failed(error),
        );
    }
    run.checks.extend(checks);
    run.duration += began.elapsed();
}

fn live_check(scenario: &ScenarioInfo) -> Check {
    let mut check = Check::new(Kind::Live, &scenario.id, LIVE, &scenario.feature)
        .with_comment(format!("{} ({})", scenario.name, scenario.location));
    check.clauses.clone_from(&scenario.clauses);
    check
}

fn scenario_check(result: &ScenarioResult) -> Check {
    let mut check = live_check(&result.scenario);
    check.duration = result.duration;
    match result.outcome {
        ScenarioOutcome::Passed => check,
        ScenarioOutcome::Unsupported => {
            check.verdict = Verdict::Unsupported;
            check.reason = Some(result.failure.clone());
            check
        }
        _ => check.failed(&result.failure),
    }
}

fn write_reports(arguments: &RunArguments, run: &Run, rerun: &Rerun) -> Result<(), Trouble> {
    let write = |path: &Path, text: String| {
        std::fs::write(path, text).map_err(|error| {
            Trouble::environment(format!("cannot write {}: {error}", path.display()))
        })
    };
    if let Some(path) = &arguments.junit {
        write(
            path,
            report::junit::report(run, rerun).map_err(Trouble::environment)?,
        )?;
    }
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&report::json::report(run, rerun))
            .map_err(Trouble::environment)?;
        write(path, text + "\n")?;
    }
    if let Some(path) = &arguments.html {
        write(path, html::page(&Report::of(Column::new(run, rerun))))?;
    }
    Ok(())
}
