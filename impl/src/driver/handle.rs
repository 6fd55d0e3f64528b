//! [`ProtocolHandle`]: all that can be asked of a protocol, while this or another task polls it.

use std::fmt;
use std::sync::Arc;

#[cfg(doc)]
use crate::connection::{ChannelError, ConnectionError};
use crate::connection::{ChannelHandle, ChannelInfo, ChannelOptions, Connection, Ignored};
use crate::datagram::Datagrams;
use crate::error::Error;
use crate::keys::{DiscoveryKey, Key};
#[cfg(doc)]
use crate::mux::{Limits, MuxError};
use crate::transport::HandshakeInfo;
use crate::wire::Message;

#[cfg(doc)]
use super::event::Event;
use super::extension::Extension;
use super::mux_channel::MuxChannel;
use super::registration::Registration;
use super::shared::Shared;

/// Asks things of a [`Protocol`](crate::Protocol) from any task: [`Protocol::handle`](crate::Protocol::handle). Clones ask
/// the same protocol.
///
/// Calls take effect at once and wake the task that polls the protocol, which gets the events. Once the protocol has
/// ended or was dropped, what can fail is [`ConnectionError::Closed`]. A handle does not keep the stream open.
#[derive(Clone)]
pub struct ProtocolHandle {
    shared: Arc<Shared>,
}

impl fmt::Debug for ProtocolHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtocolHandle")
            .field("connection", &self.shared.lock().connection)
            .finish_non_exhaustive()
    }
}

