//! Installed releases of hypercore and JavaScript runtimes, each installed once, in its own folder.
//!
//! A folder is valid once its marker exists, which is written last: an interrupted installation is repeated. Concurrent
//! users of a folder wait for each other by the lock beside it, which the operating system releases if one dies. Cached
//! packages are never requested from the registry again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use blake2::{Blake2b, Digest, digest::consts::U16};
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Npm, NpmError};
use crate::{foreign, out};

/// The time-out of a lock: longer than an installation may take.
const LOCK_TIMEOUT: Duration = Duration::from_secs(660);

/// The interval between attempts to take a lock.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// The file that marks a complete folder.
const MARKER: &str = "installed.json";

/// The storage of older hypercores; later ones bring their own.
const RANDOM_ACCESS_MEMORY: &str = "^6.2.1";

/// The packages whose versions are reported, since they define the wire format.
const TOLD: [&str; 7] = [
    "hypercore",
    "@hyperswarm/secret-stream",
    "protomux",
    "noise-handshake",
    "noise-curve-ed",
    "compact-encoding",
    "hypercore-storage",
];

/// The packages of the transport.
const TRANSPORT: [&str; 4] = [
    "@hyperswarm/secret-stream",
    "protomux",
    "noise-handshake",
    "noise-curve-ed",
];

/// Why something is not in the cache.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// npm failed.
    #[error(transparent)]
    Npm(#[from] NpmError),
    /// npm succeeded, but the result does not work.
    #[error("{0}")]
    Broken(String),
    /// The folder can't be used.
    #[error("{}: {reason}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The operating system's error.
        reason: String,
    },
}

impl CacheError {
    /// Whether the fault lies with this machine rather than with the request.
    pub fn is_environment(&self) -> bool {
        !matches!(self, Self::Npm(NpmError::Refused { .. }) | Self::Broken(_))
    }
}

/// A release of hypercore, installed.
#[derive(Clone, Debug)]
pub struct Release {
    /// Its exact version.
    pub version: String,
    /// The folder that holds `node_modules`.
    pub folder: PathBuf,
    /// The packages of its transport, each with its exact version.
    pub packages: Vec<(String, String)>,
}

impl Release {
    /// 10 or 11.
    pub fn major(&self) -> u64 {
        major(&self.version)
    }
}

/// The number before the first dot.
pub(crate) fn major(version: &str) -> u64 {
    let digits = version.trim_start_matches('v').split('.').next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// A runtime of JavaScript, ready to be started.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// As in cells: `node20`, `bare`.
    pub name: String,
    /// Its exact version.
    pub version: String,
    /// The program.
    pub program: PathBuf,
}

/// The registry's last answer for a spec.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Resolved(std::collections::BTreeMap<String, Vec<String>>);

/// The folder of everything installed.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
    npm: Npm,
}

impl Cache {
    /// A cache in `root`, which need not exist yet.
    pub fn new(root: PathBuf, npm: Npm) -> Self {
        Self { root, npm }
    }

    /// The folder in `HYPERCORE_CONFORMANCE_CACHE`, or one among the user's caches.
    pub fn default_root() -> PathBuf {
        let from = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        if let Some(given) = from("HYPERCORE_CONFORMANCE_CACHE") {
            return given;
        }
        from("XDG_CACHE_HOME")
            .or_else(|| from("LOCALAPPDATA"))
            .or_else(|| from("HOME").map(|home| home.join(".cache")))
            .unwrap_or_else(std::env::temp_dir)
            .join("hypercore-conformance")
    }

