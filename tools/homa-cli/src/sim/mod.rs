//! `homa sim`: a data center in simulated time.

pub(crate) mod args;
mod picture;
mod point;
mod reproduce;
mod run_files;
mod series;
mod table;

use self::args::{Evaluation, SimCommand};
use crate::error::CliError;

/// Runs the command.
pub(crate) fn run(command: &SimCommand, json: bool) -> Result<(), CliError> {
    match command {
        SimCommand::Reproduce { evaluation: Evaluation::Sigcomm18(args) } => {
            reproduce::run(args, json)
        }
    }
}
