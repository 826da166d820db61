//! A process of the benchmark: does one job and says on a line of standard output what came of it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use homa_bench::{pair, workload::Workload};

use super::{
    alone,
    job::{Job, Measurement, Outcome, Side, Work},
    measure,
    open::{self, Offer},
    pin,
};
use crate::{
    body::{self, Order},
    error::CliError,
    output,
    transport::{
        Behaviour, Protocol, Responder,
        connect::{bind, connect_all, run_tokio},
        homa_udp,
        tcp::tasks::TaskConnections,
    },
};

/// Runs the process.
pub(crate) fn run(job: &str) -> Result<(), CliError> {
    let job: Job =
        serde_json::from_str(job).map_err(|error| CliError::Usage(format!("job: {error}")))?;
    pair::end_with_parent();
    match job {
        Job::Serve(side) => serve(&side),
        Job::Measure(job) => output::line(&measure(&job).map_err(|error| error.to_string())),
    }
}

/// Says where it listens and serves until its parent ends it.
fn serve(side: &Side) -> Result<(), CliError> {
    let bound = pin::current_process(side.cpu).and_then(|()| {
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        bind(side.protocol, side.api, anywhere, &side.settings)
    });
    output::line(&bound.as_ref().map(|bound| bound.address).map_err(ToString::to_string))?;
    match bound {
        Ok(bound) => (bound.serve)(&Responder::new(Behaviour::Echo), Duration::ZERO),
        // Its parent says so.
        Err(_) => Ok(()),
    }
}

fn measure(job: &Measurement) -> Result<Outcome, CliError> {
    pin::current_process(job.side.cpu)?;
    let Side { protocol, settings, .. } = &job.side;
    let client = || connect_all(*protocol, &[job.server], settings, None);
    let outcome = match &job.work {
        Work::Alone { sizes_bytes } => alone::run(job, sizes_bytes),
        Work::Closed { workload, reply_bytes, outstanding, seed } => {
            let sizes = Workload::load(workload)?;
            let payload = request(sizes.quantile(1.0) as usize, *reply_bytes);
            measure::closed(&mut *client()?, (sizes, *seed), payload, *outstanding, job.secs)
        }
        Work::Tasks { load, reply_bytes } => {
            let payload = request(load.request_bytes as usize, *reply_bytes);
            tasks(job, load, payload)
        }
        Work::Mixed(mixed) => {
            let sizes = Workload::load(&mixed.workload)?;
            open::mixed(&mut *client()?, &Offer { sizes, mixed, secs: job.secs })
        }
    }?;
    match outcome.calls {
        0 => Err(CliError::Transport("no call ended in the measured time".to_owned())),
        _ => Ok(outcome),
    }
}

/// Calls that the tasks of a runtime make.
fn tasks(job: &Measurement, load: &pair::Closed, request: Bytes) -> Result<Outcome, CliError> {
    let Side { protocol, settings, .. } = &job.side;
    let found = run_tokio(async {
        Ok::<_, CliError>(if *protocol == Protocol::Tcp {
            let client = TaskConnections::open(job.server, settings)?;
            pair::closed(client, request, load).await
        } else {
            let client = homa_udp::TokioClient::new(*protocol, job.server, settings)?;
            pair::closed(client, request, load).await
        })
    })??;
    found.map(Outcome::from).map_err(|error| CliError::Transport(error.to_string()))
}

fn request(size_bytes: usize, reply_bytes: Option<u32>) -> Bytes {
    match reply_bytes {
        None => body::pattern(0, size_bytes),
        Some(length) => body::pattern_with_order(0, size_bytes, Order::Pattern { length, seed: 0 }),
    }
}
