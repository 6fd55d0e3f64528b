//! Runs the commands of this folder's pages, and checks that they do what the pages say.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hypercore-conformance");

const PAGES: [&str; 6] = [
    "README.md",
    "MATRIX.md",
    "ADAPTER.md",
    "SCRIPTED-PEER.md",
    "REPORTS.md",
    "PROXY.md",
];

/// A few cases, where the page runs all.
const FEW: &str = "--no-live --id 'encoding.uint.decode.*'";

/// Commands that other tests and `.ci/run` run.
const ELSEWHERE: [&str; 10] = [
    "hypercore-conformance matrix",
    "hypercore-conformance matrix --release latest --release '^10.30.0'",
    "hypercore-conformance matrix --implementation 'mine=python3 my_adapter.py' --implementation node --release 11.37.1 --part vectors",
    "hypercore-conformance matrix --release 'every:>=11.37.0' --part drift",
    "hypercore-conformance matrix --set pinned --html matrix.html --json matrix.json",
    "hypercore-conformance misbehave --flag ReusedChannelId --dial localhost:8000 --key HEX",
    "hypercore-conformance misbehave --flag BadMac --listen localhost:8001 --key HEX",
    "hypercore-conformance deviations --record",
    "hypercore-conformance deviations --check",
    "hypercore-conformance proxy --listen 127.0.0.1:0 --upstream 127.0.0.1:8000 --key HEX",
];

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(path).expect("the page")
}

/// The lines in fences, each with the lines after it.
fn fenced(page: &str) -> Vec<(String, Vec<String>)> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in page.lines() {
        if line.starts_with("```") {
            inside = !inside;
            lines.push(None);
        } else if inside {
            lines.push(Some(line.to_owned()));
        }
    }
    let mut all = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if let Some(line) = line {
            let rest = lines[at + 1..].iter().map_while(Clone::clone);
            all.push((line.clone(), rest.collect()));
        }
    }
    all
}

/// The commands of a page, without their trailing comments.
fn commands(page: &str) -> Vec<(String, Vec<String>)> {
    let lines = fenced(page).into_iter();
    let commands = lines.filter_map(|(line, rest)| {
        let line = line.strip_prefix("$ ").unwrap_or(&line);
        let command = line.split(" #").next().unwrap_or(line).trim();
        let starts = command.starts_with("hypercore-conformance ");
        starts.then(|| (command.to_owned(), rest))
    });
    commands.collect()
}

/// The TOML on a page that begins with `first`; a command follows it.
fn toml(page: &str, first: &str) -> String {
    fenced(page)
        .into_iter()
        .skip_while(|(line, _)| !line.starts_with(first))
        .take_while(|(line, _)| !line.starts_with("hypercore-conformance"))
        .map(|(line, _)| line + "\n")
        .collect()
}

/// A folder with the files that the pages mention.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let adapters = at("conformance/adapters");
        std::fs::create_dir_all(&adapters).expect("a folder");
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("adapters/example.py");
        for copy in [adapters.join("example.py"), at("my_adapter.py")] {
            std::fs::copy(&example, copy).expect("a copy");
        }
        let readme = page("README.md");
        std::fs::write(at("known.toml"), toml(&readme, "[[expected]]")).expect("a file");
        Self(folder)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a line of shell in which `hypercore-conformance` is this program.
    fn shell(&self, line: &str) -> Command {
        let line = line.replace("hypercore-conformance ", &format!("'{PROGRAM}' "));
        let mut command = Command::new("bash");
        command
            .args(["-c", &line])
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> Output {
        self.shell(line).output().expect("a shell")
    }

    fn succeeds(&self, line: &str) -> String {
        let output = self.run(line);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{line}\n{text}{told}");
        text
    }
}

/// Whether a program is installed; where CI is set it has to be.
fn has(program: &str, argument: &str) -> bool {
    let found = Command::new(program)
        .arg(argument)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if found.is_ok() {
        return true;
    }
    let ci = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty());
    assert!(!ci, "{program} is not here");
    println!("left out: {program} is not here");
    false
}

