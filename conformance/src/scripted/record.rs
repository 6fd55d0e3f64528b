//! Records live Node's reaction to each deviation.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::layer::{Stage, play_deviation};
use super::reaction::{End, Reaction};
use super::recorded::{FORMAT, Recorded, Seen};
use super::{Deviation, Role};
use crate::node;

const GENERATOR: &str = "hypercore-conformance deviations --record";

/// The packages whose versions are recorded, by their installed names.
const PACKAGES: [&str; 7] = [
    "hypercore",
    "hypercore10",
    "@hyperswarm/secret-stream",
    "noise-handshake",
    "noise-curve-ed",
    "protomux",
    "compact-encoding",
];

/// How many Node processes record at a time.
const PROCESSES: usize = 2;

/// Runs every deviation on Node, in every release and both roles.
///
/// # Errors
/// If Node cannot be run, or does not survive a deviation.
pub(super) async fn record(
    folder: &Path,
    deviations: &[Deviation],
    mut report: impl FnMut(&str),
) -> Result<Recorded, String> {
    let mut jobs = Vec::new();
    for release in node::RELEASES.iter().rev() {
        for deviation in deviations {
            if deviation.never_towards_node.is_none() {
                let deviation = Arc::new(deviation.clone());
                jobs.extend(Role::BOTH.map(|role| (*release, Arc::clone(&deviation), role)));
            }
        }
    }
    let queue = Arc::new(std::sync::Mutex::new(jobs.clone().into_iter()));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..PROCESSES {
        let (queue, folder) = (Arc::clone(&queue), folder.to_owned());
        tasks.spawn(async move {
            let (mut seen, mut faults) = (Vec::new(), Vec::new());
            let mut stage: Option<(&str, Stage)> = None;
            loop {
                let job = queue.lock().ok().and_then(|mut queue| queue.next());
                let Some((release, deviation, role)) = job else {
                    break;
                };
                let fits = stage.as_ref().is_some_and(|(own, _)| *own == release);
                if !fits && let Some((_, mut old)) = stage.take() {
                    old.close().await;
                }
                let (_, stage) = stage.get_or_insert_with(|| {
                    let mut command = node::adapter_command(&folder);
                    command.args.extend(["--release".into(), release.into()]);
                    (release, Stage::new(command.into()))
                });
                let mut peer = match stage.peer().await {
                    Ok(peer) => peer,
                    Err(trouble) => {
                        faults.push(trouble.to_string());
                        break;
                    }
                };
                let played = play_deviation(&mut peer, &deviation, role).await;
                let reaction = played.reaction.and_then(|reaction| match reaction.end {
                    End::Silent | End::Lingers => Err(format!("Node {reaction}")),
                    _ => played.afterwards.map(|()| reaction),
                });
                match reaction {
                    Ok(reaction) => {
                        stage.give_back(peer);
                        seen.push((release, deviation.name.clone(), role, reaction));
                    }
                    Err(reason) => {
                        peer.into_adapter().kill().await;
                        faults.push(format!(
                            "{}, Node {release} as {role}: {reason}",
                            deviation.name
                        ));
                    }
                }
            }
            if let Some((_, mut stage)) = stage {
                stage.close().await;
            }
            (seen, faults)
        });
    }
    let (mut all, mut faults) = (Vec::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (seen, more) = done.map_err(|error| error.to_string())?;
        all.extend(seen);
        faults.extend(more);
    }
    if !faults.is_empty() {
        return Err(faults.join("\n"));
    }
    report(&format!("{} reactions of Node are recorded.", all.len()));

    // In the order of the jobs, independent of timing.
    let mut by_deviation: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
    for (release, deviation, role) in &jobs {
        let found = all
            .iter()
            .find(|(own, name, seen, _)| own == release && *name == deviation.name && seen == role);
        let Some((.., reaction)) = found else {
            return Err(format!("{} was not played", deviation.name));
        };
        let seen = by_deviation.entry(deviation.name.clone()).or_default();
        add(seen, release, *role, reaction);
    }
    Ok(Recorded {
        format: FORMAT,
        generator: GENERATOR.to_owned(),
        packages: packages(folder)?,
        deviations: by_deviation
            .into_iter()
            .map(|(name, seen)| (name, merged(seen)))
            .collect(),
    })
}

fn packages(folder: &Path) -> Result<BTreeMap<String, String>, String> {
    let version = |name: &str| {
        let path = folder.join("node_modules").join(name).join("package.json");
        let text = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let package: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let version = package["version"].as_str();
        let version = version.ok_or_else(|| format!("{}: no version", path.display()))?;
        Ok((name.to_owned(), version.to_owned()))
    };
    PACKAGES.into_iter().map(version).collect()
}

fn add(seen: &mut Vec<Seen>, release: &str, role: Role, reaction: &Reaction) {
    let same = seen
        .iter_mut()
        .find(|seen| seen.releases == [release] && seen.reaction == *reaction);
    match same {
        Some(seen) => seen.roles.push(role),
        None => seen.push(Seen {
            releases: vec![release.to_owned()],
            roles: vec![role],
            reaction: reaction.clone(),
        }),
    }
}

/// Merges releases with the same reaction in the same roles.
fn merged(seen: Vec<Seen>) -> Vec<Seen> {
    let mut merged: Vec<Seen> = Vec::new();
    for one in seen {
        let same = merged
            .iter_mut()
            .find(|other| other.roles == one.roles && other.reaction == one.reaction);
        match same {
            Some(other) => other.releases.extend(one.releases),
            None => merged.push(one),
        }
    }
    merged
}
