//! The command line.

use std::collections::HashSet;
use std::io::{stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};

use crate::adapter::{AdapterCommand, AdapterProcess, DEFAULT_TIMEOUT, serve};
use crate::broken::Broken;
use crate::live::{self, LiveConfig, ScenarioInfo, ScenarioOutcome, ScenarioResult};
use crate::node::{self, NodeMissing};
use crate::reference::Reference;
use crate::report::{self, Rerun, terminal};
use crate::runner::{Check, Kind, Progress, Run, Selection, run_vectors};
use crate::vectors::{self, VectorFile};
use crate::verdict::Verdict;
use crate::{check, coverage, explain, merge, proxy};

/// The layer of the live scenarios, in filters and reports.
const LIVE: &str = "live";

/// How a command ended, as an exit code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// All is as expected.
    Expected = 0,
    /// Something failed.
    Regression = 1,
    /// The arguments make no sense.
    Usage = 2,
    /// Something that is needed is missing here.
    Environment = 3,
}

impl From<End> for ExitCode {
    fn from(end: End) -> Self {
        Self::from(end as u8)
    }
}

/// Why a command could not do its work.
struct Trouble {
    end: End,
    message: String,
}

impl Trouble {
    fn usage(message: impl Into<String>) -> Self {
        Self {
            end: End::Usage,
            message: message.into(),
        }
    }

    fn environment(message: impl ToString) -> Self {
        Self {
            end: End::Environment,
            message: message.to_string(),
        }
    }
}

const EXIT_CODES: &str = "\
Exit codes: 0 all as expected, 1 a regression, 2 wrong usage (or nothing selected), 3 something is missing here.

Without a command: installs the Node peers if need be, then runs every vector and every live scenario on the reference \
implementation.";

/// Checks an implementation of the hypercore wire protocol against vectors recorded from Node peers, and against live
/// ones.
#[derive(Debug, Parser)]
#[command(name = "hypercore-conformance", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run checks on an implementation (the default)
    Run(Box<RunArguments>),
    /// List cases and scenarios: id, result, clauses and what each shows
    List(Filters),
    /// Show one case in full, its bytes taken apart
    Show(ShowArguments),
    /// Explain bytes, a case, a transcript or a trace of the proxy, field by field
    Explain(ExplainArguments),
    /// Stand between two peers, show what they say to each other, and tamper with it
    Proxy(Box<ProxyArguments>),
    /// Merge JSON reports into one
    Merge(merge::MergeArguments),
    /// Check the vectors themselves: schema, canonical form, ids, flags, and that each clause is tested
    CheckVectors(FolderArguments),
    /// Write down where each clause is tested, or check what is written
    Coverage(CoverageArguments),
    /// Serve the reference implementation as an adapter, on stdin and stdout
    #[command(hide = true)]
    Adapter {
        /// With a fault, to prove that the suite sees it
        #[arg(long, value_enum)]
        broken: Option<Broken>,
    },
}

#[derive(Args, Clone, Debug, Default)]
struct FolderArguments {
    /// The folder of the vectors
    #[arg(long, value_name = "FOLDER")]
    vectors: Option<PathBuf>,
}

impl FolderArguments {
    fn path(&self) -> PathBuf {
        self.vectors.clone().unwrap_or_else(vectors::default_folder)
    }

    fn load(&self) -> Result<Vec<VectorFile>, Trouble> {
        vectors::load(&self.path()).map_err(Trouble::environment)
    }
}

#[derive(Args, Clone, Debug, Default)]
struct Filters {
    /// Only this layer; may be repeated
    #[arg(long = "layer", value_name = "LAYER")]
    layers: Vec<String>,
    /// Only ids that match this glob; may be repeated
    #[arg(long = "id", value_name = "GLOB")]
    ids: Vec<String>,
    #[command(flatten)]
    folder: FolderArguments,
}

impl Filters {
    fn selection(&self) -> Result<Selection, Trouble> {
        Selection::new(&self.layers, &self.ids).map_err(Trouble::usage)
    }
}

#[derive(Args, Debug, Default)]
struct RunArguments {
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
    /// How long each answer may take
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f32>,
    /// Write a JUnit report
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a JSON report
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Show every failure, and what was tolerated
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Args, Debug)]
struct ShowArguments {
    /// The id of the case
    id: String,
    #[command(flatten)]
    folder: FolderArguments,
}

#[derive(Args, Debug)]
struct ExplainArguments {
    /// Hex, the id of a case, a file of vectors (a transcript is one) or a trace of the proxy; `-` reads stdin
    input: String,
    /// What hex is; guessed, and said, if neither this nor --message is given
    #[arg(long, value_enum)]
    layer: Option<explain::Layer>,
    /// The message that hex is the body of: sync, request, …, or handshake
    #[arg(long, value_name = "NAME")]
    message: Option<String>,
    /// Of a file of vectors, only ids that match this glob; may be repeated
    #[arg(long = "id", value_name = "GLOB")]
    ids: Vec<String>,
    /// One JSON object a line, with the offset, length and bytes of each field
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    folder: FolderArguments,
}

