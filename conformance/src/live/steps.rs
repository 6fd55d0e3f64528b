//! The sentences of the features. What they do is in [`LiveWorld`]; here they are only put into words.

use cucumber::gherkin::Step;
use cucumber::{Parameter, given, then, when};
use serde_json::{Value, json};

use super::MESSAGES;
use super::trouble::Trouble;
use super::values::{self, Form};
use super::world::{Actor, Filled, LiveWorld, Role, Wire};
use crate::adapter::Outcome;

type Done = Result<(), Trouble>;

/// `in full` or `at its smallest`.
#[derive(Clone, Copy, Debug, Parameter)]
#[param(name = "form", regex = "in full|at its smallest")]
struct InForm(Form);

impl std::str::FromStr for InForm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "in full" => Ok(Self(Form::Full)),
            "at its smallest" => Ok(Self(Form::Smallest)),
            other => Err(format!("no such form: {other}")),
        }
    }
}

/// What the wire does, after `over a wire that`.
#[derive(Clone, Copy, Debug, Parameter)]
#[param(
    name = "wire",
    regex = "is watched|delivers .+ at a time|changes byte .+"
)]
struct OverWire(Wire);

impl std::str::FromStr for OverWire {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<_> = text.split(' ').collect();
        let number = |word: &str| word.parse::<usize>().map_err(|error| error.to_string());
        let wire = match words[..] {
            ["is", "watched"] => Wire::Watched,
            ["delivers", size, "byte" | "bytes", "at", "a", "time"] => Wire::Pieces(number(size)?),
            [
                "changes",
                "byte",
                byte,
                "of",
                "record",
                record,
                "from",
                "Node",
            ] => Wire::Flips {
                from: Actor::Node,
                record: number(record)?,
                byte: number(byte)?,
            },
            _ => return Err(format!("no such wire: {text}")),
        };
        Ok(Self(wire))
    }
}

/// Why a socket fails, after `for it`.
#[derive(Clone, Copy, Debug, Parameter)]
#[param(name = "cause", regex = "timed out|has no route|is broken")]
struct Cause(&'static str);

impl std::str::FromStr for Cause {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "timed out" => Ok(Self("timed-out")),
            "has no route" => Ok(Self("unreachable")),
            "is broken" => Ok(Self("broken-pipe")),
            other => Err(format!("no such cause: {other}")),
        }
    }
}

fn message(name: &str, form: Form) -> Result<Value, Trouble> {
    values::message(name, form)
        .ok_or_else(|| Trouble::failed(format!("there is no message {name}")))
}

fn unhex(text: &str) -> Result<Vec<u8>, Trouble> {
    let text: String = text.split_whitespace().collect();
    hex::decode(text).map_err(|error| Trouble::failed(format!("the feature's hex: {error}")))
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Done {
    if holds {
        Ok(())
    } else {
        Err(Trouble::failed(otherwise()))
    }
}

// Connecting.

#[given(expr = "the implementation is the {role} and Node {word} its peer")]
async fn prepared(world: &mut LiveWorld, role: Role, release: String) -> Done {
    world.prepare(role, &release).await
}

#[given(expr = "the implementation, as {role}, is connected to Node {word}")]
async fn connected(world: &mut LiveWorld, role: Role, release: String) -> Done {
    connected_over(world, role, release, OverWire(Wire::Direct)).await
}

#[given(
    expr = "the implementation, as {role}, is connected to Node {word} over a wire that {wire}"
)]
async fn connected_over(
    world: &mut LiveWorld,
    role: Role,
    release: String,
    wire: OverWire,
) -> Done {
    world.prepare(role, &release).await?;
    world.connect(wire.0).await?;
    world.complete_handshake().await
}

#[given(expr = "{actor} has the key pair of the seed {string}")]
async fn has_key_pair(world: &mut LiveWorld, actor: Actor, seed: String) {
    world.option(actor, "keyPairSeed", json!(seed));
}

#[given(expr = "{actor} keeps the stream alive every {int} ms")]
async fn keeps_alive(world: &mut LiveWorld, actor: Actor, interval: u64) {
    world.option(actor, "keepAlive", json!(interval));
}

#[when("they connect")]
async fn connect(world: &mut LiveWorld) -> Done {
    world.connect(Wire::Direct).await
}

#[when(expr = "they connect over a wire that {wire}")]
async fn connect_over(world: &mut LiveWorld, wire: OverWire) -> Done {
    world.connect(wire.0).await
}

#[when("they connect again")]
async fn connect_again(world: &mut LiveWorld) -> Done {
    world.disconnect().await?;
    world.connect(Wire::Direct).await
}

#[then(expr = "the implementation can be connected again")]
async fn connects_again(world: &mut LiveWorld) -> Done {
    for actor in Actor::BOTH {
        ensure_closed(world, actor).await?;
    }
    connect_again(world).await?;
    world.complete_handshake().await?;
    world.open_at_both("probe").await?;
    world.exchange("probe").await
}

// The handshake.

#[when("both complete the handshake")]
#[then("both complete the handshake")]
async fn complete(world: &mut LiveWorld) -> Done {
    world.complete_handshake().await
}

#[when(expr = "{actor} completes the handshake")]
async fn complete_one(world: &mut LiveWorld, actor: Actor) -> Done {
    world.complete_one_handshake(actor).await
}

#[then("both have the same handshake hash of 64 bytes")]
async fn same_hash(world: &mut LiveWorld) -> Done {
    let [one, other] = Actor::BOTH.map(|actor| world.seen(actor));
    let (one, other) = (&one?.handshake_hash, &other?.handshake_hash);
    ensure(one == other && one.len() == 128, || {
        format!("the implementation has {one}\nNode has {other}")
    })
}

#[then("each knows the public key of the other")]
async fn keys_known(world: &mut LiveWorld) -> Done {
    for actor in Actor::BOTH {
        let own = &world.seen(actor)?.public_key;
        let seen = &world.seen(actor.other())?.remote_public_key;
        ensure(own == seen && own.len() == 64, || {
            format!(
                "{actor:?} has the key {own}, and {:?} sees {seen}",
                actor.other()
            )
        })?;
    }
    Ok(())
}

#[then(expr = "the implementation says that it is the {role}")]
async fn says_role(world: &mut LiveWorld, role: Role) -> Done {
    let [own, node] = Actor::BOTH.map(|actor| world.seen(actor).map(|seen| seen.is_initiator));
    let initiator = role == Role::Initiator;
    ensure((own?, node?) == (initiator, !initiator), || {
        "the ends do not agree on who is the initiator".into()
    })
}

#[then(expr = "{actor} sees the public key {string}")]
async fn sees_key(world: &mut LiveWorld, actor: Actor, key: String) -> Done {
    let seen = &world.seen(actor)?.remote_public_key;
    ensure(*seen == key, || format!("it sees {seen}"))
}

