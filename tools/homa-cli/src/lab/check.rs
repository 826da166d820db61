//! `homa lab check`: how exact a lab is on this machine.

use homa_lab::{
    Choice, Fidelity, Lab,
    calibrate::{self, Load, Saturation},
    fidelity::Quantiles,
};
use serde::Serialize;

use super::{args::CheckArgs, failed, waiting::Waiting};
use crate::{error::CliError, output, units::format_number};

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    hosts: u32,
    port_mbps: u32,
    switch: Choice,
    saturation: Saturation,
    fidelity: Fidelity,
}

/// `homa lab check`
pub(crate) fn run(args: &CheckArgs, json: bool) -> Result<(), CliError> {
    let spec = args.spec.spec("check");
    spec.validate().map_err(failed)?;
    homa_lab::acquire_privileges().map_err(failed)?;
    let waiting = Waiting::new("measuring a lab, about ten seconds");
    let (switch, saturation) = calibrate::choose_for(&spec, &Load::full(&spec)).map_err(failed)?;
    let lab = Lab::up_with(&spec, switch.clone()).map_err(failed)?;
    let fidelity = homa_lab::fidelity::measure(&lab).map_err(failed)?;
    drop(waiting);
    let report =
        Report { hosts: spec.hosts, port_mbps: spec.port_mbps, switch, saturation, fidelity };
    match json {
        true => output::document(&report),
        false => output::bytes(describe(&report).as_bytes()),
    }
}

fn describe(report: &Report) -> String {
    let Report { hosts, port_mbps, switch, saturation, fidelity } = report;
    let machine = &fidelity.machine;
    let us = |ns: u64| format!("{} us", format_number(ns as f64 / 1e3));
    let quantiles = |q: &Quantiles| match q.count {
        0 => "none arrived".to_owned(),
        _ => format!("P50 {}, P99 {}, max {}", us(q.p50_ns), us(q.p99_ns), us(q.max_ns)),
    };
    let share = |share: f64| format!("{} %", format_number(share * 100.0));
    let mut text = format!(
        "{hosts} hosts, {port_mbps} Mbit/s, switch: {} ({})\n",
        fidelity.backend, switch.reason
    );
    let rows = [
        (
            "carries",
            format!(
                "at least {} packets/s = {} Mbit/s per port",
                format_number(saturation.packets_per_s),
                format_number(saturation.mbps_per_port)
            ),
        ),
        (
            "rate of an overloaded port",
            format!(
                "{} to {} of the rate asked for",
                share(fidelity.rate_lowest),
                share(fidelity.rate_highest)
            ),
        ),
        ("one way, idle", quantiles(&fidelity.idle)),
        ("overload, highest level", quantiles(&fidelity.top_level)),
        ("overload, same level", quantiles(&fidelity.same_level)),
        ("one full frame takes", us(fidelity.frame_ns)),
        ("sleeps of 100 us end late by", quantiles(&machine.sleep_late)),
        (
            "stalls above 50 us",
            format!(
                "{} of the time, longest {}",
                share(machine.stalled_share),
                us(machine.stalls.max_ns)
            ),
        ),
        (
            "not resolved",
            format!(
                "differences of tails below {}, of medians below {}, of throughput below {}",
                us(fidelity.latency_resolution_ns),
                us(fidelity.median_resolution_ns),
                share(fidelity.rate_resolution)
            ),
        ),
    ];
    for (name, value) in rows {
        text.push_str(&format!("  {name:<29} {value}\n"));
    }
    text
}
