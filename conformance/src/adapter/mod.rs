//! Implementations under test, and the JSON lines that they exchange.
//!
//! An adapter is any program that reads one JSON request per line on stdin and writes one JSON answer per line on
//! stdout:
//!
//! ```text
//! {"id":1,"op":"frame.decode","input":{…}}
//! {"id":1,"ok":{…}}  or  {"id":1,"error":{"layer":"frame","class":"truncated",…}}  or  {"id":1,"unsupported":true}
//! ```
//!
//! The first request is `hello`, and only the operations that its answer declares are requested. A crash, a time-out, a
//! line that is not JSON and an answer to another request cost only the current case: the program is killed, and the
//! next call starts a fresh one.

mod in_process;
mod json;
mod process;
mod schema;

use std::path::PathBuf;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

use crate::foreign::{self, MAX_MESSAGE, MAX_NAME};

pub(crate) use in_process::answer_line;
pub use in_process::{Implementation, InProcess, serve};
pub use json::{MAX_VALUES, read_json};
pub(crate) use process::request_line;
pub use process::{AdapterProcess, DEFAULT_MAX_LINE, Reach};
pub use schema::MessageSchema;

/// The newest version of the adapter protocol that this suite speaks.
pub const PROTOCOL: u64 = 1;

/// All versions that it supports, oldest first: `hello` offers them, and the adapter picks one.
pub const PROTOCOLS: [u64; 1] = [PROTOCOL];

/// The default time-out of a request.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The most operations that `hello` may declare; the protocol has about sixty.
const MAX_OPS: usize = 10_000;

/// How much of an invalid line errors quote, in bytes.
const QUOTED: usize = 200;

/// The beginning of a line, for error messages.
fn beginning(line: &[u8]) -> String {
    let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let shown = String::from_utf8_lossy(&line[..line.len().min(QUOTED)]);
    match line.len().saturating_sub(QUOTED) {
        0 => foreign::line(&shown).into_owned(),
        more => format!("{}… ({more} bytes more)", foreign::line(&shown)),
    }
}

/// What an implementation answered to one request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The operation succeeded with this output.
    Ok(Value),
    /// The operation was refused: an object with `layer`, `class` and `message`, and if known `offset`, `field`, `step`
    /// or `record`.
    Error(Value),
    /// The implementation does not know the operation.
    Unsupported,
}

impl Outcome {
    /// An error with the three mandatory fields.
    pub fn error(layer: &str, class: &str, message: impl Into<String>) -> Self {
        Self::Error(json!({ "layer": layer, "class": class, "message": message.into() }))
    }

    /// The answer to the request `id`, as a JSON object.
    pub fn into_answer(self, id: u64) -> Value {
        let (name, value) = match self {
            Self::Ok(value) => ("ok", value),
            Self::Error(value) => ("error", value),
            Self::Unsupported => ("unsupported", Value::Bool(true)),
        };
        // `json!` would copy outputs of 32 MiB.
        let mut answer = Map::new();
        answer.insert("id".into(), id.into());
        answer.insert(name.into(), value);
        Value::Object(answer)
    }
}

/// An adapter's answer to `hello`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hello {
    /// The implementation's name.
    pub name: String,
    /// The implementation's own version.
    pub version: String,
    /// The language it is written in.
    pub language: String,
    /// The release of Node's hypercore that this is, if any: the behaviour recorded from that release is then expected
    /// of it.
    pub release: Option<String>,
    /// The operations that it supports.
    pub ops: Vec<String>,
    /// Whether it can open connections to live peers.
    pub live: bool,
}

impl Hello {
    /// Whether the operation `op` was declared.
    pub fn knows(&self, op: &str) -> bool {
        self.ops.iter().any(|known| known == op)
    }

    /// Name, version, release and language in a few words.
    pub fn title(&self) -> String {
        let mut more = Vec::new();
        if let Some(release) = &self.release
            && *release != self.version
        {
            more.push(format!("hypercore {release}"));
        }
        if !self.language.is_empty() {
            more.push(self.language.clone());
        }
        let more = if more.is_empty() {
            String::new()
        } else {
            format!(" ({})", more.join(", "))
        };
        format!("{} {}", self.name, self.version)
            .trim_end()
            .to_owned()
            + &more
    }

