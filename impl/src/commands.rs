//! [`Commands`]: all that can be asked of a [`Protocol`](crate::Protocol) while another task polls it.

use std::fmt;
use std::sync::Arc;

use crate::connection::{ChannelHandle, ChannelInfo, ChannelOptions, Connection, Ignored};
use crate::datagram::Datagrams;
use crate::error::Error;
use crate::extension::Extension;
use crate::keys::{DiscoveryKey, Key};
use crate::mux_channel::MuxChannel;
use crate::protocol::{Registration, Shared};
use crate::transport::HandshakeInfo;
use crate::wire::Message;

/// Asks things of a [`Protocol`](crate::Protocol) from any task, made by
/// [`Protocol::commands`](crate::Protocol::commands). Clones ask the same protocol.
///
/// What is asked for takes effect at once, and wakes the task that polls the protocol, which does the rest and gets the
/// events. Once the protocol has ended or was dropped, what can fail is
/// [`ConnectionError::Closed`](crate::connection::ConnectionError::Closed). A handle does not keep the stream open.
#[derive(Clone)]
pub struct Commands {
    shared: Arc<Shared>,
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commands")
            .field("connection", &self.shared.lock().connection)
            .finish_non_exhaustive()
    }
}

impl Commands {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
        }
    }

    /// See [`Protocol::open`](crate::Protocol::open).
    ///
    /// # Errors
    /// As there.
    pub async fn open(&self, key: Key) -> Result<ChannelHandle, Error> {
        self.shared.with(|connection| connection.open(key))
    }

    /// As [`Commands::open`], where nothing can be awaited.
    #[cfg(feature = "replication")]
    pub(crate) fn open_now(&self, key: Key) -> Result<ChannelHandle, Error> {
        self.shared.with(|connection| connection.open(key))
    }

    /// As [`Commands::reject`], where nothing can be awaited.
    #[cfg(feature = "replication")]
    pub(crate) fn reject_now(&self, discovery_key: &DiscoveryKey) -> Result<(), Error> {
        self.shared
            .with(|connection| connection.reject(discovery_key))
    }

    /// As [`Commands::close_channel`], where nothing can be awaited.
    #[cfg(feature = "replication")]
    pub(crate) fn close_channel_now(&self, channel: ChannelHandle) -> Result<(), Error> {
        self.shared.close(channel)
    }

    /// See [`Protocol::send_early`](crate::Protocol::send_early).
    ///
    /// # Errors
    /// As there.
    pub async fn send_early(
        &self,
        channel: ChannelHandle,
        message: impl Into<Message>,
    ) -> Result<(), Error> {
        let message = message.into();
        self.shared
            .with(|connection| connection.send_early(channel, &message))
    }

    /// See [`Protocol::reject`](crate::Protocol::reject).
    ///
    /// # Errors
    /// As there.
    pub async fn reject(&self, discovery_key: &DiscoveryKey) -> Result<(), Error> {
        self.shared
            .with(|connection| connection.reject(discovery_key))
    }

    /// See [`Protocol::close_channel`](crate::Protocol::close_channel).
    ///
    /// # Errors
    /// As there.
    pub async fn close_channel(&self, channel: ChannelHandle) -> Result<(), Error> {
        self.shared.close(channel)
    }

    /// See [`Protocol::end`](crate::Protocol::end).
    pub async fn end(&self) {
        self.shared.finish();
    }

    /// See [`Protocol::send_keep_alive`](crate::Protocol::send_keep_alive).
    ///
    /// # Errors
    /// As there.
    pub async fn send_keep_alive(&self) -> Result<(), Error> {
        self.shared.with(Connection::send_keep_alive)
    }

    /// See [`Protocol::open_channel`](crate::Protocol::open_channel).
    ///
    /// # Errors
    /// As there.
    pub fn open_channel(&self, options: ChannelOptions) -> Result<MuxChannel, Error> {
        MuxChannel::open(&self.shared, options)
    }

    /// See [`Protocol::pair`](crate::Protocol::pair).
    pub fn pair(&self, protocol: &str, id: Option<&[u8]>) {
        self.shared.lock().connection.pair(protocol, id);
    }

    /// See [`Protocol::unpair`](crate::Protocol::unpair).
    pub fn unpair(&self, protocol: &str, id: Option<&[u8]>) {
        self.shared.lock().connection.unpair(protocol, id);
    }

    /// See [`Protocol::reject_channel`](crate::Protocol::reject_channel).
    ///
    /// # Errors
    /// As there.
    pub fn reject_channel(&self, protocol: &str, id: Option<&[u8]>) -> Result<(), Error> {
        self.shared
            .with(|connection| connection.reject_channel(protocol, id))
    }

    /// See [`Protocol::register_extension`](crate::Protocol::register_extension).
    ///
    /// # Errors
    /// As there.
    pub fn register_extension(&self, name: &str) -> Result<Extension, Error> {
        Ok(Extension::new(Registration::on_stream(&self.shared, name)?))
    }

    /// See [`Protocol::channels`](crate::Protocol::channels).
    pub fn channels(&self) -> Vec<ChannelInfo> {
        self.shared.lock().connection.channels()
    }

    /// See [`Protocol::cork`](crate::Protocol::cork).
    pub fn cork(&self) -> Cork {
        self.shared.lock().connection.cork();
        Cork {
            shared: Arc::clone(&self.shared),
        }
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

    /// See [`Protocol::datagrams`](crate::Protocol::datagrams).
    ///
    /// # Errors
    /// As there.
    pub fn datagrams(&self) -> Result<Datagrams, Error> {
        self.shared.lock().connection.datagrams()
    }

    fn handshake(&self) -> Option<HandshakeInfo> {
        self.shared.lock().connection.handshake().cloned()
    }

    /// What the remote sent that has no effect, such as messages of later releases.
    pub fn ignored(&self) -> Ignored {
        self.shared.lock().connection.ignored()
    }
}

/// Keeps what is sent for one batch, until it is dropped: see [`Protocol::cork`](crate::Protocol::cork).
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