#[then("the handshake hash is not that of the first time")]
async fn another_hash(world: &mut LiveWorld) -> Done {
    let mut hashes = world
        .handshakes
        .iter()
        .map(|[seen, _]| &seen.handshake_hash);
    let first = hashes.next();
    ensure(
        first.is_some() && hashes.all(|hash| Some(hash) != first),
        || "the handshake hash came twice".into(),
    )
}

#[then("the public key of the implementation is not that of the first time")]
async fn another_key(world: &mut LiveWorld) -> Done {
    let mut keys = world
        .handshakes
        .iter()
        .map(|[_, node]| &node.remote_public_key);
    let first = keys.next();
    ensure(
        first.is_some() && keys.all(|key| Some(key) != first),
        || "the same key came twice".into(),
    )
}

// Channels.

#[given(expr = "the channel of core {word} is open")]
async fn channel_open(world: &mut LiveWorld, core: String) -> Done {
    world.open_at_both(&core).await
}

#[given(expr = "the channels of cores {word}, {word} and {word} are open")]
async fn channels_open(world: &mut LiveWorld, a: String, b: String, c: String) -> Done {
    for core in [a, b, c] {
        world.open_at_both(&core).await?;
    }
    Ok(())
}

#[given(expr = "{actor} has opened core {word}")]
#[when(expr = "{actor} opens core {word}")]
async fn opens(world: &mut LiveWorld, actor: Actor, core: String) -> Done {
    world.open(actor, &core).await
}

#[when(expr = "both open core {word} at the same time")]
async fn both_open(world: &mut LiveWorld, core: String) -> Done {
    for actor in Actor::BOTH {
        world.open(actor, &core).await?;
    }
    Ok(())
}

#[then(expr = "the channel of core {word} is open at both ends")]
async fn open_at_both(world: &mut LiveWorld, core: String) -> Done {
    for actor in Actor::BOTH {
        world.opened(actor, &core).await?;
    }
    Ok(())
}

#[then(expr = "the channel of core {word} is open at {actor}")]
async fn open_at(world: &mut LiveWorld, core: String, actor: Actor) -> Done {
    world.opened(actor, &core).await.map(drop)
}

#[then("both ends say that they can seek")]
async fn both_seek(world: &mut LiveWorld) -> Done {
    // Opened anew, so that the answers can be looked at.
    for actor in Actor::BOTH {
        world.open(actor, "seeking").await?;
    }
    for actor in Actor::BOTH {
        let event = world.opened(actor, "seeking").await?;
        ensure(event["seeks"] == true, || format!("{actor:?} sees {event}"))?;
    }
    Ok(())
}

#[then(expr = "{actor} is told of core {word} by its discovery key")]
async fn told(world: &mut LiveWorld, actor: Actor, core: String) -> Done {
    world.announced(actor, &core).await
}

#[when(expr = "{actor} rejects core {word}")]
async fn rejects(world: &mut LiveWorld, actor: Actor, core: String) -> Done {
    let key = hex::encode(values::discovery_key(&world.key(&core)));
    let input = json!({ "discoveryKey": key });
    world.peer(actor)?.ask("peer.reject", input).await.map(drop)
}

#[when(expr = "{actor} closes core {word}")]
async fn closes(world: &mut LiveWorld, actor: Actor, core: String) -> Done {
    let peer = world.peer(actor)?;
    let input = json!({ "channel": peer.channel(&core)? });
    peer.ask("peer.closeChannel", input).await.map(drop)
}

#[when(expr = "both close core {word} at the same time")]
async fn both_close(world: &mut LiveWorld, core: String) -> Done {
    let inputs = {
        let [one, other] = world.both()?;
        [one.channel(&core)?, other.channel(&core)?].map(|channel| json!({ "channel": channel }))
    };
    let [one, other] = world.both()?;
    let [first, second] = inputs;
    // Whoever is second may have been told already.
    let (first, second) = tokio::join!(
        one.try_ask("peer.closeChannel", first),
        other.try_ask("peer.closeChannel", second)
    );
    first.and(second).map(drop)
}

#[then(expr = "neither end has core {word} open")]
async fn neither_open(world: &mut LiveWorld, core: String) -> Done {
    for actor in Actor::BOTH {
        world.closed(actor, &core, &["local", "remote"]).await?;
    }
    Ok(())
}

#[then(expr = "{actor} sees the channel of core {word} closed, by itself")]
async fn closed_by_itself(world: &mut LiveWorld, actor: Actor, core: String) -> Done {
    world.closed(actor, &core, &["local"]).await
}

#[then(expr = "{actor} sees the channel of core {word} closed, by the other end")]
async fn closed_by_other(world: &mut LiveWorld, actor: Actor, core: String) -> Done {
    world.closed(actor, &core, &["remote"]).await
}

#[then(expr = "{actor} sees the channel of core {word} closed, for it was rejected")]
async fn closed_by_rejection(world: &mut LiveWorld, actor: Actor, core: String) -> Done {
    world.closed(actor, &core, &["rejected"]).await
}

#[then(expr = "both see the channel of core {word} closed, by the stream")]
async fn closed_by_stream(world: &mut LiveWorld, core: String) -> Done {
    for actor in Actor::BOTH {
        world.closed(actor, &core, &["stream"]).await?;
    }
    Ok(())
}

#[when(expr = "Node opens a channel of the protocol {string}")]
async fn opens_protocol(world: &mut LiveWorld, protocol: String) -> Done {
    let node = world.peer(Actor::Node)?;
    let input = json!({ "protocol": protocol, "id": "aabb", "handshake": null });
    let answer = node.ask("peer.openProtocol", input).await?;
    let handle = answer["channel"].as_u64().unwrap_or_default();
    node.channels
        .entry("that channel".into())
        .or_default()
        .push(handle);
    Ok(())
}

#[then("Node sees that channel closed, for it was rejected")]
async fn protocol_rejected(world: &mut LiveWorld) -> Done {
    world
        .closed(Actor::Node, "that channel", &["rejected"])
        .await
}

#[when(expr = "both open {int} cores")]
async fn open_many(world: &mut LiveWorld, count: usize) -> Done {
    for actor in Actor::BOTH {
        for n in 0..count {
            world.open(actor, &format!("many-{n}")).await?;
        }
    }
    for n in 0..count {
        open_at_both(world, format!("many-{n}")).await?;
    }
    Ok(())
}

#[then("a message passes both ways on each of them")]
async fn exchange_on_all(world: &mut LiveWorld) -> Done {
    for n in 0..100 {
        world.exchange(&format!("many-{n}")).await?;
    }
    Ok(())
}

