//! Machines that exchange messages without IO.

#[cfg(feature = "tokio")]
mod driven;
mod hostile;

use std::collections::VecDeque;

use proptest::prelude::*;

use super::super::core::CoreOptions;
use super::super::proof::Seek;
use super::super::storage::Memory;
use super::machine::{Kind, Machine, Outcome};
use super::outbox::WANT_BATCH;
use super::*;
use crate::KeyPair;
use crate::wire::{
    Bitfield, Data, DataBlock, NoData, Range as RangeMessage, Request, RequestBlock, Sync, Want,
};

fn writer(blocks: usize) -> Machine {
    let core = Core::open(
        Memory::new(),
        CoreOptions::writer(KeyPair::from_seed(&[7; 32])),
    );
    let mut machine = Machine::new(core.unwrap(), ReplicatorOptions::default());
    machine.append(&values(0, blocks)).unwrap();
    machine
}

fn values(from: usize, count: usize) -> Vec<Vec<u8>> {
    (from..from + count)
        .map(|at| format!("block {at}").into_bytes())
        .collect()
}

fn reader(of: &Machine) -> Machine {
    reader_with(of, ReplicatorOptions::default())
}

fn reader_with(of: &Machine, options: ReplicatorOptions) -> Machine {
    let core = Core::open(Memory::new(), CoreOptions::reader(*of.core.key()));
    Machine::new(core.unwrap(), options)
}

/// Machines, by index, and the channels between them.
#[derive(Default)]
struct Net {
    machines: Vec<Machine>,
    links: Vec<Link>,
}

struct Link {
    ends: [(usize, PeerId); 2],
    /// Messages in transit to the end of the same index.
    to: [VecDeque<Message>; 2],
    /// Sent messages, for the tests.
    sent: [Vec<Message>; 2],
}

impl Net {
    fn of(machines: Vec<Machine>) -> Self {
        Self {
            machines,
            links: Vec::new(),
        }
    }

    fn link(&mut self, one: usize, other: usize) -> usize {
        let one = (one, self.machines[one].add_peer(true));
        let other = (other, self.machines[other].add_peer(true));
        self.links.push(Link {
            ends: [one, other],
            to: Default::default(),
            sent: Default::default(),
        });
        self.links.len() - 1
    }

    fn unlink(&mut self, link: usize) {
        for (machine, peer) in self.links[link].ends {
            self.machines[machine].remove_peer(peer);
        }
        self.links[link].to = Default::default();
    }

    /// Transmits, and delivers one message in each direction. Returns whether there was anything.
    fn step(&mut self, link: usize) -> bool {
        let link = &mut self.links[link];
        let mut moved = false;
        for from in 0..2 {
            let (machine, peer) = link.ends[from];
            let messages = self.machines[machine].transmit(peer, 1024).unwrap();
            moved |= !messages.is_empty();
            link.sent[from].extend(messages.iter().cloned());
            link.to[1 - from].extend(messages);
        }
        for to in 0..2 {
            let (machine, peer) = link.ends[to];
            if let Some(message) = link.to[to].pop_front() {
                moved = true;
                self.machines[machine].receive(peer, message).unwrap();
            }
        }
        moved
    }

    /// Runs until all are idle.
    fn run(&mut self) {
        for _ in 0..20_000 {
            let steps: Vec<bool> = (0..self.links.len()).map(|link| self.step(link)).collect();
            if !steps.contains(&true) {
                return;
            }
        }
        let last = self.links.iter().map(|link| {
            let last = |sent: &Vec<Message>| sent[sent.len().saturating_sub(4)..].to_vec();
            (link.ends, link.sent.each_ref().map(last))
        });
        panic!("they never stop talking: {:#?}", last.collect::<Vec<_>>());
    }

    fn finished(&mut self, machine: usize, id: WaiterId) -> Option<Outcome> {
        let finished = &mut self.machines[machine].finished;
        let at = finished.iter().position(|(finished, _)| *finished == id)?;
        Some(finished.remove(at).1.unwrap())
    }
}

fn requests(sent: &[Message]) -> impl Iterator<Item = &Request> {
    sent.iter().filter_map(|message| match message {
        Message::Request(request) => Some(request),
        _ => None,
    })
}

