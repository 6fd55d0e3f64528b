//! A whole connection without IO: bytes and the time go in, events and bytes come out.
//!
//! [`Connection`] joins the [`Transport`] (Noise, secret stream, frames), the [`Mux`] and the hypercore channels on it.
//! It owns no socket and no clock: the caller passes in what arrived and what time it is, as the [`Duration`] since any
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
//! Channels of other protocols are opened by [`Connection::open_channel`] and carry bytes; what they mean is the caller's.
//!
//! Nothing is decoded before it is asked for, so that what a connection holds is bounded by what it was given: the bytes
//! of [`Connection::receive`] since [`Connection::wants_input`] was last true, one unfinished record (at most 16 MiB),
//! the limits of the [`Mux`], and what the caller itself sent and did not let leave.

mod raw;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::buffer::Buffer;
use crate::datagram::Datagrams;
use crate::encoding::{Decode, DecodeError, Decoded, Encode, EncodeError, Encoder};
use crate::error::{Error, ErrorClass};
use crate::frame::FrameError;
use crate::keys::{self, DiscoveryKey, Key};
use crate::mux::{self, CloseReason, Limits, Mux, MuxError, MuxEvent, OpenOptions, RecordSink};
use crate::transport::{End, HandshakeInfo, Transport, TransportConfig, TransportErrorKind};
use crate::wire::{self, ExtensionNames, Handshake, Message, MessageType, Unread};

pub use raw::{ChannelInfo, ChannelOptions, RemoteOpen};

use raw::RawChannels;

/// A body that is kept is copied out of its record when the record is larger than this and four times the body.
const DETACH_RECORD: usize = 1024;

/// How many bytes of automatic answers may wait to leave before no more is read.
const MAX_ANSWERS: usize = 256 * 1024;

/// What a connection starts from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectionConfig {
    /// The handshake and its keys.
    pub transport: TransportConfig,
    /// How long the handshake may take until the peer's header has arrived. Default 30 s.
    pub handshake_timeout: Option<Duration>,
    /// After how long without anything sent a keep-alive, an empty record, is sent. Default 5 s, as hypercore 11.37.1
    /// sets it (`index.js`, `createProtocolStream`).
    pub keep_alive: Option<Duration>,
    /// After how long without anything received the connection fails. Default none, as in Node.
    pub idle_timeout: Option<Duration>,
    /// What a peer can make us hold.
    pub limits: Limits,
    /// Whether messages of types above 9, from later releases, come as [`Message::Unknown`]. Default false: they are
    /// ignored, as in Node, and counted.
    pub unknown_messages: bool,
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
            idle_timeout: None,
            limits: Limits::default(),
            unknown_messages: false,
        }
    }
}

/// A fault of the connection as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The handshake took too long.
    #[error("the handshake took longer than {0:?}")]
    HandshakeTimeout(Duration),
    /// Nothing arrived for too long.
    #[error("nothing was received for {0:?}")]
    IdleTimeout(Duration),
    /// The remote did not take what was left to send, or did not end its side, in time.
    #[error("the stream could not be closed within {0:?}")]
    CloseTimeout(Duration),
    /// The connection has ended.
    #[error("the connection is closed")]
    Closed,
}

impl ConnectionError {
    /// The rule that was broken.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::HandshakeTimeout(_) | Self::IdleTimeout(_) | Self::CloseTimeout(_) => {
                ErrorClass::Limit
            }
            Self::Closed => ErrorClass::Closed,
        }
    }
}

/// A fault of a hypercore channel. The first two are the peer's and end the stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The handshake in the peer's open is too short.
    #[error("malformed channel handshake: {0}")]
    Handshake(DecodeError),
    /// The peer's capability does not prove that it knows the key.
    #[error("the peer does not know the key of the channel that it opened")]
    InvalidCapability {
        /// The channel's discovery key.
        discovery_key: DiscoveryKey,
    },
    /// The channel is closed.
    #[error("the channel is closed")]
    Closed,
    /// The peer has not opened the channel yet, so that it has not proved to know the key.
    #[error("the channel is not open on both sides yet")]
    NotOpen,
    /// The key's channel is open here already.
    #[error("the channel is open already")]
    AlreadyOpen,
}

