//! Runs scripts: performs their steps on the wire and at the adapter, and finds out the implementation's reaction.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use hypercore_protocol::encoding::{Encode as _, Encoder};
use hypercore_protocol::keys::{discovery_key, verify_capability};
use hypercore_protocol::mux::{Limits, Packet, RecordReader};
use hypercore_protocol::wire::{Handshake, Message, PROTOCOL, PROTOCOL_ALIAS};
use hypercore_protocol::{Buffer, Key, encoding::Decode as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::Role;
use super::bytes::{Bytes, Known};
use super::fixed::HEADER;
use super::reaction::{End, Reaction};
use super::script::{Line, Request, Step, line_of};
use super::transcript::Transcript;
use super::wire::{Edit, NoiseFault, Wire, WireError};
use crate::adapter::Outcome;
use crate::live::{Peer, Trouble, core_key};
use crate::reference::ops::values;

/// The time-out of a step.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How long an implementation may keep reporting events before it answers.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// How long an implementation that reported the stream closed may take to close its socket.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// The core with which an implementation proves that it still answers.
pub(crate) const PROBE: &str = "probe";

/// The unknown protocol with which a program without an adapter proves the same: it must reject it (MUX-21).
const NOBODYS: &str = "hypercore-conformance/alive";

/// The names of cores in scripts.
const CORES: [&str; 6] = ["A", "B", "C", "D", "E", PROBE];

/// The seed of the implementation's key pair, so that only its ephemeral key differs from run to run.
const IMPLEMENTATION_SEED: [u8; 32] = [0xe1; 32];

/// Why a script stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("{0}")]
    Adapter(#[from] Trouble),
    #[error("{0}")]
    Unexpected(String),
}

type Done = Result<(), Stop>;

/// The names of cores and their keys.
#[derive(Clone, Debug)]
pub(super) struct Names {
    keys: HashMap<String, [u8; 32]>,
    by_discovery_key: HashMap<[u8; 32], String>,
}

impl Names {
    /// The names used by scripts; `key` is that of core A, if it has to be one that the other end knows.
    pub(super) fn new(key: Option<[u8; 32]>) -> Self {
        let mut names = Self {
            keys: HashMap::new(),
            by_discovery_key: HashMap::new(),
        };
        if let Some(key) = key {
            names.keys.insert("A".into(), key);
        }
        for name in CORES {
            names.learn(name);
        }
        names
    }

    fn key(&self, name: &str) -> [u8; 32] {
        let known = self.keys.get(name).copied();
        known.unwrap_or_else(|| core_key(name))
    }

    fn learn(&mut self, name: &str) {
        let discovery_key = discovery_key(&Key::new(self.key(name)));
        self.by_discovery_key
            .insert(discovery_key.into(), name.to_owned());
    }

    fn of(&self, discovery_key: &[u8]) -> String {
        let known = <[u8; 32]>::try_from(discovery_key)
            .ok()
            .and_then(|key| self.by_discovery_key.get(&key).cloned());
        known.unwrap_or_else(|| hex::encode(discovery_key))
    }

    fn of_hex(&self, discovery_key: &Value) -> String {
        let bytes = discovery_key
            .as_str()
            .and_then(|text| hex::decode(text).ok());
        self.of(&bytes.unwrap_or_default())
    }
}

/// A connection between the scripted peer and an implementation.
#[derive(Debug)]
pub(super) struct Player<'a> {
    wire: Wire,
    /// The adapter; without one only the wire is observed.
    peer: Option<&'a mut Peer>,
    names: Names,
    /// Cores by the adapter's numbers of their channels.
    handles: HashMap<u64, String>,
    /// Cores by the other end's numbers on the wire.
    numbers: HashMap<u64, String>,
    /// Messages from the other end that no step has expected yet.
    sent: VecDeque<String>,
    /// The highest number of an opened channel.
    opened: u64,
    closing: bool,
}