/// Trusts no peer's claim about the size of a block: it finally fetches one.
#[test]
fn a_byte_is_found_by_what_is_proven() {
    let from = writer(21);
    for bytes in [0, 1, 40, 70, 93] {
        let mut net = Net::of(vec![writer(21), reader(&from)]);
        let link = net.link(1, 0);
        net.run();
        let (_, peer) = net.links[link].ends[0];
        let id = net.machines[1].wait(Kind::Seek { bytes, padding: 0 });
        for _ in 0..1000 {
            let messages = net.machines[1].transmit(peer, 1024).unwrap();
            for message in messages {
                net.machines[0]
                    .receive(net.links[link].ends[1].1, message)
                    .unwrap();
            }
            let answers = net.machines[0]
                .transmit(net.links[link].ends[1].1, 1024)
                .unwrap();
            if answers.is_empty() {
                break;
            }
            for mut answer in answers {
                if let Message::Data(data) = &mut answer {
                    let nodes = data.hash.iter_mut().map(|it| &mut it.nodes);
                    for nodes in nodes.chain(data.seek.iter_mut().map(|it| &mut it.nodes)) {
                        if let [one, other, ..] = nodes.as_mut_slice() {
                            one.size += 1;
                            other.size -= 1;
                        }
                    }
                }
                net.machines[1].receive(peer, answer).unwrap();
            }
        }
        let right = from.core.seek(bytes, 0).unwrap();
        let found = net.machines[1].finished.iter().any(|(finished, outcome)| {
            let Ok(Outcome::Found(block, offset)) = *outcome else {
                return false;
            };
            *finished == id && Seek::Found { block, offset } == right
        });
        assert!(found, "{bytes}: {:?}", net.machines[1].finished);
        assert!(net.machines[1].core.info().unwrap().held <= 1);
    }
}

#[test]
fn a_block_that_nobody_waits_for_is_taken_back() {
    let from = writer(5);
    let to = reader(&from);
    let mut net = Net::of(vec![from, to]);
    let link = net.link(1, 0);
    net.run();
    let (_, peer) = net.links[link].ends[0];
    let id = net.machines[1].wait(Kind::Block(3));
    let asked = net.machines[1].transmit(peer, 0).unwrap();
    assert!(matches!(&asked[..], [Message::Request(_)]), "{asked:?}");
    net.machines[1].cancel(id);
    let cancelled = net.machines[1].transmit(peer, 0).unwrap();
    assert!(
        matches!(&cancelled[..], [Message::Cancel(_)]),
        "{cancelled:?}"
    );
    // The peer removes it from its queue.
    let (_, theirs) = net.links[link].ends[1];
    for message in asked.into_iter().chain(cancelled) {
        net.machines[0].receive(theirs, message).unwrap();
    }
    assert!(!net.machines[0].has_work(theirs));
    // It can be requested again.
    let id = net.machines[1].wait(Kind::Block(3));
    net.run();
    assert!(matches!(net.finished(1, id), Some(Outcome::Block(value)) if value == b"block 3"));
}

#[test]
fn a_range_that_nobody_waits_for_is_taken_back() {
    let from = writer(500);
    let to = reader(&from);
    let mut net = Net::of(vec![from, to]);
    let link = net.link(1, 0);
    net.run();
    let (_, peer) = net.links[link].ends[0];
    let range = net.machines[1].wait(Kind::Blocks(0, Some(400)));
    let block = net.machines[1].wait(Kind::Block(10));
    let asked = net.machines[1].transmit(peer, 0).unwrap();
    assert_eq!(requests(&asked).count(), 64);
    net.machines[1].cancel(range);
    let cancelled = net.machines[1].transmit(peer, 0).unwrap();
    let cancels = cancelled
        .iter()
        .filter(|message| matches!(message, Message::Cancel(_)));
    // All except the one that another waiter needs.
    assert_eq!(cancels.count(), 63);
    let (_, theirs) = net.links[link].ends[1];
    for message in asked.into_iter().chain(cancelled) {
        net.machines[0].receive(theirs, message).unwrap();
    }
    net.run();
    assert!(net.finished(1, block).is_some());
    assert_eq!(net.machines[1].core.info().unwrap().held, 1);
}

