//! In-process implementations, and the loop that serves one as JSON lines.

use std::io::{BufRead, Write};
use std::sync::mpsc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Adapter, DEFAULT_TIMEOUT, Failure, Hello, Outcome, PROTOCOL};

/// An implementation in this process: what [`serve`] serves and [`InProcess`] calls.
pub trait Implementation: 'static {
    /// The answer to `hello`.
    fn hello(&self) -> Hello;

    /// Carries out one operation.
    fn call(&mut self, op: &str, input: &Value) -> Outcome;
}

/// An [`Implementation`] behind the interface of an external program: it runs on its own thread, so that a panic or a
/// call that never returns costs only one case.
pub struct InProcess<F> {
    make: F,
    timeout: Duration,
    worker: Option<Worker>,
}

struct Worker {
    requests: mpsc::Sender<(String, Value)>,
    answers: tokio::sync::mpsc::Receiver<Outcome>,
    thread: std::thread::JoinHandle<()>,
    hello: Hello,
}

impl<I: Implementation, F: Fn() -> I + Clone + Send + 'static> InProcess<F> {
    /// Calls the implementation that `make` makes; it is made again after a panic or a time-out.
    pub fn new(make: F) -> Self {
        Self {
            make,
            timeout: DEFAULT_TIMEOUT,
            worker: None,
        }
    }

    /// Sets the time-out of each request.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn ensure_running(&mut self) -> Result<&mut Worker, Failure> {
        if self.worker.is_none() {
            let (requests, incoming) = mpsc::channel::<(String, Value)>();
            let (outgoing, answers) = tokio::sync::mpsc::channel(1);
            let (introduce, introduced) = tokio::sync::oneshot::channel();
            let make = self.make.clone();
            let thread = std::thread::Builder::new()
                .name("implementation".into())
                .spawn(move || {
                    let mut implementation = make();
                    drop(introduce.send(implementation.hello()));
                    while let Ok((op, input)) = incoming.recv() {
                        if outgoing
                            .blocking_send(implementation.call(&op, &input))
                            .is_err()
                        {
                            return;
                        }
                    }
                })
                .map_err(|error| Failure::Start {
                    command: "a thread".into(),
                    reason: error.to_string(),
                })?;
            let hello = introduced.await.map_err(|_| Failure::Crashed {
                status: "panicked".into(),
            })?;
            self.worker = Some(Worker {
                requests,
                answers,
                thread,
                hello,
            });
        }
        self.worker.as_mut().ok_or(Failure::Crashed {
            status: "not running".into(),
        })
    }
}

impl<I: Implementation, F: Fn() -> I + Clone + Send + 'static> Adapter for InProcess<F> {
    fn hello(&mut self) -> BoxFuture<'_, Result<Hello, Failure>> {
        Box::pin(async move { Ok(self.ensure_running().await?.hello.clone()) })
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn call_within<'a>(
        &'a mut self,
        op: &'a str,
        input: &'a Value,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Outcome, Failure>> {
        Box::pin(async move {
            // Taken out, so that dropping the call's future leaves no stale worker behind.
            self.ensure_running().await?;
            let Some(mut worker) = self.worker.take() else {
                return Err(Failure::Crashed {
                    status: "not running".into(),
                });
            };
            let sent = worker.requests.send((op.to_owned(), input.clone()));
            let answer = tokio::time::timeout(limit, worker.answers.recv()).await;
            match (sent, answer) {
                (Ok(()), Ok(Some(outcome))) => {
                    self.worker = Some(worker);
                    Ok(outcome)
                }
                (_, Err(_)) => Err(Failure::TimedOut(limit)),
                _ => {
                    let panic = worker.thread.join().err();
                    let text = panic.as_ref().and_then(|panic| {
                        panic
                            .downcast_ref::<String>()
                            .cloned()
                            .or_else(|| panic.downcast_ref::<&str>().map(|&text| text.into()))
                    });
                    let status =
                        text.map_or_else(|| "panicked".into(), |text| format!("panicked: {text}"));
                    Err(Failure::Crashed { status })
                }
            }
        })
    }
}

/// Serves an implementation as JSON lines until `input` ends.
///
/// # Errors
/// If reading or writing fails.
pub fn serve(
    implementation: &mut impl Implementation,
    input: impl BufRead,
    mut output: impl Write,
) -> std::io::Result<()> {
    for line in input.lines() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let mut answer = serde_json::to_vec(&answer_line(implementation, &line))?;
        answer.push(b'\n');
        output.write_all(&answer)?;
        output.flush()?;
    }
    Ok(())
}

/// The answer to one request line.
pub(crate) fn answer_line(implementation: &mut impl Implementation, line: &str) -> Value {
    let request: Value = match serde_json::from_str(line) {
        Ok(request) => request,
        Err(error) => {
            return json!({ "id": null, "error": bad_input(&format!("the request is not JSON: {error}")) });
        }
    };
    let id = request.get("id").and_then(Value::as_u64);
    let op = request.get("op").and_then(Value::as_str);
    let (Some(id), Some(op)) = (id, op) else {
        return json!({ "id": request.get("id"), "error": bad_input("the request has no id or no op") });
    };
    let input = request.get("input").unwrap_or(&Value::Null);
    if op != "hello" {
        return implementation.call(op, input).into_answer(id);
    }
    let offered = input.get("protocols").and_then(Value::as_array);
    let offered = offered.into_iter().flatten().filter_map(Value::as_u64);
    if offered.into_iter().any(|version| version == PROTOCOL) {
        Outcome::Ok(implementation.hello().to_value()).into_answer(id)
    } else {
        let message = format!("only version {PROTOCOL} of the adapter protocol is spoken here");
        json!({ "id": id, "error": {
            "layer": "adapter", "class": "protocol-version", "message": message, "protocols": [PROTOCOL],
        } })
    }
}

fn bad_input(message: &str) -> Value {
    json!({ "layer": "adapter", "class": "bad-input", "message": message })
}
