//! The command line.

use std::io::{stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::adapter::{AdapterCommand, AdapterProcess, DEFAULT_TIMEOUT, serve};
use crate::broken::Broken;
use crate::node;
use crate::reference::Reference;
use crate::report::{self, Rerun, terminal};
use crate::runner::{Run, Selection, run_vectors};
use crate::vectors::{self, VectorFile};

/// How a command ended, as an exit code.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
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

    fn environment(message: impl Into<String>) -> Self {
        Self {
            end: End::Environment,
            message: message.into(),
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
    /// Run checks on an implementation (the default).
    Run(RunArguments),
    /// List cases: id, result, clauses and what each shows.
    List(ListArguments),
    /// Show one case in full.
    Show(ShowArguments),
    /// Serve the reference implementation as an adapter, on stdin and stdout.
    #[command(hide = true)]
    Adapter {
        /// With a fault, to prove that the suite sees it.
        #[arg(long, value_enum)]
        broken: Option<Broken>,
    },
}

#[derive(Args, Clone, Debug, Default)]
struct Filters {
    /// Only this layer (may be repeated)
    #[arg(long = "layer", value_name = "LAYER")]
    layers: Vec<String>,
    /// Only ids that match this glob (may be repeated)
    #[arg(long = "id", value_name = "GLOB")]
    ids: Vec<String>,
    /// The folder of the vectors
    #[arg(long, value_name = "FOLDER")]
    vectors: Option<PathBuf>,
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
struct ListArguments {
    #[command(flatten)]
    filters: Filters,
}

#[derive(Args, Debug)]
struct ShowArguments {
    /// The id of the case
    id: String,
    /// The folder of the vectors
    #[arg(long, value_name = "FOLDER")]
    vectors: Option<PathBuf>,
}

/// Reads the arguments, does what they ask for and says how it went.
pub fn main() -> ExitCode {
    let done = match Arguments::parse()
        .command
        .unwrap_or(Command::Run(RunArguments::default()))
    {
        Command::Run(arguments) => run(&arguments),
        Command::List(arguments) => list(&arguments),
        Command::Show(arguments) => show(&arguments),
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
    served
        .map(|()| End::Expected)
        .map_err(|error| Trouble::environment(error.to_string()))
}

fn load(folder: Option<&PathBuf>) -> Result<Vec<VectorFile>, Trouble> {
    let folder = folder.cloned().unwrap_or_else(vectors::default_folder);
    vectors::load(&folder).map_err(|error| Trouble::environment(error.to_string()))
}

fn select(filters: &Filters) -> Result<Selection, Trouble> {
    Selection::new(&filters.layers, &filters.ids).map_err(Trouble::usage)
}

fn run(arguments: &RunArguments) -> Result<End, Trouble> {
    let files = load(arguments.filters.vectors.as_ref())?;
    let selection = select(&arguments.filters)?;
    let runtime =
        tokio::runtime::Runtime::new().map_err(|error| Trouble::environment(error.to_string()))?;
    runtime.block_on(run_async(arguments, &files, &selection))
}

async fn run_async(
    arguments: &RunArguments,
    files: &[VectorFile],
    selection: &Selection,
) -> Result<End, Trouble> {
    let mut progress = terminal::Bar::new();
    let (command, rerun) = target(arguments)?;
    let timeout = match arguments.timeout.map(Duration::try_from_secs_f32) {
        None => DEFAULT_TIMEOUT,
        Some(Ok(timeout)) if !timeout.is_zero() => timeout,
        Some(_) => {
            return Err(Trouble::usage(
                "--timeout wants a number of seconds above 0",
            ));
        }
    };
    if selection.cases(files).is_empty() {
        return Err(Trouble::usage(
            "no check is selected; `list` shows what there is",
        ));
    }
    let mut adapter = AdapterProcess::new(command).with_timeout(timeout);
    let run = run_vectors(&mut adapter, files, selection, &mut progress)
        .await
        .map_err(|failure| Trouble::environment(failure.to_string()))?;
    adapter.kill().await;
    write_reports(arguments, &run, &rerun)?;
    print!(
        "{}",
        terminal::report(&run, &rerun, arguments.verbose, &terminal::Paint::stdout())
    );
    Ok(if run.has_failed() {
        End::Regression
    } else {
        End::Expected
    })
}

/// The command of the implementation under test, and the arguments that chose it.
fn target(arguments: &RunArguments) -> Result<(AdapterCommand, Rerun), Trouble> {
    let rerun = |target: &[&str]| Rerun {
        target: target.iter().map(|&word| word.to_owned()).collect(),
    };
    if let Some(line) = &arguments.adapter {
        let command = AdapterCommand::parse(line)
            .map_err(|error| Trouble::usage(format!("--adapter: {error}")))?;
        return Ok((command, rerun(&["--adapter", line])));
    }
    if let Some(release) = &arguments.node {
        let folder =
            node::ensure_node_modules().map_err(|error| Trouble::environment(error.to_string()))?;
        let mut command = node::adapter_command(&folder);
        command
            .args
            .extend(["--release".to_owned(), release.clone()]);
        return Ok((command, rerun(&["--node", release])));
    }
    let command =
        AdapterCommand::reference().map_err(|error| Trouble::environment(error.to_string()))?;
    Ok((command, rerun(&[])))
}

fn write_reports(arguments: &RunArguments, run: &Run, rerun: &Rerun) -> Result<(), Trouble> {
    let write = |path: &PathBuf, text: String| {
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
            .map_err(|error| Trouble::environment(error.to_string()))?;
        write(path, text + "\n")?;
    }
    Ok(())
}

fn list(arguments: &ListArguments) -> Result<End, Trouble> {
    let files = load(arguments.filters.vectors.as_ref())?;
    let selection = select(&arguments.filters)?;
    let text = terminal::list(&selection.cases(&files), &terminal::Paint::stdout());
    if text.is_empty() {
        return Err(Trouble::usage("nothing is selected"));
    }
    print!("{text}");
    Ok(End::Expected)
}

fn show(arguments: &ShowArguments) -> Result<End, Trouble> {
    let files = load(arguments.vectors.as_ref())?;
    let all = Selection::default();
    let cases = all.cases(&files);
    let Some((file, group, case)) = cases.iter().find(|(_, _, case)| case.id == arguments.id)
    else {
        return Err(Trouble::usage(format!("there is no case {}", arguments.id)));
    };
    print!(
        "{}",
        terminal::show(file, group, case, &terminal::Paint::stdout())
    );
    Ok(End::Expected)
}
