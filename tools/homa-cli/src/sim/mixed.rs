//! `homa sim reproduce mixed`: Homa beside TCP on the same network.

use std::ops::RangeInclusive;

use homa_bench::workload::Workload;
use homa_report::table::table;
use homa_sim::{
    SetupError,
    reproduce::{
        mixed::{Comparison, Row, Speaks},
        sigcomm18::Messages,
    },
    transport::tcp::{Algorithm, Offload, Settings},
};
use serde::Serialize;

use super::{
    args::{MixedArgs, TcpArg},
    out,
    point::complete,
    simulate::{self, Job},
};
use crate::{error::CliError, interrupt, output};

/// Packets of data that a run makes, within bounds of messages.
const PACKETS: f64 = 30e6;
/// With `--quick`.
const PACKETS_QUICK: f64 = 1e6;
const MESSAGES: RangeInclusive<u32> = 1_000..=5_000_000;

/// What is printed.
#[derive(Debug, Serialize)]
struct Document {
    workload: String,
    load: f64,
    share: f64,
    messages: u32,
    seed: u64,
    rows: Vec<Row>,
}

/// Runs the command.
pub(crate) fn run(args: &MixedArgs, json: bool) -> Result<(), CliError> {
    if !(args.share > 0.0 && args.share < 1.0) {
        return Err(CliError::Usage("--share must be above 0 and below 1".to_owned()));
    }
    let sizes = Workload::load(&args.workload)?;
    let packets = if args.quick { PACKETS_QUICK } else { PACKETS };
    let messages = || Messages::of(sizes.clone()).count(packets, MESSAGES);
    let messages = args.messages.unwrap_or_else(messages);
    let algorithm = match args.tcp {
        TcpArg::Cubic => Algorithm::Cubic,
        TcpArg::Dctcp => Algorithm::Dctcp,
    };
    let comparison = Comparison {
        sizes,
        load: args.load,
        share: args.share,
        messages,
        tcp: Settings { offload: Some(Offload::LINUX), ..Settings::new(algorithm) },
        seed: args.study.seed,
    };
    out::check(args.study.out.as_deref())?;
    interrupt::watch(|| {});
    let rows = simulate(&comparison, super::threads(args.study.threads))?;
    let document = Document {
        workload: args.workload.clone(),
        load: args.load,
        share: args.share,
        messages,
        seed: args.study.seed,
        rows,
    };
    match json {
        true => output::document(&document)?,
        false => output::bytes(render(&document).as_bytes())?,
    }
    args.study.out.as_ref().map_or(Ok(()), |out| out::write(out, &document, Vec::new()))
}

/// Simulates all runs, several at a time.
fn simulate(comparison: &Comparison, threads: usize) -> Result<Vec<Row>, CliError> {
    let runs = Speaks::ALL.map(|speaks| comparison.run(speaks));
    let job = |(speaks, run)| Job { name: words(speaks).to_owned(), run };
    let jobs: Vec<_> = Speaks::ALL.into_iter().zip(&runs).map(job).collect();
    let wrong = |error: SetupError| CliError::Usage(error.to_string());
    for run in &runs {
        run.check().map_err(wrong)?;
    }
    let rows = simulate::simulate(&jobs, threads, |index, show| {
        let speaks = Speaks::ALL[index];
        let found = comparison.simulate(speaks, |moment| show(moment.part)).map_err(wrong)?;
        let Some((outcome, rows)) = found else { return Ok(None) };
        complete(words(speaks), &outcome)?;
        Ok(Some(rows))
    });
    match rows.waited_for()? {
        rows if rows.len() == jobs.len() => Ok(rows.concat()),
        _ => Err(CliError::Interrupted),
    }
}

/// What hosts speak.
fn words(speaks: Speaks) -> &'static str {
    match speaks {
        Speaks::Homa | Speaks::Tcp => "alone, all of the load",
        Speaks::HomaShare | Speaks::TcpShare => "alone, its share",
        Speaks::Both => "together",
    }
}

fn render(document: &Document) -> String {
    let header = [
        "messages of",
        "",
        "load",
        "messages",
        "short P50",
        "short P99",
        "P99",
        "short P99 µs",
        "published",
        "queue",
        "longest",
    ];
    let cells = |row: &Row| {
        let kilobytes = |bytes: f64| format!("{:.0} kB", bytes / 1e3);
        vec![
            row.transport.to_owned(),
            words(row.speaks).to_owned(),
            format!("{:.0} %", 100.0 * row.load),
            row.messages.to_string(),
            format!("{:.2}", row.short.slowdown_p50),
            format!("{:.2}", row.short.slowdown_p99),
            format!("{:.2}", row.all.slowdown_p99),
            format!("{:.1}", row.short.p99_us),
            row.published_p99_us.map_or(String::new(), |us| format!("{us:.1}")),
            kilobytes(row.queued_bytes_mean),
            kilobytes(row.queued_bytes_max as f64),
        ]
    };
    let rows = document.rows.iter().map(cells).collect();
    table(header.map(str::to_owned).to_vec(), rows, &[0, 1]) + NOTE
}

/// What the columns mean.
const NOTE: &str = "
short: the shortest tenth of the messages. P50, P99: slowdown. published: of W4 at 80 Gbit/s, with
the Linux implementations, whose software is in it. queue: bytes that wait at a switch's port to a
host, of all transports, in the mean and at most.
";
