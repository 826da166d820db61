//! The transports a run compares, by name.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Connections per pair of hosts a name may ask for.
const CONNECTIONS_MAX: u32 = 256;

/// A transport under test. Written as `homa-udp`, `homa-ip`, `tcp-cubic` (one connection per pair
/// of hosts), `tcp-bbr-x8` (eight per pair, of which an RPC takes an idle one), `quic` and `grpc`
/// (also with `-xN`).
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
    /// QUIC, a stream per RPC; spoken by the peer program.
    Quic {
        /// Connections from each client host to each server host.
        connections: u32,
    },
    /// gRPC over HTTP/2 over TCP with the system's congestion control, unary calls; spoken by the
    /// peer program.
    Grpc {
        /// Channels from each client host to each server host.
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

    /// Whether it is TCP by itself.
    pub fn is_tcp(&self) -> bool {
        matches!(self, Transport::Tcp { .. })
    }

    /// Whether its hosts run the peer program instead of this one.
    pub fn is_peer(&self) -> bool {
        matches!(self, Transport::Quic { .. } | Transport::Grpc { .. })
    }

    /// Bytes of headers per packet from IP upwards, without options that are rare.
    pub fn header_bytes(&self) -> u64 {
        match self {
            // IPv4 and the 60 bytes of a DATA header; UDP 8 more.
            Transport::Homa(Carriage::Udp) => 20 + 8 + 60,
            Transport::Homa(Carriage::Ip) => 20 + 60,
            // IPv4, TCP and its timestamps.
            Transport::Tcp { .. } | Transport::Grpc { .. } => 20 + 20 + 12,
            // IPv4, UDP, a short header with 8 bytes of connection and 2 of number, the tag, and a
            // STREAM frame.
            Transport::Quic { .. } => 20 + 8 + 11 + 16 + 8,
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
            Transport::Quic { connections: 1 } => f.write_str("quic"),
            Transport::Quic { connections } => write!(f, "quic-x{connections}"),
            Transport::Grpc { connections: 1 } => f.write_str("grpc"),
            Transport::Grpc { connections } => write!(f, "grpc-x{connections}"),
        }
    }
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no transport; examples: homa-udp, homa-ip, tcp-cubic, tcp-bbr-x8, quic, grpc-x4"
            )
        };
        match text {
            "homa-udp" | "homa" => return Ok(Transport::Homa(Carriage::Udp)),
            "homa-ip" => return Ok(Transport::Homa(Carriage::Ip)),
            _ => {}
        }
        let (name, connections) = match text.rsplit_once("-x") {
            Some((name, count)) => (name, count.parse().map_err(|_| wrong())?),
            None => (text, 1),
        };
        if !(1..=CONNECTIONS_MAX).contains(&connections) {
            return Err(wrong());
        }
        let congestion = match name {
            "quic" => return Ok(Transport::Quic { connections }),
            "grpc" => return Ok(Transport::Grpc { connections }),
            "tcp" => "cubic",
            _ => name.strip_prefix("tcp-").ok_or_else(wrong)?,
        };
        let named = !congestion.is_empty()
            && congestion.len() < 16
            && congestion.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match named {
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
        for name in [
            "homa-udp",
            "homa-ip",
            "tcp-cubic",
            "tcp-bbr",
            "tcp-bbr-x8",
            "quic",
            "quic-x4",
            "grpc",
            "grpc-x8",
        ] {
            let transport: Transport = name.parse().unwrap();
            assert_eq!(transport.to_string(), name);
        }
        assert_eq!("tcp".parse(), "tcp-cubic".parse::<Transport>());
        for name in [
            "",
            "udp",
            "tcp-",
            "tcp-cubic-x0",
            "tcp-cubic-x9999",
            "tcpcubic",
            "tcp-a b",
            "quic-x0",
            "quic-cubic",
            "grpc-x257",
            "grpc-",
        ] {
            assert!(name.parse::<Transport>().is_err(), "{name}");
        }
    }
}
