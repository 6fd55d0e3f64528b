//! Writes the seeds derived from the vectors into a folder for each target: `seeds FOLDER [TARGET…]`.

use std::path::Path;
use std::process::ExitCode;

use hypercore_conformance::vectors;
use hypercore_fuzz_targets::seeds;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(folder) = arguments.next() else {
        eprintln!("usage: seeds FOLDER [TARGET…]");
        return ExitCode::from(2);
    };
    let targets: Vec<String> = arguments.collect();
    match write(Path::new(&folder), &targets) {
        Ok(count) => {
            println!("{count} seeds in {folder}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("seeds: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path, targets: &[String]) -> Result<usize, String> {
    let mut count = 0;
    for (target, seeds) in seeds::seeds(&vectors::default_folder())? {
        if !targets.is_empty() && !targets.iter().any(|wanted| wanted == target) {
            continue;
        }
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        for (id, seed) in seeds {
            std::fs::write(folder.join(id), seed).map_err(|error| error.to_string())?;
            count += 1;
        }
    }
    Ok(count)
}