    /// Its path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The versions of `package` that match `spec`, oldest first, and whether the registry was asked just now.
    ///
    /// An exact version is not looked up: installing it shows whether it exists. If the registry can't be reached, its
    /// last answer is used.
    ///
    /// # Errors
    /// If nothing matches, or the registry can't be reached and was never asked.
    pub fn versions(&self, package: &str, spec: &str) -> Result<(Vec<String>, bool), CacheError> {
        if Version::parse(spec).is_ok() {
            return Ok((vec![spec.to_owned()], false));
        }
        let wanted = format!("{package}@{spec}");
        let path = self.root.join("resolved.json");
        match self.npm.versions(package, spec) {
            Ok(mut versions) => {
                sort_versions(&mut versions);
                let _lock = self.lock("resolved")?;
                let mut known = read_resolved(&path);
                known.0.insert(wanted, versions.clone());
                write_whole(&path, &json!(known))?;
                Ok((versions, true))
            }
            Err(error @ NpmError::Network { .. }) => read_resolved(&path)
                .0
                .remove(&wanted)
                .map(|versions| (versions, false))
                .ok_or_else(|| error.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Installs a release, if missing.
    ///
    /// # Errors
    /// If it does not install, or what was installed is another version or incomplete.
    pub fn release(&self, version: &str) -> Result<Release, CacheError> {
        // The version names a folder, so paths such as `../../x` must be refused.
        if Version::parse(version).is_err() {
            return Err(CacheError::Broken(format!(
                "{:?} is no version",
                foreign::short(version, foreign::MAX_NAME)
            )));
        }
        let folder = self.root.join("releases").join(version);
        let mut dependencies = json!({ "hypercore": version });
        if major(version) == 10 {
            dependencies["random-access-memory"] = RANDOM_ACCESS_MEMORY.into();
        }
        self.ensure(&folder, &dependencies, false, |folder| {
            let packages = packages_of(folder);
            let found = packages.iter().find(|(name, _)| name == "hypercore");
            match found {
                Some((_, found)) if found == version => Ok(json!({ "packages": packages })),
                _ => Err(format!(
                    "npm was content, but hypercore {version} is not there"
                )),
            }
        })?;
        Ok(Release {
            version: version.to_owned(),
            packages: packages_of(&folder),
            folder,
        })
    }

    /// Installs a runtime, if missing: `20` is the newest published Node 20, `bare` is Bare, and `system` is the
    /// Node on the PATH.
    ///
    /// # Errors
    /// If it does not install, or does not start.
    pub fn runtime(&self, spec: &str) -> Result<Runtime, CacheError> {
        if spec == "system" {
            let program = PathBuf::from("node");
            let version = version_of(&program)?;
            let name = format!("node{}", major(&version));
            return Ok(Runtime {
                name,
                version,
                program,
            });
        }
        let (package, name) = match spec {
            "bare" => ("bare-runtime", "bare".to_owned()),
            spec => ("node", format!("node{}", major(spec))),
        };
        let wanted = if spec == "bare" { "latest" } else { spec };
        // An installed runtime suffices: its patch release does not matter.
        let held = self.held_runtimes(&name);
        let version = match held.last() {
            Some(version) => version.clone(),
            None => {
                let (versions, _) = self.versions(package, wanted)?;
                versions.last().cloned().ok_or_else(|| {
                    CacheError::Broken(format!("no version of {package}@{wanted} is served"))
                })?
            }
        };
        let folder = self.root.join("runtimes").join(&name).join(&version);
        let program = folder
            .join("node_modules")
            .join(".bin")
            .join(if spec == "bare" { "bare" } else { "node" });
        // npm's `node` package fetches the program for this machine with an install script.
        self.ensure(&folder, &json!({ package: version }), true, |_| {
            version_of(&program)
                .map(|version| json!({ "version": version }))
                .map_err(|error| error.to_string())
        })?;
        let version = version_of(&program)?;
        Ok(Runtime {
            name,
            version,
            program,
        })
    }

    fn held_runtimes(&self, name: &str) -> Vec<String> {
        let folder = self.root.join("runtimes").join(name);
        let mut versions: Vec<String> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .filter(|entry| entry.path().join(MARKER).is_file())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|version| Version::parse(version).is_ok())
            .collect();
        sort_versions(&mut versions);
        versions
    }

    /// Installs `dependencies` into `folder` unless its marker exists; `check` returns the contents of the marker, or
    /// the fault.
    fn ensure(
        &self,
        folder: &Path,
        dependencies: &Value,
        scripts: bool,
        check: impl Fn(&Path) -> Result<Value, String>,
    ) -> Result<(), CacheError> {
        let marker = folder.join(MARKER);
        if marker.is_file() {
            return Ok(());
        }
        let name = folder.strip_prefix(&self.root).unwrap_or(folder);
        let lock = self.lock(&name.to_string_lossy().replace(['/', '\\'], "-"))?;
        // The previous holder of the lock may have installed it.
        if marker.is_file() {
            return Ok(());
        }
        let fault = |error: std::io::Error| CacheError::Folder {
            path: folder.to_owned(),
            reason: error.to_string(),
        };
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fault(error)),
            _ => {}
        }
        fs::create_dir_all(folder).map_err(fault)?;
        let package = json!({ "private": true, "dependencies": dependencies });
        fs::write(folder.join("package.json"), package.to_string()).map_err(fault)?;
        let installed = self
            .npm
            .install(folder, scripts, &lock)
            .map_err(CacheError::from);
        let told = installed.and_then(|()| check(folder).map_err(CacheError::Broken));
        match told {
            Ok(told) => write_whole(&marker, &told),
            Err(error) => {
                // Remove a failed installation; if that fails, the next one overwrites it.
                drop(fs::remove_dir_all(folder));
                Err(error)
            }
        }
    }

