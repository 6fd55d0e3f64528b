//! The command: resolves, installs, runs, judges and tells.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use blake2::{Blake2b, Digest, digest::consts::U16};
use clap::Args;
use serde_json::json;

use super::cache::{Cache, CacheError, Release, Runtime, sort_versions, transport_of};
use super::cell::{Cell, CellId, NODE, Part, State, compare_with_node};
use super::gate::{Rules, changes, judge, settled};
use super::npm::Npm;
use super::plan::{Costs, Shard, Unit, shard};
use super::report::{BISECT, FORMAT, KIND, MatrixReport, Subject};
use super::wire::layers_of;
use super::{cells, columns, history, page, scenarios, table};
use crate::adapter::AdapterCommand;
use crate::node;
use crate::out::{self, ReportFile};
use crate::report::model::Suite;
use crate::run::Run;
use crate::term::Paint;
use crate::vectors::{self, VectorFile};

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
    releases: Vec<String>,
    /// The set of releases and runtimes in the rules
    #[arg(long, value_name = "NAME", default_value = "default")]
    set: String,
    /// A runtime for the releases; may be repeated. Unless any is given, those of the set
    #[arg(long = "runtime", value_name = "RUNTIME")]
    runtimes: Vec<String>,
    /// An implementation; may be repeated. Unless any is given: reference, node
    #[arg(long = "implementation", value_name = "IMPLEMENTATION")]
    implementations: Vec<String>,
    /// Only this part: drift, vectors, live or replication; may be repeated
    #[arg(long = "part", value_name = "PART")]
    parts: Vec<Part>,
    /// Where releases and runtimes are installed
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// Never ask the registry: only what is in the caches is there
    #[arg(long)]
    offline: bool,
    /// Another registry than npm is set up for
    #[arg(long, value_name = "URL", hide = true)]
    registry: Option<String>,
    /// How many jobs run at a time; one more than there are processors, if not given, for many wait
    #[arg(short, long, value_name = "N")]
    jobs: Option<usize>,
    /// Only this part of all cells, as 2/5
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// An earlier report, by whose times the shards are cut
    #[arg(long, value_name = "FILE")]
    costs: Option<PathBuf>,
    /// An earlier report: what changed since is told
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// The sets, the required cells and the expected failures
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Run nothing: merge these reports, and judge and write the whole
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["shard", "releases", "runtimes", "implementations"])]
    merge: Vec<PathBuf>,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the matrix as a page in Markdown
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Write the matrix as a page for browsers, with the checks behind each cell
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write what changed on the wire, and when, as a page in Markdown
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// For the history, install releases in between until each change has its exact release
    #[arg(long, requires = "history")]
    bisect: bool,
    /// No lines about how it goes
    #[arg(short, long)]
    quiet: bool,
}

/// Why the command could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MatrixError {
    /// The arguments or the rules make no sense.
    #[error("{0}")]
    Usage(String),
    /// Something is missing here.
    #[error("{0}")]
    Environment(String),
}

/// How it came out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// All is as expected.
    Expected,
    /// A required cell did not come out right, or an expected failure passed.
    Regression,
    /// Something that was wanted is missing here.
    Incomplete,
}

type Done<T> = Result<T, MatrixError>;

