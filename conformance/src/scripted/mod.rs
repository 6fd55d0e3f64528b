//! The scripted peer and its deviations.
//!
//! One peer, built on the crate's layers, dials an implementation or listens for it, and follows a script. There are
//! two kinds of scripts:
//!
//! - `conformance/scripts.toml`: whole conversations, message by message, with the expected messages and events;
//! - `conformance/deviations.toml`: a correct peer with one named fault. Node's reaction is recorded from
//!   live Node in `conformance/deviations.json`, and the implementation's is compared with it.
//!
//! Scripts are TOML with a step per line: a conversation reads from top to bottom without the boilerplate of Gherkin, one
//! made of data only can be changed without Rust, and wrong bytes are written as bytes.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

mod bytes;
pub(crate) mod command;
mod fixed;
mod layer;
mod play;
mod reaction;
mod record;
mod recorded;
mod script;
mod transcript;
mod wire;

pub(crate) use play::PROBE;

pub use layer::{Config, Item, LAYER, SCRIPT_LAYER, items, run};
pub use reaction::{End, Reaction, Tolerated};

use script::Line;

/// A file of this repository, or the copy built into the program if the repository is absent.
#[derive(Clone, Copy, Debug)]
struct Data {
    name: &'static str,
    copy: &'static str,
}

const DEVIATIONS: Data = Data {
    name: "deviations.toml",
    copy: include_str!("../../deviations.toml"),
};

const SCRIPTS: Data = Data {
    name: "scripts.toml",
    copy: include_str!("../../scripts.toml"),
};

const RECORDED: Data = Data {
    name: "deviations.json",
    copy: include_str!("../../deviations.json"),
};

impl Data {
    fn path(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(self.name)
    }

    fn text(self) -> String {
        std::fs::read_to_string(self.path()).unwrap_or_else(|_| self.copy.to_owned())
    }
}

/// The role of the implementation under test.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It dials.
    Initiator,
    /// It listens.
    Responder,
}

impl Role {
    const BOTH: [Self; 2] = [Self::Initiator, Self::Responder];
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Initiator => "initiator",
            Self::Responder => "responder",
        })
    }
}

/// The progress of a conversation.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Reached {
    Socket,
    Noise,
    Stream,
    Channel,
}

impl Reached {
    fn script(self) -> &'static str {
        match self {
            Self::Socket => "",
            Self::Noise => "noise",
            Self::Stream => "handshake",
            Self::Channel => "handshake\nmeet A",
        }
    }
}

/// One fault of the peer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Deviation {
    /// Its name.
    pub name: String,
    /// Its layer or subject.
    pub family: String,
    /// The peer's behaviour, in one line.
    pub what: String,
    /// The clauses of the specification that define the reaction.
    pub clauses: Vec<String>,
    given: Reached,
    does: String,
    next: Option<u64>,
    /// A control: valid behaviour that looks like a deviation.
    #[serde(default)]
    pub control: bool,
    /// Why Node's reason for destroying the stream varies; any recorded reason is then accepted.
    pub varies: Option<String>,
    /// Reactions that are accepted as well as Node's.
    #[serde(default)]
    pub tolerated: Vec<Tolerated>,
    /// Why it is never tried on Node.
    pub never_towards_node: Option<String>,
    /// The expected reaction if it is never tried on Node.
    pub required: Option<Reaction>,
}

impl Deviation {
    /// The part of an id that names it.
    pub fn slug(&self) -> String {
        let mut slug = String::new();
        let mut before = None::<char>;
        let mut rest = self.name.chars().peekable();
        while let Some(c) = rest.next() {
            let ends_a_word = |before: char| {
                let word = c.is_ascii_uppercase() && !before.is_ascii_uppercase();
                let letter = c.is_ascii_uppercase()
                    && rest.peek().is_some_and(|next| next.is_ascii_lowercase());
                word || letter || (c.is_ascii_digit() && before.is_ascii_alphabetic())
            };
            if before.is_some_and(ends_a_word) {
                slug.push('-');
            }
            before = Some(c);
            slug.push(c.to_ascii_lowercase());
        }
        slug
    }

    fn given(&self) -> Result<Vec<Line>, String> {
        script::parse(self.given.script())
    }

    fn does(&self) -> Result<Vec<Line>, String> {
        script::parse(&self.does)
    }
}

/// A conversation.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Script {
    /// Its name, part of its id.
    pub name: String,
    /// What it shows, in one line.
    pub what: String,
    /// The clauses of the specification that it tests.
    pub clauses: Vec<String>,
    does: String,
}

impl Script {
    fn does(&self) -> Result<Vec<Line>, String> {
        script::parse(&self.does)
    }
}

/// All deviations, in file order.
///
/// # Errors
/// If the file is invalid.
pub fn deviations() -> Result<Vec<Deviation>, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        deviation: Vec<Deviation>,
    }
    let file: File = toml::from_str(&DEVIATIONS.text())
        .map_err(|error| format!("{}: {error}", DEVIATIONS.name))?;
    Ok(file.deviation)
}

/// All conversations, in file order.
///
/// # Errors
/// If the file is invalid.
pub fn scripts() -> Result<Vec<Script>, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        script: Vec<Script>,
    }
    let file: File =
        toml::from_str(&SCRIPTS.text()).map_err(|error| format!("{}: {error}", SCRIPTS.name))?;
    Ok(file.script)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn deviations_are_in_order() {
        let all = deviations().expect("the file");
        assert!(all.len() >= 100, "{}", all.len());
        let specification = include_str!("../../../vectors/SPECIFICATION.md");
        let mut slugs = HashSet::new();
        for deviation in &all {
            let name = &deviation.name;
            assert!(slugs.insert(deviation.slug()), "twice: {name}");
            assert!(name.starts_with(|c: char| c.is_ascii_uppercase()), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{name}");
            assert!(deviation.what.ends_with('.'), "{name}: {}", deviation.what);
            deviation.given().expect(name);
            assert!(!deviation.does().expect(name).is_empty(), "{name}");
            assert!(!deviation.clauses.is_empty(), "{name}");
            assert_eq!(
                deviation.never_towards_node.is_some(),
                deviation.required.is_some(),
                "{name}"
            );
            for tolerated in &deviation.tolerated {
                assert!(
                    ["alive", "destroyed", "ended"].contains(&&*tolerated.end),
                    "{name}"
                );
            }
            for clause in &deviation.clauses {
                let title = format!("\n### {clause} ");
                assert!(specification.contains(&title), "{name}: {clause}");
            }
        }
    }

    #[test]
    fn conversations_are_in_order() {
        let all = scripts().expect("the file");
        let specification = include_str!("../../../vectors/SPECIFICATION.md");
        let mut names = HashSet::new();
        for script in &all {
            assert!(names.insert(&script.name), "twice: {}", script.name);
            script.does().expect(&script.name);
            for clause in &script.clauses {
                let title = format!("\n### {clause} ");
                assert!(specification.contains(&title), "{}: {clause}", script.name);
            }
        }
    }

    #[test]
    fn slugs_have_a_hyphen_at_each_word() {
        let mut deviation = deviations().expect("the file").remove(0);
        for (name, slug) in [
            ("TruncateFrame", "truncate-frame"),
            ("ChannelId2Pow33", "channel-id-2-pow-33"),
            ("NodeCountAMillion", "node-count-a-million"),
            ("FaultyUtf8Name", "faulty-utf-8-name"),
            ("BatchNested3000", "batch-nested-3000"),
        ] {
            deviation.name = name.into();
            assert_eq!(deviation.slug(), slug);
        }
    }
}