#[when("the implementation closes every second one of them")]
async fn close_every_second(world: &mut LiveWorld) -> Done {
    for n in (0..100).step_by(2) {
        closes(world, Actor::Implementation, format!("many-{n}")).await?;
    }
    for n in (0..100).step_by(2) {
        closed_by_other(world, Actor::Node, format!("many-{n}")).await?;
    }
    Ok(())
}

#[then("a message passes both ways on each of the others")]
async fn exchange_on_others(world: &mut LiveWorld) -> Done {
    for n in (1..100).step_by(2) {
        world.exchange(&format!("many-{n}")).await?;
    }
    Ok(())
}

// Capabilities that are not as they should be.

async fn open_by_hand(
    world: &mut LiveWorld,
    actor: Actor,
    core: &str,
    flags: u8,
    capability: &[u8],
    length: usize,
) -> Done {
    let mut handshake = vec![flags];
    handshake.extend_from_slice(capability);
    handshake.truncate(length);
    let id = values::discovery_key(&world.key(core));
    let record = values::open_record(1, "hypercore/alpha", &id, &handshake);
    plaintext(world, actor, &record).await
}

fn capability_of(world: &LiveWorld, actor: Actor, core: &str) -> Result<[u8; 32], Trouble> {
    let seen = world.seen(actor)?;
    let hash = unhex(&seen.handshake_hash)?;
    Ok(values::capability(
        seen.is_initiator,
        &world.key(core),
        &hash,
    ))
}

#[when(expr = "{actor} opens core {word} with a capability of another key")]
async fn opens_with_other_key(world: &mut LiveWorld, actor: Actor, core: String) -> Done {
    let capability = capability_of(world, actor, "another")?;
    open_by_hand(world, actor, &core, 1, &capability, 33).await
}

#[when(expr = "Node opens core {word} with the capability of the implementation")]
async fn opens_reflected(world: &mut LiveWorld, core: String) -> Done {
    let capability = capability_of(world, Actor::Implementation, &core)?;
    open_by_hand(world, Actor::Node, &core, 1, &capability, 33).await
}

#[when(expr = "Node opens core {word} with its capability and the flags {string}")]
async fn opens_with_flags(world: &mut LiveWorld, core: String, flags: String) -> Done {
    let capability = capability_of(world, Actor::Node, &core)?;
    let flags = unhex(&flags)?.first().copied().unwrap_or_default();
    open_by_hand(world, Actor::Node, &core, flags, &capability, 33).await
}

#[when(expr = "Node opens core {word} with the first {int} bytes of its handshake")]
async fn opens_short(world: &mut LiveWorld, core: String, length: usize) -> Done {
    let capability = capability_of(world, Actor::Node, &core)?;
    open_by_hand(world, Actor::Node, &core, 1, &capability, length).await
}

// Messages.

#[when(expr = "{actor} sends {word} {form} on core {word}")]
async fn sends(
    world: &mut LiveWorld,
    actor: Actor,
    name: String,
    form: InForm,
    core: String,
) -> Done {
    let value = message(&name, form.0)?;
    world.send(actor, &core, &name, &value).await
}

#[then(expr = "{actor} receives {word} {form} on core {word}")]
async fn receives(
    world: &mut LiveWorld,
    actor: Actor,
    name: String,
    form: InForm,
    core: String,
) -> Done {
    let value = message(&name, form.0)?;
    world.receive(actor, &core, &name, &value).await
}

#[when(expr = "{actor} sends data with a manifest of version {int} on core {word}")]
async fn sends_manifest(world: &mut LiveWorld, actor: Actor, version: u64, core: String) -> Done {
    let value = values::data_with_manifest(version);
    world.send(actor, &core, "data", &value).await
}

#[then(expr = "{actor} receives data with a manifest of version {int} on core {word}")]
async fn receives_manifest(
    world: &mut LiveWorld,
    actor: Actor,
    version: u64,
    core: String,
) -> Done {
    let value = values::data_with_manifest(version);
    world.receive(actor, &core, "data", &value).await
}

#[when(expr = "{actor} sends a batch of every message in full on core {word}")]
async fn sends_batch(world: &mut LiveWorld, actor: Actor, core: String) -> Done {
    let mut messages = Vec::new();
    for name in MESSAGES {
        messages.push(json!({ "message": name, "value": message(name, Form::Full)? }));
    }
    let peer = world.peer(actor)?;
    let input = json!({ "channel": peer.channel(&core)?, "messages": messages });
    peer.ask("peer.batch", input).await.map(drop)
}

#[then(expr = "{actor} receives every message in full and in order on core {word}")]
async fn receives_batch(world: &mut LiveWorld, actor: Actor, core: String) -> Done {
    for name in MESSAGES {
        let value = message(name, Form::Full)?;
        world.receive(actor, &core, name, &value).await?;
    }
    Ok(())
}

#[when(expr = "{actor} sends {int} messages on core {word}")]
async fn sends_lot(world: &mut LiveWorld, actor: Actor, count: u64, core: String) -> Done {
    world.send_lot(actor, &core, count).await
}

#[when(expr = "both send {int} messages on core {word} at the same time")]
async fn both_send_lot(world: &mut LiveWorld, count: u64, core: String) -> Done {
    for actor in Actor::BOTH {
        world.sent[actor as usize].first = world.sent[actor as usize].messages;
    }
    for _ in 0..count {
        for actor in Actor::BOTH {
            world.send_numbered(actor, &core).await?;
        }
    }
    Ok(())
}

#[when(expr = "{actor} sends {int} messages on core {word} with a keep-alive behind each")]
async fn sends_lot_with_keep_alives(
    world: &mut LiveWorld,
    actor: Actor,
    count: u64,
    core: String,
) -> Done {
    world.sent[actor as usize].first = world.sent[actor as usize].messages;
    for _ in 0..count {
        world.send_numbered(actor, &core).await?;
        keep_alive(world, actor).await?;
    }
    Ok(())
}

#[then(expr = "{actor} receives those {int} messages in order on core {word}")]
async fn receives_lot(world: &mut LiveWorld, actor: Actor, count: u64, core: String) -> Done {
    world.receive_lot(actor, &core, count).await
}

#[then(expr = "each receives those {int} messages in order on core {word}")]
async fn each_receives_lot(world: &mut LiveWorld, count: u64, core: String) -> Done {
    for actor in Actor::BOTH {
        world.receive_lot(actor, &core, count).await?;
    }
    Ok(())
}

#[then(expr = "messages pass both ways on core {word}")]
async fn exchange(world: &mut LiveWorld, core: String) -> Done {
    world.exchange(&core).await
}

#[then("the stream carries messages both ways")]
async fn stream_works(world: &mut LiveWorld) -> Done {
    world.open_at_both("probe").await?;
    world.exchange("probe").await
}

