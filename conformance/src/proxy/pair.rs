//! One connection through the proxy: two encrypted streams, and the two directions between them.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hypercore_protocol::mux::Packet;
use hypercore_protocol::{Buffer, KeyPair, Transport, TransportConfig, TransportError};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::inject::{Action, Faults, Injection};
use super::keys::Keys;
use super::rewrite::{self, Bound, NO_KEY};
use super::trace::{Trace, side_name};
use crate::dissect::{Conversation, Dissection, Side};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// Maximum encrypted bytes per write, except for a single record.
const FLUSH_BYTES: usize = 256 << 10;

/// How long a reordered message waits for those that should overtake it.
const REORDER_LIMIT: Duration = Duration::from_secs(2);

/// How long one end may take to close after the other failed.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// How long the last bytes may take to leave before a reset.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// How many open core channels of a side are remembered.
const MAX_CORES: usize = 1 << 16;

/// State shared by all connections of a proxy.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) keys: Keys,
    pub(super) key_wait: Duration,
    pub(super) injections: Vec<Injection>,
    pub(super) trace: Trace,
    /// Whether the dialling peer is the responder.
    pub(super) reversed: bool,
    pub(super) listen_key_pair: KeyPair,
    pub(super) upstream_key_pair: KeyPair,
}

/// Why a direction ended.
#[derive(Debug)]
enum DirectionEnd {
    /// Its sender ended the stream, and the end was passed on.
    Ended,
    /// Its sender's connection was reset.
    Reset,
    /// Its sender's record could not be decrypted.
    Failed(TransportError),
    /// Its receiver closed.
    Refused,
    /// The proxy is shutting down.
    Stopped,
}

/// One encrypted stream.
#[derive(Debug)]
struct End {
    side: Side,
    stream: TcpStream,
    transport: Mutex<Transport>,
    /// The end of the direction, if it came before the direction started.
    early: Mutex<Option<DirectionEnd>>,
}

impl End {
    fn new(side: Side, stream: TcpStream, shared: &Shared) -> Result<Self, TransportError> {
        drop(stream.set_nodelay(true));
        let (is_initiator, key_pair) = match side {
            Side::Left => (shared.reversed, &shared.listen_key_pair),
            Side::Right => (!shared.reversed, &shared.upstream_key_pair),
        };
        let mut config = TransportConfig::default();
        config.is_initiator = is_initiator;
        config.key_pair = Some(key_pair.clone());
        let transport = Transport::new(config)?;
        Ok(Self {
            side,
            stream,
            transport: Mutex::new(transport),
            early: Mutex::new(None),
        })
    }

