//! A real hypercore at the other end.

use cucumber::{given, then, when};
use serde_json::{Value, json};

use super::ending::ask;
use super::{Done, ensure, message, unhex};
use crate::live::trouble::Trouble;
use crate::live::values::Form;
use crate::live::world::{Actor, LiveWorld};

/// The blocks of Node's cores: each is its index, as text.
fn blocks(from: u64, to: u64) -> Vec<String> {
    (from..to).map(block).collect()
}

fn block(index: u64) -> String {
    hex::encode(format!("block {index}"))
}

/// Remembers the key of a core of Node.
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
    // The first message of an end that wants everything; a core closes the channel to an end that wants nothing.
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

/// Waits for a message of this name on the channel of a core; other messages of the core are ignored.
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

/// Sends a request with these parts and a fresh id.
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
    // The answer to a cancelled request may have been in transit.
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
        // A sync that repeats the old length, in answer to the greeting, may come before.
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

/// How many nodes a reader may claim to have, for a block of a core of eight.
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
