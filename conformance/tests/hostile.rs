//! Hostile adapters, peers, disks and terminals: the command's output, and what it leaves behind.
#![cfg(unix)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hypercore-conformance");

/// The time-out of every wait.
const LIMIT: Duration = Duration::from_secs(60);

/// Answers hello with a name, in JSON, and everything else with `answer`, in which `$i` is the id.
fn adapter(name: &str, answer: &str) -> String {
    let hello = format!(
        r#"{{"protocol":1,"name":{name},"version":"1","language":"sh","release":null,"ops":["encoding.decode"],"live":false}}"#
    );
    format!(
        "i=0; read -r q; printf '%s\\n' '{{\"id\":0,\"ok\":{hello}}}'; while read -r q; do i=$((i+1)); {answer}; done"
    )
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("CARGO")
        .env_remove("CI");
    command
}

/// `check` of one case on an adapter written in shell.
fn check(options: &[&str], script: &str) -> Command {
    let mut command = command(&["check", "--no-live", "--id", "encoding.uint.decode.0"]);
    command.args(options).args(["--", "sh", "-c", script]);
    command
}

fn output(mut command: Command) -> Output {
    command.output().expect("the program")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn is_harmless(text: &str) {
    assert!(
        !text.contains('\x1b') && !text.contains('\u{9b}'),
        "{text:?}"
    );
    assert!(
        !text.contains('\u{202e}') && !text.contains('\r'),
        "{text:?}"
    );
    for line in text.lines() {
        assert!(!line.trim_start().starts_with("::"), "{line}");
        assert!(!line.contains("##["), "{line}");
    }
}

#[test]
fn what_an_adapter_says_does_nothing_to_a_terminal_or_a_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let hostile = r#""e\u001b]0;t\u0007\u001b[31m\n::error::x\n##[error]y\u202e\u009b2J\r""#;
    let error = r#"{\"layer\":\"x\\u001b[2J\",\"class\":\"y\",\"message\":\"\\n::error::z\\n##[group]\\u202e\"}"#;
    let answer = format!(
        r#"printf '\033[2J\n::error::stderr\n' >&2; printf '%s\n' "{{\"id\":$i,\"error\":{error}}}""#
    );
    let script = adapter(hostile, &answer);
    let junit = folder.path().join("junit.xml");
    let path = junit.to_str().expect("a path");
    let output = output(check(&["-v", "--junit", path], &script));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let said = text(&output);
    is_harmless(&said);
    assert!(
        said.contains(r"e\x1b]0;t\x07\x1b[31m\n::error::x\n"),
        "{said}"
    );
    assert!(said.contains(r"\x1b[2J"), "{said}");
    is_harmless(&std::fs::read_to_string(&junit).expect("a report"));
}

#[test]
fn a_name_of_an_adapter_is_not_taken_at_any_length() {
    let hello = r#"head -c 3000000 /dev/zero | tr '\0' n > "$0"; printf '{"id":0,"ok":{"protocol":1,"name":"'; cat "$0"; printf '","ops":[]}}\n'; read -r q"#;
    let folder = tempfile::tempdir().expect("a folder");
    let (file, page) = (folder.path().join("name"), folder.path().join("page.html"));
    let mut command = check(&["--html", page.to_str().expect("a path")], hello);
    command.arg(&file);
    let output = output(command);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(
        said.contains("name has 3000000 bytes; at most 200 characters"),
        "{said}"
    );
    assert!(std::fs::metadata(&page).expect("a page").len() < 1 << 20);
}