    fn transport(&self) -> MutexGuard<'_, Transport> {
        self.transport
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads into `chunk`; returns the number of bytes, 0 at the end.
    async fn read(&self, chunk: &mut [u8]) -> std::io::Result<usize> {
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(chunk) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    async fn write(&self, mut bytes: &[u8]) -> Result<(), DirectionEnd> {
        while !bytes.is_empty() {
            self.stream
                .writable()
                .await
                .map_err(|_| DirectionEnd::Refused)?;
            match self.stream.try_write(bytes) {
                Ok(0) => return Err(DirectionEnd::Refused),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Err(DirectionEnd::Refused),
            }
        }
        Ok(())
    }

    /// Writes the transport's pending bytes.
    async fn flush(&self, spare: &mut Vec<u8>) -> Result<(), DirectionEnd> {
        spare.clear();
        self.transport().swap_transmit(spare);
        let written = self.write(spare).await;
        spare.clear();
        written
    }

    /// Performs the handshake, including both headers.
    async fn greet(&self) -> Result<(), DirectionEnd> {
        let mut chunk = vec![0; 4096];
        let mut spare = Vec::new();
        loop {
            self.flush(&mut spare).await?;
            if self.transport().is_established() {
                return Ok(());
            }
            match self.read(&mut chunk).await {
                Ok(0) => {
                    drop(self.transport().receive_end());
                    return Err(DirectionEnd::Ended);
                }
                Ok(count) => {
                    let received = self.transport().receive(&chunk[..count]);
                    if let Err(error) = received {
                        if self.transport().handshake().is_some() && self.transport().has_records()
                        {
                            // Records came before the failure; the direction forwards them first.
                            self.set_early(DirectionEnd::Failed(error));
                            return Ok(());
                        }
                        drop(self.flush(&mut spare).await);
                        return Err(DirectionEnd::Failed(error));
                    }
                }
                Err(_) => return Err(DirectionEnd::Reset),
            }
        }
    }

    fn set_early(&self, over: DirectionEnd) {
        *self.early.lock().unwrap_or_else(PoisonError::into_inner) = Some(over);
    }

    fn take_early(&self) -> Option<DirectionEnd> {
        self.early
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// The parameters of the capabilities in this peer's opens.
    fn bound(&self) -> Option<Bound> {
        let transport = self.transport();
        let handshake = transport.handshake()?;
        Some(Bound {
            is_initiator: !handshake.is_initiator,
            hash: handshake.hash,
        })
    }

    /// Ends the stream to this end.
    fn end(&self) {
        drop(socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write));
    }

    /// Resets the connection, after the written bytes have left.
    async fn reset(&self) {
        drop(timeout(DRAIN_LIMIT, crate::drain::drained(&self.stream)).await);
        let socket = socket2::SockRef::from(&self.stream);
        drop(socket.set_linger(Some(Duration::ZERO)));
    }

    /// Sends the receiver a record that cannot be decrypted, as our sender did.
    async fn poison(&self) {
        // A frame of 32 unencrypted bytes; its MAC is right with a probability of 2^-128.
        let mut garbage = vec![32, 0, 0];
        garbage.resize(35, 0xee);
        let mut spare = Vec::new();
        drop(self.flush(&mut spare).await);
        drop(self.write(&garbage).await);
    }
}

/// Returns when the proxy is shutting down.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await.map(drop));
}

/// Runs one connection until it is over.
pub(super) async fn run(
    shared: Arc<Shared>,
    number: u64,
    dialer: TcpStream,
    upstream: &str,
    mut stop: watch::Receiver<bool>,
) {
    let trace = &shared.trace;
    let connection = Some(number);
    let target = tokio::select! {
        target = TcpStream::connect(upstream) => target,
        () = stopped(&mut stop) => return,
    };
    let target = match target {
        Ok(target) => target,
        Err(error) => {
            let event = format!("{upstream} cannot be reached: {error}");
            trace.event(connection, None, event).await;
            drop(socket2::SockRef::from(&dialer).set_linger(Some(Duration::ZERO)));
            return;
        }
    };
    let ends = End::new(Side::Left, dialer, &shared)
        .and_then(|left| Ok((left, End::new(Side::Right, target, &shared)?)));
    let (left, right) = match ends {
        Ok(ends) => ends,
        Err(error) => {
            trace.event(connection, None, error.to_string()).await;
            return;
        }
    };
    trace.event(connection, None, "connected").await;
    let pair = Pair {
        shared: Arc::clone(&shared),
        number,
        left,
        right,
        conversation: Mutex::new(Conversation::new()),
    };
    pair.run(stop).await;
    trace.event(connection, None, "over").await;
}

struct Pair {
    shared: Arc<Shared>,
    number: u64,
    left: End,
    right: End,
    conversation: Mutex<Conversation>,
}

