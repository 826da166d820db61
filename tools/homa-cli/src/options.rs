//! Options that several commands have.

use clap::{Args, ValueEnum};
use homa_transport::{DriverChoice, DriverInUse, Endpoint, XdpConfig};
use serde::{Deserialize, Serialize};

use crate::{
    body::REPLY_BYTES_MAX,
    error::CliError,
    transport::{Carriage, Protocol},
    units::parse_size,
};

/// The longest payload the command makes, in bytes.
pub(crate) const PAYLOAD_BYTES_MAX: u64 = 1 << 30;

/// What clients accept as a reply unless more was ordered, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: u32 = 64 << 20;

/// The option of commands that send Homa packets.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct CarriageArg {
    /// What carries Homa packets
    #[arg(long, value_enum, default_value_t = Carriage::Udp, value_name = "CARRIAGE")]
    pub carriage: Carriage,
}

/// What moves Homa packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Driver {
    /// AF_XDP if the driver of the network interface has it, else sockets; says which
    Auto,
    /// The kernel's sockets
    #[default]
    Sockets,
    /// AF_XDP, beside the kernel's network stack; one endpoint per interface; needs CAP_NET_RAW,
    /// CAP_NET_ADMIN and CAP_BPF
    Xdp,
}

/// The options of commands that can pass the kernel's network stack by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Args)]
pub(crate) struct DriverArgs {
    /// What moves Homa packets
    #[arg(long, value_enum, default_value_t = Driver::Sockets, value_name = "DRIVER")]
    pub driver: Driver,
    /// The network interface for AF_XDP; needed if the address does not tell
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
}

impl DriverArgs {
    /// The same for the library.
    pub(crate) fn choice(&self) -> (DriverChoice, XdpConfig) {
        let choice = match self.driver {
            Driver::Auto => DriverChoice::Auto,
            Driver::Sockets => DriverChoice::Sockets,
            Driver::Xdp => DriverChoice::Xdp,
        };
        let config = XdpConfig::default();
        match &self.interface {
            Some(name) => (choice, config.interface(name)),
            None => (choice, config),
        }
    }

    /// Says once what an endpoint got, unless it is what it always gets.
    pub(crate) fn say(&self, endpoint: &Endpoint) {
        match endpoint.driver() {
            DriverInUse::Xdp(place) => eprintln!(
                "homa: AF_XDP on {}, {} queues ({:?}, {:?})",
                place.interface, place.queues, place.attached, place.bound
            ),
            DriverInUse::Sockets { why: Some(why), .. } => eprintln!("homa: sockets: {why}"),
            _ => {}
        }
    }
}

/// The options of commands that call servers.
#[derive(Debug, Clone, Args)]
pub(crate) struct TransportArgs {
    /// Transport to use; over tcp there is one server and one connection
    #[arg(long, value_enum, default_value_t = Protocol::HomaUdp)]
    transport: Protocol,
    #[command(flatten)]
    carriage: CarriageArg,
    #[command(flatten)]
    pub driver: DriverArgs,
}

impl TransportArgs {
    /// The transport with its packets carried as chosen.
    pub(crate) fn protocol(&self) -> Protocol {
        self.transport.over(self.carriage.carriage)
    }
}

/// Which transports a command uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Served {
    /// Homa
    Homa,
    /// Length-prefixed RPCs over TCP
    Tcp,
    /// Homa and TCP
    Both,
}

impl Served {
    /// The protocols meant, the competitor first.
    pub(crate) fn protocols(self, carriage: Carriage) -> Vec<Protocol> {
        let homa = Protocol::HomaUdp.over(carriage);
        match self {
            Served::Homa => vec![homa],
            Served::Tcp => vec![Protocol::Tcp],
            Served::Both => vec![Protocol::Tcp, homa],
        }
    }
}

/// Parses the length of a message.
pub(crate) fn payload_size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        0 => Err("a message has at least 1 byte".to_owned()),
        bytes if bytes > PAYLOAD_BYTES_MAX => Err("a message has at most 1 GiB".to_owned()),
        bytes => Ok(bytes),
    }
}

/// Parses the length of a reply that a request orders.
pub(crate) fn ordered_size(text: &str) -> Result<u64, String> {
    match payload_size(text)? {
        bytes if bytes > u64::from(REPLY_BYTES_MAX) => {
            Err("at most 64 MiB can be ordered".to_owned())
        }
        bytes => Ok(bytes),
    }
}

/// A setting of Homa, given as NAME=VALUE, as TOML; words, such as `5ms`, need no quotes.
pub(crate) fn given(setting: &str) -> Result<toml::Table, CliError> {
    let needed = || {
        let text =
            format!("--set {setting}: NAME=VALUE is needed, such as grants.max_overcommit=4");
        CliError::Usage(text)
    };
    let (name, value) = setting.split_once('=').ok_or_else(needed)?;
    let word = || toml::from_str(&format!("{name} = {}", toml::Value::String(value.to_owned())));
    toml::from_str(setting).or_else(|_| word()).map_err(|_| needed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_outside_the_limits_are_refused() {
        assert!(payload_size("0").is_err());
        assert!(payload_size("2GiB").is_err());
        assert!(ordered_size("65MiB").is_err());
        assert_eq!(payload_size("1M"), Ok(1_000_000));
    }
}
