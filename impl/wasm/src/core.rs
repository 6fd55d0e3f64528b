//! [`Core`]: the verified part of a hypercore that has arrived.

use std::cell::RefCell;

use hypercore_protocol::Message;
use hypercore_protocol::replication::{self, CoreError, CoreOptions, Memory};
use js_sys::Uint8Array;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::convert::{self, KeyLike, MessageLike, bytes_to_js};
use crate::error::{bad_input, core_to_js};

/// A hypercore in memory that is filled by peers. Nothing gets into it that is not proven: a block by the hashes of its
/// Merkle tree, the tree by the signature of who may sign, and that by the key.
///
/// ```js
/// const core = new Core(key)
/// await channel.send({ type: 'request', id: 1, upgrade: { start: core.length, length }, manifest: !core.hasManifest })
/// // each `data` that arrives
/// core.verify(message)
/// await channel.send({ type: 'request', id: 2, block: { index, nodes: core.missingNodes(index) } })
/// ```
#[wasm_bindgen]
#[derive(Debug)]
pub struct Core {
    inner: RefCell<replication::Core>,
}

#[wasm_bindgen]
impl Core {
    /// An empty core of this key.
    ///
    /// # Errors
    /// When it is no key.
    #[wasm_bindgen(constructor)]
    pub fn new(key: KeyLike) -> Result<Self, JsValue> {
        let options = CoreOptions::reader(convert::key(&key)?);
        let inner = replication::Core::open(Memory::new(), options).map_err(failed)?;
        Ok(Self {
            inner: RefCell::new(inner),
        })
    }

    /// How many blocks the core is proven to have.
    #[wasm_bindgen(getter)]
    pub fn length(&self) -> f64 {
        self.inner.borrow().length() as f64
    }

    /// How many bytes they have together.
    #[wasm_bindgen(getter, js_name = byteLength)]
    pub fn byte_length(&self) -> f64 {
        self.inner.borrow().byte_length() as f64
    }

    /// How often the core's history was rewritten.
    #[wasm_bindgen(getter)]
    pub fn fork(&self) -> f64 {
        self.inner.borrow().fork() as f64
    }

    /// Whether it is known who may sign. A request for an upgrade asks for the manifest otherwise.
    #[wasm_bindgen(getter, js_name = hasManifest)]
    pub fn has_manifest(&self) -> bool {
        self.inner.borrow().manifest().is_some()
    }

    /// The `nodes` of a request for a block: how many hashes of the tree are needed to prove it.
    ///
    /// # Errors
    /// When `index` is no index.
    #[wasm_bindgen(js_name = missingNodes)]
    pub fn missing_nodes(&self, index: f64) -> Result<f64, JsValue> {
        // Block i is node 2i of the tree.
        let node = block(index)?.saturating_mul(2);
        let missing = self.inner.borrow().missing_nodes(node);
        missing.map(|nodes| nodes as f64).map_err(failed)
    }

    /// Verifies a message of the type `data`, and keeps what it proves. True when it was of use; false when the peer has
    /// another history of the core.
    ///
    /// # Errors
    /// When the message does not prove what it claims: the class is Node's code, such as `invalid-checksum`.
    pub fn verify(&self, data: MessageLike) -> Result<bool, JsValue> {
        match convert::messages(&data)?.as_slice() {
            [Message::Data(data)] => {
                let applied = self.inner.borrow_mut().verify_and_apply(data);
                let applied = applied.map_err(failed)?;
                Ok(!applied.stale && applied.reorg.is_none())
            }
            _ => Err(bad_input("only a message of the type data can be verified")),
        }
    }

    /// A block, if it has arrived.
    ///
    /// # Errors
    /// When `index` is no index.
    pub fn get(&self, index: f64) -> Result<Option<Uint8Array>, JsValue> {
        let found = self.inner.borrow().get(block(index)?).map_err(failed)?;
        Ok(found.map(|value| bytes_to_js(&value)))
    }
}

fn block(index: f64) -> Result<u64, JsValue> {
    convert::integer(index).ok_or_else(|| bad_input("a block's index is from 0 to 2^53-1"))
}

fn failed(error: CoreError) -> JsValue {
    core_to_js(&error)
}
