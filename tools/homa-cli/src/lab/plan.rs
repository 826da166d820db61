//! Plan files: a lab and the commands to run in it.

use std::{fs, ops::Range, path::Path};

use homa_lab::{LabError, LabSpec};
use serde::Deserialize;
use toml::Spanned;

use crate::error::CliError;

/// The longest plan that is read, in bytes.
const PLAN_BYTES_MAX: u64 = 1 << 20;

/// The most commands that run, all hosts together.
const COMMANDS_MAX: usize = 2_000;

/// A plan.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// The lab to build.
    #[serde(default)]
    pub lab: LabSpec,
    /// What to run in it.
    #[serde(default, rename = "command")]
    pub commands: Vec<PlanCommand>,
}

/// A command of a plan.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanCommand {
    /// Where it runs.
    pub host: Spanned<Hosts>,
    /// What runs.
    pub run: Spanned<Program>,
    /// Whether it ends with the run instead of being waited for.
    #[serde(default)]
    pub background: bool,
    /// How long after the start of the run it starts, in milliseconds.
    #[serde(default)]
    pub delay_ms: u64,
    /// After which time it is killed and counts as failed, in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// One host, several or all.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "the number of a host, a list of numbers, or \"all\"")]
pub(crate) enum Hosts {
    One(usize),
    Several(Vec<usize>),
    Word(String),
}

/// A line for the shell, or a program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a line for the shell, or a list of a program and its arguments")]
pub(crate) enum Program {
    Line(String),
    List(Vec<String>),
}

impl Program {
    /// The program and its arguments.
    pub(crate) fn words(&self) -> Vec<String> {
        match self {
            Program::Line(line) => vec!["sh".into(), "-c".into(), line.clone()],
            Program::List(words) => words.clone(),
        }
    }

    /// What people read.
    pub(crate) fn text(&self) -> String {
        match self {
            Program::Line(line) => line.clone(),
            Program::List(words) => words.join(" "),
        }
    }
}

impl PlanCommand {
    /// The hosts it runs on, of so many.
    pub(crate) fn hosts(&self, count: usize) -> Vec<usize> {
        match self.host.get_ref() {
            Hosts::One(host) => vec![*host],
            Hosts::Several(hosts) => hosts.clone(),
            Hosts::Word(_) => (0..count).collect(),
        }
    }
}

/// Reads and checks a plan.
pub(crate) fn read(path: &Path) -> Result<Plan, CliError> {
    let failed = |reason: String| CliError::File { action: "read", path: path.to_owned(), reason };
    let size = fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > PLAN_BYTES_MAX {
        return Err(failed(format!("a plan has at most {PLAN_BYTES_MAX} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    parse(&text).map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))
}

/// Checks the text of a plan.
pub(crate) fn parse(text: &str) -> Result<Plan, String> {
    // The error shows the line and what was expected there.
    let plan: Plan = toml::from_str(text).map_err(|error| error.to_string())?;
    plan.lab.validate().map_err(|error| match &error {
        LabError::Spec { key, .. } => format!("{}lab.{error}", line_of_key(text, key)),
        _ => error.to_string(),
    })?;
    let hosts = plan.lab.hosts as usize;
    let mut count = 0;
    for command in &plan.commands {
        let wrong = |key: &str, at: Range<usize>, reason: String| {
            Err(format!("line {}: command.{key}: {reason}", line(text, at.start)))
        };
        let at = command.host.span();
        match command.host.get_ref() {
            Hosts::Word(word) if word != "all" => {
                return wrong("host", at, format!("`{word}` is not a number, a list or \"all\""));
            }
            _ => {}
        }
        let targets = command.hosts(hosts);
        if targets.is_empty() {
            return wrong("host", at, "an empty list".into());
        }
        if let Some(host) = targets.iter().find(|host| **host >= hosts) {
            let reason =
                format!("there is no host {host}; the lab has {hosts}, 0 to {}", hosts - 1);
            return wrong("host", at, reason);
        }
        if command.run.get_ref().words().first().is_none_or(|word| word.is_empty()) {
            return wrong("run", command.run.span(), "nothing to run".into());
        }
        count += targets.len();
    }
    match count {
        0 => Err("no commands: a plan has at least one [[command]]".into()),
        1..=COMMANDS_MAX => Ok(plan),
        _ => Err(format!("{count} commands; at most {COMMANDS_MAX}")),
    }
}

fn line(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// "line N: " of the first line that sets a key; nothing if none does.
fn line_of_key(text: &str, key: &str) -> String {
    let sets = |line: &str| line.split('=').next().is_some_and(|name| name.trim() == key);
    text.lines().position(sets).map(|index| format!("line {}: ", index + 1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[lab]\nhosts = 3\n\n[[command]]\nhost = 1\nrun = \"true\"\n";

    #[test]
    fn a_plan_names_hosts_and_commands() {
        let plan = parse(GOOD).unwrap();
        assert_eq!(plan.lab.hosts, 3);
        assert_eq!(plan.commands[0].hosts(3), [1]);
        assert_eq!(plan.commands[0].run.get_ref().words(), ["sh", "-c", "true"]);
        let all = parse(&GOOD.replace("host = 1", "host = \"all\"")).unwrap();
        assert_eq!(all.commands[0].hosts(3), [0, 1, 2]);
        let list = parse(&GOOD.replace("\"true\"", "[\"ls\", \"-l\"]")).unwrap();
        assert_eq!(list.commands[0].run.get_ref().words(), ["ls", "-l"]);
    }

    #[test]
    fn mistakes_are_reported_with_line_and_key() {
        for (from, to, line, key) in [
            ("hosts = 3", "hosts = 1", "line 2", "lab.hosts"),
            ("hosts = 3", "hostz = 3", "line 2", "hostz"),
            ("hosts = 3", "hosts = \"x\"", "line 2", "hosts"),
            ("hosts = 3", "hosts = ", "line 2", "hosts"),
            ("host = 1", "host = 3", "line 5", "command.host"),
            ("host = 1", "host = \"some\"", "line 5", "command.host"),
            ("host = 1", "host = []", "line 5", "command.host"),
            ("host = 1", "host = true", "line 5", "host"),
            ("\"true\"", "[]", "line 6", "command.run"),
            ("\"true\"", "\"true\"\ndelay_ms = -1", "line 7", "delay_ms"),
        ] {
            let error = parse(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(line) && error.contains(key), "{to}: {error}");
        }
        assert!(parse("[lab]\n").unwrap_err().contains("no commands"));
    }
}
