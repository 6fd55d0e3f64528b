//! Peers that are silent, lie, refuse or do not read.

use super::*;
use crate::encoding::Encode;
use crate::replication::StorageError;
use crate::replication::replicator::machine::MAX_UNANSWERED_WANTS;
use crate::replication::replicator::outbox::MAX_RUNS;
use crate::wire::{Cancel, RequestUpgrade};

const T: Duration = Duration::from_secs(15);

/// A reader whose peers' messages the test writes, and a writer that can answer for them.
struct Reader {
    machine: Machine,
    source: Machine,
    now: Duration,
}

impl Reader {
    /// A reader that already has the tree of the writer's core.
    fn synced(blocks: usize) -> Self {
        let Alone {
            mut machine,
            source,
            peer,
        } = Alone::new(blocks);
        machine.remove_peer(peer);
        machine.events.clear();
        Self {
            machine,
            source,
            now: Duration::ZERO,
        }
    }

    fn empty(blocks: usize) -> Self {
        let source = writer(blocks);
        Self {
            machine: reader(&source),
            source,
            now: Duration::ZERO,
        }
    }

    fn with_options(self, options: ReplicatorOptions) -> Self {
        Self {
            machine: reader_with(&self.source, options),
            ..self
        }
    }

    /// A peer that sends this sync, and claims the first blocks.
    fn peer(&mut self, sync: Sync, blocks: u64) -> PeerId {
        let peer = self.machine.add_peer(true);
        self.take(peer);
        self.say(peer, sync);
        if blocks > 0 {
            self.say(peer, have(0, blocks));
        }
        peer
    }

    /// The sync of an honest peer.
    fn state(&self) -> Sync {
        let (fork, length) = (self.source.core.fork(), self.source.core.length());
        let ours = &self.machine.core;
        Sync {
            fork,
            length,
            remote_length: if ours.fork() == fork {
                ours.length()
            } else {
                0
            },
            can_upgrade: true,
            has_manifest: true,
            ..says(length)
        }
    }

    fn say(&mut self, peer: PeerId, message: impl Into<Message>) {
        self.machine.receive(peer, message.into()).unwrap();
    }

    fn take(&mut self, peer: PeerId) -> Vec<Message> {
        self.machine.transmit(peer, 1 << 20).unwrap()
    }

    fn asked(&mut self, peer: PeerId) -> Vec<Request> {
        requests(&self.take(peer)).cloned().collect()
    }

    fn answer(&mut self, peer: PeerId, request: &Request) {
        let data = self.source.core.create_proof(request).unwrap().unwrap();
        self.say(peer, data);
    }

    fn refuse(&mut self, peer: PeerId, request: u64) {
        let reason = NoData::NOT_AVAILABLE;
        self.say(peer, NoData { request, reason });
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.machine.tick(self.now);
    }

    fn outcome(&mut self, id: WaiterId) -> Option<Result<Outcome, CoreError>> {
        let finished = &mut self.machine.finished;
        let at = finished.iter().position(|(finished, _)| *finished == id)?;
        Some(finished.remove(at).1)
    }

    fn update(&mut self) -> WaiterId {
        let (length, fork) = (self.machine.core.length(), self.machine.core.fork());
        self.machine.wait(Kind::Update { length, fork })
    }

    fn count(&mut self, is_it: impl Fn(&ReplicatorEvent) -> bool) -> usize {
        self.machine
            .events
            .iter()
            .filter(|event| is_it(event))
            .count()
    }
}

fn says(length: u64) -> Sync {
    Sync {
        length,
        uploading: true,
        downloading: true,
        ..Sync::default()
    }
}

fn have(start: u64, length: u64) -> RangeMessage {
    RangeMessage {
        drop: false,
        start,
        length,
    }
}

fn is_timed_out(event: &ReplicatorEvent) -> bool {
    matches!(event, ReplicatorEvent::RequestTimedOut { .. })
}

fn is_paused(event: &ReplicatorEvent) -> bool {
    matches!(event, ReplicatorEvent::PeerPaused { .. })
}

#[test]
fn an_upgrade_that_nobody_sends_is_asked_of_another_peer() {
    for has_manifest in [true, false] {
        let mut reader = Reader::empty(5);
        let update = reader.update();
        // There is no peer.
        assert!(matches!(
            reader.outcome(update),
            Some(Ok(Outcome::Updated(false)))
        ));
        let lie = Sync {
            can_upgrade: true,
            has_manifest,
            ..says(1 << 50)
        };
        let liar = reader.peer(lie, 0);
        assert_eq!(reader.asked(liar).len(), 1);
        let honest = reader.peer(reader.state(), 5);
        let update = reader.update();
        let get = reader.machine.wait(Kind::Block(3));
        let seek = reader.machine.wait(Kind::Seek {
            bytes: 10,
            padding: 0,
        });
        assert!(reader.asked(honest).is_empty());
        reader.pass(T - Duration::from_millis(1));
        assert!(reader.asked(honest).is_empty());
        assert_eq!(reader.count(is_timed_out), 0);
        reader.pass(Duration::from_millis(1));
        let is_cancel = |message: &Message| matches!(message, Message::Cancel(_));
        assert!(reader.take(liar).iter().any(is_cancel));
        assert_eq!(reader.count(is_timed_out), 1);
        assert_eq!(reader.count(is_paused), 1);
        loop {
            let asked = reader.asked(honest);
            if asked.is_empty() {
                break;
            }
            for request in asked {
                reader.answer(honest, &request);
                let state = reader.state();
                reader.say(honest, state);
            }
        }
        assert!(matches!(
            reader.outcome(update),
            Some(Ok(Outcome::Updated(true)))
        ));
        assert!(matches!(reader.outcome(get), Some(Ok(Outcome::Block(_)))));
        assert!(matches!(reader.outcome(seek), Some(Ok(Outcome::Found(..)))));
    }
}

