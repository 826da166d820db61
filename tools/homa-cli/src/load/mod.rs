//! `homa load`: calls servers at a rate, or as many at a time as they carry, and says how long
//! calls take.

pub(crate) mod args;
mod drive;
mod hdr;
mod histogram;
mod plan;
mod summary;
mod tally;
mod view;

use std::{num::NonZero, time::Instant};

use args::LoadArgs;
use hdr::Export;
use plan::Plan;
use summary::Summary;
use view::Shown;

use crate::{error::CliError, interrupt, output, serve::settings, transport::connect::connect_all};

/// How exactly the kernel wakes this thread; nanoseconds. Its usual 50,000 would make every call
/// late.
const TIMER_SLACK_NS: NonZero<u64> = NonZero::<u64>::MIN;

/// Runs the command.
pub(crate) fn run(args: &LoadArgs, json: bool) -> Result<(), CliError> {
    let plan = Plan::new(args)?;
    let export = args.hdr.as_deref().map(|path| Export::create(path, plan.warm_up)).transpose()?;
    interrupt::watch(|| {});
    // Where it is refused, calls begin a little late, which is measured.
    let _ = rustix::thread::set_current_timer_slack(Some(TIMER_SLACK_NS));
    let settings = settings(args.busy, plan.message_bytes_max()).over(&args.transport.driver);
    let mut client = connect_all(plan.protocol, &plan.servers, &settings, Some(plan.timeout))?;
    if !json {
        output::bytes(format!("{}\n", plan.describe()).as_bytes())?;
    }
    let mut shown = Shown::new(&plan, json, export);
    let (outcome, tally) =
        drive::run(&plan, &mut *client, &mut shown, Instant::now, interrupt::pressed);
    let exported = shown.finish(&tally, outcome.secs);
    let summary = Summary::new(&plan, &tally, &outcome);
    match json {
        true => output::document(&summary)?,
        false => output::bytes(summary.text().as_bytes())?,
    }
    exported?;
    match outcome.broken {
        Some(error) => Err(error),
        None => summary.verdict(),
    }
}
