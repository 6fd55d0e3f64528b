//! The operations mux.* and channel.session.

use std::collections::HashMap;
use std::time::Duration;

use hypercore_protocol::connection::{ChannelHandle, Connection, ConnectionConfig};
use hypercore_protocol::encoding::{Encode, EncodeError, Encoder};
use hypercore_protocol::mux::{
    Batch, ChannelId, CloseReason, Limits, Mux, MuxError, MuxEvent, OpenOptions, Packet, Raw,
    RecordReader,
};
use hypercore_protocol::noise::HandshakeResult;
use hypercore_protocol::{Buffer, ConnectionEvent, Error, Layer, Transport};
use serde_json::{Map, Value, json};

use super::Op;
use super::values::{
    self, Fault, Result, array, boolean, bytes, get, hex_bytes, hexed, items, nullable,
    optional_bytes, text, uint,
};
use crate::adapter::Outcome;

/// The operations of this file.
pub(super) const OPS: &[Op] = &[
    ("mux.decode", |input| answer(Layer::Mux, mux_decode(input))),
    ("mux.encode", |input| answer(Layer::Mux, mux_encode(input))),
    ("mux.session", |input| {
        answer(Layer::Mux, mux_session(input))
    }),
    ("channel.session", |input| {
        answer(Layer::Channel, channel_session(input))
    }),
];

fn answer(layer: Layer, result: Result<Value>) -> Outcome {
    result.map_or_else(|fault| fault.outcome(layer), Outcome::Ok)
}

impl From<MuxError> for Fault {
    fn from(error: MuxError) -> Self {
        match error {
            MuxError::Decode(error) => error.into(),
            error => Self::refused(error.class(), error.to_string()),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let mut more = Map::new();
        more.insert("layer".into(), error.layer().to_string().into());
        Self::Refused {
            class: error.class(),
            message: error.to_string(),
            more,
        }
    }
}

/// The packets of one record, in order.
fn packets(record: impl Into<Buffer>) -> std::result::Result<Vec<Packet>, MuxError> {
    let mut reader = RecordReader::new(record.into(), Limits::default().max_nesting);
    std::iter::from_fn(|| reader.next_packet().transpose()).collect()
}

pub(super) fn packet_to_json(packet: &Packet) -> Value {
    match packet {
        Packet::Message {
            channel,
            kind,
            body,
        } => json!({
            "channel": values::number(*channel),
            "type": values::number(*kind),
            "body": hexed(body),
        }),
        Packet::Open {
            id,
            protocol,
            channel_id,
            handshake,
        } => json!({
            "control": "open",
            "id": values::number(*id),
            "protocol": protocol,
            "channelId": nullable(channel_id.as_ref(), hexed),
            "handshake": hexed(handshake),
        }),
        Packet::Reject { id } => json!({ "control": "reject", "id": values::number(*id) }),
        Packet::Close { id } => json!({ "control": "close", "id": values::number(*id) }),
        Packet::UnknownControl { kind, body } => json!({
            "control": "unknown",
            "type": values::number(*kind),
            "body": hexed(body),
        }),
        _ => Value::Null,
    }
}

fn packet(value: &Value) -> Result<Packet> {
    let Some(control) = values::optional(value, "control") else {
        return Ok(Packet::Message {
            channel: uint(value, "channel")?,
            kind: uint(value, "type")?,
            body: bytes(value, "body")?.into(),
        });
    };
    Ok(match control.as_str() {
        Some("open") => Packet::Open {
            id: uint(value, "id")?,
            protocol: text(value, "protocol")?.to_owned(),
            channel_id: optional_bytes(value, "channelId")?.map(Buffer::from),
            handshake: bytes(value, "handshake")?.into(),
        },
        Some("reject") => Packet::Reject {
            id: uint(value, "id")?,
        },
        Some("close") => Packet::Close {
            id: uint(value, "id")?,
        },
        Some("unknown") => Packet::UnknownControl {
            kind: uint(value, "type")?,
            body: bytes(value, "body")?.into(),
        },
        _ => return Err(Fault::BadRequest("control: unknown".into())),
    })
}

fn mux_decode(input: &Value) -> Result<Value> {
    let packets = packets(bytes(input, "bytes")?)?;
    Ok(json!({ "messages": values::listed(&packets, packet_to_json) }))
}

fn mux_encode(input: &Value) -> Result<Value> {
    let packets = values::list(input, "messages", packet)?;
    let bytes = if boolean(input, "batch")? {
        Batch(&packets).encode()?
    } else {
        match &packets[..] {
            [packet] => packet.encode()?,
            _ => return Err(Fault::BadRequest("messages: one expected".into())),
        }
    };
    Ok(json!({ "bytes": hexed(bytes) }))
}

/// The results of one step of a session.
#[derive(Default)]
struct Step {
    events: Vec<Value>,
    sent: Vec<Value>,
}

/// The answer of a session.
fn session_to_json(steps: Vec<Step>, error: Option<&Error>) -> Value {
    let steps: Vec<Value> = steps
        .into_iter()
        .map(|step| json!({ "events": step.events, "sent": step.sent }))
        .collect();
    json!({
        "steps": steps,
        "alive": error.is_none(),
        "error": nullable(error, |error| json!({
            "layer": error.layer().to_string(),
            "class": error.class().to_string(),
        })),
    })
}

/// A channel of a bare mux, as the session describes it.
#[derive(Clone, Default)]
struct Description {
    protocol: String,
    id: Option<Vec<u8>>,
    handshake: Option<Vec<u8>>,
    messages: u64,
}

impl Description {
    fn read(value: &Value) -> Result<Self> {
        Ok(Self {
            protocol: text(value, "protocol")?.to_owned(),
            id: optional_bytes(value, "id")?,
            handshake: optional_bytes(value, "handshake")?,
            messages: uint(value, "messages")?,
        })
    }
}

#[derive(Default)]
struct MuxSession {
    /// The latest channel of each local id.
    channels: HashMap<u64, ChannelId>,
    descriptions: HashMap<ChannelId, Description>,
    pairs: Vec<Description>,
    error: Option<Error>,
}

impl MuxSession {
    fn open(
        &mut self,
        mux: &mut Mux,
        description: &Description,
        aliases: &[&str],
        id: Option<&[u8]>,
    ) -> std::result::Result<(), MuxError> {
        let channel = mux.open(&OpenOptions {
            protocol: &description.protocol,
            aliases,
            id,
            unique: true,
            handshake: &Raw(description.handshake.as_deref().unwrap_or_default()),
        })?;
        self.channels.insert(channel.local(), channel);
        self.descriptions.insert(channel, description.clone());
        Ok(())
    }

