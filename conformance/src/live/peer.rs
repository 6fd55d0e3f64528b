//! One end of a live connection: an adapter, and its events that no step has read yet.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::trouble::Trouble;
use crate::adapter::{Adapter, AdapterProcess, Hello, Outcome};

/// The time-out of a step.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The time that the adapter may take beyond the requested wait.
const GRACE: Duration = Duration::from_secs(20);

/// The most bytes of one string in the log; messages may have megabytes.
const LOG_STRING: usize = 160;

/// One end of the connection.
#[derive(Debug)]
pub(crate) struct Peer {
    name: &'static str,
    adapter: AdapterProcess,
    pub(crate) hello: Hello,
    /// Unread events, in order.
    unread: VecDeque<Value>,
    /// Handles of channels by the name of the core, the newest last.
    pub(super) channels: HashMap<String, Vec<u64>>,
    /// Keys of the cores whose channels were opened here.
    pub(super) cores: Vec<String>,
    /// The completed handshakes, as reported by this end.
    pub(super) handshakes: Vec<Value>,
    /// Requests and events, for reports.
    log: Vec<String>,
    /// The stderr of processes that ended early.
    stderr: String,
    /// Whether errors from here on are caused by the other end.
    pub(super) forgiven: bool,
}

impl Peer {
    pub(crate) async fn new(
        name: &'static str,
        mut adapter: AdapterProcess,
    ) -> Result<Self, Trouble> {
        let hello = adapter
            .hello()
            .await
            .map_err(|failure| Trouble::failed(format!("{name}: {failure}")))?;
        if !hello.live {
            return Err(Trouble::Unsupported(format!("{name}: live connections")));
        }
        Ok(Self {
            name,
            adapter,
            hello,
            unread: VecDeque::new(),
            channels: HashMap::new(),
            cores: Vec::new(),
            handshakes: Vec::new(),
            log: Vec::new(),
            stderr: String::new(),
            forgiven: false,
        })
    }

    /// Returns the adapter, for another scenario; the stream must have been stopped.
    pub(crate) fn into_adapter(self) -> AdapterProcess {
        self.adapter
    }

    /// The process of the adapter, while it runs.
    pub(crate) fn process_id(&self) -> Option<u32> {
        self.adapter.process_id()
    }

    pub(crate) fn log(&self) -> &[String] {
        &self.log
    }

    pub(crate) fn take_stderr(&mut self) -> String {
        std::mem::take(&mut self.stderr) + &self.adapter.take_stderr()
    }

    /// Requests a live operation that must succeed.
    pub(crate) async fn ask(&mut self, op: &str, input: Value) -> Result<Value, Trouble> {
        match self.try_ask(op, input).await? {
            Outcome::Ok(value) => Ok(value),
            Outcome::Error(error) => Err(self.trouble(format!("{op} is refused: {error}"))),
            Outcome::Unsupported => Err(Trouble::Unsupported(format!("{}: {op}", self.name))),
        }
    }

    /// Requests a live operation that may be refused.
    pub(crate) async fn try_ask(&mut self, op: &str, input: Value) -> Result<Outcome, Trouble> {
        if !self.hello.knows(op) {
            return Ok(Outcome::Unsupported);
        }
        if let ("peer.open", Some(key)) = (op, input["key"].as_str()) {
            self.cores.push(key.to_owned());
        }
        let patience = if op == "peer.next" {
            PATIENCE + GRACE
        } else {
            GRACE
        };
        let outcome = self.adapter.call_within(op, &input, patience).await;
        if op != "peer.next" {
            let answer = match &outcome {
                Ok(Outcome::Ok(value)) => brief(value),
                Ok(Outcome::Error(error)) => format!("refused: {}", brief(error)),
                Ok(Outcome::Unsupported) => "unsupported".into(),
                Err(failure) => failure.to_string(),
            };
            self.note(format!("{op} {} -> {answer}", brief(&input)));
        }
        if outcome.is_err() {
            // The next request starts a fresh process without this one's stderr.
            self.stderr.push_str(&self.adapter.take_stderr());
        }
        outcome.map_err(|failure| self.trouble(format!("{op}: {failure}")))
    }

    fn note(&mut self, line: String) {
        self.log.push(line);
    }

    pub(super) fn trouble(&self, text: String) -> Trouble {
        Trouble::failed(format!("{}: {text}", self.name))
    }

