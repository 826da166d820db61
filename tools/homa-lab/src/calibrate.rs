//! What the machine can carry: the lab at a rate that no link limits, and which switch to take for
//! it.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    Backend, Choice, Lab, LabError, LabSpec,
    lab::choose,
    spec::PORT_MBPS_MAX,
    traffic::{Blast, HEADERS_BYTES, Sink},
};

/// What a lab is to carry, all ports together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Load {
    /// Frames per second through the switch.
    pub packets_per_s: f64,
    /// Mean length of a frame in bytes.
    pub frame_bytes: f64,
}

impl Load {
    /// All ports at their rate, with frames of full length.
    pub fn full(spec: &LabSpec) -> Self {
        let frame_bytes = f64::from(spec.frame_bytes());
        let packets_per_s = spec.port_bytes_per_s() as f64 / frame_bytes * f64::from(spec.hosts);
        Self { packets_per_s, frame_bytes }
    }
}

/// Where the emulation saturates, on this machine and now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Saturation {
    /// What emulates the switch: never [`Backend::Auto`].
    pub backend: Backend,
    /// Frames per second through all ports together, senders and receivers included. No more than
    /// twice the load is tried.
    pub packets_per_s: f64,
    /// Mean length of these frames in bytes.
    pub frame_bytes: f64,
    /// The same as a rate of each port if all carry as much, Mbit/s.
    pub mbps_per_port: f64,
    /// Number of hosts.
    pub hosts: u32,
}

/// Loads that are tried, as multiples of the one that is asked for, until one is carried.
const STEPS: [f64; 5] = [COMFORT, 1.5, 1.0, 0.5, 0.25];

/// Programs under test need processor time as well: a lab is comfortable if it carries so many
/// times the load.
const COMFORT: f64 = 2.0;

/// A load counts as carried if this share of it arrives.
const CARRIED: f64 = 0.97;

/// How long each load lasts; the first part does not count.
const WARM_UP: Duration = Duration::from_millis(50);
const TIME: Duration = Duration::from_millis(150);

impl Saturation {
    /// Compares with a load.
    ///
    /// # Errors
    /// [`LabError::TooMuch`] if it is more than the machine carries.
    pub fn check(&self, load: &Load) -> Result<(), LabError> {
        match load.packets_per_s * CARRIED <= self.packets_per_s {
            true => Ok(()),
            false => Err(LabError::TooMuch {
                packets_per_s: self.packets_per_s.round() as u64,
                mbps_per_port: self.mbps_per_port.floor() as u64,
                hosts: self.hosts,
                wanted_packets_per_s: load.packets_per_s.round() as u64,
            }),
        }
    }

    /// Whether the programs under test have about as much of the machine as the emulation needs.
    pub fn is_comfortable(&self, load: &Load) -> bool {
        load.packets_per_s * COMFORT * CARRIED <= self.packets_per_s
    }
}

/// Lets every host of a lab like `spec` send to its neighbour: twice the load, and less and less
/// until all of it arrives. Takes about half a second, more where less is carried.
///
/// # Errors
/// Those of [`Lab::up`].
pub fn saturation(spec: &LabSpec, load: &Load) -> Result<Saturation, LabError> {
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
    let hosts = f64::from(spec.hosts);
    let frame_bytes =
        load.frame_bytes.clamp(HEADERS_BYTES as f64 + 1.0, f64::from(spec.frame_bytes()));
    let mut best = 0.0_f64;
    for step in STEPS {
        let offered = step * load.packets_per_s / hosts;
        let carried = carried(&lab, offered, frame_bytes as usize)?;
        best = best.max(carried);
        if carried >= CARRIED * offered {
            break;
        }
    }
    Ok(Saturation {
        backend,
        packets_per_s: best * hosts,
        frame_bytes,
        mbps_per_port: best * frame_bytes * 8e-6,
        hosts: spec.hosts,
    })
}

/// Decides what emulates the switch by what each carries on this machine: the kernel's, which
/// leaves more of the machine to the programs, unless the load is too much for it and the own one
/// carries more.
///
/// # Errors
/// Those of [`Lab::up`].
pub fn choose_for(spec: &LabSpec, load: &Load) -> Result<(Choice, Saturation), LabError> {
    spec.validate()?;
    let choice = choose(spec)?;
    let found = saturation(&LabSpec { backend: choice.backend, ..spec.clone() }, load)?;
    if spec.backend != Backend::Auto || spec.needs_switch().is_some() || found.is_comfortable(load)
    {
        let reason = format!("{}; {}", choice.reason, words(&found, load));
        return Ok((Choice { reason, ..choice }, found));
    }
    let other = saturation(&LabSpec { backend: Backend::Switch, ..spec.clone() }, load)?;
    let (more, less) = match other.packets_per_s > found.packets_per_s {
        true => (other, found),
        false => (found, other),
    };
    let reason = format!("{}, the other one {}", words(&more, load), thousands(less.packets_per_s));
    Ok((Choice { backend: more.backend, reason }, more))
}

fn words(found: &Saturation, load: &Load) -> String {
    let name = match found.backend {
        Backend::Switch => "the own switch",
        _ => "the kernel's",
    };
    let least = if found.is_comfortable(load) { "at least " } else { "" };
    format!(
        "{} packets/s are expected and {name} carries {least}{}",
        thousands(load.packets_per_s),
        thousands(found.packets_per_s)
    )
}

/// A count in thousands: two digits say all that such a measurement knows.
fn thousands(count: f64) -> String {
    match count {
        10_000.0.. => format!("{:.0},000", count / 1e3),
        _ => format!("{count:.0}"),
    }
}

/// Offers every port so many frames per second and returns how many arrived, per port.
fn carried(lab: &Lab, frames_per_s: f64, frame_bytes: usize) -> Result<f64, LabError> {
    let hosts = lab.hosts().len();
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

    fn found(packets_per_s: f64) -> Saturation {
        Saturation {
            backend: Backend::Kernel,
            packets_per_s,
            frame_bytes: 1514.0,
            mbps_per_port: 302.8,
            hosts: 6,
        }
    }

    #[test]
    fn a_load_above_the_saturation_is_refused_with_the_figures() {
        let load = |packets_per_s| Load { packets_per_s, frame_bytes: 1514.0 };
        let saturation = found(150_000.4);
        assert!(saturation.check(&load(149_000.0)).is_ok());
        assert!(saturation.is_comfortable(&load(75_000.0)));
        assert!(!saturation.is_comfortable(&load(100_000.0)));
        let error = saturation.check(&load(200_000.0)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("saturates at 150000 packets/s = 302 Mbit/s per port"), "{text}");
    }

    #[test]
    fn a_full_load_is_the_rate_of_all_ports() {
        let spec = LabSpec { hosts: 4, port_mbps: 121, mtu: 1498, ..LabSpec::default() };
        let load = Load::full(&spec);
        assert!((load.packets_per_s - 40_013.2).abs() < 1.0, "{load:?}");
    }

    #[test]
    fn the_choice_says_what_is_expected_and_what_is_carried() {
        let load = Load { packets_per_s: 48_212.0, frame_bytes: 1514.0 };
        let text = words(&found(96_600.0), &load);
        let expected = "48,000 packets/s are expected and the kernel's carries at least 97,000";
        assert_eq!(text, expected);
    }
}
