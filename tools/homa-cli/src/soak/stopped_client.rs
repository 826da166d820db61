//! A client with 10,000 calls in service is stopped for 11 s, in which the server answers: what it
//! is told then does not fit its receive buffer. All calls must have ended 10 s after it was let go
//! on.

use std::time::{Duration, Instant};

use homa_sys::monotonic_ns;
use nix::sys::signal::Signal;

use super::{
    actor::Command,
    plan::{Cast, Who},
    run::Run,
};
use crate::error::CliError;

/// One server and one client, on different hosts where there are two.
pub(super) const CAST: Cast = Cast { servers: 1, clients: 1, hosts: 1 };

const CALLS: u64 = 10_000;
const STOPPED: Duration = Duration::from_secs(11);
const BOUND: Duration = Duration::from_secs(10);

/// How long the calls are in service before that, so that the client has been told so.
const IN_SERVICE: Duration = Duration::from_secs(3);

/// After this nobody waits for the calls any longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the calls ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Time from waking to the end of the last call.
    pub after: Duration,
}

/// Runs it.
pub(super) fn play(run: &mut Run) -> Result<Ended, CliError> {
    let (server, client) = (Who::Server(0), Who::Client(0));
    run.stage.tell(client, Command::Burst { calls: CALLS })?;
    if !run.wait(PATIENCE, |run| run.ledger.counts.ran == CALLS)? {
        return Err(CliError::Process(format!(
            "only {} of {CALLS} calls came into service",
            run.ledger.counts.ran
        )));
    }
    run.wait(IN_SERVICE, |_| false)?;
    run.stage.signal(client, Signal::SIGSTOP)?;
    run.stage.tell(server, Command::Release)?;
    run.wait(STOPPED, |_| false)?;
    let woken_ns = monotonic_ns();
    run.stage.signal(client, Signal::SIGCONT)?;
    let start = Instant::now();
    let over = run.wait(PATIENCE, |run| run.ledger.open_calls() == 0)?;
    let after = match over {
        true => Duration::from_nanos(run.ledger.last_end_ns.saturating_sub(woken_ns)),
        false => start.elapsed(),
    };
    let left = run.ledger.open_calls();
    if left > 0 || after > BOUND {
        run.ledger.violate(format!(
            "{left} of {CALLS} calls had not ended {:.1} s after the client went on",
            after.as_secs_f64()
        ));
    }
    Ok(Ended { after })
}
