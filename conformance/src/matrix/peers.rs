//! Peers that replicate cores on command: this crate in this process, and Node in a process of its own.
//!
//! Both have the same operations, those of `examples-nodejs/interop/replication.js`.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hypercore_protocol::encoding::Encode as _;
use hypercore_protocol::manifest::{Prologue, Signer};
use hypercore_protocol::replication::{
    Core, CoreOptions, Memory, PartialSignature, Replicator, Session,
};
use hypercore_protocol::{Key, KeyPair, Manifest, ProtocolBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::group::{self, Group};
use crate::npm::cache::Runtime;

/// The peer of the release.
#[derive(Clone, Debug)]
pub(super) enum Player {
    /// This crate.
    Reference,
    /// Node, with the pinned packages of this repository, or those of another release.
    Node(Value, Runtime),
}

/// How a peer's last stream ended, for those who wait for something that can no longer come.
#[derive(Clone, Debug, Default)]
pub(super) struct Ending(Arc<(Mutex<Option<String>>, Notify)>);

impl Ending {
    /// Records the end of the stream; the first reason wins.
    fn tell(&self, reason: String) {
        let (kept, changed) = &*self.0;
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_or_insert(reason);
        changed.notify_waiters();
    }

    /// Why the stream ended, if it has.
    pub(super) fn reason(&self) -> Option<String> {
        let kept = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clone()
    }

    /// Forgets the last end, as a new stream begins.
    fn clear(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Waits for the end.
    pub(super) async fn wait(&self) {
        let told = self.0.1.notified();
        if self.reason().is_none() {
            told.await;
        }
    }
}

/// One end of a replication.
pub(super) enum Peer {
    /// Node, with the packages of a release.
    Node(NodePeer),
    /// This crate.
    Rust(RustPeer),
}

impl Peer {
    /// Requests an operation.
    pub(super) async fn ask(&mut self, op: &str, input: Value) -> Result<Value, String> {
        match self {
            Self::Node(peer) if op == "open" => peer.ask(op, with_manifest(input)?).await,
            Self::Node(peer) => peer.ask(op, input).await,
            Self::Rust(peer) => peer.ask(op, &input).await,
        }
    }

    /// Waits until it accepts requests: loading the packages of many releases at a time takes long.
    pub(super) async fn ready(&mut self) -> Result<(), String> {
        let Self::Node(peer) = self else {
            return Ok(());
        };
        let ready = tokio::time::timeout(START_LIMIT, peer.ask("ready", json!({}))).await;
        match ready {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(format!(
                "Node does not start within {} s",
                START_LIMIT.as_secs()
            )),
        }
    }

    /// The end of its stream.
    pub(super) fn ending(&self) -> Ending {
        match self {
            Self::Node(peer) => peer.ending.clone(),
            Self::Rust(peer) => peer.ending.clone(),
        }
    }

    /// Forgets how earlier streams ended.
    pub(super) fn begin(&self) {
        self.ending().clear();
    }
}

/// A Node process that is controlled by lines of JSON.
pub(super) struct NodePeer {
    // Killed when dropped.
    _process: Box<(Child, Group)>,
    stdin: ChildStdin,
    answers: mpsc::UnboundedReceiver<Value>,
    ending: Ending,
    last_id: u64,
    // Its files; removed when dropped.
    _folder: TempDir,
}

impl NodePeer {
    /// Starts it on a runtime, with its script's options.
    pub(super) fn start(
        runtime: &Runtime,
        examples: &Path,
        options: &Value,
    ) -> Result<Self, String> {
        let folder =
            TempDir::with_prefix("hypercore-matrix-").map_err(|error| error.to_string())?;
        let mut command = Command::new(&runtime.program);
        command
            .env("TMPDIR", folder.path())
            .arg(examples.join("interop/replication.js"))
            .arg(options.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let (mut child, group) = group::spawn_async(&mut command)
            .map_err(|error| format!("{} does not start: {error}", runtime.name))?;
        let missing = || "a pipe to Node is missing".to_owned();
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let ending = Ending::default();
        let (told, answers) = mpsc::unbounded_channel();
        tokio::spawn(listen(BufReader::new(stdout).lines(), ending.clone(), told));
        Ok(Self {
            _process: Box::new((child, group)),
            stdin,
            answers,
            ending,
            last_id: 0,
            _folder: folder,
        })
    }

    async fn ask(&mut self, op: &str, input: Value) -> Result<Value, String> {
        self.last_id += 1;
        let request = json!({ "id": self.last_id, "op": op, "input": input }).to_string() + "\n";
        let gone = || "Node is gone".to_owned();
        self.stdin
            .write_all(request.as_bytes())
            .await
            .map_err(|_| gone())?;
        loop {
            let mut said = self.answers.recv().await.ok_or_else(gone)?;
            // Skip answers to requests that were given up.
            if said["id"] != self.last_id {
                continue;
            }
            if said["ok"].is_object() {
                return Ok(said["ok"].take());
            }
            return Err(format!("Node says {}", words(&said["error"])));
        }
    }
}

/// Parses Node's output as it arrives: answers, and ends of its streams.
async fn listen(
    mut lines: Lines<BufReader<ChildStdout>>,
    ending: Ending,
    answers: mpsc::UnboundedSender<Value>,
) {
    let mut error = None;
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(said) = serde_json::from_str::<Value>(&line) else {
            break;
        };
        match said["event"].as_str() {
            Some("streamError") => error = Some(words(&said)),
            Some("streamClosed") => {
                let reason = error.take().unwrap_or_else(|| "it was closed".into());
                ending.tell(format!("Node's stream is gone: {reason}"));
            }
            Some(_) => {}
            // The requester may be gone.
            None => drop(answers.send(said)),
        }
    }
    ending.tell("Node is gone".into());
}

/// The code and the message of a Node error.
fn words(error: &Value) -> String {
    let word = |name: &str| error[name].as_str().unwrap_or_default();
    let (code, message) = (word("code"), word("message"));
    if message.starts_with(code) {
        message.to_owned()
    } else {
        format!("{code} {message}").trim().to_owned()
    }
}

/// This crate, controlled as Node is.
#[derive(Default)]
pub(super) struct RustPeer {
    cores: HashMap<String, Made>,
    sessions: Vec<JoinHandle<()>>,
    ending: Ending,
}

struct Made {
    core: Replicator,
    signers: Vec<u8>,
    // A download continues while this is held.
    follow: Option<hypercore_protocol::replication::Download>,
}

impl Drop for RustPeer {
    fn drop(&mut self) {
        self.sessions.iter().for_each(JoinHandle::abort);
    }
}

fn key_pair(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}

/// The i-th block of a generated core, the same as Node's.
fn block(index: u64, size: u64) -> Vec<u8> {
    let byte = |at: u64| (index * 31 + at * 7 + (at >> 8)) as u8;
    (0..size).map(byte).collect()
}

fn told(error: impl std::fmt::Display) -> String {
    format!("this crate: {error}")
}

fn number(input: &Value, name: &str) -> u64 {
    input[name].as_u64().unwrap_or(0)
}

impl RustPeer {
    async fn ask(&mut self, op: &str, input: &Value) -> Result<Value, String> {
        match op {
            "open" => self.open(input),
            "listen" => self.listen().await,
            "dial" => {
                let port = u16::try_from(number(input, "port")).map_err(told)?;
                let socket = TcpStream::connect(("127.0.0.1", port))
                    .await
                    .map_err(told)?;
                self.run(true, async move { Ok(socket) });
                Ok(json!({}))
            }
            "disconnect" => {
                for session in self.sessions.drain(..) {
                    session.abort();
                    // The result of an aborted task is of no use.
                    drop(session.await);
                }
                self.ending.tell("this crate: the stream was ended".into());
                Ok(json!({}))
            }
            _ => self.on_core(op, input).await,
        }
    }

    async fn on_core(&mut self, op: &str, input: &Value) -> Result<Value, String> {
        let name = input["core"].as_str().unwrap_or("core");
        let made = self.cores.get_mut(name).ok_or("there is no such core")?;
        let core = made.core.clone();
        match op {
            "append" => {
                let (from, size) = (core.length(), number(input, "size"));
                let from = input["from"].as_u64().unwrap_or(from);
                let values = match input["blocks"].as_array() {
                    Some(blocks) => {
                        let value = |block: &Value| hex::decode(block.as_str().unwrap_or_default());
                        blocks
                            .iter()
                            .map(value)
                            .collect::<Result<_, _>>()
                            .map_err(told)?
                    }
                    None => {
                        let count = number(input, "count");
                        (from..from + count)
                            .map(|index| block(index, size))
                            .collect::<Vec<_>>()
                    }
                };
                append(made, &values)?;
            }
            "truncate" => {
                core.truncate(number(input, "length"), None).map_err(told)?;
            }
            "info" => {
                let info = core.info().map_err(told)?;
                return Ok(json!({
                    "length": info.length,
                    "byteLength": info.byte_length,
                    "fork": info.fork,
                    "treeHash": (info.length > 0).then(|| hex::encode(info.tree_hash)),
                }));
            }
            "update" => {
                let updated = core.update().await.map_err(told)?;
                return Ok(json!({ "updated": updated }));
            }
            "seek" => {
                let (block, offset) = core.seek(number(input, "bytes")).await.map_err(told)?;
                return Ok(json!({ "index": block, "offset": offset }));
            }
            "download" => {
                core.download(..number(input, "end")).await.map_err(told)?;
            }
            "follow" => made.follow = Some(core.download_all()),
            "whole" => {
                let (length, fork) = (number(input, "length"), number(input, "fork"));
                let mut events = core.events();
                while core.with_core(Core::fork) != fork || core.length() < length {
                    events.next().await;
                }
                core.download(..length).await.map_err(told)?;
            }
            "digest" => return digest(&core),
            "close" => {
                self.cores.remove(name);
            }
            _ => return Err(format!("{op} is not known")),
        }
        Ok(json!({}))
    }

    fn open(&mut self, input: &Value) -> Result<Value, String> {
        let name = input["core"].as_str().unwrap_or("core").to_owned();
        let seed = u8::try_from(input["seed"].as_u64().unwrap_or(1)).map_err(told)?;
        let signers = seeds(&input["signers"]);
        let mut options = match input["key"].as_str() {
            Some(key) => {
                let key: [u8; 32] = hex::decode(key)
                    .map_err(told)?
                    .try_into()
                    .map_err(|_| "a key has 32 bytes")?;
                CoreOptions::reader(Key::from(key))
            }
            None => CoreOptions::writer(key_pair(seed)),
        };
        options.compat = input["compat"].as_bool().unwrap_or(false);
        if !signers.is_empty() {
            options = CoreOptions {
                manifest: Some(manifest(number(input, "quorum"), &signers, None)),
                ..CoreOptions::default()
            };
        }
        if let Some(blocks) = input["prologue"].as_array() {
            options.manifest = Some(manifest(1, &[seed], Some(prologue(blocks)?)));
        }
        let core = open(options)?;
        let key = hex::encode(core.key());
        self.cores.insert(
            name,
            Made {
                core,
                signers,
                follow: None,
            },
        );
        Ok(json!({ "key": key }))
    }

    async fn listen(&mut self) -> Result<Value, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(told)?;
        let port = listener.local_addr().map_err(told)?.port();
        self.run(false, async move {
            listener.accept().await.map(|(socket, _)| socket)
        });
        Ok(json!({ "port": port }))
    }

    fn run(
        &mut self,
        is_initiator: bool,
        socket: impl Future<Output = std::io::Result<TcpStream>> + Send + 'static,
    ) {
        let cores: Vec<Replicator> = self.cores.values().map(|made| made.core.clone()).collect();
        let ending = self.ending.clone();
        self.sessions.push(tokio::spawn(async move {
            let ended = async {
                let socket = socket.await.map_err(told)?;
                socket.set_nodelay(true).map_err(told)?;
                let protocol = ProtocolBuilder::new(is_initiator)
                    // Each step has its own time-out, and an old release may be silent meanwhile.
                    .idle_timeout(None)
                    .connect(socket);
                let mut session = Session::new(protocol);
                for core in &cores {
                    session.add(core).map_err(told)?;
                }
                session.run().await.map_err(told)
            };
            let reason = match ended.await {
                Ok(()) => "this crate: the stream ended".to_owned(),
                Err(reason) => reason,
            };
            ending.tell(reason);
        }));
    }
}

fn open(options: CoreOptions) -> Result<Replicator, String> {
    Core::open(Memory::new(), options)
        .map(Replicator::new)
        .map_err(told)
}

fn manifest(quorum: u64, seeds: &[u8], prologue: Option<Prologue>) -> Manifest {
    let first = seeds.first().copied().unwrap_or(1);
    let mut manifest = Manifest::single_signer(*key_pair(first).public_key());
    let signer = |seed: &u8| Signer {
        namespace: [9; 32],
        public_key: *key_pair(*seed).public_key(),
        ..manifest.signers[0]
    };
    manifest.signers = seeds.iter().map(signer).collect();
    manifest.quorum = quorum;
    manifest.prologue = prologue;
    manifest
}

fn seeds(value: &Value) -> Vec<u8> {
    let seeds = value.as_array().into_iter().flatten();
    seeds
        .filter_map(|seed| u8::try_from(seed.as_u64()?).ok())
        .collect()
}

/// The prologue of these blocks, given in hex.
fn prologue(blocks: &[Value]) -> Result<Prologue, String> {
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap_or_default()).map_err(told);
    let blocks: Vec<Vec<u8>> = blocks.iter().map(bytes).collect::<Result<_, _>>()?;
    let other = open(CoreOptions::writer(key_pair(77)))?;
    other.append(&blocks).map_err(told)?;
    let hash = other.info().map_err(told)?.tree_hash;
    let length = other.length();
    Ok(Prologue { hash, length })
}

