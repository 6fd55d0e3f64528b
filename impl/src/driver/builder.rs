//! [`ProtocolBuilder`]: the options of a [`Protocol`].

use std::fmt;
use std::time::Duration;

use crate::connection::ConnectionConfig;
use crate::keys::KeyPair;
use crate::mux::Limits;
use crate::noise::{HandshakeResult, Pattern};
#[cfg(feature = "futures-io")]
use crate::runtime::FuturesIo;
use crate::runtime::Io;
#[cfg(feature = "tokio")]
use crate::runtime::Tokio;
use crate::transport::Mode;

use super::Protocol;
use super::run::Timeouts;
use super::shared::Buffers;

/// Makes a [`Protocol`].
///
#[cfg_attr(feature = "tokio", doc = "```")]
#[cfg_attr(not(feature = "tokio"), doc = "```ignore")]
/// # async fn example(socket: tokio::io::DuplexStream) -> Result<(), hypercore_protocol::Error> {
/// use hypercore_protocol::{Event, ProtocolBuilder};
///
/// let mut protocol = ProtocolBuilder::initiator().connect(socket);
/// while let Some(event) = protocol.next().await {
///     match event? {
///         Event::Handshake(_) => {
///             protocol.open([3; 32])?;
///         }
///         Event::Channel(channel) => {
///             tokio::spawn(async move {
///                 while let Some(message) = channel.recv().await {
///                     println!("{message:?}");
///                 }
///             });
///         }
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ProtocolBuilder {
    config: ConnectionConfig,
    buffers: Buffers,
    write_timeout: Option<Duration>,
    close_timeout: Duration,
}

impl fmt::Debug for ProtocolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtocolBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl ProtocolBuilder {
    /// The defaults, for the side that sends the first handshake message: on TCP the side that dialled.
    pub fn initiator() -> Self {
        Self::new(true)
    }

    /// The defaults, for the side that answers the first handshake message: on TCP the side that accepted.
    pub fn responder() -> Self {
        Self::new(false)
    }

    /// The defaults: the pattern XX with a random key pair. One side of a stream is the initiator, the other the responder.
    pub fn new(is_initiator: bool) -> Self {
        Self {
            config: ConnectionConfig {
                coalesce: true,
                ..ConnectionConfig::new(is_initiator)
            },
            buffers: Buffers {
                send: 256 * 1024,
                receive: 256 * 1024,
            },
            write_timeout: Some(Duration::from_secs(60)),
            close_timeout: Duration::from_secs(10),
        }
    }

    /// Our static key pair.
    pub fn key_pair(mut self, key_pair: KeyPair) -> Self {
        self.config.transport.key_pair = Some(key_pair);
        self
    }

    /// Our static key pair, made from a seed of 32 bytes.
    pub fn seed(self, seed: [u8; 32]) -> Self {
        self.key_pair(KeyPair::from_seed(&seed))
    }

    /// The only static public key that the remote may prove, 32 bytes: with another one the handshake fails. The
    /// initiator of IK and XK needs it.
    pub fn remote_public_key(mut self, public_key: [u8; 32]) -> Self {
        self.config.transport.remote_public_key = Some(public_key);
        self
    }

    /// The handshake pattern, the same on both sides. Default XX, Node's too; HyperDHT uses IK.
    pub fn pattern(mut self, pattern: Pattern) -> Self {
        self.config.transport.pattern = pattern;
        self
    }

    /// The 32-byte pre-shared key of [`Pattern::XXpsk0`] and [`Pattern::NNpsk0`].
    pub fn pre_shared_key(mut self, key: [u8; 32]) -> Self {
        self.config.transport.psk = Some(key.into());
        self
    }

