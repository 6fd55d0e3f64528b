//! Node peers for the tests: scripts of `examples-nodejs/` that answer in lines of JSON. They need no runtime: a thread
//! reads each one's output.
#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod messages;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use futures::future::{Either, select};
use futures_timer::Delay;
use serde_json::{Value, json};

/// Waits with a time-out, reporting the caller's line.
#[track_caller]
pub(crate) fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        match select(pin!(future), Delay::new(Duration::from_secs(30))).await {
            Either::Left((output, _)) => output,
            Either::Right(_) => panic!("took too long: what {caller} waits for"),
        }
    }
}

pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a JSON string in hex.
pub(crate) fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("a string in hex");
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(digits).collect()
}

/// The folder of the Node peers, with their packages installed.
pub(crate) fn examples() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples-nodejs");
        assert!(
            folder.join("package.json").exists(),
            "these tests need the Node peers of the repository, in {}",
            folder.display()
        );
        let succeeds = |program: &str, arguments: &[&str]| {
            let status = Command::new(program)
                .args(arguments)
                .current_dir(&folder)
                .stdout(Stdio::null())
                .status();
            status.is_ok_and(|status| status.success())
        };
        assert!(
            succeeds("node", &["--version"]),
            "these tests need node on the PATH: install Node 20 or later, with npm"
        );
        if !is_installed(&folder) {
            eprintln!("installing the Node peers with npm; this happens once");
            assert!(
                succeeds("npm", &["ci", "--no-audit", "--no-fund"]),
                "npm ci failed in {}",
                folder.display()
            );
        }
        folder
    })
}

/// Whether the packages are installed in the versions pinned by `package.json`.
fn is_installed(folder: &Path) -> bool {
    let read = |path: PathBuf| -> Option<Value> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    };
    let package = read(folder.join("package.json")).expect("package.json");
    let dependencies = package["dependencies"].as_object();
    let mut dependencies = dependencies.expect("dependencies").iter();
    dependencies.all(|(name, pinned)| {
        let installed = read(folder.join("node_modules").join(name).join("package.json"));
        let pinned = pinned.as_str().expect("a version");
        // An alias is pinned as `npm:name@version`.
        let version = pinned.rsplit('@').next();
        installed.is_some_and(|installed| installed["version"].as_str() == version)
    })
}

/// A Node process that runs one of the scripts. It ends with the test.
pub(crate) struct Node {
    child: Child,
    stdin: ChildStdin,
    stdout: mpsc::UnboundedReceiver<String>,
    last_id: u64,
    /// Events that came while waiting for an answer.
    earlier: VecDeque<Value>,
    /// The folder of its files, which a killed process leaves behind.
    folder: PathBuf,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have exited by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Node {
    /// Starts a script with options, passed as JSON.
    pub(crate) fn start(script: &str, options: &Value) -> Self {
        Self::spawn(script, &[&options.to_string()])
    }

    /// Starts the conformance suite's adapter with a release of hypercore; see [`Node::ask`].
    pub(crate) fn adapter(release: &str) -> Self {
        Self::spawn("adapter.js", &["--release", release])
    }

    fn spawn(script: &str, arguments: &[&str]) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let started = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = format!("hypercore-protocol-{}-{started}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let mut child = Command::new("node")
            .env("TMPDIR", &folder)
            .arg(examples().join(script))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node starts");
        let stdin = child.stdin.take().expect("a piped stdin");
        let stdout = BufReader::new(child.stdout.take().expect("a piped stdout"));
        let (lines, received) = mpsc::unbounded();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if lines.unbounded_send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            stdin,
            stdout: received,
            last_id: 0,
            earlier: VecDeque::new(),
            folder,
        }
    }

    async fn next_line(&mut self, awaited: &str) -> Value {
        let late = Delay::new(Duration::from_secs(30));
        let line = match select(self.stdout.next(), late).await {
            Either::Left((line, _)) => line,
            Either::Right(_) => panic!("Node took too long: {awaited}"),
        };
        let line = line.unwrap_or_else(|| panic!("Node ended before {awaited}"));
        serde_json::from_str(&line).expect("Node speaks JSON")
    }

    /// The next event with this name; others are skipped, except errors.
    pub(crate) async fn event(&mut self, name: &str) -> Value {
        loop {
            let event = match self.earlier.pop_front() {
                Some(event) => event,
                None => self.next_line(name).await,
            };
            if event["event"] == name {
                return event;
            }
            assert!(
                event["event"] != "error" || name == "close",
                "{name}: {event}"
            );
        }
    }

    /// Writes a line to the script.
    pub(crate) async fn write_line(&mut self, line: &str) {
        let written = self.stdin.write_all(format!("{line}\n").as_bytes());
        written.expect("Node reads");
    }

    /// Sends a request to the adapter, or to a script with the same requests and events.
    pub(crate) async fn ask(&mut self, op: &str, input: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let request = json!({ "id": id, "op": op, "input": input });
        self.write_line(&request.to_string()).await;
        // Answers to abandoned requests come first.
        let mut answer = loop {
            let answer = self.next_line(op).await;
            if answer["id"] == id {
                break answer;
            }
            if answer["event"].is_string() {
                self.earlier.push_back(answer);
            }
        };
        assert!(answer["ok"].is_object(), "{op}: {answer}");
        answer["ok"].take()
    }

    /// The next event of the adapter's peer of this type; others are skipped.
    pub(crate) async fn peer_event(&mut self, kind: &str) -> Value {
        loop {
            let mut answer = self.ask("peer.next", json!({ "timeoutMs": 20_000 })).await;
            if answer["event"]["type"] == kind {
                return answer["event"].take();
            }
        }
    }
}
