//! Implementations under test, and the JSON lines that they speak.
//!
//! An adapter is any program that reads one JSON request a line on stdin and writes one JSON answer a line on stdout:
//!
//! ```text
//! {"id":1,"op":"frame.decode","input":{…}}
//! {"id":1,"ok":{…}}  or  {"id":1,"error":{"layer":"frame","class":"truncated",…}}  or  {"id":1,"unsupported":true}
//! ```
//!
//! The first request is `hello`, and no operation that its answer does not declare is asked for. A crash, a missed
//! deadline, a line that is not JSON and an answer to another request cost the case that met them and nothing else: the
//! program is ended, and the next call starts a fresh one.

use std::collections::VecDeque;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

/// The version of the adapter protocol that this suite speaks.
pub const PROTOCOL: u64 = 1;

/// How long an adapter may take over one request, unless told otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest answer that is read, in bytes: the largest record is 2^24-1 bytes, or twice that in hex, and an answer may
/// hold several.
const MAX_LINE: usize = 256 << 20;

/// How much of an adapter's stderr is kept for reports, in bytes; the end is kept.
const STDERR_KEPT: usize = 16 << 10;

/// How long an adapter may take to exit once its stdin has ended.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// What an implementation answered to one request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The operation succeeded with this output.
    Ok(Value),
    /// The operation was refused: an object with `layer`, `class` and `message`, and where known `offset`, `field`, `step`
    /// or `record`.
    Error(Value),
    /// The implementation does not know the operation.
    Unsupported,
}

impl Outcome {
    /// An error with the three fields that every error has.
    pub fn error(layer: &str, class: &str, message: impl Into<String>) -> Self {
        Self::Error(json!({ "layer": layer, "class": class, "message": message.into() }))
    }

    /// The answer to the request `id`, as a JSON object.
    pub fn to_answer(&self, id: u64) -> Value {
        match self {
            Self::Ok(value) => json!({ "id": id, "ok": value }),
            Self::Error(value) => json!({ "id": id, "error": value }),
            Self::Unsupported => json!({ "id": id, "unsupported": true }),
        }
    }
}

/// How an adapter introduced itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hello {
    /// The implementation's name.
    pub name: String,
    /// The implementation's own version.
    pub version: String,
    /// The language it is written in.
    pub language: String,
    /// The release of Node's hypercore that this is, where it is one: what was seen of that release is then expected of it.
    pub release: Option<String>,
    /// The operations that it knows.
    pub ops: Vec<String>,
    /// Whether it can open connections to live peers.
    pub live: bool,
}

impl Hello {
    /// Whether the operation `op` was declared.
    pub fn knows(&self, op: &str) -> bool {
        self.ops.iter().any(|known| known == op)
    }

    /// Name, version, release and language in a few words.
    pub fn title(&self) -> String {
        let mut more = Vec::new();
        if let Some(release) = &self.release
            && *release != self.version
        {
            more.push(format!("hypercore {release}"));
        }
        if !self.language.is_empty() {
            more.push(self.language.clone());
        }
        let more = if more.is_empty() {
            String::new()
        } else {
            format!(" ({})", more.join(", "))
        };
        format!("{} {}", self.name, self.version)
            .trim_end()
            .to_owned()
            + &more
    }

    /// The answer to `hello`, as JSON.
    pub fn to_value(&self) -> Value {
        json!({
            "protocol": PROTOCOL,
            "name": self.name,
            "version": self.version,
            "language": self.language,
            "release": self.release,
            "ops": self.ops,
            "live": self.live,
        })
    }

    fn parse(value: &Value) -> Result<Self, Failure> {
        let invalid = |reason: &str| Failure::Invalid {
            reason: format!("hello: {reason}"),
        };
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        match value.get("protocol").and_then(Value::as_u64) {
            Some(PROTOCOL) => {}
            Some(other) => {
                return Err(invalid(&format!(
                    "protocol {other} is not spoken here, only {PROTOCOL}"
                )));
            }
            None => return Err(invalid("no protocol version")),
        }
        let ops = value
            .get("ops")
            .and_then(Value::as_array)
            .ok_or_else(|| invalid("no list of ops"))?;
        let ops = ops
            .iter()
            .map(|op| {
                op.as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| invalid("an op is not a string"))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name: text("name").ok_or_else(|| invalid("no name"))?,
            version: text("version").unwrap_or_default(),
            language: text("language").unwrap_or_default(),
            release: text("release"),
            ops,
            live: value.get("live").and_then(Value::as_bool).unwrap_or(false),
        })
    }
}

