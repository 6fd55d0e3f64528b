//! The operations noise.*, stream.*, datagram.*, frame.* and connection.replay.

use std::fmt::Display;

use hypercore_protocol::datagram::{DatagramError, Datagrams};
use hypercore_protocol::frame::{FrameDecoder, frame_header};
use hypercore_protocol::noise::{Handshake, HandshakeConfig, NoiseError, curve};
use hypercore_protocol::secret_stream::{
    ABYTES, MAC_BYTES, Pull, Push, SecretStreamError, State, TAG_BYTES, Tag, parse_header_record,
    stream_id,
};
use hypercore_protocol::{KeyPair, Pattern, Transport, TransportConfig, TransportError};
use serde_json::{Value, json};

use super::Op;
use crate::adapter::Outcome;

/// The operations of this file.
pub(super) const OPS: &[Op] = &[
    ("noise.publicKey", |input| outcome(public_key(input))),
    ("noise.dh", |input| outcome(dh(input))),
    ("noise.handshake", |input| outcome(handshake(input))),
    ("stream.id", |input| outcome(id(input))),
    ("stream.header", |input| outcome(header(input))),
    ("stream.push", |input| outcome(push(input))),
    ("stream.pull", |input| outcome(pull(input))),
    ("datagram.keys", |input| outcome(datagram_keys(input))),
    ("datagram.seal", |input| outcome(datagram_seal(input))),
    ("datagram.open", |input| outcome(datagram_open(input))),
    ("frame.encode", |input| outcome(frame_encode(input))),
    ("frame.decode", |input| outcome(frame_decode(input))),
    ("connection.replay", |input| outcome(replay(input))),
];

fn outcome(answer: Answer) -> Outcome {
    answer.map_or_else(Outcome::Error, Outcome::Ok)
}

/// An output, or the object that describes an error.
type Answer<T = Value> = Result<T, Value>;

fn error(layer: impl Display, class: impl Display, message: impl Display) -> Value {
    json!({ "layer": layer.to_string(), "class": class.to_string(), "message": message.to_string() })
}

/// The request itself is invalid.
fn bad_request(message: impl Display) -> Value {
    error("adapter", "bad-input", message)
}

/// An error with one more number for its position.
fn at(mut error: Value, name: &str, index: usize) -> Value {
    error[name] = json!(index);
    error
}

fn to_bytes(value: &Value) -> Answer<Vec<u8>> {
    let text = value
        .as_str()
        .ok_or_else(|| bad_request(format!("hex expected, not {value}")))?;
    hex::decode(text).map_err(bad_request)
}

fn to_array<const N: usize>(value: &Value) -> Answer<[u8; N]> {
    let bytes = to_bytes(value)?;
    bytes
        .try_into()
        .map_err(|bytes: Vec<u8>| bad_request(format!("{N} bytes expected, not {}", bytes.len())))
}

fn bytes(input: &Value, field: &str) -> Answer<Vec<u8>> {
    to_bytes(&input[field])
}

fn array<const N: usize>(input: &Value, field: &str) -> Answer<[u8; N]> {
    to_array(&input[field])
}

fn optional<const N: usize>(input: &Value, field: &str) -> Answer<Option<[u8; N]>> {
    match &input[field] {
        Value::Null => Ok(None),
        value => to_array(value).map(Some),
    }
}

fn flag(input: &Value, field: &str) -> Answer<bool> {
    input[field]
        .as_bool()
        .ok_or_else(|| bad_request(format!("{field} should be true or false")))
}

fn list<'a>(input: &'a Value, field: &str) -> Answer<&'a [Value]> {
    input[field]
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| bad_request(format!("{field} should be a list")))
}

fn pattern(input: &Value) -> Answer<Pattern> {
    let name = input["pattern"].as_str().unwrap_or_default();
    Pattern::from_name(name).ok_or_else(|| bad_request(format!("unknown pattern {name:?}")))
}

/// The remote's key where Node uses it; elsewhere Node ignores it, but we would pin it.
fn remote_public_key(
    input: &Value,
    pattern: Pattern,
    is_initiator: bool,
) -> Answer<Option<[u8; 32]>> {
    if is_initiator && pattern.needs_remote_public_key() {
        optional(input, "remotePublicKey")
    } else {
        Ok(None)
    }
}

fn public_key(input: &Value) -> Answer {
    Ok(json!({ "publicKey": hex::encode(curve::public_key(&array(input, "seed")?)) }))
}

fn dh(input: &Value) -> Answer {
    let remote = bytes(input, "publicKey")?;
    let remote = remote
        .try_into()
        .map_err(|_| error("noise", "bad-length", "a public key has 32 bytes"))?;
    let shared = curve::dh(&array(input, "seed")?, &remote)
        .map_err(|cause| error("noise", "bad-point", cause))?;
    Ok(json!({ "shared": hex::encode(*shared) }))
}

