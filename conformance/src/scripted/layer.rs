//! The layers `script` and `deviation` of a run: every conversation and every deviation, with an implementation in both
//! roles.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::play::{Player, stop};
use super::reaction::{End, Reaction, judge};
use super::recorded::{Recorded, recorded};
use super::{Deviation, Role, Script};
use crate::adapter::{AdapterProcess, Reach};
use crate::live::{Peer, Trouble};
use crate::run::verdict::Verdict;
use crate::run::{Check, Kind};

/// The layer of the deviations, in filters and reports.
pub const LAYER: &str = "deviation";

/// The layer of the conversations.
pub const SCRIPT_LAYER: &str = "script";

/// The time-out of an adapter's operation, except for those that wait.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(20);

/// The number of consecutive connections without any activity after which the rest is skipped.
const GIVE_UP_AFTER: usize = 8;

/// How much memory an implementation may allocate for one deviation, in bytes.
///
/// The peer sends less than 300 kB, and claims gigabytes.
const MEMORY_LIMIT: u64 = 256 << 20;

/// The operations that every check needs.
const NEEDED: [&str; 6] = [
    "peer.listen",
    "peer.dial",
    "peer.next",
    "peer.open",
    "peer.send",
    "peer.stop",
];

/// The configuration of a run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The implementation under test.
    pub implementation: Reach,
    /// Whether its answers are validated against the JSON schema.
    pub validate: bool,
    /// How many connections at a time.
    pub concurrency: usize,
}

impl Config {
    /// Four connections at a time, or one for an attached adapter.
    pub fn new(implementation: impl Into<Reach>) -> Self {
        let implementation = implementation.into();
        let concurrency = match implementation {
            Reach::Start(_) => 4,
            Reach::Attach(_) => 1,
        };
        Self {
            implementation,
            validate: false,
            concurrency,
        }
    }
}

#[derive(Clone, Debug)]
enum Source {
    Deviation(Arc<Deviation>),
    Script(Arc<Script>),
}

/// A deviation or a conversation, in one role.
#[derive(Clone, Debug)]
pub struct Item {
    what: Source,
    role: Role,
}

/// All checks, in order.
///
/// # Errors
/// If one of the files is at fault.
pub fn items() -> Result<Vec<Item>, String> {
    let scripts = super::scripts()?
        .into_iter()
        .map(Arc::new)
        .map(Source::Script);
    let deviations = super::deviations()?;
    let deviations = deviations.into_iter().map(Arc::new).map(Source::Deviation);
    let both = |what: Source| {
        Role::BOTH.map(|role| Item {
            what: what.clone(),
            role,
        })
    };
    Ok(scripts.chain(deviations).flat_map(both).collect())
}

impl Item {
    /// `deviation.<name>.<role>` or `script.<name>.<role>`.
    pub fn id(&self) -> String {
        match &self.what {
            Source::Deviation(deviation) => format!("{LAYER}.{}.{}", deviation.slug(), self.role),
            Source::Script(script) => format!("{SCRIPT_LAYER}.{}.{}", script.name, self.role),
        }
    }

    /// Its layer in reports.
    pub fn layer(&self) -> &'static str {
        match self.what {
            Source::Deviation(_) => LAYER,
            Source::Script(_) => SCRIPT_LAYER,
        }
    }

    /// The family of a deviation.
    pub fn family(&self) -> Option<&str> {
        match &self.what {
            Source::Deviation(deviation) => Some(&deviation.family),
            Source::Script(_) => None,
        }
    }

    /// What it shows, in one line.
    pub fn comment(&self) -> String {
        match &self.what {
            Source::Deviation(deviation) => format!("{}: {}", deviation.name, deviation.what),
            Source::Script(script) => script.what.clone(),
        }
    }

    /// The clauses of the specification that it tests.
    pub fn clauses(&self) -> &[String] {
        match &self.what {
            Source::Deviation(deviation) => &deviation.clauses,
            Source::Script(script) => &script.clauses,
        }
    }

    /// Its check, passed by default.
    pub fn check(&self) -> Check {
        let subject = match &self.what {
            Source::Deviation(deviation) => &deviation.family,
            Source::Script(_) => SCRIPT_LAYER,
        };
        let mut check = Check::new(Kind::Live, self.id(), self.layer(), subject)
            .with_comment(format!("{} ({})", self.comment(), self.role));
        check.clauses = self.clauses().to_vec();
        check
    }

    fn script(&self) -> String {
        match &self.what {
            Source::Deviation(deviation) => {
                let given = deviation.given.script();
                format!("{given}\n{}", deviation.does.trim())
                    .trim()
                    .to_owned()
            }
            Source::Script(script) => script.does.trim().to_owned(),
        }
    }
}

