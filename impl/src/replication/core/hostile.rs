//! What a peer without a secret can make a core believe: nothing false, however it alters honest proofs.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::manifest::{MAX_MANIFEST_SIZE, MAX_SIGNERS, ManifestError, Signer};
use crate::replication::storage::Memory;
use crate::wire::{RequestBlock, RequestSeek};

const LENGTH: u64 = 13;

fn block(at: u64) -> Vec<u8> {
    vec![at as u8; (at as usize * 5) % 7 + 1]
}

fn blocks(length: u64) -> Vec<Vec<u8>> {
    (0..length).map(block).collect()
}

fn key_pair(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}

/// Who signs a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Single,
    Compat,
    Version0,
    Multi0,
    Multi,
    Patched0,
    Patched,
    Prologue,
    UserData,
}

const KINDS: [Kind; 9] = [
    Kind::Single,
    Kind::Compat,
    Kind::Version0,
    Kind::Multi0,
    Kind::Multi,
    Kind::Patched0,
    Kind::Patched,
    Kind::Prologue,
    Kind::UserData,
];

impl Kind {
    fn manifest(self) -> Manifest {
        let mut manifest = Manifest::single_signer(*key_pair(1).public_key());
        let is_multi = matches!(
            self,
            Self::Multi0 | Self::Multi | Self::Patched0 | Self::Patched
        );
        if is_multi {
            let signers = (1..4).map(|seed| Signer::new(*key_pair(seed).public_key()));
            manifest.signers = signers.collect();
            manifest.quorum = 2;
        }
        if matches!(self, Self::Version0 | Self::Multi0 | Self::Patched0) {
            manifest.version = 0;
        }
        manifest.allow_patch = matches!(self, Self::Patched0 | Self::Patched);
        if self == Self::Prologue {
            let hash = Self::Single.write(&blocks(3)).tree_hash().unwrap();
            manifest.prologue = Some(Prologue { hash, length: 3 });
        }
        if self == Self::UserData {
            manifest.version = 2;
            manifest.user_data = Some(Buffer::from("of the author"));
        }
        manifest
    }

    fn open(self, seed: Option<u8>) -> Core {
        let options = CoreOptions {
            manifest: Some(self.manifest()),
            key_pair: seed.map(key_pair),
            compat: self == Self::Compat,
            ..CoreOptions::default()
        };
        Core::open(Memory::new(), options).unwrap()
    }

    fn write(self, blocks: &[Vec<u8>]) -> Core {
        if self.manifest().signers.len() == 1 {
            let mut core = self.open(Some(1));
            core.append(blocks).unwrap();
            return core;
        }
        let part = |signer: u64, more: &[&str]| {
            let mut core = self.open(Some(signer as u8 + 1));
            core.append(blocks).unwrap();
            core.append(more).unwrap();
            core.partial_signature(signer, blocks.len() as u64).unwrap()
        };
        let more: &[&str] = if self.manifest().allow_patch {
            &["one more", "and another"]
        } else {
            &[]
        };
        let mut core = self.open(None);
        let signature = core.assemble(&[part(0, &[]), part(2, more)]).unwrap();
        core.append_signed(blocks, signature).unwrap();
        core
    }

    fn reader(self) -> Core {
        let key = *self.open(None).key();
        Core::open(Memory::new(), CoreOptions::reader(key)).unwrap()
    }
}

fn upgrade(start: u64, length: u64) -> Request {
    Request {
        upgrade: Some(RequestUpgrade { start, length }),
        manifest: true,
        ..Request::default()
    }
}

fn prove(core: &Core, request: &Request) -> Data {
    core.create_proof(request).unwrap().unwrap()
}

/// Everything that a core says and holds.
fn snapshot(core: &Core) -> impl PartialEq + fmt::Debug + use<> {
    let nodes: Vec<_> = (0..4 * LENGTH).map(|at| core.node(at).unwrap()).collect();
    let values: Vec<_> = (0..2 * LENGTH).map(|at| core.get(at).unwrap()).collect();
    let info = core.info().unwrap();
    let rest = (core.signature().cloned(), core.manifest().cloned());
    (nodes, values, info, core.roots().to_vec(), rest)
}

