//! Cores made by one end and read by the other, in every role.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::matrix::cell::{Cell, Fault};
use crate::matrix::part::{Part, Task};
use crate::matrix::peers::{NodePeer, Peer, Player, RustPeer, STEP_LIMIT};
use crate::matrix::setup::block_on;
use crate::npm::cache::{Release, Runtime};
use crate::run::Kind;

/// The roles of an implementation: whether it dials, and whether it writes.
const ROLES: [(&str, bool, bool); 4] = [
    ("initiator-reader", true, false),
    ("initiator-writer", true, true),
    ("responder-reader", false, false),
    ("responder-writer", false, true),
];

/// The kinds of cores, which each end makes in its own way.
const KINDS: [&str; 6] = [
    "default",
    "compat",
    "quorum",
    "prologue",
    "default-seek",
    "compat-seek",
];

/// The steps on each core, in order: each step needs the one before. A seek has a core of its own, since a failed one
/// ends the stream.
const STEPS: [&str; 4] = ["seek", "read", "append", "truncate"];

/// The part `replication`.
#[derive(Debug)]
pub(in crate::matrix) struct Replication;

impl Part for Replication {
    fn name(&self) -> &'static str {
        "replication"
    }

    fn kind(&self) -> Kind {
        Kind::Live
    }

    fn roles(&self) -> Vec<&'static str> {
        ROLES.iter().map(|(role, ..)| *role).collect()
    }

    fn usual_seconds(&self) -> f64 {
        15.0
    }

    fn fill(&self, task: &Task<'_>, cells: &mut [Cell]) -> Result<(), String> {
        let Some(player) = task.implementation.and_then(|one| one.player.as_ref()) else {
            // The adapter protocol has no replication: nothing passes, so the cell is unsupported.
            return Ok(());
        };
        let (release, runtime) = task.matrix.subject_of(task.unit)?;
        // All roles at a time: most of the time is spent waiting for failures by silence.
        let roles = cells
            .iter_mut()
            .zip(ROLES)
            .map(|(cell, role)| play(cell, player, release, runtime, &task.matrix.examples, role));
        block_on(futures::future::join_all(roles)).map(drop)
    }
}

/// How long to wait for the other end's reason for the end of a stream, or for an answer in transit.
const GRACE: Duration = Duration::from_millis(500);

/// The name of a core, also that of its folder at Node.
fn name_of(kind: &str) -> String {
    format!("{kind}-core")
}

fn writer_input(kind: &str) -> Value {
    match kind {
        "compat" | "compat-seek" => json!({ "seed": 4, "compat": true }),
        "quorum" => json!({ "signers": [1, 2, 3], "quorum": 2 }),
        "prologue" => json!({ "seed": 4, "prologue": ["00ff", "01"] }),
        // With each release's default for new cores.
        _ => json!({ "seed": 4 }),
    }
}

/// Runs every kind of core in one role, and records the results in `cell`.
async fn play(
    cell: &mut Cell,
    player: &Player,
    release: &Release,
    runtime: &Runtime,
    examples: &Path,
    (role, initiates, writes): (&str, bool, bool),
) {
    // The ends are reused as long as all goes well, and restarted after a failure.
    let mut ends: Option<Ends> = None;
    for kind in KINDS {
        let mut progress = Progress {
            kind,
            role,
            done: Vec::new(),
        };
        let ended = async {
            let mut own = match ends.take() {
                Some(ends) => ends,
                None => Ends::start(player, release, runtime, examples).await?,
            };
            let Ends { ours, theirs } = &mut own;
            let (writer, reader) = if writes {
                (ours, theirs)
            } else {
                (theirs, ours)
            };
            replicate(&mut progress, writer, reader, initiates == writes).await?;
            if let_go(kind, writer, reader).await.is_ok() {
                ends = Some(own);
            }
            Ok::<_, String>(())
        };
        let ended = ended.await;
        for step in &progress.done {
            cell.pass(progress.id(step));
        }
        if let Err(reason) = ended {
            let mut left = progress
                .steps()
                .filter(|step| !progress.done.contains(step));
            if let Some(step) = left.next() {
                cell.faults.push(Fault::new(progress.id(step), reason));
                let after =
                    |later| Fault::new(progress.id(later), format!("not reached: {step} failed"));
                cell.faults.extend(left.map(after));
            }
        }
    }
}

/// Both ends.
struct Ends {
    ours: Peer,
    theirs: Peer,
}

impl Ends {
    async fn start(
        player: &Player,
        release: &Release,
        runtime: &Runtime,
        examples: &Path,
    ) -> Result<Self, String> {
        let ours = match player {
            Player::Reference => Peer::Rust(RustPeer::default()),
            Player::Node(options, runtime) => {
                Peer::Node(NodePeer::start(runtime, examples, options)?)
            }
        };
        let options = json!({ "packages": release.folder });
        let theirs = Peer::Node(NodePeer::start(runtime, examples, &options)?);
        let mut ends = Self { ours, theirs };
        ends.ours.ready().await?;
        ends.theirs.ready().await?;
        Ok(ends)
    }
}

/// Ends the stream and closes the core, so that the next starts from the same state.
async fn let_go(kind: &str, writer: &mut Peer, reader: &mut Peer) -> Result<(), String> {
    for peer in [&mut *reader, &mut *writer] {
        step(peer, None, "disconnect", json!({})).await?;
    }
    for peer in [reader, writer] {
        let ending = peer.ending();
        let waited = tokio::time::timeout(STEP_LIMIT, ending.wait()).await;
        waited.map_err(|_| "a stream does not close".to_owned())?;
        step(peer, None, "close", json!({ "core": name_of(kind) })).await?;
    }
    Ok(())
}