#[test]
fn a_manifest_that_nobody_sends_does_not_keep_a_core_from_its_peers() {
    let mut reader = Reader::empty(5);
    let lie = Sync {
        has_manifest: true,
        ..says(0)
    };
    let liar = reader.peer(lie, 0);
    assert!(reader.asked(liar)[0].manifest);
    // Nor does it delay, for longer than a time-out, the request to another peer that has only the manifest.
    let other = reader.peer(lie, 0);
    assert!(reader.asked(other).is_empty());
    let honest = reader.peer(reader.state(), 5);
    let asked = reader.asked(honest);
    assert!(asked[0].manifest && asked[0].upgrade.is_some());
    // An answer without the manifest does not count.
    let request = asked[0].id;
    reader.pass(T);
    let asked_of_other = reader.asked(other);
    assert!(asked_of_other[0].manifest, "{asked_of_other:?}");
    reader.say(
        liar,
        Data {
            request: 1,
            ..Data::default()
        },
    );
    reader.answer(honest, &asked[0]);
    assert_eq!(reader.machine.core.length(), 5);
    assert!(request > 0);
}

#[test]
fn a_fork_that_is_only_claimed_does_not_keep_the_true_one_away() {
    let mut reader = Reader::synced(5);
    let lie = Sync {
        fork: 1 << 50,
        ..says(9)
    };
    let liar = reader.peer(lie, 0);
    assert_eq!(reader.asked(liar).len(), 1);
    reader.source.truncate(3, None).unwrap();
    reader.source.append(&["another"]).unwrap();
    let honest = reader.peer(reader.state(), 4);
    // At once, not only after the liar's time-out.
    for _ in 0..20 {
        for request in reader.asked(honest) {
            reader.answer(honest, &request);
        }
    }
    assert_eq!(reader.machine.core.fork(), 1);
    assert_eq!(reader.machine.core.length(), 4);
    reader.pass(T);
    assert_eq!(reader.count(is_paused), 1);
}

#[test]
fn an_update_does_not_wait_for_ever_for_a_peer_that_cannot_be_asked() {
    let lies = [
        // It can't prove it.
        Sync {
            remote_length: 77,
            ..says(1 << 50)
        },
        // It has not seen our length, and never will.
        Sync {
            remote_length: 77,
            can_upgrade: true,
            ..says(1 << 50)
        },
    ];
    for lie in lies {
        let mut reader = Reader::empty(5);
        let liar = reader.peer(lie, 0);
        let update = reader.update();
        for second in 0..15 {
            assert!(reader.outcome(update).is_none());
            // Rewording the claim does not help.
            let length = lie.length + second % 2;
            reader.say(liar, Sync { length, ..lie });
            reader.pass(Duration::from_secs(1));
        }
        assert!(matches!(
            reader.outcome(update),
            Some(Ok(Outcome::Updated(false)))
        ));
    }
    // Nor for a peer that says nothing, nor for one that never connects.
    let mut reader = Reader::empty(5);
    reader.machine.add_peer(true);
    let update = reader.update();
    reader.pass(T - Duration::from_millis(1));
    assert!(reader.outcome(update).is_none());
    reader.pass(Duration::from_millis(1));
    assert!(reader.outcome(update).is_some());
    let expected = reader.machine.expect_peer();
    let update = reader.update();
    assert_eq!(reader.machine.next_deadline(), Some(T + T));
    assert!(reader.outcome(update).is_none());
    reader.pass(T);
    assert!(reader.outcome(update).is_some());
    reader.machine.unexpect_peer(expected);
}

#[test]
fn three_peers_that_have_all_and_send_nothing_cost_one_time_out() {
    let mut reader = Reader::synced(5);
    let liars: Vec<PeerId> = (0..3).map(|_| reader.peer(says(5), 5)).collect();
    let get = reader.machine.wait(Kind::Block(0));
    for liar in &liars {
        assert_eq!(reader.asked(*liar).len(), 1);
    }
    let honest = reader.peer(says(5), 5);
    assert!(reader.asked(honest).is_empty());
    reader.pass(T);
    let asked = reader.asked(honest);
    assert_eq!(asked.len(), 1);
    // The liars get no requests meanwhile, and later no longer prevent requests to others.
    for liar in &liars {
        assert!(reader.asked(*liar).is_empty());
    }
    reader.answer(honest, &asked[0]);
    assert!(matches!(reader.outcome(get), Some(Ok(Outcome::Block(_)))));
    reader.pass(T);
    let get = reader.machine.wait(Kind::Block(1));
    assert_eq!(reader.asked(honest).len(), 1);
    assert!(reader.outcome(get).is_none());
}

