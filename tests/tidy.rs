//! Checks on the source tree itself: what the compiler does not hold, and what documents promise.
//!
//! Each check takes the tree as a map from path to text and returns what offends, so that it can be
//! shown to fail on a tree in which something was planted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use toml::Table;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

const COLUMNS: usize = 100;

/// The crates of the workspace, and which of the others each may depend on.
const ALLOWED: [(&str, &[&str]); 5] = [
    ("plog", &[]),
    ("net", &["plog"]),
    ("engine", &["net", "plog"]),
    ("engine/runtime", &["engine", "net", "plog"]),
    ("engine/sim", &["engine", "net", "plog"]),
];

/// Where the pure crates' code is.
const PURE: [&str; 3] = ["plog/src/", "net/src/", "engine/src/"];

/// All that pure crates may use from elsewhere: nothing in it knows the world.
const PURE_DEPENDENCIES: [&str; 5] = ["ahash", "crc32fast", "itoa", "rkyv", "thiserror"];

/// What their tests may use besides; never linked into anything that runs.
const PURE_TEST_DEPENDENCIES: [&str; 1] = ["bolero"];

/// The one file that names the executor's crate.
const EXECUTOR: &str = "engine/runtime/src/executor.rs";

/// Paths that lead out of a pure crate, and words that only code with a world needs.
const WORLD_PATHS: [&str; 7] = [
    "std::fs",
    "std::net",
    "std::thread",
    "std::time",
    "std::{",
    "RandomState::new",
    "HashMap::new",
];
const WORLD_WORDS: [&str; 6] = ["Instant", "SystemTime", "async", "await", "rand", "getrandom"];

/// The text of every file that belongs to the project, and which files can be run.
#[derive(Clone, Debug, Default)]
struct Tree {
    files: BTreeMap<String, String>,
    executables: BTreeSet<String>,
}

impl Tree {
    fn read() -> Self {
        let mut tree = Self::default();
        tree.read_directory(Path::new(ROOT));
        assert!(tree.files.len() > 100, "the tree was found");
        tree
    }

    /// Leaves out what `.gitignore` does.
    fn read_directory(&mut self, directory: &Path) {
        for entry in fs::read_dir(directory).expect("the tree can be listed") {
            let path = entry.expect("the tree can be listed").path();
            let inside = path.strip_prefix(ROOT).expect("below the root");
            let name = inside.to_str().expect("names in the tree are plain").to_owned();
            let is_ignored = path.ends_with("target")
                || [".git", "demo-", "compare-"].iter().any(|start| {
                    name.starts_with(start) && name != ".gitignore" && name != ".gitattributes"
                });
            if is_ignored || name.ends_with(".hlog") || name.ends_with(".hgrm") {
                continue;
            }
            let metadata = fs::symlink_metadata(&path).expect("the tree can be looked at");
            if metadata.is_dir() {
                self.read_directory(&path);
            } else if metadata.is_file() {
                let bytes = fs::read(&path).expect("the tree can be read");
                self.files.insert(name.clone(), String::from_utf8_lossy(&bytes).into_owned());
                if metadata.permissions().mode() & 0o111 != 0 {
                    self.executables.insert(name);
                }
            }
        }
    }

    fn text(&self, name: &str) -> &str {
        self.files.get(name).unwrap_or_else(|| panic!("{name} belongs to the tree"))
    }

    fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        let files = self.files.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        files.filter(|(name, _)| name.ends_with(".rs"))
    }

    fn manifest(&self, directory: &str) -> Table {
        let name = Path::new(directory).join("Cargo.toml");
        let name = name.to_str().expect("made of plain text");
        self.text(name).parse().unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

/// One line of Rust, taken apart.
#[derive(Debug, Default)]
struct Line {
    /// What is compiled, each string and character literal reduced to its quotes.
    code: String,
    /// Whether a part of it is in a string.
    in_string: bool,
    /// What is in comments.
    comment: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    Code,
    LineComment,
    /// With this many beginnings that were not ended.
    BlockComment(u32),
    /// With this many hashes behind its end; [`None`] for one with escapes.
    Text(Option<usize>),
}

/// Takes Rust apart, as far as these checks need.
fn lines(text: &str) -> Vec<Line> {
    let characters: Vec<char> = text.chars().collect();
    let at = |position: usize| characters.get(position).copied().unwrap_or('\n');
    let (mut all, mut line, mut mode) = (Vec::new(), Line::default(), Mode::Code);
    let mut position = 0;
    while position < characters.len() {
        let character = characters[position];
        position += 1;
        if character == '\n' {
            if mode == Mode::LineComment {
                mode = Mode::Code;
            }
            all.push(std::mem::take(&mut line));
            continue;
        }
        line.in_string |= matches!(mode, Mode::Text(_));
        match mode {
            Mode::LineComment => line.comment.push(character),
            Mode::BlockComment(depth) => {
                line.comment.push(character);
                if character == '*' && at(position) == '/' {
                    position += 1;
                    mode = if depth == 1 { Mode::Code } else { Mode::BlockComment(depth - 1) };
                } else if character == '/' && at(position) == '*' {
                    position += 1;
                    mode = Mode::BlockComment(depth + 1);
                }
            }
            Mode::Text(None) if character == '\\' => position += usize::from(at(position) != '\n'),
            Mode::Text(hashes) => {
                let hashes = hashes.unwrap_or(0);
                if character == '"' && (0..hashes).all(|hash| at(position + hash) == '#') {
                    position += hashes;
                    line.code.push('"');
                    mode = Mode::Code;
                }
            }
            Mode::Code => {
                if character == '/' && at(position) == '/' {
                    line.comment.push(character);
                    mode = Mode::LineComment;
                } else if character == '/' && at(position) == '*' {
                    position += 1;
                    mode = Mode::BlockComment(1);
                } else if character == '"' {
                    let before = line.code.trim_end_matches('#');
                    let raw = before.ends_with('r') || before.ends_with("br");
                    mode = Mode::Text(raw.then_some(line.code.len() - before.len()));
                    line.in_string = true;
                    line.code.push('"');
                } else if character == '\'' && (at(position) == '\\' || at(position + 1) == '\'') {
                    position += if at(position) == '\\' { 2 } else { 1 };
                    while at(position) != '\'' && at(position) != '\n' {
                        position += 1;
                    }
                    position += 1;
                    line.code.push_str("''");
                } else {
                    line.code.push(character);
                }
            }
        }
    }
    all.push(line);
    all
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|character: char| !character.is_alphanumeric() && character != '_')
}

/// The names in all the tables of a manifest that bring dependencies.
fn dependencies(manifest: &Table) -> BTreeSet<String> {
    dependencies_in(manifest, &|table| table.ends_with("dependencies"))
}

/// Those that are linked into the crate, and not into its tests alone.
fn linked_dependencies(manifest: &Table) -> BTreeSet<String> {
    let is_linked = |table: &str| table.ends_with("dependencies") && table != "dev-dependencies";
    dependencies_in(manifest, &is_linked)
}

fn dependencies_in(manifest: &Table, is_wanted: &dyn Fn(&str) -> bool) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (key, value) in manifest {
        let Some(table) = value.as_table() else { continue };
        if is_wanted(key) {
            names.extend(table.keys().cloned());
        } else if key == "target" {
            let targets = table.values().filter_map(|value| value.as_table());
            names.extend(targets.flat_map(|target| dependencies_in(target, is_wanted)));
        }
    }
    names
}

fn check_dependency_direction(tree: &Tree) -> Vec<String> {
    let mut offences = Vec::new();
    let ours: BTreeSet<&str> =
        ALLOWED.iter().map(|(directory, _)| directory.rsplit('/').next().expect("one")).collect();
    let workspace = tree.manifest("");
    let members = workspace["workspace"]["members"].as_array().expect("a list of directories");
    for member in members.iter().filter_map(|member| member.as_str()) {
        if !ALLOWED.iter().any(|(directory, _)| *directory == member) {
            offences.push(format!("{member} is a crate that tests/tidy.rs does not know"));
        }
    }
    for (directory, allowed) in ALLOWED {
        let manifest = tree.manifest(directory);
        let linked = linked_dependencies(&manifest);
        for name in dependencies(&manifest) {
            let is_pure = PURE.contains(&format!("{directory}/src/").as_str());
            let is_for_tests =
                PURE_TEST_DEPENDENCIES.contains(&name.as_str()) && !linked.contains(&name);
            if ours.contains(name.as_str()) {
                if !allowed.contains(&name.as_str()) {
                    offences.push(format!("{directory} must not depend on {name}"));
                }
            } else if is_pure && !PURE_DEPENDENCIES.contains(&name.as_str()) && !is_for_tests {
                offences.push(format!("{directory} is pure and must not depend on {name}"));
            }
        }
    }
    offences
}

