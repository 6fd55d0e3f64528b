//! The proxy between real Node peers: forwarding, tampering, and replications that must not be affected.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hypercore_conformance::node::{NodeMissing, ensure_node_modules};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hypercore-conformance");

/// The time-out of a script as a whole; its own waits are bounded too.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs a script of the Node side; without Node it prints that, which is a failure where `CI` is set.
fn node(script: &str, arguments: &[&str]) {
    let folder = match ensure_node_modules() {
        Ok(folder) => folder,
        Err(error @ NodeMissing::Install { .. }) => panic!("{error}"),
        Err(error) if std::env::var_os("CI").is_some() => panic!("{error}"),
        Err(error) => {
            eprintln!("NOT RUN: {script}, because {error}");
            return;
        }
    };
    let mut child = Command::new("node")
        .arg(folder.join(script))
        .arg(PROGRAM)
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .expect("node");
    let start = Instant::now();
    let (done, ended) = std::sync::mpsc::channel();
    let id = child.id();
    std::thread::spawn(move || done.send(child.wait()));
    match ended.recv_timeout(LIMIT) {
        Ok(status) => assert!(
            status.expect("a status").success(),
            "{script} failed; what it said is above"
        ),
        Err(_) => {
            drop(Command::new("kill").arg(id.to_string()).status());
            panic!("{script} takes more than {:?}", start.elapsed());
        }
    }
}

#[test]
fn records_ends_and_faults_pass_between_node_streams() {
    node("proxy-scenarios.js", &[]);
}

/// `HYPERCORE_PROXY_RUNS` and `HYPERCORE_PROXY_SEED` set the number and the seed; `.ci/proxy-soak` runs 200.
#[test]
fn replications_between_node_peers_end_as_direct_ones() {
    let runs = std::env::var("HYPERCORE_PROXY_RUNS").unwrap_or_else(|_| "25".into());
    let seed = std::env::var("HYPERCORE_PROXY_SEED").ok();
    let arguments: Vec<&str> = [Some(runs.as_str()), seed.as_deref()]
        .into_iter()
        .flatten()
        .collect();
    node("proxy-soak.js", &arguments);
}

#[test]
fn wrong_usage_is_said() {
    for (arguments, wanted) in [
        (&["proxy"][..], "--upstream"),
        (&["proxy", "--upstream", "x:1", "--key", "00"], "32 bytes"),
        (
            &["proxy", "--upstream", "x:1", "--inject", "lose:data"],
            "is none of drop",
        ),
    ] {
        let output = Command::new(PROGRAM)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the program");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
fn the_first_line_is_the_address_and_the_end_of_stdin_ends_it() {
    let output = Command::new(PROGRAM)
        .args(["proxy", "--upstream", "127.0.0.1:1", "--quiet"])
        .stdin(Stdio::null())
        .output()
        .expect("the program");
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stdout).expect("text");
    let address: std::net::SocketAddr = said.trim_end().parse().expect("an address and no more");
    assert_ne!(address.port(), 0);
}
