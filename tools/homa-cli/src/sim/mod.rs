//! `homa sim`: a data center in simulated time.

pub(crate) mod args;
mod buffers;
mod explain;
mod folder;
mod mixed;
mod out;
mod picture;
mod plan;
mod point;
mod reproduce;
mod run_files;
mod series;
mod simulate;
mod summary;
mod table;
mod watch;

use std::{num::NonZero, thread};

use self::args::{Evaluation, SimCommand};
use crate::error::CliError;

/// Runs the command.
pub(crate) fn run(command: &SimCommand, json: bool) -> Result<(), CliError> {
    match command {
        SimCommand::Run(args) => plan::run(args, json),
        SimCommand::Point(args) => plan::point(args, json),
        SimCommand::List(args) => plan::list(args, json),
        SimCommand::Collect(args) => plan::collect(args, json),
        SimCommand::Explain(args) => explain::run(args, json),
        SimCommand::Watch(args) => watch::run(args, json),
        SimCommand::Reproduce { evaluation: Evaluation::Sigcomm18(args) } => {
            reproduce::run(args, json)
        }
        SimCommand::Reproduce { evaluation: Evaluation::Buffers(args) } => buffers::run(args, json),
        SimCommand::Reproduce { evaluation: Evaluation::Mixed(args) } => mixed::run(args, json),
    }
}

/// How many simulations run at a time.
fn threads(given: Option<u16>) -> usize {
    let all = || thread::available_parallelism().map_or(1, NonZero::get);
    given.map_or_else(all, usize::from)
}
