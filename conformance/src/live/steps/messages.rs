//! Messages.

use cucumber::{then, when};
use serde_json::json;

use super::wire::keep_alive;
use super::{Done, InForm, message};
use crate::live::MESSAGES;
use crate::live::values::{self, Form};
use crate::live::world::{Actor, LiveWorld};

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
        // An implementation may deliver each channel's messages separately, so the order is only checked within a
        // channel.
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
