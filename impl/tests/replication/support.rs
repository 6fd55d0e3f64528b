//! Cores of every kind on both sides, and the streams between them.

use std::fmt;
use std::ops::Range;

use hypercore_protocol::encoding::Encode;
use hypercore_protocol::manifest::{Prologue, Signer};
use hypercore_protocol::replication::{
    Core, CoreOptions, Events, Memory, PartialSignature, Replicator, ReplicatorEvent, Session,
    SessionError, Storage,
};
use hypercore_protocol::{Buffer, Key, KeyPair, Manifest, ProtocolBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::node::{Node, hex, soon, unhex};

pub(crate) const RELEASES: [&str; 2] = ["10.38.2", "11.37.1"];

/// The kinds of cores, by their signers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Each release's default.
    Default,
    Compat,
    TwoOfThree,
    /// Two of three signers, one of which has signed more than is proven.
    Patched,
    /// Two of three signers, both of which have signed more than is proven: only a block binds the size of the last
    /// root.
    AllPatched,
    Prologue,
    /// A manifest of version 2 with links and user data.
    Linked,
    /// A manifest of version 3 with two of three signers and user data.
    Newest,
}

pub(crate) const KINDS: [Kind; 8] = [
    Kind::Default,
    Kind::Compat,
    Kind::TwoOfThree,
    Kind::Patched,
    Kind::AllPatched,
    Kind::Prologue,
    Kind::Linked,
    Kind::Newest,
];

impl Kind {
    /// The kinds that a release of Node supports.
    pub(crate) fn of(release: &str) -> impl Iterator<Item = Self> + use<> {
        let is_old = release.starts_with("10.");
        let is_new = |kind: &Self| matches!(kind, Self::Linked | Self::Newest);
        KINDS
            .into_iter()
            .filter(move |kind| !(is_old && is_new(kind)))
    }

    /// The seeds of the signers of each append, if there are several, each with how many more blocks it has signed.
    fn signers(self) -> Option<[(u8, u64); 2]> {
        match self {
            Self::TwoOfThree | Self::Newest => Some([(1, 0), (3, 0)]),
            Self::Patched => Some([(1, 0), (2, 3)]),
            Self::AllPatched => Some([(1, 3), (2, 3)]),
            _ => None,
        }
    }

    /// Blocks that exist from the start.
    pub(crate) fn first(self) -> u64 {
        match self {
            Self::Prologue => PROLOGUE.len() as u64,
            _ => 0,
        }
    }

    /// The manifest of a core that is not the default. Each number makes another core.
    fn manifest(self, number: u8) -> Option<Manifest> {
        let manifest = |version, quorum, seeds: &[u8]| {
            let signer = |seed: &u8| Signer {
                namespace: [number; 32],
                ..Signer::new(*key_pair(*seed).public_key())
            };
            Manifest {
                version,
                quorum,
                signers: seeds.iter().map(signer).collect(),
                ..Manifest::default()
            }
        };
        let all = &[1, 2, 3];
        Some(match self {
            Self::Default | Self::Compat => return None,
            Self::TwoOfThree => manifest(1, 2, all),
            Self::Patched | Self::AllPatched => Manifest {
                allow_patch: true,
                ..manifest(1, 2, all)
            },
            Self::Prologue => {
                let other = in_memory(CoreOptions::writer(key_pair(77)));
                other.append(&PROLOGUE).expect("it is writable");
                let hash = other.info().expect("a hash").tree_hash;
                let length = PROLOGUE.len() as u64;
                Manifest {
                    prologue: Some(Prologue { hash, length }),
                    ..manifest(1, 1, &[1])
                }
            }
            Self::Linked => Manifest {
                linked: Some(vec![Key::new([5; 32]), Key::new([6; 32])]),
                user_data: Some(Buffer::from("data")),
                ..manifest(2, 1, &[1])
            },
            Self::Newest => Manifest {
                user_data: Some(Buffer::from("x")),
                ..manifest(3, 2, all)
            },
        })
    }
}

/// A release, our role, and a kind: the cases of this folder's tests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) release: &'static str,
    pub(crate) is_initiator: bool,
    pub(crate) kind: Kind,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.is_initiator {
            "initiator"
        } else {
            "responder"
        };
        write!(f, "{:?} with {}, as {role}", self.kind, self.release)
    }
}

