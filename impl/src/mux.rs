//! Protomux: many channels over one stream of records. Sans-IO: records go in, records and events come out.
//!
//! The rules are those of protomux 3.12.1, `index.js`:
//! - each side numbers its channels from 1 and reuses ids, the last freed first; an open must name the next id or a free
//!   one (`_onopensession`).
//! - a channel is open once both sides have opened the same protocol and id. Several opens of one pair are matched in
//!   order of arrival, and a channel is also found by its aliases (`_get`, `createChannel`).
//! - messages that arrive before the local side answered an open wait for the answer (`_bufferMessage`); messages and
//!   closes for channels that are not open are ignored, for they may have been under way (`_decode`).
//! - a reject answers an open, and only an open (`_onrejectsession`).
//! - messages sent while corked form one batch (`_pushBatch`, `_sendBatch`).
//!
//! Where Node has no bound, [`Limits`] has: see there. Three more differences, none visible on the wire between honest
//! peers: a peer that opens by an alias before the local side opened is paired when the local side opens; a channel that
//! the peer closed before the local side opened it is closed again right after its messages were delivered, where Node
//! keeps it open for ever if the answer was given late; and an answer to the peer's open is reported as open at once,
//! where Node reports it after the rest of the batch that the peer's open came in.
//!
//! Events are read from a record one at a time, when [`Mux::poll_event`] is called: a record of 16 MB with five million
//! messages costs no more memory than its bytes.

mod error;
mod record;
mod send;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::buffer::Buffer;
use crate::encoding::Encode;
use crate::transport::{Outbound, TransportError};

pub use error::MuxError;
pub use record::{Batch, Packet, Raw, RecordReader};

use record::{CLOSE, CONTROL, IdBody, OPEN, OpenBody, REJECT};
use send::Sender;

/// A body smaller than this share of its record is copied out when it has to wait, so that it does not hold the record.
const DETACH_SHARE: usize = 2;

/// What a buffered message counts for beyond its bytes (protomux 3.12.1, `byteSize`).
const MESSAGE_OVERHEAD: usize = 512;

/// How many protocols' names are shared by all their channels; those of others are held by each.
const SHARED_PROTOCOLS: usize = 8;

/// Bounds on the memory that a peer can make us use. An honest peer reaches none of them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// How deep batches may be nested; deeper ones end the stream. No known sender nests them, and Node dies of 3,000.
    /// Default 64.
    pub max_nesting: usize,
    /// How many of the peer's opens may wait for an answer; further ones are rejected. Default 4,096.
    pub max_pending: usize,
    /// How many bytes the names, ids and handshakes of waiting opens may have together; an open beyond that is
    /// rejected. Default 1 MiB.
    pub max_pending_bytes: usize,
    /// How many bytes one open may have: its id, the protocol's name, the channel's id and the handshake. A longer one is
    /// rejected before any of it but its id is read. Default 128 KiB; one of a core has 82 to 90.
    pub max_open: usize,
    /// How much may be buffered of messages on channels that wait for an answer, counting 512 bytes and its length for
    /// each. Beyond it no more is read until one is answered, as in Node. Default 32,768, Node's `MAX_BUFFERED`.
    pub max_buffered: usize,
    /// How many bytes of plaintext a record may have before any channel is open on both sides: of a core's channel that
    /// means, before the peer has proved to know a core's key. A longer one ends the stream when it is announced, with
    /// [`ConnectionError::RecordTooLarge`](crate::ConnectionError::RecordTooLarge); while an open of the peer waits for its
    /// answer, nothing more is read until that is given. Default 1 MiB: the opens of 12,000 cores, 87 bytes each, which
    /// corestore 7.12.5 sends as one batch (`index.js`, `replicate`).
    pub max_early_record: usize,
    /// How many bytes of plaintext a record may have at any time. Default 0xffffff, what a record can have: a block of
    /// 15 MB is one message in one record.
    pub max_record: usize,
    /// How many bytes of automatic answers, rejects and opens that answer the peer's, may wait to leave before no more is
    /// read. Default 256 KiB.
    pub max_answers: usize,
    /// How many bytes the extension names that were last received on the open channels may have together; a name beyond
    /// that ends the stream, with [`ChannelError::ExtensionName`](crate::connection::ChannelError::ExtensionName). They
    /// are kept because a peer sends a name only when it changes. Default 1 MiB.
    pub max_extension_names: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_nesting: 64,
            max_pending: 4096,
            max_pending_bytes: 1024 * 1024,
            max_open: 128 * 1024,
            max_buffered: 32_768,
            max_early_record: 1024 * 1024,
            max_record: 0xff_ffff,
            max_answers: 256 * 1024,
            max_extension_names: 1024 * 1024,
        }
    }
}

