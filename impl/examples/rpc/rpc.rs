//! protomux-rpc over a [`MuxChannel`]: what protomux-rpc 1.10.0, `index.js`, puts on the wire.
//!
//! - The channel: protocol `protomux-rpc` unless both sides agree on another, an id and a handshake if they like.
//! - Type 0, request: `uint` id, `string` method, and the value to the end. The id 0 asks for no answer.
//! - Type 1, response: one byte of flags, `uint` id, and, without the flag 1, the value to the end. With it, an error:
//!   `string` message; with 2, `string` code; with 4, what caused it: `string` message and `string` code, which is empty
//!   when there is none; and with 8 as well, `string` context.
//!
//! Ids are each side's own. What a value is, is between caller and method: the package's default is a `buffer` with its
//! length before it, of which an empty one is null; see [`optional`] and [`from_optional`].

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hypercore_protocol::encoding::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};
use hypercore_protocol::{Buffer, ChannelOptions, CloseReason, Error, MuxChannel};
use tokio::sync::{Semaphore, oneshot};

/// The protocol's name, unless both sides agree on another.
pub(crate) const PROTOCOL: &str = "protomux-rpc";

const REQUEST: u64 = 0;
const RESPONSE: u64 = 1;

/// How many requests are answered at once; Node knows no bound.
const MAX_RUNNING: usize = 4096;

/// Opens the package's own kind of channel, without id and handshake.
pub(crate) fn options() -> ChannelOptions {
    ChannelOptions::new(PROTOCOL)
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RpcError {
    /// The other side says so.
    #[error("{0:?}")]
    Failed(Failure),
    /// The channel was closed before the answer came.
    #[error("the channel is closed: {0:?}")]
    Closed(CloseReason),
    /// The request could not be sent.
    #[error(transparent)]
    Unsent(#[from] Error),
}

/// The error in a response. The package's codes are `UNKNOWN_METHOD`, `REQUEST_ERROR`, `DECODE_ERROR` and
/// `ENCODE_ERROR`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) code: Option<String>,
    /// The error that the method threw.
    pub(crate) cause: Option<Cause>,
}

/// The error of a method; the caller gets it as the cause of a `REQUEST_ERROR`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) message: String,
    pub(crate) code: Option<String>,
    pub(crate) context: Option<String>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Buffer, Cause>> + Send>>;
type Method = Box<dyn Fn(Buffer) -> Answer + Send + Sync>;

/// The methods that the other side may call.
#[derive(Default)]
pub(crate) struct Methods(HashMap<String, Method>);

impl Methods {
    /// Adds a method. A request that wants no answer calls it too, and the answer is dropped.
    pub(crate) fn on<F>(
        mut self,
        name: &str,
        method: impl Fn(Buffer) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Buffer, Cause>> + Send + 'static,
    {
        let method: Method = Box::new(move |value| Box::pin(method(value)));
        self.0.insert(name.to_owned(), method);
        self
    }
}

/// A channel on which either side calls the other's methods. Clones are the same channel.
#[derive(Clone)]
pub(crate) struct Rpc {
    inner: Arc<Inner>,
}

struct Inner {
    channel: MuxChannel,
    methods: Methods,
    last_id: AtomicU64,
    /// The calls that wait for an answer; `None` once no more can come.
    waiting: Mutex<Option<Waiting>>,
    running: Arc<Semaphore>,
}

type Waiting = HashMap<u64, oneshot::Sender<Result<Buffer, Failure>>>;

impl Rpc {
    /// Nothing is answered, and no answer arrives, unless [`Rpc::run`] runs.
    pub(crate) fn new(channel: MuxChannel, methods: Methods) -> Self {
        let inner = Inner {
            channel,
            methods,
            last_id: AtomicU64::new(0),
            waiting: Mutex::new(Some(HashMap::new())),
            running: Arc::new(Semaphore::new(MAX_RUNNING)),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The channel below.
    pub(crate) fn channel(&self) -> &MuxChannel {
        &self.inner.channel
    }

    /// Calls a method and waits for its answer, for as long as it takes.
    pub(crate) async fn request(
        &self,
        method: &str,
        value: impl Into<Buffer>,
    ) -> Result<Buffer, RpcError> {
        let id = self.inner.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (answer, answered) = oneshot::channel();
        // Before it is sent, for the answer may be quick.
        if let Some(waiting) = &mut *self.waiting() {
            waiting.insert(id, answer);
        }
        let _forget = Forget { rpc: self, id };
        self.send_request(id, method, value.into()).await?;
        match answered.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(failure)) => Err(RpcError::Failed(failure)),
            Err(_) => Err(RpcError::Closed(self.inner.channel.closed().await)),
        }
    }

    /// Calls a method that gives no answer.
    pub(crate) async fn event(
        &self,
        method: &str,
        value: impl Into<Buffer>,
    ) -> Result<(), RpcError> {
        Ok(self.send_request(0, method, value.into()).await?)
    }

    /// Answers requests and hands out answers until the channel is closed, or the other side sends what is no message of
    /// the protocol.
    pub(crate) async fn run(self) -> Result<CloseReason, DecodeError> {
        let result = self.receive().await;
        // Fails the calls that still wait.
        self.waiting().take();
        if result.is_err() {
            // An error here is that it's closed.
            self.inner.channel.close();
        }
        result
    }

    async fn receive(&self) -> Result<CloseReason, DecodeError> {
        while let Some(message) = self.inner.channel.recv().await {
            match message.kind {
                REQUEST => self.answer(Request::decode_shared(&message.body)?.value),
                RESPONSE => self.settle(Response::decode_shared(&message.body)?.value),
                // Of a later release.
                _ => {}
            }
        }
        Ok(self.inner.channel.closed().await)
    }

    /// Calls the method in a task of its own, so that a slow one does not hold up the others.
    fn answer(&self, request: Request) {
        let rpc = self.clone();
        let permit = self.inner.running.clone().try_acquire_owned();
        tokio::spawn(async move {
            let result = match (&permit, rpc.inner.methods.0.get(&request.method)) {
                (Err(_), _) => Err(failure("REQUEST_ERROR", "Too many requests", None)),
                (Ok(_), None) => {
                    let message = format!("Unknown method '{}'", request.method);
                    Err(failure("UNKNOWN_METHOD", &message, None))
                }
                (Ok(_), Some(method)) => method(request.value)
                    .await
                    .map_err(|cause| failure("REQUEST_ERROR", "Request failed", Some(cause))),
            };
            if request.id != 0 {
                let response = Response {
                    id: request.id,
                    result,
                };
                // What cannot be sent any more was asked by somebody who is gone.
                let _ = rpc.send(RESPONSE, &response).await;
            }
        });
    }

    /// Delivers an answer to its caller; one without a caller is dropped, as in Node.
    fn settle(&self, response: Response) {
        let mut waiting = self.waiting();
        let waiting = waiting.as_mut().and_then(|all| all.remove(&response.id));
        if let Some(waiting) = waiting {
            let _ = waiting.send(response.result);
        }
    }

    async fn send_request(&self, id: u64, method: &str, value: Buffer) -> Result<(), Error> {
        let method = method.to_owned();
        self.send(REQUEST, &Request { id, method, value }).await
    }

    async fn send(&self, kind: u64, body: &impl Encode) -> Result<(), Error> {
        self.inner.channel.send(kind, body.encode()?).await
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Option<Waiting>> {
        let waiting = self.inner.waiting.lock();
        waiting.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a request whose caller no longer waits.
struct Forget<'a> {
    rpc: &'a Rpc,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = &mut *self.rpc.waiting() {
            waiting.remove(&self.id);
        }
    }
}

/// A value as the package's default encoding has it: `optionalBuffer` of compact-encoding.
pub(crate) fn optional(value: Option<&[u8]>) -> Buffer {
    let value = value.unwrap_or_default();
    let mut bytes = Vec::with_capacity(value.len() + 9);
    let encoded = Encoder::new(&mut bytes).optional_buffer(Some(value), "value");
    encoded.expect("a length fits");
    bytes.into()
}

/// The inverse of [`optional`].
pub(crate) fn from_optional(value: &Buffer) -> Result<Option<Buffer>, DecodeError> {
    Decoder::shared(value).optional_buffer("value")
}

struct Request {
    id: u64,
    method: String,
    value: Buffer,
}

impl Encode for Request {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.uint(self.id, "id")?;
        encoder.string(&self.method, "method")?;
        encoder.raw(&self.value);
        Ok(())
    }
}

impl Decode for Request {
    const MIN_LEN: usize = 2;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: decoder.uint("id")?,
            method: decoder.string("method")?,
            value: decoder.raw(),
        })
    }
}

