//! A whole connection without IO: bytes and the time go in, events and bytes come out.
//!
//! [`Connection`] joins the [`Transport`] (Noise, secret stream, frames), the [`Mux`] and the hypercore channels on it.
//! It owns no socket and no clock: the caller passes in the received bytes and the time, as the [`Duration`] since any
//! fixed moment of its choice, and the same input gives the same output.
//!
//! ```text
//! socket → receive(bytes, now) → poll_event() → events
//! open, send, close, reject → transmit() → socket → consume_transmit(n, now)
//! next_deadline() → timer → handle_timeout(now)
//! ```
//!
//! Hypercore channels, from hypercore 11.37.1, `lib/replicator.js` and `lib/caps.js`: the protocol is `hypercore/alpha`,
//! also known as `hypercore`; its id is the core's discovery key, and each side's open carries a capability that proves
//! knowledge of the core's key on this very stream. A wrong one, a handshake that is too short and a malformed message
//! end the stream; messages of unknown types are ignored and counted, or handed on to a caller who asks for them.
//!
//! Channels of other protocols are opened by [`Connection::open_channel`] and carry bytes, which the caller interprets.
//!
//! Input is decoded only on demand, so that the memory of a connection is bounded by its input: the bytes of
//! [`Connection::receive`] since [`Connection::wants_input`] was last true, one unfinished record (at most 1 MiB before
//! a channel is open, see [`Limits::max_early_record`], and 16 MiB then), the other [`Limits`], and the data that the
//! caller sent but did not transmit.

mod channels;
mod cores;
pub(crate) mod error;
mod raw;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use crate::buffer::{Buffer, ShortHex};
use crate::datagram::Datagrams;
use crate::encoding::Decoded;
use crate::error::Error;
use crate::keys::{DiscoveryKey, Key};
use crate::mux::{self, CloseReason, Limits, Mux, MuxEvent};
use crate::transport::{End, HandshakeInfo, Inbound, Transport, TransportConfig};
use crate::wire::{ExtensionNames, Handshake, Message, Unread};

pub use channels::ChannelHandle;
pub use error::{ChannelError, ConnectionError};
pub use raw::{ChannelInfo, ChannelOptions, RemoteOpen};

use channels::{Channels, Kind};
use raw::RawChannels;

/// A body that is kept is copied out of its record when the record is larger than this and more than twice the body.
const DETACH_RECORD: usize = 1024;

/// The minimum rate of a record in bytes per second: see [`ConnectionConfig::record_timeout`].
const MIN_RATE: u64 = 4096;

/// The shortest interval of keep-alives: Node's timers have none below a millisecond either.
const MIN_KEEP_ALIVE: Duration = Duration::from_millis(1);

/// The configuration of a connection.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectionConfig {
    /// The handshake and its keys.
    pub transport: TransportConfig,
    /// The time limit of the handshake, up to the arrival of the peer's header. Default 30 s. Zero means no limit, here and
    /// in the other durations, as in Node.
    pub handshake_timeout: Option<Duration>,
    /// The interval without outgoing data after which a keep-alive, an empty record, is sent. Default 5 s, as in hypercore
    /// 11.37.1 (`index.js`, `createProtocolStream`). Intervals below 1 ms count as 1 ms.
    pub keep_alive: Option<Duration>,
    /// The time without a complete record after which the connection fails, unless one is in progress. Keep-alives count.
    /// Default 30 s: six of the keep-alives that hypercore 11.37.1 and 10.38.2 send every 5 s (`index.js`,
    /// `createProtocolStream`), and this crate too.
    ///
    /// **Set `None`, or a longer time, for a peer that sends no keep-alives and may be silent**: a Node stream of
    /// `new NoiseSecretStream()` alone sends none (@hyperswarm/secret-stream 6.9.2, `index.js`: `opts.keepAlive || 0`),
    /// nor does `replicate(…, { keepAlive: false })`.
    pub idle_timeout: Option<Duration>,
    /// The time limit of a record from its first byte to its last, extended by one second for each 4,096 bytes that it
    /// announces. Default 30 s: a record of 16 MB has 69 minutes, one of 64 KiB 46 s.
    pub record_timeout: Option<Duration>,
    /// How long reading may be paused because the caller does not take received data, or does not answer an open. Default
    /// 10 minutes. This time does not count for the two limits above, as the peer is not at fault.
    pub stall_timeout: Option<Duration>,
    /// Bounds on the memory that a peer can make us use.
    pub limits: Limits,
    /// Whether messages of types above 9, from later releases, come as [`Message::Unknown`]. Default false: they are
    /// ignored, as in Node, and counted.
    pub unknown_messages: bool,
    /// Whether small messages that are sent one after the other share a record, a batch, until
    /// [`Connection::transmit`] is called: each record costs 20 bytes and a MAC. Extensions and channels of other protocols
    /// never do. Default false.
    pub coalesce: bool,
}

