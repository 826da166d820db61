//! Plans: a comparison as a TOML file that anybody can repeat.
//!
//! A plan has one base and any number of variants, each of which changes some keys of the base. See
//! `docs/bench-files.md`.

mod check;
mod file;
mod source;

use serde::{Deserialize, Serialize};

pub use self::{
    file::{PlanError, PlanFile, text_of},
    source::{Source, Variant},
};
use crate::{
    spec::Reply,
    transport::Transport,
    units::{parse_rate_mbps, parse_size},
};

/// A comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// What is compared, in a line.
    pub title: String,
    /// What is expected to come out, and why.
    pub expect: String,
    /// Published figures to compare with, in words and numbers.
    pub published: Vec<String>,
    /// What is compared.
    pub transports: Vec<Transport>,
    /// Where.
    pub network: NetworkPlan,
    /// What is sent.
    pub load: LoadPlan,
    /// Settings of Homa that are not to be derived from the network, by their
    /// [names](crate::settings::named).
    pub homa: toml::Table,
}

impl Default for Plan {
    fn default() -> Self {
        let names = ["homa-udp", "tcp-cubic", "tcp-cubic-x8", "tcp-bbr", "tcp-bbr-x8"];
        Plan {
            title: "Homa and TCP".to_owned(),
            expect: String::new(),
            published: Vec::new(),
            transports: names.iter().filter_map(|name| name.parse().ok()).collect(),
            network: NetworkPlan::default(),
            load: LoadPlan::default(),
            homa: toml::Table::new(),
        }
    }
}

/// The network of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkPlan {
    /// Where the hosts are.
    pub kind: NetworkKind,
    /// Number of hosts.
    pub hosts: u32,
    /// Rate of each host's link, in 10^6 bit/s; given as `"100M"`.
    #[serde(with = "rate")]
    pub rate: u32,
    /// What emulates the switch: `auto`, `kernel` or `switch`.
    pub backend: String,
    /// Longest IP packet in bytes.
    pub mtu: u32,
    /// What a port of the switch may hold, in bytes; given as `"500k"`.
    #[serde(with = "size")]
    pub buffer: u64,
    /// What a host's own interface may hold, in bytes.
    #[serde(with = "size")]
    pub uplink_buffer: u64,
    /// Names for `ssh`, if the hosts are real machines.
    pub ssh: Vec<String>,
    /// Addresses of these machines, if not what the names stand for.
    pub addresses: Vec<String>,
    /// First port of the agents on real machines and loopback; 0: the system's choice.
    pub port: u16,
}

impl Default for NetworkPlan {
    fn default() -> Self {
        NetworkPlan {
            kind: NetworkKind::Lab,
            hosts: 6,
            rate: 100,
            backend: "auto".to_owned(),
            mtu: 1500,
            buffer: 500_000,
            uplink_buffer: 1_500_000,
            ssh: Vec::new(),
            addresses: Vec::new(),
            port: 0,
        }
    }
}

impl NetworkPlan {
    /// Whether an idle network is the same: what its buffers hold does not show then.
    pub fn has_links_of(&self, other: &NetworkPlan) -> bool {
        let (buffer, uplink_buffer) = (other.buffer, other.uplink_buffer);
        NetworkPlan { buffer, uplink_buffer, ..self.clone() } == *other
    }
}

/// Where the hosts of a plan are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkKind {
    /// Network namespaces of this machine, joined by an emulated switch.
    Lab,
    /// Addresses 127.0.0.x of this machine: no link has a rate, to try a plan out.
    Loopback,
    /// Machines reached by `ssh`.
    Ssh,
}

/// The load of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoadPlan {
    /// Message sizes: `w1` to `w5`, `fixed:N`, or a CSV file.
    pub workload: String,
    /// Longest message, in bytes. The published workloads are cut to it; a file with longer ones is
    /// refused.
    #[serde(with = "size")]
    pub message_max: u64,
    /// Share of each link's rate that data packets take, requests and responses together, headers
    /// included.
    pub load: f64,
    /// Who calls whom.
    pub pattern: Pattern,
    /// `echo`, or the bytes of a short answer to one-way messages.
    pub reply: Reply,
    /// Calls of one host under way at most; later ones wait at the client, which counts.
    pub client_max: u32,
    /// Seconds of load before those that count.
    pub warm_up: f64,
    /// Seconds of load that count, per round.
    pub secs: f64,
    /// Seconds to wait at the end for calls under way.
    pub drain: f64,
    /// How often each transport is measured, taking turns.
    pub rounds: u32,
    /// Seed of arrivals, sizes and destinations.
    pub seed: u64,
    /// All transports at the same time on the same links, each with an equal part of the load.
    pub together: bool,
    /// A host whose agents are ended in the middle of the measured time. RPCs to and from it are
    /// counted apart.
    pub fail_host: Option<u32>,
    /// Time a server takes per request, one after the other, in microseconds.
    pub service_us: u64,
}

impl Default for LoadPlan {
    fn default() -> Self {
        LoadPlan {
            workload: "w4".to_owned(),
            message_max: 1_000_000,
            load: 0.8,
            pattern: Pattern::AllToAll,
            reply: Reply::Echo,
            client_max: 1_000,
            warm_up: 2.0,
            secs: 5.0,
            drain: 2.0,
            rounds: 2,
            seed: 1,
            together: false,
            fail_host: None,
            service_us: 0,
        }
    }
}

/// Who calls whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// Every host calls every other, chosen uniformly at random.
    AllToAll,
    /// All hosts call the first, whose link carries the load; requests go up, answers come down.
    Incast,
    /// Every host calls the next.
    Ring,
}

/// Sizes as numbers or as people write them.
mod size {
    use super::*;

    pub(super) fn serialize<S: serde::Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(*value)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        match NumberOrText::deserialize(from)? {
            NumberOrText::Number(number) => Ok(number),
            NumberOrText::Text(text) => parse_size(&text).map_err(serde::de::Error::custom),
        }
    }
}

/// Rates as numbers (10^6 bit/s) or as people write them.
mod rate {
    use super::*;

    pub(super) fn serialize<S: serde::Serializer>(value: &u32, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{value}M"))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        let text = match NumberOrText::deserialize(from)? {
            NumberOrText::Number(number) => number.to_string(),
            NumberOrText::Text(text) => text,
        };
        parse_rate_mbps(&text).map_err(serde::de::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}