/// Runs all of `wanted` on an implementation, several at a time, and passes each check to `report` as it finishes.
///
/// The checks are returned in the order of `wanted`.
pub async fn run(config: Config, wanted: Vec<Item>, mut report: impl FnMut(&Check)) -> Vec<Check> {
    let order: Vec<_> = wanted.iter().map(Item::id).collect();
    let recorded = match recorded() {
        Ok(recorded) => Arc::new(recorded),
        Err(error) => {
            let checks = wanted.iter().map(|item| item.check().failed(&error));
            return checks.collect();
        }
    };
    let queue = Arc::new(Mutex::new(VecDeque::from(wanted)));
    let silent = Arc::new(AtomicUsize::new(0));
    let (done, mut checks_done) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for _ in 0..config.concurrency {
        let (queue, silent) = (Arc::clone(&queue), Arc::clone(&silent));
        let (recorded, done) = (Arc::clone(&recorded), done.clone());
        let mut stage = Stage::new(config.implementation.clone()).with_validation(config.validate);
        tasks.spawn(async move {
            loop {
                let item = queue
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .pop_front();
                let Some(item) = item else { break };
                let check = if silent.load(Ordering::Relaxed) >= GIVE_UP_AFTER {
                    item.check().failed(format!(
                        "not played: {GIVE_UP_AFTER} connections in a row came to nothing"
                    ))
                } else {
                    let (check, came_to_nothing) = stage.play(&item, &recorded).await;
                    if came_to_nothing {
                        silent.fetch_add(1, Ordering::Relaxed);
                    } else {
                        silent.store(0, Ordering::Relaxed);
                    }
                    check
                };
                if done.send(check).is_err() {
                    break;
                }
            }
            stage.close().await;
        });
    }
    drop(done);
    let mut checks = Vec::new();
    while let Some(check) = checks_done.recv().await {
        report(&check);
        checks.push(check);
    }
    while tasks.join_next().await.is_some() {}
    let place = |check: &Check| order.iter().position(|id| *id == check.id);
    checks.sort_by_cached_key(place);
    checks
}

/// The result of one deviation.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) reaction: Result<Reaction, String>,
    /// The failure on the connection after it, if any.
    pub(super) afterwards: Result<(), String>,
    memory: Option<u64>,
    transcript: Value,
}

/// An adapter that runs one item after the other.
#[derive(Debug)]
pub(super) struct Stage {
    command: Reach,
    validate: bool,
    adapter: Option<AdapterProcess>,
}

impl Stage {
    pub(super) fn new(command: Reach) -> Self {
        Self {
            command,
            validate: false,
            adapter: None,
        }
    }

    fn with_validation(mut self, validate: bool) -> Self {
        self.validate = validate;
        self
    }

    pub(super) async fn close(&mut self) {
        if let Some(mut adapter) = self.adapter.take() {
            adapter.kill().await;
        }
    }

    /// A ready adapter, or why there is none.
    pub(super) async fn peer(&mut self) -> Result<Peer, Trouble> {
        let adapter = self.adapter.take().unwrap_or_else(|| {
            let attached = matches!(self.command, Reach::Attach(_));
            let adapter = AdapterProcess::new(self.command.clone()).with_validation(self.validate);
            if attached {
                adapter
            } else {
                adapter.with_timeout(OPERATION_TIMEOUT)
            }
        });
        let peer = Peer::new("the implementation", adapter).await?;
        if let Some(missing) = NEEDED.iter().find(|op| !peer.hello.knows(op)) {
            let missing = Trouble::Unsupported(format!("the implementation: {missing}"));
            self.give_back(peer);
            return Err(missing);
        }
        Ok(peer)
    }

    pub(super) fn give_back(&mut self, peer: Peer) {
        self.adapter = Some(peer.into_adapter());
    }