/// Asserts that a core's part of a history, and its statements about it, are true.
fn check_truth(core: &Core, truth: &Core) {
    let length = core.length();
    if length > 0 {
        // The request of a peer that has nothing.
        prove(core, &upgrade(0, length));
    }
    assert!(!core.is_frozen());
    for index in 0..2 * length {
        let is_within = Cursor::new(index).right_span() < 2 * length;
        if let Some(node) = core.node(index).unwrap().filter(|_| is_within) {
            assert_eq!(Some(node), truth.node(index).unwrap());
        }
    }
    for at in 0..length {
        if let Some(value) = core.get(at).unwrap() {
            assert_eq!(value, block(at));
        }
        if let Ok(offset) = core.byte_offset(at) {
            assert_eq!(offset, truth.byte_offset(at).unwrap());
        }
    }
    if length > 0 {
        assert_eq!(core.byte_length(), truth.byte_offset(length).unwrap());
    }
    for bytes in 0..core.byte_length() {
        match (core.seek(bytes, 0).unwrap(), truth.seek(bytes, 0).unwrap()) {
            (Seek::Within(range), Seek::Found { block, .. }) => assert!(range.contains(&block)),
            (found, right) => assert_eq!(found, right),
        }
    }
}

/// Fetches everything from an honest peer, as the replicator does.
fn fill(core: &mut Core, from: &Core) {
    let length = from.length();
    if core.length() < length {
        let request = upgrade(core.length(), length - core.length());
        core.verify_and_apply(&prove(from, &request)).unwrap();
    }
    for index in 0..length {
        let nodes = core.missing_nodes(2 * index).unwrap();
        let request = Request {
            block: Some(RequestBlock { index, nodes }),
            ..Request::default()
        };
        core.verify_and_apply(&prove(from, &request)).unwrap();
    }
    assert_eq!(core.contiguous_length(), length);
    assert_eq!(core.tree_hash().unwrap(), from.tree_hash().unwrap());
    check_truth(core, from);
    for at in 0..length {
        assert_eq!(core.byte_offset(at).unwrap(), from.byte_offset(at).unwrap());
    }
}

fn shift(one: &mut Node, other: &mut Node, by: u64) {
    let by = by % (other.size + 1);
    one.size += by;
    other.size -= by;
}

#[test]
fn sizes_that_are_shifted_between_siblings_freeze_nobody() {
    for kind in KINDS {
        let truth = kind.write(&blocks(4));
        let mut data = prove(&truth, &upgrade(0, 3));
        let part = data.upgrade.as_mut().unwrap();
        let last = part.nodes.last_mut().unwrap();
        shift(last, &mut part.additional_nodes[0], 1);
        assert_ne!(data, prove(&truth, &upgrade(0, 3)), "{kind:?}");

        let mut writer = kind.write(&blocks(4));
        let check = writer.check_conflict(&data);
        assert!(
            !matches!(check, Ok(ConflictCheck::Conflict(_))),
            "{kind:?}: {check:?}"
        );
        assert!(!writer.is_frozen());

        let mut reader = kind.reader();
        if kind == Kind::Prologue {
            // The manifest in the message has the sizes of these roots.
            let refused = reader.verify_and_apply(&data);
            assert!(
                matches!(
                    refused,
                    Err(CoreError::Proof(ProofError::WrongPrologue { .. }))
                ),
                "{refused:?}"
            );
            fill(&mut reader, &truth);
            continue;
        }
        reader.verify_and_apply(&data).unwrap();
        assert_eq!(reader.length(), 4);
        check_truth(&reader, &truth);
        assert!(matches!(reader.seek(15, 0).unwrap(), Seek::Within(_)));
        fill(&mut reader, &truth);
    }
}

