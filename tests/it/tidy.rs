//! The rules of the house, kept by a test: who may use whom, who may do what, and how long a file may get.
//!
//! Method: the sources are read as text. A rule names its exceptions with their reasons; a new exception is a decision, to be
//! made here in the open.

use std::fs;
use std::path::{Path, PathBuf};

/// The floors of the house. A module may use those of its own floor and below; a module that is not named here fails the test.
const FLOORS: [(&[&str], usize); 6] = [
    (&["checksum", "clock", "config", "error", "inspect", "panics", "process", "record", "types"], 0),
    (&["assignor", "codec", "compaction", "group", "partitioner", "retention"], 1),
    (&["disk", "journal", "store"], 2),
    (&["engine"], 3),
    (&["admin", "broker", "consumer", "docs", "producer"], 4),
    // The roof: the command-line tool, and what the fuzzers get to see.
    (&["cli", "fuzzing", "main"], 5),
];

/// Lines of code before a file's tests.
const MOST_LINES: usize = 600;

/// A source file.
struct Source {
    /// Below `src`, with `/`.
    name: String,
    text: String,
}

impl Source {
    /// Everything before its unit tests: those may use what they like.
    fn code(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default()
    }

    /// The lines of code, numbered, without comments.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code().lines().enumerate().map(|(i, line)| (i + 1, without_comment(line)))
    }

    /// The module that it belongs to: the first part of its name.
    fn module(&self) -> &str {
        self.name.trim_end_matches(".rs").split('/').next().unwrap_or_default()
    }

    /// Whether all of it is a test.
    fn is_test(&self) -> bool {
        self.name.ends_with("/tests.rs")
    }

    /// Where the line is, for a message.
    fn at(&self, line: usize) -> String {
        format!("src/{}:{line}", self.name)
    }
}

fn without_comment(line: &str) -> &str {
    // A `//` within a string cuts it short, which hides nothing that these rules look for.
    line.split("//").next().unwrap_or_default()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a directory whose names end so.
fn files(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|other| other == extension) {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let directory = root().join("src");
    let mut paths = Vec::new();
    files(&directory, "rs", &mut paths);
    paths.sort();
    assert!(paths.len() > 40, "the sources were found");
    let source = |path: &PathBuf| Source {
        name: path.strip_prefix(&directory).unwrap().to_string_lossy().replace('\\', "/"),
        text: fs::read_to_string(path).unwrap(),
    };
    paths.iter().map(source).collect()
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().find(|(modules, _)| modules.contains(&module)).map(|&(_, floor)| floor)
}

/// Fails with one line for each breach.
fn assert_none(rule: &str, breaches: Vec<String>) {
    assert!(breaches.is_empty(), "{rule}:\n{}", breaches.join("\n"));
}

/// The modules of this crate that a line names by `crate::`.
fn used_modules(line: &str) -> Vec<&str> {
    let end_of_name = |c: char| !(c.is_alphanumeric() || c == '_');
    let after = line.split("crate::").skip(1);
    after.filter_map(|rest| rest.split(end_of_name).next()).filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_module_has_a_floor() {
    let without = |source: &Source| source.name != "lib.rs" && floor_of(source.module()).is_none();
    let strangers = sources().iter().filter(|source| without(source)).map(|source| source.name.clone()).collect();
    assert_none("a new module has to be given a floor here", strangers);
}

/// Upwards means: a file that names a module of a higher floor, or by `crate::Name` what lib.rs exports to users.
#[test]
fn arrows_point_downwards_only() {
    let mut breaches = Vec::new();
    for source in sources().iter().filter(|source| source.name != "lib.rs" && !source.is_test()) {
        let Some(floor) = floor_of(source.module()) else { continue };
        for (number, line) in source.lines() {
            for used in used_modules(line) {
                let upward = floor_of(used).map_or(used.starts_with(char::is_uppercase), |used| used > floor);
                if upward {
                    breaches.push(format!("{}: {}", source.at(number), line.trim()));
                }
            }
        }
    }
    assert_none("a module uses one of a higher floor", breaches);
}

/// The roof is a guest: it uses the public API, like everybody else.
#[test]
fn the_command_line_tool_uses_the_public_api_only() {
    let mut breaches = Vec::new();
    for source in sources().iter().filter(|source| matches!(source.module(), "cli" | "main")) {
        for (number, line) in source.lines() {
            // In the binary `crate` is the tool itself.
            for used in used_modules(line).into_iter().filter(|used| *used != "cli") {
                if floor_of(used).is_some_and(|floor| floor < 5) {
                    breaches.push(format!("{}: {}", source.at(number), line.trim()));
                }
            }
        }
    }
    assert_none("the tool reaches into the house", breaches);
}

/// A rule about words: where they may stand in code, and nowhere else.
struct Confined {
    words: &'static [&'static str],
    rule: &'static str,
    to: &'static [&'static str],
}