#[test]
fn a_peer_that_stays_silent_is_let_go() {
    let mut reader = Reader::synced(5);
    let liar = reader.peer(says(5), 5);
    let _get = reader.machine.wait(Kind::Block(0));
    let mut asked_at = Vec::new();
    for second in 0..=164 {
        if !reader.asked(liar).is_empty() {
            asked_at.push(second);
        }
        assert!(reader.machine.ending(liar).is_none(), "{second}");
        reader.pass(Duration::from_secs(1));
    }
    // After pauses of one, two and four times the time-out.
    assert_eq!(asked_at, [0, 30, 75, 150]);
    let ending = reader.machine.ending(liar);
    assert!(
        matches!(ending, Some(Ending::Failed(PeerError::Unresponsive))),
        "{ending:?}"
    );
    assert_eq!(reader.count(is_paused), 3);
    assert_eq!(reader.count(is_timed_out), 4);
    assert_eq!(reader.machine.next_deadline(), None);
}

#[test]
fn a_slow_link_is_not_punished_while_it_moves() {
    let mut reader = Reader::synced(64);
    let slow = reader.peer(says(64), 64);
    let all = reader.machine.wait(Kind::Blocks(0, Some(64)));
    let mut waiting: VecDeque<Request> = VecDeque::new();
    let mut most = 0;
    for _ in 0..1_000 {
        for message in reader.take(slow) {
            match message {
                Message::Request(request) => waiting.push_back(request),
                Message::Cancel(cancel) => waiting.retain(|it| it.id != cancel.request),
                _ => {}
            }
        }
        most = most.max(waiting.len());
        let Some(request) = waiting.pop_front() else {
            break;
        };
        reader.pass(T - Duration::from_secs(1));
        // It may have just timed out, and be answered all the same.
        reader.answer(slow, &request);
    }
    assert!(reader.outcome(all).is_some());
    assert_eq!(most, 64);
    // Slow requests were cancelled, for others to be asked; the peer was never paused.
    assert!(reader.count(is_timed_out) > 0);
    assert_eq!(reader.count(is_paused), 0);
    assert_eq!(reader.machine.core.info().unwrap().held, 64);
}

#[test]
fn what_one_peer_withholds_is_asked_of_another() {
    let mut reader = Reader::synced(64);
    let chooser = reader.peer(says(64), 64);
    let _all = reader.machine.wait(Kind::Blocks(0, Some(64)));
    let asked = reader.asked(chooser);
    assert_eq!(asked.len(), 64);
    let held_back = asked[7].block.unwrap().index;
    for request in asked[..63].iter().filter(|it| it.id != asked[7].id) {
        reader.answer(chooser, request);
    }
    reader.pass(T - Duration::from_secs(1));
    reader.answer(chooser, &asked[63]);
    assert_eq!(reader.count(is_timed_out), 0);
    reader.pass(Duration::from_secs(1));
    assert_eq!(reader.count(is_timed_out), 1);
    assert_eq!(reader.count(is_paused), 0);
    // It is not asked again for the block that it withheld.
    assert!(reader.asked(chooser).is_empty());
    let honest = reader.peer(says(64), 64);
    let asked = reader.asked(honest);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].block.unwrap().index, held_back);
}

#[test]
fn a_peer_that_rewrites_its_history_is_not_left_alone_for_it() {
    let mut reader = Reader::synced(64);
    let honest = reader.peer(says(64), 64);
    let _all = reader.machine.wait(Kind::Blocks(0, None));
    let asked = reader.asked(honest);
    assert_eq!(asked.len(), 64);
    reader.source.truncate(60, None).unwrap();
    let state = reader.state();
    reader.say(honest, state);
    for request in asked {
        reader.refuse(honest, request.id);
    }
    assert_eq!(reader.count(is_paused), 0);
    assert_eq!(reader.asked(honest).len(), 1);
}

/// Whether the peer is sent a want that covers a block.
fn wants(messages: &[Message], block: u64) -> bool {
    messages.iter().any(|message| match message {
        Message::Want(want) => (want.start..want.start + want.length).contains(&block),
        _ => false,
    })
}

/// Node does not announce a block that it believes to be here (`broadcastRange` in hypercore 10.38.2 and 11.37.1,
/// `lib/replicator.js`). Right after it has truncated its core it still believes what was true of the previous history.
#[test]
fn blocks_that_a_peer_believes_to_be_here_are_asked_about_after_a_truncation() {
    let mut reader = Reader::synced(64);
    let writer = reader.peer(says(64), 0);
    let _all = reader.machine.wait(Kind::Blocks(0, None));
    assert!(wants(&reader.take(writer), 63));
    reader.say(writer, have(0, 64));
    for request in reader.asked(writer) {
        reader.answer(writer, &request);
    }
    assert_eq!(reader.machine.core.contiguous_length(), 64);

    reader.source.truncate(60, None).unwrap();
    let state = reader.state();
    reader.say(writer, state);
    reader.say(
        writer,
        RangeMessage {
            drop: true,
            ..have(60, 4)
        },
    );
    reader.source.append(&[[1], [2]]).unwrap();
    for _ in 0..8 {
        let state = reader.state();
        reader.say(writer, state);
        let sent = reader.take(writer);
        if wants(&sent, 61) {
            reader.say(writer, have(60, 2));
        }
        for request in requests(&sent) {
            reader.answer(writer, request);
        }
    }
    let core = &reader.machine.core;
    assert_eq!((core.fork(), core.contiguous_length()), (1, 62));
}