/// Why an adapter gave no usable answer.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum Failure {
    /// The program could not be started at all.
    #[error("cannot start `{command}`: {reason}")]
    Start {
        /// The command line.
        command: String,
        /// What the operating system said.
        reason: String,
    },
    /// The program ended, or closed its stdout, before it answered.
    #[error("the adapter ended before it answered ({status})")]
    Crashed {
        /// How it ended, as far as is known.
        status: String,
    },
    /// No answer came in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The answer is not a line of JSON.
    #[error("the answer is not JSON: {reason}: {line}")]
    NotJson {
        /// The beginning of the line.
        line: String,
        /// What the parser said.
        reason: String,
    },
    /// The answer is to another request.
    #[error("the answer is to request {got}, not to {expected}")]
    WrongId {
        /// The id of the request.
        expected: u64,
        /// The id of the answer, as JSON.
        got: String,
    },
    /// The answer is JSON, but not of the protocol's shape.
    #[error("the answer is not of the protocol: {reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
}

impl Failure {
    /// A short name for reports: `crash`, `timeout`, `not-json`, `wrong-id`, `invalid-answer` or `start`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Crashed { .. } => "crash",
            Self::TimedOut(_) => "timeout",
            Self::NotJson { .. } => "not-json",
            Self::WrongId { .. } => "wrong-id",
            Self::Invalid { .. } => "invalid-answer",
        }
    }
}

/// Something that can be asked the operations of the adapter protocol.
pub trait Adapter: Send {
    /// Asks who this is, starting it if need be.
    fn hello(&mut self) -> BoxFuture<'_, Result<Hello, Failure>>;

    /// Asks for one operation; `input` has no `repeat` or `concat` left in it.
    fn call<'a>(
        &'a mut self,
        op: &'a str,
        input: &'a Value,
    ) -> BoxFuture<'a, Result<Outcome, Failure>>;

    /// As [`Adapter::call`], with a limit of its own on the time it may take.
    fn call_within<'a>(
        &'a mut self,
        op: &'a str,
        input: &'a Value,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Outcome, Failure>>;

    /// Ends it as its author would expect.
    fn finish(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    /// The end of what it has written to stderr since the last call of this.
    fn take_stderr(&mut self) -> String {
        String::new()
    }
}

/// The command that starts an adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterCommand {
    /// The program, looked up on the PATH.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Where it runs; `None` is the current folder.
    pub folder: Option<PathBuf>,
}

impl AdapterCommand {
    /// A program and its arguments.
    pub fn new(
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            folder: None,
        }
    }

    /// A command line as a shell would split it: words, quotes and backslashes, nothing else.
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut words = split_words(line)?.into_iter();
        let program = words.next().ok_or("the command is empty")?;
        Ok(Self::new(program, words))
    }

    /// This program's own reference implementation, served over the same pipe as any other.
    pub fn reference() -> std::io::Result<Self> {
        Ok(Self::new(std::env::current_exe()?, ["adapter"]))
    }
}

impl std::fmt::Display for AdapterCommand {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.program.display())?;
        self.args.iter().try_for_each(|arg| write!(out, " {arg}"))
    }
}

fn split_words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some('\''), _) => word.get_or_insert_default().push(c),
            (_, '\\') => word
                .get_or_insert_default()
                .push(chars.next().ok_or("a backslash at the end")?),
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    words.extend(word);
    Ok(words)
}

/// An adapter that is a program of its own.
#[derive(Debug)]
pub struct AdapterProcess {
    command: AdapterCommand,
    timeout: Duration,
    hello: Option<Hello>,
    running: Option<Running>,
    last_stderr: String,
}

