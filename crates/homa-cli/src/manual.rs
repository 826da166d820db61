//! Shell completions and man pages, made from the command line's own description.

use std::{fs, io, path::Path};

use clap::CommandFactory;
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
    let Some(directory) = directory else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command())
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
    clap_mangen::generate_to(Cli::command(), directory).map_err(failed)?;
    if json {
        return print(b"", "page", true);
    }
    Ok(())
}

fn print(text: &[u8], name: &str, json: bool) -> Result<(), CliError> {
    match json {
        true => output::document(&json!({ name: String::from_utf8_lossy(text) })),
        false => output::bytes(text),
    }
}