#[test]
fn a_cleared_block_is_asked_about_again() {
    let mut reader = Reader::synced(64);
    let other = reader.peer(says(64), 0);
    let _all = reader.machine.wait(Kind::Blocks(0, Some(64)));
    assert!(wants(&reader.take(other), 63));
    reader.say(other, have(0, 10));
    reader.say(other, have(11, 53));
    for request in reader.asked(other) {
        reader.answer(other, &request);
    }
    // The last one comes from elsewhere. If the peer fetches it from here, it has no reason to announce it.
    let request = Request {
        block: Some(RequestBlock {
            index: 10,
            nodes: 0,
        }),
        ..Request::default()
    };
    let data = reader.source.core.create_proof(&request).unwrap().unwrap();
    reader.machine.core.verify_and_apply(&data).unwrap();

    reader.machine.clear(10..11).unwrap();
    let sent = reader.take(other);
    assert!(wants(&sent, 10), "{sent:?}");
}

#[test]
fn an_answer_that_comes_too_late_is_taken() {
    let mut reader = Reader::synced(5);
    let slow = reader.peer(says(5), 5);
    let get = reader.machine.wait(Kind::Block(2));
    let asked = reader.asked(slow);
    reader.pass(T);
    assert_eq!(reader.count(is_paused), 1);
    reader.pass(Duration::from_secs(3));
    reader.answer(slow, &asked[0]);
    assert!(matches!(reader.outcome(get), Some(Ok(Outcome::Block(_)))));
    // It may be asked again at once.
    let _get = reader.machine.wait(Kind::Block(3));
    assert_eq!(reader.asked(slow).len(), 1);
}

#[test]
fn a_peer_whose_task_nobody_polls_does_not_stop_the_others() {
    let mut reader = Reader::empty(5);
    let dead = reader.peer(reader.state(), 5);
    // Its outgoing messages are never taken.
    let honest = reader.peer(reader.state(), 5);
    let get = reader.machine.wait(Kind::Block(3));
    assert!(reader.asked(honest).is_empty());
    reader.pass(T);
    for _ in 0..3 {
        for request in reader.asked(honest) {
            reader.answer(honest, &request);
            let state = reader.state();
            reader.say(honest, state);
        }
    }
    assert!(matches!(reader.outcome(get), Some(Ok(Outcome::Block(_)))));
    assert!(reader.machine.has_work(dead));
}

/// The messages of a peer in each turn.
type Says<'a> = &'a dyn Fn(u64) -> Vec<Message>;

/// Counts the requests that a peer provokes by refusing each and then announcing something.
fn loops(reader: &mut Reader, peer: PeerId, again: impl Fn(u64) -> Vec<Message>) -> usize {
    let mut count = 0;
    for turn in 0..2_000 {
        for request in reader.asked(peer) {
            count += 1;
            reader.refuse(peer, request.id);
            for message in again(turn) {
                reader.say(peer, message);
            }
        }
    }
    count
}

#[test]
fn a_peer_that_refuses_what_it_announces_is_left_alone() {
    let announcements: [Says; 3] = [
        &|_| vec![have(0, 5).into()],
        &|_| vec![have(2, 1).into()],
        &|_| {
            vec![
                Bitfield {
                    start: 0,
                    bitfield: vec![0b11111],
                }
                .into(),
            ]
        },
    ];
    for again in announcements {
        let mut reader = Reader::synced(5);
        let peer = reader.peer(says(5), 5);
        let _get = reader.machine.wait(Kind::Block(2));
        assert_eq!(loops(&mut reader, peer, again), 32);
        assert_eq!(reader.count(is_paused), 1);
    }
    let lies: [(Sync, Says); 3] = [
        (
            Sync {
                can_upgrade: true,
                remote_length: 5,
                ..says(9)
            },
            &|_| {
                let sync = Sync {
                    can_upgrade: true,
                    remote_length: 5,
                    ..says(9)
                };
                vec![sync.into()]
            },
        ),
        (Sync { fork: 7, ..says(9) }, &|_| {
            let sync = Sync { fork: 7, ..says(9) };
            vec![sync.into()]
        }),
        (Sync { fork: 7, ..says(9) }, &|turn| {
            let sync = Sync {
                fork: 8 + turn,
                ..says(9)
            };
            vec![sync.into()]
        }),
    ];
    for (lie, again) in lies {
        let mut reader = Reader::synced(5);
        let peer = reader.peer(lie, 0);
        assert_eq!(loops(&mut reader, peer, again), 32, "{lie:?}");
        assert_eq!(reader.count(is_paused), 1);
    }
}

#[test]
fn a_peer_that_keeps_refusing_is_let_go() {
    let mut reader = Reader::synced(5);
    let peer = reader.peer(says(5), 5);
    let _get = reader.machine.wait(Kind::Block(2));
    let mut counts = Vec::new();
    for pause in [1, 2, 4] {
        counts.push(loops(&mut reader, peer, |_| vec![have(0, 5).into()]));
        reader.pass(T * pause - Duration::from_millis(1));
        reader.say(peer, have(0, 5));
        assert!(reader.asked(peer).is_empty());
        reader.pass(Duration::from_millis(1));
    }
    counts.push(loops(&mut reader, peer, |_| vec![have(0, 5).into()]));
    assert_eq!(counts, [32, 16, 16, 16]);
    let ending = reader.machine.ending(peer);
    assert!(
        matches!(ending, Some(Ending::Failed(PeerError::Refuses))),
        "{ending:?}"
    );
}

#[test]
fn the_limits_of_refusals_and_pauses_are_options() {
    for most in [1, 2, 32] {
        let options = ReplicatorOptions {
            max_refusals: most,
            max_pauses: 0,
            ..ReplicatorOptions::default()
        };
        let mut reader = Reader::empty(5).with_options(options);
        let lie = Sync {
            can_upgrade: true,
            ..says(9)
        };
        let peer = reader.peer(lie, 0);
        let count = loops(&mut reader, peer, |_| vec![lie.into()]);
        assert_eq!(count, most);
        assert!(reader.machine.ending(peer).is_some());
    }
}

