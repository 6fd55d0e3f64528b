//! Limits the time spent on releases that hang: time-outs are tolerated, but not for each of thousands of cases.
//!
//! The runner gives up on an adapter that answers nothing; this limits one that answers some operations.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;

use crate::adapter::{Adapter, AdapterCommand, AdapterProcess, Failure, Hello, Outcome};

/// The time-out of one answer: Node 10.0.0 hangs on some.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// The number of time-outs of one operation after which it is no longer requested.
const SILENT: usize = 3;

/// The number of time-outs of all operations after which nothing is requested any more.
const ALL_SILENT: usize = 12;

/// An adapter with limited time-outs.
pub(super) struct SilenceLimit<A = AdapterProcess> {
    inner: A,
    /// The number of time-outs of each operation.
    silent: BTreeMap<String, usize>,
}

impl SilenceLimit {
    pub(super) fn new(command: &AdapterCommand) -> Self {
        Self::of(AdapterProcess::new(command.clone()).with_timeout(ANSWER_LIMIT))
    }

    /// Kills it.
    pub(super) async fn kill(&mut self) {
        self.inner.kill().await;
    }
}

impl<A: Adapter> SilenceLimit<A> {
    fn of(inner: A) -> Self {
        let silent = BTreeMap::new();
        Self { inner, silent }
    }

    /// Why `op` is no longer requested, if so.
    fn given_up(&self, op: &str) -> Option<Failure> {
        let own = self.silent.get(op).copied().unwrap_or(0);
        let all = self.silent.values().sum();
        let (count, what) = match (own, all) {
            (_, ALL_SILENT..) => (all, "all operations".to_owned()),
            (SILENT.., _) => (own, op.to_owned()),
            _ => return None,
        };
        let limit = self.inner.timeout();
        Some(Failure::NotAsked { count, what, limit })
    }
}

impl<A: Adapter> Adapter for SilenceLimit<A> {
    fn hello(&mut self) -> BoxFuture<'_, Result<Hello, Failure>> {
        self.inner.hello()
    }

    fn timeout(&self) -> Duration {
        self.inner.timeout()
    }

    fn call_within<'a>(
        &'a mut self,
        op: &'a str,
        input: &'a Value,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Outcome, Failure>> {
        Box::pin(async move {
            if let Some(failure) = self.given_up(op) {
                return Err(failure);
            }
            let answer = self.inner.call_within(op, input, limit).await;
            if answer.as_ref().is_err_and(Failure::is_timeout) {
                *self.silent.entry(op.to_owned()).or_default() += 1;
            }
            answer
        })
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        self.inner.finish()
    }

    fn take_unasked(&mut self) -> Option<String> {
        self.inner.take_unasked()
    }

    fn take_stderr(&mut self) -> String {
        self.inner.take_stderr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers only `mux.open`.
    #[derive(Default)]
    struct Mute {
        asked: usize,
    }

    impl Adapter for Mute {
        fn hello(&mut self) -> BoxFuture<'_, Result<Hello, Failure>> {
            Box::pin(async { Ok(Hello::default()) })
        }

        fn timeout(&self) -> Duration {
            ANSWER_LIMIT
        }

        fn call_within<'a>(
            &'a mut self,
            op: &'a str,
            _: &'a Value,
            limit: Duration,
        ) -> BoxFuture<'a, Result<Outcome, Failure>> {
            self.asked += 1;
            Box::pin(async move {
                match op {
                    "mux.open" => Ok(Outcome::Unsupported),
                    _ => Err(Failure::TimedOut(limit)),
                }
            })
        }
    }

    #[tokio::test]
    async fn a_release_that_hangs_is_not_waited_for_at_each_case() {
        let mut adapter = SilenceLimit::of(Mute::default());
        let mut told = Vec::new();
        for round in 0..20 {
            for op in ["mux.open", "a", "b", "c", "d", "e"] {
                let answer = adapter.call(op, &Value::Null).await;
                // Three time-outs of each operation, then none are requested.
                if let Err(failure @ Failure::NotAsked { .. }) = answer {
                    told.push(failure.to_string());
                } else {
                    assert!(round < 3, "{op} in round {round}: {answer:?}");
                }
            }
        }
        assert_eq!(
            told[0],
            "not asked: 12 answers to all operations did not come within 20 s"
        );
        assert_eq!(adapter.silent.values().sum::<usize>(), 12);
        assert_eq!(adapter.inner.asked, 12 + 3);

        let mut adapter = SilenceLimit::of(Mute::default());
        for _ in 0..5 {
            let answer = adapter.call("mux.open", &Value::Null).await;
            assert_eq!(answer, Ok(Outcome::Unsupported));
            told.extend(
                adapter
                    .call("a", &Value::Null)
                    .await
                    .err()
                    .map(|failure| failure.to_string()),
            );
        }
        assert_eq!(
            told.last().map(String::as_str),
            Some("not asked: 3 answers to a did not come within 20 s")
        );
        assert_eq!(adapter.inner.asked, 5 + 3);
    }
}