    /// Runs one item: returns its check, and whether nothing happened at all.
    async fn play(&mut self, item: &Item, recorded: &Recorded) -> (Check, bool) {
        let began = Instant::now();
        let mut check = item.check();
        let mut peer = match self.peer().await {
            Ok(peer) => peer,
            Err(Trouble::Unsupported(what)) => {
                check.verdict = Verdict::Unsupported;
                check.reason = Some(format!("not declared by {what}"));
                return (check, false);
            }
            Err(trouble) => return (check.failed(trouble.to_string()), true),
        };
        let mut came_to_nothing = false;
        let mut check = match &item.what {
            Source::Script(script) => play_script(&mut peer, script, item, check).await,
            Source::Deviation(deviation) => {
                let release = peer.hello.release.clone();
                if let (Some(why), Some(_)) = (&deviation.never_towards_node, &release) {
                    check.verdict = Verdict::Unsupported;
                    check.reason = Some(format!("never asked of Node: {why}"));
                    self.give_back(peer);
                    return (check, false);
                }
                let played = play_deviation(&mut peer, deviation, item.role).await;
                came_to_nothing =
                    matches!(&played.reaction, Ok(reaction) if reaction.end == End::Silent);
                judge_deviation(
                    check,
                    deviation,
                    item.role,
                    &played,
                    recorded,
                    release.as_deref(),
                )
            }
        };
        check.duration = began.elapsed();
        if check.verdict == Verdict::Ok {
            self.give_back(peer);
            return (check, false);
        }
        check.input = Some(json!({ "script": item.script() }));
        if check.verdict == Verdict::Failed {
            let log = peer.log();
            // Without a connection there is no transcript.
            if let Some(transcript) = check.transcript.as_mut().filter(|kept| kept.is_object()) {
                transcript["adapter"] = json!(log);
            }
            let told = log[log.len().saturating_sub(40)..].join("\n  ");
            let reason = check.reason.take().unwrap_or_default();
            check.reason = Some(format!("{reason}\nthe adapter:\n  {told}"));
            // Its state is part of the failure: the next item gets a fresh adapter.
            let mut stderr = peer.take_stderr();
            let mut adapter = peer.into_adapter();
            adapter.kill().await;
            use crate::adapter::Adapter as _;
            stderr.push_str(&adapter.take_stderr());
            check.stderr = Some(stderr).filter(|text| !text.trim().is_empty());
        } else {
            self.give_back(peer);
        }
        (check, came_to_nothing)
    }
}

async fn play_script(peer: &mut Peer, script: &Script, item: &Item, mut check: Check) -> Check {
    let does = match script.does() {
        Ok(does) => does,
        Err(error) => return check.failed(format!("the script is at fault: {error}")),
    };
    let connected = Player::connect(peer, item.role).await;
    let played = match connected {
        Ok(mut player) => {
            let played = player.play(&does).await;
            if played.is_err() {
                check.transcript = Some(player.transcript().to_value());
            }
            played.map_err(|(step, stop)| format!("at `{step}`: {stop}"))
        }
        Err(stop) => Err(stop.to_string()),
    };
    let stopped = stop(peer).await.map_err(|trouble| trouble.to_string());
    match played.and(stopped) {
        Ok(()) => check,
        Err(reason)
            if Trouble::is_unsupported(&reason) || reason.contains(": not supported by ") =>
        {
            check.verdict = Verdict::Unsupported;
            check.reason = Some(reason);
            check
        }
        Err(reason) => check.failed(reason),
    }
}

/// Performs a deviation, and then connects once more.
pub(super) async fn play_deviation(peer: &mut Peer, deviation: &Deviation, role: Role) -> Played {
    let before = peer.process_id().and_then(memory::begin);
    let mut transcript = Value::Null;
    let reaction = react(peer, deviation, role, &mut transcript).await;
    let reaction = reaction.map(Reaction::shortened);
    let mut afterwards = stop(peer).await.map_err(|trouble| trouble.to_string());
    if reaction.is_ok() && afterwards.is_ok() {
        afterwards = connect_again(peer, role).await;
    }
    let after = peer.process_id().and_then(memory::peak);
    let memory = before.zip(after);
    Played {
        reaction,
        afterwards,
        memory: memory.map(|(before, after)| after.saturating_sub(before)),
        transcript,
    }
}

async fn react(
    peer: &mut Peer,
    deviation: &Deviation,
    role: Role,
    transcript: &mut Value,
) -> Result<Reaction, String> {
    let (given, does) = (deviation.given()?, deviation.does()?);
    let mut player = Player::connect(peer, role)
        .await
        .map_err(|stop| stop.to_string())?;
    let mut reaction = match player.play(&given).await {
        Ok(()) => {
            // If a step finds the connection closed, the events say what happened.
            let deviated = player.play(&does).await;
            match deviated {
                Ok(()) | Err((_, super::play::Stop::Wire(_))) => {
                    player.settle(deviation.next).await
                }
                Err((step, stop)) => Err(super::play::Stop::Unexpected(format!(
                    "at `{step}`: {stop}"
                ))),
            }
            .map_err(|stop| stop.to_string())
        }
        Err((step, stop)) => Err(format!("before it deviates, at `{step}`: {stop}")),
    };
    if let Ok(reaction) = &mut reaction
        && reaction.end != End::Alive
    {
        // Messages in transit may or may not be lost with the connection.
        reaction.sent.clear();
    }
    *transcript = player.transcript().to_value();
    reaction
}

