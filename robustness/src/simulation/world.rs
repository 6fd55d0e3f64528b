//! A running world: its peers, their links, and the expected state of the writer's core.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use hypercore_protocol::replication::{
    Core, CoreError, CoreOptions, Replicator, ReplicatorOptions,
};
use hypercore_protocol::runtime::Timer;
use hypercore_protocol::schema::{Data, Request};
use hypercore_protocol::{Connection, Key, KeyPair, ProtocolBuilder};

use super::executor::{Clock, Sim};
use super::link::{LinkControl, LinkOptions, SimIo, link};
use super::plan::{CALM, Plan, Role, WRITER, Want};
use super::random::Random;
use super::store::SimStore;
use super::{honest, liar};

/// The expected state of the writer's core: only acknowledged changes count.
#[derive(Default)]
pub(crate) struct Model {
    /// Its current blocks.
    pub(crate) blocks: Vec<Vec<u8>>,
    pub(crate) fork: u64,
    /// All values that a block ever had.
    pub(crate) ever: BTreeMap<u64, Vec<Vec<u8>>>,
    /// Sizes of the blocks of each fork, at its longest.
    pub(crate) sizes: Vec<Vec<u64>>,
    /// Blocks that the writer may have cleared.
    pub(crate) cleared: Vec<u64>,
}

impl Model {
    pub(crate) fn append(&mut self, blocks: Vec<Vec<u8>>) {
        for block in blocks {
            let index = self.blocks.len() as u64;
            self.ever.entry(index).or_default().push(block.clone());
            self.blocks.push(block);
        }
        self.note_sizes();
    }

    pub(crate) fn truncate(&mut self, length: u64, fork: u64) {
        self.blocks
            .truncate(usize::try_from(length).expect("a length"));
        self.fork = fork;
        self.cleared.retain(|block| *block < length);
        self.note_sizes();
    }

    fn note_sizes(&mut self) {
        let sizes = self.blocks.iter().map(|block| block.len() as u64).collect();
        let fork = usize::try_from(self.fork).expect("few forks");
        self.sizes.resize(fork + 1, Vec::new());
        self.sizes[fork] = sizes;
    }

    /// Whether the byte is, or was, at this position.
    pub(crate) fn is_at(&self, byte: u64, block: u64, offset: u64) -> bool {
        self.sizes.iter().any(|sizes| {
            let block = usize::try_from(block).expect("a block");
            let before: u64 = sizes.iter().take(block).sum();
            block <= sizes.len()
                && before + offset == byte
                // The first byte of an empty block is that of the next one, and the one after the last is in the block
                // after the last.
                && (offset == 0 || sizes.get(block).is_some_and(|size| offset < *size))
        })
    }
}

/// Something that a reader waits for.
#[derive(Debug)]
pub(crate) struct Waited {
    pub(crate) peer: usize,
    pub(crate) want: Want,
    /// The byte of a seek.
    pub(crate) byte: u64,
    pub(crate) is_done: bool,
}

