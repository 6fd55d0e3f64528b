//! The core keys that the proxy knows, by discovery key; more may be added while it runs.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;

/// The keys, shared by all connections.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    known: watch::Sender<HashMap<[u8; 32], [u8; 32]>>,
}

impl Keys {
    pub(super) fn new(keys: &[[u8; 32]]) -> Self {
        let known = watch::Sender::new(HashMap::new());
        let keys_ = Self { known };
        for key in keys {
            keys_.add(*key);
        }
        keys_
    }

    pub(super) fn add(&self, key: [u8; 32]) {
        let discovery_key = hypercore_protocol::discovery_key(&hypercore_protocol::Key::new(key));
        self.known.send_modify(|known| {
            known.insert(discovery_key.into(), key);
        });
    }

    pub(super) fn get(&self, discovery_key: &[u8; 32]) -> Option<[u8; 32]> {
        self.known.borrow().get(discovery_key).copied()
    }

    /// The key, once it is known; `None` after the time-out.
    pub(super) async fn wait(&self, discovery_key: &[u8; 32], limit: Duration) -> Option<[u8; 32]> {
        let mut known = self.known.subscribe();
        let arrives = known.wait_for(|known| known.contains_key(discovery_key));
        let known = tokio::time::timeout(limit, arrives).await.ok()?.ok()?;
        known.get(discovery_key).copied()
    }
}