/// Runs it.
///
/// # Errors
/// If the arguments make no sense, or nothing can be run here.
pub fn run(arguments: &MatrixArguments) -> Done<Verdict> {
    let usage = MatrixError::Usage;
    let rules = Rules::of(arguments.rules.as_deref()).map_err(usage)?;
    let open = |path: &Option<PathBuf>| {
        ReportFile::open_if(path.as_ref()).map_err(|error| environment(&error))
    };
    let baseline = read_optional(arguments.baseline.as_deref())?;
    let costs = read_optional(arguments.costs.as_deref())?;
    // The files are tried before the run, and all that can be written are, whatever becomes of the others.
    let (json_file, page_file, html_file, history_file) = (
        open(&arguments.json)?,
        open(&arguments.page)?,
        open(&arguments.html)?,
        open(&arguments.history)?,
    );
    let mut report = if arguments.merge.is_empty() {
        let costs = Costs::from_cells(costs.as_ref().map_or(&[], |report| &report.cells));
        Matrix::prepare(arguments, &rules)?.run(&costs)?
    } else {
        let reports = arguments.merge.iter().map(|path| MatrixReport::read(path));
        let reports = reports.collect::<Result<_, _>>().map_err(usage)?;
        MatrixReport::merge(reports).map_err(usage)?
    };
    report.judgement = judge(&rules, &mut report.cells);
    let settled = |cells: &[Cell]| settled(&rules, cells);
    report.changes =
        baseline.map(|baseline| changes(&settled(&baseline.cells), &settled(&report.cells)));
    let written = [
        write(json_file, || Ok(report.to_json())),
        write(page_file, || Ok(page::markdown(&report, &rules))),
        write(html_file, || Ok(columns::page(&report))),
        write(history_file, || {
            let files = vectors::load(&vectors::default_folder());
            let files = files.map_err(|error| environment(&error))?;
            Ok(history::markdown(&report, &files))
        }),
    ];
    let printed = out::print(&table::text(&report, &Paint::stdout()));
    written.into_iter().collect::<Done<()>>()?;
    printed.map_err(|error| environment(&error))?;
    // Of a part of the cells it can't be said that a rule applies to none.
    let has = |part: &Part| report.cells.iter().any(|cell| cell.id.part == *part);
    let whole = report.set == "default"
        && report.shard == Shard::WHOLE
        && Part::ALL.iter().all(has)
        && arguments.implementations.is_empty();
    if whole && !report.judgement.idle.is_empty() {
        let idle = report.judgement.idle.join("\n  ");
        return Err(usage(format!("rules that apply to no cell:\n  {idle}")));
    }
    Ok(
        if !report.judgement.regressions.is_empty() || !report.judgement.passes.is_empty() {
            Verdict::Regression
        } else if report.lacks_something_here() || !report.judgement.missing.is_empty() {
            Verdict::Incomplete
        } else {
            Verdict::Expected
        },
    )
}

fn read_optional(path: Option<&Path>) -> Done<Option<MatrixReport>> {
    path.map(MatrixReport::read)
        .transpose()
        .map_err(MatrixError::Usage)
}

fn write(file: Option<ReportFile>, text: impl FnOnce() -> Done<String>) -> Done<()> {
    let Some(file) = file else { return Ok(()) };
    file.write(&text()?).map_err(|error| environment(&error))
}

fn environment(error: &dyn std::fmt::Display) -> MatrixError {
    MatrixError::Environment(error.to_string())
}

/// Who is held against the releases.
#[derive(Clone, Debug)]
pub(super) struct Implementation {
    pub(super) name: String,
    pub(super) command: AdapterCommand,
    /// What replicates cores in its name, if it can.
    pub(super) player: Option<super::replication::Player>,
    /// The release of Node that it is.
    pub(super) release: Option<String>,
}

/// All that a run needs.
pub(super) struct Matrix<'a> {
    arguments: &'a MatrixArguments,
    cache: Cache,
    pub(super) examples: PathBuf,
    pub(super) files: Vec<VectorFile>,
    pub(super) implementations: Vec<Implementation>,
    releases: Vec<Subject>,
    runtimes: Vec<Subject>,
    pub(super) installed: BTreeMap<String, Release>,
    pub(super) started: BTreeMap<String, Runtime>,
    units: Vec<Unit>,
    set: String,
    /// The packages of the transport that the vectors were recorded from, each with its digest.
    pub(super) pinned: Vec<(String, String)>,
    /// What each implementation answered to all vectors, asked once.
    answers: BTreeMap<String, OnceLock<Result<Arc<Run>, String>>>,
    /// How it goes is told by one thread at a time.
    told: Mutex<()>,
}