impl ChannelError {
    /// The rule that was broken.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Handshake(error) => error.class(),
            Self::InvalidCapability { .. } => ErrorClass::InvalidCapability,
            Self::Closed => ErrorClass::Closed,
            Self::NotOpen | Self::AlreadyOpen => ErrorClass::BadInput,
        }
    }
}

impl From<DecodeError> for ChannelError {
    fn from(error: DecodeError) -> Self {
        Self::Handshake(error)
    }
}

/// Names a channel of a [`Connection`], from [`Connection::open`] or [`Connection::open_channel`] on and for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelHandle(u64);

#[cfg(test)]
impl ChannelHandle {
    pub(crate) fn for_testing_only(id: u64) -> Self {
        Self(id)
    }
}

/// What happened on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// The Noise handshake is complete on our side. Always the first.
    Handshake(HandshakeInfo),
    /// The peer opened the channel of a core that is not open here. It waits until [`Connection::open`] is called with
    /// the key, or [`Connection::reject`].
    DiscoveryKey(DiscoveryKey),
    /// Both sides have opened a channel, and the peer has proved to know the key.
    #[non_exhaustive]
    ChannelOpened {
        /// The channel.
        channel: ChannelHandle,
        /// The core's key.
        key: Key,
        /// The core's discovery key.
        discovery_key: DiscoveryKey,
        /// What the peer said of itself.
        handshake: Handshake,
        /// What else was in it.
        unread: Unread,
        /// All of it, as it came.
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
    },
    /// A channel of [`Connection::open_channel`] closed. Follows every one, at the latest when the stream ends.
    #[non_exhaustive]
    MuxChannelClosed {
        /// The channel.
        channel: ChannelHandle,
        /// Who closed it.
        reason: CloseReason,
    },
    /// The peer ended the stream between two records. Nothing but closed channels comes after.
    End(End),
}

/// What a peer sent that has no effect, counted for whoever wants to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ignored {
    /// What protomux ignores.
    pub mux: mux::Ignored,
    /// Messages of types above 9, from later releases; not counted when they are handed on.
    pub unknown_messages: u64,
    /// Messages and channel handshakes with flag bits that have no meaning here. What else they said was heard.
    pub unknown_flags: u64,
    /// Messages and channel handshakes with bytes after their last field. What else they said was heard.
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

#[derive(Debug)]
struct Channel {
    key: Key,
    discovery_key: DiscoveryKey,
    /// None until the handshake is complete.
    mux: Option<mux::ChannelId>,
    opened: bool,
    /// None until an extension was sent or received: most channels never see one.
    names: Option<Box<ExtensionNames>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    Open,
    Ended,
}

/// One end of a connection, without IO.
pub struct Connection {
    transport: Transport,
    mux: Mux,
    phase: Phase,
    /// What ends the connection once all that came before it was read.
    ending: Option<Result<End, Error>>,
    /// Nothing more is sent.
    finishing: bool,
    events: VecDeque<ConnectionEvent>,
    channels: FxHashMap<ChannelHandle, Channel>,
    /// The channels by the mux's name.
    handles: FxHashMap<mux::ChannelId, ChannelHandle>,
    by_discovery_key: HashMap<DiscoveryKey, ChannelHandle>,
    next_handle: u64,
    /// Channels to be opened once the handshake is complete.
    waiting: Vec<ChannelHandle>,
    /// The peer's opens that wait for an answer.
    unknown: HashMap<DiscoveryKey, Vec<mux::PendingId>>,
    raw: RawChannels,
    ignored: Ignored,
    /// Bytes that have left.
    consumed: u64,
    /// Automatic answers queued, in bytes, and the position in the outgoing stream where the last of them ends.
    answers: usize,
    answers_end: u64,
    started: Duration,
    last_received: Duration,
    last_sent: Duration,
    handshake_timeout: Option<Duration>,
    keep_alive: Option<Duration>,
    idle_timeout: Option<Duration>,
    unknown_messages: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("phase", &self.phase)
            .field("transport", &self.transport)
            .field("channels", &self.channels.len())
            .finish_non_exhaustive()
    }
}