/// Identifies one channel of a [`Mux`], even after its close: unlike ids on the wire, these are not reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId {
    serial: u64,
    local: u64,
    /// What the opener gave it: see [`Mux::open_as`].
    token: usize,
}

impl ChannelId {
    /// Our id of the channel on the wire, from 1.
    pub fn local(self) -> u64 {
        self.local
    }

    pub(crate) fn token(self) -> usize {
        self.token
    }
}

/// Identifies one open of the peer that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PendingId {
    serial: u64,
    remote: u64,
}

impl PendingId {
    /// The peer's id of the channel on the wire, from 1.
    pub fn remote(self) -> u64 {
        self.remote
    }
}

/// Why a channel closed. The wire carries no reason beyond this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// It was closed here.
    Local,
    /// The peer closed it.
    Remote,
    /// The peer rejected it.
    Rejected,
    /// The stream ended, cleanly or not.
    Stream,
}

/// An event of a [`Mux`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MuxEvent {
    /// The peer opened a channel that was not opened here. Answer by [`Mux::open`] or [`Mux::reject`].
    #[non_exhaustive]
    RemoteOpen {
        /// Names the open in [`Mux::reject`].
        pending: PendingId,
        /// The protocol.
        protocol: String,
        /// The channel's id; for hypercore the discovery key.
        id: Option<Buffer>,
        /// The protocol's handshake.
        handshake: Buffer,
    },
    /// Both sides have opened the channel.
    #[non_exhaustive]
    Opened {
        /// The channel.
        channel: ChannelId,
        /// The peer's id of the channel on the wire.
        remote: u64,
        /// The peer's handshake.
        handshake: Buffer,
    },
    /// A message arrived. Its type may be one that this side does not know.
    #[non_exhaustive]
    Message {
        /// The channel.
        channel: ChannelId,
        /// The message's number on the channel.
        kind: u64,
        /// The message. May share the memory of its record.
        body: Buffer,
        /// Bytes of that record: what the body keeps in memory.
        record_len: usize,
    },
    /// The channel is closed, and its id may be reused. Follows every [`Mux::open`] in the end, but for the stream's.
    #[non_exhaustive]
    Closed {
        /// The channel.
        channel: ChannelId,
        /// Who closed it.
        reason: CloseReason,
    },
}

/// Counters of input from the peer that protomux ignores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ignored {
    /// Messages on channels that are not open.
    pub messages: u64,
    /// Closes of channels that are not open.
    pub closes: u64,
    /// Control messages of unknown types.
    pub controls: u64,
    /// Rejects and closes with bytes after their last field, which took effect all the same.
    pub trailing_bytes: u64,
    /// Empty records.
    pub empty_records: u64,
    /// Opens that were rejected because a limit was reached.
    pub opens_over_limit: u64,
}

/// The options of [`Mux::open`].
#[derive(Clone, Copy)]
pub struct OpenOptions<'a> {
    /// The protocol's name.
    pub protocol: &'a str,
    /// Other names of the protocol under which the peer may open it.
    pub aliases: &'a [&'a str],
    /// The id of the channel among those of its protocol. An empty id counts as none.
    pub id: Option<&'a [u8]>,
    /// Whether to refuse to open the same protocol and id twice.
    pub unique: bool,
    /// The protocol's own handshake.
    pub handshake: &'a dyn Encode,
}

impl std::fmt::Debug for OpenOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenOptions")
            .field("protocol", &self.protocol)
            .field("aliases", &self.aliases)
            .field("unique", &self.unique)
            .finish_non_exhaustive()
    }
}

/// Shared by all that hold it, for there may be very many.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name {
    protocol: Arc<str>,
    id: Option<Arc<[u8]>>,
}

/// Ids that wait for the other side's open, in the order of their serial. Most pairs have none most of the time.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "a word where nothing waits")]
struct Waiting(Option<Box<BTreeMap<u64, u64>>>);