    fn step(&mut self, mux: &mut Mux, step: &Value) -> Result<std::result::Result<(), MuxError>> {
        if let Some(open) = values::optional(step, "open") {
            let description = Description::read(open)?;
            let aliases: Vec<&str> = items(get(open, "aliases")?, "aliases")?
                .iter()
                .filter_map(Value::as_str)
                .collect();
            let id = description.id.clone();
            return Ok(
                match self.open(mux, &description, &aliases, id.as_deref()) {
                    // Protomux returns no channel, and nothing happens.
                    Err(MuxError::AlreadyOpen) => Ok(()),
                    other => other,
                },
            );
        }
        if let Some(pair) = values::optional(step, "pair") {
            let description = Description::read(pair)?;
            self.pairs.retain(|pair| {
                (&pair.protocol, &pair.id) != (&description.protocol, &description.id)
            });
            self.pairs.push(description);
        } else if let Some(record) = values::optional(step, "receive") {
            mux.receive(hex_bytes(record, "receive")?.into());
        } else if let Some(send) = values::optional(step, "send") {
            let (kind, body) = (uint(send, "type")?, bytes(send, "body")?);
            if let Some(&channel) = self.channels.get(&uint(send, "channel")?) {
                return Ok(match mux.send(channel, kind, &Raw(&body)) {
                    Err(MuxError::Closed) => Ok(()),
                    other => other,
                });
            }
        } else if let Some(close) = values::optional(step, "close") {
            if let Some(&channel) = self.channels.get(&values::integer(close, "close")?) {
                return Ok(mux.close(channel));
            }
        } else if step.get("cork").is_some() {
            mux.cork();
        } else if step.get("uncork").is_some() {
            mux.uncork();
        } else {
            return Err(Fault::BadRequest(format!("unknown step: {step}")));
        }
        Ok(Ok(()))
    }