#[test]
fn hashes_without_what_they_are_of_tell_no_sizes() {
    let truth = Kind::Single.write(&blocks(8));
    let mut reader = Kind::Single.reader();
    reader
        .verify_and_apply(&prove(&truth, &upgrade(0, 8)))
        .unwrap();
    let request = Request {
        hash: Some(RequestBlock { index: 0, nodes: 3 }),
        seek: Some(RequestSeek {
            bytes: truth.byte_offset(5).unwrap() + 1,
            padding: 0,
        }),
        ..Request::default()
    };
    let mut data = prove(&truth, &request);
    let nodes = &mut data.hash.as_mut().unwrap().nodes;
    let [one, other, ..] = nodes.as_mut_slice() else {
        panic!("{nodes:?}");
    };
    shift(other, one, 1);
    let nodes = &mut data.seek.as_mut().unwrap().nodes;
    let [one, other, ..] = nodes.as_mut_slice() else {
        panic!("{nodes:?}");
    };
    shift(one, other, 1);
    reader.verify_and_apply(&data).unwrap();
    check_truth(&reader, &truth);
    // The way there is known; the last two blocks cannot be distinguished.
    let seek = reader.seek(truth.byte_offset(5).unwrap(), 0).unwrap();
    assert_eq!(seek, Seek::Within(4..6));
    assert!(reader.byte_offset(1).is_err());
    assert_eq!(
        reader.byte_offset(2).unwrap(),
        truth.byte_offset(2).unwrap()
    );
    fill(&mut reader, &truth);
}

#[test]
fn a_history_that_is_signed_twice_freezes() {
    for kind in KINDS {
        let mut other = blocks(6);
        other[4].push(1);
        for theirs in [&other[..], &other[..5]] {
            let data = prove(&kind.write(theirs), &upgrade(0, theirs.len() as u64));
            let mut core = kind.write(&blocks(6));
            let check = core.check_conflict(&data).unwrap();
            assert!(matches!(check, ConflictCheck::Conflict(_)), "{kind:?}");
            assert!(core.is_frozen());
            assert!(matches!(core.append(&["x"]), Err(CoreError::Frozen)));
        }
    }
}

#[test]
fn a_signer_of_the_key_is_not_believed_without_a_signature() {
    let truth = Kind::Single.write(&blocks(3));
    let mut reader = Kind::Single.reader();
    let before = snapshot(&reader);
    let liar = Manifest {
        user_data: Some(Buffer::from(vec![7; 1000])),
        ..Manifest::single_signer((*truth.key()).into())
    };
    for version in 0..4 {
        let manifest = Manifest {
            version,
            ..liar.clone()
        };
        let data = Data {
            manifest: Some(Box::new(manifest)),
            ..Data::default()
        };
        assert!(!reader.verify_and_apply(&data).unwrap().manifest);
        assert_eq!(snapshot(&reader), before);
    }
    let mut data = prove(&truth, &upgrade(0, 3));
    let honest = data.clone();
    data.manifest = Some(Box::new(liar));
    let refused = reader.verify_and_apply(&data);
    assert!(matches!(refused, Err(CoreError::Proof(_))));
    assert_eq!(snapshot(&reader), before);
    reader.verify_and_apply(&honest).unwrap();
    fill(&mut reader, &truth);
}

#[test]
fn a_compat_core_takes_no_more_of_a_manifest_than_that_it_is_one() {
    let truth = Kind::Compat.write(&blocks(3));
    let mut reader = Kind::Compat.reader();
    let mut data = prove(&truth, &upgrade(0, 3));
    let manifest = Manifest {
        version: 3,
        user_data: Some(Buffer::from(vec![7; 1 << 20])),
        ..Manifest::single_signer((*truth.key()).into())
    };
    data.manifest = Some(Box::new(manifest));
    let applied = reader.verify_and_apply(&data).unwrap();
    assert!(applied.manifest && reader.is_compat());
    let own = Manifest::single_signer((*truth.key()).into());
    assert_eq!(reader.manifest(), Some(&own));
    fill(&mut reader, &truth);
}

#[test]
fn what_a_manifest_costs_is_bounded() {
    let many = |count: usize| {
        let signer = Signer::new(*key_pair(1).public_key());
        Manifest {
            quorum: count as u64,
            signers: vec![signer; count],
            ..Manifest::single_signer([0; 32])
        }
    };
    assert_eq!(many(MAX_SIGNERS).check(), Ok(()));
    let large = |size: usize| Manifest {
        version: 2,
        user_data: Some(Buffer::from(vec![7; size])),
        ..many(1)
    };
    assert_eq!(large(MAX_MANIFEST_SIZE - 1000).check(), Ok(()));
    for manifest in [many(MAX_SIGNERS + 1), large(MAX_MANIFEST_SIZE)] {
        let key = manifest.hash().unwrap();
        let mut reader = Core::open(Memory::new(), CoreOptions::reader(key)).unwrap();
        let data = Data {
            manifest: Some(Box::new(manifest.clone())),
            ..Data::default()
        };
        let Err(CoreError::Proof(ProofError::Manifest(error))) = reader.verify_and_apply(&data)
        else {
            panic!("it was taken");
        };
        assert!(matches!(
            error,
            ManifestError::TooManySigners { .. } | ManifestError::TooLarge { .. }
        ));
        assert_eq!(reader.manifest(), None);
        let options = CoreOptions {
            manifest: Some(manifest),
            ..CoreOptions::default()
        };
        assert!(Core::open(Memory::new(), options).is_err());
    }
}