impl Waiting {
    fn insert(&mut self, serial: u64, id: u64) {
        self.0.get_or_insert_default().insert(serial, id);
    }

    fn remove(&mut self, serial: u64) {
        self.take(|waiting| waiting.remove(&serial).map(|id| (serial, id)));
    }

    fn pop_first(&mut self) -> Option<(u64, u64)> {
        self.take(BTreeMap::pop_first)
    }

    fn take(
        &mut self,
        take: impl FnOnce(&mut BTreeMap<u64, u64>) -> Option<(u64, u64)>,
    ) -> Option<(u64, u64)> {
        let waiting = self.0.as_mut()?;
        let taken = take(waiting);
        if waiting.is_empty() {
            self.0 = None;
        }
        taken
    }

    fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// All channels of one protocol and id (protomux: `info`).
#[derive(Debug)]
struct Pair {
    names: Box<[Name]>,
    opened: usize,
    /// Remote ids that wait for a local open, in order.
    incoming: Waiting,
    /// Local ids that wait for a remote open, in order.
    outgoing: Waiting,
}

#[derive(Debug)]
enum Remote {
    Pending(Box<Pending>),
    Open { local: u64 },
}

#[derive(Debug)]
struct Pending {
    pair: u64,
    serial: u64,
    handshake: Buffer,
    cost: usize,
    messages: Vec<(u64, Buffer)>,
    buffered: usize,
    closed: bool,
}

#[derive(Debug)]
enum Local {
    /// The id is in the free list.
    Free,
    /// Closed before the peer answered; the id is not free until it does.
    Abandoned { pair: u64, order: u64 },
    /// Waits for the peer's answer.
    Opening {
        pair: u64,
        order: u64,
        channel: ChannelId,
    },
    /// Open on both sides.
    Open {
        pair: u64,
        remote: u64,
        channel: ChannelId,
    },
}

/// A protomux endpoint.
#[derive(Debug)]
pub struct Mux {
    limits: Limits,
    reader: Option<RecordReader>,
    /// How many packets may be read until the caller gives more.
    budget: u32,
    failed: bool,
    events: VecDeque<MuxEvent>,
    ignored: Ignored,
    serial: u64,
    pairs: FxHashMap<u64, Pair>,
    names: HashMap<Name, u64>,
    /// Protocols that were opened here, the first few.
    protocols: Vec<Arc<str>>,
    /// The channels that the peer has open. A map, so that no id from the wire is ever an index.
    remote: HashMap<u64, Remote>,
    /// The highest id that the peer has used; it may use the next.
    remote_ids: u64,
    pending: usize,
    pending_bytes: usize,
    buffered: usize,
    local: Vec<Local>,
    free: Vec<u64>,
    sender: Sender,
}

impl Mux {
    /// An endpoint without channels, whose records leave through [`Mux::poll_transmit`].
    pub fn new(limits: Limits) -> Self {
        Self::over(Outbound::bare(), limits)
    }

    /// One whose records leave through a transport.
    pub(crate) fn over(out: Outbound, limits: Limits) -> Self {
        Self {
            limits,
            reader: None,
            budget: u32::MAX,
            failed: false,
            events: VecDeque::new(),
            ignored: Ignored::default(),
            serial: 0,
            pairs: FxHashMap::default(),
            names: HashMap::new(),
            protocols: Vec::new(),
            remote: HashMap::new(),
            remote_ids: 0,
            pending: 0,
            pending_bytes: 0,
            buffered: 0,
            local: Vec::new(),
            free: Vec::new(),
            sender: Sender::new(out),
        }
    }

    /// Whether [`Mux::receive`] can take the next record: the last one was read to its end.
    pub fn wants_record(&self) -> bool {
        self.reader.is_none() && !self.is_paused() && !self.failed
    }

    /// Whether nothing is read because messages on unanswered channels wait (see [`Limits::max_buffered`]).
    pub fn is_paused(&self) -> bool {
        self.buffered > self.limits.max_buffered
    }

    /// Takes a record for [`Mux::poll_event`] to read. An empty record is ignored.
    ///
    /// Call it when [`Mux::wants_record`]; a record that is given before the last one was read replaces it.
    pub fn receive(&mut self, record: Buffer) {
        debug_assert!(
            self.reader.is_none(),
            "the last record was not read to its end"
        );
        if record.is_empty() {
            self.ignored.empty_records += 1;
        } else if !self.failed {
            let reader = RecordReader::new(record, self.limits.max_nesting);
            self.reader = Some(reader.with_max_open(self.limits.max_open));
        }
    }

