//! [`Peer`]: the other end of a WebSocket, and the task that runs the protocol with it.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt;
use futures_util::future::{Either, FutureExt, Shared, select};
use hypercore_protocol::connection::ChannelHandle;
use hypercore_protocol::runtime::FuturesIo;
use hypercore_protocol::{CloseReason, Event, Key, Protocol, ProtocolBuilder, discovery_key};
use js_sys::{Reflect, Uint8Array};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen_futures::spawn_local;

use crate::channel::{Channel, Done, promise};
use crate::convert::{self, KeyLike, bytes_to_js};
use crate::error::{bad_input, not_opened, to_js};
use crate::socket::WebSocket;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
export interface PeerOptions {
  /** Our static key pair is made from these 32 bytes; a random one otherwise. */
  seed?: Uint8Array | string
  /** The only static public key that the peer may prove. */
  remotePublicKey?: Uint8Array | string
  /** How long the handshake may take, in milliseconds. Default 30,000. */
  handshakeTimeout?: number
}
"#;

#[wasm_bindgen]
extern "C" {
    /// The options of [`Peer::connect`].
    #[wasm_bindgen(typescript_type = "PeerOptions")]
    pub type PeerOptions;
    /// A promise of a peer.
    #[wasm_bindgen(typescript_type = "Promise<Peer>")]
    pub type Connected;
    /// A promise of a channel.
    #[wasm_bindgen(typescript_type = "Promise<Channel>")]
    pub type Opened;
    /// A promise of why the stream ended.
    #[wasm_bindgen(typescript_type = "Promise<HypercoreError | undefined>")]
    pub type Ended;
}

type Stream = Protocol<FuturesIo<WebSocket>>;

/// What the task that runs the protocol is asked for. It runs until nobody can ask it any more.
#[derive(Debug)]
enum Command {
    Open(
        Key,
        oneshot::Sender<Result<hypercore_protocol::Channel, JsValue>>,
    ),
    Close(oneshot::Sender<Result<(), JsValue>>),
}

/// What a peer and each of its channels hold: the stream is closed when the last of them is gone.
#[derive(Debug, Clone)]
pub(crate) struct Handle(mpsc::UnboundedSender<Command>);

/// The other end of a WebSocket, after the handshake.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Peer {
    commands: Handle,
    ended: Shared<oneshot::Receiver<JsValue>>,
    public_key: [u8; 32],
    remote_public_key: [u8; 32],
    handshake_hash: [u8; 64],
}

#[wasm_bindgen]
impl Peer {
    /// Connects to a server that speaks the protocol over WebSocket, as the initiator, and shakes hands with the pattern
    /// XX.
    #[must_use]
    pub fn connect(url: String, options: Option<PeerOptions>) -> Connected {
        promise(async move {
            let builder = builder(options.map_or(JsValue::UNDEFINED, JsValue::from))?;
            let socket = WebSocket::connect(&url).await;
            let mut protocol = builder.connect_futures(socket.map_err(|e| to_js(&e.into()))?);
            match protocol.next().await {
                Some(Ok(Event::Handshake(info))) => {
                    let remote_public_key = info.remote_public_key.unwrap_or_default();
                    Ok(Self::start(protocol, remote_public_key).into())
                }
                Some(Err(error)) => Err(to_js(&error)),
                // Nothing but an end comes before the handshake.
                _ => Err(bad_input(
                    "the server ended the stream before the handshake",
                )),
            }
        })
    }

    fn start(protocol: Stream, remote_public_key: [u8; 32]) -> Self {
        let public_key = protocol.public_key();
        let handshake_hash = protocol.handshake_hash().unwrap_or([0; 64]);
        let (sender, receiver) = mpsc::unbounded();
        let (ending, ended) = oneshot::channel();
        let commands = Handle(sender);
        spawn_local(async move {
            let why = run(protocol, receiver).await;
            // Whether anybody asks why does not matter.
            let _ = ending.send(why.unwrap_or(JsValue::UNDEFINED));
        });
        Self {
            commands,
            ended: ended.shared(),
            public_key,
            remote_public_key,
            handshake_hash,
        }
    }

    /// Our static public key, 32 bytes.
    #[wasm_bindgen(getter, js_name = publicKey)]
    pub fn public_key(&self) -> Uint8Array {
        bytes_to_js(&self.public_key)
    }

    /// The static public key that the peer proved, 32 bytes.
    #[wasm_bindgen(getter, js_name = remotePublicKey)]
    pub fn remote_public_key(&self) -> Uint8Array {
        bytes_to_js(&self.remote_public_key)
    }

    /// The handshake hash, 64 bytes and the same on both sides.
    #[wasm_bindgen(getter, js_name = handshakeHash)]
    pub fn handshake_hash(&self) -> Uint8Array {
        bytes_to_js(&self.handshake_hash)
    }