#[test]
fn a_signature_carries_nothing_that_is_not_checked() {
    for kind in [Kind::Single, Kind::Multi0, Kind::Multi, Kind::Patched] {
        let truth = kind.write(&blocks(5));
        let mut data = prove(&truth, &upgrade(0, 5));
        let part = data.upgrade.as_mut().unwrap();
        let mut bytes = part.signature.as_ref().unwrap().to_vec();
        bytes.resize(bytes.len() + (1 << 20), 7);
        part.signature = Some(Buffer::from(bytes));
        let refused = kind.reader().verify_and_apply(&data);
        let Err(CoreError::Proof(ProofError::Signature(error))) = refused else {
            panic!("{kind:?}: {refused:?}");
        };
        assert!(matches!(error, SignatureError::TooLong { .. }), "{error:?}");
    }
    let truth = Kind::Prologue.write(&blocks(3));
    let mut data = prove(&truth, &upgrade(0, 3));
    data.upgrade.as_mut().unwrap().signature = Some(Buffer::from(vec![7; 1 << 20]));
    let mut reader = Kind::Prologue.reader();
    reader.verify_and_apply(&data).unwrap();
    assert_eq!(reader.signature(), None);
    fill(&mut reader, &truth);
}

/// All signers have signed a longer tree, and anybody can combine their signatures for a shorter one.
#[test]
fn signatures_that_leave_the_size_of_a_root_open_are_refused() {
    for kind in [Kind::Patched0, Kind::Patched] {
        let part = |signer: u64| {
            let mut core = kind.open(Some(signer as u8 + 1));
            core.append(&blocks(6)).unwrap();
            core.partial_signature(signer, 5).unwrap()
        };
        let (one, mut other) = (part(0), part(2));
        let truth = kind.write(&blocks(5));
        for by in [0, 1] {
            let mut data = prove(&truth, &upgrade(0, 5));
            let nodes = &mut data.upgrade.as_mut().unwrap().nodes;
            let mut one = one.clone();
            shift(nodes.last_mut().unwrap(), &mut one.nodes[0], by);
            other.nodes = one.nodes.clone();
            let signature = truth.assemble(&[one, other.clone()]).unwrap();
            data.upgrade.as_mut().unwrap().signature = Some(signature);
            let mut reader = kind.reader();
            let refused = reader.verify_and_apply(&data);
            let Err(CoreError::Proof(ProofError::Signature(error))) = refused else {
                panic!("{kind:?}: {refused:?}");
            };
            assert_eq!(error, SignatureError::UnboundSize { index: 8 });
            // The hashes are signed all the same, and are of the same history.
            let check = kind.write(&blocks(6)).check_conflict(&data).unwrap();
            assert_eq!(check, ConflictCheck::Agrees);
            reader
                .verify_and_apply(&prove(&truth, &upgrade(0, 5)))
                .unwrap();
            fill(&mut reader, &truth);
        }
    }
}

