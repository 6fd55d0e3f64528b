//! Every combination of a release, a role and a kind of core: `for_every_case` goes through them, and cores written on
//! each side are replicated to the other, in both directions over one stream.

use std::ops::Range;

use futures::FutureExt;
use hypercore_protocol::replication::{CoreOptions, Disk, Memory, Replicator, ReplicatorEvent};
use serde_json::json;

use crate::node::{Node, hex, soon};
use crate::random::Random;
use crate::support::{
    Kind, Link, Ours, RELEASES, Theirs, assert_same, assert_same_blocks, block, blocks, close,
    download, event, for_every_case, link, node_reads, reader, start, stored, update,
};

/// The links of a case carry cores with these numbers, so that our cores and Node's differ.
const OURS: u8 = 100;
const THEIRS: u8 = 200;

/// A core of ours that Node reads, and one of Node's that we read.
struct Pair {
    ours: Ours,
    ours_there: String,
    theirs: Theirs,
    theirs_here: Replicator,
}

impl Pair {
    async fn new(node: &mut Node, kind: Kind, number: u8, context: &str) -> Self {
        let ours = Ours::of(kind, OURS + number, Memory::new());
        let ours_there = format!("ours {number}, {context}");
        let name = format!("theirs {number}, {context}");
        let theirs = Theirs::of(node, name, kind, THEIRS + number).await;
        Self {
            theirs_here: reader(theirs.key),
            ours_there,
            ours,
            theirs,
        }
    }

    async fn extend(&mut self, node: &mut Node, length: u64, size: usize) {
        self.ours.extend(length, size);
        self.theirs.extend(node, length, size).await;
    }

    async fn open(&self, node: &mut Node) {
        node_reads(node, &self.ours_there, self.ours.core.key()).await;
    }

    async fn link(&self, node: &mut Node, is_initiator: bool) -> Link {
        self.open(node).await;
        let cores = [&self.ours.core, &self.theirs_here];
        Link::with(node, &cores, is_initiator).await
    }

    /// Both are the same on both sides.
    async fn assert_same(&self, node: &mut Node, context: &str) {
        assert_same(&self.theirs_here, node, &self.theirs.name, context).await;
        assert_same(&self.ours.core, node, &self.ours_there, context).await;
    }

    async fn close(&self, node: &mut Node) {
        close(node, &self.theirs.name).await;
        close(node, &self.ours_there).await;
    }
}

#[tokio::test]
async fn cores_of_every_length_go_both_ways() {
    for_every_case!(|case, node| {
        // Cores of all lengths share a stream.
        let mut pairs = Vec::new();
        for (number, count) in (0..).zip([0, 1, 4, 1000]) {
            let context = format!("{count} blocks, {case}");
            let mut pair = Pair::new(node, case.kind, number, &context).await;
            pair.extend(node, count, 20).await;
            pair.open(node).await;
            pairs.push((context, pair));
        }
        let cores: Vec<&Replicator> = pairs
            .iter()
            .flat_map(|(_, pair)| [&pair.ours.core, &pair.theirs_here])
            .collect();
        let link = Link::with(node, &cores, case.is_initiator).await;
        let updates = pairs.iter().map(|(_, pair)| pair.theirs_here.update());
        let updates: Vec<_> = updates.collect();
        for ((context, pair), update_here) in pairs.iter().zip(updates) {
            let length = pair.ours.core.length();
            let updated = soon(update_here).await.expect("a store");
            assert_eq!(updated, length > 0, "{context}");
            soon(pair.theirs_here.download(..length))
                .await
                .expect("a store");
            assert_eq!(pair.theirs_here.length(), length, "{context}");
            if length > 0 {
                update(node, &pair.ours_there).await;
            }
            download(node, &pair.ours_there, 0..length).await;
            pair.assert_same(node, context).await;
        }
        link.cut(node).await;
        for (_, pair) in &pairs {
            pair.close(node).await;
        }
    });
}