    /// Opens the channel of a core. The promise is kept once the peer has opened it too, which proves that it knows the
    /// key, and broken when the peer refuses.
    #[must_use]
    pub fn open(&self, key: KeyLike) -> Opened {
        let commands = self.commands.clone();
        promise(async move {
            let key = convert::key(&key)?;
            let opened = commands.ask(|reply| Command::Open(key, reply)).await?;
            opened.map(|channel| Channel::new(channel, commands).into())
        })
    }

    /// Closes every channel, sends all accepted data, and closes the socket.
    #[must_use]
    pub fn close(&self) -> Done {
        let commands = self.commands.clone();
        promise(async move {
            match commands.ask(Command::Close).await {
                Ok(closed) => closed.map(|()| JsValue::UNDEFINED),
                // It is closed.
                Err(_) => Ok(JsValue::UNDEFINED),
            }
        })
    }

    /// Waits for the end of the stream. Resolves to the error, or to nothing when either side ended it. Never rejects.
    #[must_use]
    pub fn closed(&self) -> Ended {
        let ended = self.ended.clone();
        promise(async move { Ok(ended.await.unwrap_or(JsValue::UNDEFINED)) })
    }

    /// The discovery key of a core, 32 bytes.
    ///
    /// # Errors
    /// When `key` is no key.
    #[wasm_bindgen(js_name = discoveryKey)]
    pub fn discovery_key(key: KeyLike) -> Result<Uint8Array, JsValue> {
        convert::key(&key).map(|key| bytes_to_js(&discovery_key(&key)))
    }
}

impl Handle {
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, JsValue> {
        let (reply, answer) = oneshot::channel();
        // A task that is gone drops the reply too.
        let _ = self.0.unbounded_send(command(reply));
        answer.await.map_err(|_| not_opened(CloseReason::Stream))
    }
}

fn builder(options: JsValue) -> Result<ProtocolBuilder, JsValue> {
    let mut builder = ProtocolBuilder::new(true);
    if options.is_null_or_undefined() {
        return Ok(builder);
    }
    let get = |name: &str| {
        let value = Reflect::get(&options, &name.into()).unwrap_or(JsValue::UNDEFINED);
        (!value.is_null_or_undefined()).then_some(value)
    };
    if let Some(seed) = get("seed") {
        builder = builder.seed(convert::key(&seed)?.into());
    }
    if let Some(remote) = get("remotePublicKey") {
        builder = builder.remote_public_key(convert::key(&remote)?.into());
    }
    if let Some(timeout) = get("handshakeTimeout") {
        let timeout = timeout.as_f64().map(|timeout| timeout / 1000.0);
        let timeout = timeout.and_then(|timeout| Duration::try_from_secs_f64(timeout).ok());
        let wrong = || bad_input("handshakeTimeout is not a number of milliseconds");
        builder = builder.handshake_timeout(Some(timeout.ok_or_else(wrong)?));
    }
    Ok(builder)
}

/// Runs the protocol until it ends. Returns the error, if any.
async fn run(
    mut protocol: Stream,
    mut commands: mpsc::UnboundedReceiver<Command>,
) -> Option<JsValue> {
    let mut waiting = HashMap::<ChannelHandle, oneshot::Sender<_>>::new();
    let mut failure = None;
    // Nobody listens to a sender that fails: the caller has dropped its promise.
    loop {
        let next = match select(pin!(protocol.next()), commands.next()).await {
            Either::Left((event, _)) => Either::Left(event),
            Either::Right((command, _)) => Either::Right(command),
        };
        match next {
            // A core that the peer opened waits until it is opened here: a Node peer is often the first.
            Either::Left(Some(Ok(Event::Channel(channel)))) => {
                if let Some(opened) = waiting.remove(&channel.handle()) {
                    let _ = opened.send(Ok(channel));
                }
            }
            Either::Left(Some(Ok(Event::Close {
                channel, reason, ..
            }))) => {
                if let Some(opened) = waiting.remove(&channel) {
                    let why = failure.clone().unwrap_or_else(|| not_opened(reason));
                    let _ = opened.send(Err(why));
                }
            }
            Either::Left(Some(Ok(_))) => {}
            Either::Left(Some(Err(error))) => failure = Some(to_js(&error)),
            Either::Left(None) => return failure,
            Either::Right(Some(Command::Open(key, opened))) => match protocol.open(key) {
                Ok(channel) => {
                    waiting.insert(channel, opened);
                }
                Err(error) => {
                    let _ = opened.send(Err(to_js(&error)));
                }
            },
            Either::Right(Some(Command::Close(closed))) => {
                let result = protocol.close().await.map_err(|error| to_js(&error));
                failure = failure.or(result.clone().err());
                let _ = closed.send(result);
                return failure;
            }
            Either::Right(None) => {
                // Nobody is left to be told.
                let _ = protocol.close().await;
                return failure;
            }
        }
    }
}