impl ConnectionConfig {
    /// The defaults, with a random key pair and the handshake pattern XX.
    pub fn new(is_initiator: bool) -> Self {
        Self {
            transport: TransportConfig {
                is_initiator,
                ..TransportConfig::default()
            },
            handshake_timeout: Some(Duration::from_secs(30)),
            keep_alive: Some(Duration::from_secs(5)),
            idle_timeout: Some(Duration::from_secs(30)),
            record_timeout: Some(Duration::from_secs(30)),
            stall_timeout: Some(Duration::from_secs(600)),
            limits: Limits::default(),
            unknown_messages: false,
            coalesce: false,
        }
    }
}

/// What happened on a connection.
///
/// Its debug output does not show the key of a core: whoever knows it can read the core.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// The Noise handshake is complete on our side. Always the first.
    Handshake(HandshakeInfo),
    /// The peer opened the channel of a core that is not open locally. It waits for [`Connection::open`] with the key, or
    /// for [`Connection::reject`].
    DiscoveryKey(DiscoveryKey),
    /// Both sides have opened a channel, and the peer has proved knowledge of the key.
    #[non_exhaustive]
    ChannelOpened {
        /// The channel.
        channel: ChannelHandle,
        /// The core's key.
        key: Key,
        /// The core's discovery key.
        discovery_key: DiscoveryKey,
        /// The peer's handshake.
        handshake: Handshake,
        /// What else was in it.
        unread: Unread,
        /// The peer's handshake as received.
        handshake_bytes: Buffer,
        /// Our id of the channel on the wire.
        local_id: u64,
        /// The peer's id of the channel on the wire.
        remote_id: u64,
    },
    /// A message arrived. An extension carries its name even if the peer left it out as a repetition.
    #[non_exhaustive]
    Message {
        /// The channel.
        channel: ChannelHandle,
        /// The message.
        message: Message,
        /// What else was in it.
        unread: Unread,
        /// Bytes of the message's body on the wire.
        body_len: usize,
        /// Bytes of memory that the message keeps beyond its own size; a record that it shares with others counts for
        /// each of them.
        held: usize,
    },
    /// A channel closed. Follows every channel that was opened, at the latest when the stream ends.
    #[non_exhaustive]
    ChannelClosed {
        /// The channel.
        channel: ChannelHandle,
        /// The core's discovery key.
        discovery_key: DiscoveryKey,
        /// Who closed it.
        reason: CloseReason,
    },
    /// The peer opened a channel of a protocol that was paired by [`Connection::pair`], and it is not open here.
    RemoteOpen(RemoteOpen),
    /// Both sides have opened a channel of [`Connection::open_channel`].
    #[non_exhaustive]
    MuxChannelOpened {
        /// The channel.
        channel: ChannelHandle,
        /// The peer's handshake.
        handshake: Buffer,
        /// Our id of the channel on the wire.
        local_id: u64,
        /// The peer's id of the channel on the wire.
        remote_id: u64,
    },
    /// A message arrived on a channel of [`Connection::open_channel`].
    #[non_exhaustive]
    MuxMessage {
        /// The channel.
        channel: ChannelHandle,
        /// The message's type, a number that the protocol gives a meaning.
        kind: u64,
        /// The message.
        body: Buffer,
        /// Bytes of memory that the body keeps; a record that it shares with others counts for each of them.
        held: usize,
    },
    /// A channel of [`Connection::open_channel`] closed. Follows every one, at the latest when the stream ends.
    #[non_exhaustive]
    MuxChannelClosed {
        /// The channel.
        channel: ChannelHandle,
        /// Who closed it.
        reason: CloseReason,
    },
    /// The peer ended the stream between two records. Only closes of channels follow.
    End(End),
}