async fn connect_again(peer: &mut Peer, role: Role) -> Result<(), String> {
    let script = super::script::parse("handshake\nalive")?;
    let mut player = Player::connect(peer, role)
        .await
        .map_err(|stop| stop.to_string())?;
    let played = player.play(&script).await;
    drop(player);
    let stopped = stop(peer).await.map_err(|trouble| trouble.to_string());
    played
        .map_err(|(step, stop)| format!("at `{step}`: {stop}"))
        .and(stopped)
}

/// Node's outcome, in the terms of the vectors.
fn node_outcome(reactions: &[(&str, &Reaction)]) -> Option<Value> {
    let (_, first) = reactions.first()?;
    let outcome = match first.end {
        End::Destroyed { .. } => "destroys",
        _ => "returns",
    };
    let told = reactions
        .iter()
        .map(|(release, reaction)| format!("{release} {reaction}"));
    let message = told.collect::<Vec<_>>().join("; ");
    Some(json!({ "outcome": outcome, "message": message }))
}

fn judge_deviation(
    mut check: Check,
    deviation: &Deviation,
    role: Role,
    played: &Played,
    recorded: &Recorded,
    release: Option<&str>,
) -> Check {
    let node = recorded.reactions(&deviation.name, role, release);
    let expected: Vec<_> = match &deviation.required {
        Some(required) => vec![("(never asked)", required)],
        None => node,
    };
    check.node = node_outcome(&expected);
    check.expected = expected
        .first()
        .map(|(_, reaction)| json!({ "ok": reaction }));
    let reaction = match &played.reaction {
        Ok(reaction) => reaction,
        Err(reason) => {
            check.transcript = Some(played.transcript.clone());
            return check.failed(reason);
        }
    };
    check.actual = Some(json!({ "ok": reaction }));
    let judged = judge(reaction, &expected, &deviation.tolerated);
    check.verdict = judged.verdict;
    check.reason = judged.reason;
    let varies = deviation.varies.is_some() && matches!(reaction.end, End::Destroyed { .. });
    if varies && check.verdict == Verdict::NonStrict {
        // Node's own reaction varies.
        (check.verdict, check.reason) = (Verdict::Ok, None);
    }
    let mut more = Vec::new();
    if let Err(reason) = &played.afterwards {
        more.push(format!("afterwards it takes no fresh connection: {reason}"));
    }
    if let Some(memory) = played.memory.filter(|memory| *memory > MEMORY_LIMIT) {
        more.push(format!("it took {} MB of memory over this", memory >> 20));
    }
    if !more.is_empty() {
        let reason = check.reason.take().into_iter().chain(more);
        let reason = reason.collect::<Vec<_>>().join("\n");
        check = check.failed(reason);
    }
    match check.verdict {
        // An ok check needs no details.
        Verdict::Ok => {
            (check.expected, check.actual, check.node) = (None, None, None);
        }
        Verdict::Failed => check.transcript = Some(played.transcript.clone()),
        _ => {}
    }
    check
}

/// Memory use of a process. Known on Linux only.
mod memory {
    fn field(process: u32, name: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kilobytes << 10)
    }

    /// The current use; resets the peak.
    pub(super) fn begin(process: u32) -> Option<u64> {
        std::fs::write(format!("/proc/{process}/clear_refs"), "5").ok()?;
        field(process, "VmRSS:")
    }

    /// The peak since then.
    pub(super) fn peak(process: u32) -> Option<u64> {
        field(process, "VmHWM:")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_both_roles_are_there() {
        let items = items().expect("the files");
        assert!(items.len() >= 200, "{}", items.len());
        let ids: Vec<_> = items.iter().map(Item::id).collect();
        let unique: HashSet<_> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len());
        assert!(ids.contains(&"deviation.reused-channel-id.responder".to_owned()));
        assert!(ids.contains(&"script.open-by-peer.initiator".to_owned()));
    }
}