const PROXY_HELP: &str = "\
Both peers speak to the proxy, which opens what they send and seals it anew. The first line on stdout is the address that \
it listens on. Lines on stdin add core keys while it runs:

  key HEX

When stdin ends, what was read is passed on, and the proxy ends; < /dev/null ends it at once. Lines for people go to \
stderr, JSON lines with --trace to a file, which `explain` prints.";

#[derive(Args, Debug)]
#[command(after_help = PROXY_HELP)]
struct ProxyArguments {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: String,
    /// Where to dial, once for each connection
    #[arg(long, value_name = "ADDR")]
    upstream: String,
    /// The key of a core that passes; may be repeated, and added to on stdin
    #[arg(long = "key", value_name = "HEX", value_parser = proxy::parse_key)]
    keys: Vec<[u8; 32]>,
    /// How long the open of a core waits for its key, with all that follows it; then the core is opened as one that the
    /// other peer rejects, and the rest passes
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    key_wait: f32,
    /// Write a JSON line for each record: its fields, their offsets, and what was done to it
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// The trace has all bytes of records up to this length, beside the fields
    #[arg(long, value_name = "BYTES", default_value = "65536")]
    trace_bytes: usize,
    /// No lines on stderr
    #[arg(short, long)]
    quiet: bool,
    /// Tamper with what passes; may be repeated
    #[arg(long, value_name = "SPEC", long_help = format!("Tamper with what passes; may be repeated:\n\n{}", proxy::inject::GRAMMAR))]
    inject: Vec<proxy::inject::Injection>,
    /// The seed of the static key pair that dialling peers see, so that they see the same each time
    #[arg(long, value_name = "HEX", value_parser = proxy::parse_key)]
    seed_listen: Option<[u8; 32]>,
    /// The seed of the static key pair that the upstream peer sees
    #[arg(long, value_name = "HEX", value_parser = proxy::parse_key)]
    seed_upstream: Option<[u8; 32]>,
    /// The dialling peer is the responder of the handshake, and the upstream peer the initiator
    #[arg(long)]
    reversed: bool,
}

#[derive(Args, Debug)]
struct CoverageArguments {
    #[command(flatten)]
    folder: FolderArguments,
    /// Only check what is written
    #[arg(long)]
    check: bool,
}

/// Reads the arguments, does what they ask for and says how it went.
pub fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let done = match command.unwrap_or_else(|| Command::Run(Box::default())) {
        Command::Run(arguments) => run(&arguments),
        Command::List(filters) => list(&filters),
        Command::Show(arguments) => show(&arguments),
        Command::Explain(arguments) => explain(&arguments),
        Command::Proxy(arguments) => run_proxy(*arguments),
        Command::Merge(arguments) => merge_reports(&arguments),
        Command::CheckVectors(folder) => check_vectors(&folder.path()),
        Command::Coverage(arguments) => write_coverage(&arguments.folder.path(), arguments.check),
        Command::Adapter { broken } => adapter(broken),
    };
    match done {
        Ok(end) => end.into(),
        Err(trouble) => {
            eprintln!("hypercore-conformance: {}", trouble.message);
            trouble.end.into()
        }
    }
}

fn adapter(broken: Option<Broken>) -> Result<End, Trouble> {
    let mut reference = Reference::new();
    let served = match broken {
        None => serve(&mut reference, stdin().lock(), stdout().lock()),
        Some(broken) => broken.serve(&mut reference, stdin().lock(), stdout().lock()),
    };
    served.map(|()| End::Expected).map_err(Trouble::environment)
}

fn run(arguments: &RunArguments) -> Result<End, Trouble> {
    let files = arguments.filters.folder.load()?;
    let selection = arguments.filters.selection()?;
    let runtime = tokio::runtime::Runtime::new().map_err(Trouble::environment)?;
    runtime.block_on(run_async(arguments, &files, &selection))
}

async fn run_async(
    arguments: &RunArguments,
    files: &[VectorFile],
    selection: &Selection,
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
    if selection.cases(files).is_empty() && scenarios.is_empty() {
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
    if let Some(folder) = peers.filter(|_| !scenarios.is_empty()) {
        let config = LiveConfig::new(command, node::adapter_command(&folder));
        run_live(&mut run, config, &scenarios).await;
    }
    run.left_out = left_out;
    write_reports(arguments, &run, &rerun)?;
    print!(
        "{}",
        terminal::report(&run, &rerun, arguments.verbose, &terminal::Paint::stdout())
    );
    // Where CI is set nothing may be left out, and an installation that failed is never all right.
    let incomplete = missing.is_some_and(|missing| is_ci() || !missing.is_absent());
    Ok(match (run.has_failed(), incomplete) {
        (true, _) => End::Regression,
        (false, true) => End::Environment,
        (false, false) => End::Expected,
    })
}

fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false" && ci != "0")
}

