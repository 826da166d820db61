//! The transports a run compares, by name.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Connections per pair of hosts a name may ask for.
const CONNECTIONS_MAX: u32 = 256;

/// A transport under test. Written as `homa-udp`, `homa-ip`, `tcp-cubic` (one connection per pair of hosts) or
/// `tcp-bbr-x8` (eight per pair, of which an RPC takes an idle one).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Transport {
    /// Homa.
    Homa(Carriage),
    /// TCP.
    Tcp {
        /// Name of the congestion control, as the system knows it.
        congestion: String,
        /// Connections from each client host to each server host.
        connections: u32,
    },
}

/// What carries Homa packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carriage {
    /// UDP datagrams.
    Udp,
    /// IP protocol 146.
    Ip,
}

impl Transport {
    /// Whether it is Homa, over whatever carriage.
    pub fn is_homa(&self) -> bool {
        matches!(self, Transport::Homa(_))
    }

    /// Bytes of headers per packet from IP upwards, without options that are rare.
    pub fn header_bytes(&self) -> u64 {
        match self {
            // IPv4 and the 60 bytes of a DATA header; UDP 8 more.
            Transport::Homa(Carriage::Udp) => 20 + 8 + 60,
            Transport::Homa(Carriage::Ip) => 20 + 60,
            // IPv4, TCP and its timestamps.
            Transport::Tcp { .. } => 20 + 20 + 12,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transport::Homa(Carriage::Udp) => f.write_str("homa-udp"),
            Transport::Homa(Carriage::Ip) => f.write_str("homa-ip"),
            Transport::Tcp { congestion, connections: 1 } => write!(f, "tcp-{congestion}"),
            Transport::Tcp { congestion, connections } => {
                write!(f, "tcp-{congestion}-x{connections}")
            }
        }
    }
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is no transport; examples: homa-udp, homa-ip, tcp-cubic, tcp-bbr-x8")
        };
        match text {
            "homa-udp" | "homa" => return Ok(Transport::Homa(Carriage::Udp)),
            "homa-ip" => return Ok(Transport::Homa(Carriage::Ip)),
            _ => {}
        }
        let rest = match text.strip_prefix("tcp") {
            Some("") => "cubic",
            Some(rest) => rest.strip_prefix('-').ok_or_else(wrong)?,
            None => return Err(wrong()),
        };
        let (congestion, connections) = match rest.rsplit_once("-x") {
            Some((name, count)) => (name, count.parse().map_err(|_| wrong())?),
            None => (rest, 1),
        };
        let named = !congestion.is_empty()
            && congestion.len() < 16
            && congestion.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match named && (1..=CONNECTIONS_MAX).contains(&connections) {
            true => Ok(Transport::Tcp { congestion: congestion.to_owned(), connections }),
            false => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Transport {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Transport> for String {
    fn from(transport: Transport) -> String {
        transport.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for name in ["homa-udp", "homa-ip", "tcp-cubic", "tcp-bbr", "tcp-bbr-x8"] {
            let transport: Transport = name.parse().unwrap();
            assert_eq!(transport.to_string(), name);
        }
        assert_eq!("tcp".parse(), "tcp-cubic".parse::<Transport>());
        for name in ["", "udp", "tcp-", "tcp-cubic-x0", "tcp-cubic-x9999", "tcpcubic", "tcp-a b"] {
            assert!(name.parse::<Transport>().is_err(), "{name}");
        }
    }
}