impl ProtocolHandle {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
        }
    }

    /// Opens the channel of a core, or answers the remote's open of it. [`Event::Channel`] follows once both sides have
    /// opened it, [`Event::Close`] if the remote rejects it. Before the handshake the open waits for it. What is
    /// returned names the channel in these events.
    ///
    /// # Errors
    /// [`ChannelError::AlreadyOpen`] or [`ConnectionError::Closed`].
    pub fn open(&self, key: impl Into<Key>) -> Result<ChannelHandle, Error> {
        let key = key.into();
        self.shared.with(|connection| connection.open(key))
    }

    /// Refuses the channel of a core that the remote opened. Without such an open nothing happens.
    pub fn reject(&self, discovery_key: &DiscoveryKey) {
        self.shared
            .with(|connection| connection.reject(discovery_key));
    }

    /// Sends a message on a channel that the remote may not have opened yet, without waiting for room in the send buffer.
    ///
    /// **The remote has not proved to know the core's key then, and reads the message all the same.** See
    /// [`Connection::send_early`].
    ///
    /// # Errors
    /// As [`Connection::send_early`].
    pub fn send_early(
        &self,
        channel: ChannelHandle,
        message: impl Into<Message>,
    ) -> Result<(), Error> {
        let message = message.into();
        self.shared
            .with(|connection| connection.send_early(channel, &message))
    }

    /// Closes a channel, be it open or not yet answered by the remote. One that is closed is left alone.
    pub fn close_channel(&self, channel: ChannelHandle) {
        self.shared.close(channel);
    }

    /// Opens a channel of any protocol, or answers the first of the remote's opens of it that wait. It can be sent on at
    /// once; [`MuxChannel::opened`] says when the remote has opened it too.
    ///
    /// ```
    /// # use hypercore_protocol::{ChannelOptions, Error, Protocol, ProtocolBuilder};
    /// # async fn example(socket: tokio::io::DuplexStream) -> Result<(), Error> {
    /// # let mut protocol = ProtocolBuilder::initiator().connect(socket);
    /// let chat = protocol.open_channel(ChannelOptions::new("chat").id("room 5").handshake("I am Ada"))?;
    /// protocol.drive(chat.send(0, "hello")).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`MuxError::AlreadyOpen`] unless the options say that it is not unique, [`MuxError::TooLarge`], or
    /// [`ConnectionError::Closed`].
    pub fn open_channel(&self, options: ChannelOptions) -> Result<MuxChannel, Error> {
        MuxChannel::open(&self.shared, options)
    }

    /// From now on the remote's opens of this protocol and id, or of all its ids if none is given, come as
    /// [`Event::RemoteOpen`], unless the channel is open here already. Without it they are rejected, as in Node; but the
    /// channels of cores always come as [`Event::DiscoveryKey`].
    ///
    /// As in Node (protomux 3.12.1, `pair`), the name is compared with the one that the remote used: pair every alias.
    pub fn pair(&self, protocol: &str, id: Option<&[u8]>) {
        self.shared.lock().connection.pair(protocol, id);
    }

    /// Takes a [`ProtocolHandle::pair`] of the same protocol and id back. Opens that were reported still wait.
    pub fn unpair(&self, protocol: &str, id: Option<&[u8]>) {
        self.shared.lock().connection.unpair(protocol, id);
    }

    /// Refuses the channels of this protocol and id that the remote opened: the answer to [`Event::RemoteOpen`] that is
    /// not [`ProtocolHandle::open_channel`]. Without such an open nothing happens.
    pub fn reject_channel(&self, protocol: &str, id: Option<&[u8]>) {
        self.shared
            .with(|connection| connection.reject_channel(protocol, id));
    }

    /// Registers an extension of the whole stream; the same one if it is registered already. It opens once the remote has
    /// registered it too, be that before or later. See [`Extension`].
    ///
    /// # Errors
    /// [`MuxError::AlreadyOpen`] if there is a channel of this protocol without an id that is not an extension's,
    /// [`MuxError::TooLarge`], or [`ConnectionError::Closed`].
    pub fn register_extension(&self, name: &str) -> Result<Extension, Error> {
        Ok(Extension::new(Registration::on_stream(&self.shared, name)?))
    }

    /// The channels that are open here, of cores and others, in the order in which they were opened. Those that only the
    /// remote has opened are not among them.
    pub fn channels(&self) -> Vec<ChannelInfo> {
        self.shared.lock().connection.channels()
    }

    /// Keeps what is sent from now on, on all channels and from all tasks, for one batch, which leaves when the returned
    /// guard is dropped. Of several guards the last one counts. A batch of more than 8 MiB leaves early, as in Node.
    pub fn cork(&self) -> Cork {
        self.shared.lock().connection.cork();
        Cork {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Sends an empty record now. Without it one is sent whenever nothing else was for a while.
    ///
    /// # Errors
    /// [`ConnectionError::Closed`].
    pub fn send_keep_alive(&self) -> Result<(), Error> {
        self.shared.with(Connection::send_keep_alive)
    }

    /// Ends our side: nothing more can be opened or sent, and once all that was accepted for sending has left, the remote
    /// is told that this is the end. What the remote still sends is received as ever, until it ends its side too.
    pub fn end(&self) {
        self.shared.finish();
    }

    /// Whether we sent the first handshake message.
    pub fn is_initiator(&self) -> bool {
        self.shared.lock().connection.is_initiator()
    }

    /// Our static public key, 32 bytes.
    pub fn public_key(&self) -> [u8; 32] {
        *self.shared.lock().connection.public_key()
    }

    /// The remote's static public key, 32 bytes, once the handshake is complete.
    pub fn remote_public_key(&self) -> Option<[u8; 32]> {
        self.handshake()?.remote_public_key
    }

    /// The handshake hash, 64 bytes and the same on both sides, once the handshake is complete.
    pub fn handshake_hash(&self) -> Option<[u8; 64]> {
        self.handshake().map(|info| info.hash)
    }

    fn handshake(&self) -> Option<HandshakeInfo> {
        self.shared.lock().connection.handshake().cloned()
    }

    /// Seals and opens the datagrams that go beside the stream, from [`Event::Handshake`] on: byte for byte those of
    /// `send` and `'message'` of Node's secret stream, which it has carried by UDX. Carrying them is the caller's here.
    /// **See [`datagram`](crate::datagram) for how secret they are.** Every call gives the same ones, which count
    /// together.
    ///
    /// # Errors
    /// [`DatagramError`](crate::datagram::DatagramError): before the handshake is complete, without encryption, or when
    /// the system has no randomness.
    pub fn datagrams(&self) -> Result<Datagrams, Error> {
        self.shared.lock().connection.datagrams()
    }

    /// What the remote sent that has no effect, such as messages of later releases.
    pub fn ignored(&self) -> Ignored {
        self.shared.lock().connection.ignored()
    }
}

/// Keeps what is sent for one batch, until it is dropped: see [`ProtocolHandle::cork`].
#[must_use = "what is sent is kept for one batch only as long as this lives"]
pub struct Cork {
    shared: Arc<Shared>,
}

impl fmt::Debug for Cork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cork").finish_non_exhaustive()
    }
}

impl Cork {
    /// Sends what was kept, unless another cork is left.
    pub fn uncork(self) {}
}

impl Drop for Cork {
    fn drop(&mut self) {
        // A stream that is gone has nothing to send.
        self.shared.with(Connection::uncork);
    }
}