/// One started program.
#[derive(Debug)]
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    stderr_task: JoinHandle<()>,
    next_id: u64,
    // Set while an answer is awaited, so that a call whose future was dropped leaves no stale answer behind.
    busy: bool,
}

impl AdapterProcess {
    /// Prepares a program without starting it; each request may take [`DEFAULT_TIMEOUT`].
    pub fn new(command: AdapterCommand) -> Self {
        Self {
            command,
            timeout: DEFAULT_TIMEOUT,
            hello: None,
            running: None,
            last_stderr: String::new(),
        }
    }

    /// Sets how long each request may take.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The command line.
    pub fn command(&self) -> &AdapterCommand {
        &self.command
    }

    /// The process id, while the program runs.
    pub fn process_id(&self) -> Option<u32> {
        self.running.as_ref().and_then(|running| running.child.id())
    }

    /// Ends the program at once; the next call starts a fresh one.
    pub async fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            drop(running.child.start_kill());
            drop(tokio::time::timeout(EXIT_TIMEOUT, running.child.wait()).await);
            self.last_stderr = running.finish_stderr().await;
        }
    }

    /// Ends the program's stdin and waits for it to exit by itself, as the protocol asks.
    ///
    /// # Errors
    /// If something is still written to stdout, if it does not end in time, or ends with a code other than 0.
    pub async fn shutdown(&mut self) -> Result<(), Failure> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        drop(running.stdin.take());
        let ended = tokio::time::timeout(EXIT_TIMEOUT, async {
            let line = read_line(&mut running.stdout).await?;
            if let Some(line) = line {
                let line = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
                return Err(Failure::Invalid {
                    reason: format!("a line that nobody asked for: {line}"),
                });
            }
            let status = running
                .child
                .wait()
                .await
                .map_err(|error| Failure::Crashed {
                    status: error.to_string(),
                })?;
            if status.success() {
                Ok(())
            } else {
                Err(Failure::Crashed {
                    status: status.to_string(),
                })
            }
        })
        .await
        .unwrap_or(Err(Failure::TimedOut(EXIT_TIMEOUT)));
        drop(running.child.start_kill());
        self.last_stderr = running.finish_stderr().await;
        ended
    }

    async fn ensure_running(&mut self) -> Result<(), Failure> {
        if self.running.as_ref().is_some_and(|running| running.busy) {
            self.kill().await;
        }
        if self.running.is_some() {
            return Ok(());
        }
        let mut command = Command::new(&self.command.program);
        command
            .args(&self.command.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.kill_on_drop(true);
        if let Some(folder) = &self.command.folder {
            command.current_dir(folder);
        }
        let cannot = |reason: String| Failure::Start {
            command: self.command.to_string(),
            reason,
        };
        let mut child = command.spawn().map_err(|error| cannot(error.to_string()))?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(cannot("no pipes".into()));
        };
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let stderr_task = tokio::spawn(keep_end(stderr, Arc::clone(&kept)));
        self.running = Some(Running {
            child,
            stdin: Some(stdin),
            stdout: BufReader::with_capacity(64 << 10, stdout),
            stderr: kept,
            stderr_task,
            next_id: 0,
            busy: false,
        });
        let input = json!({ "protocol": PROTOCOL });
        // A runtime may take long to start, however short its answers are to be.
        let limit = self.timeout.max(DEFAULT_TIMEOUT);
        let hello = match self.exchange("hello", &input, limit).await? {
            Outcome::Ok(value) => Hello::parse(&value),
            Outcome::Error(error) => Err(Failure::Invalid {
                reason: format!("hello was refused: {error}"),
            }),
            Outcome::Unsupported => Err(Failure::Invalid {
                reason: "hello is unsupported".into(),
            }),
        };
        match hello {
            Ok(hello) => self.hello = Some(hello),
            Err(failure) => {
                self.kill().await;
                return Err(failure);
            }
        }
        Ok(())
    }

    /// One request and its answer; on any failure the program is ended.
    async fn exchange(
        &mut self,
        op: &str,
        input: &Value,
        limit: Duration,
    ) -> Result<Outcome, Failure> {
        let Some(running) = &mut self.running else {
            return Err(Failure::Crashed {
                status: "not running".into(),
            });
        };
        running.busy = true;
        let id = running.next_id;
        running.next_id += 1;
        let mut line = json!({ "id": id, "op": op, "input": input }).to_string();
        line.push('\n');
        let answer = tokio::time::timeout(limit, running.ask(line.as_bytes(), id)).await;
        let failure = match answer {
            Ok(Ok(outcome)) => {
                running.busy = false;
                return Ok(outcome);
            }
            Ok(Err(failure)) => failure,
            Err(_) => Failure::TimedOut(limit),
        };
        let failure = match failure {
            // The exit code is worth a short wait: a program that closed its stdout is about to end.
            Failure::Crashed { status } => {
                let ended =
                    tokio::time::timeout(Duration::from_secs(2), running.child.wait()).await;
                Failure::Crashed {
                    status: match ended {
                        Ok(Ok(ended)) => ended.to_string(),
                        _ => status,
                    },
                }
            }
            other => other,
        };
        self.kill().await;
        Err(failure)
    }
}

