//! What a check found, and how it is printed.

use serde::Serialize;

/// Longest line of a meaning.
const COLUMNS: usize = 100;

/// How good what was found is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// Homa works, but not as well as it could.
    Warning,
    /// What was asked for does not work.
    Problem,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How good it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What that means for users.
    pub meaning: String,
    /// Shell commands that mend it, or change it if it is well; absent if there is nothing to do,
    /// or no command does it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Finding {
    pub(super) fn ok(
        check: &'static str,
        found: impl Into<String>,
        meaning: impl Into<String>,
    ) -> Self {
        Finding {
            check,
            state: State::Ok,
            found: found.into(),
            meaning: meaning.into(),
            mend: None,
        }
    }

    pub(super) fn warning(
        check: &'static str,
        found: impl Into<String>,
        meaning: impl Into<String>,
    ) -> Self {
        Finding { state: State::Warning, ..Finding::ok(check, found, meaning) }
    }

    /// A problem for those who `need` it, to others only worth a warning.
    pub(super) fn lacking(
        need: bool,
        check: &'static str,
        found: impl Into<String>,
        meaning: impl Into<String>,
    ) -> Self {
        let state = if need { State::Problem } else { State::Warning };
        Finding { state, ..Finding::ok(check, found, meaning) }
    }

    pub(super) fn mended_by(self, commands: impl Into<String>) -> Self {
        Finding { mend: Some(commands.into()), ..self }
    }
}

/// All findings for people.
pub(super) fn text(findings: &[Finding]) -> String {
    findings.iter().map(lines).collect()
}

fn lines(finding: &Finding) -> String {
    let state = match finding.state {
        State::Ok => "ok",
        State::Warning => "warning",
        State::Problem => "PROBLEM",
    };
    let mut text = format!("{state:<8} {}: {}\n", finding.check, finding.found);
    for line in finding.meaning.lines().flat_map(wrapped) {
        text.push_str(&format!("         {line}\n"));
    }
    // The commands begin at the left edge, so that they can be copied.
    if let Some(commands) = &finding.mend {
        let purpose = if finding.state == State::Ok { "if wanted:" } else { "mend by:" };
        text.push_str(&format!("         {purpose}\n{}\n", commands.trim_end()));
    }
    text
}

/// A line in several, broken between words.
fn wrapped(line: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in line.split(' ') {
        match lines.last_mut() {
            Some(last) if last.is_empty() => last.push_str(word),
            Some(last) if last.len() + 1 + word.len() <= COLUMNS => {
                last.push(' ');
                last.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_begin_at_the_left_edge() {
        let finding =
            Finding::lacking(true, "thing", "not there", "It\nmatters.").mended_by("a\n b\n");
        assert_eq!(
            text(std::slice::from_ref(&finding)),
            "PROBLEM  thing: not there\n         It\n         matters.\n         mend by:\na\n b\n"
        );
        let json = serde_json::to_value(&finding).unwrap();
        assert_eq!(
            (json["state"].as_str(), json["mend"].as_str()),
            (Some("problem"), Some("a\n b\n"))
        );
        let long = Finding::ok("thing", "there", "word ".repeat(50).trim_end());
        assert!(text(&[long]).lines().all(|line| line.len() <= 9 + COLUMNS));
        assert_eq!(Finding::lacking(false, "", "", "").state, State::Warning);
    }
}
