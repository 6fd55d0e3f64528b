//! Compares our decoders with Node's: `differential [INPUTS] [SEED] [KIND…]`, where a kind is part of a name that it
//! prints.

use std::path::Path;
use std::process::ExitCode;

use hypercore_conformance::vectors;
use hypercore_fuzz_targets::differential::{Kind, Node, compare, kinds};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("differential: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, String> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| match arguments.next() {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| format!("{text} is not a number")),
    };
    let (count, seed) = (number(10_000)?, number(1)?);
    let count = usize::try_from(count).map_err(|error| error.to_string())?;
    let wanted: Vec<String> = arguments.collect();
    let folder = vectors::default_folder();
    let examples = folder.join("../examples-nodejs");
    let kinds = kinds(&folder)?;
    let is_wanted = |kind: &&Kind| {
        wanted.is_empty()
            || wanted
                .iter()
                .any(|wanted| kind.name().contains(wanted.as_str()))
    };
    let mut node = Node::start(Path::new(&examples))?;
    let mut disagreed = 0;
    for kind in kinds.iter().filter(is_wanted) {
        let report = compare(&mut node, kind, count, seed)?;
        let excused: Vec<String> = report
            .excused
            .iter()
            .map(|(excuse, count)| format!(", {count} {excuse}"))
            .collect();
        println!(
            "{}: {} inputs, {} taken, {} disagree{}",
            kind.name(),
            report.inputs,
            report.taken,
            report.disagreed,
            excused.concat()
        );
        for one in &report.disagreements {
            println!(
                "  {} {}\n    ours {}\n    node {}",
                one.release, one.bytes, one.ours, one.node
            );
        }
        disagreed += report.disagreed;
    }
    Ok(disagreed == 0)
}