const CONFINED: [Confined; 5] = [
    Confined { words: &["redb::", "redb"], rule: "redb is the store's business", to: &["store/"] },
    Confined { words: &["SystemTime", "UNIX_EPOCH"], rule: "only the clock asks what time it is", to: &["clock.rs"] },
    Confined {
        // The tool reads and writes the files that its user names.
        words: &["std::fs", "fs::", "File::", "OpenOptions"],
        rule: "files are the disk's business",
        to: &["disk/", "cli/", "main.rs"],
    },
    Confined { words: &["rustix"], rule: "the operating system is called in one place", to: &["disk/"] },
    Confined {
        words: &["thread::sleep", "println!", "eprintln!", "print!", "dbg!", "process::exit"],
        rule: "a library neither sleeps, nor prints, nor ends the process",
        to: &["cli/", "main.rs"],
    },
];

/// Whether `word` stands in `line` as a word of its own.
fn says(line: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|after| after.chars().next());
        let ends_open = word.ends_with(part_of_name) && after.is_some_and(part_of_name);
        !(before.is_some_and(part_of_name) || ends_open)
    })
}

/// A line without what stands in quotes: a message may say what it likes.
fn without_text(line: &str) -> String {
    line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

#[test]
fn each_outside_thing_has_one_room() {
    for Confined { words, rule, to } in CONFINED {
        let mut breaches = Vec::new();
        let confined = |source: &Source| !source.is_test() && !to.iter().any(|room| source.name.starts_with(room));
        for source in sources().iter().filter(|source| confined(source)) {
            for (number, line) in source.lines() {
                let code = without_text(line);
                if words.iter().any(|word| says(&code, word)) {
                    breaches.push(format!("{}: {}", source.at(number), line.trim()));
                }
            }
        }
        assert_none(rule, breaches);
    }
}

#[test]
fn no_file_is_longer_than_a_reader_likes() {
    let length = |source: &Source| source.code().lines().count();
    let long = sources().into_iter().filter(|source| !source.is_test() && length(source) > MOST_LINES);
    let breaches = long.map(|source| format!("src/{}: {} lines", source.name, length(&source))).collect();
    assert_none("split it by nouns", breaches);
}

#[test]
fn every_file_says_first_what_it_is_about() {
    let is_about = |source: &Source| {
        let first = source.text.lines().next().unwrap_or_default();
        first.strip_prefix("//! ").is_some_and(|sentence| sentence.len() > 10)
    };
    let without = sources().into_iter().filter(|source| source.name != "lib.rs" && !is_about(source));
    assert_none("begin with `//!` and a sentence", without.map(|source| source.name).collect());
}

#[test]
fn nothing_is_left_for_later() {
    let mut paths = Vec::new();
    for directory in ["src", "tests", "benches"] {
        if root().join(directory).is_dir() {
            ["rs", "md"].iter().for_each(|extension| files(&root().join(directory), extension, &mut paths));
        }
    }
    let mut breaches = Vec::new();
    // Spelled in halves, so that this file does not find itself.
    let words = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X"],
        ["HA", "CK"],
        ["todo", "!("],
        ["unimplemented", "!("],
        ["db", "g!("],
    ];
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        for (i, line) in text.lines().enumerate() {
            if words.iter().any(|halves| says(line, &halves.concat())) {
                breaches.push(format!("{}:{}: {}", path.display(), i + 1, line.trim()));
            }
        }
    }
    assert_none("do it now, or write it down elsewhere", breaches);
}

