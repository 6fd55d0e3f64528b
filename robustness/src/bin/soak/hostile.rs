//! A process that knows the keys of the replicated cores and keeps attacking the process under test.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hypercore_protocol::manifest::{Manifest, Signer};
use hypercore_protocol::schema::{
    Data, DataBlock, Extension, NoData, Range, Request, RequestBlock, RequestUpgrade, Sync, Want,
};
use hypercore_protocol::{Channel, Event, Key, Message, ProtocolBuilder};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::{Failure, Random};

/// The maximum length of a connection; most are shorter.
const LONGEST: Duration = Duration::from_secs(12);

/// Connections at once.
const AT_ONCE: u64 = 6;

/// Messages of a flood on one connection.
const FLOOD: u64 = 40_000;

/// The kinds of attacks, once the channel of a core is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Connects and stays silent.
    Silent,
    /// Random bytes.
    Garbage,
    /// A handshake and no channel.
    NoOpen,
    /// A flood of closes and opens.
    OpenClose,
    /// A core of 2^50 blocks, never proven.
    FarUpgrade,
    /// A fork of 2^40, never proven.
    FarFork,
    /// Takes requests and never answers.
    TakesRequests,
    /// Denies each block, and announces it again.
    Denies,
    /// Answers with random bytes.
    WrongValues,
    /// A manifest that names the core's own key as its signer.
    ForeignManifest,
    /// A valid proof with sizes shifted between its nodes, which looks like that of a second history.
    ShiftedSizes,
    /// Valid but old proofs, some of them of an abandoned fork.
    OldProofs,
    // The following attacks read nothing.
    /// Wants everything, repeatedly.
    Wants,
    /// Requests.
    Requests,
    /// Long names of extensions.
    Extensions,
    /// Announces everything and nothing, in turns.
    Announcements,
}

impl Kind {
    const ALL: [Self; 16] = [
        Self::Silent,
        Self::Garbage,
        Self::NoOpen,
        Self::OpenClose,
        Self::FarUpgrade,
        Self::FarFork,
        Self::TakesRequests,
        Self::Denies,
        Self::WrongValues,
        Self::ForeignManifest,
        Self::ShiftedSizes,
        Self::OldProofs,
        Self::Wants,
        Self::Requests,
        Self::Extensions,
        Self::Announcements,
    ];
}

/// Counters for each core.
#[derive(Default)]
struct Counts {
    /// Opened channels.
    opened: AtomicU64,
    /// Received requests of the other side.
    asked: AtomicU64,
    /// Proofs of the other side that were sent back, corrupted or late.
    proofs: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Attacks until standard input ends; then prints the counts for each core as a line of JSON.
pub(crate) async fn run(port: u16, keys: Vec<Key>, seed: u64) {
    let counts: Arc<Vec<Counts>> = Arc::new(keys.iter().map(|_| Counts::default()).collect());
    for at in 0..AT_ONCE {
        let mut random = Random::new(seed, at);
        let (keys, counts) = (keys.clone(), Arc::clone(&counts));
        tokio::spawn(async move {
            let mut proofs: Vec<VecDeque<Data>> = vec![VecDeque::new(); keys.len()];
            loop {
                let kind = Kind::ALL[random.index(Kind::ALL.len())];
                let core = random.index(keys.len());
                let mut attack = Attack {
                    kind,
                    key: keys[core],
                    counts: &counts[core],
                    proofs: &mut proofs[core],
                    random: &mut random,
                };
                let time = LONGEST.mul_f64(0.1 + attack.random.below(900) as f64 / 1000.0);
                // Whatever ends it, the next one follows.
                let _ = timeout(time, attack.run(port)).await;
                sleep(Duration::from_millis(random.below(500))).await;
            }
        });
    }
    // Until the parent closes our standard input.
    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await;
    let counts = counts.iter().map(|counts| {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!([get(&counts.opened), get(&counts.asked), get(&counts.proofs)])
    });
    println!("{}", json!(counts.collect::<Vec<_>>()));
}

/// Proofs of a core kept for a later attack.
const KEPT: usize = 8;

struct Attack<'a> {
    kind: Kind,
    key: Key,
    counts: &'a Counts,
    /// Valid proofs of this core, the oldest first.
    proofs: &'a mut VecDeque<Data>,
    random: &'a mut Random,
}

