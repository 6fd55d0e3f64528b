//! The commands `deviations` and `misbehave`.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;

use super::play::{Names, Player};
use super::reaction::{End, Reaction};
use super::record::record;
use super::recorded::{Recorded, recorded};
use super::wire::Wire;
use super::{Deviation, RECORDED, Role, deviations};
use crate::node;
use crate::out;
use crate::term::Paint;

/// How long `misbehave --listen` waits for a connection.
const LISTEN_LIMIT: Duration = Duration::from_secs(600);

/// The result of the command: whether everything is as expected.
pub(crate) type Ended = Result<bool, Fault>;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The arguments are invalid.
    Usage(String),
    /// Something is missing on this machine.
    Environment(String),
}

impl Fault {
    fn environment(reason: impl ToString) -> Self {
        Self::Environment(reason.to_string())
    }
}

#[derive(Args, Debug)]
pub(crate) struct DeviationsArguments {
    /// Only these
    names: Vec<String>,
    /// As JSON, one object a line
    #[arg(long, conflicts_with_all = ["record", "check"])]
    json: bool,
    /// Play them on live Node, and write down how it reacts
    #[arg(long, conflicts_with_all = ["check", "names"])]
    record: bool,
    /// Play them on live Node, and compare with what is written down
    #[arg(long, conflicts_with = "names")]
    check: bool,
}

const MISBEHAVE_HELP: &str = "\
Your program needs no adapter for this: what it does is seen on the wire only. It is asked whether it is alive by an open \
of a protocol that nobody knows, which it has to reject.

Exit codes: 0 the stream is alive or gone as Node's would be, 1 it is not, 2 wrong usage, 3 no connection.";

#[derive(Args, Debug)]
#[command(after_help = MISBEHAVE_HELP)]
pub(crate) struct MisbehaveArguments {
    /// What to do wrong: a name from `deviations`
    #[arg(long, value_name = "NAME")]
    flag: String,
    /// Wait for your program to dial; port 0 takes a free one
    #[arg(long, value_name = "ADDR", group = "where")]
    listen: Option<String>,
    /// Dial your program
    #[arg(
        long,
        value_name = "ADDR",
        group = "where",
        required_unless_present = "listen"
    )]
    dial: Option<String>,
    /// The key of a core that your program has, for what is done on a channel
    #[arg(long, value_name = "HEX", value_parser = crate::proxy::parse_key)]
    key: Option<[u8; 32]>,
}

/// Lists, records or checks.
pub(crate) async fn list(arguments: &DeviationsArguments) -> Ended {
    let all = deviations().map_err(Fault::environment)?;
    if arguments.record || arguments.check {
        return record_or_check(&all, arguments.check).await;
    }
    let unknown = |name: &&String| !all.iter().any(|deviation| deviation.name == **name);
    if let Some(name) = arguments.names.iter().find(unknown) {
        return Err(no_such(name));
    }
    let recorded = recorded().map_err(Fault::environment)?;
    let wanted: Vec<_> = all
        .iter()
        .filter(|deviation| arguments.names.is_empty() || arguments.names.contains(&deviation.name))
        .collect();
    let text = if arguments.json {
        wanted
            .iter()
            .map(|deviation| to_json(deviation, &recorded).to_string() + "\n")
            .collect()
    } else {
        to_text(&wanted, &recorded, &Paint::stdout())
    };
    out::print(&text).map_err(Fault::environment)?;
    Ok(true)
}

fn say(line: impl std::fmt::Display) -> Result<(), Fault> {
    out::say(line).map_err(Fault::environment)
}

fn no_such(name: &str) -> Fault {
    Fault::Usage(format!(
        "there is no deviation {name}; `deviations` lists what there is"
    ))
}

async fn record_or_check(all: &[Deviation], check: bool) -> Ended {
    let folder = node::ensure_node_modules().map_err(Fault::environment)?;
    let now = record(&folder, all, |line| drop(out::say(line)))
        .await
        .map_err(Fault::environment)?;
    if !check {
        let text = now.to_text().map_err(Fault::environment)?;
        out::write_file(&RECORDED.path(), &text).map_err(Fault::environment)?;
        say(format!("{} is written.", RECORDED.name))?;
        return Ok(true);
    }
    let text = std::fs::read_to_string(RECORDED.path()).map_err(Fault::environment)?;
    let before = super::recorded::parse(&text).map_err(Fault::environment)?;
    let varies: Vec<_> = all
        .iter()
        .filter(|deviation| deviation.varies.is_some())
        .map(|deviation| deviation.name.as_str())
        .collect();
    let differences = before.differences(&now, &varies);
    for line in &differences {
        out::note(line);
    }
    if differences.is_empty() {
        say(format!("Node reacts as {} says.", RECORDED.name))?;
        Ok(true)
    } else {
        Ok(false)
    }
}

fn to_json(deviation: &Deviation, recorded: &Recorded) -> serde_json::Value {
    serde_json::json!({
        "name": deviation.name,
        "id": format!("{}.{}", super::LAYER, deviation.slug()),
        "family": deviation.family,
        "what": deviation.what,
        "clauses": deviation.clauses,
        "control": deviation.control,
        "varies": deviation.varies,
        "neverTowardsNode": deviation.never_towards_node,
        "required": deviation.required,
        "node": recorded.seen(&deviation.name),
        "tolerated": deviation.tolerated.iter().map(|other| &other.why).collect::<Vec<_>>(),
    })
}

