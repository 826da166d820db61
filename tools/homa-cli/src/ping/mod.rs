//! `homa ping`: the round-trip time of one call now and then, or of one after the other.

mod flood;
mod paced;

use std::{net::SocketAddr, time::Duration};

use serde::Serialize;

use crate::{
    args::PingArgs,
    error::CliError,
    failures::Failures,
    interrupt,
    latency::{Latency, Spread},
    options::MESSAGE_BYTES_MAX,
    output,
    resolve::resolve,
    serve::settings,
    transport::{Protocol, Settings, Wait},
    units::{format_number, format_size},
};

/// Runs the command.
pub(crate) fn run(args: &PingArgs, json: bool) -> Result<(), CliError> {
    let server = resolve(&args.address)?;
    let pings = match args.flood {
        true => flood::run(args, server)?,
        false => paced::run(args, server, !json)?,
    };
    let report = Report::new(args, server, &pings);
    match json {
        true => output::document(&report)?,
        false => output::bytes(report.text().as_bytes())?,
    }
    match pings.broken {
        Some(error) => Err(error),
        None => report.verdict(),
    }
}

/// Settings of the client.
fn client_settings(args: &PingArgs) -> Settings {
    settings(args.busy, (args.size as u32).max(MESSAGE_BYTES_MAX)).over(&args.transport.driver)
}

/// How pings ended.
#[derive(Debug)]
struct Pings {
    sent: u64,
    lost: u64,
    latency: Latency,
    failures: Failures,
    /// What ended them before their time.
    broken: Option<CliError>,
}

impl Pings {
    fn new() -> Self {
        Pings {
            sent: 0,
            lost: 0,
            latency: Latency::new(),
            failures: Failures::default(),
            broken: None,
        }
    }

    fn lost(&mut self, kind: String) {
        self.lost += 1;
        self.failures.add(kind);
    }
}

fn no_reply(timeout: Duration) -> String {
    format!("no reply within {timeout:?}")
}

/// What is printed in the end.
#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: u32,
    address: String,
    transport: Protocol,
    wait: Wait,
    size_bytes: u64,
    sent: u64,
    answered: u64,
    lost: u64,
    lost_percent: Option<f64>,
    #[serde(flatten)]
    latency: Spread,
    errors: &'a Failures,
    interrupted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl<'a> Report<'a> {
    fn new(args: &PingArgs, server: SocketAddr, pings: &'a Pings) -> Self {
        let latency = pings.latency.spread();
        let mut report = Report {
            schema: 1,
            address: server.to_string(),
            transport: args.transport.protocol(),
            wait: if args.busy { Wait::Busy } else { Wait::Sleep },
            size_bytes: args.size,
            sent: pings.sent,
            answered: latency.count,
            lost: pings.lost,
            lost_percent: (pings.sent > 0).then(|| pings.lost as f64 * 100.0 / pings.sent as f64),
            latency,
            errors: &pings.failures,
            interrupted: interrupt::pressed(),
            error: None,
        };
        report.error = match &pings.broken {
            Some(error) => Some(error.to_string()),
            None => report.verdict().err().map(|error| error.to_string()),
        };
        report
    }

    fn text(&self) -> String {
        let lost = match self.lost_percent {
            Some(percent) => format!(", {}% lost", format_number(percent)),
            None => String::new(),
        };
        let mut text = format!(
            "--- {}, {} over {}\n{} sent, {} answered{lost}\n",
            self.address,
            format_size(self.size_bytes),
            self.transport.name(),
            self.sent,
            self.answered,
        );
        if self.answered > 0 {
            text += &format!("time in µs {}\n", self.latency.line());
        }
        for (kind, count) in self.errors.sorted() {
            text += &format!("{count:>6}  {kind}\n");
        }
        text
    }

    fn verdict(&self) -> Result<(), CliError> {
        match (self.answered, self.errors.main()) {
            (1.., _) => Ok(()),
            (0, Some(kind)) => Err(CliError::Incomplete(format!("no ping was answered: {kind}"))),
            (0, None) => Err(CliError::Interrupted),
        }
    }
}
