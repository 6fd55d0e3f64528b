//! npm, run as a program to look up versions and install packages; its messages are kept.

pub mod cache;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use serde_json::Value;

use crate::foreign;
use crate::group;

/// The time-out of a version look-up, including one retry.
const VIEW_TIMEOUT: Duration = Duration::from_secs(60);

/// Options of a look-up when the registry does not answer: by default npm tries three times, and waits up to a minute
/// between, so that a refused connection is reported after 70 s.
const VIEW_PATIENCE: [&str; 4] = [
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-maxtimeout=2000",
    "--fetch-timeout=20000",
];

/// The time-out of an installation of one release; it downloads up to 300 MB.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);

/// How many lines of npm's output are shown, and how many characters of each.
const TOLD_LINES: usize = 40;
const TOLD_CHARACTERS: usize = 400;

/// npm's error codes for a registry that was not reached, as opposed to errors from the registry.
const NETWORK: [&str; 13] = [
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ECONNRESET",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "ENOTCACHED",
    "ENOTFOUND",
    "EPROTO",
    "ERR_SOCKET_TIMEOUT",
    "ETIMEDOUT",
    "E502",
    "E503",
    "E504",
];

/// npm's error codes for faults of this machine: a full or broken disk, or missing permissions.
const MACHINE: [&str; 9] = [
    "EACCES", "EDQUOT", "EIO", "EMFILE", "ENFILE", "ENOMEM", "ENOSPC", "EPERM", "EROFS",
];

/// Why npm failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NpmError {
    /// npm is missing.
    #[error("npm is not to be found: install Node, with npm")]
    Absent,
    /// npm did not reach the registry.
    #[error("npm does not reach its registry: {words}")]
    Network {
        /// npm's own words.
        words: String,
    },
    /// npm cannot work on this machine.
    #[error("npm cannot work here: {words}")]
    Machine {
        /// npm's own words.
        words: String,
    },
    /// npm reached the registry and failed.
    #[error("{words}")]
    Refused {
        /// npm's own words.
        words: String,
    },
}

/// How to call npm: its registry, if not the configured one, and whether it may be used.
#[derive(Clone, Debug, Default)]
pub struct Npm {
    /// Never use the registry.
    pub offline: bool,
    /// Replaces npm's configured registry.
    pub registry: Option<String>,
    /// The error, once the registry was not reached: later look-ups fail at once, since each attempt takes seconds.
    pub unreached: Arc<Mutex<Option<NpmError>>>,
}

impl Npm {
    /// The versions of `package` that match `spec` (a version, a range or a dist-tag), in the registry's order.
    ///
    /// # Errors
    /// If npm is absent, does not reach its registry, or nothing matches.
    pub fn versions(&self, package: &str, spec: &str) -> Result<Vec<String>, NpmError> {
        let wanted = format!("{package}@{spec}");
        let mut unreached = self
            .unreached
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = &*unreached {
            return Err(error.clone());
        }
        let mut arguments = vec!["view", "--json"];
        arguments.extend(VIEW_PATIENCE);
        // The rest are not options, whatever they start with.
        arguments.extend(["--", &wanted, "version"]);
        let text = match self.run(None, &arguments, None, VIEW_TIMEOUT) {
            Err(error @ NpmError::Network { .. }) => {
                *unreached = Some(error.clone());
                return Err(error);
            }
            asked => asked?,
        };
        drop(unreached);
        let refused = || NpmError::Refused {
            words: format!("no version of {wanted} is served"),
        };
        match serde_json::from_str(&text) {
            Ok(Value::String(version)) if is_version(&version) => Ok(vec![version]),
            // A version names a folder of the cache, so only valid ones are accepted.
            Ok(Value::Array(versions)) => Ok(versions
                .into_iter()
                .filter_map(|version| version.as_str().map(str::to_owned))
                .filter(|version| is_version(version))
                .collect()),
            _ => Err(refused()),
        }
    }

    /// Installs the dependencies of the `package.json` in `folder`. npm inherits `lock`, so that the folder stays
    /// locked while npm works in it even if its suite was killed.
    ///
    /// # Errors
    /// If npm is absent, does not reach its registry, or fails.
    pub fn install(&self, folder: &Path, scripts: bool, lock: &File) -> Result<(), NpmError> {
        let mut arguments = vec!["install", "--no-audit", "--no-fund", "--no-package-lock"];
        arguments.extend(["--loglevel=error", "--prefer-offline"]);
        if !scripts {
            arguments.push("--ignore-scripts");
        }
        self.run(Some(folder), &arguments, Some(lock), INSTALL_TIMEOUT)
            .map(drop)
    }

