//! [`Channel`]: one core on a peer's stream.

use js_sys::Uint8Array;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::future_to_promise;

use crate::convert::{self, MessageLike, Record, bytes_to_js};
use crate::error::{reason_name, to_js};
use crate::peer::Handle;

#[wasm_bindgen]
extern "C" {
    /// The result of an async iterator's `next`.
    #[wasm_bindgen(typescript_type = "Promise<IteratorResult<Message, undefined>>")]
    pub type NextMessage;
    /// A promise of nothing.
    #[wasm_bindgen(typescript_type = "Promise<void>")]
    pub type Done;
    /// A promise of a close reason.
    #[wasm_bindgen(typescript_type = "Promise<'local' | 'remote' | 'rejected' | 'stream'>")]
    pub type Reason;
    /// A channel as what it iterates over.
    #[wasm_bindgen(typescript_type = "AsyncIterableIterator<Message>")]
    pub type Messages;
}

/// The channel of one core, which both sides have opened: send messages, and iterate over those that arrive with
/// `for await`. A reader that stands still makes the peer wait.
#[wasm_bindgen]
#[derive(Debug, Clone)]
pub struct Channel {
    inner: hypercore_protocol::Channel,
    /// Keeps the stream running as long as one of its channels is in use.
    _peer: Handle,
}

impl Channel {
    pub(crate) fn new(inner: hypercore_protocol::Channel, peer: Handle) -> Self {
        Self { inner, _peer: peer }
    }
}

#[wasm_bindgen]
impl Channel {
    /// The core's key, 32 bytes.
    #[wasm_bindgen(getter)]
    pub fn key(&self) -> Uint8Array {
        bytes_to_js(self.inner.key())
    }

    /// The core's discovery key, 32 bytes.
    #[wasm_bindgen(getter, js_name = discoveryKey)]
    pub fn discovery_key(&self) -> Uint8Array {
        bytes_to_js(self.inner.discovery_key())
    }

    /// Sends a message, or several as one batch. Waits while the peer takes no more.
    #[must_use]
    pub fn send(&self, messages: MessageLike) -> Done {
        let channel = self.inner.clone();
        let messages = convert::messages(&messages);
        promise(async move {
            let sent = match messages?.as_slice() {
                [message] => channel.send(message.clone()).await,
                messages => channel.send_batch(messages).await,
            };
            sent.map(|()| JsValue::UNDEFINED).map_err(|e| to_js(&e))
        })
    }

    /// The next message; `done` once the channel is closed and all that arrived was taken.
    #[must_use]
    pub fn next(&self) -> NextMessage {
        let channel = self.inner.clone();
        promise(async move {
            let message = channel.recv().await;
            let result = Record::new().with("done", message.is_none());
            Ok(match message {
                Some(message) => result.with("value", convert::to_js(&message)),
                None => result,
            }
            .into())
        })
    }

    /// The same channel, for `for await`.
    #[wasm_bindgen(js_name = "[Symbol.asyncIterator]")]
    pub fn iterate(&self) -> Messages {
        JsValue::from(self.clone()).unchecked_into()
    }

    /// Closes the channel: what ends a `for await` early does so.
    #[wasm_bindgen(js_name = return)]
    #[must_use]
    pub fn close_by_loop(&self) -> NextMessage {
        let channel = self.inner.clone();
        promise(async move {
            channel.close();
            Ok(Record::new().with("done", true).into())
        })
    }

    /// Closes the channel. Messages accepted before are still sent.
    #[must_use]
    pub fn close(&self) -> Done {
        let channel = self.inner.clone();
        promise(async move {
            channel.close();
            Ok(JsValue::UNDEFINED)
        })
    }

    /// Waits until the channel is closed. Says by whom: `local`, `remote`, or `stream` for all channels at once.
    #[must_use]
    pub fn closed(&self) -> Reason {
        let channel = self.inner.clone();
        promise(async move { Ok(reason_name(channel.closed().await).into()) })
    }
}

/// A promise under the type that TypeScript sees.
pub(crate) fn promise<T: JsCast>(
    future: impl Future<Output = Result<JsValue, JsValue>> + 'static,
) -> T {
    future_to_promise(future).unchecked_into()
}