    /// How many packets [`Mux::poll_event`] may read from now on. When there are none left it returns none, though the
    /// record may not be read to its end.
    pub(crate) fn set_budget(&mut self, packets: u32) {
        self.budget = packets;
    }

    /// Packets that may still be read.
    pub(crate) fn budget(&self) -> u32 {
        self.budget
    }

    /// The next event. None when the record is read to its end, or reading is paused.
    ///
    /// # Errors
    /// When the peer broke a rule. What came before it was returned; nothing comes after, and the stream must be
    /// destroyed.
    pub fn poll_event(&mut self) -> Result<Option<MuxEvent>, MuxError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if self.is_paused() || self.failed || self.budget == 0 {
                return Ok(None);
            }
            let Some(reader) = &mut self.reader else {
                return Ok(None);
            };
            self.budget -= 1;
            let record_len = reader.record_len();
            let handled = match reader.next_packet() {
                Ok(Some(Packet::Message {
                    channel,
                    kind,
                    body,
                })) => {
                    // By far the most frequent event, so it bypasses the queue.
                    match self.on_message(channel, kind, body, record_len) {
                        Some(event) => return Ok(Some(event)),
                        None => Ok(()),
                    }
                }
                Ok(Some(Packet::Open { id, .. })) if reader.take_oversized() => {
                    self.refuse_open(id)
                }
                Ok(Some(packet)) => self.handle(packet),
                Ok(None) => {
                    self.ignored.trailing_bytes += reader.trailing();
                    self.reader = None;
                    continue;
                }
                Err(error) => Err(error),
            };
            if let Err(error) = handled {
                self.failed = true;
                self.reader = None;
                return Err(error);
            }
        }
    }

    fn handle(&mut self, packet: Packet) -> Result<(), MuxError> {
        match packet {
            Packet::Message { .. } => {}
            Packet::Open {
                id,
                protocol,
                channel_id,
                handshake,
            } => {
                let name = Name {
                    protocol: self.shared(&protocol),
                    id: channel_id.as_deref().map(Arc::from),
                };
                return self.on_open(id, name, handshake);
            }
            Packet::Reject { id } => return self.on_reject(id),
            Packet::Close { id } => self.on_close(id),
            Packet::UnknownControl { .. } => self.ignored.controls += 1,
        }
        Ok(())
    }

    fn on_message(
        &mut self,
        channel: u64,
        kind: u64,
        body: Buffer,
        record_len: usize,
    ) -> Option<MuxEvent> {
        match self.remote.get_mut(&channel) {
            None => self.ignored.messages += 1,
            Some(Remote::Pending(pending)) => {
                let cost = MESSAGE_OVERHEAD + body.len();
                let share = body.len().saturating_mul(DETACH_SHARE);
                let body = if share < record_len {
                    body.detach()
                } else {
                    body
                };
                pending.messages.push((kind, body));
                pending.buffered += cost;
                self.buffered += cost;
            }
            Some(Remote::Open { local }) => {
                let channel = self.local.get(index(*local));
                if let Some(Local::Open { channel, .. }) = channel {
                    return Some(MuxEvent::Message {
                        channel: *channel,
                        kind,
                        body,
                        record_len,
                    });
                }
            }
        }
        None
    }

    /// Marks an id that the peer chose as used. It must be free or the next one.
    fn take_id(&mut self, id: u64) -> Result<(), MuxError> {
        let next = self.remote_ids + 1;
        if id == 0 || id > next || self.remote.contains_key(&id) {
            return Err(MuxError::InvalidOpen { id, next });
        }
        self.remote_ids = self.remote_ids.max(id);
        Ok(())
    }

    /// Rejects an open that is longer than the limit.
    fn refuse_open(&mut self, id: u64) -> Result<(), MuxError> {
        self.take_id(id)?;
        self.ignored.opens_over_limit += 1;
        self.sender.put(CONTROL, REJECT, &IdBody(id))
    }

    fn on_open(&mut self, id: u64, name: Name, handshake: Buffer) -> Result<(), MuxError> {
        self.take_id(id)?;
        if let Some(&pair) = self.names.get(&name) {
            let waiting = self
                .pairs
                .get_mut(&pair)
                .and_then(|pair| pair.outgoing.pop_first());
            if let Some((_, local)) = waiting {
                self.answered(id, local, pair, handshake);
                return Ok(());
            }
        }

        let cost =
            name.protocol.len() + name.id.as_ref().map_or(0, |id| id.len()) + handshake.len();
        if self.pending >= self.limits.max_pending
            || self.pending_bytes + cost > self.limits.max_pending_bytes
        {
            self.ignored.opens_over_limit += 1;
            return self.sender.put(CONTROL, REJECT, &IdBody(id));
        }
        let serial = self.next_serial();
        let pair = self.pair(name.clone(), &[]);
        if let Some(pair) = self.pairs.get_mut(&pair) {
            pair.incoming.insert(serial, id);
        }
        let handshake = handshake.detach();
        self.pending += 1;
        self.pending_bytes += cost;
        self.remote.insert(
            id,
            Remote::Pending(Box::new(Pending {
                pair,
                serial,
                handshake: handshake.clone(),
                cost,
                messages: Vec::new(),
                buffered: 0,
                closed: false,
            })),
        );
        self.events.push_back(MuxEvent::RemoteOpen {
            pending: PendingId { serial, remote: id },
            protocol: name.protocol.as_ref().to_owned(),
            id: name.id.as_deref().map(Buffer::copy_from),
            handshake,
        });
        Ok(())
    }

    /// The peer opened what waits here for it.
    fn answered(&mut self, remote: u64, local: u64, pair: u64, handshake: Buffer) {
        let Some(slot) = self.slot(local) else {
            return;
        };
        match *slot {
            Local::Opening { channel, .. } => {
                *slot = Local::Open {
                    pair,
                    remote,
                    channel,
                };
                self.remote.insert(remote, Remote::Open { local });
                self.events.push_back(MuxEvent::Opened {
                    channel,
                    remote,
                    handshake,
                });
            }
            // Closed here in the meantime: the peer's id is free again at once, for our close is on its way.
            _ => {
                *slot = Local::Free;
                self.free.push(local);
                self.collect(pair);
            }
        }
    }

    fn on_reject(&mut self, local: u64) -> Result<(), MuxError> {
        let invalid = MuxError::InvalidReject { id: local };
        let slot = self.slot(local).ok_or(invalid.clone())?;
        let (pair, order, channel) = match *slot {
            Local::Opening {
                pair,
                order,
                channel,
            } => (pair, order, Some(channel)),
            Local::Abandoned { pair, order } => (pair, order, None),
            _ => return Err(invalid),
        };
        *slot = Local::Free;
        self.free.push(local);
        if let Some(pair) = self.pairs.get_mut(&pair) {
            pair.outgoing.remove(order);
            pair.opened -= usize::from(channel.is_some());
        }
        if let Some(channel) = channel {
            self.events.push_back(MuxEvent::Closed {
                channel,
                reason: CloseReason::Rejected,
            });
        }
        self.collect(pair);
        Ok(())
    }

    fn on_close(&mut self, remote: u64) {
        match self.remote.get_mut(&remote) {
            None => self.ignored.closes += 1,
            // The peer's id stays taken until its open is answered, as in Node.
            Some(Remote::Pending(pending)) => pending.closed = true,
            Some(Remote::Open { local }) => {
                let local = *local;
                if let Some(channel) = self.open_channel(local) {
                    self.release(channel, CloseReason::Remote);
                }
            }
        }
    }

    /// Opens a channel, or answers the first open of the peer that waits for one of this protocol and id.
    ///
    /// [`MuxEvent::Opened`] follows when both sides have, [`MuxEvent::Closed`] when the peer rejects it. Messages may be
    /// sent at once.
    ///
    /// # Errors
    /// [`MuxError::AlreadyOpen`], [`MuxError::TooLarge`] or [`MuxError::Encode`]; nothing was sent then.
    pub fn open(&mut self, options: &OpenOptions<'_>) -> Result<ChannelId, MuxError> {
        self.open_as(options, 0)
    }

    /// As [`Mux::open`], with a number by which the caller finds its own state of the channel.
    pub(crate) fn open_as(
        &mut self,
        options: &OpenOptions<'_>,
        token: usize,
    ) -> Result<ChannelId, MuxError> {
        let id = options.id.filter(|id| !id.is_empty());
        let name = self.name(options.protocol, id);
        if options.unique && self.opened(&name) > 0 {
            return Err(MuxError::AlreadyOpen);
        }
        let local = self
            .free
            .last()
            .copied()
            .unwrap_or(self.local.len() as u64 + 1);
        self.sender.put(
            CONTROL,
            OPEN,
            &OpenBody {
                id: local,
                protocol: options.protocol,
                channel_id: id,
                handshake: options.handshake,
            },
        )?;

        let incoming = self.take_incoming(&name, options.aliases);
        let pair = self.pair(name, options.aliases);
        let serial = self.next_serial();
        let channel = ChannelId {
            serial,
            local,
            token,
        };
        if self.free.pop().is_none() {
            self.local.push(Local::Free);
        }
        let slot = match &incoming {
            Some((remote, _)) => Local::Open {
                pair,
                remote: *remote,
                channel,
            },
            None => Local::Opening {
                pair,
                order: serial,
                channel,
            },
        };
        if let Some(pair) = self.pairs.get_mut(&pair) {
            pair.opened += 1;
            if incoming.is_none() {
                pair.outgoing.insert(serial, local);
            }
        }
        if let Some(place) = self.slot(local) {
            *place = slot;
        }
        if let Some((remote, pending)) = incoming {
            self.remote.insert(remote, Remote::Open { local });
            self.deliver(channel, remote, *pending);
        }
        Ok(channel)
    }

    /// Delivers the messages that were buffered until the answer.
    fn deliver(&mut self, channel: ChannelId, remote: u64, pending: Pending) {
        self.events.push_back(MuxEvent::Opened {
            channel,
            remote,
            handshake: pending.handshake,
        });
        for (kind, body) in pending.messages {
            let record_len = body.len();
            self.events.push_back(MuxEvent::Message {
                channel,
                kind,
                body,
                record_len,
            });
        }
        if pending.closed {
            self.release(channel, CloseReason::Remote);
        }
    }

    /// Rejects an open of the peer. Does nothing if it was answered in the meantime.
    ///
    /// # Errors
    /// [`MuxError::Closed`] where nothing can be sent any more.
    pub fn reject(&mut self, id: PendingId) -> Result<(), MuxError> {
        let Entry::Occupied(entry) = self.remote.entry(id.remote) else {
            return Ok(());
        };
        let pair = match entry.get() {
            Remote::Pending(pending) if pending.serial == id.serial => pending.pair,
            _ => return Ok(()),
        };
        if let Remote::Pending(pending) = entry.remove() {
            self.settle(&pending);
        }
        if let Some(pair) = self.pairs.get_mut(&pair) {
            pair.incoming.remove(id.serial);
        }
        self.collect(pair);
        self.sender.put(CONTROL, REJECT, &IdBody(id.remote))
    }

    /// Closes a channel. Does nothing if it is closed.
    ///
    /// # Errors
    /// [`MuxError::Closed`] where nothing can be sent any more.
    pub fn close(&mut self, channel: ChannelId) -> Result<(), MuxError> {
        if !self.is_live(channel) {
            return Ok(());
        }
        self.release(channel, CloseReason::Local);
        self.sender.put(CONTROL, CLOSE, &IdBody(channel.local))
    }

    /// Sends a message; while corked, adds it to the batch.
    ///
    /// # Errors
    /// [`MuxError::Closed`], [`MuxError::TooLarge`] or [`MuxError::Encode`]; nothing was sent then.
    pub fn send(
        &mut self,
        channel: ChannelId,
        kind: u64,
        body: &dyn Encode,
    ) -> Result<(), MuxError> {
        self.check_live(channel)?;
        self.sender.put(channel.local, kind, body)
    }

    /// As [`Mux::send`], but after [`Mux::coalesce`] a small message may share a record with those that follow.
    ///
    /// Only for messages that receivers handle quickly: during a batch Node sends nothing until it has handled all of it
    /// (protomux 3.12.1, index.js, `_onbatch`), so that a message whose handler waits for another would deadlock.
    ///
    /// # Errors
    /// As [`Mux::send`].
    pub(crate) fn send_coalesced(
        &mut self,
        channel: ChannelId,
        kind: u64,
        body: &dyn Encode,
    ) -> Result<(), MuxError> {
        self.check_live(channel)?;
        self.sender.put_coalesced(channel.local, kind, body)
    }

    /// From now on consecutive small messages of [`Mux::send_coalesced`] form one batch until the next transmit. A single
    /// message is sent without a batch around it.
    pub(crate) fn coalesce(&mut self) {
        self.sender.coalesce();
    }

    /// Starts a batch. Calls nest; the matching [`Mux::uncork`] sends it.
    pub fn cork(&mut self) {
        self.sender.cork();
    }

    /// Sends the batch, if this is the last uncork and there is anything in it.
    pub fn uncork(&mut self) {
        self.sender.uncork();
    }

    /// Undoes every [`Mux::cork`], and sends the batch.
    pub fn uncork_all(&mut self) {
        self.sender.uncork_all();
    }

    /// Bytes that wait for [`Mux::uncork`].
    pub fn corked_len(&self) -> usize {
        self.sender.corked_len()
    }

    /// The next record to send.
    pub fn poll_transmit(&mut self) -> Option<Buffer> {
        self.sender.take_record()
    }

    /// Where the records go.
    pub(crate) fn out(&mut self) -> &mut Outbound {
        self.sender.out()
    }

    /// Sends a record that is no message of any channel.
    pub(crate) fn put_record(&mut self, plaintext: &[u8]) -> Result<(), TransportError> {
        self.sender.put_record(plaintext)
    }

    /// Bytes of frames that are ready to send: see [`Outbound::transmit`].
    pub(crate) fn transmit(&mut self) -> &[u8] {
        self.sender.transmit()
    }

    /// As [`Mux::transmit`], in exchange for an empty vector.
    pub(crate) fn swap_transmit(&mut self, spare: &mut Vec<u8>) {
        self.sender.swap(spare);
    }

    /// Removes the first `count` bytes of [`Mux::transmit`]; returns the number removed.
    pub(crate) fn consume_transmit(&mut self, count: usize) -> usize {
        self.sender.consume(count)
    }

    /// Bytes of frames that are not sent yet, for any reason.
    pub(crate) fn queued(&self) -> usize {
        self.sender.queued()
    }

    /// Those of them that cannot be sent yet: they wait for the handshake or for [`Mux::uncork`].
    pub(crate) fn held(&self) -> usize {
        self.sender.held()
    }

    pub(crate) fn push_raw_for_testing_only(&mut self, bytes: &[u8]) {
        self.sender.push_raw_for_testing_only(bytes);
    }

    /// The stream has ended: nothing more is read, and every channel is closed in the order of its id.
    /// [`Mux::poll_event`] returns these closes and those that were not taken yet.
    pub fn end(&mut self) {
        self.failed = true;
        self.reader = None;
        self.events
            .retain(|event| matches!(event, MuxEvent::Closed { .. }));
        for index in 0..self.local.len() {
            if let Local::Opening { channel, .. } | Local::Open { channel, .. } = self.local[index]
            {
                self.release(channel, CloseReason::Stream);
            }
        }
    }

    /// Whether the channel is open or opening here.
    pub fn is_live(&self, channel: ChannelId) -> bool {
        match self.local.get(index(channel.local)) {
            Some(Local::Opening { channel: live, .. } | Local::Open { channel: live, .. }) => {
                live.serial == channel.serial
            }
            _ => false,
        }
    }

    /// Whether a channel of this protocol and id is open or opening here.
    pub fn is_opened(&self, protocol: &str, id: Option<&[u8]>) -> bool {
        let id = id.filter(|id| !id.is_empty());
        self.opened(&Name {
            protocol: self.shared(protocol),
            id: id.map(Arc::from),
        }) > 0
    }

    /// Whether this open of the peer still waits for an answer.
    pub fn is_pending(&self, id: PendingId) -> bool {
        matches!(self.remote.get(&id.remote), Some(Remote::Pending(pending)) if pending.serial == id.serial)
    }

    /// How many of the peer's opens wait for an answer.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Counters of ignored input.
    pub fn ignored(&self) -> Ignored {
        self.ignored
    }

    fn opened(&self, name: &Name) -> usize {
        let pair = self.names.get(name).and_then(|pair| self.pairs.get(pair));
        pair.map_or(0, |pair| pair.opened)
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn slot(&mut self, local: u64) -> Option<&mut Local> {
        self.local.get_mut(index(local))
    }

    fn open_channel(&self, local: u64) -> Option<ChannelId> {
        match self.local.get(index(local)) {
            Some(Local::Open { channel, .. }) => Some(*channel),
            _ => None,
        }
    }

    /// A protocol's name, in the allocation of the one that was used here before if there is one.
    fn shared(&self, protocol: &str) -> Arc<str> {
        let used = self.protocols.iter().find(|used| ***used == *protocol);
        used.map_or_else(|| Arc::from(protocol), Arc::clone)
    }

    /// As [`Mux::shared`], of a name that is used here.
    fn name(&mut self, protocol: &str, id: Option<&[u8]>) -> Name {
        let shared = self.shared(protocol);
        if Arc::strong_count(&shared) == 1 && self.protocols.len() < SHARED_PROTOCOLS {
            self.protocols.push(Arc::clone(&shared));
        }
        Name {
            protocol: shared,
            id: id.map(Arc::from),
        }
    }

    fn with_aliases(&mut self, name: Name, aliases: &[&str]) -> Box<[Name]> {
        let mut names = Vec::with_capacity(1 + aliases.len());
        for alias in aliases {
            let protocol = self.name(alias, None).protocol;
            let id = name.id.clone();
            names.push(Name { protocol, id });
        }
        names.insert(0, name);
        names.into()
    }

    /// The pair of a name, made if there is none; only then are the aliases recorded, as in Node.
    fn pair(&mut self, name: Name, aliases: &[&str]) -> u64 {
        if let Some(&pair) = self.names.get(&name) {
            return pair;
        }
        let pair = self.next_serial();
        let names = self.with_aliases(name, aliases);
        for name in &names {
            self.names.insert(name.clone(), pair);
        }
        self.pairs.insert(
            pair,
            Pair {
                names,
                opened: 0,
                incoming: Waiting::default(),
                outgoing: Waiting::default(),
            },
        );
        pair
    }

    /// Forgets a pair without channels.
    fn collect(&mut self, pair: u64) {
        let Entry::Occupied(entry) = self.pairs.entry(pair) else {
            return;
        };
        let idle = entry.get();
        if idle.opened > 0 || !idle.incoming.is_empty() || !idle.outgoing.is_empty() {
            return;
        }
        for name in entry.remove().names {
            if self.names.get(&name) == Some(&pair) {
                self.names.remove(&name);
            }
        }
    }

    /// The first open of the peer under this name, or under an alias.
    fn take_incoming(&mut self, name: &Name, aliases: &[&str]) -> Option<(u64, Box<Pending>)> {
        for name in self.with_aliases(name.clone(), aliases) {
            let Some(&pair) = self.names.get(&name) else {
                continue;
            };
            let first = self
                .pairs
                .get_mut(&pair)
                .and_then(|pair| pair.incoming.pop_first());
            let Some((_, remote)) = first else {
                continue;
            };
            self.collect(pair);
            if let Some(Remote::Pending(pending)) = self.remote.remove(&remote) {
                self.settle(&pending);
                return Some((remote, pending));
            }
        }
        None
    }

    /// Subtracts an answered open from the counters.
    fn settle(&mut self, pending: &Pending) {
        self.pending -= 1;
        self.pending_bytes -= pending.cost;
        self.buffered -= pending.buffered;
    }

    /// Closes a live channel here and reports it.
    fn release(&mut self, channel: ChannelId, reason: CloseReason) {
        let local = channel.local;
        let Some(slot) = self.slot(local) else {
            return;
        };
        let pair = match *slot {
            Local::Opening { pair, order, .. } => {
                *slot = Local::Abandoned { pair, order };
                pair
            }
            Local::Open { pair, remote, .. } => {
                *slot = Local::Free;
                self.remote.remove(&remote);
                self.free.push(local);
                pair
            }
            Local::Free | Local::Abandoned { .. } => return,
        };
        if let Some(pair) = self.pairs.get_mut(&pair) {
            pair.opened -= 1;
        }
        self.collect(pair);
        self.events.push_back(MuxEvent::Closed { channel, reason });
    }

    fn check_live(&self, channel: ChannelId) -> Result<(), MuxError> {
        if self.is_live(channel) {
            Ok(())
        } else {
            Err(MuxError::Closed)
        }
    }
}

fn index(id: u64) -> usize {
    usize::try_from(id.wrapping_sub(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
