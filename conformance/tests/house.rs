//! No two files of a crate may import each other, directly or indirectly, except a module and its submodules. The same
//! holds for the folders of the suite.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

#[test]
fn files_of_the_suite_import_each_other_in_one_direction() {
    let krate = Crate::read(&root().join("conformance/src"));
    assert_one_direction(&krate, &[]);
}

#[test]
fn folders_of_the_suite_import_each_other_in_one_direction() {
    let krate = Crate::read(&root().join("conformance/src"));
    let circles = circles(&krate.imports_of_folders());
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn files_of_the_implementation_import_each_other_in_one_direction() {
    let krate = Crate::read(&root().join("impl/src"));
    assert_one_direction(&krate, &[]);
}

#[test]
fn a_circle_is_found_and_told_as_a_path_of_files() {
    let krate = Crate::of(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "pub struct B; fn f() { let _ = [crate::c::C]; }"),
        ("c.rs", "pub use super::a::A; pub struct C;"),
    ]);
    assert_eq!(
        told(&krate, &[]),
        "a.rs -> b.rs -> c.rs -> a.rs (3 imports in this circle)\n  a.rs:1 imports b.rs\n  b.rs:1 imports c.rs\n  \
         c.rs:1 imports a.rs\n"
    );
}

#[test]
fn what_is_imported_through_a_module_that_passes_it_on_counts_as_imported_from_its_own_file() {
    let krate = Crate::of(&[
        (
            "lib.rs",
            "mod a; mod b; pub use b::*; pub use a::A as Other;",
        ),
        ("a.rs", "use crate::B; pub struct A;"),
        ("b.rs", "pub struct B { other: crate::Other }"),
    ]);
    assert!(told(&krate, &[]).starts_with("a.rs -> b.rs -> a.rs"));
}

#[test]
fn macros_and_relative_paths_count() {
    let krate = Crate::of(&[
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "mod inner;"),
        (
            "a/inner.rs",
            "fn f() { println!(\"{}\", crate::b::NAME) } pub struct Inner;",
        ),
        (
            "b.rs",
            "mod within { use super::super::a::{self, inner::Inner}; } pub const NAME: &str = \"\";",
        ),
    ]);
    assert!(told(&krate, &[]).starts_with("a/inner.rs -> b.rs -> a/inner.rs"));
}

#[test]
fn tests_parents_and_children_do_not_count() {
    let krate = Crate::of(&[
        ("lib.rs", "mod a; mod b; #[cfg(test)] mod tests;"),
        ("a.rs", "mod below; use below::Below; pub struct A;"),
        ("a/below.rs", "use super::A; pub struct Below;"),
        (
            "b.rs",
            "use crate::a::A; pub struct B; #[cfg(test)] mod tests { use crate::tests::all; }",
        ),
        ("tests.rs", "use crate::b::B; pub fn all() {}"),
    ]);
    assert_eq!(told(&krate, &[]), "");
}

#[test]
fn an_allowance_holds_for_what_it_names_and_only_while_it_is_needed() {
    let circle = [
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use crate::a::A; pub struct B;"),
    ];
    assert_eq!(told(&Crate::of(&circle), &[("b.rs", "a.rs")]), "");
    let mended = [circle[0], circle[1], ("b.rs", "pub struct B;")];
    assert_eq!(
        told(&Crate::of(&mended), &[("b.rs", "a.rs")]),
        "b.rs -> a.rs is allowed and no longer part of a circle: delete the entry\n"
    );
}

fn root() -> PathBuf {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR"));
    suite.parent().expect("the workspace").to_owned()
}

fn assert_one_direction(krate: &Crate, allowed: &[(&str, &str)]) {
    assert!(krate.files.len() > 20, "hardly a file was read");
    let told = told(krate, allowed);
    assert!(told.is_empty(), "\n{told}");
}