impl RecordSink for Transport {
    fn record(&mut self, length: usize, record: &dyn Encode) -> Result<(), MuxError> {
        self.send_encoded(length, record)
            .map_err(|error| match error.kind {
                TransportErrorKind::Frame(FrameError::TooLarge { .. }) => MuxError::TooLarge {
                    length,
                    limit: mux::MAX_RECORD,
                },
                TransportErrorKind::Encode(error) => MuxError::Encode(error),
                _ => MuxError::Closed,
            })
    }
}

/// An extension under the name that goes on the wire.
struct NamedExtension<'a> {
    name: &'a str,
    message: &'a [u8],
}

impl Encode for NamedExtension<'_> {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.string(self.name, "name")?;
        encoder.raw(self.message);
        Ok(())
    }
}

impl Connection {
    /// Starts a connection at the time `now`. What is wrong with the configuration is reported by the first
    /// [`Connection::poll_event`].
    pub fn new(config: ConnectionConfig, now: Duration) -> Self {
        let is_initiator = config.transport.is_initiator;
        let transport = Transport::new(config.transport.clone())
            .unwrap_or_else(|error| Transport::failed(is_initiator, error));
        Self::with_transport(transport, config, now)
    }

    /// Starts a connection over a transport that exists already, such as one after a handshake that took place
    /// elsewhere. The transport's part of the configuration is left aside.
    pub fn with_transport(transport: Transport, config: ConnectionConfig, now: Duration) -> Self {
        let ending = transport.failure().map(|error| Err(error.clone().into()));
        Self {
            transport,
            mux: Mux::new(config.limits),
            phase: Phase::Handshake,
            ending,
            finishing: false,
            events: VecDeque::new(),
            channels: FxHashMap::default(),
            handles: FxHashMap::default(),
            by_discovery_key: HashMap::new(),
            next_handle: 0,
            waiting: Vec::new(),
            unknown: HashMap::new(),
            raw: RawChannels::default(),
            ignored: Ignored::default(),
            consumed: 0,
            answers: 0,
            answers_end: 0,
            started: now,
            last_received: now,
            last_sent: now,
            handshake_timeout: config.handshake_timeout,
            keep_alive: config.keep_alive,
            idle_timeout: config.idle_timeout,
            unknown_messages: config.unknown_messages,
        }
    }

    /// Whether we sent the first handshake message.
    pub fn is_initiator(&self) -> bool {
        self.transport.is_initiator()
    }

    /// Our static public key.
    pub fn public_key(&self) -> &[u8; 32] {
        self.transport.public_key()
    }

    /// What the handshake established, once it is complete on our side.
    pub fn handshake(&self) -> Option<&HandshakeInfo> {
        self.transport.handshake()
    }

    /// The datagrams beside the stream, from [`ConnectionEvent::Handshake`] on. Every call gives the same ones, which
    /// count together.
    ///
    /// # Errors
    /// [`DatagramError`](crate::datagram::DatagramError), as [`Transport::datagrams`].
    pub fn datagrams(&mut self) -> Result<Datagrams, Error> {
        Ok(self.transport.datagrams()?)
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

    /// Takes bytes that arrived, in chunks of any size. What they say, errors included, comes out of
    /// [`Connection::poll_event`].
    pub fn receive(&mut self, bytes: &[u8], now: Duration) {
        self.last_received = now;
        if self.ending.is_some() || self.phase == Phase::Ended {
            return;
        }
        if let Err(error) = self.transport.receive(bytes) {
            self.ending = Some(Err(error.into()));
        }
    }

    /// Takes the end of what arrives. [`Connection::poll_event`] says whether it was a clean one.
    pub fn receive_end(&mut self) {
        if self.ending.is_none() && self.phase != Phase::Ended {
            self.ending = Some(self.transport.receive_end().map_err(Error::from));
        }
    }

    /// Ends our side: from now on nothing can be opened or sent, while what the peer sends is still read. Once
    /// [`Connection::transmit`] is empty the caller ends the outgoing direction of the socket. What was corked is sent.
    pub fn finish(&mut self) {
        self.finishing = true;
        let _ = self.mux.uncork_all(&mut self.transport);
    }

    /// Whether [`Connection::finish`] was called.
    pub fn is_finishing(&self) -> bool {
        self.finishing
    }

    /// Whether all that arrived was read, so that more can be given to [`Connection::receive`]. Giving more than that
    /// is no fault, but is held in memory.
    ///
    /// False after [`Connection::poll_event`] returned none means that an open of the peer waits for an answer while
    /// too much was sent on it ([`Limits::max_buffered`]), or that answers must leave first.
    pub fn wants_input(&self) -> bool {
        self.phase != Phase::Ended
            && self.ending.is_none()
            && self.events.is_empty()
            && (self.phase == Phase::Handshake || self.mux.wants_record())
            && !self.transport.has_records()
            && !self.answers_wait()
    }

    /// The next event, or none when nothing is left to read.
    ///
    /// # Errors
    /// Once, when the peer broke a rule or time ran out: the stream is to be destroyed. What came before it was
    /// returned, and the calls after it return the channels that closed with it.
    pub fn poll_event(&mut self) -> Result<Option<ConnectionEvent>, Error> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        if self.answers_wait() && self.phase == Phase::Open && self.ending.is_none() {
            return Ok(None);
        }
        // What is answered on the way leaves as one batch, as Node answers a batch.
        self.flush();
        self.mux.cork();
        let corked = self.mux.corked_len();
        let result = self.advance();
        self.count_answers(self.mux.corked_len().saturating_sub(corked));
        // Before the handshake, and after the end, there is nothing in it.
        let _ = self.mux.uncork(&mut self.transport);
        result.inspect_err(|_| self.end())
    }

