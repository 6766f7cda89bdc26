//! Rules that need the code as a tree: no circle between files, one meaning for every type name, no arm that takes whatever a
//! configuration may come to mean. Code under `#[cfg(test)]` is exempt.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::Span;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Pat, UseTree, Visibility};

/// A source file; `path` is relative to `src`.
pub struct Source {
    path: String,
    tree: syn::File,
}

impl Source {
    /// Parses a file.
    pub fn parse(path: &str, text: &str) -> Self {
        let tree = syn::parse_file(text).unwrap_or_else(|e| panic!("src/{path}:{}: {e}", e.span().start().line));
        Self { path: path.into(), tree }
    }

    /// `a/b.rs` and `a/b/mod.rs` are both the module `a::b`; `main.rs` and `lib.rs` the crate itself.
    fn module(&self) -> Vec<String> {
        let path = self.path.trim_end_matches(".rs");
        let path = path.strip_suffix("/mod").unwrap_or(path);
        let parts = path.split('/').map(String::from);
        parts.filter(|part| !["main", "lib"].contains(&part.as_str())).collect()
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    let tests = |a: &Attribute| a.path().is_ident("cfg") && a.parse_args::<syn::Ident>().is_ok_and(|i| i == "test");
    attributes.iter().any(tests)
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Macro(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Trait(i) => &i.attrs,
        Item::Type(i) => &i.attrs,
        Item::Union(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

fn code(source: &Source) -> impl Iterator<Item = &Item> {
    source.tree.items.iter().filter(|item| !is_test(attributes(item)))
}

/// A name that `use` brings in: its path, and what it is called here.
struct Import {
    path: Vec<String>,
    name: String,
}

fn imports(tree: &UseTree, before: &[String], into: &mut Vec<Import>) {
    let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
    match tree {
        UseTree::Path(path) => imports(&path.tree, &with(&path.ident), into),
        UseTree::Group(group) => group.items.iter().for_each(|tree| imports(tree, before, into)),
        UseTree::Glob(_) => into.push(Import { path: before.to_vec(), name: "*".into() }),
        UseTree::Name(name) if name.ident == "self" => {
            into.push(Import { path: before.to_vec(), name: before.last().cloned().unwrap_or_default() });
        }
        UseTree::Name(name) => into.push(Import { path: with(&name.ident), name: name.ident.to_string() }),
        UseTree::Rename(rename) => {
            let path = if rename.ident == "self" { before.to_vec() } else { with(&rename.ident) };
            into.push(Import { path, name: rename.rename.to_string() });
        }
    }
}

/// The paths in a file's code, but for those of its `use`s.
#[derive(Default)]
struct Paths(Vec<Vec<String>>);

impl<'a> Visit<'a> for Paths {
    fn visit_item(&mut self, item: &'a Item) {
        if !is_test(attributes(item)) && !matches!(item, Item::Use(_)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'a Visibility) {} // `pub(in a::b)` names no import
}

/// Modules by path, with what their `pub use` passes on.
struct Modules<'a> {
    files: BTreeMap<Vec<String>, &'a str>,
    passed_on: BTreeMap<Vec<String>, Vec<String>>,
}

impl<'a> Modules<'a> {
    fn new(sources: &'a [Source]) -> Self {
        let files = sources.iter().map(|source| (source.module(), source.path.as_str())).collect();
        let mut modules = Self { files, passed_on: BTreeMap::new() };
        for source in sources {
            for import in code(source).filter_map(re_export).flatten() {
                let from = modules.absolute(&source.module(), &import.path);
                let name = [source.module(), vec![import.name]].concat();
                modules.passed_on.extend(from.map(|from| (name, from)));
            }
        }
        modules
    }

    /// A path as the crate sees it; nothing for what is of another crate, or of the file itself.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([module, rest].concat()),
            "super" => {
                let mut up = module.to_vec();
                let mut rest = path;
                while let Some(("super", more)) = rest.split_first().map(|(first, more)| (first.as_str(), more)) {
                    up.pop();
                    rest = more;
                }
                Some([&up, rest].concat())
            }
            _ => {
                let child = [module, std::slice::from_ref(first)].concat();
                self.files.contains_key(&child).then(|| [module, path].concat())
            }
        }
    }

    /// The file that defines what an absolute path names.
    fn file(&self, path: &[String]) -> Option<&'a str> {
        for (at, _) in path.iter().enumerate() {
            // A module and something in it that have one name lie in one file.
            let target = self.passed_on.get(&path[..=at]).filter(|_| !self.files.contains_key(&path[..=at]));
            if let Some(target) = target {
                return self.file(&[target, &path[at + 1..]].concat());
            }
        }
        (1..=path.len()).rev().find_map(|length| self.files.get(&path[..length]).copied())
    }

    /// The files that a file imports from.
    fn imported(&self, source: &Source) -> BTreeSet<&'a str> {
        let module = source.module();
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut found: BTreeSet<&str> = BTreeSet::new();
        let mut modules_only: BTreeMap<String, &str> = BTreeMap::new();
        for item in code(source).filter(|item| re_export(item).is_none()) {
            let Item::Use(used) = item else { continue };
            let mut own = Vec::new();
            imports(&used.tree, &[], &mut own);
            for import in own {
                let Some(path) = self.absolute(&module, &import.path) else { continue };
                // A module that is imported as such is asked through its name: whatever is asked of it is what counts.
                match self.files.get(&path).filter(|_| import.name != "*") {
                    Some(file) => drop(modules_only.insert(import.name.clone(), file)),
                    None => found.extend(self.file(&path)),
                }
                names.insert(import.name, path);
            }
        }
        let mut paths = Paths::default();
        code(source).for_each(|item| paths.visit_item(item));
        for path in &paths.0 {
            let whole = match names.get(&path[0]) {
                Some(_) if path.len() == 1 => continue,
                Some(before) => Some([before, &path[1..]].concat()),
                None if path.len() > 1 => self.absolute(&module, path),
                None => None,
            };
            if let Some(file) = whole.and_then(|whole| self.file(&whole)) {
                found.insert(file);
                modules_only.remove(&path[0]);
            }
        }
        found.extend(modules_only.values());
        found.remove(source.path.as_str());
        found
    }
}

/// Names that a `pub use` passes on; nothing for any other item.
fn re_export(item: &Item) -> Option<Vec<Import>> {
    let Item::Use(used) = item else { return None };
    if matches!(used.vis, Visibility::Inherited) {
        return None;
    }
    let mut all = Vec::new();
    imports(&used.tree, &[], &mut all);
    Some(all)
}

/// Groups of files that import from one another in a circle, the files of each in order. A file that only declares and
/// passes on (`mod`, `pub use`) imports nothing.
pub fn circles(sources: &[Source]) -> Vec<Vec<String>> {
    let modules = Modules::new(sources);
    let edges: BTreeMap<&str, BTreeSet<&str>> =
        sources.iter().map(|source| (source.path.as_str(), modules.imported(source))).collect();
    let reach: BTreeMap<&str, BTreeSet<&str>> = edges.keys().map(|file| (*file, reached(&edges, file))).collect();
    let mut circles: BTreeSet<Vec<String>> = BTreeSet::new();
    for (file, seen) in reach.iter().filter(|(file, seen)| seen.contains(*file)) {
        circles.insert(seen.iter().filter(|other| reach[**other].contains(file)).map(|f| f.to_string()).collect());
    }
    circles.into_iter().collect()
}

/// The files that one imports from, and those that these import from, and so on.
fn reached<'a>(edges: &BTreeMap<&str, BTreeSet<&'a str>>, from: &'a str) -> BTreeSet<&'a str> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        let others = edges.get(file).into_iter().flatten();
        next.extend(others.copied().filter(|other| seen.insert(*other)));
    }
    seen
}

