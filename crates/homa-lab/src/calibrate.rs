//! What the machine can carry: the lab at a rate that no link limits.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    Lab, LabError, LabSpec,
    lab::choose,
    spec::PORT_MBPS_MAX,
    traffic::{Blast, Sink},
};

/// Where the emulation saturates, on this machine and now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Saturation {
    /// Frames of full length per second through all ports together, senders and receivers included.
    pub packets_per_s: f64,
    /// The same as a rate of each port if all carry as much, Mbit/s.
    pub mbps_per_port: f64,
    /// Number of hosts.
    pub hosts: u32,
}

/// Loads that are tried, as shares of the rate that is asked for.
const STEPS: [f64; 5] = [0.25, 0.5, 1.0, 1.5, 2.0];

/// A load counts as carried if this share of it arrives.
const CARRIED: f64 = 0.97;

/// How long each load lasts; the first part does not count.
const WARM_UP: Duration = Duration::from_millis(50);
const TIME: Duration = Duration::from_millis(150);

impl Saturation {
    /// Compares with a specification.
    ///
    /// # Errors
    /// [`LabError::TooMuch`] if all ports at their rate are more than the machine carries.
    pub fn check(&self, spec: &LabSpec) -> Result<(), LabError> {
        match f64::from(spec.port_mbps) * CARRIED <= self.mbps_per_port {
            true => Ok(()),
            false => Err(LabError::TooMuch {
                packets_per_s: self.packets_per_s.round() as u64,
                mbps_per_port: self.mbps_per_port.floor() as u64,
                hosts: self.hosts,
                wanted_mbps: spec.port_mbps,
            }),
        }
    }
}

/// Lets every host of a lab like `spec` send to its neighbour, more and more until not all of it arrives or twice the
/// rate of `spec` is reached; takes about a second. Programs under test will need processor time, too: a lab is
/// comfortable at half of the result.
///
/// # Errors
/// Those of [`Lab::up`].
pub fn saturation(spec: &LabSpec) -> Result<Saturation, LabError> {
    // The back-end that the specification leads to, but nothing that limits, loses or delays.
    let backend = choose(spec)?.backend;
    let fast = LabSpec {
        hosts: spec.hosts,
        mtu: spec.mtu,
        port_mbps: spec.port_mbps.saturating_mul(4).min(PORT_MBPS_MAX),
        backend,
        ..LabSpec::default()
    };
    let lab = Lab::up(&fast)?;
    let mut best = 0.0_f64;
    for share in STEPS {
        let offered = share * spec.port_bytes_per_s() as f64 / f64::from(spec.frame_bytes());
        let carried = carried(&lab, offered)?;
        best = best.max(carried);
        if carried < CARRIED * offered {
            break;
        }
    }
    let hosts = spec.hosts;
    Ok(Saturation {
        packets_per_s: best * f64::from(hosts),
        mbps_per_port: best * f64::from(spec.frame_bytes()) * 8e-6,
        hosts,
    })
}

/// Offers every port so many frames per second and returns how many arrived, per port.
fn carried(lab: &Lab, frames_per_s: f64) -> Result<f64, LabError> {
    let hosts = lab.hosts().len();
    let frame_bytes = lab.spec().frame_bytes() as usize;
    let sinks = (0..hosts).map(|host| Sink::start(lab, host)).collect::<Result<Vec<_>, _>>()?;
    let _load = sinks
        .iter()
        .enumerate()
        .map(|(host, sink)| {
            let from = (host + 1) % hosts;
            Blast::start(lab, from, sink.address, 0, frame_bytes, Some(frames_per_s))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let count = || sinks.iter().map(Sink::frames).sum::<u64>();
    thread::sleep(WARM_UP);
    let (start, before) = (Instant::now(), count());
    thread::sleep(TIME);
    Ok((count() - before) as f64 / start.elapsed().as_secs_f64() / hosts as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_above_the_saturation_is_refused_with_the_figures() {
        let saturation = Saturation { packets_per_s: 150_000.4, mbps_per_port: 302.8, hosts: 6 };
        let spec = LabSpec { port_mbps: 300, ..LabSpec::default() };
        assert!(saturation.check(&spec).is_ok());
        let error = saturation.check(&LabSpec { port_mbps: 400, ..spec }).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("saturates at 150000 packets/s = 302 Mbit/s per port"), "{text}");
    }
}
