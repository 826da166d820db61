//! Whatever the repository cites is there: pages, their sections, and the steps and rules of these;
//! and ARCHITECTURE.md names the crates as they are.
//!
//! A citation is `PATH §SECTION`: a path from the root of the repository, and a number or a
//! heading. `rule N` or `step N` behind it names an entry of a numbered list or a row of a table.
//! Further sections of the same page may follow after a comma, "and" or "to". Within a page of
//! `docs/spec` a section alone is its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Files that are looked at.
const EXTENSIONS: [&str; 5] = ["rs", "md", "toml", "lua", "py"];
/// What is cited besides our own pages.
const FOREIGN: [&str; 4] = ["RFC ", "SIGCOMM'18 ", "SIGCOMM 2018 ", "ATC'21 "];
/// This file has citations that name nothing.
const HERE: &str = "tools/homa-docs/tests/citations.rs";

/// A page: its headings, each with the numbers of the list entries and table rows below it.
#[derive(Debug, Default)]
struct Page {
    sections: Vec<Section>,
}

#[derive(Debug)]
struct Section {
    /// `9` or `2.1`, the letter of a group of scenarios, or nothing.
    number: String,
    title: String,
    depth: usize,
    entries: Vec<u32>,
}

impl Page {
    fn new(text: &str) -> Self {
        let mut page = Self::default();
        let mut fenced = false;
        for line in text.lines() {
            fenced ^= line.starts_with("```");
            if fenced {
                continue;
            }
            let depth = line.bytes().take_while(|byte| *byte == b'#').count();
            if depth > 0 && line[depth..].starts_with(' ') {
                let (number, title) = number_and_title(line[depth..].trim());
                page.sections.push(Section { number, title, depth, entries: Vec::new() });
            } else if let (Some(entry), Some(section)) =
                (entry_number(line), page.sections.last_mut())
            {
                section.entries.push(entry);
            }
        }
        page
    }

    /// The section that `text` begins with, and the length of its name there: the longest of those
    /// that fit.
    fn find(&self, text: &str) -> Option<(usize, usize)> {
        let names = self.sections.iter().enumerate().flat_map(|(index, section)| {
            [&section.number, &section.title].map(|name| (index, name))
        });
        let fits = names.filter(|(_, name)| {
            !name.is_empty() && text.starts_with(name.as_str()) && ends_here(name, text)
        });
        fits.map(|(index, name)| (index, name.len())).max_by_key(|(_, bytes)| *bytes)
    }

    /// Whether a section, or one below it, has a list entry or a table row of this number.
    fn has_entry(&self, section: usize, entry: u32) -> bool {
        let depth = self.sections[section].depth;
        let below = self.sections[section + 1..].iter().take_while(|below| below.depth > depth);
        self.sections[section..=section].iter().chain(below).any(|s| s.entries.contains(&entry))
    }
}

/// Whether the name is a whole word, or a whole number, at the beginning of the text.
fn ends_here(name: &str, text: &str) -> bool {
    let mut rest = text[name.len()..].chars();
    match (rest.next(), rest.next()) {
        (Some('.'), Some(next)) => !next.is_ascii_digit(),
        (Some(next), _) => !next.is_alphanumeric(),
        (None, _) => true,
    }
}

/// `9. Checks on receipt`, `2.1 Constants`, `R. Receiving DATA`: the number and the title of a
/// heading.
fn number_and_title(heading: &str) -> (String, String) {
    let plain = heading.replace('`', "");
    let (first, rest) = plain.split_once(' ').unwrap_or((&plain, ""));
    let number = first.trim_end_matches('.');
    let is_letter = first.len() == 2 && first.ends_with('.');
    if is_letter || number.starts_with(|first: char| first.is_ascii_digit()) {
        (number.to_owned(), rest.to_owned())
    } else {
        (String::new(), plain)
    }
}

/// The number of `3. …` or `| 3 | …`.
fn entry_number(line: &str) -> Option<u32> {
    let line = line.trim_start();
    let (number, _) =
        line.strip_prefix("| ").map_or(line.split_once(". "), |row| row.split_once(' '))?;
    number.parse().ok()
}

/// A text whose lines are joined without the marks of comments, and the line each byte comes from.
struct Joined {
    text: String,
    lines: Vec<usize>,
}

impl Joined {
    fn new(source: &str) -> Self {
        let mut joined = Self { text: String::new(), lines: Vec::new() };
        for (number, line) in source.lines().enumerate() {
            let line = line.trim_start();
            let marks = ["//! ", "/// ", "// ", "# ", "-- "];
            let plain = marks.iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line);
            joined.text.push_str(plain);
            joined.text.push(' ');
            joined.lines.resize(joined.text.len(), number + 1);
        }
        joined
    }
}