#[then(
    expr = "{int} messages that alternate between cores {word}, {word} and {word} arrive in order on each of them"
)]
async fn alternate(world: &mut LiveWorld, count: usize, a: String, b: String, c: String) -> Done {
    let cores = [a, b, c];
    for actor in Actor::BOTH {
        let mut numbers = Vec::new();
        for n in 0..count {
            let core = &cores[n % 3];
            let cancel = json!({ "request": n });
            world.send(actor, core, "cancel", &cancel).await?;
            numbers.push((core.clone(), cancel));
        }
        // An implementation may hand out each channel's messages apart, so the order is that of the channel.
        for (core, cancel) in numbers {
            world
                .receive(actor.other(), &core, "cancel", &cancel)
                .await?;
        }
    }
    Ok(())
}

#[when(expr = "the implementation closes core {word} while Node sends {int} messages on it")]
async fn close_while_sending(world: &mut LiveWorld, core: String, count: u64) -> Done {
    let [implementation, node] = world.both()?;
    let close = json!({ "channel": implementation.channel(&core)? });
    let channel = node.channel(&core)?;
    let send = async {
        for n in 0..count {
            let input =
                json!({ "channel": channel, "message": "cancel", "value": { "request": n } });
            // Refused once the close has arrived.
            node.try_ask("peer.send", input).await?;
        }
        Ok(())
    };
    let (closed, sent) = tokio::join!(implementation.ask("peer.closeChannel", close), send);
    closed.map(drop).and(sent)
}

#[then(expr = "{actor} receives cancel of request {int} on core {word}")]
async fn receives_cancel(world: &mut LiveWorld, actor: Actor, request: u64, core: String) -> Done {
    let value = json!({ "request": request });
    world.receive(actor, &core, "cancel", &value).await
}

#[then(expr = "{actor} receives a range of {int} blocks on core {word}")]
async fn receives_range(world: &mut LiveWorld, actor: Actor, length: u64, core: String) -> Done {
    let value = json!({ "drop": false, "start": 0, "length": length });
    world.receive(actor, &core, "range", &value).await
}

// Extensions.

async fn send_extension(
    world: &mut LiveWorld,
    actor: Actor,
    core: &str,
    name: &str,
    message: &str,
) -> Done {
    let peer = world.peer(actor)?;
    let channel = peer.channel(core)?;
    let input = json!({ "channel": channel, "name": name, "message": message });
    peer.ask("peer.extension", input).await.map(drop)
}

async fn receive_extension(
    world: &mut LiveWorld,
    actor: Actor,
    core: &str,
    name: &str,
    message: &str,
) -> Done {
    let value = json!({ "name": name, "message": message });
    world.receive(actor, core, "extension", &value).await
}

#[when(expr = "{actor} sends {string} to the extension {string} on core {word}")]
async fn sends_extension(
    world: &mut LiveWorld,
    actor: Actor,
    message: String,
    name: String,
    core: String,
) -> Done {
    send_extension(world, actor, &core, &name, &message).await
}

#[then(expr = "{actor} receives {string} for the extension {string} on core {word}")]
async fn receives_extension(
    world: &mut LiveWorld,
    actor: Actor,
    message: String,
    name: String,
    core: String,
) -> Done {
    receive_extension(world, actor, &core, &name, &message).await
}

#[when(
    expr = "{actor} sends {string}, {string} and {string} to the extension {string} on core {word}"
)]
async fn sends_three(
    world: &mut LiveWorld,
    actor: Actor,
    a: String,
    b: String,
    c: String,
    name: String,
    core: String,
) -> Done {
    for message in [a, b, c] {
        send_extension(world, actor, &core, &name, &message).await?;
    }
    Ok(())
}

#[then(
    expr = "{actor} receives {string}, {string} and {string} for the extension {string} on core {word}"
)]
async fn receives_three(
    world: &mut LiveWorld,
    actor: Actor,
    a: String,
    b: String,
    c: String,
    name: String,
    core: String,
) -> Done {
    for message in [a, b, c] {
        receive_extension(world, actor, &core, &name, &message).await?;
    }
    Ok(())
}

#[when(
    expr = "{actor} sends to the extensions {string}, {string}, {string} and {string} on core {word}"
)]
async fn sends_to_four(
    world: &mut LiveWorld,
    actor: Actor,
    a: String,
    b: String,
    c: String,
    d: String,
    core: String,
) -> Done {
    for (index, name) in [a, b, c, d].iter().enumerate() {
        send_extension(world, actor, &core, name, &format!("{index:02x}")).await?;
    }
    Ok(())
}

#[then(
    expr = "{actor} receives for the extensions {string}, {string}, {string} and {string} on core {word}"
)]
async fn receives_for_four(
    world: &mut LiveWorld,
    actor: Actor,
    a: String,
    b: String,
    c: String,
    d: String,
    core: String,
) -> Done {
    for (index, name) in [a, b, c, d].iter().enumerate() {
        receive_extension(world, actor, &core, name, &format!("{index:02x}")).await?;
    }
    Ok(())
}

#[when(expr = "{actor} sends extension messages of these sizes on core {word}")]
async fn sends_sizes(world: &mut LiveWorld, step: &Step, actor: Actor, core: String) -> Done {
    let cells = step
        .table
        .iter()
        .flat_map(|table| table.rows.iter().flatten());
    let sizes: Result<Vec<usize>, _> = cells.map(|cell| cell.parse()).collect();
    let sizes = sizes.map_err(|error| Trouble::failed(format!("the feature's sizes: {error}")))?;
    ensure(!sizes.is_empty(), || "the feature has no sizes".into())?;
    for &size in &sizes {
        let message = values::pattern(size);
        send_extension(world, actor, &core, "x", &message).await?;
    }
    world.sent[actor as usize].sizes = sizes;
    Ok(())
}

#[then(expr = "{actor} receives them whole and in order on core {word}")]
async fn receives_sizes(world: &mut LiveWorld, actor: Actor, core: String) -> Done {
    for size in std::mem::take(&mut world.sent[actor.other() as usize].sizes) {
        receive_extension(world, actor, &core, "x", &values::pattern(size)).await?;
    }
    Ok(())
}

// Below the messages.

async fn plaintext(world: &mut LiveWorld, actor: Actor, bytes: &[u8]) -> Done {
    let input = json!({ "bytes": hex::encode(bytes) });
    world
        .peer(actor)?
        .ask("peer.plaintext", input)
        .await
        .map(drop)
}

#[when(expr = "{actor} sends the plaintext {string}")]
async fn sends_plaintext(world: &mut LiveWorld, actor: Actor, bytes: String) -> Done {
    plaintext(world, actor, &unhex(&bytes)?).await
}

