//! The state of one scenario: the two ends, the wire between them, and the traffic.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::peer::{PATIENCE, Peer, brief};
use super::relay::{Direction, Recorder, Relay, Tampering};
use super::trouble::Trouble;
use super::values;
use super::{Connection, Context, Recording, Release};

/// Who acts.
#[derive(Clone, Copy, Debug, Eq, PartialEq, cucumber::Parameter)]
#[param(name = "actor", regex = "the implementation|Node")]
pub(super) enum Actor {
    Implementation,
    Node,
}

impl Actor {
    pub(super) const BOTH: [Self; 2] = [Self::Implementation, Self::Node];

    pub(super) fn other(self) -> Self {
        match self {
            Self::Implementation => Self::Node,
            Self::Node => Self::Implementation,
        }
    }
}

impl std::str::FromStr for Actor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "the implementation" => Ok(Self::Implementation),
            "Node" => Ok(Self::Node),
            other => Err(format!("no such actor: {other}")),
        }
    }
}

/// Which end dials.
#[derive(Clone, Copy, Debug, Eq, PartialEq, cucumber::Parameter)]
#[param(name = "role", regex = "initiator|responder")]
pub(super) enum Role {
    Initiator,
    Responder,
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "initiator" => Ok(Self::Initiator),
            "responder" => Ok(Self::Responder),
            other => Err(format!("no such role: {other}")),
        }
    }
}

/// The kind of wire between the ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wire {
    /// Straight from socket to socket.
    Direct,
    /// Through a relay that splits the bytes into pieces.
    Pieces(usize),
    /// Through a relay that only observes.
    Watched,
    /// Through a relay that flips one bit.
    Flips {
        from: Actor,
        record: usize,
        byte: usize,
    },
}

/// What one end was told to send, to compare with what the other receives.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    /// The number of numbered messages that this end has sent, over all channels.
    pub(super) messages: u64,
    /// The number of the first of the last lot.
    pub(super) first: u64,
    /// Sizes of the extension messages of the last lot, in bytes.
    pub(super) sizes: Vec<usize>,
}

/// The result of sending until the sender has to wait.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filled {
    /// Bytes of each block.
    pub(super) size: usize,
    /// The number of accepted blocks.
    pub(super) sent: u64,
    /// Whether it made its caller wait.
    pub(super) waits: bool,
}

/// How one end sees a completed handshake.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) handshake_hash: String,
    pub(super) public_key: String,
    pub(super) remote_public_key: String,
    pub(super) is_initiator: bool,
}

/// The state of one scenario.
#[derive(Debug, cucumber::World)]
#[world(init = Self::begin)]
pub(super) struct LiveWorld {
    pub(super) context: Arc<Context>,
    ends: Option<Ends>,
    options: HashMap<&'static str, [Value; 2]>,
    relay: Option<Relay>,
    /// The recorded bytes of each connection, if recording is on.
    recorders: Vec<Arc<Recorder>>,
    /// Each end's view of the handshakes of this scenario, oldest first.
    pub(super) handshakes: Vec<[Seen; 2]>,
    pub(super) sent: [Sent; 2],
    pub(super) filled: [Filled; 2],
    /// Keys of cores that are not derived from their names.
    pub(super) keys: HashMap<String, [u8; 32]>,
    /// Answers of a core, to give to another.
    pub(super) answers: Vec<(Value, Value)>,
    next_request: u64,
}

#[derive(Debug)]
struct Ends {
    role: Role,
    release: Release,
    peers: [Peer; 2],
}

impl LiveWorld {
    async fn begin() -> Result<Self, Trouble> {
        let context = Context::current()
            .ok_or_else(|| Trouble::failed("the scenarios run outside of `live::run`"))?;
        Ok(Self {
            context,
            ends: None,
            options: HashMap::new(),
            relay: None,
            recorders: Vec::new(),
            handshakes: Vec::new(),
            sent: Default::default(),
            filled: Default::default(),
            keys: HashMap::new(),
            answers: Vec::new(),
            next_request: 1,
        })
    }

    /// Prepares both ends, not yet connected.
    pub(super) async fn prepare(&mut self, role: Role, release: &str) -> Result<(), Trouble> {
        let release: Release = Arc::from(release);
        let implementation = self.context.implementation().await;
        let implementation = Peer::new("the implementation", implementation).await?;
        let node = Peer::new("Node", self.context.node(&release).await).await?;
        self.ends = Some(Ends {
            role,
            release,
            peers: [implementation, node],
        });
        Ok(())
    }

