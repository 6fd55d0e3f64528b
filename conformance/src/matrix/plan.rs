//! The plan: units that can be spread over machines, in a stable order with the costly ones first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cell::{Cell, PartId};

/// All cells of one release on one runtime that belong together, since Node's results are reported beside the others'.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Unit {
    /// The exact release.
    pub release: String,
    /// The runtime's name.
    pub runtime: String,
    /// The part whose jobs fill the cells.
    pub part: PartId,
}

impl Unit {
    /// The unit that a cell is in.
    pub fn of(cell: &Cell) -> Self {
        Self {
            release: cell.id.release.clone(),
            runtime: cell.id.runtime.clone(),
            part: cell.id.part.unit(),
        }
    }
}

/// A share of all units, written `2/5`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Shard {
    /// The index, from 1.
    pub index: usize,
    /// The number of shards.
    pub count: usize,
}

impl Shard {
    /// Everything.
    pub const WHOLE: Self = Self { index: 1, count: 1 };
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is no shard: write it as 2/5, from 1/5 to 5/5");
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let index = index.parse().map_err(|_| wrong())?;
        let count = count.parse().map_err(|_| wrong())?;
        if index == 0 || index > count {
            return Err(wrong());
        }
        Ok(Self { index, count })
    }
}

/// The time that each unit took in its last run, in seconds.
#[derive(Clone, Debug, Default)]
pub struct Costs(BTreeMap<Unit, f64>);

impl Costs {
    /// The times in an earlier report.
    pub fn from_cells(cells: &[Cell]) -> Self {
        let mut costs = BTreeMap::new();
        for cell in cells {
            *costs.entry(Unit::of(cell)).or_default() += cell.seconds;
        }
        Self(costs)
    }

    /// The expected time of a unit.
    fn of(&self, unit: &Unit) -> f64 {
        let known = self.0.get(unit).copied();
        known.unwrap_or_else(|| unit.part.part().usual_seconds())
    }
}

/// The units of a shard, the costly ones first. Every machine with the same units and costs computes the same shards.
pub fn shard(mut units: Vec<Unit>, costs: &Costs, shard: Shard) -> Vec<Unit> {
    units.sort();
    units.dedup();
    // Stable: units of equal cost stay in order of their names.
    units.sort_by(|a, b| costs.of(b).total_cmp(&costs.of(a)));
    let mut load = vec![0.0_f64; shard.count];
    let mut own = Vec::new();
    for unit in units {
        let least = (0..shard.count).min_by(|a, b| load[*a].total_cmp(&load[*b]));
        let least = least.unwrap_or(0);
        load[least] += costs.of(&unit);
        if least + 1 == shard.index {
            own.push(unit);
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units() -> Vec<Unit> {
        let releases = ["10.0.0", "10.38.2", "11.0.48", "11.37.1", "11.5.0"];
        let parts = ["drift", "live", "replication"].map(|part| part.parse().expect("a part"));
        let unit = |release: &str, part| Unit {
            release: release.into(),
            runtime: "node20".into(),
            part,
        };
        releases
            .iter()
            .flat_map(|release| parts.map(|part| unit(release, part)))
            .collect()
    }

    #[test]
    fn shards_are_whole_or_refused() {
        assert_eq!("2/5".parse(), Ok(Shard { index: 2, count: 5 }));
        for wrong in ["", "2", "/5", "2/", "0/5", "6/5", "1/0", "a/b"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_unit_is_in_one_shard_whatever_the_order() {
        let mut backwards = units();
        backwards.reverse();
        for count in [1, 2, 3, 7, 40] {
            let mut all = Vec::new();
            for index in 1..=count {
                let own = shard(units(), &Costs::default(), Shard { index, count });
                assert_eq!(
                    own,
                    shard(backwards.clone(), &Costs::default(), Shard { index, count })
                );
                all.extend(own);
            }
            all.sort();
            let mut expected = units();
            expected.sort();
            assert_eq!(all, expected, "{count}");
        }
    }

    #[test]
    fn a_costly_unit_has_a_shard_of_its_own() {
        let slow = units()[4].clone();
        let costs = Costs(BTreeMap::from([(slow.clone(), 1000.0)]));
        let own = shard(units(), &costs, Shard { index: 1, count: 3 });
        assert_eq!(own, [slow]);
    }
}
