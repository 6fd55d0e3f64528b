use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::replication::storage::Memory;
use crate::wire::{RequestBlock, RequestSeek};

fn blocks(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|at| vec![at as u8; at % 7]).collect()
}

fn writer(count: usize) -> Core {
    let options = CoreOptions::writer(KeyPair::from_seed(&[7; 32]));
    let mut core = Core::open(Memory::new(), options).unwrap();
    core.append(&blocks(count)).unwrap();
    core
}

fn reader(of: &Core) -> Core {
    Core::open(Memory::new(), CoreOptions::reader(*of.key())).unwrap()
}

/// Requests a block from `from`, with an upgrade to its length if that is greater.
fn fetch(from: &Core, to: &mut Core, block: u64) -> Applied {
    let upgrade = (to.length() < from.length()).then(|| RequestUpgrade {
        start: to.length(),
        length: from.length() - to.length(),
    });
    let request = Request {
        fork: to.fork(),
        block: Some(RequestBlock {
            index: block,
            nodes: to.missing_nodes(2 * block).unwrap(),
        }),
        upgrade,
        manifest: to.manifest().is_none(),
        ..Request::default()
    };
    let data = from.create_proof(&request).unwrap().expect("it is held");
    to.verify_and_apply(&data).unwrap()
}

#[test]
fn every_block_of_every_length_arrives() {
    for count in [1, 2, 3, 4, 5, 7, 8, 13, 64, 100] {
        let from = writer(count);
        let mut to = reader(&from);
        // Not in order, so that proofs meet in the middle of the tree.
        for block in (0..count as u64).map(|at| (at * 37 + 11) % count as u64) {
            fetch(&from, &mut to, block);
        }
        for block in 0..count as u64 {
            if !to.has(block) {
                assert_eq!(fetch(&from, &mut to, block).block, Some(block));
            }
            assert_eq!(to.get(block).unwrap(), from.get(block).unwrap());
        }
        assert_eq!(to.contiguous_length(), count as u64);
        let info = to.info().unwrap();
        assert!(!info.writable);
        assert_eq!(info.tree_hash, from.tree_hash().unwrap());
    }
}

#[test]
fn a_reader_follows_appends_and_a_truncation() {
    let mut from = writer(9);
    let mut to = reader(&from);
    for block in 0..9 {
        fetch(&from, &mut to, block);
    }
    from.append(&blocks(5)).unwrap();
    let applied = fetch(&from, &mut to, 12);
    assert_eq!(applied.upgraded, Some(Upgraded { from: 9, to: 14 }));

    from.truncate(6, None).unwrap();
    from.append(&["new"; 4]).unwrap();
    let request = Request {
        fork: from.fork(),
        upgrade: Some(RequestUpgrade {
            start: 0,
            length: from.length(),
        }),
        ..Request::default()
    };
    let data = from.create_proof(&request).unwrap().unwrap();
    let mut reorg = to.verify_and_apply(&data).unwrap().reorg.unwrap();
    let mut rounds = 0;
    while let Some(want) = reorg.want() {
        let request = Request {
            fork: from.fork(),
            hash: Some(RequestBlock {
                index: 2 * want.start,
                nodes: want.nodes,
            }),
            ..Request::default()
        };
        let data = from.create_proof(&request).unwrap().unwrap();
        assert!(to.update_reorg(&mut reorg, &data).unwrap());
        rounds += 1;
        assert!(rounds < 10);
    }
    let truncated = to.apply_reorg(reorg).unwrap();
    assert_eq!(
        (truncated.ancestors, truncated.to, truncated.fork),
        (6, 10, 1)
    );
    assert_eq!(to.tree_hash().unwrap(), from.tree_hash().unwrap());
    assert_eq!(to.contiguous_length(), 6);
    for block in 6..10 {
        fetch(&from, &mut to, block);
        assert_eq!(to.get(block).unwrap().unwrap(), b"new");
    }
}