#[test]
fn a_line_without_its_line_break_is_told() {
    let script = adapter(r#""toy""#, r#"printf '{"id":%s,"unsupported":true}' $i"#);
    let output = output(check(&["--timeout", "0.2"], &script));
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    let wanted = r#"no answer within 0.2 s, for the line that came is not ended by a line break: {"id":1,"unsupported":true}"#;
    assert!(said.contains(wanted), "{said}");
}

#[test]
fn an_answer_is_read_up_to_the_length_that_is_asked_for() {
    let script = adapter(r#""toy""#, "head -c 1100000 /dev/zero; echo");
    let output = output(check(&["--max-answer", "1"], &script));
    let said = text(&output);
    assert!(
        said.contains("a line of more than 1048576 bytes: "),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
}

/// A named pipe, and its events: a line at the start, and the end once every process that had it open has closed it.
struct Fifo {
    _folder: tempfile::TempDir,
    path: String,
}

impl Fifo {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fifo").display().to_string();
        let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(made.success());
        Self {
            _folder: folder,
            path,
        }
    }

    /// An adapter that delegates to a child program, which holds the pipe open and does not exit by itself.
    fn wrapper(&self) -> String {
        format!(
            "(echo started; exec sleep 1000) > '{}' < /dev/null 2> /dev/null & {}",
            self.path,
            adapter(r#""toy""#, "wait")
        )
    }

    /// Reports the line, and the end. Opens the pipe before anything is started.
    fn follow(&self) -> (mpsc::Receiver<()>, mpsc::Receiver<()>) {
        let path = self.path.clone();
        let (start, started) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(std::fs::File::open(path).expect("the pipe"));
            let mut line = String::new();
            lines.read_line(&mut line).expect("a line");
            assert_eq!(line, "started\n");
            let _ = start.send(());
            lines.read_to_end(&mut Vec::new()).expect("the end");
            let _ = end.send(());
        });
        (started, ended)
    }
}

/// `smoke` on an adapter that delegates to another program.
fn smoke(fifo: &Fifo, timeout: &str) -> Child {
    command(&["smoke", "--timeout", timeout, "--", "sh", "-c"])
        .arg(fifo.wrapper())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program")
}

fn wait(child: &mut Child) -> Option<i32> {
    child.wait().expect("a status").code()
}

#[test]
fn what_a_wrapper_started_ends_with_it() {
    let fifo = Fifo::new();
    let (started, ended) = fifo.follow();
    let mut child = smoke(&fifo, "0.2");
    started.recv_timeout(LIMIT).expect("it starts");
    ended.recv_timeout(LIMIT).expect("it ends");
    assert_eq!(wait(&mut child), Some(1));
}

#[test]
fn a_signal_ends_what_was_started_too() {
    let fifo = Fifo::new();
    let (started, ended) = fifo.follow();
    let mut child = smoke(&fifo, "600");
    started.recv_timeout(LIMIT).expect("it starts");
    let id = child.id().to_string();
    // Instead of Ctrl-C, which background jobs ignore.
    let sent = Command::new("kill").args(["-s", "TERM", &id]).status();
    assert!(sent.expect("kill").success());
    ended.recv_timeout(LIMIT).expect("it ends");
    assert_eq!(wait(&mut child), Some(143));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_and_ends_with_3() {
    let full = || {
        let file = std::fs::OpenOptions::new().write(true).open("/dev/full");
        Stdio::from(file.expect("/dev/full"))
    };
    let run = ["run", "--no-live", "--id", "encoding.uint.decode.0"];
    for arguments in [
        &run[..],
        &["list"],
        &["show", "encoding.uint.decode.0"],
        &["explain", "00"],
    ] {
        let mut command = command(arguments);
        let output = output({
            command.stdout(full()).stderr(Stdio::piped());
            command
        });
        let said = text(&output);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        assert!(said.contains("cannot write stdout: "), "{said}");
        // Nor does it panic if it cannot even complain.
        let mut command = self::command(arguments);
        let status = command.stdout(full()).stderr(full()).status();
        assert_eq!(
            status.expect("the program").code(),
            Some(3),
            "{arguments:?}"
        );
    }
    for option in ["--json", "--junit", "--html"] {
        let output = output(command(&[&run[..], &[option, "/dev/full"]].concat()));
        let said = text(&output);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("cannot write /dev/full: "), "{said}");
        assert!(said.contains("PASSED hypercore-protocol"), "{said}");
    }
}

#[test]
fn a_pipe_that_is_closed_early_is_no_trouble() {
    let mut child = command(&["list"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the program");
    assert_eq!(text(&output), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_report_that_cannot_be_written_is_told_before_anything_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let (started, report) = (
        folder.path().join("started"),
        folder.path().join("no/report"),
    );
    let script = format!("touch '{}'", started.display());
    for option in ["--json", "--junit", "--html"] {
        let output = output(check(&[option, report.to_str().expect("a path")], &script));
        let said = text(&output);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("no/report: "), "{said}");
        assert!(!started.exists(), "{option}");
    }
    let output = output(command(&[
        "matrix",
        "--json",
        report.to_str().expect("a path"),
    ]));
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("no/report: "), "{}", text(&output));
}

/// An npm that counts its calls, and fails.
fn npm(folder: &Path, complaint: &str) -> std::ffi::OsString {
    use std::os::unix::fs::PermissionsExt as _;
    let npm = folder.join("npm");
    let script = format!(
        "#!/bin/sh\necho x >> '{}'\nprintf '%s\\n' {complaint} >&2\nexit 1\n",
        folder.join("calls").display()
    );
    std::fs::write(&npm, script).expect("written");
    std::fs::set_permissions(&npm, std::fs::Permissions::from_mode(0o755)).expect("made a program");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).expect("a PATH")
}

/// Whether the Node peers are installed; where `CI` is set, they must be.
fn has_node() -> bool {
    match hypercore_conformance::node::ensure_node_modules() {
        Ok(_) => true,
        Err(error) if std::env::var_os("CI").is_some() => panic!("{error}"),
        Err(error) => {
            eprintln!("NOT RUN: a test of matrix, because {error}");
            false
        }
    }
}

fn matrix(folder: &Path, releases: &[&str], complaint: &str) -> (Option<i32>, String, usize) {
    let cache = folder.join("cache");
    let mut command = command(&[
        "matrix",
        "--implementation",
        "reference",
        "--part",
        "drift",
        "--cache",
    ]);
    command.arg(&cache).env("PATH", npm(folder, complaint));
    for release in releases {
        command.args(["--release", release]);
    }
    let output = output(command);
    let calls = std::fs::read_to_string(folder.join("calls")).unwrap_or_default();
    (output.status.code(), text(&output), calls.lines().count())
}

#[test]
fn a_registry_that_refuses_is_asked_once_and_told() {
    if !has_node() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let complaint = "'npm error code ECONNREFUSED' 'npm error \u{1b}[2Jconnect'";
    let (code, said, calls) = matrix(folder.path(), &["latest", "^10", "~11.5"], complaint);
    assert_eq!((code, calls), (Some(3), 1), "{said}");
    assert!(
        said.contains("asking npm's registry for hypercore@latest"),
        "{said}"
    );
    assert!(
        said.contains("npm does not reach its registry: code ECONNREFUSED"),
        "{said}"
    );
    is_harmless(&said);
}

#[test]
fn a_cache_on_a_full_disk_is_not_as_expected() {
    if !has_node() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let complaint = "'npm error code ENOSPC' 'npm error nospc no space left on device'";
    let (code, said, calls) = matrix(folder.path(), &["11.0.0"], complaint);
    assert_eq!(code, Some(3), "{said}");
    assert!(calls > 0, "{said}");
    assert!(said.contains("npm cannot work here: code ENOSPC"), "{said}");
    assert!(!said.contains("AS EXPECTED"), "{said}");
}

/// Runs the program with limits of memory and time that kill it when exceeded.
fn within(mebibytes: usize, cpu_seconds: usize, arguments: &[&str], input: &str) -> Output {
    let limits = format!(
        "ulimit -v {} && ulimit -t {cpu_seconds} && exec \"$0\" \"$@\"",
        mebibytes << 10
    );
    let mut child = Command::new("sh")
        .args(["-c", &limits, PROGRAM])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sh");
    let mut stdin = child.stdin.take().expect("stdin");
    let input = input.to_owned();
    let fed = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().expect("the program");
    fed.join().expect("fed");
    output
}

/// The number of bytes to explain: a record has up to 16 MiB.
const BYTES: usize = 2 << 20;

#[cfg(target_os = "linux")]
#[test]
fn explaining_takes_a_small_multiple_of_the_input() {
    let zeros = "00".repeat(BYTES);
    let unknown = "0000".to_owned() + "01" + &"0105".repeat(BYTES / 2);
    // Batches nested to the limit, and then messages of one byte on an unopened channel.
    let nested = "000001".to_owned() + &"0300000101".repeat(BYTES / 5);
    // One extension with a long name, and then millions that reuse it.
    let name = "61".repeat(1 << 20);
    let extensions =
        "000001".to_owned() + "fe05001000" + "09fe00001000" + &name + &"020900".repeat(BYTES / 3);
    // An open with the longest name, and messages on it.
    let items = "000001".to_owned() + &"0100".repeat(BYTES / 2);
    for (what, layer, hex) in [
        ("zeros", "mux", &zeros),
        ("unknown types", "mux", &unknown),
        ("nested batches", "mux", &nested),
        ("one long name", "mux", &extensions),
        ("items of one byte", "mux", &items),
        ("zeros", "frame", &zeros),
        ("zeros", "manifest", &zeros),
    ] {
        // The text, the digits and the bytes take five times the input; the program and its threads 160 MiB of address
        // space.
        let output = within(
            160 + 16 * (BYTES >> 20),
            20,
            &["explain", "--layer", layer, "-"],
            hex,
        );
        let said = text(&output);
        assert!(
            output.status.success(),
            "{what} as {layer}: {:?} {said:.400}",
            output.status
        );
        assert!(
            said.len() < 64 << 10,
            "{what} as {layer}: {} bytes",
            said.len()
        );
        assert!(!said.is_empty(), "{what}");
    }
}

/// Pseudo-random numbers, the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    /// Changes, duplicates, truncates or splices some bytes.
    fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
        const PIECES: [&[u8]; 12] = [
            b"null",
            b"-1",
            b"1e999",
            b"18446744073709551616",
            b"\"\"",
            b"[",
            b"}",
            b"\xff\xfe",
            b"\0",
            b"\\ud800",
            b"{\"id\":0}",
            b"[[[[[[[[[[[[[[[[",
        ];
        let mut bytes = seed.to_vec();
        for _ in 0..1 + self.below(4) {
            let (at, piece) = (self.below(bytes.len()), PIECES[self.below(PIECES.len())]);
            match self.below(5) {
                0 => bytes.truncate(at),
                1 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                2 => drop(bytes.splice(at..at, piece.iter().copied())),
                3 => {
                    let end = (at + 1 + self.below(12)).min(bytes.len());
                    drop(bytes.splice(at..end, piece.iter().copied()));
                }
                _ => {
                    let end = (at + self.below(40)).min(bytes.len());
                    let copied = bytes[at..end].to_vec();
                    drop(bytes.splice(at..at, copied));
                }
            }
        }
        bytes
    }
}