struct Progress<'a> {
    kind: &'a str,
    role: &'a str,
    done: Vec<&'static str>,
}

impl Progress<'_> {
    /// The steps of this kind of core.
    fn steps(&self) -> impl Iterator<Item = &'static str> {
        let kind = self.kind;
        STEPS.into_iter().filter(move |step| match *step {
            "seek" => kind.ends_with("-seek"),
            "truncate" => matches!(kind, "default" | "compat"),
            _ => !kind.ends_with("-seek"),
        })
    }

    fn id(&self, step: &str) -> String {
        format!("replication.{}.{}.{step}", self.kind, self.role)
    }
}

async fn replicate(
    progress: &mut Progress<'_>,
    writer: &mut Peer,
    reader: &mut Peer,
    writer_initiates: bool,
) -> Result<(), String> {
    let kind = progress.kind;
    let named = |mut input: Value| {
        input["core"] = name_of(kind).into();
        input
    };
    let opened = step(writer, None, "open", named(writer_input(kind))).await?;
    if kind == "prologue" {
        // The blocks whose hash is in the manifest.
        step(
            writer,
            None,
            "append",
            named(json!({ "from": 0, "blocks": ["00ff", "01"] })),
        )
        .await?;
    }
    let add = |count: u64| {
        let mut input = json!({ "count": count, "size": 20 });
        if kind == "quorum" {
            input["signers"] = json!([1, 3]);
        }
        input
    };
    step(writer, None, "append", named(add(4))).await?;
    step(reader, None, "open", named(json!({ "key": opened["key"] }))).await?;
    writer.begin();
    reader.begin();
    let (listener, dialler) = if writer_initiates {
        (&mut *reader, &mut *writer)
    } else {
        (&mut *writer, &mut *reader)
    };
    let port = step(listener, None, "listen", json!({})).await?;
    step(dialler, None, "dial", json!({ "port": port["port"] })).await?;
    step(reader, Some(writer), "update", named(json!({}))).await?;
    if kind.ends_with("-seek") {
        let found = named(json!({ "bytes": 47 }));
        let found = step(reader, Some(writer), "seek", found).await?;
        let expected = json!({ "index": 2, "offset": 7 });
        same("the block of byte 47", &expected, &found)?;
        progress.done.push("seek");
        return Ok(());
    }

    let length = alike(kind, writer, reader, None).await?;
    progress.done.push("read");

    step(reader, None, "follow", named(json!({}))).await?;
    step(writer, None, "append", named(add(3))).await?;
    let whole = json!({ "length": length + 3, "fork": 0 });
    step(reader, Some(writer), "whole", named(whole)).await?;
    alike(kind, writer, reader, Some(length + 3)).await?;
    progress.done.push("append");

    if progress.steps().any(|step| step == "truncate") {
        step(writer, None, "truncate", named(json!({ "length": length }))).await?;
        step(
            writer,
            None,
            "append",
            named(json!({ "from": 100, "count": 2, "size": 5 })),
        )
        .await?;
        let whole = json!({ "length": length + 2, "fork": 1 });
        step(reader, Some(writer), "whole", named(whole)).await?;
        alike(kind, writer, reader, Some(length + 2)).await?;
        progress.done.push("truncate");
    }
    Ok(())
}

/// Downloads everything, and compares both ends' views of the core; returns its length.
async fn alike(
    kind: &str,
    writer: &mut Peer,
    reader: &mut Peer,
    length: Option<u64>,
) -> Result<u64, String> {
    let theirs = step(writer, None, "info", json!({ "core": name_of(kind) })).await?;
    let held = theirs["length"].as_u64().ok_or("a core has a length")?;
    if let Some(length) = length {
        same("the length", &json!(length), &theirs["length"])?;
    }
    step(
        reader,
        Some(writer),
        "download",
        json!({ "core": name_of(kind), "end": held }),
    )
    .await?;
    let ours = step(reader, None, "info", json!({ "core": name_of(kind) })).await?;
    for field in ["length", "byteLength", "fork"] {
        same(field, &theirs[field], &ours[field])?;
    }
    let theirs = step(writer, None, "digest", json!({ "core": name_of(kind) })).await?;
    let ours = step(reader, None, "digest", json!({ "core": name_of(kind) })).await?;
    same(
        "the digest of all blocks",
        &theirs["sha256"],
        &ours["sha256"],
    )?;
    Ok(held)
}

fn same(what: &str, expected: &Value, actual: &Value) -> Result<(), String> {
    if expected == actual {
        Ok(())
    } else {
        Err(format!(
            "{what} is {actual} at the reader, {expected} at the writer"
        ))
    }
}

/// Sends a request to `peer`, while both ends' streams are alive.
async fn step(
    peer: &mut Peer,
    other: Option<&Peer>,
    op: &str,
    input: Value,
) -> Result<Value, String> {
    let endings = other.map(|other| (peer.ending(), other.ending()));
    let ended = async {
        let Some((own, others)) = endings else {
            return std::future::pending().await;
        };
        tokio::select! {
            () = own.wait() => own.reason(),
            () = others.wait() => others.reason(),
        }
    };
    let asked = peer.ask(op, input);
    tokio::pin!(asked);
    tokio::select! {
        answer = &mut asked => answer.map_err(|error| format!("{op}: {error}")),
        reason = ended => {
            let reason = reason.unwrap_or_default();
            // The answer may have just been sent.
            match tokio::time::timeout(GRACE, asked).await {
                Ok(answer) => answer.map_err(|error| format!("{op}: {error}; {reason}")),
                Err(_) => Err(format!("{op}: {reason}")),
            }
        }
        () = tokio::time::sleep(STEP_LIMIT) => {
            Err(format!("{op}: nothing for {} s, and the stream is open", STEP_LIMIT.as_secs()))
        }
    }
}