    fn events(
        &mut self,
        mux: &mut Mux,
        events: &mut Vec<Value>,
    ) -> std::result::Result<(), MuxError> {
        while let Some(event) = mux.poll_event()? {
            match event {
                MuxEvent::RemoteOpen {
                    pending,
                    protocol,
                    id,
                    ..
                } => {
                    let matches = |any: bool| {
                        self.pairs
                            .iter()
                            .find(|pair| {
                                pair.protocol == protocol
                                    && match (&pair.id, &id) {
                                        (None, None) => true,
                                        (None, Some(_)) => any,
                                        (Some(pair), Some(id)) => *pair == id[..],
                                        (Some(_), None) => false,
                                    }
                            })
                            .cloned()
                    };
                    let opened = match matches(false).or_else(|| matches(true)) {
                        None => Err(MuxError::AlreadyOpen),
                        Some(pair) => self.open(mux, &pair, &[], id.as_deref()),
                    };
                    match opened {
                        Err(MuxError::AlreadyOpen) => mux.reject(pending)?,
                        other => other?,
                    }
                }
                MuxEvent::Opened {
                    channel,
                    remote,
                    handshake,
                    ..
                } => {
                    let has_handshake = self
                        .descriptions
                        .get(&channel)
                        .is_some_and(|description| description.handshake.is_some());
                    events.push(json!({ "opened": {
                        "local": channel.local(),
                        "remote": remote,
                        "handshake": nullable(has_handshake.then_some(handshake), hexed),
                    } }));
                }
                MuxEvent::Message {
                    channel,
                    kind,
                    body,
                    ..
                } => {
                    let known = self
                        .descriptions
                        .get(&channel)
                        .is_some_and(|description| kind < description.messages);
                    if known {
                        events.push(json!({ "message": {
                            "local": channel.local(),
                            "type": kind,
                            "body": hexed(body),
                        } }));
                    }
                }
                MuxEvent::Closed {
                    channel, reason, ..
                } => events.push(json!({ "closed": {
                    "local": channel.local(),
                    "isRemote": reason != CloseReason::Local,
                } })),
                _ => {}
            }
        }
        Ok(())
    }
}

fn mux_session(input: &Value) -> Result<Value> {
    let mut session = MuxSession::default();
    let mut mux = Mux::new(Limits::default());
    let mut steps = Vec::new();
    for input in items(get(input, "steps")?, "steps")? {
        let mut step = Step::default();
        if session.error.is_none() {
            let result = session
                .step(&mut mux, input)?
                .and_then(|()| session.events(&mut mux, &mut step.events));
            session.error = result.err().map(Error::from);
            while let Some(record) = mux.poll_transmit() {
                step.sent
                    .extend(packets(record)?.iter().map(packet_to_json));
            }
        }
        steps.push(step);
    }
    Ok(session_to_json(steps, session.error.as_ref()))
}

/// A plaintext record given as bytes.
struct Plaintext<'a>(&'a [u8]);

impl Encode for Plaintext<'_> {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> std::result::Result<(), EncodeError> {
        encoder.raw(self.0);
        Ok(())
    }
}

/// A connection after its handshake, and the other end of its transport.
struct ChannelSession {
    connection: Connection,
    remote: Transport,
    local_ids: HashMap<ChannelHandle, u64>,
    error: Option<Error>,
}

const NOW: Duration = Duration::ZERO;

impl ChannelSession {
    fn new(is_initiator: bool, hash: [u8; 64]) -> Result<Self> {
        let (here, there) = ([1; 32], [2; 32]);
        let result = |tx, rx| HandshakeResult {
            tx,
            rx,
            hash,
            remote_public_key: Some([0; 32]),
        };
        let transport = |is_initiator, result: &HandshakeResult| {
            Transport::after_handshake(is_initiator, [0; 32], result, None)
                .map_err(|error| Fault::from(Error::from(error)))
        };
        let mut config = ConnectionConfig::new(is_initiator);
        config.keep_alive = None;
        let mut connection =
            Connection::with_transport(transport(is_initiator, &result(here, there))?, config, NOW);
        let mut remote = transport(!is_initiator, &result(there, here))?;
        connection.receive(&remote.take_transmit(), NOW);
        remote.receive(connection.transmit()).map_err(Error::from)?;
        let length = connection.transmit().len();
        connection.consume_transmit(length, NOW);
        Ok(Self {
            connection,
            remote,
            local_ids: HashMap::new(),
            error: None,
        })
    }

    /// Collects the connection's events and outgoing messages.
    fn collect(&mut self) -> Result<Step> {
        let mut step = Step::default();
        while self.error.is_none() {
            match self.connection.poll_event() {
                Ok(None) => break,
                Ok(Some(event)) => self.on_event(event, &mut step.events)?,
                Err(error) => self.error = Some(error),
            }
        }
        let sent = self.connection.transmit().to_vec();
        self.connection.consume_transmit(sent.len(), NOW);
        self.remote.receive(&sent).map_err(Error::from)?;
        while let Some(record) = self.remote.poll_record() {
            step.sent
                .extend(packets(record)?.iter().map(packet_to_json));
        }
        Ok(step)
    }