#[tokio::test]
async fn blocks_of_every_size_go_both_ways() {
    const SIZES: [usize; 9] = [
        0,
        1,
        255,
        65_519,
        65_536,
        70_000,
        1 << 20,
        0,
        8 * 1024 * 1024,
    ];
    const COUNT: u64 = SIZES.len() as u64;
    for release in RELEASES {
        let mut node = start(release);
        for is_initiator in [true, false] {
            let context = format!("{release}, {is_initiator}");
            let mut pair = Pair::new(&mut node, Kind::Default, 0, &context).await;
            for (length, size) in (1..).zip(SIZES) {
                pair.extend(&mut node, length, size).await;
            }
            let link = pair.link(&mut node, is_initiator).await;
            soon(pair.theirs_here.download(..COUNT))
                .await
                .expect("a store");
            for (index, size) in (0..).zip(SIZES) {
                let value = pair.theirs_here.get_held(index).expect("a store");
                assert_eq!(value.expect("a block"), block(index, size), "{context}");
            }
            update(&mut node, &pair.ours_there).await;
            download(&mut node, &pair.ours_there, 0..COUNT).await;
            pair.assert_same(&mut node, &context).await;
            link.cut(&mut node).await;
            pair.close(&mut node).await;
        }
    }
}

#[tokio::test]
async fn a_hundred_thousand_blocks_go_both_ways() {
    const COUNT: u64 = 100_000;
    // In steps, so that no wait is for all of them.
    const STEP: usize = 10_000;
    let ours = Ours::of(Kind::Default, OURS, Memory::new());
    ours.extend(COUNT, 9);
    // With one release we are initiator, with the other responder, so that all pairs of release, role and direction
    // occur.
    for (release, is_initiator) in RELEASES.into_iter().zip([true, false]) {
        let node = &mut start(release);
        let mut theirs = Theirs::of(node, "theirs", Kind::Default, THEIRS).await;
        for length in (STEP as u64..=COUNT).step_by(STEP) {
            theirs.extend(node, length, 9).await;
        }
        let theirs_here = reader(theirs.key);
        let _theirs = Link::with(node, &[&theirs_here], is_initiator).await;
        node_reads(node, "ours", ours.core.key()).await;
        let _ours = Link::with(node, &[&ours.core], !is_initiator).await;
        for start in (0..COUNT).step_by(STEP) {
            let range = start..start + STEP as u64;
            let here = theirs_here.download(range.clone());
            download(node, "ours", range).await;
            soon(here).await.expect("a store");
        }
        let held = theirs_here.info().expect("a hash").held;
        assert_eq!(held, COUNT, "{release}");
        // The tree covers all of them; spot-check some.
        for (core, name) in [(&ours.core, "ours"), (&theirs_here, "theirs")] {
            let info = core.info().expect("a hash");
            let answer = node.ask("info", json!({ "core": name })).await;
            assert_eq!(answer["contiguousLength"], COUNT, "{release}");
            assert_eq!(answer["treeHash"], hex(info.tree_hash), "{release}");
            assert_same_blocks(core, node, name, 54_321..55_321, release).await;
        }
    }
}

#[tokio::test]
async fn appends_and_a_truncation_are_followed() {
    for_every_case!(|case, node| {
        let context = case.to_string();
        let mut pair = Pair::new(node, case.kind, 0, &context).await;
        let first = case.kind.first();
        let _all = pair.theirs_here.download_all();
        let mut events = pair.theirs_here.events();
        let link = pair.link(node, case.is_initiator).await;
        let ours = pair.ours_there.clone();
        node.ask("follow", json!({ "core": ours })).await;
        for length in [1, 2, 9, 40] {
            pair.extend(node, length, 10).await;
            let length = length + first;
            soon(pair.theirs_here.has_length(length))
                .await
                .expect("a store");
            soon(pair.theirs_here.download(..length))
                .await
                .expect("a store");
            let input = json!({ "core": ours, "length": length });
            node.ask("whole", input).await;
        }
        pair.assert_same(node, &context).await;

        // To the same length as before, longer and shorter.
        for (fork, from, cut, grown) in [(1, 40, 21, 40), (2, 40, 33, 50), (3, 50, 7, 9)] {
            let (from, cut, grown) = (from + first, cut + first, grown + first);
            pair.theirs.truncate(node, cut).await;
            pair.theirs.append(node, 100 * fork, grown - cut, 3).await;
            pair.ours.truncate(cut);
            pair.ours
                .append(&blocks(200 * fork..200 * fork + grown - cut, 4));
            let truncated = event(&mut events, |event| match event {
                ReplicatorEvent::Truncated(truncated) => Some(*truncated),
                _ => None,
            })
            .await;
            assert_eq!((truncated.fork, truncated.from), (fork, from), "{context}");
            assert!(truncated.ancestors <= cut, "{context}: {truncated:?}");
            soon(pair.theirs_here.has_length(grown))
                .await
                .expect("a store");
            soon(pair.theirs_here.download(..grown))
                .await
                .expect("a store");
            let input = json!({ "core": ours, "length": grown, "fork": fork });
            node.ask("whole", input).await;
            let value = pair.theirs_here.get_held(cut).expect("a store");
            assert_eq!(value.expect("a block"), block(100 * fork, 3), "{context}");
            pair.assert_same(node, &context).await;
        }
        link.cut(node).await;
        pair.close(node).await;
    });
}