impl Pair {
    async fn run(&self, stop: watch::Receiver<bool>) {
        if let Err((side, over)) = self.greet(stop.clone()).await {
            self.tell(side, &over).await;
            match over {
                DirectionEnd::Ended | DirectionEnd::Stopped => {
                    self.end(side.other()).end();
                    self.end(side).end();
                }
                DirectionEnd::Failed(_) => {
                    self.end(side.other()).poison().await;
                    self.end(side.other()).end();
                    self.end(side).end();
                }
                DirectionEnd::Reset | DirectionEnd::Refused => self.end(side.other()).reset().await,
            }
            return;
        }
        for end in [&self.left, &self.right] {
            if let (Some(bound), Ok(mut conversation)) = (end.bound(), self.conversation.lock()) {
                conversation.check_capabilities(end.side, bound.hash, bound.is_initiator);
            }
        }
        let mut ahead = Box::pin(self.carry(Side::Left, stop.clone()));
        let mut back = Box::pin(self.carry(Side::Right, stop));
        let (from, first) = tokio::select! {
            over = &mut ahead => (Side::Left, over),
            over = &mut back => (Side::Right, over),
        };
        self.tell(from, &first).await;
        let (sender, receiver) = (self.end(from), self.end(from.other()));
        let other = match from {
            Side::Left => back,
            Side::Right => ahead,
        };
        let second = match first {
            DirectionEnd::Ended => Some(other.await),
            DirectionEnd::Reset => None,
            DirectionEnd::Stopped | DirectionEnd::Failed(_) | DirectionEnd::Refused => {
                timeout(CLOSE_LIMIT, other).await.ok()
            }
        };
        if let Some(second) = &second {
            self.tell(from.other(), second).await;
        }
        match (&first, &second) {
            // Both have had their end; or the proxy, shutting down, gives it to both.
            (DirectionEnd::Ended, Some(DirectionEnd::Ended))
            | (DirectionEnd::Stopped, _)
            | (_, Some(DirectionEnd::Stopped)) => {
                sender.end();
                receiver.end();
                self.close_gently().await;
            }
            (DirectionEnd::Reset, _) => receiver.reset().await,
            (DirectionEnd::Ended, Some(DirectionEnd::Refused)) => receiver.reset().await,
            (_, Some(DirectionEnd::Reset)) => sender.reset().await,
            (DirectionEnd::Ended, Some(DirectionEnd::Failed(_))) => self.close_gently().await,
            (
                DirectionEnd::Failed(_),
                Some(DirectionEnd::Ended | DirectionEnd::Failed(_) | DirectionEnd::Refused),
            ) => {
                self.close_gently().await;
            }
            // The receiver closed: a sender that still sends gets a reset, as from TCP.
            (DirectionEnd::Refused, _) => sender.reset().await,
            (DirectionEnd::Ended | DirectionEnd::Failed(_), None) => {
                sender.reset().await;
                receiver.reset().await;
            }
        }
    }

    /// Reads the remaining bytes, so that closing a socket with unread data does not turn an end into a reset.
    async fn close_gently(&self) {
        let mut chunk = vec![0; CHUNK_BYTES];
        let rest = async {
            for end in [&self.left, &self.right] {
                while matches!(end.read(&mut chunk).await, Ok(1..)) {}
            }
        };
        drop(timeout(Duration::from_secs(1), rest).await);
    }

    fn end(&self, side: Side) -> &End {
        match side {
            Side::Left => &self.left,
            Side::Right => &self.right,
        }
    }

    async fn tell(&self, side: Side, over: &DirectionEnd) {
        let name = side_name(side);
        let other = side_name(side.other());
        let event = match over {
            DirectionEnd::Ended => format!("the {name} ended its stream"),
            DirectionEnd::Reset => format!("the {name}'s connection was reset"),
            DirectionEnd::Failed(error) => {
                format!("the {name} sent what cannot be opened: {error}")
            }
            DirectionEnd::Refused => format!("the {other} takes nothing more"),
            DirectionEnd::Stopped => "the proxy ends".into(),
        };
        let trace = &self.shared.trace;
        trace.event(Some(self.number), Some(side), event).await;
    }

    async fn greet(&self, mut stop: watch::Receiver<bool>) -> Result<(), (Side, DirectionEnd)> {
        let greet = async |side: Side| self.end(side).greet().await.map_err(|over| (side, over));
        tokio::select! {
            done = async { tokio::try_join!(greet(Side::Left), greet(Side::Right)) } => done.map(drop),
            () = stopped(&mut stop) => Err((Side::Left, DirectionEnd::Stopped)),
        }
    }

