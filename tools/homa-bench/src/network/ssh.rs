//! Hosts that are machines reached by `ssh`.

use std::{
    io,
    net::{IpAddr, ToSocketAddrs},
    process::{Child, Command, Stdio},
};

use super::{AgentCommand, Network};
use crate::{plan::NetworkPlan, transport::Transport};

/// Real machines. `homa` must be installed on each, and they must reach each other.
#[derive(Debug)]
pub struct SshNetwork {
    targets: Vec<String>,
    addresses: Vec<String>,
    agent: AgentCommand,
}

impl SshNetwork {
    /// The machines of the plan.
    pub fn new(plan: &NetworkPlan, agent: &AgentCommand) -> Self {
        SshNetwork {
            targets: plan.ssh.clone(),
            addresses: plan.addresses.clone(),
            agent: agent.clone(),
        }
    }

    fn target(&self, host: u32) -> io::Result<&str> {
        let found = self.targets.get(host as usize).map(String::as_str);
        found.ok_or(io::ErrorKind::AddrNotAvailable.into())
    }
}

impl Network for SshNetwork {
    fn hosts(&self) -> u32 {
        u32::try_from(self.targets.len()).unwrap_or(u32::MAX)
    }

    fn address(&self, host: u32) -> io::Result<IpAddr> {
        let target = self.target(host)?;
        let name = target.rsplit_once('@').map_or(target, |(_, name)| name);
        let name = self.addresses.get(host as usize).map_or(name, String::as_str);
        let unknown = || io::Error::other(format!("no address of {name} is known"));
        let mut found = (name, 0).to_socket_addrs().map_err(|_| unknown())?;
        found.next().map(|address| address.ip()).ok_or_else(unknown)
    }

    fn start_agent(&self, host: u32, transport: &Transport) -> io::Result<Child> {
        Command::new(&self.agent.ssh)
            .arg(self.target(host)?)
            .args(self.agent.remote_for(transport)?.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
    }

    fn facts(&self) -> serde_json::Value {
        serde_json::json!({ "kind": "ssh", "targets": self.targets })
    }
}