struct Response {
    id: u64,
    result: Result<Buffer, Failure>,
}

const FAILED: u64 = 1;
const CODE: u64 = 2;
const CAUSE: u64 = 4;
const CONTEXT: u64 = 8;

impl Encode for Response {
    fn encode_to(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        let failure = match &self.result {
            Ok(value) => {
                encoder.u8(0);
                encoder.uint(self.id, "id")?;
                encoder.raw(value);
                return Ok(());
            }
            Err(failure) => failure,
        };
        let cause = failure.cause.as_ref();
        let context = cause.and_then(|cause| cause.context.as_ref());
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let flags = FAILED
            | flag(failure.code.is_some(), CODE)
            | flag(cause.is_some(), CAUSE)
            | flag(context.is_some(), CONTEXT);
        encoder.uint(flags, "flags")?;
        encoder.uint(self.id, "id")?;
        encoder.string(&failure.message, "message")?;
        if let Some(code) = &failure.code {
            encoder.string(code, "code")?;
        }
        if let Some(cause) = cause {
            encoder.string(&cause.message, "cause.message")?;
            encoder.string(cause.code.as_deref().unwrap_or_default(), "cause.code")?;
        }
        if let Some(context) = context {
            encoder.string(context, "cause.context")?;
        }
        Ok(())
    }
}

impl Decode for Response {
    const MIN_LEN: usize = 2;

    fn decode_from(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let flags = decoder.uint("flags")?;
        let id = decoder.uint("id")?;
        if flags & FAILED == 0 {
            let result = Ok(decoder.raw());
            return Ok(Self { id, result });
        }
        let some = |text: String| (!text.is_empty()).then_some(text);
        let mut failure = Failure {
            message: decoder.string("message")?,
            ..Failure::default()
        };
        if flags & CODE != 0 {
            failure.code = some(decoder.string("code")?);
        }
        if flags & CAUSE != 0 {
            let mut cause = Cause {
                message: decoder.string("cause.message")?,
                code: some(decoder.string("cause.code")?),
                context: None,
            };
            if flags & CONTEXT != 0 {
                cause.context = some(decoder.string("cause.context")?);
            }
            failure.cause = Some(cause);
        }
        let result = Err(failure);
        Ok(Self { id, result })
    }
}

fn failure(code: &str, message: &str, cause: Option<Cause>) -> Failure {
    Failure {
        message: message.to_owned(),
        code: Some(code.to_owned()),
        cause,
    }
}
