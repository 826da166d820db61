//! The command line of `homa capture`.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, value_parser};

use crate::units::parse_positive_duration;

/// `homa capture`
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("source").required(true), after_help = "\
Examples:
  homa capture --read testdata/captures/ip4-rpc-60000.pcap
  homa capture --read run.pcapng --rpc 0x5f --json
  homa capture --iface eth0 --write run.pcapng --secs 10

Shows a line per packet, then a summary per RPC and totals; everything that a correct peer would not send is \
marked VIOLATION, what is only worth knowing is marked note. Times are seconds since the first frame.
Homa is recognised as IP protocol 146, in TCP frames, and in UDP by this implementation's header.
--rpc takes either form of an id: the client's (even) or the server's (odd), in decimal or with 0x.
Capturing needs the capability CAP_NET_RAW. All output is described in docs/capture.md.")]
pub(crate) struct CaptureArgs {
    /// Explain this recording, a pcap or pcapng file
    #[arg(long, group = "source", value_name = "FILE")]
    pub read: Option<PathBuf>,
    /// Take all UDP datagrams from or to this port for Homa (may be repeated)
    #[arg(long, value_name = "P", value_parser = value_parser!(u16).range(1..))]
    pub udp_port: Vec<u16>,
    /// Show only packets of the RPCs with this id
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    pub rpc: Option<u64>,
    /// Stop after N Homa packets
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// RPCs followed at a time; the oldest is given up for a new one
    #[arg(long, value_name = "N", default_value_t = homa_capture::RPCS_MAX)]
    pub rpcs_max: usize,
    /// Record and explain what passes this network interface
    #[arg(long, group = "source", value_name = "IF")]
    pub iface: Option<String>,
    /// Write the recorded packets to this file, as pcapng
    #[arg(long, value_name = "F", requires = "iface")]
    pub write: Option<PathBuf>,
    /// Record for this time
    #[arg(long, value_name = "S", requires = "iface", value_parser = parse_positive_duration)]
    pub secs: Option<Duration>,
}

/// Parses an RPC id, decimal or with 0x.
fn parse_id(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("`{text}` is not an RPC id; examples: 94, 95, 0x5f"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_decimal_or_hexadecimal() {
        assert_eq!(parse_id("95"), Ok(95));
        assert_eq!(parse_id("0x5F"), Ok(95));
        assert_eq!(parse_id("18446744073709551615"), Ok(u64::MAX));
        assert!(parse_id("5f").is_err());
        assert!(parse_id("-1").is_err());
    }
}
