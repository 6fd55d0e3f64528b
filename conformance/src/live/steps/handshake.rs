//! The handshake.

use cucumber::{then, when};

use super::{Done, ensure};
use crate::live::world::{Actor, LiveWorld, Role};

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