#[test]
fn readers_take_any_bytes_and_give_errors_that_do_no_harm() {
    use hypercore_conformance::adapter::{Hello, Outcome, read_answer};
    use hypercore_conformance::dissect::{Conversation, Kind, Side, dissect};
    use hypercore_conformance::matrix::report::MatrixReport;
    use hypercore_conformance::report::html;
    use hypercore_conformance::report::model::{Column, Report};
    use hypercore_conformance::run::expected::Expected;
    use hypercore_conformance::vectors::VectorFile;

    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/frame/frame.json");
    let vectors = std::fs::read(vectors).expect("vectors");
    let report = Report::of(Column::unavailable("n", "why"))
        .to_json()
        .into_bytes();
    let matrix = br#"{"format":1,"kind":"matrix","suite":{"name":"s","version":"1"},"set":"default","cells":[],"checks":["a"]}"#;
    let record = hex::decode("000001000100").expect("hex");
    let list = b"[[expected]]\nid = \"a.*\"\nreason = \"r\"\nlink = \"l\"\n";
    let answer =
        br#"{"id":3,"ok":{"protocol":1,"name":"n","version":"v","ops":["a.b"],"live":true}}"#;
    let refusal = br#"{"id":3,"error":{"layer":"l","class":"c","message":"m","offset":1}}"#;
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let harmless = |error: String| assert!(!error.contains('\x1b'), "{error:?}");
    for round in 0..1500 {
        for seed in [&answer[..], refusal] {
            match read_answer(&numbers.mutate(seed), 3) {
                Ok(Outcome::Ok(value)) => match Hello::from_value(&value) {
                    Ok(hello) => harmless(hello.title()),
                    Err(error) => harmless(error.to_string()),
                },
                Ok(_) => {}
                Err(error) => harmless(error.to_string()),
            }
        }
        let text = String::from_utf8_lossy(&numbers.mutate(&report)).into_owned();
        match Report::read(&text) {
            Ok(report) => assert!(!html::page(&report).is_empty()),
            Err(error) => drop(error.to_string()),
        }
        drop(MatrixReport::parse(&numbers.mutate(matrix)));
        let text = String::from_utf8_lossy(&numbers.mutate(list)).into_owned();
        drop(Expected::parse(Path::new("list.toml"), &text));
        if round % 50 == 0 {
            drop(serde_json::from_slice::<VectorFile>(
                &numbers.mutate(&vectors),
            ));
        }
        let bytes = hypercore_protocol::Buffer::from(numbers.mutate(&record));
        for kind in [
            Kind::Record,
            Kind::Manifest,
            Kind::Handshake,
            Kind::MultiSignature,
        ] {
            assert_eq!(dissect(kind, &bytes).length, bytes.len());
        }
        assert_eq!(
            Conversation::new().record(Side::Left, &bytes).length,
            bytes.len()
        );
    }
}