/// The direct imports of every file, for a message.
pub fn edges_within(sources: &[Source], circle: &[String]) -> Vec<String> {
    let modules = Modules::new(sources);
    let within = sources.iter().filter(|source| circle.contains(&source.path));
    within
        .map(|source| {
            let imported = modules.imported(source);
            let own: Vec<&str> = imported.into_iter().filter(|file| circle.iter().any(|f| f == file)).collect();
            format!("{} imports {}", source.path, own.join(", "))
        })
        .collect()
}

/// Type names that more than one place defines for others, with their files.
pub fn doubles(sources: &[Source]) -> Vec<String> {
    let mut places: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for source in sources {
        for item in code(source) {
            let (visible, name) = match item {
                Item::Struct(i) => (&i.vis, &i.ident),
                Item::Enum(i) => (&i.vis, &i.ident),
                Item::Union(i) => (&i.vis, &i.ident),
                Item::Type(i) => (&i.vis, &i.ident),
                Item::Trait(i) => (&i.vis, &i.ident),
                _ => continue,
            };
            if !matches!(visible, Visibility::Inherited) {
                places.entry(name.to_string()).or_default().push(&source.path);
            }
        }
    }
    let twice = places.into_iter().filter(|(_, files)| files.len() > 1);
    twice.map(|(name, files)| format!("`{name}` is defined in {}", files.join(" and "))).collect()
}

