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

    /// The static public key that the remote must prove, 32 bytes: with any other the handshake fails. The initiator of IK
    /// and XK needs it.
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

    /// Continues from a Noise handshake that took place elsewhere, such as HyperDHT's over UDP: the stream begins with the
    /// 56-byte headers, and [`Event::Handshake`](crate::Event::Handshake) comes at once. `public_key` is ours in that
    /// handshake. Node's equivalent is `new NoiseSecretStream(isInitiator, rawStream, { handshake })`.
    ///
    /// If [`ProtocolBuilder::remote_public_key`] is also given and the handshake was with another key, the first event is an
    /// error.
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

    /// Disables handshake and encryption, for a socket that has both: the stream consists of plaintext records, each after
    /// its uint24 length, as Node's `framed-stream` with `bits: 24` carries protomux, and
    /// [`Event::Handshake`](crate::Event::Handshake) comes at once.
    ///
    /// `handshake_hash` must be the same 64 bytes on both sides and unique to this connection: the capabilities of channels
    /// are bound to it. Use a key exported from the socket's own handshake, for instance by TLS's exporter.
    /// [`ProtocolBuilder::remote_public_key`] sets the remote's identity, if the socket proved it.
    ///
    /// Keep-alives are sent here too, as empty records, which protomux ignores since 3.5.1.
    ///
    /// **Anyone who can read the socket reads everything, and anyone who can write to it can impersonate the peer.**
    pub fn unencrypted(mut self, handshake_hash: [u8; 64]) -> Self {
        self.config.transport.mode = Mode::Unencrypted { handshake_hash };
        self
    }

    /// The interval without outgoing data after which an empty record is sent to keep the stream alive; `None`, and zero as
    /// in Node, disables it. Default 5 s, as in hypercore 11.37.1. Intervals below 1 ms count as 1 ms.
    ///
    /// A remote that uses this crate fails a stream that is silent for its [`ProtocolBuilder::idle_timeout`].
    pub fn keep_alive(mut self, interval: Option<Duration>) -> Self {
        self.config.keep_alive = interval;
        self
    }

    /// The time limit of the handshake; `None` or zero for no limit. Default 30 s. After it the first event is
    /// [`ConnectionError::HandshakeTimeout`](crate::ConnectionError::HandshakeTimeout).
    pub fn handshake_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.handshake_timeout = timeout;
        self
    }

    /// The time without a complete record after which the stream fails, unless a record is in progress; `None`, and zero as
    /// in Node, for no limit. Default 30 s. The error is [`ConnectionError::IdleTimeout`](crate::ConnectionError::IdleTimeout).
    ///
    /// Keep-alives are records: those that Node's `replicate` sends every 5 s (hypercore 11.37.1 and 10.38.2, `index.js`,
    /// `createProtocolStream`), and [`ProtocolBuilder::keep_alive`] here. **Set `None` for a remote that sends no keep-alives
    /// and may be silent**: a Node stream of `new NoiseSecretStream()` alone, which sends none by default
    /// (@hyperswarm/secret-stream 6.9.2, `index.js`), and `replicate(…, { keepAlive: false })`.
    ///
    /// Time in which nothing is read because a channel's queue is full counts only for [`ProtocolBuilder::stall_timeout`].
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.idle_timeout = timeout;
        self
    }

    /// The time limit of a record from its first byte to its last, extended by one second for each 4,096 bytes that it
    /// announces; `None` or zero for no limit, and then [`ProtocolBuilder::idle_timeout`] runs during a record too.
    /// Default 30 s: 46 s for a block of 64 KiB, 69 minutes for the maximum of 16 MB. The error is
    /// [`ConnectionError::RecordTimeout`](crate::ConnectionError::RecordTimeout).
    pub fn record_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.record_timeout = timeout;
        self
    }

    /// How long the socket may accept no outgoing bytes, because the remote does not read; `None` or zero for no limit.
    /// Default 60 s. The error is [`ConnectionError::WriteTimeout`](crate::ConnectionError::WriteTimeout). While the stream
    /// is closing, [`ProtocolBuilder::close_timeout`] applies instead.
    pub fn write_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// How long reading may be paused because the application does not take messages from a channel whose queue is full,
    /// does not take events during [`Protocol::drive`], or does not answer an open; `None` or zero for no limit. Default
    /// 10 minutes. The error is [`ConnectionError::StallTimeout`](crate::ConnectionError::StallTimeout). Without reading, a
    /// remote that is gone cannot be detected.
    pub fn stall_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.stall_timeout = timeout;
        self
    }

    /// How long [`Protocol::close`] waits for a remote that does not read. Default 10 s.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// Whether small messages on the channels of cores that are queued when the protocol writes share one record, as with
    /// protomux's cork; the default. No message is delayed for it. Otherwise, and always on channels of other protocols,
    /// every message has its own record: a Node peer sends nothing until it has handled a whole batch, which is known to be
    /// quick only for hypercore's messages.
    pub fn coalesce(mut self, coalesce: bool) -> Self {
        self.config.coalesce = coalesce;
        self
    }

    /// Bounds on the memory that the remote can make us use. [`Limits`] has the defaults.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Whether a channel delivers messages of types above 9, from later releases, as
    /// [`Message::Unknown`](crate::Message::Unknown). Default false: they are ignored, as in Node, and counted by
    /// [`ProtocolHandle::ignored`](crate::ProtocolHandle::ignored).
    pub fn unknown_messages(mut self, hand_on: bool) -> Self {
        self.config.unknown_messages = hand_on;
        self
    }

    /// The number of unsent bytes from which on [`Channel::send`](crate::Channel::send) waits. Default 256 KiB.
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.buffers.send = bytes.max(1);
        self
    }

    /// The size of one channel's queue from which on reading stops, in bytes of memory used: some 900 bytes for the smallest
    /// message. Default 256 KiB.
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.buffers.receive = bytes.max(1);
        self
    }

    /// The configuration for a [`Connection`](crate::Connection) without IO.
    pub fn into_config(self) -> ConnectionConfig {
        self.config
    }

    /// Starts the protocol on a stream of tokio's traits. Poll it in a tokio runtime with time enabled.
    ///
    /// Set `TCP_NODELAY` on a `TcpStream` first (`set_nodelay(true)`): without it the system delays a small message until the
    /// previous one is acknowledged, up to 40 ms.
    ///
    /// If the options are invalid, such as IK without a remote key, the first event is the error.
    #[cfg(feature = "tokio")]
    pub fn connect<T>(self, io: T) -> Protocol<Tokio<T>>
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        self.connect_with(Tokio::new(io))
    }

    /// Starts the protocol on a stream of the traits of `futures-io`, such as smol's. Poll it wherever the stream itself
    /// may be polled; the clock needs no runtime. Set `TCP_NODELAY` on a TCP socket first. For async-std's sockets see
    /// [`FuturesIo::with_shutdown`](crate::runtime::FuturesIo::with_shutdown).
    ///
    /// If the options are invalid, such as IK without a remote key, the first event is the error.
    ///
    /// Two peers on async-std open the same channel and send each other a message:
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
    /// If the options are invalid, such as IK without a remote key, the first event is the error.
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
