//! Standard output, whose reader may go away at any time.

use std::io::{self, Write};

use serde::Serialize;

use crate::error::CliError;

/// Writes bytes.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut output = io::stdout().lock();
    output
        .write_all(bytes)
        .and_then(|()| output.flush())
        .map_err(|error| CliError::io("standard output", &error))
}

/// Writes a document of several lines.
pub(crate) fn document(value: &impl Serialize) -> Result<(), CliError> {
    json(serde_json::to_string_pretty(value))
}

/// Writes a document of one line.
pub(crate) fn line(value: &impl Serialize) -> Result<(), CliError> {
    json(serde_json::to_string(value))
}

fn json(text: serde_json::Result<String>) -> Result<(), CliError> {
    let mut text = text.map_err(|error| CliError::Process(error.to_string()))?;
    text.push('\n');
    bytes(text.as_bytes())
}
