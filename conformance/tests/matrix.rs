//! The matrix command: its reports on releases that are broken, absent or partly installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hypercore_conformance::matrix::cell::{CellId, State};
use hypercore_conformance::matrix::report::MatrixReport;
use hypercore_conformance::node::ensure_node_modules;
use hypercore_conformance::npm::Npm;
use hypercore_conformance::npm::cache::Cache;

fn matrix(cache: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hypercore-conformance"))
        .args(["matrix", "--cache"])
        .arg(cache)
        .args(arguments)
        .output()
        .expect("the command starts")
}

fn stdout(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// Whether Node is here; where CI is set it has to be.
fn has_node() -> bool {
    match ensure_node_modules() {
        Ok(_) => true,
        Err(error) if error.is_absent() && std::env::var_os("CI").is_none() => {
            eprintln!("left out: {error}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

/// A release in a cache of its own: its packages are those of the shared cache, except for copies, which can be
/// patched. Returns the folder of its packages.
#[cfg(unix)]
fn copied(release: &str, to: &Path, copies: &[&str]) -> PathBuf {
    let shared = Cache::new(Cache::default_root(), Npm::default());
    let installed = shared.release(release).expect("the release installs");
    let folder = to.join("releases").join(release);
    let modules = folder.join("node_modules");
    fs::create_dir_all(&modules).expect("a folder");
    for name in ["package.json", "installed.json"] {
        fs::copy(installed.folder.join(name), folder.join(name)).expect("a file");
    }
    let source = installed.folder.join("node_modules");
    for entry in fs::read_dir(&source).expect("packages") {
        let entry = entry.expect("a package");
        if !copies.iter().any(|name| entry.file_name() == *name) {
            std::os::unix::fs::symlink(entry.path(), modules.join(entry.file_name()))
                .expect("a link");
        }
    }
    for name in copies {
        for entry in walkdir::WalkDir::new(source.join(name)) {
            let entry = entry.expect("a file");
            let target = modules.join(entry.path().strip_prefix(&source).expect("within"));
            if entry.file_type().is_dir() {
                fs::create_dir_all(target).expect("a folder");
            } else {
                fs::copy(entry.path(), target).expect("a file");
            }
        }
    }
    modules
}

/// Runs with a file of a package patched, and restores it.
#[cfg(unix)]
fn patched<T>(file: &Path, replaced: &[(&str, &str)], run: impl FnOnce() -> T) -> T {
    let original = fs::read_to_string(file).expect("a file of the package");
    let mut patched = original.clone();
    for (before, after) in replaced {
        assert!(
            patched.contains(before),
            "the source is another than this test knows: {before}"
        );
        patched = patched.replace(before, after);
    }
    fs::write(file, patched).expect("a file");
    let ran = run();
    fs::write(file, original).expect("a file");
    ran
}

/// A matrix of 10.38.2 and 11.37.1 from a cache, with its verdict.
#[cfg(unix)]
struct Judged {
    code: Option<i32>,
    report: MatrixReport,
    text: String,
}

#[cfg(unix)]
impl Judged {
    /// With these parts, or all of them.
    fn of(cache: &Path, parts: &[&str]) -> Self {
        let path = cache.join("report.json");
        let json = path.display().to_string();
        let mut arguments = vec!["--offline", "--json", &json];
        arguments.extend(["--release", "10.38.2", "--release", "11.37.1"]);
        arguments.extend(parts.iter().flat_map(|part| ["--part", part]));
        let output = matrix(cache, &arguments);
        let text = stdout(&output);
        let report = MatrixReport::read(&path).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let code = output.status.code();
        Self { code, report, text }
    }

    /// The red cells without the runtime, which depends on this machine.
    fn red(&self) -> Vec<String> {
        self.report
            .judgement
            .regressions
            .iter()
            .map(short)
            .collect()
    }

    fn in_state(&self, state: State) -> Vec<String> {
        let cells = self.report.cells.iter();
        let cells = cells.filter(|cell| cell.state == state);
        cells.map(|cell| short(&cell.id)).collect()
    }

    /// The drift faults of 11.37.1: the check, and the reason.
    fn drift(&self) -> impl Iterator<Item = (&str, &str)> {
        let cells = self.report.cells.iter();
        let drift = cells.filter(|cell| short(&cell.id) == "node/11.37.1/drift/");
        let faults = drift.flat_map(|cell| &cell.faults);
        faults.map(|fault| (fault.id.as_str(), fault.reason.as_str()))
    }
}

#[cfg(unix)]
fn short(id: &CellId) -> String {
    let CellId {
        implementation,
        release,
        part,
        role,
        ..
    } = id;
    format!("{implementation}/{release}/{part}/{role}")
}

#[test]
#[cfg(unix)]
fn a_release_that_is_patched_turns_its_own_cells_red_and_no_others() {
    if !has_node() {
        return;
    }
    let cache = tempfile::tempdir().expect("a folder");
    copied("10.38.2", cache.path(), &[]);
    let modules = copied("11.37.1", cache.path(), &["hypercore"]);
    let file = modules.join("hypercore/lib/messages.js");
    // The flag of sync by which a peer accepts pushes, moved by one bit.
    let moved = [
        ("m.allowPush ? 16 : 0", "m.allowPush ? 32 : 0"),
        (
            "allowPush: (flags & 16) !== 0",
            "allowPush: (flags & 32) !== 0",
        ),
    ];
    let judged = patched(&file, &moved, || Judged::of(cache.path(), &[]));
    let text = &judged.text;
    assert_eq!(judged.code, Some(1), "{text}");
    // Its bytes have another flag for everyone else; the replications do not push.
    let red = [
        "node/11.37.1/drift/",
        "node/11.37.1/vectors/",
        "node/11.37.1/live/initiator",
        "node/11.37.1/live/responder",
    ];
    assert_eq!(judged.red(), red, "{text}");
    // What Node decodes wrongly as well is no fault of the reference.
    let limited = [
        "reference/11.37.1/vectors/",
        "reference/11.37.1/live/initiator",
        "reference/11.37.1/live/responder",
    ];
    assert_eq!(judged.in_state(State::Limited), limited, "{text}");
    let others = judged.report.cells.len() - red.len() - limited.len();
    assert_eq!(judged.in_state(State::Passed).len(), others, "{text}");
    let lacks = "lacks flag allowPush (16)";
    let told = judged.drift().any(|(_, reason)| reason.contains(lacks));
    assert!(told, "{text}");

    let judged = Judged::of(cache.path(), &["drift", "vectors"]);
    let (text, cells) = (&judged.text, judged.report.cells.len());
    assert_eq!(judged.code, Some(0), "{text}");
    assert_eq!(judged.in_state(State::Passed).len(), cells, "{text}");
}

#[test]
#[cfg(unix)]
fn a_replicator_that_is_patched_is_seen_in_its_conversations_and_nowhere_else() {
    if !has_node() {
        return;
    }
    let cache = tempfile::tempdir().expect("a folder");
    copied("10.38.2", cache.path(), &[]);
    let modules = copied("11.37.1", cache.path(), &["hypercore"]);
    // Every message can still be encoded and decoded, but no request has a priority.
    let file = modules.join("hypercore/lib/replicator.js");
    let other = [("      priority,\n", "      priority: 0,\n")];
    let parts = ["drift", "replication"];
    let judged = patched(&file, &other, || Judged::of(cache.path(), &parts));
    let text = &judged.text;
    assert_eq!(judged.code, Some(1), "{text}");
    assert_eq!(judged.red(), ["node/11.37.1/drift/"], "{text}");
    let mut told = judged.drift();
    assert!(
        told.all(|(id, _)| id.starts_with("conversation.")),
        "{text}"
    );
    let lacks = "reader's `request` 2, 3, 5: `flags` 33 → 1: lacks flag priority (32)";
    let told = judged.drift().any(|(_, reason)| reason.contains(lacks));
    assert!(told, "{text}");
}

#[test]
#[cfg(unix)]
fn a_transport_that_is_patched_is_asked_what_is_not_asked_of_the_pinned_one() {
    if !has_node() {
        return;
    }
    let cache = tempfile::tempdir().expect("a folder");
    copied("10.38.2", cache.path(), &[]);
    let modules = copied("11.37.1", cache.path(), &["hypercore", "protomux"]);
    // Both ends of a channel still agree, but on another number for its close.
    let file = modules.join("protomux/index.js");
    let other = [
        ("state.buffer[1] = 3", "state.buffer[1] = 4"),
        ("case 3:", "case 4:"),
    ];
    let parts = ["drift", "replication"];
    let judged = patched(&file, &other, || Judged::of(cache.path(), &parts));
    let text = &judged.text;
    assert_eq!(judged.code, Some(1), "{text}");
    assert_eq!(judged.red(), ["node/11.37.1/drift/"], "{text}");
    let close = "\"control\":\"close\"";
    let told = judged
        .drift()
        .any(|(id, reason)| id.starts_with("mux.record.") && reason.contains(close));
    assert!(told, "{text}");
}

#[test]
fn without_the_registry_a_cold_cache_is_the_environments_fault() {
    if !has_node() {
        return;
    }
    let cache = tempfile::tempdir().expect("a folder");
    // Nothing listens on port 9 of this machine.
    let none = ["--registry", "http://127.0.0.1:9/", "--json"];
    let report = cache.path().join("report.json");
    let path = report.display().to_string();
    for release in ["latest", "11.36.99"] {
        let mut arguments = vec!["--release", release, "--part", "replication"];
        arguments.extend(none);
        arguments.push(&path);
        let output = matrix(cache.path(), &arguments);
        assert_eq!(output.status.code(), Some(3), "{}", stdout(&output));
        assert!(
            stdout(&output).contains("ECONNREFUSED"),
            "{}",
            stdout(&output)
        );
        let report = MatrixReport::read(&report).expect("a report");
        assert!(
            report
                .cells
                .iter()
                .all(|cell| cell.state == State::Unavailable && cell.passed == 0)
        );
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let cache = tempfile::tempdir().expect("a folder");
    for wrong in [
        &["--shard", "2/"][..],
        &["--shard", "3/2"],
        &["--part", "other"],
        &["--set", "nothing"],
        &["--implementation", "a/b=true"],
        &["--merge", "/nonexistent.json"],
        &["--bisect"],
    ] {
        let output = matrix(cache.path(), wrong);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{wrong:?}: {}",
            stdout(&output)
        );
    }
}

/// A fake npm that installs as told: this tests the cache.
#[cfg(unix)]
fn npm_in(folder: &Path, body: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let npm = folder.join("npm");
    fs::write(
        &npm,
        format!(
            "#!/bin/sh\necho \"$1\" >> \"{}/calls\"\n{body}\n",
            folder.display()
        ),
    )
    .expect("a file");
    fs::set_permissions(&npm, fs::Permissions::from_mode(0o755)).expect("a mode");
}

#[cfg(unix)]
const INSTALLS: &str = "mkdir -p node_modules/hypercore && echo '{\"version\":\"9.9.9\"}' > node_modules/hypercore/package.json";

/// Installs 9.9.9 in a process whose npm is the one in `folder`.
#[cfg(unix)]
fn install_in(folder: &Path, cache: &Path) -> std::process::Child {
    let path = std::env::var("PATH").expect("a path");
    Command::new(env!("CARGO_BIN_EXE_hypercore-conformance"))
        .args([
            "matrix",
            "--release",
            "9.9.9",
            "--part",
            "replication",
            "--implementation",
            "none=true",
            "--cache",
        ])
        .arg(cache)
        .env("PATH", format!("{}:{path}", folder.display()))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the command starts")
}

#[test]
#[cfg(unix)]
fn a_release_is_installed_once_whoever_wants_it_and_again_if_it_was_interrupted() {
    if !has_node() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("cache");
    npm_in(folder.path(), INSTALLS);
    let installations = || {
        let calls = fs::read_to_string(folder.path().join("calls")).unwrap_or_default();
        calls.lines().filter(|call| *call == "install").count()
    };
    let children: Vec<_> = (0..4).map(|_| install_in(folder.path(), &cache)).collect();
    for mut child in children {
        child.wait().expect("it ends");
    }
    let marker = cache.join("releases/9.9.9/installed.json");
    assert!(marker.is_file());
    assert_eq!(installations(), 1);

    // An interrupted installation: the marker is written last.
    fs::remove_file(&marker).expect("a marker");
    fs::write(cache.join("releases/9.9.9/node_modules/half"), "").expect("a file");
    install_in(folder.path(), &cache).wait().expect("it ends");
    assert!(marker.is_file());
    assert!(!cache.join("releases/9.9.9/node_modules/half").exists());
    assert_eq!(installations(), 2);
}

#[test]
#[cfg(unix)]
fn what_does_not_install_leaves_nothing_behind() {
    if !has_node() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("cache");
    npm_in(
        folder.path(),
        "[ \"$1\" != install ] || { mkdir -p node_modules/half; echo 'npm error code E404' >&2; exit 1; }",
    );
    install_in(folder.path(), &cache).wait().expect("it ends");
    let calls = fs::read_to_string(folder.path().join("calls")).expect("calls");
    assert!(calls.lines().any(|call| call == "install"), "{calls}");
    assert!(!cache.join("releases/9.9.9").exists());
}