impl<'a> Matrix<'a> {
    fn prepare(arguments: &'a MatrixArguments, rules: &Rules) -> Done<Self> {
        let set = rules.set.get(&arguments.set).ok_or_else(|| {
            let known: Vec<&str> = rules.set.keys().map(String::as_str).collect();
            MatrixError::Usage(format!(
                "there is no set {}; there are {}",
                arguments.set,
                known.join(", ")
            ))
        })?;
        let examples = node::ensure_node_modules().map_err(|error| environment(&error))?;
        let files =
            vectors::load(&vectors::default_folder()).map_err(|error| environment(&error))?;
        let npm = Npm {
            offline: arguments.offline,
            registry: arguments.registry.clone(),
            ..Npm::default()
        };
        let root = arguments.cache.clone().unwrap_or_else(Cache::default_root);
        let given = !arguments.releases.is_empty() || !arguments.runtimes.is_empty();
        let mut matrix = Self {
            arguments,
            cache: Cache::new(root, npm),
            files,
            implementations: Vec::new(),
            releases: Vec::new(),
            runtimes: Vec::new(),
            installed: BTreeMap::new(),
            started: BTreeMap::new(),
            units: Vec::new(),
            pinned: transport_of(&examples),
            examples,
            set: if given {
                "given".into()
            } else {
                arguments.set.clone()
            },
            answers: BTreeMap::new(),
            told: Mutex::default(),
        };
        // First, for a slip there should not cost an installation.
        matrix.add_implementations()?;
        let or = |given: &[String], else_: &[String]| {
            if given.is_empty() {
                else_.to_vec()
            } else {
                given.to_vec()
            }
        };
        let releases = matrix.resolve(&or(&arguments.releases, &set.releases))?;
        let system = ["system".to_owned()];
        let runtimes = matrix.start(&or(&arguments.runtimes, &system));
        matrix.plan(&releases, &runtimes);
        if arguments.runtimes.is_empty() && arguments.releases.is_empty() {
            let releases = matrix.resolve(&set.on_runtimes)?;
            let runtimes = matrix.start(&set.runtimes);
            matrix.plan(&releases, &runtimes);
        }
        Ok(matrix)
    }

    /// The exact versions behind specs. What is not served is noted, in npm's words.
    fn resolve(&mut self, specs: &[String]) -> Done<Vec<String>> {
        let mut resolved = Vec::new();
        for spec in specs {
            let (wanted, every) = match spec.strip_prefix("every:") {
                Some(range) => (range, true),
                None => (spec.as_str(), false),
            };
            if semver::Version::parse(wanted).is_err() {
                self.say(&format!("asking npm's registry for hypercore@{wanted}"));
            }
            match self.cache.versions("hypercore", wanted) {
                Ok((versions, _)) => {
                    let last = versions.len().saturating_sub(1);
                    let taken = if every {
                        &versions[..]
                    } else {
                        &versions[last..]
                    };
                    for version in taken {
                        self.note_release(version, spec, None);
                        resolved.push(version.clone());
                    }
                }
                Err(error) => self.note_release(spec, spec, Some(&error)),
            }
        }
        sort_versions(&mut resolved);
        resolved.dedup();
        Ok(resolved)
    }

    fn note_release(&mut self, name: &str, asked: &str, error: Option<&CacheError>) {
        let subject = Subject {
            name: name.to_owned(),
            asked: asked.to_owned(),
            unavailable: error.map(ToString::to_string),
            environment: error.is_some_and(CacheError::is_environment),
            ..Subject::default()
        };
        match self.releases.iter_mut().find(|other| other.name == name) {
            Some(other) if error.is_some() => *other = subject,
            Some(_) => {}
            None => self.releases.push(subject),
        }
    }

    /// Installs runtimes, and gives the names of those that start and of those that do not.
    fn start(&mut self, specs: &[String]) -> Vec<String> {
        let mut names = Vec::new();
        for spec in specs {
            self.say(&format!("runtime {spec}"));
            let made = self.cache.runtime(spec);
            let mut subject = Subject {
                asked: spec.clone(),
                ..Subject::default()
            };
            match made {
                Ok(runtime) => {
                    subject.name = runtime.name.clone();
                    subject.version = Some(runtime.version.clone());
                    if runtime.name == "bare" {
                        subject.unavailable = cells::bare_complaint(&runtime, &self.examples);
                    }
                    if subject.unavailable.is_none() {
                        self.started.entry(runtime.name.clone()).or_insert(runtime);
                    }
                }
                Err(error) => {
                    subject.name = if spec == "bare" {
                        "bare".into()
                    } else {
                        format!("node{spec}")
                    };
                    subject.unavailable = Some(error.to_string());
                    subject.environment = error.is_environment();
                }
            }
            names.push(subject.name.clone());
            if !self.runtimes.iter().any(|other| other.name == subject.name) {
                self.runtimes.push(subject);
            }
        }
        names
    }