fn noise_error(cause: &NoiseError) -> Value {
    error("noise", cause.class(), cause)
}

fn handshake(input: &Value) -> Answer {
    let pattern = pattern(input)?;
    let is_initiator = flag(input, "isInitiator")?;
    let key_pair = match optional(input, "staticSeed")? {
        Some(seed) => KeyPair::from_seed(&seed),
        None => KeyPair::generate(),
    };
    let mut config = HandshakeConfig::new(pattern, is_initiator);
    config.key_pair = Some(key_pair);
    config.remote_public_key = remote_public_key(input, pattern, is_initiator)?;
    if pattern.needs_psk() {
        config.psk = optional::<32>(input, "psk")?.map(Into::into);
    }
    config.prologue = bytes(input, "prologue")?;
    config.fixed_ephemeral_for_testing_only = Some(array(input, "ephemeralSeed")?);
    let mut handshake = Handshake::new(config).map_err(|cause| noise_error(&cause))?;
    let mut steps = Vec::new();
    for (index, step) in list(input, "steps")?.iter().enumerate() {
        let failed = |cause: NoiseError| at(noise_error(&cause), "step", index);
        steps.push(if step.get("write").is_some() {
            let mut message = Vec::new();
            handshake.write(&bytes(step, "write")?, &mut message).map_err(failed)?;
            json!({ "message": hex::encode(message) })
        } else {
            json!({ "payload": hex::encode(handshake.read(&bytes(step, "read")?).map_err(failed)?) })
        });
    }
    let result = handshake.result();
    Ok(json!({
        "steps": steps,
        "complete": result.is_some(),
        "hash": result.map(|result| hex::encode(result.hash)),
        "tx": result.map(|result| hex::encode(result.tx)),
        "rx": result.map(|result| hex::encode(result.rx)),
        "remotePublicKey": result.and_then(|result| result.remote_public_key).map(hex::encode),
    }))
}

fn stream_error(cause: &SecretStreamError) -> Value {
    error("secretstream", cause.class(), cause)
}

fn id(input: &Value) -> Answer {
    let id = stream_id(&array(input, "handshakeHash")?, flag(input, "isInitiator")?);
    Ok(json!({ "id": hex::encode(id) }))
}

fn header(input: &Value) -> Answer {
    let (hash, is_initiator) = (array(input, "handshakeHash")?, flag(input, "isInitiator")?);
    let header = parse_header_record(&hash, is_initiator, &bytes(input, "record")?);
    Ok(json!({ "header": hex::encode(header.map_err(|cause| stream_error(&cause))?) }))
}

fn state(input: &Value) -> Answer<Option<State>> {
    let state = &input["state"];
    if state.is_null() {
        return Ok(None);
    }
    let counter = state["counter"]
        .as_u64()
        .and_then(|counter| u32::try_from(counter).ok());
    Ok(Some(State {
        key: array(state, "key")?,
        nonce: array(state, "nonce")?,
        counter: counter.ok_or_else(|| bad_request("counter should fit 32 bits"))?,
    }))
}

fn from_state(state: &State) -> Value {
    json!({ "key": hex::encode(state.key), "nonce": hex::encode(state.nonce), "counter": state.counter })
}

fn push(input: &Value) -> Answer {
    let mut push = match state(input)? {
        Some(state) => Push::from_state_for_testing_only(state),
        None => Push::new(&array(input, "key")?, &array(input, "header")?),
    };
    let mut records = Vec::new();
    for (index, message) in list(input, "messages")?.iter().enumerate() {
        let tag = message["tag"]
            .as_u64()
            .and_then(|tag| u8::try_from(tag).ok());
        let tag = Tag(tag.ok_or_else(|| bad_request("tag should fit 8 bits"))?);
        let plaintext = bytes(message, "plaintext")?;
        let mut record = vec![0; plaintext.len() + ABYTES];
        record[TAG_BYTES..TAG_BYTES + plaintext.len()].copy_from_slice(&plaintext);
        push.seal(tag, &mut record)
            .map_err(|cause| at(stream_error(&cause), "record", index))?;
        records.push(hex::encode(record));
    }
    Ok(json!({ "records": records, "state": from_state(push.state_for_testing_only()) }))
}

fn pull(input: &Value) -> Answer {
    let mut pull = match state(input)? {
        Some(state) => Pull::from_state_for_testing_only(state),
        None => Pull::new(&array(input, "key")?, &array(input, "header")?),
    };
    let mut messages = Vec::new();
    for (index, record) in list(input, "records")?.iter().enumerate() {
        let mut record = to_bytes(record)?;
        let tag = pull
            .open(&mut record)
            .map_err(|cause| at(stream_error(&cause), "record", index))?;
        let plaintext = hex::encode(&record[TAG_BYTES..record.len() - MAC_BYTES]);
        messages.push(json!({ "plaintext": plaintext, "tag": tag.0 }));
    }
    Ok(json!({ "messages": messages, "state": from_state(pull.state_for_testing_only()) }))
}

