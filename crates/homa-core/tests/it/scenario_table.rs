//! Which test shows which scenario of the specification.
//!
//! `testdata/scenarios.csv` names every scenario. A test names those it shows in a comment line
//! above its attributes, `// Scenario: R13, R14`. From both comes `docs/spec/scenarios.md`;
//! `HOMA_UPDATE=1` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What begins a comment line that names scenarios.
const TAG: &str = "// Scenario:";

/// A line of `testdata/scenarios.csv`.
#[derive(Debug)]
struct Scenario {
    id: String,
    /// Asks for more than the Linux implementation does; a star behind the id says so.
    more: bool,
    title: String,
    /// Where the behaviour here is deliberately another than that of the Linux implementation.
    difference: String,
    /// Why there is no such behaviour here; empty if a test is due.
    not_applicable: String,
}

/// A test function that names scenarios.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shown {
    /// Relative to the workspace.
    file: String,
    test: String,
}

/// The tests of every scenario that is named somewhere.
type Tags = BTreeMap<String, Vec<Shown>>;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn scenarios() -> Vec<Scenario> {
    let mut reader = csv::Reader::from_path(workspace().join("testdata/scenarios.csv")).unwrap();
    let header: Vec<_> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(header, ["id", "title", "difference", "not_applicable"]);
    let scenario = |record: csv::StringRecord| Scenario {
        id: record[0].trim_end_matches('*').to_owned(),
        more: record[0].ends_with('*'),
        title: record[1].to_owned(),
        difference: record[2].to_owned(),
        not_applicable: record[3].to_owned(),
    };
    reader.records().map(|record| scenario(record.unwrap())).collect()
}

/// All Rust files below `directory`, in a fixed order.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The tests of one source and the scenarios they name; a tag that belongs to no test is an error.
fn tags_of(source: &str) -> Result<Vec<(String, Vec<String>)>, String> {
    let mut tagged = Vec::new();
    let mut pending: Vec<String> = Vec::new();
    let mut is_test = false;
    for (number, line) in source.lines().enumerate() {
        let line = line.trim();
        if let Some(ids) = line.strip_prefix(TAG) {
            pending.extend(ids.split(',').map(|id| id.trim().to_owned()));
        } else if pending.is_empty() || line.starts_with("//") {
            continue;
        } else if line.starts_with("#[") {
            is_test |= line.contains("test]") || line.contains("test(");
            if line.starts_with("#[ignore") {
                return Err(format!("line {}: an ignored test shows nothing", number + 1));
            }
        } else {
            let name = line.split_once("fn ").and_then(|(_, rest)| rest.split('(').next());
            let Some(name) = name.filter(|_| is_test) else {
                return Err(format!("line {}: {TAG} {pending:?} above no test", number + 1));
            };
            tagged.push((name.to_owned(), std::mem::take(&mut pending)));
            is_test = false;
        }
    }
    if pending.is_empty() { Ok(tagged) } else { Err(format!("{TAG} {pending:?} at the end")) }
}

/// The tags of all crates, and what is wrong with them.
fn all_tags() -> (Tags, Vec<String>) {
    let (mut tags, mut wrong, mut files) = (Tags::new(), Vec::new(), Vec::new());
    let root = workspace();
    for folder in ["crates", "tools"] {
        sources(&root.join(folder), &mut files);
    }
    for path in files {
        let file = path.strip_prefix(&root).unwrap().display().to_string();
        if file == "crates/homa-core/tests/it/scenario_table.rs" {
            continue;
        }
        match tags_of(&fs::read_to_string(&path).unwrap()) {
            Ok(tagged) => {
                for (test, ids) in tagged {
                    for id in ids {
                        let shown = Shown { file: file.clone(), test: test.clone() };
                        tags.entry(id).or_default().push(shown);
                    }
                }
            }
            Err(why) => wrong.push(format!("{file}: {why}")),
        }
    }
    (tags, wrong)
}

/// What keeps the table from being complete.
fn gaps(scenarios: &[Scenario], tags: &Tags) -> Vec<String> {
    let mut wrong = Vec::new();
    for (index, scenario) in scenarios.iter().enumerate() {
        let Scenario { id, title, not_applicable, .. } = scenario;
        if scenarios[..index].iter().any(|earlier| earlier.id == *id) {
            wrong.push(format!("{id} is listed twice"));
        }
        if title.is_empty() {
            wrong.push(format!("{id} has no title"));
        }
        match (tags.contains_key(id), not_applicable.is_empty()) {
            (false, true) => wrong.push(format!("{id} has neither a test nor a reason")),
            (true, false) => wrong.push(format!("{id} has a test and a reason to have none")),
            _ => {}
        }
    }
    let unknown = |id: &&String| !scenarios.iter().any(|scenario| scenario.id == **id);
    for id in tags.keys().filter(unknown) {
        wrong.push(format!("{id} is no scenario, but {:?} names it", tags[id]));
    }
    wrong
}

const GROUPS: [(&str, &str); 14] = [
    ("W", "Wire format"),
    ("S", "Sending"),
    ("P", "Pacing"),
    ("R", "Receiving DATA"),
    ("G", "Grants"),
    ("T", "Timer and retransmission"),
    ("A", "Acks"),
    ("E", "Errors"),
    ("B", "Buffers"),
    ("C", "Clients, servers and sockets"),
    ("X", "Calls of the user"),
    ("K", "Priorities and peers"),
    ("D", "State that goes away"),
    ("O", "Observability"),
];