    fn ends(&self) -> Result<&Ends, Trouble> {
        self.ends
            .as_ref()
            .ok_or_else(|| Trouble::failed("the scenario names no ends"))
    }

    pub(super) fn peer(&mut self, actor: Actor) -> Result<&mut Peer, Trouble> {
        match &mut self.ends {
            Some(ends) => Ok(&mut ends.peers[actor as usize]),
            None => Err(Trouble::failed("the scenario names no ends")),
        }
    }

    pub(super) fn both(&mut self) -> Result<[&mut Peer; 2], Trouble> {
        match &mut self.ends {
            Some(ends) => Ok(ends.peers.each_mut()),
            None => Err(Trouble::failed("the scenario names no ends")),
        }
    }

    fn dialer(&self) -> Result<Actor, Trouble> {
        Ok(match self.ends()?.role {
            Role::Initiator => Actor::Implementation,
            Role::Responder => Actor::Node,
        })
    }

    fn direction(&self, from: Actor) -> Result<Direction, Trouble> {
        Ok(if self.dialer()? == from {
            Direction::FromInitiator
        } else {
            Direction::FromResponder
        })
    }

    /// Whether hypercore 10 is at one of the ends.
    pub(super) fn has_old_end(&self) -> Result<bool, Trouble> {
        let ends = self.ends()?;
        let own = ends.peers[0].hello.release.as_deref();
        Ok([Some(&*ends.release), own]
            .into_iter()
            .flatten()
            .any(|release| release.starts_with("10.")))
    }

    /// Whether another release replaces the one that the scenario names.
    fn has_stand_in(&self) -> Result<bool, Trouble> {
        let stand_ins = &self.context.config.stand_ins;
        Ok(stand_ins.contains_key(&*self.ends()?.release))
    }

    /// Sets an option of `peer.listen` and `peer.dial`.
    pub(super) fn option(&mut self, actor: Actor, name: &'static str, value: Value) {
        self.options.entry(name).or_default()[actor as usize] = value;
    }