impl Running {
    async fn ask(&mut self, request: &[u8], id: u64) -> Result<Outcome, Failure> {
        let closed = |error: std::io::Error| Failure::Crashed {
            status: error.to_string(),
        };
        if let Some(stdin) = &mut self.stdin {
            stdin.write_all(request).await.map_err(closed)?;
            stdin.flush().await.map_err(closed)?;
        }
        match read_line(&mut self.stdout).await? {
            Some(line) => parse_answer(&line, id),
            None => Err(Failure::Crashed {
                status: "stdout was closed".into(),
            }),
        }
    }

    async fn finish_stderr(self) -> String {
        // A grandchild may hold the pipe open: what has come by then is enough.
        drop(tokio::time::timeout(Duration::from_secs(1), self.stderr_task).await);
        take_text(&self.stderr)
    }
}

impl Adapter for AdapterProcess {
    fn hello(&mut self) -> BoxFuture<'_, Result<Hello, Failure>> {
        Box::pin(async move {
            self.ensure_running().await?;
            Ok(self.hello.clone().unwrap_or_default())
        })
    }

    fn call<'a>(
        &'a mut self,
        op: &'a str,
        input: &'a Value,
    ) -> BoxFuture<'a, Result<Outcome, Failure>> {
        self.call_within(op, input, self.timeout)
    }

    fn call_within<'a>(
        &'a mut self,
        op: &'a str,
        input: &'a Value,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Outcome, Failure>> {
        Box::pin(async move {
            self.ensure_running().await?;
            self.exchange(op, input, limit).await
        })
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(self.shutdown())
    }

    fn take_stderr(&mut self) -> String {
        let mut text = std::mem::take(&mut self.last_stderr);
        if let Some(running) = &self.running {
            text.push_str(&take_text(&running.stderr));
        }
        text
    }
}

async fn keep_end(mut from: impl tokio::io::AsyncRead + Unpin, kept: Arc<Mutex<VecDeque<u8>>>) {
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        if let Ok(mut kept) = kept.lock() {
            kept.extend(&chunk[..count]);
            let over = kept.len().saturating_sub(STDERR_KEPT);
            kept.drain(..over);
        }
    }
}