#[when(expr = "Node sends batches nested {int} deep")]
async fn sends_nested(world: &mut LiveWorld, depth: usize) -> Done {
    // A batch on channel 1 with one item, a cancel; then batches on channel 0 that hold the one before.
    let mut body = vec![1, 2, 2, 5];
    for _ in 0..depth {
        let length = body.len() + 1;
        let mut outer = vec![0, 0xfd];
        let length = u16::try_from(length)
            .map_err(|_| Trouble::failed("the nesting takes more than 65,535 bytes"))?;
        outer.extend_from_slice(&length.to_le_bytes());
        outer.push(0);
        outer.append(&mut body);
        body = outer;
    }
    let record = [&[0, 0], body.as_slice()].concat();
    plaintext(world, Actor::Node, &record).await
}

#[when(expr = "Node writes the bytes {string} past its stream")]
async fn writes_raw(world: &mut LiveWorld, bytes: String) -> Done {
    let input = json!({ "bytes": hex::encode(unhex(&bytes)?) });
    world
        .peer(Actor::Node)?
        .ask("peer.raw", input)
        .await
        .map(drop)
}

#[then(expr = "nothing of it is reported by {actor}")]
async fn nothing_reported(world: &mut LiveWorld, actor: Actor) -> Done {
    // A channel opened behind it: what it caused would have come before.
    world.open_at_both("behind").await?;
    world.exchange("behind").await?;
    let peer = world.peer(actor)?;
    peer.catch_up().await?;
    let expected = ["discoveryKey", "open"];
    match peer
        .unread()
        .find(|event| !expected.iter().any(|kind| event["type"] == *kind))
    {
        Some(event) => Err(peer.trouble(format!("it reported {event}"))),
        None => Ok(()),
    }
}

#[when(expr = "{actor} sends a keep-alive")]
async fn keep_alive(world: &mut LiveWorld, actor: Actor) -> Done {
    world
        .peer(actor)?
        .ask("peer.keepAlive", json!({}))
        .await
        .map(drop)
}

#[when(expr = "the records of {actor} are counted from here")]
async fn count(world: &mut LiveWorld, actor: Actor) -> Done {
    world.count_records(actor)
}

/// The body of a record without content: tag and MAC.
const EMPTY_RECORD: usize = 17;

#[then(expr = "an empty record of {actor} crosses the wire")]
async fn empty_record(world: &mut LiveWorld, actor: Actor) -> Done {
    empty_records(world, 1, actor).await
}

#[then(expr = "{int} empty records of {actor} cross the wire")]
async fn empty_records(world: &mut LiveWorld, count: usize, actor: Actor) -> Done {
    let empty = |lengths: &[usize]| {
        let empty = lengths.iter().filter(|&&length| length == EMPTY_RECORD);
        empty.count()
    };
    let what = format!("{count} empty records of {actor:?}");
    world
        .wait_records(actor, &what, |lengths| empty(lengths) >= count)
        .await
        .map(drop)
}

#[then(expr = "{actor} has sent {int} record(s)")]
async fn has_sent(world: &mut LiveWorld, actor: Actor, count: usize) -> Done {
    let what = format!("{count} records of {actor:?}");
    let lengths = world
        .wait_records(actor, &what, |lengths| lengths.len() >= count)
        .await?;
    ensure(lengths.len() == count, || {
        format!("records of these lengths crossed the wire: {lengths:?}")
    })
}

#[when(expr = "the wire takes nothing from {actor}")]
async fn block_wire(world: &mut LiveWorld, actor: Actor) -> Done {
    world.block(actor, true)
}

#[when(expr = "the wire takes everything from {actor} again")]
async fn unblock_wire(world: &mut LiveWorld, actor: Actor) -> Done {
    world.block(actor, false)
}

#[when(expr = "the wire holds back what {actor} sends")]
async fn hold(world: &mut LiveWorld, actor: Actor) -> Done {
    world.hold(actor)
}

#[when(expr = "the wire lets those {int} records of {actor} go in one piece")]
async fn let_go(world: &mut LiveWorld, count: usize, actor: Actor) -> Done {
    world.let_go(actor, count).await
}

// The end.

async fn ask(world: &mut LiveWorld, actor: Actor, op: &str) -> Done {
    world.peer(actor)?.ask(op, json!({})).await.map(drop)
}

/// How long an implementation may hold its caller up while the wire takes what it sends, in milliseconds.
const HOLD_UP: u64 = 1_000;

#[when(
    expr = "{actor} sends blocks of {int} bytes on core {word} until it has to wait, at most {int}"
)]
async fn fills(world: &mut LiveWorld, actor: Actor, size: usize, core: String, limit: u64) -> Done {
    let peer = world.peer(actor)?;
    let input = json!({
        "channel": peer.channel(&core)?,
        "outgoing": { "message": "data", "value": values::block(size) },
        "limit": limit,
        "patienceMs": HOLD_UP,
    });
    let answer = peer.ask("peer.fill", input).await?;
    let (Some(sent), Some(waits)) = (answer["sent"].as_u64(), answer["waits"].as_bool()) else {
        return Err(peer.trouble(format!("peer.fill gave no count: {answer}")));
    };
    world.filled[actor as usize] = Filled { size, sent, waits };
    Ok(())
}

#[then(expr = "{actor} has to wait")]
async fn has_to_wait(world: &mut LiveWorld, actor: Actor) -> Done {
    let Filled { size, sent, waits } = world.filled[actor as usize];
    ensure(waits, || {
        let bytes = sent * size as u64;
        format!(
            "it took {bytes} bytes, while the wire took none of them, and never let its caller wait"
        )
    })
}

#[then(expr = "{actor} receives all of those blocks on core {word}")]
async fn receives_blocks(world: &mut LiveWorld, actor: Actor, core: String) -> Done {
    let Filled { size, sent, .. } = world.filled[actor.other() as usize];
    let value = values::block(size);
    for _ in 0..sent {
        world.receive(actor, &core, "data", &value).await?;
    }
    Ok(())
}

#[when(expr = "the socket of {actor} fails to {word}, for it {cause}")]
async fn fails(world: &mut LiveWorld, actor: Actor, direction: String, cause: Cause) -> Done {
    let input = json!({ "direction": direction, "cause": cause.0 });
    world.peer(actor)?.ask("peer.fail", input).await.map(drop)
}

/// Whether it goes on or not is what comes to light then.
#[when(expr = "{actor} sends a message on core {word}, if it still can")]
async fn sends_if_it_can(world: &mut LiveWorld, actor: Actor, core: String) -> Done {
    try_to_send(world, actor, &core).await.map(drop)
}