impl Known for Player<'_> {
    fn key(&self, name: &str) -> [u8; 32] {
        self.names.key(name)
    }

    fn handshake_hash(&self) -> Option<[u8; 64]> {
        self.wire.handshake_hash()
    }

    fn is_initiator(&self) -> bool {
        self.wire.is_initiator()
    }

    fn header(&self) -> [u8; 24] {
        HEADER
    }
}

impl<'a> Player<'a> {
    /// Connects to an adapter in this role.
    pub(super) async fn connect(peer: &'a mut Peer, role: Role) -> Result<Self, Stop> {
        let options = json!({ "keyPairSeed": hex::encode(IMPLEMENTATION_SEED), "keepAlive": 0 });
        let failed = |error: std::io::Error| Stop::Unexpected(format!("no connection: {error}"));
        let wire = match role {
            Role::Responder => {
                let answer = peer.ask("peer.listen", options).await?;
                let port = answer["port"]
                    .as_u64()
                    .and_then(|port| u16::try_from(port).ok());
                let port = port.ok_or_else(|| {
                    Stop::Unexpected(format!("peer.listen gave no port: {answer}"))
                })?;
                Wire::dial(("127.0.0.1", port)).await.map_err(failed)?
            }
            Role::Initiator => {
                let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
                let mut options = options;
                options["port"] = listener.local_addr().map_err(failed)?.port().into();
                peer.ask("peer.dial", options).await?;
                let accepted = timeout(PATIENCE, listener.accept()).await;
                let accepted = accepted.map_err(|_| WireError::Silent(PATIENCE))?;
                Wire::accepted(accepted.map_err(failed)?.0).map_err(failed)?
            }
        };
        Ok(Self::new(wire, Some(peer), Names::new(None)))
    }