#[test]
fn one_that_delivers_may_refuse_as_often() {
    let mut reader = Reader::synced(200);
    let peer = reader.peer(says(200), 200);
    let _all = reader.machine.wait(Kind::Blocks(0, Some(200)));
    for _ in 0..200 {
        for request in reader.asked(peer) {
            if request.block.unwrap().index % 2 == 0 {
                reader.answer(peer, &request);
            } else {
                reader.refuse(peer, request.id);
            }
        }
    }
    assert_eq!(reader.machine.core.info().unwrap().held, 100);
    assert_eq!(reader.count(is_paused), 0);
}

#[test]
fn a_number_that_no_message_can_carry_is_refused_at_the_call() {
    let large = [
        Kind::Block(1 << 52),
        Kind::Block(1 << 53),
        Kind::Block(1 << 54),
        Kind::Block(u64::MAX),
        Kind::Seek {
            bytes: 1 << 53,
            padding: 0,
        },
        Kind::Seek {
            bytes: 1 << 60,
            padding: 0,
        },
        Kind::Seek {
            bytes: 3,
            padding: 1 << 60,
        },
        Kind::Blocks(1 << 60, None),
        Kind::Blocks(0, Some(u64::MAX)),
        Kind::Blocks(u64::MAX, Some(u64::MAX)),
        Kind::Length((1 << 52) + 1),
        Kind::Length(u64::MAX),
    ];
    for blocks in [0, 5] {
        for kind in &large {
            let mut reader = Reader::empty(blocks);
            let peer = reader.peer(reader.state(), blocks as u64);
            let id = reader.machine.wait(kind.clone());
            let outcome = reader.outcome(id);
            assert!(
                matches!(outcome, Some(Err(CoreError::TooLarge { .. }))),
                "{kind:?}: {outcome:?}"
            );
            reader.machine.cancel(id);
            check_encodable(&reader.take(peer));
        }
    }
    // The largest valid ones can be waited for, and the resulting messages can be sent.
    let largest = [
        Kind::Block((1 << 52) - 1),
        Kind::Seek {
            bytes: (1 << 53) - 1,
            padding: (1 << 53) - 1,
        },
        Kind::Blocks(1 << 52, None),
        Kind::Blocks(0, Some(1 << 52)),
        Kind::Length(1 << 52),
    ];
    for kind in largest {
        for length in [0, 5, (1 << 53) - 1] {
            let mut reader = Reader::synced(5);
            let lie = Sync {
                can_upgrade: true,
                remote_length: 5,
                ..says(length)
            };
            let peer = reader.peer(lie, length);
            let id = reader.machine.wait(kind.clone());
            assert!(reader.outcome(id).is_none(), "{kind:?}");
            check_encodable(&reader.take(peer));
        }
    }
}

fn check_encodable(messages: &[Message]) {
    for message in messages {
        let encoded = message.encode();
        assert!(encoded.is_ok(), "{message:?}: {encoded:?}");
    }
}

#[test]
fn a_peer_that_does_not_read_costs_no_more_than_its_bound() {
    let mut machine = writer(2_000);
    for block in (1..2_000).step_by(2) {
        machine.clear(block..block + 1).unwrap();
    }
    let peer = machine.add_peer(true);
    let mut at = 0;
    for turn in 0..50_000_u64 {
        if machine.is_full(peer) {
            break;
        }
        let want = |start, any| Want {
            start,
            length: 2_000,
            any,
        };
        let sync = Sync {
            fork: turn % 3,
            ..says(turn)
        };
        for message in [
            Message::from(want(0, false)),
            Message::from(want(0, true)),
            Message::from(want(turn / 4, false)),
            sync.into(),
            have(turn % 7, 2).into(),
        ] {
            machine.receive(peer, message).unwrap();
        }
        let block = (turn % 1_000) * 2;
        machine.clear(block..block + 1).unwrap();
        at = turn;
    }
    assert!(machine.is_full(peer), "at {at} nothing is read any more");
    let mut sent = 0;
    let mut bytes = 0;
    while machine.has_work(peer) {
        let messages = machine.transmit(peer, 64 * 1024).unwrap();
        let now: usize = messages.iter().map(|it| it.encode().unwrap().len()).sum();
        assert!(now <= 64 * 1024 + 256 * 1024, "{now}");
        bytes += now;
        sent += messages.len();
    }
    // A want of all of it is answered by at most one bitfield; add the runs and one sync.
    assert!(
        sent <= 2 * MAX_UNANSWERED_WANTS + 2 * MAX_RUNS + 1,
        "{sent}"
    );
    assert!(bytes <= 4 << 20, "{bytes}");
    assert!(!machine.is_full(peer));
}