/// The pages of the repository and what is wrong with citations of them.
struct Checker {
    pages: BTreeMap<String, Page>,
    wrong: Vec<String>,
}

impl Checker {
    fn new(pages: impl IntoIterator<Item = (String, String)>) -> Self {
        let pages = pages.into_iter().map(|(path, text)| (path, Page::new(&text))).collect();
        Self { pages, wrong: Vec::new() }
    }

    fn check(&mut self, path: &str, source: &str) {
        let joined = Joined::new(source);
        self.check_sections(path, &joined);
        self.check_pages(path, &joined);
        if path.ends_with(".md") {
            self.check_files(path, &joined);
            self.check_links(path, source);
        }
    }

    fn complain(&mut self, path: &str, joined: &Joined, at: usize, why: &str) {
        let text = &joined.text;
        let from = (0..=at.saturating_sub(40)).rev().find(|i| text.is_char_boundary(*i));
        let to = (at + 40..).find(|i| text.is_char_boundary((*i).min(text.len())));
        let (from, to) = (from.unwrap_or(0), to.unwrap_or(text.len()).min(text.len()));
        self.wrong.push(format!("{path}:{}: {why}: …{}…", joined.lines[at], &text[from..to]));
    }

    /// Every `§` follows the path of a page that has the section.
    fn check_sections(&mut self, path: &str, joined: &Joined) {
        let text = &joined.text;
        // The page of the section before, and where that citation ends.
        let mut last: Option<(Option<String>, usize)> = None;
        for (at, mark) in text.match_indices('§') {
            let before = &text[..at];
            let goes_on = last.as_ref().filter(|(_, end)| {
                matches!(text.get(*end..at), Some(", " | " and " | ", and " | " to "))
            });
            let target = match goes_on {
                Some((target, _)) => Ok(target.clone()),
                None => self.cited(path, before),
            };
            let name = &text[at + mark.len()..];
            let found = match &target {
                Ok(Some(page)) => self.pages[page].find(name),
                Ok(None) => Some((0, name.find(' ').unwrap_or(name.len()))),
                Err(why) => {
                    self.complain(path, joined, at, why);
                    continue;
                }
            };
            let Some((section, bytes)) = found else {
                self.complain(path, joined, at, "no such section");
                continue;
            };
            let mut end = at + mark.len() + bytes;
            if let Ok(Some(page)) = &target {
                if let Some((entry, bytes)) = entry_behind(&text[end..]) {
                    end += bytes;
                    if !self.pages[page].has_entry(section, entry) {
                        self.complain(path, joined, at, "no such rule or step");
                    }
                }
            }
            last = target.ok().map(|target| (target, end));
        }
    }