#[test]
fn the_commands_of_the_pages_work() {
    if !has("python3", "--version") {
        return;
    }
    let place = Place::new();
    let adapter = format!("'{PROGRAM}' adapter");
    let mut ran = 0;
    for (command, rest) in PAGES.iter().flat_map(|name| commands(&page(name))) {
        let words: Vec<&str> = command.split_whitespace().collect();
        if ELSEWHERE.contains(&&*command) {
            continue;
        }
        match words[1] {
            "check" if words.contains(&"--attach") => continue, // the test below
            "check" if words.contains(&"--expected") => {
                // The reference has no faults, so the list has to fail.
                let line = command.replace("CMD…", &adapter);
                let line = line.replace("check ", "check --no-live --layer message ");
                let output = place.run(&line);
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert_eq!(output.status.code(), Some(1), "{line}\n{text}");
                assert!(text.contains("message.sync.decode.trailing-"), "{text}");
            }
            "check" => {
                let line = command.replacen("check", &format!("check {FEW}"), 1);
                assert!(place.succeeds(&line).contains("PASSED example"));
            }
            "smoke" => assert!(place.succeeds(&command).contains("FINE")),
            "run" if words.contains(&"--json") => {
                assert!(
                    place
                        .succeeds(&format!("{command} {FEW}"))
                        .contains("PASSED")
                );
                let report = |name: &str| std::fs::copy(place.at("report.json"), place.at(name));
                for name in ["ours.json", "old.json", "new.json"] {
                    report(name).expect("a copy");
                }
                place.succeeds(&format!(
                    "'{PROGRAM}' run {FEW} --in-process --json theirs.json"
                ));
            }
            "run" => {
                let line = command.replace("CMD", &format!("\"{adapter}\""));
                place.succeeds(&format!("{line} --id '*.close-*'"));
            }
            "merge" => {
                place.succeeds(&command);
            }
            "matrix" => {
                let has_node = has("node", "--version");
                if !has_node {
                    continue;
                }
                assert!(place.succeeds(&command).contains("AS EXPECTED"));
                if words.contains(&"--merge") {
                    let rules = toml(&page("MATRIX.md"), "[set.default]");
                    std::fs::write(place.at("rules.toml"), rules).expect("a file");
                    let line = format!("{command} --rules rules.toml");
                    assert!(place.succeeds(&line).contains("0 are required"));
                }
            }
            "vectors" => {
                let version = "hypercore-vectors-<version>";
                if !command.contains(version) {
                    assert!(place.succeeds(&command).contains("DIR/hypercore-vectors-"));
                    place.succeeds("tar xzf DIR/*.tar.gz && mv hypercore-vectors-* unpacked");
                } else {
                    place.succeeds(&command.replace(version, "unpacked"));
                }
            }
            "deviations" => assert!(place.succeeds(&command).contains("ReusedChannelId")),
            // Verbatim.
            "explain" => assert_eq!(
                place.succeeds(&command).lines().collect::<Vec<_>>(),
                rest,
                "{command}"
            ),
            _ => panic!("nothing here knows how to run `{command}`"),
        }
        ran += 1;
    }
    assert!(ran >= 12, "{ran}");
}

/// The cases named on the pages exist.
#[test]
fn the_ids_of_the_pages_exist() {
    let mut named = 0;
    for text in PAGES.map(page) {
        let mut words = text.split_whitespace();
        while let Some(word) = words.by_ref().find(|word| word.ends_with("--id")) {
            let Some(id) = words.next() else { break };
            let id = id.trim_matches(['`', '\'', ',']);
            if id.contains(['*', '[']) || id.chars().all(|c| c.is_ascii_uppercase()) {
                continue;
            }
            let output = Command::new(PROGRAM).args(["show", id]).output();
            let output = output.expect("the program");
            assert_eq!(output.status.code(), Some(0), "{word} {id}");
            named += 1;
        }
    }
    assert!(named >= 2, "{named}");
}

/// Kills the process, however the test ends.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn an_adapter_on_stdin_and_stdout_is_attached_to_as_the_page_says() {
    let (python, socat) = (has("python3", "--version"), has("socat", "-V"));
    if !python || !socat || !has("gdb", "--version") {
        return;
    }
    let readme = page("README.md");
    let lines: Vec<String> = fenced(&readme).into_iter().map(|(line, _)| line).collect();
    let line = |part: &str| {
        let found = lines.iter().find(|line| line.contains(part));
        found.unwrap_or_else(|| panic!("no line with {part}"))
    };
    for relays in [
        vec![line("EXEC:'python3 my_adapter.py'")],
        vec![line("OPEN:out"), line("gdb ./my_adapter")],
    ] {
        let place = Place::new();
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = free.expect("a port").port().to_string();
        place.succeeds(line("mkfifo"));
        // A program with an argument, in batch mode, since there is no terminal.
        std::os::unix::fs::symlink(PROGRAM, place.at("my_adapter")).expect("a link");
        let started: Vec<Running> = relays
            .into_iter()
            .map(|relay| {
                let relay = relay
                    .replace("9000", &port)
                    .replace("gdb ", "exec gdb -batch ")
                    .replace("socat ", "exec socat ")
                    .replace("run <", "run adapter <")
                    .replace(" &", "");
                let mut command = place.shell(&relay);
                command.stdout(Stdio::null()).stderr(Stdio::null());
                Running(command.spawn().expect("a shell"))
            })
            .collect();
        let check = line("--attach 127.0.0.1:9000").replace("9000", &port) + " --timeout 60";
        let begun = std::time::Instant::now();
        let text = loop {
            // Until socat listens.
            let output = place.run(&check);
            let refused = output.status.code() == Some(3);
            if !refused || begun.elapsed().as_secs() > 30 {
                break String::from_utf8_lossy(&output.stdout).into_owned();
            }
        };
        assert!(text.contains("PASSED"), "{check}\n{text}");
        drop(started);
    }
}
