//! What would move the packets of an endpoint at all addresses.

use std::net::{Ipv6Addr, SocketAddr};

use homa_io::xdp::{XdpError, probe};

use super::finding::Finding;
use crate::{
    options::{Driver, DriverArgs},
    transport::Carriage,
};

/// What `--driver auto` would choose, and why.
pub(super) fn chosen(args: &DriverArgs, carriage: Carriage) -> Finding {
    let check = "driver (AF_XDP or sockets)";
    let (_, config) = args.choice();
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let found = match carriage {
        Carriage::IpTcp => Err(XdpError::TcpForm),
        _ => probe(any, &config),
    };
    match found {
        Ok(interface) => Finding::ok(
            check,
            format!("--driver auto chooses AF_XDP on {interface}"),
            "Packets pass the kernel's network stack by if the driver of the interface takes an XDP program, \
             which only trying tells; otherwise sockets. Without --driver it is sockets.",
        ),
        Err(why) => {
            let found = format!("--driver auto chooses sockets: {why}");
            let meaning = "Sockets work everywhere; --driver xdp would fail.";
            match args.driver {
                Driver::Xdp => Finding::lacking(true, check, found, meaning),
                _ => Finding::ok(check, found, meaning),
            }
        }
    }
}