    /// The page whose path stands directly before a `§`; `None`: it is not one of ours.
    fn cited(&self, path: &str, before: &str) -> Result<Option<String>, &'static str> {
        let foreign = FOREIGN.iter().any(|name| {
            before.ends_with(name)
                || before
                    .trim_end_matches(|c: char| c.is_ascii_digit() || c == ' ')
                    .ends_with(name.trim_end())
        });
        if foreign {
            return Ok(None);
        }
        let cited = before.strip_suffix(' ').map(|before| {
            let is_path = |c: char| c.is_ascii_alphanumeric() || "/_-.".contains(c);
            &before[before.trim_end_matches(is_path).len()..]
        });
        match cited.filter(|cited| cited.ends_with(".md")) {
            Some(cited) if self.pages.contains_key(cited) => Ok(Some(cited.to_owned())),
            Some(_) => Err("no such page"),
            None if path.starts_with("docs/spec/") => Ok(Some(path.to_owned())),
            None => Err("a section without the path of its page"),
        }
    }

    /// Every page that is named is named by its path from the root, or is linked.
    fn check_pages(&mut self, path: &str, joined: &Joined) {
        let text = &joined.text;
        let of_spec: Vec<_> =
            self.pages.keys().filter_map(|page| page.strip_prefix("docs/spec/")).collect();
        let of_spec: Vec<String> =
            of_spec.into_iter().filter(|name| *name != "README.md").map(str::to_owned).collect();
        for (at, _) in text.match_indices(".md") {
            let is_path = |c: char| c.is_ascii_alphanumeric() || "/_-.".contains(c);
            let start = text[..at].trim_end_matches(is_path).len();
            let name = &text[start..at + 3];
            let linked = text[..start].ends_with("](")
                || (text[..start].ends_with('[') && text[at + 3..].starts_with("]("))
                || (text[..start].ends_with("[`") && text[at + 3..].starts_with("`]("));
            if linked {
                continue;
            }
            if name.starts_with("docs/") && !self.pages.contains_key(name) && !is_example(name) {
                self.complain(path, joined, at, "no such page");
            }
            let behind = text[at + 3..].trim_start_matches('`');
            let next = behind.strip_prefix(", ").unwrap_or_default();
            let is_page = next.split([' ', ')']).next().is_some_and(|word| word.contains(".md"));
            if text[..start].trim_end_matches('`').ends_with('(') && !next.is_empty() && !is_page {
                self.complain(path, joined, at, "a section without its sign");
            }
            let old = of_spec.iter().any(|page| name.ends_with(page.as_str()));
            if old && !name.starts_with("docs/spec/") {
                self.complain(path, joined, at, "a page without its path from the root");
            }
        }
    }

    /// Every other file that is named by its path from the root is there.
    fn check_files(&mut self, path: &str, joined: &Joined) {
        let text = &joined.text;
        for (start, _) in
            ["crates/", "tools/homa-", "plans/"].iter().flat_map(|top| text.match_indices(top))
        {
            let is_path = |c: char| c.is_ascii_alphanumeric() || "/_-.".contains(c);
            let rest = &text[start..];
            let name = &rest[..rest.find(|c| !is_path(c)).unwrap_or(rest.len())];
            let named_whole = !text[..start].ends_with(is_path) && name.contains('.');
            let name = name.trim_end_matches('.');
            if named_whole && !is_example(name) && !root().join(name).exists() {
                self.complain(path, joined, start, "no such file");
            }
        }
    }

    /// What Markdown links to within the repository is there.
    fn check_links(&mut self, path: &str, source: &str) {
        let mut fenced = false;
        for (number, line) in source.lines().enumerate() {
            fenced ^= line.starts_with("```");
            if fenced {
                continue;
            }
            for (at, mark) in line.match_indices("](") {
                let rest = &line[at + mark.len()..];
                let target = &rest[..rest.find(')').unwrap_or(rest.len())];
                if target.contains(':') {
                    continue;
                }
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let file = if file.is_empty() { path.to_owned() } else { resolve(path, file) };
                let there = match self.pages.get(&file) {
                    _ if anchor.is_empty() => root().join(&file).exists(),
                    Some(page) => page.sections.iter().any(|section| section.anchor() == anchor),
                    None => false,
                };
                if !there {
                    let at = number + 1;
                    self.wrong.push(format!("{path}:{at}: a link to nothing: {target}"));
                }
            }
        }
    }
}

impl Section {
    /// What the heading is called in links.
    fn anchor(&self) -> String {
        let heading = format!("{}. {}", self.number, self.title).to_lowercase();
        let heading = if self.number.is_empty() { &heading[2..] } else { &heading };
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    }
}

/// Whether a part of the path stands for any, as in `plans/NAME.toml`.
fn is_example(path: &str) -> bool {
    path.split(['/', '.']).any(|part| ["NAME", "PAGE"].contains(&part))
}

/// ` rule 3` or ` step 3`: the number, and the length.
fn entry_behind(text: &str) -> Option<(u32, usize)> {
    let digits = text.strip_prefix(" rule ").or_else(|| text.strip_prefix(" step "))?;
    let bytes = digits.bytes().take_while(u8::is_ascii_digit).count();
    Some((digits[..bytes].parse().ok()?, " rule ".len() + bytes))
}

/// The path that `target` means in the page at `path`.
fn resolve(path: &str, target: &str) -> String {
    let mut parts: Vec<_> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => {
                parts.pop();
            }
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All files below `directory` that may cite something, by their path from the root.
fn files(directory: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else if EXTENSIONS
            .iter()
            .any(|extension| path.extension().is_some_and(|e| e == *extension))
        {
            let relative = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            found.insert(relative, fs::read_to_string(&path).unwrap());
        }
    }
}

/// The crates of ours that the `[dependencies]` of a manifest name.
fn dependencies(manifest: &str) -> Vec<String> {
    let tables = manifest.split("\n[").filter(|table| table.starts_with("dependencies]"));
    let names = tables.flat_map(str::lines).filter_map(|line| line.split(['.', ' ']).next());
    let mut ours: Vec<_> =
        names.filter(|name| name.starts_with("homa-")).map(str::to_owned).collect();
    ours.sort();
    ours
}