/// One paragraph for each cycle, and a line for each allowance that is no longer needed.
fn told(krate: &Crate, allowed: &[(&str, &str)]) -> String {
    let mut imports = krate.imports();
    let mut told = String::new();
    for &(from, to) in allowed {
        let circular = imports.contains_key(&(from.into(), to.into()))
            && path_between(&imports, to, from).is_some();
        if !circular {
            let _ = writeln!(
                told,
                "{from} -> {to} is allowed and no longer part of a circle: delete the entry"
            );
        }
    }
    imports.retain(|(from, to), _| !allowed.contains(&(from, to)));
    for circle in circles(&imports) {
        let within = imports
            .keys()
            .filter(|(from, to)| circle.contains(from) && circle.contains(to));
        let path = shortest_circle(&imports, &circle);
        let _ = writeln!(
            told,
            "{} ({} imports in this circle)",
            path.join(" -> "),
            within.clone().count()
        );
        for key in within {
            let line = imports[key];
            let _ = writeln!(told, "  {}:{line} imports {}", key.0, key.1);
        }
    }
    told
}

/// From file to file, with the line of the import.
type Imports = BTreeMap<(String, String), usize>;

/// The strongly connected components.
fn circles(imports: &Imports) -> Vec<BTreeSet<String>> {
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    let files: BTreeSet<_> = imports.keys().map(|(from, _)| from).collect();
    for file in files {
        if found.iter().any(|group| group.contains(file)) {
            continue;
        }
        let ahead = reached(imports, file, |(from, to)| (from, to));
        let behind = reached(imports, file, |(from, to)| (to, from));
        let group: BTreeSet<_> = ahead.intersection(&behind).cloned().collect();
        if !group.is_empty() {
            found.push(group);
        }
    }
    found
}

fn reached(
    imports: &Imports,
    start: &str,
    ends: impl Fn(&(String, String)) -> (&String, &String),
) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![start.to_owned()];
    while let Some(at) = open.pop() {
        for (from, to) in imports.keys().map(&ends) {
            if *from == at && seen.insert(to.clone()) {
                open.push(to.clone());
            }
        }
    }
    seen
}

fn shortest_circle(imports: &Imports, group: &BTreeSet<String>) -> Vec<String> {
    let paths = imports.keys().filter_map(|(from, to)| {
        let mut path = path_between(imports, to, from)?;
        path.insert(0, from.clone());
        group.contains(from).then_some(path)
    });
    paths.min_by_key(Vec::len).expect("a circle in the group")
}

fn path_between(imports: &Imports, start: &str, end: &str) -> Option<Vec<String>> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::from([(start, start)]);
    let mut open = VecDeque::from([start]);
    while let Some(at) = open.pop_front() {
        if at == end {
            let mut path = vec![at.to_owned()];
            let mut at = at;
            while at != start {
                at = before[at];
                path.insert(0, at.to_owned());
            }
            return Some(path);
        }
        for (from, to) in imports.keys() {
            if from == at && !before.contains_key(to.as_str()) {
                before.insert(to, at);
                open.push_back(to);
            }
        }
    }
    None
}

/// The modules of a crate, by their paths.
#[derive(Default)]
struct Crate {
    modules: BTreeMap<Vec<String>, Module>,
    /// Each file, and the path of its module.
    files: BTreeMap<String, Vec<String>>,
}

#[derive(Default)]
struct Module {
    file: String,
    /// Names imported by `use`, and their paths.
    passed_on: BTreeMap<String, Vec<String>>,
    /// Modules imported by a glob.
    globs: Vec<Vec<String>>,
    /// Names that are defined here.
    defined: BTreeSet<String>,
    /// Paths used here, and their lines.
    mentioned: Vec<(Vec<String>, usize)>,
}

impl Crate {
    fn read(folder: &Path) -> Crate {
        let mut krate = Crate::default();
        krate.file("lib.rs", &[], &|path| {
            std::fs::read_to_string(folder.join(path)).ok()
        });
        krate
    }

