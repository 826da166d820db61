//! Hosts that are network namespaces of this machine.

use std::{
    io,
    net::IpAddr,
    process::{Child, Stdio},
    time::Duration,
};

use homa_lab::{
    Backend, Lab, LabSpec, Saturation,
    calibrate::{self, Load},
    fidelity,
};

use super::{AgentCommand, Network, PortLevel, PortReading, QueueRecord};
use crate::{load::expected, plan::Plan, transport::Transport};

/// Values that the own switch records per round at most: what a plot and a file can bear.
const RECORDED_MAX: u64 = 60_000;

/// The shortest time between two looks at its queues.
const RECORD_US_MIN: u64 = 1_000;

/// A lab that carries less than this share of what is to be expected says nothing at all.
const HOPELESS: f64 = 0.5;

/// A lab that is up; dropping it takes it down.
#[derive(Debug)]
pub struct LabNetwork {
    lab: Lab,
    agent: AgentCommand,
    load: Load,
    saturation: Saturation,
}

impl LabNetwork {
    /// Builds the lab, with the switch that carries the plan's load on this machine.
    ///
    /// # Errors
    /// What the machine or the user lacks; where the emulation saturates, if that is far below the
    /// load.
    pub fn new(plan: &Plan, agent: &AgentCommand) -> io::Result<Self> {
        let backend = match plan.network.backend.as_str() {
            "auto" => Backend::Auto,
            "kernel" => Backend::Kernel,
            "switch" => Backend::Switch,
            other => {
                let text = format!("backend `{other}` is none of auto, kernel, switch");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        let mut spec = LabSpec {
            name: format!("bench-{}", std::process::id()),
            hosts: plan.network.hosts,
            port_mbps: plan.network.rate,
            backend,
            mtu: plan.network.mtu,
            buffer_bytes: plan.network.buffer,
            uplink_buffer_bytes: plan.network.uplink_buffer,
            ..LabSpec::default()
        };
        let sizes = plan.sizes().map_err(io::Error::other)?;
        let load = expected(plan, &sizes);
        let (choice, saturation) = calibrate::choose_for(&spec, &load).map_err(io::Error::other)?;
        let lowest = Load { packets_per_s: load.packets_per_s * HOPELESS, ..load };
        if let (Err(_), Err(error)) = (saturation.check(&lowest), saturation.check(&load)) {
            let text =
                format!("{error}; offer less load, or lower the rate or the number of hosts");
            return Err(io::Error::other(text));
        }
        if choice.backend == Backend::Switch {
            spec.trace_interval_us = record_interval_us(plan);
        }
        let lab = Lab::up_with(&spec, choice).map_err(io::Error::other)?;
        Ok(LabNetwork { lab, agent: agent.clone(), load, saturation })
    }
}

/// Time between two looks at the queues, so that a round does not record more than its share.
fn record_interval_us(plan: &Plan) -> u64 {
    let seconds = plan.load.warm_up + plan.load.secs;
    let values = u64::from(plan.network.hosts) * homa_lab::LEVELS as u64;
    let interval_us = (seconds * 1e6) as u64 * values / RECORDED_MAX;
    interval_us.max(RECORD_US_MIN)
}

impl Network for LabNetwork {
    fn hosts(&self) -> u32 {
        u32::try_from(self.lab.hosts().len()).unwrap_or(u32::MAX)
    }

    fn address(&self, host: u32) -> io::Result<IpAddr> {
        let found = self.lab.hosts().get(host as usize);
        found.map(|host| host.ipv4.into()).ok_or(io::ErrorKind::AddrNotAvailable.into())
    }

    fn start_agent(&self, host: u32, transport: &Transport) -> io::Result<Child> {
        let program = self.agent.program_for(transport)?;
        let mut command = self.lab.command(host as usize, &program).map_err(io::Error::other)?;
        command.args(&self.agent.arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
    }

    fn read(&self) -> Option<PortReading> {
        let reading = self.lab.read().ok()?;
        let at = |ns| self.lab.since() + Duration::from_nanos(ns);
        let levels = reading.ports.iter().flat_map(|port| {
            port.levels.iter().zip(0..).map(|(counters, level)| PortLevel {
                host: u32::try_from(port.host).unwrap_or(u32::MAX),
                level,
                sent_bytes: counters.sent_bytes,
                dropped_packets: counters.dropped_packets,
                queue_bytes: counters.queue_bytes,
            })
        });
        let levels = levels.collect();
        Some(PortReading { from: at(reading.from_ns), until: at(reading.until_ns), levels })
    }

    fn take_queues(&self) -> Option<QueueRecord> {
        let trace = self.lab.take_queue_trace();
        let looks = trace.samples.iter().map(|sample| {
            (sample.at_ns, u32::try_from(sample.host).unwrap_or(u32::MAX), sample.queue_bytes)
        });
        (trace.interval_ns > 0).then(|| QueueRecord {
            since: self.lab.since(),
            interval_ns: trace.interval_ns,
            looks: looks.collect(),
        })
    }

    fn measures_itself(&self) -> bool {
        true
    }

    fn is_comfortable(&self) -> bool {
        self.saturation.is_comfortable(&self.load)
    }

    fn fidelity(&self) -> Option<io::Result<homa_lab::Fidelity>> {
        Some(fidelity::measure_briefly(&self.lab).map_err(io::Error::other))
    }

    fn facts(&self) -> serde_json::Value {
        serde_json::json!({
            "kind": "lab",
            "backend": self.lab.backend(),
            "backend_reason": self.lab.choice().reason,
            "expected": self.load,
            "saturation": self.saturation,
            "comfortable": self.saturation.is_comfortable(&self.load),
            "spec": self.lab.spec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_round_records_is_bounded_however_long_it_takes() {
        let mut plan = Plan::default();
        assert_eq!(record_interval_us(&plan), 5_600);
        plan.load.secs = 0.1;
        plan.load.warm_up = 0.0;
        assert_eq!(record_interval_us(&plan), RECORD_US_MIN);
        (plan.load.secs, plan.network.hosts) = (86_400.0, 250);
        let looks = 86_400_000_000 / record_interval_us(&plan);
        assert!(looks * 250 * 8 <= RECORDED_MAX, "{looks}");
    }
}
