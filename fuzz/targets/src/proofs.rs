//! Proofs, honest and corrupted, against a core that holds more or less.

use hypercore_protocol::encoding::Encode;
use hypercore_protocol::manifest::{Manifest, Signer};
use hypercore_protocol::replication::{ConflictCheck, Core, Reorg};
use hypercore_protocol::schema::{
    Data, DataHash, DataSeek, Node, Request, RequestBlock, RequestSeek, RequestUpgrade,
};
use hypercore_protocol::{Buffer, Key, Message};

use crate::input::Input;
use crate::packets;
use crate::world::{self, History, Shelf, World};

/// An honest proof for a possible request of `reader` to a peer that has `from`.
pub(crate) fn honest(choices: &mut Input<'_>, from: &Core, reader: &Core) -> Data {
    let shape = choices.byte();
    let start = if choices.flag() || from.fork() != reader.fork() {
        0
    } else {
        reader.length().min(from.length())
    };
    let most = from.length() - start;
    let length = choices.pick(&[most, most, 1, 2, 12]).clamp(1, most.max(1));
    let index = choices.below(30) as u64;
    let nodes = reader.missing_nodes(2 * index).unwrap_or_default();
    let nodes = choices.pick(&[nodes, nodes, 0, 1, 5]);
    let request = Request {
        id: u64::from(choices.byte() & 3),
        fork: from.fork(),
        block: (shape & 3 == 1).then_some(RequestBlock { index, nodes }),
        hash: (shape & 3 == 2).then_some(RequestBlock {
            index: index * 2 + u64::from(shape >> 7),
            nodes,
        }),
        seek: (shape & 12 == 4).then(|| RequestSeek {
            bytes: u64::from(choices.short() % 500),
            padding: 0,
        }),
        upgrade: (shape & 16 != 0 && most > 0).then_some(RequestUpgrade { start, length }),
        manifest: shape & 32 != 0,
        priority: 0,
    };
    match from.create_proof(&request) {
        Ok(Some(data)) => data,
        _ => Data {
            fork: from.fork(),
            ..Data::default()
        },
    }
}

fn spoil_nodes(choices: &mut Input<'_>, nodes: &mut Vec<Node>) {
    let at = choices.below(nodes.len().max(1));
    match choices.below(9) {
        0 => drop(nodes.pop()),
        1 => {
            let first = nodes.first().copied();
            nodes.extend(first);
        }
        2 => nodes.clear(),
        3 => nodes.reverse(),
        4 => {
            if let Some(node) = nodes.get_mut(at) {
                match choices.below(3) {
                    0 => node.index = choices.number(),
                    1 => node.size = choices.number(),
                    _ => node.hash[0] ^= choices.byte(),
                }
            }
        }
        5 => nodes.insert(
            at.min(nodes.len()),
            Node {
                index: choices.number(),
                size: choices.number(),
                hash: [choices.byte(); 32],
            },
        ),
        6 if nodes.len() > 1 => {
            let other = choices.below(nodes.len());
            nodes.swap(at, other);
        }
        // A parent's hash binds only the sum of its children's sizes.
        7 if nodes.len() > 1 => {
            let (other, by) = (choices.below(nodes.len()), choices.number());
            if other != at && nodes[at].size >= by {
                nodes[at].size -= by;
                nodes[other].size = nodes[other].size.saturating_add(by);
            }
        }
        _ => {}
    }
}

fn spoil_manifest(choices: &mut Input<'_>, manifest: &mut Manifest, key: [u8; 32]) {
    match choices.below(7) {
        0 => manifest.quorum = choices.number(),
        1 => manifest.version = u64::from(choices.byte() % 4),
        2 => manifest.allow_patch ^= true,
        3 => drop(manifest.signers.pop()),
        4 => manifest.user_data = Some(Buffer::copy_from(choices.bytes(64))),
        5 => manifest.signers = vec![Signer::new(key)],
        _ => manifest.linked = Some(vec![Key::new([choices.byte(); 32])]),
    }
}