impl fmt::Debug for ConnectionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake(info) => f.debug_tuple("Handshake").field(info).finish(),
            Self::DiscoveryKey(key) => f.debug_tuple("DiscoveryKey").field(&ShortHex(key)).finish(),
            Self::ChannelOpened {
                channel,
                discovery_key,
                handshake,
                unread,
                local_id,
                remote_id,
                ..
            } => f
                .debug_struct("ChannelOpened")
                .field("channel", channel)
                .field("discovery_key", &ShortHex(discovery_key))
                .field("handshake", handshake)
                .field("unread", unread)
                .field("local_id", local_id)
                .field("remote_id", remote_id)
                .finish_non_exhaustive(),
            Self::Message {
                channel,
                message,
                unread,
                ..
            } => f
                .debug_struct("Message")
                .field("channel", channel)
                .field("message", message)
                .field("unread", unread)
                .finish_non_exhaustive(),
            Self::ChannelClosed {
                channel,
                discovery_key,
                reason,
            } => f
                .debug_struct("ChannelClosed")
                .field("channel", channel)
                .field("discovery_key", &ShortHex(discovery_key))
                .field("reason", reason)
                .finish(),
            Self::RemoteOpen(open) => f.debug_tuple("RemoteOpen").field(open).finish(),
            Self::MuxChannelOpened {
                channel,
                handshake,
                local_id,
                remote_id,
            } => f
                .debug_struct("MuxChannelOpened")
                .field("channel", channel)
                .field("handshake", handshake)
                .field("local_id", local_id)
                .field("remote_id", remote_id)
                .finish(),
            Self::MuxMessage {
                channel,
                kind,
                body,
                ..
            } => f
                .debug_struct("MuxMessage")
                .field("channel", channel)
                .field("kind", kind)
                .field("body", body)
                .finish_non_exhaustive(),
            Self::MuxChannelClosed { channel, reason } => f
                .debug_struct("MuxChannelClosed")
                .field("channel", channel)
                .field("reason", reason)
                .finish(),
            Self::End(end) => f.debug_tuple("End").field(end).finish(),
        }
    }
}

/// Counters of ignored input from the peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ignored {
    /// Input that protomux ignores.
    pub mux: mux::Ignored,
    /// Messages of types above 9, from later releases; not counted when they are delivered.
    pub unknown_messages: u64,
    /// Messages and channel handshakes with unknown flag bits. The rest of them was processed.
    pub unknown_flags: u64,
    /// Messages and channel handshakes with bytes after their last field. The rest of them was processed.
    pub trailing_bytes: u64,
    /// Opens of protocols that were not paired, and second opens of one core, which were rejected.
    pub rejected_opens: u64,
}

impl Ignored {
    fn count<T>(&mut self, read: &Decoded<T>) {
        self.unknown_flags += u64::from(read.unknown_flags != 0);
        self.trailing_bytes += u64::from(read.trailing != 0);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    Open,
    Ended,
}

/// One end of a connection, without IO.
pub struct Connection {
    inbound: Inbound,
    /// The channels and the outgoing data.
    mux: Mux,
    phase: Phase,
    /// The result that ends the connection once all earlier input is read.
    ending: Option<Result<End, Error>>,
    /// Nothing more is sent.
    finishing: bool,
    events: VecDeque<ConnectionEvent>,
    channels: Channels,
    by_discovery_key: HashMap<DiscoveryKey, ChannelHandle>,
    /// Channels to be opened once the handshake is complete.
    waiting: Vec<ChannelHandle>,
    /// The peer's opens that wait for an answer.
    unknown: HashMap<DiscoveryKey, Vec<mux::PendingId>>,
    raw: RawChannels,
    ignored: Ignored,
    limits: Limits,
    /// A channel was open on both sides: its peer is no stranger.
    is_known: bool,
    /// Bytes of the extension names that the channels keep.
    name_bytes: usize,
    /// Bytes that have left.
    consumed: u64,
    /// Automatic answers queued, in bytes, and the position in the outgoing stream where the last of them ends.
    answers: usize,
    answers_end: u64,
    started: Duration,
    /// When the last whole record arrived.
    last_received: Duration,
    /// When the first byte of the record in progress arrived.
    record_begun: Option<Duration>,
    /// The time when reading was paused.
    paused: Option<Duration>,
    last_sent: Duration,
    handshake_timeout: Option<Duration>,
    keep_alive: Option<Duration>,
    idle_timeout: Option<Duration>,
    record_timeout: Option<Duration>,
    stall_timeout: Option<Duration>,
    unknown_messages: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("phase", &self.phase)
            .field("inbound", &self.inbound)
            .field("channels", &self.channels.len())
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Starts a connection at the time `now`. The first [`Connection::poll_event`] reports an invalid configuration.
    pub fn new(config: ConnectionConfig, now: Duration) -> Self {
        let is_initiator = config.transport.is_initiator;
        let transport = Transport::new(config.transport.clone())
            .unwrap_or_else(|error| Transport::failed(is_initiator, error));
        Self::with_transport(transport, config, now)
    }

