//! Wrong capabilities.

use cucumber::when;

use super::wire::plaintext;
use super::{Done, unhex};
use crate::live::trouble::Trouble;
use crate::live::values;
use crate::live::world::{Actor, LiveWorld};

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
