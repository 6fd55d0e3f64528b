//! Failures as JavaScript's errors.

use hypercore_protocol::replication::CoreError;
use hypercore_protocol::{CloseReason, Error};
use js_sys::Reflect;
use wasm_bindgen::JsValue;

/// An `Error` with the crate's words, and the fields `layer` and `class` of the vectors.
pub(crate) fn to_js(error: &Error) -> JsValue {
    make(
        &error.to_string(),
        &error.layer().to_string(),
        &error.class().to_string(),
    )
}

/// What a core refuses. The class of a proof that does not hold is Node's code for it.
pub(crate) fn core_to_js(error: &CoreError) -> JsValue {
    let (layer, class) = match error {
        CoreError::Proof(error) => ("tree", error.code().to_lowercase().replace('_', "-")),
        _ => ("adapter", "bad-input".to_owned()),
    };
    make(&error.to_string(), layer, &class)
}

/// An invalid argument from JavaScript.
pub(crate) fn bad_input(message: &str) -> JsValue {
    make(message, "adapter", "bad-input")
}

/// A channel closed before it was open on both sides.
pub(crate) fn not_opened(reason: CloseReason) -> JsValue {
    let message = match reason {
        CloseReason::Rejected => "the peer does not have this core",
        CloseReason::Local => "the channel was closed before the peer opened it",
        CloseReason::Remote => "the peer closed the channel",
        _ => "the stream ended before the peer opened the channel",
    };
    make(message, "channel", reason_name(reason))
}

/// A close reason's name in JavaScript.
pub(crate) fn reason_name(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Local => "local",
        CloseReason::Remote => "remote",
        CloseReason::Rejected => "rejected",
        _ => "stream",
    }
}

fn make(message: &str, layer: &str, class: &str) -> JsValue {
    let error = js_sys::Error::new(message);
    error.set_name("HypercoreError");
    // Setting a field of a fresh object cannot fail.
    let _ = Reflect::set(&error, &"layer".into(), &layer.into());
    let _ = Reflect::set(&error, &"class".into(), &class.into());
    error.into()
}