    fn advance(&mut self) -> Result<Option<ConnectionEvent>, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.phase {
                Phase::Handshake => {
                    if let Some(info) = self.transport.handshake().cloned() {
                        self.phase = Phase::Open;
                        self.open_waiting(&info)?;
                        return Ok(Some(ConnectionEvent::Handshake(info)));
                    }
                }
                Phase::Open | Phase::Ended => {
                    if let Some(event) = self.mux.poll_event(&mut self.transport)? {
                        self.on_mux_event(event)?;
                        // Answers leave before more are made.
                        if self.events.is_empty() && self.mux.corked_len() > MAX_ANSWERS {
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
                            self.mux.reject(pending, &mut self.transport)?;
                        }
                        continue;
                    }
                    return Ok(None);
                }
                if let Some(record) = self.transport.poll_record() {
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

    fn on_mux_event(&mut self, event: MuxEvent) -> Result<(), Error> {
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
                if let Some(handle) = self.handles.get(&channel).copied() {
                    if !self.forget_raw(handle, reason) {
                        self.forget(handle, reason);
                    }
                }
                Ok(())
            }
        }
    }

    fn on_remote_open(&mut self, pending: mux::PendingId, open: RemoteOpen) -> Result<(), Error> {
        let id = open.id.as_deref();
        if self.raw.is_paired(&open.protocol, id) {
            self.raw.wait(&open, pending);
            self.events.push_back(ConnectionEvent::RemoteOpen(open));
            return Ok(());
        }
        let discovery_key = id.and_then(|id| DiscoveryKey::try_from(id).ok());
        let known = is_core(&open.protocol);
        match discovery_key {
            Some(discovery_key) if known && !self.by_discovery_key.contains_key(&discovery_key) => {
                let waiting = self.unknown.entry(discovery_key).or_default();
                waiting.push(pending);
                if waiting.len() == 1 {
                    self.events
                        .push_back(ConnectionEvent::DiscoveryKey(discovery_key));
                }
            }
            _ => {
                self.ignored.rejected_opens += 1;
                self.mux.reject(pending, &mut self.transport)?;
            }
        }
        Ok(())
    }

    fn on_opened(
        &mut self,
        id: mux::ChannelId,
        remote_id: u64,
        handshake: &Buffer,
    ) -> Result<(), Error> {
        let (Some(info), Some(&handle)) = (self.transport.handshake(), self.handles.get(&id))
        else {
            return Ok(());
        };
        let Some(channel) = self.channels.get_mut(&handle) else {
            self.on_raw_opened(handle, id, remote_id, handshake);
            return Ok(());
        };
        let handshake_bytes = handshake.detach();
        let handshake = Handshake::decode(handshake).map_err(ChannelError::Handshake)?;
        self.ignored.count(&handshake);
        let unread = Unread::of(&handshake, &handshake_bytes);
        let handshake = handshake.value;
        let proved = keys::verify_capability(
            !info.is_initiator,
            &channel.key,
            &info.hash,
            &handshake.capability,
        );
        if !proved {
            return Err(ChannelError::InvalidCapability {
                discovery_key: channel.discovery_key,
            }
            .into());
        }
        channel.opened = true;
        self.events.push_back(ConnectionEvent::ChannelOpened {
            channel: handle,
            key: channel.key,
            discovery_key: channel.discovery_key,
            handshake,
            unread,
            handshake_bytes,
            local_id: id.local(),
            remote_id,
        });
        Ok(())
    }

