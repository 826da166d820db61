//! Shell completions and man pages, made from the command line's own description.

use std::{fs, io, path::Path};

use clap::{Arg, ArgAction, CommandFactory};
use serde_json::json;

use crate::{args::Cli, error::CliError, output};

/// Prints a completion script.
pub(crate) fn completions(shell: clap_complete::Shell, json: bool) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "homa", &mut script);
    print(&script, "script", json)
}

/// Writes man pages: one per command to a directory, or the one of `homa` to standard output.
pub(crate) fn pages(directory: Option<&Path>, json: bool) -> Result<(), CliError> {
    let mut command = without_help(Cli::command());
    command.build();
    let command = with_synopsis(command);
    let Some(directory) = directory else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command)
            .render(&mut page)
            .map_err(|error| CliError::io("man page", &error))?;
        return print(&page, "page", json);
    };
    let failed = |error: io::Error| CliError::File {
        action: "write man pages to",
        path: directory.to_owned(),
        reason: error.to_string(),
    };
    fs::create_dir_all(directory).map_err(failed)?;
    let names = names(&command);
    clap_mangen::generate_to(command, directory).map_err(failed)?;
    if json {
        return output::document(&json!({ "directory": directory, "pages": names }));
    }
    let text = format!("{} pages in {}: {}\n", names.len(), directory.display(), names.join(" "));
    output::bytes(text.as_bytes())
}

/// Names of the pages of a command and those below it.
fn names(command: &clap::Command) -> Vec<String> {
    let own = command.get_display_name().unwrap_or_else(|| command.get_name());
    let below = command.get_subcommands().filter(|below| !below.is_hide_set());
    std::iter::once(format!("{own}.1")).chain(below.flat_map(names)).collect()
}

/// Takes away the subcommands `help`, which are no pages of their own.
fn without_help(command: clap::Command) -> clap::Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

/// Gives a command, and those below it, a synopsis in which options show their values.
fn with_synopsis(command: clap::Command) -> clap::Command {
    let mut words = vec![command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned()];
    words.extend(command.get_arguments().filter(|arg| !arg.is_hide_set()).map(word));
    if command.has_subcommands() {
        words.push("[COMMAND]".to_owned());
    }
    command.override_usage(words.join(" ")).mut_subcommands(with_synopsis)
}

/// An argument as it stands in a synopsis.
fn word(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let value = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
    let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let more = if matches!(arg.get_action(), ArgAction::Append) { "..." } else { "" };
    let name = match (arg.get_long(), arg.get_short()) {
        (Some(long), _) => format!("--{long}"),
        (None, Some(short)) => format!("-{short}"),
        (None, None) => value.clone(),
    };
    let shown = match takes_value && !arg.is_positional() {
        true => format!("{name} {value}"),
        false => name,
    };
    match arg.is_required_set() {
        true => format!("{shown}{more}"),
        false => format!("[{shown}]{more}"),
    }
}

fn print(text: &[u8], name: &str, json: bool) -> Result<(), CliError> {
    match json {
        true => output::document(&json!({ name: String::from_utf8_lossy(text) })),
        false => output::bytes(text),
    }
}
