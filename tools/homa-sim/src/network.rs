//! Networks as TOML: what [`Topology`] says, in a file of its own or in a table of a plan.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use crate::{
    fabric::{Buffer, Failure, Graph, Link, Loss, Routing, Shape, Switch, Topology, TopologyError},
    time::{Rate, Span},
};

/// A network, as it is written. What is left out is as in the SIGCOMM 2018 evaluation, with one
/// rack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// How the switches are arranged.
    pub shape: NetworkShape,
    /// Hosts of a single switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<u32>,
    /// Racks of a leaf-spine; 1, which is a single switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub racks: Option<u32>,
    /// Hosts of a rack; 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts_per_rack: Option<u32>,
    /// Switches between the racks; 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spines: Option<u32>,
    /// Ports of a switch of a fat tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<u32>,
    /// Hosts of an edge switch of a fat tree; half of `k`, more oversubscribe it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts_per_edge: Option<u32>,
    /// Switches of a network of links.
    #[serde(rename = "switch", skip_serializing_if = "Vec::is_empty")]
    pub switches: Vec<Switch>,
    /// Links between them.
    #[serde(rename = "link", skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<NetworkLink>,
    /// Rate of hosts' links, in 10^9 bit/s.
    pub host_gbps: f64,
    /// Rate of links from switches with hosts to the next ones.
    pub spine_gbps: f64,
    /// Rate of links from there to the cores of a fat tree.
    pub core_gbps: f64,
    /// Propagation delay of every link.
    pub propagation_ns: u64,
    /// Fixed delay of every switch.
    pub switch_delay_ns: u64,
    /// From the transport to the first bit of the NIC.
    pub send_delay_ns: u64,
    /// From the last bit at a host to the transport.
    pub receive_delay_ns: u64,
    /// Standard deviation of the logarithm of the two; 0: they are fixed.
    pub delay_sigma: f64,
    /// A NIC that packets wait in sends by strict priorities.
    pub nic_priorities: bool,
    /// Switches cut through.
    pub cut_through: bool,
    /// Which of several ways packets take.
    pub routing: Routing,
    /// Bytes that may wait in a switch; any number if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer_bytes: Option<u64>,
    /// Factor of the free bytes up to which a queue may grow; 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer_alpha: Option<f64>,
    /// Bytes that may wait at a port of a switch, instead of shared ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_buffer_bytes: Option<u64>,
    /// Bytes that wait at a port when packets are marked (ECN).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecn_bytes: Option<u32>,
    /// Packets that links lose.
    pub loss: Loss,
    /// Links that fail for a while.
    #[serde(rename = "failure", skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<NetworkFailure>,
    /// From a failure, or its end, until switches route accordingly.
    pub detection_us: u64,
}

/// How the switches of a network are arranged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkShape {
    /// All hosts at one switch.
    SingleSwitch,
    /// Racks, and switches between them.
    #[default]
    LeafSpine,
    /// Three tiers of switches.
    FatTree,
    /// As the links say.
    Links,
}

/// A link between two switches, or several alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkLink {
    /// Names of its switches.
    pub between: [String; 2],
    /// Its rate in each direction, in 10^9 bit/s.
    pub gbps: f64,
    /// Its propagation delay, if it is not that of the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_ns: Option<u64>,
    /// How many there are.
    #[serde(default = "one")]
    pub count: u32,
}

/// The links between two switches fail for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkFailure {
    /// Names of the switches: see [`Failure::ends`].
    pub between: [String; 2],
    /// When, from the begin of the load.
    pub at_us: u64,
    /// How long.
    pub for_us: u64,
}

fn one() -> u32 {
    1
}

impl Default for Network {
    fn default() -> Self {
        let like = Topology::sigcomm18(1);
        let gbps = |rate: Rate| f64::from(rate.mbps()) / 1e3;
        let ns = |span: Span| span.as_ps() / 1_000;
        Self {
            shape: NetworkShape::LeafSpine,
            hosts: None,
            racks: None,
            hosts_per_rack: None,
            spines: None,
            k: None,
            hosts_per_edge: None,
            switches: Vec::new(),
            links: Vec::new(),
            host_gbps: gbps(like.host_rate),
            spine_gbps: gbps(like.spine_rate),
            core_gbps: gbps(like.core_rate),
            propagation_ns: ns(like.propagation),
            switch_delay_ns: ns(like.switch_delay),
            send_delay_ns: ns(like.send_delay),
            receive_delay_ns: ns(like.receive_delay),
            delay_sigma: like.delay_sigma,
            nic_priorities: like.nic_priorities,
            cut_through: like.cuts_through,
            routing: like.routing,
            buffer_bytes: None,
            buffer_alpha: None,
            port_buffer_bytes: None,
            ecn_bytes: None,
            loss: like.loss,
            failures: Vec::new(),
            detection_us: ns(like.detection) / 1_000,
        }
    }
}

