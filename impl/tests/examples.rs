//! Every example runs, with Node or another example as its peer, and has the expected output.
#![cfg(all(feature = "js_interop_tests", feature = "replication"))]

mod node;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use node::{Node, soon};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// The folder of the examples, built as this test was: `cargo test --test examples` alone does not build them.
fn built() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let test = std::env::current_exe().expect("the path of this test");
        let folder = test.ancestors().nth(2).expect("the folder of the build");
        let target = folder.parent().expect("the target folder");
        let mut build = std::process::Command::new(env!("CARGO"));
        build
            .args(["build", "--quiet", "--examples", "--target-dir"])
            .arg(target)
            .args(["--features", "js_interop_tests,replication"])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().is_ok_and(|status| status.success()));
        folder.join("examples")
    })
}

/// A running example.
struct Example {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Example {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let path = built().join(name);
        let mut child = Command::new(&path)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let stdout = child.stdout.take().expect("a piped stdout");
        let lines = BufReader::new(stdout).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        let line = soon(self.lines.next_line()).await.expect("a line");
        line.expect("the example says more")
    }

    /// All its output until it exits successfully.
    async fn output(mut self) -> Vec<String> {
        let mut output = Vec::new();
        while let Some(line) = soon(self.lines.next_line()).await.expect("a line") {
            output.push(line);
        }
        let status = soon(self.child.wait()).await.expect("an end");
        assert!(status.success(), "{status}: {output:?}");
        output
    }
}

async fn listening(node: &mut Node) -> (String, String) {
    let event = node.event("listening").await;
    let address = format!("127.0.0.1:{}", event["port"]);
    (
        address,
        event["key"].as_str().unwrap_or_default().to_owned(),
    )
}

fn port(address: &str) -> u16 {
    let port = address.rsplit(':').next().expect("a port");
    port.parse().expect("a port")
}

const READ: [&str; 4] = ["3 blocks, 16 bytes", "0: first", "1: second", "2: third"];

#[tokio::test]
async fn client_reads_from_node() {
    let mut node = Node::start("interop/examples.js", &json!({ "role": "writer" }));
    let (address, key) = listening(&mut node).await;
    assert_eq!(
        Example::start("client", &[&address, &key]).output().await,
        READ
    );
}

#[tokio::test]
async fn server_serves_node_and_client() {
    let mut server = Example::start("server", &["127.0.0.1:0", "first", "second", "third"]);
    let line = server.line().await;
    let (address, key) = line.split_once(' ').expect("an address and a key");
    let options = json!({ "role": "reader", "port": port(address), "key": key, "blocks": 3 });
    let mut node = Node::start("interop/examples.js", &options);
    let read = node.event("blocks").await;
    assert_eq!(read["blocks"], json!(["first", "second", "third"]));
    assert_eq!(read["length"], 3);
    assert_eq!(
        Example::start("client", &[address, key]).output().await,
        READ
    );
}

#[tokio::test]
async fn extension_talks_to_node_and_to_itself() {
    let mut node = Node::start("interop/examples.js", &json!({ "role": "lines" }));
    let (address, _) = listening(&mut node).await;
    let dialler = Example::start("extension", &["dial", &address]);
    assert_eq!(dialler.output().await, ["hello from Node"]);
    assert_eq!(node.event("line").await["line"], "hello from the dialler\n");

    let mut listener = Example::start("extension", &["listen", "127.0.0.1:0"]);
    let line = listener.line().await;
    let options = json!({ "role": "lines", "port": port(&line) });
    let mut node = Node::start("interop/examples.js", &options);
    assert_eq!(
        node.event("line").await["line"],
        "hello from the listener\n"
    );
    assert_eq!(listener.output().await, ["hello from Node"]);

    let mut listener = Example::start("extension", &["listen", "127.0.0.1:0"]);
    let line = listener.line().await;
    let address = line.rsplit(' ').next().expect("an address");
    let dialler = Example::start("extension", &["dial", address]);
    assert_eq!(dialler.output().await, ["hello from the listener"]);
    assert_eq!(listener.output().await, ["hello from the dialler"]);
}

#[tokio::test]
async fn custom_protocol_talks_to_node_and_to_itself() {
    let mut node = Node::start("interop/examples.js", &json!({ "role": "double" }));
    let (address, _) = listening(&mut node).await;
    let asked = Example::start("custom_protocol", &["ask", &address, "20", "21"]);
    let answers = ["20 doubled is 40", "21 doubled is 42"];
    let says = "the peer says: Node doubles what it gets";
    assert_eq!(asked.output().await, [says, answers[0], answers[1]]);

    let mut server = Example::start("custom_protocol", &["serve", "127.0.0.1:0"]);
    let line = server.line().await;
    let options = json!({ "role": "ask", "port": port(&line) });
    let mut node = Node::start("interop/examples.js", &options);
    assert_eq!(node.event("about").await["about"], "doubles what it gets");
    assert_eq!(node.event("answer").await["number"], 42);
    assert_eq!(server.line().await, "the peer says: Node has numbers");

    let mut server = Example::start("custom_protocol", &["serve", "127.0.0.1:0"]);
    let line = server.line().await;
    let address = line.rsplit(' ').next().expect("an address");
    let asked = Example::start("custom_protocol", &["ask", address, "20", "21"]);
    let says = "the peer says: doubles what it gets";
    assert_eq!(asked.output().await, [says, answers[0], answers[1]]);
}
