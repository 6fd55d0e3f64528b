//! npm, as a program that is asked for versions and installs packages; what it says is kept in its own words.

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

/// How long npm may take to look a version up, its one retry among it.
const VIEW_TIMEOUT: Duration = Duration::from_secs(60);

/// What a look-up is told of a registry that does not answer: npm tries three times otherwise, and waits for up to a minute
/// between, so that one that refuses is told after 70 s.
const VIEW_PATIENCE: [&str; 4] = [
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-maxtimeout=2000",
    "--fetch-timeout=20000",
];

/// How long npm may take over one release; it downloads up to 300 MB.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);

/// So many lines of npm's words are told, each cut off after so many characters.
const TOLD_LINES: usize = 40;
const TOLD_CHARACTERS: usize = 400;

/// The codes by which npm says that it did not reach the registry, as opposed to what the registry said.
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

/// The codes by which npm says that this machine does not let it work: a disk that is full or broken, or rights that it lacks.
const MACHINE: [&str; 9] = [
    "EACCES", "EDQUOT", "EIO", "EMFILE", "ENFILE", "ENOMEM", "ENOSPC", "EPERM", "EROFS",
];

/// Why npm did not do what it was asked for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NpmError {
    /// It is not here.
    #[error("npm is not to be found: install Node, with npm")]
    Absent,
    /// It did not reach the registry.
    #[error("npm does not reach its registry: {words}")]
    Network {
        /// npm's own words.
        words: String,
    },
    /// This machine does not let it work.
    #[error("npm cannot work here: {words}")]
    Machine {
        /// npm's own words.
        words: String,
    },
    /// It reached the registry and did not succeed.
    #[error("{words}")]
    Refused {
        /// npm's own words.
        words: String,
    },
}

/// How npm is called: where its registry is, if that is not for npm to know, and whether it may ask it.
#[derive(Clone, Debug, Default)]
pub struct Npm {
    /// Never ask the registry.
    pub offline: bool,
    /// Instead of the registry that npm is set up for.
    pub registry: Option<String>,
    /// Why the registry was not reached, once it was not: then it is not asked again, for each time takes seconds.
    pub unreached: Arc<Mutex<Option<NpmError>>>,
}

impl Npm {
    /// The versions of `package` that fit `spec` (a version, a range or a dist-tag), in the registry's order.
    ///
    /// # Errors
    /// If npm is absent, does not reach its registry, or nothing fits.
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
        // What follows is no option, whatever it begins with.
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
            // A version names a folder of the cache, so nothing else than one is taken.
            Ok(Value::Array(versions)) => Ok(versions
                .into_iter()
                .filter_map(|version| version.as_str().map(str::to_owned))
                .filter(|version| is_version(version))
                .collect()),
            _ => Err(refused()),
        }
    }

    /// Installs what the `package.json` in `folder` asks for. npm has `lock` open as long as it runs, so that a folder stays
    /// locked while an npm works in it whose suite was killed.
    ///
    /// # Errors
    /// If npm is absent, does not reach its registry, or does not succeed.
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
        // npm closes both when it ends.
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

/// What a pipe gave, read by a thread until its other end is closed.
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

/// npm's complaint as an error: its code decides whose fault it is, and its words are kept but for what names this machine.
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