#[test]
fn what_the_architecture_says_of_crates_is_what_the_manifests_say() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let block = page.split("```").nth(1).unwrap();
    let mut said = BTreeMap::new();
    for line in block.lines() {
        let mut names = line.split_whitespace().map(str::to_owned);
        said.extend(names.next().map(|name| (name, names.collect::<Vec<_>>())));
    }
    let mut is = BTreeMap::new();
    let folders = ["crates", "tools"].map(|name| fs::read_dir(root().join(name)).unwrap());
    for entry in folders.into_iter().flatten() {
        // Scripts lie beside the crates of tools.
        let Ok(manifest) = fs::read_to_string(entry.unwrap().path().join("Cargo.toml")) else {
            continue;
        };
        let name = manifest.split('"').nth(1).unwrap().to_owned();
        // Crates that are only tests use all.
        if !manifest.contains("publish = false") {
            is.insert(name, dependencies(&manifest));
        }
    }
    assert_eq!(said, is);
}

#[test]
fn what_the_repository_cites_is_there() {
    let mut all = BTreeMap::new();
    files(&root(), &mut all);
    let pages = all.iter().filter(|(path, _)| path.ends_with(".md"));
    let mut checker = Checker::new(pages.map(|(path, text)| (path.clone(), text.clone())));
    for (path, text) in all.iter().filter(|(path, _)| *path != HERE) {
        checker.check(path, text);
    }
    let Checker { wrong, .. } = checker;
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}

/// What is wrong with a source that cites pages with these contents.
fn faults(path: &str, source: &str) -> Vec<String> {
    let page = "# Page\n\n## 2. Numbers\n\n### 2.1 Small ones\n\n1. one\n2. two\n\n## At `most` once\n\n| 7 | row |\n";
    let pages =
        ["docs/spec/page.md", "docs/other.md"].map(|path| (path.to_owned(), page.to_owned()));
    let mut checker = Checker::new(pages);
    checker.check(path, source);
    checker.wrong
}

#[test]
fn citations_of_pages_sections_and_rules_that_exist_are_right() {
    for source in [
        "/// A limit (docs/spec/page.md §2.1).",
        "/// A limit (docs/spec/page.md\n/// §2, §2.1).",
        "//! Both: docs/spec/page.md §2.1 to §2, docs/other.md §At most once.",
        "// docs/spec/page.md §2 step 2, and docs/spec/page.md §At most once rule 7",
        "/// RFC 9000 §8 and SIGCOMM'18 §3.3-3.5.",
        "\"docs/other.md §Small ones\"",
        "/// Both (docs/other.md, docs/spec/page.md) and `docs/other.md`, which says more.",
    ] {
        assert_eq!(faults("a.rs", source), [""; 0], "{source}");
    }
    assert_eq!(
        faults("docs/spec/page.md", "As in §2.1; see [page.md](page.md#2-numbers)."),
        [""; 0]
    );
    let files = "`tools/homa-docs/src/lib.rs`, the folder tools/homa-docs, plans/NAME.toml";
    assert_eq!(faults("docs/other.md", files), [""; 0]);
    assert_eq!(faults("docs/other.md", "[spec/page.md](spec/page.md#at-most-once)"), [""; 0]);
}

#[test]
fn citations_of_nothing_and_in_other_forms_are_found() {
    for source in [
        "/// A limit (docs/spec/pages.md §2.1).",
        "/// A limit (docs/spec/page.md §3).",
        "/// A limit (docs/spec/page.md §2.2).",
        "/// A limit (docs/spec/page.md §21).",
        "/// A limit (docs/spec/page.md §2, §3).",
        "/// A limit (docs/spec/page.md §2 rule 3).",
        "/// A limit (docs/other.md §At least once).",
        "/// A limit (`docs/spec/page.md` §2).",
        "/// A limit (`spec/page.md` §2).",
        "/// A limit (spec: page §2).",
        "/// A limit (architecture §2).",
        "/// A limit (§2).",
        "/// A limit (page.md section 2).",
        "/// A limit (`docs/other.md`, at most once).",
        "/// See docs/nothing.md.",
    ] {
        assert_ne!(faults("a.rs", source), [""; 0], "{source}");
    }
    for source in ["`tools/homa-docs/src/nothing.rs`", "see plans/nothing.toml."] {
        assert_eq!(faults("docs/other.md", source).len(), 1, "{source}");
    }
    for source in ["[x](spec/nothing.md)", "[x](spec/page.md#nothing)", "[x](#numbers)"] {
        assert_eq!(faults("docs/other.md", source).len(), 1, "{source}");
    }
}