/// A peer of ours.
pub(crate) struct Peer {
    pub(crate) id: usize,
    pub(crate) role: Role,
    pub(crate) slow: Option<Duration>,
    pub(crate) store: SimStore,
    /// Its store fails permanently, from some time on.
    pub(crate) is_broken: Cell<bool>,
    /// Its store failed at times, or lost power, or blocks were cleared.
    pub(crate) may_forget: Cell<bool>,
    pub(crate) has_store_faults: Cell<bool>,
    options: CoreOptions,
    clock: Clock,
    replicator: RefCell<Option<Replicator>>,
    /// Counts crashes and starts.
    epoch: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Peer {
    pub(crate) fn new(
        sim: &Sim,
        id: usize,
        role: Role,
        slow: Option<Duration>,
        options: CoreOptions,
    ) -> Self {
        Self {
            id,
            role,
            slow,
            store: SimStore::default(),
            is_broken: Cell::new(false),
            may_forget: Cell::new(false),
            has_store_faults: Cell::new(false),
            options,
            clock: sim.clock().clone(),
            replicator: RefCell::new(None),
            epoch: Cell::new(0),
            waiting: RefCell::default(),
        }
    }

    pub(crate) fn replicator(&self) -> Option<Replicator> {
        self.replicator.borrow().clone()
    }

    pub(crate) fn start(&self) -> Result<(), CoreError> {
        let core = Core::open(self.store.clone(), self.options.clone())?;
        let mut options = ReplicatorOptions::default();
        options.clock = Arc::new(self.clock.clone());
        let replicator = Replicator::with_options(core, options);
        *self.replicator.borrow_mut() = Some(replicator);
        self.turn();
        Ok(())
    }

    pub(crate) fn stop(&self) {
        let replicator = self.replicator.borrow_mut().take();
        drop(replicator);
        self.turn();
    }

    fn turn(&self) {
        self.epoch.set(self.epoch.get() + 1);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// The output of a future, or `None` if the peer crashes or restarts before.
    pub(crate) async fn while_up<F: Future>(&self, future: F) -> Option<F::Output> {
        let epoch = self.epoch.get();
        let mut future = pin!(future);
        poll_fn(|cx| {
            if self.epoch.get() != epoch {
                return Poll::Ready(None);
            }
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// The replicator, once the peer is up.
    pub(crate) async fn up(&self) -> Replicator {
        loop {
            if let Some(replicator) = self.replicator() {
                return replicator;
            }
            self.while_up(std::future::pending::<()>()).await;
        }
    }

    /// Polls a future at the peer's pace.
    pub(crate) async fn at_its_pace<F: Future>(&self, sim: &Sim, future: F) -> F::Output {
        let Some(pause) = self.slow else {
            return future.await;
        };
        let mut future = pin!(future);
        let mut timer = sim.clock().timer();
        let mut next = Duration::ZERO;
        poll_fn(|cx| {
            if timer.poll_deadline(cx, Some(next)).is_pending() {
                return Poll::Pending;
            }
            next = sim.now() + pause;
            future.as_mut().poll(cx)
        })
        .await
    }
}

pub(crate) struct World {
    pub(crate) sim: Sim,
    pub(crate) key: Key,
    seed: u64,
    is_encrypted: bool,
    pub(crate) peers: BTreeMap<usize, Rc<Peer>>,
    /// The linked pairs, whether or not they are currently connected.
    pub(crate) links: Vec<(usize, usize)>,
    controls: RefCell<BTreeMap<usize, LinkControl>>,
    pub(crate) model: RefCell<Model>,
    pub(crate) waited: RefCell<Vec<Waited>>,
    /// Blocks that were returned to a caller and must never be lost again: peer, block and fork.
    pub(crate) handed_out: RefCell<Vec<(usize, u64, u64)>>,
    pub(crate) failures: RefCell<Vec<String>>,
    /// The last block was appended.
    pub(crate) is_complete: Cell<bool>,
    connections: Cell<u64>,
    asked_of_liars: Cell<u64>,
}

impl World {
    pub(crate) fn new(plan: &Plan, sim: &Sim) -> Result<Self, CoreError> {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&plan.seed.to_le_bytes());
        let options = CoreOptions {
            compat: plan.is_compat,
            ..CoreOptions::writer(KeyPair::from_seed(&seed))
        };
        let writer = Peer::new(sim, WRITER, Role::Seeder, None, options);
        writer.start()?;
        let key = writer.replicator().expect("it was started").key();
        Ok(Self {
            sim: sim.clone(),
            key,
            seed: plan.seed,
            is_encrypted: plan.is_encrypted,
            peers: BTreeMap::from([(WRITER, Rc::new(writer))]),
            links: Vec::new(),
            controls: RefCell::default(),
            model: RefCell::new(Model {
                sizes: vec![Vec::new()],
                ..Model::default()
            }),
            waited: RefCell::default(),
            handed_out: RefCell::default(),
            failures: RefCell::default(),
            is_complete: Cell::new(false),
            connections: Cell::new(0),
            asked_of_liars: Cell::new(0),
        })
    }

    pub(crate) fn add_peer(&mut self, id: usize, role: Role, slow: Option<Duration>) {
        let peer = Peer::new(&self.sim, id, role, slow, CoreOptions::reader(self.key));
        if !matches!(role, Role::Liar(_)) {
            peer.start().expect("a new store has no faults yet");
        }
        self.peers.insert(id, Rc::new(peer));
    }

    pub(crate) fn fail(&self, failure: impl Into<String>) {
        let now = self.sim.now();
        let failure = failure.into();
        self.failures
            .borrow_mut()
            .push(format!("{failure} (at {now:?})"));
    }

    pub(crate) fn writer(&self) -> &Rc<Peer> {
        &self.peers[&WRITER]
    }

    /// The writer's fork and length, as far as it is up.
    pub(crate) fn truth(&self) -> (u64, u64) {
        let model = self.model.borrow();
        (model.fork, model.blocks.len() as u64)
    }

    /// A correct answer to a request.
    pub(crate) fn prove(&self, request: &Request) -> Option<Data> {
        let replicator = self.writer().replicator()?;
        replicator
            .with_core(|core| core.create_proof(request))
            .ok()?
    }

    pub(crate) fn liar_asked(&self) {
        self.asked_of_liars.set(self.asked_of_liars.get() + 1);
    }

    pub(crate) fn asked_of_liars(&self) -> u64 {
        self.asked_of_liars.get()
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections.get()
    }

    pub(crate) fn break_link(&self, link: usize, fault: super::link::LinkFault) {
        if let Some(control) = self.controls.borrow().get(&link) {
            control.apply(fault, self.sim.now());
        }
    }

    fn builder(&self, connection: u64, peer: usize, is_initiator: bool) -> ProtocolBuilder {
        // Small buffers, so that they fill quickly.
        let builder = ProtocolBuilder::new(is_initiator)
            .send_buffer(8192)
            .receive_buffer(8192)
            .idle_timeout(Some(Duration::from_secs(20)))
            .close_timeout(Duration::from_secs(5));
        if self.is_encrypted {
            let mut seed = [1; 32];
            seed[..8].copy_from_slice(&self.seed.to_le_bytes());
            seed[8..16].copy_from_slice(&(peer as u64).to_le_bytes());
            builder.seed(seed)
        } else {
            let mut hash = [0; 64];
            hash[..8].copy_from_slice(&self.seed.to_le_bytes());
            hash[8..16].copy_from_slice(&connection.to_le_bytes());
            builder.unencrypted(hash)
        }
    }

    /// Keeps a link up as an application would: dials again after a delay that grows.
    pub(crate) async fn keep_linked(
        self: Rc<Self>,
        id: usize,
        dialler: Rc<Peer>,
        accepter: Rc<Peer>,
        options: LinkOptions,
        mut random: Random,
    ) {
        let shortest = Duration::from_millis(100);
        let mut pause = shortest;
        loop {
            let is_up =
                |peer: &Peer| matches!(peer.role, Role::Liar(_)) || peer.replicator().is_some();
            if is_up(&dialler) && is_up(&accepter) {
                let number = self.connections.get() + 1;
                self.connections.set(number);
                let (ours, theirs, control) = link(self.sim.clock(), options, &mut random);
                self.controls.borrow_mut().insert(id, control);
                let run = |peer: &Rc<Peer>, io: SimIo, is_initiator: bool, random: Random| {
                    let builder = self.builder(number, peer.id, is_initiator);
                    Rc::clone(&self).connected(Rc::clone(peer), builder, io, random)
                };
                let name = format!("peer {} accepts on link {id}", accepter.id);
                let accepted = run(&accepter, theirs, false, Random::new(random.next(), 3));
                self.sim.spawn(name, accepted);
                let since = self.sim.now();
                run(&dialler, ours, true, Random::new(random.next(), 4)).await;
                if self.sim.now() - since > Duration::from_secs(15) {
                    pause = shortest;
                }
            }
            self.sim.sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(8));
        }
    }

    async fn connected(
        self: Rc<Self>,
        peer: Rc<Peer>,
        builder: ProtocolBuilder,
        io: SimIo,
        random: Random,
    ) {
        match peer.role {
            Role::Liar(lie) => {
                let connection = Connection::new(builder.into_config(), self.sim.now());
                liar::lie(self, lie, io, connection, random).await;
            }
            _ => honest::serve(self, peer, builder.connect_with(io), random).await,
        }
    }

    // Conditions at the end

    /// Whether the two are linked.
    fn neighbours(&self, of: usize) -> impl Iterator<Item = &Rc<Peer>> {
        let others = self.links.iter().filter_map(move |(one, other)| match of {
            _ if *one == of => Some(other),
            _ if *other == of => Some(one),
            _ => None,
        });
        let peers = others.filter_map(|id| self.peers.get(id));
        peers.filter(|peer| peer.is_honest() && !peer.is_broken.get())
    }

    /// The honest peers that news of the writer can reach: from seeder to seeder, and from a seeder to a reader.
    pub(crate) fn reached(&self) -> Vec<&Rc<Peer>> {
        let mut reached = vec![WRITER];
        let mut at = 0;
        while let Some(id) = reached.get(at).copied() {
            at += 1;
            if self.peers[&id].role == Role::Seeder {
                for peer in self.neighbours(id) {
                    if !reached.contains(&peer.id) {
                        reached.push(peer.id);
                    }
                }
            }
        }
        reached.iter().map(|id| &self.peers[id]).collect()
    }

    /// The conditions not yet met before all honest peers have what they want.
    pub(crate) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let writer = self.writer();
        let Some(core) = writer.replicator() else {
            return vec!["the writer is down".to_owned()];
        };
        let info = |replicator: &Replicator| {
            let info = replicator.info();
            info.map(|info| (info.length, info.fork, info.tree_hash))
                .map_err(|error| error.to_string())
        };
        let truth = info(&core);
        let reached = self.reached();
        for peer in &reached {
            let id = peer.id;
            let Some(replicator) = peer.replicator() else {
                missing.push(format!("peer {id} is down"));
                continue;
            };
            let state = info(&replicator);
            if state != truth {
                let at = |state: &Result<(u64, u64, [u8; 32]), String>| match state {
                    Ok((length, fork, _)) => format!("length {length}, fork {fork}"),
                    Err(error) => error.clone(),
                };
                missing.push(format!(
                    "peer {id} is at {}, the writer at {}",
                    at(&state),
                    at(&truth)
                ));
                continue;
            }
            let is_there = |block| self.is_held_near(id, block);
            if peer.role == Role::Seeder && id != WRITER {
                let gaps = (0..replicator.length())
                    .filter(|block| !replicator.with_core(|core| core.has(*block)))
                    .filter(|block| is_there(*block))
                    .collect::<Vec<_>>();
                if !gaps.is_empty() {
                    missing.push(format!(
                        "seeder {id} does not hold blocks {gaps:?}, which a peer of it holds"
                    ));
                }
            }
        }
        for waited in self.waited.borrow().iter().filter(|it| !it.is_done) {
            let id = waited.peer;
            if !reached.iter().any(|peer| peer.id == id) {
                continue;
            }
            let has = |block| {
                let own = self.peers[&id].replicator();
                own.is_some_and(|own| own.with_core(|core| core.has(block)))
                    || self.is_held_near(id, block)
            };
            let length = core.length();
            let is_due = match waited.want {
                Want::Get(block) => block < length && has(block),
                Want::Blocks(start, end) => end <= length && (start..end).all(has),
                Want::Seek(_) => {
                    core.with_core(|core| core.byte_length() > waited.byte) && (0..length).all(has)
                }
                Want::Update => true,
                Want::Length(blocks) => blocks <= length,
            };
            if is_due {
                missing.push(format!("reader {id} still waits for {:?}", waited.want));
            }
        }
        missing
    }

    /// Whether a linked honest peer holds a block.
    fn is_held_near(&self, id: usize, block: u64) -> bool {
        self.neighbours(id).any(|peer| {
            let replicator = peer.replicator();
            replicator.is_some_and(|it| it.with_core(|core| core.has(block)))
        })
    }

    /// The conditions that must hold for every peer at any time.
    pub(crate) fn check_always(&self) {
        for peer in self.peers.values().filter(|peer| peer.is_honest()) {
            let Some(replicator) = peer.replicator() else {
                continue;
            };
            if replicator.with_core(Core::is_frozen) {
                self.fail(format!(
                    "the core of peer {} is frozen, though its writer signed one history",
                    peer.id
                ));
            }
        }
    }

    /// The conditions for everything held at the end.
    pub(crate) fn check_held(&self) {
        let model = self.model.borrow();
        for peer in self.peers.values() {
            let Some(replicator) = peer.replicator().filter(|_| !peer.is_broken.get()) else {
                continue;
            };
            let (length, fork) = replicator.with_core(|core| (core.length(), core.fork()));
            if peer.id == WRITER && (length, fork) != (model.blocks.len() as u64, model.fork) {
                self.fail(format!(
                    "the writer is at length {length}, fork {fork}, and took {} blocks, fork {}",
                    model.blocks.len(),
                    model.fork
                ));
            }
            if fork != model.fork {
                continue;
            }
            peer.store.mend();
            let mut wrong = Vec::new();
            for block in 0..length {
                let expected = model.blocks.get(usize::try_from(block).expect("a block"));
                match replicator.get_held(block) {
                    Ok(None) if peer.id == WRITER && !model.cleared.contains(&block) => {
                        self.fail(format!("the writer lost block {block}"));
                    }
                    Ok(Some(value)) if expected.is_none_or(|it| *it != value.to_vec()) => {
                        wrong.push(block);
                    }
                    Ok(_) => {}
                    Err(error) => self.fail(format!("peer {}, block {block}: {error}", peer.id)),
                }
            }
            if !wrong.is_empty() {
                self.fail(format!("peer {} holds wrong blocks {wrong:?}", peer.id));
            }
        }
        for (id, block, fork) in self.handed_out.borrow().iter() {
            let peer = &self.peers[id];
            let is_kept = |replicator: Replicator| {
                let is_same = replicator.with_core(Core::fork) == *fork && model.fork == *fork;
                !is_same || replicator.with_core(|core| core.has(*block))
            };
            if !peer.may_forget.get() && !peer.replicator().is_none_or(is_kept) {
                self.fail(format!(
                    "peer {id} lost block {block}, which it had handed out"
                ));
            }
        }
    }
}

impl Peer {
    pub(crate) fn is_honest(&self) -> bool {
        !matches!(self.role, Role::Liar(_))
    }
}

/// Whether the faults are over.
pub(crate) fn is_calm(now: Duration) -> bool {
    now >= CALM
}