    fn plan(&mut self, releases: &[String], runtimes: &[String]) {
        for release in releases {
            for runtime in runtimes {
                for part in [Part::Drift, Part::Live, Part::Replication] {
                    let wanted =
                        self.wants(part) || part == Part::Drift && self.wants(Part::Vectors);
                    let unit = Unit {
                        release: release.clone(),
                        runtime: runtime.clone(),
                        part,
                    };
                    if wanted && !self.units.contains(&unit) {
                        self.units.push(unit);
                    }
                }
            }
        }
    }

    /// Whether a part is asked for.
    pub(super) fn wants(&self, part: Part) -> bool {
        self.arguments.parts.is_empty() || self.arguments.parts.contains(&part)
    }

    fn add_implementations(&mut self) -> Done<()> {
        let usual = ["reference".to_owned(), NODE.to_owned()];
        let specs = if self.arguments.implementations.is_empty() {
            &usual[..]
        } else {
            &self.arguments.implementations
        };
        for spec in specs {
            let made = self.implementation(spec)?;
            if self
                .implementations
                .iter()
                .any(|other| other.name == made.name)
            {
                return Err(MatrixError::Usage(format!(
                    "two implementations are called {}",
                    made.name
                )));
            }
            self.answers.insert(made.name.clone(), OnceLock::new());
            self.implementations.push(made);
        }
        Ok(())
    }

    fn implementation(&mut self, spec: &str) -> Done<Implementation> {
        use super::replication::Player;
        if spec == "reference" {
            return Ok(Implementation {
                name: spec.into(),
                command: AdapterCommand::reference().map_err(|error| environment(&error))?,
                player: Some(Player::Reference),
                release: None,
            });
        }
        let system = self
            .cache
            .runtime("system")
            .map_err(|error| environment(&error))?;
        if spec == NODE {
            let pinned = node::RELEASES[node::RELEASES.len() - 1];
            let mut command = node::adapter_command(&self.examples);
            command
                .args
                .extend(["--release".to_owned(), pinned.to_owned()]);
            return Ok(Implementation {
                name: spec.into(),
                command,
                player: Some(Player::Node(json!({ "release": pinned }), system)),
                release: Some(pinned.into()),
            });
        }
        if let Some(wanted) = spec.strip_prefix("node@") {
            let (versions, _) = self
                .cache
                .versions("hypercore", wanted)
                .map_err(|error| environment(&error))?;
            let version = versions.last().cloned().unwrap_or_default();
            let release = self
                .cache
                .release(&version)
                .map_err(|error| environment(&error))?;
            return Ok(Implementation {
                name: format!("node@{version}"),
                command: self.node_command(&system, &release),
                player: Some(Player::Node(json!({ "packages": release.folder }), system)),
                release: Some(version),
            });
        }
        let usage = |reason: &str| MatrixError::Usage(format!("--implementation {spec}: {reason}"));
        let (name, line) = spec
            .split_once('=')
            .ok_or_else(|| usage("not reference, node, node@RELEASE or NAME=COMMAND"))?;
        if name.is_empty() || name.contains('/') || [NODE, "reference"].contains(&name) {
            return Err(usage("the name is taken, empty, or has a slash"));
        }
        Ok(Implementation {
            name: name.into(),
            command: AdapterCommand::parse(line).map_err(|error| usage(&error))?,
            player: None,
            release: None,
        })
    }

    /// The adapter of an installed release on a runtime.
    pub(super) fn node_command(&self, runtime: &Runtime, release: &Release) -> AdapterCommand {
        let adapter = self.examples.join("adapter.js");
        let words: [&Path; 3] = [&adapter, Path::new("--packages"), &release.folder];
        AdapterCommand::new(
            &runtime.program,
            words.map(|word| word.display().to_string()),
        )
    }

    /// What an implementation answers to all vectors, asked by whoever wants it first.
    pub(super) fn answers_of(&self, implementation: &Implementation) -> Result<Arc<Run>, String> {
        let asked = self
            .answers
            .get(&implementation.name)
            .ok_or("not an implementation of this run")?;
        let answer = asked.get_or_init(|| {
            let release = implementation.release.as_deref();
            let asks = self
                .installed
                .values()
                .map(|one| layers_of(one, &self.pinned));
            // All that any release of this run is asked.
            let layers = asks.max_by_key(Vec::len).unwrap_or_default();
            let asking = super::wire::ask(&implementation.command, &self.files, &layers, release);
            cells::block_on(asking)?.map(Arc::new)
        });
        answer.clone()
    }