#[tokio::test]
async fn single_blocks_and_bytes_are_found() {
    const COUNT: u64 = 300;
    const READS: usize = 20;
    let mut random = Random::new();
    for_every_case!(|case, node| {
        let context = case.to_string();
        let mut pair = Pair::new(node, case.kind, 0, &context).await;
        pair.extend(node, COUNT, 50).await;
        let (ours, theirs) = (&pair.ours.core, &pair.theirs_here);
        let length = ours.length();
        let value = |index| ours.get_held(index).expect("a store").expect("a block");
        let link = pair.link(node, case.is_initiator).await;
        // Out of order, some twice, and several at a time.
        let order: Vec<u64> = (0..READS).map(|_| random.below(length)).collect();
        let gets: Vec<_> = order.iter().map(|index| theirs.get(*index)).collect();
        for (index, get) in order.iter().zip(gets) {
            let got = soon(get).await.expect("a store");
            assert_eq!(got, value(*index), "{index}, {context}");
        }
        let mut distinct = order.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let held = distinct.len() as u64;
        assert_eq!(theirs.info().expect("a hash").held, held, "{context}");
        for index in &order {
            let input = json!({ "core": pair.ours_there, "index": index });
            let answer = node.ask("get", input).await;
            assert_eq!(answer["value"], hex(value(*index)), "{index}, {context}");
        }

        // The starts of all blocks, and the end.
        let starts: Vec<u64> = (0..length)
            .scan(0, |end, index| {
                let start = *end;
                *end += value(index).len() as u64;
                Some(start)
            })
            .collect();
        let bytes = ours.info().expect("a hash").byte_length;
        let edges = [0, 1, 49, 50, 51, bytes - 1];
        let more = (0..READS).map(|_| random.below(bytes));
        for byte in edges.into_iter().chain(more) {
            let index = starts.partition_point(|start| *start <= byte) as u64 - 1;
            let offset = byte - starts[index as usize];
            let found = soon(theirs.seek(byte)).await.expect("a store");
            assert_eq!(found, (index, offset), "byte {byte}, {context}");
            let input = json!({ "core": pair.ours_there, "bytes": byte });
            let answer = node.ask("seek", input).await;
            assert_eq!(answer["index"], index, "byte {byte}, {context}");
            assert_eq!(answer["offset"], offset, "byte {byte}, {context}");
        }
        let end = soon(theirs.seek(bytes)).await.expect("a store");
        assert_eq!(end, (length, 0), "{context}");
        // If a byte is in one of two blocks, one of them is fetched, and no more.
        let most = held + (edges.len() + READS) as u64;
        let now = theirs.info().expect("a hash").held;
        assert!((held..=most).contains(&now), "{now} of {most}, {context}");
        link.cut(node).await;
        pair.close(node).await;
    });
}

