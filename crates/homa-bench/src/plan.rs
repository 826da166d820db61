//! Plans: a comparison as a TOML file that anybody can repeat.
//!
//! A plan has one base and any number of variants, each of which changes some keys of the base. See `docs/bench-files.md`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    transport::Transport,
    units::{parse_rate_mbps, parse_size},
};

/// Hosts a plan may ask for.
const HOSTS_MAX: u32 = 250;

/// Why a plan cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The file cannot be read: check its name and rights.
    #[error("cannot read plan {}: {reason}", path.display())]
    #[non_exhaustive]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The file is no plan: the text names line and key.
    #[error("plan {}: {reason}", path.display())]
    #[non_exhaustive]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A value makes no sense: correct it.
    #[error("plan: `{key}` must be {must_be}")]
    #[non_exhaustive]
    Value {
        /// The key, with its table.
        key: &'static str,
        /// What is allowed.
        must_be: &'static str,
    },
}

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
    /// Settings of Homa that are not to be derived from the network: keys of
    /// [`HomaSettings`](crate::settings::HomaSettings).
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
    /// Longer messages are taken as this long, in bytes.
    #[serde(with = "size")]
    pub message_max: u64,
    /// Share of each link's rate that data packets take, requests and responses together, headers included.
    pub load: f64,
    /// Who calls whom.
    pub pattern: Pattern,
    /// `echo`, or the bytes of a short answer to one-way messages.
    pub reply: ReplyPlan,
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
    /// A host whose agents are ended in the middle of the measured time. RPCs to and from it are counted apart.
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
            reply: ReplyPlan::Echo,
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

/// What servers answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyPlan {
    /// As many bytes as the request has.
    Echo,
    /// This many bytes.
    Bytes(u32),
}

/// A plan file: a base and variants of it.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanFile {
    /// Each variant's name and its whole plan; one without name if the file has no variants.
    pub variants: Vec<(String, Plan)>,
}

impl PlanFile {
    /// Reads a plan file.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn read(path: &Path) -> Result<Self, PlanError> {
        let text = std::fs::read_to_string(path)
            .map_err(|reason| PlanError::Read { path: path.to_owned(), reason })?;
        Self::parse(&text, path)
    }

    /// Reads a plan; `path` is for error messages.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, PlanError> {
        let failed = |reason: String| PlanError::Parse { path: path.to_owned(), reason };
        let mut base: toml::Table = read_as(text).map_err(failed)?;
        let variants = match base.remove("variant") {
            None => Vec::new(),
            Some(toml::Value::Array(variants)) => variants,
            Some(_) => return Err(failed("`variant` must be written as [[variant]]".to_owned())),
        };
        if variants.is_empty() {
            // Read from the text itself, so that errors name the line.
            return Ok(PlanFile {
                variants: vec![(String::new(), checked(read_as(text).map_err(failed)?)?)],
            });
        }
        let mut plans = Vec::new();
        for variant in variants {
            let toml::Value::Table(mut change) = variant else {
                return Err(failed("`variant` must be written as [[variant]]".to_owned()));
            };
            let Some(toml::Value::String(name)) = change.remove("name") else {
                return Err(failed("a [[variant]] needs a `name`".to_owned()));
            };
            let mut whole = base.clone();
            merge(&mut whole, change);
            let plan: Plan = whole
                .try_into()
                .map_err(|error: toml::de::Error| failed(format!("variant `{name}`: {error}")))?;
            plans.push((name, checked(plan)?));
        }
        Ok(PlanFile { variants: plans })
    }
}

fn read_as<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

/// Puts the values of `change` into `base`, table by table.
fn merge(base: &mut toml::Table, change: toml::Table) {
    for (key, value) in change {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(change)) => merge(inner, change),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

fn checked(plan: Plan) -> Result<Plan, PlanError> {
    plan.check()?;
    Ok(plan)
}

impl Plan {
    /// Checks every value.
    ///
    /// # Errors
    /// [`PlanError::Value`] names the first that makes no sense.
    pub fn check(&self) -> Result<(), PlanError> {
        let (network, load) = (&self.network, &self.load);
        let seconds = |value: f64, least: f64| (least..=86_400.0).contains(&value);
        let ssh = network.kind == NetworkKind::Ssh;
        let checks = [
            (!self.transports.is_empty(), "transports", "at least one"),
            (ssh || (2..=HOSTS_MAX).contains(&network.hosts), "network.hosts", "2 to 250"),
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
            ((1280..=9_000).contains(&network.mtu), "network.mtu", "1,280 to 9,000 bytes"),
            (load.load > 0.0 && load.load <= 2.0, "load.load", "above 0 and at most 2"),
            (
                (1..=1 << 30).contains(&load.message_max),
                "load.message_max",
                "between 1 byte and 1 GiB",
            ),
            (
                load.fail_host.is_none_or(|host| host < network.hosts),
                "load.fail_host",
                "one of the hosts, which count from 0",
            ),
            (load.client_max > 0, "load.client_max", "at least 1"),
            (seconds(load.warm_up, 0.0), "load.warm_up", "0 to 86,400 seconds"),
            (seconds(load.secs, 0.1), "load.secs", "0.1 to 86,400 seconds"),
            (seconds(load.drain, 0.0), "load.drain", "0 to 86,400 seconds"),
            ((1..=1_000).contains(&load.rounds), "load.rounds", "1 to 1,000"),
        ];
        match checks.into_iter().find(|check| !check.0) {
            None => Ok(()),
            Some((_, key, must_be)) => Err(PlanError::Value { key, must_be }),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PlanFile, PlanError> {
        PlanFile::parse(text, Path::new("test.toml"))
    }

    #[test]
    fn an_empty_plan_is_the_default_and_variants_change_single_keys() {
        assert_eq!(parse("").unwrap().variants, [(String::new(), Plan::default())]);
        let text = "[network]\nrate = \"1G\"\nbuffer = \"100k\"\n[homa]\nnum_priorities = 8\n\
            [[variant]]\nname = \"one\"\nhoma.num_priorities = 1\n[[variant]]\nname = \"half\"\nload.load = 0.5\n";
        let file = parse(text).unwrap();
        let [(one, first), (half, second)] = &file.variants[..] else { panic!("{file:?}") };
        assert_eq!((one.as_str(), half.as_str()), ("one", "half"));
        assert_eq!(first.homa["num_priorities"].as_integer(), Some(1));
        assert_eq!(second.homa["num_priorities"].as_integer(), Some(8));
        assert_eq!((second.load.load, second.network.rate), (0.5, 1_000));
        assert_eq!(second.network.buffer, 100_000);
    }

    #[test]
    fn mistakes_are_reported_with_line_or_key() {
        for (text, part) in [
            ("[load]\nsecs = 1\nlaod = 0.5\n", "line 3"),
            ("[network]\nrate = \"fast\"\n", "fast"),
            ("transports = [\"udp\"]\n", "udp"),
            ("[load]\nload = 0\n", "load.load"),
            ("[[variant]]\nload.load = 1\n", "name"),
            ("[[variant]]\nname = \"x\"\nload.laod = 1\n", "variant `x`"),
            ("variant = 3\n", "[[variant]]"),
            ("[network]\nhosts = 1\n", "network.hosts"),
            ("= 3", "line 1"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
}