#[then(expr = "{actor} takes nothing more to send on core {word}")]
async fn takes_nothing(world: &mut LiveWorld, actor: Actor, core: String) -> Done {
    let outcome = try_to_send(world, actor, &core).await?;
    let closed = matches!(&outcome, Outcome::Error(error)
        if error["layer"] == "connection" && error["class"] == "closed");
    ensure(closed, || {
        format!("a message on a stream that is gone is answered by {outcome:?}")
    })
}

async fn try_to_send(world: &mut LiveWorld, actor: Actor, core: &str) -> Result<Outcome, Trouble> {
    let value = message("want", Form::Smallest)?;
    let peer = world.peer(actor)?;
    let input = json!({ "channel": peer.channel(core)?, "message": "want", "value": value });
    peer.try_ask("peer.send", input).await
}

#[when(expr = "{actor} ends the stream")]
async fn ends(world: &mut LiveWorld, actor: Actor) -> Done {
    ask(world, actor, "peer.end").await
}

#[when("both end the stream at the same time")]
async fn both_end(world: &mut LiveWorld) -> Done {
    let [one, other] = world.both()?;
    // Whoever is second may have ended already, in answer to the first.
    let (first, second) = tokio::join!(
        one.try_ask("peer.end", json!({})),
        other.try_ask("peer.end", json!({}))
    );
    first.and(second).map(drop)
}

#[when(expr = "{actor} resets the connection")]
async fn resets(world: &mut LiveWorld, actor: Actor) -> Done {
    ask(world, actor, "peer.reset").await
}

#[then(expr = "{actor} reports a clean end")]
async fn clean_end(world: &mut LiveWorld, actor: Actor) -> Done {
    world
        .peer(actor)?
        .expect_next("a clean end", &["end", "error", "closed"], |event| {
            event["type"] == "end"
        })
        .await
        .map(drop)
}

async fn ensure_closed(world: &mut LiveWorld, actor: Actor) -> Done {
    let peer = world.peer(actor)?;
    let gone = |event: &Value| event["type"] == "closed";
    // Seen before, or still to come; it stays, for nothing comes after it.
    peer.catch_up().await?;
    if peer.unread().any(gone) {
        return Ok(());
    }
    peer.expect_closed().await
}

#[then(expr = "{actor} sees the stream go")]
async fn sees_go(world: &mut LiveWorld, actor: Actor) -> Done {
    ensure_closed(world, actor).await?;
    // Why it went is the other end's to say; here it may be an end or a reset.
    world.peer(actor)?.forgive();
    Ok(())
}

#[then("both see the stream go")]
async fn both_see_go(world: &mut LiveWorld) -> Done {
    for actor in Actor::BOTH {
        ensure_closed(world, actor).await?;
    }
    Ok(())
}

#[then(expr = "the stream of {actor} is gone")]
async fn is_gone(world: &mut LiveWorld, actor: Actor) -> Done {
    ensure_closed(world, actor).await
}

#[then("nobody has reported an error")]
async fn no_errors(world: &mut LiveWorld) -> Done {
    for peer in world.both()? {
        peer.catch_up().await?;
        if let Some(error) = peer.unread().find(|event| event["type"] == "error") {
            return Err(peer.trouble(format!("it reported {error}")));
        }
    }
    Ok(())
}

#[then(expr = "{actor} reports no clean end")]
async fn no_clean_end(world: &mut LiveWorld, actor: Actor) -> Done {
    ensure_closed(world, actor).await?;
    let peer = world.peer(actor)?;
    let clean = peer.unread().any(|event| event["type"] == "end");
    ensure(!clean, || "it reported a clean end".into())
}

#[then(expr = "{actor} destroys the stream with an error of the {word} layer")]
async fn destroys(world: &mut LiveWorld, actor: Actor, layer: String) -> Done {
    let peer = world.peer(actor)?;
    let what = format!("an error of the {layer} layer");
    peer.expect_next(&what, &["error", "end", "closed"], |event| {
        event["type"] == "error" && event["layer"] == layer
    })
    .await?;
    ensure_closed(world, actor).await?;
    world.peer(actor.other())?.forgive();
    Ok(())
}

#[then(expr = "{actor} reports a {string} error of the {word} layer")]
async fn reports(world: &mut LiveWorld, actor: Actor, class: String, layer: String) -> Done {
    let what = format!("a {class} error of the {layer} layer");
    world
        .peer(actor)?
        .expect_next(&what, &["error", "end", "closed"], |event| {
            event["type"] == "error" && event["layer"] == layer && event["class"] == class
        })
        .await?;
    world.peer(actor.other())?.forgive();
    Ok(())
}

// A real Hypercore.

/// The blocks of the cores of Node: each is its index, written out.
fn blocks(from: u64, to: u64) -> Vec<String> {
    (from..to).map(block).collect()
}

fn block(index: u64) -> String {
    hex::encode(format!("block {index}"))
}

/// Remembers the key that a core of Node was given.
fn remember(world: &mut LiveWorld, core: String, answer: &Value) -> Done {
    let key = answer["key"].as_str().unwrap_or_default();
    let key = <[u8; 32]>::try_from(unhex(key)?)
        .map_err(|_| Trouble::failed(format!("peer.core gave no key: {answer}")))?;
    world.keys.insert(core, key);
    Ok(())
}

#[when(expr = "Node replicates a {word} core {word} of {int} blocks")]
async fn replicates(world: &mut LiveWorld, kind: String, core: String, length: u64) -> Done {
    let input = json!({
        "keySeed": "05".repeat(32), "key": null, "blocks": blocks(0, length), "compat": kind == "compat",
        "extensions": ["example"],
    });
    let answer = world.peer(Actor::Node)?.ask("peer.core", input).await?;
    remember(world, core, &answer)
}

#[given(
    expr = "Node replicates a {word} core {word} of {int} blocks, which the implementation has open"
)]
async fn replicates_open(world: &mut LiveWorld, kind: String, core: String, length: u64) -> Done {
    replicates(world, kind, core.clone(), length).await?;
    world.open(Actor::Implementation, &core).await?;
    world.opened(Actor::Implementation, &core).await?;
    // What an end that wants everything says first; a core closes the channel to one that wants nothing.
    greet(world, &core, 0).await?;
    receives_greeting(world, length, core).await
}

async fn greet(world: &mut LiveWorld, core: &str, length: u64) -> Done {
    let sync = json!({
        "fork": 0, "length": length, "remoteLength": 0,
        "canUpgrade": true, "uploading": true, "downloading": true, "hasManifest": length > 0, "allowPush": false,
    });
    let actor = Actor::Implementation;
    world.send(actor, core, "sync", &sync).await?;
    if length > 0 {
        let range = json!({ "drop": false, "start": 0, "length": length });
        world.send(actor, core, "range", &range).await?;
    }
    Ok(())
}

