//! Jobs: what makes cells.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::cache::Runtime;
use super::cell::{Cell, NODE, Part};
use super::plan::Unit;
use super::replication;
use super::run::{Implementation, Matrix, cell_of, unavailable};
use super::{conversation, scenarios, wire};

/// One thing to do on one thread.
#[derive(Clone, Debug)]
pub(super) struct Job {
    unit: Unit,
    /// Who; nobody for what concerns the release alone.
    implementation: Option<Implementation>,
}

impl Job {
    /// Whether live scenarios are played.
    pub(super) fn plays(&self) -> bool {
        self.unit.part == Part::Live
    }
}

/// Runs a future to its end on this thread.
pub(super) fn block_on<F: Future>(future: F) -> Result<F::Output, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    Ok(runtime.map_err(|error| error.to_string())?.block_on(future))
}

/// What Bare says when it is asked to make a core, if it does not.
pub(super) fn bare_complaint(bare: &Runtime, examples: &Path) -> Option<String> {
    let probe = examples.join("interop/bare.js");
    let output = Command::new(&bare.program)
        .arg(probe)
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            Some("Bare starts, but has no adapter of its own yet".into())
        }
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<&str> = text
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .collect();
            let line = lines
                .iter()
                .find(|line| line.contains("Error"))
                .or(lines.first());
            let line = without_folders(line.unwrap_or(&"nothing is said"));
            Some(format!("Bare {} ({}): {line}", bare.version, output.status))
        }
        Err(error) => Some(error.to_string()),
    }
}

/// The line without where on this machine the packages are.
fn without_folders(line: &str) -> String {
    match (line.find("file://"), line.find("node_modules/")) {
        (Some(start), Some(end)) if start < end => format!("{}{}", &line[..start], &line[end..]),
        _ => line.to_owned(),
    }
}

impl Matrix<'_> {
    /// What there is to do in a unit.
    pub(super) fn jobs(&self, unit: &Unit) -> Vec<Job> {
        let job = |implementation| Job {
            unit: unit.clone(),
            implementation,
        };
        match unit.part {
            Part::Drift | Part::Vectors => vec![job(None)],
            _ => self
                .implementations
                .iter()
                .map(|one| job(Some(one.clone())))
                .collect(),
        }
    }

    /// Does it.
    pub(super) fn do_job(&self, job: &Job) -> Vec<Cell> {
        let began = Instant::now();
        let mut cells = self.cells_of(job);
        if let Some(reason) = self.missing(&job.unit) {
            return cells
                .into_iter()
                .map(|cell| unavailable(cell, &reason))
                .collect();
        }
        let filled = match &job.implementation {
            None => self.fill_wire(&job.unit, &mut cells),
            Some(one) if job.unit.part == Part::Live => self.fill_live(one, &job.unit, &mut cells),
            Some(one) => self.fill_replication(one, &job.unit, &mut cells),
        };
        let seconds = began.elapsed().as_secs_f64() / cells.len().max(1) as f64;
        for cell in &mut cells {
            cell.seconds = (seconds * 100.0).round() / 100.0;
            if let Err(reason) = &filled {
                *cell = unavailable(cell.clone(), reason);
            }
            cell.settle();
        }
        cells
    }

    fn cells_of(&self, job: &Job) -> Vec<Cell> {
        let unit = &job.unit;
        let Some(one) = &job.implementation else {
            let mut cells = vec![cell_of(NODE, unit, Part::Drift, "")];
            if self.wants(Part::Vectors) {
                cells.extend(
                    self.implementations
                        .iter()
                        .map(|one| cell_of(&one.name, unit, Part::Vectors, "")),
                );
            }
            return cells;
        };
        let roles: Vec<&str> = match unit.part {
            Part::Live => scenarios::ROLES.to_vec(),
            _ => replication::ROLES.iter().map(|(role, ..)| *role).collect(),
        };
        roles
            .into_iter()
            .map(|role| cell_of(&one.name, unit, unit.part, role))
            .collect()
    }

    fn fill_wire(&self, unit: &Unit, cells: &mut [Cell]) -> Result<(), String> {
        let node = self.adapter_of(unit)?;
        let (release, on) = self.subject_of(unit)?;
        let layers = wire::layers_of(release, &self.pinned);
        let theirs = block_on(wire::ask(&node, &self.files, &layers, Some(&unit.release)))??;
        for cell in cells {
            if cell.id.part == Part::Drift {
                wire::note_drift(cell, &theirs);
                let held = conversation::note(cell, &self.files, release, on, &self.examples);
                block_on(held)??;
                continue;
            }
            let one = self
                .implementations
                .iter()
                .find(|one| one.name == cell.id.implementation);
            let one = one.ok_or("not an implementation of this run")?;
            let own = self.answers_of(one)?;
            block_on(wire::note_vectors(
                cell,
                &own,
                &theirs,
                (&one.command, &node),
            ))??;
        }
        Ok(())
    }

    fn fill_live(
        &self,
        one: &Implementation,
        unit: &Unit,
        cells: &mut [Cell],
    ) -> Result<(), String> {
        let node = self.adapter_of(unit)?;
        let mut by_role: BTreeMap<&'static str, Cell> = scenarios::ROLES
            .into_iter()
            .zip(cells.iter().cloned())
            .collect();
        scenarios::play(&mut by_role, &one.command, &unit.release, &node)?;
        for cell in cells {
            if let Some(played) = by_role.remove(cell.id.role.as_str()) {
                *cell = played;
            }
        }
        Ok(())
    }

    fn fill_replication(
        &self,
        one: &Implementation,
        unit: &Unit,
        cells: &mut [Cell],
    ) -> Result<(), String> {
        let Some(player) = &one.player else {
            // The adapter protocol has no replication: nothing passed, so the cell is unsupported.
            return Ok(());
        };
        let (release, runtime) = self.subject_of(unit)?;
        // All roles at a time: what fails by silence is waited for, and that takes most of the time.
        let roles = cells
            .iter_mut()
            .zip(replication::ROLES)
            .map(|(cell, role)| {
                replication::play(cell, player, release, runtime, &self.examples, role)
            });
        block_on(futures::future::join_all(roles)).map(drop)
    }

    fn subject_of(&self, unit: &Unit) -> Result<(&super::cache::Release, &Runtime), String> {
        let missing = || format!("{} on {} is not here", unit.release, unit.runtime);
        let release = self.installed.get(&unit.release).ok_or_else(missing)?;
        let runtime = self.started.get(&unit.runtime).ok_or_else(missing)?;
        Ok((release, runtime))
    }

    fn adapter_of(&self, unit: &Unit) -> Result<crate::adapter::AdapterCommand, String> {
        let (release, runtime) = self.subject_of(unit)?;
        Ok(self.node_command(runtime, release))
    }
}