/// One signer of a quorum lies about the size of a root, which is not a root of the other signer's longer tree.
#[test]
fn a_size_that_is_signed_wrongly_is_corrected_by_a_block() {
    use ed25519_dalek::Signer as _;

    let truth = Kind::Patched.write(&blocks(6));
    let mut honest = Kind::Patched.open(Some(3));
    honest.append(&blocks(6)).unwrap();
    let mut other = honest.partial_signature(2, 5).unwrap();

    let mut data = prove(&Kind::Patched.write(&blocks(5)), &upgrade(0, 5));
    let part = data.upgrade.as_mut().unwrap();
    shift(part.nodes.last_mut().unwrap(), &mut other.nodes[0], 1);
    let hash = crate::tree::root(&part.nodes).unwrap();
    let signable = crate::tree::signable(truth.key().as_bytes(), &hash, 5, 0).unwrap();
    let secret = ed25519_dalek::SigningKey::from_bytes(key_pair(1).seed());
    let liar = PartialSignature {
        signer: 0,
        signature: secret.sign(&signable).to_bytes(),
        patch: 0,
        nodes: Vec::new(),
    };
    part.signature = Some(truth.assemble(&[liar, other]).unwrap());
    let mut reader = Kind::Patched.reader();
    reader.verify_and_apply(&data).unwrap();
    assert_ne!(reader.byte_length(), truth.byte_offset(5).unwrap());

    let request = Request {
        block: Some(RequestBlock { index: 4, nodes: 0 }),
        ..Request::default()
    };
    reader.verify_and_apply(&prove(&truth, &request)).unwrap();
    assert_eq!(reader.byte_length(), truth.byte_offset(5).unwrap());
    fill(&mut reader, &truth);
}

#[test]
fn a_reorganisation_keeps_no_sizes_that_nothing_binds() {
    let mut truth = Kind::Single.write(&blocks(9));
    let mut reader = Kind::Single.reader();
    fill(&mut reader, &truth);
    truth.truncate(6, None).unwrap();
    let more: Vec<Vec<u8>> = (6..12).map(|at| [block(at), vec![0; 9]].concat()).collect();
    truth.append(&more).unwrap();
    let of_fork = |request: Request| Request {
        fork: truth.fork(),
        ..request
    };
    let mut data = prove(&truth, &of_fork(upgrade(0, 11)));
    let part = data.upgrade.as_mut().unwrap();
    shift(
        part.nodes.last_mut().unwrap(),
        &mut part.additional_nodes[0],
        4,
    );
    let mut reorg = reader.verify_and_apply(&data).unwrap().reorg.unwrap();
    while let Some(want) = reorg.want() {
        let hash = RequestBlock {
            index: 2 * want.start,
            nodes: want.nodes,
        };
        let request = Request {
            hash: Some(hash),
            ..Request::default()
        };
        let mut data = prove(&truth, &of_fork(request));
        let nodes = &mut data.hash.as_mut().unwrap().nodes;
        if let [one, other, ..] = nodes.as_mut_slice() {
            shift(one, other, 1);
        }
        assert!(reader.update_reorg(&mut reorg, &data).unwrap());
    }
    reader.apply_reorg(reorg).unwrap();
    assert_eq!(reader.tree_hash().unwrap(), truth.tree_hash().unwrap());
    for index in 0..2 * truth.length() {
        if let Some(node) = reader.node(index).unwrap() {
            assert_eq!(Some(node), truth.node(index).unwrap());
        }
    }
}

/// A peer's alteration of an honest proof.
type Twist = fn(&mut Data, usize, usize, u64);

fn nodes(data: &mut Data) -> Vec<&mut Node> {
    let mut nodes: Vec<&mut Node> = Vec::new();
    nodes.extend(data.block.iter_mut().flat_map(|part| &mut part.nodes));
    nodes.extend(data.hash.iter_mut().flat_map(|part| &mut part.nodes));
    nodes.extend(data.seek.iter_mut().flat_map(|part| &mut part.nodes));
    if let Some(part) = &mut data.upgrade {
        nodes.extend(part.nodes.iter_mut().chain(&mut part.additional_nodes));
    }
    nodes
}

