//! `homa bench`: Homa and TCP side by side.

mod alone;
mod distance;
mod figure;
mod job;
mod local;
mod machine;
mod measure;
mod open;
mod overall;
mod pin;
mod plan;
mod process;
mod report;
mod rounds;
mod study;
mod table;

pub(crate) mod args;
pub(crate) mod cluster;
pub(crate) mod worker;

use self::args::{BenchArgs, BenchCommand, CompareOptions, LocalArgs};
use crate::{error::CliError, transport::Carriage};

/// Runs the command.
pub(crate) fn run(args: &BenchArgs, json: bool) -> Result<(), CliError> {
    match &args.command {
        Some(BenchCommand::Cluster(cluster)) => cluster::run(cluster, args.carriage, json),
        Some(BenchCommand::Plan(plan)) => cluster::run_plan(plan, args.carriage, json),
        Some(BenchCommand::Local(local)) => run_local((**local).clone(), args.carriage, json),
        None => default(args, json),
    }
}

fn run_local(mut args: LocalArgs, carriage: Carriage, json: bool) -> Result<(), CliError> {
    args.carriage = carriage;
    local::run(&args, json)
}

/// The comparison over emulated hosts. Where no lab can be built, a newcomer who asked for nothing
/// special gets the one over loopback; options are not for another program than the one they were
/// given to.
fn default(args: &BenchArgs, json: bool) -> Result<(), CliError> {
    let Err(refused) = cluster::run_default(args, json)? else { return Ok(()) };
    let reason = format!("no lab can be built here: {refused}");
    if args.compare != CompareOptions::default() {
        return Err(CliError::Process(format!(
            "{reason}; `homa doctor` says what is missing, `homa bench local` needs no lab"
        )));
    }
    eprintln!("homa: {reason}");
    eprintln!(
        "homa: comparing over loopback instead, as `homa bench local` does; `homa doctor` says what is missing"
    );
    let local = LocalArgs { out: args.results.out.clone(), ..LocalArgs::default() };
    run_local(local, args.carriage, json)
}
