//! [`ProtocolHandle`]: the methods of a protocol, for use while this or another task polls it.

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

/// A handle to a [`Protocol`](crate::Protocol) for any task: see [`Protocol::handle`](crate::Protocol::handle). Clones
/// refer to the same protocol.
///
/// Calls take effect at once and wake the task that polls the protocol, which gets the events. Once the protocol has
/// ended or was dropped, fallible calls return [`ConnectionError::Closed`]. A handle does not keep the stream open.
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
    /// opened it, [`Event::Close`] if the remote rejects it. Before the handshake is complete the open is deferred. The
    /// returned handle identifies the channel in these events.
    ///
    /// # Errors
    /// [`ChannelError::AlreadyOpen`] or [`ConnectionError::Closed`].
    pub fn open(&self, key: impl Into<Key>) -> Result<ChannelHandle, Error> {
        let key = key.into();
        self.shared.with(|connection| connection.open(key))
    }

    /// Rejects the channel of a core that the remote opened. Does nothing without such an open.
    pub fn reject(&self, discovery_key: &DiscoveryKey) {
        self.shared
            .with(|connection| connection.reject(discovery_key));
    }

    /// Sends a message on a channel that the remote may not have opened yet, without waiting for room in the send buffer.
    ///
    /// **The remote can read the message although it has not proved knowledge of the core's key.** See
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

    /// Closes a channel, whether or not the remote has answered its open. Does nothing if it is closed.
    pub fn close_channel(&self, channel: ChannelHandle) {
        self.shared.close(channel);
    }

    /// Opens a channel of any protocol, or answers the first pending open of it by the remote. Messages can be sent at once;
    /// [`MuxChannel::opened`] waits until the remote has opened it too.
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

    /// Reports the remote's opens of this protocol and id, or of any id if none is given, as [`Event::RemoteOpen`] from now
    /// on, unless the channel is already open locally. Unpaired opens are rejected, as in Node, except that channels of cores
    /// are always reported as [`Event::DiscoveryKey`].
    ///
    /// As in Node (protomux 3.12.1, `pair`), the name is compared with the one that the remote sent: pair every alias.
    pub fn pair(&self, protocol: &str, id: Option<&[u8]>) {
        self.shared.lock().connection.pair(protocol, id);
    }

    /// Undoes [`ProtocolHandle::pair`] with the same protocol and id. Opens already reported stay pending.
    pub fn unpair(&self, protocol: &str, id: Option<&[u8]>) {
        self.shared.lock().connection.unpair(protocol, id);
    }

    /// Rejects the channels of this protocol and id that the remote opened: the alternative to
    /// [`ProtocolHandle::open_channel`] after [`Event::RemoteOpen`]. Does nothing without such an open.
    pub fn reject_channel(&self, protocol: &str, id: Option<&[u8]>) {
        self.shared
            .with(|connection| connection.reject_channel(protocol, id));
    }

    /// Registers an extension of the whole stream, or returns the registered one. It opens once both sides have registered
    /// it. See [`Extension`].
    ///
    /// # Errors
    /// [`MuxError::AlreadyOpen`] if there is a channel of this protocol without an id that is not an extension's,
    /// [`MuxError::TooLarge`], or [`ConnectionError::Closed`].
    pub fn register_extension(&self, name: &str) -> Result<Extension, Error> {
        Ok(Extension::new(Registration::on_stream(&self.shared, name)?))
    }

    /// The locally opened channels, of cores and others, in the order of opening. Channels that only the remote has opened
    /// are not included.
    pub fn channels(&self) -> Vec<ChannelInfo> {
        self.shared.lock().connection.channels()
    }

    /// Collects messages sent from now on, on all channels and from all tasks, in one batch, which is sent when the returned
    /// guard is dropped; with several guards, the last one. A batch of more than 8 MiB is sent early, as in Node.
    pub fn cork(&self) -> Cork {
        self.shared.lock().connection.cork();
        Cork {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Sends an empty record now, in addition to the automatic keep-alives.
    ///
    /// # Errors
    /// [`ConnectionError::Closed`].
    pub fn send_keep_alive(&self) -> Result<(), Error> {
        self.shared.with(Connection::send_keep_alive)
    }

    /// Ends our side: nothing more can be opened or sent, and the outgoing direction is shut down once all accepted data is
    /// sent. Data from the remote is still received until it ends its side too.
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

    /// Encrypts and decrypts the datagrams beside the stream, from [`Event::Handshake`] on: byte for byte those of `send` and
    /// `'message'` of Node's secret stream, which carries them over UDX. Here the caller transports them.
    /// **See [`datagram`](crate::datagram) for how secret they are.** All calls share one state and its counters.
    ///
    /// # Errors
    /// [`DatagramError`](crate::datagram::DatagramError): before the handshake is complete, without encryption, or when
    /// the system has no randomness.
    pub fn datagrams(&self) -> Result<Datagrams, Error> {
        self.shared.lock().connection.datagrams()
    }

    /// Counters of ignored input from the remote, such as messages of later releases.
    pub fn ignored(&self) -> Ignored {
        self.shared.lock().connection.ignored()
    }
}

/// Collects messages in one batch until it is dropped: see [`ProtocolHandle::cork`].
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
    /// Sends the batch, unless another cork exists.
    pub fn uncork(self) {}
}

impl Drop for Cork {
    fn drop(&mut self) {
        self.shared.with(Connection::uncork);
    }
}
