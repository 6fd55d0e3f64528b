//! Connecting the two ends.

use cucumber::{given, then, when};
use serde_json::json;

use super::ending::ensure_closed;
use super::{Done, OverWire};
use crate::live::world::{Actor, LiveWorld, Role, Wire};

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