#[then(expr = "the implementation receives the greeting of a core of {int} blocks on core {word}")]
async fn receives_greeting(world: &mut LiveWorld, length: u64, core: String) -> Done {
    let sync = world.message(Actor::Implementation, &core).await?;
    ensure(
        sync["name"] == "sync" && sync["value"]["length"] == length,
        || format!("the first message is {sync}"),
    )?;
    let range = world.message(Actor::Implementation, &core).await?;
    let whole = json!({ "drop": false, "start": 0, "length": length });
    ensure(range["name"] == "range" && range["value"] == whole, || {
        format!("the second message is {range}")
    })
}

/// Waits for a message of this name on the channel of a core; what a core says unasked in between means nothing here.
async fn answer(world: &mut LiveWorld, core: &str, name: &str) -> Result<Value, Trouble> {
    loop {
        let event = world.message(Actor::Implementation, core).await?;
        if event["name"] == name {
            return Ok(event["value"].clone());
        }
        let unasked = ["sync", "range", "want", "unwant"];
        ensure(unasked.iter().any(|name| event["name"] == *name), || {
            format!("expected {name}, and got {event}")
        })?;
    }
}

/// Sends a request with these parts; the id is a fresh one.
async fn request(world: &mut LiveWorld, core: &str, parts: Value) -> Result<u64, Trouble> {
    let id = world.request_id();
    let mut value = message("request", Form::Smallest)?;
    value["id"] = json!(id);
    if let Value::Object(parts) = parts {
        for (name, part) in parts {
            value[name] = part;
        }
    }
    world
        .send(Actor::Implementation, core, "request", &value)
        .await?;
    Ok(id)
}

/// The data that answers the last request.
async fn data(world: &mut LiveWorld) -> Result<Value, Trouble> {
    let data = answer(world, "R", "data").await?;
    let asked = world.request_id() - 1;
    ensure(data["request"] == asked, || {
        format!("request {asked} is answered by {data}")
    })?;
    Ok(data)
}

#[when(expr = "the implementation asks core {word} for block {int} and an upgrade to {int}")]
async fn asks_block_and_upgrade(
    world: &mut LiveWorld,
    core: String,
    index: u64,
    length: u64,
) -> Done {
    let parts = json!({ "block": { "index": index, "nodes": 0 }, "upgrade": { "start": 0, "length": length } });
    request(world, &core, parts).await.map(drop)
}

#[then(expr = "the implementation gets block {int} and a signed upgrade to {int}")]
async fn gets_block_and_upgrade(world: &mut LiveWorld, index: u64, length: u64) -> Done {
    let data = data(world).await?;
    ensure(data["block"]["value"] == block(index), || data.to_string())?;
    let upgrade = &data["upgrade"];
    let signature = upgrade["signature"].as_str().unwrap_or_default();
    ensure(
        upgrade["start"] == 0 && upgrade["length"] == length && signature.len() >= 128,
        || data.to_string(),
    )
}

#[when(expr = "the implementation asks core {word} for block {int}")]
async fn asks_block(world: &mut LiveWorld, core: String, index: u64) -> Done {
    let parts = json!({ "block": { "index": index, "nodes": 0 } });
    request(world, &core, parts).await.map(drop)
}

#[when(expr = "the implementation asks core {word} for blocks {int} and {int} in one batch")]
async fn asks_in_batch(world: &mut LiveWorld, core: String, first: u64, second: u64) -> Done {
    let mut messages = Vec::new();
    for index in [first, second] {
        let mut value = message("request", Form::Smallest)?;
        value["id"] = json!(world.request_id());
        value["block"] = json!({ "index": index, "nodes": 0 });
        messages.push(json!({ "message": "request", "value": value }));
    }
    let peer = world.peer(Actor::Implementation)?;
    let input = json!({ "channel": peer.channel(&core)?, "messages": messages });
    peer.ask("peer.batch", input).await.map(drop)
}

#[then(expr = "the implementation gets blocks {int} and {int}")]
async fn gets_blocks(world: &mut LiveWorld, first: u64, second: u64) -> Done {
    // Answers may come in any order.
    let mut wanted = vec![first, second];
    while !wanted.is_empty() {
        let data = answer(world, "R", "data").await?;
        let at = wanted.iter().position(|index| {
            data["block"]["index"] == *index && data["block"]["value"] == block(*index)
        });
        match at {
            Some(at) => drop(wanted.remove(at)),
            None => return Err(Trouble::failed(data.to_string())),
        }
    }
    Ok(())
}

#[then(expr = "the implementation gets block {int}")]
async fn gets_block(world: &mut LiveWorld, index: u64) -> Done {
    // The answer to a request that was cancelled may have been on its way.
    let asked = world.request_id() - 1;
    loop {
        let data = answer(world, "R", "data").await?;
        if data["request"] == asked {
            return ensure(data["block"]["value"] == block(index), || data.to_string());
        }
    }
}

#[when(expr = "the implementation asks core {word} for block {int} and cancels that at once")]
async fn asks_and_cancels(world: &mut LiveWorld, core: String, index: u64) -> Done {
    let parts = json!({ "block": { "index": index, "nodes": 0 } });
    let id = request(world, &core, parts).await?;
    let cancel = json!({ "request": id });
    world
        .send(Actor::Implementation, &core, "cancel", &cancel)
        .await
}

#[when(expr = "the implementation asks core {word} for block {int} of fork {int}")]
async fn asks_of_fork(world: &mut LiveWorld, core: String, index: u64, fork: u64) -> Done {
    let parts = json!({ "fork": fork, "block": { "index": index, "nodes": 0 } });
    request(world, &core, parts).await.map(drop)
}

#[then("the implementation gets noData")]
async fn gets_no_data(world: &mut LiveWorld) -> Done {
    let no_data = answer(world, "R", "noData").await?;
    let asked = world.request_id() - 1;
    ensure(no_data["request"] == asked, || no_data.to_string())?;
    // hypercore 10.38.2 sends no reason; 11.37.1 says that the block is not available.
    let reason = if world.has_old_end()? { 0 } else { 1 };
    let got = no_data.get("reason").and_then(Value::as_u64).unwrap_or(0);
    ensure(got == reason, || no_data.to_string())
}

#[when(expr = "the implementation asks core {word} for the hash of node {int}")]
async fn asks_hash(world: &mut LiveWorld, core: String, index: u64) -> Done {
    let parts = json!({ "hash": { "index": index, "nodes": 0 } });
    request(world, &core, parts).await.map(drop)
}

