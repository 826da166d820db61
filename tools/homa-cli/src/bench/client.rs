//! The client process: does one job and prints its outcome.

use bytes::Bytes;
use homa_bench::workload::Workload;

use super::{
    job::{Job, Outcome, Work},
    measure,
    open::{self, Offer},
    pin, tokio_latency,
};
use crate::{
    body::{self, Order},
    error::CliError,
    output,
    transport::{
        Api,
        connect::{connect, connect_all},
    },
};

/// Runs the process.
pub(crate) fn run(job: &str) -> Result<(), CliError> {
    let job: Job =
        serde_json::from_str(job).map_err(|error| CliError::Usage(format!("job: {error}")))?;
    pin::current_process(job.cpu)?;
    pin::end_with_parent();
    let outcome = measure(&job)?;
    if outcome.calls == 0 && outcome.unloaded.is_empty() {
        return Err(CliError::Transport("no call ended in the measured time".to_owned()));
    }
    output::line(&outcome)
}

fn measure(job: &Job) -> Result<Outcome, CliError> {
    if let (Api::Tokio, Work::Latency { size_bytes }) = (job.api, &job.work) {
        return tokio_latency::run(job, *size_bytes);
    }
    let one = || connect(job.protocol, job.server, &job.settings);
    let many = || connect_all(job.protocol, &[job.server], &job.settings, None);
    match &job.work {
        Work::Latency { size_bytes } => measure::latency(&mut *one()?, *size_bytes, job.secs),
        Work::Unloaded { sizes_bytes } => measure::unloaded(&mut *one()?, sizes_bytes, job.secs),
        Work::Closed { workload, reply_bytes, outstanding, seed } => {
            let sizes = Workload::load(workload)?;
            let payload = request(sizes.quantile(1.0) as usize, *reply_bytes);
            measure::closed(&mut *many()?, (sizes, *seed), payload, *outstanding, job.secs)
        }
        Work::Mixed(mixed) => {
            let sizes = Workload::load(&mixed.workload)?;
            open::mixed(&mut *many()?, &Offer { sizes, mixed, secs: job.secs })
        }
    }
}

fn request(size_bytes: usize, reply_bytes: Option<u32>) -> Bytes {
    match reply_bytes {
        None => body::pattern(0, size_bytes),
        Some(length) => body::pattern_with_order(0, size_bytes, Order::Pattern { length, seed: 0 }),
    }
}
