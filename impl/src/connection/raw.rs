//! Channels of any protocol, beside those of cores: what protomux 3.12.1, `index.js`, offers as `createChannel`, `pair`
//! and `cork`.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::channels::{Channel, Kind, Name, is_core};
use super::{ChannelHandle, Connection, ConnectionEvent, keep, kept_len};
use crate::buffer::Buffer;
use crate::error::Error;
use crate::keys::DiscoveryKey;
use crate::mux::{self, MuxError, OpenOptions, Raw};
use crate::wire;

/// The options of [`Connection::open_channel`], as those of `mux.createChannel` in protomux 3.12.1.
#[derive(Clone, PartialEq, Eq)]
pub struct ChannelOptions {
    pub(crate) protocol: String,
    aliases: Vec<String>,
    pub(crate) id: Option<Buffer>,
    handshake: Buffer,
    unique: bool,
}

impl fmt::Debug for ChannelOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelOptions")
            .field("protocol", &self.protocol)
            .field("aliases", &self.aliases)
            .field("id", &self.id)
            .field("unique", &self.unique)
            .finish_non_exhaustive()
    }
}

impl ChannelOptions {
    /// A unique channel of this protocol, without id, aliases and handshake.
    pub fn new(protocol: impl Into<String>) -> Self {
        Self {
            protocol: protocol.into(),
            aliases: Vec::new(),
            id: None,
            handshake: Buffer::new(),
            unique: true,
        }
    }

    /// Adds another name under which the peer may have opened, or may open, the protocol. As in Node, only the aliases of
    /// the first of several channels of one protocol and id count.
    pub fn alias(mut self, protocol: impl Into<String>) -> Self {
        self.aliases.push(protocol.into());
        self
    }

    /// What tells this channel from others of the protocol; any number of bytes. None, and an empty one, is the id of a
    /// channel without.
    pub fn id(mut self, id: impl AsRef<[u8]>) -> Self {
        self.id = some_id(Some(id.as_ref()));
        self
    }

    /// The protocol's own handshake, which the peer gets with the open. Default none, 0 bytes.
    pub fn handshake(mut self, handshake: impl AsRef<[u8]>) -> Self {
        self.handshake = Buffer::copy_from(handshake.as_ref());
        self
    }

    /// Whether to refuse a second channel of the same protocol and id. Default true, as in Node.
    pub fn unique(mut self, unique: bool) -> Self {
        self.unique = unique;
        self
    }
}

/// The peer opened a channel of a protocol that was paired: see [`Connection::pair`].
///
/// It waits, and what the peer sends on it waits too, until it is answered by [`Connection::open_channel`] with this
/// protocol and id, or by [`Connection::reject_channel`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteOpen {
    /// The protocol, as the peer called it.
    pub protocol: String,
    /// The channel's id, if it has one.
    pub id: Option<Buffer>,
    /// The protocol's handshake.
    pub handshake: Buffer,
}

impl RemoteOpen {
    /// The options that answer this open, to which a handshake can be added: its protocol and id, and otherwise those of
    /// [`ChannelOptions::new`].
    pub fn options(&self) -> ChannelOptions {
        ChannelOptions {
            id: self.id.clone(),
            ..ChannelOptions::new(self.protocol.clone())
        }
    }
}

/// A channel that is open here: see [`Connection::channels`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelInfo {
    /// Names the channel.
    pub handle: ChannelHandle,
    /// The protocol's name; `hypercore/alpha` for a core.
    pub protocol: String,
    /// The id of the channel among those of the protocol.
    pub id: Option<Buffer>,
    /// The discovery key, 32 bytes, of a core opened by [`Connection::open`]. Equal to the id.
    pub discovery_key: Option<DiscoveryKey>,
    /// Whether the peer has opened it too.
    pub opened: bool,
}

/// The state of channels that are not a core's.
#[derive(Debug, Default)]
pub(super) struct RawChannels {
    paired: HashSet<Name>,
    /// Protocols of which only the channel without an id is paired.
    extensions: HashSet<String>,
    /// The peer's opens that were reported and wait for an answer.
    waiting: HashMap<Name, Vec<mux::PendingId>>,
}

