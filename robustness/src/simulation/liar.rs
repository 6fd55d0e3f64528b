//! Hostile peers that know a core's key.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hypercore_protocol::connection::ChannelHandle;
use hypercore_protocol::encoding::Encode;
use hypercore_protocol::manifest::{Manifest, Signer};
use hypercore_protocol::runtime::{Io, Timer};
use hypercore_protocol::schema::{
    Bitfield, Data, Extension, NoData, Node, Range, Request, RequestBlock, RequestUpgrade, Sync,
    Unwant, Want,
};
use hypercore_protocol::{Connection, ConnectionEvent, Key, Message};

use super::executor::{Sim, SimTimer};
use super::link::SimIo;
use super::random::Random;
use super::world::World;

/// Bytes of a flood on one connection.
const FLOOD: usize = 48 * 1024;

/// The kinds of lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Accepts the connection and stays silent.
    Silent,
    /// Random bytes.
    Garbage,
    /// Random records.
    GarbageRecords,
    /// One byte a second of a record of 16 MiB.
    Trickle,
    /// Leaves the open unanswered, and keeps the stream alive.
    IgnoresOpen,
    /// Claims to have everything, receives requests, never answers.
    TakesRequests,
    /// Correct answers, 40 s later.
    LateAnswers,
    /// Claims to have everything, has nothing, and repeats the claim each time.
    DeniesBlocks,
    /// The same with a longer core.
    DeniesUpgrades,
    /// A core of 2^50 blocks, never proven.
    FarUpgrade,
    /// A fork of 2^50, never proven.
    FarFork,
    /// Another later fork whenever the last one was not proven.
    LaterForks,
    /// Claims to be longer, but nothing can be requested from it.
    WrongRemoteLength,
    /// Valid proofs of wrong values.
    WrongValues,
    /// Proofs with a wrong hash.
    WrongHashes,
    /// Proofs without one of their nodes.
    MissingNodes,
    /// Proofs whose sizes are shifted from one node to another.
    ShiftedSizes,
    /// Valid data of another block.
    OtherBlocks,
    /// A manifest that names the core's own key as its signer.
    ForeignManifest,
    /// An unrequested proof, which looks like that of a second history.
    FalseConflict,
    /// Unrequested data.
    UnsolicitedData,
    /// Closes and opens the channel, and never reads.
    OpenClose,
    /// Wants everything, repeatedly, and never reads.
    Wants,
    /// Another state each time, and never reads.
    Syncs,
    /// Requests, and never reads.
    Requests,
    /// Invalid requests.
    InvalidRequests,
    /// One long name, and many messages that repeat it by leaving it out.
    Extensions,
    /// Announces everything and nothing, in turns.
    Announcements,
    /// Nested batches.
    NestedBatches,
}

impl Lie {
    pub(crate) const ALL: [Self; 29] = [
        Self::Silent,
        Self::Garbage,
        Self::GarbageRecords,
        Self::Trickle,
        Self::IgnoresOpen,
        Self::TakesRequests,
        Self::LateAnswers,
        Self::DeniesBlocks,
        Self::DeniesUpgrades,
        Self::FarUpgrade,
        Self::FarFork,
        Self::LaterForks,
        Self::WrongRemoteLength,
        Self::WrongValues,
        Self::WrongHashes,
        Self::MissingNodes,
        Self::ShiftedSizes,
        Self::OtherBlocks,
        Self::ForeignManifest,
        Self::FalseConflict,
        Self::UnsolicitedData,
        Self::OpenClose,
        Self::Wants,
        Self::Syncs,
        Self::Requests,
        Self::InvalidRequests,
        Self::Extensions,
        Self::Announcements,
        Self::NestedBatches,
    ];
}

/// Lies that the code does not withstand yet: worlds have honest readers in their place.
const NOT_YET: [(Lie, &str); 0] = [];

/// The lies that worlds have. `LIES=Silent,Wants` selects only these, so that each occurs more often.
pub(crate) fn usual() -> Vec<Lie> {
    if let Ok(only) = std::env::var("LIES") {
        let is_named = |lie: &Lie| only.split(',').any(|name| name == format!("{lie:?}"));
        return Lie::ALL.into_iter().filter(is_named).collect();
    }
    let waits = |lie: &Lie| NOT_YET.iter().any(|(not_yet, _)| not_yet == lie);
    Lie::ALL.into_iter().filter(|lie| !waits(lie)).collect()
}