/// With a partly held core, and with a prologue, where Node compares only the prologue.
#[test]
fn two_histories_are_told_whatever_is_held_of_them() {
    const LENGTH: u64 = 13;
    let key_pair = KeyPair::from_seed(&[7; 32]);
    let prologue = writer(2);
    for with_prologue in [false, true] {
        let mut manifest = Manifest::single_signer(*key_pair.public_key());
        manifest.prologue = with_prologue.then(|| Prologue {
            hash: prologue.tree_hash().unwrap(),
            length: 2,
        });
        let options = CoreOptions {
            manifest: Some(manifest),
            key_pair: Some(key_pair.clone()),
            ..CoreOptions::default()
        };
        let write = |length: u64, differs_at: Option<u64>| {
            let mut core = Core::open(Memory::new(), options.clone()).unwrap();
            let mut all = blocks(length as usize);
            if let Some(at) = differs_at {
                all[at as usize].push(1);
            }
            core.append(&all).unwrap();
            core
        };
        for length in 3..LENGTH + 3 {
            let request = Request {
                upgrade: Some(RequestUpgrade {
                    start: 0,
                    length: length.min(LENGTH),
                }),
                ..Request::default()
            };
            let proof =
                |core: &Core, request: &Request| core.create_proof(request).unwrap().unwrap();
            for differs_at in 2..length.min(LENGTH) {
                let mut ours = write(LENGTH, None);
                let mut sparse = reader(&ours);
                fetch(&ours, &mut sparse, 0);
                let agrees = proof(&write(length, None), &request);
                let check = sparse.check_conflict(&agrees).unwrap();
                assert_eq!(check, ConflictCheck::Agrees);

                let differs = proof(&write(length, Some(differs_at)), &request);
                let check = sparse.check_conflict(&differs).unwrap();
                let is_told = matches!(check, ConflictCheck::Conflict(_));
                assert_eq!(sparse.is_frozen(), is_told);
                // A proof beyond the prologue covers only the whole tree; in a longer tree our last block is not a
                // root.
                let is_lost = with_prologue && length > LENGTH && differs_at == LENGTH - 1;
                // For a shorter history, only held nodes can be compared.
                let context = format!("{differs_at} of {length}, prologue {with_prologue}");
                assert!(is_told || length < LENGTH || is_lost, "{context}");
                let check = ours.check_conflict(&differs).unwrap();
                let ConflictCheck::Conflict(conflict) = check else {
                    assert!(is_lost, "{context}");
                    continue;
                };
                assert!(conflict.length > differs_at, "{conflict:?}");
                let mut judge = write(LENGTH, None);
                let check = judge.check_conflict(&conflict.ours).unwrap();
                assert_eq!(check, ConflictCheck::Agrees);
            }

            // What comes beside it is not signed, and counts for nothing.
            let mut more = proof(&write(length, None), &request);
            more.block = Some(DataBlock {
                index: 1,
                value: Buffer::from("x"),
                nodes: Vec::new(),
            });
            let check = write(LENGTH, None).check_conflict(&more).unwrap();
            assert_eq!(check, ConflictCheck::Agrees);
        }
    }
}

#[test]
fn a_seek_finds_its_block() {
    let mut from = writer(0);
    // Like Node, a seek between two blocks finds the first after it, even where that is empty.
    let blocks: Vec<_> = (0..40).map(|at| vec![0; at % 7 + 1]).collect();
    from.append(&blocks).unwrap();
    let mut to = reader(&from);
    fetch(&from, &mut to, 0);
    let mut offset = 0;
    for block in 0..40u64 {
        assert_eq!(from.byte_offset(block).unwrap(), offset);
        let size = block % 7 + 1;
        let expected = Seek::Found {
            block,
            offset: size - 1,
        };
        assert_eq!(from.seek(offset + size - 1, 0).unwrap(), expected);
        let mut rounds = 0;
        while let Seek::Within(range) = to.seek(offset + size - 1, 0).unwrap() {
            let nodes = to.missing_nodes(2 * range.start).unwrap();
            let below = |index| Some(RequestBlock { index, nodes });
            let seek = RequestSeek {
                bytes: offset + size - 1,
                padding: 0,
            };
            let request = if range.end - range.start == 2 {
                Request {
                    block: below(range.start),
                    ..Request::default()
                }
            } else {
                Request {
                    hash: below(2 * range.start),
                    seek: Some(seek),
                    ..Request::default()
                }
            };
            let data = from.create_proof(&request).unwrap().unwrap();
            to.verify_and_apply(&data).unwrap();
            rounds += 1;
            assert!(rounds < 10);
        }
        assert_eq!(to.seek(offset + size - 1, 0).unwrap(), expected);
        offset += size;
    }
    assert_eq!(from.byte_offset(40).unwrap(), from.byte_length());
}