fn some_id(id: Option<&[u8]>) -> Option<Buffer> {
    id.filter(|id| !id.is_empty()).map(Buffer::copy_from)
}

fn name(protocol: &str, id: Option<&[u8]>) -> Name {
    (protocol.to_owned(), some_id(id))
}

impl RawChannels {
    pub(super) fn is_paired(&self, protocol: &str, id: Option<&[u8]>) -> bool {
        self.paired.contains(&name(protocol, id))
            || self.paired.contains(&name(protocol, None))
            || (some_id(id).is_none() && self.extensions.contains(protocol))
    }

    pub(super) fn wait(&mut self, open: &RemoteOpen, pending: mux::PendingId) {
        let name = (open.protocol.clone(), open.id.clone());
        self.waiting.entry(name).or_default().push(pending);
    }

    /// Takes all pending opens when they can no longer be answered.
    pub(super) fn take_waiting(&mut self) -> Vec<mux::PendingId> {
        std::mem::take(&mut self.waiting)
            .into_values()
            .flatten()
            .collect()
    }

    /// Forgets opens of these names that were answered.
    fn settle(&mut self, name: &Name, mux: &mux::Mux) {
        if let Some(waiting) = self.waiting.get_mut(name) {
            waiting.retain(|pending| mux.is_pending(*pending));
            if waiting.is_empty() {
                self.waiting.remove(name);
            }
        }
    }
}

impl Connection {
    /// Opens a channel of any protocol, or answers the first of the peer's opens of it that wait.
    ///
    /// [`ConnectionEvent::MuxChannelOpened`] follows when the peer has opened it too, [`ConnectionEvent::MuxChannelClosed`]
    /// when it rejects it. Messages may be sent at once, and before the handshake: the peer keeps them until it opens the
    /// channel, and drops them if it rejects it.
    ///
    /// # Errors
    /// [`MuxError::AlreadyOpen`], [`MuxError::TooLarge`],
    /// [`ConnectionError::Closed`](super::ConnectionError::Closed); nothing was sent then.
    pub fn open_channel(&mut self, options: &ChannelOptions) -> Result<ChannelHandle, Error> {
        self.check_alive()?;
        let aliases: Vec<_> = options.aliases.iter().map(String::as_str).collect();
        let before = self.begin_answer();
        let id = self.mux.open_as(
            &OpenOptions {
                protocol: &options.protocol,
                aliases: &aliases,
                id: options.id.as_deref(),
                unique: options.unique,
                handshake: &Raw(&options.handshake),
            },
            self.channels.next_place(),
        )?;
        let name = (options.protocol.clone(), options.id.clone());
        let handle = self.channels.insert(Kind::Other(name), Some(id));
        for protocol in std::iter::once(options.protocol.as_str()).chain(aliases) {
            self.settle_waiting(protocol, options.id.as_deref());
        }
        self.end_answer(before);
        Ok(handle)
    }

    /// From now on the peer's opens of this protocol and id, or of all its ids if none is given, are reported as
    /// [`ConnectionEvent::RemoteOpen`]. Without it they are rejected, unless the channel was opened here before; but
    /// cores are always reported, as [`ConnectionEvent::DiscoveryKey`] if they are not paired.
    ///
    /// As in Node (protomux 3.12.1, `pair`), the name is compared with the one that the peer used: pair every alias.
    pub fn pair(&mut self, protocol: &str, id: Option<&[u8]>) {
        self.raw.paired.insert(name(protocol, id));
    }

    /// Undoes [`Connection::pair`] with the same protocol and id. Opens already reported stay pending.
    pub fn unpair(&mut self, protocol: &str, id: Option<&[u8]>) {
        self.raw.paired.remove(&name(protocol, id));
    }

    /// As [`Connection::pair`], of the channel without an id alone.
    pub(crate) fn pair_extension(&mut self, protocol: &str) {
        self.raw.extensions.insert(protocol.to_owned());
    }

