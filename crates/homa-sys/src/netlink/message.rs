//! Messages of rtnetlink as bytes: written and read without casting, so that it is safe code.

use super::{Interface, Neighbour, Route};
use crate::address::array;
use std::net::IpAddr;

/// Bytes of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// Bytes of `struct rtmsg`, `struct ndmsg`, `struct ifinfomsg` and `struct ifaddrmsg`.
const ROUTE_BYTES: usize = 12;
const NEIGHBOUR_BYTES: usize = 12;
const LINK_BYTES: usize = 16;
const ADDRESS_BYTES: usize = 8;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;

const RTN_UNICAST: u8 = 1;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_REACHABLE: u16 = 0x02;
const NUD_STALE: u16 = 0x04;
const NUD_DELAY: u16 = 0x08;
const NUD_PROBE: u16 = 0x10;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// A request under construction.
#[derive(Debug)]
pub(super) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        // Number and sender are filled in by the socket, or not needed.
        bytes.extend([0; 8]);
        bytes.extend(body);
        Self { bytes }
    }

    fn attribute(&mut self, kind: u16, data: &[u8]) {
        self.bytes.extend((data.len() as u16 + 4).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn ip(&mut self, kind: u16, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.attribute(kind, &ip.octets()),
            IpAddr::V6(ip) => self.attribute(kind, &ip.octets()),
        }
    }

    /// Asks for the route to `to`, of packets from `from` and through `interface` if these are
    /// given.
    pub(super) fn route(to: IpAddr, from: Option<IpAddr>, interface: u32) -> Self {
        let bits = if to.is_ipv4() { 32 } else { 128 };
        let from_bits = if from.is_some() { bits } else { 0 };
        let mut body = [0; ROUTE_BYTES];
        body[..3].copy_from_slice(&[family(to), bits, from_bits]);
        let mut request = Self::new(libc::RTM_GETROUTE, 0, &body);
        request.ip(RTA_DST, to);
        if let Some(from) = from {
            request.ip(RTA_SRC, from);
        }
        if interface != 0 {
            request.attribute(RTA_OIF, &interface.to_ne_bytes());
        }
        request
    }

    /// Asks for the neighbour `ip` on the link of `interface`.
    pub(super) fn neighbour(ip: IpAddr, interface: u32) -> Self {
        let mut body = [0; NEIGHBOUR_BYTES];
        body[0] = family(ip);
        body[4..8].copy_from_slice(&interface.to_ne_bytes());
        let mut request = Self::new(libc::RTM_GETNEIGH, 0, &body);
        request.ip(NDA_DST, ip);
        request
    }

    /// Asks for interface `index`, or for all.
    pub(super) fn interface(index: Option<u32>) -> Self {
        let mut body = [0; LINK_BYTES];
        body[4..8].copy_from_slice(&index.unwrap_or(0).to_ne_bytes());
        let flags = if index.is_some() { 0 } else { NLM_F_DUMP };
        Self::new(libc::RTM_GETLINK, flags, &body)
    }

    /// Asks for all addresses.
    pub(super) fn addresses() -> Self {
        Self::new(libc::RTM_GETADDR, NLM_F_DUMP, &[0; ADDRESS_BYTES])
    }

    /// Whether many messages answer, the last of which says that it is.
    pub(super) fn is_dump(&self) -> bool {
        array(&self.bytes, 6).map(u16::from_ne_bytes).is_some_and(|it| it & NLM_F_DUMP != 0)
    }

    /// The request with the `number` that its answers carry.
    pub(super) fn finish(mut self, number: u32) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&number.to_ne_bytes());
        self.bytes
    }
}

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

/// A message of the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) number: u32,
    body: &'a [u8],
}

/// The messages in what was received, until one makes no sense.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(array(bytes, 0)?) as usize;
        let body = bytes.get(HEADER_BYTES..length)?;
        let message = Message {
            kind: u16::from_ne_bytes(array(bytes, 4)?),
            number: u32::from_ne_bytes(array(bytes, 8)?),
            body,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    })
}

impl<'a> Message<'a> {
    /// The error number that an error message has; 0 for none.
    pub(super) fn errno(&self) -> i32 {
        array(self.body, 0).map_or(libc::EPROTO, |bytes| i32::from_ne_bytes(bytes).saturating_neg())
    }

    /// Attributes behind a body of `body_bytes`.
    fn attributes(&self, body_bytes: usize) -> impl Iterator<Item = (u16, &'a [u8])> {
        attributes(self.body.get(body_bytes..).unwrap_or(&[]))
    }

    pub(super) fn route(&self) -> Option<Route> {
        let mut route = Route {
            is_unicast: *self.body.get(7)? == RTN_UNICAST,
            interface: 0,
            source: None,
            gateway: None,
            mtu: None,
        };
        for (kind, data) in self.attributes(ROUTE_BYTES) {
            match kind {
                RTA_OIF => route.interface = number(data)?,
                RTA_PREFSRC => route.source = ip(data),
                RTA_GATEWAY => route.gateway = ip(data),
                // The family goes before the address.
                RTA_VIA => route.gateway = ip(data.get(2..)?),
                RTA_METRICS => {
                    let mut metrics = attributes(data);
                    let mtu = metrics.find(|(kind, _)| *kind == RTAX_MTU);
                    route.mtu = mtu.and_then(|(_, data)| number(data)).filter(|&mtu| mtu > 0);
                }
                _ => {}
            }
        }
        Some(route)
    }

