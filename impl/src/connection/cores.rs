//! The channels of cores: hypercore's protocol on top of those of any protocol.

use std::sync::Arc;

use super::channels::{Core, Kind, is_core};
use super::error::ChannelError;
#[cfg(doc)]
use super::error::ConnectionError;
use super::{
    ChannelHandle, Connection, ConnectionEvent, Ignored, Phase, RemoteOpen, keep, kept_len,
};
use crate::buffer::Buffer;
use crate::encoding::{Decode, Decoder, Encode, EncodeError, Encoder};
use crate::error::Error;
use crate::keys::{self, DiscoveryKey, Key};
use crate::mux::{self, CloseReason, OpenOptions};
use crate::transport::HandshakeInfo;
use crate::wire::{self, ExtensionNames, Handshake, Message, MessageType, Unread};

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

impl Core {
    /// What the peer's open says: its handshake proves that it knows the key, or ends the stream.
    pub(super) fn opened(
        &self,
        channel: ChannelHandle,
        (id, remote_id): (mux::ChannelId, u64),
        handshake: &Buffer,
        info: &HandshakeInfo,
        ignored: &mut Ignored,
    ) -> Result<ConnectionEvent, Error> {
        let handshake_bytes = handshake.detach();
        let handshake = Handshake::decode(handshake).map_err(ChannelError::Handshake)?;
        ignored.count(&handshake);
        let unread = Unread::of(&handshake, &handshake_bytes);
        let handshake = handshake.value;
        let capability = &handshake.capability;
        if !keys::verify_capability(!info.is_initiator, &self.key, &info.hash, capability) {
            return Err(ChannelError::InvalidCapability {
                discovery_key: self.discovery_key,
            }
            .into());
        }
        Ok(ConnectionEvent::ChannelOpened {
            channel,
            key: self.key,
            discovery_key: self.discovery_key,
            handshake,
            unread,
            handshake_bytes,
            local_id: id.local(),
            remote_id,
        })
    }
}

impl Connection {
    /// Opens the channel of a core, or answers the peer's open of it. Before the handshake is complete the open waits
    /// for it. [`ConnectionEvent::ChannelOpened`] follows when the peer has opened it too.
    ///
    /// # Errors
    /// [`ChannelError::AlreadyOpen`] or [`ConnectionError::Closed`].
    pub fn open(&mut self, key: impl Into<Key>) -> Result<ChannelHandle, Error> {
        self.check_alive()?;
        let key = key.into();
        let discovery_key = keys::discovery_key(&key);
        if self.by_discovery_key.contains_key(&discovery_key) {
            return Err(ChannelError::AlreadyOpen.into());
        }
        // One of this name that was opened as a raw channel.
        if self.mux.is_opened(wire::PROTOCOL, Some(&discovery_key)) {
            return Err(ChannelError::AlreadyOpen.into());
        }
        let core = Core {
            key,
            discovery_key,
            names: None,
        };
        let handle = self.channels.insert(Kind::Core(core), None);
        self.by_discovery_key.insert(discovery_key, handle);
        match self.inbound.handshake().cloned() {
            Some(info) if self.phase == Phase::Open => self.open_now(handle, &info)?,
            _ => self.waiting.push(handle),
        }
        Ok(handle)
    }

    pub(super) fn open_waiting(&mut self, info: &HandshakeInfo) -> Result<(), Error> {
        for handle in std::mem::take(&mut self.waiting) {
            self.open_now(handle, info)?;
        }
        Ok(())
    }

    fn open_now(&mut self, handle: ChannelHandle, info: &HandshakeInfo) -> Result<(), Error> {
        let channel = self.channels.get(handle);
        let Some(core) = channel.and_then(|channel| channel.core()) else {
            return Ok(());
        };
        let handshake = Handshake {
            seeks: true,
            capability: keys::capability(info.is_initiator, &core.key, &info.hash),
        };
        let discovery_key = core.discovery_key;
        // One of this name that was opened as a channel of any protocol while this one waited for the handshake.
        if self.mux.is_opened(wire::PROTOCOL, Some(&discovery_key)) {
            let closed = self.forget(handle, CloseReason::Local);
            self.events.extend(closed);
            return Ok(());
        }
        let before = self.begin_answer();
        let options = OpenOptions {
            protocol: wire::PROTOCOL,
            aliases: &[wire::PROTOCOL_ALIAS],
            id: Some(&discovery_key),
            unique: true,
            handshake: &handshake,
        };
        let id = self.mux.open_as(&options, handle.place())?;
        if let Some(channel) = self.channels.get_mut(handle) {
            channel.mux = Some(id);
        }
        for protocol in [wire::PROTOCOL, wire::PROTOCOL_ALIAS] {
            self.settle_waiting(protocol, Some(&discovery_key));
        }
        // The first of the peer's opens was answered; a core has one channel.
        for pending in self.unknown.remove(&discovery_key).unwrap_or_default() {
            self.mux.reject(pending)?;
        }
        self.end_answer(before);
        Ok(())
    }

    /// Refuses the channel of a core that the peer opened. Without such an open nothing happens, nor once the connection has
    /// ended.
    pub fn reject(&mut self, discovery_key: &DiscoveryKey) {
        let waiting = self.unknown.remove(discovery_key);
        self.reject_all(waiting.unwrap_or_default());
    }

    /// Refuses opens of the peer.
    pub(super) fn reject_all(&mut self, waiting: Vec<mux::PendingId>) {
        if self.check_alive().is_err() {
            return;
        }
        let before = self.begin_answer();
        for pending in waiting {
            // A record of so few bytes is never refused.
            let _ = self.mux.reject(pending);
        }
        self.end_answer(before);
    }