    fn of(files: &[(&str, &str)]) -> Crate {
        let mut krate = Crate::default();
        krate.file("lib.rs", &[], &|path| {
            let file = files.iter().find(|(name, _)| *name == path)?;
            Some(file.1.to_owned())
        });
        krate
    }

    fn file(&mut self, name: &str, path: &[String], read: &dyn Fn(&str) -> Option<String>) {
        let text = read(name).unwrap_or_else(|| panic!("{name} is missing"));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        self.files.insert(name.to_owned(), path.to_vec());
        self.items(name, path, &parsed.items, read);
    }

    fn items(
        &mut self,
        file: &str,
        path: &[String],
        items: &[syn::Item],
        read: &dyn Fn(&str) -> Option<String>,
    ) {
        let mut module = Module {
            file: file.to_owned(),
            ..Module::default()
        };
        for item in items {
            if is_for_tests(attributes(item)) {
                continue;
            }
            module.defined.extend(name_of(item));
            let syn::Item::Mod(inner) = item else {
                Reader(&mut module).visit_item(item);
                continue;
            };
            let mut below = path.to_vec();
            below.push(inner.ident.to_string());
            match &inner.content {
                Some((_, items)) => self.items(file, &below, items, read),
                None => {
                    let beside = format!("{}.rs", below.join("/"));
                    let folder = format!("{}/mod.rs", below.join("/"));
                    let name = if read(&beside).is_some() {
                        beside
                    } else {
                        folder
                    };
                    self.file(&name, &below, read);
                }
            }
        }
        self.modules.insert(path.to_vec(), module);
    }

    fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (path, module) in &self.modules {
            let globs = module.globs.iter().map(|glob| (glob, 1));
            let mentioned = module.mentioned.iter().map(|(to, line)| (to, *line));
            for (to, line) in mentioned.chain(globs) {
                let Some(to) = self.resolve(path, to, 0) else {
                    continue;
                };
                let to = &self.modules[&to].file;
                if !self.is_above_or_below(&module.file, to) {
                    imports
                        .entry((module.file.clone(), to.clone()))
                        .or_insert(line);
                }
            }
        }
        imports
    }

    /// The same, between the folders at the root; a file at the root counts as one.
    fn imports_of_folders(&self) -> Imports {
        let folder = |file: &String| {
            let first = file.split('/').next().unwrap_or(file);
            first.trim_end_matches(".rs").to_owned()
        };
        let imports = self.imports().into_iter();
        let between = imports.map(|((from, to), line)| ((folder(&from), folder(&to)), line));
        between.filter(|((from, to), _)| from != to).collect()
    }

    /// The module that defines the target of `path`, or `None` for another crate.
    fn resolve(&self, from: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
        if depth > 16 {
            return None;
        }
        let mut at = from.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => at.clear(),
            "self" => {}
            "super" => {
                at.pop()?;
            }
            name => {
                let module = &self.modules[from];
                if !module.defined.contains(name) && !module.passed_on.contains_key(name) {
                    return None;
                }
                rest = path;
                return self.follow(at, rest, depth);
            }
        }
        rest = &rest[1..];
        while rest.first().is_some_and(|name| name == "super") {
            at.pop()?;
            rest = &rest[1..];
        }
        self.follow(at, rest, depth)
    }

    fn follow(&self, mut at: Vec<String>, path: &[String], depth: usize) -> Option<Vec<String>> {
        for (index, name) in path.iter().enumerate() {
            let module = self.modules.get(&at)?;
            let mut below = at.clone();
            below.push(name.clone());
            if self.modules.contains_key(&below) {
                at = below;
                continue;
            }
            if module.defined.contains(name) {
                return Some(at);
            }
            let rest = &path[index + 1..];
            if let Some(target) = module.passed_on.get(name) {
                let whole = [target.as_slice(), rest].concat();
                return self.resolve(&at, &whole, depth + 1);
            }
            return module
                .globs
                .iter()
                .filter_map(|glob| self.resolve(&at, glob, depth + 1))
                .filter(|target| *target != at)
                .find_map(|target| self.defines(target, name, depth + 1));
        }
        Some(at)
    }

    /// The definition of a name that a glob of `at` may import.
    fn defines(&self, at: Vec<String>, name: &String, depth: usize) -> Option<Vec<String>> {
        let module = self.modules.get(&at)?;
        let known = module.defined.contains(name)
            || module.passed_on.contains_key(name)
            || !module.globs.is_empty();
        known
            .then(|| self.follow(at, std::slice::from_ref(name), depth))
            .flatten()
    }

    fn is_above_or_below(&self, one: &str, other: &str) -> bool {
        let (one, other) = (&self.files[one], &self.files[other]);
        one.starts_with(other) || other.starts_with(one)
    }
}