fn take_text(kept: &Mutex<VecDeque<u8>>) -> String {
    let bytes: Vec<u8> = kept
        .lock()
        .map(|mut kept| kept.drain(..).collect())
        .unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One line without its newline, or `None` at the end of the stream.
async fn read_line(from: &mut BufReader<ChildStdout>) -> Result<Option<Vec<u8>>, Failure> {
    let mut line = Vec::new();
    loop {
        let chunk = from.fill_buf().await.map_err(|error| Failure::Crashed {
            status: error.to_string(),
        })?;
        if chunk.is_empty() {
            return Ok((!line.is_empty()).then_some(line));
        }
        let end = chunk.iter().position(|&byte| byte == b'\n');
        line.extend_from_slice(&chunk[..end.unwrap_or(chunk.len())]);
        let used = end.map_or(chunk.len(), |end| end + 1);
        from.consume(used);
        if end.is_some() {
            return Ok(Some(line));
        }
        if line.len() > MAX_LINE {
            return Err(Failure::Invalid {
                reason: format!("a line of more than {MAX_LINE} bytes"),
            });
        }
    }
}

fn parse_answer(line: &[u8], id: u64) -> Result<Outcome, Failure> {
    let answer: Value = serde_json::from_slice(line).map_err(|error| Failure::NotJson {
        line: String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned(),
        reason: error.to_string(),
    })?;
    let Value::Object(mut answer) = answer else {
        return Err(Failure::Invalid {
            reason: "it is not an object".into(),
        });
    };
    match answer.remove("id") {
        Some(got) if got.as_u64() == Some(id) => {}
        got => {
            let got = got.map_or_else(|| "none".to_owned(), |got| got.to_string());
            return Err(Failure::WrongId { expected: id, got });
        }
    }
    parse_outcome(answer)
}

fn parse_outcome(mut answer: Map<String, Value>) -> Result<Outcome, Failure> {
    let invalid = |reason: &str| {
        Err(Failure::Invalid {
            reason: reason.to_owned(),
        })
    };
    let (ok, error, unsupported) = (
        answer.remove("ok"),
        answer.remove("error"),
        answer.remove("unsupported"),
    );
    match (ok, error, unsupported) {
        (Some(value), None, None) => Ok(Outcome::Ok(value)),
        (None, Some(error), None) => {
            let has = |name: &str| error.get(name).is_some_and(Value::is_string);
            if has("layer") && has("class") {
                Ok(Outcome::Error(error))
            } else {
                invalid("an error without a layer or a class")
            }
        }
        (None, None, Some(Value::Bool(true))) => Ok(Outcome::Unsupported),
        (None, None, None) => invalid("none of ok, error and unsupported"),
        _ => invalid("more than one of ok, error and unsupported"),
    }
}

/// An implementation in this process: what [`serve`] serves and [`InProcess`] calls.
pub trait Implementation: 'static {
    /// Who this is.
    fn hello(&self) -> Hello;

    /// Carries out one operation.
    fn call(&mut self, op: &str, input: &Value) -> Outcome;
}

/// An [`Implementation`] behind the same interface as a program: on a thread of its own, so that a panic or a call that
/// never returns costs one case here too.
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
    /// Calls what `make` makes; it is made anew after a panic or a missed deadline.
    pub fn new(make: F) -> Self {
        Self {
            make,
            timeout: DEFAULT_TIMEOUT,
            worker: None,
        }
    }

    /// Sets how long each request may take.
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

    fn call<'a>(
        &'a mut self,
        op: &'a str,
        input: &'a Value,
    ) -> BoxFuture<'a, Result<Outcome, Failure>> {
        self.call_within(op, input, self.timeout)
    }

    fn call_within<'a>(
        &'a mut self,
        op: &'a str,
        input: &'a Value,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Outcome, Failure>> {
        Box::pin(async move {
            // Taken out, so that a call whose future is dropped leaves nothing behind.
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
        let answer = answer_line(implementation, &line);
        writeln!(output, "{answer}")?;
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
        return implementation.call(op, input).to_answer(id);
    }
    match input.get("protocol").and_then(Value::as_u64) {
        Some(PROTOCOL) => Outcome::Ok(implementation.hello().to_value()).to_answer(id),
        _ => {
            json!({ "id": id, "error": bad_input(&format!("only protocol {PROTOCOL} is spoken here")) })
        }
    }
}