#[test]
fn requests_of_a_peer_that_does_not_read_are_bounded() {
    for most in [1, 2, 1_024] {
        let options = ReplicatorOptions {
            max_requests: most,
            ..ReplicatorOptions::default()
        };
        let source = writer(4);
        let mut machine = reader_with(&source, options);
        let peer = machine.add_peer(true);
        machine.transmit(peer, 0).unwrap();
        let ask = |machine: &mut Machine, id| {
            let block = Some(RequestBlock { index: 1, nodes: 0 });
            let request = Request {
                id,
                block,
                ..Request::default()
            };
            machine.receive(peer, request.into()).unwrap();
        };
        for id in 1..=most as u64 {
            assert!(!machine.is_full(peer));
            ask(&mut machine, id);
            // A reused id replaces the earlier request.
            ask(&mut machine, id);
        }
        assert!(machine.is_full(peer));
        machine.receive(peer, Cancel { request: 1 }.into()).unwrap();
        assert!(!machine.is_full(peer));
        let answered = machine.transmit(peer, 1 << 20).unwrap();
        assert_eq!(answered.len(), most - 1);
    }
}

#[test]
fn requests_that_come_and_go_unread_leave_nothing_behind() {
    let mut reader = Reader::synced(1_000);
    let peer = reader.peer(says(1_000), 1_000);
    for block in 0..10_000 {
        let id = reader.machine.wait(Kind::Block(block % 1_000));
        reader.machine.cancel(id);
    }
    assert!(reader.take(peer).is_empty());
    // Requests that were sent are cancelled, once each.
    let ids: Vec<WaiterId> = (0..64)
        .map(|block| reader.machine.wait(Kind::Block(block)))
        .collect();
    assert_eq!(reader.asked(peer).len(), 64);
    for id in ids {
        reader.machine.cancel(id);
    }
    for block in 0..10_000 {
        let id = reader.machine.wait(Kind::Block(block % 1_000));
        reader.machine.cancel(id);
    }
    assert_eq!(reader.take(peer).len(), 64);
}

#[test]
fn a_frozen_core_says_so_to_all_who_wait() {
    let mut reader = Reader::synced(5);
    reader.peer(says(9), 5);
    let kinds = [
        Kind::Block(7),
        Kind::Blocks(0, None),
        Kind::Length(9),
        Kind::Seek {
            bytes: 1 << 20,
            padding: 0,
        },
        Kind::Update { length: 5, fork: 0 },
    ];
    let waiting: Vec<WaiterId> = kinds
        .iter()
        .map(|kind| reader.machine.wait(kind.clone()))
        .collect();
    reader.machine.store_failed(&CoreError::Frozen);
    for (id, kind) in waiting.into_iter().zip(&kinds) {
        let outcome = reader.outcome(id);
        assert!(
            matches!(outcome, Some(Err(CoreError::Frozen))),
            "{kind:?}: {outcome:?}"
        );
    }
}

#[test]
fn the_memory_of_what_a_peer_claims_is_an_option() {
    for (max_claims, pages) in [(0, 1), (4_096, 1), (8_191, 1), (8_192, 2), (1 << 20, 64)] {
        let options = ReplicatorOptions {
            max_claims,
            ..ReplicatorOptions::default()
        };
        let mut reader = Reader::empty(5).with_options(options.checked());
        let peer = reader.peer(says(1 << 50), 0);
        for at in 0..64 {
            reader.say(peer, have(1 + at * 32_768, 1));
        }
        let (_, peer) = reader.machine.peers().next().unwrap();
        assert_eq!(peer.has.page_count(), pages, "{max_claims}");
    }
}

/// A store that can be made to fail.
#[derive(Default)]
struct Failing {
    store: Memory,
    is_full: Arc<std::sync::atomic::AtomicBool>,
    /// No tree node can be read.
    unreadable: Arc<std::sync::atomic::AtomicBool>,
    /// Block 1 is read as another value.
    damaged: Arc<std::sync::atomic::AtomicBool>,
    /// Node 11 of the tree, above blocks 4 to 8, is missing.
    lacks_node: Arc<std::sync::atomic::AtomicBool>,
    /// Node 4 of the tree, the leaf of block 2, is damaged.
    has_damaged_node: Arc<std::sync::atomic::AtomicBool>,
}

impl crate::replication::Storage for Failing {
    fn header(&self) -> Result<Option<crate::replication::Header>, StorageError> {
        self.store.header()
    }

    fn secret(&self) -> Result<Option<crate::replication::Header>, StorageError> {
        self.store.secret()
    }

    fn node(&self, index: u64) -> Result<Option<crate::wire::Node>, StorageError> {
        if self.unreadable.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(StorageError::failed(std::io::Error::other("EIO")));
        }
        if self
            .has_damaged_node
            .load(std::sync::atomic::Ordering::SeqCst)
            && index == 4
        {
            return Err(StorageError::damaged("tree node 4 is damaged"));
        }
        if self.lacks_node.load(std::sync::atomic::Ordering::SeqCst) && index == 11 {
            return Ok(None);
        }
        self.store.node(index)
    }

    fn has_node(&self, index: u64) -> Result<bool, StorageError> {
        Ok(self.node(index)?.is_some())
    }

    fn block(&self, index: u64) -> Result<Option<Buffer>, StorageError> {
        if self.damaged.load(std::sync::atomic::Ordering::SeqCst) && index == 1 {
            return Ok(Some(Buffer::from("damaged")));
        }
        self.store.block(index)
    }

    fn pages(&self, take: &mut dyn FnMut(u64, &[u8])) -> Result<(), StorageError> {
        self.store.pages(take)
    }

    fn commit(
        &mut self,
        batch: crate::replication::Batch,
        durability: crate::replication::Durability,
    ) -> Result<(), StorageError> {
        if self.is_full.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(StorageError::failed(std::io::Error::from(
                std::io::ErrorKind::StorageFull,
            )));
        }
        self.store.commit(batch, durability)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.store.flush()
    }
}

