//! `--emit-script`: what to paste into an adapter's stdin to ask it one case by hand.

use serde_json::json;

use super::{End, Trouble, print as write, print_json, scenarios};
use crate::adapter::{PROTOCOLS, request_line};
use crate::live;
use crate::out;
use crate::report::Rerun;
use crate::run::Selection;
use crate::run::verdict::expectation_value;
use crate::vectors::{VectorFile, expand};

/// Lines for stdin on stdout, and on stderr what is to come of them.
pub(super) fn print(id: &str, files: &[VectorFile], rerun: &Rerun) -> Result<End, Trouble> {
    let everything = Selection::default();
    let cases = everything.cases(files);
    let Some((_, group, case)) = cases.iter().find(|(_, _, case)| case.id == id) else {
        return print_scenario(id, rerun);
    };
    let input = expand(&case.input).map_err(Trouble::environment)?;
    let hello = request_line(0, "hello", &json!({ "protocols": PROTOCOLS }));
    print_json(&(hello + &request_line(1, &group.op, &input)))?;
    out::note(format!("# {}", case.comment));
    out::note(format!(
        "# {} is expected: {}",
        case.result,
        expectation_value((case.result, &case.expect))
    ));
    Ok(End::Expected)
}

/// A scenario has two ends, so it cannot be pasted: its steps, and the command that plays it.
fn print_scenario(id: &str, rerun: &Rerun) -> Result<End, Trouble> {
    let scenarios = scenarios::wanted(&Selection::default())?;
    let Some(scenario) = scenarios.iter().find(|scenario| scenario.id == id) else {
        return Err(Trouble::usage(format!(
            "there is no case and no scenario {id}; `list` shows what there is"
        )));
    };
    let steps = live::steps_of(scenario).map_err(Trouble::environment)?;
    let mut text = format!("# {} ({})\n", scenario.name, scenario.location);
    text.push_str("# It takes two ends, so it cannot be pasted. This plays it:\n");
    text.push_str(&format!("#   {}\n", rerun.line(id)));
    for step in steps {
        text.push_str(&format!("{step}\n"));
    }
    write(&text)?;
    Ok(End::Expected)
}
