//! Live scenarios: an implementation and Node's own packages, connected by TCP, play the scenarios of `features/`.
//!
//! Both ends are adapters. A step asks one of them for a `peer.*` operation or waits for an event of one; it never sleeps,
//! and waits at most ten seconds.

mod collect;
pub mod features;
mod peer;
mod relay;
mod steps;
mod trouble;
mod values;
mod world;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cucumber::{World, WriterExt as _, cli, gherkin};

use crate::adapter::{AdapterCommand, AdapterProcess, Reach};
use collect::Collect;
pub(crate) use peer::Peer;
pub(crate) use trouble::Trouble;
pub(crate) use values::core_key;
use world::LiveWorld;

/// The names of the messages on a hypercore channel, by type.
pub const MESSAGES: [&str; 10] = [
    "sync",
    "request",
    "cancel",
    "data",
    "noData",
    "want",
    "unwant",
    "bitfield",
    "range",
    "extension",
];

/// The tag of scenarios that today's Node does not survive as their target.
const NEVER_TOWARDS_NODE: &str = "never-towards-node";

/// The tag of scenarios that ask for what came with hypercore 11; what came later is not asked of an earlier release.
const SINCE_11: &str = "since-hypercore-11";

/// How long one operation of a live adapter may take.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);

type Release = Arc<str>;

/// What plays the scenarios.
#[derive(Clone, Debug)]
pub struct LiveConfig {
    /// The implementation under test.
    pub implementation: Reach,
    /// Whether each answer of it is checked against the JSON schema.
    pub validate: bool,
    /// The Node adapter, without its `--release`.
    pub node: AdapterCommand,
    /// The hypercore releases to play against; scenarios for others are left out.
    pub releases: Vec<String>,
    /// Whether what crosses the wire is kept of scenarios that fail; all of them then run over a relay.
    pub record: bool,
    /// Whole commands of peers that play in the place of a release.
    pub stand_ins: HashMap<String, AdapterCommand>,
    /// The folder of the features.
    pub features: PathBuf,
    /// How many scenarios run at a time.
    pub concurrency: usize,
    /// Whether the ends of a scenario that failed play the next one too, if both let the stream go when they are told to.
    pub keep_after_failure: bool,
}

impl LiveConfig {
    /// The scenarios of this repository, against every release that is installed.
    pub fn new(implementation: impl Into<Reach>, node: AdapterCommand) -> Self {
        let implementation = implementation.into();
        // Whoever sits in a debugger steps through one at a time.
        let concurrency = match implementation {
            Reach::Start(_) => 4,
            Reach::Attach(_) => 1,
        };
        Self {
            implementation,
            validate: false,
            record: false,
            node,
            releases: crate::node::RELEASES.map(str::to_owned).to_vec(),
            stand_ins: HashMap::new(),
            features: features(),
            concurrency,
            keep_after_failure: false,
        }
    }
}

/// The folder of the features in this repository.
pub fn features() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).join("features")
}

/// A scenario, with the examples of its outline filled in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScenarioInfo {
    /// `live.<feature>.<name in lowercase with hyphens>`; unique over all features.
    pub id: String,
    /// The scenario's name.
    pub name: String,
    /// The name of the feature's file, without its extension.
    pub feature: String,
    /// The clauses of the specification that it tests.
    pub clauses: Vec<String>,
    /// Its other tags.
    pub tags: Vec<String>,
    /// The hypercore release at the other end.
    pub release: Option<String>,
    /// Where it stands: file and line.
    pub location: String,
}

impl ScenarioInfo {
    fn new(feature: &gherkin::Feature, scenario: &gherkin::Scenario) -> Self {
        let file = feature
            .path
            .as_deref()
            .and_then(Path::file_stem)
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        let (clauses, tags) = feature
            .tags
            .iter()
            .chain(&scenario.tags)
            .cloned()
            .partition(|tag| is_clause(tag));
        let table = scenario
            .examples
            .first()
            .and_then(|examples| examples.table.as_ref());
        let release = table.and_then(|table| {
            let [header, row] = table.rows.as_slice() else {
                return None;
            };
            let at = header.iter().position(|name| name == "release")?;
            row.get(at).cloned()
        });
        Self {
            id: format!("live.{file}.{}", slug(&scenario.name)),
            name: scenario.name.clone(),
            location: format!("features/{file}.feature:{}", scenario.position.line),
            feature: file,
            clauses,
            tags,
            release,
        }
    }
}