#[test]
fn all_who_wait_are_told_that_the_store_failed() {
    let source = writer(5);
    let store = Failing::default();
    let is_full = Arc::clone(&store.is_full);
    let core = Core::open(store, CoreOptions::reader(*source.core.key())).unwrap();
    let mut reader = Reader {
        machine: Machine::new(core, ReplicatorOptions::default()),
        source,
        now: Duration::ZERO,
    };
    let peer = reader.peer(reader.state(), 5);
    let request = reader.asked(peer).remove(0);
    reader.answer(peer, &request);
    let state = reader.state();
    reader.say(peer, state);
    let other = reader.peer(reader.state(), 5);
    let kinds = [
        Kind::Block(3),
        Kind::Block(2),
        Kind::Blocks(0, Some(5)),
        Kind::Length(9),
        Kind::Update { length: 5, fork: 0 },
        Kind::Seek {
            bytes: 20,
            padding: 0,
        },
    ];
    is_full.store(true, std::sync::atomic::Ordering::SeqCst);
    // An update of nothing new ends by itself.
    let expected = reader.machine.expect_peer();
    let waiting: Vec<WaiterId> = kinds
        .iter()
        .map(|kind| reader.machine.wait(kind.clone()))
        .collect();
    let asked = reader.asked(peer);
    let asked_of_other = reader.asked(other);
    let data = reader.source.core.create_proof(&asked[0]).unwrap().unwrap();
    let ended = reader.machine.receive(peer, data.into());
    assert!(
        matches!(ended, Err(PeerError::Core(CoreError::Storage(_)))),
        "{ended:?}"
    );
    for (id, kind) in waiting.into_iter().zip(&kinds) {
        let outcome = reader.outcome(id);
        assert!(
            matches!(outcome, Some(Err(CoreError::Storage(_)))),
            "{kind:?}: {outcome:?}"
        );
    }
    let is_store = |event: &ReplicatorEvent| matches!(event, ReplicatorEvent::StoreFailed(_));
    assert_eq!(reader.count(is_store), 1);
    // The other peer's requests that have no waiter any more are cancelled.
    let taken_back = reader.take(other);
    let is_cancel = |message: &&Message| matches!(message, Message::Cancel(_));
    let blocks = asked_of_other.iter().filter(|it| it.block.is_some());
    assert_eq!(taken_back.iter().filter(is_cancel).count(), blocks.count());
    // New requests succeed once there is room again.
    is_full.store(false, std::sync::atomic::Ordering::SeqCst);
    reader.machine.remove_peer(peer);
    let get = reader.machine.wait(Kind::Block(3));
    for request in reader.asked(other) {
        reader.answer(other, &request);
    }
    assert!(matches!(reader.outcome(get), Some(Ok(Outcome::Block(_)))));
    reader.machine.unexpect_peer(expected);
}

/// The machine of a core that serves five blocks of a store that can be made to fail.
fn serving(store: Failing) -> Machine {
    let mut core = Core::open(store, CoreOptions::default()).unwrap();
    let blocks: Vec<Vec<u8>> = (0..5).map(|at| vec![at; 10]).collect();
    core.append(&blocks).unwrap();
    Machine::new(core, ReplicatorOptions::default())
}

#[test]
fn what_is_appended_is_appended_though_the_store_fails_when_peers_are_told() {
    let store = Failing::default();
    let unreadable = Arc::clone(&store.unreadable);
    let mut machine = serving(store);
    let peer = machine.add_peer(true);
    // Whether it can be upgraded is looked up in the tree.
    machine.receive(peer, says(3).into()).unwrap();
    unreadable.store(true, std::sync::atomic::Ordering::SeqCst);
    let appended = machine.append(&["once"]).expect("it is stored and signed");
    assert_eq!((appended.start, appended.length), (5, 6));
    assert_eq!(machine.core.length(), 6);
    let mut events = machine.events.drain(..);
    assert!(events.any(|event| matches!(event, ReplicatorEvent::StoreFailed(_))));
}