#[then(expr = "the implementation gets the hash of node {int}")]
async fn gets_hash(world: &mut LiveWorld, index: u64) -> Done {
    let data = data(world).await?;
    let nodes = data["hash"]["nodes"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let node = nodes.iter().find(|node| node["index"] == index);
    let hash = node.and_then(|node| node["hash"].as_str());
    ensure(hash.is_some_and(|hash| hash.len() == 64), || {
        data.to_string()
    })
}

#[when(expr = "the implementation asks core {word} to seek to byte {int} with an upgrade to {int}")]
async fn asks_seek(world: &mut LiveWorld, core: String, bytes: u64, length: u64) -> Done {
    let parts = json!({ "seek": { "bytes": bytes, "padding": 0 }, "upgrade": { "start": 0, "length": length } });
    request(world, &core, parts).await.map(drop)
}

#[then(expr = "the implementation gets nodes for byte {int}")]
async fn gets_seek(world: &mut LiveWorld, bytes: u64) -> Done {
    let data = data(world).await?;
    let nodes = data["seek"]["nodes"].as_array().map_or(0, Vec::len);
    ensure(data["seek"]["bytes"] == bytes && nodes > 0, || {
        data.to_string()
    })
}

#[when(expr = "the implementation asks core {word} for its manifest")]
async fn asks_manifest(world: &mut LiveWorld, core: String) -> Done {
    request(world, &core, json!({ "manifest": true }))
        .await
        .map(drop)
}

#[then(expr = "the implementation gets a manifest of version {int} with {int} signer(s)")]
async fn gets_manifest(world: &mut LiveWorld, version: u64, signers: usize) -> Done {
    let data = data(world).await?;
    let manifest = &data["manifest"];
    let count = manifest["signers"].as_array().map_or(0, Vec::len);
    ensure(manifest["version"] == version && count == signers, || {
        data.to_string()
    })
}

#[when(expr = "Node appends {int} blocks to its core")]
async fn appends(world: &mut LiveWorld, count: u64) -> Done {
    let input = json!({ "blocks": blocks(8, 8 + count) });
    world
        .peer(Actor::Node)?
        .ask("peer.coreAppend", input)
        .await
        .map(drop)
}

#[then(expr = "the implementation receives a sync of length {int} on core {word}")]
async fn receives_sync(world: &mut LiveWorld, length: u64, core: String) -> Done {
    loop {
        // One that repeats the old length, in answer to the greeting, may come before.
        if answer(world, &core, "sync").await?["length"] == length {
            return Ok(());
        }
    }
}

#[then(expr = "the implementation receives a range up to {int} on core {word}")]
async fn receives_range_to(world: &mut LiveWorld, end: u64, core: String) -> Done {
    let range = answer(world, &core, "range").await?;
    let reaches =
        range["start"].as_u64().unwrap_or_default() + range["length"].as_u64().unwrap_or_default();
    ensure(reaches == end && range["drop"] == false, || {
        range.to_string()
    })
}

#[then(
    expr = "the core of Node receives {string}, {string} and {string} for the extension {string}"
)]
async fn core_receives(
    world: &mut LiveWorld,
    a: String,
    b: String,
    c: String,
    name: String,
) -> Done {
    let node = world.peer(Actor::Node)?;
    for message in [a, b, c] {
        node.expect_next(
            &format!("{message} for {name}"),
            &["coreExtension"],
            |event| event["name"] == name && event["message"] == message,
        )
        .await?;
    }
    Ok(())
}

#[when(expr = "the core of Node sends {string}, {string} and {string} to the extension {string}")]
async fn core_sends(world: &mut LiveWorld, a: String, b: String, c: String, name: String) -> Done {
    for message in [a, b, c] {
        let input = json!({ "name": name, "message": message });
        world
            .peer(Actor::Node)?
            .ask("peer.coreExtension", input)
            .await?;
    }
    Ok(())
}

#[when("Node closes its core")]
async fn core_closes(world: &mut LiveWorld) -> Done {
    ask(world, Actor::Node, "peer.coreClose").await
}

/// How many nodes a reader may say that it has, for a block of a core of eight.
const NODE_COUNTS: u64 = 4;

#[given(expr = "the implementation has fetched all of core {word}")]
async fn fetched_all(world: &mut LiveWorld, core: String) -> Done {
    let length = 8;
    let mut wanted = vec![
        json!({ "upgrade": { "start": 0, "length": length }, "manifest": true }),
        json!({ "upgrade": { "start": 0, "length": length } }),
    ];
    for index in 0..length {
        for nodes in 0..NODE_COUNTS {
            wanted.push(json!({ "block": { "index": index, "nodes": nodes } }));
        }
    }
    for parts in wanted {
        request(world, &core, parts.clone()).await?;
        let data = data(world).await?;
        world.answers.push((parts, data));
    }
    Ok(())
}

#[when(expr = "Node replicates core {word}, of which it has nothing")]
async fn replicates_empty(world: &mut LiveWorld, core: String) -> Done {
    world.complete_handshake().await?;
    let input = json!({
        "keySeed": null, "key": hex::encode(world.key(&core)), "blocks": [], "compat": false, "extensions": [],
    });
    world
        .peer(Actor::Node)?
        .ask("peer.core", input)
        .await
        .map(drop)
}

#[when(expr = "the implementation opens core {word} and announces {int} blocks")]
async fn announces(world: &mut LiveWorld, core: String, length: u64) -> Done {
    world.open(Actor::Implementation, &core).await?;
    world.opened(Actor::Implementation, &core).await?;
    greet(world, &core, length).await
}

#[when(expr = "Node reads block {int} while the implementation answers its requests")]
async fn reads_block(world: &mut LiveWorld, index: u64) -> Done {
    let input = json!({ "index": index });
    world.peer(Actor::Node)?.ask("peer.coreGet", input).await?;
    loop {
        let asked = answer(world, "R", "request").await?;
        let parts = ["block", "hash", "seek", "upgrade"];
        let known = world.answers.iter().find(|(wanted, _)| {
            parts.iter().all(|part| wanted[part] == asked[part])
                && asked["manifest"] == wanted.get("manifest").is_some()
        });
        let Some((_, data)) = known else {
            return Err(Trouble::failed(format!(
                "nothing was fetched that answers {asked}"
            )));
        };
        let mut data = data.clone();
        data["request"] = asked["id"].clone();
        world
            .send(Actor::Implementation, "R", "data", &data)
            .await?;
        if asked["block"]["index"] == index {
            return Ok(());
        }
    }
}

#[then(expr = "Node has block {int}")]
async fn has_block(world: &mut LiveWorld, index: u64) -> Done {
    let value = block(index);
    world
        .peer(Actor::Node)?
        .expect_next(
            &format!("block {index} in the core"),
            &["block", "error", "closed"],
            |event| event["index"] == index && event["value"] == value,
        )
        .await
        .map(drop)
}