/// The input in Node's form: with a manifest in hex for the signers or the prologue.
fn with_manifest(mut input: Value) -> Result<Value, String> {
    let signers = seeds(&input["signers"]);
    if !signers.is_empty() {
        let manifest = manifest(number(&input, "quorum"), &signers, None);
        input["manifest"] = hex::encode(manifest.encode().map_err(told)?).into();
        // Each part of a signature is made separately.
        input["seed"] = Value::Null;
    } else if let Some(blocks) = input["prologue"].as_array() {
        let seed = u8::try_from(number(&input, "seed")).map_err(told)?;
        let manifest = manifest(1, &[seed], Some(prologue(blocks)?));
        input["manifest"] = hex::encode(manifest.encode().map_err(told)?).into();
    }
    Ok(input)
}

/// Appends blocks, signed by the first and the last of the signers if one is not enough.
fn append(made: &Made, values: &[Vec<u8>]) -> Result<(), String> {
    let core = &made.core;
    let (Some(&first), Some(&last)) = (made.signers.first(), made.signers.last()) else {
        return core.append(values).map(drop).map_err(told);
    };
    let held: Vec<Vec<u8>> = blocks_of(core)?;
    let signed = |place: u64, seed: u8| -> Result<PartialSignature, String> {
        let mut options = CoreOptions::writer(key_pair(seed));
        options.manifest = core.with_core(|core| core.manifest().cloned());
        let part = open(options)?;
        part.append(&held).map_err(told)?;
        part.append(values).map_err(told)?;
        let length = part.length();
        part.with_core(|core| core.partial_signature(place, length))
            .map_err(told)
    };
    let last_place = made.signers.len() as u64 - 1;
    let parts = [signed(0, first)?, signed(last_place, last)?];
    let signature = core.with_core(|core| core.assemble(&parts)).map_err(told)?;
    core.append_signed(values, signature)
        .map(drop)
        .map_err(told)
}

fn blocks_of(core: &Replicator) -> Result<Vec<Vec<u8>>, String> {
    let get = |index| {
        let value = core.get_held(index).map_err(told)?;
        value
            .map(|value| value.to_vec())
            .ok_or_else(|| format!("block {index} is not held"))
    };
    (0..core.length()).map(get).collect()
}

/// A digest of all blocks, each with its length, the same as Node's.
fn digest(core: &Replicator) -> Result<Value, String> {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for value in blocks_of(core)? {
        let length = u32::try_from(value.len()).map_err(told)?;
        hash.update(length.to_le_bytes());
        hash.update(&value);
    }
    Ok(json!({ "sha256": hex::encode(hash.finalize()) }))
}

/// How long a peer may take to start.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The time-out of a step of a replication, and so the cost of a failure by silence.
pub(super) const STEP_LIMIT: Duration = Duration::from_secs(10);