#[test]
fn peers_of_which_the_store_can_be_asked_are_told_though_it_fails_for_others() {
    let has = |messages: &[Message], message: Message| {
        assert!(messages.contains(&message), "{messages:?}");
    };
    let unreadable = |machine: &mut Machine, store: &Arc<std::sync::atomic::AtomicBool>| {
        // For this peer an upgrade is looked up in the tree; for the other there is nothing to look up.
        let (shorter, empty) = (machine.add_peer(true), machine.add_peer(true));
        machine.receive(shorter, says(3).into()).unwrap();
        machine.receive(empty, says(0).into()).unwrap();
        machine.transmit(empty, 1 << 20).unwrap();
        store.store(true, std::sync::atomic::Ordering::SeqCst);
        (shorter, empty)
    };
    let is_let_go = |machine: &Machine, peer| {
        let ending = machine.ending(peer);
        assert!(
            matches!(ending, Some(Ending::Failed(PeerError::Core(_)))),
            "{ending:?}"
        );
    };

    let store = Failing::default();
    let fails = Arc::clone(&store.unreadable);
    let mut machine = serving(store);
    machine.clear(1..2).unwrap();
    let (shorter, empty) = unreadable(&mut machine, &fails);
    machine.append(&["once"]).unwrap();
    is_let_go(&machine, shorter);
    assert!(machine.ending(empty).is_none());
    let told = machine.transmit(empty, 1 << 20).unwrap();
    has(&told, have(5, 1).into());

    // The same with a block from a peer.
    let mut source = writer(5);
    let store = Failing::default();
    let fails = Arc::clone(&store.unreadable);
    let core = Core::open(store, CoreOptions::reader(*source.core.key())).unwrap();
    let mut machine = Machine::new(core, ReplicatorOptions::default());
    let proof = |source: &mut Machine, start, length, block| {
        let request = Request {
            id: 1,
            block: Some(RequestBlock {
                index: block,
                nodes: 0,
            }),
            upgrade: Some(RequestUpgrade { start, length }),
            manifest: start == 0,
            ..Request::default()
        };
        source.core.create_proof(&request).unwrap().unwrap()
    };
    machine
        .core
        .verify_and_apply(&proof(&mut source, 0, 5, 4))
        .unwrap();
    source.append(&["six"]).unwrap();
    let giver = machine.add_peer(true);
    let theirs = Sync {
        can_upgrade: true,
        remote_length: 5,
        ..says(6)
    };
    let (shorter, empty) = unreadable(&mut machine, &fails);
    fails.store(false, std::sync::atomic::Ordering::SeqCst);
    machine.wait(Kind::Block(5));
    machine.receive(giver, have(5, 1).into()).unwrap();
    machine.receive(giver, theirs.into()).unwrap();
    let sent = machine.transmit(giver, 1 << 20).unwrap();
    let asked = requests(&sent).next().expect("it is asked").clone();
    let data = source.core.create_proof(&asked).unwrap().unwrap();
    // From the commit on.
    fails.store(true, std::sync::atomic::Ordering::SeqCst);
    let taken = machine.receive(giver, data.into());
    assert!(matches!(taken, Err(PeerError::Core(_))), "{taken:?}");
    assert_eq!(machine.core.length(), 6);
    is_let_go(&machine, shorter);
    let told = machine.transmit(empty, 1 << 20).unwrap();
    has(&told, have(5, 1).into());
}

/// A node with an unbound size is not held, though its sibling is.
#[test]
fn a_seek_below_a_node_that_is_not_held_leads_to_one_that_is() {
    let source = writer(8);
    let store = Failing::default();
    let lacks_node = Arc::clone(&store.lacks_node);
    let core = Core::open(store, CoreOptions::reader(*source.core.key())).unwrap();
    let mut reader = Reader {
        machine: Machine::new(core, ReplicatorOptions::default()),
        source,
        now: Duration::ZERO,
    };
    let request = Request {
        block: Some(RequestBlock { index: 0, nodes: 0 }),
        upgrade: Some(RequestUpgrade {
            start: 0,
            length: 8,
        }),
        manifest: true,
        ..Request::default()
    };
    let data = reader.source.core.create_proof(&request).unwrap().unwrap();
    reader.machine.core.verify_and_apply(&data).unwrap();
    lacks_node.store(true, std::sync::atomic::Ordering::SeqCst);
    let bytes = reader.source.core.byte_length() - 1;
    let seek = reader.machine.wait(Kind::Seek { bytes, padding: 0 });
    let peer = reader.peer(reader.state(), 8);
    for _ in 0..4 {
        for request in reader.asked(peer) {
            // It is refused if the proof leads to a node that is not held.
            reader.answer(peer, &request);
        }
    }
    let found = reader.outcome(seek);
    assert!(matches!(found, Some(Ok(Outcome::Found(7, _)))), "{found:?}");
}

#[test]
fn a_damaged_node_of_the_tree_costs_no_peer() {
    let store = Failing::default();
    let damaged = Arc::clone(&store.has_damaged_node);
    let mut machine = serving(store);
    damaged.store(true, std::sync::atomic::Ordering::SeqCst);
    let peer = machine.add_peer(true);
    machine.receive(peer, says(3).into()).unwrap();
    machine.append(&["once"]).unwrap();
    assert!(machine.ending(peer).is_none());
    let told = machine.transmit(peer, 1 << 20).unwrap();
    let is_told = |message: &Message| matches!(message, Message::Sync(sync) if sync.length == 6 && !sync.can_upgrade);
    assert!(told.iter().any(is_told), "{told:?}");
    let mut events = machine.events.drain(..);
    assert!(events.any(|event| matches!(event, ReplicatorEvent::StoreFailed(_))));
}

#[test]
fn a_damaged_block_is_denied_and_the_others_are_served() {
    let store = Failing::default();
    let damaged = Arc::clone(&store.damaged);
    let mut machine = serving(store);
    let peer = machine.add_peer(true);
    machine.receive(peer, says(0).into()).unwrap();
    machine.transmit(peer, 1 << 20).unwrap();
    damaged.store(true, std::sync::atomic::Ordering::SeqCst);
    for block in [1, 2] {
        let request = Request {
            id: block,
            block: Some(RequestBlock {
                index: block,
                nodes: 0,
            }),
            ..Request::default()
        };
        machine.receive(peer, request.into()).unwrap();
    }
    let answers = machine.transmit(peer, 1 << 20).expect("the peer stays");
    let denied = NoData {
        request: 1,
        reason: NoData::NOT_AVAILABLE,
    };
    assert!(answers.contains(&denied.into()), "{answers:?}");
    let served = answers.iter().any(
        |answer| matches!(answer, Message::Data(data) if data.request == 2 && data.block.is_some()),
    );
    assert!(served, "{answers:?}");
    let mut events = machine.events.drain(..);
    assert!(events.any(|event| matches!(event, ReplicatorEvent::StoreFailed(_))));
}