    /// Uses a connection to a program without an adapter.
    pub(super) fn bare(wire: Wire, names: Names) -> Player<'static> {
        Player::new(wire, None, names)
    }

    fn new(mut wire: Wire, peer: Option<&'a mut Peer>, names: Names) -> Self {
        for name in CORES {
            wire.transcript_mut().core(names.key(name));
        }
        Self {
            wire,
            peer,
            names,
            handles: HashMap::new(),
            numbers: HashMap::new(),
            sent: VecDeque::new(),
            opened: 0,
            closing: false,
        }
    }

    /// All traffic, including messages received and not inspected.
    pub(super) fn transcript(&mut self) -> &Transcript {
        self.wire.take_in();
        self.wire.transcript()
    }

    /// Runs a script, up to the first step that fails.
    pub(super) async fn play(&mut self, script: &[Line]) -> Result<(), (String, Stop)> {
        for line in script {
            self.step(&line.text, &line.step)
                .await
                .map_err(|stop| (line.text.clone(), stop))?;
        }
        Ok(())
    }

    async fn step(&mut self, text: &str, step: &Step) -> Done {
        self.wire.transcript_mut().note(format!("· {text}"));
        match step {
            Step::Noise(fault) => self.wire.noise(*fault, PATIENCE).await?,
            Step::Header(None) => {
                let header = self.wire.own_header()?;
                self.wire.header(&header).await?;
            }
            Step::Header(Some(bytes)) => {
                let record = self.make(bytes)?;
                self.wire.header(&record).await?;
            }
            Step::Handshake => {
                self.wire.noise(NoiseFault::None, PATIENCE).await?;
                let header = self.wire.own_header()?;
                self.wire.header(&header).await?;
                self.hear("handshake").await?;
            }
            Step::Bytes(bytes) => {
                let bytes = self.make(bytes)?;
                self.wire.write(&bytes).await?;
            }
            Step::Frame(bytes) => {
                let bytes = self.make(bytes)?;
                self.wire.frame(&bytes).await?;
            }
            Step::Record(edit, bytes) => {
                let bytes = self.make(bytes)?;
                self.wire.record(&bytes, *edit).await?;
            }
            Step::Open(number, core) => self.open(*number, core).await?,
            Step::Close(number) => self.packet(&Packet::Close { id: *number }).await?,
            Step::Reject(number) => self.packet(&Packet::Reject { id: *number }).await?,
            Step::Message(number, name, value) => self.message(*number, name, value).await?,
            Step::UndoRekey => self.wire.undo_rekey()?,
            Step::RekeyUnasked => self.wire.rekey_unasked()?,
            Step::Pieces(size) => self.wire.piece = Some(*size),
            Step::Times(count, step) => {
                for n in 1..=*count {
                    let text = step.replace("{n}", &n.to_string());
                    let step = text.parse().map_err(Stop::Unexpected)?;
                    Box::pin(self.step(&text, &step)).await?;
                }
            }
            Step::End => {
                self.closing = true;
                self.wire.end();
            }
            Step::Reset => {
                self.closing = true;
                self.wire.reset().await;
            }
            Step::Expect(expected) => self.expect(expected).await?,
            Step::Ask(request) => self.ask(request).await?,
            Step::Hear(expected) => self.hear(expected).await?,
            Step::Meet(core) => self.meet(core).await?,
            Step::Alive => match self.settle(None).await? {
                Reaction {
                    end: End::Alive,
                    told,
                    sent,
                } if told.is_empty() && sent.is_empty() => {}
                other => return Err(unexpected("it alive and quiet", &other.to_string())),
            },
            Step::Destroyed(layer, class) => {
                let reaction = self.settle(None).await?;
                let wanted = End::Destroyed {
                    layer: layer.clone(),
                    class: class.clone(),
                };
                if reaction.end != wanted {
                    return Err(unexpected(&wanted.to_string(), &reaction.end.to_string()));
                }
            }
        }
        Ok(())
    }

    fn make(&self, bytes: &Bytes) -> Result<Vec<u8>, Stop> {
        bytes.make(self).map_err(Stop::Unexpected)
    }

    async fn packet(&mut self, packet: &Packet) -> Done {
        let mut record = Vec::new();
        packet
            .encode_to(&mut Encoder::new(&mut record))
            .map_err(|error| Stop::Unexpected(error.to_string()))?;
        Ok(self.wire.record(&record, Edit::default()).await?)
    }

    async fn open(&mut self, number: u64, core: &str) -> Done {
        self.names.learn(core);
        let handshake = Bytes::parse(&format!("01 <cap {core}>")).map_err(Stop::Unexpected)?;
        let packet = Packet::Open {
            id: number,
            protocol: PROTOCOL.to_owned(),
            channel_id: Some(Buffer::copy_from(&discovery_key(&Key::new(
                self.names.key(core),
            )))),
            handshake: self.make(&handshake)?.into(),
        };
        self.opened = self.opened.max(number);
        self.packet(&packet).await
    }

    async fn message(&mut self, number: u64, name: &str, value: &Value) -> Done {
        let message = values::message(name, value).ok().flatten();
        let message: Message =
            message.ok_or_else(|| Stop::Unexpected(format!("no such message: {name} {value}")))?;
        let kind = message.message_type().id();
        let mut body = Vec::new();
        message
            .encode_to(&mut Encoder::new(&mut body))
            .map_err(|error| Stop::Unexpected(error.to_string()))?;
        self.packet(&Packet::Message {
            channel: number,
            kind,
            body: body.into(),
        })
        .await
    }

    /// Both open a core, this end first.
    async fn meet(&mut self, core: &str) -> Done {
        self.open(self.opened + 1, core).await?;
        if self.peer.is_some() {
            self.hear(&format!("discoveryKey {core}")).await?;
            self.ask(&Request::Open(core.to_owned())).await?;
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let sent = self.next_sent(left(end)).await?;
            if sent == format!("open {core}") {
                break;
            }
            // A real program may offer other cores, which are ignored.
            if self.peer.is_some() {
                return Err(unexpected(&format!("open {core}"), &sent));
            }
            if sent == format!("reject {}", self.opened) {
                return Err(Stop::Unexpected(format!(
                    "the other end has no core {core}: give the key of one that it has"
                )));
            }
        }
        self.hear(&format!("open {core}")).await
    }

    async fn ask(&mut self, request: &Request) -> Done {
        let Some(peer) = self.peer.as_deref_mut() else {
            return Ok(());
        };
        let channel = |core: &str| {
            let found = self.handles.iter().find(|(_, name)| *name == core);
            found
                .map(|(handle, _)| *handle)
                .ok_or_else(|| Stop::Unexpected(format!("core {core} was not opened")))
        };
        match request {
            Request::Open(core) => {
                let key = hex::encode(self.names.key(core));
                let answer = peer.ask("peer.open", json!({ "key": key })).await?;
                let handle = answer["channel"].as_u64();
                let handle = handle.ok_or_else(|| {
                    Stop::Unexpected(format!("peer.open gave no channel: {answer}"))
                })?;
                self.handles.insert(handle, core.clone());
            }
            Request::Close(core) => {
                let input = json!({ "channel": channel(core)? });
                peer.ask("peer.closeChannel", input).await?;
            }
            Request::Reject(core) => {
                let key = hex::encode(discovery_key(&Key::new(self.names.key(core))));
                peer.ask("peer.reject", json!({ "discoveryKey": key }))
                    .await?;
            }
            Request::Send(core, message, value) => {
                let channel = channel(core)?;
                let input = json!({ "channel": channel, "message": message, "value": value });
                peer.ask("peer.send", input).await?;
            }
            Request::Extension(core, name, message) => {
                let channel = channel(core)?;
                let input = json!({ "channel": channel, "name": name, "message": message });
                peer.ask("peer.extension", input).await?;
            }
            Request::KeepAlive => drop(peer.ask("peer.keepAlive", json!({})).await?),
            Request::End => drop(peer.ask("peer.end", json!({})).await?),
        }
        Ok(())
    }

    /// Requires this to be the implementation's next event.
    async fn hear(&mut self, expected: &str) -> Done {
        let Some(event) = self.event().await? else {
            return match self.peer {
                // Without an adapter there are no events.
                None => Ok(()),
                Some(_) => Err(unexpected(expected, "nothing in time")),
            };
        };
        match self.told(&event) {
            Some(told) if told == expected => Ok(()),
            Some(told) => Err(unexpected(expected, &told)),
            None => Err(unexpected(expected, &event.to_string())),
        }
    }

    async fn event(&mut self) -> Result<Option<Value>, Stop> {
        match self.peer.as_deref_mut() {
            Some(peer) => Ok(peer.fetch(PATIENCE).await?),
            None => Ok(None),
        }
    }

    /// An event as a line; `None` for the end of the stream.
    fn told(&mut self, event: &Value) -> Option<String> {
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        let core = || {
            let handle = event["channel"].as_u64().unwrap_or_default();
            let name = self.handles.get(&handle).cloned();
            name.unwrap_or_else(|| format!("({handle})"))
        };
        Some(match text("type") {
            "handshake" => "handshake".into(),
            "discoveryKey" => format!("discoveryKey {}", self.names.of_hex(&event["discoveryKey"])),
            "open" => format!("open {}", core()),
            "message" => format!(
                "message {} {} {}",
                core(),
                text("name"),
                brief(&event["value"])
            ),
            "extension" => {
                let (name, message) = (text("name"), &event["message"]);
                format!(
                    "extension {} {} {}",
                    core(),
                    brief(&json!(name)),
                    brief(message)
                )
            }
            // All channels close with the stream, in any order.
            "close" if text("by") == "stream" => return None,
            "close" => {
                let line = format!("close {} by {}", core(), text("by"));
                if let Some(handle) = event["channel"].as_u64() {
                    self.handles.remove(&handle);
                }
                line
            }
            "end" => "end".into(),
            "error" => format!("error {} {}", text("layer"), text("class")),
            "closed" => return None,
            _ => event.to_string(),
        })
    }

    /// Requires this to be the other end's next message.
    async fn expect(&mut self, expected: &str) -> Done {
        let sent = match self.next_sent(PATIENCE).await {
            Err(Stop::Wire(WireError::Closed)) => "end".to_owned(),
            sent => sent?,
        };
        if sent == expected {
            Ok(())
        } else {
            Err(unexpected(expected, &sent))
        }
    }

    async fn next_sent(&mut self, limit: Duration) -> Result<String, Stop> {
        loop {
            if let Some(sent) = self.sent.pop_front() {
                return Ok(sent);
            }
            let record = self.wire.next(limit).await?;
            if record.is_empty() {
                return Ok("keep-alive".into());
            }
            let mut reader = RecordReader::new(record, Limits::default().max_nesting);
            while let Some(packet) = reader
                .next_packet()
                .map_err(|error| WireError::Nonsense(error.to_string()))?
            {
                let line = self.line(&packet);
                self.sent.push_back(line);
            }
        }
    }

    /// A packet of the other end, as a line.
    fn line(&mut self, packet: &Packet) -> String {
        match packet {
            Packet::Open {
                id,
                protocol,
                channel_id,
                handshake,
            } => {
                let channel_id = channel_id.as_deref().unwrap_or_default();
                if ![PROTOCOL, PROTOCOL_ALIAS].contains(&protocol.as_str()) {
                    self.numbers.insert(*id, protocol.clone());
                    return format!("open {protocol} {}", hex::encode(channel_id));
                }
                let name = self.names.of(channel_id);
                self.numbers.insert(*id, name.clone());
                if self.proves(&name, handshake) {
                    format!("open {name}")
                } else {
                    format!("open {name} without proof that it knows the key")
                }
            }
            Packet::Reject { id } => format!("reject {id}"),
            Packet::Close { id } => match self.numbers.remove(id) {
                Some(name) => format!("close {name}"),
                None => format!("close of its {id}"),
            },
            Packet::Message {
                channel,
                kind,
                body,
            } => {
                let name = self.numbers.get(channel).cloned();
                let name = name.unwrap_or_else(|| format!("its {channel}"));
                match Message::decode(*kind, body) {
                    Ok(Some(message)) => {
                        let value = brief(&values::message_to_json(&message));
                        format!("message {name} {} {value}", message.message_type().name())
                    }
                    _ => format!("message {name} of type {kind}"),
                }
            }
            other => format!("{other:?}"),
        }
    }

    fn proves(&self, core: &str, handshake: &Buffer) -> bool {
        let (Some(hash), Ok(handshake)) =
            (self.wire.handshake_hash(), Handshake::decode(handshake))
        else {
            return false;
        };
        let remote = !self.wire.is_initiator();
        let key = self.names.key(core);
        verify_capability(remote, &Key::new(key), &hash, &handshake.value.capability)
    }

    /// Finds out the implementation's reaction: whether it still answers, and its events and messages until then.
    ///
    /// `next` is the number of the channel to probe it with, if not the next one.
    pub(super) async fn settle(&mut self, next: Option<u64>) -> Result<Reaction, Stop> {
        self.wire.transcript_mut().note("· is it alive?");
        let number = next.unwrap_or(self.opened + 1);
        if self.peer.is_none() {
            return self.settle_bare(number).await;
        }
        if self.wire.has_keys() && !self.closing {
            // If the other end is gone already, this detects it too.
            drop(self.open(number, PROBE).await);
        }
        let mut reaction = Reaction::new(End::Alive);
        let end = Instant::now() + SETTLE_LIMIT;
        loop {
            let event = match left(end).is_zero() {
                true => None,
                false => self.event().await?,
            };
            let Some(event) = event else {
                reaction.end = End::Silent;
                return Ok(reaction);
            };
            match event["type"].as_str() {
                Some("closed") => {
                    if reaction.end == End::Alive {
                        reaction.end = End::Closed;
                    }
                    break;
                }
                Some("error") => {
                    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
                    // The first event gives the reason; its consequences may be reported too.
                    if reaction.end == End::Alive {
                        reaction.end = End::Destroyed {
                            layer: text("layer"),
                            class: text("class"),
                        };
                    }
                }
                Some("end") => {
                    if reaction.end == End::Alive {
                        reaction.end = End::Ended;
                    }
                }
                _ => {
                    let Some(told) = self.told(&event) else {
                        continue;
                    };
                    if told == format!("discoveryKey {PROBE}") {
                        break;
                    }
                    reaction.told.push(told);
                }
            }
        }
        if reaction.end != End::Alive {
            if !self.closing && !self.wire.closed(CLOSE_LIMIT).await {
                reaction.end = End::Lingers;
            }
            return Ok(reaction);
        }
        self.prove(number, &mut reaction).await?;
        Ok(reaction)
    }

    /// Exchanges a message each way, on a channel opened for it.
    async fn prove(&mut self, number: u64, reaction: &mut Reaction) -> Done {
        self.ask(&Request::Open(PROBE.to_owned())).await?;
        let end = Instant::now() + PATIENCE;
        loop {
            let sent = self.next_sent(left(end)).await?;
            if sent == format!("open {PROBE}") {
                break;
            }
            reaction.sent.push(sent);
        }
        self.hear(&format!("open {PROBE}")).await?;
        let want = json!({ "start": 1, "length": 2, "any": false });
        self.message(number, "want", &want).await?;
        let line = format!("message {PROBE} want {}", line_of(&want));
        self.hear(&line).await?;
        self.ask(&Request::Send(PROBE.to_owned(), "want".to_owned(), want))
            .await?;
        self.expect(&line).await?;
        self.opened = self.opened.max(number);
        Ok(())
    }

    async fn settle_bare(&mut self, number: u64) -> Result<Reaction, Stop> {
        let mut reaction = Reaction::new(End::Closed);
        if self.wire.has_keys() && !self.closing {
            let packet = Packet::Open {
                id: number,
                protocol: NOBODYS.to_owned(),
                channel_id: None,
                handshake: Buffer::default(),
            };
            drop(self.packet(&packet).await);
        }
        let end = Instant::now() + PATIENCE;
        loop {
            match self.next_sent(left(end)).await {
                // A real program sends keep-alives at any time.
                Ok(sent) if sent == "keep-alive" => {}
                Ok(sent) if sent == format!("reject {number}") => {
                    reaction.end = End::Alive;
                    return Ok(reaction);
                }
                Ok(sent) => reaction.sent.push(sent),
                Err(Stop::Wire(WireError::Silent(_))) => {
                    reaction.end = End::Silent;
                    return Ok(reaction);
                }
                Err(Stop::Wire(_)) => return Ok(reaction),
                Err(stop) => return Err(stop),
            }
        }
    }
}

/// The remaining time, so that a peer that keeps sending cannot delay a step for ever.
fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

fn unexpected(expected: &str, got: &str) -> Stop {
    Stop::Unexpected(format!("expected {expected}, and got {got}"))
}

/// A value in a line of readable length; cut values are distinguished by their hash.
fn brief(value: &Value) -> String {
    const KEPT: usize = 400;
    let line = line_of(value);
    if line.len() <= KEPT {
        return line;
    }
    let start: String = line.chars().take(40).collect();
    let hash = hypercore_protocol::keys::blake2b256(&[line.as_bytes()], None);
    format!(
        "{start}… ({} bytes, {})",
        line.len(),
        hex::encode(&hash[..8])
    )
}

/// Stops the adapter's stream, so that another can be started.
pub(super) async fn stop(peer: &mut Peer) -> Result<(), Trouble> {
    match peer.try_ask("peer.stop", json!({})).await? {
        Outcome::Ok(_) => Ok(()),
        other => Err(Trouble::Failed(format!("peer.stop: {other:?}"))),
    }
}
