//! `homa lab`: a data center on one machine.

pub(crate) mod args;
mod check;
mod client;
mod exec;
pub(crate) mod holder;
mod plan;
mod preview;
mod run;
mod state;
pub(crate) mod trial;
mod waiting;

use homa_lab::{
    Lab, LabError, LabSpec,
    calibrate::{self, Load},
};

use self::{args::LabCommand, waiting::Waiting};
use crate::error::CliError;

/// `homa lab ...`
pub(crate) fn run(command: &LabCommand, json: bool) -> Result<(), CliError> {
    match command {
        LabCommand::Up(args) => client::up(args, json),
        LabCommand::Down(args) => client::down(args, json),
        LabCommand::Status(args) => client::status(args, json),
        LabCommand::Exec(args) => exec::run(args),
        LabCommand::Run(args) => run::run(args, json),
        LabCommand::Check(args) => check::run(args, json),
    }
}

/// What the library reports, as the command reports it.
fn failed(error: LabError) -> CliError {
    match error {
        LabError::Spec { .. } | LabError::NoSuchHost { .. } | LabError::TooMuch { .. } => {
            CliError::Usage(error.to_string())
        }
        other => CliError::Transport(other.to_string()),
    }
}

/// Builds a lab with the switch that carries all ports at their rate; refuses what the machine
/// cannot carry, unless it is to be done all the same.
fn build(spec: &LabSpec, force: bool) -> Result<Lab, CliError> {
    let _waiting = Waiting::new(format!("building a lab of {} hosts", spec.hosts));
    if force {
        return Lab::up(spec).map_err(failed);
    }
    let load = Load::full(spec);
    let (choice, saturation) = calibrate::choose_for(spec, &load).map_err(failed)?;
    saturation.check(&load).map_err(|error| {
        CliError::Usage(format!(
            "{error}; lower --rate or --hosts, close other programs, or use --force"
        ))
    })?;
    Lab::up_with(spec, choice).map_err(failed)
}
