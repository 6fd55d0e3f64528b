//! The reference implementation passes every vector, and so does Node, from which they were recorded.

use hypercore_conformance::adapter::{Adapter, AdapterProcess, InProcess};
use hypercore_conformance::node;
use hypercore_conformance::reference::Reference;
use hypercore_conformance::report::{Rerun, terminal};
use hypercore_conformance::run::verdict::Verdict;
use hypercore_conformance::run::{Run, Selection, Silent, run_vectors};
use hypercore_conformance::term::Paint;
use hypercore_conformance::vectors::{default_folder, load};

async fn run(adapter: &mut dyn Adapter) -> Run {
    let files = load(&default_folder()).expect("the vectors");
    let run = run_vectors(adapter, &files, &Selection::default(), &mut Silent)
        .await
        .expect("it starts");
    println!(
        "{}",
        terminal::report(&run, &Rerun::default(), false, &Paint::plain())
    );
    run
}

fn count(run: &Run, verdict: Verdict) -> usize {
    run.checks
        .iter()
        .filter(|check| check.verdict == verdict)
        .count()
}

#[tokio::test]
async fn the_reference_passes_every_vector() {
    let run = run(&mut InProcess::new(Reference::new)).await;
    assert_eq!(count(&run, Verdict::Failed), 0, "see the report above");
    assert_eq!(
        count(&run, Verdict::Unsupported),
        0,
        "the reference does every operation"
    );
    assert!(run.checks.len() > 1_500);
}

async fn node_passes(release: &str) {
    let folder = match node::ensure_node_modules() {
        Ok(folder) => folder,
        Err(missing) => {
            let required =
                std::env::var_os("CI").is_some_and(|ci| !ci.is_empty()) || !missing.is_absent();
            assert!(!required, "{missing}");
            println!("left out: {missing}");
            return;
        }
    };
    let mut command = node::adapter_command(&folder);
    command
        .args
        .extend(["--release".to_owned(), release.to_owned()]);
    let run = run(&mut AdapterProcess::new(command)).await;
    assert_eq!(run.implementation.release.as_deref(), Some(release));
    assert_eq!(count(&run, Verdict::Failed), 0, "see the report above");
    assert!(count(&run, Verdict::Ok) > 1_500);
}

#[tokio::test]
async fn node_11_37_1_passes_every_vector() {
    node_passes("11.37.1").await;
}

#[tokio::test]
async fn node_10_38_2_passes_every_vector() {
    node_passes("10.38.2").await;
}
