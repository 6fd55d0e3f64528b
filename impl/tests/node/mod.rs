//! Node peers for the tests: scripts of `examples-nodejs/` that answer in lines of JSON.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

/// Waits, but not for ever.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .expect("took too long")
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
        if !folder.join("node_modules").exists() {
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

/// A Node process that runs one of the scripts. It ends with the test, since its stdin does.
pub(crate) struct Node {
    _child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Node {
    /// Starts a script with options, which it takes as JSON.
    pub(crate) fn start(script: &str, options: &Value) -> Self {
        let mut child = tokio::process::Command::new("node")
            .arg(examples().join(script))
            .arg(options.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts");
        let stdin = child.stdin.take().expect("a piped stdin");
        let stdout = BufReader::new(child.stdout.take().expect("a piped stdout")).lines();
        Self {
            _child: child,
            stdin,
            stdout,
        }
    }

    /// The next event of this name; others are passed over, but for errors.
    pub(crate) async fn event(&mut self, name: &str) -> Value {
        loop {
            let line = soon(self.stdout.next_line()).await.expect("Node speaks");
            let line = line.unwrap_or_else(|| panic!("Node ended, and no {name} was seen"));
            let event: Value = serde_json::from_str(&line).expect("Node speaks JSON");
            if event["event"] == name {
                return event;
            }
            assert!(
                event["event"] != "error" || name == "close",
                "{name}: {line}"
            );
        }
    }

    /// Writes a line to the script.
    pub(crate) async fn write_line(&mut self, line: &str) {
        let line = format!("{line}\n");
        let written = self.stdin.write_all(line.as_bytes()).await;
        written.expect("Node reads");
    }
}