/// Runs a body for every case, with one Node process per release and role.
macro_rules! for_every_case {
    (|$case:ident, $node:ident| $body:block) => {
        for release in $crate::support::RELEASES {
            for is_initiator in [true, false] {
                let mut node = $crate::support::start(release);
                for kind in $crate::support::Kind::of(release) {
                    let $case = $crate::support::Case {
                        release,
                        is_initiator,
                        kind,
                    };
                    // Shown if the test fails.
                    println!("{}", $case);
                    let $node = &mut node;
                    $body
                }
            }
        }
    };
}
pub(crate) use for_every_case;

pub(crate) fn start(release: &str) -> Node {
    Node::start("interop/replication.js", &json!({ "release": release }))
}

/// The i-th block of a generated core, the same as on the Node side.
pub(crate) fn block(index: u64, size: usize) -> Vec<u8> {
    let byte = |at: usize| (index as usize * 31 + at * 7 + (at >> 8)) as u8;
    (0..size).map(byte).collect()
}

pub(crate) fn blocks(range: Range<u64>, size: usize) -> Vec<Vec<u8>> {
    range.map(|index| block(index, size)).collect()
}

pub(crate) fn key_pair(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}

/// Two blocks covered by a prologue.
const PROLOGUE: [&[u8]; 2] = [&[0, 255], &[1]];

fn in_memory(options: CoreOptions) -> Replicator {
    stored(Memory::new(), options)
}

pub(crate) fn stored(store: impl Storage + 'static, options: CoreOptions) -> Replicator {
    Replicator::new(Core::open(store, options).expect("a core"))
}

pub(crate) fn reader(key: Key) -> Replicator {
    in_memory(CoreOptions::reader(key))
}

pub(crate) fn writer(seed: u8) -> Replicator {
    in_memory(CoreOptions::writer(key_pair(seed)))
}

/// A core of ours.
#[derive(Debug, Clone)]
pub(crate) struct Ours {
    pub(crate) core: Replicator,
    kind: Kind,
}

impl Ours {
    pub(crate) fn new(kind: Kind) -> Self {
        Self::of(kind, 1, Memory::new())
    }

    /// Each number makes another core.
    pub(crate) fn of(kind: Kind, number: u8, store: impl Storage + 'static) -> Self {
        let manifest = kind.manifest(number);
        let seed = if manifest.is_some() { 1 } else { number };
        let options = CoreOptions {
            manifest,
            compat: kind == Kind::Compat,
            key_pair: kind.signers().is_none().then(|| key_pair(seed)),
            ..CoreOptions::default()
        };
        let core = stored(store, options);
        if kind == Kind::Prologue && core.length() == 0 {
            core.append(&PROLOGUE).expect("the prologue");
        }
        Self { core, kind }
    }

    /// Extends the core to `length` blocks, not counting the initial ones.
    pub(crate) fn extend(&self, length: u64, size: usize) {
        let length = length + self.kind.first();
        self.append(&blocks(self.core.length()..length, size));
    }

    pub(crate) fn append(&self, values: &[Vec<u8>]) {
        let core = &self.core;
        let Some(signers) = self.kind.signers() else {
            core.append(values).expect("it is writable");
            return;
        };
        if values.is_empty() {
            return;
        }
        let length = core.length() + values.len() as u64;
        let size = values[0].len();
        let parts = signers.map(|(seed, ahead)| {
            let part = self.signer(seed);
            part.append(values).expect("it is writable");
            part.append(&blocks(length..length + ahead, size))
                .expect("it is writable");
            self.part(&part, seed, length)
        });
        let signature = core.with_core(|core| core.assemble(&parts));
        let signature = signature.expect("a manifest");
        core.append_signed(values, signature)
            .expect("two have signed");
    }

    pub(crate) fn truncate(&self, length: u64) {
        let core = &self.core;
        let Some(signers) = self.kind.signers() else {
            core.truncate(length, None).expect("it is writable");
            return;
        };
        let fork = core.info().expect("a hash").fork + 1;
        let parts = signers.map(|(seed, _)| {
            let part = self.signer(seed);
            part.truncate(length, Some(fork)).expect("it is writable");
            self.part(&part, seed, length)
        });
        let signature = core.with_core(|core| core.assemble(&parts));
        core.truncate_signed(length, fork, signature.expect("a manifest"))
            .expect("two have signed");
    }