fn datagram_error(cause: DatagramError) -> Value {
    error("datagram", cause.class(), cause)
}

fn datagrams(input: &Value, counter: [u8; 8]) -> Answer<Datagrams> {
    let (hash, is_initiator) = (array(input, "handshakeHash")?, flag(input, "isInitiator")?);
    Ok(Datagrams::with_counter_for_testing_only(
        &hash,
        is_initiator,
        counter,
    ))
}

fn datagram_keys(input: &Value) -> Answer {
    let datagrams = datagrams(input, [0; 8])?;
    let (send, receive) = datagrams.keys_for_testing_only();
    Ok(json!({ "send": hex::encode(send), "receive": hex::encode(receive) }))
}

fn datagram_seal(input: &Value) -> Answer {
    let datagrams = datagrams(input, array(input, "counter")?)?;
    let datagram = datagrams
        .seal(&bytes(input, "plaintext")?)
        .map_err(datagram_error)?;
    Ok(json!({ "datagram": hex::encode(datagram) }))
}

fn datagram_open(input: &Value) -> Answer {
    let plaintext = datagrams(input, [0; 8])?
        .open(&bytes(input, "datagram")?)
        .map_err(datagram_error)?;
    Ok(json!({ "plaintext": hex::encode(plaintext) }))
}

fn frame_encode(input: &Value) -> Answer {
    let body = bytes(input, "body")?;
    let header = frame_header(body.len()).map_err(|cause| error("frame", cause.class(), cause))?;
    Ok(json!({ "bytes": hex::encode([&header, &body[..]].concat()) }))
}

fn frame_decode(input: &Value) -> Answer {
    let mut decoder = FrameDecoder::new();
    let mut frames = Vec::new();
    for chunk in list(input, "chunks")? {
        let chunk = to_bytes(chunk)?;
        let mut rest = &chunk[..];
        while let Some(record) = decoder.decode(&mut rest) {
            frames.push(hex::encode(record));
        }
    }
    if flag(input, "end")? {
        decoder
            .end()
            .map_err(|cause| at(error("frame", cause.class(), cause), "frames", frames.len()))?;
    }
    Ok(json!({ "frames": frames, "pending": decoder.pending() }))
}

fn transport_error(cause: &TransportError, step: usize) -> Value {
    let mut error = at(error(cause.layer(), cause.class(), cause), "step", step);
    if let Some(position) = cause.position {
        error["offset"] = json!(position.offset);
    }
    error
}

fn replay(input: &Value) -> Answer {
    let (pattern, is_initiator) = (pattern(input)?, flag(input, "isInitiator")?);
    let mut config = TransportConfig::new(is_initiator);
    config.pattern = pattern;
    config.key_pair = Some(KeyPair::from_seed(&array(input, "staticSeed")?));
    config.remote_public_key = remote_public_key(input, pattern, is_initiator)?;
    config.fixed_ephemeral_for_testing_only = Some(array(input, "ephemeralSeed")?);
    config.header_for_testing_only = Some(array(input, "header")?);
    let transport = Transport::new(config);
    let mut transport = transport.map_err(|cause| transport_error(&cause, 0))?;
    let mut steps = Vec::new();
    let mut ended = false;
    for (index, step) in list(input, "steps")?.iter().enumerate() {
        let failed = |cause: TransportError| transport_error(&cause, index);
        if step.get("receive").is_some() {
            transport
                .receive(&bytes(step, "receive")?)
                .map_err(failed)?;
        } else if step.get("write").is_some() {
            transport
                .send_record(&bytes(step, "write")?)
                .map_err(failed)?;
        } else if step.get("end").is_some() {
            transport.receive_end().map_err(failed)?;
            ended = true;
        } else if step.get("start").is_none() {
            return Err(bad_request(format!("unknown step {step}")));
        }
        let received: Vec<_> = std::iter::from_fn(|| transport.poll_record())
            .map(hex::encode)
            .collect();
        steps.push(json!({ "sent": hex::encode(transport.take_transmit()), "received": received }));
    }
    let handshake = transport.handshake();
    let state = match (ended, transport.is_established()) {
        (true, _) => "ended",
        (false, true) => "open",
        (false, false) => "handshaking",
    };
    Ok(json!({
        "steps": steps,
        "handshakeHash": handshake.map(|handshake| hex::encode(handshake.hash)),
        "remotePublicKey": handshake.and_then(|handshake| handshake.remote_public_key).map(hex::encode),
        "state": state,
    }))
}