    pub(super) fn on_core_open(
        &mut self,
        pending: mux::PendingId,
        open: &RemoteOpen,
    ) -> Result<Option<ConnectionEvent>, Error> {
        let id = open.id.as_deref();
        let discovery_key = id.and_then(|id| DiscoveryKey::try_from(id).ok());
        match discovery_key.filter(|_| is_core(&open.protocol)) {
            Some(discovery_key) if !self.by_discovery_key.contains_key(&discovery_key) => {
                let waiting = self.unknown.entry(discovery_key).or_default();
                waiting.push(pending);
                let is_first = waiting.len() == 1;
                Ok(is_first.then_some(ConnectionEvent::DiscoveryKey(discovery_key)))
            }
            _ => {
                self.ignored.rejected_opens += 1;
                self.mux.reject(pending)?;
                Ok(None)
            }
        }
    }

    pub(super) fn on_core_message(
        &mut self,
        handle: ChannelHandle,
        kind: u64,
        body: Buffer,
        record_len: usize,
    ) -> Result<Option<ConnectionEvent>, Error> {
        let body_len = body.len();
        let body = keep(body, record_len);
        let message_type = match MessageType::from_id(kind) {
            Some(message_type) => message_type,
            None if self.unknown_messages => MessageType::Unknown(kind),
            None => {
                self.ignored.unknown_messages += 1;
                return Ok(None);
            }
        };
        if message_type == MessageType::Extension {
            self.check_extension_name(handle, &body)?;
        }
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
        if let Message::Extension(extension) = &mut message {
            let channel = self.channels.get_mut(handle);
            let Some(core) = channel.and_then(|channel| channel.core_mut()) else {
                return Ok(None);
            };
            let names = core.names.get_or_insert_default();
            self.name_bytes -= names.received_len();
            extension.name = Arc::clone(names.resolve(&extension.name));
            self.name_bytes += names.received_len();
        }
        let memory = message.memory();
        let held = memory.own
            + match memory.shares_body || !unread.trailing.is_empty() {
                true => kept_len(&body, record_len),
                false => 0,
            };
        Ok(Some(ConnectionEvent::Message {
            channel: handle,
            message,
            unread,
            body_len,
            held,
        }))
    }

    /// Looks at the length of an extension's name before it is read: one that is no UTF-8 takes three times its bytes.
    fn check_extension_name(&self, handle: ChannelHandle, body: &Buffer) -> Result<(), Error> {
        // The full decoding reports malformed messages.
        let length = Decoder::new(body).uint("name").unwrap_or(0);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let channel = self.channels.get(handle);
        let core = channel.and_then(|channel| channel.core());
        let own = core.and_then(|core| core.names.as_deref());
        let others = self.name_bytes - own.map_or(0, ExtensionNames::received_len);
        let limit = self.limits.max_extension_names;
        let is_whole = length <= body.len();
        if length > 0 && is_whole && length.saturating_add(others) > limit {
            return Err(ChannelError::ExtensionName {
                length,
                others,
                limit,
            }
            .into());
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
        let id = self.open_id(channel)?;
        self.put(channel, id, message)
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
        let id = self.live_id(channel)?;
        self.put(channel, id, message)
    }

    fn put(
        &mut self,
        channel: ChannelHandle,
        id: mux::ChannelId,
        message: &Message,
    ) -> Result<(), Error> {
        if let Message::Extension(extension) = message {
            return self.put_extension(channel, id, &extension.name, &extension.message);
        }
        let kind = message.message_type().id();
        Ok(self.mux.send_coalesced(id, kind, message)?)
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
        let id = self.open_id(channel)?;
        self.put_extension(channel, id, name, message)
    }

    fn put_extension(
        &mut self,
        channel: ChannelHandle,
        id: mux::ChannelId,
        name: &str,
        message: &[u8],
    ) -> Result<(), Error> {
        let channel = self.channels.get_mut(channel);
        let Some(core) = channel.and_then(|channel| channel.core_mut()) else {
            return Err(ChannelError::Closed.into());
        };
        let before = core.names.clone();
        let name = core.names.get_or_insert_default().send(name);
        let body = NamedExtension { name, message };
        let kind = wire::MessageType::Extension.id();
        self.mux.send(id, kind, &body).map_err(|error| {
            core.names = before;
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
        self.uncork();
        sent
    }

    /// The core may be opened again.
    pub(super) fn release_key(&mut self, handle: ChannelHandle) {
        let channel = self.channels.get(handle);
        if let Some(core) = channel.and_then(|channel| channel.core()) {
            if self.by_discovery_key.get(&core.discovery_key) == Some(&handle) {
                self.by_discovery_key.remove(&core.discovery_key);
            }
        }
    }

    /// The channel of a core that both sides have opened.
    fn open_id(&self, channel: ChannelHandle) -> Result<mux::ChannelId, Error> {
        let id = self.live_id(channel)?;
        match self.channels.get(channel) {
            Some(channel) if channel.opened => Ok(id),
            _ => Err(ChannelError::NotOpen.into()),
        }
    }

    /// The channel of a core that is open here.
    fn live_id(&self, channel: ChannelHandle) -> Result<mux::ChannelId, Error> {
        let channel = self.channels.get(channel).filter(|_| !self.finishing);
        let channel = channel.filter(|channel| channel.core().is_some());
        let id = channel.ok_or(ChannelError::Closed)?.mux;
        let id = id.ok_or(ChannelError::NotOpen)?;
        if !self.mux.is_live(id) {
            return Err(ChannelError::Closed.into());
        }
        Ok(id)
    }
}
