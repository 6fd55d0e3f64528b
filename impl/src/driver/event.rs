//! [`Event`]: what a protocol tells its user.

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
    /// The remote opened a channel by this discovery key, and it is not open here. It waits until [`open`] is called with
    /// its key, or [`reject`].
    ///
    /// [`open`]: crate::ProtocolHandle::open
    /// [`reject`]: crate::ProtocolHandle::reject
    DiscoveryKey(DiscoveryKey),
    /// Both sides opened a channel, and the remote proved to know its key.
    Channel(Channel),
    /// A channel closed. What it received before can still be read from it.
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
    /// It waits until [`open_channel`] or [`reject_channel`] is called, and so does what the remote sends on it. When that is
    /// more than [`Limits`](crate::mux::Limits) says, nothing is read until it is answered.
    ///
    /// [`open_channel`]: crate::ProtocolHandle::open_channel
    /// [`reject_channel`]: crate::ProtocolHandle::reject_channel
    RemoteOpen(RemoteOpen),
    /// The remote ended the stream between two records.
    End(End),
}