    /// Starts a connection over an existing transport, such as one after a handshake that took place elsewhere. The
    /// transport's part of the configuration is ignored.
    pub fn with_transport(transport: Transport, config: ConnectionConfig, now: Duration) -> Self {
        let ending = transport.failure().map(|error| Err(error.clone().into()));
        let some = |duration: Option<Duration>| duration.filter(|duration| !duration.is_zero());
        let (inbound, outbound) = transport.split();
        let mut mux = Mux::over(outbound, config.limits.clone());
        if config.coalesce {
            mux.coalesce();
        }
        Self {
            inbound,
            mux,
            phase: Phase::Handshake,
            ending,
            finishing: false,
            events: VecDeque::new(),
            channels: Channels::default(),
            by_discovery_key: HashMap::new(),
            waiting: Vec::new(),
            unknown: HashMap::new(),
            raw: RawChannels::default(),
            ignored: Ignored::default(),
            limits: config.limits,
            is_known: false,
            name_bytes: 0,
            consumed: 0,
            answers: 0,
            answers_end: 0,
            started: now,
            last_received: now,
            record_begun: None,
            paused: None,
            last_sent: now,
            handshake_timeout: some(config.handshake_timeout),
            keep_alive: some(config.keep_alive).map(|interval| interval.max(MIN_KEEP_ALIVE)),
            idle_timeout: some(config.idle_timeout),
            record_timeout: some(config.record_timeout),
            stall_timeout: some(config.stall_timeout),
            unknown_messages: config.unknown_messages,
        }
    }

    /// Whether we sent the first handshake message.
    pub fn is_initiator(&self) -> bool {
        self.inbound.is_initiator()
    }

    /// Our static public key.
    pub fn public_key(&self) -> &[u8; 32] {
        self.inbound.public_key()
    }

    /// What the handshake established, once it is complete on our side.
    pub fn handshake(&self) -> Option<&HandshakeInfo> {
        self.inbound.handshake()
    }

    /// The datagrams beside the stream, from [`ConnectionEvent::Handshake`] on. Every call gives the same ones, which
    /// count together.
    ///
    /// # Errors
    /// [`DatagramError`](crate::datagram::DatagramError), as [`Transport::datagrams`].
    pub fn datagrams(&mut self) -> Result<Datagrams, Error> {
        Ok(self.inbound.datagrams()?)
    }

    /// Whether the connection has ended or failed, and the caller was told.
    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// What was ignored so far.
    pub fn ignored(&self) -> Ignored {
        Ignored {
            mux: self.mux.ignored(),
            ..self.ignored
        }
    }

    /// Takes received bytes, in chunks of any size. [`Connection::poll_event`] returns their events and errors.
    pub fn receive(&mut self, bytes: &[u8], now: Duration) {
        self.resume_reading(now);
        if self.ending.is_some() || self.phase == Phase::Ended {
            return;
        }
        let records = self.inbound.records();
        if let Err(error) = self.inbound.receive(bytes, self.mux.out()) {
            self.ending = Some(Err(error.into()));
            return;
        }
        // Single bytes must not keep the stream alive: only a complete record sealed by the peer does.
        if self.inbound.records() > records {
            self.last_received = now;
            self.record_begun = None;
        }
        match self.inbound.begun() {
            Some(_) => self.record_begun = self.record_begun.or(Some(now)),
            None => self.record_begun = None,
        }
    }

    /// Takes the end of the input. [`Connection::poll_event`] reports whether it was clean.
    pub fn receive_end(&mut self) {
        if self.ending.is_none() && self.phase != Phase::Ended {
            self.ending = Some(
                self.inbound
                    .receive_end(self.mux.out())
                    .map_err(Error::from),
            );
        }
    }

    /// Ends our side: from now on nothing can be opened or sent, while what the peer sends is still read. Once
    /// [`Connection::transmit`] is empty the caller ends the outgoing direction of the socket. What was corked is sent.
    pub fn finish(&mut self) {
        self.finishing = true;
        self.mux.uncork_all();
    }

    /// Whether [`Connection::finish`] was called.
    pub fn is_finishing(&self) -> bool {
        self.finishing
    }