    /// The lock is held until dropped, and until every program that inherited it has exited.
    fn lock(&self, name: &str) -> Result<File, CacheError> {
        let folder = self.root.join("locks");
        let path = folder.join(name);
        let fault = |error: std::io::Error| CacheError::Folder {
            path: path.clone(),
            reason: error.to_string(),
        };
        fs::create_dir_all(&folder).map_err(fault)?;
        let mut options = OpenOptions::new();
        // npm inherits it as stdin, so it has to be readable.
        options.read(true).write(true).create(true).truncate(false);
        let lock = options.open(&path).map_err(fault)?;
        wait_for(&lock, &path).map_err(fault)?;
        Ok(lock)
    }
}

/// Waits for a lock that another run holds, and reports that.
///
/// # Errors
/// If it is held longer than an installation may take.
pub(crate) fn wait_for(lock: &File, path: &Path) -> std::io::Result<()> {
    let began = Instant::now();
    let mut told = false;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if began.elapsed() > LOCK_TIMEOUT => {
                let limit = LOCK_TIMEOUT.as_secs();
                return Err(std::io::Error::other(format!(
                    "another program has held this lock for {limit} s: an npm that installs, or a run that does"
                )));
            }
            Err(TryLockError::WouldBlock) => {
                if !told {
                    out::note(format!(
                        "waiting for another program that installs: it holds {}",
                        path.display()
                    ));
                    told = true;
                }
                std::thread::sleep(LOCK_POLL);
            }
        }
    }
}

/// Sorts oldest first; invalid versions come before all others.
pub fn sort_versions(versions: &mut [String]) {
    versions.sort_by_cached_key(|version| Version::parse(version).ok());
}

