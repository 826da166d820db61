//! Hosts that are addresses of this machine's loopback interface.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    process::{Child, Command, Stdio},
};

use super::{AgentCommand, Network};
use crate::{plan::NetworkPlan, transport::Transport};

/// Addresses 127.0.0.1 and following. No link has a rate and nothing queues: to try plans out.
#[derive(Debug)]
pub struct LoopbackNetwork {
    hosts: u32,
    agent: AgentCommand,
}

impl LoopbackNetwork {
    /// As many hosts as the plan says.
    pub fn new(plan: &NetworkPlan, agent: &AgentCommand) -> Self {
        LoopbackNetwork { hosts: plan.hosts, agent: agent.clone() }
    }
}

impl Network for LoopbackNetwork {
    fn hosts(&self) -> u32 {
        self.hosts
    }

    fn address(&self, host: u32) -> io::Result<IpAddr> {
        let last = u8::try_from(host + 1).map_err(io::Error::other)?;
        Ok(Ipv4Addr::new(127, 0, 0, last).into())
    }

    fn start_agent(&self, _: u32, transport: &Transport) -> io::Result<Child> {
        Command::new(self.agent.program_for(transport)?)
            .args(&self.agent.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
    }

    fn facts(&self) -> serde_json::Value {
        serde_json::json!({ "kind": "loopback", "hosts": self.hosts })
    }
}
