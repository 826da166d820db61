//! Where the hosts of a run are.

mod lab;
mod loopback;
mod peer;
mod ssh;

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Child,
    time::Instant,
};

use serde::Serialize;

pub use self::{lab::LabNetwork, loopback::LoopbackNetwork, ssh::SshNetwork};
use crate::{
    plan::{NetworkKind, Plan},
    transport::Transport,
};

/// Hosts that agents can be started on.
pub trait Network: Sync {
    /// Number of hosts.
    fn hosts(&self) -> u32;

    /// Where a host's agent serves.
    ///
    /// # Errors
    /// The name of a real machine cannot be resolved.
    fn address(&self, host: u32) -> io::Result<IpAddr>;

    /// Starts an agent for a transport on a host, with pipes for input and output.
    ///
    /// # Errors
    /// What the system says; the program that speaks the transport is not there.
    fn start_agent(&self, host: u32, transport: &Transport) -> io::Result<Child>;

    /// What the ports towards the hosts have carried and hold now; none where nobody can tell.
    fn read(&self) -> Option<PortReading> {
        None
    }

    /// Lengths of the queues that the network recorded by itself since the last call; none if it
    /// does not record.
    fn take_queues(&self) -> Option<QueueRecord> {
        None
    }

    /// Whether [`fidelity`](Self::fidelity) has anything to say.
    fn measures_itself(&self) -> bool {
        false
    }

    /// Whether the machine carries so much more than the load that there is room for the programs
    /// under test.
    fn is_comfortable(&self) -> bool {
        true
    }

    /// Measures what differences the network can tell apart, in some seconds; none where that makes
    /// no sense.
    fn fidelity(&self) -> Option<io::Result<homa_lab::Fidelity>> {
        None
    }

    /// What is known of the network, for the report.
    fn facts(&self) -> serde_json::Value;
}

/// One priority level of the switch's port towards a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PortLevel {
    /// The host.
    pub host: u32,
    /// The level; 7 goes first.
    pub level: u8,
    /// Bytes of frames that left towards the host, since the network exists.
    pub sent_bytes: u64,
    /// Frames that found no room.
    pub dropped_packets: u64,
    /// Bytes waiting now.
    pub queue_bytes: u64,
}

/// All ports at some moment between two others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortReading {
    /// Not before this.
    pub from: Instant,
    /// Not after this.
    pub until: Instant,
    /// By port and level.
    pub levels: Vec<PortLevel>,
}

/// Lengths of queues as a network recorded them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRecord {
    /// The zero of the times.
    pub since: Instant,
    /// Time between two looks, in nanoseconds; all are at multiples of it.
    pub interval_ns: u64,
    /// Ports that held something: time in nanoseconds, host, bytes by level. In order of time.
    pub looks: Vec<(u64, u32, [u64; homa_lab::LEVELS])>,
}

/// How agents are started.
#[derive(Debug, Clone)]
pub struct AgentCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What stands in for `ssh`.
    pub ssh: String,
    /// The command on the machines that `ssh` reaches.
    pub remote: String,
}

impl AgentCommand {
    /// This program with these arguments; `homa bench-host` on other machines.
    ///
    /// # Errors
    /// The system does not tell which program this is.
    pub fn this_program(arguments: &[&str]) -> io::Result<Self> {
        Ok(AgentCommand {
            program: std::env::current_exe()?,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            ssh: "ssh".to_owned(),
            remote: "homa bench-host".to_owned(),
        })
    }

    /// Looks whether there is a program for each transport of a plan; what other machines have
    /// shows when it is started.
    ///
    /// # Errors
    /// The text says how to build the program.
    pub fn check(&self, plan: &Plan) -> io::Result<()> {
        plan.transports.iter().try_for_each(|transport| match plan.network.kind {
            NetworkKind::Ssh => self.remote_for(transport).map(drop),
            NetworkKind::Lab | NetworkKind::Loopback => self.program_for(transport).map(drop),
        })
    }

    /// The program that speaks a transport, on this machine.
    fn program_for(&self, transport: &Transport) -> io::Result<PathBuf> {
        match transport.is_peer() {
            true => peer::find(&self.program),
            false => Ok(self.program.clone()),
        }
    }

    /// The command that speaks a transport, on other machines.
    fn remote_for(&self, transport: &Transport) -> io::Result<String> {
        match transport.is_peer() {
            true => peer::remote(&self.remote),
            false => Ok(self.remote.clone()),
        }
    }
}

/// The program that speaks QUIC and gRPC beside this `program`.
///
/// # Errors
/// It has not been built; the text says how to.
pub fn peer_program(program: &Path) -> io::Result<PathBuf> {
    peer::find(program)
}

/// Opens the network of a plan.
///
/// # Errors
/// The lab cannot be built here; the text says what the machine lacks.
pub fn open(plan: &Plan, agent: &AgentCommand) -> io::Result<Box<dyn Network>> {
    Ok(match plan.network.kind {
        NetworkKind::Lab => Box::new(LabNetwork::new(plan, agent)?),
        NetworkKind::Loopback => Box::new(LoopbackNetwork::new(&plan.network, agent)),
        NetworkKind::Ssh => Box::new(SshNetwork::new(&plan.network, agent)),
    })
}