/// Claims of a peer: small numbers, numbers near the true ones, and the largest on the wire (and beyond).
fn integer() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0u64..80,
        1 => (1u64 << 52) - 4..(1 << 52) + 4,
        1 => MAX_SAFE_INTEGER - 4..=MAX_SAFE_INTEGER,
        1 => Just(u64::MAX),
    ]
}

fn wild_request() -> impl Strategy<Value = Request> {
    let block = || {
        option::of((integer(), integer()).prop_map(|(index, nodes)| RequestBlock { index, nodes }))
    };
    let seek = (integer(), integer()).prop_map(|(bytes, padding)| RequestSeek { bytes, padding });
    let upgrade =
        (integer(), integer()).prop_map(|(start, length)| RequestUpgrade { start, length });
    (
        block(),
        block(),
        option::of(seek),
        option::of(upgrade),
        any::<bool>(),
    )
        .prop_map(|(block, hash, seek, upgrade, manifest)| Request {
            block,
            hash,
            seek,
            upgrade,
            manifest,
            ..Request::default()
        })
}

/// A change to one field of a proof.
type Change = fn(&mut Data, usize, u64);

/// Every list of nodes of a proof.
fn lists(data: &mut Data) -> Vec<&mut Vec<Node>> {
    let mut lists = Vec::new();
    lists.extend(data.block.as_mut().map(|it| &mut it.nodes));
    lists.extend(data.hash.as_mut().map(|it| &mut it.nodes));
    lists.extend(data.seek.as_mut().map(|it| &mut it.nodes));
    if let Some(upgrade) = &mut data.upgrade {
        lists.extend([&mut upgrade.nodes, &mut upgrade.additional_nodes]);
    }
    lists
}

fn change_node(data: &mut Data, at: usize, change: impl FnOnce(&mut Node)) {
    let mut nodes: Vec<&mut Node> = lists(data).into_iter().flatten().collect();
    let count = nodes.len().max(1);
    if let Some(node) = nodes.get_mut(at % count) {
        change(node);
    }
}

const CHANGES: [Change; 12] = [
    |data, at, value| change_node(data, at, |node| node.index = value),
    |data, at, value| change_node(data, at, |node| node.size = value),
    |data, at, value| change_node(data, at, |node| node.hash[at % 32] ^= value as u8),
    |data, at, value| {
        let mut lists = lists(data);
        let count = lists.len().max(1);
        if let Some(nodes) = lists.get_mut(at % count) {
            let node = Node {
                index: value,
                ..nodes.first().copied().unwrap_or_default()
            };
            nodes.extend(std::iter::repeat_n(node, at % 300));
        }
    },
    |data, at, _| {
        let mut lists = lists(data);
        let count = lists.len().max(1);
        if let Some(nodes) = lists.get_mut(at % count) {
            nodes.truncate(at % 4);
        }
    },
    |data, _, value| {
        if let Some(block) = &mut data.block {
            block.index = value;
        }
    },
    |data, _, value| {
        if let Some(hash) = &mut data.hash {
            hash.index = value;
        }
    },
    |data, _, value| {
        if let Some(upgrade) = &mut data.upgrade {
            upgrade.start = value;
        }
    },
    |data, _, value| {
        if let Some(upgrade) = &mut data.upgrade {
            upgrade.length = value;
        }
    },
    |data, at, value| {
        if let Some(upgrade) = &mut data.upgrade {
            let bytes = upgrade.signature.as_deref().unwrap_or_default();
            let mut bytes = bytes.to_vec();
            bytes.truncate(at % 200);
            if let Some(last) = bytes.last_mut() {
                *last = value as u8;
            }
            upgrade.signature = Some(Buffer::from(bytes));
        }
    },
    |data, _, value| data.fork = value,
    |data, at, value| {
        let mut manifest = Manifest::single_signer([at as u8; 32]);
        manifest.quorum = value;
        data.manifest = Some(Box::new(manifest));
    },
];

/// A store that fails after a number of operations.
#[derive(Clone)]
struct Failing {
    memory: Arc<Mutex<Memory>>,
    left: Arc<AtomicU64>,
}

impl Failing {
    fn new() -> Self {
        Self {
            memory: Arc::default(),
            left: Arc::new(AtomicU64::new(u64::MAX)),
        }
    }

