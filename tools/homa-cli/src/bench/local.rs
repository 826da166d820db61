//! `homa bench local`: Homa and TCP side by side, between two processes or with a server elsewhere.

use std::{net::SocketAddr, path::PathBuf};

use homa_bench::{congestion, network::peer_program, results, workload::Workload};
use homa_report::picture::slowdown_by_size;

use super::{
    args::{BenchTest, LocalArgs},
    machine::Machine,
    measure::server_cpu_ns,
    pin::Cores,
    plan::{self, Case},
    report::Report,
    rounds::Rounds,
    table,
};
use crate::{
    error::CliError,
    output,
    report::{png, store},
    resolve::resolve,
    transport::{Protocol, connect::connect},
    units::format_number,
};

/// The congestion control with which TCP is usually measured.
const USUAL_CONGESTION: &str = "cubic";

/// Runs the command.
pub(crate) fn run(args: &LocalArgs, json: bool) -> Result<(), CliError> {
    if args.png {
        png::check()?;
    }
    let mut cases = plan::cases(args)?;
    // What can be found out beforehand should not be found out after half a minute.
    let workload_name = plan::workload(args);
    let workload = Workload::load(&workload_name)?;
    let cores = Cores::choose(args.cpus.as_deref())?;
    let protocols = args.transport.protocols(args.carriage);
    let congestion = congestion_control(args, &protocols)?;
    for case in &mut cases {
        case.settings.congestion_control = Some(congestion.clone());
    }
    let server = args.server.as_deref().map(resolve).transpose()?;
    if let Some(server) = server {
        reach(server, &protocols, &cases)?;
    }
    if cases.iter().any(|case| case.test == BenchTest::Mixed) {
        results::try_directory(&args.out).map_err(|error| CliError::File {
            action: "write pictures to",
            path: args.out.clone(),
            reason: error.to_string(),
        })?;
    }
    let mut machine = Machine::look(cores, &congestion);
    let (peer, not_measured) = find_peer(&mut cases);
    let workload = (&*workload_name, workload);
    let mut rounds = Rounds::new(args, protocols, cases, workload, (cores, server, peer));
    let end = rounds.run();
    machine.cores_distance = cores.both().map(|_| rounds.distances);
    let mut report = Report::new(machine, &rounds.results, &rounds.failures);
    report.not_measured = not_measured;
    // What was measured is printed whatever happens to the pictures.
    let pictures = draw(args, &workload_name, &report);
    print(&report, pictures.as_deref().unwrap_or_default(), json)?;
    pictures?;
    end?;
    match rounds.failures.len() {
        0 => Ok(()),
        count => Err(CliError::Incomplete(format!("{count} measurements failed"))),
    }
}

/// The congestion control of TCP: the one asked for, else the usual one, else what the system lets
/// everybody use.
fn congestion_control(args: &LocalArgs, protocols: &[Protocol]) -> Result<String, CliError> {
    let wanted = args.cc.as_deref();
    match (protocols.contains(&Protocol::Tcp), wanted) {
        (false, _) => Ok(wanted.unwrap_or(USUAL_CONGESTION).to_owned()),
        (true, Some(name)) => congestion::check(name)
            .map(|()| name.to_owned())
            .map_err(|error| CliError::Usage(format!("--cc: {error}"))),
        (true, None) => Ok(congestion::check(USUAL_CONGESTION).map_or_else(
            |error| {
                let default = congestion::system_default();
                eprintln!("homa: {error}; measuring TCP with the system's default, {default}");
                default
            },
            |()| USUAL_CONGESTION.to_owned(),
        )),
    }
}

/// The program that speaks QUIC and gRPC, where they are to be measured; where it is missing their
/// cases go, and the reason is returned.
fn find_peer(cases: &mut Vec<Case>) -> (Option<PathBuf>, Option<String>) {
    let of_peer = |case: &Case| case.over.is_some_and(Protocol::is_peer);
    if !cases.iter().any(of_peer) {
        return (None, None);
    }
    match std::env::current_exe().and_then(|program| peer_program(&program)) {
        Ok(program) => (Some(program), None),
        Err(error) => {
            cases.retain(|case| !of_peer(case));
            (None, Some(error.to_string()))
        }
    }
}

/// Calls the given server once over each transport.
fn reach(server: SocketAddr, protocols: &[Protocol], cases: &[Case]) -> Result<(), CliError> {
    let Some(case) = cases.first() else { return Ok(()) };
    for protocol in protocols {
        let mut client = connect(*protocol, server, &case.settings)?;
        server_cpu_ns(&mut *client).map_err(|error| {
            let name = protocol.name();
            CliError::Transport(format!(
                "{server} does not answer over {name}: {error}; start `homa serve {server} --transport both` there"
            ))
        })?;
    }
    Ok(())
}

/// Draws the slowdown by size, if it was measured; returns the files.
fn draw(args: &LocalArgs, workload: &str, report: &Report) -> Result<Vec<PathBuf>, CliError> {
    let svg = slowdown_by_size(&title(args, workload, report), &report.curves());
    let Some(svg) = svg else { return Ok(Vec::new()) };
    let mut files = vec![(args.out.join("slowdown.svg"), svg.clone().into_bytes())];
    if args.png {
        files.push((args.out.join("slowdown.png"), png::render(&svg)?));
    }
    store(files)
}

/// What the picture shows.
fn title(args: &LocalArgs, workload: &str, report: &Report) -> String {
    let load = format_number((args.load * 1e4).round() / 100.0);
    let of = args.link.map_or(String::new(), |link| format!(" of {} Gbit/s", format_number(link)));
    let offered = report.rows.iter().find_map(|row| row.offered_rpc_per_s);
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
