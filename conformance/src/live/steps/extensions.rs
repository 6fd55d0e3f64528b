//! Extensions.

use cucumber::gherkin::Step;
use cucumber::{then, when};
use serde_json::json;

use super::{Done, ensure};
use crate::live::trouble::Trouble;
use crate::live::values;
use crate::live::world::{Actor, LiveWorld};

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