    fn run(mut self, costs: &Costs) -> Done<MatrixReport> {
        let began = Instant::now();
        if self.units.is_empty()
            && self
                .releases
                .iter()
                .all(|release| release.unavailable.is_none())
        {
            return Err(MatrixError::Usage("nothing is selected".into()));
        }
        let plan = self.digest(costs);
        let own = self.arguments.shard.unwrap_or(Shard::WHOLE);
        let units = shard(std::mem::take(&mut self.units), costs, own);
        let served = self.served();
        self.install(&units);
        let mut found = self.run_all(&units);
        if self.arguments.bisect {
            let runtime = self
                .runtimes
                .first()
                .map(|runtime| runtime.name.clone())
                .unwrap_or_default();
            loop {
                let versions = history::next(&found, &self.files, &served);
                if versions.is_empty() {
                    break;
                }
                for version in &versions {
                    self.note_release(version, BISECT, None);
                }
                let unit = |release| Unit {
                    release,
                    runtime: runtime.clone(),
                    part: Part::Drift,
                };
                let more: Vec<Unit> = versions.into_iter().map(unit).collect();
                self.install(&more);
                found.extend(self.run_all(&more));
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        compare_with_node(&mut found);
        self.releases
            .sort_by_cached_key(|subject| semver::Version::parse(&subject.name).ok());
        Ok(MatrixReport {
            format: FORMAT,
            kind: KIND.into(),
            suite: Suite::this(),
            set: self.set.clone(),
            shard: own,
            plan,
            implementations: self
                .implementations
                .iter()
                .map(|one| one.name.clone())
                .collect(),
            releases: self.releases.clone(),
            runtimes: self.runtimes.clone(),
            served,
            seconds: began.elapsed().as_secs_f64(),
            checks: Vec::new(),
            cells: found,
            judgement: super::gate::Judgement::default(),
            changes: None,
        })
    }

    /// All versions that the registry serves.
    fn served(&self) -> Vec<String> {
        self.cache
            .versions("hypercore", ">=10.0.0")
            .map(|(versions, _)| versions)
            .unwrap_or_default()
    }

    fn digest(&self, costs: &Costs) -> String {
        let names: Vec<&String> = self.implementations.iter().map(|one| &one.name).collect();
        let plan = format!("{:?} {costs:?} {names:?}", self.units);
        hex::encode(Blake2b::<U16>::digest(plan))
    }

    /// Installs the releases of some units, several at a time.
    fn install(&mut self, units: &[Unit]) {
        let mut wanted: Vec<String> = units.iter().map(|unit| unit.release.clone()).collect();
        wanted.sort();
        wanted.dedup();
        wanted.retain(|version| !self.installed.contains_key(version));
        let made = Mutex::new(Vec::new());
        let queue = Mutex::new(wanted.into_iter().collect::<VecDeque<_>>());
        let this = &*self;
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Some(version) = { lock(&queue).pop_front() } {
                        let began = Instant::now();
                        let release = this.cache.release(&version);
                        let took = began.elapsed();
                        match &release {
                            Ok(_) if took > Duration::from_secs(1) => {
                                this.say(&format!(
                                    "hypercore {version} installed in {} s",
                                    took.as_secs()
                                ));
                            }
                            Ok(_) => {}
                            Err(error) => {
                                this.say(&format!("hypercore {version} does not install: {error}"))
                            }
                        }
                        lock(&made).push((version, release));
                    }
                });
            }
        });
        for (version, release) in made.into_inner().unwrap_or_else(PoisonError::into_inner) {
            match release {
                Ok(release) => {
                    if let Some(subject) = self
                        .releases
                        .iter_mut()
                        .find(|subject| subject.name == version)
                    {
                        subject.packages.clone_from(&release.packages);
                    }
                    self.installed.insert(version, release);
                }
                Err(error) => {
                    let asked = self.releases.iter().find(|subject| subject.name == version);
                    let asked = asked.map_or(version.clone(), |subject| subject.asked.clone());
                    self.note_release(&version, &asked, Some(&error));
                }
            }
        }
    }

    fn run_all(&self, units: &[Unit]) -> Vec<Cell> {
        let jobs: Vec<cells::Job> = units.iter().flat_map(|unit| self.jobs(unit)).collect();
        let total = jobs.len();
        let queue = Queue::new(jobs);
        let found = Mutex::new(Vec::new());
        let threads = self.arguments.jobs.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get) + 1
        });
        let began = Instant::now();
        // The library that plays scenarios puts a silent hook in the place of the one that it finds, and that back when it is
        // done: two of them at a time would leave the silent one, or let scenarios speak.
        let hook = Arc::new(std::panic::take_hook());
        let loud = Arc::clone(&hook);
        std::panic::set_hook(Box::new(move |info| {
            if !scenarios::is_playing() {
                loud(info);
            }
        }));
        std::thread::scope(|scope| {
            for _ in 0..threads.clamp(1, total.max(1)) {
                scope.spawn(|| {
                    while let Some(job) = queue.take() {
                        let made = self.do_job(&job);
                        let done = queue.finish(&job);
                        self.say(&progress(&made, began.elapsed(), done, total));
                        lock(&found).extend(made);
                    }
                });
            }
        });
        std::panic::set_hook(Box::new(move |info| hook(info)));
        found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a unit can't be run, if it can't.
    pub(super) fn missing(&self, unit: &Unit) -> Option<String> {
        let of = |subjects: &[Subject], name: &str| {
            let subject = subjects.iter().find(|subject| subject.name == name);
            subject.and_then(|subject| subject.unavailable.clone())
        };
        of(&self.releases, &unit.release).or_else(|| of(&self.runtimes, &unit.runtime))
    }

    fn say(&self, line: &str) {
        if self.arguments.quiet {
            return;
        }
        let _one = lock(&self.told);
        out::note(line);
    }
}