    pub(crate) fn unpair_extension(&mut self, protocol: &str) {
        self.raw.extensions.remove(protocol);
    }

    /// Refuses all of the peer's opens of this protocol and id that wait. Without such an open nothing happens, nor once the
    /// connection has ended.
    pub fn reject_channel(&mut self, protocol: &str, id: Option<&[u8]>) {
        let waiting = self.raw.waiting.remove(&name(protocol, id));
        self.reject_all(waiting.unwrap_or_default());
    }

    /// Sends a message of the type `kind` on a channel of [`Connection::open_channel`].
    ///
    /// # Errors
    /// [`MuxError::Closed`], [`MuxError::TooLarge`], or [`MuxError::Encode`] for a type above 2^53-1; nothing was sent
    /// then.
    pub fn send_raw(
        &mut self,
        channel: ChannelHandle,
        kind: u64,
        body: &[u8],
    ) -> Result<(), Error> {
        let channel = self.channels.get(channel).filter(|_| !self.finishing);
        let channel = channel.filter(|channel| channel.core().is_none());
        let id = channel.and_then(|channel| channel.mux);
        let id = id.ok_or(MuxError::Closed)?;
        Ok(self.mux.send(id, kind, &Raw(body))?)
    }

    /// Sends messages, each with its type, as one batch, as long as they fit into one record.
    ///
    /// # Errors
    /// As [`Connection::send_raw`], for the first that cannot be sent; those before it were.
    pub fn send_batch_raw(
        &mut self,
        channel: ChannelHandle,
        messages: &[(u64, Buffer)],
    ) -> Result<(), Error> {
        self.cork();
        let sent = messages
            .iter()
            .try_for_each(|(kind, body)| self.send_raw(channel, *kind, body));
        self.uncork();
        sent
    }

    /// The channels that are open here, cores included, in the order in which they were opened.
    pub fn channels(&self) -> Vec<ChannelInfo> {
        let info = |(handle, channel): (ChannelHandle, &Channel)| {
            let opened = channel.opened;
            match &channel.kind {
                Kind::Core(core) => {
                    // One that is closed here waits for nothing but its event.
                    let open = self.by_discovery_key.get(&core.discovery_key);
                    (open == Some(&handle)).then(|| ChannelInfo {
                        handle,
                        protocol: wire::PROTOCOL.to_owned(),
                        id: Some(Buffer::copy_from(&core.discovery_key)),
                        discovery_key: Some(core.discovery_key),
                        opened,
                    })
                }
                Kind::Other((protocol, id)) => {
                    let is_live = channel.mux.is_some_and(|mux| self.mux.is_live(mux));
                    is_live.then(|| ChannelInfo {
                        handle,
                        protocol: protocol.clone(),
                        id: id.clone(),
                        discovery_key: None,
                        opened,
                    })
                }
            }
        };
        self.channels
            .sorted()
            .into_iter()
            .filter_map(info)
            .collect()
    }

    /// Forgets opens of this name that were answered by an open.
    pub(super) fn settle_waiting(&mut self, protocol: &str, id: Option<&[u8]>) {
        self.raw.settle(&name(protocol, id), &self.mux);
        let discovery_key = id.and_then(|id| DiscoveryKey::try_from(id).ok());
        if let Some(discovery_key) = discovery_key.filter(|_| is_core(protocol)) {
            if let Some(waiting) = self.unknown.get_mut(&discovery_key) {
                waiting.retain(|pending| self.mux.is_pending(*pending));
                if waiting.is_empty() {
                    self.unknown.remove(&discovery_key);
                }
            }
        }
    }
}

/// A message as the caller gets it.
pub(super) fn message(
    channel: ChannelHandle,
    kind: u64,
    body: Buffer,
    record_len: usize,
) -> ConnectionEvent {
    let body = keep(body, record_len);
    ConnectionEvent::MuxMessage {
        channel,
        kind,
        held: match body.is_empty() {
            true => 0,
            false => kept_len(&body, record_len),
        },
        body,
    }
}

#[cfg(test)]
mod tests;
