//! Standard output, whose reader may go away at any time.

use std::{
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use serde::Serialize;

use crate::error::CliError;

/// Whether this process has begun to write a document.
static DOCUMENT: AtomicBool = AtomicBool::new(false);

/// Whether a document was written, which then tells of failures as well.
pub(crate) fn has_document() -> bool {
    DOCUMENT.load(Ordering::Relaxed)
}

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
    DOCUMENT.store(true, Ordering::Relaxed);
    bytes(text.as_bytes())
}