    /// A core with the same blocks, signed by one of the signers.
    fn signer(&self, seed: u8) -> Replicator {
        let core = &self.core;
        let mut options = CoreOptions::writer(key_pair(seed));
        options.manifest = core.with_core(|core| core.manifest().cloned());
        let part = in_memory(options);
        let fork = core.info().expect("a hash").fork;
        if fork > 0 {
            part.truncate(0, Some(fork)).expect("it is writable");
        }
        let held = |index| core.get_held(index).expect("the store").expect("a block");
        let held: Vec<_> = (0..core.length()).map(held).collect();
        part.append(&held).expect("it is writable");
        part
    }

    fn part(&self, signer: &Replicator, seed: u8, length: u64) -> PartialSignature {
        let place = u64::from(seed) - 1;
        signer
            .with_core(|core| core.partial_signature(place, length))
            .expect("it is signed")
    }
}

/// A core of Node's, by its name there.
#[derive(Debug)]
pub(crate) struct Theirs {
    pub(crate) name: String,
    pub(crate) key: Key,
    kind: Kind,
    length: u64,
}

impl Theirs {
    pub(crate) async fn new(node: &mut Node, name: impl Into<String>, kind: Kind) -> Self {
        Self::of(node, name, kind, 4).await
    }

    /// Each number makes another core.
    pub(crate) async fn of(
        node: &mut Node,
        name: impl Into<String>,
        kind: Kind,
        number: u8,
    ) -> Self {
        let name = name.into();
        let mut input = json!({ "core": name });
        match kind.manifest(number) {
            Some(manifest) => {
                input["manifest"] = json!(hex(manifest.encode().expect("a manifest")));
                // Several signers sign by hand.
                input["seed"] = if kind.signers().is_none() {
                    json!(1)
                } else {
                    Value::Null
                };
            }
            None => input["seed"] = json!(number),
        }
        if kind == Kind::Compat {
            input["compat"] = json!(true);
        }
        let answer = node.ask("open", input).await;
        let theirs = Self {
            key: unhex(&answer["key"]).try_into().expect("32 bytes"),
            length: kind.first(),
            name,
            kind,
        };
        if kind == Kind::Prologue {
            let input = json!({ "core": theirs.name, "blocks": PROLOGUE.map(hex) });
            node.ask("append", input).await;
        }
        theirs
    }

    /// Extends the core to `length` blocks, not counting the initial ones.
    pub(crate) async fn extend(&mut self, node: &mut Node, length: u64, size: usize) {
        let count = length + self.kind.first() - self.length;
        self.append(node, self.length, count, size).await;
    }

    /// Appends the `count` blocks of the indexes from `from`.
    pub(crate) async fn append(&mut self, node: &mut Node, from: u64, count: u64, size: usize) {
        if count == 0 {
            return;
        }
        let mut input = json!({ "core": self.name, "from": from, "count": count, "size": size });
        if let Some(signers) = self.kind.signers() {
            input["signers"] = json!(signers.map(|(seed, _)| seed));
            input["ahead"] = json!(signers.map(|(_, ahead)| ahead));
        }
        self.length += count;
        node.ask("append", input).await;
    }

    pub(crate) async fn truncate(&mut self, node: &mut Node, length: u64) {
        let mut input = json!({ "core": self.name, "length": length });
        if let Some(signers) = self.kind.signers() {
            input["signers"] = json!(signers.map(|(seed, _)| seed));
        }
        self.length = length;
        node.ask("truncate", input).await;
    }
}

/// Has Node read a core of ours under a name.
pub(crate) async fn node_reads(node: &mut Node, name: &str, key: Key) {
    let input = json!({ "core": name, "key": hex(key) });
    node.ask("open", input).await;
}

pub(crate) async fn update(node: &mut Node, name: &str) {
    node.ask("update", json!({ "core": name })).await;
}

pub(crate) async fn download(node: &mut Node, name: &str, range: Range<u64>) {
    let input = json!({ "core": name, "start": range.start, "end": range.end });
    node.ask("download", input).await;
}