/// How many jobs play live scenarios at a time: each plays several of them already, and one alone leaves processors idle
/// whenever its last scenarios wait.
const PLAYING: usize = 2;

/// Jobs that wait.
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

struct QueueState {
    waiting: VecDeque<cells::Job>,
    playing: usize,
    done: usize,
}

impl Queue {
    fn new(jobs: Vec<cells::Job>) -> Self {
        let state = QueueState {
            waiting: jobs.into(),
            playing: 0,
            done: 0,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// The next that can be done now; waits where there is none, until there is one or none is left.
    fn take(&self) -> Option<cells::Job> {
        let mut state = lock(&self.state);
        loop {
            let full = state.playing == PLAYING;
            let next = state.waiting.iter().position(|job| !(full && job.plays()));
            if let Some(job) = next.and_then(|next| state.waiting.remove(next)) {
                state.playing += usize::from(job.plays());
                return Some(job);
            }
            if state.waiting.is_empty() {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says that a job is done, and gives how many are.
    fn finish(&self, job: &cells::Job) -> usize {
        let mut state = lock(&self.state);
        if job.plays() {
            state.playing -= 1;
        }
        state.done += 1;
        self.changed.notify_all();
        state.done
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn progress(made: &[Cell], after: Duration, done: usize, total: usize) -> String {
    let cells: Vec<String> = made
        .iter()
        .map(|cell| {
            let mut text = format!("{} {}", cell.id, cell.state);
            if !cell.faults.is_empty() {
                text += &format!(
                    " ({} of {})",
                    cell.faults.len(),
                    cell.faults.len() + cell.passed
                );
            }
            text
        })
        .collect();
    let cells = if cells.is_empty() {
        "nothing".into()
    } else {
        cells.join("\n          ")
    };
    format!("{:>4} s {done:>3}/{total} {cells}", after.as_secs())
}

/// A cell of an implementation in a unit.
pub(super) fn cell_of(implementation: &str, unit: &Unit, part: Part, role: &str) -> Cell {
    Cell::new(CellId {
        implementation: implementation.to_owned(),
        release: unit.release.clone(),
        runtime: unit.runtime.clone(),
        part,
        role: role.to_owned(),
    })
}

/// Marks a cell as one that can't be run.
pub(super) fn unavailable(cell: Cell, reason: &str) -> Cell {
    Cell {
        state: State::Unavailable,
        note: Some(reason.to_owned()),
        ..cell
    }
}