#[test]
fn peers_share_the_work() {
    let from = writer(600);
    let to = reader(&from);
    let copies: Vec<Machine> = (0..2).map(|_| reader(&from)).collect();
    let mut net = Net::of(vec![from, to]);
    net.machines.extend(copies);
    // Two copies, one whole and one of the second half.
    for (copy, start) in [(2, 0), (3, 300)] {
        let link = net.link(copy, 0);
        let id = net.machines[copy].wait(Kind::Blocks(start, Some(600)));
        net.run();
        assert!(net.finished(copy, id).is_some());
        net.unlink(link);
    }
    for peer in [0, 2, 3] {
        net.link(1, peer);
    }
    let id = net.machines[1].wait(Kind::Blocks(0, Some(600)));
    net.run();
    assert!(net.finished(1, id).is_some());
    let mut all = 0;
    for link in &net.links[2..] {
        let asked = requests(&link.sent[0])
            .filter(|request| request.block.is_some())
            .count();
        assert!(asked >= 100, "one was asked for {asked}");
        all += asked;
    }
    // At the end, blocks in transit are requested twice.
    assert!((600..=700).contains(&all), "{all}");
}

#[test]
fn no_peer_has_more_requests_than_it_may() {
    let from = writer(300);
    let options = ReplicatorOptions {
        max_in_flight: 5,
        ..ReplicatorOptions::default()
    };
    let to = reader_with(&from, options);
    let mut net = Net::of(vec![from, to]);
    let link = net.link(1, 0);
    let id = net.machines[1].wait(Kind::Blocks(0, Some(300)));
    let mut most = 0;
    while net.step(link) {
        let (_, peer) = net.machines[1].peers().next().unwrap();
        most = most.max(peer.in_flight.len());
    }
    assert!(net.finished(1, id).is_some());
    assert_eq!(most, 5);
}

/// A machine that has the tree of a core, and a peer whose messages the test writes.
struct Alone {
    machine: Machine,
    source: Machine,
    peer: PeerId,
}

impl Alone {
    fn new(blocks: usize) -> Self {
        let source = writer(blocks);
        let to = reader(&source);
        let mut net = Net::of(vec![source, to]);
        let link = net.link(1, 0);
        net.run();
        net.unlink(link);
        let mut machine = net.machines.pop().unwrap();
        let source = net.machines.pop().unwrap();
        let peer = machine.add_peer(true);
        let mut alone = Self {
            machine,
            source,
            peer,
        };
        alone.take();
        alone
    }

    fn sync(&mut self) {
        let length = self.source.core.length();
        self.say(Sync {
            length,
            remote_length: length,
            uploading: true,
            downloading: true,
            ..Sync::default()
        });
    }

    fn say(&mut self, message: impl Into<Message>) {
        self.machine.receive(self.peer, message.into()).unwrap();
    }

    fn take(&mut self) -> Vec<Message> {
        self.machine.transmit(self.peer, 1 << 20).unwrap()
    }

    fn answer(&mut self, request: &Request) {
        let data = self.source.core.create_proof(request).unwrap().unwrap();
        self.say(data);
    }
}

#[test]
fn a_peer_that_does_not_have_what_it_says_is_asked_once() {
    let mut alone = Alone::new(4);
    alone.sync();
    alone.say(RangeMessage {
        drop: false,
        start: 0,
        length: 4,
    });
    let _id = alone.machine.wait(Kind::Block(2));
    let asked = alone.take();
    let request = requests(&asked).next().unwrap().id;
    alone.say(NoData {
        request,
        reason: NoData::NOT_AVAILABLE,
    });
    assert_eq!(requests(&alone.take()).count(), 0);
    // Another peer gets the request.
    let first = alone.peer;
    alone.peer = alone.machine.add_peer(true);
    alone.take();
    alone.sync();
    alone.say(RangeMessage {
        drop: false,
        start: 2,
        length: 1,
    });
    let asked = alone.take();
    let request = requests(&asked).next().unwrap().clone();
    // So does the first, once it announces it again.
    let second = std::mem::replace(&mut alone.peer, first);
    alone.say(RangeMessage {
        drop: false,
        start: 2,
        length: 1,
    });
    assert_eq!(requests(&alone.take()).count(), 1);
    alone.peer = second;
    alone.answer(&request);
    assert_eq!(alone.machine.finished.len(), 1);
    // Requests that are no longer needed are cancelled.
    alone.peer = first;
    assert!(
        alone
            .take()
            .iter()
            .any(|message| matches!(message, Message::Cancel(_)))
    );
}

