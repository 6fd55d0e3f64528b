//! Runs each target over its corpus, within its limits of memory and work.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use hypercore_fuzz_targets::{Limit, TARGETS, Target};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The committed inputs of a target, by the paths of their files.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz().join("corpus").join(target.name);
    let files =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs = Vec::new();
    for file in files {
        let path = file.expect("a file of the corpus").path();
        let input = std::fs::read(&path).expect("a file of the corpus");
        inputs.push((path.display().to_string(), input));
    }
    inputs.sort();
    inputs
}

fn replay(name: &str) {
    let target = Target::named(name).expect("a target");
    let inputs = corpus(target);
    assert!(!inputs.is_empty(), "{name} has no corpus");
    let failed: Vec<String> = inputs
        .into_iter()
        .filter(|(_, input)| catch_unwind(AssertUnwindSafe(|| target.check(input))).is_err())
        .map(|(path, _)| path)
        // The counter of allocations keeps a level for each panic, and has 64 of them.
        .take(20)
        .collect();
    assert!(failed.is_empty(), "{name} fails with {failed:#?}");
}

macro_rules! replays {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_replayed_and_every_corpus_has_a_target() {
            let replayed = BTreeSet::from([$(stringify!($name).to_owned()),*]);
            let targets: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
            assert_eq!(targets, replayed);
            for kind in ["corpus", "fuzz_targets"] {
                let found = std::fs::read_dir(fuzz().join(kind)).expect("a folder");
                let found: BTreeSet<_> = found
                    .map(|entry| entry.expect("an entry").path())
                    .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
                    .collect();
                assert_eq!(found, targets, "in {kind}");
            }
        }
    };
}

replays! {
    connection_bytes,
    connection_keyed,
    datagrams,
    encoding,
    frames,
    manifest,
    messages,
    multisig,
    mux,
    noise,
    proofs,
    record,
    replicator,
    secretstream,
    store,
    store_files,
    suite_answers,
    suite_dissector,
    suite_reports,
}

#[test]
fn the_readme_has_the_limits_that_are_checked() {
    let readme = std::fs::read_to_string(fuzz().join("README.md")).expect("the README");
    for target in TARGETS {
        let row = format!(
            "| `{}` | {} | {} | {} |",
            target.name, target.about, target.memory, target.allocations
        );
        assert!(readme.contains(&row), "fuzz/README.md lacks: {row}");
    }
}

#[test]
fn an_input_that_costs_too_much_fails() {
    let greedy = Target {
        name: "greedy",
        about: "allocates 1,000 bytes twice for each input byte",
        prepare: || {},
        run: |input| {
            for _ in 0..2 {
                drop(std::hint::black_box(vec![0_u8; input.len() * 1000]));
            }
            input.len()
        },
        memory: Limit {
            factor: 1000,
            constant: 0,
        },
        allocations: Limit {
            factor: 0,
            constant: 2,
        },
    };
    greedy.check(&[0; 5]);
    let cost = greedy.cost(&[0; 5]);
    assert_eq!((cost.size, cost.memory, cost.allocations), (5, 5000, 2));
    let fails = |target: Target| catch_unwind(move || target.check(&[0; 5])).is_err();
    let mut memory = greedy;
    memory.memory.factor = 999;
    assert!(fails(memory));
    let mut allocations = greedy;
    allocations.allocations.constant = 1;
    assert!(fails(allocations));
}