const TWISTS: [Twist; 9] = [
    // Moves size between neighbours, and between any two nodes.
    |data, one, _, by| {
        let mut nodes = nodes(data);
        let count = nodes.len().max(2) - 1;
        if let [one, other, ..] = &mut nodes[one % count..] {
            shift(one, other, by);
        }
    },
    |data, one, _, by| {
        let mut nodes = nodes(data);
        let count = nodes.len().max(2) - 1;
        if let [one, other, ..] = &mut nodes[one % count..] {
            shift(other, one, by);
        }
    },
    |data, one, other, by| {
        let mut nodes = nodes(data);
        let count = nodes.len().max(1);
        let (one, other) = (one % count, other % count);
        if one != other {
            let mut of_other = *nodes[other];
            shift(nodes[one], &mut of_other, by);
            *nodes[other] = of_other;
        }
    },
    // Moves size between the last node of an upgrade and the first of its additional nodes.
    |data, _, _, by| {
        if let Some(part) = &mut data.upgrade {
            if let (Some(one), [other, ..]) =
                (part.nodes.last_mut(), part.additional_nodes.as_mut_slice())
            {
                shift(one, other, by);
            }
        }
    },
    // Moves the end of the upgrade.
    |data, _, _, by| {
        if let Some(part) = &mut data.upgrade {
            part.nodes.append(&mut part.additional_nodes);
            part.length += by % 3;
        }
    },
    |data, one, _, by| {
        if let Some(part) = &mut data.upgrade {
            let at = one % (part.nodes.len() + 1);
            let mut rest = part.nodes.split_off(at);
            rest.append(&mut part.additional_nodes);
            part.additional_nodes = rest;
            part.length = part.length.saturating_sub(by % 5);
        }
    },
    // Removes a part.
    |data, one, _, _| match one % 4 {
        0 => data.block = None,
        1 => data.hash = None,
        2 => data.seek = None,
        _ => data.upgrade = None,
    },
    // A false size.
    |data, one, _, by| {
        let mut nodes = nodes(data);
        let count = nodes.len().max(1);
        if let Some(node) = nodes.get_mut(one % count) {
            node.size = by;
        }
    },
    // Replaces a node by a copy of another.
    |data, one, other, _| {
        let mut nodes = nodes(data);
        let count = nodes.len().max(1);
        let (one, other) = (one % count, other % count);
        if one != other {
            let node = *nodes[other];
            *nodes[one] = node;
        }
    },
];

fn requests() -> impl Strategy<Value = (usize, Request)> {
    let place = || (0..LENGTH, 0u64..4);
    let block = place().prop_map(|(index, nodes)| RequestBlock { index, nodes });
    let hash = (0..2 * LENGTH, 0u64..4).prop_map(|(index, nodes)| RequestBlock { index, nodes });
    let seek = (0u64..60, 0u64..2).prop_map(|(bytes, padding)| RequestSeek { bytes, padding });
    let part = (0u64..6, 1..LENGTH + 1);
    let part = part.prop_map(|(start, length)| RequestUpgrade {
        start: start.saturating_sub(3),
        length,
    });
    (
        0usize..3,
        option::of(block),
        option::of(hash),
        option::of(seek),
        option::weighted(0.7, part),
    )
        .prop_map(|(of, block, hash, seek, upgrade)| {
            let request = Request {
                block,
                hash,
                seek,
                upgrade,
                manifest: true,
                ..Request::default()
            };
            (of, request)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_that_is_made_of_one_history_is_believed_wrongly(
        kind in 0..KINDS.len(),
        requests in vec((requests(), vec((0..TWISTS.len(), 0usize..40, 0usize..40, 0u64..30), 0..3)), 12),
    ) {
        let kind = KINDS[kind];
        let histories = [5, 8, LENGTH].map(|length| kind.write(&blocks(length)));
        let truth = &histories[2];
        let (mut reader, mut held) = (kind.reader(), kind.write(&blocks(8)));
        let mut sparse = kind.reader();
        sparse.verify_and_apply(&prove(truth, &upgrade(0, LENGTH))).unwrap();
        for ((of, request), twists) in &requests {
            let Ok(Some(mut data)) = histories[*of].create_proof(request) else {
                continue;
            };
            for (twist, one, other, by) in twists {
                TWISTS[*twist](&mut data, *one, *other, *by);
            }
            for core in [&mut reader, &mut held, &mut sparse] {
                let before = snapshot(core);
                if let Err(error) = core.verify_and_apply(&data) {
                    prop_assert!(matches!(error, CoreError::Proof(_)), "{error}");
                    prop_assert_eq!(snapshot(core), before);
                }
                check_truth(core, truth);
                let before = snapshot(core);
                let check = core.check_conflict(&data);
                prop_assert!(!matches!(check, Ok(ConflictCheck::Conflict(_))), "{check:?}");
                prop_assert_eq!(snapshot(core), before);
            }
        }
        for mut core in [reader, held, sparse] {
            fill(&mut core, truth);
            // Its own proofs hold too.
            let mut next = kind.reader();
            fill(&mut next, &core);
        }
    }
}
