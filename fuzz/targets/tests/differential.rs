//! Our decoders agree with Node's on random inputs: a short run of the differential. Needs Node.

use std::path::Path;

use hypercore_fuzz_targets::differential::{Node, compare, kinds};

/// Inputs of each kind. `.ci/differential` takes more.
const INPUTS: usize = 300;

#[test]
fn we_and_node_decode_the_same() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let kinds = kinds(&root.join("vectors")).expect("the vectors");
    assert!(kinds.len() > 30, "only {} kinds of input", kinds.len());
    let mut node = Node::start(&root.join("examples-nodejs")).expect("node");
    for kind in &kinds {
        let report = compare(&mut node, kind, INPUTS, 1).expect("node answers");
        let name = kind.name();
        assert_eq!(report.disagreements, [], "{name}");
        assert_eq!(report.disagreed, 0, "{name}");
    }
}