    /// Whether all input was read, so that [`Connection::receive`] can take more. More input before that is allowed, but is
    /// held in memory.
    ///
    /// False after [`Connection::poll_event`] returned none means that an open of the peer waits for an answer while
    /// too much was sent on it ([`Limits::max_buffered`]) or a record is on its way that is too large before the answer
    /// ([`Limits::max_early_record`]), or that answers must leave first ([`Limits::max_answers`]).
    pub fn wants_input(&self) -> bool {
        self.phase != Phase::Ended
            && self.ending.is_none()
            && self.events.is_empty()
            && (self.phase == Phase::Handshake || self.mux.wants_record())
            && !self.inbound.has_records()
            && !self.answers_wait()
            && (self.phase == Phase::Handshake || self.oversized().is_none())
    }

    /// Plaintext bytes of the record that comes next, if they are too many.
    fn oversized(&self) -> Option<usize> {
        if !self.is_established() {
            // Handshake messages and headers have limits of their own.
            return None;
        }
        let begun = || Some(self.inbound.plaintext_len(self.inbound.begun()?));
        let length = self.inbound.next_len().or_else(begun)?;
        (length > self.record_limit()).then_some(length)
    }

    fn record_limit(&self) -> usize {
        let limit = self.limits.max_record;
        if self.is_known {
            limit
        } else {
            limit.min(self.limits.max_early_record)
        }
    }

    /// The next event, or none when nothing is left to read.
    ///
    /// # Errors
    /// Once, when the peer broke a rule or a time-out expired: the stream must be destroyed. Earlier events were returned
    /// before, and later calls return the channels that closed with it.
    pub fn poll_event(&mut self) -> Result<Option<ConnectionEvent>, Error> {
        self.mux.set_budget(u32::MAX);
        self.poll_next()
    }

    /// As [`Connection::poll_event`], but once `packets` have been read it returns none, though more may be left.
    pub(crate) fn poll_event_within(
        &mut self,
        packets: &mut u32,
    ) -> Result<Option<ConnectionEvent>, Error> {
        self.mux.set_budget(*packets);
        let event = self.poll_next();
        *packets = self.mux.budget();
        event
    }

    fn poll_next(&mut self) -> Result<Option<ConnectionEvent>, Error> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        if self.answers_wait() && self.phase == Phase::Open && self.ending.is_none() {
            return Ok(None);
        }
        // Automatic answers share one batch, as Node answers a batch.
        self.mux.cork();
        let corked = self.mux.corked_len();
        let result = self.advance();
        self.count_answers(self.mux.corked_len().saturating_sub(corked));
        // Before the handshake, and after the end, there is nothing in it.
        self.mux.uncork();
        result.inspect_err(|_| self.end())
    }

