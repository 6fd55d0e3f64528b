//! The Node peers: finds Node and npm, and installs the packages that `examples-nodejs/` pins.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::adapter::AdapterCommand;
use crate::foreign;
use crate::group;
use crate::npm::cache;

/// How long `npm ci` may take; it downloads about 300 MB.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);

/// The oldest Node that the pinned packages run on.
const OLDEST_NODE: u64 = 20;

/// The hypercore releases that are installed, oldest first.
pub const RELEASES: [&str; 2] = ["10.38.2", "11.37.1"];

/// Why there are no Node peers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeMissing {
    /// A program is not on the PATH, or cannot be started.
    #[error("{program} is not to be found: install Node {OLDEST_NODE} or later, with npm")]
    Program {
        /// `node` or `npm`.
        program: &'static str,
    },
    /// Node is too old for the packages.
    #[error("Node {found} is too old: the Node peers need Node {OLDEST_NODE} or later")]
    TooOld {
        /// The output of `node --version`.
        found: String,
    },
    /// The packages could not be installed.
    #[error("the Node peers could not be installed: {reason}")]
    Install {
        /// The error of npm or the operating system.
        reason: String,
    },
}

impl NodeMissing {
    /// Whether Node or npm itself is absent or too old, rather than the installation having failed.
    pub fn is_absent(&self) -> bool {
        !matches!(self, Self::Install { .. })
    }
}

/// The folder of the Node peers in this repository.
pub fn folder() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).join("examples-nodejs")
}

/// The Node adapter, without its `--release`.
pub fn adapter_command(folder: &Path) -> AdapterCommand {
    AdapterCommand::new("node", [folder.join("adapter.js").display().to_string()])
}

/// Installs the Node peers if they are missing or not the pinned ones, and returns their folder.
///
/// Reports progress on stderr, since it takes a while. Concurrent callers wait for each other.
///
/// # Errors
/// If Node or npm is missing or too old, or the installation fails or takes longer than ten minutes.
pub fn ensure_node_modules() -> Result<PathBuf, NodeMissing> {
    ensure_node_modules_with(&mut |line| crate::out::note(line))
}

/// As [`ensure_node_modules`], with each line of progress passed to `report`.
///
/// # Errors
/// As [`ensure_node_modules`].
pub fn ensure_node_modules_with(report: &mut dyn FnMut(&str)) -> Result<PathBuf, NodeMissing> {
    check_node()?;
    let folder = folder();
    if is_installed(&folder) {
        return Ok(folder);
    }
    let failed = |reason: String| NodeMissing::Install { reason };
    // Held until the end of this function; the operating system releases it if the program dies.
    let path = folder.join(".install.lock");
    let lock = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| failed(format!("{}: {error}", path.display())))?;
    cache::wait_for(&lock, &path).map_err(|error| failed(error.to_string()))?;
    if is_installed(&folder) {
        return Ok(folder);
    }
    report(&format!(
        "Installing the Node peers (hypercore {}) with npm; this happens once",
        RELEASES.join(" and ")
    ));
    npm_ci(&folder, &lock)?;
    if is_installed(&folder) {
        report("Installed the Node peers");
        Ok(folder)
    } else {
        Err(failed(
            "npm ci left packages of other versions than those pinned".into(),
        ))
    }
}

fn check_node() -> Result<(), NodeMissing> {
    let program = "node";
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|_| NodeMissing::Program { program })?;
    let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let major = found
        .trim_start_matches('v')
        .split('.')
        .next()
        .and_then(|major| major.parse::<u64>().ok());
    match major {
        Some(OLDEST_NODE..) => Ok(()),
        Some(_) => Err(NodeMissing::TooOld { found }),
        None => Err(NodeMissing::Program { program }),
    }
}

/// Whether npm finished, and each direct dependency has the pinned version of package.json.
fn is_installed(folder: &Path) -> bool {
    let read = |path: PathBuf| -> Option<Value> {
        serde_json::from_slice(&fs::read(folder.join(path)).ok()?).ok()
    };
    let Some(package) = read("package.json".into()) else {
        return false;
    };
    let Some(dependencies) = package.get("dependencies").and_then(Value::as_object) else {
        return false;
    };
    let modules = Path::new("node_modules");
    folder.join(modules).join(".package-lock.json").is_file()
        && dependencies.iter().all(|(name, wanted)| {
            let installed = read(modules.join(name).join("package.json"));
            let version = installed
                .as_ref()
                .and_then(|package| package.get("version"));
            // An alias reads `npm:hypercore@10.38.2`.
            let wanted = wanted.as_str().and_then(|wanted| wanted.rsplit('@').next());
            version.and_then(Value::as_str) == wanted
        })
}

/// npm inherits the lock, so that the folder stays locked while npm works in it even if its suite was killed.
fn npm_ci(folder: &Path, lock: &File) -> Result<(), NodeMissing> {
    let program = "npm";
    let name = if cfg!(windows) { "npm.cmd" } else { program };
    let stdin = lock.try_clone().map_or_else(|_| Stdio::null(), Stdio::from);
    let mut command = Command::new(name);
    command
        .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(folder)
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let (mut child, mut group) =
        group::spawn(&mut command).map_err(|_| NodeMissing::Program { program })?;

    // npm closes its stderr when it exits: a thread reads it, and this one waits for that thread with a limit.
    let (done, ended) = std::sync::mpsc::channel();
    if let Some(mut stderr) = child.stderr.take() {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            drop(stderr.read_to_end(&mut text));
            drop(done.send(text));
        });
    }
    let Ok(text) = ended.recv_timeout(INSTALL_TIMEOUT) else {
        drop(child.kill());
        group.end();
        drop(child.wait());
        let reason = format!("npm ci took more than {} s", INSTALL_TIMEOUT.as_secs());
        return Err(NodeMissing::Install { reason });
    };
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let text = String::from_utf8_lossy(&text);
            let text = foreign::lines(&text);
            let reason = format!("npm ci ended with {status}: {}", text.trim());
            Err(NodeMissing::Install { reason })
        }
        Err(error) => Err(NodeMissing::Install {
            reason: error.to_string(),
        }),
    }
}