/// Tests neither sleep nor are skipped.
#[test]
fn tests_neither_sleep_nor_are_ignored() {
    let mut paths = Vec::new();
    files(&root().join("tests"), "rs", &mut paths);
    files(&root().join("src"), "rs", &mut paths);
    let words = ["thread::sleep", "#[ignore"];
    let mut breaches = Vec::new();
    // This file names what it looks for.
    for path in paths.into_iter().filter(|path| !path.ends_with("tests/it/tidy.rs")) {
        let text = fs::read_to_string(&path).unwrap();
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if words.iter().any(|word| line.contains(word)) {
                breaches.push(format!("{}:{}: {}", path.display(), i + 1, line.trim()));
            }
        }
    }
    assert_none("wait for an event, and run every test", breaches);
}

/// Every path that a document of the project names must exist.
#[test]
fn documents_name_paths_that_exist() {
    let mut documents = vec![root().join("README.md")];
    files(&root().join("src/docs"), "md", &mut documents);
    let mut breaches = Vec::new();
    for document in documents.iter().filter(|document| document.exists()) {
        let text = fs::read_to_string(document).unwrap();
        for quoted in text.split('`').skip(1).step_by(2).filter(|quoted| is_path_of_ours(quoted)) {
            let exists = [root().join(quoted), root().join("src").join(quoted)].iter().any(|path| path.exists());
            if !exists {
                breaches.push(format!("{}: `{quoted}`", document.display()));
            }
        }
    }
    assert_none("a document names what does not exist", breaches);
}

/// Whether a quoted word looks like a path of this project: not one of a user's files or of another project.
fn is_path_of_ours(quoted: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let directories = ["src/", "tests/", "benches/", "fuzz/", "examples/", ".ci/"];
    let named = directories.iter().any(|directory| quoted.starts_with(directory));
    quoted.chars().all(plain) && (named || (quoted.ends_with(".rs") && quoted.contains('/')))
}

/// redb is a dependency of the crate, pinned to one minor release, and of nothing else in it.
#[test]
fn redb_is_pinned() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let lines: Vec<_> = manifest.lines().filter(|line| line.starts_with("redb")).collect();
    assert!(matches!(lines[..], [line] if line.contains("\"=4.")), "{lines:?}");
}

/// The rules find what they look for.
#[test]
fn the_rules_see_breaches() {
    assert_eq!(used_modules("use crate::engine::{Engine}; crate::types::Offset"), ["engine", "types"]);
    assert!(says("use redb::Database;", "redb") && !says("let redbull = 1;", "redb") && !says("unredb", "redb"));
    assert!(says("fs::read(path)", "fs::") && !says("offs::read(path)", "fs::"));
    assert_eq!(without_text(r#"f("redb", 1)"#), r#"f("", 1)"#);
    assert_eq!(without_comment("code(); // redb"), "code(); ");
    assert!(
        is_path_of_ours("src/engine/mod.rs") && is_path_of_ours("engine/mod.rs") && !is_path_of_ours("app.brooklet")
    );
    let source = Source { name: "a/b.rs".to_owned(), text: "//! A.\nx\n#[cfg(test)]\nmod tests {\ny\n}\n".to_owned() };
    assert_eq!((source.module(), source.code().lines().count()), ("a", 2));
}