/// A value that cannot be: correct it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` must be {must_be}")]
#[non_exhaustive]
pub struct ValueError {
    /// The key, with its tables.
    pub key: String,
    /// What is allowed.
    pub must_be: String,
}

impl ValueError {
    fn new(key: impl Into<String>, must_be: impl Into<String>) -> Self {
        Self { key: key.into(), must_be: must_be.into() }
    }
}

/// Why a file gives no network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The file cannot be read: check its name and rights.
    #[error("cannot read network {}: {reason}", path.display())]
    #[non_exhaustive]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The text is no network: it names line and key.
    #[error("network {}: {reason}", path.display())]
    #[non_exhaustive]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A value cannot be: correct it.
    #[error("network {}, line {line}: {reason}", path.display())]
    #[non_exhaustive]
    Value {
        /// The file.
        path: PathBuf,
        /// The line of the key, or of the table that lacks it.
        line: usize,
        /// What is wrong.
        reason: ValueError,
    },
}

/// Longest delay: a second.
const DELAY_NS_MAX: u64 = 1_000_000_000;
/// Most links alike.
const COUNT_MAX: u32 = 1_024;

impl Network {
    /// Reads the file of a network, and checks it.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn read(path: &Path) -> Result<Self, NetworkError> {
        let text = fs::read_to_string(path)
            .map_err(|reason| NetworkError::Read { path: path.to_owned(), reason })?;
        Self::parse(&text, path)
    }

    /// The network that the text of the file `path` describes, checked.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, NetworkError> {
        let wrong = |error: toml::de::Error| {
            let reason = error.to_string().trim_end().to_owned();
            NetworkError::Parse { path: path.to_owned(), reason }
        };
        let network: Self = toml::from_str(text).map_err(wrong)?;
        let table = DeTable::parse(text).map_err(wrong)?;
        network.topology().map_err(|reason| {
            let begins = place(table.get_ref(), &reason.key).unwrap_or(0);
            let line = 1 + text.bytes().take(begins).filter(|byte| *byte == b'\n').count();
            NetworkError::Value { path: path.to_owned(), line, reason }
        })?;
        Ok(network)
    }

    /// The network to simulate.
    ///
    /// # Errors
    /// A value cannot be, or there cannot be such a network.
    pub fn topology(&self) -> Result<Topology, ValueError> {
        let delay = |key: &str, ns| match ns <= DELAY_NS_MAX {
            true => Ok(Span::from_ns(ns)),
            false => Err(ValueError::new(key, format!("at most {DELAY_NS_MAX}"))),
        };
        let us = |us: u64| Span::from_ns(us.saturating_mul(1_000));
        let failure = |failure: &NetworkFailure| Failure {
            ends: failure.between.clone(),
            at: us(failure.at_us),
            lasts: us(failure.for_us),
        };
        let topology = Topology {
            shape: self.shape(delay("propagation_ns", self.propagation_ns)?)?,
            host_rate: rate("host_gbps", self.host_gbps)?,
            spine_rate: rate("spine_gbps", self.spine_gbps)?,
            core_rate: rate("core_gbps", self.core_gbps)?,
            propagation: Span::from_ns(self.propagation_ns),
            switch_delay: delay("switch_delay_ns", self.switch_delay_ns)?,
            cuts_through: self.cut_through,
            routing: self.routing,
            send_delay: delay("send_delay_ns", self.send_delay_ns)?,
            receive_delay: delay("receive_delay_ns", self.receive_delay_ns)?,
            delay_sigma: self.delay_sigma,
            nic_priorities: self.nic_priorities,
            buffer: self.buffer()?,
            ecn_bytes: self.ecn_bytes,
            loss: self.loss,
            failures: self.failures.iter().map(failure).collect(),
            detection: us(self.detection_us),
            ..Topology::sigcomm18(1)
        };
        topology.validate().map_err(|error| self.explained(error))?;
        Ok(topology)
    }

    /// The arrangement of switches, where no key belongs to another one.
    fn shape(&self, propagation: Span) -> Result<Shape, ValueError> {
        use NetworkShape::{FatTree, LeafSpine, Links, SingleSwitch};
        let given = [
            ("hosts", SingleSwitch, self.hosts.is_some()),
            ("racks", LeafSpine, self.racks.is_some()),
            ("hosts_per_rack", LeafSpine, self.hosts_per_rack.is_some()),
            ("spines", LeafSpine, self.spines.is_some()),
            ("k", FatTree, self.k.is_some()),
            ("hosts_per_edge", FatTree, self.hosts_per_edge.is_some()),
            ("switch", Links, !self.switches.is_empty()),
            ("link", Links, !self.links.is_empty()),
        ];
        for (key, shape, is_given) in given {
            if is_given && shape != self.shape {
                let must_be = format!("left out: it belongs to the shape {}", shape.name());
                return Err(ValueError::new(key, must_be));
            }
        }
        Ok(match self.shape {
            SingleSwitch => {
                let needed = || ValueError::new("hosts", "the number of hosts");
                Shape::SingleSwitch { hosts: self.hosts.ok_or_else(needed)? }
            }
            LeafSpine => {
                let hosts_per_rack = self.hosts_per_rack.unwrap_or(16);
                match self.racks.unwrap_or(1) {
                    1 => Shape::SingleSwitch { hosts: hosts_per_rack },
                    racks => {
                        let spines = self.spines.unwrap_or(4);
                        Shape::LeafSpine { racks, hosts_per_rack, spines }
                    }
                }
            }
            FatTree => {
                let needed = || ValueError::new("k", "the number of ports of a switch");
                let k = self.k.ok_or_else(needed)?;
                Shape::FatTree { k, hosts_per_edge: self.hosts_per_edge.unwrap_or(k / 2) }
            }
            Links => Shape::Links(Arc::new(self.graph(propagation)?)),
        })
    }

    fn graph(&self, propagation: Span) -> Result<Graph, ValueError> {
        let mut places = HashMap::new();
        for (place, switch) in (0_u32..).zip(&self.switches) {
            if places.insert(switch.name.as_str(), place).is_some() {
                let must_be = format!("another name than that of a switch before, {}", switch.name);
                return Err(ValueError::new(format!("switch.{place}.name"), must_be));
            }
        }
        let mut links = Vec::new();
        for (index, link) in self.links.iter().enumerate() {
            let key = |key: &str| format!("link.{index}.{key}");
            let [a, b] = [0, 1].map(|end| places.get(link.between[end].as_str()).copied());
            let (Some(a), Some(b), true) = (a, b, a != b) else {
                let [a, b] = &link.between;
                let must_be = format!("the names of two switches, not \"{a}\" and \"{b}\"");
                return Err(ValueError::new(key("between"), must_be));
            };
            let rate = rate(&key("gbps"), link.gbps)?;
            if !(1..=COUNT_MAX).contains(&link.count) {
                return Err(ValueError::new(key("count"), format!("from 1 to {COUNT_MAX}")));
            }
            let propagation = match link.propagation_ns {
                Some(ns) if ns > DELAY_NS_MAX => {
                    let must_be = format!("at most {DELAY_NS_MAX}");
                    return Err(ValueError::new(key("propagation_ns"), must_be));
                }
                given => given.map_or(propagation, Span::from_ns),
            };
            let link_of = Link { ends: [a, b], rate, propagation };
            links.extend((0..link.count).map(|_| link_of));
        }
        Graph::new(self.switches.clone(), links).map_err(|error| self.explained(error))
    }

    fn buffer(&self) -> Result<Buffer, ValueError> {
        match (self.buffer_bytes, self.port_buffer_bytes) {
            (Some(_), Some(_)) => {
                Err(ValueError::new("port_buffer_bytes", "left out where `buffer_bytes` is given"))
            }
            (None, _) if self.buffer_alpha.is_some() => {
                Err(ValueError::new("buffer_alpha", "left out without `buffer_bytes`"))
            }
            (Some(bytes), None) => {
                Ok(Buffer::Shared { bytes, alpha: self.buffer_alpha.unwrap_or(1.0) })
            }
            (None, Some(bytes)) => Ok(Buffer::PerPort { bytes }),
            (None, None) => Ok(Buffer::Unlimited),
        }
    }

    /// The key that an error is about, and what it should be.
    fn explained(&self, error: TopologyError) -> ValueError {
        let number = match self.shape {
            NetworkShape::SingleSwitch => "hosts",
            NetworkShape::LeafSpine if self.racks.is_none() => "hosts_per_rack",
            NetworkShape::LeafSpine => "racks",
            NetworkShape::FatTree => "k",
            NetworkShape::Links => "switch",
        };
        match error {
            TopologyError::Hosts { hosts } => {
                let must_be = format!("such that there are 2 to 16777216 hosts, not {hosts}");
                ValueError::new(number, must_be)
            }
            TopologyError::Switches { switches } => {
                let must_be = format!("smaller: the routes of {switches} switches take gigabytes");
                ValueError::new(number, must_be)
            }
            TopologyError::Spine { racks } => {
                ValueError::new("spines", format!("at least 1 between {racks} racks"))
            }
            TopologyError::FatTree { .. } => {
                ValueError::new("k", "an even number of ports from 2 to 128")
            }
            TopologyError::Apart { switches: [a, b] } => {
                let key = if self.links.is_empty() { "switch" } else { "link" };
                ValueError::new(key, format!("such that links lead from {a} to {b}"))
            }
            TopologyError::Failure { switches: [a, b] } => {
                let must_be = format!("between switches with a link, not \"{a}\" and \"{b}\"");
                ValueError::new("failure", must_be)
            }
            TopologyError::Loss => ValueError::new(
                "loss",
                "from 0 to below 1, at most burst / (burst + 1), in bursts of 1 or more",
            ),
            TopologyError::Alpha => ValueError::new("buffer_alpha", "above 0"),
            TopologyError::Sigma => ValueError::new("delay_sigma", "from 0 to 3"),
            TopologyError::Link { .. } => ValueError::new("link", "between two switches"),
        }
    }
}

