//! The behaviour of our peers: they run sessions, write, read, crash and come back.

use std::rc::Rc;
use std::time::Duration;

use hypercore_protocol::Protocol;
use hypercore_protocol::replication::{Core, CoreError, Session};

use super::link::SimIo;
use super::plan::{Element, WRITER, Want};
use super::random::Random;
use super::world::{Peer, Waited, World, is_calm};

/// The interval between attempts of an operation that failed because of the store.
const AGAIN: Duration = Duration::from_secs(1);

/// One connection, from beginning to end.
pub(crate) async fn serve(
    world: Rc<World>,
    peer: Rc<Peer>,
    protocol: Protocol<SimIo>,
    mut random: Random,
) {
    let Some(replicator) = peer.replicator() else {
        return;
    };
    let session = async {
        let mut session = Session::new(protocol);
        if session.add(&replicator).is_err() {
            return;
        }
        drop(replicator);
        // A stream whose only core was dropped is useless: it is dropped, and dialled again.
        if session.run().await.is_err() {
            return;
        }
        if random.one_in(2) {
            // The other side decides how it ends.
            let _ = session.close().await;
        }
    };
    peer.while_up(peer.at_its_pace(&world.sim, session)).await;
}

/// Holds all blocks.
pub(crate) async fn seed(world: Rc<World>, peer: Rc<Peer>) {
    loop {
        let replicator = peer.up().await;
        let ended = peer
            .while_up(async { replicator.download_all().await })
            .await;
        match ended {
            None => {}
            Some(Ok(())) => {
                world.fail(format!(
                    "seeder {}: a download without an end ended",
                    peer.id
                ));
                return;
            }
            Some(Err(error)) if excuses(&world, &peer, &error) => {}
            Some(Err(_)) => return,
        }
        world.sim.sleep(AGAIN).await;
    }
}

/// Whether an error comes from a store that was told to fail. Any other fails the world.
fn excuses(world: &World, peer: &Peer, error: &CoreError) -> bool {
    let is_excused = peer.has_store_faults.get() && !matches!(error, CoreError::Frozen);
    if !is_excused {
        world.fail(format!("peer {}: {error}", peer.id));
    }
    is_excused
}

enum Outcome {
    Block(u64, Vec<u8>),
    Found(u64, u64),
    Done,
}

/// Waits for one thing.
pub(crate) async fn want(world: Rc<World>, peer: Rc<Peer>, want: Want) {
    let byte = match want {
        Want::Seek(thousandths) => {
            let model = world.model.borrow();
            let bytes: usize = model.blocks.iter().map(Vec::len).sum();
            bytes as u64 * thousandths / 1000
        }
        _ => 0,
    };
    let at = {
        let mut waited = world.waited.borrow_mut();
        waited.push(Waited {
            peer: peer.id,
            want,
            byte,
            is_done: false,
        });
        waited.len() - 1
    };
    loop {
        let replicator = peer.up().await;
        let outcome = peer
            .while_up(async {
                Ok::<_, CoreError>(match want {
                    Want::Get(block) => {
                        Outcome::Block(block, replicator.get(block).await?.to_vec())
                    }
                    Want::Blocks(start, end) => {
                        replicator.download(start..end).await?;
                        Outcome::Done
                    }
                    Want::Seek(_) => {
                        let (block, offset) = replicator.seek(byte).await?;
                        Outcome::Found(block, offset)
                    }
                    Want::Update => {
                        replicator.update().await?;
                        Outcome::Done
                    }
                    Want::Length(length) => {
                        replicator.has_length(length).await?;
                        Outcome::Done
                    }
                })
            })
            .await;
        match outcome {
            None => continue,
            Some(Err(error)) => {
                if !excuses(&world, &peer, &error) {
                    return;
                }
                drop(replicator);
                world.sim.sleep(AGAIN).await;
                continue;
            }
            Some(Ok(Outcome::Block(block, value))) => {
                let is_right = {
                    let model = world.model.borrow();
                    let ever = model.ever.get(&block);
                    ever.is_some_and(|values| values.contains(&value))
                };
                if !is_right {
                    world.fail(format!("reader {} got a wrong block {block}", peer.id));
                }
                let fork = replicator.with_core(Core::fork);
                world.handed_out.borrow_mut().push((peer.id, block, fork));
            }
            Some(Ok(Outcome::Found(block, offset))) => {
                if !world.model.borrow().is_at(byte, block, offset) {
                    let id = peer.id;
                    world.fail(format!(
                        "reader {id} found byte {byte} in block {block} at {offset}, where it never was"
                    ));
                }
            }
            Some(Ok(Outcome::Done)) => {}
        }
        break;
    }
    world.waited.borrow_mut()[at].is_done = true;
}