    /// `None` as well for one whose address is not known.
    pub(super) fn neighbour(&self) -> Option<Neighbour> {
        const CONFIRMED: u16 = NUD_REACHABLE | NUD_NOARP | NUD_PERMANENT;
        const KNOWN: u16 = CONFIRMED | NUD_STALE | NUD_DELAY | NUD_PROBE;
        let state = u16::from_ne_bytes(array(self.body, 8)?);
        let mut attributes = self.attributes(NEIGHBOUR_BYTES);
        let (_, mac) = attributes.find(|(kind, _)| *kind == NDA_LLADDR)?;
        (state & KNOWN != 0).then_some(Neighbour {
            mac: mac.try_into().ok()?,
            is_confirmed: state & CONFIRMED != 0,
        })
    }

    pub(super) fn interface(&self) -> Option<Interface> {
        let hardware = u16::from_ne_bytes(array(self.body, 2)?);
        let flags = u32::from_ne_bytes(array(self.body, 8)?);
        let mut interface = Interface {
            index: u32::from_ne_bytes(array(self.body, 4)?),
            name: String::new(),
            mac: None,
            mtu: 0,
            rx_queues: 1,
            kind: None,
            has_xdp: false,
            is_up: flags & libc::IFF_UP as u32 != 0,
            is_loopback: hardware == ARPHRD_LOOPBACK,
        };
        for (kind, data) in self.attributes(LINK_BYTES) {
            match kind {
                IFLA_ADDRESS if hardware == ARPHRD_ETHER => interface.mac = data.try_into().ok(),
                IFLA_IFNAME => interface.name = text(data),
                IFLA_LINKINFO => {
                    let kind = attributes(data).find(|(kind, _)| *kind == IFLA_INFO_KIND);
                    interface.kind = kind.map(|(_, data)| text(data));
                }
                IFLA_XDP => {
                    let mut how = attributes(data);
                    interface.has_xdp =
                        how.any(|(kind, data)| kind == IFLA_XDP_ATTACHED && data != [0]);
                }
                IFLA_MTU => interface.mtu = number(data)?,
                IFLA_NUM_RX_QUEUES => interface.rx_queues = number(data)?.max(1),
                _ => {}
            }
        }
        Some(interface)
    }

    /// An address of this host and the index of its interface.
    pub(super) fn address(&self) -> Option<(u32, IpAddr)> {
        let interface = u32::from_ne_bytes(array(self.body, 4)?);
        let (mut local, mut any) = (None, None);
        for (kind, data) in self.attributes(ADDRESS_BYTES) {
            match kind {
                IFA_LOCAL => local = ip(data),
                IFA_ADDRESS => any = ip(data),
                _ => {}
            }
        }
        // On a link of two ends the latter is the other end's.
        Some((interface, local.or(any)?))
    }
}

/// Attributes one after the other, until one makes no sense.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(array(bytes, 0)?));
        // The upper two bits say how the data is to be read.
        let kind = u16::from_ne_bytes(array(bytes, 2)?) & 0x3fff;
        let data = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, data))
    })
}

fn number(data: &[u8]) -> Option<u32> {
    array(data, 0).map(u32::from_ne_bytes)
}

/// Text up to its end.
fn text(data: &[u8]) -> String {
    let bytes = data.split(|byte| *byte == 0).next().unwrap_or(&[]);
    String::from_utf8_lossy(bytes).into_owned()
}

fn ip(data: &[u8]) -> Option<IpAddr> {
    match data.len() {
        4 => Some(IpAddr::from(array::<4>(data, 0)?)),
        16 => Some(IpAddr::from(array::<16>(data, 0)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_ends_a_list_and_does_not_panic() {
        for length in [0_u32, 1, 15, 16, 17, 24, 1_000, u32::MAX] {
            let mut bytes = vec![0xff; 24];
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            for message in messages(&bytes) {
                let _ = (message.route(), message.neighbour(), message.interface());
                let _ = (message.address(), message.errno());
            }
            for length in [0_u16, 3, 4, 5, 30] {
                bytes[..2].copy_from_slice(&length.to_ne_bytes());
                assert!(attributes(&bytes).count() <= 6);
            }
        }
        assert_eq!(messages(&[]).count(), 0);
    }

    #[test]
    fn a_request_has_its_length_and_padded_attributes() {
        let mut request = Request::interface(Some(7));
        request.attribute(3, b"abcde");
        assert!(!request.is_dump());
        let bytes = request.finish(9);
        assert_eq!(bytes.len(), HEADER_BYTES + LINK_BYTES + 12);
        let message = messages(&bytes).next().unwrap();
        assert_eq!((message.kind, message.number), (libc::RTM_GETLINK, 9));
        assert_eq!(message.attributes(LINK_BYTES).next(), Some((3, &b"abcde"[..])));
    }
}
