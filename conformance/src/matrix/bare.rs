//! Bare, another JavaScript runtime that Node's packages support.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::npm::cache::Runtime;

/// Bare's error when it is asked to make a core, if it fails.
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

/// The line without local paths of the packages.
fn without_folders(line: &str) -> String {
    match (line.find("file://"), line.find("node_modules/")) {
        (Some(start), Some(end)) if start < end => format!("{}{}", &line[..start], &line[end..]),
        _ => line.to_owned(),
    }
}
