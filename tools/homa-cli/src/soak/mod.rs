//! `homa soak`: real processes call each other while everything goes wrong that goes wrong on real
//! machines; what was promised must hold all the same.
//!
//! | part | what |
//! | --- | --- |
//! | `plan` | the faults of a run, drawn from its seed |
//! | `stage` | network, disk and processes; `tail`, `clock` |
//! | `server`, `client` | the actors, with what is common in `actor`; `journal`, `message` |
//! | `faults` | how each fault begins and ends |
//! | `ledger` | what must hold of all calls |
//! | `run`, `stopped_client` | the course of events |
//! | `report` | what it came to |

mod actor;
pub(crate) mod args;
pub(crate) mod client;
mod clock;
mod faults;
mod journal;
mod ledger;
mod message;
mod plan;
mod report;
mod run;
pub(crate) mod server;
mod stage;
mod stopped_client;
mod tail;

use std::time::SystemTime;

use args::{Scenario, SoakArgs};
use ledger::Ledger;
use plan::Cast;
use report::Report;
use run::Run;
use stage::Stage;

use crate::{error::CliError, interrupt, output};

/// Seeds that are chosen for the user have so many values: few enough to type.
const SEEDS: u128 = 1_000_000;

/// Runs the command.
pub(crate) fn run(args: &SoakArgs, json: bool) -> Result<(), CliError> {
    let seed = args.seed.unwrap_or_else(any_seed);
    let hosts = 2;
    let cast = match args.scenario {
        Some(Scenario::StoppedClient) => stopped_client::CAST,
        None => Cast { servers: args.servers.into(), clients: args.clients.into(), hosts },
    };
    // First of all: only a process with a single thread can become the administrator of a lab.
    let stage = Stage::build(args, seed, cast)?;
    interrupt::watch(|| {});
    let kinds = stage.possible(args.kinds());
    let plan = match args.scenario {
        Some(_) => Vec::new(),
        None => plan::draw(seed, args.secs, stage.cast, &kinds),
    };
    if !json {
        output::bytes(introduction(args, seed, &stage, plan.len()).as_bytes())?;
    }
    let bounded = args.scenario.is_none();
    let ledger = Ledger::new(stage.cast, bounded);
    let mut run = Run::start(stage, ledger, seed)?;
    let started = std::time::Instant::now();
    let mut all_ended_after = None;
    match args.scenario {
        Some(Scenario::StoppedClient) => {
            all_ended_after = Some(stopped_client::play(&mut run)?.after)
        }
        None => drop(run.go(args.secs, &plan, !json)?),
    }
    let length = started.elapsed();
    run.finish()?;
    let again = args.again(seed);
    let report = Report::new(seed, again, length, &run.stage, &run.ledger, all_ended_after);
    drop(run);
    match json {
        true => output::document(&report)?,
        false => output::bytes(report.text().as_bytes())?,
    }
    report.verdict()?;
    if interrupt::pressed() { Err(CliError::Interrupted) } else { Ok(()) }
}

/// What is about to happen.
fn introduction(args: &SoakArgs, seed: u64, stage: &Stage, faults: usize) -> String {
    let Cast { servers, clients, .. } = stage.cast;
    let what = match args.scenario {
        Some(_) => "a scenario".to_owned(),
        None => format!("{faults} faults in {:?}", args.secs),
    };
    let mut text = format!(
        "{servers} servers, {clients} clients; {}\n{what}, seed {seed}: {}\n",
        stage.network,
        args.again(seed)
    );
    for reason in &stage.skipped {
        text.push_str(&format!("SKIPPED: {reason}\n"));
    }
    text
}

fn any_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(1, |since| (since.as_nanos() / 1_000 % SEEDS) as u64)
}
