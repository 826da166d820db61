//! Hosts that are network namespaces of this machine.

use std::{
    io,
    net::IpAddr,
    process::{Child, Stdio},
};

use homa_lab::{Backend, Lab, LabSpec};

use super::{AgentCommand, Network, PortLevel};
use crate::{plan::NetworkPlan, transport::Transport};

/// A lab that is up; dropping it takes it down.
#[derive(Debug)]
pub struct LabNetwork {
    lab: Lab,
    agent: AgentCommand,
}

impl LabNetwork {
    /// Builds the lab.
    ///
    /// # Errors
    /// What the machine or the user lacks.
    pub fn new(plan: &NetworkPlan, agent: &AgentCommand) -> io::Result<Self> {
        let backend = match plan.backend.as_str() {
            "auto" => Backend::Auto,
            "kernel" => Backend::Kernel,
            "switch" => Backend::Switch,
            other => {
                let text = format!("backend `{other}` is none of auto, kernel, switch");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        let spec = LabSpec {
            name: format!("bench-{}", std::process::id()),
            hosts: plan.hosts,
            port_mbps: plan.rate,
            backend,
            mtu: plan.mtu,
            buffer_bytes: plan.buffer,
            uplink_buffer_bytes: plan.uplink_buffer,
            ..LabSpec::default()
        };
        let lab = Lab::up(&spec).map_err(io::Error::other)?;
        Ok(LabNetwork { lab, agent: agent.clone() })
    }
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

    fn ports(&self) -> Vec<PortLevel> {
        let Ok(ports) = self.lab.counters() else { return Vec::new() };
        let mut found = Vec::new();
        for port in ports {
            for (level, counters) in port.levels.iter().enumerate() {
                found.push(PortLevel {
                    host: u32::try_from(port.host).unwrap_or(u32::MAX),
                    level: u8::try_from(level).unwrap_or(u8::MAX),
                    sent_bytes: counters.sent_bytes,
                    dropped_packets: counters.dropped_packets,
                    queue_bytes: counters.queue_bytes,
                });
            }
        }
        found
    }

    fn facts(&self) -> serde_json::Value {
        serde_json::json!({
            "kind": "lab",
            "backend": self.lab.backend(),
            "spec": self.lab.spec(),
        })
    }
}
