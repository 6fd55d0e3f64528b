//! Node's reactions to each deviation: recorded from live Node, and never written by hand.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::reaction::{End, Reaction};
use super::{RECORDED, Role};
use crate::node;

/// The version of the file format.
pub(super) const FORMAT: u64 = 1;

/// Node's recorded reactions.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recorded {
    pub(super) format: u64,
    pub(super) generator: String,
    pub(super) packages: BTreeMap<String, String>,
    pub(super) deviations: BTreeMap<String, Vec<Seen>>,
}

/// A reaction, with its releases and roles.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Seen {
    pub(super) releases: Vec<String>,
    pub(super) roles: Vec<Role>,
    #[serde(flatten)]
    pub(super) reaction: Reaction,
}

/// The recording in this repository.
pub(super) fn recorded() -> Result<Recorded, String> {
    parse(&RECORDED.text())
}

/// Parses a recording.
pub(super) fn parse(text: &str) -> Result<Recorded, String> {
    let recorded: Recorded =
        serde_json::from_str(text).map_err(|error| format!("deviations.json: {error}"))?;
    if recorded.format != FORMAT {
        return Err(format!("deviations.json: format {}", recorded.format));
    }
    Ok(recorded)
}

impl Recorded {
    /// The reactions to a deviation in one role, by release; the newest first, or only that of `release`.
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

    /// All reactions to a deviation.
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

    /// The differences from another recording, a line each; those that `varies` lists are ignored.
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