/// Corrupts a proof in up to four places.
pub(crate) fn spoil(choices: &mut Input<'_>, data: &mut Data, key: [u8; 32]) {
    for _ in 0..choices.below(5) {
        match choices.below(17) {
            0 => data.fork = u64::from(choices.byte() % 3),
            1 => data.request = choices.number(),
            2 => {
                if let Some(block) = &mut data.block {
                    block.index = choices.number();
                }
            }
            3 => {
                if let Some(block) = &mut data.block {
                    block.value = Buffer::copy_from(choices.bytes(20));
                }
            }
            4 => {
                if let Some(block) = &mut data.block {
                    spoil_nodes(choices, &mut block.nodes);
                }
            }
            5 => match &mut data.hash {
                Some(hash) => spoil_nodes(choices, &mut hash.nodes),
                None => {
                    data.hash = Some(DataHash {
                        index: choices.number(),
                        nodes: Vec::new(),
                    });
                }
            },
            6 => match &mut data.seek {
                Some(seek) => spoil_nodes(choices, &mut seek.nodes),
                None => {
                    data.seek = Some(DataSeek {
                        bytes: choices.number(),
                        nodes: Vec::new(),
                    });
                }
            },
            7 | 8 => {
                if let Some(upgrade) = &mut data.upgrade {
                    spoil_nodes(choices, &mut upgrade.nodes);
                }
            }
            9 => {
                if let Some(upgrade) = &mut data.upgrade {
                    spoil_nodes(choices, &mut upgrade.additional_nodes);
                }
            }
            // Between the two lists, as between two nodes of one.
            10 => {
                if let Some(upgrade) = &mut data.upgrade {
                    let by = choices.number();
                    let nodes = upgrade.nodes.first_mut();
                    if let (Some(one), Some(other)) = (nodes, upgrade.additional_nodes.first_mut())
                        && one.size >= by
                    {
                        one.size -= by;
                        other.size = other.size.saturating_add(by);
                    }
                }
            }
            11 => {
                if let Some(upgrade) = &mut data.upgrade {
                    upgrade.start = choices.number();
                }
            }
            12 => {
                if let Some(upgrade) = &mut data.upgrade {
                    upgrade.length = choices.number();
                }
            }
            13 => {
                if let Some(upgrade) = &mut data.upgrade {
                    let signature = Buffer::copy_from(choices.bytes(80));
                    upgrade.signature = choices.flag().then_some(signature);
                }
            }
            14 => {
                let manifest = data.manifest.get_or_insert_default();
                spoil_manifest(choices, manifest, key);
            }
            _ => match choices.below(5) {
                0 => data.block = None,
                1 => data.hash = None,
                2 => data.seek = None,
                3 => data.upgrade = None,
                _ => data.manifest = None,
            },
        }
    }
}

/// A reader under attack.
struct Run<'a> {
    world: &'a World,
    reader: Core,
    shelf: Shelf,
    reorg: Option<Reorg>,
    /// Whether anything of the twin history was sent.
    twice: bool,
    size: usize,
}

