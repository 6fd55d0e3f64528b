//! The clock of a replicator.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The clock that all parts of a replicator, and all peers of its core, read. The [`Timer`](crate::runtime::Timer) of
/// each stream wakes the tasks; the two need not start at the same moment, but must run at the same rate.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time since a fixed moment. It never goes back.
    fn now(&self) -> Duration;
}

/// The platform's clock; with the feature `tokio` that of tokio, which a test can pause.
#[derive(Debug)]
struct SystemClock(platform::Instant);

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

pub(super) fn default_clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock(platform::Instant::now()))
}

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
mod platform {
    #[cfg(not(feature = "tokio"))]
    pub(super) use std::time::Instant;
    #[cfg(feature = "tokio")]
    pub(super) use tokio::time::Instant;
}

#[cfg(all(feature = "wasm", target_family = "wasm", target_os = "unknown"))]
mod platform {
    pub(super) use web_time::Instant;
}

/// Without the feature `wasm` there is no clock on this target: the standard library's `Instant::now` panics. Nothing
/// times out then, unless the options have a clock.
#[cfg(all(not(feature = "wasm"), target_family = "wasm", target_os = "unknown"))]
mod platform {
    use std::time::Duration;

    #[derive(Debug)]
    pub(super) struct Instant;

    impl Instant {
        pub(super) fn now() -> Self {
            Self
        }

        pub(super) fn elapsed(&self) -> Duration {
            Duration::ZERO
        }
    }
}