#[test]
fn what_nobody_is_known_to_have_is_wanted() {
    let mut alone = Alone::new(4);
    alone.sync();
    let _id = alone.machine.wait(Kind::Block(2));
    let sent = alone.take();
    let Some(Message::Want(want)) = sent.last() else {
        panic!("{sent:?}");
    };
    assert_eq!((want.start, want.length), (0, WANT_BATCH));
    // Only once.
    let _other = alone.machine.wait(Kind::Block(3));
    assert!(alone.take().is_empty());
    alone.say(Bitfield {
        start: 0,
        bitfield: vec![0b0100],
    });
    let asked = alone.take();
    let blocks: Vec<u64> = requests(&asked)
        .filter_map(|request| Some(request.block?.index))
        .collect();
    assert_eq!(blocks, [2]);
}

#[test]
fn more_wants_than_a_peer_remembers_take_others_back() {
    let mut peer = peer::Peer::default();
    let core = writer(1).core;
    let mut sent = Vec::new();
    for batch in 0..513 {
        // The last is wanted after the others were sent.
        if batch == 512 {
            peer.out.take(&core, 0, &mut sent);
        }
        peer.want(batch * WANT_BATCH);
    }
    peer.out.take(&core, 0, &mut sent);
    let unwanted: Vec<u64> = sent
        .iter()
        .filter_map(|message| match message {
            Message::Unwant(unwant) => Some(unwant.start),
            _ => None,
        })
        .collect();
    assert_eq!(unwanted, [0]);
    assert_eq!(sent.len(), 514);
}

#[test]
fn what_a_peer_claims_costs_no_memory() {
    let mut alone = Alone::new(4);
    alone.say(Sync {
        length: 1 << 52,
        uploading: true,
        downloading: true,
        ..Sync::default()
    });
    for (start, length) in [(1, u64::MAX >> 11), (0, 1 << 52), (1 << 40, 1 << 50)] {
        for drop in [false, true] {
            alone.say(RangeMessage {
                drop,
                start,
                length,
            });
        }
    }
    for at in 0..100_000u64 {
        alone.say(Bitfield {
            start: at << 20,
            bitfield: vec![u32::MAX],
        });
        alone.say(Want {
            start: at,
            length: u64::MAX >> 11,
            any: false,
        });
    }
    let (_, peer) = alone.machine.peers().next().unwrap();
    assert!(peer.has.page_count() <= 66, "{}", peer.has.page_count());
    assert!(peer.wants.len() <= 512);
}

#[test]
fn what_was_not_asked_for_has_no_effect() {
    let mut alone = Alone::new(4);
    alone.sync();
    alone.take();
    let request = Request {
        id: 9,
        block: Some(RequestBlock { index: 1, nodes: 2 }),
        ..Request::default()
    };
    alone.answer(&request);
    assert!(!alone.machine.core.has(1));
    // Nor does another block than the requested one.
    alone.say(RangeMessage {
        drop: false,
        start: 0,
        length: 4,
    });
    let _id = alone.machine.wait(Kind::Block(2));
    let asked = alone.take();
    let id = requests(&asked).next().unwrap().id;
    alone.answer(&Request { id, ..request });
    assert!(!alone.machine.core.has(1));
    assert!(alone.machine.events.iter().all(|event| !matches!(
        event,
        ReplicatorEvent::Refused { .. } | ReplicatorEvent::Downloaded { .. }
    )));
}

#[test]
fn a_wrong_block_ends_the_peer_once_its_history_is_known_to_be_ours() {
    let mut alone = Alone::new(4);
    alone.sync();
    alone.say(RangeMessage {
        drop: false,
        start: 0,
        length: 4,
    });
    let _id = alone.machine.wait(Kind::Block(2));
    let asked = alone.take();
    let request = requests(&asked).next().unwrap().clone();
    let mut data = alone.source.core.create_proof(&request).unwrap().unwrap();
    data.block = Some(DataBlock {
        value: Buffer::from("another"),
        ..data.block.unwrap()
    });
    alone.say(data);
    let asked = alone.take();
    let request = requests(&asked).next().unwrap().clone();
    assert_eq!((request.id, request.upgrade.unwrap().length), (0, 4));
    let proof: Data = alone.source.core.create_proof(&request).unwrap().unwrap();
    let ended = alone.machine.receive(alone.peer, proof.into());
    let error = ended.unwrap_err().to_string();
    assert!(
        error.starts_with("the peer's data was refused: block: the hash of node"),
        "{error}"
    );
}