    fn run(
        &self,
        folder: Option<&Path>,
        arguments: &[&str],
        lock: Option<&File>,
        timeout: Duration,
    ) -> Result<String, NpmError> {
        let mut command = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
        command.arg(arguments[0]);
        if self.offline {
            command.arg("--offline");
        }
        if let Some(registry) = &self.registry {
            command.arg(format!("--registry={registry}"));
            command.arg("--fetch-retries=0");
        }
        command.args(&arguments[1..]);
        if let Some(folder) = folder {
            command.current_dir(folder);
        }
        let stdin = lock.and_then(|lock| lock.try_clone().ok());
        command
            .stdin(stdin.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let (mut child, mut group) = group::spawn(&mut command).map_err(|_| NpmError::Absent)?;
        let said = Collected::new(child.stdout.take());
        let complained = Collected::new(child.stderr.take());
        // npm closes both when it exits.
        let (Some(said), Some(complained)) = (said.within(timeout), complained.within(timeout))
        else {
            drop(child.kill());
            group.end();
            drop(child.wait());
            return Err(NpmError::Network {
                words: format!(
                    "npm {} took more than {} s",
                    arguments[0],
                    timeout.as_secs()
                ),
            });
        };
        match child.wait() {
            Ok(status) if status.success() => Ok(said),
            Ok(status) => Err(told(&complained, &status.to_string())),
            Err(error) => Err(told(&complained, &error.to_string())),
        }
    }
}

fn is_version(text: &str) -> bool {
    semver::Version::parse(text).is_ok()
}

/// The contents of a pipe, read by a thread until its other end is closed.
struct Collected(mpsc::Receiver<String>);

impl Collected {
    fn new(pipe: Option<impl Read + Send + 'static>) -> Self {
        let (done, received) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut pipe) = pipe {
                drop(pipe.read_to_end(&mut text));
            }
            drop(done.send(String::from_utf8_lossy(&text).into_owned()));
        });
        Self(received)
    }

    fn within(self, timeout: Duration) -> Option<String> {
        self.0.recv_timeout(timeout).ok()
    }
}

/// npm's stderr as an error: its code decides the kind, and its text is kept except for local paths.
fn told(stderr: &str, status: &str) -> NpmError {
    let lines = stderr
        .lines()
        .map(|line| {
            let line = line.strip_prefix("npm error").unwrap_or(line);
            line.strip_prefix("npm ERR!").unwrap_or(line).trim_end()
        })
        .filter(|line| !line.trim().is_empty())
        .filter(|line| !line.contains("complete log of this run"))
        .filter(|line| !line.trim_start().starts_with("at "));
    let words: Vec<&str> = lines.collect();
    let code = words
        .iter()
        .find_map(|line| line.trim().strip_prefix("code "));
    let has_code = |known: &[&str]| code.is_some_and(|code| known.contains(&code.trim()));
    let words = if words.is_empty() {
        format!("npm ended with {status} and said nothing")
    } else {
        let words: Vec<_> = words
            .iter()
            .take(TOLD_LINES)
            .map(|line| foreign::short(line.trim(), TOLD_CHARACTERS))
            .collect();
        words.join("\n")
    };
    if has_code(&NETWORK) {
        NpmError::Network { words }
    } else if has_code(&MACHINE) {
        NpmError::Machine { words }
    } else {
        NpmError::Refused { words }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_fault_is_not_a_refusal() {
        let text = "npm error code ECONNREFUSED\nnpm error syscall connect\nnpm error     at ClientRequest.x\n";
        assert_eq!(
            told(text, "exit status: 1"),
            NpmError::Network {
                words: "code ECONNREFUSED\nsyscall connect".into()
            }
        );
        let text =
            "npm error code ENOSPC\nnpm error nospc ENOSPC: no space left on device, write\n";
        assert!(matches!(told(text, ""), NpmError::Machine { .. }));
        let text = "npm error code ETARGET\nnpm error notarget No matching version found for a@9.\n\
                    npm error A complete log of this run can be found in: /home/x/_logs/1.log\n";
        assert_eq!(
            told(text, "exit status: 1"),
            NpmError::Refused {
                words: "code ETARGET\nnotarget No matching version found for a@9.".into()
            }
        );
    }
}