impl<'a> Run<'a> {
    fn history(&mut self, choices: &mut Input<'_>) -> &'a History {
        match choices.below(8) {
            0..=4 => &self.world.writer,
            5 | 6 => &self.world.forked,
            _ => {
                self.twice = true;
                &self.world.twin
            }
        }
    }

    fn data(&mut self, choices: &mut Input<'_>) -> Data {
        if choices.below(32) == 1 {
            // In its form on the wire.
            let body = Buffer::copy_from(choices.bytes(1024));
            if let Ok(Some(Message::Data(data))) = Message::decode(3, &body) {
                return data;
            }
        }
        let history = self.history(choices);
        let mut data = honest(choices, &history.core, &self.reader);
        spoil(choices, &mut data, self.world.key.into());
        data
    }

    /// Tries a proof, which must change nothing when it fails.
    fn attempt<T, E: ToString>(
        &mut self,
        attempt: impl FnOnce(&mut Core) -> Result<T, E>,
    ) -> Option<T> {
        let before = (self.shelf.content(), self.reader.info().ok());
        match attempt(&mut self.reader) {
            Ok(done) => Some(done),
            Err(error) => {
                let _ = error.to_string();
                let after = (self.shelf.content(), self.reader.info().ok());
                assert!(before == after, "an error has changed the core");
                None
            }
        }
    }

    fn step(&mut self, choices: &mut Input<'_>) {
        match choices.below(16) {
            0..=6 => {
                let data = self.data(choices);
                self.size += data.encode().map_or(0, |bytes| bytes.len());
                let applied = self.attempt(|reader| reader.verify_and_apply(&data));
                if let Some(reorg) = applied.and_then(|applied| applied.reorg) {
                    self.reorg = Some(reorg);
                }
            }
            7 => {
                let data = self.data(choices);
                self.size += data.encode().map_or(0, |bytes| bytes.len());
                let checked = self.attempt(|reader| reader.verify_reorg(&data));
                self.reorg = checked.or(self.reorg.take());
            }
            8..=10 => self.ask_fork(choices),
            11 => {
                if let Some(reorg) = self.reorg.take() {
                    self.attempt(|reader| reader.apply_reorg(reorg));
                }
            }
            12 | 13 => {
                let data = self.data(choices);
                self.size += data.encode().map_or(0, |bytes| bytes.len());
                let check = self.attempt(|reader| reader.check_conflict(&data));
                if let Some(ConflictCheck::Conflict(_)) = check {
                    assert!(self.reader.is_frozen());
                }
            }
            _ => self.ask(choices),
        }
        self.world.check(&self.reader, self.twice);
    }

    /// Answers a question of the reorganisation in progress.
    fn ask_fork(&mut self, choices: &mut Input<'_>) {
        let Some(mut reorg) = self.reorg.take() else {
            return;
        };
        if let Some(want) = reorg.want() {
            assert!(want.start < want.end);
            let request = Request {
                fork: 1,
                hash: Some(RequestBlock {
                    index: 2 * want.start,
                    nodes: want.nodes,
                }),
                ..Request::default()
            };
            if let Ok(Some(mut data)) = self.world.forked.core.create_proof(&request) {
                if choices.flag() {
                    spoil(choices, &mut data, self.world.key.into());
                }
                self.size += data.encode().map_or(0, |bytes| bytes.len());
                let _ = self.reader.update_reorg(&mut reorg, &data);
            }
        }
        self.reorg = Some(reorg);
    }

    /// A possible request of a peer, or of an application.
    fn ask(&mut self, choices: &mut Input<'_>) {
        let request = packets::request(choices);
        self.size += request.encode().map_or(0, |bytes| bytes.len());
        match self.reader.create_proof(&request) {
            Ok(Some(data)) => {
                // A block of 300 bytes and four paths of a tree of 29 blocks.
                assert!(data.encode().map_or(0, |bytes| bytes.len()) < 8192);
            }
            Ok(None) => {}
            Err(error) => drop(error.to_string()),
        }
        let (one, other) = (choices.number(), choices.number());
        let _ = self.reader.seek(one, other);
        let _ = self.reader.byte_offset(one);
        let _ = self.reader.missing_nodes(one);
        let _ = Core::max_missing_nodes(one, other);
        let _ = self.reader.can_upgrade_from(one);
    }
}

pub(crate) fn proofs(input: &[u8]) -> usize {
    let mut choices = Input::new(input);
    let shape = choices.byte();
    let world = &world::worlds()[usize::from(shape & 1)];
    let (reader, shelf) = world.reader(usize::from(shape >> 1));
    let mut run = Run {
        world,
        reader,
        shelf,
        reorg: None,
        twice: false,
        size: input.len(),
    };
    let mut steps = 0;
    while !choices.is_empty() && steps < 16 {
        steps += 1;
        run.step(&mut choices);
    }
    // The liars' data does not prevent the rest from arriving.
    if !run.twice && run.reader.fork() == 0 {
        let writer = &world.writer.core;
        let upgrade = run.reader.length() < writer.length();
        world::give(writer, &mut run.reader, Some(7), upgrade);
        world.check(&run.reader, false);
    }
    run.size
}