/// One end of a connection, without the driver's flow control.
struct Mouth {
    io: SimIo,
    connection: Connection,
    alarm: SimTimer,
    sim: Sim,
}

impl Mouth {
    fn new(io: SimIo, connection: Connection, sim: &Sim) -> Self {
        Self {
            io,
            connection,
            alarm: sim.clock().timer(),
            sim: sim.clone(),
        }
    }

    /// Sends pending bytes, and returns the next event, if it reads at all. `None` once the stream is over.
    fn poll(
        &mut self,
        cx: &mut std::task::Context<'_>,
        reads: bool,
    ) -> Poll<Option<ConnectionEvent>> {
        let mut buffer = [0; 4096];
        loop {
            if reads {
                match self.connection.poll_event() {
                    Ok(Some(event)) => return Poll::Ready(Some(event)),
                    Ok(None) => {}
                    Err(_) => return Poll::Ready(None),
                }
            }
            let now = self.sim.now();
            let deadline = self.connection.next_deadline();
            if self.alarm.poll_deadline(cx, deadline).is_ready() {
                self.connection.handle_timeout(now);
                continue;
            }
            let mut moved = false;
            if !self.connection.transmit().is_empty() {
                match self.io.poll_write(cx, self.connection.transmit()) {
                    Poll::Ready(Ok(count)) => {
                        self.connection.consume_transmit(count, now);
                        moved = true;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(None),
                    Poll::Pending => {}
                }
            }
            if reads && self.connection.wants_input() {
                match self.io.poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                    Poll::Ready(Ok(count)) => {
                        self.connection.receive(&buffer[..count], now);
                        moved = true;
                    }
                    Poll::Pending => {}
                }
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    async fn next(&mut self) -> Option<ConnectionEvent> {
        poll_fn(|cx| self.poll(cx, true)).await
    }

    /// Sends everything, and reads nothing. Returns whether the stream is alive.
    async fn flush(&mut self) -> bool {
        poll_fn(|cx| match self.poll(cx, false) {
            Poll::Ready(_) => Poll::Ready(false),
            Poll::Pending if self.connection.transmit().is_empty() => Poll::Ready(true),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    fn say(&mut self, channel: ChannelHandle, message: impl Into<Message>) {
        // A closed channel accepts nothing.
        let _ = self.connection.send(channel, &message.into());
    }

    fn plain(&mut self, record: &[u8]) {
        // Nor does an ended stream.
        let _ = self.connection.send_plaintext_for_testing_only(record);
    }

    /// Neither sends nor reads for a while.
    async fn stay(mut self, time: Duration) {
        let until = self.sim.now() + time;
        let mut timer = self.sim.clock().timer();
        poll_fn(|cx| match self.poll(cx, false) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => timer.poll_deadline(cx, Some(until)),
        })
        .await;
    }

    async fn open(&mut self, key: Key) -> Option<(ChannelHandle, u64)> {
        self.connection.open(key).ok()?;
        loop {
            if let ConnectionEvent::ChannelOpened {
                channel, local_id, ..
            } = self.next().await?
            {
                return Some((channel, local_id));
            }
        }
    }
}

/// Lies on one connection until it is over, or for a while.
pub(crate) async fn lie(
    world: Rc<World>,
    lie: Lie,
    io: SimIo,
    connection: Connection,
    random: Random,
) {
    let mut liar = Liar {
        mouth: Mouth::new(io, connection, &world.sim),
        lie,
        random,
        world: Rc::clone(&world),
        forks: 0,
    };
    match lie {
        Lie::Silent => world.sim.sleep(Duration::from_secs(120)).await,
        Lie::Garbage => {
            let bytes = liar.random.bytes(2000);
            liar.mouth.connection.send_raw_for_testing_only(&bytes);
            liar.mouth.stay(Duration::from_secs(60)).await;
        }
        Lie::Trickle => {
            // In worlds with a handshake this is part of it, and ends by its time-out.
            for at in 0..120 {
                let byte = if at < 3 { 0xfe } else { 0 };
                liar.mouth.connection.send_raw_for_testing_only(&[byte]);
                if !liar.mouth.flush().await {
                    return;
                }
                world.sim.sleep(Duration::from_secs(1)).await;
            }
        }
        Lie::IgnoresOpen => while liar.mouth.next().await.is_some() {},
        _ => liar.on_channel().await,
    }
}

struct Liar {
    mouth: Mouth,
    lie: Lie,
    random: Random,
    world: Rc<World>,
    forks: u64,
}

impl Liar {
    async fn on_channel(mut self) {
        let key = self.world.key;
        let Some((channel, local_id)) = self.mouth.open(key).await else {
            return;
        };
        match self.lie {
            Lie::GarbageRecords => {
                for _ in 0..20 {
                    let size = usize::try_from(self.random.below(60)).expect("bytes");
                    let mut record = self.random.bytes(size);
                    if self.random.one_in(2) {
                        // On our channel, with a known type.
                        record.splice(0..0, [1, self.random.below(10).to_le_bytes()[0]]);
                    }
                    self.mouth.plain(&record);
                }
                self.mouth.stay(Duration::from_secs(60)).await;
            }
            Lie::OpenClose
            | Lie::Wants
            | Lie::Syncs
            | Lie::Requests
            | Lie::InvalidRequests
            | Lie::Extensions
            | Lie::Announcements
            | Lie::NestedBatches
            | Lie::UnsolicitedData => self.flood(channel, local_id).await,
            _ => self.converse(channel).await,
        }
    }

    /// Sends much and reads nothing.
    async fn flood(mut self, channel: ChannelHandle, local_id: u64) {
        let (_, length) = self.world.truth();
        let mut channel = channel;
        let mut sent = 0;
        let mut round = 0u64;
        while sent < FLOOD {
            round += 1;
            let before = self.mouth.connection.transmit().len();
            match self.lie {
                Lie::OpenClose => {
                    self.mouth.connection.close(channel);
                    let Ok(opened) = self.mouth.connection.open(self.world.key) else {
                        break;
                    };
                    channel = opened;
                }
                Lie::Wants => {
                    let want = Want {
                        start: 0,
                        length: 200_000 + round,
                        any: false,
                    };
                    let items = (0..200).map(|_| item(5, &want));
                    self.mouth.plain(&batch(local_id, items));
                }
                Lie::Syncs => {
                    for at in 0..50 {
                        self.mouth.say(
                            channel,
                            Sync {
                                length: round * 50 + at,
                                uploading: true,
                                downloading: true,
                                ..Sync::default()
                            },
                        );
                    }
                }
                Lie::Requests => {
                    for at in 0..50 {
                        let block = RequestBlock {
                            index: self.random.below(length),
                            nodes: 0,
                        };
                        self.mouth.say(
                            channel,
                            Request {
                                id: round * 50 + at,
                                block: Some(block),
                                ..Request::default()
                            },
                        );
                    }
                }
                Lie::InvalidRequests => {
                    let block = RequestBlock {
                        index: self.random.of(&[0, 1, length, 1 << 52]),
                        nodes: self.random.of(&[0, 7, 40, 1 << 52]),
                    };
                    let upgrade = RequestUpgrade {
                        start: self.random.of(&[0, length, 1 << 52]),
                        length: self.random.of(&[0, 1, length, 1 << 52]),
                    };
                    self.mouth.say(
                        channel,
                        Request {
                            id: round,
                            fork: self.random.below(2),
                            block: self.random.one_in(2).then_some(block),
                            hash: self.random.one_in(2).then_some(block),
                            upgrade: self.random.one_in(2).then_some(upgrade),
                            ..Request::default()
                        },
                    );
                }
                Lie::Extensions => {
                    let name = "x".repeat(8000);
                    let named = Extension {
                        name: name.into(),
                        message: Vec::new().into(),
                    };
                    let items = std::iter::once(item(9, &named));
                    let again = item(9, &Extension::default());
                    let items = items.chain((0..4000).map(|_| again.clone()));
                    self.mouth.plain(&batch(local_id, items));
                }
                Lie::Announcements => {
                    let bits = Bitfield {
                        start: self.random.below(8) << 15,
                        bitfield: vec![u32::MAX; 16],
                    };
                    let range = Range {
                        drop: round.is_multiple_of(2),
                        start: self.random.below(4),
                        length: self.random.of(&[1, length, 1 << 40]),
                    };
                    let unwant = Unwant {
                        start: 0,
                        length: round,
                        any: false,
                    };
                    self.mouth.say(channel, bits);
                    self.mouth.say(channel, range);
                    self.mouth.say(channel, unwant);
                }
                Lie::NestedBatches => {
                    let mut record = vec![0, 0];
                    for _ in 0..self.random.of(&[2, 60, 63, 64, 65, 3000]) {
                        record.splice(0..0, [0, 0]);
                    }
                    self.mouth.plain(&record);
                }
                _ => {
                    let Some(mut data) = self.proof(0) else { break };
                    data.request = self.random.below(4);
                    self.mouth.say(channel, data);
                }
            }
            sent += (self.mouth.connection.transmit().len() - before).max(64);
            if !self.mouth.flush().await {
                return;
            }
        }
        self.mouth.stay(Duration::from_secs(90)).await;
    }

    /// Reads, and answers according to the lie.
    async fn converse(mut self, channel: ChannelHandle) {
        self.greet(channel, 0);
        if self.lie == Lie::FalseConflict {
            self.false_conflict(channel);
        }
        let mut late: Vec<(Duration, Message)> = Vec::new();
        loop {
            let next = late.first().map(|(at, _)| *at);
            let mut timer = self.world.sim.clock().timer();
            let event = poll_fn(|cx| match self.mouth.poll(cx, true) {
                Poll::Ready(event) => Poll::Ready(Some(event)),
                Poll::Pending => timer.poll_deadline(cx, next).map(|()| None),
            })
            .await;
            let event = match event {
                Some(Some(event)) => event,
                Some(None) => return,
                None => {
                    let (_, message) = late.remove(0);
                    self.mouth.say(channel, message);
                    continue;
                }
            };
            match event {
                ConnectionEvent::ChannelClosed { .. } | ConnectionEvent::End(_) => return,
                ConnectionEvent::Message { message, .. } => match message {
                    Message::Sync(sync) => self.greet(channel, sync.length),
                    Message::Request(request) => {
                        self.world.liar_asked();
                        if self.lie == Lie::LateAnswers {
                            if let Some(data) = self.answer(&request) {
                                let at = self.world.sim.now() + Duration::from_secs(40);
                                late.push((at, data.into()));
                            }
                        } else {
                            self.reply(channel, &request);
                        }
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    }

    fn greet(&mut self, channel: ChannelHandle, remote_length: u64) {
        let (fork, length) = self.world.truth();
        let mut sync = Sync {
            fork,
            length,
            remote_length,
            can_upgrade: true,
            uploading: true,
            downloading: true,
            has_manifest: true,
            allow_push: false,
        };
        match self.lie {
            Lie::DeniesUpgrades => sync.length += 1 + self.random.below(100),
            Lie::FarUpgrade => sync.length = 1 << 50,
            Lie::FarFork => (sync.fork, sync.length) = (1 << 50, 1 << 50),
            Lie::LaterForks => {
                self.forks += 1;
                sync.fork = fork + self.forks;
            }
            Lie::WrongRemoteLength => {
                sync.length = 1 << 40;
                sync.remote_length = 77;
                sync.can_upgrade = false;
            }
            Lie::ForeignManifest => {
                (sync.length, sync.can_upgrade) = (0, false);
            }
            _ => {}
        }
        self.mouth.say(channel, sync);
        self.mouth.say(
            channel,
            Range {
                drop: false,
                start: 0,
                length: sync.length,
            },
        );
    }

    fn reply(&mut self, channel: ChannelHandle, request: &Request) {
        match self.lie {
            Lie::DeniesBlocks | Lie::DeniesUpgrades | Lie::LaterForks => {
                self.mouth.say(
                    channel,
                    NoData {
                        request: request.id,
                        reason: NoData::NOT_AVAILABLE,
                    },
                );
                let remote_length = request.upgrade.map_or(0, |upgrade| upgrade.start);
                self.greet(channel, remote_length);
            }
            Lie::TakesRequests | Lie::FarUpgrade | Lie::FarFork | Lie::WrongRemoteLength => {}
            Lie::ForeignManifest => {
                let manifest = Manifest {
                    version: 1,
                    quorum: 1,
                    signers: vec![Signer::new(self.world.key.into())],
                    ..Manifest::default()
                };
                self.mouth.say(
                    channel,
                    Data {
                        request: request.id,
                        fork: request.fork,
                        manifest: Some(Box::new(manifest)),
                        ..Data::default()
                    },
                );
            }
            _ => {
                if let Some(data) = self.answer(request) {
                    self.mouth.say(channel, data);
                }
            }
        }
    }

    /// The truth, changed by the lie.
    fn answer(&mut self, request: &Request) -> Option<Data> {
        let mut asked = request.clone();
        match self.lie {
            Lie::OtherBlocks => {
                let (_, length) = self.world.truth();
                if let Some(block) = &mut asked.block {
                    block.index = self.random.below(length);
                }
            }
            // So that there are also nodes beyond the requested ones.
            Lie::ShiftedSizes => {
                if let Some(upgrade) = asked.upgrade.as_mut().filter(|it| it.length > 1) {
                    upgrade.length = self.random.between(1, upgrade.length);
                }
            }
            _ => {}
        }
        let mut data = self.world.prove(&asked)?;
        match self.lie {
            Lie::WrongValues => {
                if let Some(block) = &mut data.block {
                    let mut value = block.value.to_vec();
                    match value.first_mut() {
                        Some(byte) => *byte ^= 1,
                        None => value.push(1),
                    }
                    block.value = value.into();
                }
            }
            Lie::WrongHashes => {
                let mut nodes = nodes(&mut data);
                let count = nodes.len() as u64;
                if count > 0 {
                    let at = usize::try_from(self.random.below(count)).expect("an index");
                    nodes[at].hash[3] ^= 4;
                }
            }
            Lie::MissingNodes => {
                let lists = [
                    data.block.as_mut().map(|it| &mut it.nodes),
                    data.hash.as_mut().map(|it| &mut it.nodes),
                    data.seek.as_mut().map(|it| &mut it.nodes),
                    data.upgrade.as_mut().map(|it| &mut it.nodes),
                ];
                if let Some(nodes) = lists.into_iter().flatten().find(|nodes| !nodes.is_empty()) {
                    nodes.pop();
                }
            }
            Lie::ShiftedSizes => shift(&mut data, &mut self.random),
            _ => {}
        }
        Some(data)
    }

    fn proof(&mut self, id: u64) -> Option<Data> {
        let (fork, length) = self.world.truth();
        self.world.prove(&Request {
            id,
            fork,
            block: Some(RequestBlock {
                index: self.random.below(length),
                nodes: 0,
            }),
            upgrade: Some(RequestUpgrade { start: 0, length }),
            manifest: true,
            ..Request::default()
        })
    }

    fn false_conflict(&mut self, channel: ChannelHandle) {
        let (fork, length) = self.world.truth();
        for part in 1..length.min(20) {
            let request = Request {
                fork,
                upgrade: Some(RequestUpgrade {
                    start: 0,
                    length: part,
                }),
                manifest: true,
                ..Request::default()
            };
            if let Some(mut data) = self.world.prove(&request) {
                shift(&mut data, &mut self.random);
                self.mouth.say(channel, data);
            }
        }
    }
}

fn nodes(data: &mut Data) -> Vec<&mut Node> {
    let block = data.block.iter_mut().flat_map(|it| &mut it.nodes);
    let hash = data.hash.iter_mut().flat_map(|it| &mut it.nodes);
    let seek = data.seek.iter_mut().flat_map(|it| &mut it.nodes);
    let upgrade = data
        .upgrade
        .iter_mut()
        .flat_map(|it| it.nodes.iter_mut().chain(&mut it.additional_nodes));
    block.chain(hash).chain(seek).chain(upgrade).collect()
}

/// Moves bytes from one node to another, keeping the sum.
fn shift(data: &mut Data, random: &mut Random) {
    let mut nodes = nodes(data);
    let count = nodes.len() as u64;
    if count < 2 {
        return;
    }
    // Sometimes the last two, which are siblings, else any.
    let from = usize::try_from(random.below(count)).expect("an index");
    let to = (from + 1) % nodes.len();
    let bytes = nodes[from].size.min(1 + random.below(8));
    nodes[from].size -= bytes;
    nodes[to].size += bytes;
}

/// A message in a batch: its type and its body.
fn item(kind: u8, message: &impl Encode) -> Vec<u8> {
    let mut item = vec![kind];
    item.extend(message.encode().expect("a message that can be sent"));
    item
}

fn uint(value: u64, out: &mut Vec<u8>) {
    match value {
        0..=0xfc => out.push(value.to_le_bytes()[0]),
        0xfd..=0xffff => {
            out.push(0xfd);
            out.extend(&value.to_le_bytes()[..2]);
        }
        _ => {
            out.push(0xfe);
            out.extend(&value.to_le_bytes()[..4]);
        }
    }
}

/// A protomux batch on a channel.
fn batch(channel: u64, items: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut record = vec![0, 0];
    uint(channel, &mut record);
    for item in items {
        uint(item.len() as u64, &mut record);
        record.extend(item);
    }
    record
}