fn check_executor_is_fenced(tree: &Tree) -> Vec<String> {
    let name = concat!("glom", "mio");
    let mut offences = Vec::new();
    for (file, text) in tree.rust().filter(|(file, _)| *file != EXECUTOR) {
        for (line, number) in lines(text).iter().zip(1..) {
            if words(&line.code).any(|word| word == name) {
                offences.push(format!("{file}:{number} names {name}; only {EXECUTOR} may"));
            }
        }
    }
    let manifests = tree.files.keys().filter_map(|file| file.strip_suffix("Cargo.toml"));
    for directory in manifests.filter(|directory| *directory != "engine/runtime/") {
        if dependencies(&tree.manifest(directory)).contains(name) {
            offences.push(format!("{directory}Cargo.toml depends on {name}"));
        }
    }
    offences
}

fn check_purity(tree: &Tree) -> Vec<String> {
    let mut offences = Vec::new();
    for (file, text) in tree.rust() {
        if !PURE.iter().any(|directory| file.starts_with(directory)) {
            continue;
        }
        for (line, number) in lines(text).iter().zip(1..) {
            let word = words(&line.code).find(|word| WORLD_WORDS.contains(word));
            let path = WORLD_PATHS.into_iter().find(|path| line.code.contains(path));
            if let Some(found) = word.or(path) {
                offences.push(format!("{file}:{number} is in a pure crate and names {found}"));
            }
        }
    }
    offences
}

/// Code is the formatter's business, where it can break a line at all; strings, addresses and
/// pictures (`text` blocks) cannot be broken.
fn check_columns(tree: &Tree) -> Vec<String> {
    let mut offences = Vec::new();
    for (file, text) in tree.rust() {
        let mut in_picture = false;
        for ((whole, line), number) in text.lines().zip(lines(text)).zip(1..) {
            if line.comment.trim_start_matches(['/', '!', ' ']).starts_with("```") {
                in_picture = !in_picture;
            } else if line.comment.is_empty() {
                in_picture = false;
            }
            let columns = whole.chars().count();
            let is_exempt = in_picture || line.in_string || whole.contains("://");
            if columns > COLUMNS && !is_exempt {
                offences.push(format!("{file}:{number} has {columns} columns"));
            }
        }
    }
    offences
}

/// Compares the table of dependencies in `ARCHITECTURE.md` with the workspace's.
fn check_dependencies_are_explained(tree: &Tree) -> Vec<String> {
    let workspace = tree.manifest("");
    let listed = workspace["workspace"]["dependencies"].as_table().expect("a table");
    let is_foreign = |value: &toml::Value| value.get("path").is_none();
    let needed: BTreeSet<&str> = listed
        .iter()
        .filter_map(|(name, value)| is_foreign(value).then_some(name.as_str()))
        .collect();
    let page = tree.text("ARCHITECTURE.md");
    let section = page.split_once("\n## Dependencies\n").map_or("", |(_, rest)| rest);
    let section = section.split("\n## ").next().expect("split yields a part");
    let explained: BTreeMap<&str, &str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, reason)| (name, reason.trim_end_matches([' ', '|'])))
        .collect();
    let mut offences = Vec::new();
    for name in needed {
        if explained.get(name).is_none_or(|reason| reason.is_empty()) {
            offences.push(format!("ARCHITECTURE.md does not say why {name} is used"));
        }
    }
    for name in explained.keys().filter(|name| !listed.contains_key(**name)) {
        offences.push(format!("ARCHITECTURE.md explains {name}, which is not used"));
    }
    offences
}

fn check_scripts_are_documented(tree: &Tree) -> Vec<String> {
    let pages: Vec<&str> = (tree.files.iter())
        .filter_map(|(name, text)| name.ends_with(".md").then_some(text.as_str()))
        .collect();
    let scripts = tree.executables.iter().filter(|name| name.starts_with("scripts/"));
    let is_unknown = |script: &&String| !pages.iter().any(|page| page.contains(script.as_str()));
    scripts.filter(is_unknown).map(|script| format!("no document mentions {script}")).collect()
}

fn check_nothing_is_unfinished(tree: &Tree) -> Vec<String> {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let mut offences = Vec::new();
    for (file, text) in &tree.files {
        for (line, number) in text.lines().zip(1..) {
            if let Some(mark) = words(line).find(|word| marks.contains(word)) {
                offences.push(format!("{file}:{number} says {mark}"));
            }
        }
    }
    offences
}

fn check_no_machine_is_named(tree: &Tree) -> Vec<String> {
    let places = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let mut offences = Vec::new();
    for (file, text) in &tree.files {
        for (line, number) in text.lines().zip(1..) {
            if let Some(place) = places.iter().find(|place| line.contains(**place)) {
                offences.push(format!("{file}:{number} names a place of one machine, {place}"));
            }
        }
    }
    offences
}

