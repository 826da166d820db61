//! `homa bench`: Homa and TCP side by side.

mod job;
mod machine;
mod measure;
mod open;
mod pin;
mod plan;
mod plot;
mod process;
mod report;
mod rounds;
mod stats;
mod table;
mod tokio_latency;

pub(crate) mod args;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod server;

use std::path::PathBuf;

use homa_bench::workload::Workload;

use self::{
    args::{BenchArgs, BenchCommand},
    machine::Machine,
    pin::Cores,
    report::Report,
    rounds::Rounds,
};
use crate::{error::CliError, output, resolve::resolve, units::format_number};

/// Runs the command.
pub(crate) fn run(args: &BenchArgs, json: bool) -> Result<(), CliError> {
    match &args.command {
        Some(BenchCommand::Cluster(args)) => return cluster::run(args, json),
        Some(BenchCommand::Plan(args)) => return cluster::run_plan(args, json),
        None if !has_options(std::env::args().skip(1)) => match cluster::run_default(args, json)? {
            true => return Ok(()),
            false => eprintln!("homa: comparing over loopback instead"),
        },
        None => {}
    }
    if args.png {
        crate::report::png::check()?;
    }
    let cases = plan::cases(args)?;
    // A workload that cannot be read should not be found out after half a minute.
    let workload_name = plan::workload(args);
    let workload = Workload::load(&workload_name)?;
    let cores = Cores::choose(args.cpus.as_deref())?;
    let server = args.server.as_deref().map(resolve).transpose()?;
    let machine = Machine::look(cores, &args.cc);
    let mut rounds = Rounds::new(args, cases, (workload_name.clone(), workload), cores, server)?;
    let end = rounds.run();
    let report = Report::new(machine, &rounds.results, &rounds.failures);
    let pictures = draw(args, &workload_name, &report)?;
    print(&report, &pictures, json)?;
    end?;
    match rounds.failures.len() {
        0 => Ok(()),
        count => Err(CliError::Incomplete(format!("{count} measurements failed"))),
    }
}

/// Whether more is asked for than `homa bench` as it is, or where to put its results.
fn has_options(arguments: impl Iterator<Item = String>) -> bool {
    let mut value_follows = false;
    arguments.into_iter().any(|argument| {
        let is_value = std::mem::replace(&mut value_follows, argument == "--out");
        !is_value
            && !matches!(argument.as_str(), "bench" | "--json" | "--out")
            && !argument.starts_with("--out=")
    })
}

/// Draws the slowdown, if it was measured; returns the files.
fn draw(args: &BenchArgs, workload: &str, report: &Report) -> Result<Vec<PathBuf>, CliError> {
    match report.curves().is_empty() {
        true => Ok(Vec::new()),
        false => plot::write(&report.curves(), &title(args, workload, report), &args.out, args.png),
    }
}

/// What the picture shows.
fn title(args: &BenchArgs, workload: &str, report: &Report) -> String {
    let load = format_number((args.load * 1e4).round() / 100.0);
    let of = args.link.map_or(String::new(), |link| format!(" of {} Gbit/s", format_number(link)));
    let offered = report.rows.iter().find_map(|row| row.figures.offered_rpc_per_s);
    let rate = offered.map_or(String::new(), |rate| format!(" ({} RPC/s)", format_number(rate)));
    format!("Slowdown by message size: workload {workload}, load {load} %{of}{rate}")
}

fn print(report: &Report, pictures: &[PathBuf], json: bool) -> Result<(), CliError> {
    for picture in pictures {
        eprintln!("homa: slowdown by message size: {}", picture.display());
    }
    match json {
        true => output::document(report),
        false => output::bytes(table::render(report).as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_option_but_those_for_the_results_asks_for_the_loopback_benchmark() {
        let ask = |line: &str| has_options(line.split(' ').map(str::to_owned));
        for line in ["bench", "bench --json", "--json bench --out x", "bench --out=x"] {
            assert!(!ask(line), "{line}");
        }
        for line in ["bench mixed", "bench --secs 1", "bench --out x --busy"] {
            assert!(ask(line), "{line}");
        }
    }
}
