//! The end of a stream, and backpressure.

use cucumber::{then, when};
use serde_json::{Value, json};

use super::{Cause, Done, ensure, message};
use crate::adapter::Outcome;
use crate::live::trouble::Trouble;
use crate::live::values::{self, Form};
use crate::live::world::{Actor, Filled, LiveWorld};

pub(super) async fn ask(world: &mut LiveWorld, actor: Actor, op: &str) -> Done {
    world.peer(actor)?.ask(op, json!({})).await.map(drop)
}

/// How long an implementation may make its caller wait while the wire accepts its data, in milliseconds.
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

/// This reveals whether the stream lives on.
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
    // The second may already have ended, in answer to the first.
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

pub(super) async fn ensure_closed(world: &mut LiveWorld, actor: Actor) -> Done {
    let peer = world.peer(actor)?;
    let gone = |event: &Value| event["type"] == "closed";
    // Already seen, or still to come; it is kept, since nothing comes after it.
    peer.catch_up().await?;
    if peer.unread().any(gone) {
        return Ok(());
    }
    peer.expect_closed().await
}

#[then(expr = "{actor} sees the stream go")]
async fn sees_go(world: &mut LiveWorld, actor: Actor) -> Done {
    ensure_closed(world, actor).await?;
    // The other end reports the reason; here it may be an end or a reset.
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