/// Enums that files under `config` define.
pub fn choices(sources: &[Source]) -> BTreeSet<String> {
    let config = sources.iter().filter(|source| source.path.starts_with("config/"));
    let enums = config.flat_map(code).filter_map(|item| match item {
        Item::Enum(item) => Some(item.ident.to_string()),
        _ => None,
    });
    enums.collect()
}

/// Arms that take whatever is left of a `match` over one of these enums.
pub fn catch_alls(source: &Source, enums: &BTreeSet<String>) -> Vec<String> {
    let mut arms = Arms { enums, found: Vec::new() };
    code(source).for_each(|item| arms.visit_item(item));
    let line = |(span, name): &(Span, String)| {
        let line = span.start().line;
        format!("src/{}:{line}: an arm takes whatever is left of `{name}`; name the variants", source.path)
    };
    arms.found.iter().map(line).collect()
}

struct Arms<'e> {
    enums: &'e BTreeSet<String>,
    found: Vec<(Span, String)>,
}

impl<'a> Visit<'a> for Arms<'_> {
    fn visit_item(&mut self, item: &'a Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_expr_match(&mut self, found: &'a syn::ExprMatch) {
        let mut names = Named { enums: self.enums, found: None };
        found.arms.iter().for_each(|arm| names.visit_pat(&arm.pat));
        if let Some(name) = names.found {
            let open = found.arms.iter().filter(|arm| arm.guard.is_none() && takes_all(&arm.pat));
            self.found.extend(open.map(|arm| (arm.fat_arrow_token.spans[0], name.clone())));
        }
        visit::visit_expr_match(self, found);
    }
}

/// The first of the enums of which a pattern names a variant.
struct Named<'e> {
    enums: &'e BTreeSet<String>,
    found: Option<String>,
}

impl<'a> Visit<'a> for Named<'_> {
    fn visit_path(&mut self, path: &'a syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let [.., parent, _] = &names[..]
            && self.enums.contains(parent)
        {
            self.found.get_or_insert(parent.clone());
        }
    }
}

/// Whether a pattern takes any value: `_`, a name, or a tuple of such.
fn takes_all(pattern: &Pat) -> bool {
    match pattern {
        Pat::Wild(_) | Pat::Rest(_) => true,
        Pat::Ident(name) => {
            name.subpat.is_none() && name.ident.to_string().starts_with(|c: char| c.is_lowercase() || c == '_')
        }
        Pat::Tuple(tuple) => tuple.elems.iter().all(takes_all),
        Pat::Reference(inner) => takes_all(&inner.pat),
        Pat::Paren(inner) => takes_all(&inner.pat),
        _ => false,
    }
}
