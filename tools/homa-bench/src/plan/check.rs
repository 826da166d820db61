//! What values of a plan may be, all of it known before anything is built.

use super::{NetworkKind, NetworkPlan, Plan, PlanError};
use crate::{
    agent::RPCS_MAX,
    load::rpc_per_s,
    settings::{self, LinkFacts},
    spec::Reply,
    workload::Workload,
};

/// Hosts a plan may ask for.
const HOSTS_MAX: u32 = 250;

/// Rate of a link, in 10^6 bit/s.
const RATE_MBPS_MAX: u32 = 100_000;

/// Names of what emulates the switch.
const BACKENDS: [&str; 3] = ["auto", "kernel", "switch"];

impl Plan {
    /// Checks every value, the sizes of the workload and the settings of Homa included.
    ///
    /// # Errors
    /// [`PlanError::Value`] names the first that makes no sense; [`PlanError::Workload`]: the sizes
    /// cannot be read.
    pub fn check(&self) -> Result<(), PlanError> {
        self.check_network()?;
        self.check_load()?;
        let sizes = self.sizes()?;
        self.check_amount(&sizes)?;
        self.check_homa(&sizes)
    }

    /// The sizes of the messages.
    ///
    /// # Errors
    /// They cannot be read, or are longer than the plan allows.
    pub fn sizes(&self) -> Result<Workload, PlanError> {
        let load = &self.load;
        let found = Workload::load(&load.workload).map_err(PlanError::Workload)?;
        let longest = found.quantile(1.0);
        if longest > load.message_max && !Workload::is_built_in(&load.workload) {
            let text = format!("at least {longest}, the longest message of {}", load.workload);
            return Err(value("load.message_max", text));
        }
        Ok(found.capped(load.message_max))
    }

    fn check_network(&self) -> Result<(), PlanError> {
        let network = &self.network;
        let ssh = network.kind == NetworkKind::Ssh;
        let lab = network.kind == NetworkKind::Lab;
        first([
            ((2..=HOSTS_MAX).contains(&network.hosts) || ssh, "network.hosts", "2 to 250"),
            (!ssh || network.ssh.len() >= 2, "network.ssh", "at least two machines"),
            (
                network.ssh.iter().all(|target| !target.starts_with('-')),
                "network.ssh",
                "names of machines, not options",
            ),
            (
                network.addresses.is_empty() || network.addresses.len() == network.ssh.len(),
                "network.addresses",
                "one for each of network.ssh, or none",
            ),
            (network.rate <= RATE_MBPS_MAX, "network.rate", "1 to 100,000 Mbit/s"),
            ((1280..=9_000).contains(&network.mtu), "network.mtu", "1,280 to 9,000 bytes"),
            (
                BACKENDS.contains(&network.backend.as_str()),
                "network.backend",
                "auto, kernel or switch",
            ),
            (
                !lab || holds(network, network.buffer),
                "network.buffer",
                "at least two packets, at most 1,000,000,000 bytes",
            ),
            (
                !lab || holds(network, network.uplink_buffer),
                "network.uplink_buffer",
                "at least two packets, at most 1,000,000,000 bytes",
            ),
        ])
    }

    fn check_load(&self) -> Result<(), PlanError> {
        let (load, names) = (&self.load, &self.transports);
        let seconds = |value: f64, least: f64| (least..=86_400.0).contains(&value);
        let twice = names.iter().enumerate().any(|(at, name)| names[..at].contains(name));
        first([
            (!names.is_empty(), "transports", "at least one"),
            (!twice, "transports", "different ones"),
            (load.load > 0.0 && load.load <= 2.0, "load.load", "above 0 and at most 2"),
            (
                (1..=1 << 30).contains(&load.message_max),
                "load.message_max",
                "between 1 byte and 1 GiB",
            ),
            (
                match load.reply {
                    Reply::Echo => true,
                    Reply::Bytes(bytes) => (1..=load.message_max).contains(&bytes.into()),
                },
                "load.reply",
                "`echo`, or 1 byte to load.message_max",
            ),
            (
                load.fail_host.is_none_or(|host| host < self.hosts()),
                "load.fail_host",
                "one of the hosts, which count from 0",
            ),
            (load.client_max > 0, "load.client_max", "at least 1"),
            (seconds(load.warm_up, 0.0), "load.warm_up", "0 to 86,400 seconds"),
            (seconds(load.secs, 0.1), "load.secs", "0.1 to 86,400 seconds"),
            (seconds(load.drain, 0.0), "load.drain", "0 to 86,400 seconds"),
            ((1..=1_000).contains(&load.rounds), "load.rounds", "1 to 1,000"),
        ])
    }

    /// No host may begin more RPCs than an agent records.
    fn check_amount(&self, sizes: &Workload) -> Result<(), PlanError> {
        let (load, network) = (&self.load, &self.network);
        let rate = rpc_per_s(load, sizes, network.rate, network.mtu, self.hosts());
        let rpcs = rate * (load.warm_up + load.secs);
        match rpcs <= RPCS_MAX {
            true => Ok(()),
            false => Err(value(
                "load.secs",
                format!("shorter: {rpcs:.0} RPCs of a host, at most {RPCS_MAX:.0} are recorded"),
            )),
        }
    }

    /// Settings are checked with those that a usual network leads to; what is derived on the real
    /// one differs by factors that no limit depends on.
    fn check_homa(&self, sizes: &Workload) -> Result<(), PlanError> {
        let link = LinkFacts::usual(self.network.rate, self.network.mtu);
        let derived = settings::derive(&link, sizes, self.message_bytes_max());
        match settings::with(&derived, &self.homa, sizes) {
            Ok(_) => Ok(()),
            Err(error) => Err(value(&format!("homa.{}", error.name), error.must_be)),
        }
    }

    /// Longest message, in bytes.
    pub fn message_bytes_max(&self) -> u32 {
        u32::try_from(self.load.message_max).unwrap_or(u32::MAX)
    }

    /// Number of hosts.
    pub fn hosts(&self) -> u32 {
        match self.network.kind {
            NetworkKind::Ssh => u32::try_from(self.network.ssh.len()).unwrap_or(u32::MAX),
            NetworkKind::Lab | NetworkKind::Loopback => self.network.hosts,
        }
    }
}

fn holds(network: &NetworkPlan, bytes: u64) -> bool {
    (2 * u64::from(network.mtu + 14)..=1_000_000_000).contains(&bytes)
}

fn value(key: &str, must_be: String) -> PlanError {
    PlanError::value(key, must_be)
}

fn first<const N: usize>(checks: [(bool, &str, &str); N]) -> Result<(), PlanError> {
    match checks.into_iter().find(|check| !check.0) {
        None => Ok(()),
        Some((_, key, must_be)) => Err(value(key, must_be.to_owned())),
    }
}