#[tokio::test]
async fn what_is_held_in_part_is_passed_on() {
    const HELD: [Range<u64>; 3] = [3..4, 100..140, 290..300];
    for_every_case!(|case, node| {
        // Node holds a part of a core of ours, and passes it to another reader of ours.
        let context = case.to_string();
        let second = &format!("second, {context}");
        let third = &format!("third, {context}");
        let ours = Ours::of(case.kind, OURS, Memory::new());
        ours.extend(300 - case.kind.first(), 9);
        let ours = &ours.core;
        node_reads(node, second, ours.key()).await;
        let to_second = Link::with(node, &[ours], case.is_initiator).await;
        update(node, second).await;
        for range in HELD {
            download(node, second, range).await;
        }
        to_second.cut(node).await;
        let other = reader(ours.key());
        let to_other = Link::with(node, &[&other], case.is_initiator).await;
        for range in HELD {
            soon(other.download(range)).await.expect("a store");
        }
        let missing = other.get(50);
        assert_eq!(other.length(), 300, "{context}");
        assert_eq!(other.info().expect("a hash").held, 51, "{context}");
        to_other.cut(node).await;
        close(node, second).await;

        // And the other way round.
        node_reads(node, third, ours.key()).await;
        let to_third = Link::with(node, &[&other], case.is_initiator).await;
        update(node, third).await;
        for range in HELD {
            download(node, third, range.clone()).await;
            assert_same_blocks(&other, node, third, range, &context).await;
        }
        // Once some peer has it, the waiting reader gets it.
        node.ask("want", json!({ "core": third, "index": 50 }))
            .await;
        let (_one, _other) = link(ours, &other).await;
        let value = soon(missing).await.expect("a store");
        assert_eq!(value, ours.get_held(50).expect("a store").expect("a block"));
        let answer = node.ask("get", json!({ "core": third, "index": 50 })).await;
        assert_eq!(answer["value"], hex(value), "{context}");
        to_third.cut(node).await;
        close(node, third).await;
    });
}

#[tokio::test]
async fn what_is_cleared_is_told_and_had_from_others() {
    for_every_case!(|case, node| {
        let context = case.to_string();
        let mut pair = Pair::new(node, case.kind, 0, &context).await;
        pair.extend(node, 30, 9).await;
        let length = 30 + case.kind.first();
        let link = pair.link(node, case.is_initiator).await;
        let (ours, theirs) = (&pair.ours.core, &pair.theirs_here);
        soon(theirs.download(20..length)).await.expect("a store");
        update(node, &pair.ours_there).await;
        download(node, &pair.ours_there, 20..length).await;
        // Each writer clears blocks that the other has, and some that it has not.
        ours.clear(10..25).expect("a store");
        let input = json!({ "core": pair.theirs.name, "start": 10, "end": 25 });
        node.ask("clear", input).await;
        assert_eq!(ours.info().expect("a hash").held, length - 15, "{context}");
        assert_eq!(ours.get_held(24).expect("a store"), None, "{context}");
        soon(theirs.download(0..10)).await.expect("a store");
        download(node, &pair.ours_there, 0..10).await;
        // A block held nowhere is waited for, and one that the reader has is fetched back.
        let mut nowhere = theirs.get(15);
        let back = ours.get(22);
        let input = json!({ "core": pair.ours_there, "index": 15 });
        node.ask("want", input).await;
        let input = json!({ "core": pair.theirs.name, "index": 22 });
        let answer = node.ask("get", input).await;
        let value = theirs.get_held(22).expect("a store").expect("a block");
        assert_eq!(answer["value"], hex(value), "{context}");
        let value = soon(back).await.expect("a store");
        assert_eq!(value, block(22, 9), "{context}");
        assert!((&mut nowhere).now_or_never().is_none(), "{context}");
        let input = json!({ "core": pair.ours_there, "index": 15 });
        let has = node.ask("has", input).await;
        assert_eq!(has["has"], false, "{context}");
        link.cut(node).await;
        pair.close(node).await;
    });
}