/// Whether a tag names a clause: capitals, a hyphen and a number.
fn is_clause(tag: &str) -> bool {
    tag.split_once('-').is_some_and(|(family, number)| {
        !family.is_empty()
            && family.bytes().all(|byte| byte.is_ascii_uppercase())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Lowercase letters, digits and dots, with single hyphens between.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || c == '.' {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches(['-', '.']).to_owned()
}

/// Every scenario of the features in a folder, in order of file and line.
///
/// # Errors
/// If the folder or a feature can't be read.
pub fn scenarios(folder: &Path) -> Result<Vec<ScenarioInfo>, String> {
    let mut all = Vec::new();
    for path in features::paths(folder).map_err(|error| error.to_string())? {
        let feature =
            features::scenarios(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let scenarios = feature.scenarios.iter();
        all.extend(scenarios.map(|scenario| ScenarioInfo::new(&feature, scenario)));
    }
    Ok(all)
}

/// The steps of a scenario, as its feature has them, with the examples filled in.
///
/// # Errors
/// If the feature can't be read.
pub fn steps_of(wanted: &ScenarioInfo) -> Result<Vec<String>, String> {
    let path = features().join(format!("{}.feature", wanted.feature));
    let feature =
        features::scenarios(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let scenario = feature
        .scenarios
        .iter()
        .find(|scenario| ScenarioInfo::new(&feature, scenario).id == wanted.id);
    let background = feature.background.iter().flat_map(|part| &part.steps);
    let own = scenario.into_iter().flat_map(|scenario| &scenario.steps);
    let mut lines = Vec::new();
    for step in background.chain(own) {
        lines.push(format!("{}{}", step.keyword, step.value));
        let rows = step.table.iter().flat_map(|table| &table.rows);
        lines.extend(rows.map(|row| format!("  | {} |", row.join(" | "))));
        let text = step.docstring.iter().flat_map(|text| text.lines());
        lines.extend(text.map(|line| format!("  {line}")));
    }
    Ok(lines)
}

/// What became of a scenario.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ScenarioOutcome {
    /// Every step passed.
    Passed,
    /// A step failed, or no step function matches one.
    Failed,
    /// The implementation did not declare an operation that a step needs.
    Unsupported,
}

/// What became of a scenario, and what there is to say about it.
#[derive(Clone, Debug)]
pub struct ScenarioResult {
    /// Which scenario.
    pub scenario: ScenarioInfo,
    /// What became of it.
    pub outcome: ScenarioOutcome,
    /// The step that did not pass and why, and what both ends reported; empty if it passed.
    pub failure: String,
    /// What crossed the wire, if it failed and that was asked for.
    pub recording: Option<Recording>,
    /// How long it took.
    pub duration: Duration,
}

/// What is kept of a scenario that failed: of the implementation first, and of Node second.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// What each end was asked and reported, line by line.
    pub log: [Vec<String>; 2],
    /// The end of what each wrote to stderr.
    pub stderr: [String; 2],
    /// The connections in order.
    pub connections: Vec<Connection>,
}

/// What crossed the wire of one connection.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// Keys of the cores whose channels were opened, in hex.
    pub cores: Vec<String>,
    /// Chunks of bytes, each with its sender: `initiator` or `responder`.
    pub chunks: Vec<(&'static str, Vec<u8>)>,
    /// How Node told its completed handshake, with the keys of both directions.
    pub handshake: Option<serde_json::Value>,
}

impl Connection {
    /// The same as the input of `transcript.decode`; keys that are not known are left out.
    pub fn transcript(&self) -> serde_json::Value {
        use serde_json::json;
        let handshake = self.handshake.clone().unwrap_or_default();
        let (initiator, responder) = match handshake["isInitiator"] == true {
            true => ("tx", "rx"),
            false => ("rx", "tx"),
        };
        let chunks = self
            .chunks
            .iter()
            .map(|(from, bytes)| json!({ "from": from, "bytes": hex::encode(bytes) }));
        json!({
            "handshakeHash": handshake["handshakeHash"],
            "coreKeys": self.cores,
            "initiator": { "key": handshake["keys"][initiator], "handshakeRecords": 2 },
            "responder": { "key": handshake["keys"][responder], "handshakeRecords": 1 },
            "chunks": chunks.collect::<Vec<_>>(),
        })
    }
}

/// What became of all scenarios.
#[derive(Clone, Debug, Default)]
pub struct LiveSummary {
    /// The results, in the order in which the scenarios finished.
    pub scenarios: Vec<ScenarioResult>,
    /// Features that could not be read.
    pub errors: Vec<String>,
}

impl LiveSummary {
    /// How many scenarios had this outcome.
    pub fn count(&self, outcome: ScenarioOutcome) -> usize {
        self.scenarios
            .iter()
            .filter(|result| result.outcome == outcome)
            .count()
    }
}

/// Plays the scenarios that `filter` takes; each result is given to `report` when it is there.
///
/// Where Node is the implementation, scenarios that would end it are left out, and for hypercore 10 those that ask for
/// what came with 11.
pub async fn run(
    config: LiveConfig,
    filter: impl Fn(&ScenarioInfo) -> bool + 'static,
    report: impl FnMut(&ScenarioResult) + Send + 'static,
) -> LiveSummary {
    let context = Arc::new(Context::new(config));
    let own_release = context.own_release().await;
    let releases = context.config.releases.clone();
    let summary = Arc::<Mutex<LiveSummary>>::default();
    let collect = Collect::new(Arc::clone(&context), Arc::clone(&summary), Box::new(report));
    let features = context.config.features.clone();
    let concurrency = context.config.concurrency;

    let cucumber = LiveWorld::cucumber::<PathBuf>()
        .with_parser(features::Features)
        .with_writer(collect.fail_on_skipped())
        .max_concurrent_scenarios(concurrency)
        .after(|feature, _rule, scenario, finished, world| {
            Box::pin(collect::after(feature, scenario, finished, world))
        })
        .with_cli(cli::Opts::<_, _, _, cli::Empty>::default());
    let run = cucumber.filter_run(features, move |feature, _rule, scenario| {
        let info = ScenarioInfo::new(feature, scenario);
        let known = info
            .release
            .as_ref()
            .is_none_or(|release| releases.contains(release));
        let has = |tag: &str| info.tags.iter().any(|own| own == tag);
        let fits = own_release.as_ref().is_none_or(|release| {
            let too_new = has(SINCE_11) && release.starts_with("10.");
            !has(NEVER_TOWARDS_NODE) && !too_new
        });
        known && fits && filter(&info)
    });
    drop(CONTEXT.scope(context, run).await);
    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *summary)
}

tokio::task_local! {
    static CONTEXT: Arc<Context>;
}

/// What the scenarios of one run share: started adapters that wait for the next scenario.
#[derive(Debug)]
struct Context {
    config: LiveConfig,
    idle: tokio::sync::Mutex<HashMap<Option<Release>, Vec<AdapterProcess>>>,
    /// What the ends of failed scenarios reported, by the scenario's place.
    details: Mutex<HashMap<String, String>>,
    /// What crossed the wire meanwhile.
    recordings: Mutex<HashMap<String, Recording>>,
}

impl Context {
    fn new(config: LiveConfig) -> Self {
        Self {
            config,
            idle: tokio::sync::Mutex::default(),
            details: Mutex::default(),
            recordings: Mutex::default(),
        }
    }

    fn current() -> Option<Arc<Self>> {
        CONTEXT.try_with(Arc::clone).ok()
    }

    /// The release of the implementation, if it is Node's own hypercore.
    async fn own_release(&self) -> Option<String> {
        use crate::adapter::Adapter as _;
        let mut adapter = self.implementation().await;
        let hello = adapter.hello().await.ok()?;
        self.give_back(adapter, None).await;
        hello.release
    }

    async fn implementation(&self) -> AdapterProcess {
        match self.take(None).await {
            Some(adapter) => adapter,
            None => {
                let reach = self.config.implementation.clone();
                let attached = matches!(reach, Reach::Attach(_));
                let adapter = AdapterProcess::new(reach).with_validation(self.config.validate);
                if attached {
                    adapter
                } else {
                    adapter.with_timeout(OPERATION_TIMEOUT)
                }
            }
        }
    }

    async fn node(&self, release: &Release) -> AdapterProcess {
        if let Some(adapter) = self.take(Some(release)).await {
            return adapter;
        }
        let command = match self.config.stand_ins.get(&**release) {
            Some(stand_in) => stand_in.clone(),
            None => {
                let mut command = self.config.node.clone();
                let words = ["--release".to_owned(), release.to_string()];
                command.args.extend(words);
                command
            }
        };
        AdapterProcess::new(command).with_timeout(OPERATION_TIMEOUT)
    }

    async fn take(&self, release: Option<&Release>) -> Option<AdapterProcess> {
        let mut idle = self.idle.lock().await;
        idle.get_mut(&release.cloned()).and_then(Vec::pop)
    }

    async fn give_back(&self, adapter: AdapterProcess, release: Option<&Release>) {
        let mut idle = self.idle.lock().await;
        idle.entry(release.cloned()).or_default().push(adapter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_have_unique_ids_and_clauses() {
        let all = scenarios(&features()).expect("the features can be read");
        assert!(all.len() > 300, "{}", all.len());
        let mut ids = std::collections::HashSet::new();
        for scenario in &all {
            assert!(ids.insert(&scenario.id), "twice: {}", scenario.id);
            assert!(!scenario.clauses.is_empty(), "no clause: {}", scenario.id);
            assert!(scenario.release.is_some(), "no release: {}", scenario.id);
        }
    }

    #[test]
    fn tags_that_name_clauses() {
        assert!(is_clause("FLOW-1") && is_clause("BITFIELD-1"));
        assert!(!is_clause("never-towards-node") && !is_clause("FLOW-") && !is_clause("-1"));
    }

    #[test]
    fn slugs_are_plain() {
        assert_eq!(
            slug("An end, as responder with Node 10.38.2"),
            "an-end-as-responder-with-node-10.38.2"
        );
    }
}
