//! Node's stack, in a process of its own that handles requests: examples-nodejs/bench/compare.js.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

pub struct Peer {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl Peer {
    pub fn node(arguments: &[&str]) -> Self {
        let mut command = Command::new("node");
        command.arg(root().join("examples-nodejs/bench/compare.js"));
        Self::start(command.args(arguments))
    }

    /// This program, as the other end of a socket.
    pub fn ourselves(arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("has a path");
        Self::start(Command::new(program).args(arguments))
    }

    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let to = child.stdin.take().expect("is piped");
        let from = BufReader::new(child.stdout.take().expect("is piped"));
        Self { child, to, from }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn read(&mut self) -> Value {
        let mut line = String::new();
        self.from.read_line(&mut line).expect("can be read");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the peer says {line:?}"))
    }

    pub fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.to, "{request}").expect("takes requests");
        self.read()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