    async fn carry(&self, from: Side, mut stop: watch::Receiver<bool>) -> DirectionEnd {
        let (source, target) = (self.end(from), self.end(from.other()));
        let (Some(shown_to), Some(mut for_other)) = (source.bound(), target.bound()) else {
            return DirectionEnd::Reset;
        };
        // There the proxy itself is the sender.
        for_other.is_initiator = !for_other.is_initiator;
        let mut direction = Direction {
            pair: self,
            from,
            target,
            shown_to,
            for_other,
            faults: Faults::new(&self.shared.injections, from),
            cores: HashSet::new(),
            held: Vec::new(),
            spare: Vec::new(),
            number: 0,
            cut_off: false,
            stop: stop.clone(),
        };
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut over = source.take_early();
        loop {
            loop {
                let record = source.transport().poll_record();
                let Some(record) = record else { break };
                if let Err(over) = direction.record(record).await {
                    return over;
                }
            }
            if let Err(over) = target.flush(&mut direction.spare).await {
                return over;
            }
            if let Some(over) = over.take() {
                return direction.finish(over).await;
            }
            let due = direction.held.iter().map(|held| held.due).min();
            let read = tokio::select! {
                read = source.read(&mut chunk) => read,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if let Err(over) = direction.release(|held| held.due <= Instant::now()).await {
                        return over;
                    }
                    continue;
                }
                () = stopped(&mut stop) => return direction.finish(DirectionEnd::Stopped).await,
            };
            over = match read {
                Ok(0) => match source.transport().receive_end() {
                    Ok(_) => Some(DirectionEnd::Ended),
                    // The stream broke off within a record: send the receiver a partial record too.
                    Err(_) => {
                        direction.cut_off = true;
                        Some(DirectionEnd::Ended)
                    }
                },
                Ok(count) => source
                    .transport()
                    .receive(&chunk[..count])
                    .err()
                    .map(DirectionEnd::Failed),
                Err(_) => Some(DirectionEnd::Reset),
            };
        }
    }
}

/// A reordered record.
struct Held {
    /// How many records are still to overtake it.
    after: u64,
    due: Instant,
    /// A plaintext record, or an already encrypted one.
    bytes: Vec<u8>,
    sealed: bool,
}

/// The records from one side to the other.
struct Direction<'a> {
    pair: &'a Pair,
    from: Side,
    target: &'a End,
    shown_to: Bound,
    for_other: Bound,
    faults: Faults,
    /// The sender's ids of its open core channels.
    cores: HashSet<u64>,
    held: Vec<Held>,
    spare: Vec<u8>,
    number: u64,
    cut_off: bool,
    stop: watch::Receiver<bool>,
}

impl Held {
    fn new(bytes: Vec<u8>, sealed: bool, after: u64) -> Self {
        Self {
            after,
            due: Instant::now() + REORDER_LIMIT,
            bytes,
            sealed,
        }
    }
}

/// The actions on a record and its packets.
#[derive(Default)]
struct Fate {
    packets: Vec<Packet>,
    is_batch: bool,
    /// Whether a body was changed.
    tampered: bool,
    delay: Option<Duration>,
    pieces: Option<usize>,
    unbatch: bool,
    /// Packets taken out of the record, each with the number of records to come before it.
    reordered: Vec<(usize, u64)>,
    dropped: Vec<usize>,
    /// The actions taken, for the trace.
    done: Vec<String>,
}

impl Fate {
    fn is_changed(&self) -> bool {
        self.tampered || self.unbatch || !self.dropped.is_empty() || !self.reordered.is_empty()
    }

    fn apply(&mut self, at: usize, name: &str, injection: &Injection) {
        match injection.action {
            Action::Drop => self.dropped.push(at),
            Action::Delay => self.delay = Some(delay_of(injection)),
            Action::Reorder => self.reordered.push((at, injection.value.unwrap_or(1))),
            Action::Split => self.pieces = Some(injection.value.unwrap_or(1) as usize),
            Action::Unbatch => self.unbatch = true,
            Action::Truncate | Action::Corrupt => {
                let body = match self.packets.get_mut(at) {
                    Some(Packet::Message { body, .. }) => body,
                    Some(Packet::Open { handshake, .. }) => handshake,
                    _ => return,
                };
                let mut bytes = body.to_vec();
                if injection.action == Action::Truncate {
                    bytes.truncate(kept_of(injection, bytes.len()));
                } else {
                    let at = corrupt_at(injection, bytes.len());
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1;
                    }
                }
                *body = Buffer::from(bytes);
                self.tampered = true;
            }
        }
        self.done
            .push(format!("{injection} (message {at}, {name})"));
    }
}