    fn on_message(
        &mut self,
        id: mux::ChannelId,
        kind: u64,
        body: Buffer,
        record_len: usize,
    ) -> Result<(), Error> {
        let Some(&handle) = self.handles.get(&id) else {
            return Ok(());
        };
        if self.raw.mux_id(handle).is_some() {
            self.on_raw_message(handle, kind, body, record_len);
            return Ok(());
        }
        let body_len = body.len();
        let body = keep(body, record_len);
        let message_type = match MessageType::from_id(kind) {
            Some(message_type) => message_type,
            None if self.unknown_messages => MessageType::Unknown(kind),
            None => {
                self.ignored.unknown_messages += 1;
                return Ok(());
            }
        };
        let decoded = match Message::decode_as(message_type, &body) {
            Ok(decoded) => decoded,
            Err(error) => {
                let message = message_type;
                return Err(Error::Message { message, error });
            }
        };
        self.ignored.count(&decoded);
        let unread = Unread::of(&decoded, &body);
        let mut message = decoded.value;
        if let (Message::Extension(extension), Some(channel)) =
            (&mut message, self.channels.get_mut(&handle))
        {
            let names = channel.names.get_or_insert_default();
            let name = names.receive(&extension.name);
            if extension.name.is_empty() {
                name.clone_into(&mut extension.name);
            }
        }
        self.events.push_back(ConnectionEvent::Message {
            channel: handle,
            message,
            unread,
            body_len,
        });
        Ok(())
    }

    /// Opens the channel of a core, or answers the peer's open of it. Before the handshake is complete the open waits
    /// for it. [`ConnectionEvent::ChannelOpened`] follows when the peer has opened it too.
    ///
    /// # Errors
    /// [`ChannelError::AlreadyOpen`] or [`ConnectionError::Closed`].
    pub fn open(&mut self, key: Key) -> Result<ChannelHandle, Error> {
        self.check_alive()?;
        let discovery_key = keys::discovery_key(&key);
        if self.by_discovery_key.contains_key(&discovery_key) {
            return Err(ChannelError::AlreadyOpen.into());
        }
        // One of this name that was opened as a raw channel.
        if self.mux.is_opened(wire::PROTOCOL, Some(&discovery_key)) {
            return Err(ChannelError::AlreadyOpen.into());
        }
        let handle = self.new_handle();
        let channel = Channel {
            key,
            discovery_key,
            mux: None,
            opened: false,
            names: None,
        };
        self.channels.insert(handle, channel);
        self.by_discovery_key.insert(discovery_key, handle);
        match self.transport.handshake().cloned() {
            Some(info) if self.phase == Phase::Open => self.open_now(handle, &info)?,
            _ => self.waiting.push(handle),
        }
        Ok(handle)
    }

    fn new_handle(&mut self) -> ChannelHandle {
        self.next_handle += 1;
        ChannelHandle(self.next_handle)
    }

    fn open_waiting(&mut self, info: &HandshakeInfo) -> Result<(), Error> {
        for handle in std::mem::take(&mut self.waiting) {
            self.open_now(handle, info)?;
        }
        Ok(())
    }