pub(crate) async fn close(node: &mut Node, name: &str) {
    node.ask("close", json!({ "core": name })).await;
}

pub(crate) async fn connect(node: &mut Node, is_initiator: bool) -> TcpStream {
    let socket = if is_initiator {
        let port = node.ask("listen", json!({})).await["port"].as_u64();
        let port = u16::try_from(port.expect("a port")).expect("a port");
        TcpStream::connect(("127.0.0.1", port)).await
    } else {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let port = listener.local_addr().expect("an address").port();
        node.ask("dial", json!({ "port": port })).await;
        listener.accept().await.map(|(socket, _)| socket)
    };
    socket.expect("a connection")
}

/// A stream between cores of ours and a Node peer, run by a task.
pub(crate) struct Link(JoinHandle<Result<(), SessionError>>);

impl Drop for Link {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Link {
    pub(crate) async fn with(node: &mut Node, cores: &[&Replicator], is_initiator: bool) -> Self {
        let socket = connect(node, is_initiator).await;
        Self::over(socket, cores, is_initiator).await
    }

    pub(crate) async fn over(socket: TcpStream, cores: &[&Replicator], is_initiator: bool) -> Self {
        socket.set_nodelay(true).expect("a socket");
        let protocol = ProtocolBuilder::new(is_initiator).connect(socket);
        let mut session = Session::new(protocol);
        for core in cores {
            session.add(core).expect("an open stream");
        }
        Self(tokio::spawn(async move {
            let ended = session.run().await;
            // The remaining messages to a dropped peer.
            let _ = session.close().await;
            ended
        }))
    }

    /// The result of the stream.
    pub(crate) async fn end(mut self) -> Result<(), SessionError> {
        soon(&mut self.0).await.expect("it does not panic")
    }

    /// Ends it from Node's side.
    pub(crate) async fn cut(self, node: &mut Node) {
        node.ask("disconnect", json!({})).await;
        // The result does not matter.
        let _ = self.end().await;
    }
}

pub(crate) async fn link(one: &Replicator, other: &Replicator) -> (Link, Link) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let dialled = TcpStream::connect(address).await.expect("a connection");
    let (accepted, _) = listener.accept().await.expect("a connection");
    (
        Link::over(dialled, &[one], true).await,
        Link::over(accepted, &[other], false).await,
    )
}

/// The digest of blocks, each with its length, the same as on the Node side.
pub(crate) fn digest(core: &Replicator, range: Range<u64>) -> String {
    let mut hash = Sha256::new();
    for index in range {
        let value = core.get_held(index).expect("the store").expect("a block");
        let length = u32::try_from(value.len()).expect("a block's length");
        hash.update(length.to_le_bytes());
        hash.update(&value);
    }
    hex(hash.finalize())
}

/// Waits for an event and returns its contents.
pub(crate) async fn event<T>(
    events: &mut Events,
    find: impl Fn(&ReplicatorEvent) -> Option<T>,
) -> T {
    soon(async {
        loop {
            if let Some(found) = find(&events.next().await) {
                return found;
            }
        }
    })
    .await
}

/// Asserts that the core is the same on both sides, to the last byte.
pub(crate) async fn assert_same(core: &Replicator, node: &mut Node, name: &str, context: &str) {
    let info = core.info().expect("a hash");
    let theirs = node.ask("info", json!({ "core": name })).await;
    assert_eq!(theirs["length"], info.length, "{context}");
    assert_eq!(theirs["byteLength"], info.byte_length, "{context}");
    assert_eq!(theirs["fork"], info.fork, "{context}");
    if info.length > 0 {
        assert_eq!(theirs["treeHash"], hex(info.tree_hash), "{context}");
    }
    assert_same_blocks(core, node, name, 0..info.length, context).await;
}

pub(crate) async fn assert_same_blocks(
    core: &Replicator,
    node: &mut Node,
    name: &str,
    range: Range<u64>,
    context: &str,
) {
    let input = json!({ "core": name, "start": range.start, "end": range.end });
    let theirs = node.ask("digest", input).await;
    assert_eq!(theirs["sha256"], digest(core, range), "{context}");
}
