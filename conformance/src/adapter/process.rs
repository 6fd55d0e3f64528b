//! Adapters outside this process: started programs, and running ones that listen.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::{
    Adapter, AdapterCommand, DEFAULT_TIMEOUT, Failure, Hello, MessageSchema, Outcome, PROTOCOLS,
    beginning, parse_answer, read_json,
};
use crate::foreign::{MAX_MESSAGE, lines, short};
use crate::group::{self, Group};

/// The default limit of an answer, in bytes: the largest record is 2^24-1 bytes, or twice that in hex, and an answer
/// may hold several.
pub const DEFAULT_MAX_LINE: usize = 128 << 20;

/// How much of the end of an adapter's stderr is kept for reports, in bytes.
const STDERR_KEPT: usize = 16 << 10;

/// How long an adapter may take to exit once its stdin has ended.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The default time-out of an attached adapter: it may be stopped in a debugger.
const ATTACHED_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// How many stale lines are skipped while waiting for an answer.
const MAX_UNASKED: usize = 64;

/// How an adapter is reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Reach {
    /// Start it, and communicate over pipes.
    Start(AdapterCommand),
    /// It listens at this address already; each connection is a separate conversation.
    Attach(String),
}

impl From<AdapterCommand> for Reach {
    fn from(command: AdapterCommand) -> Self {
        Self::Start(command)
    }
}

impl std::fmt::Display for Reach {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Start(command) => command.fmt(out),
            Self::Attach(address) => write!(out, "the adapter at {address}"),
        }
    }
}

/// An adapter outside this process.
#[derive(Debug)]
pub struct AdapterProcess {
    reach: Reach,
    timeout: Duration,
    hello_timeout: Option<Duration>,
    max_line: usize,
    hello: Option<Hello>,
    running: Option<Running>,
    last_stderr: String,
    schema: Option<MessageSchema>,
    unasked: Option<String>,
}

/// One started program, or one connection.
struct Running {
    child: Option<Child>,
    // Kills the program's children with it.
    group: Group,
    writer: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    reader: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    stderr_task: Option<JoinHandle<()>>,
    // An unfinished line.
    begun: Vec<u8>,
    next_id: u64,
    // Set while waiting for an answer, so that a dropped call leaves no stale answer behind.
    busy: bool,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Running")
            .field("child", &self.child)
            .field("next_id", &self.next_id)
            .field("busy", &self.busy)
            .finish_non_exhaustive()
    }
}

impl AdapterProcess {
    /// Prepares an adapter without starting it or connecting to it; the time-out is [`DEFAULT_TIMEOUT`], or a day for
    /// an attached adapter.
    pub fn new(reach: impl Into<Reach>) -> Self {
        let reach = reach.into();
        let timeout = match reach {
            Reach::Start(_) => DEFAULT_TIMEOUT,
            Reach::Attach(_) => ATTACHED_TIMEOUT,
        };
        Self {
            reach,
            timeout,
            hello_timeout: None,
            max_line: DEFAULT_MAX_LINE,
            hello: None,
            running: None,
            last_stderr: String::new(),
            schema: None,
            unasked: None,
        }
    }

    /// Sets the time-out of each request.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the time-out of `hello`, which includes the start of the program. The default is that of other requests, at
    /// least [`DEFAULT_TIMEOUT`].
    pub fn with_hello_timeout(mut self, timeout: Duration) -> Self {
        self.hello_timeout = Some(timeout);
        self
    }

    /// Sets the limit of an answer, in bytes; the default is [`DEFAULT_MAX_LINE`].
    pub fn with_max_line(mut self, bytes: usize) -> Self {
        self.max_line = bytes;
        self
    }

    /// Sets whether each answer is validated against the JSON schema of the adapter protocol.
    pub fn with_validation(mut self, validate: bool) -> Self {
        self.schema = validate.then(MessageSchema::default);
        self
    }

    /// How it is reached.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// The process id, while a started program runs.
    pub fn process_id(&self) -> Option<u32> {
        let child = self.running.as_ref()?.child.as_ref()?;
        child.id()
    }

