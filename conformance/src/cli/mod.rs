//! The command line.

mod check;
mod progress;
mod run;
mod scenarios;
mod script;
mod scripted;
mod vectors;

use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::adapter::serve;
use crate::dissect::explain;
use crate::faulty::Broken;
use crate::reference::Reference;
use crate::report::merge;
use crate::report::terminal;
use crate::run::Selection;
use crate::term::Paint;
use crate::vectors::lint;
use crate::vectors::{VectorFile, default_folder, load};
use crate::{coverage, matrix, out, proxy};
use check::{CheckArguments, SmokeArguments};
use run::RunArguments;
use vectors::VectorsCommand;

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
    /// Run checks on an adapter: `check -- python3 adapter.py`
    Check(Box<CheckArguments>),
    /// Ask an adapter a handful of questions, and say whether it or the implementation behind it is at fault
    Smoke(SmokeArguments),
    /// List cases and scenarios: id, result, clauses and what each shows
    List(Filters),
    /// Show one case in full, its bytes taken apart
    Show(ShowArguments),
    /// Explain bytes, a case, a transcript or a trace of the proxy, field by field
    Explain(ExplainArguments),
    /// Stand between two peers, show what they say to each other, and tamper with it
    Proxy(Box<ProxyArguments>),
    /// List what the scripted peer can do wrong, and how Node reacts; or record that from live Node
    Deviations(crate::scripted::command::DeviationsArguments),
    /// Do one thing wrong to a program that runs, and say what it makes of it
    Misbehave(crate::scripted::command::MisbehaveArguments),
    /// Hold implementations against many releases of Node's hypercore, on many runtimes
    Matrix(Box<matrix::MatrixArguments>),
    /// Merge JSON reports into one, and into one page
    Merge(merge::MergeArguments),
    /// Check the vectors themselves: schema, canonical form, ids, flags, and that each clause is tested
    CheckVectors(FolderArguments),
    /// Ship the vectors alone: check a folder of them, or pack one
    #[command(subcommand)]
    Vectors(VectorsCommand),
    /// Write down where each clause is tested, or check what is written
    Coverage(CoverageArguments),
    /// Serve the reference implementation as an adapter, on stdin and stdout
    #[command(hide = true)]
    Adapter {
        /// With a fault, to prove that the suite sees it
        #[arg(long, value_enum)]
        broken: Option<Broken>,
        /// On connections to this address instead, one after the other; the address is the first line on stdout
        #[arg(long, value_name = "ADDR")]
        listen: Option<String>,
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
        self.vectors.clone().unwrap_or_else(default_folder)
    }

    fn load(&self) -> Result<Vec<VectorFile>, Trouble> {
        load(&self.path()).map_err(Trouble::environment)
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
    crate::group::end_all_with_this_program();
    let command = Arguments::parse().command;
    let done = match command.unwrap_or_else(|| Command::Run(Box::default())) {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Smoke(arguments) => check::smoke(&arguments),
        Command::List(filters) => list(&filters),
        Command::Show(arguments) => show(&arguments),
        Command::Explain(arguments) => explain(&arguments),
        Command::Proxy(arguments) => run_proxy(*arguments),
        Command::Deviations(arguments) => {
            scripted::command(crate::scripted::command::list(&arguments))
        }
        Command::Misbehave(arguments) => {
            scripted::command(crate::scripted::command::misbehave(&arguments))
        }
        Command::Matrix(arguments) => run_matrix(&arguments),
        Command::Merge(arguments) => merge_reports(&arguments),
        Command::CheckVectors(folder) => check_vectors(&folder.path()),
        Command::Vectors(command) => vectors::run(&command),
        Command::Coverage(arguments) => write_coverage(&arguments.folder.path(), arguments.check),
        Command::Adapter { broken, listen } => adapter(broken, listen.as_deref()),
    };
    match done {
        Ok(end) => end.into(),
        Err(trouble) => {
            out::note(format!("hypercore-conformance: {}", trouble.message));
            trouble.end.into()
        }
    }
}