fn bad_input(message: &str) -> Value {
    json!({ "layer": "adapter", "class": "bad-input", "message": message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_command_lines_like_a_shell() {
        let words = |line| split_words(line).expect(line);
        assert_eq!(words("node  a.js --x"), ["node", "a.js", "--x"]);
        assert_eq!(
            words(r#"python3 -c 'a "b" \c' "d \" e" '' f\ g"#),
            ["python3", "-c", r#"a "b" \c"#, "d \" e", "", "f g"]
        );
        assert!(split_words("'open").is_err());
        assert!(split_words("end\\").is_err());
        assert!(AdapterCommand::parse("  ").is_err());
    }

    #[test]
    fn an_answer_must_be_to_the_request_and_say_one_thing() {
        assert_eq!(
            parse_answer(br#"{"id":3,"ok":{"a":1}}"#, 3),
            Ok(Outcome::Ok(json!({ "a": 1 })))
        );
        assert_eq!(
            parse_answer(br#"{"id":3,"unsupported":true}"#, 3),
            Ok(Outcome::Unsupported)
        );
        let kind = |line: &str| parse_answer(line.as_bytes(), 3).expect_err(line).kind();
        assert_eq!(kind("{"), "not-json");
        assert_eq!(kind("[]"), "invalid-answer");
        assert_eq!(kind(r#"{"id":4,"ok":1}"#), "wrong-id");
        assert_eq!(kind(r#"{"ok":1}"#), "wrong-id");
        assert_eq!(kind(r#"{"id":3}"#), "invalid-answer");
        assert_eq!(kind(r#"{"id":3,"unsupported":false}"#), "invalid-answer");
        assert_eq!(
            kind(r#"{"id":3,"ok":1,"error":{"layer":"a","class":"b"}}"#),
            "invalid-answer"
        );
        assert_eq!(kind(r#"{"id":3,"error":{"layer":"a"}}"#), "invalid-answer");
    }

    struct Toy;

    impl Implementation for Toy {
        fn hello(&self) -> Hello {
            Hello {
                name: "toy".into(),
                version: "1".into(),
                ops: vec!["echo".into()],
                ..Hello::default()
            }
        }

        fn call(&mut self, op: &str, input: &Value) -> Outcome {
            match op {
                "echo" => Outcome::Ok(input.clone()),
                "panic" => panic!("on purpose"),
                "hang" => loop {
                    std::thread::park();
                },
                _ => Outcome::Unsupported,
            }
        }
    }

    #[tokio::test]
    async fn a_panic_or_a_hang_in_process_costs_one_call() {
        let mut toy = InProcess::new(|| Toy);
        assert_eq!(toy.hello().await.expect("hello").name, "toy");
        assert_eq!(toy.call("echo", &json!(1)).await, Ok(Outcome::Ok(json!(1))));
        assert_eq!(
            toy.call("panic", &json!(1))
                .await
                .expect_err("a panic")
                .kind(),
            "crash"
        );
        assert_eq!(toy.call("echo", &json!(2)).await, Ok(Outcome::Ok(json!(2))));
        assert_eq!(
            toy.call_within("hang", &json!(1), Duration::from_millis(200))
                .await
                .expect_err("a hang")
                .kind(),
            "timeout"
        );
        assert_eq!(toy.call("echo", &json!(3)).await, Ok(Outcome::Ok(json!(3))));
        assert_eq!(
            toy.call("nonsense", &json!(3)).await,
            Ok(Outcome::Unsupported)
        );
    }

    #[test]
    fn serves_json_lines() {
        let asked = concat!(
            r#"{"id":0,"op":"hello","input":{"protocol":1}}"#,
            "\n",
            r#"{"id":1,"op":"echo","input":{"a":[1,"ff"]}}"#,
            "\n",
            r#"{"id":2,"op":"nonsense","input":{}}"#,
            "\n",
            "nonsense\n",
        );
        let mut answered = Vec::new();
        serve(&mut Toy, asked.as_bytes(), &mut answered).expect("serves");
        let lines: Vec<Value> = String::from_utf8(answered)
            .expect("text")
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines[0]["ok"]["name"], "toy");
        assert_eq!(lines[1], json!({ "id": 1, "ok": { "a": [1, "ff"] } }));
        assert_eq!(lines[2], json!({ "id": 2, "unsupported": true }));
        assert_eq!(lines[3]["error"]["class"], "bad-input");
    }
}