impl Attack<'_> {
    async fn run(&mut self, port: u16) -> Result<(), Failure> {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
        match self.kind {
            Kind::Silent => {
                sleep(LONGEST).await;
                return Ok(());
            }
            Kind::Garbage => {
                socket.write_all(&self.random.bytes(4000)).await?;
                sleep(LONGEST).await;
                return Ok(());
            }
            _ => {}
        }
        let mut protocol = ProtocolBuilder::new(true).connect(socket);
        if self.kind != Kind::NoOpen {
            protocol.open(self.key)?;
        }
        let mut opened = None;
        while let Some(event) = protocol.next().await {
            if let Event::Channel(channel) = event? {
                opened = Some(channel);
                break;
            }
        }
        let Some(channel) = opened else { return Ok(()) };
        count(&self.counts.opened);
        if self.kind == Kind::OpenClose {
            for _ in 0..2000 {
                protocol.close_channel(channel.handle());
                protocol.open(self.key)?;
                let next = timeout(Duration::from_millis(5), protocol.next()).await;
                if let Ok(Some(event)) = next {
                    event?;
                }
            }
            return Ok(());
        }
        protocol.drive(self.on_channel(channel)).await
    }

    async fn on_channel(&mut self, channel: Channel) -> Result<(), Failure> {
        let mut sync = Sync {
            length: 200,
            can_upgrade: true,
            uploading: true,
            downloading: true,
            has_manifest: true,
            ..Sync::default()
        };
        match self.kind {
            Kind::FarUpgrade => sync.length = 1 << 50,
            Kind::FarFork => sync.fork = 1 << 40,
            Kind::ShiftedSizes | Kind::OldProofs => sync.length = 0,
            _ => {}
        }
        channel.sync(sync).await?;
        channel.have(0, sync.length).await?;
        match self.kind {
            Kind::Wants | Kind::Requests | Kind::Extensions | Kind::Announcements => {
                self.flood(&channel).await
            }
            Kind::ShiftedSizes | Kind::OldProofs => self.send_back(&channel).await,
            _ => self.lie(&channel, sync).await,
        }
    }

    /// Sends much and reads nothing.
    async fn flood(&mut self, channel: &Channel) -> Result<(), Failure> {
        for at in 0..FLOOD {
            let message: Message = match self.kind {
                Kind::Wants => Want {
                    start: 0,
                    length: 1_000_000 + at,
                    any: false,
                }
                .into(),
                Kind::Requests => Request {
                    id: at + 1,
                    block: Some(RequestBlock {
                        index: self.random.below(200),
                        nodes: 0,
                    }),
                    ..Request::default()
                }
                .into(),
                Kind::Extensions => Extension {
                    name: "x".repeat(2000).into(),
                    message: Vec::new().into(),
                }
                .into(),
                _ => Range {
                    drop: at % 2 == 0,
                    start: self.random.below(100),
                    length: self.random.below(1 << 30),
                }
                .into(),
            };
            channel.send(message).await?;
        }
        sleep(LONGEST).await;
        Ok(())
    }

    /// Requests proofs of earlier lengths, and sends them back, corrupted or late.
    async fn send_back(&mut self, channel: &Channel) -> Result<(), Failure> {
        let mut id = 0;
        while let Some(message) = channel.recv().await {
            match message {
                Message::Sync(sync) if sync.length > 1 => {
                    for _ in 0..4 {
                        id += 1;
                        let request = Request {
                            id,
                            fork: sync.fork,
                            block: Some(RequestBlock { index: 0, nodes: 0 }),
                            upgrade: Some(RequestUpgrade {
                                start: 0,
                                length: 1 + self.random.below(sync.length),
                            }),
                            manifest: true,
                            ..Request::default()
                        };
                        channel.request(request).await?;
                    }
                }
                Message::Data(mut data) => {
                    data.request = 0;
                    if self.kind == Kind::ShiftedSizes {
                        self.shift(&mut data);
                        count(&self.counts.proofs);
                        channel.data(data).await?;
                        continue;
                    }
                    for old in self.proofs.iter() {
                        count(&self.counts.proofs);
                        channel.data(old.clone()).await?;
                    }
                    self.proofs.push_back(data);
                    if self.proofs.len() > KEPT {
                        self.proofs.pop_front();
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Moves bytes from one node of an upgrade to the next one, keeping the sum.
    fn shift(&mut self, data: &mut Data) {
        let Some(upgrade) = &mut data.upgrade else {
            return;
        };
        let mut nodes: Vec<_> = upgrade
            .nodes
            .iter_mut()
            .chain(&mut upgrade.additional_nodes)
            .collect();
        if nodes.len() < 2 {
            return;
        }
        let from = self.random.index(nodes.len());
        let to = (from + 1) % nodes.len();
        let bytes = nodes[from].size.min(1 + self.random.below(8));
        nodes[from].size -= bytes;
        nodes[to].size += bytes;
    }

    /// Answers requests wrongly, or not at all.
    async fn lie(&mut self, channel: &Channel, sync: Sync) -> Result<(), Failure> {
        while let Some(message) = channel.recv().await {
            let Message::Request(request) = message else {
                continue;
            };
            count(&self.counts.asked);
            match self.kind {
                Kind::Denies => {
                    channel
                        .no_data(NoData {
                            request: request.id,
                            reason: NoData::NOT_AVAILABLE,
                        })
                        .await?;
                    channel.have(0, sync.length).await?;
                    channel.sync(sync).await?;
                }
                Kind::WrongValues => {
                    let block = request.block.map(|block| DataBlock {
                        index: block.index,
                        value: self.random.bytes(100).into(),
                        nodes: Vec::new(),
                    });
                    channel
                        .data(Data {
                            request: request.id,
                            fork: request.fork,
                            block,
                            ..Data::default()
                        })
                        .await?;
                }
                Kind::ForeignManifest => {
                    let manifest = Manifest {
                        version: 1,
                        quorum: 1,
                        signers: vec![Signer::new(self.key.into())],
                        ..Manifest::default()
                    };
                    channel
                        .data(Data {
                            request: request.id,
                            fork: request.fork,
                            manifest: Some(Box::new(manifest)),
                            ..Data::default()
                        })
                        .await?;
                }
                // Received, and never answered.
                _ => {}
            }
        }
        Ok(())
    }
}
