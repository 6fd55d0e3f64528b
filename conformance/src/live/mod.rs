//! Live scenarios: an implementation and Node's own packages, connected by TCP, play the scenarios of `features/`.
//!
//! Both ends are adapters. A step requests a `peer.*` operation from one of them or waits for one of its events; it
//! never sleeps, and waits at most ten seconds.

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

/// The tag of scenarios that Node does not survive as the implementation under test.
const NEVER_TOWARDS_NODE: &str = "never-towards-node";

/// The tag of scenarios that need features of hypercore 11; they are not run with earlier releases.
const SINCE_11: &str = "since-hypercore-11";

/// The time-out of one operation of a live adapter.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);

type Release = Arc<str>;

/// The configuration of a run of scenarios.
#[derive(Clone, Debug)]
pub struct LiveConfig {
    /// The implementation under test.
    pub implementation: Reach,
    /// Whether its answers are validated against the JSON schema.
    pub validate: bool,
    /// The Node adapter, without its `--release`.
    pub node: AdapterCommand,
    /// The hypercore releases to play against; scenarios for others are left out.
    pub releases: Vec<String>,
    /// Whether to record the wire for scenarios that fail; all of them then run through a relay.
    pub record: bool,
    /// Commands of peers that replace a release.
    pub stand_ins: HashMap<String, AdapterCommand>,
    /// The folder of the features.
    pub features: PathBuf,
    /// How many scenarios run at a time.
    pub concurrency: usize,
    /// Whether the ends of a failed scenario also play the next one, provided that both close the stream on request.
    pub keep_after_failure: bool,
}

impl LiveConfig {
    /// The scenarios of this repository, against every release that is installed.
    pub fn new(implementation: impl Into<Reach>, node: AdapterCommand) -> Self {
        let implementation = implementation.into();
        // In a debugger, scenarios run one at a time.
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
    /// Its location: file and line.
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

/// The outcome of a scenario.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ScenarioOutcome {
    /// Every step passed.
    Passed,
    /// A step failed, or matches no step function.
    Failed,
    /// The implementation did not declare an operation that a step needs.
    Unsupported,
}

/// The result of a scenario.
#[derive(Clone, Debug)]
pub struct ScenarioResult {
    /// The scenario.
    pub scenario: ScenarioInfo,
    /// Its outcome.
    pub outcome: ScenarioOutcome,
    /// The step that did not pass and why, and the reports of both ends; empty if it passed.
    pub failure: String,
    /// The recorded wire, if it failed and recording was on.
    pub recording: Option<Recording>,
    /// How long it took.
    pub duration: Duration,
}

/// The records of a failed scenario: of the implementation first, and of Node second.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// The requests to and reports of each end, line by line.
    pub log: [Vec<String>; 2],
    /// The end of each one's stderr.
    pub stderr: [String; 2],
    /// The connections in order.
    pub connections: Vec<Connection>,
}

/// The recorded bytes of one connection.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// Keys of the cores whose channels were opened, in hex.
    pub cores: Vec<String>,
    /// Chunks of bytes, each with its sender: `initiator` or `responder`.
    pub chunks: Vec<(&'static str, Vec<u8>)>,
    /// Node's event of its completed handshake, with the keys of both directions.
    pub handshake: Option<serde_json::Value>,
}

impl Connection {
    /// The connection as the input of `transcript.decode`; unknown keys are left out.
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

/// The results of all scenarios.
#[derive(Clone, Debug, Default)]
pub struct LiveSummary {
    /// The results, in the order in which the scenarios finished.
    pub scenarios: Vec<ScenarioResult>,
    /// Features that could not be read.
    pub errors: Vec<String>,
}

impl LiveSummary {
    /// The number of scenarios with this outcome.
    pub fn count(&self, outcome: ScenarioOutcome) -> usize {
        self.scenarios
            .iter()
            .filter(|result| result.outcome == outcome)
            .count()
    }
}

/// Runs the scenarios that `filter` accepts, and passes each result to `report` as it arrives.
///
/// If Node is the implementation, scenarios that would crash it are left out, and for hypercore 10 those that need
/// features of 11.
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

/// The state shared by the scenarios of one run: started adapters that wait for the next scenario.
#[derive(Debug)]
struct Context {
    config: LiveConfig,
    idle: tokio::sync::Mutex<HashMap<Option<Release>, Vec<AdapterProcess>>>,
    /// The reports of the ends of failed scenarios, by the scenario's location.
    details: Mutex<HashMap<String, String>>,
    /// Their recorded connections.
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