fn read_resolved(path: &Path) -> Resolved {
    fs::read(path)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

/// Writes a file atomically.
fn write_whole(path: &Path, value: &Value) -> Result<(), CacheError> {
    let fault = |error: std::io::Error| CacheError::Folder {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let beside = path.with_extension(format!("{}.part", std::process::id()));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(fault)?;
    }
    // Synced first: a marker left empty by a full disk or a crash would mark the folder as complete.
    let written = out::write_file(&beside, &(value.to_string() + "\n"));
    let moved = written
        .map_err(std::io::Error::other)
        .and_then(|()| fs::rename(&beside, path));
    if moved.is_err() {
        drop(fs::remove_file(&beside));
    }
    moved.map_err(fault)
}

/// The packages that define the wire format, as installed in `folder`.
pub(crate) fn packages_of(folder: &Path) -> Vec<(String, String)> {
    let version = |name: &str| -> Option<String> {
        let path = folder.join("node_modules").join(name).join("package.json");
        let package: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        Some(package.get("version")?.as_str()?.to_owned())
    };
    TOLD.iter()
        .filter_map(|name| Some(((*name).to_owned(), version(name)?)))
        .collect()
}

/// The packages of the transport, as installed in `folder`, with a digest of all their files, so that a patched one is
/// not mistaken for the release that it claims to be.
pub(crate) fn transport_of(folder: &Path) -> Vec<(String, String)> {
    let digest = |name: &str| {
        let package = folder.join("node_modules").join(name);
        let files = walkdir::WalkDir::new(&package)
            .sort_by_file_name()
            .follow_root_links(true)
            .into_iter()
            // A nested package is another package.
            .filter_entry(|entry| entry.depth() == 0 || entry.file_name() != "node_modules")
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_file());
        let mut hash = Blake2b::<U16>::new();
        for file in files {
            let path = file.path().strip_prefix(&package).unwrap_or(file.path());
            hash.update(path.to_string_lossy().as_bytes());
            let bytes = fs::read(file.path()).unwrap_or_default();
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        hex::encode(hash.finalize())
    };
    TRANSPORT
        .iter()
        .map(|name| ((*name).to_owned(), digest(name)))
        .collect()
}

/// A runtime's version, without the `v`.
fn version_of(program: &Path) -> Result<String, CacheError> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| CacheError::Broken(format!("{}: {error}", name_of(program))))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim().trim_start_matches('v');
    if output.status.success() && Version::parse(version).is_ok() {
        return Ok(version.to_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(CacheError::Broken(format!(
        "{} does not start ({}): {}",
        name_of(program),
        output.status,
        complaint.trim()
    )))
}

fn name_of(program: &Path) -> String {
    program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_was_patched_is_another_whatever_its_version() {
        let folder = tempfile::tempdir().expect("a folder");
        let package = folder.path().join("node_modules/protomux");
        fs::create_dir_all(package.join("node_modules/b4a")).expect("a folder");
        fs::write(package.join("index.js"), "1").expect("a file");
        let before = transport_of(folder.path());
        fs::write(package.join("node_modules/b4a/index.js"), "1").expect("a file");
        assert_eq!(transport_of(folder.path()), before);
        fs::write(package.join("index.js"), "2").expect("a file");
        let after = transport_of(folder.path());
        let other: Vec<&str> = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after)
            .map(|((name, _), _)| name.as_str())
            .collect();
        assert_eq!(other, ["protomux"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_stays_locked_while_a_program_runs_that_was_given_the_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.open(&path).expect("a lock")
        };
        let lock = open();
        wait_for(&lock, &path).expect("locked");
        let mut npm = Command::new("sleep")
            .arg("1000")
            .stdin(lock.try_clone().expect("a copy"))
            .spawn()
            .expect("sleep");
        // As when a suite is killed.
        drop(lock);
        let other = open();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        npm.kill().expect("ended");
        npm.wait().expect("ended");
        wait_for(&other, &path).expect("locked");
    }

    #[test]
    fn a_release_is_a_version_before_it_is_a_folder() {
        let root = tempfile::tempdir().expect("a folder");
        let cache = Cache::new(root.path().join("cache"), Npm::default());
        for version in ["../../x", "/tmp/x", "latest", "--global", ""] {
            let error = cache.release(version).expect_err("no version");
            assert!(error.to_string().contains("is no version"), "{error}");
        }
        assert!(!root.path().join("cache").exists());
    }

    #[test]
    fn versions_are_sorted_by_number() {
        let mut versions = ["11.5.0", "11.10.0", "10.38.2", "11.5.0-rc.1"].map(str::to_owned);
        sort_versions(&mut versions);
        assert_eq!(versions, ["10.38.2", "11.5.0-rc.1", "11.5.0", "11.10.0"]);
        assert_eq!(
            (major("v20.1.2"), major("11.37.1"), major("x")),
            (20, 11, 0)
        );
    }
}