/// The scenarios that are selected, if the features are here.
fn wanted_scenarios(selection: &Selection) -> Result<Vec<ScenarioInfo>, Trouble> {
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
    Ok(())
}

fn merge_reports(arguments: &merge::MergeArguments) -> Result<End, Trouble> {
    let merged = merge::merge(arguments).map_err(|error| match error {
        merge::MergeError::Report { .. } => Trouble::usage(error.to_string()),
        error => Trouble::environment(error),
    })?;
    print(&merge::summary(&merged, &terminal::Paint::stdout()));
    Ok(if merged.has_regressed() {
        End::Regression
    } else {
        End::Expected
    })
}

fn list(filters: &Filters) -> Result<End, Trouble> {
    let files = filters.folder.load()?;
    let selection = filters.selection()?;
    let scenarios = wanted_scenarios(&selection)?;
    let text = terminal::list(
        &selection.cases(&files),
        &scenarios,
        &terminal::Paint::stdout(),
    );
    if text.is_empty() {
        return Err(Trouble::usage("nothing is selected"));
    }
    print(&text);
    Ok(End::Expected)
}

fn show(arguments: &ShowArguments) -> Result<End, Trouble> {
    let files = arguments.folder.load()?;
    let everything = Selection::default();
    let cases = everything.cases(&files);
    let Some((file, group, case)) = cases.iter().find(|(_, _, case)| case.id == arguments.id)
    else {
        return Err(Trouble::usage(format!(
            "there is no case {}; `list` shows what there is",
            arguments.id
        )));
    };
    print(&terminal::show(
        file,
        group,
        case,
        &terminal::Paint::stdout(),
    ));
    Ok(End::Expected)
}

fn run_proxy(arguments: ProxyArguments) -> Result<End, Trouble> {
    let Ok(key_wait) = Duration::try_from_secs_f32(arguments.key_wait) else {
        return Err(Trouble::usage("--key-wait wants a number of seconds"));
    };
    let config = proxy::Config {
        listen: arguments.listen,
        upstream: arguments.upstream,
        keys: arguments.keys,
        key_wait,
        trace: arguments.trace,
        trace_bytes: arguments.trace_bytes,
        quiet: arguments.quiet,
        inject: arguments.inject,
        seed_listen: arguments.seed_listen,
        seed_upstream: arguments.seed_upstream,
        reversed: arguments.reversed,
    };
    let runtime = tokio::runtime::Runtime::new().map_err(Trouble::environment)?;
    runtime
        .block_on(proxy::run(config))
        .map_err(|error| Trouble::environment(format!("proxy: {error}")))?;
    Ok(End::Expected)
}

fn explain(arguments: &ExplainArguments) -> Result<End, Trouble> {
    let question = explain::Question {
        input: arguments.input.clone(),
        layer: arguments.layer,
        message: arguments.message.clone(),
        ids: arguments.ids.clone(),
        vectors: arguments.folder.path(),
    };
    let explained = explain::explain(&question).map_err(|error| match error {
        explain::ExplainError::Usage(message) => Trouble::usage(message),
        error => Trouble::environment(error),
    })?;
    if arguments.json {
        for explained in &explained {
            let line = serde_json::to_string(explained).map_err(Trouble::environment)?;
            print(&(line + "\n"));
        }
    } else {
        print(&explain::text(&explained, &terminal::Paint::stdout()));
    }
    // Bytes that do not decode are what this is for, and no failure of the command.
    Ok(End::Expected)
}

/// Prints what may go to a pager or `head`, which may close the pipe early.
fn print(text: &str) {
    use std::io::Write as _;
    drop(stdout().lock().write_all(text.as_bytes()));
}

fn check_vectors(folder: &Path) -> Result<End, Trouble> {
    let mut faults = Vec::new();
    match check::check_vectors(folder) {
        Ok(checked) => println!(
            "{} cases in {} files are in order.",
            checked.cases, checked.files
        ),
        Err(more) => faults.extend(more),
    }
    match coverage::run(folder, &coverage::features_folder(folder), true) {
        Ok(_) => println!("Every clause is tested, and COVERAGE.md says where."),
        Err(more) => faults.extend(more),
    }
    Ok(tell_faults(&faults))
}

fn write_coverage(folder: &Path, check: bool) -> Result<End, Trouble> {
    Ok(
        match coverage::run(folder, &coverage::features_folder(folder), check) {
            Ok(coverage) => {
                println!(
                    "{} cases and {} scenarios are counted in COVERAGE.md.",
                    coverage.cases, coverage.scenarios
                );
                End::Expected
            }
            Err(faults) => tell_faults(&faults),
        },
    )
}

fn tell_faults(faults: &[String]) -> End {
    for fault in faults {
        eprintln!("{fault}");
    }
    if faults.is_empty() {
        End::Expected
    } else {
        End::Regression
    }
}