    /// Connects the two, by TCP on this machine.
    pub(super) async fn connect(&mut self, wire: Wire) -> Result<(), Trouble> {
        let dialer = self.dialer()?;
        let listener = dialer.other();
        let options = |actor: Actor| {
            let get = |name: &str, otherwise: Value| match self.options.get(name) {
                Some(values) if !values[actor as usize].is_null() => values[actor as usize].clone(),
                _ => otherwise,
            };
            json!({ "keyPairSeed": get("keyPairSeed", Value::Null), "keepAlive": get("keepAlive", json!(0)) })
        };
        let (mut listening, mut dialing) = (options(listener), options(dialer));
        let record = self.context.config.record;
        if record {
            // One end suffices for the keys of both directions.
            match dialer {
                Actor::Node => dialing["tellKeys"] = json!(true),
                Actor::Implementation => listening["tellKeys"] = json!(true),
            }
        }
        let tampering = match wire {
            Wire::Direct => record.then(Tampering::default),
            Wire::Watched => Some(Tampering::default()),
            Wire::Pieces(size) => Some(Tampering {
                chunk: Some(size),
                ..Tampering::default()
            }),
            Wire::Flips { from, record, byte } => Some(Tampering {
                flip: Some((self.direction(from)?, record, byte)),
                ..Tampering::default()
            }),
        };
        let answer = self.peer(listener)?.ask("peer.listen", listening).await?;
        let port = answer["port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok());
        let Some(mut port) = port else {
            return Err(self
                .peer(listener)?
                .trouble(format!("peer.listen gave no port: {answer}")));
        };
        self.relay = None;
        if let Some(tampering) = tampering {
            let recorder = record.then(Arc::<Recorder>::default);
            self.recorders.extend(recorder.clone());
            let relay = Relay::start(port, tampering, recorder)
                .await
                .map_err(|error| Trouble::failed(format!("the wire: {error}")))?;
            port = relay.port;
            self.relay = Some(relay);
        }
        dialing["port"] = json!(port);
        self.peer(dialer)?.ask("peer.dial", dialing).await?;
        Ok(())
    }

    /// Waits until both have completed the handshake, and keeps each one's view of it.
    pub(super) async fn complete_handshake(&mut self) -> Result<(), Trouble> {
        let [implementation, node] = self.both()?;
        let seen = [handshake(implementation).await?, handshake(node).await?];
        self.handshakes.push(seen);
        Ok(())
    }

    /// Waits until one end has completed the handshake; the other need not.
    pub(super) async fn complete_one_handshake(&mut self, actor: Actor) -> Result<(), Trouble> {
        handshake(self.peer(actor)?).await.map(drop)
    }

    /// Ends both streams and drops their state; options stay.
    pub(super) async fn disconnect(&mut self) -> Result<(), Trouble> {
        for peer in self.both()? {
            peer.stop().await?;
        }
        self.relay = None;
        self.sent = Default::default();
        Ok(())
    }

    /// The last handshake, as `actor` saw it.
    pub(super) fn seen(&self, actor: Actor) -> Result<&Seen, Trouble> {
        self.handshakes
            .last()
            .map(|seen| &seen[actor as usize])
            .ok_or_else(|| Trouble::failed("no handshake was completed"))
    }

    pub(super) fn key(&self, core: &str) -> [u8; 32] {
        self.keys
            .get(core)
            .copied()
            .unwrap_or_else(|| values::core_key(core))
    }

    /// Opens the channel of a core at one end, without waiting for the other.
    pub(super) async fn open(&mut self, actor: Actor, core: &str) -> Result<(), Trouble> {
        let key = hex::encode(self.key(core));
        let peer = self.peer(actor)?;
        let answer = peer.ask("peer.open", json!({ "key": key })).await?;
        let Some(handle) = answer["channel"].as_u64() else {
            return Err(peer.trouble(format!("peer.open gave no channel: {answer}")));
        };
        peer.channels
            .entry(core.to_owned())
            .or_default()
            .push(handle);
        Ok(())
    }

    /// Waits until `actor` reports that the channel of a core is open.
    pub(super) async fn opened(&mut self, actor: Actor, core: &str) -> Result<Value, Trouble> {
        let key = hex::encode(values::discovery_key(&self.key(core)));
        let peer = self.peer(actor)?;
        let handle = peer.channel(core)?;
        peer.expect(&format!("the channel of core {core} open"), |event| {
            event["type"] == "open" && event["channel"] == handle && event["discoveryKey"] == key
        })
        .await
    }

    /// Opens the channel of a core at both ends, and waits for both.
    pub(super) async fn open_at_both(&mut self, core: &str) -> Result<(), Trouble> {
        for actor in Actor::BOTH {
            self.open(actor, core).await?;
        }
        for actor in Actor::BOTH {
            self.opened(actor, core).await?;
        }
        Ok(())
    }

    /// Waits until `actor` reports that the other end opened the channel of a core.
    pub(super) async fn announced(&mut self, actor: Actor, core: &str) -> Result<(), Trouble> {
        let key = hex::encode(values::discovery_key(&self.key(core)));
        self.peer(actor)?
            .expect(&format!("the discovery key of core {core}"), |event| {
                event["type"] == "discoveryKey" && event["discoveryKey"] == key
            })
            .await
            .map(drop)
    }

    /// Waits until `actor` reports that its channel of a core is closed, and by whom.
    pub(super) async fn closed(
        &mut self,
        actor: Actor,
        core: &str,
        by: &[&str],
    ) -> Result<(), Trouble> {
        let peer = self.peer(actor)?;
        let handle = peer.channel(core)?;
        let event = peer
            .expect(&format!("the channel of core {core} closed"), |event| {
                event["type"] == "close" && event["channel"] == handle
            })
            .await?;
        if by.iter().any(|by| event["by"] == *by) {
            Ok(())
        } else {
            let (by, expected) = (&event["by"], by.join(" or "));
            Err(peer.trouble(format!(
                "the channel of core {core} is closed by {by}, not {expected}"
            )))
        }
    }

    pub(super) async fn send(
        &mut self,
        actor: Actor,
        core: &str,
        message: &str,
        value: &Value,
    ) -> Result<(), Trouble> {
        let peer = self.peer(actor)?;
        let channel = peer.channel(core)?;
        let input = json!({ "channel": channel, "message": message, "value": value });
        peer.ask("peer.send", input).await.map(drop)
    }

    /// Waits for the next message on the channel of a core, of any name.
    pub(super) async fn message(&mut self, actor: Actor, core: &str) -> Result<Value, Trouble> {
        let peer = self.peer(actor)?;
        let channel = peer.channel(core)?;
        peer.expect(&format!("a message on core {core}"), |event| {
            let kind = event["type"] == "message" || event["type"] == "extension";
            kind && event["channel"] == channel
        })
        .await
    }

    /// Requires this message to be the next on the channel of a core.
    pub(super) async fn receive(
        &mut self,
        actor: Actor,
        core: &str,
        message: &str,
        value: &Value,
    ) -> Result<(), Trouble> {
        let old = self.has_old_end()?;
        let mut event = self.message(actor, core).await?;
        // A real core sends these at any time.
        while self.keys.contains_key(core)
            && ["sync", "want"].iter().any(|name| event["name"] == *name)
            && message != "sync"
        {
            event = self.message(actor, core).await?;
        }
        if message == "extension" {
            let same = event["type"] == "extension"
                && event["name"] == value["name"]
                && event["message"] == value["message"];
            return self.agree(actor, same, "extension", value, &event);
        }
        let strip = |value: Value| {
            if old {
                values::as_in_10(message, value)
            } else {
                value
            }
        };
        let got = strip(event["value"].clone());
        let mut expected = strip(value.clone());
        if actor == Actor::Node && self.has_stand_in()? {
            expected = values::as_known(&expected, &got);
        }
        let same = event["type"] == "message" && event["name"] == message && got == expected;
        self.agree(actor, same, message, &expected, &event)
    }

    fn agree(
        &mut self,
        actor: Actor,
        same: bool,
        message: &str,
        expected: &Value,
        got: &Value,
    ) -> Result<(), Trouble> {
        if same {
            return Ok(());
        }
        let peer = self.peer(actor)?;
        Err(peer.trouble(format!(
            "expected {message}\n    {}\n  and got\n    {}",
            brief(expected),
            brief(got)
        )))
    }

    /// Sends a message that differs from all others of this scenario.
    pub(super) async fn send_numbered(&mut self, actor: Actor, core: &str) -> Result<u64, Trouble> {
        let sent = &mut self.sent[actor as usize];
        let number = sent.messages;
        sent.messages += 1;
        self.send(actor, core, "sync", &numbered(actor, number))
            .await?;
        Ok(number)
    }

    /// Sends a lot of numbered messages.
    pub(super) async fn send_lot(
        &mut self,
        actor: Actor,
        core: &str,
        count: u64,
    ) -> Result<(), Trouble> {
        self.sent[actor as usize].first = self.sent[actor as usize].messages;
        for _ in 0..count {
            self.send_numbered(actor, core).await?;
        }
        Ok(())
    }

    /// Requires the last lot of the other end to arrive, complete and in order.
    pub(super) async fn receive_lot(
        &mut self,
        actor: Actor,
        core: &str,
        count: u64,
    ) -> Result<(), Trouble> {
        let first = self.sent[actor.other() as usize].first;
        for number in first..first + count {
            self.receive(actor, core, "sync", &numbered(actor.other(), number))
                .await?;
        }
        Ok(())
    }

    /// Exchanges a message each way: the next on this channel must be the one sent here.
    pub(super) async fn exchange(&mut self, core: &str) -> Result<(), Trouble> {
        for from in Actor::BOTH {
            let number = self.send_numbered(from, core).await?;
            self.receive(from.other(), core, "sync", &numbered(from, number))
                .await?;
        }
        Ok(())
    }

    /// A fresh number for a request.
    pub(super) fn request_id(&mut self) -> u64 {
        let id = self.next_request;
        self.next_request += 1;
        id
    }

    pub(super) fn relay(&self) -> Result<&Relay, Trouble> {
        self.relay
            .as_ref()
            .ok_or_else(|| Trouble::failed("the wire of this scenario is not watched"))
    }

    pub(super) fn count_records(&self, from: Actor) -> Result<(), Trouble> {
        let direction = self.direction(from)?;
        self.relay()?.count_from_here(direction);
        Ok(())
    }

    pub(super) async fn wait_records(
        &self,
        from: Actor,
        what: &str,
        enough: impl Fn(&[usize]) -> bool,
    ) -> Result<Vec<usize>, Trouble> {
        let direction = self.direction(from)?;
        let relay = self.relay()?;
        let came = relay.wait(direction, PATIENCE, enough).await;
        let lengths = relay.lengths(direction);
        if came {
            Ok(lengths)
        } else {
            Err(Trouble::failed(format!(
                "{what} did not cross the wire; records of these lengths did: {lengths:?}"
            )))
        }
    }

    pub(super) fn block(&self, from: Actor, blocked: bool) -> Result<(), Trouble> {
        let direction = self.direction(from)?;
        self.relay()?.block(direction, blocked);
        Ok(())
    }

    pub(super) fn hold(&self, from: Actor) -> Result<(), Trouble> {
        let direction = self.direction(from)?;
        self.relay()?.hold(direction);
        Ok(())
    }

    pub(super) async fn let_go(&self, from: Actor, count: usize) -> Result<(), Trouble> {
        let direction = self.direction(from)?;
        if self.relay()?.let_go(direction, count, PATIENCE).await {
            Ok(())
        } else {
            Err(Trouble::failed(format!(
                "{count} records did not reach the wire"
            )))
        }
    }

    /// Ends the scenario: an error that no step expected is a failure, and the ends return to the pool.
    ///
    /// Returns the report if the scenario failed.
    pub(super) async fn finish(&mut self, passed: bool) -> Result<(), Trouble> {
        let Some(mut ends) = self.ends.take() else {
            return Ok(());
        };
        let mut verdict = Ok(());
        if passed {
            for peer in &mut ends.peers {
                verdict = verdict.and(no_error(peer).await);
            }
        }
        let mut stopped = Ok(());
        for peer in &mut ends.peers {
            // Also after a failure: it may have files to remove.
            stopped = stopped.and(peer.stop().await);
        }
        let kept = self.context.config.keep_after_failure && stopped.is_ok();
        if passed {
            verdict = verdict.and(stopped);
        }
        if verdict.is_err() || !passed && !kept {
            // Their state is part of the failure: the next scenario gets fresh ends.
            return verdict.map_err(|trouble| {
                let details = details(&mut ends.peers);
                Trouble::failed(format!("{trouble}\n{details}"))
            });
        }
        let [implementation, node] = ends.peers;
        self.context
            .give_back(implementation.into_adapter(), None)
            .await;
        self.context
            .give_back(node.into_adapter(), Some(&ends.release))
            .await;
        Ok(())
    }

    /// The recorded wire with its keys, and the reports of both ends.
    pub(super) async fn recording(&mut self) -> Option<Recording> {
        let ends = self.ends.as_mut()?;
        let [implementation, node] = &mut ends.peers;
        // An end that is gone has reported everything.
        drop((implementation.catch_up().await, node.catch_up().await));
        let mut recording = Recording {
            log: [implementation.log().to_vec(), node.log().to_vec()],
            stderr: [implementation.take_stderr(), node.take_stderr()],
            connections: Vec::new(),
        };
        let mut cores: Vec<String> = implementation
            .cores
            .iter()
            .chain(&node.cores)
            .cloned()
            .collect();
        cores.sort();
        cores.dedup();
        for (at, recorder) in self.recorders.iter().enumerate() {
            let chunks = recorder.chunks().into_iter().map(|(from, bytes)| {
                let from = match from {
                    Direction::FromInitiator => "initiator",
                    Direction::FromResponder => "responder",
                };
                (from, bytes)
            });
            recording.connections.push(Connection {
                cores: cores.clone(),
                chunks: chunks.collect(),
                handshake: node.handshakes.get(at).cloned(),
            });
        }
        Some(recording)
    }

    /// The requests to and reports of both ends, for a failure's text.
    pub(super) fn details(&mut self) -> String {
        match &mut self.ends {
            Some(ends) => details(&mut ends.peers),
            None => String::new(),
        }
    }
}

fn details(peers: &mut [Peer; 2]) -> String {
    let mut text = String::new();
    for (name, peer) in ["the implementation", "Node"].into_iter().zip(peers) {
        text.push_str(&format!("{name}:\n"));
        // The end is more informative than the beginning.
        let log = peer.log();
        for line in &log[log.len().saturating_sub(40)..] {
            text.push_str(&format!("  {line}\n"));
        }
        for line in peer.take_stderr().lines() {
            text.push_str(&format!("  stderr: {line}\n"));
        }
    }
    text
}

async fn no_error(peer: &mut Peer) -> Result<(), Trouble> {
    peer.catch_up().await?;
    if peer.forgiven {
        return Ok(());
    }
    match peer.unread().find(|event| event["type"] == "error") {
        Some(error) => Err(peer.trouble(format!("an error that nothing asked for: {error}"))),
        None => Ok(()),
    }
}

async fn handshake(peer: &mut Peer) -> Result<Seen, Trouble> {
    let event = peer
        .expect_next(
            "a completed handshake",
            &["handshake", "error", "end", "closed"],
            |event| event["type"] == "handshake",
        )
        .await?;
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    Ok(Seen {
        handshake_hash: text("handshakeHash"),
        public_key: text("publicKey"),
        remote_public_key: text("remotePublicKey"),
        is_initiator: event["isInitiator"] == true,
    })
}

/// A sync that identifies its sender and its number.
fn numbered(from: Actor, number: u64) -> Value {
    json!({
        "fork": 0, "length": number, "remoteLength": from as u64,
        "canUpgrade": true, "uploading": true, "downloading": true, "hasManifest": false, "allowPush": false,
    })
}