    /// The answer to `hello`, as JSON.
    pub fn to_value(&self) -> Value {
        json!({
            "protocol": PROTOCOL,
            "name": self.name,
            "version": self.version,
            "language": self.language,
            "release": self.release,
            "ops": self.ops,
            "live": self.live,
        })
    }

    /// Parses the untrusted answer to `hello`: everything that reports and the terminal show later is limited to one
    /// line, without control characters, and of bounded length.
    ///
    /// # Errors
    /// If a field is missing or of another type, if a name has more than [`MAX_NAME`] characters, or if there are more
    /// than 10,000 operations.
    pub fn from_value(value: &Value) -> Result<Self, Failure> {
        let invalid = |reason: &str| Failure::Invalid {
            reason: format!("hello: {reason}"),
        };
        let clean = |what: &str, text: &str| match text.chars().nth(MAX_NAME) {
            None => Ok(foreign::line(text).into_owned()),
            Some(_) => Err(invalid(&format!(
                "{what} has {} bytes; at most {MAX_NAME} characters are taken",
                text.len()
            ))),
        };
        let text = |name: &str| {
            let text = value.get(name).and_then(Value::as_str);
            text.map(|text| clean(name, text)).transpose()
        };
        match value.get("protocol").and_then(Value::as_u64) {
            Some(version) if PROTOCOLS.contains(&version) => {}
            Some(version) => return Err(Failure::version(&[version])),
            None => return Err(invalid("no protocol version")),
        }
        let ops = value
            .get("ops")
            .and_then(Value::as_array)
            .ok_or_else(|| invalid("no list of ops"))?;
        if ops.len() > MAX_OPS {
            let count = ops.len();
            return Err(invalid(&format!(
                "{count} ops; at most {MAX_OPS} are taken"
            )));
        }
        let ops = ops
            .iter()
            .map(|op| match op.as_str() {
                Some(op) => clean("an op", op),
                None => Err(invalid("an op is not a string")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name: text("name")?.ok_or_else(|| invalid("no name"))?,
            version: text("version")?.unwrap_or_default(),
            language: text("language")?.unwrap_or_default(),
            release: text("release")?,
            ops,
            live: value.get("live").and_then(Value::as_bool).unwrap_or(false),
        })
    }
}

/// Why an adapter gave no usable answer.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum Failure {
    /// The program could not be started.
    #[error("cannot start `{command}`: {reason}")]
    Start {
        /// The command line.
        command: String,
        /// The operating system's error.
        reason: String,
    },
    /// The program ended, or closed its stdout, before it answered.
    #[error("the adapter ended before it answered ({status})")]
    Crashed {
        /// Its exit status, as far as known.
        status: String,
    },
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// No answer in time, but an unfinished line.
    #[error(
        "no answer within {} s, for the line that came is not ended by a line break: {line}",
        .limit.as_secs_f32()
    )]
    Unfinished {
        /// The beginning of the line.
        line: String,
        /// The time-out.
        limit: Duration,
    },
    /// Not requested, because too many earlier requests timed out.
    #[error("not asked: {count} answers to {what} did not come within {} s", .limit.as_secs_f32())]
    NotAsked {
        /// The number of time-outs.
        count: usize,
        /// The requests that timed out.
        what: String,
        /// The time-out.
        limit: Duration,
    },
    /// The answer is not a line of JSON.
    #[error("the answer is not JSON: {reason}: {line}")]
    NotJson {
        /// The beginning of the line.
        line: String,
        /// The parser's error.
        reason: String,
    },
    /// The answer is to another request.
    #[error("the answer is to request {got}, not to {expected}")]
    WrongId {
        /// The id of the request.
        expected: u64,
        /// The id of the answer, as JSON.
        got: String,
    },
    /// The answer is JSON, but does not follow the protocol.
    #[error("the answer is not of the protocol: {reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// The answer violates the schema.
    #[error("the answer is not what the schema says: {reason}")]
    Schema {
        /// What is wrong with it.
        reason: String,
    },
    /// There was more on stdout than the answer.
    #[error("the request was answered, and then came a line that nobody asked for: {line}")]
    Unasked {
        /// The beginning of the extra line.
        line: String,
    },
    /// The suite and the adapter have no version of the protocol in common.
    #[error("{reason}")]
    Version {
        /// Which side is too old.
        reason: String,
    },
}