    /// The next event, or `None` after the time-out.
    pub(crate) async fn fetch(&mut self, limit: Duration) -> Result<Option<Value>, Trouble> {
        let input = json!({ "timeoutMs": u64::try_from(limit.as_millis()).unwrap_or(u64::MAX) });
        let answer = match self.try_ask("peer.next", input).await? {
            Outcome::Ok(value) => value,
            Outcome::Error(error) if error["class"] == "timeout" => return Ok(None),
            Outcome::Error(error) => {
                return Err(self.trouble(format!("peer.next is refused: {error}")));
            }
            Outcome::Unsupported => {
                return Err(Trouble::Unsupported(format!("{}: peer.next", self.name)));
            }
        };
        let mut answer = answer;
        let event = answer["event"].take();
        if event["type"] == "handshake" {
            self.handshakes.push(event.clone());
        }
        self.note(format!("event {}", brief(&event)));
        Ok(Some(event))
    }

    /// Waits for the first `wanted` event; the others are kept for later steps.
    ///
    /// `what` completes "did not see …" in the report.
    pub(super) async fn expect(
        &mut self,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, Trouble> {
        let end = Instant::now() + PATIENCE;
        let mut at = 0;
        loop {
            while at < self.unread.len() {
                if wanted(&self.unread[at])
                    && let Some(found) = self.unread.remove(at)
                {
                    return Ok(found);
                }
                at += 1;
            }
            let left = end.saturating_duration_since(Instant::now());
            // Nothing comes after the stream is closed.
            let gone = self.unread.iter().any(|event| event["type"] == "closed");
            match if gone { None } else { self.fetch(left).await? } {
                Some(event) => self.unread.push_back(event),
                None => {
                    let mut seen: Vec<_> = self.unread.iter().map(brief).collect();
                    if seen.is_empty() {
                        seen.push("nothing".into());
                    }
                    let seen = seen.join("\n    ");
                    return Err(self.trouble(format!("did not see {what}; saw\n    {seen}")));
                }
            }
        }
    }

    /// As [`Peer::expect`], but the very next event of one of these types must be the wanted one.
    pub(super) async fn expect_next(
        &mut self,
        what: &str,
        types: &[&str],
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, Trouble> {
        let event = self
            .expect(what, |event| {
                types.iter().any(|kind| event["type"] == *kind)
            })
            .await?;
        if wanted(&event) {
            Ok(event)
        } else {
            Err(self.trouble(format!("expected {what}, and got {}", brief(&event))))
        }
    }

    /// Waits until the stream is closed; that event is kept.
    pub(super) async fn expect_closed(&mut self) -> Result<(), Trouble> {
        let gone = self
            .expect("the stream gone", |event| event["type"] == "closed")
            .await?;
        self.unread.push_back(gone);
        Ok(())
    }

    /// Drops error events, since the other end is at fault.
    pub(super) fn forgive(&mut self) {
        self.forgiven = true;
        self.unread.retain(|event| event["type"] != "error");
    }

    /// Reads the events so far, without waiting.
    pub(super) async fn catch_up(&mut self) -> Result<(), Trouble> {
        while let Some(event) = self.fetch(Duration::ZERO).await? {
            self.unread.push_back(event);
        }
        Ok(())
    }

    /// The unread events.
    pub(super) fn unread(&self) -> impl Iterator<Item = &Value> {
        self.unread.iter()
    }

    /// Drops a stream, so that another can be started.
    pub(super) async fn stop(&mut self) -> Result<(), Trouble> {
        self.unread.clear();
        self.channels.clear();
        self.forgiven = false;
        self.ask("peer.stop", json!({})).await.map(drop)
    }

    /// The newest channel of a core.
    pub(super) fn channel(&self, core: &str) -> Result<u64, Trouble> {
        self.channels
            .get(core)
            .and_then(|handles| handles.last())
            .copied()
            .ok_or_else(|| self.trouble(format!("no channel was opened for core {core}")))
    }
}

/// A value as JSON, with long strings and lists truncated.
pub(super) fn brief(value: &Value) -> String {
    match value {
        Value::String(text) if text.len() > LOG_STRING => {
            let start: String = text.chars().take(32).collect();
            format!("\"{start}… ({} characters)\"", text.len())
        }
        Value::Array(items) => {
            let mut parts: Vec<_> = items.iter().take(10).map(brief).collect();
            if items.len() > parts.len() {
                parts.push(format!("… ({} items)", items.len()));
            }
            format!("[{}]", parts.join(","))
        }
        Value::Object(fields) => {
            let parts: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("\"{name}\":{}", brief(value)))
                .collect();
            format!("{{{}}}", parts.join(","))
        }
        other => other.to_string(),
    }
}