#[tokio::test]
async fn a_core_in_a_file_goes_on_where_it_was() {
    for_every_case!(|case, node| {
        let context = case.to_string();
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let disk = |name: &str| Disk::open(path(name)).expect("a file");
        let first = case.kind.first();
        let name = format!("theirs, {context}");
        let mut theirs = Theirs::of(node, name, case.kind, THEIRS).await;
        let ours = Ours::of(case.kind, OURS, disk("ours"));
        let key = ours.core.key();
        theirs.extend(node, 50, 20).await;
        ours.extend(50, 20);
        let ours_there = format!("ours, {context}");
        node_reads(node, &ours_there, key).await;
        let theirs_here = stored(disk("theirs"), CoreOptions::reader(theirs.key));
        let link = Link::with(node, &[&ours.core, &theirs_here], case.is_initiator).await;
        soon(theirs_here.download(5..40)).await.expect("a store");
        update(node, &ours_there).await;
        download(node, &ours_there, 5..40).await;
        link.cut(node).await;
        drop((ours, theirs_here));

        theirs.extend(node, 60, 20).await;
        let ours = Ours::of(case.kind, OURS, disk("ours"));
        assert_eq!(ours.core.length(), 50 + first, "{context}");
        ours.extend(60, 20);
        let theirs_here = stored(disk("theirs"), CoreOptions::default());
        // The last block, which has proven the size of the last root.
        let proving = u64::from(case.kind == Kind::AllPatched);
        let held = theirs_here.info().expect("a hash").held;
        assert_eq!(held, 35 + proving, "{context}");
        let link = Link::with(node, &[&ours.core, &theirs_here], case.is_initiator).await;
        let length = 60 + first;
        soon(theirs_here.has_length(length)).await.expect("a store");
        soon(theirs_here.download(..length)).await.expect("a store");
        node.ask("follow", json!({ "core": ours_there })).await;
        let input = json!({ "core": ours_there, "length": length });
        node.ask("whole", input).await;
        assert_same(&theirs_here, node, &theirs.name, &context).await;
        assert_same(&ours.core, node, &ours_there, &context).await;
        link.cut(node).await;
        close(node, &theirs.name).await;
        close(node, &ours_there).await;
    });
}

/// The writer of the core of a mesh.
#[derive(Debug, Clone, Copy)]
enum Writer {
    Node(&'static str),
    Rust,
}

#[tokio::test]
async fn a_mesh_of_two_and_two_fills_itself() {
    let writers = [
        Writer::Node(RELEASES[0]),
        Writer::Node(RELEASES[1]),
        Writer::Rust,
    ];
    let mut is_initiator = true;
    for writer in writers {
        // All four have to support the kind.
        for kind in Kind::of(RELEASES[0]) {
            mesh(writer, kind, is_initiator).await;
            is_initiator = !is_initiator;
        }
    }
}

/// A ring of Node, Rust, Node and Rust, with both Rust peers connected, too.
async fn mesh(writer: Writer, kind: Kind, is_initiator: bool) {
    let context = format!("{writer:?} writes, {kind:?}, {is_initiator}");
    let mut nodes = RELEASES.map(start);
    let mut theirs = None;
    let mut ours = None;
    let key = match writer {
        Writer::Node(release) => {
            let at = RELEASES.iter().position(|it| *it == release);
            let at = at.expect("one of them");
            let core = Theirs::new(&mut nodes[at], "core", kind).await;
            let key = core.key;
            theirs = Some((at, core));
            key
        }
        Writer::Rust => ours.insert(Ours::new(kind)).core.key(),
    };
    for (at, node) in nodes.iter_mut().enumerate() {
        if theirs.as_ref().is_none_or(|(writer, _)| *writer != at) {
            node_reads(node, "core", key).await;
            node.ask("follow", json!({})).await;
        }
    }
    let rusts = [
        ours.as_ref()
            .map_or_else(|| reader(key), |it| it.core.clone()),
        reader(key),
    ];
    let mut links = Vec::new();
    for (at, node) in nodes.iter_mut().enumerate() {
        for (place, rust) in rusts.iter().enumerate() {
            let is_initiator = is_initiator ^ (at == place);
            links.push(Link::with(node, &[rust], is_initiator).await);
        }
    }
    let _rust = link(&rusts[0], &rusts[1]).await;
    let _all = rusts.each_ref().map(Replicator::download_all);
    for length in [1, 201, 238] {
        if let Some((at, core)) = &mut theirs {
            core.extend(&mut nodes[*at], length, 64).await;
        }
        if let Some(core) = &ours {
            core.extend(length, 64);
        }
        let length = length + kind.first();
        for core in &rusts {
            soon(core.has_length(length)).await.expect("a store");
            soon(core.download(..length)).await.expect("a store");
        }
        for node in &mut nodes {
            node.ask("whole", json!({ "length": length })).await;
        }
    }
    for core in &rusts {
        for node in &mut nodes {
            assert_same(core, node, "core", &context).await;
        }
    }
}
