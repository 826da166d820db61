//! IP packets of protocol 146 written by hand, header and all: fragments and addresses that the
//! system would not send by itself.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use rustix::net::sockopt::set_socket_broadcast;
use rustix::net::{
    AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, sendto, socket_with,
};

/// The protocol number of Homa, and that of the IPv6 header in front of a fragment.
const HOMA: u8 = 146;
const FRAGMENT: u8 = 44;
/// The protocol number of sockets whose users write the IP header.
const RAW: u32 = 255;

/// Which part of a packet this is.
#[derive(Clone, Copy)]
pub(crate) struct Fragment {
    /// The same for all parts.
    pub(crate) id: u16,
    /// Where it belongs, in bytes; divisible by 8.
    pub(crate) offset: u16,
    /// More follow.
    pub(crate) more: bool,
}

/// Sends a packet that looks as if it came from `source`. What the system refuses to send is as
/// good.
pub(crate) fn send_crafted(
    source: IpAddr,
    destination: IpAddr,
    fragment: Option<Fragment>,
    payload: &[u8],
) {
    let (family, packet) = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = v4_header(source.octets(), destination.octets(), fragment);
            (AddressFamily::INET, [&header[..], payload].concat())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = v6_header(source, destination, fragment, payload.len());
            (AddressFamily::INET6, [&header[..], payload].concat())
        }
        _ => panic!("addresses of two IP versions"),
    };
    let protocol = Protocol::from_raw(RAW.try_into().unwrap());
    let socket =
        socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol)).unwrap();
    set_socket_broadcast(&socket, true).unwrap();
    let to = SocketAddr::new(destination, 0);
    let _ = sendto(&socket, &packet, SendFlags::empty(), &to);
}

/// Without length and checksum, which the system fills in.
fn v4_header(source: [u8; 4], destination: [u8; 4], fragment: Option<Fragment>) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, HOMA, 0, 0];
    if let Some(Fragment { id, offset, more }) = fragment {
        header[4..6].copy_from_slice(&id.to_be_bytes());
        let field = (offset / 8) | if more { 0x2000 } else { 0 };
        header[6..8].copy_from_slice(&field.to_be_bytes());
    }
    header.extend(source);
    header.extend(destination);
    header
}

fn v6_header(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    fragment: Option<Fragment>,
    payload_bytes: usize,
) -> Vec<u8> {
    let extension_bytes = if fragment.is_some() { 8 } else { 0 };
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(u16::try_from(payload_bytes + extension_bytes).unwrap().to_be_bytes());
    header.extend([if fragment.is_some() { FRAGMENT } else { HOMA }, 64]);
    header.extend(source.octets());
    header.extend(destination.octets());
    if let Some(Fragment { id, offset, more }) = fragment {
        header.extend([HOMA, 0]);
        header.extend((offset | u16::from(more)).to_be_bytes());
        header.extend(u32::from(id).to_be_bytes());
    }
    header
}