    /// Kills the program or closes the connection at once; the next call starts a fresh one.
    pub async fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.writer = None;
            running.end_child().await;
            self.last_stderr = running.finish_stderr().await;
        }
    }

    /// Closes the program's stdin and waits for it to exit, as the protocol requires. A connection is just closed.
    ///
    /// # Errors
    /// If anything is still written to stdout, if it does not exit in time, or exits with a code other than 0.
    pub async fn shutdown(&mut self) -> Result<(), Failure> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        drop(running.writer.take());
        let Some(mut child) = running.child.take() else {
            return Ok(());
        };
        let ended = tokio::time::timeout(EXIT_TIMEOUT, async {
            let line = read_line(&mut running.reader, &mut running.begun, self.max_line).await?;
            if let Some(line) = line {
                return Err(Failure::Unasked {
                    line: beginning(&line),
                });
            }
            let status = child.wait().await.map_err(crashed)?;
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
        drop(child.start_kill());
        running.group.end();
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
        self.running = Some(match &self.reach {
            Reach::Start(command) => Running::start(command)?,
            Reach::Attach(address) => Running::attach(address).await?,
        });
        // A runtime may be slow to start even if answers have a short time-out.
        let limit = self
            .hello_timeout
            .unwrap_or(self.timeout.max(DEFAULT_TIMEOUT));
        let input = json!({ "protocols": PROTOCOLS });
        let hello = match self.exchange("hello", &input, limit).await? {
            Outcome::Ok(value) => Hello::from_value(&value),
            Outcome::Error(error) => Err(refused_hello(&error)),
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

    /// One request and its answer; kills the program on any failure.
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
        let line = request_line(id, op, input);
        let asked = running.ask(line.as_bytes(), id, self.max_line, &mut self.unasked);
        let answer = tokio::time::timeout(limit, asked).await;
        let checked = match answer {
            Ok(Ok(line)) => read_json(&line).and_then(|answer| {
                if let Some(schema) = &mut self.schema {
                    check_schema(schema, op, &answer)?;
                }
                parse_answer(answer, id)
            }),
            Ok(Err(failure)) => Err(failure),
            Err(_) if running.begun.is_empty() => Err(Failure::TimedOut(limit)),
            Err(_) => Err(Failure::Unfinished {
                line: beginning(&running.begun),
                limit,
            }),
        };
        let failure = match checked {
            Ok(outcome) if running.reader.buffer().is_empty() => {
                running.busy = false;
                return Ok(outcome);
            }
            Ok(_) => Failure::Unasked {
                line: beginning(running.reader.buffer()),
            },
            // The exit code is worth a short wait: a program that closed its stdout is about to exit.
            Err(Failure::Crashed { status }) => Failure::Crashed {
                status: running.exit_status().await.unwrap_or(status),
            },
            Err(failure) => failure,
        };
        self.kill().await;
        Err(failure)
    }
}

/// A request as a line, with its newline.
pub(crate) fn request_line(id: u64, op: &str, input: &Value) -> String {
    // Not by way of a `Value`, which would copy inputs of 32 MiB.
    #[derive(serde::Serialize)]
    struct Request<'a> {
        id: u64,
        op: &'a str,
        input: &'a Value,
    }
    let mut line = serde_json::to_string(&Request { id, op, input }).unwrap_or_default();
    line.push('\n');
    line
}

fn check_schema(schema: &mut MessageSchema, op: &str, answer: &Value) -> Result<(), Failure> {
    // An unsupported version is reported as such, whatever else is in the answer.
    let version = answer["ok"]["protocol"].as_u64();
    if op == "hello" && version.is_some_and(|version| !PROTOCOLS.contains(&version)) {
        return Ok(());
    }
    schema.check(op, answer).map_err(|reason| Failure::Schema {
        reason: short(&reason, MAX_MESSAGE).into_owned(),
    })
}

fn refused_hello(error: &Value) -> Failure {
    let spoken = error.get("protocols").and_then(Value::as_array);
    let spoken: Vec<u64> = spoken
        .into_iter()
        .flatten()
        .filter_map(Value::as_u64)
        .collect();
    if error["class"] == "protocol-version" && !spoken.is_empty() {
        Failure::version(&spoken)
    } else {
        Failure::Invalid {
            reason: format!(
                "hello was refused: {}",
                short(&error.to_string(), MAX_MESSAGE)
            ),
        }
    }
}

impl Running {
    fn start(command: &AdapterCommand) -> Result<Self, Failure> {
        let cannot = |reason: String| Failure::Start {
            command: command.to_string(),
            reason,
        };
        let mut program = Command::new(&command.program);
        program
            .args(&command.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(folder) = &command.folder {
            program.current_dir(folder);
        }
        let (mut child, group) =
            group::spawn_async(&mut program).map_err(|error| cannot(error.to_string()))?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(cannot("no pipes".into()));
        };
        let mut running = Self::new(stdout, stdin);
        let kept = Arc::clone(&running.stderr);
        running.stderr_task = Some(tokio::spawn(keep_end(stderr, kept)));
        running.child = Some(child);
        running.group = group;
        Ok(running)
    }

    async fn attach(address: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await;
        let stream = stream.map_err(|error| Failure::Start {
            command: format!("a connection to {address}"),
            reason: error.to_string(),
        })?;
        drop(stream.set_nodelay(true));
        let (reader, writer) = stream.into_split();
        Ok(Self::new(reader, writer))
    }

    fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self {
            child: None,
            group: Group::default(),
            begun: Vec::new(),
            writer: Some(Box::new(writer)),
            reader: BufReader::with_capacity(64 << 10, Box::new(reader)),
            stderr: Arc::default(),
            stderr_task: None,
            next_id: 0,
            busy: false,
        }
    }

    /// Returns the answer to the request as a line. Repeated answers to earlier requests are skipped, and the first of
    /// them is stored in `unasked`.
    async fn ask(
        &mut self,
        request: &[u8],
        id: u64,
        max_line: usize,
        unasked: &mut Option<String>,
    ) -> Result<Vec<u8>, Failure> {
        if let Some(writer) = &mut self.writer {
            writer.write_all(request).await.map_err(crashed)?;
            writer.flush().await.map_err(crashed)?;
        }
        for _ in 0..MAX_UNASKED {
            let line = read_line(&mut self.reader, &mut self.begun, max_line).await?;
            let Some(line) = line else {
                return Err(Failure::Crashed {
                    status: "stdout was closed".into(),
                });
            };
            match answered(&line) {
                Some(earlier) if earlier < id => {
                    unasked.get_or_insert_with(|| beginning(&line));
                }
                _ => return Ok(line),
            }
        }
        Err(Failure::Invalid {
            reason: format!("{MAX_UNASKED} answers to earlier requests, and none to this"),
        })
    }

    async fn exit_status(&mut self) -> Option<String> {
        let child = self.child.as_mut()?;
        let ended = tokio::time::timeout(Duration::from_secs(2), child.wait()).await;
        Some(ended.ok()?.ok()?.to_string())
    }

    async fn end_child(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.start_kill());
            // Before waiting for the program: its process id cannot have been reused yet.
            self.group.end();
            drop(tokio::time::timeout(EXIT_TIMEOUT, child.wait()).await);
        }
    }

    async fn finish_stderr(self) -> String {
        if let Some(task) = self.stderr_task {
            // A program that left the group may hold the pipe open: take what has arrived by then.
            drop(tokio::time::timeout(Duration::from_secs(1), task).await);
        }
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

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn call_within<'a>(
        &'a mut self,
        op: &'a str,
        input: &'a Value,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Outcome, Failure>> {
        let limit = match self.reach {
            Reach::Start(_) => limit,
            // A debugging session is not hurried.
            Reach::Attach(_) => limit.max(self.timeout),
        };
        Box::pin(async move {
            self.ensure_running().await?;
            self.exchange(op, input, limit).await
        })
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(self.shutdown())
    }

    fn take_unasked(&mut self) -> Option<String> {
        self.unasked.take()
    }

    fn is_attached(&self) -> bool {
        matches!(self.reach, Reach::Attach(_))
    }

    fn take_stderr(&mut self) -> String {
        let mut text = std::mem::take(&mut self.last_stderr);
        if let Some(running) = &self.running {
            text.push_str(&take_text(&running.stderr));
        }
        text
    }
}

fn crashed(error: std::io::Error) -> Failure {
    Failure::Crashed {
        status: error.to_string(),
    }
}

async fn keep_end(mut from: impl AsyncRead + Unpin, kept: Arc<Mutex<VecDeque<u8>>>) {
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
    lines(&String::from_utf8_lossy(&bytes)).into_owned()
}

/// The id of the request that a line answers, if any; most lines have their id first.
fn answered(line: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Head {
        id: u64,
    }
    let first = line.strip_prefix(br#"{"id":"#);
    let digits = first.and_then(|rest| rest.split(|byte| !byte.is_ascii_digit()).next());
    match digits.and_then(|digits| std::str::from_utf8(digits).ok()) {
        Some(digits) if !digits.is_empty() => digits.parse().ok(),
        _ => Some(serde_json::from_slice::<Head>(line).ok()?.id),
    }
}

/// One line without its newline, or `None` at the end of the stream. If the future is dropped, `line` keeps the part
/// read so far.
async fn read_line(
    from: &mut BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    line: &mut Vec<u8>,
    max: usize,
) -> Result<Option<Vec<u8>>, Failure> {
    loop {
        let chunk = from.fill_buf().await.map_err(crashed)?;
        if chunk.is_empty() {
            return Ok((!line.is_empty()).then(|| std::mem::take(line)));
        }
        let end = chunk.iter().position(|&byte| byte == b'\n');
        line.extend_from_slice(&chunk[..end.unwrap_or(chunk.len())]);
        let used = end.map_or(chunk.len(), |end| end + 1);
        from.consume(used);
        if line.len() > max {
            return Err(Failure::Invalid {
                reason: format!("a line of more than {max} bytes: {}", beginning(line)),
            });
        }
        if end.is_some() {
            return Ok(Some(std::mem::take(line)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_an_answer_is_found_wherever_it_stands() {
        assert_eq!(answered(br#"{"id":12,"ok":{}}"#), Some(12));
        assert_eq!(answered(br#"{"ok":{"id":3},"id": 13}"#), Some(13));
        assert_eq!(answered(br#"{"id":null}"#), None);
        assert_eq!(answered(b"here you are"), None);
    }

    #[test]
    fn a_refused_hello_says_which_side_is_too_old() {
        let refused = |versions: Value| {
            refused_hello(&json!({
                "layer": "adapter", "class": "protocol-version", "message": "", "protocols": versions,
            }))
        };
        assert_eq!(refused(json!([2, 3])).kind(), "version");
        assert!(
            refused(json!([2, 3]))
                .to_string()
                .contains("the suite is too old")
        );
        assert!(
            refused(json!([0]))
                .to_string()
                .contains("the adapter is too old")
        );
        assert_eq!(refused(json!([])).kind(), "invalid-answer");
    }
}