const INTRODUCTION: &str = "# Scenarios

Behaviours of the protocol, and the tests that show them. They are those that the unit tests of HomaModule (Linux) exercise,
with its defaults, so what they say is what Linux does; where this implementation deliberately does something
else, *Here* says what. Scenarios with a star ask for more than Linux does. Those that only a kernel can have are listed
with the reason.

Generated from `testdata/scenarios.csv` and the `// Scenario:` lines of the tests by
`HOMA_UPDATE=1 cargo test -p homa-core --test it scenario_table`.
";

fn table(scenarios: &[Scenario], tags: &Tags) -> String {
    let mut text = INTRODUCTION.to_owned();
    let shown = scenarios.iter().filter(|scenario| tags.contains_key(&scenario.id)).count();
    let not = scenarios.iter().filter(|scenario| !scenario.not_applicable.is_empty()).count();
    writeln!(
        text,
        "\n{} scenarios: {shown} shown by tests, {not} without meaning here.",
        scenarios.len()
    )
    .unwrap();
    for (letter, name) in GROUPS {
        let members = || scenarios.iter().filter(|scenario| scenario.id.starts_with(letter));
        writeln!(text, "\n## {letter}. {name}\n\n| | Behaviour | Shown by |\n| --- | --- | --- |")
            .unwrap();
        for scenario in members().filter(|scenario| scenario.not_applicable.is_empty()) {
            row(&mut text, scenario, tags.get(&scenario.id).map_or(&[][..], Vec::as_slice));
        }
        let mut others =
            members().filter(|scenario| !scenario.not_applicable.is_empty()).peekable();
        if others.peek().is_some() {
            text.push_str("\n| | Not here | Why |\n| --- | --- | --- |\n");
        }
        for Scenario { id, title, not_applicable, .. } in others {
            writeln!(text, "| {id} | {title} | {not_applicable} |").unwrap();
        }
    }
    text
}

fn row(text: &mut String, scenario: &Scenario, tests: &[Shown]) {
    let Scenario { id, title, difference, .. } = scenario;
    let star = if scenario.more { "\\*" } else { "" };
    let here =
        if difference.is_empty() { String::new() } else { format!("<br>*Here:* {difference}") };
    let link = |shown: &Shown| {
        let Shown { file, test } = shown;
        format!("[`{test}`](../../{file})")
    };
    let tests: Vec<_> = tests.iter().map(link).collect();
    writeln!(text, "| {id}{star} | {title}{here} | {} |", tests.join("<br>")).unwrap();
}

#[test]
fn every_scenario_has_a_test_or_a_reason_and_the_table_is_up_to_date() {
    let scenarios = scenarios();
    let (mut tags, mut wrong) = all_tags();
    tags.values_mut().for_each(|tests| tests.sort());
    wrong.extend(gaps(&scenarios, &tags));
    let path = workspace().join("docs/spec/scenarios.md");
    let table = table(&scenarios, &tags);
    if std::env::var_os("HOMA_UPDATE").is_some() {
        fs::write(&path, table).unwrap();
    } else if fs::read_to_string(&path).unwrap_or_default() != table {
        wrong
            .push("docs/spec/scenarios.md is out of date: HOMA_UPDATE=1 writes it anew".to_owned());
    }
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_tag_belongs_to_the_next_test() {
    let source = "// Scenario: R1, R2\n// Scenario: G3\n/// Why.\n#[test]\nfn one() {}\n#[test]\nfn two() {}";
    let ids = ["R1", "R2", "G3"].map(str::to_owned).to_vec();
    assert_eq!(tags_of(source), Ok(vec![("one".to_owned(), ids)]));
    let asynchronous =
        "// Scenario: R1\n#[tokio::test(flavor = \"current_thread\")]\nasync fn one() {}";
    assert_eq!(tags_of(asynchronous), Ok(vec![("one".to_owned(), vec!["R1".to_owned()])]));
}

#[test]
fn a_tag_above_no_test_or_an_ignored_one_is_refused() {
    for source in [
        "// Scenario: R1\nfn helper() {}\n",
        "// Scenario: R1\n\n#[test]\nfn far() {}\n",
        "// Scenario: R1\n#[test]\n#[ignore = \"slow\"]\nfn never() {}\n",
        "#[test]\nfn early() {}\n// Scenario: R1\n",
    ] {
        assert!(tags_of(source).is_err(), "{source}");
    }
}

#[test]
fn a_scenario_without_test_and_reason_and_an_unknown_one_are_found() {
    let scenario = |id: &str, why: &str| Scenario {
        id: id.to_owned(),
        more: false,
        title: "title".to_owned(),
        difference: String::new(),
        not_applicable: why.to_owned(),
    };
    let shown = || vec![Shown { file: "file".to_owned(), test: "test".to_owned() }];
    let tags: Tags = ["R1", "R2", "R9"].map(|id| (id.to_owned(), shown())).into();
    let found = gaps(&[scenario("R1", ""), scenario("R2", "why"), scenario("R3", "")], &tags);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("R2 has a test and a reason"));
    assert!(found[1].starts_with("R3 has neither"));
    assert!(found[2].starts_with("R9 is no scenario"));
}
