//! Cores in stores that return corrupted values, as a store without checksums, or another implementation, might.

use hypercore_protocol::Buffer;
use hypercore_protocol::replication::{Core, CoreOptions};

use crate::input::Input;
use crate::world::{self, Content, Shelf};

pub(crate) fn prepare() {
    world::prepare();
}

/// Corrupts values that a store returned before, in a few places.
fn spoil(choices: &mut Input<'_>, content: &mut Content) {
    for _ in 0..=choices.below(4) {
        match choices.below(8) {
            0 => {
                if let Some(header) = &mut content.header {
                    let at = usize::from(choices.short()) % header.len().max(1);
                    if let Some(byte) = header.get_mut(at) {
                        *byte ^= choices.byte();
                    }
                }
            }
            1 => {
                if let Some(header) = &mut content.header {
                    header.truncate(usize::from(choices.short()) % (header.len() + 1));
                }
            }
            2 => content.header = Some(choices.bytes(512).to_vec()),
            3 => {
                let index = choices.number();
                content.nodes.remove(&index);
            }
            4 => {
                let index = choices.below(60) as u64;
                if let Some(node) = content.nodes.get_mut(&index) {
                    match choices.below(3) {
                        0 => node.size = choices.number(),
                        1 => node.size = u64::MAX - u64::from(choices.byte()),
                        _ => node.hash[0] ^= choices.byte(),
                    }
                }
            }
            5 => {
                let (index, value) = (choices.below(30) as u64, choices.bytes(64));
                content.blocks.insert(index, Buffer::copy_from(value));
            }
            6 => {
                let index = choices.below(30) as u64;
                content.blocks.remove(&index);
            }
            _ => {
                let page = choices.number();
                let byte = choices.byte();
                let length = choices.pick(&[4096, 4095, 0, 5000]);
                content.pages.insert(page, vec![byte; length]);
            }
        }
    }
}

pub(crate) fn store(input: &[u8]) -> usize {
    let mut choices = Input::new(input);
    let shape = choices.byte();
    let world = &world::worlds()[usize::from(shape & 1)];
    let (_, shelf) = world.reader(usize::from(shape >> 1));
    let mut content = shelf.content();
    spoil(&mut choices, &mut content);
    let options = CoreOptions::reader(world.key);
    match Core::open(Shelf::with(content), options) {
        Ok(mut core) => use_core(&mut choices, world, &mut core),
        Err(error) => drop(error.to_string()),
    }
    input.len()
}

/// Everything may fail, and nothing may panic.
fn use_core(choices: &mut Input<'_>, world: &world::World, core: &mut Core) {
    let _ = (core.info(), core.tree_hash(), core.contiguous_length());
    for block in 0..30 {
        let _ = (
            core.get(block),
            core.byte_offset(block),
            core.missing_nodes(2 * block),
        );
        let _ = core.seek(block * 3, 0);
    }
    for _ in 0..4 {
        let data = crate::proofs::honest(choices, &world.writer.core, core);
        let _ = core.verify_and_apply(&data);
        let _ = core.check_conflict(&data);
        let request = crate::packets::request(choices);
        let _ = core.create_proof(&request);
    }
    let _ = core.clear(0..choices.number());
    let _ = core.flush();
}