impl Failure {
    /// The adapter speaks the versions `spoken`, none of which the suite does.
    fn version(spoken: &[u64]) -> Self {
        let list = |versions: &[u64]| {
            let texts: Vec<String> = versions.iter().map(u64::to_string).collect();
            texts.join(", ")
        };
        let older = spoken.iter().all(|&version| version < PROTOCOLS[0]);
        let newer = spoken.iter().all(|&version| version > PROTOCOL);
        let advice = match (older, newer) {
            (true, _) => "the adapter is too old: update it to ADAPTER.md of this suite",
            (_, true) => "the suite is too old: update hypercore-conformance",
            _ => "the adapter has to pick one that was offered",
        };
        Self::Version {
            reason: format!(
                "the adapter speaks version {} of the adapter protocol and the suite {}; {advice}",
                list(spoken),
                list(&PROTOCOLS)
            ),
        }
    }

    /// Whether it is a time-out.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut(_) | Self::Unfinished { .. })
    }

    /// A short name for reports: `crash`, `timeout`, `not-asked`, `not-json`, `wrong-id`, `invalid-answer`, `schema`, `unasked`,
    /// `version` or `start`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Crashed { .. } => "crash",
            Self::TimedOut(_) | Self::Unfinished { .. } => "timeout",
            Self::NotAsked { .. } => "not-asked",
            Self::NotJson { .. } => "not-json",
            Self::WrongId { .. } => "wrong-id",
            Self::Invalid { .. } => "invalid-answer",
            Self::Schema { .. } => "schema",
            Self::Unasked { .. } => "unasked",
            Self::Version { .. } => "version",
        }
    }
}

/// A target for the operations of the adapter protocol.
pub trait Adapter: Send {
    /// Requests `hello`, starting the program if necessary.
    fn hello(&mut self) -> BoxFuture<'_, Result<Hello, Failure>>;

    /// The time-out of each request.
    fn timeout(&self) -> Duration;

    /// Requests one operation; `input` has no `repeat` or `concat` left in it.
    fn call<'a>(
        &'a mut self,
        op: &'a str,
        input: &'a Value,
    ) -> BoxFuture<'a, Result<Outcome, Failure>> {
        let limit = self.timeout();
        self.call_within(op, input, limit)
    }

    /// As [`Adapter::call`], with a time-out of its own.
    fn call_within<'a>(
        &'a mut self,
        op: &'a str,
        input: &'a Value,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Outcome, Failure>>;

    /// Shuts it down as the protocol specifies.
    fn finish(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    /// The unrequested line, if any, that came after an earlier answer.
    fn take_unasked(&mut self) -> Option<String> {
        None
    }

    /// Whether it was started by others, so that it does not exit after the last request.
    fn is_attached(&self) -> bool {
        false
    }

    /// The end of its stderr since the last call of this.
    fn take_stderr(&mut self) -> String {
        String::new()
    }
}

/// The command that starts an adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterCommand {
    /// The program, looked up on the PATH.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// The working directory; `None` for the current folder.
    pub folder: Option<PathBuf>,
}

impl AdapterCommand {
    /// A program and its arguments.
    pub fn new(
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            folder: None,
        }
    }

    /// Splits a command line as a shell would: words, quotes and backslashes, nothing else.
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut words = split_words(line)?.into_iter();
        let program = words.next().ok_or("the command is empty")?;
        Ok(Self::new(program, words))
    }

    /// This program's reference implementation, served over a pipe as any other.
    pub fn reference() -> std::io::Result<Self> {
        Ok(Self::new(std::env::current_exe()?, ["adapter"]))
    }
}

impl std::fmt::Display for AdapterCommand {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.program.display())?;
        self.args.iter().try_for_each(|arg| write!(out, " {arg}"))
    }
}

fn split_words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some('\''), _) => word.get_or_insert_default().push(c),
            (_, '\\') => word
                .get_or_insert_default()
                .push(chars.next().ok_or("a backslash at the end")?),
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    words.extend(word);
    Ok(words)
}

/// Parses the answer to the request `id` from a line, without its line break: any bytes that an adapter wrote.
///
/// This is everything that such bytes pass before they are judged, and so the entry point of a fuzzer; the answer to
/// `hello` also passes [`Hello::from_value`].
///
/// # Errors
/// If the line is not JSON, holds more than [`MAX_VALUES`] values or nests them deeper than 127 times, answers another
/// request, or does not follow the protocol.
pub fn read_answer(line: &[u8], id: u64) -> Result<Outcome, Failure> {
    parse_answer(read_json(line)?, id)
}