/// Performs an element at its time, except links.
pub(crate) async fn happen(world: Rc<World>, element: Element, mut random: Random) {
    match element {
        Element::Append { sizes, .. } => {
            let blocks: Vec<Vec<u8>> = sizes.iter().map(|size| random.bytes(*size)).collect();
            append(&world, blocks).await;
        }
        Element::Truncate { keep, .. } => loop {
            let replicator = world.writer().up().await;
            if is_calm(world.sim.now()) {
                return;
            }
            let length = replicator.length() * keep / 1000;
            match replicator.truncate(length, None) {
                Ok(truncated) => {
                    let mut model = world.model.borrow_mut();
                    model.truncate(truncated.to, truncated.fork);
                    return;
                }
                Err(error) => {
                    if !excuses(&world, world.writer(), &error) {
                        return;
                    }
                }
            }
            drop(replicator);
            world.sim.sleep(AGAIN).await;
        },
        Element::Clear {
            peer, from, count, ..
        } => {
            let Some(peer) = world.peers.get(&peer) else {
                return;
            };
            let Some(replicator) = peer.replicator() else {
                return;
            };
            let start = replicator.length() * from / 1000;
            let end = (start + count).min(replicator.length());
            peer.may_forget.set(true);
            if peer.id == WRITER {
                world.model.borrow_mut().cleared.extend(start..end);
            }
            if let Err(error) = replicator.clear(start..end) {
                excuses(&world, peer, &error);
            }
        }
        Element::StoreFault { peer, fault, .. } => {
            if let Some(peer) = world.peers.get(&peer) {
                peer.store.add_fault(fault);
                peer.has_store_faults.set(true);
                peer.may_forget.set(true);
                peer.is_broken
                    .set(peer.is_broken.get() || fault.count.is_none());
            }
        }
        Element::Crash {
            peer, down, power, ..
        } => {
            let Some(peer) = world
                .peers
                .get(&peer)
                .filter(|peer| peer.replicator().is_some())
            else {
                return;
            };
            peer.stop();
            if power {
                peer.store.lose_power();
                peer.may_forget.set(true);
            }
            world.sim.sleep(down).await;
            while let Err(error) = peer.start() {
                if !excuses(&world, peer, &error) {
                    return;
                }
                world.sim.sleep(AGAIN).await;
            }
        }
        Element::Peer { .. }
        | Element::Link { .. }
        | Element::Want { .. }
        | Element::LinkFault { .. } => {}
    }
}

/// Appends, repeatedly if necessary.
pub(crate) async fn append(world: &World, blocks: Vec<Vec<u8>>) {
    let writer = world.writer();
    loop {
        let replicator = writer.up().await;
        let before = replicator.length();
        match replicator.append(&blocks) {
            Ok(_) => {
                world.model.borrow_mut().append(blocks);
                return;
            }
            Err(error) => {
                if replicator.length() != before {
                    world.fail("an append that failed made the core longer");
                }
                if !excuses(world, writer, &error) {
                    return;
                }
            }
        }
        drop(replicator);
        world.sim.sleep(AGAIN).await;
    }
}
