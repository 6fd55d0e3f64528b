//! Below the messages: records, plaintexts and bytes.

use cucumber::{then, when};
use serde_json::json;

use super::{Done, ensure, unhex};
use crate::live::trouble::Trouble;
use crate::live::world::{Actor, LiveWorld};

pub(super) async fn plaintext(world: &mut LiveWorld, actor: Actor, bytes: &[u8]) -> Done {
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
    // A channel opened afterwards: any event would have come before it.
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
pub(super) async fn keep_alive(world: &mut LiveWorld, actor: Actor) -> Done {
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
