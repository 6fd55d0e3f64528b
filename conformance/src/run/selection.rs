//! The selection of checks.

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::vectors::{Case, Group, VectorFile};

/// A selection of checks.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    layers: Vec<String>,
    ids: Option<GlobSet>,
}

impl Selection {
    /// Checks of one of `layers`, with an id that matches one of the globs `ids`; an empty list selects everything.
    ///
    /// # Errors
    /// If a glob is invalid.
    pub fn new(layers: &[String], ids: &[String]) -> Result<Self, String> {
        let mut globs = GlobSetBuilder::new();
        for id in ids {
            globs.add(Glob::new(id).map_err(|error| error.to_string())?);
        }
        let ids = if ids.is_empty() {
            None
        } else {
            Some(globs.build().map_err(|error| error.to_string())?)
        };
        Ok(Self {
            layers: layers.to_vec(),
            ids,
        })
    }

    /// Whether the check `id` of `layer` is selected.
    pub fn matches(&self, layer: &str, id: &str) -> bool {
        (self.layers.is_empty() || self.layers.iter().any(|wanted| wanted == layer))
            && self.ids.as_ref().is_none_or(|ids| ids.is_match(id))
    }

    /// Whether everything is selected.
    pub fn is_all(&self) -> bool {
        self.layers.is_empty() && self.ids.is_none()
    }

    /// The selected cases of `files`, in order.
    pub fn cases<'a>(&self, files: &'a [VectorFile]) -> Vec<(&'a VectorFile, &'a Group, &'a Case)> {
        let groups = files
            .iter()
            .flat_map(|file| file.groups.iter().map(move |group| (file, group)));
        groups
            .flat_map(|(file, group)| group.cases.iter().map(move |case| (file, group, case)))
            .filter(|(file, _, case)| self.matches(&file.layer, &case.id))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::ask::tests::{case, file};
    use serde_json::json;

    #[test]
    fn a_selection_is_by_layer_and_id() {
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>()
        };
        let select = |layers: &[&str], ids: &[&str]| {
            Selection::new(&words(layers), &words(ids)).expect("globs")
        };
        for (layers, ids, wanted) in [
            (&[][..], &[][..], [true, true, true]),
            (&["mux"], &[], [true, true, false]),
            (&["frame", "mux"], &[], [true, true, true]),
            (&[], &["*.one"], [true, false, true]),
            (&["mux"], &["*.one"], [true, false, false]),
            (&["key"], &[], [false, false, false]),
        ] {
            let selection = select(layers, ids);
            let matched = [
                ("mux", "mux.one"),
                ("mux", "mux.two"),
                ("frame", "frame.one"),
            ]
            .map(|(layer, id)| selection.matches(layer, id));
            assert_eq!(matched, wanted, "{layers:?} {ids:?}");
            assert_eq!(selection.is_all(), layers.is_empty() && ids.is_empty());
        }
        assert!(Selection::new(&[], &words(&["["])).is_err());
        let files = [file(
            "mux",
            "mux.receive",
            &[case("mux.one", json!({})), case("mux.two", json!({}))],
        )];
        let chosen = select(&[], &["*.two"]);
        let ids: Vec<&str> = chosen
            .cases(&files)
            .into_iter()
            .map(|(_, _, case)| case.id.as_str())
            .collect();
        assert_eq!(ids, ["mux.two"]);
    }
}