fn assert_tidy(check: impl Fn(&Tree) -> Vec<String>) {
    let offences = check(&Tree::read());
    assert!(offences.is_empty(), "{} offences:\n{}", offences.len(), offences.join("\n"));
}

#[test]
fn dependencies_point_one_way() {
    assert_tidy(check_dependency_direction);
}

#[test]
fn one_file_names_the_executor() {
    assert_tidy(check_executor_is_fenced);
}

#[test]
fn pure_crates_know_no_world() {
    assert_tidy(check_purity);
}

#[test]
fn lines_have_at_most_100_columns() {
    assert_tidy(check_columns);
}

#[test]
fn every_dependency_has_its_reason() {
    assert_tidy(check_dependencies_are_explained);
}

#[test]
fn every_script_is_in_a_document() {
    assert_tidy(check_scripts_are_documented);
}

#[test]
fn nothing_is_marked_as_unfinished() {
    assert_tidy(check_nothing_is_unfinished);
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    assert_tidy(check_no_machine_is_named);
}

/// Plants `text` at the end of a file; the check must name what is new, and nothing else.
fn assert_found(check: impl Fn(&Tree) -> Vec<String>, file: &str, text: &str, said: &str) {
    let mut tree = Tree::read();
    let before = check(&tree);
    tree.files.entry(file.to_owned()).or_default().push_str(text);
    let found: Vec<String> =
        check(&tree).into_iter().filter(|offence| !before.contains(offence)).collect();
    assert!(found.len() == 1 && found[0].contains(said), "{text}: {found:?}");
}

#[test]
fn every_check_finds_what_is_planted() {
    let manifest = "\n[target.'cfg(unix)'.dev-dependencies]\nengine.workspace = true\n";
    assert_found(check_dependency_direction, "plog/Cargo.toml", manifest, "depend on engine");
    let manifest = "\n[target.'cfg(unix)'.dependencies]\nlibc.workspace = true\n";
    assert_found(check_dependency_direction, "net/Cargo.toml", manifest, "depend on libc");
    let manifest = "\n[build-dependencies]\nbolero.workspace = true\n";
    assert_found(check_dependency_direction, "net/Cargo.toml", manifest, "depend on bolero");
    let code = concat!("use glom", "mio::Task;\n");
    assert_found(check_executor_is_fenced, "engine/src/batch.rs", code, "batch.rs");
    let code = "fn now() { std::time::Duration::ZERO; }\n";
    assert_found(check_purity, "engine/src/shard/mod.rs", code, "std::time");
    assert_found(check_purity, "net/src/lib.rs", "async fn wait() {}\n", "async");
    let code = format!("// {}\n", "word ".repeat(20));
    assert_found(check_columns, "plog/src/lib.rs", &code, "columns");
    let row = "| `left-pad` | none |\n";
    assert_found(check_dependencies_are_explained, "ARCHITECTURE.md", row, "left-pad");
    let mark = concat!("// TO", "DO: later\n");
    assert_found(check_nothing_is_unfinished, "plog/src/lib.rs", mark, "plog/src/lib.rs");
    let path = concat!("see /ro", "ot/notes\n");
    assert_found(check_no_machine_is_named, "docs/NEW.md", path, "docs/NEW.md");
    let mut tree = Tree::read();
    tree.executables.insert("scripts/nobody-knows".to_owned());
    assert_eq!(check_scripts_are_documented(&tree), ["no document mentions scripts/nobody-knows"]);
    let page = tree.files.get_mut("ARCHITECTURE.md").expect("it is there");
    *page = page.replace("| `clap` |", "| clap |");
    let found = check_dependencies_are_explained(&tree);
    assert!(found.iter().any(|offence| offence.contains("why clap")), "{found:?}");
}

#[test]
fn strings_and_comments_are_told_from_code() {
    let text =
        "let a = \"async // no\"; // await\nlet b = r#\"std::fs \" x\n\"#; 'a'; '\\''; &'c d; e\n";
    let lines = lines(text);
    let code: Vec<&str> = lines.iter().map(|line| line.code.trim_end()).collect();
    assert_eq!(code, ["let a = \"\";", "let b = r#\"", "\"; ''; ''; &'c d; e", ""]);
    assert_eq!(lines[0].comment, "// await");
    assert!(lines[1].in_string && lines[2].in_string && !lines[3].in_string);
}