    fn open_now(&mut self, handle: ChannelHandle, info: &HandshakeInfo) -> Result<(), Error> {
        let Some(channel) = self.channels.get_mut(&handle) else {
            return Ok(());
        };
        let handshake = Handshake {
            seeks: true,
            capability: keys::capability(info.is_initiator, &channel.key, &info.hash),
        };
        let discovery_key = channel.discovery_key;
        // One of this name that was opened as a raw channel while this one waited for the handshake.
        if self.mux.is_opened(wire::PROTOCOL, Some(&discovery_key)) {
            self.forget(handle, CloseReason::Local);
            return Ok(());
        }
        let id = self.mux.open(
            &OpenOptions {
                protocol: wire::PROTOCOL,
                aliases: &[wire::PROTOCOL_ALIAS],
                id: Some(&discovery_key),
                unique: true,
                handshake: &handshake,
            },
            &mut self.transport,
        )?;
        channel.mux = Some(id);
        self.handles.insert(id, handle);
        for protocol in [wire::PROTOCOL, wire::PROTOCOL_ALIAS] {
            self.settle_waiting(protocol, Some(&discovery_key));
        }
        // The first of the peer's opens was answered; a core has one channel.
        for pending in self.unknown.remove(&discovery_key).unwrap_or_default() {
            self.mux.reject(pending, &mut self.transport)?;
        }
        Ok(())
    }

    /// Refuses the channel of a core that the peer opened. Without such an open nothing happens.
    ///
    /// # Errors
    /// [`ConnectionError::Closed`].
    pub fn reject(&mut self, discovery_key: &DiscoveryKey) -> Result<(), Error> {
        self.check_alive()?;
        self.flush();
        let before = self.transport.transmit().len();
        for pending in self.unknown.remove(discovery_key).unwrap_or_default() {
            self.mux.reject(pending, &mut self.transport)?;
        }
        self.flush();
        self.count_answers(self.transport.transmit().len() - before);
        Ok(())
    }

    /// Closes a channel. [`ConnectionEvent::ChannelClosed`] follows; one that is closed already is left alone.
    ///
    /// # Errors
    /// None that a caller could avoid.
    pub fn close(&mut self, channel: ChannelHandle) -> Result<(), Error> {
        if let Some(id) = self.raw.mux_id(channel) {
            return Ok(self.mux.close(id, &mut self.transport)?);
        }
        match self.channels.get(&channel).map(|channel| channel.mux) {
            Some(Some(id)) => {
                self.mux.close(id, &mut self.transport)?;
                self.release_key(channel);
            }
            // Not on the wire yet: nothing needs to be sent.
            Some(None) => self.forget(channel, CloseReason::Local),
            None => {}
        }
        Ok(())
    }

    /// Sends a message on an open channel. An extension of the same name as the last is sent without its name, as Node
    /// does.
    ///
    /// # Errors
    /// [`ChannelError::Closed`], [`ChannelError::NotOpen`], or that the message cannot be encoded or is too large for a
    /// record; nothing was sent then.
    pub fn send(&mut self, channel: ChannelHandle, message: &Message) -> Result<(), Error> {
        self.open_id(channel)?;
        self.send_early(channel, message)
    }

    /// As [`Connection::send`], on a channel that the peer may not have opened yet, which saves the wait for its answer:
    /// the peer keeps the message until it opens the channel, and drops it if it does not.
    ///
    /// **The peer has not proved to know the core's key then, and reads the message all the same.** Node's hypercore
    /// never does this; other protocols over protomux do.
    ///
    /// # Errors
    /// As [`Connection::send`]; [`ChannelError::NotOpen`] before the handshake is complete.
    pub fn send_early(&mut self, channel: ChannelHandle, message: &Message) -> Result<(), Error> {
        if let Message::Extension(extension) = message {
            return self.put_extension(channel, &extension.name, &extension.message);
        }
        let id = self.live_id(channel)?;
        let kind = message.message_type().id();
        Ok(self
            .mux
            .send_gathered(id, kind, message, &mut self.transport)?)
    }

    /// Sends an extension's message. See [`Connection::send`].
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn send_extension(
        &mut self,
        channel: ChannelHandle,
        name: &str,
        message: &[u8],
    ) -> Result<(), Error> {
        self.open_id(channel)?;
        self.put_extension(channel, name, message)
    }

    fn put_extension(
        &mut self,
        channel: ChannelHandle,
        name: &str,
        message: &[u8],
    ) -> Result<(), Error> {
        let id = self.live_id(channel)?;
        let Some(channel) = self.channels.get_mut(&channel) else {
            return Err(ChannelError::Closed.into());
        };
        let before = channel.names.clone();
        let name = channel.names.get_or_insert_default().send(name);
        let body = NamedExtension { name, message };
        let kind = wire::MessageType::Extension.id();
        self.mux
            .send(id, kind, &body, &mut self.transport)
            .map_err(|error| {
                channel.names = before;
                error.into()
            })
    }