fn to_text(wanted: &[&Deviation], recorded: &Recorded, paint: &Paint) -> String {
    let mut text = String::new();
    let mut family = "";
    let mut families: Vec<&str> = Vec::new();
    for deviation in wanted {
        if !families.contains(&deviation.family.as_str()) {
            families.push(&deviation.family);
        }
    }
    let mut wanted = wanted.to_vec();
    wanted.sort_by_key(|deviation| families.iter().position(|own| *own == deviation.family));
    for deviation in wanted {
        if deviation.family != family {
            family = &deviation.family;
            let _ = writeln!(
                text,
                "{}{}",
                if text.is_empty() { "" } else { "\n" },
                paint.strong.apply_to(family)
            );
        }
        let control = if deviation.control {
            " (no deviation)"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "  {}{control}\n      {} {}",
            deviation.name,
            deviation.what,
            paint.faint.apply_to(deviation.clauses.join(" "))
        );
        for line in reactions(deviation, recorded) {
            let _ = writeln!(text, "      {line}");
        }
    }
    text
}

/// Node's reactions, in lines; release and role are named if they matter.
fn reactions(deviation: &Deviation, recorded: &Recorded) -> Vec<String> {
    let mut lines = Vec::new();
    let seen = recorded.seen(&deviation.name);
    for seen in seen {
        let mut who = String::from("Node");
        if seen.releases.len() < node::RELEASES.len() {
            let _ = write!(who, " {}", seen.releases.join(" and "));
        }
        if let [role] = seen.roles[..] {
            let _ = write!(who, " as {role}");
        }
        lines.push(format!("{who} {}", seen.reaction));
    }
    if let (Some(why), Some(required)) = (&deviation.never_towards_node, &deviation.required) {
        lines.push(format!("Node is never asked: {why}"));
        lines.push(format!("an implementation {required}"));
    }
    if let Some(why) = &deviation.varies {
        lines.push(format!("or the like: {why}"));
    }
    for tolerated in &deviation.tolerated {
        lines.push(format!("tolerated: {}: {}", tolerated.end, tolerated.why));
    }
    lines
}

/// Directs one deviation at a running program.
pub(crate) async fn misbehave(arguments: &MisbehaveArguments) -> Ended {
    let all = deviations().map_err(Fault::environment)?;
    let deviation = all
        .iter()
        .find(|deviation| deviation.name == arguments.flag)
        .ok_or_else(|| no_such(&arguments.flag))?;
    let (wire, role) = match (&arguments.dial, &arguments.listen) {
        (Some(address), _) => {
            let wire = Wire::dial(address.as_str()).await;
            let wire = wire.map_err(|error| Fault::environment(format!("{address}: {error}")))?;
            (wire, Role::Responder)
        }
        (None, Some(address)) => (listen(address).await?, Role::Initiator),
        (None, None) => return Err(Fault::Usage("--listen or --dial is needed".into())),
    };
    let remote = wire.remote().map(|remote| remote.to_string());
    say(format!("{}: {}", deviation.name, deviation.what))?;
    say(format!("connected to {}", remote.unwrap_or_default()))?;
    let (given, does) = (deviation.given(), deviation.does());
    let (given, does) = (
        given.map_err(Fault::environment)?,
        does.map_err(Fault::environment)?,
    );
    let mut player = Player::bare(wire, Names::new(arguments.key));
    let prepared = player.play(&given).await;
    let reaction = match prepared {
        Err((step, stop)) => Err(format!("before it deviates, at `{step}`: {stop}")),
        Ok(()) => {
            // If a step finds the connection closed, that is the reaction.
            let deviated = player.play(&does).await;
            if let Err((step, stop)) = &deviated {
                say(format!("at `{step}`: {stop}"))?;
            }
            player
                .settle(deviation.next)
                .await
                .map(Reaction::shortened)
                .map_err(|stop| stop.to_string())
        }
    };
    for line in player.transcript().trace() {
        say(format!("  {line}"))?;
    }
    let reaction = reaction.map_err(Fault::Environment)?;
    let recorded = recorded().map_err(Fault::environment)?;
    say(format!("\nYour program {reaction}."))?;
    for line in reactions(deviation, &recorded) {
        say(format!("{line}."))?;
    }
    let mut expected: Vec<_> = recorded
        .reactions(&deviation.name, role, None)
        .into_iter()
        .map(|(_, reaction)| &reaction.end)
        .collect();
    expected.extend(deviation.required.as_ref().map(|required| &required.end));
    let lives = reaction.end == End::Alive;
    let closes = reaction.end == End::Closed;
    let fits = expected.iter().any(|end| match end {
        End::Alive => lives,
        _ => closes,
    });
    let tolerated = deviation
        .tolerated
        .iter()
        .any(|other| match other.end.as_str() {
            "alive" => lives,
            _ => closes,
        });
    say(match (fits, tolerated) {
        (true, _) => "That is as it should be, as far as the wire tells.",
        (false, true) => "That is tolerated.",
        (false, false) => "That is not as it should be.",
    })?;
    Ok(fits || tolerated)
}

async fn listen(address: &str) -> Result<Wire, Fault> {
    let fault = |error: std::io::Error| Fault::environment(format!("{address}: {error}"));
    let listener = TcpListener::bind(address).await.map_err(fault)?;
    say(format!(
        "listening on {}",
        listener.local_addr().map_err(fault)?
    ))?;
    let accepted = tokio::time::timeout(LISTEN_LIMIT, listener.accept()).await;
    let (stream, _) = accepted
        .map_err(|_| Fault::environment("nobody dialled"))?
        .map_err(fault)?;
    Wire::accepted(stream).map_err(fault)
}