#[test]
fn requests_without_sense_end_the_peer() {
    let mut machine = writer(4);
    let peer = machine.add_peer(true);
    let request = |id| Request {
        id,
        block: Some(RequestBlock {
            index: 1,
            nodes: 40,
        }),
        ..Request::default()
    };
    for id in 1..64 {
        machine.receive(peer, request(id).into()).unwrap();
        let answer = machine.transmit(peer, 1024).unwrap();
        let reason = NoData::INVALID_REQUEST;
        let refusal = NoData {
            request: id,
            reason,
        };
        assert_eq!(answer.last(), Some(&Message::NoData(refusal)));
    }
    machine.receive(peer, request(64).into()).unwrap();
    assert!(matches!(
        machine.transmit(peer, 1024),
        Err(PeerError::InvalidRequests(_))
    ));
}

#[test]
fn an_update_waits_for_those_who_may_have_one() {
    let from = writer(4);
    let to = reader(&from);
    let mut net = Net::of(vec![from, to]);
    let update = |net: &mut Net| {
        let (length, fork) = (net.machines[1].core.length(), 0);
        net.machines[1].wait(Kind::Update { length, fork })
    };
    // There is no peer.
    let id = update(&mut net);
    assert!(matches!(net.finished(1, id), Some(Outcome::Updated(false))));
    // A peer is about to connect.
    let expected = net.machines[1].expect_peer();
    let id = update(&mut net);
    assert!(net.finished(1, id).is_none());
    net.link(1, 0);
    net.machines[1].unexpect_peer(expected);
    assert!(net.finished(1, id).is_none());
    net.run();
    assert!(matches!(net.finished(1, id), Some(Outcome::Updated(true))));
    // Now it has nothing new.
    let id = update(&mut net);
    assert!(matches!(net.finished(1, id), Some(Outcome::Updated(false))));
}

#[test]
fn a_channel_on_which_nobody_asks_is_closed() {
    let from = writer(4);
    let idle = ReplicatorOptions {
        download: false,
        ..ReplicatorOptions::default()
    };
    let (one, other) = (reader_with(&from, idle.clone()), reader_with(&from, idle));
    let mut net = Net::of(vec![one, other]);
    let link = net.link(0, 1);
    net.run();
    for (machine, peer) in net.links[link].ends {
        let ending = net.machines[machine].ending(peer);
        assert!(matches!(ending, Some(Ending::Idle)), "{ending:?}");
    }
}

#[test]
fn what_is_cleared_is_fetched_again_by_a_range_that_lasts() {
    let from = writer(50);
    let to = reader(&from);
    let mut net = Net::of(vec![from, to]);
    net.link(1, 0);
    let _all = net.machines[1].wait(Kind::Blocks(0, None));
    net.run();
    assert_eq!(net.machines[1].core.info().unwrap().held, 50);
    net.machines[1].clear(10..20).unwrap();
    net.run();
    assert_eq!(net.machines[1].core.info().unwrap().held, 50);
    // Once the source has cleared it, it is not requested.
    net.machines[0].clear(0..50).unwrap();
    net.run();
    net.machines[1].clear(3..5).unwrap();
    net.run();
    assert_eq!(net.machines[1].core.info().unwrap().held, 48);
}

#[derive(Debug, Clone)]
enum Act {
    Append(usize),
    Truncate(u64),
    Get(usize, u64),
    Clear(usize, u64),
    Relink(usize),
    Steps(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => (1usize..40).prop_map(Act::Append),
        1 => (0u64..60).prop_map(Act::Truncate),
        3 => (1usize..4, 0u64..80).prop_map(|(machine, block)| Act::Get(machine, block)),
        1 => (1usize..4, 0u64..80).prop_map(|(machine, block)| Act::Clear(machine, block)),
        2 => (0usize..4).prop_map(Act::Relink),
        6 => (1usize..60).prop_map(Act::Steps),
    ];
    proptest::collection::vec(act, 1..40)
}