    /// Goes on from a Noise handshake that took place elsewhere, such as HyperDHT's over UDP: the stream begins with the
    /// 56-byte headers, and [`Event::Handshake`](crate::Event::Handshake) comes at once. `public_key` is ours in that
    /// handshake. Node's way is `new NoiseSecretStream(isInitiator, rawStream, { handshake })`.
    ///
    /// If [`ProtocolBuilder::remote_public_key`] is given too and the handshake was with another, the first event is
    /// that error.
    ///
    /// ```
    /// use hypercore_protocol::noise::{Handshake, HandshakeConfig};
    /// use hypercore_protocol::{KeyPair, Pattern, ProtocolBuilder};
    ///
    /// let (ours, theirs) = (KeyPair::from_seed(&[1; 32]), KeyPair::from_seed(&[2; 32]));
    /// let mut config = HandshakeConfig::new(Pattern::IK, true);
    /// config.key_pair = Some(ours.clone());
    /// config.remote_public_key = Some(*theirs.public_key());
    /// let mut handshake = Handshake::new(config)?;
    /// # let mut config = HandshakeConfig::new(Pattern::IK, false);
    /// # config.key_pair = Some(theirs);
    /// # let mut remote = Handshake::new(config)?;
    /// // Two messages, carried over whatever reaches the remote:
    /// let mut request = Vec::new();
    /// handshake.write(&[], &mut request)?;
    /// # remote.read(&request)?;
    /// # let mut reply = Vec::new();
    /// # remote.write(&[], &mut reply)?;
    /// handshake.read(&reply)?;
    ///
    /// let result = handshake.result().expect("IK has two messages").clone();
    /// let builder = ProtocolBuilder::initiator().handshake_done(*ours.public_key(), result);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handshake_done(mut self, public_key: [u8; 32], result: HandshakeResult) -> Self {
        self.config.transport.mode = Mode::HandshakeDone { public_key, result };
        self
    }

    /// Neither handshake nor encryption, for a socket that has both: the stream is bare records, each behind its uint24
    /// length, as Node's `framed-stream` with `bits: 24` carries protomux, and
    /// [`Event::Handshake`](crate::Event::Handshake) comes at once.
    ///
    /// `handshake_hash` is the same 64 bytes on both sides, and of this connection alone: the capabilities of channels
    /// are bound to it. A key exported from the socket's own handshake is right, for instance TLS's exporter.
    /// [`ProtocolBuilder::remote_public_key`] says who the remote is, if the socket proved that.
    ///
    /// Keep-alives are sent here too, as empty records, which protomux ignores from 3.5.1 on.
    ///
    /// **Whoever can read the socket reads everything, and whoever can write to it is the peer.**
    pub fn unencrypted(mut self, handshake_hash: [u8; 64]) -> Self {
        self.config.transport.mode = Mode::Unencrypted { handshake_hash };
        self
    }

    /// After how long without anything sent an empty record keeps the stream alive; none, and zero as in Node, for never.
    /// Default 5 s, as hypercore 11.37.1 sets it. Shorter ones than 1 ms count as 1 ms.
    ///
    /// A remote of this crate gives a stream up that is silent for its [`ProtocolBuilder::idle_timeout`].
    pub fn keep_alive(mut self, interval: Option<Duration>) -> Self {
        self.config.keep_alive = interval;
        self
    }

    /// How long the handshake may take; none, and zero, for ever. Default 30 s. When it is over the first event is
    /// [`ConnectionError::HandshakeTimeout`](crate::ConnectionError::HandshakeTimeout).
    pub fn handshake_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.handshake_timeout = timeout;
        self
    }

    /// After how long without a whole record the stream is given up, unless one is on its way; none, and zero as in Node,
    /// for never. Default 30 s. It ends with [`ConnectionError::IdleTimeout`](crate::ConnectionError::IdleTimeout).
    ///
    /// Keep-alives are records: those that Node's `replicate` sends every 5 s (hypercore 11.37.1 and 10.38.2, `index.js`,
    /// `createProtocolStream`), and [`ProtocolBuilder::keep_alive`] here. **A remote that sends none and is silent on
    /// purpose needs `None`**: a Node stream of `new NoiseSecretStream()` alone, whose default is none
    /// (@hyperswarm/secret-stream 6.9.2, `index.js`), and `replicate(…, { keepAlive: false })`.
    ///
    /// The time while nothing is read because a channel's queue is full does not count, but for
    /// [`ProtocolBuilder::stall_timeout`].
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.idle_timeout = timeout;
        self
    }

    /// How long a record may take from its first byte to its last, and a second more for each 4,096 bytes that it
    /// announces; none, and zero, for as long as it likes, in which case [`ProtocolBuilder::idle_timeout`] goes on meanwhile.
    /// Default 30 s: 46 s for a block of 64 KiB, 69 minutes for the 16 MB that a record can have. It ends with
    /// [`ConnectionError::RecordTimeout`](crate::ConnectionError::RecordTimeout).
    pub fn record_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.record_timeout = timeout;
        self
    }

    /// How long the socket may take nothing of what is to be sent, since the remote does not read; none, and zero, for
    /// ever. Default 60 s. It ends with [`ConnectionError::WriteTimeout`](crate::ConnectionError::WriteTimeout). Once the
    /// stream is being closed [`ProtocolBuilder::close_timeout`] counts instead.
    pub fn write_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// For how long nothing may be read because the application does not take messages from a channel whose queue is full,
    /// does not take events during [`Protocol::drive`], or does not answer an open; none, and zero, for ever. Default
    /// 10 minutes. It ends with [`ConnectionError::StallTimeout`](crate::ConnectionError::StallTimeout): a remote that is
    /// not read cannot be told from one that is gone.
    pub fn stall_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.stall_timeout = timeout;
        self
    }

    /// How long [`Protocol::close`] waits for a remote that takes nothing. Default 10 s.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// Whether small messages on the channels of cores that are sent before the protocol comes to write leave in one record,
    /// as protomux's cork makes them; the default. Nothing waits for others to come. Without it, and on channels of other
    /// protocols always, every message has a record of its own: after a batch a Node peer sends nothing until it has dealt
    /// with all of it, which only hypercore's messages are known to be quick for.
    pub fn coalesce(mut self, coalesce: bool) -> Self {
        self.config.coalesce = coalesce;
        self
    }

    /// What the remote can make us hold. [`Limits`] has the defaults.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Whether messages of types above 9, from later releases, are handed on as
    /// [`Message::Unknown`](crate::Message::Unknown) among a channel's others. Default false: they are ignored, as in
    /// Node, and counted by [`ProtocolHandle::ignored`](crate::ProtocolHandle::ignored).
    pub fn unknown_messages(mut self, hand_on: bool) -> Self {
        self.config.unknown_messages = hand_on;
        self
    }

    /// How many bytes may wait to leave before [`Channel::send`](crate::Channel::send) waits. Default 256 KiB.
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.buffers.send = bytes.max(1);
        self
    }

    /// How many bytes may wait in one channel's queue before nothing more is read, counting all that they take in memory:
    /// some 900 bytes for the smallest message. Default 256 KiB.
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.buffers.receive = bytes.max(1);
        self
    }

    /// What a [`Connection`](crate::Connection) without IO starts from.
    pub fn into_config(self) -> ConnectionConfig {
        self.config
    }

    /// Starts the protocol on a stream of tokio's traits. Poll it in a tokio runtime with time enabled.
    ///
    /// Set `TCP_NODELAY` on a `TcpStream` first (`set_nodelay(true)`): without it the system keeps a small message back
    /// until the one before was acknowledged, up to 40 ms.
    ///
    /// What is wrong with the options, such as IK without a remote key, is the first event.
    #[cfg(feature = "tokio")]
    pub fn connect<T>(self, io: T) -> Protocol<Tokio<T>>
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        self.connect_with(Tokio::new(io))
    }

    /// Starts the protocol on a stream of the traits of `futures-io`, such as smol's. Poll it wherever the stream itself
    /// may be polled; the clock belongs to no runtime. Set `TCP_NODELAY` on a TCP socket first. For async-std's sockets see
    /// [`FuturesIo::with_shutdown`](crate::runtime::FuturesIo::with_shutdown).
    ///
    /// What is wrong with the options, such as IK without a remote key, is the first event.
    ///
    /// Two peers on async-std, which open the same channel and send each other a message:
    ///
    /// ```
    /// use async_std::net::{TcpListener, TcpStream};
    /// use async_std::task;
    /// use hypercore_protocol::schema::*;
    /// use hypercore_protocol::{Error, Event, Key, Message, ProtocolBuilder};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # task::block_on(async {
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let address = listener.local_addr()?;
    /// let server = task::spawn(async move {
    ///     let (stream, _) = listener.accept().await?;
    ///     onconnection(stream, false).await
    /// });
    /// let stream = TcpStream::connect(address).await?;
    /// onconnection(stream, true).await?;
    /// server.await?;
    /// # Ok(())
    /// # })
    /// # }
    ///
    /// async fn onconnection(stream: TcpStream, is_initiator: bool) -> Result<(), Error> {
    ///     let key = Key::new([3; 32]); // of the core, which both peers know
    ///     let mut protocol = ProtocolBuilder::new(is_initiator).connect_futures(stream);
    ///     while let Some(event) = protocol.next().await {
    ///         match event? {
    ///             // Who dials opens the channel ...
    ///             Event::Handshake(_remote_key) if is_initiator => {
    ///                 protocol.open(key)?;
    ///             }
    ///             // ... and the other one answers, if it knows the key.
    ///             Event::DiscoveryKey(announced) if announced == key.discovery_key() => {
    ///                 protocol.open(key)?;
    ///             }
    ///             Event::Channel(mut channel) => {
    ///                 // A channel can go to another task, as long as somebody polls the protocol.
    ///                 let task = task::spawn(async move {
    ///                     channel.want(Want { start: 0, length: 8, ..Want::default() }).await?;
    ///                     Ok::<_, Error>(channel.next().await)
    ///                 });
    ///                 let received = protocol.drive(task).await?;
    ///                 assert_eq!(received, Some(Message::Want((0..8).into())));
    ///                 return Ok(());
    ///             }
    ///             _ => {}
    ///         }
    ///     }
    ///     panic!("the stream ended before the channel was open");
    /// }
    /// ```
    #[cfg(feature = "futures-io")]
    pub fn connect_futures<T>(self, io: T) -> Protocol<FuturesIo<T>>
    where
        T: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin,
    {
        self.connect_with(FuturesIo::new(io))
    }

    /// Starts the protocol on any byte stream.
    ///
    /// What is wrong with the options, such as IK without a remote key, is the first event.
    pub fn connect_with<S: Io>(self, io: S) -> Protocol<S> {
        let Self {
            config,
            buffers,
            write_timeout,
            close_timeout,
        } = self;
        let timeouts = Timeouts {
            write: write_timeout.filter(|timeout| !timeout.is_zero()),
            close: close_timeout,
        };
        Protocol::new(io, config, buffers, timeouts)
    }
}
