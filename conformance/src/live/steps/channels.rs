//! Channels.

use cucumber::{given, then, when};
use serde_json::json;

use super::{Done, ensure};
use crate::live::values;
use crate::live::world::{Actor, LiveWorld};

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
    // Opened anew, so that the answers can be inspected.
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
    // The second may already have seen the close.
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