    /// Sends messages as one batch, as long as they fit into one record.
    ///
    /// # Errors
    /// As [`Connection::send`], for the first that cannot be sent; those before it were.
    pub fn send_batch(
        &mut self,
        channel: ChannelHandle,
        messages: &[Message],
    ) -> Result<(), Error> {
        self.open_id(channel)?;
        self.cork();
        let sent = messages
            .iter()
            .try_for_each(|message| self.send(channel, message));
        self.uncork()?;
        sent
    }

    /// Keeps what is sent from now on, on all channels, for one batch, until as many calls of [`Connection::uncork`].
    pub fn cork(&mut self) {
        // What was sent before does not wait.
        self.flush();
        self.mux.cork();
    }

    /// From now on small messages wait for [`Connection::flush`], to share a record with those that follow.
    pub(crate) fn gather(&mut self) {
        self.mux.gather();
    }

    /// Makes what was gathered ready to leave.
    pub(crate) fn flush(&mut self) {
        // Whatever could be wrong with a message was found when it was sent.
        let _ = self.mux.flush_gathered(&mut self.transport);
    }

    /// Sends what was kept, if this is the last uncork.
    ///
    /// # Errors
    /// None that a caller could avoid.
    pub fn uncork(&mut self) -> Result<(), Error> {
        Ok(self.mux.uncork(&mut self.transport)?)
    }

    /// Sends an empty record.
    ///
    /// # Errors
    /// [`ConnectionError::Closed`].
    pub fn send_keep_alive(&mut self) -> Result<(), Error> {
        self.check_alive()?;
        self.flush();
        Ok(self.transport.send_record(&[])?)
    }

    /// Sends a record of this plaintext, so that a test can send what no peer should.
    #[doc(hidden)]
    pub fn send_plaintext_for_testing_only(&mut self, plaintext: &[u8]) -> Result<(), Error> {
        self.check_alive()?;
        self.flush();
        Ok(self.transport.send_record(&[plaintext])?)
    }

    /// Puts bytes on the wire as they are, so that a test can send what no peer should.
    #[doc(hidden)]
    pub fn send_raw_for_testing_only(&mut self, bytes: &[u8]) {
        self.flush();
        self.transport.push_raw_for_testing_only(bytes);
    }

    /// Bytes that are ready to leave.
    pub fn transmit(&self) -> &[u8] {
        self.transport.transmit()
    }

    /// Forgets the first `count` bytes of [`Connection::transmit`]: they left at the time `now`.
    pub fn consume_transmit(&mut self, count: usize, now: Duration) {
        let count = count.min(self.transport.transmit().len());
        self.transport.consume_transmit(count);
        self.on_sent(count, now);
    }

    /// Exchanges the bytes that are ready to leave for `spare`, an empty vector whose memory is used for what comes
    /// next. They count as having left at the time `now`.
    pub fn swap_transmit(&mut self, spare: &mut Vec<u8>, now: Duration) {
        spare.clear();
        self.transport.swap_transmit(spare);
        self.on_sent(spare.len(), now);
    }

    /// Bytes that were sent and are not ready to leave yet: they wait for the handshake, or for [`Connection::uncork`].
    pub fn held_len(&self) -> usize {
        self.transport.waiting_for_handshake() + self.mux.batch_len()
    }

    /// Bytes of these that wait for [`Connection::uncork`], at most 8 MiB and a message.
    pub fn corked_len(&self) -> usize {
        self.mux.corked_len()
    }