    fn memory(&self) -> Result<MutexGuard<'_, Memory>, StorageError> {
        if self.left.fetch_sub(1, Relaxed) == 0 {
            return Err(StorageError::new(
                StorageErrorKind::Full,
                "the disk is full",
            ));
        }
        Ok(self.memory.lock().unwrap())
    }
}

impl Storage for Failing {
    fn header(&self) -> Result<Option<Header>, StorageError> {
        self.memory()?.header()
    }

    fn secret(&self) -> Result<Option<Header>, StorageError> {
        self.memory()?.secret()
    }

    fn node(&self, index: u64) -> Result<Option<Node>, StorageError> {
        Storage::node(&*self.memory()?, index)
    }

    fn block(&self, index: u64) -> Result<Option<Buffer>, StorageError> {
        self.memory()?.block(index)
    }

    fn pages(&self, take: &mut dyn FnMut(u64, &[u8])) -> Result<(), StorageError> {
        self.memory()?.pages(take)
    }

    fn commit(&mut self, batch: Batch, durability: Durability) -> Result<(), StorageError> {
        self.memory()?.commit(batch, durability)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.memory()?.flush()
    }
}

/// A core's complete state in memory.
fn in_memory(core: &Core) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        core.tree.clone(),
        core.bitfield.clone(),
        core.contiguous_length,
        core.frozen,
        core.manifest().cloned(),
        core.key_pair.is_some(),
    )
}

/// One change to a core.
type Step<'a> = Box<dyn Fn(&mut Core) -> Result<(), CoreError> + 'a>;

#[test]
fn a_commit_that_fails_changes_nothing() {
    let mut source = writer(9);
    let ask = |core: &Core, block: Option<u64>, upgrade: Option<RequestUpgrade>| {
        core.create_proof(&Request {
            fork: core.fork(),
            block: block.map(|index| RequestBlock { index, nodes: 3 }),
            upgrade,
            manifest: true,
            ..Request::default()
        })
        .unwrap()
        .unwrap()
    };
    let all = |length| Some(RequestUpgrade { start: 0, length });
    let first = ask(&source, Some(3), all(9));
    let mut other = writer(8);
    other.append(&["of another history"]).unwrap();
    let conflict = ask(&other, None, all(9));
    source.truncate(4, None).unwrap();
    source.append(&["new"; 3]).unwrap();
    let fork = ask(&source, None, all(7));

    let source = &source;
    let apply = |data: &Data| {
        let data = data.clone();
        let apply: Step<'_> = Box::new(move |core| {
            let Some(mut reorg) = core.verify_and_apply(&data)?.reorg else {
                return Ok(());
            };
            while let Some(want) = reorg.want() {
                let request = Request {
                    fork: source.fork(),
                    hash: Some(RequestBlock {
                        index: 2 * want.start,
                        nodes: want.nodes,
                    }),
                    ..Request::default()
                };
                core.update_reorg(&mut reorg, &source.create_proof(&request)?.unwrap())?;
            }
            core.apply_reorg(reorg).map(drop)
        });
        apply
    };
    let judge: Step<'_> = Box::new(|core| core.check_conflict(&conflict).map(drop));
    let reads: Vec<Step<'_>> = vec![apply(&first), Box::new(Core::flush), apply(&fork)];
    let freezes: Vec<Step<'_>> = vec![apply(&first), judge];
    let begins: Vec<Step<'_>> = vec![apply(&fork)];
    let writes: Vec<Step<'_>> = vec![
        Box::new(|core| core.append(&blocks(9)).map(drop)),
        Box::new(|core| core.clear(2..5)),
        Box::new(|core| core.truncate(7, None).map(drop)),
        Box::new(|core| core.append(&["a"]).map(drop)),
    ];
    let key = CoreOptions::reader(*source.key());
    let pair = CoreOptions::writer(KeyPair::from_seed(&[7; 32]));
    for (options, steps) in [
        (&key, reads),
        (&key, freezes),
        (&key, begins),
        (&pair, writes),
    ] {
        let mut failed = 0;
        for fails_after in 0.. {
            let store = Failing::new();
            let mut core = Core::open(store.clone(), options.clone()).unwrap();
            store.left.store(fails_after, Relaxed);
            let mut has_failed = false;
            for step in &steps {
                let before = in_memory(&core);
                if let Err(error) = step(&mut core) {
                    assert!(matches!(error, CoreError::Storage(_)), "{error}");
                    assert!(in_memory(&core) == before, "{before:?}, now {core:?}");
                    has_failed = true;
                    store.left.store(u64::MAX, Relaxed);
                    step(&mut core).unwrap();
                }
            }
            store.left.store(u64::MAX, Relaxed);
            let again = Core::open(store.clone(), options.clone()).unwrap();
            assert!(in_memory(&again) == in_memory(&core), "{again:?} {core:?}");
            failed += u64::from(has_failed);
            if !has_failed {
                break;
            }
        }
        assert!(failed > 1, "nothing failed");
    }
}