fn adapter(broken: Option<Broken>, listen: Option<&str>) -> Result<End, Trouble> {
    let Some(address) = listen else {
        let served = serve_adapter(broken, stdin().lock(), stdout().lock());
        return served.map(|()| End::Expected).map_err(Trouble::environment);
    };
    let listener = std::net::TcpListener::bind(address).map_err(Trouble::environment)?;
    say(listener.local_addr().map_err(Trouble::environment)?)?;
    for stream in listener.incoming() {
        let stream = stream.map_err(Trouble::environment)?;
        // A connection that breaks is the end of that one.
        if let Err(error) = serve_adapter(broken, BufReader::new(&stream), &stream) {
            out::note(error);
        }
    }
    Ok(End::Expected)
}

fn serve_adapter(
    broken: Option<Broken>,
    input: impl BufRead,
    output: impl Write,
) -> std::io::Result<()> {
    let mut reference = Reference::new();
    match broken {
        None => serve(&mut reference, input, output),
        Some(broken) => broken.serve(&mut reference, input, output),
    }
}

fn run_matrix(arguments: &matrix::MatrixArguments) -> Result<End, Trouble> {
    match matrix::run(arguments) {
        Ok(matrix::Verdict::Expected) => Ok(End::Expected),
        Ok(matrix::Verdict::Regression) => Ok(End::Regression),
        Ok(matrix::Verdict::Incomplete) => Ok(End::Environment),
        Err(matrix::MatrixError::Usage(message)) => Err(Trouble::usage(message)),
        Err(error) => Err(Trouble::environment(error)),
    }
}

fn merge_reports(arguments: &merge::MergeArguments) -> Result<End, Trouble> {
    let merged = merge::merge(arguments).map_err(|error| match error {
        merge::MergeError::Report { .. } => Trouble::usage(error.to_string()),
        error => Trouble::environment(error),
    })?;
    print(&merge::summary(&merged, &Paint::stdout()))?;
    Ok(if merged.has_regressed() {
        End::Regression
    } else {
        End::Expected
    })
}

fn list(filters: &Filters) -> Result<End, Trouble> {
    let files = filters.folder.load()?;
    let selection = filters.selection()?;
    let mut scenarios: Vec<_> = scripted::rows(&scripted::wanted(&selection)?).collect();
    scenarios.extend(scenarios::wanted(&selection)?);
    let text = terminal::list(&selection.cases(&files), &scenarios, &Paint::stdout());
    if text.is_empty() {
        return Err(Trouble::usage("nothing is selected"));
    }
    print(&text)?;
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
    print(&terminal::show(file, group, case, &Paint::stdout()))?;
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
            print_json(&(line + "\n"))?;
        }
    } else {
        print(&explain::text(&explained, &Paint::stdout()))?;
    }
    // Bytes that do not decode are what this is for, and no failure of the command.
    Ok(End::Expected)
}

/// Prints what may go to a pager or `head`, which may close the pipe early.
fn print(text: &str) -> Result<(), Trouble> {
    out::print(text).map_err(Trouble::environment)
}

fn say(line: impl std::fmt::Display) -> Result<(), Trouble> {
    out::say(line).map_err(Trouble::environment)
}

/// Prints lines of JSON.
fn print_json(text: &str) -> Result<(), Trouble> {
    out::print_json(text).map_err(Trouble::environment)
}

fn check_vectors(folder: &Path) -> Result<End, Trouble> {
    let mut faults = Vec::new();
    match lint::check_vectors(folder) {
        Ok(checked) => say(format!(
            "{} cases in {} files are in order.",
            checked.cases, checked.files
        ))?,
        Err(more) => faults.extend(more),
    }
    match coverage::run(folder, &coverage::features_folder(folder), true) {
        Ok(_) => say("Every clause is tested, and COVERAGE.md says where.")?,
        Err(more) => faults.extend(more),
    }
    Ok(tell_faults(&faults))
}

fn write_coverage(folder: &Path, check: bool) -> Result<End, Trouble> {
    Ok(
        match coverage::run(folder, &coverage::features_folder(folder), check) {
            Ok(coverage) => {
                say(format!(
                    "{} cases, {} scenarios and {} runs of the scripted peer are counted in COVERAGE.md.",
                    coverage.cases, coverage.scenarios, coverage.scripted
                ))?;
                End::Expected
            }
            Err(faults) => tell_faults(&faults),
        },
    )
}

fn tell_faults(faults: &[String]) -> End {
    for fault in faults {
        out::note(fault);
    }
    if faults.is_empty() {
        End::Expected
    } else {
        End::Regression
    }
}
