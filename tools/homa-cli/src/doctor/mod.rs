//! `homa doctor`: what this host lacks for Homa, what that means, and what mends it. Changes
//! nothing.

mod buffers;
mod congestion;
mod driver;
mod finding;
mod holders;
mod lab;
mod link;
mod privileges;
mod rules;

use serde::Serialize;

use self::finding::{Finding, State};
use crate::{args::DoctorArgs, error::CliError, output, transport::Carriage};

/// Everything found, as a document.
#[derive(Debug, Serialize)]
struct Report {
    checks: Vec<Finding>,
    warnings: usize,
    problems: usize,
}

/// Looks at this host for endpoints like these and prints what it finds.
///
/// # Errors
/// Some of it is a problem.
pub(crate) fn run(args: &DoctorArgs, json: bool) -> Result<(), CliError> {
    let carriage = args.carriage.carriage;
    let raw = matches!(carriage, Carriage::Ip | Carriage::IpTcp);
    let checks = [
        vec![
            privileges::raw_sockets(raw),
            privileges::kernel_module(raw),
            buffers::receive_buffer(),
            buffers::segmentation(),
            rules::tcp_form(raw),
            driver::chosen(&args.driver, carriage),
        ],
        lab::all(),
        vec![congestion::controls()],
        holders::all(),
        link::device_queues(),
        vec![link::cutoffs(raw)],
    ]
    .concat();
    let count = |state| checks.iter().filter(|check| check.state == state).count();
    let (warnings, problems) = (count(State::Warning), count(State::Problem));
    match json {
        true => output::document(&Report { checks, warnings, problems })?,
        false => output::bytes(finding::text(&checks).as_bytes())?,
    }
    match problems {
        0 => Ok(()),
        1 => Err(CliError::Incomplete("1 problem".to_owned())),
        _ => Err(CliError::Incomplete(format!("{problems} problems"))),
    }
}