    fn on_event(&mut self, event: ConnectionEvent, events: &mut Vec<Value>) -> Result<()> {
        let local = |ids: &HashMap<ChannelHandle, u64>, channel| {
            ids.get(&channel).copied().unwrap_or_default()
        };
        match event {
            ConnectionEvent::DiscoveryKey(discovery_key) => {
                self.connection.reject(&discovery_key);
            }
            ConnectionEvent::ChannelOpened {
                channel,
                handshake_bytes,
                local_id,
                remote_id,
                ..
            } => {
                self.local_ids.insert(channel, local_id);
                events.push(json!({ "opened": {
                    "local": local_id,
                    "remote": remote_id,
                    "handshake": hexed(handshake_bytes),
                } }));
            }
            ConnectionEvent::Message {
                channel, message, ..
            } => events.push(json!({ "message": {
                "local": local(&self.local_ids, channel),
                "name": message.message_type().name(),
                "value": values::message_to_json(&message),
            } })),
            ConnectionEvent::ChannelClosed {
                channel, reason, ..
            } => events.push(json!({ "closed": {
                "local": local(&self.local_ids, channel),
                "isRemote": reason != CloseReason::Local,
            } })),
            _ => {}
        }
        Ok(())
    }
}

fn channel_session(input: &Value) -> Result<Value> {
    let mut session = ChannelSession::new(
        boolean(input, "isInitiator")?,
        array(input, "handshakeHash")?,
    )?;
    let channel = session.connection.open(array(input, "key")?)?;
    // The first channel of a mux.
    session.local_ids.insert(channel, 1);
    let mut steps = vec![session.collect()?];
    for step in items(get(input, "steps")?, "steps")? {
        let record = hex_bytes(get(step, "receive")?, "receive")?;
        if session.error.is_some() {
            steps.push(Step::default());
            continue;
        }
        session
            .remote
            .send_encoded(record.len(), &Plaintext(&record))
            .map_err(Error::from)?;
        let bytes = session.remote.take_transmit();
        session.connection.receive(&bytes, NOW);
        steps.push(session.collect()?);
    }
    Ok(session_to_json(steps, session.error.as_ref()))
}

#[cfg(test)]
mod tests {
    use hypercore_protocol::ErrorClass;

    use super::*;

    fn ok(op: &str, input: &Value) -> Value {
        match super::super::call(op, input).expect("an operation") {
            Outcome::Ok(value) => value,
            other => panic!("{op}: {other:?}"),
        }
    }

    #[test]
    fn packets_survive_json() {
        let bytes = "000001020007000801010161000000020201000202090203010205aa";
        let decoded = ok("mux.decode", &json!({ "bytes": bytes }));
        let again = json!({ "messages": decoded["messages"], "batch": true });
        let encoded = ok("mux.encode", &again);
        assert_eq!(ok("mux.decode", &encoded), decoded);
    }

    #[test]
    fn a_fault_ends_a_session() {
        let output = ok(
            "mux.session",
            &json!({ "steps": [{ "receive": "000205" }, { "cork": true }] }),
        );
        assert_eq!(output["alive"], false);
        assert_eq!(
            output["error"],
            json!({ "layer": Layer::Mux.to_string(), "class": ErrorClass::InvalidReject.to_string() })
        );
        assert_eq!(output["steps"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn a_channel_opens_with_the_capability_of_the_peer() {
        let key = "03".repeat(32);
        let hash = "05".repeat(64);
        let open = |is_initiator: bool| {
            let input = json!({ "isInitiator": is_initiator, "handshakeHash": hash, "key": key, "steps": [] });
            ok("channel.session", &input)["steps"][0]["sent"][0].clone()
        };
        let theirs = packet(&open(false)).unwrap().encode().unwrap();
        let steps = json!([
            { "receive": hex::encode(theirs) },
            { "receive": "01050001" },
            { "receive": "0105" },
            { "receive": "01050001" },
        ]);
        let output = ok(
            "channel.session",
            &json!({ "isInitiator": true, "handshakeHash": hash, "key": key, "steps": steps }),
        );
        assert_eq!(output["steps"][1]["events"][0]["opened"]["local"], 1);
        assert_eq!(
            output["steps"][2]["events"][0]["message"]["value"],
            json!({ "start": 0, "length": 1, "any": false })
        );
        assert_eq!(
            output["error"],
            json!({ "layer": "message", "class": "out-of-bounds" })
        );
        assert_eq!(output["steps"][4], json!({ "events": [], "sent": [] }));
    }
}
