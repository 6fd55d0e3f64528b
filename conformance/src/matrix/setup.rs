//! The setup of a run: implementations, releases and runtimes, installed, and the planned units.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use blake2::{Blake2b, Digest, digest::consts::U16};
use serde_json::json;

use super::answers::{self, layers_of};
use super::arguments::{Done, MatrixArguments, MatrixError, environment};
use super::bare::bare_complaint;
use super::cell::{NODE, PartId};
use super::gate::Rules;
use super::peers::Player;
use super::plan::{Costs, Unit};
use super::report::Subject;
use crate::adapter::AdapterCommand;
use crate::node;
use crate::npm::Npm;
use crate::npm::cache::{Cache, CacheError, Release, Runtime, sort_versions, transport_of};
use crate::out;
use crate::run::Run;
use crate::vectors::{self, VectorFile};

/// An implementation that is tested with the releases.
#[derive(Clone, Debug)]
pub(super) struct Implementation {
    pub(super) name: String,
    pub(super) command: AdapterCommand,
    /// Its replication peer, if it has one.
    pub(super) player: Option<Player>,
    /// The release of Node that it is, if any.
    pub(super) release: Option<String>,
}

/// Everything that a run needs.
pub(super) struct Matrix<'a> {
    pub(super) arguments: &'a MatrixArguments,
    cache: Cache,
    pub(super) examples: PathBuf,
    pub(super) files: Vec<VectorFile>,
    pub(super) implementations: Vec<Implementation>,
    pub(super) releases: Vec<Subject>,
    pub(super) runtimes: Vec<Subject>,
    pub(super) installed: BTreeMap<String, Release>,
    pub(super) started: BTreeMap<String, Runtime>,
    pub(super) units: Vec<Unit>,
    pub(super) set: String,
    /// The packages of the transport that the vectors were recorded from, with their digests.
    pub(super) pinned: Vec<(String, String)>,
    /// Each implementation's answers to all vectors, requested once.
    answers: BTreeMap<String, OnceLock<Result<Arc<Run>, String>>>,
    /// Progress is printed by one thread at a time.
    told: Mutex<()>,
}

impl<'a> Matrix<'a> {
    /// Resolves the arguments and plans the run.
    pub(super) fn prepare(arguments: &'a MatrixArguments, rules: &Rules) -> Done<Self> {
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
        // First, so that a mistake there does not cost an installation.
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

    /// The exact versions for specs. Missing ones are recorded, in npm's words.
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

    pub(super) fn note_release(&mut self, name: &str, asked: &str, error: Option<&CacheError>) {
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

    /// Installs runtimes, and returns the names of those that start and of those that do not.
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
                        subject.unavailable = bare_complaint(&runtime, &self.examples);
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
                for part in PartId::all().filter(|part| part.unit() == *part) {
                    let mut own = PartId::all().filter(|own| own.unit() == part);
                    let wanted = own.any(|own| self.wants(own));
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

    /// Whether a part is selected.
    pub(super) fn wants(&self, part: PartId) -> bool {
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

    /// An implementation's answers to all vectors, requested on first use.
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
            // The union of the layers that the releases of this run need.
            let layers = asks.max_by_key(Vec::len).unwrap_or_default();
            let asking = answers::ask(&implementation.command, &self.files, &layers, release);
            block_on(asking)?.map(Arc::new)
        });
        answer.clone()
    }

    /// The release and the runtime of a unit.
    pub(super) fn subject_of(&self, unit: &Unit) -> Result<(&Release, &Runtime), String> {
        let missing = || format!("{} on {} is not here", unit.release, unit.runtime);
        let release = self.installed.get(&unit.release).ok_or_else(missing)?;
        let runtime = self.started.get(&unit.runtime).ok_or_else(missing)?;
        Ok((release, runtime))
    }

    /// The adapter of the release of a unit.
    pub(super) fn adapter_of(&self, unit: &Unit) -> Result<AdapterCommand, String> {
        let (release, runtime) = self.subject_of(unit)?;
        Ok(self.node_command(runtime, release))
    }

    /// All versions that the registry serves.
    pub(super) fn served(&self) -> Vec<String> {
        self.cache
            .versions("hypercore", ">=10.0.0")
            .map(|(versions, _)| versions)
            .unwrap_or_default()
    }

    pub(super) fn digest(&self, costs: &Costs) -> String {
        let names: Vec<&String> = self.implementations.iter().map(|one| &one.name).collect();
        let plan = format!("{:?} {costs:?} {names:?}", self.units);
        hex::encode(Blake2b::<U16>::digest(plan))
    }

    /// Installs the releases of some units, several at a time.
    pub(super) fn install(&mut self, units: &[Unit]) {
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

    /// Why a unit can't be run, if so.
    pub(super) fn missing(&self, unit: &Unit) -> Option<String> {
        let of = |subjects: &[Subject], name: &str| {
            let subject = subjects.iter().find(|subject| subject.name == name);
            subject.and_then(|subject| subject.unavailable.clone())
        };
        of(&self.releases, &unit.release).or_else(|| of(&self.runtimes, &unit.runtime))
    }

    pub(super) fn say(&self, line: &str) {
        if self.arguments.quiet {
            return;
        }
        let _one = lock(&self.told);
        out::note(line);
    }
}

/// Blocks this thread on a future.
pub(super) fn block_on<F: Future>(future: F) -> Result<F::Output, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    Ok(runtime.map_err(|error| error.to_string())?.block_on(future))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