/// One end of an encrypted stream over a blocking socket.
struct End {
    stream: std::net::TcpStream,
    transport: hypercore_protocol::Transport,
}

impl End {
    fn new(stream: std::net::TcpStream, is_initiator: bool) -> Self {
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.set_write_timeout(Some(LIMIT)).expect("a limit");
        let config = hypercore_protocol::TransportConfig::new(is_initiator);
        let transport = hypercore_protocol::Transport::new(config).expect("a transport");
        let mut end = Self { stream, transport };
        end.flush();
        while !end.transport.is_established() {
            end.receive();
        }
        end
    }

    fn flush(&mut self) {
        let bytes = self.transport.take_transmit();
        self.stream.write_all(&bytes).expect("written");
    }

    fn receive(&mut self) {
        let mut chunk = vec![0; 1 << 16];
        let count = self.stream.read(&mut chunk).expect("read");
        assert_ne!(count, 0, "the other end is gone");
        self.transport.receive(&chunk[..count]).expect("received");
        self.flush();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_record_of_nothing_but_zeros_passes_the_proxy_in_a_small_multiple_of_its_length() {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("trace");
    let upstream = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = upstream.local_addr().expect("an address").to_string();
    let limits = format!(
        "ulimit -v {} && exec \"$0\" \"$@\"",
        (300 + 16 * (BYTES >> 20)) << 10
    );
    let mut proxy = Command::new("sh")
        .args([
            "-c",
            &limits,
            PROGRAM,
            "proxy",
            "--upstream",
            &address,
            "--trace",
        ])
        .arg(&trace)
        // Otherwise each thread would reserve 64 MiB of address space.
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh");
    let mut listens = String::new();
    let mut lines = BufReader::new(proxy.stdout.take().expect("stdout"));
    lines.read_line(&mut listens).expect("an address");
    let record = vec![0; BYTES];
    let sent = record.clone();
    let dialer = std::thread::spawn(move || {
        let stream = std::net::TcpStream::connect(listens.trim()).expect("connected");
        let mut end = End::new(stream, true);
        end.transport.send_record(&sent).expect("sealed");
        end.flush();
        end
    });
    let mut end = End::new(upstream.accept().expect("dialled").0, false);
    let passed = loop {
        match end.transport.poll_record() {
            Some(record) => break record,
            None => end.receive(),
        }
    };
    assert!(passed.as_slice() == record, "it passes as it came");
    drop((dialer.join().expect("sent"), end, proxy.stdin.take()));
    assert_eq!(wait(&mut proxy), Some(0));
    let trace = std::fs::read_to_string(&trace).expect("a trace");
    assert!(trace.len() < 8 << 20, "{} bytes", trace.len());
    assert!(trace.contains("passed on as it came"), "{trace:.400}");
}
