//! What Node was seen to do about each deviation: recorded from live Node, and never written by hand.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::layer::{Stage, play_deviation};
use super::reaction::{End, Reaction};
use super::{Deviation, RECORDED, Role};
use crate::node;

/// The version of the file's form.
const FORMAT: u64 = 1;

const GENERATOR: &str = "hypercore-conformance deviations --record";

/// The packages whose versions are written down, by the names under which they are installed.
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

/// What Node was seen to do.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recorded {
    format: u64,
    generator: String,
    packages: BTreeMap<String, String>,
    deviations: BTreeMap<String, Vec<Seen>>,
}

/// A reaction, and where it was seen.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Seen {
    pub(super) releases: Vec<String>,
    pub(super) roles: Vec<Role>,
    #[serde(flatten)]
    pub(super) reaction: Reaction,
}

/// The recording of this repository.
pub(super) fn recorded() -> Result<Recorded, String> {
    parse(&RECORDED.text())
}

/// Reads a recording.
pub(super) fn parse(text: &str) -> Result<Recorded, String> {
    let recorded: Recorded =
        serde_json::from_str(text).map_err(|error| format!("deviations.json: {error}"))?;
    if recorded.format != FORMAT {
        return Err(format!("deviations.json: format {}", recorded.format));
    }
    Ok(recorded)
}

impl Recorded {
    /// What was seen of a deviation in one role, by release; the newest first, or only that of `release`.
    pub(super) fn reactions(
        &self,
        deviation: &str,
        role: Role,
        release: Option<&str>,
    ) -> Vec<(&str, &Reaction)> {
        let seen = self.seen(deviation);
        let wanted = node::RELEASES.iter().rev();
        let wanted = wanted.filter(|&&known| release.is_none_or(|release| release == known));
        wanted
            .filter_map(|&release| {
                let found = seen.iter().find(|seen| {
                    seen.roles.contains(&role) && seen.releases.iter().any(|own| own == release)
                })?;
                Some((release, &found.reaction))
            })
            .collect()
    }

    /// All that was seen of a deviation.
    pub(super) fn seen(&self, deviation: &str) -> &[Seen] {
        self.deviations
            .get(deviation)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// The file's text.
    pub(super) fn to_text(&self) -> Result<String, String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        Ok(text + "\n")
    }

    /// Where another recording differs, a line each; what `varies` from run to run is let pass.
    pub(super) fn differences(&self, other: &Self, varies: &[&str]) -> Vec<String> {
        let mut lines = Vec::new();
        if self.packages != other.packages {
            lines.push(format!(
                "packages: {:?} and now {:?}",
                self.packages, other.packages
            ));
        }
        let names = self.deviations.keys().chain(other.deviations.keys());
        let names: std::collections::BTreeSet<_> = names.collect();
        for name in names {
            for role in Role::BOTH {
                let (before, now) = (
                    self.reactions(name, role, None),
                    other.reactions(name, role, None),
                );
                let destroyed = |(_, reaction): &(&str, &Reaction)| {
                    matches!(reaction.end, End::Destroyed { .. })
                };
                let passes = varies.contains(&name.as_str())
                    && before.len() == now.len()
                    && before.iter().chain(&now).all(destroyed);
                if before != now && !passes {
                    lines.push(format!(
                        "{name}, Node as {role}: {} and now {}",
                        show(&before),
                        show(&now)
                    ));
                }
            }
        }
        lines
    }
}

fn show(reactions: &[(&str, &Reaction)]) -> String {
    let shown = reactions
        .iter()
        .map(|(release, reaction)| format!("{release} {reaction}"));
    format!("[{}]", shown.collect::<Vec<_>>().join(" | "))
}

/// Plays every deviation on Node, in every release and both roles.
///
/// # Errors
/// If Node cannot be played on, or does not survive a deviation.
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

    // In the order of the jobs, whichever process was first.
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

/// Releases that reacted alike in the same roles are one entry.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_deviation_was_recorded_and_nothing_else() {
        let recorded = recorded().expect("the file");
        let all = super::super::deviations().expect("the file");
        for deviation in &all {
            let releases = match deviation.never_towards_node {
                None => node::RELEASES.len(),
                Some(_) => 0,
            };
            for role in Role::BOTH {
                let seen = recorded.reactions(&deviation.name, role, None);
                assert_eq!(seen.len(), releases, "{} as {role}", deviation.name);
            }
        }
        for name in recorded.deviations.keys() {
            assert!(
                all.iter().any(|deviation| deviation.name == *name),
                "{name}"
            );
        }
        let text = recorded.to_text().expect("JSON");
        assert_eq!(text, RECORDED.text(), "the file is not as it was recorded");
    }

    #[test]
    fn what_changed_is_named() {
        let recorded = recorded().expect("the file");
        assert!(recorded.differences(&recorded, &[]).is_empty());
        let mut other = recorded.clone();
        for seen in other.deviations.values_mut().take(1).flatten() {
            seen.reaction.told.push("nothing".into());
        }
        other.packages.insert("protomux".into(), "0.0.0".into());
        let lines = recorded.differences(&other, &[]);
        assert!(lines[0].starts_with("packages:"), "{lines:?}");
        assert!(lines.len() >= 3, "{lines:?}");
    }
}