    /// When [`Connection::handle_timeout`] is to be called next, if ever. Changes with every other call.
    pub fn next_deadline(&self) -> Option<Duration> {
        // Once the end is known, there is nothing left that time could bring about.
        if self.phase == Phase::Ended || self.ending.is_some() {
            return None;
        }
        let handshake = self.handshake_timeout.filter(|_| !self.is_established());
        [
            handshake.map(|timeout| self.started.saturating_add(timeout)),
            self.idle_timeout
                .map(|timeout| self.last_received.saturating_add(timeout)),
            self.keep_alive
                .filter(|_| self.phase == Phase::Open && !self.finishing)
                .map(|interval| self.last_sent.saturating_add(interval)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due at the time `now`: sends a keep-alive, or ends the connection, which
    /// [`Connection::poll_event`] then reports.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.phase == Phase::Ended || self.ending.is_some() {
            return;
        }
        let due = |since: Duration, timeout: Option<Duration>| {
            timeout.filter(|&timeout| now >= since.saturating_add(timeout))
        };
        if let Some(timeout) = due(self.started, self.handshake_timeout) {
            if !self.is_established() {
                self.ending = Some(Err(ConnectionError::HandshakeTimeout(timeout).into()));
                return;
            }
        }
        if let Some(timeout) = due(self.last_received, self.idle_timeout) {
            self.ending = Some(Err(ConnectionError::IdleTimeout(timeout).into()));
            return;
        }
        if self.phase == Phase::Open
            && !self.finishing
            && due(self.last_sent, self.keep_alive).is_some()
        {
            self.last_sent = now;
            self.flush();
            // What waits to leave keeps the stream alive as well.
            if self.transport.transmit().is_empty() {
                let _ = self.transport.send_record(&[]);
            }
        }
    }

    /// Takes the time while nothing is read on purpose out of the idle time-out.
    pub fn defer_idle_timeout(&mut self, now: Duration) {
        self.last_received = now;
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
        let _ = self.mux.uncork_all(&mut self.transport);
        self.mux.end();
        // Those that the mux never knew.
        let mut unsent: Vec<_> = self
            .channels
            .iter()
            .filter(|(_, channel)| channel.mux.is_none())
            .map(|(&handle, _)| handle)
            .collect();
        unsent.sort_unstable();
        for handle in unsent {
            self.forget(handle, CloseReason::Stream);
        }
    }

    /// The core may be opened again.
    fn release_key(&mut self, handle: ChannelHandle) {
        if let Some(channel) = self.channels.get(&handle) {
            if self.by_discovery_key.get(&channel.discovery_key) == Some(&handle) {
                self.by_discovery_key.remove(&channel.discovery_key);
            }
        }
    }

    fn forget(&mut self, handle: ChannelHandle, reason: CloseReason) {
        self.release_key(handle);
        let Some(channel) = self.channels.remove(&handle) else {
            return;
        };
        self.waiting.retain(|waiting| *waiting != handle);
        if let Some(id) = channel.mux {
            self.handles.remove(&id);
        }
        self.events.push_back(ConnectionEvent::ChannelClosed {
            channel: handle,
            discovery_key: channel.discovery_key,
            reason,
        });
    }

    /// A channel that both sides have opened.
    fn open_id(&self, channel: ChannelHandle) -> Result<mux::ChannelId, Error> {
        let id = self.live_id(channel)?;
        match self.channels.get(&channel) {
            Some(channel) if channel.opened => Ok(id),
            _ => Err(ChannelError::NotOpen.into()),
        }
    }

    /// A channel that is open here.
    fn live_id(&self, channel: ChannelHandle) -> Result<mux::ChannelId, Error> {
        if self.finishing {
            return Err(ChannelError::Closed.into());
        }
        let channel = self.channels.get(&channel).ok_or(ChannelError::Closed)?;
        let id = channel.mux.ok_or(ChannelError::NotOpen)?;
        if !self.mux.is_live(id) {
            return Err(ChannelError::Closed.into());
        }
        Ok(id)
    }

    fn is_established(&self) -> bool {
        self.transport.is_established()
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

    /// Remembers automatic answers that are about to be queued.
    fn count_answers(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.answers += bytes;
        self.answers_end = self.consumed + (self.transport.transmit().len() + bytes) as u64;
    }

    fn answers_wait(&self) -> bool {
        self.answers > MAX_ANSWERS
    }
}

fn is_core(protocol: &str) -> bool {
    protocol == wire::PROTOCOL || protocol == wire::PROTOCOL_ALIAS
}

/// A body that may wait long, without the record that it came in if that is much larger.
fn keep(body: Buffer, record_len: usize) -> Buffer {
    if record_len > DETACH_RECORD && body.len().saturating_mul(4) < record_len {
        return body.detach();
    }
    body
}

#[cfg(test)]
mod tests;
