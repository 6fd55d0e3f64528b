//! [`Event`]: what a protocol reports to the application.

use crate::connection::{ChannelHandle, RemoteOpen};
use crate::keys::DiscoveryKey;
use crate::mux::CloseReason;
use crate::transport::{End, HandshakeInfo};

use super::channel::Channel;

/// What happened on a protocol.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The handshake is complete. Always the first.
    Handshake(HandshakeInfo),
    /// The remote opened a channel with this discovery key that is not open locally. It waits for [`open`] with its key, or
    /// for [`reject`].
    ///
    /// [`open`]: crate::ProtocolHandle::open
    /// [`reject`]: crate::ProtocolHandle::reject
    DiscoveryKey(DiscoveryKey),
    /// Both sides opened a channel, and the remote proved knowledge of its key.
    Channel(Channel),
    /// A channel closed. Messages that it received before can still be read.
    #[non_exhaustive]
    Close {
        /// The channel, as [`ProtocolHandle::open`](crate::ProtocolHandle::open) returned it.
        channel: ChannelHandle,
        /// The channel's discovery key.
        discovery_key: DiscoveryKey,
        /// Who closed it.
        reason: CloseReason,
    },
    /// The remote opened a channel of a protocol that was paired by [`ProtocolHandle::pair`](crate::ProtocolHandle::pair).
    /// It waits for [`open_channel`] or [`reject_channel`], and messages that the remote sends on it are buffered. When they
    /// exceed the [`Limits`](crate::mux::Limits), reading stops until the open is answered.
    ///
    /// [`open_channel`]: crate::ProtocolHandle::open_channel
    /// [`reject_channel`]: crate::ProtocolHandle::reject_channel
    RemoteOpen(RemoteOpen),
    /// The remote ended the stream between two records.
    End(End),
}
