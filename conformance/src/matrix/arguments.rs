//! The arguments of the command, and its errors.

use std::path::PathBuf;

use clap::Args;

use super::cell::PartId;
use super::plan::Shard;
use super::render::OfMatrix;
use crate::report::files::ReportFiles;

const HELP: &str = "\
A RELEASE is an exact version, a range or a dist-tag, of which the newest is taken: 11.5.0, ^10.30.0, latest. With `every:` \
before it, all that fit are taken: `every:>=11.35.0`.

A RUNTIME is `system`, the Node on the PATH; a version of npm's `node` package, as 22; or `bare`.

An IMPLEMENTATION is `reference`; `node`, the pinned release of Node, which the others are judged against; `node@RELEASE`, \
another one; or NAME=COMMAND, an adapter.

A cell is passed; limited, if Node itself fails the same checks in the same place; drifted, if a release writes or reads \
something else than was recorded of its line; failed; unsupported; or unavailable.

Exit codes: 0 all as expected; 1 a required cell did not come out right, or an expected failure passed; 2 wrong usage; 3 \
something is missing here.";

/// What to run, and what to write.
#[derive(Args, Clone, Debug)]
#[command(after_help = HELP)]
pub struct MatrixArguments {
    /// A release of hypercore; may be repeated. Unless any is given, those of the set
    #[arg(long = "release", value_name = "RELEASE")]
    pub(super) releases: Vec<String>,
    /// The set of releases and runtimes in the rules
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(super) set: String,
    /// A runtime for the releases; may be repeated. Unless any is given, those of the set
    #[arg(long = "runtime", value_name = "RUNTIME")]
    pub(super) runtimes: Vec<String>,
    /// An implementation; may be repeated. Unless any is given: reference, node
    #[arg(long = "implementation", value_name = "IMPLEMENTATION")]
    pub(super) implementations: Vec<String>,
    /// Only this part: drift, vectors, live or replication; may be repeated
    #[arg(long = "part", value_name = "PART")]
    pub(super) parts: Vec<PartId>,
    /// Where releases and runtimes are installed
    #[arg(long, value_name = "FOLDER")]
    pub(super) cache: Option<PathBuf>,
    /// Never ask the registry: only what is in the caches is there
    #[arg(long)]
    pub(super) offline: bool,
    /// Another registry than npm is set up for
    #[arg(long, value_name = "URL", hide = true)]
    pub(super) registry: Option<String>,
    /// How many jobs run at a time; one more than there are processors, if not given, for many wait
    #[arg(short, long, value_name = "N")]
    pub(super) jobs: Option<usize>,
    /// Only this part of all cells, as 2/5
    #[arg(long, value_name = "I/N")]
    pub(super) shard: Option<Shard>,
    /// An earlier report, by whose times the shards are cut
    #[arg(long, value_name = "FILE")]
    pub(super) costs: Option<PathBuf>,
    /// An earlier report: what changed since is told
    #[arg(long, value_name = "FILE")]
    pub(super) baseline: Option<PathBuf>,
    /// The sets, the required cells and the expected failures
    #[arg(long, value_name = "FILE")]
    pub(super) rules: Option<PathBuf>,
    /// Run nothing: merge these reports, and judge and write the whole
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["shard", "releases", "runtimes", "implementations"])]
    pub(super) merge: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) reports: ReportFiles<OfMatrix>,
    /// For the history, install releases in between until each change has its exact release
    #[arg(long, requires = "history")]
    pub(super) bisect: bool,
    /// No lines about how it goes
    #[arg(short, long)]
    pub(super) quiet: bool,
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MatrixError {
    /// The arguments or the rules are invalid.
    #[error("{0}")]
    Usage(String),
    /// Something is missing.
    #[error("{0}")]
    Environment(String),
}

pub(super) type Done<T> = Result<T, MatrixError>;

pub(super) fn environment(error: &dyn std::fmt::Display) -> MatrixError {
    MatrixError::Environment(error.to_string())
}