proptest! {
    #[test]
    fn no_request_makes_a_core_panic(
        count in 0usize..40,
        requests in vec(wild_request(), 20),
        bytes in integer(),
        padding in integer(),
    ) {
        let core = writer(count);
        for request in &requests {
            match core.create_proof(request) {
                Ok(_) | Err(CoreError::Request(_) | CoreError::Encode(_)) => {}
                Err(error) => panic!("{error} for {request:?}"),
            }
        }
        core.seek(bytes, padding).unwrap();
        core.missing_nodes(bytes).unwrap();
        Core::max_missing_nodes(bytes, padding);
        core.can_upgrade_from(bytes).unwrap();
        let _ = core.byte_offset(bytes);
        prop_assert_eq!(core.get(bytes).unwrap().is_some(), bytes < count as u64);
    }

    #[test]
    fn no_proof_makes_a_core_panic(
        count in 1usize..40,
        held in 0u64..40,
        requests in vec(wild_request(), 8),
        changes in vec((0usize..CHANGES.len(), 0usize..1000, integer()), 1..4),
    ) {
        let from = writer(count);
        let mut to = reader(&from);
        for block in 0..held.min(count as u64) / 3 {
            fetch(&from, &mut to, block * 3);
        }
        for request in &requests {
            let Ok(Some(mut data)) = from.create_proof(request) else {
                continue;
            };
            for (change, at, value) in &changes {
                CHANGES[*change](&mut data, *at, *value);
            }
            let before = (to.length(), to.fork(), to.tree_hash().unwrap());
            match to.verify_and_apply(&data) {
                Ok(applied) => {
                    if applied.upgraded.is_none() {
                        prop_assert_eq!((to.length(), to.fork(), to.tree_hash().unwrap()), before);
                    }
                    if let Some(mut reorg) = applied.reorg {
                        let _ = to.update_reorg(&mut reorg, &data);
                    }
                }
                Err(CoreError::Proof(_)) => {
                    prop_assert_eq!((to.length(), to.fork(), to.tree_hash().unwrap()), before);
                }
                Err(error) => panic!("{error} for {data:?}"),
            }
            let _ = to.check_conflict(&data);
            prop_assert!(!to.is_frozen());
        }
        // Every accepted block is the writer's.
        for block in 0..count as u64 {
            if let Some(value) = to.get(block).unwrap() {
                prop_assert_eq!(Some(value), from.get(block).unwrap());
            }
        }
    }

    #[test]
    fn no_signature_makes_a_core_panic(
        version in 0u64..4,
        allow_patch: bool,
        parts in vec((integer(), integer(), vec((integer(), integer()), 0..4)), 0..4),
    ) {
        let key_pair = KeyPair::from_seed(&[7; 32]);
        let mut manifest = Manifest::single_signer(*key_pair.public_key());
        manifest.version = version;
        manifest.allow_patch = allow_patch;
        manifest.signers = vec![manifest.signers[0]; 3];
        manifest.quorum = 2;
        let mut options = CoreOptions::writer(key_pair);
        options.manifest = Some(manifest);
        let mut core = Core::open(Memory::new(), options).unwrap();
        let parts: Vec<_> = parts
            .into_iter()
            .map(|(signer, patch, nodes)| PartialSignature {
                signer,
                signature: [3; 64],
                patch,
                nodes: nodes
                    .into_iter()
                    .map(|(index, size)| Node {
                        index,
                        size,
                        hash: [1; 32],
                    })
                    .collect(),
            })
            .collect();
        let Ok(signature) = core.assemble(&parts) else {
            return Ok(());
        };
        let refused = core.append_signed(&["a"], signature);
        prop_assert!(matches!(refused, Err(CoreError::Signature(_))));
        prop_assert_eq!(core.length(), 0);
    }
}