    fn advance(&mut self) -> Result<Option<ConnectionEvent>, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.phase {
                Phase::Handshake => {
                    if let Some(info) = self.inbound.handshake().cloned() {
                        self.phase = Phase::Open;
                        self.open_waiting(&info)?;
                        return Ok(Some(ConnectionEvent::Handshake(info)));
                    }
                }
                Phase::Open | Phase::Ended => {
                    if let Some(event) = self.mux.poll_event()? {
                        if let Some(event) = self.on_mux_event(event)? {
                            return Ok(Some(event));
                        }
                        // Answers leave before more are made.
                        if self.events.is_empty() && self.mux.corked_len() > self.limits.max_answers
                        {
                            return Ok(None);
                        }
                        continue;
                    }
                }
            }
            if self.phase == Phase::Ended {
                return Ok(None);
            }
            if self.phase == Phase::Open {
                if !self.mux.wants_record() {
                    // Nobody is left to be answered, so nothing may wait for that.
                    if self.ending.is_some() && self.mux.is_paused() {
                        let cores = std::mem::take(&mut self.unknown).into_values().flatten();
                        for pending in cores.chain(self.raw.take_waiting()) {
                            self.mux.reject(pending)?;
                        }
                        continue;
                    }
                    return Ok(None);
                }
                if let Some(length) = self.oversized() {
                    // The answer may make the peer known.
                    if self.mux.pending() > 0 && self.ending.is_none() {
                        return Ok(None);
                    }
                    return Err(ConnectionError::RecordTooLarge {
                        length,
                        limit: self.record_limit(),
                        is_early: !self.is_known,
                        position: self.inbound.next_position(),
                    }
                    .into());
                }
                if let Some(record) = self.inbound.poll_record() {
                    self.mux.receive(record);
                    continue;
                }
            }
            return match self.ending.take() {
                None => Ok(None),
                Some(Err(error)) => Err(error),
                Some(Ok(end)) => {
                    self.end();
                    Ok(Some(ConnectionEvent::End(end)))
                }
            };
        }
    }

    /// Turns an event of the mux into one for the caller; `None` if it is not for the caller.
    fn on_mux_event(&mut self, event: MuxEvent) -> Result<Option<ConnectionEvent>, Error> {
        match event {
            MuxEvent::RemoteOpen {
                pending,
                protocol,
                id,
                handshake,
            } => self.on_remote_open(
                pending,
                RemoteOpen {
                    protocol,
                    id,
                    handshake,
                },
            ),
            MuxEvent::Opened {
                channel,
                remote,
                handshake,
            } => self.on_opened(channel, remote, &handshake),
            MuxEvent::Message {
                channel,
                kind,
                body,
                record_len,
            } => self.on_message(channel, kind, body, record_len),
            MuxEvent::Closed { channel, reason } => {
                let handle = self.channels.of(channel).map(|(handle, _)| handle);
                Ok(handle.and_then(|handle| self.forget(handle, reason)))
            }
        }
    }

    fn on_remote_open(
        &mut self,
        pending: mux::PendingId,
        open: RemoteOpen,
    ) -> Result<Option<ConnectionEvent>, Error> {
        if self.raw.is_paired(&open.protocol, open.id.as_deref()) {
            self.raw.wait(&open, pending);
            return Ok(Some(ConnectionEvent::RemoteOpen(open)));
        }
        self.on_core_open(pending, &open)
    }

    fn on_opened(
        &mut self,
        id: mux::ChannelId,
        remote_id: u64,
        handshake: &Buffer,
    ) -> Result<Option<ConnectionEvent>, Error> {
        let Some((handle, channel)) = self.channels.of(id) else {
            return Ok(None);
        };
        let event = match &channel.kind {
            Kind::Core(core) => {
                let Some(info) = self.inbound.handshake() else {
                    return Ok(None);
                };
                core.opened(handle, (id, remote_id), handshake, info, &mut self.ignored)?
            }
            Kind::Other(_) => ConnectionEvent::MuxChannelOpened {
                channel: handle,
                handshake: handshake.detach(),
                local_id: id.local(),
                remote_id,
            },
        };
        channel.opened = true;
        self.is_known = true;
        Ok(Some(event))
    }

    fn on_message(
        &mut self,
        id: mux::ChannelId,
        kind: u64,
        body: Buffer,
        record_len: usize,
    ) -> Result<Option<ConnectionEvent>, Error> {
        let Some((handle, channel)) = self.channels.of(id) else {
            return Ok(None);
        };
        match channel.kind {
            Kind::Core(_) => self.on_core_message(handle, kind, body, record_len),
            Kind::Other(_) => Ok(Some(raw::message(handle, kind, body, record_len))),
        }
    }

    /// Closes a channel. [`ConnectionEvent::ChannelClosed`] or [`ConnectionEvent::MuxChannelClosed`] follows. Does nothing
    /// if it is closed.
    pub fn close(&mut self, channel: ChannelHandle) {
        let Some(mux) = self.channels.get(channel).map(|channel| channel.mux) else {
            return;
        };
        match mux {
            Some(id) => {
                // A record of so few bytes is never refused, and an ended mux has closed the channel already.
                let _ = self.mux.close(id);
                self.release_key(channel);
            }
            // Not on the wire yet: nothing needs to be sent.
            None => {
                let closed = self.forget(channel, CloseReason::Local);
                self.events.extend(closed);
            }
        }
    }

    fn forget(&mut self, handle: ChannelHandle, reason: CloseReason) -> Option<ConnectionEvent> {
        self.release_key(handle);
        let channel = self.channels.remove(handle)?;
        if channel.mux.is_none() {
            self.waiting.retain(|waiting| *waiting != handle);
        }
        Some(match channel.kind {
            Kind::Core(core) => {
                let names = core.names.as_deref();
                self.name_bytes -= names.map_or(0, ExtensionNames::received_len);
                ConnectionEvent::ChannelClosed {
                    channel: handle,
                    discovery_key: core.discovery_key,
                    reason,
                }
            }
            Kind::Other(_) => ConnectionEvent::MuxChannelClosed {
                channel: handle,
                reason,
            },
        })
    }

    /// Collects messages sent from now on, on all channels, in one batch. Calls nest; the matching [`Connection::uncork`]
    /// sends it.
    pub fn cork(&mut self) {
        self.mux.cork();
    }

    /// Sends the batch, if this is the last uncork.
    pub fn uncork(&mut self) {
        self.mux.uncork();
    }

    /// Sends an empty record.
    ///
    /// # Errors
    /// [`ConnectionError::Closed`].
    pub fn send_keep_alive(&mut self) -> Result<(), Error> {
        self.check_alive()?;
        Ok(self.mux.put_record(&[])?)
    }

    /// Sends a record of this plaintext, so that a test can send invalid input.
    #[doc(hidden)]
    pub fn send_plaintext_for_testing_only(&mut self, plaintext: &[u8]) -> Result<(), Error> {
        self.check_alive()?;
        Ok(self.mux.put_record(plaintext)?)
    }

    /// Puts bytes on the wire as they are, so that a test can send invalid input.
    #[doc(hidden)]
    pub fn send_raw_for_testing_only(&mut self, bytes: &[u8]) {
        self.mux.push_raw_for_testing_only(bytes);
    }

    /// Bytes that are ready to leave. What was sent so far is sealed by this call.
    pub fn transmit(&mut self) -> &[u8] {
        self.mux.transmit()
    }

    /// Forgets the first `count` bytes of [`Connection::transmit`]: they left at the time `now`.
    pub fn consume_transmit(&mut self, count: usize, now: Duration) {
        let count = self.mux.consume_transmit(count);
        self.on_sent(count, now);
    }

    /// Exchanges the bytes that are ready to leave for `spare`, an empty vector whose memory is used for what comes
    /// next. They count as having left at the time `now`.
    pub fn swap_transmit(&mut self, spare: &mut Vec<u8>, now: Duration) {
        spare.clear();
        self.mux.swap_transmit(spare);
        self.on_sent(spare.len(), now);
    }

    /// Bytes that were sent and are not ready to leave yet: they wait for the handshake, or for [`Connection::uncork`].
    pub fn held_len(&self) -> usize {
        self.mux.held()
    }

    /// Bytes of these that wait for [`Connection::uncork`], at most 8 MiB and a message.
    pub fn corked_len(&self) -> usize {
        self.mux.corked_len()
    }

    /// The time for the next call of [`Connection::handle_timeout`], if any. Every other call may change it.
    pub fn next_deadline(&self) -> Option<Duration> {
        // Once the end is known, no time-out applies.
        if self.phase == Phase::Ended || self.ending.is_some() {
            return None;
        }
        let limit = self.limit_of_waiting().map(|limit| limit.at);
        let keep_alive = self
            .keep_alive
            .filter(|_| self.phase == Phase::Open && !self.finishing)
            .map(|interval| self.last_sent.saturating_add(interval));
        limit.into_iter().chain(keep_alive).min()
    }

    /// The time limit of the current wait for the peer or the caller.
    fn limit_of_waiting(&self) -> Option<TimeLimit> {
        let limit = |since: Duration, timeout: Duration, error: fn(Duration) -> ConnectionError| {
            let at = since.saturating_add(timeout);
            Some(TimeLimit {
                at,
                error: error(timeout),
            })
        };
        if let Some(since) = self.paused {
            return limit(since, self.stall_timeout?, ConnectionError::StallTimeout);
        }
        if let Some(timeout) = self.handshake_timeout.filter(|_| !self.is_established()) {
            return limit(self.started, timeout, ConnectionError::HandshakeTimeout);
        }
        if let (Some(begun), Some(timeout)) = (self.record_begun, self.record_timeout) {
            let length = self.inbound.begun().unwrap_or(0);
            let more = Duration::from_secs(length as u64 / MIN_RATE);
            let timeout = timeout.saturating_add(more);
            return Some(TimeLimit {
                at: begun.saturating_add(timeout),
                error: ConnectionError::RecordTimeout { length, timeout },
            });
        }
        let timeout = self.idle_timeout?;
        limit(self.last_received, timeout, ConnectionError::IdleTimeout)
    }

    /// Does what is due at the time `now`: sends a keep-alive, or ends the connection, which
    /// [`Connection::poll_event`] then reports.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.phase == Phase::Ended || self.ending.is_some() {
            return;
        }
        match self.timed_out(now) {
            Some(error) => self.ending = Some(Err(error.into())),
            None => self.keep_alive_if_due(now),
        }
    }

    /// Why the connection is to end at the time `now`, if it is.
    pub(crate) fn timed_out(&self, now: Duration) -> Option<ConnectionError> {
        if self.phase == Phase::Ended || self.ending.is_some() {
            return None;
        }
        let limit = self.limit_of_waiting()?;
        (now >= limit.at).then_some(limit.error)
    }

    /// Sends a keep-alive if nothing else was sent for as long as that takes.
    pub(crate) fn keep_alive_if_due(&mut self, now: Duration) {
        let Some(interval) = self.keep_alive else {
            return;
        };
        let is_due = now >= self.last_sent.saturating_add(interval);
        if self.phase == Phase::Open && self.ending.is_none() && !self.finishing && is_due {
            self.last_sent = now;
            // What waits to leave keeps the stream alive as well.
            if self.mux.queued() == 0 {
                let _ = self.mux.put_record(&[]);
            }
        }
    }

    /// From `now` on nothing is read, for what arrived was not taken: this time is not the peer's. It ends with
    /// [`Connection::resume_reading`], with the next [`Connection::receive`], or with
    /// [`ConnectionError::StallTimeout`].
    pub fn pause_reading(&mut self, now: Duration) {
        self.paused.get_or_insert(now);
    }

    /// Reading goes on: see [`Connection::pause_reading`].
    pub fn resume_reading(&mut self, now: Duration) {
        if let Some(since) = self.paused.take() {
            let waited = now.saturating_sub(since);
            self.last_received = self.last_received.saturating_add(waited);
            self.record_begun = self.record_begun.map(|begun| begun.saturating_add(waited));
        }
    }

    /// Ends the connection here: every channel closes, and nothing more is read. What was sent, corked or not, can still
    /// leave.
    pub fn end(&mut self) {
        if self.phase == Phase::Ended {
            return;
        }
        self.phase = Phase::Ended;
        self.ending = None;
        self.unknown.clear();
        self.raw.take_waiting();
        self.waiting.clear();
        self.mux.uncork_all();
        self.mux.end();
        // Channels that were never opened on the mux.
        let all = self.channels.sorted().into_iter();
        let unsent = all.filter(|(_, channel)| channel.mux.is_none());
        let unsent: Vec<_> = unsent.map(|(handle, _)| handle).collect();
        for handle in unsent {
            let closed = self.forget(handle, CloseReason::Stream);
            self.events.extend(closed);
        }
    }

    fn is_established(&self) -> bool {
        self.inbound.is_established()
    }

    fn check_alive(&self) -> Result<(), Error> {
        if self.phase == Phase::Ended || self.finishing {
            return Err(ConnectionError::Closed.into());
        }
        Ok(())
    }

    fn on_sent(&mut self, count: usize, now: Duration) {
        self.consumed += count as u64;
        if count > 0 {
            self.last_sent = now;
        }
        if self.consumed >= self.answers_end {
            self.answers = 0;
        }
    }

    /// Remembers automatic answers that wait to leave, the last of them at the end of all that does.
    fn count_answers(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.answers += bytes;
        self.answers_end = self.consumed + self.queued_len() as u64;
    }

    /// Accepted bytes that are not transmitted yet, for any reason.
    pub(crate) fn queued_len(&self) -> usize {
        self.mux.queued()
    }

    /// Before something is sent that may answer the peer's opens.
    fn begin_answer(&mut self) -> Answering {
        Answering {
            pending: self.mux.pending(),
            queued: self.queued_len(),
        }
    }

    /// Counts what was sent since [`Connection::begin_answer`], if it answered anything: else a peer that opens and
    /// closes, and reads nothing, would have us queue answers without end.
    fn end_answer(&mut self, before: Answering) {
        if self.mux.pending() < before.pending {
            self.count_answers(self.queued_len().saturating_sub(before.queued));
        }
    }

    fn answers_wait(&self) -> bool {
        self.answers > self.limits.max_answers
    }
}

/// What there was before something was sent.
#[derive(Clone, Copy)]
struct Answering {
    pending: usize,
    queued: usize,
}

/// How long something is waited for, and what it is when it does not come.
struct TimeLimit {
    at: Duration,
    error: ConnectionError,
}

/// A body that may wait long, without the record that it came in if that is much larger.
fn keep(body: Buffer, record_len: usize) -> Buffer {
    if record_len > DETACH_RECORD && body.len().saturating_mul(2) < record_len {
        return body.detach();
    }
    body
}

/// Bytes that a body of [`keep`] keeps in memory: its own and, of a record that is too small to be copied out of, all.
/// Of a larger one it has at least half, or shares it with others that count, too.
fn kept_len(body: &Buffer, record_len: usize) -> usize {
    match record_len <= DETACH_RECORD {
        true => record_len.max(body.len()),
        false => body.len(),
    }
}

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod tests;