impl NetworkShape {
    /// Its name.
    fn name(self) -> &'static str {
        match self {
            Self::SingleSwitch => "single-switch",
            Self::LeafSpine => "leaf-spine",
            Self::FatTree => "fat-tree",
            Self::Links => "links",
        }
    }
}

fn rate(key: &str, gbps: f64) -> Result<Rate, ValueError> {
    let mbps = (gbps * 1e3).round();
    let fits = mbps >= 1.0 && mbps <= f64::from(u32::MAX);
    let rate = fits.then(|| Rate::from_mbps(mbps as u32)).flatten();
    rate.ok_or_else(|| ValueError::new(key, "from 0.001 to 4000000"))
}

/// Where the value of a dotted key begins; of the table or list, if the key itself is not there.
fn place(table: &DeTable<'_>, key: &str) -> Option<usize> {
    let (first, rest) = key.split_once('.').unwrap_or((key, ""));
    let found = table.get(first)?;
    let inner = match found.get_ref() {
        DeValue::Table(inner) => place(inner, rest),
        DeValue::Array(values) => {
            let (index, rest) = rest.split_once('.').unwrap_or((rest, ""));
            let value = index.parse().ok().and_then(|index: usize| values.get(index));
            value.and_then(|value| place(value.get_ref().as_table()?, rest))
        }
        _ => None,
    };
    Some(inner.unwrap_or(found.span().start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Topology, String> {
        let network = Network::parse(text, Path::new("net.toml"));
        network.map(|network| network.topology().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_text_is_a_rack_of_the_published_evaluation_and_nine_racks_are_all_of_it() {
        assert_eq!(parse("").unwrap(), Topology::sigcomm18(1));
        assert_eq!(parse("racks = 9").unwrap(), Topology::sigcomm18(9));
        let written = toml::to_string(&Network::default()).unwrap();
        assert_eq!(parse(&written).unwrap(), Topology::sigcomm18(1));
    }

    #[test]
    fn every_key_of_a_network_has_its_effect() {
        let network = parse(
            "shape = \"fat-tree\"\nk = 4\nhosts_per_edge = 3\nhost_gbps = 2.5\nspine_gbps = 25\n\
             core_gbps = 100\npropagation_ns = 7\nswitch_delay_ns = 1\nsend_delay_ns = 2\n\
             receive_delay_ns = 3\ndelay_sigma = 0.5\nnic_priorities = true\ncut_through = true\n\
             routing = \"ecmp\"\nbuffer_bytes = 1000000\nbuffer_alpha = 0.25\necn_bytes = 30000\n\
             detection_us = 5\nloss = { hosts = 0.01, switches = 0.02, burst = 2 }\n\
             [[failure]]\nbetween = [\"edge0\", \"aggregation1\"]\nat_us = 8\nfor_us = 9\n",
        );
        let rate = |mbps| Rate::from_mbps(mbps).unwrap();
        let expected = Topology {
            shape: Shape::FatTree { k: 4, hosts_per_edge: 3 },
            host_rate: rate(2_500),
            spine_rate: rate(25_000),
            core_rate: rate(100_000),
            propagation: Span::from_ns(7),
            switch_delay: Span::from_ns(1),
            cuts_through: true,
            routing: Routing::Ecmp,
            send_delay: Span::from_ns(2),
            receive_delay: Span::from_ns(3),
            delay_sigma: 0.5,
            nic_pulls: true,
            nic_priorities: true,
            buffer: Buffer::Shared { bytes: 1_000_000, alpha: 0.25 },
            ecn_bytes: Some(30_000),
            loss: Loss { hosts: 0.01, switches: 0.02, burst: Some(2.0) },
            failures: vec![Failure {
                ends: ["edge0", "aggregation1"].map(str::to_owned),
                at: Span::from_ns(8_000),
                lasts: Span::from_ns(9_000),
            }],
            detection: Span::from_ns(5_000),
        };
        assert_eq!(network.unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_is_named_with_its_file_line_and_remedy() {
        let link = "shape = \"links\"\n[[switch]]\nname = \"a\"\nhosts = 1\n\
                    [[switch]]\nname = \"b\"\nhosts = 1\n";
        let linked = |keys: &str| format!("{link}[[link]]\n{keys}\n");
        for (text, line, wrong) in [
            ("\nracks = 2\nspines = 0", 3, "`spines` must be at least 1 between 2 racks"),
            ("racks = 4096\nhosts_per_rack = 4097", 1, "2 to 16777216 hosts, not 16781312"),
            ("racks = 60000\n", 1, "`racks` must be smaller"),
            ("hosts_per_rack = 1", 1, "`hosts_per_rack` must be such that there are 2 to"),
            ("shape = \"fat-tree\"\nk = 5", 2, "`k` must be an even number of ports"),
            ("shape = \"fat-tree\"", 1, "`k` must be the number of ports"),
            ("k = 4", 1, "`k` must be left out: it belongs to the shape fat-tree"),
            ("\nhost_gbps = 0", 2, "`host_gbps` must be from 0.001"),
            ("core_gbps = nan", 1, "`core_gbps` must be from 0.001"),
            ("switch_delay_ns = 2000000000", 1, "`switch_delay_ns` must be at most 1000000000"),
            ("buffer_alpha = 1", 1, "`buffer_alpha` must be left out without"),
            ("buffer_bytes = 9\nbuffer_alpha = 0", 2, "`buffer_alpha` must be above 0"),
            ("delay_sigma = -1", 1, "`delay_sigma` must be from 0 to 3"),
            ("[loss]\nhosts = 1.0", 1, "`loss` must be from 0 to below 1"),
            (
                "racks = 2\n[[failure]]\nbetween = [\"leaf0\", \"leaf1\"]\nat_us = 1\nfor_us = 1",
                2,
                "not \"leaf0\" and \"leaf1\"",
            ),
            (link, 2, "`switch` must be such that links lead from a to b"),
            (&linked("between = [\"a\", \"c\"]\ngbps = 1"), 9, "not \"a\" and \"c\""),
            (&linked("between = [\"a\", \"b\"]\ngbps = 0"), 10, "`link.0.gbps` must be from"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(wrong), "{text}: {error}");
            assert!(error.starts_with(&format!("network net.toml, line {line}:")), "{error}");
        }
        for (text, line, wrong) in [
            ("\nrackz = 9", 2, "unknown field `rackz`"),
            ("racks = -1", 1, "invalid value"),
            ("routing = \"fast\"", 1, "unknown variant `fast`, expected `spray` or `ecmp`"),
            ("racks = ", 1, "TOML parse error"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(wrong), "{text}: {error}");
            assert!(error.contains(&format!("at line {line},")), "{error}");
        }
        let error = Network::read(Path::new("/nowhere/net.toml")).unwrap_err();
        assert!(error.to_string().starts_with("cannot read network /nowhere/net.toml:"), "{error}");
    }
}