fn parse_answer(answer: Value, id: u64) -> Result<Outcome, Failure> {
    let Value::Object(mut answer) = answer else {
        return Err(Failure::Invalid {
            reason: "it is not an object".into(),
        });
    };
    match answer.remove("id") {
        Some(got) if got.as_u64() == Some(id) => {}
        got => {
            let got = got.map_or_else(
                || "none".to_owned(),
                |got| foreign::short(&got.to_string(), MAX_NAME).into_owned(),
            );
            return Err(Failure::WrongId { expected: id, got });
        }
    }
    parse_outcome(answer)
}

fn parse_outcome(mut answer: Map<String, Value>) -> Result<Outcome, Failure> {
    let invalid = |reason: &str| {
        Err(Failure::Invalid {
            reason: reason.to_owned(),
        })
    };
    let (ok, error, unsupported) = (
        answer.remove("ok"),
        answer.remove("error"),
        answer.remove("unsupported"),
    );
    match (ok, error, unsupported) {
        (Some(value), None, None) => Ok(Outcome::Ok(value)),
        (None, Some(mut error), None) => {
            let has = |name: &str| error.get(name).is_some_and(Value::is_string);
            if !has("layer") || !has("class") {
                return invalid("an error without a layer or a class");
            }
            // Only layer and class are compared; the rest is shown in reports and on terminals.
            for (name, most) in [
                ("layer", MAX_NAME),
                ("class", MAX_NAME),
                ("field", MAX_NAME),
                ("message", MAX_MESSAGE),
            ] {
                if let Some(Value::String(text)) = error.get_mut(name) {
                    *text = foreign::short(text, most).into_owned();
                }
            }
            Ok(Outcome::Error(error))
        }
        (None, None, Some(Value::Bool(true))) => Ok(Outcome::Unsupported),
        (None, None, None) => invalid("none of ok, error and unsupported"),
        _ => invalid("more than one of ok, error and unsupported"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_command_lines_like_a_shell() {
        let words = |line| split_words(line).expect(line);
        assert_eq!(words("node  a.js --x"), ["node", "a.js", "--x"]);
        assert_eq!(
            words(r#"python3 -c 'a "b" \c' "d \" e" '' f\ g"#),
            ["python3", "-c", r#"a "b" \c"#, "d \" e", "", "f g"]
        );
        assert!(split_words("'open").is_err());
        assert!(split_words("end\\").is_err());
        assert!(AdapterCommand::parse("  ").is_err());
    }

    #[test]
    fn an_answer_must_be_to_the_request_and_say_one_thing() {
        assert_eq!(
            read_answer(br#"{"id":3,"ok":{"a":1}}"#, 3),
            Ok(Outcome::Ok(json!({ "a": 1 })))
        );
        assert_eq!(
            read_answer(br#"{"id":3,"unsupported":true}"#, 3),
            Ok(Outcome::Unsupported)
        );
        let kind = |line: &str| read_answer(line.as_bytes(), 3).expect_err(line).kind();
        assert_eq!(kind("{"), "not-json");
        assert_eq!(kind("[]"), "invalid-answer");
        assert_eq!(kind(r#"{"id":4,"ok":1}"#), "wrong-id");
        assert_eq!(kind(r#"{"ok":1}"#), "wrong-id");
        assert_eq!(kind(r#"{"id":3}"#), "invalid-answer");
        assert_eq!(kind(r#"{"id":3,"unsupported":false}"#), "invalid-answer");
        assert_eq!(
            kind(r#"{"id":3,"ok":1,"error":{"layer":"a","class":"b"}}"#),
            "invalid-answer"
        );
        assert_eq!(kind(r#"{"id":3,"error":{"layer":"a"}}"#), "invalid-answer");
    }

    #[test]
    fn names_are_clean_and_short_and_not_many() {
        let hello = |name: &str, ops: Vec<String>| {
            Hello::from_value(&json!({ "protocol": 1, "name": name, "ops": ops, "version": name }))
        };
        let clean = hello("a\n::error::b\u{1b}[2J\u{202e}", Vec::new()).expect("a name");
        assert_eq!(
            clean.title(),
            r"a\n::error::b\x1b[2J\u{202e} a\n::error::b\x1b[2J\u{202e}"
        );
        assert!(hello(&"n".repeat(200), vec!["a.b".into(); 10_000]).is_ok());
        let told = |hello: Result<Hello, Failure>| hello.expect_err("refused").to_string();
        assert!(told(hello(&"n".repeat(201), Vec::new())).contains("at most 200 characters"));
        assert!(told(hello("n", vec!["o".repeat(201)])).contains("an op has 201 bytes"));
        assert!(told(hello("n", vec![String::new(); 10_001])).contains("10001 ops"));
    }

    #[test]
    fn what_an_error_says_is_cut_off_and_does_no_harm() {
        let message = format!("\u{1b}[2J{}", "m".repeat(1 << 20));
        let line = json!({ "id": 3, "error": { "layer": "l", "class": "c", "message": message } });
        let answer = read_answer(line.to_string().as_bytes(), 3);
        let Ok(Outcome::Error(error)) = answer else {
            panic!("no error");
        };
        let message = error["message"].as_str().expect("a message");
        assert!(
            message.starts_with(r"\x1b[2Jmmm") && message.len() < 2100,
            "{message}"
        );
    }

    #[test]
    fn a_version_that_only_one_side_speaks_is_told() {
        let hello = |protocol: Value| {
            Hello::from_value(&json!({ "protocol": protocol, "name": "toy", "ops": [] }))
        };
        assert!(hello(json!(1)).is_ok());
        let told = |protocol: u64| hello(json!(protocol)).expect_err("a version").to_string();
        assert!(told(2).contains("the suite is too old"), "{}", told(2));
        assert!(told(0).contains("the adapter is too old"), "{}", told(0));
        let either = Failure::version(&[0, 2]).to_string();
        assert!(either.contains("pick one"), "{either}");
    }

    struct Toy;

    impl Implementation for Toy {
        fn hello(&self) -> Hello {
            Hello {
                name: "toy".into(),
                version: "1".into(),
                ops: vec!["echo".into()],
                ..Hello::default()
            }
        }

        fn call(&mut self, op: &str, input: &Value) -> Outcome {
            match op {
                "echo" => Outcome::Ok(input.clone()),
                "panic" => panic!("on purpose"),
                "hang" => loop {
                    std::thread::park();
                },
                _ => Outcome::Unsupported,
            }
        }
    }

    #[tokio::test]
    async fn a_panic_or_a_hang_in_process_costs_one_call() {
        let mut toy = InProcess::new(|| Toy);
        assert_eq!(toy.hello().await.expect("hello").name, "toy");
        assert_eq!(toy.call("echo", &json!(1)).await, Ok(Outcome::Ok(json!(1))));
        assert_eq!(
            toy.call("panic", &json!(1))
                .await
                .expect_err("a panic")
                .kind(),
            "crash"
        );
        assert_eq!(toy.call("echo", &json!(2)).await, Ok(Outcome::Ok(json!(2))));
        assert_eq!(
            toy.call_within("hang", &json!(1), Duration::from_millis(200))
                .await
                .expect_err("a hang")
                .kind(),
            "timeout"
        );
        assert_eq!(toy.call("echo", &json!(3)).await, Ok(Outcome::Ok(json!(3))));
        assert_eq!(
            toy.call("nonsense", &json!(3)).await,
            Ok(Outcome::Unsupported)
        );
    }

    #[test]
    fn serves_json_lines() {
        let asked = concat!(
            r#"{"id":0,"op":"hello","input":{"protocols":[1,2]}}"#,
            "\n",
            r#"{"id":1,"op":"echo","input":{"a":[1,"ff"]}}"#,
            "\n",
            r#"{"id":2,"op":"nonsense","input":{}}"#,
            "\n",
            r#"{"id":3,"op":"hello","input":{"protocols":[7]}}"#,
            "\n",
            "nonsense\n",
        );
        let mut answered = Vec::new();
        serve(&mut Toy, asked.as_bytes(), &mut answered).expect("serves");
        let lines: Vec<Value> = String::from_utf8(answered)
            .expect("text")
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines[0]["ok"]["name"], "toy");
        assert_eq!(lines[1], json!({ "id": 1, "ok": { "a": [1, "ff"] } }));
        assert_eq!(lines[2], json!({ "id": 2, "unsupported": true }));
        assert_eq!(lines[3]["error"]["class"], "protocol-version");
        assert_eq!(lines[3]["error"]["protocols"], json!([1]));
        assert_eq!(lines[4]["error"]["class"], "bad-input");
    }
}