/// Collects the imports of a module's items.
struct Reader<'a>(&'a mut Module);

impl Reader<'_> {
    fn tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) if name.ident == "self" => {
                self.passed_on(before.last().cloned(), before.to_vec(), &name.ident);
            }
            syn::UseTree::Name(name) => {
                self.passed_on(Some(name.ident.to_string()), with(&name.ident), &name.ident);
            }
            syn::UseTree::Rename(name) => {
                let path = if name.ident == "self" {
                    before.to_vec()
                } else {
                    with(&name.ident)
                };
                self.passed_on(Some(name.rename.to_string()), path, &name.ident);
            }
            syn::UseTree::Glob(_) => self.0.globs.push(before.to_vec()),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(before, tree);
                }
            }
        }
    }

    fn passed_on(&mut self, name: Option<String>, path: Vec<String>, at: &syn::Ident) {
        self.0
            .mentioned
            .push((path.clone(), at.span().start().line));
        // A name's meaning in its own module must not lead back to this entry.
        if let Some(name) = name
            && path.first() != Some(&name)
        {
            self.0.passed_on.insert(name, path);
        }
    }

    /// Paths in a macro's tokens, which may be any text.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 2;
        for token in tokens {
            match token {
                TokenTree::Ident(name) if colons == 2 => {
                    line = name.span().start().line;
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' && !path.is_empty() => colons += 1,
                other => {
                    self.path(std::mem::take(&mut path), line);
                    colons = 2;
                    match other {
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        TokenTree::Ident(name) => {
                            line = name.span().start().line;
                            path.push(name.to_string());
                            colons = 0;
                        }
                        _ => {}
                    }
                }
            }
        }
        self.path(path, line);
    }

    fn path(&mut self, path: Vec<String>, line: usize) {
        let first = path.first().map(String::as_str);
        if matches!(first, Some("crate" | "super" | "self")) && path.len() > 1 {
            self.0.mentioned.push((path, line));
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|part| part.ident.to_string());
        let line = path
            .segments
            .first()
            .map_or(0, |part| part.ident.span().start().line);
        self.path(names.collect(), line);
        visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }
}

/// Whether an item has `#[cfg(test)]`, or a `cfg` with it as one of its conditions.
fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else {
            return attribute.path().is_ident("test");
        };
        list.path.is_ident("cfg") && needs_test(list.tokens.clone())
    })
}

fn needs_test(condition: TokenStream) -> bool {
    let parts: Vec<_> = condition.into_iter().collect();
    match parts.as_slice() {
        [TokenTree::Ident(name)] => name == "test",
        [TokenTree::Ident(name), TokenTree::Group(group)] if name == "all" => {
            let tokens: Vec<_> = group.stream().into_iter().collect();
            tokens
                .split(|token| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ','))
                .any(|part| needs_test(part.iter().cloned().collect()))
        }
        _ => false,
    }
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    use syn::Item;
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn name_of(item: &syn::Item) -> Option<String> {
    use syn::Item;
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Mod(item) => &item.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}