fn delay_of(injection: &Injection) -> Duration {
    Duration::from_millis(injection.value.unwrap_or(1000))
}

fn kept_of(injection: &Injection, length: usize) -> usize {
    let kept = injection.value.map_or(length / 2, |kept| kept as usize);
    kept.min(length)
}

fn corrupt_at(injection: &Injection, length: usize) -> usize {
    let last = length.saturating_sub(1);
    injection.value.map_or(last, |at| at as usize)
}

/// A copy with other bytes from `at` on.
fn with(bytes: &Buffer, at: usize, other: &[u8; 32]) -> Buffer {
    let mut copy = bytes.to_vec();
    copy[at..at + 32].copy_from_slice(other);
    Buffer::from(copy)
}

impl Direction<'_> {
    async fn record(&mut self, record: Buffer) -> Result<(), DirectionEnd> {
        let shared = &self.pair.shared;
        let number = self.number;
        self.number += 1;
        let parsed = rewrite::parse(&record);
        let mut packets = parsed.packets;
        let mut edited: Option<Vec<u8>> = None;
        let mut replaced = false;

        let opens = rewrite::core_opens(&record, &packets);
        for open in opens {
            match self.key_of(&open.discovery_key).await? {
                Some(key) => {
                    let anew = rewrite::made_anew(&open, &key, &self.shown_to, &self.for_other);
                    // An invalid capability is passed on, and is invalid there too.
                    if let Some(capability) = anew {
                        // Copied once, however many opens there are in 16 MiB.
                        let bytes = edited.get_or_insert_with(|| record.to_vec());
                        bytes[open.capability_at..open.capability_at + 32]
                            .copy_from_slice(&capability);
                        if let Packet::Open { handshake, .. } = &mut packets[open.packet] {
                            *handshake = with(handshake, open.flags_length, &capability);
                        }
                    }
                }
                // Renaming it would shift everything behind it: the other peer gets an invalid capability instead.
                None if parsed.is_cut => {}
                None => {
                    if let Packet::Open {
                        protocol,
                        handshake,
                        ..
                    } = &mut packets[open.packet]
                    {
                        *protocol = NO_KEY.to_owned();
                        *handshake = Buffer::new();
                        replaced = true;
                    }
                }
            }
        }
        let plain = edited.map_or_else(|| record.clone(), Buffer::from);
        let is_core = self.core_messages(&packets);
        let (packets, kept) = rewrite::retyped(&packets, |at| is_core[at]);
        let encoded = rewrite::encode(&packets, parsed.is_batch).ok();
        let encoded = encoded.filter(|_| parsed.is_whole || replaced);
        // If our encoder would write other bytes, the record passes unchanged: other encodings and unknown content
        // survive.
        let is_same = encoded.as_deref() == Some(plain.as_slice());
        let outgoing = match encoded {
            Some(encoded) if is_same || replaced => encoded,
            _ => plain.to_vec(),
        };

        let watched = shared.trace.is_on() || !self.faults.is_empty();
        let mut shown = Dissection::default();
        if watched && let Ok(mut conversation) = self.pair.conversation.lock() {
            shown = conversation.record(self.from, &record);
        }
        if replaced {
            shown.notes.push(
                "no key came for a core: its open is passed on as one that is rejected".into(),
            );
        } else if kept > 0 || (!is_same && !record.is_empty()) {
            shown
                .notes
                .push("passed on as it came, for we would encode it otherwise".into());
        }

        if parsed.is_cut {
            shown.notes.push(
                "too many messages for one record: passed on as it came, and not tampered with"
                    .into(),
            );
        }
        let packets = if parsed.is_cut { Vec::new() } else { packets };
        let mut fate = self.fate(packets, &shown, parsed.is_cut);
        fate.is_batch = parsed.is_batch;
        if shared.trace.is_on() {
            let trace = &shared.trace;
            let done = fate.done.clone();
            trace
                .record(self.pair.number, self.from, number, &record, shown, done)
                .await;
        }
        self.send(outgoing, fate).await
    }

    /// Decides the actions on the packets of a record.
    fn fate(&mut self, packets: Vec<Packet>, shown: &Dissection, is_cut: bool) -> Fate {
        let mut fate = Fate {
            packets,
            ..Fate::default()
        };
        if self.faults.is_empty() || is_cut {
            return fate;
        }
        let groups = shown.fields.iter().filter(|field| field.hex.is_none());
        let mut names: Vec<String> = groups.map(|group| group.name.clone()).collect();
        if fate.packets.is_empty() {
            names = vec![shown.what.clone()];
        }
        for (at, name) in names.iter().enumerate() {
            for injection in self.faults.next(name) {
                fate.apply(at, name, &injection);
            }
        }
        fate
    }

    async fn send(&mut self, outgoing: Vec<u8>, fate: Fate) -> Result<(), DirectionEnd> {
        if let Some(delay) = fate.delay {
            self.target.flush(&mut self.spare).await?;
            tokio::select! {
                () = sleep(delay) => {}
                () = stopped(&mut self.stop) => {}
            }
        }
        let mut records = vec![outgoing];
        let mut later = Vec::new();
        if fate.is_changed() {
            let stays = |at: &usize| {
                !fate.dropped.contains(at) && !fate.reordered.iter().any(|(moved, _)| moved == at)
            };
            let staying: Vec<Packet> = (0..fate.packets.len())
                .filter(stays)
                .map(|at| fate.packets[at].clone())
                .collect();
            let encode = |packets: &[Packet], is_batch| {
                rewrite::encode(packets, is_batch).map_err(|_| DirectionEnd::Refused)
            };
            records = if fate.packets.is_empty() {
                // A keep-alive.
                let is_gone = !fate.dropped.is_empty() || !fate.reordered.is_empty();
                if is_gone { Vec::new() } else { records }
            } else if fate.unbatch {
                let alone = |packet| encode(std::slice::from_ref(packet), false);
                staying.iter().map(alone).collect::<Result<_, _>>()?
            } else if staying.is_empty() {
                Vec::new()
            } else {
                vec![encode(&staying, fate.is_batch)?]
            };
            for (at, after) in &fate.reordered {
                let bytes = match fate.packets.get(*at) {
                    Some(packet) => encode(std::slice::from_ref(packet), false)?,
                    None => Vec::new(),
                };
                later.push(Held::new(bytes, false, *after));
            }
        }
        for record in records {
            self.seal(&record, fate.pieces).await?;
        }
        self.held.extend(later);
        Ok(())
    }

    /// Sends a record, and then the held ones that it was to overtake.
    async fn seal(&mut self, plain: &[u8], pieces: Option<usize>) -> Result<(), DirectionEnd> {
        let faults = if self.faults.is_empty() {
            Vec::new()
        } else {
            self.faults.next("record")
        };
        if faults.is_empty() && pieces.is_none() {
            self.queue(plain)?;
            if self.target.transport().transmit().len() >= FLUSH_BYTES {
                self.target.flush(&mut self.spare).await?;
            }
        } else {
            self.seal_with_faults(plain, pieces, &faults).await?;
        }
        for held in &mut self.held {
            held.after = held.after.saturating_sub(1);
        }
        self.release(|held| held.after == 0).await
    }

    fn queue(&self, plain: &[u8]) -> Result<(), DirectionEnd> {
        let sent = self.target.transport().send_record(plain);
        sent.map_err(|_| DirectionEnd::Refused)
    }

    async fn seal_with_faults(
        &mut self,
        plain: &[u8],
        mut pieces: Option<usize>,
        faults: &[Injection],
    ) -> Result<(), DirectionEnd> {
        self.target.flush(&mut self.spare).await?;
        self.queue(plain)?;
        let mut frame = self.target.transport().take_transmit();
        for fault in faults {
            let number = (Some(self.pair.number), Some(self.from));
            let done = format!("injected: {fault}");
            self.pair.shared.trace.event(number.0, number.1, done).await;
            match fault.action {
                Action::Drop => return Ok(()),
                Action::Delay => sleep(delay_of(fault)).await,
                Action::Reorder => {
                    let after = fault.value.unwrap_or(1) + 1;
                    self.held.push(Held::new(frame, true, after));
                    return Ok(());
                }
                Action::Truncate => {
                    let length = frame.len() - 3;
                    let kept = kept_of(fault, length);
                    frame.truncate(3 + kept);
                    frame[..3].copy_from_slice(&(kept as u32).to_le_bytes()[..3]);
                }
                Action::Corrupt => {
                    let at = corrupt_at(fault, frame.len() - 3);
                    if let Some(byte) = frame.get_mut(3 + at) {
                        *byte ^= 1;
                    }
                }
                Action::Split => pieces = Some(fault.value.unwrap_or(1) as usize),
                Action::Unbatch => {}
            }
        }
        for piece in frame.chunks(pieces.unwrap_or(usize::MAX)) {
            self.target.write(piece).await?;
        }
        Ok(())
    }

    /// Sends held records that are due.
    async fn release(&mut self, is_due: impl Fn(&Held) -> bool) -> Result<(), DirectionEnd> {
        let mut at = 0;
        while at < self.held.len() {
            if !is_due(&self.held[at]) {
                at += 1;
                continue;
            }
            let held = self.held.remove(at);
            if held.sealed {
                self.target.flush(&mut self.spare).await?;
                self.target.write(&held.bytes).await?;
            } else {
                self.queue(&held.bytes)?;
                self.target.flush(&mut self.spare).await?;
            }
        }
        Ok(())
    }

    /// Passes on the end of the direction.
    async fn finish(&mut self, over: DirectionEnd) -> DirectionEnd {
        let released = self.release(|_| true).await;
        if let Err(over) = released {
            return over;
        }
        if let Err(over) = self.target.flush(&mut self.spare).await {
            return over;
        }
        match over {
            DirectionEnd::Ended => {
                if self.cut_off {
                    // A partial record here too: fewer bytes than its length says.
                    drop(self.target.write(&[32, 0, 0, 0xee]).await);
                }
                self.target.end();
            }
            DirectionEnd::Failed(_) => self.target.poison().await,
            _ => {}
        }
        over
    }

    /// Which packets are messages of cores.
    fn core_messages(&mut self, packets: &[Packet]) -> Vec<bool> {
        packets
            .iter()
            .map(|packet| match packet {
                Packet::Open { id, protocol, .. } => {
                    self.cores.remove(id);
                    if crate::dissect::is_hypercore(protocol) && self.cores.len() < MAX_CORES {
                        self.cores.insert(*id);
                    }
                    false
                }
                Packet::Close { id } => {
                    self.cores.remove(id);
                    false
                }
                Packet::Message { channel, .. } => self.cores.contains(channel),
                _ => false,
            })
            .collect()
    }

    /// The key of a core; waits for it for a while.
    async fn key_of(&mut self, discovery_key: &[u8; 32]) -> Result<Option<[u8; 32]>, DirectionEnd> {
        let shared = &self.pair.shared;
        let key = match shared.keys.get(discovery_key) {
            Some(key) => Some(key),
            None => {
                let (number, from) = (Some(self.pair.number), Some(self.from));
                let short = hex::encode(&discovery_key[..4]);
                let limit = shared.key_wait;
                let waits = format!("an open waits up to {limit:?} for the key of {short}…");
                shared.trace.event(number, from, waits).await;
                // Data before the open does not wait with it.
                self.target.flush(&mut self.spare).await?;
                let key = tokio::select! {
                    key = shared.keys.wait(discovery_key, limit) => key,
                    () = stopped(&mut self.stop) => None,
                };
                let came = if key.is_some() {
                    "came"
                } else {
                    "did not come"
                };
                let came = format!("the key of {short}… {came}");
                shared.trace.event(number, from, came).await;
                key
            }
        };
        if let (Some(key), Ok(mut conversation)) = (key, self.pair.conversation.lock()) {
            conversation.add_key(key);
        }
        Ok(key)
    }
}
