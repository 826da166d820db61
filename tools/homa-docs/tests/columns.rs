//! Comments and pages are read in windows of 100 columns: no line is longer, except in tables, in
//! code, and where there is no blank to break it at.

use std::fs;
use std::path::{Path, PathBuf};

const COLUMNS: usize = 100;
/// Folders whose texts are not ours, or made by programs.
const SKIPPED: [&str; 5] = ["target", "testdata", "advisories", "corpus", ".git"];
/// Pages that programs write.
const WRITTEN: [&str; 2] = ["docs/spec/scenarios.md", "docs/first-steps.md"];

/// Whether a line cannot be shorter: a row of a table, or one word behind its mark.
fn cannot_break(text: &str) -> bool {
    let words = text.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric));
    text.starts_with('|') || words.count() <= 1
}

/// The lines of comments or of a page that are too long, by number.
fn too_long(source: &str, is_page: bool) -> Vec<usize> {
    let mut fenced = false;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(source.lines()) {
        let text = match line.trim_start().strip_prefix("//") {
            Some(comment) if !is_page => comment.trim_start_matches(['/', '!']).trim_start(),
            None if !is_page => {
                fenced = false;
                continue;
            }
            _ => line.trim_start(),
        };
        fenced ^= text.starts_with("```");
        if !fenced && line.chars().count() > COLUMNS && !cannot_break(text) {
            found.push(number);
        }
    }
    found
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !path.is_symlink() && !SKIPPED.contains(&name) {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "md") {
            found.push(path);
        }
    }
}

#[test]
fn no_comment_and_no_page_is_wider_than_100_columns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().expect("the repository");
    let mut found = Vec::new();
    files(&root, &mut found);
    assert!(found.len() > 400, "the repository: {} files", found.len());
    let mut wrong = Vec::new();
    for path in found {
        let name = path.strip_prefix(&root).expect("below the root").display().to_string();
        if WRITTEN.contains(&name.as_str()) {
            continue;
        }
        let source = fs::read_to_string(&path).expect("a text");
        let lines = too_long(&source, name.ends_with(".md"));
        wrong.extend(lines.iter().map(|line| format!("{name}:{line}")));
    }
    assert!(wrong.is_empty(), "longer than {COLUMNS} columns:\n{}", wrong.join("\n"));
}

#[test]
fn long_lines_are_found_in_comments_and_pages_but_not_in_tables_and_code() {
    let long = "word ".repeat(30);
    let comment =
        format!("fn f() {{}} // short\n    /// {long}\n// {}\nlet x = 1; {long}", "x".repeat(120));
    assert_eq!(too_long(&comment, false), [2]);
    let page = format!("{long}\n| {long} |\n```\n{long}\n```\n* {long}\n");
    assert_eq!(too_long(&page, true), [1, 6]);
}
