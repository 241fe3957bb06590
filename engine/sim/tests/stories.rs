//! Stories worth reading: what is done to a cluster, and what happens, message by message. Each
//! `stories/NAME.story` has its `NAME.told` beside it. After a change that is meant to alter what
//! is told, `TELL=1 cargo test -p sim --test stories` writes them anew; read the difference.

use std::fs;
use std::path::Path;

use sim::scenario::tell;

#[test]
fn stories_are_told_as_before() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
    let mut names: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "story"))
        .collect();
    names.sort();
    assert!(names.len() >= 6, "the stories are in {}", directory.display());
    for path in names {
        let name = path.display();
        let told = tell(&fs::read_to_string(&path).unwrap());
        let told = told.unwrap_or_else(|error| panic!("{name}: {error}"));
        let file = path.with_extension("told");
        if std::env::var_os("TELL").is_some() {
            fs::write(&file, &told).unwrap();
        }
        let before = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(told, before, "{name} is told differently now");
    }
}

#[test]
fn a_story_that_makes_no_sense_names_its_line() {
    for (text, line, word) in [
        ("ask A at 0: GET k", 1, "nodes"),
        ("nodes 1 1 1\nfrobnicate 1", 2, "frobnicate"),
        ("nodes 1 1 1\n\nask A at 9: GET k\n", 3, "9"),
        ("nodes 1 1 1\npass 10 hours", 2, "hours"),
        ("nodes 1 1 1\nask A at 0: GET k\nexpect A: 7", 3, "nothing"),
        ("nodes 1 1 1\nexpect B: 7", 2, "`B`"),
    ] {
        let error = tell(text).unwrap_err();
        assert!(error.line == line && error.what.contains(word), "{text}: {error}");
    }
}
