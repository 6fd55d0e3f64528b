//! The example `replication` and its Node counterpart, in every pairing, as run by `examples-nodejs/run.js`.
#![cfg(all(feature = "js_interop_tests", feature = "replication"))]

mod node;

use std::path::PathBuf;
use std::process::{Command, Output};

use node::examples;

const BLOCKS: [&str; 4] = ["0: hi", "1: ola", "2: hello", "3: mundo"];

/// The path of Node, for a test that clears the PATH.
fn node() -> PathBuf {
    let path = std::env::var_os("PATH").expect("a PATH");
    let mut folders = std::env::split_paths(&path);
    let node = folders.find_map(|folder| {
        let node = folder
            .join("node")
            .with_extension(std::env::consts::EXE_EXTENSION);
        node.is_file().then_some(node)
    });
    node.expect("these tests need node on the PATH")
}

/// Runs it to its end; it has its own time-out.
fn run(pairing: &str, set_up: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(node());
    command.arg("run.js").arg(pairing).current_dir(examples());
    set_up(&mut command);
    command.output().expect("node starts")
}

fn prints_the_blocks(pairing: &str, reader: &str) {
    let output = run(pairing, |_| {});
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{pairing}:\n{stdout}{stderr}");
    // Each line has a coloured prefix.
    let prefix = format!("[{reader}]\x1b[0m ");
    let lines = stdout.lines().filter_map(|line| line.split_once(&prefix));
    let lines: Vec<&str> = lines.map(|(_, line)| line).collect();
    assert_eq!(lines, BLOCKS, "{pairing}:\n{stdout}{stderr}");
}

#[test]
fn node_serves_and_rust_reads() {
    prints_the_blocks("nodeServer", "rust client");
}

#[test]
fn rust_serves_and_node_reads() {
    prints_the_blocks("rustServer", "node client");
}

#[test]
fn rust_serves_and_rust_reads() {
    prints_the_blocks("rust", "rust client");
}

#[test]
fn node_serves_and_node_reads() {
    prints_the_blocks("node", "node client");
}

#[test]
fn a_failure_is_told_by_the_exit_code() {
    let output = run("deno", |_| {});
    assert_eq!(output.status.code(), Some(2));
    // Without cargo nothing can be built.
    let output = run("rust", |command| {
        command.env("PATH", "");
    });
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cargo does not start"));
}