proptest! {
    #[test]
    fn whatever_happens_all_end_with_the_same(acts in acts()) {
        let from = writer(3);
        let readers: Vec<Machine> = (0..3).map(|_| reader(&from)).collect();
        let mut net = Net::of(vec![from]);
        net.machines.extend(readers);
        // A ring: the third reader has no link to the writer.
        let ends = [(0, 1), (1, 2), (2, 3), (3, 1)];
        for (one, other) in ends {
            net.link(one, other);
        }
        let mut appended = 3;
        for act in acts {
            match act {
                Act::Append(count) => {
                    net.machines[0].append(&values(appended, count)).unwrap();
                    appended += count;
                }
                Act::Truncate(length) => {
                    let length = length.min(net.machines[0].core.length());
                    net.machines[0].truncate(length, None).unwrap();
                }
                Act::Get(machine, block) => {
                    net.machines[machine].wait(Kind::Block(block));
                }
                Act::Clear(machine, block) => {
                    let end = net.machines[machine].core.length();
                    net.machines[machine].clear(block.min(end)..(block + 5).min(end)).unwrap();
                }
                Act::Relink(at) => {
                    net.unlink(at);
                    let (one, other) = ends[at];
                    let link = net.link(one, other);
                    net.links.swap(at, link);
                    net.links.truncate(link);
                }
                Act::Steps(count) => {
                    for at in 0..count {
                        net.step(at % ends.len());
                    }
                }
            }
        }
        // An empty core has no proof, so its fork could not be announced.
        net.machines[0].append(&values(appended, 1)).unwrap();
        for machine in 1..4 {
            net.machines[machine].wait(Kind::Blocks(0, None));
        }
        net.run();
        let expected = net.machines[0].core.info().unwrap();
        for machine in 1..4 {
            let info = net.machines[machine].core.info().unwrap();
            prop_assert_eq!((info.length, info.fork, info.tree_hash), (expected.length, expected.fork, expected.tree_hash), "machine {}", machine);
            prop_assert_eq!(info.held, expected.held, "machine {}", machine);
            for block in 0..info.length {
                let value = net.machines[machine].core.get(block).unwrap();
                prop_assert_eq!(value, net.machines[0].core.get(block).unwrap());
            }
            let (_, peer) = net.machines[machine].peers().next().unwrap();
            prop_assert!(peer.in_flight.is_empty());
        }
    }
}

#[test]
fn a_shorter_peer_is_upgraded_once_blocks_have_brought_the_proof() {
    let from = writer(5);
    let (to, shorter) = (reader(&from), reader(&from));
    let mut net = Net::of(vec![from, to, shorter]);
    let link = net.link(2, 0);
    net.run();
    net.unlink(link);
    assert_eq!(net.machines[2].core.length(), 5);
    net.machines[0].append(&values(5, 1)).unwrap();
    net.link(1, 0);
    net.link(1, 2);
    net.run();
    // From none to six at once: the hashes that prove five were not needed.
    assert_eq!(net.machines[1].core.length(), 6);
    assert_eq!(net.machines[2].core.length(), 5);
    let _all = net.machines[1].wait(Kind::Blocks(0, None));
    net.run();
    assert_eq!(net.machines[2].core.length(), 6);
}

#[test]
fn a_fork_that_is_overtaken_is_let_go() {
    let from = writer(3);
    let to = reader(&from);
    let mut net = Net::of(vec![from, to]);
    let link = net.link(0, 1);
    net.run();
    // All three are in transit at once, and the first two cannot be proven any more.
    net.machines[0].append(&values(3, 1)).unwrap();
    net.machines[0].truncate(4, None).unwrap();
    net.machines[0].truncate(4, None).unwrap();
    net.run();
    assert_eq!(net.machines[1].core.fork(), 2);
    assert!(requests(&net.links[link].sent[1]).count() < 8);
}

#[test]
fn a_truncation_is_told_as_blocks_that_are_gone() {
    let from = writer(9);
    let to = reader(&from);
    let mut net = Net::of(vec![from, to]);
    let link = net.link(0, 1);
    net.run();
    net.machines[0].truncate(6, None).unwrap();
    net.run();
    let gone = RangeMessage {
        drop: true,
        start: 6,
        length: 3,
    };
    assert!(net.links[link].sent[0].contains(&Message::Range(gone)));
    // The other peer now has the same history.
    assert_eq!(net.machines[1].core.length(), 6);
}

#[test]
fn a_long_core_costs_no_more_than_its_bound() {
    // A writer may sign a core of this length without having its blocks.
    let length = 1 << 51;
    let mut peer = peer::Peer::default();
    peer.has.max_pages = 4096;
    peer.on_range(
        &RangeMessage {
            drop: false,
            start: 1,
            length: length - 1,
        },
        length,
    );
    assert!(!peer.has_block(5));
    for at in 0..10_000u64 {
        let bits = Bitfield {
            start: at << 30,
            bitfield: vec![u32::MAX],
        };
        peer.on_bitfield(&bits, length);
    }
    assert_eq!(peer.has.page_count(), 4096);
    assert!(peer.has_block(4095 << 30));
    assert!(!peer.has_block(4096 << 30));
}
